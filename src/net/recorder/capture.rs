//! The capture of a run: what a data thread gathers for it, and the thread that writes it.
//!
//! As with the logs, whether there is room is decided when an exchange begins, and one that finds none is left out
//! whole, unless the application is to wait for it; that is the default. What opens and closes connections is always
//! recorded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;

use super::capture_file::{CaptureFile, put_out_of_the_way};
use super::queue::{HAND_OVER_AFTER, Health, Queue};
use super::retry::{Retry, Spoilt};
use super::{Context, Written};
use crate::capture::mtap::{Header, Records};
use crate::config::{Capture, io_reason};
use crate::event::{Connection, ConnectionId, Exchange, Given, GivenMessage, Input, Side, Timestamp};
use crate::redact::Redacted;
use crate::sink::RecorderStopped;

/// A feed holds no more than this, so that no more is lost with the process.
const HAND_OVER_BYTES: usize = 64 << 10;

/// Records on their way to the file.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    records: Records,
    /// Exchanges that begin in them.
    exchanges: u64,
    /// Connections that were opened or closed within them: a file that begins later wants those that are open.
    turns: Vec<Turn>,
}

#[derive(Debug)]
enum Turn {
    Opened(Arc<Connection>, Timestamp),
    Closed(ConnectionId),
}

/// What a data thread records through. Made by [`Recorder::capture_feed`](super::Recorder::capture_feed); hands over
/// what it still holds when it is dropped.
#[derive(Debug)]
pub struct CaptureFeed {
    queue: Arc<Queue<Chunk>>,
    held: Chunk,
    /// When the first of what is held happened.
    since: Timestamp,
    /// Exchanges that were left out and have not ended yet.
    left_out: HashSet<Exchange>,
}

impl CaptureFeed {
    pub(super) fn new(queue: &Arc<Queue<Chunk>>) -> Self {
        let (held, since, left_out) = (Chunk::default(), Timestamp::default(), HashSet::new());
        Self { queue: Arc::clone(queue), held, since, left_out }
    }

    /// Records what a session was given.
    pub fn record(&mut self, input: &Redacted<Input<'_>>) {
        self.record_ready(input, None);
    }

    /// The same with the record that was made [ready](super::Ahead::input) of it.
    pub(in crate::net) fn record_ready(&mut self, input: &Redacted<Input<'_>>, ready: Option<Records>) {
        if self.queue.is_closed() {
            return;
        }
        if ready.is_some() {
            // It is too long to be copied behind what is held.
            self.hand_over();
        }
        match &input.given {
            Given::Message(message) if !self.admits(message) => {
                return self.queue.leave_out(u64::from(begins(message)), message.bytes.len() as u64);
            }
            Given::Message(message) => self.held.exchanges += u64::from(begins(message)),
            Given::Opened(connection) => self.held.turns.push(Turn::Opened(Arc::clone(connection), input.at)),
            Given::Closed { .. } => self.held.turns.push(Turn::Closed(input.connection)),
            _ => {}
        }
        self.add(input.at, |records| match ready {
            Some(ready) => records.take(ready),
            None => records.push(input),
        });
    }

    /// Records the end of the run.
    pub fn end(&mut self, at: Timestamp) {
        self.add(at, |records| records.push_ended(at));
    }

    /// Whether it holds something that [`tick`](Self::tick) would hand over.
    pub fn has_pending(&self) -> bool {
        !self.held.records.bytes().is_empty()
    }

    /// Hands over what is older than 20 ms. To be called about that often while [`has_pending`](Self::has_pending).
    pub fn tick(&mut self, now: Timestamp) {
        if self.has_pending() && now.since(self.since) >= HAND_OVER_AFTER {
            self.hand_over();
        }
    }

    fn add(&mut self, at: Timestamp, add: impl FnOnce(&mut Records)) {
        if !self.has_pending() {
            self.since = at;
        }
        add(&mut self.held.records);
        if self.held.records.bytes().len() >= HAND_OVER_BYTES.min(self.queue.hand_over_at()) {
            self.hand_over();
        }
    }

    /// Whether a message is to be kept; waits for room where that was chosen.
    fn admits(&mut self, message: &GivenMessage<'_>) -> bool {
        if message.side == Side::Server && !self.left_out.is_empty() && self.is_left_out(message) {
            return false;
        }
        if self.queue.has_room(self.held.records.bytes().len()) {
            return true;
        }
        self.hand_over();
        let has_room = self.queue.blocks() && self.queue.wait_for_room();
        if has_room || message.side == Side::Server {
            // What was begun is ended.
            return true;
        }
        self.left_out.extend(message.exchange);
        false
    }

    /// Whether it is a reply to what was left out; then it, and what follows it, is too.
    fn is_left_out(&mut self, message: &GivenMessage<'_>) -> bool {
        let Some(exchange) = message.exchange.filter(|exchange| self.left_out.remove(exchange)) else { return false };
        self.left_out.extend(message.continued.filter(|continued| *continued != exchange));
        true
    }

    fn hand_over(&mut self) {
        let bytes = self.held.records.bytes().len();
        if bytes > 0 {
            self.held = self.queue.push(std::mem::take(&mut self.held), bytes);
        }
    }
}

/// Whether an exchange begins with a message.
fn begins(message: &GivenMessage<'_>) -> bool {
    message.side == Side::Client && message.exchange.is_some()
}

impl Drop for CaptureFeed {
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// Writes the capture.
pub(super) struct CaptureWriter {
    queue: Arc<Queue<Chunk>>,
    file: CaptureFile,
    retry: Retry,
    clock: super::Clock,
    /// What is gathered for the next block.
    block: Chunk,
    /// Exchanges in the file that is written.
    in_file: u64,
    /// Connections that are open, and since when.
    open: HashMap<ConnectionId, (Arc<Connection>, Timestamp)>,
    totals: RecorderStopped,
}

impl CaptureWriter {
    /// Makes the file, so that one that cannot be is known before the thread starts.
    pub(super) fn open(
        capture: &Capture,
        header: Header,
        queue: Arc<Queue<Chunk>>,
        context: &Context,
    ) -> io::Result<Self> {
        let retry = Retry::new(format!("capture {}", capture.path.display()), capture.writing.on_error, context);
        if put_out_of_the_way(capture)? {
            retry.say(format_args!("what an earlier run has left there is put aside"));
        }
        let file = CaptureFile::create(capture, header, (context.clock)())?;
        file.say_too_many(&retry);
        Ok(Self {
            queue,
            file,
            retry,
            clock: Arc::clone(&context.clock),
            block: Chunk::default(),
            in_file: 0,
            open: HashMap::new(),
            totals: RecorderStopped::default(),
        })
    }

    /// Writes what comes until it is told to stop, and closes the file. Gives what is missing.
    pub(super) fn run(mut self) -> Written {
        loop {
            let work = self.queue.take();
            if !self.notice_loss() && work.reopen && self.file.has_moved() {
                self.file.forget_gone();
                self.begin_anew();
            }
            let mut taken = 0;
            for mut chunk in work.chunks {
                let bytes = chunk.records.bytes().len();
                if self.block.records.bytes().len() + bytes > self.file.block_bytes() {
                    self.write_block();
                }
                self.block.records.append(&chunk.records);
                self.block.exchanges += std::mem::take(&mut chunk.exchanges);
                self.block.turns.append(&mut chunk.turns);
                chunk.records.clear();
                taken += bytes;
                self.queue.done(chunk, bytes);
            }
            if taken > 0 {
                self.write_block();
            }
            self.tell_missing();
            if work.stop {
                break;
            }
        }
        self.end()
    }

    /// Writes what was gathered.
    fn write_block(&mut self) {
        let now = (self.clock)();
        if self.block.records.bytes().is_empty() {
            return;
        }
        if self.file.is_full(self.block.records.bytes().len(), now) && !self.retry.is_over() && !self.notice_loss() {
            match self.file.put_aside(self.in_file) {
                Ok(()) => self.begin_anew(),
                Err(error) => {
                    self.retry.say(format_args!("cannot be put aside: {}; it grows on", io_reason(&error)));
                    self.file.postpone(now);
                }
            }
        }
        let block = std::mem::take(&mut self.block);
        match self.write(&block.records) {
            true => self.in_file += block.exchanges,
            false => self.totals.dropped_exchanges += block.exchanges,
        }
        for turn in block.turns {
            match turn {
                Turn::Opened(connection, at) => _ = self.open.insert(connection.id, (connection, at)),
                Turn::Closed(connection) => _ = self.open.remove(&connection),
            }
        }
    }

    /// Begins anew where somebody has removed or cut the file that was written; whether that was so. Counts what was in
    /// it, and in those put aside that went with it.
    fn notice_loss(&mut self) -> bool {
        if self.retry.is_over() {
            return false;
        }
        let spoilt = self.retry.find(&self.file);
        if let Some(spoilt) = spoilt {
            self.retry.spoilt(spoilt, self.in_file);
            self.queue.leave_out(self.in_file, self.file.written());
        }
        let gone = self.file.look_aside((self.clock)(), spoilt == Some(Spoilt::Removed));
        if gone.files > 0 {
            self.retry.gone(gone.files, gone.held.exchanges);
            self.queue.leave_out(gone.held.exchanges, gone.held.bytes);
        }
        if spoilt == Some(Spoilt::Cut) {
            self.file.give_up();
        }
        if spoilt.is_some() {
            self.begin_anew();
        }
        spoilt.is_some()
    }

    /// Begins another file of the run, with what is open.
    fn begin_anew(&mut self) {
        self.in_file = 0;
        self.attempt(|file, now| file.begin_next(now));
        let mut carried = Records::default();
        let mut open: Vec<_> = self.open.values().collect();
        open.sort_by_key(|(connection, _)| connection.id);
        open.into_iter().for_each(|(connection, at)| carried.push_carried(connection, *at));
        if !carried.bytes().is_empty() {
            // If this file goes meanwhile they stand in the one that was begun in its place.
            while self.try_to_write(&carried).is_none() && !self.notice_loss() {}
        }
    }

    /// Writes records, in another file if the one was removed or cut meanwhile; whether that was done.
    fn write(&mut self, records: &Records) -> bool {
        loop {
            if let Some(is_written) = self.try_to_write(records) {
                return is_written;
            }
            // Who makes room by removing it does not get any while it is open.
            self.notice_loss();
        }
    }

    /// Writes records once: whether that was done; `None` if it is to be tried again.
    fn try_to_write(&mut self, records: &Records) -> Option<bool> {
        let is_written = self.attempt_once(|file, _| file.write(records));
        if is_written == Some(false) {
            self.totals.dropped_bytes += records.bytes().len() as u64;
        }
        is_written
    }

    /// Does something with the file until it works, or is not to be tried any more. Whether it was done.
    fn attempt(&mut self, mut work: impl FnMut(&mut CaptureFile, Timestamp) -> io::Result<()>) -> bool {
        loop {
            if let Some(is_done) = self.attempt_once(&mut work) {
                return is_done;
            }
        }
    }

    /// Does something with the file: whether it was done; `None` if it is to be tried again.
    fn attempt_once(&mut self, work: impl FnOnce(&mut CaptureFile, Timestamp) -> io::Result<()>) -> Option<bool> {
        if self.retry.is_over() {
            return Some(false);
        }
        match work(&mut self.file, (self.clock)()) {
            Ok(()) => {
                self.retry.succeeded(&self.queue);
                return Some(true);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.retry.failed(&error, &self.queue),
        }
        None
    }

    /// Records what is missing where it is missing.
    fn tell_missing(&mut self) {
        let missing = self.queue.take_missing();
        if missing.bytes == 0 && missing.exchanges == 0 {
            return;
        }
        self.totals.dropped_exchanges += missing.exchanges;
        self.totals.dropped_bytes += missing.bytes;
        if self.retry.is_over() {
            return;
        }
        let reason = self.retry.take_reason();
        let mut records = Records::default();
        let reason = reason.as_deref().unwrap_or("queue full");
        records.push_missing((self.clock)(), missing.exchanges, missing.bytes, reason);
        self.attempt(|file, _| file.write(&records));
    }

    fn end(mut self) -> Written {
        self.notice_loss();
        self.tell_missing();
        let untold = self.retry.untold().filter(|_| self.totals.dropped_exchanges > 0);
        // Without its index all of it can be read.
        self.attempt(|file, _| file.close());
        self.queue.set_health(Health::Closed);
        self.retry.say_missing(self.totals.dropped_exchanges, self.totals.dropped_bytes);
        let counts = RecorderStopped { at: (self.clock)(), ..self.totals };
        Written { counts, untold }
    }
}
