//! A capture that was rotated is one to those who read all its files: a reply finds its request in the file before.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use bson::doc;
use rustix::process::{Pid, Signal, kill_process};

use crate::ends::replay;
use crate::support::captured::{compare, compare_all, compare_shown, show, show_all};
use crate::support::client::Client;
use crate::support::mongod::Mongod;
use crate::support::proxy::{Proxy, command};
use crate::support::wait_for;
use crate::{capturing, python};

/// A command that the server answers when it is told to, or after a minute. The file that it began in is another by then.
fn waiting(address: &str, name: &str) {
    let mut client = Client::handshake(address, "waits");
    client.command(&doc! { "create": name, "capped": true, "size": 4096, "$db": "rotated" });
    client.command(&doc! { "insert": name, "documents": [{ "_id": 1 }], "$db": "rotated" });
    let find = doc! { "find": name, "tailable": true, "awaitData": true, "$db": "rotated" };
    let cursor = client.command(&find).get_document("cursor").unwrap().get_i64("id").unwrap();
    client.command(&doc! { "getMore": cursor, "collection": name, "maxTimeMS": 60_000, "$db": "rotated" });
    client.command(&doc! { "drop": name, "$db": "rotated" });
}

/// A command that the server takes its time for.
fn slow(address: &str, name: &str, millis: u64) {
    let mut client = Client::handshake(address, "slow");
    client.command(&doc! { "insert": name, "documents": [{ "_id": 1 }], "$db": "rotated" });
    let filter = doc! { "$where": format!("sleep({millis}) || true") };
    client.command(&doc! { "find": name, "filter": filter, "$db": "rotated" });
    client.command(&doc! { "drop": name, "$db": "rotated" });
}

/// The files of a capture that the proxy has put aside itself, the one that was written last first.
fn files(capture: &Path) -> Vec<PathBuf> {
    let aside = (1..).map(|number| PathBuf::from(format!("{}.{number}", capture.display())));
    std::iter::once(capture.to_owned()).chain(aside.take_while(|path| path.exists())).collect()
}

pub(crate) fn run(arguments: &[&str], files: &[PathBuf], more: &[&str]) -> (String, String, Option<i32>) {
    let output = command().args(arguments).args(files).args(more).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn all_files_together_tell_what_the_log_tells() {
    let more = ["--capture-rotate-bytes", "20000", "--capture-keep", "1000"];
    let (proxy, capture, directory) = capturing(&Mongod::shared().uri(), &more);
    let address = proxy.address.clone();
    Mongod::shared().client().command(&doc! { "drop": "waits", "$db": "rotated" });
    let waits = thread::spawn(move || waiting(&address, "waits"));
    proxy.wait_for_log("\"getMore\"");
    python(&proxy.uri, "rotated");
    let insert = doc! { "insert": "waits", "documents": [{ "_id": 2 }], "$db": "rotated" };
    Mongod::shared().client().command(&insert);
    waits.join().unwrap();
    let log = proxy.stop().text;
    let files = files(&capture);
    assert!(files.len() > 5, "{} files", files.len());
    assert!(compare_all(&log, &files) > 60);

    // One file by itself names the next one, where that has the reply.
    let hints = files.iter().zip(&files[1..]).filter(|(next, file)| {
        let (_, said, code) = show(file, &[]);
        let hint = format!("hint: the reply is in the next file: give {} too\n", next.display());
        let others =
            format!("{} other files of this recording are beside it\nhint: give all of them: ", files.len() - 1);
        assert!(code == Some(0) && (said.contains(&others) || said.contains(&hint)), "{said}");
        said.contains(&hint)
    });
    assert!(hints.count() > 0);
    a_file_that_is_missing_is_told(&files, directory.path());
    a_beginning_that_is_missing_is_told(&files, directory.path());

    let (statistics, said, code) = run(&["stats", "--format", "json"], &files, &[]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    let is_counted = ["\"commandSucceededEvent\"", "\"getMore\"", "\"collection\":\"c\""];
    let ends = log.lines().filter(|line| is_counted.iter().all(|part| line.contains(part)));
    let count = format!("\"count\": {}", ends.count());
    assert!(statistics.contains(&count), "{count} is not in {statistics}");

    let one = directory.path().join("one.mtap");
    let (_, said, code) = run(&["convert"], &files, &[one.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    compare(&log, &one);
    // As many exchanges are played: it is said before one is sent.
    let play = |files: &[PathBuf]| run(&["play", "--to", "mongodb://127.0.0.1:1"], files, &[]);
    let (_, said, code) = play(&files);
    assert!(said.contains(" exchanges may write\nhint: ") && code == Some(2), "{said}");
    assert_eq!(said, play(std::slice::from_ref(&one)).1);
    let (_, said, code) = run(&["convert"], &files, &[directory.path().join("one.jsonl").to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    one_of_several_is_told(&files, directory.path());
}

/// One file of the capture by itself: who reads it for something else than to show it says so too.
fn one_of_several_is_told(files: &[PathBuf], directory: &Path) {
    let others = format!(
        "{}: {} other files of this recording are beside it\nhint: give all of them: ",
        files[1].display(),
        files.len() - 1
    );
    let (_, said, code) = run(&["convert"], &files[1..2], &[directory.join("part.jsonl").to_str().unwrap()]);
    assert!(
        (said.contains(&others) || said.contains("hint: the reply is in the next file: ")) && code == Some(0),
        "{said}"
    );
    // The one that was written last has none behind it.
    let last = others.replace(&files[1].display().to_string(), &files[0].display().to_string());
    let (_, said, code) = run(&["convert"], &files[..1], &[directory.join("last.jsonl").to_str().unwrap()]);
    assert!(said.contains(&last) && code == Some(0), "{said}");
    let (_, said, _) = run(&["play", "--to", "mongodb://127.0.0.1:1"], &files[1..2], &[]);
    assert!(said.contains(&others), "{said}");
    let (said, _) = replay(&files[1..2]);
    assert!(said.contains(&others), "{said}");
}

/// The one that was written last but two is not given: to none who reads several.
fn a_file_that_is_missing_is_told(files: &[PathBuf], directory: &Path) {
    let without_one: Vec<_> = files.iter().filter(|file| **file != files[2]).cloned().collect();
    let missing = format!("file {} of the recording is missing", files.len() - 2);
    let told = format!("mongotap: {missing}, between {} and {}\nhint: ", files[3].display(), files[1].display());
    let (shown, said, code) = show_all(&without_one, &["--format", "jsonl"]);
    assert!(said.starts_with(&told) && code == Some(0), "{said}");
    let one = directory.join("gap.mtap");
    let (_, said, code) = run(&["convert"], &without_one, &[one.to_str().unwrap()]);
    assert!(said.starts_with(&told) && code == Some(0), "{said}");
    // What is made of them has the gap in it, and tells the same.
    let tells = format!("mongotap: {}: {missing}\n", one.display());
    let (text, said, code) = show_all(std::slice::from_ref(&one), &["--format", "text"]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    assert!(text.contains(&format!("Log incomplete: {missing}\n")), "{text}");
    let again = show(&one, &["--format", "jsonl"]).0;
    assert_eq!(shown.lines().count() + 1, again.lines().count(), "the gap is told");
    assert!(compare_shown(&commands(&shown), &commands(&again)) > 20);
    let shown = again;
    // And once more: what is behind the gap is in what is made of that.
    let twice = directory.join("twice.mtap");
    for redact in [&[][..], &["--redact", "--force"]] {
        let more = [&[twice.to_str().unwrap()], redact].concat();
        let (_, said, code) = run(&["convert"], std::slice::from_ref(&one), &more);
        assert!(said.starts_with(&tells) && code == Some(0), "{said}");
        let again = show(&twice, &["--format", "jsonl"]).0;
        if redact.is_empty() {
            assert_eq!(again, shown);
        }
        let ends = |shown: &str| shown.matches("\"commandSucceededEvent\"").count();
        assert_eq!(ends(&again), ends(&shown));
    }
    let twice = std::slice::from_ref(&twice);
    let (_, said, code) = run(&["play", "--to", "mongodb://127.0.0.1:1"], twice, &[]);
    assert!(said.contains(&format!("twice.mtap: {missing}\n")) && code == Some(2), "{said}");
    a_gap_is_not_in_the_packets(&one, directory);
    let (_, said, code) = run(&["stats"], std::slice::from_ref(&one), &[]);
    assert_eq!((&said, code), (&tells, Some(0)));
    let (said, code) = replay(std::slice::from_ref(&one));
    assert_eq!((said, code), (tells, Some(0)));
    let (said, code) = replay(&without_one);
    let (gap, _) = told.split_once('\n').unwrap();
    assert!(said.starts_with(&format!("{gap}\n")) && code == Some(0), "{said}");
    let fixture = directory.join("gap.jsonl");
    let (_, said, code) = run(&["convert"], &without_one, &[fixture.to_str().unwrap()]);
    assert!(said.starts_with(&told) && code == Some(0), "{said}");
}

/// The two that were written first are not there any more: all who read the others say so, and once.
fn a_beginning_that_is_missing_is_told(files: &[PathBuf], directory: &Path) {
    let kept = directory.join("kept");
    fs::create_dir(&kept).unwrap();
    let copy = |file: &PathBuf| {
        let copy = kept.join(file.file_name().unwrap());
        fs::copy(file, &copy).unwrap();
        copy
    };
    let kept: Vec<_> = files[..files.len() - 2].iter().map(copy).collect();
    let one = directory.join("headless.mtap");
    let told =
        |file: &Path| format!("mongotap: {}: its recording began before: files 1 to 2 are not here\n", file.display());
    let all_tell = |files: &[PathBuf], out: &Path, expected: &str| {
        for (arguments, more) in [
            (&["show"][..], &[][..]),
            (&["stats"], &[]),
            (&["convert"], &[out.to_str().unwrap()]),
            (&["play", "--to", "mongodb://127.0.0.1:1"], &[]),
        ] {
            let (_, said, _) = run(arguments, files, more);
            assert_eq!(said.matches(expected).count(), 1, "{arguments:?}: {said}");
        }
        let (said, _) = replay(files);
        assert_eq!(said, expected);
    };
    all_tell(&kept, &one, &told(&kept[kept.len() - 1]));
    // And of what was made of them, which begins there too.
    all_tell(std::slice::from_ref(&one), &directory.join("headless.pcapng"), &told(&one));
    // Where the others are beside, that is told, and no more.
    let (_, said, _) = run(&["stats"], &files[..files.len() - 2], &[]);
    assert!(said.contains("2 other files of this recording are beside") && !said.contains("began before"), "{said}");
}

/// Its commands. When a connection was opened that goes on behind a gap, and a topology with it, is told otherwise there.
fn commands(log: &str) -> String {
    log.split_inclusive('\n').filter(|line| line.contains(",\"event\":\"command")).collect()
}

/// A connection goes on in the packets behind a gap where it was before it: all its messages are read.
fn a_gap_is_not_in_the_packets(one: &Path, directory: &Path) {
    let (packets, back) = (directory.join("gap.pcapng"), directory.join("back.mtap"));
    for (from, to) in [(one, &packets), (&packets, &back)] {
        let (_, said, code) = run(&["convert"], &[from.to_owned()], &[to.to_str().unwrap()]);
        assert!(code == Some(0) && !said.contains(" lost: "), "{said}");
        assert!(to == &back || said.contains(" of the recording is missing\n"), "{said}");
    }
    let (shown, again) = (show(one, &["--format", "jsonl"]).0, show(&back, &["--format", "jsonl"]).0);
    let ends = |shown: &str, name: &str| {
        let is_one = |line: &&str| line.contains("\"commandSucceededEvent\"") && line.contains(&format!("\"{name}\""));
        shown.lines().filter(is_one).count()
    };
    let names = ["insert", "find", "getMore", "aggregate"];
    // What was asked before the gap and answered behind it is answered in the packets.
    assert!(names.iter().all(|name| ends(&again, name) >= ends(&shown, name)), "{shown}{again}");
}

/// Copied and then cut, as `copytruncate` does: a connection that was opened in between is in the second file alone.
#[test]
fn a_connection_opened_between_a_copy_and_a_cut_is_converted() {
    let (proxy, capture, directory) = capturing(&Mongod::shared().uri(), &[]);
    let ask = |client: &mut Client, name: &str| {
        client.command(&doc! { "find": name, "$db": "cut" });
        wait_for(name, Duration::from_secs(30), || show(&capture, &["--db", "cut"]).0.contains(name).then_some(()));
    };
    let mut first = Client::handshake(&proxy.address, "first");
    ask(&mut first, "before");
    let copy = directory.path().join("run.mtap.1");
    fs::copy(&capture, &copy).unwrap();
    let mut second = Client::handshake(&proxy.address, "second");
    ask(&mut second, "between");
    fs::OpenOptions::new().write(true).open(&capture).unwrap().set_len(0).unwrap();
    for (client, name) in [(&mut second, "then"), (&mut first, "last")] {
        ask(client, name);
    }
    drop((first, second));
    proxy.end();
    let one = directory.path().join("one.mtap");
    let (_, said, code) = run(&["convert"], &[copy.clone(), capture.clone()], &[one.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{said}");
    let finds = |files: &[PathBuf]| {
        let (shown, said, code) = show_all(files, &["--db", "cut", "--format", "text"]);
        assert_eq!(code, Some(0), "{said}");
        shown.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(finds(&[copy, capture]), finds(std::slice::from_ref(&one)));
    let (shown, ..) = show(&one, &["--db", "cut"]);
    assert!(["before", "then", "last"].iter().all(|name| shown.contains(name)), "{shown}");
}

#[test]
fn files_that_are_not_of_one_capture_are_not_converted_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let bytes = include_bytes!("../../fixtures/capture/v1.mtap");
    fs::write(path("a.mtap"), bytes).unwrap();
    let (proxy, other, _directory) = capturing("mongodb://127.0.0.1:1", &[]);
    proxy.stop();
    let out = path("out.jsonl");
    let refused = |inputs: &[PathBuf]| {
        let (_, said, code) = run(&["convert"], inputs, &[out.to_str().unwrap()]);
        assert!(code == Some(2) && !out.exists(), "{said}");
        said
    };
    assert!(refused(&[path("a.mtap"), other.clone()]).contains("are of different recordings\nhint: take each"));
    fs::write(path("f.jsonl"), "{}").unwrap();
    assert!(refused(&[path("a.mtap"), path("f.jsonl")]).contains("f.jsonl: not a capture\nhint: "));
    for name in ["none.mtap", "none.mtap.1"] {
        fs::write(path(name), "").unwrap();
    }
    let out = path("out.mtap");
    let (_, said, code) = run(&["convert"], &[path("none.mtap"), path("none.mtap.1")], &[out.to_str().unwrap()]);
    assert!(said.contains("all of the files are empty\nhint: ") && code == Some(3) && !out.exists(), "{said}");
    // They can be shown one behind the other, each once.
    fs::write(path("again.mtap"), bytes).unwrap();
    let (shown, said, code) = show_all(&[other, path("a.mtap"), path("again.mtap")], &["--format", "jsonl"]);
    assert!(said.contains("the same part of the recording as") && code == Some(0), "{said}");
    let starts: Vec<_> = shown.lines().filter(|line| line.contains("recorderStartedEvent")).collect();
    assert!(starts.len() == 2 && starts.iter().all(|line| line.starts_with("{\"seq\":0,")), "{starts:?}");
    let (alone, _, _) = show(&path("a.mtap"), &["--format", "jsonl"]);
    assert!(shown.starts_with(&alone), "the older one comes first");
}

/// Puts the file aside under a name, as an operator does, and has the proxy begin another.
fn put_aside(proxy: &Proxy, path: &Path, number: u32) {
    fs::rename(path, format!("{}.{number}", path.display())).unwrap();
    proxy.signal(Signal::HUP);
    wait_for("the next file", Duration::from_secs(30), || path.metadata().is_ok_and(|it| it.len() > 0).then_some(()));
}

/// Rotated under a reader that follows, the numbers rising and falling: each command is told once, and whole.
#[test]
fn a_capture_and_a_log_are_followed_over_files_put_aside_in_any_order() {
    for numbers in [[1, 2, 3], [3, 2, 1]] {
        let (proxy, capture, directory) = capturing(&Mongod::shared().uri(), &[]);
        let following: Vec<_> = [capture.clone(), proxy.log_path()]
            .iter()
            .enumerate()
            .map(|(number, path)| {
                let out = directory.path().join(format!("shown{number}"));
                let mut show = command();
                show.arg("show").arg(path).args(["--format", "jsonl", "--follow", "--collection", "over"]);
                let show = show.stdin(Stdio::null()).stdout(fs::File::create(&out).unwrap()).spawn().unwrap();
                (show, out)
            })
            .collect();
        let mut expected = 0;
        for number in numbers {
            let address = proxy.address.clone();
            let asking = thread::spawn(move || slow(&address, "over", 600));
            thread::sleep(Duration::from_millis(300));
            put_aside(&proxy, &capture, number);
            put_aside(&proxy, &proxy.log_path(), number);
            asking.join().unwrap();
            expected += 3;
            for (_, out) in &following {
                let ends = || fs::read_to_string(out).unwrap().matches("commandSucceededEvent").count();
                wait_for("the ends", Duration::from_secs(30), || (ends() >= expected).then_some(()));
            }
        }
        for (mut show, out) in following {
            kill_process(Pid::from_child(&show), Signal::TERM).unwrap();
            assert!(show.wait().unwrap().success());
            let shown = fs::read_to_string(out).unwrap();
            let count = |event: &str| shown.matches(event).count();
            assert_eq!((count("commandStartedEvent"), count("commandSucceededEvent")), (9, 9), "{shown}");
            assert_eq!(count("commandFailedEvent") + count("protocolErrorEvent"), 0, "{shown}");
        }
        proxy.end();
    }
}
