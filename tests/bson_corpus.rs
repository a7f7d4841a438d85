//! The specifications' BSON corpus, as PyMongo's source distribution carries it, through our Extended JSON writer.
//!
//! Texts are compared after parsing, so that space and the spelling of numbers do not count, but the order of keys
//! does. Our one departure is applied to what the corpus expects: in relaxed mode an int64 beyond ±2⁵³ is a
//! `$numberLong`. The corpus' parse errors are about reading Extended JSON, which is not done here.

#![expect(clippy::unwrap_used, reason = "a case that is not as the corpus says fails its test")]

use std::fs;

use mongotap::bson::json::{Mode, write_document};
use mongotap::bson::walk::validate;
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
