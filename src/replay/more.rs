//! Batches of cursors: the next one of the same use of a recorded cursor; of a stream, once what it tells of was done.

use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf, cstr};
use bson::rawdoc;

use super::cursors::{Open, cursor_given, without_cursor};
use super::effect::is_ok;
use super::fit::Fitting;
use super::nearest::batch_missing;
use super::recording::Number;
use super::replaying::{Answer, Asking, fitting};
use super::streams::documents;
use super::transaction::transaction_of;
use crate::bson::find_path;
use crate::capture::exchange::Exchange;

impl Asking<'_> {
    /// Answers a `getMore`.
    pub(super) fn more(&mut self, id: i64, is_last: bool) -> Answer {
        let Some(open) = self.cursors.get(id) else { return not_found(id) };
        match open.stream {
            Some((stream, since)) => self.stream(id, open, (stream, since), is_last),
            None => self.batch(id, open),
        }
    }

    fn batch(&mut self, id: i64, open: Open) -> Answer {
        let last = self.recording.exchange(open.exchange);
        // The rest of what was streamed, asked for piece by piece.
        if let Some(exchange) = last.as_ref().filter(|it| it.replies.len() > open.reply + 1) {
            let documents = self.documents(open.exchange, exchange, open.reply + 1, Some(id), None);
            return Answer::Documents { documents, after: Duration::ZERO, explanation: None, taken_for: None };
        }
        let next = self.recording.index.entry(open.exchange).and_then(|entry| entry.next);
        let Some((number, exchange)) = next.and_then(|next| Some((next, self.recording.exchange(next)?))) else {
            return self.batch_missing(last.as_deref(), "the recording has no further batch of this cursor");
        };
        self.deliver(id, number, &exchange, None)
    }

    /// Answers with that exchange, if what it asked is what is asked.
    fn deliver(&mut self, id: i64, number: Number, exchange: &Exchange, stream: Option<(Number, u64)>) -> Answer {
        let Some(asked) = without_cursor(&self.request.command) else { return not_found(id) };
        let recorded = without_cursor(&exchange.request).unwrap_or_default();
        let fit = self.fitting(exchange).fit(&asked, &recorded);
        let Some(mut fit) = fit else {
            return self.batch_missing(Some(exchange), "the next batch was asked for in another way");
        };
        let explain = self.recording.settings.explain;
        let notes = explain.then(|| {
            fit.notes.insert(super::Note { path: "getMore".to_owned(), why: super::Why::Cursor });
            fit.notes.iter().cloned().collect()
        });
        self.live.accept(fit, &self.recording.index);
        let transaction = transaction_of(&self.request.command).map(|(transaction, _)| transaction);
        self.took_place(number, transaction);
        let documents = self.documents(number, exchange, 0, Some(id), stream);
        let explanation = self.explained(notes, exchange);
        Answer::Documents { documents, after: self.delay(exchange), explanation, taken_for: None }
    }

    fn fitting(&self, exchange: &Exchange) -> Fitting<'_> {
        fitting(self.recording, self.live, true, self.at, exchange.at.unix_micros)
    }

    /// Gives the next batch that tells something, once all that it tells of was done; or an empty one when time is up.
    fn stream(&mut self, id: i64, open: Open, stream: (Number, u64), is_last: bool) -> Answer {
        let mut idle = Vec::new();
        let mut at = open.exchange;
        while let Some(next) = self.recording.index.entry(at).and_then(|entry| entry.next) {
            let Some(exchange) = self.recording.exchange(next) else { break };
            if tells_nothing(&exchange) {
                idle.push(next);
                at = next;
                continue;
            }
            if self.is_caused(next, stream) {
                idle.into_iter().for_each(|number| self.live.use_up(number));
                return self.deliver(id, next, &exchange, Some(stream));
            }
            break;
        }
        if !is_last {
            return Answer::Wait;
        }
        let Some(last) = self.recording.exchange(open.exchange) else { return not_found(id) };
        let documents = vec![empty_batch(&last, id).into_bytes()];
        Answer::Documents { documents, after: Duration::ZERO, explanation: None, taken_for: None }
    }

    /// Whether what a batch tells of was done since its stream was opened.
    fn is_caused(&self, batch: Number, (stream, since): (Number, u64)) -> bool {
        let causes = self.recording.index.causes.get(&batch).map_or(&[][..], Vec::as_slice);
        causes.iter().all(|cause| {
            let last = self.live.last(*cause);
            last.is_some_and(|last| *cause < stream || last > since)
        })
    }

    fn batch_missing(&self, exchange: Option<&Exchange>, reason: &str) -> Answer {
        let miss = batch_missing(self.recording, self.live, self.request, exchange, self.at, reason);
        Answer::Miss { miss: Box::new(miss), may_forward: false }
    }
}

/// Whether a batch of a stream was only waited for.
pub(super) fn tells_nothing(exchange: &Exchange) -> bool {
    let is_empty = |reply: &[u8]| {
        is_ok(reply) && cursor_given(reply).is_some_and(|id| id != 0) && documents(reply).next().is_none()
    };
    exchange.replies.iter().all(|reply| is_empty(&reply.body))
}

/// The answer when nothing came, like the one before it.
fn empty_batch(last: &Exchange, id: i64) -> RawDocumentBuf {
    let reply = last.replies.last().map_or(&[][..], |reply| &reply.body);
    let ns = find_path(reply, &[b"cursor", b"ns"]).and_then(|ns| ns.as_str()).unwrap_or_default();
    let mut cursor = rawdoc! { "nextBatch": [], "id": id, "ns": ns };
    let token = find_path(reply, &[b"cursor", b"postBatchResumeToken"]).and_then(|token| token.as_document());
    if let Some(token) = token.and_then(|token| RawDocument::from_bytes(token).ok()) {
        cursor.append(cstr!("postBatchResumeToken"), token.to_owned());
    }
    rawdoc! { "cursor": cursor, "ok": 1.0 }
}

/// What a server says of a cursor that it does not have.
fn not_found(id: i64) -> Answer {
    let message = format!("cursor id {id} not found");
    let error = rawdoc! { "ok": 0.0, "errmsg": message, "code": 43, "codeName": "CursorNotFound" };
    Answer::Documents { documents: vec![error.into_bytes()], after: Duration::ZERO, explanation: None, taken_for: None }
}
