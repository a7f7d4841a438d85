//! A listening server whose connections are [`Responder`]s: what answers, and when, is theirs to say.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bytes::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::clock;
use super::codec::Frames;
use super::listener::{Bound, Listener};
use super::replay::{Asking, Upstream};
use super::stream::Accepted;
use super::tls::Acceptor;
use crate::config::Endpoint;
use crate::event::Timestamp;
use crate::replay::{Forward, Replies, Request, Responder};
use crate::wire::MESSAGE_LEN_MAX;

/// Connections served at a time; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1000;

/// How long a stop waits for answers that are on their way.
const DRAIN: Duration = Duration::from_secs(1);

/// After an accept that failed for want of something, the next try waits this long.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// A socket that listens and is not served yet: who answers may have to know where.
#[derive(Debug)]
pub struct Listening {
    bound: Bound,
    endpoint: Endpoint,
    acceptor: Option<Acceptor>,
    upstream: Option<Upstream>,
    changes: Option<watch::Receiver<()>>,
}

/// A running server. It ends with [`shutdown`](Self::shutdown), or when it is dropped.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Listening {
    /// Listens; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address is not to be had.
    pub fn bind(listen: &Endpoint) -> io::Result<Self> {
        let bound = Bound::bind(listen)?;
        let endpoint = bound.endpoint()?;
        Ok(Self { bound, endpoint, acceptor: None, upstream: None, changes: None })
    }

    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes clients by TLS, if that is given.
    #[must_use]
    pub(crate) fn tls(self, acceptor: Option<Acceptor>) -> Self {
        Self { acceptor, ..self }
    }

    /// Whom responders have asked what they do not answer.
    #[must_use]
    pub(super) fn upstream(self, upstream: Option<Upstream>) -> Self {
        Self { upstream, ..self }
    }

    /// What tells that something has changed of what all connections answer from.
    #[must_use]
    pub(super) fn changes(self, changes: watch::Receiver<()>) -> Self {
        Self { changes: Some(changes), ..self }
    }

    /// Serves each connection with a responder of its own, which `responder` makes: given the connection's number, from
    /// 1. Runs on the runtime of the caller.
    ///
    /// # Errors
    /// If the runtime cannot take the socket.
    pub fn serve<R: Responder + Send + 'static>(
        self,
        responder: impl FnMut(i32) -> R + Send + 'static,
    ) -> io::Result<Server> {
        let listener = self.bound.adopt()?;
        let stop = CancellationToken::new();
        let with = With { acceptor: self.acceptor, upstream: self.upstream, changes: self.changes };
        let task = tokio::spawn(accept(listener, with, responder, stop.clone()));
        Ok(Server { endpoint: self.endpoint, stop, task: Some(task) })
    }
}

impl Server {
    /// Where it listens.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Ends the server: accepts no more, and closes each connection after what it is sending.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // A task that panicked has ended as well.
            let _ = task.await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the connections of a server have beside their responders.
struct With {
    acceptor: Option<Acceptor>,
    upstream: Option<Upstream>,
    changes: Option<watch::Receiver<()>>,
}

async fn accept<R: Responder + Send + 'static>(
    listener: Listener,
    with: With,
    mut responder: impl FnMut(i32) -> R,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut number = 0;
    while let Some(arrival) = stop.run_until_cancelled(arrival(&listener, &places)).await {
        match arrival {
            Ok((socket, place)) => {
                number += 1;
                let (responder, stop) = (responder(number), stop.clone());
                let (acceptor, changes) = (with.acceptor.clone(), with.changes.clone());
                let asking = with.upstream.as_ref().map(Upstream::asking);
                connections.spawn(async move {
                    // Why a connection ended is its client's business.
                    let _ = serve(socket, (acceptor, asking, changes), responder, &stop).await;
                    drop(place);
                });
            }
            // A client that went at once, or no file descriptors left for now.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
        }
        while connections.try_join_next().is_some() {}
    }
    // Those that do not take their answers are aborted with the set.
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(DRAIN, all).await;
}

async fn arrival(
    listener: &Listener,
    places: &Arc<Semaphore>,
) -> io::Result<(Accepted, Option<tokio::sync::OwnedSemaphorePermit>)> {
    let place = Arc::clone(places).acquire_owned().await.ok();
    let (socket, _) = listener.accept().await?;
    Ok((socket, place))
}

/// One connection, to its end.
async fn serve(
    socket: Accepted,
    (acceptor, mut asking, mut changes): (Option<Acceptor>, Option<Asking>, Option<watch::Receiver<()>>),
    mut responder: impl Responder,
    stop: &CancellationToken,
) -> io::Result<()> {
    let mut stream = socket.adopt()?;
    if let Some(acceptor) = acceptor {
        stream = acceptor.accept(stream).await.map_err(io::Error::other)?;
    }
    let mut frames = Frames::new(stream, MESSAGE_LEN_MAX);
    let mut replies = Replies::default();
    // A request that came while the one before it is still being answered.
    let mut next: Option<Bytes> = None;
    let mut due: Option<Timestamp> = None;
    let mut on_change = false;
    loop {
        while let Some(frame) = replies.next_frame() {
            frames.send(&frame).await?;
        }
        if replies.is_closed() {
            return Ok(());
        }
        if due.is_none()
            && let Some(frame) = next.take()
        {
            seen(changes.as_mut());
            handle(&frame, &mut responder, &mut replies)?;
            if let (Some(followed), Some(asking)) = (replies.take_followed(), &asking) {
                asking.follow(followed);
            }
            if let Some(forward) = replies.take_forward() {
                let Some(answer) = stop.run_until_cancelled(ask(asking.as_mut(), &forward)).await else {
                    return Ok(());
                };
                responder.forwarded(forward, answer, &mut replies);
            }
            (due, on_change) = (replies.take_tick(), replies.take_tick_on_change());
            continue;
        }
        let read = async { if next.is_none() { frames.next().await } else { std::future::pending().await } };
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = due_or_changed(due, changes.as_mut().filter(|_| on_change)) => {
                seen(changes.as_mut());
                responder.tick(clock::now(), &mut replies);
                (due, on_change) = (replies.take_tick(), replies.take_tick_on_change());
            }
            frame = pin!(read) => match frame? {
                Some(frame) => next = Some(frame),
                None => return Ok(()),
            },
        }
    }
}

fn handle(frame: &[u8], responder: &mut impl Responder, replies: &mut Replies) -> io::Result<()> {
    // As a server does with what it cannot read, the connection ends.
    let request =
        Request::decode(frame, MESSAGE_LEN_MAX).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    responder.handle(request, clock::now(), replies);
    Ok(())
}

async fn ask(asking: Option<&mut Asking>, forward: &Forward) -> Result<RawDocumentBuf, String> {
    match asking {
        Some(asking) => asking.ask(forward).await,
        None => Err("there is none".to_owned()),
    }
}

/// What has changed before is known to who is asked now: only what changes from here on is news.
fn seen(changes: Option<&mut watch::Receiver<()>>) {
    changes.into_iter().for_each(watch::Receiver::mark_unchanged);
}

/// Waits for a moment, or for a change before it.
async fn due_or_changed(due: Option<Timestamp>, changes: Option<&mut watch::Receiver<()>>) {
    let Some(changes) = changes else { return until(due).await };
    tokio::select! {
        () = until(due) => {}
        // Who tells of them is there as long as the server is.
        Ok(()) = changes.changed() => {}
    }
}

/// Waits for a moment, or for ever.
fn until(due: Option<Timestamp>) -> impl Future<Output = ()> {
    let wait = due.map(|due| due.since(clock::now()));
    async move {
        match wait {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;

    use super::*;
    use crate::net::client::{Client, ClientError, Options};
    use crate::wire::Compressor;

    /// Does what a command's name says.
    struct Scripted {
        number: i32,
        waiting: Option<Request>,
    }

    impl Responder for Scripted {
        fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
            match request.name() {
                "hello" => replies.reply(&request, &rawdoc! { "ok": 1, "compression": ["snappy"] }),
                "number" => {
                    let compressed = request.compressor == Some(Compressor::Snappy);
                    replies.reply(&request, &rawdoc! { "ok": 1, "number": self.number, "compressed": compressed });
                }
                "later" => {
                    replies.tick_at(Timestamp { monotonic_nanos: at.monotonic_nanos + 50_000_000, ..at });
                    self.waiting = Some(request);
                }
                "garbage" => replies.bytes(Bytes::from_static(&[0xff; 20])),
                _ => replies.close(),
            }
        }

        fn tick(&mut self, _: Timestamp, replies: &mut Replies) {
            let request = self.waiting.take().unwrap();
            replies.reply(&request, &rawdoc! { "ok": 1, "late": true });
        }
    }

    async fn server() -> Server {
        let listening = Listening::bind(&"127.0.0.1:0".parse().unwrap()).unwrap();
        listening.serve(|number| Scripted { number, waiting: None }).unwrap()
    }

    async fn client(server: &Server) -> Client {
        let options = Options { compressors: vec![Compressor::Zstd, Compressor::Snappy], ..Options::default() };
        Client::connect(server.endpoint(), &options).await.unwrap()
    }

    async fn ask(client: &mut Client, name: &str) -> Result<RawDocumentBuf, ClientError> {
        let mut command = RawDocumentBuf::new();
        command.append(bson::raw::CString::try_from(name.to_owned()).unwrap(), 1);
        client.command("admin", command).await
    }

    #[tokio::test]
    async fn connections_are_numbered_and_compressed() {
        let server = server().await;
        for number in 1..=2 {
            let reply = ask(&mut client(&server).await, "number").await.unwrap();
            assert_eq!(reply, rawdoc! { "ok": 1, "number": number, "compressed": true });
        }
        server.shutdown().await;
    }

    #[tokio::test]
    async fn answers_may_be_late_wrong_or_none() {
        let server = server().await;
        let mut connection = client(&server).await;
        let before = clock::now();
        assert!(ask(&mut connection, "later").await.unwrap().get_bool("late").unwrap());
        assert!(clock::now().since(before) >= Duration::from_millis(50));
        assert!(matches!(ask(&mut connection, "close").await, Err(ClientError::Closed)));
        assert!(matches!(ask(&mut client(&server).await, "garbage").await, Err(ClientError::Io(_))));
    }

    #[tokio::test]
    async fn a_stop_closes_what_is_idle_and_listens_no_more() {
        let server = server().await;
        let (endpoint, mut idle) = (server.endpoint().clone(), client(&server).await);
        server.shutdown().await;
        assert!(ask(&mut idle, "number").await.is_err());
        assert!(Client::connect(&endpoint, &Options::default()).await.is_err());
    }
}
