//! When `mongotap replay` answers: as soon as it can, or as long after the question as recorded; and change streams when
//! there is something to tell, without being looked after until then.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::process::Command;
use std::time::Duration;

use support::manifest;
use support::mongod::{Mongod, Options};
use support::replay::{Replay, captured, output};
use support::wait_for;

/// Prints how many milliseconds a find takes that keeps its server busy for 1500.
const SLOW: &str = r#"
import sys, time, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    things = client.slow.things
    things.drop()
    things.insert_one({'_id': 1})
    begun = time.monotonic()
    assert things.find_one({'$where': 'sleep(1500) || true'})['_id'] == 1
    print(int((time.monotonic() - begun) * 1000))
"#;

/// Prints how many milliseconds after a write the waiting stream tells of it.
const WATCH: &str = r#"
import sys, threading, time, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    things = client.watched.things
    things.drop()
    things.insert_one({'_id': 0})
    with things.watch(max_await_time_ms=30000) as stream:
        written = []
        def write():
            time.sleep(0.5)
            written.append(time.monotonic())
            things.insert_one({'_id': 1})
        thread = threading.Thread(target=write)
        thread.start()
        assert next(stream)['documentKey']['_id'] == 1
        thread.join()
        print(int((time.monotonic() - written[0]) * 1000))
"#;

/// Opens as many streams, which wait, and says so; waits to be told to end.
const WAIT: &str = r#"
import sys, threading, pymongo
client = pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000)
def wait(stream):
    try:
        next(stream)
    except Exception:
        pass
streams = [client.watched.things.watch(max_await_time_ms=60000) for _ in range(50)]
[threading.Thread(target=wait, args=(stream,), daemon=True).start() for stream in streams]
print('waiting', flush=True)
sys.stdin.readline()
import os
os._exit(0)
"#;

fn printed(script: &str, uri: &str) -> u128 {
    let said = output(Command::new(manifest::python()).args(["-c", script, uri]));
    said.trim().parse().unwrap()
}

#[test]
fn answers_take_as_long_as_recorded_if_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let mut live = 0;
    let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| live = printed(SLOW, uri));
    assert!(live >= 1500, "{live} ms");
    let took = |arguments: &[&str]| printed(SLOW, &Replay::start(&capture, arguments).uri);
    let recorded = took(&["--timing", "recorded"]);
    assert!((1500..live + 5000).contains(&recorded), "{recorded} ms");
    for arguments in [&[][..], &["--timing", "none"]] {
        let none = took(arguments);
        assert!(none < 1000, "{arguments:?}: {none} ms");
    }
}

#[test]
fn a_stream_that_waits_tells_at_once_and_costs_nothing() {
    let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
    let directory = tempfile::tempdir().unwrap();
    let capture = captured(&mongod.uri(), directory.path(), |uri| {
        printed(WATCH, uri);
    });
    drop(mongod);
    let replay = Replay::start(&capture, &[]);
    let took = printed(WATCH, &replay.uri);
    // It is ready to wait for half a minute.
    assert!(took < 10_000, "{took} ms");

    let replay = Replay::start(&capture, &[]);
    let mut waiting = Command::new(manifest::python());
    waiting.args(["-c", WAIT, &replay.uri]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut waiting = waiting.spawn().unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(waiting.stdout.take().unwrap()), &mut said).unwrap();
    assert_eq!(said, "waiting\n");
    // Their connections are made before. Of 50 streams that were looked after every 5 ms it was ten times as much, for ever.
    wait_for("50 streams to wait for nothing", Duration::from_secs(60), || {
        let before = cpu_time(replay.id());
        std::thread::sleep(Duration::from_secs(3));
        let spent = cpu_time(replay.id()).zip(before).map(|(after, before)| after - before);
        spent.is_none_or(|spent| spent <= Duration::from_millis(60)).then_some(())
    });
    drop(waiting.stdin.take());
    waiting.wait().unwrap();
}

/// How much time of the processors a process has taken; `None` where the system does not say.
fn cpu_time(id: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = [11, 12].iter().map(|at| fields.get(*at)?.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some(Duration::from_millis(ticks * 10))
}
