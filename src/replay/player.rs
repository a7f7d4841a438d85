//! One connection that is answered from a recording.

use std::sync::Arc;

use bson::raw::RawDocument;

use super::explain::Explanation;
use super::miss::Miss;
use super::replaying::Replaying;
use super::{Replies, Request};
use crate::event::Timestamp;

/// Answers the commands of one connection that are neither its handshake nor its authentication.
///
/// [`handle`](Self::handle) is given each request and says what became of it; [`tick`](Self::tick) follows what
/// [`Replies::tick_at`] asked for.
#[derive(Debug)]
pub struct Player {
    replaying: Arc<Replaying>,
    app_name: Option<Arc<str>>,
    explanation: Option<Explanation>,
}

/// What became of a request.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It was answered, needs no answer, or is answered at the next tick.
    Answered,
    /// It was never recorded, and is of those that drivers and tools send by themselves (`ping`, `buildInfo`,
    /// `endSessions` and their like): the caller answers it.
    Housekeeping(Request),
    /// The recording has no answer: see [`Player::refuse`] and [`Player::forwarded`].
    Missed(Box<Missed>),
}

/// A request without an answer.
#[derive(Debug)]
pub struct Missed {
    /// What was asked.
    pub request: Request,
    /// Why there is no answer.
    pub miss: Miss,
    /// Whether another server may answer it: not if it belongs to a cursor or a transaction that began here.
    pub may_forward: bool,
}

impl Player {
    /// For a new connection.
    pub fn new(replaying: Arc<Replaying>) -> Self {
        Self { replaying, app_name: None, explanation: None }
    }

    /// Takes note of the `client.application.name` of the connection's handshake.
    pub fn set_app_name(&mut self, name: Option<&str>) {
        self.app_name = name.map(Arc::from);
    }

    /// Answers a request from the recording.
    pub fn handle(&mut self, mut request: Request, at: Timestamp, replies: &mut Replies) -> Outcome {
        let _ = at;
        let Some(documents) = self.replaying.replies(&request) else {
            if is_housekeeping(request.name()) {
                return Outcome::Housekeeping(request);
            }
            let miss = self.replaying.miss(&request);
            return Outcome::Missed(Box::new(Missed { request, miss, may_forward: true }));
        };
        let mut documents = documents.iter().filter_map(|document| RawDocument::from_bytes(document).ok()).peekable();
        // Its server went away instead.
        if documents.peek().is_none() && request.answered {
            replies.close();
        }
        while let Some(document) = documents.next() {
            if documents.peek().is_none() || !request.exhaust_allowed {
                replies.reply(&request, document);
                break;
            }
            replies.reply_with_more_to_come(&mut request, document);
        }
        Outcome::Answered
    }

    /// Sends what was waiting for its time.
    pub fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        let _ = (at, replies);
    }

    /// Answers what was missed with the error that says why, and counts it.
    pub fn refuse(&mut self, missed: &Missed, replies: &mut Replies) {
        self.replaying.note_miss(&missed.miss);
        replies.reply(&missed.request, &missed.miss.reply());
    }

    /// Counts what was missed as answered by another server.
    pub fn forwarded(&mut self, missed: &Missed) {
        let _ = missed;
        self.replaying.note_forwarded();
    }

    /// How the last request came by its answer, once; `None` if it has none or explanations are not kept.
    pub fn take_explanation(&mut self) -> Option<Explanation> {
        self.explanation.take()
    }
}

/// Whether drivers and tools send it by themselves, as often as they like.
fn is_housekeeping(name: &str) -> bool {
    matches!(name, "ping" | "buildInfo" | "buildinfo" | "endSessions" | "killCursors")
}
