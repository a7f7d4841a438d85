//! Descriptions of servers and topologies as documents, in the specification's names: what a log line shows of them.
//!
//! What is not known is left out, and so is what is as usual: an empty list, `iscryptd: false`, `compatible: true`. A
//! server's `address` and `type` and a topology's `type` and `servers` are always there. How such a document is read is
//! not for here but for [`capture`](crate::capture).

use bson::raw::{CStr, CString, RawArrayBuf, RawBson, RawDocumentBuf, cstr};

use crate::event::{ServerDescription, TopologyDescription};

/// The document of a server's description.
pub(super) fn server(description: &ServerDescription) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("address"), description.address.to_string());
    document.append(cstr!("type"), description.server_type.as_str());
    let mut put = |name: &CStr, value: Option<RawBson>| {
        if let Some(value) = value {
            document.append(name, value);
        }
    };
    put(cstr!("error"), text(description.error.as_ref()));
    put(cstr!("setName"), text(description.set_name.as_ref()));
    put(cstr!("setVersion"), description.set_version.map(integer));
    put(cstr!("electionId"), description.election_id.map(RawBson::from));
    put(cstr!("me"), text(description.me.as_ref()));
    put(cstr!("hosts"), list(&description.hosts));
    put(cstr!("passives"), list(&description.passives));
    put(cstr!("arbiters"), list(&description.arbiters));
    put(cstr!("primary"), text(description.primary.as_ref()));
    put(cstr!("tags"), tags(&description.tags));
    put(cstr!("minWireVersion"), description.min_wire_version.map(RawBson::from));
    put(cstr!("maxWireVersion"), description.max_wire_version.map(RawBson::from));
    put(cstr!("logicalSessionTimeoutMinutes"), description.logical_session_timeout_minutes.map(integer));
    put(
        cstr!("topologyVersion"),
        description.topology_version.map(|version| {
            RawBson::Document(bson::rawdoc! { "processId": version.process_id, "counter": version.counter })
        }),
    );
    put(cstr!("lastWriteDate"), description.last_write_date.map(RawBson::from));
    put(cstr!("opTime"), description.op_time.clone().map(RawBson::from));
    put(cstr!("iscryptd"), description.iscryptd.then_some(RawBson::Boolean(true)));
    document
}

/// The document of a topology's description.
pub(super) fn topology(description: &TopologyDescription) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    document.append(cstr!("type"), description.topology_type.as_str());
    let mut put = |name: &CStr, value: Option<RawBson>| {
        if let Some(value) = value {
            document.append(name, value);
        }
    };
    put(cstr!("setName"), text(description.set_name.as_ref()));
    put(cstr!("maxElectionId"), description.max_election_id.map(RawBson::from));
    put(cstr!("maxSetVersion"), description.max_set_version.map(integer));
    let servers: RawArrayBuf = description.servers.iter().map(server).collect();
    put(cstr!("servers"), Some(RawBson::Array(servers)));
    let compatible = description.compatibility_error.is_none();
    put(cstr!("compatible"), (!compatible).then_some(RawBson::Boolean(false)));
    put(cstr!("compatibilityError"), text(description.compatibility_error.as_ref()));
    put(cstr!("logicalSessionTimeoutMinutes"), description.logical_session_timeout_minutes.map(integer));
    document
}

fn text(text: Option<&String>) -> Option<RawBson> {
    text.map(|text| RawBson::String(text.clone()))
}

/// The smallest type that holds it, as servers send these.
fn integer(number: i64) -> RawBson {
    i32::try_from(number).map_or(RawBson::Int64(number), RawBson::Int32)
}

fn list(names: &[String]) -> Option<RawBson> {
    (!names.is_empty()).then(|| RawBson::Array(names.iter().map(String::as_str).collect()))
}

fn tags(tags: &[(String, String)]) -> Option<RawBson> {
    let mut document = RawDocumentBuf::new();
    for (name, value) in tags {
        // They come from BSON, where no name has a zero character in it.
        if let Ok(name) = CString::try_from(name.as_str()) {
            document.append(name, value.as_str());
        }
    }
    (!tags.is_empty()).then_some(RawBson::Document(document))
}
