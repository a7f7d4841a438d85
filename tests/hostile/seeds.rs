//! What the targets begin with: the fixtures, in the form that each target takes them in.

use std::fs;
use std::path::{Path, PathBuf};

use bson::rawdoc;
use bytes::BytesMut;
use mongotap::capture::mtap::{IndexEntry, block_content, read_index};
use mongotap::capture::pcap::write_packets;
use mongotap::event::Side;
use mongotap::wire::{Compressor, Message, OpMsg, OpReply, compress, msg_flags};

use crate::input::{Action, Input};
use crate::wire_table::rows;

/// The seeds of a target.
pub(crate) fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "capture" => {
            let file = read("fixtures/capture/v1.mtap");
            let records = records(&file).into_iter().map(|block| [&[1], &block[..]].concat());
            std::iter::once([&[0], &file[..]].concat()).chain(records).collect()
        }
        "codec" | "framer" => messages().into_iter().map(|(_, bytes)| bytes).collect(),
        "configuration" => vec![read("proxy.toml"), uncommented(&read("proxy.toml"))],
        "connection_string" => CONNECTION_STRINGS.iter().map(|text| text.as_bytes().to_vec()).collect(),
        "documents" => messages().iter().flat_map(|(_, bytes)| documents(bytes)).collect(),
        "fixture" => vec![read("fixtures/demo.jsonl"), read("fixtures/capture/v1-fixture.jsonl")],
        "log" => vec![read("fixtures/capture/v1.jsonl"), read("fixtures/capture/v1.mtap")],
        "pcap" => vec![read("fixtures/capture/tcpdump.pcap"), packets(&read("fixtures/capture/v1.mtap"))],
        "redaction" => (0..64_u8)
            .map(|seed| (0..96).map(|at: u8| seed.wrapping_mul(37) ^ at.wrapping_mul(seed | 1)).collect())
            .collect(),
        "rewriting" => hellos(),
        "session" => playbooks().iter().map(|text| actions(text)).collect(),
        _ => panic!("{target} has no seeds"),
    }
}

fn read(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the blocks of a capture hold.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let index = read_index(&mut std::io::Cursor::new(file)).unwrap().expect("it was closed whole");
    let ends = index.iter().skip(1).map(|next| next.offset as usize).chain([file.len()]);
    let content = |(IndexEntry { offset, .. }, end): (&IndexEntry, usize)| {
        let block = &file[*offset as usize..end];
        let stored = u32::from_le_bytes(block[8..12].try_into().unwrap()) as usize;
        block_content(&block[..24 + stored]).unwrap()
    };
    index.iter().zip(ends).map(content).collect()
}

fn packets(capture: &[u8]) -> Vec<u8> {
    let mut packets = Vec::new();
    write_packets(capture, &mut packets).unwrap();
    packets
}

/// The keys that are there as comments, in force.
fn uncommented(text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let is_key = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let lines =
        text.lines().map(|line| line.strip_prefix('#').map(str::trim_start).filter(|it| is_key(it)).unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n").into_bytes()
}

/// The texts of the playbooks.
fn playbooks() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/playbook");
    let mut files: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

fn inputs(text: &str) -> impl Iterator<Item = Action> {
    let inputs = text.lines().filter_map(|line| line.strip_prefix(">>"));
    inputs.map(|words| Input::parse(words).unwrap().action)
}

/// A playbook in the form of the `session` target.
fn actions(text: &str) -> Vec<u8> {
    let mut actions = vec![0x60];
    for action in inputs(text) {
        let (kind, bytes) = match action {
            Action::Bytes { side: Side::Client, bytes, .. } => (0, bytes),
            Action::Bytes { side: Side::Server, bytes, .. } => (1, bytes),
            Action::Sent => (2, Vec::new()),
            Action::Tick => (3, Vec::new()),
            _ => continue,
        };
        for part in bytes.chunks(usize::from(u16::MAX)) {
            actions.push(kind);
            actions.extend_from_slice(&u16::try_from(part.len()).unwrap().to_le_bytes());
            actions.extend_from_slice(part);
        }
        if bytes.is_empty() {
            actions.extend_from_slice(&[kind, 0, 0]);
        }
    }
    actions
}

/// The rows of the table and the messages of the playbooks.
fn messages() -> Vec<(Side, Vec<u8>)> {
    let mut messages: Vec<_> = rows().into_iter().map(|row| (Side::Client, row.bytes)).collect();
    for text in playbooks() {
        messages.extend(inputs(&text).filter_map(|action| match action {
            Action::Bytes { side, bytes, .. } if !bytes.is_empty() && bytes.len() < 10_000 => Some((side, bytes)),
            _ => None,
        }));
    }
    messages
}

fn documents(message: &[u8]) -> Vec<Vec<u8>> {
    match Message::decode(message) {
        Ok((_, Message::Msg(message))) => vec![message.body.to_vec()],
        Ok((_, Message::Reply(reply))) => reply.iter().map(<[u8]>::to_vec).collect(),
        Ok((_, Message::Query(query))) => vec![query.query.to_vec()],
        _ => Vec::new(),
    }
}

fn hellos() -> Vec<Vec<u8>> {
    let hello = rawdoc! {
        "isWritablePrimary": true, "setName": "rs0", "hosts": ["a:1", "b:2"], "passives": ["c:3"], "arbiters": ["d:4"],
        "primary": "a:1", "me": "b:2", "tags": { "me": "b:2" }, "ok": 1.0,
    };
    let mut plain = vec![BytesMut::new(); 3];
    OpMsg::new(0, hello.as_bytes()).encode(7, 6, &mut plain[0]).unwrap();
    OpMsg::new(msg_flags::CHECKSUM_PRESENT, hello.as_bytes()).encode(7, 6, &mut plain[1]).unwrap();
    let documents = hello.as_bytes();
    let reply = OpReply { flags: 8, cursor_id: 0, starting_from: 0, number_returned: 1, documents };
    reply.encode(7, 6, &mut plain[2]).unwrap();
    let mut hellos: Vec<_> = plain.iter().map(|frame| frame.to_vec()).collect();
    for frame in &plain {
        for compressor in [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
            let mut packed = BytesMut::new();
            compress(frame, compressor, &mut packed).unwrap();
            hellos.push(packed.to_vec());
        }
    }
    hellos
}

const CONNECTION_STRINGS: [&str; 12] = [
    "mongodb://127.0.0.1:27017",
    "mongodb://a,b:2,[::1]:3/?replicaSet=rs0",
    "mongodb://%2Ftmp%2Fmongodb-27017.sock",
    "mongodb://a/?tls=true&tlsCAFile=ca.pem&tlsCertificateKeyFile=a.pem",
    "mongodb://a/?tlsInsecure=true&directConnection=true",
    "mongodb://a/?loadBalanced=true",
    "mongodb+srv://cluster.example.org/?srvServiceName=mongo&srvMaxHosts=2",
    "mongodb://user:p%40ss@a:1/db?authSource=admin&authMechanism=SCRAM-SHA-256",
    "mongodb://user:pass@a,b/db?replicaSet=rs&readPreference=secondary&appName=x",
    "mongodb://@a",
    "mongodb://a:99999/",
    "mongodb:/localhost",
];
