//! Asks a recording's questions again, of a live server: over as many connections as recorded, in the order and at the
//! pace that [`Schedule`] says.
//!
//! One task decides, each connection has one that asks. Connections are made when they are first needed; of too many, those
//! that were idle longest are closed.

mod asking;

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::asking::{Done, Failure, Job, ask_all};
use super::client::{Client, ClientError, Credentials, Options};
use super::clock;
use super::srv::Question;
use super::tls::Connector;
use crate::bson::compare::Difference;
use crate::bson::find;
use crate::capture::exchange::Exchange;
use crate::capture::open::OpenError;
use crate::config::{self, ApplicationUri, Config, Endpoint};
use crate::event::{ConnectionId, Timestamp};
use crate::replay::play::{
    Answered, Context, Outcome, Report, Schedule, Ticket, Translator, Untranslatable, differences, left_out,
};

/// How often there is news of the progress.
const NEWS_AFTER: Duration = Duration::from_millis(100);

/// Connections that are open at the same time, as far as they are idle.
const CONNECTIONS_MAX: usize = 500;

/// The server that is asked.
#[derive(Clone, Debug)]
pub struct Target {
    endpoint: Endpoint,
    options: Options,
    /// It is one of a replica set, or of a sharded cluster.
    has_transactions: bool,
}

/// Why a recording cannot be played, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// The target's connection string is not one.
    #[error("{}", .0.message)]
    Uri(config::Error),
    /// The target cannot be reached, or not as who it says.
    #[error("{endpoint}: {error}")]
    Target {
        /// Where it should be.
        endpoint: String,
        /// What is wrong.
        error: String,
    },
    /// The recording cannot be read on.
    #[error(transparent)]
    Recording(#[from] OpenError),
    /// The system gives no random numbers, or no socket.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Target {
    /// Finds the server that takes writes, of those that a connection string names.
    ///
    /// # Errors
    /// [`PlayError`].
    pub async fn find(uri: &ApplicationUri) -> Result<Self, PlayError> {
        let mut config = Config::default();
        config.set_upstream(&uri.upstream()).map_err(of_target)?;
        if let Some(srv) = config.upstream.srv.clone() {
            let question = Question { srv, dns: None };
            let failed = |error: super::srv::SrvError| {
                PlayError::Uri(config::Error { message: format!("--to: {error}"), hint: Some(error.hint) })
            };
            let records = question.ask().await.map_err(failed)?;
            config.upstream = question.describe(&config.upstream, &records).map_err(failed)?;
        }
        let tls = config.tls.upstream.as_ref().map(Connector::new).transpose().map_err(of_target)?;
        let options = Options { tls, credentials: Credentials::of(uri).map_err(of_target)?, ..Options::default() };
        let mut seeds: VecDeque<_> = config.upstream.hosts.iter().cloned().collect();
        let (mut asked, mut last) = (HashSet::new(), None);
        while let Some(endpoint) = seeds.pop_front() {
            if !asked.insert(endpoint.to_string()) {
                continue;
            }
            let target = Self { options: options.clone(), endpoint, has_transactions: false };
            match target.connect().await {
                Ok(client) if config.upstream.direct || is_writable(&client) => {
                    let has = |name: &[u8]| find(client.hello().as_bytes(), name).is_some();
                    return Ok(Self { has_transactions: has(b"setName") || has(b"msg"), ..target });
                }
                Ok(client) => {
                    let primary = find(client.hello().as_bytes(), b"primary").and_then(|name| name.as_str());
                    if let Some(primary) = primary.and_then(|name| Endpoint::parse(name).ok()) {
                        seeds.push_front(primary);
                    }
                    last.get_or_insert_with(|| target.failed("not primary, and knows of none that can be reached"));
                }
                Err(error) => last = Some(target.failed(error)),
            }
        }
        Err(last.unwrap_or_else(|| PlayError::Io(io::ErrorKind::NotFound.into())))
    }

    /// Where it is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    fn failed(&self, error: impl std::fmt::Display) -> PlayError {
        PlayError::Target { endpoint: self.endpoint.to_string(), error: error.to_string() }
    }

    async fn connect(&self) -> Result<Client, ClientError> {
        let tls = self.options.tls.as_ref().map(|connector| connector.named(&self.endpoint));
        Client::connect(&self.endpoint, &Options { tls, ..self.options.clone() }).await
    }
}

fn of_target(error: config::Error) -> PlayError {
    let message = error.message.strip_prefix("upstream: ").unwrap_or(&error.message);
    PlayError::Uri(config::Error { message: format!("--to: {message}"), hint: error.hint })
}

fn is_writable(client: &Client) -> bool {
    let names: [&[u8]; 2] = [b"isWritablePrimary", b"ismaster"];
    names.iter().any(|name| find(client.hello().as_bytes(), name).is_some_and(|it| it.as_bool_truthy()))
}

/// Sends the exchanges, in their order and each when it is due, and counts what comes of them. `speed` is how many times as
/// fast as recorded, `None` as fast as the order allows; `has_times` says whether the recording knows how long answers
/// took. `news` is called now and then; once `stop` is ready, nothing more is sent and nothing awaited.
///
/// # Errors
/// [`PlayError`]; what was counted before stays.
pub async fn play(
    target: &Target,
    exchanges: impl Iterator<Item = Result<Exchange, OpenError>>,
    (speed, has_times): (Option<f64>, bool),
    report: &mut Report,
    news: &mut dyn FnMut(&Report),
    stop: impl Future<Output = ()>,
) -> Result<(), PlayError> {
    let mut run_id = [0; 16];
    SystemRandom::new().fill(&mut run_id).map_err(|_| io::Error::other("no random numbers"))?;
    let (done, mut results) = unbounded_channel();
    let mut run = Run {
        target,
        schedule: Schedule::new(speed),
        translator: Translator::new(run_id, target.has_transactions, !has_times),
        connections: HashMap::new(),
        out: HashMap::new(),
        sent: 0,
        done,
        has_times,
        report,
    };
    let mut exchanges = exchanges.filter(|it| it.as_ref().map_or(true, |exchange| left_out(exchange).is_none()));
    let mut next = exchanges.next().transpose()?;
    let begun = clock::now();
    let before = run.report.took;
    let mut stop = pin!(stop);
    let mut ticks = interval(NEWS_AFTER);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        run.report.took = before + clock::now().since(begun);
        let mut pause = None;
        if let Some(exchange) = next.take_if(|exchange| run.schedule.may_go(exchange)) {
            let due = begun.after(run.schedule.due(&exchange));
            let now = clock::now();
            if due.monotonic_nanos <= now.monotonic_nanos {
                run.send(exchange, now.since(due));
                next = exchanges.next().transpose()?;
                // So that it is on its way before the next one.
                tokio::task::yield_now().await;
                continue;
            }
            pause = Some(due.since(now));
            next = Some(exchange);
        } else if next.is_none() && run.schedule.is_settled() {
            for (exchange, count) in run.translator.untold() {
                run.report.untold(exchange, count);
            }
            return Ok(());
        }
        tokio::select! {
            Some(done) = results.recv() => run.finish(done)?,
            () = sleep(pause.unwrap_or(Duration::MAX)), if pause.is_some() => {}
            _ = ticks.tick() => news(run.report),
            () = &mut stop => {
                run.report.interrupted = true;
                return Ok(());
            }
        }
    }
}

struct Run<'r> {
    target: &'r Target,
    schedule: Schedule,
    translator: Translator,
    connections: HashMap<ConnectionId, Line>,
    /// What has gone out, by its number.
    out: HashMap<u64, Out>,
    sent: u64,
    done: UnboundedSender<Done>,
    has_times: bool,
    report: &'r mut Report,
}

/// The way to a connection's task.
struct Line {
    jobs: UnboundedSender<Job>,
    /// How many of its questions are out, and the number of the last one.
    busy: usize,
    last: u64,
}

struct Out {
    exchange: Exchange,
    ticket: Ticket,
    watches: bool,
}

impl Run<'_> {
    fn send(&mut self, exchange: Exchange, lag: Duration) {
        let translated = match self.translator.translate(&exchange, clock::now()) {
            Ok(translated) => translated,
            Err(Untranslatable::Before) => {
                self.report.left_out += 1;
                return;
            }
            Err(why) => return self.report.add(&exchange, None, Outcome::Failed(why.to_string())),
        };
        self.report.sent(lag);
        self.sent += 1;
        let number = self.sent;
        let (answers, wants_reply) = (exchange.replies.len().max(1), exchange.wants_reply);
        let job = Job { number, request: translated.request, answers, wants_reply };
        self.close_idle();
        let line = self.connections.entry(exchange.connection).or_insert_with(|| {
            let (jobs, questions) = unbounded_channel();
            tokio::spawn(ask_all(self.target.clone(), questions, self.done.clone()));
            Line { jobs, busy: 0, last: number }
        });
        line.busy += 1;
        line.last = number;
        // Its task lives as long as this end of the channel.
        _ = line.jobs.send(job);
        let ticket = self.schedule.go(&exchange);
        self.out.insert(number, Out { exchange, ticket, watches: translated.watches });
    }

    /// Closes the connection that was idle longest, if there are too many.
    fn close_idle(&mut self) {
        if self.connections.len() < CONNECTIONS_MAX {
            return;
        }
        let idle = self.connections.iter().filter(|(_, line)| line.busy == 0);
        if let Some(id) = idle.min_by_key(|(_, line)| line.last).map(|(id, _)| *id) {
            self.connections.remove(&id);
        }
    }

    fn finish(&mut self, done: Done) -> Result<(), PlayError> {
        let Some(Out { exchange, ticket, watches }) = self.out.remove(&done.number) else { return Ok(()) };
        self.schedule.end(ticket);
        if let Some(line) = self.connections.get_mut(&exchange.connection) {
            line.busy -= 1;
        }
        let answers = match done.answers {
            Ok(answers) => answers,
            Err(Failure::Answer(why)) => {
                self.report.add(&exchange, None, Outcome::Failed(why));
                return Ok(());
            }
            Err(Failure::Connect(why)) => {
                self.report.add(&exchange, None, Outcome::Failed(why.clone()));
                return Err(self.target.failed(why));
            }
        };
        let recorded = exchange.replies.last().map(|reply| reply.at.since(exchange.at)).filter(|_| self.has_times);
        let times = (exchange.wants_reply).then(|| (recorded, done.ended.since(done.started)));
        let found = self.compare(&exchange, watches, &answers, done.ended);
        self.report.add(&exchange, times, Outcome::Answered(found));
        Ok(())
    }

    /// What differs; nothing if it was never answered.
    fn compare(&mut self, exchange: &Exchange, watches: bool, answers: &[Vec<u8>], now: Timestamp) -> Vec<Difference> {
        let mut found = Vec::new();
        for (recorded, live) in exchange.replies.iter().zip(answers) {
            self.translator.learn(exchange, watches, &recorded.body, live);
            let at = Answered { recorded: recorded.at, live: now };
            let mut context = Context { exchange, translator: &mut self.translator, watches, at };
            found.extend(differences(&recorded.body, live, &mut context));
        }
        if exchange.replies.len() > answers.len() {
            let count = |count: usize| Some(count.to_string());
            let (expected, actual) = (count(exchange.replies.len()), count(answers.len()));
            found.push(Difference { path: "number of replies".to_owned(), expected, actual });
        }
        found
    }
}
