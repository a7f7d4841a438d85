//! `OP_QUERY` (2004): how drivers before 2026 say their first `isMaster`, and how everything was asked before `OP_MSG`.

use bytes::{BufMut, BytesMut};

use super::{HEADER_LEN, Header, LengthPrefix, OpCode, Reader, WireError};

/// The flag bits.
pub mod flags {
    /// The cursor stays open at the end of a capped collection.
    pub const TAILABLE: i32 = 1 << 1;
    /// A secondary may answer.
    pub const SECONDARY_OK: i32 = 1 << 2;
    /// Without a time-out of the cursor.
    pub const NO_CURSOR_TIMEOUT: i32 = 1 << 4;
    /// A tailable cursor waits for data.
    pub const AWAIT_DATA: i32 = 1 << 5;
    /// All batches are to be sent unasked.
    pub const EXHAUST: i32 = 1 << 6;
    /// Partial results are welcome where shards are down.
    pub const PARTIAL: i32 = 1 << 7;
}

/// A decoded `OP_QUERY`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpQuery<'a> {
    /// See [`flags`].
    pub flags: i32,
    /// `db.collection`; `db.$cmd` for a command.
    pub full_collection_name: &'a [u8],
    /// Documents to skip.
    pub number_to_skip: i32,
    /// Documents wanted in the first batch; negative or 1 for a single batch.
    pub number_to_return: i32,
    /// The query, or the command.
    pub query: &'a [u8],
    /// The projection.
    pub return_fields_selector: Option<&'a [u8]>,
}

impl<'a> OpQuery<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// If it is not a well-formed `OP_QUERY`.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame);
        reader.take("header", HEADER_LEN)?;
        let message = Self {
            flags: reader.i32_le("flags")?,
            full_collection_name: reader.cstr("fullCollectionName")?,
            number_to_skip: reader.i32_le("numberToSkip")?,
            number_to_return: reader.i32_le("numberToReturn")?,
            query: reader.document("query")?,
            return_fields_selector: if reader.is_empty() {
                None
            } else {
                Some(reader.document("returnFieldsSelector")?)
            },
        };
        reader.finish("OP_QUERY")?;
        Ok(message)
    }

    /// Writes the whole message.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = LengthPrefix::begin(dst);
        Header::put(request_id, 0, OpCode::Query, dst);
        dst.put_i32_le(self.flags);
        dst.put_slice(self.full_collection_name);
        dst.put_u8(0);
        dst.put_i32_le(self.number_to_skip);
        dst.put_i32_le(self.number_to_return);
        dst.put_slice(self.query);
        dst.put_slice(self.return_fields_selector.unwrap_or_default());
        length.finish(dst)
    }
}
