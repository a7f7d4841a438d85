//! Whether mongotap's log tells of every operation, and its capture holds them: if not, its speed does not count.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use memchr::memmem::Finder;
use mongotap::capture::mtap::{Reader, Record};
use mongotap::event::{Given, Side};

use crate::Result;

/// Refuses a log in which `seq` has a gap, that lacks the start or the success of any of `operations`, or that
/// tells of a failure, of an error of protocol, or of dropped events.
pub(crate) fn check(path: &Path, operations: u64) -> Result<()> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let event = Finder::new(br#""event":""#);
    let (mut started, mut succeeded, mut next) = (0, 0, 0_u64);
    let mut line = Vec::new();
    while read_line(&mut reader, &mut line)? {
        let number = next;
        next += 1;
        let refuse = |why: &str| format!("the log's line {next} {why}: {}", String::from_utf8_lossy(head(&line)));
        if seq(&line) != Some(number) {
            return Err(refuse(&format!("does not have seq {number}")).into());
        }
        let at = event.find(&line).ok_or_else(|| refuse("names no event"))? + event.needle().len();
        match line[at..].split(|byte| *byte == b'"').next().unwrap_or_default() {
            b"commandStartedEvent" => started += 1,
            b"commandSucceededEvent" => succeeded += 1,
            b"commandFailedEvent" | b"eventsDroppedEvent" | b"protocolErrorEvent" => {
                return Err(refuse("is of an event that must not be").into());
            }
            _ => {}
        }
    }
    if started != operations || succeeded != operations {
        return Err(
            format!("the log holds {started} starts and {succeeded} successes of {operations} operations").into()
        );
    }
    Ok(())
}

/// Refuses a capture that lacks the request or the reply of any of `operations`, that was not closed, or that says
/// itself that something is missing. What connections say at their beginning comes on top.
pub(crate) fn check_capture(path: &Path, operations: u64) -> Result<()> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut reader = Reader::new(BufReader::with_capacity(1 << 20, file));
    let (mut requests, mut replies) = (0, 0);
    while let Some(records) = reader.next_block()? {
        for record in records {
            match record {
                Record::Input(input) => match input.given {
                    Given::Message(message) if message.exchange.is_none() => {}
                    Given::Message(message) if message.side == Side::Client => requests += 1,
                    Given::Message(_) => replies += 1,
                    _ => {}
                },
                Record::Missing { reason, .. } => return Err(format!("the capture lacks exchanges: {reason}").into()),
                _ => {}
            }
        }
    }
    if !reader.is_whole() || requests < operations || replies != requests {
        return Err(format!("the capture holds {requests} requests and {replies} replies of {operations}").into());
    }
    Ok(())
}

fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    reader.read_until(b'\n', line)?;
    match line.pop() {
        None => Ok(false),
        Some(b'\n') => Ok(true),
        Some(_) => Err("the log's last line has no end".into()),
    }
}

/// The number in `{"seq":N,`, which every line begins with.
fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(br#"{"seq":"#)?;
    let digits = rest.split(|byte| *byte == b',').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn head(line: &[u8]) -> &[u8] {
    &line[..line.len().min(300)]
}
