//! The Connection Monitoring and Pooling specification's events, as far as they can be seen from outside the
//! driver, and the events about bytes that are not the protocol's.

use std::borrow::Cow;
use std::time::Duration;

use super::Side;
use crate::wire::Compressor;

/// An application's connection was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ConnectionCreated {}

/// What the client said of itself in its first `hello`, and what was agreed there.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metadata<'a> {
    /// `client.application.name`.
    pub app_name: Option<Cow<'a, str>>,
    /// `client.driver.name`.
    pub driver: Option<Cow<'a, str>>,
    /// `client.driver.version`.
    pub driver_version: Option<Cow<'a, str>>,
    /// The compressors that both sides named.
    pub compressors: Vec<Compressor>,
    /// Whether the client's side is encrypted.
    pub tls: bool,
}

/// The handshake, and the authentication if there was one, is done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConnectionReady<'a> {
    /// From the connection's creation.
    pub duration: Duration,
    /// The server's own number of the connection.
    pub server_connection_id: Option<i64>,
    /// What the client said of itself.
    pub metadata: Metadata<'a>,
}

impl ConnectionReady<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> ConnectionReady<'static> {
        let own = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        let Metadata { app_name, driver, driver_version, compressors, tls } = self.metadata;
        let metadata = Metadata {
            app_name: own(app_name),
            driver: own(driver),
            driver_version: own(driver_version),
            compressors,
            tls,
        };
        ConnectionReady { metadata, ..self }
    }
}

/// Why a connection was closed, in the specification's words as far as the wire tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseReason {
    /// An error: a reset, an upstream that went away, a protocol error.
    Error,
    /// The client closed its pool: it had said `endSessions`.
    PoolClosed,
    /// The client closed in good order and the wire does not tell why.
    Unknown,
}

impl CloseReason {
    /// `error`, `poolClosed` or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::PoolClosed => "poolClosed",
            Self::Unknown => "unknown",
        }
    }
}

/// An application's connection ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ConnectionClosed {
    /// Why, as far as it can be told.
    pub reason: CloseReason,
    /// Who closed it; `None` when it was the proxy, at its own end.
    pub closed_by: Option<Side>,
}

/// What was done about bytes that could not be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The message was forwarded; the next one is read as usual.
    Forwarded,
    /// Everything from here on, both ways, is forwarded unread.
    Tunnelled,
    /// It was kept back, and the connection closed: it names servers past the proxy, or a side does not speak TLS as it
    /// should.
    Closed,
}

impl Action {
    /// `forwarded`, `tunnelled` or `closed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Tunnelled => "tunnelled",
            Self::Closed => "closed",
        }
    }
}

/// Something on the wire is not what the protocol says, or cannot be passed on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProtocolError<'a> {
    /// Who sent it.
    pub side: Side,
    /// Where in that side's bytes: the offset of the message's first byte from the connection's start.
    pub offset: u64,
    /// What is wrong. Never holds bytes of the payload.
    pub message: Cow<'a, str>,
    /// What was done about it.
    pub action: Action,
}

impl ProtocolError<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> ProtocolError<'static> {
        ProtocolError { message: Cow::Owned(self.message.into_owned()), ..self }
    }
}
