//! Conversations with a secret in them, in every command that may have one: it shows nowhere.
//!
//! The bytes decide everything: commands, opcodes, compression, pieces, what is broken, and how it is answered.

use bson::{Bson, Document, doc};
use bytes::BytesMut;
use mongotap::event::{Compressor, Side};
use mongotap::session::Limits;
use mongotap::wire::{OpMsg, OpQuery, OpReply, Sequence, compress, msg_flags};

use super::Choices;
use super::everywhere::{Said, outputs};
use super::planted::{SECRET, message, planted, shown};

/// The specification's sensitive commands, each with the fields that its credentials are in.
const SENSITIVE: [(&str, &[&str]); 9] = [
    ("authenticate", &["nonce", "key"]),
    ("saslStart", &["payload"]),
    ("saslContinue", &["payload"]),
    ("getnonce", &[]),
    ("createUser", &["pwd"]),
    ("updateUser", &["pwd"]),
    ("copydbgetnonce", &[]),
    ("copydbSaslStart", &["payload"]),
    ("copydb", &["nonce", "key"]),
];

const HELLOS: [&str; 3] = ["hello", "isMaster", "ismaster"];

/// A conversation: its secret shows nowhere.
pub(super) fn redaction(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let limits = Limits {
        max_message_bytes: 48_000_000,
        inflate_max_bytes: choices.of(&[64, 1 << 20]),
        max_document_bytes: choices.of(&[0, 40, 150, 10_000]),
    };
    let length = choices.of(&[1, 3, 16, 100, usize::MAX]);
    let said = conversation(&mut choices);
    for (name, bytes) in outputs(&said, length, limits) {
        if let Some(form) = shown(&bytes) {
            panic!("{form:?} shows in {name}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}

/// What is said when no command is a sensitive one: the secret shows in all these places, or it would not be found.
#[allow(dead_code, reason = "for the tests, not for the fuzzers")]
pub(crate) fn where_it_shows() -> Vec<&'static str> {
    let mut said = Vec::new();
    let hello = doc! { "hello": 1, "client": { "application": { "name": "a" } }, "$db": "admin" };
    said.push(Said { side: Side::Client, bytes: op_msg((1, 0), 0, &hello, None) });
    said.push(Said { side: Side::Server, bytes: op_msg((2, 1), 0, &doc! { "ok": 1.0, "maxWireVersion": 17 }, None) });
    let find = doc! { "find": message(), "filter": { "pwd": message() }, "$db": "a" };
    said.push(Said { side: Side::Client, bytes: op_msg((3, 0), 0, &find, None) });
    said.push(Said { side: Side::Server, bytes: op_msg((4, 3), 0, &doc! { "ok": 0.0, "errmsg": message() }, None) });
    let limits = Limits { max_document_bytes: 0, ..Limits::default() };
    let outputs = outputs(&said, usize::MAX, limits).into_iter();
    outputs.filter(|(_, bytes)| shown(bytes).is_some()).map(|(name, _)| name).collect()
}

/// Where a secret shows of a request that swallows the one behind it, wherever it was torn: in what, and in which form.
#[allow(dead_code, reason = "for the tests, not for the fuzzers")]
pub(crate) fn where_swallowed_shows() -> Vec<(&'static str, String)> {
    let secret = String::from_utf8_lossy(SECRET).into_owned();
    let start = doc! { "saslStart": 1, "mechanism": "PLAIN", "payload": &secret, "$db": "$external" };
    let create = doc! { "createUser": "u", "pwd": secret, "roles": [], "$db": "admin" };
    let starts = [op_query(2, true, &start), op_msg((2, 0), 0, &start, None), op_msg((2, 0), 0, &create, None)];
    let noop = packed(&starts[1], Some(Compressor::Noop));
    let padding = doc! { "find": "a", "comment": "x".repeat(200), "filter": { "n": 1 }, "$db": "a" };
    let torn = op_msg((1, 0), 0, &padding, None);
    let padding = doc! { "find": "a", "comment": "x".repeat(300), "filter": { "n": "y".repeat(100) }, "$db": "a" };
    let long = op_msg((1, 0), 0, &padding, None);
    let mut shows = Vec::new();
    for next in starts.iter().chain([&noop]) {
        // The long text is not kept, and ends somewhere in what is behind: what is left of that may look like fields.
        for left_out in 140..140 + next.len() {
            let bytes = [&long[..long.len() - left_out], next, &[0; 40]].concat();
            let said = [Said { side: Side::Client, bytes }];
            let limits = Limits { max_document_bytes: 150, ..Limits::default() };
            for (name, bytes) in outputs(&said, 100, limits) {
                shows.extend(shown(&bytes).map(|form| (name, form)));
            }
        }
        for left_out in (1..torn.len()).filter(|left_out| left_out % 3 == 0 || *left_out > 90) {
            // What is behind is in the middle of a message, and with more zeros at its end may be taken for another.
            let bytes = [&torn[..torn.len() - left_out], next, &[0; 40]].concat();
            let said = [Said { side: Side::Client, bytes }];
            for (name, bytes) in outputs(&said, usize::MAX, Limits::default()) {
                shows.extend(shown(&bytes).map(|form| (name, form)));
            }
        }
    }
    shows
}

fn conversation(choices: &mut Choices<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for id in 1..=1 + i32::from(choices.byte() % 4) {
        let (command, sequence) = command(choices);
        let is_hello = command.keys().next().is_some_and(|name| HELLOS.contains(&name.as_str()));
        let compressor = choices.of(&COMPRESSORS);
        let is_query = sequence.is_none() && choices.one_in(4);
        let mut request = match is_query {
            true => op_query(id, choices.flag(), &command),
            false => op_msg((id, 0), choices.of(&[0, 0, msg_flags::EXHAUST_ALLOWED]), &command, sequence.as_ref()),
        };
        match choices.byte() % 16 {
            // A required flag that nobody knows, and a document that does not end.
            0 if !is_query => request[16] |= 1 << 5,
            1 => *request.last_mut().unwrap() = 7,
            // What else the client says is taken for the rest of this message.
            2 => tear(&mut request, choices),
            3 => {
                let padding = doc! { "find": "a", "comment": "x".repeat(choices.of(&[20, 300, 2000])), "$db": "a" };
                let mut torn = op_msg((id + 50, 0), 0, &padding, None);
                tear(&mut torn, choices);
                request.splice(..0, torn);
            }
            _ => request = packed(&request, compressor),
        }
        said.push(Said { side: Side::Client, bytes: request });
        replies(id, (is_query, is_hello), choices, &mut said);
    }
    said
}

/// Leaves out the end of a message.
fn tear(message: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let at = 16 + choices.word() % (message.len() - 16);
    message.truncate(at);
}

/// A sensitive command, and perhaps a sequence with its credentials.
fn command(choices: &mut Choices<'_>) -> (Document, Option<(String, Document)>) {
    let (name, fields) = choices.of(&SENSITIVE);
    let mut credentials = Document::new();
    for field in fields {
        credentials.insert(*field, planted(choices));
    }
    let mut command = Document::new();
    let padding = "x".repeat(choices.of(&[0, 10, 300]));
    if choices.one_in(3) {
        let mut speculative = doc! { name: 1, "mechanism": "SCRAM-SHA-256", "db": "admin" };
        speculative.extend(credentials);
        command.insert(choices.of(&HELLOS), 1);
        command.insert("client", doc! { "application": { "name": "a" }, "os": padding });
        command.insert("$db", "admin");
        if choices.one_in(4) {
            return (command, Some(("speculativeAuthenticate".to_owned(), speculative)));
        }
        command.insert("speculativeAuthenticate", speculative);
        return (command, None);
    }
    let name = if choices.flag() { name.to_uppercase() } else { name.to_owned() };
    command.insert(name, "u");
    command.insert("comment", padding);
    let in_sequence = choices.one_in(4);
    let sequence = in_sequence.then(|| (fields.first().unwrap_or(&"docs").to_string(), credentials.clone()));
    if !in_sequence {
        command.extend(credentials);
    }
    command.insert("$db", "admin");
    (command, sequence)
}

/// What a server may answer, or anybody who takes its place.
fn replies(id: i32, (is_query, is_hello): (bool, bool), choices: &mut Choices<'_>, said: &mut Vec<Said>) {
    let parts = choices.byte() % 3;
    for part in 0..parts {
        let mut reply = Document::new();
        match choices.byte() % if is_hello { 2 } else { 4 } {
            0 => reply.extend(doc! { "ok": 0.0, "errmsg": message(), "code": 18, "codeName": "AuthenticationFailed" }),
            1 => reply
                .extend(doc! { "speculativeAuthenticate": { "done": false, "payload": planted(choices) }, "ok": 1 }),
            2 => reply.extend(doc! { "nonce": planted(choices), "ok": 1.0 }),
            _ => reply.extend(doc! { "conversationId": 1, "done": true, "payload": planted(choices), "ok": 1.0 }),
        }
        reply.insert("comment", "y".repeat(choices.of(&[0, 300])));
        let more = if part + 1 < parts { msg_flags::MORE_TO_COME } else { 0 };
        // Mostly to what was asked, or to the part before.
        let to = if choices.one_in(8) { 999 } else { id + 100 * i32::from(part) };
        let ids = (id + 100 * (1 + i32::from(part)), to);
        let bytes = if is_query { op_reply(ids, &reply) } else { op_msg(ids, more, &reply, None) };
        let mut bytes = packed(&bytes, choices.of(&COMPRESSORS));
        if choices.one_in(16) {
            bytes.truncate(bytes.len() - 1);
        }
        said.push(Said { side: Side::Server, bytes });
    }
}

const COMPRESSORS: [Option<Compressor>; 6] =
    [None, None, Some(Compressor::Noop), Some(Compressor::Snappy), Some(Compressor::Zlib), Some(Compressor::Zstd)];

fn packed(frame: &[u8], compressor: Option<Compressor>) -> Vec<u8> {
    let Some(compressor) = compressor else { return frame.to_vec() };
    let mut packed = BytesMut::new();
    compress(frame, compressor, &mut packed).unwrap();
    packed.to_vec()
}

fn op_msg(ids: (i32, i32), flags: u32, document: &Document, sequence: Option<&(String, Document)>) -> Vec<u8> {
    let (mut frame, body) = (BytesMut::new(), document.to_vec().unwrap());
    let documents = sequence.map(|(_, document)| document.to_vec().unwrap());
    let mut message = OpMsg::new(flags, &body);
    if let (Some((name, _)), Some(documents)) = (sequence, &documents) {
        message.sequences.push(Sequence { identifier: name.as_bytes(), documents });
    }
    message.encode(ids.0, ids.1, &mut frame).unwrap();
    frame.to_vec()
}

fn op_query(id: i32, is_wrapped: bool, command: &Document) -> Vec<u8> {
    let wrapped = doc! { "$query": Bson::from(command.clone()), "$readPreference": { "mode": "primary" } };
    let (mut frame, query) = (BytesMut::new(), if is_wrapped { &wrapped } else { command }.to_vec().unwrap());
    let message = OpQuery {
        flags: 0,
        full_collection_name: b"admin.$cmd",
        number_to_skip: 0,
        number_to_return: -1,
        query: &query,
        return_fields_selector: None,
    };
    message.encode(id, &mut frame).unwrap();
    frame.to_vec()
}

fn op_reply(ids: (i32, i32), document: &Document) -> Vec<u8> {
    let (mut frame, documents) = (BytesMut::new(), document.to_vec().unwrap());
    let reply = OpReply { flags: 8, cursor_id: 0, starting_from: 0, number_returned: 1, documents: &documents };
    reply.encode(ids.0, ids.1, &mut frame).unwrap();
    frame.to_vec()
}
