//! A proxy whose log is read line by line when it has ended.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use tempfile::TempDir;

use crate::support::captured;
use crate::support::proxy::{self, Proxy};
use crate::tally::Tally;

/// A running proxy; dropping it kills it.
pub(crate) struct Logged {
    proxy: Proxy,
    directory: TempDir,
}

impl Logged {
    /// Starts it before a server, with a log of everything.
    pub(crate) fn start(upstream: &str, arguments: &[&str]) -> Self {
        Self::run(proxy::command(), upstream, arguments)
    }

    /// The same through a command that takes the proxy's arguments at its end.
    pub(crate) fn run(command: Command, upstream: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = path(&directory);
        let log = log.to_str().expect("a temporary directory's name is text");
        let arguments = [&["--upstream", upstream, "--log", log], arguments].concat();
        Self { proxy: Proxy::run(command, &arguments), directory }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.proxy.pid()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.proxy.address
    }

    /// The same when what was sent need not have been messages.
    pub(crate) fn end_of_hostile(self) -> (Tally, String) {
        let said = self.proxy.end();
        (Tally::of_hostile(&path(&self.directory)), said)
    }

    /// The same, and of its capture, which must give as much.
    pub(crate) fn end_of_captured(self, capture: &Path) -> (Tally, String) {
        let said = self.proxy.end();
        let (shown, warned, code) = captured::show(capture, &["--format", "jsonl"]);
        assert_eq!((warned.as_str(), code), ("", Some(0)));
        let derived = self.directory.path().join("derived.jsonl");
        fs::write(&derived, shown).expect("there is room");
        let (tally, derived) = (Tally::of_whole(&path(&self.directory)), Tally::of(&derived, 0));
        let counts = |tally: &Tally| [tally.succeeded, tally.failed, tally.opened, tally.closed];
        assert_eq!(counts(&derived), counts(&tally));
        (tally, said)
    }

    /// Ends it: its log, which must be whole, and what it said on stderr.
    pub(crate) fn end(self) -> (Tally, String) {
        self.end_and(|_| ())
    }

    /// The same, when somebody has looked at the log.
    pub(crate) fn end_and(self, look: impl FnOnce(&Path)) -> (Tally, String) {
        let said = self.proxy.end();
        let log = path(&self.directory);
        let tally = Tally::of_whole(&log);
        look(&log);
        (tally, said)
    }
}

fn path(directory: &TempDir) -> PathBuf {
    directory.path().join("events.jsonl")
}
