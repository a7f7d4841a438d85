//! `mongotap play`: asks a recording's questions again, of a live server.
//!
//! The report goes to stdout, what is said on the way to stderr. What may write is sent only if that was allowed.

use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use super::event_file::{say_ends, say_others};
use super::parts::{all_empty, of_one_capture};
use super::{Code, Error, print, unwritten};
use crate::capture::exchanges::Exchanges;
use crate::capture::open::{OpenError, Recorded};
use crate::config::{ApplicationUri, io_reason};
use crate::net::play::{PlayError, Target, play};
use crate::net::say::say;
use crate::net::signals::Ending;
use crate::net::terminal;
use crate::redact::fields::{Mode, Rules};
use crate::replay::play::{Plan, Report};
use crate::sink::printed_lines;

/// The arguments of `play`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A capture or a fixture; of a capture that was rotated all its files, in any order
    #[arg(required = true, value_name = "CAPTURE")]
    recordings: Vec<PathBuf>,

    /// The server to ask, as an application would name it: mongodb://user:password@host/?tls=true
    #[arg(long, value_name = "URI")]
    to: String,

    /// Send what may change data, too
    #[arg(long)]
    allow_writes: bool,

    /// How many times as fast as recorded, or max: as fast as the order of the exchanges allows
    #[arg(long, value_name = "N|max", default_value = "1", value_parser = speed)]
    speed: Speed,

    /// How often the recording is played, one time after the other
    #[arg(long = "loop", value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,

    /// Write the report to this file too, as JSON
    ///
    /// It is one object, with durations in microseconds. `exchanges` were sent, `leftOut` were not, for what they go on
    /// with is from before the recording; `differ` have other answers. `tookMicros` and `interrupted` are the run's. `lag`,
    /// where a pace was to be kept, says how much later than they should exchanges went out: `p50Micros`, `p99Micros`,
    /// `maxMicros`, and how many more than 10 ms (`late`). `commands` has an object for each command and collection:
    /// `command`, `count`, `differ`, `recordedMicros` and `liveMicros` (`p50`, `p90`, `p99`, `max`), and `histogram`, a list
    /// of `fromMicros`, `toMicros`, `recorded` and `live`. `differences` has the first hundred: `exchange` (or `line`, of a
    /// fixture), `connection`, `command`, and either `noAnswer` with the reason or `fields`, a list of `path`, `recorded`
    /// and `live`, values as canonical Extended JSON.
    #[arg(long, value_name = "PATH")]
    report: Option<PathBuf>,
}

/// What is played.
#[derive(Debug)]
struct Played {
    paths: Vec<PathBuf>,
    /// What became of values that are not in it, for people.
    withheld: Vec<String>,
}

/// How fast; `None` is as fast as possible.
#[derive(Clone, Copy, Debug)]
struct Speed(Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let number = text.trim_end_matches('x').parse().ok().filter(|speed: &f64| speed.is_finite() && *speed > 0.0);
    number.map(|speed| Speed(Some(speed))).ok_or_else(|| "expected a number above 0, like 2 or 0.5, or max".to_owned())
}

/// Plays the recording.
///
/// # Errors
/// [`Code::Failed`] if answers differ, [`Code::Usage`] if there are writes that were not allowed, [`Code::Input`] if the
/// recording cannot be read, [`Code::Io`] if the server cannot be reached.
pub fn run(args: &Args) -> Result<(), Error> {
    let uri = ApplicationUri::parse(&args.to).map_err(|error| {
        let message = error.message.replace("the connection string", "--to");
        Error { code: Code::Usage, message, hint: error.hint }
    })?;
    let recording = Played::find(&args.recordings)?;
    let (plan, has_times) = plan(args, &recording)?;
    // A fixture has no times to keep.
    let speed = args.speed.0.filter(|_| has_times);
    if let Some(path) = &args.report {
        // What cannot be written is known before anything is sent.
        File::create(path).map_err(|error| unwritten(path.display(), &error))?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::new(Code::Io, format!("cannot start: {error}")))?;
    let mut report = Report::new(speed.is_some());
    let played = runtime.block_on(play_all(args, &recording, speed, &uri, &plan, &mut report));
    // A server that never answers holds nobody up.
    runtime.shutdown_background();
    if report.exchanges > 0 || played.is_ok() {
        if let Some(path) = &args.report {
            fs::write(path, format!("{:#}\n", report.json())).map_err(|error| unwritten(path.display(), &error))?;
        }
        print(&printed_lines(&report.text()))?;
    }
    played?;
    let hint = if recording.withheld.is_empty() { DIFFER_HINT } else { WITHHELD_HINT };
    match report.differ {
        0 => Ok(()),
        1 => Err(Error::new(Code::Failed, "1 answer differs from the recorded one").hint(hint)),
        differ => Err(Error::new(Code::Failed, format!("{differ} answers differ from the recorded ones")).hint(hint)),
    }
}

impl Played {
    /// Looks at the files, and at what they say was taken out of them.
    fn find(paths: &[PathBuf]) -> Result<Self, Error> {
        let paths = if paths.len() > 1 { of_one_capture(paths)? } else { paths.to_vec() };
        let Some(first) = paths.first() else {
            return Err(all_empty());
        };
        say_others(&paths);
        let unreadable = |error| unreadable(first, error);
        let (is_redacted, rules) = match recorded(first)? {
            Recorded::Capture(mut capture) => {
                let header = capture.header().map_err(|error| unreadable(error.into()))?;
                header.map_or((false, Vec::new()), |header| (header.redacted, header.redact.clone()))
            }
            Recorded::Fixture(fixture) => (fixture.header().redacted, fixture.header().redact.clone()),
        };
        let mut withheld: Vec<_> = rules.iter().map(withheld).collect();
        if is_redacted && withheld.is_empty() {
            withheld.push("all values are masked in the recording: so they are sent, and written".to_owned());
        }
        Ok(Self { paths, withheld })
    }

    /// How it is called: by the first file, if there are several.
    fn name(&self) -> String {
        let first = self.paths[0].display();
        if self.paths.len() == 1 { first.to_string() } else { format!("{first} and {} more", self.paths.len() - 1) }
    }

    /// The exchanges, and whether their times are real ones.
    fn open(&self) -> Result<(Recorded<BufReader<File>>, bool), Error> {
        let recorded = match &self.paths[..] {
            [path] => recorded(path)?,
            paths => {
                let files = paths.iter().map(|path| file(path)).collect::<Result<Vec<_>, _>>()?;
                Recorded::Capture(Box::new(Exchanges::new(files)))
            }
        };
        let has_times = matches!(recorded, Recorded::Capture(_));
        Ok((recorded, has_times))
    }

    fn unreadable(&self, error: OpenError) -> Error {
        unreadable(Path::new(&self.name()), error)
    }
}

/// What becomes of fields whose values are not in the recording.
fn withheld(rules: &Rules) -> String {
    let fields = rules.fields.join(", ");
    match rules.mode {
        Mode::Mask => format!("{fields}: masked in the recording: so they are sent, and written"),
        Mode::Hash => format!("{fields}: hashed in the recording: so they are sent, and written"),
        Mode::Drop => format!("{fields}: left out of the recording: they are not sent, nor written"),
    }
}

/// Reads the recording once, to know what it would do, and whether it has times.
fn plan(args: &Args, recording: &Played) -> Result<(Plan, bool), Error> {
    let mut plan = Plan::default();
    let (mut exchanges, has_times) = recording.open()?;
    for exchange in exchanges.by_ref() {
        plan.add(&exchange.map_err(|error| recording.unreadable(error))?);
    }
    if let Recorded::Capture(capture) = &exchanges {
        say_ends(&recording.paths, capture.torn());
    }
    exchanges.missing().iter().for_each(|missing| say(format_args!("mongotap: {}: {missing}", recording.name())));
    if plan.exchanges == 0 {
        let message = format!("{}: nothing in it can be sent", recording.name());
        return Err(Error::new(Code::Input, message).hint("it has handshakes and the like alone"));
    }
    if plan.writes > 0 && !args.allow_writes {
        let message = format!("{} of {} exchanges may write", plan.writes, plan.exchanges);
        return Err(
            Error::new(Code::Usage, message).hint("--allow-writes sends them: name a server whose data may change")
        );
    }
    Ok((plan, has_times))
}

fn file(path: &Path) -> Result<BufReader<File>, Error> {
    Ok(BufReader::new(File::open(path).map_err(|error| unreadable(path, error.into()))?))
}

fn recorded(path: &Path) -> Result<Recorded<BufReader<File>>, Error> {
    Recorded::open(file(path)?).map_err(|error| unreadable(path, error))
}

fn unreadable(path: &Path, error: OpenError) -> Error {
    let reason = match &error {
        OpenError::Io(error) => io_reason(error),
        other => other.to_string(),
    };
    let hint = error.hint().map(str::to_owned);
    Error { hint, ..Error::new(Code::Input, format!("{}: {reason}", path.display())) }
}

async fn play_all(
    args: &Args,
    recording: &Played,
    speed: Option<f64>,
    uri: &ApplicationUri,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::new(Code::Io, format!("signals: {error}"));
    let mut ending = Ending::listen().map_err(failed)?;
    let target = tokio::select! {
        target = Target::find(uri) => target?,
        _ = ending.wait() => return Ok(()),
    };
    say_plan(args, recording, plan, &target);
    let bar = Bar { total: plan.exchanges * u64::from(args.times), width: terminal::error_width() };
    for _ in 0..args.times {
        let (exchanges, has_times) = recording.open()?;
        let stop = async { _ = ending.wait().await };
        let played = play(&target, exchanges, (speed, has_times), report, &mut |it| bar.draw(it), stop).await;
        if played.is_err() || report.interrupted {
            bar.clear();
        }
        played.map_err(|error| match error {
            PlayError::Recording(error) => recording.unreadable(error),
            other => other.into(),
        })?;
        if report.interrupted {
            return Ok(());
        }
    }
    bar.clear();
    Ok(())
}

/// Says what will be done to whom.
fn say_plan(args: &Args, recording: &Played, plan: &Plan, target: &Target) {
    let Plan { exchanges, writes, without_credentials, .. } = plan;
    let times = if args.times > 1 { format!(", {} times", args.times) } else { String::new() };
    say(format_args!(
        "playing {} to {}: {exchanges} exchanges, {writes} of which may write{times}",
        recording.name(),
        target.endpoint()
    ));
    if *without_credentials > 0 {
        say(format_args!("{without_credentials} more are left out: what was secret in them is not in the recording"));
    }
    recording.withheld.iter().for_each(say);
}

impl From<PlayError> for Error {
    fn from(error: PlayError) -> Self {
        let message = error.to_string();
        match error {
            PlayError::Uri(error) => Self { code: Code::Usage, message, hint: error.hint },
            PlayError::Target { .. } => Self::new(Code::Io, message).hint(TARGET_HINT),
            PlayError::Recording(_) => Self::new(Code::Input, message),
            PlayError::Io(_) => Self::new(Code::Io, message),
        }
    }
}

/// How far it is, on a terminal.
struct Bar {
    total: u64,
    /// The terminal's columns; `None` if stderr is none.
    width: Option<usize>,
}

impl Bar {
    fn draw(&self, report: &Report) {
        let Some(width) = self.width else { return };
        let done = report.exchanges.min(self.total);
        let percent = done * 100 / self.total.max(1);
        let differ = if report.differ > 0 { format!(", {} differ", report.differ) } else { String::new() };
        let late = report.lag_max().map(|lag| format!(", at most {} ms late", lag.as_millis())).unwrap_or_default();
        let text = format!(" {done}/{} {percent} %{late}{differ}", self.total);
        let room = u64::try_from(width.saturating_sub(text.chars().count() + 3).min(40)).unwrap_or_default();
        let full = (done * room / self.total.max(1)) as usize;
        let line = format!("\r[{}{}]{text}\x1b[K", "#".repeat(full), ".".repeat(room as usize - full));
        show(&line);
    }

    fn clear(&self) {
        if self.width.is_some() {
            show("\r\x1b[K");
        }
    }
}

/// Writes to stderr, where nobody may be.
fn show(text: &str) {
    let mut stderr = std::io::stderr().lock();
    _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

const DIFFER_HINT: &str = "the data must be what it was when the recording began: restore it, and play again";
const WITHHELD_HINT: &str = "values were taken out of the recording: answers that have them, or are found by them, cannot be the \
     same";
const TARGET_HINT: &str = "name a server that is up, and a user who may do what was recorded";
