//! Session, topologies and redactor composed: the one path from bytes to what may be seen, live and from a recording.
//!
//! A [`Pipeline`] is one connection's, its inputs the [`Session`]'s. [`Topologies`] are a run's, its inputs what the
//! sessions [observe](crate::session::Observations). What comes out of both is [`Redacted`], so that no caller can forget
//! to redact.

use std::sync::Arc;
use std::time::Duration;

use crate::event::{Connection, Entry, Observation, Side, Timestamp};
use crate::redact::{self, Redacted};
use crate::session::{Session, Shared};
use crate::topology::{Clients, ClientsSettings};

/// Where redacted events go.
pub type Sink<'s> = dyn FnMut(&Redacted<Entry<'_>>) + 's;

/// One connection's path from bytes to redacted events.
#[derive(Debug)]
pub struct Pipeline {
    session: Session,
}

impl Pipeline {
    /// For a connection that a client made at `at`.
    pub fn new(connection: Arc<Connection>, at: Timestamp, shared: Shared) -> Self {
        Self { session: Session::new(connection, at, shared) }
    }

    /// See [`Session::handle_bytes`].
    pub fn handle_bytes(&mut self, side: Side, bytes: &[u8], at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_bytes(side, bytes, at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::handle_sent_bytes`].
    pub fn handle_sent_bytes(&mut self, bytes: &[u8], at: Timestamp, sent_at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_sent_bytes(bytes, at, sent_at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::handle_sent`].
    pub fn handle_sent(&mut self, at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_sent(at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::handle_tick`].
    pub fn handle_tick(&mut self, at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_tick(at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::handle_close`].
    pub fn handle_close(&mut self, by: Option<Side>, error: Option<&str>, at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_close(by, error, at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::handle_withheld`].
    pub fn handle_withheld(&mut self, side: Side, message: &str, at: Timestamp, sink: &mut Sink<'_>) {
        self.session.handle_withheld(side, message, at, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Session::may_await_hello`].
    pub fn may_await_hello(&self, response_to: i32) -> bool {
        self.session.may_await_hello(response_to)
    }

    /// See [`Session::is_tunnel`].
    pub fn is_tunnel(&self) -> bool {
        self.session.is_tunnel()
    }

    /// See [`Session::awaits_sent`].
    pub fn awaits_sent(&self) -> bool {
        self.session.awaits_sent()
    }

    /// See [`Session::is_undecided`].
    pub fn is_undecided(&self) -> bool {
        self.session.is_undecided()
    }

    /// See [`Session::is_unanswered`].
    pub fn is_unanswered(&self) -> bool {
        self.session.is_unanswered()
    }

    /// See [`Session::is_busy`].
    pub fn is_busy(&self) -> bool {
        self.session.is_busy()
    }
}

/// The path of a whole run from what its sessions observe to redacted server and topology events.
#[derive(Debug)]
pub struct Topologies {
    clients: Clients,
}

impl Topologies {
    /// None yet.
    pub fn new(settings: ClientsSettings) -> Self {
        Self { clients: Clients::new(settings) }
    }

    /// See [`Clients::handle`].
    pub fn handle(&mut self, observation: Observation) {
        self.clients.handle(observation);
    }

    /// See [`Clients::handle_tick`].
    pub fn handle_tick(&mut self, now: Timestamp, sink: &mut Sink<'_>) {
        self.clients.handle_tick(now, &mut |entry| sink(&redact::apply(entry)));
    }

    /// See [`Clients::due`].
    pub fn due(&self, now: Timestamp) -> Option<Duration> {
        self.clients.due(now)
    }

    /// See [`Clients::close`].
    pub fn close(&mut self, now: Timestamp, sink: &mut Sink<'_>) {
        self.clients.close(now, &mut |entry| sink(&redact::apply(entry)));
    }
}
