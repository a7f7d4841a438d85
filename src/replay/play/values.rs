//! What live values stand for recorded ones: identities and dates that a server made, which it makes anew, and the dates
//! of a fixture, which are in a time of its own.
//!
//! A capture has its times: what differs and was made then, as far as it says, and live at the same time of this run, is
//! the server's. A fixture has names instead, which say what its server gave. Once a live value is known to stand for a
//! recorded one, it goes out in its place. What the client made goes out as it was recorded, from a capture its dates too:
//! the data that they are held against are of that time.

use super::known::{Known, Moments};
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::exchange::Exchange;
use crate::capture::fixture::STAND_INS_SECONDS;
use crate::capture::names::{Names, Origin, Value, relative, texts, value_of};
use crate::event::Timestamp;

/// Live values that are remembered, of each type.
const VALUES_MAX: usize = 200_000;

/// So far the clocks of a server and of who recorded it, or plays it, may be apart.
const CLOCKS_APART_MS: i64 = 2000;

/// When a recorded reply came, and when the live one did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answered {
    /// In the recording.
    pub recorded: Timestamp,
    /// In this run.
    pub live: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Values {
    object_ids: Known<[u8; 12]>,
    /// In milliseconds since 1970.
    dates: Known<i64>,
    from: From,
}

/// What is known of when values were made.
#[derive(Clone, Debug)]
enum From {
    /// When exchanges began, in milliseconds.
    Capture(Moments),
    /// Which values have names, and how far its time is from ours: never less than it was, so that dates stay in order.
    Fixture { names: Box<Names>, offset_ms: i64 },
}

impl Values {
    pub(super) fn new(is_fixture: bool) -> Self {
        let fixture = || From::Fixture { names: Box::default(), offset_ms: i64::MIN };
        let from = if is_fixture { fixture() } else { From::Capture(Moments::default()) };
        Self { object_ids: Known::new(VALUES_MAX), dates: Known::new(VALUES_MAX), from }
    }

    /// An exchange goes out now.
    pub(super) fn begin(&mut self, exchange: &Exchange, now: Timestamp) {
        let (recorded, now) = (millis(exchange.at), millis(now));
        match &mut self.from {
            From::Capture(moments) => moments.note(recorded.unsigned_abs(), now.unsigned_abs()),
            From::Fixture { names, offset_ms } => {
                names.learn(exchange);
                *offset_ms = (*offset_ms).max(now.saturating_sub(recorded));
            }
        }
    }

    /// Learns the `_id`s that a server made for documents that it inserted by itself.
    pub(super) fn learn(&mut self, recorded: &[u8], live: &[u8]) {
        let pairs = upserted(recorded).zip(upserted(live)).filter(|(recorded, live)| recorded != live);
        pairs.for_each(|(recorded, live)| self.object_ids.insert(recorded, live));
    }

    /// Whether a live value stands where it should: it is what the live server gave instead of the recorded one.
    pub(super) fn is_same(&mut self, recorded: &Element<'_>, live: &Element<'_>, at: Answered) -> bool {
        if recorded.kind != live.kind {
            return false;
        }
        match recorded.kind {
            Kind::ObjectId => self.is_same_object_id(recorded, live, at),
            Kind::DateTime => self.is_same_date(recorded, live, at),
            Kind::Timestamp => self.is_made_at_its_time(recorded, live, at) || self.is_given(recorded),
            Kind::String => self.is_same_text(recorded, live),
            _ => self.is_given(recorded),
        }
    }

    fn is_same_object_id(&mut self, recorded: &Element<'_>, live: &Element<'_>, at: Answered) -> bool {
        let pair = recorded.value.first_chunk::<12>().zip(live.value.first_chunk::<12>());
        let Some((recorded_id, live_id)) = pair else { return false };
        if let Some(known) = self.object_ids.get(recorded_id) {
            return known == live_id;
        }
        // A live id is one document's, as the recorded one was.
        let is_free = self.object_ids.recorded(live_id).is_none();
        let is_same = is_free && (self.is_made_at_its_time(recorded, live, at) || self.is_given(recorded));
        if is_same {
            self.object_ids.insert(*recorded_id, *live_id);
        }
        is_same
    }

    fn is_same_date(&mut self, recorded: &Element<'_>, live: &Element<'_>, at: Answered) -> bool {
        let Some((recorded_ms, live_ms)) = date(recorded).zip(date(live)) else { return false };
        if self.dates.get(&recorded_ms) == Some(&live_ms) {
            return true;
        }
        // Two that were made in the same millisecond need not be so again.
        let is_same = self.is_of_its_time(recorded_ms, live_ms, at) || self.is_given(recorded);
        if is_same {
            self.dates.insert(recorded_ms, live_ms);
        }
        is_same
    }

    /// Whether a text says the same of the live `_id`s.
    fn is_same_text(&self, recorded: &Element<'_>, live: &Element<'_>) -> bool {
        if self.object_ids.is_empty() {
            return false;
        }
        let text = recorded.as_str_bytes().unwrap_or_default();
        let (mut said, mut end) = (Vec::with_capacity(text.len()), 0);
        for (at, value) in texts(text) {
            let Value::ObjectId(id) = value else { continue };
            let Some(id) = self.object_ids.get(&id).and_then(|id| Value::ObjectId(*id).to_text()) else { continue };
            said.extend_from_slice(text.get(end..at.start).unwrap_or_default());
            said.extend_from_slice(id.as_bytes());
            end = at.end;
        }
        said.extend_from_slice(text.get(end..).unwrap_or_default());
        Some(said.as_slice()) == live.as_str_bytes()
    }

    /// Whether a fixture says that its server made it.
    fn is_given(&self, recorded: &Element<'_>) -> bool {
        let From::Fixture { names, .. } = &self.from else { return false };
        if recorded.kind == Kind::Timestamp {
            return made_at(recorded) == Some(i64::from(STAND_INS_SECONDS) * 1000);
        }
        value_of(recorded).and_then(|value| names.get(value)).is_some_and(|name| name.origin == Origin::Given)
    }

    /// Whether both values hold the time at which they were made, and that is [the same](Self::is_of_its_time).
    fn is_made_at_its_time(&self, recorded: &Element<'_>, live: &Element<'_>, at: Answered) -> bool {
        made_at(recorded).zip(made_at(live)).is_some_and(|(recorded, live)| self.is_of_its_time(recorded, live, at))
    }

    /// Whether something of that time was made while the capture was, and live at the same time of this run.
    fn is_of_its_time(&self, recorded_ms: i64, live_ms: i64, at: Answered) -> bool {
        let From::Capture(moments) = &self.from else { return false };
        let Some((first, first_live)) = moments.first() else { return false };
        let earliest = recorded_ms.saturating_sub(CLOCKS_APART_MS);
        // Before 1970 nobody recorded anything.
        let Ok(latest) = u64::try_from(recorded_ms.saturating_add(CLOCKS_APART_MS)) else { return false };
        if latest < first || earliest > millis(at.recorded) {
            return false;
        }
        let from = u64::try_from(earliest).ok().and_then(|earliest| moments.before(earliest)).unwrap_or(first_live);
        let from = from.cast_signed();
        let to = moments.after(latest).map_or_else(|| millis(at.live), u64::cast_signed);
        (from - CLOCKS_APART_MS..=to + CLOCKS_APART_MS).contains(&live_ms)
    }

    /// What goes out instead of a value, if it is another: `recorded` is the exchange's time.
    pub(super) fn live(&mut self, element: &Element<'_>, recorded: Timestamp) -> Option<Vec<u8>> {
        match element.kind {
            Kind::ObjectId => Some(self.object_ids.get(element.value.first_chunk::<12>()?)?.to_vec()),
            Kind::DateTime => {
                let date = date(element)?;
                if let Some(live) = self.dates.get(&date) {
                    return Some(live.to_le_bytes().to_vec());
                }
                let From::Fixture { offset_ms, .. } = &self.from else { return None };
                relative(date, millis(recorded))?;
                let live = date.saturating_add(*offset_ms);
                self.dates.insert(date, live);
                Some(live.to_le_bytes().to_vec())
            }
            _ => None,
        }
    }
}

fn millis(at: Timestamp) -> i64 {
    at.unix_micros / 1000
}

/// The time in an `ObjectId` or a timestamp, in milliseconds; both count seconds.
fn made_at(element: &Element<'_>) -> Option<i64> {
    let seconds = match element.kind {
        Kind::ObjectId => element.value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)),
        // Behind the increment.
        Kind::Timestamp => element.value.last_chunk().map(|bytes| u32::from_le_bytes(*bytes)),
        _ => None,
    };
    seconds.map(|seconds| i64::from(seconds) * 1000)
}

fn date(element: &Element<'_>) -> Option<i64> {
    element.value.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

/// The `_id`s of a reply that a server made for documents that it inserted by itself.
fn upserted(reply: &[u8]) -> impl Iterator<Item = [u8; 12]> {
    let list = find(reply, b"upserted").and_then(|list| list.as_array()).unwrap_or_default();
    let listed = Elements::readable(list).filter_map(|element| find(element.as_document()?, b"_id"));
    let last = find(reply, b"lastErrorObject").and_then(|last| find(last.as_document()?, b"upserted"));
    listed.chain(last).filter(|id| id.kind == Kind::ObjectId).filter_map(|id| id.value.first_chunk().copied())
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::{DateTime, rawdoc};

    use super::*;
    use crate::capture::exchange::testing;

    fn same(recorded: i64, live: i64) -> (bool, Option<Vec<u8>>) {
        const START: i64 = 1_763_000_000_000;
        const RUN: i64 = 1_763_900_000_000;
        let at = |ms: i64| Timestamp { monotonic_nanos: 0, unix_micros: ms * 1000 };
        let mut values = Values::new(false);
        for n in 0..3 {
            let mut exchange = testing::exchange(&bson::doc! { "find": "c" }, &[], 0);
            exchange.at = at(START + n * 10_000);
            values.begin(&exchange, at(RUN + n * 10_000));
        }
        let answered = Answered { recorded: at(START + 20_001), live: at(RUN + 20_001) };
        let document = |ms| rawdoc! { "d": DateTime::from_millis(ms) };
        let (one, other) = (document(recorded), document(live));
        let [one, other] = [&one, &other].map(|it| find(it.as_bytes(), b"d").unwrap());
        let is_same = values.is_same(&one, &other, answered);
        (is_same, values.live(&one, answered.recorded))
    }

    #[test]
    fn dates_from_outside_the_recording_are_no_dates_of_now() {
        // 0001-01-01 is what some programs write for no date at all.
        for recorded in [-62_135_596_800_000, -631_152_000_000, i64::MAX, i64::MIN] {
            for live in [1_763_900_020_000, 1_763_900_000_500, 0] {
                assert_eq!(same(recorded, live), (false, None), "{recorded} {live}");
            }
        }
        assert!(same(1_763_000_010_000, 1_763_900_010_000).0);
    }

    #[test]
    fn two_ids_are_not_one() {
        const START: i64 = 1_763_000_000_000;
        const RUN: i64 = 1_763_900_000_000;
        let at = |ms: i64| Timestamp { monotonic_nanos: 0, unix_micros: ms * 1000 };
        let mut values = Values::new(false);
        let mut exchange = testing::exchange(&bson::doc! { "find": "c" }, &[], 0);
        exchange.at = at(START);
        values.begin(&exchange, at(RUN));
        let answered = Answered { recorded: at(START + 500), live: at(RUN + 500) };
        let id = |ms: i64, n: u8| {
            let mut bytes = [n; 12];
            bytes[..4].copy_from_slice(&((ms / 1000) as u32).to_be_bytes());
            rawdoc! { "d": ObjectId::from_bytes(bytes) }
        };
        let mut same = |one: &bson::raw::RawDocumentBuf, other: &bson::raw::RawDocumentBuf| {
            let [one, other] = [one, other].map(|it| find(it.as_bytes(), b"d").unwrap());
            values.is_same(&one, &other, answered)
        };
        assert!(same(&id(START, 1), &id(RUN, 7)));
        assert!(!same(&id(START, 2), &id(RUN, 7)), "another recorded id is the same live one");
    }
}
