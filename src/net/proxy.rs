//! The proxy as a whole: what [`Proxy::builder`] starts and [`Proxy::shutdown`] ends.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;

use super::acceptor::Acceptor;
use super::admission::Admission;
use super::builder::{Builder, StartError};
use super::clock;
use super::discover::{self, Answer, Found, Poll};
use super::members::{Joined, Members};
use super::places::reached_at;
use super::recorder::{Listeners, Recorder, RunInfo, Total};
use super::say::say;
use super::secrets;
use super::tls;
use super::topologies;
use super::worker::{Context, Stop, Worker};
use crate::capture::mtap::Header;
use crate::config::{Config, Endpoint, Per, percent_encode};
use crate::event::{Address, Timestamp, TopologyType, micros};
use crate::pipeline::Topologies;
use crate::redact::Fields;
use crate::redact::fields::Rules;
use crate::session::{Limits, Observations, Observing, Shared};
use crate::sink::{EventKind, Statistics};
use crate::topology::rewrite::RewriteError;
use crate::topology::{self, ClientsSettings};

/// How often threads that are to end are looked at.
const GLANCE: Duration = Duration::from_millis(2);

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
    fields: Option<Arc<Fields>>,
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
    /// Of the fields to be redacted those that were met nowhere.
    pub met_nowhere: Vec<String>,
}

impl Proxy {
    /// A proxy to be described, then started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(super) fn start(
        config: Config,
        listeners: Listeners,
        found: Found,
        (acceptor, connector): (Option<tls::Acceptor>, Option<tls::Connector>),
    ) -> Result<Self, StartError> {
        let (members, joined) = Members::new(&config);
        let members = Arc::new(members);
        take_in(&members, &found)?;
        let settings = clients(&config, &found, &members);
        let fields = secrets::fields(&config.redact)?;
        let rules = fields.iter().map(|fields| fields.rules()).collect();
        let recorder = start_recorder(&config, listeners, &members, &settings, rules)?;
        let (observations, observing) = observations(&config, &recorder);
        let context = Context {
            members: Arc::clone(&members),
            shared: Shared {
                limits: limits(&config, &recorder),
                observations,
                idle_after: config.topology.idle_after,
                ..Shared::default()
            },
            is_captured: config.capture.is_some(),
            fields: fields.clone(),
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
            fields,
            release: Arc::new(recorder.releaser()),
        };
        let topologies = Topologies::new(settings);
        let thread = topologies::start(observing, topologies, recorder.feed(), recorder.capture_feed());
        proxy.threads.push(thread.map_err(StartError::Thread)?);
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
        let admission = Admission::new(config.allow.clone(), config.max_connections);
        let mut acceptor = Acceptor::new(idlest, admission, joined, context.acceptor.is_some(), context.stop.clone());
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

    /// The fields to be redacted, as they were written, that were in nothing that passed so far.
    pub fn met_nowhere(&self) -> Vec<String> {
        self.fields.as_ref().map(|fields| fields.met_nowhere()).unwrap_or_default()
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
        let fields = self.fields.take();
        let (drain, stop, release) = (self.drain, self.stop.clone(), Arc::clone(&self.release));
        let (tell, ended) = oneshot::channel();
        thread::spawn(move || {
            if !wait(&threads, drain) {
                stop.abort();
                release();
            }
            let ended = join(threads, recorder);
            let met_nowhere = fields.map(|fields| fields.met_nowhere()).unwrap_or_default();
            // Nobody may want to know any more.
            _ = tell.send(Ended { met_nowhere, ..ended });
        });
        ended.await.unwrap_or_default()
    }
}

/// Starts the logs, the listeners and the capture.
fn start_recorder(
    config: &Config,
    listeners: Listeners,
    members: &Members,
    settings: &ClientsSettings,
    redact: Vec<Rules>,
) -> Result<Recorder, StartError> {
    let started = clock::now();
    let run = RunInfo {
        // Enough to tell runs apart; it is no secret.
        run: format!("{:x}-{:x}", started.unix_micros, std::process::id()),
        listen: members.all().iter().map(|it| it.endpoint.to_string()).collect::<Vec<_>>().join(","),
        upstream: config.upstream.hosts_text(),
    };
    let header = Header { redacted: !redact.is_empty(), redact, ..header(config, &run, started, settings) };
    let mut recorder = Recorder::start(&config.logs, listeners, run, clock::now, |line| say(line))?;
    if let Some(capture) = &config.capture {
        recorder.start_capture(capture, header)?;
    }
    Ok(recorder)
}

/// The way from the sessions to what derives topologies from them, which is closed if nobody asks for that. A capture
/// does: it ends when the last session has gone, which is known by them.
fn observations(config: &Config, recorder: &Recorder) -> (Observations, Observing) {
    let (observations, observing) = Observations::channel();
    let is_wanted = recorder.wants(EventKind::Server) || recorder.wants(EventKind::Topology);
    match is_wanted || config.capture.is_some() {
        true => (observations, observing),
        false => (Observations::default(), observing),
    }
}

fn limits(config: &Config, recorder: &Recorder) -> Limits {
    Limits {
        max_message_bytes: config.max_message_bytes,
        inflate_max_bytes: config.inflate_max_bytes,
        max_document_bytes: at_least_a_hello(recorder.max_document_bytes()),
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

fn join(threads: Vec<JoinHandle<()>>, recorder: Option<Recorder>) -> Ended {
    for thread in threads {
        if thread.join().is_err() {
            say(format_args!("a thread of the proxy panicked; its connections were closed"));
        }
    }
    let Some(recorder) = recorder else { return Ended::default() };
    let statistics = recorder.statistics();
    Ended { statistics, totals: recorder.stop(), met_nowhere: Vec::new() }
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
        idle_after_micros: micros(config.topology.idle_after),
        topology: settings.into(),
        ..Header::default()
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
