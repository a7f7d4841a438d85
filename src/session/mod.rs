//! One connection: bytes of both sides in, events out.
//!
//! A [`Session`] has three kinds of methods. *Inputs*: [`handle_bytes`](Session::handle_bytes) for what was read from a
//! side ([`handle_sent_bytes`](Session::handle_sent_bytes) if they have gone on already),
//! [`handle_sent`](Session::handle_sent) when the client's bytes have all gone to the server later,
//! [`handle_tick`](Session::handle_tick) now and then, [`handle_close`](Session::handle_close) once, at the end.
//! *Output*: each input takes a function that is given the events, in order, before the input returns. *Getters*: the
//! rest. Feed the client's bytes before the replies that they caused, each side in its order, in any pieces: the events
//! are the same.
//!
//! What a session was given can be recorded: [`handle_bytes_telling`](Session::handle_bytes_telling) tells of each
//! message how it was understood, and a session that is given the [`Input`]s of the recording gives the same events.
//!
//! Nothing is forwarded here and nothing can fail: bytes that cannot be read give a
//! [`ProtocolError`](crate::event::ProtocolError), and if it is not known any more where messages begin, nothing more is
//! read of the connection. Every started event has its end, at the latest in `handle_close`.

#![deny(clippy::indexing_slicing)]

mod anomaly;
mod commands;
mod framing;
mod heartbeats;
mod legacy;
mod lifecycle;
mod merge;
mod names;
mod observe;
mod opened;
mod pairing;
mod reply;
mod request;
mod role;
mod shorten;
mod sight;
mod within;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use commands::Commands;
use framing::{Content, Frame, Framer};
pub(crate) use legacy::query_command;
pub(crate) use merge::merged;
pub use names::is_sensitive;
pub use observe::{Observations, Observing};
pub(crate) use opened::{document_of, plain_document};
pub use role::Monitors;

use crate::event::{Connection, Entry, Exchange, Given, GivenMessage, Input, Seen, Side, Timestamp};
use crate::wire::{Header, MESSAGE_LEN_MAX, Reader, WireError};

/// Where events go.
pub type Emit<'e> = dyn FnMut(Entry<'_>) + 'e;

/// Where goes how messages were understood.
pub type Tell<'t> = dyn FnMut(Seen<'_>) + 't;

/// What is read, and how much of it is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The longest message, in bytes; a longer one is not taken for one.
    pub max_message_bytes: usize,
    /// The longest message inflated, in bytes; a longer one is paired and timed, its body not shown.
    pub inflate_max_bytes: usize,
    /// The longest document of an event, in bytes of BSON; 0 is no limit.
    pub max_document_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message_bytes: MESSAGE_LEN_MAX, inflate_max_bytes: MESSAGE_LEN_MAX, max_document_bytes: 10_000 }
    }
}

/// Gives out the numbers of exchanges, from 1. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Exchanges(Arc<AtomicU64>);

impl Exchanges {
    fn next(&self) -> Exchange {
        Exchange(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The next one has this number: that of a recording.
    fn go_on_with(&self, exchange: Exchange) {
        self.0.store(exchange.0.saturating_sub(1), Ordering::Relaxed);
    }
}

/// What the sessions of a run share.
#[derive(Clone, Debug)]
pub struct Shared {
    /// What is read, and how much of it is kept.
    pub limits: Limits,
    /// The numbers of exchanges.
    pub exchanges: Exchanges,
    /// The monitors of each client.
    pub monitors: Monitors,
    /// Where goes what bears on the clients' topologies.
    pub observations: Observations,
    /// A connection that has said nothing for so long since its first `hello` is an idle one of an application's pool.
    pub idle_after: Duration,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            exchanges: Exchanges::default(),
            monitors: Monitors::default(),
            observations: Observations::default(),
            // Longer than the ten seconds after which a driver's monitor speaks again.
            idle_after: Duration::from_secs(15),
        }
    }
}

/// One connection. See the [module](self).
pub struct Session {
    client: Framer,
    server: Framer,
    commands: Commands,
}

/// What it holds may be secret, and whoever prints it may be a panic.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offsets = [&self.client, &self.server].map(Framer::offset);
        f.debug_struct("Session").field("offsets", &offsets).finish_non_exhaustive()
    }
}

impl Session {
    /// A connection that a client made at `at`.
    pub fn new(connection: Arc<Connection>, at: Timestamp, shared: Shared) -> Self {
        Self {
            client: Framer::new(Side::Client),
            server: Framer::new(Side::Server),
            commands: Commands::new(connection, at, shared),
        }
    }

    /// How much would be done at once if these bytes came from `side` next: bytes that have to be taken out of their
    /// compression, and messages longer than `most` that are looked at whole. All else is done as it comes.
    pub fn work(&self, side: Side, bytes: &[u8], most: usize) -> usize {
        let framer = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        if self.is_tunnel() { 0 } else { framer.work(bytes, &self.commands.limits(), most) }
    }

    /// Takes bytes that were read from `side` at `at`.
    pub fn handle_bytes(&mut self, side: Side, bytes: &[u8], at: Timestamp, emit: &mut Emit<'_>) {
        self.read(side, bytes, (at, None), emit, None);
    }

    /// Takes bytes that were read from the client at `at` and had all gone on to the server at `sent_at`: an
    /// unacknowledged write among them has its end before the next request has its start.
    pub fn handle_sent_bytes(&mut self, bytes: &[u8], at: Timestamp, sent_at: Timestamp, emit: &mut Emit<'_>) {
        self.read(Side::Client, bytes, (at, Some(sent_at)), emit, None);
    }

    /// The same for bytes that were handed on at `sent_at`, if that is known, and tells of each message how it was
    /// understood, after its events. [`Limits::max_document_bytes`] must be 0: what is cut cannot be told of.
    pub fn handle_bytes_telling(
        &mut self,
        side: Side,
        bytes: &[u8],
        times: (Timestamp, Option<Timestamp>),
        emit: &mut Emit<'_>,
        tell: &mut Tell<'_>,
    ) {
        self.read(side, bytes, times, emit, Some(tell));
    }

    fn read(
        &mut self,
        side: Side,
        mut bytes: &[u8],
        (at, sent_at): (Timestamp, Option<Timestamp>),
        emit: &mut Emit<'_>,
        mut tell: Option<&mut Tell<'_>>,
    ) {
        let framer = match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let limits = self.commands.limits();
        self.commands.sent_at = sent_at;
        while !self.commands.is_tunnel() {
            match framer.next(bytes, at, &limits) {
                Ok((taken, Some(frame))) => {
                    self.commands.handle_frame(side, &frame, at, emit);
                    if let Some(tell) = &mut tell {
                        tell(self.commands.seen(side, &frame));
                    }
                    bytes = bytes.get(taken..).unwrap_or_default();
                }
                Ok((_, None)) => break,
                Err(error) => {
                    if let Some(tell) = &mut tell {
                        let begun = if framer.is_within_message() { framer.begun() } else { bytes };
                        let (head, len) = framer.begun_head(begun);
                        tell(Seen::Begun { side, bytes: head.get(..len).unwrap_or_default() });
                    }
                    let offset = framer.offset();
                    self.commands.lose_framing(side, offset, error, at, emit);
                }
            }
        }
        self.commands.sent_at = None;
    }

    /// Notes that all bytes of the client's so far have been handed to the server's socket, at `at`: an unacknowledged
    /// write is done by that.
    pub fn handle_sent(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        self.commands.handle_sent(at, emit);
    }

    /// Whether [`handle_sent`](Self::handle_sent) would give an event.
    pub fn awaits_sent(&self) -> bool {
        self.commands.awaits_sent()
    }

    /// Takes what a session was given before, as it was recorded.
    pub fn handle_input(&mut self, input: &Input<'_>, emit: &mut Emit<'_>) {
        let at = input.at;
        match &input.given {
            Given::Opened(_) => {}
            Given::Message(message) => self.handle_message(message, at, emit),
            Given::Begun { side, bytes } => self.handle_bytes(*side, bytes, at, emit),
            Given::Sent => self.handle_sent(at, emit),
            Given::Judged { is_monitor } => self.handle_judged(*is_monitor),
            Given::Tick => self.handle_tick(at, emit),
            Given::Withheld { side, message } => self.handle_withheld(*side, message, at, emit),
            Given::Closed { by, error } => self.handle_close(*by, error.as_deref(), at, emit),
        }
    }

    fn handle_message(&mut self, message: &GivenMessage<'_>, at: Timestamp, emit: &mut Emit<'_>) {
        let Ok(mut header) = Header::decode(&mut Reader::new(&message.bytes)) else { return };
        if self.commands.is_tunnel() {
            return;
        }
        let (mut flags, mut compressor) = (None, None);
        let mut content = Ok(Content { bytes: &message.bytes, shortened: None });
        if let Some(original) = &message.original {
            header.message_length = original.length;
            flags = original.flags;
            compressor = original.compressor;
            if original.unread.is_some() {
                // Which one does not matter: what is said of it was recorded.
                content = Err(WireError::Trailing("message"));
            }
        }
        let framer = match message.side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        };
        let frame = Frame {
            offset: framer.pass(&header),
            first_byte_at: at.before(message.took),
            header,
            flags,
            content,
            compressor,
            unread: message.original.as_ref().and_then(|original| original.unread.as_deref()),
        };
        let begins = if message.side == Side::Client { message.exchange } else { message.continued };
        if let Some(exchange) = begins {
            self.commands.shared.exchanges.go_on_with(exchange);
        }
        self.commands.sent_at = message.sent_after.map(|after| at.after(after));
        self.commands.handle_frame(message.side, &frame, at, emit);
        self.commands.sent_at = None;
    }

    /// What there is of messages that have begun and not ended, no more than a header of each: to be told before
    /// [`handle_close`](Self::handle_close).
    pub fn tell_begun(&self, tell: &mut Tell<'_>) {
        for (side, framer) in [(Side::Client, &self.client), (Side::Server, &self.server)] {
            let begun = framer.begun();
            if !begun.is_empty() && !self.is_tunnel() {
                let (head, len) = framer.begun_head(begun);
                tell(Seen::Begun { side, bytes: head.get(..len).unwrap_or_default() });
            }
        }
    }

    /// Notes the time. Needed only while [`is_undecided`](Self::is_undecided).
    pub fn handle_tick(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        self.commands.handle_tick(at, emit);
    }

    /// Whether it is a monitor's connection as far as the other connections of its client tell; `None` if what was said on
    /// it has told whose it is.
    pub fn judgement(&self) -> Option<bool> {
        self.is_undecided().then(|| self.commands.judgement())
    }

    /// Has the tick or the end that comes next decide by that judgement, and not by another look at the others.
    pub fn handle_judged(&mut self, is_monitor: bool) {
        self.commands.handle_judged(is_monitor);
    }

    /// Whether it is not known yet whose connection this is, and events are held back for it.
    pub fn is_undecided(&self) -> bool {
        self.commands.is_undecided()
    }

    /// Whether an application waits for the server, or is in the middle of a request: not a monitor, nor who tails a
    /// cursor.
    pub fn is_busy(&self) -> bool {
        self.commands.is_busy() || (!self.commands.is_tunnel() && self.client.is_within_message())
    }

    /// Whether a reply that names that request may be one to a `hello`: false only if the request is known, and none.
    /// Feed the replies before it first, for a stream's next reply names the one before.
    pub fn may_await_hello(&self, response_to: i32) -> bool {
        self.commands.pairing.may_await_hello(response_to)
    }

    /// Whether nothing more is read of this connection: where its messages begin is not known any more.
    pub fn is_tunnel(&self) -> bool {
        self.commands.is_tunnel()
    }

    /// Notes that the next message of `side` is not passed on, and why; or that there can be none, for want of TLS. The
    /// connection is to be closed then.
    pub fn handle_withheld(&mut self, side: Side, message: &str, at: Timestamp, emit: &mut Emit<'_>) {
        let framer = match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        };
        self.commands.handle_withheld(side, framer.offset(), message, at, emit);
    }

    /// Whether the server has said anything.
    pub fn is_heard(&self) -> bool {
        self.server.offset() > 0 || self.server.is_within_message()
    }

    /// Whether the client has said something and the server nothing at all.
    pub fn is_unanswered(&self) -> bool {
        self.client.offset() > 0 && !self.is_heard()
    }

    /// Notes the end of the connection. `by` is who ended it first, `None` for the proxy itself; `error` says what went
    /// wrong, if anything did.
    pub fn handle_close(&mut self, by: Option<Side>, error: Option<&str>, at: Timestamp, emit: &mut Emit<'_>) {
        let torn = match by {
            Some(Side::Client) | None => self.client.is_within_message(),
            Some(Side::Server) => self.server.is_within_message(),
        };
        self.commands.handle_close(by, error, torn, at, emit);
    }
}
