//! What the specification's cases do not ask of the fold: the order of events, staleness at its edges, members of every
//! kind, and what is passed over.

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::rawdoc;

use super::*;
use crate::event::{Address, Event, ServerDescription, ServerType, TopologyType};

struct Client {
    topology: Topology,
    /// A line for each event of the opening.
    opening: Vec<String>,
}

impl Client {
    fn new(seeds: &str, initial: TopologyType, set_name: Option<&str>) -> Self {
        let seeds = seeds.split(',').map(Address::parse).collect();
        let settings = Settings { seeds, initial, set_name: set_name.map(str::to_owned), possible_primary: true };
        let mut client = Self { topology: Topology::new(ObjectId::from_bytes([1; 12]), settings), opening: Vec::new() };
        client.opening = client.told(Topology::open);
        client
    }

    fn told(&mut self, input: impl FnOnce(&mut Topology, &mut dyn FnMut(Event<'static>))) -> Vec<String> {
        let mut told = Vec::new();
        input(&mut self.topology, &mut |event| told.push(line(&event)));
        told
    }

    fn hello(&mut self, host: &str, reply: &RawDocumentBuf) -> Vec<String> {
        self.told(|topology, emit| topology.handle_hello(&Address::parse(host), reply, emit))
    }

    fn error(&mut self, host: &str, kind: ErrorKind<'_>, generation: u64) -> Vec<String> {
        let error = ApplicationError { kind, stage: Stage::Ready, generation };
        self.told(|topology, emit| topology.handle_application_error(&Address::parse(host), error, emit))
    }

    fn server(&self, host: &str) -> &ServerDescription {
        let servers = &self.topology.description().servers;
        servers.iter().find(|it| it.address == Address::parse(host)).unwrap()
    }
}

fn line(event: &Event<'_>) -> String {
    match event {
        Event::ServerOpening(it) => format!("{} opens", it.address),
        Event::ServerClosed(it) => format!("{} closes", it.address),
        Event::ServerDescriptionChanged(it) => format!("{} {}", it.address, it.new_description.server_type.as_str()),
        Event::TopologyOpening(_) => "opens".to_owned(),
        Event::TopologyClosed(_) => "closes".to_owned(),
        Event::TopologyDescriptionChanged(it) => it.new_description.topology_type.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn member(role: &str, set_version: i64) -> RawDocumentBuf {
    let mut reply = rawdoc! {
        "ok": 1, "setName": "rs", "hosts": ["a:27017", "b:27017"], "passives": ["p:27017"], "arbiters": ["x:27017"],
        "setVersion": set_version, "electionId": ObjectId::from_bytes([1; 12]), "maxWireVersion": 21,
    };
    reply.append(bson::raw::CString::try_from(role).unwrap(), true);
    reply
}

fn versioned(process: u8, counter: i64) -> RawDocumentBuf {
    let process_id = ObjectId::from_bytes([process; 12]);
    rawdoc! { "ok": 1, "maxWireVersion": 21, "topologyVersion": { "processId": process_id, "counter": counter } }
}

#[test]
fn who_is_discovered_opens_before_the_topology_changes() {
    let mut client = Client::new("A", TopologyType::Unknown, None);
    assert_eq!(client.opening, ["opens", "Unknown", "a:27017 opens"]);
    let told = client.hello("a:27017", &member("isWritablePrimary", 1));
    let expected = ["a:27017 RSPrimary", "b:27017 opens", "p:27017 opens", "x:27017 opens", "ReplicaSetWithPrimary"];
    assert_eq!(told, expected);
    assert_eq!(client.hello("p:27017", &member("secondary", 1)), ["p:27017 RSSecondary", "ReplicaSetWithPrimary"]);
    assert_eq!(client.hello("x:27017", &member("arbiterOnly", 1)), ["x:27017 RSArbiter", "ReplicaSetWithPrimary"]);
    let told = client.told(Topology::close);
    assert_eq!(told, ["a:27017 closes", "b:27017 closes", "p:27017 closes", "x:27017 closes", "Unknown", "closes"]);
}

#[test]
fn a_newer_primary_speaks_before_the_older_one_is_unknown() {
    let mut client = Client::new("a,b", TopologyType::ReplicaSetNoPrimary, Some("rs"));
    client.hello("a:27017", &member("isWritablePrimary", 1));
    let told = client.hello("b:27017", &member("isWritablePrimary", 2));
    assert_eq!(told, ["b:27017 RSPrimary", "a:27017 Unknown", "ReplicaSetWithPrimary"]);
    // The older one again.
    assert_eq!(client.hello("a:27017", &member("isWritablePrimary", 1)), ["a:27017 Unknown", "ReplicaSetWithPrimary"]);
    let error = client.server("a:27017").error.clone().unwrap();
    let id = "01".repeat(12);
    assert!(error.ends_with(&format!("({id}, 1) is stale compared to ({id}, 2)")), "{error}");
    // It says nothing new.
    assert_eq!(client.hello("a:27017", &member("isWritablePrimary", 1)), Vec::<String>::new());
}

#[test]
fn what_a_server_says_last_is_told_before_it_closes() {
    let mut client = Client::new("a,b", TopologyType::ReplicaSetNoPrimary, Some("rs"));
    let told = client.hello("b:27017", &rawdoc! { "ok": 1, "maxWireVersion": 21 });
    assert_eq!(told, ["b:27017 Standalone", "b:27017 closes", "ReplicaSetNoPrimary"]);
    // What is not of the topology is passed over.
    assert_eq!(client.hello("b:27017", &member("isWritablePrimary", 1)), Vec::<String>::new());
    assert_eq!(client.error("b:27017", ErrorKind::Network("broken"), 0), Vec::<String>::new());
    // Its old connections are of no use when it comes back.
    client.hello("a:27017", &member("isWritablePrimary", 1));
    client.hello("b:27017", &member("secondary", 1));
    assert_eq!(client.error("b:27017", ErrorKind::Network("broken"), 0), Vec::<String>::new());
    let now = client.topology.generation(&Address::parse("B"));
    assert_eq!(
        client.error("b:27017", ErrorKind::Network("broken"), now),
        ["b:27017 Unknown", "ReplicaSetWithPrimary"]
    );
}

#[test]
fn an_equal_version_is_news_in_a_hello_and_stale_in_an_error() {
    let mut client = Client::new("a", TopologyType::Single, None);
    client.hello("a:27017", &versioned(1, 5));
    let mut same = versioned(1, 5);
    same.append(bson::raw::cstr!("setName"), "rs");
    assert_eq!(client.hello("a:27017", &same), ["a:27017 RSOther", "Single"]);
    assert_eq!(client.hello("a:27017", &versioned(1, 4)), Vec::<String>::new());
    // Only the version has moved: that is a change.
    assert_eq!(client.hello("a:27017", &versioned(1, 6)), ["a:27017 Standalone", "Single"]);
    assert_eq!(client.hello("a:27017", &versioned(1, 7)), ["a:27017 Standalone", "Single"]);

    let failed = |process, counter: i64| {
        let process_id = ObjectId::from_bytes([process; 12]);
        rawdoc! { "ok": 0, "code": 91, "topologyVersion": { "processId": process_id, "counter": counter } }
    };
    assert_eq!(client.error("a:27017", ErrorKind::Command(&failed(1, 7)), 0), Vec::<String>::new());
    assert_eq!(client.topology.generation(&Address::parse("a")), 0);
    assert_eq!(client.error("a:27017", ErrorKind::Command(&failed(2, 1)), 0), ["a:27017 Unknown", "Single"]);
    assert_eq!(client.topology.generation(&Address::parse("a")), 1);
    assert_eq!(client.hello("a:27017", &versioned(2, 0)), Vec::<String>::new());
    assert_eq!(client.hello("a:27017", &versioned(2, 1)), ["a:27017 Standalone", "Single"]);
}

#[test]
fn a_check_that_fails_clears_the_pool_each_time_and_is_told_once() {
    let mut client = Client::new("a", TopologyType::Single, None);
    let fail = |topology: &mut Topology, emit: &mut dyn FnMut(Event<'static>)| {
        topology.handle_check_failed(&Address::parse("a:27017"), "refused", emit);
    };
    assert_eq!(client.told(fail), ["a:27017 Unknown", "Single"]);
    assert_eq!(client.told(fail), Vec::<String>::new());
    assert_eq!(client.topology.generation(&Address::parse("a")), 2);
    assert_eq!(client.hello("a:27017", &rawdoc! { "ok": 0, "errmsg": "no" }), ["a:27017 Unknown", "Single"]);
    assert_eq!(client.topology.generation(&Address::parse("a")), 3);
    assert_eq!(client.server("a:27017").error.as_deref(), Some("no"));
}

#[test]
fn a_member_names_who_may_be_the_primary() {
    let mut client = Client::new("a", TopologyType::ReplicaSetNoPrimary, Some("rs"));
    let mut reply = member("secondary", 1);
    reply.append(bson::raw::cstr!("primary"), "B:27017");
    client.hello("a:27017", &reply);
    assert_eq!(client.server("b:27017").server_type, ServerType::PossiblePrimary);
    assert_eq!(client.server("p:27017").server_type, ServerType::Unknown);
    // It has spoken, and is known no less when a member names it again.
    client.hello("b:27017", &member("secondary", 1));
    client.hello("a:27017", &reply);
    assert_eq!(client.server("b:27017").server_type, ServerType::RSSecondary);
}

#[test]
fn a_ghost_leaves_the_members_as_they_are() {
    let mut client = Client::new("a,b", TopologyType::ReplicaSetNoPrimary, Some("rs"));
    client.hello("a:27017", &member("isWritablePrimary", 1));
    let ghost =
        rawdoc! { "ok": 1, "isreplicaset": true, "setName": "another", "hosts": ["z:27017"], "maxWireVersion": 21 };
    assert_eq!(client.hello("a:27017", &ghost), ["a:27017 RSGhost", "ReplicaSetNoPrimary"]);
    assert_eq!(client.topology.description().servers.len(), 4);
    assert_eq!(client.topology.description().set_name.as_deref(), Some("rs"));
}

#[test]
fn behind_a_load_balancer_nothing_is_unknown() {
    let mut client = Client::new("a", TopologyType::LoadBalanced, None);
    let expected = ["opens", "LoadBalanced", "a:27017 opens", "a:27017 LoadBalancer", "LoadBalanced"];
    assert_eq!(client.opening, expected);
    assert_eq!(client.hello("a:27017", &rawdoc! { "ok": 0 }), Vec::<String>::new());
    assert_eq!(client.error("a:27017", ErrorKind::Network("broken"), 0), Vec::<String>::new());
    assert_eq!(client.error("a:27017", ErrorKind::Command(&rawdoc! { "ok": 0, "code": 91 }), 0), Vec::<String>::new());
    assert_eq!(client.topology.generation(&Address::parse("a")), 0);
    assert_eq!(client.told(Topology::close), ["a:27017 closes", "Unknown", "closes"]);
}

#[test]
fn a_direct_connection_to_another_set_says_so() {
    let mut client = Client::new("a", TopologyType::Single, Some("mine"));
    client.hello("a:27017", &member("isWritablePrimary", 1));
    let error = client.server("a:27017").error.as_deref();
    assert_eq!(error, Some("the server is of the replica set rs, not of mine"));
    client.hello("a:27017", &rawdoc! { "ok": 1 });
    assert_eq!(client.server("a:27017").error.as_deref(), Some("the server is of no replica set, not of mine"));
    client.told(|topology, emit| topology.handle_check_failed(&Address::parse("a:27017"), "refused", emit));
    assert_eq!(client.server("a:27017").error.as_deref(), Some("refused"));
}

#[test]
fn servers_that_drivers_do_not_understand_are_named() {
    let mut client = Client::new("a", TopologyType::Single, None);
    let error = |client: &Client| client.topology.description().compatibility_error.clone();
    client.hello("a:27017", &rawdoc! { "ok": 1, "minWireVersion": 0, "maxWireVersion": 7 });
    assert_eq!(error(&client).as_deref(), Some("a:27017 has wire version 7, drivers want 8 or later"));
    client.hello("a:27017", &rawdoc! { "ok": 1, "minWireVersion": 30, "maxWireVersion": 31 });
    assert_eq!(error(&client).as_deref(), Some("a:27017 wants wire version 30, drivers go up to 29"));
    client.hello("a:27017", &rawdoc! { "ok": 1, "minWireVersion": 29, "maxWireVersion": 99 });
    assert_eq!(error(&client), None);
    client.hello("a:27017", &rawdoc! { "ok": 1, "minWireVersion": 0, "maxWireVersion": 8 });
    assert_eq!(error(&client), None);
}
