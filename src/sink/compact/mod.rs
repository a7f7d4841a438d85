//! One line a finished command, and one a change of a topology, for people.
//!
//! ```text
//! 07:44:31.867Z c3 shop.orders find {status: "open"} sort {total: -1} limit 10  12 docs  1.84ms
//! 07:44:31.871Z c3 shop.orders insert 2 docs  failed: DuplicateKey (11000): E11000 dup…  362µs
//! 07:44:32.104Z c3 shop.orders aggregate [$match, $group]  3 docs  slow 228ms
//! 07:44:58.113Z t00001f topology ReplicaSetNoPrimary  no primary (was a:27017)  lost a:27017: connection closed
//! ```
//!
//! Times of day are UTC. Colour repeats what words say: `failed`, `slow`. On a terminal the arguments are shortened so
//! that a line fits, and outcomes stand at its right edge. Nothing that came from the wire is shown as it is:
//! it goes through `printable.rs`.

mod command;
mod shell;
#[cfg(test)]
mod tests;
mod topology;

use std::time::Duration;

use self::shell::{columns, shortened};
use super::duration::shown;
use super::memory::Memory;
use super::printable::{plural, printed};
use super::time::time_of_day;
use super::{EventsDropped, Options, Render};
use crate::event::{
    Address, CommandInfo, CommandStarted, CommandSucceeded, ConnectionClosed, Entry, Event, Failure, Metadata,
    ProtocolError, Side, Timestamp, TopologyId,
};
use crate::redact::Redacted;

/// From here on a command is called slow.
const SLOW: Duration = Duration::from_millis(100);

/// Commands in flight whose arguments are remembered.
const COMMANDS_REMEMBERED: usize = 8192;

/// Characters of arguments where there is no terminal to fit.
const ARGUMENTS_MAX: usize = 300;

/// Characters of an error message where there is no terminal to fit.
const REASON_MAX: usize = 300;

/// Columns below which nothing sensible can be shown; a narrower terminal breaks the lines.
const WIDTH_MIN: usize = 60;

/// Renders finished commands, and what else its log was asked for, each as one line for people.
#[derive(Debug)]
pub struct Compact {
    colour: bool,
    width: Option<usize>,
    /// By exchange.
    started: Memory<Started, COMMANDS_REMEMBERED>,
}

/// What is needed of a command at its end.
#[derive(Debug)]
struct Started {
    arguments: String,
    /// Its arguments are a guess until the reply tells how many documents there were.
    is_cut_insert: bool,
    /// It asked the server to wait, so it cannot be slow.
    waits: bool,
}

/// How a part of a line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Plain,
    Dim,
    Bold,
    Green,
    Yellow,
    Red,
}

impl Style {
    /// The parameters of the terminal's "select graphic rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Dim => "2",
            Self::Bold => "1",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        }
    }
}

type Part = (Style, String);

impl Compact {
    /// A renderer that has not seen anything yet.
    pub fn new(options: &Options) -> Self {
        let width = options.width.map(|width| width.max(WIDTH_MIN));
        Self { colour: options.colour, width, started: Memory::default() }
    }

    fn remember(&mut self, event: &CommandStarted<'_>) {
        let max = self.width.unwrap_or(ARGUMENTS_MAX);
        let started = Started {
            arguments: command::arguments(event, max),
            is_cut_insert: command::is_cut_insert(event),
            waits: command::waits(event),
        };
        self.started.insert(event.info.exchange.0, started);
    }

    /// Puts into the arguments what only the reply knows.
    fn complete(&mut self, event: &CommandSucceeded<'_>) {
        let started = self.started.get_mut(event.info.exchange.0).filter(|started| started.is_cut_insert);
        if let Some((started, inserted)) = started.zip(command::inserted(event)) {
            started.arguments = inserted;
        }
    }

    fn finished(
        &mut self,
        entry: &Entry<'_>,
        info: &CommandInfo<'_>,
        duration: Duration,
        outcome: Part,
        out: &mut Vec<u8>,
    ) {
        let started = self.started.remove(info.exchange.0);
        let (arguments, waits) = started.map_or_else(Default::default, |it| (it.arguments, it.waits));
        let slow = duration >= SLOW && !waits;
        // At a terminal's edge durations stand under each other.
        let column = if self.width.is_some() { 6 } else { 0 };
        let duration = (if slow { Style::Yellow } else { Style::Dim }, format!("{:>column$}", shown(duration)));
        let mark = (Style::Yellow, if slow { "slow ".to_owned() } else { String::new() });
        let namespace = match &info.collection {
            Some(collection) => format!("{}.{}", info.database_name, collection),
            None => info.database_name.clone().into_owned(),
        };
        let left = vec![
            (Style::Plain, printed(&namespace)),
            (Style::Bold, printed(&info.command_name)),
            (Style::Plain, arguments),
        ];
        self.line(entry, left, vec![outcome, (Style::Plain, "  ".to_owned()), mark, duration], out);
    }

    /// A heartbeat that ended.
    fn heartbeat(
        &self,
        entry: &Entry<'_>,
        (server, awaited): (&Address, bool),
        duration: Duration,
        outcome: Part,
        out: &mut Vec<u8>,
    ) {
        let left = vec![
            (Style::Bold, "heartbeat".to_owned()),
            (Style::Plain, printed(&server.to_string())),
            (Style::Plain, if awaited { "awaited".to_owned() } else { String::new() }),
        ];
        let right = vec![outcome, (Style::Plain, "  ".to_owned()), (Style::Dim, shown(duration))];
        self.line(entry, left, right, out);
    }

    /// A line about a topology; none if there is nothing to be said.
    fn of_topology(&self, entry: &Entry<'_>, id: TopologyId, parts: Vec<Part>, out: &mut Vec<u8>) {
        if !parts.is_empty() {
            self.line_of(entry.at, &topology::label(id), parts, vec![], out);
        }
    }

    /// A line: time, connection, the parts of the left side with a space between, the right side.
    fn line(&self, entry: &Entry<'_>, left: Vec<Part>, right: Vec<Part>, out: &mut Vec<u8>) {
        self.line_of(entry.at, &entry.connection.id.to_string(), left, right, out);
    }

    /// The same for whatever it is about.
    fn line_of(&self, at: Timestamp, of: &str, left: Vec<Part>, right: Vec<Part>, out: &mut Vec<u8>) {
        let when = (Style::Dim, format!("{} {of} ", time(at)));
        let left = joined(left.into_iter().filter(|(_, text)| !text.is_empty()));
        let Some(width) = self.width else {
            let gap = if right.is_empty() { "" } else { "  " };
            return self
                .write([when].into_iter().chain(left).chain([(Style::Plain, gap.to_owned())]).chain(right), out);
        };
        let width = width.saturating_sub(columns(&when.1));
        // The right side may take half of the line if the left side needs the rest.
        let right = fitted(right, width.saturating_sub(total(&left) + 2).max(width / 2));
        let gap = if right.is_empty() { 0 } else { 2 };
        let left = fitted(left, width.saturating_sub(total(&right) + gap));
        let gap = if right.is_empty() { 0 } else { width.saturating_sub(total(&left) + total(&right)).max(gap) };
        self.write([when].into_iter().chain(left).chain([(Style::Plain, " ".repeat(gap))]).chain(right), out);
    }

    fn write(&self, parts: impl IntoIterator<Item = Part>, out: &mut Vec<u8>) {
        for (style, text) in parts {
            if self.colour && style != Style::Plain && !text.is_empty() {
                out.extend_from_slice(b"\x1b[");
                out.extend_from_slice(style.code().as_bytes());
                out.push(b'm');
                out.extend_from_slice(text.as_bytes());
                out.extend_from_slice(b"\x1b[0m");
            } else {
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.push(b'\n');
    }
}

impl Render for Compact {
    fn render(&mut self, entry: &Redacted<Entry<'_>>, out: &mut Vec<u8>) {
        match &entry.event {
            Event::CommandStarted(event) => self.remember(event),
            Event::CommandSucceeded(event) => {
                let style = if command::has_errors(event) { Style::Red } else { Style::Green };
                self.complete(event);
                self.finished(entry, &event.info, event.duration, (style, command::outcome(event)), out);
            }
            Event::CommandFailed(event) => {
                self.finished(entry, &event.info, event.duration, failed(&event.failure), out);
            }
            Event::ConnectionCreated(_) => {
                let text = format!("connected from {}", printed(&entry.connection.client));
                self.line(entry, vec![(Style::Plain, text)], vec![], out);
            }
            Event::ConnectionReady(event) => {
                self.line(entry, ready(&event.metadata), vec![(Style::Dim, shown(event.duration))], out);
            }
            Event::ConnectionClosed(event) => self.line(entry, vec![closed(event)], vec![], out),
            Event::ProtocolError(event) => self.line(entry, vec![protocol_error(event)], vec![], out),
            // Its end tells all of it.
            Event::ServerHeartbeatStarted(_) => {}
            Event::ServerHeartbeatSucceeded(event) => {
                let outcome = (Style::Green, "ok".to_owned());
                self.heartbeat(entry, (&event.connection_id, event.awaited), event.duration, outcome, out);
            }
            Event::ServerHeartbeatFailed(event) => {
                let outcome = failed(&event.failure);
                self.heartbeat(entry, (&event.connection_id, event.awaited), event.duration, outcome, out);
            }
            Event::ServerOpening(event) => {
                self.of_topology(entry, event.topology_id, about("server", Some(&event.address), "opened"), out);
            }
            Event::ServerDescriptionChanged(event) => {
                self.of_topology(entry, event.topology_id, topology::server_changed(event), out);
            }
            Event::ServerClosed(event) => {
                self.of_topology(entry, event.topology_id, about("server", Some(&event.address), "closed"), out);
            }
            Event::TopologyOpening(event) => {
                let how = format!("opened by {} ({})", printed(&entry.connection.client), entry.connection.id);
                self.of_topology(entry, event.topology_id, about("topology", None, &how), out);
            }
            Event::TopologyDescriptionChanged(event) => {
                self.of_topology(entry, event.topology_id, topology::topology_changed(event), out);
            }
            Event::TopologyClosed(event) => {
                self.of_topology(entry, event.topology_id, about("topology", None, "closed"), out);
            }
        }
    }
}

/// `server a:27017 opened`
fn about(what: &str, address: Option<&Address>, how: &str) -> Vec<Part> {
    let address = address.map(|address| (Style::Plain, printed(&address.to_string())));
    [(Style::Bold, what.to_owned())].into_iter().chain(address).chain([(Style::Plain, how.to_owned())]).collect()
}

/// Appends the line of an [`EventsDropped`].
pub fn events_dropped(event: &EventsDropped<'_>, out: &mut Vec<u8>) {
    let EventsDropped { at, exchanges, bytes, reason } = event;
    let reason = printed(reason);
    let dropped = match (exchanges, bytes) {
        // Nobody knows how many.
        (0, 0) => String::new(),
        _ => format!("{} ({bytes} bytes) dropped, ", plural(*exchanges, "exchange")),
    };
    out.extend_from_slice(format!("{} log incomplete: {dropped}{reason}\n", time(*at)).as_bytes());
}

fn failed(failure: &Failure<'_>) -> Part {
    (Style::Red, format!("failed: {}", command::reason(failure, REASON_MAX)))
}

/// `ready shop mongosh 2.3.1`
fn ready(metadata: &Metadata<'_>) -> Vec<Part> {
    let names = [&metadata.app_name, &metadata.driver, &metadata.driver_version];
    let said: Vec<_> = names.into_iter().flatten().map(|name| printed(name)).collect();
    vec![(Style::Plain, "ready".to_owned()), (Style::Plain, said.join(" "))]
}

fn closed(event: &ConnectionClosed) -> Part {
    let by = event.closed_by.map_or("proxy", Side::as_str);
    (Style::Plain, format!("closed by the {by}, reason: {}", event.reason.as_str()))
}

fn protocol_error(event: &ProtocolError<'_>) -> Part {
    let ProtocolError { side, offset, message, action } = event;
    let message = printed(message);
    (Style::Red, format!("protocol error from the {side} at byte {offset}, {}: {message}", action.as_str()))
}

fn time(at: Timestamp) -> String {
    let mut text = Vec::new();
    time_of_day(at, &mut text);
    text.push(b'Z');
    String::from_utf8_lossy(&text).into_owned()
}

/// Parts with a space between each two.
fn joined(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut joined = Vec::new();
    for part in parts {
        if !joined.is_empty() {
            joined.push((Style::Plain, " ".to_owned()));
        }
        joined.push(part);
    }
    joined
}

fn total(parts: &[Part]) -> usize {
    parts.iter().map(|(_, text)| columns(text)).sum()
}

/// Parts that together take at most `room` columns: the longest is shortened, and then the next.
fn fitted(mut parts: Vec<Part>, room: usize) -> Vec<Part> {
    loop {
        let excess = total(&parts).saturating_sub(room);
        let Some((_, longest)) = parts.iter_mut().max_by_key(|(_, text)| columns(text)) else { return parts };
        let had = columns(longest);
        if excess == 0 || had <= 1 {
            return parts;
        }
        *longest = shortened(longest, had.saturating_sub(excess).max(had / 2));
    }
}
