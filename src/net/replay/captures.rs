//! Reads the files of captures, so that they can be indexed while they are read: some threads read blocks in turns, take
//! them out of their compression and find out what is in their plain messages; whoever asks gets the exchanges in order.
//!
//! The bytes of a block stay on the thread that has them; what goes on is what an index wants to know of them. Where both
//! were is used again for later blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::bodies::IN_MEMORY_MAX;
use crate::capture::blocks::{Blocks, FileBlock};
use crate::capture::exchanges::{Deriving, Found};
use crate::capture::mtap::{CaptureError, Inflater, Stored};
use crate::capture::plain::{Noted, Plain};
use crate::capture::pool::Pool;
use crate::event::Side;
use crate::replay::{Findings, Settings, Walked};

/// Bytes in blocks that are handed on together: for each handing over a thread may have to be woken.
const TOGETHER: usize = 512 << 10;

/// How often blocks are taken before those that were taken first are done with.
const AHEAD_MAX: usize = 8;

/// Threads that look into blocks: with one that pairs what they find, enough for two processors, and no harm on one.
const OPENERS: usize = 2;

/// What is found out about a plain message.
#[derive(Clone, Debug)]
pub(super) struct Note {
    /// About all of its block.
    findings: Arc<Findings>,
    number: usize,
}

impl Note {
    pub(super) fn walked(&self) -> Walked<'_> {
        self.findings.get(self.number)
    }
}

/// What is still to be opened.
struct Shut<'b> {
    blocks: &'b mut Blocks<BufReader<File>>,
    /// How often blocks were taken off it, and how many bytes they say that they hold.
    taken: u64,
    bytes: usize,
}

/// A block, and whether what is in it is to be noted.
type Next = (Result<FileBlock<Stored>, CaptureError>, bool);

struct Opened {
    block: FileBlock,
    noted: Vec<Noted<Note>>,
}

/// Why captures could not be read to their ends.
pub(super) enum Failure {
    Capture(CaptureError),
    /// A thread of it panicked.
    Panic,
}

/// Gives all exchanges to `take`; what was read of the blocks is then in `blocks`.
pub(super) fn read(
    blocks: &mut Blocks<BufReader<File>>,
    settings: &Settings,
    mut take: impl FnMut(Found<Note>),
) -> Result<Deriving<Note>, Failure> {
    let shut = Mutex::new(Shut { blocks, taken: 0, bytes: 0 });
    let next = || shut.lock().unwrap_or_else(PoisonError::into_inner).next();
    let opened = open_by(OPENERS, next, || opener(settings), |opened| derive(opened, &mut take))?;
    opened.map_err(Failure::Capture)
}

/// Has threads open what is next, as long as there is something, and gives it to `take` in its order.
fn open_by<S: Send, O: Send, R, F: FnMut(S) -> O>(
    threads: usize,
    next: impl Fn() -> Option<(u64, S)> + Sync,
    opener: impl Fn() -> F + Sync,
    take: impl FnOnce(&mut dyn Iterator<Item = O>) -> R,
) -> Result<R, Failure> {
    let (give, opened) = mpsc::channel();
    // Whoever takes something needs leave, which comes back when that is done with: nobody runs ahead of a slow one.
    let (done, leave) = mpsc::channel();
    (0..AHEAD_MAX).for_each(|_| _ = done.send(()));
    let leave = Mutex::new(leave);
    let next = || leave.lock().unwrap_or_else(PoisonError::into_inner).recv().ok().and_then(|()| next());
    let (next, opener) = (&next, &opener);
    thread::scope(|scope| {
        // Each ends when there is nothing more, or nobody wants it.
        let openers = vec![give; threads].into_iter();
        let openers = openers.map(|give| {
            scope.spawn(move || {
                let panics = Panics(&give);
                let mut open = opener();
                while let Some((place, shut)) = next() {
                    if panics.0.send(Some((place, open(shut)))).is_err() {
                        return;
                    }
                }
            })
        });
        let openers: Vec<_> = openers.collect();
        let taken = take(&mut InOrder::new(opened.iter().map_while(|opened| opened)).inspect(|_| _ = done.send(())));
        drop((opened, done));
        let ended: Vec<_> = openers.into_iter().map(|opener| opener.join()).collect();
        if ended.iter().all(Result::is_ok) { Ok(taken) } else { Err(Failure::Panic) }
    })
}

/// Tells when its thread panics: what it has taken never comes, and all that the others have would wait for it.
struct Panics<'g, T>(&'g Sender<Option<T>>);

impl<T> Drop for Panics<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            // If nobody wants to know, that is as well.
            _ = self.0.send(None);
        }
    }
}

impl Shut<'_> {
    /// Blocks that are handed on together, with their place among all such. Behind an error there are no more.
    fn next(&mut self) -> Option<(u64, Vec<Next>)> {
        let (mut some, before) = (Vec::new(), self.bytes);
        while self.bytes - before < TOGETHER
            && let Some(block) = self.blocks.next_stored()
        {
            // The documents of the first are kept.
            let is_noted = self.bytes > IN_MEMORY_MAX;
            let len = block.as_ref().map_or(0, |block| block.block.content_len());
            self.bytes = self.bytes.saturating_add(len);
            some.push((block, is_noted));
        }
        let place = self.taken;
        self.taken += 1;
        (!some.is_empty()).then_some((place, some))
    }
}

/// Looks into blocks, one after the other.
fn opener(settings: &Settings) -> impl FnMut(Vec<Next>) -> Vec<Result<Opened, CaptureError>> {
    let (mut inflater, mut noting) = (Inflater::default(), Noting::new(settings));
    let mut open = move |(block, is_noted): Next| match is_noted {
        true => noting.open(&block?, &mut inflater),
        false => Ok(Opened { block: FileBlock::open(&block?, &mut inflater)?, noted: Vec::new() }),
    };
    move |some| some.into_iter().map(&mut open).collect()
}

/// Finds out what is in plain messages.
struct Noting<'s> {
    settings: &'s Settings,
    findings: Pool<Findings>,
    /// For documents that do not stand in a block as they are.
    room: Vec<u8>,
}

impl<'s> Noting<'s> {
    fn new(settings: &'s Settings) -> Self {
        Self { settings, findings: Pool::default(), room: Vec::new() }
    }

    /// Opens a block, and finds out what is in its plain messages.
    fn open(&mut self, shut: &FileBlock<Stored>, inflater: &mut Inflater) -> Result<Opened, CaptureError> {
        let Self { settings, findings, room } = self;
        let inflate_max = shut.header.limits().inflate_max_bytes;
        let mut shared = findings.take();
        let mut noted: Vec<Noted<usize>> = Vec::new();
        // Nobody else holds them yet.
        let Some(found) = Arc::get_mut(&mut shared) else {
            return Ok(Opened { block: shut.open(inflater)?, noted: Vec::new() });
        };
        found.clear();
        let block = shut.open_showing(inflater, |place, message| {
            let Some(plain) = Plain::of(message, inflate_max, room) else { return };
            let before = found.bytes();
            let number = match plain.side {
                Side::Client => found.add_request(plain.document, plain.at, settings),
                Side::Server => found.add_reply(plain.document, plain.at),
            };
            noted.push(plain.noted(place, found.bytes() - before, number));
        })?;
        findings.keep(&shared);
        let note = |number| Note { findings: Arc::clone(&shared), number };
        Ok(Opened { block, noted: noted.into_iter().map(|noted| noted.map(note)).collect() })
    }
}

fn derive(
    opened: &mut dyn Iterator<Item = Vec<Result<Opened, CaptureError>>>,
    take: &mut impl FnMut(Found<Note>),
) -> Result<Deriving<Note>, CaptureError> {
    let mut deriving = Deriving::default();
    for opened in opened.flatten() {
        let Opened { block, noted } = opened?;
        deriving.push_noted(block, noted);
        std::iter::from_fn(|| deriving.pop()).for_each(&mut *take);
    }
    deriving.finish();
    std::iter::from_fn(|| deriving.pop()).for_each(take);
    Ok(deriving)
}

/// What comes with places from 0, in their order.
struct InOrder<I, T> {
    coming: I,
    waiting: BTreeMap<u64, T>,
    next: u64,
}

impl<T, I: Iterator<Item = (u64, T)>> InOrder<I, T> {
    fn new(coming: I) -> Self {
        Self { coming, waiting: BTreeMap::new(), next: 0 }
    }
}

impl<T, I: Iterator<Item = (u64, T)>> Iterator for InOrder<I, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(next) = self.waiting.remove(&self.next) {
                self.next += 1;
                return Some(next);
            }
            self.waiting.extend([self.coming.next()?]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bson::{Bson, Document, doc, oid::ObjectId};
    use bytes::BytesMut;

    use super::*;
    use crate::capture::exchange::Exchange;
    use crate::capture::exchanges::Exchanges;
    use crate::capture::mtap::{Header, Record, Records, write_records};
    use crate::event::{self, Address, Connection, ConnectionId, Given, GivenMessage, Input, Timestamp};
    use crate::replay::Recording;
    use crate::wire::{OpMsg, compress, msg_flags};

    const INFLATE_MAX: usize = 10_000;

    /// A capture that is being written, of connections that are opened by what they say first.
    #[derive(Default)]
    struct Writing {
        records: Records,
        exchange: u64,
        millis: u64,
    }

    impl Writing {
        fn put(&mut self, connection: u64, given: Given<'static>) {
            self.millis += 3;
            let unix_micros = 1_700_000_000_000_000 + self.millis as i64 * 1000;
            let at = Timestamp { monotonic_nanos: self.millis * 1_000_000, unix_micros };
            self.records.push_record(&Record::Input(Input { connection: ConnectionId(connection), at, given }));
        }

        fn open(&mut self, id: u64) {
            let connection = Connection {
                id: ConnectionId(id),
                client: "127.0.0.1:1".to_owned(),
                upstream: "127.0.0.1:27017".to_owned(),
                server: Address::parse("127.0.0.1:27017"),
                tls: false,
            };
            self.put(id, Given::Opened(Arc::new(connection)));
            let client = doc! { "application": { "name": format!("app{id}") } };
            let hello = doc! { "isWritablePrimary": true, "maxWireVersion": 17, "minWireVersion": 0, "ok": 1.0 };
            self.ask(id, &doc! { "hello": 1, "client": client, "$db": "admin" }, Some(&hello));
        }

        fn ask(&mut self, connection: u64, request: &Document, reply: Option<&Document>) -> u64 {
            let exchange = self.begin(connection, request, 0, false);
            if let Some(reply) = reply {
                self.end(connection, exchange, reply, 0);
            }
            exchange
        }

        fn begin(&mut self, connection: u64, request: &Document, flags: u32, compressed: bool) -> u64 {
            self.exchange += 1;
            let exchange = self.exchange;
            let bytes = message(request, exchange as i32, 0, flags, compressed);
            self.message(connection, Side::Client, exchange, bytes);
            exchange
        }

        fn end(&mut self, connection: u64, exchange: u64, reply: &Document, flags: u32) {
            let bytes = message(reply, -(exchange as i32), exchange as i32, flags, false);
            self.message(connection, Side::Server, exchange, bytes);
        }

        fn message(&mut self, connection: u64, side: Side, exchange: u64, bytes: Vec<u8>) {
            self.made_anew(connection, side, exchange, bytes, None);
        }

        fn made_anew(
            &mut self,
            connection: u64,
            side: Side,
            exchange: u64,
            bytes: Vec<u8>,
            original: Option<event::Original<'static>>,
        ) {
            let exchange = Some(event::Exchange(exchange));
            let (took, bytes) = (Duration::ZERO, bytes.into());
            let message = GivenMessage { side, bytes, took, sent_after: None, exchange, continued: None, original };
            self.put(connection, Given::Message(message));
        }

        fn finish(&self) -> Vec<u8> {
            let inflate_max_bytes = INFLATE_MAX;
            let header = Header { max_message_bytes: 48_000_000, inflate_max_bytes, ..Header::default() };
            let mut bytes = header.to_bytes();
            write_records(&self.records, &mut bytes);
            bytes
        }
    }

    fn message(document: &Document, id: i32, response_to: i32, flags: u32, compressed: bool) -> Vec<u8> {
        let (mut plain, mut shorter) = (BytesMut::new(), BytesMut::new());
        let document = document.to_vec().unwrap();
        OpMsg::new(flags, &document).encode(id, response_to, &mut plain).unwrap();
        if !compressed {
            return plain.to_vec();
        }
        compress(&plain, event::Compressor::Zstd, &mut shorter).unwrap();
        shorter.to_vec()
    }

    fn oid(number: u8) -> ObjectId {
        ObjectId::from_bytes([number; 12])
    }

    fn batch(documents: &[Document], id: i64) -> Document {
        doc! { "cursor": { "firstBatch": documents, "id": id, "ns": "d.c" }, "ok": 1.0 }
    }

    /// What an application says in all the ways that an index tells apart.
    fn asked() -> Vec<(Document, Document)> {
        let lsid =
            doc! { "id": Bson::Binary(bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] }) };
        let inside = |mut command: Document, begins: bool| {
            command.extend(doc! { "lsid": lsid.clone(), "txnNumber": 5_i64, "autocommit": false, "$db": "d" });
            if begins {
                command.insert("startTransaction", true);
            }
            command
        };
        let now = bson::DateTime::from_millis(1_700_000_000_050);
        let n = |n: i32| doc! { "n": n, "nModified": n, "ok": 1.0 };
        let join = doc! { "$lookup": { "from": "other", "localField": "a", "foreignField": "b", "as": "all" } };
        let text = oid(9).to_string();
        vec![
            (doc! { "insert": "c", "documents": [{ "_id": oid(1), "at": now, "s": &text }], "$db": "d" }, n(1)),
            (
                doc! { "find": "c", "filter": { "_id": oid(1) }, "$db": "d" },
                batch(&[doc! { "_id": oid(1), "of": oid(3) }], 0),
            ),
            (
                doc! { "find": "c", "filter": { "a": { "$gt": 5 } }, "sort": { "b": 1, "a": 1 }, "$db": "d" },
                batch(&[], 77),
            ),
            (
                doc! { "getMore": 77_i64, "collection": "c", "$db": "d" },
                doc! { "cursor": { "nextBatch": [{ "_id": oid(4) }], "id": 0_i64, "ns": "d.c" }, "ok": 1.0 },
            ),
            (
                doc! { "update": "c", "updates": [{ "q": { "_id": oid(1) }, "u": { "$set": { "x": oid(5) } }, "upsert": true }], "$db": "d" },
                doc! { "n": 1, "nModified": 0, "upserted": [{ "index": 0, "_id": oid(6) }], "ok": 1.0 },
            ),
            (doc! { "delete": "c", "deletes": [{ "q": {}, "limit": 0 }], "$db": "d" }, n(2)),
            (doc! { "delete": "c", "deletes": [{ "q": { "_id": oid(3) }, "limit": 1 }], "$db": "d" }, n(0)),
            (
                doc! { "findAndModify": "c", "query": { "a": 1 }, "update": { "b": oid(8) }, "$db": "d" },
                doc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "value": { "_id": oid(2) }, "ok": 1.0 },
            ),
            (
                doc! { "aggregate": "c", "pipeline": [join, { "$out": "third" }], "cursor": {}, "$db": "d" },
                batch(&[], 0),
            ),
            (
                doc! { "aggregate": "c", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "d" },
                batch(&[], 99),
            ),
            (inside(doc! { "insert": "c", "documents": [{ "_id": oid(10) }] }, true), n(1)),
            (inside(doc! { "find": "c", "filter": {} }, false), batch(&[doc! { "_id": oid(10) }], 0)),
            (inside(doc! { "commitTransaction": 1 }, false), doc! { "ok": 1.0 }),
            (
                doc! { "getMore": 99_i64, "collection": "c", "$db": "d" },
                doc! { "cursor": { "nextBatch": [{ "operationType": "insert", "ns": { "db": "d", "coll": "c" }, "documentKey": { "_id": oid(10) } }], "id": 99_i64, "ns": "d.c", "postBatchResumeToken": { "_data": "1" } }, "ok": 1.0 },
            ),
            (
                doc! { "count": "c", "query": {}, "readConcern": { "afterClusterTime": 5 }, "$db": "d" },
                doc! { "n": 3, "ok": 1.0 },
            ),
            (doc! { "distinct": "c", "key": "a", "$db": "e" }, doc! { "values": [oid(11), &text], "ok": 1.0 }),
            (
                doc! { "insert": "c", "documents": [{ "_id": oid(11) }], "$db": "d" },
                doc! { "ok": 0.0, "code": 11000, "errmsg": "E11000" },
            ),
            (doc! { "drop": "c", "$db": "d" }, doc! { "ok": 0.0, "code": 26 }),
            (
                doc! { "createIndexes": "c", "indexes": [], "$db": "d" },
                doc! { "numIndexesBefore": 1, "numIndexesAfter": 2, "ok": 1.0 },
            ),
            (doc! { "ping": 1, "$db": "admin" }, doc! { "ok": 1.0 }),
            (
                doc! { "find": "c", "filter": {}, "tailable": true, "awaitData": true, "$db": "d" },
                batch(&[doc! { "_id": oid(12) }], 55),
            ),
        ]
    }

    fn capture() -> Vec<u8> {
        let mut writing = Writing::default();
        writing.open(1);
        writing.open(2);
        for (place, (request, reply)) in asked().iter().enumerate() {
            writing.ask(1 + place as u64 % 2, request, Some(reply));
        }
        // All of it once more, on one connection.
        asked().iter().for_each(|(request, reply)| _ = writing.ask(2, request, Some(reply)));
        // Two requests that are answered the other way round; one that is compressed; one with a checksum.
        let find = |n: i32| doc! { "find": "c", "filter": { "n": n }, "$db": "d" };
        let (one, other) = (writing.begin(1, &find(1), 0, false), writing.begin(1, &find(2), 0, true));
        writing.end(1, other, &batch(&[doc! { "_id": oid(20) }], 0), msg_flags::CHECKSUM_PRESENT);
        writing.end(1, one, &batch(&[], 0), 0);
        // One that wants no answer, one whose answer cannot be read, and one that never gets one.
        let unacknowledged = doc! { "insert": "c", "documents": [{}], "writeConcern": { "w": 0 }, "$db": "d" };
        writing.begin(1, &unacknowledged, msg_flags::MORE_TO_COME, false);
        let unread = writing.begin(1, &find(3), 0, false);
        let mut torn = message(&batch(&[], 0), -1, unread as i32, 0, false);
        torn[20] = 9;
        writing.message(1, Side::Server, unread, torn);
        // One whose answer is longer than what is inflated.
        let long = writing.begin(1, &find(7), 0, false);
        let text = "long ".repeat(INFLATE_MAX);
        let bytes = message(&batch(&[doc! { "_id": oid(22), "s": text }], 0), -1, long as i32, 0, true);
        writing.message(1, Side::Server, long, bytes);
        // One whose answer was made anew when it was recorded.
        let masked = writing.begin(1, &find(6), 0, false);
        let bytes = message(&batch(&[doc! { "_id": oid(21), "s": "***" }], 0), -1, masked as i32, 0, false);
        let original = event::Original { length: bytes.len() as i32 + 40, ..event::Original::default() };
        writing.made_anew(1, Side::Server, masked, bytes, Some(original));
        writing.begin(2, &find(4), 0, false);
        writing.put(2, Given::Closed { by: Some(Side::Client), error: None });
        writing.ask(1, &find(5), Some(&batch(&[], 0)));
        writing.finish()
    }

    /// The index, as text whose lines are in some order.
    fn shown(recording: &Recording) -> Vec<String> {
        let mut lines: Vec<_> = format!("{recording:#?}").lines().map(|line| line.trim().to_owned()).collect();
        lines.sort_unstable();
        lines
    }

    fn indexed(settings: &Settings, all: impl Iterator<Item = Found<Note>>) -> Recording {
        let mut indexing = crate::replay::Indexing::new(settings.clone());
        let mut outlines = crate::net::replay::load::Outlines::default();
        for mut found in all {
            outlines.index(&mut found, &mut indexing);
        }
        indexing.finish(Box::new(Vec::new()))
    }

    #[test]
    fn what_is_noted_gives_the_same_index() {
        let capture = capture();
        let ignored =
            Settings { ignore: "a".parse::<crate::replay::Path>().into_iter().collect(), ..Settings::default() };
        let by_app = Settings { scope: crate::replay::Scope::AppName, ..Settings::default() };
        for settings in [Settings::default(), ignored, by_app] {
            let whole: Vec<_> = Exchanges::new([&capture[..]]).map(|exchange| exchange.unwrap()).collect();
            let (mut found, mut with_notes) = (Vec::new(), 0);
            let mut deriving = Deriving::default();
            let (mut inflater, mut noting) = (Inflater::default(), Noting::new(&settings));
            let mut blocks = Blocks::new([&capture[..]]);
            while let Some(block) = blocks.next_stored() {
                let Opened { block, noted } = noting.open(&block.unwrap(), &mut inflater).unwrap();
                deriving.push_noted(block, noted);
            }
            deriving.finish();
            while let Some(it) = deriving.pop() {
                with_notes += usize::from(it.notes.is_some());
                assert!(it.notes.is_none() || it.spots.is_some());
                found.push(it);
            }
            assert!(with_notes > 25 && with_notes < whole.len(), "{with_notes} of {}", whole.len());
            let shape =
                |it: &Exchange| (it.place, it.app_name.clone(), it.phase, it.at, it.wants_reply, it.replies.len());
            let shapes: Vec<_> = found.iter().map(|found| shape(&found.exchange)).collect();
            assert_eq!(shapes, whole.iter().map(shape).collect::<Vec<_>>());
            let whole = whole.into_iter().map(|exchange| Found { exchange, spots: None, notes: None });
            let (noted, whole) = (indexed(&settings, found.into_iter()), indexed(&settings, whole));
            assert_eq!(shown(&noted), shown(&whole));
        }
    }

    #[test]
    fn a_thread_that_panics_ends_it_all() {
        let count = std::sync::atomic::AtomicU64::new(0);
        let order = std::sync::atomic::Ordering::Relaxed;
        // There is no end of what could be opened.
        let next = || Some((count.fetch_add(1, order), ()));
        let opener = || |()| assert!(count.load(order) < 100, "one is asked for too much");
        let taken = open_by(2, next, opener, |opened| opened.count());
        assert!(matches!(taken, Err(Failure::Panic)) && count.load(order) < 200);
    }
}
