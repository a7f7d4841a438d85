//! Programs that check every result, recorded before a real mongod and answered without it: with a user and a password,
//! and where what is read follows what is written, in another order, over other connections and with identities and
//! dates of their own.

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use support::manifest::{self, Manifest};
use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::program::run_bounded;
use support::proxy::command;
use support::replay::{Replay, captured};

/// A program's run, recorded.
struct Recorded {
    name: String,
    program: Box<dyn Fn(&str) -> Command>,
    /// What stands before the hosts of its URI, and its options.
    user: String,
    options: String,
    capture: PathBuf,
    /// What it printed at its end.
    said: String,
    directory: TempDir,
}

impl Recorded {
    /// Runs a program before that mongod.
    fn new(
        name: &str,
        mongod: &Mongod,
        (user, options): (&str, &str),
        program: impl Fn(&str) -> Command + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut said = String::new();
        let capture = captured(&mongod.uri(), directory.path(), |uri| {
            said = last_line(&run_bounded(program(&with(uri, user, options)), directory.path()));
        });
        let (name, user, options) = (name.to_owned(), user.to_owned(), options.to_owned());
        Self { name, program: Box::new(program), user, options, capture, said, directory }
    }

    /// The same as a fixture.
    fn fixture(&self) -> PathBuf {
        let fixture = self.directory.path().join("run.jsonl");
        let mut convert = command();
        let output = convert.arg("convert").arg(&self.capture).arg(&fixture).stdin(Stdio::null()).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "{}: {}", self.name, String::from_utf8_lossy(&output.stderr));
        fixture
    }
}

/// What a program says at its end; warnings may stand before it.
fn last_line(said: &str) -> String {
    said.lines().last().unwrap_or_default().to_owned()
}

/// A URI with a user and more options.
fn with(uri: &str, user: &str, options: &str) -> String {
    let uri = uri.replacen("mongodb://", &format!("mongodb://{user}"), 1);
    if options.is_empty() { uri } else { format!("{uri}&{options}") }
}

/// A driver's workload.
fn workload(manifest: &Manifest) -> impl Fn(&str) -> Command + 'static {
    let manifest = manifest.clone();
    move |uri| {
        let mut program = manifest.command();
        program.env("MONGODB_URI", uri).env("MONGOTAP_TEST_DB", "replayed").env("MONGOTAP_TEST_EVENTS", "");
        program
    }
}

#[test]
fn who_authenticated_finds_its_results_again() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let manifests = manifest::installed(manifest::all());
    let authenticated = |name: &&str| {
        let manifest = manifests.iter().find(|it| it.name == *name).expect("it must always run");
        manifest.prepare();
        let user = format!("{USER}:{}@", PASSWORD.replace(' ', "%20"));
        Recorded::new(name, &mongod, (&user, "authSource=admin"), workload(manifest))
    };
    let recorded: Vec<_> = ["pymongo", "rust"].iter().map(authenticated).collect();
    drop(mongod);
    for run in &recorded {
        for recording in [run.capture.clone(), run.fixture()] {
            let mut replay = command();
            replay.arg("replay").arg(recording).args(["--listen", "127.0.0.1:0", "--user", USER]);
            replay.args(["--password-env", "PASSWORD_OF_THE_TESTER"]).env("PASSWORD_OF_THE_TESTER", PASSWORD);
            let replay = Replay::spawn(replay);
            let program = (run.program)(&with(&replay.uri, &run.user, &run.options));
            assert_eq!(last_line(&run_bounded(program, run.directory.path())), run.said, "{}", run.name);
            let stopped = replay.stop();
            assert_eq!(stopped.code, Some(0), "{}: {}", run.name, stopped.stderr);
        }
    }
}

/// The steps of `replayed.py` in that order, with so many threads where it has several.
fn steps(order: &str, workers: usize) -> impl Fn(&str) -> Command + 'static {
    let (order, directory) = (order.to_owned(), manifest::copy().join("python"));
    move |uri| {
        let mut program = Command::new(manifest::python());
        program.current_dir(&directory).arg("replayed.py").args(order.split(' '));
        program
            .env("MONGODB_URI", uri)
            .env("MONGOTAP_TEST_DB", "steps")
            .env("MONGOTAP_TEST_WORKERS", workers.to_string());
        program
    }
}

/// Orders in which the steps are asked again, and over how many threads.
const ORDERS: [(&str, usize); 3] = [
    ("first second poll batches counter identities dates retried failing", 4),
    ("failing second first dates identities retried counter poll batches", 1),
    ("batches dates counter second first identities failing poll retried", 8),
];

/// What only a replica set has.
const OF_A_SET: &str = "transaction stream";

#[test]
fn what_changes_as_it_is_written_is_followed() {
    for is_set in [false, true] {
        let mongod = Mongod::start(Options { replica_set: is_set, ..Options::default() });
        let more = if is_set { OF_A_SET } else { "" };
        let (order, workers) = ORDERS[0];
        let fail = mongod.uri();
        let program = steps(format!("{order} {more}").trim_end(), workers);
        let recorded = Recorded::new("steps", &mongod, ("", ""), move |uri| {
            let mut program = program(uri);
            program.env("MONGOTAP_TEST_FAIL", &fail);
            program
        });
        drop(mongod);
        for is_fixture in [false, true] {
            let recording = if is_fixture { recorded.fixture() } else { recorded.capture.clone() };
            let replay = Replay::start(&recording, &[]);
            for (order, workers) in ORDERS {
                let program = steps(format!("{more} {order}").trim_start(), workers);
                let said = run_bounded(program(&replay.uri), recorded.directory.path());
                assert_eq!(last_line(&said), recorded.said, "{order}");
            }
            let stopped = replay.stop();
            assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
        }
    }
}
