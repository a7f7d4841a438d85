//! How many commands, how long they took, and how much they moved: per database, collection and command.
//!
//! Counted are the ends of applications' commands and of authentication; what drivers ask for themselves (handshakes,
//! monitors, round trip probes) would drown them. Memory is bounded: what does not fit into [`LABELS_MAX`] labels is
//! summed under `(other)`. A write that the server answered with `ok: 1` succeeded, whatever its `writeErrors`: those
//! are counted apart from errors. Durations are whole microseconds; percentiles are exact to 1 %.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasher, BuildHasherDefault, RandomState};
use std::time::Duration;

use hdrhistogram::Histogram;

use super::duration::shown;
use super::memory::NumberHasher;
use super::printable::printed;
use crate::event::{CommandInfo, Entry, Event, Measures, micros};

/// Labels counted one by one.
pub const LABELS_MAX: usize = 512;

/// A label with a longer part is nobody's real namespace: a server allows 255 bytes of it.
const LABEL_PART_MAX: usize = 255;

/// Two digits: what is counted as one is at most 1 % apart.
const SIGNIFICANT_DIGITS: u8 = 2;

/// A command on a collection.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Label {
    database: String,
    /// Empty where the command names none.
    collection: String,
    command: String,
}

impl Label {
    fn is(&self, (database, collection, command): (&str, &str, &str)) -> bool {
        self.command == command && self.collection == collection && self.database == database
    }
}

/// What was counted under one label.
#[derive(Clone, Debug)]
struct Counts {
    count: u64,
    errors: u64,
    write_errors: u64,
    total_micros: u64,
    max_micros: u64,
    request_bytes: u64,
    reply_bytes: u64,
    micros: Histogram<u32>,
}

/// What was counted, by label.
#[derive(Clone, Debug)]
pub struct Statistics {
    rows: Vec<(Label, Counts)>,
    /// The rows by their label's hash; one whose place is taken by another label's is under the next free hash.
    index: HashMap<u64, usize, BuildHasherDefault<NumberHasher>>,
    hasher: RandomState,
    /// The row that was asked for last: the next one is likely to be it again.
    last: usize,
    other: Counts,
}

impl Default for Statistics {
    fn default() -> Self {
        Self { rows: Vec::new(), index: HashMap::default(), hasher: RandomState::new(), last: 0, other: Counts::new() }
    }
}

impl Statistics {
    /// Counts the entry if it is the end of a command. Allocates only for a label that is new.
    pub fn observe(&mut self, entry: &Entry<'_>) {
        if !entry.phase.is_application() {
            return;
        }
        let (info, duration, measures, failed) = match &entry.event {
            Event::CommandSucceeded(event) => (&event.info, event.duration, &event.measures, false),
            Event::CommandFailed(event) => (&event.info, event.duration, &event.measures, true),
            _ => return,
        };
        self.counts_of(parts_of(info)).add(duration, measures, failed);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (label, counts) in &other.rows {
            self.counts_of((&label.database, &label.collection, &label.command)).merge(counts);
        }
        self.other.merge(&other.other);
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.other.count == 0
    }

    /// A table for people, the label that took the most time first, or `no commands`.
    pub fn table(&self) -> String {
        if self.is_empty() {
            return "no commands\n".to_owned();
        }
        const HEAD: [&str; 13] = [
            "database",
            "collection",
            "command",
            "count",
            "errors",
            "write errors",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "request",
            "reply",
        ];
        let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
        for (label, counts) in self.sorted() {
            let names = [&label.database, &label.collection, &label.command].map(|part| printed(part));
            lines.push(names.into_iter().chain(counts.cells()).collect());
        }
        if self.other.count != 0 {
            let names = ["(other)".to_owned(), String::new(), String::new()];
            lines.push(names.into_iter().chain(self.other.cells()).collect());
        }
        aligned(&lines, 3)
    }

    /// The same as JSON: `{"commands": [{…}, …], "other": {…}}`, durations in microseconds; `other` only if there is
    /// something in it.
    pub fn json(&self) -> serde_json::Value {
        let commands: Vec<_> = self.sorted().into_iter().map(|(label, counts)| counts.json(Some(label))).collect();
        let mut json = serde_json::json!({ "commands": commands });
        if self.other.count != 0 {
            json["other"] = self.other.json(None);
        }
        json
    }

    fn sorted(&self) -> Vec<&(Label, Counts)> {
        let mut rows: Vec<_> = self.rows.iter().collect();
        rows.sort_by(|(a, had), (b, has)| has.total_micros.cmp(&had.total_micros).then_with(|| a.cmp(b)));
        rows
    }

    fn counts_of(&mut self, parts: (&str, &str, &str)) -> &mut Counts {
        match self.row_of(parts) {
            Some(row) => &mut self.rows[row].1,
            None => &mut self.other,
        }
    }

    /// The row of a label, made if there is room.
    fn row_of(&mut self, parts: (&str, &str, &str)) -> Option<usize> {
        if self.rows.get(self.last).is_some_and(|(label, _)| label.is(parts)) {
            return Some(self.last);
        }
        let (database, collection, command) = parts;
        let mut hash = self.hasher.hash_one(parts);
        while let Some(&row) = self.index.get(&hash) {
            if self.rows[row].0.is(parts) {
                self.last = row;
                return Some(row);
            }
            hash = hash.wrapping_add(1);
        }
        let longest = database.len().max(collection.len()).max(command.len());
        if self.rows.len() >= LABELS_MAX || longest > LABEL_PART_MAX {
            return None;
        }
        let label =
            Label { database: database.to_owned(), collection: collection.to_owned(), command: command.to_owned() };
        self.index.insert(hash, self.rows.len());
        self.rows.push((label, Counts::new()));
        Some(self.rows.len() - 1)
    }
}

fn parts_of<'a>(info: &'a CommandInfo<'_>) -> (&'a str, &'a str, &'a str) {
    (&info.database_name, info.collection.as_deref().unwrap_or_default(), &info.command_name)
}

impl Counts {
    #[expect(clippy::expect_used, reason = "2 is a number of digits that a histogram takes")]
    fn new() -> Self {
        let micros = Histogram::new(SIGNIFICANT_DIGITS).expect("2 digits");
        Self {
            count: 0,
            errors: 0,
            write_errors: 0,
            total_micros: 0,
            max_micros: 0,
            request_bytes: 0,
            reply_bytes: 0,
            micros,
        }
    }

    fn add(&mut self, duration: Duration, measures: &Measures, failed: bool) {
        let micros = micros(duration);
        self.count += 1;
        self.errors += u64::from(failed);
        self.write_errors += measures.write_errors.unwrap_or(0);
        self.total_micros = self.total_micros.saturating_add(micros);
        self.max_micros = self.max_micros.max(micros);
        self.request_bytes += measures.request_bytes;
        self.reply_bytes += measures.reply_bytes;
        let recorded = self.micros.record(micros);
        debug_assert!(recorded.is_ok(), "it resizes itself");
    }

    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.write_errors += other.write_errors;
        self.total_micros = self.total_micros.saturating_add(other.total_micros);
        self.max_micros = self.max_micros.max(other.max_micros);
        self.request_bytes += other.request_bytes;
        self.reply_bytes += other.reply_bytes;
        // Both resize themselves, so neither can be too small for the other.
        let merged = self.micros.add(&other.micros);
        debug_assert!(merged.is_ok());
    }

    /// A percentile; what the histogram rounds up is never above the longest that was seen.
    fn micros_at(&self, quantile: f64) -> u64 {
        self.micros.value_at_quantile(quantile).min(self.max_micros)
    }

    fn cells(&self) -> [String; 10] {
        let at = |quantile| shown(Duration::from_micros(self.micros_at(quantile)));
        [
            self.count.to_string(),
            self.errors.to_string(),
            self.write_errors.to_string(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(0.999),
            shown(Duration::from_micros(self.max_micros)),
            bytes(self.request_bytes),
            bytes(self.reply_bytes),
        ]
    }

    fn json(&self, label: Option<&Label>) -> serde_json::Value {
        let mut json = serde_json::Map::new();
        if let Some(label) = label {
            json.insert("database".to_owned(), label.database.as_str().into());
            if !label.collection.is_empty() {
                json.insert("collection".to_owned(), label.collection.as_str().into());
            }
            json.insert("command".to_owned(), label.command.as_str().into());
        }
        for (key, number) in [
            ("count", self.count),
            ("errors", self.errors),
            ("writeErrors", self.write_errors),
            ("p50Micros", self.micros_at(0.5)),
            ("p90Micros", self.micros_at(0.9)),
            ("p99Micros", self.micros_at(0.99)),
            ("p99.9Micros", self.micros_at(0.999)),
            ("maxMicros", self.max_micros),
            ("totalMicros", self.total_micros),
            ("requestBytes", self.request_bytes),
            ("replyBytes", self.reply_bytes),
        ] {
            json.insert(key.to_owned(), number.into());
        }
        json.into()
    }
}

/// Lines of cells in columns: so many names to the left, the numbers behind them to the right.
pub(crate) fn aligned(lines: &[Vec<String>], names: usize) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width_of = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width_of).collect();
    let mut table = String::new();
    for line in lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let written = match column {
                0 => write!(text, "{cell:width$}"),
                _ if column < names => write!(text, "  {cell:width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
            debug_assert!(written.is_ok(), "a String takes all that is written to it");
        }
        table.push_str(text.trim_end());
        table.push('\n');
    }
    table
}

/// A number of bytes in three digits or so.
fn bytes(number: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(size, _)| number >= *size) {
        Some((size, unit)) => {
            let tenths = u128::from(number) * 10 / u128::from(size);
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;

    use super::*;
    use crate::event::Phase;
    use crate::sink::sample::{connection, entry, failed, said_no, started, succeeded};

    fn observe(statistics: &mut Statistics, namespace: &str, command: &str, micros: u64) {
        let mut body = rawdoc! {};
        body.append(::bson::raw::CString::try_from(command).unwrap(), 1);
        let start = started(namespace, body);
        statistics.observe(&entry(start.clone()));
        statistics.observe(&entry(succeeded(&start, micros, rawdoc! { "ok": 1 })));
    }

    #[test]
    fn counts_by_label() {
        let mut statistics = Statistics::default();
        assert!(statistics.is_empty());
        assert_eq!(statistics.table(), "no commands\n");
        for micros in 1..=1000 {
            observe(&mut statistics, "shop.orders", "find", micros);
        }
        let insert = started("shop.orders", rawdoc! { "insert": "orders" });
        statistics.observe(&entry(failed(&insert, 70, said_no(rawdoc! { "ok": 0 }))));
        let mut partly = succeeded(&insert, 70, rawdoc! { "ok": 1 });
        partly.measures.write_errors = Some(3);
        let mut others = Statistics::default();
        others.observe(&entry(partly));
        statistics.merge(&others);
        observe(&mut statistics, "admin", "ping", 30);
        let json = statistics.json();
        let find = &json["commands"][0];
        assert_eq!(find["database"], "shop");
        assert_eq!(find["collection"], "orders");
        assert_eq!(find["command"], "find");
        assert_eq!(find["count"], 1000);
        assert_eq!(find["errors"], 0);
        assert_eq!(find["totalMicros"], 500_500);
        assert_eq!(find["maxMicros"], 1000);
        assert_eq!(find["requestBytes"], 143_000);
        assert_eq!(find["replyBytes"], 45_000);
        for (key, exact) in [("p50Micros", 500.0), ("p90Micros", 900.0), ("p99Micros", 990.0), ("p99.9Micros", 999.0)] {
            let value = find[key].as_f64().unwrap();
            assert!((value / exact - 1.0).abs() <= 0.01, "{key} is {value}");
        }
        assert_eq!(json["commands"][1]["command"], "insert");
        assert_eq!(json["commands"][1]["count"], 2);
        assert_eq!(json["commands"][1]["errors"], 1);
        assert_eq!(json["commands"][1]["writeErrors"], 3);
        assert_eq!(find["writeErrors"], 0);
        assert_eq!(json["commands"][2]["database"], "admin");
        assert!(json["commands"][2].get("collection").is_none());
        assert!(json.get("other").is_none());
    }

    #[test]
    fn merging_is_the_same_as_counting_together() {
        let (mut one, mut two, mut both) = (Statistics::default(), Statistics::default(), Statistics::default());
        for number in 0..2000 {
            let namespace = format!("shop.c{}", number % 700);
            let part = if number % 3 == 0 { &mut one } else { &mut two };
            observe(part, &namespace, "find", number);
            observe(&mut both, &namespace, "find", number);
        }
        let total = |statistics: &Statistics| {
            let counts: u64 = statistics.rows.iter().map(|(_, counts)| counts.count).sum();
            (counts + statistics.other.count, statistics.rows.len())
        };
        one.merge(&two);
        assert_eq!(total(&one), total(&both));
        assert_eq!(total(&one), (2000, LABELS_MAX));
        assert_eq!(one.other.micros.len(), one.other.count);
    }

    #[test]
    fn labels_are_bounded() {
        let mut statistics = Statistics::default();
        for number in 0..10_000 {
            observe(&mut statistics, &format!("db{number}.c"), "find", 10);
        }
        observe(&mut statistics, &"long".repeat(1000), "find", 10);
        assert_eq!(statistics.rows.len(), LABELS_MAX);
        assert_eq!(statistics.other.count, 10_001 - LABELS_MAX as u64);
        let table = statistics.table();
        assert_eq!(table.lines().count(), 1 + LABELS_MAX + 1);
        assert!(table.lines().last().unwrap().starts_with("(other)"));
        assert_eq!(statistics.json()["other"]["count"], 10_001 - LABELS_MAX);
    }

    #[test]
    fn a_label_whose_hash_is_taken_gets_the_next() {
        let mut statistics = Statistics::default();
        observe(&mut statistics, "shop.orders", "find", 10);
        let hash = statistics.hasher.hash_one(("shop", "orders", "count"));
        statistics.index.insert(hash, 0);
        observe(&mut statistics, "shop.orders", "count", 10);
        observe(&mut statistics, "shop.orders", "count", 10);
        let counts: Vec<_> =
            statistics.rows.iter().map(|(label, counts)| (label.command.as_str(), counts.count)).collect();
        assert_eq!(counts, [("find", 1), ("count", 2)]);
    }

    #[test]
    fn what_drivers_ask_for_themselves_is_not_counted() {
        let mut statistics = Statistics::default();
        let hello = started("admin", rawdoc! { "hello": 1 });
        for phase in [Phase::Handshake, Phase::Monitor, Phase::Rtt] {
            let event = Event::CommandSucceeded(succeeded(&hello, 10_000_000, rawdoc! { "ok": 1 }));
            statistics.observe(&Entry { at: crate::sink::sample::AT, connection: connection(1), phase, event });
        }
        assert!(statistics.is_empty());
    }

    #[test]
    fn the_table_is_aligned_and_harmless() {
        let mut statistics = Statistics::default();
        observe(&mut statistics, "shop.orders", "find", 1840);
        observe(&mut statistics, "evil\u{1b}[2J.x", "find", 12);
        assert_eq!(
            statistics.table(),
            "database     collection  command  count  errors  write errors     p50     p90     p99   p99.9     max  request  reply\n\
             shop         orders      find         1       0             0  1.84ms  1.84ms  1.84ms  1.84ms  1.84ms    143 B   45 B\n\
             evil\\x1b[2J  x           find         1       0             0    12µs    12µs    12µs    12µs    12µs    143 B   45 B\n"
        );
    }
}
