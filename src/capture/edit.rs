//! Documents made anew from the elements of others: raw BSON, no tree.

use std::borrow::Cow;

use crate::bson::{Element, Elements, Kind};

/// The beginning of a document or an array: four bytes for its length.
pub(super) fn begin() -> Vec<u8> {
    vec![0; 4]
}

/// Ends a document that began with four bytes for its length.
pub(super) fn end(mut out: Vec<u8>) -> Vec<u8> {
    out.push(0);
    let len = i32::try_from(out.len()).unwrap_or(i32::MAX).to_le_bytes();
    out[..4].copy_from_slice(&len);
    out
}

/// Appends an element of that name.
pub(super) fn put(kind: Kind, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(kind as u8);
    out.extend_from_slice(name);
    out.push(0);
    out.extend_from_slice(value);
}

/// The value of a string.
pub(super) fn string(text: &[u8]) -> Vec<u8> {
    let len = i32::try_from(text.len() + 1).unwrap_or(i32::MAX).to_le_bytes();
    [&len[..], text, &[0]].concat()
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
