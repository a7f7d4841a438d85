//! A quick look at everything in a document: which values of some types there are, at any depth, without names or order.
//!
//! It does what [`walk`](super::walk) would, several times as fast, for documents that are as they should be; of others it
//! says so, and whoever asks goes the slow way.

use super::Kind;
use super::walk::{DEPTH_MAX, split_at_zero};

/// Visits the values within a document or an array: ObjectIds, binaries, dates and strings, each as an element's value is.
/// Whether the document is as it should be; if not, only some may have been visited.
#[must_use]
pub(crate) fn scan<'a>(document: &'a [u8], visit: &mut impl FnMut(Kind, &'a [u8])) -> bool {
    scan_within(document, visit).is_some()
}

fn scan_within<'a>(document: &'a [u8], visit: &mut impl FnMut(Kind, &'a [u8])) -> Option<()> {
    let mut ends = [0_usize; DEPTH_MAX];
    let (mut depth, mut at) = (0, 4);
    let mut end = prefix(document, 0)?;
    if end != document.len() {
        return None;
    }
    loop {
        let kind = *document.get(at)?;
        at += 1;
        if kind == 0 {
            if at != end {
                return None;
            }
            if depth == 0 {
                return Some(());
            }
            depth -= 1;
            end = *ends.get(depth)?;
            continue;
        }
        at += split_at_zero(document.get(at..end)?)?.0.len() + 1;
        let len = match kind {
            0x01 | 0x09 | 0x11 | 0x12 => 8,
            0x02 | 0x0d | 0x0e => prefix(document, at)?.checked_add(4)?,
            0x03 | 0x04 => {
                *ends.get_mut(depth)? = end;
                depth += 1;
                let inner = at.checked_add(prefix(document, at)?)?;
                if inner >= end {
                    return None;
                }
                end = inner;
                4
            }
            0x05 => prefix(document, at)?.checked_add(5)?,
            0x06 | 0x0a | 0x7f | 0xff => 0,
            0x07 => 12,
            0x08 => 1,
            0x0f => prefix(document, at)?,
            0x10 => 4,
            0x13 => 16,
            _ => return None,
        };
        let value = document.get(at..at.checked_add(len)?)?;
        at += len;
        if at >= end {
            return None;
        }
        match kind {
            0x02 => visit(Kind::String, value),
            0x05 => visit(Kind::Binary, value),
            0x07 => visit(Kind::ObjectId, value),
            0x09 => visit(Kind::DateTime, value),
            _ => {}
        }
    }
}

/// The length at that place.
fn prefix(document: &[u8], at: usize) -> Option<usize> {
    let bytes = document.get(at..)?.first_chunk()?;
    usize::try_from(i32::from_le_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bson::testing::every_kind;
    use crate::bson::{Element, Elements};

    fn slow<'a>(element: &Element<'a>, found: &mut Vec<(Kind, &'a [u8])>) {
        match element.elements() {
            Some(inner) => inner.unwrap().for_each(|inner| slow(&inner.unwrap(), found)),
            None if matches!(element.kind, Kind::String | Kind::Binary | Kind::ObjectId | Kind::DateTime) => {
                found.push((element.kind, element.value));
            }
            None => {}
        }
    }

    /// Without the types that are left to the slow way: a regular expression and a DBPointer.
    fn document() -> Vec<u8> {
        let inner = bson::doc! {
            "a": [1, "two", { "three": bson::oid::ObjectId::from_bytes([3; 12]), "d": bson::DateTime::from_millis(5) }],
            "b": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] }, "c": 1.5, "e": true,
            "f": bson::Bson::Null, "g": 1_i64, "h": {}, "i": [], "j": "", "k": bson::Bson::MaxKey,
            "l": bson::Bson::JavaScriptCode("f()".into()),
        };
        inner.to_vec().unwrap()
    }

    #[test]
    fn it_finds_what_the_walker_finds() {
        let document = document();
        let (mut quick, mut found) = (Vec::new(), Vec::new());
        assert!(scan(&document, &mut |kind, value| quick.push((kind, value))));
        Elements::new(&document).unwrap().for_each(|element| slow(&element.unwrap(), &mut found));
        assert!(quick.len() == 5 && quick == found, "{quick:?}");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_told() {
        let document = document();
        for len in 0..document.len() {
            assert!(!scan(&document[..len], &mut |_, _| {}), "{len}");
        }
        for at in 0..document.len() {
            let mut changed = document.clone();
            changed[at] ^= 0x55;
            // Some changes leave a document; none goes beyond it.
            let is_whole = scan(&changed, &mut |_, value| assert!(value.len() < changed.len()));
            assert!(!is_whole || at >= 4);
        }
        assert!(!scan(&every_kind(), &mut |_, _| {}));
    }
}
