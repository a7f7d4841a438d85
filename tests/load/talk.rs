//! A client's connection, of which there may be thousands.

use std::io;

use bson::{Document, doc};
use bytes::BytesMut;
use mongotap::wire::{Compressor, Header, MESSAGE_LEN_MAX, Message, OpCompressed, OpMsg, Reader, compress, msg_flags};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server;
use crate::support::client::is_ok;

/// A connection.
pub(crate) struct Talk {
    stream: TcpStream,
    buffer: BytesMut,
    compressor: Option<Compressor>,
    id: i32,
}

/// A message that arrived.
pub(crate) struct Answer {
    pub(crate) request_id: i32,
    pub(crate) response_to: i32,
    pub(crate) more_to_come: bool,
    pub(crate) body: Document,
}

impl Talk {
    /// Connects.
    pub(crate) async fn connect(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: BytesMut::new(), compressor: None, id: 0 })
    }

    /// Connects and says `hello`; speaks compressed from then on, if that is given.
    pub(crate) async fn handshake(address: &str, compressor: Option<Compressor>) -> io::Result<Self> {
        let mut talk = Self::connect(address).await?;
        let names: Vec<_> = compressor.iter().map(|it| it.as_str()).collect();
        let hello = doc! {
            "hello": 1, "helloOk": true, "compression": &names, "$db": "admin",
            "client": { "application": { "name": "load" }, "driver": { "name": "test", "version": "0" }, "os": { "type": "test" } },
        };
        talk.ask(&hello).await?;
        talk.compressor = compressor;
        Ok(talk)
    }

    /// Sends a command and takes its one answer, which must be `ok`.
    pub(crate) async fn ask(&mut self, command: &Document) -> io::Result<Document> {
        let id = self.send(0, command).await?;
        let answer = self.receive().await?;
        assert_eq!(answer.response_to, id, "the answer is to what was asked: {command}");
        assert!(is_ok(&answer.body), "{command}: {}", answer.body);
        Ok(answer.body)
    }

    /// Sends a command; its request id.
    pub(crate) async fn send(&mut self, flags: u32, command: &Document) -> io::Result<i32> {
        let message = self.message(flags, command);
        self.stream.write_all(&message).await?;
        Ok(self.id)
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn close_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// The bytes of the next message.
    pub(crate) fn message(&mut self, flags: u32, command: &Document) -> BytesMut {
        self.id += 1;
        let mut frame = BytesMut::new();
        let body = command.to_vec().expect("a document has bytes");
        OpMsg::new(flags, &body).encode(self.id, 0, &mut frame).expect("a message is not too long");
        let Some(compressor) = self.compressor else { return frame };
        let mut compressed = BytesMut::new();
        compress(&frame, compressor, &mut compressed).expect("a message compresses");
        compressed
    }

    /// The next message; it must be whole, and compressed as was agreed.
    pub(crate) async fn receive(&mut self) -> io::Result<Answer> {
        let frame = loop {
            if let Some(frame) = server::next_frame(&mut self.buffer)? {
                break frame;
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(self.read(&frame))
    }

    fn read(&self, frame: &[u8]) -> Answer {
        let mut inflated = Vec::new();
        let frame = match self.compressor {
            Some(_) => {
                let header = Header::decode(&mut Reader::new(frame)).expect("a header");
                let compressed = OpCompressed::decode(frame).expect("it is compressed, as was agreed");
                compressed.inflate(&header, MESSAGE_LEN_MAX, &mut inflated).expect("it inflates");
                &inflated
            }
            None => frame,
        };
        let (header, message) = Message::decode(frame).expect("a message");
        let Message::Msg(message) = message else { panic!("not an OP_MSG: {header:?}") };
        let body = Document::from_reader(message.body).expect("a reply is BSON");
        Answer {
            request_id: header.request_id,
            response_to: header.response_to,
            more_to_come: message.has(msg_flags::MORE_TO_COME),
            body,
        }
    }

    /// Closes so that the other side sees a reset.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(std::time::Duration::ZERO)).expect("a TCP socket lingers");
    }
}
