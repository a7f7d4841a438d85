//! Records what a MongoDB client and server say to each other, without changing a byte of it.
//!
//! ```text
//! client ─▶ net::pump ────────────────────────────────────▶ server      bytes go on at once, as they came
//!               └▶ pipeline: session ─────────▶ redact ─▶ recorder ─▶ sinks, listeners, statistics
//!                               └▶ topology ──────┘
//! ```
//!
//! Layers, lowest first:
//!
//! - [`wire`]: bytes ⇄ messages, one file an opcode. [`bson`]: one walker over raw BSON, and its visitors.
//! - [`event`]: what happened, as plain data under the specifications' names; the listener traits.
//! - [`session`]: one connection: framing, pairing, phases, heartbeats. [`topology`]: what each client knows of its
//!   deployment, from what all its connections show; and replies to `hello` with other names for the members.
//! - [`redact`]: the only door to a sink or a file. [`pipeline`]: sessions, topologies and redactor, the one path from
//!   bytes to what may be seen.
//! - [`sink`]: events as log lines and statistics. [`capture`]: recordings, read back. [`replay`]: answering as a server, and
//!   asking one again. [`config`]: `proxy.toml` and flags.
//! - [`net`]: sockets, TLS, threads, the clock, files. [`cli`]: the commands.
//!
//! Arrows point down only, and below [`net`] nothing opens a socket, starts a task, or asks what time it is: callers pass
//! the time in. Nothing here pools, retries or reorders traffic. Replies to `hello` of a deployment whose members are
//! discovered have the listeners' names in the members' place; every other byte goes on as it came.
//!
//! A program can embed the proxy: see [`Proxy`]. Its tests can record what they ask of a server and do without it from then
//! on: see [`record_or_replay`], or [`Record`] and [`Replay`].

pub mod bson;
pub mod capture;
pub mod cli;
pub mod config;
pub mod event;
pub mod net;
pub mod pipeline;
pub mod redact;
pub mod replay;
pub mod session;
pub mod sink;
pub mod topology;
pub mod wire;

pub use net::record::{Record, RecordOrReplay, record_or_replay};
pub use net::replay::Replay;
pub use net::{Builder, Ended, Proxy, StartError};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
