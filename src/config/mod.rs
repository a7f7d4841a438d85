//! What the proxy is to do: `proxy.toml` and the flags over it, read into a [`Config`].
//!
//! Two stages: [`Settings`] and [`LogSettings`] are what was written, as text, each key perhaps absent; [`Config`] is
//! what was meant, every key parsed and present. Errors name the key where it was written, in the file or as a flag.
//! Nothing here opens a socket, a log or a certificate; of the file system only `proxy.toml` is read and the logs' paths are
//! looked at.

mod address;
mod application;
mod capture;
mod file;
mod paths;
mod redact;
mod replay;
mod resolve;
mod tls;
mod topology;
mod upstream;
mod value;
mod writing;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::bson::json::Mode;
use crate::event::{Address, Phase};
use crate::sink::{EventKind, Format, Namespace};

pub use address::Endpoint;
pub(crate) use address::{percent_decode, percent_encode};
pub use application::ApplicationUri;
pub use capture::{Capture, CaptureSettings};
pub(crate) use file::io_reason;
pub use file::{List, LogSettings, Pairs, Settings, Switch, Text, TopologySettings};
pub use redact::{Redact, RedactSettings};
pub use replay::{OnMiss, Password, Presented, Replay, ReplaySettings};
pub use resolve::Flags;
pub use tls::{TlsListenSettings, TlsSettings, TlsUpstreamSettings};
pub(crate) use upstream::ConnectionString;
pub use upstream::{Srv, Upstream};
pub use value::{parse_duration, parse_size};
pub(crate) use value::{show_duration, show_size};
pub use writing::Writing;

/// The configuration of a proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where applications connect.
    pub listen: Endpoint,
    /// The server they are to reach.
    pub upstream: Upstream,
    /// What drivers are taken to call the listener: `connectionId` of the events.
    pub advertise: Advertise,
    /// Where clients may connect from; empty is from anywhere.
    pub allow: Vec<IpNet>,
    /// Client connections served at a time; further ones are refused. At least 1.
    pub max_connections: usize,
    /// The longest message that is read, in bytes. A longer one is forwarded unread.
    pub max_message_bytes: usize,
    /// The most bytes that a compressed message may hold to be shown.
    pub inflate_max_bytes: usize,
    /// How long a stop waits for commands in flight.
    pub drain: Duration,
    /// Threads that forward; 0 is one for each processor.
    pub threads: usize,
    /// How clients' topologies are told apart, and how members that go by other names are reached.
    pub topology: Topology,
    /// Encryption on either side.
    pub tls: Tls,
    /// The logs to write; none is allowed.
    pub logs: Vec<Log>,
    /// Where to record the messages themselves, if they are.
    pub capture: Option<Capture>,
    /// Which values are taken out of all that is recorded.
    pub redact: Redact,
    /// How a recording is answered from.
    pub replay: Replay,
}

/// `[topology]`: whose topologies are derived, and when they end; and where members are whose names are not addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// What a topology is derived for.
    pub per: Per,
    /// A client whose servers went away, and that has had no connection for so long, is gone, and its topology closed.
    pub closed_after: Duration,
    /// The same for one that has said `endSessions`, or has closed its last connection itself.
    pub ended_after: Duration,
    /// A connection that has said nothing for so long since its first `hello` is an idle one of an application's pool.
    pub idle_after: Duration,
    /// Where to dial members, by the names that the set has for them: `host:port`, in lower case.
    pub dial: BTreeMap<String, Endpoint>,
    /// Where to listen for members, by the same names.
    pub listen: BTreeMap<String, Endpoint>,
    /// The DNS server that is asked for an SRV name; `None` asks those of the system.
    pub dns: Option<SocketAddr>,
}

/// What a topology is derived for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Per {
    /// Each client, as far as clients can be told apart.
    #[default]
    Client,
    /// The upstream: all clients together.
    Upstream,
}

impl Per {
    /// `client` or `upstream`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
        }
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            per: Per::Client,
            closed_after: Duration::from_secs(30),
            ended_after: Duration::from_millis(500),
            idle_after: Duration::from_secs(15),
            dial: BTreeMap::new(),
            listen: BTreeMap::new(),
            dns: None,
        }
    }
}

/// `[tls.listen]` and `[tls.upstream]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// Towards clients; `None` takes them without encryption.
    pub listen: Option<TlsListen>,
    /// Towards the server; `None` connects without encryption. The options of the upstream's connection string are in it.
    pub upstream: Option<TlsUpstream>,
}

/// What the proxy shows its clients, and wants of them. Files are PEM.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsListen {
    /// The certificate, with those between it and its CA behind it.
    pub certificate: PathBuf,
    /// Its key; `None` if it is in the same file.
    pub key: Option<PathBuf>,
    /// The CA of the clients' certificates, which they must have then; `None` asks for none.
    pub ca: Option<PathBuf>,
}

/// What the proxy wants of the server, and shows it. Files are PEM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TlsUpstream {
    /// The CA of the server's certificate; `None` is the system's roots.
    pub ca: Option<PathBuf>,
    /// A certificate of the proxy's own, for a server that asks for one.
    pub certificate: Option<PathBuf>,
    /// Its key; `None` if it is in the same file.
    pub key: Option<PathBuf>,
    /// The name to ask for (SNI) and to find in the certificate; `None` is the host that is dialled.
    pub server_name: Option<String>,
    /// Whether any certificate will do (`tlsAllowInvalidCertificates`).
    pub allow_invalid_certificates: bool,
    /// Whether a certificate for any name will do (`tlsAllowInvalidHostnames`).
    pub allow_invalid_hostnames: bool,
}

/// The name of the listener in events.
#[derive(Clone, Debug, PartialEq)]
pub enum Advertise {
    /// The listening socket's own address.
    Listener,
    /// This one.
    As(Address),
}

/// One log.
#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    /// Where it goes.
    pub target: Target,
    /// In which form.
    pub format: Format,
    /// Which kinds of events it holds.
    pub events: Vec<EventKind>,
    /// Of commands, those of these phases of a connection.
    pub phases: Vec<Phase>,
    /// Of commands, those on these namespaces: `db`, `db.*`, `db.collection`, with `!` before it all but that. Empty is all.
    pub namespaces: Vec<Namespace>,
    /// The longest document shown whole, in bytes of BSON; 0 is no limit.
    pub max_document_bytes: usize,
    /// Which Extended JSON.
    pub extended_json: Mode,
    /// How its file is written.
    pub writing: Writing,
}

/// Where a log goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Target {
    /// Standard output: `-`.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a sink does whose queue is full.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnOverflow {
    /// Leave whole exchanges out, and count them.
    #[default]
    Drop,
    /// Let the application wait.
    Block,
}

impl OnOverflow {
    /// `drop` or `block`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Block => "block",
        }
    }
}

/// What a sink does whose disk fails.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnError {
    /// Say so once, try again, and record what was lost.
    #[default]
    Pass,
    /// End the proxy.
    Stop,
}

impl OnError {
    /// `pass` or `stop`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Stop => "stop",
        }
    }
}

/// Why a configuration cannot be used: whose key it is and what is wrong with it, and perhaps the way out.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Default for Config {
    /// What `mongotap proxy` does without a file and without flags.
    fn default() -> Self {
        Self {
            listen: Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 27027 },
            upstream: Upstream::single(Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 27017 }),
            advertise: Advertise::Listener,
            allow: Vec::new(),
            max_connections: 10_000,
            max_message_bytes: 48_000_000, // the servers' maxMessageSizeBytes
            inflate_max_bytes: 48_000_000,
            drain: Duration::from_secs(5),
            threads: 0,
            topology: Topology::default(),
            tls: Tls::default(),
            logs: vec![Log::to(Target::Stdout)],
            capture: None,
            redact: Redact::default(),
            replay: Replay::default(),
        }
    }
}

impl Config {
    /// The configuration that a file (if one is named) and the flags over it ask for.
    ///
    /// # Errors
    /// If the file cannot be read, if a key is unknown or its value is not one, or if keys contradict each other.
    pub fn load(path: Option<&Path>, flags: &Flags) -> Result<Self, Error> {
        let file = path.map(Settings::read).transpose()?.unwrap_or_default();
        let name = path.map(|path| path.display().to_string()).unwrap_or_default();
        let config = resolve::resolve(&name, &file, flags)?;
        paths::check(&config.logs, config.capture.as_ref())?;
        Ok(config)
    }

    /// The same of a file's text, whose name is for errors. Whether logs can be written is not looked at.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub fn parse(name: &str, text: &str, flags: &Flags) -> Result<Self, Error> {
        resolve::resolve(name, &Settings::parse(name, text)?, flags)
    }

    /// Holds the upstream, whose hosts may have become known only now, against where it listens.
    pub(crate) fn check_upstream(&self) -> Result<(), Error> {
        topology::check(self)
    }

    /// Takes over what a connection string says.
    pub(crate) fn set_upstream(&mut self, uri: &str) -> Result<(), Error> {
        let read: ConnectionString = uri.parse()?;
        self.tls.upstream = tls::merge(read.tls, TlsUpstream::default())?;
        self.upstream = read.upstream;
        Ok(())
    }

    /// Listens there instead.
    pub(crate) fn set_listen(&mut self, address: &str) -> Result<(), Error> {
        self.listen = address.parse()?;
        Ok(())
    }
}

impl Log {
    /// A log to that target with every other key at its default.
    pub fn to(target: Target) -> Self {
        let format = match &target {
            Target::Stdout => Format::Compact,
            Target::File(path) if path.extension().is_some_and(|it| it == "jsonl") => Format::Jsonl,
            Target::File(_) => Format::Text,
        };
        Self {
            target,
            format,
            events: format.default_events().to_vec(),
            phases: vec![Phase::App, Phase::Auth],
            namespaces: Vec::new(),
            max_document_bytes: 10_000,
            extended_json: Mode::Relaxed,
            writing: Writing::default(),
        }
    }

    /// The name of its Extended JSON: `relaxed` or `canonical`.
    pub fn extended_json_name(&self) -> &'static str {
        mode_name(self.extended_json)
    }
}

/// The name of a mode; only `relaxed` and `canonical` can be asked for.
fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Relaxed => "relaxed",
        Mode::Canonical => "canonical",
        Mode::Lossless => "lossless",
    }
}
