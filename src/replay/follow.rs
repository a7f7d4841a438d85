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
use super::effect::{Effect, is_ok};
use super::recording::Number;
use super::replaying::Replaying;
use super::state::Transaction;
use super::transaction::transaction_of;
use crate::bson::write::{begin, end, put_name};
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::exchange::Place;
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
    /// What was answered; `None` if nobody wanted to know.
    pub told: Option<Told>,
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
    /// Whether only the end of it counts: nothing is left, whatever there was.
    empties: bool,
}

impl Told {
    /// How another server's answer differs, in what matters: `line 5: n is 1 there and 0 here`. Identities that it made by
    /// itself stand for the recorded ones from then on.
    pub fn departure(&self, reply: &RawDocument, made: &mut Made) -> Option<String> {
        if self.empties {
            return None;
        }
        let here = outcome(reply.as_bytes());
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
        put_name(element.kind, element.name, &mut out);
        out.extend_from_slice(element.value);
    }
    // Their messages name what differs from one server to the next.
    let errors = find(reply, b"writeErrors").and_then(|errors| errors.as_array()).unwrap_or_default();
    let errors = Elements::readable(errors).filter_map(|error| find(error.as_document()?, b"code")?.as_i64());
    for (place, code) in errors.enumerate() {
        put_name(Kind::Int64, format!("writeErrors.{place}.code").as_bytes(), &mut out);
        out.extend_from_slice(&code.to_le_bytes());
    }
    end(start, &mut out);
    out
}

impl Replaying {
    /// What another server is to do too, if a request was answered with that exchange.
    pub(super) fn followed(
        &self,
        number: Number,
        request: &Request,
        app_name: Option<&str>,
        reply: Option<&[u8]>,
    ) -> Option<Followed> {
        let effect = &self.recording.index.entry(number)?.effect;
        let transaction = transaction_of(&request.command).map(|(transaction, _)| transaction);
        let step = step(effect, request.name(), transaction)?;
        let empties = matches!(**effect, Effect::Empty(_) | Effect::Drop(_) | Effect::DropDatabase(_));
        let place = self.recording.exchange(number)?.place;
        let told = |reply: &[u8]| Told { place, outcome: outcome(reply), empties };
        Some(Followed {
            scope: self.recording.scope(app_name),
            step,
            command: request.command.clone(),
            told: reply.map(told),
        })
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
fn changes_users(name: &str) -> bool {
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

/// A `readConcern` without the time of the recorded cluster: the primary of another one is up to date anyway.
fn timeless(concern: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    for element in Elements::readable(concern).filter(|element| element.name != b"afterClusterTime") {
        put_name(element.kind, element.name, out);
        out.extend_from_slice(element.value);
    }
    end(start, out);
}
