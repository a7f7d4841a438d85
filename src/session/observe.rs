//! What a session tells the topologies beside its events, and the way there.
//!
//! What a server says of itself counts at once, whoever asked. What speaks ill of it is judged by whose connection it
//! was: a monitor's failed check counts, a handshake that fails does not (SDAM, "Network error when connecting").

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{RawBson, RawDocument};

use crate::bson::find;
use crate::event::{ClientIdentity, Connection, Observation, Observed, Timestamp, error_code, is_state_change};

/// Observations that may wait to be folded. They are few: a `hello` every ten seconds of each monitor, and errors that may
/// say something of a server. The end of a connection always finds room, for it takes back what the others took.
const WAITING_MAX: usize = 4096;

/// A bad answer to a first `hello` says nothing any more after this.
const STALE_AFTER: Duration = Duration::from_secs(1);

/// Where observations go, if anybody wants them. Clones lead to the same place.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    to: Option<Sender<Observation>>,
    counts: Arc<Counts>,
}

/// Where observations come out.
#[derive(Debug)]
pub struct Observing {
    from: Receiver<Observation>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    waiting: AtomicUsize,
    lost: AtomicU64,
}

impl Observations {
    /// A way for them, and its end, which ends itself when the last clone has gone.
    pub fn channel() -> (Self, Observing) {
        let (to, from) = channel();
        let counts = Arc::<Counts>::default();
        (Self { to: Some(to), counts: Arc::clone(&counts) }, Observing { from, counts })
    }

    fn send(&self, observation: Observation) {
        let Some(to) = &self.to else { return };
        let is_end = matches!(observation.what, Observed::Closed { .. });
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX && !is_end {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            // Nobody may want to know any more.
            _ = to.send(observation);
        }
    }
}

impl Observing {
    /// The next one; waits so long for it.
    ///
    /// # Errors
    /// If there is none by then, or there will be none any more.
    pub fn recv_timeout(&self, patience: Duration) -> Result<Observation, RecvTimeoutError> {
        let observation = self.from.recv_timeout(patience)?;
        self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(observation)
    }

    /// Those that are there.
    pub fn try_iter(&self) -> impl Iterator<Item = Observation> {
        self.from.try_iter().inspect(|_| _ = self.counts.waiting.fetch_sub(1, Ordering::Relaxed))
    }

    /// How many found no room: what is derived from the others may be wrong.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

/// One connection's way to tell.
#[derive(Debug)]
pub(super) struct Watch {
    observations: Observations,
    connection: Arc<Connection>,
    created_at: Timestamp,
    is_greeted: bool,
    /// A server that is not well, as nobody that is known was told.
    unjudged: Option<(Timestamp, Observed)>,
}

impl Watch {
    pub(super) fn new(observations: Observations, connection: Arc<Connection>, created_at: Timestamp) -> Self {
        Self { observations, connection, created_at, is_greeted: false, unjudged: None }
    }

    /// The first `hello` has been said.
    pub(super) fn greet(&mut self, metadata: Option<&[u8]>, load_balanced: bool, at: Timestamp) {
        let host = self.connection.client_host().to_owned();
        let client = ClientIdentity { host, metadata: metadata.unwrap_or_default().into() };
        self.is_greeted = true;
        self.tell(at, Observed::Greeted { client, load_balanced, created_at: self.created_at });
    }

    pub(super) fn tell(&self, at: Timestamp, what: Observed) {
        if self.is_greeted && self.observations.to.is_some() {
            self.observations.send(Observation { at, connection: Arc::clone(&self.connection), what });
        }
    }

    /// Tells of a reply, if it is a document at all. It is copied.
    pub(super) fn tell_reply(&self, at: Timestamp, reply: &[u8], what: impl FnOnce(RawDocumentBuf) -> Observed) {
        if self.observations.to.is_some()
            && let Ok(reply) = RawDocumentBuf::from_bytes(reply.to_vec())
        {
            self.tell(at, what(reply));
        }
    }

    /// Keeps a bad answer to the first `hello` until it is known whether a monitor had asked.
    pub(super) fn keep(&mut self, at: Timestamp, reply: &[u8]) {
        self.unjudged = RawDocumentBuf::from_bytes(reply.to_vec()).ok().map(|reply| (at, Observed::Hello(reply)));
    }

    /// Whether a monitor had asked is known now.
    pub(super) fn judge(&mut self, is_monitor: bool, now: Timestamp) {
        if let Some((at, what)) = self.unjudged.take()
            && is_monitor
            && now.since(at) <= STALE_AFTER
        {
            self.tell(now, what);
        }
    }

    /// Tells of a command's error, if it may say something of the server: of that, what is needed to judge it. The
    /// words of one about credentials may hold them, and stay here.
    pub(super) fn tell_error(&self, at: Timestamp, reply: &[u8], is_sensitive: bool, authenticating: bool) {
        // Without a code the words decide, and the fold reads them.
        let may_count = |error: &[u8]| error_code(error).is_none_or(is_state_change);
        let of_write = find(reply, b"writeConcernError").and_then(|error| error.as_document());
        if !(authenticating || may_count(reply) || of_write.is_some_and(may_count)) {
            return;
        }
        if let Ok(reply) = RawDocument::from_bytes(reply) {
            let reply = essence(reply, is_sensitive);
            self.tell(at, Observed::CommandFailed { reply, authenticating });
        }
    }

    /// The connection ended.
    pub(super) fn close(&mut self, by_client: bool, at: Timestamp) {
        self.tell(at, Observed::Closed { by_client });
        self.is_greeted = false;
    }
}

/// The error without its words: those of one about credentials may hold them.
pub(super) fn without_words(error: &[u8]) -> RawDocumentBuf {
    RawDocument::from_bytes(error).map(|error| essence(error, true)).unwrap_or_default()
}

/// What judges an error.
fn essence(error: &RawDocument, is_sensitive: bool) -> RawDocumentBuf {
    let mut kept = RawDocumentBuf::new();
    for (name, value) in error.iter().flatten() {
        match (name.as_str(), value.as_document()) {
            ("ok" | "code" | "codeName" | "topologyVersion", _) => kept.append(name, RawBson::from(value)),
            ("errmsg", _) if !is_sensitive => kept.append(name, RawBson::from(value)),
            ("writeConcernError", Some(inner)) => kept.append(name, essence(inner, is_sensitive)),
            _ => {}
        }
    }
    kept
}
