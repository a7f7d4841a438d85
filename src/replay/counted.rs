//! Which parts of a request say what is asked, and which only how a driver asks it this time.
//!
//! Left out everywhere: sessions and their numbers (`lsid`, `txnNumber`), cluster times (`$clusterTime`, `operationTime`,
//! `readConcern.afterClusterTime`), `$readPreference`, which says where to ask, and the `pwd` of new users, which no
//! capture holds. `$db` counts, but stands beside.

use crate::bson::{Element, Elements, find};

/// Fields at the top of a command that never count, or stand beside it.
const VARYING: [&[u8]; 6] = [b"$clusterTime", b"$readPreference", b"lsid", b"operationTime", b"pwd", b"txnNumber"];

/// The fields at the top that count, the command's name first.
pub(super) fn counted(command: &[u8]) -> impl Iterator<Item = Element<'_>> {
    Elements::readable(command).filter(|element| !is_varying(element) && element.name != b"$db")
}

/// Whether a field at the top never counts. A `readConcern` that only waits for a time is one.
pub(super) fn is_varying(element: &Element<'_>) -> bool {
    let only_waits = |concern: &[u8]| {
        let mut names = Elements::readable(concern).map(|inner| inner.name).peekable();
        names.peek().is_some() && names.all(|name| name == b"afterClusterTime")
    };
    VARYING.contains(&element.name) || element.name == b"readConcern" && element.as_document().is_some_and(only_waits)
}

/// Whether it is the time that a `readConcern` waits for; `path` leads to what it is in.
pub(super) fn is_after_cluster_time(path: &[&[u8]], element: &Element<'_>) -> bool {
    element.name == b"afterClusterTime" && *path == [b"readConcern".as_slice()]
}

/// Whether the order of the fields in a document has a meaning of its own: those of arrays, sorts and keys.
pub(super) fn order_counts(element: &Element<'_>) -> bool {
    const ORDERED: [&[u8]; 8] = [b"sort", b"$sort", b"sortBy", b"key", b"hint", b"min", b"max", b"let"];
    element.as_array().is_some() || ORDERED.contains(&element.name)
}

/// Whether a `maxTimeMS` looks like what a driver computes from the time that is left, and not like what somebody wrote.
pub(super) fn is_computed_time(element: &Element<'_>) -> bool {
    element.as_i64().is_some_and(|millis| millis > 10 && millis % 50 != 0)
}

/// The database of a recorded command.
pub(super) fn database_of(command: &[u8]) -> &str {
    find(command, b"$db").and_then(|element| element.as_str()).unwrap_or_default()
}

/// The collection of a command: its first value if that is a string, or what `getMore` names.
pub(super) fn collection_of(command: &[u8]) -> Option<&str> {
    let first = Elements::readable(command).next()?;
    match first.name {
        b"getMore" => find(command, b"collection")?.as_str(),
        _ => first.as_str(),
    }
}

/// `database.collection`, or the database alone.
pub(super) fn namespace(command: &[u8], database: &str) -> String {
    match collection_of(command) {
        Some(collection) => format!("{database}.{collection}"),
        None => database.to_owned(),
    }
}
