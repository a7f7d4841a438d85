//! What the parts of the data path cost: the codec, the walker and what visits it, a session, a log line, a replay.
//!
//! `cargo bench --bench micro` prints the time of each and its throughput in bytes of the wire; a name after `--` chooses
//! some, `--save-baseline NAME` and `--baseline NAME` compare. The inputs are rows of `fixtures/wire.txt` and documents
//! made here, always the same. Run it on a machine that does nothing else; under 5 % is noise. What the parts cost
//! together, with sockets, is `benches/overhead`'s to say.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

#[path = "../tests/nobodies/mod.rs"]
mod nobodies;
#[path = "../tests/wire_table/mod.rs"]
mod wire_table;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use mongotap::bson::{cut, json, walk};
use mongotap::capture::convert::record;
use mongotap::capture::exchange::{Exchange, Place, Reply};
use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::fixture::Header;
use mongotap::event::{Compressor, ConnectionId, Phase, Side, Timestamp};
use mongotap::pipeline::Pipeline;
use mongotap::replay::{Indexing, Outcome, Player, Recording, Replaying, Replies, Request, Settings};
use mongotap::session::{Limits, Session, Shared};
use mongotap::sink::{Format, Options};
use mongotap::wire::{Message, OpMsg, Sequence, compress, msg_flags};
use nobodies::connection;

// --- inputs

fn op_msg(id: i32, to: i32, body: &RawDocumentBuf) -> Vec<u8> {
    let mut out = BytesMut::new();
    OpMsg::new(0, body.as_bytes()).encode(id, to, &mut out).unwrap();
    out.to_vec()
}

fn compressed(frame: &[u8], compressor: Compressor) -> Vec<u8> {
    let mut out = BytesMut::new();
    compress(frame, compressor, &mut out).unwrap();
    out.to_vec()
}

/// A document of about 100 bytes.
fn order(n: i32) -> RawDocumentBuf {
    rawdoc! {
        "_id": bson::oid::ObjectId::from_bytes([7; 12]), "n": n, "name": "a customer's name", "price": 12.5,
        "placed": bson::DateTime::from_millis(1_795_333_471_867), "paid": true,
    }
}

fn find() -> RawDocumentBuf {
    let lsid = bson::Binary::from_uuid(bson::Uuid::from_bytes([9; 16]));
    rawdoc! { "find": "orders", "filter": { "customer": 4711 }, "limit": 5, "lsid": { "id": lsid }, "$db": "shop" }
}

/// The reply to a find, of so many documents.
fn batch(documents: i32) -> RawDocumentBuf {
    let first: bson::RawArrayBuf = (0..documents).map(order).collect();
    rawdoc! { "cursor": { "firstBatch": first, "id": 0_i64, "ns": "shop.orders" }, "ok": 1.0 }
}

/// An insert whose documents are a sequence, as drivers send it.
fn insert(documents: i32) -> Vec<u8> {
    let body = rawdoc! { "insert": "orders", "ordered": true, "$db": "shop" };
    let all: Vec<u8> = (0..documents).flat_map(|n| order(n).into_bytes()).collect();
    let sequence = Sequence { identifier: b"documents", documents: &all };
    let mut out = BytesMut::new();
    OpMsg { sequences: vec![sequence], ..OpMsg::new(0, body.as_bytes()) }.encode(1, 0, &mut out).unwrap();
    out.to_vec()
}

fn at(micros: u64) -> Timestamp {
    Timestamp { monotonic_nanos: micros * 1000, unix_micros: 1_795_333_471_867_123 }
}

// --- benches

fn codec(c: &mut Criterion) {
    let mut group = c.benchmark_group("codec");
    let names = ["A: ping", "B: ping with a checksum", "D: insert, the sequence first", "H: isMaster as OP_QUERY"];
    for row in wire_table::rows().into_iter().filter(|row| names.contains(&row.name.as_str())) {
        assert!(row.expected[0].starts_with("= "), "{} is a message", row.name);
        let name = row.name.split(':').next_back().unwrap().trim();
        group.throughput(Throughput::Bytes(row.bytes.len() as u64));
        group.bench_function(format!("decode {name}"), |b| b.iter(|| Message::decode(black_box(&row.bytes)).unwrap()));
    }
    let reply = op_msg(2, 1, &batch(100));
    let (_, Message::Msg(message)) = Message::decode(&reply).unwrap() else { unreachable!("an OP_MSG was written") };
    group.throughput(Throughput::Bytes(reply.len() as u64));
    group.bench_function("encode 10 kB", |b| {
        let mut out = BytesMut::new();
        b.iter(|| {
            out.clear();
            message.encode(2, 1, black_box(&mut out)).unwrap();
        });
    });
    let checked = OpMsg { flags: msg_flags::CHECKSUM_PRESENT, ..message.clone() };
    group.bench_function("encode 10 kB with a checksum", |b| {
        let mut out = BytesMut::new();
        b.iter(|| {
            out.clear();
            checked.encode(2, 1, black_box(&mut out)).unwrap();
        });
    });
    for compressor in [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
        let frame = compressed(&reply, compressor);
        let (header, Message::Compressed(message)) = Message::decode(&frame).unwrap() else {
            unreachable!("an OP_COMPRESSED was written")
        };
        group.bench_function(format!("inflate 10 kB of {}", compressor.as_str()), |b| {
            let mut out = Vec::new();
            b.iter(|| message.inflate(&header, 1 << 20, black_box(&mut out)).unwrap());
        });
    }
    group.finish();
}

fn walker(c: &mut Criterion) {
    let mut group = c.benchmark_group("walker");
    for (name, document) in [("find", find()), ("10 kB reply", batch(100)), ("1 MB reply", batch(10_000))] {
        let bytes = document.as_bytes();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("top level of {name}"), |b| b.iter(|| walk::count(black_box(bytes)).unwrap()));
        group.bench_function(format!("validate {name}"), |b| b.iter(|| walk::validate(black_box(bytes)).unwrap()));
        group.bench_function(format!("json of {name}"), |b| {
            let mut out = Vec::new();
            b.iter(|| {
                out.clear();
                json::write_document(black_box(bytes), json::Mode::Relaxed, &mut out);
            });
        });
        if bytes.len() > 20_000 {
            group.bench_function(format!("cut {name} to 10 kB"), |b| b.iter(|| cut::cut(black_box(bytes), 10_000)));
        }
    }
    group.finish();
}

/// A request and its reply through a session that lives on, in chunks of 64 KiB as they are read from a socket.
fn session(c: &mut Criterion) {
    const CHUNK: usize = 64 << 10;
    let mut group = c.benchmark_group("session");
    let (find, ok) = (op_msg(1, 0, &find()), op_msg(2, 1, &rawdoc! { "n": 100, "ok": 1.0 }));
    let small = op_msg(2, 1, &batch(2));
    let zstd = |frame: &[u8]| compressed(frame, Compressor::Zstd);
    let whole = Limits { max_document_bytes: 0, ..Limits::default() };
    let rows = [
        ("find pair", Limits::default(), find.clone(), small.clone()),
        ("find pair in zstd", Limits::default(), zstd(&find), zstd(&small)),
        ("insert of 50 documents", Limits::default(), insert(50), ok.clone()),
        ("insert of 1000 documents, cut", Limits::default(), insert(1000), ok),
        ("1 MB reply, cut", Limits::default(), find.clone(), op_msg(2, 1, &batch(10_000))),
        ("1 MB reply in zstd, cut", Limits::default(), find.clone(), zstd(&op_msg(2, 1, &batch(10_000)))),
        ("1 MB reply, whole", whole, find, op_msg(2, 1, &batch(10_000))),
    ];
    for (name, limits, request, reply) in rows {
        group.throughput(Throughput::Bytes((request.len() + reply.len()) as u64));
        let mut session = Session::new(connection(), at(0), Shared { limits, ..Shared::default() });
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut events = 0;
                let mut emit = |_: mongotap::event::Entry<'_>| events += 1;
                session.handle_bytes(Side::Client, black_box(&request), at(1), &mut emit);
                for chunk in black_box(&reply).chunks(CHUNK) {
                    session.handle_bytes(Side::Server, chunk, at(201), &mut emit);
                }
                assert!(events >= 2);
            });
        });
    }
    group.finish();
}

/// The same find, on to the lines of each format of log.
fn lines(c: &mut Criterion) {
    let mut group = c.benchmark_group("lines");
    let (request, reply) = (op_msg(1, 0, &find()), op_msg(2, 1, &batch(2)));
    group.throughput(Throughput::Bytes((request.len() + reply.len()) as u64));
    for format in Format::ALL {
        let mut pipeline = Pipeline::new(connection(), at(0), Shared::default());
        let mut renderer = format.renderer(&Options::default());
        let mut out = Vec::new();
        group.bench_function(format!("find pair to {}", format.as_str()), |b| {
            b.iter(|| {
                out.clear();
                pipeline.handle_bytes(Side::Client, black_box(&request), at(1), &mut |entry| {
                    renderer.render(entry, &mut out);
                });
                pipeline.handle_bytes(Side::Server, black_box(&reply), at(201), &mut |entry| {
                    renderer.render(entry, &mut out);
                });
                assert!(!out.is_empty());
            });
        });
    }
    group.finish();
}

/// An application's exchanges: each time an insert, a find of what was inserted, and one of a page.
fn exchanges(rounds: u32) -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    let mut add = |request: RawDocumentBuf, reply: RawDocumentBuf| {
        let number = exchanges.len() as u64;
        let at = at(number * 1000);
        exchanges.push(Exchange {
            place: Place::Exchange(number + 1),
            connection: ConnectionId(1),
            app_name: None,
            phase: Phase::App,
            at,
            request: request.into_bytes(),
            wants_reply: true,
            replies: vec![Reply { at: at.after(Duration::from_micros(300)), body: reply.into_bytes() }],
        });
    };
    let id = |n: u32| {
        // As an application's are: scattered, and so hard to compress.
        let bytes = (u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes();
        bson::oid::ObjectId::from_bytes(*bytes.first_chunk().unwrap())
    };
    for n in 0..rounds {
        let document = |n: u32| {
            let mut document = rawdoc! { "_id": id(n) };
            let order = order(n as i32);
            order.iter().flatten().filter(|(name, _)| *name != "_id").for_each(|(name, it)| document.append(name, it));
            document
        };
        add(rawdoc! { "insert": "orders", "documents": [document(n)], "$db": "shop" }, rawdoc! { "n": 1, "ok": 1.0 });
        let found = |documents: bson::RawArrayBuf| {
            rawdoc! { "cursor": { "firstBatch": documents, "id": 0_i64, "ns": "shop.orders" }, "ok": 1.0 }
        };
        let one = [document(n)].into_iter().collect();
        add(rawdoc! { "find": "orders", "filter": { "_id": id(n) }, "limit": 1, "$db": "shop" }, found(one));
        let page = (n.saturating_sub(9)..=n).map(document).collect();
        add(
            rawdoc! { "find": "orders", "filter": { "n": { "$lte": n as i32 } }, "limit": 10, "$db": "shop" },
            found(page),
        );
    }
    exchanges
}

fn replay(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay");
    let exchanges = exchanges(5000);
    let bytes = exchanges.iter().map(|it| it.request.len() + it.replies[0].body.len()).sum::<usize>() as u64;
    let header = Header {
        server: "6.0.5".to_owned(),
        recorded_with: String::new(),
        redacted: false,
        redact: Vec::new(),
        hello: rawdoc! {}.into_bytes(),
    };
    let mut capture = Vec::new();
    record(&header, exchanges.iter().cloned().map(Ok::<_, std::io::Error>), &mut capture).unwrap();
    group.sample_size(10).throughput(Throughput::Bytes(bytes));
    group.bench_function("exchanges of a capture", |b| {
        b.iter(|| assert!(Exchanges::new([black_box(capture.as_slice())]).all(|it| it.is_ok())));
    });
    group.bench_function("index", |b| {
        b.iter(|| {
            let mut indexing = Indexing::new(Settings::default());
            black_box(&exchanges).iter().for_each(|exchange| indexing.add(exchange));
            indexing.finish(Box::new(Vec::new()))
        });
    });
    group.sample_size(50).throughput(Throughput::Elements(1));
    let replaying = Arc::new(Replaying::new(Arc::new(Recording::new(exchanges.clone(), Settings::default()))));
    let mut player = Player::new(replaying);
    for (name, exchange) in [("find one", &exchanges[3001]), ("find ten", &exchanges[3002])] {
        let request =
            Request::decode(&op_msg(1, 0, &RawDocumentBuf::from_bytes(exchange.request.clone()).unwrap()), 1 << 20)
                .unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut replies = Replies::default();
                assert!(matches!(player.handle(request.clone(), at(0), &mut replies), Outcome::Answered));
                replies.next_frame().unwrap()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, codec, walker, session, lines, replay);
criterion_main!(benches);
