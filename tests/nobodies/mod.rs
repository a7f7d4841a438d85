//! A connection between nobodies, for tests and benches that want one and do not care which.

use std::sync::Arc;

use mongotap::event::{Address, Connection, ConnectionId};

/// The first connection of a run.
pub(crate) fn connection() -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(1),
        client: "127.0.0.1:50000".into(),
        upstream: "127.0.0.1:27017".into(),
        server: Address::parse("127.0.0.1:27027"),
        tls: false,
    })
}
