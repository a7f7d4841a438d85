//! `OP_MSG` (2013): a body, any number of document sequences, perhaps a checksum.

use bytes::{BufMut, BytesMut};

use super::{HEADER_LEN, Header, LengthPrefix, OpCode, Reader, WireError};

/// The flag bits.
pub mod flags {
    /// The last four bytes are a CRC-32C.
    pub const CHECKSUM_PRESENT: u32 = 1;
    /// On a request: it is not answered. On a reply: another one follows unasked.
    pub const MORE_TO_COME: u32 = 1 << 1;
    /// On a request: the client takes several replies to it.
    pub const EXHAUST_ALLOWED: u32 = 1 << 16;
    /// Bits 0 to 15: a receiver must refuse those it does not know.
    pub const REQUIRED: u32 = 0xffff;
}

const CHECKSUM_LEN: usize = 4;

/// A decoded `OP_MSG`.
#[derive(Clone, Debug, PartialEq)]
pub struct OpMsg<'a> {
    /// See [`flags`].
    pub flags: u32,
    /// The document of the section of kind 0.
    pub body: &'a [u8],
    /// The sections of kind 1, in their order.
    pub sequences: Vec<Sequence<'a>>,
    /// How many of the sequences stand before the body.
    pub sequences_before_body: usize,
}

/// A section of kind 1: the array that belongs to the body under a name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sequence<'a> {
    /// The name of the field it stands for; in principle a dotted path.
    pub identifier: &'a [u8],
    /// The documents, one after the other.
    pub documents: &'a [u8],
}

impl<'a> Sequence<'a> {
    /// The documents, one by one. They were checked when the message was decoded.
    pub fn iter(&self) -> Documents<'a> {
        Documents(Reader::new(self.documents))
    }
}

/// The documents of a sequence.
#[derive(Clone, Debug)]
pub struct Documents<'a>(Reader<'a>);

impl<'a> Iterator for Documents<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.0.is_empty() { None } else { self.0.document("sequence document").ok() }
    }
}

impl<'a> OpMsg<'a> {
    /// A message of a body alone.
    pub fn new(flags: u32, body: &'a [u8]) -> Self {
        Self { flags, body, sequences: Vec::new(), sequences_before_body: 0 }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Reads what follows the header. `frame` is the whole message, for the checksum.
    ///
    /// # Errors
    /// If it is not a well-formed `OP_MSG`, or its checksum is wrong.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame);
        reader.take("header", HEADER_LEN)?;
        let flags = reader.u32_le("flagBits")?;
        let unknown = flags & flags::REQUIRED & !(flags::CHECKSUM_PRESENT | flags::MORE_TO_COME);
        if unknown != 0 {
            return Err(WireError::FlagBits(unknown));
        }
        if flags & flags::CHECKSUM_PRESENT != 0 {
            let len = reader.rest().len().checked_sub(CHECKSUM_LEN);
            let short = WireError::Short { field: "checksum", needed: CHECKSUM_LEN, had: reader.rest().len() };
            let sections = reader.sub("sections", len.ok_or(short)?)?;
            let found = reader.u32_le("checksum")?;
            let computed = checksum_of(frame);
            if found != computed {
                return Err(WireError::Checksum { found, computed });
            }
            reader = sections;
        }
        Self::sections(flags, reader)
    }

    fn sections(flags: u32, mut reader: Reader<'a>) -> Result<Self, WireError> {
        let mut body = None;
        let mut message = Self::new(flags, &[]);
        while !reader.is_empty() {
            match reader.u8("section kind")? {
                // "there must be exactly one": a second body is as wrong as none.
                0 if body.is_some() => return Err(WireError::Bodies(2)),
                0 => {
                    body = Some(reader.document("body")?);
                    message.sequences_before_body = message.sequences.len();
                }
                1 => {
                    let sequence = Sequence::decode(&mut reader)?;
                    if message.sequences.iter().any(|other| other.identifier == sequence.identifier) {
                        return Err(WireError::DuplicateIdentifier);
                    }
                    message.sequences.push(sequence);
                }
                kind => return Err(WireError::SectionKind(kind)),
            }
        }
        message.body = body.ok_or(WireError::Bodies(0))?;
        Ok(message)
    }

    /// Writes the whole message, header and, if its flag is set, checksum included.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn encode(&self, request_id: i32, response_to: i32, dst: &mut BytesMut) -> Result<(), WireError> {
        let start = dst.len();
        let length = LengthPrefix::begin(dst);
        Header::put(request_id, response_to, OpCode::Msg, dst);
        dst.put_u32_le(self.flags);
        let (before, after) = self.sequences.split_at_checked(self.sequences_before_body).unwrap_or((&[], &[]));
        for sequence in before {
            sequence.encode(dst)?;
        }
        dst.put_u8(0);
        dst.put_slice(self.body);
        for sequence in after {
            sequence.encode(dst)?;
        }
        let checked = self.has(flags::CHECKSUM_PRESENT);
        if checked {
            dst.put_u32_le(0);
        }
        length.finish(dst)?;
        if let Some(frame) = dst.get_mut(start..).filter(|_| checked) {
            update_checksum(frame);
        }
        Ok(())
    }
}

impl<'a> Sequence<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let length = reader.i32_le("sequence size")?;
        // The size counts itself but not the kind byte before it.
        let len = usize::try_from(length).ok().and_then(|len| len.checked_sub(4));
        let mut section =
            reader.sub("document sequence", len.ok_or(WireError::Length { field: "sequence size", length })?)?;
        let identifier = section.cstr("sequence identifier")?;
        let documents = section.rest();
        while !section.is_empty() {
            section.document("sequence document")?;
        }
        Ok(Self { identifier, documents })
    }

    fn encode(&self, dst: &mut BytesMut) -> Result<(), WireError> {
        dst.put_u8(1);
        let length = LengthPrefix::begin(dst);
        dst.put_slice(self.identifier);
        dst.put_u8(0);
        dst.put_slice(self.documents);
        length.finish(dst)
    }
}

fn checksum_of(frame: &[u8]) -> u32 {
    let covered = frame.len().saturating_sub(CHECKSUM_LEN);
    crc32c::crc32c(frame.get(..covered).unwrap_or_default())
}

/// Computes the checksum of a whole message that has one, and writes it into its last four bytes.
pub fn update_checksum(frame: &mut [u8]) {
    let checksum = checksum_of(frame);
    if let Some(field) = frame.last_chunk_mut::<CHECKSUM_LEN>() {
        *field = checksum.to_le_bytes();
    }
}
