//! Text that is safe to show: a terminal obeys control characters and reorders what follows a bidirectional one, so
//! names and values that came from the wire never reach it as they are.

use std::io::Write;

/// Appends the text with each character that is not for the eye written as Python writes it: `\n`, `\x1b`, `\u202e`.
pub(super) fn printable(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(is_hidden) {
        let (shown, after) = rest.split_at(at);
        out.extend_from_slice(shown.as_bytes());
        let mut characters = after.chars();
        if let Some(hidden) = characters.next() {
            escape(hidden, out);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// The same as a string of its own.
pub(crate) fn printed(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    printable(text, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// The same of several lines, which stay.
pub(crate) fn printed_lines(text: &str) -> String {
    text.split('\n').map(printed).collect::<Vec<_>>().join("\n")
}

/// So many of something, in words.
pub(crate) fn plural(count: u64, unit: &str) -> String {
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

fn escape(character: char, out: &mut Vec<u8>) {
    let written = match (character, u32::from(character)) {
        ('\n', _) => out.write_all(b"\\n"),
        ('\r', _) => out.write_all(b"\\r"),
        ('\t', _) => out.write_all(b"\\t"),
        (_, code @ ..=0xff) => write!(out, "\\x{code:02x}"),
        (_, code @ ..=0xffff) => write!(out, "\\u{code:04x}"),
        (_, code) => write!(out, "\\U{code:08x}"),
    };
    debug_assert!(written.is_ok(), "a Vec takes all that is written to it");
}

/// Control characters, what changes the direction of text, what breaks lines, and what has no width.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_spelled_out() {
        for (text, shown) in [
            ("", ""),
            ("orders.été 数据", "orders.été 数据"),
            ("a\x1b[2Jb\r\n\tc\0", "a\\x1b[2Jb\\r\\n\\tc\\x00"),
            ("\u{9b}31m\u{7f}", "\\x9b31m\\x7f"),
            ("\u{202e}txt.exe\u{2066}", "\\u202etxt.exe\\u2066"),
            ("\u{e0041}\u{2028}", "\\U000e0041\\u2028"),
        ] {
            assert_eq!(printed(text), shown);
        }
        assert_eq!(printed_lines("a\x1b\nb\r\n"), "a\\x1b\nb\\r\n");
    }
}
