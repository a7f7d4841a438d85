//! Which live value stands for which recorded one, and documents with the ones in the place of the others.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use crate::bson::write::{begin, end, put_name};
use crate::bson::{Element, Elements, Kind};
use crate::capture::names::{Value, leaves, texts, value_of};

/// Values of this run and of the recording, one to one but where an exchange is used again: then the latest live value
/// stands for the recorded one, and those before it still lead there.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    to_recorded: HashMap<Value, Value>,
    to_live: HashMap<Value, Value>,
    /// Live values for which others stand now, with what stood for the recorded ones together with them.
    displaced: HashMap<Value, Arc<[(Value, Value)]>>,
    named: Named,
}

/// Values at places that `[replay] bind` names, by type and bytes.
#[derive(Debug, Default)]
struct Named {
    to_recorded: HashMap<(Kind, Vec<u8>), Vec<u8>>,
    to_live: HashMap<(Kind, Vec<u8>), Vec<u8>>,
}

/// A value at a place that `[replay] bind` names, and the recorded one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NamedPair {
    pub(super) kind: Kind,
    pub(super) live: Vec<u8>,
    pub(super) recorded: Vec<u8>,
}

impl Bindings {
    pub(super) fn recorded(&self, live: Value) -> Option<Value> {
        self.to_recorded.get(&live).copied()
    }

    pub(super) fn live(&self, recorded: Value) -> Option<Value> {
        self.to_live.get(&recorded).copied()
    }

    pub(super) fn bind(&mut self, live: Value, recorded: Value) {
        self.to_recorded.insert(live, recorded);
        self.to_live.insert(recorded, live);
    }

    /// Binds what one request binds, and keeps together what gives way to it.
    pub(super) fn bind_all(&mut self, pairs: &[(Value, Value)]) {
        let before = |(live, recorded): &(Value, Value)| {
            let other = self.live(*recorded).filter(|other| other != live)?;
            Some((other, *recorded))
        };
        let displaced: Arc<[_]> = pairs.iter().filter_map(before).collect();
        for (live, _) in displaced.iter() {
            self.displaced.insert(*live, displaced.clone());
        }
        for (live, recorded) in pairs {
            self.displaced.remove(live);
            self.bind(*live, *recorded);
        }
    }

    /// Has a live value, and what was bound together with it, stand again for what it still leads to.
    pub(super) fn bring_back(&mut self, live: Value) {
        if let Some(pairs) = self.displaced.get(&live).cloned() {
            self.bind_all(&pairs);
        }
    }

    /// Has what stands for `from` stand for `to` instead.
    pub(super) fn rebind(&mut self, from: Value, to: Value) {
        if let Some(live) = self.to_live.remove(&from) {
            self.bind(live, to);
        }
    }

    /// What stands for `one` and `other` changes places.
    pub(super) fn swap(&mut self, one: Value, other: Value) {
        let (first, second) = (self.to_live.remove(&one), self.to_live.remove(&other));
        if let Some(live) = first {
            self.bind(live, other);
        }
        if let Some(live) = second {
            self.bind(live, one);
        }
    }

    /// The recorded value that a live one stands for at a named place.
    pub(super) fn named_recorded(&self, kind: Kind, live: &[u8]) -> Option<&[u8]> {
        self.named.to_recorded.get(&(kind, live.to_vec())).map(Vec::as_slice)
    }

    /// The live value that stands for a recorded one at a named place.
    pub(super) fn named_live(&self, kind: Kind, recorded: &[u8]) -> Option<&[u8]> {
        self.named.to_live.get(&(kind, recorded.to_vec())).map(Vec::as_slice)
    }

    pub(super) fn bind_named(&mut self, pair: NamedPair) {
        let NamedPair { kind, live, recorded } = pair;
        self.named.to_live.insert((kind, recorded.clone()), live.clone());
        self.named.to_recorded.insert((kind, live), recorded);
    }

    /// A live document with recorded values.
    pub(super) fn to_recorded<'d>(&self, live: &'d [u8]) -> Cow<'d, [u8]> {
        let document = match self.to_recorded.is_empty() {
            true => Cow::Borrowed(live),
            false => Cow::Owned(translated(live, &mut |value| self.recorded(value))),
        };
        match self.named.to_recorded.is_empty() {
            true => document,
            false => Cow::Owned(replaced(document.into_owned(), &self.named.to_recorded)),
        }
    }

    /// A recorded document with live values, where `live` gives what stands for a recorded one.
    pub(super) fn to_live(&self, recorded: &[u8], live: &mut dyn FnMut(Value) -> Option<Value>) -> Vec<u8> {
        let document = match self.to_live.is_empty() {
            true => recorded.to_vec(),
            false => translated(recorded, live),
        };
        replaced(document, &self.named.to_live)
    }
}

/// The document with other values in place of those for which `other` gives one, and of their texts.
fn translated(document: &[u8], other: &mut dyn FnMut(Value) -> Option<Value>) -> Vec<u8> {
    let mut out = document.to_vec();
    for element in Elements::readable(document) {
        leaves(&element, &mut |leaf| translate(leaf, &mut out, other));
    }
    out
}

/// Values that stand for each other are of the same type, and so of the same length.
fn translate(leaf: &Element<'_>, out: &mut [u8], other: &mut dyn FnMut(Value) -> Option<Value>) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = out.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    if let Some(value) = value_of(leaf) {
        match other(value) {
            Some(Value::ObjectId(bytes)) => put(leaf.offset, &bytes),
            Some(Value::Uuid(bytes)) => put(leaf.offset + leaf.value.len() - bytes.len(), &bytes),
            Some(Value::Date(millis)) => put(leaf.offset, &millis.to_le_bytes()),
            None => {}
        }
        return;
    }
    let Some(text) = leaf.as_str_bytes().filter(|_| leaf.kind == Kind::String) else { return };
    for (place, value) in texts(text) {
        if let Some(text) = other(value).and_then(Value::to_text) {
            put(leaf.offset + 4 + place.start, text.as_bytes());
        }
    }
}

/// Shorter values than that are not looked for where they are not named: too many things are 1, or true.
const TOLD_APART: usize = 8;

/// Whether a value that is not an identity is long enough to be known again.
pub(super) fn is_told_apart(element: &Element<'_>) -> bool {
    matches!(element.kind, Kind::String | Kind::Binary) && element.value.len() >= TOLD_APART + 5
}

/// The document with other values in place of those that were bound by name. Strings, binaries and the like are told
/// anywhere if they are long enough.
fn replaced(document: Vec<u8>, values: &HashMap<(Kind, Vec<u8>), Vec<u8>>) -> Vec<u8> {
    if values.is_empty() {
        return document;
    }
    let other = |element: &Element<'_>| match is_told_apart(element) {
        true => values.get(&(element.kind, element.value.to_vec())).cloned(),
        false => None,
    };
    rebuilt(&document, &other, 0)
}

fn rebuilt(document: &[u8], other: &dyn Fn(&Element<'_>) -> Option<Vec<u8>>, depth: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(document.len());
    let start = begin(&mut out);
    for element in Elements::readable(document) {
        put_name(element.kind, element.name, &mut out);
        if element.kind.is_container() && depth < crate::bson::walk::DEPTH_MAX {
            out.extend_from_slice(&rebuilt(element.value, other, depth + 1));
        } else {
            out.extend_from_slice(other(&element).as_deref().unwrap_or(element.value));
        }
    }
    end(start, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;
    use bson::raw::RawDocumentBuf;
    use bson::spec::BinarySubtype;
    use bson::{Binary, DateTime, rawdoc};

    use super::*;

    fn document(id: u8, uuid: u8, date: i64, token: &str) -> RawDocumentBuf {
        let oid = ObjectId::from_bytes([id; 12]);
        let text = Value::Uuid([uuid; 16]).to_text().unwrap();
        rawdoc! {
            "a": [{ "_id": oid }, oid.to_hex()], "b": Binary { subtype: BinarySubtype::Uuid, bytes: vec![uuid; 16] },
            "errmsg": format!("dup key: {{ _id: ObjectId('{oid}'), u: UUID(\"{text}\") }}"), "c": 5,
            "d": DateTime::from_millis(date), "t": [token], "other": ObjectId::from_bytes([99; 12]),
        }
    }

    #[test]
    fn values_are_exchanged_at_any_depth_and_as_text() {
        let mut bindings = Bindings::default();
        let (live, recorded) = (document(1, 2, 3, "live-token"), document(11, 12, 13, "the-recorded-token"));
        bindings.bind(Value::ObjectId([1; 12]), Value::ObjectId([11; 12]));
        bindings.bind(Value::Uuid([2; 16]), Value::Uuid([12; 16]));
        bindings.bind(Value::Date(3), Value::Date(13));
        let value = |token: &str| crate::bson::find(rawdoc! { "t": token }.as_bytes(), b"t").unwrap().value.to_vec();
        let (kind, token) = (Kind::String, value("live-token"));
        bindings.bind_named(NamedPair { kind, live: token, recorded: value("the-recorded-token") });
        assert_eq!(bindings.to_recorded(live.as_bytes()).as_ref(), recorded.as_bytes());
        let back = bindings.to_live(recorded.as_bytes(), &mut |value| bindings.live(value));
        assert_eq!(back, live.as_bytes());
    }

    #[test]
    fn a_binding_moves_whole() {
        let (l, k, r, s) = ([1; 12], [2; 12], [3; 12], [4; 12]);
        let id = Value::ObjectId;
        let mut bindings = Bindings::default();
        bindings.bind(id(l), id(r));
        bindings.rebind(id(r), id(s));
        assert_eq!(
            (bindings.recorded(id(l)), bindings.live(id(r)), bindings.live(id(s))),
            (Some(id(s)), None, Some(id(l)))
        );
        bindings.bind(id(k), id(r));
        bindings.swap(id(r), id(s));
        assert_eq!((bindings.live(id(r)), bindings.live(id(s))), (Some(id(l)), Some(id(k))));
        assert_eq!((bindings.recorded(id(l)), bindings.recorded(id(k))), (Some(id(r)), Some(id(s))));
    }
}
