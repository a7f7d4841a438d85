//! Recorded exchanges from a file, be it a capture or a fixture: told apart by its first bytes, never by its name.

use std::io::{self, BufRead};

use super::exchange::Exchange;
use super::exchanges::Exchanges;
use super::fixture::{FixtureError, ReadError, Reader};
use super::mtap::{CaptureError, MAGIC};
use crate::sink::plural;

/// Why there are no exchanges in a file, or no more.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is a capture, and not all of it is as it was written.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// It is a fixture with a mistake.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// There is nothing in it.
    #[error("empty")]
    Empty,
    /// It is an event log: its documents may be cut, and their types are lost.
    #[error("an event log, which does not hold what was asked and answered as it was")]
    Log,
    /// It begins with three bytes that some editors write.
    #[error("begins with a byte order mark")]
    Mark,
    /// It is something else.
    #[error("neither a capture nor a fixture")]
    Unknown,
}

impl From<ReadError> for OpenError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => Self::Io(error),
            ReadError::Fixture(error) => Self::Fixture(error),
        }
    }
}

impl OpenError {
    /// The way out.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io(_) | Self::Capture(CaptureError::Io(_)) => None,
            Self::Capture(CaptureError::Newer { .. }) => Some("a later mongotap reads it"),
            Self::Capture(_) => Some("what comes before was read; a copy of the file may be whole"),
            Self::Fixture(_) => Some("mongotap convert CAPTURE.mtap FIXTURE.jsonl writes a fixture anew"),
            Self::Mark => Some("save it as UTF-8 without a byte order mark"),
            Self::Empty | Self::Log | Self::Unknown => {
                Some("mongotap proxy --capture FILE.mtap records one, and mongotap convert makes a fixture of it")
            }
        }
    }
}

/// What is recorded in a file.
#[derive(Debug)]
pub enum Recorded<R> {
    /// The exchanges of a capture, read as they are wanted.
    Capture(Box<Exchanges<R>>),
    /// The same of a fixture.
    Fixture(Box<Reader<R>>),
}

impl<R: BufRead> Recorded<R> {
    /// Opens a file by its first bytes.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(mut input: R) -> Result<Self, OpenError> {
        let first = input.fill_buf()?;
        if first.is_empty() {
            return Err(OpenError::Empty);
        }
        if MAGIC.starts_with(&first[..first.len().min(MAGIC.len())]) {
            return Ok(Self::Capture(Box::new(Exchanges::new([input]))));
        }
        if first.starts_with(b"\xef\xbb\xbf") {
            return Err(OpenError::Mark);
        }
        let start = first.trim_ascii_start();
        if !start.starts_with(b"{") {
            return Err(OpenError::Unknown);
        }
        if start.starts_with(b"{\"seq\":") {
            return Err(OpenError::Log);
        }
        Ok(Self::Fixture(Box::new(Reader::new(input)?)))
    }

    /// What a capture says is missing in it, so far as it was read, in words.
    pub fn missing(&self) -> Vec<String> {
        let Self::Capture(exchanges) = self else { return Vec::new() };
        let gaps = exchanges.gaps().iter().cloned();
        gaps.chain(missing_exchanges(exchanges.missing())).collect()
    }
}

/// That so many exchanges are missing, in words, if any is.
pub fn missing_exchanges(count: u64) -> Option<String> {
    (count > 0).then(|| format!("{} missing", plural(count, "exchange")))
}

impl<R: BufRead> Iterator for Recorded<R> {
    type Item = Result<Exchange, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Capture(exchanges) => Some(exchanges.next()?.map_err(OpenError::from)),
            Self::Fixture(fixture) => Some(fixture.next()?.map_err(OpenError::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &[u8] = include_bytes!("../../fixtures/capture/v1.mtap");
    const FIXTURE: &[u8] = include_bytes!("../../fixtures/demo.jsonl");

    #[test]
    fn files_are_told_apart() {
        let capture = Recorded::open(CAPTURE).unwrap();
        assert!(matches!(capture, Recorded::Capture(_)));
        assert_eq!(capture.count(), 16);
        let fixture = Recorded::open(FIXTURE).unwrap();
        assert!(matches!(fixture, Recorded::Fixture(_)));
        let exchanges: Vec<_> = fixture.map(Result::unwrap).collect();
        let millis = exchanges.iter().map(|exchange| exchange.at.unix_micros / 1000 - EPOCH_MILLIS);
        assert!(exchanges.len() > 10 && millis.eq(0..exchanges.len() as i64));
    }

    const EPOCH_MILLIS: i64 = 16_725_225_600_500;

    #[test]
    fn what_is_neither_is_refused() {
        let log = include_bytes!("../../fixtures/capture/v1.jsonl");
        let rows: [(&[u8], &str); 6] = [
            (b"", "empty"),
            (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
            (log, "an event log, which does not hold what was asked and answered as it was"),
            (b"listen = 5", "neither a capture nor a fixture"),
            (b"{\"mongotap\":\"\xff\"}", "line 1, column 14: expected UTF-8"),
            (b"{}", "line 1, column 2: expected \"mongotap\" in it"),
        ];
        for (bytes, expected) in rows {
            let error = Recorded::open(bytes).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(error.hint().is_some());
        }
    }
}
