//! `mongotap exec`: runs a command with a connection string that leads to a recording, or records what the command asks.
//!
//! The command finds the connection string in its environment. Its exit code is this program's, unless something was asked
//! that was never recorded or something recorded was not asked; what goes wrong here has codes of its own, as with `env`.

mod child;
mod fixture;
mod told;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Error;
use super::proxy::say_met_nowhere;
use super::replay::{AnswerArgs, write_report};
use crate::config::{ApplicationUri, Config, Endpoint, OnMiss};
use crate::net::client::Credentials;
use crate::net::record::{Record, RecordError, is_ci};
use crate::net::replay::{Replay, ReplayError};
use crate::net::say::say;
use crate::replay::Repeat;
use crate::sink::plural;
use child::Running;
use fixture::{Lines, held, meant};
use told::{Ended, is_silent, variable_hint};

/// The arguments of `exec`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The recording: made when it is missing, replayed when it is there
    #[arg(long, value_name = "PATH")]
    fixture: PathBuf,

    /// once (record it if it is missing, never where CI is set), none (replay only), all (record again), new (replay,
    /// and record what is missing in it)
    #[arg(long, value_name = "MODE", default_value = "once", hide_default_value = true, value_parser = ["once", "none", "all", "new"])]
    mode: String,

    /// The variable of the environment that holds the application's connection string
    #[arg(long, value_name = "NAME", default_value = "MONGODB_URI")]
    env: String,

    /// Write the report of a replay to this file, as JSON
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,

    #[command(flatten)]
    answers: AnswerArgs,

    /// The command to run and its arguments, after --
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Why the command was not run, or not to its end: what to say, and the exit code.
#[derive(Debug)]
pub struct Failed {
    code: u8,
    error: Error,
}

/// 125: this program itself failed.
const OWN: u8 = 125;

impl Failed {
    fn own(message: impl Into<String>) -> Self {
        Error::new(super::Code::Failed, message).into()
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self { error: self.error.hint(hint), ..self }
    }

    /// The command could not be started: 127 if it was not found, 126 if it is there.
    fn start(program: &str, error: &std::io::Error) -> Self {
        let is_missing = error.kind() == std::io::ErrorKind::NotFound;
        let reason = if is_missing { "command not found".to_owned() } else { crate::config::io_reason(error) };
        Self { code: if is_missing { 127 } else { 126 }, ..Self::own(format!("{program}: {reason}")) }
    }
}

impl<E: Into<Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { code: OWN, error: error.into() }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        let message = error.to_string();
        match error {
            RecordError::Start(error) => error.into(),
            RecordError::Load(error) => Self { code: super::Code::Input, message: error.message, hint: error.hint },
            RecordError::Write { path, error } => super::unwritten(path.display(), &error),
            RecordError::Upstream { error, .. } => Self::new(super::Code::Io, message).hint(upstream_hint(&error)),
            RecordError::Incomplete { .. } => Self::new(super::Code::Failed, message),
            RecordError::Kept { error, capture } => {
                let hint = format!("mongotap convert {} FIXTURE.jsonl makes a fixture of it", capture.display());
                Self { message, ..Self::from(*error) }.hint(hint)
            }
            RecordError::Nothing(_) => Self::new(super::Code::Failed, message),
        }
    }
}

/// The way out where the server that is to be recorded cannot be reached.
fn upstream_hint(error: &std::io::Error) -> &'static str {
    // The standard library has no kind for it.
    match error.to_string().starts_with("failed to lookup address") {
        true => "that name is not known here: is it spelt as it should be? --upstream URI names another server",
        false => "start the server, or name another with --upstream URI",
    }
}

/// What is wrong with the fixture is mended where it is, or by another recording.
fn unusable(error: ReplayError) -> Failed {
    let is_mended = matches!(&error, ReplayError::Load(error) if error.is_mended_by_recording);
    let failed = Failed::from(error);
    if is_mended { failed.hint("mongotap exec --mode all records it anew") } else { failed }
}

/// Runs the command; its exit code, or that of what went wrong, which is said.
pub fn run(args: &Args) -> u8 {
    match try_run(args) {
        Ok(code) => code,
        Err(Failed { code, error }) => {
            say(format_args!("mongotap: {error}"));
            error.hint.iter().for_each(|hint| say(format_args!("hint: {hint}")));
            code
        }
    }
}

fn try_run(args: &Args) -> Result<u8, Failed> {
    let mut config = args.answers.load()?;
    config.listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    config.logs.clear();
    let found = std::env::var(&args.env).ok().filter(|uri| !uri.is_empty());
    let uri = found.as_deref().map(ApplicationUri::parse).transpose().map_err(|error| {
        let message = error.message.replacen("the connection string", &args.env, 1);
        Error::from(crate::config::Error { message, ..error })
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failed::own(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        if records(args)? { record(args, config, uri).await } else { replay(args, config, uri).await }
    })
}

/// Whether the fixture is to be recorded.
fn records(args: &Args) -> Result<bool, Failed> {
    let is_there = args.fixture.exists();
    let missing = |why: &str, hint: &str| {
        let failed = Failed::own(format!("{}: not there, and {why}", args.fixture.display()));
        failed.hint(meant(&args.fixture).map_or_else(|| hint.to_owned(), |path| format!("did you mean {path}?")))
    };
    match (args.mode.as_str(), is_there) {
        ("all", _) => Ok(true),
        (_, true) => Ok(false),
        ("none", false) => Err(missing("--mode none records nothing", "--mode once records what is missing")),
        (_, false) if is_ci() => Err(missing(
            "CI is set: nothing is recorded in CI",
            "run the same command where CI is not set, and commit the file; --mode all records in CI too",
        )),
        (_, false) => Ok(true),
    }
}

async fn record(args: &Args, config: Config, uri: Option<ApplicationUri>) -> Result<u8, Failed> {
    let redacting = config.redact.line();
    let mut builder = Record::to_path(&args.fixture).made_with(made_with(args)).config(config);
    if let (None, Some(uri)) = (&args.answers.upstream, &uri) {
        builder = builder.upstream(&uri.upstream());
    }
    let record = builder.start().await?;
    redacting.iter().for_each(|line| say(format_args!("mongotap: {line}")));
    record.reach().await?;
    let code = command(args, record.uri(), uri.as_ref()).await?;
    if code != 0 {
        record.discard().await;
        let path = args.fixture.display();
        say(format_args!("mongotap: {path}: not written: the command failed (exit code {code})"));
        return Ok(code);
    }
    let before = held(&args.fixture);
    let written = record.finish().await.map_err(|error| match error {
        RecordError::Nothing(_) => Failed::from(error).hint(variable_hint(args)),
        error => error.into(),
    })?;
    let (path, now) = (written.path.display(), written.exchanges);
    // Who runs a part of the tests that way has lost the rest.
    let held = if before > now { format!(" (it held {before})") } else { String::new() };
    let now = plural(now as u64, "exchange");
    say(format_args!("mongotap: recorded {now} in {path}{held}: the next run needs no server"));
    say_met_nowhere("mongotap: ", &written.met_nowhere);
    Ok(0)
}

async fn replay(args: &Args, mut config: Config, uri: Option<ApplicationUri>) -> Result<u8, Failed> {
    let strict = config.replay.strict;
    if args.mode == "new" {
        config.replay.on_miss = OnMiss::Record;
    }
    let is_asking = config.replay.on_miss != OnMiss::Fail;
    let mut accept = config.replay.accept;
    let mut builder = Replay::from_path(&args.fixture).config(config).repeat(Repeat::Once);
    if let Some(uri) = &uri {
        if is_asking && args.answers.upstream.is_none() {
            builder = builder.upstream(&uri.upstream());
        }
        if is_asking && let Some(credentials) = Credentials::of(uri)? {
            builder = builder.credentials(credentials);
        }
        builder = uri.user().into_iter().fold(builder, |builder, (name, password)| builder.user(&name, &password));
        let mechanism = uri.mechanism().unwrap_or_default();
        accept.plain |= mechanism == "PLAIN";
        accept.x509 |= mechanism == "MONGODB-X509";
        builder = builder.accept(accept);
    }
    let replay = builder.start().await.map_err(unusable)?;
    replay.warnings().iter().for_each(|warning| say(format_args!("mongotap: {warning}")));
    let code = command(args, replay.uri(), uri.as_ref()).await?;
    let before = (replay.report().unused_count > 0).then(|| Lines::of(&args.fixture)).flatten();
    // What a command asked that failed is not what the next one is to find.
    let (report, written) = if code == 0 { replay.finish().await? } else { (replay.shutdown().await, None) };
    write_report(args.report.as_deref(), &report)?;
    let failed = match strict {
        Some(strict) => report.is_failure(strict),
        // Where the command failed by itself, it did not come to ask the rest.
        None => {
            // A run that records is how what is asked changes: what it leaves over is told.
            let has_more = report.unused_count > 0 && written.is_none();
            report.is_failure(false) || (code == 0 && (has_more || is_silent(&report)))
        }
    };
    super::replay::tell_written(written.as_ref());
    let lines = before.and_then(|before| Lines::of(&args.fixture)?.told(&before, &report.unused));
    Ended { report: &report, failed, has_grown: written.is_some(), strict, lines }.tell(args);
    Ok(if failed && code == 0 { 1 } else { code })
}

/// Runs the command to its end with the connection string that leads to `uri`.
async fn command(args: &Args, uri: &str, own: Option<&ApplicationUri>) -> Result<u8, Failed> {
    let uri = own.map_or_else(|| uri.to_owned(), |own| own.at(uri));
    let running = Running::start(&args.command, &args.env, &uri)?;
    running.end().await.map_err(|error| Failed::own(format!("the command is lost: {error}")))
}

/// What the fixture says of how it was made: not the arguments, which may hold secrets, for the fixture is for everybody.
fn made_with(args: &Args) -> String {
    let program = args.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    format!("mongotap exec -- {}", program.to_string_lossy())
}
