//! Makes the index of a recording, exchange by exchange.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::counted::{Tops, tops};
use super::cursors::{cursor_asked, cursor_given};
use super::digest::{AsItIs, Digest, Digests, in_state, written};
use super::effect::{Effect, Reads, effect, reads_of};
use super::more::tells_nothing;
use super::recording::{Birth, Entry, EntryKind, Index, Number};
use super::settings::{Scope, Settings};
use super::state::States;
use super::streams::{Streams, is_stream};
use super::transaction::transaction_of;
use super::walked::{Walked, key};
use crate::capture::exchange::{Exchange, Place, is_housekeeping};
use crate::capture::names::{Value, relative};
use crate::event::Phase;

/// An index that is being made.
#[derive(Debug)]
pub(super) struct Build {
    settings: Settings,
    index: Index,
    /// The states of each scope.
    states: HashMap<Option<Arc<str>>, States, BuildHasherDefault<AsItIs>>,
    /// Exchanges whose effect is not there yet, by the time of their reply.
    running: BinaryHeap<Reverse<(u64, Number)>>,
    scopes: Vec<Option<Arc<str>>>,
    last_at: u64,
    /// The exchange that gave each open cursor's last batch.
    cursors: HashMap<i64, Number>,
    streams: Streams,
    effects: Shared<Effect>,
    reads: Shared<Reads>,
}

/// Values of which most are the same few, each held once as long as it is among these.
#[derive(Debug)]
struct Shared<T>(VecDeque<Arc<T>>);

const SHARED_MAX: usize = 32;

impl<T: PartialEq> Shared<T> {
    fn shared(&mut self, value: T) -> Arc<T> {
        if let Some(known) = self.0.iter().find(|known| ***known == value) {
            return Arc::clone(known);
        }
        if self.0.len() >= SHARED_MAX {
            self.0.pop_front();
        }
        let value = Arc::new(value);
        self.0.push_back(Arc::clone(&value));
        value
    }
}

impl Build {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            index: Index::default(),
            states: HashMap::default(),
            running: BinaryHeap::new(),
            scopes: Vec::new(),
            last_at: 0,
            cursors: HashMap::new(),
            streams: Streams::default(),
            effects: Shared(VecDeque::new()),
            reads: Shared(VecDeque::new()),
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds the next exchange.
    pub(super) fn add(&mut self, exchange: &Exchange, walked: &Walked<'_>) {
        let number = self.index.entries.len() as Number;
        let at = exchange.at.monotonic_nanos;
        // Another fixture begins, in the same time.
        let restarts = matches!(exchange.place, Place::Line(_)) && at < self.last_at;
        self.last_at = at;
        self.run_until(if restarts { u64::MAX } else { at });
        let scope = exchange.app_name.clone().filter(|_| self.settings.scope == Scope::AppName);
        let name = exchange.name();
        let mut entry = match exchange.phase != Phase::App || is_housekeeping(name) {
            true => Entry::housekeeping(),
            false => self.entry(exchange, name, number, scope.as_ref(), walked.digests.in_scope(scope.as_deref())),
        };
        if entry.kind != EntryKind::Housekeeping {
            self.index.app_names.extend(scope.clone());
            self.cursors(exchange, number, entry.kind);
            let continues = self.streams.add(exchange, number, &entry, &mut self.index.namespaces);
            if continues && tells_nothing(exchange) {
                entry.kind = EntryKind::Idle;
            }
            self.births(walked, number, continues);
            if *entry.effect != Effect::None {
                entry.written = self.written(exchange, number, entry.masked, walked);
            }
            let answered = exchange.replies.first().map_or(exchange.at, |reply| reply.at);
            self.running.push(Reverse((answered.monotonic_nanos, number)));
        }
        self.scopes.push(scope);
        self.index.entries.push(entry);
    }

    pub(super) fn finish(mut self) -> (Index, Settings) {
        self.index.questions.part();
        self.index.causes = self.streams.causes(&self.index);
        (self.index, self.settings)
    }

    /// Has what was answered by then take effect.
    fn run_until(&mut self, nanos: u64) {
        while let Some(Reverse((_, number))) = self.running.peek().copied().filter(|Reverse((at, _))| *at <= nanos) {
            self.running.pop();
            let Some(entry) = self.index.entries.get(number as usize) else { continue };
            let scope = self.scopes.get(number as usize).cloned().flatten();
            let states = self.states.entry(scope).or_default();
            states.apply(&entry.effect, entry.written, entry.transaction, &self.index.namespaces);
        }
    }

    fn entry(
        &mut self,
        exchange: &Exchange,
        name: &str,
        number: Number,
        scope: Option<&Arc<str>>,
        digests: Digests,
    ) -> Entry {
        let command = exchange.request.as_slice();
        let Tops { database, collection, may_stream, may_have_transaction, .. } = tops(command);
        let kind = match name {
            "getMore" => EntryKind::More,
            _ if may_stream && is_stream(command) => EntryKind::Stream,
            _ => EntryKind::Question,
        };
        let namespaces = &mut self.index.namespaces;
        let own = collection.map(|collection| namespaces.number(database, collection));
        let reads = reads_of(database, own, command, name, namespaces);
        self.index.alike.put(name, own, number);
        let states = self.states.entry(scope.cloned()).or_default();
        let transaction = if may_have_transaction { transaction_of(command) } else { None };
        let transaction = transaction.map(|(transaction, begins)| {
            if begins {
                states.begin(transaction);
            }
            transaction
        });
        let state = states.read(&reads, transaction, namespaces);
        let entry = Entry {
            masked: digests.masked,
            written: 0,
            epoch: states.epoch(&reads),
            effect: self.effects.shared(effect(exchange, name, namespaces)),
            reads: self.reads.shared(reads),
            transaction,
            next: None,
            kind,
        };
        if kind != EntryKind::More {
            let Digests { exact, masked } = digests;
            let all = [exact, masked, in_state(exact, state), in_state(masked, state)];
            all.into_iter().for_each(|digest| self.index.questions.put(digest, number));
        }
        entry
    }

    /// Takes note of the values that are born in an exchange, as [`names`](crate::capture::names) has it. What a stream
    /// tells of was born where it was written, even if that was asked for while the stream waited, and so comes later.
    fn births(&mut self, walked: &Walked<'_>, number: Number, is_told: bool) {
        let births = &mut self.index.births;
        let mut born = Vec::new();
        for value in walked.written {
            if births.write(*value, Birth { exchange: number, place: born.len() as u32 }) {
                born.push(*value);
            }
        }
        births.see(walked.asked);
        if !is_told {
            births.see(walked.replied);
        }
        if !born.is_empty() {
            self.index.born.insert(number, born);
        }
    }

    /// What a write wrote. A value that was born is told by the question in which it was and its place there, so that
    /// it does not matter which of several that are alike that was.
    fn written(&self, exchange: &Exchange, number: Number, masked: Digest, walked: &Walked<'_>) -> Digest {
        let at_ms = exchange.at.unix_micros / 1000;
        written(masked, walked.left_out, |value| match (value, self.index.births.get(&value)) {
            (Value::Date(date), birth) => (birth.is_none() && relative(date, at_ms).is_none()).then(|| key(value)),
            (_, None) => Some(key(value)),
            (_, Some(birth)) => {
                let place = Digest::from(birth.place) + 1;
                let question = self.index.entry(birth.exchange).filter(|_| birth.exchange != number);
                Some(question.map_or(place, |entry| in_state(entry.masked, place)))
            }
        })
    }

    /// Follows cursors from batch to batch.
    fn cursors(&mut self, exchange: &Exchange, number: Number, kind: EntryKind) {
        let asked = match kind {
            EntryKind::More => cursor_asked(&exchange.request).map(|(_, id)| id),
            _ => None,
        };
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
            written: 0,
            reads: Arc::new(Reads::Nothing),
            epoch: 0,
            effect: Arc::new(Effect::None),
            transaction: None,
            next: None,
            kind: EntryKind::Housekeeping,
        }
    }
}
