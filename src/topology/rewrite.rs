//! Replies to `hello` with other names for the members: a driver dials what they say, and is to dial the proxy.
//!
//! `hosts`, `passives`, `arbiters`, `primary` and `me` are all that a driver dials by. Their strings change, the lengths
//! of what contains them and the checksum if there is one; every other byte stays, in its place. Which name stands for
//! which is the caller's to say.

use bytes::BytesMut;

use crate::bson::rewrite::replace_strings;
use crate::bson::{BsonError, find};
use crate::wire::{Header, Message, OpMsg, OpReply, WireError, compress};

/// The fields with names of members.
const FIELDS: [&[u8]; 5] = [b"hosts", b"passives", b"arbiters", b"primary", b"me"];

/// Which names stand for which.
pub trait Names {
    /// Why there is no name.
    type Error;

    /// Notes the replica set that the server that answers is a member of. Comes before all else of the same reply.
    ///
    /// # Errors
    /// If it is none of those whose names may be given to anybody.
    fn answers_for(&mut self, set_name: &str) -> Result<(), Self::Error>;

    /// Notes what the server that answers calls itself. Comes before any question about the same reply.
    fn answers_as(&mut self, me: &str);

    /// The name to give in the place of a member's: `host:port`, as the set has it.
    ///
    /// # Errors
    /// If there is none, and so the reply must not be given to anybody.
    fn name_for(&mut self, member: &str) -> Result<String, Self::Error>;
}

/// Why a reply could not be rewritten.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RewriteError<E> {
    /// It is no message that can be read.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It is no document.
    #[error(transparent)]
    Bson(#[from] BsonError),
    /// A member's name is not text.
    #[error("a member's name is not UTF-8")]
    Utf8,
    /// A member has no other name.
    #[error("{0}")]
    Name(E),
}

/// The message with its members renamed; `None` if that changes nothing. Compressed messages are compressed again with
/// the same compressor, and may hold `inflate_max` bytes.
///
/// # Errors
/// If it is no reply that can be read, or a member has no name.
pub fn rewrite<N: Names>(
    frame: &[u8],
    inflate_max: usize,
    names: &mut N,
) -> Result<Option<BytesMut>, RewriteError<N::Error>> {
    let (header, message) = Message::decode(frame)?;
    let Message::Compressed(compressed) = message else { return rewrite_plain(&header, &message, names) };
    let mut plain = Vec::new();
    compressed.inflate(&header, inflate_max, &mut plain)?;
    let (header, message) = Message::decode(&plain)?;
    let Some(plain) = rewrite_plain(&header, &message, names)? else { return Ok(None) };
    let mut renamed = BytesMut::new();
    compress(&plain, compressed.compressor, &mut renamed)?;
    Ok(Some(renamed))
}

fn rewrite_plain<N: Names>(
    header: &Header,
    message: &Message<'_>,
    names: &mut N,
) -> Result<Option<BytesMut>, RewriteError<N::Error>> {
    let mut renamed = BytesMut::new();
    match message {
        Message::Msg(message) => {
            let Some(body) = rename(message.body, names)? else { return Ok(None) };
            let message = OpMsg { body: &body, ..message.clone() };
            message.encode(header.request_id, header.response_to, &mut renamed)?;
        }
        Message::Reply(reply) => {
            let mut is_changed = false;
            let mut documents = Vec::with_capacity(reply.documents.len());
            for document in reply.iter() {
                let other = rename(document, names)?;
                is_changed |= other.is_some();
                documents.extend_from_slice(other.as_deref().unwrap_or(document));
            }
            if !is_changed {
                return Ok(None);
            }
            let reply = OpReply { documents: &documents, ..*reply };
            reply.encode(header.request_id, header.response_to, &mut renamed)?;
        }
        _ => return Err(WireError::OpCode(header.op_code.as_i32()).into()),
    }
    Ok(Some(renamed))
}

/// The document of such a reply with its members renamed; `None` if that changes nothing.
///
/// # Errors
/// If it breaks, or a member has no name.
pub fn rename<N: Names>(document: &[u8], names: &mut N) -> Result<Option<Vec<u8>>, RewriteError<N::Error>> {
    if let Some(set_name) = find(document, b"setName").and_then(|element| element.as_str()) {
        names.answers_for(set_name).map_err(RewriteError::Name)?;
    }
    if let Some(me) = find(document, b"me").and_then(|element| element.as_str()) {
        names.answers_as(me);
    }
    replace_strings(document, &FIELDS, &mut |name| {
        let name = std::str::from_utf8(name).map_err(|_| RewriteError::Utf8)?;
        let other = names.name_for(name).map_err(RewriteError::Name)?;
        Ok((other != name).then_some(other))
    })
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::{Bson, Document, doc};
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Compressor, HEADER_LEN, msg_flags, update_checksum};

    /// Names by a rule; those with a `!` are nobody's.
    struct Rule<'a> {
        rule: &'a dyn Fn(&str) -> String,
        me: Vec<String>,
    }

    impl Names for Rule<'_> {
        type Error = String;

        fn answers_for(&mut self, set_name: &str) -> Result<(), String> {
            if set_name == "foreign" { Err(format!("{set_name} is another set")) } else { Ok(()) }
        }

        fn answers_as(&mut self, me: &str) {
            self.me.push(me.to_owned());
        }

        fn name_for(&mut self, member: &str) -> Result<String, String> {
            if member.contains('!') { Err(format!("{member} is nobody")) } else { Ok((self.rule)(member)) }
        }
    }

    fn renamed(frame: &[u8], rule: &dyn Fn(&str) -> String) -> Result<Option<BytesMut>, RewriteError<String>> {
        rewrite(frame, 1 << 20, &mut Rule { rule, me: Vec::new() })
    }

    /// The forms in which a reply can come.
    #[derive(Clone, Copy, Debug)]
    enum Form {
        Msg { flags: u32, sequences: usize, before: usize },
        Reply,
    }

    fn plain(form: Form, document: &[u8], ids: (i32, i32)) -> BytesMut {
        use crate::wire::Sequence;
        let mut frame = BytesMut::new();
        match form {
            Form::Msg { flags, sequences, before } => {
                let other = bson::rawdoc! { "me": "other:1" }.into_bytes();
                let names: Vec<_> = (0..sequences).map(|n| format!("s{n}")).collect();
                let sequences: Vec<_> =
                    names.iter().map(|name| Sequence { identifier: name.as_bytes(), documents: &other }).collect();
                let message = OpMsg { flags, body: document, sequences, sequences_before_body: before };
                message.encode(ids.0, ids.1, &mut frame).unwrap();
            }
            Form::Reply => {
                let reply =
                    OpReply { flags: 8, cursor_id: -7, starting_from: 3, number_returned: 1, documents: document };
                reply.encode(ids.0, ids.1, &mut frame).unwrap();
            }
        }
        frame
    }

    fn packed(plain: &[u8], compressor: Option<Compressor>) -> BytesMut {
        let mut frame = BytesMut::new();
        match compressor {
            Some(compressor) => compress(plain, compressor, &mut frame).unwrap(),
            None => frame.extend_from_slice(plain),
        }
        frame
    }

    /// The rule on a tree: what the rewriting of bytes is held against.
    fn by_tree(document: &Document, rule: &dyn Fn(&str) -> String) -> Document {
        let other = |value: &Bson| match value {
            Bson::String(text) => Bson::String(rule(text)),
            other => other.clone(),
        };
        let field = |(name, value): (&String, &Bson)| {
            let value = match (FIELDS.contains(&name.as_bytes()), value) {
                (true, Bson::Array(names)) => Bson::Array(names.iter().map(other).collect()),
                (true, value) => other(value),
                (false, value) => value.clone(),
            };
            (name.clone(), value)
        };
        document.iter().map(field).collect()
    }

    fn forms() -> impl Strategy<Value = Form> {
        let flags = proptest::sample::select(vec![0, msg_flags::MORE_TO_COME, 1 << 20]);
        let msg = (flags, any::<bool>(), 0..3_usize, 0..3_usize).prop_map(|(flags, checksum, sequences, before)| {
            let flags = if checksum { flags | msg_flags::CHECKSUM_PRESENT } else { flags };
            Form::Msg { flags, sequences, before: before.min(sequences) }
        });
        prop_oneof![3 => msg, 1 => Just(Form::Reply)]
    }

    fn compressors() -> impl Strategy<Value = Option<Compressor>> {
        use Compressor::{Noop, Snappy, Zlib, Zstd};
        proptest::sample::select(vec![None, Some(Noop), Some(Snappy), Some(Zlib), Some(Zstd)])
    }

    fn replies() -> impl Strategy<Value = Document> {
        let name = "[a-z]{1,12}:[0-9]{1,5}|\\[::[0-9a-f]{1,4}\\]:[0-9]{1,5}|";
        let value = prop_oneof![
            3 => name.prop_map(Bson::String),
            3 => proptest::collection::vec(name, 0..5).prop_map(Bson::from),
            1 => any::<i64>().prop_map(Bson::Int64),
            1 => Just(Bson::Document(doc! { "me": "nested:1", "hosts": ["nested:2"] })),
            1 => Just(Bson::Array(vec![Bson::Int32(1), Bson::String("mixed:1".into()), Bson::Null])),
        ];
        let field = "hosts|passives|arbiters|primary|me|setName|tags|errmsg|Hosts|mee";
        proptest::collection::vec((field, value), 0..9).prop_map(|fields| fields.into_iter().collect())
    }

    proptest! {
        /// For every form: all bytes are those of the message that holds the other names from the start.
        #[test]
        fn only_names_and_the_lengths_around_them_change(
            form in forms(), compressor in compressors(), reply in replies(), ids: (i32, i32), rule in 0..5_usize,
        ) {
            let rules: [&dyn Fn(&str) -> String; 5] = [
                &|name| name.to_owned(),
                &|name| format!("proxy.example.org:{}", name.len()),
                &|_| "p:1".to_owned(),
                &|_| "[2001:db8::1]:27017".to_owned(),
                &|_| String::new(),
            ];
            let rule = rules[rule];
            let before = packed(&plain(form, &reply.to_vec().unwrap(), ids), compressor);
            let other = by_tree(&reply, rule);
            let found = renamed(&before, rule).unwrap();
            prop_assert_eq!(found.is_some(), other != reply);
            if let Some(found) = found {
                prop_assert_eq!(found, packed(&plain(form, &other.to_vec().unwrap(), ids), compressor));
            }
        }

        #[test]
        fn whatever_bytes_come_there_is_an_answer(
            form in forms(), reply in replies(), at: proptest::sample::Index, byte: u8, cut: proptest::sample::Index,
        ) {
            let mut frame = plain(form, &reply.to_vec().unwrap(), (1, 2));
            let at = at.index(frame.len());
            frame[at] = byte;
            let _ = renamed(&frame, &|name| name.to_owned() + "x");
            let _ = renamed(&frame[..cut.index(frame.len())], &|name| name.to_owned() + "x");
        }
    }

    fn hello() -> RawDocumentBuf {
        bson::rawdoc! { "hosts": ["a:1", "[::1]:2"], "setName": "a:1", "primary": "a:1", "me": "[::1]:2", "ok": 1 }
    }

    /// Byte for byte, without any other code of ours: each difference is a name, or one of three lengths.
    #[test]
    fn by_hand() {
        let before = plain(Form::Msg { flags: 0, sequences: 0, before: 0 }, hello().as_bytes(), (5, 6));
        let after = renamed(&before, &|name| name.replace("a:1", "b:3")).unwrap().unwrap();
        let differ: Vec<_> = (0..before.len()).filter(|at| before[*at] != after[*at]).map(|at| after[at]).collect();
        assert_eq!((before.len(), differ.as_slice()), (after.len(), b"b3b3".as_slice()));

        let after = renamed(&before, &|name| name.replace("a:1", "bb:3")).unwrap().unwrap();
        let grown = after.windows(4).filter(|bytes| bytes == b"bb:3").count();
        assert_eq!((grown, after.len()), (2, before.len() + 2));
        let length = |frame: &[u8], at: usize| frame[at];
        let (message, document, hosts) = (0, HEADER_LEN + 5, HEADER_LEN + 5 + 4 + 7);
        for (at, more) in [(message, 2), (document, 2), (hosts, 1)] {
            assert_eq!(length(&after, at), length(&before, at) + more);
        }
    }

    #[test]
    fn the_answering_server_is_known_before_any_name_is_asked() {
        struct Order(Vec<String>);
        impl Names for Order {
            type Error = ();
            fn answers_for(&mut self, set_name: &str) -> Result<(), ()> {
                self.0.push(format!("for {set_name}"));
                Ok(())
            }
            fn answers_as(&mut self, me: &str) {
                self.0.push(format!("is {me}"));
            }
            fn name_for(&mut self, member: &str) -> Result<String, ()> {
                self.0.push(member.to_owned());
                Ok(member.to_owned())
            }
        }
        let mut order = Order(Vec::new());
        let frame = plain(Form::Reply, hello().as_bytes(), (1, 1));
        assert_eq!(rewrite(&frame, 1 << 20, &mut order), Ok(None));
        assert_eq!(order.0, ["for a:1", "is [::1]:2", "a:1", "[::1]:2", "a:1", "[::1]:2"]);
    }

    #[test]
    fn what_cannot_be_rewritten_is_not_passed_on() {
        let refused = |frame: &[u8]| renamed(frame, &|name| name.to_owned()).unwrap_err().to_string();
        let body = |names: Document| names.to_vec().unwrap();
        let msg = Form::Msg { flags: msg_flags::CHECKSUM_PRESENT, sequences: 0, before: 0 };
        assert_eq!(refused(&plain(msg, &body(doc! { "me": "who!:1" }), (1, 1))), "who!:1 is nobody");
        assert_eq!(refused(&plain(msg, &body(doc! { "setName": "foreign" }), (1, 1))), "foreign is another set");

        let mut wrong = plain(msg, hello().as_bytes(), (1, 1));
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        assert!(refused(&wrong).contains("checksum"));

        let mut not_text = plain(msg, &body(doc! { "me": "x:1" }), (1, 1));
        let at = not_text.windows(3).position(|bytes| bytes == b"x:1").unwrap();
        not_text[at] = 0xff;
        update_checksum(&mut not_text);
        assert_eq!(refused(&not_text), "a member's name is not UTF-8");

        let mut unknown = packed(&wrong, Some(Compressor::Noop));
        unknown[HEADER_LEN + 8] = 9;
        assert_eq!(refused(&unknown), "compressor id 9 is not known");
        let (mut query, command) = (BytesMut::new(), hello());
        let asked = crate::wire::OpQuery {
            flags: 0,
            full_collection_name: b"admin.$cmd",
            number_to_skip: 0,
            number_to_return: -1,
            query: command.as_bytes(),
            return_fields_selector: None,
        };
        asked.encode(1, &mut query).unwrap();
        assert_eq!(refused(&query), "opcode 2004 is not known");
        let large = packed(&plain(Form::Reply, hello().as_bytes(), (1, 1)), Some(Compressor::Zlib));
        let rule: &dyn Fn(&str) -> String = &|name| name.to_owned();
        let limited = rewrite(&large, 30, &mut Rule { rule, me: Vec::new() });
        assert!(limited.unwrap_err().to_string().contains("the limit is 30"));
    }
}
