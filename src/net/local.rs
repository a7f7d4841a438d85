//! What the connections of a thread share: its scratch buffer, and its way to the recorder. The thread beside it, which
//! does what takes long, has the same way: what was begun on the one may end on the other.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::beside::{Beside, Job};
use super::clock;
use super::recorder::{Ahead, CaptureFeed, Feed, HAND_OVER_AFTER, Ready};
use crate::capture::mtap::Records;
use crate::event::{Entry, Input};
use crate::redact::Redacted;

/// Bytes read at a time. More than a socket's usual window would only cost cache.
const SCRATCH_LEN: usize = 256 << 10;

/// What would take more bytes out of their compression, or look at more of them together, is done beside: it would hold
/// the neighbours up.
const AT_ONCE: usize = 64 << 10;

/// What the connections of a thread share.
pub(super) struct Local {
    scratch: RefCell<Vec<u8>>,
    recording: Arc<Recording>,
    /// Makes ready what is recorded, on the thread beside.
    ahead: Option<RefCell<Ahead>>,
    at_once: usize,
    beside: Beside,
}

/// The way to the recorder of a thread and of the one beside it.
pub(super) struct Recording {
    feed: Mutex<Feed>,
    capture: Option<Mutex<CaptureFeed>>,
    /// Told when one of them has something that is not handed over.
    pending: Notify,
}

thread_local! {
    static LOCAL: RefCell<Option<Rc<Local>>> = const { RefCell::new(None) };
}

fn local<T>(work: impl FnOnce(&Local) -> T) -> T {
    LOCAL.with_borrow(|local| match local {
        Some(local) => work(local),
        None => unreachable!("connections are polled on workers only"),
    })
}

/// Lends the thread's scratch buffer and its way to the recorder. Not to be called from within itself.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8], &mut dyn FnMut(&Redacted<Entry<'_>>)) -> T) -> T {
    local(|local| work(&mut local.scratch.borrow_mut(), &mut |entry| local.record(entry)))
}

/// Records what a session was given in the capture, also from within [`with`].
pub(super) fn capture(input: &Redacted<Input<'_>>) {
    local(|local| local.capture(input));
}

/// The most that is done at once on this thread; see [`Pipeline::work`](crate::pipeline::Pipeline::work).
pub(super) fn at_once() -> usize {
    local(|local| local.at_once)
}

/// Has the thread beside do it.
///
/// # Errors
/// With the job, if there is no such thread and none can be started.
pub(super) fn hand_beside(job: Job) -> Result<(), Job> {
    local(|local| local.beside.hand(job, &local.recording))
}

/// Makes this thread one that connections can be polled on, until what is given is dropped and [`leave`] was called.
pub(super) fn enter(feed: Feed, capture: Option<CaptureFeed>) -> Rc<Local> {
    let recording = Recording { feed: Mutex::new(feed), capture: capture.map(Mutex::new), pending: Notify::new() };
    let local = Rc::new(Local {
        scratch: RefCell::new(vec![0; SCRATCH_LEN]),
        recording: Arc::new(recording),
        ahead: None,
        at_once: AT_ONCE,
        beside: Beside::default(),
    });
    LOCAL.set(Some(Rc::clone(&local)));
    local
}

/// The same for the thread beside one: it reads nothing.
pub(super) fn enter_beside(recording: Arc<Recording>) {
    let ahead = lock(&recording.feed).ahead(AT_ONCE);
    LOCAL.set(Some(Rc::new(Local {
        scratch: RefCell::default(),
        recording,
        ahead: Some(RefCell::new(ahead)),
        at_once: usize::MAX,
        beside: Beside::default(),
    })));
}

/// No connections are polled on this thread any more.
pub(super) fn leave() {
    LOCAL.set(None);
}

impl Local {
    fn record(&self, entry: &Redacted<Entry<'_>>) {
        #[cfg(test)]
        pretended::tell(entry);
        let ready = self.ahead.as_ref().map(|ahead| ahead.borrow_mut().entry(entry)).unwrap_or_default();
        self.recording.record(entry, ready);
    }

    fn capture(&self, input: &Redacted<Input<'_>>) {
        let ready = self.ahead.as_ref().and_then(|ahead| ahead.borrow().input(input));
        self.recording.capture(input, ready);
    }

    /// Hands events over soon after they came, however few they are. Never ends.
    pub(super) async fn hand_over(&self) {
        let recording = &*self.recording;
        loop {
            recording.pending.notified().await;
            while recording.has_pending() {
                tokio::time::sleep(HAND_OVER_AFTER).await;
                recording.tick();
            }
        }
    }
}

impl Recording {
    fn record(&self, entry: &Redacted<Entry<'_>>, ready: Ready) {
        let mut feed = lock(&self.feed);
        let had_pending = feed.has_pending();
        feed.record_ready(entry, ready);
        self.note_pending(had_pending, feed.has_pending());
    }

    fn capture(&self, input: &Redacted<Input<'_>>, ready: Option<Records>) {
        let Some(capture) = &self.capture else { return };
        let mut capture = lock(capture);
        let had_pending = capture.has_pending();
        capture.record_ready(input, ready);
        self.note_pending(had_pending, capture.has_pending());
    }

    fn note_pending(&self, had_pending: bool, has_pending: bool) {
        if !had_pending && has_pending {
            self.pending.notify_one();
        }
    }

    fn has_pending(&self) -> bool {
        lock(&self.feed).has_pending() || self.capture.as_ref().is_some_and(|capture| lock(capture).has_pending())
    }

    fn tick(&self) {
        let now = clock::now();
        lock(&self.feed).tick(now);
        if let Some(capture) = &self.capture {
            lock(capture).tick(now);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread of a test as one that connections can be polled on.
#[cfg(test)]
pub(super) mod pretended {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;
    use crate::event::Timestamp;
    use crate::net::recorder::{Listeners, Recorder, RunInfo};

    /// Is told of what would be recorded.
    pub(in crate::net) type Tap = Box<dyn FnMut(&Redacted<Entry<'_>>)>;

    /// How long the thread beside takes for everything.
    const BESIDE_TAKES: Duration = Duration::from_micros(300);

    thread_local! {
        static TAP: RefCell<Option<Tap>> = const { RefCell::new(None) };
        static BESIDE: Cell<usize> = const { Cell::new(0) };
    }

    /// From now on this thread is one, reads so many bytes at a time, and does so much at once.
    pub(in crate::net) fn start(scratch_len: usize, at_once: usize, tap: Tap) {
        let recorder =
            Recorder::start(&[], Listeners::default(), RunInfo::default(), Timestamp::default, |_| ()).unwrap();
        TAP.set(Some(tap));
        let recording = Recording { feed: Mutex::new(recorder.feed()), capture: None, pending: Notify::new() };
        LOCAL.set(Some(Rc::new(Local {
            scratch: RefCell::new(vec![0; scratch_len]),
            recording: Arc::new(recording),
            ahead: None,
            at_once,
            beside: Beside::Pretended(BESIDE_TAKES),
        })));
    }

    /// It is not any more. How often something was done beside.
    pub(in crate::net) fn end() -> usize {
        LOCAL.set(None);
        TAP.set(None);
        BESIDE.take()
    }

    pub(in crate::net) fn count_beside() {
        BESIDE.set(BESIDE.get() + 1);
    }

    pub(super) fn tell(entry: &Redacted<Entry<'_>>) {
        TAP.with_borrow_mut(|tap| tap.iter_mut().for_each(|tap| tap(entry)));
    }
}
