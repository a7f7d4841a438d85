//! What was begun at another server, because the recording had no answer: cursors and transactions. What belongs to them
//! goes there too, so that none is half here and half there. And where something was changed there, the recording, which
//! knows nothing of it, answers no more: in that scope, what reads or writes those collections is asked there.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cursors::{cursor_asked, cursor_given};
use super::effect::{Effect, Namespace, Namespaces, Reads, UNTOLD, effect_of, reads};
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
    names: Namespaces,
    /// The collections that were changed there, by scope.
    changed: HashMap<Option<Arc<str>>, Changed>,
}

#[derive(Debug, Default)]
struct Changed {
    collections: HashSet<Namespace>,
    /// Databases that were dropped: whatever is in them.
    databases: HashSet<u32>,
}

impl Changed {
    fn add(&mut self, effect: Effect) {
        match effect {
            Effect::None | Effect::Commit | Effect::Abort => {}
            Effect::Write(all) => self.collections.extend(all),
            Effect::Schema(it) | Effect::Empty(it) | Effect::Replace(it) | Effect::Drop(it) => {
                self.collections.insert(it);
            }
            Effect::DropDatabase(database) => drop(self.databases.insert(database)),
            Effect::Rename(from, to) => self.collections.extend([from, to]),
        }
    }

    fn has(&self, collection: Namespace, names: &Namespaces) -> bool {
        self.collections.contains(&collection) || self.databases.iter().any(|it| names.is_in(collection, *it))
    }

    fn has_of(&self, database: u32, names: &Namespaces) -> bool {
        self.databases.contains(&database) || self.collections.iter().any(|it| names.is_in(*it, database))
    }

    /// Whether a request reads or writes what was changed.
    fn is_met(&self, request: &Request, names: &mut Namespaces) -> bool {
        let (command, name) = (request.command.as_slice(), request.name());
        // What it would do if it were done.
        let effect = effect_of(name, command, UNTOLD, names);
        let reads = reads(command, name, names);
        let is_read = match reads {
            Reads::Nothing | Reads::Transaction => name == "bulkWrite",
            Reads::Documents(all) => all.iter().any(|it| self.has(*it, names)),
            Reads::Collection(it) => self.has(it, names),
            Reads::Database(database) => self.has_of(database, names),
            Reads::Everything => true,
        };
        is_read
            || match effect {
                Effect::None | Effect::Commit | Effect::Abort => false,
                Effect::Write(all) => all.iter().any(|it| self.has(*it, names)),
                Effect::Schema(it) | Effect::Empty(it) | Effect::Replace(it) | Effect::Drop(it) => self.has(it, names),
                Effect::DropDatabase(database) => self.has_of(database, names),
                Effect::Rename(from, to) => self.has(from, names) || self.has(to, names),
            }
    }
}

impl Elsewhere {
    /// Whether a request goes there: it belongs to something that was begun there, or asks where the recording does not
    /// know what was changed, and belongs to nothing that was begun here.
    pub(super) fn has(&self, Forward { request, scope, .. }: &Forward) -> bool {
        let Begun { cursors, transactions, names, changed } = &mut *self.lock();
        if let Some((_, id)) = cursor_asked(&request.command) {
            return cursors.contains(&id);
        }
        if request.name() == "killCursors" {
            let ids = find(&request.command, b"cursors").and_then(|ids| ids.as_array()).unwrap_or_default();
            return Elements::readable(ids).filter_map(|id| id.as_i64()).any(|id| cursors.contains(&id));
        }
        let transaction = transaction_of(&request.command);
        if let Some((transaction, false)) = transaction {
            return transactions.contains(&transaction);
        }
        let Some(changed) = changed.get(scope).filter(|_| !is_housekeeping(request.name())) else { return false };
        // What else a transaction will ask is not known when it begins.
        transaction.is_some() || changed.is_met(request, names)
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
        let effect = effect_of(request.name(), &request.command, reply, &mut begun.names);
        if !matches!(effect, Effect::None | Effect::Commit | Effect::Abort) {
            begun.changed.entry(scope.clone()).or_default().add(effect);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
