//! One measurement: one kind of work through one proxy, both started for it and ended after it.

use std::{fmt, net::SocketAddr, thread, time::Duration};

use crate::{
    Result,
    child::Role,
    client::Outcome,
    log,
    procfs::{self, Memory},
    proxies::{Kind, Place, Proxy, Started},
    rows::{Plan, Row},
};

/// How long and how much.
pub(crate) struct Effort {
    pub(crate) warm_up_seconds: f64,
    pub(crate) seconds: f64,
    /// Messages of the largest size, each way.
    pub(crate) large: u64,
    /// Events of the longest run, a power of ten.
    pub(crate) events: u64,
}

/// What one measurement found. A plan fills in what it is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) outcome: Option<Outcome>,
    /// Of the proxy, per operation.
    pub(crate) cpu_micros: Option<f64>,
    pub(crate) memory: Option<Memory>,
    /// Resident memory of one idle connection, in kB.
    pub(crate) idle_kilobytes: Option<f64>,
    /// Events so far, and the CPU time in µs of one event since the step before.
    pub(crate) steps: Vec<(u64, f64)>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(outcome) = self.outcome {
            parts.push(format!("{:.0} ops/s", outcome.operations as f64 / outcome.seconds));
            parts.push(format!("p50 {:.1} µs", outcome.p50_micros));
        }
        parts.extend(self.cpu_micros.map(|micros| format!("CPU {micros:.2} µs/op")));
        parts.extend(self.idle_kilobytes.map(|kilobytes| format!("{kilobytes:.1} kB/connection")));
        parts.extend(self.steps.iter().map(|(events, micros)| format!("{micros:.2} µs/event to {events}")));
        f.write_str(&parts.join(", "))
    }
}

/// Starts the server of that row.
pub(crate) fn start_server(row: &Row) -> Result<(Role, SocketAddr)> {
    let mut arguments = vec![format!("--reply-bytes={}", row.reply_bytes)];
    arguments.extend(row.zstd.then(|| "--zstd".to_owned()));
    let mut server = Role::start("serve", &arguments)?;
    let address = server.hear()?.parse()?;
    Ok((server, address))
}

/// Whether a row can be asked of a proxy.
pub(crate) fn applies(row: &Row, proxy: Proxy) -> bool {
    match row.plan {
        Plan::Timed => true,
        Plan::Large | Plan::Idle => proxy.kind != Kind::Direct,
        Plan::Events => matches!(proxy.kind, Kind::Mongotap | Kind::Capture),
    }
}

/// Measures, and for mongotap refuses the result if the log lacks anything.
pub(crate) fn measure(row: &Row, proxy: Proxy, server: SocketAddr, place: &Place, effort: &Effort) -> Result<Sample> {
    let started = Started::new(proxy, server, place)?;
    let mut operations = 0;
    let sample = match row.plan {
        Plan::Timed => timed(row, &started, effort, &mut operations)?,
        Plan::Large => large(row, &started, effort, &mut operations)?,
        Plan::Idle => idle(row, &started)?,
        Plan::Events => events(row, &started, effort, &mut operations)?,
    };
    let (log, capture) = (started.log.clone(), started.capture.clone());
    started.stop()?;
    if let Some(log) = log {
        log::check(&log, operations)?;
        std::fs::remove_file(&log)?;
    }
    if let Some(capture) = capture {
        log::check_capture(&capture, operations)?;
        std::fs::remove_file(&capture)?;
    }
    Ok(sample)
}

fn timed(row: &Row, started: &Started, effort: &Effort, operations: &mut u64) -> Result<Sample> {
    let mut load = Load::start(row, row.insert_bytes, started.address)?;
    *operations += load.run(&format!("seconds {}", effort.warm_up_seconds))?.operations;
    let before = cpu(started)?;
    let outcome = load.run(&format!("seconds {}", effort.seconds))?;
    *operations += outcome.operations;
    let after = cpu(started)?;
    let cpu_micros = before.zip(after).map(|(before, after)| micros_each(after - before, outcome.operations));
    Ok(Sample { outcome: Some(outcome), cpu_micros, memory: memory(started)?, ..Sample::default() })
}

fn large(row: &Row, started: &Started, effort: &Effort, operations: &mut u64) -> Result<Sample> {
    let mut inserts = Load::start(row, row.insert_bytes, started.address)?;
    let before = cpu(started)?;
    let outcome = inserts.run(&format!("operations {}", effort.large))?;
    let after = cpu(started)?;
    drop(inserts);
    let mut finds = Load::start(row, None, started.address)?;
    *operations += outcome.operations + finds.run(&format!("operations {}", effort.large))?.operations;
    cpu(started)?;
    let cpu_micros = before.zip(after).map(|(before, after)| micros_each(after - before, outcome.operations));
    Ok(Sample { outcome: Some(outcome), cpu_micros, memory: memory(started)?, ..Sample::default() })
}

fn idle(row: &Row, started: &Started) -> Result<Sample> {
    cpu(started)?;
    let before = memory(started)?;
    let load = Load::start(row, None, started.address)?;
    cpu(started)?;
    let after = memory(started)?;
    drop(load);
    let each = |before: Memory, after: Memory| after.now.saturating_sub(before.now) as f64 / f64::from(row.connections);
    let idle_kilobytes = before.zip(after).map(|(before, after)| each(before, after));
    Ok(Sample { memory: after, idle_kilobytes, ..Sample::default() })
}

fn events(row: &Row, started: &Started, effort: &Effort, operations: &mut u64) -> Result<Sample> {
    let mut load = Load::start(row, None, started.address)?;
    // What is done once, at the start, is not a cost of the first events.
    *operations += load.run("operations 5000")?.operations;
    let mut sample = Sample::default();
    let (mut done, mut target) = (0, 10_000);
    while target <= effort.events {
        let before = cpu(started)?;
        // Two events an operation.
        let outcome = load.run(&format!("operations {}", (target - done) / 2))?;
        let after = cpu(started)?;
        *operations += outcome.operations;
        if let Some((before, after)) = before.zip(after) {
            sample.steps.push((target, micros_each(after - before, outcome.operations * 2)));
        }
        sample.outcome = Some(outcome);
        (done, target) = (target, target * 10);
    }
    sample.memory = memory(started)?;
    Ok(sample)
}

/// A client process with its connections open.
struct Load(Role);

impl Load {
    fn start(row: &Row, insert_bytes: Option<usize>, address: SocketAddr) -> Result<Self> {
        let mut arguments = vec![
            format!("--address={address}"),
            format!("--connections={}", row.connections),
            format!("--depth={}", row.depth),
            format!("--reply-bytes={}", row.reply_bytes),
        ];
        arguments.extend(insert_bytes.map(|bytes| format!("--insert-bytes={bytes}")));
        arguments.extend(row.zstd.then(|| "--zstd".to_owned()));
        let mut load = Role::start("load", &arguments)?;
        match load.hear()?.as_str() {
            "ready" => Ok(Self(load)),
            other => Err(format!("the load process said {other:?}").into()),
        }
    }

    fn run(&mut self, what: &str) -> Result<Outcome> {
        self.0.say(what)?;
        Ok(serde_json::from_str(&self.0.hear()?)?)
    }
}

fn cpu(started: &Started) -> Result<Option<u64>> {
    match started.pid() {
        Some(pid) => procfs::cpu_nanos_at_rest(pid).map(Some),
        None => {
            thread::sleep(Duration::from_millis(50));
            Ok(None)
        }
    }
}

fn memory(started: &Started) -> Result<Option<Memory>> {
    started.pid().map(procfs::memory).transpose()
}

fn micros_each(nanos: u64, operations: u64) -> f64 {
    nanos as f64 / 1000.0 / operations.max(1) as f64
}
