//! Whether a live answer says what the recorded one said.

use super::translate::Translator;
use crate::bson::compare::{self, Difference, Options};
use crate::bson::{Elements, find, find_path};
use crate::capture::exchange::Exchange;

/// What a comparison depends on beside the two answers.
#[derive(Debug)]
pub struct Context<'a> {
    /// What was asked.
    pub exchange: &'a Exchange,
    /// What the live server calls things.
    pub translator: &'a mut Translator,
    /// It is about a change stream.
    pub watches: bool,
}

/// Differences of one answer that are named.
const NAMED_MAX: usize = 10;

/// Differences that are looked for: some turn out to be none.
const LOOKED_FOR: usize = 1000;

/// Commands whose answers are about the server, or the moment: only whether they succeed is compared.
const OF_THE_MOMENT: [&str; 21] = [
    "buildInfo",
    "buildinfo",
    "collStats",
    "collstats",
    "connPoolStats",
    "connectionStatus",
    "currentOp",
    "dbStats",
    "dbstats",
    "explain",
    "getCmdLineOpts",
    "getLog",
    "getParameter",
    "hostInfo",
    "listCommands",
    "listDatabases",
    "lockInfo",
    "replSetGetStatus",
    "serverStatus",
    "top",
    "whatsmyuri",
];

/// What every answer has that is the server's, not the data's.
const OF_THE_SERVER: [&str; 13] = [
    "$clusterTime",
    "$configServerState",
    "$gleStats",
    "$replData",
    "atClusterTime",
    "connectionId",
    "electionId",
    "lastCommittedOpTime",
    "localTime",
    "opTime",
    "operationTime",
    "recoveryToken",
    "topologyVersion",
];

/// Where they differ, at most ten places; nothing if that is only in what always differs.
pub fn differences(recorded: &[u8], live: &[u8], context: &mut Context<'_>) -> Vec<Difference> {
    let name = context.exchange.name();
    if OF_THE_MOMENT.contains(&name) {
        return success(recorded, live);
    }
    let watches = context.watches;
    let both_open = is_open(recorded) && is_open(live);
    let error_code = find(recorded, b"code").and_then(|code| code.as_i64());
    let ignore = |path: &str| {
        let mut parts = path.split('.');
        let first = parts.next().unwrap_or_default();
        OF_THE_SERVER.contains(&first)
            || matches!(path, "cursor.postBatchResumeToken" | "cursor.atClusterTime")
            // Cursors have other numbers; that one is at its end and the other is not is a difference.
            || (path == "cursor.id" && both_open)
            || (first == "cursorsKilled" || (first == "cursorsUnknown" && name == "killCursors"))
            // The message has the number of the cursor in it.
            || (first == "errmsg" && error_code == Some(CURSOR_NOT_FOUND))
            || (watches && is_of_change_event(path))
    };
    let options = Options { most: LOOKED_FOR, ignore: &ignore, ..Options::default() };
    let mut found = compare::differences(recorded, live, &options);
    found.retain(|difference| !context.is_translated(difference, recorded, live));
    found.truncate(NAMED_MAX);
    found
}

/// `CursorNotFound`.
const CURSOR_NOT_FOUND: i64 = 43;

impl Context<'_> {
    /// Whether the live value is what stands for the recorded one.
    fn is_translated(&mut self, difference: &Difference, recorded: &[u8], live: &[u8]) -> bool {
        let path: Vec<&[u8]> = difference.path.split('.').map(str::as_bytes).collect();
        let values = find_path(recorded, &path).zip(find_path(live, &path));
        values.is_some_and(|(recorded, live)| self.translator.is_same(&recorded, &live))
    }
}

/// The fields of a change event that are of the moment: `cursor.nextBatch.3.clusterTime`.
fn is_of_change_event(path: &str) -> bool {
    const FIELDS: [&str; 6] = ["_id", "clusterTime", "lsid", "txnNumber", "wallTime", "collectionUUID"];
    let mut parts = path.split('.').skip(1);
    let is_in_batch = parts.next().is_some_and(|batch| batch.ends_with("Batch"));
    let is_position = parts.next().is_some_and(|position| position.parse::<u32>().is_ok());
    is_in_batch && is_position && parts.next().is_some_and(|field| FIELDS.contains(&field))
}

fn is_open(reply: &[u8]) -> bool {
    let cursor = find(reply, b"cursor").and_then(|cursor| cursor.as_document()).unwrap_or_default();
    find(cursor, b"id").and_then(|id| id.as_i64()).is_some_and(|id| id != 0)
}

/// Whether both succeeded, or failed with the same code.
fn success(recorded: &[u8], live: &[u8]) -> Vec<Difference> {
    let ignore = |path: &str| !matches!(path, "ok" | "code" | "codeName");
    let keep = |reply: &[u8]| Elements::readable(reply).any(|element| element.name == b"ok");
    if !keep(recorded) || !keep(live) {
        return Vec::new();
    }
    compare::differences(recorded, live, &Options { key_order: false, most: NAMED_MAX, ignore: &ignore })
}

#[cfg(test)]
mod tests {
    use bson::raw::RawDocumentBuf;
    use bson::rawdoc;

    use super::*;
    use crate::capture::exchange::testing;

    fn paths(request: &RawDocumentBuf, recorded: &RawDocumentBuf, live: &RawDocumentBuf, watches: bool) -> Vec<String> {
        let exchange =
            testing::exchange(&bson::Document::try_from(request.as_ref() as &bson::RawDocument).unwrap(), &[], 0);
        let mut translator = Translator::new([0; 16], true, false);
        let mut context = Context { exchange: &exchange, translator: &mut translator, watches };
        let found = differences(recorded.as_bytes(), live.as_bytes(), &mut context);
        found.into_iter().map(|difference| difference.path).collect()
    }

    #[test]
    fn what_always_differs_is_no_difference_and_all_else_is() {
        let find = rawdoc! { "find": "c" };
        let reply = |id: i64, total: i32, time: i32| {
            rawdoc! { "cursor": { "id": id, "firstBatch": [{ "total": total, "opTime": 1 }] }, "ok": 1, "operationTime": time }
        };
        assert!(paths(&find, &reply(5, 1, 1), &reply(6, 1, 2), false).is_empty());
        assert_eq!(paths(&find, &reply(5, 1, 1), &reply(0, 1, 2), false), ["cursor.id"]);
        assert_eq!(paths(&find, &reply(0, 1, 1), &reply(0, 2, 2), false), ["cursor.firstBatch.0.total"]);
        let inner = rawdoc! { "cursor": { "id": 5_i64, "firstBatch": [{ "total": 1, "opTime": 2 }] }, "ok": 1 };
        assert_eq!(paths(&find, &reply(5, 1, 1), &inner, false), ["cursor.firstBatch.0.opTime"]);
        let failed = rawdoc! { "ok": 0, "errmsg": "no", "code": 2 };
        assert!(
            paths(&rawdoc! { "serverStatus": 1 }, &rawdoc! { "ok": 1, "uptime": 5 }, &rawdoc! { "ok": 1 }, false)
                .is_empty()
        );
        assert_eq!(paths(&rawdoc! { "serverStatus": 1 }, &rawdoc! { "ok": 1 }, &failed, false), ["ok", "code"]);
    }

    #[test]
    fn change_events_have_their_own_times() {
        let more = rawdoc! { "getMore": 5_i64 };
        let reply = |time: i32, text: &str| {
            rawdoc! { "cursor": { "id": 5_i64, "nextBatch": [{ "_id": { "_data": time }, "clusterTime": time, "text": text }] }, "ok": 1 }
        };
        assert!(paths(&more, &reply(1, "a"), &reply(2, "a"), true).is_empty());
        assert_eq!(paths(&more, &reply(1, "a"), &reply(2, "b"), true), ["cursor.nextBatch.0.text"]);
        assert_eq!(paths(&more, &reply(1, "a"), &reply(2, "a"), false).len(), 2);
    }
}
