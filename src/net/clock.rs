//! The one clock.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::{Timestamp, nanos};

/// The zero of the monotonic clock, common to all threads.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long the wall clock is derived from the monotonic one before it is read again.
const ANCHOR_FOR: Duration = Duration::from_secs(1);

thread_local! {
    /// A moment at which both clocks were read.
    static ANCHOR: Cell<Option<Timestamp>> = const { Cell::new(None) };
}

/// The time, now. One clock read, mostly: the wall clock is asked once a second.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn now() -> Timestamp {
    let start = *START;
    let monotonic_nanos = nanos(Instant::now().saturating_duration_since(start));
    ANCHOR.with(|cell| {
        if let Some(anchor) = cell.get() {
            let passed = Duration::from_nanos(monotonic_nanos.saturating_sub(anchor.monotonic_nanos));
            if passed < ANCHOR_FOR {
                let micros = i64::try_from(passed.as_micros()).unwrap_or_default();
                return Timestamp { monotonic_nanos, unix_micros: anchor.unix_micros + micros };
            }
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        let anchor = Timestamp { monotonic_nanos, unix_micros };
        cell.set(Some(anchor));
        anchor
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_forward_and_near_the_wall_clock() {
        let (first, second) = (now(), now());
        assert!(second.monotonic_nanos >= first.monotonic_nanos);
        assert!(second.unix_micros >= first.unix_micros);
        let year_2020 = 1_577_836_800_000_000;
        assert!(first.unix_micros > year_2020);
    }
}
