//! How long answers took, recorded and live, beside each other.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::sink::shown_duration;

/// How long the answers to one kind of command took.
#[derive(Clone, Debug)]
pub(super) struct Latency {
    recorded: Histogram<u32>,
    live: Histogram<u32>,
}

/// Both are shown at these shares of the answers.
const SHARES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("max", 100.0)];

/// Of microseconds, up to a day: what is counted as one is at most 1 % apart.
pub(super) fn histogram() -> Histogram<u32> {
    Histogram::new_with_max(24 * 3600 * 1_000_000, 2).expect("two digits are a number of digits there may be")
}

/// The upper ends of the drawn histogram's bars, in microseconds; the last bar has no end.
const BARS: [u64; 9] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];

/// How long the longest bar is.
const BAR_WIDTH: u64 = 24;

/// How many answers took from so many microseconds to less than so many.
struct Bar {
    from: u64,
    to: Option<u64>,
    recorded: u64,
    live: u64,
}

impl Latency {
    pub(super) fn new() -> Self {
        Self { recorded: histogram(), live: histogram() }
    }

    /// Counts an answer. A fixture has no times.
    pub(super) fn add(&mut self, recorded: Option<Duration>, live: Duration) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(recorded) = recorded {
            self.recorded.saturating_record(micros(recorded));
        }
        self.live.saturating_record(micros(live));
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (own, other) in [(&mut self.recorded, &other.recorded), (&mut self.live, &other.live)] {
            // Both have room for every number.
            _ = own.add(other);
        }
    }

    /// How many live answers there were.
    pub(super) fn count(&self) -> u64 {
        self.live.len()
    }

    /// Whether it is known how long recorded answers took.
    pub(super) fn has_recorded(&self) -> bool {
        !self.recorded.is_empty()
    }

    /// The names of what [`cells`](Self::cells) gives.
    pub(super) fn heads(recorded: bool) -> Vec<String> {
        let first = if recorded { "p50 recorded, live" } else { "p50" };
        let mut heads = vec![first.to_owned()];
        heads.extend(SHARES.iter().skip(1).map(|(name, _)| (*name).to_owned()));
        heads.extend(recorded.then(|| "live:recorded".to_owned()));
        heads
    }

    /// Share by share, recorded and live if there is a recorded side at all; then how much longer the median is live.
    pub(super) fn cells(&self, recorded: bool) -> Vec<String> {
        let shown = |histogram: &Histogram<u32>, share| match histogram.is_empty() {
            true => "-".to_owned(),
            false => shown_duration(Duration::from_micros(histogram.value_at_percentile(share))),
        };
        let cells = SHARES.iter().map(|(_, share)| match recorded {
            true => format!("{}, {}", shown(&self.recorded, *share), shown(&self.live, *share)),
            false => shown(&self.live, *share),
        });
        let ratio = match (self.median(&self.recorded), self.median(&self.live)) {
            (Some(recorded), Some(live)) => format!("{:.2}", live / recorded),
            _ => "-".to_owned(),
        };
        cells.chain(recorded.then_some(ratio)).collect()
    }

    fn median(&self, histogram: &Histogram<u32>) -> Option<f64> {
        (!histogram.is_empty()).then(|| histogram.value_at_percentile(50.0).max(1) as f64)
    }

    pub(super) fn json(&self) -> Value {
        let side = |histogram: &Histogram<u32>| {
            let shares =
                SHARES.iter().map(|(name, share)| (name.to_string(), histogram.value_at_percentile(*share).into()));
            (!histogram.is_empty()).then(|| Value::Object(shares.collect()))
        };
        let mut json = json!({});
        for (name, side) in [("recordedMicros", side(&self.recorded)), ("liveMicros", side(&self.live))] {
            if let Some(side) = side {
                json[name] = side;
            }
        }
        let bars = self.bars().into_iter().map(|Bar { from, to, recorded, live }| {
            let mut bar = json!({ "fromMicros": from, "live": live });
            if let Some(to) = to {
                bar["toMicros"] = to.into();
            }
            if self.has_recorded() {
                bar["recorded"] = recorded.into();
            }
            bar
        });
        json["histogram"] = bars.collect();
        json
    }

    /// Both histograms drawn beside each other.
    pub(super) fn drawn(&self) -> String {
        let bars = self.bars();
        let longest = bars.iter().map(|bar| bar.recorded.max(bar.live)).max().unwrap_or_default().max(1);
        let has_recorded = self.has_recorded();
        let heads = if has_recorded { format!("{:<32}  live", "recorded") } else { "live".to_owned() };
        let mut text = format!("{:>10}  {heads}\n", "");
        for Bar { from, to, recorded, live } in bars {
            let name = match to {
                Some(to) => format!("< {}", shown_duration(Duration::from_micros(to))),
                None => format!(">= {}", shown_duration(Duration::from_micros(from))),
            };
            let bar = |count: u64| {
                let length = (count * BAR_WIDTH).div_ceil(longest);
                format!("{} {count}", "#".repeat(usize::try_from(length).unwrap_or_default())).trim_start().to_owned()
            };
            _ = match has_recorded {
                true => writeln!(text, "{name:>10}  {:<32}  {}", bar(recorded), bar(live)),
                false => writeln!(text, "{name:>10}  {}", bar(live)),
            };
        }
        text
    }

    /// The bars; without empty ones at both ends.
    fn bars(&self) -> Vec<Bar> {
        let mut rows = Vec::new();
        let mut from = 0;
        for to in BARS.into_iter().map(Some).chain([None]) {
            let within = |histogram: &Histogram<u32>| histogram.count_between(from, to.map_or(u64::MAX, |to| to - 1));
            rows.push(Bar { from, to, recorded: within(&self.recorded), live: within(&self.live) });
            from = to.unwrap_or(u64::MAX);
        }
        let is_empty = |bar: &Bar| bar.recorded + bar.live == 0;
        while rows.last().is_some_and(is_empty) {
            rows.pop();
        }
        let first = rows.iter().position(|row| !is_empty(row)).unwrap_or(rows.len());
        rows.split_off(first)
    }
}
