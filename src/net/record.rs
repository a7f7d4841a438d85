//! Recording a fixture: a proxy before the real server, whose capture becomes the fixture at the end.
//!
//! The capture is a private file beside the fixture until then, and the fixture appears whole or not at all.

use std::fmt;
use std::fs;
use std::io::{self, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy::Proxy;
use super::replay::{LoadError, Replay, ReplayError, Unmet};
use super::scratch::{self, Made, beside};
use super::stream::Stream;
use super::{Builder as ProxyBuilder, StartError};
use crate::capture::exchanges::Exchanges;
use crate::capture::fixture::collect;
use crate::config::{self, Capture, Config, Endpoint, Redact, io_reason};

/// Why there is no fixture.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The proxy cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The server that is to be recorded cannot be reached.
    #[error("upstream {endpoint}: {error}")]
    Upstream {
        /// Its address.
        endpoint: Endpoint,
        /// What the system says.
        error: io::Error,
    },
    /// What was captured cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A file cannot be written.
    #[error("{}: {}", path.display(), io_reason(error))]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something is missing in what was captured.
    #[error("{}: not written: the recording is incomplete: {what}", path.display())]
    Incomplete {
        /// What would have been written.
        path: PathBuf,
        /// What is missing.
        what: String,
    },
    /// It was captured, but did not become a recording.
    #[error("{error}; what was captured is kept in {}", capture.display())]
    Kept {
        /// Why not.
        error: Box<Self>,
        /// Where it is.
        capture: PathBuf,
    },
    /// Nothing was asked.
    #[error("{}: not written: nothing was asked of the server", .0.display())]
    Nothing(PathBuf),
}

/// How long a server may take to accept a connection.
const REACHED_WITHIN: Duration = Duration::from_secs(10);

/// A recording that goes on until [`finish`](Self::finish).
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let record = mongotap::Record::to_path("fixtures/orders.jsonl").upstream("mongodb://127.0.0.1:27017").start().await?;
/// // let client = mongodb::Client::with_uri_str(record.uri()).await?;
/// record.finish().await?;
/// # Ok(())
/// # }
/// ```
pub struct Record {
    proxy: Option<Proxy>,
    uri: String,
    path: PathBuf,
    capture: PathBuf,
    /// Whether the capture stays.
    is_kept: bool,
    made_with: String,
    /// Dropped when the capture is gone.
    _directories: Made,
}

/// What a recording is to do. Without being told it listens on a free port of 127.0.0.1, before
/// `mongodb://127.0.0.1:27017`.
#[must_use]
pub struct Builder {
    proxy: ProxyBuilder,
    config: Config,
    path: PathBuf,
    made_with: String,
    error: Option<config::Error>,
}

/// A fixture that was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Where.
    pub path: PathBuf,
    /// How many exchanges it holds.
    pub exchanges: usize,
    /// Of the fields to be redacted those that were met nowhere.
    pub met_nowhere: Vec<String>,
}

impl Record {
    /// Into that file: a capture if its name ends in `.mtap`, else a fixture. One that is there is written anew.
    pub fn to_path(path: impl Into<PathBuf>) -> Builder {
        let listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let config = Config { listen, logs: Vec::new(), ..Config::default() };
        Builder {
            proxy: Proxy::builder(),
            config,
            path: path.into(),
            made_with: "Record, in a program".to_owned(),
            error: None,
        }
    }

    /// The connection string to use.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Whether the server is there: one of its members takes connections.
    pub(crate) async fn reach(&self) -> Result<(), RecordError> {
        let mut failed = Ok(());
        for (_, endpoint) in self.proxy.iter().flat_map(Proxy::listeners) {
            let dialled = tokio::time::timeout(REACHED_WITHIN, Stream::connect(&endpoint)).await;
            match dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(_) => return Ok(()),
                Err(error) => failed = Err(RecordError::Upstream { endpoint, error }),
            }
        }
        failed
    }

    /// Ends the recording and writes the fixture.
    ///
    /// # Errors
    /// If nothing was asked, something is missing in what was captured, or a file cannot be read or written.
    pub async fn finish(mut self) -> Result<Written, RecordError> {
        let met_nowhere = match self.proxy.take() {
            Some(proxy) => proxy.shutdown().await.met_nowhere,
            None => Vec::new(),
        };
        let path = self.path.clone();
        let written = if is_capture(&path) { self.count() } else { self.convert() };
        let written = written.map_err(|error| match error {
            RecordError::Nothing(_) => error,
            error => error.keeping(&self.keep()),
        });
        self.is_kept = matches!(written, Err(RecordError::Kept { .. }));
        Ok(Written { path, exchanges: written?, met_nowhere })
    }

    /// Ends the recording; nothing is written.
    pub async fn discard(mut self) {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown().await;
        }
    }

    fn exchanges(&self) -> Result<Exchanges<BufReader<fs::File>>, RecordError> {
        let file = fs::File::open(&self.capture).map_err(|error| self.failed(&self.capture, error))?;
        Ok(Exchanges::new([BufReader::new(file)]))
    }

    /// The capture itself is what was asked for.
    fn count(&self) -> Result<usize, RecordError> {
        let mut all = self.exchanges()?;
        let mut exchanges = 0;
        for exchange in all.by_ref() {
            let exchange = exchange.map_err(|error| LoadError::new(&self.capture, &error.into()))?;
            exchanges += usize::from(!exchange.is_housekeeping());
        }
        check_whole(&self.path, &all, 0)?;
        if exchanges == 0 {
            return Err(RecordError::Nothing(self.path.clone()));
        }
        fs::rename(&self.capture, &self.path).map_err(|error| self.failed(&self.path, error))?;
        Ok(exchanges)
    }

    fn convert(&self) -> Result<usize, RecordError> {
        let mut all = self.exchanges()?;
        let mut collected =
            collect(all.by_ref(), &self.made_with).map_err(|error| LoadError::new(&self.capture, &error.into()))?;
        check_whole(&self.path, &all, collected.unread)?;
        let header = all.header().map_err(|error| LoadError::new(&self.capture, &error.into()))?;
        if let Some(header) = header {
            (collected.fixture.header.redacted, collected.fixture.header.redact) =
                (header.redacted, header.redact.clone());
        }
        let exchanges = collected.fixture.exchanges.len();
        if exchanges == 0 {
            return Err(RecordError::Nothing(self.path.clone()));
        }
        write_whole(&self.path, &collected.fixture.to_text())?;
        Ok(exchanges)
    }

    /// Gives the capture a name under which the next recording does not take it for one that was given up.
    fn keep(&self) -> PathBuf {
        let kept = self.capture.with_extension("kept");
        fs::rename(&self.capture, &kept).map_or_else(|_| self.capture.clone(), |()| kept)
    }

    fn failed(&self, path: &Path, error: io::Error) -> RecordError {
        RecordError::Write { path: path.to_owned(), error }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        drop(self.proxy.take());
        if !self.is_kept {
            // It has become the recording, or is of no more use; one that cannot be removed harms nobody.
            let _ = fs::remove_file(&self.capture);
        }
    }
}

impl Builder {
    /// Does what a configuration says of the listener, the upstream and TLS.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The server, as a connection string without credentials: those belong in the application's own.
    pub fn upstream(mut self, uri: &str) -> Self {
        let wrong = self.config.set_upstream(uri).err();
        self.error = self.error.or(wrong);
        self
    }

    /// Where to listen: `host:port`, `[v6]:port` or the path of a unix socket. Port 0 takes a free one.
    pub fn listen(mut self, address: &str) -> Self {
        let wrong = self.config.set_listen(address).err();
        self.error = self.error.or(wrong);
        self
    }

    /// Takes the values of these fields out of what is recorded. Hashes want a key: with one that is made up, nothing could
    /// be asked by them in another run.
    pub fn redact(mut self, redact: Redact) -> Self {
        self.config.redact = redact;
        self
    }

    /// What the header of the fixture says of how it was made.
    pub fn made_with(mut self, command: impl Into<String>) -> Self {
        self.made_with = command.into();
        self
    }

    /// Starts recording: when this returns, clients can connect.
    ///
    /// # Errors
    /// If an address is not what it should be or not to be had, or the file's directory cannot be made.
    pub async fn start(self) -> Result<Record, RecordError> {
        if let Some(error) = self.error {
            return Err(StartError::from(error).into());
        }
        let Self { proxy, mut config, path, made_with, .. } = self;
        config.redact.check_key().map_err(StartError::from)?;
        let directories = Made::directory_of(&path).map_err(|(path, error)| RecordError::Write { path, error })?;
        scratch::remove_abandoned(&path);
        let capture = beside(&path, scratch::RECORDING);
        config.logs.clear();
        config.capture = Some(Capture::to(&capture));
        let proxy = proxy.config(config).start().await?;
        Ok(Record {
            uri: proxy.uri(),
            proxy: Some(proxy),
            path,
            capture,
            is_kept: false,
            made_with,
            _directories: directories,
        })
    }
}

fn is_capture(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "mtap")
}

impl RecordError {
    /// With the capture named, where something is in it that would be lost.
    fn keeping(self, capture: &Path) -> Self {
        Self::Kept { error: Box::new(self), capture: capture.to_owned() }
    }
}

/// Whether a capture that was read to its end holds all that was asked, but for those exchanges that could not be read.
pub(super) fn check_whole<R: Read>(path: &Path, all: &Exchanges<R>, unread: usize) -> Result<(), RecordError> {
    let what = match (all.missing(), all.torn().is_empty(), unread) {
        (0, true, 0) => return Ok(()),
        (0, true, unread) => format!("{unread} messages were too long to be read"),
        (0, false, _) => "the capture was not written to its end".to_owned(),
        (missing, ..) => format!("{missing} exchanges were not captured"),
    };
    Err(RecordError::Incomplete { path: path.to_owned(), what })
}

/// Writes a file, so that it is seen whole or as it was.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<(), RecordError> {
    let partial = beside(path, scratch::PARTIAL);
    let write = |mut file: fs::File| file.write_all(text.as_bytes()).and_then(|()| fs::rename(&partial, path));
    fs::File::create_new(&partial)
        .and_then(|file| {
            // One that cannot be removed harms nobody.
            write(file).inspect_err(|_| drop(fs::remove_file(&partial)))
        })
        .map_err(|error| RecordError::Write { path: path.to_owned(), error })
}

/// What [`record_or_replay`] gave.
pub enum RecordOrReplay {
    /// The fixture was missing: it is being recorded.
    Record(Box<Record>),
    /// It is there, and stands in for the server.
    Replay(Replay),
}

/// Why neither was possible, or what the end of it is not content with.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// The fixture is missing and must not be recorded here.
    #[error("{}: not there, and CI is set: nothing is recorded in CI", .0.display())]
    MissingInCi(PathBuf),
    /// It cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// It cannot be replayed.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Something was asked that was never recorded.
    #[error(transparent)]
    Unmet(#[from] Unmet),
}

/// Replays a fixture if it is there, and records it before that server if it is missing; never where `CI` is set.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = mongotap::record_or_replay("fixtures/orders.jsonl", "mongodb://127.0.0.1:27017").await?;
/// // let client = mongodb::Client::with_uri_str(server.uri()).await?;
/// server.finish().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If the fixture is missing and `CI` is set, or what is to be started cannot be.
pub async fn record_or_replay(path: impl Into<PathBuf>, upstream: &str) -> Result<RecordOrReplay, FixtureError> {
    let path = path.into();
    if path.exists() {
        return Ok(RecordOrReplay::Replay(Replay::from_path(path).start().await?));
    }
    if is_ci() {
        return Err(FixtureError::MissingInCi(path));
    }
    let record = Record::to_path(path).upstream(upstream).start().await?;
    Ok(RecordOrReplay::Record(Box::new(record)))
}

/// Whether this is a run of continuous integration, by the variable that its services set.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

impl RecordOrReplay {
    /// The connection string to use.
    pub fn uri(&self) -> &str {
        match self {
            Self::Record(record) => record.uri(),
            Self::Replay(replay) => replay.uri(),
        }
    }

    /// Ends it: writes the fixture, or fails with what was asked that it does not hold.
    ///
    /// # Errors
    /// Those of [`Record::finish`] and [`Replay::verify`].
    pub async fn finish(self) -> Result<(), FixtureError> {
        match self {
            Self::Record(record) => {
                record.finish().await?;
            }
            Self::Replay(replay) => {
                let verified = replay.verify();
                replay.shutdown().await;
                verified?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for RecordOrReplay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if matches!(self, Self::Record(_)) { "Record" } else { "Replay" };
        f.debug_struct(name).field("uri", &self.uri()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_that_was_cut_off_is_not_whole() {
        const CAPTURE: &[u8] = include_bytes!("../../fixtures/capture/v1.mtap");
        let check = |bytes, unread| {
            let mut all = Exchanges::new([bytes]);
            assert!(all.by_ref().all(|exchange| exchange.is_ok()));
            check_whole(Path::new("orders.jsonl"), &all, unread).map_err(|error| error.to_string())
        };
        assert_eq!(check(CAPTURE, 0), Ok(()));
        for (bytes, unread, expected) in [
            (&CAPTURE[..CAPTURE.len() - 3], 0, "the capture was not written to its end"),
            (CAPTURE, 2, "2 messages were too long to be read"),
        ] {
            let error = check(bytes, unread).unwrap_err();
            assert_eq!(error, format!("orders.jsonl: not written: the recording is incomplete: {expected}"));
        }
    }
}
