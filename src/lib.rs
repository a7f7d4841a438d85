//! Records what a MongoDB client and server say to each other, without changing a byte of it.

pub mod bson;
pub mod capture;
pub mod cli;
pub mod config;
pub mod event;
pub mod net;
pub mod pipeline;
pub mod redact;
pub mod session;
pub mod sink;
pub mod wire;

pub use net::{Builder, Proxy, StartError};
