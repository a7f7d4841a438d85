//! `mongotap proxy`: runs the proxy until a signal ends it.

use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::args::ConfigArgs;
use super::{Code, Error, PLACE_HINT, ROOM_HINT};
use crate::config::{Config, Endpoint, Log, Target, io_reason};
use crate::net::recorder::Total;
use crate::net::say::{say, with_hint};
use crate::net::signals::Ending;
use crate::net::{Proxy, StartError};
use crate::sink::{Format, plural};

/// The arguments of `proxy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the proxy.
///
/// # Errors
/// If it cannot start, or a log that may not fail has failed.
pub fn run(args: &Args) -> Result<(), Error> {
    let config = args.config.load()?;
    let max_connections = config.max_connections;
    allow_descriptors(max_connections);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start_failed)?;
    runtime.block_on(async {
        // Before the ready line: whoever has read it may send any signal.
        let mut signals = Signals::listen().map_err(start_failed)?;
        let (exposed, redacting) = (exposed(&config), config.redact.line());
        let belied = config.logs.iter().filter_map(belied).collect::<Vec<_>>();
        let proxy = Proxy::builder().config(config).start().await?;
        for (endpoint, upstream) in proxy.listeners() {
            say(format_args!("listening on {endpoint} -> {upstream}"));
        }
        if let Some(warning) = exposed {
            say(warning);
        }
        if let Some(line) = redacting {
            say(line);
        }
        belied.iter().for_each(say);
        if let Some(warning) = few_descriptors(max_connections) {
            say(warning);
        }
        say(format_args!("use {}", proxy.uri()));
        let failed = serve(&proxy, &mut signals).await;
        let ended = tokio::select! {
            ended = proxy.shutdown() => ended,
            code = signals.ending.wait() => std::process::exit(code),
        };
        say(ended.statistics.table().trim_end());
        say_met_nowhere("", &ended.met_nowhere);
        match failed {
            Some(message) => Err(Error::new(Code::Io, message).hint(format!("{ROOM_HINT}; {PASS_HINT}"))),
            None => recorded(&ended.totals),
        }
    })
}

/// That a file lacks exchanges, and its disk failed to the end, so that nothing in it tells so.
fn recorded(totals: &[Total]) -> Result<(), Error> {
    let untold = totals.iter().filter_map(|total| total.untold.as_ref().map(|reason| (total, reason)));
    let said = untold.map(|(total, reason)| {
        let missing = match total.counts.dropped_exchanges {
            0 => plural(total.counts.dropped_bytes, "byte"),
            exchanges => plural(exchanges, "exchange"),
        };
        format!("{}: {reason}, to the end: {missing} not recorded", total.name)
    });
    match said.collect::<Vec<_>>() {
        all if all.is_empty() => Ok(()),
        all => Err(Error::new(Code::Io, all.join("; ")).hint(format!("{ROOM_HINT}; {STOP_HINT}"))),
    }
}

const PASS_HINT: &str = "on_error = \"pass\" goes on without it";
const STOP_HINT: &str = "on_error = \"stop\" ends the proxy as soon as a disk fails";

/// Takes what it may have of descriptors for so many connections. Many systems give 1024 to whom does not ask for more.
fn allow_descriptors(connections: usize) {
    const OTHERS: u64 = 256;
    let limit = getrlimit(Resource::Nofile);
    let wanted = (connections as u64).saturating_mul(2).saturating_add(OTHERS);
    let wanted = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|current| current < wanted) {
        // With those that it has it works too, and says when there are no more.
        _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), ..limit });
    }
}

/// What is to be said of a proxy that has descriptors for a few connections only, with those that it has open so far.
fn few_descriptors(max_connections: usize) -> Option<String> {
    let limit = getrlimit(Resource::Nofile).current?;
    let open = fs::read_dir("/dev/fd").ok()?.count().saturating_sub(1) as u64;
    let room = limit.saturating_sub(open) / 2;
    (room < (max_connections as u64).min(FEW_CONNECTIONS)).then(|| {
        let connections = plural(room, "connection");
        let warning = format!("warning: {limit} descriptors, of which {open} are in use, are enough for {connections}");
        with_hint(warning, Some("each takes two: raise the limit with ulimit -n, or with LimitNOFILE of a service"))
    })
}

/// A proxy that may have fewer, where more are wanted, is warned of.
const FEW_CONNECTIONS: u64 = 400;

/// What is to be said of a proxy that others than this machine can reach, in the clear.
fn exposed(config: &Config) -> Option<String> {
    let Endpoint::Tcp { host, .. } = &config.listen else { return None };
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (!is_here && config.tls.listen.is_none()).then(|| {
        let whom = if config.allow.is_empty() { "anyone who reaches it" } else { "what `allow` lets in" };
        format!("warning: {host} may be reached from other machines, by {whom}, and is not encrypted: see [tls.listen]")
    })
}

/// What is to be said of a log whose name says another format than it has.
fn belied(log: &Log) -> Option<String> {
    let Target::File(path) = &log.target else { return None };
    let is_belied = log.format != Format::Jsonl && path.extension().is_some_and(|it| it == "jsonl");
    let trouble = format_args!("warning: log {} is not in the format jsonl, but {}", log.target, log.format.as_str());
    is_belied.then(|| with_hint(trouble, Some(BELIED_HINT)))
}

const BELIED_HINT: &str = "--log-format holds for all logs; [[log]] in the file of --config says it for each";

/// Serves until it is told to end, or cannot go on: then with the reason.
async fn serve(proxy: &Proxy, signals: &mut Signals) -> Option<String> {
    loop {
        tokio::select! {
            _ = signals.ending.wait() => return None,
            _ = signals.hangup.recv() => proxy.reopen_logs(),
            _ = signals.table.recv() => {
                say(proxy.statistics().table().trim_end());
                say_met_nowhere("", &proxy.met_nowhere());
            }
            message = proxy.failed() => return Some(message),
        }
    }
}

/// Says which of the fields that are redacted protect nothing, as far as can be told.
pub(super) fn say_met_nowhere(prefix: &str, fields: &[String]) {
    if !fields.is_empty() {
        let unmet = format_args!("{prefix}redact: met nowhere: {}", fields.join(", "));
        say(with_hint(unmet, Some(MET_NOWHERE_HINT)));
    }
}

const MET_NOWHERE_HINT: &str = "a name that is misspelt hides nothing, and what was written holds it all in the clear: \
     mongotap convert FILE COPY --redact-fields NAME makes a copy that hides it";

fn start_failed(error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("cannot start: {error}"))
}

impl From<StartError> for Error {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Config(error) => error.into(),
            StartError::Listen { endpoint, error } => {
                let message = format!("{endpoint}: cannot listen: {}", io_reason(&error));
                Self::new(Code::Io, message).hint(listen_hint(&endpoint, error.kind()))
            }
            StartError::Log(error) if error.is_there() => Self::new(Code::Usage, message)
                .hint("--force overwrites it, --capture-rotate-bytes puts it aside, or name another file"),
            StartError::Log(_) => Self::new(Code::Io, message).hint(PLACE_HINT),
            StartError::Dns { message, hint } => Self::new(Code::Io, message).hint(hint),
            StartError::OtherSet { message, hint } => Self::new(Code::Usage, message).hint(hint),
            _ => Self::new(Code::Io, message),
        }
    }
}

/// The way out for an address that cannot be listened on.
pub(super) fn listen_hint(endpoint: &Endpoint, kind: ErrorKind) -> String {
    match (endpoint, kind) {
        (Endpoint::Tcp { .. }, ErrorKind::AddrInUse) => "--listen 127.0.0.1:0 takes a free port".to_owned(),
        (Endpoint::Tcp { .. }, ErrorKind::PermissionDenied) => "take a port above 1023".to_owned(),
        (Endpoint::Tcp { .. }, _) => "--listen takes an address of this machine, like 127.0.0.1:27027".to_owned(),
        (Endpoint::Unix(path), ErrorKind::AddrInUse) => {
            let is_socket = path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
            let there = if is_socket { "another process listens there" } else { "what is there is not a socket" };
            format!("{there}: name another path with --listen")
        }
        (Endpoint::Unix(path), ErrorKind::NotFound) => {
            let directory = path.parent().unwrap_or(path);
            format!("make the directory {} first", directory.display())
        }
        (Endpoint::Unix(_), _) => "name a short path in a directory that you may write to".to_owned(),
    }
}

struct Signals {
    ending: Ending,
    hangup: Signal,
    table: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            ending: Ending::listen()?,
            hangup: signal(SignalKind::hangup())?,
            table: signal(SignalKind::user_defined1())?,
        })
    }
}
