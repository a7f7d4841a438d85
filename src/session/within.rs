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
/// The second byte of the two.
const SECOND: u8 = 7;
const COMPRESSED: &[u8] = b"\xdc\x07\0\0";

/// The flags of an `OP_MSG`, known or not, but for those where the name of a field would stand if the opcode were a number.
const MSG_FLAGS: u32 = 0xff | msg_flags::EXHAUST_ALLOWED;

/// The longest name that commands of an `OP_QUERY` are sent to: a database's, `.$cmd` and the zero byte.
const COLLECTION_MAX: usize = 63 + 6;

/// As far as anything reaches that is looked for: an opcode behind another, the flags and the collection behind it.
const REACH: usize = 4 + 8 + COLLECTION_MAX;

/// As many bytes are looked at together for the ends of names.
const BLOCK: usize = 256;

/// Makes sure that a message, out of its compression, holds no other message with credentials in it.
///
/// # Errors
/// [`WireError::MessageWithin`] if it does or may: what is compressed is not looked into.
pub(super) fn check(message: &[u8]) -> Result<(), WireError> {
    let (header, body) = message.split_at_checked(HEADER_LEN).unwrap_or_default();
    // Where it says what it inflates to there would be an opcode.
    if header.ends_with(COMPRESSED) || opcodes(body).next().is_none() {
        return Ok(());
    }
    let mut search = Search::default();
    search.push(body);
    search.check()
}

/// Where the opcodes stand. Every message is looked through, for one byte: the second is rarer than a zero, and than the
/// first in text that is not English.
fn opcodes(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let is_opcode = |at: &usize| matches!(bytes.get(*at..*at + MSG.len()), Some(MSG | QUERY));
    memchr::memchr_iter(SECOND, bytes).filter_map(|at| at.checked_sub(1)).filter(is_opcode)
}

/// Looks for a message with credentials in what is behind the header of another. That may come in pieces of any length,
/// and nothing of it need be kept.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// The last bytes that came, for what begins in them.
    tail: Vec<u8>,
    found: Found,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Found {
    #[default]
    Nothing,
    /// A message, so far without credentials.
    Message,
    Credentials,
}

impl Search {
    /// Takes the next piece.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.found == Found::Credentials {
            return;
        }
        let mut tail = std::mem::take(&mut self.tail);
        let had = tail.len();
        tail.extend_from_slice(bytes.get(..REACH).unwrap_or(bytes));
        let start = self.look_through(&tail);
        if bytes.len() <= REACH {
            tail.drain(..start.max(tail.len().saturating_sub(REACH)));
        } else {
            let rest = bytes.get(start.saturating_sub(had)..).unwrap_or_default();
            let start = self.look_through(rest).max(rest.len().saturating_sub(REACH));
            tail.clear();
            tail.extend_from_slice(rest.get(start..).unwrap_or_default());
        }
        self.tail = tail;
    }

    /// What was found in all of it.
    ///
    /// # Errors
    /// [`WireError::MessageWithin`] if there are credentials or may be: what is compressed is not looked into.
    pub(super) fn check(&self) -> Result<(), WireError> {
        if self.found == Found::Credentials { Err(WireError::MessageWithin) } else { Ok(()) }
    }

    /// Where the bytes begin that count: only what is behind a message's opcode is its.
    fn look_through(&mut self, bytes: &[u8]) -> usize {
        let first = || opcodes(bytes).find_map(|at| within(bytes, at).map(|it| (at, it)));
        let start = match self.found {
            Found::Nothing => match first() {
                Some((at, Within::Message)) => at,
                Some((_, Within::Compressed)) => {
                    self.found = Found::Credentials;
                    return 0;
                }
                None => return 0,
            },
            Found::Message => 0,
            Found::Credentials => return 0,
        };
        let behind = bytes.get(start..).unwrap_or_default();
        let is_compressed = |at| within(behind, at) == Some(Within::Compressed);
        let is_concealed = names_credentials(behind) || opcodes(behind).any(is_compressed);
        self.found = if is_concealed { Found::Credentials } else { Found::Message };
        start
    }
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
        MSG => u32::from_le_bytes(*flags) & !MSG_FLAGS == 0 && matches!(rest.first(), Some(0 | 1)),
        _ => {
            let rest = rest.get(..COLLECTION_MAX).unwrap_or(rest);
            split_at_zero(rest).is_some_and(|(collection, _)| collection.ends_with(b".$cmd"))
        }
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
    ends_of_names(bytes).any(|at| ends_with_sensitive(bytes.get(..=at).unwrap_or_default()))
}

/// Where the last letter of such a name stands before a zero. There may be many bytes, most of them zeros: a block that has
/// none is passed over, all of its bytes looked at together.
fn ends_of_names(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let ends = |(last, zero): (&u8, &u8)| (*zero == 0) & matches!(*last | 0x20, b'b' | b'd' | b'e' | b'r' | b't');
    (0..bytes.len()).step_by(BLOCK).flat_map(move |start| {
        let block = bytes.get(start..).map(|rest| rest.get(..=BLOCK).unwrap_or(rest)).unwrap_or_default();
        let pairs = block.iter().zip(block.iter().skip(1));
        let block_end = if pairs.clone().fold(false, |any, pair| any | ends(pair)) { block.len() } else { 0 };
        pairs.take(block_end).enumerate().filter(move |(_, pair)| ends(*pair)).map(move |(at, _)| start + at)
    })
}

/// Whether a name of a command or a field stands before a zero byte. A command's has its type before it, or is a value; a
/// field's may be all that there is of a step of an authentication. `speculativeAuthenticate` ends with a command's name.
fn ends_with_sensitive(text: &[u8]) -> bool {
    match text.last_chunk::<3>() {
        Some(b"pwd") => true,
        Some(b"oad") => text.ends_with(b"payload"),
        Some(b"nId") => text.ends_with(b"conversationId"),
        _ => names::ends_with_sensitive(text),
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;
    use bytes::BytesMut;
    use proptest::prelude::*;

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
            let torn = [&find[..40], &other, &within[..within.len() - 5]].concat();
            assert_eq!(check(&torn), expected, "{within:?}");
            // Far behind, in pieces.
            let torn = [&[1; 300][..], &torn[16..], &[1; 300]].concat();
            for length in [1, 2, 7, 100, REACH, REACH + 1, 200] {
                let mut search = Search::default();
                torn.chunks(length).for_each(|piece| search.push(piece));
                assert_eq!(search.check(), expected, "{within:?}, in pieces of {length}");
            }
        }
    }

    /// A message of zeros may be inflated from next to nothing: nothing in it must be compared with names.
    #[test]
    fn zeros_are_not_asked_about() {
        for part in [&b"\0"[..], b"\x10a\0\x01\0\0\0", b"text"] {
            assert_eq!(ends_of_names(&part.repeat(1000)).next(), None, "{part:?}");
        }
        let places: Vec<_> = ends_of_names(&b"\x02pwd\0".repeat(1000)).collect();
        assert_eq!(places, (0..1000).map(|at| 5 * at + 3).collect::<Vec<_>>());
    }

    /// Where a name stands, it is found: at the ends of blocks too, and at those of the bytes.
    #[test]
    fn names_are_found_wherever_they_stand() {
        let fields = [&b"\x02pwd\0"[..], b"payload\0", b"\x10conversationId\0", b"\x03speculativeAuthenticate\0"];
        for name in fields.into_iter().chain([&b"\x10SaslStart\0"[..]]) {
            for before in (0..20).chain(BLOCK - 20..BLOCK + 20) {
                for after in [0, 1, 300] {
                    let bytes = [&vec![b'x'; before], name, &vec![b'd'; after]].concat();
                    assert!(names_credentials(&bytes), "{before}, {after}");
                    assert!(!names_credentials(&bytes[..before + name.len() - 1]), "{before}");
                }
            }
        }
        assert!(!names_credentials(b"\x10\0\0\0saslStart\0"));
    }

    /// What is looked for, and bytes that look like it, in any order.
    fn like_messages() -> impl Strategy<Value = Vec<u8>> {
        let parts: [&'static [u8]; 14] = [
            b"\xdd\x07\0\0\0\0\x01\0\0",
            b"\xd4\x07\0\0\0\0\0\0admin.$cmd\0",
            MSG,
            QUERY,
            COMPRESSED,
            b"\0\0\0\0",
            b"\0",
            b"\x10SaslStart\0",
            b"saslStart\0",
            b"\x02payload\0",
            b"pwd",
            b"admin.$cmd\0",
            &[0xdd; 30],
            &[b'x'; 70],
        ];
        proptest::collection::vec(proptest::sample::select(parts.to_vec()), 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn pieces_of_any_length_give_the_same(bytes in like_messages(), length in 1_usize..200, before in 0_usize..200) {
            let body = [&vec![1; before][..], &bytes].concat();
            let mut search = Search::default();
            body.chunks(length).for_each(|piece| search.push(piece));
            prop_assert_eq!(search.check(), check(&[&[0; HEADER_LEN][..], &body].concat()));
        }
    }
}
