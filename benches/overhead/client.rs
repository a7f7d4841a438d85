//! A closed-loop client: N connections, D requests in flight on each, the next one sent when a reply is in.
//!
//! It checks that each reply answers the oldest request and has the length it should have, and measures each from the
//! write to the read. Its runs are asked for on stdin, one a line (`seconds 2.5`, `operations 10000`), and answered
//! on stdout, so that whoever asks can look at the proxy between them while the connections stay open.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, BufRead},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::wire::{self, Frames, Head, Outbox};

/// Patience with a reply, beyond the time a run was to take.
const STALL: Duration = Duration::from_secs(60);

/// `overhead load`
#[derive(clap::Parser)]
pub(crate) struct Args {
    #[arg(long)]
    address: SocketAddr,
    #[arg(long)]
    connections: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Send inserts of this length instead of finds.
    #[arg(long)]
    insert_bytes: Option<usize>,
    /// The length of the replies to find before compression.
    #[arg(long)]
    reply_bytes: usize,
    #[arg(long)]
    zstd: bool,
}

/// What a run measured.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) seconds: f64,
    /// Of one request and its reply, on the wire.
    pub(crate) operation_bytes: u64,
    pub(crate) p50_micros: f64,
    pub(crate) p99_micros: f64,
}

/// Until when a run sends.
#[derive(Clone, Copy)]
enum Length {
    Seconds(f64),
    Operations(i64),
}

/// Opens the connections, says `ready`, and runs what it is asked for.
pub(crate) fn run(args: &Args) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let mut connections = runtime.block_on(async { timeout(STALL, open(args)).await.map_err(stalled)? })?;
    println!("ready");
    for line in io::stdin().lock().lines() {
        let length = parse(&line?)?;
        let outcome = runtime.block_on(run_once(&mut connections, length))?;
        println!("{}", serde_json::to_string(&outcome)?);
    }
    Ok(())
}

fn parse(line: &str) -> io::Result<Length> {
    let unknown = || io::Error::other(format!("load: cannot run {line:?}"));
    let (unit, number) = line.split_once(' ').ok_or_else(unknown)?;
    match unit {
        "seconds" => number.parse().map(Length::Seconds).map_err(|_| unknown()),
        "operations" => number.parse().map(Length::Operations).map_err(|_| unknown()),
        _ => Err(unknown()),
    }
}

async fn open(args: &Args) -> io::Result<Vec<Connection>> {
    let reply_len = match args.insert_bytes {
        Some(_) => wire::insert_reply().len(),
        None if args.zstd => wire::compressed(&wire::find_reply(args.reply_bytes)).map_err(io::Error::other)?.len(),
        None => args.reply_bytes,
    };
    let mut connections = Vec::new();
    for session in 0..args.connections {
        let mut request = match args.insert_bytes {
            Some(length) => wire::insert(session, length),
            None => wire::find(session),
        };
        if args.zstd {
            request = wire::compressed(&request).map_err(io::Error::other)?;
        }
        let mut connection = Connection::connect(args.address, request, reply_len, args.depth).await?;
        connection.hello(args.zstd).await?;
        connections.push(connection);
    }
    Ok(connections)
}

async fn run_once(connections: &mut Vec<Connection>, length: Length) -> io::Result<Outcome> {
    let operation_bytes = connections.first().map_or(0, |one| (one.request.len() + one.reply_len) as u64);
    let start = Instant::now();
    let (until, operations) = match length {
        Length::Seconds(seconds) => (Some(start + Duration::from_secs_f64(seconds)), i64::MAX),
        Length::Operations(operations) => (None, operations),
    };
    let run = Arc::new(Run { until, left: AtomicI64::new(operations), latency: Mutex::new(histogram()) });
    let mut tasks = JoinSet::new();
    for mut connection in connections.drain(..) {
        let run = Arc::clone(&run);
        tasks.spawn(async move {
            poll_fn(|cx| connection.poll(cx, &run)).await?;
            Ok::<_, io::Error>(connection)
        });
    }
    // Without a time of its own, a run is given the slowest pace that still makes sense.
    let patience = match length {
        Length::Seconds(seconds) => STALL + Duration::from_secs_f64(seconds),
        Length::Operations(operations) => STALL + Duration::from_micros(operations.unsigned_abs() * 1000),
    };
    while let Some(done) = timeout(patience, tasks.join_next()).await.map_err(stalled)? {
        connections.push(done??);
    }
    let seconds = start.elapsed().as_secs_f64();
    let latency = run.latency.lock().map_err(|_| io::Error::other("load: a connection panicked"))?;
    let micros = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
    let (p50_micros, p99_micros) = (micros(0.5), micros(0.99));
    Ok(Outcome { operations: latency.len(), seconds, operation_bytes, p50_micros, p99_micros })
}

/// What the connections of one run share.
struct Run {
    until: Option<Instant>,
    /// Requests that may still be sent.
    left: AtomicI64,
    /// In nanoseconds.
    latency: Mutex<Histogram<u64>>,
}

impl Run {
    fn may_send(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until) && self.left.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds and digits are valid")
}

fn stalled(_: tokio::time::error::Elapsed) -> io::Error {
    io::Error::other("load: no reply for too long")
}

struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    reply_len: usize,
    depth: usize,
    next_id: i32,
    waiting: VecDeque<(i32, Instant)>,
    out: Outbox,
    frames: Frames,
    scratch: Box<[u8]>,
}

impl Connection {
    async fn connect(address: SocketAddr, request: Vec<u8>, reply_len: usize, depth: usize) -> io::Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Self {
            socket,
            request,
            reply_len,
            depth,
            next_id: 1,
            waiting: VecDeque::with_capacity(depth),
            out: Outbox::default(),
            frames: Frames::new(),
            scratch: vec![0; 64 << 10].into_boxed_slice(),
        })
    }

    /// One exchange of its own: a hello, and whatever length its reply has.
    async fn hello(&mut self, zstd: bool) -> io::Result<()> {
        let id = self.next_id;
        self.next_id += 1;
        self.out.push(&wire::hello(zstd), id, 0);
        let mut answered = false;
        poll_fn(|cx| {
            ready!(self.out.poll_flush(cx, &mut self.socket))?;
            while !answered {
                let got = ready!(self.poll_read(cx))?;
                let note = |head: &Head| {
                    answered = head.response_to() == id;
                    Ok(())
                };
                self.frames.feed(&self.scratch[..got], note).map_err(io::Error::other)?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Ends when the run has, and nothing is in flight any more.
    fn poll(&mut self, cx: &mut Context<'_>, run: &Run) -> Poll<io::Result<()>> {
        loop {
            self.ask(run);
            // What is not out yet goes later; replies are read meanwhile.
            let _ = self.out.poll_flush(cx, &mut self.socket)?;
            if self.waiting.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let got = ready!(self.poll_read(cx))?;
            self.take(got, run)?;
        }
    }

    fn ask(&mut self, run: &Run) {
        let now = Instant::now();
        while self.waiting.len() < self.depth && run.may_send(now) {
            self.out.push(&self.request, self.next_id, 0);
            self.waiting.push_back((self.next_id, now));
            self.next_id = self.next_id.wrapping_add(1);
        }
    }

    fn take(&mut self, got: usize, run: &Run) -> io::Result<()> {
        let now = Instant::now();
        let (waiting, reply_len) = (&mut self.waiting, self.reply_len);
        let ended = |head: &Head| {
            let (id, sent) = waiting.pop_front().ok_or_else(|| "load: a reply that nothing asked for".to_owned())?;
            if head.response_to() != id || usize::try_from(head.message_length()) != Ok(reply_len) {
                let (to, length) = (head.response_to(), head.message_length());
                return Err(format!("load: {length} bytes to {to} came, {reply_len} to {id} were due"));
            }
            let nanos = u64::try_from(now.duration_since(sent).as_nanos()).unwrap_or(u64::MAX);
            let mut latency = run.latency.lock().map_err(|_| "load: a connection panicked".to_owned())?;
            latency.saturating_record(nanos);
            Ok(())
        };
        self.frames.feed(&self.scratch[..got], ended).map_err(io::Error::other)
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(&mut self.scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        match buffer.filled().len() {
            0 => Poll::Ready(Err(io::Error::other("load: the connection was closed"))),
            got => Poll::Ready(Ok(got)),
        }
    }
}
