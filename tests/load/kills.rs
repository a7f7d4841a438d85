//! The proxy is killed at random moments, under load, with a log and a capture.
//!
//! Of what clients have an answer to, no more is missing from the capture, or the log, than the last 100 ms, or 64 KiB.
//! What is there of a log is whole to its last line, and the next run appends to it. A kill seldom falls into a write, so
//! files are cut off at random besides.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::BufReader;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bson::doc;
use mongotap::capture::log::Item;
use mongotap::capture::source::{Source, TornEnd};
use mongotap::event::Event;
use rustix::process::Signal;
use tokio::task::JoinSet;

use crate::effort;
use crate::server::{Server, text};
use crate::soak::{Dice, seed};
use crate::support::captured::show;
use crate::support::client::{Client, is_ok};
use crate::support::proxy::{self, Proxy};
use crate::support::{now, wait_for};
use crate::talk::Talk;
use crate::tally::Tally;

const CLIENTS: i32 = 6;

/// An insert's client and number.
type Name = (i32, i32);

/// What may be lost: so long, or so much.
const LOST_MAX: Duration = Duration::from_millis(100);
const LOST_BYTES_MAX: usize = 64 << 10;

/// An insert that was answered.
struct Answered {
    what: Name,
    bytes: usize,
    at: Instant,
}

/// What was answered, and is in no file.
#[derive(Default)]
struct Lost {
    count: usize,
    /// How long before the kill the oldest of them was answered.
    oldest: Duration,
}

impl Lost {
    /// Counts what is not among those that a file holds; it must not be more than may be lost.
    fn add(&mut self, answered: &[Answered], killed: Instant, held: &HashSet<Name>) {
        let lost: Vec<_> = answered.iter().filter(|it| !held.contains(&it.what)).collect();
        let age = |it: &Answered| killed.saturating_duration_since(it.at);
        let old: usize = lost.iter().filter(|it| age(it) > LOST_MAX).map(|it| it.bytes).sum();
        let oldest = lost.iter().map(|it| age(it)).max().unwrap_or_default();
        assert!(
            old <= LOST_BYTES_MAX,
            "{} of {} are lost, answered up to {oldest:?} before",
            lost.len(),
            answered.len()
        );
        self.count += lost.len();
        self.oldest = self.oldest.max(oldest);
    }
}

/// What came of all kills.
#[derive(Default)]
struct Sum {
    answered: usize,
    of_captures: Lost,
    of_logs: Lost,
    torn_logs: usize,
    torn_captures: usize,
}

pub(crate) fn at_random_moments() -> String {
    let (seed, kills) = (seed(), effort(10));
    let server = Server::start();
    let mut dice = Dice(seed);
    let mut sum = Sum::default();
    for _ in 0..kills {
        kill_once(&server, &mut dice, &mut sum);
    }
    let Sum { answered, of_captures, of_logs, torn_logs, torn_captures } = sum;
    format!(
        "{kills} kills, seed {seed}: {answered} inserts were answered, {} are in no capture, the oldest of them answered \
         {:.1?} before, and {} in no log, {:.1?}; {torn_logs} torn logs appended to, {torn_captures} torn captures read",
        of_captures.count, of_captures.oldest, of_logs.count, of_logs.oldest
    )
}

fn kill_once(server: &Server, dice: &mut Dice, sum: &mut Sum) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (log, capture) = (directory.path().join("events.jsonl"), directory.path().join("run.mtap"));
    let mut proxy = start(server, &log, &capture);
    let answered = Arc::new(Mutex::new(Vec::new()));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let clients = runtime.spawn(insert(proxy.address.clone(), Arc::clone(&answered)));
    let count = || answered.lock().expect("counting does not panic").len();
    wait_for("an answer", Duration::from_secs(30), || (count() > 0).then_some(()));
    std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
    let killed = now();
    proxy.signal(Signal::KILL);
    proxy.wait();
    runtime.block_on(clients).expect("clients end when their connection does");

    let answered = std::mem::take(&mut *answered.lock().expect("counting does not panic"));
    let (captured, torn) = read(&capture);
    sum.answered += answered.len();
    sum.of_captures.add(&answered, killed, &captured);
    sum.of_logs.add(&answered, killed, &read(&log).0);
    check_capture(&capture, &captured, torn, dice, sum);
    check_log(server, &log, dice, sum);
}

fn start(server: &Server, log: &Path, capture: &Path) -> Proxy {
    let name = |path: &Path| path.to_str().expect("its name is text").to_owned();
    let (log, capture) = (name(log), name(capture));
    Proxy::run(proxy::command(), &["--upstream", &server.uri(), "--log", &log, "--capture", &capture])
}

/// Inserts until the connection ends: half of the clients as fast as they can.
async fn insert(address: String, answered: Arc<Mutex<Vec<Answered>>>) {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (address, answered) = (address.clone(), Arc::clone(&answered));
        clients.spawn(async move {
            let Ok(mut talk) = Talk::handshake(&address, None).await else { return };
            for n in 0.. {
                let text = text((n as usize * 37) % 3000);
                let insert =
                    doc! { "insert": "items", "documents": [{ "text": text }], "client": client, "n": n, "$db": "kills" };
                if talk.ask(&insert).await.is_err() {
                    return;
                }
                let one = Answered { what: (client, n), bytes: text.len() + 200, at: now() };
                answered.lock().expect("counting does not panic").push(one);
                if client % 2 == 0 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
        });
    }
    while clients.join_next().await.is_some() {}
}

fn check_capture(capture: &Path, captured: &HashSet<Name>, torn: Option<TornEnd>, dice: &mut Dice, sum: &mut Sum) {
    check_tail(capture, torn);
    // What was cut off takes nothing with it that was before.
    let length = fs::metadata(capture).expect("it is there").len();
    let cut = 1 + dice.below(3000) as u64;
    truncate(capture, length.saturating_sub(cut).max(1));
    let (rest, torn) = read(capture);
    assert!(rest.is_subset(captured), "nothing is in a part that is not in the whole");
    check_tail(capture, torn);
    sum.torn_captures += usize::from(torn.is_some());
}

/// The inserts of a capture, or a log, whose answers are there, and where it is torn.
fn read(file: &Path) -> (HashSet<Name>, Option<TornEnd>) {
    let file = BufReader::new(File::open(file).expect("it was made"));
    let mut source = Source::open(file, None).expect("it can be read");
    let (mut asked, mut held) = (HashMap::new(), HashSet::new());
    while let Some((item, _)) = source.next_item().expect("what is there is good") {
        let Item::Entry(entry) = item else { continue };
        match &entry.event {
            Event::CommandStarted(started) if started.info.command_name == "insert" => {
                let command = bson::Document::from_reader(started.command.as_bytes()).expect("a command is BSON");
                let number = |name| command.get_i32(name).expect("every insert has it");
                asked.insert(started.info.exchange, (number("client"), number("n")));
            }
            Event::CommandSucceeded(ended) => held.extend(asked.remove(&ended.info.exchange)),
            _ => {}
        }
    }
    (held, source.torn())
}

/// Whoever looks at it is told where it is torn, and of nothing where it is not.
fn check_tail(capture: &Path, torn: Option<TornEnd>) {
    let (_, said, code) = show(capture, &["--format", "text"]);
    let expected = torn.map(|torn| {
        let TornEnd::Capture(torn) = torn else { panic!("it is a capture") };
        let (path, offset, bytes) = (capture.display(), torn.offset, torn.bytes);
        format!("mongotap: {path}: torn at byte {offset}, the {bytes} bytes from there on were left out")
    });
    // That there is no event, where there is none, may be said besides.
    let told = said.lines().find(|line| line.contains(" torn "));
    assert_eq!((told, code), (expected.as_deref(), Some(0)), "{said}");
}

fn check_log(server: &Server, log: &Path, dice: &mut Dice, sum: &mut Sum) {
    let mut length = fs::metadata(log).expect("it is there").len();
    if dice.below(2) == 0 {
        length = length.saturating_sub(1 + dice.below(2000) as u64);
        truncate(log, length);
    }
    let Tally { torn, .. } = Tally::of(log, 0);
    let before = fs::read(log).expect("it is there");
    let whole = before.len() - usize::try_from(torn).expect("a length");

    let again = start(server, log, &log.with_extension("again"));
    let mut client = Client::connect(&again.address);
    assert!(is_ok(&client.command(&doc! { "ping": 1, "$db": "admin" })));
    drop(client);
    let said = again.end();
    let cut = format!("log {}: cut off a torn last line of {torn} bytes\n", log.display());
    assert_eq!(said.contains(&cut), torn > 0, "{torn} bytes: {said}");
    let after = fs::read(log).expect("it is there");
    assert!(after[..whole] == before[..whole], "what was whole stays as it was");
    let second = Tally::of(log, whole as u64);
    assert!(second.is_ended && second.succeeded == 1 && second.open.is_empty() && second.torn == 0, "{second:?}");
    sum.torn_logs += usize::from(torn > 0);
}

fn truncate(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).expect("it is there");
    file.set_len(length).expect("a file can be cut");
}
