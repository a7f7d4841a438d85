//! `OP_REPLY` (1): the answer to `OP_QUERY` and `OP_GET_MORE`.

use bytes::{BufMut, BytesMut};

use super::{Documents, HEADER_LEN, Header, LengthPrefix, OpCode, Reader, Sequence, WireError};

/// The flag bits.
pub mod flags {
    /// The cursor of an `OP_GET_MORE` is not there.
    pub const CURSOR_NOT_FOUND: i32 = 1;
    /// The query failed; the one document has `$err`.
    pub const QUERY_FAILURE: i32 = 1 << 1;
    /// The server knows `awaitData`.
    pub const AWAIT_CAPABLE: i32 = 1 << 3;
}

/// A decoded `OP_REPLY`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpReply<'a> {
    /// See [`flags`].
    pub flags: i32,
    /// The cursor, 0 if there is none to go on with.
    pub cursor_id: i64,
    /// Where in the cursor this batch begins.
    pub starting_from: i32,
    /// How many documents there are.
    pub number_returned: i32,
    /// The documents, one after the other.
    pub documents: &'a [u8],
}

impl<'a> OpReply<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// If it is not a well-formed `OP_REPLY`.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame);
        reader.take("header", HEADER_LEN)?;
        let message = Self {
            flags: reader.i32_le("responseFlags")?,
            cursor_id: reader.i64_le("cursorID")?,
            starting_from: reader.i32_le("startingFrom")?,
            number_returned: reader.i32_le("numberReturned")?,
            documents: reader.rest(),
        };
        while !reader.is_empty() {
            reader.document("reply document")?;
        }
        Ok(message)
    }

    /// The documents, one by one.
    pub fn iter(&self) -> Documents<'a> {
        Sequence { identifier: b"", documents: self.documents }.iter()
    }

    /// Writes the whole message.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self, request_id: i32, response_to: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = LengthPrefix::begin(dst);
        Header::put(request_id, response_to, OpCode::Reply, dst);
        dst.put_i32_le(self.flags);
        dst.put_i64_le(self.cursor_id);
        dst.put_i32_le(self.starting_from);
        dst.put_i32_le(self.number_returned);
        dst.put_slice(self.documents);
        length.finish(dst)
    }
}
