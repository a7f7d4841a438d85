//! The specification's own scenarios of command monitoring and command logging, through the proxy to a real mongod.
//!
//! The files come with PyMongo's source distribution. PyMongo does their operations (`drivers/python/unified.py`), each
//! test with a proxy of its own; what they expect its listeners and its logger to say is looked for in the proxy's log.
//! All run twice, against a standalone and against a replica set of one member, as far as their own requirements allow.

#![allow(clippy::print_stdout, reason = "the summary is to be seen")]

mod support;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use bson::{Bson, Document, doc};
use serde_json::{Value, json};

use support::fetch;
use support::harness::{Case, Selection, exit_code};
use support::log::{Log, Record};
use support::matcher::{self, document};
use support::mongod::{Mongod, Options};
use support::program::Program;
use support::proxy::Proxy;

fn main() -> ExitCode {
    let selection = Selection::from_arguments();
    let files = files();
    let servers = [
        (Server::new("standalone", Options::default()), STANDALONE),
        (Server::new("replica set", Options { replica_set: true, ..Options::default() }), REPLICA_SET),
    ];
    let cases = servers.iter().flat_map(|(server, _)| files.iter().flat_map(move |file| cases(file, server)));
    let mut failures = selection.run(cases.collect());
    for (server, expected) in servers.iter().filter(|_| selection.is_everything()) {
        let totals = *server.totals.borrow();
        let Totals { ran, not_runnable, expectations } = totals;
        println!("{}: {ran} tests ran, {not_runnable} were not runnable, {expectations} events matched", server.name);
        if totals != *expected {
            println!("expected {expected:?}");
            failures += 1;
        }
    }
    exit_code(failures)
}

/// What was done against one server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Totals {
    ran: usize,
    not_runnable: usize,
    expectations: usize,
}

const STANDALONE: Totals = Totals { ran: 59, not_runnable: 6, expectations: 133 };
const REPLICA_SET: Totals = Totals { ran: 62, not_runnable: 3, expectations: 145 };

/// The files, which are 23 with 65 tests.
fn files() -> Vec<PathBuf> {
    let tests = fetch::pymongo_sdist().join("test");
    let directories = ["command_monitoring", "command_logging"].map(|name| tests.join(name));
    let entries = directories.iter().flat_map(|it| fs::read_dir(it).expect("the directory is in the distribution"));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "json"));
    files.sort();
    assert_eq!(files.len(), 23, "as many files as PyMongo 4.20.0 has");
    files
}

fn read(file: &Path) -> Value {
    let text = fs::read_to_string(file).expect("a file of the distribution");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A mongod with the runner that drives it, started when first asked for.
struct Server {
    name: &'static str,
    options: Options,
    running: Rc<RefCell<Option<(Mongod, Program)>>>,
    totals: Rc<RefCell<Totals>>,
}

impl Server {
    fn new(name: &'static str, options: Options) -> Self {
        Self { name, options, running: Rc::default(), totals: Rc::default() }
    }
}

fn cases(file: &Path, server: &Server) -> Vec<Case> {
    let suite = Rc::new(read(file));
    let tests = suite["tests"].as_array().expect("a file has tests");
    let name = |test: &Value| {
        let directory = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        format!("{} {directory}/{file}: {}", server.name, test["description"].as_str().unwrap_or_default())
    };
    let case = |(index, test): (usize, &Value)| {
        let (file, suite, options) = (file.to_owned(), Rc::clone(&suite), server.options);
        let (running, totals) = (Rc::clone(&server.running), Rc::clone(&server.totals));
        Case::new(name(test), move || {
            let mut running = running.borrow_mut();
            let (mongod, runner) = running.get_or_insert_with(|| (Mongod::start(options), runner()));
            let outcome = run(&file, index, &suite, mongod, runner);
            let mut totals = totals.borrow_mut();
            match &outcome {
                Ok(matched) => {
                    totals.ran += 1;
                    totals.expectations += matched;
                }
                Err(_) => totals.not_runnable += 1,
            }
            outcome
                .map_or_else(|reason| format!("not runnable: {reason}"), |matched| format!("{matched} events matched"))
        })
    };
    tests.iter().enumerate().map(case).collect()
}

/// Runs one test; how many events were as expected, or why it is not to be run here.
fn run(file: &Path, index: usize, suite: &Value, mongod: &Mongod, runner: &mut Program) -> Result<usize, String> {
    let test = &suite["tests"][index];
    let direct = format!("{}/?directConnection=true", mongod.uri());
    let proxy = Proxy::start(&direct, &PROXY_ARGUMENTS);
    let uri = format!("mongodb://{}/?directConnection=true", proxy.address);
    let answer = runner.ask_json(&json!({ "file": file, "index": index, "uri": uri, "direct": direct }));
    let log = proxy.stop().log;
    match answer["status"].as_str() {
        Some("ran") => Ok(check(suite, test, &log)),
        Some("not runnable") => Err(answer["reason"].as_str().unwrap_or_default().to_owned()),
        _ => panic!("{}", answer["error"].as_str().unwrap_or_default()),
    }
}

const PROXY_ARGUMENTS: [&str; 6] =
    ["--log-max-document-bytes", "0", "--log-extended-json", "canonical", "--log-phases", "app,auth"];

/// PyMongo, which does what the tests say.
fn runner() -> Program {
    let runner = Program::python("unified.py");
    let greeting = runner.answer("the start").text;
    let greeting: Value = serde_json::from_str(&greeting).unwrap_or_else(|error| panic!("{error}: {greeting:?}"));
    assert!(greeting["pymongo"].is_string(), "the runner tells its version");
    runner
}

/// Holds the log to what the test expects; how many events that were.
fn check(suite: &Value, test: &Value, log: &Log) -> usize {
    let seen = seen(log);
    let lists = |field: &str| test[field].as_array().cloned().unwrap_or_default();
    let events = lists("expectEvents");
    let messages = lists("expectLogMessages");
    assert!(events.len() + messages.len() == 1, "a test expects something of its one observed client");
    let events = events.iter().map(|expected| {
        let observed: Vec<_> = seen.iter().filter(|it| observes(suite, expected, it.event())).copied().collect();
        check_all(&expected["events"], expected, "ignoreExtraEvents", &observed, event)
    });
    let messages = messages
        .iter()
        .map(|expected| check_all(&expected["messages"], expected, "ignoreExtraMessages", &seen, message));
    events.chain(messages).sum()
}

/// The command events in the order in which a driver tells them. A driver is done with an unacknowledged write before it
/// goes on to its next command; we see both at once if they arrive together, and the write's end after the next start.
fn seen(log: &Log) -> Vec<&Record> {
    let is_unacknowledged = |it: &Record| it.is_end() && it.0["reply"] == json!({ "ok": { "$numberInt": "1" } });
    let (ends, others): (Vec<_>, Vec<_>) = log.commands().partition(|it| is_unacknowledged(it));
    let mut seen = Vec::new();
    for record in others {
        seen.push(record);
        seen.extend(ends.iter().filter(|it| it.proxy_i64("exchange") == record.proxy_i64("exchange")));
    }
    // A client ends its sessions when it is closed, which is after the test.
    seen.retain(|it| it.command_name() != "endSessions");
    seen
}

/// Whether the client of these expectations observes that kind of event.
fn observes(suite: &Value, expected: &Value, event: &str) -> bool {
    let entities = suite["createEntities"].as_array().expect("a file with events has its entities");
    let client = entities.iter().map(|it| &it["client"]).find(|it| it["id"] == expected["client"]);
    let observed = client.and_then(|it| it["observeEvents"].as_array()).expect("its client observes events");
    observed.iter().any(|it| it == event)
}

/// Holds each event to its expectation, in order.
fn check_all(
    expected: &Value,
    list: &Value,
    ignore_extra: &str,
    seen: &[&Record],
    matches: fn(&Value, &Record) -> Result<(), String>,
) -> usize {
    let expected = expected.as_array().expect("the expectations are a list");
    let told = || seen.iter().map(|it| format!("\n  {}", it.0)).collect::<String>();
    let extra = list[ignore_extra].as_bool().unwrap_or(false);
    assert!(seen.len() >= expected.len(), "{} of {} events were seen:{}", seen.len(), expected.len(), told());
    assert!(
        extra || seen.len() == expected.len(),
        "{} events were seen, not {}:{}",
        seen.len(),
        expected.len(),
        told()
    );
    for (at, (expected, seen)) in expected.iter().zip(seen).enumerate() {
        matches(expected, seen).unwrap_or_else(|mismatch| panic!("event {at}: {mismatch}:{}", told()));
    }
    expected.len()
}

/// Matches an entry of `expectEvents`.
fn event(expected: &Value, seen: &Record) -> Result<(), String> {
    let (kind, fields) = expected.as_object().and_then(|it| it.iter().next()).expect("an expected event has its kind");
    if kind != seen.event() {
        return Err(format!("is a {}, expected {kind}", seen.event()));
    }
    for (field, expected) in fields.as_object().expect("an expected event is an object") {
        match field.as_str() {
            "command" | "reply" => matcher::root(field, &document(expected), &document(&seen.0[field]))?,
            "commandName" | "databaseName" if seen.0.get(field) == Some(expected) => {}
            "hasServerConnectionId" if expected.as_bool() == Some(seen.i64("serverConnectionId").is_some()) => {}
            "hasServiceId" if expected.as_bool() == Some(seen.0.get("serviceId").is_some()) => {}
            _ => return Err(format!("{field} is not {expected}")),
        }
    }
    Ok(())
}

/// Matches an entry of `expectLogMessages`, by the log message that a driver would make of our event.
fn message(expected: &Value, seen: &Record) -> Result<(), String> {
    assert_eq!(expected["component"], "command");
    let mut data = document(&expected["data"]);
    for field in NOT_ON_THE_WIRE {
        data.remove(field);
    }
    matcher::root("message", &data, &log_message(seen))?;
    match expected.get("failureIsRedacted").and_then(Value::as_bool) {
        Some(redacted) if redacted != is_redacted(seen) => Err(format!("redacted is not {redacted}")),
        _ => Ok(()),
    }
}

/// A driver numbers its operations for itself.
const NOT_ON_THE_WIRE: [&str; 1] = ["operationId"];

fn log_message(seen: &Record) -> Document {
    let text = match seen.event() {
        "commandStartedEvent" => "Command started",
        "commandSucceededEvent" => "Command succeeded",
        _ => "Command failed",
    };
    let (host, port) = seen.str("connectionId").and_then(|it| it.rsplit_once(':')).expect("a host and a port");
    let mut message = doc! { "message": text, "serverHost": host, "serverPort": port.parse::<i32>().expect("a port") };
    for field in ["commandName", "databaseName", "requestId", "serverConnectionId", "serviceId"] {
        message.extend(seen.0.get(field).map(|it| (field.to_owned(), number_or_text(it))));
    }
    message.extend(seen.proxy_i64("connection").map(|it| ("driverConnectionId".to_owned(), Bson::Int64(it))));
    for field in ["command", "reply", "failure"] {
        message.extend(seen.0.get(field).map(|it| (field.to_owned(), Bson::String(it.to_string()))));
    }
    #[expect(clippy::cast_precision_loss, reason = "a test is shorter than a century")]
    message.extend(seen.i64("durationMicros").map(|it| ("durationMS".to_owned(), Bson::Double(it as f64 / 1000.0))));
    message
}

fn number_or_text(value: &Value) -> Bson {
    value.as_i64().map_or_else(|| Bson::String(value.as_str().unwrap_or_default().to_owned()), Bson::Int64)
}

/// Whether a failure keeps nothing but what may be shown of a sensitive command's error.
fn is_redacted(seen: &Record) -> bool {
    let failure = seen.0["failure"].as_object().expect("a failure is a document");
    failure.keys().all(|key| matches!(key.as_str(), "code" | "codeName" | "errorLabels"))
}
