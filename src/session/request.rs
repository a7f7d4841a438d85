//! What a request is: its names, what it carries, and whether it is answered.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::legacy;
use super::merge::merged;
use super::{names, within};
use crate::bson::{Element, Elements, Kind};
use crate::event::{CommandInfo, Compressor, Document};
use crate::wire::{Message, OpMsg, WireError, msg_flags, query_flags};

/// What is remembered of a request until its reply.
#[derive(Clone, Debug)]
pub(super) struct Request {
    names: Arc<Names>,
    pub(super) request_id: i32,
    pub(super) compressor: Option<Compressor>,
    pub(super) sensitive: bool,
    pub(super) reply: ReplyForm,
    /// It may be answered several times.
    pub(super) repeats: bool,
    /// The command of one that does, for the started events of the later parts.
    pub(super) command: Option<Document<'static>>,
    /// What a `hello` asks, if this is one.
    pub(super) hello: Option<Box<Hello>>,
    /// Nothing of it could be seen: it may be any command.
    pub(super) is_unseen: bool,
    /// It may wait for data that never come: a `getMore` with a time limit, which only tailing cursors have.
    pub(super) tails: bool,
}

/// Names that are remembered of a connection's requests: the last that were seen.
const NAMES_REMEMBERED: usize = 8;

/// Longer ones, in bytes, are nobody's real names and not remembered.
const NAMES_LEN_MAX: usize = 1024;

/// What a command is called, and what it is for. Few of a connection's are new.
#[derive(Debug)]
pub(super) struct Names {
    command: String,
    database: String,
    collection: Option<String>,
    /// Commands of that name carry credentials.
    is_sensitive: bool,
}

/// The names of the last requests of a connection, those of the very last first.
pub(super) type Before = Vec<Arc<Names>>;

/// How the reply is to be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ReplyForm {
    /// It does not come.
    None,
    /// As a command's reply.
    Command,
    /// The documents of a legacy query; they become a `firstBatch`.
    FirstBatch,
    /// The documents of a legacy get-more; they become a `nextBatch`.
    NextBatch,
}

/// What a `hello` says of the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Hello {
    /// The `client` document, as it came.
    pub(super) client: Option<Box<[u8]>>,
    /// It knows the server's `topologyVersion`.
    version: bool,
    /// How long the server may wait: `maxAwaitTimeMS`.
    pub(super) await_time: Option<Duration>,
    /// Only an application's connection authenticates: `saslSupportedMechs` or `speculativeAuthenticate` is there.
    pub(super) authenticates: bool,
    pub(super) load_balanced: bool,
    /// Only an application names a session, or a database other than `admin`: drivers do neither for themselves.
    pub(super) of_application: bool,
}

/// A request and the command document of its started event.
pub(super) struct Started<'a> {
    pub(super) request: Request,
    pub(super) command: Cow<'a, [u8]>,
}

/// What a walk over a command's top level finds.
#[derive(Default)]
struct Fields<'a> {
    name: &'a [u8],
    database: Option<&'a [u8]>,
    collection: Option<&'a [u8]>,
    speculative: bool,
    tails: bool,
    hello: Option<Box<Hello>>,
}

impl Request {
    /// For a message whose command's name cannot be seen: a compressed one over the limit, or one of which the name was
    /// too long to be kept. It may be anything, so nothing of it is shown.
    pub(super) fn unseen(request_id: i32, compressor: Option<Compressor>, flags: u32) -> Self {
        let fields = Fields { name: b"unknown", database: Some(b"unknown"), ..Fields::default() };
        let repeats = flags & msg_flags::EXHAUST_ALLOWED != 0;
        let request = Self::new(fields, request_id, compressor, form_of(flags), repeats, &mut Vec::new());
        Self { sensitive: true, is_unseen: true, ..request }
    }

    fn new(
        fields: Fields<'_>,
        request_id: i32,
        compressor: Option<Compressor>,
        reply: ReplyForm,
        repeats: bool,
        before: &mut Before,
    ) -> Self {
        let names = Names::shared(&fields, before);
        Self {
            request_id,
            compressor,
            sensitive: fields.speculative || names.is_sensitive,
            names,
            reply,
            repeats,
            command: None,
            hello: fields.hello,
            is_unseen: false,
            tails: fields.tails,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.names.command
    }

    pub(super) fn database(&self) -> &str {
        &self.names.database
    }

    pub(super) fn collection(&self) -> Option<&str> {
        self.names.collection.as_deref()
    }

    /// Whether it is a step of an authentication.
    pub(super) fn authenticates(&self) -> bool {
        self.sensitive && names::is_authentication(self.name())
    }

    /// The part of an event's [`CommandInfo`] that the request gives; the rest is the connection's.
    pub(super) fn info(&self) -> CommandInfo<'_> {
        CommandInfo {
            command_name: self.name().into(),
            database_name: self.database().into(),
            collection: self.collection().map(Cow::from),
            request_id: self.request_id,
            server_connection_id: None,
            service_id: None,
            exchange: Default::default(),
            continues: None,
            compressor: self.compressor,
            sensitive: self.sensitive,
        }
    }
}

impl Names {
    /// Those that were remembered, or new ones, in the place of the last.
    fn shared(fields: &Fields<'_>, before: &mut Before) -> Arc<Self> {
        if let Some((at, names)) = before.iter().enumerate().find(|(_, names)| names.are_of(fields)) {
            let names = Arc::clone(names);
            before.swap(0, at);
            return names;
        }
        let names = Arc::new(Self::new(fields));
        if names.len() <= NAMES_LEN_MAX {
            before.truncate(NAMES_REMEMBERED - 1);
            before.insert(0, Arc::clone(&names));
        }
        names
    }

    /// What is not UTF-8 in them is replaced.
    fn new(fields: &Fields<'_>) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self {
            command: text(fields.name),
            database: text(fields.database.unwrap_or_default()),
            collection: fields.collection.map(text),
            is_sensitive: names::is_sensitive_bytes(fields.name),
        }
    }

    fn len(&self) -> usize {
        self.command.len() + self.database.len() + self.collection.as_ref().map_or(0, String::len)
    }

    /// Whether they are these; what was replaced is not.
    fn are_of(&self, fields: &Fields<'_>) -> bool {
        self.command.as_bytes() == fields.name
            && self.database.as_bytes() == fields.database.unwrap_or_default()
            && self.collection.as_ref().map(String::as_bytes) == fields.collection
    }
}

/// What is said of a request, or what should be one, without a command.
const NO_NAME: WireError = WireError::Short { field: "command name", needed: 1, had: 0 };

/// Reads a decoded request, one after the other of a connection.
///
/// # Errors
/// If it is no request, its body has not even a command's name, or may hold credentials where it breaks.
pub(super) fn read<'a>(
    message: &Message<'a>,
    request_id: i32,
    compressor: Option<Compressor>,
    before: &mut Before,
) -> Result<Started<'a>, WireError> {
    match message {
        Message::Msg(message) => read_msg(message, request_id, compressor, before),
        Message::Query(query) => {
            let up = legacy::query(query).ok_or(NO_NAME)?;
            let exhaust = query.flags & query_flags::EXHAUST != 0;
            let form = if up.is_command { ReplyForm::Command } else { ReplyForm::FirstBatch };
            up_converted(up, request_id, compressor, form, exhaust, before)
        }
        Message::GetMore(message) => {
            up_converted(legacy::get_more(message), request_id, compressor, ReplyForm::NextBatch, false, before)
        }
        Message::Insert(message) => unanswered(legacy::insert(message), request_id, compressor, before),
        Message::Update(message) => unanswered(legacy::update(message), request_id, compressor, before),
        Message::Delete(message) => unanswered(legacy::delete(message), request_id, compressor, before),
        Message::KillCursors(message) => unanswered(legacy::kill_cursors(message), request_id, compressor, before),
        Message::Reply(_) | Message::Compressed(_) => Err(NO_NAME),
    }
}

fn read_msg<'a>(
    message: &OpMsg<'a>,
    request_id: i32,
    compressor: Option<Compressor>,
    before: &mut Before,
) -> Result<Started<'a>, WireError> {
    let mut fields = fields(message.body)?;
    if message.sequences.iter().any(|sequence| is_speculative(sequence.identifier)) {
        fields.speculative = true;
        fields.hello.iter_mut().for_each(|hello| hello.authenticates = true);
    }
    let command = merged(message);
    let repeats = message.has(msg_flags::EXHAUST_ALLOWED);
    let request = Request::new(fields, request_id, compressor, form_of(message.flags), repeats, before);
    Ok(Started { request, command })
}

/// Whether an `OP_MSG` of these flags is answered.
fn form_of(flags: u32) -> ReplyForm {
    if flags & msg_flags::MORE_TO_COME != 0 { ReplyForm::None } else { ReplyForm::Command }
}

/// Whether a field, or a sequence in its place, holds the first step of an authentication.
fn is_speculative(name: &[u8]) -> bool {
    name.strip_prefix(b"speculativeAuthenticate").is_some_and(|rest| matches!(rest, [] | [b'.', ..]))
}

fn unanswered<'a>(
    up: legacy::UpConverted<'a>,
    request_id: i32,
    compressor: Option<Compressor>,
    before: &mut Before,
) -> Result<Started<'a>, WireError> {
    up_converted(up, request_id, compressor, ReplyForm::None, false, before)
}

fn up_converted<'a>(
    up: legacy::UpConverted<'a>,
    request_id: i32,
    compressor: Option<Compressor>,
    form: ReplyForm,
    exhaust: bool,
    before: &mut Before,
) -> Result<Started<'a>, WireError> {
    let fields = Fields { database: Some(up.database.as_bytes()), ..fields(&up.command)? };
    let request = Request::new(fields, request_id, compressor, form, exhaust, before);
    Ok(Started { request, command: up.command })
}

/// Walks over a command's top level.
fn fields(body: &[u8]) -> Result<Fields<'_>, WireError> {
    let mut elements = Elements::readable(body);
    let first = elements.next().ok_or(NO_NAME)?;
    let name = first.name;
    let is_get_more = name == b"getMore";
    let mut hello = names::is_hello(name).then(Box::<Hello>::default);
    let mut fields = Fields::default();
    if names::is_on_collection(name) {
        // An up-converted OP_KILL_CURSORS names none.
        fields.collection = first.as_str_bytes().filter(|name| !name.is_empty());
    }
    for element in elements.by_ref() {
        match element.name {
            b"$db" => fields.database = element.as_str_bytes(),
            b"collection" if is_get_more => fields.collection = element.as_str_bytes(),
            b"maxTimeMS" if is_get_more => fields.tails = true,
            // Credentials are credentials, whatever the command that they are found in is called.
            name if is_speculative(name) => {
                fields.speculative = true;
                hello.iter_mut().for_each(|hello| hello.authenticates = true);
            }
            _ => hello.iter_mut().for_each(|hello| hello.read(&element)),
        }
    }
    within::check_unread(elements.unread())?;
    if let Some(hello) = &mut hello {
        hello.of_application |= fields.database.is_some_and(|name| name != b"admin");
    }
    Ok(Fields { name, hello, ..fields })
}

impl Hello {
    /// Whether it asks the server to wait for a change.
    pub(super) fn is_awaitable(&self) -> bool {
        self.version && self.await_time.is_some()
    }

    /// Takes note of one of its fields.
    fn read(&mut self, element: &Element<'_>) {
        match element.name {
            b"client" => self.client = element.as_document().map(Box::from),
            b"topologyVersion" => self.version = element.kind != Kind::Null,
            b"maxAwaitTimeMS" => {
                let millis = element.as_i64().and_then(|millis| u64::try_from(millis).ok());
                self.await_time = Some(Duration::from_millis(millis.unwrap_or_default()));
            }
            b"saslSupportedMechs" => self.authenticates = true,
            b"lsid" => self.of_application = true,
            b"loadBalanced" => self.load_balanced = element.as_bool_truthy(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(name: &'a [u8], collection: Option<&'a [u8]>) -> Fields<'a> {
        Fields { name, database: Some(b"shop"), collection, ..Fields::default() }
    }

    #[test]
    fn names_are_shared_while_they_are_remembered() {
        let mut before = Before::new();
        let find = Names::shared(&fields(b"find", Some(b"orders")), &mut before);
        for number in 0..NAMES_REMEMBERED - 1 {
            let collection = number.to_string();
            let other = Names::shared(&fields(b"find", Some(collection.as_bytes())), &mut before);
            assert_eq!(other.collection, Some(collection));
        }
        assert!(Arc::ptr_eq(&find, &Names::shared(&fields(b"find", Some(b"orders")), &mut before)));
        let long = "c".repeat(NAMES_LEN_MAX);
        let others =
            [(&b"find"[..], None), (b"find", Some(&b""[..])), (b"find", Some(long.as_bytes())), (b"\xff", None)];
        for (name, collection) in others {
            let names = Names::shared(&fields(name, collection), &mut before);
            assert_eq!(names.collection.as_ref().map(String::as_bytes), collection);
            assert_eq!(names.command.as_bytes(), if name == b"\xff" { "\u{fffd}".as_bytes() } else { name });
        }
        assert!(before.len() == NAMES_REMEMBERED && before.iter().all(|names| names.len() <= NAMES_LEN_MAX));
        assert!(!names::is_sensitive("find") && Names::shared(&fields(b"saslStart", None), &mut before).is_sensitive);
    }
}
