//! What came closest to a request without an answer, and what would mend it.

use super::Request;
use super::advice::{advice, is_generated_name, record_anew};
use super::choose::NoChoice;
use super::counted::{collection_of, counted, database_of, is_varying, namespace};
use super::cursors::without_cursor;
use super::difference::{Difference, shown_document};
use super::fit::Differs;
use super::live::Live;
use super::miss::{Miss, Nearest};
use super::recording::{Number, Recording};
use super::replaying::fitting;
use crate::bson::walk::DEPTH_MAX;
use crate::bson::write::put_document;
use crate::bson::{Element, Elements, find};
use crate::capture::exchange::{Exchange, Place};
use crate::capture::names::{leaves, value_of};
use crate::event::Timestamp;

/// Recorded requests that are held against one that has no answer.
const LOOKED_AT_MAX: usize = 500;

/// The document of a command that is not shown.
const EMPTY: &[u8] = &[5, 0, 0, 0, 0];

/// Differences that are told.
const TOLD_MAX: usize = 3;

/// Why a request has no answer.
pub(super) fn nearest(recording: &Recording, live: &Live, request: &Request, at: Timestamp, why: NoChoice) -> Miss {
    let mut miss = unlike_any(request);
    if request.is_sensitive() {
        miss.reason = Some("it carries credentials, so what is in it is not shown".to_owned());
        return miss;
    }
    if let NoChoice::UsedUp(number) = why {
        miss.reason = Some("it was asked more often than it was recorded".to_owned());
        let nearest = recording.exchange(number);
        miss.nearest = nearest.map(|exchange| Nearest { place: exchange.place, differences: Vec::new() });
        let more = miss.nearest.as_ref().map(|nearest| record_anew(nearest.place));
        miss.hint = more.map(|more| format!("with --repeat last the last answer stays; {more}"));
        return miss;
    }
    if let NoChoice::Stale(number) = why {
        miss.reason = Some("its answer tells of what this run has not made".to_owned());
        let nearest = recording.exchange(number);
        miss.nearest = nearest.map(|exchange| Nearest { place: exchange.place, differences: Vec::new() });
        miss.hint = miss.nearest.as_ref().map(|nearest| record_anew(nearest.place));
        return miss;
    }
    let alike = alike(recording, request);
    let loaded = alike.iter().filter_map(|number| recording.exchange(*number));
    let translated = live.bindings.to_recorded(&request.command);
    let closest = loaded.min_by_key(|exchange| {
        let is_elsewhere = |of: fn(&[u8]) -> Option<&str>| of(&exchange.request) != of(&request.command);
        let other_database = database_of(&exchange.request) != request.database;
        let [values, identities] = unlikeness(&exchange.request, &translated, 0);
        (other_database, is_elsewhere(collection_of), values, identities)
    });
    match closest {
        Some(exchange) => {
            miss.compare(recording, live, request, &exchange, at);
            let there = namespace(&exchange.request, database_of(&exchange.request));
            if there != miss.namespace {
                // That one may be as it should be.
                miss.reason = Some(format!("nothing like it was recorded on {}", miss.namespace));
                miss.hint = Some(match exchange.place {
                    Place::Line(_) => "if it is new, mongotap exec --mode new adds it".to_owned(),
                    Place::Exchange(_) => "if it is new, record it".to_owned(),
                });
            }
        }
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

/// Why what the upstream was asked has no answer.
pub(super) fn not_answered(request: &Request, reason: &str) -> Miss {
    Miss { reason: Some(format!("{UPSTREAM_ASKED}{reason}")), hint: Some(UPSTREAM.to_owned()), ..unlike_any(request) }
}

const UPSTREAM_ASKED: &str = "the upstream was asked: ";

/// The way out where the upstream gave no answer.
const UPSTREAM: &str = "start that server, or name another with --upstream URI; it is to be as it was when the recording \
     began: empty, mostly";

fn unlike_any(request: &Request) -> Miss {
    let command = if request.is_sensitive() { EMPTY } else { &request.command };
    Miss {
        command: request.name().to_owned(),
        namespace: namespace(&request.command, &request.database),
        request: shown_document(&without_varying(command)),
        reason: None,
        nearest: None,
        hint: None,
    }
}

/// Those of the same command and collection, or else of the same command: the first of them, and the last.
fn alike(recording: &Recording, request: &Request) -> Vec<Number> {
    let mut found = Vec::new();
    let own = namespace(&request.command, &request.database);
    for (number, list) in recording.index.alike.of(request.name()) {
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
            let shown = Difference { path: "$db".to_owned(), first: text(there), second: text(&request.database) };
            differences.push(Differs { path: vec![b"$db"], live: None, recorded: None, shown });
        }
        let (ours, theirs) = (without_cursor(&request.command), without_cursor(&exchange.request));
        let ours = ours.as_deref().unwrap_or(&request.command);
        let theirs = theirs.as_deref().unwrap_or(&exchange.request);
        let fitting = fitting(recording, live, true, at, exchange.at.unix_micros);
        // One more than is told shows whether these are all.
        differences.extend(fitting.differences(ours, theirs, TOLD_MAX + 1));
        let is_born = |element: &Element<'_>| value_of(element).is_some_and(|value| recording.index.births.has(&value));
        self.hint = Some(match differences.len() {
            0 => record_anew(exchange.place),
            1..=TOLD_MAX => advice(&differences, exchange.place, &is_born),
            _ => record_anew(exchange.place),
        });
        if differences.is_empty() {
            self.reason = Some("what it holds stands for other recorded values".to_owned());
        }
        let differences = differences.into_iter().take(TOLD_MAX).map(|it| it.shown).collect();
        self.nearest = Some(Nearest { place: exchange.place, differences });
    }
}

fn without_varying(command: &[u8]) -> Vec<u8> {
    let mut document = Vec::with_capacity(command.len());
    put_document(counted(command), &mut document);
    document
}

/// How many leaves of two requests are not the same; and, less weighty because each run makes them anew, how many
/// identities and dates among them.
fn unlikeness(ours: &[u8], theirs: &[u8], depth: usize) -> [usize; 2] {
    if depth > DEPTH_MAX {
        return [1, 0];
    }
    let counts = |element: &Element<'_>| depth > 0 || !is_varying(element);
    let mut sum = [0, 0];
    let mut add = |[values, identities]: [usize; 2]| sum = [sum[0] + values, sum[1] + identities];
    for our in Elements::readable(ours).filter(counts) {
        match find(theirs, our.name) {
            None => add(weight(&our)),
            Some(their) if (our.kind, our.value) == (their.kind, their.value) => {}
            Some(their) if our.kind == their.kind && our.kind.is_container() => {
                add(unlikeness(our.value, their.value, depth + 1));
            }
            Some(their) => match our.kind == their.kind && value_of(&our).is_some() {
                true => add([0, 1]),
                false => add([leaves_of(&our).max(leaves_of(&their)), 0]),
            },
        }
    }
    let added = Elements::readable(theirs).filter(counts).filter(|their| find(ours, their.name).is_none());
    added.for_each(|their| add(weight(&their)));
    sum
}

/// How much a field counts that only one of them has.
fn weight(element: &Element<'_>) -> [usize; 2] {
    match is_generated_name(element.name) {
        true => [0, leaves_of(element)],
        false => [leaves_of(element), 0],
    }
}

fn leaves_of(element: &Element<'_>) -> usize {
    let mut count = 0;
    leaves(element, &mut |_| count += 1);
    count.max(1)
}
