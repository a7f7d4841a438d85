//! What was begun at another server, because the recording had no answer: cursors and transactions. What belongs to them
//! goes there too, so that none is half here and half there. And where something was changed there, the recording, which
//! knows nothing of it, answers no more: in that scope, what reads or writes those collections is asked there.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::counted::database_of;
use super::cursors::{cursor_asked, cursor_given};
use super::effect::{Effect, Namespace, Namespaces, Reads, UNTOLD, effect_of, is_ok, reads, reads_in};
use super::follow::changes_users;
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
    cursors: Latest<i64>,
    transactions: Latest<Transaction>,
    names: Namespaces,
    /// The collections that were changed there, by scope.
    changed: HashMap<Option<Arc<str>>, Changed>,
}

/// The last ones of many: what was begun and is never ended goes at last.
#[derive(Debug)]
struct Latest<T> {
    all: HashSet<T>,
    /// As they came; some are gone already.
    order: VecDeque<T>,
}

/// How many of each are remembered.
const LATEST_MAX: usize = 100_000;

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { all: HashSet::new(), order: VecDeque::new() }
    }
}

impl<T: Copy + Eq + Hash> Latest<T> {
    fn insert(&mut self, it: T) {
        if !self.all.insert(it) {
            return;
        }
        self.order.push_back(it);
        if self.order.len() > LATEST_MAX
            && let Some(first) = self.order.pop_front()
        {
            self.all.remove(&first);
        }
    }

    fn remove(&mut self, it: &T) {
        self.all.remove(it);
    }

    fn contains(&self, it: &T) -> bool {
        self.all.contains(it)
    }
}

#[derive(Debug, Default)]
struct Changed {
    collections: HashSet<Namespace>,
    /// Databases that were dropped: whatever is in them.
    databases: HashSet<u32>,
    /// Users or roles.
    users: bool,
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
        if self.users && (changes_users(name) || matches!(name, "usersInfo" | "rolesInfo")) {
            return true;
        }
        // What it would do if it were done.
        let effect = effect_of(name, command, UNTOLD, names);
        let reads = reads(command, name, names);
        self.is_read(&reads, name, names)
            || self.is_explained(command, name, names)
            || self.is_watched(command, name, names)
            || match effect {
                Effect::None | Effect::Commit | Effect::Abort => false,
                Effect::Write(all) => all.iter().any(|it| self.has(*it, names)),
                Effect::Schema(it) | Effect::Empty(it) | Effect::Replace(it) | Effect::Drop(it) => self.has(it, names),
                Effect::DropDatabase(database) => self.has_of(database, names),
                Effect::Rename(from, to) => self.has(from, names) || self.has(to, names),
            }
    }

    fn is_read(&self, reads: &Reads, name: &str, names: &Namespaces) -> bool {
        match reads {
            Reads::Nothing | Reads::Transaction => name == "bulkWrite",
            Reads::Documents(all) => all.iter().any(|it| self.has(*it, names)),
            Reads::Collection(it) => self.has(*it, names),
            Reads::Database(database) => self.has_of(*database, names),
            Reads::Everything => true,
        }
    }

    /// Whether it explains what reads something that was changed.
    fn is_explained(&self, command: &[u8], name: &str, names: &mut Namespaces) -> bool {
        let explained = find(command, b"explain").filter(|_| name == "explain");
        let Some(inner) = explained.and_then(|inner| inner.as_document()) else { return false };
        let first = Elements::readable(inner).next().map(|first| String::from_utf8_lossy(first.name));
        let name = first.as_deref().unwrap_or_default();
        let reads = reads_in(database_of(command), inner, name, names);
        self.is_read(&reads, name, names)
    }

    /// Whether it is of no collection and watches, or lists, a database in which something was changed, or all of them.
    fn is_watched(&self, command: &[u8], name: &str, names: &mut Namespaces) -> bool {
        let is_of_database =
            name == "aggregate" && Elements::readable(command).next().is_some_and(|it| it.as_str().is_none());
        let database = database_of(command);
        is_of_database && (database == "admin" || self.has_of(names.database(database), names))
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
            (Some(0), Some(id)) => begun.cursors.remove(&id),
            (Some(id), _) if id != 0 => begun.cursors.insert(id),
            _ => {}
        }
        if request.name() == "killCursors" {
            let ids = find(&request.command, b"cursors").and_then(|ids| ids.as_array()).unwrap_or_default();
            Elements::readable(ids).filter_map(|id| id.as_i64()).for_each(|id| begun.cursors.remove(&id));
        }
        if let Some((transaction, true)) = transaction_of(&request.command) {
            begun.transactions.insert(transaction);
        }
        let effect = effect_of(request.name(), &request.command, reply, &mut begun.names);
        if !matches!(effect, Effect::None | Effect::Commit | Effect::Abort) {
            begun.changed.entry(scope.clone()).or_default().add(effect);
        }
        if changes_users(request.name()) && is_ok(reply) {
            begun.changed.entry(scope.clone()).or_default().users = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Begun> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;

    use super::*;
    use crate::replay::request::testing::request;

    fn forward(command: &RawDocumentBuf) -> Forward {
        Forward { request: request(command), app_name: None, scope: None }
    }

    #[test]
    fn what_was_changed_there_is_asked_there() {
        let lookup = |from: &str| rawdoc! { "aggregate": "c", "pipeline": [{ "$lookup": { "from": from, "as": "o" } }], "cursor": {} };
        let explain = |from: &str| rawdoc! { "explain": lookup(from), "$db": "d" };
        let watch =
            |db: &str| rawdoc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": db };
        let map = |out: &str| rawdoc! { "mapReduce": "c", "map": "m", "reduce": "r", "out": out, "$db": "d" };
        let insert = rawdoc! { "insert": "orders", "documents": [{}], "$db": "d" };
        let user = rawdoc! { "createUser": "ann", "pwd": "x", "roles": [], "$db": "d" };
        let find = |collection: &str| rawdoc! { "find": collection, "$db": "d" };
        let rows = [
            (&user, rawdoc! { "usersInfo": "ann", "$db": "d" }, find("orders")),
            (&user, rawdoc! { "dropUser": "ann", "$db": "d" }, watch("e")),
            (&insert, explain("orders"), explain("others")),
            (&insert, watch("d"), watch("e")),
            (&insert, watch("admin"), rawdoc! { "usersInfo": "ann", "$db": "e" }),
            (&insert, map("orders"), find("others")),
            (&map("sums"), find("sums"), find("orders")),
        ];
        for (done, met, unmet) in rows {
            let elsewhere = Elsewhere::default();
            elsewhere.note(&forward(done), rawdoc! { "n": 1, "ok": 1.0 }.as_bytes());
            assert!(elsewhere.has(&forward(&met)), "{done:?} {met:?}");
            assert!(!elsewhere.has(&forward(&unmet)), "{done:?} {unmet:?}");
        }
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let mut latest = Latest::default();
        for it in 0..150_000_u64 {
            latest.insert(it);
            latest.insert(it);
        }
        latest.remove(&140_000);
        assert_eq!((latest.all.len(), latest.order.len()), (LATEST_MAX - 1, LATEST_MAX));
        assert!(!latest.contains(&49_999) && latest.contains(&50_000) && !latest.contains(&140_000));
    }
}
