//! What was asked of a recording so far, and what follows from it: used exchanges, bindings, states, transactions.

use std::collections::{HashMap, HashSet};

use super::bindings::Bindings;
use super::digest::Digest;
use super::fit::Fit;
use super::recording::{Index, Number};
use super::state::{States, Transaction};
use crate::bson::Elements;
use crate::capture::exchange::Reply;
use crate::capture::fixture::EPOCH_MICROS;
use crate::capture::names::{Value, leaves, relative, texts, value_of};
use crate::event::Timestamp;

/// What those share that ask in one scope.
#[derive(Debug, Default)]
pub(super) struct Live {
    uses: HashMap<Number, Use>,
    /// How many requests were answered.
    asked: u64,
    pub(super) bindings: Bindings,
    pub(super) states: States,
    /// Exchanges whose born values were used after their birth.
    confirmed: HashSet<Number>,
    /// The recorded transaction that each open one is taken for.
    pub(super) transactions: HashMap<Transaction, Transaction>,
    /// What had no answer first in each open transaction.
    missed: HashMap<Transaction, String>,
    /// How many of a digest's exchanges, from the first on, are used.
    used_up: HashMap<Digest, usize>,
    /// The last answer to what may be sent again, by session and number.
    pub(super) sent: HashMap<Transaction, Sent>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    times: u32,
    last: u64,
}

/// An answer that may be wanted again.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) question: Digest,
    pub(super) documents: Vec<Vec<u8>>,
}

/// Answers that are kept for being wanted again, and transactions that are kept open.
const KEPT_MAX: usize = 10_000;

impl Live {
    pub(super) fn times(&self, number: Number) -> u32 {
        self.uses.get(&number).map_or(0, |it| it.times)
    }

    /// When an exchange was last used, in requests.
    pub(super) fn last(&self, number: Number) -> Option<u64> {
        self.uses.get(&number).filter(|it| it.times > 0).map(|it| it.last)
    }

    pub(super) fn asked(&self) -> u64 {
        self.asked
    }

    /// Takes note that an exchange answers.
    pub(super) fn use_up(&mut self, number: Number) {
        self.asked += 1;
        let last = self.asked;
        let it = self.uses.entry(number).or_default();
        *it = Use { times: it.times + 1, last };
    }

    /// From where on the exchanges of a digest may hold unused ones.
    pub(super) fn unused_from(&mut self, digest: Digest, list: &[Number]) -> usize {
        let mut from = self.used_up.get(&digest).copied().unwrap_or(0);
        let before = from;
        while list.get(from).is_some_and(|number| self.times(*number) > 0) {
            from += 1;
        }
        if from != before {
            self.used_up.insert(digest, from);
        }
        from
    }

    /// Does what follows from taking a request for a recorded one.
    pub(super) fn accept(&mut self, fit: Fit, index: &Index) {
        for (one, other) in fit.swaps {
            self.swap(one, other, index);
        }
        for live in fit.back {
            self.bindings.bring_back(live);
        }
        self.bindings.bind_all(&fit.binds);
        for pair in fit.named {
            self.bindings.bind_named(pair);
        }
        self.confirmed.extend(fit.known.iter().filter_map(|value| Some(index.births.get(value)?.exchange)));
    }

    pub(super) fn keep(&mut self, key: Transaction, sent: Sent) {
        if self.sent.len() >= KEPT_MAX {
            self.sent.clear();
        }
        self.sent.insert(key, sent);
    }

    pub(super) fn follow(&mut self, live: Transaction, recorded: Transaction) {
        if self.transactions.len() >= KEPT_MAX {
            self.transactions.clear();
        }
        self.transactions.insert(live, recorded);
    }

    /// Takes note that a request of a transaction had no answer; gives the first one of it that had none.
    pub(super) fn miss_within(&mut self, transaction: Transaction, asked: String) -> Option<String> {
        if let Some(first) = self.missed.get(&transaction) {
            return Some(first.clone());
        }
        if self.missed.len() >= KEPT_MAX {
            self.missed.clear();
        }
        self.missed.insert(transaction, asked);
        None
    }

    /// A transaction begins, of that session and number.
    pub(super) fn begin(&mut self, transaction: Transaction) {
        self.states.begin(transaction);
        self.transactions.remove(&transaction);
        self.missed.remove(&transaction);
    }

    /// Whether an exchange that was used may have been another that is like it. Not once it made a difference: unless
    /// the other is of a time when the collection had been emptied, and was not used itself.
    pub(super) fn may_swap(&self, one: Number, other: Number, index: &Index) -> bool {
        let epoch = |number| index.entry(number).map(|entry| entry.epoch);
        let is_open = |number| !self.confirmed.contains(&number);
        match self.times(other) {
            0 => self.times(one) > 0 && (is_open(one) || epoch(one) != epoch(other)),
            _ => is_open(one) && is_open(other),
        }
    }

    /// Has what was `one` be `other` instead.
    fn swap(&mut self, one: Number, other: Number, index: &Index) {
        let values = |number| index.born.get(&number).map_or(&[][..], Vec::as_slice);
        let is_used = self.times(other) > 0;
        for (from, to) in values(one).iter().zip(values(other)) {
            if is_used {
                self.bindings.swap(*from, *to);
            } else {
                self.bindings.rebind(*from, *to);
            }
        }
        if !is_used && let Some(it) = self.uses.get_mut(&one) {
            it.times -= 1;
            let last = it.last;
            self.uses.insert(other, Use { times: 1, last });
            // Lists that counted it as used are looked through again.
            self.used_up.clear();
            if self.confirmed.remove(&one) {
                self.confirmed.insert(other);
            }
        }
    }

    /// A recorded reply with live values. One that nothing stands for and that was born in an exchange like a used one
    /// shows that this was the other.
    pub(super) fn reply(&mut self, recorded: &[u8], index: &Index) -> Vec<u8> {
        if !index.born.is_empty() {
            for value in values(recorded) {
                let Some(birth) = index.births.get(&value) else { continue };
                if self.bindings.live(value).is_some() {
                    self.confirmed.insert(birth.exchange);
                } else if let Some(one) = self.like(birth.exchange, index) {
                    self.swap(one, birth.exchange, index);
                    self.confirmed.insert(birth.exchange);
                }
            }
        }
        let bindings = &self.bindings;
        bindings.to_live(recorded, &mut |value| bindings.live(value))
    }

    /// The dates that a server made lie as far from now as they did from the time of their reply, if that is a fixture's
    /// and so no real one.
    pub(super) fn give_dates(&mut self, recorded: &Reply, now: Timestamp, index: &Index) {
        if recorded.at.unix_micros < EPOCH_MICROS {
            return;
        }
        let (then, now) = (recorded.at.unix_micros / 1000, now.unix_micros / 1000);
        for value in values(&recorded.body) {
            let Value::Date(date) = value else { continue };
            let is_new = self.bindings.live(value).is_none() && !index.births.has(&value);
            if is_new && relative(date, then).is_some() {
                self.bindings.bind(Value::Date(now.saturating_add(date - then)), value);
            }
        }
    }

    /// The exchange used last of those that may have been that unused one.
    fn like(&self, other: Number, index: &Index) -> Option<Number> {
        let it = index.entry(other)?;
        let same = |one: &Number| index.entry(*one).is_some_and(|entry| entry.written == it.written);
        let alike = index.list(it.masked).iter().copied().filter(same);
        let used = alike.filter(|one| *one != other && self.times(*one) > 0);
        let used = used.filter(|one| self.times(other) == 0 && self.may_swap(*one, other, index));
        used.max_by_key(|one| self.last(*one))
    }
}

/// The values in a document that may have been born, each once; dates only where nothing else tells.
fn values(document: &[u8]) -> Vec<Value> {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for element in Elements::readable(document) {
        leaves(&element, &mut |leaf| {
            let of_text = leaf.as_str_bytes().into_iter().flat_map(|text| texts(text).map(|(_, value)| value));
            found.extend(value_of(leaf).into_iter().chain(of_text).filter(|value| seen.insert(*value)));
        });
    }
    found
}
