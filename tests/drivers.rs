//! The real drivers through the proxy to a real mongod: every program of `tests/drivers/` whose toolchain is found.
//!
//! Each run must end well, put the same bytes on both sides of the proxy, and leave a log that is whole; where the driver
//! has listeners, what they said must be what the log says. Those not found are named at the end with the line that
//! installs them; with `MONGOTAP_TEST_DRIVERS=all` a missing one is a failure.

#![allow(clippy::print_stdout, reason = "the summary is to be seen")]

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use bson::{Bson, Document};

use support::captured;
use support::compare::Departure;
use support::differential::{self, BESIDE_A_DRIVER, Content, Event, Known, Pairs};
use support::harness::{Case, Selection, exit_code};
use support::log::Log;
use support::manifest::{self, Manifest};
use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::program::run_bounded;
use support::proxy::{Proxy, Stopped};
use support::relay::{self, Relay};

fn main() -> ExitCode {
    let selection = Selection::from_arguments();
    let (found, missing): (Vec<_>, Vec<_>) = manifest::all().into_iter().partition(Manifest::is_installed);
    let mut cases: Vec<_> = found.iter().flat_map(cases).collect();
    cases.push(Case::new("pymongo with SCRAM", pymongo_authenticated));
    let mut failures = selection.run(cases);

    let names = |manifests: &[Manifest]| manifests.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
    let required = REQUIRED.iter().filter(|name| !names(&found).iter().any(|it| it == *name));
    for name in required {
        println!("the {name} driver must always run, and is not found");
        failures += 1;
    }
    if !missing.is_empty() {
        println!("drivers not found here, not tested:");
        missing.iter().for_each(|it| println!("  {:<14} {}", it.name, it.install));
        if env::var_os("MONGOTAP_TEST_DRIVERS").is_some_and(|it| it == "all") {
            println!("MONGOTAP_TEST_DRIVERS=all: each of them is a failure");
            failures += missing.len();
        }
    }
    exit_code(failures)
}

/// What runs on every machine that can build this.
const REQUIRED: [&str; 4] = ["pymongo", "pymongo_async", "motor", "rust"];

/// PyMongo speaks every compressor; the others are run as their users run them.
fn cases(manifest: &Manifest) -> Vec<Case> {
    let compressors: &[&str] = if manifest.name == "pymongo" { &["", "snappy", "zlib", "zstd"] } else { &[""] };
    let case = |compressor: &&'static str| {
        let (manifest, compressor) = (manifest.clone(), *compressor);
        let (name, options) = match compressor {
            "" => (manifest.name.clone(), String::new()),
            _ => (format!("{} with {compressor}", manifest.name), format!("?compressors={compressor}")),
        };
        Case::new(name.clone(), move || {
            let run = Run::new(&manifest, Mongod::shared(), "", &options, &name.replace(' ', "_"));
            let compressed = run.log.commands().filter(|it| it.proxy_str("compressor") == Some(compressor)).count();
            assert!(compressor.is_empty() || compressed > 100, "{compressed} messages used {compressor}");
            run.check(&manifest)
        })
    };
    compressors.iter().map(case).collect()
}

/// PyMongo publishes its authentication, redacted; so do we.
fn pymongo_authenticated() -> String {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let manifests = manifest::all();
    let pymongo = manifests.iter().find(|it| it.name == "pymongo").expect("PyMongo has a program");
    let user = format!("{USER}:{}@", PASSWORD.replace(' ', "%20"));
    let run = Run::new(pymongo, &mongod, &user, "?authSource=admin", "pymongo_scram");
    let sasl = run.log.commands().filter(|it| it.command_name().starts_with("sasl")).count();
    assert!(sasl >= 2, "{sasl} events of authentication");
    assert!(run.log.commands().filter(|it| it.proxy_str("phase") == Some("auth")).count() >= 2, "phases are told");
    assert!(!run.text.contains("payload") && !run.text.contains(PASSWORD), "nothing secret is in the log");
    run.check(pymongo)
}

/// One run of a program.
struct Run {
    name: String,
    operations: String,
    passed: relay::Passed,
    log: Log,
    text: String,
    events: Vec<Event>,
    /// Events that were derived from the capture beside the log, and are the same.
    captured: usize,
}

impl Run {
    /// Runs the program through relay, proxy and relay; it must end well and its bytes must be the same on both sides.
    fn new(manifest: &Manifest, mongod: &Mongod, user: &str, options: &str, database: &str) -> Self {
        manifest.prepare();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let inner = Relay::start(&mongod.address());
        let capture = directory.path().join("run.mtap");
        let arguments = [&BESIDE_A_DRIVER[..], &["--capture", capture.to_str().expect("it is UTF-8")]].concat();
        let proxy = Proxy::start(&format!("mongodb://{}", inner.address()), &arguments);
        let outer = Relay::start(&proxy.address);

        let events = directory.path().join("driver.jsonl");
        let mut program = manifest.command();
        program.env("MONGODB_URI", format!("mongodb://{user}{}/{options}", outer.address()));
        program.env("MONGOTAP_TEST_DB", format!("drivers_{database}"));
        program.env("MONGOTAP_TEST_EVENTS", if manifest.listeners { events.as_os_str() } else { "".as_ref() });
        let stdout = run_bounded(program, directory.path());
        let operations = stdout.lines().last().unwrap_or_default().to_owned();
        let count = operations.strip_prefix("ok ").and_then(|it| it.parse::<u32>().ok());
        assert!(count.is_some_and(|it| it >= 20), "the last line is \"ok N\": {operations:?}");

        // Stopped before its clients have ended, the proxy would close what is idle, whatever is on the way to it.
        let passed = relay::assert_same(outer.finish(), inner.finish());
        let Stopped { log, text, .. } = proxy.stop();
        let captured = captured::compare(&text, &capture);
        let events = if manifest.listeners { read_events(&events) } else { Vec::new() };
        Self { name: manifest.name.clone(), operations, passed, log, text, events, captured }
    }

    /// Compares the driver's events with ours, and sees that a planted difference is found.
    fn check(&self, manifest: &Manifest) -> String {
        let ours: Vec<_> = self.log.commands().map(|record| Event::from_json(&record.0)).collect();
        let relay::Passed { connections, to_server, to_client } = self.passed;
        let traffic = format!(
            "{connections} connections, {to_server} bytes out, {to_client} bytes in; {} events of the capture are the log's",
            self.captured
        );
        let Self { operations, name, .. } = self;
        if !manifest.listeners {
            let counts = count(&ours);
            assert_minimum(name, &counts, manifest);
            return format!("{operations}; {} events in the log, no listeners; {traffic}", ours.len());
        }
        let known = known(name);
        let pairs = differential::compare(&self.events, &ours, known).unwrap_or_else(|faults| {
            let shown = faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n  ");
            panic!("{} faults, the first of them:\n  {shown}", faults.len());
        });
        assert_minimum(name, &pairs, manifest);
        let planted = plant(&self.events, &ours, known);
        let total: usize = pairs.values().sum();
        let commands = pairs.iter().map(|(command, pairs)| format!("{command} {pairs}")).collect::<Vec<_>>().join(", ");
        format!(
            "{operations}; {total} pairs of events are equal ({commands}); {planted} planted differences found; {traffic}"
        )
    }
}

fn read_events(path: &Path) -> Vec<Event> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let value = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(|line| Event::from_json(&value(line))).collect()
}

fn count(events: &[Event]) -> Pairs {
    let mut counts = Pairs::new();
    events.iter().for_each(|event| *counts.entry(event.command_name.clone()).or_default() += 1);
    counts
}

/// A comparison of nothing finds no fault, so there must have been something of everything.
fn assert_minimum(name: &str, pairs: &Pairs, manifest: &Manifest) {
    for (command, least) in MINIMUM {
        // GridFS asks for the indexes of its collections, and reads them by finds.
        let least = if manifest.gridfs { *least } else { *least / 2 };
        // Some drivers spell findAndModify in lower case.
        let spellings = pairs.iter().filter(|(name, _)| name.eq_ignore_ascii_case(command));
        let is: usize = spellings.map(|(_, count)| count).sum();
        assert!(is >= 2 * least.max(1), "{name}: {is} events of {command}, at least {} expected", 2 * least.max(1));
    }
}

/// How often the workload asks each command, at least, whatever the driver.
const MINIMUM: &[(&str, usize)] = &[
    ("aggregate", 2),
    ("create", 1),
    ("createIndexes", 2),
    ("delete", 4),
    ("distinct", 1),
    ("drop", 1),
    ("dropDatabase", 1),
    ("dropIndexes", 1),
    ("find", 8),
    ("findAndModify", 3),
    ("getMore", 5),
    ("insert", 24),
    ("killCursors", 1),
    ("listCollections", 1),
    ("listDatabases", 1),
    ("listIndexes", 1),
    ("mongotapNoSuchCommand", 1),
    ("ping", 1),
    ("update", 6),
];

/// The table of departures: what each driver's own events are known not to tell as the wire has it.
fn known(driver: &str) -> Known {
    let (departures, unpublished): (&'static [Departure], &'static [&'static str]) = match driver {
        "pymongo" | "pymongo_async" | "motor" => (&[Departure::Continuations, Departure::IdFirst], &[]),
        "node" | "mongoose" => (&[Departure::NumberTypes, Departure::CommandKeyOrder, Departure::Milliseconds], &[]),
        "c" => (&[Departure::RequestIds], &[]),
        "php" => (&[Departure::RequestIds, Departure::NumberTypes], &["endSessions"]),
        "ruby" => (&[Departure::NoServerConnectionId, Departure::NoDatabase, Departure::NumberTypes], &[]),
        _ => (&[], &[]),
    };
    Known { departures, unpublished }
}

/// Changes one leaf in one of our events, in turn in many of them; the comparison must see each. How many that were.
fn plant(theirs: &[Event], ours: &[Event], known: Known) -> usize {
    let mut planted = 0;
    // A driver that tells a failure in words tells its message, and nothing else of the reply.
    let in_words = theirs.iter().any(|event| matches!(event.document, Content::Text(_)));
    for at in (0..ours.len()).step_by(1 + ours.len() / PLANTED) {
        let mut changed = ours.to_vec();
        let Content::Document(document) = &mut changed[at].document else { continue };
        let is_changed = match in_words && ours[at].kind == "commandFailedEvent" {
            true => document.insert("errmsg", "another message").is_some(),
            false => change_leaf(document, at),
        };
        if !is_changed {
            continue;
        }
        let found = differential::compare(theirs, &changed, known).is_err();
        assert!(found || known.unpublished.contains(&&*ours[at].command_name), "a change in {} went unseen", ours[at]);
        planted += 1;
    }
    assert!(planted >= PLANTED / 2, "only {planted} events had a leaf to change");
    planted
}

/// In how many events a difference is planted, about.
const PLANTED: usize = 40;

/// Changes the leaf that `seed` picks, at any depth.
fn change_leaf(document: &mut Document, seed: usize) -> bool {
    if document.is_empty() {
        return false;
    }
    let position = seed % document.len();
    let Some((_, value)) = document.iter_mut().nth(position) else { return false };
    match value {
        Bson::Document(inner) if !inner.is_empty() => return change_leaf(inner, seed / 2),
        Bson::Array(elements) if !elements.is_empty() => drop(elements.pop()),
        Bson::Int32(it) => *it ^= 1,
        Bson::Int64(it) => *it ^= 1,
        Bson::Double(it) => *it += 0.5,
        Bson::Boolean(it) => *it = !*it,
        Bson::String(it) => it.push('!'),
        other => *other = Bson::Int32(77),
    }
    true
}
