//! Events from a file, be it a log or a capture: told apart by their first bytes; or from several, one behind the other.
//!
//! Those that a capture was rotated to are one to their connections: a reply finds its request in the file before.
//! A capture's events are derived as they were live; they come as the items and the lines of the log that would have been
//! written beside it with its defaults: commands of the phases `app` and `auth`, and everything of the other kinds.

use std::collections::VecDeque;
use std::io::{self, BufRead};

use super::derive::{Derive, InOrder};
use super::log::{Item, LogError, LogReader};
use super::mtap::{CaptureError, Header, MAGIC, Reader, Record, Torn};
use crate::event::{Entry, Phase, Timestamp};
use crate::redact::Redacted;
use crate::sink::{EventsDropped, Filter, Format, Options, RecorderStarted, RecorderStopped, Render, jsonl};

/// Items that may be held before they are given.
const ITEMS_HELD: usize = 1000;

/// Why a file cannot be read, or not on.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is a capture.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// It is a log, or something else.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// How a file ends that was not written to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TornEnd {
    /// The line of a log, from 1.
    Line(u64),
    /// A part of a capture.
    Capture(Torn),
}

/// Where a line of a log stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// Its number in the run.
    pub seq: u64,
    /// Its number in the file, from 1.
    pub line: u64,
    /// Whether the run has told its end.
    pub is_ended: bool,
    /// Whether lines of the run were left out by who printed it.
    pub is_filtered: bool,
}

/// Files of events, one behind the other.
#[derive(Debug)]
pub enum Source<R> {
    /// Event logs.
    Log(Files<LogReader<R>>),
    /// Captures.
    Capture(Box<CaptureSource<R>>),
}

impl<R: BufRead> Source<R> {
    /// A file, by the first bytes that are there; one that is empty is taken for a log. `lines` says whether the lines of
    /// the log are wanted that a capture stands for.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn open(mut input: R, lines: Option<&Options>) -> io::Result<Self> {
        let first = input.fill_buf()?;
        let is_capture = !first.is_empty() && MAGIC.starts_with(&first[..first.len().min(MAGIC.len())]);
        Ok(match is_capture {
            true => Self::Capture(Box::new(CaptureSource::new(input, lines))),
            false => Self::Log(Files::new(LogReader::new(input))),
        })
    }

    /// Adds a file of the same kind behind the others. It is read when the one before it has been, to the end of what is
    /// there then.
    pub fn push(&mut self, input: R) {
        match self {
            Self::Log(files) => files.behind.push_back(LogReader::new(input)),
            Self::Capture(source) => source.files.behind.push_back(Reader::new(input)),
        }
    }

    /// Goes on to the next file, whatever is left of the one that is read.
    pub fn skip_rest(&mut self) {
        match self {
            Self::Log(files) => _ = files.step(None),
            Self::Capture(source) => _ = source.files.step(None),
        }
    }

    /// The next event, with its line if lines are wanted; `None` at the end of what is there. More may have come when
    /// it is asked again.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn next_item(&mut self) -> Result<Option<(Item, &[u8])>, SourceError> {
        Ok(self.advance()?.map(|item| (item, self.line())))
    }

    /// The same without the line, which [`line`](Self::line) has.
    pub(crate) fn advance(&mut self) -> Result<Option<Item>, SourceError> {
        let files = match self {
            Self::Log(files) => files,
            Self::Capture(source) => return Ok(source.advance()?),
        };
        loop {
            let item = files.reader.next_item()?;
            let torn = files.reader.torn().map(TornEnd::Line);
            if item.is_some() || !files.step(torn) {
                return Ok(item);
            }
        }
    }

    /// The line of the event that was given last.
    pub(crate) fn line(&self) -> &[u8] {
        match self {
            Self::Log(files) => files.reader.line(),
            Self::Capture(source) => &source.line,
        }
    }

    /// The place of the file that is read, among those that were given, from 0.
    pub fn at(&self) -> usize {
        match self {
            Self::Log(files) => files.at,
            Self::Capture(source) => source.files.at,
        }
    }

    /// What is there behind the last event of the file that is read, once there are no more.
    pub fn torn(&self) -> Option<TornEnd> {
        match self {
            Self::Log(files) => files.reader.torn().map(TornEnd::Line),
            Self::Capture(source) => source.files.reader.torn().map(TornEnd::Capture),
        }
    }

    /// The same of the files before it, those that were not written to their ends, with their places.
    pub fn torn_before(&self) -> &[(usize, TornEnd)] {
        match self {
            Self::Log(files) => &files.torn,
            Self::Capture(source) => &source.files.torn,
        }
    }

    /// Where the last event of a log stands in its run; `None` of a capture.
    pub fn standing(&self) -> Option<Standing> {
        let Self::Log(files) = self else { return None };
        let (seq, line) = (files.reader.seq()?, files.reader.line_number());
        let (is_ended, is_filtered) = (files.reader.is_ended(), files.reader.is_filtered());
        Some(Standing { seq, line, is_ended, is_filtered })
    }

    /// The run that the last event is of, if that was told, and the number that the next [`Part`] of it has at least.
    ///
    /// [`Part`]: super::part::Part
    pub fn next_part(&self) -> (Option<&str>, u64) {
        match self {
            Self::Log(files) => (files.reader.run(), files.reader.seq().map_or(0, |seq| seq.saturating_add(1))),
            Self::Capture(source) => {
                let header = source.header.as_ref();
                (header.map(|header| header.run.as_str()), header.map_or(0, |header| header.part.saturating_add(1)))
            }
        }
    }
}

/// What reads files, one behind the other.
#[derive(Debug)]
pub struct Files<T> {
    reader: T,
    behind: VecDeque<T>,
    /// The place of the one that is read, from 0.
    at: usize,
    /// How those before it end that were not written to their ends, with their places.
    torn: Vec<(usize, TornEnd)>,
}

impl<T> Files<T> {
    fn new(reader: T) -> Self {
        Self { reader, behind: VecDeque::new(), at: 0, torn: Vec::new() }
    }

    /// Goes on to the next file, if there is one; the one that was read ends so.
    fn step(&mut self, torn: Option<TornEnd>) -> bool {
        let Some(next) = self.behind.pop_front() else { return false };
        self.torn.extend(torn.map(|torn| (self.at, torn)));
        self.reader = next;
        self.at += 1;
        true
    }
}

/// The events of captures.
#[derive(Debug)]
pub struct CaptureSource<R> {
    files: Files<Reader<R>>,
    in_order: InOrder,
    /// Of the file that is read, or was read last if that has none yet.
    header: Option<Header>,
    derive: Option<Derive>,
    ready: Ready,
    /// What was wrong behind what is still to come.
    error: Option<CaptureError>,
    /// The line of the item that was given last.
    line: Vec<u8>,
}

/// Items that are to be given.
struct Ready {
    items: VecDeque<(Item, Vec<u8>)>,
    filter: Filter,
    renderer: Option<Box<dyn Render>>,
    seq: u64,
    totals: RecorderStopped,
}

impl<R: BufRead> CaptureSource<R> {
    /// Reads from the beginning of a file.
    pub fn new(input: R, lines: Option<&Options>) -> Self {
        let ready = Ready {
            items: VecDeque::new(),
            filter: Filter { phases: vec![Phase::App, Phase::Auth], ..Filter::default() },
            renderer: lines.map(|options| Format::Jsonl.renderer(options)),
            seq: 0,
            totals: RecorderStopped::default(),
        };
        Self {
            files: Files::new(Reader::new(input)),
            in_order: InOrder::default(),
            header: None,
            derive: None,
            ready,
            error: None,
            line: Vec::new(),
        }
    }

    /// The next item; `None` at the end of what is there.
    ///
    /// # Errors
    /// [`CaptureError`], after everything that comes before it.
    pub fn next_item(&mut self) -> Result<Option<(Item, &[u8])>, CaptureError> {
        Ok(self.advance()?.map(|item| (item, &self.line[..])))
    }

    fn advance(&mut self) -> Result<Option<Item>, CaptureError> {
        while self.ready.items.is_empty() {
            if !self.read_on()? {
                return Ok(None);
            }
        }
        let Some((item, line)) = self.ready.items.pop_front() else { return Ok(None) };
        self.line = line;
        Ok(Some(item))
    }

    /// Reads on until there is something to give, or nothing to read. Whether there may be more.
    fn read_on(&mut self) -> Result<bool, CaptureError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.give_settled() {
            return Ok(true);
        }
        match self.begin_file().and_then(|()| self.files.reader.next_block()) {
            Ok(Some(block)) => block.into_iter().for_each(|record| self.in_order.push(record)),
            Ok(None) if self.next_file() => {}
            Err(error) if self.derive.is_none() => return Err(error),
            end => {
                self.error = end.err();
                self.give_all();
                self.settle();
                return Ok(!self.ready.items.is_empty() || self.error.is_some());
            }
        }
        Ok(true)
    }

    /// Goes on to the next file, if there is one.
    fn next_file(&mut self) -> bool {
        let torn = self.files.reader.torn().map(TornEnd::Capture);
        self.files.step(torn)
    }

    /// Begins the file that is read, once its header is there: goes on with what is known of its run, or begins another.
    fn begin_file(&mut self) -> Result<(), CaptureError> {
        let Some(header) = self.files.reader.header()? else { return Ok(()) };
        let is_begun = self.header.as_ref().is_some_and(|last| (&last.run, last.part) == (&header.run, header.part));
        if is_begun {
            return Ok(());
        }
        let header = header.clone();
        let before = self.header.replace(header.clone());
        match before.filter(|before| before.run == header.run) {
            Some(before) if before.part.checked_add(1) == Some(header.part) => {}
            Some(_) => {
                self.give_all();
                self.derive.iter_mut().for_each(Derive::forget_connections);
            }
            None => {
                self.give_all();
                self.settle();
                self.ready.started(&header);
                self.derive = Some(Derive::new(&header));
            }
        }
        Ok(())
    }

    /// Gives all that waits to be put in order.
    fn give_all(&mut self) {
        let Some(derive) = &mut self.derive else { return };
        while let Some(record) = self.in_order.pop_last() {
            self.ready.take(&record, derive);
        }
    }

    /// Gives what waited for time to pass.
    fn settle(&mut self) {
        let Some(derive) = &mut self.derive else { return };
        let ready = &mut self.ready;
        derive.settle(&mut |entry| ready.entry(entry));
    }

    /// Gives what is in order, so far as it is. Whether it gave something.
    fn give_settled(&mut self) -> bool {
        let Some(derive) = &mut self.derive else { return false };
        while self.ready.items.len() < ITEMS_HELD
            && let Some(record) = self.in_order.pop()
        {
            self.ready.take(&record, derive);
        }
        !self.ready.items.is_empty()
    }
}

impl Ready {
    fn take(&mut self, record: &Record, derive: &mut Derive) {
        if let Record::Missing { at, exchanges, bytes, reason } = record {
            self.missing(*at, *exchanges, *bytes, reason);
        }
        derive.handle(record, &mut |entry| self.entry(entry));
        if let Record::Ended { at } = record {
            self.stopped(*at);
        }
    }

    fn entry(&mut self, entry: &Redacted<Entry<'_>>) {
        if !self.filter.wants(entry) {
            return;
        }
        if entry.event.ends_command() {
            self.totals.exchanges += 1;
        }
        let mut line = Vec::new();
        if let Some(renderer) = &mut self.renderer {
            renderer.render(entry, &mut line);
        }
        self.push(Item::Entry(Box::new(entry.clone().into_owned())), &line);
    }

    fn started(&mut self, header: &Header) {
        (self.seq, self.totals) = (0, RecorderStopped::default());
        let event = RecorderStarted {
            at: header.started(),
            version: &header.version,
            run: &header.run,
            listen: &header.listen,
            upstream: &header.upstream,
            log: 1,
        };
        let mut line = Vec::new();
        Format::Jsonl.recorder_started(&event, &mut line);
        self.push(Item::Other, &line);
    }

    fn missing(&mut self, at: Timestamp, exchanges: u64, bytes: u64, reason: &str) {
        let totals = &mut self.totals;
        totals.dropped_exchanges = totals.dropped_exchanges.saturating_add(exchanges);
        totals.dropped_bytes = totals.dropped_bytes.saturating_add(bytes);
        let mut line = Vec::new();
        Format::Jsonl.events_dropped(&EventsDropped { at, exchanges, bytes, reason }, &mut line);
        self.push(Item::Dropped { at, exchanges, bytes, reason: reason.to_owned() }, &line);
    }

    fn stopped(&mut self, at: Timestamp) {
        let mut line = Vec::new();
        Format::Jsonl.recorder_stopped(&RecorderStopped { at, events: self.seq, ..self.totals }, &mut line);
        self.push(Item::Other, &line);
    }

    /// Gives a line its number, if lines are wanted.
    fn push(&mut self, item: Item, line: &[u8]) {
        let mut numbered = Vec::new();
        if self.renderer.is_some() && !line.is_empty() {
            jsonl::begin_line(self.seq, &mut numbered);
            numbered.extend_from_slice(line);
        }
        self.seq += 1;
        self.items.push_back((item, numbered));
    }
}

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("items", &self.items.len()).field("seq", &self.seq).finish_non_exhaustive()
    }
}
