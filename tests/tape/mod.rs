//! Recordings made by hand, and connections that ask them: what the tests of replay's matching are written with.

mod leaves;
mod misses;

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::{Document, doc};
use bytes::BytesMut;
use mongotap::capture::exchange::{Exchange, Place, Reply};
use mongotap::event::{ConnectionId, Phase, Timestamp};
use mongotap::replay::{CODE, Explanation, Outcome, Player, Recording, Replaying, Replies, Report, Request, Settings};
use mongotap::wire::{Message, OpMsg, msg_flags};

/// When recordings begin: a whole minute and a bit.
pub(crate) const RECORDED_MS: i64 = 1_700_000_012_345;

/// When they are replayed.
pub(crate) const LIVE_MS: i64 = 1_800_000_034_567;

/// That many milliseconds after the beginning of something.
pub(crate) fn time(start_ms: i64, millis: u64) -> Timestamp {
    let start = Timestamp { monotonic_nanos: 1_000_000_000, unix_micros: start_ms * 1000 };
    start.after(Duration::from_millis(millis))
}

/// A recording that is being made: ten milliseconds from each exchange to the next.
#[derive(Default)]
pub(crate) struct Tape {
    pub(crate) exchanges: Vec<Exchange>,
}

impl Tape {
    /// Adds a question and its answer.
    pub(crate) fn add(&mut self, request: Document, reply: Document) -> &mut Self {
        self.add_all(request, &[reply])
    }

    /// Adds a question and all its answers.
    pub(crate) fn add_all(&mut self, request: Document, replies: &[Document]) -> &mut Self {
        let number = self.exchanges.len() as u64;
        let at = time(RECORDED_MS, number * 10);
        let reply = |reply: &Document| Reply { at: at.after(Duration::from_millis(2)), body: reply.to_vec().unwrap() };
        self.exchanges.push(Exchange {
            place: Place::Exchange(number + 1),
            connection: ConnectionId(1),
            app_name: None,
            phase: Phase::App,
            at,
            request: request.to_vec().unwrap(),
            wants_reply: !replies.is_empty(),
            replies: replies.iter().map(reply).collect(),
        });
        self
    }

    /// Puts it in use.
    pub(crate) fn replay(&self, settings: Settings) -> Live {
        let recording = Recording::new(self.exchanges.clone(), settings);
        Live { replaying: Arc::new(Replaying::new(Arc::new(recording))) }
    }
}

/// A recording in use.
pub(crate) struct Live {
    pub(crate) replaying: Arc<Replaying>,
}

impl Live {
    /// A new connection.
    pub(crate) fn connect(&self) -> Asker {
        Asker { player: Player::new(Arc::clone(&self.replaying)), millis: 0, flags: 0, ticks: None }
    }

    pub(crate) fn report(&self) -> Report {
        self.replaying.report()
    }
}

/// A connection.
pub(crate) struct Asker {
    pub(crate) player: Player,
    /// The time, in milliseconds since the replay began.
    pub(crate) millis: u64,
    /// The flags of its messages.
    pub(crate) flags: u32,
    /// When it is to be called again.
    pub(crate) ticks: Option<Timestamp>,
}

impl Asker {
    /// Asks, and gives all answers that come at once.
    pub(crate) fn ask_all(&mut self, command: &Document) -> Vec<Document> {
        let command = RawDocumentBuf::try_from(command).unwrap();
        let mut frame = BytesMut::new();
        OpMsg::new(self.flags, command.as_bytes()).encode(1, 0, &mut frame).unwrap();
        let request = Request::decode(&frame, 1 << 24).unwrap();
        let mut replies = Replies::default();
        match self.player.handle(request, time(LIVE_MS, self.millis), &mut replies) {
            Outcome::Answered => {}
            Outcome::Housekeeping(request) => {
                replies.reply(&request, &bson::rawdoc! { "ok": 1.0, "housekeeping": true })
            }
            Outcome::Missed(missed) => self.player.refuse(&missed, &mut replies),
        }
        self.take(&mut replies)
    }

    /// Lets time pass, and gives what comes then.
    pub(crate) fn tick(&mut self, millis: u64) -> Vec<Document> {
        self.millis += millis;
        let mut replies = Replies::default();
        self.player.tick(time(LIVE_MS, self.millis), &mut replies);
        self.take(&mut replies)
    }

    fn take(&mut self, replies: &mut Replies) -> Vec<Document> {
        self.ticks = replies.take_tick();
        let document = |frame: bytes::Bytes| match Message::decode(&frame).unwrap().1 {
            Message::Msg(message) => Document::from_reader(message.body).unwrap(),
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(|| replies.next_frame()).map(document).collect()
    }

    /// Asks what has one answer.
    pub(crate) fn ask(&mut self, command: Document) -> Document {
        let mut answers = self.ask_all(&command);
        assert_eq!(answers.len(), 1, "{command}");
        answers.remove(0)
    }

    /// Asks what has no answer; gives the error's message.
    pub(crate) fn miss(&mut self, command: Document) -> String {
        let answer = self.ask(command);
        assert_eq!(answer.get_i32("code").ok(), Some(CODE), "{answer}");
        answer.get_str("errmsg").unwrap().to_owned()
    }

    /// How the last request came by its answer.
    pub(crate) fn explanation(&mut self) -> Explanation {
        self.player.take_explanation().unwrap()
    }

    /// Says that no answer is wanted, or several are.
    pub(crate) fn with_flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }
}

/// Flags of messages that want no answer, and that want several.
pub(crate) const SILENT: u32 = msg_flags::MORE_TO_COME;
pub(crate) const EXHAUST: u32 = msg_flags::EXHAUST_ALLOWED;

/// The answer to a write of so many documents.
pub(crate) fn written(n: i32) -> Document {
    doc! { "n": n, "ok": 1.0 }
}

/// The first batch of a cursor; 0 if it is all.
pub(crate) fn first_batch(id: i64, documents: impl IntoIterator<Item = Document>) -> Document {
    let batch = documents.into_iter().collect::<Vec<_>>();
    doc! { "cursor": { "firstBatch": batch, "id": id, "ns": "d.c" }, "ok": 1.0 }
}

/// A further batch.
pub(crate) fn next_batch(id: i64, documents: impl IntoIterator<Item = Document>) -> Document {
    let batch = documents.into_iter().collect::<Vec<_>>();
    doc! { "cursor": { "nextBatch": batch, "id": id, "ns": "d.c" }, "ok": 1.0 }
}
