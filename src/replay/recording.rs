//! A recording as it is answered from: an index of its exchanges, which does not change any more.
//!
//! What is kept of an exchange is what finds it again: digests of its question, the state in which it was asked, what it
//! did, which exchange continues its cursor. The documents are asked for when they are needed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::bodies::Bodies;
use super::build::Build;
use super::digest::{ByDigest, Digest};
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
    /// The exchanges of each question: by the digest of everything, by the one without what can be bound, and by both of
    /// them [in the state](super::digest::in_state) in which it was asked.
    pub(super) questions: ByDigest<List>,
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

/// Exchanges in recorded order; most lists are of one.
#[derive(Clone, Debug)]
pub(super) enum List {
    One([Number; 1]),
    Many(Vec<Number>),
}

impl List {
    fn as_slice(&self) -> &[Number] {
        match self {
            Self::One(one) => one,
            Self::Many(many) => many,
        }
    }
}

/// What is known of an exchange.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its question without what can be bound.
    pub(super) masked: Digest,
    /// What it wrote: its question, blind to which identities were born and to dates of now.
    pub(super) written: Digest,
    pub(super) reads: Reads,
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
        let mut indexing = Indexing::new(settings);
        let mut kept = Vec::new();
        for exchange in exchanges {
            indexing.add(&exchange);
            kept.push(Arc::new(exchange));
        }
        indexing.finish(Box::new(kept))
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

/// A recording that is being indexed, whose documents are kept elsewhere.
#[derive(Debug)]
pub struct Indexing(Build);

impl Indexing {
    /// Of no exchanges yet.
    pub fn new(settings: Settings) -> Self {
        Self(Build::new(settings))
    }

    /// Adds the next exchange, in the order of their requests.
    pub fn add(&mut self, exchange: &Exchange) {
        self.0.add(exchange);
    }

    /// The recording; `bodies` has the exchanges in the order in which they were added.
    pub fn finish(self, bodies: Box<dyn Bodies>) -> Recording {
        let (index, settings) = self.0.finish();
        Recording { settings, bodies, index }
    }
}

impl Index {
    /// The exchanges with a digest.
    pub(super) fn list(&self, digest: Digest) -> &[Number] {
        self.questions.get(&digest).map_or(&[], List::as_slice)
    }

    /// Adds an exchange to a digest's, unless it is the last of them.
    pub(super) fn put(&mut self, digest: Digest, number: Number) {
        match self.questions.entry(digest).or_insert(List::One([number])) {
            List::One([one]) if *one != number => {
                let many = List::Many(vec![*one, number]);
                self.questions.insert(digest, many);
            }
            List::Many(many) if many.last() != Some(&number) => many.push(number),
            _ => {}
        }
    }

    pub(super) fn entry(&self, number: Number) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
}
