//! The fixture format: what is written reads back as it was, the shipped fixture is as a program writes it, and a file
//! edited wrongly is refused with the place and what was expected there.

#![expect(clippy::unwrap_used, reason = "a case that is not as it should be fails its test")]

#[path = "fixture/names.rs"]
mod names;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Timestamp as BsonTimestamp, doc};
use mongotap::capture::exchange::{Exchange, Place};
use mongotap::capture::fixture::{FileNames, Fixture, Header};
use mongotap::event::Timestamp;
use proptest::prelude::*;

const DEMO: &str = include_str!("../fixtures/demo.jsonl");

fn header() -> Header {
    let hello = doc! { "isWritablePrimary": true, "maxWireVersion": 17, "ok": 1.0 }.to_vec().unwrap();
    Header {
        server: "6.0.5".to_owned(),
        recorded_with: "a \"quoted\" command".to_owned(),
        redacted: false,
        redact: Vec::new(),
        hello,
    }
}

/// A time of a real recording.
const NOW_MS: i64 = 1_767_261_612_345;

fn exchange(request: &Document, replies: &[Document]) -> Exchange {
    exchange_at(NOW_MS, request, replies)
}

fn exchange_at(ms: i64, request: &Document, replies: &[Document]) -> Exchange {
    let at = Timestamp { monotonic_nanos: 0, unix_micros: ms * 1000 };
    let replies = replies.iter().map(|reply| reply.to_vec().unwrap());
    Exchange::new(Place::Line(0), at, request.to_vec().unwrap(), replies)
}

fn fixture(exchanges: Vec<Exchange>) -> Fixture {
    Fixture { header: header(), exchanges, names: FileNames::default() }
}

/// The documents of the exchanges.
fn documents(fixture: &Fixture) -> Vec<(Document, Vec<Document>)> {
    let document = |bytes: &[u8]| Document::from_reader(bytes).unwrap();
    let replies = |exchange: &Exchange| exchange.replies.iter().map(|reply| document(&reply.body)).collect();
    fixture.exchanges.iter().map(|exchange| (document(&exchange.request), replies(exchange))).collect()
}

/// The lines after the header.
fn body(text: &str) -> &str {
    text.split_once('\n').unwrap().1
}

#[test]
fn each_document_of_a_batch_has_a_line() {
    let insert =
        doc! { "insert": "orders", "documents": [{ "_id": 1, "price": 2.5 }, { "_id": 2_i64 }], "$db": "shop" };
    let find = doc! { "find": "orders", "$db": "shop" };
    let found = doc! { "cursor": { "firstBatch": [{ "_id": 1 }], "id": 0_i64, "ns": "shop.orders" }, "ok": 1.0 };
    let unanswered = doc! { "insert": "orders", "documents": [], "$db": "shop" };
    let exchanges =
        vec![exchange(&insert, &[doc! { "n": 2, "ok": 1.0 }]), exchange(&find, &[found]), exchange(&unanswered, &[])];
    let fixture = fixture(exchanges);
    let text = fixture.to_text();
    let expected = concat!(
        r#"{"mongotap":"fixture","version":1,"server":"6.0.5","recordedWith":"a \"quoted\" command","#,
        r#""hello":{"isWritablePrimary":true,"maxWireVersion":17,"ok":1.0}}"#,
        "\n",
        r#"{"request":{"insert":"orders","documents":[],"$db":"shop"}}"#,
        "\n",
        r#"{"documents":{"_id":1,"price":2.5}}"#,
        "\n",
        r#"{"documents":{"_id":{"$numberLong":"2"}}}"#,
        "\n",
        r#"{"reply":{"n":2,"ok":1.0}}"#,
        "\n",
        r#"{"request":{"find":"orders","$db":"shop"}}"#,
        "\n",
        r#"{"reply":{"cursor":{"firstBatch":[],"id":{"$numberLong":"0"},"ns":"shop.orders"},"ok":1.0}}"#,
        "\n",
        r#"{"cursor.firstBatch":{"_id":1}}"#,
        "\n",
        r#"{"request":{"insert":"orders","documents":[],"$db":"shop"}}"#,
        "\n",
        "{\"reply\":null}\n",
    );
    assert_eq!(text, expected);
    let parsed = Fixture::parse(&text).unwrap();
    let places: Vec<_> = parsed.exchanges.iter().map(|exchange| exchange.place).collect();
    assert_eq!(places, [2, 6, 9].map(Place::Line));
    assert_eq!(documents(&parsed), documents(&fixture));
}

#[test]
fn what_varies_from_run_to_run_is_left_out() {
    let concern = |fields: Document| doc! { "count": "c", "readConcern": fields, "$db": "d" };
    let time = BsonTimestamp { time: 1, increment: 1 };
    let rows = [
        (
            doc! { "ping": 1, "lsid": { "id": 1 }, "$clusterTime": { "t": 1 }, "$db": "d" },
            doc! { "ping": 1, "$db": "d" },
        ),
        (doc! { "insert": "c", "txnNumber": 5_i64, "lsid": {}, "$db": "d" }, doc! { "insert": "c", "$db": "d" }),
        (concern(doc! { "afterClusterTime": time }), doc! { "count": "c", "$db": "d" }),
        (concern(doc! { "level": "majority", "afterClusterTime": time }), concern(doc! { "level": "majority" })),
    ];
    for (request, expected) in rows {
        let reply = doc! { "ok": 1.0, "operationTime": 5, "$clusterTime": { "t": 1 }, "electionId": ObjectId::new() };
        let parsed = Fixture::parse(&fixture(vec![exchange(&request, &[reply])]).to_text()).unwrap();
        assert_eq!(documents(&parsed), [(expected, vec![doc! { "ok": 1.0 }])]);
    }
}

#[test]
fn the_shipped_fixture_is_as_a_program_writes_it() {
    let fixture = Fixture::parse(DEMO).unwrap();
    assert_eq!(fixture.header.server, "6.0.5");
    assert!(fixture.exchanges.len() > 10, "{}", fixture.exchanges.len());
    assert_eq!(fixture.to_text(), DEMO);
}

#[test]
fn the_readme_shows_a_fixture() {
    let readme = include_str!("../README.md");
    let (_, section) = readme.split_once("\n## Fixtures\n").unwrap();
    let (_, shown) = section.split_once("```json\n").unwrap();
    let (shown, _) = shown.split_once("```").unwrap();
    let read = Fixture::parse(&(fixture(Vec::new()).to_text() + shown)).unwrap();
    assert_eq!((read.exchanges.len(), body(&read.to_text())), (2, shown));
}

#[test]
fn wrong_lines_are_told_with_their_place() {
    let first = fixture(Vec::new()).to_text();
    for (lines, expected) in [
        ("[]", "line 2, column 1: expected a line like {\"request\":…} or {\"reply\":…}, found an array"),
        (
            r#"{"ask":1}"#,
            r#"line 2, column 6: expected "request", "documents", "updates", "deletes", "reply", "more", "cursor.firstBatch" or "cursor.nextBatch", found "ask""#,
        ),
        (r#"{"requst":{}}"#, "found \"requst\"; did you mean \"request\"?"),
        (r#"{"request":"1"}"#, "line 2, column 14: this is not base64"),
        (r#"{"request":-1}"#, "line 2, column 13: expected a document, or its BSON in base64, found -1"),
        (r#"{"request":{"ping":1,"ping":2}}"#, r#"line 2, column 27: the name "ping" is there twice"#),
        (r#"{"request":{"ping":1}"#, "line 2, column 21: the line ends within an object: a } is missing"),
        (r#"{"request":{"ping":[1}}"#, "line 2, column 22: expected , or ] behind a value of an array"),
        (r#"{"request":{"ping":1,}}"#, "line 2, column 22: expected no comma before a closing } or ]"),
        (r#"{"request":{"ping":'a'}}"#, "line 2, column 20: expected a value: a text in double quotes, a number"),
        (
            r#"{"request":{"a":{"$binary":"AQID"}}}"#,
            r#"line 2, column 33: expected {"base64": …, "subType": two hex digits}, found "AQID""#,
        ),
        (r#"{"request":{ping:1}}"#, "line 2, column 13: expected the name of a field in double quotes"),
        (r#"{"request":{"a":1}} x"#, "line 2, column 21: expected the end of the line behind the last }"),
        (r#"{"request":{},"body":{}}"#, r#"line 2, column 20: expected the end of the line, found "body""#),
        ("  // a note", "line 2, column 3: expected an object: JSON has no comments, remove this line"),
        (r#"{"app":"a"}"#, "line 2, column 11: expected \"request\""),
        (r#"{"reply":{}}"#, "line 2, column 1: expected a request before it: a line {\"request\":…}"),
        (r#"{"documents":{}}"#, "line 2, column 1: expected a request before it: a line {\"request\":…}"),
        (
            "{\"request\":{}}\n{\"documents\":{}}",
            r#"line 3, column 1: expected an empty array "documents" in the body before its documents"#,
        ),
        (
            "{\"request\":{}}\n{\"cursor.nextBatch\":{}}",
            "line 3, column 1: expected the reply's body before its documents",
        ),
        (
            "{\"request\":{}}\n{\"reply\":null}\n{\"reply\":{}}",
            "line 4, column 1: expected the next request: this one has no reply",
        ),
        (
            "{\"request\":{}}\n{\"reply\":{}}\n{\"reply\":null}",
            "line 4, column 1: expected no null: there is a reply before it",
        ),
        (
            "{\"request\":{}}\n\n{\"request\":{}}",
            "line 4, column 1: expected the reply to the request of line 2 first: {\"reply\":…}, or {\"reply\":null} if there was none",
        ),
        ("{\"request\":{}}\n", "line 2, column 15: expected the reply to the request of line 2 first"),
    ] {
        let message = Fixture::parse(&format!("{first}{lines}\n")).unwrap_err().to_string();
        assert!(
            message.starts_with(expected) || expected.starts_with("found") && message.ends_with(expected),
            "{lines}\n{message}\n{expected}"
        );
    }
}

#[test]
fn numbers_only_tell_exchanges_apart() {
    let first = fixture(Vec::new()).to_text();
    let exchange = |number: u64| {
        format!("{{\"request\":{number},\"body\":{{\"a\":{number}}}}}\n{{\"reply\":{number},\"body\":{{}}}}\n")
    };
    let plain = "{\"request\":{\"b\":1}}\n \n{\"reply\":{}}\n";
    let text = format!("{first}{}{plain}{}\r\n{}", exchange(7), exchange(3), exchange(900));
    let read = Fixture::parse(&text).unwrap();
    let asked: Vec<_> = documents(&read).iter().map(|(request, _)| request.to_string().replace(' ', "")).collect();
    assert_eq!(asked, [r#"{"a":7}"#, r#"{"b":1}"#, r#"{"a":3}"#, r#"{"a":900}"#]);
    for (lines, expected) in [
        (
            exchange(7) + &exchange(3) + &exchange(7),
            "line 6, column 12: expected a number that no other exchange has: 7 is that of line 2",
        ),
        (
            exchange(7) + &exchange(3) + "{\"reply\":7,\"body\":{}}",
            "line 6, column 10: expected the lines of an exchange one behind the other: exchange 7 began in line 2, and another one has begun since",
        ),
        (
            exchange(7) + "{\"reply\":9,\"body\":{}}",
            "line 4, column 10: expected {\"request\":9,\"body\":…} before it: there is no request 9",
        ),
        ("{\"reply\":1,\"body\":{}}".into(), "line 2, column 10: expected a request before it: a line {\"request\":…}"),
        (
            "{\"request\":1,\"cursor.firstBatch\":{}}".into(),
            r#"line 2, column 32: expected "body", "documents", "updates" or "deletes", found "cursor.firstBatch""#,
        ),
        ("{\"request\":1,\"app\":\"a\"}".into(), "line 2, column 23: expected \"body\""),
        (
            "{\"request\":1,\"body\":{}}\n{\"request\":2,\"body\":{}}".into(),
            "line 3, column 12: expected the reply to the request of line 2 first",
        ),
    ] {
        let message = Fixture::parse(&format!("{first}{lines}")).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{lines}\n{message}\n{expected}");
    }
}

#[test]
fn wrong_headers_are_told() {
    for (line, expected) in [
        ("", "line 1, column 1: the line ends where a value was expected"),
        (r#"{"seq":0}"#, "line 1, column 9: expected \"mongotap\" in it"),
        (
            r#"{"mongotap":"capture","version":1}"#,
            "line 1, column 1: expected a fixture's header, this is one of a \"capture\"",
        ),
        (r#"{"mongotap":"fixture","version":2}"#, "line 1, column 1: written in version 2, this build reads version 1"),
        (r#"{"mongotap":"fixture","version":1}"#, "line 1, column 34: expected \"server\" in it"),
    ] {
        let message = Fixture::parse(line).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{line}\n{message}");
    }
}

fn oid(n: u8) -> ObjectId {
    ObjectId::from_bytes([n; 12])
}

fn date(ms: i64) -> DateTime {
    DateTime::from_millis(ms)
}

fn uuid(subtype: BinarySubtype, n: u8) -> Bson {
    Bson::Binary(Binary { subtype, bytes: vec![n; 16] })
}

/// What a test of somebody's might do, with these values made anew and so much time between its questions.
fn run(n: u8, apart_ms: i64) -> Fixture {
    let (a, b, session) = (oid(n), oid(n + 1), doc! { "id": uuid(BinarySubtype::Uuid, n + 2) });
    let now = NOW_MS + i64::from(n) * 1_000_003;
    let week = 7 * 86_400_000;
    let hex = a.to_hex();
    let token = format!("82{n:02x}AAAAAAAA0000");
    let text_uuid = format!("{n:02x}000000-0000-4000-8000-000000000000");
    let stamp = BsonTimestamp { time: 1_700_000_000 + u32::from(n), increment: 1 };
    let cursor = 1_000_000_i64 + i64::from(n);
    let ok = doc! { "ok": 1.0 };
    let transaction = |rest: Document| {
        let mut command = rest;
        command.extend(doc! { "lsid": session.clone(), "txnNumber": i64::from(n), "autocommit": false, "$db": "d" });
        command
    };
    let steps = [
        (
            doc! {
                "insert": "c", "documents": [
                    { "_id": a, "at": date(now - 1), "was": date(now - week), "born": date(0), "of": oid(200) },
                    { "_id": b, "at": date(now - 1), "token": text_uuid.clone(), "old": uuid(BinarySubtype::UuidOld, n) },
                ],
                "lsid": session.clone(), "txnNumber": 3_i64, "$db": "d",
            },
            ok.clone(),
        ),
        (
            doc! { "insert": "c", "documents": [{ "_id": a }], "$db": "d" },
            doc! { "n": 0, "writeErrors": [{ "errmsg": format!("E11000 dup key: {{ _id: ObjectId('{hex}') }}") }], "ok": 1.0 },
        ),
        (
            doc! { "find": "c", "filter": { "_id": { "$in": [a, oid(200)] }, "at": { "$gt": date(now - week + 2 * apart_ms) } }, "$db": "d" },
            doc! { "cursor": { "firstBatch": [{ "_id": a, "at": date(now - 1), "was": date(now - week), "of": oid(200) }], "id": cursor }, "ok": 1.0 },
        ),
        (
            doc! { "getMore": cursor, "collection": "c", "$db": "d" },
            doc! { "cursor": { "nextBatch": [{ "_id": b, "at": date(now - 1), "note": format!("{hex}/{text_uuid}"), "token": text_uuid }], "id": 0_i64 }, "ok": 1.0 },
        ),
        (
            transaction(
                doc! { "update": "c", "updates": [{ "q": { "_id": a }, "u": { "$set": { "x.at": date(now + 4 * apart_ms) } } }], "startTransaction": true },
            ),
            doc! { "upserted": [{ "_id": oid(n + 7) }, { "_id": uuid(BinarySubtype::Uuid, n + 2) }], "ok": 1.0 },
        ),
        (transaction(doc! { "commitTransaction": 1 }), doc! { "ok": 1.0, "recoveryToken": { "x": stamp } }),
        (
            doc! { "aggregate": "c", "pipeline": [{ "$changeStream": { "resumeAfter": { "_data": "8200000000AAAAAAAA" } } }], "$db": "d" },
            doc! {
                "cursor": {
                    "firstBatch": [{
                        "_id": { "_data": token.clone() }, "clusterTime": stamp, "wallTime": date(now - 5000 - i64::from(n)),
                        "fullDocument": { "_id": a, "made": oid(n + 7), "by": uuid(BinarySubtype::Uuid, n + 2) },
                    }],
                    "postBatchResumeToken": { "_data": token.clone() }, "id": cursor + 1,
                },
                "ok": 1.0,
            },
        ),
        (
            doc! { "aggregate": "c", "pipeline": [{ "$changeStream": { "resumeAfter": { "_data": token }, "startAtOperationTime": stamp } }], "$db": "d" },
            ok,
        ),
        (
            doc! { "find": "c", "filter": { "made": oid(n + 7), "$born": 1 }, "$db": "d" },
            doc! { "cursor": { "firstBatch": [{ "$now": oid(n + 7) }], "id": 0_i64 } },
        ),
    ];
    let exchanges = steps
        .iter()
        .zip(0..)
        .map(|((request, reply), i)| exchange_at(now + i * apart_ms, request, std::slice::from_ref(reply)));
    fixture(exchanges.collect())
}

#[test]
fn what_is_made_anew_has_names() {
    let text = run(1, 3).to_text();
    let expected = r#"{"request":{"insert":"c","documents":[],"$db":"d"}}
{"documents":{"_id":{"$born":"oid_c"},"at":{"$born":"date_c","now":"+0s"},"was":{"$born":"date_c_was","now":"-7d"},"born":{"$date":{"$numberLong":"0"}},"of":{"$born":"oid_c_of"}}}
{"documents":{"_id":{"$born":"oid_c_0000"},"at":{"$born":"date_c_at","now":"+0s"},"token":{"$text":[{"$born":"uuid_c"}]},"old":{"$born":"uuid_c_old","subType":"03"}}}
{"reply":{"ok":1.0}}
{"request":{"insert":"c","documents":[],"$db":"d"}}
{"documents":{"_id":{"$born":"oid_c"}}}
{"reply":{"n":0,"writeErrors":[{"errmsg":{"$text":["E11000 dup key: { _id: ObjectId('",{"$born":"oid_c"},"') }"]}}],"ok":1.0}}
{"request":{"find":"c","filter":{"_id":{"$in":[{"$born":"oid_c"},{"$born":"oid_c_of"}]},"at":{"$gt":{"$now":"-7d"}}},"$db":"d"}}
{"reply":{"cursor":{"firstBatch":[],"id":{"$numberLong":"4175"}},"ok":1.0}}
{"cursor.firstBatch":{"_id":{"$born":"oid_c"},"at":{"$born":"date_c"},"was":{"$born":"date_c_was"},"of":{"$born":"oid_c_of"}}}
{"request":{"getMore":{"$numberLong":"4175"},"collection":"c","$db":"d"}}
{"reply":{"cursor":{"nextBatch":[],"id":{"$numberLong":"0"}},"ok":1.0}}
{"cursor.nextBatch":{"_id":{"$born":"oid_c_0000"},"at":{"$born":"date_c_at"},"note":{"$text":[{"$born":"oid_c"},"/",{"$born":"uuid_c"}]},"token":{"$text":[{"$born":"uuid_c"}]}}}
{"request":{"update":"c","updates":[],"startTransaction":true,"lsid":{"$session":1},"txnNumber":{"$numberLong":"1"},"autocommit":false,"$db":"d"}}
{"updates":{"q":{"_id":{"$born":"oid_c"}},"u":{"$set":{"x.at":{"$born":"date_c_x_at","now":"+0s"}}}}}
{"reply":{"upserted":[{"_id":{"$given":"oid_c"}},{"_id":{"$given":"uuid_c"}}],"ok":1.0}}
{"request":{"commitTransaction":1,"lsid":{"$session":1},"txnNumber":{"$numberLong":"1"},"autocommit":false,"$db":"d"}}
{"reply":{"ok":1.0}}
{"request":{"aggregate":"c","pipeline":[{"$changeStream":{"resumeAfter":{"_data":"8200000000AAAAAAAA"}}}],"$db":"d"}}
{"reply":{"cursor":{"firstBatch":[],"postBatchResumeToken":{"_data":{"$given":"token1"}},"id":{"$numberLong":"26323"}},"ok":1.0}}
{"cursor.firstBatch":{"_id":{"_data":{"$given":"token1"}},"clusterTime":{"$given":"timestamp1"},"wallTime":{"$given":"date_c","now":"+0s"},"fullDocument":{"_id":{"$born":"oid_c"},"made":{"$given":"oid_c"},"by":{"$given":"uuid_c"}}}}
{"request":{"aggregate":"c","pipeline":[{"$changeStream":{"resumeAfter":{"_data":{"$given":"token1"}},"startAtOperationTime":{"$given":"timestamp1"}}}],"$db":"d"}}
{"reply":{"ok":1.0}}
{"request":{"find":"c","filter":{"made":{"$given":"oid_c"},"$born":1},"$db":"d"}}
{"reply":{"cursor":{"firstBatch":[],"id":{"$numberLong":"0"}}}}
{"cursor.firstBatch":{"$document":{"$now":{"$given":"oid_c"}}}}
"#;
    for (line, expected) in body(&text).lines().zip(expected.lines()) {
        assert_eq!(line, expected);
    }
    assert_eq!(body(&text).len(), expected.len());
}

#[test]
fn the_same_questions_give_the_same_file() {
    let text = run(1, 3).to_text();
    for (n, apart_ms) in [(20, 3), (40, 0), (60, 100), (90, 240)] {
        assert_eq!(run(n, apart_ms).to_text(), text, "{apart_ms} ms apart");
    }
}

#[test]
fn names_have_values_that_are_written_with_the_same_names() {
    let text = run(1, 3).to_text();
    let read = Fixture::parse(&text).unwrap();
    assert_eq!(read.to_text(), text);
    let documents = documents(&read);
    let insert = &documents[0].0.get_array("documents").unwrap();
    let first = insert[0].as_document().unwrap();
    let (id, at, was) =
        (first.get_object_id("_id").unwrap(), first.get_datetime("at").unwrap(), first.get_datetime("was").unwrap());
    assert_eq!(first.get_datetime("born").unwrap().timestamp_millis(), 0);
    assert_eq!((at.timestamp_millis() - was.timestamp_millis()) / 60_000, 7 * 1440);
    let error = format!("{:?}", documents[1].1);
    assert!(error.contains(&format!("ObjectId('{id}')")), "{error}");
    let session = documents[4].0.get_document("lsid").unwrap();
    assert_eq!(documents[5].0.get_document("lsid").unwrap(), session);
}

#[test]
fn wrong_names_are_told_with_their_place() {
    let first = fixture(Vec::new()).to_text();
    let insert = |value: &str| format!(r#"{{"request":{{"insert":"c","documents":[{{"a":{value}}}],"$db":"d"}}}}"#);
    let find = |value: &str| format!(r#"{{"request":{{"find":"c","filter":{{"a":{value}}},"$db":"d"}}}}"#);
    let name = "expected a name like oid_tea, uuid_tea or date_tea in $born";
    let unknown =
        |name: &str, place: &str| format!("{name:?} is not known here: expected it to appear first in {place}");
    let told = insert(r#"{"$born":"oid_tea"}"#) + "\n{\"reply\":{}}\n";
    let distance = "expected a distance from now, in steps of five seconds up to two hours, hours up to a week, days up to 400, like \"+0s\", \"-90m\" or \"-7d\"";
    for (line, shown, expected) in [
        (insert(r#"{"$born":5}"#), r#""$born""#, format!("{name}, found 5")),
        (insert(r#"{"$born":"oid"}"#), r#""oid""#, format!("{name}, found \"oid\"")),
        (insert(r#"{"$born":"timestamp1"}"#), r#""timestamp1""#, format!("{name}, found \"timestamp1\"")),
        (insert(r#"{"$born":"oid1","now":"+0s"}"#), r#""now""#, r#""now" cannot stand beside $born of "oid1""#.into()),
        (
            insert(r#"{"$born":"date1"}"#),
            r#""date1""#,
            r#""date1" appears for the first time: expected "now" beside it, like "+0s""#.into(),
        ),
        (insert(r#"{"$born":"date1","now":"soon"}"#), r#""soon""#, format!("{distance}, found \"soon\"")),
        (insert(r#"{"$born":"date1","now":7}"#), r#""now""#, format!("{distance}, found 7")),
        (
            insert(r#"[{"$born":"date1","now":"+0s"},{"$born":"date1","now":"+0s"}]"#),
            r#""date1""#,
            r#""date1" has appeared before: expected no "now" beside it"#.into(),
        ),
        (insert(r#"{"$born":"uuid1","subType":"05"}"#), r#""05""#, r#"expected "03" in subType, found "05""#.into()),
        (find(r#"{"$born":"oid1"}"#), r#""oid1""#, unknown("oid1", "the value of a write")),
        (find(r#"{"$given":"oid1"}"#), r#""oid1""#, unknown("oid1", "a reply")),
        (find(r#"{"$given":"token1"}"#), r#""token1""#, unknown("token1", "a reply")),
        (find(r#"{"$now":"-7"}"#), r#""-7""#, format!("{distance}, found \"-7\"")),
        (find(r#"{"$now":"-7d","x":1}"#), r#""x""#, r#""x" cannot stand beside $now"#.into()),
        (find(r#"{"$now":{"a":1}}"#), r#""$now""#, format!("{distance}, found a value of type document")),
        (
            find(r#"{"$session":"1"}"#),
            r#""1""#,
            r#"expected a session's number, from 1, in $session, found "1""#.into(),
        ),
        (find(r#"{"$text":"x"}"#), r#""x""#, r#"expected an array of strings and names in $text, found "x""#.into()),
        (find(r#"{"$text":[5]}"#), "$text", "expected a string or a name in $text, found 5".into()),
        (
            insert(r#"{"$text":[{"$born":"date1","now":"+0s"}]}"#),
            "$text",
            "expected a string or the name of an oid or a uuid in $text".into(),
        ),
        (find(r#"{"$document":1}"#), r#""$document""#, "expected a document in $document, found 1".into()),
        (r#"{"request":{"$born":"oid1"}}"#.into(), "", "expected a document, this is a single value".into()),
        // The one that is wrong, not the first that looks like it.
        (insert(r#"["oid_x",{"$born":"oid_tea"},{"$given":"oid_x"}]"#), r#""oid_x"}"#, unknown("oid_x", "a reply")),
        (find(r#"{"$borm":"oid1"}"#), r#""$borm""#, r#"expected "$born" before such a value, found "$borm""#.into()),
        (find(r#"{"$noww":"-7d"}"#), r#""$noww""#, r#"expected "$now" before such a value, found "$noww""#.into()),
        (
            told.clone() + &find(r#"{"$born":"oid_tae"}"#),
            r#""oid_tae""#,
            unknown("oid_tae", "the value of a write") + r#"; did you mean "oid_tea"?"#,
        ),
        (
            told + &find(r#"{"$given":"oid_tea"}"#),
            r#""oid_tea""#,
            unknown("oid_tea", "a reply") + r#"; did you mean {"$born":"oid_tea"}?"#,
        ),
    ] {
        let last = line.lines().last().unwrap();
        let column = last.find(shown).unwrap() + 1;
        // The last one is whole.
        let error = Fixture::parse(&format!("{first}{line}\n{{\"reply\":{{}}}}\n")).unwrap_err();
        let place = (error.line, error.column);
        assert_eq!((error.message.as_str(), place), (expected.as_str(), (line.lines().count() + 1, column)), "{line}");
    }
}

fn document() -> impl Strategy<Value = Document> {
    let leaf = prop_oneof![
        any::<i32>().prop_map(Bson::Int32),
        any::<f64>().prop_map(Bson::Double),
        any::<String>().prop_map(Bson::String),
        Just(Bson::Null),
    ];
    let value = leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Bson::Array),
            prop::collection::vec(("[a-z]{1,2}", inner), 0..4).prop_map(|it| Bson::Document(it.into_iter().collect())),
        ]
    });
    let name = prop_oneof!["documents", "updates", "cursor", "[a-z]{1,3}"];
    prop::collection::vec((name, value), 0..5).prop_map(|fields| fields.into_iter().collect())
}

/// A reply whose batch is anything: documents, or values that have no lines of their own.
fn reply() -> impl Strategy<Value = Document> {
    let batch = prop_oneof![
        prop::collection::vec(document().prop_map(Bson::Document), 0..4),
        prop::collection::vec(any::<i32>().prop_map(Bson::Int32), 0..4),
    ];
    ("(first|next)Batch", batch, document()).prop_map(|(name, batch, rest)| {
        let mut reply = doc! { "cursor": { name: batch, "id": 0_i64 } };
        reply.extend(rest);
        reply
    })
}

proptest! {
    #[test]
    fn any_exchanges_come_back(
        exchanges in prop::collection::vec((document(), prop::collection::vec(reply(), 0..3)), 0..5),
    ) {
        let fixture = fixture(exchanges.iter().map(|(request, replies)| exchange(request, replies)).collect());
        let text = fixture.to_text();
        prop_assert_eq!(documents(&Fixture::parse(&text).unwrap()), documents(&fixture), "{}", text);
    }
}
