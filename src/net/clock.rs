//! The one clock: how long things take, by the monotonic clock, and when they happened, by the wall clock.
//!
//! Durations, timeouts and the ages of files go by the monotonic clock alone, which never goes back. The wall clock gives
//! dates only. It is read ten times a second by each thread, and derived from the monotonic one in between: one that is
//! set, forward or back, is followed within a tenth of a second, for dates are to agree with those of other logs. So dates
//! may go back, if somebody sets the clock back; lines are in order all the same, and `seq` counts them. What is less than
//! `SET` is no setting but an adjustment (or a thread that was held up between its two looks): then dates stand still
//! until the wall clock has come there.

use std::cell::Cell;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::event::{Timestamp, nanos};

/// The zero of the monotonic clock, common to all threads.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long the wall clock is derived from the monotonic one before it is read again.
const ANCHOR_FOR: Duration = Duration::from_millis(100);

/// A wall clock that is at least so much earlier than expected was set back: what ntpd takes a step for.
const SET: Duration = Duration::from_millis(128);

thread_local! {
    static ANCHOR: Cell<Option<Anchor>> = const { Cell::new(None) };
}

/// The time, now. One clock read, mostly.
pub fn now() -> Timestamp {
    let monotonic_nanos = monotonic_nanos();
    ANCHOR.with(|cell| {
        let before = cell.get();
        if let Some(anchor) = before.filter(|anchor| anchor.holds(monotonic_nanos)) {
            return anchor.at(monotonic_nanos);
        }
        let anchor = Anchor::new(Timestamp { monotonic_nanos, unix_micros: unix_micros() }, before);
        cell.set(Some(anchor));
        anchor.at(monotonic_nanos)
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn monotonic_nanos() -> u64 {
    #[cfg(test)]
    if let Some(nanos) = simulated::monotonic_nanos() {
        return nanos;
    }
    let start = *START;
    nanos(Instant::now().saturating_duration_since(start))
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn unix_micros() -> i64 {
    #[cfg(test)]
    if let Some(micros) = simulated::unix_micros() {
        return micros;
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

/// A moment at which both clocks were read.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    read: Timestamp,
    /// No date that is derived from it is earlier.
    floor: i64,
}

impl Anchor {
    fn new(read: Timestamp, before: Option<Self>) -> Self {
        let expected = before.map_or(i64::MIN, |before| before.at(read.monotonic_nanos).unix_micros);
        let behind = expected.saturating_sub(read.unix_micros);
        let floor = if behind < micros(SET) { expected } else { i64::MIN };
        Self { read, floor }
    }

    /// Whether it need not be read again yet.
    fn holds(&self, monotonic_nanos: u64) -> bool {
        monotonic_nanos.saturating_sub(self.read.monotonic_nanos) < nanos(ANCHOR_FOR)
    }

    fn at(&self, monotonic_nanos: u64) -> Timestamp {
        let passed = Duration::from_nanos(monotonic_nanos.saturating_sub(self.read.monotonic_nanos));
        let unix_micros = self.read.unix_micros.saturating_add(micros(passed)).max(self.floor);
        Timestamp { monotonic_nanos, unix_micros }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Clocks that tests set, each thread its own.
#[cfg(test)]
pub(super) mod simulated {
    use std::cell::Cell;

    thread_local! {
        static CLOCKS: Cell<Option<(u64, i64)>> = const { Cell::new(None) };
    }

    /// From now on this thread's clocks stand there.
    pub(in crate::net) fn set(monotonic_nanos: u64, unix_micros: i64) {
        if CLOCKS.replace(Some((monotonic_nanos, unix_micros))).is_none() {
            super::ANCHOR.set(None);
        }
    }

    /// From now on they are the real ones.
    pub(in crate::net) fn stop() {
        CLOCKS.set(None);
        super::ANCHOR.set(None);
    }

    pub(super) fn monotonic_nanos() -> Option<u64> {
        CLOCKS.get().map(|(nanos, _)| nanos)
    }

    pub(super) fn unix_micros() -> Option<i64> {
        CLOCKS.get().map(|(_, micros)| micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A day in 2026.
    const DATE: i64 = 1_795_333_471_000_000;

    /// What the clock says at moments on both clocks, in milliseconds from some start.
    fn told(moments: &[(u64, i64)]) -> Vec<i64> {
        simulated::stop();
        let tell = |(monotonic, wall): &(u64, i64)| {
            simulated::set(monotonic * 1_000_000, DATE + wall * 1000);
            let told = now();
            assert_eq!(told.monotonic_nanos, monotonic * 1_000_000, "no other clock is in it");
            (told.unix_micros - DATE) / 1000
        };
        moments.iter().map(tell).collect()
    }

    #[test]
    fn it_goes_forward_and_near_the_wall_clock() {
        let (first, second) = (now(), now());
        assert!(second.monotonic_nanos >= first.monotonic_nanos);
        assert!(second.unix_micros >= first.unix_micros);
        let year_2020 = 1_577_836_800_000_000;
        assert!(first.unix_micros > year_2020);
    }

    #[test]
    fn the_wall_clock_is_derived_until_it_is_read_again() {
        assert_eq!(told(&[(0, 0), (50, 7000), (99, -7000), (100, 100), (150, 0)]), [0, 50, 99, 100, 150]);
    }

    #[test]
    fn a_wall_clock_that_is_set_is_followed_within_a_tenth_of_a_second() {
        const HOUR: i64 = 3_600_000;
        assert_eq!(told(&[(0, 0), (60, HOUR), (99, HOUR), (100, HOUR)]), [0, 60, 99, HOUR]);
        assert_eq!(told(&[(0, 0), (60, -HOUR), (99, -HOUR), (100, -HOUR), (101, -HOUR)]), [0, 60, 99, -HOUR, 1 - HOUR]);
        // A clock that lost its battery, and got the time a second later.
        assert_eq!(told(&[(0, -DATE / 1000), (1000, 1000)]), [-DATE / 1000, 1000]);
    }

    #[test]
    fn an_adjustment_backwards_is_waited_for() {
        let moments = [(0, 0), (100, 40), (150, 90), (160, 100), (199, 139), (200, 20), (300, 120)];
        assert_eq!(told(&moments), [0, 100, 100, 100, 139, 140, 140]);
        // Many small ones are a large one in the end.
        assert_eq!(told(&[(0, 0), (100, 0), (200, 0), (300, -100)]), [0, 100, 100, -100]);
    }

    #[test]
    fn the_machine_slept() {
        // The monotonic clock did not count it.
        assert_eq!(told(&[(0, 0), (50, 50), (100, 8 * 3_600_000)]), [0, 50, 8 * 3_600_000]);
    }
}
