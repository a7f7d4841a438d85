//! The commands that legacy opcodes stand for, as version 1.9 of the Command Monitoring specification up-converts them.

use std::borrow::Cow;

use bson::raw::{RawArrayBuf, RawDocument, RawDocumentBuf};
use bson::{RawBson, rawdoc};

use crate::bson::{Elements, Kind, find};
use crate::event::{EMPTY, error_code};
use crate::wire::{
    Documents, OpDelete, OpGetMore, OpInsert, OpKillCursors, OpQuery, OpReply, OpUpdate, query_flags, reply_flags,
};

/// The command that a legacy message stands for.
pub(super) struct UpConverted<'a> {
    pub(super) database: Cow<'a, str>,
    pub(super) command: Cow<'a, [u8]>,
    /// Whether it was a command all along, `OP_QUERY` on `db.$cmd`.
    pub(super) is_command: bool,
}

impl<'a> UpConverted<'a> {
    fn crud(namespace: &'a [u8], command: RawDocumentBuf) -> Self {
        let (database, _) = split(namespace);
        Self { database, command: Cow::Owned(command.into_bytes()), is_command: false }
    }
}

fn split(namespace: &[u8]) -> (Cow<'_, str>, Cow<'_, str>) {
    let dot = memchr::memchr(b'.', namespace).unwrap_or(namespace.len());
    let database = namespace.get(..dot).unwrap_or_default();
    let collection = namespace.get(dot + 1..).unwrap_or_default();
    (String::from_utf8_lossy(database), String::from_utf8_lossy(collection))
}

/// A document as a value; `{}` for one whose length is wrong, which decoding has ruled out.
fn value(document: &[u8]) -> RawBson {
    RawBson::Document(RawDocument::from_bytes(document).map(ToOwned::to_owned).unwrap_or_default())
}

fn array(documents: Documents<'_>) -> RawArrayBuf {
    documents.map(value).collect()
}

/// `OP_QUERY`: the command in it, or `find`, or `explain`. `None` if the query document is empty on `db.$cmd`.
pub(super) fn query<'a>(query: &OpQuery<'a>) -> Option<UpConverted<'a>> {
    let (database, collection) = split(query.full_collection_name);
    let wrapped = [b"$query".as_slice(), b"query"]
        .into_iter()
        .find_map(|name| find(query.query, name)?.as_document())
        // Only as the first field is it a wrapper; elsewhere it is a field that is called so.
        .filter(|_| first_name(query.query).is_some_and(|name| matches!(name, b"$query" | b"query")));
    if collection == "$cmd" {
        let command = wrapped.unwrap_or(query.query);
        first_name(command)?;
        return Some(UpConverted { database, command: Cow::Borrowed(command), is_command: true });
    }
    let find_command = find_command(query, wrapped, &collection);
    let explains = wrapped.is_some() && find(query.query, b"$explain").is_some_and(|element| element.as_bool_truthy());
    let command = if explains {
        rawdoc! { "explain": find_command }
    } else {
        find_command
    };
    Some(UpConverted::crud(query.full_collection_name, command))
}

/// The database and the command of an `OP_QUERY` on `db.$cmd`; `None` for any other.
pub(crate) fn query_command<'a>(message: &OpQuery<'a>) -> Option<(Cow<'a, str>, Cow<'a, [u8]>)> {
    let up = query(message).filter(|up| up.is_command)?;
    Some((up.database, up.command))
}

fn first_name(document: &[u8]) -> Option<&[u8]> {
    Elements::new(document).ok()?.next()?.ok().map(|element| element.name)
}

/// The modifiers beside `$query` and what `find` calls them.
const MODIFIERS: [(&[u8], &bson::raw::CStr); 9] = [
    (b"$orderby", bson::raw::cstr!("sort")),
    (b"orderby", bson::raw::cstr!("sort")),
    (b"$hint", bson::raw::cstr!("hint")),
    (b"$comment", bson::raw::cstr!("comment")),
    (b"$maxTimeMS", bson::raw::cstr!("maxTimeMS")),
    (b"$max", bson::raw::cstr!("max")),
    (b"$min", bson::raw::cstr!("min")),
    (b"$returnKey", bson::raw::cstr!("returnKey")),
    (b"$showDiskLoc", bson::raw::cstr!("showRecordId")),
];

fn find_command(query: &OpQuery<'_>, wrapped: Option<&[u8]>, collection: &str) -> RawDocumentBuf {
    let mut command = rawdoc! { "find": collection, "filter": value(wrapped.unwrap_or(query.query)) };
    if wrapped.is_some() {
        for element in Elements::readable(query.query) {
            let known = MODIFIERS.iter().find(|(modifier, _)| *modifier == element.name);
            let raw = RawDocument::from_bytes(query.query).ok();
            let value = raw.and_then(|raw| raw.get(std::str::from_utf8(element.name).ok()?).ok().flatten());
            if let (Some((_, name)), Some(value)) = (known, value) {
                command.append(*name, RawBson::from(value));
            }
        }
    }
    if let Some(projection) = query.return_fields_selector {
        command.append(bson::raw::cstr!("projection"), value(projection));
    }
    if query.number_to_skip != 0 {
        command.append(bson::raw::cstr!("skip"), query.number_to_skip);
    }
    match query.number_to_return {
        0 => {}
        count if count < 0 || count == 1 => {
            command.append(bson::raw::cstr!("limit"), count.unsigned_abs() as i32);
            command.append(bson::raw::cstr!("singleBatch"), true);
        }
        count => command.append(bson::raw::cstr!("batchSize"), count),
    }
    for (flag, name) in [
        (query_flags::TAILABLE, bson::raw::cstr!("tailable")),
        (query_flags::NO_CURSOR_TIMEOUT, bson::raw::cstr!("noCursorTimeout")),
        (query_flags::AWAIT_DATA, bson::raw::cstr!("awaitData")),
        (query_flags::PARTIAL, bson::raw::cstr!("allowPartialResults")),
    ] {
        if query.flags & flag != 0 {
            command.append(name, true);
        }
    }
    command
}

/// `OP_GET_MORE` as `getMore`.
pub(super) fn get_more<'a>(message: &OpGetMore<'a>) -> UpConverted<'a> {
    let (_, collection) = split(message.full_collection_name);
    let mut command = rawdoc! { "getMore": message.cursor_id, "collection": collection.as_ref() };
    if message.number_to_return != 0 {
        command.append(bson::raw::cstr!("batchSize"), message.number_to_return);
    }
    UpConverted::crud(message.full_collection_name, command)
}

/// `OP_INSERT` as `insert`.
pub(super) fn insert<'a>(message: &OpInsert<'a>) -> UpConverted<'a> {
    let (_, collection) = split(message.full_collection_name);
    let ordered = message.flags & 1 == 0;
    let command = rawdoc! {
        "insert": collection.as_ref(), "documents": array(message.iter()), "ordered": ordered,
    };
    UpConverted::crud(message.full_collection_name, command)
}

/// `OP_UPDATE` as `update`.
pub(super) fn update<'a>(message: &OpUpdate<'a>) -> UpConverted<'a> {
    let (_, collection) = split(message.full_collection_name);
    let (upsert, multi) = (message.flags & 1 != 0, message.flags & 2 != 0);
    let update = rawdoc! { "q": value(message.selector), "u": value(message.update), "upsert": upsert, "multi": multi };
    let command = rawdoc! { "update": collection.as_ref(), "updates": [update] };
    UpConverted::crud(message.full_collection_name, command)
}

/// `OP_DELETE` as `delete`.
pub(super) fn delete<'a>(message: &OpDelete<'a>) -> UpConverted<'a> {
    let (_, collection) = split(message.full_collection_name);
    let limit = message.flags & 1;
    let command = rawdoc! { "delete": collection.as_ref(), "deletes": [rawdoc! { "q": value(message.selector), "limit": limit }] };
    UpConverted::crud(message.full_collection_name, command)
}

/// `OP_KILL_CURSORS` as `killCursors`. The message names neither database nor collection.
pub(super) fn kill_cursors<'a>(message: &OpKillCursors<'a>) -> UpConverted<'a> {
    let cursors: RawArrayBuf = message.iter().collect();
    UpConverted::crud(b"", rawdoc! { "killCursors": "", "cursors": cursors })
}

/// `OP_REPLY` to a legacy query or get-more as the command's reply. `batch` is `firstBatch` or `nextBatch`.
pub(super) fn reply(reply: &OpReply<'_>, batch: &bson::raw::CStr, namespace: &str) -> Vec<u8> {
    if reply.flags & reply_flags::CURSOR_NOT_FOUND != 0 {
        return rawdoc! { "ok": 0, "errmsg": "cursor not found", "code": 43, "codeName": "CursorNotFound" }
            .into_bytes();
    }
    if reply.flags & reply_flags::QUERY_FAILURE != 0 {
        return query_failure(reply).into_bytes();
    }
    let mut cursor = rawdoc! { "id": reply.cursor_id, "ns": namespace };
    cursor.append(batch, array(reply.iter()));
    rawdoc! { "ok": 1, "cursor": cursor }.into_bytes()
}

fn query_failure(reply: &OpReply<'_>) -> RawDocumentBuf {
    let document = reply.iter().next().unwrap_or(EMPTY);
    let message = find(document, b"$err").filter(|element| element.kind == Kind::String);
    let message = message.and_then(|element| element.as_str_bytes()).map(String::from_utf8_lossy);
    let mut failure = rawdoc! { "ok": 0, "errmsg": message.as_deref().unwrap_or("query failure") };
    if let Some(code) = error_code(document) {
        failure.append(bson::raw::cstr!("code"), i32::try_from(code).unwrap_or_default());
    }
    failure
}
