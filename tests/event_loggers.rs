//! The `text` log beside PyMongo's own `event_loggers`: both are told of the same events, and must print the same lines.
//!
//! PyMongo is told by the event log: a program of its own makes its objects from the lines and hands them to the
//! loggers. Why a heartbeat failed is the driver's own text where there was no reply; there its form is compared.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::rawdoc;
use mongotap::bson::json::Mode;
use mongotap::event::{
    Address, Connection, ConnectionId, Entry, Event, Failure, Phase, ServerClosed, ServerDescription,
    ServerDescriptionChanged, ServerHeartbeatFailed, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening,
    ServerType, Timestamp, TopologyClosed, TopologyDescription, TopologyDescriptionChanged, TopologyOpening,
    TopologyType,
};
use mongotap::redact;
use mongotap::sink::{Format, Options};

#[path = "support/fetch.rs"]
mod fetch;

const TOPOLOGY: ObjectId =
    ObjectId::from_bytes([0x67, 0x41, 0xc1, 0xdf, 0xf1, 0xe2, 0xd3, 0xc4, 0xb5, 0x6d, 0x7e, 0x8f]);

/// Reads an event log; prints what the loggers make of it.
const PROGRAM: &str = r#"
import logging, sys
from types import SimpleNamespace
from bson import ObjectId, json_util
from pymongo import event_loggers, monitoring
from pymongo.errors import AutoReconnect, OperationFailure
from pymongo.hello import Hello
from pymongo.server_description import ServerDescription
from pymongo.topology_description import TOPOLOGY_TYPE, TopologyDescription

REPLIES = {
    'Unknown': {},
    'Standalone': {'ok': 1},
    'Mongos': {'ok': 1, 'msg': 'isdbgrid'},
    'RSPrimary': {'ok': 1, 'setName': 'rs0', 'isWritablePrimary': True},
    'RSSecondary': {'ok': 1, 'setName': 'rs0', 'secondary': True},
    'RSArbiter': {'ok': 1, 'setName': 'rs0', 'arbiterOnly': True},
    'RSOther': {'ok': 1, 'setName': 'rs0', 'hidden': True},
    'RSGhost': {'ok': 1, 'isreplicaset': True},
    'LoadBalancer': {'ok': 1, 'serviceId': ObjectId()},
}
SETTINGS = SimpleNamespace(local_threshold_ms=15, heartbeat_frequency=10)

def address(text):
    if text.startswith('/'):
        return text, None
    host, port = text.rsplit(':', 1)
    return host.strip('[]'), int(port)

def server(fields):
    description = ServerDescription(address(fields['address']), Hello(REPLIES[fields['type']]), 0.001)
    assert description.server_type_name == fields['type']
    return description

def topology(fields):
    servers = {address(it['address']): server(it) for it in fields['servers']}
    kind = getattr(TOPOLOGY_TYPE, fields['type'])
    return TopologyDescription(kind, servers, fields.get('setName'), None, None, SETTINGS)

def error(event):
    failure = event['failure']
    if list(failure) == ['message']:
        return AutoReconnect(event['connectionId'] + ': ' + failure['message'])
    return OperationFailure(failure['errmsg'], failure['code'], failure)

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format='%(message)s')
servers, topologies, heartbeats = (
    event_loggers.ServerLogger(), event_loggers.TopologyLogger(), event_loggers.HeartbeatLogger())
for line in sys.stdin:
    event = json_util.loads(line, json_options=json_util.JSONOptions(tz_aware=False))
    id, name = ObjectId(event.get('topologyId')), event['event']
    if name.startswith('serverHeartbeat'):
        where = address(event['connectionId'])
    elif name.startswith('server'):
        where = address(event['address'])
    if name == 'serverOpeningEvent':
        servers.opened(monitoring.ServerOpeningEvent(where, id))
    elif name == 'serverDescriptionChangedEvent':
        change = server(event['previousDescription']), server(event['newDescription'])
        servers.description_changed(monitoring.ServerDescriptionChangedEvent(*change, where, id))
    elif name == 'serverClosedEvent':
        servers.closed(monitoring.ServerClosedEvent(where, id))
    elif name == 'topologyOpeningEvent':
        topologies.opened(monitoring.TopologyOpenedEvent(id))
    elif name == 'topologyDescriptionChangedEvent':
        change = topology(event['previousDescription']), topology(event['newDescription'])
        topologies.description_changed(monitoring.TopologyDescriptionChangedEvent(*change, id))
    elif name == 'topologyClosedEvent':
        topologies.closed(monitoring.TopologyClosedEvent(id))
    elif name == 'serverHeartbeatStartedEvent':
        heartbeats.started(monitoring.ServerHeartbeatStartedEvent(where, event['awaited']))
    elif name == 'serverHeartbeatSucceededEvent':
        reply = monitoring.ServerHeartbeatSucceededEvent(0.1, Hello(event['reply']), where, event['awaited'])
        heartbeats.succeeded(reply)
    elif name == 'serverHeartbeatFailedEvent':
        heartbeats.failed(monitoring.ServerHeartbeatFailedEvent(0.1, error(event), where, event['awaited']))
    else:
        raise Exception(line)
"#;

/// All but `PossiblePrimary`, which PyMongo does not have.
const TYPES: [ServerType; 9] = [
    ServerType::Unknown,
    ServerType::Standalone,
    ServerType::Mongos,
    ServerType::RSPrimary,
    ServerType::RSSecondary,
    ServerType::RSArbiter,
    ServerType::RSOther,
    ServerType::RSGhost,
    ServerType::LoadBalancer,
];

fn server(address: &str, server_type: ServerType) -> ServerDescription {
    ServerDescription { address: Address::parse(address), server_type, ..ServerDescription::default() }
}

/// Every type of server becoming every other.
fn servers() -> Vec<Event<'static>> {
    let mut events = Vec::new();
    for address in ["localhost:27017", "[::1]:27018", "/tmp/it's.sock", "/tmp/\"it's\" \u{e9}.sock"] {
        let (topology_id, parsed) = (TOPOLOGY, Address::parse(address));
        events.push(Event::ServerOpening(Box::new(ServerOpening { topology_id, address: parsed.clone() })));
        for (previous, new) in TYPES.into_iter().flat_map(|previous| TYPES.map(|new| (previous, new))) {
            events.push(Event::ServerDescriptionChanged(Box::new(ServerDescriptionChanged {
                topology_id,
                address: parsed.clone(),
                previous_description: server(address, previous),
                new_description: server(address, new),
            })));
        }
        events.push(Event::ServerClosed(Box::new(ServerClosed { topology_id, address: parsed })));
    }
    events
}

/// Every type of topology with any server, and with two, becoming another and going away.
fn topologies() -> Vec<Event<'static>> {
    let topology_id = TOPOLOGY;
    let of = |topology_type, servers: Vec<ServerDescription>| TopologyDescription {
        topology_type,
        set_name: Some("rs0".to_owned()),
        servers,
        ..TopologyDescription::default()
    };
    let mut descriptions = vec![TopologyDescription::default()];
    for topology_type in TopologyType::ALL {
        descriptions.push(of(topology_type, vec![]));
        for one in TYPES {
            descriptions.push(of(topology_type, vec![server("a:1", one)]));
            let other = server("b:2", ServerType::RSSecondary);
            descriptions.push(of(topology_type, vec![server("a:1", one), other]));
        }
    }
    let mut events = vec![Event::TopologyOpening(Box::new(TopologyOpening { topology_id }))];
    for pair in descriptions.windows(2).chain(descriptions.chunks(7)) {
        let ends = [(&pair[0], &pair[pair.len() - 1]), (&pair[pair.len() - 1], &pair[0])];
        events.extend(ends.map(|(previous, new)| {
            Event::TopologyDescriptionChanged(Box::new(TopologyDescriptionChanged {
                topology_id,
                previous_description: previous.clone(),
                new_description: new.clone(),
            }))
        }));
    }
    events.push(Event::TopologyClosed(Box::new(TopologyClosed { topology_id })));
    events
}

fn heartbeats() -> Vec<Event<'static>> {
    let (connection_id, awaited, duration) = (Address::parse("localhost:27017"), true, Duration::from_millis(5));
    let version = rawdoc! { "processId": TOPOLOGY, "counter": 6_i64 };
    let signature = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: vec![0; 20] };
    let at = bson::Timestamp { time: 1_795_333_471, increment: 1 };
    let now = bson::DateTime::from_millis(1_795_333_471_867);
    let reply = rawdoc! {
        "topologyVersion": version, "hosts": ["a:1", "b:2"], "setName": "it's", "isWritablePrimary": true,
        "lastWrite": { "opTime": { "ts": at, "t": 1_i64 }, "lastWriteDate": now }, "maxBsonObjectSize": 16_777_216,
        "localTime": now, "readOnly": false, "primary": null, "ok": 1.0, "connectionId": 5_000_000_000_i64,
        "$clusterTime": { "clusterTime": at, "signature": { "hash": signature, "keyId": 0_i64 } }, "operationTime": at,
    };
    let refused = rawdoc! { "ok": 0.0, "errmsg": "it's shutting down", "code": 91, "codeName": "ShutdownInProgress" };
    let network = Failure::Network { message: "connection closed".into(), closed_by: None };
    let failed = |failure| {
        let connection_id = connection_id.clone();
        Event::ServerHeartbeatFailed(Box::new(ServerHeartbeatFailed { connection_id, awaited, duration, failure }))
    };
    let reply = reply.into();
    let succeeded = ServerHeartbeatSucceeded { connection_id: connection_id.clone(), awaited, duration, reply };
    let started = ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited };
    vec![
        Event::ServerHeartbeatStarted(Box::new(started)),
        Event::ServerHeartbeatSucceeded(Box::new(succeeded)),
        failed(Failure::Reply(refused.into())),
        failed(network),
    ]
}

fn rendered(format: Format, event: Event<'static>) -> String {
    let connection = Arc::new(Connection {
        id: ConnectionId(1),
        client: "127.0.0.1:40112".to_owned(),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address::parse("localhost:27017"),
        tls: false,
    });
    let entry = redact::apply(Entry { at: Timestamp::default(), connection, phase: Phase::Monitor, event });
    let mut out = Vec::new();
    // PyMongo is to know an int64 from an int32.
    format.renderer(&Options { extended_json: Mode::Canonical, ..Options::default() }).render(&entry, &mut out);
    String::from_utf8(out).unwrap()
}

/// What PyMongo's loggers print of an event log.
fn pymongo(log: String) -> String {
    let mut python = Command::new("python3");
    python.args(["-c", PROGRAM]).env("PYTHONPATH", fetch::pymongo_sdist()).env("PYTHONDONTWRITEBYTECODE", "1");
    python.env("PYTHONIOENCODING", "utf-8").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(log.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn assert_same(events: &[Event<'static>], lines: usize) {
    let line = |event: &Event<'static>| format!("{{\"seq\":0,{}", rendered(Format::Jsonl, event.clone()));
    let theirs = pymongo(events.iter().map(line).collect());
    let ours: String = events.iter().map(|event| rendered(Format::Text, event.clone())).collect();
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!((ours.lines().count(), theirs.lines().count()), (lines, lines));
}

#[test]
fn servers_are_printed_as_pymongo_prints_them() {
    // Of the 81 changes 72 are of the type.
    assert_same(&servers(), 4 * (1 + 72 + 1));
}

#[test]
fn topologies_are_printed_as_pymongo_prints_them() {
    assert_same(&topologies(), 560);
}

#[test]
fn heartbeats_are_printed_as_pymongo_prints_them() {
    assert_same(&heartbeats(), 4);
}
