//! Raw BSON, as it came: one walker over the bytes, and what visits them.
//!
//! Nothing here builds a document tree. A document is a `&[u8]`, a value is a part of it, and every function takes
//! any bytes without panicking: what is not BSON is a [`BsonError`] that says what broke and where, never what the
//! bytes were.

#![deny(clippy::indexing_slicing)]

pub mod compare;
pub mod cut;
pub mod json;
mod kind;
pub mod lossless;
mod nearest;
pub mod rewrite;
mod text;
pub mod walk;
pub(crate) mod write;

pub use kind::{BsonError, Kind};
pub(crate) use nearest::nearest;
pub use walk::{Element, Elements, count, find, find_path};

#[cfg(test)]
mod testing {
    //! Documents that several of the tests here walk.

    use ::bson::oid::ObjectId;
    use ::bson::spec::BinarySubtype;
    use ::bson::{Binary, Bson, DateTime, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp, doc};

    /// A value of every type, deprecated ones included, the containers twice over.
    pub(crate) fn every_kind() -> Vec<u8> {
        let binary = |subtype| Binary { subtype, bytes: vec![1, 2, 3] };
        let scope = doc! { "deep": [1, { "er": "still" }] };
        let document = doc! {
            "double": 1.25, "string": "text \u{fc}", "document": { "a": { "b": [] } }, "array": [1, "two", [3_i64]],
            "binary": binary(BinarySubtype::Generic), "old": binary(BinarySubtype::BinaryOld),
            "undefined": Bson::Undefined, "oid": ObjectId::from_bytes([7; 12]), "boolean": true,
            "date": DateTime::from_millis(1_577_836_800_123), "null": Bson::Null,
            "regex": Regex { pattern: "^a".try_into().unwrap(), options: "im".try_into().unwrap() },
            "code": Bson::JavaScriptCode("f()".into()), "symbol": Bson::Symbol("sym".into()),
            "scoped": JavaScriptCodeWithScope { code: "g()".into(), scope }, "int32": 1,
            "timestamp": Timestamp { time: 5, increment: 6 }, "int64": 1_i64 << 60,
            "decimal": "1.5".parse::<Decimal128>().unwrap(), "max": Bson::MaxKey, "min": Bson::MinKey,
        };
        let mut bytes = document.to_vec().unwrap();
        // The bson crate makes no DBPointer.
        bytes.pop();
        bytes.extend_from_slice(b"\x0cpointer\0\x02\0\0\0c\0");
        bytes.extend_from_slice(&[9; 12]);
        bytes.push(0);
        let length = i32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }
}
