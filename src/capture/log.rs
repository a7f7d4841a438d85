//! Reads an event log, the format of [`sink::jsonl`](crate::sink::jsonl), back into entries.
//!
//! A reader skips what it does not know: fields, events, phases of a later version. What it knows must be as
//! documented, or the error says in which line and column it is not. A last line without its end is not read: it was
//! torn by a crash, or is still being written. Entries pass the redactor like all others.

use std::collections::HashMap;
use std::io::{self, BufRead};
use std::sync::Arc;

use super::line::{Expected, Raw, RawProxy, event, timestamp};
use crate::event::{Address, Connection, ConnectionId, Entry, Phase, Timestamp};
use crate::redact::{self, Redacted};
use crate::sink::jsonl::LINE_START;

/// Connections whose names are shared between their entries.
const CONNECTIONS_REMEMBERED: usize = 4096;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("not an event log: its first line does not begin with {{\"seq\":")]
    NotALog,
    /// A line is not as the format has it.
    #[error("line {line}, column {column}: {message}")]
    Line {
        /// From 1.
        line: u64,
        /// In bytes, from 1.
        column: usize,
        /// What was expected.
        message: String,
    },
}

/// What a line holds.
#[derive(Debug)]
pub enum Item {
    /// An event that was seen on a connection.
    Entry(Box<Redacted<Entry<'static>>>),
    /// Exchanges are missing here: how many, how many bytes, and why.
    Dropped {
        /// When it was noticed.
        at: Timestamp,
        /// How many.
        exchanges: u64,
        /// How many bytes their lines had.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// The recorder's other lines, and events of a later version.
    Other,
}

/// Reads a log line by line.
#[derive(Debug)]
pub struct LogReader<R> {
    input: R,
    line: Vec<u8>,
    number: u64,
    /// The run of the last line that told one.
    run: Option<String>,
    seq: Option<u64>,
    /// Whether its end was read.
    is_ended: bool,
    /// Whether lines of that run were left out on purpose.
    is_filtered: bool,
    connections: HashMap<u64, Arc<Connection>>,
}

impl<R: BufRead> LogReader<R> {
    /// Reads from the beginning of a file.
    pub fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::new(),
            number: 0,
            run: None,
            seq: None,
            is_ended: false,
            is_filtered: false,
            connections: HashMap::new(),
        }
    }

    /// The next whole line, with its bytes as they are in the file; `None` at the end of what is there. More may have
    /// come when it is asked again.
    ///
    /// # Errors
    /// [`LogError`], whose line is this one. What follows can still be read.
    pub fn next_line(&mut self) -> Result<Option<(Item, &[u8])>, LogError> {
        Ok(self.next_item()?.map(|item| (item, self.line())))
    }

    /// The bytes of the line that was read last.
    pub(super) fn line(&self) -> &[u8] {
        &self.line
    }

    /// The same without the bytes, which [`line`](Self::line) has.
    pub(super) fn next_item(&mut self) -> Result<Option<Item>, LogError> {
        if self.line.ends_with(b"\n") {
            self.line.clear();
        }
        if self.number == 0 && !self.begins_as_a_log()? {
            return Err(LogError::NotALog);
        }
        self.input.read_until(b'\n', &mut self.line)?;
        if !self.line.ends_with(b"\n") {
            return Ok(None);
        }
        self.number += 1;
        // What is not looked at is passed on all the same: it is to be JSON, too.
        let text =
            std::str::from_utf8(&self.line).map_err(|error| self.error(error.valid_up_to() + 1, &"not UTF-8"))?;
        let raw: Raw = serde_json::from_str(text).map_err(|error| self.error(error.column(), &error))?;
        let item = self.item(raw).map_err(|missing| self.error(1, &missing))?;
        Ok(Some(item))
    }

    /// The run that the last line is of, if that was told.
    pub fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// The `seq` of the line that was read last.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// The number of the line that was read last, from 1.
    pub fn line_number(&self) -> u64 {
        self.number
    }

    /// Whether the run of the last line has told its end.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Whether lines of the run were left out by who printed it, and `seq` has gaps for that.
    pub fn is_filtered(&self) -> bool {
        self.is_filtered
    }

    /// The number of the last line if it has no end.
    pub fn torn(&self) -> Option<u64> {
        (!self.line.is_empty() && !self.line.ends_with(b"\n")).then_some(self.number + 1)
    }

    /// Whether what is there of the file's beginning is that of a log. Looks before it reads, since a file of another
    /// kind may be one endless line.
    fn begins_as_a_log(&mut self) -> io::Result<bool> {
        let seen = if self.line.is_empty() { self.input.fill_buf()? } else { &self.line };
        let length = seen.len().min(LINE_START.len());
        Ok(seen[..length] == LINE_START[..length])
    }

    fn error(&self, column: usize, message: &dyn ToString) -> LogError {
        let message = message.to_string();
        // serde_json puts a position at the end that knows of one line only.
        let message = message.split(" at line ").next().unwrap_or_default().to_owned();
        LogError::Line { line: self.number, column, message }
    }

    fn item(&mut self, raw: Raw) -> Result<Item, Expected> {
        let at = timestamp(&raw.ts)?;
        self.seq = raw.seq;
        if raw.event == "recorderStartedEvent" {
            (self.run, self.is_ended, self.is_filtered) = (raw.run, false, raw.filtered);
            return Ok(Item::Other);
        }
        self.is_ended |= raw.event == "recorderStoppedEvent";
        if raw.event == "eventsDroppedEvent" {
            let reason = raw.reason.unwrap_or_default();
            return Ok(Item::Dropped {
                at,
                exchanges: raw.exchanges.unwrap_or(0),
                bytes: raw.bytes.unwrap_or(0),
                reason,
            });
        }
        let Some(proxy) = &raw.proxy else { return Ok(Item::Other) };
        let Some(phase) = Phase::from_name(&proxy.phase) else { return Ok(Item::Other) };
        let connection = self.connection(&raw, proxy);
        match event(raw)? {
            Some(event) => Ok(Item::Entry(Box::new(redact::apply(Entry { at, connection, phase, event })))),
            None => Ok(Item::Other),
        }
    }

    /// The connection of a line, the one of an earlier line if they are the same.
    fn connection(&mut self, raw: &Raw, proxy: &RawProxy) -> Arc<Connection> {
        let known = self.connections.get(&proxy.connection);
        // The address of a derived event is the server's that it is about, which may be another.
        let address = raw.address.as_ref().filter(|_| raw.topology_id.is_none());
        let server = match (raw.connection_id.as_ref().or(address), known) {
            (Some(server), _) => Address::parse(server),
            (None, Some(known)) => known.server.clone(),
            (None, None) => Address { host: "unknown".to_owned(), port: None },
        };
        let connection = Connection {
            id: ConnectionId(proxy.connection),
            client: proxy.client.clone(),
            upstream: proxy.upstream.clone(),
            server,
            tls: false,
        };
        if let Some(known) = known.filter(|known| ***known == connection) {
            return Arc::clone(known);
        }
        if self.connections.len() >= CONNECTIONS_REMEMBERED {
            self.connections.clear();
        }
        let connection = Arc::new(connection);
        self.connections.insert(proxy.connection, Arc::clone(&connection));
        connection
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::bson::oid::ObjectId;
    use ::bson::rawdoc;

    use super::*;
    use crate::event::{
        Action, CloseReason, Compressor, ConnectionClosed, ConnectionCreated, ConnectionReady, Document, Event,
        Exchange, Failure, Metadata, ProtocolError, Side, Truncated,
    };
    use crate::sink::sample;
    use crate::sink::{EventsDropped, Format, Options, RecorderStarted, RecorderStopped};

    fn begun() -> Vec<u8> {
        let mut out = b"{\"seq\":0,".to_vec();
        let event = RecorderStarted { at: sample::AT, version: "0", run: "r", listen: "l", upstream: "u", log: 1 };
        Format::Jsonl.recorder_started(&event, &mut out);
        out
    }

    fn add(log: &mut Vec<u8>, entry: &Redacted<Entry<'_>>) {
        log.extend_from_slice(b"{\"seq\":1,");
        Format::Jsonl.renderer(&Options::default()).render(entry, log);
    }

    fn entries(log: &[u8]) -> Vec<Event<'static>> {
        let mut reader = LogReader::new(log);
        let mut events = Vec::new();
        while let Some((item, _)) = reader.next_line().unwrap() {
            if let Item::Entry(entry) = item {
                assert_eq!(entry.at.unix_micros, sample::AT.unix_micros);
                assert_eq!(entry.connection, sample::connection(1));
                events.push(entry.event.clone());
            }
        }
        events
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let mut start = sample::started("shop.orders", rawdoc! { "find": "orders", "filter": { "a": [1, 2.5, null] } });
        start.info.service_id = Some(ObjectId::from_bytes([7; 12]));
        start.info.continues = Some(Exchange(3));
        start.info.compressor = Some(Compressor::Zstd);
        let mut success = sample::succeeded(&start, 362, rawdoc! { "n": 1, "ok": 1.0 });
        success.measures.first_byte = Some(Duration::from_micros(5));
        success.measures.cursor = Some(i64::MAX);
        success.reply = Document::cut(success.reply.as_bytes().to_vec(), Some(Truncated { bytes: 9, elements: 2 }));
        let network = Failure::Network { message: "gone".into(), closed_by: Some(Side::Server) };
        let ready = ConnectionReady {
            duration: Duration::from_micros(77),
            server_connection_id: Some(3),
            metadata: Metadata {
                app_name: Some("a".into()),
                compressors: vec![Compressor::Snappy],
                tls: true,
                ..Metadata::default()
            },
        };
        let error = ProtocolError { side: Side::Client, offset: 3, message: "m".into(), action: Action::Tunnelled };
        let refusal = ProtocolError { side: Side::Server, offset: 0, message: "n".into(), action: Action::Closed };
        let expected = [
            Event::CommandStarted(start.clone()),
            Event::CommandSucceeded(success),
            Event::CommandFailed(sample::failed(&start, 5, network)),
            Event::CommandFailed(sample::failed(&start, 5, sample::said_no(rawdoc! { "ok": 0, "code": 11000 }))),
            Event::ConnectionCreated(ConnectionCreated {}),
            Event::ConnectionReady(ready),
            Event::ConnectionClosed(ConnectionClosed {
                reason: CloseReason::PoolClosed,
                closed_by: Some(Side::Client),
            }),
            Event::ProtocolError(error),
            Event::ProtocolError(refusal),
        ];
        let mut log = begun();
        for event in &expected {
            add(&mut log, &sample::entry(event.clone()));
        }
        let found = entries(&log);
        assert_eq!(format!("{found:?}"), format!("{:?}", expected.to_vec()));
    }

    #[test]
    fn dropped_exchanges_and_what_is_not_known() {
        let mut log = begun();
        log.extend_from_slice(b"{\"seq\":1,");
        let dropped = EventsDropped { at: sample::AT, exchanges: 3, bytes: 900, reason: "queue full" };
        Format::Jsonl.events_dropped(&dropped, &mut log);
        let new = r#"{"seq":2,"event":"newEvent","ts":"2026-11-22T07:44:31.867123Z","x":[],"proxy":{"connection":1,"client":"","upstream":"","phase":"app"}}"#;
        log.extend_from_slice(format!("{new}\n{}\n", new.replace("app", "dreaming")).as_bytes());
        log.extend_from_slice(b"{\"seq\":4,");
        Format::Jsonl.recorder_stopped(&RecorderStopped { at: sample::AT, ..RecorderStopped::default() }, &mut log);
        let mut reader = LogReader::new(&*log);
        assert!(matches!(reader.next_line(), Ok(Some((Item::Other, _)))));
        let Ok(Some((Item::Dropped { exchanges: 3, bytes: 900, reason, .. }, _))) = reader.next_line() else {
            panic!()
        };
        assert_eq!(reason, "queue full");
        for _ in 0..3 {
            assert!(matches!(reader.next_line(), Ok(Some((Item::Other, _)))));
        }
        assert!(matches!(reader.next_line(), Ok(None)));
        assert_eq!(reader.torn(), None);
    }

    #[test]
    fn a_torn_line_is_not_read_until_it_is_whole() {
        let mut log = begun();
        add(&mut log, &sample::entry(ConnectionCreated {}));
        for end in 1..log.len() {
            let lines = log[..end].iter().filter(|byte| **byte == b'\n').count();
            let mut reader = LogReader::new(&log[..end]);
            for _ in 0..lines {
                assert!(reader.next_line().unwrap().is_some());
            }
            assert!(reader.next_line().unwrap().is_none());
            let whole = log[end - 1] == b'\n';
            assert_eq!(reader.torn(), (!whole).then_some(lines as u64 + 1));
            reader.input = &log[end..];
            let rest = 2 - lines;
            for _ in 0..rest {
                assert!(reader.next_line().unwrap().is_some(), "continued after byte {end}");
            }
            assert!(reader.next_line().unwrap().is_none());
        }
    }

    #[test]
    fn other_files_are_told_apart() {
        for other in [&b"hello"[..], b"{\"version\":1}\n", b"\x1f\x8b\x08", b"\n", b"{\"seq\"x"] {
            assert!(matches!(LogReader::new(other).next_line(), Err(LogError::NotALog)), "{other:?}");
        }
    }

    #[test]
    fn an_error_says_where_it_is() {
        let started = r#"{"seq":1,"event":"commandStartedEvent","ts":"2026-11-22T07:44:31.867123Z","commandName":"ping","databaseName":"d","requestId":1,"connectionId":"h:1","command":{},"proxy":{"connection":1,"client":"","upstream":"","phase":"app","exchange":1}}"#;
        for (line, expected) in [
            (started.replace("\"ts\"", "\"at\""), "line 2, column 240: missing field `ts`"),
            (started.replace("\"d\"", "7"), "line 2, column 111: invalid type: integer `7`, expected a string"),
            (started.replace("\"ping\"", "ping"), "line 2, column 89: expected value"),
            (started.replace(",\"command\":{}", ""), "line 2, column 1: expected command"),
            (started.replace(",\"exchange\":1", ""), "line 2, column 1: expected proxy.exchange"),
            (
                started.replace("07:44", "seven"),
                "line 2, column 1: expected ts: a time such as 2026-11-22T07:44:31.867123Z",
            ),
        ] {
            let log = [&begun()[..], line.as_bytes(), b"\n", started.as_bytes(), b"\n"].concat();
            let mut reader = LogReader::new(&*log);
            assert!(reader.next_line().is_ok());
            assert_eq!(reader.next_line().unwrap_err().to_string(), expected);
            assert!(matches!(reader.next_line(), Ok(Some((Item::Entry(_), _)))), "the next line is read again");
        }
    }
}
