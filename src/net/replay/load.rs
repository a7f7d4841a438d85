//! Reads recordings from their files.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use bson::raw::RawDocumentBuf;

use super::bodies::Keeper;
use crate::capture::exchange::Exchange;
use crate::capture::exchanges::Exchanges;
use crate::capture::open::{OpenError, Recorded};
use crate::config::io_reason;
use crate::replay::{Deployment, Indexing, Recording, Settings};

/// Why a recording cannot be read: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// The file, and what is wrong with it.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
}

impl LoadError {
    pub(in crate::net) fn new(path: &Path, error: &OpenError) -> Self {
        let reason = match error {
            OpenError::Io(error) => io_reason(error),
            error => error.to_string(),
        };
        let is_missing = matches!(error, OpenError::Io(error) if error.kind() == io::ErrorKind::NotFound);
        let hint = if is_missing { Some(RECORD_HINT) } else { error.hint() };
        Self { message: format!("{}: {reason}", path.display()), hint: hint.map(str::to_owned) }
    }
}

/// What was read.
pub(super) struct Loaded {
    pub(super) recording: Recording,
    pub(super) deployment: Deployment,
    pub(super) warnings: Vec<String>,
}

/// Reads all files: the captures among them as those of one proxy's run, which it may have rotated, then the fixtures.
pub(super) fn load(paths: &[PathBuf], settings: Settings) -> Result<Loaded, LoadError> {
    let mut loading = Loading {
        indexing: Indexing::new(settings),
        keeper: Keeper::new(),
        deployment: Deployment::default(),
        warnings: Vec::new(),
    };
    let (mut captures, mut fixtures) = (Vec::new(), Vec::new());
    for path in paths {
        match open(path)
            .and_then(|file| Recorded::open(BufReader::new(file)).map_err(|it| LoadError::new(path, &it)))?
        {
            Recorded::Capture(_) => captures.push(path),
            Recorded::Fixture(fixture) => fixtures.push((path, fixture)),
        }
    }
    loading.captures(&captures)?;
    for (path, fixture) in fixtures {
        let hello = RawDocumentBuf::from_bytes(fixture.header.hello.clone());
        let hello = hello.map_err(|error| LoadError {
            message: format!("{}: line 1: hello: {error}", path.display()),
            hint: None,
        })?;
        if captures.is_empty() {
            loading.deployment = Deployment::of(hello, &fixture.header.server);
        }
        fixture.exchanges.into_iter().try_for_each(|exchange| loading.take(exchange))?;
    }
    let Loading { indexing, keeper, deployment, warnings } = loading;
    let bodies = keeper.finish().map_err(|error| not_kept(&error))?;
    Ok(Loaded { recording: indexing.finish(bodies), deployment, warnings })
}

/// What is being read.
struct Loading {
    indexing: Indexing,
    keeper: Keeper,
    deployment: Deployment,
    warnings: Vec<String>,
}

/// Exchanges that are handed from the thread that reads to the one that indexes, and how often that may be ahead.
const HANDED_OVER: usize = 256;
const AHEAD_MAX: usize = 8;

impl Loading {
    fn captures(&mut self, paths: &[&PathBuf]) -> Result<(), LoadError> {
        let files = paths.iter().map(|path| open(path).map(BufReader::new)).collect::<Result<Vec<_>, _>>()?;
        let all = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let mut exchanges = Exchanges::new(files);
        // Reading takes about as long as indexing.
        let (hand_over, taken) = mpsc::sync_channel(AHEAD_MAX);
        let (exchanges, result) = thread::scope(|scope| {
            let reader = scope.spawn(move || {
                loop {
                    let some = exchanges.by_ref().take(HANDED_OVER).collect::<Vec<_>>();
                    if some.is_empty() || hand_over.send(some).is_err() {
                        return exchanges;
                    }
                }
            });
            let mut exchanges = taken.iter().flatten();
            let result = exchanges.try_for_each(|exchange| {
                let exchange = exchange.map_err(|error| LoadError::new(Path::new(&all), &error.into()))?;
                self.deployment.learn(&exchange);
                self.take(exchange)
            });
            drop(exchanges);
            drop(taken);
            (reader.join(), result)
        });
        result?;
        let Ok(exchanges) = exchanges else { return Err(LoadError::new(Path::new(&all), &panicked())) };
        for (index, torn) in exchanges.torn() {
            let path = paths.get(*index).map(|path| path.display().to_string()).unwrap_or_default();
            let (offset, bytes) = (torn.offset, torn.bytes);
            let warning = format!("{path}: torn at byte {offset}, the {bytes} bytes from there on were left out");
            self.warnings.push(warning);
        }
        if exchanges.missing() > 0 {
            self.warnings.push(format!("{all}: {} exchanges were not recorded", exchanges.missing()));
        }
        Ok(())
    }

    fn take(&mut self, exchange: Exchange) -> Result<(), LoadError> {
        self.indexing.add(&exchange);
        self.keeper.keep(exchange).map_err(|error| not_kept(&error))
    }
}

fn not_kept(error: &io::Error) -> LoadError {
    let message = format!("{}: {}", std::env::temp_dir().display(), io_reason(error));
    LoadError { message, hint: Some("a large recording needs room there; TMPDIR names another place".to_owned()) }
}

fn panicked() -> OpenError {
    OpenError::Io(io::Error::other("it cannot be read to its end"))
}

fn open(path: &Path) -> Result<File, LoadError> {
    File::open(path).map_err(|error| LoadError::new(path, &error.into()))
}

const RECORD_HINT: &str = "mongotap exec --fixture FILE -- COMMAND records it, as long as CI is not set; so does \
     mongotap proxy --capture FILE.mtap";
