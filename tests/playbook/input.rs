//! What may stand after `>>`. Numbers are decimal or `0x…`; documents are Extended JSON; `c2` before anything names another
//! connection than `c1`.
//!
//! ```text
//! at +5ms                        time passes (us, ms, s)
//! before +5ms                    what follows was noted so much earlier, by a thread that came no further
//! limits documents=80 inflate=200 message=1000
//! client op_msg id=7 to=0 [more] [exhaust] [flags=0x4] [checksum[=wrong]] [seq NAME [{…}]] {…} [seq NAME [{…}]]
//! client op_query id=7 NAMESPACE [flags=4] [skip=1] [return=-1] {…} [{…}]        server op_reply id=9 to=7 [flags=2] [cursor=5] [{…}]
//! client op_insert | op_update | op_delete id=7 NAMESPACE [flags=1] {…} …        client op_get_more id=7 NAMESPACE [return=2] cursor=5
//! client op_kill_cursors id=7 [5, 6]    client op_other id=7 code=2010           client hex 0f000000 …    client text "GET /"
//! … compressed zlib [announce=9]        … cut=20, and later: client rest         (of any message)
//! sent    tick    connect [server=127.0.0.1:27028] [client=10.0.0.1:5]    getters    close client|server|proxy ["error"]
//! topologies Single|Unknown|ReplicaSetNoPrimary|LoadBalanced [seeds=a:1,b:2] [set=rs] [upstream]    (before the first connection)
//! derive [end]                   what has settled is folded; at the end everything is, and closed
//! ```

use std::time::Duration;

use bson::Bson;
use bytes::{BufMut, BytesMut};
use serde_json::Value;

use mongotap::event::{Address, Compressor, Side, TopologyType};
use mongotap::session::Limits;
use mongotap::topology::{self, ClientsSettings};
use mongotap::wire::{
    OpDelete, OpGetMore, OpInsert, OpKillCursors, OpMsg, OpQuery, OpReply, OpUpdate, Sequence, compress, msg_flags,
};

type Result<T> = std::result::Result<T, String>;

/// One input line.
pub(crate) struct Input {
    pub(crate) connection: u64,
    pub(crate) action: Action,
}

pub(crate) enum Action {
    At(Duration),
    Before(Duration),
    Limits(Box<dyn FnOnce(&mut Limits)>),
    Bytes { side: Side, bytes: Vec<u8>, cut: Option<usize> },
    Rest(Side),
    Connect { server: Option<String>, client: Option<String> },
    Topologies(Box<ClientsSettings>),
    Derive { is_end: bool },
    Sent,
    Tick,
    Close { by: Option<Side>, error: Option<String> },
    Getters,
}

enum Token {
    Word(String),
    Json(Value),
}

fn tokens(mut line: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    loop {
        line = line.trim_start();
        let Some(first) = line.chars().next() else { return Ok(tokens) };
        if matches!(first, '{' | '[' | '"') {
            let mut values = serde_json::Deserializer::from_str(line).into_iter();
            let value = values.next().ok_or("no JSON")?.map_err(|error| format!("{error} in {line}"))?;
            tokens.push(Token::Json(value));
            line = &line[values.byte_offset()..];
        } else {
            let end = line.find(char::is_whitespace).unwrap_or(line.len());
            tokens.push(Token::Word(line[..end].to_owned()));
            line = &line[end..];
        }
    }
}

impl Input {
    /// Reads what stands after `>>`.
    pub(crate) fn parse(line: &str) -> Result<Self> {
        let mut words = Words { tokens: tokens(line)? };
        let number = |word: &str| word.strip_prefix('c').and_then(|digits| digits.parse().ok());
        let connection = match words.tokens.first() {
            Some(Token::Word(word)) => number(word),
            _ => None,
        };
        if connection.is_some() {
            words.tokens.remove(0);
        }
        let action = words.action()?;
        match words.tokens.first() {
            None => Ok(Self { connection: connection.unwrap_or(1), action }),
            Some(Token::Word(word)) => Err(format!("{word} is not understood here")),
            Some(Token::Json(value)) => Err(format!("{value} is not understood here")),
        }
    }
}

/// The words of a line, taken out one by one.
struct Words {
    tokens: Vec<Token>,
}

impl Words {
    fn word(&mut self) -> Result<String> {
        match (!self.tokens.is_empty()).then(|| self.tokens.remove(0)) {
            Some(Token::Word(word)) => Ok(word),
            Some(Token::Json(value)) => Err(format!("a word is expected, not {value}")),
            None => Err("a word is missing".into()),
        }
    }

    fn json(&mut self) -> Option<Value> {
        let at = self.tokens.iter().position(|token| matches!(token, Token::Json(_)))?;
        match self.tokens.remove(at) {
            Token::Json(value) => Some(value),
            Token::Word(_) => None,
        }
    }

    /// Whether the bare word is there.
    fn has(&mut self, word: &str) -> bool {
        let at = self.tokens.iter().position(|token| matches!(token, Token::Word(it) if it == word));
        at.map(|at| self.tokens.remove(at)).is_some()
    }

    /// The text of `key=text`.
    fn value(&mut self, key: &str) -> Option<String> {
        let is_key = |token: &Token| match token {
            Token::Word(word) => word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned),
            Token::Json(_) => None,
        };
        let (at, value) = self.tokens.iter().enumerate().find_map(|(at, token)| Some((at, is_key(token)?)))?;
        self.tokens.remove(at);
        Some(value)
    }

    fn topologies(&mut self) -> Result<ClientsSettings> {
        let name = self.word()?;
        let initial = TopologyType::from_name(&name).ok_or_else(|| format!("{name} is no topology"))?;
        let seeds = self.value("seeds").unwrap_or_else(|| "127.0.0.1:27027".to_owned());
        let seeds = seeds.split(',').map(Address::parse).collect();
        Ok(ClientsSettings {
            per_client: !self.has("upstream"),
            closed_after: Duration::from_secs(30),
            ended_after: Duration::from_millis(500),
            seeds: topology::Settings { seeds, initial, set_name: self.value("set"), possible_primary: false },
        })
    }

    /// The number of `key=number`.
    fn number<T: TryFrom<i64>>(&mut self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.value(key) else { return Ok(None) };
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        let number = parsed.and_then(|number| T::try_from(number).ok());
        number.map(Some).ok_or_else(|| format!("{key}={text} is no number for it"))
    }

    fn or_zero<T: TryFrom<i64> + Default>(&mut self, key: &str) -> Result<T> {
        Ok(self.number(key)?.unwrap_or_default())
    }

    fn action(&mut self) -> Result<Action> {
        let word = self.word()?;
        Ok(match word.as_str() {
            "at" => Action::At(duration(&self.word()?)?),
            "before" => Action::Before(duration(&self.word()?)?),
            "limits" => self.limits()?,
            "client" => self.bytes(Side::Client)?,
            "server" => self.bytes(Side::Server)?,
            "connect" => Action::Connect { server: self.value("server"), client: self.value("client") },
            "topologies" => Action::Topologies(Box::new(self.topologies()?)),
            "derive" => Action::Derive { is_end: self.has("end") },
            "sent" => Action::Sent,
            "tick" => Action::Tick,
            "getters" => Action::Getters,
            "close" => {
                let by = match self.word()?.as_str() {
                    "client" => Some(Side::Client),
                    "server" => Some(Side::Server),
                    "proxy" => None,
                    other => return Err(format!("{other} cannot close")),
                };
                Action::Close { by, error: self.json().and_then(|text| text.as_str().map(str::to_owned)) }
            }
            other => return Err(format!("{other} is no input")),
        })
    }

    fn limits(&mut self) -> Result<Action> {
        let (documents, inflate, message) =
            (self.number("documents")?, self.number("inflate")?, self.number("message")?);
        Ok(Action::Limits(Box::new(move |limits| {
            limits.max_document_bytes = documents.unwrap_or(limits.max_document_bytes);
            limits.inflate_max_bytes = inflate.unwrap_or(limits.inflate_max_bytes);
            limits.max_message_bytes = message.unwrap_or(limits.max_message_bytes);
        })))
    }

    fn bytes(&mut self, side: Side) -> Result<Action> {
        let kind = self.word()?;
        if kind == "rest" {
            return Ok(Action::Rest(side));
        }
        let cut = self.number("cut")?;
        let announce: Option<i32> = self.number("announce")?;
        let at = self.tokens.iter().position(|token| matches!(token, Token::Word(word) if word == "compressed"));
        let compressor = at.map(|at| {
            self.tokens.remove(at);
            if at < self.tokens.len() { self.tokens.remove(at) } else { Token::Word(String::new()) }
        });
        let mut bytes = self.message(&kind)?;
        if let Some(Token::Word(name)) = compressor {
            let compressor = Compressor::from_name(&name).ok_or_else(|| format!("{name} is no compressor"))?;
            let mut outer = BytesMut::new();
            compress(&bytes, compressor, &mut outer).map_err(|error| error.to_string())?;
            bytes = outer;
        }
        if let Some(announce) = announce {
            bytes[20..24].copy_from_slice(&announce.to_le_bytes());
        }
        Ok(Action::Bytes { side, bytes: bytes.to_vec(), cut })
    }

    fn message(&mut self, kind: &str) -> Result<BytesMut> {
        let mut out = BytesMut::new();
        match kind {
            "hex" => {
                let words = self.tokens.drain(..).map(|token| match token {
                    Token::Word(word) => Ok(word),
                    Token::Json(value) => Err(format!("{value} is no hex")),
                });
                let digits = words.collect::<Result<String>>()?;
                for pair in digits.as_bytes().chunks(2) {
                    let pair = std::str::from_utf8(pair).map_err(|error| error.to_string())?;
                    out.put_u8(u8::from_str_radix(pair, 16).map_err(|error| format!("{pair}: {error}"))?);
                }
                return Ok(out);
            }
            "text" => {
                let text = self.json().ok_or("no text")?;
                out.put_slice(text.as_str().ok_or("no text")?.as_bytes());
                return Ok(out);
            }
            _ => {}
        }
        let (id, to) = (self.or_zero("id")?, self.or_zero("to")?);
        let flags: i64 = self.or_zero("flags")?;
        let written = match kind {
            "op_msg" => self.op_msg(id, to, u32::try_from(flags).map_err(|error| error.to_string())?, &mut out)?,
            "op_other" => {
                let code: i32 = self.or_zero("code")?;
                [16, id, to, code].iter().for_each(|field| out.put_i32_le(*field));
                Ok(())
            }
            "op_reply" => {
                let cursor_id = self.or_zero("cursor")?;
                let all = documents(self.json().ok_or("no documents")?)?;
                let number_returned = i32::try_from(all.len()).map_err(|error| error.to_string())?;
                let flags = i32::try_from(flags).map_err(|error| error.to_string())?;
                OpReply { flags, cursor_id, starting_from: 0, number_returned, documents: &all.concat() }
                    .encode(id, to, &mut out)
            }
            "op_kill_cursors" => {
                let ids = self.json().ok_or("no cursors")?;
                let ids = ids.as_array().into_iter().flatten().filter_map(Value::as_i64);
                let cursor_ids: Vec<u8> = ids.flat_map(i64::to_le_bytes).collect();
                OpKillCursors { cursor_ids: &cursor_ids }.encode(id, &mut out)
            }
            _ => self.legacy(kind, id, i32::try_from(flags).map_err(|error| error.to_string())?, &mut out)?,
        };
        written.map_err(|error| error.to_string())?;
        Ok(out)
    }

    fn legacy(
        &mut self,
        kind: &str,
        id: i32,
        flags: i32,
        out: &mut BytesMut,
    ) -> Result<std::result::Result<(), mongotap::wire::WireError>> {
        let (number_to_return, number_to_skip) = (self.or_zero("return")?, self.or_zero("skip")?);
        let cursor_id = self.or_zero("cursor")?;
        let namespace = self.word()?;
        let full_collection_name = namespace.as_bytes();
        let mut all = Vec::new();
        while let Some(value) = self.json() {
            all.push(document(value)?);
        }
        let nth = |n: usize| all.get(n).map(Vec::as_slice).ok_or_else(|| format!("{kind} wants a document"));
        Ok(match kind {
            "op_query" => OpQuery {
                flags,
                full_collection_name,
                number_to_skip,
                number_to_return,
                query: nth(0)?,
                return_fields_selector: nth(1).ok(),
            }
            .encode(id, out),
            "op_insert" => OpInsert { flags, full_collection_name, documents: &all.concat() }.encode(id, out),
            "op_update" => OpUpdate { flags, full_collection_name, selector: nth(0)?, update: nth(1)? }.encode(id, out),
            "op_delete" => OpDelete { flags, full_collection_name, selector: nth(0)? }.encode(id, out),
            "op_get_more" => OpGetMore { full_collection_name, number_to_return, cursor_id }.encode(id, out),
            other => return Err(format!("{other} is no message")),
        })
    }

    fn op_msg(
        &mut self,
        id: i32,
        to: i32,
        flags: u32,
        out: &mut BytesMut,
    ) -> Result<std::result::Result<(), mongotap::wire::WireError>> {
        let checksum = self.value("checksum");
        let bits = [
            (checksum.is_some() || self.has("checksum"), msg_flags::CHECKSUM_PRESENT),
            (self.has("more"), msg_flags::MORE_TO_COME),
            (self.has("exhaust"), msg_flags::EXHAUST_ALLOWED),
        ];
        let flags = bits.iter().filter(|(set, _)| *set).fold(flags, |flags, (_, bit)| flags | bit);
        let (mut body, mut before, mut sequences) = (None, 0, Vec::new());
        let mut tokens = std::mem::take(&mut self.tokens).into_iter();
        while let Some(token) = tokens.next() {
            match token {
                Token::Json(value) => {
                    before = sequences.len();
                    body = Some(document(value)?);
                }
                Token::Word(word) if word == "seq" => match (tokens.next(), tokens.next()) {
                    (Some(Token::Word(name)), Some(Token::Json(all))) => {
                        sequences.push((name, documents(all)?.concat()));
                    }
                    _ => return Err("seq NAME [documents]".into()),
                },
                Token::Word(word) => return Err(format!("{word} is not understood here")),
            }
        }
        let body = body.ok_or("op_msg wants a body")?;
        let sequences = sequences
            .iter()
            .map(|(name, documents)| Sequence { identifier: name.as_bytes(), documents })
            .collect::<Vec<_>>();
        let message = OpMsg { flags, body: &body, sequences, sequences_before_body: before };
        let written = message.encode(id, to, out);
        if let (Some("wrong"), Some(last)) = (checksum.as_deref(), out.last_mut()) {
            *last ^= 1;
        }
        Ok(written)
    }
}

fn document(value: Value) -> Result<Vec<u8>> {
    match Bson::try_from(value).map_err(|error| error.to_string())? {
        Bson::Document(document) => document.to_vec().map_err(|error| error.to_string()),
        other => Err(format!("{other} is no document")),
    }
}

fn documents(value: Value) -> Result<Vec<Vec<u8>>> {
    let Value::Array(values) = value else { return Err(format!("{value} is no array of documents")) };
    values.into_iter().map(document).collect()
}

fn duration(text: &str) -> Result<Duration> {
    let wrong = || format!("{text} is no time like +5ms");
    let amount = text.strip_prefix('+').ok_or_else(wrong)?;
    let digits = amount.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match &amount[digits.len()..] {
        "us" => Ok(Duration::from_micros(number)),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        _ => Err(wrong()),
    }
}
