//! What two askings of the same question have in common.

use crate::bson::{Element, Elements};

const IGNORED: [&[u8]; 5] = [b"$clusterTime", b"$readPreference", b"lsid", b"operationTime", b"txnNumber"];

fn counted(command: &[u8]) -> impl Iterator<Item = Element<'_>> {
    Elements::readable(command).filter(|element| !IGNORED.contains(&element.name))
}

/// What two askings of the same question have in common, and no two others.
pub(super) fn key(command: &[u8]) -> Vec<u8> {
    let mut fields = counted(command).collect::<Vec<_>>();
    // The first names the command.
    if let Some(rest) = fields.get_mut(1..) {
        rest.sort_by_key(|element| element.name);
    }
    let raw = |it: &Element<'_>| [&[it.kind as u8], it.name, &[0], it.value].concat();
    fields.iter().map(raw).collect::<Vec<_>>().concat()
}
