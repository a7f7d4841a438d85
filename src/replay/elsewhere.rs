//! What was begun at another server, because the recording had no answer: cursors and transactions. What belongs to them
//! goes there too, so that none is half here and half there. And once something was changed there, the recording, which
//! knows nothing of it, answers no more in that scope.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cursors::{cursor_asked, cursor_given};
use super::effect::{Effect, Namespaces, effect_of};
use super::state::Transaction;
use super::transaction::transaction_of;
use super::{Forward, Request};
use crate::bson::{Elements, find};
use crate::capture::exchange::is_housekeeping;

/// Cursors and transactions of another server, shared by the connections of a replay.
#[derive(Debug, Default)]
pub struct Elsewhere(Mutex<Begun>);

#[derive(Debug, Default)]
struct Begun {
    cursors: HashSet<i64>,
    transactions: HashSet<Transaction>,
    /// Scopes in which something was changed there.
    changed: HashSet<Option<Arc<str>>>,
}

impl Elsewhere {
    /// Whether a request goes there: it belongs to something that was begun there, or asks where the recording does not
    /// know what was changed, and belongs to nothing that was begun here.
    pub(super) fn has(&self, Forward { request, scope, .. }: &Forward) -> bool {
        let begun = self.lock();
        if let Some((_, id)) = cursor_asked(&request.command) {
            return begun.cursors.contains(&id);
        }
        if request.name() == "killCursors" {
            let ids = find(&request.command, b"cursors").and_then(|ids| ids.as_array()).unwrap_or_default();
            return Elements::readable(ids).filter_map(|id| id.as_i64()).any(|id| begun.cursors.contains(&id));
        }
        let is_changed = begun.changed.contains(scope) && !is_housekeeping(request.name());
        match transaction_of(&request.command) {
            Some((transaction, false)) => begun.transactions.contains(&transaction),
            Some((_, true)) | None => is_changed,
        }
    }

    /// Whether a request begins a transaction, which may be there as a whole.
    pub(super) fn begins(&self, request: &Request) -> bool {
        transaction_of(&request.command).is_some_and(|(_, begins)| begins)
    }

    /// Takes note of what was begun and changed there by a request, and of what has ended.
    pub(super) fn note(&self, Forward { request, scope, .. }: &Forward, reply: &[u8]) {
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
        let effect = effect_of(request.name(), &request.command, reply, &mut Namespaces::default());
        if !matches!(effect, Effect::None | Effect::Abort) {
            begun.changed.insert(scope.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
