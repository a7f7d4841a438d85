//! Exchanges that are being put together: each is given when it has ended and its turn has come.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::size_of;
use std::sync::Arc;

use super::exchange::{Exchange, Place, Reply};
use super::exchanges::Found;
use super::plain::Noted;
use super::spots::{Source, Spot, Spots};
use crate::bson::{find, find_path};
use crate::event::{self, CommandInfo, CommandStarted, Document, Entry, Event, Failure, Phase, Timestamp};

/// Bytes of exchanges that wait for one before them.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Exchanges that are not given yet.
#[derive(Debug)]
pub(super) struct Drafts<N> {
    /// Those of applications, by their numbers.
    apps: BTreeMap<u64, Box<Draft<N>>>,
    /// The others: nobody waits for them.
    others: BTreeMap<u64, Box<Draft<N>>>,
    /// The parts of exhaust streams, and the exchanges that they belong to.
    parts: HashMap<u64, u64>,
    /// The bytes of those that have ended and wait.
    bytes: usize,
    /// Some that are no application's have ended.
    others_ended: bool,
}

#[derive(Debug)]
struct Draft<N> {
    found: Found<N>,
    /// The bytes that are held for what was noted.
    held: usize,
    is_ended: bool,
}

impl<N> Default for Drafts<N> {
    fn default() -> Self {
        Self { apps: BTreeMap::new(), others: BTreeMap::new(), parts: HashMap::new(), bytes: 0, others_ended: false }
    }
}

impl<N> Drafts<N> {
    /// Takes an event, and the message that it follows from, if it is of one.
    pub(super) fn take(&mut self, entry: Entry<'_>, app_name: &mut Option<Arc<str>>, source: Option<Source>) {
        let Entry { at, connection, phase, event } = entry;
        match event {
            Event::CommandStarted(CommandStarted { info, command }) => {
                if let Some(name) = app_name_of(command.as_bytes(), &info) {
                    *app_name = Some(name);
                }
                let spot = source.and_then(|source| source.of_request(&info, &command));
                let app_name = app_name.clone();
                let exchange = Exchange {
                    place: Place::Exchange(info.exchange.0),
                    connection: connection.id,
                    app_name,
                    phase,
                    at,
                    request: Vec::new(),
                    wants_reply: true,
                    replies: Vec::new(),
                };
                self.start(exchange, info.continues, command, spot);
            }
            Event::CommandSucceeded(event) => {
                let is_unacknowledged = event.measures.reply_bytes == 0;
                let spot = source.and_then(|source| source.of_reply(&event.info, &event.reply));
                let reply = (!is_unacknowledged).then(|| Reply { at, body: event.reply.into_bytes() });
                self.end(event.info.exchange.0, phase, reply.map(|reply| (reply, spot)), is_unacknowledged);
            }
            Event::CommandFailed(event) => {
                let reply = match event.failure {
                    Failure::Reply(document) => {
                        let spot = source.and_then(|source| source.of_reply(&event.info, &document));
                        Some((Reply { at, body: document.into_bytes() }, spot))
                    }
                    Failure::Network { .. } => None,
                };
                self.end(event.info.exchange.0, phase, reply, false);
            }
            _ => {}
        }
    }

    /// An exchange begins, of which all is known but its request.
    fn start(
        &mut self,
        mut exchange: Exchange,
        continues: Option<event::Exchange>,
        command: Document<'_>,
        spot: Option<Spot>,
    ) {
        let Place::Exchange(number) = exchange.place else { return };
        if let Some(first) = continues.map(|first| first.0)
            && let Some(draft) = self.apps.get_mut(&first)
        {
            draft.is_ended = false;
            self.parts.insert(number, first);
            return;
        }
        exchange.request = command.into_bytes();
        let concern = find_path(&exchange.request, &[b"writeConcern", b"w"]);
        exchange.wants_reply = concern.and_then(|w| w.as_i64()) != Some(0);
        let drafts = if exchange.phase == Phase::App { &mut self.apps } else { &mut self.others };
        let found = Found { exchange, spots: spot.map(Spots::new), notes: None };
        drafts.insert(number, Box::new(Draft { found, held: 0, is_ended: false }));
    }

    /// An exchange begins with a plain request.
    pub(super) fn start_plain(&mut self, noted: Noted<N>, app_name: Option<Arc<str>>, at: Timestamp, spot: Spot) {
        let exchange = Exchange {
            place: Place::Exchange(noted.exchange),
            connection: noted.connection,
            app_name,
            phase: Phase::App,
            at,
            request: Vec::new(),
            wants_reply: true,
            replies: Vec::new(),
        };
        let found = Found { exchange, spots: Some(Spots::new(spot)), notes: Some((noted.note, None)) };
        self.apps.insert(noted.exchange, Box::new(Draft { found, held: noted.held, is_ended: false }));
    }

    /// It ends with a plain reply.
    pub(super) fn end_plain(&mut self, noted: Noted<N>, at: Timestamp, spot: Spot) {
        let Some(draft) = self.apps.get_mut(&noted.exchange) else { return };
        draft.is_ended = true;
        draft.held += noted.held;
        if let Some((_, reply)) = &mut draft.found.notes {
            *reply = Some(noted.note);
        }
        draft.found.exchange.replies = vec![Reply { at, body: Vec::new() }];
        if let Some(spots) = &mut draft.found.spots {
            spots.add(spot);
        }
        self.bytes += draft.bytes();
    }

    /// It ends without a reply.
    pub(super) fn end_unanswered(&mut self, number: u64) {
        self.end(number, Phase::App, None, false);
    }

    fn end(&mut self, number: u64, phase: Phase, reply: Option<(Reply, Option<Spot>)>, is_unacknowledged: bool) {
        let number = self.parts.remove(&number).unwrap_or(number);
        let is_app = self.apps.contains_key(&number);
        let drafts = if is_app { &mut self.apps } else { &mut self.others };
        let Some(draft) = drafts.get_mut(&number) else { return };
        draft.is_ended = true;
        let Found { exchange, spots, .. } = &mut draft.found;
        exchange.wants_reply = !is_unacknowledged && (exchange.wants_reply || reply.is_some());
        if let Some((reply, spot)) = reply {
            exchange.replies.push(reply);
            match spots.as_mut().zip(spot) {
                Some((spots, spot)) => spots.add(spot),
                None => *spots = None,
            }
        }
        if is_app {
            self.bytes += draft.bytes();
        } else {
            // Whose connection it is may have been found out meanwhile.
            exchange.phase = phase;
            self.others_ended = true;
        }
    }

    /// Gives what has ended, so far as its turn has come.
    pub(super) fn settle(&mut self, ready: &mut VecDeque<Found<N>>) {
        if std::mem::take(&mut self.others_ended) {
            take_ended(&mut self.others, ready);
        }
        while let Some(first) = self.apps.first_entry().filter(|first| first.get().is_ended) {
            let draft = first.remove();
            self.bytes = self.bytes.saturating_sub(draft.bytes());
            ready.push_back(draft.found);
        }
        if self.bytes > WAITING_BYTES_MAX {
            self.bytes = 0;
            take_ended(&mut self.apps, ready);
        }
    }

    pub(super) fn finish(&mut self, ready: &mut VecDeque<Found<N>>) {
        let drafts = std::mem::take(self);
        ready.extend(drafts.others.into_values().chain(drafts.apps.into_values()).map(|draft| draft.found));
    }
}

/// Gives those that have ended, whatever is before them.
fn take_ended<N>(drafts: &mut BTreeMap<u64, Box<Draft<N>>>, ready: &mut VecDeque<Found<N>>) {
    let (ended, others) = std::mem::take(drafts).into_iter().partition(|(_, draft)| draft.is_ended);
    *drafts = others;
    let ended: BTreeMap<u64, Box<Draft<N>>> = ended;
    ready.extend(ended.into_values().map(|draft| draft.found));
}

/// What a `hello` says of who is connecting.
fn app_name_of(command: &[u8], info: &CommandInfo<'_>) -> Option<Arc<str>> {
    if !matches!(&*info.command_name, "hello" | "isMaster" | "ismaster") {
        return None;
    }
    let client = find(command, b"client")?.as_document()?;
    find_path(client, &[b"application", b"name"])?.as_str().map(Arc::from)
}

impl<N> Draft<N> {
    /// How much it takes to hold it.
    fn bytes(&self) -> usize {
        let Exchange { request, replies, .. } = &self.found.exchange;
        let replies: usize = replies.iter().map(|reply| size_of::<Reply>() + reply.body.len()).sum();
        size_of::<Exchange>() + request.len() + replies + self.held
    }
}
