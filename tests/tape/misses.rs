//! What a request is told that has no answer, and what the report tells of it.

use bson::doc;
use mongotap::replay::Settings;

use super::{Tape, first_batch, written};

#[test]
fn misses_say_what_came_closest_and_what_would_mend_them() {
    let mut tape = Tape::default();
    tape.add(doc! { "find": "orders", "filter": { "paid": true, "n": 1 }, "$db": "shop" }, first_batch(0, []))
        .add(
            doc! { "find": "orders", "filter": { "paid": false, "n": 7 }, "sort": { "n": 1 }, "$db": "shop" },
            first_batch(0, []),
        )
        .add(doc! { "insert": "orders", "documents": [{ "_id": 1, "token": "abc" }], "$db": "shop" }, written(1))
        .add(
            doc! { "update": "orders", "updates": [{ "q": { "_id": 1 }, "u": { "$set": { "a": 1 } } }], "$db": "shop" },
            written(1),
        )
        .add(doc! { "count": "orders", "$db": "shop" }, written(1));
    let live = tape.replay(Settings::default());
    let mut asker = live.connect();
    let rows = [
        (
            doc! { "find": "orders", "filter": { "paid": "true", "n": 1 }, "$db": "shop" },
            "mongotap replay: no recorded answer to find on shop.orders: {\"find\":\"orders\",\"filter\":{\"paid\":\"true\",\"n\":1}}; \
             the nearest is exchange 1: filter.paid is true there and \"true\" here\n\
             hint: if that differs from run to run, in [replay]: ignore = [\"filter.paid\"]",
        ),
        (
            doc! { "find": "orders", "filter": { "paid": false, "n": 8 }, "sort": { "n": 1 }, "$db": "shop" },
            "the nearest is exchange 2: filter.n is 7 there and 8 here\n\
             hint: if that differs from run to run, in [replay]: bind = [\"filter.n\"]",
        ),
        (
            doc! { "find": "orders", "filter": { "paid": false, "n": 7 }, "sort": { "n": 1 }, "limit": 2, "$db": "shop" },
            "the nearest is exchange 2: limit is missing there and 2 here\n\
             hint: if that differs from run to run, in [replay]: ignore = [\"limit\"]",
        ),
        (
            doc! { "insert": "orders", "documents": [{ "_id": 1, "token": "xyz" }], "$db": "shop" },
            "the nearest is exchange 3: documents.0.token is \"abc\" there and \"xyz\" here\n\
             hint: if that differs from run to run, in [replay]: bind = [\"documents.*.token\"]",
        ),
        (
            doc! { "update": "orders", "updates": [{ "q": { "_id": 1 }, "u": { "$inc": { "a": 1 } } }], "$db": "shop" },
            "the nearest is exchange 4: updates.0.u.$set is {\"a\":1} there and missing here, \
             updates.0.u.$inc is missing there and {\"a\":1} here",
        ),
        (
            doc! { "count": "orders", "$db": "other" },
            "the nearest is exchange 5: $db is \"shop\" there and \"other\" here",
        ),
        (
            doc! { "count": "others", "$db": "shop" },
            "the nearest is exchange 5: count is \"orders\" there and \"others\" here",
        ),
        (doc! { "distinct": "orders", "key": "a", "$db": "shop" }, "; no distinct was recorded"),
    ];
    for (asked, expected) in &rows {
        let message = asker.miss(asked.clone());
        assert!(message.ends_with(expected), "{message}\nis not\n{expected}");
    }
    let report = live.report();
    assert_eq!((report.missed, report.misses.len()), (rows.len() as u64, rows.len()));
    let json = serde_json::from_str::<serde_json::Value>(&report.to_json()).unwrap();
    assert_eq!(json["misses"][1]["nearest"]["place"]["exchange"], 2);
    assert_eq!(json["misses"][1]["nearest"]["differences"][0]["path"], "filter.n");
    assert_eq!(json["unusedCount"], 5);
    assert!(report.to_string().starts_with("0 matched, 8 missed\nmissed: no recorded answer to find"), "{report}");
}
