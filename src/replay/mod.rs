//! Answering as a server: what is asked, who answers, and in which form the answer goes back.
//!
//! A [`Responder`] serves one connection. It is given each [`Request`] and writes into [`Replies`]: one reply, many,
//! none, the end of the connection, or the wish to be called again later. What answers from a recording, what scripts a
//! test's server and what injects faults are all Responders; `net::serve` gives them sockets and the time. [`play`] is the
//! other way round: a recording's questions are asked of a server.
//!
//! A [`Recording`] is an index over exchanges, [`Replaying`] is one in use, and a [`Player`] asks it for a connection: what
//! counts of a request (`counted`) has digests, they lead to recorded ones (`choose`), which are held against it leaf by
//! leaf (`fit`); what follows from an answer (`live`: bindings, states, transactions) decides about the next.
//!
//! Everything here is pure: the time is an argument, and so is what is random.

mod advice;
mod authentication;
mod bindings;
mod bodies;
mod build;
mod choose;
mod counted;
mod cursors;
mod deployment;
mod difference;
mod digest;
mod effect;
mod elsewhere;
mod explain;
mod fit;
mod follow;
mod handshake;
mod live;
mod miss;
mod more;
mod nearest;
mod outline;
pub mod play;
mod player;
mod recorded;
mod recording;
mod replaying;
mod replies;
mod report;
mod request;
pub mod scram;
mod settings;
mod state;
mod streams;
mod transaction;
mod walked;

pub use authentication::{Accept, Users};
pub use bodies::Bodies;
pub use deployment::Deployment;
pub use difference::{Difference, difference};
pub use elsewhere::Elsewhere;
pub use explain::{Explanation, Note, Why};
pub use follow::{Followed, Made, Step, Takes, Told};
pub use handshake::{Handshake, Identity};
pub use miss::{CODE, CODE_NAME, Miss, Nearest};
pub use player::{Missed, Outcome, Player};
pub use recorded::{Explain, Recorded};
pub use recording::{Indexing, Recording};
pub use replaying::Replaying;
pub use replies::{Forward, Replies};
pub use report::{Asked, MISSES_MAX, Report};
pub use request::Request;
pub(crate) use request::{Reply, decode_reply};
pub use settings::{Path, PathError, Paths, Repeat, Scope, Settings, Timing};
pub use walked::{Findings, Walked};

use bson::raw::RawDocumentBuf;

use crate::event::Timestamp;

/// One connection's server.
pub trait Responder {
    /// Answers a request, now, later or never.
    ///
    /// Requests come one at a time: while a [`tick`](Self::tick) is due, the next one waits, as a server works on one
    /// after the other.
    fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies);

    /// Answers what [`Replies::forward`] had another server asked, with that server's answer or why there is none. Unless
    /// it is overridden, the answer is passed on, and the connection closed without one.
    fn forwarded(&mut self, forward: Forward, answer: Result<RawDocumentBuf, String>, replies: &mut Replies) {
        match answer {
            Ok(document) => replies.reply(&forward.request, &document),
            Err(_) => replies.close(),
        }
    }

    /// Does what [`Replies::tick_at`] was asked for. Nothing, unless it is overridden.
    #[expect(unused_variables, reason = "the empty default names its arguments for the reader")]
    fn tick(&mut self, at: Timestamp, replies: &mut Replies) {}
}
