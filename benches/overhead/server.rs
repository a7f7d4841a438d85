//! A server that answers from memory: what a direct connection costs, and what every proxy stands before.
//!
//! It knows hello, find and insert by name, and takes any compressed request for a find. It inflates nothing and
//! decodes no document, so that as much of the machine as possible is left to the proxy.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpListener, TcpStream},
};

use crate::{
    child,
    wire::{self, Frames, Head, Outbox},
};

/// Replies waiting on one connection beyond which its requests are left in the socket.
const OUT_LEN_MAX: usize = 1 << 20;

/// `overhead serve`
#[derive(clap::Parser)]
pub(crate) struct Args {
    /// Length of the reply to a find, in bytes on the wire.
    #[arg(long)]
    reply_bytes: usize,
    /// Speak zstd: agree to it in hello, want it of every request after, and compress the replies to find.
    #[arg(long)]
    zstd: bool,
}

struct Replies {
    find: Vec<u8>,
    insert: Vec<u8>,
    zstd: bool,
}

/// Listens on a free port, says which on stdout, and serves until stdin ends.
pub(crate) fn run(args: &Args) -> io::Result<()> {
    let mut find = wire::find_reply(args.reply_bytes);
    if args.zstd {
        find = wire::compressed(&find).map_err(io::Error::other)?;
    }
    let replies = Arc::new(Replies { find, insert: wire::insert_reply(), zstd: args.zstd });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        child::exit_at_end_of_stdin();
        for id in 1.. {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            let mut connection = Connection::new(id, socket, Arc::clone(&replies));
            tokio::spawn(async move {
                if let Err(error) = poll_fn(|cx| connection.poll(cx)).await
                    && error.kind() == io::ErrorKind::InvalidData
                {
                    eprintln!("server: connection {id}: {error}");
                }
            });
        }
        Ok(())
    })
}

struct Connection {
    id: i32,
    socket: TcpStream,
    replies: Arc<Replies>,
    frames: Frames,
    next_id: i32,
    out: Outbox,
    scratch: Box<[u8]>,
}

impl Connection {
    fn new(id: i32, socket: TcpStream, replies: Arc<Replies>) -> Self {
        let scratch = vec![0; 64 << 10].into_boxed_slice();
        Self { id, socket, replies, frames: Frames::new(), next_id: 1, out: Outbox::default(), scratch }
    }

    /// Ends when the client does.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let flushed = self.out.poll_flush(cx, &mut self.socket)?;
            if flushed.is_pending() && self.out.len() > OUT_LEN_MAX {
                return Poll::Pending;
            }
            let mut buffer = ReadBuf::new(&mut self.scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let got = buffer.filled().len();
            if got == 0 {
                return Poll::Ready(Ok(()));
            }
            let answer = |head: &Head| answer(&self.replies, self.id, &mut self.next_id, head, &mut self.out);
            self.frames.feed(&self.scratch[..got], answer).map_err(invalid)?;
        }
    }
}

fn answer(replies: &Replies, id: i32, next_id: &mut i32, head: &Head, out: &mut Outbox) -> Result<(), String> {
    let request_id = head.request_id();
    if head.is_command("hello") {
        out.push(&wire::hello_reply(id, replies.zstd), *next_id, request_id);
    } else if head.op_code() == (if replies.zstd { wire::OP_COMPRESSED } else { wire::OP_MSG }) {
        let reply = if head.is_command("insert") { &replies.insert } else { &replies.find };
        out.push(reply, *next_id, request_id);
    } else {
        return Err(format!("opcode {} is not what this server was told to expect", head.op_code()));
    }
    *next_id = next_id.wrapping_add(1);
    Ok(())
}

fn invalid(error: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
