//! One client's view of its deployment, and the events of its changes.
//!
//! A topology is opened, takes in what its servers say and how they fail, in the order in which the client heard of it,
//! and is closed. What comes before the opening or after the closing, or is of a server that it does not have, is
//! passed over.

use std::cmp::Ordering;
use std::collections::HashMap;

use bson::raw::RawDocument;

use super::description::{compare_versions, describe, normal, same_server, same_topology, topology_version, unknown};
use super::errors::{ApplicationError, Consequence, ErrorKind};
use super::members::update;
use crate::event::{
    Address, Event, ServerClosed, ServerDescription, ServerDescriptionChanged, ServerOpening, ServerType,
    TopologyClosed, TopologyDescription, TopologyDescriptionChanged, TopologyId, TopologyOpening, TopologyType,
    TopologyVersion,
};

/// What a client begins with: its URI, as far as it bears on the topology.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The hosts of the URI.
    pub seeds: Vec<Address>,
    /// `Single` for `directConnection=true`, `LoadBalanced` for `loadBalanced=true`, `ReplicaSetNoPrimary` if there
    /// is a `replicaSet` without them, else `Unknown`.
    pub initial: TopologyType,
    /// The `replicaSet` of the URI.
    pub set_name: Option<String>,
    /// The driver marks the server that a member names as its primary as `PossiblePrimary` until that server speaks
    /// itself, as those with one thread do; the others leave it Unknown.
    pub possible_primary: bool,
}

/// One client's view of its deployment.
///
/// A server that becomes `PossiblePrimary` has no event of its own for it. A member that is discovered opens before the topology's change is told. What a server that is removed said
/// last is told before it closes. Compatible are servers that speak wire version 8 (MongoDB 4.2) or later and none that
/// wants one beyond 29, as for drivers of today.
#[derive(Clone, Debug)]
pub struct Topology {
    id: TopologyId,
    settings: Settings,
    state: State,
    description: TopologyDescription,
    /// How often the pool of each server was cleared; of servers that have left too, for their connections may be
    /// heard of later.
    generations: HashMap<Address, u64>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    New,
    Open,
    Closed,
}

impl Topology {
    /// A topology that is not open yet.
    pub fn new(id: TopologyId, settings: Settings) -> Self {
        let mut seeds: Vec<Address> = Vec::new();
        for seed in settings.seeds.iter().map(normal) {
            if !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        let settings = Settings { seeds, ..settings };
        let description = TopologyDescription::default();
        Self { id, settings, state: State::New, description, generations: HashMap::new() }
    }

    /// What is known now.
    pub fn description(&self) -> &TopologyDescription {
        &self.description
    }

    /// How often the connections to a server became useless, all that there were: the generation of those that are
    /// made now.
    pub fn generation(&self, address: &Address) -> u64 {
        self.generations.get(&normal(address)).copied().unwrap_or(0)
    }

    /// The client begins.
    pub fn open(&mut self, emit: &mut dyn FnMut(Event<'static>)) {
        if self.state != State::New {
            return;
        }
        self.state = State::Open;
        emit(Event::TopologyOpening(Box::new(TopologyOpening { topology_id: self.id })));
        let server = |address: &Address| ServerDescription { address: address.clone(), ..ServerDescription::default() };
        let opened = TopologyDescription {
            topology_type: self.settings.initial,
            set_name: self.settings.set_name.clone(),
            servers: self.settings.seeds.iter().map(server).collect(),
            ..TopologyDescription::default()
        };
        let previous = std::mem::replace(&mut self.description, opened);
        self.tell_topology(previous, emit);
        for seed in &self.settings.seeds {
            emit(self.opening(seed));
        }
        if self.settings.initial == TopologyType::LoadBalanced {
            self.balance(emit);
        }
    }

    /// A load balancer is taken for well as long as the client lives.
    fn balance(&mut self, emit: &mut dyn FnMut(Event<'static>)) {
        for address in self.settings.seeds.clone() {
            let server_type = ServerType::LoadBalancer;
            self.take_in(&ServerDescription { address, server_type, ..ServerDescription::default() }, emit);
        }
    }

    /// A server answered a `hello`, whoever asked. What is older than what is known is passed over. An answer that is not
    /// `ok` makes the server Unknown, and clears its pool however old it is.
    pub fn handle_hello(&mut self, address: &Address, reply: &RawDocument, emit: &mut dyn FnMut(Event<'static>)) {
        let Some(known) = self.monitored(address) else { return };
        let server = describe(address, reply);
        let is_stale = compare_versions(known.topology_version, server.topology_version) == Ordering::Greater;
        if server.server_type == ServerType::Unknown {
            self.clear(&server.address);
        }
        if !is_stale {
            self.take_in(&server, emit);
        }
    }

    /// A check of a monitor came to no answer. The server is Unknown and its pool cleared.
    pub fn handle_check_failed(&mut self, address: &Address, message: &str, emit: &mut dyn FnMut(Event<'static>)) {
        if self.monitored(address).is_some() {
            self.lose(address, message.to_owned(), None, true, emit);
        }
    }

    /// An application had an error. What of it says something of the server makes it Unknown, unless it is stale: of a
    /// connection from before the pool was last cleared, or not of a later state than the one that is known.
    pub fn handle_application_error(
        &mut self,
        address: &Address,
        error: ApplicationError<'_>,
        emit: &mut dyn FnMut(Event<'static>),
    ) {
        let Some(known) = self.monitored(address) else { return };
        let version = match error.kind {
            ErrorKind::Command(reply) => {
                crate::bson::find(reply.as_bytes(), b"topologyVersion").and_then(|it| topology_version(&it))
            }
            ErrorKind::Network(_) | ErrorKind::Timeout(_) => None,
        };
        let is_news = compare_versions(known.topology_version, version) == Ordering::Less;
        if !is_news || error.generation < self.generation(address) {
            return;
        }
        if let Consequence::Unknown { error, clear } = error.consequence() {
            self.lose(address, error, version, clear, emit);
        }
    }

    /// The client ends.
    pub fn close(&mut self, emit: &mut dyn FnMut(Event<'static>)) {
        if self.state != State::Open {
            self.state = State::Closed;
            return;
        }
        self.state = State::Closed;
        let previous = std::mem::take(&mut self.description);
        for server in &previous.servers {
            emit(self.closed(&server.address));
        }
        self.tell_topology(previous, emit);
        emit(Event::TopologyClosed(Box::new(TopologyClosed { topology_id: self.id })));
    }

    /// The description of a server that is asked how it is. A load balancer is not.
    fn monitored(&self, address: &Address) -> Option<&ServerDescription> {
        let known = self.description.server(&normal(address));
        known.filter(|_| self.description.topology_type != TopologyType::LoadBalanced)
    }

    fn clear(&mut self, address: &Address) {
        *self.generations.entry(normal(address)).or_default() += 1;
    }

    fn lose(
        &mut self,
        address: &Address,
        error: String,
        version: Option<TopologyVersion>,
        clear: bool,
        emit: &mut dyn FnMut(Event<'static>),
    ) {
        if clear {
            self.clear(address);
        }
        self.take_in(&unknown(address, error, version), emit);
    }

    /// Takes in a server's new description and tells what has changed: servers, the one that spoke first; what closed;
    /// what opened; the topology.
    fn take_in(&mut self, spoke: &ServerDescription, emit: &mut dyn FnMut(Event<'static>)) {
        let previous = self.description.clone();
        update(&mut self.description, spoke, self.settings.seeds.len());
        if !self.settings.possible_primary {
            let possible = |it: &&mut ServerDescription| it.server_type == ServerType::PossiblePrimary;
            self.description.servers.iter_mut().filter(possible).for_each(|it| it.server_type = ServerType::Unknown);
        }
        let after = self.description.server(&spoke.address).unwrap_or(spoke);
        self.tell_server(previous.server(&spoke.address), after, emit);
        for server in self.description.servers.iter().filter(|it| it.address != spoke.address) {
            // What a third one says of a server is no word of its own.
            if server.server_type != ServerType::PossiblePrimary {
                self.tell_server(previous.server(&server.address), server, emit);
            }
        }
        for server in &previous.servers {
            if self.description.server(&server.address).is_none() {
                self.clear(&server.address);
                emit(self.closed(&server.address));
            }
        }
        for server in &self.description.servers {
            if previous.server(&server.address).is_none() {
                emit(self.opening(&server.address));
            }
        }
        self.tell_topology(previous, emit);
    }

    fn tell_server(
        &self,
        before: Option<&ServerDescription>,
        after: &ServerDescription,
        emit: &mut dyn FnMut(Event<'static>),
    ) {
        if let Some(before) = before.filter(|before| !same_server(before, after)) {
            emit(Event::ServerDescriptionChanged(Box::new(ServerDescriptionChanged {
                topology_id: self.id,
                address: after.address.clone(),
                previous_description: before.clone(),
                new_description: after.clone(),
            })));
        }
    }

    fn tell_topology(&self, previous: TopologyDescription, emit: &mut dyn FnMut(Event<'static>)) {
        if !same_topology(&previous, &self.description) {
            emit(Event::TopologyDescriptionChanged(Box::new(TopologyDescriptionChanged {
                topology_id: self.id,
                previous_description: previous,
                new_description: self.description.clone(),
            })));
        }
    }

    fn opening(&self, address: &Address) -> Event<'static> {
        Event::ServerOpening(Box::new(ServerOpening { topology_id: self.id, address: address.clone() }))
    }

    fn closed(&self, address: &Address) -> Event<'static> {
        Event::ServerClosed(Box::new(ServerClosed { topology_id: self.id, address: address.clone() }))
    }
}
