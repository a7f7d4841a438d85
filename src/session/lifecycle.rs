//! The connection's own events, and the holding back of all events until it is known whose connection it is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::observe::Watch;
use super::request::Hello;
use super::role::{ClientKey, Counted, Monitors, Role};
use super::{Emit, Shared};
use crate::bson::find_path;
use crate::event::{
    CloseReason, Compressor, Connection, ConnectionClosed, ConnectionCreated, ConnectionReady, Entry, Event, Metadata,
    Observed, Phase, Side, Timestamp, is_libmongoc,
};

/// Events that may be held back; with more the connection is nobody's that is known, and taken for an application's.
const HELD_MAX: usize = 16;

/// What is known of a connection as a whole.
#[derive(Debug)]
pub(super) struct Lifecycle {
    connection: Arc<Connection>,
    created_at: Timestamp,
    role: Role,
    held: Vec<Entry<'static>>,
    created: bool,
    ready: Ready,
    /// What the first `hello` said of the client.
    client: Option<Box<[u8]>>,
    compressors: Vec<Compressor>,
    server_connection_id: Option<i64>,
    monitors: Monitors,
    key: Option<ClientKey>,
    counted: Option<Counted>,
    /// What the other connections of the client tell of this one, if that was asked already.
    judged: Option<bool>,
    ends_sessions: bool,
    /// Of a driver that checks servers on the sockets that it sends commands on.
    is_single_threaded: bool,
    /// It is taken for an application's only because it has been silent.
    is_guessed: bool,
    /// The heartbeats that were held back were none.
    took_back: bool,
    idle_after: Duration,
    watch: Watch,
}

/// How far a connection is on the way to its ready event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ready {
    /// The handshake is not done.
    No,
    /// The handshake was done then; the next request tells whether there is an authentication to wait for.
    Handshaken(Timestamp),
    /// Waiting for the end of an authentication.
    Authenticating,
    /// The event is out.
    Yes,
}

impl Lifecycle {
    pub(super) fn new(connection: Arc<Connection>, created_at: Timestamp, shared: &Shared) -> Self {
        Self {
            watch: Watch::new(shared.observations.clone(), Arc::clone(&connection), created_at),
            monitors: shared.monitors.clone(),
            idle_after: shared.idle_after,
            connection,
            created_at,
            role: Role::Undecided,
            held: Vec::new(),
            created: false,
            ready: Ready::No,
            client: None,
            compressors: Vec::new(),
            server_connection_id: None,
            key: None,
            counted: None,
            judged: None,
            ends_sessions: false,
            is_single_threaded: false,
            is_guessed: false,
            took_back: false,
        }
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn created_at(&self) -> Timestamp {
        self.created_at
    }

    /// What is told beside the events.
    pub(super) fn watch(&mut self) -> &mut Watch {
        &mut self.watch
    }

    /// Whether the driver checks servers on this application's connection.
    pub(super) fn is_single_threaded(&self) -> bool {
        self.is_single_threaded
    }

    /// Whether the heartbeats that were held back have turned out to be none.
    pub(super) fn took_heartbeats_back(&self) -> bool {
        self.took_back
    }

    /// An event of this connection, in a phase that holds unless the role says otherwise.
    pub(super) fn emit(&mut self, at: Timestamp, phase: Phase, event: Event<'_>, emit: &mut Emit<'_>) {
        let entry = Entry { at, connection: Arc::clone(&self.connection), phase, event };
        if self.role != Role::Undecided {
            return emit(entry);
        }
        self.held.push(entry.into_owned());
        if self.held.len() > HELD_MAX {
            self.decide(Role::App, at, emit);
        }
    }

    /// The client has said its first `hello`.
    pub(super) fn greet(&mut self, key: ClientKey, hello: &Hello, at: Timestamp) {
        self.key = Some(key);
        self.watch.greet(hello.client.as_deref(), hello.load_balanced, at);
        let is_mongoc = hello.client.as_deref().is_some_and(is_libmongoc);
        // libmongoc has clients with monitors, which have connected before, and clients without.
        self.is_single_threaded = is_mongoc && !hello.load_balanced && !self.monitors.has_monitor(key);
        self.count(Some(Counted::Undecided));
        self.client = hello.client.clone();
        if hello.authenticates {
            self.ready = Ready::Authenticating;
        }
    }

    /// The server has answered the first `hello`.
    pub(super) fn handshaken(
        &mut self,
        server_connection_id: Option<i64>,
        compressors: Vec<Compressor>,
        at: Timestamp,
    ) {
        self.server_connection_id = server_connection_id;
        self.compressors = compressors;
        if self.ready == Ready::No {
            self.ready = Ready::Handshaken(at);
        }
    }

    /// An authentication has come to its good end.
    pub(super) fn authenticated(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        if self.ready == Ready::Authenticating {
            self.emit_ready(at, emit);
        }
    }

    /// An application is about to send a command, or a step of an authentication.
    pub(super) fn before_command(&mut self, authenticates: bool, at: Timestamp, emit: &mut Emit<'_>) {
        match self.ready {
            Ready::Yes => {}
            _ if authenticates => self.ready = Ready::Authenticating,
            Ready::Handshaken(at) => self.emit_ready(at, emit),
            Ready::No | Ready::Authenticating => self.emit_ready(at, emit),
        }
    }

    fn emit_ready(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        self.ready = Ready::Yes;
        let client = self.client.take();
        let text = |part: &[u8], name: &[u8]| {
            let value = find_path(client.as_deref()?, &[part, name])?;
            value.as_str_bytes().map(|bytes| Cow::Owned(String::from_utf8_lossy(bytes).into_owned()))
        };
        let metadata = Metadata {
            app_name: text(b"application", b"name"),
            driver: text(b"driver", b"name"),
            driver_version: text(b"driver", b"version"),
            compressors: std::mem::take(&mut self.compressors),
            tls: self.connection.tls,
        };
        let duration = at.since(self.created_at);
        let event = ConnectionReady { duration, server_connection_id: self.server_connection_id, metadata };
        self.emit(at, Phase::App, Event::ConnectionReady(event), emit);
    }

    /// It is known whose connection this is: what was held back goes out in its phase. Once an application's, always,
    /// unless that was a guess.
    pub(super) fn decide(&mut self, role: Role, at: Timestamp, emit: &mut Emit<'_>) {
        if self.role == role || (self.role == Role::App && !self.is_guessed) {
            return;
        }
        // Of a monitor's connection nothing was held back.
        let was_known = self.role == Role::Monitor;
        self.role = role;
        self.is_guessed = false;
        if role == Role::App {
            self.count(None);
            if !self.created {
                self.created = true;
                let event = Event::ConnectionCreated(ConnectionCreated {});
                self.emit(self.created_at, Phase::App, event, emit);
            }
        }
        let phase = match role {
            Role::App | Role::Undecided => Phase::Handshake,
            Role::Monitor => self.monitor_phase(),
        };
        let beats = phase == Phase::Monitor || self.is_single_threaded;
        self.took_back = !beats && !was_known;
        self.watch.judge(beats, at);
        for mut entry in std::mem::take(&mut self.held) {
            match entry.event {
                Event::ServerHeartbeatStarted(_)
                | Event::ServerHeartbeatSucceeded(_)
                | Event::ServerHeartbeatFailed(_)
                    if !beats => {}
                _ => {
                    if entry.event.command_info().is_some() {
                        entry.phase = phase;
                    }
                    emit(entry);
                }
            }
        }
    }

    /// The phase of a `hello` on a connection that is not an application's.
    pub(super) fn monitor_phase(&mut self) -> Phase {
        let Some(key) = self.key.filter(|_| self.counted != Some(Counted::Streaming)) else { return Phase::Monitor };
        if self.counted == Some(Counted::Rtt) || self.monitors.has_streaming(key) {
            self.count(Some(Counted::Rtt));
            return Phase::Rtt;
        }
        self.count(Some(Counted::Polling));
        Phase::Monitor
    }

    /// A `hello` waits for changes: whoever sends it is a streaming monitor.
    pub(super) fn streams(&mut self) {
        self.count(Some(Counted::Streaming));
    }

    fn count(&mut self, as_kind: Option<Counted>) {
        let Some(key) = self.key else { return };
        if self.counted == as_kind {
            return;
        }
        if let Some(kind) = self.counted {
            self.monitors.remove(key, kind);
        }
        if let Some(kind) = as_kind {
            self.monitors.add(key, kind);
        }
        self.counted = as_kind;
    }

    pub(super) fn ends_sessions(&mut self, at: Timestamp) {
        self.ends_sessions = true;
        self.watch.tell(at, Observed::EndsSessions);
    }

    /// A connection that has said nothing for long since its first `hello` is an idle one of a pool.
    pub(super) fn tick(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        if let (Role::Undecided, Ready::Handshaken(since)) = (self.role, self.ready)
            && at.since(since) >= self.idle_after
        {
            if self.take_judgement() {
                self.count(Some(Counted::Rtt));
                return self.decide(Role::Monitor, at, emit);
            }
            self.decide(Role::App, at, emit);
            self.is_guessed = true;
            self.emit_ready(since, emit);
        }
    }

    /// Whether a connection with no more than its first `hello` is a monitor's, as the others of its client tell: with an
    /// answer it is the probe that its client must have. Without a good one, while no monitor of its client's is connected,
    /// it is one, coming back to its server.
    pub(super) fn judgement(&self) -> bool {
        self.key.is_some_and(|key| match self.ready {
            Ready::Handshaken(_) => self.monitors.lacks_rtt(key),
            Ready::No => !self.monitors.has_monitor(key),
            Ready::Authenticating | Ready::Yes => false,
        })
    }

    /// See [`Session::handle_judged`](super::Session::handle_judged).
    pub(super) fn handle_judged(&mut self, is_monitor: bool) {
        self.judged = Some(is_monitor);
    }

    fn take_judgement(&mut self) -> bool {
        self.judged.take().unwrap_or_else(|| self.judgement())
    }

    /// The connection is about to end: whose it was must be said now.
    pub(super) fn decide_at_end(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        if self.role != Role::Undecided {
            return;
        }
        let is_monitor = self.take_judgement();
        if is_monitor && matches!(self.ready, Ready::Handshaken(_)) {
            self.count(Some(Counted::Rtt));
        }
        self.decide(if is_monitor { Role::Monitor } else { Role::App }, at, emit);
        if let (Role::App, Ready::Handshaken(since)) = (self.role, self.ready) {
            self.emit_ready(since, emit);
        }
    }

    pub(super) fn close(&mut self, by: Option<Side>, is_error: bool, at: Timestamp, emit: &mut Emit<'_>) {
        self.count(None);
        self.watch.close(by == Some(Side::Client), at);
        if !self.created {
            return;
        }
        let reason = match by {
            _ if is_error => CloseReason::Error,
            Some(Side::Server) => CloseReason::Error,
            _ if self.ends_sessions => CloseReason::PoolClosed,
            _ => CloseReason::Unknown,
        };
        let event = Event::ConnectionClosed(ConnectionClosed { reason, closed_by: by });
        self.emit(at, Phase::App, event, emit);
    }
}

/// However a session ends, its client's monitors are counted right.
impl Drop for Lifecycle {
    fn drop(&mut self) {
        self.count(None);
    }
}
