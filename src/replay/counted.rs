//! Which parts of a request say what is asked, and which only how a driver asks it this time.
//!
//! Left out everywhere: sessions and their numbers (`lsid`, `txnNumber`), cluster times (`$clusterTime`, `operationTime`,
//! `readConcern.afterClusterTime` and `atClusterTime`), `$readPreference`, which says where to ask, and the `pwd` of new users, which no
//! capture holds. `$db` counts, but stands beside.

use crate::bson::{Element, Elements, find};
use crate::capture::exchange::READ_CONCERN_TIMES;

/// The fields at the top that count, the command's name first.
pub(super) fn counted(command: &[u8]) -> impl Iterator<Item = Element<'_>> {
    Elements::readable(command).filter(|element| !is_varying(element) && element.name != b"$db")
}

/// Whether a field at the top never counts. A `readConcern` that only names a time is one.
pub(super) fn is_varying(element: &Element<'_>) -> bool {
    let is_time = |name: &[u8]| READ_CONCERN_TIMES.contains(&name);
    let only_names_time = |concern: &[u8]| {
        let mut names = Elements::readable(concern).map(|inner| inner.name).peekable();
        names.peek().is_some() && names.all(is_time)
    };
    match element.name {
        b"$clusterTime" | b"$readPreference" | b"lsid" | b"operationTime" | b"pwd" | b"txnNumber" => true,
        b"readConcern" => element.as_document().is_some_and(only_names_time),
        _ => false,
    }
}

/// Whether it is the time that a `readConcern` waits for, or reads at; `path` leads to what it is in.
pub(super) fn is_cluster_time(path: &[&[u8]], element: &Element<'_>) -> bool {
    *path == [b"readConcern".as_slice()] && READ_CONCERN_TIMES.contains(&element.name)
}

/// Whether the order of the fields in a document has a meaning of its own, `path` leading to it: those of arrays, sorts
/// and keys, and of documents that a filter compares as a whole.
pub(super) fn order_counts(path: &[&[u8]], element: &Element<'_>) -> bool {
    match within_filter(path).filter(|_| element.as_array().is_none()) {
        Some(steps) => is_compared(steps, element),
        None => order_counts_outside(element),
    }
}

/// The same where it lies in no filter.
pub(super) fn order_counts_outside(element: &Element<'_>) -> bool {
    element.as_array().is_some()
        || matches!(element.name, b"sort" | b"$sort" | b"sortBy" | b"key" | b"hint" | b"min" | b"max" | b"let")
}

/// Whether what is at that path or in it may be told apart from the same elsewhere: a filter may be there, or a time.
pub(super) fn is_special(path: &[&[u8]]) -> bool {
    match path {
        // Statements are filters and what is written.
        [b"updates", _, field, ..] => matches!(*field, b"q" | b"arrayFilters"),
        [top, ..] => matches!(
            *top,
            b"arrayFilters"
                | b"deletes"
                | b"explain"
                | b"filter"
                | b"maxTimeMS"
                | b"ops"
                | b"pipeline"
                | b"query"
                | b"readConcern"
                | b"updates"
        ),
        [] => true,
    }
}

/// The steps of a path that lie within a filter, if it leads into one.
fn within_filter<'p, 'd>(path: &'p [&'d [u8]]) -> Option<&'p [&'d [u8]]> {
    let path = path.strip_prefix(&[b"explain".as_slice()]).unwrap_or(path);
    let place = match path {
        [b"filter" | b"query", ..] => 0,
        [b"arrayFilters", _, ..] => 1,
        [b"updates" | b"deletes", _, b"q", ..] | [b"ops", _, b"filter", ..] => 2,
        [b"updates" | b"ops", _, b"arrayFilters", _, ..] => 3,
        [b"pipeline", ..] => path.iter().rposition(|step| *step == b"$match")?,
        _ => return None,
    };
    path.get(place + 1..)
}

/// Whether a document at that place in a filter is a value that is compared, and neither a filter nor conditions.
fn is_compared(mut steps: &[&[u8]], element: &Element<'_>) -> bool {
    const REFERENCE: [&[u8]; 3] = [b"$ref", b"$id", b"$db"];
    let is_operator = |name: &[u8]| name.starts_with(b"$") && !REFERENCE.contains(&name);
    let inner = element.as_document().and_then(|document| Elements::readable(document).next()).map(|first| first.name);
    while let Some((step, rest)) = steps.split_first() {
        steps = rest;
        let next = steps.first().copied().or(inner);
        match *step {
            b"$and" | b"$or" | b"$nor" => steps = steps.get(1..).unwrap_or_default(),
            b"$not" | b"$elemMatch" => {}
            b"$all" => {
                steps = steps.get(1..).unwrap_or_default();
                if steps.first().copied().or(inner) != Some(b"$elemMatch") {
                    return true;
                }
            }
            b"$eq" | b"$ne" | b"$gt" | b"$gte" | b"$lt" | b"$lte" | b"$in" | b"$nin" => return true,
            name if is_operator(name) => return false,
            _ if next.is_some_and(is_operator) => {}
            _ => return true,
        }
    }
    false
}

/// Whether a `maxTimeMS` looks like what a driver computes from the time that is left, and not like what somebody wrote.
pub(super) fn is_computed_time(element: &Element<'_>) -> bool {
    element.as_i64().is_some_and(|millis| millis > 10 && millis % 50 != 0)
}

/// What is asked of every recorded command, found in one walk.
pub(super) struct Tops<'a> {
    /// [`database_of`].
    pub(super) database: &'a str,
    /// [`collection_of`].
    pub(super) collection: Option<&'a str>,
    /// Whether something is there without which its cursor waits for nothing.
    pub(super) may_stream: bool,
    /// Whether something is there without which it belongs to no transaction.
    pub(super) may_have_transaction: bool,
    /// Whether something is there without which it continues no cursor.
    pub(super) may_continue: bool,
}

/// What is at the top of a recorded command.
pub(super) fn tops(command: &[u8]) -> Tops<'_> {
    let mut database = None;
    let (mut may_stream, mut may_have_transaction, mut may_continue) = (false, false, false);
    for element in Elements::readable(command) {
        match element.name {
            b"$db" if database.is_none() => database = Some(element),
            b"tailable" | b"pipeline" => may_stream = true,
            b"autocommit" => may_have_transaction = true,
            b"getMore" => may_continue = true,
            _ => {}
        }
    }
    let database = database.and_then(|element| element.as_str()).unwrap_or_default();
    Tops { database, collection: collection_of(command), may_stream, may_have_transaction, may_continue }
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
