//! A recorder on the bench: a clock that is moved by hand, ears for what it says, and events to give it.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::rawdoc;
use mongotap::config::{Log, Target};
use mongotap::event::{
    Address, CommandInfo, CommandStarted, CommandSucceeded, Connection, ConnectionId, Entry, Event, Exchange, Measures,
    Phase, Timestamp,
};
use mongotap::net::recorder::{Error, Feed, Listeners, Recorder, RunInfo, Total};
use mongotap::redact;
use mongotap::sink::Format;
use serde_json::Value;

/// A recorder, its clock and what it said.
pub(crate) struct Bench {
    pub(crate) recorder: Recorder,
    nanos: Arc<AtomicU64>,
    /// What the wall clock says when nothing has passed, in microseconds since 1970.
    date: Arc<AtomicI64>,
    said: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub(crate) fn start(logs: &[Log]) -> Self {
        Self::try_start(logs, Listeners::default()).unwrap()
    }

    pub(crate) fn try_start(logs: &[Log], listeners: Listeners) -> Result<Self, Error> {
        Self::start_on(0, logs, listeners)
    }

    /// On that date, in microseconds since 1970.
    pub(crate) fn start_on(date: i64, logs: &[Log], listeners: Listeners) -> Result<Self, Error> {
        let (nanos, date) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicI64::new(date)));
        let said = Arc::new(Mutex::new(Vec::new()));
        let (time, wall, ears) = (Arc::clone(&nanos), Arc::clone(&date), Arc::clone(&said));
        let clock = move || {
            let monotonic_nanos = time.load(Ordering::SeqCst);
            Timestamp { monotonic_nanos, unix_micros: wall.load(Ordering::SeqCst) + monotonic_nanos as i64 / 1000 }
        };
        let say = move |line: &str| ears.lock().unwrap().push(line.to_owned());
        let run = RunInfo { run: "run".into(), listen: "here".into(), upstream: "there".into() };
        let recorder = Recorder::start(logs, listeners, run, clock, say)?;
        Ok(Self { recorder, nanos, date, said })
    }

    pub(crate) fn feed(&self) -> Feed {
        self.recorder.feed()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.nanos.fetch_add(time.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock, by so many microseconds.
    pub(crate) fn set_clock(&self, by: i64) {
        self.date.fetch_add(by, Ordering::SeqCst);
    }

    pub(crate) fn said(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::clone(&self.said)
    }

    pub(crate) fn stop(self) -> Vec<Total> {
        self.recorder.stop()
    }
}

/// A `jsonl` log of everything to that path.
pub(crate) fn log(path: &Path) -> Log {
    let mut log = Log::to(Target::File(path.to_owned()));
    log.format = Format::Jsonl;
    log.events = Format::Jsonl.default_events().to_vec();
    log
}

/// A number not used before.
pub(crate) fn next() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1_000_000);
    NEXT.fetch_add(1, Ordering::SeqCst)
}

fn info(exchange: u64) -> CommandInfo<'static> {
    CommandInfo {
        command_name: "insert".into(),
        database_name: "shop".into(),
        collection: Some("orders".into()),
        request_id: exchange as i32,
        server_connection_id: Some(7),
        service_id: None,
        exchange: Exchange(exchange),
        continues: None,
        compressor: None,
        sensitive: false,
    }
}

/// Something happens on the one connection.
pub(crate) fn record(feed: &mut Feed, phase: Phase, event: Event<'_>) {
    let server = Address { host: "127.0.0.1".into(), port: Some(27027) };
    let (client, upstream) = ("127.0.0.1:5000".into(), "127.0.0.1:27017".into());
    let connection = Arc::new(Connection { id: ConnectionId(1), client, upstream, server, tls: false });
    feed.record(&redact::apply(Entry { at: Timestamp::default(), connection, phase, event }));
}

/// A command whose body has about so many bytes is sent.
pub(crate) fn start_of(feed: &mut Feed, exchange: u64, bytes: usize) {
    let command = rawdoc! { "insert": "orders", "filler": "x".repeat(bytes), "$db": "shop" };
    record(feed, Phase::App, Event::CommandStarted(CommandStarted { info: info(exchange), command: command.into() }));
}

/// It is answered.
pub(crate) fn end_of(feed: &mut Feed, exchange: u64) {
    let reply = rawdoc! { "ok": 1.0 }.into();
    let (duration, measures) = (Duration::from_micros(412), Measures::default());
    let event = CommandSucceeded { info: info(exchange), duration, reply, measures };
    record(feed, Phase::App, Event::CommandSucceeded(event));
}

/// A command is sent and answered.
pub(crate) fn exchange(feed: &mut Feed, exchange: u64, bytes: usize) {
    start_of(feed, exchange, bytes);
    end_of(feed, exchange);
}

pub(crate) fn parse(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {text:?}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The lines of a log file.
pub(crate) fn lines(path: &Path) -> Vec<Value> {
    parse(&fs::read_to_string(path).unwrap())
}

pub(crate) fn seqs(lines: &[Value]) -> Vec<u64> {
    lines.iter().map(|line| line["seq"].as_u64().unwrap()).collect()
}

/// What is said at the end of a log that lacks what it says it lacks.
pub(crate) fn missing_line(path: &Path, lines: &[Value]) -> String {
    let dropped = || lines.iter().filter(|line| line["event"] == "eventsDroppedEvent");
    let sum = |field: &str| dropped().map(|line| line[field].as_u64().unwrap()).sum::<u64>();
    format!("log {}: {} exchanges ({} bytes) are missing", path.display(), sum("exchanges"), sum("bytes"))
}

/// Waits for what is going to be true soon.
pub(crate) fn wait_for(mut is_true: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if is_true() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it did not come true within 30 seconds");
}
