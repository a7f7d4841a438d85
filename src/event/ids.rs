//! The names of things: addresses, connections, phases, exchanges, sides and moments.

use std::fmt;
use std::time::Duration;

/// A moment, from two clocks read together: one that never goes back, for durations, and the wall clock, for people.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Timestamp {
    /// Nanoseconds on a monotonic clock whose zero is the caller's choice.
    pub monotonic_nanos: u64,
    /// Microseconds since 1970-01-01T00:00:00Z.
    pub unix_micros: i64,
}

impl Timestamp {
    /// How long after `earlier` this is; zero if it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.saturating_sub(earlier.monotonic_nanos))
    }

    /// The moment so much earlier.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        Self {
            monotonic_nanos: self.monotonic_nanos.saturating_sub(nanos(earlier)),
            unix_micros: self.unix_micros.saturating_sub(i64::try_from(earlier.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// The moment so much later.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self {
            monotonic_nanos: self.monotonic_nanos.saturating_add(nanos(later)),
            unix_micros: self.unix_micros.saturating_add(i64::try_from(later.as_micros()).unwrap_or(i64::MAX)),
        }
    }
}

/// So many nanoseconds, or the most that there can be.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// So many microseconds, or the most that there can be.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Which of the two peers of a connection: the one that sent a byte, or the one that hung up.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Side {
    /// The application.
    Client,
    /// The MongoDB server.
    Server,
}

impl Side {
    /// The other one.
    pub fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// `client` or `server`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of a connection: from 1, in the order in which clients connected. It is the proxy's own, neither the
/// driver's pool number nor the server's `connectionId`.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// The number of one request with its reply: from 1, unique in a run. The key to join on.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Exchange(pub u64);

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What a connection was doing when something happened on it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Phase {
    /// The application's own commands.
    App,
    /// Authentication.
    Auth,
    /// The `hello` that opens an application's connection.
    Handshake,
    /// A driver's server monitor.
    Monitor,
    /// A driver's round trip time probe.
    Rtt,
}

impl Phase {
    /// All of them, in the order in which documents list them.
    pub const ALL: [Self; 5] = [Self::App, Self::Auth, Self::Handshake, Self::Monitor, Self::Rtt];

    /// The name in the log and in `phases`: `app`, `auth`, `handshake`, `monitor`, `rtt`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Auth => "auth",
            Self::Handshake => "handshake",
            Self::Monitor => "monitor",
            Self::Rtt => "rtt",
        }
    }

    /// Whether commands of this phase are what an application does: its own, and its authentication.
    pub fn is_application(self) -> bool {
        matches!(self, Self::App | Self::Auth)
    }

    /// The phase of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == name)
    }
}

/// Where a server is, as a driver names it.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Address {
    /// A host name, an IP address without brackets, or the path of a unix socket.
    pub host: String,
    /// The port; `None` for a unix socket.
    pub port: Option<u16>,
}

impl Address {
    /// Reads `host:port`, `[v6]:port`, or a path (anything with a `/`).
    pub fn parse(text: &str) -> Self {
        if text.contains('/') {
            return Self { host: text.to_owned(), port: None };
        }
        match text.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() && (host.ends_with(']') || !host.contains(':')) => {
                Self { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), port: port.parse().ok() }
            }
            _ => Self { host: text.trim_start_matches('[').trim_end_matches(']').to_owned(), port: None },
        }
    }
}

/// `host:port`, an IPv6 host in brackets; a unix socket as its path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// One proxied connection: a client's socket and the upstream's socket that belongs to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Connection {
    /// Our number of it.
    pub id: ConnectionId,
    /// The client's address, `host:port`; for a unix socket `unix`.
    pub client: String,
    /// The address that was dialled upstream.
    pub upstream: String,
    /// The address that the client dialled: what drivers call `connectionId`.
    pub server: Address,
    /// Whether the client's side is encrypted.
    pub tls: bool,
}

impl Connection {
    /// The host of the client's address; `unix` for a unix socket.
    pub(crate) fn client_host(&self) -> &str {
        self.client.rsplit_once(':').map_or(&self.client, |(host, _)| host)
    }
}
