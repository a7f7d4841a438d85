//! How captures end: whoever reads one says it in the same words if its end is torn or missing, and that is no error.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::rotated::run;
use crate::support::proxy::command;

/// What a replay of those files says until it listens, and its exit code when it is told to end.
pub(crate) fn replay(files: &[PathBuf]) -> (String, Option<i32>) {
    let mut replay = command();
    replay.args(["replay", "--listen", "127.0.0.1:0"]).args(files).stdin(Stdio::null()).stderr(Stdio::piped());
    let mut replay = replay.spawn().unwrap();
    let mut said = String::new();
    let mut lines = BufReader::new(replay.stderr.take().unwrap());
    while !said.contains("listening on ") && lines.read_line(&mut said).unwrap() > 0 {}
    let (said, _) = said.rsplit_once("listening on ").unwrap_or((&said, ""));
    kill_process(Pid::from_child(&replay), Signal::TERM).unwrap();
    (said.to_owned(), replay.wait().unwrap().code())
}

/// What each command says of a capture, and how it ends.
fn told(capture: &Path) -> Vec<(&'static str, String, Option<i32>)> {
    let files = [capture.to_owned()];
    let out = capture.with_extension("out.jsonl").display().to_string();
    let mut told = Vec::new();
    for (name, more) in [("show", &[][..]), ("stats", &[]), ("convert", &[out.as_str(), "--force"])] {
        let (_, said, code) = run(&[name], &files, more);
        // And what was made of it.
        let said = said.split_inclusive('\n').filter(|line| !line.contains(".out.jsonl: ")).collect();
        told.push((name, said, code));
    }
    let (said, code) = replay(&files);
    told.push(("replay", said, code));
    let (_, said, code) = run(&["play", "--to", "mongodb://127.0.0.1:1"], &files, &[]);
    // It would write, and is not allowed to.
    let is_end = |line: &&str| line.contains(": torn at byte ") || line.contains("not ended");
    assert!(said.contains(" exchanges may write\nhint: ") && code == Some(2), "{said}");
    told.push(("play", said.split_inclusive('\n').filter(is_end).collect(), Some(0)));
    told
}

#[test]
fn an_end_that_is_torn_or_missing_is_told_by_all_and_no_error() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture/v1.mtap")).unwrap();
    // The last that is in it says where its index begins.
    let index = u64::from_le_bytes(*whole[whole.len() - 16..].first_chunk().unwrap()) as usize;
    let torn = index - 7;
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let name = capture.display();
    let unended = "not ended in good order: the recorder was killed, its disk was full, or this is a copy";
    for (len, is_written, expected) in [
        (whole.len(), false, String::new()),
        (index, false, format!("mongotap: {name}: {unended}\n")),
        (index, true, String::new()),
        (torn, false, format!("mongotap: {name}: torn at byte ")),
    ] {
        fs::write(&capture, &whole[..len]).unwrap();
        let writer = File::open(&capture).unwrap();
        if is_written {
            flock(&writer, FlockOperation::LockExclusive).unwrap();
        }
        let told = told(&capture);
        let (_, first, _) = &told[0];
        assert!(first.starts_with(&expected) && first.is_empty() == expected.is_empty(), "{len}: {told:?}");
        assert!(told.iter().all(|(_, said, code)| said == first && *code == Some(0)), "{len}: {told:?}");
    }
}

/// Of a run that was rotated the last of the files that are given tells.
#[test]
fn a_file_that_another_goes_on_with_needs_no_end() {
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture/v1.mtap")).unwrap();
    let index = u64::from_le_bytes(*whole[whole.len() - 16..].first_chunk().unwrap()) as usize;
    let directory = tempfile::tempdir().unwrap();
    let files = ["one.mtap", "other.mtap"].map(|name| directory.path().join(name));
    fs::write(&files[0], &whole[..index]).unwrap();
    fs::write(&files[1], &whole).unwrap();
    let (said, code) = replay(&files);
    assert!(said.contains("one.mtap: not ended in good order") && code == Some(0), "{said}");
    assert!(!said.contains("other.mtap: not ended"), "{said}");
}
