//! Answers from a recording: the same question gets the same answer.
//!
//! A question is the database and the command, less what differs from one run to the next (sessions, cluster times, read
//! preferences); the order of its top-level fields does not count. One that was recorded several times gets its answers in
//! the recorded order, whoever asks, and the last one from then on. One that was never recorded gets an error that names
//! the nearest that was. A cursor is followed from its first batch on. State and values born in the client are not for here
//! yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::rawdoc;

use super::cursors::{Cursors, cursor_asked};
use super::difference::shown_document;
use super::request::name_of;
use super::{Handshake, Identity, Replies, Request, Responder, difference};
use crate::bson::{Element, Elements, find};
use crate::capture::fixture::{Exchange, Fixture};
use crate::event::Timestamp;

/// Exchanges to answer from, shared by a server's connections.
#[derive(Debug)]
pub struct Recording {
    exchanges: Vec<Exchange>,
    questions: HashMap<Vec<u8>, Question>,
    cursors: Mutex<Cursors>,
}

/// The exchanges with the same question.
#[derive(Debug, Default)]
struct Question {
    exchanges: Vec<usize>,
    asked: AtomicUsize,
}

impl Question {
    /// The exchange that answers this time.
    fn next(&self) -> Option<usize> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        self.exchanges.get(asked).or_else(|| self.exchanges.last()).copied()
    }
}

/// What differs from run to run, or says where to ask and not what.
const IGNORED: [&[u8]; 6] = [b"$clusterTime", b"$db", b"$readPreference", b"lsid", b"operationTime", b"txnNumber"];

impl Recording {
    /// The exchanges of a fixture.
    pub fn new(fixture: Fixture) -> Self {
        let mut questions = HashMap::<_, Question>::new();
        for (index, exchange) in fixture.exchanges.iter().enumerate() {
            let key = key(database_of(&exchange.request), &exchange.request);
            questions.entry(key).or_default().exchanges.push(index);
        }
        Self { exchanges: fixture.exchanges, questions, cursors: Mutex::default() }
    }

    /// The replies to a question; `None` if it was never recorded, or its cursor is not open.
    fn replies(&self, request: &Request) -> Option<Vec<Vec<u8>>> {
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let live = cursor_asked(&request.command).map(|(_, id)| id);
        let index = match live {
            Some(id) => {
                let open = cursors.get(id)?;
                let question = self.questions.get(&key(&request.database, &open.command(&request.command)))?;
                *question.exchanges.iter().find(|index| **index > open.exchange)?
            }
            None => self.questions.get(&key(&request.database, &request.command))?.next()?,
        };
        let replies = &self.exchanges.get(index)?.replies;
        Some(replies.iter().map(|reply| cursors.reply(reply, index, live)).collect())
    }

    /// The error for a question that was never recorded.
    fn miss(&self, request: &Request) -> RawDocumentBuf {
        if let Some((_, id)) = cursor_asked(&request.command)
            && self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(id).is_none()
        {
            let message = format!("cursor id {id} not found");
            return rawdoc! { "ok": 0.0, "errmsg": message, "code": 43, "codeName": "CursorNotFound" };
        }
        let asked = shown_document(&without_ignored(&request.command));
        let mut message = format!("no recorded answer to {asked} on database {:?}; ", request.database);
        let same_name = self.exchanges.iter().filter(|exchange| name_of(&exchange.request) == request.name());
        message.push_str(&match same_name.max_by_key(|exchange| likeness(exchange, request)) {
            Some(nearest) => {
                let differs = differs(nearest, request);
                format!("the nearest question is on line {} of the fixture: {differs}", nearest.line)
            }
            None => format!("no {} was recorded", request.name()),
        });
        rawdoc! { "ok": 0.0, "errmsg": message, "code": 8, "codeName": "UnknownError" }
    }
}

fn database_of(command: &[u8]) -> &str {
    find(command, b"$db").and_then(|element| element.as_str()).unwrap_or_default()
}

fn counted(command: &[u8]) -> impl Iterator<Item = Element<'_>> {
    let elements = Elements::new(command).into_iter().flatten().map_while(Result::ok);
    elements.filter(|element| !IGNORED.contains(&element.name))
}

fn without_ignored(command: &[u8]) -> Vec<u8> {
    let mut fields = counted(command).map(|element| raw(&element));
    let mut document = vec![0; 4];
    document.extend(fields.by_ref().flatten());
    document.push(0);
    let len = i32::try_from(document.len()).unwrap_or(i32::MAX).to_le_bytes();
    if let Some(length) = document.first_chunk_mut() {
        *length = len;
    }
    document
}

fn raw(element: &Element<'_>) -> Vec<u8> {
    [&[element.kind as u8], element.name, &[0], element.value].concat()
}

/// What two askings of the same question have in common, and no two others.
fn key(database: &str, command: &[u8]) -> Vec<u8> {
    let mut fields = counted(command).collect::<Vec<_>>();
    // The first names the command.
    if let Some(rest) = fields.get_mut(1..) {
        rest.sort_by_key(|element| element.name);
    }
    let fields = fields.iter().map(raw).collect::<Vec<_>>().concat();
    [database.as_bytes(), &[0], &fields].concat()
}

/// Where a recorded question differs from one that is asked.
fn differs(recorded: &Exchange, request: &Request) -> String {
    let database = database_of(&recorded.request);
    if database != request.database {
        return format!("its database is {database:?}");
    }
    match difference(&without_ignored(&recorded.request), &without_ignored(&request.command)) {
        Some(difference) => difference.to_string(),
        None => "the order of its fields".to_owned(),
    }
}

/// How near a recorded request of the same name is: the same database counts most, then each field, at any depth, that
/// both have, and more if its value is the same.
fn likeness(recorded: &Exchange, request: &Request) -> usize {
    let same_database = database_of(&recorded.request) == request.database;
    let shared = shared(&without_ignored(&recorded.request), &without_ignored(&request.command));
    usize::from(same_database) * 1000 + shared.min(999)
}

fn shared(ours: &[u8], theirs: &[u8]) -> usize {
    let elements = Elements::new(ours).into_iter().flatten().map_while(Result::ok);
    let both = elements.filter_map(|our| Some((our, find(theirs, our.name)?)));
    both.map(|(our, their)| match our.kind == their.kind && our.kind.is_container() {
        true => 1 + shared(our.value, their.value),
        false => 1 + usize::from((our.kind, our.value) == (their.kind, their.value)),
    })
    .sum()
}

/// A connection that answers from a recording.
#[derive(Debug)]
pub struct Recorded {
    recording: Arc<Recording>,
    handshake: Handshake,
}

impl Recorded {
    /// For the connection to which the server gives that `connectionId`.
    pub fn new(recording: Arc<Recording>, identity: Arc<Identity>, connection_id: i32) -> Self {
        Self { recording, handshake: Handshake::new(identity, connection_id) }
    }

    fn recorded(&self, mut request: Request, documents: &[Vec<u8>], replies: &mut Replies) {
        let mut documents = documents.iter().filter_map(|document| RawDocument::from_bytes(document).ok()).peekable();
        // Its server went away instead.
        if documents.peek().is_none() && request.answered {
            replies.close();
        }
        while let Some(document) = documents.next() {
            if documents.peek().is_none() || !request.exhaust_allowed {
                return replies.reply(&request, document);
            }
            replies.reply_with_more_to_come(&mut request, document);
        }
    }
}

impl Responder for Recorded {
    fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
        // A recorded hello is that of another connection.
        if !request.is_hello()
            && let Some(documents) = self.recording.replies(&request)
        {
            return self.recorded(request, &documents, replies);
        }
        if let Some(request) = self.handshake.handle(request, at, replies) {
            replies.reply(&request, &self.recording.miss(&request));
        }
    }

    fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        self.handshake.tick(at, replies);
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bytes::BytesMut;

    use super::*;
    use crate::capture::fixture::Header;
    use crate::event::Address;
    use crate::replay::decode_reply;
    use crate::wire::{OpMsg, msg_flags};

    fn connection(exchanges: &[(RawDocumentBuf, &[RawDocumentBuf])]) -> Recorded {
        let exchanges = exchanges.iter().enumerate().map(|(index, (request, replies))| Exchange {
            line: index + 2,
            request: request.as_bytes().to_vec(),
            replies: replies.iter().map(|reply| reply.as_bytes().to_vec()).collect(),
        });
        let header = Header { server: String::new(), recorded_with: String::new(), hello: Vec::new() };
        let recording = Recording::new(Fixture { header, exchanges: exchanges.collect() });
        let process = ObjectId::from_bytes([0; 12]);
        let identity = Identity::new(RawDocumentBuf::new(), "6.0.5", process, Address::parse("127.0.0.1:1"));
        Recorded::new(Arc::new(recording), Arc::new(identity), 1)
    }

    fn ask(connection: &mut Recorded, flags: u32, command: &RawDocumentBuf) -> Vec<bson::Document> {
        let mut frame = BytesMut::new();
        OpMsg::new(flags, command.as_bytes()).encode(1, 0, &mut frame).unwrap();
        let mut replies = Replies::default();
        connection.handle(Request::decode(&frame, 1 << 20).unwrap(), Timestamp::default(), &mut replies);
        let document = |frame: bytes::Bytes| {
            let reply = decode_reply(&frame, 1 << 20).unwrap();
            bson::Document::from_reader(reply.document.as_slice()).unwrap()
        };
        std::iter::from_fn(|| replies.next_frame()).map(document).collect()
    }

    #[test]
    fn repeated_questions_get_their_answers_in_order() {
        let question = rawdoc! { "count": "orders", "query": { "paid": true }, "$db": "shop" };
        let mut connection =
            connection(&[(question.clone(), &[rawdoc! { "n": 1 }]), (question, &[rawdoc! { "n": 2 }])]);
        let asked = rawdoc! { "count": "orders", "$db": "shop", "lsid": { "id": 5 }, "query": { "paid": true } };
        let answers = (0..3).flat_map(|_| ask(&mut connection, 0, &asked)).collect::<Vec<_>>();
        assert_eq!(answers, [bson::doc! { "n": 1 }, bson::doc! { "n": 2 }, bson::doc! { "n": 2 }]);
    }

    #[test]
    fn what_was_never_asked_is_told_the_nearest() {
        let mut connection = connection(&[
            (rawdoc! { "find": "orders", "filter": { "paid": true }, "$db": "shop" }, &[rawdoc! { "ok": 1.0 }]),
            (rawdoc! { "count": "orders", "$db": "shop" }, &[rawdoc! { "ok": 1.0 }]),
        ]);
        let mut message = |command| {
            let reply = ask(&mut connection, 0, &command).remove(0);
            assert_eq!(reply.get_f64("ok").unwrap(), 0.0);
            reply.get_str("errmsg").unwrap().to_owned()
        };
        let find = rawdoc! { "find": "orders", "filter": { "paid": false }, "$db": "shop" };
        assert_eq!(
            message(find),
            r#"no recorded answer to {"find":"orders","filter":{"paid":false}} on database "shop"; the nearest question is on line 2 of the fixture: filter.paid is true there and false here"#
        );
        let distinct = message(rawdoc! { "distinct": "orders", "$db": "shop" });
        assert!(distinct.ends_with("; no distinct was recorded"), "{distinct}");
        assert!(
            message(rawdoc! { "count": "orders", "$db": "other" })
                .ends_with(r#"line 3 of the fixture: its database is "shop""#)
        );
    }

    #[test]
    fn exhaust_answers_come_as_they_are_wanted() {
        let question = rawdoc! { "find": "c", "$db": "d" };
        let mut connection = connection(&[(question.clone(), &[rawdoc! { "n": 1 }, rawdoc! { "n": 2 }])]);
        assert_eq!(ask(&mut connection, msg_flags::EXHAUST_ALLOWED, &question).len(), 2);
        assert_eq!(ask(&mut connection, 0, &question).len(), 1);
    }

    #[test]
    fn each_use_of_a_cursor_is_its_own() {
        let find = rawdoc! { "find": "c", "$db": "d" };
        let get_more = |id: i64| rawdoc! { "getMore": id, "collection": "c", "$db": "d" };
        let batch = |id: i64, n: i32| rawdoc! { "cursor": { "id": id, "nextBatch": [{ "n": n }] }, "ok": 1.0 };
        let mut connection =
            connection(&[(find.clone(), &[batch(7, 1)]), (get_more(7), &[batch(7, 2)]), (get_more(7), &[batch(0, 3)])]);
        let mut ask = |command: &RawDocumentBuf| {
            let reply = ask(&mut connection, 0, command).remove(0);
            let Ok(cursor) = reply.get_document("cursor") else { return Err(reply.get_i32("code").unwrap()) };
            let n = cursor.get_array("nextBatch").unwrap()[0].as_document().unwrap().get_i32("n").unwrap();
            Ok((cursor.get_i64("id").unwrap(), n))
        };
        let (one, two) = (ask(&find).unwrap().0, ask(&find).unwrap().0);
        assert_ne!(one, two);
        assert_eq!(ask(&get_more(one)), Ok((one, 2)));
        assert_eq!(ask(&get_more(two)), Ok((two, 2)));
        assert_eq!(ask(&get_more(one)), Ok((0, 3)));
        assert_eq!(ask(&get_more(one)), Err(43));
        assert_eq!(ask(&get_more(two)), Ok((0, 3)));
    }
}
