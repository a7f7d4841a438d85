//! A client and a server in memory, and the two streams between which the pump stands. Whenever the pump reads or writes,
//! chance may have it wait, take or give only a part, or find the peer gone.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::random::Random;
use super::script::{Script, whole_messages};
use crate::event::Side;
use crate::net::stream::Socket;
use crate::wire::HEADER_LEN;

/// Calls of a stream in one run: more of them are a pump that turns in circles.
const CALLS_MAX: usize = 1_000_000;

/// What TLS holds before it takes no more.
const HELD_MAX: usize = 5000;

/// How often, once in so many times, what goes wrong; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) waits: usize,
    pub(super) parts: usize,
    pub(super) errors: usize,
    pub(super) ends: usize,
}

/// What a broken pump would do, so that it is known to be found out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Planted {
    DropsAByte,
    ForgetsToFlush,
    SwapsWrites,
    LosesAnEnd,
    TellsAnEndTwice,
    EndsInGoodOrder,
    ForgetsTheEnd,
}

/// Who ends the connection when all is said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Leaving {
    /// The client, once it has all its replies.
    Client,
    /// The client ends its side at once when it has asked everything, and hears the replies.
    ClientEarly,
    /// The server, once it has answered everything.
    Server,
    /// The server, once it has answered so many requests.
    ServerAfter(usize),
    /// Nobody: the server does not even answer.
    Nobody,
}

/// Both peers.
#[derive(Debug)]
pub(super) struct World {
    pub(super) script: Script,
    pub(super) leaving: Leaving,
    pub(super) client: Peer,
    pub(super) server: Peer,
    /// What the streams did, if that is wanted.
    pub(super) trace: Option<Vec<String>>,
    began: Instant,
    random: Random,
    pub(super) faults: Faults,
    planted: Option<Planted>,
    calls: usize,
    /// Requests that were asked, and those that were answered.
    asked: usize,
    answered: usize,
}

/// One of them, with the pump's end of its stream.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// What it says, and when that can be read.
    saying: VecDeque<(Option<Instant>, Vec<u8>)>,
    says_no_more: bool,
    /// What the pump has read of it.
    pub(super) read: Vec<u8>,
    /// Whether the pump has read its end.
    pub(super) has_ended: bool,
    /// How much of it the pump had read when it read the other's end, if that came first.
    pub(super) read_before_end: Option<usize>,
    /// What it heard.
    pub(super) heard: Vec<u8>,
    /// Whether it heard the end of what it hears.
    pub(super) heard_end: bool,
    pub(super) was_aborted: bool,
    /// The stream's error, once it has one.
    pub(super) error: Option<io::ErrorKind>,
    /// When it closed its socket: it hears no more, and what it said before may still come.
    pub(super) deaf_since: Option<Instant>,
    /// Whether its stream is TLS's, which may hold bytes that it took; and those.
    holds: bool,
    held: Vec<u8>,
    reading: Waiting,
    writing: Waiting,
}

/// Who waits for a direction of a stream.
#[derive(Debug, Default)]
struct Waiting {
    waker: Option<Waker>,
    until: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn wait_until(&mut self, until: Instant) {
        self.until = Some(Box::pin(tokio::time::sleep_until(until)));
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(until) = &mut self.until {
            ready!(until.as_mut().poll(cx));
            self.until = None;
        }
        Poll::Ready(())
    }
}

impl Peer {
    /// One whose end was read has said it before everything else that it would say.
    fn forget_what_is_behind_the_end(&mut self) {
        if self.has_ended {
            self.saying.clear();
        }
    }
}

impl World {
    pub(super) fn new(
        mut random: Random,
        script: Script,
        faults: Faults,
        leaving: Leaving,
        planted: Option<Planted>,
    ) -> Self {
        let mut peer = || Peer { holds: random.once_in(3), ..Peer::default() };
        let (client, server) = (peer(), peer());
        let (trace, began, calls, asked, answered) = (None, Instant::now(), 0, 0, 0);
        let mut world =
            Self { script, leaving, client, server, trace, began, random, faults, planted, calls, asked, answered };
        world.ask();
        world
    }

    pub(super) fn peer(&self, side: Side) -> &Peer {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    /// What that side has said and the pump has not read.
    pub(super) fn unread(&self, side: Side) -> usize {
        self.peer(side).saying.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn peer_mut(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    fn note(&mut self, side: Side, what: std::fmt::Arguments<'_>) {
        let at = self.began.elapsed();
        self.trace.iter_mut().for_each(|trace| trace.push(format!("{at:?}: {side}: {what}")));
    }

    /// The client asks as much as it may, and ends when it has nothing to wait for.
    fn ask(&mut self) {
        let (replies, _) = whole_messages(&self.client.heard);
        loop {
            let asked = &self.script.requests[..self.asked];
            let expected: usize = asked.iter().map(|it| it.replies.len()).sum();
            let Some(next) = self.script.requests.get(self.asked) else {
                let is_done = expected <= replies && self.leaving == Leaving::Client;
                self.client.says_no_more |= is_done || self.leaving == Leaving::ClientEarly || self.client.heard_end;
                break;
            };
            if expected.saturating_sub(replies) >= self.script.depth {
                break;
            }
            self.client.saying.push_back((None, next.frame.clone()));
            self.asked += 1;
        }
        if self.client.heard_end {
            self.client.says_no_more = true;
        }
        self.client.forget_what_is_behind_the_end();
        self.client.reading.wake();
    }

    /// The server answers what it has heard whole, and ends when it has answered everything.
    fn answer(&mut self) {
        let (heard, _) = whole_messages(&self.server.heard);
        if self.leaving == Leaving::Nobody {
            return;
        }
        while self.answered < heard && !self.server.says_no_more {
            let request = &self.script.requests[self.answered];
            let after = [0, 0, 3, 200][self.random.below(4)];
            let at = Instant::now() + Duration::from_millis(after);
            self.server.saying.extend(request.replies.iter().map(|reply| (Some(at), reply.frame.clone())));
            self.answered += 1;
            self.server.says_no_more = match self.leaving {
                Leaving::Server => self.answered == self.script.requests.len(),
                Leaving::ServerAfter(requests) => self.answered == requests.min(self.script.requests.len()),
                Leaving::Client | Leaving::ClientEarly | Leaving::Nobody => false,
            };
        }
        self.server.says_no_more |= self.server.heard_end;
        self.server.forget_what_is_behind_the_end();
        self.server.reading.wake();
    }

    fn hear(&mut self, side: Side, bytes: &[u8]) {
        self.peer_mut(side).heard.extend_from_slice(bytes);
        match side {
            Side::Client => self.ask(),
            Side::Server => self.answer(),
        }
    }

    /// Counts a call, and says whether it has to wait by chance.
    fn begin(&mut self, side: Side, is_read: bool, cx: &mut Context<'_>) -> Poll<()> {
        self.calls += 1;
        assert!(self.calls < CALLS_MAX, "the pump turns in circles");
        let waits = self.random.once_in(self.faults.waits);
        let millis = [1, 20, 1000][self.random.below(3)];
        let peer = self.peer_mut(side);
        let waiting = if is_read { &mut peer.reading } else { &mut peer.writing };
        if waits && waiting.until.is_none() {
            waiting.wait_until(Instant::now() + Duration::from_millis(millis));
        }
        waiting.waker = Some(cx.waker().clone());
        waiting.poll(cx)
    }

    /// The stream's error, old or, by chance, new.
    fn fail(&mut self, side: Side, is_read: bool) -> io::Result<()> {
        if self.random.once_in(self.faults.errors) {
            let is_deaf = !is_read && self.random.once_in(2);
            let peer = self.peer_mut(side);
            if is_deaf {
                peer.deaf_since.get_or_insert_with(Instant::now);
                peer.says_no_more = true;
            } else {
                peer.error.get_or_insert(io::ErrorKind::ConnectionReset);
            }
            peer.reading.wake();
            self.note(side, format_args!("fails, deaf: {is_deaf}"));
        }
        let peer = self.peer(side);
        match peer.error {
            Some(error) => Err(error.into()),
            None if !is_read && peer.deaf_since.is_some() => Err(io::ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        }
    }

    /// All of it, or by chance a part, which is often less than a header.
    fn part(&mut self, whole: usize) -> usize {
        if whole < 2 || !self.random.once_in(self.faults.parts) {
            return whole;
        }
        let most = self.random.pick(&[HEADER_LEN, whole]).min(whole - 1);
        1 + self.random.below(most)
    }

    fn poll_read(&mut self, side: Side, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.begin(side, true, cx));
        self.fail(side, true)?;
        let now = Instant::now();
        if self.random.once_in(self.faults.ends) {
            let peer = self.peer_mut(side);
            peer.says_no_more = true;
            peer.saying.clear();
            self.note(side, format_args!("says no more"));
        }
        let peer = self.peer_mut(side);
        let (at, ready) = match peer.saying.front() {
            Some((at, bytes)) => (at.unwrap_or(now), bytes.len()),
            None if peer.says_no_more => {
                peer.has_ended = true;
                let other = self.peer_mut(side.peer());
                other.read_before_end = (!other.has_ended).then_some(other.read.len());
                self.note(side, format_args!("end is read"));
                return Poll::Ready(Ok(()));
            }
            None => return Poll::Pending,
        };
        if at > now {
            peer.reading.wait_until(at);
            return peer.reading.poll(cx).map(|()| unreachable!("it is later"));
        }
        // What is there is read together.
        let peer = self.peer_mut(side);
        while peer.saying.len() > 1 && peer.saying[1].0.unwrap_or(now) <= now {
            let (_, more) = peer.saying.remove(1).unwrap();
            peer.saying[0].1.extend(more);
        }
        let ready = peer.saying[0].1.len().max(ready);
        let len = self.part(ready.min(buffer.remaining()));
        let peer = self.peer_mut(side);
        let Some((_, bytes)) = peer.saying.front_mut() else { unreachable!("there is something") };
        let rest = bytes.split_off(len);
        buffer.put_slice(bytes);
        peer.read.extend_from_slice(bytes);
        *bytes = rest;
        if bytes.is_empty() {
            peer.saying.pop_front();
        }
        self.note(side, format_args!("{len} bytes are read"));
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, side: Side, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.begin(side, false, cx));
        self.fail(side, false)?;
        let len = self.part(bytes.len());
        let taken = &bytes[..len];
        self.note(side, format_args!("{len} of {} bytes are written", bytes.len()));
        if self.peer(side).holds {
            self.peer_mut(side).held.extend_from_slice(taken);
            // Some of it may go out at once.
            let goes = match self.peer(side).held.len() {
                all @ HELD_MAX.. => all,
                all => self.random.below(all + 1),
            };
            self.release(side, goes);
        } else if self.planted == Some(Planted::DropsAByte) && self.random.once_in(5) {
            self.hear(side, &taken[1..]);
        } else if self.planted == Some(Planted::SwapsWrites) && len > 1 && self.random.once_in(5) {
            let swapped = [&taken[len / 2..], &taken[..len / 2]].concat();
            self.hear(side, &swapped);
        } else {
            self.hear(side, taken);
        }
        Poll::Ready(Ok(len))
    }

    /// So much of what TLS holds goes out.
    fn release(&mut self, side: Side, bytes: usize) {
        let peer = self.peer_mut(side);
        let goes: Vec<u8> = peer.held.drain(..bytes).collect();
        self.hear(side, &goes);
    }

    fn poll_flush(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.begin(side, false, cx));
        self.fail(side, false)?;
        let all = self.peer(side).held.len();
        self.note(side, format_args!("{all} bytes are flushed"));
        self.release(side, all);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.begin(side, false, cx));
        self.fail(side, false)?;
        let all = self.peer(side).held.len();
        self.release(side, all);
        self.note(side, format_args!("is told the end"));
        if self.planted != Some(Planted::ForgetsTheEnd) {
            self.peer_mut(side).heard_end = true;
        }
        self.hear(side, &[]);
        Poll::Ready(Ok(()))
    }
}

/// The pump's end of a peer's stream.
#[derive(Debug)]
pub(super) struct Simulated {
    pub(super) side: Side,
    pub(super) world: Rc<RefCell<World>>,
}

impl Socket for Simulated {
    fn holds_bytes(&self) -> bool {
        let world = self.world.borrow();
        !world.peer(self.side).held.is_empty() && world.planted != Some(Planted::ForgetsToFlush)
    }

    fn abort_on_close(&self) {
        let mut world = self.world.borrow_mut();
        if world.planted != Some(Planted::EndsInGoodOrder) {
            world.peer_mut(self.side).was_aborted = true;
        }
    }
}

impl AsyncRead for Simulated {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.world.borrow_mut().poll_read(self.side, cx, buffer)
    }
}

impl AsyncWrite for Simulated {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.world.borrow_mut().poll_write(self.side, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.world.borrow_mut().poll_flush(self.side, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.world.borrow_mut().poll_shutdown(self.side, cx)
    }
}
