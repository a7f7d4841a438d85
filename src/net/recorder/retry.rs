//! What a sink does when its disk fails: tries again after longer and longer pauses (`pass`), or ends, and with it the
//! proxy (`stop`).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::queue::{Health, Queue};
use super::{Context, Say};
use crate::config::{OnError, io_reason};
use crate::sink::plural;

/// The pauses between tries grow from twice this to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What somebody did to a file that is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Spoilt {
    /// It has no name any more.
    Removed,
    /// It is shorter than what was written to it.
    Cut,
}

/// A file to which somebody else can do something while it is written.
pub(super) trait Spoilable {
    /// Whether it has no name any more: what is written to it nobody will read.
    fn is_removed(&self) -> bool;

    /// Whether it was cut where it is: it is shorter than what was written to it, or its beginning is gone.
    fn is_cut(&self) -> bool;
}

/// One sink's failures.
pub(super) struct Retry {
    /// What is being written, as it is called in messages.
    name: String,
    on_error: OnError,
    say: Say,
    /// Tells the recorder why it is to end.
    failure: Arc<watch::Sender<Option<String>>>,
    /// How often in a row writing has failed.
    failures: u32,
    /// Why it failed, until something asks.
    reason: Option<String>,
    /// How many exchanges were in what was cut, if anything was: somebody may have copied it before.
    cut: Option<u64>,
    /// It is to stop, and tries once more.
    is_last_try: bool,
    is_over: bool,
}

impl Retry {
    pub(super) fn new(name: String, on_error: OnError, context: &Context) -> Self {
        let (say, failure) = (Arc::clone(&context.say), Arc::clone(&context.failure));
        Self { name, on_error, say, failure, failures: 0, reason: None, cut: None, is_last_try: false, is_over: false }
    }

    /// Why what is missing at the end is told in no file, if a disk that failed to the end is why.
    pub(super) fn untold(&mut self) -> Option<String> {
        self.reason.take().filter(|_| self.is_over && self.failures > 0)
    }

    /// Says something of the sink.
    pub(super) fn say(&self, what: impl std::fmt::Display) {
        (self.say)(&format!("{}: {what}", self.name));
    }

    /// Whether nothing is to be written any more.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Nothing is to be written any more, for who read it is gone. At the end it has seen enough.
    pub(super) fn left<T: Default>(&mut self, is_ending: bool, queue: &Queue<T>) {
        self.is_over = true;
        if !is_ending {
            self.say("nobody reads it any more; what comes is left out, and counted");
            queue.set_health(Health::Failing);
        }
    }

    /// Why something is missing, told once; `None` if not for a failure.
    pub(super) fn take_reason(&mut self) -> Option<String> {
        self.reason.take()
    }

    /// What was done to the file that is still written, if something was.
    pub(super) fn find(&self, file: &impl Spoilable) -> Option<Spoilt> {
        match () {
            () if self.is_over => None,
            () if file.is_removed() => Some(Spoilt::Removed),
            () if file.is_cut() => Some(Spoilt::Cut),
            () => None,
        }
    }

    /// Says what was done to the file, and notes that it is why so many exchanges are missing that were in it.
    pub(super) fn spoilt(&mut self, spoilt: Spoilt, exchanges: u64) {
        let lost = plural(exchanges, "exchange");
        let reason = match spoilt {
            Spoilt::Removed => {
                self.say(format_args!("was removed, and {lost} with it; another is begun"));
                "the file was removed"
            }
            Spoilt::Cut => {
                *self.cut.get_or_insert_default() += exchanges;
                self.say(format_args!("was cut, and {lost} with it unless they were copied; it is begun anew"));
                "the file was cut; what was in it is missing, unless it was copied"
            }
        };
        self.reason = Some(reason.to_owned());
    }

    /// Says that files put aside went with the one that is written, and notes that it is why so many exchanges are missing.
    pub(super) fn gone(&mut self, files: usize, exchanges: u64) {
        let (files, lost) = (plural(files as u64, "file"), plural(exchanges, "exchange"));
        self.say(format_args!("{files} put aside went with it, and {lost} with them"));
        self.reason = Some("the file was removed, with those that were put aside".to_owned());
    }

    /// Says that there are more files than are to be kept, and when they go.
    pub(super) fn say_too_many(&self, files: usize, keep: u32) {
        if files > 0 {
            self.say(format_args!(
                "{files} files put aside are more than keep = {keep}; they are removed with the next one"
            ));
        }
    }

    /// Notes that something was written.
    pub(super) fn succeeded<T: Default>(&mut self, queue: &Queue<T>) {
        if std::mem::take(&mut self.failures) > 0 {
            self.say("is written again");
            queue.set_health(Health::Working);
        }
    }

    /// Notes that something could not be written, and waits until it may be tried again.
    pub(super) fn failed<T: Default>(&mut self, error: &io::Error, queue: &Queue<T>) {
        let reason = io_reason(error);
        if self.on_error == OnError::Stop {
            self.is_over = true;
            self.failure.send_replace(Some(format!("{}: {reason}", self.name)));
            return;
        }
        if self.failures == 0 {
            self.say(format_args!("{reason}; trying again"));
            queue.set_health(Health::Failing);
        }
        self.reason = Some(reason);
        self.failures += 1;
        let delay = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LAST_PAUSE);
        let stopping = queue.wait_to_try_again(delay);
        self.is_over = stopping && self.is_last_try;
        self.is_last_try = stopping;
    }

    /// Says how much is missing, at the end.
    pub(super) fn say_missing(&self, exchanges: u64, bytes: u64) {
        if bytes > 0 {
            let are = if exchanges == 1 { "is" } else { "are" };
            let unless = match self.cut {
                Some(cut) if cut >= exchanges => " unless they were copied".to_owned(),
                Some(cut @ 1..) => format!(", {cut} of them unless they were copied"),
                _ => String::new(),
            };
            self.say(format_args!("{} ({bytes} bytes) {are} missing{unless}", plural(exchanges, "exchange")));
        }
    }
}
