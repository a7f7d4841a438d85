//! A small client: one connection, one command at a time, over `OP_MSG`.
//!
//! It says `hello`, authenticates if it is given a user, and gives replies as they come. There are no pools, no
//! retries, no sessions, and following a cursor is the caller's: [`command`](Client::command) sends its `getMore` as any
//! other.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bson::raw::{CStr, RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use bson::spec::BinarySubtype;
use bson::{Binary, rawdoc};
use bytes::BytesMut;
use ring::rand::{SecureRandom, SystemRandom};

use super::codec::Frames;
pub use super::credentials::{Credentials, Method};
use super::stream::Stream;
use super::tls::Connector;
use crate::config::Endpoint;
use crate::replay::scram::{ClientConversation, Mechanism};
use crate::replay::{Reply, decode_reply};
use crate::wire::{Compressor, MESSAGE_LEN_MAX, Message, OpMsg, WireError, compress, msg_flags};

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
    /// Who it is, if it is to authenticate.
    pub credentials: Option<Credentials>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            app_name: "mongotap".to_owned(),
            compressors: Vec::new(),
            patience: Duration::from_secs(30),
            tls: None,
            credentials: None,
        }
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
    #[error("the reply is to request {0}, which was not sent or is answered")]
    OtherReply(i32),
    /// The server does not take the user for who it says it is, or is not the server that it should be.
    #[error("cannot authenticate: {0}")]
    Authentication(String),
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

/// A message of a server.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its own id: if more is to come, that names it.
    pub(super) request_id: i32,
    /// To what it is the answer.
    pub(super) response_to: i32,
    /// What it says.
    pub(super) document: Vec<u8>,
    /// Another follows without being asked for.
    pub(super) more_to_come: bool,
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
        if let Some(credentials) = &options.credentials {
            client.authenticate(credentials).await?;
        }
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
        let frame = self.frame(&OpMsg::new(0, command.as_bytes()))?;
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

    fn frame(&mut self, message: &OpMsg<'_>) -> Result<BytesMut, WireError> {
        self.request_id = self.request_id.wrapping_add(1);
        let mut frame = BytesMut::new();
        message.encode(self.request_id, 0, &mut frame)?;
        let Some(compressor) = self.compressor else { return Ok(frame) };
        let mut compressed = BytesMut::new();
        compress(&frame, compressor, &mut compressed)?;
        Ok(compressed)
    }

    /// Sends a message as it is; the request's id, which its answer names.
    pub(super) async fn send(&mut self, message: &OpMsg<'_>) -> Result<i32, ClientError> {
        let frame = self.frame(message)?;
        self.frames.send(&frame).await?;
        Ok(self.request_id)
    }

    /// The next answer, whichever request it is to, however long it takes. If this is dropped while it waits, nothing is
    /// lost.
    pub(super) async fn answer(&mut self) -> Result<Answer, ClientError> {
        let frame = self.frames.next().await?.ok_or(ClientError::Closed)?;
        let (header, message) = Message::decode(&frame)?;
        let more_to_come = matches!(&message, Message::Msg(message) if message.has(msg_flags::MORE_TO_COME));
        let document = decode_reply(&frame, MESSAGE_LEN_MAX)?.document;
        Ok(Answer { request_id: header.request_id, response_to: header.response_to, document, more_to_come })
    }

    /// The next reply, to what was sent last; and whether another follows.
    pub(super) async fn reply(&mut self) -> Result<(Vec<u8>, bool), ClientError> {
        let answer = self.answer().await?;
        if answer.response_to != self.request_id {
            return Err(ClientError::OtherReply(answer.response_to));
        }
        Ok((answer.document, answer.more_to_come))
    }

    async fn authenticate(&mut self, credentials: &Credentials) -> Result<(), ClientError> {
        let Credentials { user, password, source, method } = credentials;
        match method {
            Method::Scram => self.scram(credentials, best_mechanism(&self.hello)).await,
            Method::ScramBy(mechanism) => self.scram(credentials, *mechanism).await,
            Method::Plain => {
                let payload = payload(&format!("\0{user}\0{password}"));
                self.step(source, rawdoc! { "saslStart": 1, "mechanism": "PLAIN", "payload": payload }).await?;
                Ok(())
            }
            Method::X509 => {
                let mut command = rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509" };
                if !user.is_empty() {
                    command.append(cstr!("user"), user.as_str());
                }
                self.step(source, command).await?;
                Ok(())
            }
        }
    }

    async fn scram(&mut self, credentials: &Credentials, mechanism: Mechanism) -> Result<(), ClientError> {
        let failed = |why: &str| ClientError::Authentication(why.to_owned());
        let Credentials { user, password, source, .. } = credentials;
        let nonce = nonce().ok_or_else(|| failed("no random numbers"))?;
        let conversation = ClientConversation::begin(mechanism, user, password, &nonce);
        let start = rawdoc! {
            "saslStart": 1, "mechanism": mechanism.as_str(), "payload": payload(&conversation.first_message()),
            "options": { "skipEmptyExchange": true },
        };
        let mut reply = self.step(source, start).await?;
        let (last, expected) = conversation
            .respond(&said(&reply))
            .ok_or_else(|| failed("what the server says is no answer in this conversation, or the password is none"))?;
        reply = self.step(source, next_step(&reply, &last)).await?;
        if said(&reply) != expected.as_bytes() {
            return Err(failed("the server does not know the password either"));
        }
        while !crate::bson::find(reply.as_bytes(), b"done").is_some_and(|done| done.as_bool_truthy()) {
            reply = self.step(source, next_step(&reply, "")).await?;
        }
        Ok(())
    }

    async fn step(&mut self, source: &str, command: RawDocumentBuf) -> Result<RawDocumentBuf, ClientError> {
        let reply = self.command(source, command).await?;
        if is_ok(&reply) {
            return Ok(reply);
        }
        Err(ClientError::Authentication(reply.get_str("errmsg").unwrap_or("no reason given").to_owned()))
    }
}

/// The best mechanism that the server says it has for the user, or the one that all have.
fn best_mechanism(hello: &RawDocument) -> Mechanism {
    let offered = hello.get_array("saslSupportedMechs").into_iter().flatten().flatten();
    let names: Vec<_> = offered.filter_map(|name| Mechanism::from_name(name.as_str()?)).collect();
    if names.contains(&Mechanism::Sha256) || names.is_empty() { Mechanism::Sha256 } else { Mechanism::Sha1 }
}

fn nonce() -> Option<String> {
    let mut bytes = [0; 24];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(BASE64_STANDARD.encode(bytes))
}

fn payload(text: &str) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: text.as_bytes().to_vec() }
}

/// What a reply says within its conversation.
fn said(reply: &RawDocument) -> Vec<u8> {
    reply.get_binary("payload").map(|binary| binary.bytes.to_vec()).unwrap_or_default()
}

fn next_step(reply: &RawDocument, text: &str) -> RawDocumentBuf {
    let conversation = reply.get_i32("conversationId").unwrap_or(1);
    rawdoc! { "saslContinue": 1, "conversationId": conversation, "payload": payload(text) }
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
    if let Some(Credentials { user, source, method: Method::Scram, .. }) = &options.credentials {
        hello.append(cstr!("saslSupportedMechs"), format!("{source}.{user}"));
    }
    hello
}

async fn patient<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
