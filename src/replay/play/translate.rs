//! What is put into a recorded request so that a live server understands it: the cursor that the live server opened,
//! a session of this run, the `_id` that it gave. What says when something was, on the recorded server's clock, is left
//! out, and for a server without transactions what makes a write retryable.

use std::collections::HashMap;

use crate::bson::write::{begin, end, put_name};
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::exchange::{Exchange, opens_change_stream};
use crate::capture::names::{Names, Origin, value_of};

/// Cursors, sessions and `_id`s of the recording, and what they are live.
#[derive(Clone, Debug)]
pub struct Translator {
    /// What makes this run's sessions others than the recorded ones, and than those of other runs.
    run: [u8; 16],
    has_transactions: bool,
    /// Those that are open in the recording; `None` if live they are not.
    cursors: HashMap<i64, Option<Cursor>>,
    object_ids: HashMap<[u8; 12], [u8; 12]>,
    /// Of a fixture: which values its server gave.
    names: Option<Names>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    live: i64,
    watches: bool,
}

/// A request as it is sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Translated {
    /// The command as BSON.
    pub request: Vec<u8>,
    /// It asks a change stream.
    pub watches: bool,
}

/// Why a request cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untranslatable {
    /// It goes on with a cursor that was opened before the recording began.
    #[error("the cursor was opened before the recording began")]
    Before,
    /// It goes on with a cursor that the live server did not open, or that has come to its end there.
    #[error("its cursor is not open on the live server")]
    Cursor,
}

impl Translator {
    /// Knows nothing yet. `run` is to be random; `has_transactions` says whether the live server is one of a replica set or
    /// a sharded cluster, `is_fixture` whether values have names.
    pub fn new(run: [u8; 16], has_transactions: bool, is_fixture: bool) -> Self {
        let names = is_fixture.then(Names::default);
        Self { run, has_transactions, cursors: HashMap::new(), object_ids: HashMap::new(), names }
    }

    /// The request for the live server.
    ///
    /// # Errors
    /// [`Untranslatable`].
    pub fn translate(&self, request: &[u8]) -> Result<Translated, Untranslatable> {
        let mut out = Vec::with_capacity(request.len());
        let start = begin(&mut out);
        let mut watches = opens_change_stream(request);
        let is_retryable = find(request, b"autocommit").is_none();
        for (element, place) in Elements::readable(request).zip(0..) {
            match element.name {
                b"$clusterTime" => {}
                b"txnNumber" if is_retryable && !self.has_transactions => {}
                b"lsid" => self.session(&element, &mut out),
                b"getMore" if place == 0 => {
                    let id = element.as_i64().unwrap_or_default();
                    let cursor = self.cursors.get(&id).ok_or(Untranslatable::Before)?;
                    let cursor = cursor.as_ref().ok_or(Untranslatable::Cursor)?;
                    watches = cursor.watches;
                    put_int64(element.name, cursor.live, &mut out);
                }
                b"cursors" if find(request, b"killCursors").is_some() => self.killed(&element, &mut out)?,
                b"readConcern" => read_concern(&element, &mut out),
                _ => self.copy(&element, &mut out),
            }
        }
        end(start, &mut out);
        Ok(Translated { request: out, watches })
    }

    /// Learns from what was answered, and what is answered now.
    pub fn learn(&mut self, exchange: &Exchange, watches: bool, recorded: &[u8], live: &[u8]) {
        if let Some(names) = &mut self.names {
            names.learn(exchange);
        }
        if let Some((recorded, live)) = cursor_id(recorded).zip(cursor_id(live)).filter(|(recorded, _)| *recorded != 0)
        {
            self.cursors.insert(recorded, (live != 0).then_some(Cursor { live, watches }));
        } else if exchange.name() == "getMore"
            && let Some(id) = find(&exchange.request, b"getMore").and_then(|element| element.as_i64())
        {
            self.cursors.remove(&id);
        }
        let upserted = upserted(recorded).zip(upserted(live)).filter(|(recorded, live)| recorded != live);
        self.object_ids.extend(upserted);
    }

    /// Whether a live value stands where it should: it is what was recorded, or what the live server gave instead.
    pub fn is_same(&mut self, recorded: &Element<'_>, live: &Element<'_>) -> bool {
        let known = recorded
            .value
            .first_chunk::<12>()
            .zip(live.value.first_chunk())
            .filter(|_| recorded.kind == Kind::ObjectId && live.kind == Kind::ObjectId);
        if let Some(bound) = known.and_then(|(recorded, _)| self.object_ids.get(recorded)) {
            return live.value == bound;
        }
        let name = self.names.as_ref().zip(value_of(recorded)).and_then(|(names, value)| names.get(value));
        let is_given = recorded.kind == live.kind && name.is_some_and(|name| name.origin == Origin::Given);
        if let Some((recorded, live)) = known.filter(|_| is_given) {
            self.object_ids.insert(*recorded, *live);
        }
        is_given
    }

    /// A session has the recorded one's id, combined with the run's: different ones stay different.
    fn session(&self, element: &Element<'_>, out: &mut Vec<u8>) {
        let fields = element.as_document().unwrap_or_default();
        put_name(Kind::Document, element.name, out);
        let start = begin(out);
        for field in Elements::readable(fields).filter(|field| field.name == b"id") {
            put_name(field.kind, field.name, out);
            // A binary is its length, its subtype and its bytes.
            let (head, id) = field.value.split_at(field.value.len().min(5));
            out.extend_from_slice(head);
            out.extend(id.iter().zip(self.run.iter().cycle()).map(|(byte, own)| byte ^ own));
        }
        end(start, out);
    }

    /// The cursors of the list that are open.
    fn killed(&self, element: &Element<'_>, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        let ids = Elements::readable(element.as_array().unwrap_or_default()).filter_map(|id| id.as_i64());
        let known: Vec<_> = ids.filter_map(|id| self.cursors.get(&id)).collect();
        let live: Vec<_> = known.iter().filter_map(|cursor| cursor.map(|cursor| cursor.live)).collect();
        if live.is_empty() {
            return Err(if known.is_empty() { Untranslatable::Before } else { Untranslatable::Cursor });
        }
        put_name(Kind::Array, element.name, out);
        let start = begin(out);
        live.iter().zip(0..).for_each(|(id, place)| put_int64(place.to_string().as_bytes(), *id, out));
        end(start, out);
        Ok(())
    }

    /// The element, with the live `_id`s in it.
    fn copy(&self, element: &Element<'_>, out: &mut Vec<u8>) {
        put_name(element.kind, element.name, out);
        let inner = element.as_document().or_else(|| element.as_array()).filter(|_| !self.object_ids.is_empty());
        match (inner, element.kind) {
            (Some(inner), _) => {
                let start = begin(out);
                Elements::readable(inner).for_each(|element| self.copy(&element, out));
                end(start, out);
            }
            (None, Kind::ObjectId) => {
                out.extend_from_slice(live_id(&self.object_ids, element.value));
            }
            (None, _) => out.extend_from_slice(element.value),
        }
    }
}

fn live_id<'v>(object_ids: &'v HashMap<[u8; 12], [u8; 12]>, recorded: &'v [u8]) -> &'v [u8] {
    object_ids.get(recorded).map_or(recorded, |id| &id[..])
}

/// The read concern without times: those of another server mean nothing.
fn read_concern(element: &Element<'_>, out: &mut Vec<u8>) {
    const TIMES: [&[u8]; 2] = [b"afterClusterTime", b"atClusterTime"];
    let fields = Elements::readable(element.as_document().unwrap_or_default());
    let kept: Vec<_> = fields.filter(|field| !TIMES.contains(&field.name)).collect();
    if kept.is_empty() {
        return;
    }
    put_name(Kind::Document, element.name, out);
    let start = begin(out);
    for field in kept {
        put_name(field.kind, field.name, out);
        out.extend_from_slice(field.value);
    }
    end(start, out);
}

fn put_int64(name: &[u8], number: i64, out: &mut Vec<u8>) {
    put_name(Kind::Int64, name, out);
    out.extend_from_slice(&number.to_le_bytes());
}

fn cursor_id(reply: &[u8]) -> Option<i64> {
    find(find(reply, b"cursor")?.as_document()?, b"id")?.as_i64()
}

/// The `_id`s that a server made for documents that it inserted by itself.
fn upserted(reply: &[u8]) -> impl Iterator<Item = [u8; 12]> {
    let list = find(reply, b"upserted").and_then(|list| list.as_array()).unwrap_or_default();
    let listed = Elements::readable(list).filter_map(|element| find(element.as_document()?, b"_id"));
    let last = find(reply, b"lastErrorObject").and_then(|last| find(last.as_document()?, b"upserted"));
    listed.chain(last).filter(|id| id.kind == Kind::ObjectId).filter_map(|id| id.value.first_chunk().copied())
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::spec::BinarySubtype;
    use bson::{Binary, Timestamp, doc, rawdoc};

    use super::*;
    use crate::capture::exchange::testing;

    fn session(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
    }

    fn translated(translator: &Translator, request: &RawDocumentBuf) -> Result<RawDocumentBuf, Untranslatable> {
        let translated = translator.translate(request.as_bytes())?;
        Ok(RawDocumentBuf::from_bytes(translated.request).unwrap())
    }

    #[test]
    fn what_is_another_servers_is_exchanged_or_left_out() {
        let translator = Translator::new([3; 16], true, false);
        let time = Timestamp { time: 7, increment: 1 };
        let request = rawdoc! {
            "find": "c", "filter": { "$clusterTime": 1 }, "lsid": { "id": session(1), "uid": session(9) }, "txnNumber": 4_i64,
            "readConcern": { "level": "majority", "afterClusterTime": time }, "$clusterTime": { "clusterTime": time }, "$db": "d",
        };
        let expected = rawdoc! {
            "find": "c", "filter": { "$clusterTime": 1 }, "lsid": { "id": session(2) }, "txnNumber": 4_i64,
            "readConcern": { "level": "majority" }, "$db": "d",
        };
        assert_eq!(translated(&translator, &request), Ok(expected));
        let bare = rawdoc! { "find": "c", "readConcern": { "afterClusterTime": time } };
        assert_eq!(translated(&translator, &bare), Ok(rawdoc! { "find": "c" }));
    }

    #[test]
    fn cursors_are_those_of_the_live_server() {
        let mut translator = Translator::new([0; 16], true, false);
        let reply = |id: i64| rawdoc! { "cursor": { "id": id, "firstBatch": [] }, "ok": 1 };
        let more = rawdoc! { "getMore": 5_i64, "collection": "c" };
        assert_eq!(translated(&translator, &more), Err(Untranslatable::Before));
        let find = testing::exchange(&doc! { "find": "c" }, &[], 0);
        translator.learn(&find, false, reply(5).as_bytes(), reply(77).as_bytes());
        assert_eq!(translated(&translator, &more), Ok(rawdoc! { "getMore": 77_i64, "collection": "c" }));
        let kill = rawdoc! { "killCursors": "c", "cursors": [5_i64, 6_i64] };
        assert_eq!(translated(&translator, &kill), Ok(rawdoc! { "killCursors": "c", "cursors": [77_i64] }));
        let last = testing::exchange(&doc! { "getMore": 5_i64, "collection": "c" }, &[], 0);
        translator.learn(&last, false, reply(0).as_bytes(), reply(0).as_bytes());
        assert_eq!(translated(&translator, &more), Err(Untranslatable::Before));
        translator.learn(&find, false, reply(5).as_bytes(), reply(0).as_bytes());
        assert_eq!(translated(&translator, &more), Err(Untranslatable::Cursor));
        assert_eq!(translated(&translator, &kill), Err(Untranslatable::Cursor));
    }

    #[test]
    fn retryable_writes_are_plain_ones_where_there_are_no_transactions() {
        let translator = Translator::new([0; 16], false, false);
        let insert = rawdoc! { "insert": "c", "txnNumber": 4_i64 };
        assert_eq!(translated(&translator, &insert), Ok(rawdoc! { "insert": "c" }));
        let within = rawdoc! { "insert": "c", "txnNumber": 4_i64, "autocommit": false };
        assert_eq!(translated(&translator, &within), Ok(within.clone()));
    }

    #[test]
    fn what_a_server_made_the_live_one_makes_anew() {
        let id = |byte: u8| bson::oid::ObjectId::from_bytes([byte; 12]);
        let reply = |byte: u8| doc! { "lastErrorObject": { "upserted": id(byte) }, "ok": 1 };
        let (recorded, live) = (reply(1).to_vec().unwrap(), reply(2).to_vec().unwrap());
        let exchange = testing::exchange(&doc! { "findAndModify": "c" }, &[&reply(1)], 0);
        let same = |is_fixture| {
            let mut translator = Translator::new([0; 16], true, is_fixture);
            translator.learn(&exchange, false, &recorded, &live);
            let path: [&[u8]; 2] = [b"lastErrorObject", b"upserted"];
            let [one, other] = [&recorded, &live].map(|reply| crate::bson::find_path(reply, &path).unwrap());
            let is_same = translator.is_same(&one, &other);
            (is_same, translated(&translator, &rawdoc! { "find": "c", "filter": { "_id": id(1) } }))
        };
        let find = |byte: u8| rawdoc! { "find": "c", "filter": { "_id": id(byte) } };
        assert_eq!(same(true), (true, Ok(find(2))));
        assert_eq!(same(false), (true, Ok(find(2))));
    }

    #[test]
    fn ids_that_the_server_gave_are_the_live_ones() {
        let mut translator = Translator::new([0; 16], true, false);
        let id = |byte: u8| bson::oid::ObjectId::from_bytes([byte; 12]);
        let reply = |byte: u8| rawdoc! { "n": 1, "upserted": [{ "index": 0, "_id": id(byte) }], "ok": 1 };
        let update = testing::exchange(&doc! { "update": "c" }, &[], 0);
        translator.learn(&update, false, reply(1).as_bytes(), reply(2).as_bytes());
        let find = |byte: u8| rawdoc! { "find": "c", "filter": { "_id": { "$in": [id(byte), id(9)] } } };
        assert_eq!(translated(&translator, &find(1)), Ok(find(2)));
    }
}
