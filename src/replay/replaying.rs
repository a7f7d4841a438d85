//! A recording in use: who asked what already, and what becomes of the next request.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Request;
use super::choose::{Choice, NoChoice, Question};
use super::counted::{database_of, namespace};
use super::cursors::{Cursors, Open, cursor_asked, cursor_given, with_cursor};
use super::difference::shown_document;
use super::digest::{Digests, digests, exact, masked_reply};
use super::effect::{code, is_ok};
use super::explain::Explanation;
use super::fit::{Fit, Fitting};
use super::live::{Live, Sent};
use super::miss::Miss;
use super::nearest::nearest;
use super::recording::{EntryKind, Number, Recording};
use super::report::{Asked, MISSES_MAX, Report};
use super::settings::Timing;
use super::state::Transaction;
use super::transaction::{numbered, transaction_of};
use crate::bson::find;
use crate::capture::exchange::{Exchange, Place};
use crate::capture::fixture::as_written;
use crate::event::Timestamp;

/// What the connections of a server that answers from a recording share.
#[derive(Debug)]
pub struct Replaying {
    pub(super) recording: Arc<Recording>,
    state: Mutex<State>,
    /// The exchanges that batches of change streams and tailable cursors tell of.
    causes: HashSet<Number>,
    changed: Changed,
}

/// Whom to tell once something took place that a stream may be waiting for.
#[derive(Default)]
struct Changed(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Changed").finish_non_exhaustive()
    }
}

/// What may be asked of it by one connection at a time.
#[derive(Debug, Default)]
pub(super) struct State {
    scopes: HashMap<Option<Arc<str>>, Live>,
    pub(super) cursors: Cursors,
    counts: Report,
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Answer {
    /// These documents answer it, after that time.
    Documents {
        documents: Vec<Vec<u8>>,
        after: Duration,
        explanation: Option<Explanation>,
        /// The exchange that the request was taken for, and where it is, if it was the first time.
        taken_for: Option<(Number, Place)>,
    },
    /// Nothing yet: it is to be asked again, until its time is up.
    Wait,
    Miss {
        miss: Box<Miss>,
        may_forward: bool,
    },
}

impl Replaying {
    /// Of which nothing was asked yet.
    pub fn new(recording: Arc<Recording>) -> Self {
        let causes = recording.index.causes.values().flatten().copied().collect();
        Self { recording, state: Mutex::default(), causes, changed: Changed::default() }
    }

    /// Has that called whenever something took place that a stream may be waiting for: what asked for a tick on a change
    /// ([`Replies::tick_on_change`](super::Replies::tick_on_change)) is to have it. Only the first wish counts.
    pub fn on_change(&self, changed: impl Fn() + Send + Sync + 'static) {
        _ = self.changed.0.set(Box::new(changed));
    }

    /// What was asked so far, and what was not.
    pub fn report(&self) -> Report {
        let state = self.lock();
        let index = &self.recording.index;
        let is_unused = |number: &Number| {
            let counts = index.entry(*number).is_some_and(|entry| entry.kind.must_be_asked());
            counts && state.scopes.values().all(|live| live.times(*number) == 0)
        };
        let unused = (0..index.entries.len() as Number).filter(is_unused).collect::<Vec<_>>();
        let mut report = state.counts.clone();
        report.unused_count = unused.len() as u64;
        report.unused = unused.into_iter().take(MISSES_MAX).filter_map(|number| self.asked(number)).collect();
        report
    }

    /// A document of this run as it would be in the recording: with recorded values in the place of those that stand for
    /// them.
    pub fn to_recorded(&self, app_name: Option<&str>, document: &[u8]) -> Vec<u8> {
        let scope = self.recording.scope(app_name);
        match self.lock().scopes.get(&scope) {
            Some(live) => live.bindings.to_recorded(document).into_owned(),
            None => document.to_vec(),
        }
    }

    fn asked(&self, number: Number) -> Option<Asked> {
        let exchange = self.recording.exchange(number)?;
        Some(Asked { place: exchange.place, text: shown_request(&exchange) })
    }

    pub(super) fn note_forwarded(&self) {
        self.lock().counts.forwarded += 1;
    }

    /// Takes note that another server is not where the recording is: what it answers from there on is of another state.
    /// Whether that was not known before.
    pub fn note_departure(&self, departure: &str) -> bool {
        let counts = &mut self.lock().counts;
        let is_first = counts.departure.is_none();
        counts.departure.get_or_insert_with(|| departure.to_owned());
        is_first
    }

    pub(super) fn note_miss(&self, miss: &Miss) {
        let counts = &mut self.lock().counts;
        counts.missed += 1;
        if counts.misses.len() < MISSES_MAX {
            counts.misses.push(miss.clone());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers a request of a connection with that application name. `is_last` says that its time is up, if it has
    /// waited.
    pub(super) fn answer(&self, request: &Request, app_name: Option<&str>, at: Timestamp, is_last: bool) -> Answer {
        let scope = self.recording.scope(app_name);
        let mut state = self.lock();
        let State { scopes, cursors, counts } = &mut *state;
        let live = scopes.entry(scope.clone()).or_default();
        let (recording, scope, causes) = (&*self.recording, scope.as_deref(), &self.causes);
        let mut asking = Asking { recording, live, cursors, counts, scope, request, at, causes, caused: false };
        let answer = match cursor_asked(&request.command) {
            Some((_, id)) => asking.more(id, is_last),
            None => asking.question(),
        };
        let caused = asking.caused;
        drop(state);
        if let Some(changed) = self.changed.0.get().filter(|_| caused) {
            changed();
        }
        answer
    }
}

impl EntryKind {
    /// Whether it is told if nobody asks for it.
    fn must_be_asked(self) -> bool {
        matches!(self, Self::Question | Self::Stream | Self::More)
    }
}

/// A request that is being answered.
pub(super) struct Asking<'a> {
    pub(super) recording: &'a Recording,
    pub(super) live: &'a mut Live,
    pub(super) cursors: &'a mut Cursors,
    counts: &'a mut Report,
    scope: Option<&'a str>,
    pub(super) request: &'a Request,
    pub(super) at: Timestamp,
    causes: &'a HashSet<Number>,
    /// Something took place that a stream may be waiting for.
    caused: bool,
}

impl Asking<'_> {
    fn question(&mut self) -> Answer {
        let command = self.request.command.as_slice();
        let transaction = transaction_of(command);
        if let Some((transaction, true)) = transaction {
            self.live.begin(transaction);
        }
        let transaction = transaction.map(|(transaction, _)| transaction);
        let ends = matches!(self.request.name(), "commitTransaction" | "abortTransaction");
        let sent_again = numbered(command).filter(|_| ends || transaction.is_none());
        let sent_again =
            sent_again.map(|key| (key, exact(command, &self.request.database, None, &self.recording.settings)));
        let sent = sent_again.and_then(|(key, same)| self.live.sent.get(&key).filter(|sent| sent.question == same));
        if let Some(sent) = sent {
            let documents = sent.documents.clone();
            return Answer::Documents { documents, after: Duration::ZERO, explanation: None, taken_for: None };
        }
        let question = Question { recording: self.recording, digests: self.digests(), transaction, ends };
        let (scope, settings) = (self.recording.asked_in(self.scope), &self.recording.settings);
        let is_unread = Cell::new(false);
        let chosen = question.choose(self.live, &mut |live, number, is_same| {
            let Some(recorded) = self.recording.exchange(number) else {
                is_unread.set(true);
                return None;
            };
            let again = live.times(number) > 0;
            let fit = fitting(self.recording, live, again, self.at, recorded.at.unix_micros);
            let may_swap = |one, other| live.may_swap(one, other, &self.recording.index);
            let fit = Fitting { may_swap: &may_swap, ..fit }.fit(command, &recorded.request);
            // The same is the same, whatever stands for what; but where values must be equal it is so as it came.
            let is_same = is_same
                && (settings.exact.is_empty()
                    || exact(command, &self.request.database, scope, settings)
                        == exact(&recorded.request, database_of(&recorded.request), scope, settings));
            fit.or_else(|| is_same.then(Fit::default))
        });
        // What cannot be read may have been the right one.
        let Choice { number, fit, rival } = match chosen.and_then(|it| if is_unread.get() { UNREAD } else { Ok(it) }) {
            Ok(choice) => choice,
            Err(why) => return self.miss(why, transaction, ends),
        };
        let Some(exchange) = self.recording.exchange(number) else {
            return self.miss(NoChoice::Unknown, transaction, ends);
        };
        self.note_rival(&exchange, rival);
        let notes = self.recording.settings.explain.then(|| fit.notes.iter().cloned().collect());
        self.live.accept(fit, &self.recording.index);
        self.took_place(number, transaction);
        let opened = (self.recording.index.entry(number).map(|entry| entry.kind) == Some(EntryKind::Stream))
            .then(|| (number, self.live.asked()));
        let documents = self.documents(number, &exchange, 0, None, opened);
        if let Some((key, same)) = sent_again.filter(|_| !is_to_be_retried(&exchange)) {
            self.live.keep(key, Sent { question: same, documents: documents.clone() });
        }
        let explanation = self.explained(notes, &exchange);
        Answer::Documents {
            documents,
            after: self.delay(&exchange),
            explanation,
            taken_for: Some((number, exchange.place)),
        }
    }

    /// The digests of the request, recorded values in the place of those that stand for them.
    fn digests(&self) -> Digests {
        let translated = self.live.bindings.to_recorded(&self.request.command);
        let scope = self.recording.asked_in(self.scope);
        digests(&translated, &self.request.database, scope, &self.recording.settings)
    }

    /// The request is that exchange's, and did what it did.
    pub(super) fn took_place(&mut self, number: Number, transaction: Option<u128>) {
        self.live.use_up(number);
        self.caused |= self.causes.contains(&number);
        self.counts.matched += 1;
        let index = &self.recording.index;
        let Some(entry) = index.entry(number) else { return };
        if let Some((live, recorded)) = transaction.zip(entry.transaction) {
            self.live.follow(live, recorded);
        }
        self.live.states.resemble(&entry.reads, entry.epoch);
        self.live.states.apply(&entry.effect, entry.written, transaction, &index.namespaces);
    }

    /// The recorded replies from one on, as they go out; as many as are wanted at once.
    pub(super) fn documents(
        &mut self,
        number: Number,
        exchange: &Exchange,
        from: usize,
        cursor: Option<i64>,
        stream: Option<(Number, u64)>,
    ) -> Vec<Vec<u8>> {
        let wanted = if self.request.exhaust_allowed { usize::MAX } else { 1 };
        let mut documents = Vec::new();
        let mut id = cursor;
        for (reply, recorded) in exchange.replies.iter().enumerate().skip(from).take(wanted) {
            self.live.give_dates(recorded, self.at, &self.recording.index);
            let mut document = self.live.reply(&recorded.body, &self.recording.index);
            match cursor_given(&document) {
                None | Some(0) => {
                    // What remains of an error is the cursor as it was.
                    if let Some(id) = id.filter(|_| cursor_given(&document) == Some(0)) {
                        self.cursors.close(id);
                    }
                }
                Some(_) => {
                    let live = self.cursors.put(id, Open { exchange: number, reply, stream });
                    id = Some(live);
                    document = with_cursor(document, live);
                }
            }
            documents.push(document);
        }
        documents
    }

    pub(super) fn explained(&self, notes: Option<Vec<super::Note>>, exchange: &Exchange) -> Option<Explanation> {
        Some(Explanation {
            command: self.request.name().to_owned(),
            namespace: namespace(&self.request.command, &self.request.database),
            place: exchange.place,
            notes: notes?,
        })
    }

    /// How long an answer is waited for: as it was recorded, if that is wanted; and until its time is up for what failed
    /// because of that.
    pub(super) fn delay(&self, exchange: &Exchange) -> Duration {
        const MAX_TIME_MS_EXPIRED: i64 = 50;
        let Some(reply) = exchange.replies.first() else { return Duration::ZERO };
        if self.recording.settings.timing == Timing::Recorded {
            return reply.at.since(exchange.at);
        }
        if is_ok(&reply.body) || code(&reply.body) != Some(MAX_TIME_MS_EXPIRED) {
            return Duration::ZERO;
        }
        let millis = find(&self.request.command, b"maxTimeMS").and_then(|time| time.as_i64()).unwrap_or(0);
        Duration::from_millis(u64::try_from(millis).unwrap_or(0)).min(DELAY_MAX)
    }

    /// Two answers that would do as well are told, if they are not the same.
    fn note_rival(&mut self, exchange: &Exchange, rival: Option<Number>) {
        let Some(rival) = rival.and_then(|rival| self.recording.exchange(rival)) else { return };
        let settings = &self.recording.settings;
        let of = |it: &Exchange| it.replies.iter().map(|reply| masked_reply(&reply.body, settings)).collect::<Vec<_>>();
        if of(exchange) == of(&rival) {
            return;
        }
        self.counts.ambiguous_count += 1;
        if self.counts.ambiguous.len() < MISSES_MAX {
            self.counts.ambiguous.push(Asked { place: exchange.place, text: shown_request(exchange) });
        }
    }

    fn miss(&mut self, why: NoChoice, transaction: Option<Transaction>, ends: bool) -> Answer {
        let mut miss = nearest(self.recording, self.live, self.request, self.at, why);
        let asked = format!("{} on {}: {}", miss.command, miss.namespace, miss.request);
        let first = transaction.and_then(|transaction| self.live.miss_within(transaction, asked));
        if let Some(first) = first.filter(|_| ends) {
            // It is not as it was recorded because of that alone.
            miss.reason = Some(format!("the first of its transaction that had none was {first}"));
            (miss.nearest, miss.hint) = (None, None);
        }
        let differs = miss.nearest.as_ref().is_some_and(|nearest| !nearest.differences.is_empty());
        if self.recording.is_redacted && differs && miss.reason.is_none() {
            miss.reason = Some(REDACTED.to_owned());
        }
        if let Some(trouble) = self.recording.bodies.trouble() {
            miss.reason = Some(format!("the recording cannot be read any more: {trouble}"));
        }
        Answer::Miss { miss: Box::new(miss), may_forward: transaction.is_none() }
    }
}

const REDACTED: &str = "this recording was redacted: what asks by a value that was masked is not in it";

/// A recorded request as its file has it, shortened.
fn shown_request(exchange: &Exchange) -> String {
    shown_document(&as_written(&exchange.request, exchange.at.unix_micros))
}

/// What a live request is held against a recorded one with.
pub(super) fn fitting<'a>(
    recording: &'a Recording,
    live: &'a Live,
    again: bool,
    at: Timestamp,
    recorded_micros: i64,
) -> Fitting<'a> {
    let at = (at.unix_micros / 1000, recorded_micros / 1000);
    Fitting { recording, bindings: &live.bindings, may_swap: &|_, _| false, again, at }
}

/// Whether a driver asks again what got that answer, and is to have the next one then.
fn is_to_be_retried(exchange: &Exchange) -> bool {
    let Some(reply) = exchange.replies.first() else { return exchange.wants_reply };
    let labels = find(&reply.body, b"errorLabels").and_then(|labels| labels.as_array()).unwrap_or_default();
    let concern = find(&reply.body, b"writeConcernError").is_some();
    !is_ok(&reply.body) || concern || crate::bson::Elements::readable(labels).next().is_some()
}

/// What stands for an answer that may be in what cannot be read any more.
const UNREAD: Result<Choice, NoChoice> = Err(NoChoice::Unknown);

/// The longest wait for an answer that is said to have come too late.
const DELAY_MAX: Duration = Duration::from_secs(60);
