//! Which part of a recording a file is: captures and logs that were rotated say it in their first bytes.

use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::Path;

use serde::Deserialize;

use super::line::timestamp;
use super::mtap::{MAGIC, Reader};
use crate::sink::jsonl::LINE_START;

/// No first line of a log is longer that says which part it is.
const LINE_LEN_MAX: u64 = 1 << 20;

/// Bytes of a log that are looked through at a time, from its end.
const STEP_LEN: u64 = 64 << 10;

/// Longer than the beginning of a line that has its number.
const NUMBER_LEN: u64 = 32;

/// Which file of which recording it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Part {
    /// Whether it is a capture; else it is a log.
    pub is_capture: bool,
    /// What tells the run from others; `None` for a log whose first line does not say it.
    pub run: Option<String>,
    /// Which of the run's logs it is of, from 1. A run has one capture.
    pub log: u64,
    /// Of a capture which file of the run it is, from 0; of a log the `seq` of its first line.
    pub number: u64,
    /// When the run began, of a log this file, in microseconds since 1970.
    pub started_micros: i64,
}

impl Part {
    /// Reads the beginning of a file; `None` if there is not enough of it, or it is something else.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(mut input: impl BufRead) -> io::Result<Option<Self>> {
        let first = input.fill_buf()?;
        if first.starts_with(LINE_START) {
            let mut line = Vec::new();
            input.take(LINE_LEN_MAX).read_until(b'\n', &mut line)?;
            return Ok(Self::of_line(&line));
        }
        if first.is_empty() || !MAGIC.starts_with(&first[..first.len().min(MAGIC.len())]) {
            return Ok(None);
        }
        let mut reader = Reader::new(input);
        let Ok(Some(header)) = reader.header() else { return Ok(None) };
        Ok(Some(Self {
            is_capture: true,
            run: Some(header.run.clone()),
            log: 1,
            number: header.part,
            started_micros: header.started_micros,
        }))
    }

    fn of_line(line: &[u8]) -> Option<Self> {
        let First { seq, ts, run, log } = serde_json::from_slice(line.strip_suffix(b"\n")?).ok()?;
        let started_micros = timestamp(&ts).ok()?.unix_micros;
        Some(Self { is_capture: false, run, log: log.unwrap_or(1), number: seq, started_micros })
    }

    /// Whether it is of the run that is called so, as far as it tells.
    pub fn is_of(&self, run: Option<&str>) -> bool {
        self.run.is_none() || run.is_none() || self.run.as_deref() == run
    }
}

/// The `seq` of the last whole line of a log that has one. The file is left wherever it was read to.
///
/// # Errors
/// If it cannot be read.
pub fn last_seq(mut log: impl Read + Seek) -> io::Result<Option<u64>> {
    let mut end = log.seek(SeekFrom::End(0))?;
    let mut is_whole = false;
    while end > 0 {
        let start = end.saturating_sub(STEP_LEN);
        let bytes = read_at(&mut log, start, end - start)?;
        for at in memchr::memrchr_iter(b'\n', &bytes) {
            let line = start + at as u64 + 1;
            if is_whole && let Some(seq) = seq_at(&mut log, line)? {
                return Ok(Some(seq));
            }
            is_whole = true;
        }
        end = start;
    }
    if is_whole { seq_at(&mut log, 0) } else { Ok(None) }
}

/// The number of the line that begins there, if it has one.
fn seq_at(log: &mut (impl Read + Seek), line: u64) -> io::Result<Option<u64>> {
    let bytes = read_at(log, line, NUMBER_LEN)?;
    let Some(number) = bytes.strip_prefix(LINE_START) else { return Ok(None) };
    let digits = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    Ok(std::str::from_utf8(&number[..digits]).ok().and_then(|digits| digits.parse().ok()))
}

/// So many bytes from there on, or what there is of them.
fn read_at(log: &mut (impl Read + Seek), at: u64, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    log.seek(SeekFrom::Start(at))?;
    log.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which files of a recording are missing between two of these numbers, in words; `None` if none is.
pub fn missing_between(before: u64, after: u64) -> Option<String> {
    match after.checked_sub(before)? {
        0 | 1 => None,
        2 => Some(format!("file {after} of the recording is missing")),
        _ => Some(format!("files {} to {after} of the recording are missing", before + 2)),
    }
}

/// That a capture is not the first of its recording, in words; `None` if it is.
pub fn missing_before(number: u64) -> Option<String> {
    let files = match number {
        0 => return None,
        1 => "file 1 is".to_owned(),
        _ => format!("files 1 to {number} are"),
    };
    Some(format!("its recording began before: {files} not here"))
}

/// That files are missing between two of a capture, in words; `None` if none is, or they are of different runs.
pub fn gap_between((one, before): (&Path, &Part), (other, after): (&Path, &Part)) -> Option<String> {
    let is_one = after.is_capture && after.run == before.run;
    let missing = is_one.then(|| missing_between(before.number, after.number)).flatten()?;
    Some(format!("{missing}, between {} and {}", one.display(), other.display()))
}

/// What is said of a run that has no end.
pub const UNENDED: &str = "not ended in good order: the recorder was killed, its disk was full, or this is a copy";

/// The first line of a log.
#[derive(Deserialize)]
struct First {
    seq: u64,
    ts: String,
    run: Option<String>,
    log: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURE: &[u8] = include_bytes!("../../fixtures/capture/v1.mtap");
    const LOG: &[u8] = include_bytes!("../../fixtures/capture/v1.jsonl");

    fn read(bytes: &[u8]) -> Option<Part> {
        Part::read(bytes).unwrap()
    }

    #[test]
    fn captures_and_logs_say_which_part_they_are() {
        let capture = read(CAPTURE).unwrap();
        assert!(capture.is_capture && capture.run.is_some() && capture.number == 0);
        let log = read(LOG).unwrap();
        assert!(!log.is_capture && log.run.is_some() && log.number == 0);
        assert!(log.is_of(capture.run.as_deref()) == (log.run == capture.run));
        let later = read(b"{\"seq\":7,\"event\":\"x\",\"ts\":\"2026-11-22T07:44:31.867123Z\"}\n").unwrap();
        assert_eq!((later.number, later.run, later.started_micros), (7, None, 1_795_333_471_867_123));
    }

    #[test]
    fn files_that_are_missing_are_counted_from_1() {
        let said = |before, after| missing_between(before, after).unwrap_or_default();
        assert_eq!((said(3, 4), said(4, 4), said(5, 4)), Default::default());
        assert_eq!(said(0, 2), "file 2 of the recording is missing");
        assert_eq!(said(1, 5), "files 3 to 5 of the recording are missing");
        let said = |number| missing_before(number).unwrap_or_default();
        assert_eq!((said(0), said(1)), (String::new(), "its recording began before: file 1 is not here".to_owned()));
        assert_eq!(said(12), "its recording began before: files 1 to 12 are not here");
    }

    #[test]
    fn the_last_number_is_that_of_a_whole_line() {
        let last = |text: &str| last_seq(io::Cursor::new(text)).unwrap();
        let long = format!("{{\"seq\":8,\"x\":\"{}\"}}\n", "x".repeat(200_000));
        for (text, seq) in [
            ("", None),
            ("{\"seq\":7,\"event\"", None),
            ("no line of a log\n", None),
            ("{\"seq\":7,\"x\":1}\n", Some(7)),
            ("{\"seq\":7,\"x\":1}\n{\"seq\":8,\"x\"", Some(7)),
            ("{\"seq\":7}\n{\"seq\":18446744073709551615}\nelse\n", Some(u64::MAX)),
            (&long, Some(8)),
            (&(long.clone() + &long[..long.len() - 1]), Some(8)),
        ] {
            assert_eq!(last(text), seq, "{}", &text[..text.len().min(40)]);
        }
    }

    #[test]
    fn what_is_not_whole_or_something_else_says_nothing() {
        for bytes in [&b""[..], b"{\"seq\":7,\"event\"", b"{\"seq\":x}\n", &CAPTURE[..30], b"MTAP?", b"{}\n"] {
            assert_eq!(read(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
    }
}
