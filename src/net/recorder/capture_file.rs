//! The files of a capture: made, written at their end, closed with an index, put aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::aside::{Aside, Gone};
use super::file::{begins_with, has_moved, is_removed};
use super::lock::lock_patiently;
use super::queue::Missing;
use super::retry::{Retry, Spoilable};
use crate::capture::mtap::{Header, Index, MAGIC, Records, write_records};
use crate::config::{Capture, Writing};
use crate::event::Timestamp;

/// The file that is written.
#[derive(Debug)]
pub(super) struct CaptureFile {
    path: PathBuf,
    /// What was put aside of it, if that is done at all.
    aside: Option<Aside>,
    file: File,
    header: Header,
    /// How far it is written. What a write has left behind that failed is written over.
    size: u64,
    /// What it had when it began.
    opening: u64,
    index: Index,
    opened_at: Timestamp,
    writing: Writing,
    out: Vec<u8>,
    /// Somebody has cut it: the next file takes its place.
    is_given_up: bool,
}

impl CaptureFile {
    /// Makes the first file of a run. One that is there already is overwritten if that is wanted, or if it is empty; it
    /// should have been put [out of the way](put_out_of_the_way) before where captures rotate.
    pub(super) fn create(capture: &Capture, header: Header, now: Timestamp) -> io::Result<Self> {
        let (file, size) = begin(&capture.path, &header, capture.force)?;
        Ok(Self {
            path: capture.path.clone(),
            aside: capture.writing.rotates().then(|| Aside::new(&capture.path, capture.writing.keep)),
            file,
            header,
            size,
            opening: size,
            index: Index::default(),
            opened_at: now,
            writing: capture.writing.clone(),
            out: Vec::new(),
            is_given_up: false,
        })
    }

    /// Makes the next file of the run, where the one before is no more, and closes that.
    pub(super) fn begin_next(&mut self, now: Timestamp) -> io::Result<()> {
        let header = Header { part: self.header.part + 1, ..self.header.clone() };
        let is_same = self.is_given_up && !self.has_moved();
        if is_same {
            // It is opened anew where it is: the lock of before would be taken for another process's.
            _ = flock(&self.file, FlockOperation::Unlock);
        }
        let (file, size) = begin(&self.path, &header, is_same)?;
        // The one before is in order without an index.
        if !std::mem::take(&mut self.is_given_up) {
            _ = self.close();
        }
        (self.file, self.header, self.index) = (file, header, Index::default());
        (self.size, self.opening, self.opened_at) = (size, size, now);
        Ok(())
    }

    /// Writes records as a block. If that fails nothing of it is there, and it can be tried again.
    pub(super) fn write(&mut self, records: &Records) -> io::Result<()> {
        self.out.clear();
        write_records(records, &mut self.out);
        if let Err(error) = self.file.write_all_at(&self.out, self.size) {
            // A part of a block is a torn end, until more is written over it.
            _ = self.file.set_len(self.size);
            return Err(error);
        }
        self.index.add(self.size, records);
        self.size += self.out.len() as u64;
        self.out.shrink_to(OUT_KEPT);
        Ok(())
    }

    /// Writes the index, behind which nothing may come.
    pub(super) fn close(&mut self) -> io::Result<()> {
        let mut end = Vec::new();
        self.index.write(self.size, &mut end);
        self.file.write_all_at(&end, self.size)
    }

    /// Whether it is to be put aside before so many more bytes of records, with which it would be closed, or for its age.
    pub(super) fn is_full(&self, more: usize, now: Timestamp) -> bool {
        let size = self.size + (more + self.index.bytes_max()) as u64;
        self.size > self.opening && self.writing.is_outgrown(size, now.since(self.opened_at))
    }

    /// How much is written at once, if so much waits; less where files are small.
    pub(super) fn block_bytes(&self) -> usize {
        match usize::try_from(self.writing.rotate_bytes) {
            Ok(bytes @ 1..) => BLOCK_BYTES.min(bytes / 2),
            _ => BLOCK_BYTES,
        }
    }

    /// Puts the file aside, in which so many exchanges are; [`begin_next`](Self::begin_next) makes another.
    pub(super) fn put_aside(&mut self, exchanges: u64) -> io::Result<()> {
        let bytes = self.written();
        self.aside.as_mut().map_or(Ok(()), |aside| aside.put(Missing { exchanges, bytes }))
    }

    /// What went of the files put aside, together with the one that is written. See [`Aside::look`].
    pub(super) fn look_aside(&mut self, now: Timestamp, is_removed: bool) -> Gone {
        self.aside.as_mut().map_or_else(Gone::default, |aside| aside.look(now, is_removed))
    }

    /// Forgets those put aside that were moved away.
    pub(super) fn forget_gone(&mut self) {
        self.aside.as_mut().map(Aside::forget_gone);
    }

    /// Puts the next rotation off, after one that could not be done.
    pub(super) fn postpone(&mut self, now: Timestamp) {
        self.opened_at = now;
        self.opening = self.size;
    }

    /// Says how many files put aside are more than are to be kept; there were more to keep once.
    pub(super) fn say_too_many(&self, retry: &Retry) {
        self.aside.iter().for_each(|aside| aside.say_too_many(retry));
    }

    /// Notes that nothing can be made of it: [`begin_next`](Self::begin_next) writes over what is left.
    pub(super) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Bytes of records that were written to it.
    pub(super) fn written(&self) -> u64 {
        self.size.saturating_sub(self.opening)
    }

    /// Whether it is no longer where it was.
    pub(super) fn has_moved(&self) -> bool {
        has_moved(&self.path, &self.file)
    }
}

impl Spoilable for CaptureFile {
    fn is_removed(&self) -> bool {
        is_removed(&self.path, &self.file)
    }

    fn is_cut(&self) -> bool {
        // What is written to a file just when it is cut makes it as long as before.
        let mut first = [0; MAGIC.len()];
        let is_short = self.file.metadata().is_ok_and(|it| it.len() < self.size);
        is_short || self.file.read_exact_at(&mut first, 0).is_ok() && first != *MAGIC
    }
}

/// Puts a capture aside that an earlier run has left where the next is to be, if captures are put aside at all and it is
/// not to be overwritten. Whether there was one.
pub(super) fn put_out_of_the_way(capture: &Capture) -> io::Result<bool> {
    let is_in_the_way = capture.writing.rotates() && !capture.force && holds_something(&capture.path);
    if is_in_the_way {
        let file = File::open(&capture.path)?;
        lock(&file)?;
        if !begins_with(&file, MAGIC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is a file that is not a capture"));
        }
        Aside::new(&capture.path, capture.writing.keep).put(Missing::default())?;
    }
    Ok(is_in_the_way)
}

/// Whether there is a file with something in it, which is not overwritten unasked.
pub(crate) fn holds_something(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|it| it.is_file() && it.len() > 0)
}

/// Makes sure that nobody else writes the file, as long as it is open here.
fn lock(file: &File) -> io::Result<()> {
    match lock_patiently(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "another process is writing it: name another file"))
        }
        // Where files cannot be locked there is nothing to be made sure of.
        _ => Ok(()),
    }
}

/// Makes a file with nothing in it but the header, whose length is said. If that fails it is left empty. One that is
/// there already is overwritten if that is wanted, or if it is empty.
fn begin(path: &Path, header: &Header, force: bool) -> io::Result<(File, u64)> {
    if holds_something(path) && !force {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file already"));
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    lock(&file)?;
    file.set_len(0)?;
    let bytes = header.to_bytes();
    if let Err(error) = file.write_all_at(&bytes, 0) {
        _ = file.set_len(0);
        return Err(error);
    }
    Ok((file, bytes.len() as u64))
}

/// See [`CaptureFile::block_bytes`].
const BLOCK_BYTES: usize = 1 << 20;

/// Memory kept from block to block; a long message may have taken more for a moment.
const OUT_KEPT: usize = 2 << 20;
