//! The recorder: what is in a log is whole, numbered and accounted for, whatever the disk, the queue and the listeners do.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

#[path = "recorder/bench.rs"]
mod bench;
#[path = "recorder/captures.rs"]
mod captures;
#[path = "recorder/monitoring.rs"]
mod monitoring;
#[path = "recorder/removed.rs"]
mod removed;
#[path = "recorder/rotation.rs"]
mod rotation;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use bench::{Bench, exchange, lines, log, next, seqs};
use mongotap::config::{Log, OnError, OnOverflow, Target, Writing};
use mongotap::event::{CommandListener, CommandStarted, CommandSucceeded, Connection, Timestamp};
use mongotap::net::recorder::Listeners;
use mongotap::sink::Format;
use serde_json::Value;

/// What a log says of its exchanges: for each the number of starts and of ends.
fn exchanges(lines: &[Value]) -> BTreeMap<u64, (u32, u32)> {
    let mut exchanges = BTreeMap::<u64, (u32, u32)>::new();
    for line in lines {
        let Some(exchange) = line["proxy"]["exchange"].as_u64() else { continue };
        let counts = exchanges.entry(exchange).or_default();
        match line["event"].as_str().unwrap() {
            "commandStartedEvent" => counts.0 += 1,
            _ => counts.1 += 1,
        }
    }
    exchanges
}

/// How many exchanges are in a log, each whole, and how many it says are missing.
fn whole_and_missing(lines: &[Value]) -> (usize, u64) {
    let exchanges = exchanges(lines);
    assert!(exchanges.values().all(|counts| *counts == (1, 1)), "{exchanges:?}");
    let missing = lines.iter().filter(|line| line["event"] == "eventsDroppedEvent");
    (exchanges.len(), missing.map(|line| line["exchanges"].as_u64().unwrap()).sum())
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

/// A pipe with a name, which holds 64 KiB and then makes its writer wait for a reader.
fn pipe(directory: &Path) -> PathBuf {
    let path = directory.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

/// Reads a pipe to its end once it is allowed to.
fn read_later(path: &Path) -> (mpsc::Sender<()>, std::thread::JoinHandle<String>) {
    let (allow, allowed) = mpsc::channel();
    let path = path.to_owned();
    let reader = std::thread::spawn(move || {
        let mut pipe = fs::File::open(path).unwrap();
        _ = allowed.recv();
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    });
    (allow, reader)
}

#[test]
fn lines_are_numbered_without_gaps_over_threads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[log(&path)]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let mut feed = bench.feed();
            scope.spawn(move || {
                for number in 0..500 {
                    exchange(&mut feed, 1 + thread * 500 + number, 40);
                    feed.tick(Timestamp { monotonic_nanos: number * 1_000_000, unix_micros: 0 });
                }
            });
        }
    });
    let totals = bench.stop();
    let lines = lines(&path);
    assert_eq!(seqs(&lines), (0..4002).collect::<Vec<_>>());
    assert_eq!(whole_and_missing(&lines), (2000, 0));
    assert_eq!((&lines[0]["event"], &lines[0]["logVersion"]), (&"recorderStartedEvent".into(), &1.into()));
    assert_eq!((&lines[0]["run"], &lines[0]["listen"]), (&"run".into(), &"here".into()));
    let last = lines.last().unwrap();
    assert_eq!((&last["event"], &last["exchanges"]), (&"recorderStoppedEvent".into(), &2000.into()));
    assert_eq!((totals[0].counts.events, totals[0].counts.dropped_exchanges), (4002, 0));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_held_for_20_ms_is_handed_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[log(&path)]);
    let mut feed = bench.feed();
    exchange(&mut feed, 1, 10);
    assert!(feed.has_pending());
    feed.tick(Timestamp { monotonic_nanos: 19_000_000, unix_micros: 0 });
    assert!(feed.has_pending());
    feed.tick(Timestamp { monotonic_nanos: 20_000_000, unix_micros: 0 });
    assert!(!feed.has_pending());
    bench::wait_for(|| lines(&path).len() == 3);
}

#[test]
fn a_full_queue_drops_whole_exchanges_and_counts_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = pipe(directory.path());
    let (allow, reader) = read_later(&path);
    let bench = Bench::start(&[Log { writing: Writing { queue_bytes: 100_000, ..Writing::default() }, ..log(&path) }]);
    let mut feed = bench.feed();
    for number in 1..=1000 {
        // Some are in flight when the queue is found full, some when it is found empty again.
        bench::start_of(&mut feed, number, 400);
        bench::start_of(&mut feed, number + 1000, 400);
        bench::end_of(&mut feed, number + 1000);
        bench::end_of(&mut feed, number);
    }
    allow.send(()).unwrap();
    bench::wait_for(|| bench.recorder.is_idle());
    exchange(&mut feed, 5000, 40);
    bench::start_of(&mut feed, 5001, 40);
    drop(feed);
    let totals = bench.stop();
    let lines = bench::parse(&reader.join().unwrap());
    assert_eq!(seqs(&lines), (0..lines.len() as u64).collect::<Vec<_>>());
    let mut counted = exchanges(&lines);
    assert_eq!((counted.remove(&5000), counted.remove(&5001)), (Some((1, 1)), Some((1, 0))));
    assert!(counted.values().all(|counts| *counts == (1, 1)), "{counted:?}");
    let dropped: Vec<_> = lines.iter().filter(|line| line["event"] == "eventsDroppedEvent").collect();
    let sum = |field: &str| dropped.iter().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    assert!(counted.len() > 50 && sum("exchanges") > 50, "{} {}", counted.len(), sum("exchanges"));
    assert_eq!(counted.len() as u64 + sum("exchanges"), 2000);
    // The missing lines are like those that are there: a start of some 700 bytes, an end of some 400.
    let each = sum("bytes") / sum("exchanges");
    assert!((800..1600).contains(&each), "{each}");
    assert!(dropped.iter().all(|line| line["reason"] == "queue full"));
    assert_eq!(totals[0].counts.dropped_exchanges, sum("exchanges"));
    assert_eq!(totals[0].counts.dropped_bytes, sum("bytes"));
    assert_eq!(totals[0].counts.exchanges, counted.len() as u64 + 1);
}

#[test]
fn a_full_queue_that_blocks_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = pipe(directory.path());
    let (allow, reader) = read_later(&path);
    let bench = Bench::start(&[Log {
        writing: Writing { queue_bytes: 20_000, on_overflow: OnOverflow::Block, ..Writing::default() },
        ..log(&path)
    }]);
    let mut feed = bench.feed();
    let (done, is_done) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        (1..=1000).for_each(|number| exchange(&mut feed, number, 400));
        done.send(()).unwrap();
    });
    assert!(is_done.recv_timeout(Duration::from_millis(300)).is_err(), "it did not wait");
    allow.send(()).unwrap();
    is_done.recv_timeout(Duration::from_secs(30)).unwrap();
    writer.join().unwrap();
    bench.stop();
    assert_eq!(whole_and_missing(&bench::parse(&reader.join().unwrap())), (1000, 0));
}

#[test]
fn a_torn_last_line_is_cut_off_and_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let whole = "{\"seq\":0,\"event\":\"recorderStartedEvent\"}\n";
    let torn = format!("{{\"seq\":1,\"event\":\"{}", "x".repeat(20_000));
    fs::write(&path, format!("{whole}{torn}")).unwrap();
    let bench = Bench::start(&[log(&path)]);
    let said = bench.said();
    bench.stop();
    assert_eq!(*said.lock().unwrap(), [format!("log {}: cut off a torn last line of 20018 bytes", path.display())]);
    assert!(fs::read_to_string(&path).unwrap().starts_with(whole));
    assert_eq!(seqs(&lines(&path)), [0, 0, 1]);

    // Nothing but a torn line; and a log of text, where a line is finished instead.
    let text = directory.path().join("a.txt");
    fs::write(&path, "{\"se").unwrap();
    fs::write(&text, "half").unwrap();
    let bench = Bench::start(&[log(&path), Log { format: Format::Text, ..log(&text) }]);
    exchange(&mut bench.feed(), 1, 10);
    bench.stop();
    assert_eq!(seqs(&lines(&path)), [0, 1, 2, 3]);
    assert!(fs::read_to_string(&text).unwrap().starts_with("half\nCommand insert with request id "));
}

#[test]
fn nothing_is_appended_to_what_is_no_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    fs::write(&path, "{\"dear\": \"diary\"}").unwrap();
    let error = Bench::try_start(&[log(&path)], Listeners::default()).err().unwrap();
    assert_eq!(error.to_string(), format!("log {}: there is a file that is not an event log", path.display()));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"dear\": \"diary\"}");
    let error = Bench::try_start(&[log(&directory.path().join("no/a"))], Listeners::default()).err().unwrap();
    assert!(error.to_string().ends_with("no/a: no such file or directory"), "{error}");
}

#[test]
fn a_file_that_was_moved_is_opened_anew_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("a.jsonl"), directory.path().join("moved"));
    let bench = Bench::start(&[log(&path)]);
    let mut feed = bench.feed();
    bench.recorder.reopen();
    exchange(&mut feed, 1, 10);
    feed.flush();
    bench::wait_for(|| bench.recorder.is_idle());
    fs::rename(&path, &moved).unwrap();
    bench.recorder.reopen();
    bench::wait_for(|| path.exists());
    exchange(&mut feed, 2, 10);
    drop(feed);
    bench.stop();
    assert_eq!(events(&lines(&moved)), ["recorderStartedEvent", "commandStartedEvent", "commandSucceededEvent"]);
    assert_eq!(events(&lines(&path))[..2], ["recorderStartedEvent", "commandStartedEvent"]);
    assert_eq!([seqs(&lines(&moved)), seqs(&lines(&path))].concat(), (0..7).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_said_once_and_what_it_cost_is_in_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    symlink("/dev/full", &path).unwrap();
    let bench = Bench::start(&[Log { writing: Writing { queue_bytes: 50_000, ..Writing::default() }, ..log(&path) }]);
    let mut feed = bench.feed();
    (1..=500).for_each(|number| exchange(&mut feed, number, 100));
    let said = bench.said();
    bench::wait_for(|| !said.lock().unwrap().is_empty());
    bench.recorder.reopen(); // tried again, in vain
    std::thread::sleep(Duration::from_millis(250));
    fs::remove_file(&path).unwrap();
    bench::wait_for(|| bench.recorder.is_idle());
    exchange(&mut feed, 501, 100);
    drop(feed);
    bench.stop();
    let name = path.display();
    let said = said.lock().unwrap();
    let trouble =
        [format!("log {name}: no space left on device; trying again"), format!("log {name}: is written again")];
    assert_eq!(said[..2], trouble);
    let lines = lines(&path);
    assert_eq!(seqs(&lines), (0..lines.len() as u64).collect::<Vec<_>>());
    assert_eq!(events(&lines).iter().filter(|event| **event == "recorderStartedEvent").count(), 1);
    let (whole, missing) = whole_and_missing(&lines);
    assert_eq!(whole as u64 + missing, 501);
    assert!(whole > 10 && missing > 10);
    assert_eq!(said[2..], [bench::missing_line(&path, &lines)]);
    let dropped: Vec<_> = lines.iter().filter(|line| line["event"] == "eventsDroppedEvent").collect();
    assert_eq!(dropped[0]["reason"], "no space left on device");
}

#[test]
fn a_full_disk_does_not_hold_up_the_end_nor_who_would_wait() {
    let log = Log {
        writing: Writing { queue_bytes: 10_000, on_overflow: OnOverflow::Block, ..Writing::default() },
        ..log(Path::new("/dev/full"))
    };
    let bench = Bench::start(&[log]);
    let mut feed = bench.feed();
    (1..=200).for_each(|number| exchange(&mut feed, number, 100));
    drop(feed);
    let said = bench.said();
    let totals = bench.stop();
    assert_eq!((totals[0].counts.exchanges, totals[0].counts.dropped_exchanges), (0, 200));
    let last = said.lock().unwrap().last().unwrap().clone();
    assert!(last.starts_with("log /dev/full: 200 exchanges (") && last.ends_with(" bytes) are missing"), "{last}");
}

#[test]
fn a_full_disk_can_end_the_proxy() {
    let directory = tempfile::tempdir().unwrap();
    let other = directory.path().join("other.jsonl");
    let full =
        Log { writing: Writing { on_error: OnError::Stop, ..Writing::default() }, ..log(Path::new("/dev/full")) };
    let bench = Bench::start(&[full, log(&other)]);
    let failed = bench.recorder.failed();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let message = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(5), failed).await.unwrap() });
    assert_eq!(message, "log /dev/full: no space left on device");
    // The other log is not harmed, and what goes on until the proxy has ended is missing from the one.
    let mut feed = bench.feed();
    (1..=100).for_each(|number| exchange(&mut feed, number, 10));
    drop(feed);
    let totals = bench.stop();
    assert_eq!(whole_and_missing(&lines(&other)), (100, 0));
    assert_eq!((totals[0].counts.exchanges, totals[0].counts.dropped_exchanges), (0, 100));
}

#[test]
fn a_directory_that_goes_and_comes() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("logs");
    let path = inner.join("a.jsonl");
    fs::create_dir(&inner).unwrap();
    let bench = Bench::start(&[log(&path)]);
    let mut feed = bench.feed();
    bench::wait_for(|| !fs::read(&path).unwrap().is_empty());
    fs::remove_dir_all(&inner).unwrap();
    bench.recorder.reopen();
    let said = bench.said();
    bench::wait_for(|| !said.lock().unwrap().is_empty());
    exchange(&mut feed, 1, 10);
    fs::create_dir(&inner).unwrap();
    drop(feed);
    bench::wait_for(|| said.lock().unwrap().len() == 3);
    bench.stop();
    let said = said.lock().unwrap();
    assert!(said[0].ends_with("a.jsonl: was removed, and 0 exchanges with it; another is begun"), "{said:?}");
    assert!(said[1].ends_with("a.jsonl: no such file or directory; trying again"), "{said:?}");
    assert_eq!(whole_and_missing(&lines(&path)), (1, 0));
    assert_eq!(seqs(&lines(&path)), [1, 2, 3, 4]);
}

/// It could not be told from one that was removed, but for where it can still be had.
#[test]
fn a_file_that_never_had_a_name_is_written_to() {
    let mut file = tempfile::tempfile().unwrap();
    let bench = Bench::start(&[log(&PathBuf::from(format!("/dev/fd/{}", file.as_raw_fd())))]);
    let mut feed = bench.feed();
    for number in 1..=2 {
        exchange(&mut feed, number, 10);
        feed.flush();
        bench::wait_for(|| bench.recorder.is_idle());
    }
    drop(feed);
    let said = bench.said();
    bench.stop();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(whole_and_missing(&bench::parse(&text)), (2, 0));
    assert_eq!(*said.lock().unwrap(), Vec::<String>::new());
}

#[test]
fn each_log_has_its_own_form_and_choice() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let compact = Log { format: Format::Compact, ..log(&path("c")) };
    let text = Log { format: Format::Text, namespaces: vec!["!shop".parse().unwrap()], ..log(&path("t")) };
    let bench = Bench::start(&[compact, text, log(&path("j"))]);
    exchange(&mut bench.feed(), 1, 10);
    assert_eq!(bench.recorder.statistics().json()["labels"].as_array().map_or(1, Vec::len), 1);
    bench.stop();
    let read = |name: &str| fs::read_to_string(path(name)).unwrap();
    assert_eq!((read("c").lines().count(), read("t").as_str()), (1, ""));
    let lines = lines(&path("j"));
    assert_eq!((lines.len(), &lines[0]["log"]), (4, &3.into()), "which of the logs it is");
}

#[test]
fn the_longest_document_that_anybody_wants() {
    let limited = |limit: usize| Log { max_document_bytes: limit, ..Log::to(Target::File("/dev/null".into())) };
    let longest = |limits: &[usize]| {
        let logs: Vec<Log> = limits.iter().map(|limit| limited(*limit)).collect();
        Bench::start(&logs).recorder.max_document_bytes()
    };
    assert_eq!([longest(&[10, 300]), longest(&[10, 0]), longest(&[])], [300, 0, 1]);
    let listeners = Listeners { command: vec![Box::new(Deaf)], ..Listeners::default() };
    assert_eq!(Bench::try_start(&[limited(5)], listeners).unwrap().recorder.max_document_bytes(), 0);
}

struct Deaf;

impl CommandListener for Deaf {}

/// Tells what it hears, and before each waits for permission if it is to be slow.
struct Tell {
    tell: mpsc::Sender<String>,
    wait: Option<mpsc::Receiver<()>>,
    panic_at: Option<u64>,
}

impl Tell {
    fn tell(&self, text: String) {
        if let Some(wait) = &self.wait {
            _ = wait.recv();
        }
        _ = self.tell.send(text);
    }
}

impl CommandListener for Tell {
    fn started(&mut self, _: &Connection, event: &CommandStarted<'_>) {
        assert!(self.panic_at != Some(event.info.exchange.0), "as planned");
        self.tell(format!("started {}", event.info.exchange.0));
    }

    fn succeeded(&mut self, _: &Connection, event: &CommandSucceeded<'_>) {
        self.tell(format!("succeeded {}", event.info.exchange.0));
    }
}

#[test]
fn a_listener_that_panics_is_removed_and_the_others_hear_on() {
    let (tell, heard) = mpsc::channel();
    let (tell_bad, heard_bad) = mpsc::channel();
    let good = Tell { tell, wait: None, panic_at: None };
    let bad = Tell { tell: tell_bad, wait: None, panic_at: Some(2) };
    let listeners = Listeners { command: vec![Box::new(bad), Box::new(good)], ..Listeners::default() };
    let bench = Bench::try_start(&[], listeners).unwrap();
    let mut feed = bench.feed();
    (1..=3).for_each(|number| exchange(&mut feed, number, 10));
    feed.flush();
    let said = bench.said();
    bench::wait_for(|| !said.lock().unwrap().is_empty());
    exchange(&mut feed, 4, 10);
    drop(feed);
    bench.stop();
    assert_eq!(*said.lock().unwrap(), ["listener 1 panicked and is removed"]);
    assert_eq!(heard_bad.iter().collect::<Vec<_>>(), ["started 1", "succeeded 1"]);
    let expected = (1..=4).flat_map(|number| [format!("started {number}"), format!("succeeded {number}")]);
    assert_eq!(heard.iter().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

#[test]
fn a_slow_listener_loses_whole_exchanges_and_slows_nobody() {
    let (tell, heard) = mpsc::channel();
    let (allow, wait) = mpsc::channel();
    let listeners = Listeners {
        command: vec![Box::new(Tell { tell, wait: Some(wait), panic_at: None })],
        queue_bytes: 20_000,
        ..Listeners::default()
    };
    let bench = Bench::try_start(&[], listeners).unwrap();
    let mut feed = bench.feed();
    (1..=1000).for_each(|number| exchange(&mut feed, number, 100));
    drop(feed);
    drop(allow); // from here on it is quick
    let totals = bench.stop();
    let heard: Vec<String> = heard.iter().collect();
    let mut pairs = heard.chunks(2);
    assert!(pairs.all(|pair| pair[0].replace("started", "succeeded") == pair[1]), "{heard:?}");
    let missing = totals[0].counts.dropped_exchanges;
    assert!(missing > 900 && heard.len() > 4, "{missing}");
    assert_eq!(heard.len() as u64 / 2 + missing, 1000);
}

#[test]
fn a_slow_listener_can_be_waited_for() {
    let (tell, heard) = mpsc::channel();
    let listeners = Listeners {
        command: vec![Box::new(Tell { tell, wait: None, panic_at: None })],
        queue_bytes: 2_000,
        on_overflow: OnOverflow::Block,
        ..Listeners::default()
    };
    let bench = Bench::try_start(&[], listeners).unwrap();
    let mut feed = bench.feed();
    (1..=1000).for_each(|number| exchange(&mut feed, number, 100));
    drop(feed);
    bench.stop();
    assert_eq!(heard.iter().count(), 2000);
}

#[test]
fn seq_is_the_first_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench = Bench::start(&[log(&path)]);
    exchange(&mut bench.feed(), next(), 10);
    bench.stop();
    for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
        assert!(line.starts_with(&format!("{{\"seq\":{number},\"event\":\"")), "{line}");
    }
}
