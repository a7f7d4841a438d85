//! The lines of an event log that are about heartbeats, servers and topologies, read back into events.
//!
//! Fields that are not known are skipped, as in all lines. A type that is not known is an error: a description without
//! its type would say something else.

use ::bson::oid::ObjectId;
use ::bson::raw::RawDocumentBuf;
use ::bson::{Bson, Document};
use serde_json::{Map, Value};

use super::json::document;
use super::line::{Expected, Raw, RawProxy};
use crate::event::{
    Address, Event, ServerClosed, ServerDescription, ServerDescriptionChanged, ServerHeartbeatFailed,
    ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerOpening, ServerType, TopologyClosed, TopologyDescription,
    TopologyDescriptionChanged, TopologyId, TopologyOpening, TopologyType, TopologyVersion,
};

/// The event of a line; `None` if it is of another kind.
pub(super) fn event(raw: &Raw, proxy: &RawProxy) -> Result<Option<Event<'static>>, Expected> {
    Ok(Some(match raw.event.as_str() {
        "serverHeartbeatStartedEvent" => {
            let (connection_id, awaited) = asked(raw)?;
            Event::ServerHeartbeatStarted(Box::new(ServerHeartbeatStarted { connection_id, awaited }))
        }
        "serverHeartbeatSucceededEvent" => {
            let ((connection_id, awaited), duration, reply) = (asked(raw)?, raw.duration()?, raw.reply(proxy)?);
            let event = ServerHeartbeatSucceeded { connection_id, awaited, duration, reply };
            Event::ServerHeartbeatSucceeded(Box::new(event))
        }
        "serverHeartbeatFailedEvent" => {
            let ((connection_id, awaited), duration, failure) = (asked(raw)?, raw.duration()?, raw.failure(proxy)?);
            let event = ServerHeartbeatFailed { connection_id, awaited, duration, failure };
            Event::ServerHeartbeatFailed(Box::new(event))
        }
        "serverOpeningEvent" => {
            let (topology_id, address) = (topology_id(raw)?, address(raw)?);
            Event::ServerOpening(Box::new(ServerOpening { topology_id, address }))
        }
        "serverDescriptionChangedEvent" => Event::ServerDescriptionChanged(Box::new(ServerDescriptionChanged {
            topology_id: topology_id(raw)?,
            address: address(raw)?,
            previous_description: server(&fields(raw.previous_description.as_ref(), PREVIOUS)?)?,
            new_description: server(&fields(raw.new_description.as_ref(), NEW)?)?,
        })),
        "serverClosedEvent" => {
            let (topology_id, address) = (topology_id(raw)?, address(raw)?);
            Event::ServerClosed(Box::new(ServerClosed { topology_id, address }))
        }
        "topologyOpeningEvent" => Event::TopologyOpening(Box::new(TopologyOpening { topology_id: topology_id(raw)? })),
        "topologyDescriptionChangedEvent" => Event::TopologyDescriptionChanged(Box::new(TopologyDescriptionChanged {
            topology_id: topology_id(raw)?,
            previous_description: topology(&fields(raw.previous_description.as_ref(), PREVIOUS)?)?,
            new_description: topology(&fields(raw.new_description.as_ref(), NEW)?)?,
        })),
        "topologyClosedEvent" => Event::TopologyClosed(Box::new(TopologyClosed { topology_id: topology_id(raw)? })),
        _ => return Ok(None),
    }))
}

const PREVIOUS: Expected = Expected("previousDescription");
const NEW: Expected = Expected("newDescription");

/// Which server was asked, and whether it may wait.
fn asked(raw: &Raw) -> Result<(Address, bool), Expected> {
    let server = raw.connection_id.as_deref().ok_or(Expected("connectionId"))?;
    Ok((Address::parse(server), raw.awaited.ok_or(Expected("awaited"))?))
}

fn topology_id(raw: &Raw) -> Result<TopologyId, Expected> {
    let id = raw.topology_id.as_deref().and_then(|id| ObjectId::parse_str(id).ok());
    id.ok_or(Expected("topologyId: 24 hex digits"))
}

fn address(raw: &Raw) -> Result<Address, Expected> {
    raw.address.as_deref().map(Address::parse).ok_or(Expected("address"))
}

fn fields(description: Option<&Map<String, Value>>, expected: Expected) -> Result<Document, Expected> {
    Document::try_from(document(description.ok_or(expected)?)).map_err(|_| expected)
}

fn server(fields: &Document) -> Result<ServerDescription, Expected> {
    let server_type = fields.get_str("type").ok().and_then(ServerType::from_name);
    Ok(ServerDescription {
        address: Address::parse(
            fields.get_str("address").map_err(|_| Expected("the address of a server's description"))?,
        ),
        server_type: server_type.ok_or(Expected("the type of a server's description"))?,
        error: text(fields, "error"),
        set_name: text(fields, "setName"),
        set_version: integer(fields, "setVersion"),
        election_id: fields.get_object_id("electionId").ok(),
        me: text(fields, "me"),
        hosts: names(fields, "hosts"),
        passives: names(fields, "passives"),
        arbiters: names(fields, "arbiters"),
        primary: text(fields, "primary"),
        tags: tags(fields),
        min_wire_version: fields.get_i32("minWireVersion").ok(),
        max_wire_version: fields.get_i32("maxWireVersion").ok(),
        logical_session_timeout_minutes: integer(fields, "logicalSessionTimeoutMinutes"),
        topology_version: topology_version(fields),
        last_write_date: fields.get_datetime("lastWriteDate").ok().copied(),
        op_time: fields.get_document("opTime").ok().and_then(|time| RawDocumentBuf::try_from(time).ok()),
        iscryptd: fields.get_bool("iscryptd").unwrap_or(false),
    })
}

fn topology(fields: &Document) -> Result<TopologyDescription, Expected> {
    let topology_type = fields.get_str("type").ok().and_then(TopologyType::from_name);
    let servers = fields.get_array("servers").map_err(|_| Expected("the servers of a topology's description"))?;
    let servers = servers.iter().filter_map(Bson::as_document).map(server).collect::<Result<_, _>>()?;
    Ok(TopologyDescription {
        topology_type: topology_type.ok_or(Expected("the type of a topology's description"))?,
        set_name: text(fields, "setName"),
        max_election_id: fields.get_object_id("maxElectionId").ok(),
        max_set_version: integer(fields, "maxSetVersion"),
        servers,
        compatibility_error: text(fields, "compatibilityError"),
        logical_session_timeout_minutes: integer(fields, "logicalSessionTimeoutMinutes"),
    })
}

fn text(fields: &Document, name: &str) -> Option<String> {
    fields.get_str(name).ok().map(str::to_owned)
}

/// Of either type, since a log in relaxed mode does not tell which it was.
fn integer(fields: &Document, name: &str) -> Option<i64> {
    match fields.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

fn names(fields: &Document, name: &str) -> Vec<String> {
    let names = fields.get_array(name).into_iter().flatten();
    names.filter_map(Bson::as_str).map(str::to_owned).collect()
}

fn tags(fields: &Document) -> Vec<(String, String)> {
    let tags = fields.get_document("tags").into_iter().flatten();
    tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

fn topology_version(fields: &Document) -> Option<TopologyVersion> {
    let version = fields.get_document("topologyVersion").ok()?;
    let process_id = version.get_object_id("processId").ok()?;
    Some(TopologyVersion { process_id, counter: integer(version, "counter")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bson::json::Mode;
    use crate::capture::log::{Item, LogReader};
    use crate::sink::{Format, Options, sample};

    /// The line of an event, without its number.
    fn line(event: Event<'static>, extended_json: Mode) -> String {
        let mut out = Vec::new();
        let options = Options { extended_json, ..Options::default() };
        Format::Jsonl.renderer(&options).render(&sample::entry(event), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn read(line: &str) -> Result<Event<'static>, String> {
        let log = format!("{{\"seq\":0,{line}");
        match LogReader::new(log.as_bytes()).next_line() {
            Ok(Some((Item::Entry(entry), _))) => Ok(entry.event.clone()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn events_come_back_as_they_were() {
        for event in sample::sdam_events() {
            for mode in [Mode::Relaxed, Mode::Canonical] {
                let line = line(event.clone(), mode);
                assert_eq!(format!("{:?}", read(&line).unwrap()), format!("{event:?}"), "{line}");
            }
        }
    }

    #[test]
    fn the_server_of_the_connection_is_not_that_of_the_event() {
        let started = sample::entry(sample::sdam_events().remove(0));
        let derived = sample::entry(sample::server_changed(sample::full_server(), sample::full_server()));
        let mut renderer = Format::Jsonl.renderer(&Options::default());
        let mut log = Vec::new();
        for entry in [&started, &derived, &started] {
            log.extend_from_slice(b"{\"seq\":0,");
            renderer.render(entry, &mut log);
        }
        let mut reader = LogReader::new(&*log);
        for _ in 0..3 {
            let Ok(Some((Item::Entry(entry), _))) = reader.next_line() else { panic!() };
            assert_eq!(entry.connection, sample::connection(1));
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let [heartbeat, changed] = [0, 5].map(|at| line(sample::sdam_events().swap_remove(at), Mode::Relaxed));
        for (line, replaced, by, missing) in [
            (&heartbeat, ",\"awaited\":false", "", "awaited"),
            (&heartbeat, "connectionId", "x", "connectionId"),
            (&changed, "\"6741c1df", "\"", "topologyId: 24 hex digits"),
            (&changed, "previousDescription", "x", "previousDescription"),
            (&changed, "newDescription", "x", "newDescription"),
            (&changed, "\"servers\":[]", "\"x\":0", "the servers of a topology's description"),
            (&changed, "RSGhost", "RSDreaming", "the type of a server's description"),
            (&changed, "\"address\":\"a:27017\"", "\"x\":0", "the address of a server's description"),
            (&changed, "\"Unknown\"", "\"Dreaming\"", "the type of a topology's description"),
        ] {
            assert!(line.contains(replaced), "{replaced}: {line}");
            let error = read(&line.replace(replaced, by)).unwrap_err();
            assert_eq!(error, format!("line 1, column 1: expected {missing}"));
        }
    }
}
