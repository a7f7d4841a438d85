//! What a session tells the topologies beside its events, and the way there.
//!
//! What a server says of itself counts at once, whoever asked. What speaks ill of it is judged by whose connection it
//! was: a monitor's failed check counts, a handshake that fails does not (SDAM, "Network error when connecting").

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use bson::raw::RawDocumentBuf;

use crate::event::{ClientIdentity, Connection, Observation, Observed, Timestamp};

/// Observations that may wait to be folded. They are few: a `hello` every ten seconds of each monitor, and errors.
const WAITING_MAX: usize = 1 << 16;

/// Where observations go, if anybody wants them. Clones lead to the same place.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    to: Option<SyncSender<Observation>>,
    lost: Arc<AtomicU64>,
}

impl Observations {
    /// A way for them, and its end, which ends itself when the last clone has gone.
    pub fn channel() -> (Self, Receiver<Observation>) {
        let (to, from) = sync_channel(WAITING_MAX);
        (Self { to: Some(to), lost: Arc::default() }, from)
    }

    /// How many found no room: what is derived from the others may be wrong.
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    fn send(&self, observation: Observation) {
        if let Some(to) = &self.to
            && to.try_send(observation).is_err()
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
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
        let host = self.connection.client.rsplit_once(':').map_or(&*self.connection.client, |(host, _)| host);
        let client = ClientIdentity { host: host.to_owned(), metadata: metadata.unwrap_or_default().into() };
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
    pub(super) fn judge(&mut self, is_monitor: bool) {
        if let Some((at, what)) = self.unjudged.take()
            && is_monitor
        {
            self.tell(at, what);
        }
    }

    /// The connection ended.
    pub(super) fn close(&mut self, at: Timestamp) {
        self.tell(at, Observed::Closed);
        self.is_greeted = false;
    }
}
