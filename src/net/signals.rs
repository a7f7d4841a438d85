//! Being told to end: by SIGINT or by SIGTERM.

use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that tell the program to end; from now on they do nothing else.
#[derive(Debug)]
pub struct Ending {
    interrupt: Signal,
    terminate: Signal,
}

impl Ending {
    /// To be called within a runtime.
    ///
    /// # Errors
    /// If there are no more files to be had.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one; gives the exit code of who cannot wait for more: 128 and the signal's number.
    pub async fn wait(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

/// From now on SIGINT and SIGTERM have this done on a thread of its own. What it is given ends the program, with 130 or
/// 143.
///
/// # Errors
/// If there are no more threads or files to be had.
pub fn before_the_end(act: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut ending = Ending::listen()?;
    drop(entered);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let code = runtime.block_on(ending.wait());
        act(&mut || std::process::exit(code));
    })?;
    Ok(())
}
