//! Reading and writing primitives: a reader that only shrinks, and a length prefix that cannot be forgotten.

use bytes::{BufMut, BytesMut};

use super::WireError;

/// A slice that is read from its front. Each read names the field it is for, so that an error can.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of all of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`] if there are fewer; so for all the methods that follow.
    pub fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let short = WireError::Short { field, needed: len, had: self.rest.len() };
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], WireError> {
        let short = WireError::Short { field, needed: N, had: self.rest.len() };
        let (taken, rest) = self.rest.split_first_chunk().ok_or(short)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.array(field).map(|[byte]| byte)
    }

    /// A little-endian `int32`.
    pub fn i32_le(&mut self, field: &'static str) -> Result<i32, WireError> {
        self.array(field).map(i32::from_le_bytes)
    }

    /// A little-endian `uint32`.
    pub fn u32_le(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A little-endian `int64`.
    pub fn i64_le(&mut self, field: &'static str) -> Result<i64, WireError> {
        self.array(field).map(i64::from_le_bytes)
    }

    /// A zero-terminated string, without its zero. Not checked to be UTF-8.
    pub fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let end = memchr::memchr(0, self.rest).ok_or(WireError::Unterminated(field))?;
        let taken = self.take(field, end)?;
        self.take(field, 1)?;
        Ok(taken)
    }

    /// A BSON document, by its own length prefix; what is in it is not looked at.
    pub fn document(&mut self, field: &'static str) -> Result<&'a [u8], WireError> {
        let length = Reader::new(self.rest).i32_le(field)?;
        let len = usize::try_from(length).unwrap_or(0);
        // int32 length and the terminating zero are the least a document has.
        if len < 5 {
            return Err(WireError::Length { field, length });
        }
        let document = self.take(field, len)?;
        if document.last() != Some(&0) {
            return Err(WireError::Unterminated(field));
        }
        Ok(document)
    }

    /// A reader of the next `len` bytes alone, which cannot read past them.
    pub fn sub(&mut self, field: &'static str, len: usize) -> Result<Self, WireError> {
        self.take(field, len).map(Reader::new)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// [`WireError::Trailing`] if anything is left.
    pub fn finish(self, whole: &'static str) -> Result<(), WireError> {
        if self.rest.is_empty() { Ok(()) } else { Err(WireError::Trailing(whole)) }
    }
}

/// An `int32` length that counts itself and what is written after it, filled in at the end.
#[derive(Debug)]
#[must_use = "the length is written by finish"]
pub struct LengthPrefix {
    start: usize,
}

impl LengthPrefix {
    /// Leaves room for the length at the end of `dst`.
    pub fn begin(dst: &mut BytesMut) -> Self {
        let start = dst.len();
        dst.put_i32_le(0);
        Self { start }
    }

    /// Writes the length of everything since [`begin`](Self::begin).
    ///
    /// # Errors
    /// [`WireError::TooLong`] if an `int32` cannot say it.
    pub fn finish(self, dst: &mut BytesMut) -> Result<(), WireError> {
        let len = i32::try_from(dst.len() - self.start).map_err(|_| WireError::TooLong)?;
        if let Some(field) = dst.get_mut(self.start..self.start + 4) {
            field.copy_from_slice(&len.to_le_bytes());
        }
        Ok(())
    }
}
