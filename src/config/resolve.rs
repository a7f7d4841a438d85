//! The second stage: the file and the flags over it become a [`Config`].

use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::bson::json::Mode;
use crate::bson::nearest;
use crate::event::Phase;
use crate::sink::{EventKind, Format, Namespace};

use super::address::Problem;
use super::capture;
use super::file::{List, Text};
use super::redact;
use super::replay;
use super::tls;
use super::topology;
use super::upstream::ConnectionString;
use super::value::{DURATION_HINT, SIZE_HINT, parse_duration, parse_size};
use super::writing::read_writing;
use super::{Advertise, Config, Endpoint, Error, Log, LogSettings, Per, Settings, Target, TopologySettings, mode_name};

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The top level's keys; its `log` is not used.
    pub top: Settings,
    /// `--log`, each time it was given. If it was, the file's logs are not written.
    pub logs: Vec<String>,
    /// The `--log-…` flags: they hold for every log.
    pub each_log: LogSettings,
    /// `--force`: a capture that is there already is overwritten.
    pub force: bool,
}

/// Puts the flags over the file of that name, and both over the defaults.
pub(crate) fn resolve(file_name: &str, file: &Settings, flags: &Flags) -> Result<Config, Error> {
    let place = Place { file: file_name.to_owned(), section: "" };
    let (file_top, top) = (file, &flags.top);
    let mut config = Config::default();
    read_keys! { place, top, file_top => config;
        listen: |it: &Text| Endpoint::parse(&it.0);
        advertise: |it: &Text| advertise(&it.0);
        allow: networks;
        max_connections: |it: &Text| at_least_one(&it.0);
        max_message_bytes: |it: &Text| message_bytes(&it.0);
        inflate_max_bytes: |it: &Text| size(&it.0);
        drain: |it: &Text| duration(&it.0);
        threads: |it: &Text| count(&it.0);
    }
    let mut upstream = None;
    let read = |it: &Text| ConnectionString::parse(&it.0).map(Some);
    place.read("upstream", &top.upstream, &file_top.upstream, &mut upstream, read)?;
    let mut uri = tls::UriTls::default();
    if let Some(read) = upstream {
        (config.upstream, uri) = (read.upstream, read.tls);
    }
    config.tls = tls::resolve(file_name, file_top.tls.as_ref(), top.tls.as_ref(), uri)?;
    config.topology = topology_section(file_name, file, flags)?;
    topology::check(&config)?;
    config.logs = logs(file_name, file, flags)?;
    config.capture = capture::resolve(file_name, file_top.capture.as_ref(), top.capture.as_ref(), flags.force)?;
    config.redact = redact::resolve(file_name, file_top.redact.as_ref(), top.redact.as_ref())?;
    config.replay = replay::resolve(file_name, file_top.replay.as_ref(), top.replay.as_ref())?;
    Ok(config)
}

fn topology_section(file_name: &str, file: &Settings, flags: &Flags) -> Result<super::Topology, Error> {
    let place = Place { file: file_name.to_owned(), section: "topology" };
    let nothing = TopologySettings::default();
    let table = file.topology.as_ref().unwrap_or(&nothing);
    let flags = flags.top.topology.as_ref().unwrap_or(&nothing);
    let mut topology = super::Topology::default();
    read_keys! { place, flags, table => topology;
        per: |it: &Text| word(&it.0, &[Per::Client, Per::Upstream], Per::as_str);
        closed_after: |it: &Text| duration(&it.0);
        ended_after: |it: &Text| duration(&it.0);
        idle_after: |it: &Text| duration(&it.0);
        dial: topology::dial;
        listen: topology::listen;
        dns: |it: &Text| topology::dns(&it.0);
    }
    Ok(topology)
}

/// The logs: those of the command line, else those of the file, else the default one.
fn logs(file_name: &str, file: &Settings, flags: &Flags) -> Result<Vec<Log>, Error> {
    let nothing = LogSettings::default();
    if !flags.logs.is_empty() {
        let logs = flags.logs.iter();
        return logs.map(|path| log(file_name, target("--log", path)?, &nothing, &flags.each_log)).collect();
    }
    let Some(tables) = &file.log else {
        return Ok(vec![log(file_name, Target::Stdout, &nothing, &flags.each_log)?]);
    };
    let read = |table: &LogSettings| {
        let Some(Text(path)) = &table.path else {
            let hint = Some("path = \"-\" is standard output".to_owned());
            return Err(Error { message: format!("{file_name}: [[log]]: no path"), hint });
        };
        log(file_name, target(&format!("{file_name}: log.path"), path)?, table, &flags.each_log)
    };
    tables.iter().map(read).collect()
}

/// One log, from its table in the file and the flags for all logs.
fn log(file_name: &str, target: Target, table: &LogSettings, flags: &LogSettings) -> Result<Log, Error> {
    let place = Place { file: file_name.to_owned(), section: "log" };
    let mut format = Log::to(target.clone()).format;
    place.read("format", &flags.format, &table.format, &mut format, |it| word(&it.0, &Format::ALL, Format::as_str))?;
    let mut log = Log { format, events: format.default_events().to_vec(), ..Log::to(target) };
    read_keys! { place, flags, table => log;
        events: |it: &List| words(it, &EventKind::ALL, EventKind::as_str);
        phases: |it: &List| words(it, &Phase::ALL, Phase::as_str);
        namespaces: |it: &List| namespaces(it);
        max_document_bytes: |it: &Text| size(&it.0);
        extended_json: |it: &Text| word(&it.0, &[Mode::Relaxed, Mode::Canonical], mode_name);
    }
    read_writing!(place, flags, table => log.writing);
    Ok(log)
}

fn target(place: &str, path: &str) -> Result<Target, Error> {
    match path {
        "" => {
            Err(Error { message: format!("{place}: an empty path"), hint: Some("`-` is standard output".to_owned()) })
        }
        "-" => Ok(Target::Stdout),
        path => Ok(Target::File(PathBuf::from(path))),
    }
}

/// Where a key can be written: in a section of a file, and as a flag.
pub(super) struct Place {
    pub(super) file: String,
    pub(super) section: &'static str,
}

impl Place {
    /// Reads the flag, or else the file's value, into `to`; neither leaves it alone.
    pub(super) fn read<R, T>(
        &self,
        key: &str,
        flag: &Option<R>,
        file: &Option<R>,
        to: &mut T,
        read: impl Fn(&R) -> Result<T, Problem>,
    ) -> Result<(), Error> {
        let dot = if self.section.is_empty() { "" } else { "." };
        let (raw, name) = match (flag, file) {
            (Some(raw), _) if self.section == replay::SECTION => (raw, format!("--{}", key.replace('_', "-"))),
            (Some(raw), _) => (raw, format!("--{}", format!("{}{dot}{key}", self.section).replace(['.', '_'], "-"))),
            (None, Some(raw)) => (raw, format!("{}: {}{dot}{key}", self.file, self.section)),
            (None, None) => return Ok(()),
        };
        *to = read(raw)
            .map_err(|problem| Error { message: format!("{name}: {}", problem.message), hint: problem.hint })?;
        Ok(())
    }
}

/// Reads keys of a section, the flag or else the file's value, into the fields of their names.
macro_rules! read_keys {
    ($place:expr, $flags:expr, $table:expr => $to:expr; $($key:ident: $read:expr;)*) => {$(
        $place.read(stringify!($key), &$flags.$key, &$table.$key, &mut $to.$key, $read)?;
    )*};
}
pub(super) use read_keys;

fn problem(message: impl Display, hint: impl Display) -> Problem {
    Problem { message: message.to_string(), hint: Some(hint.to_string()) }
}

fn advertise(text: &str) -> Result<Advertise, Problem> {
    match text {
        "" => Ok(Advertise::Listener),
        text => Endpoint::parse(text).map(|endpoint| Advertise::As(endpoint.to_address())),
    }
}

pub(super) fn size<T: TryFrom<u64>>(text: &str) -> Result<T, Problem> {
    let bytes = parse_size(text).map_err(|what| problem(what, SIZE_HINT))?;
    T::try_from(bytes).map_err(|_| problem(format_args!("{text:?} is too large"), SIZE_HINT))
}

pub(super) fn duration(text: &str) -> Result<std::time::Duration, Problem> {
    parse_duration(text).map_err(|what| problem(what, DURATION_HINT))
}

pub(super) fn count<T: std::str::FromStr>(text: &str) -> Result<T, Problem> {
    text.parse().map_err(|_| problem(format_args!("{text:?} is not a number"), "write a whole number, 0 or more"))
}

fn at_least_one(text: &str) -> Result<usize, Problem> {
    match count(text)? {
        0 => Err(problem("0 would let nobody in", "write a whole number, 1 or more")),
        count => Ok(count),
    }
}

/// A message is at least its header of 16 bytes; its length is a signed 32 bit number.
fn message_bytes(text: &str) -> Result<usize, Problem> {
    let bytes: usize = size(text)?;
    if (16..=i32::MAX as usize).contains(&bytes) {
        return Ok(bytes);
    }
    Err(problem(format_args!("{text:?} is out of range"), "a message has 16 to 2147483647 bytes"))
}

pub(super) fn queue_bytes(text: &str) -> Result<usize, Problem> {
    match size(text)? {
        0 => Err(problem("a queue of 0 bytes holds nothing", "the default is \"16 MiB\"")),
        bytes => Ok(bytes),
    }
}

/// One of the words that a key may have.
pub(super) fn word<T: Copy>(text: &str, all: &[T], name: fn(T) -> &'static str) -> Result<T, Problem> {
    let names: Vec<&str> = all.iter().map(|one| name(*one)).collect();
    all.iter().copied().find(|one| name(*one) == text).ok_or_else(|| {
        let hint = match nearest(text, &names) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => format!("one of {}", names.join(", ")),
        };
        problem(format_args!("{text:?} is not known"), hint)
    })
}

/// Several of the words that a key may have: each once, in the order of `all`.
fn words<T: Copy + PartialEq>(list: &List, all: &[T], name: fn(T) -> &'static str) -> Result<Vec<T>, Problem> {
    let given: Vec<T> = list.0.iter().map(|text| word(text, all, name)).collect::<Result<_, _>>()?;
    Ok(all.iter().copied().filter(|one| given.contains(one)).collect())
}

/// `10.0.0.0/8`, or one address.
fn networks(list: &List) -> Result<Vec<IpNet>, Problem> {
    let network = |text: &String| match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(network), _) => Ok(network.trunc()),
        (_, Ok(address)) => Ok(address.into()),
        _ => Err(problem(format_args!("{text:?} is no network"), "write 10.0.0.0/8, or an address like ::1")),
    };
    list.0.iter().map(network).collect()
}

fn namespaces(list: &List) -> Result<Vec<Namespace>, Problem> {
    let hint = "write db.collection, db or db.*, with ! before what is to be left out";
    list.0
        .iter()
        .map(|text| text.parse().map_err(|_| problem(format_args!("{text:?} is not a namespace"), hint)))
        .collect()
}
