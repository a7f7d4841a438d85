//! What a recording tells of the servers that answered: the `hello` of each, and the version.
//!
//! A replica set is presented as one member, which is primary then, or as all those that its `hello` names; a member that
//! was recorded is as it was, the others are what the primary says of them. Arbiters hold no data and are left out. A
//! recording without any `hello` is of a standalone as MongoDB 6.0 is one.

use std::collections::BTreeMap;

use bson::raw::{CStr, RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;

use super::request::name_of;
use crate::bson::{Elements, find};
use crate::capture::exchange::Exchange;

/// The recorded servers.
#[derive(Clone, Debug, Default)]
pub struct Deployment {
    /// The last `hello` of each server, by what it calls itself; a standalone and a mongos have no name.
    hellos: BTreeMap<String, RawDocumentBuf>,
    version: Option<String>,
}

impl Deployment {
    /// A server that gives that `hello` and is of that version, as the header of a fixture has it.
    pub fn of(hello: RawDocumentBuf, version: &str) -> Self {
        let mut deployment = Self { version: Some(version.to_owned()), ..Self::default() };
        deployment.add(&hello);
        deployment
    }

    /// Takes note of what an exchange tells of its server.
    pub fn learn(&mut self, exchange: &Exchange) {
        let replies = exchange.replies.iter().filter_map(|reply| RawDocument::from_bytes(&reply.body).ok());
        match name_of(&exchange.request) {
            "hello" | "isMaster" | "ismaster" => replies.for_each(|reply| self.add(reply)),
            "buildInfo" | "buildinfo" => {
                for version in replies.filter_map(|reply| reply.get_str("version").ok()) {
                    self.version = Some(version.to_owned());
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, hello: &RawDocument) {
        if is_true(hello, "isWritablePrimary") || is_true(hello, "ismaster") || text(hello, "setName").is_some() {
            self.hellos.insert(text(hello, "me").unwrap_or_default(), hello.to_owned());
        }
    }

    /// The server's version for `buildInfo`: the recorded one, else the first of those with its `maxWireVersion`.
    pub fn version(&self) -> String {
        if let Some(version) = &self.version {
            return version.clone();
        }
        let wire = find(self.best().as_bytes(), b"maxWireVersion").and_then(|it| it.as_i64()).unwrap_or_default();
        let known = VERSIONS.iter().rev().find(|(first, _)| *first <= wire);
        known.map_or("6.0.0", |(_, version)| *version).to_owned()
    }

    /// The name of the replica set, if it is one.
    pub fn set_name(&self) -> Option<String> {
        text(&self.best(), "setName")
    }

    /// The `hello` of one server that stands for all.
    pub fn one(&self) -> RawDocumentBuf {
        let hello = self.best();
        match self.set_name() {
            Some(_) => with_role(&hello, true, ""),
            None => hello,
        }
    }

    /// The recorded name and the `hello` of each member; one without a name if it is no replica set.
    pub fn all(&self) -> Vec<(String, RawDocumentBuf)> {
        let best = self.best();
        let names = ["hosts", "passives"].into_iter().flat_map(|name| texts(&best, name)).collect::<Vec<_>>();
        if self.set_name().is_none() || names.is_empty() {
            return vec![(String::new(), self.one())];
        }
        let first = names.first().cloned().unwrap_or_default();
        let primary = text(&best, "primary").filter(|name| names.contains(name)).unwrap_or(first);
        let member = |name: String| {
            let hello = self.hellos.get(&name).unwrap_or(&best);
            (name.clone(), with_role(hello, name == primary, &primary))
        };
        names.into_iter().map(member).collect()
    }

    /// The primary's `hello`, or that of a member that knows it, or any.
    fn best(&self) -> RawDocumentBuf {
        let rank = |hello: &&RawDocumentBuf| {
            let is_primary = is_true(hello, "isWritablePrimary") || is_true(hello, "ismaster");
            (is_primary, text(hello, "primary").is_some())
        };
        self.hellos.values().max_by_key(rank).cloned().unwrap_or_else(standalone)
    }
}

/// The same `hello` from a member that is primary or a secondary.
fn with_role(hello: &RawDocument, is_primary: bool, primary: &str) -> RawDocumentBuf {
    let mut out = RawDocumentBuf::new();
    for (name, value) in hello.iter().flatten() {
        match name.as_str() {
            "isWritablePrimary" | "ismaster" => out.append(name, is_primary),
            "secondary" => out.append(name, !is_primary),
            // Passive, hidden or delayed members are secondaries.
            "passive" | "hidden" | "secondaryDelaySecs" | "slaveDelay" if is_primary => {}
            "me" | "primary" => {}
            _ => out.append(name, value),
        }
    }
    // Both are renamed when they are given out.
    out.append(cstr!("me"), primary);
    out.append(cstr!("primary"), primary);
    append_missing(&mut out, cstr!("isWritablePrimary"), cstr!("ismaster"), is_primary);
    append_missing(&mut out, cstr!("secondary"), cstr!("secondary"), !is_primary);
    if out.get("hosts").ok().flatten().is_none() {
        out.append(cstr!("hosts"), RawArrayBuf::from_iter([primary]));
    }
    out
}

fn append_missing(out: &mut RawDocumentBuf, name: &'static CStr, other: &CStr, value: bool) {
    if find(out.as_bytes(), name.as_str().as_bytes()).is_none()
        && find(out.as_bytes(), other.as_str().as_bytes()).is_none()
    {
        out.append(name, value);
    }
}

fn is_true(hello: &RawDocument, name: &str) -> bool {
    find(hello.as_bytes(), name.as_bytes()).is_some_and(|element| element.as_bool_truthy())
}

fn text(hello: &RawDocument, name: &str) -> Option<String> {
    Some(find(hello.as_bytes(), name.as_bytes())?.as_str()?.to_owned())
}

fn texts(hello: &RawDocument, name: &str) -> Vec<String> {
    let array = find(hello.as_bytes(), name.as_bytes()).and_then(|element| element.as_array());
    let elements = array.and_then(|array| Elements::new(array).ok()).into_iter().flatten().flatten();
    elements.filter_map(|element| Some(element.as_str()?.to_owned())).collect()
}

fn standalone() -> RawDocumentBuf {
    rawdoc! {
        "isWritablePrimary": true, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "minWireVersion": 0, "maxWireVersion": 17,
        "readOnly": false,
    }
}

/// The first version with each `maxWireVersion`.
const VERSIONS: [(i64, &str); 8] = [
    (6, "3.6.0"),
    (7, "4.0.0"),
    (8, "4.2.0"),
    (9, "4.4.0"),
    (13, "5.0.0"),
    (17, "6.0.0"),
    (21, "7.0.0"),
    (25, "8.0.0"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::exchange::Place;
    use crate::event::{Phase, Timestamp};

    fn learnt(replies: &[(&str, RawDocumentBuf)]) -> Deployment {
        let mut deployment = Deployment::default();
        for (command, reply) in replies {
            let mut request = RawDocumentBuf::new();
            request.append(bson::raw::CString::try_from((*command).to_owned()).unwrap(), 1);
            let (place, at) = (Place::Exchange(1), Timestamp::default());
            let exchange = Exchange::new(place, at, request.into_bytes(), [reply.clone().into_bytes()]);
            deployment.learn(&Exchange { phase: Phase::Monitor, ..exchange });
        }
        deployment
    }

    fn member(me: &str, is_primary: bool, wire: i32) -> (&'static str, RawDocumentBuf) {
        let hello = rawdoc! {
            "isWritablePrimary": is_primary, "secondary": !is_primary, "setName": "rs", "hosts": ["a:1", "b:1"],
            "passives": ["p:1"], "arbiters": ["x:1"], "primary": "b:1", "me": me, "maxWireVersion": wire, "tags": { "of": me },
            "localTime": 1, "ok": 1.0,
        };
        ("hello", hello)
    }

    fn roles(members: &[(String, RawDocumentBuf)]) -> Vec<(&str, bool, String)> {
        let role = |(name, hello): &'_ (String, RawDocumentBuf)| {
            let of = hello.get_document("tags").unwrap().get_str("of").unwrap().to_owned();
            assert_ne!(is_true(hello, "isWritablePrimary"), is_true(hello, "secondary"));
            (is_true(hello, "isWritablePrimary"), of, name.len())
        };
        members.iter().map(|it| (it.0.as_str(), role(it).0, role(it).1)).collect()
    }

    #[test]
    fn a_set_is_presented_whole_or_by_its_primary() {
        let deployment = learnt(&[member("a:1", false, 21), member("b:1", true, 21)]);
        assert_eq!((deployment.set_name().as_deref(), deployment.version().as_str()), (Some("rs"), "7.0.0"));
        let of = |name: &str| name.to_owned();
        assert_eq!(
            roles(&deployment.all()),
            [("a:1", false, of("a:1")), ("b:1", true, of("b:1")), ("p:1", false, of("b:1"))]
        );
        assert_eq!(roles(&[(String::new(), deployment.one())]), [("", true, of("b:1"))]);
        // Only a secondary was seen.
        let deployment = learnt(&[member("a:1", false, 17)]);
        assert_eq!(roles(&[(String::new(), deployment.one())]), [("", true, of("a:1"))]);
    }

    #[test]
    fn other_servers_are_as_they_were() {
        let mongos = rawdoc! { "ismaster": true, "msg": "isdbgrid", "maxWireVersion": 9 };
        let deployment = learnt(&[("isMaster", mongos.clone()), ("buildInfo", rawdoc! { "version": "4.4.29" })]);
        assert_eq!((deployment.set_name(), deployment.version().as_str()), (None, "4.4.29"));
        assert_eq!((deployment.one(), deployment.all().len()), (mongos, 1));
        assert!(is_true(&learnt(&[]).one(), "isWritablePrimary"));
        assert_eq!(learnt(&[]).version(), "6.0.0");
    }
}
