//! Exchanges strings in a document and leaves every other byte, and their order, as they are: no tree is built, so what
//! comes out differs in nothing but those strings and the lengths of what contains them.

use super::write::{put_string, set_length};
use super::{BsonError, Element, Elements, Kind};

/// What stands in something's place; `None` leaves it.
pub type Exchanged<T, E> = Result<Option<T>, E>;

/// Gives what stands in the place of a string, by the string's bytes.
pub type Exchange<'a, E> = dyn FnMut(&[u8]) -> Exchanged<String, E> + 'a;

/// The document with the strings of those fields at its top level exchanged, alone or as elements of arrays. `with` is
/// given each one's bytes and gives what stands in its place; `None` leaves it. If it leaves them all, so does this.
///
/// # Errors
/// That of `with`, and if the document or one of the arrays breaks.
pub fn replace_strings<E: From<BsonError>>(
    document: &[u8],
    fields: &[&[u8]],
    with: &mut Exchange<'_, E>,
) -> Exchanged<Vec<u8>, E> {
    splice(document, &mut |element| match element.kind {
        _ if !fields.contains(&element.name) => Ok(None),
        Kind::Array => splice(element.value, &mut |element| string(element, with)),
        _ => string(element, with),
    })
}

/// The document with the values of elements exchanged for those that `value` gives.
fn splice<E: From<BsonError>>(
    document: &[u8],
    value: &mut dyn FnMut(&Element<'_>) -> Exchanged<Vec<u8>, E>,
) -> Exchanged<Vec<u8>, E> {
    let mut spliced = Vec::new();
    let mut copied = 0;
    for element in Elements::new(document)? {
        let element = element?;
        if let Some(value) = value(&element)? {
            spliced.extend_from_slice(document.get(copied..element.offset).unwrap_or_default());
            spliced.extend_from_slice(&value);
            copied = element.offset + element.value.len();
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    spliced.extend_from_slice(document.get(copied..).unwrap_or_default());
    // No document is that long: its bytes came with a length of the same kind.
    let too_long = BsonError::Length { what: "document", offset: 0, length: i32::MAX };
    set_length(0, i32::try_from(spliced.len()).map_err(|_| too_long)?, &mut spliced);
    Ok(Some(spliced))
}

/// The value that stands for a string, its length before it; `None` for what is no string.
fn string<E: From<BsonError>>(element: &Element<'_>, with: &mut Exchange<'_, E>) -> Exchanged<Vec<u8>, E> {
    let Some(text) = element.as_str_bytes().map(with).transpose()?.flatten() else { return Ok(None) };
    let mut value = Vec::new();
    put_string(text.as_bytes(), &mut value);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;

    use super::*;
    use crate::bson::testing::every_kind;

    fn upper(text: &[u8]) -> Result<Option<String>, BsonError> {
        Ok(Some(String::from_utf8_lossy(text).to_uppercase() + "!"))
    }

    #[test]
    fn only_strings_of_the_fields_at_the_top_change() {
        let before = rawdoc! {
            "a": "x", "b": ["y", 1, "", ["deep"], { "a": "x" }], "c": "x", "d": { "a": "x" }, "e": 5, "a": "again",
        };
        let after = rawdoc! {
            "a": "X!", "b": ["Y!", 1, "!", ["deep"], { "a": "x" }], "c": "x", "d": { "a": "x" }, "e": 5, "a": "AGAIN!",
        };
        let replaced = replace_strings(before.as_bytes(), &[b"a", b"b", b"e", b"nosuch"], &mut upper).unwrap();
        assert_eq!(replaced.as_deref(), Some(after.as_bytes()));
    }

    #[test]
    fn nothing_to_change_is_said() {
        let document = every_kind();
        assert_eq!(replace_strings(&document, &[b"nosuch"], &mut upper), Ok(None));
        let mut leave = |_: &[u8]| Ok::<_, BsonError>(None);
        assert_eq!(replace_strings(&document, &[b"string", b"array"], &mut leave), Ok(None));
        // Whatever is around: the same length, so the same bytes everywhere else.
        let mut other = |text: &[u8]| Ok::<_, BsonError>(Some("#".repeat(text.len())));
        let replaced = replace_strings(&document, &[b"string", b"array", b"symbol"], &mut other).unwrap().unwrap();
        let differ = document.iter().zip(&replaced).filter(|(before, after)| before != after).count();
        assert_eq!((replaced.len(), differ), (document.len(), "text \u{fc}".len() + "two".len() + "sym".len()));
    }

    #[test]
    fn what_breaks_is_an_error() {
        let document = rawdoc! { "a": ["x"], "b": 1 }.into_bytes();
        let whole = document.len();
        for cut in 0..whole {
            assert!(replace_strings(&document[..cut], &[b"a"], &mut upper).is_err(), "{cut}");
        }
        // The array's own length is one too many.
        let mut broken = document;
        broken[7] += 1;
        assert!(replace_strings(&broken, &[b"a"], &mut upper).is_err());
    }
}
