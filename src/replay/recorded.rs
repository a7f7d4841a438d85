//! A connection of a server that answers from a recording: handshake, application's commands, errors for what is missing.

use std::sync::Arc;

use super::player::{Outcome, Player};
use super::replaying::Replaying;
use super::{Explanation, Handshake, Identity, Replies, Request, Responder};
use crate::bson::find_path;
use crate::event::Timestamp;

/// What is told how each request came by its answer.
pub type Explain = Arc<dyn Fn(&Explanation) + Send + Sync>;

/// A connection that answers from a recording, and refuses what is not in it.
pub struct Recorded {
    player: Player,
    handshake: Handshake,
    explain: Option<Explain>,
}

impl Recorded {
    /// For the connection to which the server gives that `connectionId`.
    pub fn new(replaying: Arc<Replaying>, identity: Arc<Identity>, connection_id: i32) -> Self {
        Self { player: Player::new(replaying), handshake: Handshake::new(identity, connection_id), explain: None }
    }

    /// Tells how each request came by its answer, as far as the recording's settings have it kept.
    #[must_use]
    pub fn explaining(self, explain: Explain) -> Self {
        Self { explain: Some(explain), ..self }
    }
}

impl Responder for Recorded {
    fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
        // A recorded hello is that of another connection.
        let rest = if request.is_hello() {
            let name = find_path(&request.command, &[b"client", b"application", b"name"]);
            self.player.set_app_name(name.and_then(|name| name.as_str()));
            self.handshake.handle(request, at, replies)
        } else {
            Some(request)
        };
        let Some(request) = rest else { return };
        let rest = match self.player.handle(request, at, replies) {
            Outcome::Answered => {
                if let (Some(explain), Some(explanation)) = (&self.explain, self.player.take_explanation()) {
                    explain(&explanation);
                }
                return;
            }
            Outcome::Housekeeping(request) => self.handshake.handle(request, at, replies),
            Outcome::Missed(missed) => match self.handshake.handle(missed.request.clone(), at, replies) {
                None => return,
                Some(_) => return self.player.refuse(&missed, replies),
            },
        };
        debug_assert!(rest.is_none(), "housekeeping is answered by the handshake");
    }

    fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        self.handshake.tick(at, replies);
        self.player.tick(at, replies);
    }
}
