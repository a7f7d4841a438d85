//! IP packets that a network has cut into fragments, put together again.
//!
//! One whose fragments are not all there within the time that a receiver waits for them is given up, and counted. So is
//! the one that began first, if there are too many at the same time.

use std::collections::HashMap;
use std::net::IpAddr;

use etherparse::defrag::IpDefragBuf;
use etherparse::{IpFragOffset, IpNumber};

/// Packets that may be in pieces at the same time; none is longer than 64 KiB.
const OPEN_MAX: usize = 256;

/// So long a receiver waits at most (RFC 1122, 3.3.2).
const GIVEN_UP_AFTER_NANOS: i64 = 120_000_000_000;

/// Fragments of a packet that is whole already are others of it that came twice, for so long; then the number is used
/// again.
const AGAIN_WITHIN_NANOS: i64 = 1_000_000_000;

/// What the fragments of one packet have in common.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Whole {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) identification: u32,
    pub(super) protocol: IpNumber,
}

/// Where a fragment belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) offset: IpFragOffset,
    pub(super) more: bool,
    pub(super) payload: &'a [u8],
}

/// The packets of which some fragments were seen.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    open: HashMap<Whole, Open>,
    begun: u64,
    given_up: u64,
}

#[derive(Debug)]
struct Open {
    /// `None` once it is whole.
    buffer: Option<IpDefragBuf>,
    number: u64,
    unix_nanos: i64,
}

impl Fragments {
    /// Takes a fragment that was captured then; the payload of the packet, if it is whole by that.
    pub(super) fn add(&mut self, whole: Whole, piece: Piece<'_>, unix_nanos: i64) -> Option<Vec<u8>> {
        let is_late = |open: &Open| {
            let patience = if open.buffer.is_some() { GIVEN_UP_AFTER_NANOS } else { AGAIN_WITHIN_NANOS };
            unix_nanos.saturating_sub(open.unix_nanos) > patience
        };
        if self.open.get(&whole).is_some_and(is_late) {
            self.give_up(whole);
        }
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&whole) {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.number).map(|(whole, _)| *whole);
            oldest.into_iter().for_each(|whole| self.give_up(whole));
        }
        let begun = &mut self.begun;
        let open = self.open.entry(whole).or_insert_with(|| {
            *begun += 1;
            let buffer = Some(IpDefragBuf::new(whole.protocol, Vec::new(), Vec::new()));
            Open { buffer, number: *begun, unix_nanos }
        });
        let buffer = open.buffer.as_mut()?;
        if buffer.add(piece.offset, piece.more, piece.payload).is_err() {
            // They do not fit together: one of another packet, or cut off by the capture.
            self.give_up(whole);
            return None;
        }
        let payload = open.buffer.take_if(|buffer| buffer.is_complete()).map(|buffer| buffer.take_bufs().0);
        if payload.is_some() {
            open.unix_nanos = unix_nanos;
        }
        payload
    }

    fn give_up(&mut self, whole: Whole) {
        let is_incomplete = self.open.remove(&whole).is_some_and(|open| open.buffer.is_some());
        self.given_up += u64::from(is_incomplete);
    }

    /// How many packets are not whole.
    pub(super) fn incomplete(&self) -> u64 {
        self.given_up + self.open.values().filter(|open| open.buffer.is_some()).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_any() {
        let whole = Whole {
            from: "10.0.0.1".parse().unwrap(),
            to: "10.0.0.2".parse().unwrap(),
            identification: 1,
            protocol: IpNumber::TCP,
        };
        let piece = Piece { offset: IpFragOffset::ZERO, more: true, payload: &[0; 8] };
        let mut fragments = Fragments::default();
        for at in [i64::MAX, -2, i64::MIN, i64::MAX] {
            assert!(fragments.add(whole, piece, at).is_none(), "it never ends");
        }
    }
}
