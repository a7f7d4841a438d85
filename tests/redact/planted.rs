//! A secret that is planted at a random place under a path, in random commands and replies, compressed or not, and split
//! at random bytes, is in nothing that comes out of the pipeline.

use std::sync::{Arc, Mutex};

use bson::{Bson, Document, doc};
use bytes::BytesMut;
use mongotap::event::{Address, Connection, ConnectionId, Given, Input, Side, Timestamp};
use mongotap::pipeline::{Pipeline, Sink};
use mongotap::redact::fields::Mode;
use mongotap::redact::{Fields, Redacted};
use mongotap::session::{Limits, Shared};
use mongotap::sink::{Format, Options};
use mongotap::wire::{Compressor, Message, OpMsg, Sequence, compress, msg_flags};
use proptest::prelude::*;

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

/// A command with it, the documents that stand beside its body, and a reply with it.
fn exchange(kind: usize, planted: &Document) -> (Document, Vec<(&'static str, Document)>, Document) {
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
    let Some(how) = how else { return plain.to_vec() };
    let mut compressed = BytesMut::new();
    compress(&plain, how, &mut compressed).unwrap();
    compressed.to_vec()
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
    let connection = Connection {
        id: ConnectionId(1),
        client: "127.0.0.1:50000".into(),
        upstream: "127.0.0.1:27017".into(),
        server: Address::parse("127.0.0.1:27027"),
        tls: false,
    };
    let limits = Limits { max_document_bytes: limit, ..Limits::default() };
    let shared = Shared { limits, ..Shared::default() };
    let connection = Arc::new(connection);
    let recorded = Pipeline::recorded(Arc::clone(&connection), AT, shared.clone(), tap);
    // Without a recording documents are cut before they are looked at.
    let pipelines = [recorded, Pipeline::new(connection, AT, shared)];
    let mut seen = Vec::new();
    let mut renderers = Format::ALL.map(|format| format.renderer(&Options::default()));
    let sink: &mut Sink<'_> = &mut |entry| {
        renderers.iter_mut().for_each(|renderer| renderer.render(entry, &mut seen));
    };
    for pipeline in pipelines {
        let mut pipeline = pipeline.redacting(fields.clone());
        for (side, bytes) in conversation {
            bytes.chunks(piece).for_each(|piece| pipeline.handle_bytes(*side, piece, AT, sink));
        }
        pipeline.handle_close(Some(Side::Client), None, AT, sink);
    }
    let mut out = held.lock().unwrap().clone();
    out.extend_from_slice(&seen);
    out
}

fn is_in(out: &[u8], text: &[u8]) -> bool {
    memchr::memmem::find(out, text).is_some()
}

/// A connection's messages, the command and its reply after a handshake.
fn conversation(
    command: &mut Document,
    beside: &[(&str, Document)],
    reply: &Document,
    how: Option<Compressor>,
) -> [(Side, Vec<u8>); 4] {
    command.insert("$db", "shop");
    [
        (Side::Client, message(1, 0, &doc! { "hello": 1, "$db": "shop", "lsid": {} }, &[], None)),
        (Side::Server, message(2, 1, &doc! { "ok": 1.0 }, &[], None)),
        (Side::Client, message(3, 0, command, beside, how)),
        (Side::Server, message(4, 3, reply, &[], how)),
    ]
}

/// Some in a second or two; more for a long run, whose seconds the variable says.
fn cases() -> u32 {
    let long = std::env::var("MONGOTAP_TEST_LONG").ok().and_then(|seconds| seconds.parse::<u32>().ok());
    long.map_or(256, |seconds| seconds.saturating_mul(200))
}

#[test]
fn without_fields_it_would_be_seen() {
    for kind in 0..14 {
        let (mut command, beside, reply) = exchange(kind, &doc! { "card": { "number": SECRET } });
        for how in [None, Some(Compressor::Zlib)] {
            let conversation = conversation(&mut command, &beside, &reply, how);
            assert!(is_in(&output(None, &conversation, 4096, 0), SECRET.as_bytes()), "{command}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn a_planted_secret_comes_out_nowhere(
        planted in planted(),
        kind in 0_usize..14,
        mode in prop::sample::select(Mode::ALL.to_vec()),
        how in prop::sample::select(vec![None, Some(Compressor::Snappy), Some(Compressor::Zlib), Some(Compressor::Zstd)]),
        piece in prop::sample::select(vec![1_usize, 7, 64, 4096]),
        limit in prop::sample::select(vec![0_usize, 60, 120, 10_000]),
    ) {
        let (mut command, beside, reply) = exchange(kind, &planted);
        let conversation = conversation(&mut command, &beside, &reply, how);
        let fields = Fields::new(vec!["users.card.number".parse().unwrap()], mode, b"key");
        let out = output(fields, &conversation, piece, limit);
        for text in [SECRET.as_bytes(), NUMBER.to_string().as_bytes(), &NUMBER.to_le_bytes()] {
            prop_assert!(!is_in(&out, text), "{mode:?} {command} {reply}\n{}", String::from_utf8_lossy(&out));
        }
        // The rest of it is there.
        prop_assert!(is_in(&out, b"shop") && is_in(&out, command.keys().next().unwrap().as_bytes()));
    }
}
