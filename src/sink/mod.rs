//! What becomes of events: the lines of a log in one of three formats, and statistics.
//!
//! Everything here is pure: a renderer appends bytes to a buffer, and who writes the buffer, where and when is
//! `net::recorder`'s business. Sinks take nothing but [`Redacted`] entries.
//!
//! | format | for | where |
//! |---|---|---|
//! | `jsonl` | programs | [`jsonl`], whose documentation is the format's |
//! | `text` | those who know the drivers' example listeners | [`text`] |
//! | `compact` | people | [`compact`] |

pub mod compact;
mod constant;
mod description;
mod duration;
pub mod filter;
pub mod jsonl;
mod memory;
mod printable;
mod python;
#[cfg(test)]
pub(crate) mod sample;
pub mod statistics;
pub mod text;
mod time;

pub use compact::Compact;
pub(crate) use duration::shown as shown_duration;
pub use filter::{EventKind, Filter, FilterError, Namespace};
pub use jsonl::Jsonl;
pub(crate) use printable::{plural, printed, printed_lines};
pub use statistics::Statistics;
pub(crate) use statistics::aligned;
pub use text::Text;

use crate::bson::json::Mode;
use crate::event::{Entry, Timestamp};
use crate::redact::Redacted;

/// Makes lines of events, in one format.
///
/// A renderer remembers what it needs of earlier events (the constant parts of a connection's lines, the text of a
/// command until its end), so each stream of events has its own.
pub trait Render: Send {
    /// Appends the lines for one entry: whole ones, each with its `\n`, or nothing at all.
    ///
    /// A `jsonl` line comes without its opening `{"seq":N,`, which the writer puts before it: see [`jsonl`].
    fn render(&mut self, entry: &Redacted<Entry<'_>>, out: &mut Vec<u8>);
}

/// How a log is written.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Format {
    /// One JSON object a line, for programs.
    Jsonl,
    /// The lines that Motor's and PyMongo's example listeners print.
    Text,
    /// One line a finished command, for people.
    Compact,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Jsonl, Self::Text, Self::Compact];

    /// `jsonl`, `text` or `compact`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Text => "text",
            Self::Compact => "compact",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The events that a log in this format holds unless it is told otherwise: everything, but only commands and
    /// topologies for [`Format::Compact`].
    pub fn default_events(self) -> &'static [EventKind] {
        match self {
            Self::Jsonl | Self::Text => &EventKind::ALL,
            Self::Compact => &[EventKind::Command, EventKind::Topology],
        }
    }

    /// A renderer for one stream of events.
    pub fn renderer(self, options: &Options) -> Box<dyn Render> {
        match self {
            Self::Jsonl => Box::new(Jsonl::new(options)),
            Self::Text => Box::new(Text),
            Self::Compact => Box::new(Compact::new(options)),
        }
    }

    /// Appends the line that begins a file, if the format has one; in `jsonl` without its `{"seq":N,`.
    pub fn recorder_started(self, event: &RecorderStarted<'_>, out: &mut Vec<u8>) {
        if self == Self::Jsonl {
            jsonl::recorder_started(event, out);
        }
    }

    /// Appends the line that ends a run, if the format has one; in `jsonl` without its `{"seq":N,`.
    pub fn recorder_stopped(self, event: &RecorderStopped, out: &mut Vec<u8>) {
        if self == Self::Jsonl {
            jsonl::recorder_stopped(event, out);
        }
    }

    /// Appends the line that stands for missing ones, which all formats have; in `jsonl` without its `{"seq":N,`.
    pub fn events_dropped(self, event: &EventsDropped<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Jsonl => jsonl::events_dropped(event, out),
            Self::Text => text::events_dropped(event, out),
            Self::Compact => compact::events_dropped(event, out),
        }
    }
}

/// What a renderer is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// How documents are written (`jsonl` only).
    pub extended_json: Mode,
    /// A longer document is cut, in bytes of BSON; 0 is no limit (`jsonl` only).
    pub max_document_bytes: usize,
    /// Whether to colour lines (`compact` only).
    pub colour: bool,
    /// Columns to keep a line within; `None` when it is not for a terminal (`compact` only).
    pub width: Option<usize>,
}

/// The first line of a log file.
#[derive(Clone, Copy, Debug)]
pub struct RecorderStarted<'a> {
    /// When.
    pub at: Timestamp,
    /// The version of the program.
    pub version: &'a str,
    /// What tells this run from others.
    pub run: &'a str,
    /// Where it listens.
    pub listen: &'a str,
    /// What it forwards to.
    pub upstream: &'a str,
    /// Which of the run's logs it is, from 1.
    pub log: u64,
}

/// The last line of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecorderStopped {
    /// When.
    pub at: Timestamp,
    /// Exchanges whose end was written, over all files of this run.
    pub exchanges: u64,
    /// Lines written before this one, over all files of this run.
    pub events: u64,
    /// Exchanges that are missing.
    pub dropped_exchanges: u64,
    /// The bytes of the lines that are missing.
    pub dropped_bytes: u64,
}

/// Stands for exchanges that are missing here.
#[derive(Clone, Copy, Debug)]
pub struct EventsDropped<'a> {
    /// When it was noticed or, for a longer gap, when it ended.
    pub at: Timestamp,
    /// How many exchanges.
    pub exchanges: u64,
    /// How many bytes their lines had.
    pub bytes: u64,
    /// Why, in a word or two.
    pub reason: &'a str,
}
