//! What another server does too, so that it can be asked what a recording does not hold: it knows nothing of writes that
//! the recording has answered.
//!
//! Each answer that tells of a change is handed on with the request as it came, with this run's own values; those of a
//! transaction are carried out when it is committed. Where another server then answers otherwise than the recording did,
//! what it is asked from there on is of another state, and that is told. Keeping them and carrying them out is the caller's.

use std::borrow::Cow;
use std::sync::Arc;

use bson::RawDocumentBuf;
use bson::raw::RawDocument;

use super::Request;
use super::bindings::Bindings;
use super::difference::difference;
use super::effect::{Effect, NAMESPACE_NOT_FOUND, UNTOLD, is_ok};
use super::recording::Number;
use super::replaying::Replaying;
use super::state::Transaction;
use super::transaction::transaction_of;
use crate::bson::walk::DEPTH_MAX;
use crate::bson::write::{begin, end, put_document, put_element, put_name};
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::exchange::{Place, READ_CONCERN_TIMES};
use crate::capture::names::{Value, leaves, value_of};

/// A request that was answered from the recording, and what it did.
#[derive(Clone, Debug, PartialEq)]
pub struct Followed {
    /// Who shares what was asked: those for whom it took place.
    pub scope: Option<Arc<str>>,
    /// What it did.
    pub step: Step,
    /// The request's command, `$db` included.
    pub command: Vec<u8>,
    /// What was answered.
    pub told: Told,
}

/// What a followed request did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It changed something, at once.
    Write,
    /// It changed something, once that transaction is committed.
    Within(u128),
    /// It committed that transaction.
    Commit(u128),
    /// It ended that transaction, of which nothing remains.
    Abort(u128),
}

/// What a recording answered of a change, as far as it matters to whom follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Where it is recorded.
    pub place: Place,
    outcome: Vec<u8>,
    /// Whether it only matters that it was done: nothing is left, whatever there was, or nobody wanted to know more.
    is_done: bool,
}

impl Told {
    /// Of a write that wanted no answer.
    pub fn unacknowledged(place: Place) -> Self {
        Self { place, outcome: done(UNTOLD), is_done: true }
    }

    /// Takes out what is compared, so that it can be kept elsewhere meanwhile.
    pub fn take_outcome(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outcome)
    }

    /// Puts it back, to be compared.
    pub fn put_outcome(&mut self, outcome: Vec<u8>) {
        self.outcome = outcome;
    }

    /// How another server's answer differs, in what matters: `line 5: n is 1 there and 0 here`. Identities that it made by
    /// itself stand for the recorded ones from then on.
    pub fn departure(&self, reply: &RawDocument, made: &mut Made) -> Option<String> {
        let here = if self.is_done { done(reply.as_bytes()) } else { outcome(reply.as_bytes()) };
        made.learn(&self.outcome, &here);
        difference(&self.outcome, &made.as_told(&here)).map(|it| format!("{}: {it}", self.place))
    }
}

/// What another server made by itself, as it makes the `_id` of an upsert: the application knows the recorded values.
#[derive(Debug, Default)]
pub struct Made(Bindings);

impl Made {
    /// A command with the server's own values.
    pub fn to_server<'d>(&self, command: &'d [u8]) -> Cow<'d, [u8]> {
        self.0.to_recorded(command)
    }

    /// A reply with the values that the application knows.
    pub fn as_told(&self, reply: &[u8]) -> Vec<u8> {
        self.0.to_live(reply, &mut |value| self.0.live(value))
    }

    fn learn(&mut self, told: &[u8], here: &[u8]) {
        for name in [b"upserted".as_slice(), b"lastErrorObject"] {
            let (Some(told), Some(here)) = (find(told, name), find(here, name)) else { continue };
            let identities = |element: &Element<'_>| {
                let mut found = Vec::new();
                leaves(element, &mut |leaf| found.extend(value_of(leaf)));
                found
            };
            for (told, here) in identities(&told).into_iter().zip(identities(&here)) {
                if told != here && matches!((told, here), (Value::ObjectId(_), Value::ObjectId(_))) {
                    self.0.bind(told, here);
                }
            }
        }
    }
}

/// What matters of a reply to a write: whether it was done, to how many, and what the server made for it.
fn outcome(reply: &[u8]) -> Vec<u8> {
    const FIELDS: [&[u8]; 10] = [
        b"code",
        b"lastErrorObject",
        b"n",
        b"nDeleted",
        b"nInserted",
        b"nMatched",
        b"nModified",
        b"nUpserted",
        b"upserted",
        b"value",
    ];
    let mut out = Vec::new();
    let start = begin(&mut out);
    put_name(Kind::Boolean, b"ok", &mut out);
    out.push(u8::from(is_ok(reply)));
    for element in Elements::readable(reply).filter(|element| FIELDS.contains(&element.name)) {
        match element.name {
            b"value" => put_timeless(&element, 0, &mut out),
            _ => put_element(&element, &mut out),
        }
    }
    put_write_errors(reply, &mut out);
    end(start, &mut out);
    out
}

/// With all times the same: those that a server's clock gave are others there, and nothing tells them from the rest.
fn put_timeless(element: &Element<'_>, depth: usize, out: &mut Vec<u8>) {
    let inner = element.as_document().or(element.as_array()).filter(|_| depth < DEPTH_MAX);
    match (element.kind, inner) {
        (Kind::DateTime | Kind::Timestamp, _) => {
            put_name(element.kind, element.name, out);
            out.extend_from_slice(&[0; 8]);
        }
        (kind, Some(inner)) => {
            put_name(kind, element.name, out);
            let start = begin(out);
            Elements::readable(inner).for_each(|inner| put_timeless(&inner, depth + 1, out));
            end(start, out);
        }
        _ => put_element(element, out),
    }
}

/// Whether a reply says that something was done; there is nothing left as well where nothing was.
fn done(reply: &[u8]) -> Vec<u8> {
    let code = find(reply, b"code").and_then(|code| code.as_i64());
    let is_done = is_ok(reply) || code == Some(NAMESPACE_NOT_FOUND);
    let mut out = Vec::new();
    let start = begin(&mut out);
    put_name(Kind::Boolean, b"ok", &mut out);
    out.push(u8::from(is_done));
    if let Some(code) = code.filter(|_| !is_done) {
        put_code(b"code", code, &mut out);
    }
    put_write_errors(reply, &mut out);
    end(start, &mut out);
    out
}

/// The codes of a write's errors: their messages name what differs from one server to the next.
fn put_write_errors(reply: &[u8], out: &mut Vec<u8>) {
    let errors = find(reply, b"writeErrors").and_then(|errors| errors.as_array()).unwrap_or_default();
    let errors = Elements::readable(errors).filter_map(|error| find(error.as_document()?, b"code")?.as_i64());
    for (place, code) in errors.enumerate() {
        put_code(format!("writeErrors.{place}.code").as_bytes(), code, out);
    }
}

/// The code of an error: an int32, whatever number it came as.
fn put_code(name: &[u8], code: i64, out: &mut Vec<u8>) {
    put_name(Kind::Int32, name, out);
    out.extend_from_slice(&i32::try_from(code).unwrap_or(i32::MAX).to_le_bytes());
}

impl Replaying {
    /// What another server is to do too, if a request was answered with that exchange.
    pub(super) fn followed(
        &self,
        (number, place): (Number, Place),
        request: &Request,
        app_name: Option<&str>,
        reply: Option<&[u8]>,
    ) -> Option<Followed> {
        let effect = &self.recording.index.entry(number)?.effect;
        let transaction = transaction_of(&request.command).map(|(transaction, _)| transaction);
        let step = step(effect, request.name(), transaction)?;
        let empties = matches!(**effect, Effect::Empty(_) | Effect::Drop(_) | Effect::DropDatabase(_));
        let told = match reply {
            Some(reply) if empties => Told { place, outcome: done(reply), is_done: true },
            Some(reply) => Told { place, outcome: outcome(reply), is_done: false },
            None => Told::unacknowledged(place),
        };
        Some(Followed { scope: self.recording.scope(app_name), step, command: request.command.clone(), told })
    }

    /// Who shares what is asked by connections of that application name.
    pub(super) fn scope_of(&self, app_name: Option<&str>) -> Option<Arc<str>> {
        self.recording.scope(app_name)
    }
}

fn step(effect: &Effect, name: &str, transaction: Option<Transaction>) -> Option<Step> {
    match (effect, transaction) {
        (Effect::Commit, transaction) => transaction.map(Step::Commit),
        (Effect::Abort, transaction) => transaction.map(Step::Abort),
        (Effect::None, _) if !changes_users(name) => None,
        (_, Some(transaction)) => Some(Step::Within(transaction)),
        (_, None) => Some(Step::Write),
    }
}

/// Whether a command changes what no answer is known to depend on.
pub(super) fn changes_users(name: &str) -> bool {
    ["create", "update", "drop", "grant", "revoke"].iter().any(|verb| name.starts_with(verb))
        && ["User", "Role"].iter().any(|what| name.contains(what))
}

/// What another server takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Takes {
    /// Whether it has transactions and writes that can be sent again: a replica set's member, or a router.
    pub transactions: bool,
}

impl Takes {
    /// What a server takes that says so in its hello.
    pub fn of_hello(hello: &RawDocument) -> Self {
        let has = |name: &[u8]| find(hello.as_bytes(), name).is_some();
        Self { transactions: has(b"setName") || has(b"msg") }
    }

    /// The command as it is sent there: without the times of the cluster that was recorded, and without the number of a
    /// write that can be sent again where there are none.
    ///
    /// # Errors
    /// If it belongs to a transaction, and there are none.
    pub fn adapted(self, command: &[u8], starts: bool) -> Result<RawDocumentBuf, String> {
        let is_within = transaction_of(command).is_some();
        if is_within && !self.transactions {
            return Err("it is a standalone server, which takes no transactions".to_owned());
        }
        let mut out = Vec::with_capacity(command.len());
        let start = begin(&mut out);
        for element in Elements::readable(command) {
            let is_left_out = match element.name {
                b"$clusterTime" => true,
                b"txnNumber" => !self.transactions,
                b"startTransaction" => starts,
                _ => false,
            };
            if is_left_out {
                continue;
            }
            put_name(element.kind, element.name, &mut out);
            match element.as_document().filter(|_| element.name == b"readConcern") {
                Some(concern) => timeless(concern, &mut out),
                None => out.extend_from_slice(element.value),
            }
        }
        if starts {
            put_name(Kind::Boolean, b"startTransaction", &mut out);
            out.push(1);
        }
        end(start, &mut out);
        RawDocumentBuf::from_bytes(out).map_err(|error| error.to_string())
    }
}

/// A `readConcern` without times of the recorded cluster: the primary of another one is up to date anyway.
fn timeless(concern: &[u8], out: &mut Vec<u8>) {
    put_document(Elements::readable(concern).filter(|element| !READ_CONCERN_TIMES.contains(&element.name)), out);
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn told(reply: &RawDocumentBuf) -> Told {
        Told { place: Place::Line(5), outcome: outcome(reply.as_bytes()), is_done: false }
    }

    #[test]
    fn a_time_of_the_server_is_no_departure() {
        let reply = |n: i32, ms: i64| {
            let at = bson::DateTime::from_millis(ms);
            let value = rawdoc! { "_id": 1, "n": n, "log": [{ "at": at }], "t": bson::Timestamp { time: ms as u32, increment: 1 } };
            rawdoc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "value": value, "ok": 1.0 }
        };
        let departure = |it: &RawDocumentBuf| told(&reply(3, 1)).departure(it, &mut Made::default());
        assert_eq!(departure(&reply(3, 2000)), None);
        assert_eq!(departure(&reply(4, 1)).as_deref(), Some("line 5: value.n is 3 there and 4 here"));
    }

    #[test]
    fn no_time_of_the_recorded_cluster_goes_there() {
        let time = bson::Timestamp { time: 7, increment: 1 };
        for name in [bson::raw::cstr!("atClusterTime"), bson::raw::cstr!("afterClusterTime")] {
            let mut concern = rawdoc! { "level": "snapshot" };
            concern.append(name, time);
            let find =
                rawdoc! { "find": "c", "readConcern": concern, "$clusterTime": { "clusterTime": time }, "$db": "d" };
            let sent = Takes { transactions: true }.adapted(find.as_bytes(), false).unwrap();
            assert_eq!(sent, rawdoc! { "find": "c", "readConcern": { "level": "snapshot" }, "$db": "d" });
        }
    }

    #[test]
    fn what_only_had_to_be_done_departs_if_it_is_not() {
        let refused = rawdoc! { "ok": 0.0, "errmsg": "not authorized", "code": 13 };
        let missing = rawdoc! { "ok": 0.0, "errmsg": "ns not found", "code": 26 };
        let partly = rawdoc! { "n": 1, "writeErrors": [{ "index": 0, "code": 11000 }], "ok": 1.0 };
        let recorded =
            [rawdoc! { "ok": 1.0 }, missing.clone(), rawdoc! { "n": 7, "ok": 1.0 }].map(|it| done(it.as_bytes()));
        for outcome in recorded.into_iter().chain([done(UNTOLD)]) {
            let told = Told { place: Place::Line(5), outcome, is_done: true };
            let departure = |reply: &RawDocumentBuf| told.departure(reply, &mut Made::default());
            assert_eq!(departure(&refused).as_deref(), Some("line 5: ok is true there and false here"));
            assert_eq!(
                departure(&partly).as_deref(),
                Some("line 5: writeErrors.0.code is missing there and 11000 here")
            );
            for same in [&missing, &rawdoc! { "ok": 1.0 }, &rawdoc! { "n": 9, "ok": 1.0 }] {
                assert_eq!(departure(same), None);
            }
        }
        let told = told(&rawdoc! { "n": 1, "ok": 1.0 });
        assert!(told.departure(&rawdoc! { "n": 2, "ok": 1.0 }, &mut Made::default()).is_some());
    }
}
