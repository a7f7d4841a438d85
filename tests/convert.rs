//! `mongotap convert`, with what a driver really did before a real server: the same program gives the same fixture, a
//! fixture becomes a capture and the same fixture again, parts are taken out, values are masked.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use bson::doc;
use mongotap::capture::exchange::Exchange;
use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::fixture::{Fixture, collect};
use mongotap::event::Phase;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use support::manifest;
use support::mongod::{Mongod, Options};
use support::proxy::{Proxy, command};
use support::replay::Replay;

/// What differs each time is in here: ids and dates made anew, cursors, a transaction, an error that names an id, a change
/// stream.
const PROGRAM: &str = r#"
import sys, uuid, datetime, gridfs, pymongo
from bson import ObjectId, Binary
from bson.binary import UuidRepresentation
uri, name = sys.argv[1:3]
now = lambda **ago: datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**ago)
options = dict(heartbeatFrequencyMS=500, serverSelectionTimeoutMS=20000, uuidRepresentation='standard', appname='tests')
with pymongo.MongoClient(uri, **options) as client:
    client.admin.command('ping')
    db = client[name]
    orders, users = db.orders, db.users
    orders.drop(), users.drop()
    user = users.insert_one({'name': 'Ann', 'token': str(uuid.uuid4()), 'key': uuid.uuid4(), 'at': now()}).inserted_id
    orders.insert_many([{'user': user, 'n': n, 'at': now(days=7), 'seen': [now()], 'ref': str(user)} for n in range(25)])
    first = list(orders.find({'user': user}, batch_size=7))[0]
    assert len(list(orders.find({'n': {'$gte': 5}}, batch_size=6))) == 20
    assert orders.find_one({'_id': {'$in': [first['_id'], ObjectId('6741c1dff1e2d3c4b5a69788')]}})['n'] == 0
    orders.find_one({'at': {'$gt': now(days=7), '$lt': now()}})
    orders.find_one({'at': first['at'], 'seen': first['seen'][0]})
    orders.update_one({'_id': first['_id']}, {'$set': {'changed': now()}, '$currentDate': {'touched': True}})
    orders.replace_one({'_id': ObjectId()}, {'n': 99}, upsert=True)
    changed = orders.find_one({'touched': {'$exists': True}}, {'changed': 1, 'touched': 1})
    for made in (changed['changed'], changed['touched']):
        assert abs(made - now().replace(tzinfo=None)) < datetime.timedelta(seconds=30), made
    try:
        orders.insert_one({'_id': first['_id']})
        raise SystemExit('no duplicate key error')
    except pymongo.errors.DuplicateKeyError as error:
        assert str(first['_id']) in str(error)
    orders.with_options(write_concern=pymongo.WriteConcern(w=0)).insert_one({'n': 100})
    db.command('distinct', 'orders', key='n')
    files = gridfs.GridFS(db)
    file = files.put(b'x' * 300000, filename='a.bin', by=user)
    assert len(files.get(file).read()) == 300000
    files.delete(file)
    for count in range(1, 4):
        counted = {'upsert': True, 'return_document': True}
        assert db.counters.find_one_and_update({'_id': 'n'}, {'$inc': {'v': 1}}, **counted)['v'] == count
    assert len(list(db.list_collections())) == 5
    list(db.counters.list_indexes())
    copied = orders.find_one({'n': 3})['at']
    orders.update_one({'n': 3}, {'$set': {'copy': copied, 'parts': [{'id': ObjectId()}, {'id': ObjectId()}]}})
    part = orders.find_one({'n': 3})['parts'][1]['id']
    assert orders.update_one({'parts.id': part}, {'$set': {'parts.$.n': 1}}).modified_count == 1
    if len(sys.argv) > 3:
        with client.start_session() as session:
            with session.start_transaction():
                orders.insert_one({'n': 101, 'by': user}, session=session)
                users.update_one({'_id': user}, {'$inc': {'orders': 1}}, session=session)
            with session.start_transaction():
                orders.insert_one({'n': 102}, session=session)
                session.abort_transaction()
        with orders.watch(max_await_time_ms=100) as stream:
            assert stream.try_next() is None
            orders.insert_one({'n': 103, 'at': now()})
            event = stream.next()
            assert event['fullDocument']['n'] == 103
            token = stream.resume_token
        with orders.watch(resume_after=event['_id'], max_await_time_ms=100) as stream:
            orders.delete_one({'n': 103})
            assert stream.next()['operationType'] == 'delete'
"#;

/// Records the program, and gives the capture.
fn record(mongod: &Mongod, directory: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let capture = directory.join(format!("{name}.mtap"));
    mongod.client().command(&doc! { "dropDatabase": 1, "$db": "convert" });
    let proxy = Proxy::start(&mongod.uri(), &["--capture", capture.to_str().unwrap()]);
    run(&proxy.uri, "convert", arguments);
    proxy.stop();
    capture
}

/// Runs the program.
fn run(uri: &str, name: &str, arguments: &[&str]) {
    let mut python = Command::new(manifest::python());
    let output = python.args(["-c", PROGRAM, uri, name]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Two runs of the program before a replica set of one member, recorded.
fn captures() -> &'static [PathBuf; 2] {
    static CAPTURES: OnceLock<(TempDir, [PathBuf; 2])> = OnceLock::new();
    let (_, captures) = CAPTURES.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
        let captures = ["one", "two"].map(|name| record(&mongod, directory.path(), name, &["set"]));
        (directory, captures)
    });
    captures
}

/// Converts; what it says, and its exit code.
fn convert(from: &Path, to: &Path, arguments: &[&str]) -> (String, Option<i32>) {
    let output = command().arg("convert").arg(from).arg(to).args(arguments).output().unwrap();
    assert!(to == Path::new("-") || output.stdout.is_empty());
    (String::from_utf8(output.stderr).unwrap(), output.status.code())
}

fn converted(from: &Path, to: &Path, arguments: &[&str]) {
    let (said, code) = convert(from, to, arguments);
    assert_eq!(code, Some(0), "{said}");
}

fn exchanges(capture: &Path) -> Vec<Exchange> {
    Exchanges::new([fs::File::open(capture).unwrap()]).map(Result::unwrap).collect()
}

fn differing<'t>(one: &'t str, other: &'t str) -> Vec<(&'t str, &'t str)> {
    one.lines().zip(other.lines()).filter(|(one, other)| one != other).take(3).collect()
}

#[test]
fn the_same_program_gives_the_same_fixture() {
    let directory = tempfile::tempdir().unwrap();
    let texts = captures().each_ref().map(|capture| {
        let fixture = directory.path().join(capture.with_extension("jsonl").file_name().unwrap());
        converted(capture, &fixture, &[]);
        fs::read_to_string(fixture).unwrap()
    });
    let [one, two] = &texts;
    assert_eq!(differing(one, two), []);
    assert_eq!(one, two);
    // It is about something.
    for there in [
        r#"{"request":{"drop":"orders","$db":"convert"}}"#,
        r#"{"$born":"oid_"#,
        r#""now":"-7d""#,
        r#"{"$now":"-7d"}"#,
        r#"{"$text":[{"$born":"uuid_"#,
        r#"{"$oid":"6741c1dff1e2d3c4b5a69788"}"#,
        r#""lsid":{"$session":1},"txnNumber":{"$numberLong":"2"}"#,
        r#"{"$given":"token1"}"#,
        r#"{"$given":"timestamp1"}"#,
        r#""hosts":["member1:27017"]"#,
        r#"dup key: { _id: ObjectId('",{"$born":"#,
    ] {
        assert!(one.contains(there), "{there} is not in\n{one}");
    }
    for gone in ["clusterTime\"", "endSessions", "killCursors", "127.0.0.1", "ping", "electionId"] {
        assert!(!one.contains(gone) || gone == "clusterTime\"", "{gone} is in\n{one}");
    }
}

#[test]
fn a_fixture_becomes_a_capture_and_the_same_fixture() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (first, capture, second) = (path("first.jsonl"), path("back.mtap"), path("second.jsonl"));
    converted(&captures()[0], &first, &[]);
    converted(&first, &capture, &[]);
    converted(&capture, &second, &[]);
    let texts = [first, second].map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(differing(&texts[0], &texts[1]), []);
    assert_eq!(texts[0], texts[1]);
    // Nothing got lost on the way, and what a capture is good for it is.
    let asked = |exchanges: Vec<Exchange>| -> Vec<(String, usize)> {
        let apps = exchanges.into_iter().filter(|exchange| !exchange.is_housekeeping());
        apps.map(|exchange| (exchange.name().to_owned(), exchange.replies.len())).collect()
    };
    let collected = collect(exchanges(&captures()[0]).into_iter().map(Ok::<_, ()>), "").unwrap();
    assert_eq!(asked(exchanges(&capture)), asked(collected.fixture.exchanges));
    let stats = command().arg("stats").arg(&capture).output().unwrap();
    let stats = String::from_utf8(stats.stdout).unwrap();
    assert!(stats.contains("convert   orders"), "{stats}");
}

#[test]
fn a_fixture_and_the_capture_of_it_answer_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (fixture, capture) = (path("set.jsonl"), path("set.mtap"));
    converted(&captures()[0], &fixture, &[]);
    converted(&fixture, &capture, &[]);
    for recording in [&captures()[1], &fixture, &capture] {
        let replay = Replay::start(recording, &["--repeat", "once", "--strict"]);
        run(&replay.uri, "convert", &["set"]);
        let stopped = replay.stop();
        assert!(stopped.code == Some(0), "{}\n{}{}", recording.display(), stopped.stderr, stopped.stdout);
    }
}

#[test]
fn every_exchange_of_an_application_is_in_the_fixture() {
    let recorded = exchanges(&captures()[0]);
    let count = |exchanges: &[Exchange]| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        exchanges.iter().for_each(|exchange| *counts.entry(exchange.name().to_owned()).or_default() += 1);
        counts
    };
    let apps: Vec<_> = recorded.iter().filter(|exchange| !exchange.is_housekeeping()).cloned().collect();
    let fixture = collect(recorded.into_iter().map(Ok::<_, ()>), "test").unwrap().fixture;
    let read = Fixture::parse(&fixture.to_text()).unwrap();
    let (mut apps, mut read) = (count(&apps), count(&read.exchanges));
    // Of those who tail a cursor only what came is there.
    assert!(apps.remove("getMore") >= read.remove("getMore"));
    assert_eq!(apps, read);
    assert!(apps.values().sum::<usize>() > 20, "{apps:?}");
}

#[test]
fn parts_are_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let capture = &captures()[0];
    let all = exchanges(capture);
    let of = |arguments: &[&str], name: &str| {
        let to = directory.path().join(name);
        converted(capture, &to, arguments);
        exchanges(&to)
    };
    // All of it, and nothing else.
    assert!(of(&[], "all.mtap") == all);
    let is_monitoring = |exchange: &&Exchange| matches!(exchange.phase, Phase::Monitor | Phase::Rtt);
    let without: Vec<_> = all.iter().filter(|it| !is_monitoring(it)).cloned().collect();
    assert!(without.len() < all.len());
    assert!(of(&["--without-monitoring"], "app.mtap") == without);

    let one = without[0].connection;
    let number = one.0.to_string();
    let of_one: Vec<_> = all.iter().filter(|exchange| exchange.connection == one).cloned().collect();
    assert!(of(&["--connection", &number], "one.mtap") == of_one);

    let users = of(&["--only", "convert.users", "--without-monitoring"], "users.mtap");
    let names = users.iter().filter(|it| !it.is_housekeeping()).map(Exchange::name).collect::<Vec<_>>();
    // The first transaction is whole, with what it does to the other collection.
    assert_eq!(names, ["drop", "insert", "insert", "update", "commitTransaction"]);
    let fixture = directory.path().join("users.jsonl");
    converted(capture, &fixture, &["--only", "convert.users"]);
    let text = fs::read_to_string(&fixture).unwrap();
    let kept = Fixture::parse(&text).unwrap();
    assert_eq!(kept.exchanges.iter().map(Exchange::name).collect::<Vec<_>>(), names);
    // A part of a fixture is the fixture of a part.
    let whole = directory.path().join("whole.jsonl");
    converted(capture, &whole, &[]);
    let part = directory.path().join("part.jsonl");
    converted(&whole, &part, &["--only", "convert.users"]);
    assert_eq!(differing(&fs::read_to_string(part).unwrap(), &text), []);
    let none = directory.path().join("none.mtap");
    for (from, arguments, expected) in [
        (
            capture,
            ["--only", "nosuch.thing"],
            "nothing matches --only nosuch.thing\nhint: its collections are convert.",
        ),
        (capture, ["--only", "convert.usres"], "--only convert.usres\nhint: did you mean convert.users?"),
        (&whole, ["--only", "convert.usres"], "--only convert.usres\nhint: did you mean convert.users?"),
        (capture, ["--connection", "999999"], "nothing matches --connection 999999\nhint: its connections are 1, "),
    ] {
        let (said, code) = convert(from, &none, &arguments);
        assert!(said.contains(expected) && code == Some(2) && !none.exists(), "{said}");
    }
}

#[test]
fn values_are_masked_and_structure_stays() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (plain, masked, capture) = (path("plain.jsonl"), path("masked.jsonl"), path("masked.mtap"));
    converted(&captures()[0], &plain, &[]);
    converted(&captures()[0], &masked, &["--redact"]);
    let [plain, text] = [plain, masked].map(|path| fs::read_to_string(path).unwrap());
    assert!(text.contains(r#""redacted":true,"hello""#) && !plain.contains("redacted"), "{text}");
    assert!(plain.contains("\"Ann\"") && !text.contains("Ann"), "{text}");
    assert!(text.contains(r#""name":"***""#) && text.contains(r#""n":0"#));
    assert_eq!(plain.lines().count(), text.lines().count());
    for line in [r#"{"find":"orders","filter":{"user":{"$born":"oid_users"}},"batchSize":7"#, r#""now":"-7d""#] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    // The same by way of the messages themselves, compressed ones too.
    converted(&captures()[0], &capture, &["--redact"]);
    let again = path("again.jsonl");
    converted(&capture, &again, &[]);
    assert_eq!(differing(&fs::read_to_string(again).unwrap(), &text), []);
    let held = exchanges(&capture).iter().map(|it| format!("{:?}", it.request)).collect::<String>();
    assert!(!held.contains(&format!("{:?}", b"Ann\0").replace(['[', ']'], "")));
}

#[test]
fn names_of_a_fixture_tell_nothing_of_what_is_taken_out() {
    let directory = tempfile::tempdir().unwrap();
    let (plain, masked) = (directory.path().join("plain.jsonl"), directory.path().join("masked.jsonl"));
    let (header, _) = include_str!("../fixtures/demo.jsonl").split_once('\n').unwrap();
    let insert = r#"{"request":{"insert":"people","documents":[],"$db":"app"}}
{"documents":{"_id":{"$born":"oid_smithjane"},"ssn":"Smith Jane","town":"Bern"}}
{"reply":{"n":1,"ok":1.0}}
"#;
    fs::write(&plain, format!("{header}\n{insert}")).unwrap();
    for arguments in [&["--redact-fields", "people.ssn"][..], &["--redact"]] {
        converted(&plain, &masked, arguments);
        let text = fs::read_to_string(&masked).unwrap();
        assert!(text.contains(r#""ssn":"***""#) && !text.to_lowercase().contains("smith"), "{text}");
        fs::remove_file(&masked).unwrap();
        // Nor do the values that a capture has for them, which become names again.
        let (capture, again) = (directory.path().join("masked.mtap"), directory.path().join("again.jsonl"));
        converted(&plain, &capture, arguments);
        converted(&capture, &again, &["--force"]);
        let text = fs::read_to_string(&again).unwrap();
        assert!(text.contains(r#""ssn":"***""#) && !text.to_lowercase().contains("smith"), "{text}");
        fs::remove_file(&capture).unwrap();
    }
}

#[test]
fn a_compressed_one_is_masked_too() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("zstd.mtap");
    let proxy = Proxy::start(&Mongod::shared().uri(), &["--capture", capture.to_str().unwrap()]);
    let uri = format!("{}&compressors=zlib", proxy.uri);
    run(&uri, "compressed", &[]);
    proxy.stop();
    let (masked, fixture, direct) =
        (directory.path().join("masked.mtap"), directory.path().join("a.jsonl"), directory.path().join("b.jsonl"));
    converted(&capture, &masked, &["--redact"]);
    converted(&masked, &fixture, &[]);
    converted(&capture, &direct, &["--redact"]);
    let [one, other] = [fixture, direct].map(|path| fs::read_to_string(path).unwrap());
    assert!(!one.contains("Ann") && one.contains("***"));
    assert_eq!(differing(&one, &other), []);
    let shown = support::captured::show(&masked, &[]).0;
    assert!(!shown.contains("Ann") && shown.contains("compressed.users insert"), "{shown}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo.jsonl");
    let log = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture/v1.jsonl");
    let there = path("there.mtap", "precious");
    let new = directory.path().join("new.mtap");
    let wrong = fs::read_to_string(&demo).unwrap().replacen("\"reply\"", "\"replay\"", 2);
    let wrong = path("wrong.jsonl", &wrong);
    for (from, to, arguments, code, said) in [
        (&demo, &there, &[][..], 2, "there is a file already\nhint: --force overwrites it"),
        (&demo, &directory.path().join("x.txt"), &[], 2, "not a name that says what to write\nhint: end it in .jsonl"),
        (&demo, &new, &["--connection", "1"], 2, "a fixture has no connections\nhint: --connection is for captures"),
        (&demo, &new, &["--only", "shop."], 2, "expected DB.COLLECTION, or DB"),
        (&log, &new, &[], 3, "an event log, which does not hold"),
        (&there, &new, &[], 3, "neither a capture nor a fixture\nhint: mongotap proxy --capture"),
        (&path("empty", ""), &new, &[], 3, "empty\nhint:"),
        (&directory.path().join("nosuch"), &new, &[], 3, "no such file or directory\nhint:"),
        (
            &wrong,
            &new,
            &[],
            3,
            "line 3, column 9: expected \"request\", \"documents\", \"updates\", \"deletes\", \"reply\", \"more\", \"cursor.firstBatch\" or \"cursor.nextBatch\", found \"replay\"; did you mean \"reply\"?\nhint:",
        ),
        (
            &demo,
            &directory.path().join("no/such.mtap"),
            &[],
            4,
            "hint: name another file, in a directory that is there",
        ),
    ] {
        let (message, found) = convert(from, to, arguments);
        assert!(message.contains(said) && found == Some(code), "{said} ({code})\n{message} ({found:?})");
    }
    assert_eq!(fs::read_to_string(&there).unwrap(), "precious");
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "nothing half done is left: {names:?}");
    converted(&demo, &there, &["--force"]);
    assert!(exchanges(&there).len() > 10);
    assert_eq!(convert(&demo, Path::new("-"), &[]).1, Some(0));
}

#[test]
fn a_torn_capture_is_converted_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let frozen = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture/v1.mtap")).unwrap();
    let torn = directory.path().join("torn.mtap");
    fs::write(&torn, &frozen[..frozen.len() * 2 / 3]).unwrap();
    let (said, code) = convert(&torn, &directory.path().join("torn.jsonl"), &[]);
    assert!(said.contains("torn at byte") && code == Some(0), "{said}");
    let mut damaged = frozen;
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(&torn, damaged).unwrap();
    let (said, code) = convert(&torn, &directory.path().join("damaged.jsonl"), &[]);
    assert!(said.contains("damaged at byte") && code == Some(3), "{said}");
    assert!(!directory.path().join("damaged.jsonl").exists());
}

/// Writes a fixture of so many exchanges.
fn long_fixture(to: &Path, exchanges: usize) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo.jsonl");
    let text = fs::read_to_string(demo).unwrap();
    let (header, _) = text.split_once('\n').unwrap();
    let exchange =
        "{\"request\":{\"insert\":\"c\",\"documents\":[{\"n\":1}],\"$db\":\"d\"}}\n{\"reply\":{\"ok\":1.0}}\n";
    fs::write(to, format!("{header}\n{}", exchange.repeat(exchanges))).unwrap();
}

#[test]
fn a_capture_of_a_fixture_that_is_cut_keeps_what_comes_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    long_fixture(&path("long.jsonl"), 218);
    converted(&path("long.jsonl"), &path("long.mtap"), &[]);
    let whole = fs::read(path("long.mtap")).unwrap();
    fs::write(path("cut.mtap"), &whole[..whole.len() / 2]).unwrap();
    let (said, code) = convert(&path("cut.mtap"), &path("cut.jsonl"), &[]);
    assert!(said.contains("torn at byte") && code == Some(0), "{said}");
    let kept = exchanges(&path("cut.mtap")).iter().filter(|exchange| exchange.name() == "insert").count();
    assert!((40..218).contains(&kept), "{kept} of 218");
}

#[test]
fn an_interrupt_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("long.jsonl"), directory.path().join("long.mtap"));
    long_fixture(&from, 100_000);
    let mut child = command().arg("convert").arg(&from).arg(&to).spawn().unwrap();
    let names = || fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect::<Vec<_>>();
    support::wait_for("the file that is being written", Duration::from_secs(30), || (names().len() > 1).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(names(), ["long.jsonl"]);
}
