//! A thread that serves connections, with a runtime of its own: what its connections share, they share without locks.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;

use super::admission::Refused;
use super::clock;
use super::local;
use super::members::{Member, Members};
use super::pump::Pump;
use super::recorder::{CaptureFeed, Feed};
use super::rewriter::Rewriting;
use super::say::{say, with_hint};
use super::stream::{Accepted, Stream, descriptors_hint};
use super::tls::{Acceptor, Connector};
use crate::event::{Connection, Side};
use crate::pipeline::Pipeline;
use crate::redact::Fields;
use crate::session::Shared;

/// A dial that has not come through by then will not: drivers give up no later.
const DIAL_FOR: Duration = Duration::from_secs(30);

/// A client whose server cannot be reached is listened to for so long before its connection is closed, and to so many
/// bytes.
const TURNED_AWAY_AFTER: Duration = Duration::from_millis(250);
const TURNED_AWAY_LEN: usize = 64 << 10;

/// What to do about a member whose name leads nowhere.
const DIAL_HINT: &str = "if that is no address here, [topology] dial (--topology-dial) says where the member is";

/// What a server does that wants TLS and is spoken to without.
const TLS_HINT: &str = "if it wants TLS, add tls=true to the upstream's connection string";

/// The two steps of the proxy's end.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    /// Connections end when they have nothing in flight.
    pub(super) draining: CancellationToken,
    /// Connections end.
    pub(super) aborting: CancellationToken,
    flags: Arc<[AtomicBool; 2]>,
}

impl Stop {
    pub(super) fn drain(&self) {
        self.flags[0].store(true, Ordering::Release);
        self.draining.cancel();
    }

    pub(super) fn abort(&self) {
        self.flags[1].store(true, Ordering::Release);
        self.aborting.cancel();
    }

    /// Whether it has come to the first step. As cheap as can be: asked at every wake of every connection.
    pub(super) fn is_draining(&self) -> bool {
        self.flags[0].load(Ordering::Acquire)
    }

    pub(super) fn is_aborting(&self) -> bool {
        self.flags[1].load(Ordering::Acquire)
    }
}

/// What every worker needs to serve connections.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) members: Arc<Members>,
    pub(super) shared: Shared,
    /// Whether what sessions are given is recorded.
    pub(super) is_captured: bool,
    /// Whose values are taken out of what is recorded.
    pub(super) fields: Option<Arc<Fields>>,
    pub(super) stop: Stop,
    /// TLS towards clients, if it is to be.
    pub(super) acceptor: Option<Acceptor>,
    /// TLS towards the servers, if it is to be.
    pub(super) connector: Option<Connector>,
}

/// A client on its way to a worker.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its socket, and its place among the connections that are served.
    pub(super) admitted: Result<(Accepted, OwnedSemaphorePermit), Refused>,
    pub(super) connection: Arc<Connection>,
    /// The server it is for.
    pub(super) member: Arc<Member>,
    pub(super) at: crate::event::Timestamp,
}

/// A running worker, as the acceptor knows it. It ends when its sender is gone and its connections have ended.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) arrivals: mpsc::UnboundedSender<Arrival>,
    /// Connections it serves.
    pub(super) load: Arc<AtomicUsize>,
    pub(super) thread: JoinHandle<()>,
}

impl Worker {
    pub(super) fn start(number: usize, context: Context, feed: Feed, capture: Option<CaptureFeed>) -> io::Result<Self> {
        let (arrivals, queue) = mpsc::unbounded_channel();
        let load = Arc::new(AtomicUsize::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(format!("mongotap-{number}")).spawn({
            let load = Arc::clone(&load);
            move || run(runtime, context, (feed, capture), queue, &load)
        })?;
        Ok(Self { arrivals, load, thread })
    }
}

fn run(
    runtime: tokio::runtime::Runtime,
    context: Context,
    (feed, capture_feed): (Feed, Option<CaptureFeed>),
    mut queue: mpsc::UnboundedReceiver<Arrival>,
    load: &Arc<AtomicUsize>,
) {
    let local = local::enter(feed, capture_feed);
    runtime.block_on(async {
        let idle = Arc::new(Notify::new());
        let mut hand_over = std::pin::pin!(local.hand_over());
        let mut arrivals = std::pin::pin!(async {
            while let Some(arrival) = queue.recv().await {
                tokio::spawn(serve(
                    arrival,
                    context.clone(),
                    Leaving { load: Arc::clone(load), idle: Arc::clone(&idle) },
                ));
            }
            while load.load(Ordering::Acquire) > 0 {
                idle.notified().await;
            }
        });
        poll_fn(|cx| {
            // It never ends: it is here to run beside the connections.
            let _: Poll<()> = hand_over.as_mut().poll(cx);
            arrivals.as_mut().poll(cx)
        })
        .await;
    });
    // The feeds end with the last reference to them, and the recorder waits for that.
    local::leave();
    drop(local);
    // A name that is still being resolved, for a client that has gone, holds up nobody.
    runtime.shutdown_background();
}

/// Counts a connection out, however it ends.
struct Leaving {
    load: Arc<AtomicUsize>,
    idle: Arc<Notify>,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.load.fetch_sub(1, Ordering::AcqRel);
        self.idle.notify_one();
    }
}

/// Why nothing comes of a connection.
struct Refusal {
    /// At which side that is; `None` is for want of something here.
    side: Option<Side>,
    message: String,
    /// It is the client's doing or ours, or for want of TLS as it should be: the log has it as an event of its own.
    is_told: bool,
}

impl Refusal {
    fn unreachable(message: String) -> Self {
        Self { side: Some(Side::Server), message, is_told: false }
    }

    fn unwelcome(refused: Refused) -> Self {
        Self { side: Some(Side::Client), message: refused.to_string(), is_told: true }
    }

    /// The server was not asked.
    fn wanting(error: &io::Error) -> Self {
        let message = format!("there is no descriptor for a connection to the server: {error}");
        Self { side: None, message, is_told: true }
    }
}

async fn serve(arrival: Arrival, context: Context, leaving: Leaving) {
    let Arrival { admitted, connection, member, at } = arrival;
    let shared = context.shared.clone();
    let pipeline = match context.is_captured {
        true => Pipeline::recorded(connection, at, shared, Box::new(local::capture)),
        false => Pipeline::new(connection, at, shared),
    };
    let mut pipeline = pipeline.redacting(context.fields.clone());
    let (socket, place) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            close(&mut pipeline, &Refusal::unwelcome(refused));
            return drop(leaving);
        }
    };
    // The server hears of a client only when its handshake is done: of strangers it does not, nor is our own certificate
    // shown for them. A client is taken in even if there is no server, to see whose connection it was.
    let both = async {
        let client = adopt(socket, context.acceptor.as_ref()).await?;
        Ok((client, dial(&member, &context).await))
    };
    let both = tokio::select! {
        both = both => both,
        () = context.stop.draining.cancelled() => Err(Refusal::unreachable("proxy stopped".to_owned())),
    };
    match both {
        Ok((client, Ok(server))) => {
            let rewriting = Rewriting::of(&context.members, &member, context.shared.limits.max_message_bytes);
            let idle_after = context.shared.idle_after;
            let mut pump = Pump::new(client, server, pipeline, rewriting, idle_after, &context.stop);
            let mut is_heard = false;
            let is_unanswered = poll_fn(|cx| {
                let ended = Pin::new(&mut pump).poll(cx);
                if !is_heard && pump.is_heard() {
                    is_heard = true;
                    member.heard.store(true, Ordering::Relaxed);
                }
                ended
            });
            // Who has answered others without TLS does not want it.
            if is_unanswered.await && context.connector.is_none() && !member.heard.load(Ordering::Relaxed) {
                let endpoint = member.dial();
                let trouble = format_args!("upstream {endpoint}: it closed a connection without a word");
                context.members.say_once(with_hint(trouble, Some(TLS_HINT)));
            }
        }
        Ok((client, Err(refusal))) => turn_away(client, pipeline, &refusal).await,
        Err(refusal) => close(&mut pipeline, &refusal),
    }
    drop((place, leaving));
}

/// Takes the client's socket, and its handshake if there is one to be.
async fn adopt(socket: Accepted, acceptor: Option<&Acceptor>) -> Result<Stream, Refusal> {
    let socket = socket.adopt().map_err(|error| Refusal::unreachable(error.to_string()))?;
    match acceptor {
        Some(acceptor) => acceptor.accept(socket).await.map_err(|trouble| Refusal {
            side: Some(Side::Client),
            message: trouble.message,
            is_told: true,
        }),
        None => Ok(socket),
    }
}

async fn dial(member: &Member, context: &Context) -> Result<Stream, Refusal> {
    let endpoint = member.dial();
    let dialled = match tokio::time::timeout(DIAL_FOR, Stream::connect(&endpoint)).await {
        Ok(dialled) => dialled,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    };
    let unreachable =
        |error: &io::Error| Refusal::unreachable(format!("upstream {endpoint} could not be reached: {error}"));
    if let Err(error) = &dialled
        && let hint @ Some(_) = descriptors_hint(error)
    {
        let trouble = format_args!("cannot connect to a server: {error}; clients are turned away while that is so");
        context.members.say_once(with_hint(trouble, hint));
        return Err(Refusal::wanting(error));
    }
    let was_reachable = member.reachable.swap(dialled.is_ok(), Ordering::Relaxed);
    match &dialled {
        Ok(_) if !was_reachable => say(format_args!("upstream {endpoint}: reached")),
        Err(error) if was_reachable => {
            let trouble = format_args!("upstream {endpoint}: {error}; clients are turned away until it comes");
            say(with_hint(trouble, member.is_dialled_by_name().then_some(DIAL_HINT)));
        }
        _ => {}
    }
    let socket = dialled.map_err(|error| unreachable(&error))?;
    match &context.connector {
        Some(connector) => connector
            .named(&member.named())
            .connect(socket, &endpoint)
            .await
            .map_err(|trouble| Refusal { side: Some(Side::Server), message: trouble.message, is_told: true }),
        None => Ok(socket),
    }
}

/// Closes a connection that has no server, with a look at what the client has said: so it is known whose it was. To be
/// refused late is to be refused.
async fn turn_away(mut client: Stream, mut pipeline: Pipeline, refusal: &Refusal) {
    let mut said = vec![0; TURNED_AWAY_LEN];
    if let Ok(Ok(len @ 1..)) = tokio::time::timeout(TURNED_AWAY_AFTER, client.read(&mut said)).await {
        let said = said.get(..len).unwrap_or_default();
        local::with(|_, sink| pipeline.handle_bytes(Side::Client, said, clock::now(), sink));
    }
    close(&mut pipeline, refusal);
}

fn close(pipeline: &mut Pipeline, Refusal { side, message, is_told }: &Refusal) {
    local::with(|_, sink| {
        if *is_told {
            // It is the client that is not served.
            pipeline.handle_withheld(side.unwrap_or(Side::Client), message, clock::now(), sink);
        }
        pipeline.handle_close(*side, Some(message), clock::now(), sink);
    });
}
