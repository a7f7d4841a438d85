//! An event as one line of a playbook:
//!
//! ```text
//! c1 commandSucceeded app #1 id=7 find db=shop collection=orders 250us bytes=62/90 firstByte=200us documents=2 {…}
//! ```
//!
//! The connection, the event, the phase; of a command its exchange, `requestID`, name and what is known of it; the document
//! last, as relaxed Extended JSON. `@-250us` says that the event happened that long before it was said.

use std::fmt::Write;
use std::time::Duration;

use mongotap::bson::json::{self, Mode};
use mongotap::event::{
    CommandInfo, ConnectionClosed, ConnectionReady, Document, Entry, Event, Failure, Measures, ProtocolError,
    ServerDescription, Timestamp, TopologyDescription,
};

/// The line of an event that is said at `now`.
pub(crate) fn line(entry: &Entry<'_>, now: Timestamp) -> String {
    let name = entry.event.name().strip_suffix("Event").unwrap();
    let mut out = format!("{} {name} {}", entry.connection.id, entry.phase.as_str());
    let late = now.since(entry.at);
    if late > Duration::ZERO {
        put(&mut out, format_args!("@-{}us", late.as_micros()));
    }
    match &entry.event {
        Event::CommandStarted(event) => {
            info(&event.info, &mut out);
            document(&event.command, &mut out);
        }
        Event::CommandSucceeded(event) => {
            info(&event.info, &mut out);
            measures(event.duration, &event.measures, &mut out);
            document(&event.reply, &mut out);
        }
        Event::CommandFailed(event) => {
            info(&event.info, &mut out);
            measures(event.duration, &event.measures, &mut out);
            failure(&event.failure, &mut out);
        }
        Event::ConnectionCreated(_) => {}
        Event::ConnectionReady(event) => ready(event, &mut out),
        Event::ConnectionClosed(ConnectionClosed { reason, closed_by }) => {
            put(&mut out, format_args!("reason={}", reason.as_str()));
            put(&mut out, format_args!("by={}", closed_by.map_or("proxy", |side| side.as_str())));
        }
        Event::ServerHeartbeatStarted(event) => put(&mut out, format_args!("awaited={}", event.awaited)),
        Event::ServerHeartbeatSucceeded(event) => {
            put(&mut out, format_args!("awaited={} {}us", event.awaited, event.duration.as_micros()));
            document(&event.reply, &mut out);
        }
        Event::ServerHeartbeatFailed(event) => {
            put(&mut out, format_args!("awaited={} {}us", event.awaited, event.duration.as_micros()));
            failure(&event.failure, &mut out);
        }
        Event::TopologyOpening(_) | Event::TopologyClosed(_) => {}
        Event::TopologyDescriptionChanged(event) => {
            let (before, after) = (&event.previous_description, &event.new_description);
            put(&mut out, format_args!("{} -> {}", topology(before), topology(after)));
        }
        Event::ServerOpening(event) => put(&mut out, format_args!("{}", event.address)),
        Event::ServerClosed(event) => put(&mut out, format_args!("{}", event.address)),
        Event::ServerDescriptionChanged(event) => {
            let (before, after) = (&event.previous_description, &event.new_description);
            let types = (before.server_type.as_str(), after.server_type.as_str());
            put(&mut out, format_args!("{} {} -> {}", event.address, types.0, types.1));
            after.error.iter().for_each(|error| put(&mut out, format_args!("{error:?}")));
        }
        Event::ProtocolError(ProtocolError { side, offset, message, action }) => {
            put(&mut out, format_args!("side={side} offset={offset} {} {message:?}", action.as_str()));
        }
    }
    out
}

fn failure(failure: &Failure<'_>, out: &mut String) {
    match failure {
        Failure::Reply(reply) => document(reply, out),
        Failure::Network { message, closed_by } => {
            put(out, format_args!("network {message:?}"));
            closed_by.iter().for_each(|side| put(out, format_args!("closedBy={side}")));
        }
    }
}

fn topology(description: &TopologyDescription) -> String {
    let server = |it: &ServerDescription| format!("{} {}", it.address, it.server_type.as_str());
    let servers: Vec<_> = description.servers.iter().map(server).collect();
    format!("{}[{}]", description.topology_type.as_str(), servers.join(", "))
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    write!(out, " {text}").unwrap();
}

fn info(info: &CommandInfo<'_>, out: &mut String) {
    let CommandInfo { command_name, database_name, request_id, exchange, .. } = info;
    put(out, format_args!("{exchange} id={request_id} {command_name} db={database_name}"));
    info.collection.iter().for_each(|name| put(out, format_args!("collection={name}")));
    info.continues.iter().for_each(|first| put(out, format_args!("continues={first}")));
    info.compressor.iter().for_each(|compressor| put(out, format_args!("compressor={}", compressor.as_str())));
    info.server_connection_id.iter().for_each(|id| put(out, format_args!("serverConnectionId={id}")));
    info.service_id.iter().for_each(|id| put(out, format_args!("serviceId={id}")));
    if info.sensitive {
        out.push_str(" sensitive");
    }
}

fn measures(duration: Duration, measures: &Measures, out: &mut String) {
    put(out, format_args!("{}us bytes={}/{}", duration.as_micros(), measures.request_bytes, measures.reply_bytes));
    let first = measures.first_byte.filter(|first| *first != duration);
    first.iter().for_each(|first| put(out, format_args!("firstByte={}us", first.as_micros())));
    measures.documents.iter().for_each(|count| put(out, format_args!("documents={count}")));
    measures.write_errors.iter().for_each(|count| put(out, format_args!("writeErrors={count}")));
    measures.cursor.iter().for_each(|cursor| put(out, format_args!("cursor={cursor}")));
}

fn ready(event: &ConnectionReady<'_>, out: &mut String) {
    put(out, format_args!("{}us", event.duration.as_micros()));
    event.server_connection_id.iter().for_each(|id| put(out, format_args!("serverConnectionId={id}")));
    let metadata = &event.metadata;
    metadata.app_name.iter().for_each(|name| put(out, format_args!("appName={name:?}")));
    metadata.driver.iter().for_each(|name| put(out, format_args!("driver={name:?}")));
    metadata.driver_version.iter().for_each(|version| put(out, format_args!("driverVersion={version:?}")));
    metadata.compressors.iter().for_each(|compressor| put(out, format_args!("compressor={}", compressor.as_str())));
}

fn document(document: &Document<'_>, out: &mut String) {
    if let Some(truncated) = document.truncated() {
        put(out, format_args!("truncated={}/{}", truncated.bytes, truncated.elements));
    }
    let mut json = Vec::new();
    json::write_document(document.as_bytes(), Mode::Relaxed, &mut json);
    put(out, format_args!("{}", String::from_utf8(json).unwrap()));
}
