//! The format of the event log as its documentation has it, unknown fields refused.

use bson::oid::ObjectId;
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Truncated {
    pub(crate) bytes: u64,
    pub(crate) elements: u64,
}

/// `proxy` of a command; the fields of ends only are checked to be absent elsewhere.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Proxy {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) upstream: String,
    pub(crate) phase: String,
    pub(crate) exchange: u64,
    pub(crate) continues: Option<u64>,
    pub(crate) collection: Option<String>,
    pub(crate) compressor: Option<String>,
    pub(crate) truncated: Option<Truncated>,
    pub(crate) request_bytes: Option<u64>,
    pub(crate) reply_bytes: Option<u64>,
    pub(crate) first_byte_micros: Option<u64>,
    pub(crate) documents: Option<u64>,
    pub(crate) write_errors: Option<u64>,
    pub(crate) cursor: Option<String>,
    pub(crate) closed_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Command {
    pub(crate) command_name: String,
    pub(crate) database_name: String,
    pub(crate) request_id: i32,
    pub(crate) connection_id: String,
    pub(crate) server_connection_id: Option<i64>,
    pub(crate) service_id: Option<String>,
    pub(crate) duration_micros: Option<u64>,
    pub(crate) command: Option<Map<String, Value>>,
    pub(crate) reply: Option<Map<String, Value>>,
    pub(crate) failure: Option<Map<String, Value>>,
    pub(crate) proxy: Proxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ConnectionProxy {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) upstream: String,
    pub(crate) phase: String,
    pub(crate) app_name: Option<String>,
    pub(crate) driver: Option<String>,
    pub(crate) driver_version: Option<String>,
    pub(crate) compressors: Option<Vec<String>>,
    pub(crate) tls: Option<bool>,
    pub(crate) closed_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Connection {
    pub(crate) address: String,
    pub(crate) driver_connection_id: u64,
    pub(crate) duration_micros: Option<u64>,
    pub(crate) server_connection_id: Option<i64>,
    pub(crate) reason: Option<String>,
    pub(crate) proxy: ConnectionProxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ProtocolError {
    pub(crate) side: String,
    pub(crate) offset: u64,
    pub(crate) message: String,
    pub(crate) action: String,
    pub(crate) proxy: ConnectionProxy,
}

/// `proxy` of heartbeats and of what is derived.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct MonitoringProxy {
    pub(crate) connection: u64,
    pub(crate) client: String,
    pub(crate) upstream: String,
    pub(crate) phase: String,
    pub(crate) derived: Option<bool>,
    pub(crate) truncated: Option<Truncated>,
    pub(crate) closed_by: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Heartbeat {
    pub(crate) connection_id: String,
    pub(crate) awaited: bool,
    pub(crate) duration_micros: Option<u64>,
    pub(crate) reply: Option<Map<String, Value>>,
    pub(crate) failure: Option<Map<String, Value>>,
    pub(crate) proxy: MonitoringProxy,
}

/// Numbers are Extended JSON, so they are whatever the mode makes of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ServerDescription {
    pub(crate) address: String,
    #[serde(rename = "type")]
    pub(crate) server_type: String,
    pub(crate) error: Option<String>,
    pub(crate) set_name: Option<String>,
    pub(crate) set_version: Option<Value>,
    pub(crate) election_id: Option<ObjectId>,
    pub(crate) me: Option<String>,
    pub(crate) hosts: Option<Vec<String>>,
    pub(crate) passives: Option<Vec<String>>,
    pub(crate) arbiters: Option<Vec<String>>,
    pub(crate) primary: Option<String>,
    pub(crate) tags: Option<Map<String, Value>>,
    pub(crate) min_wire_version: Option<Value>,
    pub(crate) max_wire_version: Option<Value>,
    pub(crate) logical_session_timeout_minutes: Option<Value>,
    pub(crate) topology_version: Option<Map<String, Value>>,
    pub(crate) last_write_date: Option<Map<String, Value>>,
    pub(crate) op_time: Option<Map<String, Value>>,
    pub(crate) iscryptd: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TopologyDescription {
    #[serde(rename = "type")]
    pub(crate) topology_type: String,
    pub(crate) servers: Vec<ServerDescription>,
    pub(crate) set_name: Option<String>,
    pub(crate) max_election_id: Option<ObjectId>,
    pub(crate) max_set_version: Option<Value>,
    pub(crate) compatible: Option<bool>,
    pub(crate) compatibility_error: Option<String>,
    pub(crate) logical_session_timeout_minutes: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Server {
    pub(crate) topology_id: String,
    pub(crate) address: String,
    pub(crate) previous_description: Option<ServerDescription>,
    pub(crate) new_description: Option<ServerDescription>,
    pub(crate) proxy: MonitoringProxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Topology {
    pub(crate) topology_id: String,
    pub(crate) previous_description: Option<TopologyDescription>,
    pub(crate) new_description: Option<TopologyDescription>,
    pub(crate) proxy: MonitoringProxy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RecorderStarted {
    pub(crate) version: String,
    pub(crate) log_version: u32,
    pub(crate) run: String,
    pub(crate) listen: String,
    pub(crate) upstream: String,
    pub(crate) log: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct RecorderStopped {
    pub(crate) events: u64,
    pub(crate) exchanges: u64,
    pub(crate) dropped_exchanges: u64,
    pub(crate) dropped_bytes: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EventsDropped {
    pub(crate) exchanges: u64,
    pub(crate) bytes: u64,
    pub(crate) reason: String,
}

#[derive(Debug)]
pub(crate) enum Line {
    Started(Command),
    Succeeded(Command),
    Failed(Command),
    Created(Connection),
    Ready(Connection),
    Closed(Connection),
    ProtocolError(ProtocolError),
    HeartbeatStarted(Heartbeat),
    HeartbeatSucceeded(Heartbeat),
    HeartbeatFailed(Heartbeat),
    ServerOpening(Server),
    ServerDescriptionChanged(Server),
    ServerClosed(Server),
    TopologyOpening(Topology),
    TopologyDescriptionChanged(Topology),
    TopologyClosed(Topology),
    RecorderStarted(RecorderStarted),
    RecorderStopped(RecorderStopped),
    EventsDropped(EventsDropped),
}

fn of<T: serde::de::DeserializeOwned>(line: &str, fields: Map<String, Value>) -> T {
    serde_json::from_value(Value::Object(fields)).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// One line, of which nothing is left unread.
pub(crate) fn parse(line: &str) -> Line {
    let mut fields: Map<String, Value> = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let first: Vec<_> = fields.keys().take(3).collect();
    assert_eq!(first, ["seq", "event", "ts"], "{line}");
    assert!(!has_null_field(&fields), "an absent value is omitted, never null: {line}");
    assert!(fields.remove("seq").is_some_and(|seq| seq.is_u64()));
    let ts = fields.remove("ts").unwrap();
    let ts = ts.as_str().unwrap();
    assert!(bson::DateTime::parse_rfc3339_str(ts).is_ok() && ts.len() == 27 && ts.ends_with('Z'), "{ts}");
    match fields.remove("event").unwrap().as_str().unwrap() {
        "commandStartedEvent" => Line::Started(of(line, fields)),
        "commandSucceededEvent" => Line::Succeeded(of(line, fields)),
        "commandFailedEvent" => Line::Failed(of(line, fields)),
        "connectionCreatedEvent" => Line::Created(of(line, fields)),
        "connectionReadyEvent" => Line::Ready(of(line, fields)),
        "connectionClosedEvent" => Line::Closed(of(line, fields)),
        "protocolErrorEvent" => Line::ProtocolError(of(line, fields)),
        "serverHeartbeatStartedEvent" => Line::HeartbeatStarted(of(line, fields)),
        "serverHeartbeatSucceededEvent" => Line::HeartbeatSucceeded(of(line, fields)),
        "serverHeartbeatFailedEvent" => Line::HeartbeatFailed(of(line, fields)),
        "serverOpeningEvent" => Line::ServerOpening(of(line, fields)),
        "serverDescriptionChangedEvent" => Line::ServerDescriptionChanged(of(line, fields)),
        "serverClosedEvent" => Line::ServerClosed(of(line, fields)),
        "topologyOpeningEvent" => Line::TopologyOpening(of(line, fields)),
        "topologyDescriptionChangedEvent" => Line::TopologyDescriptionChanged(of(line, fields)),
        "topologyClosedEvent" => Line::TopologyClosed(of(line, fields)),
        "recorderStartedEvent" => Line::RecorderStarted(of(line, fields)),
        "recorderStoppedEvent" => Line::RecorderStopped(of(line, fields)),
        "eventsDroppedEvent" => Line::EventsDropped(of(line, fields)),
        other => panic!("undocumented event {other}"),
    }
}

/// Documents may hold nulls, the line's own fields and those of `proxy` and of descriptions may not.
fn has_null_field(fields: &Map<String, Value>) -> bool {
    let proxy = fields.get("proxy").and_then(Value::as_object);
    let descriptions = ["previousDescription", "newDescription"].into_iter().filter_map(|name| fields.get(name));
    let inner = proxy.into_iter().chain(descriptions.filter_map(Value::as_object));
    fields.values().chain(inner.flat_map(Map::values)).any(Value::is_null)
}
