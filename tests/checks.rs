//! The checks that the other tests lean on: each finds what it is there to find.

mod support;

use std::panic;

use bson::{Bson, doc};
use serde_json::{Value, json};

use support::client::{self, Client};
use support::compare::{Comparison, Departure};
use support::differential::{self, Event, Known};
use support::log::Log;
use support::mongod::Mongod;
use support::relay::{self, Relay, Transfer};

fn fails<T>(check: impl FnOnce() -> T + panic::UnwindSafe) -> bool {
    panic::catch_unwind(check).is_err()
}

#[test]
fn a_relay_passes_bytes_on_and_keeps_them() {
    let relay = Relay::start(&Mongod::shared().address());
    let mut client = Client::handshake(&relay.address(), "checks");
    assert!(client.command(&doc! { "ping": 1, "$db": "admin" }).get_f64("ok").is_ok());
    client.close_sending();
    assert_eq!(client.read_to_end().expect("mongod closes"), b"");
    let passed = relay.finish();
    assert_eq!(passed.len(), 1);
    assert!(passed[0].to_server.starts_with(&client::op_msg(1, 0, &client::hello("checks"))[..4]));
    assert!(passed[0].to_client.len() > 100);
}

#[test]
fn a_changed_byte_is_found() {
    let transfer = |to_server: &[u8], to_client: &[u8]| {
        vec![Transfer { to_server: to_server.to_vec(), to_client: to_client.to_vec() }]
    };
    let passed = relay::assert_same(transfer(b"request", b"answer"), transfer(b"request", b"answer"));
    assert_eq!((passed.connections, passed.to_server, passed.to_client), (1, 7, 6));
    relay::assert_same(transfer(b"request", b"ans"), transfer(b"request", b"answer"));
    assert!(fails(|| relay::assert_same(transfer(b"request", b"answer"), transfer(b"reQuest", b"answer"))));
    assert!(fails(|| relay::assert_same(transfer(b"request", b"answer"), transfer(b"reques", b"answer"))));
    assert!(fails(|| relay::assert_same(transfer(b"request", b"anSwer"), transfer(b"request", b"answer"))));
    assert!(fails(|| relay::assert_same(transfer(b"request", b"answer"), transfer(b"request", b"answe"))));
    assert!(fails(|| relay::assert_same(transfer(b"request", b"answer"), vec![])));
}

/// A log of one ping.
fn lines() -> Vec<Value> {
    let ts = |at: u32| format!("2026-01-01T00:00:00.{at:06}Z");
    let proxy = json!({ "connection": 1, "exchange": 1, "phase": "app" });
    let common = |seq: u32, event: &str| {
        json!({
            "seq": seq, "event": event, "ts": ts(seq), "proxy": proxy, "commandName": "ping", "databaseName": "admin",
            "requestId": 7, "serverConnectionId": 3,
        })
    };
    let mut started = common(1, "commandStartedEvent");
    started["command"] = json!({ "ping": { "$numberInt": "1" }, "$db": "admin" });
    let mut succeeded = common(2, "commandSucceededEvent");
    succeeded["durationMicros"] = json!(10);
    succeeded["reply"] = json!({ "ok": { "$numberDouble": "1.0" } });
    vec![
        json!({ "seq": 0, "event": "recorderStartedEvent", "ts": ts(0), "logVersion": 1 }),
        started,
        succeeded,
        json!({ "seq": 3, "event": "recorderStoppedEvent", "ts": ts(3) }),
    ]
}

fn parse(lines: &[Value]) -> Log {
    Log::parse(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

#[test]
fn a_log_that_breaks_a_promise_is_found() {
    assert_eq!(parse(&lines()).commands().count(), 2);
    let breaks = |change: fn(&mut Vec<Value>)| {
        let mut lines = lines();
        change(&mut lines);
        fails(move || parse(&lines))
    };
    assert!(breaks(|it| drop(it.remove(0))), "the first line");
    assert!(breaks(|it| drop(it.pop())), "the last line");
    assert!(breaks(|it| it[2]["seq"] = json!(9)), "a gap in seq");
    assert!(breaks(|it| it[2]["event"] = json!("connectionReadyEvent")), "a start without an end");
    assert!(breaks(|it| it[1]["event"] = json!("connectionReadyEvent")), "an end without a start");
    assert!(breaks(|it| it[2]["requestId"] = json!(8)), "a start and an end that do not agree");
    assert!(breaks(|it| it[2]["durationMicros"] = json!(-1)), "a negative duration");
    assert!(breaks(|it| it[2]["reply"] = Value::Null), "an end without its reply");
    assert!(breaks(|it| it[2]["ts"] = json!("2025-01-01T00:00:00.000000Z")), "time that goes back");
    assert!(breaks(|it| it[2]["ts"] = json!("2026-01-01 00:00:00")), "a time of another shape");
    assert!(breaks(|it| it[1]["proxy"]["collection"] = Value::Null), "a null");
}

#[test]
fn a_comparison_tells_types_order_and_bits_apart() {
    let mut exact = Comparison::new(&[]);
    let same = doc! { "a": 1, "b": [1.5, { "c": "x" }] };
    assert_eq!(exact.documents("reply", &same, &same), Ok(()));
    for other in [
        doc! { "a": 1_i64, "b": [1.5, { "c": "x" }] },
        doc! { "b": [1.5, { "c": "x" }], "a": 1 },
        doc! { "a": 1, "b": [1.5] },
        doc! { "a": 1, "b": [1.5, { "c": "y" }] },
        doc! { "a": 1, "b": [1.5, { "c": "x" }], "d": Bson::Null },
    ] {
        assert!(exact.documents("reply", &same, &other).is_err(), "{other}");
    }
    assert!(exact.documents("reply", &doc! { "a": 0.0 }, &doc! { "a": -0.0 }).is_err());
    assert_eq!(exact.documents("reply", &doc! { "a": f64::NAN }, &doc! { "a": f64::NAN }), Ok(()));

    let mut loose = Comparison::new(&[Departure::NumberTypes, Departure::CommandKeyOrder]);
    assert_eq!(loose.documents("command", &doc! { "a": 1, "b": 2 }, &doc! { "b": 2_i64, "a": 1.0 }), Ok(()));
    assert_eq!(loose.unused(), []);
    assert!(loose.documents("command", &doc! { "a": 1 }, &doc! { "a": 1.5 }).is_err());
    assert!(loose.documents("reply", &doc! { "a": 1, "b": 2 }, &doc! { "b": 2, "a": 1 }).is_err());
    let inner = doc! { "a": { "x": 1, "y": 2 } };
    assert!(loose.documents("command", &inner, &doc! { "a": { "y": 2, "x": 1 } }).is_err());
}

#[test]
fn an_event_without_its_equal_is_found() {
    let exact = Known { departures: &[], unpublished: &[] };
    let events: Vec<_> = lines()[1..3].iter().map(Event::from_json).collect();
    let pairs = differential::compare(&events, &events, exact).expect("a log is equal to itself");
    assert_eq!(pairs.get("ping"), Some(&2));
    let differs = |theirs: &[Event], ours: &[Event]| differential::compare(theirs, ours, exact).is_err();
    assert!(differs(&events[..1], &events), "one too many of ours");
    assert!(differs(&events, &events[..1]), "one too many of theirs");
    let changed = |change: fn(&mut Event)| {
        let mut ours = events.clone();
        change(&mut ours[1]);
        differs(&events, &ours)
    };
    assert!(changed(|it| it.duration = Some(12)), "a longer duration");
    assert!(!changed(|it| it.duration = Some(2)), "a shorter one is as it should be");
    assert!(changed(|it| it.request_id = 8), "another request id");
    assert!(changed(|it| it.server_connection_id = Some(4)), "another connection");
    assert!(changed(|it| it.database_name = Some("test".to_owned())), "another database");
    assert!(changed(|it| it.kind = "commandFailedEvent".to_owned()), "another outcome");
    let needless = Known { departures: &[Departure::NumberTypes], unpublished: &[] };
    assert!(differential::compare(&events, &events, needless).is_err(), "a departure that was not needed");
}
