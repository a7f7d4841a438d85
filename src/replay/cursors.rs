//! Cursors of a recording, in use: each time a recorded answer opens one, it gets an id of its own, and its `getMore`s
//! are answered from where that use of it stands, whoever else is reading the same.

use std::collections::BTreeMap;

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
    /// The cursor's id there.
    recorded_id: i64,
    /// The exchange that gave its last batch.
    pub(super) exchange: usize,
}

/// Cursors open at a time; beyond it the oldest is forgotten.
const OPEN_MAX: usize = 10_000;

impl Cursors {
    /// The live cursor of that id.
    pub(super) fn get(&self, id: i64) -> Option<Open> {
        self.open.get(&id).copied()
    }

    /// A recorded reply as it goes to the client: with a live id for the recorded one. `exchange` is whose reply it is,
    /// `id` the live cursor that was asked.
    pub(super) fn reply(&mut self, recorded: &[u8], exchange: usize, id: Option<i64>) -> Vec<u8> {
        let found = find_path(recorded, &[b"cursor", b"id"]).filter(|it| it.kind == Kind::Int64);
        let Some((element, recorded_id)) = found.and_then(|element| Some((element, element.as_i64()?))) else {
            return recorded.to_vec();
        };
        if recorded_id == 0 {
            id.and_then(|id| self.open.remove(&id));
            return recorded.to_vec();
        }
        let id = id.unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        self.open.insert(id, Open { recorded_id, exchange });
        if self.open.len() > OPEN_MAX {
            self.open.pop_first();
        }
        patched(recorded, &element, id)
    }
}

impl Open {
    /// A live `getMore` as it was recorded.
    pub(super) fn command(&self, live: &[u8]) -> Vec<u8> {
        match cursor_asked(live) {
            Some((element, _)) => patched(live, &element, self.recorded_id),
            None => live.to_vec(),
        }
    }
}

/// The cursor that a `getMore` asks for.
pub(super) fn cursor_asked(command: &[u8]) -> Option<(Element<'_>, i64)> {
    let element = find(command, b"getMore").filter(|it| it.kind == Kind::Int64)?;
    Some((element, element.as_i64()?))
}

/// The document with another int64 in the place of that element.
fn patched(document: &[u8], element: &Element<'_>, value: i64) -> Vec<u8> {
    let mut document = document.to_vec();
    if let Some(bytes) = document.get_mut(element.offset..element.offset + 8) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    document
}
