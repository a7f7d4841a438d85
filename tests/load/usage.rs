//! What a process uses, from `/proc`.

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that this process and those it starts may have.
pub(crate) fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("a limit can be used up");
}

/// How many that are.
pub(crate) fn descriptors_max() -> usize {
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX))
}

/// Has every write of a process fail that would make a file longer than that.
#[cfg(target_os = "linux")]
pub(crate) fn allow_no_longer_files_than(pid: Pid, bytes: Option<u64>) {
    let limited = rustix::process::prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None });
    limited.expect("what was started here may be limited");
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn allow_no_longer_files_than(_: Pid, _: Option<u64>) {
    panic!("only Linux can do this to a running process");
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count()
}

/// Waits until a process has no more descriptors than that.
pub(crate) fn wait_for_descriptors(pid: Pid, most: usize) {
    crate::support::wait_for(&format!("no more than {most} descriptors"), Duration::from_secs(30), || {
        (descriptors(pid) <= most).then_some(())
    });
}

/// Resident memory of a process, and the most it ever had, in kB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

/// Looks at it.
pub(crate) fn memory(pid: Pid) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let kilobytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux says it");
        line.trim().trim_end_matches(" kB").parse().expect("it is a number of kB")
    };
    Memory { now: kilobytes("VmRSS:"), peak: kilobytes("VmHWM:") }
}

/// The same once it no longer grows.
pub(crate) fn memory_at_rest(pid: Pid) -> Memory {
    let mut before = memory(pid);
    loop {
        thread::sleep(Duration::from_millis(200));
        let now = memory(pid);
        if now.now <= before.now + 64 {
            return now;
        }
        before = now;
    }
}
