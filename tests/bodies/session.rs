//! A connection: both sides' bytes in any order and in any pieces, and what was recorded of it.
//!
//! The first byte chooses the limits and the pieces. Then come actions: a byte (client's bytes, server's bytes, sent,
//! tick, in turn; an even higher one is the client's again), a little-endian 16-bit length, and so many bytes.

use std::sync::{Arc, Mutex};

use mongotap::capture::mtap::{Header, Records, write_records};
use mongotap::event::{Entry, Event, Input, Side, Timestamp};
use mongotap::pipeline::{Pipeline, Sink};
use mongotap::redact::Redacted;
use mongotap::session::{Limits, Session, Shared};

use super::Choices;
use super::checks::check_events;
use super::derived::derived;
use super::nobodies::connection;

/// What sessions may read.
pub(super) const LIMITS: [Limits; 3] = [
    Limits { max_message_bytes: 48_000_000, inflate_max_bytes: 1 << 20, max_document_bytes: 10_000 },
    Limits { max_message_bytes: 4096, inflate_max_bytes: 256, max_document_bytes: 40 },
    Limits { max_message_bytes: 48_000_000, inflate_max_bytes: 1 << 16, max_document_bytes: 0 },
];

/// What happens on a connection.
#[derive(Clone, Copy)]
enum Action<'a> {
    Bytes(Side, &'a [u8]),
    Sent,
    Tick,
}

/// Both sides' bytes.
pub(super) fn session(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let first = choices.byte();
    let limits = LIMITS[usize::from(first) % LIMITS.len()];
    let mut actions = Vec::new();
    while !choices.0.is_empty() {
        let kind = choices.byte();
        let len = choices.word();
        let bytes = choices.bytes(len);
        actions.push(match kind {
            2 => Action::Sent,
            3 => Action::Tick,
            kind if kind % 2 == 0 => Action::Bytes(Side::Client, bytes),
            _ => Action::Bytes(Side::Server, bytes),
        });
    }
    let whole = through_session(&actions, usize::MAX, limits);
    check_events(&whole, &limits);
    let length = usize::from(first >> 4) + 1;
    let pieces = format!("{:?}", through_session(&actions, length, limits));
    assert!(pieces == format!("{whole:?}"), "in pieces of {length} bytes\n{pieces}\ninstead of\n{whole:?}");
    check_recording(&actions, length, limits);
}

/// What a session says of the bytes of one side.
pub(super) fn one_side(side: Side, bytes: &[u8], length: usize, limits: Limits) -> Vec<Event<'static>> {
    through_session(&[Action::Bytes(side, bytes)], length, limits)
}

fn through_session(actions: &[Action<'_>], length: usize, limits: Limits) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    let mut emit = |entry: Entry<'_>| events.push(entry.into_owned().event);
    let mut session = Session::new(connection(), AT, Shared { limits, ..Shared::default() });
    for action in actions {
        match *action {
            Action::Bytes(side, bytes) => {
                bytes.chunks(length).for_each(|piece| session.handle_bytes(side, piece, AT, &mut emit));
            }
            Action::Sent => session.handle_sent(AT, &mut emit),
            Action::Tick => session.handle_tick(AT, &mut emit),
        }
    }
    session.handle_close(Some(Side::Client), None, AT, &mut emit);
    assert!(!session.awaits_sent() && !session.is_busy());
    events
}

/// What was recorded of a connection gives the events that were seen.
fn check_recording(actions: &[Action<'_>], length: usize, limits: Limits) {
    let limits = Limits { max_document_bytes: 0, ..limits };
    let records = Arc::new(Mutex::new(Records::default()));
    let kept = Arc::clone(&records);
    let tap = Box::new(move |input: &Redacted<Input<'_>>| kept.lock().unwrap().push(input));
    let mut pipeline = Pipeline::recorded(connection(), AT, Shared { limits, ..Shared::default() }, tap);
    let mut seen = Vec::new();
    let sink: &mut Sink<'_> = &mut |entry| seen.push(format!("{entry:?}"));
    for action in actions {
        match *action {
            Action::Bytes(side, bytes) => {
                bytes.chunks(length).for_each(|piece| pipeline.handle_bytes(side, piece, AT, sink));
            }
            Action::Sent => pipeline.handle_sent(AT, sink),
            Action::Tick => pipeline.handle_tick(AT, sink),
        }
    }
    pipeline.handle_close(Some(Side::Client), None, AT, sink);
    let header = Header {
        max_message_bytes: limits.max_message_bytes,
        inflate_max_bytes: limits.inflate_max_bytes,
        idle_after_micros: u64::try_from(Shared::default().idle_after.as_micros()).unwrap(),
        ..Header::default()
    };
    let mut bytes = header.to_bytes();
    write_records(&records.lock().unwrap(), &mut bytes);
    let derived = derived(&bytes);
    let first = seen.iter().zip(&derived).find(|(seen, derived)| seen != derived);
    assert!(first.is_none(), "seen and derived\n{first:#?}");
    assert_eq!(seen.len(), derived.len(), "{seen:#?}\n{derived:#?}");
}

/// 2026-11-22T07:44:31Z.
pub(super) const AT: Timestamp = Timestamp { monotonic_nanos: 0, unix_micros: 1_795_333_471_000_000 };
