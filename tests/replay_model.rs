//! Replay's matching, on recordings made by hand: what breaks replays that only compare questions.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod apart;
mod tape;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, doc};
use mongotap::capture::exchange::Place;
use mongotap::replay::{Paths, Repeat, Scope, Settings};
use tape::{Asker, EXHAUST, LIVE_MS, RECORDED_MS, SILENT, Tape, first_batch, next_batch, written};

fn oid(n: u8) -> ObjectId {
    ObjectId::from_bytes([n; 12])
}

fn uuid(n: u8) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![n; 16] })
}

fn insert(documents: impl IntoIterator<Item = Document>) -> Document {
    doc! { "insert": "c", "documents": documents.into_iter().collect::<Vec<_>>(), "$db": "d" }
}

fn find(filter: Document) -> Document {
    doc! { "find": "c", "filter": filter, "$db": "d" }
}

fn count() -> Document {
    doc! { "count": "c", "$db": "d" }
}

fn drop_c() -> Document {
    doc! { "drop": "c", "$db": "d" }
}

fn once() -> Settings {
    Settings { repeat: Repeat::Once, ..Settings::default() }
}

fn ids(answer: &Document) -> Vec<ObjectId> {
    let cursor = answer.get_document("cursor").unwrap();
    let batch = cursor.get_array("firstBatch").or_else(|_| cursor.get_array("nextBatch")).unwrap();
    batch.iter().map(|it| it.as_document().unwrap().get_object_id("_id").unwrap()).collect()
}

fn cursor(answer: &Document) -> i64 {
    answer.get_document("cursor").unwrap().get_i64("id").unwrap()
}

#[test]
fn fresh_values_stand_for_the_recorded_ones_everywhere() {
    let mut tape = Tape::default();
    let text =
        |id: ObjectId, n: u8| format!("{id} {}", mongotap::capture::names::Value::Uuid([n; 16]).to_text().unwrap());
    tape.add(insert([doc! { "_id": oid(1), "u": uuid(2), "tags": [{ "of": oid(3) }] }]), written(1))
        .add(find(doc! { "_id": { "$in": [oid(9), oid(1)] } }), first_batch(0, [doc! { "_id": oid(1), "in": [[oid(3)]] }]))
        .add(
            insert([doc! { "_id": oid(1), "u": uuid(2), "tags": [{ "of": oid(3) }] }]),
            doc! { "n": 0, "writeErrors": [{ "index": 0, "code": 11000, "errmsg": format!("dup key: {{ _id: ObjectId('{}') }}", oid(1)) }], "ok": 1.0 },
        )
        .add(find(doc! { "text": text(oid(1), 2) }), first_batch(0, [doc! { "text": text(oid(1), 2), "_id": oid(3) }]));
    let live = tape.replay(once());
    let mut asker = live.connect();
    let mine = || insert([doc! { "_id": oid(101), "u": uuid(102), "tags": [{ "of": oid(103) }] }]);
    assert_eq!(asker.ask(mine()), written(1));
    let found = asker.ask(find(doc! { "_id": { "$in": [oid(9), oid(101)] } }));
    assert_eq!(found, first_batch(0, [doc! { "_id": oid(101), "in": [[oid(103)]] }]));
    let again = asker.ask(mine());
    assert!(again.to_string().contains(&format!("ObjectId('{}')", oid(101))), "{again}");
    let found = asker.ask(find(doc! { "text": text(oid(101), 102) }));
    assert_eq!(found, first_batch(0, [doc! { "text": text(oid(101), 102), "_id": oid(103) }]));
    let report = live.report();
    assert_eq!((report.matched, report.missed, report.unused_count, report.ambiguous_count), (4, 0, 0, 0), "{report}");
}

#[test]
fn what_is_not_fresh_or_not_born_must_be_the_same() {
    let mut tape = Tape::default();
    tape.add(insert([doc! { "_id": oid(1) }]), written(1))
        .add(insert([doc! { "_id": oid(2), "other": 1 }]), written(1))
        .add(find(doc! { "_id": oid(1) }), first_batch(0, [doc! { "_id": oid(1), "given": oid(7) }]))
        .add(find(doc! { "of": oid(7) }), first_batch(0, []))
        .add(find(doc! { "constant": oid(8) }), first_batch(0, []));
    let live = tape.replay(Settings::default());
    let mut asker = live.connect();
    asker.ask(insert([doc! { "_id": oid(101) }]));
    asker.ask(insert([doc! { "_id": oid(102), "other": 1 }]));
    // Another live value, one never seen, one of another type, and one that the server made.
    for wrong in [Bson::from(oid(102)), oid(50).into(), uuid(1), oid(101).to_hex().into()] {
        let message = asker.miss(find(doc! { "_id": wrong }));
        assert!(message.starts_with("mongotap replay: no recorded answer to find on d.c: "), "{message}");
        assert!(message.contains("the nearest is exchange 3: filter._id is "), "{message}");
    }
    asker.miss(find(doc! { "of": oid(70) }));
    asker.miss(find(doc! { "constant": oid(80) }));
    assert_eq!(ids(&asker.ask(find(doc! { "_id": oid(101) }))), [oid(101)]);
    assert_eq!(asker.ask(find(doc! { "of": oid(7) })), first_batch(0, []));
}

#[test]
fn values_stand_for_one_each() {
    let mut tape = Tape::default();
    tape.add(insert([doc! { "_id": oid(1) }, doc! { "_id": oid(2) }]), written(2));
    let mut asker = tape.replay(Settings::default()).connect();
    asker.miss(insert([doc! { "_id": oid(101) }, doc! { "_id": oid(101) }]));
    asker.ask(insert([doc! { "_id": oid(101) }, doc! { "_id": oid(102) }]));
}

/// One test fills the collection and reads it, another does so with more; each begins by emptying it.
fn emptying_tests() -> Tape {
    let mut tape = Tape::default();
    tape.add(drop_c(), doc! { "ok": 1.0 })
        .add(insert([doc! { "_id": oid(1), "x": 1 }]), written(1))
        .add(find(doc! {}), first_batch(0, [doc! { "_id": oid(1), "x": 1 }]))
        .add(count(), written(1))
        .add(drop_c(), doc! { "ok": 1.0 })
        .add(insert([doc! { "_id": oid(2), "x": 1 }]), written(1))
        .add(insert([doc! { "_id": oid(3), "y": 1 }]), written(1))
        .add(find(doc! {}), first_batch(0, [doc! { "_id": oid(2), "x": 1 }, doc! { "_id": oid(3), "y": 1 }]))
        .add(count(), written(2));
    tape
}

#[test]
fn tests_that_refill_a_collection_run_in_either_order() {
    fn first(asker: &mut Asker) {
        asker.ask(drop_c());
        asker.ask(insert([doc! { "_id": oid(101), "x": 1 }]));
        assert_eq!(ids(&asker.ask(find(doc! {}))), [oid(101)]);
        assert_eq!(asker.ask(count()), written(1));
    }
    fn second(asker: &mut Asker) {
        asker.ask(drop_c());
        asker.ask(insert([doc! { "_id": oid(102), "x": 1 }]));
        asker.ask(insert([doc! { "_id": oid(103), "y": 1 }]));
        assert_eq!(ids(&asker.ask(find(doc! {}))), [oid(102), oid(103)]);
        assert_eq!(asker.ask(count()), written(2));
    }
    let tests: [fn(&mut Asker); 2] = [first, second];
    for order in [[0, 1], [1, 0]] {
        let live = emptying_tests().replay(once());
        let mut asker = live.connect();
        order.iter().for_each(|test| tests[*test](&mut asker));
        let report = live.report();
        assert_eq!((report.missed, report.unused_count, report.ambiguous_count), (0, 0, 0), "{report}");
    }
}

#[test]
fn what_was_taken_for_the_wrong_one_of_two_is_put_right() {
    let delete = |id: ObjectId| doc! { "delete": "c", "deletes": [{ "q": { "_id": id }, "limit": 1 }], "$db": "d" };
    let mut tape = Tape::default();
    tape.add(insert([doc! { "_id": oid(1), "x": 1 }]), written(1))
        .add(insert([doc! { "_id": oid(2), "x": 1 }]), written(1))
        .add(delete(oid(1)), written(1))
        .add(find(doc! {}), first_batch(0, [doc! { "_id": oid(2), "x": 1 }]))
        .add(delete(oid(2)), written(1));
    let live = tape.replay(once());
    let mut asker = live.connect();
    asker.ask(insert([doc! { "_id": oid(101), "x": 1 }]));
    asker.ask(insert([doc! { "_id": oid(102), "x": 1 }]));
    // Two that wrote the same at once came in the other order.
    asker.ask(delete(oid(102)));
    assert_eq!(ids(&asker.ask(find(doc! {}))), [oid(101)]);
    // Now it is known which is which.
    asker.miss(delete(oid(102)));
    assert_eq!(asker.ask(delete(oid(101))), written(1));
}

#[test]
fn recordings_that_begin_at_the_same_time_follow_each_other() {
    let mut tape = Tape::default();
    tape.add(count(), written(0)).add(insert([doc! { "_id": 1 }]), written(1)).add(count(), written(1));
    let at = tape.exchanges[0].at;
    tape.exchanges[2].at = at;
    tape.exchanges.iter_mut().zip(2..).for_each(|(exchange, line)| exchange.place = Place::Line(line));
    let live = tape.replay(Settings::default());
    let mut asker = live.connect();
    (0..3).for_each(|_| assert_eq!(asker.ask(count()), written(0)));
    asker.ask(insert([doc! { "_id": 1 }]));
    assert_eq!(asker.ask(count()), written(1));
}

#[test]
fn a_poll_sees_a_change_after_it_and_not_before() {
    let mut tape = Tape::default();
    tape.add(count(), written(0)).add(count(), written(0));
    tape.add(insert([doc! { "_id": 1 }]), written(1)).add(count(), written(1));
    let live = tape.replay(Settings::default());
    let (mut poller, mut writer) = (live.connect(), live.connect());
    for _ in 0..5 {
        assert_eq!(poller.ask(count()), written(0));
    }
    writer.ask(insert([doc! { "_id": 1 }]));
    assert_eq!(poller.ask(count()), written(1));
    assert_eq!(poller.ask(count()), written(1));
    // Asked less often than it was recorded.
    let live = tape.replay(Settings::default());
    live.connect().ask(insert([doc! { "_id": 1 }]));
    assert_eq!(live.connect().ask(count()), written(1));
}

#[test]
fn one_call_more_than_recorded_is_a_miss_if_asked_so() {
    let mut tape = Tape::default();
    tape.add(count(), written(1)).add(count(), written(2));
    let answers = |repeat| {
        let live = tape.replay(Settings { repeat, ..Settings::default() });
        let mut asker = live.connect();
        (0..5).map(|_| asker.ask(count()).get_i32("n").ok()).collect::<Vec<_>>()
    };
    assert_eq!(answers(Repeat::Last), [Some(1), Some(2), Some(2), Some(2), Some(2)]);
    assert_eq!(answers(Repeat::Loop), [Some(1), Some(2), Some(1), Some(2), Some(1)]);
    assert_eq!(answers(Repeat::Once), [Some(1), Some(2), None, None, None]);
    let live = tape.replay(once());
    let mut asker = live.connect();
    (0..2).for_each(|_| drop(asker.ask(count())));
    let message = asker.miss(count());
    assert!(message.contains("asked more often than it was recorded"), "{message}");
    assert!(live.report().is_failure(false));
    // One call less is told, and fails if strict.
    let live = tape.replay(once());
    live.connect().ask(count());
    let report = live.report();
    assert_eq!(report.unused_count, 1);
    assert!(report.to_string().contains(r#"never asked for: exchange 2: {"count":"c","$db":"d"}"#), "{report}");
    assert!(report.is_failure(true) && !report.is_failure(false));
}

#[test]
fn counters_count() {
    let next = || doc! { "findAndModify": "c", "query": { "_id": "n" }, "update": { "$inc": { "n": 1 } }, "$db": "d" };
    let value = |n: i32| doc! { "lastErrorObject": { "n": 1 }, "value": { "_id": "n", "n": n }, "ok": 1.0 };
    let mut tape = Tape::default();
    (1..=4).for_each(|n| {
        tape.add(next(), value(n));
    });
    let live = tape.replay(once());
    for n in 1..=4 {
        assert_eq!(live.connect().ask(next()), value(n));
    }
    assert_eq!(live.report().ambiguous_count, 0);
}

#[test]
fn identical_finds_at_the_same_time_have_batches_of_their_own() {
    let more = |id: i64| doc! { "getMore": id, "collection": "c", "$db": "d" };
    let mut tape = Tape::default();
    tape.add(find(doc! {}), first_batch(7, [doc! { "_id": oid(1) }]))
        .add(find(doc! {}), first_batch(9, [doc! { "_id": oid(1) }]))
        .add(more(9), next_batch(9, [doc! { "_id": oid(2) }]))
        .add(more(7), next_batch(7, [doc! { "_id": oid(2) }]))
        .add(more(7), next_batch(0, [doc! { "_id": oid(3) }]))
        .add(more(9), next_batch(0, [doc! { "_id": oid(3) }]));
    let live = tape.replay(once());
    let (mut one, mut two) = (live.connect(), live.connect());
    let (a, b) = (cursor(&one.ask(find(doc! {}))), cursor(&two.ask(find(doc! {}))));
    assert_ne!(a, b);
    assert_eq!(ids(&one.ask(more(a))), [oid(2)]);
    let last = one.ask(more(a));
    assert_eq!((ids(&last), cursor(&last)), (vec![oid(3)], 0));
    assert_eq!(ids(&two.ask(more(b))), [oid(2)]);
    let wrong = two.miss(doc! { "getMore": b, "collection": "c", "batchSize": 5, "$db": "d" });
    assert!(wrong.contains("batchSize is missing there and 5 here"), "{wrong}");
    assert_eq!(ids(&two.ask(more(b))), [oid(3)]);
    // A cursor that is at its end, and one that was killed.
    assert_eq!(one.ask(more(a)).get_i32("code").ok(), Some(43));
    let live = tape.replay(once());
    let mut one = live.connect();
    let id = cursor(&one.ask(find(doc! {})));
    one.ask(doc! { "killCursors": "c", "cursors": [id], "$db": "d" });
    assert_eq!(one.ask(more(id)).get_i32("code").ok(), Some(43));
}

#[test]
fn streamed_batches_come_as_they_are_wanted() {
    let more = |id: i64| doc! { "getMore": id, "collection": "c", "$db": "d" };
    let mut tape = Tape::default();
    tape.add(find(doc! {}), first_batch(7, [doc! { "_id": oid(1) }]));
    tape.add_all(more(7), &[next_batch(7, [doc! { "_id": oid(2) }]), next_batch(0, [doc! { "_id": oid(3) }])]);
    let live = tape.replay(Settings::default());
    let mut plain = live.connect();
    let id = cursor(&plain.ask(find(doc! {})));
    assert_eq!(ids(&plain.ask(more(id))), [oid(2)]);
    assert_eq!(ids(&plain.ask(more(id))), [oid(3)]);
    let mut exhaust = live.connect().with_flags(EXHAUST);
    let id = cursor(&exhaust.ask(find(doc! {})));
    let batches = exhaust.ask_all(&more(id));
    assert_eq!(batches.iter().flat_map(ids).collect::<Vec<_>>(), [oid(2), oid(3)]);
}

#[test]
fn writes_that_want_no_answer_are_done_all_the_same() {
    let mut tape = Tape::default();
    let silent = || doc! { "insert": "c", "documents": [{ "_id": 1 }], "writeConcern": { "w": 0 }, "$db": "d" };
    tape.add(count(), written(0)).add_all(silent(), &[]).add(count(), written(1));
    let live = tape.replay(Settings::default());
    assert_eq!(live.connect().ask(count()), written(0));
    assert_eq!(live.connect().with_flags(SILENT).ask_all(&silent()), []);
    assert_eq!(live.connect().ask(count()), written(1));
    assert_eq!(live.report().unused_count, 0);
}

fn session(n: u8, number: i64, command: Document) -> Document {
    let mut command = command;
    command.insert("lsid", doc! { "id": uuid(n) });
    command.insert("txnNumber", number);
    command
}

#[test]
fn a_write_that_is_sent_again_is_done_once() {
    let next = || doc! { "findAndModify": "c", "query": {}, "update": { "$inc": { "n": 1 } }, "$db": "d" };
    let value = |n: i32| doc! { "lastErrorObject": { "n": 1 }, "value": { "n": n }, "ok": 1.0 };
    let failed = || doc! { "ok": 0.0, "code": 91, "errorLabels": ["RetryableWriteError"] };
    let mut tape = Tape::default();
    tape.add(session(1, 1, next()), value(1)).add(session(1, 2, next()), value(2));
    tape.add(session(1, 3, next()), failed()).add(session(1, 3, next()), value(3));
    let live = tape.replay(once());
    let mut asker = live.connect();
    assert_eq!(asker.ask(session(50, 1, next())), value(1));
    // The network lost the answer.
    assert_eq!(live.connect().ask(session(50, 1, next())), value(1));
    assert_eq!(asker.ask(session(50, 2, next())), value(2));
    // The server failed, and then did not.
    assert_eq!(asker.ask(session(50, 3, next())), failed());
    assert_eq!(asker.ask(session(50, 3, next())), value(3));
    assert_eq!(live.report().matched, 4);
}

fn in_transaction(n: u8, number: i64, begins: bool, command: Document) -> Document {
    let mut command = session(n, number, command);
    if begins {
        command.insert("startTransaction", true);
    }
    command.insert("autocommit", false);
    command
}

fn end(name: &str) -> Document {
    doc! { name: 1, "$db": "admin" }
}

#[test]
fn a_transaction_is_aborted_and_repeated() {
    let ok = || doc! { "ok": 1.0 };
    let mut tape = Tape::default();
    for (number, id, last) in [(1, 1, "abortTransaction"), (2, 2, "commitTransaction")] {
        let of = |begins, command| in_transaction(9, number, begins, command);
        tape.add(of(true, insert([doc! { "_id": oid(id) }])), written(1))
            .add(of(false, count()), written(1))
            .add(of(false, end(last)), ok())
            .add(count(), written(i32::from(last == "commitTransaction")));
    }
    let live = tape.replay(once());
    let (mut asker, mut other) = (live.connect(), live.connect());
    for (number, last, after) in [(5, "abortTransaction", 0), (6, "commitTransaction", 1)] {
        let of = |begins, command| in_transaction(70, number, begins, command);
        asker.ask(of(true, insert([doc! { "_id": oid(100 + number as u8) }])));
        assert_eq!(asker.ask(of(false, count())), written(1));
        assert_eq!(asker.ask(of(false, end(last))), ok());
        assert_eq!(other.ask(count()), written(after));
    }
    let report = live.report();
    assert_eq!((report.missed, report.unused_count), (0, 0), "{report}");
    // A commit without the write is another transaction.
    let live = tape.replay(once());
    let mut asker = live.connect();
    asker.miss(in_transaction(70, 7, true, end("commitTransaction")));
}

#[test]
fn a_commit_that_is_sent_again_gets_the_same_answer() {
    let mut tape = Tape::default();
    let of = |n, begins, command| in_transaction(n, 1, begins, command);
    tape.add(of(9, true, insert([doc! { "_id": oid(1) }])), written(1));
    tape.add(of(9, false, end("commitTransaction")), doc! { "ok": 1.0, "here": 1 });
    let live = tape.replay(once());
    let mut asker = live.connect();
    asker.ask(of(70, true, insert([doc! { "_id": oid(101) }])));
    for _ in 0..2 {
        assert_eq!(asker.ask(of(70, false, end("commitTransaction"))), doc! { "ok": 1.0, "here": 1 });
    }
}

#[test]
fn dates_are_as_far_away_as_they_were() {
    const MINUTE: i64 = 60_000;
    let date = DateTime::from_millis;
    let mut tape = Tape::default();
    // Exchanges are ten milliseconds apart.
    tape.add(find(doc! { "at": { "$gt": date(RECORDED_MS - 7 * 1440 * MINUTE - 3) } }), first_batch(0, []))
        .add(insert([doc! { "_id": 1, "made": date(RECORDED_MS + 10 - 2) }]), written(1))
        .add(find(doc! { "_id": 1 }), first_batch(0, [doc! { "_id": 1, "made": date(RECORDED_MS + 10 - 2) }]))
        .add(find(doc! { "fixed": date(1_600_000_000_000) }), first_batch(0, []));
    let live = tape.replay(once());
    let mut asker = live.connect();
    asker.miss(find(doc! { "at": { "$gt": date(LIVE_MS - 6 * 1440 * MINUTE) } }));
    asker.miss(find(doc! { "at": { "$gt": date(LIVE_MS - 7 * 1440 * MINUTE - 6000) } }));
    asker.ask(find(doc! { "at": { "$gt": date(LIVE_MS - 7 * 1440 * MINUTE - 900) } }));
    asker.ask(insert([doc! { "_id": 1, "made": date(LIVE_MS - 1) }]));
    let found = asker.ask(find(doc! { "_id": 1 }));
    assert_eq!(found, first_batch(0, [doc! { "_id": 1, "made": date(LIVE_MS - 1) }]));
    asker.miss(find(doc! { "fixed": date(1_600_000_000_001) }));
    asker.ask(find(doc! { "fixed": date(1_600_000_000_000) }));

    for (seconds, taken, missed) in [(10, 9000, 11_000), (2, 900, 3000)] {
        let live = tape.replay(Settings { date_tolerance: std::time::Duration::from_secs(seconds), ..once() });
        let mut asker = live.connect();
        let since = |off: i64| find(doc! { "at": { "$gt": date(LIVE_MS - 7 * 1440 * MINUTE - off) } });
        asker.miss(since(missed));
        asker.ask(since(taken));
    }
}

#[test]
fn paths_say_what_may_differ() {
    let settings = Settings {
        bind: Paths::parse(&["documents.*.token", "documents.*.n"]).unwrap(),
        ignore: Paths::parse(&["comment", "documents.*.noise"]).unwrap(),
        exact: Paths::parse(&["documents.*._id"]).unwrap(),
        ..Settings::default()
    };
    let mut tape = Tape::default();
    let document = |id: u8, token: &str, n: i64| doc! { "_id": oid(id), "token": token, "n": n };
    let mut commented = insert([document(1, "recorded-token", 5)]);
    commented.insert("comment", "then");
    tape.add(commented, written(1))
        .add(find(doc! { "token": "recorded-token" }), first_batch(0, [document(1, "recorded-token", 5)]));
    let live = tape.replay(settings);
    let mut asker = live.connect();
    asker.miss(insert([document(101, "live", 7)]));
    let mut mine = document(1, "a live token", 7);
    mine.insert("noise", 3);
    asker.ask(insert([mine]));
    asker.miss(find(doc! { "token": "another token" }));
    let found = asker.ask(find(doc! { "token": "a live token" }));
    assert_eq!(found, first_batch(0, [document(1, "a live token", 5)]));
}

#[test]
fn drivers_compute_times_and_order_fields_as_they_like() {
    let mut tape = Tape::default();
    let asked = |time: i32| doc! { "find": "c", "filter": { "a": 1, "b": { "$gt": 1, "$lt": 5 } }, "maxTimeMS": time, "$db": "d" };
    tape.add(asked(1987), first_batch(0, []));
    tape.add(
        doc! { "find": "c", "filter": { "s": 1 }, "maxTimeMS": 500, "sort": { "a": 1, "b": 1 }, "$db": "d" },
        first_batch(0, []),
    );
    let live = tape.replay(Settings { explain: true, ..Settings::default() });
    let mut asker = live.connect();
    asker.ask(asked(1991));
    assert_eq!(asker.explanation().to_string(), "find d.c: exchange 1; computed maxTimeMS");
    asker.ask(doc! { "find": "c", "maxTimeMS": 1993, "filter": { "b": { "$lt": 5, "$gt": 1 }, "a": 1 }, "$db": "d" });
    assert_eq!(
        asker.explanation().to_string(),
        "find d.c: exchange 1; order filter; order filter.b; computed maxTimeMS"
    );
    let other = |time: i32, sort: Document| doc! { "find": "c", "filter": { "s": 1 }, "maxTimeMS": time, "sort": sort, "$db": "d" };
    asker.miss(other(1000, doc! { "a": 1, "b": 1 }));
    let message = asker.miss(other(500, doc! { "b": 1, "a": 1 }));
    assert!(message.contains("sort is {\"a\":1,\"b\":1} there and {\"b\":1,\"a\":1} here"), "{message}");
    asker.ask(other(500, doc! { "a": 1, "b": 1 }));
}

#[test]
fn a_change_stream_tells_what_was_done_and_then_waits() {
    let watch = || doc! { "aggregate": "c", "pipeline": [{ "$changeStream": {} }], "cursor": {}, "$db": "d" };
    let more = |id: i64| doc! { "getMore": id, "collection": "c", "maxTimeMS": 500, "$db": "d" };
    let event = |kind: &str, id: Bson| {
        doc! {
            "_id": { "_data": "82" }, "operationType": kind, "ns": { "db": "d", "coll": "c" }, "documentKey": { "_id": id },
        }
    };
    let update = || doc! { "update": "c", "updates": [{ "q": { "k": 1 }, "u": { "$set": { "a": 1 } } }], "$db": "d" };
    let mut tape = Tape::default();
    tape.add(watch(), first_batch(5, []))
        .add(more(5), next_batch(5, []))
        // It waited while these were written.
        .add(more(5), next_batch(5, [event("insert", oid(1).into())]))
        .add(insert([doc! { "_id": oid(1) }]), written(1))
        .add(more(5), next_batch(5, [event("update", oid(1).into())]))
        .add(update(), doc! { "n": 1, "nModified": 1, "ok": 1.0 })
        .add_all(more(5), &[]);
    let live = tape.replay(once());
    let (mut watcher, mut writer) = (live.connect(), live.connect());
    let id = cursor(&watcher.ask(watch()));
    assert_eq!(watcher.ask_all(&more(id)), [], "nothing was written yet");
    assert!(watcher.ticks.is_some());
    assert_eq!(watcher.tick(100), []);
    // Time is up.
    let empty = watcher.tick(400).remove(0);
    assert_eq!((cursor(&empty), ids(&empty)), (id, vec![]));
    assert_eq!(watcher.ask_all(&more(id)), []);
    writer.ask(insert([doc! { "_id": oid(101) }]));
    let told = watcher.tick(5).remove(0);
    assert!(told.to_string().contains(&oid(101).to_hex()) && cursor(&told) == id, "{told}");
    assert_eq!(watcher.ask_all(&more(id)), []);
    writer.ask(update());
    assert!(watcher.tick(5).remove(0).to_string().contains("update"));
    assert_eq!(watcher.ask_all(&more(id)), []);
    assert_eq!(ids(&watcher.tick(500).remove(0)), []);
    let report = live.report();
    assert_eq!((report.missed, report.unused_count), (0, 0), "{report}");
}

#[test]
fn two_answers_that_fit_are_called_ambiguous() {
    let mut tape = Tape::default();
    tape.add(count(), written(1)).add(count(), written(2)).add(count(), written(2));
    let live = tape.replay(Settings::default());
    let mut asker = live.connect();
    (0..3).for_each(|_| drop(asker.ask(count())));
    let report = live.report();
    assert_eq!(report.ambiguous_count, 1, "{report}");
    assert!(report.is_failure(true) && !report.is_failure(false));
    let explained = "1 ambiguous: two recorded answers fit the same question in the same state";
    let text = report.text(true);
    assert!(text.contains(explained) && text.contains("\nambiguous: exchange 1: {\"count\""), "{text}");
    assert!(!report.text(false).contains("ambiguous") && !report.to_string().contains("ambiguous"), "{report}");
}

#[test]
fn applications_are_told_apart_by_their_names() {
    let mut tape = Tape::default();
    for (name, n) in [("one", 1), ("two", 2)] {
        tape.add(insert([doc! { "_id": oid(n) }]), written(1)).add(count(), written(i32::from(n)));
        tape.exchanges.iter_mut().rev().take(2).for_each(|it| it.app_name = Some(name.into()));
    }
    let live = tape.replay(Settings { scope: Scope::AppName, ..once() });
    let mut askers = ["two", "one"].map(|name| {
        let mut asker = live.connect();
        asker.player.set_app_name(Some(name));
        asker
    });
    for (asker, n) in askers.iter_mut().zip([2, 1]) {
        asker.ask(insert([doc! { "_id": oid(100 + n) }]));
        assert_eq!(asker.ask(count()), written(i32::from(n)));
        asker.miss(count());
    }
    assert_eq!(live.report().unused_count, 0);
    // Nobody of that name recorded anything.
    let mut stranger = live.connect();
    stranger.player.set_app_name(Some("three"));
    stranger.miss(count());
}
