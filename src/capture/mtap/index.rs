//! Where in a capture what can be found: written at the end of one that is closed whole.

use std::io::{Read, Seek, SeekFrom};

use super::block::{self, HEAD_LEN, Head, Inflater};
use super::record::{Fields, Records, Span, put_varint};
use super::{CaptureError, TRAILER};

/// Entries that are kept: with more, each stands for twice as many blocks.
const ENTRIES_MAX: usize = 1 << 16;

/// Three u64 and two varints.
const ENTRY_LEN_MAX: usize = 3 * 8 + 2 * 10;

/// What an index's block holds at most.
pub(super) const CONTENT_LEN_MAX: usize = ENTRIES_MAX * ENTRY_LEN_MAX;

/// Some blocks of a capture, one after the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where the first one begins.
    pub offset: u64,
    /// The first and the last monotonic time of their records, in nanoseconds.
    pub times: (u64, u64),
    /// The least and the greatest number of a connection in them; the greater one first if there is none.
    pub connections: (u64, u64),
}

/// What is gathered while a capture is written.
#[derive(Debug, Default)]
pub struct Index {
    entries: Vec<Entry>,
    /// How many blocks an entry stands for, less one, and how many the last one does.
    shared: usize,
    in_last: usize,
}

impl Index {
    /// Takes note of a block that begins at `offset`.
    pub fn add(&mut self, offset: u64, records: &Records) {
        let Some(span) = records.span else { return };
        match self.entries.last_mut() {
            Some(last) if self.in_last < self.shared => {
                *last = joined(*last, entry(offset, span));
                self.in_last += 1;
            }
            _ => {
                self.entries.push(entry(offset, span));
                self.in_last = 0;
            }
        }
        if self.entries.len() >= ENTRIES_MAX {
            let pairs = self.entries.chunks(2).map(|pair| pair.iter().copied().reduce(joined));
            self.entries = pairs.flatten().collect();
            self.in_last += self.shared + 1;
            self.shared = self.shared * 2 + 1;
        }
    }

    /// The most bytes that one more block takes besides its records, and the file's end with it.
    pub fn bytes_max(&self) -> usize {
        2 * HEAD_LEN + (self.entries.len() + 1) * ENTRY_LEN_MAX + 8 + TRAILER.len()
    }

    /// Appends the index's block and the trailer, in a file that has `offset` bytes.
    pub fn write(&self, offset: u64, out: &mut Vec<u8>) {
        let mut content = Vec::new();
        for Entry { offset, times, connections } in &self.entries {
            for number in [*offset, times.0, times.1] {
                content.extend_from_slice(&number.to_le_bytes());
            }
            put_varint(connections.0, &mut content);
            put_varint(connections.1, &mut content);
        }
        block::write(block::INDEX, &content, out);
        out.extend_from_slice(&offset.to_le_bytes());
        out.extend_from_slice(TRAILER);
    }
}

fn entry(offset: u64, Span { times, connections }: Span) -> Entry {
    Entry { offset, times, connections }
}

fn joined(one: Entry, other: Entry) -> Entry {
    let span = |it: Entry| Span { times: it.times, connections: it.connections };
    entry(one.offset, span(one).with(span(other)))
}

/// The index of a capture, in the order of the file; `None` if it was not closed whole. [`Reader::at`](super::Reader::at)
/// reads from an entry on.
///
/// # Errors
/// If the file cannot be read, or the index is damaged.
pub fn read_index(file: &mut (impl Read + Seek)) -> Result<Option<Vec<Entry>>, CaptureError> {
    let mut trailer = [0; 16];
    let end = file.seek(SeekFrom::End(0))?;
    if end < trailer.len() as u64 {
        return Ok(None);
    }
    let trailer_at = end - trailer.len() as u64;
    file.seek(SeekFrom::Start(trailer_at))?;
    file.read_exact(&mut trailer)?;
    if !trailer.ends_with(TRAILER) {
        return Ok(None);
    }
    let offset = Fields(&trailer).u64().unwrap_or_default();
    let damaged = |what: &str| CaptureError::Damaged { offset, what: what.to_owned() };
    let length = trailer_at.checked_sub(offset).filter(|length| *length >= HEAD_LEN as u64);
    let length = length.ok_or_else(|| CaptureError::Damaged { offset: trailer_at, what: "a wrong trailer".into() })?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    let (head, stored) = bytes.split_first_chunk().ok_or_else(|| damaged("the index is torn"))?;
    let head = Head::parse(head).map_err(damaged)?;
    if head.kind != block::INDEX || head.stored_len != stored.len() {
        return Err(damaged("no index is here"));
    }
    head.check(0).map_err(|what| damaged(&what))?;
    let content = head.content(stored, &mut Inflater::default()).map_err(damaged)?;
    let mut fields = Fields(&content);
    let mut entries = Vec::new();
    while !fields.0.is_empty() {
        entries.push(parse(&mut fields).map_err(damaged)?);
    }
    Ok(Some(entries))
}

fn parse(fields: &mut Fields<'_>) -> Result<Entry, &'static str> {
    let (offset, times) = (fields.u64()?, (fields.u64()?, fields.u64()?));
    Ok(Entry { offset, times, connections: (fields.varint()?, fields.varint()?) })
}
