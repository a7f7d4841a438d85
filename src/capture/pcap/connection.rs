//! One TCP connection: whether it speaks MongoDB, who of the two is the client, and its messages on their way to the
//! pipeline.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::half::{Half, Piece};
use super::messages::{Message, Messages, Pause, header};
use super::packet::Segment;
use super::read::Run;
use super::{LOST_MAX, Lost};
use crate::event::{Address, Connection, ConnectionId, Side, Timestamp};
use crate::pipeline::Pipeline;
use crate::wire::{Header, OpCode};

/// Segments of a connection whose beginning is missing that are looked at for a message.
const SEGMENTS_SEARCHED: u32 = 1000;

/// Requests that are remembered until the first reply to one of them.
const ASKED_MAX: usize = 1000;

/// Bytes of segments that may wait for the other side's.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Records may stand so much later in a capture than their times say, and then some.
const OPENED_BEFORE_MAX: Duration = Duration::from_millis(400);

/// A connection between two addresses. Both sides are indexed by who sends: 0 is whose packet was seen first.
#[derive(Debug)]
pub(super) struct Conversation {
    halves: [Half; 2],
    /// Segments of one side that were sent when it had got more of the other than was seen: they wait for that.
    held: Vec<(usize, Segment<'static>)>,
    held_bytes: usize,
    talk: Talk,
}

/// What is known of what is said on it.
#[derive(Debug)]
struct Talk {
    addresses: [SocketAddr; 2],
    /// Its number, and when the client asked for it; `None` if that is not in the packets, or is over.
    opened: Option<(ConnectionId, Timestamp)>,
    /// Which of the two is the client.
    client: Option<usize>,
    kind: Kind,
    messages: [Messages; 2],
    pipeline: Option<(Arc<Connection>, Pipeline)>,
    /// What was asked since the packets begin, or begin again, as long as the answers may be to what was asked before.
    asked: Option<HashSet<i32>>,
    /// Who ended it first.
    ended_by: Option<usize>,
    ends: usize,
    /// What was missing first before a message was found: who had sent it, from where on, how much.
    lost_before: Option<(usize, u64, u64)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// So many segments were looked at.
    Unknown(u32),
    MongoDb,
    Encrypted,
    Other,
    /// It is over; what comes late is nothing new.
    Over,
}

impl Conversation {
    /// Between these, of which the first was seen first.
    pub(super) fn new(addresses: [SocketAddr; 2], segment: &Segment<'_>, at: Timestamp, run: &mut Run) -> Self {
        // Who answers a SYN is the server.
        let client = segment.syn.then_some(usize::from(segment.acknowledged.is_some()));
        let opened = client.map(|_| (run.next_id(), at));
        let mut messages: [Messages; 2] = Default::default();
        if client.is_none() {
            messages.iter_mut().for_each(Messages::search);
        }
        let asked = client.is_none().then(HashSet::new);
        let talk = Talk {
            addresses,
            opened,
            client,
            kind: Kind::Unknown(0),
            messages,
            pipeline: None,
            asked,
            ended_by: None,
            ends: 0,
            lost_before: None,
        };
        Self { halves: Default::default(), held: Vec::new(), held_bytes: 0, talk }
    }

    /// Whether the segment, which `from` sent, begins another connection between the same two.
    pub(super) fn is_succeeded_by(&self, segment: &Segment<'_>, from: usize) -> bool {
        let begins = segment.syn && segment.acknowledged.is_none();
        begins && (self.talk.kind == Kind::Over || !self.halves[from].begins_with(segment.sequence))
    }

    /// Whether nothing will be read of it.
    pub(super) fn is_of_no_interest(&self) -> bool {
        !matches!(self.talk.kind, Kind::MongoDb | Kind::Unknown(_))
    }

    /// Takes a segment that was sent by `from`.
    pub(super) fn handle(&mut self, segment: &Segment<'_>, from: usize, at: Timestamp, run: &mut Run) {
        if let Some(number) = segment.acknowledged {
            self.halves[1 - from].acknowledge(number);
        }
        if self.halves[from].has_gone_on(segment) {
            self.give_up(from, at, run);
        } else if self.held_bytes > HELD_BYTES_MAX {
            self.give_up(1 - from, at, run);
        }
        if segment.rst {
            return self.finish_with(Some((from, "connection reset")), at, run);
        }
        let says_something = segment.fin || !segment.payload.is_empty();
        if says_something && self.halves[1 - from].is_behind() {
            self.held_bytes += segment.payload.len();
            return self.held.push((from, segment.to_owned()));
        }
        self.push(segment, from, at, run);
        if !self.halves[from].is_behind() {
            self.release(at, run);
        }
        if self.talk.ends == 2 {
            self.talk.end(None, at, run);
        }
    }

    fn push(&mut self, segment: &Segment<'_>, from: usize, at: Timestamp, run: &mut Run) {
        let Self { halves, talk, .. } = self;
        halves[from].push(segment, &mut |piece| talk.take(from, piece, at, run));
    }

    /// What is missing of that side is lost.
    fn give_up(&mut self, from: usize, at: Timestamp, run: &mut Run) {
        let Self { halves, talk, .. } = self;
        halves[from].give_up(&mut |piece| talk.take(from, piece, at, run));
        self.release(at, run);
    }

    /// Takes what was held.
    fn release(&mut self, at: Timestamp, run: &mut Run) {
        self.held_bytes = 0;
        for (from, segment) in std::mem::take(&mut self.held) {
            self.push(&segment, from, at, run);
        }
    }

    /// The packets end, or another connection takes its place.
    pub(super) fn finish(&mut self, at: Timestamp, run: &mut Run) {
        self.finish_with(None, at, run);
    }

    /// It is over: `aborted` by that side, unless one had ended it before.
    fn finish_with(&mut self, aborted: Option<(usize, &str)>, at: Timestamp, run: &mut Run) {
        if let Some((holder, _)) = self.held.first() {
            self.give_up(1 - holder, at, run);
        }
        let Self { halves, talk, .. } = self;
        for (half, index) in halves.iter_mut().zip(0..) {
            half.finish(&mut |piece| talk.take(index, piece, at, run));
        }
        let aborted = aborted.filter(|_| talk.ended_by.is_none());
        talk.ended_by = talk.ended_by.or_else(|| aborted.map(|(by, _)| by));
        talk.end(aborted.map(|(_, error)| error), at, run);
    }

    /// Notes the time, for who decides by it whose connection this is.
    pub(super) fn tick(&mut self, at: Timestamp) {
        if let Some((_, pipeline)) = self.talk.pipeline.as_mut().filter(|(_, pipeline)| pipeline.is_undecided()) {
            pipeline.handle_tick(at, &mut |_| {});
        }
    }
}

impl Talk {
    fn take(&mut self, from: usize, piece: Piece<'_>, at: Timestamp, run: &mut Run) {
        match piece {
            Piece::End => {
                self.ends += 1;
                self.ended_by.get_or_insert(from);
            }
            _ if !matches!(self.kind, Kind::Unknown(_) | Kind::MongoDb) => {}
            Piece::Lost { offset, bytes } => self.lose(from, offset, bytes, at, run),
            Piece::Bytes(bytes) => {
                self.messages[from].push(bytes, at);
                self.read(from, at, run);
                if let Kind::Unknown(seen) = self.kind {
                    self.kind = if seen < SEGMENTS_SEARCHED { Kind::Unknown(seen + 1) } else { self.nothing(run) };
                }
            }
        }
    }

    /// Takes the messages that are whole.
    fn read(&mut self, from: usize, at: Timestamp, run: &mut Run) {
        loop {
            match self.messages[from].next(at) {
                Ok(message) => self.message(from, &message, at, run),
                Err(Pause::Short) => {
                    if self.kind == Kind::Unknown(0) && header(self.messages[from].held()).is_some() {
                        self.found(from);
                    }
                    return;
                }
                Err(Pause::NoMessage) => return self.no_message(from, at, run),
            }
        }
    }

    /// It speaks MongoDB.
    fn found(&mut self, from: usize) {
        self.kind = Kind::MongoDb;
        let Some(header) = header(self.messages[from].held()) else { return };
        self.client.get_or_insert_with(|| sender(&header, from));
    }

    fn message(&mut self, from: usize, message: &Message, at: Timestamp, run: &mut Run) {
        self.kind = Kind::MongoDb;
        let client = *self.client.get_or_insert_with(|| sender(&message.header, from));
        if let Some((from, offset, bytes)) = self.lost_before.take() {
            self.tell_lost(from, offset, bytes, at, run);
        }
        let side = if client == from { Side::Client } else { Side::Server };
        if side == Side::Client && self.pipeline.is_none() {
            self.open(client, message.first_byte_at, at, run);
        }
        if !self.is_asked(side, &message.header) {
            run.summary.unasked += 1;
            return;
        }
        let Some((_, pipeline)) = &mut self.pipeline else {
            run.summary.unasked += 1;
            return;
        };
        let (first, rest) = message.bytes.split_at(usize::from(message.first_byte_at != at));
        for (bytes, at) in [(first, message.first_byte_at), (rest, at)] {
            match side {
                _ if bytes.is_empty() => {}
                Side::Client => pipeline.handle_sent_bytes(bytes, at, at, &mut |_| {}),
                Side::Server => pipeline.handle_bytes(side, bytes, at, &mut |_| {}),
            }
        }
    }

    /// Whether a message is a request, or may be the reply to one that is in the packets.
    fn is_asked(&mut self, side: Side, header: &Header) -> bool {
        let Some(asked) = &mut self.asked else { return true };
        match side {
            Side::Client => {
                asked.insert(header.request_id);
                if asked.len() > ASKED_MAX {
                    self.asked = None;
                }
                true
            }
            Side::Server if asked.contains(&header.response_to) => {
                self.asked = None;
                true
            }
            Side::Server => false,
        }
    }

    fn open(&mut self, client: usize, first_byte_at: Timestamp, at: Timestamp, run: &mut Run) {
        let (id, opened_at) = self.opened.take().unwrap_or_else(|| (run.next_id(), first_byte_at));
        run.summary.connections += 1;
        let opened_at = if at.since(opened_at) > OPENED_BEFORE_MAX { at.before(OPENED_BEFORE_MAX) } else { opened_at };
        let server = self.addresses[1 - client];
        let connection = Arc::new(Connection {
            id,
            client: self.addresses[client].to_string(),
            upstream: server.to_string(),
            server: Address { host: server.ip().to_string(), port: Some(server.port()) },
            tls: false,
        });
        run.listens(&connection.server);
        let pipeline = Pipeline::recorded(Arc::clone(&connection), opened_at, run.shared.clone(), run.tap());
        self.pipeline = Some((connection, pipeline));
    }

    /// No message begins where one should.
    fn no_message(&mut self, from: usize, at: Timestamp, run: &mut Run) {
        let held = self.messages[from].held();
        match (self.kind, &mut self.pipeline) {
            (Kind::Unknown(_), _) if held.starts_with(&[0x16, 0x03]) => {
                run.summary.encrypted += 1;
                self.kind = Kind::Encrypted;
            }
            (Kind::Unknown(_), _) => self.kind = self.nothing(run),
            (_, Some((_, pipeline))) => {
                // It says what is wrong with them, as it would live, and reads nothing more.
                let side = if self.client == Some(from) { Side::Client } else { Side::Server };
                pipeline.handle_bytes(side, held, at, &mut |_| {});
                self.messages[from].search();
            }
            (_, None) => self.messages[from].search(),
        }
    }

    fn nothing(&self, run: &mut Run) -> Kind {
        run.summary.others += 1;
        Kind::Other
    }

    /// Bytes are missing: what was begun cannot be ended, and the rest is another connection.
    fn lose(&mut self, from: usize, offset: u64, bytes: u64, at: Timestamp, run: &mut Run) {
        self.messages[from].lose(bytes);
        if self.kind == Kind::MongoDb {
            self.tell_lost(from, offset, bytes, at, run);
        } else {
            // If it turns out to be one of MongoDB's.
            self.lost_before = self.lost_before.or(Some((from, offset, bytes)));
        }
    }

    fn tell_lost(&mut self, from: usize, offset: u64, bytes: u64, at: Timestamp, run: &mut Run) {
        let side = if self.client == Some(from) { Side::Client } else { Side::Server };
        let connection = self.pipeline.as_ref().map(|(connection, _)| connection.id);
        let lost = Lost { connection, side, offset, bytes };
        run.summary.lost_count += 1;
        run.summary.lost_bytes += bytes;
        if run.summary.lost.len() < LOST_MAX {
            run.summary.lost.push(lost);
        }
        run.missing(at, bytes, &format!("not in the packets: {lost}"));
        if let Some((_, mut pipeline)) = self.pipeline.take() {
            let error = format!("not in the packets: {bytes} bytes of the {side}'s");
            pipeline.handle_close(None, Some(&error), at, &mut |_| {});
        }
        self.asked = Some(HashSet::new());
    }

    fn end(&mut self, error: Option<&str>, at: Timestamp, run: &mut Run) {
        if let Some((_, mut pipeline)) = self.pipeline.take() {
            let by = self.ended_by.map(|by| if self.client == Some(by) { Side::Client } else { Side::Server });
            pipeline.handle_close(by, error, at, &mut |_| {});
        }
        if matches!(self.kind, Kind::Unknown(seen) if seen > 0) {
            self.nothing(run);
        }
        self.kind = Kind::Over;
        self.messages = Default::default();
    }
}

/// Which of the two is the client, if `from` sent a message with this header.
fn sender(header: &Header, from: usize) -> usize {
    let is_reply = header.op_code == OpCode::Reply || header.response_to != 0;
    if is_reply { 1 - from } else { from }
}
