//! The recorder's end on a data thread: renders entries and gathers the lines until it is worth handing them over.
//!
//! Whether there is room is decided when an exchange starts, or a heartbeat. One that finds none is left out whole: its
//! end too is rendered (the renderers want to see everything in order), counted, and taken away again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config;
use crate::event::{ConnectionId, Entry, Event, Exchange, Failure, Phase, ServerDescription, Timestamp, TopologyId};
use crate::redact::Redacted;
use crate::sink::{EventKind, Filter, Format, Options, Render, Statistics};

use super::ahead::{Ahead, Ready};
use super::queue::{HAND_OVER_AFTER, Queue};

/// What a data thread tells the recorder through. Made by [`Recorder::feed`](super::Recorder::feed); hands over what it
/// still holds when it is dropped.
pub struct Feed {
    pub(super) logs: Vec<LogFeed>,
    pub(super) listeners: Vec<ListenerFeed>,
    pub(super) statistics: Arc<Mutex<Statistics>>,
}

/// Lines, and where exchanges end in them.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// For each exchange that ends in them, in order: the bytes until it has.
    pub(super) ends: Vec<usize>,
}

impl Lines {
    /// Each line with its `\n`, and how many exchanges end with it.
    pub(super) fn each(&self) -> impl Iterator<Item = (&[u8], usize)> {
        let (mut at, mut ends) = (0, self.ends.iter().peekable());
        each_line(&self.bytes).map(move |line| {
            at += line.len();
            (line, std::iter::from_fn(|| ends.next_if(|end| **end <= at)).count())
        })
    }

    /// Adds a line, and so many exchanges that end with it.
    pub(super) fn push(&mut self, line: &[u8], ends: usize) {
        self.bytes.extend_from_slice(line);
        self.ends.extend(std::iter::repeat_n(self.bytes.len(), ends));
    }

    /// How many exchanges end within so many bytes.
    pub(super) fn ends_within(&self, bytes: usize) -> usize {
        self.ends.partition_point(|end| *end <= bytes)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Entries for a listener, shared with the other listeners.
pub(super) type Entries = Vec<Arc<Redacted<Entry<'static>>>>;

impl Feed {
    /// Records an entry in every log that wants it, tells the listeners that want it, and counts it.
    pub fn record(&mut self, entry: &Redacted<Entry<'_>>) {
        self.record_ready(entry, Ready::default());
    }

    /// The same with what was made [ready](Ahead::entry) of it.
    pub(in crate::net) fn record_ready(&mut self, entry: &Redacted<Entry<'_>>, ready: Ready) {
        if entry.event.ends_command() && entry.phase.is_application() {
            self.statistics.lock().unwrap_or_else(PoisonError::into_inner).observe(entry);
        }
        let mut lines = ready.lines.into_iter();
        for log in &mut self.logs {
            log.record(entry, lines.next().flatten());
        }
        if self.listeners.is_empty() {
            return;
        }
        let mut owned = ready.owned;
        for listener in &mut self.listeners {
            listener.record(entry, &mut owned);
        }
    }

    /// What makes ready, without the feed, what is longer than so many bytes.
    pub(in crate::net) fn ahead(&self, most: usize) -> Ahead {
        let renders = |log: &LogFeed| (log.format, log.options, log.gate.filter.clone());
        Ahead::new(self.logs.iter().map(renders), self.listeners.iter().map(|it| it.gate.filter.clone()), most)
    }

    /// Whether it holds something that [`Feed::tick`] would hand over.
    pub fn has_pending(&self) -> bool {
        self.logs.iter().any(|log| log.gate.bytes > 0) || self.listeners.iter().any(|it| it.gate.bytes > 0)
    }

    /// Hands over what is older than 20 ms. To be called about that often while [`Feed::has_pending`].
    pub fn tick(&mut self, now: Timestamp) {
        for log in self.logs.iter_mut().filter(|log| log.gate.is_old(now)) {
            log.gate.hand_over();
        }
        for listener in self.listeners.iter_mut().filter(|listener| listener.gate.is_old(now)) {
            listener.gate.hand_over();
        }
    }

    /// Hands over everything.
    pub fn flush(&mut self) {
        self.logs.iter_mut().for_each(|log| log.gate.hand_over());
        self.listeners.iter_mut().for_each(|listener| listener.gate.hand_over());
    }
}

/// One log's part of a feed.
pub(super) struct LogFeed {
    gate: Gate<Lines>,
    renderer: Box<dyn Render>,
    format: Format,
    options: Options,
}

impl LogFeed {
    pub(super) fn new(log: &config::Log, options: &Options, queue: &Arc<Queue<Lines>>) -> Self {
        let filter = Filter {
            events: log.events.clone(),
            phases: log.phases.clone(),
            namespaces: log.namespaces.clone(),
            ..Filter::default()
        };
        let (format, options) = (log.format, *options);
        Self { gate: Gate::new(filter, queue), renderer: format.renderer(&options), format, options }
    }

    fn record(&mut self, entry: &Redacted<Entry<'_>>, ready: Option<Vec<u8>>) {
        if !self.gate.wants(entry) {
            return;
        }
        let keep = self.gate.admits(entry);
        if let Some(line) = ready {
            return self.take(entry, keep, line);
        }
        let lines = &mut self.gate.held;
        let before = lines.bytes.len();
        self.renderer.render(entry, &mut lines.bytes);
        let bytes = lines.bytes.len() - before;
        if keep {
            if entry.event.ends_command() {
                lines.ends.push(lines.bytes.len());
            }
            self.gate.added(bytes, entry.at);
        } else {
            lines.bytes.truncate(before);
            self.gate.left_out(entry, bytes);
        }
    }

    /// The same for a line that is there already, and too long to be copied.
    fn take(&mut self, entry: &Redacted<Entry<'_>>, keep: bool, line: Vec<u8>) {
        let bytes = line.len();
        if !keep {
            return self.gate.left_out(entry, bytes);
        }
        self.gate.hand_over();
        let ends = if entry.event.ends_command() { vec![bytes] } else { Vec::new() };
        self.gate.held = Lines { bytes: line, ends };
        self.gate.added(bytes, entry.at);
    }
}

/// One listener's part of a feed.
pub(super) struct ListenerFeed {
    gate: Gate<Entries>,
}

impl ListenerFeed {
    /// A listener to events of that kind, as a driver's would hear them: to commands of applications only.
    pub(super) fn new(kind: EventKind, queue: &Arc<Queue<Entries>>) -> Self {
        let phases = vec![Phase::App, Phase::Auth];
        Self { gate: Gate::new(Filter { events: vec![kind], phases, ..Filter::default() }, queue) }
    }

    /// `owned` is the entry's own copy, made when the first listener wants it.
    fn record(&mut self, entry: &Redacted<Entry<'_>>, owned: &mut Option<Arc<Redacted<Entry<'static>>>>) {
        // There is no listener to protocol errors, which pass every filter.
        if EventKind::of(&entry.event).is_none() || !self.gate.wants(entry) {
            return;
        }
        let bytes = bytes_of(&entry.event);
        if self.gate.admits(entry) {
            let owned = owned.get_or_insert_with(|| Arc::new(entry.clone().into_owned()));
            self.gate.held.push(Arc::clone(owned));
            self.gate.added(bytes, entry.at);
        } else {
            self.gate.left_out(entry, bytes);
        }
    }
}

/// What a feed holds for one queue, and its decisions of what goes there.
struct Gate<T: Default> {
    queue: Arc<Queue<T>>,
    filter: Filter,
    held: T,
    bytes: usize,
    /// When the first event of what is held happened.
    since: Timestamp,
    left_out: LeftOut,
}

impl<T: Default> Gate<T> {
    fn new(filter: Filter, queue: &Arc<Queue<T>>) -> Self {
        let (held, since, left_out) = (T::default(), Timestamp::default(), LeftOut::default());
        Self { queue: Arc::clone(queue), filter, held, bytes: 0, since, left_out }
    }

    fn wants(&self, entry: &Entry<'_>) -> bool {
        self.filter.wants(entry) && !self.queue.is_closed()
    }

    /// Whether the event is to be kept; waits for room where that was chosen.
    fn admits(&mut self, entry: &Entry<'_>) -> bool {
        if entry.event.ends_command() || is_heartbeat_end(&entry.event) {
            return !self.left_out.holds(entry);
        }
        if self.queue.has_room(self.bytes) {
            return true;
        }
        self.hand_over();
        self.queue.blocks() && self.queue.wait_for_room()
    }

    /// So much was added to what is held.
    fn added(&mut self, bytes: usize, at: Timestamp) {
        if self.bytes == 0 {
            self.since = at;
        }
        self.bytes += bytes;
        if self.bytes >= self.queue.hand_over_at() {
            self.hand_over();
        }
    }

    fn left_out(&mut self, entry: &Entry<'_>, bytes: usize) {
        self.left_out.add(entry, bytes, &self.queue);
    }

    fn hand_over(&mut self) {
        if self.bytes > 0 {
            self.held = self.queue.push(std::mem::take(&mut self.held), self.bytes);
            self.bytes = 0;
        }
    }

    fn is_old(&self, now: Timestamp) -> bool {
        self.bytes > 0 && now.since(self.since) >= HAND_OVER_AFTER
    }
}

impl<T: Default> Drop for Gate<T> {
    fn drop(&mut self) {
        self.hand_over();
        self.left_out.settle(&self.queue);
    }
}

/// What was left out and has not ended yet.
#[derive(Debug, Default)]
struct LeftOut {
    /// Exchanges, with the bytes of their starts.
    exchanges: HashMap<Exchange, u64>,
    /// Connections whose heartbeat it is: they have one at a time.
    heartbeats: HashSet<ConnectionId>,
}

impl LeftOut {
    /// Whether the event is the end of something in it.
    fn holds(&self, entry: &Entry<'_>) -> bool {
        match entry.event.command_info() {
            Some(info) => !self.exchanges.is_empty() && self.exchanges.contains_key(&info.exchange),
            None => self.heartbeats.contains(&entry.connection.id),
        }
    }

    /// Takes note of an event left out. An exchange is counted when it ends, with both its events.
    fn add<T: Default>(&mut self, entry: &Entry<'_>, bytes: usize, queue: &Queue<T>) {
        let bytes = bytes as u64;
        match entry.event.command_info() {
            None => {
                queue.leave_out(0, bytes);
                if is_heartbeat_end(&entry.event) {
                    self.heartbeats.remove(&entry.connection.id);
                } else if matches!(entry.event, Event::ServerHeartbeatStarted(_)) {
                    self.heartbeats.insert(entry.connection.id);
                }
            }
            Some(info) if entry.event.ends_command() => {
                queue.leave_out(1, bytes + self.exchanges.remove(&info.exchange).unwrap_or_default());
            }
            Some(info) => _ = self.exchanges.insert(info.exchange, bytes),
        }
    }

    /// Counts those whose end was never seen.
    fn settle<T: Default>(&mut self, queue: &Queue<T>) {
        self.exchanges.drain().for_each(|(_, bytes)| queue.leave_out(1, bytes));
    }
}

/// The lines of a text, each with its `\n`.
fn each_line(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(end);
        rest = behind;
        (!line.is_empty()).then_some(line)
    })
}

fn is_heartbeat_end(event: &Event<'_>) -> bool {
    matches!(event, Event::ServerHeartbeatSucceeded(_) | Event::ServerHeartbeatFailed(_))
}

/// About how much memory an entry takes that was copied for a listener.
pub(super) fn bytes_of(event: &Event<'_>) -> usize {
    let held = match event {
        Event::CommandStarted(event) => event.command.as_bytes().len(),
        Event::CommandSucceeded(event) => event.reply.as_bytes().len(),
        Event::CommandFailed(event) => bytes_of_failure(&event.failure),
        Event::ServerHeartbeatStarted(event) => size_of_val(&**event),
        Event::ServerHeartbeatSucceeded(event) => size_of_val(&**event) + event.reply.as_bytes().len(),
        Event::ServerHeartbeatFailed(event) => size_of_val(&**event) + bytes_of_failure(&event.failure),
        Event::ServerOpening(event) => size_of_val(&**event),
        Event::ServerClosed(event) => size_of_val(&**event),
        Event::ServerDescriptionChanged(event) => {
            bytes_of_server(&event.previous_description) + bytes_of_server(&event.new_description)
        }
        Event::TopologyDescriptionChanged(event) => {
            let servers = [&event.previous_description, &event.new_description].into_iter().flat_map(|it| &it.servers);
            size_of_val(&**event) + servers.map(bytes_of_server).sum::<usize>()
        }
        Event::TopologyOpening(_) | Event::TopologyClosed(_) => size_of::<TopologyId>(),
        Event::ConnectionCreated(_) | Event::ConnectionReady(_) | Event::ConnectionClosed(_) => 0,
        Event::ProtocolError(event) => event.message.len(),
    };
    size_of::<Entry<'_>>() + held
}

fn bytes_of_failure(failure: &Failure<'_>) -> usize {
    match failure {
        Failure::Reply(reply) => reply.as_bytes().len(),
        Failure::Network { message, .. } => message.len(),
    }
}

/// A description with the names in it.
fn bytes_of_server(description: &ServerDescription) -> usize {
    let names = [&description.hosts, &description.passives, &description.arbiters].into_iter().flatten();
    let tags = description.tags.iter().flat_map(|(name, value)| [name, value]);
    let strings = names.chain(tags).map(|text| size_of_val(text) + text.len()).sum::<usize>();
    size_of_val(description) + strings + description.error.as_ref().map_or(0, String::len)
}
