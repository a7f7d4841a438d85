//! The Server Discovery and Monitoring specification's events and what they describe.

use std::time::Duration;

use bson::DateTime;
use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;

use super::{Address, Document, Failure};

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

impl ServerType {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Standalone,
        Self::Mongos,
        Self::PossiblePrimary,
        Self::RSPrimary,
        Self::RSSecondary,
        Self::RSArbiter,
        Self::RSOther,
        Self::RSGhost,
        Self::LoadBalancer,
        Self::Unknown,
    ];

    /// The specification's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standalone => "Standalone",
            Self::Mongos => "Mongos",
            Self::PossiblePrimary => "PossiblePrimary",
            Self::RSPrimary => "RSPrimary",
            Self::RSSecondary => "RSSecondary",
            Self::RSArbiter => "RSArbiter",
            Self::RSOther => "RSOther",
            Self::RSGhost => "RSGhost",
            Self::LoadBalancer => "LoadBalancer",
            Self::Unknown => "Unknown",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// Whether it has said what it is: of a possible primary only others have.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Unknown | Self::PossiblePrimary)
    }
}

impl TopologyType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Single,
        Self::ReplicaSetNoPrimary,
        Self::ReplicaSetWithPrimary,
        Self::Sharded,
        Self::LoadBalanced,
        Self::Unknown,
    ];

    /// The specification's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Single => "Single",
            Self::ReplicaSetNoPrimary => "ReplicaSetNoPrimary",
            Self::ReplicaSetWithPrimary => "ReplicaSetWithPrimary",
            Self::Sharded => "Sharded",
            Self::LoadBalanced => "LoadBalanced",
            Self::Unknown => "Unknown",
        }
    }

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }
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

/// How new what a server says of itself is: the count of its changes, of one process of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TopologyVersion {
    /// The process.
    pub process_id: ObjectId,
    /// How often it has changed.
    pub counter: i64,
}

/// What is known of one server. Names of hosts are in lower case, each with its port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerDescription {
    /// The address that the client dials.
    pub address: Address,
    /// What it is.
    pub server_type: ServerType,
    /// Why it is unknown.
    pub error: Option<String>,
    /// The name of its replica set.
    pub set_name: Option<String>,
    /// The version of the set's configuration.
    pub set_version: Option<i64>,
    /// The election that made it primary.
    pub election_id: Option<ObjectId>,
    /// What it calls itself.
    pub me: Option<String>,
    /// The set's members that hold data and may be elected.
    pub hosts: Vec<String>,
    /// The set's members that hold data and may not.
    pub passives: Vec<String>,
    /// The set's members that only vote.
    pub arbiters: Vec<String>,
    /// Whom it takes for the primary.
    pub primary: Option<String>,
    /// Its tags, in its order.
    pub tags: Vec<(String, String)>,
    /// The oldest protocol it speaks.
    pub min_wire_version: Option<i32>,
    /// The newest.
    pub max_wire_version: Option<i32>,
    /// How long it keeps a session.
    pub logical_session_timeout_minutes: Option<i64>,
    /// How new this is.
    pub topology_version: Option<TopologyVersion>,
    /// The wall clock time of its last write. Of no weight when two descriptions are compared.
    pub last_write_date: Option<DateTime>,
    /// The optime of its last write. Of no weight either.
    pub op_time: Option<RawDocumentBuf>,
    /// Whether it is a mongocryptd.
    pub iscryptd: bool,
}

/// What is known of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub struct TopologyDescription {
    /// What it is.
    pub topology_type: TopologyType,
    /// The name of the replica set.
    pub set_name: Option<String>,
    /// The newest election that was heard of.
    pub max_election_id: Option<ObjectId>,
    /// The newest configuration that was heard of.
    pub max_set_version: Option<i64>,
    /// Its servers, in the order in which they became known.
    pub servers: Vec<ServerDescription>,
    /// Why a driver could not work with it, if it is not compatible.
    pub compatibility_error: Option<String>,
    /// The least of its servers that hold data; `None` if one of them has none.
    pub logical_session_timeout_minutes: Option<i64>,
}

impl Default for TopologyDescription {
    /// Unknown, without servers: what every topology begins and ends with.
    fn default() -> Self {
        Self {
            topology_type: TopologyType::Unknown,
            set_name: None,
            max_election_id: None,
            max_set_version: None,
            servers: Vec::new(),
            compatibility_error: None,
            logical_session_timeout_minutes: None,
        }
    }
}

impl TopologyDescription {
    /// The description of the server at that address, written as descriptions have it, if it is of the topology.
    pub fn server(&self, address: &Address) -> Option<&ServerDescription> {
        self.servers.iter().find(|server| server.address == *address)
    }
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
pub struct ServerHeartbeatSucceeded<'a> {
    /// The server.
    pub connection_id: Address,
    /// Whether the server was allowed to wait.
    pub awaited: bool,
    /// From the question to the answer.
    pub duration: Duration,
    /// The answer.
    pub reply: Document<'a>,
}

/// A server did not tell a monitor how it is.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHeartbeatFailed<'a> {
    /// The server.
    pub connection_id: Address,
    /// Whether the server was allowed to wait.
    pub awaited: bool,
    /// From the question to the end.
    pub duration: Duration,
    /// What the server said, or what happened to the connection.
    pub failure: Failure<'a>,
}

impl ServerHeartbeatSucceeded<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> ServerHeartbeatSucceeded<'static> {
        ServerHeartbeatSucceeded { reply: self.reply.into_owned(), ..self }
    }
}

impl ServerHeartbeatFailed<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> ServerHeartbeatFailed<'static> {
        ServerHeartbeatFailed { failure: self.failure.into_owned(), ..self }
    }
}
