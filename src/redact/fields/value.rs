//! What stands for a value.

use std::borrow::Cow;

use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::bson::write::{begin, end, put_name, put_string};
use crate::bson::{Element, Kind};
use crate::redact::MARKER;

/// What stands for a string.
pub(super) const TEXT: &[u8] = b"***";

/// What a digest begins with, so that it is taken for nothing else.
const DIGEST: &str = "hmac:";

/// Bytes of a digest that are shown.
const DIGEST_LEN: usize = 16;

/// What becomes of values.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A constant of the value's type stands for it.
    #[default]
    Mask,
    /// A keyed digest stands for it: the same for the same value.
    Hash,
    /// The field goes.
    Drop,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Mask, Self::Hash, Self::Drop];

    /// `mask`, `hash` or `drop`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Hash => "hash",
            Self::Drop => "drop",
        }
    }
}

/// What is put in a value's place: a type and the bytes.
pub(super) type Stand = (Kind, Cow<'static, [u8]>);

/// A constant of the value's type; `None` for what says nothing: null and its kin.
pub fn masked(element: &Element<'_>) -> Option<(Kind, Cow<'static, [u8]>)> {
    let bytes: Cow<'static, [u8]> = match element.kind {
        Kind::String | Kind::Code | Kind::Symbol => return Some((element.kind, string(TEXT))),
        Kind::CodeWithScope => return Some((Kind::Code, string(TEXT))),
        // The name of a collection and an ObjectId.
        Kind::DbPointer => return Some((Kind::String, string(TEXT))),
        Kind::Double | Kind::Int64 | Kind::DateTime | Kind::Timestamp => Cow::Borrowed(&[0; 8]),
        Kind::Int32 => Cow::Borrowed(&[0; 4]),
        Kind::Boolean => Cow::Borrowed(&[0]),
        Kind::ObjectId => Cow::Borrowed(&[0; 12]),
        Kind::Decimal128 => Cow::Borrowed(&DECIMAL_ZERO),
        // No bytes, of the subtype that there was. The old one has a length within.
        Kind::Binary => match element.value.get(4).copied().unwrap_or_default() {
            2 => Cow::Borrowed(&[4, 0, 0, 0, 2, 0, 0, 0, 0]),
            subtype => Cow::Owned(vec![0, 0, 0, 0, subtype]),
        },
        Kind::Regex => Cow::Borrowed(b"***\0\0"),
        Kind::Undefined | Kind::Null | Kind::MinKey | Kind::MaxKey | Kind::Document | Kind::Array => return None,
    };
    Some((element.kind, bytes))
}

/// The value's keyed digest, as a string; `None` for what says nothing.
pub(super) fn hashed(element: &Element<'_>, key: &hmac::Key) -> Option<Stand> {
    masked(element)?;
    let mut context = hmac::Context::with_key(key);
    context.update(&[element.kind as u8]);
    context.update(element.value);
    Some((Kind::String, string(shown(&context.sign()).as_bytes())))
}

/// What tells keys apart: a digest of nothing that is a value.
pub(super) fn fingerprint(key: &hmac::Key) -> String {
    shown(&hmac::sign(key, b"mongotap [redact] key"))
}

fn shown(tag: &hmac::Tag) -> String {
    let digits = tag.as_ref().iter().take(DIGEST_LEN).map(|byte| format!("{byte:02x}"));
    digits.fold(DIGEST.to_owned(), |text, digits| text + &digits)
}

fn string(text: &[u8]) -> Cow<'static, [u8]> {
    let mut out = Vec::with_capacity(text.len() + 5);
    put_string(text, &mut out);
    Cow::Owned(out)
}

/// 0, with the exponent 0.
const DECIMAL_ZERO: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x30];

/// The operator that says that something was left out of a filter.
const LEFT_OUT: &str = "$redacted";

/// A filter of which something was left out, with a mark: it takes more than it did. No server takes it for a filter, lest
/// it be played and take all.
pub(super) fn with_mark(filter: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(filter.len() + 32);
    let start = begin(&mut out);
    out.extend_from_slice(filter.get(4..filter.len().saturating_sub(1)).unwrap_or_default());
    put_name(Kind::String, LEFT_OUT.as_bytes(), &mut out);
    put_string(MARKER.as_bytes(), &mut out);
    end(start, &mut out);
    out
}
