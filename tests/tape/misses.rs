//! What a request is told that has no answer, and what the report tells of it.

use std::sync::Arc;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use mongotap::capture::fixture::Fixture;
use mongotap::replay::{CODE, Paths, Recording, Repeat, Replaying, Settings};

use super::{Asker, Live, Tape, first_batch, written};

/// Whether what is told of a miss is that text, behind `mongotap replay: `.
#[track_caller]
fn tells(asker: &mut Asker, asked: Document, expected: &str) {
    let message = asker.miss(asked);
    assert!(message.ends_with(expected), "{message}\nis not\n{expected}");
}

/// The paths that a proposed line names.
fn named(lines: &str, key: &str) -> Paths {
    let Some((_, list)) = lines.split_once(&format!("{key} = [")) else { return Paths::default() };
    let list = format!("[{}]", list.split_once(']').unwrap().0);
    Paths::parse(&serde_json::from_str::<Vec<String>>(&list).unwrap()).unwrap()
}

/// What is said where the program has changed.
const ANEW: &str = "\nhint: if the program has changed, record it anew";

/// Ten things that happen to a program after it was recorded.
#[test]
fn misses_say_what_came_closest_and_what_would_mend_them() {
    let mut tape = Tape::default();
    let find = |filter: Document| doc! { "find": "orders", "filter": filter, "sort": { "n": 1 }, "$db": "shop" };
    let grouped = doc! { "$group": { "_id": "$item", "n": { "$sum": 1 } } };
    let update =
        |how: Document| doc! { "update": "orders", "updates": [{ "q": { "_id": 1 }, "u": how }], "$db": "shop" };
    let insert = |document: Document| doc! { "insert": "orders", "documents": [document], "$db": "shop" };
    tape.add(
        doc! { "find": "others", "filter": { "status": "lost" }, "sort": { "n": 1 }, "$db": "shop" },
        first_batch(0, []),
    )
    .add(find(doc! { "status": "open", "n": 2 }), first_batch(0, []))
    .add(find(doc! { "status": "paid", "n": 1 }), first_batch(0, []))
    .add(
        doc! { "aggregate": "orders", "pipeline": [{ "$match": { "n": 1 } }, &grouped], "cursor": {}, "$db": "shop" },
        first_batch(0, []),
    )
    .add(insert(doc! { "_id": 1, "item": "tea", "token": "d41d8cd98f00b204" }), written(1))
    .add(update(doc! { "$set": { "a": 1 } }), written(1))
    .add(update(doc! { "$set": { "days.2026-11-22": 1 } }), written(1))
    .add(doc! { "count": "orders", "query": {}, "$db": "shop" }, written(1))
    .add(doc! { "count": "orders", "query": { "made.by": ObjectId::from_bytes([1; 12]) }, "$db": "shop" }, written(1));
    let live = tape.replay(Settings { repeat: Repeat::Once, ..Settings::default() });
    let mut asker = live.connect();
    let rows: Vec<(Document, String)> = vec![
        // Another filter.
        (
            find(doc! { "status": "lost", "n": 1 }),
            "mongotap replay: no recorded answer to find on shop.orders: \
             {\"find\":\"orders\",\"filter\":{\"status\":\"lost\",\"n\":1},\"sort\":{\"n\":1}}; \
             the nearest is exchange 3: filter.status is \"paid\" there and \"lost\" here"
                .to_owned()
                + ANEW,
        ),
        // Another type of number.
        (
            find(doc! { "status": "paid", "n": 1.0 }),
            "the nearest is exchange 3: filter.n is 1 (an int32) there and 1.0 (a double) here".to_owned() + ANEW,
        ),
        // Another sort.
        (
            doc! { "find": "orders", "filter": { "status": "paid", "n": 1 }, "sort": { "n": -1 }, "$db": "shop" },
            "the nearest is exchange 3: sort.n is 1 there and -1 here".to_owned() + ANEW,
        ),
        // A projection.
        (
            doc! { "find": "orders", "filter": { "status": "paid", "n": 1 }, "sort": { "n": 1 }, "projection": { "n": 1 }, "$db": "shop" },
            "the nearest is exchange 3: projection is missing there and {\"n\":1} here".to_owned() + ANEW,
        ),
        // One stage more.
        (
            doc! { "aggregate": "orders", "pipeline": [{ "$match": { "n": 1 } }, &grouped, { "$limit": 5 }], "cursor": {}, "$db": "shop" },
            "the nearest is exchange 4: pipeline.2 is missing there and {\"$limit\":5} here".to_owned() + ANEW,
        ),
        // One field more.
        (
            insert(doc! { "_id": 1, "item": "tea", "token": "d41d8cd98f00b204", "price": 2.5 }),
            "the nearest is exchange 5: documents.0.price is missing there and 2.5 here".to_owned() + ANEW,
        ),
        // What is made anew each time.
        (
            insert(doc! { "_id": 1, "item": "tea", "token": "7f83b1657ff1fc53" }),
            "the nearest is exchange 5: documents.0.token is \"d41d8cd98f00b204\" there and \"7f83b1657ff1fc53\" here\n\
             hint: if that differs from run to run, in [replay]: bind = [\"documents.*.token\"]"
                .to_owned(),
        ),
        // At a place whose name no line can have as it is.
        (
            doc! { "count": "orders", "query": { "made.by": ObjectId::from_bytes([2; 12]) }, "$db": "shop" },
            "the nearest is exchange 9: query.made.by is {\"$oid\":\"010101010101010101010101\"} there and \
             {\"$oid\":\"020202020202020202020202\"} here\n\
             hint: if that differs from run to run, in [replay]: bind = [\"query.*\"]"
                .to_owned(),
        ),
        // The same in the name of a field.
        (
            update(doc! { "$set": { "days.2026-11-23": 1 } }),
            "the nearest is exchange 7: updates.0.u.$set.days.2026-11-22 is 1 there and missing here, \
             updates.0.u.$set.days.2026-11-23 is missing there and 1 here\n\
             hint: if that differs from run to run, in [replay]: ignore = [\"updates.*.u.$set.*\"] (any field there is let through then)"
                .to_owned(),
        ),
        // Another operator.
        (
            update(doc! { "$inc": { "a": 1 } }),
            "the nearest is exchange 6: updates.0.u.$set is {\"a\":1} there and missing here, \
             updates.0.u.$inc is missing there and {\"a\":1} here"
                .to_owned()
                + ANEW,
        ),
        // A comment with the request's id.
        (
            doc! { "count": "orders", "query": {}, "comment": "trace 17", "$db": "shop" },
            "the nearest is exchange 8: comment is missing there and \"trace 17\" here\n\
             hint: if that differs from run to run, in [replay]: ignore = [\"comment\"]"
                .to_owned(),
        ),
        // Another collection, or database.
        (
            doc! { "count": "customers", "query": {}, "$db": "shop" },
            "; nothing like it was recorded on shop.customers; the nearest is exchange 8: count is \"orders\" there and \
             \"customers\" here\nhint: if it is new, record it"
                .to_owned(),
        ),
        (
            doc! { "count": "orders", "query": {}, "$db": "other" },
            "; nothing like it was recorded on other.orders; the nearest is exchange 8: $db is \"shop\" there and \
             \"other\" here\nhint: if it is new, record it"
                .to_owned(),
        ),
        // A command that was never used.
        (doc! { "distinct": "orders", "key": "a", "$db": "shop" }, "; no distinct was recorded".to_owned()),
    ];
    for (asked, expected) in &rows {
        tells(&mut asker, asked.clone(), expected);
        // A line that is proposed does mend it.
        if let Some((_, lines)) = expected.split_once("in [replay]: ") {
            let settings =
                Settings { bind: named(lines, "bind"), ignore: named(lines, "ignore"), ..Settings::default() };
            let answer = tape.replay(settings).connect().ask(asked.clone());
            assert_ne!(answer.get_i32("code").ok(), Some(CODE), "{answer}");
        }
    }
    // A call twice.
    asker.ask(doc! { "count": "orders", "query": {}, "$db": "shop" });
    let twice = "it was asked more often than it was recorded; the nearest is exchange 8\n\
                 hint: with --repeat last the last answer stays; if the program has changed, record it anew";
    tells(&mut asker, doc! { "count": "orders", "query": {}, "$db": "shop" }, twice);
    let report = live.report();
    assert_eq!((report.missed, report.misses.len()), (rows.len() as u64 + 1, rows.len() + 1));
    let json = serde_json::from_str::<serde_json::Value>(&report.to_json()).unwrap();
    assert_eq!(json["misses"][0]["nearest"]["place"]["exchange"], 3);
    assert_eq!(json["misses"][0]["nearest"]["differences"][0]["path"], "filter.status");
    // A call that is missing.
    assert_eq!(json["unusedCount"], 8);
    assert!(report.to_string().starts_with("1 matched, 15 missed\nmissed: no recorded answer to find"), "{report}");
}

/// An order is made, found by its id, by its text and by its time.
const FIXTURE: &str = r#"{"mongotap":"fixture","version":1,"server":"6.0","recordedWith":"test","hello":{"isWritablePrimary":true,"maxWireVersion":17,"ok":1.0}}
{"request":1,"body":{"insert":"orders","documents":[],"$db":"shop"}}
{"request":1,"documents":{"_id":{"$born":"oid1"},"at":{"$born":"date1","now":"+0s"}}}
{"reply":1,"body":{"n":1,"ok":1.0}}
{"request":2,"body":{"insert":"orders","documents":[],"$db":"shop"}}
{"request":2,"documents":{"_id":{"$born":"oid2"},"first":{"$born":"oid1"},"at":{"$born":"date2","now":"+0s"}}}
{"reply":2,"body":{"n":1,"ok":1.0}}
{"request":3,"body":{"find":"orders","filter":{"_id":{"$born":"oid2"}},"$db":"shop"}}
{"reply":3,"body":{"cursor":{"firstBatch":[],"id":{"$numberLong":"0"},"ns":"shop.orders"},"ok":1.0}}
{"request":4,"body":{"find":"logs","filter":{"at":{"$gt":{"$now":"-7d"}}},"$db":"shop"}}
{"reply":4,"body":{"cursor":{"firstBatch":[],"id":{"$numberLong":"0"},"ns":"shop.logs"},"ok":1.0}}
"#;

/// Values that have names are shown by them, and not as what stands for them.
#[test]
fn misses_show_what_is_named_as_it_is_written() {
    let fixture = Fixture::parse(FIXTURE).unwrap();
    let recording = Recording::new(fixture.exchanges, Settings::default());
    let live = Live { replaying: Arc::new(Replaying::new(Arc::new(recording))) };
    let mut asker = live.connect();
    let [one, two, other] = [1, 2, 3].map(|n| ObjectId::from_bytes([n; 12]));
    let insert = |document: Document| doc! { "insert": "orders", "documents": [document], "$db": "shop" };
    let find = |id: ObjectId| doc! { "find": "orders", "filter": { "_id": id }, "$db": "shop" };
    let now = DateTime::from_millis(super::LIVE_MS);
    tells(
        &mut asker,
        find(other),
        "the nearest is line 8: filter._id is {\"$born\":\"oid2\"} (not made in this run) there and \
         {\"$oid\":\"030303030303030303030303\"} here\n\
         hint: if the program has changed, edit line 8, or record it: mongotap exec --mode new adds it, --mode all records all anew",
    );
    asker.ask(insert(doc! { "_id": one, "at": now }));
    asker.ask(insert(doc! { "_id": two, "first": one, "at": now }));
    let line = |id: &str| {
        format!(
            "filter._id is {{\"$born\":\"oid2\"}} ({{\"$oid\":\"020202020202020202020202\"}} in this run) there and \
             {{\"$oid\":\"{id}\"}} here"
        )
    };
    assert!(asker.miss(find(other)).contains(&line("030303030303030303030303")));
    let known = line("010101010101010101010101").replace(" here", " (which stands for {\"$born\":\"oid1\"}) here");
    let told = asker.miss(find(one));
    assert!(told.contains(&known), "{told}\n{known}");
    let long_ago = DateTime::from_millis(super::LIVE_MS - 3 * 86_400_000);
    let told = asker.miss(doc! { "find": "logs", "filter": { "at": { "$gt": long_ago } }, "$db": "shop" });
    assert!(told.contains("filter.at.$gt is {\"$now\":\"-7d\"} there and {\"$date\":"), "{told}");
    let report = live.report().to_string();
    assert!(report.contains("{\"find\":\"orders\",\"filter\":{\"_id\":{\"$born\":\"oid2\"}},"), "{report}");
    assert!(!report.contains("2500-"), "{report}");
}

/// A transaction that misses something cannot end as it was recorded: that is no news.
#[test]
fn the_end_of_a_transaction_names_what_was_missed_in_it() {
    let within = |mut command: Document, starts: bool| {
        command.extend(doc! { "lsid": { "id": 1 }, "txnNumber": 1_i64, "autocommit": false, "$db": "shop" });
        if starts {
            command.insert("startTransaction", true);
        }
        command
    };
    let insert = |n: i32| doc! { "insert": "orders", "documents": [{ "_id": n }] };
    let mut tape = Tape::default();
    tape.add(within(insert(1), true), written(1))
        .add(within(insert(2), false), written(1))
        .add(within(doc! { "commitTransaction": 1 }, false), doc! { "ok": 1.0 });
    let live = tape.replay(Settings::default());
    let mut asker = live.connect();
    asker.ask(within(insert(1), true));
    let first = asker.miss(within(insert(3), false));
    assert!(first.contains("the nearest is exchange 2: documents.0._id is 2 there and 3 here"), "{first}");
    for end in ["commitTransaction", "abortTransaction"] {
        let told = "; the first of its transaction that had none was insert on shop.orders: \
                    {\"insert\":\"orders\",\"documents\":[{\"_id\":3}],\"autocommit\":false}";
        tells(&mut asker, within(doc! { end: 1 }, false), told);
    }
}

/// `bind` says that a value may be another one, not that one known value may be another known one.
#[test]
fn what_stands_for_one_value_is_never_bound_to_another() {
    let find = |filter: Document| doc! { "find": "orders", "filter": filter, "$db": "shop" };
    let insert = |document: Document| doc! { "insert": "orders", "documents": [document], "$db": "shop" };
    let id = |n: u8| ObjectId::from_bytes([n; 12]);
    let token = |n: u8| format!("{n}f9a3c1e8b7d2064");
    let mut tape = Tape::default();
    tape.add(insert(doc! { "_id": id(1), "item": "tea", "token": token(1) }), written(1))
        .add(insert(doc! { "_id": id(2), "item": "cup", "token": token(2) }), written(1))
        .add(find(doc! { "_id": id(1) }), first_batch(0, [doc! { "_id": id(1), "item": "tea" }]))
        .add(find(doc! { "token": token(1) }), first_batch(0, [doc! { "_id": id(1), "item": "tea" }]))
        .add(find(doc! { "_id": id(3) }), first_batch(0, []));
    let bind = Paths::parse(&["filter._id", "filter.token", "documents.*.token"].map(str::to_owned)).unwrap();
    let settings = || Settings { bind: bind.clone(), repeat: Repeat::Once, ..Settings::default() };

    let mut asker = tape.replay(settings()).connect();
    asker.ask(insert(doc! { "_id": id(11), "item": "tea", "token": token(3) }));
    asker.ask(insert(doc! { "_id": id(12), "item": "cup", "token": token(4) }));
    for other in [doc! { "_id": id(12) }, doc! { "token": token(4) }] {
        asker.miss(find(other));
    }
    // One that is not known yet may be any that nothing stands for: it is the one that was not found.
    assert_eq!(asker.ask(find(doc! { "_id": id(13) })), first_batch(0, []));
    assert_eq!(asker.ask(find(doc! { "_id": id(11) })), first_batch(0, [doc! { "_id": id(11), "item": "tea" }]));
    asker.ask(find(doc! { "token": token(3) }));
}

/// In a state that was not recorded, an answer that tells of a document that this run never made is not right.
#[test]
fn no_answer_tells_of_what_was_not_made_in_this_run() {
    let find = || doc! { "find": "orders", "filter": {}, "$db": "shop" };
    let order = |n: u8, item: &str| doc! { "_id": ObjectId::from_bytes([n; 12]), "item": item };
    let insert = |document: Document| doc! { "insert": "orders", "documents": [document], "$db": "shop" };
    let mut tape = Tape::default();
    tape.add(insert(order(1, "cup")), written(1))
        .add(find(), first_batch(0, [order(1, "cup")]))
        .add(insert(order(2, "mug")), written(1))
        .add(find(), first_batch(0, [order(2, "mug")]));
    let replay = || tape.replay(Settings { repeat: Repeat::Once, ..Settings::default() });

    let mut asker = replay().connect();
    asker.ask(insert(order(12, "mug")));
    assert_eq!(asker.ask(find()), first_batch(0, [order(12, "mug")]));

    let told = replay().connect().miss(find());
    assert!(told.contains("; its answer tells of what this run has not made; the nearest is exchange 2"), "{told}");
}
