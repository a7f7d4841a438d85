//! Change streams and tailable cursors: which recorded writes each batch tells of, so that it comes after them.

use std::collections::HashMap;

use super::counted::{collection_of, database_of};
use super::cursors::{cursor_asked, cursor_given};
use super::effect::{Effect, Namespace, Namespaces, changed, is_ok};
use super::recording::{Entry, EntryKind, Index, Number};
use crate::bson::{Element, Elements, Kind, find, find_path};
use crate::capture::exchange::{Exchange, opens_change_stream};
use crate::capture::names::{Value, leaves, value_of};

/// What is gathered of a recording's streams and of what they may tell.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// The stream of each open cursor, by the exchange that opened it.
    open: HashMap<i64, Number>,
    batches: Vec<Batch>,
    writes: Vec<Write>,
    commits: HashMap<super::state::Transaction, Number>,
}

#[derive(Debug)]
struct Batch {
    stream: Number,
    exchange: Number,
    events: Vec<Event>,
}

/// What a batch tells of.
#[derive(Debug)]
struct Event {
    kind: EventKind,
    namespace: Option<Namespace>,
    /// Values of the document's key, or of the whole document of a tailable cursor.
    values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum EventKind {
    Insert,
    Update,
    Delete,
    Other,
}

/// Changes that an exchange made, of one kind.
#[derive(Debug)]
struct Write {
    exchange: Number,
    namespace: Namespace,
    kind: EventKind,
    documents: i64,
    transaction: Option<super::state::Transaction>,
}

/// Whether the cursor of a command waits for what comes.
pub(super) fn is_stream(command: &[u8]) -> bool {
    let is_set = |name: &[u8]| find(command, name).is_some_and(|element| element.as_bool_truthy());
    is_set(b"tailable") || opens_change_stream(command)
}

impl Streams {
    /// Takes note of an exchange; whether it continues a stream.
    pub(super) fn add(
        &mut self,
        exchange: &Exchange,
        number: Number,
        entry: &Entry,
        namespaces: &mut Namespaces,
    ) -> bool {
        let command = exchange.request.as_slice();
        let stream = match entry.kind {
            EntryKind::More => cursor_asked(command).and_then(|(_, id)| self.open.remove(&id)),
            EntryKind::Stream => Some(number),
            _ => None,
        };
        if let Some(stream) = stream {
            let given = exchange.replies.last().and_then(|reply| cursor_given(&reply.body));
            self.open.extend(given.filter(|id| *id != 0).map(|id| (id, stream)));
            let batches = exchange.replies.iter().flat_map(|reply| documents(&reply.body));
            let own = collection_of(command).map(|name| namespaces.number(database_of(command), name));
            let events = batches.map(|document| event(document, own, namespaces)).collect::<Vec<_>>();
            if !events.is_empty() {
                self.batches.push(Batch { stream, exchange: number, events });
            }
            return stream != number;
        }
        if *entry.effect != Effect::None {
            self.write(exchange, number, entry);
        }
        false
    }

    fn write(&mut self, exchange: &Exchange, number: Number, entry: &Entry) {
        let name = exchange.name();
        let reply = exchange.replies.first().map_or(&[][..], |reply| &reply.body);
        let upserted =
            find(reply, b"upserted").and_then(|it| it.as_array()).map_or(0, |it| Elements::readable(it).count() as i64);
        let updated = find_path(reply, &[b"lastErrorObject", b"updatedExisting"]).is_some_and(|it| it.as_bool_truthy());
        let documents = changed(name, reply).max(i64::from(!exchange.wants_reply));
        let kinds = match (name, &*entry.effect) {
            (_, Effect::Commit) => {
                self.commits
                    .extend(entry.transaction.filter(|_| is_ok(reply)).map(|transaction| (transaction, number)));
                return;
            }
            ("insert", _) => vec![(EventKind::Insert, documents)],
            ("update", _) => vec![(EventKind::Update, documents - upserted), (EventKind::Insert, upserted)],
            ("delete", _) => vec![(EventKind::Delete, documents)],
            ("findAndModify" | "findandmodify", _) if updated => vec![(EventKind::Update, 1)],
            ("findAndModify" | "findandmodify", _) => vec![(EventKind::Insert, 1), (EventKind::Delete, 1)],
            _ => vec![(EventKind::Other, 1), (EventKind::Insert, i64::MAX)],
        };
        let written = match &*entry.effect {
            Effect::Write(written) => written.clone(),
            Effect::Empty(it) | Effect::Replace(it) | Effect::Drop(it) | Effect::Schema(it) => vec![*it],
            _ => return,
        };
        for namespace in written {
            let transaction = entry.transaction;
            let some = kinds.iter().filter(|(_, documents)| *documents > 0);
            self.writes.extend(some.map(|(kind, documents)| Write {
                exchange: number,
                namespace,
                kind: *kind,
                documents: *documents,
                transaction,
            }));
        }
    }

    /// The exchanges without which each batch is not there yet.
    pub(super) fn causes(&self, index: &Index) -> HashMap<Number, Vec<Number>> {
        let mut causes = HashMap::<_, Vec<_>>::new();
        // How many documents of each write the events of a stream have told.
        let mut told = HashMap::<(Number, usize), i64>::new();
        for batch in &self.batches {
            for event in &batch.events {
                if let Some(cause) = self.cause(event, batch.stream, &mut told, index) {
                    causes.entry(batch.exchange).or_default().push(cause);
                }
            }
        }
        causes
    }

    fn cause(
        &self,
        event: &Event,
        stream: Number,
        told: &mut HashMap<(Number, usize), i64>,
        index: &Index,
    ) -> Option<Number> {
        let born = event.values.iter().find_map(|value| Some(index.births.get(value)?.exchange));
        let same = |write: &Write| {
            write.exchange > stream
                && write.kind == event.kind
                && event.namespace.is_none_or(|namespace| namespace == write.namespace)
                && (event.kind != EventKind::Insert || born.is_none_or(|born| born == write.exchange))
        };
        for (place, write) in self.writes.iter().enumerate().filter(|(_, write)| same(write)) {
            let told = told.entry((stream, place)).or_default();
            if *told < write.documents {
                *told += 1;
                let commit = write.transaction.and_then(|transaction| self.commits.get(&transaction));
                return Some(commit.copied().unwrap_or(write.exchange));
            }
        }
        None
    }
}

/// The documents of a reply's batch.
pub(super) fn documents(reply: &[u8]) -> impl Iterator<Item = &[u8]> {
    let batch = find_path(reply, &[b"cursor", b"nextBatch"]).or_else(|| find_path(reply, &[b"cursor", b"firstBatch"]));
    let batch = batch.and_then(|batch| batch.as_array()).unwrap_or_default();
    Elements::readable(batch).filter_map(|element| element.as_document())
}

fn event(document: &[u8], own: Option<Namespace>, namespaces: &mut Namespaces) -> Event {
    let kind = find(document, b"operationType").and_then(|kind| kind.as_str());
    let ns = find(document, b"ns").and_then(|ns| ns.as_document());
    let text = |name: &[u8]| find(ns?, name)?.as_str();
    let namespace = text(b"db").zip(text(b"coll")).map(|(db, coll)| namespaces.number(db, coll));
    let mut values = Vec::new();
    let mut gather = |leaf: &Element<'_>| {
        values.extend(value_of(leaf).filter(|value| !matches!(value, Value::Date(_))));
    };
    match find(document, b"documentKey").filter(|key| key.kind == Kind::Document) {
        Some(key) => leaves(&key, &mut gather),
        None => Elements::readable(document)
            .filter(|it| it.name == b"_id" && ns.is_none())
            .for_each(|it| leaves(&it, &mut gather)),
    }
    let kind = match kind {
        // A document of a tailable cursor.
        None => EventKind::Insert,
        Some("insert") => EventKind::Insert,
        Some("update" | "replace") => EventKind::Update,
        Some("delete") => EventKind::Delete,
        Some(_) => EventKind::Other,
    };
    Event { kind, namespace: namespace.or_else(|| own.filter(|_| ns.is_none())), values }
}
