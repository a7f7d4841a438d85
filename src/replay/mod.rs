//! Answering as a server: what is asked, who answers, and in which form the answer goes back.
//!
//! A [`Responder`] serves one connection. It is given each [`Request`] and writes into [`Replies`]: one reply, many,
//! none, the end of the connection, or the wish to be called again later. What answers from a recording, what scripts a
//! test's server and what injects faults are all Responders; `net::serve` gives them sockets and the time.
//!
//! Everything here is pure: the time is an argument. Authentication is not for here yet: who tries it is told so.

mod authentication;
mod cursors;
mod difference;
mod handshake;
mod recorded;
mod replies;
mod request;
pub mod scram;

pub use authentication::{Accept, Users};
pub use difference::{Difference, difference};
pub use handshake::{Handshake, Identity, lasting_hello};
pub use recorded::{Recorded, Recording};
pub use replies::Replies;
pub use request::Request;
pub(crate) use request::{Reply, decode_reply};

use crate::event::Timestamp;

/// One connection's server.
pub trait Responder {
    /// Answers a request, now, later or never.
    ///
    /// Requests come one at a time: while a [`tick`](Self::tick) is due, the next one waits, as a server works on one
    /// after the other.
    fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies);

    /// Does what [`Replies::tick_at`] was asked for. Nothing, unless it is overridden.
    #[expect(unused_variables, reason = "the empty default names its arguments for the reader")]
    fn tick(&mut self, at: Timestamp, replies: &mut Replies) {}
}
