//! Processes this bench starts: itself again as server, client or pump, and how all of them end.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// How long a process may take to end after SIGTERM.
const END: Duration = Duration::from_secs(30);

/// A process that does not outlive this value.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        match command.spawn() {
            Ok(child) => Ok(Self(child)),
            Err(error) => Err(format!("{}: {error}", command.get_program().display()).into()),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        self.terminate_within(END)
    }

    fn terminate_within(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.0.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(2));
        }
        Err(format!("process {} did not end within {} s of SIGTERM", self.id(), patience.as_secs()).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First kindly, so that nginx takes its workers along. What fails here fails because it has ended already.
        if self.terminate_within(Duration::from_secs(1)).is_err() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// This program in another role, spoken to by lines.
pub(crate) struct Role {
    name: String,
    process: Process,
    lines: BufReader<ChildStdout>,
}

impl Role {
    pub(crate) fn start(name: &str, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(name).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command)?;
        let stdout = process.child().stdout.take().ok_or("a child without stdout")?;
        Ok(Self { name: name.to_owned(), process, lines: BufReader::new(stdout) })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its next line.
    pub(crate) fn hear(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line)? == 0 {
            return Err(format!("the {} process ended too early", self.name).into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.process.child().stdin.as_mut().ok_or("a child without stdin")?;
        Ok(writeln!(stdin, "{line}")?)
    }
}

/// Ends this process when its parent has closed its stdin, or is gone.
pub(crate) fn exit_at_end_of_stdin() {
    thread::spawn(|| {
        let ended = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
        std::process::exit(i32::from(ended.is_err()));
    });
}
