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
use std::sync::Arc;

use super::exchange::Exchange;
use super::mtap::{Header, Index, Records, write_records};
use crate::redact::Fields;
use crate::redact::fields::Rules;

/// Which values are taken out.
#[derive(Clone, Debug, Default)]
pub struct Masking {
    /// Those of all documents: [`mask`].
    pub values: bool,
    /// Those of the user's own fields.
    pub fields: Option<Arc<Fields>>,
}

impl Masking {
    /// What a header says of it.
    pub fn rules(&self) -> Option<Rules> {
        self.fields.as_ref().map(|fields| fields.rules())
    }

    /// Whether anything is taken out.
    pub fn is_something(&self) -> bool {
        self.values || self.fields.is_some()
    }

    /// Takes them out of an exchange, unless it is of those that drivers have by themselves.
    pub fn exchange(&self, exchange: &mut Exchange) {
        if exchange.is_housekeeping() {
            return;
        }
        if let Some(fields) = &self.fields {
            fields.exchange(&mut exchange.request, exchange.replies.iter_mut().map(|reply| &mut reply.body));
        }
        if self.values {
            exchange.request = mask::request(&exchange.request, exchange.at.unix_micros / 1000);
            for reply in &mut exchange.replies {
                reply.body = mask::reply(&reply.body, reply.at.unix_micros / 1000);
            }
        }
    }
}

/// Records that are gathered to a block: no more is lost with the end of a file that is cut.
const BLOCK_BYTES: usize = 16 << 10;

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
