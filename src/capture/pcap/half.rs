//! One direction of a TCP connection, put together again from its segments.
//!
//! What comes twice is given once, what comes early waits. What is missing is lost if the receiver has acknowledged it and
//! the sender has gone on since: it was sent, received, and not captured.

use std::collections::BTreeMap;

use super::packet::Segment;

/// Bytes that may wait for what is missing before them.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// What is given, in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// So many bytes are missing, from that offset on.
    Lost {
        offset: u64,
        bytes: u64,
    },
    /// The sender has ended.
    End,
}

/// One direction.
#[derive(Debug, Default)]
pub(super) struct Half {
    /// The sequence number of the next byte. `None` before anything was seen.
    next: Option<u32>,
    /// Bytes before that one.
    offset: u64,
    /// What came early, by its offset.
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
    /// Up to which offset the receiver has everything.
    acknowledged: u64,
    /// The offset of the end, once the sender has said it.
    end: Option<u64>,
    ended: bool,
}

impl Half {
    /// Whether a `SYN` with that number begins it, or may do so again.
    pub(super) fn begins_with(&self, syn: u32) -> bool {
        self.next.is_none_or(|next| next.wrapping_sub(self.offset as u32) == syn.wrapping_add(1))
    }

    /// Notes up to where the receiver has it.
    pub(super) fn acknowledge(&mut self, number: u32) {
        if let Some(at) = self.offset_of(number) {
            self.acknowledged = self.acknowledged.max(u64::try_from(at).unwrap_or_default());
        }
    }

    /// Takes a segment, and gives what can be given.
    pub(super) fn push(&mut self, segment: &Segment<'_>, give: &mut dyn FnMut(Piece<'_>)) {
        let sequence = segment.sequence.wrapping_add(u32::from(segment.syn));
        if self.next.is_none() && (segment.syn || segment.fin || !segment.payload.is_empty()) {
            self.next = Some(sequence);
        }
        let Some(at) = self.offset_of(sequence) else { return };
        if segment.fin {
            let end = at.saturating_add(segment.payload.len() as i64);
            self.end = self.end.or_else(|| u64::try_from(end).ok());
        }
        self.insert(at, &segment.payload, give);
        while let Some(start) = self.waiting.keys().next().copied() {
            if start > self.offset && self.waiting_bytes <= WAITING_BYTES_MAX {
                break;
            }
            self.give_first(give);
        }
        self.give_end(give);
    }

    /// Whether the receiver has more than was seen here: what is missing is late, or lost.
    pub(super) fn is_behind(&self) -> bool {
        // An acknowledgement of the end counts one more, whether or not the end itself was captured.
        self.next.is_some() && self.acknowledged() > self.offset + u64::from(self.end.is_none())
    }

    /// Whether the segment shows that what the receiver has will not come any more: its sender has gone on.
    pub(super) fn has_gone_on(&self, segment: &Segment<'_>) -> bool {
        let start = self.offset_of(segment.sequence).and_then(|at| u64::try_from(at).ok());
        self.is_behind() && start.is_some_and(|start| start > self.offset)
    }

    /// Says that everything is lost that the receiver has and that was not seen, and gives what waited behind it.
    pub(super) fn give_up(&mut self, give: &mut dyn FnMut(Piece<'_>)) {
        while self.is_behind() {
            match self.waiting.keys().next() {
                Some(start) if *start <= self.acknowledged() => self.give_first(give),
                _ => self.lose(self.acknowledged(), give),
            }
        }
        self.give_end(give);
    }

    /// Gives all that is left, at the end of the packets.
    pub(super) fn finish(&mut self, give: &mut dyn FnMut(Piece<'_>)) {
        self.give_up(give);
        while !self.waiting.is_empty() {
            self.give_first(give);
        }
        self.give_end(give);
    }

    fn acknowledged(&self) -> u64 {
        self.acknowledged.min(self.end.unwrap_or(u64::MAX))
    }

    /// Where a sequence number is in the stream; before its beginning if negative.
    fn offset_of(&self, number: u32) -> Option<i64> {
        let distance = number.wrapping_sub(self.next?) as i32;
        i64::try_from(self.offset).ok()?.checked_add(i64::from(distance))
    }

    fn insert(&mut self, at: i64, payload: &[u8], give: &mut dyn FnMut(Piece<'_>)) {
        let here = i64::try_from(self.offset).unwrap_or(i64::MAX);
        let known = usize::try_from(here.saturating_sub(at)).unwrap_or_default();
        let Some(new) = payload.get(known..).filter(|new| !new.is_empty()) else { return };
        let start = u64::try_from(at).unwrap_or_default().max(self.offset);
        if start == self.offset {
            return self.give(new, give);
        }
        let kept = self.waiting.entry(start).or_default();
        if kept.len() < new.len() {
            self.waiting_bytes += new.len() - kept.len();
            *kept = new.to_vec();
        }
    }

    /// Gives the first of what waits, and says what is missing before it.
    fn give_first(&mut self, give: &mut dyn FnMut(Piece<'_>)) {
        let Some((start, bytes)) = self.waiting.pop_first() else { return };
        self.waiting_bytes -= bytes.len();
        if start > self.offset {
            self.lose(start, give);
        }
        let known = usize::try_from(self.offset - start).unwrap_or(usize::MAX);
        if let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) {
            self.give(new, give);
        }
    }

    fn lose(&mut self, until: u64, give: &mut dyn FnMut(Piece<'_>)) {
        let (offset, bytes) = (self.offset, until - self.offset);
        self.advance(bytes);
        give(Piece::Lost { offset, bytes });
    }

    fn give(&mut self, bytes: &[u8], give: &mut dyn FnMut(Piece<'_>)) {
        self.advance(bytes.len() as u64);
        give(Piece::Bytes(bytes));
    }

    fn advance(&mut self, bytes: u64) {
        self.offset += bytes;
        // Sequence numbers begin again at 2^32.
        self.next = self.next.map(|next| next.wrapping_add(bytes as u32));
    }

    fn give_end(&mut self, give: &mut dyn FnMut(Piece<'_>)) {
        if !self.ended && self.end.is_some_and(|end| end <= self.offset) {
            self.ended = true;
            give(Piece::End);
        }
    }
}
