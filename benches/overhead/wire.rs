//! The few messages the bench's server and client exchange, made once and then only renumbered.
//!
//! It shares no code with the proxy that is measured, so an error of one cannot hide in the other. It knows OP_MSG
//! and zstd in OP_COMPRESSED; nothing else is sent here.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bson::{RawArrayBuf, RawDocumentBuf, rawdoc, spec::BinarySubtype};
use tokio::{io::AsyncWrite, net::TcpStream};

pub(crate) const HEADER_LEN: usize = 16;
pub(crate) const MESSAGE_LEN_MAX: usize = 48_000_000;
pub(crate) const OP_MSG: i32 = 2013;
pub(crate) const OP_COMPRESSED: i32 = 2012;
const COMPRESSOR_ZSTD: u8 = 3;
/// Header, flag bits, section kind, document length and element type: what stands before the command's name.
const NAME_AT: usize = HEADER_LEN + 4 + 1 + 4 + 1;
/// As much of a message as `Frames` keeps: enough for the names used here.
const HEAD_LEN: usize = 40;
/// The size of the documents that fill large messages.
const DOCUMENT_LEN: usize = 1024;

/// The beginning of one message.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    bytes: [u8; HEAD_LEN],
    have: usize,
}

impl Head {
    fn int(&self, at: usize) -> i32 {
        i32::from_le_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    pub(crate) fn message_length(&self) -> i32 {
        self.int(0)
    }

    pub(crate) fn request_id(&self) -> i32 {
        self.int(4)
    }

    pub(crate) fn response_to(&self) -> i32 {
        self.int(8)
    }

    pub(crate) fn op_code(&self) -> i32 {
        self.int(12)
    }

    /// Whether this is an OP_MSG whose command has that name.
    pub(crate) fn is_command(&self, name: &str) -> bool {
        let end = NAME_AT + name.len();
        self.op_code() == OP_MSG
            && self.have > end
            && &self.bytes[NAME_AT..end] == name.as_bytes()
            && self.bytes[end] == 0
    }
}

/// Finds the messages in a stream of bytes and keeps nothing of them but their heads.
pub(crate) struct Frames {
    head: Head,
    /// Bytes of the message under way that are still to come, once its length is known.
    left: Option<usize>,
}

impl Frames {
    pub(crate) const fn new() -> Self {
        Self { head: Head { bytes: [0; HEAD_LEN], have: 0 }, left: None }
    }

    /// Takes the next bytes of the stream and calls `ended` for each message that they complete.
    pub(crate) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut ended: impl FnMut(&Head) -> Result<(), String>,
    ) -> Result<(), String> {
        while !bytes.is_empty() {
            let wanted = match self.left {
                None => HEADER_LEN - self.head.have,
                Some(left) => left,
            };
            let (now, later) = bytes.split_at(wanted.min(bytes.len()));
            self.keep(now);
            bytes = later;
            self.left = match self.left {
                None if self.head.have < HEADER_LEN => None,
                None => Some(self.length()? - HEADER_LEN),
                Some(left) => Some(left - now.len()),
            };
            if self.left == Some(0) {
                ended(&self.head)?;
                *self = Self::new();
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let have = self.head.have;
        let taken = bytes.len().min(HEAD_LEN - have);
        self.head.bytes[have..have + taken].copy_from_slice(&bytes[..taken]);
        self.head.have += taken;
    }

    fn length(&self) -> Result<usize, String> {
        let length = self.head.message_length();
        match usize::try_from(length) {
            Ok(sane) if (HEADER_LEN + 1..=MESSAGE_LEN_MAX).contains(&sane) => Ok(sane),
            _ => Err(format!("a message says it is {length} bytes long")),
        }
    }
}

/// Messages on their way out, each written by itself: a server answers one request at a time, and requests in flight
/// together come from callers that do not know of each other.
#[derive(Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the messages end that are not out yet.
    ends: VecDeque<usize>,
}

impl Outbox {
    /// Adds a prepared message with these ids.
    pub(crate) fn push(&mut self, message: &[u8], request_id: i32, response_to: i32) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.bytes[at + 4..at + 8].copy_from_slice(&request_id.to_le_bytes());
        self.bytes[at + 8..at + 12].copy_from_slice(&response_to.to_le_bytes());
        self.ends.push_back(self.bytes.len());
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes what the socket takes. Pending if that was not all; the task is woken when there is room.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, socket: &mut TcpStream) -> Poll<io::Result<()>> {
        while let Some(end) = self.ends.front() {
            self.sent += ready!(Pin::new(&mut *socket).poll_write(cx, &self.bytes[self.sent..*end]))?;
            if self.sent == *end {
                self.ends.pop_front();
            }
        }
        self.bytes.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

/// The hello of an application's connection.
pub(crate) fn hello(zstd: bool) -> Vec<u8> {
    let mut body = rawdoc! {
        "hello": 1,
        "helloOk": true,
        "client": {
            "application": { "name": "overhead" },
            "driver": { "name": "overhead", "version": "1" },
            "os": { "type": "Linux" },
            "platform": "Rust",
        },
    };
    body.append(cstr("compression"), compressors(zstd));
    body.append(cstr("$db"), "admin");
    op_msg(&body, None)
}

/// A standalone server's answer to hello.
pub(crate) fn hello_reply(connection_id: i32, zstd: bool) -> Vec<u8> {
    let mut body = rawdoc! {
        "helloOk": true,
        "isWritablePrimary": true,
        "maxBsonObjectSize": 16_777_216,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "localTime": bson::DateTime::from_millis(1_700_000_000_000),
        "logicalSessionTimeoutMinutes": 30,
        "connectionId": connection_id,
        "minWireVersion": 0,
        "maxWireVersion": 17,
        "readOnly": false,
    };
    if zstd {
        body.append(cstr("compression"), compressors(true));
    }
    body.append(cstr("ok"), 1.0);
    op_msg(&body, None)
}

/// A find as a driver sends it; `session` tells connections apart.
pub(crate) fn find(session: u32) -> Vec<u8> {
    let body = rawdoc! {
        "find": "events",
        "filter": { "_id": 4711, "kind": "visit" },
        "limit": 1,
        "singleBatch": true,
        "lsid": lsid(session),
        "$db": "bench",
    };
    op_msg(&body, None)
}

/// A reply to find that is `length` bytes long on the wire.
pub(crate) fn find_reply(length: usize) -> Vec<u8> {
    fill(length, |documents| {
        let mut batch = RawArrayBuf::new();
        documents.iter().for_each(|document| batch.push(document.clone()));
        op_msg(&rawdoc! { "cursor": { "firstBatch": batch, "id": 0_i64, "ns": "bench.events" }, "ok": 1.0 }, None)
    })
}

/// An insert of a document sequence, `length` bytes long on the wire.
pub(crate) fn insert(session: u32, length: usize) -> Vec<u8> {
    let body = rawdoc! { "insert": "events", "ordered": true, "lsid": lsid(session), "$db": "bench" };
    fill(length, |documents| op_msg(&body, Some(("documents", documents))))
}

pub(crate) fn insert_reply() -> Vec<u8> {
    op_msg(&rawdoc! { "n": 1, "ok": 1.0 }, None)
}

/// The same message in OP_COMPRESSED.
pub(crate) fn compressed(message: &[u8]) -> Result<Vec<u8>, String> {
    let body = &message[HEADER_LEN..];
    let packed = zstd::bulk::compress(body, 3).map_err(|error| format!("zstd: {error}"))?;
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(&OP_MSG.to_le_bytes());
    bytes.extend_from_slice(&len_i32(body.len()).to_le_bytes());
    bytes.push(COMPRESSOR_ZSTD);
    bytes.extend_from_slice(&packed);
    finish(&mut bytes, OP_COMPRESSED);
    Ok(bytes)
}

fn op_msg(body: &RawDocumentBuf, sequence: Option<(&str, &[RawDocumentBuf])>) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    bytes.extend_from_slice(&[0; 4]);
    bytes.push(0);
    bytes.extend_from_slice(body.as_bytes());
    if let Some((identifier, documents)) = sequence {
        bytes.push(1);
        let size = 4 + identifier.len() + 1 + documents.iter().map(|one| one.as_bytes().len()).sum::<usize>();
        bytes.extend_from_slice(&len_i32(size).to_le_bytes());
        bytes.extend_from_slice(identifier.as_bytes());
        bytes.push(0);
        documents.iter().for_each(|one| bytes.extend_from_slice(one.as_bytes()));
    }
    finish(&mut bytes, OP_MSG);
    bytes
}

fn finish(bytes: &mut [u8], op_code: i32) {
    let length = len_i32(bytes.len());
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[12..16].copy_from_slice(&op_code.to_le_bytes());
}

/// Documents enough to make what `build` makes of them `length` bytes long: the last one takes up the difference.
fn fill(length: usize, build: impl Fn(&[RawDocumentBuf]) -> Vec<u8>) -> Vec<u8> {
    let empty = build(&[document(0, 0)]).len();
    assert!(empty <= length, "a message of {length} bytes is less than the {empty} it needs");
    // An element of an array has its index before it, at most eight bytes here.
    let full = (length - empty) / (DOCUMENT_LEN + 8);
    let mut documents: Vec<_> =
        (0..full).map(|id| document(id, DOCUMENT_LEN - document(id, 0).as_bytes().len())).collect();
    documents.push(document(full, 0));
    let short = length - build(&documents).len();
    documents[full] = document(full, short);
    let message = build(&documents);
    assert_eq!(message.len(), length);
    message
}

/// A document whose text is `padding` bytes long, and compresses about as well as such documents do.
fn document(id: usize, padding: usize) -> RawDocumentBuf {
    const WORDS: [&str; 8] = ["visit", "basket", "checkout", "refund", "login", "search", "berlin", "2026-11-22"];
    let mut text = String::with_capacity(padding + 16);
    let mut state = id as u32 | 1;
    while text.len() < padding {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.push_str(WORDS[(state >> 29) as usize]);
        text.push(' ');
    }
    text.truncate(padding);
    rawdoc! { "_id": len_i32(id), "text": text }
}

fn lsid(session: u32) -> RawDocumentBuf {
    let mut bytes = *b"overhead\x40bench\0\0";
    bytes[12..].copy_from_slice(&session.to_be_bytes());
    rawdoc! { "id": bson::Binary { subtype: BinarySubtype::Uuid, bytes: bytes.to_vec() } }
}

fn compressors(zstd: bool) -> RawArrayBuf {
    let mut names = RawArrayBuf::new();
    if zstd {
        names.push("zstd");
    }
    names
}

fn cstr(name: &str) -> bson::raw::CString {
    bson::raw::CString::try_from(name).expect("the names above hold no NUL")
}

fn len_i32(length: usize) -> i32 {
    i32::try_from(length).expect("messages here are far below 2 GiB")
}
