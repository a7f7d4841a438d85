//! The only door to a sink or a file: [`Redacted`].
//!
//! The Command Monitoring specification ("Security") has the documents of commands that carry credentials replaced by
//! empty ones. Whether a command is one of them is decided where the request is read and remembered until its reply
//! ([`CommandInfo::sensitive`](crate::event::CommandInfo)); what is done about it is here, and nowhere else. Of messages
//! that are recorded the documents stay, for all else in them is wanted to derive events again: only values go. The user's
//! own secrets go from both ([`fields`]).

pub mod fields;
mod message;

use std::sync::Arc;

use crate::bson::Elements;
use crate::bson::write::put_document;
use crate::event::{
    CommandInfo, Connection, ConnectionId, Document, Entry, Event, Failure, Given, GivenMessage, Input, Seen, Side,
    Timestamp,
};
use crate::wire::WireError;

pub use fields::Fields;
use fields::{Asked, Command, Pending, Said};
pub use message::MARKER;

/// Something that has been through the redactor. Only this module can make one, and sinks take nothing else.
#[derive(Clone, Debug)]
pub struct Redacted<T>(T);

impl<T> std::ops::Deref for Redacted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Redacted<Entry<'_>> {
    /// The same entry, free of the buffers it was read from.
    pub fn into_owned(self) -> Redacted<Entry<'static>> {
        Redacted(self.0.into_owned())
    }
}

/// Takes the credentials out of an entry.
///
/// Of a sensitive command the body and the reply become `{}`; of a server's error `code`, `codeName` and `errorLabels`
/// stay; a network error stays as it is, as the specification's tests want it. Of what a heartbeat was answered
/// everything stays but `speculativeAuthenticate`: monitors do not authenticate, but a driver that has no monitors asks
/// on the connections of its application.
#[inline]
pub fn apply(entry: Entry<'_>) -> Redacted<Entry<'_>> {
    // An entry is large: it is moved no more than once.
    let mut redacted = Redacted(entry);
    without_credentials(&mut redacted.0.event);
    redacted
}

fn without_credentials(event: &mut Event<'_>) {
    match event {
        Event::CommandStarted(event) if event.info.sensitive => event.command = Document::empty(),
        Event::CommandSucceeded(event) if event.info.sensitive => event.reply = Document::empty(),
        Event::CommandFailed(event) if event.info.sensitive => {
            if let Failure::Reply(reply) = &mut event.failure {
                *reply = error_only(reply);
            }
        }
        Event::ServerHeartbeatSucceeded(event) => without_authentication(&mut event.reply),
        Event::ServerHeartbeatFailed(event) => {
            if let Failure::Reply(reply) = &mut event.failure {
                without_authentication(reply);
            }
        }
        _ => {}
    }
}

/// The redactor of one connection: what it takes out of replies it learns from requests.
///
/// Without [`Fields`] it takes out credentials only, and remembers nothing.
#[derive(Debug, Default)]
pub struct Redactor(Option<Box<Fielded>>);

/// What takes the user's own secrets out of a connection's events and messages.
#[derive(Debug)]
struct Fielded {
    fields: Arc<Fields>,
    /// What was asked, as events have told.
    told: Pending,
    /// The same, as messages have said.
    said: Pending,
}

impl Redactor {
    /// Takes out these fields too, if there are any.
    pub fn new(fields: Option<Arc<Fields>>) -> Self {
        let fielded = |fields| Box::new(Fielded { fields, told: Pending::default(), said: Pending::default() });
        Self(fields.map(fielded))
    }

    /// Takes out of an entry what is not to be seen; see [`apply`].
    #[inline]
    pub fn apply<'a>(&mut self, mut entry: Entry<'a>) -> Redacted<Entry<'a>> {
        self.fields(&mut entry);
        apply(entry)
    }

    /// Takes out of an entry the user's own secrets and nothing else: so what is cut afterwards was whole when it was
    /// looked at. [`apply`] takes out the rest.
    #[inline]
    pub fn fields(&mut self, entry: &mut Entry<'_>) {
        if let Some(fielded) = &mut self.0 {
            fielded.event(&mut entry.event);
        }
    }

    /// Takes the user's own secrets out of a message that was recorded before; of one that cannot be read nothing stays but
    /// its header. Messages are to be given in their order, those of one run to one redactor.
    pub fn recorded(&mut self, message: &mut GivenMessage<'_>, inflate_max_bytes: usize) {
        if let Some(fielded) = &mut self.0 {
            message::recorded(message, inflate_max_bytes, fielded);
        }
    }

    /// Takes out of what a session has read what is not to be seen, and has it recorded as its input.
    ///
    /// Of a message that may hold credentials, the values that are or may be some are exchanged for [`MARKER`], and what
    /// cannot be read is left out but for its header. `inflate_max_bytes` is the session's own limit.
    pub fn seen<'a>(
        &mut self,
        connection: ConnectionId,
        at: Timestamp,
        seen: Seen<'a>,
        inflate_max_bytes: usize,
    ) -> Redacted<Input<'a>> {
        let given = match seen {
            Seen::Message(seen) => Given::Message(message::given(seen, at, inflate_max_bytes, self.0.as_deref_mut())),
            Seen::Begun { side, bytes } => Given::Begun { side, bytes: bytes.into() },
        };
        Redacted(Input { connection, at, given })
    }
}

impl Fielded {
    fn event(&mut self, event: &mut Event<'_>) {
        match event {
            Event::CommandStarted(event) if !event.info.sensitive => {
                let asked = self.request(&event.info, &mut event.command);
                self.told.insert(event.info.exchange, asked);
            }
            Event::CommandSucceeded(event) => self.reply(&event.info, &mut event.reply),
            Event::CommandFailed(event) => match &mut event.failure {
                Failure::Reply(reply) => self.reply(&event.info, reply),
                Failure::Network { .. } => drop(self.told.end(event.info.exchange, &self.fields)),
            },
            _ => {}
        }
    }

    fn request(&self, info: &CommandInfo<'_>, command: &mut Document<'_>) -> Asked {
        let (body, truncated) = (command.as_bytes(), command.truncated());
        let database = Some(info.database_name.as_ref());
        let mut asked =
            Asked::of(&self.fields, &Command { database, is_cut: truncated.is_some(), ..Command::new(body) });
        if let Some(without) = self.fields.request(&mut asked, body) {
            *command = Document::cut(without, truncated);
        }
        asked
    }

    fn reply(&mut self, info: &CommandInfo<'_>, reply: &mut Document<'_>) {
        let asked = self.told.end(info.exchange, &self.fields);
        if info.sensitive {
            return;
        }
        if let Some(without) = self.fields.reply(&asked, reply.as_bytes()) {
            *reply = Document::cut(without, reply.truncated());
        }
    }

    /// A message out of its compression without the secrets; `None` if there are none in it.
    fn message(&mut self, said: Said, bytes: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        fields::rewritten(&self.fields, &mut self.said, said, bytes)
    }
}

/// What a session was told beside its bytes, in which there are no credentials. What was read goes through [`Redactor::seen`].
pub fn told(connection: ConnectionId, at: Timestamp, told: Told<'_>) -> Redacted<Input<'_>> {
    let given = match told {
        Told::Opened(connection) => Given::Opened(connection),
        Told::Sent => Given::Sent,
        Told::Judged { is_monitor } => Given::Judged { is_monitor },
        Told::Tick => Given::Tick,
        Told::Withheld { side, message } => Given::Withheld { side, message: message.into() },
        Told::Closed { by, error } => Given::Closed { by, error: error.map(Into::into) },
    };
    Redacted(Input { connection, at, given })
}

/// A command and its reply, as BSON, that no session has read.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchanged {
    /// The command, `$db` included.
    pub request: Vec<u8>,
    /// What it was answered.
    pub reply: Vec<u8>,
}

/// Takes the credentials out of a command and its reply, as [`Redactor::seen`] does out of messages, and the values of
/// these fields. Whether the command is sensitive the session's list says.
pub fn exchanged(mut it: Exchanged, sensitive: bool, fields: &[Arc<Fields>]) -> Redacted<Exchanged> {
    if !sensitive {
        for fields in fields {
            fields.exchange(&mut it.request, [&mut it.reply]);
        }
        return Redacted(it);
    }
    Redacted(Exchanged { request: message::masked_document(&it.request), reply: message::masked_document(&it.reply) })
}

/// See [`told`]; each is the [`Given`] of its name.
#[derive(Debug)]
#[expect(missing_docs, reason = "as in Given")]
pub enum Told<'a> {
    Opened(Arc<Connection>),
    Sent,
    Judged { is_monitor: bool },
    Tick,
    Withheld { side: Side, message: &'a str },
    Closed { by: Option<Side>, error: Option<&'a str> },
}

/// Leaves out the field of a `hello` reply that has a part of a conversation of authentication in it.
fn without_authentication(reply: &mut Document<'_>) {
    const FIELD: &str = "speculativeAuthenticate";
    let bytes = reply.as_bytes();
    if memchr::memmem::find(bytes, FIELD.as_bytes()).is_none() {
        return;
    }
    *reply = Document::cut(with_fields(bytes, |name| name != FIELD.as_bytes()), reply.truncated());
}

/// What may be shown of a sensitive command's error.
fn error_only(reply: &Document<'_>) -> Document<'static> {
    Document::new(with_fields(reply.as_bytes(), |name| matches!(name, b"code" | b"codeName" | b"errorLabels")))
}

/// Some fields of a sensitive command's document, as they would be recorded: so what is derived of a recording is the same,
/// wherever the document breaks.
fn with_fields(document: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut kept = Vec::new();
    put_document(Elements::readable(&message::masked_document(document)).filter(|it| wanted(it.name)), &mut kept);
    kept
}

#[cfg(test)]
pub(crate) mod testing {
    //! A way around, for tests of what takes nothing but what was redacted.

    use super::Redacted;

    pub(crate) fn redacted<T>(it: T) -> Redacted<T> {
        Redacted(it)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bson::rawdoc;

    use super::*;
    use crate::event::{Address, Phase, ServerHeartbeatFailed, ServerHeartbeatSucceeded, Truncated};

    fn redacted(event: Event<'static>) -> Event<'static> {
        let connection = Arc::new(Connection {
            id: ConnectionId(1),
            client: String::new(),
            upstream: String::new(),
            server: Address::default(),
            tls: false,
        });
        apply(Entry { at: Timestamp::default(), connection, phase: Phase::Monitor, event }).0.event
    }

    fn succeeded(reply: Document<'static>) -> Document<'static> {
        let (connection_id, duration) = (Address::default(), Duration::ZERO);
        let event = ServerHeartbeatSucceeded { connection_id, awaited: false, duration, reply };
        match redacted(Event::ServerHeartbeatSucceeded(Box::new(event))) {
            Event::ServerHeartbeatSucceeded(event) => event.reply,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_heartbeats_reply_is_shown_without_what_authenticates() {
        let payload = rawdoc! { "conversationId": 1, "payload": "r=nonce,s=salt,i=15000" };
        let reply = rawdoc! { "me": "a:1", "speculativeAuthenticate": payload.clone(), "ok": 1.0 };
        let truncated = Some(Truncated { bytes: 5, elements: 1 });
        let shown = succeeded(Document::cut(reply.into_bytes(), truncated));
        assert_eq!(shown, Document::cut(rawdoc! { "me": "a:1", "ok": 1.0 }.into_bytes(), truncated));

        let reply = rawdoc! { "ok": 0.0, "speculativeAuthenticate": payload, "code": 13 };
        let failure = Failure::Reply(reply.into());
        let (connection_id, duration) = (Address::default(), Duration::ZERO);
        let event = ServerHeartbeatFailed { connection_id, awaited: true, duration, failure };
        match redacted(Event::ServerHeartbeatFailed(Box::new(event))) {
            Event::ServerHeartbeatFailed(event) => {
                assert_eq!(event.failure, Failure::Reply(rawdoc! { "ok": 0.0, "code": 13 }.into()));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_heartbeats_reply_without_it_is_as_it_came() {
        // Invalid, so that it would change if it were made anew.
        let reply = Document::new(&b"\x11\0\0\0\x02me\0\x04\0\0\0\xff:1\0\0"[..]);
        assert_eq!(succeeded(reply.clone()), reply);
        let broken = rawdoc! { "me": "a:1", "speculativeAuthenticate": { "payload": "salt" }, "ok": 1.0 }.into_bytes();
        let broken = Document::new([&broken[..broken.len() - 9], &b"\xeeok\0...\0\0"[..]].concat());
        let shown = succeeded(broken);
        assert!(memchr::memmem::find(shown.as_bytes(), b"salt").is_none(), "{shown:?}");
    }
}
