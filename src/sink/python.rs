//! BSON as Python's `repr` shows what PyMongo decodes it to: `{'ok': 1.0, 'me': None}`.
//!
//! Nothing hidden is in it as it is: what Python does not take for printable is escaped. What PyMongo refuses to decode
//! has a form all the same: text that is not UTF-8 gets U+FFFD, a date outside of the years 1 to 9999 is a
//! `DatetimeMS`, and where a document breaks, or is nested too deep, it ends in `...`. Of a name that comes twice a
//! Python dict has the last value; here both are shown. The convention of `$ref` and `$id` is no type of BSON, and is
//! left as it came.

use std::borrow::Cow;
use std::io::Write;

use super::time::date_of;
use crate::bson::walk::CodeWithScope;
use crate::bson::{Element, Elements, Kind};

/// How deep documents in documents are shown.
const DEPTH_MAX: usize = 120;

const MILLIS_A_DAY: i64 = 86_400_000;

/// Appends a document as a dict.
pub(super) fn document(bytes: &[u8], out: &mut Vec<u8>) {
    container(Kind::Document, bytes, 1, out);
}

/// Appends a text as a string.
pub(super) fn string(text: &str, out: &mut Vec<u8>) {
    let quote = quote(text.contains('\''), text.contains('"'));
    put(out, format_args!("{quote}"));
    for character in text.chars() {
        match (character, u32::from(character)) {
            ('\n', _) => out.extend_from_slice(b"\\n"),
            ('\r', _) => out.extend_from_slice(b"\\r"),
            ('\t', _) => out.extend_from_slice(b"\\t"),
            ('\\', _) => out.extend_from_slice(b"\\\\"),
            (_, _) if character == quote => put(out, format_args!("\\{quote}")),
            (_, _) if is_printable(character) => {
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            (_, code @ ..=0xff) => put(out, format_args!("\\x{code:02x}")),
            (_, code @ ..=0xffff) => put(out, format_args!("\\u{code:04x}")),
            (_, code) => put(out, format_args!("\\U{code:08x}")),
        }
    }
    put(out, format_args!("{quote}"));
}

/// Python prefers single quotes, and takes double ones where that saves escaping.
fn quote(has_single: bool, has_double: bool) -> char {
    if has_single && !has_double { '"' } else { '\'' }
}

/// Whether Python shows a character as it is. The standard library's escapes go by the same categories of Unicode; of
/// what follows another character, combining marks too are left as they are.
fn is_printable(character: char) -> bool {
    let mut text = *b"a\0\0\0\0";
    let [_, behind @ ..] = &mut text;
    let length = 1 + character.encode_utf8(behind).len();
    let text = text.get(..length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
    matches!(character, '"' | '\'') || text.escape_debug().count() == 2
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let quote = quote(bytes.contains(&b'\''), bytes.contains(&b'"'));
    put(out, format_args!("b{quote}"));
    for byte in bytes {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\\' => out.extend_from_slice(b"\\\\"),
            _ if char::from(*byte) == quote => put(out, format_args!("\\{quote}")),
            b' '..=b'~' => out.push(*byte),
            _ => put(out, format_args!("\\x{byte:02x}")),
        }
    }
    put(out, format_args!("{quote}"));
}

fn container(kind: Kind, bytes: &[u8], depth: usize, out: &mut Vec<u8>) {
    match Elements::new(bytes) {
        Ok(elements) => items(kind, elements, depth, out),
        Err(_) => out.extend_from_slice(if kind == Kind::Array { b"[...]" } else { b"{...}" }),
    }
}

fn items(kind: Kind, elements: Elements<'_>, depth: usize, out: &mut Vec<u8>) {
    let is_array = kind == Kind::Array;
    out.push(if is_array { b'[' } else { b'{' });
    for (position, element) in elements.enumerate() {
        if position > 0 {
            out.extend_from_slice(b", ");
        }
        let Some(element) = element.ok().filter(|_| depth <= DEPTH_MAX) else {
            out.extend_from_slice(b"...");
            break;
        };
        if !is_array {
            string(&String::from_utf8_lossy(element.name), out);
            out.extend_from_slice(b": ");
        }
        value(&element, depth, out);
    }
    out.push(if is_array { b']' } else { b'}' });
}

fn value(element: &Element<'_>, depth: usize, out: &mut Vec<u8>) {
    match element.kind {
        Kind::Document | Kind::Array => container(element.kind, element.value, depth + 1, out),
        Kind::String | Kind::Symbol => string(&text(element), out),
        Kind::Int32 | Kind::Int64 => put(out, format_args!("{}", element.as_i64().unwrap_or_default())),
        Kind::Double => float(f64::from_bits(bits(element.value)), out),
        Kind::Boolean => out.extend_from_slice(if element.as_bool_truthy() { b"True" } else { b"False" }),
        Kind::Null | Kind::Undefined => out.extend_from_slice(b"None"),
        Kind::ObjectId => put(out, format_args!("ObjectId('{}')", element.as_object_id().unwrap_or_default())),
        Kind::DateTime => date(bits(element.value).cast_signed(), out),
        Kind::Timestamp => {
            let bits = bits(element.value);
            put(out, format_args!("Timestamp({}, {})", bits >> 32, bits & 0xffff_ffff));
        }
        Kind::Decimal128 => {
            let bytes = element.value.first_chunk().copied().unwrap_or_default();
            put(out, format_args!("Decimal128('{}')", ::bson::Decimal128::from_bytes(bytes)));
        }
        Kind::Binary => binary(element.value, out),
        Kind::Regex => regex(element.value, out),
        Kind::Code => {
            out.extend_from_slice(b"Code(");
            string(&text(element), out);
            out.extend_from_slice(b", None)");
        }
        Kind::CodeWithScope => scoped(element, depth, out),
        Kind::DbPointer => pointer(element.value, out),
        Kind::MaxKey => out.extend_from_slice(b"MaxKey()"),
        Kind::MinKey => out.extend_from_slice(b"MinKey()"),
    }
}

fn text<'a>(element: &Element<'a>) -> Cow<'a, str> {
    String::from_utf8_lossy(element.as_str_bytes().unwrap_or_default())
}

/// The shortest digits that give the number, with an exponent where Python has one.
fn float(number: f64, out: &mut Vec<u8>) {
    if !number.is_finite() {
        let text = if number.is_nan() { "nan" } else { ["inf", "-inf"][usize::from(number < 0.0)] };
        return out.extend_from_slice(text.as_bytes());
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse().unwrap_or_default() {
        -4..16 => {
            let plain = number.to_string();
            let point = if plain.contains('.') { "" } else { ".0" };
            put(out, format_args!("{plain}{point}"));
        }
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            put(out, format_args!("{mantissa}e{sign}{:02}", i32::abs(exponent)));
        }
    }
}

/// A `datetime`, of whose time of day trailing zeros are left out as far as the minutes.
fn date(millis: i64, out: &mut Vec<u8>) {
    let (year, month, day) = date_of(millis.div_euclid(MILLIS_A_DAY));
    if !(1..=9999).contains(&year) {
        return put(out, format_args!("DatetimeMS({millis})"));
    }
    let of_day = millis.rem_euclid(MILLIS_A_DAY);
    let (hours, minutes) = (of_day / 3_600_000, of_day / 60_000 % 60);
    put(out, format_args!("datetime.datetime({year}, {month}, {day}, {hours}, {minutes}"));
    let (seconds, micros) = (of_day / 1000 % 60, of_day % 1000 * 1000);
    match (seconds, micros) {
        (0, 0) => {}
        (_, 0) => put(out, format_args!(", {seconds}")),
        _ => put(out, format_args!(", {seconds}, {micros}")),
    }
    out.push(b')');
}

fn binary(value: &[u8], out: &mut Vec<u8>) {
    match value.get(4..).and_then(<[u8]>::split_first) {
        Some((0, data)) => bytes(data, out),
        // The old generic subtype has its length once more.
        Some((2, data)) => wrapped(data.get(4..).unwrap_or_default(), 2, out),
        Some((8, _)) => out.extend_from_slice(b"<Binary(REDACTED, 8)>"),
        Some((subtype, data)) => wrapped(data, *subtype, out),
        None => bytes(&[], out),
    }
}

fn wrapped(data: &[u8], subtype: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Binary(");
    bytes(data, out);
    put(out, format_args!(", {subtype})"));
}

fn regex(value: &[u8], out: &mut Vec<u8>) {
    // In the order in which Python's `re` lists them.
    const FLAGS: [(u8, &str); 6] = [
        (b'i', "re.IGNORECASE"),
        (b'l', "re.LOCALE"),
        (b'u', "re.UNICODE"),
        (b'm', "re.MULTILINE"),
        (b's', "re.DOTALL"),
        (b'x', "re.VERBOSE"),
    ];
    let mut parts = value.split(|byte| *byte == 0);
    let (pattern, options) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let flags: Vec<_> =
        FLAGS.into_iter().filter(|(letter, _)| options.contains(letter)).map(|(_, name)| name).collect();
    out.extend_from_slice(b"Regex(");
    string(&String::from_utf8_lossy(pattern), out);
    put(out, format_args!(", {})", if flags.is_empty() { "0".to_owned() } else { flags.join("|") }));
}

fn scoped(element: &Element<'_>, depth: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Code(");
    match CodeWithScope::of(element).and_then(|parts| Ok((parts.code, parts.scope()?))) {
        Ok((code, scope)) => {
            string(&String::from_utf8_lossy(code), out);
            out.extend_from_slice(b", ");
            items(Kind::Document, scope, depth + 1, out);
        }
        Err(_) => out.extend_from_slice(b"..."),
    }
    out.push(b')');
}

/// PyMongo decodes it to a `DBRef`.
fn pointer(value: &[u8], out: &mut Vec<u8>) {
    let (name, id) = value.split_last_chunk::<12>().unwrap_or((&[], &[0; 12]));
    let name = name.get(4..).and_then(|name| name.strip_suffix(&[0])).unwrap_or_default();
    out.extend_from_slice(b"DBRef(");
    string(&String::from_utf8_lossy(name), out);
    put(out, format_args!(", ObjectId('{}'))", ::bson::oid::ObjectId::from_bytes(*id)));
}

fn bits(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.first_chunk().copied().unwrap_or_default())
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    let written = out.write_fmt(text);
    debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use ::bson::{RawBson, rawdoc};

    use super::*;

    fn repr(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        document(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_reply_as_a_listener_prints_it() {
        let version = rawdoc! { "processId": ::bson::oid::ObjectId::from_bytes([7; 12]), "counter": 6_i64 };
        let reply = rawdoc! { "topologyVersion": version, "isWritablePrimary": true, "me": null, "hosts": ["a:1", "b:2"],
        "localTime": ::bson::DateTime::from_millis(1_795_333_471_867), "readOnly": false, "ok": 1.0,
        "operationTime": ::bson::Timestamp { time: 5, increment: 6 } };
        assert_eq!(
            repr(reply.as_bytes()),
            "{'topologyVersion': {'processId': ObjectId('070707070707070707070707'), 'counter': 6}, \
             'isWritablePrimary': True, 'me': None, 'hosts': ['a:1', 'b:2'], \
             'localTime': datetime.datetime(2026, 11, 22, 7, 44, 31, 867000), 'readOnly': False, 'ok': 1.0, \
             'operationTime': Timestamp(5, 6)}"
        );
    }

    #[test]
    fn strings() {
        for (text, shown) in [
            ("", "''"),
            ("it's", "\"it's\""),
            ("\"it's\"", r#"'"it\'s"'"#),
            ("a\\b\n\r\t\0\x1b[2J\x7f\u{9b}", r"'a\\b\n\r\t\x00\x1b[2J\x7f\x9b'"),
            ("été 数据 e\u{301} \u{1f600}", "'été 数据 e\u{301} \u{1f600}'"),
            ("\u{a0}\u{202e}\u{2028}\u{feff}\u{e0041}", r"'\xa0\u202e\u2028\ufeff\U000e0041'"),
        ] {
            let mut out = Vec::new();
            string(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), shown);
        }
    }

    #[test]
    fn what_pymongo_refuses_is_shown_all_the_same() {
        assert_eq!(repr(b""), "{...}");
        assert_eq!(repr(b"\x0d\0\0\0\x02a\0\x02\0\0\0\xff\0"), "{'a': '\u{fffd}', ...}", "no end");
        assert_eq!(repr(b"\x0e\0\0\0\x02a\0\x02\0\0\0\xff\0\0"), "{'a': '\u{fffd}'}");
        assert_eq!(repr(b"\x0d\0\0\0\x0aa\0\xeeb\0\0\0\0"), "{'a': None, ...}");
        let dates = rawdoc! { "a": ::bson::DateTime::MIN, "b": ::bson::DateTime::from_millis(253_402_300_800_000) };
        assert_eq!(repr(dates.as_bytes()), "{'a': DatetimeMS(-9223372036854775808), 'b': DatetimeMS(253402300800000)}");
        let mut deep = RawBson::Int32(1);
        for _ in 0..300 {
            deep = RawBson::Document(rawdoc! { "a": deep });
        }
        let text = repr(rawdoc! { "a": deep }.as_bytes());
        assert!(text.ends_with(&format!("{{...{}", "}".repeat(DEPTH_MAX + 1))), "{text}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_a_line(bytes: Vec<u8>) {
            let text = repr(&bytes);
            proptest::prop_assert!(!text.contains(char::is_control));
        }
    }
}
