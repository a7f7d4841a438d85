//! What the processes of a measurement may use: this process sets it for itself, and its children inherit it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Result;

/// A thousand connections are two thousand sockets in the proxy.
pub(crate) fn allow_many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}

/// Keeps this process, and what it starts from now on, on one core, until the value is dropped.
#[cfg(target_os = "linux")]
pub(crate) struct OneCore(rustix::thread::CpuSet);

#[cfg(target_os = "linux")]
impl OneCore {
    pub(crate) fn new() -> Result<Self> {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let before = sched_getaffinity(None)?;
        // Not the first: it is where a system's own work tends to be.
        let core = (0..CpuSet::MAX_CPU).rev().find(|core| before.is_set(*core)).ok_or("no core to run on")?;
        let mut one = CpuSet::new();
        one.set(core);
        sched_setaffinity(None, &one)?;
        Ok(Self(before))
    }
}

#[cfg(target_os = "linux")]
impl Drop for OneCore {
    fn drop(&mut self) {
        // The set was this thread's a moment ago, so it is a valid one.
        let _ = rustix::thread::sched_setaffinity(None, &self.0);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) struct OneCore;

#[cfg(not(target_os = "linux"))]
impl OneCore {
    pub(crate) fn new() -> Result<Self> {
        Err("only Linux can keep processes on one core".into())
    }
}
