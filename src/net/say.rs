//! What the program says of itself: lines on stderr, from this one place.

use std::fmt::Display;
use std::io::Write;

use crate::sink::printed_lines;

/// Says a line on stderr, whole, whatever other threads say, and safe for a terminal, whoever chose the names in it. Where
/// nobody listens it is lost, and nothing comes of it.
pub fn say(line: impl Display) {
    let line = printed_lines(&line.to_string()) + "\n";
    _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// What to say of a trouble: the way out, if there is one, on a line of its own.
pub fn with_hint(trouble: impl Display, hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("{trouble}\nhint: {hint}"),
        None => trouble.to_string(),
    }
}
