//! Bytes ⇄ messages of the MongoDB wire protocol: one file an opcode, each with what decodes and what encodes it.
//!
//! A message is a slice of the bytes it came in: decoding allocates nothing but a list of document sequences. BSON is
//! not looked into here, only stepped over by its length prefix. There are no sockets and no clock here either; where
//! one message ends in a stream is [`session`](crate::session)'s to find.

#![deny(clippy::indexing_slicing)]

mod header;
mod legacy;
mod message;
mod op_compressed;
mod op_msg;
mod op_query;
mod op_reply;
mod reader;

pub use header::{HEADER_LEN, Header, OpCode};
pub use legacy::{OpDelete, OpGetMore, OpInsert, OpKillCursors, OpUpdate};
pub use message::Message;
pub use op_compressed::{Compressor, OpCompressed, compress};
pub use op_msg::{Documents, OpMsg, Sequence, flags as msg_flags, update_checksum};
pub use op_query::{OpQuery, flags as query_flags};
pub use op_reply::{OpReply, flags as reply_flags};
pub use reader::{LengthPrefix, Reader};

/// The longest message a server takes, `maxMessageSizeBytes` in its `hello`: decimal, not 48 MiB.
pub const MESSAGE_LEN_MAX: usize = 48_000_000;

/// Why bytes could not be read as a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WireError {
    /// Fewer bytes than a field needs.
    #[error("{field} needs {needed} bytes, only {had} left")]
    Short {
        /// The field, by its name in the protocol.
        field: &'static str,
        /// The bytes it needs.
        needed: usize,
        /// The bytes there are.
        had: usize,
    },
    /// A `messageLength` no peer would send: where the next message begins is not known any more.
    #[error("message length {length} is outside 16..={max}")]
    MessageLength {
        /// What the header says.
        length: i32,
        /// The longest that is allowed.
        max: usize,
    },
    /// A string that does not end.
    #[error("{0} has no terminating zero byte")]
    Unterminated(&'static str),
    /// A length or size prefix that cannot be.
    #[error("{field} says {length} bytes, which does not fit")]
    Length {
        /// The field whose prefix it is.
        field: &'static str,
        /// What the prefix says.
        length: i32,
    },
    /// Bytes after the end of what a message can hold.
    #[error("{0} leaves bytes unread at its end")]
    Trailing(&'static str),
    /// An `OP_MSG` section of a kind that is not known.
    #[error("section kind {0} is not known")]
    SectionKind(u8),
    /// An `OP_MSG` has exactly one body.
    #[error("OP_MSG has {0} sections of kind 0 instead of one")]
    Bodies(u8),
    /// Two document sequences, or a sequence and a field, of one name.
    #[error("a document sequence's identifier is there twice")]
    DuplicateIdentifier,
    /// Required flag bits (0 to 15) that are not known: a receiver must refuse them.
    #[error("required flag bits {0:#06x} are not known")]
    FlagBits(u32),
    /// The checksum is not that of the bytes.
    #[error("checksum {found:#010x} should be {computed:#010x}")]
    Checksum {
        /// The one in the message.
        found: u32,
        /// The one its bytes have.
        computed: u32,
    },
    /// Where it should have bytes of its own it has, or may have, those of another message: one of them was torn.
    #[error("another message begins within it")]
    MessageWithin,
    /// `OP_COMPRESSED` inside `OP_COMPRESSED`.
    #[error("OP_COMPRESSED holds another OP_COMPRESSED")]
    NestedCompression,
    /// A compressor id that is not assigned.
    #[error("compressor id {0} is not known")]
    Compressor(u8),
    /// The compressed bytes are not what the compressor writes.
    #[error("{0} data cannot be decompressed")]
    Inflate(&'static str),
    /// The inflated length is not the announced one.
    #[error("inflates to another length than the {announced} bytes announced")]
    InflatedLength {
        /// `uncompressedSize`.
        announced: i32,
    },
    /// The announced length is over the limit.
    #[error("announces {announced} bytes inflated, the limit is {limit}")]
    InflatedTooLong {
        /// `uncompressedSize`.
        announced: i32,
        /// The limit.
        limit: usize,
    },
    /// The opcode is not one of the protocol's.
    #[error("opcode {0} is not known")]
    OpCode(i32),
    /// The first bytes are those of another protocol.
    #[error("the connection begins with {0}, not with a MongoDB message")]
    OtherProtocol(&'static str),
    /// A message that would be longer than its length field can say.
    #[error("message is too long to be written")]
    TooLong,
}
