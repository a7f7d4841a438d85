//! Where the pure code meets the world: sockets, threads, clocks, signals and files.
//!
//! ```text
//! acceptor thread ─▶ worker threads, a runtime each ─▶ recorder's threads, one a log or listener
//!                     a pump a connection, session and redactor in it
//!                     a thread beside each, for a message that takes long
//! ```
//!
//! A connection stays on the thread it was given to, so nothing is shared between connections but counters. What is
//! decoded, paired and written of the bytes is not decided here.

mod acceptor;
mod admission;
mod beside;
mod builder;
pub mod client;
pub mod clock;
mod codec;
mod credentials;
mod discover;
mod listener;
mod local;
mod members;
mod places;
pub mod play;
mod proxy;
mod pump;
pub mod record;
pub mod recorder;
pub mod replay;
mod rewriter;
pub mod say;
pub(crate) mod scratch;
pub(crate) mod secrets;
pub mod serve;
pub mod signals;
mod srv;
mod stream;
pub(crate) mod terminal;
pub mod tls;
mod topologies;
mod worker;

pub use builder::{Builder, StartError};
pub use proxy::{Ended, Proxy};
