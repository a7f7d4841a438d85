//! JSON strings from bytes that are meant to be UTF-8.

/// Appends bytes that are meant to be UTF-8 as a JSON string, quotes included.
#[inline]
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    match plain_word(bytes) {
        Some(word) => {
            put(u128::from(b'"') | u128::from(word) << 8, bytes.len() + 1, out);
            out.push(b'"');
        }
        None => write_longer(bytes, out),
    }
}

/// Appends what separates an element from the one before, its name as a JSON string, and a colon.
#[inline]
pub(super) fn write_name(separator: u8, name: &[u8], out: &mut Vec<u8>) {
    match plain_word(name) {
        Some(word) => {
            let start = u16::from_le_bytes([separator, b'"']);
            put(u128::from(start) | u128::from(word) << 16, name.len() + 2, out);
            out.extend_from_slice(b"\":");
        }
        None => {
            out.push(separator);
            write_longer(name, out);
            out.push(b':');
        }
    }
}

/// Appends an integer.
#[inline]
pub(super) fn write_integer(number: i64, out: &mut Vec<u8>) {
    match number {
        // As many are.
        0..=9 => out.push(b'0' + number as u8),
        _ => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
    }
}

/// Appends the first `length` bytes of a number, the lowest first; by way of all of them, for that is one instruction.
#[inline]
fn put(bytes: u128, length: usize, out: &mut Vec<u8>) {
    let end = out.len() + length;
    out.extend_from_slice(&bytes.to_le_bytes());
    out.truncate(end);
}

/// A text of up to eight bytes as a number, the first the lowest, if it is ASCII without anything to escape.
#[inline]
fn plain_word(bytes: &[u8]) -> Option<u64> {
    let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    let length = bytes.len();
    let word = match bytes {
        // The last of them may overlap what is before: where it does it is the same.
        [_, _, _, _, ..] if length <= 8 => half(bytes.first_chunk()?) | half(bytes.last_chunk()?) << (8 * length - 32),
        [first, ..] if length < 4 => {
            let at = |position: usize| bytes.get(position).map_or(0, |byte| u64::from(*byte) << (8 * position));
            u64::from(*first) | at(1) | at(2)
        }
        [] => 0,
        _ => return None,
    };
    // What the text lacks is taken for spaces.
    let spaces = (ONES << 5).checked_shl(8 * length as u32).unwrap_or(0);
    is_plain_word(word | spaces).then_some(word)
}

#[inline]
fn is_plain_word(word: u64) -> bool {
    (specials(word) | word) & HIGHS == 0
}

/// A text that is longer than a word, or not plain.
fn write_longer(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    write_text(bytes, out);
    out.push(b'"');
}

/// The text within the quotes.
fn write_text(bytes: &[u8], out: &mut Vec<u8>) {
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    if std::str::from_utf8(bytes).is_ok() {
        return write_escaped(bytes, out);
    }
    for chunk in bytes.utf8_chunks() {
        write_escaped(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

/// Text that is UTF-8: runs without anything to escape are copied whole.
fn write_escaped(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((run, rest)) = first_special(bytes).and_then(|at| bytes.split_at_checked(at)) {
        let Some((special, rest)) = rest.split_first() else { break };
        out.extend_from_slice(run);
        write_escape(*special, out);
        bytes = rest;
    }
    out.extend_from_slice(bytes);
}

/// The lowest and the highest bit of each byte of a word.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGHS: u64 = ONES << 7;

/// Whether it is ASCII without anything to escape, as nearly all names and most strings are.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    let (large, rest) = bytes.as_chunks::<64>();
    if !large.iter().all(is_plain_chunk) {
        return false;
    }
    // The last chunk may overlap what is before it.
    match rest.last_chunk::<16>() {
        Some(last) => is_plain_chunk(last) && rest.as_chunks::<16>().0.iter().all(is_plain_chunk),
        None => match (rest.first_chunk(), rest.last_chunk()) {
            (Some(first), Some(last)) => [first, last].iter().all(|word| is_plain_word(u64::from_le_bytes(**word))),
            _ => !rest.iter().any(|byte| is_special(*byte)),
        },
    }
}

/// The same of so many bytes at once.
#[inline]
fn is_plain_chunk<const N: usize>(chunk: &[u8; N]) -> bool {
    !chunk.iter().fold(false, |found, byte| found | is_special(*byte))
}

/// Whether a byte is to be escaped, or not ASCII: those are below the space, too, as signed numbers.
#[inline]
fn is_special(byte: u8) -> bool {
    byte.cast_signed() < 0x20 || byte == b'"' || byte == b'\\'
}

/// The high bit of each byte of a word that JSON wants escaped; right up to the first of them, not beyond.
#[inline]
fn specials(word: u64) -> u64 {
    let below = |word: u64, n: u8| word.wrapping_sub(ONES * u64::from(n)) & !word & HIGHS;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    below(word, 0x20) | is(b'"') | is(b'\\')
}

/// Where the first quote, backslash or control character is; eight bytes at a time.
fn first_special(bytes: &[u8]) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<8>();
    for (position, word) in words.iter().enumerate() {
        let found = specials(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(position * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    rest.iter().position(special).map(|at| words.len() * 8 + at)
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = if byte & 15 < 10 { b'0' + (byte & 15) } else { b'a' + (byte & 15) - 10 };
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' + (byte >> 4), digit]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_valid_whatever_they_hold() {
        let rows: &[(&[u8], &str)] = &[
            (b"", r#""""#),
            (b"plain ascii, longer than a word", r#""plain ascii, longer than a word""#),
            (b"a\"b\\c/d\n\r\t\x08\x0c\x00\x1f\x7f", "\"a\\\"b\\\\c/d\\n\\r\\t\\b\\f\\u0000\\u001f\x7f\""),
            ("gr\u{fc}n \u{1f600}".as_bytes(), "\"gr\u{fc}n \u{1f600}\""),
            (b"a\xffb\xe2\x82", "\"a\u{fffd}b\u{fffd}\""),
        ];
        for (bytes, expected) in rows {
            let mut out = Vec::new();
            write_string(bytes, &mut out);
            assert_eq!(std::str::from_utf8(&out).unwrap(), *expected);
        }
    }

    #[test]
    fn any_byte_at_any_place_of_a_short_string() {
        for length in 0..20 {
            for place in 0..length {
                for byte in 0..=255 {
                    let mut bytes = vec![b'~'; length];
                    bytes[place] = byte;
                    let mut out = Vec::new();
                    write_string(&bytes, &mut out);
                    assert_eq!(out, serde_json::to_vec(&String::from_utf8_lossy(&bytes)).unwrap());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn strings_round_trip(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(text.as_bytes(), &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
