//! What a replay is worth beside the server that it stands for: finds a second of both, on the same load; and how soon
//! a capture of 100 MB is served, and in how much memory.
//!
//! `cargo bench --bench replay` fetches a mongod as the tests do, has it filled and asked through `mongotap proxy
//! --capture`, and then puts the same finds to the mongod and to `mongotap replay` of that capture, in turns. A figure is
//! the median of the rounds, the ratio that of each round. A replay that misses anything, or answers otherwise than the
//! mongod did, is refused; so is one that is less than three times as fast, or takes a second to its first answer.
//!
//! Client and servers share the machine; the client is one thread a connection that reads no more of a reply than its
//! length. Let nothing else run. `--start` and `--throughput` measure one of the two.

#![expect(clippy::print_stdout, reason = "it reports to a terminal")]
#![expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]
#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up fails")]

#[path = "../../tests/support/mod.rs"]
mod support;
mod traffic;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use bson::{RawDocumentBuf, rawdoc};
use bytes::BytesMut;
use mongotap::capture::blocks::Blocks;
use mongotap::wire::OpMsg;

use support::mongod::{Mongod, Options};
use support::proxy::Proxy;
use support::replay::Replay;

/// Documents in the collection, each found by its own question.
const DOCUMENTS: i32 = 1000;
const CONNECTIONS: usize = 16;
const ROUNDS: usize = 5;
const SECONDS: f64 = 2.0;

/// Bytes of the large capture.
const LARGE: u64 = 100_000_000;

/// What must be kept to: how many times the mongod's finds, and seconds to the first answer.
const RATIO_MIN: f64 = 3.0;
const START_MAX: f64 = 1.0;

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    // `cargo test --all-targets` runs this too, with the arguments of tests.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return println!("nothing measured: run it as `cargo bench --bench replay`");
    }
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    let (start, throughput) = (asked("--start"), asked("--throughput"));
    let directory = tempfile::tempdir().unwrap();
    if throughput || !start {
        measure_throughput(directory.path());
    }
    if start || !throughput {
        measure_start(directory.path());
    }
}

/// Both servers in turns.
fn measure_throughput(directory: &Path) {
    let mongod = Mongod::start(Options::default());
    let finds: Vec<_> = (0..DOCUMENTS).map(|id| frame(&find("c", id))).collect();
    let capture = directory.join("finds.mtap");
    recorded(&mongod, &capture, |address| {
        let documents: bson::RawArrayBuf = (0..DOCUMENTS).map(|id| document(id, 100)).collect();
        let mut connection = Connection::new(address);
        connection.ask(&frame(&rawdoc! { "insert": "c", "documents": documents, "$db": "bench" }));
        finds.iter().for_each(|find| _ = connection.ask(find));
    });
    println!("{CONNECTIONS} connections, finds by _id of {DOCUMENTS} documents, {SECONDS} s each");
    let replay = Replay::start(&capture, &[]);
    let mut rounds = Vec::new();
    for round in 1..=ROUNDS {
        let (theirs, ours) = (load(&mongod.address(), &finds), load(&replay.address(), &finds));
        println!("round {round}: mongod {theirs:.0}/s, replay {ours:.0}/s, {:.2} times", ours / theirs);
        rounds.push((theirs, ours, ours / theirs));
    }
    stop(replay);
    let [theirs, ours, ratio] = [|it: &(f64, f64, f64)| it.0, |it: &(f64, f64, f64)| it.1, |it: &(f64, f64, f64)| it.2]
        .map(|pick| median(rounds.iter().map(pick).collect()));
    println!("median: mongod {theirs:.0} finds/s, replay {ours:.0} finds/s, {ratio:.2} times");
    assert!(ratio >= RATIO_MIN, "less than {RATIO_MIN} times");
}

/// From the command to the first answer, and the memory then and after questions were asked from everywhere.
fn measure_start(directory: &Path) {
    let capture = directory.join("large.mtap");
    let (exchanges, mut samples) = large(&capture);
    let size = fs::metadata(&capture).unwrap().len();
    let inflated = inflated(&capture);
    println!("a capture of {} MB, of {exchanges} exchanges with {} MB", size / 1_000_000, inflated / 1_000_000);
    // Not in the order in which they were recorded.
    samples.sort_by_key(|(_, answer)| answer.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(*byte)));
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        let replay = Replay::start(&capture, &[]);
        let ready = since.elapsed().as_secs_f64();
        let mut connection = Connection::new(&replay.address());
        // What it tells of is made before it is asked for.
        let mut asked = |(questions, answer): &Sample| {
            let (last, before) = questions.split_last().unwrap();
            before.iter().for_each(|question| _ = connection.ask(question));
            assert_eq!(connection.ask(last), answer);
        };
        asked(&samples[0]);
        let first = since.elapsed().as_secs_f64();
        let (serving, peak) = (resident(replay.id(), "VmRSS:"), resident(replay.id(), "VmHWM:"));
        samples[1..].iter().for_each(&mut asked);
        println!(
            "serving after {ready:.2} s, first answer after {first:.2} s, {serving} MB resident ({peak} MB at most), \
             {:.0} bytes an exchange; {} MB after {} finds",
            serving as f64 * 1e6 / exchanges as f64,
            resident(replay.id(), "VmRSS:"),
            samples.len(),
        );
        times.push(first);
        drop(connection);
        stop(replay);
    }
    let first = median(times);
    println!("median: first answer after {first:.2} s");
    assert!(first < START_MAX, "not within {START_MAX} s");
}

/// Questions, the last of which is compared, and its answer.
type Sample = (Vec<Vec<u8>>, Vec<u8>);

/// Records until the capture is large: how many exchanges, and some questions with what the mongod answered.
fn large(capture: &Path) -> (usize, Vec<Sample>) {
    let mongod = Mongod::start(Options::default());
    let (mut asked, mut samples) = (0, Vec::new());
    recorded(&mongod, capture, |address| {
        let mut connections: Vec<_> = (0..4).map(|_| Connection::new(address)).collect();
        connections[0].ask(&traffic::index());
        for customer in 0.. {
            if customer % 100 == 0 && fs::metadata(capture).unwrap().len() >= LARGE {
                break;
            }
            let (connection, mut before) = (&mut connections[customer as usize % 4], Vec::new());
            for (place, question) in traffic::of_customer(customer).into_iter().enumerate() {
                let answer = connection.ask(&question.frame);
                asked += 1;
                // One of each kind in turn, behind what was asked of the same customer before it.
                before.push(question.frame);
                if question.is_find && place == customer as usize % 53 {
                    samples.push((before.clone(), answer.to_vec()));
                }
            }
        }
    });
    (asked, samples)
}

/// What the blocks of a capture hold, in bytes.
fn inflated(capture: &Path) -> usize {
    let mut blocks = Blocks::new([fs::File::open(capture).unwrap()]);
    std::iter::from_fn(|| blocks.next_stored()).map(|block| block.unwrap().block.content_len()).sum()
}

fn stop(replay: Replay) {
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
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

    /// The message that answers, from behind its header on.
    fn ask(&mut self, frame: &[u8]) -> &[u8] {
        self.socket.write_all(frame).unwrap();
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        self.reply.resize(u32::from_le_bytes(length) as usize - 4, 0);
        self.socket.read_exact(&mut self.reply).unwrap();
        &self.reply[12..]
    }
}

/// Captures what is asked of a proxy's address.
fn recorded(mongod: &Mongod, capture: &Path, ask: impl FnOnce(&str)) {
    let capture = capture.to_str().unwrap();
    let proxy = Proxy::start(&mongod.uri(), &["--log-events", "connection", "--capture", capture]);
    ask(&proxy.address);
    proxy.stop();
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

/// Memory of a process by one of its names, in MB.
fn resident(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024 / 1_000_000
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
