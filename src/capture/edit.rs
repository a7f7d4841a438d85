//! Documents made anew from the elements of others: raw BSON, no tree.

use std::borrow::Cow;

use crate::bson::{Element, Elements, Kind, write};

/// The beginning of a document or an array: four bytes for its length.
pub(super) fn begin() -> Vec<u8> {
    vec![0; 4]
}

/// Ends a document that began with four bytes for its length.
pub(super) fn end(mut out: Vec<u8>) -> Vec<u8> {
    write::end(0, &mut out);
    out
}

/// Appends an element of that name.
pub(super) fn put(kind: Kind, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    write::put_name(kind, name, out);
    out.extend_from_slice(value);
}

/// The value of a string.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 5);
    write::put_string(text, &mut out);
    out
}

/// What becomes of an element.
pub(super) enum Edit<'a> {
    /// It stays.
    Keep,
    /// It goes.
    Drop,
    /// It has another value, perhaps of another type.
    Put(Kind, Cow<'a, [u8]>),
}

/// The document or array with its elements edited. What cannot be read of it is left out.
pub(super) fn edit<'a>(document: &'a [u8], with: &mut dyn FnMut(&Element<'a>) -> Edit<'a>) -> Vec<u8> {
    let mut out = begin();
    for element in Elements::readable(document) {
        match with(&element) {
            Edit::Keep => put(element.kind, element.name, element.value, &mut out),
            Edit::Drop => {}
            Edit::Put(kind, value) => put(kind, element.name, &value, &mut out),
        }
    }
    end(out)
}

/// An array of these documents.
pub(super) fn array<'d>(documents: impl Iterator<Item = &'d [u8]>) -> Vec<u8> {
    let mut out = begin();
    for (index, document) in documents.enumerate() {
        put(Kind::Document, index.to_string().as_bytes(), document, &mut out);
    }
    end(out)
}
