//! Things that are used again once nobody holds them any more: what is made for each block of a capture takes longer to be
//! had from the system, and given back by another thread, than to be filled.

use std::collections::VecDeque;
use std::sync::Arc;

/// How many are remembered at most; others are given back as everything is.
const KEPT_MAX: usize = 1024;

/// Shared things, of which those that nobody else holds are given out again.
#[derive(Debug)]
pub(crate) struct Pool<T>(VecDeque<Arc<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Default> Pool<T> {
    /// One that nobody else holds, as it was left.
    pub(crate) fn take(&mut self) -> Arc<T> {
        let Some(mut first) = self.0.pop_front() else { return Arc::default() };
        if Arc::get_mut(&mut first).is_some() {
            return first;
        }
        // It is held for long: the next ones are asked before it again.
        self.keep(&first);
        Arc::default()
    }

    /// Remembers one, to be given out when nobody holds it any more.
    pub(crate) fn keep(&mut self, used: &Arc<T>) {
        if self.0.len() < KEPT_MAX {
            self.0.push_back(Arc::clone(used));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_given_out_that_is_held() {
        let mut pool = Pool::<Vec<u8>>::default();
        let mut held = Vec::new();
        for byte in 0..10 {
            let mut taken = pool.take();
            Arc::get_mut(&mut taken).unwrap().push(byte);
            pool.keep(&taken);
            // Every other one is held for good.
            held.extend(Some(taken).filter(|_| byte % 2 == 0));
        }
        assert_eq!(held.iter().map(|it| *it.last().unwrap()).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
        assert!(pool.0.len() < 10);
        drop(held);
        assert!((0..pool.0.len()).all(|_| !pool.take().is_empty()));
    }
}
