//! Which reply belongs to which request, on one connection.
//!
//! 1. A request waits under its `requestID` until a reply names it in `responseTo`. Ids repeat: the oldest goes first.
//! 2. A request with `moreToCome`, or of an opcode that has no reply, never waits: the server will not answer it.
//! 3. A reply with `moreToCome` keeps the request waiting, now under the *reply's* `requestID`, because the next part
//!    names the part before it (OP_MSG specification, "moreToCome On Responses").
//! 4. When a side closes, everything still waiting has failed, in the order it was sent.
//! 5. A reply that names nothing known is reported as unmatched. It is never an error of ours.

use std::collections::VecDeque;

use super::request::Request;
use crate::event::{Exchange, Phase, Timestamp};

/// Requests that may wait for a reply on one connection. Drivers have one; who pipelines more than this is not read on.
pub(super) const PENDING_MAX: usize = 4096;

/// A request that has not been answered, or one that is answered by the bytes' being sent.
#[derive(Debug)]
pub(super) struct Pending {
    /// What the reply's `responseTo` will be.
    pub(super) key: i32,
    /// The request; `None` if it could not be read and so has no events.
    pub(super) request: Option<Request>,
    pub(super) phase: Phase,
    /// It is a check of a server's: a heartbeat has started with it.
    pub(super) beats: bool,
    pub(super) exchange: Exchange,
    /// In an exhaust stream: the exchange of its request.
    pub(super) continues: Option<Exchange>,
    /// When the request was whole, or the reply before this part of the stream.
    pub(super) started_at: Timestamp,
    /// Bytes of the request on the wire.
    pub(super) request_bytes: u64,
}

impl Pending {
    fn may_be_hello(&self) -> bool {
        self.request.as_ref().is_none_or(|request| request.is_unseen || request.hello.is_some())
    }
}

/// A reply's request, and whether it was the one whose turn it was.
#[derive(Debug)]
pub(super) struct Match {
    pub(super) pending: Pending,
    pub(super) in_order: bool,
    position: usize,
}

/// The requests that wait, in the order they were sent.
#[derive(Debug, Default)]
pub(super) struct Pairing {
    waiting: VecDeque<Pending>,
}

impl Pairing {
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= PENDING_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// A request begins to wait.
    pub(super) fn push(&mut self, pending: Pending) {
        self.waiting.push_back(pending);
    }

    /// Takes out the request that a reply to `response_to` answers.
    pub(super) fn take(&mut self, response_to: i32) -> Option<Match> {
        let position = self.waiting.iter().position(|pending| pending.key == response_to)?;
        let pending = if position == 0 { self.waiting.pop_front()? } else { self.waiting.remove(position)? };
        Some(Match { pending, in_order: position == 0, position })
    }

    /// Whether a `hello` may wait under that id, first or not: one does, or a request that was not seen, or none that is
    /// known.
    pub(super) fn may_await_hello(&self, response_to: i32) -> bool {
        let mut named = self.waiting.iter().filter(|pending| pending.key == response_to).peekable();
        named.peek().is_none() || named.any(Pending::may_be_hello)
    }

    /// Gives a phase to the requests that are in another for want of a better one.
    pub(super) fn settle(&mut self, from: Phase, to: Phase) {
        for pending in self.waiting.iter_mut().filter(|pending| pending.phase == from) {
            pending.phase = to;
        }
    }

    /// Puts back, in its old place, a request of which more is to come.
    pub(super) fn put_back(&mut self, position: usize, pending: Pending) {
        self.waiting.insert(position.min(self.waiting.len()), pending);
    }

    /// Takes out the oldest, for good: its connection has ended.
    pub(super) fn pop(&mut self) -> Option<Pending> {
        self.waiting.pop_front()
    }

    /// The requests that wait, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.waiting.iter()
    }
}

impl Match {
    /// Where it waited.
    pub(super) fn position(&self) -> usize {
        self.position
    }
}
