//! What an index wants to know of an exchange's documents and what depends on no other exchange, so that it can be found
//! out on any thread: the digests of the question, and the values that may have been born in it or before it.
//!
//! In which exchange a value was born is found out where they are put in order ([`build`](super::build)).

use std::ops::Range;

use super::counted::{database_of, is_varying};
use super::cursors::without_cursor;
use super::digest::{Digest, Digests, Masked, digests_and_masked};
use super::settings::Settings;
use crate::bson::walk::DEPTH_MAX;
use crate::bson::{Element, Elements, Kind};
use crate::capture::exchange::Exchange;
use crate::capture::names::{
    VARYING_IN_REPLIES, VARYING_IN_REQUESTS, Value, is_within, leaves, relative, text_of, value_of, write_values,
};
use crate::event::Timestamp;

/// What was found out about an exchange by itself, or about one of its messages.
#[derive(Debug, Default)]
pub struct Walked {
    /// Of the request, within no scope.
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
        // Housekeeping is neither looked for nor does it tell of anything.
        if exchange.is_housekeeping() {
            return Self::default();
        }
        let mut walked = Self::of_request(&exchange.request, exchange.at, settings);
        exchange.replies.iter().for_each(|reply| walked.reply(&reply.body, reply.at));
        walked
    }

    /// Of a request that is no housekeeping, when it was whole.
    pub fn of_request(command: &[u8], at: Timestamp, settings: &Settings) -> Self {
        let mut walked = Self::default();
        walked.request(command, millis(at), settings);
        walked
    }

    /// Of a reply to such a one.
    pub fn of_reply(reply: &[u8], at: Timestamp) -> Self {
        let mut walked = Self::default();
        walked.reply(reply, at);
        walked
    }

    /// Of an exchange, of what was found out about its request and then its replies.
    pub fn merged(messages: impl IntoIterator<Item = Box<Self>>) -> Option<Box<Self>> {
        messages.into_iter().reduce(|mut request, mut reply| {
            match request.replied.is_empty() {
                true => request.replied = reply.replied,
                false => request.replied.append(&mut reply.replied),
            }
            request
        })
    }

    fn request(&mut self, command: &[u8], at_ms: i64, settings: &Settings) {
        let more = without_cursor(command);
        let question = more.as_deref().unwrap_or(command);
        (self.digests, self.left_out) = digests_and_masked(question, database_of(command), settings);
        let births: Vec<Range<usize>> = write_values(command).iter().map(range).collect();
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

    fn reply(&mut self, reply: &[u8], at: Timestamp) {
        let tops = Elements::readable(reply).filter(|element| !VARYING_IN_REPLIES.contains(&element.name));
        self.told(tops, millis(at), 0);
    }

    /// Takes note of the values in a part of a reply. That is asked of everything that is recorded, and so has to be quick.
    fn told<'a>(&mut self, elements: impl Iterator<Item = Element<'a>>, at_ms: i64, depth: usize) {
        for element in elements {
            let value = match element.kind {
                // No server gives what is deeper.
                Kind::Document | Kind::Array if depth < DEPTH_MAX => {
                    if let Some(inner) = Elements::within(&element) {
                        self.told(inner, at_ms, depth + 1);
                    }
                    None
                }
                Kind::ObjectId | Kind::DateTime | Kind::Binary => value_of(&element),
                Kind::String => text_of(&element),
                _ => None,
            };
            if let Some(value) = value
                && may_be_born(value, at_ms)
            {
                self.replied.push(key(value));
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
