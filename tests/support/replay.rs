//! The real binary's `replay` command, started and stopped as a user would; and a capture of a program's run to replay.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::proxy::{Proxy, command};
use super::wait_for;

/// A running replay; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Replay {
    /// The connection string to use, as the line after the ready lines says.
    pub(crate) uri: String,
    /// What it has said before that.
    pub(crate) said: String,
    child: Child,
    stderr: BufReader<ChildStderr>,
    directory: tempfile::TempDir,
}

/// What a replay left behind.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// What it said after it was ready.
    pub(crate) stderr: String,
    /// What it printed.
    pub(crate) stdout: String,
}

impl Replay {
    /// Starts it on a free port and waits until it serves.
    pub(crate) fn start(recording: &Path, arguments: &[&str]) -> Self {
        let mut replay = command();
        replay.arg("replay").arg(recording).args(["--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(replay)
    }

    /// The same for a command with its environment.
    pub(crate) fn spawn(mut replay: Command) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stdout = fs::File::create(directory.path().join("stdout")).expect("the directory takes files");
        let mut child =
            replay.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        let (mut uri, mut said) = (String::new(), String::new());
        while uri.is_empty() {
            let mut line = String::new();
            let read = stderr.read_line(&mut line).expect("stderr is text");
            assert!(read > 0, "not ready: {said}");
            uri = line.strip_prefix("use ").unwrap_or_default().trim().to_owned();
            said.push_str(&line);
        }
        Self { uri, said, child, stderr, directory }
    }

    /// The URI with a user in it, and more options.
    pub(crate) fn uri_with(&self, user: &str, options: &str) -> String {
        let uri = self.uri.replacen("mongodb://", &format!("mongodb://{user}"), 1);
        if options.is_empty() { uri } else { format!("{uri}&{options}") }
    }

    /// Where it listens, the first member of several.
    pub(crate) fn address(&self) -> String {
        let hosts = self.uri.trim_start_matches("mongodb://").split('/').next().unwrap_or_default();
        hosts.split(',').next().unwrap_or_default().to_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Stops it with SIGTERM.
    pub(crate) fn stop(mut self) -> Stopped {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the replay runs");
        let mut stderr = String::new();
        self.stderr.read_to_string(&mut stderr).expect("stderr is text");
        let status = wait_for("the replay to end", Duration::from_secs(30), || {
            self.child.try_wait().expect("the replay is our child")
        });
        let stdout = fs::read_to_string(self.directory.path().join("stdout")).expect("stdout is text");
        Stopped { code: status.code(), stderr, stdout }
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The capture of what `run` does with the URI that it is given, made before that upstream.
pub(crate) fn captured(upstream: &str, directory: &Path, run: impl FnOnce(&str)) -> PathBuf {
    let capture = directory.join("run.mtap");
    let proxy = Proxy::start(upstream, &["--capture", capture.to_str().expect("the path is text")]);
    run(&proxy.uri);
    proxy.wait_until_left();
    proxy.stop();
    capture
}

/// Runs a program to its end, which must be a good one; what it printed.
pub(crate) fn output(program: &mut Command) -> String {
    let output = program.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program:?}: {}\n{said}", output.status);
    String::from_utf8(output.stdout).expect("it prints text")
}
