//! A recording as it is answered from: an index of its exchanges, which does not change any more.
//!
//! What is kept of an exchange is what finds it again: digests of its question, the state in which it was asked, what it
//! did, which exchange continues its cursor. The documents are asked for when they are needed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bodies::Bodies;
use super::build::Build;
use super::digest::Digest;
use super::effect::{Effect, Namespace, Namespaces, Reads};
use super::settings::{Scope, Settings};
use super::state::Transaction;
use crate::capture::exchange::Exchange;
use crate::capture::names::Value;

/// Exchanges to answer from, shared by a server's connections.
#[derive(Debug)]
pub struct Recording {
    pub(super) settings: Settings,
    pub(super) bodies: Box<dyn Bodies>,
    pub(super) index: Index,
}

/// The number of an exchange, in the order of the recording.
pub(super) type Number = u32;

/// What is known of a recording's exchanges without their documents.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
    /// The exchanges that asked what has that digest: of everything, without dates, without what can be bound.
    pub(super) exact: HashMap<Digest, Vec<Number>>,
    pub(super) dates: HashMap<Digest, Vec<Number>>,
    pub(super) masked: HashMap<Digest, Vec<Number>>,
    /// Values that are born, and where.
    pub(super) births: HashMap<Value, Birth>,
    /// The values born in each exchange, in the order in which they stand.
    pub(super) born: HashMap<Number, Vec<Value>>,
    /// The exchanges of each command and collection.
    pub(super) alike: HashMap<(String, Option<Namespace>), Vec<Number>>,
    /// The exchanges without which a batch of a change stream is not there yet.
    pub(super) causes: HashMap<Number, Vec<Number>>,
    pub(super) namespaces: Namespaces,
    pub(super) app_names: HashSet<Arc<str>>,
}

/// What is known of an exchange.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its question without what can be bound.
    pub(super) masked: Digest,
    pub(super) reads: Reads,
    /// The state of what it reads, before it.
    pub(super) state: Digest,
    /// How often the collection had been emptied.
    pub(super) epoch: u32,
    pub(super) effect: Effect,
    pub(super) transaction: Option<Transaction>,
    /// The `getMore` that continues its cursor.
    pub(super) next: Option<Number>,
    pub(super) kind: EntryKind,
}

/// How an exchange is answered from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EntryKind {
    /// Not at all: it is of a handshake, or drivers send it by themselves.
    Housekeeping,
    /// By its question.
    Question,
    /// By its question; its cursor waits for what comes.
    Stream,
    /// By the cursor that it continues.
    More,
    /// By the stream that it continues, which had nothing to tell.
    Idle,
}

/// Where a value was born.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Birth {
    pub(super) exchange: Number,
    /// Which of those that were born there, from 0.
    pub(super) place: u32,
}

impl Recording {
    /// Of exchanges in the order of their requests, which are kept in memory.
    pub fn new(exchanges: impl IntoIterator<Item = Exchange>, settings: Settings) -> Self {
        let exchanges = exchanges.into_iter().map(Arc::new).collect::<Vec<_>>();
        let mut build = Build::new(&settings);
        exchanges.iter().for_each(|exchange| build.add(exchange));
        let index = build.finish();
        Self { settings, bodies: Box::new(exchanges), index }
    }

    /// Of exchanges in the order of their requests, whose bodies are asked for again when they are needed.
    pub fn index(exchanges: impl IntoIterator<Item = Exchange>, bodies: Box<dyn Bodies>, settings: Settings) -> Self {
        let mut build = Build::new(&settings);
        exchanges.into_iter().for_each(|exchange| build.add(&exchange));
        let index = build.finish();
        Self { settings, bodies, index }
    }

    /// How it is answered from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is told apart for connections of that application name.
    pub(super) fn scope(&self, app_name: Option<&str>) -> Option<Arc<str>> {
        (self.settings.scope == Scope::AppName).then(|| Arc::from(app_name.unwrap_or_default()))
    }

    /// The scope of questions: that of the connections, unless the recording tells of none.
    pub(super) fn asked_in<'s>(&self, scope: Option<&'s str>) -> Option<&'s str> {
        scope.filter(|_| !self.index.app_names.is_empty())
    }

    pub(super) fn exchange(&self, number: Number) -> Option<Arc<Exchange>> {
        self.bodies.exchange(number as usize)
    }
}

impl Index {
    pub(super) fn entry(&self, number: Number) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
}
