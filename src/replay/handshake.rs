//! `hello` from a recorded one, as the server that gives it: what belongs to a connection or to a running server is made
//! anew, everything else is as it was recorded.
//!
//! An awaitable `hello` is answered when its time is up, for nothing ever changes here; a client that takes a stream of
//! them (`exhaustAllowed`) gets one. Commands that drivers send by themselves (`ping`, `buildInfo`, `endSessions`,
//! `killCursors`) are answered too, and those of authentication.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::{CStr, RawArrayBuf, RawDocumentBuf, cstr};
use bson::{DateTime, RawBsonRef, Timestamp as BsonTimestamp, rawdoc};

use super::authentication::{Authentication, Users};
use super::{Replies, Request};
use crate::bson::{Elements, find, find_path};
use crate::capture::fixture::is_passing;
use crate::event::{Address, Timestamp};
use crate::wire::Compressor;

/// Who the server is, the same on all its connections.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The recorded reply to `hello`.
    hello: RawDocumentBuf,
    /// The version for `buildInfo`, `6.0.5`.
    version: String,
    /// The `topologyVersion.processId`, of this run alone.
    process_id: ObjectId,
    /// Where it listens: what a member of a recorded replica set calls itself now.
    address: Address,
    /// What the members of the recorded replica set are called now, by their recorded names. Empty if this one stands
    /// for the whole set.
    names: BTreeMap<String, Address>,
    users: Arc<Users>,
}

impl Identity {
    /// A server that gives that `hello`, a recorded one, and listens there. It stands for the whole of a replica set, and
    /// nobody can authenticate.
    pub fn new(hello: RawDocumentBuf, version: impl Into<String>, process_id: ObjectId, address: Address) -> Self {
        let users = Arc::new(Users::nobody());
        Self { hello, version: version.into(), process_id, address, names: BTreeMap::new(), users }
    }

    /// The same as one of several members: what they are called now, by their recorded names.
    #[must_use]
    pub fn with_names(self, names: BTreeMap<String, Address>) -> Self {
        Self { names, ..self }
    }

    /// The same with users who can authenticate.
    #[must_use]
    pub fn with_users(self, users: Arc<Users>) -> Self {
        Self { users, ..self }
    }

    /// Members' names as they are now. Who stands for the whole set is alone in it.
    fn hosts(&self, recorded: RawBsonRef<'_>) -> RawArrayBuf {
        if self.names.is_empty() {
            return RawArrayBuf::from_iter([self.address.to_string()]);
        }
        let recorded = recorded.as_array().into_iter().flatten().flatten();
        recorded.filter_map(|host| self.name_of(host)).collect()
    }

    fn name_of(&self, recorded: RawBsonRef<'_>) -> Option<String> {
        self.names.get(recorded.as_str()?).map(ToString::to_string)
    }

    fn is_member(&self) -> bool {
        find(self.hello.as_bytes(), b"setName").is_some()
    }

    /// Servers before 4.4 have none, and no hello of theirs can be awaited.
    fn has_topology_version(&self) -> bool {
        let version = find(self.hello.as_bytes(), b"maxWireVersion").and_then(|it| it.as_i64());
        version.is_none_or(|version| version >= FIRST_AWAITABLE)
    }

    /// What a member says of its last write and its election: that it lags behind nobody, and has never stepped down.
    fn append_of_member(&self, now: DateTime, reply: &mut RawDocumentBuf) {
        let seconds = u32::try_from(now.timestamp_millis() / 1000).unwrap_or(u32::MAX);
        let op_time = rawdoc! { "ts": BsonTimestamp { time: seconds, increment: 1 }, "t": 1_i64 };
        let last_write = rawdoc! {
            "opTime": op_time.clone(), "lastWriteDate": now, "majorityOpTime": op_time, "majorityWriteDate": now,
        };
        reply.append(cstr!("lastWrite"), last_write);
        let is_primary = [&b"isWritablePrimary"[..], b"ismaster"]
            .iter()
            .any(|name| find(self.hello.as_bytes(), name).is_some_and(|it| it.as_bool_truthy()));
        if is_primary {
            reply.append(cstr!("electionId"), ObjectId::from_bytes(FIRST_ELECTION));
        }
    }
}

/// The handshake, and what comes by itself, of one connection.
#[derive(Debug)]
pub struct Handshake {
    identity: Arc<Identity>,
    authentication: Authentication,
    connection_id: i32,
    /// An awaitable `hello` that is not answered yet.
    awaiting: Option<Request>,
}

impl Handshake {
    /// For the connection to which the server gives that `connectionId`.
    pub fn new(identity: Arc<Identity>, connection_id: i32) -> Self {
        let authentication = Authentication::new(Arc::clone(&identity.users));
        Self { identity, authentication, connection_id, awaiting: None }
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
            _ => match self.authentication.handle(&request) {
                Some(reply) => reply,
                None => return Some(request),
            },
        };
        replies.reply(&request, &reply);
        None
    }

    /// Answers an awaitable `hello` whose time is up; a stream of them goes on.
    pub fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        let Some(mut request) = self.awaiting.take() else { return };
        let reply = self.hello_reply(&request, at);
        match self.await_millis(&request).filter(|_| request.exhaust_allowed) {
            Some(millis) => {
                replies.reply_with_more_to_come(&mut request, &reply);
                self.wait(request, millis, at, replies);
            }
            None => replies.reply(&request, &reply),
        }
    }

    fn hello(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
        match self.await_millis(&request) {
            Some(millis) => self.wait(request, millis, at, replies),
            None => {
                let reply = self.hello_reply(&request, at);
                replies.reply(&request, &reply);
            }
        }
    }

    fn wait(&mut self, request: Request, millis: u64, at: Timestamp, replies: &mut Replies) {
        // Without an end to it a client that asks for no wait would be given no rest.
        let millis = millis.clamp(AWAIT_MILLIS.0, AWAIT_MILLIS.1);
        replies.tick_at(Timestamp {
            monotonic_nanos: at.monotonic_nanos.saturating_add(millis * 1_000_000),
            unix_micros: at.unix_micros.saturating_add_unsigned(millis * 1000),
        });
        self.awaiting = Some(request);
    }

    /// How long the request waits for a change: not at all if what it knows is another server's topology.
    fn await_millis(&self, request: &Request) -> Option<u64> {
        let known = find_path(&request.command, &[b"topologyVersion", b"processId"])?.as_object_id()?;
        let millis = find(&request.command, b"maxAwaitTimeMS")?.as_i64()?;
        u64::try_from(millis).ok().filter(|_| known == self.identity.process_id)
    }

    fn hello_reply(&mut self, request: &Request, at: Timestamp) -> RawDocumentBuf {
        let speculated = self.authentication.speculate(&request.command);
        let identity = &*self.identity;
        let now = DateTime::from_millis(at.unix_micros / 1000);
        let mut reply = RawDocumentBuf::new();
        if find(&request.command, b"helloOk").is_some_and(|element| element.as_bool_truthy()) {
            reply.append(cstr!("helloOk"), true);
        }
        if identity.has_topology_version() {
            let process = identity.process_id;
            reply.append(cstr!("topologyVersion"), rawdoc! { "processId": process, "counter": 0_i64 });
        }
        for (name, value) in identity.hello.iter().flatten() {
            match name.as_str() {
                "isWritablePrimary" | "ismaster" => reply.append(primary_name(request), value),
                "hosts" | "passives" => reply.append(name, identity.hosts(value)),
                "me" => reply.append(name, identity.address.to_string()),
                "primary" => {
                    reply.append(name, identity.name_of(value).unwrap_or_else(|| identity.address.to_string()))
                }
                "ok" | "arbiters" => {}
                // A driver that is told of a load balancer wants one; a capture has that of its server.
                "serviceId" => reply.append(name, value),
                // Made anew, or for that client alone.
                passing if is_passing(passing) => {}
                _ => reply.append(name, value),
            }
        }
        if identity.is_member() {
            identity.append_of_member(now, &mut reply);
        }
        reply.append(cstr!("localTime"), now);
        reply.append(cstr!("connectionId"), self.connection_id);
        let common = common_compressors(request);
        if !common.is_empty() {
            reply.append(cstr!("compression"), common.iter().map(|it| it.as_str()).collect::<RawArrayBuf>());
        }
        if let Some(mechanisms) = self.authentication.users().mechanisms(&request.command) {
            reply.append(cstr!("saslSupportedMechs"), mechanisms);
        }
        if let Some(speculated) = speculated {
            reply.append(cstr!("speculativeAuthenticate"), speculated);
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

/// How long an awaitable `hello` may wait, in milliseconds.
const AWAIT_MILLIS: (u64, u64) = (1, 3_600_000);

/// The `maxWireVersion` of MongoDB 4.4.
const FIRST_AWAITABLE: i64 = 9;

/// The `electionId` of a set's first primary.
const FIRST_ELECTION: [u8; 12] = [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 1];

#[cfg(test)]
mod tests {

    use super::*;
    use crate::replay::decode_reply;
    use crate::replay::request::testing::{request, request_with};

    const PROCESS: ObjectId = ObjectId::from_bytes([7; 12]);

    fn handshake() -> Handshake {
        let hello = rawdoc! {
            "isWritablePrimary": true, "hosts": ["a:1", "b:2"], "me": "a:1", "maxWireVersion": 17,
            "topologyVersion": { "processId": ObjectId::from_bytes([1; 12]), "counter": 6_i64 }, "localTime": 5, "ok": 1.0,
        };
        let address = Address::parse("127.0.0.1:27017");
        Handshake::new(Arc::new(Identity::new(hello, "6.0.5", PROCESS, address)), 3)
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
        let start = rawdoc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256" };
        assert!(ask(start).get_str("errmsg").unwrap().contains("given no users"));
        let find = request(&rawdoc! { "find": "c", "$db": "d" });
        assert_eq!(handshake().handle(find.clone(), AT, &mut replies), Some(find));
    }

    #[test]
    fn a_stream_of_hellos_goes_on() {
        let (mut replies, mut handshake) = (Replies::default(), handshake());
        let version = rawdoc! { "processId": PROCESS, "counter": 0_i64 };
        let asked = rawdoc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 10_i64, "$db": "admin" };
        handshake.handle(request_with(1, crate::wire::msg_flags::EXHAUST_ALLOWED, &asked), AT, &mut replies);
        for round in 0..3 {
            let due = replies.take_tick().unwrap();
            handshake.tick(due, &mut replies);
            let frame = replies.next_frame().unwrap();
            let (header, message) = crate::wire::Message::decode(&frame).unwrap();
            let crate::wire::Message::Msg(message) = message else { panic!("{message:?}") };
            assert!(message.has(crate::wire::msg_flags::MORE_TO_COME));
            assert_eq!(header.response_to, [1, 1, 2][round]);
        }
    }

    #[test]
    fn members_have_the_names_of_now() {
        let hello = rawdoc! {
            "setName": "rs", "hosts": ["a:1", "b:2"], "passives": ["p:3"], "arbiters": ["x:4"], "primary": "b:2", "me": "a:1",
            "secondary": true, "isWritablePrimary": false, "lastWrite": {}, "electionId": 1, "maxWireVersion": 8,
        };
        let names = [("a:1", "h:10"), ("b:2", "h:20"), ("p:3", "h:30")];
        let names = names.map(|(from, to)| (from.to_owned(), Address::parse(to)));
        let identity = Identity::new(hello, "4.2.0", PROCESS, Address::parse("h:10")).with_names(names.into());
        let mut replies = Replies::default();
        let asked = request(&rawdoc! { "hello": 1, "$db": "admin" });
        Handshake::new(Arc::new(identity), 3).handle(asked, AT, &mut replies);
        let reply = document(&mut replies).unwrap();
        assert_eq!(reply.get_array("hosts").unwrap(), &vec!["h:10".into(), "h:20".into()]);
        assert_eq!(reply.get_array("passives").unwrap(), &vec!["h:30".into()]);
        assert_eq!((reply.get_str("primary").ok(), reply.get_str("me").ok()), (Some("h:20"), Some("h:10")));
        assert_eq!(
            reply.get_document("lastWrite").unwrap().get_datetime("lastWriteDate").ok(),
            Some(&DateTime::from_millis(1000))
        );
        for absent in ["arbiters", "electionId", "topologyVersion"] {
            assert!(!reply.contains_key(absent), "{absent}");
        }
    }
}
