//! What an index wants to know of an exchange's documents and what depends on no other exchange, so that it can be found
//! out on any thread: the digests of the question, and the values that may have been born in it or before it.
//!
//! In which exchange a value was born is found out where they are put in order ([`build`](super::build)).

use std::ops::Range;

use super::counted::{Tops, is_varying, tops};
use super::cursors::without_cursor;
use super::digest::{Digest, Digests, Masked, digests_and_masked};
use super::outline::{put_reply, put_request};
use super::settings::Settings;
use crate::bson::walk::{DEPTH_MAX, Readable};
use crate::bson::{Element, Elements, Kind};
use crate::capture::exchange::Exchange;
use crate::capture::names::{
    VARYING_IN_REPLIES, VARYING_IN_REQUESTS, Value, is_within, leaves, relative, text_of, value_of, write_values,
};
use crate::event::Timestamp;

/// What was found out about an exchange by itself, or about one of its messages.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walked<'a> {
    /// Of the request, within no scope.
    pub(super) digests: Digests,
    /// What the masked digest leaves out.
    pub(super) left_out: &'a [Masked],
    /// The values that are born in it unless they were there before, in the order in which they stand.
    pub(super) written: &'a [Value],
    /// Other values in the request, as numbers.
    pub(super) asked: &'a [Digest],
    /// Values in the replies, likewise.
    pub(super) replied: &'a [Digest],
    /// A message's document without what no index asks of it.
    outline: &'a [u8],
}

impl<'a> Walked<'a> {
    /// Of an exchange, of what was found out about its request and about its reply.
    #[must_use]
    pub fn answered(self, reply: Option<Self>) -> Self {
        Self { replied: reply.map_or(&[], |reply| reply.replied), ..self }
    }

    /// What an index may ask of the message's document: it stands for it there.
    pub fn outline(self) -> &'a [u8] {
        self.outline
    }
}

/// What was found out about messages, one after the other, all in the same few places: so it takes little time to find out
/// about many, and to let go of them.
#[derive(Debug, Default)]
pub struct Findings {
    ends: Vec<Ends>,
    left_out: Vec<Masked>,
    written: Vec<Value>,
    asked: Vec<Digest>,
    replied: Vec<Digest>,
    outlines: Vec<u8>,
}

/// The digests of a message, and where what was found out about it ends.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    digests: Digests,
    left_out: usize,
    written: usize,
    asked: usize,
    replied: usize,
    outlines: usize,
}

impl Findings {
    /// Forgets them, and keeps the room.
    pub fn clear(&mut self) {
        let Self { ends, left_out, written, asked, replied, outlines } = self;
        ends.clear();
        left_out.clear();
        written.clear();
        asked.clear();
        replied.clear();
        outlines.clear();
    }

    /// How much is held of them.
    pub fn bytes(&self) -> usize {
        let Self { ends, left_out, written, asked, replied, outlines } = self;
        size_of_val(ends.as_slice())
            + size_of_val(left_out.as_slice())
            + size_of_val(written.as_slice())
            + size_of_val(asked.as_slice())
            + size_of_val(replied.as_slice())
            + outlines.len()
    }

    /// Adds what is to be known of an exchange; its documents need no outlines.
    pub fn add(&mut self, exchange: &Exchange, settings: &Settings) -> usize {
        // Housekeeping is neither looked for nor does it tell of anything.
        if exchange.is_housekeeping() {
            return self.end(Digests::default());
        }
        let digests = self.request(&exchange.request, millis(exchange.at), settings);
        exchange.replies.iter().for_each(|reply| self.reply(&reply.body, millis(reply.at)));
        self.end(digests)
    }

    /// Adds what is to be known of a request that is no housekeeping, when it was whole; gives its number here.
    pub fn add_request(&mut self, command: &[u8], at: Timestamp, settings: &Settings) -> usize {
        let digests = self.request(command, millis(at), settings);
        put_request(command, &mut self.outlines);
        self.end(digests)
    }

    /// The same of a reply to such a one.
    pub fn add_reply(&mut self, reply: &[u8], at: Timestamp) -> usize {
        self.reply(reply, millis(at));
        put_reply(reply, &mut self.outlines);
        self.end(Digests::default())
    }

    /// What was found out about the message of that number.
    pub fn get(&self, number: usize) -> Walked<'_> {
        let before = number.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or_default();
        let Some(ends) = self.ends.get(number) else { return Walked::default() };
        Walked {
            digests: ends.digests,
            left_out: self.left_out.get(before.left_out..ends.left_out).unwrap_or_default(),
            written: self.written.get(before.written..ends.written).unwrap_or_default(),
            asked: self.asked.get(before.asked..ends.asked).unwrap_or_default(),
            replied: self.replied.get(before.replied..ends.replied).unwrap_or_default(),
            outline: self.outlines.get(before.outlines..ends.outlines).unwrap_or_default(),
        }
    }

    fn end(&mut self, digests: Digests) -> usize {
        self.ends.push(Ends {
            digests,
            left_out: self.left_out.len(),
            written: self.written.len(),
            asked: self.asked.len(),
            replied: self.replied.len(),
            outlines: self.outlines.len(),
        });
        self.ends.len() - 1
    }

    fn request(&mut self, command: &[u8], at_ms: i64, settings: &Settings) -> Digests {
        let Tops { database, may_continue, .. } = tops(command);
        let more = if may_continue { without_cursor(command) } else { None };
        let question = more.as_deref().unwrap_or(command);
        let first = self.left_out.len();
        let Self { left_out, written, asked, .. } = self;
        let digests = digests_and_masked(question, database, settings, left_out);
        let births: Vec<Range<usize>> = write_values(command).iter().map(range).collect();
        let mut note = |value: Value, offset: usize| match is_within(&births, offset) {
            true if may_be_born(value, at_ms) => written.push(value),
            // A date that is asked for may be made anew each time.
            _ if matches!(value, Value::Date(_)) => {}
            _ => asked.push(key(value)),
        };
        // Where nothing is set, nothing counts that was not masked, but for what never counts.
        let Settings { ignore, exact, bind, .. } = settings;
        let is_told = ignore.is_empty() && exact.is_empty() && bind.is_empty();
        if is_told {
            let masked = left_out.iter().skip(first).filter(|it| it.is_whole);
            masked.for_each(|it| note(it.value, it.offset));
        }
        let rest = |element: &Element<'_>| !is_told || is_varying(element) || element.name == b"$db";
        let tops = Elements::readable(command).filter(rest);
        for element in tops.filter(|element| !VARYING_IN_REQUESTS.contains(&element.name)) {
            leaves(&element, &mut |leaf| {
                if let Some(value) = value_of(leaf).or_else(|| text_of(leaf)) {
                    note(value, leaf.offset);
                }
            });
        }
        digests
    }

    fn reply(&mut self, reply: &[u8], at_ms: i64) {
        let tops = Elements::readable(reply).filter(|element| !VARYING_IN_REPLIES.contains(&element.name));
        for element in tops {
            match Elements::within(&element) {
                Some(inner) => self.told(inner, at_ms, 1),
                None => self.told_by(&element, at_ms),
            }
        }
    }

    /// Takes note of the values in a part of a reply. That is asked of everything that is recorded, and so has to be quick.
    fn told(&mut self, elements: Readable<'_>, at_ms: i64, depth: usize) {
        for element in elements {
            match element.kind {
                Kind::Document | Kind::Array => {
                    // No server gives what is deeper.
                    if let Some(inner) = Elements::within(&element).filter(|_| depth < DEPTH_MAX) {
                        self.told(inner, at_ms, depth + 1);
                    }
                }
                Kind::ObjectId | Kind::DateTime | Kind::Binary | Kind::String => self.told_by(&element, at_ms),
                _ => {}
            }
        }
    }

    #[inline(always)]
    fn told_by(&mut self, element: &Element<'_>, at_ms: i64) {
        let value = match element.kind {
            Kind::String => text_of(element),
            _ => value_of(element),
        };
        if let Some(value) = value.filter(|value| may_be_born(*value, at_ms)) {
            self.replied.push(key(value));
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
