//! A line of an event log: its fields, and the event that they tell.
//!
//! Fields that are not known are passed over; those that an event must have are asked for here. Which line it is, and
//! what is not an event of a connection, [`log`](super::log) knows.

use std::time::Duration;

use ::bson::oid::ObjectId;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::json::document;
use super::monitoring;
use crate::event::{
    Action, CloseReason, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Compressor, ConnectionClosed,
    ConnectionCreated, ConnectionReady, Document, Event, Exchange, Failure, Measures, Metadata, ProtocolError, Side,
    Timestamp, Truncated,
};

/// A line: all fields that any event has.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Raw {
    pub(super) seq: Option<u64>,
    pub(super) event: String,
    pub(super) ts: String,
    command_name: Option<String>,
    database_name: Option<String>,
    request_id: Option<i32>,
    pub(super) connection_id: Option<String>,
    server_connection_id: Option<i64>,
    service_id: Option<String>,
    duration_micros: Option<u64>,
    command: Option<Map<String, Value>>,
    reply: Option<Map<String, Value>>,
    failure: Option<Map<String, Value>>,
    pub(super) address: Option<String>,
    pub(super) awaited: Option<bool>,
    pub(super) topology_id: Option<String>,
    pub(super) previous_description: Option<Map<String, Value>>,
    pub(super) new_description: Option<Map<String, Value>>,
    side: Option<String>,
    offset: Option<u64>,
    message: Option<String>,
    action: Option<String>,
    pub(super) exchanges: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) reason: Option<String>,
    pub(super) run: Option<String>,
    #[serde(default)]
    pub(super) filtered: bool,
    pub(super) proxy: Option<RawProxy>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawProxy {
    pub(super) connection: u64,
    pub(super) client: String,
    pub(super) upstream: String,
    pub(super) phase: String,
    exchange: Option<u64>,
    continues: Option<u64>,
    collection: Option<String>,
    compressor: Option<String>,
    request_bytes: Option<u64>,
    reply_bytes: Option<u64>,
    first_byte_micros: Option<u64>,
    documents: Option<u64>,
    write_errors: Option<u64>,
    cursor: Option<String>,
    closed_by: Option<String>,
    truncated: Option<RawTruncated>,
    app_name: Option<String>,
    driver: Option<String>,
    driver_version: Option<String>,
    #[serde(default)]
    compressors: Vec<String>,
    #[serde(default)]
    tls: bool,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct RawTruncated {
    bytes: u64,
    elements: u64,
}

/// What a line lacks.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("expected {0}")]
pub(super) struct Expected(pub(super) &'static str);

/// The event of a line that has a `proxy`; `None` if it is one of a later version.
pub(super) fn event(raw: Raw) -> Result<Option<Event<'static>>, Expected> {
    let Some(proxy) = &raw.proxy else { return Ok(None) };
    let duration = || raw.duration();
    Ok(Some(match raw.event.as_str() {
        "commandStartedEvent" => {
            let command = proxy.document(raw.command.as_ref(), Expected("command"))?;
            Event::CommandStarted(CommandStarted { info: info(&raw, proxy)?, command })
        }
        "commandSucceededEvent" => Event::CommandSucceeded(CommandSucceeded {
            info: info(&raw, proxy)?,
            duration: duration()?,
            reply: raw.reply(proxy)?,
            measures: measures(proxy),
        }),
        "commandFailedEvent" => {
            let (info, duration, failure, measures) =
                (info(&raw, proxy)?, duration()?, raw.failure(proxy)?, measures(proxy));
            Event::CommandFailed(CommandFailed { info, duration, failure, measures })
        }
        "connectionCreatedEvent" => Event::ConnectionCreated(ConnectionCreated {}),
        "connectionReadyEvent" => Event::ConnectionReady(ConnectionReady {
            duration: duration()?,
            server_connection_id: raw.server_connection_id,
            metadata: metadata(proxy),
        }),
        "connectionClosedEvent" => {
            let reasons = [CloseReason::Error, CloseReason::PoolClosed];
            let reason = reasons.into_iter().find(|reason| Some(reason.as_str()) == raw.reason.as_deref());
            let reason = reason.unwrap_or(CloseReason::Unknown);
            Event::ConnectionClosed(ConnectionClosed { reason, closed_by: side(proxy.closed_by.as_deref()) })
        }
        "protocolErrorEvent" => Event::ProtocolError(ProtocolError {
            side: side(raw.side.as_deref()).ok_or(Expected("side: client or server"))?,
            offset: raw.offset.ok_or(Expected("offset"))?,
            message: raw.message.ok_or(Expected("message"))?.into(),
            action: match raw.action.as_deref() {
                Some("tunnelled") => Action::Tunnelled,
                Some("closed") => Action::Closed,
                _ => Action::Forwarded,
            },
        }),
        _ => return monitoring::event(&raw, proxy),
    }))
}

impl Raw {
    pub(super) fn duration(&self) -> Result<Duration, Expected> {
        self.duration_micros.map(Duration::from_micros).ok_or(Expected("durationMicros"))
    }

    pub(super) fn reply(&self, proxy: &RawProxy) -> Result<Document<'static>, Expected> {
        proxy.document(self.reply.as_ref(), Expected("reply"))
    }

    pub(super) fn failure(&self, proxy: &RawProxy) -> Result<Failure<'static>, Expected> {
        match network_error(self, proxy) {
            Some(failure) => Ok(failure),
            None => Ok(Failure::Reply(proxy.document(self.failure.as_ref(), Expected("failure"))?)),
        }
    }
}

impl RawProxy {
    /// The document of a line, with what was left out of it.
    fn document(&self, fields: Option<&Map<String, Value>>, expected: Expected) -> Result<Document<'static>, Expected> {
        let truncated = self.truncated.map(|it| Truncated { bytes: it.bytes, elements: it.elements });
        Ok(Document::cut(document(fields.ok_or(expected)?).into_bytes(), truncated))
    }
}

fn info(raw: &Raw, proxy: &RawProxy) -> Result<CommandInfo<'static>, Expected> {
    Ok(CommandInfo {
        command_name: raw.command_name.clone().ok_or(Expected("commandName"))?.into(),
        database_name: raw.database_name.clone().ok_or(Expected("databaseName"))?.into(),
        collection: proxy.collection.clone().map(Into::into),
        request_id: raw.request_id.ok_or(Expected("requestId"))?,
        server_connection_id: raw.server_connection_id,
        service_id: raw.service_id.as_deref().and_then(|id| ObjectId::parse_str(id).ok()),
        exchange: Exchange(proxy.exchange.ok_or(Expected("proxy.exchange"))?),
        continues: proxy.continues.map(Exchange),
        compressor: proxy.compressor.as_deref().and_then(Compressor::from_name),
        // What it had to hide is not in the log.
        sensitive: false,
    })
}

fn measures(proxy: &RawProxy) -> Measures {
    Measures {
        request_bytes: proxy.request_bytes.unwrap_or(0),
        reply_bytes: proxy.reply_bytes.unwrap_or(0),
        first_byte: proxy.first_byte_micros.map(Duration::from_micros),
        documents: proxy.documents,
        write_errors: proxy.write_errors,
        cursor: proxy.cursor.as_deref().and_then(|id| id.parse().ok()),
    }
}

/// A failure that has a message and nothing else: a server's error has at least a code.
fn network_error(raw: &Raw, proxy: &RawProxy) -> Option<Failure<'static>> {
    let fields = raw.failure.as_ref().filter(|fields| fields.len() == 1)?;
    let message = fields.get("message")?.as_str()?.to_owned();
    Some(Failure::Network { message: message.into(), closed_by: side(proxy.closed_by.as_deref()) })
}

fn metadata(proxy: &RawProxy) -> Metadata<'static> {
    Metadata {
        app_name: proxy.app_name.clone().map(Into::into),
        driver: proxy.driver.clone().map(Into::into),
        driver_version: proxy.driver_version.clone().map(Into::into),
        compressors: proxy.compressors.iter().filter_map(|name| Compressor::from_name(name)).collect(),
        tls: proxy.tls,
    }
}

fn side(name: Option<&str>) -> Option<Side> {
    [Side::Client, Side::Server].into_iter().find(|side| Some(side.as_str()) == name)
}

/// `2026-11-22T07:44:31.867123Z`
pub(super) fn timestamp(text: &str) -> Result<Timestamp, Expected> {
    const EXPECTED: Expected = Expected("ts: a time such as 2026-11-22T07:44:31.867123Z");
    let millis = ::bson::DateTime::parse_rfc3339_str(text).map_err(|_| EXPECTED)?.timestamp_millis();
    // The bson crate's dates end with milliseconds; the microseconds follow them.
    let [.., b'.', _, _, _, hundreds, tens, ones, b'Z'] = text.as_bytes() else { return Err(EXPECTED) };
    let micros = [hundreds, tens, ones].into_iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'));
    let unix_micros = millis * 1000 + micros;
    Ok(Timestamp { monotonic_nanos: u64::try_from(unix_micros).unwrap_or(0).saturating_mul(1000), unix_micros })
}
