//! Which exchanges of a recording are wanted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::str::FromStr;

use crate::bson::{Kind, find, find_path};
use crate::capture::exchange::{Exchange, Place};
use crate::event::{ConnectionId, Phase};

/// A collection, or all of a database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Only {
    database: String,
    collection: Option<String>,
}

impl FromStr for Only {
    type Err = String;

    /// Reads `DB.COLLECTION`, or `DB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (database, collection) = text.split_once('.').map_or((text, None), |(it, rest)| (it, Some(rest)));
        if database.is_empty() || collection.is_some_and(str::is_empty) {
            return Err("expected DB.COLLECTION, or DB".to_owned());
        }
        Ok(Self { database: database.to_owned(), collection: collection.map(str::to_owned) })
    }
}

impl std::fmt::Display for Only {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.collection {
            Some(collection) => write!(f, "{}.{collection}", self.database),
            None => f.write_str(&self.database),
        }
    }
}

impl Only {
    /// Whether a command works on it. One that empties its database does.
    fn is_of(&self, exchange: &Exchange) -> bool {
        let database = find(&exchange.request, b"$db").and_then(|it| it.as_str());
        if database != Some(self.database.as_str()) {
            return false;
        }
        let Some(wanted) = &self.collection else { return true };
        exchange.name() == "dropDatabase" || collection_of(exchange) == Some(wanted)
    }
}

fn collection_of(exchange: &Exchange) -> Option<&str> {
    let name = exchange.name();
    let field = if name == "getMore" { "collection" } else { name };
    find(&exchange.request, field.as_bytes())?.as_str()
}

/// What is wanted of a recording; everything, unless something is said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Filter {
    /// Only exchanges on one of these. Cursors and transactions of which an exchange is wanted are wanted whole.
    pub only: Vec<Only>,
    /// Only these connections.
    pub connections: Vec<u64>,
    /// Not the connections of monitors and of their round trip time probes.
    pub without_monitoring: bool,
}

impl Filter {
    /// Whether everything is wanted.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    fn has_connection(&self, id: ConnectionId) -> bool {
        self.connections.is_empty() || self.connections.contains(&id.0)
    }
}

/// Finds out what is wanted, exchange by exchange.
#[derive(Debug, Default)]
pub struct Selecting {
    filter: Filter,
    selection: Selection,
    connections: HashMap<ConnectionId, Connection>,
    /// The cursors that wanted exchanges opened.
    cursors: HashSet<i64>,
    transactions: HashMap<(Vec<u8>, i64), Transaction>,
}

#[derive(Debug, Default)]
struct Connection {
    is_application: bool,
    has_wanted: bool,
    /// Its handshake, its authentication, and what its driver asks by itself: wanted if it is.
    others: Vec<u64>,
}

#[derive(Debug, Default)]
struct Transaction {
    is_wanted: bool,
    exchanges: Vec<(u64, ConnectionId)>,
}

/// What is wanted of a recording.
#[derive(Debug, Default)]
pub struct Selection {
    exchanges: HashSet<u64>,
    /// The applications' own, and what is not: documents are in the former.
    applications: HashSet<u64>,
    connections: HashMap<ConnectionId, bool>,
    /// The collections that applications worked on.
    namespaces: BTreeSet<String>,
    filter: Filter,
    has_all: bool,
    /// The connections that there are, wanted or not.
    seen: BTreeSet<u64>,
    /// Whether there is something of what the filter names.
    is_matched: bool,
}

impl Selecting {
    /// By that filter.
    pub fn new(filter: Filter) -> Self {
        Self { filter, ..Self::default() }
    }

    /// Takes the next exchange.
    pub fn take(&mut self, exchange: &Exchange) {
        let (number, id) = (number_of(exchange.place), exchange.connection);
        self.selection.seen.insert(id.0);
        if !self.filter.has_connection(id) {
            return;
        }
        self.selection.is_matched |= self.filter.only.is_empty();
        let connection = self.connections.entry(id).or_default();
        connection.is_application |= !matches!(exchange.phase, Phase::Monitor | Phase::Rtt);
        if exchange.is_housekeeping() {
            connection.others.push(number);
            return;
        }
        self.selection.applications.insert(number);
        let database = find(&exchange.request, b"$db").and_then(|it| it.as_str());
        let namespace = database.zip(collection_of(exchange));
        self.selection.namespaces.extend(namespace.map(|(database, collection)| format!("{database}.{collection}")));
        let cursor = find(&exchange.request, b"getMore").and_then(|it| it.as_i64());
        let mut is_wanted = self.filter.only.is_empty()
            || self.filter.only.iter().any(|only| only.is_of(exchange))
            || cursor.is_some_and(|cursor| self.cursors.contains(&cursor));
        if let Some(transaction) = transaction_of(&exchange.request) {
            let transaction = self.transactions.entry(transaction).or_default();
            transaction.is_wanted |= is_wanted;
            is_wanted = transaction.is_wanted;
            transaction.exchanges.push((number, id));
        }
        if is_wanted {
            let opened = exchange.replies.iter().filter_map(|reply| find_path(&reply.body, &[b"cursor", b"id"]));
            self.cursors.extend(opened.filter_map(|id| id.as_i64()).filter(|id| *id != 0));
            self.want(number, id);
        }
    }

    fn want(&mut self, number: u64, id: ConnectionId) {
        self.selection.exchanges.insert(number);
        self.selection.is_matched = true;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.has_wanted = true;
        }
    }

    /// What is wanted.
    pub fn finish(mut self) -> Selection {
        for transaction in std::mem::take(&mut self.transactions).into_values().filter(|it| it.is_wanted) {
            transaction.exchanges.iter().for_each(|(number, id)| self.want(*number, *id));
        }
        let filter = &self.filter;
        for (id, connection) in self.connections {
            let is_wanted = match connection.is_application {
                true => connection.has_wanted || filter.only.is_empty(),
                false => !filter.without_monitoring,
            };
            self.selection.connections.insert(id, is_wanted);
            if is_wanted {
                self.selection.exchanges.extend(connection.others);
            }
        }
        Selection { filter: self.filter, ..self.selection }
    }
}

impl Selection {
    /// Everything, without a look at it.
    pub fn everything() -> Self {
        Self { has_all: true, ..Self::default() }
    }

    /// Whether an exchange is wanted.
    pub fn has(&self, exchange: &Exchange) -> bool {
        self.has_number(number_of(exchange.place))
    }

    pub(super) fn has_number(&self, number: u64) -> bool {
        self.has_all || self.exchanges.contains(&number)
    }

    /// Whether an exchange is the application's own.
    pub(super) fn is_application(&self, number: u64) -> bool {
        self.applications.contains(&number)
    }

    /// Whether something of that connection is wanted. One without exchanges is, unless others are asked for.
    pub(super) fn has_connection(&self, id: ConnectionId) -> bool {
        let unknown = || self.filter.has_connection(id) && self.filter.only.is_empty();
        self.connections.get(&id).copied().unwrap_or_else(unknown)
    }

    /// Whether what is in no exchange is wanted.
    pub(super) fn has_strays(&self) -> bool {
        self.filter.only.is_empty()
    }

    /// The collections that there are, as `db.collection`, wanted or not.
    pub fn namespaces(&self) -> Vec<&str> {
        self.namespaces.iter().map(String::as_str).collect()
    }

    /// The connections that there are, wanted or not.
    pub fn connections(&self) -> impl Iterator<Item = u64> {
        self.seen.iter().copied()
    }

    /// Whether there is something of what the filter names, or it names nothing.
    pub fn is_matched(&self) -> bool {
        self.is_matched || self.filter.only.is_empty() && self.filter.connections.is_empty()
    }

    /// How many exchanges are wanted.
    pub fn len(&self) -> usize {
        self.exchanges.len()
    }

    /// Whether none are.
    pub fn is_empty(&self) -> bool {
        self.exchanges.is_empty()
    }
}

fn number_of(place: Place) -> u64 {
    match place {
        Place::Line(number) | Place::Exchange(number) => number,
    }
}

/// The session and the number of the transaction that a command is in.
fn transaction_of(request: &[u8]) -> Option<(Vec<u8>, i64)> {
    find(request, b"autocommit").filter(|it| it.as_i64() == Some(0))?;
    let session = find_path(request, &[b"lsid", b"id"])?;
    let number = find(request, b"txnNumber").filter(|it| it.kind == Kind::Int64)?.as_i64()?;
    Some((session.value.to_vec(), number))
}
