//! The sixteen bytes before every message, and the opcodes in them.

use bytes::{BufMut, BytesMut};

use super::{Reader, WireError};

/// Bytes of a header.
pub const HEADER_LEN: usize = 16;

/// The header of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// Bytes of the whole message, this header included.
    pub message_length: i32,
    /// The sender's number for the message. Any value; it repeats.
    pub request_id: i32,
    /// The `requestID` that a reply answers; 0 in requests.
    pub response_to: i32,
    /// What follows.
    pub op_code: OpCode,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// If there are not 16 bytes. The length is not judged: see [`Header::checked_len`].
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            message_length: reader.i32_le("messageLength")?,
            request_id: reader.i32_le("requestID")?,
            response_to: reader.i32_le("responseTo")?,
            op_code: OpCode::from_i32(reader.i32_le("opCode")?),
        })
    }

    /// The length of the message, if it is one.
    ///
    /// # Errors
    /// [`WireError::MessageLength`] if it is outside 16..=`max`; the stream cannot be resynchronised then.
    pub fn checked_len(&self, max: usize) -> Result<usize, WireError> {
        usize::try_from(self.message_length)
            .ok()
            .filter(|len| (HEADER_LEN..=max).contains(len))
            .ok_or(WireError::MessageLength { length: self.message_length, max })
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let fields = [self.message_length, self.request_id, self.response_to, self.op_code.as_i32()];
        for (to, field) in bytes.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Writes the ids and the opcode; the length before them is the caller's [`LengthPrefix`](super::LengthPrefix).
    pub(super) fn put(request_id: i32, response_to: i32, op_code: OpCode, dst: &mut BytesMut) {
        dst.put_i32_le(request_id);
        dst.put_i32_le(response_to);
        dst.put_i32_le(op_code.as_i32());
    }
}

/// What a message is. Those that servers since 5.1 no longer take are read all the same.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum OpCode {
    /// 1, `OP_REPLY`: the answer to `OP_QUERY` and `OP_GET_MORE`.
    Reply,
    /// 2001, `OP_UPDATE`.
    Update,
    /// 2002, `OP_INSERT`.
    Insert,
    /// 2004, `OP_QUERY`.
    Query,
    /// 2005, `OP_GET_MORE`.
    GetMore,
    /// 2006, `OP_DELETE`.
    Delete,
    /// 2007, `OP_KILL_CURSORS`.
    KillCursors,
    /// 2012, `OP_COMPRESSED`.
    Compressed,
    /// 2013, `OP_MSG`.
    Msg,
    /// Any other.
    Other(i32),
}

impl OpCode {
    /// The opcode of a number.
    pub fn from_i32(code: i32) -> Self {
        match code {
            1 => Self::Reply,
            2001 => Self::Update,
            2002 => Self::Insert,
            2004 => Self::Query,
            2005 => Self::GetMore,
            2006 => Self::Delete,
            2007 => Self::KillCursors,
            2012 => Self::Compressed,
            2013 => Self::Msg,
            other => Self::Other(other),
        }
    }

    /// The number of an opcode.
    pub fn as_i32(self) -> i32 {
        match self {
            Self::Reply => 1,
            Self::Update => 2001,
            Self::Insert => 2002,
            Self::Query => 2004,
            Self::GetMore => 2005,
            Self::Delete => 2006,
            Self::KillCursors => 2007,
            Self::Compressed => 2012,
            Self::Msg => 2013,
            Self::Other(other) => other,
        }
    }
}
