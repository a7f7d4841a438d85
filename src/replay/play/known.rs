//! What is known of the live server beside the recorded one: values that stand for others, and moments that belong
//! together. As long as a run may be, only so much is kept.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Recorded values and the live ones in their place; the oldest are forgotten.
#[derive(Clone, Debug)]
pub(super) struct Known<V> {
    live: HashMap<V, V>,
    recorded: HashMap<V, V>,
    order: VecDeque<V>,
    most: usize,
}

impl<V: Clone + Eq + Hash> Known<V> {
    pub(super) fn new(most: usize) -> Self {
        Self { live: HashMap::new(), recorded: HashMap::new(), order: VecDeque::new(), most }
    }

    /// From now on this one stands for the recorded one.
    pub(super) fn insert(&mut self, recorded: V, live: V) {
        self.recorded.insert(live.clone(), recorded.clone());
        match self.live.insert(recorded.clone(), live) {
            Some(before) => self.forget(&before, &recorded),
            None => self.order.push_back(recorded),
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
            && let Some(live) = self.live.remove(&oldest)
        {
            self.forget(&live, &oldest);
        }
    }

    /// A live value stands for this recorded one no more; for another one it may.
    fn forget(&mut self, live: &V, recorded: &V) {
        if self.recorded.get(live) == Some(recorded) && self.live.get(recorded) != Some(live) {
            self.recorded.remove(live);
        }
    }

    /// The last recorded value that this live one stands for.
    pub(super) fn recorded(&self, live: &V) -> Option<&V> {
        self.recorded.get(live)
    }

    pub(super) fn get<Q: Eq + Hash + ?Sized>(&self, recorded: &Q) -> Option<&V>
    where
        V: Borrow<Q>,
    {
        self.live.get(recorded)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }
}

/// Recorded times, each later than the one before, and what time it was live.
#[derive(Clone, Debug, Default)]
pub(super) struct Moments {
    pairs: Vec<(u64, u64)>,
}

/// So many are kept; then every other one is forgotten.
const MOMENTS_MAX: usize = 100_000;

impl Moments {
    /// Takes note of a later moment; others are passed over.
    pub(super) fn note(&mut self, recorded: u64, live: u64) {
        let is_later = |last: &(u64, u64)| last.0 < recorded && last.1 <= live;
        if !self.pairs.last().is_none_or(is_later) {
            return;
        }
        if self.pairs.len() == MOMENTS_MAX {
            let mut place = 0;
            self.pairs.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
        self.pairs.push((recorded, live));
    }

    /// The last live moment that is known of those up to the recorded one.
    pub(super) fn before(&self, recorded: u64) -> Option<u64> {
        let next = self.pairs.partition_point(|(at, _)| *at <= recorded);
        self.pairs.get(next.checked_sub(1)?).map(|(_, live)| *live)
    }

    /// The first live moment that is known of those after the recorded one.
    pub(super) fn after(&self, recorded: u64) -> Option<u64> {
        let next = self.pairs.partition_point(|(at, _)| *at <= recorded);
        self.pairs.get(next).map(|(_, live)| *live)
    }

    /// The first recorded moment.
    pub(super) fn first(&self) -> Option<(u64, u64)> {
        self.pairs.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_values_are_forgotten() {
        let mut known = Known::new(2);
        for (recorded, live) in [(1, 11), (2, 12), (1, 21), (3, 13)] {
            known.insert(recorded, live);
        }
        assert_eq!([1, 2, 3].map(|it| known.get(&it).copied()), [None, Some(12), Some(13)]);
        assert_eq!([11, 21, 12, 13].map(|it| known.recorded(&it).copied()), [None, None, Some(2), Some(3)]);
        assert_eq!((known.live.len(), known.recorded.len()), (2, 2));
    }

    #[test]
    fn moments_are_found_between_others_however_many_there_were() {
        let mut moments = Moments::default();
        assert_eq!((moments.before(5), moments.after(5), moments.first()), (None, None, None));
        for at in 1..=250_000 {
            moments.note(at * 10, at);
        }
        moments.note(7, 300_000);
        assert!(moments.pairs.len() <= MOMENTS_MAX);
        assert_eq!(moments.first(), Some((10, 1)));
        assert_eq!((moments.before(9), moments.after(2_500_000)), (None, None));
        assert_eq!(moments.before(u64::MAX), Some(250_000));
        for recorded in [10, 11, 1_234_567, 2_499_999] {
            let (before, after) = (moments.before(recorded).unwrap(), moments.after(recorded).unwrap());
            assert!(before * 10 <= recorded && recorded < after * 10 && after - before <= 8, "{before} {after}");
        }
    }
}
