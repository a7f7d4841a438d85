//! What the integration tests share: a real mongod, the real binary, the readers and comparers of what they say.
//!
//! Every test binary takes this module whole and uses its part of it.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod captured;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod compare;
pub(crate) mod differential;
pub(crate) mod dns;
pub(crate) mod fetch;
pub(crate) mod harness;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod matcher;
pub(crate) mod mongod;
pub(crate) mod play;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod replica_set;
pub(crate) mod scripted;
pub(crate) mod sdam;

use std::thread;
use std::time::{Duration, Instant};

/// Now. The tests of the whole program live in real time.
#[expect(clippy::disallowed_methods, reason = "the tests are above the layer that is given its time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Asks `probe` every few milliseconds until it has an answer; after `patience` the test fails with `what` was awaited.
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = now() + patience;
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(now() < end, "waited {patience:?} for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
