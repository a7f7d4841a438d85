//! The event log keeps its promises: every line that can be rendered has the documented fields and no others.
//!
//! The format is declared here a second time, from its documentation, with unknown fields refused.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

#[path = "log_format/monitoring.rs"]
mod monitoring;
#[path = "log_format/schema.rs"]
mod schema;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::rawdoc;
use mongotap::bson::json::Mode;
use mongotap::capture::log::{Item, LogReader};
use mongotap::event::{
    Action, Address, CloseReason, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Compressor, Connection,
    ConnectionClosed, ConnectionCreated, ConnectionId, ConnectionReady, Document, Entry, Event, Exchange, Failure,
    Measures, Metadata, Phase, ProtocolError, Side, Timestamp, Truncated,
};
use mongotap::redact;
use mongotap::sink::{EventsDropped, Format, Options, RecorderStarted, RecorderStopped};
use serde_json::{Value, json};

use schema::Line;

/// 2026-11-22T07:44:31.867123Z.
const AT: Timestamp = Timestamp { monotonic_nanos: 0, unix_micros: 1_795_333_471_867_123 };

fn connection() -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(7),
        client: "127.0.0.1:40112".to_owned(),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address::parse("[::1]:27027"),
        tls: false,
    })
}

fn info() -> CommandInfo<'static> {
    CommandInfo {
        command_name: "find".into(),
        database_name: "shop".into(),
        collection: Some("orders".into()),
        request_id: -5,
        server_connection_id: Some(12),
        service_id: Some(ObjectId::from_bytes([0xab; 12])),
        exchange: Exchange(9),
        continues: Some(Exchange(8)),
        compressor: Some(Compressor::Zstd),
        sensitive: false,
    }
}

fn bare(info: CommandInfo<'static>) -> CommandInfo<'static> {
    CommandInfo {
        collection: None,
        server_connection_id: None,
        service_id: None,
        continues: None,
        compressor: None,
        ..info
    }
}

fn measures() -> Measures {
    Measures {
        request_bytes: 143,
        reply_bytes: 45,
        first_byte: Some(Duration::from_nanos(350_999)),
        documents: Some(101),
        write_errors: Some(2),
        cursor: Some(i64::MIN),
    }
}

fn started(info: CommandInfo<'static>, command: RawDocumentBuf) -> Event<'static> {
    Event::CommandStarted(CommandStarted { info, command: command.into() })
}

fn failed(info: CommandInfo<'static>, failure: Failure<'static>, measures: Measures) -> Event<'static> {
    Event::CommandFailed(CommandFailed { info, duration: Duration::from_micros(362), failure, measures })
}

fn cut_document() -> Document<'static> {
    Document::cut(rawdoc! { "ok": 1 }.into_bytes(), Some(Truncated { bytes: 1000, elements: 3 }))
}

/// At least one of everything that can be rendered, and what could go wrong in doing so.
fn events() -> Vec<Event<'static>> {
    let hostile = "\"\\\n\r\u{0}\u{1b}\u{2028}\u{202e}\u{7f}";
    let network = |closed_by| Failure::Network { message: format!("gone {hostile}").into(), closed_by };
    let closed = |reason, closed_by| Event::ConnectionClosed(ConnectionClosed { reason, closed_by });
    let succeeded = CommandSucceeded {
        info: info(),
        duration: Duration::from_nanos(362_999),
        reply: cut_document(),
        measures: measures(),
    };
    let named = CommandInfo {
        command_name: hostile.to_owned().into(),
        database_name: hostile.to_owned().into(),
        collection: Some(hostile.to_owned().into()),
        ..info()
    };
    let ready =
        |metadata| ConnectionReady { duration: Duration::from_millis(2), server_connection_id: Some(12), metadata };
    let metadata = Metadata {
        app_name: Some(hostile.to_owned().into()),
        driver: Some("PyMongo".into()),
        driver_version: Some("4.20.0".into()),
        compressors: vec![Compressor::Snappy, Compressor::Zlib, Compressor::Noop],
        tls: true,
    };
    let protocol_error = |side, action| {
        Event::ProtocolError(ProtocolError { side, offset: u64::MAX, message: hostile.to_owned().into(), action })
    };
    vec![
        started(info(), rawdoc! { "find": "orders", "filter": { "a": null }, "$db": "shop" }),
        started(bare(info()), rawdoc! { "ping": 1 }),
        started(named, rawdoc! { "x": hostile }),
        Event::CommandStarted(CommandStarted { info: info(), command: Document::new(&b"\x09\0\0\0\xee\0\0\0\0"[..]) }),
        Event::CommandSucceeded(succeeded.clone()),
        Event::CommandSucceeded(CommandSucceeded {
            info: bare(info()),
            duration: Duration::ZERO,
            reply: Document::empty(),
            measures: Measures::default(),
        }),
        failed(info(), Failure::Reply(cut_document()), measures()),
        failed(info(), network(None), Measures::default()),
        failed(info(), network(Some(Side::Client)), Measures::default()),
        failed(bare(info()), network(Some(Side::Server)), measures()),
        Event::ConnectionCreated(ConnectionCreated {}),
        Event::ConnectionReady(ready(metadata)),
        Event::ConnectionReady(ready(Metadata::default())),
        protocol_error(Side::Client, Action::Tunnelled),
        protocol_error(Side::Server, Action::Forwarded),
        closed(CloseReason::Error, None),
        closed(CloseReason::PoolClosed, Some(Side::Client)),
        closed(CloseReason::Unknown, Some(Side::Server)),
    ]
    .into_iter()
    .chain(monitoring::events())
    .collect()
}

/// The lines as a file has them.
fn lines(format: Format, options: &Options) -> Vec<String> {
    let mut renderer = format.renderer(options);
    let mut lines = Vec::new();
    for phase in Phase::ALL {
        for event in events() {
            let mut out = Vec::new();
            let entry = redact::apply(Entry { at: AT, connection: connection(), phase, event });
            renderer.render(&entry, &mut out);
            lines.push(numbered(lines.len(), out));
        }
    }
    lines
}

fn numbered(seq: usize, line: Vec<u8>) -> String {
    let line = String::from_utf8(line).unwrap();
    let (line, after) = line.split_once('\n').unwrap();
    assert_eq!(after, "", "one line, with nothing after it");
    format!("{{\"seq\":{seq},{line}")
}

#[test]
fn every_line_has_the_documented_fields() {
    for extended_json in [Mode::Relaxed, Mode::Canonical] {
        for max_document_bytes in [0, 20, 10_000] {
            let options = Options { extended_json, max_document_bytes, ..Options::default() };
            let lines = lines(Format::Jsonl, &options);
            assert_eq!(lines.len(), Phase::ALL.len() * events().len());
            for line in lines {
                check(&schema::parse(&line), &line);
            }
        }
    }
}

/// Which fields go with which event.
fn check(line: &Line, text: &str) {
    match line {
        Line::Started(event) => {
            assert!(event.command.is_some() && event.duration_micros.is_none(), "{text}");
            assert!(event.reply.is_none() && event.failure.is_none(), "{text}");
            assert!(event.proxy.request_bytes.is_none() && event.proxy.first_byte_micros.is_none(), "{text}");
        }
        Line::Succeeded(event) => {
            assert!(event.reply.is_some() && event.duration_micros.is_some(), "{text}");
            assert!(event.command.is_none() && event.failure.is_none(), "{text}");
        }
        Line::Failed(event) => {
            assert!(event.failure.is_some() && event.duration_micros.is_some(), "{text}");
            assert!(event.command.is_none() && event.reply.is_none(), "{text}");
        }
        Line::Created(event) => assert!(event.reason.is_none() && event.proxy.tls.is_none(), "{text}"),
        Line::Ready(event) => assert!(event.duration_micros.is_some() && event.proxy.tls.is_some(), "{text}"),
        Line::Closed(event) => assert!(event.reason.is_some() && event.proxy.closed_by.is_some(), "{text}"),
        Line::ProtocolError(_) => {}
        Line::RecorderStarted(_) | Line::RecorderStopped(_) | Line::EventsDropped(_) => panic!("{text}"),
        of_monitoring => monitoring::check(of_monitoring, text),
    }
}

#[test]
fn the_values_are_those_of_the_events() {
    let lines = lines(Format::Jsonl, &Options::default());
    let Line::Started(event) = schema::parse(&lines[0]) else { panic!("{}", lines[0]) };
    assert_eq!((event.command_name.as_str(), event.database_name.as_str(), event.request_id), ("find", "shop", -5));
    assert_eq!(event.connection_id, "[::1]:27027");
    assert_eq!(event.server_connection_id, Some(12));
    assert_eq!(event.service_id.as_deref(), Some("abababababababababababab"));
    assert_eq!(
        Value::Object(event.command.unwrap()),
        json!({ "find": "orders", "filter": { "a": null }, "$db": "shop" })
    );
    let proxy = event.proxy;
    assert_eq!((proxy.connection, proxy.exchange, proxy.continues), (7, 9, Some(8)));
    assert_eq!((proxy.client.as_str(), proxy.upstream.as_str()), ("127.0.0.1:40112", "127.0.0.1:27017"));
    assert_eq!((proxy.phase.as_str(), proxy.compressor.as_deref()), ("app", Some("zstd")));
    assert_eq!(proxy.collection.as_deref(), Some("orders"));

    let Line::Succeeded(event) = schema::parse(&lines[4]) else { panic!("{}", lines[4]) };
    assert_eq!(event.duration_micros, Some(362), "truncated, not rounded");
    let proxy = event.proxy;
    assert_eq!((proxy.request_bytes, proxy.reply_bytes, proxy.first_byte_micros), (Some(143), Some(45), Some(350)));
    assert_eq!((proxy.documents, proxy.write_errors), (Some(101), Some(2)));
    assert_eq!(proxy.cursor.as_deref(), Some("-9223372036854775808"));
    let truncated = proxy.truncated.unwrap();
    assert_eq!((truncated.bytes, truncated.elements), (1000, 3));

    let Line::Failed(event) = schema::parse(&lines[8]) else { panic!("{}", lines[8]) };
    let message = event.failure.unwrap();
    assert_eq!(message.keys().collect::<Vec<_>>(), ["message"]);
    assert_eq!(message["message"], "gone \"\\\n\r\u{0}\u{1b}\u{2028}\u{202e}\u{7f}");
    assert_eq!(event.proxy.closed_by.as_deref(), Some("client"));
    assert_eq!(event.proxy.request_bytes, None);

    let Line::Ready(event) = schema::parse(&lines[11]) else { panic!("{}", lines[11]) };
    assert_eq!((event.address.as_str(), event.driver_connection_id), ("[::1]:27027", 7));
    assert_eq!((event.duration_micros, event.server_connection_id), (Some(2000), Some(12)));
    assert_eq!(event.proxy.compressors.unwrap(), ["snappy", "zlib", "noop"]);
    assert_eq!((event.proxy.driver.as_deref(), event.proxy.tls), (Some("PyMongo"), Some(true)));
    assert_eq!(event.proxy.driver_version.as_deref(), Some("4.20.0"));
    assert!(event.proxy.app_name.unwrap().starts_with("\"\\\n\r"));
    assert_eq!((event.proxy.connection, event.proxy.phase.as_str()), (7, "app"));
    assert_eq!((event.proxy.client.as_str(), event.proxy.upstream.as_str()), ("127.0.0.1:40112", "127.0.0.1:27017"));

    let Line::ProtocolError(event) = schema::parse(&lines[13]) else { panic!("{}", lines[13]) };
    assert_eq!((event.side.as_str(), event.action.as_str(), event.offset), ("client", "tunnelled", u64::MAX));
    assert_eq!((event.message.len(), event.proxy.connection), (13, 7));

    let closers: Vec<_> = lines[15..18]
        .iter()
        .map(|line| match schema::parse(line) {
            Line::Closed(event) => (event.reason.unwrap(), event.proxy.closed_by.unwrap()),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [("error", "proxy"), ("poolClosed", "client"), ("unknown", "server")];
    assert_eq!(closers, expected.map(|(reason, by)| (reason.to_owned(), by.to_owned())));
}

/// What is read back is rendered as what it was read from.
#[test]
fn a_log_that_is_read_and_written_is_the_same() {
    for extended_json in [Mode::Relaxed, Mode::Canonical] {
        let options = Options { extended_json, ..Options::default() };
        let whole = |line: &String| !line.contains("$undecodable");
        let lines: Vec<_> = lines(Format::Jsonl, &options).into_iter().filter(whole).collect();
        let log = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let (mut reader, mut renderer) = (LogReader::new(log.as_bytes()), Format::Jsonl.renderer(&options));
        for (seq, line) in lines.iter().enumerate() {
            let Ok(Some((Item::Entry(entry), _))) = reader.next_line() else { panic!("{line}") };
            let mut out = Vec::new();
            renderer.render(&entry, &mut out);
            assert_eq!(without_seq(&numbered(seq, out)), without_seq(line));
        }
    }
}

fn without_seq(line: &str) -> &str {
    line.split_once(",\"event\"").unwrap().1
}

#[test]
fn a_connection_that_is_not_the_same_is_not_taken_for_it() {
    let mut renderer = Format::Jsonl.renderer(&Options::default());
    let mut out = Vec::new();
    for client in ["10.0.0.1:1", "10.0.0.2:2"] {
        let connection = Arc::new(Connection { client: client.to_owned(), ..Connection::clone(&connection()) });
        let event = started(info(), rawdoc! { "ping": 1 });
        renderer.render(&redact::apply(Entry { at: AT, connection, phase: Phase::App, event }), &mut out);
    }
    let text = String::from_utf8(out).unwrap();
    let clients: Vec<_> = text.lines().map(|line| line.contains("10.0.0.2:2")).collect();
    assert_eq!(clients, [false, true]);
}

#[test]
fn a_longer_document_is_cut_and_both_cuts_are_told() {
    let long: RawArrayBuf = (0..100).map(|n| rawdoc! { "n": n, "text": "x".repeat(100) }).collect();
    let reply = rawdoc! { "cursor": { "firstBatch": long, "id": 5_i64, "ns": "shop.orders" }, "ok": 1.0 };
    let before = Truncated { bytes: 1_000_000, elements: 7 };
    let event = Event::CommandSucceeded(CommandSucceeded {
        info: info(),
        duration: Duration::from_micros(362),
        reply: Document::cut(Cow::Owned(reply.as_bytes().to_vec()), Some(before)),
        measures: measures(),
    });
    let options = Options { max_document_bytes: 1000, ..Options::default() };
    let mut out = Vec::new();
    let entry = redact::apply(Entry { at: AT, connection: connection(), phase: Phase::App, event });
    Format::Jsonl.renderer(&options).render(&entry, &mut out);
    let Line::Succeeded(event) = schema::parse(&numbered(0, out)) else { panic!() };
    let reply = event.reply.unwrap();
    let shown = reply["cursor"]["firstBatch"].as_array().unwrap().len();
    assert!((1..20).contains(&shown), "{shown} documents are left");
    assert_eq!(
        (&reply["cursor"]["id"], &reply["cursor"]["ns"], &reply["ok"]),
        (&json!(5), &json!("shop.orders"), &json!(1.0))
    );
    let truncated = event.proxy.truncated.unwrap();
    assert!(truncated.bytes > before.bytes + 8000, "{truncated:?}");
    assert!(truncated.elements >= before.elements + 80, "{truncated:?}");
}

#[test]
fn the_recorders_own_lines() {
    let mut lines = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        lines.push(numbered(lines.len(), out));
    };
    let begun = RecorderStarted {
        at: AT,
        version: "0.1.0",
        run: "a\"b",
        listen: "127.0.0.1:27027",
        upstream: "/tmp/m.sock",
        log: 2,
    };
    add(&|out| Format::Jsonl.recorder_started(&begun, out));
    add(&|out| {
        Format::Jsonl.events_dropped(&EventsDropped { at: AT, exchanges: 3, bytes: 900, reason: "queue full" }, out)
    });
    let ended = RecorderStopped { at: AT, exchanges: 10, events: 21, dropped_exchanges: 3, dropped_bytes: 900 };
    add(&|out| Format::Jsonl.recorder_stopped(&ended, out));

    let Line::RecorderStarted(event) = schema::parse(&lines[0]) else { panic!() };
    assert_eq!((event.version.as_str(), event.log_version, event.run.as_str()), ("0.1.0", 1, "a\"b"));
    assert_eq!((event.listen.as_str(), event.upstream.as_str()), ("127.0.0.1:27027", "/tmp/m.sock"));
    assert_eq!(event.log, Some(2));
    let Line::EventsDropped(event) = schema::parse(&lines[1]) else { panic!() };
    assert_eq!((event.exchanges, event.bytes, event.reason.as_str()), (3, 900, "queue full"));
    let Line::RecorderStopped(event) = schema::parse(&lines[2]) else { panic!() };
    assert_eq!((event.events, event.exchanges, event.dropped_exchanges, event.dropped_bytes), (21, 10, 3, 900));
    assert!(lines[0].starts_with("{\"seq\":0,\"event\":\"recorderStartedEvent\""));
}

/// The example in the module's documentation is what is rendered today, not only something that parses.
#[test]
fn the_documented_example() {
    let source = include_str!("../src/sink/jsonl.rs");
    let example = source.split("//! ```json\n").nth(1).unwrap().split("//! ```\n").next().unwrap();
    let example: Vec<_> = example.lines().map(|line| line.strip_prefix("//! ").unwrap()).collect();
    let parsed: Vec<_> = example.iter().map(|line| schema::parse(line)).collect();
    assert!(matches!(parsed[..], [Line::RecorderStarted(_), Line::Started(_), Line::Succeeded(_)]), "{parsed:?}");

    let connection = Arc::new(Connection {
        id: ConnectionId(1),
        server: Address::parse("localhost:27027"),
        ..Connection::clone(&connection())
    });
    let info = CommandInfo {
        command_name: "insert".into(),
        collection: Some("orders".into()),
        request_id: 50073,
        exchange: Exchange(1),
        server_connection_id: Some(12),
        ..bare(info())
    };
    let order = rawdoc! { "_id": ObjectId::parse_str("6741c1dff1e2d3c4b5a69788").unwrap(), "total": 12.5 };
    let command = rawdoc! { "insert": "orders", "ordered": true, "$db": "shop", "documents": [order] };
    let succeeded = CommandSucceeded {
        info: info.clone(),
        duration: Duration::from_micros(362),
        reply: rawdoc! { "n": 1, "ok": 1.0 }.into(),
        measures: Measures {
            request_bytes: 143,
            reply_bytes: 45,
            first_byte: Some(Duration::from_micros(350)),
            ..Measures::default()
        },
    };
    let mut renderer = Format::Jsonl.renderer(&Options::default());
    let events = [started(info, command), Event::CommandSucceeded(succeeded)];
    for (event, line) in events.into_iter().zip(&example[1..]) {
        let micros = AT.unix_micros + if line.contains("Succeeded") { 362 } else { 0 };
        let at = Timestamp { unix_micros: micros, ..AT };
        let mut out = Vec::new();
        let entry = Entry { at, connection: Arc::clone(&connection), phase: Phase::App, event };
        renderer.render(&redact::apply(entry), &mut out);
        let seq = if line.contains("Succeeded") { 2 } else { 1 };
        assert_eq!(&numbered(seq, out), line);
    }
}
