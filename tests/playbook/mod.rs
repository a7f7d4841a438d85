//! Runs a playbook: its inputs through pipelines, the outputs after them.

#[path = "../bodies/derived.rs"]
mod derived;
mod input;
mod render;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mongotap::capture::mtap::{Header, Records, write_records};
use mongotap::event::{Address, Connection, ConnectionId, Entry, Side, Timestamp};
use mongotap::pipeline::{Pipeline, Topologies};
use mongotap::redact::Redacted;
use mongotap::session::{Limits, Observations, Observing, Shared};

use derived::{derived, description};
use input::{Action, Input};

/// When a playbook begins: 2026-11-22T07:44:31Z, the monotonic clock at 0.
const BEGIN: Timestamp = Timestamp { monotonic_nanos: 0, unix_micros: 1_795_333_471_000_000 };

/// A playbook's text with its outputs as they are, each message fed in pieces of `length` bytes.
pub(crate) fn transcript(name: &str, text: &str, length: usize) -> String {
    let (limits, connections) = (Limits::default(), BTreeMap::new());
    let mut stage = Stage { now: BEGIN, limits, shared: None, derived: None, connections, length, recording: None };
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with("<<") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if let Some(words) = line.strip_prefix(">>") {
            let input = Input::parse(words).unwrap_or_else(|error| panic!("{name}:{}: {error}", number + 1));
            stage.play(input).iter().for_each(|output| out += &format!("<< {output}\n"));
        }
    }
    out
}

/// Everything that is seen of a playbook while it is recorded, and everything that is derived from the recording; and the
/// recording. Documents are not cut, for what is cut cannot be recorded.
pub(crate) fn recorded(name: &str, text: &str, length: usize) -> (Vec<String>, Vec<String>, Vec<u8>) {
    let (limits, connections) = (Limits::default(), BTreeMap::new());
    let recording = Some(Recording::default());
    let mut stage = Stage { now: BEGIN, limits, shared: None, derived: None, connections, length, recording };
    let inputs = text.lines().enumerate().filter_map(|(number, line)| Some((number, line.strip_prefix(">>")?)));
    for (number, words) in inputs {
        let input = Input::parse(words).unwrap_or_else(|error| panic!("{name}:{}: {error}", number + 1));
        stage.play(input);
    }
    let header = Header {
        max_message_bytes: stage.limits.max_message_bytes,
        inflate_max_bytes: stage.limits.inflate_max_bytes,
        idle_after_micros: u64::try_from(Shared::default().idle_after.as_micros()).unwrap(),
        ..Header::default()
    };
    let Recording { records, seen } = stage.recording.unwrap();
    let mut bytes = header.to_bytes();
    write_records(&records.lock().unwrap(), &mut bytes);
    (seen, derived(&bytes), bytes)
}

/// The lines in which two transcripts differ.
pub(crate) fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(expected, actual)| expected == actual).count();
    let until = |lines: &[&str]| lines.iter().skip(same).take(6).map(|line| format!("{line}\n")).collect::<String>();
    format!("from line {} on, expected\n{}but got\n{}", same + 1, until(&expected), until(&actual))
}

struct Stage {
    now: Timestamp,
    limits: Limits,
    /// Made with the first connection, after the limits.
    shared: Option<Shared>,
    /// Topologies, if the playbook asks for them, and what the sessions observe for them.
    derived: Option<(Topologies, Observing)>,
    connections: BTreeMap<u64, Stand>,
    length: usize,
    /// If the sessions are recorded.
    recording: Option<Recording>,
}

/// What sessions were given, and what was seen of them.
#[derive(Default)]
struct Recording {
    records: Arc<Mutex<Records>>,
    seen: Vec<String>,
}

/// A connection, and what is left of a message that was begun with `cut`.
struct Stand {
    pipeline: Pipeline,
    rest: Vec<u8>,
}

impl Stage {
    fn play(&mut self, input: Input) -> Vec<String> {
        let now = self.now;
        let length = self.length;
        let (mut outputs, mut seen) = (Vec::new(), Vec::new());
        let mut sink = |entry: &Redacted<Entry<'_>>| {
            outputs.push(render::line(entry, now));
            seen.extend(description(entry));
        };
        match input.action {
            Action::At(later) => self.now = after(self.now, later),
            Action::Before(earlier) => self.now = self.now.before(earlier),
            Action::Limits(change) => {
                assert!(self.shared.is_none(), "limits come before the first connection");
                change(&mut self.limits);
            }
            Action::Bytes { side, bytes, cut } => {
                let stand = self.stand(input.connection);
                let (now_sent, rest) = bytes.split_at(cut.unwrap_or(bytes.len()).min(bytes.len()));
                stand.rest = rest.to_vec();
                stand.feed(side, now_sent, length, now, &mut sink);
            }
            Action::Rest(side) => {
                let stand = self.stand(input.connection);
                let rest = std::mem::take(&mut stand.rest);
                stand.feed(side, &rest, length, now, &mut sink);
            }
            Action::Connect { server, client } => {
                self.connect(input.connection, server.as_deref(), client);
            }
            Action::Topologies(settings) => {
                assert!(self.shared.is_none(), "topologies come before the first connection");
                let (observations, observed) = Observations::channel();
                self.shared = Some(Shared { limits: self.limits, observations, ..Shared::default() });
                self.derived = Some((Topologies::new(*settings), observed));
            }
            Action::Derive { is_end } => {
                let (topologies, observed) = self.derived.as_mut().expect("the playbook asks for topologies");
                observed.try_iter().for_each(|observation| topologies.handle(observation));
                match is_end {
                    true => topologies.close(now, &mut sink),
                    false => topologies.handle_tick(now, &mut sink),
                }
            }
            Action::Sent => {
                let pipeline = &mut self.stand(input.connection).pipeline;
                let awaits = pipeline.awaits_sent();
                pipeline.handle_sent(now, &mut sink);
                assert!(awaits != outputs.is_empty(), "awaits_sent is {awaits} before {outputs:?}");
            }
            Action::Tick => self.stand(input.connection).pipeline.handle_tick(now, &mut sink),
            Action::Close { by, error } => {
                self.stand(input.connection).pipeline.handle_close(by, error.as_deref(), now, &mut sink);
            }
            Action::Getters => {
                let pipeline = &self.stand(input.connection).pipeline;
                let (undecided, busy, sent) = (pipeline.is_undecided(), pipeline.is_busy(), pipeline.awaits_sent());
                outputs.push(format!("undecided={undecided} busy={busy} awaits_sent={sent}"));
            }
        }
        if let Some(recording) = &mut self.recording {
            recording.seen.append(&mut seen);
        }
        outputs
    }

    fn stand(&mut self, id: u64) -> &mut Stand {
        self.connect(id, None, None)
    }

    fn connect(&mut self, id: u64, server: Option<&str>, client: Option<String>) -> &mut Stand {
        let (now, limits) = (self.now, self.limits);
        let mut shared = self.shared.get_or_insert_with(|| Shared { limits, ..Shared::default() }).clone();
        let records = self.recording.as_ref().map(|recording| Arc::clone(&recording.records));
        self.connections.entry(id).or_insert_with(|| {
            let connection = Connection {
                id: ConnectionId(id),
                client: client.unwrap_or_else(|| format!("127.0.0.1:{}", 50_000 + id)),
                upstream: "127.0.0.1:27017".into(),
                server: Address::parse(server.unwrap_or("127.0.0.1:27027")),
                tls: false,
            };
            let connection = Arc::new(connection);
            let pipeline = match records {
                None => Pipeline::new(connection, now, shared),
                Some(records) => {
                    // A playbook may have said otherwise.
                    shared.limits.max_document_bytes = 0;
                    let tap = Box::new(move |input: &Redacted<mongotap::event::Input<'_>>| {
                        records.lock().unwrap().push(input)
                    });
                    Pipeline::recorded(connection, now, shared, tap)
                }
            };
            Stand { pipeline, rest: Vec::new() }
        })
    }
}

impl Stand {
    fn feed(
        &mut self,
        side: Side,
        bytes: &[u8],
        length: usize,
        now: Timestamp,
        sink: &mut dyn FnMut(&Redacted<Entry<'_>>),
    ) {
        for piece in bytes.chunks(length) {
            self.pipeline.handle_bytes(side, piece, now, sink);
        }
    }
}

fn after(at: Timestamp, later: Duration) -> Timestamp {
    Timestamp {
        monotonic_nanos: at.monotonic_nanos + u64::try_from(later.as_nanos()).unwrap(),
        unix_micros: at.unix_micros + i64::try_from(later.as_micros()).unwrap(),
    }
}
