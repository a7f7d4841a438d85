//! The command that `exec` runs: its environment, the signals that are passed on to it, and how it ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal as Sent, kill_process};
use rustix::termios::tcgetpgrp;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failed;

/// A running command.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    signals: Signals,
}

/// What is passed on. SIGINT is not if it comes from the terminal, which sends it to the command as well.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hangup: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Running {
    /// Starts it. From then on signals to this process are the command's.
    pub(super) fn start(words: &[std::ffi::OsString], env: &str, uri: &str) -> Result<Self, Failed> {
        let (program, arguments) = words.split_first().ok_or_else(|| Failed::own("no command given"))?;
        let signals = Signals::listen().map_err(|error| Failed::own(format!("cannot start: {error}")))?;
        let started = Command::new(program).args(arguments).env(env, uri).spawn();
        let child = started.map_err(|error| Failed::start(&program.to_string_lossy(), &error))?;
        Ok(Self { child, signals })
    }

    /// Waits for its end: its exit code, 128 and more if a signal ended it.
    pub(super) async fn end(mut self) -> io::Result<u8> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        loop {
            tokio::select! {
                status = self.child.wait() => return status.map(code),
                sent = self.signals.next() => {
                    // It may have ended meanwhile.
                    let _ = pid.map(|pid| kill_process(pid, sent));
                }
            }
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map_or(1, |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(signalled)).unwrap_or(1)
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The next one that is to be passed on.
    async fn next(&mut self) -> Sent {
        loop {
            let (sent, is_typed) = tokio::select! {
                _ = self.interrupt.recv() => (Sent::INT, true),
                _ = self.quit.recv() => (Sent::QUIT, true),
                _ = self.terminate.recv() => (Sent::TERM, false),
                _ = self.hangup.recv() => (Sent::HUP, false),
                _ = self.user_1.recv() => (Sent::USR1, false),
                _ = self.user_2.recv() => (Sent::USR2, false),
            };
            if !(is_typed && is_in_foreground()) {
                return sent;
            }
        }
    }
}

/// Whether what is typed at the terminal reaches this process's group, and so the command by itself.
fn is_in_foreground() -> bool {
    let group = rustix::process::getpgrp();
    let is_of = |foreground: rustix::io::Result<Pid>| foreground.is_ok_and(|foreground| foreground == group);
    is_of(tcgetpgrp(io::stdin())) || is_of(tcgetpgrp(io::stdout())) || is_of(tcgetpgrp(io::stderr()))
}
