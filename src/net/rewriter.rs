//! Finds the replies to `hello` among a server's bytes, which are to be held until they are whole: everything else goes
//! on at once, even in part. A reply that may be one is taken for one, and where nobody can know, none goes on: the names
//! in it are the servers' own, and a driver would dial them.

use std::io;
use std::sync::Arc;

use super::beside::Watch;
use super::members::{HELLO_LEN_MAX, Member, Members, Refused};
use super::pump::Failed;
use super::say::with_hint;
use crate::event::{Side, Timestamp};
use crate::pipeline::Pipeline;
use crate::wire::{HEADER_LEN, Header, Reader, WireError};

/// Takes bytes for the client, and tells the pipeline of them.
pub(super) type GoOn<'a> = dyn FnMut(&[u8], &mut Watch) + 'a;

/// What is kept back, in words.
const HELLO: &str = "a reply to hello";
const ANY: &str = "a reply that may be to hello";

/// A connection whose replies to `hello` have other names for the members.
#[derive(Debug)]
pub(super) struct Rewriting {
    rewriter: Rewriter,
    members: Arc<Members>,
    member: Arc<Member>,
    /// What was read behind a message that the pipeline went away with, and when.
    rest: Option<(Vec<u8>, Timestamp)>,
    /// Why a reply must not go on, once there is one that must not.
    pub(super) withheld: Option<String>,
}

impl Rewriting {
    /// For a connection to that member; `None` if replies go on as they are.
    pub(super) fn of(members: &Arc<Members>, member: &Arc<Member>, max_message_bytes: usize) -> Option<Box<Self>> {
        let rewriting = || {
            let (members, member) = (Arc::clone(members), Arc::clone(member));
            Box::new(Self { rewriter: Rewriter::new(max_message_bytes), members, member, rest: None, withheld: None })
        };
        members.are_discovered.then(rewriting)
    }

    /// What was kept of a message whose rest will not come; see [`Rewriter::finish`].
    pub(super) fn finish(&mut self) -> (Vec<u8>, bool) {
        self.rewriter.finish()
    }

    /// Whether there is a rest to [take](Self::take_rest).
    #[cfg(test)]
    pub(super) fn has_rest(&self) -> bool {
        self.rest.is_some()
    }

    /// What was left of the bytes of an earlier time, to be passed before others are read.
    pub(super) fn take_rest(&mut self) -> Option<(Vec<u8>, Timestamp)> {
        self.rest.take()
    }

    /// Has bytes of the server's, read at `at`, go on as they are to: by `go_on`, in their order, what belongs together at
    /// once. If that takes the pipeline away, the [rest](Self::take_rest) waits: nobody knows what it answers.
    ///
    /// # Errors
    /// If a reply must not go on.
    pub(super) fn pass(
        &mut self,
        bytes: &[u8],
        at: Timestamp,
        watch: &mut Watch,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), Failed> {
        // Bytes that go on as they are, together.
        let (mut start, mut end) = (0, 0);
        loop {
            let rest = bytes.get(end..).unwrap_or_default();
            // What a message answers is known only once the replies before it have been seen.
            if start < end && (rest.is_empty() || self.rewriter.is_between()) {
                go_on(bytes.get(start..end).unwrap_or_default(), watch);
                start = end;
            }
            if rest.is_empty() {
                return Ok(());
            }
            if watch.is_away() {
                self.rest = Some((rest.to_vec(), at));
                return Ok(());
            }
            let (taken, cut) = self.cut(rest, watch.here())?;
            end += taken;
            match cut {
                Cut::Pass => continue,
                Cut::Kept => {}
                Cut::Header(kept) => go_on(&kept, watch),
                Cut::Hello(frame) => go_on(&self.rewrite(frame)?, watch),
                Cut::TooLong(len) => return Err(self.withhold(HELLO, format!("{len} bytes are too many").into())),
                Cut::Unreadable(error) => return Err(self.withhold(ANY, error.to_string().into())),
            }
            start = end;
        }
    }

    /// What becomes of the next bytes. Where requests cannot be read any more nobody knows which replies name members,
    /// and so none goes on.
    fn cut(&mut self, bytes: &[u8], pipeline: &Pipeline) -> Result<(usize, Cut), Failed> {
        if pipeline.is_tunnel() {
            let hint = is_tls(bytes).then_some("[tls.listen] terminates TLS");
            return Err(self.withhold(ANY, Refused { why: "its request could not be read".to_owned(), hint }));
        }
        Ok(self.rewriter.cut(bytes, |response_to| pipeline.may_await_hello(response_to)))
    }

    /// What goes on in the place of a reply to `hello`.
    fn rewrite(&mut self, frame: Vec<u8>) -> Result<Vec<u8>, Failed> {
        match self.members.rewrite(&self.member, &frame) {
            Ok(other) => Ok(other.map_or(frame, Vec::from)),
            Err(refused) => Err(self.withhold(HELLO, refused)),
        }
    }

    /// A reply cannot be rewritten, and so the connection ends.
    fn withhold(&mut self, what: &str, Refused { why, hint }: Refused) -> Failed {
        let message = format!("{what} is kept back: {why}");
        let trouble = format_args!("upstream {}: {message}; the connection is closed", self.member.dial());
        self.members.say_once(with_hint(trouble, hint));
        let failed = Failed { side: Side::Server, error: io::Error::other(message.clone()) };
        self.withheld = Some(message);
        failed
    }
}

/// Where it stands in the server's bytes.
#[derive(Debug)]
pub(super) struct Rewriter {
    state: State,
    /// The longest message; a longer one is not taken for one.
    max_message_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// A part of a header, or nothing yet.
    Header(Held),
    /// So many bytes of a message that goes on as it comes.
    Passing(usize),
    /// A part of a reply to `hello`, and its whole length.
    Holding(Vec<u8>, usize),
}

/// So much of a header as has come.
#[derive(Debug, Default)]
struct Held {
    bytes: [u8; HEADER_LEN],
    len: usize,
}

/// What becomes of bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Cut {
    /// They go on as they are.
    Pass,
    /// They are kept for now.
    Kept,
    /// With them, the header that was kept is to go on.
    Header([u8; HEADER_LEN]),
    /// With them, a reply to `hello` is whole.
    Hello(Vec<u8>),
    /// A reply to `hello` that is too long to be held.
    TooLong(usize),
    /// No message can be read here, nor after it.
    Unreadable(WireError),
}

impl Rewriter {
    pub(super) fn new(max_message_bytes: usize) -> Self {
        Self { state: State::Header(Held::default()), max_message_bytes }
    }

    /// Whether the last message is whole, and nothing of the next one has come.
    fn is_between(&self) -> bool {
        matches!(self.state, State::Header(Held { len: 0, .. }))
    }

    /// Says of how many of these bytes, at least one, becomes what. `is_hello` tells by its `responseTo` whether a
    /// message may be the reply to a `hello`.
    pub(super) fn cut(&mut self, bytes: &[u8], is_hello: impl Fn(i32) -> bool) -> (usize, Cut) {
        match &mut self.state {
            State::Passing(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.state = State::Header(Held::default());
                }
                (taken, Cut::Pass)
            }
            State::Holding(frame, len) => {
                let taken = bytes.len().min(*len - frame.len());
                frame.extend_from_slice(&bytes[..taken]);
                if frame.len() < *len {
                    return (taken, Cut::Kept);
                }
                let frame = std::mem::take(frame);
                self.state = State::Header(Held::default());
                (taken, Cut::Hello(frame))
            }
            State::Header(held) => {
                // Most come whole, and nothing of them is held.
                let (taken, header, passed) = match bytes.first_chunk() {
                    Some(header) if held.len == 0 => (HEADER_LEN, *header, Cut::Pass),
                    _ => {
                        let taken = held.take(bytes);
                        if held.len < HEADER_LEN {
                            return (taken, Cut::Kept);
                        }
                        (taken, held.bytes, Cut::Header(held.bytes))
                    }
                };
                let (state, cut) = self.begin(&header, passed, is_hello);
                self.state = state;
                (taken, cut)
            }
        }
    }

    /// What the message of that header is, and what becomes of the header: `passed` if it goes on.
    fn begin(&self, header: &[u8; HEADER_LEN], passed: Cut, is_hello: impl Fn(i32) -> bool) -> (State, Cut) {
        let read = Header::decode(&mut Reader::new(header))
            .and_then(|decoded| Ok((decoded, decoded.checked_len(self.max_message_bytes)?)));
        let (decoded, len) = match read {
            Ok(read) => read,
            Err(error) => return (State::Passing(usize::MAX), Cut::Unreadable(error)),
        };
        match len {
            // Nothing but a header: no names are in it, and it is whole.
            HEADER_LEN => (State::Header(Held::default()), passed),
            len if !is_hello(decoded.response_to) => (State::Passing(len - HEADER_LEN), passed),
            HELLO_LEN_MAX.. => (State::Passing(usize::MAX), Cut::TooLong(len)),
            len => (State::Holding(header.to_vec(), len), Cut::Kept),
        }
    }

    /// What is kept of a message whose rest will not come, and whether it is to go on all the same: half a reply to
    /// `hello` is not, for its names cannot be changed any more.
    pub(super) fn finish(&mut self) -> (Vec<u8>, bool) {
        match std::mem::replace(&mut self.state, State::Passing(usize::MAX)) {
            State::Header(held) => (held.bytes[..held.len].to_vec(), true),
            State::Holding(frame, _) => (frame, false),
            State::Passing(_) => (Vec::new(), true),
        }
    }
}

impl Held {
    /// Takes what is missing, or as much of it as there is; how many bytes that was.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(HEADER_LEN - self.len);
        self.bytes[self.len..self.len + taken].copy_from_slice(&bytes[..taken]);
        self.len += taken;
        taken
    }
}

/// Whether a server's bytes are TLS: a handshake, or an alert.
fn is_tls(bytes: &[u8]) -> bool {
    matches!(bytes, [0x15 | 0x16, 0x03, ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::OpMsg;

    /// A message of so many bytes that answers that request.
    fn message(response_to: i32, more: usize) -> Vec<u8> {
        let mut frame = bytes::BytesMut::new();
        let document = bson::rawdoc! { "x": "y".repeat(more) };
        OpMsg::new(0, document.as_bytes()).encode(9, response_to, &mut frame).unwrap();
        frame.to_vec()
    }

    /// Everything in pieces of `size`: what went on, with the replies to request 7 in capitals of their length.
    fn run(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut rewriter = Rewriter::new(1 << 21);
        let (mut passed, mut hellos) = (Vec::new(), Vec::new());
        for mut chunk in bytes.chunks(size) {
            while !chunk.is_empty() {
                let (taken, cut) = rewriter.cut(chunk, |id| id == 7);
                assert!(taken > 0);
                match cut {
                    Cut::Pass => passed.extend_from_slice(&chunk[..taken]),
                    Cut::Kept => {}
                    Cut::Header(header) => passed.extend_from_slice(&header),
                    Cut::Hello(frame) => hellos.push(frame),
                    other => panic!("{other:?}"),
                }
                chunk = &chunk[taken..];
            }
        }
        let (kept, goes_on) = rewriter.finish();
        if goes_on {
            passed.extend_from_slice(&kept);
        }
        (passed, hellos)
    }

    #[test]
    fn however_the_bytes_come_only_replies_to_hello_are_held() {
        let header_only = [16, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0xdd, 7, 0, 0];
        let parts = [message(1, 3), message(7, 30), header_only.to_vec(), message(7, 0), message(2, 100), vec![1; 5]];
        let others = [&parts[0][..], &parts[2], &parts[4], &parts[5]].concat();
        for size in 1..300 {
            let (passed, hellos) = run(&parts.concat(), size);
            assert_eq!(passed, others, "{size}");
            assert_eq!(hellos, [parts[1].clone(), parts[3].clone()], "{size}");
        }
        // Half of one goes nowhere.
        let (passed, hellos) = run(&parts[1][..40], 7);
        assert!(passed.is_empty() && hellos.is_empty());
    }

    #[test]
    fn bytes_of_a_message_go_on_before_it_is_whole() {
        let mut rewriter = Rewriter::new(1 << 20);
        let other = message(1, 100);
        assert_eq!(rewriter.cut(&other[..30], |_| false), (16, Cut::Pass));
        assert_eq!(rewriter.cut(&other[16..30], |_| false), (14, Cut::Pass));
    }

    #[test]
    fn what_cannot_be_held_goes_nowhere() {
        for size in [1, 11, 100] {
            let mut rewriter = Rewriter::new(1 << 21);
            let cuts: Vec<_> = [0xff; HEADER_LEN].chunks(size).map(|chunk| rewriter.cut(chunk, |_| false).1).collect();
            assert!(matches!(cuts.last(), Some(Cut::Unreadable(_))), "{cuts:?}");
            assert!(cuts[..cuts.len() - 1].iter().all(|cut| *cut == Cut::Kept), "{cuts:?}");
        }
        let mut header = message(7, 0)[..HEADER_LEN].to_vec();
        header[..4].copy_from_slice(&i32::to_le_bytes((1 << 20) + 1));
        assert_eq!(Rewriter::new(1 << 21).cut(&header, |_| true), (HEADER_LEN, Cut::TooLong(1 << 20 | 1)));
        assert!(matches!(Rewriter::new(1 << 19).cut(&header, |_| false), (HEADER_LEN, Cut::Unreadable(_))));
    }
}
