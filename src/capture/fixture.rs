//! The fixture format, version 1: recorded exchanges as JSON Lines, one line for each thing that may change by itself.
//!
//! ```json
//! {"mongotap":"fixture","version":1,"server":"6.0.5","recordedWith":"…","hello":{"isWritablePrimary":true,…}}
//! {"request":1,"body":{"insert":"orders","documents":[],"$db":"shop"}}
//! {"request":1,"documents":{"_id":1,"item":"tea"}}
//! {"reply":1,"body":{"n":1,"ok":1.0}}
//! ```
//!
//! See [`Fixture`] for the lines. Numbers count the exchanges from 1. A document is written as [`lossless`] says. There
//! are no times, session ids, cluster times or request ids in it, so the same questions in the same order give the same
//! file. Names for values that the client made up are not in this version.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::exchange::{self, Place, Reply};
use crate::bson::lossless::{self, Lossless};
use crate::bson::{Element, Elements, Kind, find};
use crate::event::{ConnectionId, Phase, Timestamp};

/// A recording.
///
/// The first line is the header: `mongotap` is `fixture`, `version` is 1, `server` is the version of the server that
/// answered, `recordedWith` the command that made the file, `hello` the reply to give to a `hello`, without what differs
/// from one connection to the next.
///
/// Then come, for each exchange, its lines: `{"request":N,"body":…}`, and for each reply `{"reply":N,"body":…}`. A
/// request that was not answered has none, an exhaust one may have several. The documents of a batch stand on lines of
/// their own after the body, which holds an empty array in their place: `documents`, `updates` or `deletes` of a
/// request, `cursor.firstBatch` or `cursor.nextBatch` of a reply, as in `{"reply":N,"cursor.firstBatch":…}`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fixture {
    /// What is known of the server and of how it was recorded.
    pub header: Header,
    /// The exchanges, in the order of their requests.
    pub exchanges: Vec<Exchange>,
}

/// The header of a [`Fixture`].
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// The server's version, `6.0.5`.
    pub server: String,
    /// The command that recorded it.
    pub recorded_with: String,
    /// The reply to `hello`, as BSON.
    pub hello: Vec<u8>,
}

/// A request and what it was answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// The line of the request's body, from 1.
    pub line: usize,
    /// The command, `$db` included, document sequences merged in, as BSON.
    pub request: Vec<u8>,
    /// The replies, as BSON.
    pub replies: Vec<Vec<u8>>,
}

/// Why a text is not a fixture.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct FixtureError {
    /// The line, from 1.
    pub line: usize,
    /// The column in bytes, from 1.
    pub column: usize,
    /// What was expected, and what there is.
    pub message: String,
}

/// 2500-01-01T00:00:00.500Z: no date that a program is written with lies as near to it as those that are made anew lie to
/// their exchanges.
const EPOCH_MICROS: i64 = 16_725_225_600_500_000;

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

/// The arrays whose documents have lines of their own.
const REQUEST_BATCHES: [&str; 3] = ["documents", "updates", "deletes"];
const REPLY_BATCHES: [&str; 2] = ["cursor.firstBatch", "cursor.nextBatch"];

impl Fixture {
    /// Reads a fixture.
    ///
    /// # Errors
    /// If a line is not what the format wants there.
    pub fn parse(text: &str) -> Result<Self, FixtureError> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let (_, first) = lines.next().unwrap_or((1, ""));
        let header = parse_header(first)?;
        let mut drafts = Vec::new();
        for (number, text) in lines {
            let line = serde_json::from_str::<Line>(text).map_err(|error| FixtureError::json(number, &error))?;
            add(line, number, &mut drafts).map_err(|message| FixtureError { line: number, column: 1, message })?;
        }
        Ok(Self { header, exchanges: drafts.into_iter().map(Draft::finish).collect() })
    }

    /// The exchanges as those of a capture. Their connection is 1, and their time is no real one: the first is half a second
    /// after the year 2500 began, each other a millisecond after the one before it.
    pub fn into_exchanges(self) -> impl Iterator<Item = exchange::Exchange> {
        self.exchanges.into_iter().zip(0..).map(|(it, millis)| {
            let at =
                Timestamp { monotonic_nanos: millis * 1_000_000, unix_micros: EPOCH_MICROS + millis as i64 * 1000 };
            exchange::Exchange {
                place: Place::Line(it.line as u64),
                connection: ConnectionId(1),
                app_name: None,
                phase: Phase::App,
                at,
                request: it.request,
                wants_reply: !it.replies.is_empty(),
                replies: it.replies.into_iter().map(|body| Reply { at, body }).collect(),
            }
        })
    }

    /// The text of the fixture.
    pub fn to_text(&self) -> String {
        let mut writer = Writer::new(&self.header);
        for exchange in &self.exchanges {
            writer.exchange(&exchange.request, &exchange.replies);
        }
        writer.finish()
    }
}

impl FixtureError {
    fn json(line: usize, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        // The place is told by the fields.
        let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message).to_owned();
        Self { line, column: error.column().max(1), message }
    }
}

/// Writes a fixture, exchange by exchange.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    exchanges: usize,
}

impl Writer {
    /// A fixture of no exchanges.
    pub fn new(header: &Header) -> Self {
        let mut writer = Self { out: Vec::new(), exchanges: 0 };
        let string = |text: &str| serde_json::Value::from(text).to_string();
        let (server, recorded_with) = (string(&header.server), string(&header.recorded_with));
        writer.put(&format!(
            r#"{{"mongotap":"fixture","version":{VERSION},"server":{server},"recordedWith":{recorded_with},"hello":"#
        ));
        lossless::write(&header.hello, &mut writer.out);
        writer.put("}\n");
        writer
    }

    /// Appends an exchange: the command with its `$db`, and its replies. What varies from one run to the next is left
    /// out of both.
    pub fn exchange(&mut self, request: &[u8], replies: &[impl AsRef<[u8]>]) {
        self.exchanges += 1;
        self.message("request", request, &REQUEST_BATCHES);
        for reply in replies {
            self.message("reply", reply.as_ref(), &REPLY_BATCHES);
        }
    }

    /// The text.
    pub fn finish(self) -> String {
        // Names and strings that are not UTF-8 are within base64.
        String::from_utf8(self.out).unwrap_or_default()
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn message(&mut self, side: &str, document: &[u8], batches: &[&'static str]) {
        let document = without(document, &VARYING);
        let found = batches.iter().find_map(|path| Some((*path, Batch::find(&document, path)?)));
        match found {
            None => self.line(side, "body", &document),
            Some((path, batch)) => {
                self.line(side, "body", &replace(&document, path, &array(std::iter::empty())));
                for item in batch.documents {
                    self.line(side, path, item);
                }
            }
        }
    }

    fn line(&mut self, side: &str, key: &str, document: &[u8]) {
        let number = self.exchanges;
        self.put(&format!(r#"{{"{side}":{number},"{key}":"#));
        lossless::write(document, &mut self.out);
        self.put("}\n");
    }
}

/// Fields that differ from run to run.
const VARYING: [&[u8]; 3] = [b"lsid", b"$clusterTime", b"operationTime"];

/// The document without the top-level fields of those names.
fn without(document: &[u8], names: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0; 4];
    for element in Elements::new(document).into_iter().flatten().flatten() {
        if !names.contains(&element.name) {
            put_element(&element, element.value, &mut out);
        }
    }
    end(out)
}

/// An array of nothing but documents, somewhere in a document.
struct Batch<'a> {
    documents: Vec<&'a [u8]>,
}

impl<'a> Batch<'a> {
    fn find(document: &'a [u8], path: &str) -> Option<Self> {
        let (outer, inner) = path.split_once('.').map_or((path, None), |(outer, inner)| (outer, Some(inner)));
        let mut element = find(document, outer.as_bytes())?;
        if let Some(inner) = inner {
            element = find(element.as_document()?, inner.as_bytes())?;
        }
        let items = Elements::new(element.as_array()?).ok()?.collect::<Result<Vec<_>, _>>().ok()?;
        let documents = items.iter().map(Element::as_document).collect::<Option<Vec<_>>>()?;
        // An array whose positions are not 0, 1, 2… could not be put together again.
        (array(documents.iter().copied()) == element.value).then_some(Self { documents })
    }
}

fn array<'d>(documents: impl Iterator<Item = &'d [u8]>) -> Vec<u8> {
    let mut out = vec![0; 4];
    for (index, document) in documents.enumerate() {
        out.push(Kind::Document as u8);
        out.extend_from_slice(index.to_string().as_bytes());
        out.push(0);
        out.extend_from_slice(document);
    }
    end(out)
}

/// The document with another array at `path`.
fn replace(document: &[u8], path: &str, array: &[u8]) -> Vec<u8> {
    let (outer, inner) = path.split_once('.').map_or((path, None), |(outer, inner)| (outer, Some(inner)));
    let mut out = vec![0; 4];
    let mut replaced = false;
    for element in Elements::new(document).into_iter().flatten().flatten() {
        if replaced || element.name != outer.as_bytes() {
            put_element(&element, element.value, &mut out);
            continue;
        }
        replaced = true;
        match inner {
            Some(inner) => put_element(&element, &replace(element.value, inner, array), &mut out),
            None => put_element(&element, array, &mut out),
        }
    }
    end(out)
}

fn put_element(element: &Element<'_>, value: &[u8], out: &mut Vec<u8>) {
    out.push(element.kind as u8);
    out.extend_from_slice(element.name);
    out.push(0);
    out.extend_from_slice(value);
}

/// Ends a document that began with four bytes for its length.
fn end(mut out: Vec<u8>) -> Vec<u8> {
    out.push(0);
    let len = i32::try_from(out.len()).unwrap_or(i32::MAX).to_le_bytes();
    out[..4].copy_from_slice(&len);
    out
}

#[derive(Deserialize)]
struct Opening {
    mongotap: String,
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    #[serde(rename = "mongotap")]
    _mongotap: IgnoredAny,
    #[serde(rename = "version")]
    _version: IgnoredAny,
    server: String,
    #[serde(rename = "recordedWith")]
    recorded_with: String,
    hello: Lossless,
}

fn parse_header(line: &str) -> Result<Header, FixtureError> {
    let json = |error: serde_json::Error| FixtureError::json(1, &error);
    let at_start = |message| FixtureError { line: 1, column: 1, message };
    let opening = serde_json::from_str::<Opening>(line).map_err(json)?;
    if opening.mongotap != "fixture" {
        return Err(at_start(format!("expected a fixture's header, this is one of a {:?}", opening.mongotap)));
    }
    if opening.version != VERSION {
        return Err(at_start(format!("written in version {}, this build reads version {VERSION}", opening.version)));
    }
    let HeaderLine { server, recorded_with, hello, .. } = serde_json::from_str(line).map_err(json)?;
    Ok(Header { server, recorded_with, hello: hello.0 })
}

/// A line after the header.
struct Line {
    side: Side,
    number: usize,
    /// `None` for a body, else the batch it belongs to.
    batch: Option<&'static str>,
    document: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    Request,
    Reply,
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a line {\"request\":N,…} or {\"reply\":N,…}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Line, A::Error> {
        let side = match map.next_key::<String>()?.as_deref() {
            Some("request") => Side::Request,
            Some("reply") => Side::Reply,
            other => return Err(expected("\"request\" or \"reply\"", other)),
        };
        let number = map.next_value()?;
        let batches = if side == Side::Request { &REQUEST_BATCHES[..] } else { &REPLY_BATCHES[..] };
        let key = map.next_key::<String>()?;
        let batch = batches.iter().copied().find(|path| key.as_deref() == Some(path));
        if batch.is_none() && key.as_deref() != Some("body") {
            let names = batches.iter().fold("\"body\"".to_owned(), |mut names, name| {
                _ = write!(names, ", {name:?}");
                names
            });
            return Err(expected(&names, key.as_deref()));
        }
        let Lossless(document) = map.next_value()?;
        match map.next_key::<String>()? {
            None => Ok(Line { side, number, batch, document }),
            other => Err(expected("the end of the line", other.as_deref())),
        }
    }
}

fn expected<E: serde::de::Error>(what: &str, found: Option<&str>) -> E {
    match found {
        Some(found) => E::custom(format_args!("expected {what}, found {found:?}")),
        None => E::custom(format_args!("expected {what}")),
    }
}

/// An exchange that is still being read.
struct Draft {
    line: usize,
    request: Part,
    replies: Vec<Part>,
}

/// A body and the documents of its batch, which go back into it when all are there.
struct Part {
    body: Vec<u8>,
    batch: Option<(&'static str, Vec<Vec<u8>>)>,
}

impl Part {
    fn new(body: Vec<u8>) -> Self {
        Self { body, batch: None }
    }

    fn add(&mut self, path: &'static str, document: Vec<u8>) -> Result<(), String> {
        let (known, documents) = match &mut self.batch {
            Some(batch) => batch,
            None if Batch::find(&self.body, path).is_some_and(|batch| batch.documents.is_empty()) => {
                self.batch.insert((path, Vec::new()))
            }
            None => return Err(format!("expected an empty array {path:?} in the body before its documents")),
        };
        if *known != path {
            return Err(format!("expected one batch in a body, found {path:?} after {known:?}"));
        }
        documents.push(document);
        Ok(())
    }

    fn whole(self) -> Vec<u8> {
        match self.batch {
            None => self.body,
            Some((path, documents)) => replace(&self.body, path, &array(documents.iter().map(Vec::as_slice))),
        }
    }
}

impl Draft {
    fn finish(self) -> Exchange {
        let replies = self.replies.into_iter().map(Part::whole).collect();
        Exchange { line: self.line, request: self.request.whole(), replies }
    }
}

/// Adds what a line says to the exchanges before it.
fn add(line: Line, number: usize, drafts: &mut Vec<Draft>) -> Result<(), String> {
    let current = drafts.len();
    if line.side == Side::Request && line.batch.is_none() {
        if line.number != current + 1 {
            return Err(format!("expected request {}, found request {}", current + 1, line.number));
        }
        drafts.push(Draft { line: number, request: Part::new(line.document), replies: Vec::new() });
        return Ok(());
    }
    let Some(draft) = drafts.last_mut() else { return Err("expected request 1 first".to_owned()) };
    if line.number != current {
        return Err(format!("expected a line of exchange {current}, found one of {}", line.number));
    }
    match (line.side, line.batch) {
        (Side::Reply, None) => {
            draft.replies.push(Part::new(line.document));
            Ok(())
        }
        (Side::Reply, Some(path)) => match draft.replies.last_mut() {
            Some(reply) => reply.add(path, line.document),
            None => Err("expected the reply's body before its documents".to_owned()),
        },
        (Side::Request, Some(path)) if draft.replies.is_empty() => draft.request.add(path, line.document),
        (Side::Request, _) => Err("expected the request's documents before its replies".to_owned()),
    }
}
