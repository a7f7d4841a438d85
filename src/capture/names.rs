//! Which values of a recording differ from one run to the next, and what they are called.
//!
//! An `ObjectId` or a UUID is *born* where it first appears, if that is in the value of a write ([`write_values`]); it is
//! *given* if it first appears where a reply tells of one that the server has made (`upserted`, a collection's `uuid`). One
//! that first appears anywhere else was there before, or is a constant of the program, and has no name. A date is born in a
//! write if it lies as far from its exchange as programs count from now ([`relative`]), and given in a reply likewise.
//! From then on every equal value has the name, in requests and replies, at any depth, and so has its text: 24
//! hexadecimal digits, or a UUID's ([`texts`]). A string that is such a text and nothing else is born or given too.

use std::collections::HashMap;
use std::ops::Range;

use super::exchange::Exchange;
use crate::bson::walk::DEPTH_MAX;
use crate::bson::{Element, Elements, Kind, find};

/// A value that can have a name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Value {
    /// An `ObjectId`.
    ObjectId([u8; 12]),
    /// A binary of subtype 4, or 3.
    Uuid([u8; 16]),
    /// A UTC datetime, in milliseconds since 1970.
    Date(i64),
}

/// Who made a value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Origin {
    /// The client.
    Born,
    /// The server.
    Given,
}

impl Origin {
    /// Who else there is.
    pub fn other(self) -> Self {
        match self {
            Self::Born => Self::Given,
            Self::Given => Self::Born,
        }
    }
}

/// What a value is called: its origin, and its place, from 1, among the values of its origin and type in the order in
/// which they appear.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Name {
    /// Who made it.
    pub origin: Origin,
    /// Its number, from 1.
    pub number: u32,
}

/// Fields at the top of a request that say nothing of what is asked: they differ from run to run.
pub const VARYING_IN_REQUESTS: [&[u8]; 3] = [b"$clusterTime", b"lsid", b"operationTime"];

/// Fields at the top of a reply that say nothing of what is answered: they differ from run to run.
pub const VARYING_IN_REPLIES: [&[u8]; 8] = [
    b"$clusterTime",
    b"$configServerState",
    b"$gleStats",
    b"electionId",
    b"lastCommittedOpTime",
    b"opTime",
    b"operationTime",
    b"topologyVersion",
];

/// Fields at the top of replies in which servers tell of identities that they have made themselves, and the commands
/// whose whole replies do.
const MADE_BY_SERVERS: [&[u8]; 3] = [b"lastErrorObject", b"processId", b"upserted"];
const TELL_OF_MADE: [&str; 2] = ["bulkWrite", "listCollections"];

/// The names of a recording, learnt from its exchanges in their order.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `None` for a constant.
    known: HashMap<Value, Option<Name>>,
    /// Of each origin and type, how many there are.
    counts: [[u32; 3]; 2],
}

impl Names {
    /// Takes note of the values that appear first in an exchange. Those of handshakes, of authentication and of monitors
    /// have no names.
    pub fn learn(&mut self, exchange: &Exchange) {
        if exchange.is_housekeeping() {
            return;
        }
        let at = exchange.at.unix_micros / 1000;
        let births: Vec<Range<usize>> = write_values(&exchange.request).iter().map(range).collect();
        for element in tops(&exchange.request, &VARYING_IN_REQUESTS) {
            leaves(&element, &mut |leaf| {
                if let Some(value) = value_of(leaf).or_else(|| text_of(leaf)) {
                    let is_birth = is_within(&births, leaf.offset);
                    self.see(value, is_birth.then_some(Origin::Born), at);
                }
            });
        }
        let makes = TELL_OF_MADE.contains(&exchange.name());
        for reply in &exchange.replies {
            let at = reply.at.unix_micros / 1000;
            for element in tops(&reply.body, &VARYING_IN_REPLIES) {
                let is_made = makes || MADE_BY_SERVERS.contains(&element.name);
                leaves(&element, &mut |leaf| {
                    if let Some(value) = value_of(leaf).or_else(|| text_of(leaf)) {
                        // Another identity was there before, and a program may have it written in it.
                        let is_given = is_made || matches!(value, Value::Date(_));
                        self.see(value, is_given.then_some(Origin::Given), at);
                    }
                });
            }
        }
    }

    /// What a value is called; `None` if it has no name.
    pub fn get(&self, value: Value) -> Option<Name> {
        self.known.get(&value).copied().flatten()
    }

    /// Whether a value has appeared.
    pub fn has_seen(&self, value: Value) -> bool {
        self.known.contains_key(&value)
    }

    /// A value appears, where those that are new have that origin.
    fn see(&mut self, value: Value, origin: Option<Origin>, at_ms: i64) {
        if let Value::Date(date) = value
            && (origin.is_none() || relative(date, at_ms).is_none())
        {
            // That a date was asked for does not make it the program's own: it may be made anew each time.
            return;
        }
        let counts = &mut self.counts;
        self.known.entry(value).or_insert_with(|| {
            origin.map(|origin| {
                let count = &mut counts[origin as usize][value.type_index()];
                *count += 1;
                Name { origin, number: *count }
            })
        });
    }
}

impl Value {
    fn type_index(self) -> usize {
        match self {
            Self::ObjectId(_) => 0,
            Self::Uuid(_) => 1,
            Self::Date(_) => 2,
        }
    }

    /// The value as text: 24 hexadecimal digits, or a UUID's, in lower case. A date has none.
    pub fn to_text(self) -> Option<String> {
        let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        match self {
            Self::ObjectId(bytes) => Some(hex(&bytes)),
            Self::Uuid(bytes) => {
                let [a, b, c, d, e] = [0..4, 4..6, 6..8, 8..10, 10..16].map(|range| hex(&bytes[range]));
                Some(format!("{a}-{b}-{c}-{d}-{e}"))
            }
            Self::Date(_) => None,
        }
    }
}

/// The value of an element, if it is of a type whose values can have names.
#[inline]
pub fn value_of(element: &Element<'_>) -> Option<Value> {
    match element.kind {
        Kind::ObjectId => element.value.first_chunk().map(|bytes| Value::ObjectId(*bytes)),
        Kind::DateTime => element.value.first_chunk().map(|bytes| Value::Date(i64::from_le_bytes(*bytes))),
        // A length, a subtype, and the bytes.
        Kind::Binary if matches!(element.value.get(4), Some(3 | 4)) && element.value.len() == 21 => {
            element.value.last_chunk().map(|bytes| Value::Uuid(*bytes))
        }
        _ => None,
    }
}

/// The value that a string is the text of, if it is that and nothing else.
#[inline]
pub fn text_of(element: &Element<'_>) -> Option<Value> {
    // Nothing else is as long as one of them, with a length before it and a zero byte behind: no other text is looked at.
    if element.kind != Kind::String || !matches!(element.value.len(), 29 | 41) {
        return None;
    }
    whole_text(element)
}

fn whole_text(element: &Element<'_>) -> Option<Value> {
    let text = element.as_str_bytes()?;
    let (at, value) = texts(text).next()?;
    (at == (0..text.len())).then_some(value)
}

/// The values within a text, each with its place in bytes: 24 hexadecimal digits or a UUID's 36 characters, in lower case,
/// with neither letters nor digits before and behind.
pub fn texts(text: &[u8]) -> impl Iterator<Item = (Range<usize>, Value)> + use<'_> {
    let mut at = if may_hold_value(text) { 0 } else { text.len() };
    std::iter::from_fn(move || {
        while at < text.len() {
            let rest = &text[at..];
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
            let word = rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len());
            let found = match word {
                24 => object_id(&rest[..24]).map(|value| (24, value)),
                8 => rest.get(..36).filter(|_| !rest.get(36).is_some_and(is_word)).and_then(uuid).map(|it| (36, it)),
                _ => None,
            };
            let start = at;
            match found {
                Some((len, value)) => {
                    at += len;
                    return Some((start..at, value));
                }
                None => at += word.max(1),
            }
        }
        None
    })
}

/// Whether there are as many characters of values in a row as the shortest has: looking at each 24th misses none.
fn may_hold_value(text: &[u8]) -> bool {
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-');
    (23..text.len()).step_by(24).filter(|at| is_part(&&text[*at])).any(|at| {
        let (before, behind) = text.split_at(at);
        before.iter().rev().take_while(is_part).count() + behind.iter().take_while(is_part).count() >= 24
    })
}

fn object_id(text: &[u8]) -> Option<Value> {
    let mut bytes = [0; 12];
    read_hex(text, &mut bytes)?;
    Some(Value::ObjectId(bytes))
}

fn uuid(text: &[u8]) -> Option<Value> {
    let mut bytes = [0; 16];
    for (at, range) in [(0, 0..4), (9, 4..6), (14, 6..8), (19, 8..10), (24, 10..16)] {
        let digits = range.len() * 2;
        if at > 0 && text.get(at - 1) != Some(&b'-') {
            return None;
        }
        read_hex(text.get(at..at + digits)?, &mut bytes[range])?;
    }
    Some(Value::Uuid(bytes))
}

fn read_hex(text: &[u8], bytes: &mut [u8]) -> Option<()> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    for (pair, byte) in text.chunks_exact(2).zip(bytes) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(())
}

/// The elements of a command that are the value of a write, in the order in which they stand: what can be born is within
/// one of them. They are `documents` of an insert, `u` of an update, `update` of findAndModify, `document` and
/// `updateMods` of a bulkWrite, and where it is an upsert the filter too, of which a document may be made. Their offsets
/// are those in the command.
pub fn write_values(command: &[u8]) -> Vec<Element<'_>> {
    let Some(first) = Elements::readable(command).next() else { return Vec::new() };
    match first.name {
        b"insert" => find(command, b"documents").into_iter().collect(),
        b"update" => values_of_each(command, b"updates", &[b"u"], b"q"),
        b"bulkWrite" => values_of_each(command, b"ops", &[b"document", b"updateMods"], b"filter"),
        b"findAndModify" | b"findandmodify" => {
            values(Elements::readable(command).collect::<Vec<_>>().as_slice(), &[b"update"], b"query")
        }
        _ => Vec::new(),
    }
}

/// Whether a place is in one of these ranges, which are in their order.
pub fn is_within(ranges: &[Range<usize>], place: usize) -> bool {
    let next = ranges.partition_point(|range| range.end <= place);
    ranges.get(next).is_some_and(|range| range.contains(&place))
}

fn values_of_each<'a>(command: &'a [u8], array: &[u8], written: &[&[u8]], filter: &[u8]) -> Vec<Element<'a>> {
    let items = find(command, array).and_then(|array| Elements::within(&array)).into_iter().flatten();
    items.filter_map(|item| inner(&item)).flat_map(|statement| values(&statement, written, filter)).collect()
}

fn values<'a>(statement: &[Element<'a>], written: &[&[u8]], filter: &[u8]) -> Vec<Element<'a>> {
    let is_upsert = statement.iter().any(|element| element.name == b"upsert" && element.as_bool_truthy());
    let wanted = |element: &&Element<'_>| written.contains(&element.name) || is_upsert && element.name == filter;
    statement.iter().filter(wanted).copied().collect()
}

fn inner<'a>(element: &Element<'a>) -> Option<Vec<Element<'a>>> {
    Some(Elements::within(element)?.collect())
}

fn range(element: &Element<'_>) -> Range<usize> {
    element.offset..element.offset + element.value.len()
}

/// The elements at the top of a document that are not of those names.
fn tops<'a>(document: &'a [u8], without: &[&[u8]]) -> impl Iterator<Item = Element<'a>> {
    Elements::readable(document).filter(|element| !without.contains(&element.name))
}

/// Visits what is no document and no array within an element, in the order in which it stands.
pub fn leaves<'a>(element: &Element<'a>, visit: &mut dyn FnMut(&Element<'a>)) {
    leaves_within(element, 0, visit);
}

fn leaves_within<'a>(element: &Element<'a>, depth: usize, visit: &mut dyn FnMut(&Element<'a>)) {
    match Elements::within(element) {
        None => visit(element),
        // No server takes what is deeper.
        Some(_) if depth == DEPTH_MAX => {}
        Some(elements) => elements.for_each(|inner| leaves_within(&inner, depth + 1, visit)),
    }
}

/// How far a date lies from its exchange, in seconds, if that looks like what a program counts from now: anything within
/// two hours, by steps of five seconds; whole hours within a week and whole days within 400, but for two seconds. One
/// that is on a whole minute is so only if it is of that moment: others are written in programs.
///
/// The finer the distances are that count, the more chances a date that is written in a program has to lie so by accident;
/// but none is written within hours of the run.
pub fn relative(date_ms: i64, at_ms: i64) -> Option<i64> {
    let distance = date_ms.checked_sub(at_ms)?;
    let step = step(distance.unsigned_abs().saturating_sub(NEAR_MS.unsigned_abs()).div_ceil(1000));
    let step_ms = step * 1000;
    let seconds = distance.checked_add(step_ms / 2)?.div_euclid(step_ms).checked_mul(step)?;
    let is_near = step == STEP || (distance - seconds * 1000).abs() <= NEAR_MS;
    let is_of_now = seconds == 0 || date_ms.rem_euclid(60_000) != 0;
    (is_near && is_of_now && is_distance(seconds)).then_some(seconds)
}

/// Whether [`relative`] gives such a distance, in seconds.
pub fn is_distance(seconds: i64) -> bool {
    seconds % step(seconds.unsigned_abs()) == 0 && seconds.unsigned_abs() <= 400 * DAY.unsigned_abs()
}

/// In what steps distances count that are as large.
fn step(seconds: u64) -> i64 {
    match seconds {
        0..=7_200 => STEP,
        7_201..=604_800 => HOUR,
        _ => DAY,
    }
}

const STEP: i64 = 5;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A program takes so long from making a date to sending it.
const NEAR_MS: i64 = 2000;

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::spec::BinarySubtype;
    use bson::{Binary, Bson, DateTime, Document, doc};

    use super::*;
    use crate::capture::exchange::Reply;
    use crate::capture::exchange::testing::exchange;
    use crate::event::Phase;

    const NOW_MS: i64 = 1_767_261_612_345;

    fn oid(n: u8) -> ObjectId {
        ObjectId::from_bytes([n; 12])
    }

    fn id(n: u8) -> Value {
        Value::ObjectId([n; 12])
    }

    fn uuid(n: u8) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![n; 16] })
    }

    fn date(ms: i64) -> DateTime {
        DateTime::from_millis(ms)
    }

    fn learn(exchanges: &[(Document, Document)]) -> Names {
        let mut names = Names::default();
        for (request, reply) in exchanges {
            names.learn(&exchange(request, &[reply], NOW_MS * 1000));
        }
        names
    }

    const BORN: fn(u32) -> Option<Name> = |number| Some(Name { origin: Origin::Born, number });
    const GIVEN: fn(u32) -> Option<Name> = |number| Some(Name { origin: Origin::Given, number });

    #[test]
    fn where_a_value_appears_first_decides() {
        let ok = doc! { "ok": 1.0 };
        let names = learn(&[
            (doc! { "find": "c", "filter": { "_id": oid(1) }, "lsid": { "id": uuid(9) } }, ok.clone()),
            (
                doc! { "insert": "c", "documents": [{ "_id": oid(2), "u": [uuid(1)], "of": oid(1) }, { "_id": oid(3) }] },
                ok.clone(),
            ),
            (
                doc! { "find": "c" },
                doc! { "cursor": { "firstBatch": [{ "_id": oid(4), "x": oid(2) }] }, "electionId": oid(8) },
            ),
            (
                doc! { "update": "c", "updates": [{ "q": { "a": 1 }, "u": { "a": 1 }, "upsert": true }] },
                doc! { "upserted": [{ "index": 0, "_id": oid(12) }] },
            ),
            (doc! { "insert": "c", "documents": [{ "from": oid(4) }] }, ok.clone()),
            (
                doc! { "update": "c", "updates": [{ "q": { "_id": oid(4), "x": oid(5) }, "u": { "$set": { "y": oid(6) } } }] },
                ok.clone(),
            ),
            (doc! { "update": "c", "updates": [{ "q": { "_id": oid(7) }, "u": {}, "upsert": true }] }, ok.clone()),
            (doc! { "findAndModify": "c", "query": { "_id": oid(10) }, "update": { "z": oid(11) } }, ok),
        ]);
        let rows = [
            (1, None),
            (2, BORN(1)),
            (3, BORN(2)),
            // It was there before the recording.
            (4, None),
            (12, GIVEN(1)),
            (5, None),
            (6, BORN(3)),
            (7, BORN(4)),
            (8, None),
            (10, None),
            (11, BORN(5)),
        ];
        for (n, name) in rows {
            assert_eq!(names.get(id(n)), name, "{n}");
        }
        assert_eq!(names.get(Value::Uuid([1; 16])), BORN(1));
        assert!(!names.has_seen(Value::Uuid([9; 16])) && names.has_seen(id(1)));
    }

    #[test]
    fn a_string_that_is_a_text_counts_and_one_that_holds_it_does_not() {
        let whole = |n: u8| id(n).to_text().unwrap();
        let names = learn(&[(
            doc! { "insert": "c", "documents": [{ "a": whole(1), "b": format!("see {}", whole(2)) }] },
            doc! { "upserted": Value::Uuid([3; 16]).to_text().unwrap() },
        )]);
        assert_eq!((names.get(id(1)), names.get(id(2))), (BORN(1), None));
        assert_eq!(names.get(Value::Uuid([3; 16])), GIVEN(1));
    }

    #[test]
    fn dates_have_names_if_they_are_made_anew() {
        let (now, week_ago, old) = (NOW_MS - 3, NOW_MS - 7 * 86_400_000 - 2, 1_600_000_000_000);
        let names = learn(&[
            (doc! { "find": "c", "filter": { "at": { "$lt": date(now) } } }, doc! { "at": date(NOW_MS + 5) }),
            (
                doc! { "insert": "c", "documents": [{ "now": date(now), "ago": date(week_ago), "old": date(old) }] },
                doc! {},
            ),
        ]);
        assert_eq!(names.get(Value::Date(now)), BORN(1));
        assert_eq!(names.get(Value::Date(week_ago)), BORN(2));
        assert_eq!(names.get(Value::Date(old)), None);
        assert_eq!(names.get(Value::Date(NOW_MS + 5)), GIVEN(1));
    }

    #[test]
    fn handshakes_and_monitors_name_nothing() {
        let mut names = Names::default();
        for (command, phase) in [("hello", Phase::App), ("insert", Phase::Monitor), ("ping", Phase::App)] {
            let request = doc! { command: 1, "documents": [{ "_id": oid(1) }] };
            names.learn(&Exchange { phase, ..exchange(&request, &[&doc! { "id": oid(2) }], 0) });
        }
        assert!(!names.has_seen(id(1)) && !names.has_seen(id(2)));
    }

    #[test]
    fn texts_are_found_between_other_words() {
        let (hex, uuid) = (id(0xab).to_text().unwrap(), Value::Uuid([0xcd; 16]).to_text().unwrap());
        let rows = [
            (format!("ObjectId('{hex}')"), vec![(10, id(0xab))]),
            (hex.clone(), vec![(0, id(0xab))]),
            (format!("{hex}0"), vec![]),
            (format!("x{hex}"), vec![]),
            (hex.to_uppercase(), vec![]),
            (
                format!("{uuid},{hex} {uuid}"),
                vec![(0, Value::Uuid([0xcd; 16])), (37, id(0xab)), (62, Value::Uuid([0xcd; 16]))],
            ),
            (format!("{uuid}a"), vec![]),
            (uuid.replace('-', ""), vec![]),
            (uuid[..35].to_owned(), vec![]),
            ("dup \u{fc} key: abababababababababababag".to_owned(), vec![]),
        ];
        for (text, expected) in rows {
            let found = texts(text.as_bytes()).map(|(at, value)| {
                assert_eq!(value.to_text().as_deref(), text.get(at.clone()));
                (at.start, value)
            });
            assert_eq!(found.collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn a_date_is_relative_or_written_in_a_program() {
        let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
        for (distance, expected) in [
            (0, Some(0)),
            (-2000, Some(0)),
            (2499, Some(0)),
            (-2501, Some(-5)),
            (30_000, Some(30)),
            (28_000, Some(30)),
            (90 * minute - 1900, Some(5400)),
            (2 * hour, Some(7200)),
            (2 * hour + minute, None),
            (-47 * hour - 1000, Some(-47 * 3600)),
            (-7 * day - 1500, Some(-7 * 86_400)),
            (8 * day + hour, None),
            (400 * day, Some(400 * 86_400)),
            (401 * day, None),
        ] {
            assert_eq!(relative(NOW_MS + distance, NOW_MS), expected, "{distance}");
        }
        // On a whole minute.
        assert_eq!(relative(1_767_261_600_000, 1_767_261_601_000), Some(0));
        assert_eq!(relative(1_767_261_540_000, 1_767_261_601_000), None);
        assert_eq!(relative(i64::MIN, i64::MAX), None);
    }

    #[test]
    fn broken_commands_have_what_can_be_read() {
        let whole = doc! { "update": "c", "updates": [{ "q": {}, "u": { "a": oid(1) } }] }.to_vec().unwrap();
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let mut exchange = exchange(&doc! {}, &[], 0);
                exchange.replies.push(Reply { at: exchange.at, body: broken.clone() });
                exchange.request = broken;
                Names::default().learn(&exchange);
            }
        }
    }
}
