//! The opcodes that servers since 5.1 refuse and no current driver sends: `OP_INSERT`, `OP_UPDATE`, `OP_DELETE`,
//! `OP_GET_MORE` and `OP_KILL_CURSORS`. Read and written here for old deployments; `OP_QUERY` and `OP_REPLY`, which are
//! still in use, have files of their own.

use bytes::{BufMut, BytesMut};

use super::{Documents, HEADER_LEN, Header, LengthPrefix, OpCode, Reader, Sequence, WireError};

/// `OP_INSERT` (2002): not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpInsert<'a> {
    /// Bit 0: go on after an error.
    pub flags: i32,
    /// `db.collection`.
    pub full_collection_name: &'a [u8],
    /// The documents, one after the other.
    pub documents: &'a [u8],
}

/// `OP_UPDATE` (2001): not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpUpdate<'a> {
    /// `db.collection`.
    pub full_collection_name: &'a [u8],
    /// Bit 0: upsert; bit 1: multi.
    pub flags: i32,
    /// Which documents.
    pub selector: &'a [u8],
    /// What becomes of them.
    pub update: &'a [u8],
}

/// `OP_DELETE` (2006): not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpDelete<'a> {
    /// `db.collection`.
    pub full_collection_name: &'a [u8],
    /// Bit 0: one document at the most.
    pub flags: i32,
    /// Which documents.
    pub selector: &'a [u8],
}

/// `OP_GET_MORE` (2005).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpGetMore<'a> {
    /// `db.collection`.
    pub full_collection_name: &'a [u8],
    /// Documents wanted.
    pub number_to_return: i32,
    /// The cursor.
    pub cursor_id: i64,
}

/// `OP_KILL_CURSORS` (2007): not answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpKillCursors<'a> {
    /// The cursors' ids, eight bytes each, little-endian.
    pub cursor_ids: &'a [u8],
}

fn body(frame: &[u8]) -> Result<Reader<'_>, WireError> {
    let mut reader = Reader::new(frame);
    reader.take("header", HEADER_LEN)?;
    Ok(reader)
}

fn begin(request_id: i32, op_code: OpCode, dst: &mut BytesMut) -> LengthPrefix {
    let length = LengthPrefix::begin(dst);
    Header::put(request_id, 0, op_code, dst);
    length
}

fn put_cstr(text: &[u8], dst: &mut BytesMut) {
    dst.put_slice(text);
    dst.put_u8(0);
}

impl<'a> OpInsert<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// If it is not a well-formed `OP_INSERT`; so for the other opcodes here.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = body(frame)?;
        let flags = reader.i32_le("flags")?;
        let full_collection_name = reader.cstr("fullCollectionName")?;
        let documents = reader.rest();
        while !reader.is_empty() {
            reader.document("document")?;
        }
        Ok(Self { flags, full_collection_name, documents })
    }

    /// The documents, one by one.
    pub fn iter(&self) -> Documents<'a> {
        Sequence { identifier: b"", documents: self.documents }.iter()
    }

    /// Writes the whole message.
    ///
    /// # Errors
    /// [`WireError::TooLong`]; so for the other opcodes here.
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = begin(request_id, OpCode::Insert, dst);
        dst.put_i32_le(self.flags);
        put_cstr(self.full_collection_name, dst);
        dst.put_slice(self.documents);
        length.finish(dst)
    }
}

impl<'a> OpUpdate<'a> {
    /// Reads a whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = body(frame)?;
        reader.i32_le("ZERO")?;
        let message = Self {
            full_collection_name: reader.cstr("fullCollectionName")?,
            flags: reader.i32_le("flags")?,
            selector: reader.document("selector")?,
            update: reader.document("update")?,
        };
        reader.finish("OP_UPDATE")?;
        Ok(message)
    }

    /// Writes the whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = begin(request_id, OpCode::Update, dst);
        dst.put_i32_le(0);
        put_cstr(self.full_collection_name, dst);
        dst.put_i32_le(self.flags);
        dst.put_slice(self.selector);
        dst.put_slice(self.update);
        length.finish(dst)
    }
}

impl<'a> OpDelete<'a> {
    /// Reads a whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = body(frame)?;
        reader.i32_le("ZERO")?;
        let message = Self {
            full_collection_name: reader.cstr("fullCollectionName")?,
            flags: reader.i32_le("flags")?,
            selector: reader.document("selector")?,
        };
        reader.finish("OP_DELETE")?;
        Ok(message)
    }

    /// Writes the whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = begin(request_id, OpCode::Delete, dst);
        dst.put_i32_le(0);
        put_cstr(self.full_collection_name, dst);
        dst.put_i32_le(self.flags);
        dst.put_slice(self.selector);
        length.finish(dst)
    }
}

impl<'a> OpGetMore<'a> {
    /// Reads a whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = body(frame)?;
        reader.i32_le("ZERO")?;
        let message = Self {
            full_collection_name: reader.cstr("fullCollectionName")?,
            number_to_return: reader.i32_le("numberToReturn")?,
            cursor_id: reader.i64_le("cursorID")?,
        };
        reader.finish("OP_GET_MORE")?;
        Ok(message)
    }

    /// Writes the whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = begin(request_id, OpCode::GetMore, dst);
        dst.put_i32_le(0);
        put_cstr(self.full_collection_name, dst);
        dst.put_i32_le(self.number_to_return);
        dst.put_i64_le(self.cursor_id);
        length.finish(dst)
    }
}

impl<'a> OpKillCursors<'a> {
    /// Reads a whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = body(frame)?;
        reader.i32_le("ZERO")?;
        let length = reader.i32_le("numberOfCursorIDs")?;
        let len = usize::try_from(length).ok().and_then(|count| count.checked_mul(8));
        let cursor_ids =
            reader.take("cursorIDs", len.ok_or(WireError::Length { field: "numberOfCursorIDs", length })?)?;
        reader.finish("OP_KILL_CURSORS")?;
        Ok(Self { cursor_ids })
    }

    /// The cursors' ids.
    pub fn iter(&self) -> impl Iterator<Item = i64> + 'a {
        let (ids, _) = self.cursor_ids.as_chunks::<8>();
        ids.iter().map(|id| i64::from_le_bytes(*id))
    }

    /// Writes the whole message.
    #[expect(clippy::missing_errors_doc, reason = "said at OpInsert")]
    pub fn encode(&self, request_id: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let length = begin(request_id, OpCode::KillCursors, dst);
        dst.put_i32_le(0);
        dst.put_i32_le(i32::try_from(self.cursor_ids.len() / 8).map_err(|_| WireError::TooLong)?);
        dst.put_slice(self.cursor_ids);
        length.finish(dst)
    }
}
