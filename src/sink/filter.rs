//! Which events a log holds, and which of a log's `show` prints.
//!
//! All that `events`, `phases` and `namespaces` ask for is the same on both halves of an exchange, so a start and its
//! end are both in or both out, and nothing has to be remembered. Whether an exchange failed or was slow is known at
//! its end only: see [`Filter::judges_ends`].

use std::str::FromStr;
use std::time::Duration;

use crate::event::{CommandInfo, Entry, Event, Phase};

/// A kind of events, as `events` names them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum EventKind {
    /// Commands: started, succeeded, failed.
    Command,
    /// Heartbeats of the drivers' monitors.
    Heartbeat,
    /// What is known of servers.
    Server,
    /// What is known of topologies.
    Topology,
    /// Applications' connections: created, ready, closed.
    Connection,
}

impl EventKind {
    /// All of them, in the order in which documents list them.
    pub const ALL: [Self; 5] = [Self::Command, Self::Heartbeat, Self::Server, Self::Topology, Self::Connection];

    /// `command`, `heartbeat`, `server`, `topology` or `connection`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Heartbeat => "heartbeat",
            Self::Server => "server",
            Self::Topology => "topology",
            Self::Connection => "connection",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind of an event; `None` for a protocol error, which is in every log.
    pub fn of(event: &Event<'_>) -> Option<Self> {
        match event {
            Event::CommandStarted(_) | Event::CommandSucceeded(_) | Event::CommandFailed(_) => Some(Self::Command),
            Event::ConnectionCreated(_) | Event::ConnectionReady(_) | Event::ConnectionClosed(_) => {
                Some(Self::Connection)
            }
            Event::ProtocolError(_) => None,
        }
    }
}

/// Why a filter could not be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FilterError {
    /// Nothing, or nothing after the `!` or before the dot.
    #[error("{0:?} is not a namespace: expected db, db.collection, db.* or *.collection, or one of them after a !")]
    Namespace(String),
    /// A database or a collection without a name.
    #[error("a database or a collection has an empty name")]
    Empty,
}

/// One entry of `namespaces`: `db` (everything in that database), `db.*` (what names a collection there),
/// `db.collection`, `*.collection` (in any database); each after a `!` to leave it out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    exclude: bool,
    database: String,
    collection: Collection,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Collection {
    AnyOrNone,
    Any,
    Named(String),
}

impl Namespace {
    /// Everything in a database, on a collection of any database, or on one collection of one.
    ///
    /// # Errors
    /// If a name is empty.
    pub fn include(database: Option<&str>, collection: Option<&str>) -> Result<Self, FilterError> {
        let empty = |name: Option<&str>| name.is_some_and(str::is_empty);
        if empty(database) || empty(collection) {
            return Err(FilterError::Empty);
        }
        Ok(Self {
            exclude: false,
            database: database.unwrap_or("*").to_owned(),
            collection: collection.map_or(Collection::AnyOrNone, |name| Collection::Named(name.to_owned())),
        })
    }

    fn matches(&self, database: &str, collection: Option<&str>) -> bool {
        (self.database == database || self.database == "*")
            && match &self.collection {
                Collection::AnyOrNone => true,
                Collection::Any => collection.is_some(),
                Collection::Named(name) => collection == Some(name),
            }
    }
}

impl FromStr for Namespace {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (exclude, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // A database's name has no dot in it, a collection's may.
        let (database, collection) = match rest.split_once('.') {
            None => (rest, Collection::AnyOrNone),
            Some((database, "*")) => (database, Collection::Any),
            Some((_, "")) => return Err(FilterError::Namespace(text.to_owned())),
            Some((database, name)) => (database, Collection::Named(name.to_owned())),
        };
        if database.is_empty() {
            return Err(FilterError::Namespace(text.to_owned()));
        }
        Ok(Self { exclude, database: database.to_owned(), collection })
    }
}

/// As it is written in `namespaces`.
impl std::fmt::Display for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let exclude = if self.exclude { "!" } else { "" };
        match &self.collection {
            Collection::AnyOrNone => write!(f, "{exclude}{}", self.database),
            Collection::Any => write!(f, "{exclude}{}.*", self.database),
            Collection::Named(name) => write!(f, "{exclude}{}.{name}", self.database),
        }
    }
}

/// Which events are wanted. A protocol error passes whatever `events`, `phases` and `namespaces` say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Filter {
    /// These kinds.
    pub events: Vec<EventKind>,
    /// Of commands, those in these phases.
    pub phases: Vec<Phase>,
    /// Of commands, those in one of these namespaces, or in any if none includes; and in none that excludes.
    pub namespaces: Vec<Namespace>,
    /// Of commands, those of one of these names, whatever their case; any if there is none.
    pub commands: Vec<String>,
    /// Of commands, only those that failed.
    pub failed: bool,
    /// Of commands, only those that took longer.
    pub slower_than: Option<Duration>,
}

/// Everything, in every phase.
impl Default for Filter {
    fn default() -> Self {
        Self {
            events: EventKind::ALL.to_vec(),
            phases: Phase::ALL.to_vec(),
            namespaces: Vec::new(),
            commands: Vec::new(),
            failed: false,
            slower_than: None,
        }
    }
}

impl Filter {
    /// Whether the entry is wanted. A started event is if its end may be: see [`Filter::judges_ends`].
    pub fn wants(&self, entry: &Entry<'_>) -> bool {
        let Some(kind) = EventKind::of(&entry.event) else {
            return !self.asks_for_commands();
        };
        if !self.events.contains(&kind) {
            return false;
        }
        match entry.event.command_info() {
            Some(info) => self.wants_command(info, entry.phase) && self.wants_end(&entry.event),
            None => !self.asks_for_commands(),
        }
    }

    /// Whether it depends on an exchange's end if the exchange is wanted, so that its start must wait for it.
    pub fn judges_ends(&self) -> bool {
        self.failed || self.slower_than.is_some()
    }

    /// Whether something was asked for that only commands have, so that nothing else is wanted.
    fn asks_for_commands(&self) -> bool {
        self.judges_ends() || !self.commands.is_empty()
    }

    fn wants_command(&self, info: &CommandInfo<'_>, phase: Phase) -> bool {
        self.phases.contains(&phase)
            && self.wants_namespace(&info.database_name, info.collection.as_deref())
            && (self.commands.is_empty() || self.commands.iter().any(|it| it.eq_ignore_ascii_case(&info.command_name)))
    }

    fn wants_namespace(&self, database: &str, collection: Option<&str>) -> bool {
        let mut includes = self.namespaces.iter().filter(|it| !it.exclude).peekable();
        let mut excludes = self.namespaces.iter().filter(|it| it.exclude);
        (includes.peek().is_none() || includes.any(|it| it.matches(database, collection)))
            && !excludes.any(|it| it.matches(database, collection))
    }

    fn wants_end(&self, event: &Event<'_>) -> bool {
        let (failed, duration) = match event {
            Event::CommandSucceeded(event) => (false, event.duration),
            Event::CommandFailed(event) => (true, event.duration),
            _ => return true,
        };
        (failed || !self.failed) && self.slower_than.is_none_or(|limit| duration > limit)
    }
}
