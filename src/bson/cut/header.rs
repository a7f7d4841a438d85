//! The header of an element: all that is before its value, with the length that some values begin with.

use crate::bson::kind::{Extent, Kind};
use crate::bson::walk::{int32, split_at_zero};

/// An element with a longer name is left out of a document that is cut.
pub(super) const NAME_MAX: usize = 1024;

/// Type, name, its zero byte, and the length before a value.
pub(super) const HEADER_MAX: usize = NAME_MAX + 6;

/// What is before the bytes of a value.
pub(super) struct Header {
    /// `None` for the zero byte at the end of a container.
    pub(super) kind: Option<Kind>,
    /// Its bytes.
    pub(super) length: usize,
    /// The int32 at the start of a value that has one; it is part of the header.
    pub(super) prefix: Option<i32>,
}

pub(super) enum Parsed {
    Header(Header),
    /// Not all of it is there.
    Part,
    /// All of `2 + NAME_MAX` bytes, of which the name is longer.
    LongName(Kind),
    UnknownKind(u8),
}

impl Header {
    pub(super) fn parse(bytes: &[u8]) -> Parsed {
        let Some((&byte, rest)) = bytes.split_first() else { return Parsed::Part };
        if byte == 0 {
            return Parsed::Header(Self { kind: None, length: 1, prefix: None });
        }
        let Some(kind) = Kind::from_byte(byte) else { return Parsed::UnknownKind(byte) };
        let name = rest.get(..=NAME_MAX).unwrap_or(rest);
        let Some(zero) = memchr::memchr(0, name) else {
            return if name.len() > NAME_MAX { Parsed::LongName(kind) } else { Parsed::Part };
        };
        if !matches!(kind.extent(), Extent::Prefixed { .. }) {
            return Parsed::Header(Self { kind: Some(kind), length: zero + 2, prefix: None });
        }
        match rest.get(zero + 1..).and_then(int32) {
            Some(prefix) => Parsed::Header(Self { kind: Some(kind), length: zero + 6, prefix: Some(prefix) }),
            None => Parsed::Part,
        }
    }
}

/// The name in a header that ends with a length.
pub(super) fn element_name(header: &[u8]) -> &[u8] {
    header.split_first().and_then(|(_, rest)| split_at_zero(rest)).map_or(&[], |(name, _)| name)
}
