//! The real binary's `proxy` command, started and stopped as a user would.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::log::Log;
use super::wait_for;

/// A running proxy with a `jsonl` log; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where it listens, as its ready line says; the first of several.
    pub(crate) address: String,
    /// All of its listeners: one for each member of a replica set.
    pub(crate) listeners: Vec<Listener>,
    /// The connection string to use, as the line after them says.
    pub(crate) uri: String,
    child: Child,
    directory: TempDir,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// What a ready line tells.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Listener {
    /// Where it listens.
    pub(crate) address: String,
    /// The server that it stands for.
    pub(crate) upstream: String,
}

/// What a proxy left behind.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) log: Log,
    /// The log as it was written.
    pub(crate) text: String,
    pub(crate) stderr: String,
}

impl Proxy {
    /// Starts it on a free port before `upstream`, a connection string, and waits for its ready lines.
    pub(crate) fn start(upstream: &str, arguments: &[&str]) -> Self {
        Self::listen("127.0.0.1:0", upstream, arguments)
    }

    /// The same where it should listen.
    pub(crate) fn listen(listen: &str, upstream: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut command = command();
        command.args(["proxy", "--listen", listen, "--upstream", upstream, "--log"]).arg(log_path(&directory));
        command.args(arguments).stdout(Stdio::null());
        Self::spawn(command, directory)
    }

    /// The same through a command that takes the proxy's arguments at its end, with logs as they say: none at
    /// [`log_path`](Self::log_path).
    pub(crate) fn run(mut command: Command, arguments: &[&str]) -> Self {
        command.args(["proxy", "--listen", "127.0.0.1:0"]).args(arguments);
        Self::spawn(command, tempfile::tempdir().expect("a temporary directory"))
    }

    fn spawn(mut command: Command, directory: TempDir) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        let (lines, stderr, reader) = follow(&mut child);
        let (address, uri, reader) = (String::new(), String::new(), Some(reader));
        let mut proxy = Self { address, listeners: Vec::new(), uri, child, directory, stderr, reader };
        proxy.read_ready_lines(&lines);
        proxy.address.clone_from(&proxy.listeners.first().expect("a ready line comes before the URI").address);
        proxy
    }

    /// A line for each listener, then the URI.
    fn read_ready_lines(&mut self, lines: &Receiver<String>) {
        while self.uri.is_empty() {
            let line = lines.recv_timeout(READY).unwrap_or_else(|_| panic!("not ready: {}", self.stderr()));
            if let Some((address, upstream)) = line.strip_prefix("listening on ").and_then(|it| it.split_once(" -> ")) {
                self.listeners.push(Listener { address: address.to_owned(), upstream: upstream.to_owned() });
            } else if let Some(uri) = line.find("mongodb://").filter(|_| !self.listeners.is_empty()) {
                self.uri = line[uri..].trim().to_owned();
            }
        }
    }

    /// Waits until all clients that came have gone, and all that they said was read: stopped before, it would close what is
    /// idle, whatever is on the way to it. Where the system does not tell, nothing is waited for.
    pub(crate) fn wait_until_left(&self) {
        let port = |address: &str| address.rsplit(':').next()?.parse::<u16>().ok();
        let ports: Vec<_> = self.listeners.iter().filter_map(|it| port(&it.address)).collect();
        wait_for("all clients to be gone", Duration::from_secs(30), || {
            let sockets = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            let is_left = |line: &&str| connected_port(line).is_some_and(|port| ports.contains(&port));
            sockets.lines().find(is_left).is_none().then_some(())
        });
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the proxy runs");
    }

    /// Where its log is.
    pub(crate) fn log_path(&self) -> PathBuf {
        log_path(&self.directory)
    }

    /// A directory of its own, removed with it.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What is in the log by now; the last line may be torn.
    pub(crate) fn log_so_far(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Waits until the log holds that text.
    pub(crate) fn wait_for_log(&self, text: &str) {
        wait_for(text, Duration::from_secs(30), || self.log_so_far().contains(text).then_some(()));
    }

    /// What it has said on stderr by now.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("reading does not panic").clone()
    }

    /// Stops it with SIGTERM; it must end well. Its log must be as the format promises.
    pub(crate) fn stop(mut self) -> Stopped {
        let stderr = self.terminate();
        let text = fs::read_to_string(self.log_path()).expect("the log is there");
        Stopped { log: Log::parse(&text), text, stderr }
    }

    /// The same for one whose log is elsewhere, if it has one. What it said on stderr.
    pub(crate) fn end(mut self) -> String {
        self.terminate()
    }

    /// The same where it is not to end well, but with that code.
    pub(crate) fn end_with(mut self, code: i32) -> String {
        self.terminate_with(code)
    }

    fn terminate(&mut self) -> String {
        self.terminate_with(0)
    }

    fn terminate_with(&mut self, code: i32) -> String {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(code), "how the proxy ends: {}", self.stderr());
        self.stderr()
    }

    /// Waits for its end, 30 seconds at most.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait_for("the proxy to end", Duration::from_secs(30), || {
            self.child.try_wait().expect("the proxy is our child")
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading does not panic");
        }
        status
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The port of a connection that somebody may still read from, accepted or not, in a line of `/proc/net/tcp`.
fn connected_port(line: &str) -> Option<u16> {
    const TIME_WAIT: &str = "06";
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let (local, state) = (fields.next()?, fields.nth(1)?);
    let port = u16::from_str_radix(local.split_once(':')?.1, 16).ok()?;
    (![TIME_WAIT, LISTEN].contains(&state)).then_some(port)
}

/// The binary, with nothing of this environment that could change what it does.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongotap"));
    command.env_remove("NO_COLOR").env_remove("RUST_LOG");
    command
}

fn log_path(directory: &TempDir) -> PathBuf {
    directory.path().join("events.jsonl")
}

/// Passes the lines of stderr on and keeps them.
fn follow(child: &mut Child) -> (Receiver<String>, Arc<Mutex<String>>, JoinHandle<()>) {
    let stderr = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let (sender, lines) = mpsc::channel();
    let kept = Arc::new(Mutex::new(String::new()));
    let keep = Arc::clone(&kept);
    let reader = thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            let mut kept = keep.lock().expect("keeping does not panic");
            kept.push_str(&line);
            kept.push('\n');
            // Nobody waits for lines after the ready ones.
            let _ = sender.send(line);
        }
    });
    (lines, kept, reader)
}

const READY: Duration = Duration::from_secs(20);
