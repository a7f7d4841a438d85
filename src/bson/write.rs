//! Writes documents that are put together of parts of others: the lengths around them, names, strings. What is between
//! is bytes that came with lengths of the same kind.

use super::{Element, Kind};

/// Begins a document or an array; gives where it begins.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[0; 4]);
    out.len() - 4
}

/// Ends what began at `start`.
pub(crate) fn end(start: usize, out: &mut Vec<u8>) {
    out.push(0);
    set_length(start, length_of(out.len() - start), out);
}

/// Puts the length into the field at `start`.
pub(crate) fn set_length(start: usize, length: i32, out: &mut [u8]) {
    if let Some(field) = out.get_mut(start..).and_then(<[u8]>::first_chunk_mut) {
        *field = length.to_le_bytes();
    }
}

/// Appends what an element has before its value.
pub(crate) fn put_name(kind: Kind, name: &[u8], out: &mut Vec<u8>) {
    out.push(kind as u8);
    out.extend_from_slice(name);
    out.push(0);
}

/// Appends an element as it is.
pub(crate) fn put_element(element: &Element<'_>, out: &mut Vec<u8>) {
    put_name(element.kind, element.name, out);
    out.extend_from_slice(element.value);
}

/// Appends a document of these elements.
pub(crate) fn put_document<'a>(elements: impl IntoIterator<Item = Element<'a>>, out: &mut Vec<u8>) {
    let start = begin(out);
    elements.into_iter().for_each(|element| put_element(&element, out));
    end(start, out);
}

/// Appends a string's value.
pub(crate) fn put_string(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&length_of(text.len() + 1).to_le_bytes());
    out.extend_from_slice(text);
    out.push(0);
}

/// A length as its field has it: the highest there is for one that is too long, which cannot come from a message.
fn length_of(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
