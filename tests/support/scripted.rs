//! A server whose every reply a test writes, down to the bytes.

use bytes::{Bytes, BytesMut};
use mongotap::event::Timestamp;
use mongotap::net::serve::{Listening, Server};
use mongotap::replay::{Replies, Request, Responder};
use mongotap::wire::{Compressor, OpMsg, OpReply, compress};
use tokio::runtime::Runtime;

/// A running server; dropping it ends it.
pub(crate) struct Scripted {
    server: Option<Server>,
    runtime: Option<Runtime>,
}

struct Script<F>(F);

impl<F: Fn(&Request) -> Vec<Vec<u8>>> Responder for Script<F> {
    fn handle(&mut self, request: Request, _: Timestamp, replies: &mut Replies) {
        // Together, so that they arrive together.
        replies.bytes(Bytes::from((self.0)(&request).concat()));
    }
}

impl Scripted {
    /// Serves on a free port of 127.0.0.1: `script` gives the messages that answer a request.
    pub(crate) fn start(script: impl Fn(&Request) -> Vec<Vec<u8>> + Clone + Send + 'static) -> Self {
        Self::start_at(0, script)
    }

    /// The same on that port.
    pub(crate) fn start_at(port: u16, script: impl Fn(&Request) -> Vec<Vec<u8>> + Clone + Send + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime starts");
        let guard = runtime.enter();
        let endpoint = format!("127.0.0.1:{port}").parse().expect("an address");
        let listening = Listening::bind(&endpoint).expect("a loopback port");
        let server = listening.serve(move |_| Script(script.clone())).expect("the runtime takes a socket");
        drop(guard);
        Self { server: Some(server), runtime: Some(runtime) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.server.as_ref().expect("it runs until it is dropped").endpoint().to_string()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.server = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An `OP_MSG` with a body alone.
pub(crate) fn op_msg(ids: (i32, i32), flags: u32, document: &bson::Document) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let document = document.to_vec().expect("a document has bytes");
    OpMsg::new(flags, &document).encode(ids.0, ids.1, &mut frame).expect("a short message");
    frame.to_vec()
}

/// An `OP_REPLY` of one document.
pub(crate) fn op_reply(ids: (i32, i32), document: &bson::Document) -> Vec<u8> {
    let mut frame = BytesMut::new();
    let documents = document.to_vec().expect("a document has bytes");
    let reply = OpReply { flags: 8, cursor_id: 0, starting_from: 0, number_returned: 1, documents: &documents };
    reply.encode(ids.0, ids.1, &mut frame).expect("a short message");
    frame.to_vec()
}

/// The message compressed.
pub(crate) fn compressed(frame: &[u8], compressor: Compressor) -> Vec<u8> {
    let mut compressed = BytesMut::new();
    compress(frame, compressor, &mut compressed).expect("a message compresses");
    compressed.to_vec()
}
