//! The upstream follows what a recording answered: before it is asked what the recording does not hold, it does what was
//! done so far, in the same order.
//!
//! Until then the commands are kept, in memory as long as they are few, else in a file that nobody else sees; so a run
//! that misses nothing needs no upstream. A transaction is carried out as a whole, where it was committed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::raw::RawDocumentBuf;

use super::spool::{Slot, Spool};
use super::upstream::{Connection, Upstream};
use crate::net::say::say;
use crate::replay::{Followed, Made, Replaying, Step, Told};

/// How long it may take for each command: less than a server has one wait for a transaction that nobody ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Transactions that may be open at a time; beyond it the oldest is taken for aborted, as its server does after a minute.
const OPEN_MAX: usize = 10_000;

/// What an application's name tells apart, if that is wanted.
pub(super) type Scope = Option<Arc<str>>;

/// What the upstream is to follow, shared by all connections of a replay.
#[derive(Debug)]
pub(in crate::net) struct Following {
    replaying: Arc<Replaying>,
    scopes: Mutex<HashMap<Scope, Arc<Behind>>>,
    patience: Duration,
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
    open: HashMap<u128, Open>,
    /// Those by their numbers, which rise.
    ages: BTreeMap<u64, u128>,
    begun: u64,
    /// Those that were taken for aborted because there were too many.
    forgotten: HashSet<u128>,
    /// Why what is to be done is not known any more.
    lost: Option<String>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Command {
    slot: Slot,
    told: Told,
    /// What of that is compared.
    outcome: Slot,
    /// Whether it is the first of a transaction.
    starts: bool,
}

#[derive(Debug, Default)]
struct CarryingOut {
    connection: Option<Connection>,
    /// A command was sent, and its answer did not come yet.
    is_under_way: bool,
    made: Made,
}

impl Following {
    pub(super) fn new(replaying: Arc<Replaying>) -> Self {
        Self { replaying, scopes: Mutex::default(), patience: PATIENCE }
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
            kept.give_up(format!("what it is to follow cannot be kept: {error}"));
        }
    }

    /// Has the upstream do what was done in that scope.
    ///
    /// # Errors
    /// If it cannot be reached, or did not do it in time: what it is asked then would be answered wrong.
    pub(super) async fn catch_up(&self, scope: &Scope, upstream: &Upstream) -> Result<(), String> {
        let behind = self.scope(scope);
        let mut carrying_out = behind.carrying_out.lock().await;
        if std::mem::take(&mut carrying_out.is_under_way) {
            // Whoever waited for the answer has gone.
            behind.lock().give_up("nobody knows whether it did all that the recording answered".to_owned());
        }
        loop {
            if let Some(lost) = &behind.lock().lost {
                return Err(lost.clone());
            }
            if behind.lock().ready.is_empty() {
                return Ok(());
            }
            // It is put back once its answer has come: of one that is still to come it would be that of something else.
            let mut connection = match carrying_out.connection.take() {
                Some(connection) => connection,
                None => upstream.connect(None).await?,
            };
            let Some((command, told)) = behind.lock().next()? else { return Ok(()) };
            carrying_out.is_under_way = true;
            let answer = match connection.takes.adapted(&carrying_out.made.to_server(&command), told.starts) {
                Ok(command) => connection.ask_within(&command, self.patience).await,
                Err(reason) => Err(reason),
            };
            carrying_out.is_under_way = false;
            let lost = |reason| format!("it does not follow what the recording answered: {reason}");
            let reply = answer.map_err(|reason| behind.lock().give_up(lost(reason)))?;
            carrying_out.connection = Some(connection);
            self.compare(&told.told, &reply, &mut carrying_out.made);
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
    fn take(&mut self, step: Step, command: &[u8], mut told: Told) -> io::Result<()> {
        if self.lost.is_some() {
            return Ok(());
        }
        let transaction = match step {
            Step::Write => None,
            Step::Within(transaction) | Step::Commit(transaction) => Some(transaction),
            Step::Abort(transaction) => {
                self.forgotten.remove(&transaction);
                self.abort(transaction);
                return Ok(());
            }
        };
        if transaction.is_some_and(|transaction| self.forgotten.contains(&transaction)) {
            if matches!(step, Step::Commit(_)) {
                self.give_up(TOO_MANY.to_owned());
            }
            return Ok(());
        }
        // One that wrote nothing is nothing.
        let open = transaction.and_then(|transaction| self.close(transaction));
        if matches!(step, Step::Commit(_)) && open.is_none() {
            return Ok(());
        }
        let starts = matches!(step, Step::Within(_)) && open.is_none();
        let outcome = self.spool.put(&told.take_outcome())?;
        let command = Command { slot: self.spool.put(command)?, told, outcome, starts };
        match step {
            Step::Within(transaction) => self.extend(transaction, open, command),
            _ => self.ready.extend(open.into_iter().flat_map(|open| open.commands).chain([command])),
        }
        Ok(())
    }

    /// Adds to a transaction, which begins unless it was open.
    fn extend(&mut self, transaction: u128, open: Option<Open>, command: Command) {
        let mut open = open.unwrap_or_else(|| {
            self.begun += 1;
            Open { number: self.begun, commands: Vec::new() }
        });
        open.commands.push(command);
        self.ages.insert(open.number, transaction);
        self.open.insert(transaction, open);
        if self.open.len() > OPEN_MAX
            && let Some((_, oldest)) = self.ages.first_key_value()
        {
            let oldest = *oldest;
            self.abort(oldest);
            self.forgotten.insert(oldest);
        }
        if self.forgotten.len() > OPEN_MAX {
            self.give_up(TOO_MANY.to_owned());
        }
    }

    fn close(&mut self, transaction: u128) -> Option<Open> {
        let open = self.open.remove(&transaction)?;
        self.ages.remove(&open.number);
        Some(open)
    }

    fn abort(&mut self, transaction: u128) {
        for command in self.close(transaction).into_iter().flat_map(|open| open.commands) {
            self.spool.forget(&command.slot);
            self.spool.forget(&command.outcome);
        }
    }

    /// The next command that is to be carried out; it is not kept any longer.
    fn next(&mut self) -> Result<Option<(Vec<u8>, Next)>, String> {
        let Some(Command { slot, mut told, outcome, starts }) = self.ready.pop_front() else { return Ok(None) };
        let read = self.spool.take(&outcome).and_then(|outcome| Ok((outcome, self.spool.take(&slot)?)));
        match read {
            Ok((outcome, command)) => {
                told.put_outcome(outcome);
                Ok(Some((command, Next { told, starts })))
            }
            Err(error) => Err(self.give_up(format!("what it is to follow cannot be read: {error}"))),
        }
    }

    /// Keeps nothing any more, as it cannot follow; the first reason stays.
    fn give_up(&mut self, reason: String) -> String {
        let lost = self.lost.take().unwrap_or(reason);
        *self = Self { lost: Some(lost.clone()), ..Self::default() };
        lost
    }
}

/// A command that is being carried out.
struct Next {
    told: Told,
    starts: bool,
}

/// Why there is nothing to follow any more where a program leaves its transactions open.
const TOO_MANY: &str = "more transactions were open at a time than can be followed";

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;
    use crate::event::Timestamp;
    use crate::net::serve::Listening;
    use crate::replay::{Recording, Replies, Request, Responder, Settings};

    fn told() -> Told {
        Told::unacknowledged(crate::capture::exchange::Place::Line(5))
    }

    #[test]
    fn transactions_that_never_end_are_bounded_and_those_forgotten_are_not_committed() {
        let mut kept = Kept::default();
        for transaction in 0..12_000 {
            kept.take(Step::Within(transaction), &[0; 50], told()).unwrap();
        }
        assert_eq!((kept.open.len(), kept.ages.len(), kept.forgotten.len()), (10_000, 10_000, 2000));
        for transaction in [0, 5000] {
            kept.take(Step::Within(transaction), &[0; 50], told()).unwrap();
        }
        kept.take(Step::Abort(1), &[], told()).unwrap();
        kept.take(Step::Commit(5000), &[], told()).unwrap();
        assert_eq!((kept.ready.len(), kept.open.len(), kept.lost.as_deref()), (3, 9999, None));
        kept.take(Step::Commit(0), &[], told()).unwrap();
        assert_eq!((kept.ready.len(), kept.open.len(), kept.lost.as_deref()), (0, 0, Some(TOO_MANY)));
        kept.take(Step::Write, &[0; 50], told()).unwrap();
        assert!(kept.ready.is_empty(), "what is lost is kept no more");
    }

    /// A server that says hello, and answers no write.
    struct Silent;

    impl Responder for Silent {
        fn handle(&mut self, request: Request, _: Timestamp, replies: &mut Replies) {
            if request.name() != "insert" {
                replies.reply(&request, &rawdoc! { "ok": 1, "isWritablePrimary": true, "maxWireVersion": 17 });
            }
        }
        fn tick(&mut self, _: Timestamp, _: &mut Replies) {}
    }

    /// A replay with a write to follow, and a server that does not do it.
    fn behind(patience: Duration) -> (crate::net::serve::Server, Arc<Following>, Upstream) {
        let server = Listening::bind(&"127.0.0.1:0".parse().unwrap()).unwrap().serve(|_| Silent).unwrap();
        let replaying = Arc::new(Replaying::new(Arc::new(Recording::new([], Settings::default()))));
        let following = Arc::new(Following { patience, ..Following::new(replaying) });
        let upstream = Upstream {
            endpoints: Arc::new([server.endpoint().clone()]),
            servers: Arc::from("the server"),
            credentials: None,
            following: Arc::clone(&following),
            recorded: None,
            fields: Arc::default(),
        };
        let insert = rawdoc! { "insert": "c", "documents": [{}], "$db": "d" };
        following.scope(&None).lock().take(Step::Write, insert.as_bytes(), told()).unwrap();
        (server, following, upstream)
    }

    #[tokio::test]
    async fn an_upstream_that_does_not_answer_is_given_up() {
        let (_server, following, upstream) = behind(Duration::from_millis(200));
        let told = "it does not follow what the recording answered: it gave no answer within 200ms";
        for _ in 0..2 {
            assert_eq!(following.catch_up(&None, &upstream).await, Err(told.to_owned()));
        }
        assert!(following.scope(&None).carrying_out.lock().await.connection.is_none());
    }

    /// Whether that write was done nobody knows: nothing is asked as if it had been.
    #[tokio::test]
    async fn who_goes_while_it_is_carried_out_leaves_nothing_half_done() {
        let (_server, following, upstream) = behind(PATIENCE);
        let left = tokio::time::timeout(Duration::from_millis(500), following.catch_up(&None, &upstream)).await;
        assert!(left.is_err(), "{left:?}");
        let told = "nobody knows whether it did all that the recording answered";
        assert_eq!(following.catch_up(&None, &upstream).await, Err(told.to_owned()));
    }
}
