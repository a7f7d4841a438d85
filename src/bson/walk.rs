//! The walker: the elements of a BSON document, one after the other, without looking inside them.
//!
//! An element's name and value are checked to lie within the document; what is inside a value is checked when
//! somebody walks it in turn. [`validate`] does so for all of them. Names and strings are bytes, for nothing makes
//! sure that they are UTF-8. Writing and changing documents is not for here.

use ::bson::oid::ObjectId;

use super::kind::{BsonError, Extent, Kind, prefixed};

/// How deep [`validate`] follows documents in documents: the server's own limit.
pub const DEPTH_MAX: usize = 200;

/// The int32 at the start of some bytes.
#[inline]
pub(crate) fn int32(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes))
}

/// The int64 at the start of some bytes; also the bits of a double.
#[inline]
pub(crate) fn int64(bytes: &[u8]) -> Option<i64> {
    bytes.first_chunk().map(|bytes| i64::from_le_bytes(*bytes))
}

/// One element of a document or an array.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Element<'a> {
    /// Its type.
    pub kind: Kind,
    /// Its name, without the zero byte; in an array its position in decimal, as the sender wrote it.
    pub name: &'a [u8],
    /// The bytes of its value, length prefixes and terminators included.
    pub value: &'a [u8],
    /// Where the value begins, counted from the start of the outermost document.
    pub offset: usize,
}

impl<'a> Element<'a> {
    /// A number as the server reads one where it wants an integer: a double loses its fraction, what is too large for
    /// an int64 becomes the largest, `true` is 1.
    pub fn as_i64(&self) -> Option<i64> {
        match self.kind {
            Kind::Int32 => int32(self.value).map(i64::from),
            Kind::Int64 => int64(self.value),
            // Saturating, and 0 for NaN.
            Kind::Double => int64(self.value).map(|bits| f64::from_bits(bits.cast_unsigned()) as i64),
            Kind::Boolean => self.value.first().map(|byte| i64::from(*byte != 0)),
            _ => None,
        }
    }

    /// Whether the server takes it for true: numbers other than zero, `true`, and everything that is neither a
    /// number, a boolean, null nor undefined.
    pub fn as_bool_truthy(&self) -> bool {
        match self.kind {
            Kind::Undefined | Kind::Null => false,
            // Anything but plus and minus zero, NaN included.
            Kind::Double => int64(self.value).is_some_and(|bits| bits << 1 != 0),
            Kind::Boolean | Kind::Int32 | Kind::Int64 => self.as_i64() != Some(0),
            Kind::Decimal128 => !self.is_decimal_zero(),
            _ => true,
        }
    }

    fn is_decimal_zero(&self) -> bool {
        let Some(bytes) = self.value.first_chunk() else { return true };
        let text = ::bson::Decimal128::from_bytes(*bytes).to_string();
        let digits = text.split('E').next().unwrap_or_default();
        !digits.bytes().any(|byte| matches!(byte, b'1'..=b'9' | b'N' | b'I'))
    }

    /// A string's bytes, without the length and the zero byte; symbols count.
    pub fn as_str_bytes(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::String | Kind::Symbol | Kind::Code => self.value.get(4..)?.strip_suffix(&[0]),
            _ => None,
        }
    }

    /// A string, if it is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        self.as_str_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// The bytes of a document that is no array.
    pub fn as_document(&self) -> Option<&'a [u8]> {
        (self.kind == Kind::Document).then_some(self.value)
    }

    /// The bytes of an array.
    pub fn as_array(&self) -> Option<&'a [u8]> {
        (self.kind == Kind::Array).then_some(self.value)
    }

    /// An ObjectId.
    pub fn as_object_id(&self) -> Option<ObjectId> {
        match self.kind {
            Kind::ObjectId => self.value.first_chunk().map(|bytes| ObjectId::from_bytes(*bytes)),
            _ => None,
        }
    }

    /// The elements of a document or an array; `None` if it is something else.
    ///
    /// # Errors
    /// If its length is wrong, which that of an element of [`Elements`] never is.
    pub fn elements(&self) -> Option<Result<Elements<'a>, BsonError>> {
        self.kind.is_container().then(|| Elements::at(self.value, self.offset))
    }
}

/// The elements of one document or array, in the order in which they come. After an error there are no more.
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    /// What was not walked yet; the last byte is the document's terminator.
    rest: &'a [u8],
    /// Where the document ends.
    end: usize,
}

/// What is left of a document behind its last element.
const TERMINATOR: &[u8] = &[0];

impl<'a> Elements<'a> {
    /// The elements of the document that `bytes` are, no more and no less.
    ///
    /// # Errors
    /// If its length is not that of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, BsonError> {
        Self::at(bytes, 0)
    }

    /// The elements up to where the document breaks, if it does; none if its length is not that of `bytes`.
    pub fn readable(bytes: &'a [u8]) -> Readable<'a> {
        Readable(Self::new(bytes).unwrap_or(Self { rest: TERMINATOR, end: 0 }))
    }

    /// The same for a document at some place in a larger one, for the offsets in errors.
    pub(crate) fn at(bytes: &'a [u8], offset: usize) -> Result<Self, BsonError> {
        let Some((prefix, rest)) = bytes.split_first_chunk() else {
            return Err(BsonError::Short { what: "document", offset, needed: 5, had: bytes.len() });
        };
        let length = i32::from_le_bytes(*prefix);
        let needed = prefixed(Kind::Document, length, 5, 0, offset)?;
        if needed > bytes.len() {
            return Err(BsonError::Short { what: "document", offset, needed, had: bytes.len() });
        }
        if needed < bytes.len() {
            return Err(BsonError::Trailing { offset: offset + needed, left: bytes.len() - needed });
        }
        Ok(Self { rest, end: offset + needed })
    }

    /// The elements of a document or an array, up to where it breaks; `None` if it is something else.
    #[inline]
    pub(crate) fn within(element: &Element<'a>) -> Option<Readable<'a>> {
        // Its length was checked when it was found.
        let rest = element.value.get(4..).filter(|_| element.kind.is_container())?;
        Some(Readable(Self { rest, end: element.offset + element.value.len() }))
    }

    /// The first element of that name among those to come.
    fn named(self, name: &[u8]) -> Option<Element<'a>> {
        Readable(self).find(|element| element.name == name)
    }

    /// The next element, if there is one and nothing is wrong with it.
    #[inline(always)]
    fn step(&mut self) -> Option<Element<'a>> {
        let (&byte, rest) = self.rest.split_first()?;
        let of = TYPES.get(usize::from(byte))?;
        let (name, rest) = split_at_zero(rest)?;
        let length = match of.length {
            Length::Fixed => usize::from(of.beyond),
            Length::Prefixed | Length::Terminated => {
                let prefix = int32(rest).filter(|prefix| *prefix >= i32::from(of.least))?;
                let length = prefix as usize + usize::from(of.beyond);
                if of.length == Length::Terminated && rest.get(length - 1) != Some(&0) {
                    return None;
                }
                length
            }
            Length::Odd => value_length(of.kind, rest, 0).ok()?,
            Length::Unknown => return None,
        };
        let kind = of.kind;
        let offset = self.end - rest.len();
        let (value, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Element { kind, name, value, offset })
    }

    /// What is wrong with the document where no element was found, and it does not end either.
    #[cold]
    fn wrong(&self) -> BsonError {
        let offset = self.end - self.rest.len();
        let Some((&byte, rest)) = self.rest.split_first() else {
            return BsonError::Unterminated { what: "document", offset };
        };
        if byte == 0 {
            return BsonError::Trailing { offset: offset + 1, left: rest.len() };
        }
        let Some(kind) = Kind::from_byte(byte) else { return BsonError::UnknownKind { kind: byte, offset } };
        let Some((_, rest)) = split_at_zero(rest) else {
            return BsonError::Unterminated { what: "name", offset: offset + 1 };
        };
        let offset = self.end - rest.len();
        match value_length(kind, rest, offset) {
            Ok(needed) => BsonError::Short { what: kind.name(), offset, needed, had: rest.len() },
            Err(error) => error,
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, BsonError>;

    // Where documents are walked is where time goes: an element stays in registers so.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(element) = self.step() {
            return Some(Ok(element));
        }
        if self.rest == TERMINATOR {
            return None;
        }
        let error = self.wrong();
        self.rest = TERMINATOR;
        Some(Err(error))
    }
}

/// [`Elements::readable`].
#[derive(Clone, Debug)]
pub struct Readable<'a>(Elements<'a>);

impl<'a> Readable<'a> {
    /// What comes behind the last element, where the document breaks; nothing if it ends as it should.
    pub(crate) fn unread(&self) -> &'a [u8] {
        if self.0.rest == TERMINATOR { &[] } else { self.0.rest }
    }
}

impl<'a> Iterator for Readable<'a> {
    type Item = Element<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.step()
    }
}

/// What a byte that says a type says of the value's length.
#[derive(Clone, Copy)]
struct Type {
    kind: Kind,
    length: Length,
    /// The least that a prefix can say.
    least: u8,
    /// The bytes that none says: all, if there is no prefix.
    beyond: u8,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Length {
    Fixed,
    Prefixed,
    /// Prefixed, and the last byte is zero.
    Terminated,
    Odd,
    Unknown,
}

/// By their bytes: the types. Asking a table is quicker than asking them.
#[expect(clippy::indexing_slicing, reason = "each byte has its place")]
const TYPES: [Type; 256] = {
    let mut types = [Type { kind: Kind::Null, length: Length::Unknown, least: 0, beyond: 0 }; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(kind) = Kind::from_byte(byte as u8) {
            types[byte] = match (kind, kind.extent()) {
                (_, Extent::Fixed(length)) => Type { kind, length: Length::Fixed, least: 0, beyond: length as u8 },
                (Kind::Binary, Extent::Prefixed { least, beyond }) => {
                    Type { kind, length: Length::Prefixed, least: least as u8, beyond: beyond as u8 }
                }
                (Kind::DbPointer, _) | (_, Extent::Regex) => Type { kind, length: Length::Odd, least: 0, beyond: 0 },
                (_, Extent::Prefixed { least, beyond }) => {
                    Type { kind, length: Length::Terminated, least: least as u8, beyond: beyond as u8 }
                }
            };
        }
        byte += 1;
    }
    types
};

/// What is before the first zero byte, and what is after it.
#[inline]
pub(crate) fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let in_next = || zero_in_word(bytes.get(8..)?).map(|zero| zero + 8);
    let zero = zero_in_word(bytes).or_else(in_next).or_else(|| memchr::memchr(0, bytes))?;
    Some((bytes.get(..zero)?, bytes.get(zero + 1..)?))
}

/// Where the first zero byte is, if it is among the first eight: most names end there or in the eight behind.
#[inline]
fn zero_in_word(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let word = u64::from_le_bytes(*bytes.first_chunk()?);
    // The high bit of each byte that is zero; beyond the first of them it may be set for others too.
    let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
    (zeros != 0).then_some(zeros.trailing_zeros() as usize / 8)
}

/// The length of a value at the start of `rest`, which need not hold all of it.
#[inline]
fn value_length(kind: Kind, rest: &[u8], offset: usize) -> Result<usize, BsonError> {
    match kind.extent() {
        Extent::Fixed(length) => Ok(length),
        Extent::Prefixed { least, beyond } => {
            let Some(prefix) = int32(rest) else {
                return Err(BsonError::Short { what: kind.name(), offset, needed: 4, had: rest.len() });
            };
            let length = prefixed(kind, prefix, least, beyond, offset)?;
            // The last byte of what ends with a zero byte; where it is missing the length is likely to be wrong.
            let terminated = match kind {
                Kind::Binary => None,
                Kind::DbPointer => length.checked_sub(13).and_then(|last| rest.get(last)),
                _ => length.checked_sub(1).and_then(|last| rest.get(last)),
            };
            match terminated {
                Some(byte) if *byte != 0 => Err(BsonError::Unterminated { what: kind.name(), offset }),
                _ => Ok(length),
            }
        }
        Extent::Regex => {
            let unterminated = BsonError::Unterminated { what: kind.name(), offset };
            let (pattern, after) = split_at_zero(rest).ok_or(unterminated)?;
            let (options, _) = split_at_zero(after).ok_or(unterminated)?;
            Ok(pattern.len() + options.len() + 2)
        }
    }
}

/// The first element of that name; `None` too if the document breaks before it.
pub fn find<'a>(document: &'a [u8], name: &[u8]) -> Option<Element<'a>> {
    Elements::new(document).ok()?.named(name)
}

/// The element that a path of names leads to, through documents and arrays.
pub fn find_path<'a>(document: &'a [u8], path: &[&[u8]]) -> Option<Element<'a>> {
    let (first, inner) = path.split_first()?;
    let found = find(document, first)?;
    inner.iter().try_fold(found, |outer, name| outer.elements()?.ok()?.named(name))
}

/// How many elements a document or an array has.
///
/// # Errors
/// If it breaks before its end.
pub fn count(document: &[u8]) -> Result<u64, BsonError> {
    Elements::new(document)?.try_fold(0, |count, element| element.map(|_| count + 1))
}

/// Checks that lengths, types and terminators are right everywhere in a document, scopes of code included.
///
/// Strings need not be UTF-8 and booleans may be any byte: neither hinders a reader.
///
/// # Errors
/// The first thing that is wrong, in the order of the bytes of one level; deeper levels come first.
pub fn validate(document: &[u8]) -> Result<(), BsonError> {
    walk_all(Elements::new(document)?, 1)
}

/// Never deeper on the stack than [`DEPTH_MAX`].
fn walk_all(elements: Elements<'_>, depth: usize) -> Result<(), BsonError> {
    for element in elements {
        let element = element?;
        let inner = match element.kind {
            Kind::Document | Kind::Array => Elements::at(element.value, element.offset)?,
            Kind::CodeWithScope => CodeWithScope::of(&element)?.scope()?,
            _ => continue,
        };
        if depth == DEPTH_MAX {
            return Err(BsonError::Depth { offset: element.offset, max: DEPTH_MAX });
        }
        walk_all(inner, depth + 1)?;
    }
    Ok(())
}

/// The two halves of a code with scope.
pub(crate) struct CodeWithScope<'a> {
    /// The code, without length and zero byte.
    pub(crate) code: &'a [u8],
    /// The bytes of the scope, which need not be a document.
    pub(crate) scope: &'a [u8],
    scope_offset: usize,
}

impl<'a> CodeWithScope<'a> {
    /// Takes the value of an element of that kind apart.
    pub(crate) fn of(element: &Element<'a>) -> Result<Self, BsonError> {
        let (what, offset) = (element.kind.name(), element.offset);
        let inner = element.value.get(4..).unwrap_or_default();
        let length = value_length(Kind::String, inner, offset + 4)?;
        let Some((code, scope)) = inner.split_at_checked(length) else {
            return Err(BsonError::Short { what, offset, needed: length + 4, had: element.value.len() });
        };
        let code = code.get(4..).and_then(|code| code.strip_suffix(&[0])).unwrap_or_default();
        Ok(Self { code, scope, scope_offset: offset + 4 + length })
    }

    /// The elements of the scope.
    pub(crate) fn scope(&self) -> Result<Elements<'a>, BsonError> {
        Elements::at(self.scope, self.scope_offset)
    }
}

#[cfg(test)]
mod tests {
    use ::bson::{Bson, Decimal128, rawdoc};

    use super::*;

    #[test]
    fn finds_and_reads_values() {
        let document =
            rawdoc! { "cursor": { "id": 7_i64, "firstBatch": [{ "a": 1 }, 2, "x"] }, "ok": 1.0, "n": "text" };
        let bytes = document.as_bytes();
        let id = find_path(bytes, &[b"cursor", b"id"]).unwrap();
        assert_eq!(id.as_i64(), Some(7));
        assert_eq!(bytes.get(id.offset..id.offset + 8), Some(&7_i64.to_le_bytes()[..]));
        assert_eq!(count(find_path(bytes, &[b"cursor", b"firstBatch"]).unwrap().value), Ok(3));
        assert_eq!(find_path(bytes, &[b"cursor", b"firstBatch", b"0", b"a"]).unwrap().as_i64(), Some(1));
        assert_eq!(find(bytes, b"n").unwrap().as_str(), Some("text"));
        assert_eq!(find(bytes, b"missing"), None);
        assert_eq!(find_path(bytes, &[b"ok", b"id"]), None);
        assert_eq!(validate(bytes), Ok(()));
    }

    #[test]
    fn the_first_zero_byte_is_found_wherever_it_is() {
        for length in 0..20 {
            for zero in 0..length {
                for byte in [1, 0x7f, 0x80, 0xff] {
                    let mut bytes = vec![byte; length];
                    // What is behind it may be anything, more zeros and what borrows from them included.
                    bytes[zero..].copy_from_slice(&[0, 1, 0, 0x80].repeat(5)[..length - zero]);
                    assert_eq!(split_at_zero(&bytes), Some((&bytes[..zero], &bytes[zero + 1..])));
                }
            }
            assert_eq!(split_at_zero(&vec![0x80; length]), None);
        }
    }

    #[test]
    fn truth_and_integers_are_the_servers() {
        let rows: &[(Bson, Option<i64>, bool)] = &[
            (Bson::Double(1.0), Some(1), true),
            (Bson::Double(-0.0), Some(0), false),
            (Bson::Double(0.5), Some(0), true),
            (Bson::Double(f64::NAN), Some(0), true),
            (Bson::Double(1e300), Some(i64::MAX), true),
            (Bson::Int32(-1), Some(-1), true),
            (Bson::Int64(0), Some(0), false),
            (Bson::Boolean(true), Some(1), true),
            (Bson::Boolean(false), Some(0), false),
            (Bson::Null, None, false),
            (Bson::Undefined, None, false),
            (Bson::String(String::new()), None, true),
            (Bson::Decimal128("0E+10".parse::<Decimal128>().unwrap()), None, false),
            (Bson::Decimal128("-0.10".parse::<Decimal128>().unwrap()), None, true),
            (Bson::Decimal128("NaN".parse::<Decimal128>().unwrap()), None, true),
        ];
        for (value, integer, truth) in rows {
            let document = rawdoc! { "v": ::bson::RawBson::try_from(value.clone()).unwrap() };
            let element = find(document.as_bytes(), b"v").unwrap();
            assert_eq!((element.as_i64(), element.as_bool_truthy()), (*integer, *truth), "{value}");
        }
    }

    fn check(hex: &str, expected: BsonError) {
        let digits: Vec<u8> = hex.bytes().filter(|byte| *byte != b' ').collect();
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect();
        assert_eq!(validate(&bytes), Err(expected), "{hex}");
    }

    #[test]
    fn says_what_broke_and_where() {
        check("", BsonError::Short { what: "document", offset: 0, needed: 5, had: 0 });
        check("04000000 00", BsonError::Length { what: "document", offset: 0, length: 4 });
        check("06000000 00", BsonError::Short { what: "document", offset: 0, needed: 6, had: 5 });
        check("05000000 00 00", BsonError::Trailing { offset: 5, left: 1 });
        check("06000000 00 00", BsonError::Trailing { offset: 5, left: 1 });
        check("05000000 01", BsonError::Unterminated { what: "name", offset: 5 });
        check("08000000 20 6100 00", BsonError::UnknownKind { kind: 0x20, offset: 4 });
        check("08000000 0a 6100 01", BsonError::Unterminated { what: "name", offset: 8 });
        check("07000000 0a 6100", BsonError::Unterminated { what: "document", offset: 7 });
        check("0a000000 10 6100 0100 00", BsonError::Short { what: "int32", offset: 7, needed: 4, had: 3 });
        check("0e000000 02 6100 02000000 6161 00", BsonError::Unterminated { what: "string", offset: 7 });
        check("0d000000 02 6100 00000000 00 00", BsonError::Length { what: "string", offset: 7, length: 0 });
        check(
            "0d000000 02 6100 ffffff7f 00 00",
            BsonError::Short { what: "string", offset: 7, needed: 0x7fff_ffff + 4, had: 6 },
        );
        check("09000000 0b 6100 6100", BsonError::Unterminated { what: "regular expression", offset: 7 });
        // The scope of a code, three bytes shorter than its place.
        check(
            "1a000000 0f 6100 12000000 01000000 00 06000000 0000 000000 00",
            BsonError::Trailing { offset: 22, left: 3 },
        );
    }

    #[test]
    fn stops_at_the_depth_limit() {
        let nested = |levels: usize| {
            (1..levels).fold(vec![5, 0, 0, 0, 0], |inner, _| {
                let length = i32::try_from(inner.len() + 8).unwrap();
                [&length.to_le_bytes()[..], b"\x03a\0", &inner, &[0]].concat()
            })
        };
        assert_eq!(validate(&nested(DEPTH_MAX)), Ok(()));
        let deepest = BsonError::Depth { offset: 7 * DEPTH_MAX, max: DEPTH_MAX };
        assert_eq!(validate(&nested(DEPTH_MAX + 1)), Err(deepest));
    }
}
