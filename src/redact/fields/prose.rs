//! The texts of errors: what of them may be a value, and what is the server's own words.
//!
//! Values that a command had are known, and looked for. What was stored is not: an error that may repeat some keeps what
//! the server says before it comes to the cause, and of that the words, but nothing in quotes, after a colon, or with a
//! digit in it. What code throws is all its own. A word that stands alone in a sentence is not told from the server's.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Asked;
use crate::bson::{Element, Kind};

/// So many texts of a request are looked for in an error.
pub(super) const TEXTS_MAX: usize = 64;

/// Shorter ones are found everywhere.
const TEXT_LEN_MIN: usize = 3;

/// Of a longer one this is kept, to be known by it.
const TEXT_LEN_MAX: usize = 128;

/// What stands for what goes.
const GONE: &[u8] = b"***";

/// What servers put between what they did and why it failed.
const CAUSE: &[u8] = b" :: caused by :: ";

/// Words with a digit that are no values.
const WORDS: [&[u8]; 4] = [b"32-bit", b"64-bit", b"UTF-16", b"UTF-8"];

/// A value as an error would repeat it.
pub(super) fn text_of(element: &Element<'_>) -> Option<Vec<u8>> {
    let text = match element.kind {
        Kind::Int32 | Kind::Int64 => element.as_i64()?.to_string().into_bytes(),
        // As the milliseconds that they are.
        Kind::DateTime => i64::from_le_bytes(element.value.try_into().ok()?).to_string().into_bytes(),
        // In full: one that a server shortens, as 1.23457e+06, goes only where words with digits do.
        Kind::Double => f64::from_le_bytes(element.value.try_into().ok()?).to_string().into_bytes(),
        Kind::Binary => element.value.get(5..)?.iter().flat_map(|it| format!("{it:02X}").into_bytes()).collect(),
        Kind::ObjectId => element.as_object_id()?.to_hex().into_bytes(),
        Kind::Regex => element.value.split(|byte| *byte == 0).next()?.to_vec(),
        _ => element.as_str_bytes()?.to_vec(),
    };
    let kept = text.get(..TEXT_LEN_MAX).map_or(text.as_slice(), |start| start).to_vec();
    (kept.len() >= TEXT_LEN_MIN).then_some(kept)
}

/// An error's text without values; `None` if there are none in it.
///
/// A brace opens what it is about: that goes if a place is named. A text of the request goes wherever it is; where an
/// expression computes with a place, or code runs, so does what may have been stored.
pub(super) fn without(message: &[u8], asked: &Asked) -> Option<Vec<u8>> {
    let mut text = Cow::Borrowed(message);
    if let Some(brace) = memchr::memchr(b'{', &text) {
        // Old servers name only the index, before.
        let (before, names) = (&text[..brace], asked.places.iter().filter_map(|names| names.last()));
        let is_named = |name: &[u8]| name == b"*" || memchr::memmem::find(&text, name).is_some();
        if asked.is_whole || text[brace..].starts_with(b"{ :") || names.clone().any(|name| is_named(name)) {
            text = Cow::Owned([before, b"{ *** }"].concat());
        }
    }
    text = match repeated(&text, &asked.texts) {
        Some(text) => Cow::Owned(text),
        None => text,
    };
    let is_duplicate = text.starts_with(b"E11000 ");
    if asked.runs_code && !is_duplicate {
        text = Cow::Owned(without_cause(&text));
    } else if (asked.refers || asked.texts.len() >= TEXTS_MAX) && !is_duplicate {
        text = Cow::Owned(words(&text, &asked.named));
    }
    (*text != *message).then(|| text.into_owned())
}

/// The text without what was taken out elsewhere; `None` if there is nothing of it.
pub(super) fn repeated<'t>(text: &[u8], texts: impl IntoIterator<Item = &'t Vec<u8>>) -> Option<Vec<u8>> {
    let mut without = None;
    for repeated in texts {
        let text = without.as_deref().unwrap_or(text);
        let Some(at) = memchr::memmem::find(text, repeated) else { continue };
        // How far it goes on is not known.
        let is_begun = repeated.len() == TEXT_LEN_MAX;
        without = Some(if is_begun { [&text[..at], GONE].concat() } else { replaced(text, repeated) });
    }
    without
}

fn replaced(text: &[u8], what: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(GONE);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// What was done, not why it failed.
pub(super) fn without_cause(text: &[u8]) -> Vec<u8> {
    [&text[..cause(text)], GONE].concat()
}

/// Where the cause begins.
fn cause(text: &[u8]) -> usize {
    memchr::memmem::find(text, CAUSE).map_or(0, |at| at + CAUSE.len())
}

/// The server's words, as far as they can be told, and what of the command has these names.
fn words(text: &[u8], named: &BTreeSet<Vec<u8>>) -> Vec<u8> {
    let (done, cause) = text.split_at(cause(text));
    let mut out = done.to_vec();
    let unquoted = unquoted(cause, named);
    let cause = unquoted.as_deref().unwrap_or(cause);
    // What is in it of the command, which is wrong as it stands.
    let is_about_command = done.starts_with(b"Invalid $");
    for (place, word) in cause.split(|byte| *byte == b' ').enumerate() {
        if place > 0 {
            out.push(b' ');
        }
        let is_operator = named.contains(word.strip_suffix(b":").unwrap_or(word));
        let has_digit = word.iter().any(u8::is_ascii_digit) && !is_operator && !WORDS.contains(&word);
        out.extend_from_slice(if has_digit && !is_about_command { GONE } else { word });
        // What comes then is what it is about.
        if word.len() > 1 && word.ends_with(b":") && !word.ends_with(b"::") && !is_operator {
            out.extend_from_slice(b" ***");
            break;
        }
    }
    out
}

/// The text from its first quotation mark to its last one gone, but for names before.
fn unquoted(text: &[u8], named: &BTreeSet<Vec<u8>>) -> Option<Vec<u8>> {
    let is_letter = |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_alphanumeric);
    // Not the apostrophe of "can't".
    let is_quote = |at: usize| {
        matches!(text[at], b'\'' | b'"' | b'`') && !(is_letter(at.checked_sub(1)) && is_letter(Some(at + 1)))
    };
    let mut from = 0;
    let first = loop {
        // One that ends a word is of a genitive.
        let first = (from..text.len()).find(|at| is_quote(*at) && !is_letter(at.checked_sub(1)))?;
        let end = (first + 1..text.len()).find(|at| text[*at] == text[first]);
        match end.filter(|end| named.contains(&text[first + 1..*end])) {
            Some(end) => from = end + 1,
            None => break first,
        }
    };
    let last = (first + 1..text.len()).rev().find(|at| is_quote(*at)).unwrap_or(text.len());
    Some([&text[..=first], GONE, text.get(last..).unwrap_or_default()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(of: impl Fn(&[u8]) -> Vec<u8>, message: &str) -> String {
        String::from_utf8(of(message.as_bytes())).unwrap()
    }

    #[test]
    fn the_servers_words_stay() {
        let named = ["$dateTrunc", "$log", "$mergeObjects", "$ssn", "$substrCP"].map(|name| name.as_bytes().to_vec());
        let words = |text: &[u8]| words(text, &BTreeSet::from(named.clone()));
        let aggregate = "PlanExecutor error during aggregation :: caused by :: ";
        for (cause, expected) in [
            (
                "$dateTrunc parameter 'unit' value cannot be recognized as a time unit: Smith",
                "$dateTrunc parameter '***' value cannot be recognized as a time unit: ***",
            ),
            (
                "Failed to parse number '12-3' in $convert with no onError value: Bad digit \"-\" while parsing 12-3",
                "Failed to parse number '***\" while parsing ***",
            ),
            (
                "Error parsing date string '1'; 0: Unexpected character '1'; 6: Double timezone specification '-'",
                "Error parsing date string '***'",
            ),
            ("$divide only supports numeric types, not string and int", ""),
            ("$sqrt's argument must be greater than or equal to x", ""),
            ("can't $divide by zero", ""),
            ("$arrayElemAt's first argument must be an array, but is string", ""),
            (
                "$range requires a value that can be represented as a 32-bit integer, found value: 1.23457e+06",
                "$range requires a value that can be represented as a 32-bit integer, found value: ***",
            ),
            (
                "$log's argument must be a positive number, but is -1.23457e+06",
                "$log's argument must be a positive number, but is ***",
            ),
            ("$substrCP: starting index must be a numeric type (is BSON type string)", ""),
            (
                "$mergeObjects requires object inputs, but input \"it's\" is of type string",
                "$mergeObjects requires object inputs, but input \"***\" is of type string",
            ),
            (
                "'$ssn' must evaluate to an integer, found string with value \"a 'b' c\"",
                "'$ssn' must evaluate to an integer, found string with value \"***\"",
            ),
            ("unrecognized time zone identifier: \"12\"", "unrecognized time zone identifier: ***"),
            (
                "Failed to parse number '$ecretWord' in $convert with no onError value",
                "Failed to parse number '***' in $convert with no onError value",
            ),
            ("cannot take $ecret1 for $ecret2: 5", "cannot take *** for *** ***"),
            ("the users' own \"x", "the users' own \"***"),
        ] {
            let expected = if expected.is_empty() { cause } else { expected };
            assert_eq!(text(words, &format!("{aggregate}{cause}")), format!("{aggregate}{expected}"));
        }
        let wrong = "Invalid $project :: caused by :: Expression $log takes exactly 2 arguments. 1 were passed in.";
        assert_eq!(text(words, wrong), wrong);
    }

    #[test]
    fn what_code_throws_is_its_own() {
        let thrown = "Executor error during find command :: caused by :: Error: Smith :\n@:1:21\n";
        assert_eq!(text(without_cause, thrown), "Executor error during find command :: caused by :: ***");
        assert_eq!(text(without_cause, "uncaught exception: Smith"), "***");
    }
}
