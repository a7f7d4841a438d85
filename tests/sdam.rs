//! The specification's own cases of Server Discovery and Monitoring, through the fold: what each phase leaves, and which
//! events it has.
//!
//! The files come with PyMongo's source distribution; all of them are run, and how many there are is asserted. None needs
//! what the fold is not given. Every value that a file expects is also changed in turn, and every event left out, which
//! must be noticed. The unified files beside them need a server and a driver.

#![expect(clippy::unwrap_used, reason = "a case that is not as its file says fails its test")]

use std::fs;
use std::path::Path;

use bson::Bson;
use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use mongotap::event::{
    Address, Event, ServerDescription, TopologyDescription, TopologyId, TopologyType, TopologyVersion,
};
use mongotap::topology::{ApplicationError, ErrorKind, Settings, Stage, Topology};
use serde_json::{Map, Value, json};

#[path = "support/fetch.rs"]
mod fetch;

/// What PyMongo 4.20.0 has: the directory, and how many files, phases, inputs and events.
const DIRECTORIES: [(&str, Totals); 6] = [
    ("discovery_and_monitoring/errors", Totals { files: 72, phases: 208, inputs: 208, events: 0 }),
    ("discovery_and_monitoring/load-balanced", Totals { files: 1, phases: 1, inputs: 0, events: 0 }),
    ("discovery_and_monitoring/rs", Totals { files: 77, phases: 154, inputs: 173, events: 0 }),
    ("discovery_and_monitoring/sharded", Totals { files: 9, phases: 12, inputs: 19, events: 0 }),
    ("discovery_and_monitoring/single", Totals { files: 19, phases: 21, inputs: 22, events: 0 }),
    ("sdam_monitoring", Totals { files: 8, phases: 9, inputs: 9, events: 45 }),
];

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Totals {
    files: usize,
    phases: usize,
    inputs: usize,
    events: usize,
}

/// A file: its name and what it says.
struct Case {
    name: String,
    suite: Value,
}

fn cases(directory: &str) -> Vec<Case> {
    let path = fetch::pymongo_sdist().join("test").join(directory);
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| {
        let name = format!("{directory}/{}", path.file_name().unwrap().display());
        Case { suite: serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap(), name }
    };
    files.iter().map(|path| read(path)).collect()
}

#[test]
fn every_phase_ends_as_its_file_says() {
    let mut wrong = String::new();
    for (directory, expected) in DIRECTORIES {
        let mut totals = Totals::default();
        for Case { name, suite } in cases(directory) {
            totals.files += 1;
            if let Err(mismatch) = run(&suite, &mut totals) {
                wrong += &format!("{name}: {mismatch}\n");
            }
        }
        if totals != expected {
            wrong += &format!("{directory}: {totals:?}, expected {expected:?}\n");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What is expected of every phase, changed in one place: no such case passes.
#[test]
fn what_is_not_as_expected_is_noticed() {
    let (mut changed, mut passed) = (0, String::new());
    for (directory, _) in DIRECTORIES {
        for Case { name, suite } in cases(directory) {
            for phase in 0..suite["phases"].as_array().unwrap().len() {
                let pointer = format!("/phases/{phase}/outcome");
                for (path, outcome) in changes(&suite.pointer(&pointer).unwrap().clone()) {
                    let mut suite = suite.clone();
                    *suite.pointer_mut(&pointer).unwrap() = outcome;
                    changed += 1;
                    if run(&suite, &mut Totals::default()).is_ok() {
                        passed += &format!("{name}: {pointer}{path}\n");
                    }
                }
            }
        }
    }
    assert!(passed.is_empty(), "\n{passed}");
    assert!(changed > 3000, "{changed}");
}

/// A value with one thing in it changed, for every thing: what it is now, at which path.
fn changes(value: &Value) -> Vec<(String, Value)> {
    match value {
        Value::Object(fields) => {
            let inside = |(name, field): (&String, &Value)| {
                let changed = changes(field).into_iter().map(|(path, field)| {
                    let mut fields = fields.clone();
                    fields.insert(name.clone(), field);
                    (format!("/{name}{path}"), Value::Object(fields))
                });
                changed.collect::<Vec<_>>()
            };
            let without = without_servers(fields);
            fields.iter().flat_map(inside).chain(without).collect()
        }
        Value::Array(list) => {
            let inside = |(at, item): (usize, &Value)| {
                let changed = changes(item).into_iter().map(|(path, item)| {
                    let mut list = list.clone();
                    list[at] = item;
                    (format!("/{at}{path}"), Value::Array(list))
                });
                let mut shorter = list.clone();
                shorter.remove(at);
                changed.chain([(format!("/{at} left out"), Value::Array(shorter))]).collect::<Vec<_>>()
            };
            list.iter().enumerate().flat_map(inside).collect()
        }
        Value::Null => vec![(" set".into(), json!("something"))],
        Value::Bool(it) => vec![(" negated".into(), json!(!it))],
        Value::Number(it) => vec![(" plus one".into(), json!(it.as_i64().unwrap() + 1))],
        Value::String(_) => vec![(" another".into(), json!("000000000000000000000099"))],
    }
}

/// The outcome with one of its servers left out, or one more.
fn without_servers(fields: &Map<String, Value>) -> Vec<(String, Value)> {
    let Some(Value::Object(servers)) = fields.get("servers") else { return Vec::new() };
    let with = |servers| {
        let mut fields = fields.clone();
        fields.insert("servers".into(), Value::Object(servers));
        Value::Object(fields)
    };
    let left_out = servers.keys().map(|address| {
        let mut servers = servers.clone();
        servers.remove(address);
        (format!(" without {address}"), with(servers))
    });
    let mut more = servers.clone();
    more.insert("z:27017".into(), json!({ "type": "Unknown" }));
    left_out.chain([(" with another".to_owned(), with(more))]).collect()
}

/// Runs a file's phases, up to the first that does not end as it should.
fn run(suite: &Value, totals: &mut Totals) -> Result<(), String> {
    let mut topology = Topology::new(TOPOLOGY_ID, settings(suite["uri"].as_str().unwrap()));
    let mut events = Vec::new();
    topology.open(&mut |event| events.push(event));
    for (number, phase) in suite["phases"].as_array().unwrap().iter().enumerate() {
        let inputs = feed(&mut topology, phase, &mut |event| events.push(event));
        let outcome = &phase["outcome"];
        let result = match outcome["events"].as_array() {
            Some(expected) => check_events(expected, &std::mem::take(&mut events)),
            None => check(&topology, outcome.as_object().unwrap()),
        };
        result.map_err(|mismatch| format!("phase {number}: {mismatch}"))?;
        totals.phases += 1;
        totals.inputs += inputs;
        totals.events += outcome["events"].as_array().map_or(0, Vec::len);
    }
    Ok(())
}

const TOPOLOGY_ID: TopologyId = ObjectId::from_bytes([0x42; 12]);

/// What a URI says of the topology.
fn settings(uri: &str) -> Settings {
    let rest = uri.strip_prefix("mongodb://").unwrap();
    let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
    let option = |name: &str| {
        let mut options = query.split('&').filter_map(|option| option.split_once('='));
        options.find(|(it, _)| *it == name).map(|(_, value)| value.to_owned())
    };
    let is_set = |name: &str| option(name).is_some_and(|value| value == "true");
    let set_name = option("replicaSet");
    let initial = match set_name {
        _ if is_set("directConnection") => TopologyType::Single,
        _ if is_set("loadBalanced") => TopologyType::LoadBalanced,
        Some(_) => TopologyType::ReplicaSetNoPrimary,
        None => TopologyType::Unknown,
    };
    Settings {
        seeds: hosts.trim_end_matches('/').split(',').map(Address::parse).collect(),
        initial,
        set_name,
        possible_primary: true,
    }
}

/// Gives a phase's responses and errors to the topology; how many those were.
fn feed(topology: &mut Topology, phase: &Value, emit: &mut dyn FnMut(Event<'static>)) -> usize {
    let lists = |field: &str| phase.get(field).map_or(&[][..], |it| it.as_array().unwrap());
    let (responses, errors) = (lists("responses"), lists("applicationErrors"));
    for response in responses {
        let address = Address::parse(response[0].as_str().unwrap());
        match response[1].as_object().unwrap().is_empty() {
            // The files' way to say that there was no response.
            true => topology.handle_check_failed(&address, "connection refused", emit),
            false => topology.handle_hello(&address, &raw(&response[1]), emit),
        }
    }
    for error in errors {
        let address = Address::parse(error["address"].as_str().unwrap());
        let response = raw(error.get("response").unwrap_or(&json!({})));
        let kind = match error["type"].as_str().unwrap() {
            "command" => ErrorKind::Command(&response),
            "network" => ErrorKind::Network("connection reset"),
            "timeout" => ErrorKind::Timeout("timed out"),
            other => panic!("{other}"),
        };
        let stage = match error["when"].as_str().unwrap() {
            "beforeHandshakeCompletes" => Stage::Establishing,
            "afterHandshakeCompletes" => Stage::Ready,
            other => panic!("{other}"),
        };
        let now = topology.generation(&address);
        let generation = error.get("generation").map_or(now, |it| it.as_u64().unwrap());
        topology.handle_application_error(&address, ApplicationError { kind, stage, generation }, emit);
    }
    responses.len() + errors.len()
}

fn raw(value: &Value) -> RawDocumentBuf {
    let document = bson(value);
    RawDocumentBuf::try_from(document.as_document().unwrap().clone()).unwrap()
}

fn bson(value: &Value) -> Bson {
    Bson::try_from(value.clone()).unwrap()
}

/// Holds a topology to an outcome.
fn check(topology: &Topology, outcome: &Map<String, Value>) -> Result<(), String> {
    let actual = topology.description();
    for field in outcome.keys() {
        let known =
            ["topologyType", "setName", "servers", "logicalSessionTimeoutMinutes", "compatible"].contains(&&**field);
        assert!(known || ["maxElectionId", "maxSetVersion"].contains(&&**field), "{field} is expected");
    }
    let field = |name: &str| outcome.get(name).unwrap_or(&Value::Null);
    same("topologyType", field("topologyType"), json!(actual.topology_type.as_str()))?;
    same("setName", field("setName"), json!(actual.set_name))?;
    same("maxElectionId", field("maxElectionId"), object_id(actual.max_election_id))?;
    same("maxSetVersion", field("maxSetVersion"), json!(actual.max_set_version))?;
    let timeout = json!(actual.logical_session_timeout_minutes);
    same("logicalSessionTimeoutMinutes", field("logicalSessionTimeoutMinutes"), timeout)?;
    let compatible = outcome.get("compatible").unwrap_or(&Value::Bool(true));
    same("compatible", compatible, json!(actual.compatibility_error.is_none()))?;

    let servers = field("servers").as_object().unwrap();
    same("how many servers", &json!(servers.len()), json!(actual.servers.len()))?;
    for (address, expected) in servers {
        let parsed = Address::parse(address);
        let server = actual.servers.iter().find(|it| it.address == parsed).ok_or_else(|| format!("no {address}"))?;
        let mut expected = expected.as_object().unwrap().clone();
        if let Some(pool) = expected.remove("pool") {
            same("generation", &pool, json!({ "generation": topology.generation(&parsed) }))?;
        }
        for name in ["setName", "setVersion", "electionId", "topologyVersion"] {
            expected.entry(name).or_insert(Value::Null);
        }
        check_server(&expected, server).map_err(|mismatch| format!("{address}: {mismatch}"))?;
    }
    Ok(())
}

/// Holds a server's description to all fields that are expected of it.
fn check_server(expected: &Map<String, Value>, server: &ServerDescription) -> Result<(), String> {
    for (name, expected) in expected {
        let actual = match name.as_str() {
            "address" => json!(server.address.to_string()),
            "type" => json!(server.server_type.as_str()),
            "setName" => json!(server.set_name),
            "setVersion" => json!(server.set_version),
            "electionId" => object_id(server.election_id),
            "topologyVersion" => topology_version(server.topology_version),
            "logicalSessionTimeoutMinutes" => json!(server.logical_session_timeout_minutes),
            "minWireVersion" => json!(server.min_wire_version),
            "maxWireVersion" => json!(server.max_wire_version),
            "hosts" => json!(server.hosts),
            "passives" => json!(server.passives),
            "arbiters" => json!(server.arbiters),
            "primary" => json!(server.primary),
            // A part of the message.
            "error" => match &server.error {
                Some(error) if error.contains(expected.as_str().unwrap()) => continue,
                error => json!(error),
            },
            other => panic!("{other} is expected"),
        };
        same(name, expected, actual)?;
    }
    Ok(())
}

fn object_id(id: Option<ObjectId>) -> Value {
    id.map_or(Value::Null, |id| json!({ "$oid": id.to_string() }))
}

fn topology_version(version: Option<TopologyVersion>) -> Value {
    let shown = |TopologyVersion { process_id, counter }: TopologyVersion| json!({ "processId": object_id(Some(process_id)), "counter": { "$numberLong": counter.to_string() } });
    version.map_or(Value::Null, shown)
}

fn same(name: &str, expected: &Value, actual: Value) -> Result<(), String> {
    if *expected == actual { Ok(()) } else { Err(format!("{name} is {actual}, expected {expected}")) }
}

/// Holds events to those of a file, in order.
fn check_events(expected: &[Value], seen: &[Event<'_>]) -> Result<(), String> {
    same("how many events", &json!(expected.len()), json!(seen.len()))
        .map_err(|error| format!("{error}: {seen:#?}"))?;
    for (at, (expected, seen)) in expected.iter().zip(seen).enumerate() {
        let (kind, fields) = expected.as_object().unwrap().iter().next().unwrap();
        check_event(kind, fields.as_object().unwrap(), seen).map_err(|mismatch| format!("event {at}: {mismatch}"))?;
    }
    Ok(())
}

fn check_event(kind: &str, expected: &Map<String, Value>, seen: &Event<'_>) -> Result<(), String> {
    let (name, id, address) = match seen {
        Event::TopologyOpening(event) => ("topology_opening_event", event.topology_id, None),
        Event::TopologyDescriptionChanged(event) => ("topology_description_changed_event", event.topology_id, None),
        Event::TopologyClosed(event) => ("topology_closed_event", event.topology_id, None),
        Event::ServerOpening(event) => ("server_opening_event", event.topology_id, Some(&event.address)),
        Event::ServerDescriptionChanged(event) => {
            ("server_description_changed_event", event.topology_id, Some(&event.address))
        }
        Event::ServerClosed(event) => ("server_closed_event", event.topology_id, Some(&event.address)),
        other => panic!("{other:?}"),
    };
    same("the event", &json!(kind), json!(name))?;
    for (field, expected) in expected {
        match (field.as_str(), seen) {
            // The files say 42 for whatever it is.
            ("topologyId", _) => {
                same("topologyId", expected, json!(if id == TOPOLOGY_ID { "42" } else { "another" }))?;
            }
            ("address", _) => same("address", expected, json!(address.map(ToString::to_string)))?,
            ("previousDescription", Event::ServerDescriptionChanged(event)) => {
                check_server(expected.as_object().unwrap(), &event.previous_description)?;
            }
            ("newDescription", Event::ServerDescriptionChanged(event)) => {
                check_server(expected.as_object().unwrap(), &event.new_description)?;
            }
            ("previousDescription", Event::TopologyDescriptionChanged(event)) => {
                check_topology(expected, &event.previous_description)?;
            }
            ("newDescription", Event::TopologyDescriptionChanged(event)) => {
                check_topology(expected, &event.new_description)?;
            }
            (other, _) => panic!("{other} is expected"),
        }
    }
    Ok(())
}

fn check_topology(expected: &Value, actual: &TopologyDescription) -> Result<(), String> {
    same("topologyType", &expected["topologyType"], json!(actual.topology_type.as_str()))?;
    same("setName", &expected["setName"], json!(actual.set_name))?;
    let servers = expected["servers"].as_array().unwrap();
    same("how many servers", &json!(servers.len()), json!(actual.servers.len()))?;
    servers.iter().zip(&actual.servers).try_for_each(|(expected, actual)| {
        let address = &actual.address;
        check_server(expected.as_object().unwrap(), actual).map_err(|mismatch| format!("{address}: {mismatch}"))
    })
}
