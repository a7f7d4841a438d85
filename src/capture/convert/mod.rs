//! Recordings made of others: some of their exchanges, with values masked, in another format.
//!
//! [`Selecting`] says what is wanted of a recording, from its exchanges; [`filter_capture`] makes a capture of a capture by
//! that, [`record`] one of a fixture, and [`mask`] takes the values out of documents. A fixture of anything is made by
//! [`collect`](super::fixture::collect).

mod filter;
pub mod mask;
mod record;
mod select;

pub use filter::filter_capture;
pub use record::record;
pub use select::{Filter, Only, Selecting, Selection};

use std::io::{self, Write};

use super::mtap::{Header, Index, Records, write_records};

/// Records that are gathered to a block.
const BLOCK_BYTES: usize = 64 << 10;

/// Writes a capture.
struct CaptureWriter<'w> {
    out: &'w mut dyn Write,
    size: u64,
    index: Index,
    records: Records,
}

impl<'w> CaptureWriter<'w> {
    fn new(header: &Header, out: &'w mut dyn Write) -> io::Result<Self> {
        let bytes = header.to_bytes();
        out.write_all(&bytes)?;
        Ok(Self { out, size: bytes.len() as u64, index: Index::default(), records: Records::default() })
    }

    /// The records of the block that is being gathered.
    fn records(&mut self) -> &mut Records {
        &mut self.records
    }

    /// Writes what was gathered if it is enough for a block.
    fn flush_full(&mut self) -> io::Result<()> {
        if self.records.bytes().len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.records.bytes().is_empty() {
            return Ok(());
        }
        let mut block = Vec::new();
        write_records(&self.records, &mut block);
        self.out.write_all(&block)?;
        self.index.add(self.size, &self.records);
        self.size += block.len() as u64;
        self.records.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        let mut end = Vec::new();
        self.index.write(self.size, &mut end);
        self.out.write_all(&end)
    }
}
