//! A secret that is planted at a random place under a path, in random commands, replies and errors, of every opcode,
//! compressed or not, and split at random bytes, is in nothing that comes out of the pipeline, nor in what a panic would
//! print of it.

use std::sync::{Arc, Mutex};

use bson::{Bson, Document, doc};
use bytes::BytesMut;
use mongotap::event::{Given, Input, Side, Timestamp};
use mongotap::pipeline::{Pipeline, Sink};
use mongotap::redact::fields::Mode;
use mongotap::redact::{Fields, Redacted};
use mongotap::session::{Limits, Shared};
use mongotap::sink::{Format, Options};
use mongotap::wire::{
    Compressor, Message, OpDelete, OpGetMore, OpInsert, OpMsg, OpQuery, OpReply, OpUpdate, Sequence, compress,
    msg_flags, reply_flags,
};
use proptest::prelude::*;

use crate::nobodies::connection;

/// What must not be seen, as it is or as a number.
const SECRET: &str = "s3cret-of-somebody";
const NUMBER: i64 = 7_316_498_205_513;

const AT: Timestamp = Timestamp { monotonic_nanos: 0, unix_micros: 1_795_333_471_000_000 };

/// A value with the secret in it, however deep.
fn secret() -> impl Strategy<Value = Bson> {
    let leaf = prop_oneof![
        Just(Bson::String(SECRET.to_owned())),
        Just(Bson::String(format!("before {SECRET} after"))),
        Just(Bson::String(format!("$2b${SECRET}"))),
        Just(Bson::Int64(NUMBER)),
        Just(Bson::JavaScriptCode(SECRET.to_owned())),
        Just(Bson::Symbol(SECRET.to_owned())),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Bson::Array),
            (name(), inner.clone()).prop_map(|(name, value)| Bson::Document(doc! { name: value })),
            (operator(), inner).prop_map(|(name, value)| Bson::Document(doc! { name: value })),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "key", "sort", "filter", "ssn", "0", "u", "_id", "value"]).prop_map(str::to_owned)
}

fn operator() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["$eq", "$in", "$not", "$gte", "$elemMatch", "$all", "$ne"]).prop_map(str::to_owned)
}

/// A document with the secret under `card.number`, which may be nested or dotted, and anywhere in it.
fn planted() -> impl Strategy<Value = Document> {
    let way = prop_oneof![Just(0), Just(1), Just(2), Just(3)];
    (way, secret(), prop::collection::vec(name(), 0..3)).prop_map(|(way, secret, around)| {
        let card = match way {
            0 => doc! { "card": { "number": secret } },
            1 => doc! { "card.number": secret },
            2 => doc! { "n": 1, "card": [{ "kind": "visa" }, { "number": secret }] },
            _ => doc! { "card.0.number": secret, "kind": "visa" },
        };
        around.into_iter().fold(card, |inner, name| doc! { "x": 1, name: inner })
    })
}

/// Commands and replies, beginning with which errors come.
const ERRORS: usize = 14;

/// The same of legacy opcodes.
const LEGACY: usize = ERRORS + 11;

/// All of them.
const KINDS: usize = LEGACY + 7;

/// A command that fails, and its error.
fn failure(kind: usize, planted: &Document) -> (Document, Document) {
    let find = |filter: Document| doc! { "find": "users", "filter": filter };
    let project = |x: Document| doc! { "aggregate": "users", "pipeline": [{ "$project": { "x": x } }], "cursor": {} };
    let computes = |name: &str| project(doc! { name: "$card.number" });
    let (command, cause) = match kind {
        0 => (
            computes("$toInt"),
            format!(
                "Failed to parse number '{SECRET}' in $convert with no onError value: Bad digit \"-\" while parsing {SECRET}"
            ),
        ),
        1 => (
            project(doc! { "$dateTrunc": { "date": "$at", "unit": "$card.number" } }),
            format!("unknown time unit value: {SECRET}"),
        ),
        2 => (
            computes("$mergeObjects"),
            format!("$mergeObjects requires object inputs, but input \"{SECRET}\" is of type string"),
        ),
        3 => (computes("$log10"), format!("$log10's argument must be a positive number, but is {NUMBER}")),
        4 => (find(doc! { "$where": "throw this.card.number" }), format!("uncaught exception: {SECRET}")),
        5 => (find(doc! { "card.number": { "$type": SECRET } }), format!("Unknown type name alias: {SECRET}")),
        6 => (find(doc! { "card.number": NUMBER, "n": { "$foo": 1 } }), format!("cannot take {NUMBER} for it")),
        7 => (find(planted.clone()), format!("Can't extract geo keys: {{ _id: 4, card: {{ number: \"{SECRET}\" }} }}")),
        8 => (
            doc! { "findAndModify": "users", "query": {}, "update": [{ "$set": { "n": { "$toInt": "$card.number" } } }] },
            format!("can't convert \"{SECRET}\""),
        ),
        9 => (
            doc! { "update": "users", "updates": [{ "q": {}, "u": { "$set": planted.clone() } }] },
            format!("Cannot create field 'a' in element {{number: \"{SECRET}\"}}"),
        ),
        _ => (
            doc! { "mapReduce": "users", "map": "f", "reduce": "g", "scope": { "x": SECRET } },
            format!("Error: {SECRET} :\n@:1:2"),
        ),
    };
    let errmsg = format!("PlanExecutor error during aggregation :: caused by :: {cause}");
    let details = doc! { "failingDocumentId": 1, "details": { "consideredValue": SECRET, "card": planted.clone() } };
    let error = doc! { "ok": 0.0, "errmsg": &errmsg, "code": 9, "errInfo": details.clone(), "writeConcernError": { "errmsg": &errmsg } };
    let among =
        doc! { "ok": 1.0, "n": 0, "writeErrors": [{ "index": 0, "code": 9, "errmsg": errmsg, "errInfo": details }] };
    (command, if kind == 9 { among } else { error })
}

/// A message of a legacy opcode, and what it is answered, if it is.
fn legacy(kind: usize, planted: &Document, how: Option<Compressor>) -> (Vec<u8>, Option<Vec<u8>>) {
    let (document, name) = (planted.to_vec().unwrap(), &b"shop.users"[..]);
    let mut request = BytesMut::new();
    let mut query = |name: &[u8], query: &Document, selector: Option<&[u8]>| {
        let query = query.to_vec().unwrap();
        let flags = (0, 0, 5);
        OpQuery {
            flags: flags.0,
            full_collection_name: name,
            number_to_skip: flags.1,
            number_to_return: flags.2,
            query: &query,
            return_fields_selector: selector,
        }
        .encode(3, &mut request)
        .unwrap();
    };
    match kind {
        0 => OpInsert { flags: 0, full_collection_name: name, documents: &document }.encode(3, &mut request).unwrap(),
        1 => {
            let (flags, update) = (0, doc! { "$set": planted.clone() }.to_vec().unwrap());
            OpUpdate { flags, full_collection_name: name, selector: &document, update: &update }
                .encode(3, &mut request)
                .unwrap();
        }
        2 => OpDelete { flags: 0, full_collection_name: name, selector: &document }.encode(3, &mut request).unwrap(),
        3 => query(name, planted, Some(&doc! { "card": { "$elemMatch": { "number": SECRET } } }.to_vec().unwrap())),
        4 => query(name, &doc! { "$query": planted.clone(), "$orderby": { "n": 1 } }, None),
        5 => {
            let message = OpGetMore { full_collection_name: name, number_to_return: 5, cursor_id: 7 };
            message.encode(3, &mut request).unwrap();
        }
        _ => query(b"shop.$cmd", &doc! { "find": "users", "filter": planted.clone() }, None),
    }
    let failed = doc! { "$err": format!("cannot take it: {{ card.number: \"{SECRET}\" }}"), "code": 9, "ok": 0.0 };
    let of_command = doc! { "cursor": { "firstBatch": [planted.clone()], "id": 0_i64, "ns": "shop.users" }, "ok": 1.0 };
    let reply = match kind {
        0..=2 => return (compressed(request, how), None),
        4 => failed,
        3 | 5 => planted
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .chain([("ok".to_owned(), Bson::Int32(1))])
            .collect(),
        _ => of_command,
    };
    let flags = if kind == 4 { reply_flags::QUERY_FAILURE } else { 0 };
    let documents = reply.to_vec().unwrap();
    let mut answer = BytesMut::new();
    let reply = OpReply { flags, cursor_id: 0, starting_from: 0, number_returned: 1, documents: &documents };
    reply.encode(4, 3, &mut answer).unwrap();
    (compressed(request, how), Some(compressed(answer, how)))
}

fn compressed(plain: BytesMut, how: Option<Compressor>) -> Vec<u8> {
    let Some(how) = how else { return plain.to_vec() };
    let mut compressed = BytesMut::new();
    compress(&plain, how, &mut compressed).unwrap();
    compressed.to_vec()
}

/// A command with it, the documents that stand beside its body, and a reply with it.
fn exchange(kind: usize, planted: &Document) -> (Document, Vec<(&'static str, Document)>, Document) {
    if kind >= ERRORS {
        let (command, error) = failure(kind - ERRORS, planted);
        return (command, Vec::new(), error);
    }
    let it = || planted.clone();
    let updates = |update: Document| vec![("updates", update)];
    let (command, beside) = match kind {
        0 => (doc! { "insert": "users" }, vec![("documents", it()), ("documents", it())]),
        1 => (doc! { "insert": "users", "documents": [it()] }, vec![]),
        2 => (doc! { "find": "users", "filter": it(), "sort": { "card.number": 1 } }, vec![]),
        3 => (doc! { "find": "users", "filter": { "$or": [{ "a": 1 }, it()] }, "min": it() }, vec![]),
        4 => (
            doc! { "update": "users" },
            updates(doc! { "q": it(), "u": { "$set": it(), "$unset": { "card.number": 1 } } }),
        ),
        5 => (doc! { "update": "users" }, updates(doc! { "q": {}, "u": it(), "upsert": true })),
        6 => (doc! { "update": "users" }, updates(doc! { "q": {}, "u": [{ "$set": it() }] })),
        7 => (doc! { "delete": "users" }, vec![("deletes", doc! { "q": it(), "limit": 1 })]),
        8 => (doc! { "findAndModify": "users", "query": it(), "update": { "$push": it() } }, vec![]),
        9 => (
            doc! { "aggregate": "users", "pipeline": [{ "$match": it() }, { "$project": { "n": "$card.number", "c": "$card" } }], "cursor": {} },
            vec![],
        ),
        10 => (doc! { "find": "users", "filter": { "$expr": { "$eq": ["$card.number", SECRET] } } }, vec![]),
        11 => (doc! { "explain": { "find": "users", "filter": it() } }, vec![]),
        12 => (doc! { "distinct": "users", "key": "card.number", "query": it() }, vec![]),
        _ => (
            doc! { "bulkWrite": 1, "nsInfo": [{ "ns": "shop.users" }] },
            vec![("ops", doc! { "insert": 0, "document": it() })],
        ),
    };
    let message = format!("E11000 duplicate key error collection: shop.users dup key: {{ card.number: \"{SECRET}\" }}");
    let reply = match kind {
        9 => {
            doc! { "cursor": { "firstBatch": [{ "n": SECRET, "c": [{ "number": NUMBER }] }], "id": 0_i64, "ns": "shop.users" }, "ok": 1.0 }
        }
        12 => doc! { "values": [SECRET, NUMBER], "ok": 1.0 },
        0 | 4 | 5 => {
            doc! { "n": 0, "writeErrors": [{ "index": 0, "code": 11000, "keyValue": it(), "errmsg": message }], "ok": 1.0 }
        }
        8 => doc! { "ok": 0.0, "code": 11000, "keyValue": it(), "errmsg": message },
        7 => doc! { "value": it(), "ok": 1.0 },
        _ => doc! { "cursor": { "firstBatch": [it()], "id": 0_i64, "ns": "shop.users" }, "ok": 1.0 },
    };
    (command, beside, reply)
}

/// The bytes of a message.
fn message(id: i32, to: i32, body: &Document, beside: &[(&str, Document)], how: Option<Compressor>) -> Vec<u8> {
    let body = body.to_vec().unwrap();
    let documents: Vec<u8> = beside.iter().flat_map(|(_, document)| document.to_vec().unwrap()).collect();
    let sequence = beside.first().map(|(name, _)| Sequence { identifier: name.as_bytes(), documents: &documents });
    let flags = if how.is_none() { msg_flags::CHECKSUM_PRESENT } else { 0 };
    let mut plain = BytesMut::new();
    let message = OpMsg { sequences: sequence.into_iter().collect(), ..OpMsg::new(flags, &body) };
    message.encode(id, to, &mut plain).unwrap();
    compressed(plain, how)
}

/// All that comes out for a conversation: messages, out of their compression, and events in every format.
fn output(fields: Option<Arc<Fields>>, conversation: &[(Side, Vec<u8>)], piece: usize, limit: usize) -> Vec<u8> {
    let held = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&held);
    let tap = Box::new(move |input: &Redacted<Input<'_>>| {
        let Given::Message(message) = &input.given else { return };
        let mut inflated = Vec::new();
        if let Ok((header, Message::Compressed(compressed))) = Message::decode(&message.bytes) {
            compressed.inflate(&header, 1 << 20, &mut inflated).unwrap();
        }
        let mut kept = kept.lock().unwrap();
        kept.extend_from_slice(&message.bytes);
        kept.extend_from_slice(&inflated);
    });
    let limits = Limits { max_document_bytes: limit, ..Limits::default() };
    let shared = Shared { limits, ..Shared::default() };
    let recorded = Pipeline::recorded(connection(), AT, shared.clone(), tap);
    // Without a recording documents are cut before they are looked at.
    let pipelines = [recorded, Pipeline::new(connection(), AT, shared)];
    let mut seen = Vec::new();
    let mut debugged = String::new();
    let mut renderers = Format::ALL.map(|format| format.renderer(&Options::default()));
    let mut told = String::new();
    let sink: &mut Sink<'_> = &mut |entry| {
        told += &format!("{entry:?}");
        renderers.iter_mut().for_each(|renderer| renderer.render(entry, &mut seen));
    };
    for pipeline in pipelines {
        let mut pipeline = pipeline.redacting(fields.clone());
        for (side, bytes) in conversation {
            let in_between = bytes.len() / piece / 2;
            for (number, piece) in bytes.chunks(piece).enumerate() {
                pipeline.handle_bytes(*side, piece, AT, sink);
                if number == in_between {
                    // As a panic would print it.
                    debugged += &format!("{pipeline:?}");
                }
            }
        }
        pipeline.handle_close(Some(Side::Client), None, AT, sink);
    }
    let mut out = held.lock().unwrap().clone();
    out.extend_from_slice(&seen);
    out.extend_from_slice(debugged.as_bytes());
    out.extend_from_slice(told.as_bytes());
    out
}

fn is_in(out: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(out, text).is_some()
}

/// A connection's messages, the command and its reply after a handshake.
fn conversation(kind: usize, planted: &Document, how: Option<Compressor>) -> Vec<(Side, Vec<u8>)> {
    let (request, reply) = if kind >= LEGACY {
        legacy(kind - LEGACY, planted, how)
    } else {
        let (mut command, beside, reply) = exchange(kind, planted);
        command.insert("$db", "shop");
        (message(3, 0, &command, &beside, how), Some(message(4, 3, &reply, &[], how)))
    };
    let mut messages = vec![
        (Side::Client, message(1, 0, &doc! { "hello": 1, "$db": "shop", "lsid": {} }, &[], None)),
        (Side::Server, message(2, 1, &doc! { "ok": 1.0 }, &[], None)),
        (Side::Client, request),
    ];
    messages.extend(reply.map(|reply| (Side::Server, reply)));
    messages
}

/// Some in a second or two; more for a long run, whose seconds the variable says.
fn cases() -> u32 {
    let long = std::env::var("MONGOTAP_TEST_LONG").ok().and_then(|seconds| seconds.parse::<u32>().ok());
    long.map_or(256, |seconds| seconds.saturating_mul(200))
}

#[test]
fn without_fields_it_would_be_seen() {
    for kind in 0..KINDS {
        for how in [None, Some(Compressor::Zlib)] {
            let conversation = conversation(kind, &doc! { "card": { "number": SECRET, "n": NUMBER } }, how);
            let out = output(None, &conversation, 4096, 0);
            assert!(is_in(&out, SECRET.as_bytes()) || is_in(&out, NUMBER.to_string().as_bytes()), "{kind}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn a_planted_secret_comes_out_nowhere(
        planted in planted(),
        kind in 0..KINDS,
        mode in prop::sample::select(Mode::ALL.to_vec()),
        how in prop::sample::select(vec![None, Some(Compressor::Snappy), Some(Compressor::Zlib), Some(Compressor::Zstd)]),
        piece in prop::sample::select(vec![1_usize, 7, 64, 4096]),
        limit in prop::sample::select(vec![0_usize, 60, 120, 10_000]),
    ) {
        let conversation = conversation(kind, &planted, how);
        let fields = Fields::new(vec!["users.card.number".parse().unwrap()], mode, b"key");
        let out = output(fields, &conversation, piece, limit);
        let (printed, number) = (format!("{:?}", SECRET.as_bytes()), NUMBER.to_string());
        let forms = [SECRET.as_bytes(), printed.trim_matches(['[', ']']).as_bytes(), number.as_bytes()];
        for text in forms.into_iter().chain([&NUMBER.to_le_bytes()[..]]) {
            prop_assert!(!is_in(&out, text), "{mode:?} {kind} {planted}\n{}", String::from_utf8_lossy(&out));
        }
        // The rest of it is there.
        prop_assert!(is_in(&out, b"shop") && is_in(&out, b"users"));
    }
}
