//! Heartbeats, servers and topologies in the event log.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{DateTime, rawdoc};
use mongotap::bson::json::Mode;
use mongotap::event::{
    Address, Document, Event, Failure, Phase, ServerClosed, ServerDescription, ServerDescriptionChanged,
    ServerHeartbeatFailed, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening, ServerType, Side,
    TopologyClosed, TopologyDescription, TopologyDescriptionChanged, TopologyOpening, TopologyType, TopologyVersion,
    Truncated,
};
use mongotap::sink::{Format, Options};
use serde_json::{Value, json};

use super::schema::{self, Line};
use super::{cut_document, lines};

const TOPOLOGY: ObjectId = ObjectId::from_bytes([0xab; 12]);

const HOSTILE: &str = "\"\\\n\r\u{1b}\u{2028}\u{202e}\u{7f}";

fn address() -> Address {
    Address::parse("[::1]:27027")
}

/// A server of which everything is known.
fn full() -> ServerDescription {
    let names = |names: [&str; 2]| names.map(str::to_owned).to_vec();
    ServerDescription {
        address: address(),
        server_type: ServerType::RSPrimary,
        error: Some(HOSTILE.to_owned()),
        set_name: Some(HOSTILE.to_owned()),
        set_version: Some(3),
        election_id: Some(ObjectId::from_bytes([0x7f; 12])),
        me: Some("a:27017".to_owned()),
        hosts: names(["a:27017", HOSTILE]),
        passives: names(["c:27017", "d:27017"]),
        arbiters: names(["e:27017", "f:27017"]),
        primary: Some("a:27017".to_owned()),
        tags: vec![("dc".to_owned(), "ny".to_owned()), (HOSTILE.to_owned(), HOSTILE.to_owned())],
        min_wire_version: Some(0),
        max_wire_version: Some(17),
        logical_session_timeout_minutes: Some(30),
        topology_version: Some(TopologyVersion { process_id: ObjectId::from_bytes([1; 12]), counter: i64::MAX }),
        last_write_date: Some(DateTime::from_millis(1_795_333_471_000)),
        op_time: Some(rawdoc! { "ts": bson::Timestamp { time: 5, increment: 6 }, "t": 4_i64 }),
        iscryptd: true,
    }
}

fn unknown() -> ServerDescription {
    ServerDescription { address: address(), ..ServerDescription::default() }
}

fn full_topology() -> TopologyDescription {
    TopologyDescription {
        topology_type: TopologyType::ReplicaSetWithPrimary,
        set_name: Some(HOSTILE.to_owned()),
        max_election_id: Some(ObjectId::from_bytes([0x7f; 12])),
        max_set_version: Some(i64::MAX),
        servers: vec![full(), unknown()],
        compatibility_error: Some(HOSTILE.to_owned()),
        logical_session_timeout_minutes: Some(30),
    }
}

fn heartbeat_succeeded(reply: Document<'static>) -> Event<'static> {
    let (connection_id, duration) = (address(), Duration::from_nanos(1_503_999));
    Event::ServerHeartbeatSucceeded(Box::new(ServerHeartbeatSucceeded {
        connection_id,
        awaited: true,
        duration,
        reply,
    }))
}

fn heartbeat_failed(failure: Failure<'static>) -> Event<'static> {
    let (connection_id, duration) = (address(), Duration::ZERO);
    Event::ServerHeartbeatFailed(Box::new(ServerHeartbeatFailed { connection_id, awaited: false, duration, failure }))
}

/// All nine of them, with everything they can have and with nothing.
pub(crate) fn events() -> Vec<Event<'static>> {
    let (topology_id, address) = (TOPOLOGY, address());
    let network = |closed_by| Failure::Network { message: HOSTILE.to_owned().into(), closed_by };
    let server = |previous_description, new_description| {
        let address = address.clone();
        let event = ServerDescriptionChanged { topology_id, address, previous_description, new_description };
        Event::ServerDescriptionChanged(Box::new(event))
    };
    let topology = |previous_description, new_description| {
        let event = TopologyDescriptionChanged { topology_id, previous_description, new_description };
        Event::TopologyDescriptionChanged(Box::new(event))
    };
    let started = ServerHeartbeatStarted { connection_id: address.clone(), awaited: false };
    let with_secret = rawdoc! { "ok": 1.0, "me": null, "speculativeAuthenticate": { "payload": "r=secret" } };
    vec![
        Event::ServerHeartbeatStarted(Box::new(started)),
        heartbeat_succeeded(with_secret.into()),
        heartbeat_succeeded(cut_document()),
        heartbeat_failed(Failure::Reply(cut_document())),
        heartbeat_failed(network(None)),
        heartbeat_failed(network(Some(Side::Client))),
        Event::TopologyOpening(Box::new(TopologyOpening { topology_id })),
        topology(TopologyDescription::default(), full_topology()),
        Event::ServerOpening(Box::new(ServerOpening { topology_id, address: address.clone() })),
        server(unknown(), full()),
        Event::ServerClosed(Box::new(ServerClosed { topology_id, address: address.clone() })),
        Event::TopologyClosed(Box::new(TopologyClosed { topology_id })),
    ]
}

/// Which fields go with which event.
pub(crate) fn check(line: &Line, text: &str) {
    let derived = match line {
        Line::HeartbeatStarted(event) => {
            assert!(event.duration_micros.is_none() && event.reply.is_none() && event.failure.is_none(), "{text}");
            event.proxy.derived
        }
        Line::HeartbeatSucceeded(event) => {
            assert!(event.duration_micros.is_some() && event.reply.is_some() && event.failure.is_none(), "{text}");
            event.proxy.derived
        }
        Line::HeartbeatFailed(event) => {
            assert!(event.duration_micros.is_some() && event.reply.is_none() && event.failure.is_some(), "{text}");
            event.proxy.derived
        }
        Line::ServerOpening(event) | Line::ServerClosed(event) => {
            assert!(event.previous_description.is_none() && event.new_description.is_none(), "{text}");
            event.proxy.derived
        }
        Line::ServerDescriptionChanged(event) => {
            assert!(event.previous_description.is_some() && event.new_description.is_some(), "{text}");
            event.proxy.derived
        }
        Line::TopologyOpening(event) | Line::TopologyClosed(event) => {
            assert!(event.previous_description.is_none() && event.new_description.is_none(), "{text}");
            event.proxy.derived
        }
        Line::TopologyDescriptionChanged(event) => {
            assert!(event.previous_description.is_some() && event.new_description.is_some(), "{text}");
            event.proxy.derived
        }
        other => panic!("{other:?}"),
    };
    let is_heartbeat =
        matches!(line, Line::HeartbeatStarted(_) | Line::HeartbeatSucceeded(_) | Line::HeartbeatFailed(_));
    assert_eq!(derived, (!is_heartbeat).then_some(true), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

/// The lines of these events alone, in a monitor's phase.
fn monitored(options: &Options) -> Vec<String> {
    let each = lines(Format::Jsonl, options);
    let phase = format!("\"phase\":\"{}\"", Phase::Monitor.as_str());
    let of_phase: Vec<_> = each.into_iter().filter(|line| line.contains(&phase)).collect();
    of_phase[of_phase.len() - events().len()..].to_vec()
}

#[test]
fn heartbeats_have_the_values_of_the_events() {
    let lines = monitored(&Options::default());
    let Line::HeartbeatStarted(event) = schema::parse(&lines[0]) else { panic!("{}", lines[0]) };
    assert_eq!((event.connection_id.as_str(), event.awaited), ("[::1]:27027", false));
    let proxy = event.proxy;
    assert_eq!((proxy.connection, proxy.phase.as_str()), (7, "monitor"));
    assert_eq!((proxy.client.as_str(), proxy.upstream.as_str()), ("127.0.0.1:40112", "127.0.0.1:27017"));

    let Line::HeartbeatSucceeded(event) = schema::parse(&lines[1]) else { panic!("{}", lines[1]) };
    assert_eq!((event.awaited, event.duration_micros), (true, Some(1503)));
    assert_eq!(Value::Object(event.reply.unwrap()), json!({ "ok": 1.0, "me": null }), "without the secret");
    let Line::HeartbeatSucceeded(event) = schema::parse(&lines[2]) else { panic!("{}", lines[2]) };
    let truncated = event.proxy.truncated.unwrap();
    assert_eq!((truncated.bytes, truncated.elements), (1000, 3));

    let Line::HeartbeatFailed(event) = schema::parse(&lines[3]) else { panic!("{}", lines[3]) };
    assert_eq!(Value::Object(event.failure.unwrap()), json!({ "ok": 1 }));
    let Line::HeartbeatFailed(event) = schema::parse(&lines[5]) else { panic!("{}", lines[5]) };
    assert_eq!(Value::Object(event.failure.unwrap()), json!({ "message": HOSTILE }));
    assert_eq!((event.duration_micros, event.proxy.closed_by.as_deref()), (Some(0), Some("client")));
}

#[test]
fn a_long_heartbeat_is_cut_and_both_cuts_are_told() {
    let hosts: bson::raw::RawArrayBuf = (0..50).map(|n| format!("host{n}.example.net:27017")).collect();
    let reply = rawdoc! { "hosts": hosts, "ok": 1.0 }.into_bytes();
    let before = Truncated { bytes: 1_000_000, elements: 7 };
    let event = heartbeat_succeeded(Document::cut(reply, Some(before)));
    let mut out = b"{\"seq\":0,".to_vec();
    let entry = mongotap::redact::apply(mongotap::event::Entry {
        at: super::AT,
        connection: super::connection(),
        phase: Phase::Monitor,
        event,
    });
    let options = Options { max_document_bytes: 200, ..Options::default() };
    Format::Jsonl.renderer(&options).render(&entry, &mut out);
    let text = String::from_utf8(out).unwrap();
    let Line::HeartbeatSucceeded(event) = schema::parse(&text) else { panic!("{text}") };
    let reply = event.reply.unwrap();
    assert_eq!(reply["ok"], json!(1.0));
    let shown = reply["hosts"].as_array().unwrap().len() as u64;
    assert_eq!(event.proxy.truncated.unwrap().elements, before.elements + 50 - shown);
}

#[test]
fn descriptions_have_the_specifications_fields() {
    for extended_json in [Mode::Relaxed, Mode::Canonical] {
        let number = |number: i64| match extended_json {
            Mode::Relaxed => json!(number),
            _ => json!({ "$numberInt": number.to_string() }),
        };
        let lines = monitored(&Options { extended_json, ..Options::default() });
        let Line::ServerDescriptionChanged(event) = schema::parse(&lines[9]) else { panic!("{}", lines[9]) };
        assert_eq!((event.topology_id.as_str(), event.address.as_str()), ("abababababababababababab", "[::1]:27027"));
        let previous = event.previous_description.unwrap();
        assert_eq!((previous.address.as_str(), previous.server_type.as_str()), ("[::1]:27027", "Unknown"));
        // What is not known is not there.
        assert!(
            lines[9].contains(r#""previousDescription":{"address":"[::1]:27027","type":"Unknown"},"#),
            "{}",
            lines[9]
        );
        let new = event.new_description.unwrap();
        assert_eq!((new.server_type.as_str(), new.error.as_deref()), ("RSPrimary", Some(HOSTILE)));
        assert_eq!((new.set_name.as_deref(), new.set_version), (Some(HOSTILE), Some(number(3))));
        assert_eq!(new.election_id, Some(ObjectId::from_bytes([0x7f; 12])));
        assert_eq!((new.me.as_deref(), new.primary.as_deref()), (Some("a:27017"), Some("a:27017")));
        assert_eq!(new.hosts.unwrap(), ["a:27017", HOSTILE]);
        assert_eq!(new.passives.unwrap(), ["c:27017", "d:27017"]);
        assert_eq!(new.arbiters.unwrap(), ["e:27017", "f:27017"]);
        assert_eq!(Value::Object(new.tags.unwrap()), json!({ "dc": "ny", HOSTILE: HOSTILE }));
        assert_eq!((new.min_wire_version, new.max_wire_version), (Some(number(0)), Some(number(17))));
        assert_eq!(new.logical_session_timeout_minutes, Some(number(30)));
        let version = new.topology_version.unwrap();
        assert_eq!(version["processId"], json!({ "$oid": "010101010101010101010101" }));
        assert_eq!(version["counter"], json!({ "$numberLong": i64::MAX.to_string() }));
        let date = match extended_json {
            Mode::Relaxed => json!({ "$date": "2026-11-22T07:44:31Z" }),
            _ => json!({ "$date": { "$numberLong": "1795333471000" } }),
        };
        assert_eq!(Value::Object(new.last_write_date.unwrap()), date);
        assert_eq!(new.op_time.unwrap()["ts"], json!({ "$timestamp": { "t": 5, "i": 6 } }));
        assert_eq!(new.iscryptd, Some(true));

        let Line::TopologyDescriptionChanged(event) = schema::parse(&lines[7]) else { panic!("{}", lines[7]) };
        assert_eq!(event.topology_id, "abababababababababababab");
        assert!(lines[7].contains(r#""previousDescription":{"type":"Unknown","servers":[]},"#), "{}", lines[7]);
        let new = event.new_description.unwrap();
        assert_eq!((new.topology_type.as_str(), new.set_name.as_deref()), ("ReplicaSetWithPrimary", Some(HOSTILE)));
        let types: Vec<_> = new.servers.iter().map(|server| server.server_type.as_str()).collect();
        assert_eq!(types, ["RSPrimary", "Unknown"]);
        assert_eq!(new.max_election_id, Some(ObjectId::from_bytes([0x7f; 12])));
        assert_eq!(new.max_set_version, Some(json!({ "$numberLong": i64::MAX.to_string() })));
        assert_eq!((new.compatible, new.compatibility_error.as_deref()), (Some(false), Some(HOSTILE)));
        assert_eq!(new.logical_session_timeout_minutes, Some(number(30)));
    }
}
