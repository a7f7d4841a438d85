//! Captures of the real binary before a real mongod: the events that `show` derives from one are those of the log that
//! was written beside it, for every way in which a driver speaks; no secret is in it; and a torn one is read to its end.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

#[path = "capture/ends.rs"]
mod ends;
#[path = "capture/rotated.rs"]
mod rotated;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::doc;
use mongotap::capture::mtap::{Reader, Record};
use mongotap::event::{Given, Input};
use mongotap::redact::MARKER;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use support::captured::{compare, show};
use support::client::Client;
use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::proxy::{Proxy, command};
use support::{manifest, wait_for};

const ALL_PHASES: &str = "app,auth";

/// Speaks as a driver does: commands, batches, exhaust, unacknowledged writes, errors.
const PROGRAM: &str = r#"
import sys, pymongo
from pymongo.cursor import CursorType
from pymongo.write_concern import WriteConcern
uri, name = sys.argv[1:3]
with pymongo.MongoClient(uri, heartbeatFrequencyMS=500, serverSelectionTimeoutMS=20000) as client:
    collection = client[name]['c']
    collection.insert_many([{'_id': n, 'text': 'x' * 300} for n in range(500)])
    assert len(list(collection.find(batch_size=50))) == 500
    assert len(list(collection.find(cursor_type=CursorType.EXHAUST, batch_size=50))) == 500
    collection.with_options(write_concern=WriteConcern(w=0)).insert_one({'_id': -1})
    collection.with_options(write_concern=WriteConcern(w=0)).update_one({'_id': -1}, {'$set': {'a': 1}})
    try:
        collection.insert_one({'_id': 1})
    except pymongo.errors.DuplicateKeyError:
        pass
    try:
        client.admin.command('createUser', 'somebody', pwd='secret-of-somebody', roles=[], digestPassword=True)
    except pymongo.errors.OperationFailure:
        pass
    try:
        client.admin.command('nosuchcommand')
    except pymongo.errors.OperationFailure:
        pass
    collection.insert_one({'large': 'y' * 3000000})
    collection.drop()
"#;

fn python(uri: &str, name: &str) {
    let mut python = Command::new(manifest::python());
    let output = python.args(["-c", PROGRAM, uri, name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A proxy that captures, beside a log that has everything whole.
fn capturing(upstream: &str, more: &[&str]) -> (Proxy, PathBuf, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let path = capture.to_str().unwrap();
    let whole = ["--log-max-document-bytes", "0", "--log-phases", ALL_PHASES, "--capture", path];
    let proxy = Proxy::start(upstream, &[&whole[..], more].concat());
    (proxy, capture, directory)
}

/// Stops the proxy and compares.
fn stop_and_compare(proxy: Proxy, capture: &Path) -> usize {
    compare(&proxy.stop().text, capture)
}

/// Nothing of a secret is in a file, as it is or in base64 or hex, at whatever place in the base64.
fn assert_without(capture: &Path, secrets: &[&str]) {
    let mut reader = Reader::new(fs::File::open(capture).unwrap());
    let (mut held, mut messages) = (Vec::new(), 0);
    while let Some(records) = reader.next_block().unwrap() {
        for record in records {
            held.extend_from_slice(format!("{record:?}").as_bytes());
            if let Record::Input(Input { given: Given::Message(message), .. }) = record {
                held.extend_from_slice(&message.bytes);
                messages += 1;
            }
        }
    }
    assert!(messages > 20, "{messages} messages");
    // What stands for secrets is there, so they would have been.
    for shown in ["createUser", "somebody", MARKER] {
        assert!(memchr::memmem::find(&held, shown.as_bytes()).is_some(), "{shown} is not in the capture");
    }
    for secret in secrets {
        let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![(*secret).to_owned(), hex];
        for skip in 0..3 {
            let inner = secret.get(skip..).unwrap_or_default().as_bytes();
            let inner = &inner[..inner.len() / 3 * 3];
            forms.extend((inner.len() >= 6).then(|| STANDARD.encode(inner)));
        }
        for form in forms {
            assert!(memchr::memmem::find(&held, form.as_bytes()).is_none(), "{form} of {secret} is in the capture");
        }
    }
}

#[test]
fn events_of_a_capture_are_those_of_the_log() {
    for compressor in ["", "snappy", "zlib", "zstd"] {
        let (proxy, capture, _directory) = capturing(&Mongod::shared().uri(), &[]);
        assert_eq!(fs::metadata(&capture).unwrap().permissions().mode() & 0o777, 0o600);
        let uri = format!("mongodb://{}/?directConnection=true&compressors={compressor}", proxy.address);
        python(&uri, &format!("capture_{compressor}"));
        let events = stop_and_compare(proxy, &capture);
        assert!(events > 60, "{compressor}: {events}");
        assert_without(&capture, &["secret-of-somebody"]);
    }
}

#[test]
fn secrets_of_an_authentication_are_not_in_a_capture() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    for compressor in ["", "zstd"] {
        let (proxy, capture, _directory) = capturing(&mongod.uri(), &[]);
        let user = format!("{USER}:{}@", PASSWORD.replace(' ', "%20"));
        let options = format!("?directConnection=true&authSource=admin&compressors={compressor}");
        python(&format!("mongodb://{user}{}/{options}", proxy.address), &format!("capture_scram_{compressor}"));
        let events = stop_and_compare(proxy, &capture);
        assert!(events > 60, "{compressor}: {events}");
        assert_without(&capture, &[PASSWORD, "n,,n=", "secret-of-somebody"]);
        if compressor.is_empty() {
            // What a SCRAM conversation has in its payloads: nonces, the salt, the proof, the signature. They are so short
            // that compressed data may have them by chance.
            assert_without(&capture, &[",r=", ",s=", ",p=", "\0v="]);
        }
    }
}

#[test]
fn a_server_that_is_killed() {
    let mut mongod = Mongod::start(Options::default());
    let (proxy, capture, _directory) = capturing(&mongod.uri(), &[]);
    let mut client = Client::handshake(&proxy.address, "killed");
    client.command(&doc! { "ping": 1, "$db": "admin" });
    let find = doc! { "find": "c", "filter": { "$where": "sleep(20000)" }, "$db": "capture" };
    client.command(&doc! { "insert": "c", "documents": [{ "a": 1 }], "$db": "capture" });
    client.send(0, &find).unwrap();
    proxy.wait_for_log("sleep(20000)");
    mongod.kill();
    assert!(client.receive().is_err());
    let mut client = Client::connect(&proxy.address);
    assert!(client.try_command(&doc! { "hello": 1, "$db": "admin" }).is_none());
    drop(client);
    mongod.restart();
    let mut client = Client::handshake(&proxy.address, "killed");
    client.command(&doc! { "ping": 1, "$db": "admin" });
    drop(client);
    assert!(stop_and_compare(proxy, &capture) > 8);
}

#[test]
fn a_proxy_that_is_killed_leaves_what_it_had() {
    let (mut proxy, capture, directory) = capturing(&Mongod::shared().uri(), &[]);
    let mut client = Client::handshake(&proxy.address, "torn");
    for n in 0..50 {
        client.command(&doc! { "ping": n, "$db": "admin" });
    }
    let ends = |shown: &str| shown.matches("\"commandSucceededEvent\"").count();
    wait_for("all of it to be written", Duration::from_secs(30), || {
        (ends(&show(&capture, &["--format", "jsonl"]).0) == 50).then_some(())
    });
    let log = proxy.log_path();
    for file in [&capture, &log] {
        assert_eq!(show(file, &[]).1, "", "as long as it is written it has no end");
    }
    proxy.signal(Signal::KILL);
    proxy.wait();
    let (shown, said, code) = show(&capture, &["--format", "jsonl"]);
    let unended = "not ended in good order: the recorder was killed, its disk was full, or this is a copy";
    assert_eq!((said, code), (format!("mongotap: {}: {unended}\n", capture.display()), Some(0)));
    for file in [&capture, &log] {
        let statistics = command().arg("stats").arg(file).output().unwrap();
        let said = String::from_utf8(statistics.stderr).unwrap();
        let elsewhere = if *file == log { ", or another file goes on" } else { "" };
        assert_eq!(said, format!("mongotap: {}: {unended}{elsewhere}\n", file.display()));
    }
    assert_eq!(ends(&shown), 50);

    // A crash within a write leaves a part of a block.
    let bytes = fs::read(&capture).unwrap();
    let torn = directory.path().join("torn.mtap");
    fs::write(&torn, &bytes[..bytes.len() - 7]).unwrap();
    let (shown, said, code) = show(&torn, &["--format", "jsonl"]);
    assert!(said.contains("torn at byte ") && said.contains(" were left out"), "{said}");
    assert_eq!(code, Some(0));
    assert!(shown.starts_with("{\"seq\":0,\"event\":\"recorderStartedEvent\""), "{shown}");
    // One that was changed is read up to there, and that is an error.
    let mut changed = bytes;
    let last = changed.len() - 20;
    changed[last] ^= 4;
    fs::write(&torn, &changed).unwrap();
    let (_, said, code) = show(&torn, &["--format", "jsonl"]);
    assert!(said.contains("damaged at byte ") && said.contains("hint: "), "{said}");
    assert_eq!(code, Some(3));
}

/// A capture of the first version, of a driver's commands with zstd, exhaust, an unacknowledged write and errors; and
/// what is derived from it. The capture is never made anew.
#[test]
fn a_capture_of_the_first_version_can_be_read_for_ever() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture");
    let (shown, said, code) = show(&fixtures.join("v1.mtap"), &["--format", "jsonl"]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    support::log::Log::parse(&shown);
    let expected = fs::read_to_string(fixtures.join("v1.jsonl")).unwrap();
    for (line, (shown, expected)) in shown.lines().zip(expected.lines()).enumerate() {
        assert_eq!(shown, expected, "line {}", line + 1);
    }
    assert_eq!(shown.len(), expected.len());
}

#[test]
fn what_is_there_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    fs::write(&capture, "mine").unwrap();
    let mut proxy = command();
    proxy.args(["proxy", "--listen", "127.0.0.1:0", "--capture", capture.to_str().unwrap()]);
    let output = proxy.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap().replace(directory.path().to_str().unwrap(), "DIR");
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("capture DIR/run.mtap: there is a file already"), "{said}");
    assert!(said.contains("hint: --force overwrites it"), "{said}");
    assert_eq!(fs::read_to_string(&capture).unwrap(), "mine");
    let configuration = directory.path().join("p.toml");
    fs::write(&configuration, format!("[capture]\npath = {capture:?}\n")).unwrap();
    let checked = command().args(["check", "--config"]).arg(&configuration).output().unwrap();
    assert!(String::from_utf8(checked.stdout).unwrap().contains("is there already"));
    let proxy = Proxy::start("mongodb://127.0.0.1:1", &["--capture", capture.to_str().unwrap(), "--force"]);
    proxy.stop();
    assert!(fs::read(&capture).unwrap().starts_with(b"MTAP\r\n\x1a\n"));
}

#[test]
fn what_an_earlier_run_has_left_is_put_aside_where_captures_are() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let arguments = ["--capture", capture.to_str().unwrap(), "--capture-rotate-bytes", "1MB", "--capture-keep", "2"];
    let read = |number: u32| {
        let name = if number == 0 { "run.mtap".to_owned() } else { format!("run.mtap.{number}") };
        fs::read(directory.path().join(name)).unwrap_or_default()
    };
    let mut first = Proxy::start("mongodb://127.0.0.1:1", &arguments);
    let started = read(0);
    assert!(!started.is_empty());
    // While it is written nobody else takes it, whatever he says.
    for force in [&[][..], &["--force"]] {
        let mut second = command();
        second.args(["proxy", "--listen", "127.0.0.1:0"]).args(arguments).args(force);
        let output = second.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("another process is writing it") && output.status.code() == Some(4), "{said}");
    }
    assert_eq!(read(0), started);
    first.signal(Signal::KILL);
    first.wait();
    let second = Proxy::start("mongodb://127.0.0.1:1", &arguments);
    second.stop();
    assert_eq!(read(1), started);
    Proxy::start("mongodb://127.0.0.1:1", &arguments).stop();
    assert!(read(2) == started && !read(1).is_empty() && read(1) != started && !read(0).is_empty());
}

#[test]
fn a_capture_is_followed_while_it_is_written() {
    let (proxy, capture, _directory) = capturing(&Mongod::shared().uri(), &[]);
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut show = command();
    show.arg("show").arg(&capture).args(["--format", "jsonl", "--follow"]).stdin(Stdio::null());
    let mut show = show.stdout(out.reopen().unwrap()).spawn().unwrap();
    let shown = || fs::read_to_string(out.path()).unwrap();
    let mut client = Client::handshake(&proxy.address, "followed");
    client.command(&doc! { "ping": 1, "first": true, "$db": "admin" });
    wait_for("the first", Duration::from_secs(30), || shown().contains("\"first\":true").then_some(()));
    client.command(&doc! { "ping": 1, "second": true, "$db": "admin" });
    wait_for("the second", Duration::from_secs(30), || shown().contains("\"second\":true").then_some(()));
    drop(client);
    proxy.stop();
    wait_for("the end", Duration::from_secs(30), || shown().contains("recorderStoppedEvent").then_some(()));
    kill_process(Pid::from_child(&show), Signal::TERM).unwrap();
    assert!(show.wait().unwrap().success());
    // An application's connection waits to be known as one; its events came with the first command.
    support::log::Log::parse(&shown());
}

#[test]
fn files_are_put_aside_and_each_can_be_read() {
    let more = ["--capture-rotate-bytes", "20000", "--capture-keep", "100"];
    let (proxy, capture, directory) = capturing(&Mongod::shared().uri(), &more);
    let mut client = Client::handshake(&proxy.address, "rotated");
    let written = || {
        let sizes = fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().metadata().map_or(0, |it| it.len()));
        sizes.sum::<u64>()
    };
    let (mut state, mut before) = (7_u64, 0);
    for n in 0..40 {
        // What can hardly be compressed, so that the file grows.
        let noise: String = (0..2000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                char::from(b'0' + (state >> 33) as u8 % 75)
            })
            .collect();
        client.command(&doc! { "ping": 1, "n": n, "noise": noise, "$db": "admin" });
        // What is written at once, however much, is in one file.
        let more = || Some(written()).filter(|it| *it >= before + 1000);
        before = wait_for("it to be written", Duration::from_secs(30), more);
    }
    drop(client);
    proxy.stop();
    let parts = fs::read_dir(directory.path()).unwrap().count();
    assert!((3..40).contains(&parts), "{parts} files");
    let mut seen = Vec::new();
    for number in 0..parts {
        let path = match number {
            0 => capture.clone(),
            number => PathBuf::from(format!("{}.{number}", capture.display())),
        };
        let (shown, said, code) = show(&path, &["--format", "jsonl", "--command", "ping"]);
        // A command may be answered in the next file.
        let is_hint = said.contains(" not answered in it\nhint: the reply is in the next file: give ");
        let is_hint = is_hint || said.contains(" of this recording are beside it\nhint: give all of them: ");
        assert!(code == Some(0) && is_hint, "{}: {said}", path.display());
        assert!(!shown.contains("protocolErrorEvent"), "{shown}");
        for line in shown.lines().filter(|line| line.contains("commandStartedEvent")) {
            let line: Value = serde_json::from_str(line).unwrap();
            seen.push(line["command"]["n"].as_i64().unwrap());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..40).collect::<Vec<_>>());
}

#[test]
fn statistics_of_a_capture() {
    let (proxy, capture, _directory) = capturing(&Mongod::shared().uri(), &[]);
    let mut client = Client::handshake(&proxy.address, "counted");
    (0..7).for_each(|_| _ = client.command(&doc! { "ping": 1, "$db": "admin" }));
    drop(client);
    proxy.stop();
    let output = command().arg("stats").arg(&capture).args(["--format", "json"]).output().unwrap();
    let statistics = String::from_utf8(output.stdout).unwrap();
    assert!(statistics.contains("\"ping\"") && !statistics.contains("hello"), "{statistics}");
    let (shown, said, _) = show(&capture, &[]);
    assert_eq!((shown.matches(" ping").count(), said.as_str()), (7, ""), "{shown}");
}
