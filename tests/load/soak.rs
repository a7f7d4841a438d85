//! Connections that come and go, with small messages and large ones, compressed and not, streamed and unanswered.
//!
//! Every choice comes from a number that the output names; `MONGOTAP_TEST_SEED` gives it again.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bson::doc;
use mongotap::wire::{Compressor, msg_flags};
use tokio::task::JoinSet;

use crate::effort;
use crate::kept;
use crate::logged::Logged;
use crate::server::{Server, TEXT_MAX, text};
use crate::support::{certificates, now};
use crate::talk::Talk;
use crate::usage::{descriptors, memory, wait_for_descriptors};

/// Clients at a time.
const CLIENTS: u64 = 16;

/// Memory may be that much more in the last third than in the first, in kB: what is in flight varies.
const GROWTH_MAX: u64 = 24 << 10;

/// And that much at any time: of each client one read and what a message inflates to.
const PEAK_MAX: u64 = 256 << 10;

const COMPRESSORS: [Option<Compressor>; 4] =
    [None, Some(Compressor::Snappy), Some(Compressor::Zlib), Some(Compressor::Zstd)];

/// What the clients have done.
#[derive(Default)]
struct Done {
    connections: AtomicU64,
    /// Commands that are known to have gone through: answers that came, and writes without any that an answer followed.
    known: AtomicU64,
    /// Commands whose answer was not waited for.
    abandoned: AtomicU64,
}

/// Nothing is to be lost here, however slow the disk is; long runs are not to fill it.
const BOUNDED: [&str; 4] = ["--log-on-overflow", "block", "--log-max-document-bytes", "1000"];

/// Bytes of one file of a capture, and how many are kept beside it.
const CAPTURE_BYTES: u64 = 8 << 20;
const CAPTURES_KEPT: u64 = 2;

pub(crate) fn churn() -> String {
    let server = Server::start();
    churn_through(vec![Logged::start(&server.uri(), &BOUNDED)], |_, _| ())
}

/// The same through two proxies with TLS between them, each with a capture.
pub(crate) fn churn_with_tls_and_captures() -> String {
    let (server, directory) = (Server::start(), tempfile::tempdir().expect("a temporary directory"));
    let (bytes, kept) = (CAPTURE_BYTES.to_string(), CAPTURES_KEPT.to_string());
    let start = |name: &str, upstream: &str, tls: [&str; 2]| {
        let path = directory.path().join(name);
        let path = path.to_str().expect("a temporary directory's name is text");
        let capture = ["--capture", path, "--capture-rotate-bytes", &bytes, "--capture-keep", &kept];
        Logged::start(upstream, &[&BOUNDED[..], &capture, &tls].concat())
    };
    let near = start("near.mtap", &server.uri(), ["--tls-listen-certificate", &certificates::file("server.pem")]);
    let upstream = format!("mongodb://{}/?tls=true", near.address());
    let far = start("far.mtap", &upstream, ["--tls-upstream-ca", &certificates::file("ca.pem")]);
    let mut captured = Vec::new();
    let said = churn_through(vec![far, near], |place, log| {
        captured.push(kept::compare(&directory.path().join(["far.mtap", "near.mtap"][place]), log));
    });
    let files = fs::read_dir(directory.path()).expect("it is there");
    let sizes: Vec<_> = files.map(|file| file.expect("a file").metadata().expect("its size").len()).collect();
    // A file that is put aside has what was gathered for one block more at most, and there are two proxies.
    let most = 2 * (CAPTURES_KEPT + 1) * (CAPTURE_BYTES + (8 << 20));
    assert!(sizes.len() >= 2 && sizes.iter().sum::<u64>() <= most, "captures are bounded: {sizes:?}");
    let megabytes = sizes.iter().sum::<u64>() >> 20;
    format!("{said}; {megabytes} MB of captures hold the last {captured:?} commands as the logs do")
}

/// Through proxies of which each stands before the next; somebody looks at the log of each when it has ended. The figures
/// are those of the first, memory of the largest.
fn churn_through(proxies: Vec<Logged>, mut look: impl FnMut(usize, &Path)) -> String {
    let seed = seed();
    let length = Duration::from_secs(effort(8));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let done = Arc::new(Done::default());
    let files: Vec<_> = proxies.iter().map(|proxy| descriptors(proxy.pid())).collect();
    let resident = runtime.expect("a runtime starts").block_on(run(&proxies, seed, length, &done));
    proxies.iter().zip(files).for_each(|(proxy, files)| wait_for_descriptors(proxy.pid(), files));
    let peak = proxies.iter().map(|proxy| memory(proxy.pid()).peak).max().unwrap_or_default();
    let ended = proxies.into_iter().enumerate();
    let tallies: Vec<_> = ended.map(|(place, proxy)| proxy.end_and(|log| look(place, log)).0).collect();

    let [connections, known, abandoned] =
        [&done.connections, &done.known, &done.abandoned].map(|it| it.load(Ordering::Relaxed));
    assert_eq!(tallies[0].opened, connections, "seed {seed}: {tallies:?}");
    for tally in &tallies {
        assert_eq!(tally.dropped, 0, "seed {seed}: {tallies:?}");
        assert!(tally.succeeded >= known, "seed {seed}: {known} commands came through: {tallies:?}");
        let most = known + abandoned;
        assert!(tally.succeeded + tally.failed <= most, "seed {seed}: {most} at most: {tallies:?}");
    }
    let third = resident.len() / 3;
    let mean = |range: Range<usize>| resident[range.clone()].iter().sum::<u64>() / range.len().max(1) as u64;
    let (first, last) = (mean(0..third), mean(resident.len() - third..resident.len()));
    assert!(third > 2 && last <= first + GROWTH_MAX, "seed {seed}: it grows from {first} to {last} kB: {resident:?}");
    assert!(peak <= PEAK_MAX, "seed {seed}: {peak} kB at most");
    format!(
        "{length:?}, seed {seed}: {connections} connections, {known} commands and {abandoned} abandoned, {} events; \
         resident {} MB in the first third, {} MB in the last, {} MB at most",
        tallies[0].events,
        first >> 10,
        last >> 10,
        peak >> 10
    )
}

/// What the choices of a case come from.
pub(crate) fn seed() -> u64 {
    match std::env::var("MONGOTAP_TEST_SEED") {
        Ok(text) => text.parse().expect("MONGOTAP_TEST_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    }
}

/// Has the clients at the first proxy for so long. Resident memory of the largest meanwhile, in kB.
async fn run(proxies: &[Logged], seed: u64, length: Duration, done: &Arc<Done>) -> Vec<u64> {
    let until = now() + length;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (address, done) = (proxies[0].address().to_owned(), Arc::clone(done));
        clients.spawn(async move {
            let mut dice = Dice(seed ^ (number << 32));
            while now() < until {
                client(&address, &mut dice, until, &done).await.expect("the connection stands while it is wanted");
            }
        });
    }
    let mut resident = Vec::new();
    while now() < until {
        tokio::time::sleep(length.min(Duration::from_secs(10)) / 100).await;
        resident.extend(proxies.iter().map(|proxy| memory(proxy.pid()).now).max());
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client ends well");
    }
    resident
}

/// One connection, from beginning to end.
async fn client(address: &str, dice: &mut Dice, until: Instant, done: &Done) -> io::Result<()> {
    let compressor = COMPRESSORS[dice.below(4)];
    let mut talk = Talk::handshake(address, compressor).await?;
    // To compress takes its time.
    let long = if compressor.is_none() { TEXT_MAX } else { 200 << 10 };
    done.connections.fetch_add(1, Ordering::Relaxed);
    for _ in 0..dice.below(20) {
        if now() > until {
            break;
        }
        let answered = some_commands(&mut talk, long, dice).await?;
        done.known.fetch_add(answered, Ordering::Relaxed);
    }
    let find = doc! { "find": "items", "bytes": 300_000, "$db": "load" };
    match dice.below(5) {
        0 => talk.reset(),
        1 => {
            // Within a request.
            let message = talk.message(0, &find);
            talk.write(&message[..message.len() / 2]).await?;
        }
        2 => {
            // Within its reply.
            talk.send(0, &find).await?;
            done.abandoned.fetch_add(1, Ordering::Relaxed);
            talk.reset();
        }
        3 => {
            // It is said that nothing more comes, and the reply waited for.
            talk.send(0, &find).await?;
            talk.close_sending().await?;
            talk.receive().await?;
            done.known.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
    Ok(())
}

/// Does one of the things that drivers do, now and then with a message so long at most. How many commands have gone
/// through.
async fn some_commands(talk: &mut Talk, long: usize, dice: &mut Dice) -> io::Result<u64> {
    match dice.below(100) {
        0 => {
            let documents = [doc! { "text": text(dice.below(long)) }];
            talk.ask(&doc! { "insert": "items", "documents": &documents, "$db": "load" }).await?;
            Ok(1)
        }
        1 => {
            let bytes = dice.below(long) as i32;
            talk.ask(&doc! { "find": "items", "bytes": bytes, "$db": "load" }).await?;
            Ok(1)
        }
        2..5 => {
            let parts = 2 + dice.below(20) as i32;
            let more = doc! { "getMore": 7_i64, "collection": "items", "parts": parts, "bytes": 5000, "$db": "load" };
            let mut before = talk.send(msg_flags::EXHAUST_ALLOWED, &more).await?;
            for part in 1..=parts {
                let answer = talk.receive().await?;
                assert_eq!((answer.response_to, answer.more_to_come), (before, part < parts), "part {part} of {parts}");
                before = answer.request_id;
            }
            Ok(parts as u64)
        }
        5..8 => {
            let insert = doc! { "insert": "items", "documents": [{ "text": "x" }], "$db": "load" };
            talk.send(msg_flags::MORE_TO_COME, &insert).await?;
            talk.ask(&doc! { "ping": 1, "$db": "load" }).await?;
            Ok(2)
        }
        8..12 => {
            // Several at a time.
            let mut ids = Vec::new();
            for _ in 0..8 {
                ids.push(talk.send(0, &doc! { "find": "items", "bytes": 50, "$db": "load" }).await?);
            }
            for id in ids {
                assert_eq!(talk.receive().await?.response_to, id, "answers come in order");
            }
            Ok(8)
        }
        _ => {
            let bytes = dice.below(2000) as i32;
            talk.ask(&doc! { "find": "items", "bytes": bytes, "$db": "load" }).await?;
            Ok(1)
        }
    }
}

/// Numbers that look random and are the same for the same seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// One below that.
    pub(crate) fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((number ^ (number >> 31)) % most as u64) as usize
    }
}
