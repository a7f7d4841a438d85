//! Logrotate at work: the log and the capture are moved away and the proxy told by SIGHUP, again and again under load.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bson::doc;
use mongotap::capture::mtap::{Reader, Record};
use mongotap::event::{Given, Input, Side};
use rustix::process::Signal;

use crate::effort;
use crate::server::{Server, text};
use crate::support::client::{Client, is_ok};
use crate::support::proxy::{self, Proxy};
use crate::support::wait_for;
use crate::tally::Tally;

const CLIENTS: usize = 4;

/// Every line and every message is in one of the files, whole, and in one of them only.
pub(crate) fn a_hundred_times() -> String {
    let moves = effort(100);
    let server = Server::start();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (log, capture) = (directory.path().join("events.jsonl"), directory.path().join("run.mtap"));
    let name = |path: &Path| path.to_str().expect("its name is text").to_owned();
    let files = ["--upstream", &server.uri(), "--log", &name(&log), "--capture", &name(&capture)];
    let proxy = Proxy::run(proxy::command(), &[&files[..], &["--log-on-overflow", "block"]].concat());
    let (is_over, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| ask(&proxy.address, &is_over, &asked));
        }
        for number in 1..=moves {
            let before = asked.load(Ordering::SeqCst);
            for path in [&log, &capture] {
                fs::rename(path, aside(path, number)).expect("it is there");
            }
            proxy.signal(Signal::HUP);
            wait_for("new files, and work", Duration::from_secs(30), || {
                (log.exists() && capture.exists() && asked.load(Ordering::SeqCst) > before).then_some(())
            });
        }
        is_over.store(true, Ordering::SeqCst);
    });
    let said = proxy.end();
    assert_eq!(said.matches("is missing").count() + said.matches("are missing").count(), 0, "{said}");
    let asked = asked.load(Ordering::SeqCst);
    let all = |path: &Path| (1..=moves).map(|number| aside(path, number)).chain([path.to_owned()]).collect::<Vec<_>>();
    let lines = check_log(&all(&log), directory.path(), asked);
    check_capture(&all(&capture), asked);
    format!(
        "{moves} moves, {asked} commands of {CLIENTS} clients: {lines} lines, none lost and none torn, and so of the capture"
    )
}

fn aside(path: &Path, number: u64) -> PathBuf {
    PathBuf::from(format!("{}-{number}", path.display()))
}

fn ask(address: &str, is_over: &AtomicBool, asked: &AtomicU64) {
    let mut client = Client::handshake(address, "moved");
    while !is_over.load(Ordering::SeqCst) {
        let insert = doc! { "insert": "items", "documents": [{ "text": text(500) }], "$db": "moved" };
        assert!(is_ok(&client.command(&insert)));
        asked.fetch_add(1, Ordering::SeqCst);
    }
}

/// Put together, and but for the first lines of the later ones, they are one log. How many lines it has.
fn check_log(files: &[PathBuf], directory: &Path, asked: u64) -> u64 {
    let mut whole = String::new();
    let mut openings = 0;
    for file in files {
        let text = fs::read_to_string(file).expect("a log is UTF-8");
        assert!(text.ends_with('\n') && text.starts_with("{\"seq\":"), "{} is torn", file.display());
        openings += text.matches("\"recorderStartedEvent\"").count();
        // The tally wants to see one opening.
        let opening = format!("\"event\":\"{}\"", if whole.is_empty() { "recorderStartedEvent" } else { "begunAnew" });
        whole += &text.replace("\"event\":\"recorderStartedEvent\"", &opening);
    }
    assert_eq!(openings, files.len(), "each has its first line");
    let path = directory.join("whole.jsonl");
    fs::write(&path, &whole).expect("a directory takes files");
    let tally = Tally::of_whole(&path);
    assert_eq!((tally.succeeded, tally.failed, tally.dropped), (asked, 0, 0), "{tally:?}");
    tally.events
}

/// Every request and every reply is there once.
fn check_capture(files: &[PathBuf], asked: u64) {
    let mut messages: BTreeMap<(u64, i32), [u64; 2]> = BTreeMap::new();
    for file in files {
        let mut reader = Reader::new(File::open(file).expect("it is there"));
        while let Some(records) = reader.next_block().unwrap_or_else(|error| panic!("{}: {error}", file.display())) {
            for record in records {
                let Record::Input(Input { connection, given: Given::Message(message), .. }) = record else { continue };
                // A reply is counted for the request that it names.
                let at = if message.side == Side::Client { 4 } else { 8 };
                let id = message.bytes[at..].first_chunk().map(|it| i32::from_le_bytes(*it)).expect("a header");
                messages.entry((connection.0, id)).or_default()[usize::from(at == 8)] += 1;
            }
        }
        assert!(reader.is_whole(), "{} was closed", file.display());
    }
    assert_eq!(messages.len() as u64, asked + CLIENTS as u64, "with the handshakes");
    assert!(messages.values().all(|counts| *counts == [1, 1]), "each once: {messages:?}");
}
