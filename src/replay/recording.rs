//! A recording as it is answered from: an index of its exchanges, which does not change any more.
//!
//! What is kept of an exchange is what finds it again: digests of its question, the state in which it was asked, what it
//! did, which exchange continues its cursor. The documents are asked for when they are needed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, hash_map};
use std::hash::BuildHasherDefault;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Request;
use super::bodies::Bodies;
use super::build::Build;
use super::digest::{AsItIs, Digest};
use super::effect::{Effect, Namespace, Namespaces, Reads};
use super::explain::{Note, Why};
use super::settings::{Scope, Settings};
use super::state::Transaction;
use super::walked::{Findings, Walked, key};
use crate::capture::exchange::Exchange;
use crate::capture::names::Value;
use crate::redact::Fields;

/// Exchanges to answer from, shared by a server's connections.
#[derive(Debug)]
pub struct Recording {
    pub(super) settings: Settings,
    pub(super) bodies: Box<dyn Bodies>,
    pub(super) index: Index,
    /// Whether values of its documents were masked.
    pub(super) is_redacted: bool,
    /// Whose values were taken out of it.
    fields: Vec<Arc<Fields>>,
}

/// The number of an exchange, in the order of the recording.
pub(super) type Number = u32;

/// What is known of a recording's exchanges without their documents.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: Vec<Entry>,
    /// The exchanges of each question: by the digest of everything, by the one without what can be bound, and by both of
    /// them [in the state](super::digest::in_state) in which it was asked.
    pub(super) questions: Questions,
    /// Values that are born, and where.
    pub(super) births: Births,
    /// The values born in each exchange, in the order in which they stand.
    pub(super) born: HashMap<Number, Vec<Value>, BuildHasherDefault<AsItIs>>,
    /// The exchanges of each command and collection.
    pub(super) alike: Alike,
    /// The exchanges without which a batch of a change stream is not there yet.
    pub(super) causes: HashMap<Number, Vec<Number>>,
    pub(super) namespaces: Namespaces,
    pub(super) app_names: HashSet<Arc<str>>,
}

/// Exchanges by digests, in recorded order: sorted, since there are several digests for each exchange, and a table of
/// them all would be the largest part of what is held. What begins with the same bits is sorted when it is first asked for.
///
/// Of a digest 96 bits count; those that are left hold a number.
#[derive(Debug)]
pub(super) struct Questions {
    /// Each digest with an exchange's number, as they come.
    added: Vec<u128>,
    /// How many of them are of each part.
    counts: [usize; PARTS],
    parts: Vec<Part>,
}

/// The digests that begin with the same bits.
#[derive(Debug, Default)]
struct Part {
    /// None once they are sorted.
    added: Mutex<Vec<u128>>,
    sorted: OnceLock<Sorted>,
}

#[derive(Debug, Default)]
struct Sorted {
    /// Each digest once, in order, with where its exchanges begin.
    digests: Vec<u128>,
    exchanges: Vec<Number>,
}

const NUMBER_BITS: u128 = u32::MAX as u128;

const PARTS: usize = 256;

impl Default for Questions {
    fn default() -> Self {
        Self { added: Vec::new(), counts: [0; PARTS], parts: Vec::new() }
    }
}

impl Questions {
    /// Adds an exchange to a digest's.
    pub(super) fn put(&mut self, digest: Digest, number: Number) {
        self.added.push(digest & !NUMBER_BITS | u128::from(number));
        self.counts[part_of(digest)] += 1;
    }

    /// Makes what was added be found.
    pub(super) fn part(&mut self) {
        let mut parts = self.counts.map(Vec::with_capacity);
        for added in std::mem::take(&mut self.added) {
            parts[part_of(added)].push(added);
        }
        self.parts = parts.into_iter().map(|it| Part { added: Mutex::new(it), sorted: OnceLock::new() }).collect();
    }

    fn list(&self, digest: Digest) -> &[Number] {
        let part = self.parts.get(part_of(digest));
        part.map_or(&[], |part| part.sorted.get_or_init(|| part.sort()).list(digest & !NUMBER_BITS))
    }
}

fn part_of(digest: Digest) -> usize {
    usize::from(digest.to_be_bytes()[0])
}

impl Part {
    fn sort(&self) -> Sorted {
        let mut added = std::mem::take(&mut *self.added.lock().unwrap_or_else(PoisonError::into_inner));
        added.sort_unstable();
        added.dedup();
        let exchanges = added.iter().map(|it| *it as Number).collect();
        let mut place = 0;
        added.iter_mut().for_each(|it| {
            *it = *it & !NUMBER_BITS | place;
            place += 1;
        });
        added.dedup_by_key(|it| *it & !NUMBER_BITS);
        added.shrink_to_fit();
        Sorted { digests: added, exchanges }
    }
}

impl Sorted {
    fn list(&self, digest: Digest) -> &[Number] {
        let at = self.digests.partition_point(|it| *it < digest);
        let place = |it: &u128| *it as u32 as usize;
        match self.digests.get(at..) {
            Some([found, rest @ ..]) if *found & !NUMBER_BITS == digest => {
                let end = rest.first().map_or(self.exchanges.len(), place);
                self.exchanges.get(place(found)..end).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// Exchanges by their command's name, and its collection.
#[derive(Debug, Default)]
pub(super) struct Alike(HashMap<String, Collections, BuildHasherDefault<AsItIs>>);

type Collections = HashMap<Option<Namespace>, Vec<Number>, BuildHasherDefault<AsItIs>>;

impl Alike {
    pub(super) fn put(&mut self, name: &str, collection: Option<Namespace>, number: Number) {
        // Most are known: their names are not copied.
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), HashMap::default());
        }
        if let Some(of_name) = self.0.get_mut(name) {
            of_name.entry(collection).or_default().push(number);
        }
    }

    /// The exchanges of a name, those of each collection together.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (Option<Namespace>, &Vec<Number>)> {
        self.0.get(name).into_iter().flatten().map(|(collection, list)| (*collection, list))
    }
}

/// What is known of an exchange.
#[derive(Debug)]
pub(super) struct Entry {
    /// Its question without what can be bound.
    pub(super) masked: Digest,
    /// What it wrote: its question, blind to which identities were born and to dates of now.
    pub(super) written: Digest,
    pub(super) reads: Arc<Reads>,
    /// How often the collection had been emptied.
    pub(super) epoch: u32,
    pub(super) effect: Arc<Effect>,
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

/// The values that have appeared, and where those that were born were.
#[derive(Debug, Default)]
pub(super) struct Births(HashMap<Digest, Option<Birth>, BuildHasherDefault<AsItIs>>);

impl Births {
    /// A value appears in a write, and is born there if it has not appeared before; whether it is.
    pub(super) fn write(&mut self, value: Value, birth: Birth) -> bool {
        let entry = self.0.entry(key(value));
        let is_born = matches!(entry, hash_map::Entry::Vacant(_));
        entry.or_insert(Some(birth));
        is_born
    }

    /// Values, as numbers, appear where none is born.
    pub(super) fn see(&mut self, values: &[Digest]) {
        values.iter().for_each(|value| _ = self.0.entry(*value).or_insert(None));
    }

    /// Where it was born; `None` if it was not.
    pub(super) fn get(&self, value: &Value) -> Option<&Birth> {
        self.0.get(&key(*value))?.as_ref()
    }

    /// Whether it was born.
    pub(super) fn has(&self, value: &Value) -> bool {
        self.get(value).is_some()
    }
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

    /// The same, of which values were masked: a miss says so.
    #[must_use]
    pub fn redacted(self, is_redacted: bool) -> Self {
        Self { is_redacted, ..self }
    }

    /// The same, of which the values of these fields were taken out: so they are of what is asked.
    #[must_use]
    pub fn without(self, fields: Vec<Arc<Fields>>) -> Self {
        Self { fields, ..self }
    }

    /// A request as it would have been recorded.
    pub(super) fn as_recorded<'r>(&self, request: &'r Request) -> Cow<'r, Request> {
        let mut recorded = Cow::Borrowed(request);
        for fields in &self.fields {
            let mut asked = fields.asked(&recorded.command, Some(&recorded.database));
            if let Some(command) = fields.request(&mut asked, &recorded.command) {
                recorded.to_mut().command = command;
            }
        }
        recorded
    }

    /// What in a request is not as it was asked, for an explanation.
    pub(super) fn redacted_in(&self, request: &Request) -> Vec<Note> {
        let named = self.fields.iter().flat_map(|fields| fields.named_in(&request.command, &request.database));
        named.map(|path| Note { path, why: Why::Redacted }).collect()
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

    /// How it will be answered from.
    pub fn settings(&self) -> &Settings {
        self.0.settings()
    }

    /// Adds the next exchange, in the order of their requests.
    pub fn add(&mut self, exchange: &Exchange) {
        let mut findings = Findings::default();
        let number = findings.add(exchange, self.0.settings());
        self.add_walked(exchange, &findings.get(number));
    }

    /// The same, where what is in it was found out before, by the same settings.
    pub fn add_walked(&mut self, exchange: &Exchange, walked: &Walked<'_>) {
        self.0.add(exchange, walked);
    }

    /// The recording; `bodies` has the exchanges in the order in which they were added.
    pub fn finish(self, bodies: Box<dyn Bodies>) -> Recording {
        let (index, settings) = self.0.finish();
        Recording { settings, bodies, index, is_redacted: false, fields: Vec::new() }
    }
}

impl Index {
    /// The exchanges with a digest.
    pub(super) fn list(&self, digest: Digest) -> &[Number] {
        self.questions.list(digest)
    }

    pub(super) fn entry(&self, number: Number) -> Option<&Entry> {
        self.entries.get(number as usize)
    }
}
