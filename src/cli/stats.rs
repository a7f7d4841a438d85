//! `mongotap stats`: how many commands a log or a capture holds, how long they took, and how much they moved.

use std::path::PathBuf;

use crate::capture::log::Item;
use crate::net::say::say;
use crate::sink::{Statistics, plural};

use super::event_file::EventFiles;
use super::{Error, print};

/// Count and time the commands of an event log or a capture
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// A capture, or a log in the jsonl format; of one that was rotated all its files, in any order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// A table for people, or json
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Output,
}

/// How the statistics are printed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Prints the statistics of a log.
///
/// # Errors
/// [`Code::Input`](super::Code) if the file cannot be read or is no event log, [`Code::Io`](super::Code) if stdout
/// cannot be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let mut file = EventFiles::open(&args.files, None)?;
    let mut statistics = Statistics::default();
    let mut missing = 0;
    let read = loop {
        match file.next_item() {
            Ok(Some((Item::Entry(entry), _))) => statistics.observe(&entry),
            // Nobody knows how many.
            Ok(Some((Item::Dropped { exchanges: 0, bytes: 0, reason, .. }, _))) => {
                say(format_args!("mongotap: {}: {reason}", file.name()));
            }
            Ok(Some((Item::Dropped { exchanges, .. }, _))) => missing = u64::saturating_add(missing, exchanges),
            Ok(Some((Item::Other, _))) => {}
            Ok(None) => break file.finish(),
            Err(error) => break Err(error),
        }
    };
    // What came before what is wrong is counted all the same.
    if statistics.is_empty() && read.is_err() {
        return read;
    }
    if missing > 0 {
        say(format_args!("mongotap: {}: {} missing", file.name(), plural(missing, "exchange")));
    }
    match args.format {
        Output::Table => print(&statistics.table())?,
        Output::Json => print(&format!("{:#}\n", statistics.json()))?,
    }
    read
}

const AFTER_HELP: &str = "\
Rows are sorted by the total time of their commands. p50 to max are how long they took: of a hundred, 50, 90 and 99 took
no longer than p50, p90 and p99.
Errors are commands that failed; write errors are those reported by commands that succeeded.
Request and reply are sums of bytes on the wire.";
