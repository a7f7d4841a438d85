//! `mongotap demo`: that it works with nothing else, and that nothing it prints is canned.

#![expect(clippy::unwrap_used, reason = "what is not as it should be fails its test")]

mod support;

use std::fs;
use std::future::Ready;
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use bson::rawdoc;
use mongotap::capture::fixture::Fixture;
use mongotap::cli::demo::{FIXTURE, record, run_with};
use mongotap::config::{Endpoint, Log, Target, Upstream};
use mongotap::net::client::{Client, Options};
use mongotap::sink::Format;
use rustix::process::{Pid, Signal, kill_process};
use support::manifest;
use support::mongod::Mongod;

/// What the demo logs, and what else it prints, with that recording.
async fn demo(fixture: &str) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = Log {
        format: Format::Compact,
        events: Format::Compact.default_events().to_vec(),
        ..Log::to(Target::File(path.clone()))
    };
    let mut printed = String::new();
    let mut print = |text: &str| {
        printed.push_str(text);
        Ok(())
    };
    run_with(fixture, log, &mut print, None::<Ready<()>>).await.unwrap();
    (fs::read_to_string(path).unwrap(), printed)
}

/// The one line of a log that holds all those words.
fn line<'l>(log: &'l str, words: &[&str]) -> &'l str {
    let mut lines = log.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    let found = lines.next().unwrap_or_else(|| panic!("no line with {words:?}:\n{log}"));
    assert_eq!(lines.next(), None, "{words:?}");
    found
}

/// Lines of commands: the others tell of the client's topology.
fn commands(log: &str) -> usize {
    log.lines().filter(|line| !line.contains(" topology ")).count()
}

#[tokio::test]
async fn what_it_prints_is_what_the_recording_says() {
    let (log, printed) = demo(FIXTURE).await;
    // One line a command: as many as the recording has requests.
    assert_eq!(commands(&log), 14, "{log}");
    assert!(line(&log, &["shop.orders", "count"]).contains("n=5"), "{log}");
    assert!(line(&log, &["cheaperThan"]).contains("BadValue"), "{log}");
    assert!(printed.contains("a recording of MongoDB 6.0.5, made with: cargo run --example record_demo"), "{printed}");

    let edits = [
        (r#"{"reply":{"n":5,"#, r#"{"reply":{"n":4321,"#),
        (r#""codeName":"BadValue""#, r#""codeName":"WorseValue""#),
        (r#""server":"6.0.5""#, r#""server":"9.8.7""#),
    ];
    let edited = edits.iter().fold(FIXTURE.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    });
    let (log, printed) = demo(&edited).await;
    assert!(line(&log, &["shop.orders", "count"]).contains("n=4321"), "{log}");
    assert!(line(&log, &["cheaperThan"]).contains("WorseValue"), "{log}");
    assert!(printed.contains("MongoDB 9.8.7"), "{printed}");
}

#[tokio::test]
async fn a_question_without_an_answer_fails_and_the_rest_goes_on() {
    let edited = FIXTURE
        .replace(r#"{"count":"orders","query":{"status":"paid"}"#, r#"{"count":"orders","query":{"status":"x"}"#);
    let (log, _) = demo(&edited).await;
    assert!(line(&log, &["shop.orders", "count"]).contains("ReplayMiss"), "{log}");
    assert_eq!(commands(&log), 14, "{log}");
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongotap"));
    command.arg("demo").stdin(Stdio::null());
    command
}

#[test]
fn it_ends_well_and_says_what_to_do_next() {
    // Nothing of the repository is there.
    let elsewhere = tempfile::tempdir().unwrap();
    let output = command().current_dir(elsewhere.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let in_order =
        ["shop.orders", "p99", "mongotap proxy --upstream", "mongodb://127.0.0.1:27027/?directConnection=true"];
    let places = in_order.map(|part| text.find(part).unwrap_or_else(|| panic!("no {part} in\n{text}")));
    assert!(places.is_sorted(), "{text}");
    assert_eq!(output.stderr, b"");
}

/// A demo that stays up; killed if the test does not end it.
struct Staying {
    child: Child,
    uri: String,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Staying {
    fn start() -> Self {
        let mut child = command().arg("--stay").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let uri_of = |line: &str| Some(line.split_once("mongosh '")?.1.split_once('\'')?.0.to_owned());
        let uri = lines.find_map(|line| uri_of(&line.unwrap())).unwrap();
        Self { child, uri, lines }
    }

    /// Interrupts it; it must end well. What it printed after the URI.
    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let rest = self.lines.by_ref().map(Result::unwrap).collect::<Vec<_>>().join("\n");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
        rest
    }
}

impl Drop for Staying {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_stays_for_other_applications() {
    let demo = Staying::start();
    let endpoint: Endpoint = demo.uri.parse::<Upstream>().unwrap().hosts.remove(0);
    let mut client = Client::connect(&endpoint, &Options::default()).await.unwrap();
    let missed = client.command("shop", rawdoc! { "count": "orders", "query": { "status": "lost" } }).await.unwrap();
    let message = missed.get_str("errmsg").unwrap();
    assert!(message.contains("query.status is \"paid\" there and \"lost\" here"), "{message}");
    let printed = demo.stop();
    assert!(line(&printed, &["shop.orders", "count", "lost"]).contains("ReplayMiss"), "{printed}");
    assert!(printed.contains("p99"), "{printed}");
}

/// Twice the same, whoever asked before: each time from the first batch to the last.
#[test]
fn a_real_driver_is_at_home_there() {
    const PROGRAM: &str = r#"
import sys, pymongo
for compressors in ("", "zstd", "zlib", "snappy"):
    with pymongo.MongoClient(sys.argv[1], compressors=compressors, serverSelectionTimeoutMS=10000) as client:
        print(client.admin.command("ping")["ok"], client.server_info()["version"])
        print([order["_id"] for order in client.shop.orders.find({"status": "paid"}, batch_size=2)])
"#;
    let demo = Staying::start();
    let output = Command::new(manifest::python()).args(["-c", PROGRAM, &demo.uri]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1.0 6.0.5\n[1, 3, 4, 6, 7]\n".repeat(4), "{said}");
    let printed = demo.stop();
    assert_eq!(printed.matches("getMore").count(), 8 + 1, "two for each, and a row of the table: {printed}");
}

#[tokio::test]
async fn recording_again_gives_the_shipped_fixture() {
    let endpoint: Endpoint = Mongod::shared().address().parse().unwrap();
    let mut client = Client::connect(&endpoint, &Options::default()).await.unwrap();
    let recorded = record(&mut client).await.unwrap();
    let (again, shipped) = (Fixture::parse(&recorded).unwrap(), Fixture::parse(FIXTURE).unwrap());
    if again.header.server == shipped.header.server {
        assert_eq!(recorded, FIXTURE);
    }
    // Another version of the server may put it in other words, but is asked the same.
    let requests = |fixture: Fixture| fixture.exchanges.into_iter().map(|it| it.request).collect::<Vec<_>>();
    assert_eq!(requests(again), requests(shipped));
}
