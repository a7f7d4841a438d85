//! The capture (`.mtap`), version 1: what the sessions of a run were given, from which their events are derived again.
//!
//! All numbers are little-endian; *varint* is LEB128, *text* a varint of its bytes and UTF-8. A file is a header, blocks,
//! and if it was closed whole an index and a trailer. It is only ever appended to, each block with one write, so that it
//! can be read while it grows.
//!
//! | header | |
//! |---|---|
//! | 8 bytes | `MTAP\r\n\x1a\n` |
//! | u32 | version: 1 |
//! | u32 | bytes of the document |
//! | u32 | CRC-32C of the version, the length and the document |
//! | document | JSON: [`Header`]. What is not known in it is passed over |
//!
//! | block | |
//! |---|---|
//! | 4 bytes | `mtpb` |
//! | u8 | what it holds: 1 records, 2 the index; a reader passes over any other |
//! | u8 | 0 as it is, 1 a zstd frame |
//! | u16 | 0 |
//! | u32, u32 | bytes that follow this head; bytes of what they hold |
//! | u32 | CRC-32C of the twelve bytes before |
//! | u32 | CRC-32C of the bytes that follow |
//!
//! A record is u8 its kind, u32 the bytes that follow, and those: varint connection (0 for none), u64 monotonic
//! nanoseconds, i64 microseconds since 1970, and what its kind has. A reader passes over kinds that it does not know.
//!
//! | kind | | |
//! |---|---|---|
//! | 1 | opened | text client, upstream, host of the listener; u8 whether there is a port, u16 port; u8 TLS; u8 whether it was opened in an earlier file |
//! | 2 | message | u16 flags (below), what they say, and the rest is the message |
//! | 3 | begun | u8 side; the rest is the first bytes of no whole message |
//! | 4 | sent | what the client had sent has gone on |
//! | 5 | tick | whose connection it is was decided by the time |
//! | 6 | withheld | u8 side, text why |
//! | 7 | closed | u8 by whom (0 client, 1 server, 2 proxy), u8 whether there is an error, text error |
//! | 8 | missing | varint exchanges, varint bytes, text why: they were not recorded. 0 and 0: a file of the recording is not here; what is known of connections ends |
//! | 9 | ended | the run is over |
//! | 10 | judged | u8 whether it was a monitor's connection, by what the client's others told when it was decided by the tick or the end that follows |
//!
//! | flag of a message | if set |
//! |---|---|
//! | 1 | the server sent it, else the client |
//! | 2 | varint nanoseconds from its first byte until it was whole |
//! | 4 | varint nanoseconds from then until it had gone on |
//! | 8 | varint: the exchange that a request begins or a reply ends |
//! | 16 | varint: the exchange that a reply begins, since others follow it |
//! | 32 | these are not its bytes on the wire, but without credentials: i32 its `messageLength` there, u8 its compressor (0 none, 1 noop, 2 snappy, 3 zlib, 4 zstd) |
//! | 64 | with 32: u32 `flagBits`; it could not be read |
//! | 128 | with 32: text why it could not be read; only its header is here |
//!
//! Records of one connection are in order; those of different connections are in order but for [`OUT_OF_ORDER`], and for
//! messages that took longer to understand than that. The index is a list of u64 offset of a block, u64 and u64 the first
//! and the last monotonic time in it and in those up to the next one listed, varint and varint the least and the greatest
//! connection. The trailer, last of all, is the u64 offset of the index's block and `MTAPEND\n`.

mod block;
mod header;
mod index;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::io;
use std::time::Duration;

pub use block::{Inflater, write_records};
pub use header::Header;
pub use index::{Entry as IndexEntry, Index, read_index};
pub use read::{Block, InBlock, Reader, Stored, Torn, block_content, message_at, record_at};
pub use record::{Record, Records};

/// How a capture begins.
pub const MAGIC: &[u8; 8] = b"MTAP\r\n\x1a\n";

/// The format's version that is written, and the latest that is read.
pub const VERSION: u32 = 1;

/// Records may stand so much later in a file than their times say; those of messages that took longer to understand, more.
pub const OUT_OF_ORDER: Duration = Duration::from_millis(500);

/// How a capture ends that was closed whole, behind the offset of its index.
const TRAILER: &[u8; 8] = b"MTAPEND\n";

/// Why a capture cannot be read, or not on.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("not a capture: it does not begin with MTAP")]
    NotACapture,
    /// The file is of a later version.
    #[error("written in version {version} of the format; this build reads up to {VERSION}")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// What is there is not what was written.
    #[error("damaged at byte {offset}: {what}")]
    Damaged {
        /// Where what cannot be read begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
}
