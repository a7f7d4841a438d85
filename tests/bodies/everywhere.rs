//! Everything that is made of a conversation: logs in every format, statistics, a capture and all that is made of that.

use std::fmt::Write as _;
use std::io::Cursor;
use std::sync::{Arc, Mutex};

use mongotap::bson::json::{Mode, write_document};
use mongotap::capture::convert::record;
use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::fixture::collect;
use mongotap::capture::mtap::{CaptureError, Header, Records, block_content, write_records};
use mongotap::capture::pcap::write_packets;
use mongotap::capture::source::Source;
use mongotap::event::{Entry, Input, Side};
use mongotap::pipeline::{Pipeline, Topologies};
use mongotap::redact::Redacted;
use mongotap::replay::{Outcome, Player, Recording, Replaying, Replies, Request, Settings};
use mongotap::session::{Limits, Observations, Observing, Shared};
use mongotap::sink::{Format, Options, Statistics};

use super::nobodies::connection;
use super::session::AT;

/// Bytes of a side.
pub(super) struct Said {
    pub(super) side: Side,
    pub(super) bytes: Vec<u8>,
}

/// Everything, by what it is. Each side's bytes come in pieces of that length.
pub(super) fn outputs(said: &[Said], length: usize, limits: Limits) -> Vec<(&'static str, Vec<u8>)> {
    let mut logs = Logs::default();
    let (observations, observed) = Observations::channel();
    let shared = Shared { limits, observations, ..Shared::default() };
    let mut pipeline = Pipeline::new(connection(), AT, shared.clone());
    feed(&mut pipeline, said, length, &mut logs);
    logs.topologies(&observed);

    let records = Arc::new(Mutex::new(Records::default()));
    let kept = Arc::clone(&records);
    let tap = Box::new(move |input: &Redacted<Input<'_>>| kept.lock().unwrap().push(input));
    let mut pipeline = Pipeline::recorded(connection(), AT, shared, tap);
    feed(&mut pipeline, said, length, &mut logs);
    logs.topologies(&observed);

    let header = Header {
        max_message_bytes: limits.max_message_bytes,
        inflate_max_bytes: limits.inflate_max_bytes,
        ..Header::default()
    };
    let mut block = Vec::new();
    write_records(&records.lock().unwrap(), &mut block);
    let capture = [header.to_bytes(), block.clone()].concat();
    let mut outputs = logs.outputs();
    outputs.push(("the records of the capture", block_content(&block).unwrap()));
    outputs.extend(of_capture(&capture, said));
    outputs
}

fn feed(pipeline: &mut Pipeline, said: &[Said], length: usize, logs: &mut Logs) {
    for Said { side, bytes } in said {
        bytes.chunks(length).for_each(|piece| pipeline.handle_bytes(*side, piece, AT, &mut |entry| logs.take(entry)));
        pipeline.handle_sent(AT, &mut |entry| logs.take(entry));
    }
    pipeline.handle_close(Some(Side::Server), Some("reset"), AT, &mut |entry| logs.take(entry));
}

/// What is made of a capture, and of asking it what was asked.
fn of_capture(capture: &[u8], said: &[Said]) -> Vec<(&'static str, Vec<u8>)> {
    let mut lines = Vec::new();
    let mut source = Source::open(Cursor::new(capture), Some(&Options::default())).unwrap();
    while let Some((_, line)) = source.next_item().unwrap() {
        lines.extend_from_slice(line);
    }
    let mut packets = Vec::new();
    write_packets(capture, &mut packets).unwrap();
    let exchanges: Vec<_> = Exchanges::new([capture]).collect::<Result<_, CaptureError>>().unwrap();
    let mut shown = Vec::new();
    for exchange in &exchanges {
        let replies = exchange.replies.iter().map(|reply| &reply.body);
        for document in std::iter::once(&exchange.request).chain(replies) {
            shown.extend_from_slice(document);
            write_document(document, Mode::Canonical, &mut shown);
        }
    }
    let fixture = collect(exchanges.iter().cloned().map(Ok::<_, CaptureError>), "a test").unwrap().fixture;
    let mut again = Vec::new();
    let written = fixture.exchanges.iter().cloned().map(Ok::<_, std::io::Error>);
    record(&fixture.header, written, &mut again).unwrap();
    vec![
        ("the capture", capture.to_vec()),
        ("the capture's events", lines),
        ("the packets of the capture", packets),
        ("the exchanges of the capture", shown),
        ("a capture of the fixture", again),
        ("the fixture", fixture.to_text().into_bytes()),
        ("the report of a replay", asked(exchanges, said)),
    ]
}

/// What replay tells when it is asked what the conversation asked.
fn asked(exchanges: Vec<mongotap::capture::exchange::Exchange>, said: &[Said]) -> Vec<u8> {
    let recording = Recording::new(exchanges, Settings { explain: true, ..Settings::default() });
    let replaying = Arc::new(Replaying::new(Arc::new(recording)));
    let mut player = Player::new(Arc::clone(&replaying));
    let mut told = String::new();
    for Said { bytes, .. } in said.iter().filter(|said| said.side == Side::Client) {
        let Ok(request) = Request::decode(bytes, 1 << 20) else { continue };
        let mut replies = Replies::default();
        if let Outcome::Missed(missed) = player.handle(request, AT, &mut replies) {
            player.refuse(&missed, &mut replies);
        }
        if let Some(explanation) = player.take_explanation() {
            writeln!(told, "{explanation}").unwrap();
        }
    }
    let report = replaying.report();
    format!("{told}{report}{}", report.to_json()).into_bytes()
}

/// The lines of each format, what a listener may print, and the statistics.
struct Logs {
    renderers: Vec<(&'static str, Box<dyn mongotap::sink::Render>, Vec<u8>)>,
    listened: String,
    statistics: Statistics,
    topologies: Topologies,
}

impl Default for Logs {
    fn default() -> Self {
        let options = Options { max_document_bytes: 10_000, colour: true, ..Options::default() };
        let renderer = |format: Format| (format.as_str(), format.renderer(&options), Vec::new());
        Self {
            renderers: Format::ALL.into_iter().map(renderer).collect(),
            listened: String::new(),
            statistics: Statistics::default(),
            topologies: Topologies::new((&Header::default().topology).into()),
        }
    }
}

impl Logs {
    fn take(&mut self, entry: &Redacted<Entry<'_>>) {
        self.renderers.iter_mut().for_each(|(_, renderer, lines)| renderer.render(entry, lines));
        writeln!(self.listened, "{entry:?}").unwrap();
        self.statistics.observe(entry);
    }

    /// What follows from what the sessions observed.
    fn topologies(&mut self, observed: &Observing) {
        let mut entries = Vec::new();
        observed.try_iter().for_each(|observation| self.topologies.handle(observation));
        self.topologies.close(AT, &mut |entry| entries.push(entry.clone().into_owned()));
        entries.iter().for_each(|entry| self.take(entry));
    }

    fn outputs(self) -> Vec<(&'static str, Vec<u8>)> {
        let table = self.statistics.table() + &self.statistics.json().to_string();
        let mut outputs: Vec<_> = self.renderers.into_iter().map(|(name, _, lines)| (name, lines)).collect();
        outputs.push(("what a listener prints", self.listened.into_bytes()));
        outputs.push(("the statistics", table.into_bytes()));
        outputs
    }
}
