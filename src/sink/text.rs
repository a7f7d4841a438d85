//! The lines that Motor's and PyMongo's example listeners print, without the `INFO:root:` that Python's logging puts
//! before them. What those listeners have no line for (protocol errors, dropped events) has one in their manner.
//!
//! Where the two differ it is PyMongo's `pymongo.event_loggers`: after each change of a topology that is left without a
//! primary, or without any server, it says that none can be written to, and that none can be read, by which it means
//! from a primary. A change of a server that leaves its type as it was has no line. Why a heartbeat failed is told in
//! the words of the server, or in ours: a driver's own are not on the wire.

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

use super::printable::{plural, printable};
use super::{EventsDropped, Render, python};
use crate::event::{
    Address, CommandInfo, Connection, Entry, Event, Failure, ProtocolError, ServerHeartbeatFailed, ServerType,
    TopologyDescription, TopologyDescriptionChanged, TopologyType,
};
use crate::redact::Redacted;

/// Renders entries as the example listeners' lines.
#[derive(Debug, Default)]
pub struct Text;

impl Render for Text {
    fn render(&mut self, entry: &Redacted<Entry<'_>>, out: &mut Vec<u8>) {
        let connection = &*entry.connection;
        match &entry.event {
            Event::CommandStarted(event) => command(&event.info, " started", connection, out),
            Event::CommandSucceeded(event) => command_ended(&event.info, connection, "succeeded", event.duration, out),
            Event::CommandFailed(event) => command_ended(&event.info, connection, "failed", event.duration, out),
            Event::ConnectionCreated(_) => pool(connection, format_args!("connection created"), out),
            Event::ConnectionReady(_) => pool(connection, format_args!("connection setup succeeded"), out),
            Event::ConnectionClosed(event) => {
                pool(connection, format_args!("connection closed, reason: \"{}\"", event.reason.as_str()), out);
            }
            Event::ProtocolError(event) => protocol_error(connection, event, out),
            Event::ServerHeartbeatStarted(event) => heartbeat(" sent", &event.connection_id, "", out),
            Event::ServerHeartbeatSucceeded(event) => {
                heartbeat("", &event.connection_id, " succeeded with reply ", out);
                python::document(event.reply.as_bytes(), out);
            }
            Event::ServerHeartbeatFailed(event) => {
                heartbeat("", &event.connection_id, " failed with error ", out);
                heartbeat_error(event, out);
            }
            Event::ServerOpening(event) => {
                server(&event.address, format_args!("added to topology {}", event.topology_id), out);
            }
            Event::ServerDescriptionChanged(event) => {
                let (previous, new) = (event.previous_description.server_type, event.new_description.server_type);
                if previous == new {
                    return;
                }
                let change = format_args!("changed type from {} to {}", previous.as_str(), new.as_str());
                server(&event.address, change, out);
            }
            Event::ServerClosed(event) => {
                server(&event.address, format_args!("removed from topology {}", event.topology_id), out);
            }
            Event::TopologyOpening(event) => put(out, format_args!("Topology with id {} opened", event.topology_id)),
            Event::TopologyDescriptionChanged(event) => topology_changed(event, out),
            Event::TopologyClosed(event) => put(out, format_args!("Topology with id {} closed", event.topology_id)),
        }
        out.push(b'\n');
    }
}

/// Appends the line of an [`EventsDropped`].
pub fn events_dropped(event: &EventsDropped<'_>, out: &mut Vec<u8>) {
    let EventsDropped { exchanges, bytes, .. } = event;
    match (exchanges, bytes) {
        // Nobody knows how many.
        (0, 0) => put(out, format_args!("Log incomplete: ")),
        _ => {
            let exchanges = plural(*exchanges, "exchange");
            put(out, format_args!("Log incomplete: {exchanges} ({bytes} bytes) dropped, reason: "));
        }
    }
    printable(event.reason, out);
    out.push(b'\n');
}

/// `Command insert with request id 50073 started on server ('localhost', 27017)`.
fn command(info: &CommandInfo<'_>, what: &str, connection: &Connection, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Command ");
    printable(&info.command_name, out);
    put(out, format_args!(" with request id {}{what} on server ", info.request_id));
    address(&connection.server, out);
}

/// `Command insert with request id 50073 on server ('localhost', 27017) succeeded in 362 microseconds`.
fn command_ended(info: &CommandInfo<'_>, connection: &Connection, what: &str, duration: Duration, out: &mut Vec<u8>) {
    command(info, "", connection, out);
    put(out, format_args!(" {what} in {} microseconds", duration.as_micros()));
}

/// `[pool ('localhost', 27017)][conn #1] connection created`.
fn pool(connection: &Connection, what: Arguments<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[pool ");
    address(&connection.server, out);
    put(out, format_args!("][conn #{}] {what}", connection.id.0));
}

fn protocol_error(connection: &Connection, event: &ProtocolError<'_>, out: &mut Vec<u8>) {
    let (side, offset, action) = (event.side, event.offset, event.action.as_str());
    pool(connection, format_args!("protocol error from the {side} at byte {offset}, {action}: "), out);
    printable(&event.message, out);
}

/// `Heartbeat sent to server ('localhost', 27017)`.
fn heartbeat(sent: &str, to: &Address, what: &str, out: &mut Vec<u8>) {
    put(out, format_args!("Heartbeat{sent} to server "));
    address(to, out);
    put(out, format_args!("{what}"));
}

/// `Server ('localhost', 27017) added to topology 6741c1dff1e2d3000000001f`.
fn server(of: &Address, what: Arguments<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Server ");
    address(of, out);
    put(out, format_args!(" {what}"));
}

/// Up to four lines, the last without its end.
fn topology_changed(event: &TopologyDescriptionChanged, out: &mut Vec<u8>) {
    let id = event.topology_id;
    put(out, format_args!("Topology description updated for topology id {id}"));
    let (previous, new) = (event.previous_description.topology_type, event.new_description.topology_type);
    if previous != new {
        put(out, format_args!("\nTopology {id} changed type from {} to {}", previous.as_str(), new.as_str()));
    }
    if !has_primary(&event.new_description) {
        out.extend_from_slice(b"\nNo writable servers available.\nNo readable servers available.");
    }
}

/// Whether a driver would find a server for writing, or for reading from a primary, which is the same to it.
fn has_primary(description: &TopologyDescription) -> bool {
    let has = |wanted: fn(ServerType) -> bool| description.servers.iter().any(|server| wanted(server.server_type));
    match description.topology_type {
        TopologyType::Unknown => false,
        TopologyType::ReplicaSetNoPrimary | TopologyType::ReplicaSetWithPrimary => {
            has(|it| it == ServerType::RSPrimary)
        }
        TopologyType::Single | TopologyType::Sharded | TopologyType::LoadBalanced => has(ServerType::is_known),
    }
}

/// What Python's `str` gives of the error: of a server's its message and all of it, of the network's where it was.
fn heartbeat_error(event: &ServerHeartbeatFailed<'_>, out: &mut Vec<u8>) {
    match &event.failure {
        Failure::Reply(reply) => {
            let message = reply.raw().ok().and_then(|reply| reply.get_str("errmsg").ok());
            printable(message.unwrap_or("no error message"), out);
            out.extend_from_slice(b", full error: ");
            python::document(reply.as_bytes(), out);
        }
        Failure::Network { message, .. } => {
            printable(&event.connection_id.to_string(), out);
            out.extend_from_slice(b": ");
            printable(message, out);
        }
    }
}

/// An address as Python writes a tuple: `('localhost', 27017)`, `('/tmp/mongodb-27017.sock', None)`.
fn address(address: &Address, out: &mut Vec<u8>) {
    out.push(b'(');
    python::string(&address.host, out);
    match address.port {
        Some(port) => put(out, format_args!(", {port})")),
        None => out.extend_from_slice(b", None)"),
    }
}

fn put(out: &mut Vec<u8>, text: Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;

    use super::*;
    use crate::event::{
        Action, CloseReason, ConnectionClosed, ConnectionCreated, ConnectionReady, Metadata, ServerClosed,
        ServerDescription, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening, Side, TopologyClosed,
        TopologyOpening,
    };
    use crate::sink::sample::{self, AT, entry, failed, said_no, started, succeeded};

    fn line(event: impl Into<Event<'static>>) -> String {
        let mut out = Vec::new();
        Text.render(&entry(event), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_as_the_example_listener_prints_them() {
        let insert = started("shop.orders", rawdoc! { "insert": "orders" });
        assert_eq!(
            line(insert.clone()),
            "Command insert with request id 50073 started on server ('localhost', 27017)\n"
        );
        assert_eq!(
            line(succeeded(&insert, 362, rawdoc! { "ok": 1 })),
            "Command insert with request id 50073 on server ('localhost', 27017) succeeded in 362 microseconds\n"
        );
        assert_eq!(
            line(failed(&insert, 362, said_no(rawdoc! { "ok": 0 }))),
            "Command insert with request id 50073 on server ('localhost', 27017) failed in 362 microseconds\n"
        );
        let network = Failure::Network { message: "connection closed".into(), closed_by: Some(Side::Server) };
        assert_eq!(
            line(failed(&insert, 0, network)),
            "Command insert with request id 50073 on server ('localhost', 27017) failed in 0 microseconds\n"
        );
    }

    #[test]
    fn connections_as_the_pool_listener_prints_them() {
        let pool = "[pool ('localhost', 27017)][conn #1]";
        assert_eq!(line(ConnectionCreated {}), format!("{pool} connection created\n"));
        let ready = ConnectionReady {
            duration: Duration::from_millis(2),
            server_connection_id: None,
            metadata: Metadata::default(),
        };
        assert_eq!(line(ready), format!("{pool} connection setup succeeded\n"));
        let closed = ConnectionClosed { reason: CloseReason::PoolClosed, closed_by: None };
        assert_eq!(line(closed), format!("{pool} connection closed, reason: \"poolClosed\"\n"));
    }

    const TOPOLOGY: &str = "6741c1dff1e2d3000000001f";

    #[test]
    fn servers_as_the_example_listener_prints_them() {
        let address = Address::parse("a:27017");
        let opened = ServerOpening { topology_id: sample::TOPOLOGY, address: address.clone() };
        assert_eq!(line(opened), format!("Server ('a', 27017) added to topology {TOPOLOGY}\n"));
        let [unknown, primary] = [ServerType::Unknown, ServerType::RSPrimary].map(|it| sample::server("a:27017", it));
        let changed = sample::server_changed(unknown.clone(), primary);
        assert_eq!(line(changed), "Server ('a', 27017) changed type from Unknown to RSPrimary\n");
        let failed = ServerDescription { error: Some("gone".to_owned()), ..unknown.clone() };
        assert_eq!(line(sample::server_changed(unknown, failed)), "", "its type is what it was");
        let closed = ServerClosed { topology_id: sample::TOPOLOGY, address };
        assert_eq!(line(closed), format!("Server ('a', 27017) removed from topology {TOPOLOGY}\n"));
    }

    #[test]
    fn topologies_as_the_example_listener_prints_them() {
        let opened = TopologyOpening { topology_id: sample::TOPOLOGY };
        assert_eq!(line(opened), format!("Topology with id {TOPOLOGY} opened\n"));
        let updated = format!("Topology description updated for topology id {TOPOLOGY}\n");
        let none = "No writable servers available.\nNo readable servers available.\n";
        let (without, with) = (sample::replica_set(&[]), sample::replica_set(&[("a:1", ServerType::RSPrimary)]));
        let to = |from: &TopologyDescription, to: &TopologyDescription| {
            line(sample::topology_changed(from.clone(), to.clone()))
        };
        let unknown = TopologyDescription::default();
        let changed = format!("{updated}Topology {TOPOLOGY} changed type from Unknown to ReplicaSetNoPrimary\n{none}");
        assert_eq!(to(&unknown, &without), changed);
        let changed =
            format!("{updated}Topology {TOPOLOGY} changed type from ReplicaSetNoPrimary to ReplicaSetWithPrimary\n");
        assert_eq!(to(&without, &with), changed);
        assert_eq!(to(&with, &with), updated);
        assert_eq!(to(&unknown, &unknown), format!("{updated}{none}"));
        let single = |server_type| TopologyDescription {
            topology_type: TopologyType::Single,
            servers: vec![sample::server("a:1", server_type)],
            ..TopologyDescription::default()
        };
        let [lost, found] = [ServerType::Unknown, ServerType::RSSecondary].map(single);
        assert_eq!(to(&lost, &found), updated);
        assert_eq!(to(&found, &lost), format!("{updated}{none}"));
        let closed = TopologyClosed { topology_id: sample::TOPOLOGY };
        assert_eq!(line(closed), format!("Topology with id {TOPOLOGY} closed\n"));
    }

    #[test]
    fn heartbeats_as_the_example_listener_prints_them() {
        let connection_id = Address::parse("localhost:27017");
        let sent = ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited: true };
        assert_eq!(line(sent), "Heartbeat sent to server ('localhost', 27017)\n");
        let reply = rawdoc! { "hosts": ["a:1"], "me": "it's", "readOnly": false, "ok": 1.0 }.into();
        let succeeded = ServerHeartbeatSucceeded { connection_id, awaited: true, duration: Duration::ZERO, reply };
        assert_eq!(
            line(succeeded),
            "Heartbeat to server ('localhost', 27017) succeeded with reply \
             {'hosts': ['a:1'], 'me': \"it's\", 'readOnly': False, 'ok': 1.0}\n"
        );
        let network = Failure::Network { message: "connection\nclosed".into(), closed_by: Some(Side::Server) };
        assert_eq!(
            line(sample::heartbeat_failed(network)),
            "Heartbeat to server ('localhost', 27017) failed with error localhost:27017: connection\\nclosed\n"
        );
        assert_eq!(
            line(sample::heartbeat_failed(said_no(rawdoc! { "ok": 0.0, "errmsg": "no\u{1b}", "code": 91 }))),
            "Heartbeat to server ('localhost', 27017) failed with error no\\x1b, full error: \
             {'ok': 0.0, 'errmsg': 'no\\x1b', 'code': 91}\n"
        );
    }

    #[test]
    fn what_the_listeners_do_not_know() {
        let error = ProtocolError {
            side: Side::Client,
            offset: 0,
            message: "message length 369296128 is outside 16..=48000000".into(),
            action: Action::Tunnelled,
        };
        assert_eq!(
            line(error),
            "[pool ('localhost', 27017)][conn #1] protocol error from the client at byte 0, tunnelled: \
             message length 369296128 is outside 16..=48000000\n"
        );
        let mut out = Vec::new();
        events_dropped(&EventsDropped { at: AT, exchanges: 3, bytes: 900, reason: "queue full" }, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Log incomplete: 3 exchanges (900 bytes) dropped, reason: queue full\n"
        );
    }

    #[test]
    fn addresses_as_python_writes_them() {
        for (text, tuple) in [
            ("localhost:27017", "('localhost', 27017)"),
            ("[::1]:27017", "('::1', 27017)"),
            ("/tmp/mongodb-27017.sock", "('/tmp/mongodb-27017.sock', None)"),
            ("/tmp/it's/m.sock", "(\"/tmp/it's/m.sock\", None)"),
            ("/tmp/\"it's\".sock", "('/tmp/\"it\\'s\".sock', None)"),
            ("/tmp/a\\b\n.sock", "('/tmp/a\\\\b\\n.sock', None)"),
        ] {
            let mut out = Vec::new();
            address(&Address::parse(text), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), tuple);
        }
    }

    #[test]
    fn a_hostile_name_stays_on_its_line() {
        let hostile = started("shop", rawdoc! { "ping\n\u{1b}[2J\u{202e}": 1 });
        assert_eq!(
            line(hostile),
            "Command ping\\n\\x1b[2J\\u202e with request id 50073 started on server ('localhost', 27017)\n"
        );
    }
}
