//! What was written is read back, whatever happens to the file: cut or changed anywhere, it gives the records before
//! that place and says where it is.

use std::borrow::Cow;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::event::{
    Address, Compressor, Connection, ConnectionId, Exchange, Given, GivenMessage, Input, Original, Side, Timestamp,
};
use crate::redact::testing::redacted;

fn at(nanos: u64) -> Timestamp {
    Timestamp { monotonic_nanos: nanos, unix_micros: 1_795_333_471_867_123 + nanos as i64 / 1000 }
}

fn connection(id: u64, port: Option<u16>) -> Arc<Connection> {
    Arc::new(Connection {
        id: ConnectionId(id),
        client: format!("127.0.0.1:{id}"),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address { host: "localhost".to_owned(), port },
        tls: id.is_multiple_of(2),
    })
}

prop_compose! {
    fn message()(
        server: bool, took in 0_u64..9, sent in proptest::option::of(0_u64..1 << 40), exchange in proptest::option::of(0_u64..9),
        continued in proptest::option::of(any::<u64>()), length: i32, compressor in 0_usize..5, flags: Option<u32>,
        unread in proptest::option::of(".{0,9}"), has_original: bool, bytes in proptest::collection::vec(any::<u8>(), 16..300),
    ) -> GivenMessage<'static> {
        let compressors = [None, Some(Compressor::Noop), Some(Compressor::Snappy), Some(Compressor::Zlib), Some(Compressor::Zstd)];
        let original = Original { length, compressor: compressors[compressor], flags, unread: unread.map(Cow::Owned) };
        GivenMessage {
            side: if server { Side::Server } else { Side::Client },
            bytes: bytes.into(),
            took: Duration::from_nanos(took),
            sent_after: sent.map(Duration::from_nanos),
            exchange: exchange.map(Exchange),
            continued: continued.map(Exchange),
            original: has_original.then_some(original),
        }
    }
}

fn given() -> impl Strategy<Value = Given<'static>> {
    let side = || prop_oneof![Just(Side::Client), Just(Side::Server)];
    prop_oneof![
        (1_u64..9, any::<Option<u16>>()).prop_map(|(id, port)| Given::Opened(connection(id, port))),
        message().prop_map(Given::Message),
        (side(), proptest::collection::vec(any::<u8>(), 0..16))
            .prop_map(|(side, bytes)| Given::Begun { side, bytes: bytes.into() }),
        Just(Given::Sent),
        any::<bool>().prop_map(|is_monitor| Given::Judged { is_monitor }),
        Just(Given::Tick),
        (side(), ".{0,9}").prop_map(|(side, text)| Given::Withheld { side, message: text.into() }),
        (proptest::option::of(side()), proptest::option::of(".{0,9}"))
            .prop_map(|(by, error)| Given::Closed { by, error: error.map(Cow::Owned) }),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        8 => (1_u64..9, 0_u64..1 << 40, given()).prop_map(|(id, nanos, given)| {
            let id = if let Given::Opened(connection) = &given { connection.id.0 } else { id };
            Record::Input(Input { connection: ConnectionId(id), at: at(nanos), given })
        }),
        1 => (1_u64..9, 0_u64..9).prop_map(|(id, nanos)| Record::Carried { at: at(nanos), connection: connection(id, None) }),
        1 => (any::<u64>(), any::<u64>(), ".{0,9}")
            .prop_map(|(exchanges, bytes, reason)| Record::Missing { at: at(1), exchanges, bytes, reason }),
        1 => Just(Record::Ended { at: at(7) }),
    ]
}

fn push(records: &mut Records, record: &Record) {
    match record {
        Record::Input(input) => records.push(&redacted(input.clone())),
        Record::Carried { at, connection } => records.push_carried(connection, *at),
        Record::Missing { at, exchanges, bytes, reason } => records.push_missing(*at, *exchanges, *bytes, reason),
        Record::Ended { at } => records.push_ended(*at),
    }
}

/// A file of these blocks, and where its parts end: the header, each block, the index.
fn file(blocks: &[Vec<Record>], whole: bool) -> (Vec<u8>, Vec<usize>) {
    let header = Header { run: "r".to_owned(), ..Header::default() };
    let mut bytes = header.to_bytes();
    let (mut ends, mut index) = (vec![bytes.len()], Index::default());
    for block in blocks {
        let mut records = Records::default();
        block.iter().for_each(|record| push(&mut records, record));
        index.add(bytes.len() as u64, &records);
        write_records(&records, &mut bytes);
        ends.push(bytes.len());
    }
    if whole {
        let offset = bytes.len() as u64;
        index.write(offset, &mut bytes);
        ends.extend([bytes.len() - 16, bytes.len()]);
    }
    (bytes, ends)
}

/// Everything that can be read, and how that ended.
fn read(bytes: &[u8]) -> (Vec<Record>, Result<Option<Torn>, CaptureError>) {
    let mut reader = Reader::new(bytes);
    let mut records = Vec::new();
    let end = loop {
        match reader.next_block() {
            Ok(Some(block)) => records.extend(block),
            Ok(None) => break Ok(reader.torn()),
            Err(error) => break Err(error),
        }
    };
    (records, end)
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Record>>> {
    proptest::collection::vec(proptest::collection::vec(record(), 1..6), 0..5)
}

/// The records of the blocks that end by then, and where the part begins that does not.
fn before(blocks: &[Vec<Record>], ends: &[usize], at: usize) -> (Vec<Record>, usize) {
    let whole = ends.iter().filter(|end| **end <= at).count();
    let records = blocks.iter().take(whole.saturating_sub(1)).flatten().cloned().collect();
    (records, whole.checked_sub(1).map_or(0, |last| ends[last]))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_is_read(blocks in blocks(), whole: bool) {
        let (bytes, _) = file(&blocks, whole);
        let (records, end) = read(&bytes);
        prop_assert_eq!(records, blocks.concat());
        prop_assert_eq!(end.unwrap(), None);
        prop_assert_eq!(read_index(&mut Cursor::new(&bytes)).unwrap().is_some(), whole);
    }

    #[test]
    fn what_is_cut_off_is_missing_and_where_is_said(blocks in blocks(), whole: bool, at: prop::sample::Index) {
        let (bytes, ends) = file(&blocks, whole);
        let at = at.index(bytes.len());
        let (records, end) = read(&bytes[..at]);
        let (expected, offset) = before(&blocks, &ends, at);
        prop_assert_eq!(records, expected);
        let torn = Torn { offset: offset as u64, bytes: (at - offset) as u64 };
        prop_assert_eq!(end.unwrap(), (at > offset).then_some(torn));
    }

    #[test]
    fn what_is_changed_is_not_read_and_where_is_said(
        blocks in blocks(), whole: bool, at: prop::sample::Index, bit in 0_u32..8, zeros: bool,
    ) {
        let (mut bytes, ends) = file(&blocks, whole);
        let at = at.index(bytes.len());
        // As a disk may do it: zeros to the end.
        if zeros { bytes[at..].fill(0) } else { bytes[at] ^= 1 << bit }
        let changed = at + bytes.iter().zip(&file(&blocks, whole).0).skip(at).take_while(|(one, other)| one == other).count();
        prop_assume!(changed < bytes.len());
        let (records, end) = read(&bytes);
        let (expected, offset) = before(&blocks, &ends, changed);
        prop_assert_eq!(records, expected);
        match end {
            Err(CaptureError::Damaged { offset: said, .. }) => prop_assert_eq!(said, offset as u64),
            Err(CaptureError::NotACapture) => prop_assert!(changed < MAGIC.len()),
            // The trailer's offset is for those who seek.
            Ok(None) => prop_assert!(whole && changed >= bytes.len() - 16),
            // What ends in sectors of zeros is a torn end.
            Ok(Some(torn)) if zeros && torn.offset == offset as u64 && at.next_multiple_of(512) < bytes.len() => {
                prop_assert_eq!(torn.offset + torn.bytes, bytes.len() as u64);
            }
            // So is nothing but zeros.
            Ok(Some(torn)) if torn.offset >= offset as u64 && bytes[torn.offset as usize..].iter().all(|it| *it == 0) => {
                prop_assert_eq!(torn.offset + torn.bytes, bytes.len() as u64);
            }
            // The header's length has no checksum of its own: it is longer than all that there is.
            Ok(Some(torn)) => prop_assert!((12..16).contains(&changed) && torn.offset == 0),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let header = Header::default().to_bytes();
        _ = read(&bytes);
        _ = read(&[&header[..], &bytes].concat());
        let mut rest = &bytes[..];
        while record::decode(&mut rest).is_ok() && !rest.is_empty() {}
        _ = read_index(&mut Cursor::new([&bytes[..], &7_u64.to_le_bytes(), TRAILER].concat()));
    }
}

#[test]
fn a_file_that_grows_is_read_on() {
    let block = |nanos| vec![Record::Ended { at: at(nanos) }];
    let blocks = [block(1), block(2), block(3)];
    let (bytes, ends) = file(&blocks, true);
    struct Growing<'a>(&'a std::cell::Cell<&'a [u8]>);
    impl io::Read for Growing<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let mut there = self.0.get();
            let count = there.read(into)?;
            self.0.set(there);
            Ok(count)
        }
    }
    let there = std::cell::Cell::new(&bytes[..0]);
    let mut reader = Reader::new(Growing(&there));
    let mut found = Vec::new();
    for byte in 0..bytes.len() {
        there.set(&bytes[byte..=byte]);
        let records = reader.next_block().unwrap();
        assert_eq!(records.is_some(), ends[1..4].contains(&(byte + 1)), "{byte}");
        found.extend(records.unwrap_or_default());
    }
    assert_eq!(found, blocks.concat());
    assert!(reader.is_whole() && reader.torn().is_none());
}

#[test]
fn zeros_at_the_end_are_a_torn_one() {
    let block = |id| vec![Record::Carried { at: at(id * 100), connection: connection(id, None) }];
    let blocks = [block(1), block(2)];
    for whole in [false, true] {
        let (bytes, _) = file(&blocks, whole);
        for zeros in [1, 15, 16, 64, 3000, 70_000] {
            let behind = [&bytes[..], &vec![0; zeros][..]].concat();
            let (records, end) = read(&behind);
            assert_eq!(records, blocks.concat(), "{whole} {zeros}");
            assert_eq!(end.unwrap(), Some(Torn { offset: bytes.len() as u64, bytes: zeros as u64 }), "{whole} {zeros}");
            let (records, end) = read(&[&behind[..], b"x"].concat());
            assert!(records == blocks.concat() && (end.is_err() || zeros < 64), "{whole} {zeros}");
        }
    }
    // Where the end was to be, too.
    let (bytes, _) = file(&blocks, true);
    let offset = bytes.len() - 16;
    let (_, end) = read(&[&bytes[..offset], &[0; 900]].concat());
    assert_eq!(end.unwrap(), Some(Torn { offset: offset as u64, bytes: 900 }));
}

/// Where power fails, some of the sectors of what was written last have not come to the disk.
#[test]
fn a_block_whose_last_sectors_are_zeros_is_a_torn_end() {
    let name = |id: u64| (0..200).map(|n| (id * n * n).to_string()).collect::<String>();
    let block = |id| vec![Record::Missing { at: at(id), exchanges: 1, bytes: 2, reason: name(id) }];
    let blocks = [block(1), block(7)];
    let (bytes, ends) = file(&blocks, true);
    let begins = ends[1];
    let sectors: Vec<_> = (begins + 1..bytes.len()).filter(|at| at % 512 == 0).collect();
    assert!(!sectors.is_empty());
    for from in sectors {
        for more in [0, 100, 5000] {
            let zeroed = [&bytes[..from], &vec![0; bytes.len() - from + more][..]].concat();
            let (records, end) = read(&zeroed);
            assert!(records == blocks[0], "zeros from {from}");
            let torn = Torn { offset: begins as u64, bytes: (zeroed.len() - begins) as u64 };
            assert_eq!(end.unwrap(), Some(torn), "zeros from {from}, {more} more");
            let (_, end) = read(&[&zeroed[..], b"x"].concat());
            assert!(end.is_err(), "there is something behind the zeros");
        }
    }
}

#[test]
fn the_index_leads_to_blocks() {
    let block = |id| vec![Record::Carried { at: at(id * 100), connection: connection(id, None) }];
    let blocks = [block(3), block(1), vec![Record::Ended { at: at(900) }]];
    let (bytes, ends) = file(&blocks, true);
    let index = read_index(&mut Cursor::new(&bytes)).unwrap().unwrap();
    assert_eq!(index.iter().map(|entry| entry.offset as usize).collect::<Vec<_>>(), ends[..3]);
    assert_eq!((index[0].times, index[0].connections, index[1].connections), ((300, 300), (3, 3), (1, 1)));
    let mut reader = Reader::at(&bytes[ends[1]..], Header::default(), ends[1] as u64);
    assert_eq!(reader.next_block().unwrap().unwrap(), blocks[1]);
}

#[test]
fn an_index_does_not_grow_for_ever() {
    let mut index = Index::default();
    let mut records = Records::default();
    records.push_carried(&connection(4, None), at(4));
    (0..200_000).for_each(|offset| index.add(offset, &records));
    let mut bytes = Vec::new();
    index.write(0, &mut bytes);
    let read = read_index(&mut Cursor::new(&bytes)).unwrap().unwrap();
    assert!((30_000..70_000).contains(&read.len()), "{}", read.len());
    assert!(read.windows(2).all(|pair| pair[1].offset - pair[0].offset == 4), "{:?}", &read[..9]);
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = Header::default().to_bytes();
    bytes[8] = 9;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &bytes[20..]);
    bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
    let error = Reader::new(&bytes[..]).next_block().unwrap_err();
    assert_eq!(error.to_string(), "written in version 9 of the format; this build reads up to 1");
}

/// A capture of one block that says that it holds so much, of a kind and compressed in a way.
fn saying(header: &Header, head: [u8; 2], says: u32, stored: &[u8]) -> Vec<u8> {
    let mut bytes = header.to_bytes();
    let stored_len = u32::try_from(stored.len()).unwrap().to_le_bytes();
    let head = [&head[..], &[0; 2], &stored_len, &says.to_le_bytes()].concat();
    for part in [b"mtpb", &head[..], &crc32c::crc32c(&head).to_le_bytes(), &crc32c::crc32c(stored).to_le_bytes()] {
        bytes.extend_from_slice(part);
    }
    bytes.extend_from_slice(stored);
    bytes
}

#[test]
fn a_block_holds_no_more_than_messages_may_be_long() {
    let header = Header { max_message_bytes: 1 << 20, ..Header::default() };
    let bomb = zstd::bulk::compress(&vec![0; 120 << 20], 1).unwrap();
    for kind in [1, 7] {
        for stored in [&bomb[..], b"a"] {
            for says in [48_000_000 + (64 << 20) + 1, 120 << 20, u32::MAX] {
                let bytes = saying(&header, [kind, 1], says, stored);
                let error = Reader::new(&bytes[..]).next_block().unwrap_err().to_string();
                assert!(
                    error.ends_with(&format!("it holds {says} bytes, and no more than 115108864 can be")),
                    "{error}"
                );
            }
        }
    }
    // One that says less than it has is read as far as it says.
    let error = Reader::new(&saying(&header, [1, 1], 1000, &bomb)[..]).next_block().unwrap_err().to_string();
    assert!(error.ends_with("a block cannot be inflated"), "{error}");
    // Who records longer messages has longer blocks.
    let header = Header { max_message_bytes: 64 << 20, ..Header::default() };
    // (Of a kind that is passed over, for its content is.)
    assert!(Reader::new(&saying(&header, [7, 1], 120 << 20, &bomb)[..]).next_block().unwrap().is_none());
}

#[test]
fn an_index_holds_no_more_than_its_entries() {
    let stored = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let mut bytes = saying(&Header::default(), [2, 1], 64 << 20, &stored);
    let offset = Header::default().to_bytes().len() as u64;
    bytes.extend_from_slice(&[&offset.to_le_bytes()[..], b"MTAPEND\n"].concat());
    let error = read_index(&mut Cursor::new(&bytes)).unwrap_err().to_string();
    assert!(error.contains("no more than"), "{error}");
    let error = Reader::new(&bytes[..]).next_block().unwrap_err().to_string();
    assert!(error.contains("no more than"), "{error}");
}
