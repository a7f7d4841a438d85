//! Files put aside: by size and by age, however the wall clock is set, and by somebody else; how much disk they take at
//! most, and that nothing of them is lost or torn, whoever writes at the time.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bson::rawdoc;
use bytes::BytesMut;
use mongotap::capture::mtap::{Header, Reader, Record};
use mongotap::config::{Capture, Log, Writing};
use mongotap::event::{Address, Connection, ConnectionId, Given, Input, Side, Timestamp};
use mongotap::net::recorder::{CaptureFeed, Listeners, Recorder};
use mongotap::pipeline::Pipeline;
use mongotap::redact::Redacted;
use mongotap::session::{Limits, Shared};
use mongotap::sink::Format;
use mongotap::wire::OpMsg;

use crate::bench::{self, Bench, exchange, lines, log, seqs};
use crate::{events, whole_and_missing};

const HOUR: i64 = 3_600_000_000;

pub(crate) fn aside(path: &Path, number: u32) -> PathBuf {
    PathBuf::from(format!("{}.{number}", path.display()))
}

/// A file and those put aside, the oldest first.
pub(crate) fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = (1..).map(|number| aside(path, number)).take_while(|it| it.exists()).collect();
    files.reverse();
    files.push(path.to_owned());
    files
}

#[test]
fn files_are_put_aside_by_size_and_the_oldest_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench =
        Bench::start(&[Log { writing: Writing { rotate_bytes: 4000, keep: 2, ..Writing::default() }, ..log(&path) }]);
    let mut feed = bench.feed();
    (1..=40).for_each(|number| exchange(&mut feed, number, 40));
    drop(feed);
    bench.stop();
    assert!(aside(&path, 1).exists() && aside(&path, 2).exists() && !aside(&path, 3).exists());
    let mut all = Vec::new();
    for file in [aside(&path, 2), aside(&path, 1), path.clone()] {
        let size = fs::metadata(&file).unwrap().len();
        assert!(size <= 4000, "{size}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let lines = lines(&file);
        assert_eq!(lines[0]["event"], "recorderStartedEvent");
        assert!(lines.len() > 3 || file == path);
        all.extend(seqs(&lines));
    }
    // Without gaps over the files.
    assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
    assert_eq!(events(&lines(&path)).last(), Some(&"recorderStoppedEvent"));
}

#[test]
fn none_is_kept_and_a_line_longer_than_a_file_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let bench =
        Bench::start(&[Log { writing: Writing { rotate_bytes: 500, keep: 0, ..Writing::default() }, ..log(&path) }]);
    let mut feed = bench.feed();
    (1..=3).for_each(|number| exchange(&mut feed, number, 1000));
    drop(feed);
    bench.stop();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(events(&lines(&path)), ["recorderStartedEvent", "recorderStoppedEvent"]);
    assert_eq!(seqs(&lines(&path)), [12, 13], "six lines, each in a file, and seven openings");
}

#[test]
fn files_are_put_aside_by_age() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.txt");
    let log = Log {
        writing: Writing { rotate_every: Duration::from_secs(60), ..Writing::default() },
        format: Format::Text,
        ..log(&path)
    };
    let bench = Bench::start(&[log]);
    let mut feed = bench.feed();
    for number in 1..=4 {
        exchange(&mut feed, number, 10);
        feed.flush();
        bench::wait_for(|| bench.recorder.is_idle());
        bench.pass(Duration::from_secs(31));
    }
    drop(feed);
    bench.stop();
    let count = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    assert_eq!((count(&path), count(&path.with_extension("txt.1"))), (4, 4));
}

/// Files of one run are as old as its own clock says, wherever the wall clock is set.
#[test]
fn a_wall_clock_that_is_set_puts_no_file_aside_and_keeps_none_from_it() {
    for by in [-10_000 * HOUR, 10_000 * HOUR] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.jsonl");
        let writing = Writing { rotate_every: Duration::from_secs(3600), ..Writing::default() };
        let bench = Bench::start_on(now(), &[Log { writing, ..log(&path) }], Listeners::default()).unwrap();
        let mut feed = bench.feed();
        for number in 1..=6 {
            exchange(&mut feed, number, 10);
            feed.flush();
            bench::wait_for(|| bench.recorder.is_idle());
            bench.pass(Duration::from_secs(1000));
            bench.set_clock(by);
        }
        drop(feed);
        bench.stop();
        let count = |path: &Path| lines(path).iter().filter(|line| line["event"] == "commandSucceededEvent").count();
        assert_eq!(files(&path).iter().map(|it| count(it)).collect::<Vec<_>>(), [4, 2], "set by {by}");
    }
}

/// In microseconds since 1970: when a file is made that is made now.
fn now() -> i64 {
    let file = tempfile::NamedTempFile::new().unwrap();
    let made = file.as_file().metadata().unwrap().modified().unwrap();
    made.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

#[test]
fn a_file_that_an_earlier_run_began_is_as_old_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let writing = Writing { rotate_every: Duration::from_secs(3600), ..Writing::default() };
    let run = |date| {
        let log = Log { writing: writing.clone(), ..log(&path) };
        let bench = Bench::start_on(date, &[log], Listeners::default()).unwrap();
        let mut feed = bench.feed();
        (1..=3).for_each(|number| exchange(&mut feed, number, 10));
        drop(feed);
        bench.stop();
        files(&path).len()
    };
    let made = now();
    assert_eq!(run(made), 1);
    if fs::metadata(&path).unwrap().created().is_err() {
        // The file system does not know: then it is as old as the run.
        return;
    }
    // Written on within the hour, and by a clock that was set back behind its beginning.
    assert_eq!((run(made + HOUR / 2), run(made - 1000 * HOUR)), (1, 1));
    // Two hours later it is put aside, once: the next one is new.
    assert_eq!(run(made + 2 * HOUR), 2);
    assert_eq!(events(&lines(&path)).iter().filter(|it| **it == "commandSucceededEvent").count(), 3);
}

#[test]
fn files_beyond_those_that_are_kept_are_told_of_and_go_with_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    (1..=7).for_each(|number| fs::write(aside(&path, number), "old").unwrap());
    fs::write(directory.path().join("a.jsonl.9"), "somebody's").unwrap();
    let writing = |rotate_bytes| Writing { rotate_bytes, keep: 2, ..Writing::default() };
    let kept =
        format!("log {}: 5 files put aside are more than keep = 2; they are removed with the next one", path.display());
    for (rotate_bytes, said, left) in [(0, vec![], 7), (100_000, vec![kept.clone()], 7), (500, vec![kept], 2)] {
        let bench = Bench::start(&[Log { writing: writing(rotate_bytes), ..log(&path) }]);
        let ears = bench.said();
        let mut feed = bench.feed();
        exchange(&mut feed, 1, 10);
        drop(feed);
        bench.stop();
        assert_eq!(*ears.lock().unwrap(), said);
        assert_eq!(files(&path).len() - 1, left, "rotate_bytes = {rotate_bytes}");
    }
    assert!(directory.path().join("a.jsonl.9").exists(), "it is not the next after those");
}

/// Looks all the time at how much disk files take; ends when it is told to, with the most that it saw.
fn watch(path: &Path, is_over: &Arc<AtomicBool>) -> thread::JoinHandle<u64> {
    let (directory, is_over) = (path.parent().unwrap().to_owned(), Arc::clone(is_over));
    thread::spawn(move || {
        let mut most = 0;
        loop {
            let is_last = is_over.load(Ordering::SeqCst);
            // A file that is renamed meanwhile may be met twice.
            let entries = fs::read_dir(&directory).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
            let sizes: HashMap<u64, u64> = entries.map(|it| (it.ino(), it.len())).collect();
            most = most.max(sizes.values().sum());
            if is_last {
                return most;
            }
        }
    })
}

const THREADS: u64 = 4;
const EXCHANGES: u64 = 1500;

/// Says before each exchange, by how many there were, whether there is to be another.
pub(crate) type More<'m> = &'m (dyn Fn(u64) -> bool + Sync);

fn enough(exchanges: u64) -> bool {
    exchanges < EXCHANGES
}

/// Several threads write into a log at once. Says how many exchanges that were.
fn write_log(recorder: &Recorder, more: More<'_>) -> u64 {
    on_threads(|number| {
        let mut feed = recorder.feed();
        let mut n = 0;
        while more(n) {
            n += 1;
            exchange(&mut feed, number * 1_000_000 + n, 100 + (n % 7) as usize * 100);
            if n.is_multiple_of(20) {
                feed.flush();
            }
        }
        n
    })
}

fn on_threads(work: impl Fn(u64) -> u64 + Sync) -> u64 {
    thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|number| {
                scope.spawn({
                    let work = &work;
                    move || work(number)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

#[test]
fn logs_never_take_more_disk_than_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let writing = Writing { rotate_bytes: 50_000, keep: 3, queue_bytes: 1 << 30, ..Writing::default() };
    let bench = Bench::start(&[Log { writing, ..log(&path) }]);
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = watch(&path, &is_over);
    write_log(&bench.recorder, &enough);
    let totals = bench.stop();
    is_over.store(true, Ordering::SeqCst);
    let most = watch.join().unwrap();
    assert!((100_000..=50_000 * 4).contains(&most), "{most} bytes");
    assert_eq!((totals[0].counts.exchanges, totals[0].counts.dropped_exchanges), (THREADS * EXCHANGES, 0));
    // What is left is the end of it, without a gap.
    let left: Vec<u64> = files(&path).iter().flat_map(|file| seqs(&lines(file))).collect();
    assert!(files(&path).len() == 4 && left.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert_eq!(left.last(), Some(&(totals[0].counts.events - 1)));
}

/// Several connections talk at once, each on a thread of its own. Says how many exchanges that were.
pub(crate) fn write_capture(recorder: &Recorder, more: More<'_>) -> u64 {
    let shared = Shared { limits: Limits { max_document_bytes: 0, ..Limits::default() }, ..Shared::default() };
    on_threads(|number| talk(number, recorder.capture_feed().unwrap(), shared.clone(), more))
}

fn talk(number: u64, feed: CaptureFeed, shared: Shared, more: More<'_>) -> u64 {
    let feed = Arc::new(Mutex::new(feed));
    let tap = {
        let feed = Arc::clone(&feed);
        Box::new(move |input: &Redacted<Input<'_>>| feed.lock().unwrap().record(input))
    };
    let (client, upstream) = (format!("127.0.0.1:{}", 5000 + number), "127.0.0.1:27017".into());
    let server = Address { host: "127.0.0.1".into(), port: Some(27027) };
    let connection = Connection { id: ConnectionId(number), client, upstream, server, tls: false };
    let mut now = Timestamp::default();
    let mut pipeline = Pipeline::recorded(Arc::new(connection), now, shared, tap);
    let mut n = 0;
    while more(n as u64) {
        n += 1;
        // What cannot be compressed, so that files grow.
        let noise: Vec<u8> = (0..40).flat_map(|i| md5::compute(format!("{number} {n} {i}")).0).collect();
        let filler = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: noise };
        now.monotonic_nanos += 1000;
        let request = message(n, 0, &rawdoc! { "ping": 1, "filler": filler, "$db": "shop" });
        pipeline.handle_bytes(Side::Client, &request, now, &mut |_| {});
        pipeline.handle_bytes(Side::Server, &message(n, n, &rawdoc! { "ok": 1.0 }), now, &mut |_| {});
        if n % 20 == 0 {
            now.monotonic_nanos += 20_000_000;
            feed.lock().unwrap().tick(now);
        }
    }
    pipeline.handle_close(Some(Side::Client), None, now, &mut |_| {});
    n as u64
}

fn message(id: i32, to: i32, body: &bson::raw::RawDocumentBuf) -> Vec<u8> {
    let mut frame = BytesMut::new();
    OpMsg::new(0, body.as_bytes()).encode(id, to, &mut frame).unwrap();
    frame.to_vec()
}

/// The messages of the files of a capture: of which connection, which side, and its id; each as often as it is there.
pub(crate) fn messages(files: &[PathBuf]) -> Vec<(u64, bool, i32)> {
    let mut all = Vec::new();
    for file in files {
        let mut reader = Reader::new(fs::File::open(file).unwrap());
        while let Some(records) = reader.next_block().unwrap() {
            for record in records {
                let Record::Input(Input { connection, given: Given::Message(message), .. }) = record else { continue };
                let id = i32::from_le_bytes(message.bytes[4..8].try_into().unwrap());
                all.push((connection.0, message.side == Side::Client, id));
            }
        }
        assert!(reader.is_whole(), "{} was not closed", file.display());
    }
    all
}

/// A recorder with a capture, and what it says.
pub(crate) fn capturing(logs: &[Log], capture: &Capture) -> Bench {
    let mut bench = Bench::start(logs);
    let limits = Limits::default();
    let (max_message_bytes, inflate_max_bytes) = (limits.max_message_bytes, limits.inflate_max_bytes);
    bench
        .recorder
        .start_capture(capture, Header { max_message_bytes, inflate_max_bytes, ..Header::default() })
        .unwrap();
    bench
}

#[test]
fn captures_never_take_more_disk_than_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.mtap");
    let writing = Writing { rotate_bytes: 300_000, keep: 2, queue_bytes: 1 << 30, ..Writing::default() };
    (1..=5).for_each(|number| fs::write(aside(&path, number), "old").unwrap());
    let bench = capturing(&[], &Capture { writing, ..Capture::to(&path) });
    let said = bench.said();
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = watch(&path, &is_over);
    write_capture(&bench.recorder, &enough);
    bench.stop();
    is_over.store(true, Ordering::SeqCst);
    let most = watch.join().unwrap();
    // Those put aside are near to full.
    assert!((400_000..=300_000 * 3).contains(&most), "{most} bytes");
    let kept = format!(
        "capture {}: 3 files put aside are more than keep = 2; they are removed with the next one",
        path.display()
    );
    assert_eq!(*said.lock().unwrap(), [kept]);
    assert_eq!(files(&path).len(), 3);
    assert!(messages(&files(&path)).len() > 100);
}

/// As logrotate does it: the file is moved, and the proxy told to look.
#[test]
fn files_that_are_moved_while_several_threads_write_lose_nothing() {
    const MOVES: u64 = 100;
    let directory = tempfile::tempdir().unwrap();
    let (path, captured) = (directory.path().join("a.jsonl"), directory.path().join("run.mtap"));
    let unbounded = Writing { queue_bytes: 1 << 30, ..Writing::default() };
    let capture = Capture { writing: unbounded.clone(), ..Capture::to(&captured) };
    let bench = capturing(&[Log { writing: unbounded, ..log(&path) }], &capture);
    let recorder = &bench.recorder;
    let moved = |path: &Path, number: u64| PathBuf::from(format!("{}-{number:03}", path.display()));
    let is_over = AtomicBool::new(false);
    let more = |exchanges: u64| {
        if exchanges.is_multiple_of(10) {
            thread::sleep(Duration::from_millis(1));
        }
        !is_over.load(Ordering::SeqCst)
    };
    let (logged, recorded) = thread::scope(|scope| {
        let logging = scope.spawn(|| write_log(recorder, &more));
        let recording = scope.spawn(|| write_capture(recorder, &more));
        for number in 1..=MOVES {
            bench::wait_for(|| path.exists() && captured.exists());
            if number.is_multiple_of(2) {
                // Of a busy machine's threads the one that moves may be the only one that is let on.
                bench::wait_for(|| fs::read_to_string(&path).is_ok_and(|text| text.lines().count() > 1));
            }
            for path in [&path, &captured] {
                fs::rename(path, moved(path, number)).unwrap();
            }
            recorder.reopen();
            thread::sleep(Duration::from_millis(2));
        }
        is_over.store(true, Ordering::SeqCst);
        (logging.join().unwrap(), recording.join().unwrap())
    });
    bench::wait_for(|| path.exists() && captured.exists());
    let said = bench.said();
    let totals = bench.stop();
    assert!(said.lock().unwrap().is_empty(), "{said:?}");
    assert!(totals.iter().all(|total| total.counts.dropped_exchanges == 0));
    let files = |path: &Path| (1..=MOVES).map(|n| moved(path, n)).chain([path.to_owned()]).collect::<Vec<_>>();

    let each: Vec<_> = files(&path).iter().map(|file| lines(file)).collect();
    let under_load = each.iter().filter(|lines| lines.len() > 1).count();
    assert!(under_load >= 50, "{under_load} of {MOVES} files were moved under load");
    let all = each.concat();
    assert_eq!(seqs(&all), (0..all.len() as u64).collect::<Vec<_>>());
    assert_eq!(whole_and_missing(&all), (logged as usize, 0));

    let messages = messages(&files(&captured));
    assert_eq!(messages.len() as u64, 2 * recorded);
    let distinct: BTreeSet<_> = messages.iter().collect();
    assert_eq!(distinct.len(), messages.len(), "none is there twice");
    for connection in 1..=THREADS {
        let ids: Vec<i32> = messages.iter().filter(|it| it.0 == connection).map(|it| it.2).collect();
        assert!(ids.is_sorted(), "connection {connection} is in order");
    }
}

/// Somebody else's capture may have come where ours was: it is not overwritten.
#[test]
fn a_capture_that_is_moved_makes_way_for_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("run.mtap"), directory.path().join("moved"));
    let bench = capturing(&[], &Capture::to(&path));
    fs::rename(&path, &moved).unwrap();
    fs::write(&path, "somebody's").unwrap();
    bench.recorder.reopen();
    let said = bench.said();
    bench::wait_for(|| !said.lock().unwrap().is_empty());
    assert!(said.lock().unwrap()[0].ends_with("run.mtap: there is a file already; trying again"), "{said:?}");
    assert_eq!(fs::read(&path).unwrap(), b"somebody's");
    fs::remove_file(&path).unwrap();
    bench::wait_for(|| said.lock().unwrap().len() == 2);
    bench.stop();
    assert_eq!(messages(&[moved, path]), []);
}
