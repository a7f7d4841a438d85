//! What `show` prints of heartbeats, servers and topologies.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::rawdoc;
use mongotap::event::{
    Address, Event, Failure, ServerClosed, ServerDescription, ServerDescriptionChanged, ServerHeartbeatFailed,
    ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening, ServerType, TopologyClosed, TopologyDescription,
    TopologyDescriptionChanged, TopologyOpening, TopologyType,
};
use mongotap::sink::{Format, Options};

use super::{Directory, Log, entry};

/// A client's view of a set that loses its primary, as the recorder has it: what text and compact print while it happens
/// is what they print of the log.
#[test]
fn topologies_are_shown_as_they_were_seen() {
    let mut log = Log::new();
    let events = failover();
    events.iter().for_each(|event| log.event(event.clone()));
    let log = log.ended();
    let directory = Directory::with(&log.text());
    let live = |format: Format, events: &mut dyn Iterator<Item = &Event<'static>>| {
        let (mut renderer, mut out) = (format.renderer(&Options::default()), Vec::new());
        events.for_each(|event| renderer.render(&entry(event.clone()), &mut out));
        String::from_utf8(out).unwrap()
    };
    assert_eq!(directory.show(&["--format", "text"]), live(Format::Text, &mut events.iter()));
    let all = directory.show(&["--events", "heartbeat,server,topology"]);
    assert_eq!(all, live(Format::Compact, &mut events.iter()));
    let expected = "\
        07:44:31.867Z t6d7e8f topology opened by 127.0.0.1:40112 (c3)\n\
        07:44:31.867Z t6d7e8f topology ReplicaSetWithPrimary  set rs0  primary a:27017  servers a:27017\n\
        07:44:31.867Z t6d7e8f topology ReplicaSetNoPrimary  no primary (was a:27017)  lost a:27017: connection closed\n\
        07:44:31.867Z t6d7e8f topology closed\n";
    assert_eq!(directory.show(&[]), expected, "topologies are shown unless something else is asked for");
    assert_eq!(directory.show(&["--events", "topology"]), expected);
    let heartbeats = directory.show(&["--format", "jsonl", "--events", "heartbeat"]);
    let heartbeats: Vec<_> = heartbeats.lines().filter(|line| !line.contains("recorder")).collect();
    assert_eq!(heartbeats.len(), 3);
    assert!(heartbeats.iter().all(|line| line.contains("\"event\":\"serverHeartbeat")), "{heartbeats:?}");
    let failed = directory.run("show", &["--failed"]);
    assert_eq!(failed, (String::new(), "mongotap: log.jsonl: no events match\n".to_owned(), 0), "commands only");
}

fn failover() -> Vec<Event<'static>> {
    let address = Address::parse("a:27017");
    let topology_id = ObjectId::parse_str("6741c1dff1e2d3c4b56d7e8f").unwrap();
    let server = |server_type, error: Option<&str>| ServerDescription {
        address: address.clone(),
        server_type,
        error: error.map(str::to_owned),
        ..ServerDescription::default()
    };
    let (primary, lost) = (server(ServerType::RSPrimary, None), server(ServerType::Unknown, Some("connection closed")));
    let topology = |topology_type, server: &ServerDescription| TopologyDescription {
        topology_type,
        set_name: Some("rs0".to_owned()),
        servers: vec![server.clone()],
        ..TopologyDescription::default()
    };
    let changed = |previous_description, new_description| {
        let event = TopologyDescriptionChanged { topology_id, previous_description, new_description };
        Event::TopologyDescriptionChanged(Box::new(event))
    };
    let (connection_id, awaited, duration) = (address.clone(), true, Duration::from_micros(1503));
    let started = ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited };
    let reply = rawdoc! { "me": "it's", "localTime": bson::DateTime::from_millis(1_795_333_471_867), "ok": 1.0 }.into();
    let succeeded = ServerHeartbeatSucceeded { connection_id: connection_id.clone(), awaited, duration, reply };
    let failure = Failure::Network { message: "connection closed".into(), closed_by: None };
    let with = topology(TopologyType::ReplicaSetWithPrimary, &primary);
    let without = topology(TopologyType::ReplicaSetNoPrimary, &lost);
    let server_changed = ServerDescriptionChanged {
        topology_id,
        address: address.clone(),
        previous_description: primary,
        new_description: lost,
    };
    vec![
        Event::TopologyOpening(Box::new(TopologyOpening { topology_id })),
        Event::ServerOpening(Box::new(ServerOpening { topology_id, address: address.clone() })),
        Event::ServerHeartbeatStarted(Box::new(started)),
        Event::ServerHeartbeatSucceeded(Box::new(succeeded)),
        changed(TopologyDescription::default(), with.clone()),
        Event::ServerHeartbeatFailed(Box::new(ServerHeartbeatFailed { connection_id, awaited, duration, failure })),
        Event::ServerDescriptionChanged(Box::new(server_changed)),
        changed(with, without.clone()),
        Event::ServerClosed(Box::new(ServerClosed { topology_id, address })),
        changed(without, TopologyDescription::default()),
        Event::TopologyClosed(Box::new(TopologyClosed { topology_id })),
    ]
}
