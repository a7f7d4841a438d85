//! An `OP_MSG`'s document sequences, back where they belong: as arrays in the body.

use std::borrow::Cow;

use crate::bson::write::{begin, end, put_name};
use crate::bson::{Elements, Kind};
use crate::wire::{OpMsg, Sequence};

/// The message as one document: the body's fields, then each sequence as an array under its identifier, in the order of
/// the sections. Without sequences it is the body itself. A dotted identifier names a field of a document in the body.
pub(crate) fn merged<'a>(message: &OpMsg<'a>) -> Cow<'a, [u8]> {
    let mut document = Cow::Borrowed(message.body);
    for sequence in &message.sequences {
        let mut out = Vec::with_capacity(document.len() + sequence.documents.len() * 5 / 4 + 64);
        add(&document, sequence.identifier, sequence, &mut out);
        document = Cow::Owned(out);
    }
    document
}

/// The same, which is made in `room` if there are sequences: for who reads many messages.
pub(super) fn merged_in<'a>(message: &OpMsg<'a>, room: &'a mut Vec<u8>) -> &'a [u8] {
    room.clear();
    match message.sequences.as_slice() {
        [] => return message.body,
        [sequence] => add(message.body, sequence.identifier, sequence, room),
        _ => room.extend_from_slice(&merged(message)),
    }
    room
}

/// Writes `document` with the sequence at `path` in it.
fn add(document: &[u8], path: &[u8], sequence: &Sequence<'_>, out: &mut Vec<u8>) {
    let start = begin(out);
    match split_at_dot(path) {
        None => {
            let fields = document.get(4..document.len().saturating_sub(1)).unwrap_or_default();
            out.extend_from_slice(fields);
            put_array(path, sequence, out);
        }
        Some((head, rest)) => {
            let mut found = false;
            for element in Elements::readable(document) {
                put_name(element.kind, element.name, out);
                if element.name == head && element.kind == Kind::Document {
                    found = true;
                    add(element.value, rest, sequence, out);
                } else {
                    out.extend_from_slice(element.value);
                }
            }
            if !found {
                put_name(Kind::Document, head, out);
                add(crate::event::EMPTY, rest, sequence, out);
            }
        }
    }
    end(start, out);
}

fn put_array(name: &[u8], sequence: &Sequence<'_>, out: &mut Vec<u8>) {
    put_name(Kind::Array, name, out);
    let start = begin(out);
    let mut digits = itoa::Buffer::new();
    for (index, document) in sequence.iter().enumerate() {
        put_name(Kind::Document, digits.format(index).as_bytes(), out);
        out.extend_from_slice(document);
    }
    end(start, out);
}

fn split_at_dot(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let dot = memchr::memchr(b'.', path)?;
    Some((path.get(..dot)?, path.get(dot + 1..)?))
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    fn check(body: &Document, identifier: &str, documents: &[Document], expected: &Document) {
        let bytes: Vec<u8> = documents.iter().flat_map(|document| document.to_vec().unwrap()).collect();
        let body = body.to_vec().unwrap();
        let sequence = Sequence { identifier: identifier.as_bytes(), documents: &bytes };
        let message = OpMsg { sequences: vec![sequence], ..OpMsg::new(0, &body) };
        assert_eq!(Document::from_reader(merged(&message).as_ref()).unwrap(), *expected);
    }

    #[test]
    fn sequences_become_arrays() {
        let body = doc! { "insert": "c", "$db": "d" };
        check(&body, "documents", &[], &doc! { "insert": "c", "$db": "d", "documents": [] });
        let many: Vec<_> = (0..12).map(|n| doc! { "_id": n }).collect();
        check(&body, "documents", &many, &doc! { "insert": "c", "$db": "d", "documents": many.clone() });
    }

    #[test]
    fn dotted_identifiers_are_nested() {
        let reply = doc! { "cursor": { "id": 0_i64, "ns": "d.c" }, "ok": 1 };
        let expected = doc! { "cursor": { "id": 0_i64, "ns": "d.c", "firstBatch": [{ "_id": 1 }] }, "ok": 1 };
        check(&reply, "cursor.firstBatch", &[doc! { "_id": 1 }], &expected);
        check(&doc! { "a": 1 }, "b.c.d", &[doc! {}], &doc! { "a": 1, "b": { "c": { "d": [{}] } } });
    }
}
