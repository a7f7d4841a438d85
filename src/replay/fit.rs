//! Whether a live request is a recorded one, leaf by leaf: what must be bound for it to be, and what was overlooked.
//!
//! Both are looked at as they came. A value is the recorded one if it is equal and stands for nothing else, or stands for
//! it already; or if it is fresh, in the value of a write, and the recorded one was born there.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::bindings::{Bindings, NamedPair, is_told_apart};
use super::counted::{counted, is_cluster_time, is_computed_time, is_varying, order_counts};
use super::difference::{Difference, shown, shown_recorded};
use super::explain::{Note, Why};
use super::recording::{Birth, Number, Recording};
use crate::bson::{Element, Elements, Kind};
use crate::capture::names::{Value, is_within, relative, texts, value_of, write_values};

/// What follows if a live request is taken for a recorded one.
#[derive(Clone, Debug, Default)]
pub(super) struct Fit {
    /// Live values and the recorded ones that they stand for from now on.
    pub(super) binds: Vec<(Value, Value)>,
    pub(super) named: Vec<NamedPair>,
    /// Exchanges that are taken for each other from now on: the first was used and is not what it was taken for.
    pub(super) swaps: Vec<(Number, Number)>,
    /// Recorded values that were bound before.
    pub(super) known: Vec<Value>,
    /// Live values that still lead to a recorded one for which a later one stands: they stand for it again.
    pub(super) back: Vec<Value>,
    pub(super) notes: BTreeSet<Note>,
}

/// A place where a live request is not a recorded one.
pub(super) struct Differs<'d> {
    /// The names and positions that lead there.
    pub(super) path: Vec<&'d [u8]>,
    pub(super) live: Option<Element<'d>>,
    pub(super) recorded: Option<Element<'d>>,
    /// The same for people.
    pub(super) shown: Difference,
}

/// What a live request is held against.
pub(super) struct Fitting<'a> {
    pub(super) recording: &'a Recording,
    pub(super) bindings: &'a Bindings,
    /// Whether an exchange may be taken for another one after the fact.
    pub(super) may_swap: &'a dyn Fn(Number, Number) -> bool,
    /// Whether the recorded exchange is used a second time: what was born there is born again.
    pub(super) again: bool,
    /// When each was asked, in milliseconds since 1970: here, and in the recording.
    pub(super) at: (i64, i64),
}

impl Fitting<'_> {
    /// Holds a live command against a recorded one; `None` if it is another.
    pub(super) fn fit(&self, live: &[u8], recorded: &[u8]) -> Option<Fit> {
        let mut walk = Walk::new(self, live, recorded);
        let (ours, theirs) = (counted(live).collect::<Vec<_>>(), counted(recorded).collect::<Vec<_>>());
        if ours.first().map(|it| it.name) != theirs.first().map(|it| it.name) {
            return None;
        }
        walk.fields(&ours, &theirs, false, false).then_some(())?;
        for element in Elements::readable(live).chain(Elements::readable(recorded)).filter(is_varying) {
            walk.note_at(element.name, Why::Varies);
        }
        Some(walk.fit)
    }

    /// Where a live command is not the recorded one, the first `most` places.
    pub(super) fn differences<'d>(&self, live: &'d [u8], recorded: &'d [u8], most: usize) -> Vec<Differs<'d>> {
        let mut walk = Walk::new(self, live, recorded);
        walk.differences = Some((Vec::new(), most));
        let (ours, theirs) = (counted(live).collect::<Vec<_>>(), counted(recorded).collect::<Vec<_>>());
        walk.fields(&ours, &theirs, false, false);
        walk.differences.map(|(found, _)| found).unwrap_or_default()
    }
}

struct Walk<'a, 'd> {
    context: &'a Fitting<'a>,
    /// Where values can be born in each.
    births: (Vec<Range<usize>>, Vec<Range<usize>>),
    fit: Fit,
    /// The binds of `fit` by either side, and its swaps by where they begin and end.
    bound: (HashMap<Value, Value>, HashMap<Value, Value>),
    swapped: (HashMap<Number, Number>, HashMap<Number, Number>),
    path: Vec<&'d [u8]>,
    /// Where the two differ and how many such places are wanted, if they are: then the walk goes on after the first.
    differences: Option<(Vec<Differs<'d>>, usize)>,
}

impl<'a, 'd> Walk<'a, 'd> {
    fn new(context: &'a Fitting<'a>, live: &'d [u8], recorded: &'d [u8]) -> Self {
        let births = |command| write_values(command).iter().map(|it| it.offset..it.offset + it.value.len()).collect();
        let births = (births(live), births(recorded));
        let (bound, swapped) = Default::default();
        Self { context, births, fit: Fit::default(), bound, swapped, path: Vec::new(), differences: None }
    }

    /// Here the two differ: whether the walk goes on all the same.
    fn differ(&mut self, our: Option<&Element<'d>>, their: Option<&Element<'d>>) -> bool {
        let shown = self.differences.as_ref().map(|_| self.shown_difference(our, their));
        let (path, live, recorded) = (self.path.clone(), our.copied(), their.copied());
        let (Some((found, most)), Some(shown)) = (&mut self.differences, shown) else { return false };
        if found.len() < *most {
            found.push(Differs { path, live, recorded, shown });
        }
        found.len() < *most
    }

    /// Both values: recorded ones as their file has them, and beside an identity what stands for it, or what it stands for.
    fn shown_difference(&self, our: Option<&Element<'d>>, their: Option<&Element<'d>>) -> Difference {
        let there = self.context.at.1;
        let kinds = our.zip(their).filter(|(our, their)| our.kind != their.kind);
        let first = their.map(|their| {
            let live = value_of(their).filter(|value| self.births_of(*value).is_some()).map(|value| {
                let live = self.bound.1.get(&value).copied().or_else(|| self.context.bindings.live(value));
                live.map_or_else(|| NOT_MADE.to_owned(), |live| format!("{} in this run", shown_value(live)))
            });
            beside(shown_recorded(their, there), live.or_else(|| kinds.and_then(|_| type_of(their))))
        });
        let second = our.map(|our| {
            let known = value_of(our).and_then(|value| self.stands_for(value)).map(|known| {
                let mut bytes = Vec::new();
                format!("which stands for {}", shown_recorded(&element_of(known, &mut bytes), there))
            });
            beside(shown(our), known.or_else(|| kinds.and_then(|_| type_of(our))))
        });
        Difference { path: self.shown_path(), first, second }
    }

    fn fields(&mut self, ours: &[Element<'d>], theirs: &[Element<'d>], ordered: bool, exact: bool) -> bool {
        let (ours, theirs) = (self.that_count(ours), self.that_count(theirs));
        let same_names = ours.iter().zip(&theirs).all(|(our, their)| our.name == their.name);
        if same_names && ours.len() == theirs.len() {
            return ours.iter().zip(&theirs).all(|(our, their)| self.field(our, their, exact));
        }
        if self.differences.is_none() && (ours.len() != theirs.len() || ordered) {
            return false;
        }
        // The order of a command's own fields is the driver's.
        if !self.path.is_empty() {
            self.note(Why::Order);
        }
        let named = |elements: &[Element<'d>], name: &[u8]| {
            let mut same_name = elements.iter().filter(|it| it.name == name);
            let first = same_name.next().copied();
            first.filter(|_| same_name.next().is_none())
        };
        theirs.iter().all(|their| match named(&ours, their.name) {
            Some(our) => self.field(&our, their, exact),
            None => self.differ_at(None, Some(their)),
        }) && ours.iter().filter(|our| named(&theirs, our.name).is_none()).all(|our| self.differ_at(Some(our), None))
            && (!ordered || self.differences.as_ref().is_some_and(|(found, _)| !found.is_empty()))
    }

    fn differ_at(&mut self, our: Option<&Element<'d>>, their: Option<&Element<'d>>) -> bool {
        let Some(name) = our.or(their).map(|it| it.name) else { return true };
        self.path.push(name);
        let goes_on = self.differ(our, their);
        self.path.pop();
        goes_on
    }

    fn that_count(&mut self, elements: &[Element<'d>]) -> Vec<Element<'d>> {
        let mut kept = Vec::with_capacity(elements.len());
        for element in elements {
            if is_cluster_time(&self.path, element) {
                self.note_at(element.name, Why::Varies);
                continue;
            }
            self.path.push(element.name);
            if self.context.recording.settings.ignore.hold(&self.path) {
                self.note(Why::Ignored);
            } else {
                kept.push(*element);
            }
            self.path.pop();
        }
        kept
    }

    fn field(&mut self, our: &Element<'d>, their: &Element<'d>, exact: bool) -> bool {
        self.path.push(our.name);
        let before = self.differences.as_ref().map_or(0, |(found, _)| found.len());
        let mut fits = self.element(our, their, exact);
        // What is inside says better where.
        if !fits && self.differences.as_ref().is_some_and(|(found, most)| found.len() == before && before < *most) {
            fits = self.differ(Some(our), Some(their));
        }
        self.path.pop();
        fits
    }

    fn element(&mut self, our: &Element<'d>, their: &Element<'d>, exact: bool) -> bool {
        let settings = &self.context.recording.settings;
        let exact = exact || settings.exact.hold(&self.path);
        if our.kind != their.kind {
            return false;
        }
        if !exact && settings.bind.hold(&self.path) {
            return self.named(our, their);
        }
        match (our.elements(), their.elements()) {
            (Some(Ok(ours)), Some(Ok(theirs))) => {
                let (ours, theirs) = (ours.map_while(Result::ok), theirs.map_while(Result::ok));
                let ordered = order_counts(&self.path, our);
                self.fields(&ours.collect::<Vec<_>>(), &theirs.collect::<Vec<_>>(), ordered, exact)
            }
            _ => self.leaf(our, their, exact),
        }
    }

    fn leaf(&mut self, our: &Element<'d>, their: &Element<'d>, exact: bool) -> bool {
        if let (Some(live), Some(recorded)) = (value_of(our), value_of(their)) {
            // Two types of binary hold a UUID.
            let same_type = our.kind != Kind::Binary || our.value.get(4) == their.value.get(4);
            return same_type && self.value((live, our.offset), (recorded, their.offset), exact);
        }
        if our.value == their.value && (our.kind != Kind::String || texts(text(our)).next().is_none()) {
            return true;
        }
        if our.kind == Kind::String {
            return self.text(our, their, exact)
                || !exact && self.context.bindings.named_recorded(our.kind, our.value) == Some(their.value) && {
                    self.note(Why::Bound);
                    true
                };
        }
        if exact {
            return our.value == their.value;
        }
        if self.path.len() == 1 && our.name == b"maxTimeMS" && (is_computed_time(our) || is_computed_time(their)) {
            self.note(Why::Computed);
            return true;
        }
        if self.context.bindings.named_recorded(our.kind, our.value) == Some(their.value) {
            self.note(Why::Bound);
            return true;
        }
        our.value == their.value
    }

    /// Texts are the same but for the values in them, which must be the same in turn.
    fn text(&mut self, our: &Element<'d>, their: &Element<'d>, exact: bool) -> bool {
        let (ours, theirs) = (text(our), text(their));
        let (values, recorded) = (texts(ours).collect::<Vec<_>>(), texts(theirs).collect::<Vec<_>>());
        let around = |text: &'d [u8], values: &[(Range<usize>, Value)]| {
            let mut rest = 0;
            let mut parts = Vec::new();
            for (place, _) in values {
                parts.push(text.get(rest..place.start).unwrap_or_default());
                rest = place.end;
            }
            parts.push(text.get(rest..).unwrap_or_default());
            parts
        };
        if around(ours, &values) != around(theirs, &recorded) {
            return false;
        }
        let pairs = values.iter().zip(&recorded);
        pairs
            .into_iter()
            .all(|((_, live), (_, recorded))| self.value((*live, our.offset), (*recorded, their.offset), exact))
    }

    /// Whether a live value is a recorded one; each with where it stands.
    fn value(
        &mut self,
        (live, our_place): (Value, usize),
        (recorded, their_place): (Value, usize),
        exact: bool,
    ) -> bool {
        if exact {
            return live == recorded;
        }
        let is_birth = is_within(&self.births.0, our_place) && is_within(&self.births.1, their_place);
        if let (Value::Date(live), Value::Date(recorded)) = (live, recorded) {
            return self.date(live, recorded, is_birth);
        }
        match self.stands_for(live) {
            Some(known) if known == recorded => {
                self.fit.known.push(recorded);
                if !self.bound.0.contains_key(&live) && self.is_displaced(live, recorded) {
                    self.fit.back.push(live);
                }
                if live != recorded {
                    self.note(Why::Bound);
                }
                true
            }
            Some(known) => self.swap(known, recorded),
            None if live == recorded => {
                self.is_free(recorded) && {
                    if is_birth && self.births_of(recorded).is_some() {
                        self.add_bind(live, recorded);
                    }
                    true
                }
            }
            None => is_birth && self.bind(live, recorded),
        }
    }

    fn bind(&mut self, live: Value, recorded: Value) -> bool {
        let births = &self.context.recording.index.births;
        let same_type = std::mem::discriminant(&live) == std::mem::discriminant(&recorded);
        // A live value that the recording knows is not fresh.
        if !same_type || births.has(&live) || !births.has(&recorded) || !self.is_free(recorded) {
            return false;
        }
        self.add_bind(live, recorded);
        self.note(Why::Bound);
        true
    }

    /// What a live value stands for, with what this request is about to change.
    fn stands_for(&self, live: Value) -> Option<Value> {
        let pending = self.bound.0.get(&live).copied();
        let known = pending.or_else(|| self.context.bindings.recorded(live))?;
        let swapped = self.births_of(known).and_then(|birth| {
            let other = self.swapped.0.get(&birth.exchange)?;
            self.context.recording.index.born.get(other)?.get(birth.place as usize).copied()
        });
        Some(swapped.unwrap_or(known))
    }

    /// Whether nothing stands for a recorded value, or what does gives way.
    fn is_free(&self, recorded: Value) -> bool {
        let pending = self.bound.1.contains_key(&recorded);
        !pending && (self.context.again || self.context.bindings.live(recorded).is_none())
    }

    fn add_bind(&mut self, live: Value, recorded: Value) {
        self.fit.binds.push((live, recorded));
        self.bound.0.insert(live, recorded);
        self.bound.1.insert(recorded, live);
    }

    /// Whether an exchange that was used again has another live value stand for a recorded one.
    fn is_displaced(&self, live: Value, recorded: Value) -> bool {
        let bindings = self.context.bindings;
        bindings.recorded(live) == Some(recorded) && bindings.live(recorded) != Some(live)
    }

    /// Of two exchanges that are alike, the other may be what was asked here.
    fn swap(&mut self, known: Value, recorded: Value) -> bool {
        let (Some(one), Some(other)) = (self.births_of(known), self.births_of(recorded)) else { return false };
        let index = &self.context.recording.index;
        let written = |birth: Birth| index.entry(birth.exchange).map(|entry| (entry.masked, entry.written));
        let alike = one.place == other.place && one.exchange != other.exchange && written(one) == written(other);
        let taken = self.swapped.0.contains_key(&one.exchange) || self.swapped.1.contains_key(&other.exchange);
        if !alike || taken || !(self.context.may_swap)(one.exchange, other.exchange) {
            return false;
        }
        self.fit.swaps.push((one.exchange, other.exchange));
        self.swapped.0.insert(one.exchange, other.exchange);
        self.swapped.1.insert(other.exchange, one.exchange);
        self.fit.known.push(recorded);
        self.note(Why::Bound);
        true
    }

    fn births_of(&self, recorded: Value) -> Option<Birth> {
        self.context.recording.index.births.get(&recorded).copied()
    }

    /// Dates as far from their exchanges' times, or one that stands for the other. Several may stand for one, and one for
    /// several: a clock may have stood still.
    fn date(&mut self, live: i64, recorded: i64, is_birth: bool) -> bool {
        let (here, there) = self.context.at;
        if live == recorded {
            return true;
        }
        let (ours, theirs) = (Value::Date(live), Value::Date(recorded));
        let stands = self.context.bindings.recorded(ours) == Some(theirs)
            || self.context.bindings.live(theirs) == Some(ours)
            || self.bound.0.get(&ours) == Some(&theirs);
        let tolerance = i64::try_from(self.context.recording.settings.date_tolerance.as_millis()).unwrap_or(i64::MAX);
        let far = live.saturating_sub(here).saturating_sub(recorded.saturating_sub(there)).saturating_abs();
        if !stands && (relative(recorded, there).is_none() || far > tolerance) {
            return false;
        }
        if is_birth && self.births_of(theirs).is_some() && !stands {
            self.add_bind(ours, theirs);
        }
        self.note(if stands { Why::Bound } else { Why::Date });
        true
    }

    /// A value at a place that `[replay] bind` names: it may be any other, but what is known to stand for one of the
    /// recording stands for no other.
    fn named(&mut self, our: &Element<'d>, their: &Element<'d>) -> bool {
        let fits = match (value_of(our), value_of(their)) {
            (Some(live @ Value::Date(_)), Some(recorded)) => {
                if self.stands_for(live) != Some(recorded) {
                    self.add_bind(live, recorded);
                }
                true
            }
            (Some(live), Some(recorded)) => self.named_identity(live, recorded),
            _ => self.named_bytes(our, their),
        };
        if fits {
            self.note(Why::Bound);
        }
        fits
    }

    fn named_identity(&mut self, live: Value, recorded: Value) -> bool {
        match self.stands_for(live) {
            Some(known) if known == recorded => true,
            Some(known) => self.swap(known, recorded),
            None if live != recorded && self.births_of(live).is_some() => false,
            None => {
                self.is_free(recorded) && {
                    self.add_bind(live, recorded);
                    true
                }
            }
        }
    }

    fn named_bytes(&mut self, our: &Element<'d>, their: &Element<'d>) -> bool {
        let bindings = self.context.bindings;
        let (known, other) =
            (bindings.named_recorded(our.kind, our.value), bindings.named_live(their.kind, their.value));
        if known == Some(their.value) {
            return true;
        }
        // Short ones are too often the same by chance.
        let is_taken = known.is_some() || other.is_some() && !self.context.again;
        if is_taken && is_told_apart(our) {
            return false;
        }
        let (live, recorded) = (our.value.to_vec(), their.value.to_vec());
        self.fit.named.push(NamedPair { kind: our.kind, live, recorded });
        true
    }

    fn note_at(&mut self, name: &'d [u8], why: Why) {
        self.path.push(name);
        self.note(why);
        self.path.pop();
    }

    fn note(&mut self, why: Why) {
        // What is not kept need not be said.
        if self.context.recording.settings.explain {
            self.fit.notes.insert(Note { path: self.shown_path(), why });
        }
    }

    fn shown_path(&self) -> String {
        self.path.iter().map(|step| String::from_utf8_lossy(step)).collect::<Vec<_>>().join(".")
    }
}

/// What is said of a value that the client has not made so far.
const NOT_MADE: &str = "not made in this run";

/// `7 (an int32)`
fn beside(shown: String, more: Option<String>) -> String {
    match more {
        Some(more) => format!("{shown} ({more})"),
        None => shown,
    }
}

/// The type of a number, which its digits may not tell.
fn type_of(element: &Element<'_>) -> Option<String> {
    let name = match element.kind {
        Kind::Int32 => "an int32",
        Kind::Int64 => "an int64",
        Kind::Double => "a double",
        Kind::Decimal128 => "a decimal128",
        _ => return None,
    };
    Some(name.to_owned())
}

/// A value as an element, of those bytes.
fn element_of(value: Value, bytes: &mut Vec<u8>) -> Element<'_> {
    let kind = match value {
        Value::ObjectId(id) => {
            bytes.extend_from_slice(&id);
            Kind::ObjectId
        }
        Value::Uuid(id) => {
            bytes.extend_from_slice(&16_i32.to_le_bytes());
            bytes.push(4);
            bytes.extend_from_slice(&id);
            Kind::Binary
        }
        Value::Date(millis) => {
            bytes.extend_from_slice(&millis.to_le_bytes());
            Kind::DateTime
        }
    };
    Element { kind, name: b"v", value: bytes, offset: 0 }
}

fn shown_value(value: Value) -> String {
    shown(&element_of(value, &mut Vec::new()))
}

fn text<'d>(element: &Element<'d>) -> &'d [u8] {
    element.as_str_bytes().unwrap_or_default()
}
