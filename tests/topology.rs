//! The drivers' own four kinds of listeners beside our log: a standalone, one that is killed and comes back, and a replica
//! set that fails over, with a client that closes at the end of each.
//!
//! Every driver of `tests/drivers/` with an `sdam` program takes part, each with a proxy of its own, all with the same
//! servers at the same time. What is compared and how is told in `support/sdam.rs`; what is known of the drivers is in
//! [`known`], per scenario, because each entry must be needed.

#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

mod support;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use support::captured;
use support::compare::Departure;
use support::differential::{self, BESIDE_A_DRIVER, Event};
use support::log::Log;
use support::manifest::{self, Manifest};
use support::mongod::{Mongod, Options};
use support::program::Program;
use support::proxy::{Proxy, Stopped};
use support::replica_set::ReplicaSet;
use support::sdam::{self, Known};
use support::{manifest::installed, wait_for};

/// What happens to the servers in a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Scenario {
    Standalone,
    Restarted,
    FailedOver,
}

#[test]
fn a_standalone() {
    let mongod = Mongod::start(Options::default());
    let mut runs = Run::all(&mongod.uri());
    each(&mut runs, |run| {
        run.ask("ping");
        run.wait_for_topology("Single", &["Standalone"]);
    });
    each(&mut runs, |run| run.ask("insert"));
    finish(runs, Scenario::Standalone);
}

#[test]
fn a_server_that_is_killed_and_comes_back() {
    let mut mongod = Mongod::start(Options::default());
    let mut runs = Run::all(&mongod.uri());
    each(&mut runs, |run| {
        run.ask("insert");
        run.wait_for_topology("Single", &["Standalone"]);
        run.settle();
    });
    mongod.kill();
    each(&mut runs, |run| run.wait_for_topology("Single", &["Unknown"]));
    each(&mut runs, |run| run.wait_for_failures());
    mongod.restart();
    each(&mut runs, |run| run.wait_for_topology("Single", &["Standalone"]));
    each(&mut runs, |run| run.ask("insert"));
    finish(runs, Scenario::Restarted);
}

#[test]
fn a_replica_set_that_fails_over() {
    const WHOLE: [&str; 3] = ["RSPrimary", "RSSecondary", "RSSecondary"];
    let mut set = ReplicaSet::start(3);
    let mut runs = Run::all(&set.uri());
    each(&mut runs, |run| run.ask("insert"));
    each(&mut runs, |run| run.wait_for_topology("ReplicaSetWithPrimary", &WHOLE));
    let (before, after) = set.step_down();
    set.wait_until_whole();
    each(&mut runs, |run| run.wait_for_primary(&set, after));
    each(&mut runs, |run| run.ask("insert"));
    assert_ne!(before, after);
    let next = set.kill(after);
    each(&mut runs, |run| run.wait_for_topology("ReplicaSetWithPrimary", &["RSPrimary", "RSSecondary", "Unknown"]));
    each(&mut runs, |run| run.wait_for_primary(&set, next));
    each(&mut runs, |run| run.ask("insert"));
    each(&mut runs, |run| run.wait_for_failures());
    set.restart(after);
    each(&mut runs, |run| run.wait_for_topology("ReplicaSetWithPrimary", &WHOLE));
    each(&mut runs, |run| run.ask("insert"));
    finish(runs, Scenario::FailedOver);
}

/// What the comparison leaves out of the log is no more than it says.
#[test]
fn a_straggler_is_told_from_another_client() {
    let line = |event: &str, topology: &str, connection: i64| json!({ "event": event, "topologyId": topology, "proxy": { "connection": connection } });
    let end = json!({ "event": "commandStartedEvent", "commandName": "endSessions", "proxy": { "connection": 2 } });
    let first = [line("topologyOpeningEvent", "first", 1), end, line("topologyClosedEvent", "first", 2)];
    let second = [line("topologyOpeningEvent", "second", 4), line("topologyClosedEvent", "second", 4)];
    let whole = [&first[..], &second[..]].concat();
    assert_eq!(sdam::without_straggler(&whole), first);

    let beat = json!({ "event": "serverHeartbeatStartedEvent", "proxy": { "connection": 4 } });
    let kept = [
        [&whole[..], &[beat]].concat(),
        [&first[..1], &first[2..], &second[..]].concat(),
        [&first[..], &second[..1]].concat(),
        [&whole[..], &[line("topologyOpeningEvent", "third", 5)]].concat(),
    ];
    kept.iter().for_each(|lines| assert_eq!(sdam::without_straggler(lines), *lines));
}

/// What is known of each driver: of its topologies, and of its commands.
fn known(driver: &str, scenario: Scenario) -> (Known, differential::Known) {
    use Departure::*;
    let (departures, hidden, commands): (&[Departure], &[&str], &[Departure]) = match (driver, scenario) {
        ("pymongo", Scenario::Standalone) => (&[], &["topologyVersion"], &[]),
        ("pymongo", Scenario::Restarted) => (&[ErrorsDiffer], &["topologyVersion"], &[]),
        ("pymongo", Scenario::FailedOver) => (&[ErrorsDiffer, HostsTogether, SetKeptAtEnd], &["topologyVersion"], &[]),
        ("node", _) => (&NODE, &[], &[NumberTypes, Milliseconds]),
        ("rust", Scenario::Standalone | Scenario::Restarted) => {
            (&[], &["logicalSessionTimeoutMinutes", "topologyVersion"], &[])
        }
        ("rust", Scenario::FailedOver) => (&[StaysWithPrimary, SetKeptAtEnd], &RUST_HIDES, &[]),
        other => panic!("nothing is known of {other:?}"),
    };
    (Known { departures, hidden }, differential::Known { departures: commands, unpublished: &[] })
}

const NODE: [Departure; 5] = [
    Departure::AwaitedByReply,
    Departure::NumberTypes,
    Departure::NoLastDescription,
    Departure::ReplyAmended,
    Departure::RoundTripDurations,
];

const RUST_HIDES: [&str; 6] =
    ["logicalSessionTimeoutMinutes", "topologyVersion", "electionId", "me", "hosts", "primary"];

/// A driver's program with its proxy.
struct Run {
    driver: String,
    program: Program,
    proxy: Proxy,
    events: PathBuf,
    directory: TempDir,
}

impl Run {
    /// Every driver's, all prepared before the first starts.
    fn all(upstream: &str) -> Vec<Self> {
        let programs = manifest::all().into_iter().filter(|it| it.sdam().is_some()).collect();
        let installed = installed(programs);
        installed.iter().for_each(Manifest::prepare);
        installed.iter().map(|manifest| Self::start(manifest, upstream)).collect()
    }

    fn start(manifest: &Manifest, upstream: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let events = directory.path().join("driver.jsonl");
        let capture = directory.path().join("run.mtap");
        let arguments = [&BESIDE_A_DRIVER[..], &["--capture", capture.to_str().expect("it is UTF-8")]].concat();
        let proxy = Proxy::start(upstream, &arguments);
        let mut command = manifest.sdam().expect("it was chosen because it has one");
        command.env("MONGODB_URI", format!("{}&{DRIVER_OPTIONS}", proxy.uri));
        command.env("MONGOTAP_TEST_DB", format!("topology_{}", manifest.name));
        command.env("MONGOTAP_TEST_EVENTS", &events);
        Self { driver: manifest.name.clone(), program: Program::start(command), proxy, events, directory }
    }

    fn ask(&mut self, step: &str) {
        let answer = self.program.ask(step);
        assert_eq!(answer, "ok", "{}: {step}", self.driver);
    }

    /// What the driver's listeners have heard by now; a last line that is torn comes later.
    fn heard(&self) -> Vec<Value> {
        let text = fs::read_to_string(&self.events).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|it| panic!("{it}: {line}"))).collect()
    }

    /// The topology as the driver last told it.
    fn topology(&self) -> Option<Value> {
        let mut heard = self.heard().into_iter().rev();
        let change = heard.find(|line| line["event"] == "topologyDescriptionChangedEvent")?;
        change.get("newDescription").cloned()
    }

    /// Waits until the driver tells of such a topology, with servers of these types.
    fn wait_for_topology(&self, of_type: &str, servers: &[&str]) {
        self.wait(&format!("{of_type} of {servers:?}"), |topology| {
            let types = topology["servers"].as_array().into_iter().flatten().map(|it| it["type"].as_str());
            let mut types: Vec<_> = types.flatten().collect();
            types.sort_unstable();
            topology["type"] == of_type && types == servers
        });
    }

    /// Waits until the driver tells that this member is the primary.
    fn wait_for_primary(&self, set: &ReplicaSet, member: usize) {
        let upstream = set.members[member].address();
        let address = self.proxy.listeners.iter().find(|it| it.upstream == upstream).map(|it| it.address.clone());
        let address = address.unwrap_or_else(|| panic!("no listener for {upstream}: {:?}", self.proxy.listeners));
        self.wait(&format!("{address} as primary"), |topology| {
            let mut servers = topology["servers"].as_array().into_iter().flatten();
            servers.any(|it| it["type"] == "RSPrimary" && it["address"] == *address)
        });
    }

    fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let what = format!("{} to tell of {what}", self.driver);
        wait_for(&what, PATIENCE, || self.topology().filter(&holds));
    }

    /// Waits until the driver has looked for the server that is down more than once.
    fn wait_for_failures(&self) {
        let failed = |heard: &[Value]| heard.iter().filter(|it| it["event"] == "serverHeartbeatFailedEvent").count();
        wait_for("failed heartbeats", PATIENCE, || (failed(&self.heard()) >= 4).then_some(()));
    }

    /// Waits until every server that is up has been asked for news twice more: then it is plain to the proxy
    /// too which of its connections are a monitor's.
    fn settle(&self) {
        let asked = |address: &str| {
            let heard = self.heard();
            let is_one = |it: &&Value| it["event"] == "serverHeartbeatStartedEvent" && it["connectionId"] == *address;
            heard.iter().filter(is_one).filter(|it| it["awaited"] == true).count()
        };
        let topology = self.topology().unwrap_or_default();
        let servers = topology["servers"].as_array().into_iter().flatten().filter(|it| it["type"] != "Unknown");
        for address in servers.filter_map(|it| it["address"].as_str()) {
            let before = asked(address);
            wait_for("heartbeats", PATIENCE, || (asked(address) >= before + 2).then_some(()));
        }
    }

    /// Closes the client, then the proxy; what each has told.
    fn finish(self) -> (String, Vec<Value>, Log) {
        let last = self.program.finish();
        assert_eq!(last.last().map(|line| line.text.as_str()), Some("closed"), "{}", self.driver);
        let text = fs::read_to_string(&self.events).expect("the driver's events");
        let theirs = text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
        self.proxy.wait_until_left();
        let Stopped { log, text, .. } = self.proxy.stop();
        let events = captured::compare(&text, &self.directory.path().join("run.mtap"));
        assert!(events > 20, "{events} events are derived from the capture");
        (self.driver, theirs, log)
    }
}

fn each(runs: &mut [Run], step: impl Fn(&mut Run)) {
    runs.iter_mut().for_each(step);
}

/// Compares what was told, of every kind, and sees that planted differences are found.
fn finish(runs: Vec<Run>, scenario: Scenario) {
    runs.iter().for_each(Run::settle);
    let mut faults = Vec::new();
    for (driver, theirs, log) in runs.into_iter().map(Run::finish) {
        let ours: Vec<_> = log.records.iter().map(|record| record.0.clone()).collect();
        let (topology, commands) = known(&driver, scenario);
        let is_command = |line: &&Value| line["event"].as_str().is_some_and(|it| it.starts_with("command"));
        let their_commands: Vec<_> = theirs.iter().filter(is_command).map(Event::from_json).collect();
        let our_commands: Vec<_> = log.commands().map(|record| Event::from_json(&record.0)).collect();
        match differential::compare(&their_commands, &our_commands, commands) {
            Ok(pairs) => assert!(pairs.values().sum::<usize>() >= 4, "{driver}: {pairs:?}"),
            Err(found) => faults.extend(found.iter().map(|it| format!("{driver}: {it}"))),
        }
        match sdam::compare(&theirs, &ours, topology) {
            Ok(pairs) => {
                println!("{driver}, {scenario:?}: {pairs:?}");
                plant(&theirs, &ours, topology);
            }
            Err(found) => faults.extend(found.iter().map(|it| format!("{driver}: {it}"))),
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

/// Changes one thing in what we tell, of each kind; the comparison must see it.
fn plant(theirs: &[Value], ours: &[Value], known: Known) {
    // What a closing client's threads still dial may have a topology of its own, which is not compared.
    let first = ours.iter().find_map(|line| line.get("topologyId"));
    let is_compared = |line: &Value| line.get("topologyId").is_none_or(|id| Some(id) == first);
    for (event, change) in PLANTED {
        let is_one =
            |line: &Value| line["event"] == *event && (!event.ends_with("DescriptionChangedEvent") || shows(line));
        let positions: Vec<_> = (0..ours.len()).filter(|at| is_one(&ours[*at]) && is_compared(&ours[*at])).collect();
        let at = match change {
            // The handshake's, whose duration every driver tells as it is.
            Plant::Set("/durationMicros", _) => positions[0],
            // Neither the first nor the last, where there are more: one in the midst of things.
            _ => positions[positions.len() / 2],
        };
        let mut changed = ours.to_vec();
        match change {
            Plant::Remove => _ = changed.remove(at),
            Plant::Repeat => changed.insert(at, ours[at].clone()),
            Plant::Toggle(pointer) => {
                let place = changed[at].pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {}", ours[at]));
                *place = Value::Bool(*place != true);
            }
            Plant::Set(pointer, value) => {
                let place = changed[at].pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer} in {}", ours[at]));
                *place = serde_json::from_str(value).expect("a value is JSON");
            }
        }
        assert!(sdam::compare(theirs, &changed, known).is_err(), "{change:?} of {event} goes unseen: {}", ours[at]);
    }
}

/// Whether a change of a description is one that every driver shows: of the type, and not the last.
fn shows(change: &Value) -> bool {
    let (before, after) = (&change["previousDescription"], &change["newDescription"]);
    let is_last = after["servers"].as_array().is_some_and(Vec::is_empty);
    before["type"] != after["type"] && !is_last
}

/// A difference to be found.
#[derive(Clone, Copy, Debug)]
enum Plant {
    Remove,
    Repeat,
    Toggle(&'static str),
    /// To that JSON.
    Set(&'static str, &'static str),
}

const PLANTED: &[(&str, Plant)] = &[
    ("serverHeartbeatStartedEvent", Plant::Remove),
    ("serverHeartbeatStartedEvent", Plant::Repeat),
    ("serverHeartbeatStartedEvent", Plant::Toggle("/awaited")),
    ("serverHeartbeatSucceededEvent", Plant::Remove),
    ("serverHeartbeatSucceededEvent", Plant::Toggle("/reply/readOnly")),
    ("serverHeartbeatSucceededEvent", Plant::Set("/durationMicros", "5000000")),
    ("serverHeartbeatSucceededEvent", Plant::Set("/connectionId", "\"127.0.0.1:1\"")),
    ("serverOpeningEvent", Plant::Remove),
    ("serverOpeningEvent", Plant::Repeat),
    ("serverOpeningEvent", Plant::Set("/address", "\"127.0.0.1:1\"")),
    ("serverClosedEvent", Plant::Remove),
    ("serverDescriptionChangedEvent", Plant::Remove),
    ("serverDescriptionChangedEvent", Plant::Set("/newDescription/type", "\"RSArbiter\"")),
    ("serverDescriptionChangedEvent", Plant::Set("/previousDescription/type", "\"RSArbiter\"")),
    ("topologyOpeningEvent", Plant::Remove),
    ("topologyClosedEvent", Plant::Remove),
    ("topologyDescriptionChangedEvent", Plant::Remove),
    ("topologyDescriptionChangedEvent", Plant::Set("/newDescription/type", "\"Sharded\"")),
    ("topologyDescriptionChangedEvent", Plant::Set("/newDescription/servers", "\"none\"")),
    ("topologyDescriptionChangedEvent", Plant::Set("/topologyId", "\"ffffffffffffffffffffffff\"")),
];

/// Quick heartbeats.
const DRIVER_OPTIONS: &str = "heartbeatFrequencyMS=500&connectTimeoutMS=2000";

const PATIENCE: Duration = Duration::from_secs(30);
