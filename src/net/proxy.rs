//! The proxy as a whole: what [`Proxy::builder`] starts and [`Proxy::shutdown`] ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::clock;
use super::listener::{Bound, Listener};
use super::recorder::{Listeners, Recorder, RunInfo, Total};
use super::say::say;
use super::topologies;
use super::worker::{Arrival, Context, Stop, Worker};
use crate::config::{self, Advertise, Config, Endpoint, Log, Per};
use crate::event::{
    Address, CommandListener, Connection, ConnectionId, ConnectionListener, ServerHeartbeatListener, ServerListener,
    TopologyListener, TopologyType,
};
use crate::pipeline::Topologies;
use crate::session::{Limits, Observations, Shared};
use crate::sink::{EventKind, Statistics};
use crate::topology::{self, ClientsSettings};

/// After an accept that failed for want of something, the next try waits this long.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts that fail within this of each other fail for the same reason, which is said once.
const SAME_TROUBLE: Duration = Duration::from_secs(10);

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
    endpoint: Endpoint,
    /// Where applications find it.
    reached_at: Endpoint,
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
    /// `mongodb://a,b,c/?replicaSet=rs0`, `mongodb+srv://name`.
    #[must_use]
    pub fn upstream(mut self, uri: &str) -> Self {
        match uri.parse() {
            Ok(read) => self.config.set_upstream(read),
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
    #[expect(clippy::unused_async, reason = "starting may come to wait for name resolution")]
    pub async fn start(self) -> Result<Proxy, StartError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        Proxy::start(self.config, self.listeners)
    }
}

impl Proxy {
    /// A proxy to be described, then started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(config: Config, listeners: Listeners) -> Result<Self, StartError> {
        let failed = |error| StartError::Listen { endpoint: config.listen.clone(), error };
        let bound = Bound::bind(&config.listen).map_err(failed)?;
        let endpoint = bound.endpoint().map_err(failed)?;
        let server = match &config.advertise {
            Advertise::Listener => endpoint.to_address(),
            Advertise::As(address) => address.clone(),
        };
        let started = clock::now();
        let run = RunInfo {
            // Enough to tell runs apart; it is no secret.
            run: format!("{:x}-{:x}", started.unix_micros, std::process::id()),
            listen: endpoint.to_string(),
            upstream: config.upstream.first().to_string(),
        };
        let recorder = Recorder::start(&config.logs, listeners, run, clock::now, |line| say(line))?;
        let limits = Limits {
            max_message_bytes: config.max_message_bytes,
            inflate_max_bytes: config.inflate_max_bytes,
            max_document_bytes: at_least_a_hello(recorder.max_document_bytes()),
        };
        let (mut observations, observed) = Observations::channel();
        let lost = observations.lost();
        if !(recorder.wants(EventKind::Server) || recorder.wants(EventKind::Topology)) {
            // Nobody asks for what would be derived.
            observations = Observations::default();
        }
        let context = Context {
            upstream: config.upstream.clone(),
            shared: Shared { limits, observations, idle_after: config.topology.idle_after, ..Shared::default() },
            stop: Stop::default(),
            reachable: Arc::new(AtomicBool::new(true)),
        };
        let reached_at = reached_at(&endpoint, &config.advertise);
        let mut proxy = Self {
            endpoint,
            reached_at,
            drain: config.drain,
            stop: context.stop.clone(),
            threads: Vec::new(),
            recorder: None,
            release: Arc::new(recorder.releaser()),
        };
        let topologies = Topologies::new(clients(&config, &server));
        let source = topologies::Source { observations: observed, lost };
        let thread = topologies::start(source, topologies, recorder.feed()).map_err(StartError::Thread)?;
        proxy.threads.push(thread);
        proxy.spawn(&config, bound, server, context, &recorder).map_err(StartError::Thread)?;
        proxy.recorder = Some(recorder);
        Ok(proxy)
    }

    fn spawn(
        &mut self,
        config: &Config,
        bound: Bound,
        server: Address,
        context: Context,
        recorder: &Recorder,
    ) -> io::Result<()> {
        let threads = match config.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let workers = (1..=threads)
            .map(|number| Worker::start(number, context.clone(), recorder.feed()))
            .collect::<io::Result<Vec<_>>>()?;
        let mut acceptor = Acceptor {
            workers: Vec::new(),
            places: Arc::new(Semaphore::new(config.max_connections)),
            server,
            upstream: config.upstream.first().to_string(),
            accepted: 0,
            stop: context.stop.clone(),
        };
        for worker in workers {
            acceptor.workers.push((worker.arrivals, worker.load));
            self.threads.push(worker.thread);
        }
        // The topologies end with the last of those that could observe something.
        drop(context);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("mongotap-accept".to_owned()).spawn(move || {
            runtime.block_on(async {
                match bound.adopt() {
                    Ok(listener) => acceptor.run(&listener).await,
                    Err(error) => say(format_args!("cannot accept connections: {error}")),
                }
            });
        })?;
        self.threads.push(thread);
        Ok(())
    }

    /// The URI for applications: with the advertised address if there is one.
    pub fn uri(&self) -> String {
        // Without directConnection a driver would follow the server's own names past the proxy.
        format!("mongodb://{}/?directConnection=true", self.reached_at.in_uri())
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
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

/// Where applications find a listener: nothing can connect to the address that stands for all of them.
fn reached_at(endpoint: &Endpoint, advertise: &Advertise) -> Endpoint {
    let advertised = match advertise {
        Advertise::As(Address { host, port: Some(port) }) => Endpoint::Tcp { host: host.clone(), port: *port },
        Advertise::As(Address { host, port: None }) => Endpoint::Unix(host.into()),
        Advertise::Listener => endpoint.clone(),
    };
    match advertised {
        Endpoint::Tcp { host, port } if host == "0.0.0.0" => Endpoint::Tcp { host: "127.0.0.1".to_owned(), port },
        Endpoint::Tcp { host, port } if host == "::" => Endpoint::Tcp { host: "::1".to_owned(), port },
        other => other,
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

/// The limit that the session reads with: what drivers say of themselves in a `hello` must stay, however little a log
/// wants to show. Logs cut to their own limits.
fn at_least_a_hello(limit: usize) -> usize {
    const HELLO_LEN: usize = 4096;
    if limit == 0 { 0 } else { limit.max(HELLO_LEN) }
}

/// Whose topologies are derived, and what they begin with: what the URI says that applications are to use.
fn clients(config: &Config, server: &Address) -> ClientsSettings {
    let upstream = &config.upstream;
    let initial = match &upstream.replica_set {
        _ if upstream.load_balanced => TopologyType::LoadBalanced,
        _ if upstream.direct => TopologyType::Single,
        Some(_) => TopologyType::ReplicaSetNoPrimary,
        None => TopologyType::Unknown,
    };
    ClientsSettings {
        per_client: config.topology.per == Per::Client,
        closed_after: config.topology.closed_after,
        ended_after: config.topology.ended_after,
        seeds: topology::Settings { seeds: vec![server.clone()], initial, set_name: upstream.replica_set.clone() },
    }
}

/// Accepts clients and hands each to the worker with the fewest.
struct Acceptor {
    workers: Vec<(tokio::sync::mpsc::UnboundedSender<Arrival>, Arc<std::sync::atomic::AtomicUsize>)>,
    places: Arc<Semaphore>,
    server: Address,
    upstream: String,
    accepted: u64,
    stop: Stop,
}

impl Acceptor {
    async fn run(&mut self, listener: &Listener) {
        let draining = self.stop.draining.clone();
        tokio::select! {
            () = draining.cancelled() => {}
            () = self.accept_all(listener) => {}
        }
    }

    async fn accept_all(&mut self, listener: &Listener) {
        let mut failed_at = None;
        loop {
            let Ok(permit) = Arc::clone(&self.places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, client)) => {
                    self.accepted += 1;
                    let connection = Arc::new(Connection {
                        id: ConnectionId(self.accepted),
                        client,
                        upstream: self.upstream.clone(),
                        server: self.server.clone(),
                        tls: false,
                    });
                    self.hand_out(Arrival { socket, connection, at: clock::now(), permit });
                }
                Err(error) => {
                    let now = clock::now();
                    if failed_at.replace(now).is_none_or(|before| now.since(before) > SAME_TROUBLE) {
                        say(format_args!("cannot accept a connection: {error}; trying again"));
                    }
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn hand_out(&self, arrival: Arrival) {
        let idlest = self.workers.iter().min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        if let Some((arrivals, load)) = idlest {
            load.fetch_add(1, Ordering::AcqRel);
            // A worker ends only after the acceptor.
            if arrivals.send(arrival).is_err() {
                load.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_are_told_an_address_to_connect_to() {
        let read = |text: &str| text.parse::<Endpoint>().unwrap();
        let told = |listen: &str| reached_at(&read(listen), &Advertise::Listener).in_uri();
        assert_eq!(told("127.0.0.1:1"), "127.0.0.1:1");
        assert_eq!(told("0.0.0.0:27027"), "127.0.0.1:27027");
        assert_eq!(told("[::]:27027"), "[::1]:27027");
        assert_eq!(told("/tmp/x.sock"), "%2Ftmp%2Fx.sock");
        for address in ["db.example.com:27017", "[fe80::1]:5", "/run/m.sock"] {
            let advertise = Advertise::As(read(address).to_address());
            assert_eq!(reached_at(&read("0.0.0.0:1"), &advertise), read(address));
        }
    }
}
