//! Which of the recorded exchanges answers a question.
//!
//! Those count whose question is the same, exactly or but for dates and values that can be bound. The first that was
//! recorded in the same state wins, unused before used; then the first in another state. Between equals, one of the
//! transaction and the time between two emptyings that was answered from so far; then recorded order.

use super::digest::{Digest, Digests, in_state};
use super::fit::Fit;
use super::live::Live;
use super::recording::{Number, Recording};
use super::settings::Repeat;
use super::state::Transaction;
use crate::bson::Elements;
use crate::capture::names::{Value, leaves, value_of};

/// A question that is looked for.
pub(super) struct Question<'a> {
    pub(super) recording: &'a Recording,
    pub(super) digests: Digests,
    /// The live transaction that it belongs to.
    pub(super) transaction: Option<Transaction>,
    /// Whether it ends a transaction: only one with the same writes is the same.
    pub(super) ends: bool,
}

/// What was found.
pub(super) struct Choice {
    pub(super) number: Number,
    pub(super) fit: Fit,
    /// Another exchange that would have done as well.
    pub(super) rival: Option<Number>,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoChoice {
    /// The same was recorded, and asked for as often, in this state.
    UsedUp(Number),
    /// It was recorded, but each time the answer tells of something that was not made in this run.
    Stale(Number),
    /// It was never recorded.
    Unknown,
}

/// Exchanges of one list that are looked at, and of those that fit is held against documents for: a bound on the time
/// for a question.
const LOOKED_AT_MAX: usize = 4096;
const FITTED_MAX: usize = 256;
const TWINS_MAX: usize = 16;

/// Gives what follows if the question is taken for that exchange's, if it can be; whether it is exactly the same is
/// known.
type Fits<'f> = dyn FnMut(&Live, Number, bool) -> Option<Fit> + 'f;

/// Exchanges with the same question, and whether it is exactly the same.
type Same<'a> = (Digest, &'a [Number], bool);

impl Question<'_> {
    pub(super) fn choose(&self, live: &mut Live, fits: &mut Fits<'_>) -> Result<Choice, NoChoice> {
        let index = &self.recording.index;
        let Digests { exact, masked } = self.digests;
        // The same question reads the same collections.
        let Some(first) = index.list(masked).first().and_then(|number| index.entry(*number)) else {
            return Err(NoChoice::Unknown);
        };
        let state = live.states.read(&first.reads, self.transaction, &index.namespaces);
        let lists = |exact, masked| [(exact, index.list(exact), true), (masked, index.list(masked), false)];
        if let Some(found) = self.choose_of(&lists(in_state(exact, state), in_state(masked, state)), live, fits) {
            return found;
        }
        // Only what did the same is ended the same.
        if self.ends {
            return Err(NoChoice::Unknown);
        }
        let elsewhere = lists(exact, masked);
        let mut stale = None;
        let mut fits = |live: &Live, number: Number, is_exact: bool| {
            let fit = fits(live, number, is_exact)?;
            if self.is_stale(live, number, &fit) {
                stale.get_or_insert(number);
                return None;
            }
            Some(fit)
        };
        let found = elsewhere.chunks(1).find_map(|list| self.choose_of(list, live, &mut fits));
        found.unwrap_or_else(|| Err(stale.map_or(NoChoice::Unknown, NoChoice::Stale)))
    }

    /// Whether an answer tells of what the recorded program had made and this one has not: it was so in no state that this
    /// run has been in.
    fn is_stale(&self, live: &Live, number: Number, fit: &Fit) -> bool {
        let births = &self.recording.index.births;
        let Some(exchange) = self.recording.exchange(number) else { return false };
        let is_unborn = |value: Value| {
            let is_bound = live.bindings.live(value).is_some() || fit.binds.iter().any(|(_, to)| *to == value);
            let is_identity = !matches!(value, Value::Date(_));
            is_identity && !is_bound && births.get(&value).is_some_and(|birth| birth.exchange != number)
        };
        let mut is_stale = false;
        for element in exchange.replies.iter().flat_map(|reply| Elements::readable(&reply.body)) {
            leaves(&element, &mut |leaf| is_stale |= value_of(leaf).is_some_and(is_unborn));
        }
        is_stale
    }

    /// `None` if it was not recorded there.
    fn choose_of(&self, lists: &[Same<'_>], live: &mut Live, fits: &mut Fits<'_>) -> Option<Result<Choice, NoChoice>> {
        let mut fitted_max = FITTED_MAX;
        for list in lists {
            if let Some(choice) = self.unused(list, fitted_max, live, fits) {
                return Some(Ok(choice));
            }
            // What is the same is not worth a long search for what may be.
            if !list.1.is_empty() {
                fitted_max = TWINS_MAX;
            }
        }
        let (number, fit) = lists.iter().find_map(|list| self.used(list, live, fits))?;
        Some(match self.recording.settings.repeat {
            Repeat::Once => Err(NoChoice::UsedUp(number)),
            Repeat::Last | Repeat::Loop => Ok(Choice { number, fit, rival: None }),
        })
    }

    fn unused(
        &self,
        (digest, list, is_exact): &Same<'_>,
        fitted_max: usize,
        live: &mut Live,
        fits: &mut Fits<'_>,
    ) -> Option<Choice> {
        let from = live.unused_from(*digest, list);
        let rest = list.get(from..).unwrap_or_default().iter().copied().take(LOOKED_AT_MAX);
        let mut unused = rest.filter(|number| live.times(*number) == 0).peekable();
        let (mut unlikely, mut left) = (Vec::new(), fitted_max);
        while let Some(number) = unused.next().filter(|_| left > 0) {
            if !self.is_likely(live, number) {
                unlikely.push(number);
                continue;
            }
            left -= 1;
            if let Some(fit) = fits(live, number, *is_exact) {
                let rival = unused.next().or_else(|| unlikely.first().copied());
                return Some(Choice { number, fit, rival });
            }
        }
        let mut tried = unlikely.into_iter().take(left);
        let (number, fit) = tried.find_map(|number| Some((number, fits(live, number, *is_exact)?)))?;
        Some(Choice { number, fit, rival: tried.next() })
    }

    fn used(&self, (_, list, is_exact): &Same<'_>, live: &Live, fits: &mut Fits<'_>) -> Option<(Number, Fit)> {
        let start = list.len().saturating_sub(LOOKED_AT_MAX);
        let used = list.get(start..).unwrap_or_default().iter().copied().filter(|number| live.times(*number) > 0);
        let mut fitted = |number| Some((number, fits(live, number, *is_exact)?));
        match self.recording.settings.repeat {
            Repeat::Last | Repeat::Once => used.rev().take(FITTED_MAX).find_map(&mut fitted),
            Repeat::Loop => {
                let mut used = used.collect::<Vec<_>>();
                used.sort_by_key(|number| live.times(*number));
                used.into_iter().take(FITTED_MAX).find_map(&mut fitted)
            }
        }
    }

    /// Whether it belongs to what was answered from so far.
    fn is_likely(&self, live: &Live, number: Number) -> bool {
        let Some(entry) = self.recording.index.entry(number) else { return false };
        let taken_for = self.transaction.and_then(|transaction| live.transactions.get(&transaction));
        match (taken_for, live.states.likeness(&entry.reads)) {
            (Some(recorded), _) => entry.transaction == Some(*recorded),
            (None, Some(epoch)) => entry.epoch == epoch,
            (None, None) => true,
        }
    }
}
