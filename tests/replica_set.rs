//! A replica set of three real mongods behind the proxy: unmodified drivers work on while the primary steps down, is
//! killed and comes back, as they do without the proxy, and the log tells who served what.
//!
//! Time and members are told by the set itself: recovery counts from when a new primary acknowledges writes, and the
//! connections are those in the members' own logs.

#![allow(clippy::print_stdout, reason = "what was measured is to be seen")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use serde_json::Value;

use support::certificates;
use support::client::{Client, hello};
use support::log::{Log, Record};
use support::manifest::{self, Manifest};
use support::mongod::{Mongod, SET_NAME};
use support::program::{Line, Program};
use support::proxy::Proxy;
use support::replica_set::ReplicaSet;
use support::{now, wait_for};

/// The tool of these tests itself: a set loses its primary in each way, and gets its member back.
#[test]
fn a_set_fails_over_and_heals() {
    let mut set = ReplicaSet::start(3);
    let (before, after) = set.step_down();
    assert_ne!(before, after);
    let next = set.kill(after);
    assert_ne!(after, next, "a dead member is not primary");
    set.restart(after);

    let mut client = Client::connect(&set.members[after].address());
    let id = client.command(&hello("mongotap-test-smoke"));
    let accepted = set.accepted(after);
    let found = accepted.iter().find(|it| it.app_name == "mongotap-test-smoke");
    assert_eq!(found.map(|it| it.connection_id), Some(i64::from(id.get_i32("connectionId").unwrap())));
}

/// Writers of every driver, first without the proxy and then with it.
#[test]
fn steady_writes_survive_failover_as_without_the_proxy() {
    let mut set = ReplicaSet::start(3);
    let writers = manifest::installed(manifest::all().into_iter().filter(|it| it.writer().is_some()).collect());
    writers.iter().for_each(Manifest::prepare);
    let uri = set.uri();
    let (direct, _) = write_through_failures(&mut set, &writers, &uri, "direct");
    let before: Vec<_> = (0..3).map(|member| set.accepted(member).len()).collect();

    let proxy = Proxy::start(&set.uri(), &PROXY_ARGUMENTS);
    let uri = proxy.uri.clone();
    let (proxied, primaries) = write_through_failures(&mut set, &writers, &uri, "proxied");
    let listeners = listeners(&proxy, &set);
    let log = proxy.stop().log;

    let mut later = Vec::new();
    for (direct, proxied) in direct.iter().zip(&proxied) {
        println!("{direct:?}\n  through the proxy: {proxied:?}");
        for (without, with) in direct.recovered.iter().zip(&proxied.recovered) {
            let more = with.saturating_sub(*without);
            assert!(more <= STALL, "{} recovered in {with:?}, directly in {without:?}", direct.driver);
            later.push(more);
        }
    }
    // A busy machine holds up now one of them and now another.
    later.sort_unstable();
    assert!(later[later.len() / 2] <= HEARTBEAT, "so much later than directly: {later:?}");
    assert_all_went_through(&set, &before, &log);
    let addresses: Vec<_> = primaries.iter().map(|member| &listeners[member]).collect();
    assert_primaries(&log, &addresses, writers.len());
}

/// A set of members whose names are no addresses for anybody but themselves, as in containers: reached by its addresses,
/// or by its names and where they lead.
#[test]
fn a_set_whose_names_lead_nowhere_is_served() {
    let mut set = ReplicaSet::start_named();
    let names: Vec<_> = set.members.iter().map(Mongod::name).collect();
    let dial: Vec<_> = set.members.iter().map(|it| format!("{}={}", it.name(), it.address())).collect();
    let dial = dial.join(",");
    let writer: Vec<_> = manifest::all().into_iter().filter(|it| it.name == "pymongo").collect();
    writer.iter().for_each(Manifest::prepare);
    let by_names = format!("mongodb://{}/?replicaSet={SET_NAME}", names.join(","));
    for (upstream, dial, database) in [(set.uri(), None, "addresses"), (by_names, Some(dial), "names")] {
        let mut arguments = PROXY_ARGUMENTS.to_vec();
        arguments.extend(dial.iter().flat_map(|dial| ["--topology-dial", dial]));
        let proxy = Proxy::start(&upstream, &arguments);
        let uri = proxy.uri.clone();
        let (written, primaries) = write_through_failures(&mut set, &writer, &uri, database);
        println!("{upstream}: {written:?}");
        let listeners: Vec<_> = proxy.listeners.iter().map(|it| it.address.clone()).collect();
        let hello = Client::connect(&listeners[0]).command(&hello("mongotap-test-names"));
        let hosts: Vec<_> = hello.get_array("hosts").unwrap().iter().filter_map(|it| it.as_str()).collect();
        assert_eq!(BTreeSet::from_iter(hosts), listeners.iter().map(String::as_str).collect());
        let log = proxy.stop().log;
        let served = upstreams(&log, |it| it.command_name() == "insert");
        assert_eq!(served, primaries.iter().map(|it| set.members[*it].address()).collect());
    }
}

/// The same over TLS on both sides.
#[test]
fn a_set_with_tls_everywhere_fails_over() {
    let mut set = ReplicaSet::start_tls();
    let writer: Vec<_> = manifest::all().into_iter().filter(|it| it.name == "pymongo").collect();
    writer.iter().for_each(Manifest::prepare);
    let upstream = format!("{}&tlsCAFile={}", set.uri(), certificates::in_uri("ca.pem"));
    let certificate = certificates::path("server.pem").display().to_string();
    let arguments = [&PROXY_ARGUMENTS[..], &["--tls-listen-certificate", &certificate]].concat();
    let proxy = Proxy::start(&upstream, &arguments);
    let uri = format!("{}&tlsCAFile={}", proxy.uri, certificates::in_uri("ca.pem"));
    assert!(uri.contains("tls=true"), "{uri}");
    let (written, primaries) = write_through_failures(&mut set, &writer, &uri, "tls");
    println!("{written:?}");
    let listeners = listeners(&proxy, &set);
    let log = proxy.stop().log;
    let addresses: Vec<_> = primaries.iter().map(|member| &listeners[member]).collect();
    assert_primaries(&log, &addresses, writer.len());
    assert_eq!(log.events("protocolErrorEvent").count(), 0);
}

/// What one driver's writer went through.
struct Written {
    driver: String,
    acknowledged: Vec<i64>,
    failed: Vec<String>,
    /// From when the set could be written to again to the driver's next write that was acknowledged, each time.
    recovered: Vec<Duration>,
}

/// The set has a primary again.
#[derive(Clone, Copy)]
struct Restored {
    /// Since when.
    at: Instant,
    /// Since when it acknowledges writes that a majority has, which takes it some time more.
    writable_at: Instant,
}

impl Restored {
    fn wait_for(set: &ReplicaSet, primary: usize) -> Self {
        let at = now();
        wait_for("the set to take a write", Duration::from_secs(60), || write_to(set, primary).then_some(()));
        Self { at, writable_at: now() }
    }

    /// Waits until each of them has written since.
    fn wait_for_writes(self, running: &mut [(String, Program)]) {
        for (driver, program) in running {
            program.wait_for_line(driver, |line| line.at > self.at && line.text.starts_with("ok "));
        }
    }
}

/// Whether a majority of the members has a new document within a second.
fn write_to(set: &ReplicaSet, primary: usize) -> bool {
    let concern = doc! { "w": "majority", "wtimeout": 1000 };
    let insert = doc! { "insert": "probe", "documents": [{}], "writeConcern": concern, "$db": "probe" };
    let reply = set.members[primary].client().command(&insert);
    reply.get_i32("n").is_ok_and(|n| n == 1) && !reply.contains_key("writeConcernError")
}

/// Every driver writes while the primary steps down, and its successor is killed and comes back. The members that were
/// primary, in order. All that was acknowledged is there in the end.
fn write_through_failures(
    set: &mut ReplicaSet,
    writers: &[Manifest],
    uri: &str,
    database: &str,
) -> (Vec<Written>, Vec<usize>) {
    let start = |manifest: &Manifest| {
        let mut command = manifest.writer().expect("it was chosen because it has one");
        command.env("MONGODB_URI", format!("{uri}&{DRIVER_OPTIONS}")).env("MONGOTAP_TEST_DB", database);
        (manifest.name.clone(), Program::start(command))
    };
    let mut running: Vec<_> = writers.iter().map(start).collect();
    wait_for("the set to take a write", Duration::from_secs(60), || write_to(set, set.primary()).then_some(()));
    running.iter().for_each(|(_, program)| assert!(program.answer("the start").text.starts_with("ok ")));
    thread::sleep(STEADY);
    let (first, second) = set.step_down();
    let mut restored = vec![Restored::wait_for(set, second)];
    restored[0].wait_for_writes(&mut running);
    thread::sleep(STEADY);
    set.wait_until_whole();
    let third = set.kill(second);
    restored.push(Restored::wait_for(set, third));
    restored[1].wait_for_writes(&mut running);
    thread::sleep(STEADY);
    set.restart(second);
    thread::sleep(STEADY);
    let finish = |(driver, program): (String, Program)| {
        let written = Written::new(driver, &program.finish(), &restored);
        written.assert_kept(set, database, third);
        written
    };
    (running.into_iter().map(finish).collect(), vec![first, second, third])
}

impl Written {
    fn new(driver: String, lines: &[Line], restored: &[Restored]) -> Self {
        let (ok, failed): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.text.starts_with("ok "));
        let recovered = restored.iter().map(|restored| {
            let next = ok.iter().find(|line| line.at > restored.at);
            let next = next.unwrap_or_else(|| panic!("{driver} never wrote again"));
            next.at.saturating_duration_since(restored.writable_at)
        });
        let recovered = recovered.collect();
        let number = |line: &&Line| line.text.split(' ').nth(1)?.parse().ok();
        let acknowledged = ok.iter().map(|line| number(line).expect("the number follows")).collect();
        Self { driver, acknowledged, failed: failed.iter().map(|line| line.text.clone()).collect(), recovered }
    }

    fn assert_kept(&self, set: &ReplicaSet, database: &str, primary: usize) {
        let Self { driver, acknowledged, .. } = self;
        assert!(acknowledged.len() >= 20, "{driver} wrote {} documents", acknowledged.len());
        let find = doc! { "find": format!("writes_{driver}"), "batchSize": 100_000, "$db": database };
        let reply = set.members[primary].client().command(&find);
        let batch = reply.get_document("cursor").and_then(|it| it.get_array("firstBatch")).expect("a batch");
        let id = |document: &Document| document.get_i64("_id").or_else(|_| document.get_i32("_id").map(i64::from));
        let kept: BTreeSet<_> = batch.iter().filter_map(|it| id(it.as_document()?).ok()).collect();
        let missing: Vec<_> = acknowledged.iter().filter(|number| !kept.contains(number)).collect();
        assert!(missing.is_empty(), "{driver}: acknowledged and missing: {missing:?}");
    }
}

impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { driver, acknowledged, failed, recovered } = self;
        write!(f, "{driver}: {} acknowledged, {} failed, recovered in {recovered:?}", acknowledged.len(), failed.len())
    }
}

/// By member, where clients reach it.
fn listeners(proxy: &Proxy, set: &ReplicaSet) -> BTreeMap<usize, String> {
    let listener = |member: usize| {
        let upstream = set.members[member].address();
        let listener = proxy.listeners.iter().find(|it| it.upstream == upstream);
        listener.unwrap_or_else(|| panic!("no listener for {upstream}: {:?}", proxy.listeners)).address.clone()
    };
    (0..set.members.len()).map(|member| (member, listener(member))).collect()
}

/// Every connection that a member accepted from a driver is one of the log's, and the other way round.
fn assert_all_went_through(set: &ReplicaSet, before: &[usize], log: &Log) {
    for (member, before) in before.iter().enumerate() {
        let accepted = set.accepted(member).split_off(*before);
        let drivers = accepted.iter().filter(|it| it.app_name.starts_with("mongotap-test-"));
        let mut theirs: Vec<_> = drivers.map(|it| it.connection_id).collect();
        let address = set.members[member].address();
        let mut ours: Vec<_> = upstream_connections(log, &address);
        theirs.sort_unstable();
        ours.sort_unstable();
        assert!(theirs.len() >= 8, "{address}: {} connections", theirs.len());
        assert_eq!(theirs, ours, "{address}: connections that the member has, and those that the log has");
    }
}

/// The numbers that a member gave to the connections of the log, one for each.
fn upstream_connections(log: &Log, upstream: &str) -> Vec<i64> {
    let of_member = |record: &&Record| record.proxy_str("upstream") == Some(upstream);
    let known = log
        .records
        .iter()
        .filter(of_member)
        .filter_map(|record| Some((record.proxy_i64("connection")?, record.i64("serverConnectionId")?)));
    known.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// The log of every client says who was primary, in order.
fn assert_primaries(log: &Log, wanted: &[&String], clients: usize) {
    let mut primaries: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for record in log.events("topologyDescriptionChangedEvent") {
        let of_client = primaries.entry(record.str("topologyId").unwrap_or_default()).or_default();
        let servers = record.0["newDescription"]["servers"].as_array().into_iter().flatten();
        let primary = servers.filter(|it| it["type"] == "RSPrimary").find_map(|it| it["address"].as_str());
        if let Some(primary) = primary.filter(|it| of_client.last().is_none_or(|last| last != it)) {
            of_client.push(primary.to_owned());
        }
    }
    assert_eq!(primaries.len(), clients, "a topology for each client: {primaries:?}");
    for (topology, primaries) in &primaries {
        assert!(primaries.iter().eq(wanted.iter().copied()), "{topology}: primaries {primaries:?}, not {wanted:?}");
    }
}

/// What applications do with a set, with and without the proxy; the log says who served it.
#[test]
fn an_application_finds_everything_that_a_set_offers() {
    let mut set = ReplicaSet::start(3);
    let manifests = manifest::all();
    let pymongo = manifests.iter().find(|it| it.replica_set().is_some()).expect("PyMongo has the program");
    pymongo.prepare();
    let start = |uri: &str, database: &str| {
        let mut command = pymongo.replica_set().expect("it was chosen because it has one");
        // However slow a secondary is on a busy machine, it gets its part of the reads.
        command.env("MONGODB_URI", format!("{uri}&{DRIVER_OPTIONS}&localThresholdMS=5000"));
        command.env("MONGOTAP_TEST_DB", database);
        Program::start(command)
    };
    let mut direct = start(&set.uri(), "direct");
    for step in STEPS {
        assert_eq!(direct.ask(step), "ok", "{step}, without the proxy");
    }
    direct.finish();
    set.wait_until_whole();

    let proxy = Proxy::start(&set.uri(), &PROXY_ARGUMENTS);
    let mut proxied = start(&proxy.uri, "proxied");
    let primary = set.primary();
    for step in STEPS {
        assert_eq!(proxied.ask(step), "ok", "{step}, through the proxy");
    }
    set.wait_until_whole();
    let next = set.primary();
    let victim = set.secondary();
    set.kill(victim);
    assert_eq!(proxied.ask("read without"), "ok");
    set.restart(victim);
    wait_for("the member to serve again", Duration::from_secs(30), || {
        assert_eq!(proxied.ask("read again"), "ok");
        served(&proxy.log_so_far(), "again").contains(&set.members[victim].address()).then_some(())
    });
    proxied.finish();
    let log = proxy.stop().log;
    let addresses: Vec<_> = set.members.iter().map(|it| it.address()).collect();
    let others = |member: usize| addresses.iter().filter(|it| **it != addresses[member]).cloned().collect();

    assert_eq!(upstreams(&log, |it| reads(it, "secondary")), others(primary), "secondaries serve their reads");
    let only = |member: usize| BTreeSet::from([addresses[member].clone()]);
    assert_eq!(upstreams(&log, |it| it.command_name() == "commitTransaction"), only(primary));
    let is_stream = |it: &Record| !it.0["command"]["pipeline"][0]["$changeStream"].is_null();
    assert_eq!(upstreams(&log, is_stream), only(primary));
    assert_retried(&log, &addresses[primary], &addresses[next]);
    let without = upstreams(&log, |it| reads(it, "without") && succeeded(&log, it));
    assert!(!without.contains(&addresses[victim]) && !without.is_empty(), "{without:?}");
}

/// The insert went to the old primary, which refused it, and as the same write to the new one, which took it.
fn assert_retried(log: &Log, old: &str, new: &str) {
    let starts: Vec<_> = log.events("commandStartedEvent").collect();
    let retried = starts.iter().filter(|it| it.0["command"]["documents"][0]["_id"] == "retried");
    let retried: Vec<_> = retried.copied().collect();
    let [refused, .., taken] = retried.as_slice() else { panic!("not retried: {retried:?}") };
    assert_eq!((refused.proxy_str("upstream"), taken.proxy_str("upstream")), (Some(old), Some(new)));
    for field in ["txnNumber", "lsid"] {
        assert!(!refused.0["command"][field].is_null(), "{field}: {}", refused.0);
        assert_eq!(refused.0["command"][field], taken.0["command"][field], "{field}");
    }
    assert!(!succeeded(log, refused) && succeeded(log, taken), "{retried:?}");
}

fn succeeded(log: &Log, start: &Record) -> bool {
    let exchange = start.proxy_i64("exchange");
    log.events("commandSucceededEvent").any(|it| it.proxy_i64("exchange") == exchange)
}

/// Whether it is the program's read of that word.
fn reads(record: &Record, word: &str) -> bool {
    record.command_name() == "find" && record.0["command"]["filter"]["step"] == word
}

/// The members that such commands went to.
fn upstreams(log: &Log, which: impl Fn(&Record) -> bool) -> BTreeSet<String> {
    let starts = log.events("commandStartedEvent").filter(|record| which(record));
    starts.filter_map(|record| record.proxy_str("upstream").map(str::to_owned)).collect()
}

/// The same for the reads of a word in a log that is being written.
fn served(text: &str, word: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).map(Record);
    let reads = lines.filter(|it| it.event() == "commandStartedEvent" && reads(it, word));
    reads.filter_map(|record| record.proxy_str("upstream").map(str::to_owned)).collect()
}

/// The steps of the application before a member is killed.
const STEPS: [&str; 5] = ["create", "read secondary", "transaction", "change_stream", "retryable_write"];

/// Every exchange, of whatever phase, because it tells the server's number of its connection.
const PROXY_ARGUMENTS: [&str; 4] = ["--log-phases", "app,auth,handshake,monitor,rtt", "--log-on-overflow", "block"];

const DRIVER_OPTIONS: &str = "w=majority&retryWrites=true&heartbeatFrequencyMS=500&connectTimeoutMS=2000";
/// As the options say.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// A busy machine may hold up a driver for so long, with the proxy or without.
const STALL: Duration = Duration::from_secs(5);
/// Writing without a disturbance, between two.
const STEADY: Duration = Duration::from_millis(1500);
