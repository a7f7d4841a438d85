//! One connection: bytes go on as they came, at once, and are looked at only then.
//!
//! One future serves both directions. What is read into the thread's scratch buffer is written on before anything else
//! is done with it; what the other side would not take is kept, and no more is read until it is gone. So the connection
//! holds memory only while a side is slower than the other, and never more than one read of each. While its pipeline is
//! [away](Watch), with a message that takes long to understand, one more read of each goes on and is kept for it.

#[cfg(test)]
mod simulation;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::beside::{Piece, Watch};
use super::clock;
use super::local;
use super::rewriter::Rewriting;
use super::stream::{Socket, Stream};
use super::tls::Trouble;
use super::worker::Stop;
use crate::event::Side;
use crate::pipeline::Pipeline;

/// Reads of one direction in one turn, beyond which a connection lets its neighbours go first.
const READS_A_TURN: usize = 8;

/// A connection that is still nobody's when it should be idle is looked at again this often.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Both directions of a connection, and the pipeline that is told of them. Ends when both directions have, or one of
/// them with an error, or the proxy.
pub(super) struct Pump<S = Stream> {
    client: S,
    server: S,
    requests: Direction,
    replies: Direction,
    watch: Watch,
    /// How it is over, if that was so while the pipeline was away.
    over: Option<Result<(), Failed>>,
    /// The server has ended while the pipeline was away.
    closes_when_here: bool,
    /// Where replies to `hello` are not to go on as they are.
    rewriting: Option<Box<Rewriting>>,
    /// Who ended first, once somebody has.
    ended_by: Option<Side>,
    is_closed: bool,
    /// Who takes no more, since its socket failed.
    refused: Option<Failed>,
    /// Wakes the connection, should it still be unknown whose it is.
    undecided: Option<Pin<Box<Sleep>>>,
    /// Wakes it while nothing is read from the client, to see whether it is still there.
    unheard: Option<Pin<Box<Sleep>>>,
    stop: Stopping,
}

/// The proxy's end, as a connection hears of it.
///
/// To ask a token takes a lock that all connections share, too much for every wake. So each is asked once, which has the
/// connection woken when the time comes, and from then on a flag of its own is looked at.
struct Stopping {
    stop: Stop,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
    aborting: Pin<Box<WaitForCancellationFutureOwned>>,
    is_registered: bool,
}

/// One direction: what it owes its writer, and whether its reader has ended.
#[derive(Default)]
struct Direction {
    /// Read, but not yet taken by the writer. Without memory of its own unless the writer is the slower.
    kept: Vec<u8>,
    taken: usize,
    state: State,
}

#[derive(Clone, Copy, Default)]
enum State {
    #[default]
    Open,
    /// The reader has ended; the writer is to hear of it once `kept` is out.
    Ending,
    Ended,
}

/// An error, and the side whose socket had it.
pub(super) struct Failed {
    pub(super) side: Side,
    pub(super) error: io::Error,
}

impl Failed {
    /// What was wrong with TLS, if that is the error.
    fn trouble(&self) -> Option<&Trouble> {
        self.error.get_ref()?.downcast_ref()
    }
}

impl<S: Socket> Pump<S> {
    pub(super) fn new(
        client: S,
        server: S,
        pipeline: Pipeline,
        rewriting: Option<Box<Rewriting>>,
        idle_after: Duration,
        stop: &Stop,
    ) -> Self {
        Self {
            client,
            server,
            requests: Direction::default(),
            replies: Direction::default(),
            watch: Watch::Here(Box::new(pipeline)),
            over: None,
            closes_when_here: false,
            rewriting,
            ended_by: None,
            is_closed: false,
            refused: None,
            undecided: Some(Box::pin(tokio::time::sleep(idle_after))),
            unheard: None,
            stop: Stopping {
                draining: Box::pin(stop.draining.clone().cancelled_owned()),
                aborting: Box::pin(stop.aborting.clone().cancelled_owned()),
                is_registered: false,
                stop: stop.clone(),
            },
        }
    }

    /// Whether the server has said anything, as far as is known.
    pub(super) fn is_heard(&self) -> bool {
        !self.watch.is_away() && self.watch.here().is_heard()
    }

    fn poll_both(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        // Both are polled at every wake: the idle one asks tokio's readiness, not the kernel.
        let requests = self.turn_unless_refused(Side::Client, cx).map_err(|failed| self.cause(failed))?;
        let replies = self.turn_unless_refused(Side::Server, cx).map_err(|failed| self.cause(failed))?;
        let is_over = match &self.refused {
            None => requests.is_ready() && replies.is_ready(),
            Some(Failed { side: Side::Client, .. }) => requests.is_ready(),
            Some(Failed { side: Side::Server, .. }) => replies.is_ready(),
        };
        if is_over { Poll::Ready(self.refused.take().map_or(Ok(()), Err)) } else { Poll::Pending }
    }

    /// Of two errors the first, unless the other tells more.
    fn cause(&mut self, failed: Failed) -> Failed {
        if failed.trouble().is_some() { failed } else { self.refused.take().unwrap_or(failed) }
    }

    /// One direction's turn. When its writer takes no more it is over, but not the other: what that side said before it
    /// closed may still be on the way to us, and is read to its end.
    fn turn_unless_refused(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.refuses(side.peer()) {
            return Poll::Ready(Ok(()));
        }
        match self.turn(side, cx) {
            Poll::Ready(Err(failed)) if failed.side == side.peer() && self.refused.is_none() => {
                self.refused = Some(failed);
                // The time that it has for what is left begins now.
                self.unheard = None;
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    fn refuses(&self, side: Side) -> bool {
        self.refused.as_ref().is_some_and(|it| it.side == side)
    }

    /// One direction's turn: reads from `side` and writes to its peer until that would have to wait.
    fn turn(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let at_peer = |error| Failed { side: side.peer(), error };
        for _ in 0..READS_A_TURN {
            let (direction, to) = self.direction(side);
            let state = direction.state;
            if direction.owes(to) {
                ready!(direction.poll_kept(cx, to)).map_err(at_peer)?;
                self.note_sent();
            }
            match state {
                // Whoever brings the pipeline back wakes the connection.
                State::Open if self.must_wait(side) => return Poll::Pending,
                State::Open => ready!(self.read(side, cx))?,
                State::Ending => {
                    let (direction, to) = self.direction(side);
                    match ready!(Pin::new(to).poll_shutdown(cx)) {
                        // It has gone already: there is nobody to tell.
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => {}
                        result => result.map_err(at_peer)?,
                    }
                    direction.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
        // There may be more: come back after the neighbours.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether reading has to wait for the pipeline. What is to be rewritten hangs on what came before it.
    fn must_wait(&self, side: Side) -> bool {
        self.watch.is_full(side) || (side == Side::Server && self.rewriting.is_some() && self.watch.is_away())
    }

    /// The direction that reads from `side`, and what it writes to.
    fn direction(&mut self, side: Side) -> (&mut Direction, &mut S) {
        match side {
            Side::Client => (&mut self.requests, &mut self.server),
            Side::Server => (&mut self.replies, &mut self.client),
        }
    }

    /// Reads once, writes on what came, and then tells the pipeline.
    fn read(&mut self, side: Side, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if side == Side::Server && self.rewriting.is_some() {
            return self.read_rewritten(cx);
        }
        let (direction, from, to) = match side {
            Side::Client => (&mut self.requests, &mut self.client, &mut self.server),
            Side::Server => (&mut self.replies, &mut self.server, &mut self.client),
        };
        let (watch, is_closed) = (&mut self.watch, self.closes_when_here);
        let is_end = ready!(local::with(|scratch, sink| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|error| Failed { side, error })?;
            let at = clock::now();
            let bytes = buffer.filled();
            if bytes.is_empty() {
                direction.state = State::Ending;
                return Poll::Ready(Ok(true));
            }
            let written = direction.write(cx, to, bytes);
            // Bytes that could not be written were sent all the same: they are seen before the end they meet.
            let is_sent = side == Side::Client && written.is_ok() && !direction.owes(to);
            // What is asked of a server that has ended is nobody's any more.
            if !is_closed {
                watch.tell(Piece { side, bytes, at, sent_at: is_sent.then(clock::now) }, sink);
            }
            written.map_err(|error| Failed { side: side.peer(), error })?;
            Poll::Ready(Ok(false))
        }))?;
        if is_end {
            self.note_end(side);
        }
        Poll::Ready(Ok(()))
    }

    /// The same for replies that are not all to go on as they are: those to `hello` when they are whole, with other names.
    fn read_rewritten(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        let (direction, from, to) = (&mut self.replies, &mut self.server, &mut self.client);
        let (watch, rewriting) = (&mut self.watch, &mut self.rewriting);
        let Some(rewriting) = rewriting else { unreachable!("asked before") };
        let [at_client, at_server] = [Side::Client, Side::Server].map(|side| move |error| Failed { side, error });
        let is_end = ready!(local::with(|scratch, sink| {
            let mut buffer = ReadBuf::new(scratch);
            let rest = rewriting.take_rest();
            let (bytes, at) = match &rest {
                Some((rest, at)) => (&rest[..], *at),
                None => {
                    ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(at_server)?;
                    (buffer.filled(), clock::now())
                }
            };
            // What the client does not take any more is seen all the same.
            let mut written = Ok(());
            let mut go_on = |bytes: &[u8], watch: &mut Watch| {
                if written.is_ok() {
                    written = direction.write(cx, to, bytes);
                }
                watch.tell(Piece { side: Side::Server, bytes, at, sent_at: None }, sink);
            };
            if bytes.is_empty() {
                let (kept, goes_on) = rewriting.finish();
                // The log sees that a reply was torn; the client, which could do nothing with half of one, does not.
                if goes_on && !kept.is_empty() {
                    go_on(&kept, watch);
                } else {
                    watch.tell(Piece { side: Side::Server, bytes: &kept, at, sent_at: None }, sink);
                }
                written.map_err(at_client)?;
                direction.state = State::Ending;
                return Poll::Ready(Ok(true));
            }
            rewriting.pass(bytes, at, watch, &mut go_on)?;
            written.map_err(at_client)?;
            Poll::Ready(Ok(false))
        }))?;
        if is_end {
            self.note_end(Side::Server);
        }
        Poll::Ready(Ok(()))
    }

    /// Unacknowledged writes are done once their bytes are out, those that had to wait for a slow server too. What a server
    /// refused is not.
    fn note_sent(&mut self) {
        if self.watch.is_away() || self.refuses(Side::Server) || !self.watch.here().awaits_sent() {
            return;
        }
        if !self.requests.owes(&self.server) {
            let pipeline = self.watch.here_mut();
            local::with(|_, sink| pipeline.handle_sent(clock::now(), sink));
        }
    }

    fn note_end(&mut self, side: Side) {
        self.ended_by.get_or_insert(side);
        // Nothing more is answered. A client that ends may still be owed its replies.
        match side {
            Side::Server if self.watch.is_away() => self.closes_when_here = true,
            Side::Server => self.close(None),
            Side::Client => {}
        }
    }

    fn close(&mut self, error: Option<&str>) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        let (pipeline, by) = (self.watch.here_mut(), self.ended_by);
        local::with(|_, sink| pipeline.handle_close(by, error, clock::now(), sink));
    }

    fn fail(&mut self, failed: &Failed) {
        let Failed { side, error } = failed;
        if let Some(message) = self.rewriting.as_mut().and_then(|rewriting| rewriting.withheld.take()) {
            let pipeline = self.watch.here_mut();
            local::with(|_, sink| pipeline.handle_withheld(Side::Server, &message, clock::now(), sink));
            self.close(Some(&message));
            self.client.abort_on_close();
            return self.server.abort_on_close();
        }
        // A client that has ended in good order, and is owed nothing, does not mind how the server ends.
        if self.ended_by == Some(Side::Client) && *side == Side::Server && !self.watch.here().is_busy() {
            return self.close(None);
        }
        self.ended_by.get_or_insert(*side);
        match failed.trouble() {
            // A server may say that it wants other TLS only when the handshake is done for us.
            Some(Trouble { message, .. }) => {
                let pipeline = self.watch.here_mut();
                local::with(|_, sink| pipeline.handle_withheld(*side, message, clock::now(), sink));
                self.close(Some(message));
            }
            None => self.close(Some(&format!("{side} connection failed: {}", kind_of(error)))),
        }
        // What one side did not get to the end, the other must not take for whole.
        self.client.abort_on_close();
        self.server.abort_on_close();
    }

    /// Without its pipeline, the end of a connection waits.
    fn wait_for_pipeline(&mut self, polled: Poll<Result<(), Failed>>, cx: &mut Context<'_>) -> Poll<bool> {
        if let Poll::Ready(over) = polled {
            self.over = Some(over);
        }
        if self.poll_pipeline(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn poll_pipeline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.watch.poll_here(cx));
        // It was not told of what went on meanwhile. What failed did not.
        if !matches!(self.over, Some(Err(_))) {
            self.note_sent();
        }
        // What the client does not take any more is seen all the same.
        if (self.over.is_some() || self.refuses(Side::Client))
            && let Some((rest, at)) = self.rewriting.as_mut().and_then(|rewriting| rewriting.take_rest())
        {
            let piece = Piece { side: Side::Server, bytes: &rest, at, sent_at: None };
            local::with(|_, sink| self.watch.tell(piece, sink));
            return self.poll_pipeline(cx);
        }
        if std::mem::take(&mut self.closes_when_here) {
            self.close(None);
        }
        Poll::Ready(())
    }

    /// Whether the proxy's end is this connection's: at once when it is idle, else when it has nothing in flight.
    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let stop = &mut self.stop;
        if !stop.is_registered {
            stop.is_registered = true;
            // Only for their wakers: what they say is asked of the flags, which are set before anybody is woken.
            let _: (Poll<()>, Poll<()>) = (stop.draining.as_mut().poll(cx), stop.aborting.as_mut().poll(cx));
        }
        if stop.stop.is_aborting() {
            return Poll::Ready(());
        }
        let owes =
            || self.requests.owes(&self.server) || self.replies.owes(&self.client) || self.watch.here().is_busy();
        if stop.stop.is_draining() && !owes() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// A client that is not read from, because it has ended or the server takes no more, may go unseen: its server
    /// might stand still for ever. So it is looked at now and then. One that hears nothing may have things left to say,
    /// but not for ever.
    fn poll_unheard(&mut self, cx: &mut Context<'_>) -> Poll<Failed> {
        let is_deaf = self.refuses(Side::Client);
        let is_unheard = is_deaf || !matches!(self.requests.state, State::Open) || self.requests.owes(&self.server);
        if self.unheard.is_none() && !is_unheard {
            return Poll::Pending;
        }
        let sleep = self.unheard.get_or_insert_with(|| Box::pin(tokio::time::sleep(LOOK_AGAIN_AFTER)));
        while sleep.as_mut().poll(cx).is_ready() {
            if !is_unheard {
                self.unheard = None;
                return Poll::Pending;
            }
            if is_deaf && let Some(failed) = self.refused.take() {
                return Poll::Ready(failed);
            }
            if let Some(error) = self.client.failure() {
                return Poll::Ready(Failed { side: Side::Client, error });
            }
            sleep.as_mut().reset(tokio::time::Instant::now() + LOOK_AGAIN_AFTER);
        }
        Poll::Pending
    }

    fn poll_undecided(&mut self, cx: &mut Context<'_>) {
        if !self.watch.here().is_undecided() {
            self.undecided = None;
        } else if let Some(sleep) = &mut self.undecided
            && sleep.as_mut().poll(cx).is_ready()
        {
            let pipeline = self.watch.here_mut();
            local::with(|_, sink| pipeline.handle_tick(clock::now(), sink));
            // The handshake may have been later than the connection, or is still to come.
            sleep.as_mut().reset(tokio::time::Instant::now() + LOOK_AGAIN_AFTER);
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: Socket> Future for Pump<S> {
    /// Whether the server hung up without having said anything to what it was told.
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let this = &mut *self;
        if this.watch.is_away() || this.refuses(Side::Client) {
            // Asked again below, for its waker.
            let _: Poll<()> = this.poll_pipeline(cx);
        }
        let polled = match this.over.take() {
            Some(over) => Poll::Ready(over),
            None => this.poll_both(cx),
        };
        if this.watch.is_away() {
            return this.wait_for_pipeline(polled, cx);
        }
        let over = match polled {
            Poll::Ready(over) => over,
            Poll::Pending => {
                if this.undecided.is_some() {
                    this.poll_undecided(cx);
                }
                match this.poll_unheard(cx) {
                    Poll::Ready(failed) => Err(failed),
                    Poll::Pending => {
                        ready!(this.poll_stop(cx));
                        Ok(())
                    }
                }
            }
        };
        // What was read and waits is seen before the end, which may take the pipeline away once more.
        this.over = Some(over);
        ready!(this.poll_pipeline(cx));
        match this.over.take() {
            Some(Err(failed)) => this.fail(&failed),
            _ => this.close(None),
        }
        Poll::Ready(this.ended_by == Some(Side::Server) && this.watch.here().is_unanswered())
    }
}

impl Direction {
    /// Writes what the socket takes at once and keeps the rest: all of it, behind what is kept already.
    fn write(&mut self, cx: &mut Context<'_>, to: &mut impl Socket, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        if self.kept.is_empty()
            && let Poll::Ready(taken) = Pin::new(to).poll_write(cx, bytes)?
        {
            written = taken;
        }
        self.kept.extend_from_slice(bytes.get(written..).unwrap_or_default());
        Ok(())
    }

    /// Whether bytes that were read are not on their way yet: kept here, or under TLS in its own buffer.
    fn owes(&self, to: &impl Socket) -> bool {
        !self.kept.is_empty() || to.holds_bytes()
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>, to: &mut impl Socket) -> Poll<io::Result<()>> {
        while let Some(rest @ [_, ..]) = self.kept.get(self.taken..) {
            self.taken += ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
        }
        ready!(Pin::new(to).poll_flush(cx))?;
        // An idle connection holds no memory.
        self.kept = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}

/// A short and stable text for an error of a socket: what the system says, without its number.
fn kind_of(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::BrokenPipe => "broken pipe".to_owned(),
        _ => error.to_string(),
    }
}
