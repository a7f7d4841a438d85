//! Reading back what was recorded.
//!
//! That is the event log ([`log`]), the capture ([`mtap`]), and the fixture ([`fixture`]); the last two are written here
//! too. [`exchanges`] gives what was asked and answered in a capture, [`open`] in either, [`convert`] makes one of the other.
//! Files are told apart by their first bytes, never by their names.

pub mod blocks;
pub mod convert;
pub mod derive;
mod drafts;
mod edit;
pub mod exchange;
pub mod exchanges;
pub mod fixture;
pub mod json;
mod line;
pub mod log;
mod monitoring;
pub mod mtap;
pub mod names;
pub mod open;
pub mod part;
pub mod pcap;
pub mod plain;
pub(crate) mod pool;
pub mod source;
pub mod spots;
