//! Replay's matching, on recordings made by hand: what looks alike and is not the same.

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongotap::replay::{Paths, Settings};

use crate::tape::{Tape, first_batch, written};

fn oid(n: u8) -> ObjectId {
    ObjectId::from_bytes([n; 12])
}

fn insert(document: Document) -> Document {
    doc! { "insert": "c", "documents": [document], "$db": "d" }
}

fn delete(filter: Document) -> Document {
    doc! { "delete": "c", "deletes": [{ "q": filter, "limit": 1 }], "$db": "d" }
}

fn find(filter: Document) -> Document {
    doc! { "find": "c", "filter": filter, "$db": "d" }
}

#[test]
fn the_order_of_fields_counts_in_what_a_filter_compares() {
    let xy = || doc! { "x": 1, "y": 2 };
    let yx = || doc! { "y": 2, "x": 1 };
    let rows = [
        (doc! { "s": xy() }, doc! { "s": yx() }, false),
        (doc! { "s": { "$in": [xy()] } }, doc! { "s": { "$in": [yx()] } }, false),
        (doc! { "$or": [{ "s": { "t": xy() } }] }, doc! { "$or": [{ "s": { "t": yx() } }] }, false),
        (doc! { "s": { "$all": [xy()] } }, doc! { "s": { "$all": [yx()] } }, false),
        (doc! { "s": { "$ref": "a", "$id": 1 } }, doc! { "s": { "$id": 1, "$ref": "a" } }, false),
        (xy(), yx(), true),
        (doc! { "$and": [xy()] }, doc! { "$and": [yx()] }, true),
        (doc! { "s": { "$lt": 5, "$gt": 1 } }, doc! { "s": { "$gt": 1, "$lt": 5 } }, true),
        (doc! { "key": { "$lt": 5, "$gt": 1 } }, doc! { "key": { "$gt": 1, "$lt": 5 } }, true),
        (doc! { "s": { "$elemMatch": xy() } }, doc! { "s": { "$elemMatch": yx() } }, true),
        (doc! { "s": { "$all": [{ "$elemMatch": xy() }] } }, doc! { "s": { "$all": [{ "$elemMatch": yx() }] } }, true),
    ];
    let aggregate =
        |filter: Document| doc! { "aggregate": "c", "pipeline": [{ "$match": filter }], "cursor": {}, "$db": "d" };
    for (recorded, live, is_same) in rows {
        for command in [&find as &dyn Fn(Document) -> Document, &delete, &aggregate] {
            let mut tape = Tape::default();
            tape.add(command(recorded.clone()), written(1));
            let replay = tape.replay(Settings::default());
            let mut asker = replay.connect();
            match is_same {
                true => drop(asker.ask(command(live.clone()))),
                false => drop(asker.miss(command(live.clone()))),
            }
            asker.ask(command(recorded.clone()));
        }
    }
    // What is stored is as a driver's unordered map has it.
    let mut tape = Tape::default();
    tape.add(insert(doc! { "_id": 1, "s": xy() }), written(1));
    tape.replay(Settings::default()).connect().ask(insert(doc! { "s": yx(), "_id": 1 }));
}

#[test]
fn writes_of_one_document_or_another_are_two() {
    let mut tape = Tape::default();
    let both = |a: u8, b: u8| doc! { "insert": "c", "documents": [{ "_id": oid(a) }, { "_id": oid(b) }], "$db": "d" };
    let emptied = doc! { "drop": "c", "$db": "d" };
    let left = |n: u8| first_batch(0, [doc! { "_id": oid(n) }]);
    let one = |n: u8| delete(doc! { "_id": oid(n) });
    tape.add(both(1, 2), written(2)).add(one(1), written(1)).add(find(doc! {}), left(2));
    tape.add(emptied.clone(), written(0));
    tape.add(both(3, 4), written(2)).add(one(4), written(1)).add(find(doc! {}), left(3));
    tape.add(emptied.clone(), written(0));
    // Constants, as they were before the recording.
    let constant = |n: u8| doc! { "delete": "e", "deletes": [{ "q": { "_id": oid(n) }, "limit": 1 }], "$db": "d" };
    let rest = doc! { "find": "e", "filter": {}, "$db": "d" };
    let emptied_e = doc! { "drop": "e", "$db": "d" };
    tape.add(constant(8), written(1)).add(rest.clone(), left(9)).add(emptied_e, written(0));
    tape.add(constant(9), written(1)).add(rest.clone(), left(8));
    let replay = tape.replay(Settings::default());
    let mut asker = replay.connect();
    asker.ask(both(103, 104));
    asker.ask(one(104));
    assert_eq!(asker.ask(find(doc! {})), left(103));
    asker.ask(emptied);
    asker.ask(both(101, 102));
    asker.ask(one(101));
    assert_eq!(asker.ask(find(doc! {})), left(102));
    asker.ask(constant(9));
    assert_eq!(asker.ask(rest), left(8));
}

#[test]
fn who_asks_for_its_own_document_gets_it_though_the_exchange_was_used_again() {
    let mut tape = Tape::default();
    let document = |n: u8| doc! { "_id": oid(n), "of": oid(n + 50) };
    let found = |n: u8| first_batch(0, [document(n)]);
    tape.add(insert(document(1)), written(1)).add(find(doc! { "_id": oid(1) }), found(1));
    let replay = tape.replay(Settings::default());
    let mut asker = replay.connect();
    asker.ask(insert(document(101)));
    asker.ask(insert(document(102)));
    for n in [101, 102, 101, 102] {
        assert_eq!(asker.ask(find(doc! { "_id": oid(n) })), found(n), "{n}");
    }
}

#[test]
fn where_values_must_be_equal_nothing_is_bound() {
    let mut tape = Tape::default();
    tape.add(insert(doc! { "_id": oid(1) }), written(1)).add(find(doc! { "_id": oid(1) }), written(7));
    let exact = Paths::parse(&["filter._id"]).unwrap();
    let replay = tape.replay(Settings { exact, ..Settings::default() });
    let mut asker = replay.connect();
    asker.ask(insert(doc! { "_id": oid(101) }));
    asker.miss(find(doc! { "_id": oid(101) }));
    asker.ask(find(doc! { "_id": oid(1) }));
}

#[test]
fn the_time_of_a_snapshot_does_not_count() {
    let at = |seconds: u32| {
        let time = bson::Timestamp { time: seconds, increment: 1 };
        let mut command = find(doc! {});
        command.insert("readConcern", doc! { "level": "snapshot", "atClusterTime": time });
        command
    };
    let mut tape = Tape::default();
    tape.add(at(1), first_batch(0, []));
    let replay = tape.replay(Settings::default());
    let mut asker = replay.connect();
    asker.ask(at(2));
    asker.miss(find(doc! {}));
}
