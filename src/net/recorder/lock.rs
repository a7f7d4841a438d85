//! Locks on the files that are written: a capture is written by one process alone, and a reader knows what has no end yet.

use std::fs::File;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::capture::mtap::read_index;

/// A reader that looks holds a lock for a moment, which is not to be taken for another writer's: so often it is tried
/// again, after such pauses.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Locks a file, without waiting for who writes it.
pub(super) fn lock_patiently(file: &File, operation: FlockOperation) -> Result<(), Errno> {
    for _ in 0..TRIES {
        match flock(file, operation) {
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            locked => return locked,
        }
    }
    flock(file, operation)
}

/// Whether somebody writes a capture or a log there, who holds it locked.
pub(crate) fn is_being_written(path: &Path) -> bool {
    // A log's writers share it: who looks has to ask for it alone.
    File::open(path).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK))
}

/// Whether a capture was not ended, and is not being written any more.
pub(crate) fn is_unended(capture: &Path) -> bool {
    let has_no_index = |path: &Path| File::open(path).is_ok_and(|mut file| matches!(read_index(&mut file), Ok(None)));
    // What is wrong with an index is told by who reads it.
    capture.is_file() && has_no_index(capture) && !is_being_written(capture)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_for_a_moment_hinders_no_writer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run.mtap");
        let file = File::create(&path).unwrap();
        assert!(!is_being_written(&path));
        for operation in [FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared] {
            let looking = File::open(&path).unwrap();
            flock(&looking, FlockOperation::NonBlockingLockExclusive).unwrap();
            let looks = thread::spawn(move || {
                thread::sleep(PAUSE * 2);
                drop(looking);
            });
            lock_patiently(&file, operation).unwrap();
            looks.join().unwrap();
            assert!(is_being_written(&path));
            let other = File::open(&path).unwrap();
            assert_eq!(lock_patiently(&other, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
            flock(&file, FlockOperation::Unlock).unwrap();
        }
    }
}
