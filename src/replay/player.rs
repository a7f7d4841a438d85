//! One connection that is answered from a recording.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocument;

use super::explain::Explanation;
use super::follow::Followed;
use super::miss::Miss;
use super::replaying::{Answer, Replaying};
use super::{Forward, Replies, Request};
use crate::bson::{Elements, find};
use crate::capture::exchange::is_housekeeping;
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
    pending: Option<Pending>,
    /// Whether another server follows what is answered here, and what it is to do.
    is_followed: bool,
    followed: Option<Followed>,
}

/// What became of a request.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It was answered, needs no answer, or is answered at a tick.
    Answered,
    /// It is of those that drivers send by themselves (`ping`, `buildInfo`, `endSessions` and their like), which are
    /// neither looked for in the recording nor missed: the caller answers it.
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

/// A request that is answered later.
#[derive(Debug)]
enum Pending {
    /// With these, at a time that is known.
    Answer(Request, Vec<Vec<u8>>),
    /// When there is something to tell, or at that time.
    Stream(Request, Timestamp),
}

/// How long a server has such a cursor wait if nobody says.
const AWAITED: Duration = Duration::from_secs(1);

/// The longest wait that a client is given.
const AWAITED_MAX: Duration = Duration::from_secs(600);

impl Player {
    /// For a new connection.
    pub fn new(replaying: Arc<Replaying>) -> Self {
        Self { replaying, app_name: None, explanation: None, pending: None, is_followed: false, followed: None }
    }

    /// Has it known of each answer what another server is to do too: see [`take_followed`](Self::take_followed).
    pub(super) fn be_followed(&mut self) {
        self.is_followed = true;
    }

    /// What another server is to do too because of the last request, once.
    pub(super) fn take_followed(&mut self) -> Option<Followed> {
        self.followed.take()
    }

    /// A request of this connection, as another server is asked it.
    pub(super) fn forward(&self, request: Request) -> Forward {
        let scope = self.replaying.scope_of(self.app_name.as_deref());
        Forward { request, app_name: self.app_name.clone(), scope }
    }

    /// Takes note of the `client.application.name` of the connection's handshake.
    pub fn set_app_name(&mut self, name: Option<&str>) {
        self.app_name = name.map(Arc::from);
    }

    /// Answers a request from the recording.
    pub fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) -> Outcome {
        self.explanation = None;
        if request.name() == "killCursors" {
            self.kill_cursors(&request);
        }
        if is_housekeeping(request.name()) {
            return Outcome::Housekeeping(request);
        }
        self.ask(request, at, None, replies)
    }

    /// Sends what was waiting for its time.
    pub fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        match self.pending.take() {
            None => {}
            Some(Pending::Answer(request, documents)) => send(request, &documents, replies),
            Some(Pending::Stream(request, until)) => {
                if let Outcome::Missed(missed) = self.ask(request, at, Some(until), replies) {
                    self.refuse(&missed, replies);
                }
            }
        }
    }

    fn ask(&mut self, request: Request, at: Timestamp, until: Option<Timestamp>, replies: &mut Replies) -> Outcome {
        let until = until.unwrap_or_else(|| at.after(awaited(&request)));
        let is_last = at.monotonic_nanos >= until.monotonic_nanos;
        let recording = &self.replaying.recording;
        let asked = recording.as_recorded(&request);
        let is_redacted = matches!(asked, Cow::Owned(_));
        let answer = self.replaying.answer(&asked, self.app_name.as_deref(), at, is_last);
        drop(asked);
        match answer {
            Answer::Documents { documents, after, explanation, taken_for } => {
                self.explanation = explanation.filter(|_| !request.is_sensitive());
                if let Some(explanation) = self.explanation.as_mut().filter(|_| is_redacted) {
                    explanation.notes.extend(recording.redacted_in(&request));
                }
                self.followed = taken_for.filter(|_| self.is_followed).and_then(|taken_for| {
                    let reply = documents.first().map(Vec::as_slice);
                    self.replaying.followed(taken_for, &request, self.app_name.as_deref(), reply)
                });
                if after.is_zero() {
                    send(request, &documents, replies);
                } else {
                    replies.tick_at(at.after(after));
                    self.pending = Some(Pending::Answer(request, documents));
                }
                Outcome::Answered
            }
            Answer::Wait => {
                replies.tick_at(until);
                replies.tick_on_change();
                self.pending = Some(Pending::Stream(request, until));
                Outcome::Answered
            }
            Answer::Miss { miss, may_forward } => {
                Outcome::Missed(Box::new(Missed { request, miss: *miss, may_forward }))
            }
        }
    }

    /// Answers what was missed with the error that says why, and counts it.
    pub fn refuse(&mut self, missed: &Missed, replies: &mut Replies) {
        self.replaying.note_miss(&missed.miss);
        replies.reply(&missed.request, &missed.miss.reply());
    }

    /// Counts what was missed as answered by another server.
    pub fn forwarded(&mut self) {
        self.replaying.note_forwarded();
    }

    /// How the last request came by its answer, once; `None` if it has none or explanations are not kept.
    pub fn take_explanation(&mut self) -> Option<Explanation> {
        self.explanation.take()
    }

    fn kill_cursors(&self, request: &Request) {
        let ids = find(&request.command, b"cursors").and_then(|ids| ids.as_array()).unwrap_or_default();
        let mut state = self.replaying.lock();
        Elements::readable(ids).filter_map(|id| id.as_i64()).for_each(|id| state.cursors.close(id));
    }
}

/// How long a cursor waits for what comes.
fn awaited(request: &Request) -> Duration {
    let millis = find(&request.command, b"maxTimeMS").and_then(|time| time.as_i64());
    millis.map_or(AWAITED, |millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(AWAITED_MAX))
}

fn send(mut request: Request, documents: &[Vec<u8>], replies: &mut Replies) {
    let mut documents = documents.iter().filter_map(|document| RawDocument::from_bytes(document).ok()).peekable();
    // Its server went away instead.
    if documents.peek().is_none() && request.answered {
        replies.close();
    }
    while let Some(document) = documents.next() {
        if documents.peek().is_none() || !request.exhaust_allowed {
            return replies.reply(&request, document);
        }
        replies.reply_with_more_to_come(&mut request, document);
    }
}
