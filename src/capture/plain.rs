//! Messages of a capture that need nothing but themselves to be understood: the commands that applications send most, as
//! `OP_MSG`s that ask for one answer, and such answers.
//!
//! What a session would tell of them is in the messages, and the number of their exchange stands beside them. Whoever reads
//! a block can find out what is in them at once, on any thread, and does not hand them on. Everything else, and what a
//! connection says before it is known to be an application's, is left to the session.

use super::exchange::opens_change_stream;
use crate::bson::{Elements, find};
use crate::event::{ConnectionId, Given, Input, Side, Timestamp};
use crate::session::plain_document;

/// A message that needs no session.
#[derive(Debug)]
pub struct Plain<'a> {
    /// Its connection.
    pub connection: ConnectionId,
    /// When it was whole.
    pub at: Timestamp,
    /// Who sent it.
    pub side: Side,
    /// The number of the exchange that it begins or ends.
    pub exchange: u64,
    /// Its document, sequences merged in.
    pub document: &'a [u8],
}

/// What was found out about one.
#[derive(Debug)]
pub struct Noted<N> {
    /// Its place in what its block holds.
    pub place: u32,
    /// Its connection.
    pub connection: ConnectionId,
    /// Who sent it.
    pub side: Side,
    /// The number of the exchange that it begins or ends.
    pub exchange: u64,
    /// How many bytes are held for what was found out.
    pub held: usize,
    /// What was found out; its exchange holds no document beside it.
    pub note: N,
}

impl<'a> Plain<'a> {
    /// A message as it stands in a block, if it is one; it may have that many bytes inflated. `room` is for a document that
    /// does not stand there as it is.
    pub fn of(input: &'a Input<'_>, inflate_max: usize, room: &'a mut Vec<u8>) -> Option<Self> {
        let Given::Message(message) = &input.given else { return None };
        // One that was made anew when it was recorded is read as it is now.
        let is_whole = message.original.as_ref().is_none_or(|it| it.unread.is_none() && it.flags.is_none());
        let exchange = message.exchange.filter(|_| is_whole && message.continued.is_none())?.0;
        let document = plain_document(&message.bytes, inflate_max, room)?;
        let is_plain = message.side == Side::Server || is_plain(document);
        let (connection, at, side) = (input.connection, input.at, message.side);
        is_plain.then_some(Self { connection, at, side, exchange, document })
    }

    /// With what was found out about it.
    pub fn noted<N>(&self, place: u32, held: usize, note: N) -> Noted<N> {
        let Self { connection, side, exchange, .. } = *self;
        Noted { place, connection, side, exchange, held, note }
    }
}

impl<N> Noted<N> {
    /// The same with something else in the place of what was found out.
    pub fn map<M>(self, change: impl FnOnce(N) -> M) -> Noted<M> {
        let Self { place, connection, side, exchange, held, note } = self;
        Noted { place, connection, side, exchange, held, note: change(note) }
    }
}

/// Whether a command is one whose cursor does not wait for what comes, and which wants an answer.
fn is_plain(command: &[u8]) -> bool {
    const NAMES: [&[u8]; 8] =
        [b"find", b"insert", b"update", b"delete", b"aggregate", b"count", b"distinct", b"findAndModify"];
    let mut elements = Elements::readable(command);
    let is_known = elements.next().is_some_and(|first| NAMES.contains(&first.name));
    is_known
        && elements.all(|element| match element.name {
            b"tailable" => false,
            b"pipeline" => !opens_change_stream(command),
            b"writeConcern" => {
                let w = element.as_document().and_then(|concern| find(concern, b"w"));
                w.and_then(|w| w.as_i64()) != Some(0)
            }
            _ => true,
        })
}
