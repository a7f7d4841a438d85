//! The listeners that a program gave: each on a thread of its own, one event at a time, in the order of its log.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::config::OnOverflow;
use crate::event::{
    CommandListener, ConnectionListener, Entry, Event, ServerHeartbeatListener, ServerListener, TopologyListener,
};
use crate::sink::{EventKind, plural};

use super::Say;
use super::feed::Entries;
use super::queue::{Health, Queue};

/// Who is to be told of events, and what of them.
pub struct Listeners {
    /// Those that hear of commands, in the phases `app` and `auth`.
    pub command: Vec<Box<dyn CommandListener>>,
    /// Those that hear of applications' connections.
    pub connection: Vec<Box<dyn ConnectionListener>>,
    /// Those that hear of the heartbeats of drivers' monitors.
    pub heartbeat: Vec<Box<dyn ServerHeartbeatListener>>,
    /// Those that hear of servers.
    pub server: Vec<Box<dyn ServerListener>>,
    /// Those that hear of topologies.
    pub topology: Vec<Box<dyn TopologyListener>>,
    /// The longest document they are shown whole, in bytes of BSON; 0 is no limit.
    pub max_document_bytes: usize,
    /// About how many bytes of events may wait for one of them.
    pub queue_bytes: usize,
    /// What to do when that many wait.
    pub on_overflow: OnOverflow,
}

impl Default for Listeners {
    /// Nobody; whole documents, 16 MiB of waiting events, and who is slow loses events.
    fn default() -> Self {
        Self {
            command: Vec::new(),
            connection: Vec::new(),
            heartbeat: Vec::new(),
            server: Vec::new(),
            topology: Vec::new(),
            max_document_bytes: 0,
            queue_bytes: 16 << 20,
            on_overflow: OnOverflow::Drop,
        }
    }
}

/// One listener, of whichever kind.
pub(super) enum Listener {
    Command(Box<dyn CommandListener>),
    Connection(Box<dyn ConnectionListener>),
    Heartbeat(Box<dyn ServerHeartbeatListener>),
    Server(Box<dyn ServerListener>),
    Topology(Box<dyn TopologyListener>),
}

impl Listener {
    pub(super) fn kind(&self) -> EventKind {
        match self {
            Self::Command(_) => EventKind::Command,
            Self::Connection(_) => EventKind::Connection,
            Self::Heartbeat(_) => EventKind::Heartbeat,
            Self::Server(_) => EventKind::Server,
            Self::Topology(_) => EventKind::Topology,
        }
    }

    /// Calls the method for the event, if there is one.
    fn hear(&mut self, entry: &Entry<'_>) {
        let connection = &*entry.connection;
        match (self, &entry.event) {
            (Self::Command(it), Event::CommandStarted(event)) => it.started(connection, event),
            (Self::Command(it), Event::CommandSucceeded(event)) => it.succeeded(connection, event),
            (Self::Command(it), Event::CommandFailed(event)) => it.failed(connection, event),
            (Self::Connection(it), Event::ConnectionCreated(event)) => it.created(connection, event),
            (Self::Connection(it), Event::ConnectionReady(event)) => it.ready(connection, event),
            (Self::Connection(it), Event::ConnectionClosed(event)) => it.closed(connection, event),
            (Self::Heartbeat(it), Event::ServerHeartbeatStarted(event)) => it.started(event),
            (Self::Heartbeat(it), Event::ServerHeartbeatSucceeded(event)) => it.succeeded(event),
            (Self::Heartbeat(it), Event::ServerHeartbeatFailed(event)) => it.failed(event),
            (Self::Server(it), Event::ServerOpening(event)) => it.opened(event),
            (Self::Server(it), Event::ServerDescriptionChanged(event)) => it.description_changed(event),
            (Self::Server(it), Event::ServerClosed(event)) => it.closed(event),
            (Self::Topology(it), Event::TopologyOpening(event)) => it.opened(event),
            (Self::Topology(it), Event::TopologyDescriptionChanged(event)) => it.description_changed(event),
            (Self::Topology(it), Event::TopologyClosed(event)) => it.closed(event),
            _ => {}
        }
    }
}

/// Tells a listener what comes, until there is no more or it panics. Gives how many exchanges it was not told of.
pub(super) fn run(mut listener: Listener, name: &str, queue: &Queue<Entries>, say: &Say) -> u64 {
    let mut panicked = false;
    while !panicked {
        let work = queue.take();
        for mut entries in work.chunks {
            let bytes = entries.iter().map(|entry| super::feed::bytes_of(&entry.event)).sum();
            panicked = panicked || tell(&mut listener, &entries).is_err();
            entries.clear();
            queue.done(entries, bytes);
        }
        if work.stop {
            break;
        }
    }
    queue.set_health(Health::Closed);
    if panicked {
        say(&format!("{name} panicked and is removed"));
    }
    // What it leaves may panic too.
    _ = catch_unwind(AssertUnwindSafe(|| drop(listener)));
    let missing = queue.take_missing();
    match (missing.exchanges, missing.bytes) {
        (0, 0) => {}
        // What is no part of a command is counted by its bytes alone.
        (0, bytes) => say(&format!("{name} was too slow for {bytes} bytes of events")),
        (exchanges, _) => say(&format!("{name} was too slow for {}", plural(exchanges, "exchange"))),
    }
    missing.exchanges
}

fn tell(listener: &mut Listener, entries: &Entries) -> std::thread::Result<()> {
    // A listener that has panicked is not called again, so nobody sees what it left half done.
    entries.iter().try_for_each(|entry| catch_unwind(AssertUnwindSafe(|| listener.hear(entry))))
}

/// A name for each listener's thread and for what is said of it.
pub(super) fn numbered(listeners: Listeners) -> impl Iterator<Item = (String, Listener)> {
    let command = listeners.command.into_iter().map(Listener::Command);
    let connection = listeners.connection.into_iter().map(Listener::Connection);
    let heartbeat = listeners.heartbeat.into_iter().map(Listener::Heartbeat);
    let server = listeners.server.into_iter().map(Listener::Server);
    let topology = listeners.topology.into_iter().map(Listener::Topology);
    let all = command.chain(connection).chain(heartbeat).chain(server).chain(topology);
    all.enumerate().map(|(index, listener)| (format!("listener {}", index + 1), listener))
}
