//! What was written to each collection since it was last emptied, as a digest that does not tell the order.
//!
//! The recording and the run are followed alike: a write counts with the recorded exchange that it is, so that the same
//! writes give the same state. Those of a transaction count for itself at once, for others when it is committed.

use std::collections::HashMap;

use super::digest::{Digest, Hash};
use super::effect::{Effect, Namespace, Namespaces, Reads};

/// A transaction: by its session and number.
pub(super) type Transaction = Digest;

/// The states of all collections.
#[derive(Debug, Default)]
pub(super) struct States {
    collections: HashMap<Namespace, Collection>,
    transactions: HashMap<Transaction, Vec<(Effect, Digest)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Collection {
    /// The sum of the writes since it was emptied.
    documents: Digest,
    /// The sum of the changes to indexes and the like since it was dropped.
    schema: Digest,
    /// How often it was emptied.
    epoch: u32,
    /// The epoch of the recording that this run's seems to be.
    likeness: Option<u32>,
}

/// Transactions that may be open at a time; beyond it, all that were begun are forgotten.
const TRANSACTIONS_MAX: usize = 10_000;

impl States {
    /// Takes note of what was done. `digest` tells the exchange that did it from others.
    pub(super) fn apply(
        &mut self,
        effect: &Effect,
        digest: Digest,
        transaction: Option<Transaction>,
        namespaces: &Namespaces,
    ) {
        match (effect, transaction) {
            (Effect::None, _) => {}
            (Effect::Commit, Some(transaction)) => {
                for (effect, digest) in self.transactions.remove(&transaction).unwrap_or_default() {
                    self.apply(&effect, digest, None, namespaces);
                }
            }
            (Effect::Abort, Some(transaction)) => {
                self.transactions.remove(&transaction);
            }
            (Effect::Commit | Effect::Abort, None) => {}
            (_, Some(transaction)) => {
                if self.transactions.len() >= TRANSACTIONS_MAX {
                    self.transactions.clear();
                }
                self.transactions.entry(transaction).or_default().push((effect.clone(), digest));
            }
            (_, None) => self.write(effect, digest, namespaces),
        }
    }

    /// Forgets what a transaction did, which begins.
    pub(super) fn begin(&mut self, transaction: Transaction) {
        self.transactions.remove(&transaction);
    }

    fn write(&mut self, effect: &Effect, digest: Digest, namespaces: &Namespaces) {
        match effect {
            Effect::Write(written) => {
                for namespace in written {
                    let collection = self.collections.entry(*namespace).or_default();
                    collection.documents = collection.documents.wrapping_add(digest);
                }
            }
            Effect::Schema(namespace) => {
                let collection = self.collections.entry(*namespace).or_default();
                collection.schema = collection.schema.wrapping_add(digest);
            }
            Effect::Empty(namespace) => self.collections.entry(*namespace).or_default().empty(),
            Effect::Replace(namespace) => {
                let collection = self.collections.entry(*namespace).or_default();
                collection.empty();
                collection.documents = digest;
            }
            Effect::Drop(namespace) => self.collections.entry(*namespace).or_default().drop(),
            Effect::DropDatabase(database) => {
                let all = self.collections.iter_mut();
                let dropped = all.filter(|(namespace, _)| namespaces.is_in(**namespace, *database));
                dropped.for_each(|(_, collection)| collection.drop());
            }
            Effect::Rename(from, to) => {
                let before = self.collections.get(from).copied().unwrap_or_default();
                self.collections.entry(*from).or_default().drop();
                let collection = self.collections.entry(*to).or_default();
                collection.drop();
                (collection.documents, collection.schema) = (before.documents, before.schema);
            }
            Effect::None | Effect::Commit | Effect::Abort => {}
        }
    }

    /// The state that an answer depends on.
    pub(super) fn read(&self, reads: &Reads, transaction: Option<Transaction>, namespaces: &Namespaces) -> Digest {
        let pending = transaction.and_then(|transaction| self.transactions.get(&transaction));
        let pending = pending.map_or(&[][..], Vec::as_slice);
        let sum = |wanted: &dyn Fn(Namespace) -> bool, schema: bool| {
            let all = self.collections.iter().filter(|(namespace, _)| wanted(**namespace));
            let states = all.map(|(namespace, it)| it.digest(*namespace, schema));
            states.fold(0, Digest::wrapping_add)
        };
        let own = pending.iter().fold(0, |sum: Digest, (_, digest)| sum.wrapping_add(*digest));
        let committed = match reads {
            Reads::Nothing | Reads::Transaction => 0,
            Reads::Documents(read) => {
                let states = read.iter().filter_map(|it| Some(self.collections.get(it)?.digest(*it, false)));
                states.fold(0, Digest::wrapping_add)
            }
            Reads::Collection(read) => self.collections.get(read).map_or(0, |it| it.digest(*read, true)),
            Reads::Database(database) => sum(&|it| namespaces.is_in(it, *database), true),
            Reads::Everything => sum(&|_| true, true),
        };
        committed.wrapping_add(own)
    }

    /// How often the first of the collections read was emptied.
    pub(super) fn epoch(&self, reads: &Reads) -> u32 {
        first(reads).and_then(|namespace| self.collections.get(&namespace)).map_or(0, |it| it.epoch)
    }

    /// The epoch of the recording that the first of the collections read seems to be in.
    pub(super) fn likeness(&self, reads: &Reads) -> Option<u32> {
        self.collections.get(&first(reads)?)?.likeness
    }

    /// An exchange of that epoch of the recording was used.
    pub(super) fn resemble(&mut self, reads: &Reads, epoch: u32) {
        if let Some(namespace) = first(reads) {
            self.collections.entry(namespace).or_default().likeness = Some(epoch);
        }
    }
}

fn first(reads: &Reads) -> Option<Namespace> {
    match reads {
        Reads::Documents(read) => read.first().copied(),
        Reads::Collection(read) => Some(*read),
        _ => None,
    }
}

impl Collection {
    fn empty(&mut self) {
        self.documents = 0;
        self.epoch += 1;
        self.likeness = None;
    }

    fn drop(&mut self) {
        self.empty();
        self.schema = 0;
    }

    /// Nothing is nothing, whether the collection is known or not.
    fn digest(&self, namespace: Namespace, schema: bool) -> Digest {
        let schema = if schema { self.schema } else { 0 };
        if self.documents == 0 && schema == 0 {
            return 0;
        }
        let mut hash = Hash::default();
        hash.number(Digest::from(namespace));
        hash.number(self.documents);
        hash.number(schema);
        hash.finish()
    }
}
