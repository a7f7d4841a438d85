//! An `OP_MSG` too long to be kept, shortened while it passes.
//!
//! What comes out is an `OP_MSG` that says less: the same flags (but the checksum's), the same sections in their order,
//! each document cut as [`bson::cut`](crate::bson::cut) has it, all of them sharing one limit. Documents of a sequence
//! beyond the limit are stepped over by their length prefix. What the message says of itself that is lost by cutting,
//! how many documents a batch has, is counted here.

use super::within::Search;
use crate::bson::cut::Cutter;
use crate::event::Truncated;
use crate::wire::{HEADER_LEN, Header, WireError, msg_flags};

/// What was left out of a message, and what would have been counted in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Shortened {
    pub(super) truncated: Truncated,
    /// Documents in the batch of a cursor.
    pub(super) batch: Option<u64>,
    /// Entries of `writeErrors`.
    pub(super) write_errors: Option<u64>,
    /// The body's first element is not there: which command this is cannot be told.
    pub(super) nameless: bool,
}

/// The machine: bytes in, in any pieces; a shorter message out.
#[derive(Debug)]
pub(super) struct Shortener {
    header: Header,
    /// Bytes of the message still to come.
    remaining: usize,
    /// What the documents to come may take.
    budget: usize,
    state: State,
    /// A field that is not whole yet.
    partial: Vec<u8>,
    out: Vec<u8>,
    flags: u32,
    checksum: Checksum,
    shortened: Shortened,
    /// What is left out is looked through like what is kept: that may belong to a message that began far before it.
    search: Search,
}

#[derive(Debug)]
enum State {
    Header,
    Flags,
    SectionKind,
    Body(Cutter),
    SequenceSize,
    SequenceIdentifier {
        left: usize,
        section: usize,
    },
    /// Between two documents of a sequence.
    DocumentLength {
        left: usize,
        section: usize,
    },
    Document {
        left: usize,
        section: usize,
        cutter: Cutter,
    },
    SkippedDocument {
        left: usize,
        section: usize,
        skip: usize,
    },
    Checksum,
    Failed(WireError),
}

#[derive(Debug)]
struct Checksum {
    present: bool,
    computed: u32,
}

/// No identifier is longer; a message with one that is cannot be read.
const IDENTIFIER_LEN_MAX: usize = 1024;

/// Room that is made for what is kept before anything of it has come.
const ROOM_MAX: usize = 16 << 10;

const MALFORMED: WireError = WireError::Length { field: "document", length: 0 };

impl Shortener {
    /// For the message of this header, `len` bytes long, whose documents may keep `budget` bytes together.
    pub(super) fn new(header: Header, len: usize, budget: usize) -> Self {
        Self {
            header,
            remaining: len,
            budget,
            state: State::Header,
            partial: Vec::new(),
            out: Vec::with_capacity(len.min(budget).min(ROOM_MAX)),
            flags: 0,
            checksum: Checksum { present: false, computed: 0 },
            shortened: Shortened::default(),
            search: Search::default(),
        }
    }

    pub(super) fn header(&self) -> Header {
        self.header
    }

    /// The flags, once they have passed; 0 before.
    pub(super) fn flags(&self) -> u32 {
        self.flags
    }

    /// Bytes of the message still to come.
    pub(super) fn remaining(&self) -> usize {
        self.remaining
    }

    /// Whether the whole message has passed.
    pub(super) fn is_done(&self) -> bool {
        self.remaining == 0
    }

    /// Takes the bytes that are the message's from the front of `chunk`, and says how many those were.
    pub(super) fn push(&mut self, chunk: &[u8]) -> usize {
        let mine = chunk.get(..self.remaining.min(chunk.len())).unwrap_or_default();
        self.search.push(match self.state {
            State::Header => mine.get(HEADER_LEN - self.partial.len()..).unwrap_or_default(),
            _ => mine,
        });
        let mut rest = mine;
        while !rest.is_empty() {
            // Known only once the flags are read: see `on_flags` for what is before.
            let is_covered = self.checksum.present && !matches!(self.state, State::Checksum);
            match self.step(rest) {
                Ok(taken) => {
                    if is_covered {
                        let covered = rest.get(..taken).unwrap_or_default();
                        self.checksum.computed = crc32c::crc32c_append(self.checksum.computed, covered);
                    }
                    rest = rest.get(taken..).unwrap_or_default();
                    self.remaining -= taken;
                }
                Err(error) => self.state = State::Failed(error),
            }
        }
        mine.len()
    }

    /// The shorter message and what is not in it.
    ///
    /// # Errors
    /// If it cannot be read, or holds another message with credentials in it, shown or left out.
    pub(super) fn finish(mut self) -> Result<(Vec<u8>, Shortened), WireError> {
        match self.state {
            // A checksum that was announced is the message's end.
            State::SectionKind if !self.checksum.present => {}
            State::Checksum => self.verify()?,
            State::Failed(error) => return Err(error),
            _ => return Err(WireError::Length { field: "messageLength", length: self.header.message_length }),
        }
        // What cannot be read shows nothing, and how much of it was looked through says nothing.
        self.search.check()?;
        self.patch(0, self.out.len());
        Ok((self.out, self.shortened))
    }

    /// Goes one field further; how many bytes of `rest`, which is not empty, that took.
    fn step(&mut self, rest: &[u8]) -> Result<usize, WireError> {
        match &mut self.state {
            State::Header => self.field(rest, HEADER_LEN, Self::on_header),
            State::Flags => self.field(rest, 4, Self::on_flags),
            State::SectionKind if self.checksum.present && self.remaining == 4 => {
                self.state = State::Checksum;
                Ok(0)
            }
            State::SectionKind => self.field(rest, 1, Self::on_section_kind),
            State::Body(cutter) => {
                let taken = cutter.push(rest).map_err(|_| MALFORMED)?;
                if cutter.is_complete() {
                    self.end_body()?;
                }
                Ok(taken)
            }
            State::SequenceSize => self.field(rest, 4, Self::on_sequence_size),
            State::SequenceIdentifier { .. } => self.on_identifier(rest),
            State::DocumentLength { left, section } => {
                let (left, section) = (*left, *section);
                match self.whole_documents(rest, left) {
                    0 => self.field(rest, 4, Self::on_document_length),
                    taken => {
                        self.next_document(left - taken, section);
                        Ok(taken)
                    }
                }
            }
            State::Document { cutter, left, .. } => {
                let taken = cutter.push(rest).map_err(|_| MALFORMED)?;
                *left = left.checked_sub(taken).ok_or(MALFORMED)?;
                if cutter.is_complete() {
                    self.end_document()?;
                }
                Ok(taken)
            }
            State::SkippedDocument { skip, left, section } => {
                let taken = rest.len().min(*skip);
                *skip -= taken;
                *left = left.checked_sub(taken).ok_or(MALFORMED)?;
                if *skip == 0 {
                    let (left, section) = (*left, *section);
                    self.next_document(left, section);
                }
                Ok(taken)
            }
            State::Checksum => self.field(rest, 4, |_, _| Ok(())),
            State::Failed(_) => Ok(rest.len()),
        }
    }

    /// Collects a field of `len` bytes and hands it on when it is whole.
    fn field(
        &mut self,
        rest: &[u8],
        len: usize,
        whole: fn(&mut Self, &[u8]) -> Result<(), WireError>,
    ) -> Result<usize, WireError> {
        // Mostly it is there as a whole.
        if let Some(field) = rest.get(..len).filter(|_| self.partial.is_empty()) {
            if matches!(self.state, State::Checksum) {
                self.partial.extend_from_slice(field);
            } else {
                whole(self, field)?;
            }
            return Ok(len);
        }
        let wanted = len.saturating_sub(self.partial.len()).min(rest.len());
        self.partial.extend_from_slice(rest.get(..wanted).unwrap_or_default());
        if self.partial.len() == len {
            let field = std::mem::take(&mut self.partial);
            if matches!(self.state, State::Checksum) {
                self.partial = field;
            } else {
                whole(self, &field)?;
            }
        }
        Ok(wanted)
    }

    fn on_header(&mut self, field: &[u8]) -> Result<(), WireError> {
        self.out.extend_from_slice(field);
        self.state = State::Flags;
        Ok(())
    }

    fn on_flags(&mut self, field: &[u8]) -> Result<(), WireError> {
        let flags = number(field) as u32;
        self.flags = flags;
        self.checksum.present = flags & msg_flags::CHECKSUM_PRESENT != 0;
        if self.checksum.present {
            self.checksum.computed = crc32c::crc32c_append(crc32c::crc32c(&self.out), field);
        }
        self.out.extend_from_slice(&(flags & !msg_flags::CHECKSUM_PRESENT).to_le_bytes());
        self.state = State::SectionKind;
        Ok(())
    }

    fn on_section_kind(&mut self, field: &[u8]) -> Result<(), WireError> {
        self.out.extend_from_slice(field);
        self.state = match field {
            [0] => State::Body(Cutter::new(self.budget)),
            [1] => State::SequenceSize,
            [kind, ..] => return Err(WireError::SectionKind(*kind)),
            [] => return Err(MALFORMED),
        };
        Ok(())
    }

    fn end_body(&mut self) -> Result<(), WireError> {
        let State::Body(cutter) = std::mem::replace(&mut self.state, State::SectionKind) else { return Err(MALFORMED) };
        let cut = cutter.finish().map_err(|_| MALFORMED)?;
        self.out.extend_from_slice(&cut.bytes);
        self.budget = cut.budget_left;
        self.leave_out(cut.truncated);
        self.shortened.nameless = cut.first_left_out;
        self.shortened.batch = self.shortened.batch.or(cut.counts.batch);
        self.shortened.write_errors = self.shortened.write_errors.or(cut.counts.write_errors);
        Ok(())
    }

    fn on_sequence_size(&mut self, field: &[u8]) -> Result<(), WireError> {
        let length = number(field);
        let wrong = WireError::Length { field: "sequence size", length };
        let left = usize::try_from(length).ok().and_then(|len| len.checked_sub(4)).ok_or(wrong)?;
        let section = self.out.len();
        self.out.extend_from_slice(field);
        self.state = State::SequenceIdentifier { left, section };
        Ok(())
    }

    fn on_identifier(&mut self, rest: &[u8]) -> Result<usize, WireError> {
        let State::SequenceIdentifier { left, section } = self.state else { return Err(MALFORMED) };
        let end = memchr::memchr(0, rest);
        let taken = end.map_or(rest.len(), |end| end + 1);
        let left = left.checked_sub(taken).ok_or(WireError::Unterminated("sequence identifier"))?;
        self.out.extend_from_slice(rest.get(..taken).unwrap_or_default());
        if self.out.len() - section > IDENTIFIER_LEN_MAX {
            return Err(WireError::Unterminated("sequence identifier"));
        }
        match end {
            Some(_) => self.next_document(left, section),
            None => self.state = State::SequenceIdentifier { left, section },
        }
        Ok(taken)
    }

    fn next_document(&mut self, left: usize, section: usize) {
        if left > 0 {
            self.state = State::DocumentLength { left, section };
            return;
        }
        self.patch(section, self.out.len() - section);
        self.state = State::SectionKind;
    }

    /// Keeps or leaves out the documents of a sequence that are there whole, up to the first that has to be cut; how many
    /// bytes of `rest` they are, no more than `left`.
    fn whole_documents(&mut self, rest: &[u8], left: usize) -> usize {
        let mut taken = 0;
        if !self.partial.is_empty() {
            return taken;
        }
        let documents = rest.get(..left).unwrap_or(rest);
        while let Some(behind) = documents.get(taken..)
            && let Ok(len) = usize::try_from(number(behind))
            && let Some(document) = behind.get(..len).filter(|_| len >= 5)
        {
            if self.is_full() {
                self.leave_out(Some(Truncated { bytes: len as u64, elements: 1 }));
            } else if len <= self.budget {
                self.out.extend_from_slice(document);
                self.budget -= len;
            } else {
                break;
            }
            taken += len;
        }
        taken
    }

    /// Like an array: once a document was cut, those that follow are left out.
    fn is_full(&self) -> bool {
        self.shortened.truncated.elements > 0 || self.budget == 0
    }

    fn on_document_length(&mut self, field: &[u8]) -> Result<(), WireError> {
        let State::DocumentLength { left, section } = self.state else { return Err(MALFORMED) };
        let length = number(field);
        let len = usize::try_from(length).unwrap_or_default();
        if len < 5 || len > left {
            return Err(WireError::Length { field: "sequence document", length });
        }
        let left = left - 4;
        self.state = if self.is_full() {
            self.leave_out(Some(Truncated { bytes: len as u64, elements: 1 }));
            State::SkippedDocument { left, section, skip: len - 4 }
        } else {
            let mut cutter = Cutter::inner(self.budget);
            cutter.push(field).map_err(|_| MALFORMED)?;
            State::Document { left, section, cutter }
        };
        Ok(())
    }

    fn end_document(&mut self) -> Result<(), WireError> {
        let State::Document { left, section, cutter } = std::mem::replace(&mut self.state, State::SectionKind) else {
            return Err(MALFORMED);
        };
        let cut = cutter.finish().map_err(|_| MALFORMED)?;
        self.out.extend_from_slice(&cut.bytes);
        self.budget = cut.budget_left;
        self.leave_out(cut.truncated);
        self.next_document(left, section);
        Ok(())
    }

    fn leave_out(&mut self, truncated: Option<Truncated>) {
        self.shortened.truncated = self.shortened.truncated.plus(truncated.unwrap_or_default());
    }

    /// Writes a length into the shorter message.
    fn patch(&mut self, at: usize, len: usize) {
        let len = i32::try_from(len).unwrap_or(i32::MAX).to_le_bytes();
        if let Some(field) = self.out.get_mut(at..at + 4) {
            field.copy_from_slice(&len);
        }
    }

    fn verify(&self) -> Result<(), WireError> {
        let (found, computed) = (number(&self.partial) as u32, self.checksum.computed);
        if found == computed { Ok(()) } else { Err(WireError::Checksum { found, computed }) }
    }
}

fn number(field: &[u8]) -> i32 {
    field.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{OpMsg, Reader, Sequence};

    /// A message of documents of many lengths, one of which says another length than it has, if that is wanted.
    fn message(flags: u32, wrong: Option<(usize, i32)>) -> Vec<u8> {
        let body = rawdoc! { "insert": "things", "$db": "shop" };
        let mut documents: Vec<u8> =
            (0..20).flat_map(|n| rawdoc! { "t": "x".repeat(n * 7 % 30) }.into_bytes()).collect();
        if let Some((at, length)) = wrong {
            documents[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        let sequences = [(&b"documents"[..], &*documents), (b"more", &documents[..0]), (b"last", body.as_bytes())];
        let sequences = sequences.map(|(identifier, documents)| Sequence { identifier, documents }).to_vec();
        let mut out = BytesMut::new();
        OpMsg { sequences, ..OpMsg::new(flags, body.as_bytes()) }.encode(1, 0, &mut out).unwrap();
        out.to_vec()
    }

    fn shortened(message: &[u8], budget: usize, piece: usize) -> Result<(Vec<u8>, Shortened), WireError> {
        let header = Header::decode(&mut Reader::new(message)).unwrap();
        let mut shortener = Shortener::new(header, message.len(), budget);
        let taken: usize = message.chunks(piece).map(|piece| shortener.push(piece)).sum();
        assert_eq!(taken, message.len());
        shortener.finish()
    }

    #[test]
    fn what_is_left_out_is_looked_through_before_what_is_kept() {
        let swallowed = rawdoc! { "saslStart": 1, "payload": "secret" };
        let mut start = BytesMut::new();
        OpMsg::new(0, swallowed.as_bytes()).encode(2, 0, &mut start).unwrap();
        // Where the text ends the fields of the other begin, or texts that are left out.
        let fields = start.get(25..start.len() - 1).unwrap();
        let torn = |before: usize, between: usize| {
            let text = [&vec![b'x'; before], &start[..25], &vec![b'x'; between], &[0][..]].concat();
            let text = [b"\x02t\0", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], &text].concat();
            let document = [b"\x10find\0\x01\0\0\0", &text[..], fields, b"\0"].concat();
            let length = u32::try_from(document.len() + 4).unwrap().to_le_bytes();
            let mut message = BytesMut::new();
            OpMsg::new(0, &[&length, &document[..]].concat()).encode(1, 0, &mut message).unwrap();
            message.to_vec()
        };
        for (before, between) in [(10, 300), (9000, 0), (9000, 4000), (20_000, 4060), (0, 4200), (10, 100_000)] {
            let message = torn(before, between);
            for budget in [0, 100] {
                let whole = shortened(&message, budget, message.len());
                assert_eq!(whole, Err(WireError::MessageWithin), "{before}, {between}");
                for piece in [1, 16, 100, 4096, 4100] {
                    assert_eq!(shortened(&message, budget, piece), whole, "{before}, {between}, {piece}");
                }
            }
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_same() {
        for flags in [0, msg_flags::CHECKSUM_PRESENT] {
            for wrong in [None, Some((0, 4)), Some((0, -1)), Some((0, i32::MAX)), Some((14, 6))] {
                let message = message(flags, wrong);
                for budget in (0..700).step_by(13) {
                    let whole = shortened(&message, budget, message.len());
                    for piece in [1, 2, 3, 5, 16, 33, 100, 301] {
                        assert_eq!(shortened(&message, budget, piece), whole, "{wrong:?}, {budget}, {piece}");
                    }
                }
            }
        }
    }
}
