//! What a responder has its connection send, and when it wants to be called again.

use std::collections::VecDeque;
use std::sync::Arc;

use bson::raw::RawDocument;
use bytes::{Bytes, BytesMut};

use super::Request;
use super::follow::Followed;
use crate::event::Timestamp;

/// The answers of one connection, in order, on their way out.
#[derive(Debug, Default)]
pub struct Replies {
    frames: VecDeque<Bytes>,
    /// The `requestID` of the last message.
    last_id: i32,
    tick_at: Option<Timestamp>,
    on_change: bool,
    closed: bool,
    forward: Option<Forward>,
    followed: Option<Followed>,
}

/// What another server is to be asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// The question.
    pub request: Request,
    /// The `client.application.name` of who asks.
    pub app_name: Option<Arc<str>>,
    /// Who shares what was asked: what took place for them is to have taken place there.
    pub scope: Option<Arc<str>>,
}

impl Replies {
    /// Answers a request with a document, unless it wants no answer. A document that no message can hold closes the
    /// connection.
    pub fn reply(&mut self, request: &Request, document: &RawDocument) {
        if request.answered {
            self.send(request, document, false);
        }
    }

    /// Answers an exhaust request with a document after which more follow: the next answer, by this method or the
    /// other, names this one instead of the request.
    pub fn reply_with_more_to_come(&mut self, request: &mut Request, document: &RawDocument) {
        self.send(request, document, true);
        request.id = self.last_id;
    }

    /// Sends bytes as they are: half a message, a wrong one, one made elsewhere.
    pub fn bytes(&mut self, bytes: Bytes) {
        if !self.closed {
            self.frames.push_back(bytes);
        }
    }

    /// Has another server asked: its answer comes by [`forwarded`](super::Responder::forwarded).
    pub fn forward(&mut self, forward: Forward) {
        self.forward = Some(forward);
    }

    /// What another server is to be asked; asking again gives `None`.
    pub fn take_forward(&mut self) -> Option<Forward> {
        self.forward.take()
    }

    /// Has another server do too what was answered here, before it is asked anything.
    pub fn follow(&mut self, followed: Followed) {
        self.followed = Some(followed);
    }

    /// What another server is to do too; asking again gives `None`.
    pub fn take_followed(&mut self) -> Option<Followed> {
        self.followed.take()
    }

    /// Ends the connection once everything before has been sent; what comes after is not.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Asks for a [`tick`](super::Responder::tick) at that time. Until then no further request is read. Only the last
    /// wish counts.
    pub fn tick_at(&mut self, at: Timestamp) {
        self.tick_at = Some(at);
    }

    /// Asks for the tick earlier, once something has changed of what this connection answers from by what another one did.
    pub fn tick_on_change(&mut self) {
        self.on_change = true;
    }

    fn send(&mut self, request: &Request, document: &RawDocument, more_to_come: bool) {
        self.last_id = self.last_id.wrapping_add(1);
        let mut frame = BytesMut::new();
        match request.encode_reply(document.as_bytes(), self.last_id, more_to_come, &mut frame) {
            Ok(()) => self.bytes(frame.freeze()),
            Err(_) => self.close(),
        }
    }

    /// The next bytes to be sent.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        self.frames.pop_front()
    }

    /// When a tick is wanted; asking again gives `None`.
    pub fn take_tick(&mut self) -> Option<Timestamp> {
        self.tick_at.take()
    }

    /// Whether a tick is wanted earlier; asking again gives `false`.
    pub fn take_tick_on_change(&mut self) -> bool {
        std::mem::take(&mut self.on_change)
    }

    /// Whether the connection is to end after the last of the frames.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::replay::request::testing::request_with;
    use crate::wire::{Message, msg_flags};

    fn request(id: i32, flags: u32) -> Request {
        request_with(id, flags, &rawdoc! { "getMore": 1_i64, "collection": "c", "$db": "d" })
    }

    #[test]
    fn a_stream_names_its_own_messages() {
        let mut replies = Replies::default();
        let mut request = request(10, msg_flags::EXHAUST_ALLOWED);
        replies.reply_with_more_to_come(&mut request, &rawdoc! { "ok": 1.0 });
        replies.reply_with_more_to_come(&mut request, &rawdoc! { "ok": 1.0 });
        replies.reply(&request, &rawdoc! { "ok": 1.0 });
        let seen = std::iter::from_fn(|| replies.next_frame()).map(|frame| {
            let (header, message) = Message::decode(&frame).unwrap();
            (header.response_to, matches!(message, Message::Msg(message) if message.has(msg_flags::MORE_TO_COME)))
        });
        assert_eq!(seen.collect::<Vec<_>>(), [(10, true), (1, true), (2, false)]);
    }

    #[test]
    fn nothing_follows_an_end_and_no_answer_an_unacknowledged_write() {
        let mut replies = Replies::default();
        replies.reply(&request(1, msg_flags::MORE_TO_COME), &rawdoc! { "ok": 1.0 });
        assert_eq!(replies.next_frame(), None);
        replies.close();
        replies.reply(&request(2, 0), &rawdoc! { "ok": 1.0 });
        assert!(replies.next_frame().is_none() && replies.is_closed());
    }
}
