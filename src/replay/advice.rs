//! What would mend a request that is not the recorded one: a line of `[replay]` where a value looks made anew in each run,
//! else the recording.

use super::fit::Differs;
use crate::bson::{Element, Kind};
use crate::capture::exchange::Place;
use crate::capture::names::{texts, value_of};

/// What to do about all places where a request differs from the nearest recorded one.
pub(super) fn advice(differs: &[Differs<'_>], nearest: Place, is_born: &dyn Fn(&Element<'_>) -> bool) -> String {
    lines(differs, is_born).unwrap_or_else(|| record_anew(nearest))
}

/// That the program has changed, and the recording is to change with it.
pub(super) fn record_anew(nearest: Place) -> String {
    match nearest {
        Place::Line(line) => {
            format!(
                "if the program has changed, edit line {line}, or record it: mongotap exec --mode new adds it, --mode all records all anew"
            )
        }
        Place::Exchange(_) => "if the program has changed, record it anew".to_owned(),
    }
}

/// The lines of `[replay]` with which the request would be the recorded one, if there are such.
fn lines(differs: &[Differs<'_>], is_born: &dyn Fn(&Element<'_>) -> bool) -> Option<String> {
    let (mut bind, mut ignore) = (Vec::new(), Vec::new());
    for it in differs {
        let last = it.path.last()?;
        let list = match (&it.live, &it.recorded) {
            (Some(live), Some(recorded)) if live.kind == recorded.kind => {
                let is_made = is_generated(live) && is_generated(recorded) && !is_born(recorded);
                is_made.then_some(&mut bind)?
            }
            (Some(_), Some(_)) => return None,
            // Its name is what is made anew, or it is of those that say nothing of what is asked.
            _ => {
                (is_generated_name(last) || it.path.len() == 1 && SAYS_NOTHING.contains(last)).then_some(&mut ignore)?
            }
        };
        // A name with a dot in it cannot be written in a path.
        let is_any =
            |step: &[u8]| step.iter().all(u8::is_ascii_digit) || step.contains(&b'.') || is_generated_name(step);
        let step = |step: &&[u8]| match is_any(step) {
            true => "*".to_owned(),
            false => String::from_utf8_lossy(step).into_owned(),
        };
        let path = format!("{:?}", it.path.iter().map(step).collect::<Vec<_>>().join("."));
        if !list.contains(&path) {
            list.push(path);
        }
    }
    let line = |name: &str, paths: &[String]| (!paths.is_empty()).then(|| format!("{name} = [{}]", paths.join(", ")));
    let lines = [line("bind", &bind), line("ignore", &ignore)];
    let lines = lines.into_iter().flatten().collect::<Vec<_>>();
    // Where the name is what differs, no line can say less than all names.
    let opens =
        if ignore.iter().any(|path| path.ends_with(".*\"")) { " (any field there is let through then)" } else { "" };
    (!lines.is_empty()).then(|| format!("if that differs from run to run, in [replay]: {}{opens}", lines.join(", ")))
}

/// Fields at the top of a command that say nothing of what is asked.
const SAYS_NOTHING: [&[u8]; 2] = [b"comment", b"maxTimeMS"];

/// Whether a value looks like one that a program makes anew each time.
fn is_generated(element: &Element<'_>) -> bool {
    match element.kind {
        Kind::Binary => element.value.len() >= 5 + TOKEN_MIN,
        Kind::String => element.as_str_bytes().is_some_and(looks_random),
        _ => value_of(element).is_some(),
    }
}

/// Whether the name of a field does: an identity, a date, a token.
pub(super) fn is_generated_name(name: &[u8]) -> bool {
    // A path with dots in one name leads into the field's document.
    name.rsplit(|byte| *byte == b'.').next().is_some_and(|name| looks_random(name) || is_date(name))
}

/// `2026-11-23`, and what may follow.
fn is_date(text: &[u8]) -> bool {
    let shape = |(at, byte): (usize, &u8)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() };
    text.get(..10).is_some_and(|date| date.iter().enumerate().all(shape))
}

/// Shorter texts are taken for words.
const TOKEN_MIN: usize = 8;

/// Whether a text is an identity, or of the letters and digits of hexadecimal or base64 in such a mixture as no word has.
fn looks_random(text: &[u8]) -> bool {
    if texts(text).next().is_some() {
        return true;
    }
    let is_of_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=_-.".contains(byte);
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let letters = text.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let turns = text.windows(2).filter(|pair| kind_of(pair[0]) != kind_of(pair[1])).count();
    text.len() >= TOKEN_MIN
        && text.iter().all(is_of_alphabet)
        && digits > 0
        && letters > 0
        && turns > 2
        && turns * 5 >= text.len()
}

/// Digits, small letters, and capitals: a word has few turns from one to the other.
fn kind_of(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => 0,
        b'a'..=b'z' => 1,
        b'A'..=b'Z' => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_no_tokens() {
        for token in [
            "550e8400-e29b-41d4-a716-446655440000",
            "65f1c0ffee65f1c0ffee65f1",
            "d41d8cd98f00b204e9800998ecf8427e",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
            "9fA3kQ0zX1b",
            "order-65f1c0ffee65f1c0ffee65f1",
            "tmp_7b1e2f90",
        ] {
            assert!(looks_random(token.as_bytes()), "{token}");
        }
        for word in [
            "paid",
            "abc",
            "status",
            "information",
            "ann@example.org",
            "2 pounds of tea",
            "version-2",
            "CamelCase",
            "page10",
        ] {
            assert!(!looks_random(word.as_bytes()), "{word}");
        }
        assert!(
            is_generated_name(b"2026-11-23")
                && is_generated_name(b"days.2026-11-23T10")
                && !is_generated_name(b"limit")
        );
    }
}
