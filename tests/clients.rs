//! What is derived of clients follows from what was observed alone: not from the order in which threads told it, as long
//! as they tell it in time, and not from when somebody looked.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use proptest::prelude::*;
use proptest::test_runner::Config;

use mongotap::event::{
    Address, ClientIdentity, Connection, ConnectionId, Entry, Event, Observation, Observed, ServerType, Timestamp,
    TopologyId, TopologyType,
};
use mongotap::topology::{Clients, ClientsSettings, SETTLED_AFTER, Settings};

const SERVERS: [&str; 3] = ["a:1", "b:2", "c:3"];

/// One connection's life.
#[derive(Clone, Debug)]
struct Life {
    client: u8,
    server: usize,
    begins: u64,
    steps: Vec<(u64, Step)>,
}

#[derive(Clone, Debug)]
enum Step {
    Primary { election: u8, counter: i64 },
    Secondary { counter: i64 },
    Refused,
    CheckFailed,
    NotPrimary { counter: i64 },
    NetworkError,
    EndsSessions,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, 0..6i64).prop_map(|(election, counter)| Step::Primary { election, counter }),
        (0..6i64).prop_map(|counter| Step::Secondary { counter }),
        Just(Step::Refused),
        Just(Step::CheckFailed),
        (0..6i64).prop_map(|counter| Step::NotPrimary { counter }),
        Just(Step::NetworkError),
        Just(Step::EndsSessions),
    ]
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let life = (0..3u8, 0..3usize, 0..20_000u64, prop::collection::vec((0..3_000u64, step()), 0..8))
        .prop_map(|(client, server, begins, steps)| Life { client, server, begins, steps });
    prop::collection::vec(life, 1..8)
}

fn at(millis: u64) -> Timestamp {
    Timestamp::default().after(Duration::from_millis(millis))
}

fn version(counter: i64) -> RawDocumentBuf {
    rawdoc! { "processId": ObjectId::from_bytes([7; 12]), "counter": counter }
}

fn hello(server: usize, step: &Step) -> RawDocumentBuf {
    let mut reply = rawdoc! { "ok": 1, "setName": "rs", "setVersion": 1, "maxWireVersion": 17, "me": SERVERS[server] };
    let hosts = SERVERS.iter().copied().collect::<bson::RawArrayBuf>();
    reply.append(bson::raw::cstr!("hosts"), hosts);
    match step {
        Step::Primary { election, counter } => {
            reply.append(bson::raw::cstr!("isWritablePrimary"), true);
            reply.append(bson::raw::cstr!("electionId"), ObjectId::from_bytes([*election; 12]));
            reply.append(bson::raw::cstr!("topologyVersion"), version(*counter));
        }
        Step::Secondary { counter } => {
            reply.append(bson::raw::cstr!("secondary"), true);
            reply.append(bson::raw::cstr!("topologyVersion"), version(*counter));
        }
        _ => reply = rawdoc! { "ok": 0, "errmsg": "no", "code": 1 },
    }
    reply
}

/// What is observed of these connections, in the order of its times.
fn observations(lives: &[Life]) -> Vec<Observation> {
    let mut all = Vec::new();
    for (number, life) in lives.iter().enumerate() {
        let connection = Arc::new(Connection {
            id: ConnectionId(number as u64 + 1),
            client: format!("10.0.0.{}:5", life.client),
            upstream: SERVERS[life.server].to_owned(),
            server: Address::parse(SERVERS[life.server]),
            tls: false,
        });
        // No two connections tell something at the same time: which was first would be theirs to say.
        let mut now = life.begins * 10 + number as u64;
        let client = ClientIdentity { host: format!("10.0.0.{}", life.client), metadata: Box::default() };
        let greeted = Observed::Greeted { client, load_balanced: false, created_at: at(now) };
        all.push(Observation { at: at(now), connection: Arc::clone(&connection), what: greeted });
        for (later, step) in &life.steps {
            now += later * 10 + 10;
            let what = match step {
                Step::Primary { .. } | Step::Secondary { .. } | Step::Refused => {
                    Observed::Hello(hello(life.server, step))
                }
                Step::CheckFailed => Observed::CheckFailed("connection refused".to_owned()),
                Step::NotPrimary { counter } => Observed::CommandFailed {
                    reply: rawdoc! { "ok": 0, "code": 10107, "topologyVersion": version(*counter) },
                    authenticating: false,
                },
                Step::NetworkError => Observed::NetworkError("connection reset".to_owned()),
                Step::EndsSessions => Observed::EndsSessions,
            };
            all.push(Observation { at: at(now), connection: Arc::clone(&connection), what });
        }
        all.push(Observation { at: at(now + 10), connection, what: Observed::Closed { by_client: false } });
    }
    all.sort_by_key(|observation| observation.at.monotonic_nanos);
    all
}

fn clients() -> Clients {
    Clients::new(ClientsSettings {
        per_client: true,
        closed_after: Duration::from_secs(30),
        ended_after: Duration::from_millis(500),
        seeds: Settings {
            seeds: SERVERS[..2].iter().map(|seed| Address::parse(seed)).collect(),
            initial: TopologyType::ReplicaSetNoPrimary,
            set_name: Some("rs".to_owned()),
            possible_primary: false,
        },
    })
}

fn shown(entry: &Entry<'_>) -> String {
    format!("{} {} {:?}", entry.at.monotonic_nanos, entry.connection.id, entry.event)
}

/// Everything told in order, and looked at in the end only.
fn plainly(observations: &[Observation], end: Timestamp) -> Vec<String> {
    let (mut clients, mut out) = (clients(), Vec::new());
    observations.iter().for_each(|observation| clients.handle(observation.clone()));
    clients.close(end, &mut |entry| out.push(shown(&entry)));
    out
}

/// Told as late as threads may be, by `delays`, and looked at every `tick`.
fn live(observations: &[Observation], end: Timestamp, delays: &[u64], tick: u64) -> Vec<String> {
    let (mut clients, mut out) = (clients(), Vec::new());
    let settled = u64::try_from(SETTLED_AFTER.as_millis()).unwrap();
    let delayed = |(index, observation): (usize, &Observation)| {
        let millis = observation.at.monotonic_nanos / 1_000_000;
        ((millis + delays[index % delays.len()] % settled, index), observation.clone())
    };
    let mut arriving: BTreeMap<(u64, usize), Observation> = observations.iter().enumerate().map(delayed).collect();
    let end_millis = end.monotonic_nanos / 1_000_000;
    for now in (0..end_millis).step_by(usize::try_from(tick).unwrap()) {
        let later = arriving.split_off(&(now + 1, 0));
        std::mem::replace(&mut arriving, later).into_values().for_each(|observation| clients.handle(observation));
        clients.handle_tick(at(now), &mut |entry| out.push(shown(&entry)));
    }
    arriving.into_values().for_each(|observation| clients.handle(observation));
    clients.close(end, &mut |entry| out.push(shown(&entry)));
    out
}

/// Opened, told, closed: each topology once, each of its servers once, and nothing of either before or after.
fn check_order(observations: &[Observation], end: Timestamp) {
    let mut clients = clients();
    observations.iter().for_each(|observation| clients.handle(observation.clone()));
    let mut open: BTreeMap<TopologyId, BTreeSet<Address>> = BTreeMap::new();
    let mut closed = BTreeSet::new();
    clients.close(end, &mut |entry| match &entry.event {
        Event::TopologyOpening(it) => {
            assert!(!closed.contains(&it.topology_id));
            assert!(open.insert(it.topology_id, BTreeSet::new()).is_none());
        }
        Event::ServerOpening(it) => assert!(open.get_mut(&it.topology_id).unwrap().insert(it.address.clone())),
        Event::ServerClosed(it) => assert!(open.get_mut(&it.topology_id).unwrap().remove(&it.address)),
        Event::ServerDescriptionChanged(it) => {
            assert!(open[&it.topology_id].contains(&it.address));
            assert_ne!(it.previous_description, it.new_description);
        }
        Event::TopologyDescriptionChanged(it) => {
            let servers = &it.new_description.servers;
            let primaries = servers.iter().filter(|server| server.server_type == ServerType::RSPrimary).count();
            let has_primary = it.new_description.topology_type == TopologyType::ReplicaSetWithPrimary;
            assert_eq!(primaries, usize::from(has_primary), "{it:?}");
        }
        Event::TopologyClosed(it) => {
            assert_eq!(open.remove(&it.topology_id).unwrap(), BTreeSet::new());
            closed.insert(it.topology_id);
        }
        other => panic!("{other:?}"),
    });
    assert!(open.is_empty() && !closed.is_empty());
}

proptest! {
    #![proptest_config(Config::with_cases(96))]

    #[test]
    fn what_is_derived_does_not_depend_on_who_told_it_first(
        lives in lives(),
        delays in prop::collection::vec(0..1000u64, 1..20),
        tick in 1..500u64,
    ) {
        let observations = observations(&lives);
        let end = observations.last().unwrap().at.after(Duration::from_secs(60));
        prop_assert_eq!(live(&observations, end, &delays, tick), plainly(&observations, end));
        check_order(&observations, end);
    }
}
