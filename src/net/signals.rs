//! What is to be done before the program ends because it is told to.

use std::io;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

/// From now on SIGINT and SIGTERM have this done on a thread of its own. What it is given ends the program, with 130 or
/// 143.
///
/// # Errors
/// If there are no more threads or files to be had.
pub fn before_the_end(act: impl FnOnce(&mut dyn FnMut()) + Send + 'static) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(entered);
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => 130,
                _ = terminate.recv() => 143,
            }
        });
        act(&mut || std::process::exit(code));
    })?;
    Ok(())
}
