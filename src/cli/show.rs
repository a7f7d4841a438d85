//! `mongotap show`: prints event logs or the events of captures, or what is wanted of them, in any format, and follows them.
//!
//! In `jsonl` lines are passed on byte for byte, but that the first one says if others are left out. Whether an exchange
//! failed or was slow is known at its end; its start waits for it here, so that both are printed or neither is.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use memchr::memmem;

use crate::capture::log::Item;
use crate::config::parse_duration;
use crate::event::{Entry, Event};
use crate::net::say::say;
use crate::net::signals::Ending;
use crate::net::terminal;
use crate::redact::Redacted;
use crate::sink::{EventKind, EventsDropped, Filter, Format, Namespace, Options, Render};

use super::event_file::EventFiles;
use super::{Code, Error, unwritten};

/// How often a file that is followed is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Lines printed before signals are looked at again.
const LINES_AT_ONCE: usize = 10_000;

/// Starts that may wait for their ends. More can only be in flight in a log that lacks their ends.
const STARTS_MAX: usize = 100_000;

/// Print an event log, or the events of a capture
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A capture, or a log in the jsonl format; of one that was rotated all its files, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// compact (a line a command), text (as the drivers' example listeners print) or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "compact", value_parser = format)]
    format: Format,

    /// Only these kinds: command, heartbeat, server, topology, connection [default: all; compact: command,topology]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = event_kind)]
    events: Option<Vec<EventKind>>,

    /// Only commands in this database
    #[arg(long, value_name = "D")]
    db: Option<String>,

    /// Only commands on this collection
    #[arg(long, value_name = "C")]
    collection: Option<String>,

    /// Only this command, in upper or lower case
    #[arg(long, value_name = "NAME")]
    command: Option<String>,

    /// Only commands that failed. One with write errors, say a duplicate key, did not: the server's answer is ok: 1
    #[arg(long)]
    failed: bool,

    /// Only commands that took longer, say 10ms or 250us
    #[arg(long, value_name = "TIME", value_parser = threshold)]
    slower_than: Option<Duration>,

    /// Go on as the file grows, over rotations, until interrupted
    #[arg(long)]
    follow: bool,
}

impl Args {
    /// The two parts of a `--collection` that may have been meant as a namespace.
    fn dotted_collection(&self) -> Option<(&str, &str)> {
        self.collection.as_deref().filter(|_| self.db.is_none())?.split_once('.')
    }

    /// How lines of a capture are rendered, if they are wanted: whole.
    fn lines(&self) -> Option<Options> {
        (self.format == Format::Jsonl).then(Options::default)
    }

    /// Whether some lines of a log are left out.
    fn is_filter(&self) -> bool {
        let is_named = self.db.is_some() || self.collection.is_some() || self.command.is_some();
        is_named || self.events.is_some() || self.failed || self.slower_than.is_some()
    }

    fn filter(&self) -> Result<Filter, Error> {
        let mut namespaces = Vec::new();
        if self.db.is_some() || self.collection.is_some() {
            let namespace = Namespace::include(self.db.as_deref(), self.collection.as_deref());
            namespaces.push(namespace.map_err(|error| Error::new(Code::Usage, error.to_string()))?);
        }
        let events = match &self.events {
            Some(events) => events.clone(),
            // Nothing else has a namespace.
            None if !namespaces.is_empty() => vec![EventKind::Command],
            None => self.format.default_events().to_vec(),
        };
        Ok(Filter {
            events,
            namespaces,
            commands: self.command.iter().cloned().collect(),
            failed: self.failed,
            slower_than: self.slower_than,
            ..Filter::default()
        })
    }
}

fn format(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| "expected compact, text or jsonl".to_owned())
}

fn event_kind(name: &str) -> Result<EventKind, String> {
    EventKind::from_name(name)
        .ok_or_else(|| format!("expected some of {}", EventKind::ALL.map(EventKind::as_str).join(", ")))
}

/// A duration as in the configuration, or in microseconds, which there has no use.
fn threshold(text: &str) -> Result<Duration, String> {
    let micros = text.strip_suffix("us").or_else(|| text.strip_suffix("µs"));
    match micros.and_then(|number| number.trim().parse().ok()) {
        Some(micros) => Ok(Duration::from_micros(micros)),
        None => parse_duration(text).map_err(|what| format!("{what}\n\ntip: write it like 10ms, 250us or 1s")),
    }
}

/// Prints what is wanted of a log.
///
/// # Errors
/// [`Code::Input`] if the file cannot be read or is no event log, [`Code::Io`] if stdout cannot be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut file = EventFiles::open(&args.files, args.lines().as_ref())?;
    let mut show = Show::new(args)?;
    if args.follow {
        return follow(file, &mut show);
    }
    let progress = loop {
        match show.lines(&mut file)? {
            Progress::More => {}
            progress => break progress,
        }
    };
    if progress == Progress::ReaderGone {
        return Ok(());
    }
    file.finish()?;
    if !show.any_printed {
        say(format_args!("mongotap: {}: no events match", file.name()));
        if let Some((database, collection)) = args.dotted_collection() {
            say(format_args!("hint: --db {database} --collection {collection}"));
        }
    }
    Ok(())
}

/// Prints until a signal asks to stop, or nobody reads any more.
fn follow(mut file: EventFiles, show: &mut Show) -> Result<(), Error> {
    let failed = |error: io::Error| Error::new(Code::Io, format!("signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut ending = Ending::listen().map_err(failed)?;
        loop {
            file.notice_cut()?;
            let progress = match show.lines(&mut file) {
                // It was cut after it was looked at.
                Err(error) if !file.notice_cut()? => return Err(error),
                progress => progress.unwrap_or(Progress::More),
            };
            let pause = match progress {
                Progress::ReaderGone => return Ok(()),
                Progress::AtEnd if !file.follow()? => POLL,
                // What was written before the file was put aside, but after it was last read, is still read.
                Progress::More | Progress::AtEnd => Duration::ZERO,
            };
            tokio::select! {
                biased;
                _ = ending.wait() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
        }
    })
}

/// How far the lines of a file were printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Progress {
    /// There are more.
    More,
    /// To the end of what is there.
    AtEnd,
    /// Nobody reads what is printed.
    ReaderGone,
}

/// What is wanted, and in which form.
struct Show {
    format: Format,
    filter: Filter,
    /// Whether it leaves out lines of a log.
    is_filter: bool,
    renderer: Box<dyn Render>,
    /// Starts whose ends decide if they are wanted, by exchange.
    starts: HashMap<u64, (Redacted<Entry<'static>>, Vec<u8>)>,
    out: Vec<u8>,
    /// Whether an event was printed so far.
    any_printed: bool,
}

impl Show {
    fn new(args: &Args) -> Result<Self, Error> {
        let options = Options { colour: terminal::has_colour(), width: terminal::width(), ..Options::default() };
        let renderer = args.format.renderer(&options);
        Ok(Self {
            format: args.format,
            filter: args.filter()?,
            is_filter: args.is_filter(),
            renderer,
            starts: HashMap::new(),
            out: Vec::new(),
            any_printed: false,
        })
    }

    /// Prints some of the lines that are there.
    fn lines(&mut self, file: &mut EventFiles) -> Result<Progress, Error> {
        let mut progress = Progress::More;
        for _ in 0..LINES_AT_ONCE {
            match file.next_item() {
                Ok(Some((item, line))) => self.line(item, line),
                Ok(None) => {
                    progress = Progress::AtEnd;
                    break;
                }
                // What came before the line that is wrong is printed all the same.
                Err(error) => return self.flush().and(Err(error)),
            }
        }
        Ok(if self.flush()? { progress } else { Progress::ReaderGone })
    }

    /// Writes what was gathered; whether somebody still reads it.
    fn flush(&mut self) -> Result<bool, Error> {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(&self.out).and_then(|()| stdout.flush());
        self.out.clear();
        match written {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(unwritten("stdout", &error)),
        }
    }

    fn line(&mut self, item: Item, line: &[u8]) {
        match item {
            Item::Entry(entry) => self.entry(*entry, line),
            Item::Dropped { at, exchanges, bytes, reason } if self.format != Format::Jsonl => {
                self.format.events_dropped(&EventsDropped { at, exchanges, bytes, reason: &reason }, &mut self.out);
            }
            // A log is one only with them, and what is not known may matter to a reader that knows it.
            Item::Other if self.format == Format::Jsonl && self.is_filter => filtered(line, &mut self.out),
            Item::Dropped { .. } | Item::Other if self.format == Format::Jsonl => self.out.extend_from_slice(line),
            Item::Dropped { .. } | Item::Other => {}
        }
    }

    fn entry(&mut self, entry: Redacted<Entry<'static>>, line: &[u8]) {
        let wanted = self.filter.wants(&entry);
        let exchange = entry.event.command_info().map(|info| info.exchange.0);
        if let Some(exchange) = exchange.filter(|_| self.filter.judges_ends()) {
            if matches!(entry.event, Event::CommandStarted(_)) {
                if wanted {
                    self.hold(exchange, entry, line);
                }
                return;
            }
            if let Some((start, line)) = self.starts.remove(&exchange).filter(|_| wanted) {
                self.print(&start, &line);
            }
        }
        if wanted {
            self.print(&entry, line);
        }
    }

    fn hold(&mut self, exchange: u64, entry: Redacted<Entry<'static>>, line: &[u8]) {
        if self.starts.len() >= STARTS_MAX {
            self.starts.clear();
        }
        self.starts.insert(exchange, (entry, line.to_vec()));
    }

    fn print(&mut self, entry: &Redacted<Entry<'_>>, line: &[u8]) {
        let before = self.out.len();
        match self.format {
            Format::Jsonl => self.out.extend_from_slice(line),
            _ => self.renderer.render(entry, &mut self.out),
        }
        self.any_printed |= self.out.len() > before;
    }
}

/// Appends a line of a log of which others are left out: its first line says so.
fn filtered(line: &[u8], out: &mut Vec<u8>) {
    let is_first = memmem::find(line, b",\"event\":\"recorderStartedEvent\",").is_some();
    match line.strip_suffix(b"}\n").filter(|_| is_first && memmem::find(line, FILTERED).is_none()) {
        Some(first) => [first, FILTERED, b"}\n"].iter().for_each(|part| out.extend_from_slice(part)),
        None => out.extend_from_slice(line),
    }
}

/// See [`sink::jsonl`](crate::sink::jsonl).
const FILTERED: &[u8] = b",\"filtered\":true";
