//! The files of a log or a capture that were put aside: `PATH.1`, `PATH.2` and so on, how many of them are kept, and what
//! this run has written to each.
//!
//! Whoever takes one of them away does so on purpose: they are there to be shipped. But what goes together with the newest
//! file, as with their directory, is as lost as that, and is counted as that is. What an earlier run wrote is not known,
//! and not counted.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::queue::Missing;
use super::retry::Retry;
use crate::event::Timestamp;

/// What goes within so long goes together. So often it is looked what is there.
const TOGETHER: Duration = Duration::from_secs(1);

/// The files that were put aside.
#[derive(Debug)]
pub(super) struct Aside {
    path: PathBuf,
    keep: u32,
    /// What this run has written to each, `PATH.1` first; `None` of those that are gone. No more than are kept.
    held: VecDeque<Option<Missing>>,
    looked_at: Timestamp,
    /// When the newest file was removed, if it was.
    removed_at: Option<Timestamp>,
}

/// What went with files that were put aside.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Gone {
    pub(super) files: usize,
    pub(super) held: Missing,
}

impl Aside {
    /// Those of a path, so many of which are kept. What an earlier run has left of them is not known.
    pub(super) fn new(path: &Path, keep: u32) -> Self {
        let (held, looked_at) = (VecDeque::new(), Timestamp::default());
        Self { path: path.to_owned(), keep, held, looked_at, removed_at: None }
    }

    /// Puts the file aside, to which this run has written so much: PATH becomes PATH.1, what was PATH.1 becomes PATH.2,
    /// and those beyond the ones that are kept are removed.
    pub(super) fn put(&mut self, written: Missing) -> io::Result<()> {
        // The oldest first, so that what is left after a failure is found again.
        self.beyond().iter().rev().try_for_each(|name| if_there(fs::remove_file(name)))?;
        let gap = (0..=self.keep).find(|number| !self.name(*number).exists());
        if gap.is_none() {
            if_there(fs::remove_file(self.name(self.keep)))?;
        }
        let last = gap.unwrap_or(self.keep);
        for number in (1..last).rev() {
            if_there(fs::rename(self.name(number), self.name(number + 1)))?;
        }
        if last > 0 {
            fs::rename(self.name(0), self.name(1))?;
        }
        if last > 0 {
            self.held.remove(last as usize - 1);
            self.held.push_front(Some(written));
        }
        Ok(())
    }

    /// Says how many there are beyond those that are kept; there were more to keep once.
    pub(super) fn say_too_many(&self, retry: &Retry) {
        retry.say_too_many(self.beyond().len(), self.keep);
    }

    /// Looks what is there, once in a while and when the newest file was removed. Gives what went with that.
    pub(super) fn look(&mut self, now: Timestamp, is_newest_removed: bool) -> Gone {
        if is_newest_removed {
            self.removed_at = Some(now);
        }
        let is_lost = self.removed_at.is_some_and(|at| now.since(at) < TOGETHER);
        if !is_lost && now.since(self.looked_at) < TOGETHER {
            return Gone::default();
        }
        let gone = self.forget_gone();
        self.looked_at = now;
        if is_lost { gone } else { Gone::default() }
    }

    /// Forgets those that are no longer there. Gives what was in them.
    pub(super) fn forget_gone(&mut self) -> Gone {
        let mut gone = Gone::default();
        for number in 0..self.held.len() {
            let is_there = fs::symlink_metadata(self.name(number as u32 + 1)).is_ok();
            if let Some(held) = self.held[number].take_if(|_| !is_there) {
                gone.files += 1;
                gone.held += held;
            }
        }
        gone
    }

    /// Those that are there beyond the ones that are kept, one after the other.
    fn beyond(&self) -> Vec<PathBuf> {
        let names = (self.keep..u32::MAX).map(|number| self.name(number + 1));
        names.take_while(|name| fs::symlink_metadata(name).is_ok_and(|it| it.is_file())).collect()
    }

    /// The name of a file that was put aside so many times.
    fn name(&self, number: u32) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        name.into()
    }
}

/// What was to be done to a file that somebody has taken away meanwhile need not be done.
fn if_there(done: io::Result<()>) -> io::Result<()> {
    done.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At so many milliseconds.
    fn at(millis: u64) -> Timestamp {
        Timestamp { monotonic_nanos: millis * 1_000_000, unix_micros: 0 }
    }

    fn put(aside: &mut Aside, exchanges: u64) {
        fs::write(&aside.path, "lines").unwrap();
        aside.put(Missing { exchanges, bytes: exchanges * 10 }).unwrap();
    }

    fn gone(files: usize, exchanges: u64) -> Gone {
        Gone { files, held: Missing { exchanges, bytes: exchanges * 10 } }
    }

    #[test]
    fn what_goes_with_the_newest_is_told_from_what_was_taken_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        let mut aside = Aside::new(&path, 3);
        // Of an earlier run.
        fs::write(aside.name(1), "lines").unwrap();
        (0..3).for_each(|number| put(&mut aside, 10_u64.pow(number)));
        assert_eq!(aside.look(at(2000), false), Gone::default());
        // Somebody ships one, and another takes its place.
        fs::remove_file(aside.name(2)).unwrap();
        assert_eq!(aside.look(at(4000), false), Gone::default());
        put(&mut aside, 1000);
        // One goes just before the newest, one with it, and one just behind it.
        fs::remove_file(aside.name(2)).unwrap();
        assert_eq!(aside.look(at(4500), false), Gone::default(), "it was looked just before");
        fs::remove_file(aside.name(1)).unwrap();
        assert_eq!(aside.look(at(4600), true), gone(2, 1100));
        fs::remove_file(aside.name(3)).unwrap();
        assert_eq!(aside.look(at(4700), false), gone(1, 1));
        assert_eq!(aside.look(at(4800), true), Gone::default(), "each is told once");
    }

    #[test]
    fn the_oldest_is_not_told_of_that_was_not_to_be_kept() {
        for keep in 0..4 {
            let directory = tempfile::tempdir().unwrap();
            let mut aside = Aside::new(&directory.path().join("a"), keep);
            (0..4).for_each(|number| put(&mut aside, 10_u64.pow(number)));
            fs::remove_dir_all(directory.path()).unwrap();
            let kept = (4 - keep..4).map(|number| 10_u64.pow(number)).sum();
            assert_eq!(aside.look(at(0), true), gone(keep as usize, kept), "keep = {keep}");
        }
    }
    /// Whoever ships them does not wait until another is put aside.
    #[test]
    fn what_is_taken_away_meanwhile_is_in_nobody_s_way() {
        let directory = tempfile::tempdir().unwrap();
        let mut aside = Aside::new(&directory.path().join("a"), 3);
        let names: Vec<_> = (1..=4).map(|number| aside.name(number)).collect();
        std::thread::scope(|scope| {
            let puts = scope.spawn(|| (0..2000).for_each(|_| put(&mut aside, 1)));
            while !puts.is_finished() {
                names.iter().for_each(|name| _ = fs::remove_file(name));
            }
        });
    }
}
