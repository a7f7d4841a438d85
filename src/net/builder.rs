//! What a proxy is to do, as a program says it, and why it cannot be done.

use std::io;

use super::discover;
use super::members::JoinError;
use super::proxy::Proxy;
use super::recorder::{self, Listeners};
use super::tls;
use crate::config::{self, Config, Endpoint, Log, Redact, TlsListen, TlsUpstream};
use crate::event::{CommandListener, ConnectionListener, ServerHeartbeatListener, ServerListener, TopologyListener};

/// Why a proxy could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What it was told to do cannot be done.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The address cannot be listened on.
    #[error("{endpoint}: cannot listen: {error}")]
    Listen {
        /// The address.
        endpoint: Endpoint,
        /// What the system says.
        error: io::Error,
    },
    /// The upstream is another deployment than its connection string says.
    #[error("{message}")]
    OtherSet {
        /// Both names.
        message: String,
        /// The way out.
        hint: String,
    },
    /// The upstream's name in DNS does not lead to a deployment.
    #[error("{message}")]
    Dns {
        /// The name, and what is wrong with it.
        message: String,
        /// The way out.
        hint: String,
    },
    /// A log cannot be opened.
    #[error(transparent)]
    Log(#[from] recorder::Error),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl From<JoinError> for StartError {
    fn from(error: JoinError) -> Self {
        let (message, hint) = (format!("upstream: {error}"), error.hint().to_owned());
        match error {
            JoinError::Listen { endpoint, error, .. } => Self::Listen { endpoint, error },
            _ => Self::OtherSet { message, hint },
        }
    }
}

/// What a proxy is to do. Without being told it listens on a free port of 127.0.0.1, forwards to
/// `mongodb://127.0.0.1:27017`, and writes no log.
pub struct Builder {
    config: Config,
    listeners: Listeners,
    /// The first thing that was wrong; said by `start`.
    error: Option<config::Error>,
}

impl Default for Builder {
    fn default() -> Self {
        let listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let config = Config { listen, logs: Vec::new(), ..Config::default() };
        Self { config, listeners: Listeners::default(), error: None }
    }
}

impl Builder {
    /// Does what a configuration says, listeners apart.
    #[must_use]
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The server or the replica set, as a connection string without credentials: `mongodb://host:port`,
    /// `mongodb://a,b,c/?replicaSet=rs0`, `mongodb+srv://name`; with `tls=true`, and its other TLS options, if
    /// it is to be reached by TLS.
    #[must_use]
    pub fn upstream(mut self, uri: &str) -> Self {
        let wrong = self.config.set_upstream(uri).err();
        self.error = self.error.or(wrong);
        self
    }

    /// Where to listen: `host:port`, `[v6]:port` or the path of a unix socket. Port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        let wrong = self.config.set_listen(address).err();
        self.error = self.error.or(wrong);
        self
    }

    /// Takes clients by TLS, with that certificate.
    #[must_use]
    pub fn tls_listen(mut self, tls: TlsListen) -> Self {
        self.config.tls.listen = Some(tls);
        self
    }

    /// Reaches the server by TLS, in that way; to be said after [`upstream`](Self::upstream), whose options it replaces.
    #[must_use]
    pub fn tls_upstream(mut self, tls: TlsUpstream) -> Self {
        self.config.tls.upstream = Some(tls);
        self
    }

    /// Takes the values of these fields out of all that is written and told.
    #[must_use]
    pub fn redact(mut self, redact: Redact) -> Self {
        self.config.redact = redact;
        self
    }

    /// Writes a log, besides those that were given before.
    #[must_use]
    pub fn log(mut self, log: Log) -> Self {
        self.config.logs.push(log);
        self
    }

    /// Tells a listener of commands.
    #[must_use]
    pub fn command_listener(mut self, listener: impl CommandListener) -> Self {
        self.listeners.command.push(Box::new(listener));
        self
    }

    /// Tells a listener of applications' connections.
    #[must_use]
    pub fn connection_listener(mut self, listener: impl ConnectionListener) -> Self {
        self.listeners.connection.push(Box::new(listener));
        self
    }

    /// Tells a listener of the heartbeats of drivers' monitors.
    #[must_use]
    pub fn heartbeat_listener(mut self, listener: impl ServerHeartbeatListener) -> Self {
        self.listeners.heartbeat.push(Box::new(listener));
        self
    }

    /// Tells a listener of the servers of each client's topology, as far as they can be derived.
    #[must_use]
    pub fn server_listener(mut self, listener: impl ServerListener) -> Self {
        self.listeners.server.push(Box::new(listener));
        self
    }

    /// Tells a listener of each client's topology, as far as it can be derived.
    #[must_use]
    pub fn topology_listener(mut self, listener: impl TopologyListener) -> Self {
        self.listeners.topology.push(Box::new(listener));
        self
    }

    /// Starts the proxy: when this returns, clients can connect. The upstream need not be there yet.
    ///
    /// # Errors
    /// If an address or a log is not what it should be, or not to be had.
    pub async fn start(mut self) -> Result<Proxy, StartError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let acceptor = self.config.tls.listen.as_ref().map(tls::Acceptor::new).transpose()?;
        let connector = self.config.tls.upstream.as_ref().map(tls::Connector::new).transpose()?;
        let found = discover::find_members(&mut self.config, connector.as_ref()).await?;
        Proxy::start(self.config, self.listeners, found, (acceptor, connector))
    }
}
