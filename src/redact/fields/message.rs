//! Messages of the wire without values: the documents in them, of whatever opcode.

use bytes::BytesMut;

use super::asked::{Asked, Batch, Command, own_collection};
use super::walk::{Place, Walker};
use super::{Fields, Pending, cursor_of};
use crate::bson::find;
use crate::event::{Exchange, Side};
use crate::redact::message::keep_response_to;
use crate::wire::{Message, OpDelete, OpInsert, OpMsg, OpQuery, OpReply, OpUpdate, Sequence, WireError, msg_flags};

/// Where a message belongs.
#[derive(Clone, Copy, Debug)]
pub(in crate::redact) struct Said {
    /// Who said it.
    pub(in crate::redact) side: Side,
    /// The exchange that a request begins, or that a reply ends.
    pub(in crate::redact) exchange: Option<Exchange>,
    /// The exchange that a reply begins because others follow it unasked.
    pub(in crate::redact) continued: Option<Exchange>,
}

/// A message of the wire, uncompressed, without values: `None` if there are none in it. What was asked is noted in
/// `pending`, until the reply.
///
/// # Errors
/// If it cannot be read.
pub(in crate::redact) fn rewritten(
    fields: &Fields,
    pending: &mut Pending,
    said: Said,
    bytes: &[u8],
) -> Result<Option<Vec<u8>>, WireError> {
    let (header, message) = Message::decode(bytes)?;
    let mut out = BytesMut::new();
    let (id, to) = (header.request_id, header.response_to);
    let is_changed = match said.side {
        Side::Client => {
            let (asked, is_changed) = request(fields, &message, id, to, &mut out)?;
            if let Some((exchange, asked)) = said.exchange.zip(asked) {
                pending.insert(exchange, asked);
            }
            is_changed
        }
        Side::Server => {
            let asked = ended(fields, pending, said.exchange);
            let is_changed = reply(fields, &asked, &message, (id, to), &mut out)?;
            if let Some(continued) = said.continued {
                pending.insert(continued, asked);
            }
            is_changed
        }
    };
    keep_response_to(&mut out, to);
    Ok(is_changed.then(|| out.to_vec()))
}

fn ended(fields: &Fields, pending: &mut Pending, exchange: Option<Exchange>) -> Asked {
    exchange.map_or_else(|| Asked::unknown(fields), |exchange| pending.end(exchange, fields))
}

/// A request; what is asked in it, if it is answered.
fn request(
    fields: &Fields,
    message: &Message<'_>,
    id: i32,
    to: i32,
    out: &mut BytesMut,
) -> Result<(Option<Asked>, bool), WireError> {
    match message {
        Message::Msg(message) => {
            let command = Command { sequences: &message.sequences, ..Command::new(message.body) };
            let mut asked = Asked::of(fields, &command);
            let (is_changed, texts) = msg(fields, &asked, message, (id, to), false, out)?;
            asked.repeats(texts);
            Ok((Some(asked).filter(|_| !message.has(msg_flags::MORE_TO_COME)), is_changed))
        }
        Message::Query(query) => {
            let (database, collection) = namespace(query.full_collection_name);
            if collection == Some("$cmd") {
                let body = wrapped(query.query);
                let mut asked = Asked::of(fields, &Command { database, ..Command::new(body) });
                let without = fields.request(&mut asked, body);
                // What is beside a command that is wrapped is a read preference, if anything.
                let query = OpQuery { query: without.as_deref().unwrap_or(query.query), ..*query };
                if without.is_some() {
                    query.encode(id, out)?;
                }
                return Ok((Some(asked), without.is_some()));
            }
            let mut asked = legacy(fields, database, collection, query.query);
            let mut walker = Walker::new(fields, &asked);
            let filter = found_by(&mut walker, &asked, query.query, Place::Query);
            let texts = walker.into_texts();
            let selector = query.return_fields_selector;
            let selected = selector.and_then(|it| found(fields, &asked, it, Place::Projection));
            let is_changed = filter.is_some() || selected.is_some();
            if is_changed {
                let return_fields_selector = selected.as_deref().or(selector);
                let filter = filter.as_deref().unwrap_or(query.query);
                OpQuery { query: filter, return_fields_selector, ..*query }.encode(id, out)?;
            }
            asked.repeats(texts);
            Ok((Some(asked), is_changed))
        }
        Message::GetMore(message) => {
            let (database, collection) = namespace(message.full_collection_name);
            let unknown = || {
                let mut asked = legacy(fields, database, collection, &[]);
                asked.of_unknown_origin(fields);
                asked
            };
            Ok((Some(Asked::of_cursor(fields, message.cursor_id, true).unwrap_or_else(unknown)), false))
        }
        Message::KillCursors(message) => {
            let ids = message.cursor_ids.chunks_exact(8).filter_map(|id| Some(i64::from_le_bytes(id.try_into().ok()?)));
            ids.for_each(|id| fields.forget_cursor(id));
            Ok((None, false))
        }
        Message::Insert(message) => {
            let (database, collection) = namespace(message.full_collection_name);
            let asked = legacy(fields, database, collection, &[]);
            let documents = all_found(fields, &asked, message.iter());
            if let Some(documents) = &documents {
                OpInsert { documents, ..*message }.encode(id, out)?;
            }
            Ok((None, documents.is_some()))
        }
        Message::Update(message) => {
            let (database, collection) = namespace(message.full_collection_name);
            let asked = legacy(fields, database, collection, message.selector);
            // A comment of the selector may repeat what is in the update.
            let mut walker = Walker::new(fields, &asked);
            let parts = [message.update, message.selector].map(|it| found_by(&mut walker, &asked, it, Place::Query));
            let [update, selector] = &parts;
            let (selector, update) =
                (selector.as_deref().unwrap_or(message.selector), update.as_deref().unwrap_or(message.update));
            OpUpdate { selector, update, ..*message }.encode(id, out)?;
            Ok((None, parts.iter().any(Option::is_some)))
        }
        Message::Delete(message) => {
            let (database, collection) = namespace(message.full_collection_name);
            let asked = legacy(fields, database, collection, message.selector);
            let selector = found(fields, &asked, message.selector, Place::Query);
            if let Some(selector) = &selector {
                OpDelete { selector, ..*message }.encode(id, out)?;
            }
            Ok((None, selector.is_some()))
        }
        _ => Ok((None, false)),
    }
}

fn reply(
    fields: &Fields,
    asked: &Asked,
    message: &Message<'_>,
    (id, to): (i32, i32),
    out: &mut BytesMut,
) -> Result<bool, WireError> {
    match message {
        Message::Msg(message) => Ok(msg(fields, asked, message, (id, to), true, out)?.0),
        Message::Reply(reply) => {
            let of = |document| {
                // Documents may have any fields.
                let is_error = find(document, b"$err").is_some();
                match asked.is_legacy {
                    _ if is_error => fields.reply(asked, document),
                    true => asked
                        .may_touch(document)
                        .then(|| Walker::new(fields, asked).beside(b"nextBatch", document, true))
                        .flatten(),
                    false if find(document, b"ok").is_some() => fields.reply(asked, document),
                    false => found(fields, asked, document, Place::Data),
                }
            };
            if asked.is_legacy {
                fields.note_cursor(asked, Some(reply.cursor_id));
            }
            let parts: Vec<_> = reply.iter().map(|document| (document, of(document))).collect();
            let is_changed = parts.iter().any(|(_, without)| without.is_some());
            let documents: Vec<u8> =
                parts.iter().flat_map(|(document, without)| without.as_deref().unwrap_or(document)).copied().collect();
            OpReply { documents: &documents, ..*reply }.encode(id, to, out)?;
            Ok(is_changed)
        }
        _ => Ok(false),
    }
}

/// An `OP_MSG` with what is in its body and beside it; whether something went, and what that was.
fn msg(
    fields: &Fields,
    asked: &Asked,
    message: &OpMsg<'_>,
    (id, to): (i32, i32),
    is_reply: bool,
    out: &mut BytesMut,
) -> Result<(bool, Vec<Vec<u8>>), WireError> {
    if is_reply {
        fields.note_cursor(asked, cursor_of(message.body));
    }
    let mut walker = Walker::new(fields, asked);
    let mut is_changed = false;
    let mut beside = Vec::new();
    for sequence in &message.sequences {
        let mut documents = Vec::new();
        for document in sequence.iter() {
            let touches = asked.may_touch(document);
            let without = touches.then(|| walker.beside(sequence.identifier, document, is_reply)).flatten();
            is_changed |= without.is_some();
            documents.extend_from_slice(without.as_deref().unwrap_or(document));
        }
        beside.push((sequence.identifier, documents));
    }
    let body = match (asked.may_touch(message.body) || walker.may_repeat(message.body), is_reply) {
        (false, _) => None,
        (_, true) => walker.reply(message.body),
        (_, false) => walker.request(message.body),
    };
    is_changed |= body.is_some();
    if is_changed {
        let sequences = beside.iter().map(|(identifier, documents)| Sequence { identifier, documents });
        let body = body.as_deref().unwrap_or(message.body);
        OpMsg { body, sequences: sequences.collect(), ..*message }.encode(id, to, out)?;
    }
    Ok((is_changed, walker.into_texts()))
}

/// What is asked by a message that is no command, with that filter.
fn legacy(fields: &Fields, database: Option<&str>, collection: Option<&str>, filter: &[u8]) -> Asked {
    let mut asked = Asked::anything(fields);
    asked.is_legacy = true;
    let collection = collection.and_then(|name| own_collection(database, name));
    if collection.is_some() {
        asked.places.clear();
        fields.places(database, collection, &mut asked.places);
        asked.batch = Batch::Documents;
    }
    asked.own = asked.places.len();
    asked.seeks = !asked.places.is_empty() && memchr::memmem::find(filter, b"$search").is_some();
    asked.runs_code = memchr::memmem::find(filter, b"$where").is_some();
    asked
}

fn found(fields: &Fields, asked: &Asked, document: &[u8], place: Place) -> Option<Vec<u8>> {
    found_by(&mut Walker::new(fields, asked), asked, document, place)
}

fn found_by<'d>(walker: &mut Walker<'d>, asked: &Asked, document: &'d [u8], place: Place) -> Option<Vec<u8>> {
    let touches = asked.may_touch(document) || walker.may_repeat(document);
    touches.then(|| walker.found(document, place)).flatten()
}

fn all_found<'d>(fields: &Fields, asked: &Asked, documents: impl Iterator<Item = &'d [u8]>) -> Option<Vec<u8>> {
    let mut is_changed = false;
    let mut out = Vec::new();
    for document in documents {
        let without = found(fields, asked, document, Place::Data);
        is_changed |= without.is_some();
        out.extend_from_slice(without.as_deref().unwrap_or(document));
    }
    is_changed.then_some(out)
}

/// A command that has a read preference beside it.
fn wrapped(query: &[u8]) -> &[u8] {
    let within = [b"$query".as_slice(), b"query"].into_iter().find_map(|name| find(query, name)?.as_document());
    within.unwrap_or(query)
}

fn namespace(name: &[u8]) -> (Option<&str>, Option<&str>) {
    let name = std::str::from_utf8(name).ok();
    name.and_then(|name| name.split_once('.')).map_or((None, None), |(database, it)| (Some(database), Some(it)))
}
