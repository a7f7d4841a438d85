//! Which connections are one client's, and the topology of each client.
//!
//! Nothing on the wire says so: a client is whoever connects from one host with the same words about itself. Two that
//! do so at the same time are taken for one. Its topology opens with its first connection, and closes when it has had
//! none for a while: a short one if it had said `endSessions` or had closed the last itself, a longer one if its servers
//! went away, for then it will look for them again.
//!
//! Sessions live on several threads, so what they tell is put in order first: it is looked at [`SETTLED_AFTER`] late, in
//! the order of its times. What comes out follows from what comes in alone, ticks only say when: a recording gives the
//! events that were given live.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;

use super::{ApplicationError, ErrorKind, Settings as Seeds, Stage, Topology};
use crate::event::{
    ClientIdentity, Connection, ConnectionId, Entry, Event, Observation, Observed, Phase, Timestamp, TopologyId,
    TopologyType, is_libmongoc, nanos,
};

/// What several threads tell is in order after this.
pub const SETTLED_AFTER: Duration = Duration::from_millis(100);

/// Clients whose topologies are kept. With more, those that left first are taken for gone.
const CLIENTS_MAX: usize = 10_000;

/// Where events go.
pub(super) type Emit<'e> = dyn FnMut(Entry<'static>) + 'e;

/// Whose topologies are derived, what they begin with, and when they end.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One for each client; otherwise one for all together.
    pub per_client: bool,
    /// A client whose servers went away, and that has had no connection for so long, is gone.
    pub closed_after: Duration,
    /// The same for one that has said `endSessions`, or has closed its last connection itself.
    pub ended_after: Duration,
    /// What a client knows before it has asked anybody, of which nothing is on the wire.
    pub seeds: Seeds,
}

/// The topologies of all clients.
#[derive(Debug)]
pub struct Clients {
    settings: Settings,
    clients: HashMap<ClientIdentity, Client>,
    connections: HashMap<ConnectionId, Known>,
    /// What came and is not settled, in the order of its times.
    waiting: BTreeMap<(u64, ConnectionId, u64), Observation>,
    /// When clients without a connection will be gone, and their numbers.
    departures: BTreeMap<(u64, u64), ClientIdentity>,
    /// Counts what came, and the topologies that were opened.
    arrived: u64,
    opened: u64,
}

#[derive(Debug)]
struct Client {
    number: u64,
    topology: Topology,
    connections: usize,
    /// It has said that it leaves, or left in good order.
    has_ended: bool,
    /// The last that was heard of a server is that it cannot be reached: the client will look for it again.
    is_in_trouble: bool,
    /// While it has no connection: when it will be taken for gone.
    gone_at: Option<Timestamp>,
    /// The last connection that something was seen on.
    last: Arc<Connection>,
}

/// What is known of a connection.
#[derive(Debug)]
struct Known {
    client: ClientIdentity,
    /// Of the server's pool when it was made: an error on a connection older than the last clearing says nothing.
    generation: u64,
}

impl Clients {
    /// No clients yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            clients: HashMap::new(),
            connections: HashMap::new(),
            waiting: BTreeMap::new(),
            departures: BTreeMap::new(),
            arrived: 0,
            opened: 0,
        }
    }

    /// Takes what a session told. Events come with the next tick.
    pub fn handle(&mut self, observation: Observation) {
        self.arrived += 1;
        let key = (observation.at.monotonic_nanos, observation.connection.id, self.arrived);
        self.waiting.insert(key, observation);
    }

    /// Notes the time: folds what has settled, and closes the topologies of clients that are gone.
    pub fn handle_tick(&mut self, now: Timestamp, emit: &mut Emit<'_>) {
        let settled = now.monotonic_nanos.saturating_sub(nanos(SETTLED_AFTER));
        self.fold_until(settled, emit);
        self.depart_until(settled, emit);
    }

    /// How long after `now` the next tick has something to do; `None` if nothing is waited for.
    pub fn due(&self, now: Timestamp) -> Option<Duration> {
        let first = self.waiting.keys().next().map(|(at, ..)| *at);
        let gone = self.departures.keys().next().map(|(at, _)| *at);
        let at = first.into_iter().chain(gone).min()?.saturating_add(nanos(SETTLED_AFTER));
        Some(Duration::from_nanos(at.saturating_sub(now.monotonic_nanos)))
    }

    /// Notes the end: folds what is left, and closes every topology.
    pub fn close(&mut self, now: Timestamp, emit: &mut Emit<'_>) {
        self.fold_until(u64::MAX, emit);
        self.depart_until(now.monotonic_nanos, emit);
        let mut left: Vec<_> = self.clients.drain().map(|(_, client)| client).collect();
        left.sort_by_key(|client| client.number);
        left.into_iter().for_each(|client| client.close(now, emit));
    }

    fn fold_until(&mut self, limit: u64, emit: &mut Emit<'_>) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= limit
        {
            let observation = first.remove();
            self.depart_until(observation.at.monotonic_nanos, emit);
            self.fold(observation, emit);
        }
    }

    fn fold(&mut self, Observation { at, connection, what }: Observation, emit: &mut Emit<'_>) {
        if let Observed::Greeted { client, load_balanced, created_at } = what {
            let client = if self.settings.per_client { client } else { everybody() };
            return self.greet(client, &connection, load_balanced, (created_at, at), emit);
        }
        let Some(known) = self.connections.get(&connection.id) else { return };
        let Some(client) = self.clients.get_mut(&known.client) else { return };
        let id = connection.id;
        client.last = connection;
        match what {
            Observed::Greeted { .. } => {}
            Observed::EndsSessions => client.has_ended = true,
            Observed::Closed { by_client } => self.leave(id, by_client, at),
            what => client.observe(what, known.generation, at, emit),
        }
    }

    /// A client has made a connection: one that is known, or a new one.
    fn greet(
        &mut self,
        identity: ClientIdentity,
        connection: &Arc<Connection>,
        load_balanced: bool,
        (created_at, at): (Timestamp, Timestamp),
        emit: &mut Emit<'_>,
    ) {
        // Who has left does not come back: this is its successor.
        let has_gone = |client: &Client| client.has_ended && client.gone_at.is_some() && self.settings.per_client;
        if self.clients.get(&identity).is_some_and(has_gone) {
            self.remove(&identity, at, emit);
        }
        if !self.clients.contains_key(&identity) {
            if self.clients.len() >= CLIENTS_MAX && !self.make_room(at, emit) {
                return;
            }
            let client = self.open(&identity, connection, load_balanced, created_at, emit);
            self.clients.insert(identity.clone(), client);
        }
        let Some(client) = self.clients.get_mut(&identity) else { return };
        client.connections += 1;
        if let Some(gone_at) = client.gone_at.take() {
            self.departures.remove(&(gone_at.monotonic_nanos, client.number));
        }
        client.last = Arc::clone(connection);
        let generation = client.topology.generation(&connection.server);
        self.connections.insert(connection.id, Known { client: identity, generation });
    }

    fn open(
        &mut self,
        identity: &ClientIdentity,
        connection: &Arc<Connection>,
        load_balanced: bool,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) -> Client {
        self.opened += 1;
        let possible_primary = is_libmongoc(&identity.metadata);
        let mut seeds = Seeds { possible_primary, ..self.settings.seeds.clone() };
        if load_balanced {
            seeds = Seeds { seeds: vec![connection.server.clone()], initial: TopologyType::LoadBalanced, ..seeds };
        } else if seeds.initial == TopologyType::Single {
            seeds.seeds = vec![connection.server.clone()];
        } else if !seeds.seeds.contains(&connection.server) {
            seeds.seeds.push(connection.server.clone());
        }
        let mut client = Client {
            number: self.opened,
            topology: Topology::new(id(at, connection.id, self.opened), seeds),
            connections: 0,
            has_ended: false,
            is_in_trouble: false,
            gone_at: None,
            last: Arc::clone(connection),
        };
        client.with(at, emit, |topology, emit| topology.open(emit));
        client
    }

    /// A connection has ended; perhaps it was its client's last.
    fn leave(&mut self, connection: ConnectionId, by_client: bool, at: Timestamp) {
        let Some(known) = self.connections.remove(&connection) else { return };
        let Some(client) = self.clients.get_mut(&known.client) else { return };
        client.connections = client.connections.saturating_sub(1);
        if client.connections == 0 {
            let Settings { closed_after, ended_after, per_client, .. } = self.settings;
            // Who closes its last connection itself, and nothing was wrong with any, does not need them any more.
            client.has_ended |= by_client && !client.is_in_trouble;
            let after = if client.has_ended && per_client { ended_after } else { closed_after };
            let gone_at = at.after(after);
            client.gone_at = Some(gone_at);
            self.departures.insert((gone_at.monotonic_nanos, client.number), known.client);
        }
    }

    /// Closes the topologies of the clients that are gone by then.
    fn depart_until(&mut self, limit: u64, emit: &mut Emit<'_>) {
        while let Some(first) = self.departures.first_entry()
            && first.key().0 <= limit
        {
            let identity = first.remove();
            if let Some(gone_at) = self.clients.get(&identity).and_then(|client| client.gone_at) {
                self.remove(&identity, gone_at, emit);
            }
        }
    }

    fn remove(&mut self, identity: &ClientIdentity, at: Timestamp, emit: &mut Emit<'_>) {
        if let Some(client) = self.clients.remove(identity) {
            if let Some(gone_at) = client.gone_at {
                self.departures.remove(&(gone_at.monotonic_nanos, client.number));
            }
            client.close(at, emit);
        }
    }

    /// Takes the client for gone that will be next, if there is one.
    fn make_room(&mut self, at: Timestamp, emit: &mut Emit<'_>) -> bool {
        let Some((_, identity)) = self.departures.pop_first() else { return false };
        self.remove(&identity, at, emit);
        true
    }
}

impl Client {
    fn observe(&mut self, what: Observed, generation: u64, at: Timestamp, emit: &mut Emit<'_>) {
        match &what {
            Observed::CheckFailed(_) | Observed::NetworkError(_) => self.is_in_trouble = true,
            Observed::Hello(_) => self.is_in_trouble = false,
            _ => {}
        }
        let server = self.last.server.clone();
        self.with(at, emit, |topology, emit| match &what {
            Observed::Hello(reply) => topology.handle_hello(&server, reply, emit),
            Observed::CheckFailed(message) => topology.handle_check_failed(&server, message, emit),
            Observed::CommandFailed { reply, authenticating } => {
                let stage = if *authenticating { Stage::Authenticating } else { Stage::Ready };
                let error = ApplicationError { kind: ErrorKind::Command(reply), stage, generation };
                topology.handle_application_error(&server, error, emit);
            }
            Observed::NetworkError(message) => {
                let error = ApplicationError { kind: ErrorKind::Network(message), stage: Stage::Ready, generation };
                topology.handle_application_error(&server, error, emit);
            }
            Observed::Greeted { .. } | Observed::EndsSessions | Observed::Closed { .. } => {}
        });
    }

    fn close(mut self, at: Timestamp, emit: &mut Emit<'_>) {
        self.with(at, emit, |topology, emit| topology.close(emit));
    }

    /// Has the topology give events, and says of each when, and what it was derived from.
    fn with(
        &mut self,
        at: Timestamp,
        emit: &mut Emit<'_>,
        work: impl FnOnce(&mut Topology, &mut dyn FnMut(Event<'static>)),
    ) {
        let connection = &self.last;
        work(&mut self.topology, &mut |event| {
            emit(Entry { at, connection: Arc::clone(connection), phase: Phase::Monitor, event });
        });
    }
}

/// Who all clients are taken for when one topology is derived for them together.
fn everybody() -> ClientIdentity {
    ClientIdentity { host: String::new(), metadata: Box::default() }
}

/// The same for the same input: of the seconds, the first connection's number, and how many there were before.
fn id(at: Timestamp, connection: ConnectionId, number: u64) -> TopologyId {
    let seconds = u32::try_from(at.unix_micros / 1_000_000).unwrap_or_default();
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&seconds.to_be_bytes());
    bytes[4..9].copy_from_slice(&connection.0.to_be_bytes()[3..]);
    bytes[9..].copy_from_slice(&number.to_be_bytes()[5..]);
    ObjectId::from_bytes(bytes)
}
