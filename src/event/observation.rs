//! What a connection shows of its client's view of the deployment: the input of the topologies that are derived.
//!
//! A session gives these beside its events, and at once: what a server says of itself counts whoever asked, so nothing
//! is held back until it is known whose connection it is. They never reach a log.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;

use super::{Connection, Timestamp};
use crate::bson::{find, find_path};

/// Something that bears on a client's view of its deployment.
#[derive(Clone, Debug)]
pub struct Observation {
    /// When it was seen.
    pub at: Timestamp,
    /// On which connection.
    pub connection: Arc<Connection>,
    /// What.
    pub what: Observed,
}

/// Who a client is, as far as the wire tells: where it comes from and what it says of itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct ClientIdentity {
    /// The host of its address.
    pub host: String,
    /// The `client` document of its first `hello`, byte for byte; empty if there was none.
    pub metadata: Box<[u8]>,
}

/// Whether what a client says of itself is libmongoc's: the driver whose clients may have no thread but the
/// application's.
pub(crate) fn is_libmongoc(metadata: &[u8]) -> bool {
    let name = find_path(metadata, &[b"driver", b"name"]);
    name.and_then(|name| name.as_str_bytes()).is_some_and(|name| name.starts_with(b"mongoc"))
}

/// Codes of errors by which a server says that it is no primary.
const NOT_WRITABLE_PRIMARY: [i64; 3] = [10107, 13435, 10058];
/// Codes by which it says that it is recovering.
const RECOVERING: [i64; 3] = [11602, 13436, 189];
/// Codes by which it says that it is shutting down: `InterruptedAtShutdown` and `ShutdownInProgress`.
pub(crate) const SHUTDOWN: [i64; 2] = [11600, 91];

/// Whether a server says by a code that it is no primary, or is recovering or shutting down.
pub(crate) fn is_state_change(code: i64) -> bool {
    [&NOT_WRITABLE_PRIMARY[..], &RECOVERING, &SHUTDOWN].iter().any(|codes| codes.contains(&code))
}

/// The code of a reply, a write error or a write concern error, if it has one.
pub(crate) fn error_code(error: &[u8]) -> Option<i64> {
    find(error, b"code").and_then(|code| code.as_i64())
}

/// What can be seen of a deployment on one connection.
#[derive(Clone, Debug)]
pub enum Observed {
    /// The connection's first `hello`: always its first observation. The connection was made at `created_at`.
    Greeted {
        /// Who asks.
        client: ClientIdentity,
        /// It said `loadBalanced: true`.
        load_balanced: bool,
        /// When the client connected.
        created_at: Timestamp,
    },
    /// A server answered a `hello`, with `ok: 1` or without.
    Hello(RawDocumentBuf),
    /// A monitor's check came to no answer: the connection ended.
    CheckFailed(String),
    /// An application's command was answered with an error, or with a write concern error.
    CommandFailed {
        /// What the server said.
        reply: RawDocumentBuf,
        /// The command was a step of an authentication.
        authenticating: bool,
    },
    /// An application's connection ended, after its handshake, with a request outstanding.
    NetworkError(String),
    /// The client says that it is about to leave: `endSessions`.
    EndsSessions,
    /// The connection ended. Always its last observation.
    Closed {
        /// The client ended it.
        by_client: bool,
    },
}
