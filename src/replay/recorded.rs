//! A connection of a server that answers from a recording: handshake, application's commands, errors for what is missing.

use std::sync::Arc;

use bson::raw::RawDocumentBuf;
use bson::rawdoc;

use super::miss::Miss;
use super::nearest::not_answered;
use super::player::{Missed, Outcome, Player};
use super::replaying::Replaying;
use super::{Elsewhere, Explanation, Forward, Handshake, Identity, Replies, Request, Responder};
use crate::bson::find_path;
use crate::event::Timestamp;

/// What is told how each request came by its answer.
pub type Explain = Arc<dyn Fn(&Explanation) + Send + Sync>;

/// A connection that answers from a recording, and refuses what is not in it, or has another server asked.
pub struct Recorded {
    player: Player,
    handshake: Handshake,
    explain: Option<Explain>,
    elsewhere: Option<Arc<Elsewhere>>,
    /// What another server is being asked.
    missed: Option<Box<Missed>>,
}

impl Recorded {
    /// For the connection to which the server gives that `connectionId`.
    pub fn new(replaying: Arc<Replaying>, identity: Arc<Identity>, connection_id: i32) -> Self {
        let (player, handshake) = (Player::new(replaying), Handshake::new(identity, connection_id));
        Self { player, handshake, explain: None, elsewhere: None, missed: None }
    }

    /// Tells how each request came by its answer, as far as the recording's settings have it kept.
    #[must_use]
    pub fn explaining(self, explain: Explain) -> Self {
        Self { explain: Some(explain), ..self }
    }

    /// Has another server asked what is not in the recording. What is known of that is shared by all connections.
    #[must_use]
    pub fn forwarding(self, elsewhere: Arc<Elsewhere>) -> Self {
        let mut player = self.player;
        player.be_followed();
        Self { elsewhere: Some(elsewhere), player, ..self }
    }

    fn missed(&mut self, mut missed: Box<Missed>, replies: &mut Replies) {
        let Some(elsewhere) = &self.elsewhere else { return self.player.refuse(&missed, replies) };
        if missed.may_forward || elsewhere.begins(&missed.request) {
            replies.forward(self.player.forward(missed.request.clone()));
            self.missed = Some(missed);
        } else {
            missed.miss.hint = Some(BEGAN_HERE.to_owned());
            self.player.refuse(&missed, replies);
        }
    }
}

/// The way out where another server may not be asked.
const BEGAN_HERE: &str = "a transaction or a cursor that the recording has begun to answer does not go on at the \
     upstream: mongotap exec --mode all records it anew";

impl Responder for Recorded {
    fn handle(&mut self, request: Request, at: Timestamp, replies: &mut Replies) {
        // A recorded hello is that of another connection.
        if request.is_hello() {
            let name = find_path(&request.command, &[b"client", b"application", b"name"]);
            self.player.set_app_name(name.and_then(|name| name.as_str()));
            let rest = self.handshake.handle(request, at, replies);
            debug_assert!(rest.is_none(), "hello is answered by the handshake");
            return;
        }
        let request = match &self.elsewhere {
            None => request,
            // What belongs to a cursor or a transaction stays where that is.
            Some(elsewhere) => {
                let forward = self.player.forward(request);
                if elsewhere.has(&forward) {
                    return replies.forward(forward);
                }
                forward.request
            }
        };
        match self.player.handle(request, at, replies) {
            Outcome::Answered => {
                if let Some(followed) = self.player.take_followed() {
                    replies.follow(followed);
                }
                if let (Some(explain), Some(explanation)) = (&self.explain, self.player.take_explanation()) {
                    explain(&explanation);
                }
            }
            Outcome::Housekeeping(request) => {
                let rest = self.handshake.handle(request, at, replies);
                if let Some(request) = rest {
                    // One that needs no more than to be taken note of: `refreshSessions`, `getnonce`.
                    replies.reply(&request, &rawdoc! { "ok": 1.0 });
                }
            }
            Outcome::Missed(missed) => self.missed(missed, replies),
        }
    }

    fn forwarded(&mut self, forward: Forward, answer: Result<RawDocumentBuf, String>, replies: &mut Replies) {
        let missed = self.missed.take();
        match (answer, missed) {
            (Ok(document), _) => {
                self.player.forwarded();
                if let Some(elsewhere) = &self.elsewhere {
                    elsewhere.note(&forward, document.as_bytes());
                }
                replies.reply(&forward.request, &document);
            }
            // What belongs there was not looked for in the recording; without an answer it is missed as well.
            (Err(reason), missed) => {
                let asked = not_answered(&forward.request, &reason);
                let miss = match missed {
                    Some(missed) => Miss { reason: asked.reason, hint: asked.hint, ..missed.miss },
                    None => asked,
                };
                self.player.refuse(&Missed { request: forward.request, miss, may_forward: false }, replies);
            }
        }
    }

    fn tick(&mut self, at: Timestamp, replies: &mut Replies) {
        self.handshake.tick(at, replies);
        self.player.tick(at, replies);
    }
}

#[cfg(test)]
mod tests {
    use bson::oid::ObjectId;

    use super::*;
    use crate::event::Address;
    use crate::replay::request::testing::request;
    use crate::replay::{Recording, Settings, decode_reply};

    #[test]
    fn what_the_upstream_does_not_answer_is_missed() {
        let replaying = Arc::new(Replaying::new(Arc::new(Recording::new([], Settings::default()))));
        let identity = Identity::new(rawdoc! { "ok": 1 }, "6.0", ObjectId::from_bytes([1; 12]), Address::parse("h:1"));
        let mut recorded = Recorded::new(Arc::clone(&replaying), Arc::new(identity), 1).forwarding(Arc::default());
        let mut replies = Replies::default();
        let insert = rawdoc! { "insert": "c", "documents": [{}], "$db": "d" };
        let find = rawdoc! { "find": "c", "$db": "d" };
        // The first is in no recording; from there on the collection is the upstream's.
        let gone = || Err("it is gone".to_owned());
        let asked = [(&find, gone()), (&insert, Ok(rawdoc! { "n": 1, "ok": 1 })), (&find, gone())];
        for (command, answer) in asked {
            recorded.handle(request(command), Timestamp::default(), &mut replies);
            let forward = replies.take_forward().unwrap();
            recorded.forwarded(forward, answer, &mut replies);
        }
        let codes = std::iter::from_fn(|| replies.next_frame()).map(|frame| {
            let document = decode_reply(&frame, 1 << 20).unwrap().document;
            RawDocumentBuf::from_bytes(document).unwrap().get_i32("code").unwrap_or(0)
        });
        // None that has a driver ask again.
        assert_eq!(codes.collect::<Vec<_>>(), [27027, 0, 27027]);
        let report = replaying.report();
        assert!(report.is_failure(false), "{report:?}");
        assert_eq!((report.missed, report.forwarded), (2, 1));
        for miss in &report.misses {
            assert!(
                miss.to_string().ends_with("; the upstream was asked: it is gone") && miss.hint.is_some(),
                "{miss}"
            );
        }
    }
}
