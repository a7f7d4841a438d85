//! Reads the `jsonl` event log, and holds every log that any test reads to what the format promises.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// The log of one run of the proxy, whole.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    /// All lines, in order.
    pub(crate) records: Vec<Record>,
}

/// A line.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Value);

impl Record {
    /// `event`.
    pub(crate) fn event(&self) -> &str {
        self.str("event").unwrap_or_else(|| panic!("no event: {}", self.0))
    }

    /// A field that is text.
    pub(crate) fn str(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// A field that is a whole number.
    pub(crate) fn i64(&self, field: &str) -> Option<i64> {
        self.0.get(field)?.as_i64()
    }

    /// A field of `proxy`.
    pub(crate) fn proxy(&self, field: &str) -> Option<&Value> {
        self.0.get("proxy")?.get(field)
    }

    /// A field of `proxy` that is text.
    pub(crate) fn proxy_str(&self, field: &str) -> Option<&str> {
        self.proxy(field)?.as_str()
    }

    /// A field of `proxy` that is a whole number.
    pub(crate) fn proxy_i64(&self, field: &str) -> Option<i64> {
        self.proxy(field)?.as_i64()
    }

    /// `commandName`, on command events.
    pub(crate) fn command_name(&self) -> &str {
        self.str("commandName").unwrap_or_else(|| panic!("no commandName: {}", self.0))
    }

    /// Whether it is a command event.
    pub(crate) fn is_command(&self) -> bool {
        matches!(self.event(), "commandStartedEvent" | "commandSucceededEvent" | "commandFailedEvent")
    }

    /// Whether it is the end of a command.
    pub(crate) fn is_end(&self) -> bool {
        self.is_command() && self.event() != "commandStartedEvent"
    }
}

impl Log {
    /// Reads a log whose proxy has stopped, and checks it.
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(&text)
    }

    /// The same from its text.
    pub(crate) fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line is whole");
        let log = Self { records: text.lines().map(record).collect() };
        log.check();
        log
    }

    /// The command events.
    pub(crate) fn commands(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.is_command())
    }

    /// The events of that kind.
    pub(crate) fn events<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.event() == event)
    }

    /// The ends of that command, in order.
    pub(crate) fn ends<'a>(&'a self, command: &'a str) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| record.is_end() && record.command_name() == command)
    }

    /// The one end of that command.
    pub(crate) fn end<'a>(&'a self, command: &'a str) -> &'a Record {
        let ends: Vec<_> = self.ends(command).collect();
        assert_eq!(ends.len(), 1, "one end of {command}: {ends:?}");
        ends[0]
    }

    /// The start that belongs to an end.
    pub(crate) fn start_of(&self, end: &Record) -> &Record {
        let exchange = end.proxy_i64("exchange");
        let mut starts = self.events("commandStartedEvent").filter(|it| it.proxy_i64("exchange") == exchange);
        starts.next().unwrap_or_else(|| panic!("no start of {exchange:?}"))
    }

    fn check(&self) {
        for (position, record) in self.records.iter().enumerate() {
            assert_eq!(record.i64("seq"), i64::try_from(position).ok(), "seq has no gap: {}", record.0);
            assert_eq!(record.0.as_object().and_then(|it| it.keys().next()).map(String::as_str), Some("seq"));
            assert_timestamp(record.str("ts").unwrap_or_default());
            assert_no_null(&record.0);
            let recorder = record.event().starts_with("recorder");
            assert!(recorder || record.0.get("proxy").is_some(), "proxy is on every other line: {}", record.0);
        }
        let first = self.records.first().expect("a log has a first line");
        assert_eq!((first.event(), first.i64("logVersion")), ("recorderStartedEvent", Some(1)));
        assert_eq!(self.records.last().map(Record::event), Some("recorderStoppedEvent"));
        assert!(self.events("eventsDroppedEvent").next().is_none(), "nothing was dropped");
        self.check_exchanges();
        self.check_order();
        self.check_heartbeats();
        self.check_topologies();
    }

    /// Each start has exactly one end after it, and they agree.
    fn check_exchanges(&self) {
        let mut open = BTreeMap::new();
        for record in self.commands() {
            let exchange = record.proxy_i64("exchange").unwrap_or_else(|| panic!("no exchange: {}", record.0));
            if !record.is_end() {
                assert!(record.0.get("command").is_some_and(Value::is_object), "a start has its command: {}", record.0);
                assert!(open.insert(exchange, Some(record)).is_none(), "exchange {exchange} starts once");
                continue;
            }
            let start = open.insert(exchange, None).flatten();
            let start = start.unwrap_or_else(|| panic!("exchange {exchange} ends once, after its start: {}", record.0));
            for field in ["commandName", "databaseName", "requestId", "connectionId"] {
                assert_eq!(start.0.get(field), record.0.get(field), "{field} of exchange {exchange}");
            }
            // The reply to a connection's first hello is what tells its number.
            let known = start.i64("serverConnectionId").is_none_or(|it| record.i64("serverConnectionId") == Some(it));
            assert!(known, "serverConnectionId of exchange {exchange}");
            assert!(record.i64("durationMicros").is_some_and(|it| it >= 0), "an end has its duration: {}", record.0);
            let outcome = if record.event() == "commandFailedEvent" { "failure" } else { "reply" };
            assert!(record.0.get(outcome).is_some_and(Value::is_object), "an end has its {outcome}: {}", record.0);
        }
        let dangling: Vec<_> = open.values().flatten().map(|record| &record.0).collect();
        assert!(dangling.is_empty(), "started and never ended: {dangling:?}");
    }

    /// On a connection each heartbeat that starts ends, before the next one starts.
    fn check_heartbeats(&self) {
        let mut open: BTreeMap<i64, Option<&Record>> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.event().starts_with("serverHeartbeat")) {
            let connection = record.proxy_i64("connection").unwrap_or_else(|| panic!("no connection: {}", record.0));
            let before = open.entry(connection).or_default();
            if record.event() == "serverHeartbeatStartedEvent" {
                assert!(before.is_none(), "a heartbeat starts before {before:?} ends: {}", record.0);
                *before = Some(record);
                continue;
            }
            let start = before.take().unwrap_or_else(|| panic!("a heartbeat ends and never started: {}", record.0));
            for field in ["connectionId", "awaited"] {
                assert!(start.0.get(field).is_some(), "{field}: {}", start.0);
                assert_eq!(start.0.get(field), record.0.get(field), "{field} of a heartbeat: {}", record.0);
            }
            assert!(record.i64("durationMicros").is_some_and(|it| it >= 0), "an end has its duration: {}", record.0);
            let outcome = if record.event() == "serverHeartbeatFailedEvent" { "failure" } else { "reply" };
            assert!(record.0.get(outcome).is_some_and(Value::is_object), "an end has its {outcome}: {}", record.0);
        }
        let dangling: Vec<_> = open.values().flatten().collect();
        assert!(dangling.is_empty(), "started and never ended: {dangling:?}");
    }

    /// Each topology opens, goes on from each description to the next, and closes when all of its servers have.
    fn check_topologies(&self) {
        let mut topologies: BTreeMap<&str, Topology<'_>> = BTreeMap::new();
        for record in &self.records {
            let derived = record.event().starts_with("topology")
                || ["serverOpeningEvent", "serverDescriptionChangedEvent", "serverClosedEvent"]
                    .contains(&record.event());
            assert_eq!(record.proxy("derived"), derived.then_some(&Value::Bool(true)), "derived: {}", record.0);
            if derived {
                let id = record.str("topologyId").unwrap_or_else(|| panic!("no topologyId: {}", record.0));
                topologies.entry(id).or_default().take(record);
            }
        }
        for (id, topology) in topologies {
            assert!(topology.is_closed, "topology {id} is not closed");
        }
    }

    /// Within a connection time does not go back.
    fn check_order(&self) {
        let mut latest: BTreeMap<i64, &str> = BTreeMap::new();
        for record in self.commands() {
            let connection = record.proxy_i64("connection").unwrap_or_else(|| panic!("no connection: {}", record.0));
            let ts = record.str("ts").unwrap_or_default();
            let before = latest.insert(connection, ts).unwrap_or_default();
            assert!(before <= ts, "time goes back on connection {connection}: {before}, then {}", record.0);
        }
    }
}

/// What a log has told of a topology.
#[derive(Default)]
struct Topology<'a> {
    is_open: bool,
    is_closed: bool,
    description: Option<Value>,
    /// The descriptions of the open servers, once told.
    servers: BTreeMap<&'a str, Option<Value>>,
}

impl<'a> Topology<'a> {
    fn take(&mut self, record: &'a Record) {
        let line = &record.0;
        assert!(!self.is_closed, "after its end: {line}");
        assert_eq!(self.is_open, record.event() != "topologyOpeningEvent", "a topology opens first, and once: {line}");
        let address = record.str("address").unwrap_or_default();
        let (before, after) = (lasting(line.get("previousDescription")), lasting(line.get("newDescription")));
        match record.event() {
            "topologyOpeningEvent" => self.is_open = true,
            "topologyClosedEvent" => {
                assert!(self.servers.is_empty(), "{:?} are open: {line}", self.servers.keys());
                self.is_closed = true;
            }
            "topologyDescriptionChangedEvent" => {
                assert!(self.description.is_none() || self.description == before, "another description before: {line}");
                self.description = after;
            }
            "serverOpeningEvent" => assert!(self.servers.insert(address, None).is_none(), "it is open: {line}"),
            "serverClosedEvent" => assert!(self.servers.remove(address).is_some(), "it is not open: {line}"),
            _ => {
                let told = self.servers.get_mut(address).unwrap_or_else(|| panic!("it is not open: {line}"));
                // That a server may be the primary is told by the topology alone.
                let may_be = before.as_ref().is_some_and(|it| it["type"] == "PossiblePrimary");
                assert!(told.is_none() || *told == before || may_be, "another description before: {line}");
                *told = after;
            }
        }
    }
}

/// A description without what may change untold.
fn lasting(description: Option<&Value>) -> Option<Value> {
    let mut description = description?.clone();
    let fields = description.as_object_mut()?;
    fields.retain(|field, _| field != "lastWriteDate" && field != "opTime");
    let servers = fields.get_mut("servers").and_then(Value::as_array_mut).into_iter().flatten();
    for server in servers {
        *server = lasting(Some(server))?;
    }
    Some(description)
}

fn record(line: &str) -> Record {
    Record(serde_json::from_str(line).unwrap_or_else(|error| panic!("not a line of JSON: {error}: {line}")))
}

/// RFC 3339, UTC, microseconds.
fn assert_timestamp(ts: &str) {
    const SHAPE: &str = "0000-00-00T00:00:00.000000Z";
    let fits = ts.len() == SHAPE.len()
        && ts.chars().zip(SHAPE.chars()).all(|(is, like)| if like == '0' { is.is_ascii_digit() } else { is == like });
    assert!(fits, "{ts:?} is a time");
}

/// Absent values are omitted. Documents of users may hold nulls, so only what is ours is looked at.
fn assert_no_null(line: &Value) {
    let ours = line.as_object().expect("a line is an object").iter();
    for (key, value) in ours.filter(|(key, _)| !matches!(key.as_str(), "command" | "reply" | "failure")) {
        assert!(!value.is_null(), "{key} is null: {line}");
        if key == "proxy" {
            assert!(value.as_object().expect("proxy is an object").values().all(|it| !it.is_null()), "null: {line}");
        }
    }
}
