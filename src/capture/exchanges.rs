//! Exchanges out of a capture, in the order of their requests.
//!
//! The sessions of the run read its messages once more, as they do for its events; only that here the documents are those
//! of the capture, whose credentials were taken out when it was written. What is held of a run is what waits for a reply,
//! and what came behind it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::Read;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use super::blocks::{Blocks, FileBlock};
use super::derive::{InOrder, Since, Timed};
use super::exchange::{Exchange, Place, Reply};
use super::mtap::{CaptureError, Header, InBlock, Record, Torn, message_at};
use super::spots::{BlockPlace, Source, Spot, Spots};
use crate::bson::{find, find_path};
use crate::event::{
    self, CommandInfo, CommandStarted, Connection, ConnectionId, Document, Entry, Event, Failure, Given, Input, Phase,
    Timestamp,
};
use crate::session::{Session, Shared};

/// Bytes of exchanges that wait for one before them.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// Exchanges out of the files of a capture. An application's come in the order of their requests, each when its reply is
/// there; one that takes so long that more than 64 MiB wait behind it comes later. Those of handshakes, authentication
/// and monitors come when they are done, each part of a monitor's stream as an exchange of its own.
///
/// A connection whose opening is missing has none. What was asked and never answered has no replies.
#[derive(Debug)]
pub struct Exchanges<R> {
    blocks: Blocks<R>,
    deriving: Deriving,
    /// What was wrong behind what is still to come.
    error: Option<CaptureError>,
    is_done: bool,
}

impl<R: Read> Exchanges<R> {
    /// Reads the files of a run, or of several, from their beginnings. Those that a capture was rotated to may be given in
    /// any order.
    pub fn new(files: impl IntoIterator<Item = R>) -> Self {
        Self { blocks: Blocks::new(files), deriving: Deriving::default(), error: None, is_done: false }
    }

    /// The header of the file that is being read; `None` if no file has one.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn header(&mut self) -> Result<Option<&Header>, CaptureError> {
        self.blocks.header()
    }

    /// The files that were not written to their ends, by their places among those given from 0; all of them once there
    /// are no more exchanges.
    pub fn torn(&self) -> &[(usize, Torn)] {
        self.blocks.torn()
    }

    /// How many exchanges the capture says were not recorded, so far as it was read.
    pub fn missing(&self) -> u64 {
        self.deriving.missing()
    }
}

impl<R: Read> Iterator for Exchanges<R> {
    type Item = Result<Exchange, CaptureError>;

    /// The next exchange; an error comes after everything that can be read before it, and is the last.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.deriving.pop() {
                return Some(Ok(found.exchange));
            }
            if self.is_done {
                return self.error.take().map(Err);
            }
            match self.blocks.next() {
                Some(Ok(block)) => self.deriving.push(block),
                end => {
                    self.is_done = true;
                    self.error = end.and_then(Result::err);
                    self.deriving.finish();
                }
            }
        }
    }
}

/// Exchanges out of blocks, for who reads those elsewhere.
#[derive(Debug, Default)]
pub struct Deriving {
    in_order: InOrder<Placed>,
    run: Option<(Arc<Header>, Run)>,
    ready: VecDeque<Found>,
    blocks: Vec<BlockPlace>,
    missing: u64,
}

/// An exchange out of a capture.
#[derive(Debug)]
pub struct Found {
    /// The exchange.
    pub exchange: Exchange,
    /// Where its documents can be read again; `None` if they cannot be, each by itself.
    pub spots: Option<Spots>,
}

#[derive(Debug)]
struct Placed {
    record: InBlock,
    /// What its block holds.
    content: Arc<Vec<u8>>,
    spot: Spot,
}

impl Timed for Placed {
    fn nanos(&self) -> u64 {
        match &self.record {
            InBlock::Message { at, .. } => at.monotonic_nanos,
            InBlock::Other(record) => record.nanos(),
        }
    }

    fn held(&self) -> usize {
        match &self.record {
            InBlock::Message { len, .. } => *len,
            InBlock::Other(record) => record.held(),
        }
    }
}

impl Deriving {
    /// Takes the next block.
    pub fn push(&mut self, FileBlock { file, header, block }: FileBlock) {
        if self.run.as_ref().is_some_and(|(run, _)| run.run != header.run) {
            self.finish();
        }
        self.run.get_or_insert_with(|| (Arc::clone(&header), Run::new(&header)));
        let number = self.blocks.len() as u32;
        self.blocks.push(BlockPlace { file, offset: block.offset, len: block.len });
        for (place, record) in block.records {
            let content = Arc::clone(&block.content);
            self.in_order.push(Placed { record, content, spot: Spot { block: number, place } });
        }
        while let Some(placed) = self.in_order.pop() {
            self.take(&placed);
        }
    }

    /// Notes that no more blocks come of this run.
    pub fn finish(&mut self) {
        while let Some(placed) = self.in_order.pop_last() {
            self.take(&placed);
        }
        if let Some((_, mut run)) = self.run.take() {
            run.finish(&mut self.ready);
        }
    }

    /// The next exchange, if it is known to be that.
    pub fn pop(&mut self) -> Option<Found> {
        self.ready.pop_front()
    }

    /// How many exchanges the capture says were not recorded, so far as it was read.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// The blocks that were taken, by their numbers from 0.
    pub fn into_blocks(self) -> Vec<BlockPlace> {
        self.blocks
    }

    fn take(&mut self, placed: &Placed) {
        if let InBlock::Other(Record::Missing { exchanges, .. }) = &placed.record {
            self.missing += exchanges;
        }
        if let Some((_, run)) = &mut self.run {
            run.handle(placed, &mut self.ready);
        }
    }
}

/// The sessions of a run, once more.
#[derive(Debug)]
struct Run {
    shared: Shared,
    sessions: HashMap<ConnectionId, Derived>,
    drafts: Drafts,
    now: Timestamp,
}

#[derive(Debug)]
struct Derived {
    session: Session,
    since: Since,
    app_name: Option<Arc<str>>,
}

impl Run {
    fn new(header: &Header) -> Self {
        let shared = Shared {
            limits: header.limits(),
            idle_after: Duration::from_micros(header.idle_after_micros),
            ..Shared::default()
        };
        Self { shared, sessions: HashMap::new(), drafts: Drafts::default(), now: header.started() }
    }

    fn handle(&mut self, Placed { record, content, spot }: &Placed, ready: &mut VecDeque<Found>) {
        match record {
            InBlock::Message { at, .. } => {
                self.now = *at;
                // It was read once.
                if let Some(input) = message_at(content, spot.place) {
                    self.input(&input, *spot);
                }
            }
            InBlock::Other(record) => {
                self.now = record.at();
                self.other(record, *spot);
            }
        }
        self.drafts.settle(ready);
    }

    fn other(&mut self, record: &Record, spot: Spot) {
        match record {
            Record::Input(input) => self.input(input, spot),
            // It goes on where it was, if the file before was read.
            Record::Carried { connection, .. } if self.sessions.contains_key(&connection.id) => {}
            Record::Carried { at, connection } => self.open(connection, *at, Since::Carried),
            Record::Missing { .. } | Record::Ended { .. } => {}
        }
    }

    fn open(&mut self, connection: &Arc<Connection>, at: Timestamp, since: Since) {
        let session = Session::new(Arc::clone(connection), at, self.shared.clone());
        self.sessions.insert(connection.id, Derived { session, since, app_name: None });
    }

    fn input(&mut self, input: &Input<'_>, spot: Spot) {
        if let Given::Opened(connection) = &input.given {
            return self.open(connection, input.at, Since::Opened);
        }
        let Some(Derived { session, since, app_name }) = self.sessions.get_mut(&input.connection) else { return };
        if since.is_known(input) {
            let source = Source::of(input, spot);
            session.handle_input(input, &mut |entry| self.drafts.take(entry, app_name, source));
        }
        if matches!(input.given, Given::Closed { .. }) {
            self.sessions.remove(&input.connection);
        }
    }

    /// Gives what there is of the exchanges that were not answered.
    fn finish(&mut self, ready: &mut VecDeque<Found>) {
        let mut sessions: Vec<_> = self.sessions.drain().collect();
        sessions.sort_by_key(|(id, _)| *id);
        for (_, Derived { mut session, mut app_name, .. }) in sessions {
            session.handle_close(None, None, self.now, &mut |entry| {
                self.drafts.take(entry, &mut app_name, None);
            });
        }
        self.drafts.finish(ready);
    }
}

/// Exchanges that are not given yet.
#[derive(Debug, Default)]
struct Drafts {
    /// Those of applications, by their numbers.
    apps: BTreeMap<u64, Draft>,
    /// The others: nobody waits for them.
    others: BTreeMap<u64, Draft>,
    /// The parts of exhaust streams, and the exchanges that they belong to.
    parts: HashMap<u64, u64>,
    /// The bytes of those that have ended and wait.
    bytes: usize,
    /// Some that are no application's have ended.
    others_ended: bool,
}

#[derive(Debug)]
struct Draft {
    found: Found,
    is_ended: bool,
}

impl Drafts {
    /// Takes an event, and the message that it follows from, if it is of one.
    fn take(&mut self, entry: Entry<'_>, app_name: &mut Option<Arc<str>>, source: Option<Source>) {
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
        let found = Found { exchange, spots: spot.map(Spots::new) };
        drafts.insert(number, Draft { found, is_ended: false });
    }

    fn end(&mut self, number: u64, phase: Phase, reply: Option<(Reply, Option<Spot>)>, is_unacknowledged: bool) {
        let number = self.parts.remove(&number).unwrap_or(number);
        let is_app = self.apps.contains_key(&number);
        let drafts = if is_app { &mut self.apps } else { &mut self.others };
        let Some(draft) = drafts.get_mut(&number) else { return };
        draft.is_ended = true;
        let Found { exchange, spots } = &mut draft.found;
        exchange.wants_reply = !is_unacknowledged && (exchange.wants_reply || reply.is_some());
        if let Some((reply, spot)) = reply {
            exchange.replies.push(reply);
            *spots = spots.take().zip(spot).map(|(spots, spot)| spots.with(spot));
        }
        if is_app {
            self.bytes += bytes_of(exchange);
        } else {
            // Whose connection it is may have been found out meanwhile.
            exchange.phase = phase;
            self.others_ended = true;
        }
    }

    /// Gives what has ended, so far as its turn has come.
    fn settle(&mut self, ready: &mut VecDeque<Found>) {
        if std::mem::take(&mut self.others_ended) {
            take_ended(&mut self.others, ready);
        }
        while let Some(first) = self.apps.first_entry().filter(|first| first.get().is_ended) {
            let found = first.remove().found;
            self.bytes = self.bytes.saturating_sub(bytes_of(&found.exchange));
            ready.push_back(found);
        }
        if self.bytes > WAITING_BYTES_MAX {
            self.bytes = 0;
            take_ended(&mut self.apps, ready);
        }
    }

    fn finish(&mut self, ready: &mut VecDeque<Found>) {
        let drafts = std::mem::take(self);
        ready.extend(drafts.others.into_values().chain(drafts.apps.into_values()).map(|draft| draft.found));
    }
}

/// Gives those that have ended, whatever is before them.
fn take_ended(drafts: &mut BTreeMap<u64, Draft>, ready: &mut VecDeque<Found>) {
    let (ended, others) = std::mem::take(drafts).into_iter().partition(|(_, draft)| draft.is_ended);
    *drafts = others;
    let ended: BTreeMap<u64, Draft> = ended;
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

fn bytes_of(exchange: &Exchange) -> usize {
    let replies: usize = exchange.replies.iter().map(|reply| size_of::<Reply>() + reply.body.len()).sum();
    size_of::<Exchange>() + exchange.request.len() + replies
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::mtap::Reader;

    /// A frozen capture of several connections.
    const CAPTURE: &[u8] = include_bytes!("../../fixtures/capture/v1.mtap");

    fn all(bytes: &[u8]) -> (Vec<Exchange>, Option<CaptureError>) {
        let (mut all, mut error) = (Vec::new(), None);
        for exchange in Exchanges::new([bytes]) {
            match exchange {
                Ok(exchange) => all.push(exchange),
                Err(found) => error = Some(found),
            }
        }
        (all, error)
    }

    #[test]
    fn every_exchange_of_a_capture_comes_in_order() {
        let mut exchanges = Exchanges::new([CAPTURE]);
        assert!(exchanges.header().unwrap().is_some_and(|header| header.part == 0));
        let all: Vec<_> = exchanges.by_ref().map(Result::unwrap).collect();
        let apps = all.iter().filter(|exchange| exchange.phase == Phase::App);
        let apps: Vec<_> = apps.map(|it| (it.place, it.name(), it.replies.len(), it.wants_reply)).collect();
        let at = Place::Exchange;
        let expected = [
            (at(5), "drop", 1, true),
            (at(6), "insert", 1, true),
            (at(7), "find", 1, true),
            (at(8), "getMore", 1, true),
            (at(9), "getMore", 1, true),
            (at(10), "find", 1, true),
            (at(11), "getMore", 2, true),
            (at(13), "insert", 0, false),
            (at(14), "insert", 1, true),
            (at(15), "createUser", 1, true),
            (at(16), "nosuchcommand", 1, true),
            (at(17), "endSessions", 1, true),
        ];
        assert_eq!(apps, expected);
        assert!(all.iter().all(|exchange| exchange.app_name.as_deref() == Some("fixture")));
        let others: Vec<_> = all.iter().filter(|it| it.phase != Phase::App).map(|it| (it.phase, it.place)).collect();
        let (monitor, rtt) = (Phase::Monitor, Phase::Rtt);
        assert_eq!(others, [(monitor, at(1)), (Phase::Handshake, at(3)), (rtt, at(4)), (monitor, at(2))]);
        let insert = all.iter().find(|exchange| exchange.name() == "insert").unwrap();
        assert!(find(&insert.request, b"documents").is_some_and(|documents| documents.as_array().is_some()));
        assert_eq!((exchanges.torn(), exchanges.missing()), (&[][..], 0));
    }

    #[test]
    fn what_is_torn_or_damaged_is_the_beginning_of_the_whole() {
        let (whole, error) = all(CAPTURE);
        assert!(error.is_none() && whole.len() == 16);
        let is_part = |found: &[Exchange]| {
            found.iter().all(|exchange| {
                let same = whole.iter().find(|it| it.place == exchange.place).unwrap();
                same.request == exchange.request && same.replies.starts_with(&exchange.replies)
            })
        };
        for at in (0..CAPTURE.len()).step_by(11) {
            let (found, _) = all(&CAPTURE[..at]);
            assert!(is_part(&found), "cut at {at}");
            let mut damaged = CAPTURE.to_vec();
            damaged[at] ^= 4;
            let (found, error) = all(&damaged);
            // Behind the index stands where it begins, for those who seek it.
            let is_told = error.is_some() || !Exchanges::new([&damaged[..]]).collect_torn().is_empty();
            assert!(is_part(&found) && (is_told || at >= CAPTURE.len() - 16), "changed at {at}");
        }
    }

    impl<R: Read> Exchanges<R> {
        fn collect_torn(mut self) -> Vec<(usize, Torn)> {
            _ = self.by_ref().count();
            self.torn().to_vec()
        }
    }

    #[test]
    fn a_second_run_comes_after_the_first() {
        let header = Reader::new(CAPTURE).header().unwrap().cloned().unwrap();
        let rest = &CAPTURE[header.to_bytes().len()..];
        let other = [&Header { run: "other".to_owned(), ..header }.to_bytes(), rest].concat();
        let twice: Vec<_> = Exchanges::new([CAPTURE, &other[..]]).map(Result::unwrap).collect();
        let (first, second) = twice.split_at(16);
        assert!(first == second);
    }
}
