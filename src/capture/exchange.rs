//! Recorded exchanges: what was asked, and what was answered, in the order of the requests.
//!
//! They come out of a capture or a fixture alike, and are what fixtures are written from, what replay answers from and
//! what play sends. Values are those that were recorded; which of them differ from one run to the next is told by
//! [`names`](super::names).

use std::fmt;
use std::sync::Arc;

use crate::bson::{Elements, find_path};
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

impl Exchange {
    /// An application's command and its answers, all at one time and on the only connection that there is.
    pub fn new(place: Place, at: Timestamp, request: Vec<u8>, replies: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self {
            place,
            connection: ConnectionId(1),
            app_name: None,
            phase: Phase::App,
            at,
            request,
            wants_reply: true,
            replies: replies.into_iter().map(|body| Reply { at, body }).collect(),
        }
    }

    /// The command's name: its first field's. Empty if it has none.
    pub fn name(&self) -> &str {
        let first = Elements::readable(&self.request).next();
        first.and_then(|element| std::str::from_utf8(element.name).ok()).unwrap_or_default()
    }

    /// Whether it is not the application's: of another phase, or one of the commands that drivers and their pools send by
    /// themselves ([`is_housekeeping`]).
    pub fn is_housekeeping(&self) -> bool {
        self.phase != Phase::App || is_housekeeping(self.name())
    }
}

/// Whether a command of that name is one that drivers send by themselves, as often as their pools want it: a recording
/// says nothing of the application by it. An application that sends one gets a true answer from any server.
pub fn is_housekeeping(name: &str) -> bool {
    matches!(
        name,
        "authenticate"
            | "buildInfo"
            | "buildinfo"
            | "endSessions"
            | "getnonce"
            | "hello"
            | "isMaster"
            | "ismaster"
            | "killCursors"
            | "logout"
            | "ping"
            | "refreshSessions"
            | "saslContinue"
            | "saslStart"
    )
}

/// Times of the recorded cluster within a `readConcern`: those of another one mean nothing.
pub const READ_CONCERN_TIMES: [&[u8]; 2] = [b"afterClusterTime", b"atClusterTime"];

/// Whether a command opens a change stream.
pub fn opens_change_stream(command: &[u8]) -> bool {
    find_path(command, &[b"pipeline", b"0", b"$changeStream"]).is_some()
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
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
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

#[cfg(test)]
pub(crate) mod testing {
    //! Exchanges for the tests of what takes them.

    use bson::Document;

    use super::*;

    /// An application's, all at one time in microseconds since 1970.
    pub(crate) fn exchange(request: &Document, replies: &[&Document], unix_micros: i64) -> Exchange {
        let at = Timestamp { monotonic_nanos: 0, unix_micros };
        let replies = replies.iter().map(|reply| reply.to_vec().unwrap());
        Exchange::new(Place::Exchange(1), at, request.to_vec().unwrap(), replies)
    }
}
