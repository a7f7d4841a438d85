//! What the events of files tell of those that are not there: lines that are missing, a run that was not ended.
//!
//! A log numbers its lines without gaps, and ends with a line that says so. A capture that was closed whole ends with an
//! index. What is still being written has no end yet: its writer holds it locked.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use crate::capture::log::Item;
use crate::capture::part::UNENDED;
use crate::capture::source::Standing;
use crate::event::Event;
use crate::net::recorder::{is_being_written, is_unended};
use crate::net::say::say;
use crate::sink::plural;

use super::parts::Headless;

/// Commands that are noted as not ended. More can only be in flight in a log that lacks their ends.
const WAITING_MAX: usize = 100_000;

/// Gaps that are told one by one.
const GAPS_MAX: u64 = 5;

/// The run that is read, as far as it was.
#[derive(Debug, Default)]
pub(super) struct Trail {
    /// The file that the last event is in.
    path: PathBuf,
    run: Option<String>,
    /// Which log that is.
    log: usize,
    /// Where the last line stands, if it is one of a log.
    last: Option<Standing>,
    /// The same of the other logs, with the runs they were in.
    left: HashMap<usize, (Option<String>, Option<Standing>)>,
    /// The runs that are told of whose first lines are missing, and how many more there are.
    headless: Vec<Headless>,
    more_headless: u64,
    /// Gaps, and the lines that are missing in those that were not told.
    gaps: u64,
    untold: u64,
    /// The commands that have begun and not ended yet.
    waiting: HashSet<u64>,
}

/// An event, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step<'s> {
    pub(super) item: &'s Item,
    pub(super) path: &'s Path,
    /// Which of the logs that are read the file is of.
    pub(super) log: usize,
    pub(super) run: Option<&'s str>,
    pub(super) standing: Option<Standing>,
}

impl Trail {
    /// Goes on to the next event, and says what is missing before it. `is_told` says whether the end of the file before
    /// is told of already.
    pub(super) fn step(&mut self, step: Step<'_>, is_told: bool) {
        let is_first = self.path.as_os_str().is_empty();
        let is_another_file = self.path != step.path;
        let is_another_log = is_another_file && step.standing.is_some() && step.log != self.log;
        // A file that does not tell its run goes on with that of the file before.
        let is_told_of = step.run.is_some() && (self.run.is_some() || !is_another_file);
        if is_another_log || is_told_of && step.run != self.run.as_deref() {
            if !(is_first || is_told && is_another_file) {
                self.say_unended(if is_another_file { None } else { step.standing });
            }
            self.left.insert(self.log, (self.run.clone(), self.last.take()));
            self.waiting.clear();
        }
        if is_another_file {
            (self.path, self.log) = (step.path.to_owned(), step.log);
        }
        if step.run.is_some() && step.run != self.run.as_deref() {
            self.run = step.run.map(str::to_owned);
        }
        if is_another_log {
            let left = self.left.remove(&self.log);
            self.last = left.filter(|(run, _)| *run == self.run).and_then(|(_, last)| last);
        }
        if let Some(standing) = step.standing {
            // Where the run is not told, it may be the one that another file begins with.
            if self.last.is_none() && (is_first || step.run.is_some()) {
                self.note_head(standing);
            }
            self.tell_gap(standing);
        }
        self.note(step.item);
    }

    /// Notes which commands wait for their ends.
    fn note(&mut self, item: &Item) {
        let Item::Entry(entry) = item else { return };
        let Some(info) = entry.event.command_info() else { return };
        if !matches!(entry.event, Event::CommandStarted(_)) {
            self.waiting.remove(&info.exchange.0);
        } else if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(info.exchange.0);
        }
    }

    /// How many commands have no end in what was read of the run.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// The run of the last event, if that is told.
    pub(super) fn run(&self) -> Option<&str> {
        self.run.as_deref()
    }

    /// The runs whose first lines are missing.
    pub(super) fn headless(&self) -> &[Headless] {
        &self.headless
    }

    /// Notes that a run begins with that line, as far as it is there.
    fn note_head(&mut self, Standing { seq, line, .. }: Standing) {
        let (lines, are, seqs) = match seq {
            0 => return,
            1 => (plural(seq, "line"), "is", "seq 0".to_owned()),
            _ => (plural(seq, "line"), "are", format!("seq 0 to {}", seq - 1)),
        };
        if self.headless.len() as u64 >= GAPS_MAX {
            self.more_headless += 1;
            return;
        }
        let missing = format!("its run began before: {lines} before line {line} {are} not here ({seqs})");
        self.headless.push(Headless { path: self.path.clone(), run: self.run.clone(), missing });
    }

    fn tell_gap(&mut self, standing: Standing) {
        let expected = self.last.replace(standing).map(|last| last.seq.saturating_add(1));
        let Some(expected) = expected.filter(|expected| standing.seq > *expected && !standing.is_filtered) else {
            return;
        };
        let missing = standing.seq - expected;
        self.gaps += 1;
        if self.gaps > GAPS_MAX {
            self.untold = self.untold.saturating_add(missing);
            return;
        }
        let (path, line, last) = (self.path.display(), standing.line, standing.seq - 1);
        let seqs = if missing == 1 { format!("seq {last}") } else { format!("seq {expected} to {last}") };
        say(format_args!("mongotap: {path}: {} missing before line {line}: {seqs}", plural(missing, "line")));
    }

    /// Says what was not told of gaps.
    pub(super) fn finish(&self) {
        if self.untold > 0 {
            let (lines, places) = (plural(self.untold, "line"), plural(self.gaps - GAPS_MAX, "more place"));
            say(format_args!("mongotap: {}: {lines} missing in {places}", self.path.display()));
        }
        if self.more_headless > 0 {
            let (path, runs) = (self.path.display(), plural(self.more_headless, "more run"));
            say(format_args!("mongotap: {path}: the beginning of {runs} is not here"));
        }
    }

    /// Says that the run has no end, where its last line or block is, if that is so; the run before `next` in one file.
    pub(super) fn say_unended(&self, next: Option<Standing>) {
        let is_unended = match self.last {
            None => is_unended(&self.path),
            Some(last) if last.is_ended || !self.path.is_file() => false,
            Some(_) => next.is_some() || !is_being_written(&self.path),
        };
        if is_unended {
            let path = self.path.display();
            let run = next.map(|next| format!("the run before line {} ", next.line)).unwrap_or_default();
            let elsewhere = if self.last.is_some() && next.is_none() { ELSEWHERE } else { "" };
            say(format_args!("mongotap: {path}: {run}{UNENDED}{elsewhere}"));
        }
    }
}

const ELSEWHERE: &str = ", or another file goes on";
