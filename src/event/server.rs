//! The Server Discovery and Monitoring specification's events and what they describe.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;

use super::Address;

/// The identity of one client's view of a deployment.
pub type TopologyId = ObjectId;

/// What a server is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum ServerType {
    Standalone,
    Mongos,
    PossiblePrimary,
    RSPrimary,
    RSSecondary,
    RSArbiter,
    RSOther,
    RSGhost,
    LoadBalancer,
    #[default]
    Unknown,
}

/// What a deployment is.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the specification's own names")]
pub enum TopologyType {
    Single,
    ReplicaSetNoPrimary,
    ReplicaSetWithPrimary,
    Sharded,
    LoadBalanced,
    #[default]
    Unknown,
}

/// What is known of one server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerDescription {
    /// The address that the client dials.
    pub address: Address,
    /// What it is.
    pub server_type: ServerType,
    /// The name of its replica set.
    pub set_name: Option<String>,
    /// Why it is unknown.
    pub error: Option<String>,
}

/// What is known of a deployment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopologyDescription {
    /// What it is.
    pub topology_type: TopologyType,
    /// The name of the replica set.
    pub set_name: Option<String>,
    /// Its servers.
    pub servers: Vec<ServerDescription>,
}

/// A topology began.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyOpening {
    /// Which.
    pub topology_id: TopologyId,
}

/// A topology ended.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyClosed {
    /// Which.
    pub topology_id: TopologyId,
}

/// A topology changed.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyDescriptionChanged {
    /// Which.
    pub topology_id: TopologyId,
    /// What it was.
    pub previous_description: TopologyDescription,
    /// What it is.
    pub new_description: TopologyDescription,
}

/// A server became part of a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOpening {
    /// Which topology.
    pub topology_id: TopologyId,
    /// Which server.
    pub address: Address,
}

/// A server left a topology.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerClosed {
    /// Which topology.
    pub topology_id: TopologyId,
    /// Which server.
    pub address: Address,
}

/// A server's description changed.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerDescriptionChanged {
    /// Which topology.
    pub topology_id: TopologyId,
    /// Which server.
    pub address: Address,
    /// What it was.
    pub previous_description: ServerDescription,
    /// What it is.
    pub new_description: ServerDescription,
}

/// A monitor asked a server how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHeartbeatStarted {
    /// The server.
    pub connection_id: Address,
    /// Whether the server may wait before it answers.
    pub awaited: bool,
}

/// A server told a monitor how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHeartbeatSucceeded {
    /// The server.
    pub connection_id: Address,
    /// Whether the server was allowed to wait.
    pub awaited: bool,
    /// From the question to the answer.
    pub duration: Duration,
    /// The answer.
    pub reply: RawDocumentBuf,
}

/// A server did not tell a monitor how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHeartbeatFailed {
    /// The server.
    pub connection_id: Address,
    /// Whether the server was allowed to wait.
    pub awaited: bool,
    /// From the question to the end.
    pub duration: Duration,
    /// Why.
    pub failure: String,
}
