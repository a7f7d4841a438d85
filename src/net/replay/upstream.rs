//! Asking a real server what a recording does not hold.
//!
//! A proxy stands before it, which knows how to reach it. Before it is asked anything, it does what the recording has
//! answered so far: see [`following`](super::following).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::rawdoc;

use super::following::Following;
use crate::capture::exchange::{Exchange, Place, Reply};
use crate::config::Endpoint;
use crate::event::{ConnectionId, Phase, Timestamp};
use crate::net::client::{Client, ClientError, Credentials, Options};
use crate::net::clock;
use crate::redact::{self, Exchanged, Fields, Redacted};
use crate::replay::{Followed, Forward, Takes};
use crate::session::is_sensitive;
use crate::wire::OpMsg;

/// Where it is reached, and as whom.
#[derive(Clone, Debug)]
pub(in crate::net) struct Upstream {
    /// The proxy's listeners.
    pub(super) endpoints: Arc<[Endpoint]>,
    /// The servers behind them, as they are called.
    pub(super) servers: Arc<str>,
    pub(super) credentials: Option<Credentials>,
    /// Whose values are taken out of what is recorded.
    pub(super) fields: Arc<[Arc<Fields>]>,
    pub(super) following: Arc<Following>,
    /// What it was asked and answered, if that is to be recorded.
    pub(super) recorded: Option<Arc<Answers>>,
}

/// What is recorded of an upstream: all of it stays in memory until the end, as the fixture does that it goes into.
#[derive(Debug, Default)]
pub(super) struct Answers {
    answers: Mutex<Vec<Answer>>,
    connections: AtomicU64,
}

/// One of its answers. It goes into a file, so there is nothing secret in it.
#[derive(Debug)]
struct Answer {
    connection: ConnectionId,
    app_name: Option<Arc<str>>,
    at: Timestamp,
    replied_at: Timestamp,
    wants_reply: bool,
    exchanged: Redacted<Exchanged>,
}

/// A client's way to it: a connection that is made when it is needed.
#[derive(Debug)]
pub(in crate::net) struct Asking {
    upstream: Upstream,
    number: u64,
    connection: Option<Connection>,
}

/// A connection to it.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    /// What the server takes.
    pub(super) takes: Takes,
}

impl Upstream {
    pub(in crate::net) fn asking(&self) -> Asking {
        let connections = self.recorded.as_ref().map(|answers| &answers.connections);
        let number = connections.map_or(0, |connections| connections.fetch_add(1, Ordering::Relaxed) + 1);
        Asking { upstream: self.clone(), number, connection: None }
    }

    /// A connection to the server that takes writes, or why there is none.
    pub(super) async fn connect(&self, app_name: Option<&str>) -> Result<Connection, String> {
        let client = self.client(app_name).await.map_err(|error| match error {
            ClientError::Authentication(reason) => format!("cannot authenticate: {reason}; {CREDENTIALS}"),
            // The proxy turns away whom it has no server for.
            ClientError::Closed => format!("{} cannot be reached", self.servers),
            error => error.to_string(),
        })?;
        let takes = Takes::of_hello(client.hello());
        let mut connection = Connection { client, takes };
        if self.credentials.is_none() {
            // Nothing but a question shows whether it wants to know who asks.
            let probe = rawdoc! { "listDatabases": 1, "nameOnly": true, "$db": "admin" };
            let reply = connection.ask_within(&probe, PATIENCE).await?;
            if reply.get_i32("code").ok() == Some(CODE_UNAUTHORIZED) {
                return Err(format!("it wants authentication; {CREDENTIALS}"));
            }
        }
        Ok(connection)
    }

    /// If none says that it takes writes, any server does.
    async fn client(&self, app_name: Option<&str>) -> Result<Client, ClientError> {
        let mut options = Options { credentials: self.credentials.clone(), ..Options::default() };
        if let Some(app_name) = app_name {
            app_name.clone_into(&mut options.app_name);
        }
        let mut last = Err(ClientError::Closed);
        for endpoint in self.endpoints.iter() {
            match Client::connect(endpoint, &options).await {
                Ok(client) if client.hello().get_bool("isWritablePrimary").unwrap_or(false) => return Ok(client),
                Ok(client) => last = Ok(client),
                Err(error) if last.is_err() => last = Err(error),
                Err(_) => {}
            }
        }
        last
    }
}

/// What a server says to who is not known.
const CODE_UNAUTHORIZED: i32 = 13;

/// The way out for who is not let in.
const CREDENTIALS: &str =
    "it is asked as the first --user NAME --password-env VAR, under exec as the user of the connection string";

/// How long a question of ours may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Connection {
    /// The answer to a command if it comes in time, or why there is none: then the connection is of no use any more.
    pub(super) async fn ask_within(
        &mut self,
        command: &RawDocument,
        patience: Duration,
    ) -> Result<RawDocumentBuf, String> {
        let late = |_| Err(format!("it gave no answer within {patience:?}"));
        tokio::time::timeout(patience, self.ask(command)).await.unwrap_or_else(late)
    }

    /// The answer to a command, or why there is none: then the connection is of no use any more.
    pub(super) async fn ask(&mut self, command: &RawDocument) -> Result<RawDocumentBuf, String> {
        let answer = async {
            // Even what wants no answer is answered: so it is known that it was done.
            self.client.send(&OpMsg::new(0, command.as_bytes())).await?;
            let (document, _) = self.client.reply().await?;
            RawDocumentBuf::from_bytes(document).map_err(|error| ClientError::Undecodable(error.to_string()))
        };
        answer.await.map_err(|error| error.to_string())
    }
}

impl Asking {
    /// Keeps what the recording has answered, to be done there too.
    pub(in crate::net) fn follow(&self, followed: Followed) {
        self.upstream.following.keep(followed);
    }

    /// Its answer to a request, or why there is none.
    pub(in crate::net) async fn ask(&mut self, forward: &Forward) -> Result<RawDocumentBuf, String> {
        let at = clock::now();
        let upstream = &self.upstream;
        upstream.following.catch_up(&forward.scope, upstream).await?;
        // A connection that failed is of no use any more.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => upstream.connect(forward.app_name.as_deref()).await?,
        };
        let command = upstream.following.with_made(&forward.scope, |made| {
            connection.takes.adapted(&made.to_server(&forward.request.command), false)
        });
        let reply = connection.ask(&command.await?).await?;
        self.connection = Some(connection);
        let told = upstream.following.with_made(&forward.scope, |made| made.as_told(reply.as_bytes())).await;
        self.record(forward, at, &told);
        RawDocumentBuf::from_bytes(told).map_err(|error| error.to_string())
    }

    fn record(&self, Forward { request, app_name, .. }: &Forward, at: Timestamp, reply: &[u8]) {
        let Some(answers) = &self.upstream.recorded else { return };
        let exchanged = Exchanged { request: request.command.clone(), reply: reply.to_vec() };
        answers.lock().push(Answer {
            connection: ConnectionId(self.number),
            app_name: app_name.clone(),
            at,
            replied_at: clock::now(),
            wants_reply: request.answered,
            exchanged: redact::exchanged(exchanged, is_sensitive(request.name()), &self.upstream.fields),
        });
    }
}

impl Answers {
    /// All of them so far, in the order in which they were asked.
    pub(super) fn take(&self) -> Vec<Exchange> {
        let mut answers = std::mem::take(&mut *self.lock());
        answers.sort_by_key(|answer| answer.at.monotonic_nanos);
        answers.into_iter().map(Answer::into_exchange).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    fn into_exchange(self) -> Exchange {
        let Self { connection, app_name, at, replied_at, wants_reply, exchanged } = self;
        let reply = Reply { at: replied_at, body: exchanged.reply.clone() };
        Exchange {
            place: Place::Exchange(0),
            connection,
            app_name,
            phase: Phase::App,
            at,
            request: exchanged.request.clone(),
            wants_reply,
            replies: if wants_reply { vec![reply] } else { Vec::new() },
        }
    }
}
