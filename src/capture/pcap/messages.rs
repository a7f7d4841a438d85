//! From one direction's bytes to whole messages, over places where bytes are missing.

use crate::event::Timestamp;
use crate::wire::{HEADER_LEN, Header, MESSAGE_LEN_MAX, OpCode, Reader};

/// A whole message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Message {
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
    /// When its first byte came.
    pub(super) first_byte_at: Timestamp,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pause {
    /// More bytes are wanted.
    Short,
    /// No message begins where one should.
    NoMessage,
}

/// Bytes of one direction that are no whole message yet.
#[derive(Debug, Default)]
pub(super) struct Messages {
    held: Vec<u8>,
    first_byte_at: Timestamp,
    /// What comes first is the end of a message whose beginning is not here.
    skip: u64,
    /// Where the next message begins is not known: at the beginning of some segment.
    searching: bool,
}

impl Messages {
    /// What is held.
    pub(super) fn held(&self) -> &[u8] {
        &self.held
    }

    /// The next message may begin with any segment.
    pub(super) fn search(&mut self) {
        *self = Self { searching: true, ..Self::default() };
    }

    /// Takes bytes that came at `at`.
    pub(super) fn push(&mut self, mut bytes: &[u8], at: Timestamp) {
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
        self.skip -= skipped as u64;
        bytes = bytes.get(skipped..).unwrap_or_default();
        if self.searching && header(bytes).is_none() {
            return;
        }
        if bytes.is_empty() {
            return;
        }
        self.searching = false;
        if self.held.is_empty() {
            self.first_byte_at = at;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Notes that bytes are missing. What began before them is gone; where it would have ended the next one begins.
    pub(super) fn lose(&mut self, missing: u64) {
        let begun = header(&self.held).map(|header| u64::try_from(header.message_length).unwrap_or_default());
        let rest = match begun {
            Some(length) => length.checked_sub(self.held.len() as u64 + missing),
            None if self.held.is_empty() && self.skip > 0 => self.skip.checked_sub(missing),
            None => None,
        };
        match rest {
            Some(rest) => *self = Self { skip: rest, ..Self::default() },
            None => self.search(),
        }
    }

    /// The next whole message; `at` is when the last bytes came.
    pub(super) fn next(&mut self, at: Timestamp) -> Result<Message, Pause> {
        if self.held.len() < HEADER_LEN {
            return Err(Pause::Short);
        }
        let header = header(&self.held).ok_or(Pause::NoMessage)?;
        let length = usize::try_from(header.message_length).unwrap_or(usize::MAX);
        if self.held.len() < length {
            return Err(Pause::Short);
        }
        let rest = self.held.split_off(length);
        let message =
            Message { header, bytes: std::mem::replace(&mut self.held, rest), first_byte_at: self.first_byte_at };
        self.first_byte_at = at;
        Ok(message)
    }
}

/// The header of a message that may begin so.
pub(super) fn header(bytes: &[u8]) -> Option<Header> {
    let header = Header::decode(&mut Reader::new(bytes.get(..HEADER_LEN)?)).ok()?;
    let is_known = !matches!(header.op_code, OpCode::Other(_));
    (is_known && header.checked_len(MESSAGE_LEN_MAX).is_ok()).then_some(header)
}
