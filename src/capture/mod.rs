//! Reading back what was recorded.
//!
//! So far that is the event log ([`log`]) and the fixture ([`fixture`]), which is written here too. Files are told apart
//! by their first bytes, never by their names.

pub mod fixture;
pub mod json;
pub mod log;
mod monitoring;
