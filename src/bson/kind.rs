//! The types of BSON, how the length of a value is known, and what can be wrong with bytes.
//!
//! The numbers are those of the BSON specification, deprecated types included.

/// Why bytes are not a BSON document. Offsets count from the start of the outermost one.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BsonError {
    /// A boolean that is neither.
    #[error("boolean at offset {offset} is neither true nor false")]
    Boolean {
        /// Where its byte is.
        offset: usize,
    },
    /// Documents in documents beyond a limit.
    #[error("document at offset {offset} is nested deeper than {max} levels")]
    Depth {
        /// Where the innermost document begins.
        offset: usize,
        /// The limit.
        max: usize,
    },
    /// A length that its type cannot have.
    #[error("{what} at offset {offset} cannot have length {length}")]
    Length {
        /// The type of the value.
        what: &'static str,
        /// Where the length is.
        offset: usize,
        /// What it says.
        length: i32,
    },
    /// Less is there than was said.
    #[error("{what} at offset {offset} needs {needed} bytes, only {had} left")]
    Short {
        /// The type of the value.
        what: &'static str,
        /// Where it begins.
        offset: usize,
        /// How long it is.
        needed: usize,
        /// How much of it can be there.
        had: usize,
    },
    /// Bytes after the end of a document that are still within its length.
    #[error("document ends at offset {offset}, {left} bytes before its length says")]
    Trailing {
        /// Where its end is.
        offset: usize,
        /// How many bytes follow.
        left: usize,
    },
    /// A type that BSON does not have.
    #[error("unknown type 0x{kind:02x} at offset {offset}")]
    UnknownKind {
        /// The byte.
        kind: u8,
        /// Where it is.
        offset: usize,
    },
    /// A document, a name or a string without the zero byte at its end.
    #[error("{what} at offset {offset} does not end with a zero byte")]
    Unterminated {
        /// What it is.
        what: &'static str,
        /// Where it begins.
        offset: usize,
    },
}

/// The type of an element.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(missing_docs, reason = "the names are the BSON specification's")]
#[repr(u8)]
pub enum Kind {
    Double = 0x01,
    String = 0x02,
    Document = 0x03,
    Array = 0x04,
    Binary = 0x05,
    Undefined = 0x06,
    ObjectId = 0x07,
    Boolean = 0x08,
    DateTime = 0x09,
    Null = 0x0a,
    Regex = 0x0b,
    DbPointer = 0x0c,
    Code = 0x0d,
    Symbol = 0x0e,
    CodeWithScope = 0x0f,
    Int32 = 0x10,
    Timestamp = 0x11,
    Int64 = 0x12,
    Decimal128 = 0x13,
    MaxKey = 0x7f,
    MinKey = 0xff,
}

/// How the length of a value is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Extent {
    /// By its type.
    Fixed(usize),
    /// By an int32 at its start, at least `least`, and `beyond` bytes that this number leaves out.
    Prefixed { least: i32, beyond: usize },
    /// By the second of two zero bytes.
    Regex,
}

impl Kind {
    /// The type that a byte stands for.
    #[inline]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Double,
            0x02 => Self::String,
            0x03 => Self::Document,
            0x04 => Self::Array,
            0x05 => Self::Binary,
            0x06 => Self::Undefined,
            0x07 => Self::ObjectId,
            0x08 => Self::Boolean,
            0x09 => Self::DateTime,
            0x0a => Self::Null,
            0x0b => Self::Regex,
            0x0c => Self::DbPointer,
            0x0d => Self::Code,
            0x0e => Self::Symbol,
            0x0f => Self::CodeWithScope,
            0x10 => Self::Int32,
            0x11 => Self::Timestamp,
            0x12 => Self::Int64,
            0x13 => Self::Decimal128,
            0x7f => Self::MaxKey,
            0xff => Self::MinKey,
            _ => return None,
        })
    }

    /// What a message calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Double => "double",
            Self::String => "string",
            Self::Document => "document",
            Self::Array => "array",
            Self::Binary => "binary",
            Self::Undefined => "undefined",
            Self::ObjectId => "ObjectId",
            Self::Boolean => "boolean",
            Self::DateTime => "date",
            Self::Null => "null",
            Self::Regex => "regular expression",
            Self::DbPointer => "DBPointer",
            Self::Code => "code",
            Self::Symbol => "symbol",
            Self::CodeWithScope => "code with scope",
            Self::Int32 => "int32",
            Self::Timestamp => "timestamp",
            Self::Int64 => "int64",
            Self::Decimal128 => "decimal128",
            Self::MaxKey => "maxKey",
            Self::MinKey => "minKey",
        }
    }

    /// Whether values of this type hold elements.
    #[inline]
    pub fn is_container(self) -> bool {
        matches!(self, Self::Document | Self::Array)
    }

    #[inline]
    pub(crate) const fn extent(self) -> Extent {
        match self {
            Self::Undefined | Self::Null | Self::MaxKey | Self::MinKey => Extent::Fixed(0),
            Self::Boolean => Extent::Fixed(1),
            Self::Int32 => Extent::Fixed(4),
            Self::Double | Self::DateTime | Self::Timestamp | Self::Int64 => Extent::Fixed(8),
            Self::ObjectId => Extent::Fixed(12),
            Self::Decimal128 => Extent::Fixed(16),
            Self::String | Self::Code | Self::Symbol => Extent::Prefixed { least: 1, beyond: 4 },
            Self::Document | Self::Array => Extent::Prefixed { least: 5, beyond: 0 },
            // Its own length, an empty string, an empty document.
            Self::CodeWithScope => Extent::Prefixed { least: 14, beyond: 0 },
            Self::Binary => Extent::Prefixed { least: 0, beyond: 5 },
            Self::DbPointer => Extent::Prefixed { least: 1, beyond: 16 },
            Self::Regex => Extent::Regex,
        }
    }
}

/// The length of a value from the int32 at its start.
#[inline]
pub(crate) fn prefixed(kind: Kind, prefix: i32, least: i32, beyond: usize, offset: usize) -> Result<usize, BsonError> {
    let length = if prefix < least { None } else { usize::try_from(prefix).ok() };
    length.and_then(|length| length.checked_add(beyond)).ok_or_else(|| BsonError::Length {
        what: kind.name(),
        offset,
        length: prefix,
    })
}
