//! The thread at the end of a log's queue: gives lines their `seq`, and writes them.
//!
//! A disk that fails is tried again, with longer and longer pauses, while the queue fills and whole exchanges are left
//! out before it (`pass`), or ends the log and with it the proxy (`stop`). What had begun to be written goes on where
//! it was left, so a failure tears no line. A file that somebody removed or cut is begun anew, and what was in it is
//! missing. Who read standard output and is gone does not come back: the log ends, and what comes is counted.

use std::io;
use std::sync::Arc;

use crate::config::{Log, io_reason};
use crate::event::Timestamp;
use crate::sink::{EventsDropped, Format, RecorderStarted, RecorderStopped, jsonl};

use super::feed::Lines;
use super::file::{Opened, Output};
use super::queue::{Health, Missing, Queue};
use super::retry::{Retry, Spoilt};
use super::{Clock, RunInfo, Written};

/// Writes one log.
pub(super) struct Writer {
    pub(super) queue: Arc<Queue<Lines>>,
    output: Output,
    retry: Retry,
    format: Format,
    run: RunInfo,
    /// Which of the run's logs it is, from 1.
    number: u64,
    clock: Clock,
    /// Lines that are to be written, and how much of them was.
    out: Lines,
    written: usize,
    /// What was written, and how long the file was, when it was opened.
    before: Missing,
    /// Bytes that the file begins with before it holds anything worth putting aside.
    opening: u64,
    /// Whether the first of the lines to be written is the first of a file.
    opens: bool,
    seq: u64,
    totals: RecorderStopped,
    /// What is missing and not yet told in the log.
    missing: Missing,
    /// It is told to stop: what is still written are its own last lines.
    is_ending: bool,
}

impl Writer {
    pub(super) fn new(log: &Log, number: u64, queue: Arc<Queue<Lines>>, context: &super::Context) -> Self {
        Self {
            queue,
            output: Output::new(log),
            retry: Retry::new(format!("log {}", log.target), log.writing.on_error, context),
            format: log.format,
            run: context.run.clone(),
            number,
            clock: Arc::clone(&context.clock),
            out: Lines::default(),
            written: 0,
            before: Missing::default(),
            opening: 0,
            opens: false,
            seq: 0,
            totals: RecorderStopped::default(),
            missing: Missing::default(),
            is_ending: false,
        }
    }

    /// Opens the log, so that one that cannot be is known before the thread starts.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let opened = self.output.open(self.now())?;
        self.begin(opened);
        self.output.say_too_many(&self.retry);
        Ok(())
    }

    /// Writes what comes until it is told to stop. Gives what was written and what is missing.
    pub(super) fn run(mut self) -> Written {
        self.flush();
        loop {
            let work = self.queue.take();
            self.notice_loss();
            if work.reopen {
                self.output.detach_if_moved();
                self.flush();
            }
            for lines in work.chunks {
                self.write(lines);
            }
            self.tell_missing();
            if work.stop {
                break;
            }
        }
        self.end()
    }

    /// Writes the lines of a chunk and gives it back.
    fn write(&mut self, mut lines: Lines) {
        let bytes = lines.bytes.len();
        let now = self.now();
        if self.retry.is_over() {
            self.miss(lines.ends.len(), bytes);
        } else if self.format == Format::Jsonl || self.output.may_rotate() {
            lines.each().for_each(|(line, ends)| self.put(line, ends, now));
        } else {
            self.seq += memchr::memchr_iter(b'\n', &lines.bytes).count() as u64;
            let before = self.out.bytes.len();
            self.out.bytes.extend_from_slice(&lines.bytes);
            self.out.ends.extend(lines.ends.iter().map(|end| before + end));
        }
        self.flush();
        lines.clear();
        self.queue.done(lines, bytes);
    }

    /// Begins anew where somebody has removed or cut the file that was written.
    fn notice_loss(&mut self) {
        if self.is_lost() {
            self.flush();
        }
    }

    /// Whether somebody has removed or cut the file that was written; then it is let go of. Counts what was in it, and in
    /// those put aside that went with it.
    fn is_lost(&mut self) -> bool {
        if self.retry.is_over() {
            return false;
        }
        let spoilt = self.retry.find(&self.output);
        if let Some(spoilt) = spoilt {
            self.settle();
            let lost = self.in_file();
            self.retry.spoilt(spoilt, lost.exchanges);
            self.lose(lost);
            self.output.detach();
        }
        let gone = self.output.look_aside(self.now(), spoilt == Some(Spoilt::Removed));
        if gone.files > 0 {
            self.retry.gone(gone.files, gone.held.exchanges);
            self.lose(gone.held);
            self.before.exchanges -= gone.held.exchanges;
        }
        spoilt.is_some()
    }

    /// What was written to the file since it was opened, but for a line of which only a part is there.
    fn in_file(&self) -> Missing {
        let others = self.before.bytes + self.opening + self.written as u64;
        let exchanges = self.totals.exchanges - self.before.exchanges;
        Missing { exchanges, bytes: self.output.size().saturating_sub(others) }
    }

    /// Counts what was written and is no more.
    fn lose(&mut self, lost: Missing) {
        self.totals.exchanges -= lost.exchanges;
        self.missing += lost;
    }

    /// Counts what will not be written.
    fn miss(&mut self, exchanges: usize, bytes: usize) {
        self.missing.exchanges += exchanges as u64;
        self.missing.bytes += bytes as u64;
    }

    /// Puts one line, with which so many exchanges end, among those to be written; in a new file if it does not fit the
    /// old one.
    fn put(&mut self, line: &[u8], ends: usize, now: Timestamp) {
        let held = self.out.bytes.len() as u64;
        let has_content = self.output.size() + held > self.opening;
        if has_content && self.output.is_full(held, line.len() + SEQ_LEN, now) {
            self.flush();
            self.rotate(now);
        }
        self.append(line, ends);
    }

    /// Gives a line its number and puts it among those to be written.
    fn append(&mut self, line: &[u8], ends: usize) {
        if self.format == Format::Jsonl {
            jsonl::begin_line(self.seq, &mut self.out.bytes);
        }
        self.seq += 1;
        self.out.push(line, ends);
    }

    /// Puts the file aside and begins a new one.
    fn rotate(&mut self, now: Timestamp) {
        if self.retry.is_over() {
            return;
        }
        if self.is_lost() {
            return self.flush();
        }
        if let Err(error) = self.output.rotate(self.in_file()) {
            self.retry.say(format_args!("cannot be put aside: {}; it grows on", io_reason(&error)));
            return self.output.postpone(now);
        }
        // It is in those put aside now, and may go with them before the next one is open.
        self.before.exchanges = self.totals.exchanges;
        self.flush();
    }

    /// Puts the first line of a file among those to be written, before those that are there.
    fn begin(&mut self, opened: Opened) {
        if opened.torn > 0 {
            self.retry.say(format_args!("cut off a torn last line of {} bytes", opened.torn));
        }
        let waiting = self.take_back();
        self.before = Missing { exchanges: self.totals.exchanges, bytes: self.output.size() };
        if opened.unfinished {
            self.out.bytes.push(b'\n');
        }
        let event = RecorderStarted {
            at: self.now(),
            version: env!("CARGO_PKG_VERSION"),
            run: &self.run.run,
            listen: &self.run.listen,
            upstream: &self.run.upstream,
            log: self.number,
        };
        let mut line = Vec::new();
        self.format.recorder_started(&event, &mut line);
        let is_new = self.output.size() == 0;
        self.opening = 0;
        if !line.is_empty() {
            self.append(&line, 0);
            self.opens = true;
        }
        if is_new {
            self.opening = self.out.bytes.len() as u64;
        }
        waiting.each().for_each(|(line, ends)| self.append(line, ends));
    }

    /// Takes back the lines that were not written, from the first that was not written whole: they become the lines of
    /// another file, and get their numbers anew, behind that of its first line.
    fn take_back(&mut self) -> Lines {
        self.settle();
        let mut lines = Lines::default();
        // The first line of a file that was never written is of no use to another.
        let mut is_opening = self.opens;
        for (line, ends) in self.out.each().filter(|(line, _)| *line != b"\n") {
            self.seq -= 1;
            if !std::mem::take(&mut is_opening) {
                let prefix = if self.format == Format::Jsonl { memchr::memchr(b',', line) } else { None };
                lines.push(&line[prefix.map_or(0, |at| at + 1)..], ends);
            }
        }
        self.reset();
        lines
    }

    /// Counts the lines that were written whole, and has them no longer among those to be written.
    fn settle(&mut self) {
        let whole = memchr::memrchr(b'\n', &self.out.bytes[..self.written]).map_or(0, |at| at + 1);
        let told = self.out.ends_within(whole);
        self.totals.exchanges += told as u64;
        self.out.bytes.drain(..whole);
        self.out.ends.drain(..told);
        self.out.ends.iter_mut().for_each(|end| *end -= whole);
        self.written -= whole;
        self.opens &= whole == 0;
    }

    fn reset(&mut self) {
        self.out.clear();
        self.out.bytes.shrink_to(OUT_KEPT);
        self.written = 0;
        self.opens = false;
    }

    /// Writes everything that is to be written, or finds that it cannot be.
    fn flush(&mut self) {
        while !self.retry.is_over() && (self.output.is_detached() || self.written < self.out.bytes.len()) {
            let result = if self.output.is_detached() {
                self.output.open((self.clock)()).map(|opened| self.begin(opened))
            } else {
                self.output.write(&self.out.bytes[self.written..]).map(|count| self.written += count)
            };
            match result {
                Ok(()) => self.retry.succeeded(&self.queue),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed(&error),
            }
        }
        let told = self.out.ends_within(self.written);
        self.totals.exchanges += told as u64;
        self.miss(self.out.ends.len() - told, self.out.bytes.len() - self.written);
        self.reset();
    }

    fn failed(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::BrokenPipe && self.output.is_stdout() {
            self.retry.left(self.is_ending, &self.queue);
            if self.is_ending {
                // Nobody misses its last line.
                self.reset();
            }
            return;
        }
        self.retry.failed(error, &self.queue);
        if !self.is_lost() {
            self.output.detach_if_moved();
        }
    }

    /// Puts a line for what is missing where it is missing.
    fn tell_missing(&mut self) {
        let missing = self.queue.take_missing();
        self.missing += missing;
        if self.retry.is_over() || self.missing == Missing::default() {
            return;
        }
        let missing = std::mem::take(&mut self.missing);
        self.totals.dropped_exchanges += missing.exchanges;
        self.totals.dropped_bytes += missing.bytes;
        let reason = self.retry.take_reason();
        let event = EventsDropped {
            at: self.now(),
            exchanges: missing.exchanges,
            bytes: missing.bytes,
            reason: reason.as_deref().unwrap_or("queue full"),
        };
        let mut line = Vec::new();
        self.format.events_dropped(&event, &mut line);
        self.put(&line, 0, event.at);
        self.flush();
    }

    /// Writes the last line, and says what is missing.
    fn end(mut self) -> Written {
        self.notice_loss();
        self.tell_missing();
        self.is_ending = true;
        if !self.retry.is_over() {
            let event = RecorderStopped { at: self.now(), events: self.seq, ..self.totals };
            let mut line = Vec::new();
            self.format.recorder_stopped(&event, &mut line);
            if !line.is_empty() {
                self.put(&line, 0, event.at);
                self.flush();
            }
        }
        self.queue.set_health(Health::Closed);
        self.totals.dropped_exchanges += self.missing.exchanges;
        self.totals.dropped_bytes += self.missing.bytes;
        self.totals.events = self.seq;
        self.totals.at = self.now();
        self.retry.say_missing(self.totals.dropped_exchanges, self.totals.dropped_bytes);
        Written { counts: self.totals, untold: self.retry.untold() }
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }
}

/// Memory kept from chunk to chunk; a long document may have taken more for a moment.
const OUT_KEPT: usize = 1 << 20;

/// More than `{"seq":N,` takes.
const SEQ_LEN: usize = 28;
