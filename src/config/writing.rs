//! How a sink's files are written: the keys that `[[log]]` and `[capture]` have in common.

use std::time::Duration;

use super::{OnError, OnOverflow};

/// The queue before a file, what happens when it is full or the disk fails, and when the file is put aside.
#[derive(Clone, Debug, PartialEq)]
pub struct Writing {
    /// How many bytes may wait to be written.
    pub queue_bytes: usize,
    /// What to do with a command when that many wait.
    pub on_overflow: OnOverflow,
    /// What to do when the disk fails.
    pub on_error: OnError,
    /// A file that would grow beyond this many bytes is put aside; 0 is never.
    pub rotate_bytes: u64,
    /// A file older than this is put aside; zero is never.
    pub rotate_every: Duration,
    /// How many files put aside are kept.
    pub keep: u32,
}

impl Default for Writing {
    /// As a log is written: it leaves out what it cannot keep up with.
    fn default() -> Self {
        Self {
            queue_bytes: 16 << 20,
            on_overflow: OnOverflow::Drop,
            on_error: OnError::Pass,
            rotate_bytes: 0,
            rotate_every: Duration::ZERO,
            keep: 5,
        }
    }
}

impl Writing {
    /// Whether files are put aside.
    pub(crate) fn rotates(&self) -> bool {
        self.rotate_bytes > 0 || !self.rotate_every.is_zero()
    }

    /// Whether a file of that size and age is put aside.
    pub(crate) fn is_outgrown(&self, size: u64, age: Duration) -> bool {
        let too_large = self.rotate_bytes > 0 && size > self.rotate_bytes;
        let too_old = !self.rotate_every.is_zero() && age >= self.rotate_every;
        too_large || too_old
    }
}

/// Reads these keys of a section's file and flags, whose settings have fields of their names, into a [`Writing`].
macro_rules! read_writing {
    ($place:expr, $flags:expr, $table:expr => $writing:expr) => {{
        use super::resolve::{count, duration, queue_bytes, read_keys, size, word};
        use super::{OnError, OnOverflow};
        read_keys! { $place, $flags, $table => $writing;
            queue_bytes: |it: &Text| queue_bytes(&it.0);
            on_overflow: |it: &Text| word(&it.0, &[OnOverflow::Drop, OnOverflow::Block], OnOverflow::as_str);
            on_error: |it: &Text| word(&it.0, &[OnError::Pass, OnError::Stop], OnError::as_str);
            rotate_bytes: |it: &Text| size(&it.0);
            rotate_every: |it: &Text| duration(&it.0);
            keep: |it: &Text| count(&it.0);
        }
    }};
}
pub(super) use read_writing;
