//! What replay tells at its end: what was matched, missed, ambiguous, and never asked for.

use std::fmt;

use serde_json::json;

use super::miss::Miss;
use crate::capture::exchange::Place;

/// What was asked of a recording, and what was not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that were answered from the recording.
    pub matched: u64,
    /// Requests that had no answer in it, and got an error. The first [`MISSES_MAX`] of them are in `misses`.
    pub missed: u64,
    /// Requests without an answer that another server answered instead.
    pub forwarded: u64,
    /// Where that server, when it did what the recording had answered, first answered otherwise: what it was asked from
    /// there on it was asked in another state.
    pub departure: Option<String>,
    /// How many matched requests had several answers that fit the same question in the same state, so that the recorded
    /// order decided.
    pub ambiguous_count: u64,
    /// Where the first [`MISSES_MAX`] of them were answered from.
    pub ambiguous: Vec<Asked>,
    /// Why there was no answer.
    pub misses: Vec<Miss>,
    /// How many recorded exchanges of applications nobody asked for.
    pub unused_count: u64,
    /// The first [`MISSES_MAX`] of them.
    pub unused: Vec<Asked>,
}

/// A recorded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Where it is in the recording.
    pub place: Place,
    /// The command, shortened, as JSON.
    pub text: String,
}

/// Misses that are kept.
pub const MISSES_MAX: usize = 1000;

impl Report {
    /// Whether it tells of a failure: a miss, a departure, and with `strict` also what is ambiguous or was never asked for.
    pub fn is_failure(&self, strict: bool) -> bool {
        self.missed > 0 || self.departure.is_some() || (strict && (self.ambiguous_count > 0 || self.unused_count > 0))
    }

    /// The report as text: a line for each number, each followed by what it counts: misses with their hints, then what was
    /// never asked for, a few of each; what is ambiguous too, if that is wanted.
    pub fn text(&self, with_ambiguous: bool) -> String {
        let shown = Shown { report: self, with_ambiguous: with_ambiguous && self.ambiguous_count > 0 };
        shown.to_string()
    }

    /// The report as JSON, on several lines.
    pub fn to_json(&self) -> String {
        let place = |place: &Place| match place {
            Place::Line(line) => json!({ "line": line }),
            Place::Exchange(number) => json!({ "exchange": number }),
        };
        let asked = |asked: &Asked| json!({ "place": place(&asked.place), "request": asked.text });
        let miss = |miss: &Miss| {
            json!({
                "command": miss.command,
                "namespace": miss.namespace,
                "request": miss.request,
                "nearest": miss.nearest.as_ref().map(|nearest| json!({
                    "place": place(&nearest.place),
                    "differences": nearest.differences.iter().map(|it| json!({
                        "path": it.path, "recorded": it.first, "asked": it.second,
                    })).collect::<Vec<_>>(),
                })),
                "message": miss.to_string(),
                "hint": miss.hint,
            })
        };
        let value = json!({
            "matched": self.matched,
            "missed": self.missed,
            "forwarded": self.forwarded,
            "departure": self.departure,
            "ambiguousCount": self.ambiguous_count,
            "ambiguous": self.ambiguous.iter().map(asked).collect::<Vec<_>>(),
            "misses": self.misses.iter().map(miss).collect::<Vec<_>>(),
            "unusedCount": self.unused_count,
            "unused": self.unused.iter().map(asked).collect::<Vec<_>>(),
        });
        format!("{value:#}\n")
    }
}

/// [`Report::text`] without what is ambiguous.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown { report: self, with_ambiguous: false }.fmt(f)
    }
}

/// A report as it is to be seen.
struct Shown<'a> {
    report: &'a Report,
    with_ambiguous: bool,
}

impl Shown<'_> {
    fn ambiguous(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.report.ambiguous_count;
        writeln!(
            f,
            "{count} ambiguous: two recorded answers fit the same question in the same state; the recorded order decided"
        )?;
        listed(f, "ambiguous", &self.report.ambiguous, count)
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report.fmt_asked(f)?;
        if self.with_ambiguous {
            self.ambiguous(f)?;
        }
        listed(f, "never asked for", &self.report.unused, self.report.unused_count)
    }
}

fn listed(f: &mut fmt::Formatter<'_>, what: &str, list: &[Asked], count: u64) -> fmt::Result {
    for asked in list.iter().take(SHOWN_MAX) {
        writeln!(f, "{what}: {}: {}", asked.place, asked.text)?;
    }
    more(f, count, list.len().min(SHOWN_MAX))
}

impl Report {
    /// What was asked, and how that went.
    fn fmt_asked(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} matched, {} missed", self.matched, self.missed)?;
        if self.forwarded > 0 {
            writeln!(f, "{} forwarded", self.forwarded)?;
        }
        if let Some(departure) = &self.departure {
            writeln!(f, "the upstream departs from the recording at {departure}")?;
        }
        for miss in self.misses.iter().take(SHOWN_MAX) {
            writeln!(f, "missed: {miss}")?;
            if let Some(hint) = &miss.hint {
                writeln!(f, "hint: {hint}")?;
            }
        }
        more(f, self.missed, self.misses.len().min(SHOWN_MAX))
    }
}

fn more(f: &mut fmt::Formatter<'_>, all: u64, shown: usize) -> fmt::Result {
    match all.saturating_sub(shown as u64) {
        0 => Ok(()),
        left => writeln!(f, "… and {left} more"),
    }
}

/// How many of each the text shows.
const SHOWN_MAX: usize = 10;
