//! What stands under the name of a field and is none of its values: how it is sorted, of which type it is, how long.

use crate::bson::{Element, Elements, Kind};

/// What a schema says of a field, and not of its values.
pub(super) const SCHEMA_WORDS: [&[u8]; 14] = [
    b"additionalItems",
    b"additionalProperties",
    b"bsonType",
    b"exclusiveMaximum",
    b"exclusiveMinimum",
    b"maxItems",
    b"maxLength",
    b"maxProperties",
    b"minItems",
    b"minLength",
    b"minProperties",
    b"required",
    b"type",
    b"uniqueItems",
];

/// Whether an operator says what a value is like in the way that it should: by numbers, booleans, names of types, options.
pub(super) fn says_no_value(element: &Element<'_>) -> bool {
    match element.kind {
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Boolean => true,
        Kind::String if element.name == b"$options" => {
            element.as_str_bytes().is_some_and(|it| it.iter().all(|it| b"imsxu".contains(it)))
        }
        Kind::String => element.as_str().is_some_and(|it| TYPES.contains(&it)),
        Kind::Array => Elements::readable(element.value).all(|it| says_no_value(&it)),
        _ => false,
    }
}

/// The names of types.
const TYPES: [&str; 22] = [
    "array",
    "binData",
    "bool",
    "date",
    "dbPointer",
    "decimal",
    "double",
    "int",
    "javascript",
    "javascriptWithScope",
    "long",
    "maxKey",
    "minKey",
    "missing",
    "null",
    "number",
    "object",
    "objectId",
    "regex",
    "string",
    "symbol",
    "timestamp",
];

/// What says nothing of a value: 0, 1, -1, a boolean, an empty text, a type of index, `$name`.
pub(super) fn is_brief(element: &Element<'_>) -> bool {
    match element.kind {
        Kind::Int32 | Kind::Int64 | Kind::Double => element.as_i64().is_some_and(|number| number.abs() <= 1),
        Kind::Boolean | Kind::Null => true,
        Kind::String => {
            const TYPES: [&[u8]; 6] = [b"", b"2d", b"2dsphere", b"hashed", b"text", b"textScore"];
            element.as_str_bytes().is_some_and(|text| TYPES.contains(&text))
        }
        _ => false,
    }
}
