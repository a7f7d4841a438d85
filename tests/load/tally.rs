//! A `jsonl` log read line by line, however long it is: whole, numbered, each start with its end.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;

/// What a log holds.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) events: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// What was sent and is no message.
    pub(crate) errors: u64,
    /// How often each was said of those, and by whom connections were closed.
    pub(crate) messages: BTreeMap<String, u64>,
    pub(crate) closed_by: BTreeMap<String, u64>,
    /// Connections that were opened, and those that were closed.
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    /// Exchanges that it says are missing, and why the last of them are.
    pub(crate) dropped: u64,
    pub(crate) reason: Option<String>,
    /// Exchanges that started and have not ended.
    pub(crate) open: HashSet<u64>,
    /// It has its last line.
    pub(crate) is_ended: bool,
    /// Bytes behind the last whole line.
    pub(crate) torn: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    seq: u64,
    event: String,
    proxy: Option<OfOurs>,
    exchanges: Option<u64>,
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfOurs {
    exchange: Option<u64>,
    closed_by: Option<String>,
}

impl Tally {
    /// Of a run that has ended in good order: all that started has ended.
    pub(crate) fn of_whole(log: &Path) -> Self {
        Self::of(log, 0).whole()
    }

    /// The same, of one in which clients and servers sent what is no message.
    pub(crate) fn of_hostile(log: &Path) -> Self {
        Self::read(log, 0).whole()
    }

    fn whole(self) -> Self {
        let tally = self;
        assert!(tally.is_ended && tally.torn == 0 && tally.open.is_empty(), "it ends in good order: {tally:?}");
        assert_eq!(tally.opened, tally.closed, "connections: {tally:?}");
        tally
    }

    /// Of one run, whose first line is so many bytes in. It may have been cut off.
    pub(crate) fn of(log: &Path, from: u64) -> Self {
        let tally = Self::read(log, from);
        assert_eq!(tally.errors, 0, "nothing that was sent is an error");
        tally
    }

    fn read(log: &Path, from: u64) -> Self {
        let mut reader = BufReader::new(File::open(log).unwrap_or_else(|error| panic!("{}: {error}", log.display())));
        reader.seek_relative(i64::try_from(from).expect("a file's length")).expect("a file can be sought in");
        let mut tally = Self::default();
        let mut line = String::new();
        while reader.read_line(&mut line).expect("a log is UTF-8") > 0 {
            if line.ends_with('\n') {
                let line = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                tally.take(line);
            } else {
                tally.torn = line.len() as u64;
            }
            line.clear();
        }
        tally
    }

    fn take(&mut self, line: Line) {
        let Line { seq, event, proxy, exchanges, reason, message } = line;
        assert_eq!(seq, self.events, "seq has no gap");
        assert_eq!(event == "recorderStartedEvent", seq == 0, "the first line, and no other, begins a run: {event}");
        assert!(!self.is_ended, "{event} comes after the last line");
        self.events += 1;
        let (exchange, closed_by) = proxy.map(|proxy| (proxy.exchange, proxy.closed_by)).unwrap_or_default();
        match event.as_str() {
            "commandStartedEvent" => assert!(self.open.insert(exchange.expect("it has its number")), "it starts once"),
            "commandSucceededEvent" => self.succeeded += self.end(exchange),
            "commandFailedEvent" => self.failed += self.end(exchange),
            "connectionCreatedEvent" => self.opened += 1,
            "connectionClosedEvent" => {
                self.closed += 1;
                *self.closed_by.entry(closed_by.expect("it says by whom")).or_default() += 1;
            }
            "eventsDroppedEvent" => {
                self.dropped += exchanges.expect("it says how many");
                self.reason = reason;
            }
            "recorderStoppedEvent" => self.is_ended = true,
            "protocolErrorEvent" => {
                self.errors += 1;
                *self.messages.entry(message.expect("it says what")).or_default() += 1;
            }
            _ => {}
        }
    }

    fn end(&mut self, exchange: Option<u64>) -> u64 {
        assert!(self.open.remove(&exchange.expect("it has its number")), "{exchange:?} ends once, after its start");
        1
    }
}
