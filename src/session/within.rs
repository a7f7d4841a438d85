//! A message that was torn swallows the next ones: their bytes are taken for its own, and so for the values of a command
//! that has nothing to hide. Here such a one is found by the header that lies within it.
//!
//! Looked for are bytes that only who authenticates sends, behind an opcode. An application that stores recordings of
//! authentications in a database gives such messages too; they pass as all others do, and are not shown.

use super::names;
use crate::bson::walk::split_at_zero;
use crate::wire::{HEADER_LEN, WireError, msg_flags};

/// `OP_MSG` and `OP_QUERY`, as they stand in a header; the first also in an `OP_COMPRESSED`, behind its own opcode.
const MSG: &[u8] = b"\xdd\x07\0\0";
const QUERY: &[u8] = b"\xd4\x07\0\0";
/// The first bytes of the two.
const FIRST: [u8; 2] = *b"\xdd\xd4";
const COMPRESSED: &[u8] = b"\xdc\x07\0\0";

/// The flags of an `OP_MSG`, known or not, but for those where the name of a field would stand if the opcode were a number.
const MSG_FLAGS: u32 = 0xff | msg_flags::EXHAUST_ALLOWED;

/// Fields and sequences of steps of an authentication, which may be all that there is of one.
const FIELDS: [&[u8]; 4] = [b"conversationId", b"payload", b"pwd", b"speculativeAuthenticate"];

/// Makes sure that a message, out of its compression, holds no other message with credentials in it.
///
/// # Errors
/// [`WireError::MessageWithin`] if it does or may: what is compressed is not looked into.
pub(super) fn check(message: &[u8]) -> Result<(), WireError> {
    let (header, body) = message.split_at_checked(HEADER_LEN).unwrap_or_default();
    // Where it says what it inflates to there would be an opcode.
    if header.ends_with(COMPRESSED) {
        return Ok(());
    }
    match opcodes(body).next() {
        Some(first) if has_credentials(body, first) => Err(WireError::MessageWithin),
        _ => Ok(()),
    }
}

/// Where the opcodes stand. Their first bytes are the rarest; every message is looked through: one pass for both.
fn opcodes(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_opcode = |at: &usize| matches!(bytes.get(*at..*at + MSG.len()), Some(MSG | QUERY));
    memchr::memchr2_iter(FIRST[0], FIRST[1], bytes).filter(is_opcode)
}

/// Whether there is a message with credentials. No opcode is before `start`.
#[cold]
fn has_credentials(body: &[u8], start: usize) -> bool {
    let rest = body.get(start..).unwrap_or_default();
    let mut messages = opcodes(rest).filter_map(|at| within(body, start + at).map(|within| (start + at, within)));
    messages.next().is_some_and(|(at, first)| {
        let behind = body.get(at..).unwrap_or_default();
        first == Within::Compressed || names_credentials(behind) || messages.any(|(_, it)| it == Within::Compressed)
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Within {
    Message,
    Compressed,
}

/// What the opcode at a place is one of, if of anything: the same bytes may be a number.
fn within(body: &[u8], at: usize) -> Option<Within> {
    let (before, rest) = body.split_at_checked(at)?;
    if before.ends_with(COMPRESSED) {
        return Some(Within::Compressed);
    }
    let (opcode, rest) = rest.split_first_chunk::<4>()?;
    let (flags, rest) = rest.split_first_chunk()?;
    let is_message = match &opcode[..] {
        MSG => u32::from_le_bytes(*flags) & !MSG_FLAGS == 0 && matches!(rest.first(), None | Some(0 | 1)),
        _ => split_at_zero(rest).is_some_and(|(collection, _)| collection.ends_with(b".$cmd")),
    };
    is_message.then_some(Within::Message)
}

/// Makes sure that what is behind the last field of a document that breaks holds no credentials: a field that is torn is
/// none that is seen.
///
/// # Errors
/// [`WireError::MessageWithin`] if it may.
pub(super) fn check_unread(unread: &[u8]) -> Result<(), WireError> {
    if unread.is_empty() || !names_credentials(unread) { Ok(()) } else { Err(WireError::MessageWithin) }
}

/// Whether the name of a command or a field with credentials stands in bytes that nobody walks over.
fn names_credentials(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == 0).any(ends_with_sensitive)
}

/// Whether a name of a command or a field stands before a zero byte. A command's has its type before it, or is a value.
fn ends_with_sensitive(text: &[u8]) -> bool {
    let behind_type = text.get(1..).unwrap_or_default();
    FIELDS.iter().any(|field| text.ends_with(field)) || names::ends_with_sensitive(behind_type)
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{Compressor, OpMsg, compress};

    fn message(body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        OpMsg::new(0, body).encode(7, 0, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn messages_with_credentials_are_found_in_others() {
        let find = message(rawdoc! { "find": "a", "filter": { "saslStart": "dd07" }, "$db": "a" }.as_bytes());
        let start = message(rawdoc! { "SASLStart": 1, "payload": "secret", "$db": "a" }.as_bytes());
        let next = message(rawdoc! { "conversationId": 1, "payload": "secret", "ok": 1 }.as_bytes());
        let years = rawdoc! { "insert": "a", "year": 2013, "payload": "a", "n": 2012, "y": 2013, "conversationId": 1 };
        let years = message(years.as_bytes());
        let mut compressed = BytesMut::new();
        compress(&start, Compressor::Snappy, &mut compressed).unwrap();
        assert_eq!([&find, &start, &next, &years].map(|it| check(it)), [Ok(()); 4]);
        assert_eq!(check(&compressed), Ok(()));
        assert_eq!(check(&[&find[..], &years[16..]].concat()), Ok(()));
        let other = message(rawdoc! { "find": "saslStart", "filter": { "year": 2013 }, "$db": "a" }.as_bytes());
        for (within, expected) in [
            (&other[..], Ok(())),
            (&start, Err(WireError::MessageWithin)),
            (&next, Err(WireError::MessageWithin)),
            (&compressed, Err(WireError::MessageWithin)),
        ] {
            assert_eq!(check(&[&find[..], within].concat()), expected, "{within:?}");
            // Behind one that is harmless, and torn itself.
            assert_eq!(check(&[&find[..40], &other, &within[..within.len() - 5]].concat()), expected, "{within:?}");
        }
    }
}
