//! A recording served as a server: what [`Replay::from_path`] describes and [`Builder::start`] starts.
//!
//! It runs on a thread of its own, so that it answers whatever the caller's runtime is doing, and goes on until
//! [`Replay::shutdown`], or until it is dropped.

mod beyond;
mod bodies;
mod builder;
mod captures;
mod following;
mod load;
mod members;
mod redacted;
mod spool;
mod upstream;

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use builder::Builder;
pub use load::LoadError;
pub(super) use upstream::{Asking, Upstream};

use super::StartError;
use super::client::Credentials;
use super::record::{RecordError, Written};
use super::serve::Server;
use crate::config::{self, Config, Endpoint};
use crate::replay::{Explain, Replaying, Report, Settings};
use beyond::Beyond;

/// Why a recording is not served.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// What it was told to do cannot be done.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The recording cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The address cannot be listened on.
    #[error("{endpoint}: cannot listen: {error}")]
    Listen {
        /// The address.
        endpoint: Endpoint,
        /// What the system says.
        error: std::io::Error,
    },
    /// The server that is asked what the recording does not hold cannot be reached through a proxy.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A recording that stands in for its server.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let replay = mongotap::Replay::from_path("fixtures/orders.jsonl").start().await?;
/// // let client = mongodb::Client::with_uri_str(replay.uri()).await?;
/// replay.verify()?;
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    uri: String,
    listeners: Vec<Endpoint>,
    replaying: Arc<Replaying>,
    warnings: Vec<String>,
    strict: bool,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
    beyond: Option<Box<Beyond>>,
}

/// What a replay is not content with: its text is the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Unmet(pub Box<Report>);

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It failed because of what is ambiguous only if nothing else is wrong.
        let with_ambiguous = !self.0.is_failure(false);
        f.write_str(self.0.text(with_ambiguous).trim_end())
    }
}

impl std::error::Error for Unmet {}

/// All that a replay's thread needs.
struct Plan {
    config: Config,
    paths: Vec<std::path::PathBuf>,
    settings: Settings,
    users: Vec<(String, String)>,
    explain: Option<Explain>,
    credentials: Option<Credentials>,
}

/// What the thread tells once it serves.
struct Serving {
    uri: String,
    listeners: Vec<Endpoint>,
    replaying: Arc<Replaying>,
    warnings: Vec<String>,
    beyond: Option<Beyond>,
}

impl Replay {
    /// Of a capture or a fixture, to be described further, then started.
    pub fn from_path(path: impl Into<std::path::PathBuf>) -> Builder {
        Builder::of([path.into()])
    }

    /// Of several files: those that a capture was rotated to, or recordings that are to be one.
    pub fn from_paths(paths: impl IntoIterator<Item = std::path::PathBuf>) -> Builder {
        Builder::of(paths)
    }

    async fn start(plan: Plan) -> Result<Self, ReplayError> {
        let strict = plan.config.replay.strict.unwrap_or(false);
        let stop = CancellationToken::new();
        let (tell, told) = oneshot::channel();
        let stopping = stop.clone();
        let thread = thread::Builder::new().name("mongotap-replay".to_owned());
        let thread = thread.spawn(move || run(plan, tell, &stopping)).map_err(ReplayError::Thread)?;
        let lost = || ReplayError::Thread(std::io::Error::other("it panicked"));
        let serving = told.await.map_err(|_| lost())??;
        let Serving { uri, listeners, replaying, warnings, beyond } = serving;
        Ok(Self {
            uri,
            listeners,
            replaying,
            warnings,
            strict,
            stop,
            thread: Some(thread),
            beyond: beyond.map(Box::new),
        })
    }

    /// The connection string to use.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Where it listens: one address, or one for each member of a replica set.
    pub fn listeners(&self) -> &[Endpoint] {
        &self.listeners
    }

    /// What is wrong with the recording without harm to what there is of it: a file that was not written to its end.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What was asked so far, and what was not.
    pub fn report(&self) -> Report {
        self.replaying.report()
    }

    /// Whether all that was asked was recorded; and, if it is strict, whether all that was recorded was asked for, and
    /// each answer was the only one.
    ///
    /// # Errors
    /// With the report.
    pub fn verify(&self) -> Result<(), Unmet> {
        let report = self.report();
        if report.is_failure(self.strict) { Err(Unmet(Box::new(report))) } else { Ok(()) }
    }

    /// Ends it: closes each connection after what it is sending.
    pub async fn shutdown(mut self) -> Report {
        self.stop().await;
        self.report()
    }

    /// Ends it, and writes into the fixture what another server answered, if that is to be recorded and there was
    /// something.
    ///
    /// # Errors
    /// If the fixture cannot be written.
    pub async fn finish(mut self) -> Result<(Report, Option<Written>), RecordError> {
        self.stop().await;
        let written = match self.beyond.take() {
            Some(beyond) => beyond.finish(&self.replaying).await?,
            None => None,
        };
        Ok((self.report(), written))
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        let thread = self.thread.take();
        let (tell, ended) = oneshot::channel();
        thread::spawn(move || {
            // A thread that panicked has ended as well, and nobody may want to know any more.
            let _ = thread.map(JoinHandle::join);
            let _ = tell.send(());
        });
        let _ = ended.await;
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("uri", &self.uri).field("strict", &self.strict).finish_non_exhaustive()
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        self.stop.cancel();
        // Without a runtime to wait in: what is being sent takes a second at most.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The thread of a replay.
fn run(plan: Plan, tell: oneshot::Sender<Result<Serving, ReplayError>>, stop: &CancellationToken) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(ReplayError::Thread(error)))),
    };
    runtime.block_on(async {
        match members::serve(plan).await {
            Ok((serving, servers)) => {
                // Nobody waits for it any more: then it is to end.
                if tell.send(Ok(serving)).is_ok() {
                    stop.cancelled().await;
                }
                let ends = servers.into_iter().map(Server::shutdown).collect::<Vec<_>>();
                for end in ends {
                    end.await;
                }
            }
            Err(error) => drop(tell.send(Err(error))),
        }
    });
}
