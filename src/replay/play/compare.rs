//! Whether a live answer says what the recorded one said.

use std::cell::RefCell;

use super::streams::{Told, is_change};
use super::translate::Translator;
use super::values::Answered;
use crate::bson::compare::{self, Difference, Options};
use crate::bson::{Element, Elements, find};
use crate::capture::exchange::Exchange;

/// What a comparison depends on beside the two answers.
#[derive(Debug)]
pub struct Context<'a> {
    /// What was asked.
    pub exchange: &'a Exchange,
    /// What the live server calls things.
    pub translator: &'a mut Translator,
    /// It is about a change stream, or a tailable cursor.
    pub watches: bool,
    /// When they came.
    pub at: Answered,
}

/// Differences of one answer that are named.
const NAMED_MAX: usize = 10;

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
            || (name == "listCollections" && path.ends_with(".info.uuid") && path.split('.').count() == 5)
            // Event by event, below.
            || (watches && matches!(path, "cursor.firstBatch" | "cursor.nextBatch"))
    };
    let told = if watches { context.translator.told(context.exchange, recorded, live) } else { Vec::new() };
    let mut found = context.compare(recorded, live, &ignore);
    found.retain(|difference| !is_order_of_reply(difference));
    for Told { number, recorded, live } in told {
        let is_of_the_event = |path: &str| is_change(&recorded) && OF_A_CHANGE_EVENT.contains(&path);
        let in_event = context.compare(&recorded, &live, &is_of_the_event).into_iter();
        found.extend(in_event.map(|it| Difference { path: format!("event {number}.{}", it.path), ..it }));
    }
    found.truncate(NAMED_MAX);
    found
}

/// Whether only the order of the reply's own fields is another, which servers of other versions have.
fn is_order_of_reply(difference: &Difference) -> bool {
    let names = |value: &Option<String>| value.as_deref().is_some_and(|value| value.starts_with('['));
    matches!(difference.path.as_str(), "" | "cursor") && names(&difference.expected) && names(&difference.actual)
}

/// `CursorNotFound`.
const CURSOR_NOT_FOUND: i64 = 43;

/// The fields of a change event that are of the moment.
const OF_A_CHANGE_EVENT: [&str; 6] = ["_id", "clusterTime", "collectionUUID", "lsid", "txnNumber", "wallTime"];

impl Context<'_> {
    /// Where two documents differ beyond what the live server calls otherwise.
    fn compare(&mut self, recorded: &[u8], live: &[u8], ignore: &dyn Fn(&str) -> bool) -> Vec<Difference> {
        let at = self.at;
        let translator = RefCell::new(&mut *self.translator);
        let same = |recorded: &Element<'_>, live: &Element<'_>| translator.borrow_mut().is_same(recorded, live, at);
        compare::differences(recorded, live, &Options { most: NAMED_MAX, ignore, same: &same, ..Options::default() })
    }
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
    compare::differences(
        recorded,
        live,
        &Options { key_order: false, most: NAMED_MAX, ignore: &ignore, ..Options::default() },
    )
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
        let at = Answered::default();
        let mut context = Context { exchange: &exchange, translator: &mut translator, watches, at };
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
        let other_order = rawdoc! { "ok": 1, "cursor": { "firstBatch": [{ "opTime": 1, "total": 1 }], "id": 0_i64 } };
        assert_eq!(paths(&find, &reply(0, 1, 1), &other_order, false), ["cursor.firstBatch.0"]);
        let failed = rawdoc! { "ok": 0, "errmsg": "no", "code": 2 };
        assert!(
            paths(&rawdoc! { "serverStatus": 1 }, &rawdoc! { "ok": 1, "uptime": 5 }, &rawdoc! { "ok": 1 }, false)
                .is_empty()
        );
        assert_eq!(paths(&rawdoc! { "serverStatus": 1 }, &rawdoc! { "ok": 1 }, &failed, false), ["ok", "code"]);
    }

    #[test]
    fn change_events_have_their_own_times_and_come_in_any_batches() {
        let exchange = testing::exchange(&bson::doc! { "getMore": 5_i64, "collection": "c" }, &[], 0);
        let mut translator = Translator::new([0; 16], true, false);
        let mut paths = |recorded: &[&str], live: &[&str]| {
            let reply = |time: i32, texts: &[&str]| {
                let event = |text: &&str| {
                    rawdoc! { "_id": { "_data": time }, "operationType": "insert", "clusterTime": time, "text": *text }
                };
                let events = texts.iter().map(event).collect::<bson::RawArrayBuf>();
                rawdoc! { "cursor": { "id": 5_i64, "nextBatch": events }, "ok": 1 }
            };
            let (at, watches) = (Answered::default(), true);
            let mut context = Context { exchange: &exchange, translator: &mut translator, watches, at };
            let found = differences(reply(1, recorded).as_bytes(), reply(2, live).as_bytes(), &mut context);
            let untold = context.translator.untold().iter().map(|(_, count)| *count).sum::<usize>();
            (found.into_iter().map(|it| it.path).collect::<Vec<_>>(), untold)
        };
        assert_eq!(paths(&["a", "b"], &["a"]), (vec![], 1));
        assert_eq!(paths(&[], &["b", "c"]), (vec![], 0));
        assert_eq!(paths(&["other"], &[]), (vec!["event 3.text".to_owned()], 0));
        assert_eq!(paths(&["d"], &[]), (vec![], 1));
    }

    #[test]
    fn all_of_a_reply_is_looked_at_however_much_of_it_was_made_anew() {
        let (exchange, at) = (testing::exchange(&bson::doc! { "find": "c" }, &[], 0), Answered::default());
        let mut translator = Translator::new([0; 16], true, false);
        translator.translate(&exchange, crate::event::Timestamp::default()).unwrap();
        let mut paths = |last: i32| {
            let date = |live: i64| bson::DateTime::from_millis(live);
            let reply = |live: i64, last: i32| {
                let documents =
                    (0..3000).map(|n| rawdoc! { "at": date(n % 1000 + live), "last": last * i32::from(n == 2999) });
                rawdoc! { "cursor": { "id": 0_i64, "firstBatch": documents.collect::<bson::RawArrayBuf>() }, "ok": 1 }
            };
            let mut context = Context { exchange: &exchange, translator: &mut translator, watches: false, at };
            let found = differences(reply(0, 1).as_bytes(), reply(5, last).as_bytes(), &mut context);
            found.into_iter().map(|it| it.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(1), [""; 0]);
        assert_eq!(paths(2), ["cursor.firstBatch.2999.last"]);
    }
}
