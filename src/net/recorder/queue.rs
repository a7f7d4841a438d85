//! What lies between the threads that see events and the one that writes them: a queue bounded in bytes.
//!
//! Room is looked at when an exchange starts, and only then: what was begun is ended, so a queue may exceed its limit
//! by the ends of the exchanges in flight. In the ordinary case looking costs one relaxed load.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How the thread at the end of a queue does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Health {
    /// It takes what comes.
    Working = 0,
    /// It cannot at the moment: nobody waits for it.
    Failing = 1,
    /// It has ended for good: nothing is to be made for it any more.
    Closed = 2,
}

/// What is missing from a log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Missing {
    /// Whole exchanges.
    pub(super) exchanges: u64,
    /// Bytes of their lines, and of other lines.
    pub(super) bytes: u64,
}

impl AddAssign for Missing {
    fn add_assign(&mut self, more: Self) {
        self.exchanges += more.exchanges;
        self.bytes += more.bytes;
    }
}

/// A queue of chunks from several threads to one.
#[derive(Debug)]
pub(super) struct Queue<T> {
    limit: usize,
    /// Whether who finds no room waits.
    block: AtomicBool,
    /// Bytes handed over and not yet done with.
    waiting: AtomicUsize,
    health: AtomicU8,
    missing_exchanges: AtomicU64,
    missing_bytes: AtomicU64,
    inner: Mutex<Inner<T>>,
    /// There is something to do for the thread at the end.
    work: Condvar,
    /// There is room, or no hope of it.
    room: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    chunks: VecDeque<T>,
    /// Chunks that were written and can be filled again.
    spare: Vec<T>,
    stop: bool,
    reopen: bool,
}

/// What the thread at the end is to do.
#[derive(Debug)]
pub(super) struct Work<T> {
    /// These, first.
    pub(super) chunks: VecDeque<T>,
    /// Look whether the file is still where it was.
    pub(super) reopen: bool,
    /// There will be no more.
    pub(super) stop: bool,
}

impl<T: Default> Queue<T> {
    /// A queue for so many bytes. One that blocks lets those wait who have more for it, one that does not sends them away.
    pub(super) fn new(limit: usize, block: bool) -> Self {
        let inner = Inner { chunks: VecDeque::new(), spare: Vec::new(), stop: false, reopen: false };
        Self {
            limit,
            block: AtomicBool::new(block),
            waiting: AtomicUsize::new(0),
            health: AtomicU8::new(Health::Working as u8),
            missing_exchanges: AtomicU64::new(0),
            missing_bytes: AtomicU64::new(0),
            inner: Mutex::new(inner),
            work: Condvar::new(),
            room: Condvar::new(),
        }
    }

    /// How much a feed may gather before it hands over, so that no more than half of the queue is out of sight.
    pub(super) fn hand_over_at(&self) -> usize {
        HAND_OVER_BYTES.min(self.limit / 2)
    }

    /// Whether there is room beside what the asking feed holds itself.
    pub(super) fn has_room(&self, held: usize) -> bool {
        self.waiting.load(Ordering::Relaxed) + held <= self.limit
    }

    /// Whether who finds no room may wait for it, having handed over what it holds.
    pub(super) fn blocks(&self) -> bool {
        self.block.load(Ordering::Relaxed) && self.health() == Health::Working
    }

    /// Waits until there is room, or no hope of it. Says which.
    pub(super) fn wait_for_room(&self) -> bool {
        let mut inner = self.lock();
        while !self.has_room(0) {
            if !self.blocks() || inner.stop {
                return false;
            }
            inner = self.room.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Hands a chunk of so many bytes over, and gives an empty one for it.
    pub(super) fn push(&self, chunk: T, bytes: usize) -> T {
        let mut inner = self.lock();
        if self.is_closed() {
            return T::default();
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        inner.chunks.push_back(chunk);
        let spare = inner.spare.pop().unwrap_or_default();
        drop(inner);
        self.work.notify_one();
        spare
    }

    /// Counts what was left out.
    pub(super) fn leave_out(&self, exchanges: u64, bytes: u64) {
        self.missing_exchanges.fetch_add(exchanges, Ordering::Relaxed);
        self.missing_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was left out since this was last asked.
    pub(super) fn take_missing(&self) -> Missing {
        Missing {
            exchanges: self.missing_exchanges.swap(0, Ordering::Relaxed),
            bytes: self.missing_bytes.swap(0, Ordering::Relaxed),
        }
    }

    /// Waits for something to do.
    pub(super) fn take(&self) -> Work<T> {
        let mut inner = self.lock();
        while inner.chunks.is_empty() && !inner.reopen && !inner.stop {
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        Work { chunks: std::mem::take(&mut inner.chunks), reopen: std::mem::take(&mut inner.reopen), stop: inner.stop }
    }

    /// Waits some time before another try; less if it is to stop or to look at its file anew. Whether it is to stop.
    pub(super) fn wait_to_try_again(&self, delay: Duration) -> bool {
        let idle = |inner: &mut Inner<T>| !inner.stop && !inner.reopen;
        let (mut inner, _) =
            self.work.wait_timeout_while(self.lock(), delay, idle).unwrap_or_else(PoisonError::into_inner);
        inner.reopen = false;
        inner.stop
    }

    /// Gives back a chunk of so many bytes, emptied, that was done with. One that has grown large is not kept.
    pub(super) fn done(&self, chunk: T, bytes: usize) {
        let mut inner = self.lock();
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        if inner.spare.len() < SPARE_MAX && bytes <= 2 * HAND_OVER_BYTES {
            inner.spare.push(chunk);
        }
        drop(inner);
        self.room.notify_all();
    }

    /// Bytes handed over and not yet done with.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Working,
            1 => Health::Failing,
            _ => Health::Closed,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.health() == Health::Closed
    }

    /// Says how the thread at the end does. One that has ended forgets what it was given.
    pub(super) fn set_health(&self, health: Health) {
        let mut inner = self.lock();
        self.health.store(health as u8, Ordering::Relaxed);
        if health == Health::Closed {
            inner.chunks.clear();
            self.waiting.store(0, Ordering::Relaxed);
        }
        drop(inner);
        self.room.notify_all();
    }

    /// Asks the thread at the end to look whether its file is still where it was.
    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.work.notify_one();
    }

    /// Lets nobody wait for room any more: who waits or will find none goes on without.
    pub(super) fn release(&self) {
        let inner = self.lock();
        self.block.store(false, Ordering::Relaxed);
        drop(inner);
        self.room.notify_all();
    }

    /// Asks the thread at the end to end when it has written what there is.
    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.work.notify_one();
        self.room.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feed hands over when it holds this much, or what it holds is [`HAND_OVER_AFTER`] old.
const HAND_OVER_BYTES: usize = 128 << 10;

/// See [`HAND_OVER_BYTES`]: what is seen in a log is no older than this.
pub(in crate::net) const HAND_OVER_AFTER: Duration = Duration::from_millis(20);

/// Emptied chunks that are kept to be filled again.
const SPARE_MAX: usize = 8;
