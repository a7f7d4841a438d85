//! Where the lines of a log go: standard output, or a file that is appended to, put aside when it has grown large or
//! old, and opened anew when somebody has moved it. How old a file is that an earlier run began, its own date says; from
//! then on no date counts, for the wall clock may be set.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::FlockOperation;

use super::aside::{Aside, Gone};
use super::lock::lock_patiently;
use super::queue::Missing;
use super::retry::{Retry, Spoilable};
use crate::capture::mtap::MAGIC;
use crate::config::{Log, Target, Writing};
use crate::event::Timestamp;
use crate::sink::Format;
use crate::sink::jsonl::LINE_START;

/// The place that a log is written to.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` is standard output.
    path: Option<PathBuf>,
    /// What was put aside of it, if that is done at all.
    aside: Option<Aside>,
    /// `None` while a file is not open: it was put aside or moved, or cannot be opened.
    file: Option<File>,
    is_jsonl: bool,
    /// Bytes in the file, for as far as rotation counts them.
    size: u64,
    /// Bytes in the file, as they were found and written.
    length: u64,
    /// Whether it is a file that can be cut and renamed, not a device or a pipe.
    is_regular: bool,
    opened_at: Timestamp,
    /// How old it was then: a file is begun by one run, and written on by others.
    age_before: Duration,
    writing: Writing,
}

/// What was found when a file was opened.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Opened {
    /// Bytes of a torn last line that were cut off.
    pub(super) torn: u64,
    /// Whether the last line lacks its end, in a log that is not cut.
    pub(super) unfinished: bool,
}

impl Output {
    /// The place that a log names. A file is not opened yet.
    pub(super) fn new(log: &Log) -> Self {
        let path = match &log.target {
            Target::Stdout => None,
            Target::File(path) => Some(path.clone()),
        };
        let aside = path.as_ref().filter(|_| log.writing.rotates()).map(|path| Aside::new(path, log.writing.keep));
        Self {
            path,
            aside,
            file: None,
            is_jsonl: log.format == Format::Jsonl,
            size: 0,
            length: 0,
            is_regular: false,
            opened_at: Timestamp::default(),
            age_before: Duration::ZERO,
            writing: log.writing.clone(),
        }
    }

    /// Whether there is nothing to write to at the moment.
    pub(super) fn is_detached(&self) -> bool {
        self.file.is_none()
    }

    /// Whether it is standard output.
    pub(super) fn is_stdout(&self) -> bool {
        self.path.is_none()
    }

    /// Whether files are put aside.
    pub(super) fn may_rotate(&self) -> bool {
        self.aside.is_some()
    }

    /// Bytes in the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Opens the file, or makes it. A torn last line of a `jsonl` log is cut off.
    pub(super) fn open(&mut self, now: Timestamp) -> io::Result<Opened> {
        let Some(path) = &self.path else {
            // Its own descriptor has no buffer that would hide how much was written before an error.
            let file: File = io::stdout().as_fd().try_clone_to_owned()?.into();
            if file.metadata().is_ok_and(|it| it.is_file()) {
                lock_shared(&file);
            }
            self.file = Some(file);
            return Ok(Opened::default());
        };
        // Reading is for looking at the end of what is there; a pipe or a device may not have it.
        let regular = fs::metadata(path).map_or(true, |it| it.is_file());
        let mut file = OpenOptions::new().read(regular).append(true).create(true).mode(0o600).open(path)?;
        let metadata = file.metadata()?;
        self.is_regular = metadata.is_file();
        if self.is_regular {
            lock_shared(&file);
        }
        self.size = if self.is_regular { metadata.len() } else { 0 };
        let mut opened = Opened::default();
        if self.is_regular && self.is_jsonl {
            check_is_log(&mut file, self.size)?;
            opened.torn = cut_torn_line(&file, self.size)?;
            self.size -= opened.torn;
        } else if self.is_regular && self.size > 0 {
            check_is_text(&file)?;
            let mut last = [0];
            file.read_exact_at(&mut last, self.size - 1)?;
            opened.unfinished = last != *b"\n";
        }
        self.length = self.size;
        self.opened_at = now;
        self.age_before = if self.size > 0 { age(&metadata, now) } else { Duration::ZERO };
        self.file = Some(file);
        Ok(opened)
    }

    /// Writes some of the bytes; says how many.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let count = file.write(bytes)?;
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.size += count as u64;
        self.length += count as u64;
        Ok(count)
    }

    /// Whether a file with so many bytes about to be written is to be put aside before so many more, or for its age.
    pub(super) fn is_full(&self, written: u64, more: usize, now: Timestamp) -> bool {
        let size = self.size + written + more as u64;
        let age = self.age_before.saturating_add(now.since(self.opened_at));
        self.is_regular && self.file.is_some() && self.writing.is_outgrown(size, age)
    }

    /// Puts the file aside, to which this run has written so much.
    pub(super) fn rotate(&mut self, written: Missing) -> io::Result<()> {
        let Some(aside) = &mut self.aside else { return Ok(()) };
        aside.put(written)?;
        self.file = None;
        Ok(())
    }

    /// What went of the files put aside, together with the one that is written. See [`Aside::look`].
    pub(super) fn look_aside(&mut self, now: Timestamp, is_removed: bool) -> Gone {
        self.aside.as_mut().map_or_else(Gone::default, |aside| aside.look(now, is_removed))
    }

    /// Puts the next rotation off, after one that could not be done.
    pub(super) fn postpone(&mut self, now: Timestamp) {
        self.opened_at = now;
        self.age_before = Duration::ZERO;
        self.size = 0;
    }

    /// Says how many files put aside are more than are to be kept; there were more to keep once.
    pub(super) fn say_too_many(&self, retry: &Retry) {
        self.aside.iter().for_each(|aside| aside.say_too_many(retry));
    }

    /// Lets go of the file.
    pub(super) fn detach(&mut self) {
        self.file = None;
    }

    /// Lets go of a file that is no longer where it was.
    pub(super) fn detach_if_moved(&mut self) {
        let (Some(path), Some(file)) = (&self.path, &self.file) else { return };
        if has_moved(path, file) {
            self.file = None;
            // They were moved with it, or before.
            self.aside.as_mut().map(Aside::forget_gone);
        }
    }
}

impl Spoilable for Output {
    fn is_removed(&self) -> bool {
        let (Some(path), Some(file)) = (&self.path, &self.file) else { return false };
        self.is_regular && is_removed(path, file)
    }

    fn is_cut(&self) -> bool {
        let metadata = self.file.as_ref().filter(|_| self.is_regular).and_then(|file| file.metadata().ok());
        metadata.is_some_and(|it| it.len() < self.length)
    }
}

/// For readers, who are to know that it has no end yet. Several may write to one log.
fn lock_shared(file: &File) {
    // Where it cannot be locked it is written all the same.
    _ = lock_patiently(file, FlockOperation::NonBlockingLockShared);
}

/// Whether an open file is no longer where it was.
pub(super) fn has_moved(path: &Path, file: &File) -> bool {
    let identity = |it: fs::Metadata| (it.dev(), it.ino());
    fs::metadata(path).map(identity).ok() != file.metadata().map(identity).ok()
}

/// Whether an open file has no name any more. One that never had any can still be had where it was opened: `/dev/fd/3`.
pub(super) fn is_removed(path: &Path, file: &File) -> bool {
    file.metadata().is_ok_and(|it| it.nlink() == 0) && has_moved(path, file)
}

/// How old a file is, by the wall clock; nothing if the system does not know, or the clock was set back behind it.
fn age(metadata: &fs::Metadata, now: Timestamp) -> Duration {
    let made = metadata.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    let now = Duration::from_micros(u64::try_from(now.unix_micros).unwrap_or_default());
    made.map_or(Duration::ZERO, |made| now.saturating_sub(made))
}

/// An event log begins with a line of it, or with the part of one that was written before a crash. Nothing else is
/// appended to, for its last line might be taken for a torn one.
fn check_is_log(file: &mut File, size: u64) -> io::Result<()> {
    let mut start = [0; LINE_START.len()];
    let length = start.len().min(usize::try_from(size).unwrap_or(usize::MAX));
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut start[..length])?;
    if start[..length] != LINE_START[..length] {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is a file that is not an event log"));
    }
    Ok(())
}

/// A log for people begins with anything, but not as one for programs does, or a capture, which it would spoil.
fn check_is_text(file: &File) -> io::Result<()> {
    let other = match () {
        () if begins_with(file, MAGIC) => "there is a capture",
        () if begins_with(file, LINE_START) => "there is an event log in jsonl",
        () => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, other))
}

/// Whether a file begins with these bytes.
pub(super) fn begins_with(file: &File, start: &[u8]) -> bool {
    let mut first = vec![0; start.len()];
    file.read_exact_at(&mut first, 0).is_ok() && first == start
}

/// Cuts off what follows the last `\n` of so many bytes. Says how much that was.
fn cut_torn_line(file: &File, size: u64) -> io::Result<u64> {
    let mut block = [0; 8192];
    let mut end = size;
    let whole = loop {
        if end == 0 {
            break 0;
        }
        let start = end.saturating_sub(block.len() as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            break start + at as u64 + 1;
        }
        end = start;
    };
    if whole < size {
        file.set_len(whole)?;
    }
    Ok(size - whole)
}
