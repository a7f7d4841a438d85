//! What a simulated client asks and what a simulated server answers, message by message.

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;

use super::random::Random;
use crate::wire::{Compressor, HEADER_LEN, OpMsg, compress, msg_flags};

/// Replies' ids begin here, so that they are no request's.
const REPLY_IDS: i32 = 10_000;

/// What the server is called, if it is a member of a replica set.
pub(super) const MEMBER: &str = "127.0.0.1:1";

/// A conversation.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) requests: Vec<Request>,
    /// Requests that wait for their replies at a time.
    pub(super) depth: usize,
}

/// A request, and what it is answered.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) frame: Vec<u8>,
    /// Its number, which is in its document and in those of its replies.
    pub(super) n: i32,
    /// None if it is not acknowledged; several if it may be answered by a stream.
    pub(super) replies: Vec<Reply>,
    pub(super) is_hello: bool,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) frame: Vec<u8>,
    pub(super) is_ok: bool,
}

impl Script {
    pub(super) fn new(random: &mut Random) -> Self {
        let begins_with_hello = random.once_in(3);
        let compressors = match random.below(2) {
            0 => &[None][..],
            _ => &[
                None,
                Some(Compressor::Noop),
                Some(Compressor::Snappy),
                Some(Compressor::Zlib),
                Some(Compressor::Zstd),
            ],
        };
        let mut reply_id = REPLY_IDS;
        let mut requests = Vec::new();
        for n in 0..1 + random.below(12) as i32 {
            let is_hello = begins_with_hello && n == 0;
            let kind = if is_hello { Kind::Hello } else { random.pick(&KINDS) };
            requests.push(Request::new(random, n, kind, compressors, &mut reply_id));
        }
        Self { requests, depth: random.pick(&[1, 1, 2, 5, 100]) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Hello,
    Asked,
    Unacknowledged,
    Streamed,
}

const KINDS: [Kind; 6] =
    [Kind::Asked, Kind::Asked, Kind::Asked, Kind::Unacknowledged, Kind::Unacknowledged, Kind::Streamed];

impl Request {
    fn new(random: &mut Random, n: i32, kind: Kind, compressors: &[Option<Compressor>], reply_id: &mut i32) -> Self {
        let id = n + 1;
        let filler = filler(random);
        let (flags, body) = match kind {
            Kind::Hello => {
                (0, rawdoc! { "hello": 1, "n": n, "client": { "driver": { "name": "simulated" } }, "$db": "admin" })
            }
            Kind::Asked => (0, rawdoc! { "find": "c", "n": n, "filler": filler, "$db": "d" }),
            Kind::Unacknowledged => {
                (msg_flags::MORE_TO_COME, rawdoc! { "insert": "c", "n": n, "filler": filler, "$db": "d" })
            }
            Kind::Streamed => {
                (msg_flags::EXHAUST_ALLOWED, rawdoc! { "getMore": 7_i64, "collection": "c", "n": n, "$db": "d" })
            }
        };
        // A handshake is not compressed, for how is agreed only in it.
        let compressor = if kind == Kind::Hello { None } else { random.pick(compressors) };
        let parts = match kind {
            Kind::Hello | Kind::Asked => 1,
            Kind::Unacknowledged => 0,
            Kind::Streamed => 1 + random.below(4),
        };
        let mut replies = Vec::new();
        let mut to = id;
        for part in 0..parts {
            let is_last = part + 1 == parts;
            let is_ok = !is_last || kind == Kind::Hello || !random.once_in(4);
            let body = match is_ok {
                true if kind == Kind::Hello => {
                    rawdoc! { "n": n, "setName": "rs0", "hosts": [MEMBER], "primary": MEMBER, "me": MEMBER, "ok": 1.0 }
                }
                true => rawdoc! { "n": n, "part": part as i32, "filler": self::filler(random), "ok": 1.0 },
                false => {
                    rawdoc! { "n": n, "ok": 0.0, "code": 11600, "codeName": "InterruptedAtShutdown", "errmsg": "no" }
                }
            };
            let flags = if is_last { 0 } else { msg_flags::MORE_TO_COME };
            replies.push(Reply { frame: message(flags, &body, *reply_id, to, compressor), is_ok });
            // The next part names this one.
            to = *reply_id;
            *reply_id += 1;
        }
        Self { frame: message(flags, &body, id, 0, compressor), n, replies, is_hello: kind == Kind::Hello }
    }
}

/// Mostly little, sometimes more than a thread reads at a time.
fn filler(random: &mut Random) -> String {
    let most = random.pick(&[10, 100, 1000, 20_000]);
    "x".repeat(random.below(most))
}

fn message(flags: u32, body: &RawDocumentBuf, id: i32, to: i32, compressor: Option<Compressor>) -> Vec<u8> {
    let mut plain = BytesMut::new();
    OpMsg::new(flags, body.as_bytes()).encode(id, to, &mut plain).unwrap();
    let Some(compressor) = compressor else { return plain.to_vec() };
    let mut compressed = BytesMut::new();
    compress(&plain, compressor, &mut compressed).unwrap();
    compressed.to_vec()
}

/// How many whole messages are in the bytes, and where the last of them ends.
pub(super) fn whole_messages(bytes: &[u8]) -> (usize, usize) {
    let (mut count, mut end) = (0, 0);
    while let Some(length) = bytes[end..].first_chunk::<4>().map(|it| u32::from_le_bytes(*it) as usize) {
        assert!(length >= HEADER_LEN, "the script has messages only");
        if bytes.len() - end < length {
            break;
        }
        (count, end) = (count + 1, end + length);
    }
    (count, end)
}
