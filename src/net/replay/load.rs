//! Reads recordings from their files.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use bson::raw::RawDocumentBuf;

use crate::capture::exchange::Exchange;
use crate::capture::exchanges::Exchanges;
use crate::capture::open::{OpenError, Recorded};
use crate::config::io_reason;
use crate::replay::Deployment;

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
    pub(super) exchanges: Vec<Exchange>,
    pub(super) deployment: Deployment,
    pub(super) warnings: Vec<String>,
}

/// Reads all files: the captures among them as those of one proxy's run, which it may have rotated, then the fixtures.
pub(super) fn load(paths: &[PathBuf]) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded { exchanges: Vec::new(), deployment: Deployment::default(), warnings: Vec::new() };
    let (mut captures, mut fixtures) = (Vec::new(), Vec::new());
    for path in paths {
        match open(path)
            .and_then(|file| Recorded::open(BufReader::new(file)).map_err(|it| LoadError::new(path, &it)))?
        {
            Recorded::Capture(_) => captures.push(path),
            Recorded::Fixture(fixture) => fixtures.push((path, fixture)),
        }
    }
    loaded.captures(&captures)?;
    for (path, fixture) in fixtures {
        let hello = RawDocumentBuf::from_bytes(fixture.header.hello.clone());
        let hello = hello.map_err(|error| LoadError {
            message: format!("{}: line 1: hello: {error}", path.display()),
            hint: None,
        })?;
        if captures.is_empty() {
            loaded.deployment = Deployment::of(hello, &fixture.header.server);
        }
        loaded.exchanges.extend(fixture.exchanges);
    }
    Ok(loaded)
}

impl Loaded {
    fn captures(&mut self, paths: &[&PathBuf]) -> Result<(), LoadError> {
        let files = paths.iter().map(|path| open(path).map(BufReader::new)).collect::<Result<Vec<_>, _>>()?;
        let mut exchanges = Exchanges::new(files);
        let all = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        for exchange in exchanges.by_ref() {
            let exchange = exchange.map_err(|error| LoadError::new(Path::new(&all), &error.into()))?;
            self.deployment.learn(&exchange);
            self.exchanges.push(exchange);
        }
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
}

fn open(path: &Path) -> Result<File, LoadError> {
    File::open(path).map_err(|error| LoadError::new(path, &error.into()))
}

const RECORD_HINT: &str = "mongotap exec --fixture FILE -- COMMAND records it, as long as CI is not set; so does \
     mongotap proxy --capture FILE.mtap";
