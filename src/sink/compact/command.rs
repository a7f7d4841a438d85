//! What of a command and its reply is worth a part of a line.

use super::shell::Short;
use crate::bson::walk::{count, find};
use crate::bson::{Element, Elements, Kind};
use crate::event::{CommandStarted, CommandSucceeded, Document, Failure, Measures, error_code};
use crate::sink::plural;

/// The arguments of a command that tell most about it, at most `max` characters.
pub(super) fn arguments(event: &CommandStarted<'_>, max: usize) -> String {
    let mut short = Short::new(max);
    let body = event.command.as_bytes();
    let cut = event.command.truncated().is_some();
    match event.info.command_name.to_ascii_lowercase().as_str() {
        "find" => {
            values(body, &[("", "filter"), ("sort", "sort"), ("skip", "skip"), ("limit", "limit")], &mut short);
        }
        "insert" => counted(body, "documents", "doc", cut, &mut short),
        "update" => statements(body, "updates", &["q", "u"], cut, &mut short),
        "delete" => statements(body, "deletes", &["q"], cut, &mut short),
        "findandmodify" => {
            values(body, &[("", "query"), ("sort", "sort"), ("", "update"), ("remove", "remove")], &mut short);
        }
        "aggregate" => stages(body, &mut short),
        "count" => values(body, &[("", "query"), ("skip", "skip"), ("limit", "limit")], &mut short),
        "distinct" => values(body, &[("", "key"), ("", "query")], &mut short),
        "getmore" => values(body, &[("cursor", "getMore"), ("batchSize", "batchSize")], &mut short),
        "killcursors" => counted(body, "cursors", "cursor", cut, &mut short),
        "createindexes" => names(body, "indexes", "name", &mut short),
        "bulkwrite" => counted(body, "ops", "op", cut, &mut short),
        "explain" => explained(body, &mut short),
        _ => scalars(body, event.info.collection.is_some(), &mut short),
    }
    short.into_text()
}

/// Whether it is an insert of which not all documents are here, so that only its reply may know how many there were.
pub(super) fn is_cut_insert(event: &CommandStarted<'_>) -> bool {
    event.command.truncated().is_some() && event.info.command_name.eq_ignore_ascii_case("insert")
}

/// `250 docs`: what an insert inserted, if that is all that it was given.
pub(super) fn inserted(event: &CommandSucceeded<'_>) -> Option<String> {
    let count = find(event.reply.as_bytes(), b"n").as_ref().and_then(Element::as_i64)?;
    let is_all = write_errors(&event.measures, event.reply.as_bytes()) == 0;
    u64::try_from(count).ok().filter(|_| is_all).map(|count| plural(count, "doc"))
}

/// Whether a command asks the server to wait for something to happen, so that a long time says nothing.
pub(super) fn waits(event: &CommandStarted<'_>) -> bool {
    let body = event.command.as_bytes();
    match event.info.command_name.to_ascii_lowercase().as_str() {
        "getmore" => find(body, b"maxTimeMS").is_some(),
        "hello" | "ismaster" => find(body, b"maxAwaitTimeMS").is_some(),
        _ => false,
    }
}

/// What came of a command that succeeded: `12 docs`, `n=1 modified=1`, `ok`.
pub(super) fn outcome(event: &CommandSucceeded<'_>) -> String {
    let reply = event.reply.as_bytes();
    let number = |name: &str| find(reply, name.as_bytes()).as_ref().and_then(Element::as_i64);
    let mut parts = Vec::new();
    if let Some(documents) = event.measures.documents {
        let more = if event.measures.cursor.is_some() { "+" } else { "" };
        parts.push(format!("{}{more}", plural(documents, "doc")));
    }
    for (name, shown) in [
        ("n", "n"),
        ("nModified", "modified"),
        ("nInserted", "inserted"),
        ("nMatched", "matched"),
        ("nUpserted", "upserted"),
        ("nDeleted", "deleted"),
    ] {
        parts.extend(number(name).map(|number| format!("{shown}={number}")));
    }
    for (name, shown) in [("upserted", "upserted"), ("values", "values")] {
        let array = find(reply, name.as_bytes()).and_then(|element| element.as_array());
        parts.extend(array.and_then(|array| count(array).ok()).map(|count| format!("{shown}={count}")));
    }
    if let Some(error) = find(reply, b"lastErrorObject").and_then(|error| error.as_document()) {
        parts.extend(find(error, b"n").as_ref().and_then(Element::as_i64).map(|n| format!("n={n}")));
    }
    match write_errors(&event.measures, reply) {
        0 => {}
        errors => {
            let code = first_write_error(reply).map_or_else(String::new, |code| format!(" (code {code})"));
            parts.push(format!("{}{code}", plural(errors, "write error")));
        }
    }
    if find(reply, b"writeConcernError").is_some() {
        parts.push("write concern error".to_owned());
    }
    // Nobody knows what came of a write that was not to be answered.
    let otherwise = if event.measures.reply_bytes == 0 { "unacknowledged" } else { "ok" };
    if parts.is_empty() { otherwise.to_owned() } else { parts.join(" ") }
}

/// Whether something in a command that succeeded did not.
pub(super) fn has_errors(event: &CommandSucceeded<'_>) -> bool {
    let reply = event.reply.as_bytes();
    write_errors(&event.measures, reply) > 0 || find(reply, b"writeConcernError").is_some()
}

fn write_errors(measures: &Measures, reply: &[u8]) -> u64 {
    let array = || find(reply, b"writeErrors").and_then(|element| element.as_array());
    measures.write_errors.or_else(|| array().and_then(|array| count(array).ok())).unwrap_or(0)
}

/// The code of the first of a reply's write errors.
fn first_write_error(reply: &[u8]) -> Option<i64> {
    let first = Elements::new(find(reply, b"writeErrors")?.as_array()?).ok()?.next()?.ok()?;
    error_code(first.as_document()?)
}

/// Why a command failed: `NamespaceNotFound (26): ns not found`, or what happened to the connection.
pub(super) fn reason(failure: &Failure<'_>, max: usize) -> String {
    let mut short = Short::new(max);
    match failure {
        Failure::Network { message, .. } => short.push(message),
        Failure::Reply(reply) => server_error(reply, &mut short),
    }
    short.into_text()
}

fn server_error(reply: &Document<'_>, short: &mut Short) {
    let reply = reply.as_bytes();
    let text = |name: &str| find(reply, name.as_bytes()).and_then(|element| element.as_str_bytes());
    let name = text("codeName").map(String::from_utf8_lossy);
    match (&name, error_code(reply)) {
        (Some(name), Some(code)) => short.push(&format!("{name} ({code})")),
        (Some(name), None) => short.push(name),
        (None, Some(code)) => short.push(&format!("code {code}")),
        (None, None) => short.push("error"),
    }
    if let Some(message) = text("errmsg").or_else(|| text("$err")) {
        short.push(": ");
        short.push(&String::from_utf8_lossy(message));
    }
}

/// Fields of the command in this order, each with its title before it unless that is empty.
fn values(body: &[u8], fields: &[(&str, &str)], short: &mut Short) {
    for (title, name) in fields {
        let Some(element) = find(body, name.as_bytes()) else { continue };
        // A filter that takes everything, and a limit of none, say nothing.
        let is_nothing = element.value == [5, 0, 0, 0, 0] || (element.as_i64() == Some(0) && *name != "getMore");
        if is_nothing && !title.is_empty() {
            continue;
        }
        separate(short);
        if !title.is_empty() {
            short.push(title);
            short.push(" ");
        }
        short.value(&element);
    }
}

/// `3 docs`
fn counted(body: &[u8], name: &str, unit: &str, cut: bool, short: &mut Short) {
    let Some(array) = find(body, name.as_bytes()).and_then(|element| element.as_array()) else { return };
    if let Ok(count) = count(array) {
        // How many of a command that was cut are here says little of how many there were: a single one may have been
        // cut itself.
        short.push(&match count {
            0 | 1 if cut => format!("{unit}s"),
            _ if cut => format!("many {unit}s"),
            count => plural(count, unit),
        });
    }
}

/// The first of several statements, and how many more there are.
fn statements(body: &[u8], name: &str, fields: &[&str], cut: bool, short: &mut Short) {
    let Some(array) = find(body, name.as_bytes()).and_then(|element| element.as_array()) else { return };
    let mut all = Elements::new(array).into_iter().flatten().flatten();
    let Some(first) = all.next().and_then(|first| first.as_document()) else { return };
    let fields: Vec<_> = fields.iter().map(|field| ("", *field)).collect();
    values(first, &fields, short);
    match all.count() {
        0 if cut => short.push(" …"),
        _ if cut => short.push(" and many more"),
        0 => {}
        more => short.push(&format!(" and {more} more")),
    }
}

/// `[$match, $group]`
fn stages(body: &[u8], short: &mut Short) {
    let Some(pipeline) = find(body, b"pipeline").and_then(|element| element.as_array()) else { return };
    short.push("[");
    for (position, stage) in Elements::new(pipeline).into_iter().flatten().flatten().enumerate() {
        if position > 0 {
            short.push(", ");
        }
        let first = stage.as_document().and_then(|stage| Elements::new(stage).ok()?.next()?.ok());
        short.push(&first.map_or_else(|| "?".into(), |first| String::from_utf8_lossy(first.name)));
    }
    short.push("]");
}

/// One field of each document of an array: `[a_1, b_-1]`.
fn names(body: &[u8], array: &str, field: &str, short: &mut Short) {
    let Some(array) = find(body, array.as_bytes()).and_then(|element| element.as_array()) else { return };
    short.push("[");
    for (position, document) in Elements::new(array).into_iter().flatten().flatten().enumerate() {
        if position > 0 {
            short.push(", ");
        }
        let name = document.as_document().and_then(|document| find(document, field.as_bytes())?.as_str_bytes());
        short.push(&String::from_utf8_lossy(name.unwrap_or(b"?")));
    }
    short.push("]");
}

/// The command that is to be explained.
fn explained(body: &[u8], short: &mut Short) {
    if let Some(inner) = find(body, b"explain").and_then(|element| element.as_document()) {
        short.document(inner);
    }
}

/// The first few fields that are neither containers nor what drivers add to every command.
fn scalars(body: &[u8], names_collection: bool, short: &mut Short) {
    const SHOWN: usize = 4;
    let elements = Elements::new(body).into_iter().flatten().flatten().enumerate();
    let telling = elements
        .filter(|(position, element)| !element.kind.is_container() && (*position == 0 || !is_usual(element.name)));
    for (position, element) in telling.take(SHOWN) {
        if position > 0 {
            separate(short);
            short.push(&String::from_utf8_lossy(element.name));
            short.push(": ");
            short.value(&element);
        } else if !names_collection && element.as_i64() != Some(1) && element.kind != Kind::Null {
            // The value of the command's own name: its collection, which has its place on the line, or often just 1.
            short.value(&element);
        }
    }
}

/// Fields that drivers add to commands of any name.
fn is_usual(name: &[u8]) -> bool {
    const USUAL: [&[u8]; 5] = [b"txnNumber", b"autocommit", b"maxTimeMS", b"comment", b"helloOk"];
    name.starts_with(b"$") || name.starts_with(b"api") || USUAL.contains(&name)
}

fn separate(short: &mut Short) {
    if !short.is_empty() {
        short.push(" ");
    }
}
