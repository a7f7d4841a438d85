//! Events from a file, be it a log or a capture: told apart by their first bytes.
//!
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

/// A file of events.
#[derive(Debug)]
pub enum Source<R> {
    /// An event log.
    Log(LogReader<R>),
    /// A capture.
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
            false => Self::Log(LogReader::new(input)),
        })
    }

    /// The next event, with its line if lines are wanted; `None` at the end of what is there. More may have come when
    /// it is asked again.
    ///
    /// # Errors
    /// [`SourceError`].
    pub fn next_item(&mut self) -> Result<Option<(Item, &[u8])>, SourceError> {
        match self {
            Self::Log(reader) => Ok(reader.next_line()?),
            Self::Capture(source) => Ok(source.next_item()?),
        }
    }

    /// What is there behind the last event, once there are no more.
    pub fn torn(&self) -> Option<TornEnd> {
        match self {
            Self::Log(reader) => reader.torn().map(TornEnd::Line),
            Self::Capture(source) => source.reader.torn().map(TornEnd::Capture),
        }
    }
}

/// The events of a capture.
#[derive(Debug)]
pub struct CaptureSource<R> {
    reader: Reader<R>,
    in_order: InOrder,
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
            reader: Reader::new(input),
            in_order: InOrder::default(),
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
        while self.ready.items.is_empty() {
            if !self.advance()? {
                return Ok(None);
            }
        }
        let Some((item, line)) = self.ready.items.pop_front() else { return Ok(None) };
        self.line = line;
        Ok(Some((item, &self.line)))
    }

    /// Reads on until there is something to give, or nothing to read. Whether there may be more.
    fn advance(&mut self) -> Result<bool, CaptureError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.give_settled() {
            return Ok(true);
        }
        let block = match self.reader.next_block() {
            Ok(block) => block,
            Err(error) if self.derive.is_none() => return Err(error),
            Err(error) => {
                self.error = Some(error);
                None
            }
        };
        if self.derive.is_none() {
            let Some(header) = self.reader.header()? else { return Ok(false) };
            self.ready.started(header);
            self.derive = Some(Derive::new(header));
        }
        let Some(derive) = &mut self.derive else { return Ok(false) };
        let ready = &mut self.ready;
        let Some(block) = block else {
            while let Some(record) = self.in_order.pop_last() {
                ready.take(&record, derive);
            }
            derive.settle(&mut |entry| ready.entry(entry));
            return Ok(!ready.items.is_empty() || self.error.is_some());
        };
        block.into_iter().for_each(|record| self.in_order.push(record));
        Ok(true)
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
        let event = RecorderStarted {
            at: header.started(),
            version: &header.version,
            run: &header.run,
            listen: &header.listen,
            upstream: &header.upstream,
        };
        let mut line = Vec::new();
        Format::Jsonl.recorder_started(&event, &mut line);
        self.push(Item::Other, &line);
    }

    fn missing(&mut self, at: Timestamp, exchanges: u64, bytes: u64, reason: &str) {
        self.totals.dropped_exchanges += exchanges;
        self.totals.dropped_bytes += bytes;
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
