//! What an index wants to know of an exchange's documents and what depends on no other exchange, so that it can be found
//! out on any thread: the digests of the question, and the values that may have been born in it or before it.
//!
//! In which exchange a value was born is found out where they are put in order ([`build`](super::build)).

use std::ops::Range;

use super::counted::{database_of, is_varying};
use super::cursors::without_cursor;
use super::digest::{Digest, Digests, Masked, digests_and_masked};
use super::settings::{Scope, Settings};
use crate::bson::scan::scan;
use crate::bson::{Element, Elements, Kind};
use crate::capture::exchange::Exchange;
use crate::capture::names::{
    VARYING_IN_REPLIES, VARYING_IN_REQUESTS, Value, is_within, leaves, relative, text_of, value_of, write_values,
};
use crate::event::Timestamp;

/// What was found out about an exchange by itself.
#[derive(Debug)]
pub struct Walked {
    pub(super) digests: Digests,
    /// What the masked digest leaves out.
    pub(super) left_out: Vec<Masked>,
    /// The values that are born in it unless they were there before, in the order in which they stand.
    pub(super) written: Vec<Value>,
    /// Other values in the request, as numbers.
    pub(super) asked: Vec<Digest>,
    /// Values in the replies, likewise.
    pub(super) replied: Vec<Digest>,
}

impl Walked {
    /// Of that exchange.
    pub fn of(exchange: &Exchange, settings: &Settings) -> Self {
        let mut walked = Self {
            digests: Digests { exact: 0, masked: 0 },
            left_out: Vec::new(),
            written: Vec::new(),
            asked: Vec::new(),
            replied: Vec::new(),
        };
        // Housekeeping is neither looked for nor does it tell of anything.
        if !exchange.is_housekeeping() {
            walked.request(exchange, settings);
            exchange.replies.iter().for_each(|reply| walked.reply(&reply.body, millis(reply.at)));
        }
        walked
    }

    fn request(&mut self, exchange: &Exchange, settings: &Settings) {
        let command = exchange.request.as_slice();
        let scope = exchange.app_name.as_deref().filter(|_| settings.scope == Scope::AppName);
        let more = without_cursor(command);
        let question = more.as_deref().unwrap_or(command);
        (self.digests, self.left_out) = digests_and_masked(question, database_of(command), scope, settings);
        let births: Vec<Range<usize>> = write_values(command).iter().map(range).collect();
        let at_ms = millis(exchange.at);
        let mut note = |value: Value, offset: usize| match is_within(&births, offset) {
            true if may_be_born(value, at_ms) => self.written.push(value),
            // A date that is asked for may be made anew each time.
            _ if matches!(value, Value::Date(_)) => {}
            _ => self.asked.push(key(value)),
        };
        // Where nothing is set, nothing counts that was not masked, but for what never counts.
        let Settings { ignore, exact, bind, .. } = settings;
        let is_told = ignore.is_empty() && exact.is_empty() && bind.is_empty();
        if is_told {
            self.left_out.iter().filter(|it| it.is_whole).for_each(|it| note(it.value, it.offset));
        }
        let rest = |element: &Element<'_>| !is_told || is_varying(element) || element.name == b"$db";
        let tops = Elements::readable(command).filter(|element| !VARYING_IN_REQUESTS.contains(&element.name));
        for element in tops.filter(rest) {
            leaves(&element, &mut |leaf| {
                if let Some(value) = value_of(leaf).or_else(|| text_of(leaf)) {
                    note(value, leaf.offset);
                }
            });
        }
    }

    fn reply(&mut self, reply: &[u8], at_ms: i64) {
        let mut note = |value: Option<Value>| {
            self.replied.extend(value.filter(|value| may_be_born(*value, at_ms)).map(key));
        };
        for element in Elements::readable(reply).filter(|element| !VARYING_IN_REPLIES.contains(&element.name)) {
            let is_seen =
                element.kind.is_container() && scan(element.value, &mut |kind, value| note(named_value(kind, value)));
            if !is_seen {
                leaves(&element, &mut |leaf| note(value_of(leaf).or_else(|| text_of(leaf))));
            }
        }
    }
}

fn millis(at: Timestamp) -> i64 {
    at.unix_micros / 1000
}

fn range(element: &Element<'_>) -> Range<usize> {
    element.offset..element.offset + element.value.len()
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
pub(super) fn key(value: Value) -> Digest {
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
