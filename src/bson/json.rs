//! Extended JSON v2, straight from the bytes of a document into a buffer.
//!
//! Whatever the bytes are, what is written is one valid JSON object on one line. Names and strings that are not UTF-8
//! have U+FFFD for what is not; duplicate names are kept as they come. Where the structure breaks, what is open is
//! closed and the object gets a last key `$undecodable` that says what broke and where; a value that cannot be shown but
//! can be skipped is `{"$undecodable": "…"}` in its place. Reading Extended JSON is not for here.

use super::kind::{BsonError, Kind};
pub use super::text::write_string;
use super::text::{write_integer, write_name};
use super::walk::{CodeWithScope, Element, Elements, int32, int64, split_at_zero};

/// How deep documents in documents are shown. Common JSON parsers stop at 128 levels; a log line, and the wrapper of a
/// value, are around them.
pub const DEPTH_MAX: usize = 120;

/// Which form of Extended JSON.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Mode {
    /// Numbers are JSON numbers and dates ISO 8601 text. In departure from the specification an int64 beyond ±2⁵³
    /// is a `$numberLong`, so that no reader rounds it.
    #[default]
    Relaxed,
    /// Every type can be told.
    Canonical,
    /// As canonical, but an int32 is a JSON number, and a finite double is one with a point or an exponent: what
    /// fixtures are written in, and [`lossless`](super::lossless) reads.
    Lossless,
}

/// Appends a document as a JSON object.
pub fn write_document(document: &[u8], mode: Mode, out: &mut Vec<u8>) {
    let mut writer = Writer { mode, out };
    let start = writer.out.len();
    if let Err(error) = writer.fields(Elements::new(document), 1) {
        if writer.out.len() > start + 1 {
            writer.out.push(b',');
        }
        writer.undecodable(error);
    }
    writer.out.push(b'}');
}

/// Appends the value of one element as JSON; its name is left to the caller.
pub fn write_value(element: &Element<'_>, mode: Mode, out: &mut Vec<u8>) {
    let start = out.len();
    let mut writer = Writer { mode, out };
    if let Err(error) = writer.value(element, 1) {
        // Without an object of its own there is nowhere to say so but in its place.
        writer.out.truncate(start);
        writer.undecodable_value(error);
    }
}

struct Writer<'o> {
    mode: Mode,
    out: &'o mut Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// `{"a":1,"b":2`, without its end. On an error everything that was opened within is closed.
    fn fields(&mut self, elements: Result<Elements<'_>, BsonError>, depth: usize) -> Result<(), BsonError> {
        let mut separator = b'{';
        let result = elements.and_then(|elements| {
            for element in elements {
                let element = element?;
                write_name(separator, element.name, self.out);
                separator = b',';
                self.value(&element, depth)?;
            }
            Ok(())
        });
        if separator == b'{' {
            self.out.push(separator);
        }
        result
    }

    /// `[1,2`, likewise.
    fn items(&mut self, elements: Result<Elements<'_>, BsonError>, depth: usize) -> Result<(), BsonError> {
        let mut separator = b'[';
        let result = elements.and_then(|elements| {
            for element in elements {
                let element = element?;
                self.out.push(separator);
                separator = b',';
                self.value(&element, depth)?;
            }
            Ok(())
        });
        if separator == b'[' {
            self.out.push(separator);
        }
        result
    }

    /// One value, complete also on an error; `depth` is that of the document it is in.
    #[inline(always)]
    fn value(&mut self, element: &Element<'_>, depth: usize) -> Result<(), BsonError> {
        match element.kind {
            Kind::Document | Kind::Array | Kind::CodeWithScope => return self.container(element, depth),
            Kind::String => self.string(element.value),
            _ => self.scalar(element),
        }
        Ok(())
    }

    /// What is neither a string nor holds elements. What needs more of the stack is called, so that an integer need not.
    #[inline(never)]
    fn scalar(&mut self, element: &Element<'_>) {
        let value = element.value;
        match element.kind {
            Kind::Int32 => self.int32(value),
            Kind::Int64 => self.int64(value),
            Kind::Double => self.double(value),
            Kind::ObjectId => self.object_id(value),
            Kind::Boolean => self.boolean(element),
            Kind::DateTime => self.date(value),
            Kind::Null => self.put("null"),
            Kind::Binary => self.binary(element),
            Kind::Timestamp => self.timestamp(value),
            Kind::Decimal128 => self.decimal(value),
            Kind::Regex => self.regex(value),
            Kind::DbPointer => self.db_pointer(value),
            Kind::Code => self.wrapped("{\"$code\":", value),
            Kind::Symbol => self.wrapped("{\"$symbol\":", value),
            Kind::Undefined => self.put("{\"$undefined\":true}"),
            Kind::MaxKey => self.put("{\"$maxKey\":1}"),
            Kind::MinKey => self.put("{\"$minKey\":1}"),
            Kind::String | Kind::Document | Kind::Array | Kind::CodeWithScope => {}
        }
    }

    /// What holds elements. At the depth limit it is skipped, and said so.
    #[inline(never)]
    fn container(&mut self, element: &Element<'_>, depth: usize) -> Result<(), BsonError> {
        if depth >= DEPTH_MAX {
            self.undecodable_value(BsonError::Depth { offset: element.offset, max: DEPTH_MAX });
            return Ok(());
        }
        if element.kind == Kind::CodeWithScope {
            return self.code_with_scope(element, depth);
        }
        let elements = Elements::at(element.value, element.offset);
        let (result, end) = match element.kind {
            Kind::Array => (self.items(elements, depth + 1), b']'),
            _ => (self.fields(elements, depth + 1), b'}'),
        };
        self.out.push(end);
        result
    }

    fn code_with_scope(&mut self, element: &Element<'_>, depth: usize) -> Result<(), BsonError> {
        let parts = CodeWithScope::of(element).and_then(|parts| Ok((parts.code, parts.scope()?)));
        let (code, scope) = match parts {
            Ok(parts) => parts,
            Err(error) => {
                self.undecodable_value(error);
                return Ok(());
            }
        };
        self.put("{\"$code\":");
        write_string(code, self.out);
        self.put(",\"$scope\":");
        let result = self.fields(Ok(scope), depth + 1);
        self.put("}}");
        result
    }

    fn undecodable(&mut self, error: BsonError) {
        self.put("\"$undecodable\":");
        write_string(error.to_string().as_bytes(), self.out);
    }

    fn undecodable_value(&mut self, error: BsonError) {
        self.out.push(b'{');
        self.undecodable(error);
        self.out.push(b'}');
    }

    /// A string with its length before it and its zero byte after it.
    fn string(&mut self, value: &[u8]) {
        let text = value.get(4..).and_then(|text| text.strip_suffix(&[0])).unwrap_or_default();
        write_string(text, self.out);
    }

    fn wrapped(&mut self, before: &str, value: &[u8]) {
        self.put(before);
        self.string(value);
        self.out.push(b'}');
    }

    fn boolean(&mut self, element: &Element<'_>) {
        match element.value {
            [0] => self.put("false"),
            [1] => self.put("true"),
            _ => self.undecodable_value(BsonError::Boolean { offset: element.offset }),
        }
    }

    fn integer(&mut self, integer: impl Into<i64>) {
        write_integer(integer.into(), self.out);
    }

    fn int32(&mut self, value: &[u8]) {
        let number = int32(value).unwrap_or_default();
        match self.mode {
            Mode::Relaxed | Mode::Lossless => self.integer(number),
            Mode::Canonical => {
                self.put("{\"$numberInt\":\"");
                self.integer(number);
                self.put("\"}");
            }
        }
    }

    fn int64(&mut self, value: &[u8]) {
        let number = int64(value).unwrap_or_default();
        if self.mode == Mode::Relaxed && number.unsigned_abs() <= EXACT_MAX {
            self.integer(number);
        } else {
            self.number_long(number);
        }
    }

    fn number_long(&mut self, number: i64) {
        self.put("{\"$numberLong\":\"");
        self.integer(number);
        self.put("\"}");
    }

    fn double(&mut self, value: &[u8]) {
        let number = f64::from_bits(int64(value).unwrap_or_default().cast_unsigned());
        let mut buffer = zmij::Buffer::new();
        match self.mode {
            // As nearly every reply ends.
            Mode::Relaxed | Mode::Lossless if number == 1.0 => self.put("1.0"),
            // Always with a point or an exponent.
            Mode::Relaxed | Mode::Lossless if number.is_finite() => self.put(buffer.format_finite(number)),
            _ => {
                self.put("{\"$numberDouble\":\"");
                self.put(match number {
                    f64::INFINITY => "Infinity",
                    f64::NEG_INFINITY => "-Infinity",
                    _ if number.is_nan() => "NaN",
                    _ => buffer.format_finite(number),
                });
                self.put("\"}");
            }
        }
    }

    #[inline(never)]
    fn object_id(&mut self, value: &[u8]) {
        self.put("{\"$oid\":\"");
        self.hex(value.first_chunk::<12>().unwrap_or(&[0; 12]));
        self.put("\"}");
    }

    fn hex<const N: usize>(&mut self, bytes: &[u8; N]) {
        let digit = |four| if four < 10 { b'0' + four } else { b'a' + four - 10 };
        self.out.extend_from_slice(bytes.map(|byte| [digit(byte >> 4), digit(byte & 15)]).as_flattened());
    }

    fn date(&mut self, value: &[u8]) {
        let millis = int64(value).unwrap_or_default();
        self.put("{\"$date\":");
        match u64::try_from(millis) {
            Ok(millis) if self.mode == Mode::Relaxed && millis < YEAR_10000 => self.iso8601(millis),
            _ => self.number_long(millis),
        }
        self.out.push(b'}');
    }

    /// `"2020-01-01T00:00:00.123Z"`, without the fraction if it is zero.
    fn iso8601(&mut self, millis: u64) {
        let (days, of_day) = (millis / 86_400_000, millis % 86_400_000);
        let (year, month, day) = civil(days);
        self.out.push(b'"');
        self.digits(year, 1000);
        self.out.push(b'-');
        self.digits(month, 10);
        self.out.push(b'-');
        self.digits(day, 10);
        self.out.push(b'T');
        self.digits(of_day / 3_600_000, 10);
        self.out.push(b':');
        self.digits(of_day / 60_000 % 60, 10);
        self.out.push(b':');
        self.digits(of_day / 1000 % 60, 10);
        if of_day % 1000 != 0 {
            self.out.push(b'.');
            self.digits(of_day % 1000, 100);
        }
        self.put("Z\"");
    }

    /// The digits of a number from the place `place` on.
    fn digits(&mut self, number: u64, mut place: u64) {
        while place > 0 {
            self.out.push(b'0' + (number / place % 10) as u8);
            place /= 10;
        }
    }

    fn timestamp(&mut self, value: &[u8]) {
        let bits = int64(value).unwrap_or_default().cast_unsigned();
        self.put("{\"$timestamp\":{\"t\":");
        self.integer((bits >> 32) as u32);
        self.put(",\"i\":");
        self.integer(bits as u32);
        self.put("}}");
    }

    #[inline(never)]
    fn decimal(&mut self, value: &[u8]) {
        let bytes = value.first_chunk().copied().unwrap_or_default();
        self.put("{\"$numberDecimal\":\"");
        self.put(&::bson::Decimal128::from_bytes(bytes).to_string());
        self.put("\"}");
    }

    #[inline(never)]
    fn binary(&mut self, element: &Element<'_>) {
        let (subtype, data) = match element.value.get(4..).and_then(<[u8]>::split_first) {
            // The old generic subtype has its length once more.
            Some((&2, inner)) => match inner.split_first_chunk() {
                Some((length, data)) if usize::try_from(i32::from_le_bytes(*length)) == Ok(data.len()) => (2, data),
                _ => {
                    let length = int32(inner).unwrap_or_default();
                    let what = "inner length of binary";
                    return self.undecodable_value(BsonError::Length { what, offset: element.offset, length });
                }
            },
            Some((&subtype, data)) => (subtype, data),
            None => (0, &[][..]),
        };
        self.put("{\"$binary\":{\"base64\":\"");
        self.base64(data);
        self.put("\",\"subType\":\"");
        self.hex(&[subtype]);
        self.put("\"}}");
    }

    fn base64(&mut self, data: &[u8]) {
        let digit = |bits: u32| BASE64.get(bits as usize & 63).copied().unwrap_or_default();
        let digits = |bits: u32| [18, 12, 6, 0].map(|at| digit(bits >> at));
        let bits = |[one, two, three]: [u8; 3]| u32::from_be_bytes([0, one, two, three]);
        let (triples, rest) = data.as_chunks();
        self.out.reserve(data.len().div_ceil(3) * 4);
        for triple in triples {
            self.out.extend_from_slice(&digits(bits(*triple)));
        }
        let (last, length) = match *rest {
            [one] => ([one, 0, 0], 2),
            [one, two] => ([one, two, 0], 3),
            _ => return,
        };
        self.out.extend(digits(bits(last)).into_iter().take(length));
        self.out.extend(std::iter::repeat_n(b'=', 4 - length));
    }

    #[inline(never)]
    fn regex(&mut self, value: &[u8]) {
        let (pattern, rest) = split_at_zero(value).unwrap_or_default();
        let (options, _) = split_at_zero(rest).unwrap_or_default();
        self.put("{\"$regularExpression\":{\"pattern\":");
        write_string(pattern, self.out);
        self.put(",\"options\":");
        // Extended JSON has them in the alphabet's order, whatever the sender did.
        if options.is_sorted() || !options.is_ascii() {
            write_string(options, self.out);
        } else {
            let mut sorted = options.to_vec();
            sorted.sort_unstable();
            write_string(&sorted, self.out);
        }
        self.put("}}");
    }

    fn db_pointer(&mut self, value: &[u8]) {
        let (name, id) = value.split_last_chunk::<12>().unwrap_or((&[], &[0; 12]));
        self.put("{\"$dbPointer\":{\"$ref\":");
        self.string(name);
        self.put(",\"$id\":");
        self.object_id(id);
        self.put("}}");
    }
}

/// The digits of base64.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The largest int64 up to which every integer is a double too.
const EXACT_MAX: u64 = 1 << 53;

/// 10000-01-01T00:00:00Z in milliseconds.
const YEAR_10000: u64 = 253_402_300_800_000;

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that a leap day is the last of its year; 400 years have 146 097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on the months' lengths repeat every five, 153 days long.
    let month = (5 * day + 2) / 153;
    let (next_year, calendar_month) = if month < 10 { (0, month + 3) } else { (1, month - 9) };
    (era * 400 + year + next_year, calendar_month, day - (153 * month + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use ::bson::{Bson, rawdoc};
    use proptest::prelude::*;

    use super::*;

    fn json(document: &[u8], mode: Mode) -> String {
        let mut out = Vec::new();
        write_document(document, mode, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn types_in_both_modes() {
        let rows: &[(Bson, &str, &str)] = &[
            (Bson::Double(1.0), "1.0", r#"{"$numberDouble":"1.0"}"#),
            (Bson::Double(-0.0), "-0.0", r#"{"$numberDouble":"-0.0"}"#),
            (Bson::Double(1e300), "1e+300", r#"{"$numberDouble":"1e+300"}"#),
            (Bson::Double(f64::NAN), r#"{"$numberDouble":"NaN"}"#, r#"{"$numberDouble":"NaN"}"#),
            (Bson::Double(f64::NEG_INFINITY), r#"{"$numberDouble":"-Infinity"}"#, r#"{"$numberDouble":"-Infinity"}"#),
            (Bson::Int32(-7), "-7", r#"{"$numberInt":"-7"}"#),
            (Bson::Int64(1 << 53), "9007199254740992", r#"{"$numberLong":"9007199254740992"}"#),
            (
                Bson::Int64(-(1 << 53) - 1),
                r#"{"$numberLong":"-9007199254740993"}"#,
                r#"{"$numberLong":"-9007199254740993"}"#,
            ),
            (
                Bson::DateTime(::bson::DateTime::from_millis(1_577_836_800_123)),
                r#"{"$date":"2020-01-01T00:00:00.123Z"}"#,
                r#"{"$date":{"$numberLong":"1577836800123"}}"#,
            ),
            (
                Bson::DateTime(::bson::DateTime::from_millis(253_402_300_799_999)),
                r#"{"$date":"9999-12-31T23:59:59.999Z"}"#,
                r#"{"$date":{"$numberLong":"253402300799999"}}"#,
            ),
            (
                Bson::DateTime(::bson::DateTime::from_millis(253_402_300_800_000)),
                r#"{"$date":{"$numberLong":"253402300800000"}}"#,
                r#"{"$date":{"$numberLong":"253402300800000"}}"#,
            ),
            (
                Bson::DateTime(::bson::DateTime::from_millis(-1)),
                r#"{"$date":{"$numberLong":"-1"}}"#,
                r#"{"$date":{"$numberLong":"-1"}}"#,
            ),
        ];
        for (value, relaxed, canonical) in rows {
            let document = rawdoc! { "v": ::bson::RawBson::try_from(value.clone()).unwrap() };
            assert_eq!(json(document.as_bytes(), Mode::Relaxed), format!("{{\"v\":{relaxed}}}"));
            assert_eq!(json(document.as_bytes(), Mode::Canonical), format!("{{\"v\":{canonical}}}"));
        }
    }

    #[test]
    fn base64_is_that_of_the_crate() {
        use base64::Engine as _;
        let data: Vec<u8> = (0..=255).map(|byte: u8| byte.wrapping_mul(151)).collect();
        for length in 0..data.len() {
            let mut out = Vec::new();
            Writer { mode: Mode::Relaxed, out: &mut out }.base64(&data[..length]);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                base64::engine::general_purpose::STANDARD.encode(&data[..length])
            );
        }
    }

    #[test]
    fn what_breaks_is_closed_and_named() {
        let check = |bytes: &[u8], expected: &str| assert_eq!(json(bytes, Mode::Relaxed), expected);
        check(b"", r#"{"$undecodable":"document at offset 0 needs 5 bytes, only 0 left"}"#);
        check(b"\x0f\0\0\0\x10a\0\x01\0\0\0\x99b\0\0", r#"{"a":1,"$undecodable":"unknown type 0x99 at offset 11"}"#);
        // An array with an int32 that lacks two bytes.
        check(
            b"\x15\0\0\0\x04a\0\x0d\0\0\0\x0a0\0\x101\0\x01\0\0\0",
            r#"{"a":[null],"$undecodable":"int32 at offset 17 needs 4 bytes, only 3 left"}"#,
        );
        // A binary of subtype 2 whose inner length is wrong can be skipped.
        check(
            b"\x15\0\0\0\x05a\0\x05\0\0\0\x02\x09\0\0\0\xff\x0ab\0\0",
            r#"{"a":{"$undecodable":"inner length of binary at offset 7 cannot have length 9"},"b":null}"#,
        );
    }

    #[test]
    fn nesting_stays_readable() {
        let nested =
            |levels: usize| (1..levels).fold(rawdoc! { "x": 1.5 }, |inner, _| rawdoc! { "a": [inner] }).into_bytes();
        for levels in [1, 2, DEPTH_MAX / 2, DEPTH_MAX, 10 * DEPTH_MAX] {
            for mode in [Mode::Relaxed, Mode::Canonical] {
                let text = json(&nested(levels), mode);
                serde_json::from_str::<serde_json::Value>(&format!("{{\"command\":{text}}}")).unwrap();
                assert_eq!(text.contains("$undecodable"), 2 * levels - 1 > DEPTH_MAX, "{levels}");
            }
        }
    }

    #[test]
    fn dates_are_those_of_the_bson_crate() {
        // Every day and hour mark of 400 years and some, and the ends of the last year.
        let marks = (0..150_000_u64).map(|day| day * 86_400_000 + day * 7_919 % 86_400_000);
        for millis in marks.chain([YEAR_10000 - 1, YEAR_10000 - 86_400_000]) {
            let mut out = Vec::new();
            Writer { mode: Mode::Relaxed, out: &mut out }.iso8601(millis);
            let date = ::bson::DateTime::from_millis(millis.try_into().unwrap());
            let text = std::str::from_utf8(&out).unwrap().trim_matches('"');
            assert_eq!(::bson::DateTime::parse_rfc3339_str(text).unwrap(), date, "{text}");
        }
    }

    /// Some BSON with every kind of value in it.
    fn rich() -> Vec<u8> {
        let bytes = crate::bson::testing::every_kind();
        assert_eq!(crate::bson::walk::validate(&bytes), Ok(()));
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_json_object(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            for mode in [Mode::Relaxed, Mode::Canonical] {
                let text = json(&bytes, mode);
                prop_assert!(serde_json::from_str::<serde_json::Map<_, _>>(&text).is_ok(), "{text}");
                prop_assert!(!text.contains('\n'));
            }
        }

        #[test]
        fn mutated_documents_give_one_json_object(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = rich();
            for (index, byte) in edits {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            for mode in [Mode::Relaxed, Mode::Canonical] {
                let text = json(&bytes, mode);
                prop_assert!(serde_json::from_str::<serde_json::Map<_, _>>(&text).is_ok(), "{text}");
            }
        }
    }
}
