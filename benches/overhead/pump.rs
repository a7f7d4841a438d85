//! A proxy that looks at nothing: the floor under the proxy that is measured, and the model of its data path.
//!
//! One acceptor hands each socket to one of N threads, each with a current-thread runtime of its own, and there it
//! stays. One future serves both directions of a connection. Each thread has one scratch buffer: what was read is
//! written on at once, and only what the other side would not take is kept with the connection.
//!
//! An operation through it is two reads, two writes, a share of one epoll wait, no allocation and no futex call:
//! tokio clears a socket's readiness after a read that did not fill the buffer, so no read fails for want of data.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::{SocketAddr, TcpListener as StdTcpListener, TcpStream as StdTcpStream},
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::mpsc,
};

use crate::child;

/// `overhead pump`
#[derive(clap::Parser)]
pub(crate) struct Args {
    #[arg(long)]
    upstream: SocketAddr,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Size of each thread's buffer. A message that just fills it costs one more read, which fails: with 64 KiB, a
    /// tenth of the throughput of 64 KiB inserts.
    #[arg(long, default_value_t = 256 << 10)]
    scratch: usize,
}

/// Reads of one direction in one turn, beyond which a connection lets its neighbours go first.
const READS_A_TURN: usize = 4;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Listens on a free port, says which on stdout, and pumps until stdin ends.
pub(crate) fn run(args: &Args) -> io::Result<()> {
    let listener = StdTcpListener::bind(("127.0.0.1", 0))?;
    println!("{}", listener.local_addr()?);
    child::exit_at_end_of_stdin();
    let workers =
        (0..args.threads).map(|n| start_worker(n, args.upstream, args.scratch)).collect::<io::Result<Vec<_>>>()?;
    for worker in workers.iter().cycle() {
        let (client, _) = listener.accept()?;
        worker.send(client).map_err(io::Error::other)?;
    }
    Ok(())
}

fn start_worker(n: usize, upstream: SocketAddr, scratch: usize) -> io::Result<mpsc::UnboundedSender<StdTcpStream>> {
    let (sender, mut accepted) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    thread::Builder::new().name(format!("pump-{n}")).spawn(move || {
        SCRATCH.set(vec![0; scratch]);
        runtime.block_on(async {
            while let Some(client) = accepted.recv().await {
                tokio::spawn(async move {
                    // A side that cannot be reached, or goes away, takes the other with it: both sockets close here.
                    if let Ok(pump) = Pump::open(client, upstream).await {
                        let _ = pump.await;
                    }
                });
            }
        });
    })?;
    Ok(sender)
}

/// Both directions of one connection. Ends when both have ended, or with the first error.
struct Pump {
    client: TcpStream,
    server: TcpStream,
    requests: Direction,
    replies: Direction,
}

impl Pump {
    async fn open(client: StdTcpStream, upstream: SocketAddr) -> io::Result<Self> {
        client.set_nonblocking(true)?;
        let client = TcpStream::from_std(client)?;
        let server = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Self { client, server, requests: Direction::default(), replies: Direction::default() })
    }
}

impl Future for Pump {
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { client, server, requests, replies } = &mut *self;
        SCRATCH.with_borrow_mut(|scratch| {
            // Both are polled at every wake: the idle one asks tokio's readiness, not the kernel.
            let requests = requests.poll(cx, client, server, scratch)?;
            let replies = replies.poll(cx, server, client, scratch)?;
            if requests.is_ready() && replies.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
    }
}

/// One direction of a connection: what it owes its writer, and whether its reader has ended.
#[derive(Default)]
struct Direction {
    /// Read, but not yet taken by the writer. Empty, and without memory of its own, unless the writer is the slower.
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

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut TcpStream,
        to: &mut TcpStream,
        scratch: &mut [u8],
    ) -> Poll<io::Result<()>> {
        for _ in 0..READS_A_TURN {
            ready!(self.poll_kept(cx, to))?;
            match self.state {
                State::Open => {
                    let mut buffer = ReadBuf::new(scratch);
                    ready!(Pin::new(&mut *from).poll_read(cx, &mut buffer))?;
                    match buffer.filled() {
                        [] => self.state = State::Ending,
                        bytes => self.write(cx, to, bytes)?,
                    }
                }
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what the socket takes at once and keeps the rest.
    fn write(&mut self, cx: &mut Context<'_>, to: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
        let written = match Pin::new(to).poll_write(cx, bytes)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        // Whoever wants to look at `bytes` does so here: they are on their way.
        self.kept.extend_from_slice(&bytes[written..]);
        Ok(())
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>, to: &mut TcpStream) -> Poll<io::Result<()>> {
        if self.kept.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.taken < self.kept.len() {
            self.taken += ready!(Pin::new(&mut *to).poll_write(cx, &self.kept[self.taken..]))?;
        }
        // An idle connection holds no memory.
        self.kept = Vec::new();
        self.taken = 0;
        Poll::Ready(Ok(()))
    }
}
