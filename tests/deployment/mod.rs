//! Random deployments: what a client begins with, and what it then hears of four servers, likely and not.
//!
//! Replies are Extended JSON, written here, so that nothing depends on the code under test.

use bson::Bson;
use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use mongotap::event::{Address, Event, TopologyType};
use mongotap::topology::{ApplicationError, ErrorKind, Settings, Stage, Topology};
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const HOSTS: [&str; 4] = ["a", "b", "c", "d"];

/// What a client begins with, and what it hears.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) seeds: usize,
    pub(crate) set_name: Option<&'static str>,
    pub(crate) initial: TopologyType,
    pub(crate) steps: Vec<Step>,
}

/// One thing that a client hears, of the host with that number.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Hello(usize, Value),
    Failed(usize),
    Error(usize, Fault),
    /// A reply that is a document from outside only.
    Bytes(usize, Vec<u8>),
}

/// An application's error.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) stage: Stage,
    /// Of a connection from before the pool was last cleared.
    pub(crate) stale: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Network,
    Timeout,
    Command(Value),
}

impl Script {
    pub(crate) fn settings(&self) -> Settings {
        let seeds = HOSTS[..self.seeds].iter().map(|host| address_of(host)).collect();
        Settings { seeds, initial: self.initial, set_name: self.set_name.map(str::to_owned), possible_primary: true }
    }
}

impl Step {
    pub(crate) fn host(&self) -> usize {
        let (Self::Hello(host, _) | Self::Failed(host) | Self::Error(host, _) | Self::Bytes(host, _)) = self;
        *host
    }

    /// Lets the topology hear it.
    pub(crate) fn feed(&self, topology: &mut Topology, emit: &mut dyn FnMut(Event<'static>)) {
        let address = address_of(HOSTS[self.host()]);
        match self {
            Self::Hello(_, reply) => topology.handle_hello(&address, &raw(reply), emit),
            Self::Failed(_) => topology.handle_check_failed(&address, "connection refused", emit),
            Self::Bytes(_, bytes) => {
                let reply = RawDocumentBuf::from_bytes(bytes.clone()).unwrap();
                topology.handle_hello(&address, &reply, emit);
                let kind = ErrorKind::Command(&reply);
                let error = ApplicationError { kind, stage: Stage::Ready, generation: u64::MAX };
                topology.handle_application_error(&address, error, emit);
            }
            Self::Error(_, Fault { kind, stage, stale }) => {
                let now = topology.generation(&address);
                let generation = if *stale { now.saturating_sub(1) } else { now };
                let reply = raw(if let Kind::Command(reply) = kind { reply } else { &Value::Null });
                let kind = match kind {
                    Kind::Network => ErrorKind::Network("broken"),
                    Kind::Timeout => ErrorKind::Timeout("timed out"),
                    Kind::Command(_) => ErrorKind::Command(&reply),
                };
                topology.handle_application_error(&address, ApplicationError { kind, stage: *stage, generation }, emit);
            }
        }
    }
}

pub(crate) fn address_of(host: &str) -> Address {
    Address { host: host.to_owned(), port: Some(27017) }
}

fn raw(value: &Value) -> RawDocumentBuf {
    match Bson::try_from(value.clone()).unwrap() {
        Bson::Document(document) => RawDocumentBuf::try_from(document).unwrap(),
        _ => RawDocumentBuf::new(),
    }
}

fn object_id(last: u8) -> Value {
    let mut bytes = [0; 12];
    bytes[11] = last;
    json!({ "$oid": ObjectId::from_bytes(bytes).to_string() })
}

// --- making them

/// Scripts of well-formed replies and errors.
pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        6 => (0..4_usize, hello()).prop_map(|(host, reply)| Step::Hello(host, addressed(reply, host))),
        1 => (0..4_usize).prop_map(Step::Failed),
        2 => (0..4_usize, fault()).prop_map(|(host, fault)| Step::Error(host, fault)),
    ];
    with_steps(prop::collection::vec(step, 0..25))
}

/// The same, with replies that are cut off and overwritten among them.
pub(crate) fn broken_scripts() -> impl Strategy<Value = Script> {
    let broken = (0..4_usize, hello(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8))
        .prop_map(|(host, reply, spots)| Step::Bytes(host, overwritten(raw(&addressed(reply, host)), &spots)));
    let noise = (0..4_usize, prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(host, noise)| Step::Bytes(host, enclosed(&noise)));
    let sound = (0..4_usize, hello()).prop_map(|(host, reply)| Step::Hello(host, addressed(reply, host)));
    with_steps(prop::collection::vec(prop_oneof![broken, noise, sound], 0..15))
}

fn with_steps(steps: impl Strategy<Value = Vec<Step>>) -> impl Strategy<Value = Script> {
    let beginning = prop_oneof![
        2 => (1..4_usize).prop_map(|seeds| (seeds, None, TopologyType::Unknown)),
        2 => (1..4_usize).prop_map(|seeds| (seeds, Some("rs"), TopologyType::ReplicaSetNoPrimary)),
        1 => prop_oneof![Just(None), Just(Some("rs"))].prop_map(|name| (1, name, TopologyType::Single)),
    ];
    (beginning, steps).prop_map(|((seeds, set_name, initial), steps)| Script { seeds, set_name, initial, steps })
}

fn overwritten(reply: RawDocumentBuf, spots: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let mut bytes = reply.into_bytes();
    // The length in front and the zero at the end stay: without them it is no document at all.
    let end = bytes.len() - 1;
    for (at, byte) in spots.iter().filter(|_| end > 4) {
        bytes[4 + at.index(end - 4)] = *byte;
    }
    bytes
}

fn enclosed(noise: &[u8]) -> Vec<u8> {
    let length = i32::try_from(noise.len() + 5).unwrap();
    [&length.to_le_bytes(), noise, &[0]].concat()
}

/// A `hello` reply's `me`, which is mostly what it should be.
fn addressed(mut reply: Value, host: usize) -> Value {
    if reply["me"] == json!("its own") {
        reply["me"] = json!(format!("{}:27017", HOSTS[host]));
    }
    reply
}

const ROLES: [&str; 13] = [
    "primary",
    "primary",
    "primary",
    "primary",
    "secondary",
    "secondary",
    "secondary",
    "arbiter",
    "hidden",
    "other",
    "ghost",
    "mongos",
    "standalone",
];

fn hello() -> impl Strategy<Value = Value> {
    let not_ok = (error_code(), version()).prop_map(|(code, version)| {
        let reply = json!({ "ok": 0, "code": code, "errmsg": "no" });
        with(reply, "topologyVersion", version)
    });
    prop_oneof![12 => ok_hello(), 1 => not_ok]
}

fn ok_hello() -> impl Strategy<Value = Value> {
    let members = prop_oneof![3 => Just(0b1111), 1 => 0..16_u8];
    let me = prop_oneof![5 => Just(None), 3 => Just(Some("its own")), 1 => Just(Some("b:27017"))];
    let set = prop_oneof![9 => Just("rs"), 1 => Just("another")];
    let primary = prop::option::of(prop::sample::select(&["a:27017", "b:27017", "z:27017"][..]));
    let reign = (prop::option::of(1..4_i64), prop::option::of(1..4_u8));
    let timeout = prop::option::of(1..4_i64);
    let wire = prop::sample::select(&[16, 17, 21][..]);
    let role = prop::sample::select(&ROLES[..]);
    (role, set, members, 0..16_u8, me, primary, reign, timeout, wire, version()).prop_map(
        |(role, set, members, passive, me, primary, (set_version, election), timeout, wire, version)| {
            let reply = json!({ "ok": 1, "minWireVersion": 0, "maxWireVersion": wire });
            let reply = with(reply, "logicalSessionTimeoutMinutes", timeout.map(|it| json!(it)));
            let reply = with(reply, "topologyVersion", version);
            let mut reply = match role {
                "ghost" => return with(reply, "isreplicaset", Some(json!(true))),
                "mongos" => return with(reply, "msg", Some(json!("isdbgrid"))),
                "standalone" => return reply,
                "primary" => with(reply, "isWritablePrimary", Some(json!(true))),
                "secondary" => with(reply, "secondary", Some(json!(true))),
                "arbiter" => with(reply, "arbiterOnly", Some(json!(true))),
                "hidden" => with(with(reply, "hidden", Some(json!(true))), "secondary", Some(json!(true))),
                _ => reply,
            };
            let named = |mask: u8| -> Vec<String> {
                let hosts = HOSTS.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                hosts.map(|(_, host)| format!("{host}:27017")).collect()
            };
            reply["setName"] = json!(set);
            reply["hosts"] = json!(named(members & !passive | members & 1));
            reply["passives"] = json!(named(members & passive & !1));
            let reply = with(reply, "me", me.map(|it| json!(it)));
            let reply = with(reply, "primary", primary.map(|it| json!(it)));
            let reply = with(reply, "setVersion", set_version.map(|it| json!(it)));
            with(reply, "electionId", election.map(object_id))
        },
    )
}

fn with(mut reply: Value, name: &str, value: Option<Value>) -> Value {
    if let Some(value) = value {
        reply[name] = value;
    }
    reply
}

fn version() -> impl Strategy<Value = Option<Value>> {
    let version = (1..3_u8, 0..4_i64).prop_map(
        |(process, counter)| json!({ "processId": object_id(process), "counter": { "$numberLong": counter.to_string() } }),
    );
    prop::option::of(version)
}

fn error_code() -> impl Strategy<Value = i64> {
    prop::sample::select(&[11600, 11602, 13436, 189, 91, 10107, 13435, 10058, 1, 11000][..])
}

fn fault() -> impl Strategy<Value = Fault> {
    let top_level = (error_code(), version())
        .prop_map(|(code, version)| with(json!({ "ok": 0, "code": code, "errmsg": "no" }), "topologyVersion", version));
    let message = prop::sample::select(&["not master", "not master or secondary", "node is recovering", "odd"][..])
        .prop_map(|message| json!({ "ok": 0, "errmsg": message }));
    let write_concern =
        error_code().prop_map(|code| json!({ "ok": 1, "writeConcernError": { "code": code, "errmsg": "no" } }));
    let writes = error_code()
        .prop_map(|code| json!({ "ok": 1, "writeErrors": [{ "index": 0, "code": code, "errmsg": "not master" }] }));
    let command = prop_oneof![3 => top_level, 1 => message, 1 => write_concern, 1 => writes].prop_map(Kind::Command);
    let kind = prop_oneof![2 => Just(Kind::Network), 1 => Just(Kind::Timeout), 5 => command];
    let stage = prop_oneof![4 => Just(Stage::Ready), 1 => Just(Stage::Establishing)];
    (kind, stage, prop::bool::weighted(0.2)).prop_map(|(kind, stage, stale)| Fault { kind, stage, stale })
}
