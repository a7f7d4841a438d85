//! Sessions as transcripts: each file of `fixtures/playbook` holds what the two sides send (`>>`) and what is said of it
//! (`<<`), one rule of the protocol a file.
//!
//! The transcript must come out the same whether each message arrives whole or in pieces. `UPDATE_EXPECT=1` writes the
//! outputs anew; what may stand in an input is said in `playbook/input.rs`, an output's form in `playbook/render.rs`.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod nobodies;
mod playbook;

use std::path::{Path, PathBuf};

use bson::rawdoc;
use bytes::BytesMut;
use mongotap::event::{Side, Timestamp};
use mongotap::session::{Limits, Session, Shared};
use mongotap::wire::{Compressor, HEADER_LEN, OpMsg, compress};

fn files() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/playbook");
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn playbooks_read_as_they_are_written() {
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = String::new();
    for path in files() {
        let expected = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let actual = playbook::transcript(&name, &expected, usize::MAX);
        if update {
            std::fs::write(&path, &actual).unwrap();
        } else if actual != expected {
            wrong += &format!("\n{name}\n{}", playbook::difference(&expected, &actual));
        }
    }
    assert!(wrong.is_empty(), "{wrong}\nUPDATE_EXPECT=1 writes what is said now");
}

#[test]
fn playbooks_are_the_same_for_every_chunking() {
    for path in files() {
        let expected = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        for length in [1, 2, 3, 7, 16, 17, 20, 21, 33] {
            let actual = playbook::transcript(&name, &expected, length);
            let difference = playbook::difference(&expected, &actual);
            assert!(actual == expected, "{name}, in pieces of {length} bytes\n{difference}");
        }
    }
}

/// What was recorded of a playbook gives the events that were seen, and nothing of a recording is more than was sent.
#[test]
fn playbooks_are_derived_from_what_was_recorded() {
    let mut events = 0;
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        for length in [1, 17, usize::MAX] {
            let (seen, derived, _) = playbook::recorded(&name, &text, length);
            let first = seen.iter().zip(&derived).find(|(seen, derived)| seen != derived);
            assert!(first.is_none(), "{name}, in pieces of {length} bytes: expected, but got\n{first:#?}");
            assert_eq!(seen.len(), derived.len(), "{name}, in pieces of {length} bytes: {seen:#?}\n{derived:#?}");
            events += seen.len();
        }
    }
    assert!(events > 1000, "{events} events");
}

/// Threads look at the other connections of a client in another order than that of the times that they have noted before.
/// What is derived, in the order of the times, is what was seen all the same.
#[test]
fn what_others_told_of_a_connection_is_recorded() {
    let hello = r#"{"hello": 1, "client": {"driver": {"name": "d"}}, "$db": "admin"}"#;
    let version =
        r#""topologyVersion": {"processId": {"$oid": "0102030405060708090a0b0c"}, "counter": {"$numberLong": "6"}}"#;
    let begins = |connection: &str, id: i32| {
        format!(
            ">> {connection} client op_msg id={id} {hello}\n>> {connection} server op_msg id=1{id} to={id} {{\"ok\": 1, {version}}}\n"
        )
    };
    let streams = format!(
        ">> c1 client op_msg id=2 exhaust {{\"hello\": 1, {version}, \"maxAwaitTimeMS\": 9, \"$db\": \"admin\"}}\n"
    );
    let monitor = begins("c1", 1) + &streams + ">> at +1s\n";
    // A connection begins when the monitor has ended; by the times, before.
    let probe_begins = monitor + ">> c1 close client\n>> before +1ms\n" + &begins("c2", 3) + ">> at +1s\n";
    // Or it has ended when the monitor begins to stream; by the times, after.
    let ends = ">> c2 close client\n";
    let probe_ends = begins("c1", 1) + &begins("c2", 3) + ">> at +1s\n" + ends + ">> before +1ms\n" + &streams;
    // Or it is taken for an idle one then.
    let silent = begins("c1", 1) + &begins("c2", 3) + ">> at +20s\n>> c2 tick\n>> before +1ms\n" + &streams;
    let idle = probe_begins.clone() + ">> at +20s\n>> c2 tick\n" + ends;
    for text in [probe_begins + ends, idle, probe_ends, silent] {
        let (mut seen, mut derived, _) = playbook::recorded("generated", &text, usize::MAX);
        assert!(seen.iter().any(|it| it.contains("ConnectionCreated")), "an application's: {text}\n{seen:#?}");
        seen.sort();
        derived.sort();
        assert_eq!(seen, derived, "{text}");
    }
}

#[test]
fn playbooks_say_something() {
    let files = files();
    assert!(files.len() >= 80, "{} playbooks", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        assert!(text.starts_with("# "), "{name} does not say what it shows");
        assert!(text.lines().any(|line| line.starts_with("<< ")), "{name} has no output");
        assert!(text.lines().all(|line| line.is_empty() || line.starts_with(['#', '>', '<'])), "{name}");
    }
}

/// A wrong output is found, wherever in a transcript it is.
#[test]
fn a_wrong_output_is_found() {
    for path in files() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        let outputs: Vec<&str> = text.lines().filter(|line| line.starts_with("<< ")).collect();
        for output in outputs {
            let planted = text.replacen(output, &format!("{output} "), 1);
            assert_ne!(playbook::transcript(&name, &planted, usize::MAX), planted, "{name}: {output}");
        }
    }
}

/// A client that asks without end and is not answered is bounded: at some point nothing more is read, and it is said.
#[test]
fn requests_without_end_are_not_kept() {
    let ask = r#">> client op_msg id=1 {"ping": 1, "$db": "admin"}"#;
    let text = format!("{}\n>> close client\n", [ask; 5000].join("\n"));
    let transcript = playbook::transcript("generated", &text, usize::MAX);
    let count = |word: &str| transcript.lines().filter(|line| line.starts_with("<< ") && line.contains(word)).count();
    assert_eq!((count(" commandStarted "), count(" commandFailed ")), (4096, 4096));
    assert_eq!((count(" protocolError "), count(" connectionClosed ")), (1, 1));
    let said = transcript.lines().find(|line| line.contains("protocolError")).unwrap();
    assert!(said.contains("tunnelled \"more than 4096 requests wait for a reply\""), "{said}");
}

/// The length of a first message may read as the first bytes of a TLS record.
#[test]
fn a_message_as_long_as_tls_would_have_it_is_one() {
    for length in [0x0316, 0x0001_0316] {
        let command =
            |filler: usize| format!("{{\"ping\": 1, \"filler\": \"{}\", \"$db\": \"admin\"}}", "x".repeat(filler));
        let empty = rawdoc! { "ping": 1, "filler": "", "$db": "admin" };
        let around = 16 + 4 + 1 + empty.as_bytes().len();
        let text = format!(">> client op_msg id=1 {}\n>> close client\n", command(length - around));
        for pieces in [1, 7, usize::MAX] {
            let transcript = playbook::transcript("generated", &text, pieces);
            let count =
                |word: &str| transcript.lines().filter(|line| line.starts_with("<< ") && line.contains(word)).count();
            assert_eq!((count(" commandStarted "), count(" protocolError ")), (1, 0), "{length} bytes: {transcript}");
        }
    }
}

/// What would be done at once counts where a message ends, whatever the pieces; what passes as it comes does not.
#[test]
fn the_work_of_a_message_counts_where_it_ends() {
    let insert = |length: usize| {
        let mut message = BytesMut::new();
        let body = rawdoc! { "insert": "c", "text": "x".repeat(length), "$db": "d" };
        OpMsg::new(0, body.as_bytes()).encode(7, 0, &mut message).unwrap();
        message.to_vec()
    };
    let packed = |length| {
        let mut message = BytesMut::new();
        compress(&insert(length), Compressor::Snappy, &mut message).unwrap();
        (message.to_vec(), insert(length).len() - HEADER_LEN)
    };
    let ((small, small_len), (large, large_len)) = (packed(50), packed(200_000));
    let (plain, long) = (insert(50), insert(200_000));
    let bytes = [&plain[..], &small, &long, &large, &long, &small].concat();
    let at_once = 1000;
    for (max_document_bytes, of_long) in [(0, long.len()), (10_000, 0)] {
        let limits = Limits { max_document_bytes, inflate_max_bytes: 300_000, ..Limits::default() };
        let session =
            || Session::new(nobodies::connection(), Timestamp::default(), Shared { limits, ..Shared::default() });
        for piece in [1, 7, 16, 24, 25, 1000, 65_536, bytes.len()] {
            let mut session = session();
            let mut work = 0;
            for piece in bytes.chunks(piece) {
                work += session.work(Side::Client, piece, at_once);
                session.handle_bytes(Side::Client, piece, Timestamp::default(), &mut |_| ());
            }
            assert_eq!(work, 2 * small_len + large_len + 2 * of_long, "in pieces of {piece} bytes");
        }
    }
}
