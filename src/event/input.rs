//! What a session is given, as plain data: the input of a recording, from which its events can be derived again.
//!
//! [`Seen`] is what a session tells while it reads, credentials and all. [`Input`] is what becomes of it behind the
//! redactor, and what a session takes in the place of bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Connection, ConnectionId, Exchange, Side, Timestamp};
use crate::wire::{Compressor, Header, WireError};

/// What was read on a connection, and how it was understood.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A whole message.
    Message(SeenMessage<'a>),
    /// The first bytes, 16 at most, of what is no whole message: it was torn, or is none at all.
    Begun {
        /// Who sent them.
        side: Side,
        /// The bytes.
        bytes: &'a [u8],
    },
}

/// A message with what is known of it once it was read.
#[derive(Debug)]
pub struct SeenMessage<'a> {
    /// Who sent it.
    pub side: Side,
    /// The message as it was on the wire.
    pub bytes: &'a [u8],
    /// Its header.
    pub header: Header,
    /// When its first byte came.
    pub first_byte_at: Timestamp,
    /// When a request had gone on, if that is known.
    pub sent_at: Option<Timestamp>,
    /// See [`GivenMessage::exchange`].
    pub exchange: Option<Exchange>,
    /// See [`GivenMessage::continued`].
    pub continued: Option<Exchange>,
    /// There may be credentials in it.
    pub sensitive: bool,
    /// Why it could not be read.
    pub unread: Option<WireError>,
    /// Of one that could not be read: the flags of the `OP_MSG` that it is, else 0.
    pub flags: Option<u32>,
}

/// Something that a session was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Input<'a> {
    /// Which connection's session.
    pub connection: ConnectionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub given: Given<'a>,
}

/// What a session can be given.
#[derive(Clone, Debug, PartialEq)]
pub enum Given<'a> {
    /// Its connection. Always the first.
    Opened(Arc<Connection>),
    /// A whole message.
    Message(GivenMessage<'a>),
    /// The first bytes, 16 at most, of what is no whole message.
    Begun {
        /// Who sent them.
        side: Side,
        /// The bytes.
        bytes: Cow<'a, [u8]>,
    },
    /// What the client had sent so far was handed on.
    Sent,
    /// Whose connection it is, as far as the other connections of its client told when it was decided by a tick or by
    /// the end, the next input. They may be recorded in another order than they were looked at.
    Judged {
        /// A monitor's, or else an application's.
        is_monitor: bool,
    },
    /// The time, and whose connection it is was decided by it.
    Tick,
    /// The next message of that side was kept back.
    Withheld {
        /// Who sent it.
        side: Side,
        /// Why.
        message: Cow<'a, str>,
    },
    /// The end of the connection. Always the last.
    Closed {
        /// Who ended it; `None` for the proxy.
        by: Option<Side>,
        /// What went wrong, if anything did.
        error: Option<Cow<'a, str>>,
    },
}

/// A whole message, less the credentials in it.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenMessage<'a> {
    /// Who sent it.
    pub side: Side,
    /// The message. Never less than a header.
    pub bytes: Cow<'a, [u8]>,
    /// From its first byte until it was whole.
    pub took: Duration,
    /// From when a request was whole until it had gone on, if that is known.
    pub sent_after: Option<Duration>,
    /// The exchange that a request begins, or that a reply ends. `None` if it is in none.
    pub exchange: Option<Exchange>,
    /// The exchange that a reply begins because others follow it unasked.
    pub continued: Option<Exchange>,
    /// What the message was on the wire, if these are not its bytes.
    pub original: Option<Original<'a>>,
}

impl GivenMessage<'_> {
    /// The same with its own copies.
    pub fn into_owned(self) -> GivenMessage<'static> {
        let own = |it: Original<'_>| Original { unread: it.unread.map(|why| Cow::Owned(why.into_owned())), ..it };
        GivenMessage { bytes: Cow::Owned(self.bytes.into_owned()), original: self.original.map(own), ..self }
    }
}

/// What a message was on the wire whose bytes are not kept as they were.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Original<'a> {
    /// Its `messageLength`.
    pub length: i32,
    /// What it was compressed with.
    pub compressor: Option<Compressor>,
    /// Of one that could not be read: its `flagBits`; 0 if it has none.
    pub flags: Option<u32>,
    /// Of one that could not be read and of which nothing is kept but its header: why not.
    pub unread: Option<Cow<'a, str>>,
}
