//! What came of asking again: the pace, how long answers took, and which were others.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::latency::{Latency, histogram};
use crate::bson::compare::Difference;
use crate::bson::find;
use crate::capture::exchange::{Exchange, Place};
use crate::event::ConnectionId;
use crate::sink::{aligned, printed, shown_duration};

/// Exchanges with other answers that are named.
const NAMED_MAX: usize = 100;

/// Kinds of commands that are counted one by one; what comes beyond them is counted together.
const KINDS_MAX: usize = 256;

/// One that goes out so much later than it should is late.
const LATE: Duration = Duration::from_millis(10);

/// What came of one exchange.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was answered, or needed no answer, with these differences from the recorded answer.
    Answered(Vec<Difference>),
    /// There was no answer, or it could not be sent; why.
    Failed(String),
}

/// An exchange whose live answer is another.
#[derive(Clone, Debug, PartialEq)]
pub struct Differing {
    /// Where it is in its file.
    pub place: Place,
    /// The recorded connection.
    pub connection: ConnectionId,
    /// The command and what it is about: `find shop.orders`.
    pub what: String,
    /// How.
    pub outcome: Outcome,
}

/// What came of all.
#[derive(Clone, Debug)]
pub struct Report {
    kinds: BTreeMap<String, Kind>,
    /// How late exchanges went out.
    lag: Histogram<u32>,
    late: u64,
    /// How many have other answers.
    pub differ: u64,
    named: Vec<Differing>,
    /// How many were sent, or were to be sent and could not.
    pub exchanges: u64,
    /// How many were left out, for what they go on with is from before the recording began.
    pub left_out: u64,
    /// From the first to the last.
    pub took: Duration,
    /// It was stopped before the end.
    pub interrupted: bool,
    paced: bool,
}

#[derive(Clone, Debug)]
struct Kind {
    latency: Latency,
    count: u64,
    differ: u64,
}

impl Report {
    /// Nothing yet. `paced` says whether there are times at which exchanges should go out.
    pub fn new(paced: bool) -> Self {
        Self {
            kinds: BTreeMap::new(),
            lag: histogram(),
            late: 0,
            differ: 0,
            named: Vec::new(),
            exchanges: 0,
            left_out: 0,
            took: Duration::ZERO,
            interrupted: false,
            paced,
        }
    }

    /// Counts that an exchange went out so much later than it should have.
    pub fn sent(&mut self, lag: Duration) {
        self.lag.saturating_record(u64::try_from(lag.as_micros()).unwrap_or(u64::MAX));
        self.late += u64::from(lag > LATE);
    }

    /// How late the latest one went out; `None` if there are no times at which they should.
    pub fn lag_max(&self) -> Option<Duration> {
        self.paced.then(|| Duration::from_micros(self.lag.max()))
    }

    /// Counts what came of an exchange: how long the answer took as it was recorded, if that is known, and live.
    pub fn add(&mut self, exchange: &Exchange, times: Option<(Option<Duration>, Duration)>, outcome: Outcome) {
        let what = what(exchange);
        let is_known = self.kinds.contains_key(&what) || self.kinds.len() < KINDS_MAX;
        let name = if is_known { what.clone() } else { "(other)".to_owned() };
        let kind = self.kinds.entry(name).or_insert_with(|| Kind { latency: Latency::new(), count: 0, differ: 0 });
        if let Some((recorded, live)) = times {
            kind.latency.add(recorded, live);
        }
        kind.count += 1;
        self.exchanges += 1;
        if outcome == Outcome::Answered(Vec::new()) {
            return;
        }
        kind.differ += 1;
        self.differ += 1;
        self.name(exchange, what, outcome);
    }

    /// Counts that a change stream or a tailable cursor did not tell so many events that it told in the recording, the last
    /// of them in this exchange.
    pub fn untold(&mut self, exchange: &Exchange, count: usize) {
        let what = what(exchange);
        if let Some(kind) = self.kinds.get_mut(&what) {
            kind.differ += 1;
        }
        self.differ += 1;
        let (path, expected) = ("events that never came".to_owned(), Some(count.to_string()));
        let outcome = Outcome::Answered(vec![Difference { path, expected, actual: None }]);
        self.name(exchange, what, outcome);
    }

    fn name(&mut self, exchange: &Exchange, what: String, outcome: Outcome) {
        if self.named.len() < NAMED_MAX {
            self.named.push(Differing { place: exchange.place, connection: exchange.connection, what, outcome });
        }
    }

    /// The first that have other answers.
    pub fn named(&self) -> &[Differing] {
        &self.named
    }

    /// The pace: `kept` or by how much it was not.
    fn pace(&self) -> String {
        let Some(lag_max) = self.lag_max() else { return "as fast as it went".to_owned() };
        match self.late {
            0 => format!("kept, at most {} late", shown_duration(lag_max)),
            late => {
                let [half, most] = [50.0, 99.0].map(|share| Duration::from_micros(self.lag.value_at_percentile(share)));
                format!(
                    "{late} of {} went out more than {} late: half of all {} or less, 99 % {}, at most {}",
                    self.lag.len(),
                    shown_duration(LATE),
                    shown_duration(half),
                    shown_duration(most),
                    shown_duration(lag_max),
                )
            }
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Differing { place, connection, what, outcome } in &self.named {
            _ = writeln!(text, "{place} ({what}, {connection})");
            match outcome {
                Outcome::Failed(why) => _ = writeln!(text, "  no answer: {why}"),
                Outcome::Answered(differences) => {
                    differences.iter().for_each(|it| _ = writeln!(text, "  {}", shown_difference(it)));
                }
            }
        }
        if self.differ > self.named.len() as u64 {
            _ = writeln!(text, "and {} more", self.differ - self.named.len() as u64);
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let mut all = Latency::new();
        self.kinds.values().for_each(|kind| all.merge(&kind.latency));
        let recorded = all.has_recorded();
        let mut heads = ["command", "count", "differ"].map(str::to_owned).to_vec();
        heads.extend(Latency::heads(recorded));
        let mut rows = vec![heads];
        for (name, kind) in &self.kinds {
            let mut row = vec![name.clone(), kind.count.to_string(), kind.differ.to_string()];
            row.extend(kind.latency.cells(recorded));
            rows.push(row);
        }
        text += &aligned(&rows, 1);
        if all.count() > 0 {
            _ = write!(text, "\n{}", all.drawn());
        }
        if self.left_out > 0 {
            let left_out = self.left_out;
            _ = writeln!(
                text,
                "\n{left_out} exchanges left out: what they go on with is from before the recording began"
            );
        }
        let stopped = if self.interrupted { ", stopped before the end" } else { "" };
        _ = writeln!(
            text,
            "\n{} exchanges in {}{stopped}\npace: {}\n{}",
            self.exchanges,
            shown_duration(self.took),
            self.pace(),
            match self.differ {
                0 => "all answers are as recorded".to_owned(),
                1 => "1 answer differs".to_owned(),
                differ => format!("{differ} answers differ"),
            }
        );
        text
    }

    /// The same as JSON, durations in microseconds.
    pub fn json(&self) -> Value {
        let commands = self.kinds.iter().map(|(name, kind)| {
            let mut json = kind.latency.json();
            json["command"] = name.as_str().into();
            json["count"] = kind.count.into();
            json["differ"] = kind.differ.into();
            json
        });
        let lag = json!({
            "late": self.late,
            "p50Micros": self.lag.value_at_percentile(50.0),
            "p99Micros": self.lag.value_at_percentile(99.0),
            "maxMicros": self.lag.max(),
        });
        let mut json = json!({
            "exchanges": self.exchanges,
            "leftOut": self.left_out,
            "differ": self.differ,
            "tookMicros": u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX),
            "interrupted": self.interrupted,
            "commands": commands.collect::<Vec<_>>(),
            "differences": self.named.iter().map(differing_json).collect::<Vec<_>>(),
        });
        if self.paced {
            json["lag"] = lag;
        }
        json
    }
}

fn differing_json(differing: &Differing) -> Value {
    let (key, number) = match differing.place {
        Place::Line(line) => ("line", line),
        Place::Exchange(exchange) => ("exchange", exchange),
    };
    let mut json = json!({ key: number, "connection": differing.connection.0, "command": differing.what });
    match &differing.outcome {
        Outcome::Failed(why) => json["noAnswer"] = why.as_str().into(),
        Outcome::Answered(differences) => {
            let fields = differences.iter().map(|it| {
                let mut json = json!({ "path": it.path });
                for (key, value) in [("recorded", &it.expected), ("live", &it.actual)] {
                    if let Some(value) = value {
                        json[key] = value.as_str().into();
                    }
                }
                json
            });
            json["fields"] = fields.collect::<Vec<_>>().into();
        }
    }
    json
}

fn shown_difference(difference: &Difference) -> String {
    let path = if difference.path.is_empty() { "the whole" } else { &difference.path };
    let [recorded, live] = [&difference.expected, &difference.actual].map(|it| it.as_deref().unwrap_or("missing"));
    format!("{path}: recorded {recorded}, live {live}")
}

/// The command and the namespace that it is about: `find shop.orders`, `ping admin`.
fn what(exchange: &Exchange) -> String {
    let name = exchange.name();
    let string = |field: &[u8]| find(&exchange.request, field).and_then(|element| element.as_str());
    let collection = if name == "getMore" { string(b"collection") } else { string(name.as_bytes()) };
    let database = string(b"$db").unwrap_or_default();
    let dot = if collection.is_some() { "." } else { "" };
    printed(&format!("{name} {database}{dot}{}", collection.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;
    use crate::capture::exchange::testing;

    fn report(paced: bool) -> Report {
        let find = testing::exchange(&doc! { "find": "orders", "$db": "shop" }, &[], 0);
        let more = testing::exchange(&doc! { "getMore": 5_i64, "collection": "a\u{1b}", "$db": "shop" }, &[], 0);
        let millis = Duration::from_millis;
        let mut report = Report::new(paced);
        for lag in [0, 2, 30] {
            report.sent(millis(lag));
        }
        report.add(&find, Some((paced.then(|| millis(2)), millis(3))), Outcome::Answered(Vec::new()));
        let (path, expected) = ("cursor.firstBatch.0.n".to_owned(), Some("1".to_owned()));
        let differs = vec![Difference { path, expected, actual: None }];
        report.add(&find, Some((paced.then(|| millis(2)), millis(3))), Outcome::Answered(differs));
        report.add(&more, None, Outcome::Failed("its cursor is not open on the live server".to_owned()));
        report.took = millis(70);
        report
    }

    #[test]
    fn people_are_told() {
        let expected = "\
exchange 1 (find shop.orders, c1)
  cursor.firstBatch.0.n: recorded 1, live missing
exchange 1 (getMore shop.a\\x1b, c1)
  no answer: its cursor is not open on the live server

command             count  differ  p50 recorded, live             p90             p99             max  live:recorded
find shop.orders        2       1      2.00ms, 3.00ms  2.00ms, 3.00ms  2.00ms, 3.00ms  2.00ms, 3.00ms           1.50
getMore shop.a\\x1b      1       1                -, -            -, -            -, -            -, -              -

            recorded                          live
  < 2.50ms  ######################## 2        0
  < 5.00ms  0                                 ######################## 2

3 exchanges in 70.0ms
pace: 1 of 3 went out more than 10.0ms late: half of all 2.00ms or less, 99 % 30.0ms, at most 30.0ms
2 answers differ
";
        assert_eq!(report(true).text(), expected);
        let without_times = report(false).text();
        assert!(without_times.contains("pace: as fast as it went") && !without_times.contains("recorded, live"));
    }

    #[test]
    fn programs_are_told() {
        let json = report(true).json();
        assert_eq!((&json["exchanges"], &json["differ"], &json["lag"]["late"]), (&3.into(), &2.into(), &1.into()));
        assert_eq!(json["commands"][0]["command"], "find shop.orders");
        let bars = json!([
            { "fromMicros": 1000, "toMicros": 2500, "recorded": 2, "live": 0 },
            { "fromMicros": 2500, "toMicros": 5000, "recorded": 0, "live": 2 },
        ]);
        assert_eq!(json["commands"][0]["histogram"], bars);
        let field = json!({ "path": "cursor.firstBatch.0.n", "recorded": "1" });
        let expected = json!({ "exchange": 1, "connection": 1, "command": "find shop.orders", "fields": [field] });
        assert_eq!(json["differences"][0], expected);
        assert_eq!(json["differences"][1]["noAnswer"], "its cursor is not open on the live server");
        assert!(report(false).json().get("lag").is_none());
    }
}
