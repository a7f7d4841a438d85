//! Makes the index of a recording, exchange by exchange.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::counted::{collection_of, database_of};
use super::cursors::{cursor_asked, cursor_given, without_cursor};
use super::digest::digests;
use super::effect::{effect, reads};
use super::more::tells_nothing;
use super::recording::{Birth, Entry, EntryKind, Index, Number};
use super::settings::{Scope, Settings};
use super::state::States;
use super::streams::{Streams, is_stream};
use super::transaction::transaction_of;
use crate::capture::exchange::Exchange;
use crate::capture::names::{Names, Origin, Value, leaves, text_of, value_of, write_values};

/// An index that is being made.
pub(super) struct Build<'s> {
    settings: &'s Settings,
    index: Index,
    names: Names,
    /// The states of each scope.
    states: HashMap<Option<Arc<str>>, States>,
    /// Exchanges whose effect is not there yet, by the time of their reply.
    running: BinaryHeap<Reverse<(u64, Number)>>,
    scopes: Vec<Option<Arc<str>>>,
    /// The exchange that gave each open cursor's last batch.
    cursors: HashMap<i64, Number>,
    streams: Streams,
}

impl<'s> Build<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        Self {
            settings,
            index: Index::default(),
            names: Names::default(),
            states: HashMap::new(),
            running: BinaryHeap::new(),
            scopes: Vec::new(),
            cursors: HashMap::new(),
            streams: Streams::default(),
        }
    }

    /// Adds the next exchange.
    pub(super) fn add(&mut self, exchange: &Exchange) {
        let number = self.index.entries.len() as Number;
        self.run_until(exchange.at.monotonic_nanos);
        let scope = exchange.app_name.clone().filter(|_| self.settings.scope == Scope::AppName);
        let mut entry = match exchange.is_housekeeping() {
            true => Entry::housekeeping(),
            false => self.entry(exchange, number, scope.as_ref()),
        };
        if entry.kind != EntryKind::Housekeeping {
            self.index.app_names.extend(scope.clone());
            self.cursors(exchange, number);
            let continues = self.streams.add(exchange, number, &entry, &mut self.index.namespaces);
            if continues && tells_nothing(exchange) {
                entry.kind = EntryKind::Idle;
            }
            self.births(exchange, number, continues);
            let answered = exchange.replies.first().map_or(exchange.at, |reply| reply.at);
            self.running.push(Reverse((answered.monotonic_nanos, number)));
        }
        self.scopes.push(scope);
        self.index.entries.push(entry);
    }

    pub(super) fn finish(mut self) -> Index {
        self.index.causes = self.streams.causes(&self.index);
        self.index
    }

    /// Has what was answered by then take effect.
    fn run_until(&mut self, nanos: u64) {
        while let Some(Reverse((at, number))) = self.running.peek().copied().filter(|Reverse((at, _))| *at <= nanos) {
            debug_assert!(at <= nanos);
            self.running.pop();
            let Some(entry) = self.index.entries.get(number as usize) else { continue };
            let scope = self.scopes.get(number as usize).cloned().flatten();
            let states = self.states.entry(scope).or_default();
            states.apply(&entry.effect, entry.masked, entry.transaction, &self.index.namespaces);
        }
    }

    fn entry(&mut self, exchange: &Exchange, number: Number, scope: Option<&Arc<str>>) -> Entry {
        let (command, name) = (exchange.request.as_slice(), exchange.name());
        let database = database_of(command);
        let more = without_cursor(command);
        let digests = digests(more.as_deref().unwrap_or(command), database, scope.map(AsRef::as_ref), self.settings);
        let kind = match name {
            "getMore" => EntryKind::More,
            _ if is_stream(command) => EntryKind::Stream,
            _ => EntryKind::Question,
        };
        if kind != EntryKind::More {
            let Index { exact, dates, masked, .. } = &mut self.index;
            let lists = [(exact, digests.exact), (dates, digests.dates), (masked, digests.masked)];
            lists.into_iter().for_each(|(list, digest)| list.entry(digest).or_default().push(number));
        }
        let namespaces = &mut self.index.namespaces;
        let reads = reads(command, name, namespaces);
        let own = collection_of(command).map(|collection| namespaces.number(database, collection));
        self.index.alike.entry((name.to_owned(), own)).or_default().push(number);
        let states = self.states.entry(scope.cloned()).or_default();
        let transaction = transaction_of(command).map(|(transaction, begins)| {
            if begins {
                states.begin(transaction);
            }
            transaction
        });
        Entry {
            masked: digests.masked,
            state: states.read(&reads, transaction, namespaces),
            epoch: states.epoch(&reads),
            effect: effect(exchange, namespaces),
            reads,
            transaction,
            next: None,
            kind,
        }
    }

    /// Takes note of the values that are born in an exchange. What a stream tells of was born where it was written, even
    /// if that was asked for while the stream waited, and so comes later.
    fn births(&mut self, exchange: &Exchange, number: Number, is_told: bool) {
        let mut fresh = Vec::new();
        for element in write_values(&exchange.request) {
            leaves(&element, &mut |leaf| {
                let value = value_of(leaf).or_else(|| text_of(leaf));
                fresh.extend(value.filter(|value| !self.names.has_seen(*value)));
            });
        }
        if is_told {
            self.names.learn(&Exchange { replies: Vec::new(), ..exchange.clone() });
        } else {
            self.names.learn(exchange);
        }
        let is_born = |value: &Value| self.names.get(*value).is_some_and(|name| name.origin == Origin::Born);
        let mut born = Vec::new();
        for value in fresh.into_iter().filter(is_born) {
            let birth = Birth { exchange: number, place: born.len() as u32 };
            self.index.births.entry(value).or_insert_with(|| {
                born.push(value);
                birth
            });
        }
        if !born.is_empty() {
            self.index.born.insert(number, born);
        }
    }

    /// Follows cursors from batch to batch.
    fn cursors(&mut self, exchange: &Exchange, number: Number) {
        let asked = cursor_asked(&exchange.request).map(|(_, id)| id);
        if let Some(last) = asked.and_then(|id| self.cursors.remove(&id))
            && let Some(entry) = self.index.entries.get_mut(last as usize)
        {
            entry.next = Some(number);
        }
        if let Some(id) = exchange.replies.last().and_then(|reply| cursor_given(&reply.body)).filter(|id| *id != 0) {
            self.cursors.insert(id, number);
        }
    }
}

impl Entry {
    fn housekeeping() -> Self {
        Self {
            masked: 0,
            reads: super::effect::Reads::Nothing,
            state: 0,
            epoch: 0,
            effect: super::effect::Effect::None,
            transaction: None,
            next: None,
            kind: EntryKind::Housekeeping,
        }
    }
}
