//! Disks that are full for a while, slow, or emptied by somebody: the application goes on, what is missing is counted in
//! the log and in the capture, and recording goes on when it can.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bson::doc;
use mongotap::capture::log::Item;
use mongotap::capture::source::Source;
use mongotap::event::Event;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::server::Server;
use crate::support::client::{Client, is_ok};
use crate::support::proxy::{self, Proxy};
use crate::support::{now, wait_for};
use crate::tally::Tally;
use crate::usage;

/// A command that waits for a disk is not answered while that fails; one that a busy machine does not let on, is.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A proxy with a log and a capture, and the application before it.
struct Recorded {
    proxy: Proxy,
    directory: TempDir,
    client: Client,
    asked: u64,
    slowest: Duration,
}

impl Recorded {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new("sh");
        // That a file may not grow is told by an error if the signal for it is ignored.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_mongotap")]);
        command.current_dir(directory.path());
        fs::create_dir(directory.path().join("disk")).expect("a directory is to be had");
        let files = ["--upstream", &server.uri(), "--log", LOG, "--capture", CAPTURE];
        let arguments = [&files[..], arguments].concat();
        let proxy = Proxy::run(command, &arguments);
        let client = Client::handshake(&proxy.address, "disks");
        Self { proxy, directory, client, asked: 0, slowest: Duration::ZERO }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Does so many commands; each must be answered.
    fn commands(&mut self, count: u64) {
        for _ in 0..count {
            let insert = doc! { "insert": "items", "documents": [{ "text": "x".repeat(4000) }], "$db": "disks" };
            let begun = now();
            assert!(is_ok(&self.client.command(&insert)), "the application goes on");
            self.slowest = self.slowest.max(begun.elapsed());
            self.asked += 1;
        }
    }

    /// Waits until it has said something of the log and of the capture.
    fn wait_for_word(&self, word: &str) {
        for name in [LOG, CAPTURE] {
            let kind = if name == LOG { "log" } else { "capture" };
            let line = format!("{kind} {name}: {word}");
            wait_for(&line, Duration::from_secs(30), || self.proxy.stderr().contains(&line).then_some(()));
        }
    }

    /// Waits until what was done is in both files.
    fn wait_until_written(&self) {
        wait_for("the files to be written", Duration::from_secs(30), || {
            let log = fs::read_to_string(self.path(LOG)).ok()?;
            let ends = log.matches("commandSucceededEvent").count() as u64;
            (ends >= self.asked && captured(&self.path(CAPTURE)).0 >= self.asked).then_some(())
        });
    }

    /// Ends it. What it said, and where its files are.
    fn end(self) -> (String, TempDir) {
        let Self { proxy, directory, client, .. } = self;
        drop(client);
        (proxy.end(), directory)
    }
}

const LOG: &str = "disk/events.jsonl";
const CAPTURE: &str = "disk/run.mtap";

/// How many commands of a capture have ended, and how many it says are missing.
fn captured(capture: &Path) -> (u64, u64) {
    let Ok(file) = File::open(capture) else { return (0, 0) };
    let mut source = Source::open(BufReader::new(file), None).expect("it can be read");
    let (mut ended, mut missing) = (0, 0);
    while let Some((item, _)) = source.next_item().expect("what is there is good") {
        match item {
            Item::Entry(entry) => ended += u64::from(matches!(entry.event, Event::CommandSucceeded(_))),
            Item::Dropped { exchanges, .. } => missing += exchanges,
            Item::Other => {}
        }
    }
    (ended, missing)
}

/// For a while no file of the proxy may be longer than it is.
pub(crate) fn full_for_a_while() -> String {
    let server = Server::start();
    // Room for 50 commands, however late they are written, and not for 500.
    let queues = ["--log-queue-bytes", "1MB", "--capture-queue-bytes", "1MB"];
    let mut recorded = Recorded::start(&server, &queues);
    recorded.commands(50);
    recorded.wait_until_written();
    let pid = recorded.proxy.pid();
    usage::allow_no_longer_files_than(pid, Some(1));
    recorded.commands(500);
    recorded.wait_for_word("file too large; trying again");
    usage::allow_no_longer_files_than(pid, None);
    recorded.wait_for_word("is written again");
    recorded.commands(50);
    let (asked, slowest) = (recorded.asked, recorded.slowest);
    let (said, directory) = recorded.end();

    assert!(slowest < AT_ONCE, "a command waited {slowest:?}");
    let tally = Tally::of_whole(&directory.path().join(LOG));
    let (captured, missing) = captured(&directory.path().join(CAPTURE));
    assert_eq!((tally.succeeded + tally.dropped, captured + missing), (asked, asked), "{tally:?}");
    assert!(tally.dropped > 0 && missing > 0 && tally.succeeded > 100 && captured > 100, "{captured}: {tally:?}");
    assert_eq!(tally.reason.as_deref(), Some("file too large"));
    for name in [format!("log {LOG}"), format!("capture {CAPTURE}")] {
        let lines = said.lines().filter(|line| line.starts_with(&format!("{name}: "))).count();
        assert_eq!(lines, 3, "that it fails, that it does no more, and what it cost: {said}");
    }
    format!(
        "of {asked} commands {} are missing in the log, {missing} in the capture; the slowest {slowest:.1?}",
        tally.dropped
    )
}

/// A disk is full, and somebody makes room by removing the files, or by cutting them.
pub(crate) fn emptied_when_full() -> String {
    let server = Server::start();
    for (word, spoil) in [("was removed", remove as fn(&Path)), ("was cut", empty)] {
        let mut recorded = Recorded::start(&server, &[]);
        recorded.commands(50);
        recorded.wait_until_written();
        usage::allow_no_longer_files_than(recorded.proxy.pid(), Some(1));
        recorded.commands(20);
        recorded.wait_for_word("file too large; trying again");
        for name in [LOG, CAPTURE] {
            spoil(&recorded.path(name));
        }
        recorded.wait_for_word(&format!("{word}, and 5"));
        usage::allow_no_longer_files_than(recorded.proxy.pid(), None);
        recorded.wait_for_word("is written again");
        recorded.commands(10);
        let asked = recorded.asked;
        let (said, directory) = recorded.end();
        let text = fs::read_to_string(directory.path().join(LOG)).expect("another is begun");
        let lines = |event: &str| {
            let all = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("each is JSON"));
            all.filter(|line| line["event"] == event).collect::<Vec<_>>()
        };
        assert_eq!(lines("commandSucceededEvent").len(), 30, "what waited is in the file begun anew: {said}");
        let dropped: u64 = lines("eventsDroppedEvent").iter().filter_map(|line| line["exchanges"].as_u64()).sum();
        assert_eq!(dropped + 30, asked, "{said}");
        // With the hello.
        assert_eq!(captured(&directory.path().join(CAPTURE)), (30, asked + 1 - 30), "{said}");
    }
    "50 commands went with the files and are counted, 20 that waited and 10 are in those begun anew".to_owned()
}

fn remove(path: &Path) {
    fs::remove_file(path).expect("it is there");
}

fn empty(path: &Path) {
    File::options().write(true).truncate(true).open(path).expect("it can be cut");
}

pub(crate) fn removed() -> String {
    spoilt("was removed", "the file was removed", " bytes) are missing", remove);
    "50 commands were removed and are counted, 51 are in the files begun anew".to_owned()
}

/// The files are cut while they are written, to nothing and in their midst, as `copytruncate` of logrotate does.
pub(crate) fn cut() -> String {
    for length in [0, 3000] {
        let cut = |path: &Path| {
            let file = File::options().write(true).open(path).expect("it is there");
            file.set_len(length).expect("it can be cut");
        };
        let end = " bytes) are missing unless they were copied";
        spoilt("was cut", "the file was cut; what was in it is missing, unless it was copied", end, cut);
    }
    "50 commands were cut off and are counted, 51 are in the files begun anew, twice".to_owned()
}

/// Something is done to the files: what was in them is counted as missing, and they are begun anew.
fn spoilt(word: &str, reason: &str, end: &str, spoil: impl Fn(&Path)) {
    let server = Server::start();
    let mut recorded = Recorded::start(&server, &[]);
    recorded.commands(50);
    recorded.wait_until_written();
    for name in [LOG, CAPTURE] {
        spoil(&recorded.path(name));
    }
    recorded.commands(1);
    recorded.wait_for_word(&format!("{word}, and 5"));
    recorded.commands(50);
    let (said, directory) = recorded.end();
    let (log, capture) = (directory.path().join(LOG), directory.path().join(CAPTURE));
    let text = fs::read_to_string(log).expect("another is begun");
    let (captured, missing) = captured(&capture);
    let all: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    // What is left of a file that was cut stands before what was begun anew.
    let begun = all.iter().rposition(|line| line["event"] == "recorderStartedEvent").expect("it says where it begins");
    let lines = |event: &str| all[begun..].iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    assert_eq!(lines("commandSucceededEvent").len(), 51, "{said}");
    let dropped = lines("eventsDroppedEvent");
    assert!(dropped.len() == 1 && dropped[0]["exchanges"] == 50, "{dropped:?}");
    assert_eq!(dropped[0]["reason"], reason);
    let sums: Vec<_> = said.lines().filter(|line| line.contains(" bytes) are missing")).collect();
    assert!(sums.len() == 2 && sums.iter().all(|sum| sum.ends_with(end)), "{said}");
    assert_eq!((captured, missing), (51, 51), "the one, with its hello, has the others missing: {said}");
}

/// The directory of the files goes, and comes back a while later.
pub(crate) fn taken_away() -> String {
    gone_for_a_while("no such file or directory", |_| {}, |disk| fs::create_dir(disk).expect("it was removed"))
}

/// The directory becomes one in which nobody may make a file, whoever it is, and is another one a while later.
pub(crate) fn read_only() -> String {
    let refused = File::create("/sys/mongotap").expect_err("nobody makes files there");
    // Without its number.
    let word = refused.to_string().to_lowercase();
    let word = word.split(" (os error").next().expect("a text has a beginning");
    gone_for_a_while(
        word,
        |disk| symlink("/sys", disk).expect("it was removed"),
        |disk| {
            fs::remove_file(disk).expect("it was made");
            fs::create_dir(disk).expect("it was removed");
        },
    )
}

/// Files go with their directory, for which something else may come, and it comes back.
fn gone_for_a_while(word: &str, went: impl Fn(&Path), came: impl Fn(&Path)) -> String {
    let server = Server::start();
    let mut recorded = Recorded::start(&server, &[]);
    recorded.commands(50);
    recorded.wait_until_written();
    let disk = recorded.path("disk");
    fs::rename(&disk, recorded.path("before")).expect("it is there");
    fs::remove_dir_all(recorded.path("before")).expect("it is there");
    went(&disk);
    recorded.commands(20);
    recorded.wait_for_word(&format!("{word}; trying again"));
    recorded.commands(20);
    came(&disk);
    recorded.wait_for_word("is written again");
    recorded.commands(50);
    let slowest = recorded.slowest;
    let (said, directory) = recorded.end();
    assert!(slowest < AT_ONCE, "a command waited {slowest:?}");
    let text = fs::read_to_string(directory.path().join(LOG)).expect("another is begun");
    assert_eq!(text.matches("commandSucceededEvent").count(), 90, "{said}");
    let (captured, missing) = captured(&directory.path().join(CAPTURE));
    assert_eq!((captured, missing), (90, 51), "{said}");
    format!(
        "{word}: 50 commands went with the files and are counted, 90 are in those begun anew; the slowest {slowest:.1?}"
    )
}

/// A disk that fails may be told to end the proxy.
pub(crate) fn full_and_the_end() -> String {
    for (option, name) in
        [("--log-on-error", format!("log {LOG}")), ("--capture-on-error", format!("capture {CAPTURE}"))]
    {
        let server = Server::start();
        let mut recorded = Recorded::start(&server, &[option, "stop"]);
        recorded.commands(50);
        recorded.wait_until_written();
        usage::allow_no_longer_files_than(recorded.proxy.pid(), Some(1));
        recorded.commands(1);
        let status = recorded.proxy.wait();
        let said = recorded.proxy.stderr();
        assert_eq!(status.code(), Some(4), "{said}");
        assert!(said.contains(&format!("{name}: file too large\n")), "{said}");
    }
    "by the log, and by the capture".to_owned()
}

/// The disk fails to the end, so that no file tells what is missing: the exit code does, and the last line.
pub(crate) fn failing_to_the_end() -> String {
    let ways =
        [("file too large", "1MB", 20), ("file too large", "65536", 400), ("no such file or directory", "1MB", 20)];
    for (reason, queue, count) in ways {
        let server = Server::start();
        let mut recorded = Recorded::start(&server, &["--capture-queue-bytes", queue]);
        match reason {
            "file too large" => usage::allow_no_longer_files_than(recorded.proxy.pid(), Some(1)),
            _ => fs::remove_dir_all(recorded.path("disk")).expect("it is there"),
        }
        recorded.commands(count);
        let Recorded { mut proxy, client, .. } = recorded;
        drop(client);
        proxy.signal(Signal::TERM);
        let status = proxy.wait();
        let said = proxy.stderr();
        assert_eq!(status.code(), Some(4), "{said}");
        let last = said.lines().rev().find(|line| !line.starts_with("hint: ")).expect("it says why");
        for name in [LOG, CAPTURE] {
            // The handshake may be among them.
            let lost = [count, count + 1].map(|count| format!("{name}: {reason}, to the end: {count} exchanges"));
            assert!(lost.iter().any(|lost| last.contains(lost)), "{said}");
        }
    }
    "commands that are in no file are told by the exit code and the last line".to_owned()
}

/// What a disk has no room for is the end of the log and the index of the capture: no exchange is missing.
pub(crate) fn full_at_the_end() -> String {
    let server = Server::start();
    let mut recorded = Recorded::start(&server, &[]);
    recorded.commands(50);
    recorded.wait_until_written();
    let length = fs::metadata(recorded.path(CAPTURE)).expect("it is there").len();
    usage::allow_no_longer_files_than(recorded.proxy.pid(), Some(length + 150));
    let Recorded { mut proxy, client, directory, .. } = recorded;
    drop(client);
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(4));
    let said = proxy.stderr();
    assert!(said.contains(&format!("capture {CAPTURE}: file too large")), "{said}");
    let last = said.lines().rev().find(|line| !line.starts_with("hint: ")).expect("it says why");
    assert!(last.contains(&format!("{LOG}: file too large, to the end: ")), "{said}");
    assert!(last.ends_with(" bytes not recorded") && !last.contains(CAPTURE), "{said}");
    assert_eq!(captured(&directory.path().join(CAPTURE)), (50, 0), "{said}");
    "the capture has all of 50 commands, and no index".to_owned()
}

/// A log whose queue is full is told what it misses.
pub(crate) fn slow() -> String {
    let (took, tally, said) = to_a_slow_reader("drop");
    assert_eq!(tally.succeeded + tally.dropped, COMMANDS, "{tally:?}");
    assert!(tally.dropped > 0 && tally.reason.as_deref() == Some("queue full"), "{tally:?}");
    assert!(said.contains(&format!(": {} exchanges (", tally.dropped)), "{said}");
    format!("{COMMANDS} commands in {took:.1?}, {} of them missing in the log", tally.dropped)
}

/// Or has the application wait for it, if that is wanted.
pub(crate) fn slow_and_waited_for() -> String {
    let (took, tally, _) = to_a_slow_reader("block");
    assert_eq!((tally.succeeded, tally.dropped), (COMMANDS, 0), "{tally:?}");
    assert!(took > SLOW_FOR / 2, "it waited {took:?} in all");
    format!("{COMMANDS} commands in {took:.1?}, all of them in the log")
}

const COMMANDS: u64 = 500;

/// So long a reader does not keep up.
const SLOW_FOR: Duration = Duration::from_millis(400);

/// The log is a pipe, of which little is read for a while; if nobody waits for that, until all commands were answered.
fn to_a_slow_reader(on_overflow: &str) -> (Duration, Tally, String) {
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("it runs").success());
    let (answered, all_answered) = mpsc::channel::<()>();
    let is_waited_for = on_overflow == "block";
    let reader = thread::spawn({
        let pipe = pipe.clone();
        move || {
            let mut pipe = File::open(pipe).expect("it is there");
            let mut text = String::new();
            let mut part = [0; 4096];
            for _ in 0..20 {
                thread::sleep(SLOW_FOR / 20);
                let length = pipe.read(&mut part).expect("it is written to");
                text += std::str::from_utf8(&part[..length]).expect("a log of ASCII");
            }
            if !is_waited_for {
                all_answered.recv().expect("it is told");
            }
            pipe.read_to_string(&mut text).expect("a log is UTF-8");
            text
        }
    });
    let path = pipe.to_str().expect("its name is text");
    let queue = ["--log-format", "jsonl", "--log-queue-bytes", "100kB", "--log-on-overflow", on_overflow];
    let files = ["--upstream", &server.uri(), "--log", path];
    let proxy = Proxy::run(proxy::command(), &[&files[..], &queue].concat());
    let mut client = Client::handshake(&proxy.address, "slow");
    let begun = now();
    for _ in 0..COMMANDS {
        let find = doc! { "find": "items", "filler": "x".repeat(2000), "$db": "disks" };
        assert!(is_ok(&client.command(&find)));
    }
    let took = begun.elapsed();
    // A reader that was waited for does not listen any more.
    let _ = answered.send(());
    drop(client);
    let said = proxy.end();
    let log = directory.path().join("events.jsonl");
    fs::write(&log, reader.join().expect("it reads to the end")).expect("a directory takes files");
    // That the connection was closed may be missing too.
    let tally = Tally::of(&log, 0);
    assert!(tally.is_ended && tally.open.is_empty() && tally.torn == 0, "{tally:?}");
    (took, tally, said)
}
