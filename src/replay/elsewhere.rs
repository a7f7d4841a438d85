//! What was begun at another server, because the recording had no answer: cursors and transactions. What belongs to them
//! goes there too, so that none is half here and half there.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Request;
use super::cursors::{cursor_asked, cursor_given};
use super::state::Transaction;
use super::transaction::transaction_of;
use crate::bson::{Elements, find};

/// Cursors and transactions of another server, shared by the connections of a replay.
#[derive(Debug, Default)]
pub struct Elsewhere(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    cursors: HashSet<i64>,
    transactions: HashSet<Transaction>,
}

impl Elsewhere {
    /// Whether a request belongs to something that was begun there.
    pub(super) fn has(&self, request: &Request) -> bool {
        let begun = self.lock();
        if let Some((_, id)) = cursor_asked(&request.command) {
            return begun.cursors.contains(&id);
        }
        if request.name() == "killCursors" {
            let ids = find(&request.command, b"cursors").and_then(|ids| ids.as_array()).unwrap_or_default();
            return Elements::readable(ids).filter_map(|id| id.as_i64()).any(|id| begun.cursors.contains(&id));
        }
        let transaction = transaction_of(&request.command);
        transaction.is_some_and(|(transaction, begins)| !begins && begun.transactions.contains(&transaction))
    }

    /// Whether a request begins a transaction, which may be there as a whole.
    pub(super) fn begins(&self, request: &Request) -> bool {
        transaction_of(&request.command).is_some_and(|(_, begins)| begins)
    }

    /// Takes note of what was begun there by a request, and of what has ended.
    pub(super) fn note(&self, request: &Request, reply: &[u8]) {
        let mut begun = self.lock();
        let asked = cursor_asked(&request.command).map(|(_, id)| id);
        match (cursor_given(reply), asked) {
            (Some(0), Some(id)) => drop(begun.cursors.remove(&id)),
            (Some(id), _) if id != 0 => drop(begun.cursors.insert(id)),
            _ => {}
        }
        if let Some((transaction, true)) = transaction_of(&request.command) {
            begun.transactions.insert(transaction);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
