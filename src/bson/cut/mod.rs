//! Cuts a document that is longer than a limit down to what matters, while its bytes pass.
//!
//! What is kept is valid BSON. A document within the limit is kept whole. Of a longer one, what fits the budget that is
//! left is copied whole, a container that does not fit is gone into, and the rest is left out: of an array everything
//! after the first element that was cut, of a document each value that does not fit. Small elements at the top, in
//! `cursor` and in `writeConcernError` stay although the budget is spent, out of a reserve, and so does the start of
//! an error's message. What is left out is skipped by its length, so a large reply costs about what is kept of it plus
//! a hop for each element of its batch. Memory: the limit and [`RESERVE`].

mod cutter;
mod header;

use super::walk;

pub use cutter::Cutter;

/// Bytes that small elements which always stay may take beyond the limit.
pub const RESERVE: usize = 4096;

/// What counts as small: lsid, `$clusterTime` and `cursor.ns` do.
const SMALL_MAX: usize = 256;

/// What was left out of a document that was longer than the limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Truncated {
    /// Bytes of BSON left out.
    pub bytes: u64,
    /// Elements left out: array elements and fields, each counted once however much is inside it.
    pub elements: u64,
}

impl Truncated {
    /// Both cuts together, for a document that was cut twice.
    pub fn plus(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, elements: self.elements + other.elements }
    }
}

/// How many elements some arrays have, those left out included.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Of `cursor.firstBatch` or `cursor.nextBatch`.
    pub batch: Option<u64>,
    /// Of `writeErrors`.
    pub write_errors: Option<u64>,
}

impl Counts {
    /// Counts in a document that was not cut.
    pub fn of(document: &[u8]) -> Self {
        let array = |path: &[&[u8]]| {
            let array = walk::find_path(document, path)?.as_array()?;
            walk::count(array).ok()
        };
        let batch = array(&[b"cursor", b"firstBatch"]).or_else(|| array(&[b"cursor", b"nextBatch"]));
        Self { batch, write_errors: array(&[b"writeErrors"]) }
    }
}

/// What is left of a document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cut {
    /// Valid BSON if the document was, or was cut. Where a document broke while it was cut, its last element is a
    /// string `$undecodable` that says how.
    pub bytes: Vec<u8>,
    /// Bytes of the limit that were not used: the limit for the next document of the same message.
    pub budget_left: usize,
    /// What was left out; `None` if nothing was.
    pub truncated: Option<Truncated>,
    /// What was counted; nothing in [`Cutter::inner`].
    pub counts: Counts,
    /// The very first element was left out. In a command that is its name.
    pub first_left_out: bool,
}

/// Cuts a document that is there as a whole. `None` if nothing has to be left out, and for bytes whose own length is
/// not theirs, of which nothing can be said.
pub fn cut(document: &[u8], limit: usize) -> Option<Cut> {
    if document.len() <= limit {
        return None;
    }
    let mut cutter = Cutter::new(limit);
    let consumed = cutter.push(document).ok()?;
    let cut = cutter.finish().ok()?;
    (consumed == document.len() && cut.truncated.is_some()).then_some(cut)
}

#[cfg(test)]
mod tests;
