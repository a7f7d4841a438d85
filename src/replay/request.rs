//! A request as a server reads it, the form in which it wants its answer, and a reply as a client reads it.

use bytes::BytesMut;

use crate::bson::{Elements, find};
use crate::session::{is_sensitive, merged, query_command};
use crate::wire::{Compressor, Header, Message, OpMsg, OpReply, WireError, compress, msg_flags, reply_flags};

/// A command that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The message's `requestID`.
    pub id: i32,
    /// The database, from `$db` or from `OP_QUERY`'s collection.
    pub database: String,
    /// The command as BSON: as sent, an `OP_MSG`'s document sequences merged in as arrays.
    pub command: Vec<u8>,
    /// Whether an answer is wanted: not by an `OP_MSG` with `moreToCome`.
    pub answered: bool,
    /// Whether several answers are welcome: an `OP_MSG` with `exhaustAllowed`.
    pub exhaust_allowed: bool,
    /// What it was compressed with; so is the answer.
    pub compressor: Option<Compressor>,
    form: Form,
}

/// What the answer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    Msg { checksum: bool },
    Reply,
}

impl Request {
    /// Reads a whole message; an `OP_COMPRESSED` may hold `inflate_max` bytes.
    ///
    /// # Errors
    /// If it cannot be read, or is not a command: the other legacy opcodes, which servers since 5.1 refuse too, and
    /// `OP_QUERY` on a collection.
    pub fn decode(frame: &[u8], inflate_max: usize) -> Result<Self, WireError> {
        opened(frame, inflate_max, Self::read)
    }

    fn read(header: &Header, message: &Message<'_>, compressor: Option<Compressor>) -> Result<Self, WireError> {
        let refused = WireError::OpCode(header.op_code.as_i32());
        let (database, command, form, flags) = match message {
            Message::Msg(message) => {
                let command = merged(message).into_owned();
                let database = find(&command, b"$db").and_then(|element| element.as_str()).unwrap_or_default();
                let form = Form::Msg { checksum: message.has(msg_flags::CHECKSUM_PRESENT) };
                (database.to_owned(), command, form, message.flags)
            }
            Message::Query(query) => {
                let (database, command) = query_command(query).ok_or(refused)?;
                (database.into_owned(), command.into_owned(), Form::Reply, 0)
            }
            _ => return Err(refused),
        };
        Ok(Self {
            id: header.request_id,
            database,
            command,
            answered: flags & msg_flags::MORE_TO_COME == 0,
            exhaust_allowed: flags & msg_flags::EXHAUST_ALLOWED != 0,
            compressor,
            form,
        })
    }

    /// The command's name: its first field's. Empty if it has none.
    pub fn name(&self) -> &str {
        name_of(&self.command)
    }

    /// Whether it is `hello` or legacy hello.
    pub fn is_hello(&self) -> bool {
        matches!(self.name(), "hello" | "isMaster" | "ismaster")
    }

    /// Whether it carries credentials, and so is shown nowhere (Command Monitoring specification, "Security").
    pub fn is_sensitive(&self) -> bool {
        is_sensitive(self.name()) || find(&self.command, b"speculativeAuthenticate").is_some()
    }

    /// Writes the message that answers with `document`, in the form that was asked.
    ///
    /// # Errors
    /// If it is too long for a message.
    pub(super) fn encode_reply(
        &self,
        document: &[u8],
        request_id: i32,
        more_to_come: bool,
        dst: &mut BytesMut,
    ) -> Result<(), WireError> {
        let mut plain = BytesMut::new();
        match self.form {
            Form::Msg { checksum } => {
                let flag = |is_set, flag| if is_set { flag } else { 0 };
                let flags = flag(checksum, msg_flags::CHECKSUM_PRESENT) | flag(more_to_come, msg_flags::MORE_TO_COME);
                OpMsg::new(flags, document).encode(request_id, self.id, &mut plain)?;
            }
            Form::Reply => {
                let flags = reply_flags::AWAIT_CAPABLE;
                let reply = OpReply { flags, cursor_id: 0, starting_from: 0, number_returned: 1, documents: document };
                reply.encode(request_id, self.id, &mut plain)?;
            }
        }
        match self.compressor {
            Some(compressor) => compress(&plain, compressor, dst),
            None => {
                dst.extend_from_slice(&plain);
                Ok(())
            }
        }
    }
}

/// The name of a command's first field.
pub(super) fn name_of(command: &[u8]) -> &str {
    let first = Elements::new(command).ok().and_then(|mut elements| elements.next()?.ok());
    first.and_then(|element| std::str::from_utf8(element.name).ok()).unwrap_or_default()
}

/// A reply as a client reads it.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The `requestID` that it answers.
    pub(crate) response_to: i32,
    /// The document as BSON.
    pub(crate) document: Vec<u8>,
}

/// Reads a whole reply.
///
/// # Errors
/// If it cannot be read, or is neither an `OP_MSG` nor an `OP_REPLY` with a document.
pub(crate) fn decode_reply(frame: &[u8], inflate_max: usize) -> Result<Reply, WireError> {
    opened(frame, inflate_max, |header, message, _| {
        let document = match message {
            Message::Msg(message) => merged(message).into_owned(),
            Message::Reply(reply) => {
                let none = WireError::Short { field: "reply document", needed: 5, had: 0 };
                reply.iter().next().ok_or(none)?.to_vec()
            }
            _ => return Err(WireError::OpCode(header.op_code.as_i32())),
        };
        Ok(Reply { response_to: header.response_to, document })
    })
}

/// Decodes a message, out of its compression if it is compressed, for `read`.
fn opened<T>(
    frame: &[u8],
    inflate_max: usize,
    read: impl FnOnce(&Header, &Message<'_>, Option<Compressor>) -> Result<T, WireError>,
) -> Result<T, WireError> {
    let (header, message) = Message::decode(frame)?;
    let Message::Compressed(compressed) = message else { return read(&header, &message, None) };
    let mut inflated = Vec::new();
    compressed.inflate(&header, inflate_max, &mut inflated)?;
    let (header, message) = Message::decode(&inflated)?;
    read(&header, &message, Some(compressed.compressor))
}

#[cfg(test)]
pub(super) mod testing {
    //! Requests for the tests of what answers them.

    use bson::raw::RawDocument;

    use super::*;

    /// A command as a driver's message brings it.
    pub(in crate::replay) fn request(command: &RawDocument) -> Request {
        request_with(1, 0, command)
    }

    /// The same under that id and with those flags.
    pub(in crate::replay) fn request_with(id: i32, flags: u32, command: &RawDocument) -> Request {
        let mut frame = BytesMut::new();
        OpMsg::new(flags, command.as_bytes()).encode(id, 0, &mut frame).unwrap();
        Request::decode(&frame, 1 << 20).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::wire::{OpQuery, Sequence};

    const MAX: usize = 1 << 20;

    fn answer(request: &Request) -> (Header, Vec<u8>) {
        let mut frame = BytesMut::new();
        request.encode_reply(rawdoc! { "ok": 1.0 }.as_bytes(), 77, false, &mut frame).unwrap();
        assert_eq!(decode_reply(&frame, MAX).unwrap().response_to, request.id);
        (Message::decode(&frame).unwrap().0, frame.to_vec())
    }

    #[test]
    fn sequences_are_merged_and_flags_read() {
        let body = rawdoc! { "insert": "c", "$db": "d" };
        let documents = rawdoc! { "_id": 1 };
        let sequence = Sequence { identifier: b"documents", documents: documents.as_bytes() };
        let flags = msg_flags::MORE_TO_COME | msg_flags::EXHAUST_ALLOWED;
        let message = OpMsg { sequences: vec![sequence], ..OpMsg::new(flags, body.as_bytes()) };
        let mut frame = BytesMut::new();
        message.encode(-5, 0, &mut frame).unwrap();
        let request = Request::decode(&frame, MAX).unwrap();
        let expected = rawdoc! { "insert": "c", "$db": "d", "documents": [{ "_id": 1 }] };
        assert_eq!((request.id, request.database.as_str(), request.name()), (-5, "d", "insert"));
        assert_eq!(request.command, expected.as_bytes());
        assert!(!request.answered && request.exhaust_allowed);
    }

    #[test]
    fn answers_have_the_form_of_the_question() {
        let ping = rawdoc! { "ping": 1, "$db": "admin" };
        let mut plain = BytesMut::new();
        OpMsg::new(msg_flags::CHECKSUM_PRESENT, ping.as_bytes()).encode(9, 0, &mut plain).unwrap();
        let (_, frame) = answer(&Request::decode(&plain, MAX).unwrap());
        assert!(matches!(Message::decode(&frame), Ok((_, Message::Msg(it))) if it.has(msg_flags::CHECKSUM_PRESENT)));
        for compressor in [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
            let mut compressed = BytesMut::new();
            compress(&plain, compressor, &mut compressed).unwrap();
            let request = Request::decode(&compressed, MAX).unwrap();
            assert_eq!((request.command.as_slice(), request.id), (ping.as_bytes(), 9));
            let (_, frame) = answer(&request);
            assert!(matches!(Message::decode(&frame), Ok((_, Message::Compressed(it))) if it.compressor == compressor));
        }
    }

    #[test]
    fn old_queries_get_old_replies() {
        let command = rawdoc! { "isMaster": 1 };
        let mut query = OpQuery {
            flags: 0,
            full_collection_name: b"admin.$cmd",
            number_to_skip: 0,
            number_to_return: -1,
            query: command.as_bytes(),
            return_fields_selector: None,
        };
        let mut frame = BytesMut::new();
        query.encode(3, &mut frame).unwrap();
        let request = Request::decode(&frame, MAX).unwrap();
        assert_eq!((request.name(), request.database.as_str()), ("isMaster", "admin"));
        let (_, frame) = answer(&request);
        assert!(matches!(Message::decode(&frame), Ok((_, Message::Reply(it))) if it.number_returned == 1));
        query.full_collection_name = b"shop.orders";
        let mut frame = BytesMut::new();
        query.encode(4, &mut frame).unwrap();
        assert_eq!(Request::decode(&frame, MAX), Err(WireError::OpCode(2004)));
    }
}
