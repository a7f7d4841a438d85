//! The fold on random deployments: beside PyMongo's own model of them, and its events by the rules that hold of all.
//!
//! PyMongo is given the same replies and errors and must know the same after each; what it departs in from the
//! specification is said where it is met. The events must tell, one after the other, of every change and of nothing else,
//! and a stream of events with one left out or told twice must break a rule. `PROPTEST_CASES` sets how many deployments.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod deployment;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use bson::oid::ObjectId;
use mongotap::event::{Address, Event, ServerDescription, ServerType, TopologyDescription, TopologyId, TopologyType};
use mongotap::topology::{Stage, Topology, same_server, same_topology};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use deployment::{HOSTS, Kind, Script, Step, address_of, broken_scripts, scripts};
use support::program::Program;

const TOPOLOGY_ID: TopologyId = ObjectId::from_bytes([0x42; 12]);

// --- beside PyMongo

#[test]
fn pymongo_knows_the_same() {
    let pymongo = Mutex::new(Program::python("topology.py"));
    let same = |script: Script| {
        let (request, ours) = ours(&script);
        let theirs = pymongo.lock().unwrap().ask_json(&request);
        for (at, (theirs, ours)) in theirs.as_array().unwrap().iter().zip(&ours).enumerate() {
            prop_assert_eq!(theirs, ours, "after {} steps of {:#?}", at, script);
        }
        prop_assert_eq!(theirs.as_array().unwrap().len(), ours.len());
        Ok(())
    };
    runner().run(&scripts(), same).unwrap_or_else(|error| panic!("{error}"));
}

fn runner() -> TestRunner {
    TestRunner::new(Config { failure_persistence: None, ..Config::default() })
}

/// What PyMongo is asked, and what we know after the opening and after each step.
fn ours(script: &Script) -> (Value, Vec<Value>) {
    let mut topology = Topology::new(TOPOLOGY_ID, script.settings());
    // A server that comes back has a new pool there, from 0; ours goes on.
    let mut before: BTreeMap<Address, u64> = BTreeMap::new();
    topology.open(&mut |_| {});
    let (mut steps, mut states) = (Vec::new(), vec![state(&topology, &before)]);
    for step in &script.steps {
        let address = address_of(HOSTS[step.host()]);
        let generation = topology.generation(&address) - before.get(&address).copied().unwrap_or(0);
        let Some(told) = told(step, generation) else { continue };
        steps.push(told);
        let mut opened = Vec::new();
        step.feed(&mut topology, &mut |event| {
            if let Event::ServerOpening(event) = event {
                opened.push(event.address.clone());
            }
        });
        before.extend(opened.into_iter().map(|address| (address.clone(), topology.generation(&address))));
        states.push(state(&topology, &before));
    }
    let request = json!({
        "seeds": HOSTS[..script.seeds], "setName": script.set_name,
        "direct": script.initial == TopologyType::Single, "steps": steps,
    });
    (request, states)
}

/// A step as PyMongo is told of it. An error from before the first pool cannot be.
fn told(step: &Step, generation: u64) -> Option<Value> {
    let host = HOSTS[step.host()];
    match step {
        Step::Hello(_, reply) => Some(json!({ "host": host, "hello": reply })),
        Step::Failed(_) => Some(json!({ "host": host, "failed": "connection refused" })),
        Step::Error(_, fault) => {
            let error = match &fault.kind {
                Kind::Network => json!("network"),
                Kind::Timeout => json!("timeout"),
                // It takes what is no state change, before the handshake is complete, for a failed authentication.
                Kind::Command(_) if fault.stage == Stage::Establishing => return None,
                Kind::Command(reply) => reply.clone(),
            };
            let generation = if fault.stale { generation.checked_sub(1)? } else { generation };
            let established = fault.stage == Stage::Ready;
            Some(json!({ "host": host, "error": error, "established": established, "generation": generation }))
        }
        Step::Bytes(..) => None,
    }
}

fn state(topology: &Topology, before: &BTreeMap<Address, u64>) -> Value {
    let description = topology.description();
    let server = |it: &ServerDescription| {
        let mut hosts = [it.hosts.clone(), it.passives.clone(), it.arbiters.clone()].concat();
        hosts.sort();
        hosts.dedup();
        // Only drivers with one thread have the type.
        let is_possible = it.server_type == ServerType::PossiblePrimary;
        let version = it.topology_version.map(|it| json!({ "processId": oid(it.process_id), "counter": it.counter }));
        let state = json!({
            "type": if is_possible { "Unknown" } else { it.server_type.as_str() }, "hasError": it.error.is_some(),
            "setName": it.set_name, "setVersion": it.set_version, "electionId": it.election_id.map(oid),
            "topologyVersion": version, "hosts": hosts, "primary": it.primary,
            "me": it.me.as_deref().map(|me| me.split_once(':').map(|(host, port)| json!([host, port.parse::<u16>().unwrap()]))),
            "generation": topology.generation(&it.address) - before.get(&it.address).copied().unwrap_or(0),
        });
        (it.address.to_string(), state)
    };
    json!({
        "topologyType": description.topology_type.as_str(), "setName": description.set_name,
        "maxSetVersion": description.max_set_version, "maxElectionId": description.max_election_id.map(oid),
        "logicalSessionTimeoutMinutes": description.logical_session_timeout_minutes,
        "servers": description.servers.iter().map(server).collect::<serde_json::Map<_, _>>(),
    })
}

fn oid(id: ObjectId) -> Value {
    json!({ "$oid": id.to_string() })
}

// --- the rules of events

/// What an input led to: its events, and what was known then.
type Heard = (Vec<Event<'static>>, TopologyDescription);

/// Opens, lets hear, closes, and lets hear again.
fn heard(script: &Script) -> Vec<Heard> {
    let mut topology = Topology::new(TOPOLOGY_ID, script.settings());
    let mut inputs = vec![after(&mut topology, Topology::open)];
    for step in &script.steps {
        inputs.push(after(&mut topology, |topology, emit| step.feed(topology, emit)));
    }
    inputs.push(after(&mut topology, Topology::close));
    let mut late = 0;
    for step in script.steps.iter().take(2) {
        step.feed(&mut topology, &mut |_| late += 1);
    }
    topology.open(&mut |_| late += 1);
    topology.close(&mut |_| late += 1);
    assert_eq!(late, 0, "events after the end");
    inputs
}

fn after(topology: &mut Topology, input: impl FnOnce(&mut Topology, &mut dyn FnMut(Event<'static>))) -> Heard {
    let mut events = Vec::new();
    input(topology, &mut |event| events.push(event));
    (events, topology.description().clone())
}

/// What a listener knows from the events alone.
#[derive(Default)]
struct Listener {
    opened: bool,
    closed: bool,
    topology: TopologyDescription,
    /// The servers that are open, and what they last said.
    servers: BTreeMap<Address, ServerDescription>,
}

impl Listener {
    fn hear(&mut self, event: &Event<'_>) -> Result<(), String> {
        let rule = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {event:?}")) };
        rule(self.opened || matches!(event, Event::TopologyOpening(_)), "before the opening")?;
        rule(!self.closed, "after the end")?;
        match event {
            Event::TopologyOpening(_) => {
                rule(!self.opened, "opened twice")?;
                self.opened = true;
            }
            Event::ServerOpening(it) => {
                let server = ServerDescription { address: it.address.clone(), ..ServerDescription::default() };
                rule(self.servers.insert(it.address.clone(), server).is_none(), "opened twice")?;
            }
            Event::ServerClosed(it) => rule(self.servers.remove(&it.address).is_some(), "closed and not open")?,
            Event::ServerDescriptionChanged(it) => {
                rule(!same_server(&it.previous_description, &it.new_description), "changed to the same")?;
                let known = self.servers.insert(it.address.clone(), it.new_description.clone());
                // A member's word for who may be the primary is told with the topology only.
                let follows = known.is_some_and(|known| {
                    let possible = ServerDescription { server_type: ServerType::PossiblePrimary, ..known.clone() };
                    same_server(&known, &it.previous_description) || same_server(&possible, &it.previous_description)
                });
                rule(follows, "does not follow from what was told")?;
            }
            Event::TopologyDescriptionChanged(it) => {
                rule(!same_topology(&it.previous_description, &it.new_description), "changed to the same")?;
                rule(same_topology(&self.topology, &it.previous_description), "does not follow from the last")?;
                self.topology = it.new_description.clone();
            }
            Event::TopologyClosed(_) => {
                rule(self.servers.is_empty() && self.topology.servers.is_empty(), "servers are left")?;
                self.closed = true;
            }
            _ => rule(false, "is not a topology's")?,
        }
        Ok(())
    }

    /// Holds what was told to what is known.
    fn check(&self, known: &TopologyDescription) -> Result<(), String> {
        if !same_topology(&self.topology, known) {
            return Err(format!("told {:?}, known {known:?}", self.topology));
        }
        for server in &known.servers {
            let told = self.servers.get(&server.address).ok_or_else(|| format!("{} is not open", server.address))?;
            let is_possible =
                server.server_type == ServerType::PossiblePrimary && told.server_type == ServerType::Unknown;
            if !is_possible && !same_server(told, server) {
                return Err(format!("told {told:?}, known {server:?}"));
            }
        }
        let primaries = known.servers.iter().filter(|it| it.server_type == ServerType::RSPrimary).count();
        let expected = match known.topology_type {
            TopologyType::ReplicaSetWithPrimary => primaries == 1,
            TopologyType::Single => primaries <= 1,
            _ => primaries == 0,
        };
        match expected && self.servers.len() == known.servers.len() {
            true => Ok(()),
            false => Err(format!("{primaries} primaries, {} servers open: {known:?}", self.servers.len())),
        }
    }
}

fn follows_the_rules(inputs: &[Heard]) -> Result<(), String> {
    let mut listener = Listener::default();
    for (events, known) in inputs {
        events.iter().try_for_each(|event| listener.hear(event))?;
        listener.check(known)?;
    }
    if listener.closed { Ok(()) } else { Err("it was not closed".to_owned()) }
}

#[test]
fn events_tell_of_every_change_and_of_nothing_else() {
    let check = |script: Script| {
        let rules = follows_the_rules(&heard(&script));
        prop_assert!(rules.is_ok(), "{}", rules.unwrap_err());
        Ok(())
    };
    runner().run(&scripts(), check).unwrap_or_else(|error| panic!("{error}"));
    runner().run(&broken_scripts(), check).unwrap_or_else(|error| panic!("{error}"));
}

/// The deployments are not of one kind.
#[test]
fn every_type_of_server_and_topology_is_met() {
    let (mut runner, mut met) = (TestRunner::deterministic(), BTreeSet::new());
    for _ in 0..200 {
        for (_, known) in heard(&scripts().new_tree(&mut runner).unwrap().current()) {
            met.insert(known.topology_type.as_str());
            met.extend(known.servers.iter().map(|server| server.server_type.as_str()));
        }
    }
    let all = ServerType::ALL.map(ServerType::as_str).into_iter().chain(TopologyType::ALL.map(TopologyType::as_str));
    let missing: Vec<_> = all.filter(|name| !met.contains(name)).collect();
    // They have no monitors, and nothing to say.
    assert_eq!(missing, ["LoadBalancer", "LoadBalanced"]);
}

#[test]
fn an_event_left_out_or_told_twice_breaks_a_rule() {
    let (mut runner, mut altered) = (TestRunner::deterministic(), 0);
    for _ in 0..20 {
        let inputs = heard(&scripts().new_tree(&mut runner).unwrap().current());
        for (input, (events, _)) in inputs.iter().enumerate() {
            for at in 0..events.len() {
                if !is_last_word(&events[at..]) {
                    let mut without = inputs.clone();
                    without[input].0.remove(at);
                    assert!(follows_the_rules(&without).is_err(), "without {:?}", events[at]);
                    altered += 1;
                }
                let mut twice = inputs.clone();
                twice[input].0.insert(at, events[at].clone());
                assert!(follows_the_rules(&twice).is_err(), "twice {:?}", events[at]);
                altered += 1;
            }
        }
    }
    assert!(altered > 300, "{altered}");
}

/// Whether the first of these is what a server says that then leaves: nothing that is told later depends on it.
fn is_last_word(events: &[Event<'_>]) -> bool {
    let Event::ServerDescriptionChanged(change) = &events[0] else { return false };
    events.iter().any(|it| matches!(it, Event::ServerClosed(closed) if closed.address == change.address))
}
