//! What is put into a recorded request so that a live server understands it: the cursor that the live server opened,
//! a session of this run, the `_id` that it gave, the place in a change stream that it told. What says when something was,
//! on the recorded server's clock, is left out or the live server's time, and for a server without transactions what makes
//! a write retryable is left out.

use std::collections::HashMap;

use super::known::Moments;
use super::streams::{Streams, Told};
use super::values::{Answered, Values};
use crate::bson::write::{begin, end, put_document, put_name};
use crate::bson::{Element, Elements, Kind, find};
use crate::capture::exchange::{Exchange, READ_CONCERN_TIMES, opens_change_stream};
use crate::event::Timestamp;
use crate::replay::streams::is_stream;

/// Cursors, sessions and `_id`s of the recording, and what they are live.
#[derive(Clone, Debug)]
pub struct Translator {
    /// What makes this run's sessions others than the recorded ones, and than those of other runs.
    run: [u8; 16],
    has_transactions: bool,
    /// Those that are open in the recording; `None` if live they are not.
    cursors: HashMap<i64, Option<Cursor>>,
    values: Values,
    streams: Streams,
    /// The `operationTime`s of replies.
    operation_times: Moments,
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
    /// It asks a cursor that waits for what comes: a change stream, or a tailable one.
    pub watches: bool,
}

/// Why a request cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Untranslatable {
    /// It goes on with a cursor or a change stream from before the recording.
    #[error("what it goes on with is from before the recording began")]
    Before,
    /// It goes on with a cursor that the live server did not open, or that has come to its end there.
    #[error("its cursor is not open on the live server")]
    Cursor,
    /// It goes on behind a change that was told in the recording.
    #[error("the live server has not told of the change behind which it goes on")]
    Change,
}

impl Translator {
    /// Knows nothing yet. `run` is to be random; `has_transactions` says whether the live server is one of a replica set or
    /// a sharded cluster, `is_fixture` whether values have names.
    pub fn new(run: [u8; 16], has_transactions: bool, is_fixture: bool) -> Self {
        Self {
            run,
            has_transactions,
            cursors: HashMap::new(),
            values: Values::new(is_fixture),
            streams: Streams::default(),
            operation_times: Moments::default(),
        }
    }

    /// The request for the live server, to be sent now.
    ///
    /// # Errors
    /// [`Untranslatable`].
    pub fn translate(&mut self, exchange: &Exchange, now: Timestamp) -> Result<Translated, Untranslatable> {
        self.values.begin(exchange, now);
        let (request, at) = (exchange.request.as_slice(), exchange.at);
        let mut out = Vec::with_capacity(request.len());
        let start = begin(&mut out);
        let mut watches = is_stream(request);
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
                b"pipeline" if opens_change_stream(request) => self.pipeline(&element, at, &mut out)?,
                _ => self.copy(&element, at, &mut out),
            }
        }
        end(start, &mut out);
        Ok(Translated { request: out, watches })
    }

    /// Learns from what was answered, and what is answered now.
    pub fn learn(&mut self, exchange: &Exchange, watches: bool, recorded: &[u8], live: &[u8]) {
        if let Some((recorded, live)) = cursor_id(recorded).zip(cursor_id(live)).filter(|(recorded, _)| *recorded != 0)
        {
            self.cursors.insert(recorded, (live != 0).then_some(Cursor { live, watches }));
        } else if exchange.name() == "getMore"
            && let Some(id) = find(&exchange.request, b"getMore").and_then(|element| element.as_i64())
        {
            self.cursors.remove(&id);
        }
        self.values.learn(recorded, live);
        if let Some((recorded, live)) = operation_time(recorded).zip(operation_time(live)) {
            self.operation_times.note(recorded, live);
        }
    }

    /// Whether a live value stands where it should: it is what the live server gave instead of the recorded one.
    pub fn is_same(&mut self, recorded: &Element<'_>, live: &Element<'_>, at: Answered) -> bool {
        self.values.is_same(recorded, live, at)
    }

    /// What both sides have told by now, of a reply of a cursor that waits for what comes.
    pub(super) fn told(&mut self, exchange: &Exchange, recorded: &[u8], live: &[u8]) -> Vec<Told> {
        let asked = find(&exchange.request, b"getMore").and_then(|element| element.as_i64());
        let id = asked.or_else(|| cursor_id(recorded)).unwrap_or_default();
        self.streams.take(exchange, id, recorded, live)
    }

    /// What change streams and tailable cursors told in the recording and have not told live: of each the last exchange
    /// that told some of it, and how much it is.
    pub fn untold(&self) -> Vec<(&Exchange, usize)> {
        self.streams.untold()
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
    fn killed(&mut self, element: &Element<'_>, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        let ids = Elements::readable(element.as_array().unwrap_or_default()).filter_map(|id| id.as_i64());
        let known: Vec<_> = ids.inspect(|id| self.streams.end(*id)).filter_map(|id| self.cursors.get(&id)).collect();
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

    /// The pipeline of a change stream: it begins where the live server says that the recorded place is.
    fn pipeline(&mut self, element: &Element<'_>, at: Timestamp, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        put_name(element.kind, element.name, out);
        let start = begin(out);
        for stage in Elements::readable(element.value) {
            let options =
                find(stage.value, b"$changeStream").filter(|it| stage.kind == Kind::Document && it.kind == stage.kind);
            let Some(options) = options else {
                self.copy(&stage, at, out);
                continue;
            };
            put_name(stage.kind, stage.name, out);
            let stage = begin(out);
            put_name(options.kind, options.name, out);
            let inner = begin(out);
            for option in Elements::readable(options.value) {
                match option.name {
                    b"resumeAfter" | b"startAfter" => {
                        let live = self.streams.token(option.value)?;
                        put_name(option.kind, option.name, out);
                        out.extend_from_slice(live);
                    }
                    b"startAtOperationTime" => {
                        if let Some(live) = number(&option).and_then(|time| self.operation_times.before(time)) {
                            put_name(option.kind, option.name, out);
                            out.extend_from_slice(&live.to_le_bytes());
                        }
                    }
                    _ => self.copy(&option, at, out),
                }
            }
            end(inner, out);
            end(stage, out);
        }
        end(start, out);
        Ok(())
    }

    /// The element, with live values in it.
    fn copy(&mut self, element: &Element<'_>, at: Timestamp, out: &mut Vec<u8>) {
        put_name(element.kind, element.name, out);
        match element.as_document().or_else(|| element.as_array()) {
            Some(inner) => {
                let start = begin(out);
                Elements::readable(inner).for_each(|element| self.copy(&element, at, out));
                end(start, out);
            }
            None => match self.values.live(element, at) {
                Some(live) => out.extend_from_slice(&live),
                None => out.extend_from_slice(element.value),
            },
        }
    }
}

/// The read concern without times: those of another server mean nothing.
fn read_concern(element: &Element<'_>, out: &mut Vec<u8>) {
    let fields = Elements::readable(element.as_document().unwrap_or_default());
    let mut kept = fields.filter(|field| !READ_CONCERN_TIMES.contains(&field.name)).peekable();
    if kept.peek().is_none() {
        return;
    }
    put_name(Kind::Document, element.name, out);
    put_document(kept, out);
}

fn put_int64(name: &[u8], number: i64, out: &mut Vec<u8>) {
    put_name(Kind::Int64, name, out);
    out.extend_from_slice(&number.to_le_bytes());
}

fn cursor_id(reply: &[u8]) -> Option<i64> {
    find(find(reply, b"cursor")?.as_document()?, b"id")?.as_i64()
}

fn operation_time(reply: &[u8]) -> Option<u64> {
    number(&find(reply, b"operationTime")?)
}

/// A timestamp as one number: the later, the larger.
fn number(element: &Element<'_>) -> Option<u64> {
    element.value.first_chunk().filter(|_| element.kind == Kind::Timestamp).map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::spec::BinarySubtype;
    use bson::{Binary, doc, rawdoc};

    use super::*;
    use crate::capture::exchange::testing;

    fn session(byte: u8) -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] }
    }

    fn translated(translator: &mut Translator, request: &RawDocumentBuf) -> Result<RawDocumentBuf, Untranslatable> {
        let mut exchange = testing::exchange(&doc! {}, &[], 0);
        exchange.request = request.as_bytes().to_vec();
        let translated = translator.translate(&exchange, Timestamp::default())?;
        Ok(RawDocumentBuf::from_bytes(translated.request).unwrap())
    }

    #[test]
    fn what_is_another_servers_is_exchanged_or_left_out() {
        let mut translator = Translator::new([3; 16], true, false);
        let time = bson::Timestamp { time: 7, increment: 1 };
        let request = rawdoc! {
            "find": "c", "filter": { "$clusterTime": 1 }, "lsid": { "id": session(1), "uid": session(9) }, "txnNumber": 4_i64,
            "readConcern": { "level": "majority", "afterClusterTime": time }, "$clusterTime": { "clusterTime": time }, "$db": "d",
        };
        let expected = rawdoc! {
            "find": "c", "filter": { "$clusterTime": 1 }, "lsid": { "id": session(2) }, "txnNumber": 4_i64,
            "readConcern": { "level": "majority" }, "$db": "d",
        };
        assert_eq!(translated(&mut translator, &request), Ok(expected));
        let bare = rawdoc! { "find": "c", "readConcern": { "afterClusterTime": time } };
        assert_eq!(translated(&mut translator, &bare), Ok(rawdoc! { "find": "c" }));
    }

    #[test]
    fn cursors_are_those_of_the_live_server() {
        let mut translator = Translator::new([0; 16], true, false);
        let reply = |id: i64| rawdoc! { "cursor": { "id": id, "firstBatch": [] }, "ok": 1 };
        let more = rawdoc! { "getMore": 5_i64, "collection": "c" };
        assert_eq!(translated(&mut translator, &more), Err(Untranslatable::Before));
        let find = testing::exchange(&doc! { "find": "c" }, &[], 0);
        translator.learn(&find, false, reply(5).as_bytes(), reply(77).as_bytes());
        assert_eq!(translated(&mut translator, &more), Ok(rawdoc! { "getMore": 77_i64, "collection": "c" }));
        let kill = rawdoc! { "killCursors": "c", "cursors": [5_i64, 6_i64] };
        assert_eq!(translated(&mut translator, &kill), Ok(rawdoc! { "killCursors": "c", "cursors": [77_i64] }));
        let last = testing::exchange(&doc! { "getMore": 5_i64, "collection": "c" }, &[], 0);
        translator.learn(&last, false, reply(0).as_bytes(), reply(0).as_bytes());
        assert_eq!(translated(&mut translator, &more), Err(Untranslatable::Before));
        translator.learn(&find, false, reply(5).as_bytes(), reply(0).as_bytes());
        assert_eq!(translated(&mut translator, &more), Err(Untranslatable::Cursor));
        assert_eq!(translated(&mut translator, &kill), Err(Untranslatable::Cursor));
    }

    #[test]
    fn retryable_writes_are_plain_ones_where_there_are_no_transactions() {
        let mut translator = Translator::new([0; 16], false, false);
        let insert = rawdoc! { "insert": "c", "txnNumber": 4_i64 };
        assert_eq!(translated(&mut translator, &insert), Ok(rawdoc! { "insert": "c" }));
        let within = rawdoc! { "insert": "c", "txnNumber": 4_i64, "autocommit": false };
        assert_eq!(translated(&mut translator, &within), Ok(within.clone()));
    }

    #[test]
    fn what_a_server_made_the_live_one_makes_anew() {
        let id = |byte: u8| bson::oid::ObjectId::from_bytes([byte; 12]);
        let reply = |byte: u8| doc! { "lastErrorObject": { "upserted": id(byte) }, "ok": 1 };
        let (recorded, live) = (reply(1).to_vec().unwrap(), reply(2).to_vec().unwrap());
        let exchange = testing::exchange(&doc! { "findAndModify": "c" }, &[&reply(1)], 0);
        let same = |is_fixture| {
            let mut translator = Translator::new([0; 16], true, is_fixture);
            translator.translate(&exchange, Timestamp::default()).unwrap();
            translator.learn(&exchange, false, &recorded, &live);
            let path: [&[u8]; 2] = [b"lastErrorObject", b"upserted"];
            let [one, other] = [&recorded, &live].map(|reply| crate::bson::find_path(reply, &path).unwrap());
            let is_same = translator.is_same(&one, &other, Answered::default());
            (is_same, translated(&mut translator, &rawdoc! { "find": "c", "filter": { "_id": id(1) } }))
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
        assert_eq!(translated(&mut translator, &find(1)), Ok(find(2)));
    }
}
