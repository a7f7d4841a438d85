//! Documents as JSON for people to read, edit and compare, and back: what was written reads as the same bytes.
//!
//! An int32 is a JSON number without point and exponent, a finite double is one with; every other type is as in
//! canonical Extended JSON. A document that this cannot carry (duplicate names, text that is not UTF-8, fields that look
//! like Extended JSON's own, what only its bytes can tell) is one string instead of an object: its BSON in base64. Of one
//! that breaks there is what can be read.
//!
//! The reader is strict, for its input is edited by hand: a name that is there twice, an integer beyond an int32, or a
//! `$oid` that is none is an error that says where.

use std::fmt;

use ::bson::oid::ObjectId;
use ::bson::spec::BinarySubtype;
use ::bson::{Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, Regex, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::json::{Mode, write_document};
use super::walk::{CodeWithScope, DEPTH_MAX, validate};
use super::write::{begin, end, put_element, put_name, put_string, set_length};
use super::{Elements, Kind};

/// Appends a document: a JSON object, or a string of base64 if an object would not read back as the same bytes. What does
/// not validate is left out.
pub fn write(document: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    write_document(document, Mode::Lossless, out);
    let text = out.get(start..).unwrap_or_default();
    if !serde_json::from_slice::<Lossless>(text).is_ok_and(|read| read.0 == document) {
        out.truncate(start);
        if validate(document).is_err() {
            return write(&without_broken(document, 1), out);
        }
        out.push(b'"');
        out.extend_from_slice(STANDARD.encode(document).as_bytes());
        out.push(b'"');
    }
}

/// The elements that can be read, on every level; never deeper on the stack than [`DEPTH_MAX`].
fn without_broken(document: &[u8], depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let start = begin(&mut out);
    for element in Elements::readable(document) {
        match element.kind {
            Kind::Document | Kind::Array | Kind::CodeWithScope if depth == DEPTH_MAX => {}
            Kind::Document | Kind::Array => {
                put_name(element.kind, element.name, &mut out);
                out.extend_from_slice(&without_broken(element.value, depth + 1));
            }
            Kind::CodeWithScope => {
                if let Ok(CodeWithScope { code, scope, .. }) = CodeWithScope::of(&element) {
                    put_name(element.kind, element.name, &mut out);
                    let start = out.len();
                    out.extend_from_slice(&[0; 4]);
                    put_string(code, &mut out);
                    out.extend_from_slice(&without_broken(scope, depth + 1));
                    set_length(start, i32::try_from(out.len() - start).unwrap_or(i32::MAX), &mut out);
                }
            }
            _ => put_element(&element, &mut out),
        }
    }
    end(start, &mut out);
    out
}

/// A document as [`write()`] wrote it: its BSON. To be read with serde from JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Lossless(pub Vec<u8>);

impl<'de> Deserialize<'de> for Lossless {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocumentVisitor)
    }
}

struct DocumentVisitor;

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Lossless;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a document, or its BSON in base64")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Lossless, E> {
        let bytes = STANDARD.decode(text).map_err(|error| E::custom(format_args!("this is not base64: {error}")))?;
        validate(&bytes).map_err(|error| E::custom(format_args!("this base64 is not of a document: {error}")))?;
        Ok(Lossless(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Lossless, A::Error> {
        let Bson::Document(document) = ValueVisitor.visit_map(map)?.0 else {
            return Err(A::Error::custom("expected a document, this is a single value"));
        };
        document.to_vec().map(Lossless).map_err(A::Error::custom)
    }
}

/// Any value.
struct Value(Bson);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of Extended JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value(Bson::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value(Bson::Boolean(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        let long = || E::custom(format_args!("expected an int32, or {{\"$numberLong\": \"{value}\"}}"));
        i32::try_from(value).map(|value| Value(Bson::Int32(value))).map_err(|_| long())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::custom(format_args!("{value} is beyond an int64"))),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value(Bson::Double(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value(Bson::String(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Value(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value(Bson::Array(values)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut document = Document::new();
        let mut next = map.next_key::<String>()?;
        if let Some(name) = &next {
            if name == "$code" {
                return code(map).map(Value);
            }
            if let Some(value) = wrapped(name, &mut map)? {
                return match map.next_key::<String>()? {
                    None => Ok(Value(value)),
                    Some(other) => Err(A::Error::custom(format_args!("{other:?} cannot stand beside {name}"))),
                };
            }
        }
        while let Some(name) = next {
            if name.contains('\0') {
                return Err(A::Error::custom("a name cannot hold a zero character"));
            }
            if document.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name {name:?} is there twice")));
            }
            document.insert(name, map.next_value::<Value>()?.0);
            next = map.next_key()?;
        }
        Ok(Value(Bson::Document(document)))
    }
}

/// The value of a type that has no JSON of its own, after the name that tells it. `None` if the name tells of none: then
/// it is that of a field.
fn wrapped<'de, A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Bson>, A::Error> {
    Ok(Some(match name {
        "$numberInt" => Bson::Int32(parsed(map, "an int32 in quotes")?),
        "$numberLong" => Bson::Int64(parsed(map, "an int64 in quotes")?),
        "$numberDouble" => Bson::Double(parsed(map, "a double in quotes")?),
        "$numberDecimal" => Bson::Decimal128(parsed::<Decimal128, A>(map, "a decimal128 in quotes")?),
        "$oid" => {
            let text: String = map.next_value()?;
            Bson::ObjectId(ObjectId::parse_str(&text).map_err(|_| expected(&text, "24 hex digits"))?)
        }
        "$date" => match map.next_value::<Value>()?.0 {
            Bson::Int64(millis) => Bson::DateTime(DateTime::from_millis(millis)),
            Bson::String(text) => match DateTime::parse_rfc3339_str(&text) {
                Ok(date) => Bson::DateTime(date),
                Err(_) => return Err(expected(&text, DATE)),
            },
            _ => return Err(A::Error::custom(format_args!("expected {DATE} in $date"))),
        },
        "$binary" => map.next_value::<BinaryFields>()?.binary::<A::Error>()?,
        "$timestamp" => {
            let TimestampFields { t, i } = map.next_value()?;
            Bson::Timestamp(Timestamp { time: t, increment: i })
        }
        "$regularExpression" => {
            let RegexFields { pattern, options } = map.next_value()?;
            let (pattern, options) = (pattern.try_into(), options.try_into());
            let zero = A::Error::custom("a regular expression cannot hold a zero character");
            let (Ok(pattern), Ok(options)) = (pattern, options) else { return Err(zero) };
            Bson::RegularExpression(Regex { pattern, options })
        }
        "$symbol" => Bson::Symbol(map.next_value()?),
        "$undefined" => constant(map.next_value::<bool>()?, Bson::Undefined)?,
        "$minKey" => constant(map.next_value::<i32>()? == 1, Bson::MinKey)?,
        "$maxKey" => constant(map.next_value::<i32>()? == 1, Bson::MaxKey)?,
        _ => return Ok(None),
    }))
}

const DATE: &str = "a date like \"2026-01-31T12:00:00Z\", or {\"$numberLong\": milliseconds since 1970 in quotes}";

/// Code, with a scope or without, after `$code`.
fn code<'de, A: MapAccess<'de>>(mut map: A) -> Result<Bson, A::Error> {
    let code: String = map.next_value()?;
    match map.next_key::<String>()? {
        None => Ok(Bson::JavaScriptCode(code)),
        Some(name) if name == "$scope" => {
            let Bson::Document(scope) = map.next_value::<Value>()?.0 else {
                return Err(A::Error::custom("expected a document in $scope"));
            };
            match map.next_key::<String>()? {
                None => Ok(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })),
                Some(other) => Err(A::Error::custom(format_args!("{other:?} cannot stand beside $code and $scope"))),
            }
        }
        Some(other) => Err(A::Error::custom(format_args!("{other:?} cannot stand beside $code"))),
    }
}

/// A number that stands in quotes.
fn parsed<'de, T: std::str::FromStr, A: MapAccess<'de>>(map: &mut A, what: &str) -> Result<T, A::Error> {
    match map.next_value::<Value>()?.0 {
        Bson::String(text) => text.parse().map_err(|_| expected(&text, what)),
        other => Err(A::Error::custom(format_args!("expected {what}, found {other}"))),
    }
}

fn expected<E: Error>(found: &str, what: &str) -> E {
    E::custom(format_args!("expected {what}, found {found:?}"))
}

fn constant<E: Error>(is_it: bool, value: Bson) -> Result<Bson, E> {
    if is_it {
        Ok(value)
    } else {
        Err(E::custom("expected {\"$undefined\": true}, {\"$minKey\": 1} or {\"$maxKey\": 1}"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"t\": seconds, \"i\": a number}")]
struct TimestampFields {
    t: u32,
    i: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"pattern\": …, \"options\": …}")]
struct RegexFields {
    pattern: String,
    options: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"base64\": …, \"subType\": two hex digits}")]
struct BinaryFields {
    base64: String,
    #[serde(rename = "subType")]
    sub_type: String,
}

impl BinaryFields {
    fn binary<E: Error>(&self) -> Result<Bson, E> {
        let bytes = STANDARD.decode(&self.base64).map_err(|_| expected(&self.base64, "base64"))?;
        let subtype = u8::from_str_radix(&self.sub_type, 16).map_err(|_| expected(&self.sub_type, "two hex digits"))?;
        Ok(Bson::Binary(Binary { subtype: BinarySubtype::from(subtype), bytes }))
    }
}

#[cfg(test)]
mod tests {
    use ::bson::{doc, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn text(document: &[u8]) -> String {
        let mut out = Vec::new();
        write(document, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn check(document: &[u8], expected: &str) {
        assert_eq!(text(document), expected);
        assert_eq!(serde_json::from_str::<Lossless>(expected).unwrap().0, document);
    }

    #[test]
    fn numbers_keep_their_types() {
        let document = doc! { "a": 1, "b": 1_i64, "c": 1.0, "d": 1e300, "e": -0.0, "f": f64::INFINITY };
        let expected =
            r#"{"a":1,"b":{"$numberLong":"1"},"c":1.0,"d":1e+300,"e":-0.0,"f":{"$numberDouble":"Infinity"}}"#;
        check(&document.to_vec().unwrap(), expected);
    }

    #[test]
    fn of_what_breaks_there_is_what_can_be_read() {
        let mut document = rawdoc! { "a": { "b": 1, "c": "text" }, "d": [1, { "e": 2 }] }.into_bytes();
        // The length of the string, and the kind of the last element.
        document[22] = 9;
        let at = document.len() - 10;
        document[at] = 0x70;
        assert_eq!(text(&document), r#"{"a":{"b":1},"d":[1,{}]}"#);
        // A scope that breaks, and documents that are too deep.
        let mut scope = rawdoc! { "x": 1, "y": 2 }.into_bytes();
        scope[11] = 0x70;
        let length = |bytes: usize| i32::try_from(bytes + 4).unwrap().to_le_bytes();
        let code = [b"\x02\0\0\0f\0", &scope[..]].concat();
        let element = [b"\x0fc\0", &length(code.len())[..], &code, &[0]].concat();
        let document = [&length(element.len())[..], &element].concat();
        assert_eq!(text(&document), r#"{"c":{"$code":"f","$scope":{"x":1}}}"#);
        let deep = (0..3 * DEPTH_MAX).fold(vec![5, 0, 0, 0, 0], |inner, _| {
            let length = i32::try_from(inner.len() + 8).unwrap();
            [&length.to_le_bytes()[..], b"\x03a\0", &inner, &[0]].concat()
        });
        serde_json::from_str::<Lossless>(&text(&deep)).unwrap();
    }

    #[test]
    fn what_json_cannot_carry_is_base64() {
        let duplicate = rawdoc! { "a": 1, "a": 2 };
        let not_utf8 = b"\x0f\0\0\0\x02a\0\x03\0\0\0\xff\xfe\0\0";
        let looks_like_ours = rawdoc! { "a": { "$oid": "000000000000000000000000" } };
        for document in [duplicate.as_bytes(), not_utf8, looks_like_ours.as_bytes()] {
            let text = text(document);
            assert!(text.starts_with('"'), "{text}");
            assert_eq!(serde_json::from_str::<Lossless>(&text).unwrap().0, document);
        }
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        for (text, expected) in [
            (r#"{"a":1,"a":2}"#, "the name \"a\" is there twice at line 1 column 10"),
            (r#"{"a":3000000000}"#, "expected an int32, or {\"$numberLong\": \"3000000000\"} at line 1 column 15"),
            (r#"{"a":{"$oid":"12"}}"#, "expected 24 hex digits, found \"12\" at line 1 column 18"),
            (r#"{"a":{"$numberLong":5}}"#, "expected an int64 in quotes, found 5 at line 1 column 22"),
            (
                r#"{"a":{"$binary":"AQID"}}"#,
                "invalid type: string \"AQID\", expected {\"base64\": …, \"subType\": two hex digits}",
            ),
            (r#"{"a":{"$maxKey":1,"b":2}}"#, "\"b\" cannot stand beside $maxKey at line 1 column 21"),
            (
                r#"{"a":{"$date":"soon"}}"#,
                "expected a date like \"2026-01-31T12:00:00Z\", or {\"$numberLong\": milliseconds since 1970 in quotes}, found \"soon\"",
            ),
            ("7", "invalid type: integer `7`, expected a document, or its BSON in base64 at line 1 column 1"),
            (r#""AAAA""#, "this base64 is not of a document: document at offset 0 needs 5 bytes, only 3 left"),
        ] {
            let message = serde_json::from_str::<Lossless>(text).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{text}: {message}");
        }
    }

    #[test]
    fn a_date_may_be_written_as_people_do() {
        for (text, millis) in
            [("2026-01-31T12:00:00Z", 1_769_860_800_000), ("2026-01-31T13:00:00.5+01:00", 1_769_860_800_500)]
        {
            let read = serde_json::from_str::<Lossless>(&format!(r#"{{"a":{{"$date":"{text}"}}}}"#)).unwrap().0;
            assert_eq!(read, doc! { "a": DateTime::from_millis(millis) }.to_vec().unwrap(), "{text}");
        }
    }

    fn value() -> impl Strategy<Value = Bson> {
        let leaf = prop_oneof![
            any::<i32>().prop_map(Bson::Int32),
            any::<i64>().prop_map(Bson::Int64),
            any::<u64>().prop_map(|bits| Bson::Double(f64::from_bits(bits))),
            any::<String>().prop_map(Bson::String),
            any::<bool>().prop_map(Bson::Boolean),
            any::<i64>().prop_map(|millis| Bson::DateTime(DateTime::from_millis(millis))),
            any::<[u8; 12]>().prop_map(|bytes| Bson::ObjectId(ObjectId::from_bytes(bytes))),
            any::<[u8; 16]>().prop_map(|bytes| Bson::Decimal128(Decimal128::from_bytes(bytes))),
            any::<(u8, Vec<u8>)>()
                .prop_map(|(subtype, bytes)| { Bson::Binary(Binary { subtype: BinarySubtype::from(subtype), bytes }) }),
            any::<(u32, u32)>().prop_map(|(time, increment)| Bson::Timestamp(Timestamp { time, increment })),
            Just(Bson::Null),
            Just(Bson::MinKey),
            any::<String>().prop_map(|code| Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                code,
                scope: doc! { "x": 1 },
            })),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Bson::Array),
                prop::collection::vec((name(), inner), 0..5)
                    .prop_map(|fields| Bson::Document(fields.into_iter().collect())),
            ]
        })
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z.]{0,3}", "\\$(oid|numberLong|code|scope|date|maxKey|set)", "\\PC{0,4}"]
    }

    proptest! {
        #[test]
        fn any_document_comes_back(fields in prop::collection::vec((name(), value()), 0..6)) {
            let document = fields.into_iter().collect::<Document>().to_vec().unwrap();
            let text = text(&document);
            prop_assert_eq!(serde_json::from_str::<Lossless>(&text).unwrap().0, document, "{}", text);
        }

        #[test]
        fn changed_bytes_come_back(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut document = crate::bson::testing::every_kind();
            for (index, byte) in edits {
                let at = index.index(document.len());
                document[at] = byte;
            }
            prop_assume!(validate(&document).is_ok());
            prop_assert_eq!(serde_json::from_str::<Lossless>(&text(&document)).unwrap().0, document);
        }
    }
}
