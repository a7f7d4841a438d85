//! Where one message ends and the next begins, in one direction of a connection.
//!
//! A message that arrives whole is handed on as it stands in the chunk; one that arrives in pieces is collected; an
//! `OP_MSG` longer than anybody wants to see is shortened while it passes ([`Shortener`]), so that its length costs
//! nothing. Which of these happens is decided by the message's header alone: the same bytes give the same messages,
//! however they are cut into chunks.

use super::Limits;
use super::shorten::{Shortened, Shortener};
use crate::event::{Compressor, Side, Timestamp};
use crate::wire::{HEADER_LEN, Header, OpCode, Reader, WireError};

/// What an `OP_MSG` has beside its one document: header, flags, the section's kind.
const AROUND_DOCUMENT: usize = HEADER_LEN + 5;

/// The treacherous one of the other protocols: its first bytes read as a length that could be.
pub(super) const TLS_HANDSHAKE: WireError = WireError::OtherProtocol("a TLS handshake");

/// A buffer that grew beyond this is given back once its message is done, so that an idle connection holds little.
const KEPT_CAPACITY_MAX: usize = 4 << 10;

/// A message, whole or shortened.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) header: Header,
    /// Where it begins in this direction's bytes.
    pub(super) offset: u64,
    /// When its first byte came.
    pub(super) first_byte_at: Timestamp,
    /// The flags of an `OP_MSG` that was shortened; its bytes have them too, but it may have none.
    pub(super) flags: Option<u32>,
    /// A message that can be decoded, or why there is none although its length is known.
    pub(super) content: Result<Content<'a>, WireError>,
    /// Of one that was taken out of its compression before: what it was compressed with.
    pub(super) compressor: Option<Compressor>,
    /// Of one that could not be read when it was recorded, and was not kept: why not.
    pub(super) unread: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// One that came as it is, and whole.
    fn of_wire(header: Header, offset: u64, first_byte_at: Timestamp, content: Result<Content<'a>, WireError>) -> Self {
        Self { header, offset, first_byte_at, flags: None, content, compressor: None, unread: None }
    }

    /// Why the message cannot be read: what was found when it was recorded, or else this.
    pub(super) fn why_unread(&self, error: WireError) -> String {
        self.unread.map_or_else(|| error.to_string(), str::to_owned)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Content<'a> {
    /// The message; if it was shortened, an `OP_MSG` of what was kept of it.
    pub(super) bytes: &'a [u8],
    /// What was left out.
    pub(super) shortened: Option<Shortened>,
}

/// Cuts one direction's bytes into messages.
#[derive(Debug)]
pub(super) struct Framer {
    side: Side,
    /// Bytes of this direction up to the message that is being read.
    offset: u64,
    first_byte_at: Timestamp,
    state: State,
}

/// ```text
///               ┌────────── done ──────────┐
///               ▼                          │
///   Between ──▶ Collecting(some bytes) ──▶ Done(bytes)
///      │            │
///      └────────────┴──▶ Shortening ──▶ Shortened
/// ```
#[derive(Debug)]
enum State {
    /// Nothing of the next message has come.
    Between,
    /// A part of a message that will be kept whole.
    Collecting(Vec<u8>),
    /// A part of a message that will not.
    Shortening(Box<Shortener>),
    /// The caller has the message's bytes until it asks for the next one.
    Done(Vec<u8>),
}

impl Framer {
    pub(super) fn new(side: Side) -> Self {
        Self { side, offset: 0, first_byte_at: Timestamp::default(), state: State::Between }
    }

    /// How far the stream was understood.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether a message has begun and not ended.
    pub(super) fn is_within_message(&self) -> bool {
        match &self.state {
            // Its buffer is kept from one message to the next.
            State::Collecting(bytes) => !bytes.is_empty(),
            State::Shortening(_) => true,
            State::Between | State::Done(_) => false,
        }
    }

    /// What is held of a message that has begun and not ended; nothing of one that is shortened.
    pub(super) fn begun(&self) -> &[u8] {
        match &self.state {
            State::Collecting(bytes) => bytes,
            State::Between | State::Shortening(_) | State::Done(_) => &[],
        }
    }

    /// The beginning of what is no whole message, as it may be told of: no more than a header. Where messages were before
    /// it, it may be the middle of one that was torn, and a credential: only its length is wanted.
    pub(super) fn begun_head(&self, begun: &[u8]) -> ([u8; HEADER_LEN], usize) {
        let mut head = [0; HEADER_LEN];
        let len = begun.len().min(HEADER_LEN);
        let kept = if self.offset == 0 { len } else { len.min(size_of::<i32>()) };
        head.iter_mut().zip(begun).take(kept).for_each(|(to, byte)| *to = *byte);
        (head, len)
    }

    /// Takes note of a message that was found elsewhere: where it begins.
    pub(super) fn pass(&mut self, header: &Header) -> u64 {
        self.end_message(header).0
    }

    /// How many bytes have to be taken out of their compression, or looked at together, for the messages that end in
    /// `chunk`. What passes piece by piece does not count, nor what is no longer than `most`. Asked at every read.
    pub(super) fn work(&self, chunk: &[u8], limits: &Limits, most: usize) -> usize {
        let (mut work, mut rest) = (0_usize, chunk);
        match &self.state {
            State::Collecting(bytes) if !bytes.is_empty() => {
                let mut start = [0; START_LEN];
                start.iter_mut().zip(bytes.iter().chain(chunk)).for_each(|(to, byte)| *to = *byte);
                let Some((len, of_first)) = work_of(&start, limits, most) else { return 0 };
                let Some(behind) = chunk.get(len.saturating_sub(bytes.len())..) else { return 0 };
                (work, rest) = (of_first, behind);
            }
            State::Shortening(shortener) => rest = chunk.get(shortener.remaining()..).unwrap_or_default(),
            State::Between | State::Collecting(_) | State::Done(_) => {}
        }
        // Shorter ones are not compressed.
        while let Some(start) = rest.first_chunk()
            && let Some((len, of_next)) = work_of(start, limits, most)
            && let Some(behind) = rest.get(len..)
        {
            work = work.saturating_add(of_next);
            rest = behind;
        }
        work
    }

    /// Takes bytes from `chunk`, which arrived at `at`: how many, and the message that they complete. `Ok(None)` is "not
    /// yet", and then all of the chunk was taken; call again with what is left of the chunk after a message.
    ///
    /// # Errors
    /// If where the next message begins cannot be known any more. The stream cannot be read on.
    pub(super) fn next<'a>(
        &'a mut self,
        chunk: &'a [u8],
        at: Timestamp,
        limits: &Limits,
    ) -> Result<(usize, Option<Frame<'a>>), WireError> {
        if let State::Done(bytes) = &mut self.state {
            let bytes = std::mem::take(bytes);
            self.state = if bytes.capacity() > KEPT_CAPACITY_MAX { State::Between } else { collecting(bytes) };
        }
        let begins = match &self.state {
            State::Between => true,
            State::Collecting(bytes) => bytes.is_empty(),
            State::Shortening(_) | State::Done(_) => false,
        };
        if begins {
            if chunk.is_empty() {
                return Ok((0, None));
            }
            self.first_byte_at = at;
            if let Some((header, len)) = self.header_of(chunk, limits)?
                && let Some(bytes) = chunk.get(..len)
                && !is_shortened(header.op_code, len, limits)
            {
                let (offset, first_byte_at) = self.end_message(&header);
                let content = Ok(Content { bytes, shortened: None });
                return Ok((len, Some(Frame::of_wire(header, offset, first_byte_at, content))));
            }
            if matches!(self.state, State::Between) {
                self.state = State::Collecting(Vec::new());
            }
        }
        self.advance(chunk, limits)
    }

    /// Goes on with a message that is not whole in one chunk.
    fn advance<'a>(&'a mut self, chunk: &'a [u8], limits: &Limits) -> Result<(usize, Option<Frame<'a>>), WireError> {
        let mut taken = 0;
        if let State::Collecting(bytes) = &mut self.state {
            taken += fill(bytes, HEADER_LEN, chunk);
            if bytes.len() < HEADER_LEN {
                return Ok((taken, None));
            }
            let start = std::mem::take(bytes);
            let Some((header, len)) = self.header_or_keep(&start, limits)? else { return Ok((taken, None)) };
            if is_shortened(header.op_code, len, limits) {
                let mut shortener = Box::new(Shortener::new(header, len, limits.max_document_bytes));
                shortener.push(&start);
                self.state = State::Shortening(shortener);
            } else {
                return self.collect(start, header, len, chunk, taken);
            }
        }
        if let State::Shortening(shortener) = &mut self.state {
            taken += shortener.push(chunk.get(taken..).unwrap_or_default());
            if shortener.is_done() {
                return Ok((taken, Some(self.finish_shortened())));
            }
        }
        Ok((taken, None))
    }

    fn collect<'a>(
        &'a mut self,
        mut bytes: Vec<u8>,
        header: Header,
        len: usize,
        chunk: &'a [u8],
        mut taken: usize,
    ) -> Result<(usize, Option<Frame<'a>>), WireError> {
        taken += fill(&mut bytes, len, chunk.get(taken..).unwrap_or_default());
        if bytes.len() < len {
            self.state = State::Collecting(bytes);
            return Ok((taken, None));
        }
        let (offset, first_byte_at) = self.end_message(&header);
        let content = Ok(Content { bytes: self.keep(bytes), shortened: None });
        Ok((taken, Some(Frame::of_wire(header, offset, first_byte_at, content))))
    }

    fn finish_shortened(&mut self) -> Frame<'_> {
        let State::Shortening(shortener) = std::mem::replace(&mut self.state, State::Between) else {
            unreachable!("called in this state only")
        };
        let header = shortener.header();
        let flags = Some(shortener.flags());
        let (offset, first_byte_at) = self.end_message(&header);
        let content = shortener.finish();
        let content = content.map(|(bytes, shortened)| Content { bytes: self.keep(bytes), shortened: Some(shortened) });
        Frame { flags, ..Frame::of_wire(header, offset, first_byte_at, content) }
    }

    /// A message ends here: where it began, and when its first byte came.
    fn end_message(&mut self, header: &Header) -> (u64, Timestamp) {
        let offset = self.offset;
        self.offset += u64::try_from(header.message_length).unwrap_or_default();
        (offset, self.first_byte_at)
    }

    /// Holds a message's bytes for the caller until it asks for the next message.
    fn keep(&mut self, bytes: Vec<u8>) -> &[u8] {
        self.state = State::Done(bytes);
        match &self.state {
            State::Done(bytes) => bytes,
            _ => unreachable!("set on the line before"),
        }
    }

    /// The same of what was collected, which stays where it is if it is no header.
    fn header_or_keep(&mut self, start: &[u8], limits: &Limits) -> Result<Option<(Header, usize)>, WireError> {
        self.header_of(start, limits).inspect_err(|_| self.state = State::Collecting(start.to_vec()))
    }

    /// The header that `bytes` begin with and the message's length; `None` if they are too few.
    fn header_of(&self, bytes: &[u8], limits: &Limits) -> Result<Option<(Header, usize)>, WireError> {
        let Some(start) = bytes.get(..HEADER_LEN) else { return Ok(None) };
        let header = Header::decode(&mut Reader::new(start))?;
        if self.offset == 0 && self.side == Side::Client {
            other_protocol(start, &header)?;
        }
        let len = header.checked_len(limits.max_message_bytes)?;
        Ok(Some((header_of_known(header, self.side), len)))
    }
}

/// A header, and what an `OP_COMPRESSED` says behind it of what it holds: its opcode and its length.
const START_LEN: usize = HEADER_LEN + 8;

/// The length of the message that begins so, and how much of it counts as [work](Framer::work); `None` if it is none.
fn work_of(start: &[u8; START_LEN], limits: &Limits, most: usize) -> Option<(usize, usize)> {
    let (&[length, _, _, op_code, _, inflated], []) = start.as_chunks() else { return None };
    let [length, op_code, inflated] = [length, op_code, inflated].map(i32::from_le_bytes);
    let len = usize::try_from(length).ok().filter(|len| (HEADER_LEN..=limits.max_message_bytes).contains(len))?;
    let work = match OpCode::from_i32(op_code) {
        OpCode::Compressed => usize::try_from(inflated).ok().filter(|len| *len <= limits.inflate_max_bytes),
        op_code => (len > most && !is_shortened(op_code, len, limits)).then_some(len),
    };
    Some((len, work.unwrap_or_default()))
}

/// A header of no opcode that is known may be the middle of a message that was torn, and a credential: what pairs no
/// message of that side is left out of it.
fn header_of_known(header: Header, side: Side) -> Header {
    match (header.op_code, side) {
        (OpCode::Other(_), Side::Client) => Header { response_to: 0, ..header },
        (OpCode::Other(_), Side::Server) => Header { request_id: 0, ..header },
        _ => header,
    }
}

fn collecting(mut bytes: Vec<u8>) -> State {
    bytes.clear();
    State::Collecting(bytes)
}

/// Appends to `bytes` from `chunk` until they are `len`, and says how many it took.
fn fill(bytes: &mut Vec<u8>, len: usize, chunk: &[u8]) -> usize {
    let wanted = len.saturating_sub(bytes.len()).min(chunk.len());
    bytes.extend_from_slice(chunk.get(..wanted).unwrap_or_default());
    wanted
}

/// Whether the message's documents may be longer than anybody wants to see.
pub(super) fn is_shortened(op_code: OpCode, len: usize, limits: &Limits) -> bool {
    let limit = limits.max_document_bytes;
    limit != 0 && op_code == OpCode::Msg && len > limit.saturating_add(AROUND_DOCUMENT)
}

/// A connection's first bytes may be another protocol's. A TLS record begins as a message of 790 bytes does, and of 66 326,
/// but has no opcode.
fn other_protocol(start: &[u8], header: &Header) -> Result<(), WireError> {
    const HTTP: [&[u8]; 6] = [b"GET ", b"POST ", b"HEAD ", b"PUT ", b"OPTIONS ", b"CONNECT "];
    if start.starts_with(&[0x16, 0x03]) && matches!(header.op_code, OpCode::Other(_)) {
        return Err(TLS_HANDSHAKE);
    }
    if HTTP.iter().any(|method| start.starts_with(method)) {
        return Err(WireError::OtherProtocol("an HTTP request"));
    }
    if start.starts_with(b"PROXY ") || start.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        return Err(WireError::OtherProtocol("a PROXY protocol header"));
    }
    Ok(())
}
