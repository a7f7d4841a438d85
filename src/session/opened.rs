//! What is done to a message before and after it is read: taken out of its compression, shortened, limited.

use std::borrow::Cow;

use super::Limits;
use super::framing::{Content, Frame, is_shortened};
use super::merge::{merged, merged_in};
use super::shorten::{Shortened, Shortener};
use crate::bson::cut::cut;
use crate::event::{Compressor, Document, Truncated};
use crate::wire::{
    HEADER_LEN, Header, MESSAGE_LEN_MAX, Message, OpCode, OpCompressed, OpMsg, Reader, WireError, msg_flags,
};

/// A message that can be decoded, taken out of its compression, and shortened if it is long.
pub(super) struct Opened<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    pub(super) shortened: Option<Shortened>,
    pub(super) compressor: Option<Compressor>,
}

/// The flags of an `OP_MSG` that need not be readable beyond them, compressed or not; 0 for any other message.
pub(super) fn raw_flags(frame: &Frame<'_>) -> u32 {
    if let Some(flags) = frame.flags {
        return flags;
    }
    let Ok(Content { bytes, .. }) = frame.content else { return 0 };
    let field = match OpCompressed::decode(bytes) {
        _ if frame.header.op_code == OpCode::Msg => {
            bytes.get(HEADER_LEN..).and_then(|rest| rest.first_chunk().copied())
        }
        Ok(message) if message.original_op_code == OpCode::Msg => message.first_four_bytes(),
        _ => None,
    };
    field.map_or(0, u32::from_le_bytes)
}

pub(super) fn wire_len(header: &Header) -> u64 {
    u64::try_from(header.message_length).unwrap_or_default()
}

/// The compressed message, if it cannot be read for no other reason than that it is too long to be inflated.
pub(super) fn too_long<'a>(frame: &Frame<'a>, error: WireError) -> Option<OpCompressed<'a>> {
    let bytes = frame.content.ok()?.bytes;
    OpCompressed::decode(bytes).ok().filter(|_| matches!(error, WireError::InflatedTooLong { .. }))
}

/// The event's document for a compressed message that is not inflated.
pub(super) fn unseen(compressed: &OpCompressed<'_>) -> Document<'static> {
    let bytes = u64::try_from(compressed.uncompressed_size).unwrap_or_default();
    Document::cut(crate::event::EMPTY, Some(Truncated { bytes, elements: 0 }))
}

/// Takes a message out of its compression and shortens it if its documents may be too long.
pub(super) fn open<'a>(
    frame: &Frame<'_>,
    content: Content<'a>,
    limits: &Limits,
    inflated: &'a mut Vec<u8>,
) -> Result<Opened<'a>, WireError> {
    let Content { bytes, shortened } = content;
    if frame.header.op_code != OpCode::Compressed {
        return Ok(Opened { bytes: Cow::Borrowed(bytes), shortened, compressor: frame.compressor });
    }
    let compressed = OpCompressed::decode(bytes)?;
    compressed.inflate(&frame.header, limits.inflate_max_bytes, inflated)?;
    let compressor = Some(compressed.compressor);
    let inner = Header::decode(&mut Reader::new(inflated))?;
    if !is_shortened(inner.op_code, inflated.len(), limits) {
        return Ok(Opened { bytes: Cow::Borrowed(inflated), shortened: None, compressor });
    }
    let mut shortener = Shortener::new(inner, inflated.len(), limits.max_document_bytes);
    shortener.push(inflated);
    let (bytes, shortened) = shortener.finish()?;
    Ok(Opened { bytes: Cow::Owned(bytes), shortened: Some(shortened), compressor })
}

/// The document of an `OP_MSG`, compressed or not, sequences merged in; `None` if the message cannot be read or is
/// another one.
pub(crate) fn document_of(message: &[u8]) -> Option<Vec<u8>> {
    op_msg_document(message, MESSAGE_LEN_MAX, u32::MAX, &mut Vec::new()).map(<[u8]>::to_vec)
}

/// The same of a message that asks for one answer, or is the only one, and has no more than so many bytes inflated. One
/// that is not there as it is is made in `room`.
pub(crate) fn plain_document<'a>(message: &'a [u8], inflate_max: usize, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    op_msg_document(message, inflate_max, msg_flags::CHECKSUM_PRESENT, room)
}

fn op_msg_document<'a>(
    message: &'a [u8],
    inflate_max: usize,
    flags_allowed: u32,
    room: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    let is_allowed = |message: &OpMsg<'_>| message.flags & !flags_allowed == 0;
    let (header, decoded) = Message::decode(message).ok()?;
    match decoded {
        Message::Msg(message) => is_allowed(&message).then(|| merged_in(&message, room)),
        Message::Compressed(compressed) => {
            let mut inflated = Vec::new();
            compressed.inflate(&header, inflate_max, &mut inflated).ok()?;
            match Message::decode(&inflated).ok()? {
                (_, Message::Msg(message)) if is_allowed(&message) => {
                    let document = merged(&message).into_owned();
                    *room = document;
                    Some(room)
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// A document no longer than the limit; one that was shortened already is left as it is.
pub(super) fn limited<'a>(document: Cow<'a, [u8]>, shortened: Option<Shortened>, limits: &Limits) -> Document<'a> {
    let left_out = shortened.map(|shortened| shortened.truncated).filter(|truncated| truncated.bytes > 0);
    let limit = limits.max_document_bytes;
    if left_out.is_none()
        && limit != 0
        && document.len() > limit
        && let Some(cut) = cut(&document, limit)
    {
        return Document::cut(cut.bytes, cut.truncated);
    }
    Document::cut(document, left_out)
}
