//! What change streams and tailable cursors tell, event by event: how many come in one batch, and in which reply, is
//! chance. What one side has told before the other waits for it.
//!
//! Each pair of change events says which live resume token is the recorded one's. What the live server has told beyond the
//! recording's end is not looked at: the recorded client may have gone before it came.

use std::collections::{HashMap, VecDeque};

use super::known::Known;
use super::translate::Untranslatable;
use crate::bson::{Elements, find, find_path};
use crate::capture::exchange::Exchange;
use crate::replay::streams::documents;

/// Resume tokens that are remembered.
const TOKENS_MAX: usize = 100_000;

/// Events of one stream that one side may have told before the other.
const AHEAD_MAX: usize = 10_000;

/// The streams of a recording, by its cursors.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    streams: HashMap<i64, Stream>,
    tokens: Known<Vec<u8>>,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    /// What the other side has not told.
    recorded: VecDeque<Vec<u8>>,
    live: VecDeque<Vec<u8>>,
    /// Of both sides' events.
    told: u64,
    /// The live token of the last of them.
    last: Option<Vec<u8>>,
    /// Recorded events for which there was no room.
    beyond: usize,
    /// What told the last recorded event, without its answers.
    exchange: Option<Exchange>,
}

/// An event that both sides have told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Told {
    /// Which one of its stream it is, from 1.
    pub(super) number: u64,
    pub(super) recorded: Vec<u8>,
    pub(super) live: Vec<u8>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { streams: HashMap::new(), tokens: Known::new(TOKENS_MAX) }
    }
}

impl Streams {
    /// Takes a reply to that recorded cursor; what both sides have told by it.
    pub(super) fn take(&mut self, exchange: &Exchange, id: i64, recorded: &[u8], live: &[u8]) -> Vec<Told> {
        let stream = self.streams.entry(id).or_default();
        let before = stream.recorded.len() + stream.beyond;
        stream.beyond += append(&mut stream.recorded, recorded);
        if stream.recorded.len() + stream.beyond > before {
            stream.exchange = Some(without_replies(exchange));
        }
        append(&mut stream.live, live);
        let both = stream.recorded.len().min(stream.live.len());
        let pairs = stream.recorded.drain(..both).zip(stream.live.drain(..both));
        let told = (stream.told + 1..).zip(pairs);
        let told: Vec<_> = told.map(|(number, (recorded, live))| Told { number, recorded, live }).collect();
        for Told { number, recorded, live } in &told {
            stream.told = *number;
            if let Some((recorded, live)) = token(recorded).zip(token(live)) {
                stream.last = Some(live.to_vec());
                self.tokens.insert(recorded.to_vec(), live.to_vec());
            }
        }
        // The place behind all events; if live there are more, the one behind the last that the recording told.
        let place =
            |reply| find_path(reply, &[b"cursor", b"postBatchResumeToken"]).and_then(|token| token.as_document());
        if stream.recorded.is_empty()
            && let Some((recorded, live)) = place(recorded).zip(place(live))
        {
            let live = if stream.live.is_empty() { Some(live) } else { stream.last.as_deref() };
            if let Some(live) = live {
                self.tokens.insert(recorded.to_vec(), live.to_vec());
            }
        }
        let is_over = find_path(recorded, &[b"cursor", b"id"]).is_some_and(|id| id.as_i64() == Some(0));
        if is_over {
            self.end(id);
        }
        told
    }

    /// The recorded cursor is asked no more.
    pub(super) fn end(&mut self, id: i64) {
        if self.streams.get(&id).is_some_and(|stream| stream.recorded.is_empty()) {
            self.streams.remove(&id);
        }
    }

    /// The live token in the place of a recorded one.
    pub(super) fn token(&self, recorded: &[u8]) -> Result<&[u8], Untranslatable> {
        if let Some(live) = self.tokens.get(recorded) {
            return Ok(live);
        }
        let is_awaited = |event: &Vec<u8>| token(event) == Some(recorded);
        let is_untold = self.streams.values().any(|stream| stream.recorded.iter().any(is_awaited));
        Err(if is_untold { Untranslatable::Change } else { Untranslatable::Before })
    }

    /// What was told in the recording and was not live.
    pub(super) fn untold(&self) -> Vec<(&Exchange, usize)> {
        let behind = self.streams.values().filter(|stream| !stream.recorded.is_empty());
        let mut untold: Vec<_> = behind
            .filter_map(|stream| Some((stream.exchange.as_ref()?, stream.recorded.len() + stream.beyond)))
            .collect();
        untold.sort_by_key(|(exchange, _)| exchange.place);
        untold
    }
}

/// Appends the events of a reply; how many there was no room for.
fn append(events: &mut VecDeque<Vec<u8>>, reply: &[u8]) -> usize {
    let mut beyond = 0;
    for event in documents(reply) {
        if events.len() < AHEAD_MAX {
            events.push_back(event.to_vec());
        } else {
            beyond += 1;
        }
    }
    beyond
}

fn without_replies(exchange: &Exchange) -> Exchange {
    let Exchange { place, connection, phase, at, wants_reply, .. } = *exchange;
    let (app_name, request) = (exchange.app_name.clone(), exchange.request.clone());
    Exchange { place, connection, app_name, phase, at, request, wants_reply, replies: Vec::new() }
}

/// The resume token of a change event.
fn token(event: &[u8]) -> Option<&[u8]> {
    let id = is_change(event).then(|| find(event, b"_id"))??;
    id.as_document()
}

/// Whether it is a change event, not a document of a tailable cursor.
pub(super) fn is_change(event: &[u8]) -> bool {
    Elements::readable(event).any(|element| element.name == b"operationType")
}
