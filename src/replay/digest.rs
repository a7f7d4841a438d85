//! What two askings of the same question have in common, as numbers that can be looked up.
//!
//! A request has two digests: one of everything that counts, and one without dates, `ObjectId`s, UUIDs, their texts, and
//! what `[replay] bind` names, which is also blind to the order of fields where it has no meaning. What that leaves out is
//! held against the recorded request by [`fit`](super::fit).

use std::hash::Hasher;

use super::counted::{counted, database_of, is_cluster_time, order_counts};
use super::settings::Settings;
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::names::{Value, texts, value_of};

/// A number that no two different questions share, as good as certainly.
pub(super) type Digest = u128;

/// The digests of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digests {
    /// Of everything that counts.
    pub(super) exact: Digest,
    /// Without dates, the value of `maxTimeMS`, and what can be bound.
    pub(super) masked: Digest,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Level {
    Exact,
    Masked,
}

/// The digest of everything that counts in a request.
pub(super) fn exact(command: &[u8], database: &str, scope: Option<&str>, settings: &Settings) -> Digest {
    Digesting { settings, level: Level::Exact, masked: &|_| Some(0), path: Vec::new() }
        .command(command, database, scope)
}

/// All digests of a request.
pub(super) fn digests(command: &[u8], database: &str, scope: Option<&str>, settings: &Settings) -> Digests {
    let at =
        |level| Digesting { settings, level, masked: &|_| Some(0), path: Vec::new() }.command(command, database, scope);
    Digests { exact: at(Level::Exact), masked: at(Level::Masked) }
}

/// The digest of a recorded write, where `masked` says what stands for values that differ from run to run. Two
/// writes of other constants are two.
pub(super) fn written(command: &[u8], settings: &Settings, masked: &dyn Fn(Value) -> Option<Digest>) -> Digest {
    let digesting = Digesting { settings, level: Level::Masked, masked, path: Vec::new() };
    digesting.command(command, database_of(command), None)
}

/// The digest of a question in a state.
pub(super) fn in_state(question: Digest, state: Digest) -> Digest {
    question.rotate_left(1) ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The digest of replies, blind to values that differ from run to run.
pub(super) fn masked_reply(reply: &[u8], settings: &Settings) -> Digest {
    let mut digesting = Digesting { settings, level: Level::Masked, masked: &|_| Some(0), path: vec![b""] };
    let varies = |element: &Element<'_>| crate::capture::names::VARYING_IN_REPLIES.contains(&element.name);
    digesting.fields(Elements::readable(reply).filter(|element| !varies(element)), false, true)
}

struct Digesting<'s, 'd> {
    settings: &'s Settings,
    level: Level,
    /// What is hashed in the place of a value; `None` for the value itself.
    masked: &'s dyn Fn(Value) -> Option<Digest>,
    path: Vec<&'d [u8]>,
}

impl<'d> Digesting<'_, 'd> {
    fn command(mut self, command: &'d [u8], database: &str, scope: Option<&str>) -> Digest {
        let mut hash = Hash::default();
        hash.text(database.as_bytes());
        hash.text(scope.unwrap_or_default().as_bytes());
        if find(command, b"$db").is_some_and(|database| database.kind != Kind::String) {
            hash.byte(0);
        }
        let mut elements = counted(command);
        if let Some(first) = elements.next() {
            hash.number(self.field(&first, Some(0), false).unwrap_or_default());
        }
        hash.number(self.fields(elements, false, false));
        hash.finish()
    }

    /// The sum of fields does not tell their order; their positions do, where they count.
    fn fields(&mut self, elements: impl Iterator<Item = Element<'d>>, ordered: bool, exact: bool) -> Digest {
        let mut sum = Digest::default();
        for (position, element) in elements.enumerate() {
            let position = ordered.then_some(position);
            sum = sum.wrapping_add(self.field(&element, position, exact).unwrap_or_default());
        }
        sum
    }

    /// `None` for what does not count. Where `exact`, nothing can be bound.
    fn field(&mut self, element: &Element<'d>, position: Option<usize>, exact: bool) -> Option<Digest> {
        if is_cluster_time(&self.path, element) {
            return None;
        }
        self.path.push(element.name);
        let digest = self.named(element, position, exact);
        self.path.pop();
        digest
    }

    fn named(&mut self, element: &Element<'d>, position: Option<usize>, exact: bool) -> Option<Digest> {
        let Settings { ignore, exact: exacts, bind, .. } = self.settings;
        if ignore.hold(&self.path) {
            return None;
        }
        let mut hash = Hash::default();
        // With nothing to leave out, the bytes are as good as what is in them. Waiting for a time is left out always.
        if self.level == Level::Exact && ignore.is_empty() && element.name != b"readConcern" {
            hash.text(element.name);
            hash.byte(element.kind as u8);
            hash.text(element.value);
            return Some(hash.finish());
        }
        let exact = exact || exacts.hold(&self.path);
        hash.number(position.map_or(0, |position| position as Digest + 1));
        hash.text(element.name);
        hash.byte(element.kind as u8);
        let masked = self.level == Level::Masked && !exact;
        if masked && bind.hold(&self.path) {
            return Some(hash.finish());
        }
        match element.elements() {
            Some(Ok(elements)) => {
                let ordered = self.level == Level::Exact || order_counts(&self.path, element);
                hash.number(self.fields(elements.map_while(Result::ok), ordered, exact));
            }
            _ => self.leaf(element, exact, &mut hash),
        }
        Some(hash.finish())
    }

    fn leaf(&self, element: &Element<'d>, exact: bool, hash: &mut Hash) {
        if self.level == Level::Exact || exact {
            return hash.text(element.value);
        }
        // What is left out is told by its type alone, which is hashed.
        let is_time = self.path.len() == 1 && element.name == b"maxTimeMS";
        if is_time {
            return;
        }
        if let Some(masked) = value_of(element).and_then(self.masked) {
            return hash.number(masked);
        }
        match element.as_str_bytes().filter(|_| element.kind == Kind::String) {
            Some(text) => {
                let mut rest = 0;
                // None is shorter.
                let long = if text.len() < 24 { &[][..] } else { text };
                for (place, value) in texts(long) {
                    let Some(masked) = (self.masked)(value) else { continue };
                    hash.text(text.get(rest..place.start).unwrap_or_default());
                    hash.number(place.len() as Digest);
                    hash.number(masked);
                    rest = place.end;
                }
                hash.text(text.get(rest..).unwrap_or_default());
            }
            None => hash.text(element.value),
        }
    }
}

/// For maps by digest: it is a hash already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let first = bytes.first_chunk().copied().unwrap_or_default();
        self.0 ^= u64::from_le_bytes(first);
    }

    fn write_u128(&mut self, number: u128) {
        self.0 ^= number as u64 ^ (number >> 64) as u64;
    }
}

/// 128 bits that tell bytes from others, as good as certainly: two lanes, each a multiplication folded to 64 bits a
/// word. It is for recordings of one's own, and keeps nobody out who wants two to be the same.
pub(super) struct Hash {
    lanes: [u64; 2],
}

/// Odd numbers without a pattern: digits of π.
const FIRST: u64 = 0x243f_6a88_85a3_08d3;
const SECOND: u64 = 0x1319_8a2e_0370_7345;
const THIRD: u64 = 0xa409_3822_299f_31d1;
const FOURTH: u64 = 0x082e_fa98_ec4e_6c89;

impl Default for Hash {
    fn default() -> Self {
        Self { lanes: [FIRST, SECOND] }
    }
}

impl Hash {
    pub(super) fn text(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            self.word(u64::from_le_bytes(word));
        }
    }

    pub(super) fn number(&mut self, number: Digest) {
        self.word(number as u64);
        self.word((number >> 64) as u64);
    }

    fn byte(&mut self, byte: u8) {
        self.word(u64::from(byte));
    }

    fn word(&mut self, word: u64) {
        let [one, other] = self.lanes;
        self.lanes = [folded(one ^ word, THIRD), folded(other.rotate_left(29) ^ word, FOURTH)];
    }

    pub(super) fn finish(self) -> Digest {
        let [one, other] = self.lanes;
        let (first, second) = (folded(one ^ SECOND, FOURTH), folded(other ^ FIRST, THIRD));
        Digest::from(first) << 64 | Digest::from(second ^ first.rotate_left(32))
    }
}

/// Both halves of a product, one over the other.
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}
