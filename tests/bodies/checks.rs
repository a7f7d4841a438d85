//! What holds of any message and of any session's events, whatever the bytes.

use std::collections::BTreeSet;

use bytes::BytesMut;

use mongotap::bson::cut::RESERVE;
use mongotap::bson::json::{self, Mode};
use mongotap::event::{Document, Event, Failure};
use mongotap::session::Limits;
use mongotap::wire::{Header, Message, OpCode, Reader, msg_flags};

/// A document as relaxed Extended JSON.
pub(crate) fn text(document: &[u8]) -> String {
    let mut out = Vec::new();
    json::write_document(document, Mode::Relaxed, &mut out);
    String::from_utf8(out).unwrap()
}

/// Writes a message; `None` for a compressed one, whose bytes are the compressor's business.
pub(crate) fn encode(header: &Header, message: &Message<'_>) -> Option<Vec<u8>> {
    let mut out = BytesMut::new();
    let (id, to) = (header.request_id, header.response_to);
    match message {
        Message::Compressed(_) => return None,
        Message::Delete(it) => it.encode(id, &mut out),
        Message::GetMore(it) => it.encode(id, &mut out),
        Message::Insert(it) => it.encode(id, &mut out),
        Message::KillCursors(it) => it.encode(id, &mut out),
        Message::Msg(it) => it.encode(id, to, &mut out),
        Message::Query(it) => it.encode(id, &mut out),
        Message::Reply(it) => it.encode(id, to, &mut out),
        Message::Update(it) => it.encode(id, &mut out),
    }
    .unwrap();
    Some(out.to_vec())
}

/// `bytes` with what is not kept of a message set to what is always written: the length; and in legacy requests
/// `responseTo`, and the reserved zero.
pub(crate) fn normal(bytes: &[u8], op_code: OpCode) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let length = i32::try_from(bytes.len()).unwrap();
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    if !matches!(op_code, OpCode::Msg | OpCode::Reply) {
        bytes[8..12].fill(0);
    }
    if matches!(op_code, OpCode::Update | OpCode::Delete | OpCode::GetMore | OpCode::KillCursors) {
        bytes[16..20].fill(0);
    }
    bytes
}

/// Holds a message that can be decoded against what is encoded of it.
pub(crate) fn check_round_trip(bytes: &[u8]) {
    let Ok((header, message)) = Message::decode(bytes) else { return };
    let Some(encoded) = encode(&header, &message) else { return };
    let normal = normal(bytes, header.op_code);
    match &message {
        // A wrong length is a wrong checksum too.
        Message::Msg(it) if it.has(msg_flags::CHECKSUM_PRESENT) => {
            assert_eq!(encoded[4..bytes.len() - 4], normal[4..bytes.len() - 4])
        }
        _ => assert_eq!(encoded, normal),
    }
}

/// What holds of any session's events.
pub(crate) fn check_events(events: &[Event<'_>], limits: &Limits) {
    let mut open = BTreeSet::new();
    let (mut closed, mut beating) = (0, 0);
    for event in events {
        assert_eq!(closed, 0, "an event after the connection's end: {event:?}");
        match event {
            Event::CommandStarted(it) => {
                assert!(open.insert(it.info.exchange), "started twice: {event:?}");
                check_document(&it.command, limits);
            }
            Event::CommandSucceeded(it) => {
                assert!(open.remove(&it.info.exchange), "an end without a start: {event:?}");
                check_document(&it.reply, limits);
            }
            Event::CommandFailed(it) => {
                assert!(open.remove(&it.info.exchange), "an end without a start: {event:?}");
                if let Failure::Reply(document) = &it.failure {
                    check_document(document, limits);
                }
            }
            Event::ConnectionClosed(_) => closed += 1,
            Event::ProtocolError(it) => {
                assert!(it.message.len() < 200 && it.message.is_ascii(), "{event:?}");
                assert!(!it.message.contains(char::is_control), "{event:?}");
            }
            Event::ServerHeartbeatStarted(_) => beating += 1,
            Event::ServerHeartbeatSucceeded(_) | Event::ServerHeartbeatFailed(_) => {
                assert!(beating > 0, "an end without a start: {event:?}");
                beating -= 1;
            }
            Event::ConnectionCreated(_) | Event::ConnectionReady(_) => {}
            event => assert!(!event.is_derived(), "a session derives nothing: {event:?}"),
        }
    }
    assert!(open.is_empty(), "started and never ended: {open:?}");
    assert_eq!(beating, 0, "heartbeats without an end");
}

pub(crate) fn check_document(document: &Document<'_>, limits: &Limits) {
    let bytes = document.as_bytes();
    let length = Reader::new(bytes).i32_le("document").unwrap();
    assert_eq!(usize::try_from(length).unwrap(), bytes.len());
    if limits.max_document_bytes != 0 {
        assert!(bytes.len() <= limits.max_document_bytes + RESERVE, "{} bytes", bytes.len());
    }
    // Whatever the bytes are, a log line is one JSON object.
    serde_json::from_str::<serde_json::Map<_, _>>(&text(bytes)).unwrap();
}
