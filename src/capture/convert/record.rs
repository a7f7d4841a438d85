//! A capture of a fixture: its exchanges as they would have been on the wire, recorded.
//!
//! They go through the same pipeline as live. Each application has a connection, with a handshake and a `buildInfo` for the
//! server's version; so has each request that was not answered, for its connection must have ended.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use bytes::BytesMut;

use super::CaptureWriter;
use crate::capture::exchange::Exchange;
use crate::capture::fixture::Header as FixtureHeader;
use crate::capture::mtap::{Header, Records};
use crate::event::{Address, Connection, ConnectionId, Side, Timestamp};
use crate::pipeline::{Pipeline, Tap};
use crate::session::{Limits, Shared};
use crate::wire::{MESSAGE_LEN_MAX, OpMsg, WireError, msg_flags};

/// Writes the capture.
///
/// # Errors
/// If it cannot be written, or an exchange is too long for a message; that of the exchanges.
pub fn record<E: From<io::Error>>(
    fixture: &FixtureHeader,
    exchanges: impl IntoIterator<Item = Result<Exchange, E>>,
    out: &mut dyn Write,
) -> Result<(), E> {
    let mut exchanges = exchanges.into_iter().peekable();
    let first = exchanges.peek().and_then(|it| it.as_ref().ok()).map(|exchange| exchange.at).unwrap_or_default();
    let started = shifted(first).before(BEFORE);
    let header = Header {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        run: "fixture".to_owned(),
        listen: LISTENER.to_owned(),
        upstream: SERVER.to_owned(),
        started_nanos: started.monotonic_nanos,
        started_micros: started.unix_micros,
        max_message_bytes: MESSAGE_LEN_MAX,
        inflate_max_bytes: MESSAGE_LEN_MAX,
        idle_after_micros: 15_000_000,
        redacted: fixture.redacted,
        redact: fixture.redact.clone(),
        ..Header::default()
    };
    let shared = Shared {
        limits: Limits { max_document_bytes: 0, ..header.limits() },
        idle_after: Duration::from_micros(header.idle_after_micros),
        ..Shared::default()
    };
    let mut recording = Recording {
        fixture,
        writer: CaptureWriter::new(&header, out)?,
        shared,
        taken: Arc::default(),
        lines: HashMap::new(),
        connections: 0,
        now: started,
    };
    for exchange in exchanges {
        recording.exchange(&exchange?)?;
    }
    Ok(recording.finish()?)
}

/// The handshakes come so long before the exchanges.
const BEFORE: Duration = Duration::from_millis(1);

const LISTENER: &str = "127.0.0.1:27027";
const SERVER: &str = "127.0.0.1:27017";

/// The time of a fixture on a clock that has run before.
fn shifted(at: Timestamp) -> Timestamp {
    Timestamp { monotonic_nanos: at.monotonic_nanos + 1_000_000_000, ..at }
}

struct Recording<'f, 'w> {
    fixture: &'f FixtureHeader,
    writer: CaptureWriter<'w>,
    shared: Shared,
    /// What was recorded and is not written yet.
    taken: Arc<Mutex<Records>>,
    /// The connections of the applications.
    lines: HashMap<Option<Arc<str>>, Line>,
    connections: u64,
    now: Timestamp,
}

/// A connection.
struct Line {
    pipeline: Pipeline,
    last_id: i32,
}

impl Recording<'_, '_> {
    fn exchange(&mut self, exchange: &Exchange) -> io::Result<()> {
        self.now = shifted(exchange.at);
        let app = exchange.app_name.clone();
        if exchange.wants_reply && exchange.replies.is_empty() {
            let mut line = self.connect(app.as_deref())?;
            line.exchange(exchange, self.now)?;
            line.pipeline.handle_close(Some(Side::Server), None, self.now, &mut |_| {});
            return self.write();
        }
        let mut line = match self.lines.remove(&app) {
            Some(line) => line,
            None => self.connect(app.as_deref())?,
        };
        line.exchange(exchange, self.now)?;
        self.lines.insert(app, line);
        self.write()
    }

    /// A new connection, with its handshake.
    fn connect(&mut self, app: Option<&str>) -> io::Result<Line> {
        self.connections += 1;
        let at = self.now.before(BEFORE);
        let connection = Connection {
            id: ConnectionId(self.connections),
            client: format!("127.0.0.1:{}", 50_000 + self.connections % 10_000),
            upstream: SERVER.to_owned(),
            server: Address::parse(LISTENER),
            tls: false,
        };
        let taken = Arc::clone(&self.taken);
        let tap: Tap = Box::new(move |input| taken.lock().unwrap_or_else(PoisonError::into_inner).push(input));
        let pipeline = Pipeline::recorded(Arc::new(connection), at, self.shared.clone(), tap);
        let mut line = Line { pipeline, last_id: 0 };
        let mut client = rawdoc! { "driver": { "name": "mongotap", "version": env!("CARGO_PKG_VERSION") } };
        if let Some(app) = app {
            client.append(bson::raw::cstr!("application"), rawdoc! { "name": app });
        }
        let hello = rawdoc! { "hello": 1, "helloOk": true, "client": client, "$db": "admin" };
        line.ask(hello.as_bytes(), &[self.fixture.hello.as_slice()], 0, at)?;
        let build_info: RawDocumentBuf = rawdoc! { "version": self.fixture.server.as_str(), "ok": 1.0 };
        let command = rawdoc! { "buildInfo": 1, "$db": "admin" };
        line.ask(command.as_bytes(), &[build_info.as_bytes()], 0, at)?;
        Ok(line)
    }

    /// Writes what was recorded.
    fn write(&mut self) -> io::Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.writer.records().append(&taken);
        taken.clear();
        drop(taken);
        self.writer.flush_full()
    }

    fn finish(mut self) -> io::Result<()> {
        if self.connections == 0 {
            // For what the header of the fixture says.
            let line = self.connect(None)?;
            self.lines.insert(None, line);
        }
        let mut lines: Vec<_> = std::mem::take(&mut self.lines).into_iter().collect();
        lines.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (_, mut line) in lines {
            line.pipeline.handle_close(Some(Side::Client), None, self.now, &mut |_| {});
        }
        self.write()?;
        self.writer.records().push_ended(self.now);
        self.writer.finish()
    }
}

impl Line {
    fn exchange(&mut self, exchange: &Exchange, at: Timestamp) -> io::Result<()> {
        let replies: Vec<_> = exchange.replies.iter().map(|reply| reply.body.as_slice()).collect();
        let flags = match exchange.wants_reply {
            false => msg_flags::MORE_TO_COME,
            true if replies.len() > 1 => msg_flags::EXHAUST_ALLOWED,
            true => 0,
        };
        self.ask(&exchange.request, &replies, flags, at)
    }

    fn ask(&mut self, request: &[u8], replies: &[&[u8]], flags: u32, at: Timestamp) -> io::Result<()> {
        let mut asked = self.next_id();
        let frame = frame(request, flags, asked, 0)?;
        self.pipeline.handle_sent_bytes(&frame, at, at, &mut |_| {});
        for (place, reply) in replies.iter().enumerate() {
            let flags = if place + 1 < replies.len() { msg_flags::MORE_TO_COME } else { 0 };
            let id = self.next_id();
            self.pipeline.handle_bytes(Side::Server, &self::frame(reply, flags, id, asked)?, at, &mut |_| {});
            asked = id;
        }
        Ok(())
    }

    fn next_id(&mut self) -> i32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

fn frame(body: &[u8], flags: u32, id: i32, to: i32) -> io::Result<BytesMut> {
    let mut frame = BytesMut::new();
    let too_long = |error: WireError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    OpMsg::new(flags, body).encode(id, to, &mut frame).map_err(too_long)?;
    Ok(frame)
}
