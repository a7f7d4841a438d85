//! The user's own secrets: values of fields that are named, taken out of all that leaves the process.
//!
//! [`Fields`] is what was asked for. Of each command [`Asked`] is worked out, which says where in it and in its replies
//! such values may be: the fields themselves, names that a pipeline or a projection gives them, and texts that an error
//! may repeat. `walk` goes through documents by that. Where it cannot be known what a constant is compared with, it goes.
//! What is left out: fields that an update, a `$rename` or a view copies to other names on the server, the names of fields,
//! resume tokens of change streams, and a stored word that an error says in the midst of a sentence.

mod asked;
mod expression;
mod message;
mod path;
mod plain;
mod prose;
#[cfg(test)]
mod tests;
mod value;
mod walk;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use ring::hmac;
use serde::{Deserialize, Serialize};

pub use asked::Asked;
pub(super) use asked::Command;
pub use expression::names_a_field;
pub(super) use message::{Said, rewritten};
pub use path::{FieldPath, FieldPathError};
pub use value::{Mode, masked};

use path::{Met, Names};
use value::Stand;
use walk::Walker;

use crate::bson::{Element, find_path};
use crate::event::Exchange;

/// Which values are taken out, and what stands for them.
pub struct Fields {
    paths: Vec<FieldPath>,
    mode: Mode,
    key: hmac::Key,
    cursors: Mutex<Cursors>,
    met: Met,
}

/// Keys are not for logs.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.paths.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.debug_struct("Fields").field("paths", &paths).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// Which values were taken out of a recording, as its header says it: enough to take the same out of what is to be
/// compared with it, but for the key.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// The fields, as they were written.
    pub fields: Vec<String>,
    /// What became of their values.
    pub mode: Mode,
    /// Of hashes: what tells their key from others.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<String>,
}

impl Fields {
    /// `key` is that of [`Mode::Hash`]. `None` without paths: then there is nothing to be done.
    pub fn new(paths: Vec<FieldPath>, mode: Mode, key: &[u8]) -> Option<Arc<Self>> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let met = Met::none_of(paths.len());
        (!paths.is_empty()).then(|| Arc::new(Self { paths, mode, key, cursors: Mutex::default(), met }))
    }

    /// Those of the fields, as they were written, that were in nothing that was looked at so far.
    pub fn met_nowhere(&self) -> Vec<String> {
        let unmet = self.paths.iter().enumerate().filter(|(place, _)| !self.met.is_met(*place));
        unmet.map(|(_, path)| path.to_string()).collect()
    }

    /// What a file says of what was taken out of it.
    pub fn rules(&self) -> Rules {
        let key = (self.mode == Mode::Hash).then(|| value::fingerprint(&self.key));
        Rules { fields: self.paths.iter().map(ToString::to_string).collect(), mode: self.mode, key }
    }

    /// What is to be taken out of a command on that database, and of its replies.
    pub fn asked(&self, command: &[u8], database: Option<&str>) -> Asked {
        Asked::of(self, &Command { database, ..Command::new(command) })
    }

    /// The command without the values; `None` if there are none in it.
    pub fn request(&self, asked: &mut Asked, command: &[u8]) -> Option<Vec<u8>> {
        if !asked.may_touch(command) && !asked.may_repeat(command) {
            return None;
        }
        let mut walker = Walker::new(self, asked);
        let document = walker.request(command);
        let texts = walker.into_texts();
        asked.repeats(texts);
        document
    }

    /// Takes the values out of a command, `$db` included, and out of its replies.
    pub fn exchange<'r>(&self, request: &mut Vec<u8>, replies: impl IntoIterator<Item = &'r mut Vec<u8>>) {
        let mut asked = self.asked(request, None);
        if let Some(without) = self.request(&mut asked, request) {
            *request = without;
        }
        for reply in replies {
            if let Some(without) = self.reply(&asked, reply) {
                *reply = without;
            }
        }
    }

    /// Those of the fields that may be in a command on that database, as they were written.
    pub fn named_in(&self, command: &[u8], database: &str) -> Vec<String> {
        let asked = self.asked(command, Some(database));
        let is_named = |path: &&FieldPath| {
            let mut places = Vec::new();
            path.within(0, None, None, &mut places);
            let is_own = |names: &Names| asked.places.iter().any(|place| **place == **names);
            let names = places.iter().filter(|names| is_own(names)).filter_map(|names| names.last());
            names.into_iter().any(|name| **name == *b"*" || memchr::memmem::find(command, name).is_some())
        };
        self.paths.iter().filter(is_named).map(ToString::to_string).collect()
    }

    /// A reply to it without the values; `None` if there are none in it.
    pub fn reply(&self, asked: &Asked, reply: &[u8]) -> Option<Vec<u8>> {
        self.note_cursor(asked, cursor_of(reply));
        if asked.may_touch(reply) { Walker::new(self, asked).reply(reply) } else { None }
    }

    /// What is asked of a cursor is asked of it as it goes on. Each is remembered, for of one that is not anything may have
    /// been asked. `id` is what the reply says; 0 is none.
    fn note_cursor(&self, asked: &Asked, id: Option<i64>) {
        match id.filter(|id| *id != 0) {
            Some(id) => {
                let mut asked = asked.clone();
                if !asked.is_special() {
                    asked.texts.clear();
                }
                self.cursors.lock().unwrap_or_else(PoisonError::into_inner).insert(id, asked);
            }
            // It is at its end, or the server does not know it any more.
            None => asked.cursor.into_iter().for_each(|id| self.forget_cursor(id)),
        }
    }

    fn forget_cursor(&self, id: i64) {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn of_cursor(&self, id: i64) -> Option<Asked> {
        let cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        cursors.asked.get(&id).map(|(_, asked)| asked.clone())
    }

    /// The places within documents of that collection.
    fn places(&self, database: Option<&str>, collection: Option<&str>, to: &mut Vec<Names>) {
        self.paths.iter().enumerate().for_each(|(place, path)| path.within(place, database, collection, to));
    }

    /// What stands for a value; `None` for one that says nothing.
    fn stand(&self, element: &Element<'_>) -> Option<Stand> {
        match self.mode {
            Mode::Hash => value::hashed(element, &self.key),
            // What has no name of its own cannot be left out.
            Mode::Mask | Mode::Drop => masked(element),
        }
    }
}

/// The cursor that a reply says to be open.
fn cursor_of(reply: &[u8]) -> Option<i64> {
    find_path(reply, &[b"cursor", b"id"])?.as_i64()
}

/// What was asked of cursors that are open, as far as is remembered.
#[derive(Default)]
struct Cursors {
    /// With the number of the reply that named it last.
    asked: HashMap<i64, (u64, Asked)>,
    /// In the order of these.
    ids: BTreeMap<u64, i64>,
    replies: u64,
}

/// No more cursors are remembered than these: those of which nothing was heard for the longest time go. One goes when it
/// comes to its end, fails or is killed; those that servers give up by themselves are what may come to be so many.
const CURSORS_MAX: usize = 10_000;

impl Cursors {
    fn insert(&mut self, id: i64, asked: Asked) {
        self.replies += 1;
        self.ids.insert(self.replies, id);
        if let Some((before, _)) = self.asked.insert(id, (self.replies, asked)) {
            self.ids.remove(&before);
        }
        if self.ids.len() > CURSORS_MAX
            && let Some((_, first)) = self.ids.pop_first()
        {
            self.asked.remove(&first);
        }
    }

    fn remove(&mut self, id: i64) {
        if let Some((place, _)) = self.asked.remove(&id) {
            self.ids.remove(&place);
        }
    }
}

/// What was asked in exchanges of a connection that are not over.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<u64, Asked>);

/// No more exchanges are remembered than these.
const PENDING_MAX: usize = 10_000;

impl Pending {
    pub(super) fn insert(&mut self, exchange: Exchange, asked: Asked) {
        self.0.insert(exchange.0, asked);
        if self.0.len() > PENDING_MAX {
            self.0.pop_first();
        }
    }

    /// What was asked in an exchange that ends now. Of one that is not remembered anything may have been.
    pub(super) fn end(&mut self, exchange: Exchange, fields: &Fields) -> Asked {
        self.0.remove(&exchange.0).unwrap_or_else(|| Asked::unknown(fields))
    }
}
