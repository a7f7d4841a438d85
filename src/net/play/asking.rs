//! One connection that asks: what goes out on it, and which answers come back.
//!
//! Questions go out as they come, so that those that were pipelined in the recording are again. A long one waits until it
//! is alone: a server that is writing a long answer reads nothing, and would be waited for by somebody who is writing
//! too. So does an exhaust cursor, as nothing else may be asked of its connection. A connection that breaks is made anew
//! for the next question.

use std::collections::VecDeque;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use super::Target;
use crate::bson::Elements;
use crate::bson::write::put_document;
use crate::event::Timestamp;
use crate::net::client::{Answer, Client, ClientError};
use crate::net::clock;
use crate::wire::{OpMsg, Sequence, msg_flags};

/// So much may be on its way at the same time.
const PIPELINED_BYTES_MAX: usize = 32 << 10;

/// A server takes no longer document; what is longer goes as a sequence of documents.
const BODY_LEN_MAX: usize = 16_000_000;

/// A question to be asked.
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) request: Vec<u8>,
    /// How many answers are wanted: several of a stream.
    pub(super) answers: usize,
    pub(super) wants_reply: bool,
}

/// What was answered.
pub(super) struct Done {
    pub(super) number: u64,
    pub(super) started: Timestamp,
    pub(super) ended: Timestamp,
    pub(super) answers: Result<Vec<Vec<u8>>, Failure>,
}

pub(super) enum Failure {
    /// There is no server any more.
    Connect(String),
    /// There was no answer.
    Answer(String),
}

/// Asks on one connection, until there are no more questions.
pub(super) async fn ask_all(target: Target, mut jobs: UnboundedReceiver<Job>, done: UnboundedSender<Done>) {
    let mut asking = Asking { target, client: None, waiting: VecDeque::new(), done };
    let mut next: Option<Job> = None;
    loop {
        if let Some(job) = next.take_if(|job| asking.may_send(job)) {
            asking.send(job).await;
            continue;
        }
        tokio::select! {
            job = jobs.recv(), if next.is_none() => match job {
                Some(job) => next = Some(job),
                None => return,
            },
            answer = answer(&mut asking.client), if !asking.waiting.is_empty() => asking.take(answer),
        }
    }
}

async fn answer(client: &mut Option<Client>) -> Result<Answer, ClientError> {
    match client {
        Some(client) => client.answer().await,
        None => Err(ClientError::Closed),
    }
}

struct Asking {
    target: Target,
    client: Option<Client>,
    /// What is to be answered, in the order in which it went out.
    waiting: VecDeque<Waiting>,
    done: UnboundedSender<Done>,
}

struct Waiting {
    number: u64,
    /// What the next answer names.
    request_id: i32,
    /// How long its question is.
    bytes: usize,
    started: Timestamp,
    wanted: usize,
    answers: Vec<Vec<u8>>,
}

impl Asking {
    fn may_send(&self, job: &Job) -> bool {
        let bytes = self.waiting.iter().map(|waiting| waiting.bytes).sum::<usize>();
        let is_short = bytes + job.request.len() <= PIPELINED_BYTES_MAX;
        let is_exhaust = job.answers > 1 || self.waiting.iter().any(|waiting| waiting.wanted > 1);
        self.waiting.is_empty() || is_short && !is_exhaust
    }

    async fn send(&mut self, job: Job) {
        let connected = match self.client.take() {
            Some(client) => Ok(client),
            None => self.target.connect().await,
        };
        let started = clock::now();
        let mut client = match connected {
            Ok(client) => client,
            Err(error) => return self.done(job.number, started, Err(Failure::Connect(error.to_string()))),
        };
        match send(&mut client, &job).await {
            Ok(request_id) if job.wants_reply => {
                let Job { number, request, answers: wanted, .. } = job;
                let (bytes, answers) = (request.len(), Vec::new());
                self.waiting.push_back(Waiting { number, request_id, bytes, started, wanted, answers });
                self.client = Some(client);
            }
            Ok(_) => {
                self.client = Some(client);
                self.done(job.number, started, Ok(Vec::new()));
            }
            Err(error) => {
                self.done(job.number, started, Err(Failure::Answer(error.to_string())));
                self.fail(&error);
            }
        }
    }

    /// Takes what came.
    fn take(&mut self, answer: Result<Answer, ClientError>) {
        let Answer { request_id, response_to, document, more_to_come } = match answer {
            Ok(answer) => answer,
            Err(error) => return self.fail(&error),
        };
        let Some(place) = self.waiting.iter().position(|waiting| waiting.request_id == response_to) else {
            return self.fail(&ClientError::OtherReply(response_to));
        };
        if let Some(waiting) = self.waiting.get_mut(place) {
            waiting.request_id = request_id;
            waiting.answers.push(document);
            if more_to_come && waiting.answers.len() < waiting.wanted {
                return;
            }
        }
        if let Some(Waiting { number, started, answers, .. }) = self.waiting.remove(place) {
            self.done(number, started, Ok(answers));
        }
        if more_to_come {
            // It would be sent what nobody wants any more.
            self.fail(&ClientError::Closed);
        }
    }

    /// The connection is of no use any more.
    fn fail(&mut self, error: &ClientError) {
        self.client = None;
        for Waiting { number, started, .. } in std::mem::take(&mut self.waiting) {
            self.done(number, started, Err(Failure::Answer(error.to_string())));
        }
    }

    fn done(&self, number: u64, started: Timestamp, answers: Result<Vec<Vec<u8>>, Failure>) {
        // Nobody may be there any more to be told.
        _ = self.done.send(Done { number, started, ended: clock::now(), answers });
    }
}

/// Sends a question; its request's id.
async fn send(client: &mut Client, job: &Job) -> Result<i32, ClientError> {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = flag(!job.wants_reply, msg_flags::MORE_TO_COME) | flag(job.answers > 1, msg_flags::EXHAUST_ALLOWED);
    match split(&job.request) {
        None => client.send(&OpMsg::new(flags, &job.request)).await,
        Some((body, identifier, documents)) => {
            let sequences = vec![Sequence { identifier, documents: &documents }];
            client.send(&OpMsg { sequences, ..OpMsg::new(flags, &body) }).await
        }
    }
}

/// A command that is too long for a document: with its batch beside it.
fn split(request: &[u8]) -> Option<(Vec<u8>, &[u8], Vec<u8>)> {
    const BATCHES: [&[u8]; 4] = [b"documents", b"updates", b"deletes", b"ops"];
    if request.len() <= BODY_LEN_MAX {
        return None;
    }
    let batch = Elements::readable(request).find(|element| BATCHES.contains(&element.name))?;
    let documents = Elements::readable(batch.as_array()?).filter_map(|element| element.as_document());
    let documents = documents.flatten().copied().collect();
    let mut body = Vec::new();
    put_document(Elements::readable(request).filter(|element| element.name != batch.name), &mut body);
    Some((body, batch.name, documents))
}
