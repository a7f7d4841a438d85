//! What two askings of the same question have in common, as numbers that can be looked up.
//!
//! A request has two digests: one of everything that counts, and one without dates, `ObjectId`s, UUIDs, their texts, and
//! what `[replay] bind` names, which is also blind to the order of fields where it has no meaning. What that leaves out is
//! held against the recorded request by [`fit`](super::fit).

use std::hash::Hasher;

use super::counted::{is_cluster_time, is_special, is_varying, order_counts, order_counts_outside};
use super::settings::Settings;
use crate::bson::walk::{DEPTH_MAX, Readable};
use crate::bson::{Element, Elements, Kind};
use crate::capture::names::{Value, texts, value_of};

/// A number that no two different questions share, as good as certainly.
pub(super) type Digest = u128;

/// The digests of a request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
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

/// A value that the masked digest leaves out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Masked {
    pub(super) value: Value,
    /// A number for where in the request it is.
    pub(super) place: u64,
    /// Where the element's value begins that is it, or has it in its text.
    pub(super) offset: usize,
    /// Whether it is all of that, and not only within a text.
    pub(super) is_whole: bool,
}

impl Digests {
    /// Those of the same request within a scope of its own.
    pub(super) fn in_scope(self, scope: Option<&str>) -> Self {
        Self { exact: in_scope(self.exact, scope), masked: in_scope(self.masked, scope) }
    }
}

/// The digest of everything that counts in a request, within a scope.
pub(super) fn exact(command: &[u8], database: &str, scope: Option<&str>, settings: &Settings) -> Digest {
    let [exact] = of_command([Digesting::new(settings, Level::Exact, &mut Vec::new())], command, database);
    in_scope(exact, scope)
}

/// All digests of a request, within a scope.
pub(super) fn digests(command: &[u8], database: &str, scope: Option<&str>, settings: &Settings) -> Digests {
    digests_and_masked(command, database, settings, &mut Vec::new()).in_scope(scope)
}

/// All digests of a request; what the masked one leaves out is appended to `left_out`, in the order in which it stands.
pub(super) fn digests_and_masked(
    command: &[u8],
    database: &str,
    settings: &Settings,
    left_out: &mut Vec<Masked>,
) -> Digests {
    let mut none = Vec::new();
    let both = [Digesting::new(settings, Level::Exact, &mut none), Digesting::new(settings, Level::Masked, left_out)];
    let [exact, masked] = of_command(both, command, database);
    Digests { exact, masked }
}

/// The digests of a command, whose elements at the top are walked once.
fn of_command<'d, const N: usize>(
    mut digesting: [Digesting<'_, 'd>; N],
    command: &'d [u8],
    database: &str,
) -> [Digest; N] {
    let (mut first, mut sums) = ([Digest::default(); N], [Digest::default(); N]);
    let (mut is_first, mut kind) = (true, None);
    for element in Elements::readable(command) {
        if element.name == b"$db" {
            kind = kind.or(Some(element.kind));
            continue;
        }
        if is_varying(&element) {
            continue;
        }
        let (position, sums) = if is_first { (Some(0), &mut first) } else { (None, &mut sums) };
        is_first = false;
        for (digesting, sum) in digesting.iter_mut().zip(sums) {
            // A sum does not tell the order of fields.
            let digest = digesting.field(&element, position, Within::default());
            *sum = sum.wrapping_add(digest.unwrap_or_default());
        }
    }
    let mut hash = Hash::default();
    hash.text(database.as_bytes());
    if kind.is_some_and(|kind| kind != Kind::String) {
        hash.word(0);
    }
    std::array::from_fn(|level| {
        let mut hash = hash.clone();
        hash.number(first[level]);
        hash.number(sums[level]);
        hash.finish()
    })
}

/// The digest of a question that a scope of its own has asked.
fn in_scope(question: Digest, scope: Option<&str>) -> Digest {
    let Some(scope) = scope else { return question };
    let mut hash = Hash::default();
    hash.number(question);
    hash.text(scope.as_bytes());
    hash.finish()
}

/// The digest of a recorded write: of its masked digest, and of what stands for the values which that leaves out, where
/// they differ from others in its place; `None` where they do not. Two writes of other constants are two.
pub(super) fn written(question: Digest, left_out: &[Masked], stands_for: impl Fn(Value) -> Option<Digest>) -> Digest {
    let told = left_out.iter().filter_map(|it| {
        let mut hash = Hash::default();
        hash.word(it.place);
        hash.number(stands_for(it.value)?);
        Some(hash.finish())
    });
    // A sum: the order of fields has a meaning only where it is in the place.
    let mut hash = Hash::default();
    hash.number(question);
    hash.number(told.fold(0, Digest::wrapping_add));
    hash.finish()
}

/// The digest of a question in a state.
pub(super) fn in_state(question: Digest, state: Digest) -> Digest {
    question.rotate_left(1) ^ state.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The digest of replies, blind to values that differ from run to run.
pub(super) fn masked_reply(reply: &[u8], settings: &Settings) -> Digest {
    let mut left_out = Vec::new();
    let mut digesting = Digesting { path: vec![b""], ..Digesting::new(settings, Level::Masked, &mut left_out) };
    let varies = |element: &Element<'_>| crate::capture::names::VARYING_IN_REPLIES.contains(&element.name);
    digesting.fields(Elements::readable(reply).filter(|element| !varies(element)), false, Within::default())
}

struct Digesting<'s, 'd> {
    settings: &'s Settings,
    /// No paths are told apart by settings.
    is_simple: bool,
    level: Level,
    path: Vec<&'d [u8]>,
    /// What was masked.
    left_out: &'s mut Vec<Masked>,
}

/// The digest of a field, all of whose bytes count.
fn as_it_is(element: &Element<'_>) -> Digest {
    let mut hash = Hash::default();
    hash.text(element.name);
    hash.word(u64::from(element.kind as u8));
    hash.text(element.value);
    hash.finish()
}

/// What is known of where an element is.
#[derive(Clone, Copy, Default)]
struct Within {
    /// A number for it.
    place: u64,
    /// Nothing there can be bound.
    exact: bool,
}

/// What is known of where elements are on whose path nothing depends.
#[derive(Clone, Copy)]
struct Simple {
    /// Their order counts.
    ordered: bool,
    place: u64,
    depth: usize,
}

impl<'s, 'd> Digesting<'s, 'd> {
    fn new(settings: &'s Settings, level: Level, left_out: &'s mut Vec<Masked>) -> Self {
        let Settings { ignore, exact, bind, .. } = settings;
        let is_simple = ignore.is_empty() && exact.is_empty() && bind.is_empty();
        Self { settings, is_simple, level, path: Vec::new(), left_out }
    }

    /// The sum of fields does not tell their order; their positions do, where they count.
    fn fields(&mut self, elements: impl Iterator<Item = Element<'d>>, ordered: bool, within: Within) -> Digest {
        let mut sum = Digest::default();
        for (position, element) in elements.enumerate() {
            let position = ordered.then_some(position);
            sum = sum.wrapping_add(self.field(&element, position, within).unwrap_or_default());
        }
        sum
    }

    /// `None` for what does not count.
    fn field(&mut self, element: &Element<'d>, position: Option<usize>, within: Within) -> Option<Digest> {
        // Most are of this kind, and need no path.
        if self.path.is_empty() && self.is_as_it_is(element) {
            return Some(as_it_is(element));
        }
        if is_cluster_time(&self.path, element) {
            return None;
        }
        self.path.push(element.name);
        let digest = self.named(element, position, within);
        self.path.pop();
        digest
    }

    /// With nothing to leave out, the bytes are as good as what is in them. Waiting for a time is left out always.
    fn is_as_it_is(&self, element: &Element<'_>) -> bool {
        self.level == Level::Exact && self.settings.ignore.is_empty() && element.name != b"readConcern"
    }

    fn named(&mut self, element: &Element<'d>, position: Option<usize>, within: Within) -> Option<Digest> {
        if self.level == Level::Masked && self.is_simple && !within.exact && !is_special(&self.path) {
            let position = position.map_or(0, |position| position as u64 + 1);
            let within = Simple { ordered: false, place: within.place, depth: self.path.len() };
            return Some(self.simple_field(element, position, within).into());
        }
        let Settings { ignore, exact: exacts, bind, .. } = self.settings;
        if ignore.hold(&self.path) {
            return None;
        }
        if self.is_as_it_is(element) {
            return Some(as_it_is(element));
        }
        let mut hash = Hash::default();
        let exact = within.exact || exacts.hold(&self.path);
        let position = position.map_or(0, |position| position as u64 + 1);
        hash.pair(position << 8 | u64::from(element.kind as u8), within.place);
        hash.text(element.name);
        let masked = self.level == Level::Masked && !exact;
        if masked && bind.hold(&self.path) {
            return Some(hash.finish());
        }
        match Elements::within(element).filter(|_| self.path.len() < DEPTH_MAX) {
            Some(inner) => {
                let ordered = self.level == Level::Exact || order_counts(&self.path, element);
                let within = Within { place: hash.place(), exact };
                hash.number(self.fields(inner, ordered, within));
            }
            // What is left out is told by its type alone, which is hashed.
            _ if masked && *self.path == [b"maxTimeMS".as_slice()] => {}
            _ if masked => self.masked_leaf(element, &mut hash),
            _ => hash.text(element.value),
        }
        Some(hash.finish())
    }

    /// The masked digest of fields where nothing depends on the path to them: most of what is written. It is quick, and has
    /// no more than 64 bits, since what it finds is held against the question.
    fn simple(&mut self, elements: Readable<'d>, first: u64, within: Simple) -> u64 {
        let (mut sum, mut position) = (0_u64, first);
        for element in elements {
            sum = sum.wrapping_add(self.simple_field(&element, position, within));
            position += u64::from(within.ordered);
        }
        sum
    }

    #[inline(always)]
    fn simple_field(&mut self, element: &Element<'d>, position: u64, within: Simple) -> u64 {
        let Element { kind, name, value, offset } = *element;
        let shape = position << 16 | (name.len() as u64 & 0xff) << 8 | u64::from(kind as u8);
        let place = mixed(folded(within.place ^ shape, SECOND), name);
        match kind {
            Kind::Document | Kind::Array if within.depth < DEPTH_MAX => {
                let ordered = order_counts_outside(element);
                let within = Simple { ordered, place, depth: within.depth + 1 };
                let inner = Elements::within(element);
                let sum = inner.map_or(0, |inner| self.simple(inner, u64::from(ordered), within));
                folded(place ^ sum, FOURTH)
            }
            Kind::ObjectId | Kind::DateTime | Kind::Binary => match value_of(element) {
                Some(value) => {
                    self.left_out.push(Masked { value, place, offset, is_whole: true });
                    place
                }
                None => mixed(place ^ value.len() as u64, value),
            },
            // A text's length, itself, and a zero byte: none that is left out is shorter.
            Kind::String if value.len() >= 24 + 5 => {
                let mut hash = Hash { lanes: [place; 2] };
                self.masked_leaf(element, &mut hash);
                hash.place()
            }
            _ => mixed(place ^ value.len() as u64, value),
        }
    }

    fn masked_leaf(&mut self, element: &Element<'d>, hash: &mut Hash) {
        let offset = element.offset;
        if let Some(value) = value_of(element) {
            self.left_out.push(Masked { value, place: hash.place(), offset, is_whole: true });
            return hash.number(0);
        }
        // None is shorter.
        match element.as_str_bytes().filter(|text| element.kind == Kind::String && text.len() >= 24) {
            Some(text) => {
                let (mut rest, place) = (0, hash.place());
                for (range, value) in texts(text) {
                    let is_whole = range.len() == text.len();
                    let place = place.wrapping_add(range.start as u64);
                    self.left_out.push(Masked { value, place, offset, is_whole });
                    hash.text(text.get(rest..range.start).unwrap_or_default());
                    hash.number(range.len() as Digest);
                    rest = range.end;
                }
                hash.text(text.get(rest..).unwrap_or_default());
            }
            None => hash.text(element.value),
        }
    }
}

/// For maps by digest, which is a hash already, and by values of a recording of one's own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks();
        words.iter().for_each(|word| self.0 = folded(self.0 ^ u64::from_le_bytes(*word), THIRD));
        self.0 = folded(self.0 ^ short(rest), FOURTH);
    }

    fn write_u128(&mut self, number: u128) {
        // Values that were made one after the other differ in a few bits, which are not those that a map looks at.
        self.0 ^= folded(number as u64 ^ FIRST, (number >> 64) as u64 ^ SECOND);
    }
}

/// 128 bits that tell bytes from others, as good as certainly: two lanes, each a multiplication folded to 64 bits a
/// word. It is for recordings of one's own, and keeps nobody out who wants two to be the same.
#[derive(Clone)]
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
        let len = bytes.len() as u64;
        let mut bytes = bytes;
        let (pairs, rest) = bytes.as_chunks::<32>();
        if pairs.len() > 1 {
            // Two go at the same time, neither of which waits for the other.
            let mut other = Self { lanes: [THIRD, FOURTH] };
            for pair in pairs {
                let (first, second) = pair.split_at(16);
                [&mut *self, &mut other].into_iter().zip([first, second]).for_each(|(hash, half)| {
                    hash.number(half.first_chunk().map_or(0, |half| Digest::from_le_bytes(*half)));
                });
            }
            self.number(other.finish());
            bytes = rest;
        }
        let (pairs, rest) = bytes.as_chunks::<16>();
        pairs.iter().for_each(|pair| self.number(Digest::from_le_bytes(*pair)));
        // The length tells what is in both words, or in neither.
        match rest.split_first_chunk::<8>() {
            Some((one, other)) => {
                self.pair(u64::from_le_bytes(*one), short(other));
                self.word(len);
            }
            None => self.pair(short(rest), len),
        }
    }

    pub(super) fn number(&mut self, number: Digest) {
        self.pair(number as u64, (number >> 64) as u64);
    }

    fn word(&mut self, word: u64) {
        self.pair(word, 0);
    }

    fn pair(&mut self, first: u64, second: u64) {
        let [one, other] = self.lanes;
        self.lanes = [folded(one ^ first, THIRD ^ second), folded(other.rotate_left(29) ^ second, FOURTH ^ first)];
    }

    /// A number for what was hashed so far.
    fn place(&self) -> u64 {
        let [one, other] = self.lanes;
        folded(one ^ THIRD, other ^ FIRST)
    }

    pub(super) fn finish(self) -> Digest {
        let [one, other] = self.lanes;
        let (first, second) = (folded(one ^ SECOND, FOURTH), folded(other ^ FIRST, THIRD));
        Digest::from(first) << 64 | Digest::from(second ^ first.rotate_left(32))
    }
}

/// Bytes on top of a number that tells how many they are.
#[inline]
fn mixed(number: u64, bytes: &[u8]) -> u64 {
    let pair = |number: u64, both: Digest| folded(number ^ both as u64, THIRD ^ (both >> 64) as u64);
    let (pairs, rest) = bytes.as_chunks::<16>();
    let number = pairs.iter().fold(number, |number, both| pair(number, Digest::from_le_bytes(*both)));
    match (bytes.last_chunk::<16>(), bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(_), ..) if rest.is_empty() => number,
        // What was there already does no harm.
        (Some(both), ..) => pair(number, Digest::from_le_bytes(*both)),
        (_, Some(one), Some(other)) => folded(number ^ u64::from_le_bytes(*one), FOURTH ^ u64::from_le_bytes(*other)),
        _ => folded(number ^ short(bytes), FOURTH),
    }
}

/// Up to eight bytes as a number that tells them from others as many.
#[inline]
fn short(bytes: &[u8]) -> u64 {
    if let Some(all) = bytes.first_chunk() {
        return u64::from_le_bytes(*all);
    }
    match (bytes.first_chunk(), bytes.last_chunk()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)),
        _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Both halves of a product, one over the other.
#[inline]
fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}
