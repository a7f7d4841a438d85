//! A driver's own events about servers, topologies and heartbeats against the proxy's log of the same run, kind by kind.
//!
//! The driver tells its kinds on threads of their own and asks its servers side by side, so order is compared where
//! there is one: a server's heartbeats, a server's descriptions, the types of the topology. Two things follow from
//! when a client closes and are no difference: the check that is under way then has an end or none, and of the reply
//! before it either side may know alone. A third from what is not on the wire: of a connection that reaches nobody no
//! second request tells whose it is, so the log has a monitor's heartbeat for each, and more of those than the driver
//! has, which also dials to measure the round trip time. And what a client's threads still dial when it has said that it
//! ends is taken for a client of its own. What else differs is a [`Departure`] of the driver's, and must have been needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bson::{Bson, Document, doc};
use serde_json::Value;

use super::compare::{Comparison, Departure};

/// What is known of a driver's own events.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// How they differ from what the specification says.
    pub(crate) departures: &'static [Departure],
    /// The fields of a server's description that the driver does not show.
    pub(crate) hidden: &'static [&'static str],
}

/// How many of each kind were compared and are equal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pairs {
    pub(crate) heartbeats: usize,
    pub(crate) descriptions: usize,
    pub(crate) openings: usize,
    pub(crate) topologies: usize,
}

/// What one side tells.
#[derive(Debug, Default)]
struct Told {
    topologies: BTreeSet<String>,
    topology_events: Vec<String>,
    opened: Vec<String>,
    closed: Vec<String>,
    /// By server.
    beats: BTreeMap<String, Vec<Beat>>,
    /// By server.
    servers: BTreeMap<String, Vec<Change>>,
    topology: Vec<Change>,
}

/// A heartbeat.
#[derive(Clone, Debug)]
struct Beat {
    at: String,
    connection: Option<i64>,
    awaited: bool,
    end: Option<End>,
}

#[derive(Clone, Debug)]
struct End {
    awaited: bool,
    micros: i64,
    /// `None`: it failed.
    reply: Option<Document>,
}

#[derive(Clone, Debug)]
struct Change {
    before: Document,
    after: Document,
    /// Whether it changed in the words of its error. They are not compared: each side has its own.
    another_error: bool,
}

type Faults = Vec<String>;

/// Compares lines; the numbers of what is equal, or everything that is not.
pub(crate) fn compare(theirs: &[Value], ours: &[Value], known: Known) -> Result<Pairs, Faults> {
    let comparison = Comparison::new(known.departures);
    let mut both = Both { known, comparison, hid: BTreeSet::new(), differences: Vec::new(), faults: Vec::new() };
    let theirs = Told::read(theirs, &mut both);
    both.check_that_it_hides();
    let ours = Told::read(&without_straggler(ours), &mut both);
    let pairs = Pairs {
        heartbeats: both.heartbeats(&theirs, &ours),
        descriptions: both.servers(&theirs, &ours),
        openings: both.openings(&theirs, &ours),
        topologies: both.topologies(&theirs, &ours),
    };
    let unused = both.comparison.unused();
    both.faults.extend(unused.iter().map(|it| format!("{it:?} was not needed: it has no place in the table")));
    let unseen: Vec<_> = known.hidden.iter().filter(|field| !both.hid.contains(**field)).collect();
    both.faults.extend(unseen.iter().map(|field| format!("{field} was not there to be hidden")));
    if both.faults.is_empty() { Ok(pairs) } else { Err(both.faults) }
}

/// The log without the topology of a connection that was made after its client had said that it ends, and on which
/// nothing was asked but the first `hello`. PyMongo makes one where its round trip time is due while it closes.
pub(crate) fn without_straggler(lines: &[Value]) -> Vec<Value> {
    let id = |line: &Value| line.get("topologyId").and_then(Value::as_str).map(str::to_owned);
    let Some(first) = lines.iter().find_map(id) else { return lines.to_vec() };
    let is_later = |line: &Value| id(line).is_some_and(|id| id != first);
    let later: Vec<_> = lines.iter().filter(|line| is_later(line)).collect();
    let (Some(opening), Some(closing)) = (later.first(), later.last()) else { return lines.to_vec() };
    let begins = lines.iter().position(is_later).unwrap_or_default();
    let ends_before = lines[..begins].iter().any(|line| line["commandName"] == "endSessions");
    let is_one = later.iter().all(|line| id(line) == id(opening) && connection(line) == connection(opening));
    let is_whole = opening["event"] == "topologyOpeningEvent" && closing["event"] == "topologyClosedEvent";
    let asks = |line: &&Value| {
        ["command", "serverHeartbeat"]
            .iter()
            .any(|it| line["event"].as_str().is_some_and(|event| event.starts_with(it)))
    };
    let is_silent = !lines.iter().filter(asks).any(|line| connection(line) == connection(opening));
    let is_straggler = ends_before && is_one && is_whole && is_silent;
    lines.iter().filter(|line| !(is_straggler && is_later(line))).cloned().collect()
}

impl Told {
    fn read(lines: &[Value], both: &mut Both) -> Self {
        let mut told = Self::default();
        for line in lines {
            let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
            told.topologies.extend(line.get("topologyId").and_then(Value::as_str).map(str::to_owned));
            let event = text("event");
            match event.as_str() {
                "serverHeartbeatStartedEvent" => told.start_beat(line),
                "serverHeartbeatSucceededEvent" | "serverHeartbeatFailedEvent" => {
                    both.faults.extend(told.end_beat(line).err());
                }
                "serverOpeningEvent" => told.opened.push(text("address")),
                "serverClosedEvent" => told.closed.push(text("address")),
                "serverDescriptionChangedEvent" => {
                    told.servers.entry(text("address")).or_default().push(both.change(line, Both::server));
                }
                "topologyDescriptionChangedEvent" => told.topology.push(both.change(line, Both::topology)),
                _ => {}
            }
            if event.starts_with("topology") {
                told.topology_events.push(event);
            }
        }
        told.beats.values_mut().for_each(|beats| beats.sort_by(|a, b| a.at.cmp(&b.at)));
        told
    }

    fn start_beat(&mut self, line: &Value) {
        let text = |field: &str| line.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let connection = connection(line);
        let beat = Beat { at: text("ts"), connection, awaited: line["awaited"] == true, end: None };
        self.beats.entry(text("connectionId")).or_default().push(beat);
    }

    /// A heartbeat's end belongs to the start before it, of its connection where that is told.
    fn end_beat(&mut self, line: &Value) -> Result<(), String> {
        let address = line["connectionId"].as_str().unwrap_or_default();
        let reply = line.get("reply").map(document);
        let micros = line["durationMicros"].as_i64().unwrap_or(-1);
        let mut beats = self.beats.get_mut(address).into_iter().flatten().rev();
        let started = beats.find(|beat| beat.connection == connection(line)).filter(|beat| beat.end.is_none());
        let started = started.ok_or_else(|| format!("an end without a start: {line}"))?;
        started.end = Some(End { awaited: line["awaited"] == true, micros, reply });
        Ok(())
    }
}

/// A comparison under way.
struct Both {
    known: Known,
    comparison: Comparison<'static>,
    /// The hidden fields that were there to be hidden.
    hid: BTreeSet<String>,
    /// By how much the durations of heartbeats differ, in microseconds.
    differences: Vec<u64>,
    faults: Faults,
}

impl Both {
    fn check_that_it_hides(&mut self) {
        let shown = std::mem::take(&mut self.hid);
        self.check(shown.is_empty(), || format!("the driver shows {shown:?} after all"));
    }

    fn openings(&mut self, theirs: &Told, ours: &Told) -> usize {
        for (what, theirs, ours) in [("opened", &theirs.opened, &ours.opened), ("closed", &theirs.closed, &ours.closed)]
        {
            let set = |it: &[String]| it.iter().cloned().collect::<BTreeSet<_>>();
            self.check(set(theirs).len() == theirs.len(), || format!("the driver {what} a server twice: {theirs:?}"));
            self.check(set(ours).len() == ours.len(), || format!("we {what} a server twice: {ours:?}"));
            self.check(set(theirs) == set(ours), || format!("servers {what}: {ours:?}, not {theirs:?}"));
        }
        theirs.opened.len() + theirs.closed.len()
    }

    fn heartbeats(&mut self, theirs: &Told, ours: &Told) -> usize {
        let addresses: BTreeSet<_> = theirs.beats.keys().chain(ours.beats.keys()).collect();
        let mut pairs = 0;
        for address in addresses {
            let of = |told: &Told| told.beats.get(address).cloned().unwrap_or_default();
            let theirs = dials(self.until_closed(of(theirs)));
            let ours = dials(self.until_closed(of(ours)));
            let difference = theirs.len().abs_diff(ours.len());
            self.check(difference <= 1, || {
                format!("{address}: {} heartbeats, not {}\n{}", ours.len(), theirs.len(), beside(&theirs, &ours))
            });
            for (position, ((theirs, their_dials), (ours, our_dials))) in theirs.iter().zip(&ours).enumerate() {
                let fault = self.beat(theirs, ours).err();
                self.faults.extend(fault.map(|fault| format!("{address}: heartbeat {position}: {fault}")));
                self.check(our_dials >= their_dials, || {
                    format!("{address}: {our_dials} dials in vain, at least {their_dials} expected")
                });
                pairs += 1;
            }
        }
        self.check_durations();
        pairs
    }

    /// A pause of the machine's may fall between the two clocks of any heartbeat, but not of most.
    fn check_durations(&mut self) {
        let mut differences = std::mem::take(&mut self.differences);
        if differences.len() < DURATIONS_ENOUGH {
            return;
        }
        differences.sort_unstable();
        let Some(median) = differences.get(differences.len().saturating_sub(1) / 2).copied() else { return };
        self.check(median <= DURATIONS_MOSTLY_DIFFER_BY, || {
            format!("durationMicros: half of {} heartbeats differ by {median} and more", differences.len())
        });
    }

    /// The heartbeats up to the last that was answered: the one after it is the client's closing.
    fn until_closed(&mut self, mut beats: Vec<Beat>) -> Vec<Beat> {
        let answered = |beat: &Beat| beat.end.as_ref().is_some_and(|end| end.reply.is_some());
        let last = beats.iter().rposition(answered).map_or(0, |last| last + 1);
        let closing = beats.split_off(last);
        self.check(closing.len() <= 1, || format!("heartbeats without an answer at the end: {closing:?}"));
        beats
    }

    fn beat(&mut self, theirs: &Beat, ours: &Beat) -> Result<(), String> {
        if theirs.awaited != ours.awaited {
            return Err(format!("awaited at its start: {}, not {}", ours.awaited, theirs.awaited));
        }
        let (Some(theirs), Some(ours)) = (&theirs.end, &ours.end) else {
            return Err(format!("ended: {}, not {}", ours.end.is_some(), theirs.end.is_some()));
        };
        if theirs.awaited != ours.awaited && !self.comparison.excuse(Departure::AwaitedByReply) {
            return Err(format!("awaited at its end: {}, not {}", ours.awaited, theirs.awaited));
        }
        let difference = theirs.micros.abs_diff(ours.micros);
        let is_round_trip =
            ours.awaited && difference > AWAITED && self.comparison.excuse(Departure::RoundTripDurations);
        if !is_round_trip {
            self.differences.push(difference);
            if difference > DURATIONS_DIFFER_BY {
                return Err(format!("durationMicros: {}, not {}", ours.micros, theirs.micros));
            }
        }
        match (&theirs.reply, &ours.reply) {
            (Some(theirs), Some(ours)) => {
                let mut theirs = theirs.clone();
                let amended = theirs.contains_key("isWritablePrimary") && !ours.contains_key("isWritablePrimary");
                if amended && self.comparison.excuse(Departure::ReplyAmended) {
                    theirs.remove("isWritablePrimary");
                }
                self.comparison.documents("reply", &theirs, ours)
            }
            (theirs, ours) if theirs.is_some() == ours.is_some() => Ok(()),
            (theirs, ours) => Err(format!("succeeded: {}, not {}", ours.is_some(), theirs.is_some())),
        }
    }

    fn servers(&mut self, theirs: &Told, ours: &Told) -> usize {
        let addresses: BTreeSet<_> = theirs.servers.keys().chain(ours.servers.keys()).collect();
        let mut pairs = 0;
        for address in addresses {
            let changes = |told: &Told| told.servers.get(address).cloned().unwrap_or_default();
            let theirs = self.states(changes(theirs), &[Departure::ErrorsDiffer, Departure::OthersUntold]);
            let ours = self.states(changes(ours), &[]);
            let (theirs, ours) = (self.settled(theirs), self.settled(ours));
            self.check(theirs == ours, || {
                let shown =
                    |states: &[Document]| states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n    ");
                format!("{address}: descriptions:\n    {}\n  not\n    {}", shown(&ours), shown(&theirs))
            });
            pairs += theirs.len();
        }
        pairs
    }

    /// The states that changes lead through, with what a driver may leave out or tell twice.
    fn states(&mut self, changes: Vec<Change>, departures: &[Departure]) -> Vec<Document> {
        let mut states: Vec<Document> = Vec::new();
        let excuse = |both: &mut Self, it| departures.contains(&it) && both.comparison.excuse(it);
        for Change { before, after, another_error } in changes {
            if states.last().is_none_or(|last| *last != before) {
                let excused = states.is_empty() || excuse(self, Departure::OthersUntold);
                self.check(excused, || format!("a description changed untold: {before}, after {states:?}"));
                states.push(before.clone());
            }
            if before != after {
                states.push(after);
                continue;
            }
            // What changed may be what is not shown.
            let is_unknown = after.get_str("type").is_ok_and(|it| it == "Unknown");
            let unseen = !is_unknown && self.known.hidden.contains(&"topologyVersion");
            let excused = unseen || another_error || (is_unknown && excuse(self, Departure::ErrorsDiffer));
            self.check(excused, || format!("a description changed to what it was: {after}"));
        }
        states
    }

    fn topologies(&mut self, theirs: &Told, ours: &Told) -> usize {
        for (side, told) in [("the driver", theirs), ("the log", ours)] {
            self.check(told.topologies.len() == 1, || format!("{side} has topologies {:?}", told.topologies));
            let opens = told.topology_events.first().is_some_and(|it| it == "topologyOpeningEvent");
            let closes = told.topology_events.last().is_some_and(|it| it == "topologyClosedEvent");
            let once = told.topology_events.iter().filter(|it| *it != "topologyDescriptionChangedEvent").count() == 2;
            self.check(opens && closes && once, || format!("{side}: a topology opens first and closes last, once"));
        }
        let theirs = self.topology_states(&theirs.topology);
        let ours = self.topology_states(&ours.topology);
        let (Some(their_first), Some(our_first)) = (theirs.get(1), ours.get(1)) else {
            self.faults.push("a topology without descriptions".to_owned());
            return 0;
        };
        self.check(their_first == our_first, || format!("the topology begins as {our_first}, not {their_first}"));
        self.topology_types(&theirs, &ours);
        self.topology_servers(&theirs, &ours);
        theirs.len()
    }

    /// Every description of the topology, in order; at the end it is without servers.
    fn topology_states(&mut self, changes: &[Change]) -> Vec<Document> {
        let mut states: Vec<Document> = changes.first().map(|it| it.before.clone()).into_iter().collect();
        for change in changes {
            let last = states.last();
            self.check(last == Some(&change.before), || {
                format!("the topology changed untold: {}, after {last:?}", change.before)
            });
            states.push(change.after.clone());
        }
        let nothing = doc! { "type": "Unknown" };
        self.check(states.first() == Some(&nothing), || format!("the topology begins as {:?}", states.first()));
        if states.last() != Some(&nothing) {
            let ends = states.last().cloned().unwrap_or_default();
            let emptied = ends.get("type") == nothing.get("type") && !ends.contains_key("servers");
            let departure = if emptied { Departure::SetKeptAtEnd } else { Departure::NoLastDescription };
            let excused = self.comparison.excuse(departure);
            self.check(excused, || format!("the topology ends as {ends}"));
        }
        states
    }

    /// What the topology is, apart from its servers, and how that went on until it closed.
    fn topology_types(&mut self, theirs: &[Document], ours: &[Document]) {
        let own = |states: &[Document]| {
            let fields = ["type", "setName", "maxSetVersion", "maxElectionId"];
            let of = |state: &Document| fields.iter().map(|it| (*it, state.get(it).cloned())).collect::<Vec<_>>();
            let mut own: Vec<_> = states.iter().filter(|it| it.contains_key("servers")).map(of).collect();
            own.dedup();
            own
        };
        let (theirs, mut ours) = (own(theirs), own(ours));
        let is = |state: &[(&str, Option<Bson>)], wanted: &str| state[0].1 == Some(Bson::from(wanted));
        for at in 1..theirs.len() {
            let lost = ours.get(at).is_some_and(|it| is(it, "ReplicaSetNoPrimary") && *it != theirs[at]);
            if lost
                && is(&theirs[at - 1], "ReplicaSetWithPrimary")
                && self.comparison.excuse(Departure::StaysWithPrimary)
            {
                ours.remove(at);
            }
        }
        self.check(theirs == ours, || format!("the topology's types:\n  {ours:?}\nnot\n  {theirs:?}"));
    }

    /// How each server went on, as the topology's descriptions have it; members that are asked side by side answer in
    /// no order.
    fn topology_servers(&mut self, theirs: &[Document], ours: &[Document]) {
        let by_server = |states: &[Document]| {
            let mut by_server: BTreeMap<String, Vec<Document>> = BTreeMap::new();
            for server in states.iter().filter_map(|it| it.get_array("servers").ok()).flatten() {
                let server = server.as_document().cloned().unwrap_or_default();
                let states = by_server.entry(server.get_str("address").unwrap_or_default().to_owned()).or_default();
                if states.last() != Some(&server) {
                    states.push(server);
                }
            }
            by_server
        };
        let by_server = |states: &[Document]| {
            let settled = by_server(states).into_iter().map(|(address, states)| (address, self.settled(states)));
            settled.collect::<BTreeMap<_, _>>()
        };
        let (theirs, ours) = (by_server(theirs), by_server(ours));
        self.check(theirs.keys().eq(ours.keys()), || {
            format!("the topology's servers: {:?}, not {:?}", ours.keys(), theirs.keys())
        });
        for (address, theirs) in &theirs {
            let ours = ours.get(address).cloned().unwrap_or_default();
            self.check(*theirs == ours, || format!("{address} in the topology:\n  {ours:?}\nnot\n  {theirs:?}"));
        }
    }

    /// A server's states without those of a member that has just come up and knows no primary yet. It is so for a moment:
    /// which of a client's connections asks then is chance, and the driver hears the monitor's alone.
    fn settled(&self, mut states: Vec<Document>) -> Vec<Document> {
        let shows_primary = !self.known.hidden.contains(&"primary");
        states.retain(|state| match state.get_str("type") {
            Ok("RSSecondary") => state.contains_key("primary") || !shows_primary,
            Ok("RSGhost" | "RSOther") => false,
            _ => true,
        });
        states.dedup();
        states
    }

    fn check(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(fault());
        }
    }

    fn change(&mut self, line: &Value, read: fn(&mut Self, &Document) -> Document) -> Change {
        let (before, after) = (document(&line["previousDescription"]), document(&line["newDescription"]));
        let another_error = before.get("error") != after.get("error");
        Change { before: read(self, &before), after: read(self, &after), another_error }
    }

    /// A topology's description as it is compared, its servers in the order of their addresses.
    fn topology(&mut self, description: &Document) -> Document {
        let mut topology = doc! { "type": description.get("type").cloned() };
        for field in ["setName", "maxSetVersion", "maxElectionId"] {
            topology.extend(description.get(field).map(|value| (field.to_owned(), plain(field, value))));
        }
        let servers = description.get_array("servers").into_iter().flatten().filter_map(Bson::as_document);
        let mut servers: Vec<_> = servers.map(|it| self.server(it)).collect();
        servers.sort_by(|a, b| a.get_str("address").ok().cmp(&b.get_str("address").ok()));
        if !servers.is_empty() {
            topology.insert("servers", servers);
        }
        topology
    }

    /// A server's description as it is compared: what the driver shows, empty values left out, lists as sets, and of an
    /// error only that there is one. A multi-threaded driver has no possible primaries.
    fn server(&mut self, description: &Document) -> Document {
        let mut fields: BTreeMap<String, Bson> = BTreeMap::new();
        let mut hosts = BTreeSet::new();
        for (field, value) in description {
            match (field.as_str(), value) {
                ("lastWriteDate" | "opTime", _) => {}
                (field, _) if self.known.hidden.contains(&field) => _ = self.hid.insert(field.to_owned()),
                ("error", _) => _ = fields.insert("error".to_owned(), Bson::Boolean(true)),
                ("type", Bson::String(it)) if it == "PossiblePrimary" => {
                    fields.insert("type".to_owned(), "Unknown".into());
                }
                ("hosts" | "passives" | "arbiters" | "allHosts", Bson::Array(names)) => {
                    hosts.extend(names.iter().filter_map(Bson::as_str).map(|it| format!("{}{it}", self.list(field))));
                }
                (field, value) => _ = fields.insert(field.to_owned(), plain(field, value)),
            }
        }
        if !hosts.is_empty() {
            fields.insert("hosts".to_owned(), hosts.into_iter().map(Bson::from).collect());
        }
        fields.retain(|_, value| !is_nothing(value));
        fields.into_iter().collect()
    }

    /// What tells the names of one list from those of another, where the driver does.
    fn list<'a>(&mut self, field: &'a str) -> &'a str {
        if self.comparison.excuse(Departure::HostsTogether) { "" } else { field }
    }
}

/// Heartbeats, with those that dialled in vain one after another taken together, and how many they were.
fn dials(beats: Vec<Beat>) -> Vec<(Beat, usize)> {
    let in_vain = |beat: &Beat| !beat.awaited && beat.end.as_ref().is_some_and(|end| end.reply.is_none());
    let mut dials: Vec<(Beat, usize)> = Vec::new();
    for beat in beats {
        match dials.last_mut().filter(|(last, _)| in_vain(last) && in_vain(&beat)) {
            Some((_, count)) => *count += 1,
            None => dials.push((beat, 1)),
        }
    }
    dials
}

/// Both sides' heartbeats in a line each, for a fault.
fn beside(theirs: &[(Beat, usize)], ours: &[(Beat, usize)]) -> String {
    let mut text = String::new();
    for (side, beats) in [("theirs", theirs), ("ours", ours)] {
        let _ = write!(text, "  {side}:");
        for (Beat { awaited, end, .. }, _) in beats {
            let end = end.as_ref().map_or('-', |end| if end.reply.is_some() { '+' } else { 'x' });
            let _ = write!(text, " {}{end}", if *awaited { 'a' } else { 'p' });
        }
        text.push('\n');
    }
    text
}

/// A value free of how each side writes it: ObjectIds that are text, numbers of any type.
fn plain(field: &str, value: &Bson) -> Bson {
    match value {
        Bson::String(hex) if field.ends_with("lectionId") => hex.parse().map_or_else(|_| value.clone(), Bson::ObjectId),
        Bson::Int32(number) => Bson::Int64(i64::from(*number)),
        Bson::Document(inner) => {
            inner.iter().map(|(field, it)| (field.clone(), plain(field, it))).collect::<Document>().into()
        }
        _ => value.clone(),
    }
}

/// What a driver may show of something that was never told.
fn is_nothing(value: &Bson) -> bool {
    match value {
        Bson::Null | Bson::Int64(0) | Bson::Boolean(false) => true,
        Bson::Document(it) => it.is_empty(),
        Bson::Array(it) => it.is_empty(),
        _ => false,
    }
}

/// The proxy's number of the connection; a driver tells none.
fn connection(line: &Value) -> Option<i64> {
    line.get("proxy")?.get("connection")?.as_i64()
}

fn document(json: &Value) -> Document {
    match Bson::try_from(json.clone()) {
        Ok(Bson::Document(document)) => document,
        other => panic!("{other:?} is not a document: {json}"),
    }
}

/// A driver and a proxy stop the clock at different ends of a socket: on a busy machine either may have to wait in between,
/// for as long as others let it. How long that is cannot be had from the run: neither side's figures show it but by this
/// difference. So a single one may be as large as no pause was seen to be, and half of them must be small; on a machine
/// with nothing else to do they were 1 to 5 ms, the largest 48 ms. In microseconds.
const DURATIONS_DIFFER_BY: u64 = 2_000_000;
const DURATIONS_MOSTLY_DIFFER_BY: u64 = 200_000;

/// Of fewer heartbeats, half may be the one that met a pause.
const DURATIONS_ENOUGH: usize = 4;
/// A server that may wait with its answer takes longer than that. In microseconds.
const AWAITED: u64 = 400_000;
