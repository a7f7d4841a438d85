//! The files of a capture: made, written at their end, closed with an index, put aside.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use super::file::{has_moved, is_removed, put_aside};
use crate::capture::mtap::{Header, Index, Records, write_records};
use crate::config::{Capture, Writing};
use crate::event::Timestamp;

/// The file that is written.
#[derive(Debug)]
pub(super) struct CaptureFile {
    path: PathBuf,
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
}

impl CaptureFile {
    /// Makes the first file of a run. One that is there already is overwritten if that is wanted, or if it is empty.
    pub(super) fn create(capture: &Capture, header: Header, now: Timestamp) -> io::Result<Self> {
        let is_there = fs::metadata(&capture.path).is_ok_and(|it| it.is_file() && it.len() > 0);
        if is_there && !capture.force {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file already"));
        }
        let mut made = Self {
            file: open(&capture.path)?,
            path: capture.path.clone(),
            header,
            size: 0,
            opening: 0,
            index: Index::default(),
            opened_at: now,
            writing: capture.writing.clone(),
            out: Vec::new(),
        };
        made.write_header()?;
        Ok(made)
    }

    /// Makes the next file of the run, where the one before is no more, and closes that.
    pub(super) fn begin_next(&mut self, now: Timestamp) -> io::Result<()> {
        let file = open(&self.path)?;
        // The one before is in order without an index.
        _ = self.close();
        self.header.part += 1;
        (self.file, self.size, self.index, self.opened_at) = (file, 0, Index::default(), now);
        self.write_header()
    }

    fn write_header(&mut self) -> io::Result<()> {
        let bytes = self.header.to_bytes();
        self.file.write_all_at(&bytes, 0)?;
        self.size = bytes.len() as u64;
        self.opening = self.size;
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

    /// Whether it is to be put aside before so many more bytes, or for its age.
    pub(super) fn is_full(&self, more: usize, now: Timestamp) -> bool {
        self.size > self.opening && self.writing.is_outgrown(self.size + more as u64, now.since(self.opened_at))
    }

    /// Puts the file aside; [`begin_next`](Self::begin_next) makes another.
    pub(super) fn put_aside(&self) -> io::Result<()> {
        put_aside(&self.path, self.writing.keep)
    }

    /// Puts the next rotation off, after one that could not be done.
    pub(super) fn postpone(&mut self, now: Timestamp) {
        self.opened_at = now;
        self.opening = self.size;
    }

    /// Whether somebody has removed it: what is written to it nobody will read.
    pub(super) fn is_removed(&self) -> bool {
        is_removed(&self.file)
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

fn open(path: &PathBuf) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    Ok(file)
}

/// Memory kept from block to block; a long message may have taken more for a moment.
const OUT_KEPT: usize = 2 << 20;
