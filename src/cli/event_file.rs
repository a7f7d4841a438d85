//! A log or a capture as an argument: opened, read to its end, and followed over rotations; errors name the file.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::capture::log::{Item, LogError};
use crate::capture::mtap::CaptureError;
use crate::capture::source::{Source, SourceError, TornEnd};
use crate::config::io_reason;
use crate::net::say::say;
use crate::sink::Options;

use super::{Code, Error};

const BUFFER_LEN: usize = 256 * 1024;

/// Events on disk.
pub(super) struct EventFile {
    path: PathBuf,
    source: Source<BufReader<File>>,
    /// How the lines are rendered that a capture stands for, if they are wanted.
    lines: Option<Options>,
    /// Its own handle of the same open file, for its place and its identity.
    file: File,
    empty: bool,
}

impl EventFile {
    /// Opens it; `lines` says how lines are rendered that a capture stands for, if they are wanted.
    pub(super) fn open(path: &Path, lines: Option<Options>) -> Result<Self, Error> {
        let refused = |error: io::Error| {
            let refused = Error::new(Code::Input, format!("{}: {}", path.display(), io_reason(&error)));
            refused.hint(if error.kind() == io::ErrorKind::NotFound { WRITE_ONE_HINT } else { READABLE_HINT })
        };
        let file = File::open(path).map_err(refused)?;
        let reading = file.try_clone().map_err(refused)?;
        let reading = BufReader::with_capacity(BUFFER_LEN, reading);
        let source = Source::open(reading, lines.as_ref()).map_err(refused)?;
        Ok(Self { path: path.to_owned(), source, lines, file, empty: true })
    }

    /// The next event, with its line; `None` at the end of what is there so far.
    pub(super) fn next_item(&mut self) -> Result<Option<(Item, &[u8])>, Error> {
        let path = &self.path;
        let line = self.source.next_item().map_err(|error| {
            let (what, hint) = match &error {
                SourceError::Log(LogError::Io(error)) | SourceError::Capture(CaptureError::Io(error)) => {
                    (io_reason(error), READABLE_HINT)
                }
                SourceError::Log(LogError::NotALog) => (error.to_string(), FORMAT_HINT),
                SourceError::Log(LogError::Line { .. }) => (error.to_string(), LINE_HINT),
                SourceError::Capture(CaptureError::NotACapture) => (error.to_string(), FORMAT_HINT),
                SourceError::Capture(CaptureError::Newer { .. }) => (error.to_string(), NEWER_HINT),
                SourceError::Capture(CaptureError::Damaged { .. }) => (error.to_string(), DAMAGED_HINT),
            };
            Error::new(Code::Input, format!("{}: {what}", path.display())).hint(hint)
        })?;
        self.empty &= line.is_none();
        Ok(line)
    }

    /// Says what is odd about the end of a file of which nothing more will be read.
    pub(super) fn finish(&self) -> Result<(), Error> {
        let path = self.path.display();
        match self.source.torn() {
            Some(TornEnd::Line(line)) => say(format_args!("mongotap: {path}: line {line} is torn, it was left out")),
            Some(TornEnd::Capture(torn)) => {
                let (offset, bytes) = (torn.offset, torn.bytes);
                say(format_args!(
                    "mongotap: {path}: torn at byte {offset}, the {bytes} bytes from there on were left out"
                ));
            }
            None if self.empty => {
                return Err(Error::new(Code::Input, format!("{}: empty", self.path.display())).hint(EMPTY_HINT));
            }
            None => {}
        }
        Ok(())
    }

    /// The file that goes on where this one, read to its end, will not: it was put aside or emptied.
    pub(super) fn successor(&self) -> Option<Self> {
        let ours = self.file.metadata().ok()?;
        let now = self.path.metadata().ok()?;
        if is_same(&ours, &now) {
            let read = (&self.file).stream_position().ok()?;
            return (now.len() < read).then(|| Self::open(&self.path, self.lines).ok()).flatten();
        }
        // Rotated, perhaps more than once: the next newer one is the one before ours in NAME.1, NAME.2, …
        let mut newer = self.path.clone();
        for number in 1.. {
            let older = numbered(&self.path, number);
            match older.metadata() {
                Ok(metadata) if is_same(&ours, &metadata) => break,
                Ok(_) => newer = older,
                // Ours is not kept any more, and the oldest that is was written after it.
                Err(_) => break,
            }
        }
        let mut opened = Self::open(&newer, self.lines).ok()?;
        opened.path.clone_from(&self.path);
        Some(opened)
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

const WRITE_ONE_HINT: &str = "mongotap proxy --log FILE.jsonl writes a log";
const READABLE_HINT: &str = "name a file that you may read; logs are made for their owner only";
const FORMAT_HINT: &str = "mongotap reads captures, and logs in the jsonl format: mongotap proxy --log FILE.jsonl; \
     mongotap convert FILE run.mtap makes a capture of a fixture or of packets";
const LINE_HINT: &str = "the line is not one that mongotap writes; without it the rest can be read";
const NEWER_HINT: &str = "a later mongotap reads it";
const DAMAGED_HINT: &str = "what comes before was read; a copy of the file may be whole";
const EMPTY_HINT: &str = "a proxy writes the first line when it starts; mongotap show --follow waits for it";
