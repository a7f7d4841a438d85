//! Where the recorded documents are while an index answers: in memory, or read again when they are asked for.

use std::fmt;
use std::sync::Arc;

use crate::capture::exchange::Exchange;

/// The exchanges of a recording, by their place in the order in which they were indexed, from 0.
pub trait Bodies: Send + Sync {
    /// That exchange; `None` if it cannot be read any more.
    fn exchange(&self, index: usize) -> Option<Arc<Exchange>>;

    /// Why one could not be read any more, the last that could not.
    fn trouble(&self) -> Option<String> {
        None
    }
}

impl Bodies for Vec<Arc<Exchange>> {
    fn exchange(&self, index: usize) -> Option<Arc<Exchange>> {
        self.get(index).cloned()
    }
}

impl fmt::Debug for dyn Bodies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bodies")
    }
}
