//! Accepts clients on all listeners and hands each to the worker with the fewest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::mpsc;

use super::admission::Admission;
use super::clock;
use super::listener::Listener;
use super::members::{Joined, Member};
use super::say::{say, with_hint};
use super::stream::{Accepted, descriptors_hint};
use super::worker::{Arrival, Stop};
use crate::event::{Connection, ConnectionId};

/// After an accept that failed for want of something, the next try waits this long.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Accepts that fail within this of each other fail for the same reason, which is said once.
const SAME_TROUBLE: Duration = Duration::from_secs(10);

/// Who accepts, on one thread.
pub(super) struct Acceptor {
    /// Where clients go, and how many each serves.
    workers: Vec<(mpsc::UnboundedSender<Arrival>, Arc<AtomicUsize>)>,
    admission: Admission,
    listeners: Vec<(Listener, Arc<Member>)>,
    /// Further listeners.
    joined: mpsc::UnboundedReceiver<Joined>,
    /// The listener that is asked first, so that each has its turn.
    turn: usize,
    /// Clients are taken by TLS.
    is_encrypted: bool,
    accepted: u64,
    stop: Stop,
}

/// What comes of asking all listeners: the client, or why there is none, and whose it is.
type Asked = (Arc<Member>, io::Result<(Accepted, String)>);

impl Acceptor {
    pub(super) fn new(
        workers: Vec<(mpsc::UnboundedSender<Arrival>, Arc<AtomicUsize>)>,
        admission: Admission,
        joined: mpsc::UnboundedReceiver<Joined>,
        is_encrypted: bool,
        stop: Stop,
    ) -> Self {
        Self { workers, admission, listeners: Vec::new(), joined, turn: 0, is_encrypted, accepted: 0, stop }
    }

    /// Accepts until the proxy ends.
    pub(super) async fn run(&mut self) {
        let draining = self.stop.draining.clone();
        tokio::select! {
            () = draining.cancelled() => {}
            () = self.accept_all() => {}
        }
    }

    async fn accept_all(&mut self) {
        let mut failed_at = None;
        loop {
            match std::future::poll_fn(|cx| self.poll_accept(cx)).await {
                (member, Ok((socket, client))) => {
                    self.accepted += 1;
                    let at = clock::now();
                    // Who is refused is closed here and now.
                    let admitted = self.admission.admit(socket.ip()).map(|place| (socket, place));
                    if let Err(refused) = &admitted
                        && let Some(word) = self.admission.word(&client, *refused, at)
                    {
                        say(word);
                    }
                    let connection = Arc::new(Connection {
                        id: ConnectionId(self.accepted),
                        client,
                        upstream: member.dial().to_string(),
                        server: member.server.clone(),
                        tls: self.is_encrypted,
                    });
                    self.hand_out(Arrival { admitted, connection, member, at });
                }
                (_, Err(error)) => {
                    let now = clock::now();
                    if failed_at.replace(now).is_none_or(|before| now.since(before) > SAME_TROUBLE) {
                        let trouble = format_args!("cannot accept a connection: {error}; trying again");
                        say(with_hint(trouble, descriptors_hint(&error)));
                    }
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    /// The next client of any listener.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Asked> {
        while let Poll::Ready(Some(Joined { bound, member })) = self.joined.poll_recv(cx) {
            match bound.adopt() {
                Ok(listener) => self.listeners.push((listener, member)),
                Err(error) => say(format_args!("{}: cannot accept connections: {error}", member.endpoint)),
            }
        }
        let count = self.listeners.len();
        for position in (self.turn..count).chain(0..self.turn.min(count)) {
            let (listener, member) = &self.listeners[position];
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                self.turn = position + 1;
                return Poll::Ready((Arc::clone(member), accepted));
            }
        }
        Poll::Pending
    }

    fn hand_out(&self, arrival: Arrival) {
        let idlest = self.workers.iter().min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        if let Some((arrivals, load)) = idlest {
            load.fetch_add(1, Ordering::AcqRel);
            // A worker ends only after the acceptor.
            if arrivals.send(arrival).is_err() {
                load.fetch_sub(1, Ordering::AcqRel);
            }
        }
    }
}
