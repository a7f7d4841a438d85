//! Extended JSON back to BSON, both of its modes.
//!
//! What relaxed mode does not tell cannot be told back: a number is the smallest type that holds it. An object that
//! looks like a value of some type but is none, say `{"$date": "soon"}` in somebody's query, is a document.

use ::bson::Bson;
use ::bson::raw::{CString, RawArrayBuf, RawBson, RawDocumentBuf};
use serde_json::{Map, Value};

/// Reads a JSON object as a document. Names cannot hold a zero character; what follows one is left out.
pub fn document(object: &Map<String, Value>) -> RawDocumentBuf {
    let mut document = RawDocumentBuf::new();
    for (name, value) in object {
        let name = name.split('\0').next().unwrap_or_default();
        if let Ok(name) = CString::try_from(name.to_owned()) {
            document.append(name, raw(value));
        }
    }
    document
}

fn raw(value: &Value) -> RawBson {
    match value {
        Value::Null => RawBson::Null,
        Value::Bool(value) => RawBson::Boolean(*value),
        Value::Number(number) => raw_number(number),
        Value::String(text) => RawBson::String(text.clone()),
        Value::Array(values) => RawBson::Array(values.iter().map(raw).collect::<RawArrayBuf>()),
        Value::Object(object) => typed(object).unwrap_or_else(|| RawBson::Document(document(object))),
    }
}

fn raw_number(number: &serde_json::Number) -> RawBson {
    match (number.as_i64(), number.as_f64()) {
        (Some(number), _) => i32::try_from(number).map_or(RawBson::Int64(number), RawBson::Int32),
        (None, number) => RawBson::Double(number.unwrap_or(f64::NAN)),
    }
}

/// The value that an object with a `$` name stands for, if it stands for one.
fn typed(object: &Map<String, Value>) -> Option<RawBson> {
    if !object.keys().any(|name| name.starts_with('$')) {
        return None;
    }
    match Bson::try_from(object.clone()).ok()? {
        Bson::Document(_) => None,
        value => RawBson::try_from(value).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bson::json::{Mode, write_document};

    fn back(json: &str) -> RawDocumentBuf {
        document(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn canonical_json_comes_back_as_it_was() {
        let json = r#"{"double":{"$numberDouble":"-0.0"},"nan":{"$numberDouble":"NaN"},"int":{"$numberInt":"7"},"long":{"$numberLong":"7"},"decimal":{"$numberDecimal":"1.50"},"oid":{"$oid":"6741c1dff1e2d3c4b5a69788"},"binary":{"$binary":{"base64":"AQID","subType":"80"}},"date":{"$date":{"$numberLong":"-1"}},"regex":{"$regularExpression":{"pattern":"^a","options":"i"}},"stamp":{"$timestamp":{"t":5,"i":6}},"code":{"$code":"f()"},"scoped":{"$code":"f()","$scope":{"a":{"$numberInt":"1"}}},"symbol":{"$symbol":"s"},"min":{"$minKey":1},"max":{"$maxKey":1},"none":null,"yes":true,"array":[{"$numberInt":"1"},{"a":[]}],"undefined":{"$undefined":true}}"#;
        let mut out = Vec::new();
        write_document(back(json).as_bytes(), Mode::Canonical, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), json);
    }

    #[test]
    fn relaxed_json_gets_the_smallest_types() {
        let json: Map<_, _> = serde_json::from_str(
            r#"{"int":7,"long":3000000000,"double":7.0,"date":{"$date":"2020-01-01T00:00:00.123Z"}}"#,
        )
        .unwrap();
        let document = ::bson::Document::try_from(document(&json)).unwrap();
        assert_eq!(document.get("int"), Some(&Bson::Int32(7)));
        assert_eq!(document.get("long"), Some(&Bson::Int64(3_000_000_000)));
        assert_eq!(document.get("double"), Some(&Bson::Double(7.0)));
        assert_eq!(document.get_datetime("date").unwrap().timestamp_millis(), 1_577_836_800_123);
    }

    #[test]
    fn what_only_looks_like_a_type_is_a_document() {
        for json in [
            r#"{"q":{"$date":"soon"}}"#,
            r#"{"q":{"$oid":5}}"#,
            r#"{"q":{"$gt":{"$numberLong":"many"}}}"#,
            r#"{"q":{"$binary":null,"x":1}}"#,
            r#"{"q":{"$regex":"^a","$options":"i"}}"#,
        ] {
            let mut out = Vec::new();
            write_document(back(json).as_bytes(), Mode::Relaxed, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), json);
        }
    }
}
