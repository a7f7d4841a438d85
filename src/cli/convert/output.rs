//! The file that is written: under another name until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cli::{Code, Error, unwritten};
use crate::net::scratch::beside;
use crate::net::signals::before_the_end;

/// The files that are being written, which go if the program is stopped.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on a signal to end removes what is unfinished first.
pub(super) fn clear_on_signals() -> io::Result<()> {
    before_the_end(|end| {
        // Held to the end: no other is begun, none gets its name.
        let unfinished = unfinished();
        for path in unfinished.iter() {
            _ = fs::remove_file(path);
        }
        end();
    })
}

/// A file beside the one that it becomes; if it does not, it goes.
#[derive(Debug)]
pub(super) struct Output {
    to: PathBuf,
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Output {
    /// Makes it, of this run alone, so that nothing that is there is harmed. `mode` is who may read it.
    pub(super) fn create(to: &Path, what: &str, mode: u32) -> Result<Self, Error> {
        let path = beside(to, what);
        let mut unfinished = unfinished();
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        let file = file.map_err(|error| refused(&path, &error))?;
        unfinished.push(path.clone());
        drop(unfinished);
        Ok(Self { to: to.to_owned(), path, file: Some(BufWriter::new(file)) })
    }

    /// Where it is now.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes with `write`, to its end.
    pub(super) fn write<T, E: Into<Error>>(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
    ) -> Result<T, Error> {
        let Some(mut file) = self.file.take() else {
            return Err(Error::new(Code::Io, format!("{}: written already", self.path.display())));
        };
        let written = write(&mut file).map_err(Into::into)?;
        file.flush().map_err(|error| refused(&self.path, &error))?;
        Ok(written)
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<(), Error> {
        let _unfinished = unfinished();
        fs::rename(&self.path, &self.to).map_err(|error| refused(&self.to, &error))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // It has gone if it was given its name.
        _ = fs::remove_file(&self.path);
    }
}

/// That a file cannot be written.
pub(super) fn refused(path: &Path, error: &io::Error) -> Error {
    unwritten(path.display(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_name_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("run.mtap");
        let outputs: Vec<_> = (0..20).map(|_| Output::create(&to, "part", 0o600).unwrap()).collect();
        let mut paths: Vec<_> = outputs.iter().map(|output| output.path().to_owned()).collect();
        paths.sort();
        paths.dedup();
        assert_eq!(paths.len(), 20);
        assert!(paths.iter().all(|path| unfinished().contains(path)));
        drop(outputs);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
