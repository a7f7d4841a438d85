//! `hello` from a recorded one, as the server that gives it: what belongs to a connection or to a running server is made
//! anew, everything else is as it was recorded.
//!
//! An awaitable `hello` is answered when its time is up, for nothing ever changes here; it is never streamed, which
//! `exhaustAllowed` leaves to the server. Commands that drivers send by themselves (`ping`, `buildInfo`, `endSessions`,
//! `killCursors`) are answered too. There are no users: `speculativeAuthenticate` gets no answer within `hello`, and the
//! authentication that follows gets an error that says why.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{CStr, RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use bson::{DateTime, rawdoc};

use super::{Replies, Request};
use crate::bson::{Elements, find, find_path};
use crate::event::{Address, Timestamp};
use crate::wire::Compressor;

/// Who the server is, the same on all its connections.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The recorded reply to `hello`.
    pub hello: RawDocumentBuf,
    /// The version for `buildInfo`, `6.0.5`.
    pub version: String,
    /// The `topologyVersion.processId`, of this run alone.
    pub process_id: ObjectId,
    /// Where it listens: what a member of a recorded replica set calls itself now.
    pub address: Address,
}

/// The handshake, and what comes by itself, of one connection.
#[derive(Debug)]
pub struct Handshake {
    identity: Arc<Identity>,
    connection_id: i32,
    /// An awaitable `hello` that is not answered yet.
    awaiting: Option<Request>,
}

impl Handshake {
    /// For the connection to which the server gives that `connectionId`.
    pub fn new(identity: Arc<Identity>, connection_id: i32) -> Self {
        Self { identity, connection_id, awaiting: None }
    }

    /// Answers the request if it is one of those; gives it back if it is not.
    pub fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) -> Option<Request> {
        if request.is_hello() {
            self.hello(request, at, replies);
            return None;
        }
        let reply = match request.name() {
            "ping" | "endSessions" => rawdoc! { "ok": 1.0 },
            "buildInfo" | "buildinfo" => self.build_info(),
            "killCursors" => kill_cursors(&request),
            "saslStart" | "saslContinue" | "authenticate" => no_users(),
            _ => return Some(request),
        };
        replies.reply(&request, &reply);
        None
    }

    /// Answers an awaitable `hello` whose time is up.
    pub fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        if let Some(request) = self.awaiting.take() {
            replies.reply(&request, &self.hello_reply(&request, at));
        }
    }

    fn hello(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
        match self.await_millis(&request) {
            Some(millis) => {
                let after = |now: u64, in_milli: u64| now.saturating_add(millis.saturating_mul(in_milli));
                replies.tick_at(Timestamp {
                    monotonic_nanos: after(at.monotonic_nanos, 1_000_000),
                    unix_micros: at.unix_micros.saturating_add_unsigned(millis.saturating_mul(1000)),
                });
                self.awaiting = Some(request);
            }
            None => replies.reply(&request, &self.hello_reply(&request, at)),
        }
    }

    /// How long the request waits for a change: not at all if what it knows is another server's topology.
    fn await_millis(&self, request: &Request) -> Option<u64> {
        let known = find_path(&request.command, &[b"topologyVersion", b"processId"])?.as_object_id()?;
        let millis = find(&request.command, b"maxAwaitTimeMS")?.as_i64()?;
        u64::try_from(millis).ok().filter(|_| known == self.identity.process_id)
    }

    fn hello_reply(&self, request: &Request, at: Timestamp) -> RawDocumentBuf {
        let own = self.identity.address.to_string();
        let mut reply = RawDocumentBuf::new();
        if find(&request.command, b"helloOk").is_some_and(|element| element.as_bool_truthy()) {
            reply.append(cstr!("helloOk"), true);
        }
        let process = self.identity.process_id;
        reply.append(cstr!("topologyVersion"), rawdoc! { "processId": process, "counter": 0_i64 });
        for (name, value) in self.identity.hello.iter().flatten() {
            match name.as_str() {
                "isWritablePrimary" | "ismaster" => reply.append(primary_name(request), value),
                "hosts" => reply.append(name, RawArrayBuf::from_iter([own.as_str()])),
                "me" | "primary" => reply.append(name, own.as_str()),
                "ok" => {}
                other if MADE_ANEW.contains(&other) => {}
                _ => reply.append(name, value),
            }
        }
        reply.append(cstr!("localTime"), DateTime::from_millis(at.unix_micros / 1000));
        reply.append(cstr!("connectionId"), self.connection_id);
        let common = common_compressors(request);
        if !common.is_empty() {
            reply.append(cstr!("compression"), common.iter().map(|it| it.as_str()).collect::<RawArrayBuf>());
        }
        reply.append(cstr!("ok"), 1.0);
        reply
    }

    fn build_info(&self) -> RawDocumentBuf {
        let version = &self.identity.version;
        let numbers = version.split(['.', '-']).filter_map(|part| part.parse::<i32>().ok());
        let array = numbers.chain(std::iter::repeat(0)).take(4).collect::<RawArrayBuf>();
        let mut reply = rawdoc! { "version": version.as_str(), "versionArray": array };
        if let Ok(Some(max)) = self.identity.hello.get("maxBsonObjectSize") {
            reply.append(cstr!("maxBsonObjectSize"), max);
        }
        reply.append(cstr!("ok"), 1.0);
        reply
    }
}

/// What a recorded `hello` may hold that is made anew, or was for that client alone, or is about other members.
const MADE_ANEW: [&str; 11] = [
    "$clusterTime",
    "arbiters",
    "compression",
    "connectionId",
    "helloOk",
    "localTime",
    "operationTime",
    "passives",
    "saslSupportedMechs",
    "speculativeAuthenticate",
    "topologyVersion",
];

/// A reply to `hello` without what is made anew for each connection: what a fixture's header holds.
pub fn lasting_hello(reply: &RawDocument) -> RawDocumentBuf {
    let mut lasting = RawDocumentBuf::new();
    for (name, value) in reply.iter().flatten().filter(|(name, _)| !MADE_ANEW.contains(&name.as_str())) {
        lasting.append(name, value);
    }
    lasting
}

/// Legacy hello has the old name in its reply.
fn primary_name(request: &Request) -> &'static CStr {
    if request.name() == "hello" { cstr!("isWritablePrimary") } else { cstr!("ismaster") }
}

/// The compressors that the client names and that are known here, in its order. `noop` is no server's offer.
fn common_compressors(request: &Request) -> Vec<Compressor> {
    let array = find(&request.command, b"compression").and_then(|element| element.as_array());
    let names = array.and_then(|array| Elements::new(array).ok()).into_iter().flatten().flatten();
    let known = names.filter_map(|element| Compressor::from_name(element.as_str()?));
    known.filter(|compressor| *compressor != Compressor::Noop).collect()
}

/// Cursors are gone when they are killed, whether they were there or not.
fn kill_cursors(request: &Request) -> RawDocumentBuf {
    let array = find(&request.command, b"cursors").and_then(|element| element.as_array());
    let elements = array.and_then(|array| Elements::new(array).ok()).into_iter().flatten().flatten();
    let ids = elements.filter_map(|element| element.as_i64()).collect::<RawArrayBuf>();
    rawdoc! {
        "cursorsKilled": ids, "cursorsNotFound": [], "cursorsAlive": [], "cursorsUnknown": [], "ok": 1.0,
    }
}

fn no_users() -> RawDocumentBuf {
    rawdoc! {
        "ok": 0.0, "errmsg": "this server answers from a recording and has no users: connect without credentials",
        "code": 18, "codeName": "AuthenticationFailed",
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::replay::decode_reply;
    use crate::wire::OpMsg;

    const PROCESS: ObjectId = ObjectId::from_bytes([7; 12]);

    fn handshake() -> Handshake {
        let hello = rawdoc! {
            "isWritablePrimary": true, "hosts": ["a:1", "b:2"], "me": "a:1", "maxWireVersion": 17,
            "topologyVersion": { "processId": ObjectId::from_bytes([1; 12]), "counter": 6_i64 }, "localTime": 5, "ok": 1.0,
        };
        let address = Address::parse("127.0.0.1:27017");
        Handshake::new(Arc::new(Identity { hello, version: "6.0.5".to_owned(), process_id: PROCESS, address }), 3)
    }

    fn request(command: &RawDocument) -> Request {
        let mut frame = BytesMut::new();
        OpMsg::new(0, command.as_bytes()).encode(1, 0, &mut frame).unwrap();
        Request::decode(&frame, 1 << 20).unwrap()
    }

    fn document(replies: &mut Replies) -> Option<bson::Document> {
        let reply = decode_reply(&replies.next_frame()?, 1 << 20).unwrap();
        Some(bson::Document::from_reader(reply.document.as_slice()).unwrap())
    }

    const AT: Timestamp = Timestamp { monotonic_nanos: 9, unix_micros: 1_000_000 };

    #[test]
    fn hello_is_the_servers_own() {
        let mut replies = Replies::default();
        let asked =
            rawdoc! { "hello": 1, "helloOk": true, "compression": ["noop", "zstd", "other", "zlib"], "$db": "admin" };
        assert_eq!(handshake().handle(request(&asked), AT, &mut replies), None);
        let expected = bson::doc! {
            "helloOk": true, "topologyVersion": { "processId": PROCESS, "counter": 0_i64 }, "isWritablePrimary": true,
            "hosts": ["127.0.0.1:27017"], "me": "127.0.0.1:27017", "maxWireVersion": 17,
            "localTime": DateTime::from_millis(1000), "connectionId": 3, "compression": ["zstd", "zlib"], "ok": 1.0,
        };
        assert_eq!(document(&mut replies), Some(expected));
        handshake().handle(request(&rawdoc! { "ismaster": 1, "$db": "admin" }), AT, &mut replies);
        let legacy = document(&mut replies).unwrap();
        assert_eq!((legacy.get_bool("ismaster").unwrap(), legacy.contains_key("isWritablePrimary")), (true, false));
    }

    #[test]
    fn an_awaitable_hello_waits() {
        let (mut replies, mut handshake) = (Replies::default(), handshake());
        let asked = |process: ObjectId| {
            let version = rawdoc! { "processId": process, "counter": 0_i64 };
            request(&rawdoc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 10_000_i64, "$db": "admin" })
        };
        handshake.handle(asked(ObjectId::from_bytes([1; 12])), AT, &mut replies);
        assert!(document(&mut replies).is_some(), "another process: at once");
        handshake.handle(asked(PROCESS), AT, &mut replies);
        assert_eq!(document(&mut replies), None);
        let due = Timestamp { monotonic_nanos: 10_000_000_009, unix_micros: 11_000_000 };
        assert_eq!(replies.take_tick(), Some(due));
        handshake.tick(due, &mut replies);
        let reply = document(&mut replies).unwrap();
        assert_eq!(reply.get_datetime("localTime").unwrap(), &DateTime::from_millis(11_000));
    }

    #[test]
    fn what_drivers_send_by_themselves_is_answered() {
        let mut replies = Replies::default();
        let mut ask = |command: RawDocumentBuf| {
            assert_eq!(handshake().handle(request(&command), AT, &mut replies), None);
            document(&mut replies).unwrap()
        };
        assert_eq!(ask(rawdoc! { "ping": 1 }), bson::doc! { "ok": 1.0 });
        assert_eq!(
            ask(rawdoc! { "buildInfo": 1 }).get_array("versionArray").unwrap(),
            &bson::bson!([6, 0, 5, 0]).as_array().unwrap().clone()
        );
        assert_eq!(
            ask(rawdoc! { "killCursors": "c", "cursors": [5_i64] }).get_array("cursorsKilled").unwrap().len(),
            1
        );
        assert!(ask(rawdoc! { "saslStart": 1 }).get_str("errmsg").unwrap().contains("no users"));
        let find = request(&rawdoc! { "find": "c", "$db": "d" });
        assert_eq!(handshake().handle(find.clone(), AT, &mut replies), Some(find));
    }
}
