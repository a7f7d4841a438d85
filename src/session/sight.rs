//! How a message was understood, for who records it: which exchange it belongs to, and whether it may be kept as it is.

use super::commands::Commands;
use super::framing::Frame;
use super::opened::raw_flags;
use crate::event::{Exchange, Seen, SeenMessage, Side};
use crate::wire::WireError;

/// What is noted while a message is read.
#[derive(Debug)]
pub(super) struct Sight {
    /// The exchange that it begins, or that it ends.
    pub(super) exchange: Option<Exchange>,
    /// The exchange that a reply begins because others follow it.
    pub(super) continued: Option<Exchange>,
    /// There may be credentials in it.
    pub(super) sensitive: bool,
    /// Why it could not be read.
    pub(super) unread: Option<WireError>,
}

/// Nothing is known to be harmless until it was read.
impl Default for Sight {
    fn default() -> Self {
        Self { exchange: None, continued: None, sensitive: true, unread: None }
    }
}

impl Commands {
    /// The number of an exchange that a request begins.
    pub(super) fn next_exchange(&mut self) -> Exchange {
        let exchange = self.shared.exchanges.next();
        self.sight.exchange = Some(exchange);
        exchange
    }

    /// The number of an exchange that a reply begins.
    pub(super) fn next_continuation(&mut self) -> Exchange {
        let exchange = self.shared.exchanges.next();
        self.sight.continued = Some(exchange);
        exchange
    }

    /// The message that was handled last, with what is known of it.
    pub(super) fn seen<'f>(&self, side: Side, frame: &Frame<'f>) -> Seen<'f> {
        let Sight { exchange, continued, sensitive, unread } = &self.sight;
        Seen::Message(SeenMessage {
            side,
            bytes: frame.content.map(|content| content.bytes).unwrap_or_default(),
            header: frame.header,
            first_byte_at: frame.first_byte_at,
            sent_at: self.sent_at.filter(|_| side == Side::Client),
            exchange: *exchange,
            continued: *continued,
            sensitive: *sensitive,
            unread: *unread,
            flags: unread.is_some().then(|| raw_flags(frame)),
        })
    }
}
