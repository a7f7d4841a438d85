//! Reads recordings from their files.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use bson::raw::RawDocumentBuf;

use super::bodies::Keeper;
use super::captures::{self, Failure, Note};
use crate::capture::blocks::Blocks;
use crate::capture::exchange::Exchange;
use crate::capture::exchanges::Found;
use crate::capture::mtap::{CaptureError, Torn};
use crate::capture::open::{OpenError, Recorded, missing_exchanges};
use crate::capture::part::{Part, UNENDED, gap_between};
use crate::capture::spots::BlockPlace;
use crate::config::io_reason;
use crate::net::recorder::is_unended;
use crate::redact::fields::Rules;
use crate::replay::{Deployment, Indexing, Recording, Settings, Walked};

/// Why a recording cannot be read: which file, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LoadError {
    /// The file, and what is wrong with it.
    pub message: String,
    /// The way out.
    pub hint: Option<String>,
    /// Whether another recording in its place is one too.
    pub(crate) is_mended_by_recording: bool,
}

impl LoadError {
    pub(in crate::net) fn new(path: &Path, error: &OpenError) -> Self {
        let reason = match error {
            OpenError::Io(error) => io_reason(error),
            OpenError::Fixture(error) if is_conflict(path, error.line) => {
                format!("line {}: {CONFLICT}", error.line)
            }
            OpenError::Unknown if is_conflict(path, 1) => format!("line 1: {CONFLICT}"),
            error => error.to_string(),
        };
        let is_missing = matches!(error, OpenError::Io(error) if error.kind() == io::ErrorKind::NotFound);
        let hint = if is_missing { Some(RECORD_HINT) } else { error.hint() };
        let is_whole = matches!(error, OpenError::Mark | OpenError::Capture(CaptureError::Newer { .. }));
        Self {
            message: format!("{}: {reason}", path.display()),
            hint: hint.map(str::to_owned),
            is_mended_by_recording: hint.is_some() && !is_whole,
        }
    }
}

/// What was read.
pub(super) struct Loaded {
    pub(super) recording: Recording,
    pub(super) deployment: Deployment,
    pub(super) warnings: Vec<String>,
    /// What was taken out of it.
    pub(super) rules: Vec<Rules>,
}

/// Reads all files: the captures among them as those of one proxy's run, which it may have rotated, then the fixtures.
pub(super) fn load(paths: &[PathBuf], settings: Settings) -> Result<Loaded, LoadError> {
    let mut loading = Loading {
        indexing: Indexing::new(settings),
        outlines: Outlines::default(),
        keeper: Keeper::default(),
        deployment: Deployment::default(),
        warnings: Vec::new(),
    };
    let (mut captures, mut fixtures) = (Vec::new(), Vec::new());
    let (mut is_redacted, mut rules) = (false, Vec::new());
    for path in paths {
        match open(path)
            .and_then(|file| Recorded::open(BufReader::new(file)).map_err(|it| LoadError::new(path, &it)))?
        {
            Recorded::Capture(mut capture) => {
                let header = capture.header().map_err(|error| LoadError::new(path, &error.into()))?;
                is_redacted |= header.is_some_and(|header| header.redacted);
                add_rules(header.map(|header| header.redact.as_slice()).unwrap_or_default(), &mut rules);
                captures.push(path);
            }
            Recorded::Fixture(fixture) => fixtures.push((path, fixture)),
        }
    }
    let (files, blocks) = loading.captures(&captures)?;
    for (path, fixture) in fixtures {
        let header = fixture.header().clone();
        is_redacted |= header.redacted;
        add_rules(&header.redact, &mut rules);
        let hello = RawDocumentBuf::from_bytes(header.hello);
        let hello = hello.map_err(|error| LoadError {
            message: format!("{}: line 1: hello: {error}", path.display()),
            hint: None,
            is_mended_by_recording: true,
        })?;
        if captures.is_empty() {
            loading.deployment = Deployment::of(hello, &header.server);
        }
        for exchange in *fixture {
            let exchange = exchange.map_err(|error| LoadError::new(path, &error.into()))?;
            loading.indexing.add(&exchange);
            loading.keeper.keep(exchange, None);
        }
    }
    let Loading { indexing, keeper, deployment, warnings, .. } = loading;
    let recording = indexing.finish(keeper.finish(files, blocks)).redacted(is_redacted);
    Ok(Loaded { recording, deployment, warnings, rules })
}

/// What several files say alike is said once.
fn add_rules(more: &[Rules], rules: &mut Vec<Rules>) {
    for more in more {
        if !rules.contains(more) {
            rules.push(more.clone());
        }
    }
}

/// What is being read.
struct Loading {
    indexing: Indexing,
    outlines: Outlines,
    keeper: Keeper,
    deployment: Deployment,
    warnings: Vec<String>,
}

/// Bytes of a capture that are read at a time.
const READ_AT_ONCE: usize = 256 << 10;

/// The files of captures, and where in them their blocks are.
type Places = (Vec<(PathBuf, File)>, Vec<BlockPlace>);

impl Loading {
    fn captures(&mut self, paths: &[&PathBuf]) -> Result<Places, LoadError> {
        let mut files = Vec::new();
        for path in paths {
            files.push(((*path).clone(), open(path)?));
        }
        let all = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        let failed = |error: OpenError| LoadError::new(Path::new(&all), &error);
        let readers = files.iter().map(|(_, file)| Ok(BufReader::with_capacity(READ_AT_ONCE, file.try_clone()?)));
        let readers = readers.collect::<io::Result<Vec<_>>>();
        let mut blocks = Blocks::new(readers.map_err(|error| failed(error.into()))?);
        let settings = self.indexing.settings().clone();
        let deriving = captures::read(&mut blocks, &settings, |found| self.take_captured(found));
        let deriving = deriving.map_err(|failure| match failure {
            Failure::Capture(error) => failed(error.into()),
            Failure::Panic => failed(panicked()),
        })?;
        self.warn_of_files(paths, blocks.torn());
        let missing = deriving.gaps().iter().cloned().chain(missing_exchanges(deriving.missing()));
        self.warnings.extend(missing.map(|missing| format!("{all}: {missing}")));
        Ok((files, deriving.into_blocks()))
    }

    /// Warns of files that are missing between these, or torn, and of runs that have no end: the file of each that was
    /// written last tells.
    fn warn_of_files(&mut self, paths: &[&PathBuf], torn: &[(usize, Torn)]) {
        let part = |path: &PathBuf| Part::read(BufReader::new(File::open(path).ok()?)).ok()?;
        let parts: Vec<_> = paths.iter().map(|path| (path.as_path(), part(path))).collect();
        for (place, (path, part)) in parts.iter().enumerate() {
            let others = parts.iter().filter_map(|(path, other)| Some((*path, other.as_ref()?)));
            let others = others.filter(|(_, other)| part.as_ref().is_some_and(|part| part.run == other.run));
            let number = part.as_ref().map_or(0, |part| part.number);
            let before =
                others.clone().filter(|(_, other)| other.number < number).max_by_key(|(_, other)| other.number);
            let gap = before.zip(part.as_ref()).and_then(|(before, part)| gap_between(before, (path, part)));
            let torn = torn.iter().find(|(torn, _)| *torn == place).map(|(_, torn)| torn.to_string());
            let is_unended = || is_unended(path) && !others.clone().any(|(_, other)| other.number > number);
            let end = torn.or_else(|| is_unended().then(|| UNENDED.to_owned()));
            self.warnings.extend(gap.into_iter().chain(end.map(|end| format!("{}: {end}", path.display()))));
        }
    }

    fn take_captured(&mut self, mut found: Found<Note>) {
        match found.notes {
            Some(_) => self.keeper.keep_no_more(),
            None => self.deployment.learn(&found.exchange),
        }
        self.outlines.index(&mut found, &mut self.indexing);
        self.keeper.keep(found.exchange, found.spots);
    }
}

/// Has exchanges indexed: where messages were noted, outlines stand for their documents meanwhile.
#[derive(Default)]
pub(super) struct Outlines {
    request: Vec<u8>,
    reply: Vec<u8>,
}

impl Outlines {
    pub(super) fn index(&mut self, found: &mut Found<Note>, indexing: &mut Indexing) {
        let Some((request, reply)) = &found.notes else { return indexing.add(&found.exchange) };
        let (request, reply) = (request.walked(), reply.as_ref().map(Note::walked));
        self.request.clear();
        self.request.extend_from_slice(request.outline());
        self.reply.clear();
        self.reply.extend_from_slice(reply.map_or(&[], Walked::outline));
        self.stand_for(&mut found.exchange);
        indexing.add_walked(&found.exchange, &request.answered(reply));
        self.stand_for(&mut found.exchange);
    }

    /// Changes places with the documents.
    fn stand_for(&mut self, exchange: &mut Exchange) {
        std::mem::swap(&mut exchange.request, &mut self.request);
        let reply = exchange.replies.first_mut();
        reply.into_iter().for_each(|reply| std::mem::swap(&mut reply.body, &mut self.reply));
    }
}

fn panicked() -> OpenError {
    OpenError::Io(io::Error::other("it cannot be read to its end"))
}

fn open(path: &Path) -> Result<File, LoadError> {
    File::open(path).map_err(|error| LoadError::new(path, &error.into()))
}

const CONFLICT: &str = "the marker of a merge that is not resolved";

/// Whether version control has left that line, which is no JSON.
fn is_conflict(path: &Path, line: usize) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    let found = text.split(|byte| *byte == b'\n').nth(line.saturating_sub(1)).unwrap_or_default();
    [&b"<<<<<<<"[..], b"=======", b">>>>>>>", b"|||||||"].iter().any(|marker| found.starts_with(marker))
}

const RECORD_HINT: &str = "mongotap exec --fixture FILE -- COMMAND records it, as long as CI is not set; so does \
     mongotap proxy --capture FILE.mtap";
