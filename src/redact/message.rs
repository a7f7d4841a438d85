//! Messages without the credentials in them.
//!
//! A document of a sensitive message is made anew of the elements that can be read, in their order: those that a name or
//! a type betrays have [`MARKER`] for their value, all others are as they came. So everything that a session wants to
//! know of such a message is still there: names, conversations, whether they are done.

use std::borrow::Cow;

use bytes::BytesMut;

use super::Fielded;
use super::fields::Said;
use crate::bson::write::{begin, end, put_name, put_string};
use crate::bson::{Element, Elements, Kind};
use crate::event::{Compressor, GivenMessage, Original, SeenMessage, Timestamp};
use crate::wire::{
    HEADER_LEN, Header, Message, OpCode, OpCompressed, OpMsg, OpQuery, OpReply, Reader, Sequence, WireError,
};

/// What stands for a credential: a string.
pub const MARKER: &str = "[redacted]";

/// Fields whose values are credentials, or messages of a server that may repeat some; in lower case, sorted.
const CREDENTIALS: &[&[u8]] = &[
    b"$err",
    b"accesstoken",
    b"credential",
    b"credentials",
    b"digest",
    b"err",
    b"errinfo",
    b"errmsg",
    b"jwt",
    b"key",
    b"nonce",
    b"passwd",
    b"password",
    b"payload",
    b"pwd",
    b"secret",
    b"token",
];

/// What a command has beside its own fields, none of it secret. Clients are told apart by the bytes of `client`.
const KEPT: &[&[u8]] = &[b"$clusterTime", b"client", b"lsid"];

/// The field with the name of the database that a command is for.
const DATABASE: &[u8] = b"$db";

/// A document within documents deeper than this is not looked into, but replaced.
const DEPTH_MAX: usize = 32;

/// `OP_COMPRESSED` up to the compressed bytes.
const COMPRESSED_HEAD_LEN: usize = HEADER_LEN + 9;

/// The message as it may be kept.
pub(super) fn given<'a>(
    seen: SeenMessage<'a>,
    at: Timestamp,
    inflate_max_bytes: usize,
    fielded: Option<&mut Fielded>,
) -> GivenMessage<'a> {
    let (bytes, original) = match kept(&seen, inflate_max_bytes, fielded) {
        Kept::AsItIs => {
            // What a session has cut is not as it was on the wire.
            let is_whole = usize::try_from(seen.header.message_length) == Ok(seen.bytes.len());
            (Cow::Borrowed(seen.bytes), (!is_whole).then(|| original(&seen)))
        }
        Kept::Masked(bytes, compressor) => (Cow::Owned(bytes), Some(Original { compressor, ..original(&seen) })),
        Kept::Head(len) => {
            let head = seen.bytes.get(..len).unwrap_or_default();
            (Cow::Borrowed(head), Some(Original { flags: seen.flags, ..original(&seen) }))
        }
        Kept::Nothing(error) => {
            let unread = Some(error.to_string().into());
            let head = Cow::Owned(seen.header.to_bytes().to_vec());
            (head, Some(Original { flags: seen.flags, unread, ..original(&seen) }))
        }
    };
    GivenMessage {
        side: seen.side,
        bytes,
        took: at.since(seen.first_byte_at),
        sent_after: seen.sent_at.map(|sent_at| sent_at.since(at)),
        exchange: seen.exchange,
        continued: seen.continued,
        original,
    }
}

fn original(seen: &SeenMessage<'_>) -> Original<'static> {
    Original { length: seen.header.message_length, ..Original::default() }
}

/// What is kept of a message.
enum Kept {
    AsItIs,
    /// An uncompressed one without credentials, and what it was compressed with.
    Masked(Vec<u8>, Option<Compressor>),
    /// So many bytes: it is compressed and too long to be looked into.
    Head(usize),
    /// Its header: it cannot be read.
    Nothing(WireError),
}

fn kept(seen: &SeenMessage<'_>, inflate_max_bytes: usize, fielded: Option<&mut Fielded>) -> Kept {
    let said = Said { side: seen.side, exchange: seen.exchange, continued: seen.continued };
    if !seen.sensitive && seen.unread.is_none() {
        let without = fielded.map_or(Ok(None), |fielded| {
            let mut inflated = Vec::new();
            let (bytes, compressor) = inflate(seen.bytes, &seen.header, inflate_max_bytes, &mut inflated)?;
            Ok(fielded.message(said, bytes)?.map(|bytes| (bytes, compressor)))
        });
        return match without {
            Ok(None) => Kept::AsItIs,
            Ok(Some((bytes, compressor))) => Kept::Masked(bytes, compressor),
            Err(WireError::InflatedTooLong { .. }) => Kept::Head(COMPRESSED_HEAD_LEN),
            Err(error) => Kept::Nothing(error),
        };
    }
    let masked = masked(seen, inflate_max_bytes).and_then(|(bytes, compressor)| match fielded {
        // What belongs to no exchange, or answers what could not be read, may be anything.
        Some(fielded) => Ok((fielded.message(said, &bytes)?.unwrap_or(bytes), compressor)),
        None => Ok((bytes, compressor)),
    });
    match masked {
        Err(WireError::InflatedTooLong { .. }) => Kept::Head(COMPRESSED_HEAD_LEN),
        Err(error) => Kept::Nothing(seen.unread.unwrap_or(error)),
        Ok((bytes, compressor)) => match seen.unread {
            // It has nothing that a session could read, whatever it decodes as.
            Some(error) => Kept::Nothing(error),
            None => Kept::Masked(bytes, compressor),
        },
    }
}

/// Takes the user's own secrets out of a message that was recorded before.
pub(super) fn recorded(message: &mut GivenMessage<'_>, inflate_max_bytes: usize, fielded: &mut Fielded) {
    let Ok(header) = Header::decode(&mut Reader::new(&message.bytes)) else { return };
    if message.original.as_ref().is_some_and(|original| original.unread.is_some()) {
        return;
    }
    let said = Said { side: message.side, exchange: message.exchange, continued: message.continued };
    let mut inflated = Vec::new();
    let without = inflate(&message.bytes, &header, inflate_max_bytes, &mut inflated);
    let without = without.and_then(|(bytes, compressor)| Ok((fielded.message(said, bytes)?, compressor)));
    if matches!(without, Ok((None, _))) {
        return;
    }
    let length = header.message_length;
    let original = message.original.get_or_insert_with(|| Original { length, ..Original::default() });
    match without {
        Ok((None, _)) => {}
        Ok((Some(bytes), compressor)) => {
            original.compressor = original.compressor.or(compressor);
            message.bytes = Cow::Owned(bytes);
        }
        Err(WireError::InflatedTooLong { .. }) => message.bytes.to_mut().truncate(COMPRESSED_HEAD_LEN),
        // What cannot be read is not kept but for its header.
        Err(error) => {
            original.unread = Some(error.to_string().into());
            message.bytes.to_mut().truncate(HEADER_LEN);
        }
    }
}

/// The message out of its compression, and what that was.
fn inflate<'b>(
    bytes: &'b [u8],
    header: &Header,
    inflate_max_bytes: usize,
    inflated: &'b mut Vec<u8>,
) -> Result<(&'b [u8], Option<Compressor>), WireError> {
    if header.op_code != OpCode::Compressed {
        return Ok((bytes, None));
    }
    let compressed = OpCompressed::decode(bytes)?;
    compressed.inflate(header, inflate_max_bytes, inflated)?;
    Ok((inflated, Some(compressed.compressor)))
}

fn masked(seen: &SeenMessage<'_>, inflate_max_bytes: usize) -> Result<(Vec<u8>, Option<Compressor>), WireError> {
    let mut inflated = Vec::new();
    let (bytes, compressor) = inflate(seen.bytes, &seen.header, inflate_max_bytes, &mut inflated)?;
    let mut out = BytesMut::new();
    let header = Header::decode(&mut Reader::new(bytes))?;
    let (id, to) = (header.request_id, header.response_to);
    match Message::decode(bytes)?.1 {
        Message::Msg(message) => {
            let body = mask(message.body, 0);
            // Sequences have names that matter, and documents that do not: those of a sensitive command are never shown.
            let sequences = message.sequences.iter().map(|it| Sequence { identifier: it.identifier, documents: &[] });
            OpMsg { body: &body, sequences: sequences.collect(), ..message }.encode(id, to, &mut out)?;
        }
        Message::Query(query) => {
            let (body, selector) = (mask(query.query, 0), query.return_fields_selector.map(|it| mask(it, 0)));
            OpQuery { query: &body, return_fields_selector: selector.as_deref(), ..query }.encode(id, &mut out)?;
        }
        Message::Reply(reply) => {
            let documents: Vec<u8> = reply.iter().flat_map(|document| mask(document, 0)).collect();
            OpReply { documents: &documents, ..reply }.encode(id, to, &mut out)?;
        }
        // They carry no commands; what they do carry is not for a sensitive exchange.
        _ => return Err(WireError::OpCode(header.op_code.as_i32())),
    }
    keep_response_to(&mut out, to);
    Ok((out.to_vec(), compressor))
}

/// Requests of the old opcodes are written as answers to nothing, which they are; whoever says otherwise is told of so.
pub(super) fn keep_response_to(message: &mut [u8], response_to: i32) {
    if let Some(field) = message.get_mut(8..12) {
        field.copy_from_slice(&response_to.to_le_bytes());
    }
}

/// A document of a sensitive command, with markers in the place of credentials.
pub(super) fn masked_document(document: &[u8]) -> Vec<u8> {
    mask(document, 0)
}

/// The document with markers in the place of credentials.
fn mask(document: &[u8], depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out);
    for element in Elements::readable(document) {
        let masks = is_credential(&element);
        let is_kept = depth == 0 && (KEPT.contains(&element.name) || names_database(&element));
        let inner = if is_kept || masks { None } else { element.as_document().or(element.as_array()) };
        let marked = masks && !is_kept || (inner.is_some() && depth == DEPTH_MAX);
        if marked && element.name == DATABASE {
            // The marker would be read as a database's name.
            put_name(Kind::Null, element.name, &mut out);
            continue;
        }
        put_name(if marked { Kind::String } else { element.kind }, element.name, &mut out);
        match inner {
            _ if marked => put_string(MARKER.as_bytes(), &mut out),
            Some(inner) => out.extend_from_slice(&mask(inner, depth + 1)),
            None => out.extend_from_slice(element.value),
        }
    }
    end(start, &mut out);
    out
}

/// Whether it is a database's name, of whichever type.
fn names_database(element: &Element<'_>) -> bool {
    element.name == DATABASE && element.as_str_bytes().is_some()
}

/// Whether the value is or may be a credential: by its name, or because only conversations of authentication, whose
/// steps these messages are, have binary data and code in them.
fn is_credential(element: &Element<'_>) -> bool {
    let name = element.name.to_ascii_lowercase();
    let is_named = CREDENTIALS.binary_search(&name.as_slice()).is_ok();
    is_named || matches!(element.kind, Kind::Binary | Kind::Code | Kind::CodeWithScope | Kind::Symbol)
}

#[cfg(test)]
mod tests {
    use bson::{Binary, rawdoc, spec::BinarySubtype};

    use super::*;
    use crate::event::Side;

    #[test]
    fn the_list_is_sorted() {
        assert!(CREDENTIALS.is_sorted());
    }

    fn seen(bytes: &[u8]) -> SeenMessage<'_> {
        SeenMessage {
            side: Side::Client,
            bytes,
            header: Header::decode(&mut Reader::new(bytes)).unwrap(),
            first_byte_at: Timestamp::default(),
            sent_at: None,
            exchange: None,
            continued: None,
            sensitive: true,
            unread: None,
            flags: None,
        }
    }

    fn message(body: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        OpMsg::new(0, body).encode(7, 0, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn values_go_and_all_else_stays() {
        let payload = Binary { subtype: BinarySubtype::Generic, bytes: b"n,,n=u,r=secret".to_vec() };
        let client = rawdoc! { "driver": { "key": "not one" } };
        let hello = rawdoc! {
            "hello": 1, "client": client.clone(), "$db": "admin",
            "speculativeAuthenticate": { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload, "db": "admin" },
        };
        let frame = message(hello.as_bytes());
        let given = given(seen(&frame), Timestamp::default(), 1 << 20, None);
        let Ok((_, Message::Msg(masked))) = Message::decode(&given.bytes) else { panic!("{given:?}") };
        let expected = rawdoc! {
            "hello": 1, "client": client, "$db": "admin",
            "speculativeAuthenticate": { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": MARKER, "db": "admin" },
        };
        assert_eq!(masked.body, expected.as_bytes());
        assert_eq!(given.original.unwrap().length as usize, frame.len());
    }

    #[test]
    fn a_database_is_told_as_it_would_be_read() {
        let binary = Binary { subtype: BinarySubtype::Generic, bytes: b"admin".to_vec() };
        let body = rawdoc! { "saslStart": 1, "$db": binary };
        assert_eq!(masked_document(body.as_bytes()), rawdoc! { "saslStart": 1, "$db": bson::RawBson::Null }.as_bytes());
        let body = rawdoc! { "saslStart": 1, "$db": bson::RawBson::Symbol("admin".to_owned()) };
        assert_eq!(masked_document(body.as_bytes()), body.as_bytes());
    }

    #[test]
    fn what_belongs_to_no_exchange_is_without_the_users_own_secrets() {
        let reply = rawdoc! { "cursor": { "firstBatch": [{ "ssn": "123-45-6789", "n": 1 }], "id": 0_i64 }, "ok": 1.0 };
        let frame = message(reply.as_bytes());
        let seen = SeenMessage { side: Side::Server, ..seen(&frame) };
        let fields = crate::redact::Fields::new(vec!["users.ssn".parse().unwrap()], Default::default(), b"key");
        let mut redactor = crate::redact::Redactor::new(fields);
        let given = given(seen, Timestamp::default(), 1 << 20, redactor.0.as_deref_mut());
        let Ok((_, Message::Msg(masked))) = Message::decode(&given.bytes) else { panic!("{given:?}") };
        let expected = rawdoc! { "cursor": { "firstBatch": [{ "ssn": "***", "n": 0 }], "id": 0_i64 }, "ok": 1.0 };
        assert_eq!(masked.body, expected.as_bytes());
    }

    #[test]
    fn compressed_ones_are_inflated_first() {
        let frame = message(rawdoc! { "createUser": "u", "PWD": "hunter2", "roles": [], "$db": "a" }.as_bytes());
        let mut compressed = BytesMut::new();
        crate::wire::compress(&frame, Compressor::Zlib, &mut compressed).unwrap();
        let given = given(seen(&compressed), Timestamp::default(), 1 << 20, None);
        assert!(memchr::memmem::find(&given.bytes, b"hunter2").is_none());
        assert!(memchr::memmem::find(&given.bytes, b"createUser").is_some());
        let original = given.original.unwrap();
        assert_eq!((original.compressor, original.length as usize), (Some(Compressor::Zlib), compressed.len()));
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let mut frame = message(rawdoc! { "saslStart": 1, "payload": "secret" }.as_bytes());
        frame[20] = 9;
        let given = given(seen(&frame), Timestamp::default(), 1 << 20, None);
        assert_eq!(given.bytes.len(), HEADER_LEN);
        assert_eq!(given.original.unwrap().unread.as_deref(), Some("section kind 9 is not known"));
        // A document that breaks is read up to where it does.
        let mut body = rawdoc! { "saslStart": 1, "payload": "secret", "x": 1 }.into_bytes();
        let at = body.len() - 8;
        body[at] = 0xee;
        let frame = message(&body);
        let given = super::given(seen(&frame), Timestamp::default(), 1 << 20, None);
        let Ok((_, Message::Msg(masked))) = Message::decode(&given.bytes) else { panic!("{given:?}") };
        assert_eq!(masked.body, rawdoc! { "saslStart": 1, "payload": MARKER }.as_bytes());
    }
}
