//! From a file of packets to a capture.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::connection::Conversation;
use super::file::{End, Packets};
use super::fragments::Fragments;
use super::packet::{Segment, segment};
use super::{PcapError, Summary};
use crate::capture::mtap::{Header, Index, Records, write_records};
use crate::event::{Address, ConnectionId, Timestamp, TopologyType};
use crate::pipeline::Tap;
use crate::session::{Limits, Shared};
use crate::topology::{self, ClientsSettings};
use crate::wire::MESSAGE_LEN_MAX;

/// What a block of the capture holds, at least.
const BLOCK_BYTES: usize = 1 << 20;

/// How often connections are told the time.
const TICK_NANOS: u64 = 1_000_000_000;

/// Connections that are followed at the same time; with more, those that are of no interest are forgotten.
const CONVERSATIONS_MAX: usize = 1 << 16;

/// Reads packets, and writes the capture that they are. `run` tells it from others.
///
/// # Errors
/// [`PcapError`]; what was read before is written, but the capture is not closed.
pub fn read_packets(input: impl Read, run: &str, out: &mut dyn Write) -> Result<Summary, PcapError> {
    let mut reader = PacketReader::open(input)?;
    let mut index = Index::default();
    let (mut bytes, mut offset) = (Vec::new(), 0);
    loop {
        let records = reader.next_block()?;
        if offset == 0 {
            bytes = reader.header(run).to_bytes();
        }
        if let Some(records) = &records {
            index.add(offset + bytes.len() as u64, records);
            write_records(records, &mut bytes);
        } else {
            index.write(offset + bytes.len() as u64, &mut bytes);
        }
        out.write_all(&bytes)?;
        offset += bytes.len() as u64;
        bytes.clear();
        if records.is_none() {
            out.flush()?;
            return Ok(reader.summary().clone());
        }
    }
}

/// Reads packets, and gives the records of a capture.
pub struct PacketReader<'r> {
    packets: Packets<'r>,
    fragments: Fragments,
    conversations: HashMap<[SocketAddr; 2], Conversation>,
    run: Run,
    /// When the first packet was captured, in nanoseconds since 1970.
    base: Option<i64>,
    now: Timestamp,
    ticked_nanos: u64,
    is_over: bool,
}

/// What connections have in common.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) shared: Shared,
    pub(super) summary: Summary,
    records: Arc<Mutex<Records>>,
    last_id: u64,
    /// The first server that was spoken to.
    server: Option<Address>,
}

impl<'r> PacketReader<'r> {
    /// A file, from its beginning.
    ///
    /// # Errors
    /// If it is no file of packets, or cannot be read.
    pub fn open(input: impl Read + 'r) -> Result<Self, PcapError> {
        let limits = Limits { max_document_bytes: 0, ..Limits::default() };
        let shared = Shared { limits, ..Shared::default() };
        Ok(Self {
            packets: Packets::open(input)?,
            fragments: Fragments::default(),
            conversations: HashMap::new(),
            run: Run { shared, summary: Summary::default(), records: Arc::default(), last_id: 0, server: None },
            base: None,
            now: Timestamp::default(),
            ticked_nanos: 0,
            is_over: false,
        })
    }

    /// The next records; `None` at the end.
    ///
    /// # Errors
    /// [`PcapError`], after all that comes before it.
    pub fn next_block(&mut self) -> Result<Option<Records>, PcapError> {
        while !self.is_over && self.run.gathered() < BLOCK_BYTES {
            let Self { packets, fragments, conversations, run, base, now, .. } = self;
            let end = packets.next(&mut |packet| {
                run.summary.packets += 1;
                run.summary.cut_off += u64::from(packet.is_cut_off);
                *now = time(packet.unix_nanos, base, *now);
                match segment(&packet, fragments) {
                    Some(segment) => handle(&segment, conversations, run, *now),
                    None => run.summary.passed_over += 1,
                }
            })?;
            if let Some(end) = end {
                self.end(end);
            } else if self.now.monotonic_nanos - self.ticked_nanos >= TICK_NANOS {
                self.ticked_nanos = self.now.monotonic_nanos;
                self.conversations.values_mut().for_each(|conversation| conversation.tick(self.now));
            }
        }
        Ok((self.run.gathered() > 0).then(|| self.run.take()))
    }

    fn end(&mut self, end: End) {
        self.is_over = true;
        self.run.summary.in_pieces = self.fragments.incomplete();
        if end == End::Torn {
            self.run.summary.torn_at = Some(self.packets.offset());
        }
        let mut left: Vec<_> = self.conversations.drain().collect();
        left.sort_by_key(|(addresses, _)| *addresses);
        left.iter_mut().for_each(|(_, conversation)| conversation.finish(self.now, &mut self.run));
        self.run.records.lock().unwrap_or_else(PoisonError::into_inner).push_ended(self.now);
    }

    /// What a capture of them begins with; the server is known once the first records are there.
    pub fn header(&self, run: &str) -> Header {
        let server = self.run.server.as_ref().map(ToString::to_string).unwrap_or_default();
        let base = self.base.unwrap_or_default();
        Header {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            run: run.to_owned(),
            part: 0,
            listen: server.clone(),
            upstream: server,
            started_nanos: 0,
            started_micros: base / 1000,
            max_message_bytes: MESSAGE_LEN_MAX,
            inflate_max_bytes: MESSAGE_LEN_MAX,
            idle_after_micros: self.run.shared.idle_after.as_micros() as u64,
            topology: (&self.topology()).into(),
            redacted: false,
            redact: Vec::new(),
        }
    }

    /// Clients connect to the servers themselves, and what they know of them is in the replies to their `hello`.
    fn topology(&self) -> ClientsSettings {
        let seeds = topology::Settings {
            seeds: self.run.server.iter().cloned().collect(),
            initial: TopologyType::Unknown,
            ..topology::Settings::default()
        };
        ClientsSettings { per_client: true, closed_after: GONE_AFTER, ended_after: ENDED_AFTER, seeds }
    }

    /// What was found so far.
    pub fn summary(&self) -> &Summary {
        &self.run.summary
    }
}

/// The defaults of what is configured live.
const GONE_AFTER: Duration = Duration::from_secs(30);
const ENDED_AFTER: Duration = Duration::from_millis(500);

impl Run {
    /// The number of a connection, in the order in which they were asked for.
    pub(super) fn next_id(&mut self) -> ConnectionId {
        self.last_id += 1;
        ConnectionId(self.last_id)
    }

    pub(super) fn listens(&mut self, server: &Address) {
        self.server.get_or_insert_with(|| server.clone());
    }

    pub(super) fn tap(&self) -> Tap {
        let records = Arc::clone(&self.records);
        Box::new(move |input| records.lock().unwrap_or_else(PoisonError::into_inner).push(input))
    }

    pub(super) fn missing(&self, at: Timestamp, bytes: u64, reason: &str) {
        // Which exchanges they belong to is not known; what they leave unanswered fails with the same reason.
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push_missing(at, 0, bytes, reason);
    }

    fn gathered(&self) -> usize {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).bytes().len()
    }

    fn take(&self) -> Records {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The time of a packet. It never goes back, as packets do a little that were captured on several cores.
fn time(unix_nanos: i64, base: &mut Option<i64>, now: Timestamp) -> Timestamp {
    let base = *base.get_or_insert(unix_nanos);
    let monotonic_nanos = u64::try_from(unix_nanos.saturating_sub(base)).unwrap_or_default().max(now.monotonic_nanos);
    let since = i64::try_from(monotonic_nanos).unwrap_or(i64::MAX);
    Timestamp { monotonic_nanos, unix_micros: base.saturating_add(since) / 1000 }
}

fn handle(
    segment: &Segment<'_>,
    conversations: &mut HashMap<[SocketAddr; 2], Conversation>,
    run: &mut Run,
    now: Timestamp,
) {
    let (direct, reverse) = ([segment.from, segment.to], [segment.to, segment.from]);
    let (key, from) = if conversations.contains_key(&reverse) { (reverse, 1) } else { (direct, 0) };
    if let Some(conversation) = conversations.get_mut(&key) {
        if !conversation.is_succeeded_by(segment, from) {
            return conversation.handle(segment, from, now, run);
        }
        conversation.finish(now, run);
        conversations.remove(&key);
    }
    begin(segment, conversations, run, now);
}

fn begin(
    segment: &Segment<'_>,
    conversations: &mut HashMap<[SocketAddr; 2], Conversation>,
    run: &mut Run,
    now: Timestamp,
) {
    if !segment.syn && segment.payload.is_empty() {
        return;
    }
    if conversations.len() >= CONVERSATIONS_MAX {
        conversations.retain(|_, conversation| !conversation.is_of_no_interest());
    }
    let addresses = [segment.from, segment.to];
    let mut conversation = Conversation::new(addresses, segment, now, run);
    conversation.handle(segment, 0, now, run);
    conversations.insert(addresses, conversation);
}
