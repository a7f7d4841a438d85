//! Session, topologies and redactor composed: the one path from bytes to what may be seen, live and from a recording.
//!
//! A [`Pipeline`] is one connection's, its inputs the [`Session`]'s, which it can have recorded. [`Topologies`] are a run's, its inputs what the
//! sessions [observe](crate::session::Observations). What comes out of both is [`Redacted`], so that no caller can forget
//! to redact.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bson;
use crate::event::{Connection, ConnectionId, Document, Entry, Event, Input, Observation, Seen, Side, Timestamp};
use crate::redact::{self, Fields, Redacted, Redactor, Told};
use crate::session::{Session, Shared};
use crate::topology::{Clients, ClientsSettings};

/// Where redacted events go.
pub type Sink<'s> = dyn FnMut(&Redacted<Entry<'_>>) + 's;

/// Where redacted inputs go, to be recorded.
pub type Tap = Box<dyn FnMut(&Redacted<Input<'_>>) + Send>;

/// One connection's path from bytes to redacted events.
#[derive(Debug)]
pub struct Pipeline {
    session: Session,
    redactor: Redactor,
    /// Where the session's inputs are recorded, if they are.
    recording: Option<Recording>,
}

struct Recording {
    connection: ConnectionId,
    inflate_max_bytes: usize,
    max_document_bytes: usize,
    tap: Tap,
}

impl Pipeline {
    /// For a connection that a client made at `at`.
    pub fn new(connection: Arc<Connection>, at: Timestamp, shared: Shared) -> Self {
        let session = Session::new(connection, at, shared);
        Self { session, redactor: Redactor::default(), recording: None }
    }

    /// The same, with everything that it will be given recorded. Messages are read whole for it, and the documents of
    /// events cut to [`max_document_bytes`](crate::session::Limits::max_document_bytes) only then.
    pub fn recorded(connection: Arc<Connection>, at: Timestamp, mut shared: Shared, tap: Tap) -> Self {
        let inflate_max_bytes = shared.limits.inflate_max_bytes;
        let max_document_bytes = std::mem::take(&mut shared.limits.max_document_bytes);
        let mut recording = Recording { connection: connection.id, inflate_max_bytes, max_document_bytes, tap };
        recording.told(at, Told::Opened(Arc::clone(&connection)));
        let session = Session::new(connection, at, shared);
        Self { session, redactor: Redactor::default(), recording: Some(recording) }
    }

    /// Takes the values of these fields too out of what comes out, if there are any.
    #[must_use]
    pub fn redacting(self, fields: Option<Arc<Fields>>) -> Self {
        Self { redactor: Redactor::new(fields), ..self }
    }

    /// See [`Session::handle_input`].
    pub fn handle_input(&mut self, input: &Input<'_>, sink: &mut Sink<'_>) {
        let redactor = &mut self.redactor;
        self.session.handle_input(input, &mut |entry| sink(&redactor.apply(entry)));
    }

    /// See [`Session::work`].
    pub fn work(&self, side: Side, bytes: &[u8], most: usize) -> usize {
        self.session.work(side, bytes, most)
    }

    /// See [`Session::handle_bytes`].
    pub fn handle_bytes(&mut self, side: Side, bytes: &[u8], at: Timestamp, sink: &mut Sink<'_>) {
        self.pass(side, bytes, (at, None), sink);
    }

    /// See [`Session::handle_sent_bytes`].
    pub fn handle_sent_bytes(&mut self, bytes: &[u8], at: Timestamp, sent_at: Timestamp, sink: &mut Sink<'_>) {
        self.pass(Side::Client, bytes, (at, Some(sent_at)), sink);
    }

    fn pass(&mut self, side: Side, bytes: &[u8], times: (Timestamp, Option<Timestamp>), sink: &mut Sink<'_>) {
        let redactor = RefCell::new(&mut self.redactor);
        let emit = &mut |entry: Entry<'_>| sink(&redactor.borrow_mut().apply(entry));
        match (&mut self.recording, times) {
            (None, (at, None)) => self.session.handle_bytes(side, bytes, at, emit),
            (None, (at, Some(sent_at))) => self.session.handle_sent_bytes(bytes, at, sent_at, emit),
            (Some(recording), (at, _)) => {
                let limit = recording.max_document_bytes;
                let emit = &mut |mut entry: Entry<'_>| {
                    redactor.borrow_mut().fields(&mut entry);
                    sink(&redact::apply(cut(entry, limit)));
                };
                let tell = &mut |seen: Seen<'_>| recording.seen(at, seen, &mut redactor.borrow_mut());
                self.session.handle_bytes_telling(side, bytes, times, emit, tell);
            }
        }
    }

    /// See [`Session::handle_sent`].
    pub fn handle_sent(&mut self, at: Timestamp, sink: &mut Sink<'_>) {
        let redactor = &mut self.redactor;
        self.session.handle_sent(at, &mut |entry| sink(&redactor.apply(entry)));
        self.told(at, Told::Sent);
    }

    /// See [`Session::handle_tick`].
    pub fn handle_tick(&mut self, at: Timestamp, sink: &mut Sink<'_>) {
        let judgement = self.judge();
        let redactor = &mut self.redactor;
        self.session.handle_tick(at, &mut |entry| sink(&redactor.apply(entry)));
        if let Some(is_monitor) = judgement.filter(|_| !self.is_undecided()) {
            self.told(at, Told::Judged { is_monitor });
            self.told(at, Told::Tick);
        }
    }

    /// See [`Session::handle_close`].
    pub fn handle_close(&mut self, by: Option<Side>, error: Option<&str>, at: Timestamp, sink: &mut Sink<'_>) {
        if let Some(recording) = &mut self.recording {
            self.session.tell_begun(&mut |seen| recording.seen(at, seen, &mut self.redactor));
        }
        if let Some(is_monitor) = self.judge() {
            self.told(at, Told::Judged { is_monitor });
        }
        self.told(at, Told::Closed { by, error });
        let redactor = &mut self.redactor;
        self.session.handle_close(by, error, at, &mut |entry| sink(&redactor.apply(entry)));
    }

    /// See [`Session::handle_withheld`].
    pub fn handle_withheld(&mut self, side: Side, message: &str, at: Timestamp, sink: &mut Sink<'_>) {
        self.told(at, Told::Withheld { side, message });
        let redactor = &mut self.redactor;
        self.session.handle_withheld(side, message, at, &mut |entry| sink(&redactor.apply(entry)));
    }

    /// Has the session decide by what the other connections of its client tell now, if it is to: what is recorded is to be
    /// decided alike without them.
    fn judge(&mut self) -> Option<bool> {
        let is_monitor = self.recording.as_ref().and_then(|_| self.session.judgement())?;
        self.session.handle_judged(is_monitor);
        Some(is_monitor)
    }

    fn told(&mut self, at: Timestamp, told: Told<'_>) {
        if let Some(recording) = &mut self.recording {
            recording.told(at, told);
        }
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

    /// See [`Session::is_heard`].
    pub fn is_heard(&self) -> bool {
        self.session.is_heard()
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

impl Recording {
    fn seen(&mut self, at: Timestamp, seen: Seen<'_>, redactor: &mut Redactor) {
        (self.tap)(&redactor.seen(self.connection, at, seen, self.inflate_max_bytes));
    }

    fn told(&mut self, at: Timestamp, told: Told<'_>) {
        (self.tap)(&redact::told(self.connection, at, told));
    }
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("connection", &self.connection).finish_non_exhaustive()
    }
}

/// The entry with its documents no longer than the limit, if there is one.
fn cut(mut entry: Entry<'_>, limit: usize) -> Entry<'_> {
    let document = match &mut entry.event {
        Event::CommandStarted(event) => &mut event.command,
        Event::CommandSucceeded(event) => &mut event.reply,
        Event::ServerHeartbeatSucceeded(event) => &mut event.reply,
        _ => return entry,
    };
    if limit != 0
        && document.as_bytes().len() > limit
        && let Some(cut) = bson::cut::cut(document.as_bytes(), limit)
    {
        *document = Document::cut(cut.bytes, cut.truncated);
    }
    entry
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
