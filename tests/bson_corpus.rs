//! The specifications' BSON corpus, as PyMongo's source distribution carries it, through our Extended JSON writer, and
//! through the `text` log's Python, which must be what Python itself prints.
//!
//! Texts are compared after parsing, so that space and the spelling of numbers do not count, but the order of keys
//! does. Our one departure is applied to what the corpus expects: in relaxed mode an int64 beyond ±2⁵³ is a
//! `$numberLong`. The corpus' parse errors are about reading Extended JSON, which is not done here.

#![expect(clippy::unwrap_used, reason = "a case that is not as the corpus says fails its test")]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use mongotap::bson::json::{Mode, write_document};
use mongotap::bson::walk::validate;
use mongotap::event::{
    Address, Connection, ConnectionId, Document, Entry, Event, Phase, ServerHeartbeatSucceeded, Timestamp,
};
use mongotap::redact;
use mongotap::sink::{Format, Options};
use serde_json::{Value, json};

#[path = "support/fetch.rs"]
mod fetch;

/// What the corpus of PyMongo 4.20.0 holds.
const VALID: usize = 731;
const RELAXED: usize = 27;
const DEGENERATE: usize = 4;
const BEYOND_EXACT: usize = 2;
const DECODE_ERRORS: usize = 75;

#[test]
fn valid_cases() {
    let (mut valid, mut relaxed, mut degenerate, mut beyond_exact) = (0, 0, 0, 0);
    for (name, case) in cases("valid") {
        let canonical_text = case["canonical_extjson"].as_str().unwrap();
        let canonical = spelled(&serde_json::from_str(canonical_text).unwrap());
        let bytes = bytes_of(&case["canonical_bson"]);
        assert_eq!(validate(&bytes), Ok(()), "{name}");
        assert_eq!(spelled(&written(&bytes, Mode::Canonical)), canonical, "{name}");
        valid += 1;
        if case.get("degenerate_bson").is_some() {
            let bytes = bytes_of(&case["degenerate_bson"]);
            assert_eq!(spelled(&written(&bytes, Mode::Canonical)), canonical, "{name}, degenerate");
            degenerate += 1;
        }
        if let Some(text) = case.get("relaxed_extjson") {
            let expected: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            let departed = with_long_integers(&expected);
            beyond_exact += usize::from(departed != expected);
            assert_eq!(spelled(&written(&bytes, Mode::Relaxed)), spelled(&departed), "{name}, relaxed");
            relaxed += 1;
        }
    }
    assert_eq!((valid, relaxed, degenerate, beyond_exact), (VALID, RELAXED, DEGENERATE, BEYOND_EXACT));
}

#[test]
fn decode_errors_are_valid_json_that_says_so() {
    let cases = cases("decodeErrors");
    assert_eq!(cases.len(), DECODE_ERRORS);
    for (name, case) in cases {
        for mode in [Mode::Relaxed, Mode::Canonical] {
            let text = written(&bytes_of(&case["bson"]), mode).to_string();
            assert!(text.contains("\"$undecodable\":") || text.contains('\u{fffd}'), "{name}: {text}");
        }
    }
}

/// The cases of one kind in all files, each with a name for messages.
fn cases(kind: &str) -> Vec<(String, Value)> {
    let directory = fetch::pymongo_sdist().join("test/bson_corpus");
    let mut files: Vec<_> = fs::read_dir(&directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let content: Value = serde_json::from_str(&text).unwrap();
        for case in content.get(kind).and_then(Value::as_array).into_iter().flatten() {
            let name = format!("{}: {}", file.file_stem().unwrap().display(), case["description"]);
            all.push((name, case.clone()));
        }
    }
    all
}

fn bytes_of(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// What we write, parsed; it is an object.
fn written(bytes: &[u8], mode: Mode) -> Value {
    let mut out = Vec::new();
    write_document(bytes, mode, &mut out);
    let object: serde_json::Map<String, Value> =
        serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)));
    Value::Object(object)
}

/// JSON text in one spelling: no space, keys in their order, numbers as Rust writes them, also those in
/// `$numberDouble` strings.
fn spelled(value: &Value) -> String {
    fn double(text: &str) -> Option<Value> {
        let number: f64 = text.parse().ok()?;
        number.is_finite().then(|| json!({ "$numberDouble": format!("{number:?}") }))
    }
    mapped(value, &|value| double(value.get("$numberDouble")?.as_str()?)).to_string()
}

/// Our departure from relaxed Extended JSON.
fn with_long_integers(value: &Value) -> Value {
    let beyond = |value: &Value| {
        let integer = value.as_i64().filter(|integer| integer.unsigned_abs() > 1 << 53)?;
        Some(json!({ "$numberLong": integer.to_string() }))
    };
    mapped(value, &beyond)
}

/// The same value with some of the values in it replaced.
fn mapped(value: &Value, replace: &dyn Fn(&Value) -> Option<Value>) -> Value {
    if let Some(replaced) = replace(value) {
        return replaced;
    }
    match value {
        Value::Array(items) => items.iter().map(|item| mapped(item, replace)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), mapped(field, replace))).collect(),
        other => other.clone(),
    }
}

/// What PyMongo refuses to decode, and we show all the same.
const REFUSED: [&str; 1] = ["datetime: \"Y10K\""];

#[test]
fn values_as_python_shows_them() {
    let corpus = cases("valid").into_iter().map(|(name, case)| (name, bytes_of(&case["canonical_bson"])));
    // The convention of `$ref` and `$id`, which PyMongo makes an object of its own, is no type of BSON.
    let without_convention = corpus.filter(|(_, document)| !document.windows(4).any(|bytes| bytes == b"$ref"));
    let (names, mut documents): (Vec<_>, Vec<_>) = without_convention.unzip();
    assert_eq!(documents.len(), 717);
    documents.extend(numbers_and_names().into_iter().map(|document| document.into_bytes()));
    let theirs = python(REPR, &documents);
    assert_eq!(theirs.len(), documents.len());
    let mut refused = Vec::new();
    for (position, (document, theirs)) in documents.iter().zip(&theirs).enumerate() {
        let name = names.get(position).map_or("of ours", String::as_str);
        match theirs.as_str() {
            Some(theirs) => assert_eq!(shown(document), theirs, "{name}"),
            None => refused.push(name),
        }
    }
    assert_eq!(refused, REFUSED);
}

/// Which characters Python escapes is a matter of their category: all that it knows.
#[test]
fn characters_as_python_shows_them() {
    let assigned: Vec<char> = python(ASSIGNED, &[])
        .iter()
        .flat_map(|range| range[0].as_u64().unwrap()..range[1].as_u64().unwrap())
        .map(|code| char::from_u32(code as u32).unwrap())
        .collect();
    assert!(assigned.len() > 250_000, "{}", assigned.len());
    let texts = assigned.chunks(2048).map(|chunk| chunk.iter().collect::<String>());
    let documents: Vec<_> = texts.map(|text| rawdoc! { "a": text }.into_bytes()).collect();
    for (document, theirs) in documents.iter().zip(python(REPR, &documents)) {
        let ours = shown(document);
        let theirs = theirs.as_str().unwrap();
        let differs = ours.char_indices().zip(theirs.chars()).find(|((_, ours), theirs)| ours != theirs);
        assert!(ours == theirs, "at {differs:?}");
    }
}

/// What the corpus has little of.
fn numbers_and_names() -> Vec<bson::RawDocumentBuf> {
    let mut documents = Vec::new();
    let doubles =
        [0.1, 1.0 / 3.0, 1e15, 1e16, 1.5e16, 123_456_789_012_345_680.0, 1e-4, 1e-5, 1.25e-7, 5e-324, f64::MAX];
    for double in doubles.into_iter().chain([f64::MIN_POSITIVE, -2.5, 1e22, 1e23, 1e100, 9_007_199_254_740_993.0]) {
        documents.push(rawdoc! { "a": double, "b": -double });
    }
    for millis in [0, 1, 999, 1000, 60_000, 61_001, -1, -62_135_596_800_000, 253_402_300_799_999, 951_782_400_000] {
        documents.push(rawdoc! { "a": bson::DateTime::from_millis(millis) });
    }
    for text in ["it's", "\"", "'\"", "\\", "\t\n\r\0\x1b\x7f\u{85}", "\u{a0}\u{ad}\u{301}\u{2028}\u{e000}\u{1f600}"] {
        let binary = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: text.as_bytes().to_vec() };
        let options = bson::raw::CString::try_from("ilmsux").unwrap();
        let regex = bson::Regex { pattern: "a/'\u{e9}".try_into().unwrap(), options };
        let code = bson::RawBson::JavaScriptCode(text.to_owned());
        documents.push(
            rawdoc! { "text": text, "binary": binary, "regex": regex, "code": code, "in": [{ "it's": text }, []] },
        );
    }
    documents
}

/// A heartbeat's reply as the `text` log has it.
fn shown(reply: &[u8]) -> String {
    let server = Address::parse("a:1");
    let (client, upstream) = (String::new(), String::new());
    let connection = Arc::new(Connection { id: ConnectionId(1), client, upstream, server: server.clone(), tls: false });
    let (duration, reply) = (Duration::ZERO, Document::new(reply.to_vec()));
    let event = ServerHeartbeatSucceeded { connection_id: server, awaited: false, duration, reply };
    let event = Event::ServerHeartbeatSucceeded(Box::new(event));
    let mut out = Vec::new();
    let entry = redact::apply(Entry { at: Timestamp::default(), connection, phase: Phase::Monitor, event });
    Format::Text.renderer(&Options::default()).render(&entry, &mut out);
    let line = String::from_utf8(out).unwrap();
    let line = line.strip_prefix("Heartbeat to server ('a', 1) succeeded with reply ").unwrap();
    line.strip_suffix('\n').unwrap().to_owned()
}

/// Reads documents in hex, a line each; prints what their repr is, or null where they cannot be decoded.
const REPR: &str = "
import bson, json, sys
for line in sys.stdin:
    try:
        print(json.dumps(repr(bson.decode(bytes.fromhex(line)))))
    except bson.errors.BSONError:
        print('null')
";

/// Prints the ranges of code points that are characters, surrogates apart.
const ASSIGNED: &str = "
import json, unicodedata
start = None
for code in range(0x110001):
    known = code < 0x110000 and unicodedata.category(chr(code)) not in ('Cn', 'Cs')
    if known and start is None:
        start = code
    if not known and start is not None:
        print(json.dumps([start, code]))
        start = None
";

/// What a program prints that is given documents and has PyMongo's `bson`, a value a line.
fn python(program: &str, documents: &[Vec<u8>]) -> Vec<Value> {
    let mut python = Command::new("python3");
    python.args(["-c", program]).env("PYTHONPATH", fetch::pymongo_sdist()).env("PYTHONDONTWRITEBYTECODE", "1");
    let mut child = python.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines = documents.iter().map(|document| document.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let lines = lines.map(|line| line + "\n").collect::<String>();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
