//! Where two documents differ, as a person would want to be told: paths with both values.
//!
//! Values are equal if their types and bytes are: an int32 is never an int64, and 0.0 is not -0.0. Fields are matched by
//! name (of several with one name, the first with the first), array elements by position. What may differ is for the
//! caller to say, by path.

use std::collections::HashMap;

use super::json::{Mode, write_value};
use super::kind::{BsonError, Kind};
use super::walk::{DEPTH_MAX, Element};

/// How much of a value is shown, in bytes of its JSON.
const SHOWN_MAX: usize = 1000;

/// What counts as a difference.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Whether fields must come in the same order.
    pub key_order: bool,
    /// How many differences are looked for.
    pub most: usize,
    /// Says of a path whether what is there, on either side, does not count. Paths are names and positions with dots
    /// between: `cursor.firstBatch.0._id`.
    pub ignore: &'a dyn Fn(&str) -> bool,
    /// Says of two values that are not equal, the expected one first, whether one stands for the other.
    pub same: &'a dyn Fn(&Element<'_>, &Element<'_>) -> bool,
}

impl Default for Options<'_> {
    /// Everything counts; a hundred are looked for.
    fn default() -> Self {
        Self { key_order: true, most: 100, ignore: &|_| false, same: &|_, _| false }
    }
}

/// One place where two documents differ.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Difference {
    /// Names and positions with dots between; empty for the whole document.
    pub path: String,
    /// The expected value as canonical Extended JSON, shortened (and then ending in `…`) if it is long; `None` if
    /// nothing was expected. Where only the order of fields differs, an array of their names.
    pub expected: Option<String>,
    /// The value that is there, likewise.
    pub actual: Option<String>,
}

/// `path: expected 1, got 2`
impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "(document)" } else { &self.path };
        let text = |value: &'_ Option<String>| value.clone().unwrap_or_else(|| "nothing".to_owned());
        write!(f, "{path}: expected {}, got {}", text(&self.expected), text(&self.actual))
    }
}

/// Where `actual` is not what is expected, in the expected order, what is there beyond it last.
pub fn differences(expected: &[u8], actual: &[u8], options: &Options<'_>) -> Vec<Difference> {
    let root = |value| Element { kind: Kind::Document, name: b"", value, offset: 0 };
    let mut comparison = Comparison { options, path: String::new(), depth: 0, found: Vec::new() };
    comparison.values(&root(expected), &root(actual));
    comparison.found.truncate(options.most);
    comparison.found
}

struct Comparison<'o> {
    options: &'o Options<'o>,
    path: String,
    depth: usize,
    found: Vec<Difference>,
}

impl Comparison<'_> {
    fn values(&mut self, expected: &Element<'_>, actual: &Element<'_>) {
        if expected.kind == actual.kind && expected.value == actual.value {
            return;
        }
        let inside = expected.kind == actual.kind && expected.kind.is_container() && self.depth < DEPTH_MAX;
        match (collected(expected), collected(actual)) {
            (Some(Ok(expected_inside)), Some(Ok(actual_inside))) if inside => {
                self.depth += 1;
                if expected.kind == Kind::Array {
                    self.arrays(&expected_inside, &actual_inside);
                } else {
                    self.documents(&expected_inside, &actual_inside);
                }
                self.depth -= 1;
            }
            _ if (self.options.same)(expected, actual) => {}
            _ => self.differ(Some(shown(expected)), Some(shown(actual))),
        }
    }

    fn arrays(&mut self, expected: &[Element<'_>], actual: &[Element<'_>]) {
        for position in 0..expected.len().max(actual.len()) {
            let name = position.to_string();
            self.at(name.as_bytes(), expected.get(position), actual.get(position));
        }
    }

    fn documents(&mut self, expected: &[Element<'_>], actual: &[Element<'_>]) {
        // The places of each name, last first.
        let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (place, element) in actual.iter().enumerate().rev() {
            places.entry(element.name).or_default().push(place);
        }
        let mut matched = Vec::new();
        for element in expected {
            let place = places.get_mut(element.name).and_then(Vec::pop);
            let partner = place.and_then(|place| actual.get(place));
            if self.at(element.name, Some(element), partner) {
                matched.extend(place);
            }
        }
        let mut beyond: Vec<usize> = places.into_values().flatten().collect();
        beyond.sort_unstable();
        for element in beyond.iter().filter_map(|place| actual.get(*place)) {
            self.at(element.name, None, Some(element));
        }
        if self.options.key_order && !matched.is_sorted() {
            let names = |places: &[usize]| names(places.iter().filter_map(|place| actual.get(*place)));
            let expected = names(&matched);
            matched.sort_unstable();
            self.differ(Some(expected), Some(names(&matched)));
        }
    }

    /// Compares what is at one name or position; false if it does not count.
    fn at(&mut self, name: &[u8], expected: Option<&Element<'_>>, actual: Option<&Element<'_>>) -> bool {
        if self.found.len() >= self.options.most {
            return false;
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(&String::from_utf8_lossy(name));
        let counts = !(self.options.ignore)(&self.path);
        match (expected, actual) {
            _ if !counts => {}
            (Some(expected), Some(actual)) => self.values(expected, actual),
            (expected, actual) => self.differ(expected.map(shown), actual.map(shown)),
        }
        self.path.truncate(length);
        counts
    }

    fn differ(&mut self, expected: Option<String>, actual: Option<String>) {
        self.found.push(Difference { path: self.path.clone(), expected, actual });
    }
}

/// All elements of a container.
fn collected<'a>(element: &Element<'a>) -> Option<Result<Vec<Element<'a>>, BsonError>> {
    element.elements().map(|elements| elements.and_then(Iterator::collect))
}

fn shown(element: &Element<'_>) -> String {
    let mut out = Vec::new();
    write_value(element, Mode::Canonical, &mut out);
    shortened(&out)
}

fn names<'a>(elements: impl Iterator<Item = &'a Element<'a>>) -> String {
    let mut out = vec![b'['];
    for element in elements {
        if out.len() > 1 {
            out.push(b',');
        }
        super::json::write_string(element.name, &mut out);
    }
    out.push(b']');
    shortened(&out)
}

fn shortened(json: &[u8]) -> String {
    match json.get(..SHOWN_MAX) {
        Some(start) if json.len() > SHOWN_MAX => format!("{}…", String::from_utf8_lossy(start)),
        _ => String::from_utf8_lossy(json).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ::bson::{RawDocumentBuf, rawdoc};
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    fn check(expected: &RawDocumentBuf, actual: &RawDocumentBuf, options: &Options<'_>, lines: &[&str]) {
        let found = differences(expected.as_bytes(), actual.as_bytes(), options);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), lines);
    }

    #[test]
    fn leaves_are_named_with_both_values() {
        let expected = rawdoc! { "a": 1, "b": { "c": [1, 2, { "d": 0.0 }] }, "gone": true, "s": "x" };
        let actual = rawdoc! { "a": 1_i64, "b": { "c": [1, 3, { "d": -0.0 }, 4] }, "s": "x", "new": [] };
        check(&expected, &expected, &Options::default(), &[]);
        let (number, time) = (rawdoc! { "a": 5_i64 }, rawdoc! { "a": ::bson::DateTime::from_millis(5) });
        let line = r#"a: expected {"$numberLong":"5"}, got {"$date":{"$numberLong":"5"}}"#;
        check(&number, &time, &Options::default(), &[line]);
        let lines = [
            r#"a: expected {"$numberInt":"1"}, got {"$numberLong":"1"}"#,
            r#"b.c.1: expected {"$numberInt":"2"}, got {"$numberInt":"3"}"#,
            r#"b.c.2.d: expected {"$numberDouble":"0.0"}, got {"$numberDouble":"-0.0"}"#,
            r#"b.c.3: expected nothing, got {"$numberInt":"4"}"#,
            "gone: expected true, got nothing",
            "new: expected nothing, got []",
        ];
        check(&expected, &actual, &Options::default(), &lines);
        check(&expected, &actual, &Options { most: 2, ..Options::default() }, &lines[..2]);
        let ignore = |path: &str| path.starts_with("b.c") || path == "new" || path == "gone";
        check(&expected, &actual, &Options { ignore: &ignore, ..Options::default() }, &lines[..1]);
    }

    #[test]
    fn order_counts_if_asked() {
        let (expected, actual) = (rawdoc! { "a": 1, "b": 2, "c": 3 }, rawdoc! { "c": 3, "a": 1, "b": 2 });
        let line = r#"(document): expected ["a","b","c"], got ["c","a","b"]"#;
        check(&expected, &actual, &Options::default(), &[line]);
        check(&expected, &actual, &Options { key_order: false, ..Options::default() }, &[]);
        check(&expected, &actual, &Options { ignore: &|path| path == "c", ..Options::default() }, &[]);
    }

    #[test]
    fn fields_of_one_name_are_matched_in_their_order() {
        let (mut expected, mut actual) = (rawdoc! { "a": 1 }, rawdoc! { "a": 1 });
        expected.append(::bson::raw::cstr!("a"), 2);
        actual.append(::bson::raw::cstr!("a"), 3);
        check(&expected, &actual, &Options::default(), &[r#"a: expected {"$numberInt":"2"}, got {"$numberInt":"3"}"#]);
    }

    #[test]
    fn broken_and_long_values_are_shown() {
        let found = differences(&[5, 0, 0, 0, 0], &[6, 0, 0, 0, 0], &Options::default());
        assert_eq!((found.len(), found[0].expected.as_deref()), (1, Some("{}")));
        assert!(found[0].actual.as_ref().unwrap().contains("$undecodable"));
        let long = rawdoc! { "a": "\u{fc}".repeat(5000) };
        let found = differences(long.as_bytes(), rawdoc! {}.as_bytes(), &Options::default());
        let text = found[0].expected.as_ref().unwrap();
        assert!(text.len() < SHOWN_MAX + 10 && text.ends_with('…'));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_found(index: Index, byte: u8) {
            let expected = crate::bson::testing::every_kind();
            let mut actual = expected.clone();
            let at = index.index(actual.len());
            actual[at] = byte;
            let found = differences(&expected, &actual, &Options::default());
            // Names of array elements do not count.
            let is_digit = |byte: u8| byte.is_ascii_digit();
            prop_assert!(found.is_empty() == (expected == actual) || is_digit(expected[at]));
        }
    }
}
