//! The lines that Motor's and PyMongo's example listeners print, without the `INFO:root:` that Python's logging puts
//! before them. What those listeners have no line for (protocol errors, dropped events) has one in their manner.

use std::io::Write;

use super::printable::{printable, printed};
use super::{EventsDropped, Render};
use crate::event::{Address, CommandInfo, Connection, Entry, Event, ProtocolError};
use crate::redact::Redacted;

/// Renders entries as the example listeners' lines, one an event.
#[derive(Debug, Default)]
pub struct Text;

impl Render for Text {
    fn render(&mut self, entry: &Redacted<Entry<'_>>, out: &mut Vec<u8>) {
        let connection = &*entry.connection;
        match &entry.event {
            Event::CommandStarted(event) => {
                command(&event.info, out);
                out.extend_from_slice(b" started on server ");
                address(&connection.server, out);
            }
            Event::CommandSucceeded(event) => {
                command(&event.info, out);
                out.extend_from_slice(b" on server ");
                address(&connection.server, out);
                put(out, format_args!(" succeeded in {} microseconds", event.duration.as_micros()));
            }
            Event::CommandFailed(event) => {
                command(&event.info, out);
                out.extend_from_slice(b" on server ");
                address(&connection.server, out);
                put(out, format_args!(" failed in {} microseconds", event.duration.as_micros()));
            }
            Event::ConnectionCreated(_) => {
                pool(connection, out);
                out.extend_from_slice(b" connection created");
            }
            Event::ConnectionReady(_) => {
                pool(connection, out);
                out.extend_from_slice(b" connection setup succeeded");
            }
            Event::ConnectionClosed(event) => {
                pool(connection, out);
                put(out, format_args!(" connection closed, reason: \"{}\"", event.reason.as_str()));
            }
            Event::ProtocolError(event) => {
                pool(connection, out);
                protocol_error(event, out);
            }
            _ => return,
        }
        out.push(b'\n');
    }
}

/// Appends the line of an [`EventsDropped`].
pub fn events_dropped(event: &EventsDropped<'_>, out: &mut Vec<u8>) {
    let EventsDropped { exchanges, bytes, .. } = event;
    put(out, format_args!("Log incomplete: {exchanges} exchanges ({bytes} bytes) dropped, reason: "));
    printable(event.reason, out);
    out.push(b'\n');
}

/// `Command insert with request id 50073`.
fn command(info: &CommandInfo<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Command ");
    printable(&info.command_name, out);
    put(out, format_args!(" with request id {}", info.request_id));
}

/// `[pool ('localhost', 27017)][conn #1]`.
fn pool(connection: &Connection, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[pool ");
    address(&connection.server, out);
    put(out, format_args!("][conn #{}]", connection.id.0));
}

fn protocol_error(event: &ProtocolError<'_>, out: &mut Vec<u8>) {
    put(
        out,
        format_args!(" protocol error from the {} at byte {}, {}: ", event.side, event.offset, event.action.as_str()),
    );
    printable(&event.message, out);
}

/// An address as Python writes a tuple: `('localhost', 27017)`, `('/tmp/mongodb-27017.sock', None)`.
fn address(address: &Address, out: &mut Vec<u8>) {
    let host = printed(&address.host.replace('\\', "\\\\"));
    // Python prefers single quotes, and takes double ones where that saves escaping.
    let quoted = match (host.contains('\''), host.contains('"')) {
        (false, _) => format!("'{host}'"),
        (true, false) => format!("\"{host}\""),
        (true, true) => format!("'{}'", host.replace('\'', "\\'")),
    };
    match address.port {
        Some(port) => put(out, format_args!("({quoted}, {port})")),
        None => put(out, format_args!("({quoted}, None)")),
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::bson::rawdoc;

    use super::*;
    use crate::event::{
        Action, CloseReason, ConnectionClosed, ConnectionCreated, ConnectionReady, Failure, Metadata, Side,
    };
    use crate::sink::sample::{AT, entry, failed, said_no, started, succeeded};

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
