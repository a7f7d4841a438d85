//! Where two documents differ, for people: the first place, and what stands there in each.

use std::fmt;

use crate::bson::json::{Mode, write_document, write_value};
use crate::bson::write::put_document;
use crate::bson::{Element, Elements};
use crate::capture::fixture::as_written;

/// The first place where two documents differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// The names that lead there, with dots between; empty for the documents as a whole.
    pub path: String,
    /// The value in the first document as JSON, shortened; `None` if it is not there.
    pub first: Option<String>,
    /// The value in the second.
    pub second: Option<String>,
}

/// `filter.paid is true there and false here`, the first document being there.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the whole" } else { &self.path };
        match (&self.first, &self.second) {
            (Some(first), Some(second)) => write!(f, "{path} is {first} there and {second} here"),
            (Some(first), None) => write!(f, "{path} is {first} there and missing here"),
            (None, Some(second)) => write!(f, "{path} is missing there and {second} here"),
            (None, None) => write!(f, "{path} differs"),
        }
    }
}

/// Compares two documents by their fields' names, types and values, in any order on the top level. `None` if they are
/// the same.
pub fn difference(first: &[u8], second: &[u8]) -> Option<Difference> {
    let (ours, theirs) = (elements(first), elements(second));
    fields(&ours, &theirs, "")
}

fn elements(document: &[u8]) -> Vec<Element<'_>> {
    Elements::new(document).into_iter().flatten().map_while(Result::ok).collect()
}

fn fields(ours: &[Element<'_>], theirs: &[Element<'_>], prefix: &str) -> Option<Difference> {
    let path = |element: &Element<'_>| format!("{prefix}{}", String::from_utf8_lossy(element.name));
    for our in ours {
        let Some(their) = theirs.iter().find(|their| their.name == our.name) else {
            return Some(Difference { path: path(our), first: Some(shown(our)), second: None });
        };
        if let Some(difference) = values(our, their, path(our)) {
            return Some(difference);
        }
    }
    let added = theirs.iter().find(|their| !ours.iter().any(|our| our.name == their.name))?;
    Some(Difference { path: path(added), first: None, second: Some(shown(added)) })
}

fn values(our: &Element<'_>, their: &Element<'_>, path: String) -> Option<Difference> {
    if (our.kind, our.value) == (their.kind, their.value) {
        return None;
    }
    let inner = if our.kind == their.kind && our.kind.is_container() {
        fields(&elements(our.value), &elements(their.value), &format!("{path}."))
    } else {
        None
    };
    // Without a difference inside it is the order of fields, which counts there.
    Some(inner.unwrap_or_else(|| Difference { path, first: Some(shown(our)), second: Some(shown(their)) }))
}

/// A value as JSON, shortened.
pub(super) fn shown(element: &Element<'_>) -> String {
    let mut text = Vec::new();
    write_value(element, Mode::Lossless, &mut text);
    shortened(&String::from_utf8_lossy(&text))
}

/// A value of a recording as JSON, shortened: as its fixture has it, if it is of one; `at` is the time of its exchange in
/// milliseconds since 1970.
pub(super) fn shown_recorded(element: &Element<'_>, at_ms: i64) -> String {
    let mut alone = Vec::new();
    put_document([*element], &mut alone);
    let written = as_written(&alone, at_ms.saturating_mul(1000));
    elements(&written).first().map(shown).unwrap_or_default()
}

/// A document as JSON, shortened.
pub(super) fn shown_document(document: &[u8]) -> String {
    let mut text = Vec::new();
    write_document(document, Mode::Lossless, &mut text);
    shortened(&String::from_utf8_lossy(&text))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The characters of a value that are shown.
const SHOWN_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;

    use super::*;

    #[test]
    fn the_first_difference_is_found() {
        let rows: &[(RawDocumentBuf, RawDocumentBuf, Option<&str>)] = &[
            (rawdoc! { "a": 1, "b": 2 }, rawdoc! { "b": 2, "a": 1 }, None),
            (rawdoc! { "a": 1 }, rawdoc! { "a": 1.0 }, Some("a is 1 there and 1.0 here")),
            (rawdoc! { "a": { "b": [1, 2] } }, rawdoc! { "a": { "b": [1, 3] } }, Some("a.b.1 is 2 there and 3 here")),
            (rawdoc! { "a": 1, "b": 1 }, rawdoc! { "a": 1 }, Some("b is 1 there and missing here")),
            (rawdoc! { "a": {} }, rawdoc! { "a": { "c": "x" } }, Some("a.c is missing there and \"x\" here")),
            (
                rawdoc! { "sort": { "a": 1, "b": 1 } },
                rawdoc! { "sort": { "b": 1, "a": 1 } },
                Some("sort is {\"a\":1,\"b\":1} there and {\"b\":1,\"a\":1} here"),
            ),
        ];
        for (first, second, expected) in rows {
            let found = difference(first.as_bytes(), second.as_bytes()).map(|it| it.to_string());
            assert_eq!(found.as_deref(), *expected);
        }
    }

    #[test]
    fn long_values_are_shortened() {
        let difference = difference(rawdoc! { "a": "x".repeat(100) }.as_bytes(), rawdoc! {}.as_bytes()).unwrap();
        assert_eq!(difference.first.unwrap().chars().count(), SHOWN_MAX + 1);
    }
}
