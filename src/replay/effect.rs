//! What a recorded exchange did to which collections, and whose state its answer depends on.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::counted::{collection_of, database_of};
use super::digest::AsItIs;
use crate::bson::walk::DEPTH_MAX;
use crate::bson::{Element, Elements, find, find_path};
use crate::capture::exchange::Exchange;

/// The number of a collection in a recording.
pub(super) type Namespace = u32;

/// Numbers of databases and their collections, in the order in which they appear.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    databases: HashMap<String, u32, BuildHasherDefault<AsItIs>>,
    /// The collections of each database.
    numbers: Vec<HashMap<String, Namespace, BuildHasherDefault<AsItIs>>>,
    /// The database of each collection, and its whole name.
    collections: Vec<(u32, String)>,
}

impl Namespaces {
    pub(super) fn number(&mut self, database: &str, collection: &str) -> Namespace {
        let next = self.collections.len() as Namespace;
        let of = self.database(database);
        let Some(numbers) = self.numbers.get_mut(of as usize) else { return next };
        // Most are known: their names are not copied.
        if let Some(number) = numbers.get(collection) {
            return *number;
        }
        numbers.insert(collection.to_owned(), next);
        self.collections.push((of, format!("{database}.{collection}")));
        next
    }

    pub(super) fn database(&mut self, name: &str) -> u32 {
        if let Some(number) = self.databases.get(name) {
            return *number;
        }
        let number = self.databases.len() as u32;
        self.databases.insert(name.to_owned(), number);
        self.numbers.push(HashMap::default());
        number
    }

    pub(super) fn is_in(&self, namespace: Namespace, database: u32) -> bool {
        self.collections.get(namespace as usize).is_some_and(|(of, _)| *of == database)
    }

    /// `database.collection`.
    pub(super) fn name(&self, namespace: Namespace) -> Option<&String> {
        self.collections.get(namespace as usize).map(|(_, name)| name)
    }
}

/// What an exchange did.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Nothing that another answer depends on.
    None,
    /// It changed documents of these collections.
    Write(Vec<Namespace>),
    /// It changed an index, or what else a collection has beside documents.
    Schema(Namespace),
    /// It deleted all documents.
    Empty(Namespace),
    /// It replaced all documents.
    Replace(Namespace),
    /// The collection is gone.
    Drop(Namespace),
    /// All collections of a database are gone.
    DropDatabase(u32),
    /// A collection got another name.
    Rename(Namespace, Namespace),
    /// The transaction's writes took place.
    Commit,
    /// The transaction's writes did not take place.
    Abort,
}

/// Whose state an answer depends on.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reads {
    /// Nobody's.
    Nothing,
    /// That of these collections' documents.
    Documents(Vec<Namespace>),
    /// All that a collection has.
    Collection(Namespace),
    /// All collections of a database.
    Database(u32),
    /// All there are.
    Everything,
    /// What was written in the transaction so far.
    Transaction,
}

/// What an exchange of a command of that name did, by its request and its reply.
pub(super) fn effect(exchange: &Exchange, name: &str, namespaces: &mut Namespaces) -> Effect {
    let command = exchange.request.as_slice();
    let reply = exchange.replies.first().map(|reply| reply.body.as_slice());
    // Without a reply nobody knows, unless none was wanted.
    let Some(reply) = reply.or_else(|| (!exchange.wants_reply).then_some(UNTOLD)) else { return Effect::None };
    effect_of(name, command, reply, namespaces)
}

/// What a command of that name did, by its reply.
pub(super) fn effect_of(name: &str, command: &[u8], reply: &[u8], namespaces: &mut Namespaces) -> Effect {
    // Most commands, and none that does anything.
    if matches!(name, "find" | "getMore" | "count" | "distinct") {
        return Effect::None;
    }
    let database = database_of(command);
    let is_ok = is_ok(reply);
    if matches!(name, "abortTransaction") {
        return Effect::Abort;
    }
    let counts = is_ok || name == "drop" && code(reply) == Some(NAMESPACE_NOT_FOUND);
    if !counts {
        return Effect::None;
    }
    let mut collection = |name: Option<&str>| name.map(|name| namespaces.number(database, name));
    let own = collection(collection_of(command));
    match (name, own) {
        ("commitTransaction", _) => Effect::Commit,
        ("dropDatabase", _) => Effect::DropDatabase(namespaces.database(database)),
        ("renameCollection", _) => renamed(command, namespaces),
        ("bulkWrite", _) => bulk(command, reply, namespaces),
        ("drop", Some(own)) => Effect::Drop(own),
        ("insert" | "update" | "delete" | "findAndModify" | "findandmodify", Some(own)) => {
            let empties = name == "delete" && deletes_all(command);
            match () {
                () if empties => Effect::Empty(own),
                () if changed(name, reply) == 0 => Effect::None,
                () => Effect::Write(vec![own]),
            }
        }
        ("aggregate", _) => written_by_pipeline(command, database, namespaces),
        ("mapReduce" | "mapreduce", _) => written_by_map_reduce(command, database, namespaces),
        ("create" | "createIndexes" | "dropIndexes" | "collMod" | "convertToCapped", Some(own)) => {
            let count = |name: &[u8]| find(reply, name).and_then(|count| count.as_i64());
            match (count(b"numIndexesBefore"), count(b"numIndexesAfter")) {
                (Some(before), Some(after)) if before == after => Effect::None,
                _ => Effect::Schema(own),
            }
        }
        _ => Effect::None,
    }
}

/// What stands for the reply to a write that wants none.
pub(super) const UNTOLD: &[u8] = b"\x14\0\0\0\x10ok\0\x01\0\0\0\x10n\0\x01\0\0\0\0";

pub(super) const NAMESPACE_NOT_FOUND: i64 = 26;

pub(super) fn is_ok(reply: &[u8]) -> bool {
    find(reply, b"ok").is_some_and(|ok| ok.as_bool_truthy())
}

pub(super) fn code(reply: &[u8]) -> Option<i64> {
    find(reply, b"code")?.as_i64()
}

/// How many documents a write changed.
pub(super) fn changed(name: &str, reply: &[u8]) -> i64 {
    let number = |path: &[&[u8]]| find_path(reply, path).and_then(|number| number.as_i64());
    match name {
        "findAndModify" | "findandmodify" => number(&[b"lastErrorObject", b"n"]).unwrap_or(1),
        // What was found and is as it was meant to be is not changed.
        "update" => {
            let upserted = find(reply, b"upserted").and_then(|upserted| upserted.as_array());
            let upserted = upserted.map_or(0, |array| Elements::readable(array).count() as i64);
            number(&[b"nModified"]).or_else(|| number(&[b"n"])).unwrap_or(0) + upserted
        }
        _ => number(&[b"n"]).unwrap_or(0),
    }
}

/// The statements of a write.
fn statements<'a>(command: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let array = find(command, name).and_then(|array| array.as_array()).unwrap_or_default();
    Elements::readable(array).filter_map(|element| element.as_document())
}

fn deletes_all(command: &[u8]) -> bool {
    statements(command, b"deletes").any(|statement| {
        let all =
            find(statement, b"q").and_then(|q| q.as_document()).is_some_and(|q| Elements::readable(q).next().is_none());
        all && !find(statement, b"limit").is_some_and(|limit| limit.as_bool_truthy())
    })
}

fn renamed(command: &[u8], namespaces: &mut Namespaces) -> Effect {
    let mut number = |field: &[u8]| {
        let (database, collection) = find(command, field)?.as_str()?.split_once('.')?;
        Some(namespaces.number(database, collection))
    };
    match (number(b"renameCollection"), number(b"to")) {
        (Some(from), Some(to)) => Effect::Rename(from, to),
        _ => Effect::None,
    }
}

fn bulk(command: &[u8], reply: &[u8], namespaces: &mut Namespaces) -> Effect {
    let counts = [b"nInserted".as_slice(), b"nModified", b"nUpserted", b"nDeleted"];
    if counts.iter().all(|name| find(reply, name).and_then(|count| count.as_i64()).unwrap_or(0) == 0) {
        return Effect::None;
    }
    let named = statements(command, b"nsInfo").filter_map(|info| find(info, b"ns")?.as_str()?.split_once('.'));
    Effect::Write(named.map(|(database, collection)| namespaces.number(database, collection)).collect())
}

fn written_by_pipeline(command: &[u8], database: &str, namespaces: &mut Namespaces) -> Effect {
    let Some(last) = statements(command, b"pipeline").last() else { return Effect::None };
    let Some(stage) = Elements::readable(last).next() else { return Effect::None };
    let target = |into: &Element<'_>| -> Option<(String, String)> {
        if let Some(collection) = into.as_str() {
            return Some((database.to_owned(), collection.to_owned()));
        }
        let into = into.as_document()?;
        let text = |name: &[u8]| Some(find(into, name)?.as_str()?.to_owned());
        Some((text(b"db").unwrap_or_else(|| database.to_owned()), text(b"coll")?))
    };
    match stage.name {
        b"$out" => target(&stage).map_or(Effect::None, |(db, coll)| Effect::Replace(namespaces.number(&db, &coll))),
        b"$merge" => {
            let into = stage.as_document().and_then(|merge| find(merge, b"into")).unwrap_or(stage);
            target(&into).map_or(Effect::None, |(db, coll)| Effect::Write(vec![namespaces.number(&db, &coll)]))
        }
        _ => Effect::None,
    }
}

fn written_by_map_reduce(command: &[u8], database: &str, namespaces: &mut Namespaces) -> Effect {
    let Some(out) = find(command, b"out") else { return Effect::None };
    let text = |name: &[u8]| find(out.as_document()?, name)?.as_str();
    let into = out.as_str().or_else(|| [b"replace".as_slice(), b"merge", b"reduce"].into_iter().find_map(text));
    match into {
        Some(collection) => Effect::Write(vec![namespaces.number(text(b"db").unwrap_or(database), collection)]),
        None => Effect::None,
    }
}

/// Whose state the answer to a command depends on.
pub(super) fn reads(command: &[u8], name: &str, namespaces: &mut Namespaces) -> Reads {
    reads_in(database_of(command), command, name, namespaces)
}

/// The same of a command that does not say its database itself, as those that are explained.
pub(super) fn reads_in(database: &str, command: &[u8], name: &str, namespaces: &mut Namespaces) -> Reads {
    let own = collection_of(command).map(|collection| namespaces.number(database, collection));
    reads_of(database, own, command, name, namespaces)
}

/// The same of one whose collection is known.
pub(super) fn reads_of(
    database: &str,
    own: Option<Namespace>,
    command: &[u8],
    name: &str,
    namespaces: &mut Namespaces,
) -> Reads {
    match (name, own) {
        ("commitTransaction" | "abortTransaction", _) => Reads::Transaction,
        ("listDatabases" | "renameCollection", _) => Reads::Everything,
        ("bulkWrite", _) => Reads::Nothing,
        ("aggregate", own) => {
            let mut read = own.into_iter().collect::<Vec<_>>();
            if let Some(pipeline) = find(command, b"pipeline") {
                joined(&pipeline, 0, &mut |collection| read.push(namespaces.number(database, collection)));
            }
            Reads::Documents(read)
        }
        (
            "find" | "count" | "distinct" | "insert" | "update" | "delete" | "findAndModify" | "findandmodify"
            | "getMore",
            Some(own),
        ) => Reads::Documents(vec![own]),
        (
            "drop" | "create" | "createIndexes" | "dropIndexes" | "listIndexes" | "collMod" | "collStats" | "validate",
            Some(own),
        ) => Reads::Collection(own),
        _ if database == "admin" => Reads::Nothing,
        ("explain", _) => match find(command, b"explain").and_then(|inner| collection_of(inner.as_document()?)) {
            Some(collection) => Reads::Collection(namespaces.number(database, collection)),
            None => Reads::Nothing,
        },
        _ => Reads::Database(namespaces.database(database)),
    }
}

/// The other collections that a pipeline reads.
fn joined(element: &Element<'_>, depth: usize, found: &mut dyn FnMut(&str)) {
    let Some(elements) = Elements::within(element).filter(|_| depth < DEPTH_MAX) else { return };
    for inner in elements {
        let named = match inner.name {
            b"$lookup" | b"$graphLookup" => inner.as_document().and_then(|stage| find(stage, b"from")),
            b"$unionWith" => inner.as_document().map_or(Some(inner), |stage| find(stage, b"coll")),
            _ => None,
        };
        named.and_then(|name| name.as_str()).into_iter().for_each(&mut *found);
        joined(&inner, depth + 1, found);
    }
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::bson::walk::validate;
    use crate::capture::exchange::testing::exchange;

    #[test]
    fn a_write_that_wants_no_reply_counts() {
        validate(UNTOLD).unwrap();
        assert!(
            is_ok(UNTOLD) && ["insert", "update", "delete", "findAndModify"].iter().all(|it| changed(it, UNTOLD) == 1)
        );
    }

    #[test]
    fn what_was_done_is_told_by_request_and_reply() {
        let ok = |n: i32| doc! { "n": n, "nModified": n, "ok": 1.0 };
        let found = |n: i32| doc! { "lastErrorObject": { "n": n }, "value": null, "ok": 1.0 };
        let indexes =
            |before: i32, after: i32| doc! { "numIndexesBefore": before, "numIndexesAfter": after, "ok": 1.0 };
        let delete =
            |q: Document, limit: i32| doc! { "delete": "c", "deletes": [{ "q": q, "limit": limit }], "$db": "d" };
        let out = |stage: Document| doc! { "aggregate": "c", "pipeline": [{ "$match": {} }, stage], "$db": "d" };
        let rows = [
            (doc! { "insert": "c", "$db": "d" }, ok(1), Effect::Write(vec![0])),
            (
                doc! { "insert": "c", "$db": "d" },
                doc! { "n": 0, "writeErrors": [{ "code": 11000 }], "ok": 1.0 },
                Effect::None,
            ),
            (doc! { "update": "c", "$db": "d" }, doc! { "n": 1, "nModified": 0, "ok": 1.0 }, Effect::None),
            (
                doc! { "update": "c", "$db": "d" },
                doc! { "n": 1, "nModified": 0, "upserted": [{}], "ok": 1.0 },
                Effect::Write(vec![0]),
            ),
            (doc! { "update": "c", "$db": "d" }, doc! { "ok": 0.0, "code": 112 }, Effect::None),
            (delete(doc! { "a": 1 }, 0), ok(3), Effect::Write(vec![0])),
            (delete(doc! {}, 1), ok(1), Effect::Write(vec![0])),
            (delete(doc! {}, 0), ok(0), Effect::Empty(0)),
            (doc! { "findAndModify": "c", "$db": "d" }, found(1), Effect::Write(vec![0])),
            (doc! { "findAndModify": "c", "$db": "d" }, found(0), Effect::None),
            (doc! { "drop": "c", "$db": "d" }, doc! { "ok": 0.0, "code": 26 }, Effect::Drop(0)),
            (doc! { "dropDatabase": 1, "$db": "d" }, doc! { "ok": 1.0 }, Effect::DropDatabase(0)),
            (doc! { "createIndexes": "c", "$db": "d" }, indexes(1, 2), Effect::Schema(0)),
            (doc! { "createIndexes": "c", "$db": "d" }, indexes(2, 2), Effect::None),
            (
                doc! { "renameCollection": "d.c", "to": "d.other", "$db": "admin" },
                doc! { "ok": 1.0 },
                Effect::Rename(0, 1),
            ),
            (out(doc! { "$out": "other" }), doc! { "ok": 1.0 }, Effect::Replace(1)),
            (doc! { "mapReduce": "c", "out": "other", "$db": "d" }, doc! { "ok": 1.0 }, Effect::Write(vec![1])),
            (
                doc! { "mapreduce": "c", "out": { "merge": "other", "db": "d" }, "$db": "d" },
                doc! { "ok": 1.0 },
                Effect::Write(vec![1]),
            ),
            (doc! { "mapReduce": "c", "out": { "inline": 1 }, "$db": "d" }, doc! { "ok": 1.0 }, Effect::None),
            (
                out(doc! { "$merge": { "into": { "db": "e", "coll": "c" } } }),
                doc! { "ok": 1.0 },
                Effect::Write(vec![2]),
            ),
            (doc! { "find": "c", "$db": "d" }, doc! { "ok": 1.0 }, Effect::None),
        ];
        let mut namespaces = Namespaces::default();
        for (database, collection) in [("d", "c"), ("d", "other"), ("e", "c")] {
            namespaces.number(database, collection);
        }
        for (request, reply, expected) in rows {
            let found = {
                let exchange = exchange(&request, &[&reply], 0);
                effect(&exchange, exchange.name(), &mut namespaces)
            };
            assert_eq!(found, expected, "{request} {reply}");
        }
        // Nobody says what became of it: it is taken to have happened if nobody wanted to know.
        let mut silent = exchange(&doc! { "insert": "c", "$db": "d" }, &[], 0);
        assert_eq!(effect(&silent, silent.name(), &mut namespaces), Effect::None);
        silent.wants_reply = false;
        assert_eq!(effect(&silent, silent.name(), &mut namespaces), Effect::Write(vec![0]));
    }

    #[test]
    fn a_pipeline_reads_what_it_joins() {
        let mut namespaces = Namespaces::default();
        let union = doc! { "$unionWith": { "coll": "third", "pipeline": [] } };
        let lookup = doc! { "$lookup": { "from": "second", "pipeline": [union], "as": "it" } };
        let command = doc! { "aggregate": "c", "pipeline": [{ "$facet": { "a": [lookup] } }], "$db": "d" };
        let read = reads(&command.to_vec().unwrap(), "aggregate", &mut namespaces);
        assert_eq!(read, Reads::Documents(vec![0, 1, 2]));
        assert_eq!(namespaces.name(2).map(String::as_str), Some("d.third"));
    }
}
