//! The proxy as a whole: what [`Proxy::builder`] starts and [`Proxy::shutdown`] ends.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::acceptor::Acceptor;
use super::clock;
use super::discover::{self, Answer, Found, Poll};
use super::members::{JoinError, Joined, Members};
use super::places::reached_at;
use super::recorder::{Listeners, Recorder, RunInfo, Total};
use super::say::say;
use super::tls;
use super::topologies;
use super::worker::{Context, Stop, Worker};
use crate::capture::mtap::Header;
use crate::config::{self, Config, Endpoint, Log, Per, TlsListen, TlsUpstream, percent_encode};
use crate::event::{
    Address, CommandListener, ConnectionListener, ServerHeartbeatListener, ServerListener, Timestamp, TopologyListener,
    TopologyType,
};
use crate::pipeline::Topologies;
use crate::session::{Limits, Observations, Shared};
use crate::sink::{EventKind, Statistics};
use crate::topology::rewrite::RewriteError;
use crate::topology::{self, ClientsSettings};

/// How often threads that are to end are looked at.
const GLANCE: Duration = Duration::from_millis(2);

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
    Log(#[from] super::recorder::Error),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A running proxy. It ends with [`shutdown`](Self::shutdown), or when it is dropped.
///
/// ```no_run
/// use mongotap::event::{CommandListener, CommandStarted, Connection};
///
/// struct Names;
///
/// impl CommandListener for Names {
///     fn started(&mut self, _: &Connection, event: &CommandStarted<'_>) {
///         eprintln!("{} {}", event.info.command_name, event.info.request_id);
///     }
/// }
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let proxy = mongotap::Proxy::builder()
///     .upstream("mongodb://127.0.0.1:27017")
///     .command_listener(Names)
///     .start()
///     .await?;
/// println!("point the application at {}", proxy.uri());
/// proxy.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub struct Proxy {
    members: Arc<Members>,
    /// What stands after the hosts of the URI for applications.
    options: String,
    drain: Duration,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
    recorder: Option<Recorder>,
    /// Frees the workers that wait for a log's reader.
    release: Arc<dyn Fn() + Send + Sync>,
}

/// What a proxy has done.
#[derive(Debug, Default)]
pub struct Ended {
    /// What was written to each log and told to each listener.
    pub totals: Vec<Total>,
    /// Latency per database, collection and command.
    pub statistics: Statistics,
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
        match uri.parse().and_then(|read| self.config.set_upstream(read)) {
            Ok(()) => {}
            Err(error) => self.error = self.error.or(Some(error)),
        }
        self
    }

    /// Where to listen: `host:port`, `[v6]:port` or the path of a unix socket. Port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, address: &str) -> Self {
        match address.parse() {
            Ok(endpoint) => self.config.listen = endpoint,
            Err(error) => self.error = self.error.or(Some(error)),
        }
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

impl Proxy {
    /// A proxy to be described, then started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(
        config: Config,
        listeners: Listeners,
        found: Found,
        (acceptor, connector): (Option<tls::Acceptor>, Option<tls::Connector>),
    ) -> Result<Self, StartError> {
        let (members, joined) = Members::new(&config);
        let members = Arc::new(members);
        take_in(&members, &found)?;
        let started = clock::now();
        let run = RunInfo {
            // Enough to tell runs apart; it is no secret.
            run: format!("{:x}-{:x}", started.unix_micros, std::process::id()),
            listen: members.all().iter().map(|it| it.endpoint.to_string()).collect::<Vec<_>>().join(","),
            upstream: config.upstream.hosts_text(),
        };
        let settings = clients(&config, &found, &members);
        let header = header(&config, &run, started, &settings);
        let mut recorder = Recorder::start(&config.logs, listeners, run, clock::now, |line| say(line))?;
        if let Some(capture) = &config.capture {
            recorder.start_capture(capture, header)?;
        }
        let limits = Limits {
            max_message_bytes: config.max_message_bytes,
            inflate_max_bytes: config.inflate_max_bytes,
            max_document_bytes: at_least_a_hello(recorder.max_document_bytes()),
        };
        let (mut observations, observing) = Observations::channel();
        let wanted = recorder.wants(EventKind::Server) || recorder.wants(EventKind::Topology);
        // A capture ends when the last session has gone, which is known by them.
        if !wanted && config.capture.is_none() {
            // Nobody asks for what would be derived.
            observations = Observations::default();
        }
        let context = Context {
            members: Arc::clone(&members),
            shared: Shared { limits, observations, idle_after: config.topology.idle_after, ..Shared::default() },
            is_captured: config.capture.is_some(),
            stop: Stop::default(),
            acceptor,
            connector,
        };
        let mut proxy = Self {
            options: options(&config, &found),
            members,
            drain: config.drain,
            stop: context.stop.clone(),
            threads: Vec::new(),
            recorder: None,
            release: Arc::new(recorder.releaser()),
        };
        let topologies = Topologies::new(settings);
        let thread = topologies::start(observing, topologies, recorder.feed(), recorder.capture_feed());
        let thread = thread.map_err(StartError::Thread)?;
        proxy.threads.push(thread);
        proxy.spawn(&config, joined, found.poll, context, &recorder).map_err(StartError::Thread)?;
        proxy.members.set_ready();
        proxy.recorder = Some(recorder);
        Ok(proxy)
    }

    fn spawn(
        &mut self,
        config: &Config,
        joined: UnboundedReceiver<Joined>,
        poll: Option<Poll>,
        context: Context,
        recorder: &Recorder,
    ) -> io::Result<()> {
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let workers = (1..=threads)
            .map(|number| Worker::start(number, context.clone(), recorder.feed(), recorder.capture_feed()))
            .collect::<io::Result<Vec<_>>>()?;
        let mut idlest = Vec::new();
        for worker in workers {
            idlest.push((worker.arrivals, worker.load));
            self.threads.push(worker.thread);
        }
        let mut acceptor =
            Acceptor::new(idlest, config.max_connections, joined, context.acceptor.is_some(), context.stop.clone());
        let connector = context.connector.clone();
        let members = Arc::clone(&self.members);
        // The topologies end with the last of those that could observe something.
        drop(context);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("mongotap-accept".to_owned()).spawn(move || {
            runtime.block_on(async {
                if members.are_discovered {
                    tokio::spawn(discover::learn(Arc::clone(&members), connector));
                }
                if let Some(poll) = poll {
                    tokio::spawn(poll.run(members));
                }
                acceptor.run().await;
            });
            // A name that is still being resolved holds up nobody.
            runtime.shutdown_background();
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The URI for applications: all listeners, by their advertised names if they have such.
    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.all().iter().map(|member| in_uri(&member.server)).collect();
        format!("mongodb://{}/{}", hosts.join(","), self.options)
    }

    /// Where it listens; with several listeners, the first one.
    pub fn endpoint(&self) -> Endpoint {
        self.listeners().swap_remove(0).0
    }

    /// Where it listens, and the server behind each listener. There may come to be more as members join.
    pub fn listeners(&self) -> Vec<(Endpoint, Endpoint)> {
        self.members.all().iter().map(|member| (member.endpoint.clone(), member.dial())).collect()
    }

    /// Latency per database, collection and command, so far.
    pub fn statistics(&self) -> Statistics {
        self.recorder.as_ref().map(Recorder::statistics).unwrap_or_default()
    }

    /// Opens log files anew, for whoever has moved them away.
    pub fn reopen_logs(&self) {
        if let Some(recorder) = &self.recorder {
            recorder.reopen();
        }
    }

    /// Waits until a log that may not fail has failed; what is to be said of it.
    pub async fn failed(&self) -> String {
        match &self.recorder {
            Some(recorder) => recorder.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the proxy: accepts no more, closes idle connections, waits up to the configured `drain` for commands in
    /// flight, and writes out the logs. It can be awaited in any runtime; given up, it goes on without waiting for the
    /// commands.
    pub async fn shutdown(mut self) -> Ended {
        self.stop.drain();
        let (threads, recorder) = (std::mem::take(&mut self.threads), self.recorder.take());
        let (drain, stop, release) = (self.drain, self.stop.clone(), Arc::clone(&self.release));
        let (tell, ended) = oneshot::channel();
        thread::spawn(move || {
            if !wait(&threads, drain) {
                stop.abort();
                release();
            }
            // Nobody may want to know any more.
            _ = tell.send(join(threads, recorder));
        });
        ended.await.unwrap_or_default()
    }
}

/// Waits for threads to end, so long at most. Whether they have.
fn wait(threads: &[JoinHandle<()>], patience: Duration) -> bool {
    let since = clock::now();
    loop {
        if threads.iter().all(JoinHandle::is_finished) {
            return true;
        }
        let left = patience.saturating_sub(clock::now().since(since));
        if left.is_zero() {
            return false;
        }
        thread::sleep(left.min(GLANCE));
    }
}

/// Gives each member that was found its listener: the seeds first, in their order.
fn take_in(members: &Members, found: &Found) -> Result<(), StartError> {
    if let Some(name) = &found.set_name {
        members.set_name(name);
    }
    let mut asked = Vec::new();
    for (seed, answer) in &found.seeds {
        match answer {
            Answer::Unknown => _ = members.add_seed(seed, None)?,
            Answer::Foreign => members.set_learnt(&*members.add_seed(seed, None)?),
            Answer::Hello(hello) => asked.push((members.add_seed(seed, discover::name_of(hello))?, hello)),
        }
    }
    for (member, hello) in asked {
        match members.add_named(&member, hello.as_bytes()) {
            Err(RewriteError::Name(error)) => return Err(error.into()),
            Err(error) => say(format_args!("upstream {}: {error}", member.dial())),
            Ok(()) => {}
        }
        members.set_learnt(&member);
    }
    Ok(())
}

/// What the URI for applications says of the deployment.
fn options(config: &Config, found: &Found) -> String {
    let deployment = match &found.set_name {
        // Without directConnection a driver would follow the server's own names past the proxy.
        _ if config.upstream.direct => Some("directConnection=true".to_owned()),
        _ if config.upstream.load_balanced => Some("loadBalanced=true".to_owned()),
        Some(name) => Some(format!("replicaSet={}", percent_encode(name))),
        None => None,
    };
    let tls = config.tls.listen.is_some().then(|| "tls=true".to_owned());
    let options: Vec<_> = deployment.into_iter().chain(tls).collect();
    if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) }
}

/// A listener's name as it stands in a URI.
fn in_uri(server: &Address) -> String {
    let endpoint = match server {
        Address { host, port: Some(port) } => Endpoint::Tcp { host: host.clone(), port: *port },
        Address { host, port: None } => Endpoint::Unix(host.into()),
    };
    reached_at(&endpoint).in_uri()
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

fn join(threads: Vec<JoinHandle<()>>, recorder: Option<Recorder>) -> Ended {
    for thread in threads {
        if thread.join().is_err() {
            say(format_args!("a thread of the proxy panicked; its connections were closed"));
        }
    }
    let Some(recorder) = recorder else { return Ended::default() };
    let statistics = recorder.statistics();
    Ended { statistics, totals: recorder.stop() }
}

impl Drop for Proxy {
    /// Ends the proxy without waiting for commands in flight.
    fn drop(&mut self) {
        self.stop.drain();
        self.stop.abort();
        (self.release)();
        join(std::mem::take(&mut self.threads), self.recorder.take());
    }
}

/// The limit that the session reads with: a `hello` and its reply, with fifty members of long names, must stay, however
/// little a log wants to show. Logs cut to their own limits.
fn at_least_a_hello(limit: usize) -> usize {
    const HELLO_LEN: usize = 10_000;
    if limit == 0 { 0 } else { limit.max(HELLO_LEN) }
}

/// What a capture says of the run.
fn header(config: &Config, run: &RunInfo, started: Timestamp, settings: &ClientsSettings) -> Header {
    Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: run.run.clone(),
        part: 0,
        listen: run.listen.clone(),
        upstream: run.upstream.clone(),
        started_nanos: started.monotonic_nanos,
        started_micros: started.unix_micros,
        max_message_bytes: config.max_message_bytes,
        inflate_max_bytes: config.inflate_max_bytes,
        idle_after_micros: u64::try_from(config.topology.idle_after.as_micros()).unwrap_or(u64::MAX),
        topology: settings.into(),
    }
}

/// Whose topologies are derived, and what they begin with: what the URI says that applications are to use.
fn clients(config: &Config, found: &Found, members: &Members) -> ClientsSettings {
    let upstream = &config.upstream;
    let seeds = members.all().iter().map(|member| member.server.clone()).collect();
    let initial = match &found.set_name {
        _ if upstream.load_balanced => TopologyType::LoadBalanced,
        _ if upstream.direct => TopologyType::Single,
        Some(_) => TopologyType::ReplicaSetNoPrimary,
        None => TopologyType::Unknown,
    };
    ClientsSettings {
        per_client: config.topology.per == Per::Client,
        closed_after: config.topology.closed_after,
        ended_after: config.topology.ended_after,
        seeds: topology::Settings { seeds, initial, set_name: found.set_name.clone(), ..topology::Settings::default() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_told_an_address_to_connect_to() {
        let told = |listen: &str| in_uri(&listen.parse::<Endpoint>().unwrap().to_address());
        assert_eq!(told("127.0.0.1:1"), "127.0.0.1:1");
        assert_eq!(told("0.0.0.0:27027"), "127.0.0.1:27027");
        assert_eq!(told("[::]:27027"), "[::1]:27027");
        assert_eq!(told("/tmp/x.sock"), "%2Ftmp%2Fx.sock");
        assert_eq!(told("db.example.com:27017"), "db.example.com:27017");
        assert_eq!(told("[fe80::1]:5"), "[fe80::1]:5");
    }
}
