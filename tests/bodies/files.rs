//! Files that somebody has damaged or made: each reader says where it breaks, and what it gives can be used.

use std::io::Cursor;

use mongotap::capture::convert::{Filter, Masking, Selecting, filter_capture, record};
use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::fixture::{Fixture, collect};
use mongotap::capture::mtap::{CaptureError, Header, Reader, Record};
use mongotap::capture::pcap::{PcapError, read_packets, write_packets};
use mongotap::capture::source::{Source, SourceError};
use mongotap::redact::Fields;
use mongotap::redact::fields::Mode;
use mongotap::sink::{Compact, Options, Render, Statistics, Text};

use super::is_for_the_eye;

/// A capture. An even first byte says that a file follows, an odd one that records do.
pub(super) fn capture(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    if first % 2 == 0 { file(rest) } else { file(&of_records(rest)) }
}

/// A capture of one block with these records, put together by the format's description.
fn of_records(records: &[u8]) -> Vec<u8> {
    let header = Header { max_message_bytes: 1 << 16, inflate_max_bytes: 1 << 16, ..Header::default() };
    let mut file = header.to_bytes();
    let length = u32::try_from(records.len()).unwrap().to_le_bytes();
    let head = [&[1, 0, 0, 0][..], &length, &length].concat();
    for part in [b"mtpb", &head[..], &crc32c::crc32c(&head).to_le_bytes(), &crc32c::crc32c(records).to_le_bytes()] {
        file.extend_from_slice(part);
    }
    file.extend_from_slice(records);
    file
}

fn file(bytes: &[u8]) {
    let (records, end) = records(bytes);
    let len = bytes.len() as u64;
    match &end {
        Ok(reader) => assert!(reader.torn().is_none_or(|torn| torn.offset + torn.bytes == len), "{:?}", reader.torn()),
        Err(CaptureError::Damaged { offset, what }) => {
            assert!(*offset <= len && is_for_the_eye(what), "{offset}: {what}")
        }
        Err(_) => {}
    }
    // What is there of a file that is still being written is what will be there.
    for cut in [bytes.len() / 2, bytes.len().saturating_sub(1)] {
        let (before, _) = self::records(&bytes[..cut]);
        assert!(records.len() >= before.len() && format!("{:?}", &records[..before.len()]) == format!("{before:?}"));
    }
    lines_of(bytes);
    let mut selecting = Selecting::new(Filter::default());
    let mut exchanges = Vec::new();
    for exchange in Exchanges::new([bytes]).map_while(Result::ok) {
        selecting.take(&exchange);
        exchanges.push(Ok::<_, CaptureError>(exchange));
    }
    let text = collect(exchanges, "fuzz").unwrap().fixture.to_text();
    if let Err(error) = Fixture::parse(&text) {
        panic!("a fixture that was written cannot be read: {error}\n{text}");
    }
    let selection = selecting.finish();
    let values = Masking { values: true, fields: None };
    for masking in [Masking::default(), values, fields()] {
        let mut filtered = Vec::new();
        if filter_capture([bytes], &selection, &masking, &mut filtered).is_ok() && !filtered.is_empty() {
            assert!(self::records(&filtered).1.is_ok(), "a capture that was written cannot be read");
        }
    }
    let mut packets = Vec::new();
    if write_packets(bytes, &mut packets).is_ok() {
        read_packets(&packets[..], "fuzz", &mut Vec::new()).expect("packets that were written can be read");
    }
}

/// Fields that are in the seeds.
fn fields() -> Masking {
    let paths = ["*.name", "*.a", "*.*.b"].map(|path| path.parse().expect("it is a path"));
    Masking { values: false, fields: Some(Fields::new(paths.to_vec(), Mode::Hash, b"key").expect("there are paths")) }
}

/// The records of a capture, and how it ends.
fn records(bytes: &[u8]) -> (Vec<Record>, Result<Reader<&[u8]>, CaptureError>) {
    let mut reader = Reader::new(bytes);
    let mut records = Vec::new();
    loop {
        match reader.next_block() {
            Ok(Some(block)) => records.extend(block),
            Ok(None) => return (records, Ok(reader)),
            Err(error) => return (records, Err(error)),
        }
    }
}

/// An event log, or a capture in its place.
pub(super) fn log(bytes: &[u8]) {
    lines_of(bytes);
}

/// Reads events from whatever it is, as `show` and `stats` do: what they print is for the eye.
fn lines_of(bytes: &[u8]) {
    let options = Options::default();
    let mut source = Source::open(Cursor::new(bytes), Some(&options)).unwrap();
    let (mut compact, mut statistics) = (Compact::new(&options), Statistics::default());
    let (mut lines, mut errors) = (Vec::new(), 0);
    loop {
        match source.next_item() {
            Ok(None) => break,
            Ok(Some((item, line))) => {
                if let mongotap::capture::log::Item::Entry(entry) = item {
                    serde_json::from_slice::<serde_json::Map<_, _>>(line).expect("a line is an object");
                    compact.render(&entry, &mut lines);
                    Text.render(&entry, &mut lines);
                    statistics.observe(&entry);
                }
            }
            Err(SourceError::Log(error)) => {
                errors += 1;
                if errors > bytes.len() || !error.to_string().starts_with("line ") {
                    break;
                }
            }
            Err(SourceError::Capture(_)) => break,
        }
    }
    assert!(errors <= bytes.len(), "it does not come to an end");
    for line in String::from_utf8(lines).unwrap().lines().chain(statistics.table().lines()) {
        assert!(is_for_the_eye(line), "{line:?}");
    }
}

/// A fixture.
pub(super) fn fixture(bytes: &[u8]) {
    let read = match Fixture::parse_bytes(bytes) {
        Ok(read) => read,
        Err(error) => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}");
            assert!(!error.message.is_empty(), "{error:?}");
            return;
        }
    };
    let text = read.to_text();
    let again = Fixture::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.to_text(), text);
    let mut capture = Vec::new();
    let written = read.exchanges.iter().cloned().map(Ok::<_, std::io::Error>);
    if record(&read.header, written, &mut capture).is_ok() {
        let exchanges = Exchanges::new([&capture[..]]).map(|it| it.expect("a capture that was written can be read"));
        assert!(exchanges.count() >= read.exchanges.len(), "exchanges are lost\n{text}");
    }
}

/// A file of packets.
pub(super) fn pcap(bytes: &[u8]) {
    let mut capture = Vec::new();
    match read_packets(bytes, "fuzz", &mut capture) {
        Ok(summary) => {
            let (records, end) = records(&capture);
            assert!(end.is_ok_and(|reader| reader.torn().is_none()), "a capture that was written cannot be read");
            assert!(summary.connections == 0 || !records.is_empty());
            let lost = summary.lost.iter().map(|lost| lost.to_string());
            assert!(summary.lost.len() as u64 <= summary.lost_count && { lost }.all(|it| is_for_the_eye(&it)));
            if summary.connections > 0 {
                let mut packets = Vec::new();
                write_packets(&capture[..], &mut packets).expect("a capture is written as packets");
            }
        }
        Err(PcapError::Damaged { offset, what }) => {
            assert!(offset <= bytes.len() as u64 && is_for_the_eye(&what), "{offset}: {what}");
        }
        Err(_) => {}
    }
}
