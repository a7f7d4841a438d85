//! Where the pure code meets the world: sockets, threads, clocks, signals and files.
//!
//! ```text
//! acceptor thread ─▶ worker threads, a runtime each ─▶ recorder's threads, one a log or listener
//!                     a pump a connection, session and redactor in it
//! ```
//!
//! A connection stays on the thread it was given to, so nothing is shared between connections but counters. What is
//! decoded, paired and written of the bytes is not decided here.

pub mod client;
pub mod clock;
mod codec;
mod listener;
mod proxy;
mod pump;
pub mod recorder;
pub mod say;
pub mod serve;
mod stream;
pub(crate) mod terminal;
mod topologies;
mod worker;

pub use proxy::{Builder, Ended, Proxy, StartError};
