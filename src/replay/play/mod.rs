//! Asking a recording's questions again, of a live server: what goes out when, what is put into it instead of what was
//! recorded, and what the answers are held against. The sockets are `net::play`'s.
//!
//! An exchange goes out only after every exchange that had ended before it began has ended ([`Schedule`]), so what depends
//! on another still does. What only the recorded server knew is exchanged for what the live one says ([`Translator`]), and
//! what differs from one run to the next is no difference ([`differences`]). [`Report`] counts.

mod compare;
mod known;
mod latency;
mod plan;
mod report;
mod schedule;
mod streams;
mod translate;
mod values;

pub use compare::{Context, differences};
pub use plan::{LeftOut, Plan, is_write, left_out};
pub use report::{Differing, Outcome, Report};
pub use schedule::{Schedule, Ticket};
pub use translate::{Translated, Translator, Untranslatable};
pub use values::Answered;
