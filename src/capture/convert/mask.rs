//! Takes the values out of an application's documents, and leaves what they are like.
//!
//! In a request that is every value within a document or an array, but for what says how to do it (`projection`, `sort`,
//! `hint`, `indexes`, `readConcern`, …), and a text beside them, but for the names of commands, databases, collections and
//! of a distinct's `key`. In a reply it is what stands in `firstBatch`, `nextBatch`, `value` and `values`, in `keyValue`,
//! and in what else is a document or an array, and in `errmsg` what follows a brace.
//!
//! A string becomes `***`, a number 0, a binary empty, a date 1970, each of its type. What stays: names of fields, how many
//! there are of what, `true`, `false` and null, ObjectIds, UUIDs and their texts, an `_id` that is no document, dates that
//! were made anew ([`relative`]), and strings that begin with `$`, which name fields. So a masked recording still
//! answers what asks by `_id`; what asks by a value that is masked here is not in it.

use std::borrow::Cow;

use crate::bson::{Element, Kind};
use crate::capture::edit::{Edit, edit, string};
use crate::capture::names::{relative, text_of, value_of};
use crate::redact::fields::{masked, names_a_field};

/// Parts of a command that say how, not what.
const HOW: [&[u8]; 17] = [
    b"$clusterTime",
    b"$readPreference",
    b"client",
    b"collation",
    b"cursor",
    b"cursors",
    b"fields",
    b"hint",
    b"index",
    b"indexes",
    b"key",
    b"lsid",
    b"projection",
    b"readConcern",
    b"recoveryToken",
    b"sort",
    b"writeConcern",
];

/// Parts of a reply that hold nothing of documents.
const OF_SERVERS: [&[u8]; 9] = [
    b"$clusterTime",
    b"$gleStats",
    b"errorLabels",
    b"keyPattern",
    b"lastErrorObject",
    b"opTime",
    b"recoveryToken",
    b"topologyVersion",
    b"upserted",
];

/// A command of an application. `at_ms` is its time, as in the others.
pub fn request(command: &[u8], at_ms: i64) -> Vec<u8> {
    let mut is_first = true;
    edit(command, &mut |element| {
        let is_name = std::mem::take(&mut is_first) || matches!(element.name, b"$db" | b"collection" | b"key" | b"ns");
        match element.kind {
            _ if HOW.contains(&element.name) => Edit::Keep,
            Kind::Document | Kind::Array => within(element, matches!(element.name, b"pipeline" | b"let"), at_ms),
            Kind::String | Kind::Code | Kind::CodeWithScope if !is_name => leaf(element, false, at_ms),
            _ => Edit::Keep,
        }
    })
}

/// A reply to one.
pub fn reply(reply: &[u8], at_ms: i64) -> Vec<u8> {
    edit(reply, &mut |element| match (element.name, element.kind) {
        (name, _) if OF_SERVERS.contains(&name) => Edit::Keep,
        (b"cursor", Kind::Document) => {
            let cursor = edit(element.value, &mut |part| match part.name {
                b"firstBatch" | b"nextBatch" => within(part, false, at_ms),
                _ => Edit::Keep,
            });
            Edit::Put(Kind::Document, Cow::Owned(cursor))
        }
        (b"writeErrors", Kind::Array) => {
            let errors = edit(element.value, &mut |error| match error.kind {
                Kind::Document => Edit::Put(Kind::Document, Cow::Owned(write_error(error.value, at_ms))),
                _ => Edit::Keep,
            });
            Edit::Put(Kind::Array, Cow::Owned(errors))
        }
        (b"writeConcernError", Kind::Document) => {
            Edit::Put(Kind::Document, Cow::Owned(write_error(element.value, at_ms)))
        }
        (b"errmsg", Kind::String) => message(element),
        (_, Kind::Document | Kind::Array) => within(element, false, at_ms),
        (b"value", _) => leaf(element, false, at_ms),
        _ => Edit::Keep,
    })
}

/// A document of an application.
pub fn document(document: &[u8], at_ms: i64) -> Vec<u8> {
    edit(document, &mut |element| within(element, false, at_ms))
}

fn write_error(error: &[u8], at_ms: i64) -> Vec<u8> {
    edit(error, &mut |element| match element.name {
        b"errmsg" => message(element),
        b"keyPattern" => Edit::Keep,
        _ if element.kind.is_container() => within(element, false, at_ms),
        _ => Edit::Keep,
    })
}

/// An error's text up to the values that it is about.
fn message<'a>(element: &Element<'a>) -> Edit<'a> {
    let text = element.as_str_bytes().unwrap_or_default();
    match text.iter().position(|byte| *byte == b'{') {
        Some(at) => Edit::Put(Kind::String, Cow::Owned(string(&[&text[..at], b"{ *** }"].concat()))),
        None => Edit::Keep,
    }
}

/// What is inside of something; in an expression, `$name` is that of a field.
fn within<'a>(element: &Element<'a>, in_expression: bool, at_ms: i64) -> Edit<'a> {
    // An update that is an array is a pipeline.
    let is_pipeline = element.kind == Kind::Array && matches!(element.name, b"u" | b"update" | b"updateMods");
    let in_expression = in_expression || is_pipeline || element.name == b"$expr";
    match element.kind {
        Kind::Document | Kind::Array => {
            let inner = edit(element.value, &mut |inner| within(inner, in_expression, at_ms));
            Edit::Put(element.kind, Cow::Owned(inner))
        }
        _ if element.name == b"_id" && !in_expression => Edit::Keep,
        _ => leaf(element, in_expression, at_ms),
    }
}

fn leaf<'a>(element: &Element<'a>, in_expression: bool, at_ms: i64) -> Edit<'a> {
    let stays = match element.kind {
        Kind::Boolean | Kind::DbPointer | Kind::ObjectId | Kind::Timestamp => true,
        Kind::String => in_expression && names_a_field(element) || text_of(element).is_some(),
        Kind::Binary => value_of(element).is_some(),
        Kind::DateTime => {
            let date = element.value.first_chunk().map(|bytes| i64::from_le_bytes(*bytes));
            date.is_some_and(|date| relative(date, at_ms).is_some())
        }
        _ => false,
    };
    match masked(element).filter(|_| !stays) {
        Some((kind, value)) => Edit::Put(kind, value),
        None => Edit::Keep,
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::spec::BinarySubtype;
    use bson::{Binary, Bson, DateTime, Document, Regex, doc};

    use super::*;

    const AT_MS: i64 = 1_767_261_612_345;

    fn masked(document: &Document, mask: fn(&[u8], i64) -> Vec<u8>) -> Document {
        Document::from_reader(mask(&document.to_vec().unwrap(), AT_MS).as_slice()).unwrap()
    }

    #[test]
    fn values_go_and_types_stay() {
        let id = ObjectId::from_bytes([1; 12]);
        let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
        let uuid = binary(BinarySubtype::Uuid, &[7; 16]);
        let regex = |pattern: &str| Regex { pattern: pattern.try_into().unwrap(), options: "".try_into().unwrap() };
        let (now, old) = (DateTime::from_millis(AT_MS - 5), DateTime::from_millis(5));
        let find = doc! {
            "find": "people", "filter": { "name": "Ann", "age": { "$gt": 30, "$lt": 40_i64 }, "h": 1.7, "of": [id, "x"], "_id": 5 },
            "sort": { "age": -1 }, "limit": 5, "comment": "for Ann", "let": { "a": "$age", "b": true, "c": Bson::Null },
            "x": { "u": uuid.clone(), "b": binary(BinarySubtype::Generic, b"secret"), "o": binary(BinarySubtype::BinaryOld, b"secret"),
                   "now": now, "old": old, "re": regex("^A"), "d": "1.5".parse::<bson::Decimal128>().unwrap(), "id": id.to_hex() },
            "$db": "shop",
        };
        let expected = doc! {
            "find": "people", "filter": { "name": "***", "age": { "$gt": 0, "$lt": 0_i64 }, "h": 0.0, "of": [id, "***"], "_id": 5 },
            "sort": { "age": -1 }, "limit": 5, "comment": "***", "let": { "a": "$age", "b": true, "c": Bson::Null },
            "x": { "u": uuid, "b": binary(BinarySubtype::Generic, b""), "o": binary(BinarySubtype::BinaryOld, b""),
                   "now": now, "old": DateTime::from_millis(0), "re": regex("***"), "d": "0".parse::<bson::Decimal128>().unwrap(), "id": id.to_hex() },
            "$db": "shop",
        };
        assert_eq!(masked(&find, request), expected);
    }

    #[test]
    fn replies_keep_what_is_the_servers() {
        for (before, after) in [
            (
                doc! { "cursor": { "firstBatch": [{ "_id": 1, "name": "Ann" }], "id": 7_i64, "ns": "a.b" }, "ok": 1.0 },
                doc! { "cursor": { "firstBatch": [{ "_id": 1, "name": "***" }], "id": 7_i64, "ns": "a.b" }, "ok": 1.0 },
            ),
            (doc! { "values": ["Ann", 5], "n": 2 }, doc! { "values": ["***", 0], "n": 2 }),
            (
                doc! { "writeErrors": [{ "index": 3, "code": 11000, "errmsg": "dup key: { name: \"Ann\" }", "keyPattern": { "name": 1 }, "keyValue": { "name": "Ann" } }] },
                doc! { "writeErrors": [{ "index": 3, "code": 11000, "errmsg": "dup key: { *** }", "keyPattern": { "name": 1 }, "keyValue": { "name": "***" } }] },
            ),
            (
                doc! { "value": { "_id": "a", "n": 9 }, "lastErrorObject": { "n": 1 } },
                doc! { "value": { "_id": "a", "n": 0 }, "lastErrorObject": { "n": 1 } },
            ),
            (
                doc! { "ok": 0.0, "errmsg": "no such command", "codeName": "CommandNotFound" },
                doc! { "ok": 0.0, "errmsg": "no such command", "codeName": "CommandNotFound" },
            ),
        ] {
            assert_eq!(masked(&before, reply), after);
        }
    }
}
