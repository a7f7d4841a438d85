//! Recorded exchanges: what was asked, and what was answered, in the order of the requests.
//!
//! They come out of a capture or a fixture alike, and are what fixtures are written from, what replay answers from and
//! what play sends. Values are those that were recorded; which of them differ from one run to the next is told by
//! [`names`](super::names).

use std::fmt;
use std::sync::Arc;

use crate::event::{ConnectionId, Phase, Timestamp};

/// A request and what it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// Where it is in its file.
    pub place: Place,
    /// The connection that asked. In a fixture it is always the same one.
    pub connection: ConnectionId,
    /// `client.application.name` of that connection's handshake.
    pub app_name: Option<Arc<str>>,
    /// What the connection was for. In a fixture it is always `app`.
    pub phase: Phase,
    /// When the request was whole. In a fixture an exchange is a millisecond after the one before it, in a time of its own.
    pub at: Timestamp,
    /// The command as BSON, `$db` included, document sequences merged in.
    pub request: Vec<u8>,
    /// Whether an answer was wanted: not with `moreToCome`.
    pub wants_reply: bool,
    /// What was answered: one reply, several to an exhaust request, none if none was wanted or the connection ended first.
    pub replies: Vec<Reply>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// When it was whole.
    pub at: Timestamp,
    /// The document as BSON.
    pub body: Vec<u8>,
}

/// Where an exchange is in its file.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Place {
    /// The line of a fixture with the request's body, from 1.
    Line(u64),
    /// The exchange of a capture: `proxy.exchange` of the log.
    Exchange(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Exchange(number) => write!(f, "exchange {number}"),
        }
    }
}
