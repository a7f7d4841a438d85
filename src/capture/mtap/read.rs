//! Reads a capture from its beginning, as far as there is one: more may come later.

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use super::block::{self, HEAD_LEN, Head, Inflater};
use super::header::FIXED_LEN;
use super::record::{self, Record, Standing};
use super::{CaptureError, Header, MAGIC, TRAILER};
use crate::event::{Given, Input, Timestamp};

const TRAILER_LEN: usize = 16;

/// Room that is made for a block because its head says so.
const BELIEVED_MAX: usize = 1 << 20;

/// What comes to a disk at once, or does not.
const SECTOR_LEN: u64 = 512;

/// The end of a file that was not written to its end: by a crash, or not yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Torn {
    /// Where what cannot be read begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, bytes } = self;
        write!(f, "torn at byte {offset}, the {bytes} bytes from there on were left out")
    }
}

/// A block, and where it is.
#[derive(Debug)]
pub struct Block {
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes it has there.
    pub len: u32,
    /// What it holds.
    pub content: Arc<Vec<u8>>,
    /// Its records, each with its place in that, for [`record_at`].
    pub records: Vec<(u32, InBlock)>,
}

impl Block {
    /// Its records.
    pub fn into_records(self) -> Vec<Record> {
        let Self { content, records, .. } = self;
        // Those that were read once can be read again.
        let record = |(place, record)| match record {
            InBlock::Message { .. } => record_at(&content, place).ok().flatten(),
            InBlock::Other(record) => Some(*record),
        };
        records.into_iter().filter_map(record).collect()
    }
}

/// A block as it stands in its file, not looked into yet.
#[derive(Debug)]
pub struct Stored {
    /// Where in the file it begins.
    pub offset: u64,
    head: Head,
    /// Its head, and what follows it.
    bytes: Vec<u8>,
}

impl Stored {
    /// How many bytes it says that it holds.
    pub fn content_len(&self) -> usize {
        self.head.content_len()
    }

    /// Takes its content out of its compression, and the records apart.
    ///
    /// # Errors
    /// [`CaptureError::Damaged`].
    pub fn open(&self, inflater: &mut Inflater) -> Result<Block, CaptureError> {
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
    ) -> Result<Block, CaptureError> {
        let damaged = |what: &str| damaged(self.offset, what);
        let content = self.head.content(&self.bytes[HEAD_LEN..], inflater).map_err(damaged)?;
        Ok(Block {
            offset: self.offset,
            len: u32::try_from(self.bytes.len()).unwrap_or(u32::MAX),
            records: records(&content, show).map_err(damaged)?,
            content,
        })
    }
}

/// A record of a block.
#[derive(Debug)]
pub enum InBlock {
    /// A message, which [`message_at`] reads.
    Message {
        /// When it was whole.
        at: Timestamp,
        /// Its length in bytes.
        len: usize,
    },
    /// Any other.
    Other(Box<Record>),
}

/// What a block holds, from its bytes in the file.
///
/// # Errors
/// In a word, if they are not those of one whole block.
pub fn block_content(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let (head, stored) = bytes.split_first_chunk().ok_or("a block is torn")?;
    let head = Head::parse(head)?;
    if head.stored_len != stored.len() {
        return Err("a block is torn");
    }
    head.check(usize::MAX).map_err(|_| "a block says that it holds more than any can")?;
    let content = head.content(stored, &mut Inflater::default())?;
    // Nobody else holds it.
    Ok(Arc::unwrap_or_clone(content))
}

/// The record at that place in what a block holds; `None` for one of a kind that is not known.
///
/// # Errors
/// In a word, if there is none.
pub fn record_at(content: &[u8], place: u32) -> Result<Option<Record>, &'static str> {
    record::decode(&mut content.get(place as usize..).ok_or("a block is too short")?)
}

/// The message at that place in what a block holds, which is not copied; `None` if none is there.
pub fn message_at(content: &[u8], place: u32) -> Option<Input<'_>> {
    match record::decode_standing(&mut content.get(place as usize..)?).ok()?? {
        Standing::Message(connection, at, message) => Some(Input { connection, at, given: Given::Message(message) }),
        Standing::Other(_) => None,
    }
}

/// Reads a capture block by block.
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    header: Option<Header>,
    /// Where what is next begins.
    offset: u64,
    /// What was read of it.
    pending: Vec<u8>,
    /// Zeros that were read behind that, and are not kept.
    zeros: u64,
    expects: Expects,
    inflater: Inflater,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Expects {
    Blocks,
    Trailer,
    End,
}

/// What was read.
enum Step {
    Block(Stored),
    Other,
    /// More is needed than there is.
    NotYet,
}

impl<R: Read> Reader<R> {
    /// Reads from the beginning of a file.
    pub fn new(input: R) -> Self {
        Self {
            input,
            header: None,
            offset: 0,
            pending: Vec::new(),
            zeros: 0,
            expects: Expects::Blocks,
            inflater: Inflater::default(),
        }
    }

    /// Reads on at `offset`, where a block begins and `input` stands. The header is that of the file.
    pub fn at(input: R, header: Header, offset: u64) -> Self {
        Self { offset, header: Some(header), ..Self::new(input) }
    }

    /// The header; `None` as long as there is no whole one.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn header(&mut self) -> Result<Option<&Header>, CaptureError> {
        if self.header.is_none() {
            self.header = self.read_header()?;
        }
        Ok(self.header.as_ref())
    }

    /// The records of the next block; `None` at the end of what is there. More may have come when it is asked again.
    ///
    /// # Errors
    /// [`CaptureError`]. Nothing can be read behind it.
    pub fn next_block(&mut self) -> Result<Option<Vec<Record>>, CaptureError> {
        Ok(self.next_placed_block()?.map(Block::into_records))
    }

    /// The same, with where they are.
    ///
    /// # Errors
    /// [`CaptureError`]. Nothing can be read behind it.
    pub fn next_placed_block(&mut self) -> Result<Option<Block>, CaptureError> {
        let Some(stored) = self.next_stored()? else { return Ok(None) };
        stored.open(&mut self.inflater).map(Some)
    }

    /// The same, to be opened by whoever wants to.
    ///
    /// # Errors
    /// [`CaptureError`]. Nothing can be read behind it.
    pub fn next_stored(&mut self) -> Result<Option<Stored>, CaptureError> {
        if self.header()?.is_none() {
            return Ok(None);
        }
        loop {
            let step = match self.expects {
                Expects::Blocks => self.block()?,
                Expects::Trailer => self.trailer()?,
                Expects::End => self.end()?,
            };
            match step {
                Step::Block(block) => return Ok(Some(block)),
                Step::Other => {}
                Step::NotYet => return Ok(None),
            }
        }
    }

    /// Whether it was read to an end that was written as such.
    pub fn is_whole(&self) -> bool {
        self.expects == Expects::End
    }

    /// What is there behind the last whole block, once [`next_block`](Self::next_block) gave `None`.
    pub fn torn(&self) -> Option<Torn> {
        let bytes = self.pending.len() as u64 + self.zeros;
        (bytes > 0).then_some(Torn { offset: self.offset, bytes })
    }

    fn read_header(&mut self) -> Result<Option<Header>, CaptureError> {
        let has_fixed = self.fill(FIXED_LEN)?;
        let seen = self.pending.len().min(MAGIC.len());
        if self.pending[..seen] != MAGIC[..seen] {
            return Err(CaptureError::NotACapture);
        }
        let Some(fixed) = self.pending.first_chunk().copied().filter(|_| has_fixed) else { return Ok(None) };
        let len = Header::document_len(&fixed)?;
        if !self.fill(FIXED_LEN + len)? {
            return Ok(None);
        }
        let header = Header::parse(&fixed, &self.pending[FIXED_LEN..])?;
        self.pass();
        Ok(Some(header))
    }

    fn block(&mut self) -> Result<Step, CaptureError> {
        if !self.fill(HEAD_LEN)? {
            return Ok(Step::NotYet);
        }
        if self.is_zeros_to_the_end()? {
            return Ok(Step::NotYet);
        }
        let Some(head) = self.pending.first_chunk() else { return Ok(Step::NotYet) };
        let head = match Head::parse(head) {
            Ok(head) => head,
            Err(what) => return self.not_yet_or(what),
        };
        let max_message_bytes = self.header.as_ref().map_or(0, |header| header.max_message_bytes);
        head.check(max_message_bytes).map_err(|what| self.damaged(&what))?;
        if !self.fill(HEAD_LEN + head.stored_len)? {
            return Ok(Step::NotYet);
        }
        if self.ends_in_zeros() && !head.is_of(&self.pending[HEAD_LEN..]) {
            return self.not_yet_or("the checksum of a block is another");
        }
        if head.kind == block::RECORDS {
            let bytes = std::mem::take(&mut self.pending);
            let stored = Stored { offset: self.offset, head, bytes };
            self.offset += stored.bytes.len() as u64;
            return Ok(Step::Block(stored));
        }
        // What is passed over must be whole as well.
        let content = head.content(&self.pending[HEAD_LEN..], &mut self.inflater);
        content.map_err(|what| self.damaged(what))?;
        if head.kind == block::INDEX {
            self.expects = Expects::Trailer;
        }
        self.pass();
        Ok(Step::Other)
    }

    fn trailer(&mut self) -> Result<Step, CaptureError> {
        if !self.fill(TRAILER_LEN)? {
            return Ok(Step::NotYet);
        }
        if self.is_zeros_to_the_end()? {
            return Ok(Step::NotYet);
        }
        if !self.pending.ends_with(TRAILER) {
            return self.not_yet_or("no trailer is here");
        }
        self.expects = Expects::End;
        self.pass();
        Ok(Step::Other)
    }

    fn end(&mut self) -> Result<Step, CaptureError> {
        let is_more = self.fill(1)? && !self.is_zeros_to_the_end()?;
        if is_more { Err(self.damaged("there is more behind the end")) } else { Ok(Step::NotYet) }
    }

    /// What is pending is not as it was written: it is torn if it ends in zeros that go on to the end, else damaged.
    fn not_yet_or(&mut self, what: &str) -> Result<Step, CaptureError> {
        let is_torn = self.ends_in_zeros() && self.is_all_zeros_behind()?;
        if is_torn { Ok(Step::NotYet) } else { Err(self.damaged(what)) }
    }

    /// Whether a sector that what is pending reaches into begins with zeros, and nothing else is pending from there on.
    fn ends_in_zeros(&self) -> bool {
        let zeros = self.pending.iter().rev().take_while(|byte| **byte == 0).count() as u64;
        let end = self.offset + self.pending.len() as u64;
        zeros > 0 && (end - 1) / SECTOR_LEN * SECTOR_LEN >= end - zeros
    }

    /// Whether nothing but zeros is pending and behind it: where power fails, a file may be longer than what of it has come
    /// to the disk.
    fn is_zeros_to_the_end(&mut self) -> io::Result<bool> {
        Ok(self.pending.iter().all(|byte| *byte == 0) && self.is_all_zeros_behind()?)
    }

    /// The same of what is behind what is pending, which is read.
    fn is_all_zeros_behind(&mut self) -> io::Result<bool> {
        let mut some = [0; 4096];
        loop {
            match self.input.read(&mut some) {
                Ok(0) => return Ok(true),
                Ok(read) if some[..read].iter().all(|byte| *byte == 0) => self.zeros += read as u64,
                Ok(_) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads until so many bytes are there; whether they are.
    fn fill(&mut self, len: usize) -> io::Result<bool> {
        let missing = len.saturating_sub(self.pending.len());
        self.pending.reserve(missing.min(BELIEVED_MAX));
        self.input.by_ref().take(missing as u64).read_to_end(&mut self.pending)?;
        Ok(self.pending.len() >= len)
    }

    /// What is pending was read.
    fn pass(&mut self) {
        self.offset += self.pending.len() as u64;
        self.pending.clear();
    }

    fn damaged(&self, what: &str) -> CaptureError {
        damaged(self.offset, what)
    }
}

fn damaged(offset: u64, what: &str) -> CaptureError {
    CaptureError::Damaged { offset, what: what.to_owned() }
}

fn records(content: &[u8], mut show: impl FnMut(u32, &Input<'_>)) -> Result<Vec<(u32, InBlock)>, &'static str> {
    let (mut records, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        // The length of a block has 32 bits.
        let place = (content.len() - rest.len()) as u32;
        let record = match record::decode_standing(&mut rest)? {
            Some(Standing::Message(connection, at, message)) => {
                let shown = InBlock::Message { at, len: message.bytes.len() };
                show(place, &Input { connection, at, given: Given::Message(message) });
                shown
            }
            Some(Standing::Other(record)) => InBlock::Other(Box::new(record)),
            None => continue,
        };
        records.push((place, record));
    }
    Ok(records)
}
