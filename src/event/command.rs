//! The Command Monitoring specification's three events.

use std::borrow::Cow;
use std::time::Duration;

use bson::oid::ObjectId;

use super::{Document, Exchange, Side};
use crate::wire::Compressor;

/// What the events of one command have in common.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandInfo<'a> {
    /// The command's name as it was sent: the first key of its body.
    pub command_name: Cow<'a, str>,
    /// The `$db` of the command.
    pub database_name: Cow<'a, str>,
    /// The collection it works on, where it names one.
    pub collection: Option<Cow<'a, str>>,
    /// `requestID` of the message, signed as on the wire; in an exhaust continuation the reply's `responseTo`.
    pub request_id: i32,
    /// The server's own number of the connection, from the first `hello` reply.
    pub server_connection_id: Option<i64>,
    /// The service behind a load balancer, from the first `hello` reply.
    pub service_id: Option<ObjectId>,
    /// The number of this request with its reply.
    pub exchange: Exchange,
    /// In an exhaust continuation: the exchange of the request that started the stream.
    pub continues: Option<Exchange>,
    /// The compressor of the message this event is made from.
    pub compressor: Option<Compressor>,
    /// Whether the command carries credentials: its documents must not be shown.
    pub sensitive: bool,
}

/// A command was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandStarted<'a> {
    /// What it shares with its end.
    pub info: CommandInfo<'a>,
    /// The body as sent, `$db` included, document sequences merged in as arrays.
    pub command: Document<'a>,
}

/// What was measured of an exchange, on its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measures {
    /// Bytes of the request on the wire; 0 in an exhaust continuation, which has none.
    pub request_bytes: u64,
    /// Bytes of the reply on the wire; 0 where there was none.
    pub reply_bytes: u64,
    /// From the whole request to the first byte of the reply.
    pub first_byte: Option<Duration>,
    /// Documents in the reply's batch.
    pub documents: Option<u64>,
    /// Entries of the reply's `writeErrors`.
    pub write_errors: Option<u64>,
    /// The id of a cursor that is still open.
    pub cursor: Option<i64>,
}

/// A command was answered with a true `ok`, or was not to be answered at all.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSucceeded<'a> {
    /// What it shares with its start.
    pub info: CommandInfo<'a>,
    /// From the whole request to the whole reply.
    pub duration: Duration,
    /// The reply; `{ok: 1}` for an unacknowledged write.
    pub reply: Document<'a>,
    /// What else was measured.
    pub measures: Measures,
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure<'a> {
    /// The server said no; this is what it said.
    Reply(Document<'a>),
    /// The connection ended before the reply.
    Network {
        /// In words.
        message: Cow<'a, str>,
        /// Who ended it.
        closed_by: Option<Side>,
    },
}

impl Failure<'_> {
    /// The same, free of the buffers it was read from.
    pub fn into_owned(self) -> Failure<'static> {
        match self {
            Self::Reply(document) => Failure::Reply(document.into_owned()),
            Self::Network { message, closed_by } => Failure::Network { message: own(message), closed_by },
        }
    }
}

/// A command was answered with an error, or never answered.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandFailed<'a> {
    /// What it shares with its start.
    pub info: CommandInfo<'a>,
    /// From the whole request to the whole reply, or to the end of the connection.
    pub duration: Duration,
    /// The reply, or what happened to the connection.
    pub failure: Failure<'a>,
    /// What else was measured.
    pub measures: Measures,
}

fn own(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

impl CommandInfo<'_> {
    /// The same, free of the buffers it was read from.
    pub fn into_owned(self) -> CommandInfo<'static> {
        CommandInfo {
            command_name: own(self.command_name),
            database_name: own(self.database_name),
            collection: self.collection.map(own),
            ..self
        }
    }
}

impl CommandStarted<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> CommandStarted<'static> {
        CommandStarted { info: self.info.into_owned(), command: self.command.into_owned() }
    }
}

impl CommandSucceeded<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> CommandSucceeded<'static> {
        CommandSucceeded { info: self.info.into_owned(), reply: self.reply.into_owned(), ..self }
    }
}

impl CommandFailed<'_> {
    /// The same event, free of the buffers it was read from.
    pub fn into_owned(self) -> CommandFailed<'static> {
        CommandFailed { info: self.info.into_owned(), failure: self.failure.into_owned(), ..self }
    }
}
