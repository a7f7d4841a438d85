//! Makes the index of a recording, exchange by exchange.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::hash::BuildHasherDefault;
use std::sync::Arc;

use super::counted::{collection_of, database_of};
use super::cursors::{cursor_asked, cursor_given, without_cursor};
use super::digest::{AsItIs, Digest, Digests, digests, in_state, written};
use super::effect::{Effect, Reads, effect, reads};
use super::more::tells_nothing;
use super::recording::{Birth, Entry, EntryKind, Index, Number};
use super::settings::{Scope, Settings};
use super::state::States;
use super::streams::{Streams, is_stream};
use super::transaction::transaction_of;
use crate::bson::scan::scan;
use crate::bson::{Element, Elements, Kind};
use crate::capture::exchange::{Exchange, Place};
use crate::capture::names::{
    VARYING_IN_REPLIES, VARYING_IN_REQUESTS, Value, leaves, relative, text_of, value_of, write_values,
};
use crate::event::Timestamp;

/// An index that is being made.
#[derive(Debug)]
pub(super) struct Build {
    settings: Settings,
    index: Index,
    /// Values that have appeared.
    seen: HashSet<Digest, BuildHasherDefault<AsItIs>>,
    /// The states of each scope.
    states: HashMap<Option<Arc<str>>, States>,
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
            seen: HashSet::default(),
            states: HashMap::new(),
            running: BinaryHeap::new(),
            scopes: Vec::new(),
            last_at: 0,
            cursors: HashMap::new(),
            streams: Streams::default(),
            effects: Shared(VecDeque::new()),
            reads: Shared(VecDeque::new()),
        }
    }

    /// Adds the next exchange.
    pub(super) fn add(&mut self, exchange: &Exchange) {
        let number = self.index.entries.len() as Number;
        let at = exchange.at.monotonic_nanos;
        // Another fixture begins, in the same time.
        let restarts = matches!(exchange.place, Place::Line(_)) && at < self.last_at;
        self.last_at = at;
        self.run_until(if restarts { u64::MAX } else { at });
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
            if *entry.effect != Effect::None {
                entry.written = self.written(exchange, (number, entry.masked));
            }
            let answered = exchange.replies.first().map_or(exchange.at, |reply| reply.at);
            self.running.push(Reverse((answered.monotonic_nanos, number)));
        }
        self.scopes.push(scope);
        self.index.entries.push(entry);
    }

    pub(super) fn finish(mut self) -> (Index, Settings) {
        self.index.questions.sort();
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

    fn entry(&mut self, exchange: &Exchange, number: Number, scope: Option<&Arc<str>>) -> Entry {
        let (command, name) = (exchange.request.as_slice(), exchange.name());
        let database = database_of(command);
        let more = without_cursor(command);
        let digests = digests(more.as_deref().unwrap_or(command), database, scope.map(AsRef::as_ref), &self.settings);
        let kind = match name {
            "getMore" => EntryKind::More,
            _ if is_stream(command) => EntryKind::Stream,
            _ => EntryKind::Question,
        };
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
        let state = states.read(&reads, transaction, namespaces);
        let entry = Entry {
            masked: digests.masked,
            written: 0,
            epoch: states.epoch(&reads),
            effect: self.effects.shared(effect(exchange, namespaces)),
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
    fn births(&mut self, exchange: &Exchange, number: Number, is_told: bool) {
        let millis = |at: Timestamp| at.unix_micros / 1000;
        let mut born = Vec::new();
        for element in write_values(&exchange.request) {
            leaves(&element, &mut |leaf| {
                let Some(value) = value_of(leaf).or_else(|| text_of(leaf)) else { return };
                if may_be_born(value, millis(exchange.at)) && self.seen.insert(key(value)) {
                    born.push(value);
                }
            });
        }
        let mut see = |document: &[u8], varying: &[&[u8]], at: Timestamp| {
            let seen = &mut self.seen;
            let at_ms = millis(at);
            let mut note = |value: Option<Value>| {
                seen.extend(value.filter(|value| may_be_born(*value, at_ms)).map(key));
            };
            for element in Elements::readable(document).filter(|element| !varying.contains(&element.name)) {
                let is_seen = element.kind.is_container()
                    && scan(element.value, &mut |kind, value| note(named_value(kind, value)));
                if !is_seen {
                    leaves(&element, &mut |leaf| note(value_of(leaf).or_else(|| text_of(leaf))));
                }
            }
        };
        // A date that is asked for may be made anew each time.
        see(&exchange.request, &VARYING_IN_REQUESTS, Timestamp { unix_micros: i64::MIN, ..exchange.at });
        if !is_told {
            exchange.replies.iter().for_each(|reply| see(&reply.body, &VARYING_IN_REPLIES, reply.at));
        }
        for (place, value) in born.iter().enumerate() {
            self.index.births.insert(*value, Birth { exchange: number, place: place as u32 });
        }
        if !born.is_empty() {
            self.index.born.insert(number, born);
        }
    }

    /// What a write wrote. A value that was born is told by the question in which it was and its place there, so that
    /// it does not matter which of several that are alike that was.
    fn written(&self, exchange: &Exchange, (number, masked): (Number, Digest)) -> Digest {
        let at_ms = exchange.at.unix_micros / 1000;
        written(&exchange.request, &self.settings, &|value| {
            let birth = self.index.births.get(&value);
            if let Value::Date(date) = value {
                return (birth.is_some() || relative(date, at_ms).is_some()).then_some(0);
            }
            let Birth { exchange, place } = *birth?;
            let own = (exchange == number).then_some(masked);
            let question = own.or_else(|| Some(self.index.entry(exchange)?.masked)).unwrap_or_default();
            Some(in_state(question, Digest::from(place) + 1))
        })
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

/// Dates are constants unless they are of the time of their exchange.
fn may_be_born(value: Value, at_ms: i64) -> bool {
    match value {
        Value::Date(date) => relative(date, at_ms).is_some(),
        Value::ObjectId(_) | Value::Uuid(_) => true,
    }
}

/// The value that can have a name, if this is one or is its text and nothing else.
fn named_value(kind: Kind, value: &[u8]) -> Option<Value> {
    // A text's length, itself, and a zero byte.
    if kind == Kind::String && !matches!(value.len(), 29 | 41) {
        return None;
    }
    let element = Element { kind, name: b"", value, offset: 0 };
    value_of(&element).or_else(|| text_of(&element))
}

/// A value as a number, no two of them the same but by chance.
fn key(value: Value) -> Digest {
    const ODD: Digest = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
    match value {
        Value::ObjectId(bytes) => {
            let mut wide = [0; 16];
            wide[..12].copy_from_slice(&bytes);
            wide[12] = 1;
            Digest::from_le_bytes(wide).wrapping_mul(ODD)
        }
        Value::Uuid(bytes) => Digest::from_le_bytes(bytes).wrapping_mul(ODD),
        Value::Date(millis) => (Digest::from(millis.cast_unsigned()) | 2 << 96).wrapping_mul(ODD),
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
