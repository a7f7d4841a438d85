//! Entries for the tests of sinks: one connection, commands on it and descriptions that a test changes as it needs.

use std::sync::Arc;
use std::time::Duration;

use ::bson::raw::RawDocumentBuf;

use crate::event::{
    Address, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Connection, ConnectionId, Document, Entry,
    Event, Exchange, Failure, Measures, Phase, ServerClosed, ServerDescription, ServerDescriptionChanged,
    ServerHeartbeatFailed, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening, ServerType, Side,
    Timestamp, TopologyClosed, TopologyDescription, TopologyDescriptionChanged, TopologyId, TopologyOpening,
    TopologyType, TopologyVersion,
};
use crate::redact::{self, Redacted};

/// 2026-11-22T07:44:31.867123Z.
pub(crate) const AT: Timestamp = Timestamp { monotonic_nanos: 5_000_000_000, unix_micros: 1_795_333_471_867_123 };

pub(crate) fn connection(id: u64) -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(id),
        client: "127.0.0.1:40112".to_owned(),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address::parse("localhost:27017"),
        tls: false,
    })
}

pub(crate) fn entry(event: impl Into<Event<'static>>) -> Redacted<Entry<'static>> {
    redact::apply(Entry { at: AT, connection: connection(1), phase: Phase::App, event: event.into() })
}

pub(crate) fn info(command: &str, namespace: &str) -> CommandInfo<'static> {
    let (database, collection) = match namespace.split_once('.') {
        Some((database, collection)) => (database, Some(collection.to_owned().into())),
        None => (namespace, None),
    };
    CommandInfo {
        command_name: command.to_owned().into(),
        database_name: database.to_owned().into(),
        collection,
        request_id: 50073,
        server_connection_id: Some(12),
        service_id: None,
        exchange: Exchange(1),
        continues: None,
        compressor: None,
        sensitive: false,
    }
}

pub(crate) fn started(namespace: &str, body: RawDocumentBuf) -> CommandStarted<'static> {
    let name = body.iter().next().unwrap().unwrap().0.to_string();
    CommandStarted { info: info(&name, namespace), command: body.into() }
}

pub(crate) fn succeeded(of: &CommandStarted<'_>, micros: u64, reply: RawDocumentBuf) -> CommandSucceeded<'static> {
    CommandSucceeded {
        info: of.info.clone().into_owned(),
        duration: Duration::from_micros(micros),
        reply: reply.into(),
        measures: Measures { request_bytes: 143, reply_bytes: 45, ..Measures::default() },
    }
}

pub(crate) fn failed(of: &CommandStarted<'_>, micros: u64, failure: Failure<'static>) -> CommandFailed<'static> {
    CommandFailed {
        info: of.info.clone().into_owned(),
        duration: Duration::from_micros(micros),
        failure,
        measures: Measures { request_bytes: 143, ..Measures::default() },
    }
}

pub(crate) fn said_no(reply: RawDocumentBuf) -> Failure<'static> {
    Failure::Reply(Document::from(reply))
}

/// The topology of all of these.
pub(crate) const TOPOLOGY: TopologyId =
    TopologyId::from_bytes([0x67, 0x41, 0xc1, 0xdf, 0xf1, 0xe2, 0xd3, 0, 0, 0, 0, 0x1f]);

/// A server that is known by its type alone.
pub(crate) fn server(address: &str, server_type: ServerType) -> ServerDescription {
    ServerDescription { address: Address::parse(address), server_type, ..ServerDescription::default() }
}

/// A replica set of these servers, with a primary if there is one.
pub(crate) fn replica_set(servers: &[(&str, ServerType)]) -> TopologyDescription {
    let has_primary = servers.iter().any(|(_, it)| *it == ServerType::RSPrimary);
    TopologyDescription {
        topology_type: match has_primary {
            true => TopologyType::ReplicaSetWithPrimary,
            false => TopologyType::ReplicaSetNoPrimary,
        },
        set_name: Some("rs0".to_owned()),
        servers: servers.iter().map(|(address, it)| server(address, *it)).collect(),
        ..TopologyDescription::default()
    }
}

pub(crate) fn topology_changed(previous: TopologyDescription, new: TopologyDescription) -> Event<'static> {
    TopologyDescriptionChanged { topology_id: TOPOLOGY, previous_description: previous, new_description: new }.into()
}

pub(crate) fn server_changed(previous: ServerDescription, new: ServerDescription) -> Event<'static> {
    let address = new.address.clone();
    ServerDescriptionChanged { topology_id: TOPOLOGY, address, previous_description: previous, new_description: new }
        .into()
}

pub(crate) fn heartbeat_failed(failure: Failure<'static>) -> Event<'static> {
    let (connection_id, duration) = (Address::parse("localhost:27017"), Duration::from_micros(1503));
    ServerHeartbeatFailed { connection_id, awaited: true, duration, failure }.into()
}

/// A server of which everything is known.
pub(crate) fn full_server() -> ServerDescription {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    ServerDescription {
        error: Some("primary marked stale".to_owned()),
        set_name: Some("rs0".to_owned()),
        set_version: Some(1 << 40),
        election_id: Some(TopologyId::from_bytes([0x7f; 12])),
        me: Some("a:27017".to_owned()),
        hosts: names(&["a:27017", "b:27017"]),
        passives: names(&["c:27017"]),
        arbiters: names(&["d:27017"]),
        primary: Some("a:27017".to_owned()),
        tags: vec![("dc".to_owned(), "ny".to_owned()), ("rack".to_owned(), "\"2\"".to_owned())],
        min_wire_version: Some(0),
        max_wire_version: Some(17),
        logical_session_timeout_minutes: Some(30),
        topology_version: Some(TopologyVersion { process_id: TopologyId::from_bytes([1; 12]), counter: 1 << 40 }),
        last_write_date: Some(::bson::DateTime::from_millis(1_795_333_471_000)),
        op_time: Some(::bson::rawdoc! { "ts": ::bson::Timestamp { time: 5, increment: 6 }, "t": 1_i64 << 40 }),
        iscryptd: true,
        ..server("a:27017", ServerType::RSPrimary)
    }
}

/// One of each of the events of heartbeats, servers and topologies.
pub(crate) fn sdam_events() -> Vec<Event<'static>> {
    let (connection_id, duration) = (Address::parse("localhost:27017"), Duration::from_micros(1503));
    let address = Address::parse("a:27017");
    let unknown = server("a:27017", ServerType::Unknown);
    let full = TopologyDescription {
        max_election_id: Some(TopologyId::from_bytes([0x7f; 12])),
        max_set_version: Some(3),
        servers: vec![full_server(), server("[::1]:27018", ServerType::RSGhost)],
        compatibility_error: Some("too new".to_owned()),
        logical_session_timeout_minutes: Some(30),
        ..replica_set(&[])
    };
    let network = Failure::Network { message: "connection closed".into(), closed_by: Some(Side::Client) };
    let reply = ::bson::rawdoc! { "isWritablePrimary": true, "ok": 1.0 };
    vec![
        ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited: false }.into(),
        ServerHeartbeatSucceeded { connection_id, awaited: true, duration, reply: reply.into() }.into(),
        heartbeat_failed(network),
        heartbeat_failed(said_no(::bson::rawdoc! { "ok": 0.0, "errmsg": "no", "code": 91 })),
        TopologyOpening { topology_id: TOPOLOGY }.into(),
        topology_changed(TopologyDescription::default(), full),
        ServerOpening { topology_id: TOPOLOGY, address: address.clone() }.into(),
        server_changed(unknown, full_server()),
        ServerClosed { topology_id: TOPOLOGY, address }.into(),
        TopologyClosed { topology_id: TOPOLOGY }.into(),
    ]
}

/// So that a test can say `entry(event)`, whatever the event.
macro_rules! events {
    ($make:expr; $($event:ident $(<$life:lifetime>)?),*) => {
        $(impl From<crate::event::$event $(<$life>)?> for Event<'static> {
            fn from(event: crate::event::$event $(<$life>)?) -> Self {
                Self::$event($make(event))
            }
        })*
    };
}

events!(
    std::convert::identity;
    CommandStarted<'static>,
    CommandSucceeded<'static>,
    CommandFailed<'static>,
    ConnectionCreated,
    ConnectionReady<'static>,
    ConnectionClosed,
    ProtocolError<'static>
);

events!(
    Box::new;
    ServerHeartbeatStarted,
    ServerHeartbeatSucceeded<'static>,
    ServerHeartbeatFailed<'static>,
    ServerOpening,
    ServerDescriptionChanged,
    ServerClosed,
    TopologyOpening,
    TopologyDescriptionChanged,
    TopologyClosed
);
