//! The event log, version 1: one JSON object a line, UTF-8, `\n`. This is the format's documentation.
//!
//! Names are those of the drivers' specifications; what a proxy can add to them is under `proxy`. Absent values are
//! omitted, never null. Documents are [Extended JSON v2], relaxed (but an int64 beyond ±2⁵³ is `$numberLong`, so that
//! no reader rounds it) or canonical. Order holds within a connection; between connections `ts` may go back a
//! little, and everywhere by as much as the wall clock is set back.
//! Fields may be added to version 1, and so may events: a reader skips what it does not know. None is renamed or
//! removed. A crash may tear the last line.
//!
//! ```json
//! {"seq":0,"event":"recorderStartedEvent","ts":"2026-11-22T07:44:30.000000Z","version":"0.1.0","logVersion":1,"run":"6741c1de","listen":"127.0.0.1:27027","upstream":"127.0.0.1:27017"}
//! {"seq":1,"event":"commandStartedEvent","ts":"2026-11-22T07:44:31.867123Z","commandName":"insert","databaseName":"shop","requestId":50073,"connectionId":"localhost:27027","serverConnectionId":12,"command":{"insert":"orders","ordered":true,"$db":"shop","documents":[{"_id":{"$oid":"6741c1dff1e2d3c4b5a69788"},"total":12.5}]},"proxy":{"connection":1,"client":"127.0.0.1:40112","upstream":"127.0.0.1:27017","phase":"app","exchange":1,"collection":"orders"}}
//! {"seq":2,"event":"commandSucceededEvent","ts":"2026-11-22T07:44:31.867485Z","commandName":"insert","databaseName":"shop","requestId":50073,"connectionId":"localhost:27027","serverConnectionId":12,"durationMicros":362,"reply":{"n":1,"ok":1.0},"proxy":{"connection":1,"client":"127.0.0.1:40112","upstream":"127.0.0.1:27017","phase":"app","exchange":1,"collection":"orders","requestBytes":143,"replyBytes":45,"firstByteMicros":350}}
//! ```
//!
//! # Every line
//!
//! | field | |
//! |---|---|
//! | `seq` | always the first key: the position in this run, from 0, without gaps, over all files of the run |
//! | `event` | the unified test format's name of the event: see below |
//! | `ts` | when it happened, by the wall clock: RFC 3339, UTC, microseconds. It goes back where somebody sets that clock back; `seq` and durations do not |
//! | `proxy` | what we add; on all but the recorder's lines |
//!
//! # In `proxy`
//!
//! | field | |
//! |---|---|
//! | `connection` | our number of the connection, from 1 |
//! | `client`, `upstream` | the addresses of its two ends |
//! | `phase` | what the connection was doing: `app`, `auth`, `handshake`, `monitor`, `rtt` |
//! | `derived` | `true` on an event that was concluded from others |
//! | `exchange` | commands: from 1, unique in a run, the same on start and end: the key to join on |
//! | `continues` | commands: the exchange that a further reply of an exhaust stream belongs to |
//! | `collection` | commands: the collection it names |
//! | `compressor` | commands: `noop`, `snappy`, `zlib`, `zstd`, if this message was compressed |
//! | `requestBytes`, `replyBytes` | ends: bytes on the wire; absent where there was no such message |
//! | `firstByteMicros` | ends: from the whole request to the reply's first byte |
//! | `documents` | ends: how many the reply's batch holds, shown or not |
//! | `writeErrors` | ends: how many the reply holds, shown or not |
//! | `cursor` | ends: the id of a cursor that is still open, as a string |
//! | `truncated` | the document on this line was cut: `bytes` of BSON and `elements` were left out |
//! | `closedBy` | network failures, heartbeats' too: `client` or `server`; closed connections: those or `proxy`, which was told to stop or had no descriptors |
//!
//! # Commands
//!
//! | event | fields |
//! |---|---|
//! | all | `commandName`, `databaseName`, `requestId` (signed 32 bit, as on the wire; it repeats), `connectionId` (the `host:port` that the client dialled), `serverConnectionId`, `serviceId` (24 hex digits) |
//! | `commandStartedEvent` | `command`: the body as sent, `$db` included, document sequences merged in as arrays |
//! | `commandSucceededEvent` | `durationMicros`, `reply` |
//! | `commandFailedEvent` | `durationMicros`, `failure`: the reply, or `{"message": "…"}` if there was none |
//!
//! # Connections
//!
//! | event | fields |
//! |---|---|
//! | all | `address` (the `host:port` that the client dialled), `driverConnectionId` (our number: the driver's is not on the wire) |
//! | `connectionCreatedEvent` | |
//! | `connectionReadyEvent` | `durationMicros`, `serverConnectionId`; in `proxy`: `appName`, `driver`, `driverVersion`, `compressors`, `tls` |
//! | `connectionClosedEvent` | `reason`: `error`, `poolClosed`, or `unknown` where the wire does not tell |
//!
//! # Heartbeats
//!
//! | event | fields |
//! |---|---|
//! | all | `connectionId` (the `host:port` that the client dialled), `awaited` (whether the server may wait before it answers) |
//! | `serverHeartbeatStartedEvent` | |
//! | `serverHeartbeatSucceededEvent` | `durationMicros`, `reply` |
//! | `serverHeartbeatFailedEvent` | `durationMicros`, `failure`: the reply, or `{"message": "…"}` if there was none |
//!
//! # Servers and topologies
//!
//! All of them are `derived`; the rest of `proxy` tells on which connection was seen what they were derived from.
//!
//! | event | fields |
//! |---|---|
//! | all | `topologyId` (24 hex digits) |
//! | `serverOpeningEvent`, `serverClosedEvent` | `address` (the server's `host:port`) |
//! | `serverDescriptionChangedEvent` | `address`, `previousDescription`, `newDescription` |
//! | `topologyOpeningEvent`, `topologyClosedEvent` | |
//! | `topologyDescriptionChangedEvent` | `previousDescription`, `newDescription` |
//!
//! | description | fields |
//! |---|---|
//! | of a server | `address`, `type`; `error`, `setName`, `setVersion`, `electionId`, `me`, `hosts`, `passives`, `arbiters`, `primary`, `tags`, `minWireVersion`, `maxWireVersion`, `logicalSessionTimeoutMinutes`, `topologyVersion` (`processId`, `counter`), `lastWriteDate`, `opTime`, `iscryptd` (only if `true`) |
//! | of a topology | `type`, `servers` (descriptions, in the order in which they became known); `setName`, `maxElectionId`, `maxSetVersion`, `logicalSessionTimeoutMinutes`, and only if it is not compatible `compatible: false`, `compatibilityError` |
//!
//! Their values are Extended JSON, as in documents. Empty lists and tags are absent. Descriptions are never cut.
//!
//! # Our own
//!
//! | event | fields |
//! |---|---|
//! | `recorderStartedEvent` | first line of each file: `version`, `logVersion`, `run`, `listen`, `upstream`; `log` (only of a run with several logs: which of them it is, where it is not the first); `filtered` (only if `true`) where `mongotap show` has left lines out: `seq` has gaps then |
//! | `recorderStoppedEvent` | last line of a run: `events`, `exchanges`, `droppedExchanges`, `droppedBytes` |
//! | `eventsDroppedEvent` | stands for what is missing here: `exchanges` (commands with their ends), `bytes` (of these, and of events that are no part of one), `reason` |
//! | `protocolErrorEvent` | `side` (`client`, `server`), `offset` in that side's bytes, `message`, `action` (`forwarded`, `tunnelled`, `closed`); never bytes of the payload |
//!
//! [Extended JSON v2]: https://www.mongodb.com/docs/manual/reference/mongodb-extended-json/

use std::time::Duration;

use bson::raw::RawDocumentBuf;

use super::constant::{Constant, Label, Labels};
use super::description;
use super::memory::Memory;
use super::time::Rfc3339;
use super::{EventsDropped, Options, RecorderStarted, RecorderStopped, Render};
use crate::bson::cut::cut;
use crate::bson::json::{Mode, write_document, write_string};
use crate::event::{
    Address, CommandInfo, CommandStarted, ConnectionClosed, ConnectionReady, Document, Entry, Event, Failure, Measures,
    Phase, ProtocolError, Side, Timestamp, TopologyId, Truncated,
};
use crate::redact::Redacted;

/// The version of the format, in each file's first line.
pub const LOG_VERSION: u32 = 1;

/// How each line begins, and so a file.
pub(crate) const LINE_START: &[u8] = b"{\"seq\":";

/// Connections whose constant parts are kept ready. Above it they are made again.
const CONNECTIONS_REMEMBERED: usize = 4096;

/// Renders entries as lines of the event log.
///
/// It runs on the threads that carry the traffic, so it copies bytes: nothing is parsed, and no value is built.
/// Each line lacks its opening `{"seq":N,`: only the writer, where the threads' lines meet, can number them.
#[derive(Debug)]
pub struct Jsonl {
    documents: Documents,
    time: Rfc3339,
    connections: Memory<Constant, CONNECTIONS_REMEMBERED>,
    labels: Labels,
}

impl Jsonl {
    /// A renderer that knows no connection yet.
    pub fn new(options: &Options) -> Self {
        let documents = Documents { mode: options.extended_json, max_bytes: options.max_document_bytes };
        Self { documents, time: Rfc3339::default(), connections: Memory::default(), labels: Labels::default() }
    }
}

/// How documents are written.
#[derive(Clone, Copy, Debug)]
struct Documents {
    mode: Mode,
    max_bytes: usize,
}

impl Documents {
    /// Appends a document under its key, cut if it is too long; gives what has been left out of it, here and before.
    fn write(self, key: &[u8], document: &Document<'_>, out: &mut Vec<u8>) -> Option<Truncated> {
        out.extend_from_slice(key);
        let bytes = document.as_bytes();
        if self.max_bytes == 0 || bytes.len() <= self.max_bytes {
            write_document(bytes, self.mode, out);
            return document.truncated();
        }
        let Some(cut) = cut(bytes, self.max_bytes) else {
            write_document(bytes, self.mode, out);
            return document.truncated();
        };
        write_document(&cut.bytes, self.mode, out);
        match (document.truncated(), cut.truncated) {
            (Some(before), Some(here)) => Some(before.plus(here)),
            (before, here) => before.or(here),
        }
    }

    /// Appends how long it took and what came of it; gives what was left out, and who closed the connection.
    fn outcome(self, duration: Duration, outcome: Outcome<'_>, out: &mut Vec<u8>) -> (Option<Truncated>, Option<Side>) {
        micros(b",\"durationMicros\":", duration, out);
        match outcome {
            Ok(reply) => (self.write(b",\"reply\":", reply, out), None),
            Err(Failure::Reply(reply)) => (self.write(b",\"failure\":", reply, out), None),
            Err(Failure::Network { message, closed_by }) => {
                string(b",\"failure\":{\"message\":", message, out);
                out.push(b'}');
                (None, *closed_by)
            }
        }
    }
}

/// A line that is being written: how, and what all events of its connection and phase have.
struct Line<'a> {
    documents: Documents,
    constant: &'a mut Constant,
    labels: &'a mut Labels,
    phase: Phase,
}

impl Line<'_> {
    /// Appends the event's own fields, and those it has in `proxy`.
    fn event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        match event {
            Event::CommandStarted(event) => self.command_started(event, out),
            Event::CommandSucceeded(event) => {
                self.command_ended(&event.info, event.duration, Ok(&event.reply), &event.measures, out);
            }
            Event::CommandFailed(event) => {
                self.command_ended(&event.info, event.duration, Err(&event.failure), &event.measures, out);
            }
            Event::ConnectionCreated(_) => {
                self.constant.address(out);
                self.proxy(out);
            }
            Event::ConnectionReady(event) => self.connection_ready(event, out),
            Event::ConnectionClosed(event) => self.connection_closed(event, out),
            Event::ProtocolError(event) => {
                protocol_error(event, out);
                self.proxy(out);
            }
            Event::ServerHeartbeatStarted(event) => {
                heartbeat(&event.connection_id, event.awaited, out);
                self.proxy(out);
            }
            Event::ServerHeartbeatSucceeded(event) => {
                heartbeat(&event.connection_id, event.awaited, out);
                self.heartbeat_ended(event.duration, Ok(&event.reply), out);
            }
            Event::ServerHeartbeatFailed(event) => {
                heartbeat(&event.connection_id, event.awaited, out);
                self.heartbeat_ended(event.duration, Err(&event.failure), out);
            }
            Event::ServerOpening(event) => self.derived(event.topology_id, Some(&event.address), None, out),
            Event::ServerDescriptionChanged(event) => {
                let change = [&event.previous_description, &event.new_description].map(description::server);
                self.derived(event.topology_id, Some(&event.address), Some(change), out);
            }
            Event::ServerClosed(event) => self.derived(event.topology_id, Some(&event.address), None, out),
            Event::TopologyOpening(event) => self.derived(event.topology_id, None, None, out),
            Event::TopologyDescriptionChanged(event) => {
                let change = [&event.previous_description, &event.new_description].map(description::topology);
                self.derived(event.topology_id, None, Some(change), out);
            }
            Event::TopologyClosed(event) => self.derived(event.topology_id, None, None, out),
        }
    }

    fn command_started(&mut self, event: &CommandStarted<'_>, out: &mut Vec<u8>) {
        let label = self.labels.of(&event.info);
        command(&event.info, label, self.constant, out);
        let truncated = self.documents.write(b",\"command\":", &event.command, out);
        self.constant.proxy(self.phase, out);
        exchange(&event.info, label, out);
        cut_short(truncated, out);
    }

    fn command_ended(
        &mut self,
        info: &CommandInfo<'_>,
        duration: Duration,
        outcome: Outcome<'_>,
        measured: &Measures,
        out: &mut Vec<u8>,
    ) {
        let label = self.labels.of(info);
        command(info, label, self.constant, out);
        let (truncated, closed_by) = self.documents.outcome(duration, outcome, out);
        self.constant.proxy(self.phase, out);
        exchange(info, label, out);
        measures(measured, out);
        closed(closed_by, out);
        cut_short(truncated, out);
    }

    fn connection_ready(&mut self, event: &ConnectionReady<'_>, out: &mut Vec<u8>) {
        self.constant.address(out);
        micros(b",\"durationMicros\":", event.duration, out);
        if let Some(id) = event.server_connection_id {
            number(b",\"serverConnectionId\":", id, out);
        }
        self.proxy(out);
        metadata(event, out);
    }

    fn connection_closed(&mut self, event: &ConnectionClosed, out: &mut Vec<u8>) {
        self.constant.address(out);
        string(b",\"reason\":", event.reason.as_str(), out);
        self.proxy(out);
        string(b",\"closedBy\":", event.closed_by.map_or("proxy", Side::as_str), out);
    }

    /// The end of a heartbeat, behind what they all have.
    fn heartbeat_ended(&mut self, duration: Duration, outcome: Outcome<'_>, out: &mut Vec<u8>) {
        let (truncated, closed_by) = self.documents.outcome(duration, outcome, out);
        self.proxy(out);
        closed(closed_by, out);
        cut_short(truncated, out);
    }

    /// An event of a topology, or of a server of it, with what was and what is if it is a change.
    fn derived(
        &mut self,
        id: TopologyId,
        server: Option<&Address>,
        change: Option<[RawDocumentBuf; 2]>,
        out: &mut Vec<u8>,
    ) {
        string(b",\"topologyId\":", &id.to_hex(), out);
        if let Some(address) = server {
            string(b",\"address\":", &address.to_string(), out);
        }
        if let Some([previous, new]) = change {
            out.extend_from_slice(b",\"previousDescription\":");
            write_document(previous.as_bytes(), self.documents.mode, out);
            out.extend_from_slice(b",\"newDescription\":");
            write_document(new.as_bytes(), self.documents.mode, out);
        }
        self.proxy(out);
        out.extend_from_slice(b",\"derived\":true");
    }

    /// Appends the beginning of `proxy`, which stays open.
    fn proxy(&mut self, out: &mut Vec<u8>) {
        self.constant.proxy(self.phase, out);
    }
}

/// What came of a command or a heartbeat.
type Outcome<'a> = Result<&'a Document<'a>, &'a Failure<'a>>;

impl Render for Jsonl {
    fn render(&mut self, entry: &Redacted<Entry<'_>>, out: &mut Vec<u8>) {
        opening(entry.event.name(), entry.at, &mut self.time, out);
        let (connection, id) = (&entry.connection, entry.connection.id.0);
        let constant =
            self.connections.get_or_insert(id, |known| known.is_of(connection), || Constant::new(connection));
        let (documents, labels) = (self.documents, &mut self.labels);
        Line { documents, constant, labels, phase: entry.phase }.event(&entry.event, out);
        out.extend_from_slice(b"}}\n");
        if matches!(entry.event, Event::ConnectionClosed(_)) {
            self.connections.remove(id);
        }
    }
}

/// Appends the opening that lines lack here: `{"seq":N,`.
pub(crate) fn begin_line(seq: u64, out: &mut Vec<u8>) {
    number(LINE_START, seq, out);
    out.push(b',');
}

/// Appends the line of a [`RecorderStarted`], without its `seq`.
pub fn recorder_started(event: &RecorderStarted<'_>, out: &mut Vec<u8>) {
    opening("recorderStartedEvent", event.at, &mut Rfc3339::default(), out);
    string(b",\"version\":", event.version, out);
    number(b",\"logVersion\":", LOG_VERSION, out);
    string(b",\"run\":", event.run, out);
    string(b",\"listen\":", event.listen, out);
    string(b",\"upstream\":", event.upstream, out);
    if event.log > 1 {
        number(b",\"log\":", event.log, out);
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the line of a [`RecorderStopped`], without its `seq`.
pub fn recorder_stopped(event: &RecorderStopped, out: &mut Vec<u8>) {
    opening("recorderStoppedEvent", event.at, &mut Rfc3339::default(), out);
    number(b",\"events\":", event.events, out);
    number(b",\"exchanges\":", event.exchanges, out);
    number(b",\"droppedExchanges\":", event.dropped_exchanges, out);
    number(b",\"droppedBytes\":", event.dropped_bytes, out);
    out.extend_from_slice(b"}\n");
}

/// Appends the line of an [`EventsDropped`], without its `seq`.
pub fn events_dropped(event: &EventsDropped<'_>, out: &mut Vec<u8>) {
    opening("eventsDroppedEvent", event.at, &mut Rfc3339::default(), out);
    number(b",\"exchanges\":", event.exchanges, out);
    number(b",\"bytes\":", event.bytes, out);
    string(b",\"reason\":", event.reason, out);
    out.extend_from_slice(b"}\n");
}

fn opening(event: &str, at: Timestamp, time: &mut Rfc3339, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"event\":\"");
    out.extend_from_slice(event.as_bytes());
    out.extend_from_slice(b"\",\"ts\":\"");
    time.write(at, out);
    out.push(b'"');
}

/// What all command events have before their documents.
fn command(info: &CommandInfo<'_>, label: &Label, constant: &mut Constant, out: &mut Vec<u8>) {
    number(&label.names, info.request_id, out);
    constant.ids(info, out);
}

/// What all command events have in `proxy`.
fn exchange(info: &CommandInfo<'_>, label: &Label, out: &mut Vec<u8>) {
    number(b",\"exchange\":", info.exchange.0, out);
    if let Some(exchange) = info.continues {
        number(b",\"continues\":", exchange.0, out);
    }
    out.extend_from_slice(&label.in_proxy);
    if let Some(compressor) = info.compressor {
        string(b",\"compressor\":", compressor.as_str(), out);
    }
}

/// What ends have in `proxy`. A message has at least its header, so 0 bytes is none.
fn measures(measures: &Measures, out: &mut Vec<u8>) {
    if measures.request_bytes != 0 {
        number(b",\"requestBytes\":", measures.request_bytes, out);
    }
    if measures.reply_bytes != 0 {
        number(b",\"replyBytes\":", measures.reply_bytes, out);
    }
    if let Some(duration) = measures.first_byte {
        micros(b",\"firstByteMicros\":", duration, out);
    }
    if let Some(documents) = measures.documents {
        number(b",\"documents\":", documents, out);
    }
    if let Some(write_errors) = measures.write_errors {
        number(b",\"writeErrors\":", write_errors, out);
    }
    if let Some(cursor) = measures.cursor {
        number(b",\"cursor\":\"", cursor, out);
        out.push(b'"');
    }
}

fn closed(by: Option<Side>, out: &mut Vec<u8>) {
    if let Some(side) = by {
        string(b",\"closedBy\":", side.as_str(), out);
    }
}

fn cut_short(truncated: Option<Truncated>, out: &mut Vec<u8>) {
    if let Some(truncated) = truncated {
        number(b",\"truncated\":{\"bytes\":", truncated.bytes, out);
        number(b",\"elements\":", truncated.elements, out);
        out.push(b'}');
    }
}

/// What all heartbeat events have before their documents.
fn heartbeat(server: &Address, awaited: bool, out: &mut Vec<u8>) {
    string(b",\"connectionId\":", &server.to_string(), out);
    out.extend_from_slice(if awaited { b",\"awaited\":true" } else { b",\"awaited\":false" });
}

fn metadata(event: &ConnectionReady<'_>, out: &mut Vec<u8>) {
    let metadata = &event.metadata;
    if let Some(name) = &metadata.app_name {
        string(b",\"appName\":", name, out);
    }
    if let Some(name) = &metadata.driver {
        string(b",\"driver\":", name, out);
    }
    if let Some(version) = &metadata.driver_version {
        string(b",\"driverVersion\":", version, out);
    }
    let mut before: &[u8] = b",\"compressors\":[";
    for compressor in &metadata.compressors {
        string(before, compressor.as_str(), out);
        before = b",";
    }
    if !metadata.compressors.is_empty() {
        out.push(b']');
    }
    out.extend_from_slice(if metadata.tls { b",\"tls\":true" } else { b",\"tls\":false" });
}

fn protocol_error(event: &ProtocolError<'_>, out: &mut Vec<u8>) {
    string(b",\"side\":", event.side.as_str(), out);
    number(b",\"offset\":", event.offset, out);
    string(b",\"message\":", &event.message, out);
    string(b",\"action\":", event.action.as_str(), out);
}

pub(super) fn string(before: &[u8], text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    write_string(text.as_bytes(), out);
}

pub(super) fn number(before: &[u8], number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(before);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn micros(before: &[u8], duration: Duration, out: &mut Vec<u8>) {
    number(before, crate::event::micros(duration), out);
}
