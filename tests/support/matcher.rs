//! The unified test format's matching of what was expected against what was seen.
//!
//! Numbers are compared by value. A document that stands for a whole command, reply or log message (a root) may hold
//! more than was expected, one inside of it may not. The `$$` operators are those that the files about command monitoring
//! use; any other is a failure, not a match.

use bson::{Bson, Document};
use serde_json::Value;

/// Why a value is not as expected: where, and what is wrong.
pub(crate) type Mismatch = String;

/// Matches a document that is a root.
pub(crate) fn root(path: &str, expected: &Document, actual: &Document) -> Result<(), Mismatch> {
    value(path, &Bson::Document(expected.clone()), Some(&Bson::Document(actual.clone())), true)
}

/// Extended JSON as a document.
pub(crate) fn document(json: &Value) -> Document {
    match Bson::try_from(json.clone()) {
        Ok(Bson::Document(document)) => document,
        other => panic!("{other:?} is not a document: {json}"),
    }
}

fn value(path: &str, expected: &Bson, actual: Option<&Bson>, is_root: bool) -> Result<(), Mismatch> {
    if let Some((operator, operand)) = operator(expected) {
        return special(path, operator, operand, actual, is_root);
    }
    let actual = actual.ok_or_else(|| format!("{path} is absent"))?;
    match (expected, actual) {
        (Bson::Document(expected), Bson::Document(actual)) => documents(path, expected, actual, is_root),
        (Bson::Array(expected), Bson::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.try_for_each(|(at, (expected, actual))| value(&format!("{path}.{at}"), expected, Some(actual), false))
        }
        (expected, actual) if same(expected, actual) => Ok(()),
        _ => Err(format!("{path} is {actual}, expected {expected}")),
    }
}

fn documents(path: &str, expected: &Document, actual: &Document, is_root: bool) -> Result<(), Mismatch> {
    for (key, expected) in expected {
        value(&format!("{path}.{key}"), expected, actual.get(key), false)?;
    }
    match actual.keys().find(|key| !is_root && !expected.contains_key(key)) {
        Some(extra) => Err(format!("{path}.{extra} was not expected")),
        None => Ok(()),
    }
}

fn special(path: &str, operator: &str, operand: &Bson, actual: Option<&Bson>, is_root: bool) -> Result<(), Mismatch> {
    match (operator, operand) {
        ("$$exists", Bson::Boolean(wanted)) if actual.is_some() == *wanted => Ok(()),
        ("$$exists", wanted) => Err(format!("{path} exists: {}, expected {wanted}", actual.is_some())),
        ("$$type", wanted) => {
            let name = actual.map_or("absent", type_name);
            let names = wanted.as_array().map_or_else(|| std::slice::from_ref(wanted), Vec::as_slice);
            let fits = names.iter().any(|it| it.as_str() == Some(name));
            if fits { Ok(()) } else { Err(format!("{path} is {name}, expected {wanted}")) }
        }
        ("$$unsetOrMatches", _) if actual.is_none() => Ok(()),
        ("$$unsetOrMatches", wanted) => value(path, wanted, actual, is_root),
        ("$$matchAsRoot", wanted) => value(path, wanted, actual, true),
        ("$$matchAsDocument", wanted) => {
            let text = actual.and_then(Bson::as_str).ok_or_else(|| format!("{path} is not text"))?;
            let json = serde_json::from_str(text).map_err(|error| format!("{path}: {error}"))?;
            value(path, wanted, Some(&Bson::Document(document(&json))), is_root)
        }
        _ => panic!("{path}: the operator {operator} is not known here"),
    }
}

/// A document with one key that begins with `$$`.
fn operator(expected: &Bson) -> Option<(&str, &Bson)> {
    let document = expected.as_document().filter(|it| it.len() == 1)?;
    document.iter().next().map(|(key, operand)| (key.as_str(), operand)).filter(|(key, _)| key.starts_with("$$"))
}

fn same(expected: &Bson, actual: &Bson) -> bool {
    match (number(expected), number(actual)) {
        (Some(expected), Some(actual)) => expected.total_cmp(&actual).is_eq(),
        _ => expected == actual,
    }
}

#[expect(clippy::cast_precision_loss, reason = "the expected numbers are small")]
fn number(value: &Bson) -> Option<f64> {
    value.as_f64().or_else(|| value.as_i32().map(f64::from)).or_else(|| value.as_i64().map(|it| it as f64))
}

/// The names that `$$type` uses, as far as these files do.
fn type_name(value: &Bson) -> &'static str {
    match value {
        Bson::Int32(_) => "int",
        Bson::Int64(_) => "long",
        Bson::Double(_) => "double",
        Bson::String(_) => "string",
        Bson::Array(_) => "array",
        Bson::Document(_) => "object",
        Bson::Boolean(_) => "bool",
        _ => "another type",
    }
}
