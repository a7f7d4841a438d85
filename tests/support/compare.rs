//! Whether two BSON documents say the same, and where they first do not.
//!
//! Types, key order and the bits of a double all count, unless the departure that excuses a difference is allowed; which
//! were called upon is kept, so that a table of departures cannot hold one that is not needed.

use std::collections::BTreeSet;

use bson::{Bson, Document};

/// A way in which a driver's own events are known not to be what was on the wire.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Departure {
    /// The driver hands numbers over as its language's: int32, int64 and double are told apart by value alone.
    NumberTypes,
    /// The driver appends what it adds to a command in another order than it sends it: the order of the command's
    /// own keys is not compared.
    CommandKeyOrder,
    /// The driver puts the `_id` of a document to be inserted first when it encodes it, after the event.
    IdFirst,
    /// What an exhaust cursor goes on to receive has the request id 0, and a duration from when the application asked
    /// for it; it may have been there before.
    Continuations,
    /// The driver counts its event and its message as two: the message's request id is the event's and one.
    RequestIds,
    /// The driver adds `$db` to a command after the event.
    NoDatabase,
    /// The driver measures in whole milliseconds.
    Milliseconds,
    /// The driver does not tell which of the server's connections it used.
    NoServerConnectionId,
    /// The driver calls a heartbeat awaited at its end if the server could have waited, whatever it was asked.
    AwaitedByReply,
    /// The driver gives the round trip time for the duration of a heartbeat that the server was allowed to wait with.
    RoundTripDurations,
    /// The driver adds `isWritablePrimary` to the reply of an old `hello` that has `ismaster`.
    ReplyAmended,
    /// The driver takes two failures for two whatever they say, and an unknown server to have changed from one to another.
    ErrorsDiffer,
    /// The driver does not tell that a server's description changed by what another server said.
    OthersUntold,
    /// The driver shows a server's hosts, passives and arbiters together.
    HostsTogether,
    /// The driver does not tell that a topology without servers is what is left when it closes.
    NoLastDescription,
    /// The driver goes on to call the topology one with a primary when its primary says that it is none any more.
    StaysWithPrimary,
    /// The driver still shows the name of the set, and how new its configuration was, when it closes.
    SetKeptAtEnd,
}

/// A comparison, and which departures it needed.
#[derive(Debug)]
pub(crate) struct Comparison<'a> {
    allowed: &'a [Departure],
    used: BTreeSet<Departure>,
}

impl<'a> Comparison<'a> {
    /// One in which those departures are allowed.
    pub(crate) fn new(allowed: &'a [Departure]) -> Self {
        Self { allowed, used: BTreeSet::new() }
    }

    /// Whether that departure is allowed; if so, it has been called upon.
    pub(crate) fn excuse(&mut self, departure: Departure) -> bool {
        let excused = self.allowed.contains(&departure);
        if excused {
            self.used.insert(departure);
        }
        excused
    }

    /// The allowed departures that nothing called upon. A coarse clock is not always caught.
    pub(crate) fn unused(&self) -> Vec<Departure> {
        let needless = |it: &&Departure| !self.used.contains(it) && **it != Departure::Milliseconds;
        self.allowed.iter().filter(needless).copied().collect()
    }

    /// The first difference between two documents, as its path and both sides. `top` is the document's own path.
    pub(crate) fn documents(&mut self, top: &str, theirs: &Document, ours: &Document) -> Result<(), String> {
        let unseen = top == "command" && ours.contains_key("$db") && !theirs.contains_key("$db");
        let without = |ours: &Document| ours.clone().into_iter().filter(|(key, _)| key != "$db").collect::<Document>();
        let ours = &if unseen && self.excuse(Departure::NoDatabase) { without(ours) } else { ours.clone() };
        if !theirs.keys().eq(ours.keys()) {
            let same_keys = theirs.len() == ours.len() && theirs.keys().all(|key| ours.contains_key(key));
            // Only a command's own keys, not those of the documents in it.
            let reordered = same_keys && top == "command" && self.excuse(Departure::CommandKeyOrder);
            let moved = !reordered && top.starts_with("command.documents.") && is_id_first(theirs, ours);
            if !(reordered || moved && self.excuse(Departure::IdFirst)) {
                let keys = |it: &Document| it.keys().cloned().collect::<Vec<_>>().join(" ");
                return Err(format!("{top}: keys are {{{}}}, not {{{}}}", keys(ours), keys(theirs)));
            }
        }
        for (key, theirs) in theirs {
            let ours = ours.get(key).ok_or_else(|| format!("{top}.{key}: missing"))?;
            self.values(&format!("{top}.{key}"), theirs, ours)?;
        }
        Ok(())
    }

    fn values(&mut self, path: &str, theirs: &Bson, ours: &Bson) -> Result<(), String> {
        let same = match (theirs, ours) {
            (Bson::Document(theirs), Bson::Document(ours)) => return self.documents(path, theirs, ours),
            (Bson::Array(theirs), Bson::Array(ours)) if theirs.len() == ours.len() => {
                let mut pairs = theirs.iter().zip(ours).enumerate();
                return pairs.try_for_each(|(at, (theirs, ours))| self.values(&format!("{path}.{at}"), theirs, ours));
            }
            (Bson::Double(theirs), Bson::Double(ours)) => same_double(*theirs, *ours),
            (theirs, ours) => theirs == ours,
        };
        let excused = !same && same_number(theirs, ours) && self.excuse(Departure::NumberTypes);
        if same || excused { Ok(()) } else { Err(format!("{path}: {}, not {}", short(ours), short(theirs))) }
    }
}

/// Whether moving `_id` to the front makes the keys of one those of the other.
fn is_id_first(theirs: &Document, ours: &Document) -> bool {
    let rest = theirs.keys().filter(|key| *key != "_id");
    let id = theirs.keys().filter(|key| *key == "_id");
    id.chain(rest).eq(ours.keys())
}

/// The same bits, except that a NaN is as good as another.
fn same_double(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

/// Two numbers of different types with one value.
fn same_number(a: &Bson, b: &Bson) -> bool {
    let whole = |it: &Bson| it.as_i64().or_else(|| it.as_i32().map(i64::from));
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a == b,
        // A whole number is a double's equal if it comes out of it unchanged.
        (Some(whole), None) => b.as_f64().is_some_and(|double| is_whole(double, whole)),
        (None, Some(whole)) => a.as_f64().is_some_and(|double| is_whole(double, whole)),
        (None, None) => false,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a cast that truncates gives another number, which is the test")]
fn is_whole(double: f64, whole: i64) -> bool {
    double.fract() == 0.0 && double as i64 == whole
}

fn short(value: &Bson) -> String {
    let text = format!("{value:?}");
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
