//! A server that answers from memory, in a process of its own: this program again, in another role.
//!
//! A request says in its own fields what it wants: `bytes`, so long a text in the answer; `parts`, so many answers where
//! several are welcome.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use bson::{Bson, Document, RawDocumentBuf, doc};
use bytes::BytesMut;
use mongotap::replay::{Replies, Request};
use mongotap::wire::{HEADER_LEN, Header, MESSAGE_LEN_MAX, Reader};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What this program is called with to be the server.
pub(crate) const ROLE: &str = "serve";

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    /// Starts it on a free port.
    pub(crate) fn start() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        let mut child =
            command.arg(ROLE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("this program runs again");
        let mut address = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        stdout.read_line(&mut address).expect("it says where it listens");
        Self { child, address: address.trim_end().to_owned() }
    }

    /// Its connection string.
    pub(crate) fn uri(&self) -> String {
        format!("mongodb://{}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Listens on a free port of 127.0.0.1, says which on stdout, and serves until stdin ends.
#[expect(clippy::print_stdout, reason = "who started it reads it")]
pub(crate) fn serve() {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime starts");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        println!("{}", listener.local_addr().expect("it is bound"));
        for number in 1.. {
            let (socket, _) = listener.accept().await.expect("there are descriptors enough");
            // Why a connection ended is its client's business.
            tokio::spawn(async move { connection(socket, number).await.ok() });
        }
    });
}

async fn connection(mut socket: TcpStream, number: i32) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut replies = Replies::default();
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = next_frame(&mut buffer)? {
            let request = Request::decode(&frame, MESSAGE_LEN_MAX).map_err(io::Error::other)?;
            answer(request, number, &mut replies);
            while let Some(reply) = replies.next_frame() {
                socket.write_all(&reply).await?;
            }
        }
        if buffer.is_empty() {
            // Idle: what it was long for is over.
            buffer = BytesMut::new();
        }
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes a whole message from what came.
pub(crate) fn next_frame(buffer: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    if buffer.len() < HEADER_LEN {
        return Ok(None);
    }
    let header = Header::decode(&mut Reader::new(buffer)).map_err(io::Error::other)?;
    let length = header.checked_len(MESSAGE_LEN_MAX).map_err(io::Error::other)?;
    Ok((buffer.len() >= length).then(|| buffer.split_to(length)))
}

fn answer(mut request: Request, number: i32, replies: &mut Replies) {
    let command = Document::from_reader(request.command.as_slice()).expect("a command is BSON");
    let reply = match request.name() {
        "hello" => hello(&command, number),
        "find" | "getMore" => batch(&command),
        _ => doc! { "n": 1, "ok": 1.0 },
    };
    let reply = RawDocumentBuf::try_from(&reply).expect("a reply is BSON");
    let parts = if request.exhaust_allowed { command.get_i32("parts").unwrap_or(1) } else { 1 };
    for _ in 1..parts {
        replies.reply_with_more_to_come(&mut request, &reply);
    }
    replies.reply(&request, &reply);
}

fn hello(command: &Document, number: i32) -> Document {
    doc! {
        "helloOk": true, "isWritablePrimary": true, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "connectionId": number, "minWireVersion": 0,
        "maxWireVersion": 17, "readOnly": false, "ok": 1.0,
        "compression": command.get_array("compression").cloned().map_or_else(|_| Bson::Array(Vec::new()), Bson::Array),
    }
}

fn batch(command: &Document) -> Document {
    let length = usize::try_from(command.get_i32("bytes").unwrap_or(0)).expect("a length is positive");
    let batch = if command.contains_key("find") { "firstBatch" } else { "nextBatch" };
    doc! { "cursor": { batch: [{ "text": text(length) }], "id": 0_i64, "ns": "load.items" }, "ok": 1.0 }
}

/// So long a text, which compresses as texts do.
pub(crate) fn text(length: usize) -> &'static str {
    static LONGEST: LazyLock<String> = LazyLock::new(|| {
        let visit = |number| format!("visit {number} of the basket in berlin, {}; ", number * 7919 % 10_007);
        (0..TEXT_MAX / 32).map(visit).collect()
    });
    &LONGEST[..length]
}

/// The longest text.
pub(crate) const TEXT_MAX: usize = 4 << 20;
