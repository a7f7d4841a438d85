//! Which events a log holds, and which of a log's `show` prints.
//!
//! All that `events`, `phases` and `namespaces` ask for is the same on both halves of an exchange, so a start and its
//! end are both in or both out, and nothing has to be remembered. Whether an exchange failed or was slow is known at
//! its end only: see [`Filter::judges_ends`].
//!
//! `phases` and `namespaces` are questions about commands. Heartbeats, servers, topologies and connections are asked
//! for by `events` alone: a heartbeat is in a log that wants heartbeats, whatever phase its connection is in.

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
            Event::ServerHeartbeatStarted(_) | Event::ServerHeartbeatSucceeded(_) | Event::ServerHeartbeatFailed(_) => {
                Some(Self::Heartbeat)
            }
            Event::ServerOpening(_) | Event::ServerDescriptionChanged(_) | Event::ServerClosed(_) => Some(Self::Server),
            Event::TopologyOpening(_) | Event::TopologyDescriptionChanged(_) | Event::TopologyClosed(_) => {
                Some(Self::Topology)
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

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;

    use super::*;
    use crate::event::{Action, ConnectionCreated, ProtocolError, Side};
    use crate::sink::sample::{AT, connection, failed, said_no, sdam_events, started, succeeded};

    fn entry(phase: Phase, event: impl Into<Event<'static>>) -> Entry<'static> {
        Entry { at: AT, connection: connection(1), phase, event: event.into() }
    }

    /// Whether a command on that namespace is wanted; both halves of it must agree.
    fn wants(filter: &Filter, phase: Phase, namespace: &str) -> bool {
        let start = started(namespace, rawdoc! { "find": 1 });
        let ends = [
            Event::from(succeeded(&start, 5, rawdoc! { "ok": 1 })),
            failed(&start, 5, said_no(rawdoc! { "ok": 0 })).into(),
        ];
        let wanted = filter.wants(&entry(phase, start));
        for end in ends {
            assert_eq!(filter.wants(&entry(phase, end)), wanted);
        }
        wanted
    }

    fn protocol_error() -> Entry<'static> {
        let error = ProtocolError { side: Side::Client, offset: 0, message: "m".into(), action: Action::Forwarded };
        entry(Phase::Monitor, error)
    }

    #[test]
    fn namespaces() {
        // The columns: shop (no collection), shop.orders, shop.orders.old, other.orders.
        for (list, wanted) in [
            (&[][..], [true, true, true, true]),
            (&["shop"], [true, true, true, false]),
            (&["shop.*"], [false, true, true, false]),
            (&["shop.orders"], [false, true, false, false]),
            (&["shop.orders.old"], [false, false, true, false]),
            (&["*.orders"], [false, true, false, true]),
            (&["shop.orders", "other"], [false, true, false, true]),
            (&["!shop"], [false, false, false, true]),
            (&["!shop.*"], [true, false, false, true]),
            (&["shop", "!shop.orders"], [true, false, true, false]),
            (&["!shop.orders", "shop"], [true, false, true, false]),
        ] {
            let namespaces = list.iter().map(|text| text.parse().unwrap()).collect();
            let filter = Filter { namespaces, ..Filter::default() };
            let found = ["shop", "shop.orders", "shop.orders.old", "other.orders"]
                .map(|namespace| wants(&filter, Phase::App, namespace));
            assert_eq!(found, wanted, "{list:?}");
            // They say nothing of what has no namespace.
            assert!(filter.wants(&entry(Phase::App, ConnectionCreated {})) && filter.wants(&protocol_error()));
        }
    }

    #[test]
    fn namespaces_are_written_as_they_are_read() {
        for text in ["shop", "shop.*", "shop.orders", "*.orders", "!shop.a.b", "!*.x"] {
            assert_eq!(text.parse::<Namespace>().unwrap().to_string(), text);
        }
        for text in ["", "!", ".orders", "!.x", "shop."] {
            assert_eq!(text.parse::<Namespace>(), Err(FilterError::Namespace(text.to_owned())));
        }
        assert_eq!(Namespace::include(None, Some("orders")).unwrap().to_string(), "*.orders");
        assert_eq!(Namespace::include(Some(""), None), Err(FilterError::Empty));
    }

    #[test]
    fn kinds_and_phases() {
        let filter =
            Filter { events: vec![EventKind::Command], phases: vec![Phase::App, Phase::Auth], ..Filter::default() };
        let wanted = Phase::ALL.map(|phase| wants(&filter, phase, "shop"));
        assert_eq!(wanted, [true, true, false, false, false]);
        assert!(!filter.wants(&entry(Phase::App, ConnectionCreated {})));
        assert!(filter.wants(&protocol_error()), "whatever was asked for");
        let connections = Filter { events: vec![EventKind::Connection], ..filter };
        assert!(!wants(&connections, Phase::App, "shop"));
        // Phases are of commands: a connection is made before its phase is known.
        assert!(connections.wants(&entry(Phase::Handshake, ConnectionCreated {})));
    }

    #[test]
    fn heartbeats_servers_and_topologies_are_asked_for_by_their_kind_alone() {
        for events in sdam_events() {
            let kind = EventKind::of(&events).unwrap();
            for phase in Phase::ALL {
                let entry = entry(phase, events.clone());
                let phases = vec![Phase::App];
                let namespaces = vec!["shop.orders".parse().unwrap()];
                let alone = Filter { events: vec![kind], phases, namespaces, ..Filter::default() };
                assert!(alone.wants(&entry), "{entry:?}");
                let others = EventKind::ALL.into_iter().filter(|it| *it != kind).collect();
                assert!(!Filter { events: others, ..Filter::default() }.wants(&entry), "{entry:?}");
                assert!(!Filter { failed: true, ..Filter::default() }.wants(&entry), "{entry:?}");
            }
        }
    }

    #[test]
    fn what_only_ends_tell() {
        let start = started("shop", rawdoc! { "find": 1 });
        let of = |filter: &Filter| {
            let quick = succeeded(&start, 10_000, rawdoc! { "ok": 1 });
            let slow = succeeded(&start, 10_001, rawdoc! { "ok": 1 });
            let failed = failed(&start, 5, said_no(rawdoc! { "ok": 0 }));
            let events: [Event<'_>; 5] =
                [start.clone().into(), quick.into(), slow.into(), failed.into(), ConnectionCreated {}.into()];
            events.map(|event| filter.wants(&entry(Phase::App, event)))
        };
        assert_eq!(of(&Filter::default()), [true; 5]);
        let failed_only = Filter { failed: true, ..Filter::default() };
        assert_eq!(of(&failed_only), [true, false, false, true, false]);
        let slow_only = Filter { slower_than: Some(Duration::from_millis(10)), ..Filter::default() };
        assert_eq!(of(&slow_only), [true, false, true, false, false]);
        assert!(failed_only.judges_ends() && slow_only.judges_ends() && !Filter::default().judges_ends());
        let named = Filter { commands: vec!["FIND".to_owned()], ..Filter::default() };
        assert_eq!(of(&named), [true, true, true, true, false]);
        let other = Filter { commands: vec!["insert".to_owned()], ..Filter::default() };
        assert_eq!(of(&other), [false; 5]);
    }
}
