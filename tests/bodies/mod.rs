//! What is tried with bytes from anywhere: one plain function a target, for the fuzzers in `fuzz/` and for
//! `tests/hostile.rs`, which runs them over their seeds and seeded mutations of them.
//!
//! Each fails by panicking: a reader of bytes must not, and what it gives must hold to what is promised of it.

mod checks;
mod codec;
mod derived;
mod documents;
mod everywhere;
mod files;
mod names;
#[path = "../nobodies/mod.rs"]
mod nobodies;
mod planted;
mod redaction;
mod session;
mod settings;

/// A target: its name, the same as that of its fuzzer, and what is done with the bytes.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 12] = [
    ("capture", files::capture),
    ("codec", codec::codec),
    ("configuration", settings::configuration),
    ("connection_string", settings::connection_string),
    ("documents", documents::documents),
    ("fixture", files::fixture),
    ("framer", codec::framer),
    ("log", files::log),
    ("pcap", files::pcap),
    ("redaction", redaction::redaction),
    ("rewriting", names::rewriting),
    ("session", session::session),
];

/// Bytes as decisions, one after the other; 0 when there are no more.
struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn word(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Whether something happens that does once in so many times.
    fn one_in(&mut self, times: u8) -> bool {
        self.byte().is_multiple_of(times)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::from(self.byte()) % all.len()]
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

/// Whether a line could do more to a terminal than be read on it.
fn is_for_the_eye(line: &str) -> bool {
    !line.contains(|it: char| it.is_control() || matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'))
}

#[allow(unused_imports, reason = "for the tests, not for the fuzzers")]
pub(crate) use redaction::{where_it_shows, where_swallowed_shows};

/// Runs the target of that name.
#[allow(dead_code, reason = "the fuzzers' way in")]
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("a target");
    (target.1)(bytes);
}
