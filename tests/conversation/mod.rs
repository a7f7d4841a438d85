//! Random conversations of a client and a server, their bytes, and what a session says of them.
//!
//! The bytes are written here by hand, and the answers chosen by a list of ids that wait, so that nothing depends on the
//! code under test.

use proptest::prelude::*;

use mongotap::event::{Document, Entry, Event, Failure, Side, Timestamp};
use mongotap::session::{Limits, Session, Shared};

use crate::nobodies::connection;

/// What happens on a connection. `n` of a frame is its place in the conversation; it is in its document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Frame {
    Command {
        id: i32,
        exhaust: bool,
        noop: bool,
    },
    /// A request with moreToCome.
    Unacknowledged {
        id: i32,
        noop: bool,
    },
    /// A request of an opcode that nobody knows.
    UnreadableRequest {
        id: i32,
    },
    /// An `OP_INSERT` that breaks off: it would not be answered.
    UnreadableWrite {
        id: i32,
    },
    Reply {
        id: i32,
        to: i32,
        more: bool,
        ok: bool,
        noop: bool,
    },
    /// A reply with a flag that nobody knows.
    UnreadableReply {
        id: i32,
        to: i32,
    },
    /// The client's bytes have gone to the server.
    Sent,
}

/// A conversation, until its end.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) frames: Vec<Frame>,
    /// Into pieces of these lengths, in turn, each side's bytes are cut.
    pub(crate) pieces: Vec<usize>,
    pub(crate) closed_by: Option<Side>,
    pub(crate) max_document_bytes: usize,
}

/// What can be seen of an event from outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    Started { exchange: u64, id: i32, continues: Option<u64>, n: Option<i32> },
    Succeeded { exchange: u64, id: i32, continues: Option<u64>, n: Option<i32> },
    Failed { exchange: u64, id: i32, continues: Option<u64>, n: Option<i32> },
    Error { side: Side, offset: u64 },
}

// --- making them

/// A frame whose ids are not chosen yet.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Fixed(Frame),
    /// Answers the one of those that wait that this number chooses, if any waits.
    Answer {
        which: usize,
        frame: Frame,
    },
}

/// Few ids, so that they repeat.
fn ids() -> impl Strategy<Value = i32> {
    prop_oneof![8 => -2..=3_i32, 1 => Just(i32::MIN), 1 => Just(i32::MAX)]
}

fn plans() -> impl Strategy<Value = Plan> {
    let flags = || (any::<bool>(), prop::bool::weighted(0.8), prop::bool::weighted(0.2));
    let reply =
        || (ids(), ids(), flags()).prop_map(|(id, to, (more, ok, noop))| Frame::Reply { id, to, more, ok, noop });
    prop_oneof![
        8 => (ids(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(id, exhaust, noop)| Plan::Fixed(Frame::Command { id, exhaust, noop })),
        4 => (ids(), prop::bool::weighted(0.2)).prop_map(|(id, noop)| Plan::Fixed(Frame::Unacknowledged { id, noop })),
        1 => ids().prop_map(|id| Plan::Fixed(Frame::UnreadableRequest { id })),
        1 => ids().prop_map(|id| Plan::Fixed(Frame::UnreadableWrite { id })),
        2 => reply().prop_map(Plan::Fixed),
        // Mostly the oldest is answered, as servers do.
        8 => reply().prop_map(|frame| Plan::Answer { which: 0, frame }),
        3 => (reply(), any::<usize>()).prop_map(|(frame, which)| Plan::Answer { which, frame }),
        1 => (ids(), any::<usize>())
            .prop_map(|(id, which)| Plan::Answer { which, frame: Frame::UnreadableReply { id, to: 0 } }),
        4 => Just(Plan::Fixed(Frame::Sent)),
    ]
}

/// Chooses whom answers answer, by the ids that were asked and not answered yet.
fn resolved(plans: Vec<Plan>) -> Vec<Frame> {
    let mut asked: Vec<i32> = Vec::new();
    let mut frames = Vec::new();
    for plan in plans {
        let mut frame = match plan {
            Plan::Fixed(frame) | Plan::Answer { frame, .. } => frame,
        };
        if let (Plan::Answer { which, .. }, false) = (plan, asked.is_empty()) {
            let chosen = asked[which % asked.len()];
            match &mut frame {
                Frame::Reply { to, .. } | Frame::UnreadableReply { to, .. } => *to = chosen,
                _ => {}
            }
        }
        match frame {
            Frame::Command { id, .. } | Frame::UnreadableRequest { id } => asked.push(id),
            Frame::Reply { id, to, more, .. } => {
                if let Some(at) = asked.iter().position(|waits| *waits == to) {
                    asked.remove(at);
                    asked.splice(at..at, more.then_some(id));
                }
            }
            Frame::UnreadableReply { to, .. } => {
                asked.iter().position(|waits| *waits == to).map(|at| asked.remove(at));
            }
            Frame::Unacknowledged { .. } | Frame::UnreadableWrite { .. } | Frame::Sent => {}
        }
        frames.push(frame);
    }
    frames
}

/// Any conversation.
pub(crate) fn conversations() -> impl Strategy<Value = Conversation> {
    let closed_by = prop_oneof![Just(None), Just(Some(Side::Client)), Just(Some(Side::Server))];
    let pieces = prop::collection::vec(prop_oneof![1..60_usize, Just(usize::MAX)], 1..5);
    let limits = prop_oneof![Just(0_usize), Just(5), Just(10_000)];
    (prop::collection::vec(plans(), 0..40), pieces, closed_by, limits).prop_map(
        |(plans, pieces, closed_by, max_document_bytes)| {
            // The first message is a command, so that it is known whose connection it is.
            let mut frames = vec![Frame::Command { id: 1000, exhaust: false, noop: false }];
            frames.extend(resolved(plans));
            Conversation { frames, pieces, closed_by, max_document_bytes }
        },
    )
}

// --- their bytes

fn message(op_code: i32, id: i32, to: i32, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(16 + body.len()).unwrap();
    let header = [length, id, to, op_code].map(i32::to_le_bytes);
    [&header.concat(), body].concat()
}

fn op_msg(id: i32, to: i32, flags: u32, document: &[u8], noop: bool) -> Vec<u8> {
    let body = [&flags.to_le_bytes(), &[0][..], document].concat();
    if !noop {
        return message(2013, id, to, &body);
    }
    let size = i32::try_from(body.len()).unwrap();
    message(2012, id, to, &[&2013_i32.to_le_bytes(), &size.to_le_bytes(), &[0][..], &body].concat())
}

/// `{n: …}`, and before it in a reply `ok`.
fn document(ok: Option<bool>, n: i32) -> Vec<u8> {
    let ok = ok.map(|ok| [b"\x10ok\0", &i32::from(ok).to_le_bytes()[..]].concat()).unwrap_or_default();
    let fields = [&ok[..], b"\x10n\0", &n.to_le_bytes()].concat();
    let length = i32::try_from(fields.len() + 5).unwrap();
    [&length.to_le_bytes(), &fields[..], &[0]].concat()
}

/// The `n` of a document, if it has one.
fn n_of(document: &Document<'_>) -> Option<i32> {
    let (rest, n) = document.as_bytes().strip_suffix(&[0])?.split_last_chunk::<4>()?;
    rest.ends_with(b"\x10n\0").then(|| i32::from_le_bytes(*n))
}

impl Frame {
    /// Whose bytes they are.
    pub(crate) fn side(&self) -> Option<Side> {
        match self {
            Self::Command { .. }
            | Self::Unacknowledged { .. }
            | Self::UnreadableRequest { .. }
            | Self::UnreadableWrite { .. } => Some(Side::Client),
            Self::Reply { .. } | Self::UnreadableReply { .. } => Some(Side::Server),
            Self::Sent => None,
        }
    }

    /// The bytes of the frame that is the `n`th.
    pub(crate) fn bytes(&self, n: i32) -> Vec<u8> {
        match *self {
            Self::Command { id, exhaust, noop } => op_msg(id, 0, u32::from(exhaust) << 16, &document(None, n), noop),
            Self::Unacknowledged { id, noop } => op_msg(id, 0, 2, &document(None, n), noop),
            Self::UnreadableRequest { id } => message(9999, id, 0, b"any"),
            Self::UnreadableWrite { id } => message(2002, id, 0, b"\0\0\0\0d.c\0\x0e\0"),
            Self::Reply { id, to, more, ok, noop } => {
                op_msg(id, to, u32::from(more) << 1, &document(Some(ok), n), noop)
            }
            Self::UnreadableReply { id, to } => op_msg(id, to, 4, &document(Some(true), n), false),
            Self::Sent => Vec::new(),
        }
    }
}

// --- what a session says

fn session(conversation: &Conversation, emit: &mut dyn FnMut(Entry<'_>)) {
    let at = Timestamp::default();
    let limits = Limits { max_document_bytes: conversation.max_document_bytes, ..Limits::default() };
    let mut session = Session::new(connection(), at, Shared { limits, ..Shared::default() });
    let mut pieces = conversation.pieces.iter().copied().cycle();
    // What one side says without being interrupted is cut as a whole, so that pieces lie across messages.
    let mut turn: (Option<Side>, Vec<u8>) = (None, Vec::new());
    let mut flush = |turn: &mut (Option<Side>, Vec<u8>), session: &mut Session, emit: &mut dyn FnMut(Entry<'_>)| {
        let bytes = std::mem::take(&mut turn.1);
        let mut rest = &bytes[..];
        while let (Some(side), false) = (turn.0, rest.is_empty()) {
            let (piece, after) = rest.split_at(pieces.next().unwrap().min(rest.len()));
            session.handle_bytes(side, piece, at, emit);
            rest = after;
        }
    };
    for (n, frame) in conversation.frames.iter().enumerate() {
        if frame.side() != turn.0 {
            flush(&mut turn, &mut session, emit);
            turn.0 = frame.side();
        }
        turn.1.extend(frame.bytes(i32::try_from(n).unwrap()));
        if matches!(frame, Frame::Sent) {
            session.handle_sent(at, emit);
        }
    }
    flush(&mut turn, &mut session, emit);
    session.handle_close(conversation.closed_by, None, at, emit);
}

/// The command events and the errors that a session gives.
pub(crate) fn seen_by_a_session(conversation: &Conversation) -> Vec<Seen> {
    let mut all = Vec::new();
    session(conversation, &mut |entry| all.extend(seen(&entry.event)));
    all
}

/// Everything that a session gives, as text.
pub(crate) fn entries(conversation: &Conversation) -> Vec<String> {
    let mut all = Vec::new();
    session(conversation, &mut |entry| all.push(format!("{entry:?}")));
    all
}

fn seen(event: &Event<'_>) -> Option<Seen> {
    let ids = event.command_info().map(|info| (info.exchange.0, info.request_id, info.continues.map(|it| it.0)));
    match (event, ids) {
        (Event::CommandStarted(event), Some((exchange, id, continues))) => {
            Some(Seen::Started { exchange, id, continues, n: n_of(&event.command) })
        }
        (Event::CommandSucceeded(event), Some((exchange, id, continues))) => {
            Some(Seen::Succeeded { exchange, id, continues, n: n_of(&event.reply) })
        }
        (Event::CommandFailed(event), Some((exchange, id, continues))) => {
            let n = match &event.failure {
                Failure::Reply(reply) => n_of(reply),
                Failure::Network { .. } => None,
            };
            Some(Seen::Failed { exchange, id, continues, n })
        }
        (Event::ProtocolError(error), _) => Some(Seen::Error { side: error.side, offset: error.offset }),
        _ => None,
    }
}
