//! Records ⇄ bytes.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::event::{
    Address, Compressor, Connection, ConnectionId, Exchange, Given, GivenMessage, Input, Original, Side, Timestamp,
    nanos,
};
use crate::redact::Redacted;
use crate::wire::HEADER_LEN;

/// Something that was recorded.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// What a session was given.
    Input(Input<'static>),
    /// A connection that was opened in an earlier file of the run goes on in this one.
    Carried {
        /// When it was opened.
        at: Timestamp,
        /// The connection.
        connection: Arc<Connection>,
    },
    /// Exchanges were not recorded.
    Missing {
        /// When it was noticed.
        at: Timestamp,
        /// How many.
        exchanges: u64,
        /// How many bytes their messages have.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// The run is over.
    Ended {
        /// When.
        at: Timestamp,
    },
}

impl Record {
    /// When it happened.
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Input(input) => input.at,
            Self::Carried { at, .. } | Self::Missing { at, .. } | Self::Ended { at } => *at,
        }
    }
}

const OPENED: u8 = 1;
const MESSAGE: u8 = 2;
const BEGUN: u8 = 3;
const SENT: u8 = 4;
const TICK: u8 = 5;
const WITHHELD: u8 = 6;
const CLOSED: u8 = 7;
const MISSING: u8 = 8;
const ENDED: u8 = 9;
const JUDGED: u8 = 10;

const FROM_SERVER: u16 = 1;
const TOOK: u16 = 2;
const SENT_AFTER: u16 = 4;
const EXCHANGE: u16 = 8;
const CONTINUED: u16 = 16;
const ORIGINAL: u16 = 32;
const FLAG_BITS: u16 = 64;
const UNREAD: u16 = 128;
const ALL: u16 = 255;

const COMPRESSORS: [Compressor; 4] = [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];

/// Bytes of a record before those that its length counts.
const HEAD_LEN: usize = 5;

/// Records as bytes, with what an index wants to know of them. Only what has been through the redactor gets in.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    /// The first and the last time, and the least and the greatest connection; `None` if there is none.
    pub(super) span: Option<Span>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) times: (u64, u64),
    pub(super) connections: (u64, u64),
}

impl Span {
    pub(super) fn with(self, other: Self) -> Self {
        let ((first, last), (least, greatest)) = (self.times, self.connections);
        Self {
            times: (first.min(other.times.0), last.max(other.times.1)),
            connections: (least.min(other.connections.0), greatest.max(other.connections.1)),
        }
    }
}

impl Records {
    /// The records, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Forgets them, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.span = None;
    }

    /// Appends what others hold.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.cover(other.span);
    }

    /// The same, without a copy if it can be.
    pub fn take(&mut self, other: Self) {
        if self.bytes.is_empty() { *self = other } else { self.append(&other) }
    }

    /// Appends what a session was given.
    pub fn push(&mut self, input: &Redacted<Input<'_>>) {
        self.push_input(input);
    }

    /// Appends what was read from a capture, where it is only since it has been through the redactor.
    pub fn push_record(&mut self, record: &Record) {
        match record {
            Record::Input(input) => self.push_input(input),
            Record::Carried { at, connection } => self.push_carried(connection, *at),
            Record::Missing { at, exchanges, bytes, reason } => self.push_missing(*at, *exchanges, *bytes, reason),
            Record::Ended { at } => self.push_ended(*at),
        }
    }

    fn push_input(&mut self, input: &Input<'_>) {
        let (connection, at) = (input.connection.0, input.at);
        match &input.given {
            Given::Opened(opened) => self.put(OPENED, connection, at, |out| put_opened(opened, false, out)),
            Given::Message(message) => self.put(MESSAGE, connection, at, |out| put_message(message, out)),
            Given::Begun { side, bytes } => self.put(BEGUN, connection, at, |out| {
                out.push(number_of(*side));
                out.extend_from_slice(bytes);
            }),
            Given::Sent => self.put(SENT, connection, at, |_| {}),
            Given::Judged { is_monitor } => self.put(JUDGED, connection, at, |out| out.push(u8::from(*is_monitor))),
            Given::Tick => self.put(TICK, connection, at, |_| {}),
            Given::Withheld { side, message } => self.put(WITHHELD, connection, at, |out| {
                out.push(number_of(*side));
                put_text(message, out);
            }),
            Given::Closed { by, error } => self.put(CLOSED, connection, at, |out| {
                out.extend_from_slice(&[by.map_or(2, number_of), u8::from(error.is_some())]);
                put_text(error.as_deref().unwrap_or_default(), out);
            }),
        }
    }

    /// Appends that a connection was opened in an earlier file.
    pub fn push_carried(&mut self, connection: &Connection, at: Timestamp) {
        self.put(OPENED, connection.id.0, at, |out| put_opened(connection, true, out));
    }

    /// Appends that exchanges are missing.
    pub fn push_missing(&mut self, at: Timestamp, exchanges: u64, bytes: u64, reason: &str) {
        self.put(MISSING, 0, at, |out| {
            put_varint(exchanges, out);
            put_varint(bytes, out);
            put_text(reason, out);
        });
    }

    /// Appends the end of the run.
    pub fn push_ended(&mut self, at: Timestamp) {
        self.put(ENDED, 0, at, |_| {});
    }

    fn put(&mut self, kind: u8, connection: u64, at: Timestamp, content: impl FnOnce(&mut Vec<u8>)) {
        let out = &mut self.bytes;
        out.extend_from_slice(&[kind, 0, 0, 0, 0]);
        let start = out.len();
        put_varint(connection, out);
        out.extend_from_slice(&at.monotonic_nanos.to_le_bytes());
        out.extend_from_slice(&at.unix_micros.to_le_bytes());
        content(out);
        // A message at most, whose length has 31 bits, and a few dozen bytes.
        let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
        out[start - 4..start].copy_from_slice(&length.to_le_bytes());
        let connections = if connection == 0 { (u64::MAX, 0) } else { (connection, connection) };
        self.cover(Some(Span { times: (at.monotonic_nanos, at.monotonic_nanos), connections }));
    }

    fn cover(&mut self, span: Option<Span>) {
        self.span = match (self.span, span) {
            (Some(one), Some(other)) => Some(one.with(other)),
            (one, other) => one.or(other),
        };
    }
}

fn number_of(side: Side) -> u8 {
    match side {
        Side::Client => 0,
        Side::Server => 1,
    }
}

fn put_opened(connection: &Connection, carried: bool, out: &mut Vec<u8>) {
    put_text(&connection.client, out);
    put_text(&connection.upstream, out);
    put_text(&connection.server.host, out);
    out.push(u8::from(connection.server.port.is_some()));
    out.extend_from_slice(&connection.server.port.unwrap_or_default().to_le_bytes());
    out.extend_from_slice(&[u8::from(connection.tls), u8::from(carried)]);
}

fn put_message(message: &GivenMessage<'_>, out: &mut Vec<u8>) {
    let original = message.original.as_ref();
    let flag_bits = original.and_then(|original| original.flags);
    let unread = original.and_then(|original| original.unread.as_deref());
    let set = |flag: u16, is_set: bool| if is_set { flag } else { 0 };
    let flags = set(FROM_SERVER, message.side == Side::Server)
        | set(TOOK, !message.took.is_zero())
        | set(SENT_AFTER, message.sent_after.is_some())
        | set(EXCHANGE, message.exchange.is_some())
        | set(CONTINUED, message.continued.is_some())
        | set(ORIGINAL, original.is_some())
        | set(FLAG_BITS, flag_bits.is_some())
        | set(UNREAD, unread.is_some());
    out.extend_from_slice(&flags.to_le_bytes());
    if !message.took.is_zero() {
        put_varint(nanos(message.took), out);
    }
    let sent_after = message.sent_after.map(nanos);
    for number in [sent_after, message.exchange.map(|it| it.0), message.continued.map(|it| it.0)].into_iter().flatten()
    {
        put_varint(number, out);
    }
    if let Some(original) = original {
        out.extend_from_slice(&original.length.to_le_bytes());
        let compressor = original.compressor.and_then(|it| COMPRESSORS.iter().position(|known| *known == it));
        out.push(compressor.map_or(0, |at| at as u8 + 1));
    }
    if let Some(bits) = flag_bits {
        out.extend_from_slice(&bits.to_le_bytes());
    }
    if let Some(unread) = unread {
        put_text(unread, out);
    }
    out.extend_from_slice(&message.bytes);
}

pub(super) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    put_varint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// Takes numbers and texts from the front of some bytes. What is not there is said in a word.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or("a record is too short")?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("a record is too short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.array().map(|[byte]| byte)
    }

    fn bool(&mut self) -> Result<bool, &'static str> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a record has neither 0 nor 1 where it must"),
        }
    }

    fn side(&mut self) -> Result<Side, &'static str> {
        self.bool().map(|is_server| if is_server { Side::Server } else { Side::Client })
    }

    pub(super) fn u64(&mut self) -> Result<u64, &'static str> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err("a number in a record is too long")
    }

    fn text(&mut self) -> Result<String, &'static str> {
        let len = usize::try_from(self.varint()?).map_err(|_| "a text in a record is too long")?;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| "a text in a record is not UTF-8")?;
        Ok(text.to_owned())
    }
}

/// A record where it stands: a message's bytes are not copied.
pub(super) enum Standing<'a> {
    Message(ConnectionId, Timestamp, GivenMessage<'a>),
    Other(Record),
}

/// Takes the first record off `bytes`; `None` for one of a kind that is not known.
pub(super) fn decode(bytes: &mut &[u8]) -> Result<Option<Record>, &'static str> {
    Ok(decode_standing(bytes)?.map(|standing| match standing {
        Standing::Message(connection, at, message) => {
            Record::Input(Input { connection, at, given: Given::Message(message.into_owned()) })
        }
        Standing::Other(record) => record,
    }))
}

/// The same without a copy.
pub(super) fn decode_standing<'a>(bytes: &mut &'a [u8]) -> Result<Option<Standing<'a>>, &'static str> {
    let mut fields = Fields(bytes);
    let [kind, length @ ..] = fields.array::<HEAD_LEN>()?;
    let mut content = Fields(fields.take(u32::from_le_bytes(length) as usize)?);
    *bytes = fields.0;
    if !(OPENED..=JUDGED).contains(&kind) {
        return Ok(None);
    }
    let connection = ConnectionId(content.varint()?);
    let at = Timestamp { monotonic_nanos: content.u64()?, unix_micros: i64::from_le_bytes(content.array()?) };
    let given = match kind {
        OPENED => {
            let (opened, carried) = opened(connection, &mut content)?;
            if carried {
                return done(&content, Record::Carried { at, connection: opened });
            }
            Given::Opened(opened)
        }
        MESSAGE => return Ok(Some(Standing::Message(connection, at, message(content)?))),
        BEGUN => Given::Begun { side: content.side()?, bytes: Cow::Owned(content.take(content.0.len())?.to_vec()) },
        SENT => Given::Sent,
        JUDGED => Given::Judged { is_monitor: content.bool()? },
        TICK => Given::Tick,
        WITHHELD => Given::Withheld { side: content.side()?, message: content.text()?.into() },
        CLOSED => {
            let by = match content.u8()? {
                0 => Some(Side::Client),
                1 => Some(Side::Server),
                2 => None,
                _ => return Err("nobody known closed a connection"),
            };
            let (has_error, error) = (content.bool()?, content.text()?);
            Given::Closed { by, error: has_error.then(|| error.into()) }
        }
        MISSING => {
            let (exchanges, bytes, reason) = (content.varint()?, content.varint()?, content.text()?);
            return done(&content, Record::Missing { at, exchanges, bytes, reason });
        }
        _ => return done(&content, Record::Ended { at }),
    };
    done(&content, Record::Input(Input { connection, at, given }))
}

fn done<'a>(content: &Fields<'_>, record: Record) -> Result<Option<Standing<'a>>, &'static str> {
    if content.0.is_empty() { Ok(Some(Standing::Other(record))) } else { Err("a record is too long") }
}

fn opened(id: ConnectionId, content: &mut Fields<'_>) -> Result<(Arc<Connection>, bool), &'static str> {
    let (client, upstream, host) = (content.text()?, content.text()?, content.text()?);
    let (has_port, port) = (content.bool()?, u16::from_le_bytes(content.array()?));
    let server = Address { host, port: has_port.then_some(port) };
    let connection = Connection { id, client, upstream, server, tls: content.bool()? };
    Ok((Arc::new(connection), content.bool()?))
}

/// A message has all of its record.
fn message(mut content: Fields<'_>) -> Result<GivenMessage<'_>, &'static str> {
    let flags = u16::from_le_bytes(content.array()?);
    if flags & !ALL != 0 {
        return Err("a message has a flag that is not known");
    }
    let has = |flag: u16| flags & flag != 0;
    let mut varint = |flag: u16| if has(flag) { content.varint().map(Some) } else { Ok(None) };
    let took = varint(TOOK)?.unwrap_or_default();
    let (sent_after, exchange, continued) = (varint(SENT_AFTER)?, varint(EXCHANGE)?, varint(CONTINUED)?);
    let original = if has(ORIGINAL) { Some(original(flags, &mut content)?) } else { None };
    if content.0.len() < HEADER_LEN {
        return Err("a message is too short");
    }
    Ok(GivenMessage {
        side: if has(FROM_SERVER) { Side::Server } else { Side::Client },
        took: Duration::from_nanos(took),
        sent_after: sent_after.map(Duration::from_nanos),
        exchange: exchange.map(Exchange),
        continued: continued.map(Exchange),
        original,
        bytes: Cow::Borrowed(content.0),
    })
}

fn original(flags: u16, content: &mut Fields<'_>) -> Result<Original<'static>, &'static str> {
    let length = i32::from_le_bytes(content.array()?);
    let compressor = match content.u8()? {
        0 => None,
        number => Some(*COMPRESSORS.get(usize::from(number) - 1).ok_or("a compressor is not known")?),
    };
    let flag_bits = if flags & FLAG_BITS == 0 { None } else { Some(u32::from_le_bytes(content.array()?)) };
    let unread = if flags & UNREAD == 0 { None } else { Some(content.text()?.into()) };
    Ok(Original { length, compressor, flags: flag_bits, unread })
}
