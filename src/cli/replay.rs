//! `mongotap replay`: serves a recording until a signal ends it.

use std::path::{Path, PathBuf};

use super::args::{RedactArgs, list_of};
use super::event_file::say_others;
use super::{Code, Error, print, unwritten};
use crate::config::{Config, Flags, Pairs, ReplaySettings, Settings, Switch, Text, io_reason};

use crate::net::record::Written;
use crate::net::replay::{Replay, ReplayError};
use crate::net::say::say;
use crate::net::signals::Ending;
use crate::replay::Report;
use crate::sink::{plural, printed_lines};

/// The arguments of `replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Captures or fixtures; the files that a capture was rotated to may be given in any order
    #[arg(required = true, value_name = "CAPTURE")]
    recordings: Vec<PathBuf>,

    #[command(flatten)]
    answers: AnswerArgs,

    /// Where applications connect: host:port, [v6]:port or the path of a unix socket [default: 127.0.0.1:27027]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,

    /// The name of the listener in replies to hello and in the URI to use [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// Write the report to this file, as JSON
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,

    /// Print, for each request that is answered, what was overlooked in it and what was bound
    #[arg(long)]
    explain: bool,
}

/// How a recording is answered from: the keys of `[replay]`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AnswerArgs {
    /// Read listen, upstream and the sections replay and tls from this file; flags go before it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Once a question was asked as often as it was recorded: last (answer stays), once (it is a miss), loop (they begin
    /// again) [default: last; under exec once]
    #[arg(long, value_name = "WHAT")]
    repeat: Option<String>,

    /// Take what is ambiguous (two recorded answers fit the same question in the same state, and the recorded order
    /// decided), or was never asked for, for a failure too; written with =, as in --strict=false [default: false; under
    /// exec what was never asked for is one, unless --strict=false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    strict: Option<String>,

    /// When answers go out: none (at once) or recorded (after as long as the recorded ones took) [default: none]
    #[arg(long, value_name = "WHAT")]
    timing: Option<String>,

    /// Present a recorded replica set as one (member, which is primary) or all (of them) [default: one]
    #[arg(long, value_name = "WHAT")]
    topology: Option<String>,

    /// What was never recorded: fail, forward (ask the upstream) or record (ask it, and add the answer to the fixture). The upstream is written to: it first does what the recording has answered, so it is to be empty, or as it was when the recording began. A view is answered from the recording whatever became of its collection there [default: fail]
    #[arg(long, value_name = "WHAT")]
    on_miss: Option<String>,

    /// The server that is asked then, as the first --user, or recorded [default: mongodb://127.0.0.1:27017]
    #[arg(long, value_name = "URI")]
    pub upstream: Option<String>,

    /// A user who can authenticate by SCRAM; may be repeated, each with its --password-env
    #[arg(long = "user", value_name = "NAME", requires = "password_env")]
    users: Vec<String>,

    /// The environment variable that holds the user's password
    #[arg(long, value_name = "VAR", requires = "users")]
    password_env: Vec<String>,

    /// Mechanisms of authentication that are taken without a check: plain, x509 [default: none]
    #[arg(long, value_name = "LIST")]
    accept: Vec<String>,

    /// What does not count in requests, as names and positions: comment,pipeline.*.$limit; may be repeated [default: nothing]
    #[arg(long, value_name = "PATHS")]
    ignore: Vec<String>,

    /// Where values must be equal: nothing there is bound, dates included [default: nowhere]
    #[arg(long, value_name = "PATHS")]
    exact: Vec<String>,

    /// Where a value may be another one of its type, which then stands for the recorded one [default: nowhere]
    #[arg(long, value_name = "PATHS")]
    bind: Vec<String>,

    /// By how much a date may lie nearer to the time of its request, or farther from it, than recorded [default: 5s]
    #[arg(long, value_name = "TIME")]
    date_tolerance: Option<String>,

    /// Who shares what was asked already: all connections of a run, or those with one appName [default: run]
    #[arg(long, value_name = "WHAT")]
    scope: Option<String>,

    #[command(flatten)]
    redact: RedactArgs,
}

impl AnswerArgs {
    /// The configuration they ask for.
    ///
    /// # Errors
    /// [`Code::Usage`] with what is wrong where.
    pub fn load(&self) -> Result<Config, Error> {
        self.load_with(None, None)
    }

    fn load_with(&self, listen: Option<&str>, advertise: Option<&str>) -> Result<Config, Error> {
        if self.users.len() != self.password_env.len() {
            let error = Error::new(Code::Usage, "--user and --password-env are not as many");
            return Err(error.hint("write --user NAME --password-env VAR for each"));
        }
        let text = |flag: &Option<String>| flag.as_deref().map(Text::from);
        let users = self.users.iter().zip(&self.password_env);
        let users = users.map(|(name, variable)| (name.clone(), format!("env:{variable}"))).collect::<Vec<_>>();
        let replay = ReplaySettings {
            ignore: list_of(&self.ignore),
            exact: list_of(&self.exact),
            bind: list_of(&self.bind),
            date_tolerance: text(&self.date_tolerance),
            scope: text(&self.scope),
            repeat: text(&self.repeat),
            strict: self.strict.as_deref().map(Switch::from),
            timing: text(&self.timing),
            topology: text(&self.topology),
            on_miss: text(&self.on_miss),
            accept: list_of(&self.accept),
            users: (!users.is_empty()).then_some(Pairs(users)),
        };
        let top = Settings {
            listen: listen.map(Text::from),
            advertise: advertise.map(Text::from),
            upstream: text(&self.upstream),
            redact: Some(self.redact.settings()),
            replay: Some(replay),
            ..Settings::default()
        };
        Ok(Config::load(self.config.as_deref(), &Flags { top, ..Flags::default() })?)
    }
}

/// Serves the recording.
///
/// # Errors
/// If it cannot start, and, once it was told to end, if something was asked that was never recorded.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = args.answers.load_with(args.listen.as_deref(), args.advertise.as_deref())?;
    let strict = config.replay.strict.unwrap_or(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start_failed)?;
    runtime.block_on(async {
        // Before the ready line: whoever has read it may send any signal.
        let mut ending = Ending::listen().map_err(start_failed)?;
        let mut builder = Replay::from_paths(args.recordings.clone()).config(config);
        if args.explain {
            // A reader who has gone wants no more of it.
            builder = builder.explain(|explanation| drop(print(&printed_lines(&format!("{explanation}\n")))));
        }
        let replay = builder.start().await?;
        replay.warnings().iter().for_each(|warning| say(format_args!("mongotap: {warning}")));
        say_others(&args.recordings);
        let names = args.recordings.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        for endpoint in replay.listeners() {
            say(format_args!("listening on {endpoint} -> {names}"));
        }
        say(format_args!("use {}", replay.uri()));
        _ = ending.wait().await;
        let (report, written) = tokio::select! {
            ended = replay.finish() => ended?,
            code = ending.wait() => std::process::exit(code),
        };
        say(report.text(strict || args.explain).trim_end());
        tell_written(written.as_ref());
        write_report(args.report.as_deref(), &report)?;
        match report.is_failure(strict) {
            true => Err(Error::new(Code::Failed, failure(&report, strict))),
            false => Ok(()),
        }
    })
}

/// Says what was recorded besides.
pub(super) fn tell_written(written: Option<&Written>) {
    if let Some(Written { path, exchanges, .. }) = written {
        let more = plural(*exchanges as u64, "more exchange");
        say(format_args!("mongotap: recorded {more} in {}", path.display()));
    }
}

/// What failed, in a line; what is ambiguous fails only where that is strict.
pub(super) fn failure(report: &Report, is_strict: bool) -> String {
    let ambiguous = if is_strict { report.ambiguous_count } else { 0 };
    let counts = [(report.missed, "missed"), (ambiguous, "ambiguous"), (report.unused_count, "never asked for")];
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    format!("not all that was asked was as recorded: {}", counts.collect::<Vec<_>>().join(", "))
}

/// Writes the report as JSON, if it was asked for.
pub(super) fn write_report(path: Option<&Path>, report: &Report) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, report.to_json()).map_err(|error| unwritten(path.display(), &error))
}

fn start_failed(error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("cannot start: {error}"))
}

impl From<ReplayError> for Error {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Config(error) => error.into(),
            ReplayError::Load(error) => Self { code: Code::Input, message: error.message, hint: error.hint },
            ReplayError::Listen { endpoint, error } => {
                let message = format!("{endpoint}: cannot listen: {}", io_reason(&error));
                Self::new(Code::Io, message).hint(super::proxy::listen_hint(&endpoint, error.kind()))
            }
            ReplayError::Start(error) => error.into(),
            ReplayError::Thread(_) => Self::new(Code::Io, error.to_string()),
        }
    }
}
