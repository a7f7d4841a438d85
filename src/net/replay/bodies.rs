//! The documents of a recording while it is replayed: in memory as long as they are few, else in the capture, where they
//! are read again when they are wanted.
//!
//! The files stay open, so that it does no harm if they are removed. What they hold is checked whenever it is read: a file
//! that was cut or changed meanwhile gives no answer, and says why.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::capture::exchange::{Exchange, Place};
use crate::capture::mtap::block_content;
use crate::capture::spots::{BlockPlace, Spot, Spots, read_again};
use crate::config::io_reason;
use crate::event::{ConnectionId, Phase, Timestamp};
use crate::replay::Bodies;

/// Bytes of documents that are kept in memory; those of what comes after stay in the capture.
pub(super) const IN_MEMORY_MAX: usize = 8 << 20;

/// Bytes of blocks that are kept inflated, beside the last one.
const INFLATED_MAX: usize = 4 << 20;

/// Keeps exchanges in the order in which they come.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    in_memory: usize,
    kept: Vec<Kept>,
    app_names: Vec<Arc<str>>,
    /// The spots of replies after the first.
    more: HashMap<usize, Vec<Spot>>,
}

#[derive(Debug)]
enum Kept {
    Here(Arc<Exchange>),
    There(There),
}

/// What is kept of an exchange beside its documents.
#[derive(Debug)]
struct There {
    number: u64,
    request: Spot,
    reply: Option<Spot>,
    /// The place of its application's name, from 1; 0 for none.
    app_name: u32,
    phase: Phase,
    wants_reply: bool,
}

impl Keeper {
    /// From here on no documents are kept in memory that are in a file.
    pub(super) fn keep_no_more(&mut self) {
        self.in_memory = IN_MEMORY_MAX + 1;
    }

    /// Takes the next exchange, and where its documents are.
    pub(super) fn keep(&mut self, exchange: Exchange, spots: Option<Spots>) {
        let bytes = exchange.request.len() + exchange.replies.iter().map(|reply| reply.body.len()).sum::<usize>();
        let kept = match (spots, exchange.place) {
            (Some(spots), Place::Exchange(number)) if self.in_memory + bytes > IN_MEMORY_MAX => {
                // Or only the large ones would not be kept.
                self.keep_no_more();
                let Spots { request, reply, more } = spots;
                if !more.is_empty() {
                    self.more.insert(self.kept.len(), more);
                }
                let app_name = exchange.app_name.map_or(0, |name| self.app_name(name));
                let Exchange { phase, wants_reply, .. } = exchange;
                Kept::There(There { number, request, reply, app_name, phase, wants_reply })
            }
            (_, _) => {
                self.in_memory += bytes;
                Kept::Here(Arc::new(exchange))
            }
        };
        self.kept.push(kept);
    }

    fn app_name(&mut self, name: Arc<str>) -> u32 {
        let known = self.app_names.iter().rposition(|known| *known == name);
        let place = known.unwrap_or_else(|| {
            self.app_names.push(name);
            self.app_names.len() - 1
        });
        place as u32 + 1
    }

    /// All that was kept; `files` are those in which the rest is, `blocks` the places there by the numbers of blocks.
    pub(super) fn finish(mut self, files: Vec<(PathBuf, File)>, blocks: Vec<BlockPlace>) -> Box<dyn Bodies> {
        self.kept.shrink_to_fit();
        Box::new(Keeping { keeper: self, files, blocks, read: Mutex::default() })
    }
}

struct Keeping {
    keeper: Keeper,
    files: Vec<(PathBuf, File)>,
    blocks: Vec<BlockPlace>,
    read: Mutex<Read>,
}

/// What was read again.
#[derive(Default)]
struct Read {
    /// The exchange that was wanted last: it tends to be wanted twice.
    last: Option<(usize, Arc<Exchange>)>,
    /// Blocks by their numbers, the latest last.
    blocks: VecDeque<(u32, Arc<Vec<u8>>)>,
    bytes: usize,
    trouble: Option<String>,
}

impl Bodies for Keeping {
    fn exchange(&self, index: usize) -> Option<Arc<Exchange>> {
        let there = match self.keeper.kept.get(index)? {
            Kept::Here(exchange) => return Some(Arc::clone(exchange)),
            Kept::There(there) => there,
        };
        let mut read = self.read();
        if let Some((_, exchange)) = read.last.as_ref().filter(|(last, _)| *last == index) {
            return Some(Arc::clone(exchange));
        }
        match self.read_again(index, there, &mut read) {
            Ok(exchange) => {
                let exchange = Arc::new(exchange);
                read.last = Some((index, Arc::clone(&exchange)));
                Some(exchange)
            }
            Err(trouble) => {
                read.trouble = Some(trouble);
                None
            }
        }
    }

    fn trouble(&self) -> Option<String> {
        self.read().trouble.clone()
    }
}

impl Keeping {
    fn read(&self) -> MutexGuard<'_, Read> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_again(&self, index: usize, there: &There, read: &mut Read) -> Result<Exchange, String> {
        let more = self.keeper.more.get(&index).cloned().unwrap_or_default();
        let spots = Spots { request: there.request, reply: there.reply, more };
        let app_name = (there.app_name as usize).checked_sub(1).and_then(|place| self.keeper.app_names.get(place));
        let exchange = Exchange {
            place: Place::Exchange(there.number),
            // What stands in the capture comes from there.
            connection: ConnectionId::default(),
            at: Timestamp::default(),
            request: Vec::new(),
            replies: Vec::new(),
            app_name: app_name.cloned(),
            phase: there.phase,
            wants_reply: there.wants_reply,
        };
        read_again(exchange, &spots, |number| read.block(number, || self.load(number)))
    }

    fn load(&self, number: u32) -> Result<Vec<u8>, String> {
        let place = self.blocks.get(number as usize).ok_or("there is no such block")?;
        let (path, file) = self.files.get(place.file).ok_or("there is no such file")?;
        let mut bytes = vec![0; place.len as usize];
        let is_read = file.read_exact_at(&mut bytes, place.offset).map_err(|error| io_reason(&error));
        let content = is_read.and_then(|()| block_content(&bytes).map_err(str::to_owned));
        content.map_err(|why| format!("{}: it was changed, at byte {}: {why}", path.display(), place.offset))
    }
}

impl Read {
    fn block(&mut self, number: u32, load: impl FnOnce() -> Result<Vec<u8>, String>) -> Result<Arc<Vec<u8>>, String> {
        if let Some((_, block)) = self.blocks.iter().find(|(known, _)| *known == number) {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(load()?);
        self.bytes += block.len();
        self.blocks.push_back((number, Arc::clone(&block)));
        while self.bytes > INFLATED_MAX && self.blocks.len() > 1 {
            let oldest = self.blocks.pop_front();
            self.bytes -= oldest.map_or(0, |(_, block)| block.len());
        }
        Ok(block)
    }
}
