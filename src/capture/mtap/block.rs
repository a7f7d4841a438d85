//! Blocks: what is written at once, with checksums, compressed.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::index::CONTENT_LEN_MAX as INDEX_LEN_MAX;
use super::record::Records;
use crate::capture::pool::Pool;
use crate::wire::MESSAGE_LEN_MAX;

pub(super) const HEAD_LEN: usize = 24;

pub(super) const RECORDS: u8 = 1;
pub(super) const INDEX: u8 = 2;

const MAGIC: &[u8; 4] = b"mtpb";
const AS_IT_IS: u8 = 0;
const ZSTD: u8 = 1;

/// The fastest that there is: a capture must keep up with its proxy.
const LEVEL: i32 = 1;

/// Appends a block with these records to `out`.
pub fn write_records(records: &Records, out: &mut Vec<u8>) {
    write(RECORDS, records.bytes(), out);
}

pub(super) fn write(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    let compressed = zstd::bulk::compress(content, LEVEL).ok().filter(|compressed| compressed.len() < content.len());
    let (codec, stored) = match &compressed {
        Some(compressed) => (ZSTD, &compressed[..]),
        None => (AS_IT_IS, content),
    };
    let mut head = [0; 12];
    head[0] = kind;
    head[1] = codec;
    head[4..8].copy_from_slice(&length(stored));
    head[8..12].copy_from_slice(&length(content));
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&head);
    out.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(stored).to_le_bytes());
    out.extend_from_slice(stored);
}

/// A block holds what was gathered when it was written, a message at most beyond that: 32 bits are enough.
fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// What a block may hold beside a message: what was gathered before it, and of the connections that were open.
const ROOM: usize = 64 << 20;

/// What a `messageLength` can say.
const MESSAGE_LEN_END: usize = i32::MAX as usize;

/// The head of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: u8,
    codec: u8,
    pub(super) stored_len: usize,
    content_len: usize,
    checksum: u32,
}

impl Head {
    pub(super) fn parse(head: &[u8; HEAD_LEN]) -> Result<Self, &'static str> {
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if !head.starts_with(MAGIC) {
            return Err("no block begins here");
        }
        if crc32c::crc32c(&head[4..16]) != number(16) {
            return Err("the checksum of a block's head is another");
        }
        Ok(Self {
            kind: head[4],
            codec: head[5],
            stored_len: number(8) as usize,
            content_len: number(12) as usize,
            checksum: number(20),
        })
    }

    /// How many bytes what follows says that it holds.
    pub(super) fn content_len(&self) -> usize {
        self.content_len
    }

    /// Makes sure that reading the block does not take more memory than a capture of such messages wants: whoever makes a
    /// file can say 4 GiB in a few bytes, and have them inflated.
    ///
    /// # Errors
    /// In words, if it says that it holds more than any block does.
    pub(super) fn check(&self, max_message_bytes: usize) -> Result<(), String> {
        let max = match self.kind {
            INDEX => INDEX_LEN_MAX,
            _ => max_message_bytes.clamp(MESSAGE_LEN_MAX, MESSAGE_LEN_END) + ROOM,
        };
        match self.content_len {
            len if len <= max => Ok(()),
            len => Err(format!("a block says that it holds {len} bytes, and no more than {max} can be")),
        }
    }

    /// Whether these are the bytes that were written behind the head.
    pub(super) fn is_of(&self, stored: &[u8]) -> bool {
        crc32c::crc32c(stored) == self.checksum
    }

    /// What the bytes behind the head hold.
    pub(super) fn content(&self, stored: &[u8], inflater: &mut Inflater) -> Result<Arc<Vec<u8>>, &'static str> {
        if !self.is_of(stored) {
            return Err("the checksum of a block is another");
        }
        let content = match self.codec {
            AS_IT_IS => Arc::new(stored.to_vec()),
            ZSTD => inflater.inflate(stored, self.content_len).ok_or("a block cannot be inflated")?,
            _ => return Err("a block is compressed in a way that is not known"),
        };
        if content.len() == self.content_len { Ok(content) } else { Err("a block has another length than it says") }
    }
}

/// What inflates blocks, one after the other: making one costs as much as a block, and so does room for what it inflates.
#[derive(Default)]
pub struct Inflater {
    decompressor: Option<Decompressor<'static>>,
    inflated: Pool<Vec<u8>>,
}

/// Room that is made for a block because it says so.
const BELIEVED_MAX: usize = 64 << 20;

/// Room that is kept for the next block; few have more.
const KEPT_MAX: usize = 1 << 20;

impl Inflater {
    /// At most one byte more than is expected, which is enough to see that there is more.
    fn inflate(&mut self, stored: &[u8], expected: usize) -> Option<Arc<Vec<u8>>> {
        if expected > BELIEVED_MAX {
            let mut content = Vec::new();
            let decoder = zstd::stream::read::Decoder::new(stored).ok()?;
            decoder.take(expected as u64 + 1).read_to_end(&mut content).ok()?;
            return Some(Arc::new(content));
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().ok()?),
        };
        let mut inflated = self.inflated.take();
        let content = Arc::get_mut(&mut inflated)?;
        content.clear();
        content.reserve_exact(expected);
        decompressor.decompress_to_buffer(stored, content).ok()?;
        if content.capacity() <= KEPT_MAX {
            self.inflated.keep(&inflated);
        }
        Some(inflated)
    }
}

impl fmt::Debug for Inflater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inflater")
    }
}
