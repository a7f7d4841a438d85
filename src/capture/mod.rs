//! Reading back what was recorded.
//!
//! So far that is the event log ([`log`]). Files are told apart by their first bytes, never by their names.

pub mod json;
pub mod log;
