//! The rows of `fixtures/wire.txt`: messages as hex, for tests and benches.

use std::path::PathBuf;

/// One message and what is expected of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What it is.
    pub(crate) name: String,
    /// The message, whole or not.
    pub(crate) bytes: Vec<u8>,
    /// The lines after the bytes, each with its mark: `=`, `!`, `>=`, `>!`.
    pub(crate) expected: Vec<String>,
}

/// Where the table is.
pub(crate) fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/wire.txt")
}

/// All rows, in the table's order.
pub(crate) fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(path()).expect("fixtures/wire.txt can be read");
    text.split("\n\n").filter_map(row).collect()
}

fn row(block: &str) -> Option<Row> {
    let mut lines = block.lines().filter(|line| !line.starts_with('#'));
    let name = lines.next()?.to_owned();
    let (bytes, expected): (Vec<&str>, Vec<&str>) = lines.map(str::trim).partition(|line| is_hex(line));
    let bytes = unhex(&bytes.concat());
    Some(Row { name, bytes, expected: expected.into_iter().map(str::to_owned).collect() })
}

/// Whether a line of a row is bytes; `-` stands for none.
pub(crate) fn is_hex(line: &str) -> bool {
    let line = line.trim();
    line == "-" || (!line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b' '))
}

/// Bytes of hex digits, spaced at will.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of hex digits: {text}");
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("two hex digits are a byte");
    digits.chunks(2).map(byte).collect()
}
