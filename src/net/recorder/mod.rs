//! From redacted events to files, a terminal and listeners.
//!
//! ```text
//! data thread: Feed ─ renders, gathers ─▶ queue, bounded ─▶ thread of a log: seq, rotation, write
//!                   └ copies ───────────▶ queue, bounded ─▶ thread of a listener
//! ```
//!
//! Each log and listener has its own queue and thread, so none harms another, and none of them a connection unless it
//! was chosen to wait (`on_overflow = "block"`). What an event is and how a line of it reads is not decided here.

mod ahead;
mod aside;
mod capture;
mod capture_file;
mod feed;
mod file;
mod listener;
mod lock;
mod queue;
mod retry;
mod writer;

use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;

use crate::capture::mtap::Header;
use crate::config::{Capture, Log, OnOverflow, Target, io_reason};
use crate::event::Timestamp;
use crate::net::terminal;
use crate::sink::{EventKind, Options, RecorderStopped, Statistics, plural};

pub(super) use ahead::{Ahead, Ready};
pub use capture::CaptureFeed;
pub(crate) use capture_file::holds_something;
pub use feed::Feed;
pub use listener::Listeners;
pub(crate) use lock::{is_being_written, is_unended};
pub(super) use queue::HAND_OVER_AFTER;

use capture::{CaptureWriter, Chunk};
use feed::{Entries, Lines, ListenerFeed, LogFeed};
use queue::Queue;
use writer::Writer;

/// What the first line of each log says of the run.
#[derive(Clone, Debug, Default)]
pub struct RunInfo {
    /// What tells this run from others.
    pub run: String,
    /// Where it listens.
    pub listen: String,
    /// What it forwards to.
    pub upstream: String,
}

/// Tells the time.
type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Says a line to the user.
type Say = Arc<dyn Fn(&str) + Send + Sync>;

/// What the recorder's threads are given.
struct Context {
    run: RunInfo,
    clock: Clock,
    say: Say,
    failure: Arc<watch::Sender<Option<String>>>,
}

/// A log that could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("{target}: {}", io_reason(source))]
pub struct Error {
    target: String,
    source: io::Error,
}

impl Error {
    /// Whether it is a capture that is there already.
    pub(crate) fn is_there(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }
}

/// What was written to one log, or told to one listener, and what was not.
#[derive(Clone, Debug)]
pub struct Total {
    /// The log's path, `-`, or `listener N`.
    pub name: String,
    /// Lines, exchanges, and what is missing of them; of a listener only the exchanges that it was not told of.
    pub counts: RecorderStopped,
    /// Why the file does not tell what is missing, if it does not: what its disk failed with, to the end.
    pub untold: Option<String>,
}

/// What a log or a capture came to.
struct Written {
    counts: RecorderStopped,
    /// As in [`Total`].
    untold: Option<String>,
}

impl Written {
    fn total(self, name: String) -> Total {
        Total { name, counts: self.counts, untold: self.untold }
    }
}

/// The recorder of a run: its logs, its listeners and its statistics.
pub struct Recorder {
    logs: Vec<Sink<Lines, Written>>,
    configured: Vec<(Log, Options)>,
    listeners: Vec<Sink<Entries, u64>>,
    capture: Option<Sink<Chunk, Written>>,
    kinds: Vec<EventKind>,
    max_document_bytes: usize,
    /// One for each feed there ever was.
    statistics: Mutex<Vec<Arc<Mutex<Statistics>>>>,
    failure: Arc<watch::Sender<Option<String>>>,
    say: Say,
    clock: Clock,
}

/// A queue and the thread at its end.
struct Sink<T, R> {
    name: String,
    queue: Arc<Queue<T>>,
    thread: Option<JoinHandle<R>>,
}

impl Recorder {
    /// Opens the logs and starts a thread for each of them and for each listener.
    ///
    /// `clock` gives the time of the lines that are the recorder's own; `say` takes what is to be said to the user.
    ///
    /// # Errors
    /// If a log cannot be opened, or a thread not be started.
    pub fn start(
        logs: &[Log],
        listeners: Listeners,
        run: RunInfo,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
        say: impl Fn(&str) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let failure = Arc::new(watch::Sender::new(None));
        let context = Context { run, clock: Arc::new(clock), say: Arc::new(say), failure };
        let mut recorder = Self {
            logs: Vec::new(),
            configured: Vec::new(),
            listeners: Vec::new(),
            capture: None,
            kinds: Vec::new(),
            max_document_bytes: longest(logs, &listeners),
            statistics: Mutex::default(),
            failure: Arc::clone(&context.failure),
            say: Arc::clone(&context.say),
            clock: Arc::clone(&context.clock),
        };
        for log in logs {
            recorder.start_log(log, &context)?;
        }
        let (limit, block) = (listeners.queue_bytes, listeners.on_overflow == OnOverflow::Block);
        for (name, listener) in listener::numbered(listeners) {
            let queue = Arc::new(Queue::new(limit, block));
            recorder.kinds.push(listener.kind());
            let (theirs, say, named) = (Arc::clone(&queue), Arc::clone(&context.say), name.clone());
            let thread = spawn(&name, move || listener::run(listener, &named, &theirs, &say))?;
            recorder.listeners.push(Sink { name, queue, thread: Some(thread) });
        }
        Ok(recorder)
    }

    fn start_log(&mut self, log: &Log, context: &Context) -> Result<(), Error> {
        let name = log.target.to_string();
        let queue = Arc::new(Queue::new(log.writing.queue_bytes, log.writing.on_overflow == OnOverflow::Block));
        let number = self.logs.len() + 1;
        let mut writer = Writer::new(log, number as u64, Arc::clone(&queue), context);
        writer.open().map_err(|source| Error { target: format!("log {name}"), source })?;
        let thread = spawn(&format!("log {number}"), move || writer.run())?;
        self.logs.push(Sink { name, queue, thread: Some(thread) });
        self.configured.push((log.clone(), options(log)));
        Ok(())
    }

    /// Makes the file of a capture and starts a thread for it. The header says what its run is.
    ///
    /// # Errors
    /// If the file cannot be made, or is there already, or a thread not be started.
    pub fn start_capture(&mut self, capture: &Capture, header: Header) -> Result<(), Error> {
        let name = capture.path.display().to_string();
        let queue = Arc::new(Queue::new(capture.writing.queue_bytes, capture.writing.on_overflow == OnOverflow::Block));
        let context = Context {
            run: RunInfo::default(),
            clock: Arc::clone(&self.clock),
            say: Arc::clone(&self.say),
            failure: Arc::clone(&self.failure),
        };
        let writer = CaptureWriter::open(capture, header, Arc::clone(&queue), &context)
            .map_err(|source| Error { target: format!("capture {name}"), source })?;
        let thread = spawn("capture", move || writer.run())?;
        self.capture = Some(Sink { name, queue, thread: Some(thread) });
        Ok(())
    }

    /// The same as [`feed`](Self::feed) for the capture, if there is one.
    pub fn capture_feed(&self) -> Option<CaptureFeed> {
        self.capture.as_ref().map(|capture| CaptureFeed::new(&capture.queue))
    }

    /// An end for a data thread. To be dropped before [`Recorder::stop`].
    pub fn feed(&self) -> Feed {
        let statistics = Arc::new(Mutex::new(Statistics::default()));
        self.statistics.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&statistics));
        let logs = self.configured.iter().zip(&self.logs);
        let listeners = self.kinds.iter().zip(&self.listeners);
        Feed {
            logs: logs.map(|((log, options), sink)| LogFeed::new(log, options, &sink.queue)).collect(),
            listeners: listeners.map(|(kind, sink)| ListenerFeed::new(*kind, &sink.queue)).collect(),
            statistics,
        }
    }

    /// Whether a log or a listener wants events of this kind.
    pub fn wants(&self, kind: EventKind) -> bool {
        self.kinds.contains(&kind) || self.configured.iter().any(|(log, _)| log.events.contains(&kind))
    }

    /// The most that a log or a listener wants to see of a document, in bytes of BSON; 0 is all of it.
    pub fn max_document_bytes(&self) -> usize {
        self.max_document_bytes
    }

    /// The statistics of all feeds together, of commands in the phases `app` and `auth`.
    pub fn statistics(&self) -> Statistics {
        let mut all = Statistics::default();
        for one in self.statistics.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            all.merge(&one.lock().unwrap_or_else(PoisonError::into_inner));
        }
        all
    }

    /// Has the logs look whether their files are still where they were, and open new ones if not.
    pub fn reopen(&self) {
        self.logs.iter().for_each(|log| log.queue.reopen());
        self.capture.iter().for_each(|capture| capture.queue.reopen());
    }

    /// Whether everything that was handed over is written and told.
    pub fn is_idle(&self) -> bool {
        let is_captured = self.capture.iter().all(|capture| capture.queue.waiting() == 0);
        is_captured
            && self.logs.iter().all(|log| log.queue.waiting() == 0)
            && self.listeners.iter().all(|it| it.queue.waiting() == 0)
    }

    /// Becomes ready when a log with `on_error = "stop"` has failed: with what is to be said of it.
    pub fn failed(&self) -> impl Future<Output = String> + Send + 'static {
        let mut failure = self.failure.subscribe();
        async move {
            let message = failure.wait_for(Option::is_some).await.map(|message| message.clone());
            match message {
                Ok(message) => message.unwrap_or_default(),
                // The recorder has gone, and with it the logs that could fail.
                Err(_) => std::future::pending().await,
            }
        }
    }

    /// What lets no data thread wait for room any more (`on_overflow = "block"`), so that it can be ended: exchanges that
    /// find none are left out and counted from then on. It may outlive the recorder.
    pub fn releaser(&self) -> impl Fn() + Send + Sync + 'static {
        let logs: Vec<_> = self.logs.iter().map(|log| Arc::clone(&log.queue)).collect();
        let listeners: Vec<_> = self.listeners.iter().map(|listener| Arc::clone(&listener.queue)).collect();
        let capture = self.capture.as_ref().map(|capture| Arc::clone(&capture.queue));
        move || {
            capture.iter().for_each(|queue| queue.release());
            logs.iter().for_each(|queue| queue.release());
            listeners.iter().for_each(|queue| queue.release());
        }
    }

    /// Writes what there is, ends the logs and joins the threads. What feeds still hold is lost.
    pub fn stop(mut self) -> Vec<Total> {
        self.end()
    }

    fn end(&mut self) -> Vec<Total> {
        self.logs.iter().for_each(|log| log.queue.stop());
        self.listeners.iter().for_each(|listener| listener.queue.stop());
        self.capture.iter().for_each(|capture| capture.queue.stop());
        let mut totals = Vec::new();
        if let Some(capture) = self.capture.take() {
            let name = capture.name.clone();
            totals.extend(capture.join(&self.say).map(|written| written.total(name)));
        }
        for log in self.logs.drain(..) {
            let name = log.name.clone();
            totals.extend(log.join(&self.say).map(|written| written.total(name)));
        }
        for listener in self.listeners.drain(..) {
            let name = listener.name.clone();
            let counts = |missing| RecorderStopped { dropped_exchanges: missing, ..RecorderStopped::default() };
            totals.extend(
                listener.join(&self.say).map(|missing| Written { counts: counts(missing), untold: None }.total(name)),
            );
        }
        totals
    }
}

/// As [`Recorder::stop`].
impl Drop for Recorder {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T: Default, R> Sink<T, R> {
    /// Waits for the thread for as long as it gets on. One that does not, a reader of ours who does not read or a
    /// listener that never returns, is left behind.
    fn join(mut self, say: &Say) -> Option<R> {
        let thread = self.thread.take()?;
        let (mut waiting, mut patience) = (self.queue.waiting(), PATIENCE);
        while !thread.is_finished() {
            thread::sleep(GLANCE);
            patience = patience.saturating_sub(GLANCE);
            if self.queue.waiting() != waiting {
                (waiting, patience) = (self.queue.waiting(), PATIENCE);
            }
            if patience.is_zero() {
                let left_out = self.queue.take_missing().exchanges;
                let and = if left_out > 0 {
                    format!(", and {} before it", plural(left_out, "exchange"))
                } else {
                    String::new()
                };
                say(&format!("{} does not end; {waiting} bytes for it are lost{and}", self.name));
                return None;
            }
        }
        thread.join().ok()
    }
}

fn spawn<R: Send + 'static>(name: &str, run: impl FnOnce() -> R + Send + 'static) -> Result<JoinHandle<R>, Error> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|source| Error { target: name.to_owned(), source })
}

/// How a log's lines are rendered; what is for people fits their terminal.
fn options(log: &Log) -> Options {
    let is_stdout = log.target == Target::Stdout;
    Options {
        extended_json: log.extended_json,
        max_document_bytes: log.max_document_bytes,
        colour: is_stdout && terminal::has_colour(),
        width: terminal::width().filter(|_| is_stdout),
    }
}

/// The longest of the documents that are wanted; 0 is no limit.
fn longest(logs: &[Log], listeners: &Listeners) -> usize {
    let of_logs = logs.iter().map(|log| log.max_document_bytes);
    let is_heard = !listeners.command.is_empty() || !listeners.heartbeat.is_empty();
    let limits: Vec<usize> = of_logs.chain(is_heard.then_some(listeners.max_document_bytes)).collect();
    if limits.contains(&0) {
        return 0;
    }
    // With nobody to show documents to, one byte is enough for what statistics want.
    limits.into_iter().max().unwrap_or(1)
}

/// How long a thread may stand still at the end before it is left behind, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(2);
