//! A capture whose queue is too small: it lets who records wait, or leaves whole exchanges out and says how many.

use std::path::Path;
use std::sync::{Arc, Mutex};

use bson::rawdoc;
use bytes::BytesMut;
use mongotap::capture::log::Item;
use mongotap::capture::mtap::{Header, read_index};
use mongotap::capture::source::Source;
use mongotap::config::{Capture, OnOverflow, Writing};
use mongotap::event::{Address, Connection, ConnectionId, Event, Input, Side, Timestamp};
use mongotap::net::recorder::CaptureFeed;
use mongotap::pipeline::Pipeline;
use mongotap::redact::Redacted;
use mongotap::session::{Limits, Shared};
use mongotap::wire::OpMsg;

use crate::bench::Bench;

const EXCHANGES: i32 = 400;

fn message(id: i32, to: i32, body: &bson::raw::RawDocumentBuf) -> Vec<u8> {
    let mut frame = BytesMut::new();
    OpMsg::new(0, body.as_bytes()).encode(id, to, &mut frame).unwrap();
    frame.to_vec()
}

/// Records exchanges of a connection, two at a time, faster than they are written; what was said is given back.
fn record(capture: &Capture) -> (Vec<String>, u64) {
    let mut bench = Bench::start(&[]);
    let limits = Limits { max_document_bytes: 0, ..Limits::default() };
    let header = Header {
        max_message_bytes: limits.max_message_bytes,
        inflate_max_bytes: limits.inflate_max_bytes,
        ..Header::default()
    };
    bench.recorder.start_capture(capture, header).unwrap();
    let feed: Arc<Mutex<CaptureFeed>> = Arc::new(Mutex::new(bench.recorder.capture_feed().unwrap()));
    let tap = {
        let feed = Arc::clone(&feed);
        Box::new(move |input: &Redacted<Input<'_>>| feed.lock().unwrap().record(input))
    };
    let (client, upstream) = ("127.0.0.1:5000".into(), "127.0.0.1:27017".into());
    let server = Address { host: "127.0.0.1".into(), port: Some(27027) };
    let connection = Connection { id: ConnectionId(1), client, upstream, server, tls: false };
    let mut now = Timestamp::default();
    let shared = Shared { limits, ..Shared::default() };
    let mut pipeline = Pipeline::recorded(Arc::new(connection), now, shared, tap);
    for n in (0..EXCHANGES).step_by(2) {
        for (side, n) in [(Side::Client, n), (Side::Client, n + 1), (Side::Server, n), (Side::Server, n + 1)] {
            now.monotonic_nanos += 1000;
            let bytes = match side {
                Side::Client => message(n, 0, &rawdoc! { "ping": 1, "filler": "x".repeat(20_000), "$db": "shop" }),
                Side::Server => message(n, n, &rawdoc! { "ok": 1.0 }),
            };
            pipeline.handle_bytes(side, &bytes, now, &mut |_| {});
        }
    }
    pipeline.handle_close(Some(Side::Client), None, now, &mut |_| {});
    feed.lock().unwrap().end(now);
    drop((pipeline, feed));
    let said = bench.said();
    let totals = bench.stop();
    let said = said.lock().unwrap().clone();
    (said, totals[0].counts.dropped_exchanges)
}

/// Starts, ends and exchanges that are missing, of what can be derived.
fn read(path: &Path) -> (u64, u64, u64) {
    let mut source = Source::open(std::io::BufReader::new(std::fs::File::open(path).unwrap()), None).unwrap();
    let (mut starts, mut ends, mut missing) = (0, 0, 0);
    while let Some((item, _)) = source.next_item().unwrap() {
        match item {
            Item::Entry(entry) => match &entry.event {
                Event::CommandStarted(_) => starts += 1,
                Event::CommandSucceeded(_) => ends += 1,
                Event::ConnectionCreated(_) | Event::ConnectionReady(_) | Event::ConnectionClosed(_) => {}
                other => panic!("{other:?}"),
            },
            Item::Dropped { exchanges, .. } => missing += exchanges,
            Item::Other => {}
        }
    }
    assert!(source.torn().is_none());
    assert!(read_index(&mut std::fs::File::open(path).unwrap()).unwrap().is_some_and(|index| !index.is_empty()));
    (starts, ends, missing)
}

#[test]
fn who_records_waits_for_a_capture() {
    let directory = tempfile::tempdir().unwrap();
    let capture = Capture {
        writing: Writing { queue_bytes: 1000, on_overflow: OnOverflow::Block, ..Writing::default() },
        ..Capture::to(directory.path().join("run.mtap"))
    };
    assert_eq!(record(&capture), (Vec::new(), 0));
    assert_eq!(read(&capture.path), (EXCHANGES as u64, EXCHANGES as u64, 0));
}

#[test]
fn whole_exchanges_are_left_out_of_a_capture_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.mtap");
    let capture = Capture { writing: Writing { queue_bytes: 1000, ..Writing::default() }, ..Capture::to(&path) };
    let (said, dropped) = record(&capture);
    let (starts, ends, missing) = read(&path);
    assert_eq!((starts, starts + missing, missing), (ends, EXCHANGES as u64, dropped));
    assert!(missing > 0 && starts > 0, "{starts} exchanges, {missing} missing");
    assert!(said.len() == 1 && said[0].starts_with(&format!("capture {}: {dropped} exchanges (", path.display())));
}
