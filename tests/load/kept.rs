//! The captures of a run beside its log: what their files hold are whole exchanges, those of the log, and for the span that
//! they cover all of them.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mongotap::capture::log::Item;
use mongotap::capture::part::Part;
use mongotap::capture::source::Source;
use mongotap::event::{CommandInfo, Event, Measures};
use serde::Deserialize;

/// A command, as either tells of it.
#[derive(Debug, Eq, PartialEq)]
struct Command {
    name: String,
    request_id: i32,
    end: Option<End>,
}

#[derive(Debug, Eq, PartialEq)]
struct End {
    succeeded: bool,
    micros: u64,
    /// Of the request, and of the reply.
    bytes: (u64, u64),
}

/// What the files of a capture hold.
#[derive(Default)]
struct Captured {
    /// By their exchanges.
    commands: HashMap<u64, Command>,
    /// What began later is in them, in milliseconds since 1970.
    from_millis: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    event: String,
    ts: String,
    command_name: Option<String>,
    request_id: Option<i32>,
    duration_micros: Option<u64>,
    proxy: Option<OfOurs>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfOurs {
    exchange: Option<u64>,
    request_bytes: Option<u64>,
    reply_bytes: Option<u64>,
}

/// Compares the commands of a capture, which may have been rotated, with those of the log of the same run, which has ended
/// in good order. How many are in both.
pub(crate) fn compare(capture: &Path, log: &Path) -> usize {
    let Captured { mut commands, from_millis } = read(capture);
    let count = commands.len();
    assert!(count > 0, "{}: it holds something", capture.display());
    for line in BufReader::new(File::open(log).expect("it is there")).lines() {
        let line: Line = serde_json::from_str(&line.expect("a log is UTF-8")).expect("each line is JSON");
        let Some((exchange, proxy)) = line.proxy.as_ref().and_then(|proxy| Some((proxy.exchange?, proxy))) else {
            continue;
        };
        let name = line.command_name.unwrap_or_default();
        if line.event == "commandStartedEvent" {
            let at = bson::DateTime::parse_rfc3339_str(&line.ts).expect("a time").timestamp_millis();
            assert!(at <= from_millis || commands.contains_key(&exchange), "{name} {exchange} is not in the capture");
            continue;
        }
        let Some(command) = commands.remove(&exchange) else { continue };
        let succeeded = line.event == "commandSucceededEvent";
        let bytes = (proxy.request_bytes.unwrap_or_default(), proxy.reply_bytes.unwrap_or_default());
        let end = End { succeeded, micros: line.duration_micros.expect("every end has it"), bytes };
        let logged = Command { name, request_id: line.request_id.expect("every end has it"), end: Some(end) };
        assert_eq!(command, logged, "exchange {exchange}");
    }
    assert!(commands.is_empty(), "not in the log: {commands:?}");
    count
}

/// The files of a capture, the oldest first.
fn files(capture: &Path) -> Vec<PathBuf> {
    let aside = (1..).map(|number| PathBuf::from(format!("{}.{number}", capture.display())));
    let mut files: Vec<_> = aside.take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(capture.to_owned());
    files
}

fn read(capture: &Path) -> Captured {
    let files = files(capture);
    let open = |path: &PathBuf| BufReader::new(File::open(path).expect("it is there"));
    let part = Part::read(open(&files[0])).expect("it can be read").expect("it is a capture");
    let mut source = Source::open(open(&files[0]), None).expect("it can be read");
    files[1..].iter().for_each(|path| source.push(open(path)));
    let mut captured = Captured { from_millis: i64::MIN, ..Captured::default() };
    while let Some((item, _)) = source.next_item().expect("what is there is good") {
        let entry = match item {
            Item::Entry(entry) if entry.phase.is_application() => entry,
            Item::Dropped { reason, .. } => panic!("nothing is missing in it: {reason}"),
            _ => continue,
        };
        // Commands whose beginnings were in files that are no more have their ends in the first that is left.
        if part.number > 0 && source.at() == 0 {
            captured.from_millis = captured.from_millis.max(entry.at.unix_micros / 1000);
        }
        match &entry.event {
            Event::CommandStarted(started) => captured.start(&started.info),
            Event::CommandSucceeded(ended) => captured.end(&ended.info, true, ended.duration, &ended.measures),
            Event::CommandFailed(ended) => captured.end(&ended.info, false, ended.duration, &ended.measures),
            _ => {}
        }
    }
    assert!(source.torn().is_none() && source.torn_before().is_empty(), "each was closed");
    let open = captured.commands.iter().filter(|(_, command)| command.end.is_none()).collect::<Vec<_>>();
    assert!(open.is_empty(), "all have ended: {open:?}");
    captured
}

impl Captured {
    fn start(&mut self, info: &CommandInfo<'_>) {
        let command = Command { name: info.command_name.to_string(), request_id: info.request_id, end: None };
        assert_eq!(self.commands.insert(info.exchange.0, command), None, "it begins once");
    }

    fn end(&mut self, info: &CommandInfo<'_>, succeeded: bool, duration: Duration, measures: &Measures) {
        let Some(command) = self.commands.get_mut(&info.exchange.0) else {
            assert!(self.from_millis > i64::MIN, "{info:?} ends and has not begun");
            return;
        };
        let bytes = (measures.request_bytes, measures.reply_bytes);
        let end = End { succeeded, micros: duration.as_micros() as u64, bytes };
        assert_eq!(command.end.replace(end), None, "it ends once");
    }
}
