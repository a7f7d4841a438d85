//! From a capture's records to events: the same pipeline as live, in the order of the records' times.

use std::collections::{HashMap, VecDeque};
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use super::mtap::{Header, OUT_OF_ORDER, Record};
use crate::event::{Connection, ConnectionId, Exchange, Given, Input, Side, Timestamp};
use crate::pipeline::{Pipeline, Sink, Topologies};
use crate::session::{Observations, Observing, Shared};
use crate::topology::SETTLED_AFTER;

/// Bytes of messages that may wait to be put in order.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What has a time and takes room: a record, or what leads to one.
pub trait Timed {
    /// When it happened, in nanoseconds of the run's own clock.
    fn nanos(&self) -> u64;

    /// Bytes of the message that it holds.
    fn held(&self) -> usize;
}

impl Timed for Record {
    fn nanos(&self) -> u64 {
        self.at().monotonic_nanos
    }

    fn held(&self) -> usize {
        match self {
            Self::Input(Input { given: Given::Message(message), .. }) => message.bytes.len(),
            _ => 0,
        }
    }
}

/// Puts records in the order of their times.
#[derive(Debug)]
pub struct InOrder<T = Record> {
    /// By their times, those of one time as they came. Most come in order: they are put at the end.
    waiting: VecDeque<(u64, T)>,
    bytes: usize,
    /// The latest time that was seen.
    latest: u64,
}

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, latest: 0 }
    }
}

impl<T: Timed> InOrder<T> {
    /// Takes a record as it comes in a file.
    pub fn push(&mut self, timed: T) {
        let at = timed.nanos();
        self.latest = self.latest.max(at);
        self.bytes += bytes_of(&timed);
        match self.waiting.back() {
            Some((last, _)) if *last > at => {
                let place = self.waiting.partition_point(|(other, _)| *other <= at);
                self.waiting.insert(place, (at, timed));
            }
            _ => self.waiting.push_back((at, timed)),
        }
    }

    /// The first record, if none that is to come can be before it.
    pub fn pop(&mut self) -> Option<T> {
        let settled = self.latest.saturating_sub(OUT_OF_ORDER.as_nanos() as u64);
        let is_settled = self.waiting.front().is_some_and(|(at, _)| *at <= settled);
        if is_settled || self.bytes > WAITING_BYTES_MAX { self.pop_last() } else { None }
    }

    /// The first record, if no more are expected.
    pub fn pop_last(&mut self) -> Option<T> {
        let (_, timed) = self.waiting.pop_front()?;
        self.bytes -= bytes_of(&timed);
        Some(timed)
    }
}

fn bytes_of(timed: &impl Timed) -> usize {
    size_of::<Record>() + timed.held()
}

/// The sessions and the topologies of a run, once more.
#[derive(Debug)]
pub struct Derive {
    shared: Shared,
    connections: HashMap<ConnectionId, Derived>,
    topologies: Topologies,
    observed: Observing,
    now: Timestamp,
}

#[derive(Debug)]
struct Derived {
    pipeline: Pipeline,
    /// Of a connection whose beginning is in another file: the first exchange of it that begins in this one.
    since: Since,
}

/// From when on a connection's messages can be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Since {
    /// It was opened.
    Opened,
    /// It was opened in an earlier file, and there was no request yet in this one.
    Carried,
    /// It was opened in an earlier file, and this is its first exchange in this one.
    Exchange(Exchange),
}

impl Derive {
    /// For the run of that header.
    pub fn new(header: &Header) -> Self {
        let (observations, observed) = Observations::channel();
        let shared = Shared {
            limits: header.limits(),
            idle_after: Duration::from_micros(header.idle_after_micros),
            observations,
            ..Shared::default()
        };
        let topologies = Topologies::new((&header.topology).into());
        Self { shared, connections: HashMap::new(), topologies, observed, now: header.started() }
    }

    /// Takes the next record, and gives the events that follow from it.
    pub fn handle(&mut self, record: &Record, sink: &mut Sink<'_>) {
        self.now = if record.at().monotonic_nanos > self.now.monotonic_nanos { record.at() } else { self.now };
        match record {
            Record::Input(input) => self.input(input, sink),
            // It goes on where it was, if the file before was read.
            Record::Carried { connection, .. } if self.connections.contains_key(&connection.id) => {}
            Record::Carried { at, connection } => self.open(connection, *at, Since::Carried),
            Record::Missing { exchanges: 0, bytes: 0, .. } => self.forget_connections(),
            Record::Missing { .. } => {}
            Record::Ended { at } => return self.topologies.close(*at, sink),
        }
        self.observed.try_iter().for_each(|observation| self.topologies.handle(observation));
        if self.topologies.due(self.now) == Some(Duration::ZERO) {
            self.topologies.handle_tick(self.now, sink);
        }
    }

    /// Notes that records are missing here: what connections are in the midst of is not known any more.
    pub fn forget_connections(&mut self) {
        self.connections.clear();
    }

    /// Notes that no more records come: gives the events of topologies that were not settled.
    pub fn settle(&mut self, sink: &mut Sink<'_>) {
        self.topologies.handle_tick(self.now.after(SETTLED_AFTER), sink);
    }

    fn open(&mut self, connection: &Arc<Connection>, at: Timestamp, since: Since) {
        let pipeline = Pipeline::new(Arc::clone(connection), at, self.shared.clone());
        self.connections.insert(connection.id, Derived { pipeline, since });
    }

    fn input(&mut self, input: &Input<'_>, sink: &mut Sink<'_>) {
        if let Given::Opened(connection) = &input.given {
            return self.open(connection, input.at, Since::Opened);
        }
        // What is said of a connection whose opening is missing cannot be understood.
        let Some(derived) = self.connections.get_mut(&input.connection) else { return };
        if derived.since.is_known(input) {
            derived.pipeline.handle_input(input, sink);
        }
        if matches!(input.given, Given::Closed { .. }) {
            self.connections.remove(&input.connection);
        }
    }
}

impl Since {
    /// Whether it is not a reply to a request of an earlier file.
    pub(super) fn is_known(&mut self, input: &Input<'_>) -> bool {
        let Given::Message(message) = &input.given else { return true };
        match (*self, message.side) {
            (Self::Opened, _) => true,
            (Self::Carried, Side::Client) => {
                *self = message.exchange.map_or(Self::Carried, Self::Exchange);
                true
            }
            (Self::Carried, Side::Server) => false,
            (Self::Exchange(_), Side::Client) => true,
            (Self::Exchange(since), Side::Server) => message.exchange.is_some_and(|exchange| exchange.0 >= since.0),
        }
    }
}
