//! The listeners a program can give to [`Proxy::builder`](crate::Proxy::builder): the drivers' own four kinds and
//! the connection's. Every method does nothing unless it is overridden.
//!
//! They are called on a thread of their own, one event at a time, in log order.

use super::{
    CommandFailed, CommandStarted, CommandSucceeded, Connection, ConnectionClosed, ConnectionCreated, ConnectionReady,
    ServerClosed, ServerDescriptionChanged, ServerHeartbeatFailed, ServerHeartbeatStarted, ServerHeartbeatSucceeded,
    ServerOpening, TopologyClosed, TopologyDescriptionChanged, TopologyOpening,
};

/// Hears of commands.
#[expect(unused_variables, reason = "the empty defaults name their arguments for the reader")]
pub trait CommandListener: Send + 'static {
    /// A command was sent.
    fn started(&mut self, connection: &Connection, event: &CommandStarted<'_>) {}
    /// A command was answered, and the answer was `ok`.
    fn succeeded(&mut self, connection: &Connection, event: &CommandSucceeded<'_>) {}
    /// A command was answered with an error, or never answered.
    fn failed(&mut self, connection: &Connection, event: &CommandFailed<'_>) {}
}

/// Hears of application connections.
#[expect(unused_variables, reason = "the empty defaults name their arguments for the reader")]
pub trait ConnectionListener: Send + 'static {
    /// A client connected.
    fn created(&mut self, connection: &Connection, event: &ConnectionCreated) {}
    /// The handshake, and the authentication if there was one, is done.
    fn ready(&mut self, connection: &Connection, event: &ConnectionReady<'_>) {}
    /// The connection ended.
    fn closed(&mut self, connection: &Connection, event: &ConnectionClosed) {}
}

/// Hears of the heartbeats of drivers' monitors.
#[expect(unused_variables, reason = "the empty defaults name their arguments for the reader")]
pub trait ServerHeartbeatListener: Send + 'static {
    /// A monitor asked.
    fn started(&mut self, event: &ServerHeartbeatStarted) {}
    /// The server answered.
    fn succeeded(&mut self, event: &ServerHeartbeatSucceeded<'_>) {}
    /// The server answered with an error, or not at all.
    fn failed(&mut self, event: &ServerHeartbeatFailed<'_>) {}
}

/// Hears of servers.
#[expect(unused_variables, reason = "the empty defaults name their arguments for the reader")]
pub trait ServerListener: Send + 'static {
    /// A server became part of a topology.
    fn opened(&mut self, event: &ServerOpening) {}
    /// What is known of a server changed.
    fn description_changed(&mut self, event: &ServerDescriptionChanged) {}
    /// A server left a topology.
    fn closed(&mut self, event: &ServerClosed) {}
}

/// Hears of topologies.
#[expect(unused_variables, reason = "the empty defaults name their arguments for the reader")]
pub trait TopologyListener: Send + 'static {
    /// A client's topology began.
    fn opened(&mut self, event: &TopologyOpening) {}
    /// What is known of a topology changed.
    fn description_changed(&mut self, event: &TopologyDescriptionChanged) {}
    /// A client's topology ended.
    fn closed(&mut self, event: &TopologyClosed) {}
}
