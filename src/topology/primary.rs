//! What a primary has to say: whether it is the primary still, and who is of its set.
//!
//! Two members can take themselves for the primary. The one that was elected later, or has the newer configuration,
//! is the primary; the other is Unknown until it is asked again.

use bson::oid::ObjectId;

use super::description::unknown;
use super::members::replace;
use super::members::{add_members, check_if_has_primary, is_of_the_set, members, remove};
use crate::event::{ServerDescription, ServerType, TopologyDescription};

/// The protocol of MongoDB 6.0. From here on the election counts before the configuration's version.
const ELECTION_ID_FIRST: i32 = 17;

/// A primary speaks. It is the authority on who is of the set, itself included.
pub(super) fn update_from_primary(topology: &mut TopologyDescription, server: &ServerDescription) {
    if !is_of_the_set(topology, server) {
        remove(topology, &server.address);
        check_if_has_primary(topology);
        return;
    }
    if let Err(stale) = accept(topology, server) {
        replace(topology, unknown(&server.address, stale, None));
        check_if_has_primary(topology);
        return;
    }
    depose_others(topology, server);
    add_members(topology, server);
    let members = members(server);
    topology.servers.retain(|it| members.contains(&it.address));
    check_if_has_primary(topology);
}

/// Holds a primary to the newest election and configuration that were heard of, and keeps its own if they are newer.
/// The error says why it is not the primary any more.
fn accept(topology: &mut TopologyDescription, server: &ServerDescription) -> Result<(), String> {
    let (election, version) = (server.election_id, server.set_version);
    let (max_election, max_version) = (topology.max_election_id, topology.max_set_version);
    if server.max_wire_version.unwrap_or(0) >= ELECTION_ID_FIRST {
        // What is missing is less than anything.
        if (election, version) < (max_election, max_version) {
            return Err(stale((election, version), (max_election, max_version)));
        }
        (topology.max_election_id, topology.max_set_version) = (election, version);
        return Ok(());
    }
    if election.is_some() && version.is_some() {
        let has_maxima = max_election.is_some() && max_version.is_some();
        if has_maxima && (max_version, max_election) > (version, election) {
            return Err(stale((election, version), (max_election, max_version)));
        }
        topology.max_election_id = election;
    }
    topology.max_set_version = max_version.max(version);
    Ok(())
}

type Reign = (Option<ObjectId>, Option<i64>);

fn stale(reign: Reign, newest: Reign) -> String {
    let shown = |(election, version): Reign| {
        let election = election.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let version = version.map_or_else(|| "none".to_owned(), |it| it.to_string());
        format!("({election}, {version})")
    };
    let (reign, newest) = (shown(reign), shown(newest));
    format!("primary marked stale due to electionId/setVersion mismatch, {reign} is stale compared to {newest}")
}

fn depose_others(topology: &mut TopologyDescription, primary: &ServerDescription) {
    for server in &mut topology.servers {
        if server.server_type == ServerType::RSPrimary && server.address != primary.address {
            let error = "primary marked stale due to discovery of newer primary";
            *server = unknown(&server.address, error.to_owned(), None);
        }
    }
}
