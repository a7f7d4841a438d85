//! Goes through a command or a reply and takes values out, wherever a document of the user's may be in it.
//!
//! What a command has beside documents stays as it is: names, options, sessions; so do names of fields, operators, and
//! what sorts, projections and indexes say of fields. In expressions what names a field stays, and what is compared or
//! put together with a place goes.

mod others;

use std::borrow::Cow;

use super::asked::{Asked, Batch};
use super::expression::{LOOKED_AT_MAX, binds, is_boolean, is_naming, mentions, names_a_field};
use super::path::Trail;
use super::plain::{SCHEMA_WORDS, is_brief, says_no_value};
use super::value::{Mode, TEXT, with_mark};
use super::{Fields, prose};
use crate::bson::write::{begin, end, put_name, put_string};
use crate::bson::{Element, Elements, Kind};

/// A document within documents deeper than this is not looked into, but goes.
pub(super) const DEPTH_MAX: usize = 100;

/// What the values at some place are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The top of a command.
    Command,
    /// One of the statements of a command that has several.
    Statement,
    /// The top of a reply.
    Reply,
    /// A reply's cursor.
    Cursor,
    /// An error among others in a reply.
    Error,
    /// What is said of a document that was not valid.
    Details,
    /// Values.
    Data,
    /// A filter or an update: values with operators around them.
    Query,
    /// Filters whose names begin with an identifier.
    Identified,
    /// An expression; what is said in it goes if it is together with a place.
    Expression { goes: bool },
    /// Which fields are wanted: numbers and booleans, or expressions.
    Projection,
    /// What is said of fields: the order, the type of an index.
    Shape,
    /// A description of an index.
    Index,
    /// A JSON schema.
    Schema,
    /// What a schema says of fields, under their names.
    Properties,
    /// What is said for people: it goes as far as it repeats what went elsewhere.
    Comment,
    /// Nothing of documents.
    Other,
}

/// Where an element is: in what, and whether in a value that goes.
#[derive(Clone, Copy, Debug)]
struct At {
    place: Place,
    goes: bool,
}

impl From<Place> for At {
    fn from(place: Place) -> Self {
        Self { place, goes: false }
    }
}

pub(super) struct Walker<'w> {
    fields: &'w Fields,
    asked: &'w Asked,
    trail: Trail<'w>,
    depth: usize,
    /// In so many commands of others it is.
    others: usize,
    changed: bool,
    /// What was taken out of a request, for errors that repeat it.
    texts: Vec<Vec<u8>>,
    /// Elements that may still be looked at ahead.
    budget: usize,
    is_reply: bool,
    /// What went when it was gone through before.
    repeats: Vec<Vec<u8>>,
    /// Something was left out of the filter that it is in, which takes more without it.
    is_wider: bool,
}

impl<'w> Walker<'w> {
    pub(super) fn new(fields: &'w Fields, asked: &'w Asked) -> Self {
        Self {
            fields,
            asked,
            trail: Trail::default(),
            depth: 0,
            others: 0,
            changed: false,
            texts: Vec::new(),
            budget: LOOKED_AT_MAX,
            is_reply: false,
            repeats: Vec::new(),
            is_wider: false,
        }
    }

    pub(super) fn into_texts(self) -> Vec<Vec<u8>> {
        self.texts
    }

    /// Of a command; `None` if nothing has to go. What stands beside it is to be gone through before.
    pub(super) fn request(&mut self, document: &'w [u8]) -> Option<Vec<u8>> {
        let without = self.document(document, Place::Command.into());
        if !self.may_repeat(document) {
            return without;
        }
        self.again(document, Place::Command.into())
    }

    /// Once more, as a comment may come before what it repeats.
    fn again(&mut self, document: &'w [u8], at: At) -> Option<Vec<u8>> {
        self.repeats.clone_from(&self.texts);
        let without = self.document(document, at);
        self.texts.clone_from(&self.repeats);
        without
    }

    /// Whether it knows of something that a comment in that command may repeat.
    pub(super) fn may_repeat(&self, command: &[u8]) -> bool {
        self.asked.may_repeat(command) || !self.texts.is_empty() && memchr::memmem::find(command, b"comment").is_some()
    }

    /// Of a document that stands beside a command or a reply, under that name.
    pub(super) fn beside(&mut self, name: &'w [u8], document: &'w [u8], is_reply: bool) -> Option<Vec<u8>> {
        let element = Element { kind: Kind::Document, name, value: document, offset: 0 };
        let at = match name.rsplit(|byte| *byte == b'.').next() {
            Some(b"firstBatch" | b"nextBatch") if is_reply => self.batch(),
            _ if is_reply => self.of_reply(&element),
            _ => self.of_command(&element, false),
        };
        self.is_reply = is_reply;
        // As deep as in the array that it stands for.
        self.depth = 2;
        let without = self.document(document, at);
        self.depth = 0;
        without
    }

    /// Of a reply.
    pub(super) fn reply(&mut self, document: &'w [u8]) -> Option<Vec<u8>> {
        self.is_reply = true;
        self.document(document, Place::Reply.into())
    }

    /// Of a document that is found, or that is to be found.
    pub(super) fn found(&mut self, document: &'w [u8], place: Place) -> Option<Vec<u8>> {
        self.is_wider = false;
        let at = At { place, goes: self.asked.is_whole && place == Place::Data };
        let mut without = self.document(document, at);
        if place == Place::Query && self.may_repeat(document) {
            without = self.again(document, at);
        }
        without.map(|without| if self.is_wider { with_mark(&without) } else { without })
    }

    fn document(&mut self, document: &'w [u8], at: At) -> Option<Vec<u8>> {
        self.changed = false;
        let mut out = Vec::with_capacity(document.len() + 64);
        self.walk(document, at, false, &mut out);
        self.changed.then_some(out)
    }

    fn walk(&mut self, document: &'w [u8], at: At, is_array: bool, out: &mut Vec<u8>) {
        let start = begin(out);
        let mut is_first = true;
        match Elements::new(document) {
            Ok(elements) => {
                for element in elements {
                    // What cannot be read is left out.
                    let Ok(element) = element else {
                        self.changed = true;
                        break;
                    };
                    self.element(&element, at, is_array, is_first, out);
                    is_first = false;
                }
            }
            Err(_) => self.changed = true,
        }
        end(start, out);
    }

    fn element(&mut self, element: &Element<'w>, at: At, is_array: bool, is_first: bool, out: &mut Vec<u8>) {
        let len = self.trail.len();
        let below = if is_array { at } else { self.below(element, at, is_first) };
        // What holds documents is there whatever is in them.
        let is_field = !is_array && !matches!(at.place, Place::Cursor | Place::Reply);
        if self.is_of_others(element, at) {
            self.of_others(element, below, out);
            return self.trail.truncate(len);
        }
        let is_named = below.goes && !at.goes && is_field;
        if is_named && self.fields.mode == Mode::Drop && can_be_left_out(element, below.place) {
            self.changed = true;
            self.is_wider |= below.place == Place::Query && !self.is_reply;
            self.keep_texts(element, 0);
        } else if element.kind.is_container() {
            self.container(element, below, out);
        } else {
            self.leaf(element, below, out);
        }
        self.trail.truncate(len);
    }

    fn container(&mut self, element: &Element<'w>, at: At, out: &mut Vec<u8>) {
        if at.place == Place::Other {
            put_name(element.kind, element.name, out);
            out.extend_from_slice(element.value);
        } else if self.depth == DEPTH_MAX {
            self.put(element, (Kind::String, text(TEXT)), out);
        } else {
            let is_filter = at.place == Place::Query && FILTERS.contains(&element.name);
            let was_wider = is_filter && std::mem::take(&mut self.is_wider);
            put_name(element.kind, element.name, out);
            let start = out.len();
            self.depth += 1;
            self.walk(element.value, at, element.kind == Kind::Array, out);
            self.depth -= 1;
            if is_filter && self.is_wider && element.kind == Kind::Document {
                let marked = with_mark(&out[start..]);
                out.truncate(start);
                out.extend_from_slice(&marked);
            }
            self.is_wider = if is_filter { was_wider } else { self.is_wider };
        }
    }

    fn leaf(&mut self, element: &Element<'w>, at: At, out: &mut Vec<u8>) {
        let is_code = matches!(element.kind, Kind::Code | Kind::CodeWithScope) || self.is_code(element, at.place);
        let goes = match at.place {
            Place::Other | Place::Cursor => false,
            Place::Reply | Place::Error | Place::Details if matches!(element.name, b"errmsg" | b"$err" | b"err") => {
                return self.message(element, out);
            }
            // The outcome of one operation of several, in a batch.
            Place::Query if self.is_reply && !at.goes && element.name == b"errmsg" => {
                return self.message(element, out);
            }
            // As the profiler writes it: what was asked is not known.
            Place::Query if self.is_reply && element.name == b"errMsg" => {
                return self.text(element, Some(prose::without_cause(element.as_str_bytes().unwrap_or_default())), out);
            }
            // It may repeat one that was not kept, or not seen.
            Place::Comment if self.asked.is_unknown => true,
            Place::Comment if self.repeats.len().max(self.asked.texts.len()) >= prose::TEXTS_MAX => true,
            Place::Comment if element.kind != Kind::String => {
                let text = prose::text_of(element);
                text.is_some_and(|text| self.repeats.contains(&text) || self.asked.texts.contains(&text))
            }
            Place::Comment => {
                let said = element.as_str_bytes().unwrap_or_default();
                let known = self.asked.texts.iter().chain(&self.repeats);
                return self.text(element, prose::repeated(said, known), out);
            }
            Place::Shape => at.goes && !is_brief(element),
            Place::Schema => at.goes && !(SCHEMA_WORDS.contains(&element.name) && says_no_value(element)),
            Place::Projection => at.goes && !is_brief(element) && !names_a_field(element),
            Place::Expression { goes } => (goes || at.goes) && !names_a_field(element),
            _ => at.goes,
        };
        // Code may have anything in it.
        let goes = goes || is_code && at.place != Place::Other && self.asked.may_touch(element.value);
        match self.fields.stand(element).filter(|_| goes) {
            Some(stand) => self.put(element, stand, out),
            None => {
                put_name(element.kind, element.name, out);
                out.extend_from_slice(element.value);
            }
        }
    }

    /// Whether a text is code, by its name.
    fn is_code(&self, element: &Element<'_>, place: Place) -> bool {
        match element.name {
            b"$where" => true,
            b"finalize" | b"map" | b"reduce" => self.depth == 0 || matches!(place, Place::Expression { .. }),
            b"accumulate" | b"body" | b"init" | b"merge" => matches!(place, Place::Expression { .. }),
            _ => false,
        }
    }

    /// Keeps what was in a value that was left out, for errors that repeat it.
    fn keep_texts(&mut self, element: &Element<'_>, depth: usize) {
        if self.texts.len() >= prose::TEXTS_MAX || depth == DEPTH_MAX {
            return;
        }
        if element.kind.is_container() {
            Elements::readable(element.value).for_each(|inner| self.keep_texts(&inner, depth + 1));
        } else {
            self.texts.extend(prose::text_of(element));
        }
    }

    fn put(&mut self, element: &Element<'_>, (kind, value): (Kind, Cow<'_, [u8]>), out: &mut Vec<u8>) {
        self.changed |= kind != element.kind || *value != *element.value;
        self.texts.extend(prose::text_of(element).filter(|_| self.texts.len() < prose::TEXTS_MAX));
        put_name(kind, element.name, out);
        out.extend_from_slice(&value);
    }

    fn message(&mut self, element: &Element<'_>, out: &mut Vec<u8>) {
        let said = element.as_str_bytes().unwrap_or_default();
        self.text(element, prose::without(said, self.asked), out);
    }

    fn text(&mut self, element: &Element<'_>, without: Option<Vec<u8>>, out: &mut Vec<u8>) {
        match without {
            Some(said) => {
                self.changed = true;
                put_name(Kind::String, element.name, out);
                put_string(&said, out);
            }
            None => {
                put_name(element.kind, element.name, out);
                out.extend_from_slice(element.value);
            }
        }
    }

    /// Where the value of a field of a document is.
    fn below(&mut self, element: &Element<'w>, at: At, is_first: bool) -> At {
        let name = element.name;
        match at.place {
            Place::Command => self.of_command(element, is_first),
            Place::Statement => self.of_command(element, false),
            Place::Reply => self.of_reply(element),
            Place::Cursor if matches!(name, b"firstBatch" | b"nextBatch") => self.batch(),
            Place::Cursor | Place::Other => Place::Other.into(),
            Place::Error => match name {
                b"errInfo" => Place::Details.into(),
                b"keyPattern" => Place::Shape.into(),
                b"keyValue" => Place::Data.into(),
                _ if element.kind.is_container() => Place::Data.into(),
                _ => at,
            },
            Place::Details if name == b"failingDocumentId" => {
                At { place: Place::Data, goes: self.push(b"_id") || at.goes }
            }
            Place::Details => {
                let is_value = name.starts_with(b"considered") || name == b"specifiedAs";
                At { goes: at.goes || is_value || self.push(name), ..at }
            }
            Place::Data | Place::Shape => At { goes: self.push(name) || at.goes, ..at },
            Place::Index if matches!(name, b"partialFilterExpression") => Place::Query.into(),
            Place::Index => At { place: Place::Shape, goes: self.push(name) },
            Place::Schema => self.of_schema(element, at),
            Place::Properties => At { place: Place::Schema, goes: self.push(name) || at.goes },
            Place::Comment => at,
            Place::Query => self.of_query(element, at),
            Place::Identified => {
                let goes = match name.first() {
                    Some(b'$') => return At { ..at },
                    _ => self.trail.push_identified(name, &self.asked.places, &self.fields.met),
                };
                At { place: Place::Query, goes: goes || at.goes }
            }
            Place::Expression { goes } => self.of_expression(element, at, goes),
            Place::Projection => self.of_projection(element, at),
        }
    }

    fn mentions(&mut self, element: &Element<'_>) -> bool {
        mentions(element, &self.asked.places, 0, &mut self.budget)
    }

    fn push(&mut self, name: &'w [u8]) -> bool {
        self.trail.push(name, &self.asked.places, &self.fields.met)
    }

    fn of_command(&self, element: &Element<'_>, is_first: bool) -> At {
        if element.name == b"comment" {
            return Place::Comment.into();
        }
        if !element.kind.is_container() {
            if element.name == b"$truncated" {
                return At { place: Place::Data, goes: true };
            }
            let is_code = matches!(element.kind, Kind::Code | Kind::CodeWithScope)
                || matches!(element.name, b"finalize" | b"map" | b"reduce");
            return if is_code { Place::Data.into() } else { Place::Other.into() };
        }
        let place = match element.name {
            b"explain" if is_first => Place::Command,
            b"$clusterTime" | b"$readPreference" | b"client" | b"collation" | b"cursor" | b"cursors" | b"lsid"
            | b"nsInfo" | b"readConcern" | b"recoveryToken" | b"writeConcern" => Place::Other,
            b"arrayFilters" => Place::Identified,
            // What a variable is for is not known.
            b"c" | b"constants" | b"let" => Place::Expression { goes: true },
            b"deletes" | b"ops" | b"updates" => Place::Statement,
            b"document" | b"documents" | b"max" | b"min" => Place::Data,
            // What code is given, and where something is near to.
            b"near" | b"scope" => return At { place: Place::Data, goes: true },
            b"fields" | b"projection" => Place::Projection,
            b"hint" | b"index" | b"key" | b"keyPattern" | b"sort" => Place::Shape,
            b"indexes" => Place::Index,
            b"pipeline" => Place::Expression { goes: self.asked.is_cut },
            // An update that is an array is a pipeline.
            b"u" | b"update" | b"updateMods" if element.kind == Kind::Array => {
                Place::Expression { goes: self.asked.is_cut }
            }
            _ => Place::Query,
        };
        place.into()
    }

    fn of_reply(&mut self, element: &Element<'_>) -> At {
        let goes = self.asked.is_whole;
        match element.name {
            b"$clusterTime" | b"$gleStats" | b"errorLabels" | b"opTime" | b"recoveryToken" | b"topologyVersion" => {
                Place::Other.into()
            }
            // What was done to one document.
            b"upserted" if element.kind != Kind::Array => At { place: Place::Data, goes: self.push(b"_id") },
            b"cursor" if element.kind == Kind::Document => Place::Cursor.into(),
            b"errInfo" => Place::Details.into(),
            b"keyPattern" => Place::Shape.into(),
            b"log" | b"results" | b"value" | b"values" => At { place: Place::Data, goes },
            b"writeConcernError" | b"writeConcernErrors" | b"writeErrors" => Place::Error.into(),
            b"keyValue" => Place::Data.into(),
            b"command" if element.kind == Kind::Document => Place::Command.into(),
            _ if element.kind.is_container() => Place::Query.into(),
            _ => Place::Reply.into(),
        }
    }

    /// The documents of a cursor.
    fn batch(&self) -> At {
        let place = match self.asked.batch {
            Batch::Documents => Place::Data,
            Batch::Indexes => Place::Index,
            Batch::Anything => Place::Query,
        };
        At { place, goes: self.asked.is_whole }
    }

    fn of_query(&mut self, element: &Element<'w>, at: At) -> At {
        match element.name {
            b"$expr" => At { place: Place::Expression { goes: self.asked.is_cut }, ..at },
            b"$rename" if !at.goes => Place::Other.into(),
            b"$exists" | b"$options" | b"$position" | b"$size" | b"$slice" | b"$type" if says_no_value(element) => {
                Place::Other.into()
            }
            b"$comment" if !at.goes => Place::Comment.into(),
            b"$jsonSchema" => At { place: Place::Schema, ..at },
            // Words may be of any field, and so may what is found of them in an index.
            b"$search" | b"parsedTextQuery" => At { goes: true, ..at },
            b"$truncated" if self.is_reply => At { goes: true, ..at },
            b"upserted" if self.is_reply && element.kind != Kind::Array => {
                At { goes: self.push(b"_id") || at.goes, ..at }
            }
            b"$currentDate" | b"$sort" | b"$unset" => At { place: Place::Shape, ..at },
            b"keyPattern" | b"multiKeyPaths" | b"sortPattern" if self.asked.explains => {
                At { place: Place::Shape, ..at }
            }
            // What is done is told in stages, as it was asked.
            b"transformBy" if self.asked.explains => At { place: Place::Projection, ..at },
            name if self.is_reply && self.asked.batch == Batch::Anything && is_naming(name) => {
                self.of_expression(element, at, false)
            }
            [b'$', ..] if self.is_reply && self.asked.batch == Batch::Anything && self.mentions(element) => {
                At { place: Place::Expression { goes: true }, ..at }
            }
            // A plan as a text, values and all.
            b"cachedPlan" | b"slotBasedPlan" if self.asked.explains || self.asked.batch == Batch::Anything => {
                At { goes: true, ..at }
            }
            name => At { goes: self.push(name) || at.goes, ..at },
        }
    }

    fn of_expression(&mut self, element: &Element<'w>, at: At, goes: bool) -> At {
        let name = element.name;
        let expression = |goes| At { place: Place::Expression { goes }, ..at };
        match name {
            b"$match" | b"query" | b"restrictSearchWithMatch" => At { place: Place::Query, goes: at.goes || goes },
            // What is looked for, and which fields it is looked for in, is said in many ways.
            b"$search" | b"$searchMeta" | b"$vectorSearch" => expression(true),
            b"let" | b"vars" => expression(goes || self.asked.refers),
            b"near" if self.asked.is_near => expression(true),
            b"startWith" => expression(true),
            b"$project" => At { place: Place::Projection, goes: at.goes || goes },
            b"$sort" | b"sortBy" => At { place: Place::Shape, ..at },
            b"$unset" => Place::Other.into(),
            // Not a name, whatever it begins with.
            b"$const" | b"$literal" if goes || at.goes => At { place: Place::Data, goes: true },
            _ if is_naming(name) => expression(self.asked.is_cut),
            _ if is_boolean(name) => expression(self.asked.is_cut || self.mentions(element)),
            _ if binds(name) => expression(goes || self.asked.refers),
            // Names that are texts.
            b"$arrayToObject" => expression(goes || self.asked.may_touch(element.value)),
            _ if name.first() == Some(&b'$') => expression(goes || self.mentions(element)),
            _ => {
                let is_in = self.push(name);
                At { goes: is_in || at.goes, ..expression(goes) }
            }
        }
    }

    fn of_schema(&mut self, element: &Element<'_>, at: At) -> At {
        match element.name {
            b"properties" => At { place: Place::Properties, ..at },
            // Values, and whatever they are called.
            b"enum" => At { place: Place::Data, ..at },
            // Which fields are meant is not known.
            b"patternProperties" => At { place: Place::Schema, goes: true },
            _ => at,
        }
    }

    fn of_projection(&mut self, element: &Element<'w>, at: At) -> At {
        match element.name {
            b"$elemMatch" => At { place: Place::Query, ..at },
            b"$meta" | b"$slice" => Place::Other.into(),
            [b'$', ..] => self.of_expression(element, at, self.asked.is_cut),
            name => {
                let goes = self.push(name) || at.goes;
                // What is no operator says it of a field within.
                let first = Elements::readable(element.value).next().filter(|_| element.kind == Kind::Document);
                let is_operator = first.is_some_and(|first| first.name.first() == Some(&b'$'));
                let is_expression = is_operator || element.kind == Kind::Array;
                let place = if is_expression { Place::Projection } else { at.place };
                At { place, goes }
            }
        }
    }
}

/// What filters are called.
const FILTERS: [&[u8]; 4] = [b"$match", b"filter", b"q", b"query"];

/// Whether a field that goes can be left out as it stands: nothing is said by it but a value.
fn can_be_left_out(element: &Element<'_>, place: Place) -> bool {
    match place {
        Place::Data | Place::Query => true,
        Place::Expression { .. } => !element.kind.is_container() && !names_a_field(element),
        _ => false,
    }
}

fn text(text: &[u8]) -> Cow<'static, [u8]> {
    let mut out = Vec::new();
    put_string(text, &mut out);
    Cow::Owned(out)
}
