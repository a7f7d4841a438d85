//! The specification's table of topologies: what a topology becomes, and which servers it has, when one of its servers
//! has a new description.
//!
//! What a primary has to say is in [`primary`](super::primary).

use super::description::{normal, unknown};
use super::primary::update_from_primary;
use crate::event::{Address, ServerDescription, ServerType, TopologyDescription, TopologyType};

/// The protocol that MongoDB 4.2 speaks, the oldest that drivers of today support.
const MIN_SUPPORTED_WIRE_VERSION: i32 = 8;
/// The newest.
const MAX_SUPPORTED_WIRE_VERSION: i32 = 29;

/// Takes in a new description of one of the topology's servers. `seeds` is how many the client began with.
pub(super) fn update(topology: &mut TopologyDescription, server: &ServerDescription, seeds: usize) {
    replace(topology, server.clone());
    match topology.topology_type {
        TopologyType::Single => update_single(topology, server),
        TopologyType::Unknown => update_unknown(topology, server, seeds),
        TopologyType::Sharded => update_sharded(topology, server),
        TopologyType::ReplicaSetNoPrimary => update_no_primary(topology, server),
        TopologyType::ReplicaSetWithPrimary => update_with_primary(topology, server),
        TopologyType::LoadBalanced => {}
    }
    conclude(topology);
}

/// What follows from the servers' descriptions together.
fn conclude(topology: &mut TopologyDescription) {
    topology.compatibility_error = topology.servers.iter().find_map(compatibility_error);
    topology.logical_session_timeout_minutes = logical_session_timeout(&topology.servers);
}

fn update_single(topology: &mut TopologyDescription, server: &ServerDescription) {
    let Some(wanted) = topology.set_name.as_ref().filter(|_| server.server_type.is_known()) else { return };
    let error = match &server.set_name {
        Some(name) if name == wanted => return,
        Some(name) => format!("the server is of the replica set {name}, not of {wanted}"),
        None => format!("the server is of no replica set, not of {wanted}"),
    };
    replace(topology, unknown(&server.address, error, None));
}

fn update_unknown(topology: &mut TopologyDescription, server: &ServerDescription, seeds: usize) {
    match server.server_type {
        ServerType::Standalone if seeds == 1 => topology.topology_type = TopologyType::Single,
        ServerType::Standalone => remove(topology, &server.address),
        ServerType::Mongos => topology.topology_type = TopologyType::Sharded,
        ServerType::RSPrimary => {
            topology.topology_type = TopologyType::ReplicaSetWithPrimary;
            update_from_primary(topology, server);
        }
        ServerType::RSSecondary | ServerType::RSArbiter | ServerType::RSOther => {
            topology.topology_type = TopologyType::ReplicaSetNoPrimary;
            update_without_primary(topology, server);
        }
        ServerType::RSGhost | ServerType::Unknown | ServerType::PossiblePrimary | ServerType::LoadBalancer => {}
    }
}

fn update_sharded(topology: &mut TopologyDescription, server: &ServerDescription) {
    if server.server_type.is_known() && server.server_type != ServerType::Mongos {
        remove(topology, &server.address);
    }
}

fn update_no_primary(topology: &mut TopologyDescription, server: &ServerDescription) {
    match server.server_type {
        ServerType::Standalone | ServerType::Mongos => remove(topology, &server.address),
        ServerType::RSPrimary => {
            topology.topology_type = TopologyType::ReplicaSetWithPrimary;
            update_from_primary(topology, server);
        }
        ServerType::RSSecondary | ServerType::RSArbiter | ServerType::RSOther => {
            update_without_primary(topology, server);
        }
        ServerType::RSGhost | ServerType::Unknown | ServerType::PossiblePrimary | ServerType::LoadBalancer => {}
    }
}

fn update_with_primary(topology: &mut TopologyDescription, server: &ServerDescription) {
    match server.server_type {
        ServerType::Standalone | ServerType::Mongos => {
            remove(topology, &server.address);
            check_if_has_primary(topology);
        }
        ServerType::RSPrimary => update_from_primary(topology, server),
        ServerType::RSSecondary | ServerType::RSArbiter | ServerType::RSOther => {
            update_with_primary_from_member(topology, server);
        }
        ServerType::RSGhost | ServerType::Unknown | ServerType::PossiblePrimary | ServerType::LoadBalancer => {
            check_if_has_primary(topology);
        }
    }
}

/// A member other than the primary speaks, and no primary is known: whom it knows is believed.
fn update_without_primary(topology: &mut TopologyDescription, server: &ServerDescription) {
    if !is_of_the_set(topology, server) {
        remove(topology, &server.address);
        return;
    }
    add_members(topology, server);
    mark_possible_primary(topology, server);
    if calls_itself_otherwise(server) {
        remove(topology, &server.address);
    }
}

/// A member other than the primary speaks, and a primary is, or was just now, known: only the primary is believed.
fn update_with_primary_from_member(topology: &mut TopologyDescription, server: &ServerDescription) {
    if !is_of_the_set(topology, server) || calls_itself_otherwise(server) {
        remove(topology, &server.address);
        check_if_has_primary(topology);
        return;
    }
    check_if_has_primary(topology);
    if topology.topology_type == TopologyType::ReplicaSetNoPrimary {
        mark_possible_primary(topology, server);
    }
}

/// Whether the server is of the topology's replica set. The first that has a name gives it to the topology.
pub(super) fn is_of_the_set(topology: &mut TopologyDescription, server: &ServerDescription) -> bool {
    if topology.set_name.is_none() {
        topology.set_name.clone_from(&server.set_name);
    }
    topology.set_name == server.set_name
}

/// A set's member that is reached by another name than its own will be found by its own.
fn calls_itself_otherwise(server: &ServerDescription) -> bool {
    server.me.as_ref().is_some_and(|me| *me != server.address.to_string())
}

/// The members that a server knows.
pub(super) fn members(server: &ServerDescription) -> Vec<Address> {
    let names = server.hosts.iter().chain(&server.passives).chain(&server.arbiters);
    names.map(|name| normal(&Address::parse(name))).collect()
}

/// Adds the members that a server knows and the topology does not.
pub(super) fn add_members(topology: &mut TopologyDescription, server: &ServerDescription) {
    for address in members(server) {
        if topology.server(&address).is_none() {
            topology.servers.push(ServerDescription { address, ..ServerDescription::default() });
        }
    }
}

/// A server that a member takes for the primary, and that has not spoken itself.
fn mark_possible_primary(topology: &mut TopologyDescription, server: &ServerDescription) {
    let primary = server.primary.as_deref().map(|name| normal(&Address::parse(name)));
    let named = topology.servers.iter_mut().find(|it| Some(&it.address) == primary.as_ref());
    if let Some(named) = named.filter(|it| it.server_type == ServerType::Unknown) {
        named.server_type = ServerType::PossiblePrimary;
    }
}

pub(super) fn check_if_has_primary(topology: &mut TopologyDescription) {
    let has_primary = topology.servers.iter().any(|it| it.server_type == ServerType::RSPrimary);
    topology.topology_type =
        if has_primary { TopologyType::ReplicaSetWithPrimary } else { TopologyType::ReplicaSetNoPrimary };
}

pub(super) fn replace(topology: &mut TopologyDescription, server: ServerDescription) {
    if let Some(known) = topology.servers.iter_mut().find(|it| it.address == server.address) {
        *known = server;
    }
}

pub(super) fn remove(topology: &mut TopologyDescription, address: &Address) {
    topology.servers.retain(|server| server.address != *address);
}

/// Why a driver of today could not work with a server; one that says no version speaks version 0.
fn compatibility_error(server: &ServerDescription) -> Option<String> {
    if !server.server_type.is_known() || server.server_type == ServerType::LoadBalancer {
        return None;
    }
    let (min, max) = (server.min_wire_version.unwrap_or(0), server.max_wire_version.unwrap_or(0));
    let address = &server.address;
    if min > MAX_SUPPORTED_WIRE_VERSION {
        return Some(format!("{address} wants wire version {min}, drivers go up to {MAX_SUPPORTED_WIRE_VERSION}"));
    }
    (max < MIN_SUPPORTED_WIRE_VERSION)
        .then(|| format!("{address} has wire version {max}, drivers want {MIN_SUPPORTED_WIRE_VERSION} or later"))
}

/// The least of the servers that hold data, if all of them have one.
fn logical_session_timeout(servers: &[ServerDescription]) -> Option<i64> {
    let holds_data = |server: &&ServerDescription| {
        matches!(
            server.server_type,
            ServerType::Mongos
                | ServerType::RSPrimary
                | ServerType::RSSecondary
                | ServerType::Standalone
                | ServerType::LoadBalancer
        )
    };
    let timeouts: Option<Vec<_>> =
        servers.iter().filter(holds_data).map(|server| server.logical_session_timeout_minutes).collect();
    timeouts?.into_iter().min()
}
