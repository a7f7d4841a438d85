//! When an exchange may go out.
//!
//! Exchanges come in the order in which they began. One waits until all that had ended before it began have ended again,
//! and until its time has come: as long after the first one as recorded, divided by the speed. What may not go yet holds
//! up all that began later, which wait for at least the same.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::capture::exchange::Exchange;

/// An exchange that has gone out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Ticket {
    /// When it ended in the recording, in nanoseconds; the end of time if it was never answered: nobody waited for that.
    ended: u64,
    number: u64,
}

/// The order and the pace of a recording.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// As many times as fast as recorded; `None` is as fast as the order allows.
    speed: Option<f64>,
    /// When the recording began.
    began: Option<u64>,
    out: BTreeSet<Ticket>,
    sent: u64,
}

impl Schedule {
    /// Nothing has gone out yet.
    pub fn new(speed: Option<f64>) -> Self {
        Self { speed, began: None, out: BTreeSet::new(), sent: 0 }
    }

    /// How long after the first one it is due.
    pub fn due(&mut self, exchange: &Exchange) -> Duration {
        let at = exchange.at.monotonic_nanos;
        let since = at.saturating_sub(*self.began.get_or_insert(at));
        self.speed.map_or(Duration::ZERO, |speed| {
            Duration::try_from_secs_f64(since as f64 / 1e9 / speed).unwrap_or(Duration::MAX)
        })
    }

    /// Whether all that had ended before it began has ended.
    pub fn may_go(&self, exchange: &Exchange) -> bool {
        self.out.first().is_none_or(|first| first.ended > exchange.at.monotonic_nanos)
    }

    /// It goes out.
    pub fn go(&mut self, exchange: &Exchange) -> Ticket {
        let ended = match exchange.replies.last() {
            Some(reply) => reply.at.monotonic_nanos,
            None if exchange.wants_reply => u64::MAX,
            None => exchange.at.monotonic_nanos,
        };
        self.sent += 1;
        let ticket = Ticket { ended, number: self.sent };
        self.out.insert(ticket);
        ticket
    }

    /// It has ended.
    pub fn end(&mut self, ticket: Ticket) {
        self.out.remove(&ticket);
    }

    /// Whether all have ended that anybody waits for.
    pub fn is_settled(&self) -> bool {
        self.out.first().is_none_or(|first| first.ended == u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capture::exchange::{Place, Reply};
    use crate::event::{ConnectionId, Phase, Timestamp};

    fn exchange(number: u64, began: u64, took: Option<u64>) -> Exchange {
        let at = |monotonic_nanos| Timestamp { monotonic_nanos, unix_micros: 0 };
        Exchange {
            place: Place::Exchange(number),
            connection: ConnectionId(1),
            app_name: None,
            phase: Phase::App,
            at: at(began),
            request: Vec::new(),
            wants_reply: true,
            replies: took.map(|took| Reply { at: at(began + took), body: Vec::new() }).into_iter().collect(),
        }
    }

    #[test]
    fn times_are_divided_by_the_speed() {
        let mut schedule = Schedule::new(Some(4.0));
        let due: Vec<_> = [5, 5, 13].map(|at| schedule.due(&exchange(1, at * 1_000_000_000, None)).as_secs()).into();
        assert_eq!(due, [0, 0, 2]);
        let mut fastest = Schedule::new(None);
        fastest.due(&exchange(1, 5, None));
        assert_eq!(fastest.due(&exchange(2, 5_000_000_000, None)), Duration::ZERO);
    }

    #[test]
    fn one_that_was_never_answered_holds_up_nobody() {
        let mut schedule = Schedule::new(None);
        schedule.go(&exchange(1, 1, None));
        assert!(schedule.may_go(&exchange(2, 9, None)) && schedule.is_settled());
        schedule.go(&exchange(2, 2, Some(3)));
        assert!(!schedule.may_go(&exchange(3, 5, None)) && !schedule.is_settled());
    }

    proptest! {
        #[test]
        fn what_had_ended_before_has_ended_whatever_takes_how_long(
            recorded in proptest::collection::vec((0_u64..20, 0_u64..50, any::<prop::sample::Index>()), 1..40),
        ) {
            let mut began = 0;
            let exchanges: Vec<_> = recorded.iter().zip(1..).map(|((pause, took, _), number)| {
                began += pause;
                exchange(number, began, Some(*took))
            }).collect();
            let mut schedule = Schedule::new(None);
            let (mut out, mut ended) = (Vec::new(), Vec::new());
            for (next, (_, _, which)) in exchanges.iter().zip(&recorded) {
                while !schedule.may_go(next) {
                    prop_assert!(!out.is_empty(), "nothing is out, and it may not go");
                    let (number, ticket) = out.remove(which.index(out.len()));
                    schedule.end(ticket);
                    ended.push(number);
                }
                for before in &exchanges {
                    let before_end = before.replies[0].at.monotonic_nanos;
                    if before.place < next.place && before_end <= next.at.monotonic_nanos {
                        prop_assert!(ended.contains(&before.place), "{} before {}", before.place, next.place);
                    }
                }
                out.push((next.place, schedule.go(next)));
            }
        }
    }
}
