//! A small client: one connection, one command at a time, over `OP_MSG`.
//!
//! It says `hello` and gives replies as they come. There are no pools, no retries, no sessions, no authentication, and
//! following a cursor is the caller's: [`command`](Client::command) sends its `getMore` as any other.

use std::io;
use std::time::Duration;

use bson::raw::{CStr, RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;
use bytes::BytesMut;

use super::codec::Frames;
use super::stream::Stream;
use super::tls::Connector;
use crate::config::Endpoint;
use crate::replay::{Reply, decode_reply};
use crate::wire::{Compressor, MESSAGE_LEN_MAX, OpMsg, WireError, compress};

/// What a client says of itself, and how long it waits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The application's name in `hello`.
    pub app_name: String,
    /// The compressors to offer, the preferred one first.
    pub compressors: Vec<Compressor>,
    /// How long a connection or a reply may take.
    pub patience: Duration,
    /// TLS, if the server is to be reached by it.
    pub tls: Option<Connector>,
}

impl Default for Options {
    fn default() -> Self {
        Self { app_name: "mongotap".to_owned(), compressors: Vec::new(), patience: Duration::from_secs(30), tls: None }
    }
}

/// Why a command has no reply.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The network failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is not the reply to what was asked.
    #[error("the reply is to request {0}, which was not the last one")]
    OtherReply(i32),
    /// The server refused the handshake; its words.
    #[error("hello was refused: {0}")]
    Refused(String),
    /// What came is no document.
    #[error("the reply is no document: {0}")]
    Undecodable(String),
    /// A message cannot be read or written.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    frames: Frames,
    request_id: i32,
    compressor: Option<Compressor>,
    patience: Duration,
    hello: RawDocumentBuf,
}

impl Client {
    /// Connects and says `hello`.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn connect(endpoint: &Endpoint, options: &Options) -> Result<Self, ClientError> {
        let stream = patient(options.patience, connect(endpoint, options.tls.as_ref())).await?;
        let mut client = Self {
            frames: Frames::new(stream, MESSAGE_LEN_MAX),
            request_id: 0,
            compressor: None,
            patience: options.patience,
            hello: RawDocumentBuf::new(),
        };
        let reply = client.command("admin", hello(options)).await?;
        if !is_ok(&reply) {
            let message = reply.get_str("errmsg").unwrap_or("no reason given");
            return Err(ClientError::Refused(message.to_owned()));
        }
        let common = reply.get_array("compression").into_iter().flatten().flatten();
        let common = common.filter_map(|name| Compressor::from_name(name.as_str()?)).collect::<Vec<_>>();
        client.compressor = options.compressors.iter().copied().find(|it| common.contains(it));
        client.hello = reply;
        Ok(client)
    }

    /// The server's reply to `hello`.
    pub fn hello(&self) -> &RawDocument {
        &self.hello
    }

    /// Sends a command, to which `$db` is added, and waits for the reply; one that is not `ok` is a reply too.
    ///
    /// # Errors
    /// If there is no reply. The connection is of no use then.
    pub async fn command(
        &mut self,
        database: &str,
        mut command: RawDocumentBuf,
    ) -> Result<RawDocumentBuf, ClientError> {
        command.append(cstr!("$db"), database);
        self.request_id = self.request_id.wrapping_add(1);
        let mut frame = BytesMut::new();
        OpMsg::new(0, command.as_bytes()).encode(self.request_id, 0, &mut frame)?;
        if let Some(compressor) = self.compressor {
            let mut compressed = BytesMut::new();
            compress(&frame, compressor, &mut compressed)?;
            frame = compressed;
        }
        let exchange = async {
            self.frames.send(&frame).await?;
            self.frames.next().await
        };
        let answer = patient(self.patience, exchange).await?.ok_or(ClientError::Closed)?;
        let Reply { response_to, document } = decode_reply(&answer, MESSAGE_LEN_MAX)?;
        if response_to != self.request_id {
            return Err(ClientError::OtherReply(response_to));
        }
        RawDocumentBuf::from_bytes(document).map_err(|error| ClientError::Undecodable(error.to_string()))
    }
}

/// Whether a reply says that its command succeeded.
pub fn is_ok(reply: &RawDocument) -> bool {
    crate::bson::find(reply.as_bytes(), b"ok").is_some_and(|element| element.as_bool_truthy())
}

async fn connect(endpoint: &Endpoint, tls: Option<&Connector>) -> io::Result<Stream> {
    let socket = Stream::connect(endpoint).await?;
    match tls {
        Some(connector) => connector.connect(socket, endpoint).await.map_err(io::Error::other),
        None => Ok(socket),
    }
}

fn hello(options: &Options) -> RawDocumentBuf {
    let client = rawdoc! {
        "application": { "name": options.app_name.as_str() },
        "driver": { "name": "mongotap", "version": env!("CARGO_PKG_VERSION") },
        "os": { "type": std::env::consts::OS },
    };
    let mut hello = rawdoc! { "hello": 1, "helloOk": true, "client": client };
    if !options.compressors.is_empty() {
        const COMPRESSION: &CStr = cstr!("compression");
        hello.append(COMPRESSION, options.compressors.iter().map(|it| it.as_str()).collect::<RawArrayBuf>());
    }
    hello
}

async fn patient<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
