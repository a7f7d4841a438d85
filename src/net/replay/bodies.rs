//! The documents of a recording while it is replayed: in memory as long as they are few, else in a file of their own that
//! nobody else sees.
//!
//! What is read of that file is checked for its length alone: it is written and read by one process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;

use bson::oid::ObjectId;

use crate::capture::exchange::{Exchange, Reply};
use crate::replay::Bodies;

/// Bytes of documents that are kept in memory; what comes after them goes to the file.
const IN_MEMORY_MAX: usize = 64 << 20;

/// What is gathered before it is written.
const WRITTEN_AT_ONCE: usize = 1 << 20;

/// Keeps exchanges in the order in which they come.
#[derive(Debug)]
pub(super) struct Keeper {
    in_memory_max: usize,
    in_memory: usize,
    kept: Vec<Kept>,
    file: Option<File>,
    /// What is in the file, and what is to be.
    written: u64,
    pending: Vec<u8>,
}

#[derive(Debug)]
enum Kept {
    Here(Arc<Exchange>),
    /// Without its documents, which are in the file from there on: of the request and each reply, one after the other.
    There {
        exchange: Arc<Exchange>,
        offset: u64,
        lengths: Box<[u32]>,
    },
}

impl Keeper {
    pub(super) fn new() -> Self {
        Self::with_room(IN_MEMORY_MAX)
    }

    fn with_room(in_memory_max: usize) -> Self {
        Self { in_memory_max, in_memory: 0, kept: Vec::new(), file: None, written: 0, pending: Vec::new() }
    }

    /// Takes the next exchange.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub(super) fn keep(&mut self, mut exchange: Exchange) -> io::Result<()> {
        let bytes = exchange.request.len() + exchange.replies.iter().map(|reply| reply.body.len()).sum::<usize>();
        if self.in_memory + bytes <= self.in_memory_max {
            self.in_memory += bytes;
            self.kept.push(Kept::Here(Arc::new(exchange)));
            return Ok(());
        }
        // From here on all go to the file: their order on disk is that of the recording.
        self.in_memory = self.in_memory_max;
        let offset = self.written + self.pending.len() as u64;
        let documents =
            std::iter::once(&mut exchange.request).chain(exchange.replies.iter_mut().map(|it| &mut it.body));
        let pending = &mut self.pending;
        let lengths = documents.map(|document| {
            pending.extend_from_slice(document);
            let length = document.len() as u32;
            *document = Vec::new();
            length
        });
        let lengths = lengths.collect();
        self.kept.push(Kept::There { exchange: Arc::new(exchange), offset, lengths });
        if self.pending.len() >= WRITTEN_AT_ONCE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed()?),
        };
        file.write_all(&self.pending)?;
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// All that was kept.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub(super) fn finish(mut self) -> io::Result<Box<dyn Bodies>> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok(Box::new(Keeping { kept: self.kept, file: self.file }))
    }
}

struct Keeping {
    kept: Vec<Kept>,
    file: Option<File>,
}

impl Bodies for Keeping {
    fn exchange(&self, index: usize) -> Option<Arc<Exchange>> {
        match self.kept.get(index)? {
            Kept::Here(exchange) => Some(Arc::clone(exchange)),
            Kept::There { exchange, offset, lengths } => {
                let mut documents = vec![0; lengths.iter().map(|length| *length as usize).sum()];
                self.file.as_ref()?.read_exact_at(&mut documents, *offset).ok()?;
                let mut lengths = lengths.iter().map(|length| *length as usize);
                let request = documents.drain(..lengths.next()?).collect();
                let replies = exchange.replies.iter().zip(lengths);
                let replies =
                    replies.map(|(reply, length)| Reply { at: reply.at, body: documents.drain(..length).collect() });
                let replies = replies.collect();
                let Exchange { place, connection, phase, at, wants_reply, .. } = **exchange;
                let app_name = exchange.app_name.clone();
                Some(Arc::new(Exchange { place, connection, app_name, phase, at, request, wants_reply, replies }))
            }
        }
    }
}

/// A file for this process alone: it is gone when it is closed.
pub(super) fn unnamed() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("mongotap-{}", ObjectId::new()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::exchange::Place;
    use crate::event::{ConnectionId, Phase, Timestamp};

    #[test]
    fn what_is_kept_comes_back_wherever_it_was() {
        let exchange = |number: u64| Exchange {
            place: Place::Exchange(number),
            connection: ConnectionId(number),
            app_name: Some("app".into()),
            phase: Phase::App,
            at: Timestamp { monotonic_nanos: number, unix_micros: 5 },
            request: vec![number as u8; 10],
            wants_reply: true,
            replies: (0..number % 3).map(|n| Reply { at: Timestamp::default(), body: vec![n as u8; 7] }).collect(),
        };
        let mut keeper = Keeper::with_room(100);
        (0..50).for_each(|number| keeper.keep(exchange(number)).unwrap());
        assert!(keeper.kept.iter().filter(|kept| matches!(kept, Kept::There { .. })).count() > 40);
        let bodies = keeper.finish().unwrap();
        for number in (0..50).rev() {
            assert_eq!(*bodies.exchange(number as usize).unwrap(), exchange(number));
        }
        assert!(bodies.exchange(50).is_none());
    }
}
