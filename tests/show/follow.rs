//! `show --follow`: lines as they come, over rotations, until it is told to stop or nobody reads.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use super::{Directory, Log};

pub(crate) fn spawn(path: &Path, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mongotap"))
        .arg("show")
        .arg(path)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A `show --follow` that is ended with its test.
struct Following {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Following {
    fn new(path: &Path, args: &[&str]) -> Self {
        let mut child = spawn(path, &[&["--follow"], args].concat());
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Waits for these lines, and for no others before them.
    fn expect(&mut self, lines: &[String]) {
        for line in lines {
            let mut found = String::new();
            self.out.read_line(&mut found).unwrap();
            assert_eq!(&found, line);
        }
    }

    /// Ends it as Ctrl-C would; gives what it still printed, what it said, and how it ended.
    fn interrupt(mut self) -> (String, String, Option<i32>) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (out, err, self.child.wait().unwrap().code())
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn append(path: &Path, text: &str) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn follow_waits_for_more() {
    let log = Log::sample();
    let directory = Directory::with(&log.lines[..3].concat());
    let mut following = Following::new(&directory.path, &["--format", "jsonl"]);
    following.expect(&log.lines[..3]);
    append(&directory.path, &log.lines[3..5].concat());
    following.expect(&log.lines[3..5]);
    // A line that is still being written is not shown in parts.
    let (head, tail) = log.lines[5].split_at(40);
    append(&directory.path, head);
    std::thread::sleep(Duration::from_millis(250));
    append(&directory.path, tail);
    following.expect(&log.lines[5..6]);
    append(&directory.path, &log.lines[6..].concat());
    following.expect(&log.lines[6..]);
    assert_eq!(following.interrupt(), (String::new(), String::new(), Some(0)));
}

#[test]
fn follow_an_empty_file() {
    let log = Log::sample();
    let directory = Directory::with("");
    let mut following = Following::new(&directory.path, &["--format", "jsonl"]);
    std::thread::sleep(Duration::from_millis(250));
    append(&directory.path, &log.text());
    following.expect(&log.lines);
    assert_eq!(following.interrupt(), (String::new(), String::new(), Some(0)));
}

#[test]
fn follow_over_rotations() {
    let log = Log::sample();
    let directory = Directory::with(&log.lines[..3].concat());
    let named = |number: u32| directory.directory.path().join(format!("log.jsonl.{number}"));
    let mut following = Following::new(&directory.path, &["--format", "jsonl"]);
    following.expect(&log.lines[..3]);
    // Put aside while it is still written, as a writer does that has the file open.
    let mut old = OpenOptions::new().append(true).open(&directory.path).unwrap();
    fs::rename(&directory.path, named(1)).unwrap();
    old.write_all(log.lines[3].as_bytes()).unwrap();
    following.expect(&log.lines[3..4]);
    old.write_all(log.lines[4].as_bytes()).unwrap();
    // The next two files come and the first of them is put aside before anybody looks.
    let staged = directory.directory.path().join("staged");
    fs::write(&staged, log.lines[5..7].concat()).unwrap();
    fs::rename(named(1), named(2)).unwrap();
    fs::rename(&staged, named(1)).unwrap();
    File::create(&directory.path).unwrap().write_all(log.lines[7..9].concat().as_bytes()).unwrap();
    following.expect(&log.lines[4..9]);
    // Emptied in place, as `copytruncate` does.
    fs::write(&directory.path, &log.lines[9]).unwrap();
    following.expect(&log.lines[9..10]);
    append(&directory.path, &log.lines[10..].concat());
    following.expect(&log.lines[10..]);
    assert_eq!(following.interrupt(), (String::new(), String::new(), Some(0)));
}

/// Between two looks at it: what is there then is longer than what was read.
#[test]
fn follow_over_a_cut_that_has_grown_again() {
    let log = Log::sample();
    let directory = Directory::with(&log.lines[..2].concat());
    let mut following = Following::new(&directory.path, &["--format", "jsonl"]);
    following.expect(&log.lines[..2]);
    let mut lines = log.lines[2..].to_vec();
    lines[0] = log.lines[0].replacen("\"seq\":0,", "\"seq\":2,", 1);
    // In one step, as far as anybody can see.
    let file = OpenOptions::new().write(true).open(&directory.path).unwrap();
    file.write_all_at(lines.concat().as_bytes(), 0).unwrap();
    following.expect(&lines);
    assert_eq!(following.interrupt(), (String::new(), String::new(), Some(0)));
}

#[test]
fn follow_a_name_that_ends_in_a_number() {
    let log = Log::sample();
    let directory = Directory::with("");
    let named = |name: &str| directory.directory.path().join(name);
    fs::remove_file(&directory.path).unwrap();
    fs::write(named("log.2026"), log.lines[..3].concat()).unwrap();
    let mut following = Following::new(&named("log.2026"), &["--format", "jsonl"]);
    following.expect(&log.lines[..3]);
    fs::rename(named("log.2026"), named("log.2026.1")).unwrap();
    fs::write(named("log.2026"), log.lines[3..].concat()).unwrap();
    following.expect(&log.lines[3..]);
    assert_eq!(following.interrupt(), (String::new(), String::new(), Some(0)));
}

#[test]
fn follow_ends_with_its_reader() {
    let log = Log::sample();
    let directory = Directory::with(&log.lines[..3].concat());
    let mut child = spawn(&directory.path, &["--follow", "--format", "jsonl"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    append(&directory.path, &log.lines[3]);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
