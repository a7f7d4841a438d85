//! Somebody sets the wall clock of the machine while the proxy runs: forward, back, by years.
//!
//! The clock is set for the proxy alone, by a library that is loaded before the system's: see `clock.c` beside this.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bson::{RawBsonRef, RawDocument, doc};
use mongotap::capture::log::Item;
use mongotap::capture::source::Source;
use mongotap::event::Event;

use crate::server::Server;
use crate::support::captured::show;
use crate::support::client::{Client, is_ok};
use crate::support::now;
use crate::support::proxy::{self, Proxy};
use crate::tally::Tally;

const DAY: i64 = 86_400;

/// What the clock is set by, in seconds, one after the other; and for how long it stays so.
const STEPS: [i64; 6] = [0, DAY, -2 * DAY, 3650 * DAY, -1, 0];
const STAYS: Duration = Duration::from_millis(250);

/// A proxy whose wall clock can be set.
struct Clock {
    offset: File,
    library: PathBuf,
    path: PathBuf,
}

impl Clock {
    fn new(directory: &Path) -> Self {
        let (library, path) = (directory.join("clock.so"), directory.join("offset"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/load/clock.c");
        let mut compiler = Command::new("cc");
        let status = compiler.args(["-shared", "-fPIC", "-O2", "-o"]).args([&library, &source]).status();
        assert!(status.expect("there is a C compiler, as for building mongotap").success());
        let offset = File::create(&path).expect("a directory takes files");
        let clock = Self { offset, library, path };
        clock.set(0);
        clock
    }

    fn set(&self, seconds: i64) {
        self.offset.write_all_at(&seconds.to_ne_bytes(), 0).expect("it is open");
    }

    fn command(&self) -> Command {
        let mut command = proxy::command();
        command.env("LD_PRELOAD", &self.library).env("CLOCK_OFFSET", &self.path);
        command
    }
}

pub(crate) fn is_set() -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let clock = Clock::new(directory.path());
    let server = Server::start();
    let (log, capture) = (directory.path().join("events.jsonl"), directory.path().join("run.mtap"));
    let name = |path: &Path| path.to_str().expect("its name is text").to_owned();
    let rotated = ["--log-rotate-every", "1h", "--capture-rotate-every", "1h"];
    let files = ["--upstream", &server.uri(), "--log", &name(&log), "--capture", &name(&capture)];
    let proxy = Proxy::run(clock.command(), &[&files[..], &rotated].concat());
    let mut client = Client::handshake(&proxy.address, "clocks");
    let (mut asked, begun) = (0_i64, now());
    for step in STEPS {
        clock.set(step);
        let set = now();
        let mut is_last = false;
        while !is_last {
            // Asked so late, it has the date that was set, however few could be asked before.
            is_last = set.elapsed() >= STAYS;
            assert!(is_ok(&client.command(&doc! { "find": "items", "n": asked, "$db": "clocks" })));
            asked += 1;
        }
    }
    let took = begun.elapsed();
    drop(client);
    let said = proxy.end();

    let tally = Tally::of_whole(&log);
    assert_eq!((tally.succeeded as i64, tally.dropped), (asked, 0), "{said}");
    for path in [&log, &capture] {
        let aside = PathBuf::from(format!("{}.1", path.display()));
        assert!(path.exists() && !aside.exists(), "no hour has passed");
    }
    let longest = check(&log, asked, took);
    let (shown, said, code) = show(&capture, &["--format", "jsonl"]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    let derived = directory.path().join("derived.jsonl");
    fs::write(&derived, shown).expect("a directory takes files");
    assert_eq!(check(&derived, asked, took), longest, "the capture tells the same");
    format!("set {} times in {asked} commands, the longest of which took {longest:.1?}", STEPS.len() - 1)
}

/// Commands in their order, with the times that they took, under dates that follow the clock. How long the longest took.
fn check(log: &Path, asked: i64, took: Duration) -> Duration {
    let mut source = Source::open(BufReader::new(File::open(log).expect("it is there")), None).expect("it is a log");
    let (mut next, mut back, mut last, mut longest, mut open) = (0, 0, 0, Duration::ZERO, None);
    let mut days = BTreeSet::new();
    while let Some((item, _)) = source.next_item().expect("it can be read") {
        let Item::Entry(entry) = item else { continue };
        match &entry.event {
            Event::CommandStarted(event) => {
                let command = RawDocument::from_bytes(event.command.as_bytes()).expect("it is BSON");
                assert_eq!(command.get("n").expect("it is BSON").and_then(number), Some(next), "in order");
                next += 1;
                open = Some(event.info.exchange);
            }
            Event::CommandSucceeded(event) => {
                assert_eq!(open.take(), Some(event.info.exchange), "one after the other");
                assert!(event.duration < took, "{:?}", event.duration);
                longest = longest.max(event.duration);
            }
            _ => continue,
        }
        back += usize::from(entry.at.unix_micros < last);
        last = entry.at.unix_micros;
        days.insert(last / 1_000_000 / DAY);
    }
    assert_eq!(next, asked);
    assert!(days.len() >= 4, "dates follow the clock: {days:?}");
    assert_eq!(back, STEPS.windows(2).filter(|pair| pair[1] < pair[0]).count(), "and go back when it is set back");
    longest
}

/// A number of any width, as a log gives it back.
fn number(value: RawBsonRef<'_>) -> Option<i64> {
    value.as_i64().or_else(|| value.as_i32().map(i64::from))
}
