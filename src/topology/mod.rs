//! The Server Discovery and Monitoring specification's fold: what servers say of themselves, and how they fail, in;
//! what a client knows of its deployment, as events, out.
//!
//! ```text
//! hello reply, failed check, application's error ─▶ description ─▶ members, primary ─▶ events
//! ```
//!
//! Pure: no sockets, no clock, no threads. When a server is asked, selecting servers, and the polling of SRV records
//! are a driver's own and not seen here.

mod clients;
mod description;
mod errors;
mod fold;
mod members;
mod primary;
pub mod rewrite;
#[cfg(test)]
mod tests;

pub use clients::{Clients, SETTLED_AFTER, Settings as ClientsSettings};
pub use description::{describe, same_server, same_topology};
pub use errors::{ApplicationError, ErrorKind, Stage};
pub use fold::{Settings, Topology};
