//! A BSON document of an event: raw bytes, perhaps cut.

use std::borrow::Cow;

use bson::raw::{RawDocument, RawDocumentBuf};

pub use crate::bson::cut::Truncated;

/// A command, a reply or a failure, as BSON.
///
/// The bytes are as they were on the wire, with an `OP_MSG`'s document sequences merged in as arrays. They are
/// well-formed as far as their lengths go; values inside may still be invalid (say, a string that is not UTF-8).
#[derive(Clone, Debug, PartialEq)]
pub struct Document<'a> {
    bytes: Cow<'a, [u8]>,
    truncated: Option<Truncated>,
}

/// The five bytes of a document without fields.
pub(crate) const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

impl<'a> Document<'a> {
    /// A whole document.
    pub fn new(bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { bytes: bytes.into(), truncated: None }
    }

    /// What is left of a document that was cut.
    pub fn cut(bytes: impl Into<Cow<'a, [u8]>>, truncated: Option<Truncated>) -> Self {
        Self { bytes: bytes.into(), truncated }
    }

    /// `{}`.
    pub fn empty() -> Self {
        Self::new(EMPTY)
    }

    /// The BSON bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, without a copy if the document has its own.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes.into_owned()
    }

    /// What was left out; `None` if nothing was.
    pub fn truncated(&self) -> Option<Truncated> {
        self.truncated
    }

    /// The document for reading by key.
    ///
    /// # Errors
    /// If the bytes' own length does not fit them, which a document made from the wire never has.
    pub fn raw(&self) -> bson::error::Result<&RawDocument> {
        RawDocument::from_bytes(&self.bytes)
    }

    /// The same document with its own copy of the bytes.
    pub fn into_owned(self) -> Document<'static> {
        Document { bytes: Cow::Owned(self.bytes.into_owned()), truncated: self.truncated }
    }
}

impl From<RawDocumentBuf> for Document<'static> {
    fn from(document: RawDocumentBuf) -> Self {
        Self::new(document.into_bytes())
    }
}
