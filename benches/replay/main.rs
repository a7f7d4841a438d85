//! What a replay is worth beside the server that it stands for: finds a second of both, on the same load, and how soon a
//! large capture is served, and in how much memory.
//!
//! `cargo bench --bench replay` fetches a mongod as the tests do, has it filled and asked through `mongotap proxy
//! --capture`, and then puts the same finds to the mongod and to `mongotap replay` of that capture, in turns. A figure is
//! the median of the rounds, the ratio that of each round. A replay that misses anything is refused. Client and servers
//! share the machine; the client is one thread a connection that reads no more of a reply than its length.

#![expect(clippy::print_stdout, reason = "it reports to a terminal")]
#![expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongotap::wire::OpMsg;

use support::mongod::{Mongod, Options};
use support::proxy::Proxy;
use support::replay::Replay;

/// Documents in the collection, each found by its own question.
const DOCUMENTS: i32 = 1000;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;

/// The large capture: this many inserts, of so many bytes that compress badly, and a find for each.
const LARGE: i32 = 13_000;
const LARGE_BYTES: usize = 4096;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mongod = Mongod::start(Options::default());
    let finds: Vec<_> = (0..DOCUMENTS).map(|id| frame(&find("c", id))).collect();
    let capture = captured(&mongod, directory.path(), "finds.mtap", |connection| {
        let documents: bson::RawArrayBuf = (0..DOCUMENTS).map(|id| document(id, 100)).collect();
        connection.ask(&frame(&rawdoc! { "insert": "c", "documents": documents, "$db": "bench" }));
        finds.iter().for_each(|find| connection.ask(find));
    });
    throughput(&mongod, &capture, &finds);
    let large = captured(&mongod, directory.path(), "large.mtap", |connection| {
        for id in 0..LARGE {
            let documents: bson::RawArrayBuf = [document(id, LARGE_BYTES)].into_iter().collect();
            connection.ask(&frame(&rawdoc! { "insert": "large", "documents": documents, "$db": "bench" }));
            connection.ask(&frame(&find("large", id)));
        }
    });
    drop(mongod);
    start(&large);
}

/// Both servers in turns.
fn throughput(mongod: &Mongod, capture: &Path, finds: &[Vec<u8>]) {
    println!("{CONNECTIONS} connections, finds by _id of {DOCUMENTS} documents, {SECONDS} s each");
    let replay = Replay::start(capture, &[]);
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        let (theirs, ours) = (load(&mongod.address(), finds), load(&replay.address(), finds));
        println!("round {round}: mongod {theirs:.0}/s, replay {ours:.0}/s, {:.2} times", ours / theirs);
        rounds.push((theirs, ours, ours / theirs));
    }
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    let [theirs, ours, ratio] = [|it: &(f64, f64, f64)| it.0, |it: &(f64, f64, f64)| it.1, |it: &(f64, f64, f64)| it.2]
        .map(|pick| median(rounds.iter().map(pick).collect()));
    println!("median: mongod {theirs:.0} finds/s, replay {ours:.0} finds/s, {ratio:.2} times");
}

/// From the command to the first answer, and the memory then and after every question was asked.
fn start(capture: &Path) {
    let size = fs::metadata(capture).unwrap().len();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        let replay = Replay::start(capture, &[]);
        let mut connection = Connection::new(&replay.address());
        connection.ask(&frame(&find("large", LARGE - 1)));
        times.push(since.elapsed().as_secs_f64());
        let serving = resident(replay.id());
        (0..LARGE).for_each(|id| connection.ask(&frame(&find("large", id))));
        println!(
            "{} MB of capture: first answer after {:.2} s, {serving} MB resident, {} MB after {LARGE} finds",
            size >> 20,
            times.last().unwrap(),
            resident(replay.id())
        );
        drop(connection);
        let stopped = replay.stop();
        assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    }
    println!("median: first answer after {:.2} s", median(times));
}

/// Operations a second of all connections.
fn load(address: &str, finds: &[Vec<u8>]) -> f64 {
    let since = Instant::now();
    let operations: usize = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..CONNECTIONS).map(|number| scope.spawn(move || run(address, finds, number, since))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    operations as f64 / since.elapsed().as_secs_f64()
}

fn run(address: &str, finds: &[Vec<u8>], number: usize, since: Instant) -> usize {
    let mut connection = Connection::new(address);
    let mut operations = 0;
    // Each its own way through the questions.
    let mut next = number * 7919;
    while since.elapsed() < Duration::from_secs_f64(SECONDS) {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        connection.ask(&finds[(next >> 33) % finds.len()]);
        operations += 1;
    }
    operations
}

/// A connection that asks and waits.
struct Connection {
    socket: TcpStream,
    reply: Vec<u8>,
}

impl Connection {
    fn new(address: &str) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut connection = Self { socket, reply: Vec::new() };
        connection.ask(&frame(&rawdoc! { "hello": 1, "$db": "admin" }));
        connection
    }

    fn ask(&mut self, frame: &[u8]) {
        self.socket.write_all(frame).unwrap();
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        self.reply.resize(u32::from_le_bytes(length) as usize - 4, 0);
        self.socket.read_exact(&mut self.reply).unwrap();
    }
}

/// The capture of what is asked over one connection.
fn captured(mongod: &Mongod, directory: &Path, name: &str, ask: impl FnOnce(&mut Connection)) -> PathBuf {
    let capture = directory.join(name);
    let proxy = Proxy::start(&mongod.uri(), &["--log-events", "connection", "--capture", capture.to_str().unwrap()]);
    let mut connection = Connection::new(&proxy.address);
    ask(&mut connection);
    drop(connection);
    proxy.stop();
    capture
}

fn frame(command: &RawDocumentBuf) -> Vec<u8> {
    let mut frame = BytesMut::new();
    OpMsg::new(0, command.as_bytes()).encode(1, 0, &mut frame).unwrap();
    frame.to_vec()
}

fn find(collection: &str, id: i32) -> RawDocumentBuf {
    rawdoc! { "find": collection, "filter": { "_id": id }, "limit": 1, "singleBatch": true, "$db": "bench" }
}

/// A document whose text no compression makes much shorter.
fn document(id: i32, bytes: usize) -> RawDocumentBuf {
    let mut state = id as u64 + 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b' ' + (state % 95) as u8)
    };
    rawdoc! { "_id": id, "text": (0..bytes).map(|_| noise()).collect::<String>() }
}

/// Resident memory of a process, in MB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
