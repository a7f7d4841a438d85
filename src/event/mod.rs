//! What happened, as plain data: the events of the drivers' Command Monitoring, Server Discovery and Monitoring,
//! and Connection Monitoring specifications, with what a proxy can add, and the traits by which a program hears of them.
//!
//! Everything here is inert: no event knows how it is written, filtered or redacted. Documents are raw BSON,
//! borrowed from the bytes they came in where they can be, so that an event costs nothing until somebody keeps it
//! ([`Entry::into_owned`]).

mod command;
mod connection;
mod document;
mod ids;
mod input;
mod listener;
mod observation;
mod server;

use std::sync::Arc;

pub use crate::wire::Compressor;
pub use command::{CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Failure, Measures};
pub use connection::{
    Action, CloseReason, ConnectionClosed, ConnectionCreated, ConnectionReady, Metadata, ProtocolError,
};
pub(crate) use document::EMPTY;
pub use document::{Document, Truncated};
pub use ids::{Address, Connection, ConnectionId, Exchange, Phase, Side, Timestamp};
pub(crate) use ids::{micros, nanos};
pub use input::{Given, GivenMessage, Input, Original, Seen, SeenMessage};
pub use listener::{CommandListener, ConnectionListener, ServerHeartbeatListener, ServerListener, TopologyListener};
pub use observation::{ClientIdentity, Observation, Observed};
pub(crate) use observation::{SHUTDOWN, error_code, is_libmongoc, is_state_change};
pub use server::{
    ServerClosed, ServerDescription, ServerDescriptionChanged, ServerHeartbeatFailed, ServerHeartbeatStarted,
    ServerHeartbeatSucceeded, ServerOpening, ServerType, TopologyClosed, TopologyDescription,
    TopologyDescriptionChanged, TopologyId, TopologyOpening, TopologyType, TopologyVersion,
};

/// One event with what is common to all of them: when it happened, on which connection, in which phase of it.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When it happened: for a started event when the request was whole, for its end when the reply was.
    pub at: Timestamp,
    /// The connection it was seen on.
    pub connection: Arc<Connection>,
    /// What the connection was doing.
    pub phase: Phase,
    /// What happened.
    pub event: Event<'a>,
}

/// What can be seen on a connection.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A command was sent.
    CommandStarted(CommandStarted<'a>),
    /// A command was answered, and the answer was `ok`.
    CommandSucceeded(CommandSucceeded<'a>),
    /// A command was answered with an error, or never answered.
    CommandFailed(CommandFailed<'a>),
    /// A client connected.
    ConnectionCreated(ConnectionCreated),
    /// The handshake, and the authentication if there was one, is done.
    ConnectionReady(ConnectionReady<'a>),
    /// The connection ended.
    ConnectionClosed(ConnectionClosed),
    /// A monitor asked a server how it is.
    ServerHeartbeatStarted(Box<ServerHeartbeatStarted>),
    /// The server told it.
    ServerHeartbeatSucceeded(Box<ServerHeartbeatSucceeded<'a>>),
    /// The server did not, or said that it is not well.
    ServerHeartbeatFailed(Box<ServerHeartbeatFailed<'a>>),
    /// A server became part of a client's topology. Derived, as the next five are: a client does not tell.
    ServerOpening(Box<ServerOpening>),
    /// What a client knows of a server changed.
    ServerDescriptionChanged(Box<ServerDescriptionChanged>),
    /// A server left a client's topology.
    ServerClosed(Box<ServerClosed>),
    /// A client's topology began.
    TopologyOpening(Box<TopologyOpening>),
    /// What a client knows of its deployment changed.
    TopologyDescriptionChanged(Box<TopologyDescriptionChanged>),
    /// A client's topology ended.
    TopologyClosed(Box<TopologyClosed>),
    /// Something on the wire is not what the protocol says.
    ProtocolError(ProtocolError<'a>),
}

impl Event<'_> {
    /// The name that the unified test format gives this event; it is the `event` of a log line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CommandStarted(_) => "commandStartedEvent",
            Self::CommandSucceeded(_) => "commandSucceededEvent",
            Self::CommandFailed(_) => "commandFailedEvent",
            Self::ConnectionCreated(_) => "connectionCreatedEvent",
            Self::ConnectionReady(_) => "connectionReadyEvent",
            Self::ConnectionClosed(_) => "connectionClosedEvent",
            Self::ServerHeartbeatStarted(_) => "serverHeartbeatStartedEvent",
            Self::ServerHeartbeatSucceeded(_) => "serverHeartbeatSucceededEvent",
            Self::ServerHeartbeatFailed(_) => "serverHeartbeatFailedEvent",
            Self::ServerOpening(_) => "serverOpeningEvent",
            Self::ServerDescriptionChanged(_) => "serverDescriptionChangedEvent",
            Self::ServerClosed(_) => "serverClosedEvent",
            Self::TopologyOpening(_) => "topologyOpeningEvent",
            Self::TopologyDescriptionChanged(_) => "topologyDescriptionChangedEvent",
            Self::TopologyClosed(_) => "topologyClosedEvent",
            Self::ProtocolError(_) => "protocolErrorEvent",
        }
    }

    /// Whether it was not seen on the wire but follows from what was: `derived` in the log.
    pub fn is_derived(&self) -> bool {
        matches!(
            self,
            Self::ServerOpening(_)
                | Self::ServerDescriptionChanged(_)
                | Self::ServerClosed(_)
                | Self::TopologyOpening(_)
                | Self::TopologyDescriptionChanged(_)
                | Self::TopologyClosed(_)
        )
    }

    /// Whether it is the end of a command.
    pub fn ends_command(&self) -> bool {
        matches!(self, Self::CommandSucceeded(_) | Self::CommandFailed(_))
    }

    /// What the three command events have in common; `None` for the other kinds.
    pub fn command_info(&self) -> Option<&CommandInfo<'_>> {
        match self {
            Self::CommandStarted(event) => Some(&event.info),
            Self::CommandSucceeded(event) => Some(&event.info),
            Self::CommandFailed(event) => Some(&event.info),
            _ => None,
        }
    }

    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Self::CommandStarted(event) => Event::CommandStarted(event.into_owned()),
            Self::CommandSucceeded(event) => Event::CommandSucceeded(event.into_owned()),
            Self::CommandFailed(event) => Event::CommandFailed(event.into_owned()),
            Self::ConnectionCreated(event) => Event::ConnectionCreated(event),
            Self::ConnectionReady(event) => Event::ConnectionReady(event.into_owned()),
            Self::ConnectionClosed(event) => Event::ConnectionClosed(event),
            Self::ServerHeartbeatStarted(event) => Event::ServerHeartbeatStarted(event),
            Self::ServerHeartbeatSucceeded(event) => Event::ServerHeartbeatSucceeded(Box::new(event.into_owned())),
            Self::ServerHeartbeatFailed(event) => Event::ServerHeartbeatFailed(Box::new(event.into_owned())),
            Self::ServerOpening(event) => Event::ServerOpening(event),
            Self::ServerDescriptionChanged(event) => Event::ServerDescriptionChanged(event),
            Self::ServerClosed(event) => Event::ServerClosed(event),
            Self::TopologyOpening(event) => Event::TopologyOpening(event),
            Self::TopologyDescriptionChanged(event) => Event::TopologyDescriptionChanged(event),
            Self::TopologyClosed(event) => Event::TopologyClosed(event),
            Self::ProtocolError(event) => Event::ProtocolError(event.into_owned()),
        }
    }
}

impl Entry<'_> {
    /// The same entry, free of the buffers it was read from.
    pub fn into_owned(self) -> Entry<'static> {
        Entry { at: self.at, connection: self.connection, phase: self.phase, event: self.event.into_owned() }
    }
}
