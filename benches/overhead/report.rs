//! Medians, ratios and goals, as tables.

use std::{fmt::Write, fs, thread};

use crate::{
    measure::Sample,
    procfs::Memory,
    proxies::{Kind, Proxy},
    rows::{Figure, GOALS, Goal, Growth, Plan, Row},
};

struct Entry {
    row: &'static str,
    proxy: Proxy,
    round: usize,
    sample: Sample,
}

/// All that was measured.
pub(crate) struct Report {
    entries: Vec<Entry>,
    /// Runs that do not count, and why.
    pub(crate) refused: Vec<String>,
    versions: Vec<String>,
}

/// One number of a sample, if it has it.
type Get = fn(&Sample) -> Option<f64>;

const HEADINGS: [&str; 12] = [
    "proxy",
    "ops/s",
    "MB/s",
    "p50 µs",
    "p99 µs",
    "CPU µs/op",
    "±",
    "RSS MB",
    "peak MB",
    "CPU/op ×",
    "ops/s ×",
    "added p50 ×",
];

impl Report {
    pub(crate) fn new(versions: Vec<String>) -> Self {
        Self { entries: Vec::new(), refused: Vec::new(), versions }
    }

    pub(crate) fn add(&mut self, row: &'static str, proxy: Proxy, round: usize, sample: Sample) {
        self.entries.push(Entry { row, proxy, round, sample });
    }

    pub(crate) fn refuse(&mut self, row: &str, proxy: Proxy, round: usize, error: &dyn std::error::Error) {
        let line = format!("{row}: round {}: {proxy}: refused: {error}", round + 1);
        eprintln!("{line}");
        self.refused.push(line);
    }

    pub(crate) fn print_row(&self, row: &Row) {
        if self.proxies(row).is_empty() {
            return;
        }
        println!("\n{}: {}", row.name, row.what);
        print(&self.table(row));
    }

    /// What there is more and more of, a line each; of a single row the table that it has anyway.
    pub(crate) fn print_growth(&self, growth: &Growth, markdown: bool) {
        let lines = match growth.rows {
            [row] => self.table(row),
            rows => self.growth(growth.of, rows),
        };
        println!("\n{} ({} on {})\n", growth.of, date(), machine());
        if markdown {
            print_markdown(&lines);
        } else {
            print(&lines);
        }
        self.refused.iter().for_each(|line| println!("{line}"));
    }

    fn growth(&self, of: &str, rows: &[Row]) -> Vec<Vec<String>> {
        let headings =
            [of, "HAProxy µs/op", "mongotap µs/op", "×", "HAProxy ops/s", "mongotap ops/s", "×", "mongotap peak MB"];
        let mongotap = Proxy { kind: Kind::Mongotap, threads: None };
        let cells = |row: &Row| {
            let haproxy = |get: Get, better: fn(f64, f64) -> f64| {
                self.haproxies(row).filter_map(|proxy| self.median_of(row, proxy, get)).reduce(better)
            };
            let cpu: Get = |sample| sample.cpu_micros;
            vec![
                row.what.to_owned(),
                cell(haproxy(cpu, f64::min), 1),
                cell(self.median_of(row, mongotap, cpu), 1),
                cell(self.figure(row, mongotap, Figure::Cpu), 2),
                cell(haproxy(operations_a_second, f64::max), 0),
                cell(self.median_of(row, mongotap, operations_a_second), 0),
                cell(self.figure(row, mongotap, Figure::Throughput), 2),
                cell(self.figure(row, mongotap, Figure::PeakMemory), 1),
            ]
        };
        std::iter::once(headings.map(str::to_owned).to_vec()).chain(rows.iter().map(cells)).collect()
    }

    /// What was reached of the goals, for mongotap and, as what can be had without looking, for the pump.
    pub(crate) fn print_goals(&self, rows: &[Row]) {
        println!("\ngoals");
        for (goal, proxy, value) in self.goals(rows) {
            println!("{:<10} {:<28} {proxy:<12} {value:>8.2}  {}", goal.row, sentence(goal), verdict(goal, value));
        }
        for line in &self.refused {
            println!("{line}");
        }
    }

    pub(crate) fn print_markdown(&self, rows: &[Row]) {
        println!("\nMeasured {} on {}; {}.", date(), machine(), self.versions.join(", "));
        for row in rows.iter().filter(|row| !self.proxies(row).is_empty()) {
            println!("\n**{}**: {}\n", row.name, row.what);
            print_markdown(&self.table(row));
        }
        println!("\n| row | goal | proxy | measured | |\n|---|---|---|---:|---|");
        for (goal, proxy, value) in self.goals(rows) {
            println!("| {} | {} | {proxy} | {value:.2} | {} |", goal.row, sentence(goal), verdict(goal, value));
        }
    }

    fn goals(&self, rows: &[Row]) -> Vec<(&'static Goal, String, f64)> {
        let mut found = Vec::new();
        for goal in GOALS.iter() {
            let Some(row) = rows.iter().find(|row| row.name == goal.row) else { continue };
            for proxy in self.proxies(row) {
                if matches!(proxy.kind, Kind::Pump | Kind::Mongotap | Kind::Capture)
                    && let Some(value) = self.figure(row, proxy, goal.figure)
                {
                    found.push((goal, proxy.to_string(), value));
                }
            }
        }
        found
    }

    /// Headings and a line for each proxy, without the columns that no proxy has anything in.
    fn table(&self, row: &Row) -> Vec<Vec<String>> {
        let lines: Vec<_> = self.proxies(row).into_iter().map(|proxy| self.cells(row, proxy)).collect();
        let is_used = |column: &usize| lines.iter().any(|line| !line[*column].is_empty());
        let headings = self.headings(row);
        let used: Vec<_> = (0..headings.len()).filter(is_used).collect();
        let pick = |line: &Vec<String>| used.iter().map(|&column| line[column].clone()).collect();
        std::iter::once(&headings).chain(&lines).map(pick).collect()
    }

    fn headings(&self, row: &Row) -> Vec<String> {
        let mut headings: Vec<_> = HEADINGS.iter().map(|&heading| heading.to_owned()).collect();
        match row.plan {
            Plan::Timed | Plan::Large => {}
            Plan::Idle => headings.push("kB/connection".to_owned()),
            Plan::Events => {
                let steps = self.entries.iter().filter(|entry| entry.row == row.name).map(|entry| &entry.sample.steps);
                let steps = steps.max_by_key(|steps| steps.len()).into_iter().flatten();
                headings.extend(steps.map(|(events, _)| format!("µs/event to 10^{}", events.ilog10())));
            }
        }
        headings
    }

    fn cells(&self, row: &Row, proxy: Proxy) -> Vec<String> {
        let of = |get: Get| self.median_of(row, proxy, get);
        let megabytes = |get: fn(&Memory) -> u64| {
            let kilobytes = self.samples(row, proxy).filter_map(|(_, sample)| sample.memory.as_ref().map(get)).max();
            kilobytes.map(|kilobytes| kilobytes as f64 * 1024.0 / 1e6)
        };
        let mut cells = vec![
            proxy.to_string(),
            cell(of(operations_a_second), 0),
            cell(of(megabytes_a_second), 1),
            cell(of(|sample| sample.outcome.map(|outcome| outcome.p50_micros)), 1),
            cell(of(|sample| sample.outcome.map(|outcome| outcome.p99_micros)), 1),
            cell(of(|sample| sample.cpu_micros), 2),
            self.spread(row, proxy),
            cell(megabytes(|memory| memory.now), 1),
            cell(megabytes(|memory| memory.peak), 1),
            cell(self.figure(row, proxy, Figure::Cpu), 2),
            cell(self.figure(row, proxy, Figure::Throughput), 2),
            cell(self.figure(row, proxy, Figure::AddedP50), 2),
        ];
        match row.plan {
            Plan::Timed | Plan::Large => {}
            Plan::Idle => cells.push(cell(of(|sample| sample.idle_kilobytes), 1)),
            Plan::Events => {
                let steps = self.samples(row, proxy).flat_map(|(_, sample)| &sample.steps);
                cells.extend(steps.map(|(_, micros)| cell(Some(*micros), 2)));
            }
        }
        cells
    }

    /// How far CPU/op went from its median over the rounds.
    fn spread(&self, row: &Row, proxy: Proxy) -> String {
        let values: Vec<_> = self.samples(row, proxy).filter_map(|(_, sample)| sample.cpu_micros).collect();
        let Some(middle) = median(values.clone()) else { return String::new() };
        let farthest = values.iter().map(|value| (value - middle).abs()).fold(0.0, f64::max);
        format!("{:.0} %", farthest / middle * 100.0)
    }

    /// The figure for a proxy; if it is a ratio, the median of the rounds' ratios.
    fn figure(&self, row: &Row, proxy: Proxy, figure: Figure) -> Option<f64> {
        match figure {
            Figure::Cpu => self.ratio(row, proxy, |sample| sample.cpu_micros, f64::min),
            Figure::Throughput => self.ratio(row, proxy, operations_a_second, f64::max),
            Figure::AddedP50 => self.added_p50_ratio(row, proxy),
            Figure::PeakMemory => {
                let peaks = self.samples(row, proxy).filter_map(|(_, sample)| sample.memory).map(|memory| memory.peak);
                peaks.max().map(|kilobytes| kilobytes as f64 * 1024.0 / 1e6)
            }
            Figure::IdleMemory => self.median_of(row, proxy, |sample| sample.idle_kilobytes),
            Figure::Growth => self.median_of(row, proxy, growth),
        }
    }

    /// `get` of the proxy over HAProxy's of the same round, HAProxy with the number of threads whose median is better.
    fn ratio(&self, row: &Row, proxy: Proxy, get: Get, better: fn(f64, f64) -> f64) -> Option<f64> {
        let best = self.haproxies(row).filter_map(|proxy| self.median_of(row, proxy, get)).reduce(better)?;
        let haproxy = self.haproxies(row).find(|proxy| self.median_of(row, *proxy, get) == Some(best))?;
        let of_haproxy = |wanted| self.samples(row, haproxy).find(|(round, _)| *round == wanted);
        let ratios =
            self.samples(row, proxy).filter_map(|(round, sample)| Some(get(sample)? / get(of_haproxy(round)?.1)?));
        median(ratios.collect())
    }

    /// For one connection: with more, latency is what waits for the cores. A ratio of medians: within one round, the difference of two noisy numbers is too small to divide by.
    fn added_p50_ratio(&self, row: &Row, proxy: Proxy) -> Option<f64> {
        let p50 = |proxy| self.median_of(row, proxy, |sample| sample.outcome.map(|outcome| outcome.p50_micros));
        if row.connections > 1 || proxy.kind == Kind::Direct {
            return None;
        }
        let direct = p50(self.proxies(row).into_iter().find(|proxy| proxy.kind == Kind::Direct)?)?;
        let best = self.haproxies(row).filter_map(p50).reduce(f64::min)?;
        (best > direct).then(|| Some((p50(proxy)? - direct) / (best - direct)))?
    }

    fn haproxies(&self, row: &Row) -> impl Iterator<Item = Proxy> {
        self.proxies(row).into_iter().filter(|proxy| proxy.kind == Kind::Haproxy)
    }

    fn median_of(&self, row: &Row, proxy: Proxy, get: Get) -> Option<f64> {
        median(self.samples(row, proxy).filter_map(|(_, sample)| get(sample)).collect())
    }

    fn samples(&self, row: &Row, proxy: Proxy) -> impl Iterator<Item = (usize, &Sample)> {
        let name = row.name;
        self.entries
            .iter()
            .filter(move |entry| entry.row == name && entry.proxy == proxy)
            .map(|entry| (entry.round, &entry.sample))
    }

    /// The proxies of a row, in the order they were measured.
    fn proxies(&self, row: &Row) -> Vec<Proxy> {
        let mut proxies = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.row == row.name) {
            if !proxies.contains(&entry.proxy) {
                proxies.push(entry.proxy);
            }
        }
        proxies
    }
}

/// Lines of cells in columns.
fn print(lines: &[Vec<String>]) {
    let widths: Vec<_> =
        (0..lines[0].len()).map(|n| lines.iter().map(|line| line[n].chars().count()).max().unwrap_or(0)).collect();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let text: Vec<_> = cells
            .map(|(n, (cell, &width))| if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") })
            .collect();
        println!("{}", text.join("  ").trim_end());
    }
}

fn print_markdown(lines: &[Vec<String>]) {
    for (n, line) in lines.iter().enumerate() {
        println!("| {} |", line.join(" | "));
        if n == 0 {
            println!("|---{}|", "|---:".repeat(line.len() - 1));
        }
    }
}

fn operations_a_second(sample: &Sample) -> Option<f64> {
    sample.outcome.map(|outcome| outcome.operations as f64 / outcome.seconds)
}

fn megabytes_a_second(sample: &Sample) -> Option<f64> {
    let outcome = sample.outcome?;
    Some(outcome.operations as f64 * outcome.operation_bytes as f64 / outcome.seconds / 1e6)
}

fn growth(sample: &Sample) -> Option<f64> {
    let (last, before) = sample.steps.split_last()?;
    Some(last.1 / median(before.iter().map(|(_, micros)| *micros).collect())?)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map(|value| format!("{value:.digits$}")).unwrap_or_default()
}

fn sentence(goal: &Goal) -> String {
    let (what, unit) = match goal.figure {
        Figure::Cpu => ("CPU/op", "× HAProxy"),
        Figure::Throughput => ("throughput", "× HAProxy"),
        Figure::AddedP50 => ("added p50", "× HAProxy"),
        Figure::PeakMemory => ("resident memory", "MB"),
        Figure::IdleMemory => ("memory/connection", "kB"),
        Figure::Growth => ("cost of an event", "× shorter runs"),
    };
    format!("{what} {} {} {unit}", if goal.at_least() { "≥" } else { "≤" }, goal.goal)
}

fn verdict(goal: &Goal, value: f64) -> String {
    if goal.met(value, goal.goal) {
        return "reached".to_owned();
    }
    let mut text = "missed".to_owned();
    if let Some(floor) = goal.floor {
        let within = if goal.met(value, floor) { "within" } else { "beyond" };
        // Writing to a String cannot fail.
        let _ = write!(text, ", {within} {floor}");
    }
    text
}

fn date() -> String {
    let now = bson::DateTime::now().try_to_rfc3339_string().unwrap_or_default();
    now.chars().take("2026-11-22".len()).collect()
}

fn machine() -> String {
    let first = |path: &str, key: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
        line.split(':').next_back().unwrap_or_default().trim().to_owned()
    };
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let (processor, kernel) = (first("/proc/cpuinfo", "model name"), first("/proc/sys/kernel/osrelease", ""));
    format!("{cores} cores of {processor}, Linux {kernel}")
}
