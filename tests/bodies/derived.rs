//! What is derived of a capture.

use mongotap::capture::derive::{Derive, InOrder};
use mongotap::capture::mtap::Reader;
use mongotap::event::Entry;
use mongotap::redact::Redacted;

/// The events of a capture's connections.
pub(crate) fn derived(capture: &[u8]) -> Vec<String> {
    let mut reader = Reader::new(capture);
    let mut derive = Derive::new(reader.header().unwrap().unwrap());
    let mut in_order = InOrder::default();
    while let Some(block) = reader.next_block().unwrap() {
        block.into_iter().for_each(|record| in_order.push(record));
    }
    let mut derived = Vec::new();
    while let Some(record) = in_order.pop_last() {
        derive.handle(&record, &mut |entry| derived.extend(description(entry)));
    }
    derived
}

/// An entry with everything in it; `None` if it is derived from several connections.
pub(crate) fn description(entry: &Redacted<Entry<'_>>) -> Option<String> {
    (!entry.event.is_derived()).then(|| format!("{entry:?}"))
}
