//! The upstream follows what a recording answered: before it is asked what the recording does not hold, it does what was
//! done so far, in the same order.
//!
//! Until then the commands are kept, in memory as long as they are few, else in a file that nobody else sees; so a run
//! that misses nothing needs no upstream. A transaction is carried out as a whole, where it was committed.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bson::raw::RawDocumentBuf;

use super::spool::{Slot, Spool};
use super::upstream::{Connection, Upstream};
use crate::net::say::say;
use crate::replay::{Followed, Made, Replaying, Step, Told};

/// What an application's name tells apart, if that is wanted.
pub(super) type Scope = Option<Arc<str>>;

/// What the upstream is to follow, shared by all connections of a replay.
#[derive(Debug)]
pub(in crate::net) struct Following {
    replaying: Arc<Replaying>,
    scopes: Mutex<HashMap<Scope, Arc<Behind>>>,
}

/// What is to be done in one scope.
#[derive(Debug, Default)]
struct Behind {
    kept: Mutex<Kept>,
    /// Held by whoever carries it out; none is asked anything meanwhile.
    carrying_out: tokio::sync::Mutex<CarryingOut>,
}

#[derive(Debug, Default)]
struct Kept {
    spool: Spool,
    ready: VecDeque<Command>,
    /// Of each transaction that is not committed yet, what it did.
    open: HashMap<u128, Vec<Command>>,
    /// Why what is to be done is not known any more.
    lost: Option<String>,
}

#[derive(Debug)]
struct Command {
    slot: Slot,
    told: Told,
    /// Whether it is the first of a transaction.
    starts: bool,
}

#[derive(Debug, Default)]
struct CarryingOut {
    connection: Option<Connection>,
    made: Made,
}

impl Following {
    pub(super) fn new(replaying: Arc<Replaying>) -> Self {
        Self { replaying, scopes: Mutex::default() }
    }

    fn scope(&self, scope: &Scope) -> Arc<Behind> {
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(scopes.entry(scope.clone()).or_default())
    }

    /// Keeps what the recording has answered.
    pub(in crate::net) fn keep(&self, followed: Followed) {
        let Followed { scope, step, command, told } = followed;
        let behind = self.scope(&scope);
        let mut kept = behind.lock();
        if let Err(error) = kept.take(step, &command, told) {
            kept.lost = Some(format!("what it is to follow cannot be kept: {error}"));
        }
    }

    /// Has the upstream do what was done in that scope.
    ///
    /// # Errors
    /// If it cannot be reached, or did not do it: what it is asked then would be answered wrong.
    pub(super) async fn catch_up(&self, scope: &Scope, upstream: &Upstream) -> Result<(), String> {
        let behind = self.scope(scope);
        let mut carrying_out = behind.carrying_out.lock().await;
        loop {
            if let Some(lost) = &behind.lock().lost {
                return Err(lost.clone());
            }
            if behind.lock().ready.is_empty() {
                return Ok(());
            }
            let CarryingOut { connection, made } = &mut *carrying_out;
            let connection = match connection {
                Some(connection) => connection,
                None => connection.insert(upstream.connect(None).await?),
            };
            let Some((command, Command { told, starts, .. })) = behind.lock().next()? else { return Ok(()) };
            let answer = match connection.takes.adapted(&made.to_server(&command), starts) {
                Ok(command) => connection.ask(&command).await,
                Err(reason) => Err(reason),
            };
            let reply = answer.map_err(|reason| {
                let lost = format!("it does not follow what the recording answered: {reason}");
                behind.lock().lost.insert(lost).clone()
            })?;
            self.compare(&told, &reply, made);
        }
    }

    /// Tells once that the upstream is not where the recording is.
    fn compare(&self, told: &Told, reply: &RawDocumentBuf, made: &mut Made) {
        if let Some(departure) =
            told.departure(reply, made).filter(|departure| self.replaying.note_departure(departure))
        {
            say(format_args!("mongotap: the upstream departs from the recording at {departure}"));
            say("hint: it is to be as it was when the recording began: empty, mostly");
        }
    }

    /// What another server made by itself, in the place of what it stands for, and back.
    pub(super) async fn with_made<T>(&self, scope: &Scope, with: impl FnOnce(&Made) -> T) -> T {
        with(&self.scope(scope).carrying_out.lock().await.made)
    }
}

impl Behind {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, step: Step, command: &[u8], told: Told) -> io::Result<()> {
        let transaction = match step {
            Step::Write => None,
            Step::Within(transaction) | Step::Commit(transaction) => Some(transaction),
            Step::Abort(transaction) => {
                for command in self.open.remove(&transaction).unwrap_or_default() {
                    self.spool.forget(&command.slot);
                }
                return Ok(());
            }
        };
        // One that wrote nothing is nothing.
        let committed = match (step, transaction.and_then(|transaction| self.open.remove(&transaction))) {
            (Step::Commit(_), None) => return Ok(()),
            (_, committed) => committed.unwrap_or_default(),
        };
        let starts = matches!(step, Step::Within(_)) && committed.is_empty();
        let slot = self.spool.put(command)?;
        let command = Command { slot, told, starts };
        match step {
            Step::Within(transaction) => {
                let mut all = committed;
                all.push(command);
                self.open.insert(transaction, all);
            }
            _ => self.ready.extend(committed.into_iter().chain([command])),
        }
        Ok(())
    }

    /// The next command that is to be carried out; it is not kept any longer.
    fn next(&mut self) -> Result<Option<(Vec<u8>, Command)>, String> {
        let Some(command) = self.ready.pop_front() else { return Ok(None) };
        match self.spool.take(&command.slot) {
            Ok(bytes) => Ok(Some((bytes, command))),
            Err(error) => {
                let lost = format!("what it is to follow cannot be read: {error}");
                Err(self.lost.insert(lost).clone())
            }
        }
    }
}
