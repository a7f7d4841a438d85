//! What a process and its children have cost, from `/proc`: nanoseconds of CPU and resident memory.
//!
//! CPU time is read per thread from `schedstat`, because the ticks of `stat` are 10 ms long. Linux only.

use std::{fs, thread, time::Duration};

use crate::Result;

/// Resident memory, in kB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) now: u64,
    pub(crate) peak: u64,
}

/// CPU time of all threads of the process and its children, in nanoseconds. A thread that has ended is not counted.
pub(crate) fn cpu_nanos(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for task in tasks(pid)? {
        let stat = read(&format!("/proc/{pid}/task/{task}/schedstat"))?;
        sum +=
            stat.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).ok_or("schedstat without a number")?;
    }
    for child in children(pid)? {
        sum += cpu_nanos(child)?;
    }
    Ok(sum)
}

/// Waits until the process has next to nothing to do any more, so that what it put off is counted, and reads its CPU time.
pub(crate) fn cpu_nanos_at_rest(pid: u32) -> Result<u64> {
    const PAUSE: Duration = Duration::from_millis(50);
    const PATIENCE: u32 = 200;
    let mut before = cpu_nanos(pid)?;
    for _ in 0..PATIENCE {
        thread::sleep(PAUSE);
        let now = cpu_nanos(pid)?;
        if now - before < 500_000 {
            return Ok(now);
        }
        before = now;
    }
    Err(format!("process {pid} was still busy {} s after its load had ended", (PAUSE * PATIENCE).as_secs()).into())
}

pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let status = read(&format!("/proc/{pid}/status"))?;
    let kilobytes = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)).ok_or_else(|| format!("status without {key}"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().map_err(|error| format!("{key} {line}: {error}"))
    };
    let mut sum = Memory { now: kilobytes("VmRSS:")?, peak: kilobytes("VmHWM:")? };
    for child in children(pid)? {
        let of_child = memory(child)?;
        sum.now += of_child.now;
        sum.peak += of_child.peak;
    }
    Ok(sum)
}

fn tasks(pid: u32) -> Result<Vec<u32>> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let list = read(&format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(list.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}").into())
}
