//! Which values are the user's own secrets: [`FieldPath`]s, and where a walk through a command stands towards them.
//!
//! A path begins with a collection (`users`), a collection of a database (`shop.users`) or `*` for any, and goes on with
//! names of fields, `*` for any one, or for the elements of an array. The names may stand at any depth, one in the other: arrays, positions in them and
//! operators between do not count, nor does it matter whether they are nested or written with dots. So `users.card.number`
//! is `{card: {number: …}}`, `{"card.number": …}`, `{$set: {"cards.card.0.number": …}}` alike.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

/// A path as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FieldPath(String);

/// Why a text is no path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a path to a field")]
pub struct FieldPathError(String);

/// The names that a path has within documents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Names {
    names: Box<[Box<[u8]>]>,
    /// Which of the paths it is, by its place among them; [`UNKNOWN`] if its collection is not known.
    path: usize,
}

impl Names {
    /// The same, where that stands under this name.
    pub(super) fn under(&self, name: &[u8]) -> Self {
        Self { names: names_of(name).chain(self.names.iter().cloned()).collect(), path: self.path }
    }
}

impl Deref for Names {
    type Target = [Box<[u8]>];

    fn deref(&self) -> &Self::Target {
        &self.names
    }
}

/// Which of the paths were met in what was looked at, by their places.
#[derive(Debug)]
pub(super) struct Met(Box<[AtomicBool]>);

impl Met {
    pub(super) fn none_of(paths: usize) -> Self {
        Self((0..paths).map(|_| AtomicBool::new(false)).collect())
    }

    fn meet(&self, names: &Names) {
        let Some(met) = self.0.get(names.path) else { return };
        // Read first: it is written once, and shared by all threads.
        if !met.load(Ordering::Relaxed) {
            met.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn is_met(&self, path: usize) -> bool {
        self.0.get(path).is_some_and(|met| met.load(Ordering::Relaxed))
    }
}

/// No path: what is met somewhere says nothing of a path into some collection.
const UNKNOWN: usize = usize::MAX;

/// Stands for any one name.
const ANY: &[u8] = b"*";

/// A place is as deep as this at most.
const NAMES_MAX: usize = 64;

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<Self, FieldPathError> {
        let parts: Vec<&str> = text.split('.').collect();
        // Several paths in one, and what other tools write for positions and patterns, would protect nothing.
        let is_other = |it: char| it.is_whitespace() || matches!(it, '\0' | '[' | ']' | '/' | ';' | ',');
        let is_bad = |part: &&str| {
            part.is_empty() || part.starts_with('$') || part.contains(is_other) || part.contains('*') && *part != "*"
        };
        let names_a_field = parts.last().is_some_and(|last| !is_position(last.as_bytes()));
        if !(2..=NAMES_MAX).contains(&parts.len()) || parts.iter().any(is_bad) || !names_a_field {
            return Err(FieldPathError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FieldPath {
    /// Adds the names that it has in that collection, in every reading: `a.b.c` is field `b.c` of collection `a`, and field
    /// `c` of collection `b` in database `a`. Where the collection is not known it is every one. `path` is its place among the paths.
    pub(super) fn within(&self, path: usize, database: Option<&str>, collection: Option<&str>, to: &mut Vec<Names>) {
        let text = self.0.as_str();
        let after = |prefix: &str| text.strip_prefix(prefix)?.strip_prefix('.');
        let path = if collection.is_none() && !text.starts_with("*.") { UNKNOWN } else { path };
        let mut add = |rest: &str| {
            let parts: Vec<_> = rest.split('.').map(str::as_bytes).filter(|part| is_name(part)).collect();
            // Between names, it may stand for elements too, which have none.
            let without = parts.iter().enumerate().filter(|(place, part)| {
                let is_between = *place > 0 && place + 1 < parts.len();
                !(is_between && **part == ANY)
            });
            let without = without.map(|(_, part)| Box::from(*part)).collect();
            let all = parts.iter().map(|part| Box::from(*part)).collect();
            for names in [all, without].map(|names| Names { names, path }) {
                if !names.is_empty() && !to.contains(&names) {
                    to.push(names);
                }
            }
        };
        if let Some(rest) = after("*") {
            return add(rest);
        }
        let Some(collection) = collection else {
            return text.match_indices('.').for_each(|(dot, _)| add(&text[dot + 1..]));
        };
        let Some(rest) = text.strip_prefix(collection).and_then(|rest| rest.strip_prefix('.')) else {
            let rest = database.and_then(after);
            let within = |name: &str| rest?.strip_prefix(name)?.strip_prefix('.');
            return [collection, "*"].into_iter().filter_map(within).for_each(add);
        };
        add(rest);
        // A database may be called as a collection is.
        if let Some(rest) = database.and_then(after).and_then(|rest| rest.strip_prefix(collection)?.strip_prefix('.')) {
            add(rest);
        }
    }
}

/// Whether a part of a dotted name is a name, and not a position in an array or an operator for some.
fn is_name(part: &[u8]) -> bool {
    !part.is_empty() && part[0] != b'$' && !is_position(part)
}

/// The names in a dotted one.
fn names_of(name: &[u8]) -> impl Iterator<Item = Box<[u8]>> {
    name.split(|byte| *byte == b'.').filter(|part| is_name(part)).map(Box::from)
}

fn is_position(part: &[u8]) -> bool {
    !part.is_empty() && part.iter().all(u8::is_ascii_digit)
}

/// A step on the way to a value.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Name(&'a [u8]),
    /// Any names, however many: what an identifier of `arrayFilters` or a variable stands for.
    Any,
}

/// The names on the way from the top of a command to a value.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail<'a>(Vec<Step<'a>>);

impl<'a> Trail<'a> {
    /// Goes into what has that name, which may be dotted; whether that is, or is in, one of the places, which are then met.
    pub(super) fn push(&mut self, name: &'a [u8], places: &[Names], met: &Met) -> bool {
        let mut is_in = false;
        // What begins with a dollar sign is an operator, as a whole.
        let parts = if name.first() == Some(&b'$') { &[] } else { name };
        for part in parts.split(|byte| *byte == b'.').filter(|part| is_name(part)) {
            self.0.push(Step::Name(part));
            for names in places.iter().filter(|names| self.ends_with(names)) {
                met.meet(names);
                is_in = true;
            }
        }
        is_in
    }

    /// The same for a name whose first part may be any others.
    pub(super) fn push_identified(&mut self, name: &'a [u8], places: &[Names], met: &Met) -> bool {
        let (_, rest) = split_first(name);
        self.0.push(Step::Any);
        if rest.is_empty() { true } else { self.push(rest, places, met) }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Whether the last names are these.
    fn ends_with(&self, names: &[Box<[u8]>]) -> bool {
        let mut steps = self.0.iter().rev();
        for name in names.iter().rev() {
            match steps.next() {
                Some(Step::Any) => return true,
                Some(Step::Name(step)) if **name == *ANY || **name == **step => {}
                _ => return false,
            }
        }
        true
    }
}

/// The first part of a dotted name, and the rest.
fn split_first(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = name.iter().position(|byte| *byte == b'.');
    dot.map_or((name, &[]), |dot| (&name[..dot], &name[dot + 1..]))
}

/// What is left of a place where a reference leads to it, or above it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left<'n> {
    of: &'n Names,
    /// The names below the field that is referred to.
    pub(super) names: &'n [Box<[u8]>],
}

impl<'n> Left<'n> {
    /// All of a place.
    pub(super) fn whole(of: &'n Names) -> Self {
        Self { of, names: of }
    }

    /// What is left, where that stands under this name; or, if it is deep, somewhere within it.
    pub(super) fn under(&self, name: &[u8], is_deep: bool) -> Names {
        let left = if is_deep { &[] } else { self.names };
        Names { names: names_of(name).chain(left.iter().cloned()).collect(), path: self.of.path }
    }

    /// The place was met.
    pub(super) fn meet(&self, met: &Met) {
        met.meet(self.of);
    }
}

/// What of the places is within the field that `reference` names, as `$a.b` or `$$variable.b`: for each of them that it
/// leads to or above, the names that are left. None are left where it leads to the place itself, or into it.
pub(super) fn left_of<'n>(reference: &[u8], places: &'n [Names]) -> Vec<Left<'n>> {
    #[cfg(test)]
    tests::HELD_AGAINST.set(tests::HELD_AGAINST.get() + places.len());
    let Some(path) = reference.strip_prefix(b"$") else { return Vec::new() };
    let mut trail = Trail::default();
    let mut left = Vec::new();
    let path = match path.strip_prefix(b"$").map(|path| (path, split_first(path))) {
        // What is in a variable is not known; a variable alone counts by its name.
        Some((_, (_, rest))) if !rest.is_empty() => {
            trail.0.push(Step::Any);
            rest
        }
        Some((name, _)) => name,
        None => path,
    };
    for part in path.split(|byte| *byte == b'.').filter(|part| is_name(part)) {
        trail.0.push(Step::Name(part));
        let within: Vec<_> = places.iter().filter(|it| trail.ends_with(it)).map(|of| Left { of, names: &[] }).collect();
        if !within.is_empty() {
            return within;
        }
    }
    for of in places {
        let lengths = (1..of.len()).filter(|len| trail.ends_with(&of[..*len]));
        left.extend(lengths.map(|len| Left { of, names: &of[len..] }));
    }
    left
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// Places that references were held against, by this thread.
        pub(in crate::redact::fields) static HELD_AGAINST: Cell<usize> = const { Cell::new(0) };
    }

    fn names(path: &str, database: Option<&str>, collection: Option<&str>) -> Vec<String> {
        let mut places = Vec::new();
        path.parse::<FieldPath>().unwrap().within(0, database, collection, &mut places);
        let text = |names: &Names| {
            names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect::<Vec<_>>().join(".")
        };
        places.iter().map(text).collect()
    }

    #[test]
    fn a_path_is_read_in_every_way_that_it_can_be_meant() {
        for (path, database, collection, expected) in [
            ("users.ssn", "shop", Some("users"), &["ssn"][..]),
            ("users.ssn", "users", Some("orders"), &[]),
            ("users.ssn", "shop", Some("orders"), &[]),
            ("users.ssn", "shop", None, &["ssn"]),
            ("shop.users.ssn", "shop", Some("users"), &["ssn"]),
            ("shop.users.ssn", "other", Some("users"), &[]),
            ("shop.users.ssn", "other", Some("shop"), &["users.ssn"]),
            ("shop.*.ssn", "shop", Some("users"), &["ssn"]),
            ("a.a.b", "a", Some("a"), &["a.b", "b"]),
            ("fs.files.name", "app", Some("fs.files"), &["name"]),
            ("*.card.0.number", "app", Some("users"), &["card.number"]),
            ("*.password", "app", None, &["password"]),
            ("users.cards.*.number", "app", Some("users"), &["cards.*.number", "cards.number"]),
            ("users.*", "app", Some("users"), &["*"]),
            ("shop.users.ssn", "app", None, &["users.ssn", "ssn"]),
        ] {
            assert_eq!(names(path, Some(database), collection), expected, "{path} in {database}.{collection:?}");
        }
        for wrong in ["", "ssn", "users.", ".ssn", "users..ssn", "users.$ssn", "users.0"] {
            assert!(wrong.parse::<FieldPath>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_match_nested_dotted_and_through_arrays() {
        let mut places = Vec::new();
        "users.card.number".parse::<FieldPath>().unwrap().within(0, None, Some("users"), &mut places);
        for (way, expected) in [
            (&["card", "number"][..], true),
            (&["card.number"], true),
            (&["cards.card.0.number"], true),
            (&["card", "$elemMatch", "number"], true),
            (&["card.$[].number", "$gt"], true),
            (&["card.number.deeper"], true),
            (&["number"], false),
            (&["card", "x", "number"], false),
            (&["card"], false),
        ] {
            let mut trail = Trail::default();
            let met = Met::none_of(1);
            let found = way.iter().any(|name| trail.push(name.as_bytes(), &places, &met));
            assert_eq!((found, met.is_met(0)), (expected, expected), "{way:?}");
        }
        let met = Met::none_of(1);
        assert!(!Trail::default().push_identified(b"x.other", &places, &met) && !met.is_met(0));
        assert!(Trail::default().push_identified(b"x.number", &places, &met) && met.is_met(0));
    }

    #[test]
    fn references_lead_to_a_place_or_above_it() {
        let mut places = Vec::new();
        "users.card.number".parse::<FieldPath>().unwrap().within(0, None, Some("users"), &mut places);
        for (reference, expected) in [
            ("$card.number", Some(0)),
            ("$cards.card.number.x", Some(0)),
            ("$$c.number", Some(0)),
            ("$card", Some(1)),
            ("$other", None),
            ("card.number", None),
            ("$$NOW", None),
        ] {
            let left = left_of(reference.as_bytes(), &places);
            assert_eq!(left.first().map(|left| left.names.len()), expected, "{reference}");
        }
    }
}
