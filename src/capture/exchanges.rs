//! Exchanges out of a capture, in the order of their requests.
//!
//! The sessions of the run read its messages once more, as they do for its events; only that here the documents are those
//! of the capture, whose credentials were taken out when it was written. What is held of a run is what waits for a reply,
//! and what came behind it.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use super::blocks::{Blocks, FileBlock};
use super::derive::{InOrder, Since, Timed};
use super::drafts::Drafts;
use super::exchange::{Exchange, is_housekeeping};
use super::mtap::{CaptureError, Header, InBlock, Record, Torn, message_at};
use super::plain::Noted;
use super::spots::{BlockPlace, Source, Spot, Spots};
use crate::event::{Connection, ConnectionId, Entry, Event, Given, GivenMessage, Input, Phase, Side, Timestamp};
use crate::session::{Session, Shared};

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

    /// Where the capture says that something is missing of which nobody knows how much it was, why, so far as it was
    /// read: a file of a capture that was rotated.
    pub fn gaps(&self) -> &[String] {
        self.deriving.gaps()
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

/// Exchanges out of blocks, for who reads those elsewhere, and may understand plain messages where it does.
#[derive(Debug)]
pub struct Deriving<N = ()> {
    in_order: InOrder<Placed<N>>,
    run: Option<(Arc<Header>, Run<N>)>,
    ready: VecDeque<Found<N>>,
    blocks: Vec<BlockPlace>,
    missing: u64,
    gaps: Vec<String>,
}

impl<N> Default for Deriving<N> {
    fn default() -> Self {
        let (in_order, ready) = (InOrder::default(), VecDeque::new());
        Self { in_order, run: None, ready, blocks: Vec::new(), missing: 0, gaps: Vec::new() }
    }
}

/// An exchange out of a capture.
#[derive(Debug)]
pub struct Found<N = ()> {
    /// The exchange. If its messages were noted, it is without their documents.
    pub exchange: Exchange,
    /// Where its documents can be read again; `None` if they cannot be, each by itself.
    pub spots: Option<Spots>,
    /// What was noted of its request, and of its reply. Nothing, unless both were plain, or the reply never came.
    pub notes: Option<(N, Option<N>)>,
}

#[derive(Debug)]
struct Placed<N> {
    record: InBlock,
    /// What its block holds.
    content: Arc<Vec<u8>>,
    spot: Spot,
    noted: Option<Noted<N>>,
}

impl<N> Timed for Placed<N> {
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

impl<N> Deriving<N> {
    /// Takes the next block.
    pub fn push(&mut self, block: FileBlock) {
        self.push_noted(block, Vec::new());
    }

    /// The same, with what was noted of its messages, in the order of its records.
    pub fn push_noted(&mut self, FileBlock { file, header, block }: FileBlock, noted: Vec<Noted<N>>) {
        if self.run.as_ref().is_some_and(|(run, _)| run.run != header.run) {
            self.finish();
        }
        self.run.get_or_insert_with(|| (Arc::clone(&header), Run::new(&header)));
        let number = self.blocks.len() as u32;
        self.blocks.push(BlockPlace { file, offset: block.offset, len: block.len });
        let mut noted = noted.into_iter().peekable();
        for (place, record) in block.records {
            let content = Arc::clone(&block.content);
            let noted = noted.next_if(|noted| noted.place == place);
            self.in_order.push(Placed { record, content, spot: Spot { block: number, place }, noted });
        }
        while let Some(placed) = self.in_order.pop() {
            self.take(placed);
        }
    }

    /// Notes that no more blocks come of this run.
    pub fn finish(&mut self) {
        while let Some(placed) = self.in_order.pop_last() {
            self.take(placed);
        }
        if let Some((_, mut run)) = self.run.take() {
            run.finish(&mut self.ready);
        }
    }

    /// The next exchange, if it is known to be that.
    pub fn pop(&mut self) -> Option<Found<N>> {
        self.ready.pop_front()
    }

    /// How many exchanges the capture says were not recorded, so far as it was read.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// See [`Exchanges::gaps`].
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// The blocks that were taken, by their numbers from 0.
    pub fn into_blocks(self) -> Vec<BlockPlace> {
        self.blocks
    }

    fn note_missing(&mut self, exchanges: u64, bytes: u64, reason: &str) {
        self.missing = self.missing.saturating_add(exchanges);
        match self.gaps.len() {
            _ if exchanges > 0 || bytes > 0 => {}
            GAPS_MAX => self.gaps.push("more of the recording is missing".to_owned()),
            0..GAPS_MAX => self.gaps.push(reason.to_owned()),
            _ => {}
        }
    }

    fn take(&mut self, placed: Placed<N>) {
        if let InBlock::Other(record) = &placed.record
            && let Record::Missing { exchanges, bytes, reason, .. } = &**record
        {
            self.note_missing(*exchanges, *bytes, reason);
        }
        if let Some((_, run)) = &mut self.run {
            run.handle(placed, &mut self.ready);
        }
    }
}

/// Gaps that are told one by one.
const GAPS_MAX: usize = 100;

/// The sessions of a run, once more.
#[derive(Debug)]
struct Run<N> {
    shared: Shared,
    sessions: HashMap<ConnectionId, Derived>,
    drafts: Drafts<N>,
    now: Timestamp,
}

#[derive(Debug)]
struct Derived {
    session: Session,
    since: Since,
    app_name: Option<Arc<str>>,
    /// It is known to be an application's: its plain messages need no session.
    is_app: bool,
    /// The plain requests that were not answered yet.
    plain: Vec<Asked>,
}

/// A plain request, of which no session knows.
#[derive(Debug)]
struct Asked {
    exchange: u64,
    spot: Spot,
    /// What its block holds.
    content: Arc<Vec<u8>>,
}

impl<N> Run<N> {
    fn new(header: &Header) -> Self {
        let shared = Shared {
            limits: header.limits(),
            idle_after: Duration::from_micros(header.idle_after_micros),
            ..Shared::default()
        };
        Self { shared, sessions: HashMap::new(), drafts: Drafts::default(), now: header.started() }
    }

    fn handle(&mut self, Placed { record, content, spot, noted }: Placed<N>, ready: &mut VecDeque<Found<N>>) {
        match record {
            InBlock::Message { at, .. } => {
                self.now = at;
                if noted.is_some_and(|noted| self.plain(noted, at, &content, spot)) {
                    // That is all there is to do with it.
                } else if let Some(input) = message_at(&content, spot.place) {
                    // It was read once.
                    self.input(&input, spot);
                }
            }
            InBlock::Other(record) => {
                self.now = record.at();
                self.other(&record, spot);
            }
        }
        self.drafts.settle(ready);
    }

    /// Pairs a plain message by its number; whether that is all there is to do with it.
    fn plain(&mut self, noted: Noted<N>, at: Timestamp, content: &Arc<Vec<u8>>, spot: Spot) -> bool {
        let Some(derived) = self.sessions.get_mut(&noted.connection).filter(|derived| derived.is_app) else {
            return false;
        };
        match noted.side {
            Side::Client => {
                let content = Arc::clone(content);
                derived.plain.push(Asked { exchange: noted.exchange, spot, content });
                self.drafts.start_plain(noted, derived.app_name.clone(), at, spot);
                true
            }
            Side::Server => {
                let asked = derived.plain.iter().position(|asked| asked.exchange == noted.exchange);
                asked.inspect(|place| {
                    derived.plain.remove(*place);
                    self.drafts.end_plain(noted, at, spot);
                });
                asked.is_some()
            }
        }
    }

    fn other(&mut self, record: &Record, spot: Spot) {
        match record {
            Record::Input(input) => self.input(input, spot),
            // It goes on where it was, if the file before was read.
            Record::Carried { connection, .. } if self.sessions.contains_key(&connection.id) => {}
            Record::Carried { at, connection } => self.open(connection, *at, Since::Carried),
            Record::Missing { exchanges: 0, bytes: 0, .. } => self.forget(),
            Record::Missing { .. } | Record::Ended { .. } => {}
        }
    }

    /// Notes that a file is missing here: what was asked before it is not answered behind it.
    fn forget(&mut self) {
        for (_, Derived { mut session, mut app_name, plain, .. }) in self.in_order() {
            plain.iter().for_each(|asked| self.drafts.end_unanswered(asked.exchange));
            session.handle_close(None, None, self.now, &mut |entry| self.drafts.take(entry, &mut app_name, None));
        }
    }

    /// The sessions, which are not needed any more.
    fn in_order(&mut self) -> Vec<(ConnectionId, Derived)> {
        let mut sessions: Vec<_> = self.sessions.drain().collect();
        sessions.sort_by_key(|(id, _)| *id);
        sessions
    }

    fn open(&mut self, connection: &Arc<Connection>, at: Timestamp, since: Since) {
        let session = Session::new(Arc::clone(connection), at, self.shared.clone());
        let derived = Derived { session, since, app_name: None, is_app: false, plain: Vec::new() };
        self.sessions.insert(connection.id, derived);
    }

    fn input(&mut self, input: &Input<'_>, spot: Spot) {
        if let Given::Opened(connection) = &input.given {
            return self.open(connection, input.at, Since::Opened);
        }
        let Some(derived) = self.sessions.get_mut(&input.connection) else { return };
        let Derived { session, since, app_name, is_app, plain } = derived;
        let mut handle = |input: &Input<'_>, spot| {
            let source = Source::of(input, spot);
            session.handle_input(input, &mut |entry| {
                *is_app |= is_of_application(&entry);
                self.drafts.take(entry, app_name, source);
            });
        };
        // What answers a plain request, and is not plain itself, is understood by who knows of both.
        if let Given::Message(GivenMessage { side: Side::Server, exchange: Some(ends), .. }) = &input.given
            && let Some(place) = plain.iter().position(|asked| asked.exchange == ends.0)
        {
            let asked = plain.remove(place);
            if let Some(request) = message_at(&asked.content, asked.spot.place) {
                handle(&request, asked.spot);
            }
        }
        if since.is_known(input) {
            handle(input, spot);
        }
        if matches!(input.given, Given::Closed { .. }) {
            plain.drain(..).for_each(|asked| self.drafts.end_unanswered(asked.exchange));
            self.sessions.remove(&input.connection);
        }
    }

    /// Gives what there is of the exchanges that were not answered.
    fn finish(&mut self, ready: &mut VecDeque<Found<N>>) {
        self.forget();
        self.drafts.finish(ready);
    }
}

/// Whether it tells that its connection is an application's, which it then is to its end.
fn is_of_application(entry: &Entry<'_>) -> bool {
    match &entry.event {
        Event::CommandStarted(started) => entry.phase == Phase::App && !is_housekeeping(&started.info.command_name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bson::find;
    use crate::capture::exchange::Place;
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
