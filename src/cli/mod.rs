//! The `mongotap` command: what can be asked of it, and how it ends.
//!
//! One file a subcommand, each with its `Args` and a `run`. Errors come back as [`Error`] and are printed in one
//! place, `main`; so is nothing else on stderr by this module. A closed pipe on stdout is a reader who has seen
//! enough, and no error.

pub mod args;
pub mod cert;
pub mod check;
pub mod convert;
pub mod demo;
mod event_file;
pub mod exec;
mod parts;
pub mod play;
pub mod proxy;
pub mod replay;
pub mod show;
pub mod stats;
mod trail;
mod watched;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config;
use crate::net::say::with_hint;
use crate::sink::printed_lines;

/// A recording proxy for MongoDB: it forwards every byte between applications and a server and shows, for any driver,
/// which commands were sent, how they ended and how long they took.
#[derive(Debug, Parser)]
#[command(name = "mongotap", version, max_term_width = 110, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward between applications and a server, and show what they say
    Proxy(Box<proxy::Args>),
    /// Answer as the server did, from a capture or a fixture
    Replay(Box<replay::Args>),
    /// Ask a recording's questions again, of a live server, and compare answers and times
    Play(play::Args),
    /// Run a command that finds a recording where it expects its server; record it if it is missing
    Exec(Box<exec::Args>),
    /// Print an event log or a capture: in any format, all of it or what is asked for
    Show(show::Args),
    /// Count and time the commands of an event log or a capture
    Stats(stats::Args),
    /// Make a fixture of a capture, or the other way round, of all of it or of what is asked for
    Convert(convert::Args),
    /// Make a CA and certificates, for TLS in tests and for local use
    Cert(cert::Args),
    /// Say what a configuration would do, or what is wrong with it
    Check(check::Args),
    /// See it work, with nothing else installed: a recorded server, a proxy, a small application
    Demo(demo::Args),
}

/// How the program ends when it does not end well: its exit code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Code {
    /// 1: the work ran to its end, and something that it checks failed.
    Failed = 1,
    /// 2: the command line or the configuration is wrong.
    Usage = 2,
    /// 3: an input cannot be read. A torn end is none of it: what is before it was read, and the tear is said.
    Input = 3,
    /// 4: the network or a disk failed.
    Io = 4,
}

/// Why the program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("{}", printed_lines(message))]
pub struct Error {
    /// The exit code.
    pub code: Code,
    /// What went wrong with which thing.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl Error {
    /// An error without a hint.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    /// What is said of it, the way out on a line of its own. Whoever chose the names in it, a terminal can show it.
    pub fn said(&self) -> String {
        printed_lines(&with_hint(format_args!("mongotap: {}", self.message), self.hint.as_deref()))
    }

    /// The same error with a way out.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        Self { code: Code::Usage, message: error.message, hint: error.hint }
    }
}

/// Does what a command line says; its first word is the program's name. Gives the exit code: 0, or under `exec` mostly
/// that of its command.
///
/// # Errors
/// With what is to be said on stderr and the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> Result<u8, Error> {
    let cli = match Cli::command().try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() => return print(&error.render().to_string()).map(|()| 0),
        Err(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Err(Error::new(Code::Usage, "no command given").hint("mongotap --help lists them"));
        }
        Err(error) => return Err(usage(&error.render().to_string())),
    };
    match cli.command {
        Command::Exec(args) => return Ok(exec::run(&args)),
        Command::Proxy(args) => proxy::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Play(args) => play::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Convert(args) => convert::run(&args),
        Command::Cert(args) => cert::run(&args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(&args),
    }?;
    Ok(0)
}

/// Writes to stdout. A reader that has gone is no error.
///
/// # Errors
/// If stdout cannot be written for another reason.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(unwritten("stdout", &error)),
        _ => Ok(()),
    }
}

/// That something cannot be written.
fn unwritten(what: impl Display, error: &io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let hint = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => ROOM_HINT,
        _ => PLACE_HINT,
    };
    Error::new(Code::Io, format!("{what}: {}", config::io_reason(error))).hint(hint)
}

/// Where a disk fails.
const ROOM_HINT: &str = "make room there, or write elsewhere";
/// Where a file cannot be made.
const PLACE_HINT: &str = "name another file, in a directory that is there and that you may write to";

/// Says in the program's own form what clap says in several paragraphs: what is wrong, and the first advice.
fn usage(rendered: &str) -> Error {
    let mut paragraphs = rendered.split("\n\n").map(str::trim);
    let first = paragraphs.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let message = first.lines().map(str::trim).collect::<Vec<_>>().join(" ");
    let hint = paragraphs.find_map(|text| match text.strip_prefix("tip: ") {
        // That a flag can be a value is hardly ever what was wrong.
        Some(tip) => tip.lines().next().filter(|tip| !tip.starts_with("to pass ")),
        None => text.starts_with("Usage: ").then_some(text),
    });
    // What resembles it is the key of a digest, or nothing.
    let is_redact = ["unexpected argument '--redact' ", "for '--redact' found"].iter().any(|it| first.contains(it));
    let hint = if is_redact { Some(REDACT_HINT) } else { hint };
    let hint = hint.unwrap_or("--help lists what can be given").replace("Usage: ", "usage: ");
    Error { code: Code::Usage, message, hint: Some(hint) }
}

const REDACT_HINT: &str = "--redact-fields PATHS, of proxy, replay, exec and convert, takes out the values of these fields; \
     --redact, of convert alone and without a value, masks those of all documents";

const AFTER_HELP: &str = "\
Start it beside a server and point the application's URI at it:
  mongotap proxy --upstream mongodb://127.0.0.1:27017
  MONGODB_URI='mongodb://127.0.0.1:27027/?directConnection=true' your-application
(with directConnection=true, or the driver follows the server's own names past the proxy)

Exit codes: 0 done, 1 a check failed, 2 usage or configuration, 3 input unreadable, 4 network or disk.
exec: its command's own; 1 for what was never recorded if that was 0, 125 if exec itself failed, 127 command not found.";
