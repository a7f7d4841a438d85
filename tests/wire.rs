//! The codec against a table of hex, `fixtures/wire.txt`, and against everything that one wrong byte can make of it.
//!
//! Each row is decoded, and encoded again byte for byte. Each prefix and each one-byte mutation of each row goes through
//! the codec and, from either side, through a whole session: no panic, no event without its other half, no message that
//! depends on how the bytes were cut, and no memory beyond the limits. `MONGOTAP_TEST_MUTATIONS=all` tries every value of
//! every byte.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

#[path = "bodies/checks.rs"]
mod checks;
mod nobodies;
mod wire_table;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{LazyLock, PoisonError, RwLock};

use bytes::BytesMut;
use peak_alloc::PeakAlloc;

use checks::{check_events, check_round_trip, encode, text};
use mongotap::event::{Entry, Event, Side, Timestamp};
use mongotap::session::{Limits, Session, Shared};
use mongotap::wire::{
    Compressor, Header, LengthPrefix, MESSAGE_LEN_MAX, Message, OpMsg, Reader, WireError, compress, msg_flags,
};
use nobodies::connection;
use wire_table::{Row, rows, unhex};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Limits that the rows of the table exceed.
const SMALL: Limits = Limits { max_message_bytes: 4096, inflate_max_bytes: 256, max_document_bytes: 40 };

/// What a session may take of memory for a message of the table, whatever that announces. The other tests of this
/// program run beside the one that measures.
const MEMORY_MAX: usize = 1 << 20;

// --- what a row says

fn texts<'a>(documents: impl Iterator<Item = &'a [u8]>) -> String {
    format!("[{}]", documents.map(text).collect::<Vec<_>>().join(","))
}

fn bytes_as_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn describe(header: &Header, message: &Message<'_>) -> String {
    let ids = format!("id={} to={}", header.request_id, header.response_to);
    match message {
        Message::Msg(it) => format!("OP_MSG {ids} flags={:#x}{}", it.flags, sections(it)),
        Message::Compressed(it) => {
            let (code, size) = (it.original_op_code, it.uncompressed_size);
            format!("OP_COMPRESSED {ids} {code:?} size={size} {:?}: {} bytes", it.compressor, it.compressed.len())
        }
        Message::Query(it) => {
            let mut out = format!("OP_QUERY {ids} flags={:#x} {}", it.flags, bytes_as_text(it.full_collection_name));
            write!(out, " skip={} return={} {}", it.number_to_skip, it.number_to_return, text(it.query)).unwrap();
            it.return_fields_selector.iter().for_each(|fields| write!(out, " fields={}", text(fields)).unwrap());
            out
        }
        Message::Reply(it) => {
            let (flags, cursor, start) = (it.flags, it.cursor_id, it.starting_from);
            let documents = texts(it.iter());
            format!("OP_REPLY {ids} flags={flags:#x} cursor={cursor} from={start} n={} {documents}", it.number_returned)
        }
        Message::Insert(it) => {
            let (flags, namespace) = (it.flags, bytes_as_text(it.full_collection_name));
            format!("OP_INSERT {ids} {namespace} flags={flags:#x} {}", texts(it.iter()))
        }
        Message::Update(it) => {
            let (flags, namespace) = (it.flags, bytes_as_text(it.full_collection_name));
            format!("OP_UPDATE {ids} {namespace} flags={flags:#x} {} {}", text(it.selector), text(it.update))
        }
        Message::Delete(it) => {
            let (flags, namespace) = (it.flags, bytes_as_text(it.full_collection_name));
            format!("OP_DELETE {ids} {namespace} flags={flags:#x} {}", text(it.selector))
        }
        Message::GetMore(it) => {
            let namespace = bytes_as_text(it.full_collection_name);
            format!("OP_GET_MORE {ids} {namespace} return={} cursor={}", it.number_to_return, it.cursor_id)
        }
        Message::KillCursors(it) => format!("OP_KILL_CURSORS {ids} {:?}", it.iter().collect::<Vec<_>>()),
    }
}

fn sections(message: &OpMsg<'_>) -> String {
    let sequences =
        message.sequences.iter().map(|it| format!(" {}={}", bytes_as_text(it.identifier), texts(it.iter())));
    let mut sections: Vec<String> = sequences.collect();
    sections.insert(message.sequences_before_body, format!(" {}", text(message.body)));
    sections.concat()
}

/// Decodes as a framer would have it: the length is judged first, and bytes beyond it are not looked at.
fn decode(bytes: &[u8]) -> Result<(Header, Message<'_>), WireError> {
    let header = Header::decode(&mut Reader::new(bytes))?;
    let len = header.checked_len(MESSAGE_LEN_MAX)?;
    let frame = bytes.get(..len).ok_or(WireError::Short { field: "message", needed: len, had: bytes.len() })?;
    Message::decode(frame)
}

/// The message inside a compressed one, or itself.
fn open(header: &Header, message: &Message<'_>, limit: usize) -> Option<Result<Vec<u8>, WireError>> {
    let Message::Compressed(compressed) = message else { return None };
    let mut inside = Vec::new();
    let result = compressed.inflate(header, limit, &mut inside);
    assert!(inside.len() <= limit + 1, "inflated {} bytes, the limit is {limit}", inside.len());
    Some(result.map(|()| inside))
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let said = |mark: &str, result: &Result<(Header, Message<'_>), WireError>| match result {
        Ok((header, message)) => format!("{mark}= {}", describe(header, message)),
        Err(error) => format!("{mark}! {error}"),
    };
    let decoded = decode(bytes);
    let mut lines = vec![said("", &decoded)];
    if let Ok((header, message)) = &decoded
        && let Some(opened) = open(header, message, MESSAGE_LEN_MAX)
    {
        lines.push(match &opened {
            Ok(inside) => said(">", &Message::decode(inside)),
            Err(error) => format!(">! {error}"),
        });
    }
    lines
}

#[test]
fn every_row_says_what_the_table_has() {
    let table = std::fs::read_to_string(wire_table::path()).unwrap();
    let blocks = table.split("\n\n").map(|block| {
        let kept = |line: &&str| line.starts_with('#') || !line.starts_with(' ') || wire_table::is_hex(line);
        let mut lines: Vec<String> = block.lines().filter(kept).map(str::to_owned).collect();
        if lines.iter().any(|line| !line.starts_with('#')) {
            let hex: String = lines.iter().filter(|line| line.starts_with(' ')).map(String::as_str).collect();
            lines.extend(self::lines(&unhex(&hex)).into_iter().map(|line| format!("    {line}")));
        }
        lines.join("\n")
    });
    let actual = blocks.collect::<Vec<_>>().join("\n\n") + "\n";
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        return std::fs::write(wire_table::path(), &actual).unwrap();
    }
    for (row, (was, is)) in table.split("\n\n").zip(actual.split("\n\n")).enumerate() {
        assert_eq!(was.trim_end(), is.trim_end(), "row {row} of fixtures/wire.txt");
    }
}

#[test]
fn the_table_has_what_it_must() {
    let rows = rows();
    let names: BTreeSet<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), rows.len(), "two rows of one name");
    assert!(rows.iter().all(|row| !row.expected.is_empty()), "a row expects nothing");
    assert!(rows.len() >= 150, "{} rows", rows.len());
    for vector in ["A:", "B:", "C:", "D:", "E:", "F:", "G:", "H:", "I:"] {
        assert!(names.iter().any(|name| name.starts_with(vector)), "no row {vector}");
    }
    let mut codes = BTreeSet::new();
    for row in &rows {
        if let Ok((header, _)) = decode(&row.bytes) {
            codes.insert(header.op_code.as_i32());
        }
    }
    assert_eq!(codes, BTreeSet::from([1, 2001, 2002, 2004, 2005, 2006, 2007, 2012, 2013]));
}

// --- there and back

#[test]
fn every_row_is_encoded_to_its_bytes() {
    let mut encoded = 0;
    for Row { name, bytes, .. } in rows() {
        let Ok((header, message)) = decode(&bytes) else { continue };
        let Some(again) = encode(&header, &message) else { continue };
        assert_eq!(again, bytes, "{name}");
        encoded += 1;
    }
    assert!(encoded >= 40, "{encoded} rows encoded");
}

#[test]
fn every_row_is_compressed_and_opened_again() {
    let all = [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd];
    for Row { name, bytes, .. } in rows() {
        let Ok((header, message)) = decode(&bytes) else { continue };
        for compressor in all {
            let mut frame = BytesMut::new();
            let written = compress(&bytes, compressor, &mut frame);
            if matches!(message, Message::Compressed(_)) {
                assert_eq!(written, Err(WireError::NestedCompression), "{name}");
                continue;
            }
            written.unwrap();
            let (outer, compressed) = decode(&frame).unwrap();
            assert_eq!((outer.request_id, outer.response_to), (header.request_id, header.response_to));
            assert_eq!(open(&outer, &compressed, MESSAGE_LEN_MAX).unwrap().unwrap(), bytes, "{name}, {compressor:?}");
        }
    }
}

fn vector(letter: &str) -> Vec<u8> {
    rows().into_iter().find(|row| row.name.starts_with(letter)).unwrap().bytes
}

#[test]
fn the_vectors_agree_with_each_other() {
    let a = vector("A:");
    for letter in ["E:", "F:", "G:"] {
        let bytes = vector(letter);
        let (header, message) = decode(&bytes).unwrap();
        assert_eq!(open(&header, &message, MESSAGE_LEN_MAX).unwrap().unwrap(), a, "{letter}");
    }
    let b = vector("B:");
    let (_, Message::Msg(message)) = decode(&b).unwrap() else { panic!("B is an OP_MSG") };
    assert!(message.has(msg_flags::CHECKSUM_PRESENT));
    assert_eq!(message.body, &a[21..]);
    // The check value of CRC-32C, and B's with one bit of each byte turned, which none of them passes.
    assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    // Of the opcode and the flags it shows anyway.
    for at in (4..12).chain(20..b.len()) {
        let mut wrong = b.clone();
        wrong[at] ^= 1;
        assert!(decode(&wrong).is_err(), "byte {at}");
    }
    let events = through_session(Side::Client, &[&vector("D:")], Limits::default());
    let [Event::CommandStarted(started), ..] = &events[2..] else { panic!("{events:?}") };
    assert_eq!(text(started.command.as_bytes()), r#"{"insert":"c","$db":"d","documents":[{"_id":1},{"_id":2}]}"#);
}

#[test]
fn checksums_cover_the_uncompressed_message() {
    let b = vector("B:");
    for compressor in [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
        let mut frame = BytesMut::new();
        compress(&b, compressor, &mut frame).unwrap();
        let (header, message) = decode(&frame).unwrap();
        let inside = open(&header, &message, MESSAGE_LEN_MAX).unwrap().unwrap();
        assert!(Message::decode(&inside).is_ok(), "{compressor:?}");
    }
}

#[test]
fn lengths_are_written_where_they_begin() {
    let mut out = BytesMut::from(&b"before"[..]);
    let outer = LengthPrefix::begin(&mut out);
    out.extend_from_slice(b"ab");
    let inner = LengthPrefix::begin(&mut out);
    out.extend_from_slice(b"c");
    inner.finish(&mut out).unwrap();
    outer.finish(&mut out).unwrap();
    assert_eq!(&out[..], b"before\x0b\0\0\0ab\x05\0\0\0c");
}

// --- prefixes and mutations

fn session(limits: Limits) -> Session {
    let shared = Shared { limits, ..Shared::default() };
    Session::new(connection(), Timestamp::default(), shared)
}

/// What a session says of bytes from `side`, in these pieces, until the connection is closed. A server's bytes come
/// after a request that they may answer.
fn through_session(side: Side, pieces: &[&[u8]], limits: Limits) -> Vec<Event<'static>> {
    let at = Timestamp::default();
    let mut events = Vec::new();
    let mut session = session(limits);
    let mut emit = |entry: Entry<'_>| events.push(entry.into_owned().event);
    if side == Side::Server {
        session.handle_bytes(Side::Client, &REQUESTS, at, &mut emit);
    }
    for piece in pieces {
        session.handle_bytes(side, piece, at, &mut emit);
    }
    session.handle_sent(at, &mut emit);
    session.handle_close(Some(side), None, at, &mut emit);
    assert!(!session.awaits_sent() && !session.is_busy());
    events
}

/// Three requests that replies of the table answer.
static REQUESTS: LazyLock<BytesMut> = LazyLock::new(|| {
    let mut requests = BytesMut::new();
    for id in [0, 1, 7] {
        OpMsg::new(msg_flags::EXHAUST_ALLOWED, PING).encode(id, 0, &mut requests).unwrap();
    }
    requests
});

/// `{ping: 1}`.
const PING: &[u8] = b"\x0f\0\0\0\x10ping\0\x01\0\0\0\0";

/// Everything that is tried with a message, right or wrong. `turn` chooses the session that has it byte by byte too.
fn try_bytes(bytes: &[u8], turn: usize) {
    let _unmeasured = MEASURING.read().unwrap_or_else(PoisonError::into_inner);
    if let Ok((header, message)) = Message::decode(bytes) {
        describe(&header, &message);
        for limit in [0, 15, 16, 51, 1 << 16] {
            let Some(opened) = open(&header, &message, limit) else { break };
            if let Ok(inside) = opened {
                assert!(inside.capacity() <= 4 * limit, "{} bytes of memory for {limit}", inside.capacity());
                check_round_trip(&inside);
            }
        }
    }
    check_round_trip(bytes);
    let sessions = [Side::Client, Side::Server].into_iter().flat_map(|side| [(side, Limits::default()), (side, SMALL)]);
    for (index, (side, limits)) in sessions.enumerate() {
        let whole = through_session(side, &[bytes], limits);
        check_events(&whole, &limits);
        if turn % 4 == index {
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(format!("{:?}", through_session(side, &single, limits)), format!("{whole:?}"));
        }
    }
}

#[test]
fn every_prefix_is_read_without_harm() {
    for Row { name, bytes, .. } in rows() {
        for end in 0..bytes.len() {
            let prefix = &bytes[..end];
            (0..4).for_each(|turn| try_bytes(prefix, turn));
            let whole = decode(&bytes).is_ok();
            let events = through_session(Side::Client, &[prefix], Limits::default());
            let started = events.iter().any(|event| event.command_info().is_some());
            assert!(!started || !whole, "{name}: {end} bytes of it were taken for a command");
        }
    }
}

/// Tries each value of each byte, or each with one bit turned; how many those were.
fn try_mutations(row: &Row, all: bool) -> usize {
    let mut tried = 0;
    for (at, &was) in row.bytes.iter().enumerate() {
        let values: Vec<u8> = if all { (0..=255).collect() } else { (0..8).map(|bit| was ^ 1 << bit).collect() };
        for value in values.into_iter().filter(|value| *value != was) {
            let mut mutated = row.bytes.clone();
            mutated[at] = value;
            try_bytes(&mutated, tried);
            tried += 1;
        }
    }
    tried
}

#[test]
fn every_mutation_of_one_byte_is_read_without_harm() {
    let all = std::env::var_os("MONGOTAP_TEST_MUTATIONS").is_some();
    let rows = rows();
    let tried: usize = std::thread::scope(|scope| {
        let part = |first: usize| rows.iter().skip(first).step_by(4).map(|row| try_mutations(row, all)).sum::<usize>();
        let threads: Vec<_> = (0..4).map(|first| scope.spawn(move || part(first))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(tried > 60_000, "{tried} mutations");
}

/// Held alone by who measures memory, and together by those that may take much of it.
static MEASURING: RwLock<()> = RwLock::new(());

/// The most memory that was taken while `run` ran, over what was there before.
fn memory_of(run: impl FnOnce()) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    run();
    MEMORY.peak_usage().saturating_sub(before)
}

#[test]
fn what_is_announced_takes_no_memory() {
    let _measuring = MEASURING.write().unwrap_or_else(PoisonError::into_inner);
    let sizes: Vec<i32> = vec![i32::MAX, 48_000_000, 47_999_984, 47_999_985, 1 << 20, 257, 256, 240, 241];
    for Row { name, bytes, .. } in rows().into_iter().filter(|row| row.bytes.len() >= 25) {
        for size in &sizes {
            let mut announced = bytes.clone();
            let is_compressed = bytes[12..16] == 2012_i32.to_le_bytes();
            let field = if is_compressed { 20..24 } else { 0..4 };
            announced[field].copy_from_slice(&size.to_le_bytes());
            for side in [Side::Client, Side::Server] {
                let limits = if is_compressed { SMALL } else { Limits::default() };
                let memory = memory_of(|| drop(through_session(side, &[&announced], limits)));
                assert!(memory <= MEMORY_MAX, "{name}: {memory} bytes for {size} announced");
            }
        }
    }
}

#[test]
fn a_bomb_ends_at_the_limit() {
    let _measuring = MEASURING.write().unwrap_or_else(PoisonError::into_inner);
    let mut frame = BytesMut::new();
    let body = vec![b'x'; 8 << 20];
    let document = bson::rawdoc! { "ping": String::from_utf8(body).unwrap() };
    OpMsg::new(0, document.as_bytes()).encode(1, 0, &mut frame).unwrap();
    for compressor in [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
        let mut compressed = BytesMut::new();
        compress(&frame, compressor, &mut compressed).unwrap();
        // What it is really: over the limit, which is seen from the announcement.
        let events = through_session(Side::Client, &[&compressed], SMALL_INSIDE);
        let started = events.iter().any(|event| matches!(event, Event::CommandStarted(_)));
        assert!(started, "a message over the limit is timed all the same: {events:?}");
        // The same with an announcement that is within the limit.
        compressed[20..24].copy_from_slice(&200_i32.to_le_bytes());
        let memory = memory_of(|| {
            let events = through_session(Side::Client, &[&compressed], SMALL_INSIDE);
            assert!(!events.iter().any(|event| event.command_info().is_some()), "{events:?}");
        });
        assert!(memory <= MEMORY_MAX, "{compressor:?}: {memory} bytes");
    }
}

/// Takes long messages, but inflates none to more than 256 bytes.
const SMALL_INSIDE: Limits =
    Limits { max_message_bytes: MESSAGE_LEN_MAX, inflate_max_bytes: 256, max_document_bytes: 40 };

/// What is shortened while it passes is understood as what is not: only the documents are shorter.
#[test]
fn shortening_changes_nothing_but_documents() {
    // What breaks within a document is shown as far as it goes when the document is cut.
    let as_far_as_it_goes = "a body that does not end";
    let mut wrong = String::new();
    for Row { name, bytes, .. } in rows().into_iter().filter(|row| row.name != as_far_as_it_goes) {
        for side in [Side::Client, Side::Server] {
            let kinds = |max_document_bytes| {
                let limits = Limits { max_document_bytes, ..Limits::default() };
                let events = through_session(side, &[&bytes], limits);
                let kind = |event: &Event<'_>| format!("{} {:?}", event.name(), event.command_info());
                events.iter().map(kind).collect::<Vec<_>>()
            };
            let whole = kinds(0);
            for limit in [1, 5, 20, 40, 60] {
                if kinds(limit) != whole {
                    wrong += &format!("{name}, {side}, {limit}: {:#?}\ninstead of {whole:#?}\n", kinds(limit));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
