//! What of a command and its replies is to be taken out: found out from the command, before anything of it is.

use std::collections::BTreeSet;
use std::fmt;

use super::Fields;
use super::expression::{Scan, named};
use super::path::Names;
use super::prose::TEXTS_MAX;
use crate::bson::{Element, Elements, find};
use crate::wire::Sequence;

/// A command as it is read.
pub(in crate::redact) struct Command<'a> {
    /// The body.
    pub(in crate::redact) body: &'a [u8],
    /// What belongs to the body and stands beside it.
    pub(in crate::redact) sequences: &'a [Sequence<'a>],
    /// The database, if the body does not say it.
    pub(in crate::redact) database: Option<&'a str>,
    /// Something was left out of it because it is long.
    pub(in crate::redact) is_cut: bool,
}

impl<'a> Command<'a> {
    pub(in crate::redact) fn new(body: &'a [u8]) -> Self {
        Self { body, sequences: &[], database: None, is_cut: false }
    }
}

/// How the documents of a reply's batch are to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Batch {
    /// As documents of an application.
    Documents,
    /// As descriptions of indexes.
    Indexes,
    /// As anything: commands of others may be in them.
    Anything,
}

/// What is to be taken out of a command and its replies.
#[derive(Clone)]
pub struct Asked {
    /// The fields, those of the user's and other names for them.
    pub(super) places: Vec<Names>,
    /// How many of them are those of its own collection.
    pub(super) own: usize,
    /// What the reply gives are values of such fields, under whatever names.
    pub(super) is_whole: bool,
    /// An expression refers to one.
    pub(super) refers: bool,
    /// Code runs, which may do anything with them.
    pub(super) runs_code: bool,
    /// It looks for something and does not name the field in which: words, or what is near.
    pub(super) seeks: bool,
    /// What `$geoNear` measures from is compared with one, or it is not said with what.
    pub(super) is_near: bool,
    /// Something was left out of it, or not looked at, so what an expression is about may not be seen.
    pub(super) is_cut: bool,
    /// It is no command, but asks for documents by a legacy opcode.
    pub(super) is_legacy: bool,
    /// It is explained, not done.
    pub(super) explains: bool,
    pub(super) batch: Batch,
    /// It goes on with a cursor of which nothing is known.
    pub(super) is_unknown: bool,
    /// The cursor that it goes on with, if that was remembered.
    pub(super) cursor: Option<i64>,
    /// The values that the command had, as far as an error or a comment may repeat them.
    pub(super) texts: Vec<Vec<u8>>,
    /// Operators and fields that the command has in its expressions, which errors name in quotes.
    pub(super) named: BTreeSet<Vec<u8>>,
    /// It has a comment, as what its cursor goes on with may have.
    is_commented: bool,
}

/// What is in it is not for logs.
impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

/// Commands in which none of the user's documents are, and of which sessions want to know all.
const HELLO: [&[u8]; 3] = [b"hello", b"isMaster", b"ismaster"];

impl Asked {
    /// Nothing.
    fn nothing() -> Self {
        Self {
            places: Vec::new(),
            own: 0,
            is_whole: false,
            refers: false,
            runs_code: false,
            seeks: false,
            is_near: false,
            is_cut: false,
            is_legacy: false,
            explains: false,
            batch: Batch::Documents,
            is_unknown: false,
            cursor: None,
            texts: Vec::new(),
            named: BTreeSet::new(),
            is_commented: false,
        }
    }

    /// Whatever could have been asked.
    pub(super) fn anything(fields: &Fields) -> Self {
        let mut asked = Self { batch: Batch::Anything, refers: true, ..Self::nothing() };
        fields.places(None, None, &mut asked.places);
        asked.own = asked.places.len();
        asked
    }

    /// The same, with other names for it all: nothing of it was seen.
    pub(super) fn unknown(fields: &Fields) -> Self {
        Self { is_whole: true, runs_code: true, ..Self::anything(fields) }
    }

    pub(in crate::redact) fn of(fields: &Fields, command: &Command<'_>) -> Self {
        let Some(first) = Elements::readable(command.body).next() else { return Self::anything(fields) };
        if first.name == b"explain"
            && let Some(body) = first.as_document()
        {
            // No server explains an explanation.
            if Elements::readable(body).next().is_some_and(|first| first.name == b"explain") {
                return Self { explains: true, is_cut: true, ..Self::unknown(fields) };
            }
            let database = find(command.body, b"$db").and_then(|it| it.as_str()).or(command.database);
            let explained = Command { body, database, is_cut: command.is_cut, ..Command::new(body) };
            return Self { explains: true, batch: Batch::Anything, ..Self::of(fields, &explained) };
        }
        if HELLO.contains(&first.name) {
            return Self::nothing();
        }
        let database = find(command.body, b"$db").and_then(|it| it.as_str()).or(command.database);
        if first.name == b"getMore"
            && let Some(asked) = first.as_i64().and_then(|id| Self::of_cursor(fields, id, false))
        {
            return asked;
        }
        if first.name == b"killCursors" {
            let ids = find(command.body, b"cursors").and_then(|it| it.as_array()).map(Elements::readable);
            ids.into_iter().flatten().filter_map(|id| id.as_i64()).for_each(|id| fields.forget_cursor(id));
        }
        let collection = match first.name {
            b"getMore" => find(command.body, b"collection").and_then(|it| it.as_str()),
            // What it names is no collection.
            b"getLog" => None,
            _ => first.as_str(),
        };
        let collection = collection.and_then(|name| own_collection(database, name));
        let mut asked = Self::nothing();
        fields.places(database, collection, &mut asked.places);
        // Some commands name it with its database.
        if let Some((database, collection)) = collection.and_then(|name| name.split_once('.')) {
            fields.places(Some(database), Some(collection), &mut asked.places);
        }
        asked.batch = match (first.name, collection) {
            (b"listIndexes", _) => Batch::Indexes,
            (_, None) => Batch::Anything,
            (b"aggregate", _) if memchr::memmem::find(command.body, b"$planCacheStats").is_some() => Batch::Anything,
            _ => Batch::Documents,
        };
        asked.own = asked.places.len();
        // Other collections' documents come with those of this one, whichever they are.
        if command.is_cut {
            fields.places(None, None, &mut asked.places);
        }
        let mut others = Vec::new();
        command.parts().for_each(|part| named_collections(&part, &mut others));
        others.extend(find(command.body, b"viewOn").and_then(|it| it.as_str_bytes()));
        if first.name == b"bulkWrite" {
            command.parts().for_each(|part| asked.namespaces(fields, &part));
        }
        for other in others.iter().filter_map(|other| std::str::from_utf8(other).ok()) {
            fields.places(database, Some(other), &mut asked.places);
        }
        if !asked.places.is_empty() {
            asked.scan(fields, &first, command);
        }
        if first.name == b"getMore" {
            asked.of_unknown_origin(fields);
        }
        asked
    }

    /// What is asked of a cursor that goes on, by a command or by a legacy opcode; `None` if it is not remembered.
    pub(super) fn of_cursor(fields: &Fields, id: i64, is_legacy: bool) -> Option<Self> {
        Some(Self { cursor: Some(id), is_legacy, ..fields.of_cursor(id)? })
    }

    /// What a cursor gives that was opened before anything was seen: a pipeline may have given the values other names, or
    /// have joined them from another collection, and its comment may repeat any.
    pub(super) fn of_unknown_origin(&mut self, fields: &Fields) {
        self.is_unknown = true;
        (self.is_whole, self.refers, self.runs_code) = (self.own > 0, true, self.own > 0);
        if self.own == 0 {
            fields.places(None, None, &mut self.places);
        }
    }

    /// Adds the places of the collections that several writes name at their beginning.
    fn namespaces(&mut self, fields: &Fields, part: &Element<'_>) {
        let mut names = Vec::new();
        if part.name == b"nsInfo" {
            collect(part.value, &[b"ns"], super::walk::DEPTH_MAX, &mut names);
        }
        for (database, collection) in names.iter().filter_map(|ns| std::str::from_utf8(ns).ok()?.split_once('.')) {
            fields.places(Some(database), Some(collection), &mut self.places);
        }
    }

    /// Finds out by which other names values of the places come back, and whether expressions refer to them.
    fn scan(&mut self, fields: &Fields, first: &Element<'_>, command: &Command<'_>) {
        let mut scan = Scan::new(std::mem::take(&mut self.places), &fields.met);
        if first.name == b"distinct"
            && let Some(key) = find(command.body, b"key").and_then(|key| key.as_str_bytes())
        {
            scan.give_at_top(&[b"$", key].concat());
        }
        // A name may be given to what has been given one.
        let mut is_known = false;
        for _ in 0..ROUNDS_MAX {
            command.parts().for_each(|part| scan.part(&part));
            is_known = !scan.has_grown();
            if is_known {
                break;
            }
        }
        if !is_known {
            scan.give_up();
        }
        let is_code = matches!(first.name.to_ascii_lowercase().as_slice(), b"mapreduce");
        // What is not seen of it may have given other names. In a log of a server there are commands, as texts.
        self.is_cut = scan.is_cut || command.is_cut;
        self.is_whole = scan.is_whole || is_code || self.is_cut || first.name == b"getLog";
        self.refers = scan.refers || self.is_cut;
        self.runs_code = scan.runs_code || is_code || self.is_cut;
        self.seeks = scan.seeks;
        self.is_near = scan.is_near;
        self.places = scan.places;
        if self.refers {
            command.parts().for_each(|part| named(&part, 0, &mut self.named));
        }
        self.is_commented = find(command.body, b"comment").is_some();
    }

    /// Whether its cursor is to be remembered with the values that it had: what it gives has other names than the documents
    /// of its collection have, or the comment comes again that may repeat values.
    pub(super) fn is_special(&self) -> bool {
        let may_repeat = self.is_commented && !self.texts.is_empty();
        self.is_whole || self.places.len() > self.own || self.batch == Batch::Indexes || may_repeat
    }

    /// Whether a comment in these bytes may repeat values that were known before.
    pub(super) fn may_repeat(&self, bytes: &[u8]) -> bool {
        (self.is_unknown || !self.texts.is_empty()) && memchr::memmem::find(bytes, b"comment").is_some()
    }

    /// Keeps what an error may repeat.
    pub(super) fn repeats(&mut self, texts: Vec<Vec<u8>>) {
        self.texts.extend(texts);
        self.texts.truncate(TEXTS_MAX);
    }

    /// Whether there can be anything in those bytes that is to be taken out.
    pub(super) fn may_touch(&self, bytes: &[u8]) -> bool {
        let is_in = |text: &[u8]| memchr::memmem::find(bytes, text).is_some();
        let names = self.places.iter().filter_map(|names| names.last());
        if self.places.is_empty() {
            return false;
        }
        let tells_id = || is_in(b"upserted") || is_in(b"failingDocumentId");
        let has_message = || is_in(b"errmsg") || is_in(b"$err");
        self.is_whole
            || self.is_cut
            || self.seeks
            || names.clone().any(|name| **name == *b"*" || is_in(name) || **name == *b"_id" && tells_id())
            || ((self.refers || self.runs_code || !self.texts.is_empty()) && has_message())
    }
}

/// The collection whose documents are found under that name. In those of the server's own there are documents of others,
/// and what was done with them.
pub(super) fn own_collection<'a>(database: Option<&str>, name: &'a str) -> Option<&'a str> {
    if let Some(of_series) = name.strip_prefix("system.buckets.") {
        return Some(of_series);
    }
    let is_others = name.starts_with("$cmd.")
        || name.starts_with("system.")
        || database == Some("config")
        || database == Some("local") && name.starts_with("oplog.");
    (!is_others).then_some(name)
}

/// So often names are looked for that are given to what has been given one.
const ROUNDS_MAX: usize = 8;

impl<'a> Command<'a> {
    /// The fields of the command, those that stand beside the body as the documents that they are.
    fn parts(&self) -> impl Iterator<Item = Element<'a>> {
        let beside = self.sequences.iter().flat_map(|sequence| {
            let name = sequence.identifier;
            sequence.iter().map(move |value| Element { kind: crate::bson::Kind::Document, name, value, offset: 0 })
        });
        Elements::readable(self.body).chain(beside)
    }
}

/// The collections that a pipeline names.
fn named_collections<'a>(part: &Element<'a>, to: &mut Vec<&'a [u8]>) {
    const NAMES: [&[u8]; 6] = [b"$merge", b"$out", b"$unionWith", b"coll", b"from", b"into"];
    if part.name == b"pipeline" {
        collect(part.value, &NAMES, super::walk::DEPTH_MAX, to);
    }
}

fn collect<'a>(document: &'a [u8], names: &[&[u8]], depth: usize, to: &mut Vec<&'a [u8]>) {
    for element in Elements::readable(document) {
        match element.as_str_bytes() {
            Some(text) if names.contains(&element.name) => to.push(text),
            _ if element.kind.is_container() && depth > 0 => collect(element.value, names, depth - 1, to),
            _ => {}
        }
    }
}
