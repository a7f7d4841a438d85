//! Byte strings that are kept for a while: in memory as long as they are few, else in a file of their own that nobody else
//! sees. Once none is kept any more, the file is empty again.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use bson::oid::ObjectId;

/// Bytes that are kept in memory; what would be more goes to the file.
const IN_MEMORY_MAX: usize = 16 << 20;

/// Keeps byte strings.
#[derive(Debug, Default)]
pub(super) struct Spool {
    in_memory: usize,
    file: Option<File>,
    written: u64,
    /// How many of those in the file are still wanted.
    in_file: usize,
}

/// One of them: to be taken or forgotten once.
#[derive(Debug)]
pub(super) enum Slot {
    Here(Vec<u8>),
    There { offset: u64, len: usize },
}

impl Spool {
    /// Keeps bytes.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<Slot> {
        self.put_within(bytes, IN_MEMORY_MAX)
    }

    fn put_within(&mut self, bytes: &[u8], in_memory_max: usize) -> io::Result<Slot> {
        if self.in_memory + bytes.len() <= in_memory_max {
            self.in_memory += bytes.len();
            return Ok(Slot::Here(bytes.to_vec()));
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(unnamed()?),
        };
        file.seek(SeekFrom::Start(self.written))?;
        file.write_all(bytes)?;
        let slot = Slot::There { offset: self.written, len: bytes.len() };
        self.written += bytes.len() as u64;
        self.in_file += 1;
        Ok(slot)
    }

    /// Gives bytes back, and keeps them no longer.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn take(&mut self, slot: &Slot) -> io::Result<Vec<u8>> {
        let bytes = match (slot, &self.file) {
            (Slot::Here(bytes), _) => bytes.clone(),
            (Slot::There { offset, len }, Some(file)) => {
                let mut bytes = vec![0; *len];
                file.read_exact_at(&mut bytes, *offset)?;
                bytes
            }
            (Slot::There { .. }, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        self.forget(slot);
        Ok(bytes)
    }

    /// Keeps bytes no longer.
    pub(super) fn forget(&mut self, slot: &Slot) {
        match slot {
            Slot::Here(bytes) => self.in_memory = self.in_memory.saturating_sub(bytes.len()),
            Slot::There { .. } => self.in_file = self.in_file.saturating_sub(1),
        }
        if self.in_file == 0 && self.written > 0 {
            self.written = 0;
            // The room comes back when the file is closed.
            self.file = None;
        }
    }
}

/// A file for this process alone: it is gone when it is closed.
fn unnamed() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("mongotap-{}", ObjectId::new()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_wherever_it_was() {
        let mut spool = Spool::default();
        for round in 0..3_u8 {
            let slots = (0..50_u8).map(|n| spool.put_within(&[n + round; 10], 100).unwrap()).collect::<Vec<_>>();
            assert_eq!(slots.iter().filter(|slot| matches!(slot, Slot::There { .. })).count(), 40);
            spool.forget(&slots[45]);
            for (slot, n) in slots.iter().zip(0..).filter(|(_, n)| *n != 45) {
                assert_eq!(spool.take(slot).unwrap(), [n + round; 10]);
            }
            assert!(spool.in_memory == 0 && spool.in_file == 0 && spool.file.is_none());
        }
    }
}
