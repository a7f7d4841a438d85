//! A file that somebody may cut while it is read, as `copytruncate` does: what has grown in the place of what was there is
//! not taken for the rest of it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;

use crate::capture::part::Part;

/// Why a file that was cut is not read on.
#[derive(Debug, thiserror::Error)]
#[error("cut while it was read")]
struct Cut;

/// Whether an error is that of a [`Watched`] file that was cut.
pub(super) fn is_cut(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|error| error.is::<Cut>())
}

/// Reads a file as long as it begins as it did. Behind a cut it gives an error that [`is_cut`].
#[derive(Debug)]
pub(super) struct Watched {
    file: File,
    /// What comes through a pipe is gone when it was read, and cannot be cut.
    is_regular: bool,
    /// How it begins, once that is there.
    began: Option<Part>,
}

impl Watched {
    pub(super) fn new(file: File, began: Option<Part>) -> Self {
        let is_regular = file.metadata().is_ok_and(|it| it.is_file());
        Self { file, is_regular, began }
    }

    /// Whether it was cut and has grown beyond where it was read to. As long as it is shorter than that, what was read was
    /// there before.
    fn was_cut(&mut self) -> io::Result<bool> {
        let now = Part::read(BufReader::new(Beginning { file: &self.file, at: 0 }))?;
        if self.began.is_none() || now == self.began {
            self.began = now;
            return Ok(false);
        }
        Ok(self.file.metadata()?.len() >= self.file.stream_position()?)
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 && self.is_regular && self.was_cut()? {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Cut));
        }
        Ok(count)
    }
}

/// Reads a file from its beginning, wherever that is read otherwise.
struct Beginning<'f> {
    file: &'f File,
    at: u64,
}

impl Read for Beginning<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(run: &str) -> String {
        format!(
            "{{\"seq\":0,\"event\":\"recorderStartedEvent\",\"ts\":\"2026-01-01T00:00:00.000000Z\",\"run\":\"{run}\"}}\n"
        )
    }

    #[test]
    fn what_was_there_is_read_and_what_came_in_its_place_is_not() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let old = line("old").repeat(10);
        let new = line("new").repeat(12);
        for (then, is_read) in [(&old, true), (&(old.clone() + "more"), true), (&new, false)] {
            fs::write(&path, &old).unwrap();
            let part = Part::read(old.as_bytes()).unwrap();
            let mut watched = Watched::new(File::open(&path).unwrap(), part);
            watched.read_exact(&mut [0; 300]).unwrap();
            // In place, as who cuts it does.
            fs::write(&path, then).unwrap();
            let read = watched.read_to_string(&mut String::new());
            assert_eq!(read.map_err(|error| is_cut(&error)), is_read.then(|| then.len() - 300).ok_or(true));
        }
        // Shorter than it was read to: there is nothing more, which whoever follows it notices.
        fs::write(&path, &old).unwrap();
        let mut watched = Watched::new(File::open(&path).unwrap(), Part::read(old.as_bytes()).unwrap());
        watched.read_exact(&mut [0; 300]).unwrap();
        fs::write(&path, line("new")).unwrap();
        assert_eq!(watched.read_to_string(&mut String::new()).unwrap(), 0);
    }
}
