//! Holds what is derived from a capture against the log that was written beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use mongotap::bson::json::{Mode, write_document};
use mongotap::capture::json;
use serde_json::Value;

use super::{log, proxy};

/// What `show` says of a capture, on stdout and stderr, and its exit code.
pub(crate) fn show(capture: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    show_all(&[capture.to_owned()], arguments)
}

/// The same of several files.
pub(crate) fn show_all(files: &[PathBuf], arguments: &[&str]) -> (String, String, Option<i32>) {
    let mut show = proxy::command();
    let output = show.arg("show").args(files).args(arguments).stdin(Stdio::null()).output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("it says UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

/// Holds what is derived from a capture against a log with whole documents and the default events and phases: per
/// connection and per topology they are the same, but for `seq`. How many events were compared.
pub(crate) fn compare(log: &str, capture: &Path) -> usize {
    compare_all(log, &[capture.to_owned()])
}

/// The same of the files of one capture.
pub(crate) fn compare_all(log: &str, files: &[PathBuf]) -> usize {
    let (shown, said, code) = show_all(files, &["--format", "jsonl"]);
    assert_eq!((said.as_str(), code), ("", Some(0)));
    log::Log::parse(&shown);
    assert!(log.contains("\"topologyId\":"));
    compare_shown(log, &shown)
}

/// The same of two logs of a run.
pub(crate) fn compare_shown(live: &str, derived: &str) -> usize {
    let (live, derived) = (streams(live), streams(derived));
    assert_eq!(live.keys().collect::<Vec<_>>(), derived.keys().collect::<Vec<_>>());
    let mut events = 0;
    for (stream, live) in &live {
        let derived = &derived[stream];
        let differs = live.iter().zip(derived).find(|(live, derived)| live != derived);
        assert!(differs.is_none(), "{stream}: live and derived\n{differs:#?}");
        assert_eq!(live.len(), derived.len(), "{stream}");
        events += live.len();
    }
    events
}

/// The lines of each connection's own events and of each topology's, but for `seq`, in relaxed Extended JSON.
fn streams(log: &str) -> BTreeMap<String, Vec<String>> {
    let mut streams: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let mut line = line.as_object().expect("a line is an object").clone();
        line.shift_remove("seq").expect("a line has a number");
        let Some(connection) = line.get("proxy").map(|proxy| proxy["connection"].to_string()) else { continue };
        let stream = line.get("topologyId").map_or(connection, |id| format!("topology {id}"));
        let mut relaxed = Vec::new();
        write_document(json::document(&line).as_bytes(), Mode::Relaxed, &mut relaxed);
        streams.entry(stream).or_default().push(String::from_utf8(relaxed).expect("JSON is UTF-8"));
    }
    streams
}
