//! The fixture format: what is written reads back as it was, the shipped fixture is as a program writes it, and a file
//! edited wrongly is refused with the place and what was expected there.

#![expect(clippy::unwrap_used, reason = "a case that is not as it should be fails its test")]

use bson::{Bson, Document, doc};
use mongotap::capture::fixture::{Exchange, Fixture, Header};
use proptest::prelude::*;

const DEMO: &str = include_str!("../fixtures/demo.jsonl");

fn header() -> Header {
    let hello = doc! { "isWritablePrimary": true, "maxWireVersion": 17, "ok": 1.0 }.to_vec().unwrap();
    Header { server: "6.0.5".to_owned(), recorded_with: "a \"quoted\" command".to_owned(), hello }
}

fn exchange(request: &Document, replies: &[Document]) -> Exchange {
    let replies = replies.iter().map(|reply| reply.to_vec().unwrap()).collect();
    Exchange { line: 0, request: request.to_vec().unwrap(), replies }
}

/// Without the line numbers, which only a text gives.
fn unnumbered(fixture: Fixture) -> Fixture {
    let exchanges = fixture.exchanges.into_iter().map(|exchange| Exchange { line: 0, ..exchange }).collect();
    Fixture { exchanges, ..fixture }
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
    let fixture = Fixture { header: header(), exchanges };
    let text = fixture.to_text();
    let expected = concat!(
        r#"{"mongotap":"fixture","version":1,"server":"6.0.5","recordedWith":"a \"quoted\" command","#,
        r#""hello":{"isWritablePrimary":true,"maxWireVersion":17,"ok":1.0}}"#,
        "\n",
        r#"{"request":1,"body":{"insert":"orders","documents":[],"$db":"shop"}}"#,
        "\n",
        r#"{"request":1,"documents":{"_id":1,"price":2.5}}"#,
        "\n",
        r#"{"request":1,"documents":{"_id":{"$numberLong":"2"}}}"#,
        "\n",
        r#"{"reply":1,"body":{"n":2,"ok":1.0}}"#,
        "\n",
        r#"{"request":2,"body":{"find":"orders","$db":"shop"}}"#,
        "\n",
        r#"{"reply":2,"body":{"cursor":{"firstBatch":[],"id":{"$numberLong":"0"},"ns":"shop.orders"},"ok":1.0}}"#,
        "\n",
        r#"{"reply":2,"cursor.firstBatch":{"_id":1}}"#,
        "\n",
        r#"{"request":3,"body":{"insert":"orders","documents":[],"$db":"shop"}}"#,
        "\n",
    );
    assert_eq!(text, expected);
    let parsed = Fixture::parse(&text).unwrap();
    assert_eq!(parsed.exchanges.iter().map(|exchange| exchange.line).collect::<Vec<_>>(), [2, 6, 9]);
    assert_eq!(unnumbered(parsed), fixture);
}

#[test]
fn what_varies_from_run_to_run_is_left_out() {
    let request = doc! { "ping": 1, "lsid": { "id": 1 }, "$clusterTime": { "t": 1 }, "$db": "admin" };
    let reply = doc! { "ok": 1.0, "operationTime": 5, "$clusterTime": { "t": 1 } };
    let fixture = Fixture { header: header(), exchanges: vec![exchange(&request, &[reply])] };
    let parsed = Fixture::parse(&fixture.to_text()).unwrap();
    let expected = exchange(&doc! { "ping": 1, "$db": "admin" }, &[doc! { "ok": 1.0 }]);
    assert_eq!(unnumbered(parsed).exchanges, [expected]);
}

#[test]
fn the_shipped_fixture_is_as_a_program_writes_it() {
    let fixture = Fixture::parse(DEMO).unwrap();
    assert_eq!(fixture.header.server, "6.0.5");
    assert!(fixture.exchanges.len() > 10, "{}", fixture.exchanges.len());
    assert_eq!(fixture.to_text(), DEMO);
}

#[test]
fn wrong_lines_are_told_with_their_place() {
    let first = Fixture { header: header(), exchanges: Vec::new() }.to_text();
    for (line, expected) in [
        ("", "line 2, column 1: EOF while parsing a value"),
        ("[]", "line 2, column 1: invalid type: sequence, expected a line {\"request\":N,…} or {\"reply\":N,…}"),
        (r#"{"ask":1}"#, r#"line 2, column 6: expected "request" or "reply", found "ask""#),
        (r#"{"request":"1"}"#, "line 2, column 14: invalid type: string \"1\", expected usize"),
        (
            r#"{"request":1,"cursor.firstBatch":{}}"#,
            r#"line 2, column 32: expected "body", "documents", "updates", "deletes", found "cursor.firstBatch""#,
        ),
        (r#"{"request":1,"body":{"ping":1,"ping":2}}"#, r#"line 2, column 36: the name "ping" is there twice"#),
        (r#"{"request":1,"body":{"ping":1}"#, "line 2, column 30: EOF while parsing an object"),
        (r#"{"request":1,"body":{},"body":{}}"#, r#"line 2, column 29: expected the end of the line, found "body""#),
        (r#"{"request":2,"body":{}}"#, "line 2, column 1: expected request 1, found request 2"),
        (r#"{"reply":1,"body":{}}"#, "line 2, column 1: expected request 1 first"),
        (
            "{\"request\":1,\"body\":{}}\n{\"request\":1,\"documents\":{}}",
            r#"line 3, column 1: expected an empty array "documents" in the body before its documents"#,
        ),
        (
            "{\"request\":1,\"body\":{}}\n{\"reply\":1,\"cursor.nextBatch\":{}}",
            "line 3, column 1: expected the reply's body before its documents",
        ),
        (
            "{\"request\":1,\"body\":{}}\n{\"reply\":2,\"body\":{}}",
            "line 3, column 1: expected a line of exchange 1, found one of 2",
        ),
    ] {
        let message = Fixture::parse(&format!("{first}{line}\n")).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{line}\n{message}\n{expected}");
    }
}

#[test]
fn wrong_headers_are_told() {
    for (line, expected) in [
        ("", "line 1, column 1: EOF while parsing a value"),
        (r#"{"seq":0}"#, "line 1, column 9: missing field `mongotap`"),
        (
            r#"{"mongotap":"capture","version":1}"#,
            "line 1, column 1: expected a fixture's header, this is one of a \"capture\"",
        ),
        (r#"{"mongotap":"fixture","version":2}"#, "line 1, column 1: written in version 2, this build reads version 1"),
        (r#"{"mongotap":"fixture","version":1}"#, "line 1, column 34: missing field `server`"),
    ] {
        let message = Fixture::parse(line).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{line}\n{message}");
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
        let mut reply = doc! { "cursor": { name: batch, "id": 5_i64 } };
        reply.extend(rest);
        reply
    })
}

proptest! {
    #[test]
    fn any_exchanges_come_back(
        exchanges in prop::collection::vec((document(), prop::collection::vec(reply(), 0..3)), 0..5),
    ) {
        let exchanges = exchanges.iter().map(|(request, replies)| exchange(request, replies)).collect();
        let fixture = Fixture { header: header(), exchanges };
        let text = fixture.to_text();
        prop_assert_eq!(unnumbered(Fixture::parse(&text).unwrap()), fixture, "{}", text);
    }
}
