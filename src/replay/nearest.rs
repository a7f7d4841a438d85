//! What came closest to a request without an answer, and what would mend it.

use super::Request;
use super::choose::NoChoice;
use super::counted::{counted, database_of, namespace};
use super::cursors::without_cursor;
use super::difference::{Difference, shown_document};
use super::live::Live;
use super::miss::{Miss, Nearest};
use super::recording::{Number, Recording};
use super::replaying::fitting;
use crate::bson::write::{begin, end, put_name};
use crate::bson::{Elements, find};
use crate::capture::exchange::Exchange;
use crate::event::Timestamp;

/// Recorded requests that are held against one that has no answer.
const LOOKED_AT_MAX: usize = 500;

/// Differences that are told.
const TOLD_MAX: usize = 3;

/// Why a request has no answer.
pub(super) fn nearest(recording: &Recording, live: &Live, request: &Request, at: Timestamp, why: NoChoice) -> Miss {
    let mut miss = unlike_any(request);
    if let NoChoice::UsedUp(number) = why {
        let times = live.times(number);
        miss.reason = Some(format!("it was asked more often than it was recorded, {times} times in this state"));
        let nearest = recording.exchange(number);
        miss.nearest = nearest.map(|exchange| Nearest { place: exchange.place, differences: Vec::new() });
        return miss;
    }
    let alike = alike(recording, request);
    let loaded = alike.iter().filter_map(|number| recording.exchange(*number));
    let translated = live.bindings.to_recorded(&request.command);
    let closest = loaded.max_by_key(|exchange| {
        let same_database = database_of(&exchange.request) == request.database;
        (same_database, likeness(&exchange.request, &translated))
    });
    match closest {
        Some(exchange) => miss.compare(recording, live, request, &exchange, at),
        None => miss.reason = Some(format!("no {} was recorded", request.name())),
    }
    miss
}

/// Why a cursor's next batch has no answer.
pub(super) fn batch_missing(
    recording: &Recording,
    live: &Live,
    request: &Request,
    exchange: Option<&Exchange>,
    at: Timestamp,
    reason: &str,
) -> Miss {
    let mut miss = unlike_any(request);
    match exchange {
        Some(exchange) if exchange.name() == "getMore" => miss.compare(recording, live, request, exchange, at),
        Some(exchange) => miss.nearest = Some(Nearest { place: exchange.place, differences: Vec::new() }),
        None => {}
    }
    miss.reason = Some(reason.to_owned());
    miss
}

fn unlike_any(request: &Request) -> Miss {
    Miss {
        command: request.name().to_owned(),
        namespace: namespace(&request.command, &request.database),
        request: shown_document(&without_varying(&request.command)),
        reason: None,
        nearest: None,
        hint: None,
    }
}

/// Those of the same command and collection, or else of the same command: the first of them, and the last.
fn alike(recording: &Recording, request: &Request) -> Vec<Number> {
    let mut found = Vec::new();
    let own = namespace(&request.command, &request.database);
    let same_name = recording.index.alike.iter().filter(|((name, _), _)| name == request.name());
    for ((_, number), list) in same_name {
        let is_own = number.is_some_and(|number| recording.index.namespaces.name(number) == Some(&own));
        let (first, rest) = list.split_at(list.len().min(LOOKED_AT_MAX / 2));
        let last = rest.get(rest.len().saturating_sub(LOOKED_AT_MAX / 2)..).unwrap_or_default();
        let some = first.iter().chain(last).copied();
        if is_own {
            return some.collect();
        }
        found.extend(some.take(LOOKED_AT_MAX.saturating_sub(found.len())));
    }
    found.sort_unstable();
    found
}

impl Miss {
    /// Names an exchange as the nearest, with where it differs and what would mend that.
    fn compare(&mut self, recording: &Recording, live: &Live, request: &Request, exchange: &Exchange, at: Timestamp) {
        let there = database_of(&exchange.request);
        let mut differences = Vec::new();
        if there != request.database {
            let text = |name: &str| Some(serde_json::Value::from(name).to_string());
            differences.push(Difference {
                path: "$db".to_owned(),
                first: text(there),
                second: text(&request.database),
            });
        }
        let (ours, theirs) = (without_cursor(&request.command), without_cursor(&exchange.request));
        let ours = ours.as_deref().unwrap_or(&request.command);
        let theirs = theirs.as_deref().unwrap_or(&exchange.request);
        let fitting = fitting(recording, live, true, at, exchange.at.unix_micros);
        // One more than is told shows whether these are all.
        differences.extend(fitting.differences(ours, theirs, TOLD_MAX + 1));
        if differences.len() <= TOLD_MAX && there == request.database {
            self.hint = hint(&differences);
        }
        differences.truncate(TOLD_MAX);
        if differences.is_empty() {
            self.reason = Some("what it holds stands for other recorded values".to_owned());
        }
        self.nearest = Some(Nearest { place: exchange.place, differences });
    }
}

/// The lines of `[replay]` with which the request would be the recorded one.
fn hint(differences: &[Difference]) -> Option<String> {
    let (mut bind, mut ignore) = (Vec::new(), Vec::new());
    for Difference { path, first, second } in differences {
        let steps = path.split('.').map(|step| if step.bytes().all(|it| it.is_ascii_digit()) { "*" } else { step });
        let path = format!("{:?}", steps.collect::<Vec<_>>().join("."));
        // The command itself cannot be another, nor an operator: that is another question.
        let is_operator = path.rsplit('.').next().is_some_and(|step| step.starts_with('$'));
        if is_command(&path) || is_operator && (first.is_none() || second.is_none()) {
            return None;
        }
        let list = match (first, second) {
            (Some(first), Some(second)) if of_one_type(first, second) => &mut bind,
            _ => &mut ignore,
        };
        if !list.contains(&path) {
            list.push(path);
        }
    }
    let line = |name: &str, paths: &[String]| (!paths.is_empty()).then(|| format!("{name} = [{}]", paths.join(", ")));
    let lines = [line("bind", &bind), line("ignore", &ignore)];
    let lines = lines.into_iter().flatten().collect::<Vec<_>>();
    (!lines.is_empty()).then(|| format!("if that differs from run to run, in [replay]: {}", lines.join(", ")))
}

/// Whether the path is that of a field that says which command it is, or on what.
fn is_command(path: &str) -> bool {
    const NAMES: [&str; 8] = ["find", "insert", "update", "delete", "aggregate", "count", "distinct", "findAndModify"];
    NAMES.iter().any(|name| path.trim_matches('"') == *name)
}

/// Whether two values, as they are shown, are of one type.
fn of_one_type(first: &str, second: &str) -> bool {
    // `{"$oid":` and its like tell the type, else the first character and the point of a double do.
    let shape = |text: &str| {
        let wrapped = text.strip_prefix("{\"$").and_then(|rest| rest.split_once('"')).map(|(name, _)| name.to_owned());
        wrapped.unwrap_or_else(|| match text.bytes().next() {
            Some(b'0'..=b'9' | b'-') => format!("number {}", text.contains(['.', 'e', 'E'])),
            Some(first) => char::from(first).to_string(),
            None => String::new(),
        })
    };
    shape(first) == shape(second) && !matches!(shape(first).as_str(), "{" | "[" | "t" | "f" | "n")
}

fn without_varying(command: &[u8]) -> Vec<u8> {
    let mut document = Vec::with_capacity(command.len());
    let start = begin(&mut document);
    for element in counted(command) {
        put_name(element.kind, element.name, &mut document);
        document.extend_from_slice(element.value);
    }
    end(start, &mut document);
    document
}

/// How much two requests have in common: each field, at any depth, that both have, and more if its value is the same.
fn likeness(ours: &[u8], theirs: &[u8]) -> usize {
    let both = Elements::readable(ours).filter_map(|our| Some((our, find(theirs, our.name)?)));
    both.map(|(our, their)| match our.kind == their.kind && our.kind.is_container() {
        true => 1 + likeness(our.value, their.value),
        false => 1 + usize::from((our.kind, our.value) == (their.kind, their.value)),
    })
    .sum()
}
