//! A recording in use: what was asked already, and what follows from it for what comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::cursors::{Cursors, cursor_asked};
use super::difference::{difference, shown_document};
use super::miss::{Miss, Nearest};
use super::recording::Recording;
use super::report::{Asked, MISSES_MAX, Report};
use super::request::name_of;
use super::{Request, key::key};
use crate::bson::{Elements, find};

/// What the connections of a server that answers from a recording share.
#[derive(Debug)]
pub struct Replaying {
    pub(super) recording: Arc<Recording>,
    live: Mutex<Live>,
    forwarded: AtomicU64,
}

#[derive(Debug, Default)]
struct Live {
    used: Vec<usize>,
    cursors: Cursors,
    matched: u64,
    missed: u64,
    misses: Vec<Miss>,
}

impl Replaying {
    /// Of which nothing was asked yet.
    pub fn new(recording: Arc<Recording>) -> Self {
        Self { recording, live: Mutex::default(), forwarded: AtomicU64::default() }
    }

    /// What was asked so far, and what was not.
    pub fn report(&self) -> Report {
        let live = self.lock();
        let all = (0..).map_while(|index| Some((index, self.recording.bodies.exchange(index)?)));
        let unused = all.filter(|(index, _)| !live.used.contains(index));
        Report {
            matched: live.matched,
            missed: live.missed,
            forwarded: self.forwarded.load(Ordering::Relaxed),
            misses: live.misses.clone(),
            unused: unused.map(|(_, it)| Asked { place: it.place, text: shown_document(&it.request) }).collect(),
            ambiguous: Vec::new(),
        }
    }

    pub(super) fn note_forwarded(&self) {
        self.forwarded.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_miss(&self, miss: &Miss) {
        let mut live = self.lock();
        live.missed += 1;
        if live.misses.len() < MISSES_MAX {
            live.misses.push(miss.clone());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The replies to a question; `None` if it was never recorded, or its cursor is not open.
    pub(super) fn replies(&self, request: &Request) -> Option<Vec<Vec<u8>>> {
        let mut live = self.lock();
        let id = cursor_asked(&request.command).map(|(_, id)| id);
        let questions = &self.recording.questions;
        let index = match id {
            Some(id) => {
                let open = live.cursors.get(id)?;
                let question = questions.get(&key(&open.command(&request.command)))?;
                *question.iter().find(|index| **index > open.exchange)?
            }
            None => {
                let question = questions.get(&key(&request.command))?;
                *question.iter().find(|index| !live.used.contains(index)).or_else(|| question.last())?
            }
        };
        live.used.push(index);
        live.matched += 1;
        let exchange = self.recording.bodies.exchange(index)?;
        Some(exchange.replies.iter().map(|reply| live.cursors.reply(&reply.body, index, id)).collect())
    }

    /// Why a request has no answer.
    pub(super) fn miss(&self, request: &Request) -> Miss {
        let all = (0..).map_while(|index| self.recording.bodies.exchange(index));
        let same_name = all.filter(|it| name_of(&it.request) == request.name());
        let nearest = same_name.max_by_key(|it| shared(&it.request, &request.command));
        let nearest = nearest.map(|it| Nearest {
            place: it.place,
            differences: difference(&it.request, &request.command).into_iter().collect(),
        });
        Miss {
            command: request.name().to_owned(),
            namespace: request.database.clone(),
            request: shown_document(&request.command),
            reason: nearest.is_none().then(|| format!("no {} was recorded", request.name())),
            nearest,
            hint: None,
        }
    }
}

fn shared(ours: &[u8], theirs: &[u8]) -> usize {
    let both = Elements::readable(ours).filter_map(|our| Some((our, find(theirs, our.name)?)));
    both.map(|(our, their)| match our.kind == their.kind && our.kind.is_container() {
        true => 1 + shared(our.value, their.value),
        false => 1 + usize::from((our.kind, our.value) == (their.kind, their.value)),
    })
    .sum()
}
