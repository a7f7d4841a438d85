//! A driver's program that a test talks to while it runs: lines in, lines out, each with the time it came.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{manifest, now, wait_for};

/// A running program; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Line>,
    /// What it said while something else was waited for.
    passed: Vec<Line>,
    stderr: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

/// A line of its standard output.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// When it was read.
    pub(crate) at: Instant,
    /// What it says.
    pub(crate) text: String,
}

impl Program {
    /// Starts it.
    pub(crate) fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut errors = child.stderr.take().expect("stderr is a pipe");
        let (sender, lines) = mpsc::channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&stderr);
        let readers = vec![
            thread::spawn(move || {
                let read = stdout.lines().map_while(Result::ok).map(|text| Line { at: now(), text });
                read.map_while(|line| sender.send(line).ok()).for_each(drop);
            }),
            thread::spawn(move || {
                let mut text = String::new();
                let _ = errors.read_to_string(&mut text);
                *kept.lock().expect("keeping does not panic") = text;
            }),
        ];
        Self { stdin: child.stdin.take(), child, lines, passed: Vec::new(), stderr, readers }
    }

    /// Starts a Python program of the drivers' tests, which answers line by line.
    pub(crate) fn python(script: &str) -> Self {
        let mut command = Command::new(manifest::python());
        command.arg(manifest::copy().join("python").join(script));
        Self::start(command)
    }

    /// Asks in JSON what is answered in JSON.
    pub(crate) fn ask_json(&mut self, request: &Value) -> Value {
        let answer = self.ask(&request.to_string());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    /// Gives it a line and takes the line it answers with.
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.tell(line);
        self.answer(line).text
    }

    /// Gives it a line.
    pub(crate) fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open until it is told to end");
        writeln!(stdin, "{line}").unwrap_or_else(|error| panic!("{line}: {error}: {}", self.errors()));
    }

    /// Takes the next line it says.
    pub(crate) fn answer(&self, to: &str) -> Line {
        let line = self.lines.recv_timeout(PATIENCE);
        line.unwrap_or_else(|error| panic!("no answer to {to:?}: {error}: {}", self.errors()))
    }

    /// Waits until it says such a line; what it says until then is kept for [`finish`](Self::finish).
    pub(crate) fn wait_for_line(&mut self, whose: &str, is_one: impl Fn(&Line) -> bool) {
        let until = now() + PATIENCE;
        while !self.passed.iter().any(&is_one) {
            let line = self.lines.recv_timeout(until.saturating_duration_since(now()));
            self.passed
                .push(line.unwrap_or_else(|error| panic!("{whose} does not say it: {error}: {}", self.errors())));
        }
    }

    /// Ends its input, and waits for its end, which must be a good one. What it had said since it was last asked.
    pub(crate) fn finish(mut self) -> Vec<Line> {
        drop(self.stdin.take());
        let status = wait_for("the program to end", PATIENCE, || self.child.try_wait().expect("it is our child"));
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not panic");
        }
        assert!(status.success(), "{status}: {}", self.errors());
        let mut said = std::mem::take(&mut self.passed);
        said.extend(self.lines.try_iter());
        said
    }

    fn errors(&self) -> String {
        self.stderr.lock().expect("keeping does not panic").clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Longer than any driver looks for a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program for two minutes at most; what it wrote to stdout. It must succeed.
pub(crate) fn run_bounded(mut program: Command, directory: &Path) -> String {
    let (out, err) = (directory.join("stdout"), directory.join("stderr"));
    let file = |path: &Path| Stdio::from(fs::File::create(path).expect("the directory takes files"));
    program.stdin(Stdio::null()).stdout(file(&out)).stderr(file(&err));
    let mut child = program.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let mut waited = 0;
    let status = wait_for("the program to end", Duration::from_secs(130), || {
        waited += 1;
        if waited > 24_000 {
            let _ = child.kill();
        }
        child.try_wait().expect("the program is our child")
    });
    let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    assert!(status.success(), "{program:?}: {status}\n{}\n{}", text(&out), text(&err));
    text(&out)
}
