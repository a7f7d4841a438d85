//! JSON strings from bytes that are meant to be UTF-8.

/// Appends bytes that are meant to be UTF-8 as a JSON string, quotes included.
pub fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
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
    let plain = |word: u64| (specials(word) | word) & HIGHS == 0;
    let word = |bytes: &[u8; 8]| plain(u64::from_le_bytes(*bytes));
    let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    // The last word of a longer text, and the halves of a shorter one, may overlap what is before them.
    if let Some(last) = bytes.last_chunk() {
        word(last) && bytes.as_chunks().0.iter().all(word)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        plain(half(first) | half(last) << 32)
    } else {
        bytes.iter().all(|byte| plain(ONES * u64::from(*byte)))
    }
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
