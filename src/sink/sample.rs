//! Entries for the tests of sinks: one connection, and commands on it that a test changes as it needs.

use std::sync::Arc;
use std::time::Duration;

use ::bson::raw::RawDocumentBuf;

use crate::event::{
    Address, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Connection, ConnectionId, Document, Entry,
    Event, Exchange, Failure, Measures, Phase, Timestamp,
};
use crate::redact::{self, Redacted};

/// 2026-11-22T07:44:31.867123Z.
pub(crate) const AT: Timestamp = Timestamp { monotonic_nanos: 5_000_000_000, unix_micros: 1_795_333_471_867_123 };

pub(crate) fn connection(id: u64) -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(id),
        client: "127.0.0.1:40112".to_owned(),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address::parse("localhost:27017"),
        tls: false,
    })
}

pub(crate) fn entry(event: impl Into<Event<'static>>) -> Redacted<Entry<'static>> {
    redact::apply(Entry { at: AT, connection: connection(1), phase: Phase::App, event: event.into() })
}

pub(crate) fn info(command: &str, namespace: &str) -> CommandInfo<'static> {
    let (database, collection) = match namespace.split_once('.') {
        Some((database, collection)) => (database, Some(collection.to_owned().into())),
        None => (namespace, None),
    };
    CommandInfo {
        command_name: command.to_owned().into(),
        database_name: database.to_owned().into(),
        collection,
        request_id: 50073,
        server_connection_id: Some(12),
        service_id: None,
        exchange: Exchange(1),
        continues: None,
        compressor: None,
        sensitive: false,
    }
}

pub(crate) fn started(namespace: &str, body: RawDocumentBuf) -> CommandStarted<'static> {
    let name = body.iter().next().unwrap().unwrap().0.to_string();
    CommandStarted { info: info(&name, namespace), command: body.into() }
}

pub(crate) fn succeeded(of: &CommandStarted<'_>, micros: u64, reply: RawDocumentBuf) -> CommandSucceeded<'static> {
    CommandSucceeded {
        info: of.info.clone().into_owned(),
        duration: Duration::from_micros(micros),
        reply: reply.into(),
        measures: Measures { request_bytes: 143, reply_bytes: 45, ..Measures::default() },
    }
}

pub(crate) fn failed(of: &CommandStarted<'_>, micros: u64, failure: Failure<'static>) -> CommandFailed<'static> {
    CommandFailed {
        info: of.info.clone().into_owned(),
        duration: Duration::from_micros(micros),
        failure,
        measures: Measures { request_bytes: 143, ..Measures::default() },
    }
}

pub(crate) fn said_no(reply: RawDocumentBuf) -> Failure<'static> {
    Failure::Reply(Document::from(reply))
}

/// So that a test can say `entry(event)`, whatever the event.
macro_rules! events {
    ($($event:ident $(<$life:lifetime>)?),*) => {
        $(impl From<crate::event::$event $(<$life>)?> for Event<'static> {
            fn from(event: crate::event::$event $(<$life>)?) -> Self {
                Self::$event(event)
            }
        })*
    };
}

events!(
    CommandStarted<'static>,
    CommandSucceeded<'static>,
    CommandFailed<'static>,
    ConnectionCreated,
    ConnectionReady<'static>,
    ConnectionClosed,
    ProtocolError<'static>
);
