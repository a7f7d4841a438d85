//! The machine that cuts: one pass, one element at a time, by the lengths that the elements begin with.
//!
//! What it decides must not depend on how the bytes are divided, so it decides about an element when its header is
//! there, and never looks further ahead.

use super::header::{HEADER_MAX, Header, NAME_MAX, Parsed, element_name};
use super::{Counts, Cut, RESERVE, SMALL_MAX, Truncated};
use crate::bson::kind::{BsonError, Extent, Kind, prefixed};
use crate::bson::walk::{DEPTH_MAX, int32};

/// How much of an error's message stays.
pub(super) const MESSAGE_MAX: usize = 1024;

/// Cuts one document whose bytes come in pieces of any size. See the [module](super) for what stays.
#[derive(Debug)]
pub struct Cutter {
    state: State,
    /// Bytes of the limit that are left.
    budget: usize,
    /// The same of the reserve.
    reserve: usize,
    /// How many bytes of the document have come.
    position: usize,
    /// How many there will be.
    length: usize,
    /// The start of an element that came in pieces; without its name if that was too long.
    pending: Vec<u8>,
    nameless: bool,
    /// The containers around the next element, outermost first; what is kept of them is in `out`.
    open: Vec<Open>,
    out: Vec<u8>,
    elements_left_out: u64,
    broken: bool,
    counts: Counts,
    inner: bool,
    first_left_out: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Reading the document's length.
    Length,
    /// The document fits: all of it is kept.
    Whole,
    /// Before or in the type, name and length of an element.
    Header,
    /// In a name that is too long to keep.
    LongName(Kind),
    /// In a value: bytes to keep, then bytes to skip.
    Value { keep: usize, skip: usize },
    /// In the part of an error's message that is kept; `value` is where it begins in `out`.
    Message { keep: usize, skip: usize, value: usize },
    /// In a regular expression that has so many zero bytes to come; `element` is where it begins in `out`, if it is kept.
    Regex { zeros: u8, element: Option<usize>, offset: usize },
    /// Behind something that is not BSON.
    Broken,
    /// All bytes have come.
    Done,
}

/// A container that is kept in part.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// Where its element begins in `out`, and where its own length does.
    element: usize,
    start: usize,
    /// The position after its last byte.
    end: usize,
    /// Whether its small elements always stay.
    privileged: bool,
    counted: Option<Counted>,
    /// Whether something of it was kept, and whether something was not.
    kept: bool,
    cut: bool,
    /// What was left out before it.
    elements_left_out: u64,
}

#[derive(Clone, Copy, Debug)]
enum Counted {
    Batch,
    WriteErrors,
}

impl Cutter {
    /// For a document that stands for itself: a command, a reply. With [`usize::MAX`] nothing is ever left out.
    pub fn new(limit: usize) -> Self {
        Self {
            state: State::Length,
            budget: limit,
            reserve: RESERVE,
            position: 0,
            length: 0,
            pending: Vec::new(),
            nameless: false,
            open: Vec::new(),
            out: Vec::new(),
            elements_left_out: 0,
            broken: false,
            counts: Counts::default(),
            inner: false,
            first_left_out: false,
        }
    }

    /// For a document that will be an element of another, as those of an `OP_MSG`'s sequence: it gets nothing beyond
    /// the limit, and may come out as `{}`.
    pub fn inner(limit: usize) -> Self {
        Self { reserve: 0, inner: true, ..Self::new(limit) }
    }

    /// Takes bytes up to the end of the document; returns how many it took. What is broken inside of the document is
    /// no error here: it is noted in what is kept.
    ///
    /// # Errors
    /// If the document's own length cannot be one.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, BsonError> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_complete() {
            let wanted = if matches!(self.state, State::Length) { 4 } else { self.length } - self.position;
            let taken = self.step(rest.get(..wanted).unwrap_or(rest))?;
            rest = rest.get(taken..).unwrap_or_default();
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether the whole document has come.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The bytes that it holds memory for.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.out.capacity() + self.pending.capacity()
    }

    /// What is left of the document.
    ///
    /// # Errors
    /// If it is not complete.
    pub fn finish(self) -> Result<Cut, BsonError> {
        if !self.is_complete() {
            let needed = self.length.max(5);
            return Err(BsonError::Short { what: "document", offset: 0, needed, had: self.position });
        }
        let cut = self.elements_left_out > 0 || self.broken;
        let bytes = self.length.saturating_sub(self.out.len()) as u64;
        let mut counts = self.counts;
        if !self.inner {
            // Arrays that were kept whole were not counted as they passed.
            let kept = Counts::of(&self.out);
            counts.batch = counts.batch.or(kept.batch);
            counts.write_errors = counts.write_errors.or(kept.write_errors);
        }
        Ok(Cut {
            bytes: self.out,
            budget_left: self.budget,
            truncated: cut.then_some(Truncated { bytes, elements: self.elements_left_out }),
            counts,
            first_left_out: self.first_left_out,
        })
    }

    /// Takes some of the bytes, none of them beyond the document; at least one, or the state changes.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, BsonError> {
        let taken = match self.state {
            State::Length => self.read_length(bytes)?,
            State::Header => return Ok(self.read_header(bytes)),
            State::LongName(kind) => self.skip_name(kind, bytes),
            State::Value { keep, skip } => self.read_value(keep, skip, bytes),
            State::Message { keep, skip, value } => self.read_message(keep, skip, value, bytes),
            State::Regex { zeros, element, offset } => self.read_regex(zeros, element, offset, bytes),
            State::Whole => {
                self.out.extend_from_slice(bytes);
                bytes.len()
            }
            State::Broken | State::Done => bytes.len(),
        };
        self.position += taken;
        self.end_at_length();
        Ok(taken)
    }

    /// The bytes are over: so is the document, closed or not.
    fn end_at_length(&mut self) {
        if self.position < self.length || matches!(self.state, State::Length | State::Done) {
            return;
        }
        if !self.open.is_empty() {
            self.break_off(BsonError::Unterminated { what: "document", offset: self.position });
        }
        self.state = State::Done;
    }

    fn read_length(&mut self, bytes: &[u8]) -> Result<usize, BsonError> {
        self.out.extend_from_slice(bytes);
        if let Some(length) = int32(&self.out) {
            self.length = prefixed(Kind::Document, length, 5, 0, 0)?;
            if self.length <= self.budget {
                self.budget -= self.length;
                self.state = State::Whole;
            } else {
                self.budget = self.budget.saturating_sub(5);
                self.state = State::Header;
                self.open.push(Open {
                    kind: Kind::Document,
                    element: 0,
                    start: 0,
                    end: self.length,
                    privileged: !self.inner,
                    counted: None,
                    kept: true,
                    cut: false,
                    elements_left_out: 0,
                });
            }
        }
        Ok(bytes.len())
    }

    /// Reads what is before a value. The position is moved here, for what follows depends on it.
    fn read_header(&mut self, bytes: &[u8]) -> usize {
        let had = self.pending.len();
        let mut pending = std::mem::take(&mut self.pending);
        let seen = if had == 0 {
            bytes
        } else {
            pending.extend_from_slice(bytes.get(..HEADER_MAX - had).unwrap_or(bytes));
            &pending
        };
        let parsed = Header::parse(seen);
        let taken = match &parsed {
            Parsed::Header(header) => header.length - had,
            Parsed::LongName(_) => NAME_MAX + 2 - had,
            Parsed::UnknownKind(_) => 1,
            Parsed::Part => seen.len() - had,
        };
        let start = self.position - had;
        self.position += taken;
        match parsed {
            Parsed::Header(header) => self.begin(&header, seen.get(..header.length).unwrap_or_default()),
            Parsed::LongName(kind) => self.state = State::LongName(kind),
            Parsed::UnknownKind(kind) => self.break_off(BsonError::UnknownKind { kind, offset: start }),
            Parsed::Part => {
                if had == 0 {
                    pending.extend_from_slice(bytes);
                }
                self.pending = pending;
                self.end_at_length();
                return taken;
            }
        }
        pending.clear();
        self.pending = pending;
        self.end_at_length();
        taken
    }

    fn skip_name(&mut self, kind: Kind, bytes: &[u8]) -> usize {
        let Some(zero) = memchr::memchr(0, bytes) else { return bytes.len() };
        self.pending.extend_from_slice(&[kind as u8, 0]);
        self.nameless = true;
        self.state = State::Header;
        zero + 1
    }

    /// Decides what becomes of an element whose header has just come, and is `bytes`.
    fn begin(&mut self, header: &Header, bytes: &[u8]) {
        let nameless = std::mem::take(&mut self.nameless);
        let Some(kind) = header.kind else { return self.close() };
        let Some(parent) = self.open.last() else { return };
        match parent.counted {
            Some(Counted::Batch) => *self.counts.batch.get_or_insert(0) += 1,
            Some(Counted::WriteErrors) => *self.counts.write_errors.get_or_insert(0) += 1,
            None => {}
        }
        let skipped = nameless || parent.is_over();
        let to_come = match self.to_come(kind, header.prefix, parent.end) {
            Ok(Some(to_come)) => to_come,
            Ok(None) => return self.begin_regex(bytes, skipped),
            Err(error) => return self.break_off(error),
        };
        let kept = !skipped
            && (self.keep_whole(bytes, to_come)
                || kind == Kind::String && self.begin_message(bytes, to_come)
                || kind.is_container() && self.go_in(kind, bytes, to_come));
        if !kept {
            self.leave_out();
            self.value(0, to_come);
        }
    }

    /// How many bytes of a value follow its header; `None` for a regular expression, which does not say.
    fn to_come(&self, kind: Kind, prefix: Option<i32>, end: usize) -> Result<Option<usize>, BsonError> {
        let had = if prefix.is_some() { 4 } else { 0 };
        let offset = self.position - had;
        let length = match (kind.extent(), prefix) {
            (Extent::Fixed(length), _) => length,
            (Extent::Prefixed { least, beyond }, Some(prefix)) => prefixed(kind, prefix, least, beyond, offset)?,
            _ => had,
        };
        // The container's own zero byte comes after it.
        match (end - 1).checked_sub(offset) {
            Some(room) if length <= room => Ok((kind != Kind::Regex).then(|| length - had)),
            room => Err(BsonError::Short { what: kind.name(), offset, needed: length, had: room.unwrap_or(0) }),
        }
    }

    fn keep_whole(&mut self, header: &[u8], to_come: usize) -> bool {
        let fits = self.charge(header.len() + to_come);
        if fits {
            self.keep(header);
            self.value(to_come, 0);
        }
        fits
    }

    /// Takes from the budget, or for what is small and always stays from the reserve.
    fn charge(&mut self, size: usize) -> bool {
        if size <= self.budget {
            self.budget -= size;
        } else if size <= self.allowance() {
            self.reserve -= size;
        } else {
            return false;
        }
        true
    }

    /// How large the next element may be to be kept whole.
    fn allowance(&self) -> usize {
        let privileged = self.open.last().is_some_and(|open| open.privileged);
        let small = if privileged { SMALL_MAX.min(self.reserve) } else { 0 };
        small.max(self.budget)
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
        if let Some(open) = self.open.last_mut() {
            open.kept = true;
        }
    }

    /// Counts an element of the innermost container as left out.
    fn leave_out(&mut self) {
        self.elements_left_out += 1;
        // Nothing has been kept but the document's length.
        self.first_left_out |= self.out.len() == 4;
        if let Some(open) = self.open.last_mut() {
            open.cut = true;
        }
    }

    fn value(&mut self, keep: usize, skip: usize) {
        self.state = if keep + skip == 0 { State::Header } else { State::Value { keep, skip } };
    }

    fn read_value(&mut self, keep: usize, skip: usize, bytes: &[u8]) -> usize {
        let (kept, rest) = bytes.split_at_checked(keep).unwrap_or((bytes, &[]));
        self.out.extend_from_slice(kept);
        let skipped = skip.min(rest.len());
        self.value(keep - kept.len(), skip - skipped);
        kept.len() + skipped
    }

    /// Keeps an error's message, or its start, if that is what the string with this header is.
    fn begin_message(&mut self, header: &[u8], to_come: usize) -> bool {
        let privileged = self.open.last().is_some_and(|open| open.privileged);
        let name = element_name(header);
        let keep = MESSAGE_MAX.min(to_come - 1);
        let size = header.len() + keep + 1;
        if !privileged || !(name == b"errmsg" || name == b"$err") || size > self.reserve {
            return false;
        }
        self.reserve -= size;
        self.keep(header);
        if keep + 1 == to_come {
            self.value(to_come, 0);
        } else {
            self.leave_out();
            self.state = State::Message { keep, skip: to_come - keep, value: self.out.len() - 4 };
        }
        true
    }

    fn read_message(&mut self, keep: usize, skip: usize, value: usize, bytes: &[u8]) -> usize {
        let kept = bytes.get(..keep).unwrap_or(bytes);
        self.out.extend_from_slice(kept);
        if kept.len() < keep {
            self.state = State::Message { keep: keep - kept.len(), skip, value };
        } else {
            // Not in the middle of a character, as far as that can be told from its last bytes.
            let continuing = self.out.iter().rev().take(3).take_while(|byte| **byte & 0xc0 == 0x80).count();
            let last = self.out.len().saturating_sub(continuing + 1);
            if self.out.get(last).is_some_and(|byte| *byte >= 0xc0) {
                self.out.truncate(last);
            }
            self.out.push(0);
            let length = self.out.len() - value - 4;
            self.write_length(value, length);
            self.value(0, skip);
        }
        kept.len()
    }

    fn begin_regex(&mut self, header: &[u8], skipped: bool) {
        let element = (!skipped).then_some(self.out.len());
        if skipped {
            self.leave_out();
        } else {
            self.out.extend_from_slice(header);
        }
        self.state = State::Regex { zeros: 2, element, offset: self.position };
    }

    /// Keeps a regular expression until it turns out to be too long.
    fn read_regex(&mut self, zeros: u8, element: Option<usize>, offset: usize, bytes: &[u8]) -> usize {
        let end = self.open.last().map_or(self.length, |open| open.end);
        let room = (end - 1).saturating_sub(self.position);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        let found = memchr::memchr_iter(0, bytes).take(usize::from(zeros));
        let (zeros, taken) = found
            .fold((zeros, bytes.len()), |(zeros, taken), zero| (zeros - 1, if zeros == 1 { zero + 1 } else { taken }));
        let mut element = element;
        if let Some(start) = element {
            self.out.extend_from_slice(bytes.get(..taken).unwrap_or_default());
            let size = self.out.len() - start;
            let unfinished = zeros > 0 && taken == room;
            if size > self.allowance() || unfinished {
                self.out.truncate(start);
                self.leave_out();
                element = None;
            } else if zeros == 0 {
                self.charge(size);
                self.keep(&[]);
            }
        }
        self.state = if zeros == 0 { State::Header } else { State::Regex { zeros, element, offset } };
        if zeros > 0 && taken == room {
            self.break_off(BsonError::Unterminated { what: Kind::Regex.name(), offset });
        }
        taken
    }

    /// Goes into a container that does not fit, if there is room for an empty one.
    fn go_in(&mut self, kind: Kind, header: &[u8], to_come: usize) -> bool {
        if self.open.len() >= DEPTH_MAX || !self.charge(header.len() + 1) {
            return false;
        }
        let (depth, name) = (self.open.len(), element_name(header));
        let privileged = self.open.last().is_some_and(|open| open.privileged);
        let (document, top) = (kind == Kind::Document, privileged && depth == 1);
        let counted = match name {
            b"firstBatch" | b"nextBatch" if privileged && depth == 2 && !document => Some(Counted::Batch),
            b"writeErrors" if top && !document => Some(Counted::WriteErrors),
            _ => None,
        };
        match counted {
            Some(Counted::Batch) => self.counts.batch = Some(0),
            Some(Counted::WriteErrors) => self.counts.write_errors = Some(0),
            None => {}
        }
        self.open.push(Open {
            kind,
            element: self.out.len(),
            start: self.out.len() + header.len() - 4,
            end: self.position + to_come,
            privileged: top && document && (name == b"cursor" || name == b"writeConcernError"),
            counted,
            kept: false,
            cut: false,
            elements_left_out: self.elements_left_out,
        });
        self.out.extend_from_slice(header);
        self.state = State::Header;
        true
    }

    /// Ends the innermost container, whose zero byte has just come.
    fn close(&mut self) {
        let Some(open) = self.open.pop_if(|open| open.end == self.position) else {
            let left = self.open.last().map_or(0, |open| open.end - self.position);
            return self.break_off(BsonError::Trailing { offset: self.position, left });
        };
        self.state = State::Header;
        let parent = self.open.last_mut();
        if let Some(parent) = parent {
            parent.cut |= open.cut;
            if !open.kept && open.cut && !parent.privileged {
                // Nothing of it is left: better no element than an empty one.
                self.budget += open.start + 5 - open.element;
                self.elements_left_out = open.elements_left_out + 1;
                self.out.truncate(open.element);
                return;
            }
            parent.kept = true;
        } else {
            self.state = State::Done;
        }
        self.end_container(&open);
    }

    fn end_container(&mut self, open: &Open) {
        self.out.push(0);
        self.write_length(open.start, self.out.len() - open.start);
    }

    fn write_length(&mut self, at: usize, length: usize) {
        let length = i32::try_from(length).unwrap_or(i32::MAX);
        if let Some(place) = self.out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
            *place = length.to_le_bytes();
        }
    }

    /// Closes what is open, with a last element that says what is wrong; the rest of the document is skipped.
    fn break_off(&mut self, error: BsonError) {
        self.broken = true;
        self.state = State::Broken;
        while let Some(open) = self.open.pop() {
            if self.open.is_empty() {
                let said = error.to_string();
                self.out.extend_from_slice(b"\x02$undecodable\0");
                let at = self.out.len();
                self.out.extend_from_slice(&[0; 4]);
                self.out.extend_from_slice(said.as_bytes());
                self.out.push(0);
                self.write_length(at, said.len() + 1);
            }
            self.end_container(&open);
        }
    }
}

impl Open {
    /// Whether everything that follows in it is left out.
    fn is_over(&self) -> bool {
        self.cut && self.kind == Kind::Array
    }
}
