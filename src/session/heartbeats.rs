//! The `hello`s that are checks of a server: the heartbeat events that a driver's monitor would give, and what the
//! topologies are told of checks and of errors.
//!
//! A check is a request like any other and has command events too, in the phases `monitor` and `rtt`. Its heartbeat
//! starts with the request, with the connection if it is the first, and for the later parts of a stream with the part
//! before. Round trip time probes and the handshakes of applications' connections have no heartbeats; single-threaded
//! drivers check on the connections that they send commands on.

use std::time::Duration;

use super::Emit;
use super::commands::Commands;
use super::observe::without_words;
use super::pairing::Pending;
use super::reply::Reply;
use super::request::{ReplyForm, Request};
use super::role::Role;
use crate::event::{
    Document, Event, Failure, Observed, Phase, ServerHeartbeatFailed, ServerHeartbeatStarted, ServerHeartbeatSucceeded,
    Side, Timestamp, error_code,
};

/// A server that is well answers within this, beyond the time that it was given to wait. A check that its client
/// gives up later was too slow for it; one given up before ends with its client.
const ANSWERED_WITHIN: Duration = Duration::from_millis(250);

/// The server's error for a check whose client hung up before its answer.
const CLIENT_DISCONNECT: i64 = 279;

impl Commands {
    /// Whether the `n`th request of the connection is a check, or may turn out to be one.
    pub(super) fn is_check(&self, request: &Request, n: u64, phase: Phase) -> bool {
        // What asks for no answer checks nothing.
        if request.hello.is_none() || request.reply == ReplyForm::None {
            return false;
        }
        match self.lifecycle.role() {
            Role::Undecided => true,
            Role::Monitor => phase == Phase::Monitor,
            Role::App => self.lifecycle.is_single_threaded() && (n == 0 || phase == Phase::Monitor),
        }
    }

    pub(super) fn emit_heartbeat_started(&mut self, pending: &Pending, at: Timestamp, emit: &mut Emit<'_>) {
        if !pending.beats || self.lifecycle.took_heartbeats_back() {
            return;
        }
        let connection_id = self.lifecycle.connection().server.clone();
        let event = ServerHeartbeatStarted { connection_id, awaited: is_awaited(pending) };
        self.lifecycle.emit(at, Phase::Monitor, Event::ServerHeartbeatStarted(Box::new(event)), emit);
    }

    /// The heartbeat's end that goes with the command's, if there is one.
    pub(super) fn emit_heartbeat_ended(
        &mut self,
        pending: &Pending,
        answer: Option<Answer<'_>>,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        let Some(Answer { duration, answer }) = answer.filter(|_| !self.lifecycle.took_heartbeats_back()) else {
            return;
        };
        let (connection_id, awaited) = (self.lifecycle.connection().server.clone(), is_awaited(pending));
        let event = match answer {
            Ok(reply) => {
                let event = ServerHeartbeatSucceeded { connection_id, awaited, duration, reply };
                Event::ServerHeartbeatSucceeded(Box::new(event))
            }
            Err(failure) => {
                let event = ServerHeartbeatFailed { connection_id, awaited, duration, failure };
                Event::ServerHeartbeatFailed(Box::new(event))
            }
        };
        self.lifecycle.emit(at, Phase::Monitor, event, emit);
    }

    /// Tells what a reply says of the server; a reply of which a part was left out would say that members have left.
    pub(super) fn observe_reply(&mut self, pending: &Pending, request: &Request, reply: &Reply<'_>, at: Timestamp) {
        let (role, is_first) = (self.lifecycle.role(), !self.is_greeted);
        let watch = self.lifecycle.watch();
        let ok = reply.facts.ok;
        let wordless = (!ok && request.sensitive).then(|| without_words(&reply.document));
        let document = wordless.as_ref().map_or(&*reply.document, |error| error.as_bytes());
        match request.hello {
            Some(_) if ok && (is_first || pending.phase == Phase::Monitor) => {
                watch.tell_reply(at, document, Observed::Hello);
            }
            // The client has gone, says the server, and will not read that.
            Some(_) if error_code(document) == Some(CLIENT_DISCONNECT) => {}
            Some(_) if !ok && pending.phase == Phase::Monitor => watch.tell_reply(at, document, Observed::Hello),
            Some(_) if !ok && role == Role::Undecided => watch.keep(at, document),
            Some(_) => {}
            None if !ok || reply.facts.write_concern_error => {
                watch.tell_error(at, document, request.sensitive, pending.phase == Phase::Auth);
            }
            None => {}
        }
    }

    /// Tells what the end of the connection says of the server, while what was outstanding still is.
    pub(super) fn observe_close(
        &mut self,
        by: Option<Side>,
        is_error: bool,
        at: Timestamp,
        message: &dyn Fn() -> String,
    ) {
        let is_servers = by == Some(Side::Server) || (is_error && by != Some(Side::Client));
        let gave_up = |pending: &Pending| {
            let hello = pending.request.as_ref().and_then(|request| request.hello.as_ref());
            let patience = hello.and_then(|hello| hello.await_time).unwrap_or_default() + ANSWERED_WITHIN;
            by == Some(Side::Client) && at.since(pending.started_at) > patience
        };
        let took_back = self.lifecycle.took_heartbeats_back();
        let check_failed = self.pairing.iter().any(|it| it.beats && !took_back && (is_servers || gave_up(it)));
        let is_command = |pending: &Pending| pending.phase.is_application();
        let command_failed = is_servers && self.pairing.iter().any(is_command);
        if check_failed {
            self.lifecycle.watch().tell(at, Observed::CheckFailed(message()));
        } else if command_failed {
            self.lifecycle.watch().tell(at, Observed::NetworkError(message()));
        }
    }
}

fn is_awaited(pending: &Pending) -> bool {
    pending.request.as_ref().and_then(|request| request.hello.as_ref()).is_some_and(|hello| hello.is_awaitable())
}

/// What became of a check.
pub(super) struct Answer<'a> {
    duration: Duration,
    answer: Result<Document<'a>, Failure<'a>>,
}

impl<'a> Answer<'a> {
    /// As its command's end says it; `None` if it is no check.
    pub(super) fn of(pending: &Pending, end: &Event<'a>) -> Option<Self> {
        match end {
            _ if !pending.beats => None,
            Event::CommandSucceeded(event) => Some(Self { duration: event.duration, answer: Ok(event.reply.clone()) }),
            Event::CommandFailed(event) => {
                let failure = match &event.failure {
                    Failure::Reply(reply) if event.info.sensitive => {
                        Failure::Reply(without_words(reply.as_bytes()).into())
                    }
                    failure => failure.clone(),
                };
                Some(Self { duration: event.duration, answer: Err(failure) })
            }
            _ => None,
        }
    }
}
