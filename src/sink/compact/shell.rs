//! BSON as people write it in the shell, `{status: "open", total: {$gt: 5}}`, up to a number of characters. For
//! reading, not for parsing: what is long is left out, and what is exotic is named.

use std::fmt::{Display, Write};

use crate::bson::{Element, Elements, Kind};
use crate::sink::printable::printed;

/// Text that grows up to a number of characters, and then ends in `…`.
#[derive(Debug)]
pub(super) struct Short {
    text: String,
    left: usize,
}

impl Short {
    /// Empty, with room for `max` characters and the `…`.
    pub(super) fn new(max: usize) -> Self {
        Self { text: String::new(), left: max }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Whether nothing more is taken.
    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }

    /// Appends as much of a text as there is room for, nothing in it hidden.
    pub(super) fn push(&mut self, text: &str) {
        if self.is_full() || text.is_empty() {
            return;
        }
        // A character takes at least one byte, so what is beyond is not even looked at.
        let mut end = text.len().min(self.left.saturating_mul(4) + 4);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = printed(&text[..end]);
        match text.char_indices().nth(self.left) {
            Some((end, _)) => {
                self.text.push_str(&text[..end]);
                self.text.push('…');
                self.left = 0;
            }
            None => {
                self.left -= text.chars().count();
                self.text.push_str(&text);
            }
        }
    }

    fn show(&mut self, value: impl Display) {
        self.push(&value.to_string());
    }

    /// `{a: 1, b: "x"}`
    pub(super) fn document(&mut self, bytes: &[u8]) {
        self.elements('{', '}', bytes, |short, element| {
            short.push(&String::from_utf8_lossy(element.name));
            short.push(": ");
        });
    }

    fn array(&mut self, bytes: &[u8]) {
        self.elements('[', ']', bytes, |_, _| {});
    }

    /// Each level of nesting takes a character, so the room bounds the depth.
    fn elements(&mut self, open: char, close: char, bytes: &[u8], before: impl Fn(&mut Self, &Element<'_>)) {
        self.show(open);
        for (position, element) in Elements::new(bytes).into_iter().flatten().enumerate() {
            if self.is_full() {
                return;
            }
            let Ok(element) = element else {
                self.push("…");
                break;
            };
            if position > 0 {
                self.push(", ");
            }
            before(self, &element);
            self.value(&element);
        }
        self.show(close);
    }

    /// One value.
    pub(super) fn value(&mut self, element: &Element<'_>) {
        match element.kind {
            Kind::Document => self.document(element.value),
            Kind::Array => self.array(element.value),
            Kind::String | Kind::Symbol => self.string(element),
            Kind::Int32 | Kind::Int64 => self.show(element.as_i64().unwrap_or_default()),
            Kind::Double => self.show(format_args!("{:?}", f64::from_bits(bits(element.value)))),
            Kind::Boolean => self.show(element.as_bool_truthy()),
            Kind::Null => self.push("null"),
            Kind::Undefined => self.push("undefined"),
            Kind::ObjectId => self.show(element.as_object_id().unwrap_or_default()),
            Kind::DateTime => self.date(bits(element.value).cast_signed()),
            Kind::Timestamp => {
                let bits = bits(element.value);
                self.show(format_args!("Timestamp({}, {})", bits >> 32, bits & 0xffff_ffff));
            }
            Kind::Decimal128 => {
                let bytes = element.value.first_chunk().copied().unwrap_or_default();
                self.show(::bson::Decimal128::from_bytes(bytes));
            }
            Kind::Binary => self.binary(element.value),
            Kind::Regex => self.regex(element.value),
            Kind::Code | Kind::CodeWithScope => self.push("Code"),
            Kind::DbPointer => self.push("DBPointer"),
            Kind::MaxKey => self.push("MaxKey"),
            Kind::MinKey => self.push("MinKey"),
        }
    }

    fn string(&mut self, element: &Element<'_>) {
        let bytes = element.as_str_bytes().unwrap_or_default();
        let shown = bytes.get(..self.left.saturating_mul(4) + 4).unwrap_or(bytes);
        let text = String::from_utf8_lossy(shown);
        self.push("\"");
        self.push(&text.replace('\\', "\\\\").replace('"', "\\\""));
        self.push("\"");
    }

    fn date(&mut self, millis: i64) {
        match ::bson::DateTime::from_millis(millis).try_to_rfc3339_string() {
            Ok(text) => self.push(&text),
            Err(_) => self.show(format_args!("Date({millis})")),
        }
    }

    /// A UUID as one, other bytes as their number.
    fn binary(&mut self, value: &[u8]) {
        let Some((head, bytes)) = value.split_at_checked(5) else { return };
        match <[u8; 16]>::try_from(bytes) {
            Ok(uuid) if head.ends_with(&[4]) => {
                let mut text = String::new();
                for (position, byte) in uuid.into_iter().enumerate() {
                    let dash = if matches!(position, 4 | 6 | 8 | 10) { "-" } else { "" };
                    let written = write!(text, "{dash}{byte:02x}");
                    debug_assert!(written.is_ok(), "a String takes all that is written to it");
                }
                self.push(&text);
            }
            _ => self.show(format_args!("Binary({})", bytes.len())),
        }
    }

    fn regex(&mut self, value: &[u8]) {
        let mut parts = value.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        self.push("/");
        self.push(&parts.next().unwrap_or_default());
        self.push("/");
        self.push(&parts.next().unwrap_or_default());
    }
}

fn bits(value: &[u8]) -> u64 {
    u64::from_le_bytes(value.first_chunk().copied().unwrap_or_default())
}

/// A text of which at most `max` columns of a terminal are kept, the last of them a `…` if there was more.
pub(super) fn shortened(text: &str, max: usize) -> String {
    if columns(text) <= max {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut left = max.saturating_sub(1);
    for character in text.chars() {
        let width = width(character);
        if width > left {
            break;
        }
        left -= width;
        kept.push(character);
    }
    if max > 0 {
        kept.push('…');
    }
    kept
}

/// How many columns of a terminal a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Ideographs and their like take two columns, combining marks none.
fn width(character: char) -> usize {
    match u32::from(character) {
        0x0300..=0x036f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
