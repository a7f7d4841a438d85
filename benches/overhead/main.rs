//! What it costs to stand between an application and its server: mongotap beside proxies that look at nothing.
//!
//! `cargo bench --bench overhead` (options after `--`, see `--help`) starts a server that answers from memory and a
//! closed-loop client, each a process of its own, and puts in turn nothing, HAProxy, nginx, a bare pump and mongotap,
//! logging every command to a file, between them, another time
//! with a capture besides, and another with nothing but statistics. With `--grow` it shows how cost grows. Rounds alternate the proxies, so that a machine that slows down
//! does so for all; a figure is the median of the rounds, a ratio is taken within each round first. CPU time is
//! that of all of the proxy's threads, from warm-up to rest after the load. A run of mongotap is refused unless its
//! log tells of every operation and its capture holds it. HAProxy counts with the better of one and two threads.
//!
//! Noise: client, proxy and server share the machine. Let nothing else run, fix the CPU's frequency, and look at the
//! column `±`, how far CPU/op went from its median, before believing a difference. To compare two builds on a busy
//! machine, run it under `taskset -c 1`: on one core the figures hold still.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it reports to a terminal, and to its parent")]
#![expect(clippy::disallowed_methods, reason = "measuring time is what it is for")]

mod child;
mod client;
mod limits;
mod log;
mod measure;
mod procfs;
mod proxies;
mod pump;
mod report;
mod rows;
mod server;
mod wire;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    limits::OneCore,
    measure::{Effort, applies, measure, start_server},
    proxies::{Kind, Place, Proxy, version},
    report::Report,
    rows::{GROWTH, Plan, ROWS, Row},
};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures what mongotap costs beside HAProxy, nginx, a bare pump, and a direct connection.
#[derive(Parser)]
#[command(name = "overhead")]
struct Args {
    /// Fewer and shorter rounds, and 10^6 events at most.
    #[arg(long)]
    quick: bool,
    /// Rows to measure (all): c64, c1, c1cores, c64x8, insert64k, reply1m, zstd, big48m, idle1000, events.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// How cost grows instead: with connections, the length of replies, threads and events.
    #[arg(long, conflicts_with_all = ["rows", "proxies"])]
    grow: bool,
    /// What to put in between, with a number of threads if wanted (`pump:1`); `haproxy` is `haproxy:1,haproxy:2`.
    #[arg(long, value_delimiter = ',', default_value = "direct,haproxy,nginx,pump,mongotap,capture,statistics")]
    proxies: Vec<Proxy>,
    /// Rounds (9, with --grow 3, or 2 with --quick).
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// The mongotap to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_mongotap"))]
    mongotap: PathBuf,
    /// Print the tables as Markdown, too.
    #[arg(long)]
    markdown: bool,
    /// What `cargo bench` says.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args().collect();
    let role = arguments.get(1).cloned().unwrap_or_default();
    let done = match role.as_str() {
        "serve" | "load" | "pump" => {
            arguments.remove(1);
            play(&role, arguments).map(|()| true)
        }
        // `cargo test --all-targets` runs this too, with the arguments of tests.
        _ if !arguments.iter().any(|argument| ["--bench", "--help", "-h"].contains(&argument.as_str())) => {
            eprintln!("nothing measured: run it as `cargo bench --bench overhead`");
            Ok(true)
        }
        _ => bench(&Args::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("overhead: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Is one of the processes that the bench needs.
fn play(role: &str, arguments: Vec<String>) -> Result<()> {
    match role {
        "serve" => server::run(&server::Args::parse_from(arguments))?,
        "load" => client::run(&client::Args::parse_from(arguments))?,
        _ => pump::run(&pump::Args::parse_from(arguments))?,
    }
    Ok(())
}

/// Runs everything and prints it. False if a run was refused.
fn bench(args: &Args) -> Result<bool> {
    limits::allow_many_files()?;
    let directory = tempfile::Builder::new().prefix("overhead").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let place = Place { mongotap: args.mongotap.clone(), directory: directory.path().to_owned() };
    let rounds = match (args.quick, args.grow) {
        (true, _) => 2,
        (false, true) => 3,
        (false, false) => 9,
    };
    let rounds = args.rounds.unwrap_or(rounds).max(1);
    let effort = Effort {
        warm_up_seconds: 0.3,
        seconds: args.seconds,
        large: if args.quick { 4 } else { 12 },
        events: if args.quick { 1_000_000 } else { 10_000_000 },
    };
    if args.grow {
        return grow(args, rounds, &place, &effort);
    }
    let rows = chosen_rows(&args.rows)?;
    let (proxies, versions) = chosen_proxies(&args.proxies, &place)?;
    let mut report = Report::new(versions);
    for row in &rows {
        run_row(row, &proxies, rounds, &place, &effort, &mut report)?;
        report.print_row(row);
    }
    report.print_goals(&rows);
    if args.markdown {
        report.print_markdown(&rows);
    }
    Ok(report.refused.is_empty())
}

/// Shows how cost grows. False if a run was refused.
fn grow(args: &Args, rounds: usize, place: &Place, effort: &Effort) -> Result<bool> {
    let mut is_whole = true;
    for growth in GROWTH {
        let asked = growth.proxies.iter().map(|proxy| proxy.parse()).collect::<std::result::Result<Vec<Proxy>, _>>()?;
        let (proxies, versions) = chosen_proxies(&asked, place)?;
        let mut report = Report::new(versions);
        for row in growth.rows {
            run_row(row, &proxies, rounds, place, effort, &mut report)?;
        }
        report.print_growth(&growth, args.markdown);
        is_whole &= report.refused.is_empty();
    }
    Ok(is_whole)
}

fn run_row(
    row: &Row,
    proxies: &[Proxy],
    rounds: usize,
    place: &Place,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let _one_core = row.one_core.then(OneCore::new).transpose()?;
    let (_server, address) = start_server(row)?;
    // Memory hardly varies, and the longest run is long.
    let rounds = match row.plan {
        Plan::Timed => rounds,
        Plan::Large | Plan::Idle => rounds.min(3),
        Plan::Events => 1,
    };
    for round in 0..rounds {
        for proxy in proxies.iter().filter(|proxy| applies(row, **proxy)) {
            match measure(row, *proxy, address, place, effort) {
                Ok(sample) => {
                    eprintln!("{}: round {} of {rounds}: {proxy}: {sample}", row.name, round + 1);
                    report.add(row.name, *proxy, round, sample);
                }
                Err(error) if proxy.kind.is_mongotap() => report.refuse(row.name, *proxy, round, error.as_ref()),
                Err(error) => return Err(format!("{}: {proxy}: {error}", row.name).into()),
            }
        }
    }
    Ok(())
}

fn chosen_rows(names: &[String]) -> Result<Vec<Row>> {
    if names.is_empty() {
        return Ok(ROWS.to_vec());
    }
    let known = || ROWS.map(|row| row.name).join(", ");
    let find = |name: &String| {
        let row = ROWS.iter().find(|row| row.name == name);
        row.copied().ok_or_else(|| format!("{name:?} is no row\nhint: there are {}", known()).into())
    };
    names.iter().map(find).collect()
}

/// The proxies asked for, and their versions. Without nginx the others still stand; HAProxy is the measure.
fn chosen_proxies(asked: &[Proxy], place: &Place) -> Result<(Vec<Proxy>, Vec<String>)> {
    let (mut proxies, mut versions) = (Vec::new(), Vec::new());
    for proxy in asked {
        match version(proxy.kind, place) {
            Ok(version) if version.is_empty() || versions.contains(&version) => {}
            Ok(version) => versions.push(version),
            Err(error) if proxy.kind == Kind::Nginx => {
                eprintln!("without nginx: {error}");
                continue;
            }
            Err(error) => return Err(error),
        }
        match proxy {
            Proxy { kind: Kind::Haproxy, threads: None } => {
                proxies.extend([1, 2].map(|threads| Proxy { kind: Kind::Haproxy, threads: Some(threads) }));
            }
            _ => proxies.push(*proxy),
        }
    }
    Ok((proxies, versions))
}
