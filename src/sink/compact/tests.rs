//! What compact lines look like, and that nothing hostile gets into them.

use ::bson::oid::ObjectId;
use ::bson::raw::RawDocumentBuf;
use ::bson::rawdoc;

use super::*;
use crate::event::{
    Action, CloseReason, CommandSucceeded, ConnectionClosed, ConnectionCreated, ConnectionReady, Document, Exchange,
    Failure, Metadata, Side, Truncated,
};
use crate::sink::sample::{AT, entry, failed, said_no, started, succeeded};

fn rendered(options: Options, events: impl IntoIterator<Item = Event<'static>>) -> String {
    let mut renderer = Compact::new(&options);
    let mut out = Vec::new();
    for event in events {
        renderer.render(&entry(event), &mut out);
    }
    String::from_utf8(out).unwrap()
}

/// What follows the time and the connection.
fn line(namespace: &str, body: RawDocumentBuf, reply: RawDocumentBuf) -> String {
    changed(namespace, body, reply, |_| {})
}

fn changed(
    namespace: &str,
    body: RawDocumentBuf,
    reply: RawDocumentBuf,
    change: impl FnOnce(&mut CommandSucceeded<'static>),
) -> String {
    let start = started(namespace, body);
    let mut end = succeeded(&start, 362, reply);
    change(&mut end);
    let text = rendered(Options::default(), [start.into(), end.into()]);
    text.strip_prefix("07:44:31.867Z c1 ").unwrap().strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn reads() {
    let find = rawdoc! { "find": "orders", "filter": { "status": "open", "n": { "$gt": 5_i64 } }, "sort": { "total": -1 },
    "limit": 10, "lsid": { "id": 1 }, "$db": "shop" };
    assert_eq!(
        changed("shop.orders", find, rawdoc! { "ok": 1.0 }, |end| end.measures.documents = Some(12)),
        "shop.orders find {status: \"open\", n: {$gt: 5}} sort {total: -1} limit 10  12 docs  362µs"
    );
    let all = rawdoc! { "find": "orders", "filter": {}, "skip": 0, "limit": 0 };
    let more = |end: &mut CommandSucceeded<'_>| {
        end.measures.documents = Some(101);
        end.measures.cursor = Some(5);
    };
    assert_eq!(changed("shop.orders", all, rawdoc! { "ok": 1.0 }, more), "shop.orders find {}  101 docs+  362µs");
    let aggregate = rawdoc! { "aggregate": "orders", "pipeline": [{ "$match": { "a": 1 } }, { "$group": { "_id": 1 } }],
    "cursor": {} };
    assert_eq!(
        changed("shop.orders", aggregate, rawdoc! { "ok": 1.0 }, |end| end.measures.documents = Some(1)),
        "shop.orders aggregate [$match, $group]  1 doc  362µs"
    );
    let more = rawdoc! { "getMore": 7_000_000_000_i64, "collection": "orders", "batchSize": 100 };
    assert_eq!(
        changed("shop.orders", more, rawdoc! { "ok": 1.0 }, |end| end.measures.documents = Some(0)),
        "shop.orders getMore cursor 7000000000 batchSize 100  0 docs  362µs"
    );
    let distinct = rawdoc! { "distinct": "orders", "key": "status", "query": { "a": true } };
    assert_eq!(
        line("shop.orders", distinct, rawdoc! { "values": ["open", "paid"], "ok": 1 }),
        "shop.orders distinct \"status\" {a: true}  values=2  362µs"
    );
    let count = rawdoc! { "count": "orders", "query": {} };
    assert_eq!(line("shop.orders", count, rawdoc! { "n": 40, "ok": 1 }), "shop.orders count {}  n=40  362µs");
    let kill = rawdoc! { "killCursors": "orders", "cursors": [1_i64] };
    assert_eq!(line("shop.orders", kill, rawdoc! { "ok": 1 }), "shop.orders killCursors 1 cursor  ok  362µs");
}

#[test]
fn writes() {
    let insert = rawdoc! { "insert": "orders", "ordered": true, "documents": [{ "a": 1 }, { "a": 2 }] };
    assert_eq!(
        line("shop.orders", insert.clone(), rawdoc! { "n": 2, "ok": 1 }),
        "shop.orders insert 2 docs  n=2  362µs"
    );
    let errors = rawdoc! { "n": 1, "writeErrors": [{ "index": 0, "code": 11000 }], "ok": 1 };
    assert_eq!(line("shop.orders", insert, errors), "shop.orders insert 2 docs  n=1 1 write error (code 11000)  362µs");
    let unanswered = changed("shop.orders", rawdoc! { "insert": "orders" }, rawdoc! { "ok": 1 }, |end| {
        end.measures.reply_bytes = 0;
    });
    assert_eq!(unanswered, "shop.orders insert  unacknowledged  362µs");
    let update = rawdoc! { "update": "orders", "updates": [
    { "q": { "_id": ObjectId::from_bytes([7; 12]) }, "u": { "$set": { "a": 1 } } }, { "q": {}, "u": {} }] };
    assert_eq!(
        line("shop.orders", update, rawdoc! { "n": 1, "nModified": 1, "ok": 1 }),
        "shop.orders update {_id: 070707070707070707070707} {$set: {a: 1}} and 1 more  n=1 modified=1  362µs"
    );
    let delete = rawdoc! { "delete": "orders", "deletes": [{ "q": { "a": null }, "limit": 1 }] };
    assert_eq!(line("shop.orders", delete, rawdoc! { "n": 0, "ok": 1 }), "shop.orders delete {a: null}  n=0  362µs");
    let modify = rawdoc! { "findAndModify": "orders", "query": { "a": 1 }, "update": { "$inc": { "a": 1 } } };
    assert_eq!(
        line("shop.orders", modify, rawdoc! { "lastErrorObject": { "n": 1 }, "value": {}, "ok": 1 }),
        "shop.orders findAndModify {a: 1} {$inc: {a: 1}}  n=1  362µs"
    );
}

#[test]
fn writes_that_were_cut_show_a_number_only_if_it_is_known() {
    let cut = |body: RawDocumentBuf| {
        let mut start = started("shop.orders", body.clone());
        start.command = Document::cut(body.into_bytes(), Some(Truncated { bytes: 500, elements: 9 }));
        start
    };
    let line = |start: &CommandStarted<'static>, end: Event<'static>| {
        let text = rendered(Options::default(), [start.clone().into(), end]);
        text.strip_prefix("07:44:31.867Z c1 shop.orders ").unwrap().strip_suffix("  362µs\n").unwrap().to_owned()
    };
    let insert = cut(rawdoc! { "insert": "orders", "documents": [{ "a": 1 }, { "a": 2 }] });
    let answered = |reply| line(&insert, succeeded(&insert, 362, reply).into());
    assert_eq!(answered(rawdoc! { "n": 10, "ok": 1 }), "insert 10 docs  n=10");
    let errors = rawdoc! { "n": 4, "writeErrors": [{ "index": 4, "code": 11000 }], "ok": 1 };
    assert_eq!(answered(errors), "insert many docs  n=4 1 write error (code 11000)");
    assert_eq!(answered(rawdoc! { "ok": 1 }), "insert many docs  ok");
    let refused = failed(&insert, 362, said_no(rawdoc! { "code": 18 }));
    assert_eq!(line(&insert, refused.into()), "insert many docs  failed: code 18");
    let first = cut(rawdoc! { "insert": "orders", "documents": [{}] });
    let refused = failed(&first, 362, said_no(rawdoc! { "code": 18 }));
    assert_eq!(line(&first, refused.into()), "insert docs  failed: code 18", "one or more");
    let update = cut(rawdoc! { "update": "orders", "updates": [{ "q": { "a": 1 }, "u": { "a": 2 } }] });
    let end = succeeded(&update, 362, rawdoc! { "n": 10, "nModified": 9, "ok": 1 });
    assert_eq!(line(&update, end.into()), "update {a: 1} {a: 2} …  n=10 modified=9");
    let delete = cut(rawdoc! { "delete": "orders", "deletes": [{ "q": { "a": 1 } }, { "q": { "a": 2 } }] });
    let end = succeeded(&delete, 362, rawdoc! { "n": 10, "ok": 1 });
    assert_eq!(line(&delete, end.into()), "delete {a: 1} and many more  n=10");
}

#[test]
fn other_commands_show_their_scalars() {
    let create = rawdoc! { "createIndexes": "orders", "indexes": [{ "key": { "a": 1 }, "name": "a_1" }] };
    assert_eq!(line("shop.orders", create, rawdoc! { "ok": 1 }), "shop.orders createIndexes [a_1]  ok  362µs");
    let ping = rawdoc! { "ping": 1, "$db": "admin", "lsid": {} };
    assert_eq!(line("admin", ping, rawdoc! { "ok": 1 }), "admin ping  ok  362µs");
    let parameter = rawdoc! { "setParameter": 1, "logLevel": 2, "$db": "admin" };
    assert_eq!(line("admin", parameter, rawdoc! { "ok": 1 }), "admin setParameter logLevel: 2  ok  362µs");
    let compact = rawdoc! { "drop": "orders", "$db": "shop" };
    assert_eq!(line("shop.orders", compact, rawdoc! { "ok": 1 }), "shop.orders drop  ok  362µs");
    let explain = rawdoc! { "explain": { "find": "orders" }, "verbosity": "queryPlanner" };
    assert_eq!(line("shop", explain, rawdoc! { "ok": 1 }), "shop explain {find: \"orders\"}  ok  362µs");
    assert_eq!(line("admin", rawdoc! { "saslStart": 1 }, rawdoc! {}), "admin saslStart  ok  362µs");
}

#[test]
fn values_of_every_kind_are_short() {
    let binary = ::bson::Binary { subtype: ::bson::spec::BinarySubtype::Generic, bytes: vec![1, 2, 3] };
    let filter = rawdoc! { "double": 1.0, "string": "text ü", "document": { "a": { "b": [] } }, "array": [1, [3_i64]],
    "binary": binary, "undefined": ::bson::RawBson::Undefined, "yes": true, "none": null,
    "date": ::bson::DateTime::from_millis(1_577_836_800_123), "code": ::bson::RawBson::JavaScriptCode("f()".into()),
    "symbol": ::bson::RawBson::Symbol("s".into()) };
    assert_eq!(
        line("d.c", rawdoc! { "find": "c", "filter": filter }, rawdoc! { "ok": 1 }),
        "d.c find {double: 1.0, string: \"text ü\", document: {a: {b: []}}, array: [1, [3]], binary: Binary(3), \
         undefined: undefined, yes: true, none: null, date: 2020-01-01T00:00:00.123Z, code: Code, symbol: \"s\"}  \
         ok  362µs"
    );
    let long = rawdoc! { "find": "c", "filter": { "a": "b".repeat(5000) } };
    let text = line("d.c", long, rawdoc! { "ok": 1 });
    assert!(text.ends_with("bbb…  ok  362µs") && text.len() < 350, "{text}");
    let uuid = ::bson::Binary { subtype: ::bson::spec::BinarySubtype::Uuid, bytes: (0..16).collect() };
    let rest = rawdoc! { "find": "c", "filter": { "u": uuid, "r": ::bson::Regex { pattern: "^a".try_into().unwrap(),
    options: "i".try_into().unwrap() }, "t": ::bson::Timestamp { time: 5, increment: 6 }, "l": 1_i64 << 60,
    "d": "1.5".parse::<::bson::Decimal128>().unwrap(), "x": ::bson::RawBson::MaxKey, "q": "a\"b\\c" } };
    assert_eq!(
        line("d.c", rest, rawdoc! { "ok": 1 }),
        "d.c find {u: 00010203-0405-0607-0809-0a0b0c0d0e0f, r: /^a/i, t: Timestamp(5, 6), l: 1152921504606846976, \
         d: 1.5, x: MaxKey, q: \"a\\\"b\\\\c\"}  ok  362µs"
    );
}

#[test]
fn failures() {
    let start = started("shop.orders", rawdoc! { "find": "orders", "filter": {} });
    for (failure, shown) in [
        (
            said_no(rawdoc! { "ok": 0, "errmsg": "ns\nnot found", "code": 26, "codeName": "NamespaceNotFound" }),
            "failed: NamespaceNotFound (26): ns\\nnot found",
        ),
        (said_no(rawdoc! { "code": 18 }), "failed: code 18"),
        (said_no(rawdoc! {}), "failed: error"),
        (
            Failure::Network { message: "connection closed by the server".into(), closed_by: Some(Side::Server) },
            "failed: connection closed by the server",
        ),
    ] {
        let text = rendered(Options::default(), [start.clone().into(), failed(&start, 5, failure).into()]);
        assert_eq!(text, format!("07:44:31.867Z c1 shop.orders find {{}}  {shown}  5µs\n"));
    }
}

#[test]
fn slow_ones_stand_out_without_colour() {
    let slow = |body: RawDocumentBuf, micros| {
        let start = started("shop.orders", body);
        let end = succeeded(&start, micros, rawdoc! { "ok": 1 });
        rendered(Options::default(), [start.into(), end.into()])
    };
    assert!(slow(rawdoc! { "find": "orders" }, 100_000).ends_with("  slow 100ms\n"));
    assert!(slow(rawdoc! { "find": "orders" }, 99_999).ends_with("  ok  99.9ms\n"));
    // A tailing getMore and an awaitable hello were asked to take long.
    assert!(slow(rawdoc! { "getMore": 5_i64, "maxTimeMS": 1000 }, 1_000_000).ends_with("  ok  1.00s\n"));
    assert!(slow(rawdoc! { "hello": 1, "maxAwaitTimeMS": 10_000 }, 10_000_000).ends_with("  ok  10.0s\n"));
}

#[test]
fn colour_adds_nothing_but_colour() {
    let start = started("shop.orders", rawdoc! { "find": "orders", "filter": {} });
    let events = || {
        let end = failed(&start, 500_000, said_no(rawdoc! { "code": 1 }));
        [Event::from(start.clone()), end.into()]
    };
    for width in [None, Some(100)] {
        let plain = rendered(Options { width, ..Options::default() }, events());
        let mut coloured = rendered(Options { width, colour: true, ..Options::default() }, events());
        assert!(coloured.contains("\x1b[31mfailed"), "{coloured:?}");
        for code in ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m"] {
            coloured = coloured.replace(code, "");
        }
        assert_eq!(coloured, plain);
    }
}

#[test]
fn a_line_fits_the_terminal_and_says_what_matters() {
    let long = "数".repeat(500);
    let find = started("shop.orders", rawdoc! { "find": "orders", "filter": { "name": long.as_str() } });
    let error = rawdoc! { "code": 11000, "codeName": "DuplicateKey", "errmsg": "x".repeat(500) };
    for width in 60..200 {
        let options = Options { width: Some(width), ..Options::default() };
        let text = rendered(options, [find.clone().into(), succeeded(&find, 362, rawdoc! { "ok": 1 }).into()]);
        assert_eq!(columns(text.trim_end_matches('\n')), width);
        assert!(text.contains("  ok   362µs\n") && text.contains("find "), "{text}");
        let text = rendered(options, [find.clone().into(), failed(&find, 362, said_no(error.clone())).into()]);
        assert_eq!(columns(text.trim_end_matches('\n')), width);
        assert!(text.contains("failed:") && text.contains("362µs\n"), "{text}");
    }
    let wide = rendered(
        Options { width: Some(100), ..Options::default() },
        [
            Event::from(started("admin", rawdoc! { "ping": 1 })),
            succeeded(&started("admin", rawdoc! { "ping": 1 }), 5, rawdoc! { "ok": 1 }).into(),
        ],
    );
    assert_eq!(columns(wide.trim_end_matches('\n')), 100, "outcomes stand at the right edge");
}

#[test]
fn nothing_hostile_reaches_the_terminal() {
    let evil = "\x1b]0;owned\x07\n\u{202e}\u{9b}2J";
    let mut body = rawdoc! {};
    body.append(::bson::raw::CString::try_from(evil.to_owned()).unwrap(), evil);
    body.append(::bson::raw::CString::try_from(format!("{evil}2")).unwrap(), evil);
    let mut start = started("x", body);
    start.info.database_name = evil.into();
    start.info.collection = Some(evil.into());
    let metadata = Metadata {
        app_name: Some(evil.into()),
        driver: Some(evil.into()),
        driver_version: Some(evil.into()),
        ..Metadata::default()
    };
    let ready = ConnectionReady { duration: Duration::ZERO, server_connection_id: None, metadata };
    let error = ProtocolError { side: Side::Client, offset: 0, message: evil.into(), action: Action::Tunnelled };
    let said = rawdoc! { "codeName": evil, "errmsg": evil };
    let gone = Failure::Network { message: evil.into(), closed_by: None };
    let find = started("x.y", rawdoc! { "find": evil, "filter": { "a": evil, "b": [evil] }, "sort": evil });
    let stages = started("x.y", rawdoc! { "aggregate": evil, "pipeline": [{ "a\x1bb": 1 }, evil] });
    let indexes = started("x.y", rawdoc! { "createIndexes": evil, "indexes": [{ "name": evil }] });
    for width in [None, Some(60)] {
        let events = [
            start.clone().into(),
            failed(&start, 5, said_no(said.clone())).into(),
            start.clone().into(),
            failed(&start, 5, gone.clone()).into(),
            find.clone().into(),
            succeeded(&find, 5, rawdoc! { "ok": 1 }).into(),
            stages.clone().into(),
            succeeded(&stages, 5, rawdoc! { "ok": 1 }).into(),
            indexes.clone().into(),
            succeeded(&indexes, 5, rawdoc! { "ok": 1 }).into(),
            ready.clone().into(),
            error.clone().into(),
        ];
        let text = rendered(Options { width, ..Options::default() }, events);
        assert_eq!(text.lines().count(), 7);
        let hidden: Vec<_> = text.chars().filter(|it| it.is_control() && *it != '\n' || *it == '\u{202e}').collect();
        assert!(hidden.is_empty(), "{text:?}");
    }
}

#[test]
fn connections_and_what_is_missing() {
    let ready = ConnectionReady {
        duration: Duration::from_micros(2300),
        server_connection_id: None,
        metadata: Metadata { app_name: Some("shop".into()), driver: Some("PyMongo".into()), ..Metadata::default() },
    };
    let closed = ConnectionClosed { reason: CloseReason::Error, closed_by: None };
    let error =
        ProtocolError { side: Side::Server, offset: 16, message: "unknown opcode 7".into(), action: Action::Forwarded };
    let mut text =
        rendered(Options::default(), [ConnectionCreated {}.into(), ready.into(), error.into(), closed.into()])
            .into_bytes();
    events_dropped(&EventsDropped { at: AT, exchanges: 3, bytes: 900, reason: "queue full" }, &mut text);
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "07:44:31.867Z c1 connected from 127.0.0.1:40112\n\
         07:44:31.867Z c1 ready shop PyMongo  2.30ms\n\
         07:44:31.867Z c1 protocol error from the server at byte 16, forwarded: unknown opcode 7\n\
         07:44:31.867Z c1 closed by the proxy, reason: error\n\
         07:44:31.867Z log incomplete: 3 exchanges (900 bytes) dropped, queue full\n"
    );
}

#[test]
fn an_end_without_its_start_is_shown_all_the_same() {
    let start = started("shop.orders", rawdoc! { "find": "orders", "filter": {} });
    let text = rendered(Options::default(), [succeeded(&start, 362, rawdoc! { "ok": 1 }).into()]);
    assert_eq!(text, "07:44:31.867Z c1 shop.orders find  ok  362µs\n");
}

#[test]
fn memory_is_bounded() {
    let mut renderer = Compact::new(&Options::default());
    let mut start = started("shop.orders", rawdoc! { "find": "orders", "filter": { "a": "x".repeat(100_000) } });
    for exchange in 0..COMMANDS_REMEMBERED as u64 * 2 + 3 {
        start.info.exchange = Exchange(exchange);
        renderer.remember(&start);
        let last = renderer.started.get_mut(exchange).unwrap();
        assert!(last.arguments.capacity() <= 4 * ARGUMENTS_MAX + 16, "{}", last.arguments.capacity());
    }
    assert!(renderer.started.get_mut(0).is_none());
}

proptest::proptest! {
    #[test]
    fn any_bytes_make_a_line(bytes: Vec<u8>, name in "find|insert|update|aggregate|getMore|x", width in 0usize..120) {
        let mut start = started("shop.orders", rawdoc! { "find": 1 });
        start.info.command_name = name.into();
        start.command = Document::new(bytes.clone());
        let mut end = succeeded(&start, 362, rawdoc! {});
        end.reply = Document::new(bytes);
        let text = rendered(Options { width: Some(width), ..Options::default() }, [start.into(), end.into()]);
        proptest::prop_assert_eq!(text.lines().count(), 1);
    }
}
