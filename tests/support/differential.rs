//! A driver's own events against the proxy's log of the same run, one by one.
//!
//! An event of the driver and one of ours are a pair if they are of one kind, command, request id and server connection,
//! in order of appearance. Every event must have its partner and be equal to it in every field that both have; what is
//! known to differ is in the driver's table of [`Departure`]s, and each of those must have been needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use bson::{Bson, Document};
use serde_json::Value;

use super::compare::{Comparison, Departure};

/// A command event, from either side: the driver's program and the log use the same names.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) command_name: String,
    pub(crate) database_name: Option<String>,
    pub(crate) request_id: i64,
    pub(crate) server_connection_id: Option<i64>,
    pub(crate) duration: Option<i64>,
    pub(crate) document: Content,
    /// Whether it continues an exhaust stream; only ours say so.
    continues: bool,
    /// The number that only ours have.
    exchange: Option<i64>,
}

/// What a command event carries.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// The command, the reply, or the reply that is the failure.
    Document(Document),
    /// A failure in the driver's words.
    Text(String),
}

impl Event {
    /// From a line of either.
    pub(crate) fn from_json(line: &Value) -> Self {
        let text = |field: &str| Some(line.get(field)?.as_str()?.to_owned());
        let number = |field: &str| line.get(field)?.as_i64();
        let need = |field: &str| text(field).unwrap_or_else(|| panic!("no {field}: {line}"));
        let content = ["command", "reply", "failure"].iter().find_map(|field| line.get(field));
        let document = match content.unwrap_or_else(|| panic!("neither command, reply nor failure: {line}")) {
            Value::String(text) => Content::Text(text.clone()),
            content => match Bson::try_from(content.clone()) {
                Ok(Bson::Document(document)) => Content::Document(document),
                other => panic!("{other:?} is not a document: {line}"),
            },
        };
        let proxy = |field: &str| line.get("proxy")?.get(field)?.as_i64();
        Self {
            kind: need("event"),
            command_name: need("commandName"),
            database_name: text("databaseName"),
            request_id: number("requestId").unwrap_or_else(|| panic!("no requestId: {line}")),
            server_connection_id: number("serverConnectionId"),
            duration: number("durationMicros"),
            document,
            continues: proxy("continues").is_some(),
            exchange: proxy("exchange"),
        }
    }

    fn is_end(&self) -> bool {
        self.kind != "commandStartedEvent"
    }

    /// The path that differences in its document begin with.
    fn part(&self) -> &'static str {
        match self.kind.as_str() {
            "commandStartedEvent" => "command",
            "commandSucceededEvent" => "reply",
            _ => "failure",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, command_name, request_id, server_connection_id: id, .. } = self;
        write!(f, "{kind} {command_name} #{request_id}")?;
        id.map_or(Ok(()), |id| write!(f, " on server connection {id}"))
    }
}

/// What is known of a driver's own events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// How they differ from the wire.
    pub(crate) departures: &'static [Departure],
    /// The commands it sends and does not publish.
    pub(crate) unpublished: &'static [&'static str],
}

/// How many pairs were equal: by command, starts and ends together.
pub(crate) type Pairs = BTreeMap<String, usize>;

/// Compares; the pairs, or everything that is not as it should be.
pub(crate) fn compare(theirs: &[Event], ours: &[Event], known: Known) -> Result<Pairs, Vec<String>> {
    let mut comparison = Comparison::new(known.departures);
    let unacknowledged = unacknowledged(ours);
    let mut faults = Vec::new();
    let mut waiting: BTreeMap<Key, VecDeque<(usize, &Event)>> = BTreeMap::new();
    let told = theirs.iter().any(|event| event.server_connection_id.is_some());
    for (position, event) in ours.iter().enumerate() {
        waiting.entry(key(event, told, &mut comparison)).or_default().push_back((position, event));
    }
    let (mut pairs, mut latest) = (Pairs::new(), BTreeMap::new());
    for event in theirs {
        let partner = waiting.get_mut(&key(event, told, &mut comparison)).and_then(VecDeque::pop_front);
        let Some((position, partner)) = partner else {
            faults.push(format!("the driver's {event} is not in the log"));
            continue;
        };
        *pairs.entry(event.command_name.clone()).or_default() += 1;
        let is_answered = partner.exchange.is_none_or(|exchange| !unacknowledged.contains(&exchange));
        let before = is_answered.then(|| latest.insert(partner.server_connection_id, position)).flatten();
        if before.is_some_and(|before| before > position) {
            faults.push(format!("{event}: the log has it in another order"));
        }
        let result = fields(event, partner, is_answered, &mut comparison);
        faults.extend(result.err().map(|difference| format!("{event}: {difference}")));
    }
    let mut unpublished = BTreeSet::new();
    for (_, event) in waiting.values().flatten() {
        match known.unpublished.iter().find(|name| **name == event.command_name) {
            Some(name) => _ = unpublished.insert(*name),
            None => faults.push(format!("our {event} is not among the driver's")),
        }
    }
    let stale = known.unpublished.iter().filter(|name| !unpublished.contains(*name));
    faults.extend(stale.map(|name| format!("{name} is published after all: it has no place in the table")));
    let unused = comparison.unused().into_iter();
    faults.extend(unused.map(|departure| format!("{departure:?} was not needed: it has no place in the table")));
    if faults.is_empty() { Ok(pairs) } else { Err(faults) }
}

type Key = (bool, String, i64, Option<i64>);

/// What makes two events a pair; `told`: whether the driver tells the server's connections.
fn key(event: &Event, told: bool, comparison: &mut Comparison<'_>) -> Key {
    let request_id = match event.exchange {
        Some(_) if event.continues && comparison.excuse(Departure::Continuations) => 0,
        Some(_) if comparison.excuse(Departure::RequestIds) => event.request_id - 1,
        _ => event.request_id,
    };
    let anonymous = !told && comparison.excuse(Departure::NoServerConnectionId);
    let connection = event.server_connection_id.filter(|_| !anonymous);
    (event.is_end(), event.command_name.clone(), request_id, connection)
}

/// The exchanges that no reply was asked for. They end when a socket has taken their bytes, ours the server's, the driver's
/// ours: neither takes longer by necessity, and the driver's next command may be under way before our write is done.
fn unacknowledged(ours: &[Event]) -> BTreeSet<i64> {
    let is_w0 = |event: &&Event| match &event.document {
        Content::Document(command) if !event.is_end() => {
            let w = command.get_document("writeConcern").ok().and_then(|it| it.get("w").cloned());
            w.is_some_and(|w| w == Bson::Int32(0) || w == Bson::Int64(0) || w == Bson::Double(0.0))
        }
        _ => false,
    };
    ours.iter().filter(is_w0).filter_map(|event| event.exchange).collect()
}

fn fields(theirs: &Event, ours: &Event, is_answered: bool, comparison: &mut Comparison<'_>) -> Result<(), String> {
    if theirs.kind != ours.kind {
        return Err(format!("is a {} in the log", ours.kind));
    }
    if theirs.database_name.is_some() && theirs.database_name != ours.database_name {
        return Err(format!("databaseName: {:?}, not {:?}", ours.database_name, theirs.database_name));
    }
    match (&theirs.document, &ours.document) {
        (Content::Document(theirs_document), Content::Document(ours_document)) => {
            comparison.documents(theirs.part(), theirs_document, ours_document)?;
            let database = ours_document.get_str("$db").ok().filter(|_| !ours.is_end());
            if database.is_some() && database != theirs.database_name.as_deref() {
                return Err(format!("command.$db: {database:?}, not {:?}", theirs.database_name));
            }
        }
        (Content::Text(text), Content::Document(ours)) => {
            let message = ours.get_str("errmsg").or_else(|_| ours.get_str("message")).unwrap_or_default();
            if message.is_empty() || !text.contains(message) {
                return Err(format!("failure: {message:?} is not in {text:?}"));
            }
        }
        (_, Content::Text(_)) => return Err("the log has text where a document should be".to_owned()),
    }
    durations(theirs, ours, is_answered, comparison)
}

/// Ours is measured inside of theirs, so it is not longer; a clock that ticks once a microsecond may cut one off theirs.
fn durations(their: &Event, our: &Event, is_answered: bool, comparison: &mut Comparison<'_>) -> Result<(), String> {
    let (Some(theirs), Some(ours)) = (their.duration, our.duration) else {
        let both = their.duration.is_some() == our.duration.is_some();
        return if both { Ok(()) } else { Err("durationMicros is on one side only".to_owned()) };
    };
    let longer = is_answered && ours > theirs + 1;
    let is_coarse = longer && ours <= theirs + 1000 && comparison.excuse(Departure::Milliseconds);
    let excused = is_coarse || (longer && our.continues && comparison.excuse(Departure::Continuations));
    if longer && !excused { Err(format!("durationMicros: {ours} is longer than {theirs}")) } else { Ok(()) }
}

/// A log to be held against a driver's own events: whole documents, nothing dropped, and of commands what drivers publish.
pub(crate) const BESIDE_A_DRIVER: [&str; 8] = [
    "--log-max-document-bytes",
    "0",
    "--log-extended-json",
    "canonical",
    "--log-phases",
    "app,auth",
    "--log-on-overflow",
    "block",
];
