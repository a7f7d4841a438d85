//! Which of the recorded exchanges answers a question.
//!
//! Those count whose question is the same: exactly; or but for dates; or but for values that can be bound. The first that
//! was recorded in the same state wins, unused before used; then the first in another state. Between equals, one of the
//! transaction and the time between two emptyings that was answered from so far; then recorded order.

use super::digest::Digests;
use super::fit::Fit;
use super::live::Live;
use super::recording::{Entry, Number, Recording};
use super::settings::Repeat;
use super::state::{States, Transaction};

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
    /// It was never recorded.
    Unknown,
}

/// Exchanges of one list that are looked at, and of those that fit is held against documents for: a bound on the time
/// for a question.
const LOOKED_AT_MAX: usize = 4096;
const FITTED_MAX: usize = 256;

/// Gives what follows if the question is taken for that exchange's, if it can be; whether it is exactly the same is
/// known.
type Fits<'f> = dyn FnMut(&Live, Number, bool) -> Option<Fit> + 'f;

impl Question<'_> {
    pub(super) fn choose(&self, live: &mut Live, fits: &mut Fits<'_>) -> Result<Choice, NoChoice> {
        let repeat = self.recording.settings.repeat;
        let mut used_up = None;
        for same_state in [true, false] {
            if let Some(choice) = self.unused(live, same_state, fits) {
                return Ok(choice);
            }
            let used = self.used(live, same_state, repeat, fits);
            match (used, repeat) {
                (Some((number, _)), Repeat::Once) => {
                    used_up = used_up.or(Some(number));
                    break;
                }
                (Some((number, fit)), _) => return Ok(Choice { number, fit, rival: None }),
                (None, _) => {}
            }
            if self.ends {
                break;
            }
        }
        Err(used_up.map_or(NoChoice::Unknown, NoChoice::UsedUp))
    }

    fn lists(&self) -> [(usize, u128, &[Number]); 3] {
        let index = &self.recording.index;
        let Digests { exact, dates, masked } = self.digests;
        [
            (0, exact, index.exact.get(&exact).map_or(&[][..], Vec::as_slice)),
            (1, dates, index.dates.get(&dates).map_or(&[][..], Vec::as_slice)),
            (2, masked, index.masked.get(&masked).map_or(&[][..], Vec::as_slice)),
        ]
    }

    fn unused(&self, live: &mut Live, same_state: bool, fits: &mut Fits<'_>) -> Option<Choice> {
        for (level, digest, list) in self.lists() {
            let from = live.unused_from(level, digest, list);
            let rest = list.get(from..).unwrap_or_default();
            let mut unused = self.in_state(rest, live, same_state, |live, number| live.times(number) == 0);
            // A stable sort: recorded order stays between equals.
            unused.sort_by_key(|number| !self.is_likely(live, *number));
            let mut tried = unused.iter().copied().take(FITTED_MAX);
            while let Some(number) = tried.next() {
                if let Some(fit) = fits(live, number, level == 0) {
                    let rival = tried.next();
                    return Some(Choice { number, fit, rival });
                }
            }
        }
        None
    }

    fn used(&self, live: &Live, same_state: bool, repeat: Repeat, fits: &mut Fits<'_>) -> Option<(Number, Fit)> {
        for (level, _, list) in self.lists() {
            let start = list.len().saturating_sub(LOOKED_AT_MAX);
            let last = list.get(start..).unwrap_or_default();
            let mut used = self.in_state(last, live, same_state, |live, number| live.times(number) > 0);
            match repeat {
                Repeat::Loop => used.sort_by_key(|number| live.times(*number)),
                Repeat::Last | Repeat::Once => used.reverse(),
            }
            let mut tried = used.into_iter().take(FITTED_MAX);
            if let Some(found) = tried.find_map(|number| Some((number, fits(live, number, level == 0)?))) {
                return Some(found);
            }
        }
        None
    }

    fn in_state(
        &self,
        list: &[Number],
        live: &Live,
        same_state: bool,
        wanted: impl Fn(&Live, Number) -> bool,
    ) -> Vec<Number> {
        let mut here = None;
        let wanted = list.iter().copied().take(LOOKED_AT_MAX).filter(|number| wanted(live, *number));
        let in_state = |number: &Number| {
            let Some(entry) = self.recording.index.entry(*number) else { return false };
            // The same question reads the same collections.
            let state = *here.get_or_insert_with(|| self.state(&live.states, entry));
            (entry.state == state) == same_state
        };
        wanted.filter(in_state).collect()
    }

    fn state(&self, states: &States, entry: &Entry) -> u128 {
        states.read(&entry.reads, self.transaction, &self.recording.index.namespaces)
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
