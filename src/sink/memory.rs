//! A small memory of things known by a number of ours: connections, exchanges. Bounded: one that is full forgets
//! everything, since what it holds can be made again or done without.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

/// Numbers count up from 1 and are nobody's to choose, so they need no defence against collisions.
#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15); // 2^64 over the golden ratio
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What is remembered of at most `LIMIT` numbers.
#[derive(Debug)]
pub(super) struct Memory<T, const LIMIT: usize>(HashMap<u64, T, BuildHasherDefault<NumberHasher>>);

impl<T, const LIMIT: usize> Default for Memory<T, LIMIT> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<T, const LIMIT: usize> Memory<T, LIMIT> {
    pub(super) fn insert(&mut self, number: u64, value: T) {
        if self.0.len() >= LIMIT && !self.0.contains_key(&number) {
            self.0.clear();
        }
        self.0.insert(number, value);
    }

    /// What is remembered of a number if it holds still, or else what is made now.
    pub(super) fn get_or_insert(
        &mut self,
        number: u64,
        holds: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> &mut T {
        if self.0.len() >= LIMIT && !self.0.contains_key(&number) {
            self.0.clear();
        }
        match self.0.entry(number) {
            Entry::Occupied(known) if holds(known.get()) => known.into_mut(),
            Entry::Occupied(mut known) => {
                known.insert(make());
                known.into_mut()
            }
            Entry::Vacant(place) => place.insert(make()),
        }
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        self.0.get_mut(&number)
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        self.0.remove(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let mut memory: Memory<u64, 8> = Memory::default();
        for number in 0..100 {
            memory.insert(number, number * 2);
            assert_eq!(memory.get_mut(number), Some(&mut (number * 2)));
            assert!(memory.0.len() <= 8);
        }
        assert_eq!(*memory.get_or_insert(99, |it| *it == 198, || 0), 198);
        assert_eq!(*memory.get_or_insert(99, |it| *it != 198, || 1), 1);
        assert_eq!(*memory.get_or_insert(100, |_| true, || 2), 2);
        assert!(memory.0.len() <= 8);
        assert_eq!(memory.remove(99), Some(1));
        assert_eq!(memory.get_mut(99), None);
    }
}
