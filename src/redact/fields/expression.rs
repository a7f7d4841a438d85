//! Expressions: which refer to a place, which give it another name, and which only say something about it.

use std::collections::BTreeSet;

use super::path::{Left, Met, Names, left_of};
use super::walk::DEPTH_MAX;
use crate::bson::{Element, Elements, Kind, find};

/// More names than these are not told apart: all that comes back is taken for values then.
const PLACES_MAX: usize = 256;

/// Operators whose outcome says nothing of a value but how it compares.
const BOOLEAN: [&[u8]; 17] = [
    b"$allElementsTrue",
    b"$and",
    b"$anyElementTrue",
    b"$cmp",
    b"$eq",
    b"$gt",
    b"$gte",
    b"$in",
    b"$isArray",
    b"$isNumber",
    b"$lt",
    b"$lte",
    b"$ne",
    b"$not",
    b"$or",
    b"$regexMatch",
    b"$type",
];

/// Stages and operators of which each field is one of its own.
const NAMING: [&[u8]; 13] = [
    b"$addFields",
    b"$facet",
    b"$geoNear",
    b"$graphLookup",
    b"$group",
    b"$let",
    b"$lookup",
    b"$merge",
    b"$project",
    b"$replaceRoot",
    b"$set",
    b"$setWindowFields",
    b"$unionWith",
];

/// Fields of stages whose fields are names that are given.
const GIVES_NAMES: [&[u8]; 4] = [b"let", b"output", b"pipeline", b"vars"];

/// Operators whose outcome has the names of what they are given.
const TAKES_OVER: [&[u8]; 8] =
    [b"$arrayElemAt", b"$cond", b"$first", b"$ifNull", b"$last", b"$mergeObjects", b"$replaceWith", b"$switch"];

/// Parts of operators of which one is the outcome.
const CHOOSES: [&[u8]; 4] = [b"branches", b"default", b"else", b"then"];

/// Operators after which names are others, or nothing is known.
const OPAQUE: [&[u8]; 3] = [b"$accumulator", b"$function", b"$objectToArray"];

/// Operators that bind names to what they go through, so that what is compared with what is not seen in one place.
const BINDS: [&[u8]; 3] = [b"$filter", b"$map", b"$reduce"];

/// Operators of which each argument is compared with the others.
const COMPARES: [&[u8]; 18] = [
    b"$cmp",
    b"$eq",
    b"$gt",
    b"$gte",
    b"$in",
    b"$indexOfArray",
    b"$indexOfBytes",
    b"$indexOfCP",
    b"$lt",
    b"$lte",
    b"$ne",
    b"$regexFind",
    b"$regexFindAll",
    b"$regexMatch",
    b"$setDifference",
    b"$setEquals",
    b"$setIntersection",
    b"$setIsSubset",
];

/// Stages that find documents by comparing two fields, and which.
const JOINS: [(&[u8], &[u8], &[u8]); 3] = [
    (b"$lookup", b"localField", b"foreignField"),
    (b"$graphLookup", b"connectFromField", b"connectToField"),
    (b"$graphLookup", b"startWith", b"connectToField"),
];

/// What looks for something in fields that it does not name.
const SEEKS: [&[u8]; 3] = [b"$search", b"$geoNear", b"startWith"];

/// Where code is.
const CODE: [&[u8]; 3] = [b"$accumulator", b"$function", b"$where"];

pub(super) fn binds(name: &[u8]) -> bool {
    BINDS.contains(&name)
}

pub(super) fn is_boolean(name: &[u8]) -> bool {
    BOOLEAN.contains(&name)
}

pub(super) fn is_naming(name: &[u8]) -> bool {
    NAMING.contains(&name)
}

/// `$name`, `$name.name`, `$$NAME.name`: nothing else that begins so, a hash of a password for one.
pub fn names_a_field(element: &Element<'_>) -> bool {
    let text = element.as_str_bytes().unwrap_or_default();
    let Some(path) = text.strip_prefix(b"$") else { return false };
    let path = path.strip_prefix(b"$").unwrap_or(path);
    path.split(|byte| *byte == b'.').all(|name| {
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        !name.is_empty() && !name[0].is_ascii_digit() && name.iter().all(is_name)
    })
}

/// The field that a value refers to, if it is a text that does, as `$name` says it.
fn reference<'a>(element: &Element<'a>, whole: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    if let Some(text) = element.as_str_bytes().filter(|text| text.starts_with(b"$")) {
        return Some(text);
    }
    // These say it without the dollar sign, or as a constant.
    if matches!(element.name, b"$getField" | b"field" | b"path") {
        let constant = element.as_document().and_then(|it| {
            Elements::readable(it).next().filter(|it| matches!(it.name, b"$const" | b"$literal" | b"value"))
        });
        let text = constant.as_ref().unwrap_or(element).as_str_bytes()?;
        *whole = [b"$", text].concat();
        return Some(whole);
    }
    None
}

/// Elements that are looked at in a command to find out what its expressions are about: beyond that anything is taken
/// to be about a place.
pub(super) const LOOKED_AT_MAX: usize = 1 << 20;

/// Whether the outcome of an expression has something of a place in it; `budget` is how many elements may be looked at.
pub(super) fn mentions(element: &Element<'_>, places: &[Names], depth: usize, budget: &mut usize) -> bool {
    if *budget == 0 {
        return true;
    }
    *budget -= 1;
    let mut whole = Vec::new();
    if let Some(reference) = reference(element, &mut whole) {
        *budget = budget.saturating_sub(places.len());
        return !left_of(reference, places).is_empty();
    }
    if !element.kind.is_container() || depth == DEPTH_MAX {
        return false;
    }
    Elements::readable(element.value)
        .any(|inner| !is_boolean(inner.name) && mentions(&inner, places, depth + 1, budget))
}

/// Looks through a command's pipelines and projections.
pub(super) struct Scan<'m> {
    pub(super) places: Vec<Names>,
    /// Those of them that have values of the fields, not only something that is made of them.
    values: Vec<Names>,
    met: &'m Met,
    pub(super) is_whole: bool,
    pub(super) refers: bool,
    /// See [`Asked`](super::Asked).
    pub(super) runs_code: bool,
    pub(super) seeks: bool,
    pub(super) is_near: bool,
    /// There is more in it than is looked at, so that anything may have the value of a place.
    pub(super) is_cut: bool,
    before: usize,
    /// Steps that are still gone: elements, and places that a name is held against.
    budget: usize,
}

/// Where a scan is.
#[derive(Clone, Copy, Default)]
struct At<'a> {
    /// The name that is given to what is there.
    output: Option<&'a [u8]>,
    /// There are names within that: where in it a value is is not known.
    is_deep: bool,
    /// What is there takes the place of the document.
    is_root: bool,
    /// The same, under names that are made up on the way.
    is_anything: bool,
    /// What comes of it only says how something compares.
    is_boolean: bool,
    depth: usize,
}

impl<'m> Scan<'m> {
    pub(super) fn new(places: Vec<Names>, met: &'m Met) -> Self {
        let before = places.len();
        let (is_whole, refers, runs_code, seeks, is_near, is_cut) = Default::default();
        let (values, budget) = (places.clone(), LOOKED_AT_MAX);
        Self { places, values, met, is_whole, refers, runs_code, seeks, is_near, is_cut, before, budget }
    }

    /// Takes anything for values.
    pub(super) fn give_up(&mut self) {
        (self.is_whole, self.refers, self.is_cut) = (true, true, true);
    }

    /// Whether so many steps more are gone.
    fn pays(&mut self, steps: usize) -> bool {
        self.budget = self.budget.saturating_sub(steps);
        if self.budget == 0 {
            self.give_up();
        }
        !self.is_cut
    }

    /// Whether names were added since it was asked last.
    pub(super) fn has_grown(&mut self) -> bool {
        let has_grown = self.places.len() > self.before;
        self.before = self.places.len();
        has_grown
    }

    /// What the reference leads to is given by itself.
    pub(super) fn give_at_top(&mut self, reference: &[u8]) {
        let left = left_of(reference, &self.places);
        left.iter().for_each(|left| left.meet(self.met));
        let left: Vec<Names> = left.iter().map(|left| left.under(b"", false)).collect();
        for names in left {
            if names.is_empty() { self.is_whole = true } else { self.add(names) }
        }
    }

    fn add(&mut self, names: Names) {
        if self.places.contains(&names) {
            return;
        }
        if names.is_empty() {
            // What is called by a number is not told from a place in an array.
            self.is_whole = true;
        } else if self.places.len() < PLACES_MAX {
            self.places.push(names);
        } else {
            self.give_up();
        }
    }

    /// Takes a part of a command.
    pub(super) fn part(&mut self, part: &Element<'_>) {
        // Values, in which nothing refers to anything.
        if matches!(part.name, b"documents" | b"$db" | b"lsid" | b"$clusterTime") {
            return;
        }
        let at = At { depth: 0, ..At::default() };
        self.walk(part, at);
    }

    fn walk<'a>(&mut self, element: &Element<'a>, at: At<'a>) {
        if !self.pays(1) {
            return;
        }
        // Before anything is said of what it is about: that may be a field by its name.
        self.is_whole |= OPAQUE.contains(&element.name);
        self.runs_code |= CODE.contains(&element.name) || element.kind == Kind::Code;
        self.seeks |= SEEKS.contains(&element.name);
        let mut whole = Vec::new();
        if let Some(reference) = reference(element, &mut whole) {
            return self.reference(reference, at);
        }
        if !element.kind.is_container() || at.depth == DEPTH_MAX {
            return;
        }
        self.compared(element);
        let is_array = element.kind == Kind::Array;
        for inner in Elements::readable(element.value) {
            let below = if is_array { At { depth: at.depth + 1, ..at } } else { below(&inner, at) };
            self.walk(&inner, below);
        }
    }

    /// What is compared with a place has its value, where it is the same.
    fn compared(&mut self, element: &Element<'_>) {
        if COMPARES.contains(&element.name) {
            let mut names = Vec::new();
            references(element, 0, &mut self.budget, &mut names);
            self.equate(&names);
        }
        for (_, one, other) in JOINS.iter().filter(|(stage, ..)| *stage == element.name) {
            let Some((one, other)) = find(element.value, one).zip(find(element.value, other)) else { continue };
            let mut names: Vec<_> = other.as_str_bytes().map(|name| [b"$", name].concat()).into_iter().collect();
            match one.as_str_bytes() {
                Some(name) if !name.starts_with(b"$") => names.push([b"$", name].concat()),
                _ => references(&one, 0, &mut self.budget, &mut names),
            }
            self.equate(&names);
        }
        if element.name == b"$geoNear" {
            let key = find(element.value, b"key").and_then(|key| key.as_str_bytes());
            // Without it any place may be meant.
            let left = key.map(|key| left_of(&[b"$", key].concat(), &self.places));
            self.is_near |= left.as_ref().is_none_or(|left| !left.is_empty());
            let includes = find(element.value, b"includeLocs").and_then(|it| it.as_str_bytes());
            let whole: Vec<Left<'_>> = self.places.iter().map(Left::whole).collect();
            let names = includes.zip(left.unwrap_or(whole).first()).map(|(name, left)| left.under(name, true));
            names.into_iter().for_each(|names| self.add_same(names));
        }
    }

    fn equate(&mut self, references: &[Vec<u8>]) {
        for one in references {
            if !self.pays(self.places.len()) {
                return;
            }
            let left: Vec<Names> = left_of(one, &self.places).iter().map(|left| left.under(b"", false)).collect();
            for left in left {
                // Each is held against those that are known.
                if !self.pays(references.len() * self.places.len()) {
                    return;
                }
                let others = references.iter().filter(|other| *other != one);
                others.for_each(|other| self.add_same(left.under(name_of(other))));
            }
        }
    }

    /// What a place is made of has its value before.
    fn made_of(&mut self, reference: &[u8], at: At<'_>) {
        let Some(output) = at.output.filter(|_| !at.is_boolean) else { return };
        let into = left_of(&[b"$", output].concat(), &self.values);
        let same: Vec<Names> = into.iter().map(|left| left.under(name_of(reference), at.is_deep)).collect();
        same.into_iter().for_each(|names| self.add_same(names));
    }

    /// Adds what has the value of a place.
    fn add_same(&mut self, names: Names) {
        if !names.is_empty() && !self.is_cut {
            if !self.values.contains(&names) && self.values.len() < PLACES_MAX {
                self.values.push(names.clone());
            }
            self.add(names);
        }
    }

    fn reference(&mut self, reference: &[u8], at: At<'_>) {
        if !self.pays(self.places.len() + self.values.len()) {
            return;
        }
        self.made_of(reference, at);
        let left = left_of(reference, &self.places);
        if left.is_empty() {
            return;
        }
        left.iter().for_each(|left| left.meet(self.met));
        self.refers = true;
        if at.is_boolean {
            return;
        }
        if at.is_anything {
            self.is_whole = true;
        } else if at.is_root {
            self.give_at_top(reference);
        } else if let Some(output) = at.output {
            let given: Vec<Names> = left.iter().map(|left| left.under(output, at.is_deep)).collect();
            given.into_iter().for_each(|names| self.add(names));
        }
    }
}

/// The fields that the arguments of an operator refer to, but for those of other comparisons in it.
fn references(element: &Element<'_>, depth: usize, budget: &mut usize, to: &mut Vec<Vec<u8>>) {
    *budget = budget.saturating_sub(1);
    let mut whole = Vec::new();
    if *budget == 0 {
        // What is compared is not asked then.
    } else if let Some(reference) = reference(element, &mut whole) {
        to.push(reference.to_vec());
    } else if element.kind.is_container() && depth < DEPTH_MAX && !(depth > 0 && is_boolean(element.name)) {
        Elements::readable(element.value).for_each(|inner| references(&inner, depth + 1, budget, to));
    }
}

/// The operators, and the fields that are referred to, but for what is said to be a constant.
pub(super) fn named(element: &Element<'_>, depth: usize, to: &mut BTreeSet<Vec<u8>>) {
    let mut add = |name: &[u8]| {
        if to.len() < NAMED_MAX && !to.contains(name) {
            to.insert(name.to_vec());
        }
    };
    if element.name.first() == Some(&b'$') {
        add(element.name);
    }
    if matches!(element.name, b"$const" | b"$literal") {
        return;
    }
    if names_a_field(element) {
        add(element.as_str_bytes().unwrap_or_default());
    }
    if element.kind.is_container() && depth < DEPTH_MAX {
        Elements::readable(element.value).for_each(|inner| named(&inner, depth + 1, to));
    }
}

/// As many are known of a command: others are taken for values.
const NAMED_MAX: usize = 256;

/// The name by which others know what is referred to: that of a variable counts where nothing of it is meant.
fn name_of(reference: &[u8]) -> &[u8] {
    let name = reference.strip_prefix(b"$").unwrap_or(reference);
    let Some(variable) = name.strip_prefix(b"$") else { return name };
    let dot = variable.iter().position(|byte| *byte == b'.');
    dot.map_or(variable, |dot| &variable[dot + 1..])
}

/// Where the value of a field of a document is.
fn below<'a>(element: &Element<'a>, at: At<'a>) -> At<'a> {
    let name = element.name;
    let at = At { depth: at.depth + 1, ..at };
    let anew = At { depth: at.depth, ..At::default() };
    match name {
        _ if at.is_anything => At { is_boolean: at.is_boolean || is_boolean(name), ..at },
        b"$replaceRoot" | b"$replaceWith" | b"newRoot" => At { is_root: true, ..anew },
        b"$sortByCount" | b"groupBy" => At { output: Some(b"_id"), ..anew },
        // It stays what it is called.
        b"$unwind" | b"$match" => At { is_boolean: true, ..anew },
        // Their names are not seen outside.
        b"$let" | b"output" | b"vars" if at.output.is_some() => At { is_deep: true, ..at },
        _ if is_boolean(name) => At { is_boolean: true, ..at },
        [b'$', ..] if at.is_root && !TAKES_OVER.contains(&name) => At { is_anything: true, ..at },
        _ if is_naming(name) || GIVES_NAMES.contains(&name) => anew,
        [b'$', ..] => at,
        _ if CHOOSES.contains(&name) && (at.output.is_some() || at.is_root) => at,
        _ => At { output: at.output.or(Some(name)), is_deep: at.output.is_some(), is_root: false, ..at },
    }
}
