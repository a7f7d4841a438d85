//! The thread beside a worker's, and a connection's pipeline, which goes there while it understands what takes long: a
//! message that inflates to megabytes, or is shown whole. Its bytes are on their way by then, and the worker serves the
//! others meanwhile. Of each side of the connection one more read goes on and waits for the pipeline, so that an answer
//! comes through, and no more than that is held.
//!
//! The thread is started when it is first wanted, does one thing after the other, and ends with the worker's.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::task::{Context, Poll, ready};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::local::{self, Recording};
use crate::event::{Side, Timestamp};
use crate::pipeline::{Pipeline, Sink};

/// What was read of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'a> {
    pub(super) side: Side,
    pub(super) bytes: &'a [u8],
    pub(super) at: Timestamp,
    /// When they had all gone on to the server, if that is known.
    pub(super) sent_at: Option<Timestamp>,
}

impl Piece<'_> {
    fn hand_to(self, pipeline: &mut Pipeline, sink: &mut Sink<'_>) {
        let Self { side, bytes, at, sent_at } = self;
        match sent_at {
            Some(sent_at) => pipeline.handle_sent_bytes(bytes, at, sent_at, sink),
            None => pipeline.handle_bytes(side, bytes, at, sink),
        }
    }
}

/// The pipeline of a connection.
#[derive(Debug)]
pub(super) enum Watch {
    /// It is at hand.
    Here(Box<Pipeline>),
    /// It is on the thread beside, and will come back from there.
    Away(Away),
}

#[derive(Debug)]
pub(super) struct Away {
    back: oneshot::Receiver<Box<Pipeline>>,
    /// What was read since.
    behind: Vec<Read>,
}

/// What was read of a connection, to be told of later.
#[derive(Debug)]
struct Read {
    side: Side,
    bytes: Vec<u8>,
    at: Timestamp,
    sent_at: Option<Timestamp>,
}

impl Read {
    fn of(piece: Piece<'_>) -> Self {
        let Piece { side, bytes, at, sent_at } = piece;
        Self { side, bytes: bytes.to_vec(), at, sent_at }
    }

    fn piece(&self) -> Piece<'_> {
        let Self { side, ref bytes, at, sent_at } = *self;
        Piece { side, bytes, at, sent_at }
    }
}

impl Watch {
    pub(super) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }

    /// Whether no more may be read of that side before the pipeline is back.
    pub(super) fn is_full(&self, side: Side) -> bool {
        matches!(self, Self::Away(away) if away.behind.iter().any(|read| read.side == side))
    }

    /// The pipeline, which must not be away.
    pub(super) fn here(&self) -> &Pipeline {
        match self {
            Self::Here(pipeline) => pipeline,
            Self::Away(_) => unreachable!("a connection waits until its pipeline is back"),
        }
    }

    /// The pipeline, which must not be away.
    pub(super) fn here_mut(&mut self) -> &mut Pipeline {
        match self {
            Self::Here(pipeline) => pipeline,
            Self::Away(_) => unreachable!("a connection waits until its pipeline is back"),
        }
    }

    /// Tells the pipeline of what was read: here if that is soon done, and when it is back if it is away. It may be away
    /// then.
    pub(super) fn tell(&mut self, piece: Piece<'_>, sink: &mut Sink<'_>) {
        let pipeline = match self {
            Self::Here(pipeline) => pipeline,
            Self::Away(away) => return away.behind.push(Read::of(piece)),
        };
        let at_once = local::at_once();
        if pipeline.work(piece.side, piece.bytes, at_once) <= at_once {
            return piece.hand_to(pipeline, sink);
        }
        let (tell, back) = oneshot::channel();
        let away = Self::Away(Away { back, behind: Vec::new() });
        if let Self::Here(pipeline) = std::mem::replace(self, away)
            && let Err(job) = local::hand_beside(Job { pipeline, read: Read::of(piece), back: tell })
        {
            *self = Self::Here(job.pipeline);
            piece.hand_to(self.here_mut(), sink);
        }
    }

    /// Becomes ready when it is here, and has been told of everything.
    pub(super) fn poll_here(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Self::Away(Away { back, behind }) = self {
            let Ok(pipeline) = ready!(Pin::new(back).poll(cx)) else {
                // It has panicked, which was said there; the connection ends as if it had here.
                resume_unwind(Box::new("a pipeline did not come back"))
            };
            let behind = std::mem::take(behind);
            *self = Self::Here(pipeline);
            local::with(|_, sink| behind.iter().for_each(|read| self.tell(read.piece(), sink)));
        }
        Poll::Ready(())
    }
}

/// What the thread beside is to do.
#[derive(Debug)]
pub(super) struct Job {
    pipeline: Box<Pipeline>,
    read: Read,
    back: oneshot::Sender<Box<Pipeline>>,
}

impl Job {
    fn run(self) {
        let Self { mut pipeline, read, back } = self;
        local::with(|_, sink| read.piece().hand_to(&mut pipeline, sink));
        // The connection may have gone with its worker.
        _ = back.send(pipeline);
    }
}

/// The way to the thread.
#[derive(Debug)]
pub(super) enum Beside {
    /// Started when it is wanted; `None` if it could not be.
    Thread(OnceCell<Option<Thread>>),
    /// This one, after so long.
    #[cfg(test)]
    Pretended(std::time::Duration),
}

impl Default for Beside {
    fn default() -> Self {
        Self::Thread(OnceCell::new())
    }
}

impl Beside {
    /// See [`local::hand_beside`].
    pub(super) fn hand(&self, job: Job, recording: &Arc<Recording>) -> Result<(), Job> {
        match self {
            Self::Thread(cell) => match cell.get_or_init(|| Thread::start(Arc::clone(recording))) {
                Some(thread) => thread.jobs.send(job).map_err(|mpsc::SendError(job)| job),
                None => Err(job),
            },
            #[cfg(test)]
            Self::Pretended(takes) => {
                let takes = *takes;
                local::pretended::count_beside();
                tokio::spawn(async move {
                    tokio::time::sleep(takes).await;
                    job.run();
                });
                Ok(())
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Thread {
    jobs: Sender<Job>,
    thread: Option<JoinHandle<()>>,
}

impl Thread {
    fn start(recording: Arc<Recording>) -> Option<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let named = thread::Builder::new().name("mongotap-beside".to_owned());
        let thread = named.spawn(move || {
            local::enter_beside(recording);
            for job in queue {
                // One that panics is lost, as it would be on the worker's thread; the others are not.
                _ = catch_unwind(AssertUnwindSafe(|| job.run()));
            }
            local::leave();
        });
        Some(Self { jobs, thread: Some(thread.ok()?) })
    }
}

/// What it holds of the way to the recorder is gone then.
impl Drop for Thread {
    fn drop(&mut self) {
        self.jobs = mpsc::channel().0;
        if let Some(thread) = self.thread.take() {
            // It catches what panics.
            _ = thread.join();
        }
    }
}
