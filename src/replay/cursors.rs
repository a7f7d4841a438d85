//! Cursors of a recording, in use: each time a recorded answer opens one, it gets an id of its own, and its `getMore`s
//! are answered from where that use of it stands, whoever else is reading the same.

use std::collections::BTreeMap;

use super::recording::Number;
use crate::bson::{Element, Kind, find, find_path};

/// The cursors that are open.
#[derive(Debug, Default)]
pub(super) struct Cursors {
    open: BTreeMap<i64, Open>,
    last_id: i64,
}

/// Where a live cursor stands in the recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// The exchange that gave its last batch, and which of its replies.
    pub(super) exchange: Number,
    pub(super) reply: usize,
    /// Of a change stream and the like: the exchange that opened it, and how much had been asked then.
    pub(super) stream: Option<(Number, u64)>,
}

/// Cursors open at a time; beyond it the oldest is forgotten.
const OPEN_MAX: usize = 10_000;

/// As with a server's own, no id fits 32 bits: old drivers for languages without number types would send such a one as an
/// int32.
const BEFORE_FIRST_ID: i64 = 1 << 32;

impl Cursors {
    /// The live cursor of that id.
    pub(super) fn get(&self, id: i64) -> Option<Open> {
        self.open.get(&id).copied()
    }

    /// Opens a cursor, or has one stand elsewhere; gives its id.
    pub(super) fn put(&mut self, id: Option<i64>, open: Open) -> i64 {
        let id = id.unwrap_or_else(|| {
            self.last_id += 1;
            BEFORE_FIRST_ID + self.last_id
        });
        self.open.insert(id, open);
        if self.open.len() > OPEN_MAX {
            self.open.pop_first();
        }
        id
    }

    pub(super) fn close(&mut self, id: i64) {
        self.open.remove(&id);
    }
}

/// The cursor that a `getMore` asks for.
pub(super) fn cursor_asked(command: &[u8]) -> Option<(Element<'_>, i64)> {
    let element = find(command, b"getMore").filter(|it| it.kind == Kind::Int64)?;
    Some((element, element.as_i64()?))
}

/// The cursor that a reply gives; 0 if it is at its end.
pub(super) fn cursor_given(reply: &[u8]) -> Option<i64> {
    given(reply)?.as_i64()
}

fn given(reply: &[u8]) -> Option<Element<'_>> {
    find_path(reply, &[b"cursor", b"id"]).filter(|it| it.kind == Kind::Int64)
}

/// A `getMore` as all that ask the same are; `None` for other commands.
pub(super) fn without_cursor(command: &[u8]) -> Option<Vec<u8>> {
    cursor_asked(command).map(|(element, _)| patched(command, &element, 0))
}

/// A reply with another cursor.
pub(super) fn with_cursor(reply: Vec<u8>, id: i64) -> Vec<u8> {
    match given(&reply) {
        Some(element) => patched(&reply, &element, id),
        None => reply,
    }
}

/// The document with another int64 in the place of that element.
fn patched(document: &[u8], element: &Element<'_>, value: i64) -> Vec<u8> {
    let mut document = document.to_vec();
    if let Some(bytes) = document.get_mut(element.offset..element.offset + 8) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    document
}
