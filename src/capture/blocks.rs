//! The blocks of the files of a capture, in the order in which they were written, whatever the order of the files.
//!
//! What is in them is put in order and understood elsewhere ([`exchanges`](super::exchanges)).

use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;

use super::mtap::{Block, CaptureError, Header, Inflater, Reader, Stored, Torn};
use crate::event::Input;

/// A block of one of several files.
#[derive(Debug)]
pub struct FileBlock<B = Block> {
    /// The place of the file among those that were given, from 0.
    pub file: usize,
    /// The header of that file.
    pub header: Arc<Header>,
    /// The block.
    pub block: B,
}

impl FileBlock<Stored> {
    /// Opens the block.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`].
    pub fn open(&self, inflater: &mut Inflater) -> Result<FileBlock, CaptureError> {
        self.open_showing(inflater, |_, _| {})
    }

    /// The same, where messages are shown as they are read, each with its place.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`].
    pub fn open_showing(
        &self,
        inflater: &mut Inflater,
        show: impl FnMut(u32, &Input<'_>),
    ) -> Result<FileBlock, CaptureError> {
        let block = self.block.open_showing(inflater, show)?;
        Ok(FileBlock { file: self.file, header: Arc::clone(&self.header), block })
    }
}

/// The blocks of files that a capture was rotated to, or of several captures.
#[derive(Debug)]
pub struct Blocks<R> {
    /// The files, in the order in which they were written once that is known, each with its place among those given.
    files: VecDeque<(usize, Reader<R>)>,
    is_sorted: bool,
    header: Option<Arc<Header>>,
    torn: Vec<(usize, Torn)>,
    inflater: Inflater,
}

impl<R: Read> Blocks<R> {
    /// Reads files from their beginnings, which may be given in any order.
    pub fn new(files: impl IntoIterator<Item = R>) -> Self {
        let files = files.into_iter().map(Reader::new).enumerate().collect();
        Self { files, is_sorted: false, header: None, torn: Vec::new(), inflater: Inflater::default() }
    }

    /// The header of the file that is being read; `None` if no file has one.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn header(&mut self) -> Result<Option<&Header>, CaptureError> {
        self.sort()?;
        match (&self.header, self.files.front_mut()) {
            (None, Some((_, reader))) => reader.header(),
            _ => Ok(self.header.as_deref()),
        }
    }

    /// The files that were not written to their ends, by their places among those given from 0; all of them once there
    /// are no more blocks.
    pub fn torn(&self) -> &[(usize, Torn)] {
        &self.torn
    }

    /// The next block as it stands in its file; an error is the last.
    pub fn next_stored(&mut self) -> Option<Result<FileBlock<Stored>, CaptureError>> {
        let read = self.read();
        if read.is_err() {
            self.files.clear();
        }
        read.transpose()
    }

    fn sort(&mut self) -> Result<(), CaptureError> {
        if self.is_sorted {
            return Ok(());
        }
        self.is_sorted = true;
        let mut runs: Vec<String> = Vec::new();
        let mut sorted = Vec::new();
        for (place, mut reader) in std::mem::take(&mut self.files) {
            let Some(header) = reader.header()? else {
                self.torn.extend(reader.torn().map(|torn| (place, torn)));
                continue;
            };
            let run = runs.iter().position(|run| *run == header.run).unwrap_or_else(|| {
                runs.push(header.run.clone());
                runs.len() - 1
            });
            sorted.push(((run, header.part), (place, reader)));
        }
        sorted.sort_by_key(|(key, _)| *key);
        self.files = sorted.into_iter().map(|(_, file)| file).collect();
        Ok(())
    }

    fn read(&mut self) -> Result<Option<FileBlock<Stored>>, CaptureError> {
        self.sort()?;
        while let Some((file, reader)) = self.files.front_mut() {
            let file = *file;
            let header = match (&self.header, reader.header()?) {
                (Some(header), _) => Arc::clone(header),
                (None, Some(header)) => Arc::clone(self.header.insert(Arc::new(header.clone()))),
                (None, None) => Arc::default(),
            };
            if let Some(block) = reader.next_stored()? {
                return Ok(Some(FileBlock { file, header, block }));
            }
            self.torn.extend(reader.torn().map(|torn| (file, torn)));
            // What was read of the last file is what it was read of.
            if self.files.len() > 1 {
                self.header = None;
            }
            self.files.pop_front();
        }
        Ok(None)
    }
}

impl<R: Read> Iterator for Blocks<R> {
    type Item = Result<FileBlock, CaptureError>;

    /// The next block; an error is the last.
    fn next(&mut self) -> Option<Self::Item> {
        let opened = self.next_stored()?.and_then(|stored| stored.open(&mut self.inflater));
        if opened.is_err() {
            self.files.clear();
        }
        Some(opened)
    }
}
