//! Messages of both sides in, command events out: decoding, pairing, and what is said when it does not work. What a
//! `hello` means beside that is `heartbeats`' business.

use std::borrow::Cow;
use std::sync::Arc;

use bson::oid::ObjectId;

use super::anomaly::Anomaly;
use super::framing::{Frame, TLS_HANDSHAKE};
use super::heartbeats::Answer;
use super::lifecycle::Lifecycle;
use super::opened::{Opened, limited, open, raw_flags, too_long, unseen, wire_len};
use super::pairing::{Match, PENDING_MAX, Pairing, Pending};
use super::reply::{self, Facts, HelloReply, Reply};
use super::request::{self, ReplyForm, Request};
use super::role::{self, ClientKey, Role};
use super::shorten::Shortened;
use super::sight::Sight;
use super::within;
use super::{Emit, Limits, Shared};
use crate::event::{
    Action, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Compressor, Connection, Document, Event,
    Failure, Measures, Phase, ProtocolError, Side, Timestamp,
};
use crate::wire::{Message, OpCode, WireError, msg_flags};

/// `{ok: 1}`, which an unacknowledged write is said to have been answered.
const OK: &[u8] = &[13, 0, 0, 0, 0x10, b'o', b'k', 0, 1, 0, 0, 0, 0];

/// Room for inflated messages that is kept between two of them.
const INFLATED_CAPACITY_MAX: usize = 16 << 10;

/// The commands of one connection.
#[derive(Debug)]
pub(super) struct Commands {
    pub(super) lifecycle: Lifecycle,
    pub(super) shared: Shared,
    pub(super) pairing: Pairing,
    /// Requests that nobody answers and whose bytes may not have gone out yet.
    unsent: Vec<Pending>,
    /// When the bytes that are being read went out, if they all have.
    pub(super) sent_at: Option<Timestamp>,
    /// Requests seen.
    requests: u64,
    /// The names of the last of them.
    names: request::Before,
    /// The first `hello` was answered.
    pub(super) is_greeted: bool,
    server_connection_id: Option<i64>,
    service_id: Option<ObjectId>,
    is_tunnel: bool,
    /// The anomalies that were said.
    pub(super) said: u8,
    inflated: Vec<u8>,
    /// How the message that was read last was understood.
    pub(super) sight: Sight,
}

impl Commands {
    pub(super) fn new(connection: Arc<Connection>, at: Timestamp, shared: Shared) -> Self {
        Self {
            lifecycle: Lifecycle::new(connection, at, &shared),
            shared,
            pairing: Pairing::default(),
            unsent: Vec::new(),
            sent_at: None,
            requests: 0,
            names: Vec::new(),
            is_greeted: false,
            server_connection_id: None,
            service_id: None,
            is_tunnel: false,
            said: 0,
            inflated: Vec::new(),
            sight: Sight::default(),
        }
    }

    pub(super) fn limits(&self) -> Limits {
        self.shared.limits
    }

    pub(super) fn is_tunnel(&self) -> bool {
        self.is_tunnel
    }

    pub(super) fn awaits_sent(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn is_undecided(&self) -> bool {
        self.lifecycle.role() == Role::Undecided && !self.is_tunnel
    }

    pub(super) fn is_busy(&self) -> bool {
        let waits = |pending: &Pending| {
            pending.phase.is_application() && pending.request.as_ref().is_some_and(|request| !request.tails)
        };
        !self.unsent.is_empty() || self.pairing.iter().any(waits)
    }

    pub(super) fn handle_frame(&mut self, side: Side, frame: &Frame<'_>, at: Timestamp, emit: &mut Emit<'_>) {
        self.sight = Sight::default();
        let mut inflated = std::mem::take(&mut self.inflated);
        let mut opened = match frame.content {
            Ok(content) => open(frame, content, &self.shared.limits, &mut inflated),
            Err(error) => Err(error),
        };
        // One that was shortened was looked through when it was whole.
        if let Ok(Opened { bytes, shortened: None, .. }) = &opened
            && let Err(error) = within::check(bytes)
        {
            opened = Err(error);
        }
        match side {
            Side::Client => self.handle_request(frame, &opened, at, emit),
            Side::Server => self.handle_reply(frame, &opened, at, emit),
        }
        if inflated.capacity() <= INFLATED_CAPACITY_MAX {
            self.inflated = inflated;
        }
    }

    fn handle_request(
        &mut self,
        frame: &Frame<'_>,
        opened: &Result<Opened<'_>, WireError>,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        if self.pairing.is_full() {
            let message = format!("more than {PENDING_MAX} requests wait for a reply");
            return self.tunnel(Side::Client, frame.offset, message.into(), at, emit);
        }
        let header = &frame.header;
        let decoded = opened.as_ref().map_err(|error| *error).and_then(|opened| {
            // The borrow of the decoded message ends with its events.
            let (_, message) = Message::decode(&opened.bytes)?;
            if let (Message::Msg(message), true) = (&message, opened.shortened.is_some_and(|it| it.nameless)) {
                let request = Request::unseen(header.request_id, opened.compressor, message.flags);
                self.start(request, Document::empty(), frame, at, emit);
                return Ok(());
            }
            let started = request::read(&message, header.request_id, opened.compressor, &mut self.names)?;
            let document = limited(started.command, opened.shortened, &self.shared.limits);
            let mut request = started.request;
            request.command = request.repeats.then(|| document.clone().into_owned());
            self.start(request, document, frame, at, emit);
            Ok(())
        });
        if let Err(error) = decoded {
            self.handle_unread_request(frame, error, at, emit);
        }
    }

    /// A request came that cannot be read. One that is only too long to be inflated is a request all the same.
    fn handle_unread_request(&mut self, frame: &Frame<'_>, error: WireError, at: Timestamp, emit: &mut Emit<'_>) {
        let header = &frame.header;
        let flags = raw_flags(frame);
        self.sight.unread = Some(error);
        if let Some(compressed) = too_long(frame, error) {
            let request = Request::unseen(header.request_id, Some(compressed.compressor), flags);
            return self.start(request, unseen(&compressed), frame, at, emit);
        }
        self.undecodable(Side::Client, frame, error, at, emit);
        // It is answered all the same if such a message ever is, and the reply is nothing to wonder at.
        let is_legacy_write =
            matches!(header.op_code, OpCode::Insert | OpCode::Update | OpCode::Delete | OpCode::KillCursors);
        if is_legacy_write || flags & msg_flags::MORE_TO_COME != 0 {
            return;
        }
        self.requests += 1;
        let exchange = self.next_exchange();
        self.pairing.push(Pending {
            key: header.request_id,
            request: None,
            phase: Phase::App,
            beats: false,
            exchange,
            continues: None,
            started_at: at,
            request_bytes: wire_len(header),
        });
    }

    /// A request was read: its started event, and its waiting for the reply or for its bytes to be gone.
    fn start(
        &mut self,
        request: Request,
        command: Document<'_>,
        frame: &Frame<'_>,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        if self.pairing.iter().next().is_some_and(|head| head.continues.is_some()) {
            self.say(Anomaly::WithinStream, Side::Client, frame, "a request within an exhaust stream", at, emit);
        }
        let n = self.requests;
        self.requests += 1;
        let phase = self.classify(&request, n, at, emit);
        self.sight.sensitive = request.sensitive;
        let pending = Pending {
            key: request.request_id,
            phase,
            beats: self.is_check(&request, n, phase),
            exchange: self.next_exchange(),
            continues: None,
            started_at: at,
            request_bytes: wire_len(&frame.header),
            request: Some(request),
        };
        self.emit_started(&pending, command, at, emit);
        // A connection is made for its first check: that begins with it.
        self.emit_heartbeat_started(&pending, if n == 0 { self.lifecycle.created_at() } else { at }, emit);
        match &pending.request {
            Some(request) if request.reply == ReplyForm::None => match self.sent_at {
                Some(sent_at) => self.finish_unanswered(&pending, sent_at, emit),
                None => self.unsent.push(pending),
            },
            _ => self.pairing.push(pending),
        }
    }

    /// Finds out the phase of a request, and whose connection it is as far as the request shows it.
    fn classify(&mut self, request: &Request, n: u64, at: Timestamp, emit: &mut Emit<'_>) -> Phase {
        if let (0, Some(hello)) = (n, &request.hello) {
            let key = ClientKey::new(self.lifecycle.connection(), hello);
            self.lifecycle.greet(key, hello, at);
        }
        if let Some(role) = role::shown_by(request, n) {
            if request.hello.as_ref().is_some_and(|hello| hello.is_awaitable()) && self.lifecycle.role() != Role::App {
                self.lifecycle.streams();
            }
            self.lifecycle.decide(role, at, emit);
            self.settle_phases();
        }
        match self.lifecycle.role() {
            Role::Undecided => Phase::Handshake,
            Role::Monitor => self.lifecycle.monitor_phase(),
            Role::App => {
                let phase = role::app_phase(request, n, self.lifecycle.is_single_threaded());
                if phase.is_application() {
                    self.lifecycle.before_command(phase == Phase::Auth, at, emit);
                }
                if request.name() == "endSessions" {
                    self.lifecycle.ends_sessions(at);
                }
                phase
            }
        }
    }

    /// A request whose phase was not known when it came has its end in the phase that its start was given.
    fn settle_phases(&mut self) {
        if self.lifecycle.role() == Role::Monitor {
            let phase = self.lifecycle.monitor_phase();
            self.pairing.settle(Phase::Handshake, phase);
        }
    }

    fn handle_reply(
        &mut self,
        frame: &Frame<'_>,
        opened: &Result<Opened<'_>, WireError>,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        let Some(found) = self.pairing.take(frame.header.response_to) else {
            let message = "a reply to no request that waits";
            return self.say(Anomaly::Unmatched, Side::Server, frame, message, at, emit);
        };
        if !found.in_order {
            let message = "a reply before those to earlier requests";
            self.say(Anomaly::OutOfOrder, Side::Server, frame, message, at, emit);
        }
        let pending = &found.pending;
        self.sight.exchange = Some(pending.exchange);
        let Some(request) = &pending.request else { return };
        let outcome = opened.as_ref().map_err(|error| *error).and_then(|opened| {
            let (_, message) = Message::decode(&opened.bytes)?;
            let reply = reply::read(&message, request, opened.shortened.as_ref())?;
            let more = reply.more_to_come;
            self.finish(pending, reply, opened.shortened, opened.compressor, frame, at, emit);
            Ok(more)
        });
        match outcome {
            Ok(true) => self.continue_stream(found, frame.header.request_id, at, emit),
            Ok(false) => {}
            Err(error) => {
                self.finish_unread(pending, frame, error, at, emit);
                // What follows names this reply, unread as it is.
                if raw_flags(frame) & msg_flags::MORE_TO_COME != 0 {
                    self.continue_stream(found, frame.header.request_id, at, emit);
                }
            }
        }
    }

    /// A reply was read: the end of its exchange.
    #[expect(clippy::too_many_arguments, reason = "all of what a reply is")]
    fn finish(
        &mut self,
        pending: &Pending,
        reply: Reply<'_>,
        shortened: Option<Shortened>,
        compressor: Option<Compressor>,
        frame: &Frame<'_>,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        let Some(request) = &pending.request else { return };
        if shortened.is_none_or(|shortened| shortened.truncated.bytes == 0) {
            self.observe_reply(pending, request, &reply, at);
        }
        self.learn(request, &reply, at);
        let Facts { ok, measures, speculative, authenticated, .. } = reply.facts;
        let document = limited(reply.document, shortened, &self.shared.limits);
        let measures = measures_of(pending, Some(frame), measures);
        let mut info = self.info(pending, request);
        info.compressor = compressor;
        info.sensitive |= speculative;
        self.sight.sensitive = info.sensitive;
        let duration = at.since(pending.started_at);
        let event = if ok {
            Event::CommandSucceeded(CommandSucceeded { info, duration, reply: document, measures })
        } else {
            Event::CommandFailed(CommandFailed { info, duration, failure: Failure::Reply(document), measures })
        };
        self.end(pending, event, at, emit);
        let ends_authentication = match &request.hello {
            Some(_) => speculative && authenticated,
            None => (authenticated || request.name() == "authenticate") && request.authenticates(),
        };
        if ok && ends_authentication {
            self.lifecycle.authenticated(at, emit);
        }
    }

    /// Learns from the reply to the connection's first `hello`.
    fn learn(&mut self, request: &Request, reply: &Reply<'_>, at: Timestamp) {
        let Some(hello) = &request.hello else { return };
        if self.is_greeted || !reply.facts.ok {
            return;
        }
        self.is_greeted = true;
        let HelloReply { connection_id, service_id, compressors } = reply::hello_reply(&reply.document);
        self.server_connection_id = connection_id;
        self.service_id = service_id.filter(|_| hello.load_balanced);
        self.lifecycle.handshaken(connection_id, compressors, at);
    }

    /// A reply came that cannot be read. One that is only too long to be inflated was a success as far as can be told.
    fn finish_unread(
        &mut self,
        pending: &Pending,
        frame: &Frame<'_>,
        error: WireError,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        self.sight.unread = Some(error);
        let Some(request) = &pending.request else { return };
        let info = self.info(pending, request);
        let duration = at.since(pending.started_at);
        let measures = measures_of(pending, Some(frame), Measures::default());
        if let Some(compressed) = too_long(frame, error) {
            let reply = unseen(&compressed);
            let info = CommandInfo { compressor: Some(compressed.compressor), ..info };
            let event = Event::CommandSucceeded(CommandSucceeded { info, duration, reply, measures });
            return self.end(pending, event, at, emit);
        }
        let message = format!("the reply could not be read: {}", frame.why_unread(error));
        let failure = Failure::Network { message: message.into(), closed_by: None };
        let event = Event::CommandFailed(CommandFailed { info, duration, failure, measures });
        self.end(pending, event, at, emit);
        self.undecodable(Side::Server, frame, error, at, emit);
    }

    /// More replies follow: the request waits on, under the id of the reply that came, as an exchange of its own.
    fn continue_stream(&mut self, found: Match, key: i32, at: Timestamp, emit: &mut Emit<'_>) {
        let (position, ended) = (found.position(), found.pending);
        let Some(mut request) = ended.request else { return };
        request.request_id = key;
        let pending = Pending {
            key,
            phase: ended.phase,
            beats: ended.beats,
            exchange: self.next_continuation(),
            continues: Some(ended.continues.unwrap_or(ended.exchange)),
            started_at: at,
            request_bytes: 0,
            request: Some(request),
        };
        let command = pending.request.as_ref().and_then(|request| request.command.clone());
        let command = command.unwrap_or_else(Document::empty);
        self.emit_started(&pending, command, at, emit);
        self.emit_heartbeat_started(&pending, at, emit);
        self.pairing.put_back(position, pending);
    }

    pub(super) fn handle_sent(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        for pending in std::mem::take(&mut self.unsent) {
            self.finish_unanswered(&pending, at, emit);
        }
    }

    fn finish_unanswered(&mut self, pending: &Pending, at: Timestamp, emit: &mut Emit<'_>) {
        let Some(request) = &pending.request else { return };
        let info = self.info(pending, request);
        let measures = measures_of(pending, None, Measures::default());
        let duration = at.since(pending.started_at);
        let event = CommandSucceeded { info, duration, reply: Document::new(OK), measures };
        // Sent with what was read with it, it is done before that is looked at: its moment is the read's.
        let at = if self.sent_at.is_some() { pending.started_at } else { at };
        self.lifecycle.emit(at, pending.phase, Event::CommandSucceeded(event), emit);
    }

    pub(super) fn judgement(&self) -> bool {
        self.lifecycle.judgement()
    }

    pub(super) fn handle_judged(&mut self, is_monitor: bool) {
        self.lifecycle.handle_judged(is_monitor);
    }

    pub(super) fn handle_tick(&mut self, at: Timestamp, emit: &mut Emit<'_>) {
        if self.pairing.is_empty() {
            self.lifecycle.tick(at, emit);
        }
    }

    /// Where the next message begins is not known any more.
    pub(super) fn lose_framing(
        &mut self,
        side: Side,
        offset: u64,
        error: WireError,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        let mut message = error.to_string();
        if error == TLS_HANDSHAKE {
            message.push_str("; [tls.listen] terminates TLS");
        }
        self.tunnel(side, offset, message.into(), at, emit);
    }

    /// A message is not passed on, and the connection will be closed for it.
    pub(super) fn handle_withheld(
        &mut self,
        side: Side,
        offset: u64,
        message: &str,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        let event = ProtocolError { side, offset, message: message.into(), action: Action::Closed };
        self.lifecycle.emit(at, Phase::App, Event::ProtocolError(event), emit);
    }

    /// Nothing more is read of this connection.
    fn tunnel(&mut self, side: Side, offset: u64, message: Cow<'_, str>, at: Timestamp, emit: &mut Emit<'_>) {
        self.is_tunnel = true;
        // A monitor's stays one, and its heartbeat has an end.
        if self.lifecycle.role() == Role::Undecided {
            self.lifecycle.decide(Role::App, at, emit);
        }
        let failure = format!("the connection could not be read on: {message}");
        self.fail_all(&failure, None, at, emit);
        let event = ProtocolError { side, offset, message, action: Action::Tunnelled };
        self.lifecycle.emit(at, Phase::App, Event::ProtocolError(event), emit);
    }

    pub(super) fn handle_close(
        &mut self,
        by: Option<Side>,
        error: Option<&str>,
        torn: bool,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        self.lifecycle.decide_at_end(at, emit);
        self.settle_phases();
        let torn = torn && !self.is_tunnel;
        self.observe_close(by, error.is_some(), at, &|| close_message(by, error, torn).into_owned());
        let waited = !self.pairing.is_empty() || !self.unsent.is_empty();
        self.fail_all(&close_message(by, error, torn), by, at, emit);
        let is_error = error.is_some() || torn || (waited && by == Some(Side::Server));
        self.lifecycle.close(by, is_error, at, emit);
        // Whatever still comes belongs to no exchange.
        self.is_tunnel = true;
    }

    fn fail_all(&mut self, message: &str, closed_by: Option<Side>, at: Timestamp, emit: &mut Emit<'_>) {
        let mut failed = std::mem::take(&mut self.unsent);
        failed.extend(std::iter::from_fn(|| self.pairing.pop()));
        // As they were asked; a part of a stream stands where its request did.
        failed.sort_by_key(|pending| pending.continues.unwrap_or(pending.exchange));
        for pending in failed {
            let Some(request) = &pending.request else { continue };
            let info = self.info(&pending, request);
            let measures = measures_of(&pending, None, Measures::default());
            let failure = Failure::Network { message: message.into(), closed_by };
            let duration = at.since(pending.started_at);
            let event = Event::CommandFailed(CommandFailed { info, duration, failure, measures });
            self.end(&pending, event, at, emit);
        }
    }

    fn emit_started(&mut self, pending: &Pending, command: Document<'_>, at: Timestamp, emit: &mut Emit<'_>) {
        let Some(request) = &pending.request else { return };
        let event = CommandStarted { info: self.info(pending, request), command };
        self.lifecycle.emit(at, pending.phase, Event::CommandStarted(event), emit);
    }

    /// The end of an exchange, and of the check that it was if it was one.
    fn end(&mut self, pending: &Pending, event: Event<'_>, at: Timestamp, emit: &mut Emit<'_>) {
        let answer = Answer::of(pending, &event);
        self.lifecycle.emit(at, pending.phase, event, emit);
        self.emit_heartbeat_ended(pending, answer, at, emit);
    }

    fn info<'a>(&self, pending: &Pending, request: &'a Request) -> CommandInfo<'a> {
        CommandInfo {
            server_connection_id: self.server_connection_id,
            service_id: self.service_id,
            exchange: pending.exchange,
            continues: pending.continues,
            ..request.info()
        }
    }
}

/// What was measured of an exchange: by its reply if there was one, beside what the reply says itself.
fn measures_of(pending: &Pending, reply: Option<&Frame<'_>>, said: Measures) -> Measures {
    Measures {
        request_bytes: pending.request_bytes,
        reply_bytes: reply.map_or(0, |frame| wire_len(&frame.header)),
        first_byte: reply.map(|frame| frame.first_byte_at.since(pending.started_at)),
        ..said
    }
}

/// Why a connection ended, in words.
fn close_message(by: Option<Side>, error: Option<&str>, torn: bool) -> Cow<'static, str> {
    let within = if torn { ", within a message" } else { "" };
    match (by, error) {
        (_, Some(error)) => format!("{error}{within}").into(),
        (Some(Side::Client), None) => format!("client closed connection{within}").into(),
        (Some(Side::Server), None) => format!("server closed connection{within}").into(),
        (None, None) => "proxy stopped".into(),
    }
}
