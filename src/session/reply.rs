//! What a reply says: whether it is `ok`, and what is counted in it.

use std::borrow::Cow;

use bson::oid::ObjectId;

use super::legacy;
use super::merge::merged;
use super::request::{ReplyForm, Request};
use super::shorten::Shortened;
use super::within;
use crate::bson::{Elements, count, find};
use crate::event::{Compressor, Measures};
use crate::wire::{Message, WireError, msg_flags, reply_flags};

/// A decoded reply.
pub(super) struct Reply<'a> {
    pub(super) document: Cow<'a, [u8]>,
    /// Another reply follows unasked.
    pub(super) more_to_come: bool,
    pub(super) facts: Facts,
}

/// What a walk over a reply's top level finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    pub(super) ok: bool,
    pub(super) measures: Measures,
    /// There is a `speculativeAuthenticate`.
    pub(super) speculative: bool,
    /// A conversation has come to its end: `done`, here or in `speculativeAuthenticate`.
    pub(super) authenticated: bool,
    /// There is a `writeConcernError`: the server may be on its way out although it says `ok`.
    pub(super) write_concern_error: bool,
}

/// What the first `hello` reply says of the connection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct HelloReply {
    pub(super) connection_id: Option<i64>,
    pub(super) service_id: Option<ObjectId>,
    pub(super) compressors: Vec<Compressor>,
}

/// What is said of a reply, or what should be one, without a document.
const NO_DOCUMENT: WireError = WireError::Short { field: "reply document", needed: 5, had: 0 };

/// Reads a decoded reply to `request`.
///
/// # Errors
/// If it is no reply, has no document where the request wants one, or may hold credentials where it breaks.
pub(super) fn read<'a>(
    message: &Message<'a>,
    request: &Request,
    shortened: Option<&Shortened>,
) -> Result<Reply<'a>, WireError> {
    let (document, more_to_come) = match message {
        Message::Msg(message) => (merged(message), message.has(msg_flags::MORE_TO_COME)),
        Message::Reply(reply) => {
            // A legacy exhaust query goes on, unasked, as long as there is a cursor.
            let more = request.repeats && reply.cursor_id != 0 && reply.flags & reply_flags::QUERY_FAILURE == 0;
            let namespace = || format!("{}.{}", request.database(), request.collection().unwrap_or_default());
            let document = match request.reply {
                ReplyForm::FirstBatch => Cow::Owned(legacy::reply(reply, bson::raw::cstr!("firstBatch"), &namespace())),
                ReplyForm::NextBatch => Cow::Owned(legacy::reply(reply, bson::raw::cstr!("nextBatch"), &namespace())),
                ReplyForm::Command | ReplyForm::None => Cow::Borrowed(reply.iter().next().ok_or(NO_DOCUMENT)?),
            };
            (document, more)
        }
        _ => return Err(NO_DOCUMENT),
    };
    let facts = facts(&document, shortened)?;
    Ok(Reply { document, more_to_come, facts })
}

/// Walks over a reply's top level. What was counted before the reply was shortened goes before what is left of it.
fn facts(document: &[u8], shortened: Option<&Shortened>) -> Result<Facts, WireError> {
    let mut facts = Facts::default();
    let mut elements = Elements::readable(document);
    for element in elements.by_ref() {
        match element.name {
            b"ok" => facts.ok = element.as_bool_truthy(),
            b"cursor" => {
                if let Some(cursor) = element.as_document() {
                    cursor_facts(cursor, &mut facts.measures);
                }
            }
            b"writeErrors" => facts.measures.write_errors = element.as_array().and_then(|array| count(array).ok()),
            b"writeConcernError" => facts.write_concern_error = true,
            b"done" => facts.authenticated = element.as_bool_truthy(),
            b"speculativeAuthenticate" => {
                facts.speculative = true;
                let inner = element.as_document().unwrap_or_default();
                // A conversation says when it is done; X.509 has none, its reply is its end.
                let done = find(inner, b"done").map(|done| done.as_bool_truthy());
                let has_conversation = find(inner, b"conversationId").is_some();
                facts.authenticated = done.unwrap_or(!has_conversation);
            }
            _ => {}
        }
    }
    within::check_unread(elements.unread())?;
    if let Some(shortened) = shortened {
        facts.measures.documents = shortened.batch.or(facts.measures.documents);
        facts.measures.write_errors = shortened.write_errors.or(facts.measures.write_errors);
    }
    Ok(facts)
}

fn cursor_facts(cursor: &[u8], measures: &mut Measures) {
    for element in Elements::readable(cursor) {
        match element.name {
            b"id" => measures.cursor = element.as_i64().filter(|id| *id != 0),
            b"firstBatch" | b"nextBatch" => {
                measures.documents = element.as_array().and_then(|array| count(array).ok());
            }
            _ => {}
        }
    }
}

/// Reads what a `hello` reply says of the connection.
pub(super) fn hello_reply(document: &[u8]) -> HelloReply {
    let names = find(document, b"compression").and_then(|element| element.as_array());
    let names = names.into_iter().flat_map(Elements::readable);
    HelloReply {
        connection_id: find(document, b"connectionId").and_then(|element| element.as_i64()),
        service_id: find(document, b"serviceId").and_then(|element| element.as_object_id()),
        compressors: names.filter_map(|name| name.as_str().and_then(Compressor::from_name)).collect(),
    }
}
