//! What must hold of a run, however it went: of the bytes that went on, of how the connections ended, of the events, and
//! of what a capture of them would derive.

use std::collections::BTreeMap;

use bson::RawDocument;

use super::Outcome;
use super::script::{Request, whole_messages};
use super::world::Leaving;
use crate::capture::mtap::{Header, Reader, Record, write_records};
use crate::event::{Document, Entry, Event, Failure, Side};
use crate::net::pump::LOOK_AGAIN_AFTER;
use crate::pipeline::Pipeline;
use crate::session::Shared;
use crate::wire::HEADER_LEN;

type Checked = Result<(), String>;

fn must(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

/// Says what is wrong with a run, if anything is.
pub(super) fn check(outcome: &Outcome) -> Checked {
    must(outcome.is_over, || "it never ends".to_owned())?;
    // What was held back, a header or a reply that is rewritten, goes on with what was read behind it.
    let kept_max = outcome.scratch_len + HEADER_LEN + outcome.rewritten.as_ref().map_or(0, Vec::len);
    must(outcome.most_kept <= kept_max, || format!("{} bytes were kept", outcome.most_kept))?;
    check_bytes(outcome)?;
    check_ends(outcome)?;
    check_events(outcome)?;
    check_capture(outcome)
}

impl Outcome {
    fn has_failed(&self, side: Side) -> bool {
        let peer = self.world.peer(side);
        peer.error.is_some() || peer.deaf_since.is_some()
    }

    fn has_any_failed(&self) -> bool {
        self.has_failed(Side::Client) || self.has_failed(Side::Server)
    }

    fn is_aborted(&self) -> bool {
        self.stop.is_some_and(|stop| stop.abort.is_some())
    }

    /// What is to go on of what was read from that side.
    fn going_on(&self, from: Side) -> Vec<u8> {
        let read = &self.world.peer(from).read;
        let hello = self.world.script.requests.first().and_then(|request| request.replies.first());
        match (&self.rewritten, hello) {
            // There are no names in what is less than a header.
            (Some(_), Some(hello)) if from == Side::Server && (HEADER_LEN..hello.frame.len()).contains(&read.len()) => {
                Vec::new()
            }
            (Some(_), Some(_)) if from == Side::Server && read.len() < HEADER_LEN => read.clone(),
            (Some(rewritten), Some(hello)) if from == Side::Server => [rewritten, &read[hello.frame.len()..]].concat(),
            _ => read.clone(),
        }
    }

    /// Whether all that was read from that side must have gone on.
    fn goes_on_whole(&self, from: Side) -> bool {
        match from {
            // A server that takes no more may still have something to say.
            Side::Server => !self.has_failed(Side::Client) && self.world.server.error.is_none() && !self.is_aborted(),
            Side::Client => self.is_heard_out(Side::Client) || !self.has_any_failed() && !self.is_aborted(),
        }
    }

    /// Whether that side hears no more, and nothing else is wrong: what it has said is to be heard to its end.
    fn is_heard_out(&self, side: Side) -> bool {
        let (peer, [client, server]) = (self.world.peer(side), self.heard_deaf);
        let heard = if side == Side::Client { client } else { server };
        // A client is not waited for for ever.
        let is_waited_for = heard.is_some_and(|heard| side == Side::Server || heard < LOOK_AGAIN_AFTER);
        is_waited_for && peer.error.is_none() && !self.has_failed(side.peer()) && self.stop.is_none()
    }
}

/// What went on is what came, in its order, and all of it unless an error or the proxy's end came between.
fn check_bytes(outcome: &Outcome) -> Checked {
    let world = &outcome.world;
    for from in [Side::Client, Side::Server] {
        let (read, heard) = (&outcome.going_on(from), &world.peer(from.peer()).heard);
        let same = read.iter().zip(heard).take_while(|(one, other)| one == other).count();
        must(same == heard.len(), || format!("of the {from}'s bytes another went on at {same} of {}", read.len()))?;
        // A part of a header is held back in case that it is that of a reply to `hello`; an end that is gentle is too quick.
        let held = if outcome.stop.is_some() && from == Side::Server { HEADER_LEN - 1 } else { 0 };
        let is_whole = heard.len() + held >= read.len();
        must(is_whole || !outcome.goes_on_whole(from), || {
            format!("{} of the {from}'s {} bytes went on", heard.len(), read.len())
        })?;
        let unread = world.unread(from);
        must(unread == 0 || !outcome.is_heard_out(from), || {
            format!("{unread} bytes of the {from} were not read, though it said them before it closed")
        })?;
    }
    let is_undisturbed = !outcome.has_any_failed() && outcome.stop.is_none() && world.faults.ends == 0;
    if is_undisturbed && matches!(world.leaving, Leaving::Client | Leaving::ClientEarly) {
        let requests = world.script.requests.iter().map(|it| it.frame.len()).sum::<usize>();
        let replies = world.script.requests.iter().flat_map(|it| &it.replies).map(|it| it.frame.len()).sum::<usize>();
        must((world.server.heard.len(), world.server.read.len()) == (requests, replies), || {
            "something of the script was not said".to_owned()
        })?;
    }
    Ok(())
}

/// An end in good order is heard by both; what was cut short is not taken for whole.
fn check_ends(outcome: &Outcome) -> Checked {
    let (client, server) = (&outcome.world.client, &outcome.world.server);
    let aborted = (client.was_aborted, server.was_aborted);
    if !outcome.has_any_failed() {
        must(aborted == (false, false), || "there was no reason to abort".to_owned())?;
        let heard = client.heard_end && server.heard_end;
        return must(heard || outcome.stop.is_some(), || "an end was not told".to_owned());
    }
    // A client that has left in good order does not mind how the server ends.
    let is_minded = !client.has_ended || !outcome.has_failed(Side::Server);
    must(!is_minded || outcome.stop.is_some() || aborted == (true, true), || {
        "what was cut short is not aborted".to_owned()
    })
}

/// How an exchange is to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Succeeded,
    Refused,
    Unanswered,
    /// It was sent, or not.
    Sent(bool),
}

/// What the session must have seen, by the bytes that were read: for each request the ends of its exchanges.
fn expected(outcome: &Outcome) -> BTreeMap<i32, Vec<End>> {
    let world = &outcome.world;
    // What is asked of a server that has ended is not told of: it is nobody's any more.
    let asked = world.client.read_before_end.unwrap_or(world.client.read.len());
    let (asked, _) = whole_messages(&world.client.read[..asked]);
    let (mut answered, _) = whole_messages(&world.server.read);
    let mut sent = world.server.heard.len();
    let mut expected = BTreeMap::new();
    for request in &world.script.requests[..asked] {
        let is_sent = sent >= request.frame.len();
        sent = sent.saturating_sub(request.frame.len());
        expected.insert(request.n, ends(request, is_sent, &mut answered));
    }
    expected
}

fn ends(request: &Request, is_sent: bool, answered: &mut usize) -> Vec<End> {
    if request.replies.is_empty() {
        return vec![End::Sent(is_sent)];
    }
    let mut ends = Vec::new();
    for reply in &request.replies {
        if *answered == 0 {
            ends.push(End::Unanswered);
            break;
        }
        *answered -= 1;
        ends.push(if reply.is_ok { End::Succeeded } else { End::Refused });
    }
    ends
}

/// An exchange as the events tell of it.
struct Exchange<'a> {
    n: i32,
    id: i32,
    is_continued: bool,
    started: &'a Entry<'static>,
    end: Option<End>,
}

/// Every request has one start and one end, in their order, with the times that passed between.
fn check_events(outcome: &Outcome) -> Checked {
    let mut exchanges: BTreeMap<u64, Exchange<'_>> = BTreeMap::new();
    for entry in &outcome.entries {
        let Some(info) = entry.event.command_info() else { continue };
        let number = info.exchange.0;
        if let Event::CommandStarted(event) = &entry.event {
            let is_next = exchanges.last_key_value().is_none_or(|(last, _)| *last < number);
            must(is_next, || format!("exchange {number} starts late"))?;
            let n = int(&event.command, "n").ok_or("a request lost its number")?;
            let (id, is_continued) = (info.request_id, info.continues.is_some());
            exchanges.insert(number, Exchange { n, id, is_continued, started: entry, end: None });
            continue;
        }
        let exchange = exchanges.get_mut(&number).ok_or_else(|| format!("exchange {number} ends before it starts"))?;
        let (end, took) = end_of(&entry.event, exchange)?;
        must(exchange.end.replace(end).is_none(), || format!("exchange {number} ends twice"))?;
        let passed = entry.at.since(exchange.started.at);
        must(took == passed, || format!("exchange {number} took {took:?}, and {passed:?} passed"))?;
        must(entry.at.monotonic_nanos >= exchange.started.at.monotonic_nanos, || {
            format!("exchange {number} ends early")
        })?;
    }
    let mut told: BTreeMap<i32, Vec<End>> = BTreeMap::new();
    for (number, exchange) in &exchanges {
        let end = exchange.end.ok_or_else(|| format!("exchange {number} has no end"))?;
        let is_first = !told.contains_key(&exchange.n);
        must(is_first != exchange.is_continued, || format!("exchange {number}: is it a continuation?"))?;
        must(!is_first || exchange.id == exchange.n + 1, || format!("exchange {number} is of another request"))?;
        told.entry(exchange.n).or_default().push(end);
    }
    check_told(outcome, &told)
}

fn check_told(outcome: &Outcome, told: &BTreeMap<i32, Vec<End>>) -> Checked {
    let expected = expected(outcome);
    // Of a connection that said nothing but hello nobody knows whose it was.
    let is_hello_only = expected.len() == 1 && outcome.world.script.requests[0].is_hello;
    if is_hello_only && told.is_empty() {
        return Ok(());
    }
    must(told.keys().eq(expected.keys()), || format!("told of {:?}, not of {:?}", told.keys(), expected.keys()))?;
    for (n, expected) in expected {
        let told = &told[&n];
        let is_right = match (&expected[..], &told[..]) {
            // It may have gone to the server, and something behind it not: then nobody knew before the end.
            ([End::Sent(true)], [End::Unanswered]) => {
                let ended_first = outcome.world.client.read_before_end.is_some();
                ended_first || outcome.has_any_failed() || outcome.stop.is_some()
            }
            ([End::Sent(true)], [End::Sent(_)]) | ([End::Sent(false)], [End::Unanswered]) => true,
            (expected, told) => expected == told,
        };
        must(is_right, || format!("request {n}: {expected:?} happened, {told:?} is told"))?;
    }
    let count = |wanted: fn(&Event<'_>) -> bool| outcome.entries.iter().filter(|it| wanted(&it.event)).count();
    let created = count(|event| matches!(event, Event::ConnectionCreated(_)));
    let closed = count(|event| matches!(event, Event::ConnectionClosed(_)));
    let is_last = outcome.entries.last().is_none_or(|it| matches!(it.event, Event::ConnectionClosed(_)));
    must(created == closed && closed <= 1, || format!("opened {created} times and closed {closed} times"))?;
    must(is_last || closed == 0, || "something is told after the end".to_owned())
}

/// How an exchange ended and what it took, and that it is its own reply that it ended with.
fn end_of(event: &Event<'_>, exchange: &Exchange<'_>) -> Result<(End, std::time::Duration), String> {
    let own = |reply: &Document<'_>| {
        must(int(reply, "n") == Some(exchange.n), || format!("request {} has another's reply", exchange.n))
    };
    match event {
        Event::CommandSucceeded(event) if int(&event.reply, "n").is_none() => Ok((End::Sent(true), event.duration)),
        Event::CommandSucceeded(event) => own(&event.reply).map(|()| (End::Succeeded, event.duration)),
        Event::CommandFailed(event) => match &event.failure {
            Failure::Reply(reply) => own(reply).map(|()| (End::Refused, event.duration)),
            Failure::Network { .. } => Ok((End::Unanswered, event.duration)),
        },
        _ => Err("what else may have an exchange?".to_owned()),
    }
}

fn int(document: &Document<'_>, key: &str) -> Option<i32> {
    RawDocument::from_bytes(document.as_bytes()).ok()?.get_i32(key).ok()
}

/// The events that are derived from what a capture holds are those that were told.
fn check_capture(outcome: &Outcome) -> Checked {
    let Some(captured) = &outcome.captured else { return Ok(()) };
    let mut file = Header::default().to_bytes();
    write_records(captured, &mut file);
    let mut reader = Reader::new(&file[..]);
    let records = reader.next_block().ok().flatten().ok_or("nothing is captured")?;
    let shared = Shared { limits: outcome.shared.limits, idle_after: outcome.shared.idle_after, ..Shared::default() };
    let opened = records.first().ok_or("nothing is captured")?.at();
    let mut pipeline = Pipeline::new(outcome.connection.clone(), opened, shared);
    let mut derived = Vec::new();
    for record in &records {
        let Record::Input(input) = record else { return Err(format!("{record:?} is captured")) };
        pipeline.handle_input(input, &mut |entry| derived.push(format!("{entry:?}")));
    }
    let told: Vec<String> = outcome.entries.iter().map(|entry| format!("{entry:?}")).collect();
    let same = told.iter().zip(&derived).take_while(|(one, other)| one == other).count();
    must(same == told.len() && same == derived.len(), || {
        format!("told:    {:?}\nderived: {:?}", told.get(same), derived.get(same))
    })
}

/// What was seen in all runs together.
#[derive(Debug, Default)]
pub(super) struct Seen {
    runs: usize,
    counts: BTreeMap<&'static str, usize>,
}

impl Seen {
    pub(super) fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        let world = &outcome.world;
        let requests = world.server.heard.len() == world.script.requests.iter().map(|it| it.frame.len()).sum::<usize>();
        let told = |wanted: fn(&Event<'_>) -> bool| outcome.entries.iter().any(|entry| wanted(&entry.event));
        let ends = expected(outcome).into_values().flatten().collect::<Vec<_>>();
        let seen = [
            ("everything is asked", requests),
            ("something is kept", outcome.most_kept > 0),
            ("the client fails", outcome.has_failed(Side::Client)),
            ("the server fails", outcome.has_failed(Side::Server)),
            ("the client is deaf and heard out", outcome.is_heard_out(Side::Client)),
            ("the server is deaf and heard out", outcome.is_heard_out(Side::Server)),
            ("a side ends within a message", whole_messages(&world.server.read).1 < world.server.read.len()),
            ("something is lost", world.server.heard.len() < world.client.read.len()),
            ("it is aborted", world.client.was_aborted),
            ("it is drained", outcome.stop.is_some() && !outcome.is_aborted()),
            ("a success", ends.contains(&End::Succeeded)),
            ("a refusal", ends.contains(&End::Refused)),
            ("no answer", ends.contains(&End::Unanswered)),
            ("a write is sent", ends.contains(&End::Sent(true))),
            ("a write is not sent", ends.contains(&End::Sent(false))),
            (
                "a stream",
                outcome.entries.iter().any(|it| it.event.command_info().is_some_and(|it| it.continues.is_some())),
            ),
            ("a heartbeat", told(|event| matches!(event, Event::ServerHeartbeatStarted(_)))),
            ("hello is rewritten", outcome.rewritten.is_some() && !world.client.heard.is_empty()),
            ("a capture", outcome.captured.is_some()),
            ("the pipeline is away", outcome.away > 0),
            ("a read waits for it", outcome.waited[0]),
            ("a rest waits for it", outcome.waited[1]),
        ];
        for (what, is_seen) in seen {
            *self.counts.entry(what).or_default() += usize::from(is_seen);
        }
    }

    pub(super) fn assert_everything_was_seen(&self) {
        let rare: Vec<_> = self.counts.iter().filter(|(_, count)| **count < self.runs / 200).collect();
        assert!(self.runs > 0 && rare.is_empty(), "in {} runs only {rare:?}", self.runs);
    }
}
