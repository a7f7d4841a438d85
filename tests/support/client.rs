//! A client of a few lines, so that a test decides which bytes go out and when, and when the socket closes.
//!
//! It speaks OP_MSG with a body section only and answers with what arrives; it does no handshake of its own.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bson::{Document, doc};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// No reply will come (request), or another one will (reply).
pub(crate) const MORE_TO_COME: u32 = 2;
/// The client takes several replies.
pub(crate) const EXHAUST_ALLOWED: u32 = 1 << 16;

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Stream,
}

/// Its socket, plain or with TLS.
#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

impl io::Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl io::Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) request_id: i32,
    pub(crate) response_to: i32,
    pub(crate) flags: u32,
    pub(crate) body: Document,
}

impl Client {
    /// Connects, and gives up waiting for any answer after 30 seconds.
    pub(crate) fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        Some(Self { stream: Stream::Plain(stream) })
    }

    /// The same with TLS, to a server that should be `name`; the error is the handshake's.
    pub(crate) fn try_connect_tls(address: &str, name: &str, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        session.complete_io(&mut socket)?;
        Ok(Self { stream: Stream::Tls(Box::new(StreamOwned::new(session, socket))) })
    }

    /// The same, where failing it fails the test.
    pub(crate) fn connect_tls(address: &str, config: &Arc<ClientConfig>) -> Self {
        Self::try_connect_tls(address, "localhost", config).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// The same, where not reaching it fails the test.
    pub(crate) fn connect(address: &str) -> Self {
        Self::try_connect(address).unwrap_or_else(|| panic!("{address}: no connection"))
    }

    /// Connects and says `hello` with an application name.
    pub(crate) fn handshake(address: &str, app_name: &str) -> Self {
        let mut client = Self::connect(address);
        let reply = client.command(&hello(app_name));
        assert!(is_ok(&reply), "hello answered {reply}");
        client
    }

    /// Sends a command and takes its reply.
    pub(crate) fn command(&mut self, command: &Document) -> Document {
        self.try_command(command).unwrap_or_else(|| panic!("no reply to {command}"))
    }

    /// The same; `None` when the connection ends instead.
    pub(crate) fn try_command(&mut self, command: &Document) -> Option<Document> {
        self.send(0, command).ok()?;
        self.receive().ok().map(|message| message.body)
    }

    /// Sends a command; returns its request id.
    pub(crate) fn send(&mut self, flags: u32, command: &Document) -> io::Result<i32> {
        let id = next_id();
        self.stream.write_all(&op_msg(id, flags, command))?;
        Ok(id)
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Takes the next message, which must be an OP_MSG with a body alone.
    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        receive(&mut self.stream)
    }

    /// Reads until the other side closes; the bytes that still came.
    pub(crate) fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).map(|_| rest)
    }

    /// Says that nothing more will be sent, and stays to read.
    pub(crate) fn close_sending(&mut self) {
        if let Stream::Tls(stream) = &mut self.stream {
            stream.conn.send_close_notify();
            stream.flush().expect("the connection stands");
        }
        self.stream.socket().shutdown(Shutdown::Write).expect("the connection stands");
    }

    /// Closes so that the other side sees a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.socket());
        socket.set_linger(Some(Duration::ZERO)).expect("a TCP socket lingers");
    }
}

/// Whether a reply is `ok`.
pub(crate) fn is_ok(reply: &Document) -> bool {
    reply.get_f64("ok").is_ok_and(|ok| ok == 1.0)
}

/// Takes a message, which must be an OP_MSG with a body alone, from any stream.
pub(crate) fn receive(stream: &mut impl io::Read) -> io::Result<Message> {
    let mut header = [0; 21];
    stream.read_exact(&mut header)?;
    let word = |at: usize| i32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    assert_eq!((word(12), header[20]), (2013, 0), "a reply is an OP_MSG that starts with its body");
    let mut body = vec![0; usize::try_from(word(0)).expect("a length is positive") - header.len()];
    stream.read_exact(&mut body)?;
    let body = Document::from_reader(body.as_slice()).expect("a reply's body is BSON");
    Ok(Message { request_id: word(4), response_to: word(8), flags: word(16).cast_unsigned(), body })
}

/// A `hello` as the first one of an application's connection.
pub(crate) fn hello(app_name: &str) -> Document {
    doc! {
        "hello": 1,
        "helloOk": true,
        "client": {
            "application": { "name": app_name },
            "driver": { "name": "mongotap-test", "version": "0" },
            "os": { "type": "test" },
        },
        "$db": "admin",
    }
}

/// The bytes of an OP_MSG with one body section.
pub(crate) fn op_msg(request_id: i32, flags: u32, body: &Document) -> Vec<u8> {
    let body = body.to_vec().expect("a document has bytes");
    let length = i32::try_from(body.len() + 21).expect("a message is below 2 GiB");
    let mut message = Vec::new();
    for word in [length, request_id, 0, 2013, flags.cast_signed()] {
        message.extend(word.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    message
}

fn next_id() -> i32 {
    static NEXT: AtomicI32 = AtomicI32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
