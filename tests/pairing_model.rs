//! Pairing against a reference that shares no code with the session: a plain list of what is expected.
//!
//! Random conversations, legal and not, cut into random pieces: what the session says must be what the model says. The
//! model also has each of its rules broken in turn; every such model must be told from the session, or the comparison
//! would not see a session that is broken in the same way. `PROPTEST_CASES` sets the number of conversations.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod conversation;
mod nobodies;

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use conversation::{Conversation, Frame, Seen, conversations, seen_by_a_session};
use mongotap::event::Side;

// --- the model

/// A rule of pairing that a model has wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Broken {
    ARequestOfAUsedIdReplacesTheOlder,
    AReplyAnswersTheNewest,
    AReplyAnswersTheOldestWhateverItNames,
    AnAnomalyIsSaidEveryTime,
    AnUnreadableReplyIsPassedOver,
    AnUnreadableRequestDoesNotWait,
    AnUnreadableWriteWaits,
    MoreToComeEndsTheExchange,
    MoreToComeGoesToTheEndOfTheQueue,
    MoreToComeKeepsTheExchange,
    MoreToComeKeepsTheKey,
    MoreToComeKeepsTheRequestId,
    MoreToComeNamesThePartBefore,
    MoreToComeNeedsExhaustAllowed,
    NegativeIdsAreNoIds,
    NotOkIsASuccess,
    SentEndsEverything,
    TheEndForgetsStreams,
    TheEndForgetsWhatIsUnsent,
    TheEndForgetsWhatWaits,
    TheEndGoesBackwards,
    TheEndTakesWhatIsUnsentLast,
    UnacknowledgedWaits,
    ZeroIsNoId,
}

use Broken::*;

const BROKEN: [Broken; 24] = [
    ARequestOfAUsedIdReplacesTheOlder,
    AReplyAnswersTheNewest,
    AReplyAnswersTheOldestWhateverItNames,
    AnAnomalyIsSaidEveryTime,
    AnUnreadableReplyIsPassedOver,
    AnUnreadableRequestDoesNotWait,
    AnUnreadableWriteWaits,
    MoreToComeEndsTheExchange,
    MoreToComeGoesToTheEndOfTheQueue,
    MoreToComeKeepsTheExchange,
    MoreToComeKeepsTheKey,
    MoreToComeKeepsTheRequestId,
    MoreToComeNamesThePartBefore,
    MoreToComeNeedsExhaustAllowed,
    NegativeIdsAreNoIds,
    NotOkIsASuccess,
    SentEndsEverything,
    TheEndForgetsStreams,
    TheEndForgetsWhatIsUnsent,
    TheEndForgetsWhatWaits,
    TheEndGoesBackwards,
    TheEndTakesWhatIsUnsentLast,
    UnacknowledgedWaits,
    ZeroIsNoId,
];

/// Something that was asked and has no end yet.
#[derive(Clone, Debug)]
struct Expected {
    /// What a reply to it names.
    key: i32,
    /// The request's `n`; `None` if it cannot be read and so is not told of.
    n: Option<i32>,
    id: i32,
    exchange: u64,
    continues: Option<u64>,
    exhaust: bool,
    /// Its end is its being sent.
    unsent: bool,
}

/// All that is expected, in the order in which it was asked.
struct Model {
    broken: Option<Broken>,
    expected: Vec<Expected>,
    exchange: u64,
    offsets: [u64; 2],
    said: BTreeSet<&'static str>,
    seen: Vec<Seen>,
}

fn model(conversation: &Conversation, broken: Option<Broken>) -> Vec<Seen> {
    let offsets = [0, 0];
    let mut model = Model { broken, expected: vec![], exchange: 0, offsets, said: BTreeSet::new(), seen: vec![] };
    for (n, frame) in conversation.frames.iter().enumerate() {
        let n = i32::try_from(n).unwrap();
        model.frame(frame, n);
        if let Some(side) = frame.side() {
            model.offsets[side as usize] += frame.bytes(n).len() as u64;
        }
    }
    model.end();
    model.seen
}

impl Model {
    fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    fn frame(&mut self, frame: &Frame, n: i32) {
        match *frame {
            Frame::Command { id, exhaust, .. } => self.ask(id, n, exhaust, false),
            Frame::Unacknowledged { id, .. } => {
                let waits = self.is(UnacknowledgedWaits);
                self.ask(id, n, false, !waits);
            }
            Frame::UnreadableRequest { id } => {
                self.say("unreadable", Side::Client);
                if !self.is(AnUnreadableRequestDoesNotWait) {
                    self.wait_unread(id);
                }
            }
            Frame::UnreadableWrite { id } => {
                self.say("unreadable", Side::Client);
                if self.is(AnUnreadableWriteWaits) {
                    self.wait_unread(id);
                }
            }
            Frame::Reply { id, to, more, ok, .. } => self.reply(id, to, more, Some((n, ok))),
            Frame::UnreadableReply { id, to } => self.reply(id, to, false, None),
            Frame::Sent => self.sent(),
        }
    }

    fn ask(&mut self, id: i32, n: i32, exhaust: bool, unsent: bool) {
        if self.waiting().first().is_some_and(|&first| self.expected[first].continues.is_some()) {
            self.say("within a stream", Side::Client);
        }
        if self.is(ARequestOfAUsedIdReplacesTheOlder) {
            self.expected.retain(|other| other.unsent || other.key != id);
        }
        self.exchange += 1;
        let expected = Expected { key: id, n: Some(n), id, exchange: self.exchange, continues: None, exhaust, unsent };
        self.seen.push(expected.started(Some(n)));
        self.expected.push(expected);
    }

    fn wait_unread(&mut self, id: i32) {
        self.exchange += 1;
        let exchange = self.exchange;
        self.expected.push(Expected { key: id, n: None, id, exchange, continues: None, exhaust: false, unsent: false });
    }

    /// Where those are that wait for a reply.
    fn waiting(&self) -> Vec<usize> {
        (0..self.expected.len()).filter(|&at| !self.expected[at].unsent).collect()
    }

    fn find(&self, to: i32) -> Option<usize> {
        let waiting = self.waiting();
        let named = |at: &&usize| self.expected[**at].key == to;
        match self.broken {
            Some(ZeroIsNoId) if to == 0 => None,
            Some(NegativeIdsAreNoIds) if to < 0 => None,
            Some(AReplyAnswersTheNewest) => waiting.iter().rev().find(named).copied(),
            Some(AReplyAnswersTheOldestWhateverItNames) => waiting.first().copied(),
            _ => waiting.iter().find(named).copied(),
        }
    }

    /// `content` is the reply's `n` and whether it is ok; `None` if it cannot be read.
    fn reply(&mut self, id: i32, to: i32, more: bool, content: Option<(i32, bool)>) {
        let Some(at) = self.find(to) else { return self.say("unmatched", Side::Server) };
        if self.waiting().first() != Some(&at) {
            self.say("out of order", Side::Server);
        }
        if content.is_none() && self.is(AnUnreadableReplyIsPassedOver) {
            return self.say("unreadable", Side::Server);
        }
        let answered = self.expected.remove(at);
        let Some(asked) = answered.n else { return };
        let Some((n, ok)) = content else {
            self.seen.push(answered.failed(None));
            return self.say("unreadable", Side::Server);
        };
        let ok = ok || self.is(NotOkIsASuccess);
        self.seen.push(if ok { answered.succeeded(Some(n)) } else { answered.failed(Some(n)) });
        let streams = more && (answered.exhaust || !self.is(MoreToComeNeedsExhaustAllowed));
        if streams && !self.is(MoreToComeEndsTheExchange) {
            self.stream(at, answered, id, asked);
        }
    }

    fn stream(&mut self, at: usize, part: Expected, id: i32, asked: i32) {
        let exchange = if self.is(MoreToComeKeepsTheExchange) { part.exchange } else { self.exchange + 1 };
        self.exchange = self.exchange.max(exchange);
        let before = Some(part.exchange);
        let next = Expected {
            key: if self.is(MoreToComeKeepsTheKey) { part.key } else { id },
            id: if self.is(MoreToComeKeepsTheRequestId) { part.id } else { id },
            exchange,
            continues: if self.is(MoreToComeNamesThePartBefore) { before } else { part.continues.or(before) },
            ..part
        };
        self.seen.push(next.started(next.exhaust.then_some(asked)));
        let at = if self.is(MoreToComeGoesToTheEndOfTheQueue) { self.expected.len() } else { at };
        self.expected.insert(at, next);
    }

    fn sent(&mut self) {
        let all = self.is(SentEndsEverything);
        let (sent, left) = std::mem::take(&mut self.expected).into_iter().partition(|it| it.unsent || all);
        self.expected = left;
        let sent: Vec<Expected> = sent;
        self.seen.extend(sent.iter().filter(|it| it.n.is_some()).map(|it| it.succeeded(None)));
    }

    fn end(&mut self) {
        let mut left = std::mem::take(&mut self.expected);
        match self.broken {
            Some(TheEndForgetsStreams) => left.retain(|it| it.continues.is_none()),
            Some(TheEndForgetsWhatIsUnsent) => left.retain(|it| !it.unsent),
            Some(TheEndForgetsWhatWaits) => left.clear(),
            Some(TheEndGoesBackwards) => left.reverse(),
            Some(TheEndTakesWhatIsUnsentLast) => left.sort_by_key(|it| it.unsent),
            _ => {}
        }
        self.seen.extend(left.iter().filter(|it| it.n.is_some()).map(|it| it.failed(None)));
    }

    /// Something is wrong: said once of its kind.
    fn say(&mut self, what: &'static str, side: Side) {
        if self.said.insert(what) || self.is(AnAnomalyIsSaidEveryTime) {
            self.seen.push(Seen::Error { side, offset: self.offsets[side as usize] });
        }
    }
}

impl Expected {
    fn started(&self, n: Option<i32>) -> Seen {
        Seen::Started { exchange: self.exchange, id: self.id, continues: self.continues, n }
    }

    fn succeeded(&self, n: Option<i32>) -> Seen {
        Seen::Succeeded { exchange: self.exchange, id: self.id, continues: self.continues, n }
    }

    fn failed(&self, n: Option<i32>) -> Seen {
        Seen::Failed { exchange: self.exchange, id: self.id, continues: self.continues, n }
    }
}

// --- the comparison

fn config() -> Config {
    Config { failure_persistence: None, ..Config::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_session_says_what_the_model_says(conversation in conversations()) {
        prop_assert_eq!(seen_by_a_session(&conversation), model(&conversation, None));
    }

    #[test]
    fn pieces_make_no_difference(conversation in conversations(), pieces in prop::collection::vec(1_usize..50, 1..6)) {
        let whole = Conversation { pieces: vec![usize::MAX], ..conversation.clone() };
        let expected = conversation::entries(&whole);
        for pieces in [vec![1], pieces] {
            let cut = Conversation { pieces, ..conversation.clone() };
            prop_assert_eq!(&conversation::entries(&cut), &expected);
        }
    }

    /// Nothing is left open, whatever is said.
    #[test]
    fn every_start_has_its_end(conversation in conversations()) {
        let mut open = BTreeSet::new();
        for seen in seen_by_a_session(&conversation) {
            match seen {
                Seen::Started { exchange, .. } => prop_assert!(open.insert(exchange)),
                Seen::Succeeded { exchange, .. } | Seen::Failed { exchange, .. } => prop_assert!(open.remove(&exchange)),
                Seen::Error { .. } => {}
            }
        }
        prop_assert!(open.is_empty());
    }
}

/// How many conversations a broken rule may take to be found out.
const FOUND_WITHIN: u32 = 3000;

#[test]
fn every_broken_rule_is_found_out() {
    for broken in BROKEN {
        let mut runner = TestRunner::deterministic();
        let found = (0..FOUND_WITHIN).any(|_| {
            let conversation = conversations().new_tree(&mut runner).unwrap().current();
            seen_by_a_session(&conversation) != model(&conversation, Some(broken))
        });
        assert!(found, "{broken:?} was not found out in {FOUND_WITHIN} conversations");
    }
}

/// A conversation that any session gets right, so that the others are not equal for want of content.
#[test]
fn the_model_and_the_session_see_something() {
    let mut runner = TestRunner::deterministic();
    let mut counts = [0_usize; 4];
    for _ in 0..200 {
        let conversation = conversations().new_tree(&mut runner).unwrap().current();
        for seen in model(&conversation, None) {
            let kind = match seen {
                Seen::Started { .. } => 0,
                Seen::Succeeded { .. } => 1,
                Seen::Failed { .. } => 2,
                Seen::Error { .. } => 3,
            };
            counts[kind] += 1;
        }
    }
    assert!(counts.iter().all(|count| *count >= 100), "{counts:?}");
}
