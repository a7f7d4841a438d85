//! A log as an argument: opened, read to its end, and followed over rotations; errors name the file.

use std::fs::{File, Metadata};
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::capture::log::{Item, LogError, LogReader};
use crate::config::io_reason;
use crate::net::say::say;

use super::{Code, Error};

const BUFFER_LEN: usize = 256 * 1024;

/// An event log on disk.
pub(super) struct LogFile {
    path: PathBuf,
    reader: LogReader<BufReader<File>>,
    /// Its own handle of the same open file, for its place and its identity.
    file: File,
    empty: bool,
}

impl LogFile {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let refused = |error: io::Error| {
            let refused = Error::new(Code::Input, format!("{}: {}", path.display(), io_reason(&error)));
            refused.hint(if error.kind() == io::ErrorKind::NotFound { WRITE_ONE_HINT } else { READABLE_HINT })
        };
        let file = File::open(path).map_err(refused)?;
        let reading = file.try_clone().map_err(refused)?;
        let reader = LogReader::new(BufReader::with_capacity(BUFFER_LEN, reading));
        Ok(Self { path: path.to_owned(), reader, file, empty: true })
    }

    /// The next whole line; `None` at the end of what is there so far.
    pub(super) fn next_line(&mut self) -> Result<Option<(Item, &[u8])>, Error> {
        let path = &self.path;
        let line = self.reader.next_line().map_err(|error| {
            let (what, hint) = match &error {
                LogError::Io(error) => (io_reason(error), READABLE_HINT),
                LogError::NotALog => (error.to_string(), FORMAT_HINT),
                LogError::Line { .. } => (error.to_string(), LINE_HINT),
            };
            Error::new(Code::Input, format!("{}: {what}", path.display())).hint(hint)
        })?;
        self.empty &= line.is_none();
        Ok(line)
    }

    /// Says what is odd about the end of a file of which nothing more will be read.
    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.reader.torn() {
            Some(line) => say(format_args!("mongotap: {}: line {line} is torn, it was left out", self.path.display())),
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
            return (now.len() < read).then(|| Self::open(&self.path).ok()).flatten();
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
        let mut opened = Self::open(&newer).ok()?;
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
const FORMAT_HINT: &str = "mongotap reads logs in the jsonl format: mongotap proxy --log FILE.jsonl";
const LINE_HINT: &str = "the line is not one that mongotap writes; without it the rest can be read";
const EMPTY_HINT: &str = "a proxy writes the first line when it starts; mongotap show --follow waits for it";
