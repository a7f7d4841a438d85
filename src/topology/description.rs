//! What a server says of itself, read from its reply to a `hello`; and when two descriptions are one.
//!
//! Any bytes can be read: what is missing, or of another type than it should be, is as if it had not been said.

use std::cmp::Ordering;

use bson::DateTime;
use bson::raw::{RawDocument, RawDocumentBuf};

use super::errors::command_message;
use crate::bson::{Element, Elements, Kind, find};
use crate::event::{Address, ServerDescription, ServerType, TopologyDescription, TopologyVersion};

/// How many hosts of one list count. A replica set has 50 members at most.
const MEMBERS_MAX: usize = 1000;

/// The port of an address that has none.
const DEFAULT_PORT: u16 = 27017;

/// What a reply to a `hello` says of the server at `address`: its description, with the type that the specification
/// gives to it. A reply that is not `ok` makes an Unknown server with the reply's error and `topologyVersion`.
pub fn describe(address: &Address, reply: &RawDocument) -> ServerDescription {
    let mut said = Said::default();
    let mut server = ServerDescription { address: normal(address), ..ServerDescription::default() };
    for element in Elements::readable(reply.as_bytes()) {
        said.read(&element);
        read(&element, &mut server);
    }
    if said.ok {
        server.server_type = said.server_type(server.set_name.is_some());
        return server;
    }
    unknown(address, command_message(reply.as_bytes()), server.topology_version)
}

/// What is known of a server after an error.
pub(super) fn unknown(
    address: &Address,
    error: String,
    topology_version: Option<TopologyVersion>,
) -> ServerDescription {
    ServerDescription { address: normal(address), error: Some(error), topology_version, ..ServerDescription::default() }
}

/// What the type of a server follows from, beside the name of its set.
#[derive(Default)]
struct Said {
    ok: bool,
    is_replica_set: bool,
    is_writable_primary: Option<bool>,
    is_master: bool,
    secondary: bool,
    arbiter_only: bool,
    hidden: bool,
    is_mongos: bool,
}

impl Said {
    fn read(&mut self, element: &Element<'_>) {
        match element.name {
            b"ok" => self.ok = is_ok(element),
            b"isreplicaset" => self.is_replica_set = element.as_bool_truthy(),
            b"isWritablePrimary" => self.is_writable_primary = Some(element.as_bool_truthy()),
            b"ismaster" => self.is_master = element.as_bool_truthy(),
            b"secondary" => self.secondary = element.as_bool_truthy(),
            b"arbiterOnly" => self.arbiter_only = element.as_bool_truthy(),
            b"hidden" => self.hidden = element.as_bool_truthy(),
            b"msg" => self.is_mongos = element.as_str() == Some("isdbgrid"),
            _ => {}
        }
    }

    /// In the specification's order. The legacy `hello` says `ismaster` and not `isWritablePrimary`.
    fn server_type(&self, in_set: bool) -> ServerType {
        match () {
            () if self.is_replica_set => ServerType::RSGhost,
            () if in_set && self.hidden => ServerType::RSOther,
            () if in_set && self.is_writable_primary.unwrap_or(self.is_master) => ServerType::RSPrimary,
            () if in_set && self.secondary => ServerType::RSSecondary,
            () if in_set && self.arbiter_only => ServerType::RSArbiter,
            () if in_set => ServerType::RSOther,
            () if self.is_mongos => ServerType::Mongos,
            () => ServerType::Standalone,
        }
    }
}

/// Reads a field of the description itself.
fn read(element: &Element<'_>, server: &mut ServerDescription) {
    match element.name {
        b"setName" => server.set_name = element.as_str().map(str::to_owned),
        b"setVersion" => server.set_version = element.as_i64(),
        b"electionId" => server.election_id = element.as_object_id(),
        b"me" => server.me = element.as_str().map(host_name),
        b"hosts" => server.hosts = host_names(element),
        b"passives" => server.passives = host_names(element),
        b"arbiters" => server.arbiters = host_names(element),
        b"primary" => server.primary = element.as_str().map(host_name),
        b"tags" => server.tags = tags(element),
        b"minWireVersion" => server.min_wire_version = int32(element),
        b"maxWireVersion" => server.max_wire_version = int32(element),
        b"logicalSessionTimeoutMinutes" => server.logical_session_timeout_minutes = element.as_i64(),
        b"topologyVersion" => server.topology_version = topology_version(element),
        b"lastWrite" => {
            let last_write = element.as_document().unwrap_or_default();
            server.last_write_date = find(last_write, b"lastWriteDate").and_then(|it| date(&it));
            let op_time = find(last_write, b"opTime").and_then(|it| it.as_document());
            server.op_time = op_time.and_then(|it| RawDocumentBuf::from_bytes(it.to_owned()).ok());
        }
        b"iscryptd" => server.iscryptd = element.as_bool_truthy(),
        _ => {}
    }
}

/// Whether the element `ok` says that a command succeeded.
pub(super) fn is_ok(ok: &Element<'_>) -> bool {
    ok.as_i64() == Some(1)
}

/// Reads a `topologyVersion`; one that is not whole is none.
pub(super) fn topology_version(element: &Element<'_>) -> Option<TopologyVersion> {
    let document = element.as_document()?;
    let process_id = find(document, b"processId")?.as_object_id()?;
    let counter = find(document, b"counter")?.as_i64()?;
    Some(TopologyVersion { process_id, counter })
}

fn int32(element: &Element<'_>) -> Option<i32> {
    element.as_i64().and_then(|it| it.try_into().ok())
}

fn date(element: &Element<'_>) -> Option<DateTime> {
    let millis = element.value.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))?;
    (element.kind == Kind::DateTime).then_some(DateTime::from_millis(millis))
}

fn tags(element: &Element<'_>) -> Vec<(String, String)> {
    let tags = Elements::readable(element.as_document().unwrap_or_default());
    tags.filter_map(|tag| Some((String::from_utf8_lossy(tag.name).into_owned(), tag.as_str()?.to_owned()))).collect()
}

fn host_names(element: &Element<'_>) -> Vec<String> {
    let names = Elements::readable(element.as_array().unwrap_or_default());
    names.take(MEMBERS_MAX).filter_map(|name| name.as_str().map(host_name)).collect()
}

fn host_name(name: &str) -> String {
    normal(&Address::parse(name)).to_string()
}

/// An address as descriptions have it: in lower case, with its port. The path of a unix socket stays as it is.
pub(super) fn normal(address: &Address) -> Address {
    if address.host.contains('/') {
        return address.clone();
    }
    Address { host: address.host.to_lowercase(), port: address.port.or(Some(DEFAULT_PORT)) }
}

/// How new `current` is beside `new`. Of two processes, or if one does not say, the new one is the newer.
pub(super) fn compare_versions(current: Option<TopologyVersion>, new: Option<TopologyVersion>) -> Ordering {
    match (current, new) {
        (Some(current), Some(new)) if current.process_id == new.process_id => current.counter.cmp(&new.counter),
        _ => Ordering::Less,
    }
}

/// Whether two descriptions say the same: the specification's equality. The time of the last write and its optime do
/// not count, nor does the order of hosts and tags.
pub fn same_server(one: &ServerDescription, other: &ServerDescription) -> bool {
    // Taken apart, so that a field more does not compile before it is decided whether it counts.
    let ServerDescription {
        address,
        server_type,
        error,
        set_name,
        set_version,
        election_id,
        me,
        hosts,
        passives,
        arbiters,
        primary,
        tags,
        min_wire_version,
        max_wire_version,
        logical_session_timeout_minutes,
        topology_version,
        last_write_date: _,
        op_time: _,
        iscryptd,
    } = one;
    *address == other.address
        && *server_type == other.server_type
        && *error == other.error
        && *set_name == other.set_name
        && *set_version == other.set_version
        && *election_id == other.election_id
        && *me == other.me
        && same_set(hosts, &other.hosts)
        && same_set(passives, &other.passives)
        && same_set(arbiters, &other.arbiters)
        && *primary == other.primary
        && same_set(tags, &other.tags)
        && *min_wire_version == other.min_wire_version
        && *max_wire_version == other.max_wire_version
        && *logical_session_timeout_minutes == other.logical_session_timeout_minutes
        && *topology_version == other.topology_version
        && *iscryptd == other.iscryptd
}

/// Whether two descriptions of a topology say the same, its servers by [`same_server`].
pub fn same_topology(one: &TopologyDescription, other: &TopologyDescription) -> bool {
    let TopologyDescription {
        topology_type,
        set_name,
        max_election_id,
        max_set_version,
        servers,
        compatibility_error,
        logical_session_timeout_minutes,
    } = one;
    *topology_type == other.topology_type
        && *set_name == other.set_name
        && *max_election_id == other.max_election_id
        && *max_set_version == other.max_set_version
        && servers.len() == other.servers.len()
        && servers.iter().zip(&other.servers).all(|(one, other)| same_server(one, other))
        && *compatibility_error == other.compatibility_error
        && *logical_session_timeout_minutes == other.logical_session_timeout_minutes
}

fn same_set<T: Ord>(one: &[T], other: &[T]) -> bool {
    let sorted = |list| {
        let mut sorted = Vec::from_iter(list);
        sorted.sort_unstable();
        sorted.dedup();
        sorted
    };
    one == other || sorted(one) == sorted(other)
}

#[cfg(test)]
mod tests {
    use ::bson::oid::ObjectId;
    use ::bson::{RawArrayBuf, rawdoc};

    use super::*;

    fn described(reply: &RawDocument) -> ServerDescription {
        describe(&Address::parse("A:27017"), reply)
    }

    #[test]
    fn types_are_tried_in_order() {
        let table = [
            (rawdoc! { "ok": 1 }, ServerType::Standalone),
            (rawdoc! { "ok": 1.0, "msg": "isdbgrid" }, ServerType::Mongos),
            (rawdoc! { "ok": 1, "msg": "isdbgrid", "setName": "rs" }, ServerType::RSOther),
            (rawdoc! { "ok": 1, "isreplicaset": true, "setName": "rs", "secondary": true }, ServerType::RSGhost),
            (rawdoc! { "ok": 1, "setName": "rs", "hidden": true, "secondary": true }, ServerType::RSOther),
            (rawdoc! { "ok": 1, "setName": "rs", "ismaster": true }, ServerType::RSPrimary),
            (rawdoc! { "ok": 1, "setName": "rs", "isWritablePrimary": true, "ismaster": false }, ServerType::RSPrimary),
            (rawdoc! { "ok": 1, "setName": "rs", "isWritablePrimary": false, "ismaster": true }, ServerType::RSOther),
            (rawdoc! { "ok": 1, "setName": "rs", "secondary": true, "passive": true }, ServerType::RSSecondary),
            (rawdoc! { "ok": 1, "setName": "rs", "arbiterOnly": true }, ServerType::RSArbiter),
            (rawdoc! { "ok": 1, "setName": "rs" }, ServerType::RSOther),
            (rawdoc! { "ok": 0, "setName": "rs", "secondary": true }, ServerType::Unknown),
            (rawdoc! { "ismaster": true }, ServerType::Unknown),
        ];
        for (reply, expected) in table {
            assert_eq!(described(&reply).server_type, expected, "{reply:?}");
        }
    }

    #[test]
    fn every_field_is_read() {
        let id = ObjectId::from_bytes([7; 12]);
        let mut hosts = RawArrayBuf::new();
        for host in ["A:1", "[::1]:2", "plain", "/tmp/Mongo.sock"] {
            hosts.push(host);
        }
        let reply = rawdoc! {
            "ok": 1, "setName": "RS", "setVersion": 3_i64, "electionId": id, "me": "ME:27017", "hosts": hosts,
            "passives": ["P:1"], "arbiters": ["X:1"], "primary": "B:27017", "tags": { "dc": "East", "n": 1 },
            "minWireVersion": 0, "maxWireVersion": 21, "logicalSessionTimeoutMinutes": 30, "iscryptd": true,
            "topologyVersion": { "processId": id, "counter": 5_i64 },
            "lastWrite": { "opTime": { "t": 1_i64 }, "lastWriteDate": DateTime::from_millis(9) },
        };
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = ServerDescription {
            address: Address::parse("a:27017"),
            server_type: ServerType::RSOther,
            error: None,
            set_name: Some("RS".into()),
            set_version: Some(3),
            election_id: Some(id),
            me: Some("me:27017".into()),
            hosts: names(&["a:1", "[::1]:2", "plain:27017", "/tmp/Mongo.sock"]),
            passives: names(&["p:1"]),
            arbiters: names(&["x:1"]),
            primary: Some("b:27017".into()),
            tags: vec![("dc".into(), "East".into())],
            min_wire_version: Some(0),
            max_wire_version: Some(21),
            logical_session_timeout_minutes: Some(30),
            topology_version: Some(TopologyVersion { process_id: id, counter: 5 }),
            last_write_date: Some(DateTime::from_millis(9)),
            op_time: Some(rawdoc! { "t": 1_i64 }),
            iscryptd: true,
        };
        assert_eq!(described(&reply), expected);
    }

    #[test]
    fn what_has_another_type_is_not_said() {
        let reply = rawdoc! {
            "ok": 1, "setName": 5, "setVersion": "1", "electionId": 1, "me": 1, "hosts": "a:1", "tags": "east",
            "maxWireVersion": i64::MAX, "topologyVersion": { "counter": 1 }, "lastWrite": { "lastWriteDate": 5_i64 },
        };
        let address = Address::parse("a:27017");
        let expected = ServerDescription { address, server_type: ServerType::Standalone, ..Default::default() };
        assert_eq!(described(&reply), expected);
    }

    #[test]
    fn a_failure_keeps_its_version_and_nothing_else() {
        let process_id = ObjectId::from_bytes([7; 12]);
        let reply = rawdoc! {
            "ok": 0, "errmsg": "no", "code": 91, "setName": "rs", "topologyVersion": { "processId": process_id, "counter": 5 }
        };
        let version = Some(TopologyVersion { process_id, counter: 5 });
        assert_eq!(described(&reply), unknown(&Address::parse("a:27017"), "code 91: no".into(), version));
    }

    #[test]
    fn the_last_write_and_the_order_do_not_count() {
        let one = rawdoc! { "ok": 1, "setName": "rs", "hosts": ["a:1", "b:1"], "tags": { "x": "1", "y": "2" } };
        let other = rawdoc! {
            "ok": 1, "setName": "rs", "hosts": ["b:1", "A:1"], "tags": { "y": "2", "x": "1" },
            "lastWrite": { "opTime": { "t": 1 }, "lastWriteDate": DateTime::from_millis(9) },
        };
        assert!(same_server(&described(&one), &described(&other)));
        let table = [
            rawdoc! { "iscryptd": true },
            rawdoc! { "hosts": ["a:1"] },
            rawdoc! { "me": "a:1" },
            rawdoc! { "tags": { "x": "1", "y": "3" } },
            rawdoc! { "topologyVersion": { "processId": ObjectId::from_bytes([1; 12]), "counter": 1 } },
        ];
        for changed in table {
            let mut reply = one.clone();
            changed.iter().for_each(|field| {
                let (name, value) = field.unwrap();
                reply.append(name, value);
            });
            assert!(!same_server(&described(&one), &described(&reply)), "{changed:?}");
        }
    }

    #[test]
    fn versions_of_one_process_compare() {
        let version =
            |process, counter| Some(TopologyVersion { process_id: ObjectId::from_bytes([process; 12]), counter });
        assert_eq!(compare_versions(version(1, 5), version(1, 5)), Ordering::Equal);
        assert_eq!(compare_versions(version(1, 6), version(1, 5)), Ordering::Greater);
        assert_eq!(compare_versions(version(1, 4), version(1, 5)), Ordering::Less);
        assert_eq!(compare_versions(version(2, 9), version(1, 5)), Ordering::Less);
        assert_eq!(compare_versions(None, version(1, 5)), Ordering::Less);
        assert_eq!(compare_versions(version(1, 5), None), Ordering::Less);
    }
}
