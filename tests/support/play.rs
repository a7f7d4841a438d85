//! `mongotap play`, run to its end.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::replay::output;
use super::{manifest, proxy, wait_for};

/// Runs a program in Python; it must end well.
pub(crate) fn python(script: &str, arguments: &[&str]) {
    output(Command::new(manifest::python()).args(["-c", script]).args(arguments));
}

/// What `play` says, its exit code, and its report.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
    pub(crate) report: Value,
}

/// Plays a recording to a server; it ends within two minutes.
pub(crate) fn play(recording: &Path, to: &str, arguments: &[&str]) -> Played {
    let directory = tempfile::tempdir().expect("a directory");
    let report = directory.path().join("report.json");
    let mut command = proxy::command();
    command.arg("play").arg(recording).args(["--to", to, "--report"]).arg(&report).args(arguments);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    let ended = wait_for("play to end", Duration::from_secs(120), || child.try_wait().expect("a child"));
    let output = child.wait_with_output().expect("its output");
    let text = |bytes| String::from_utf8(bytes).expect("it is UTF-8");
    let report = fs::read_to_string(report).ok().and_then(|text| serde_json::from_str(&text).ok());
    Played {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: ended.code(),
        report: report.unwrap_or_default(),
    }
}

impl Played {
    /// Every answer was as recorded, and it says so.
    #[track_caller]
    pub(crate) fn assert_same(&self) {
        assert_eq!((self.code, &self.report["differ"]), (Some(0), &0.into()), "{}\n{}", self.stdout, self.stderr);
        assert!(self.stdout.contains("all answers are as recorded"), "{}", self.stdout);
    }

    /// All that it says.
    pub(crate) fn said(&self) -> String {
        self.stdout.clone() + &self.stderr
    }

    pub(crate) fn took(&self) -> Duration {
        Duration::from_micros(self.report["tookMicros"].as_u64().expect("a number"))
    }
}
