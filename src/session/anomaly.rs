//! What is wrong with a message but does not hinder reading the next one: said once of its kind on a connection.

use super::Emit;
use super::commands::Commands;
use super::framing::Frame;
use crate::event::{Action, Event, Phase, ProtocolError, Side, Timestamp};
use crate::wire::{Header, OpCode, WireError};

/// What is wrong, as a bit of those that were said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Anomaly {
    Undecodable = 1,
    OutOfOrder = 2,
    Unmatched = 4,
    WithinStream = 8,
}

impl Commands {
    pub(super) fn undecodable(
        &mut self,
        side: Side,
        frame: &Frame<'_>,
        error: WireError,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        self.say(Anomaly::Undecodable, side, frame, &frame.why_unread(error), at, emit);
    }

    /// Says what is wrong with a message, once of its kind.
    pub(super) fn say(
        &mut self,
        what: Anomaly,
        side: Side,
        frame: &Frame<'_>,
        message: &str,
        at: Timestamp,
        emit: &mut Emit<'_>,
    ) {
        if self.said & what as u8 != 0 {
            return;
        }
        self.said |= what as u8;
        let Header { request_id, response_to, op_code, .. } = frame.header;
        // As it was on the wire, also of one that was recorded without its compression.
        let op_code = if frame.compressor.is_some() { OpCode::Compressed } else { op_code };
        let message =
            format!("{message} (requestID {request_id}, responseTo {response_to}, opCode {})", op_code.as_i32());
        let event = ProtocolError { side, offset: frame.offset, message: message.into(), action: Action::Forwarded };
        self.lifecycle.emit(at, Phase::App, Event::ProtocolError(event), emit);
    }
}
