//! `mongotap play` against a real mongod: what is asked again of the same data is answered as it was, over connections
//! that depend on each other; other data is named; and nothing is written that was not allowed.

mod support;

use std::process::Stdio;
use std::time::Duration;

use bson::doc;
use rustix::process::{Pid, Signal, kill_process};

use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::play::play;
use support::replay::captured;
use support::wait_for;

/// Makes the data what it is before each run.
const SETUP: &str = r#"
import sys, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000, directConnection=True) as client:
    client.drop_database('play')
    client.play.stock.insert_many([{'_id': n, 'item': 'item %d' % n, 'left': 100 + n, 'group': n % 7} for n in range(200)])
    client.play.create_collection('orders')
    client.play.create_collection('log')
"#;

/// Four clients that hand work on to each other, so that what one sees depends on what another did; and all that a driver
/// can do: cursors, exhaust, unacknowledged writes, sessions, transactions, errors, upserts, a batch longer than a document.
const PROGRAM: &str = r#"
import sys, threading, time, pymongo
from pymongo.cursor import CursorType
from pymongo.write_concern import WriteConcern
uri = sys.argv[1]
clients = [pymongo.MongoClient(uri, serverSelectionTimeoutMS=20000, maxPoolSize=1) for _ in range(4)]
one, two, three, four = [client.play for client in clients]
for n in range(15):
    one.orders.insert_one({'_id': n, 'item': n % 5, 'count': 1})
    assert two.orders.find_one_and_update({'_id': n}, {'$inc': {'count': n}})['count'] == 1
    two.stock.update_one({'_id': n % 5}, {'$inc': {'left': -n}})
    assert three.orders.find_one({'_id': n})['count'] == n + 1
    total = list(four.orders.aggregate([{'$group': {'_id': None, 'sum': {'$sum': '$count'}}}]))
    assert total[0]['sum'] == sum(m + 1 for m in range(n + 1))
    if n % 3 == 0:
        three.orders.update_one({'_id': n}, {'$set': {'done': True}})
    time.sleep(0.02)
# Several at the same time, each with several batches.
def read(database):
    assert len(list(database.stock.find({}, batch_size=30).sort('_id', 1))) == 200
threads = [threading.Thread(target=read, args=(database,)) for database in (one, two, three, four)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(list(one.stock.find({}, cursor_type=CursorType.EXHAUST, batch_size=40))) == 200
two.log.with_options(write_concern=WriteConcern(w=0)).insert_one({'_id': 'unacknowledged'})
while two.log.find_one({'_id': 'unacknowledged'}) is None:
    time.sleep(0.01)
try:
    one.orders.insert_one({'_id': 3})
except pymongo.errors.DuplicateKeyError:
    pass
made = two.log.update_one({'text': 'made by the server'}, {'$set': {'n': 1}}, upsert=True).upserted_id
assert three.log.find_one({'_id': made})['n'] == 1
with clients[0].start_session() as session:
    with session.start_transaction():
        one.orders.insert_one({'_id': 100, 'count': 5}, session=session)
        assert one.orders.count_documents({'_id': 100}, session=session) == 1
    assert two.orders.find_one({'_id': 100})['count'] == 5
    session.start_transaction()
    one.orders.delete_one({'_id': 100}, session=session)
    session.abort_transaction()
assert four.orders.count_documents({}) == 16
four.log.insert_many([{'_id': n, 'text': 'x' * 1000000} for n in range(20)])
cursor = three.stock.find({}, batch_size=10)
next(cursor)
cursor.close()
[client.close() for client in clients]
"#;

fn python(script: &str, uri: &str) {
    support::play::python(script, &[uri]);
}

#[test]
fn the_same_data_gives_the_same_answers_and_other_data_is_named() {
    let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
    let directory = tempfile::tempdir().unwrap();
    python(SETUP, &mongod.uri());
    let capture = captured(&mongod.uri(), directory.path(), |uri| python(PROGRAM, uri));

    // Nothing is sent without leave.
    let refused = play(&capture, &mongod.uri(), &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("exchanges may write\nhint: --allow-writes"), "{}", refused.stderr);

    python(SETUP, &mongod.uri());
    let played = play(&capture, &mongod.uri(), &["--allow-writes"]);
    played.assert_same();
    assert!(played.stderr.contains(&format!("to {}: ", mongod.address())), "{}", played.stderr);
    assert!(played.stderr.contains("of which may write"), "{}", played.stderr);
    assert!(played.report["exchanges"].as_u64().unwrap() > 115, "{}", played.report);
    let insert = played.report["commands"].as_array().unwrap().iter().find(|it| it["command"] == "insert play.orders");
    assert!(insert.is_some_and(|it| it["recordedMicros"]["p50"].is_u64() && it["liveMicros"]["p50"].is_u64()));
    let mut client = mongod.client();
    let count = client.command(&doc! { "count": "orders", "$db": "play" });
    assert_eq!(count.get_i32("n").unwrap(), 16);

    python(SETUP, &mongod.uri());
    let fastest = play(&capture, &mongod.uri(), &["--allow-writes", "--speed", "max"]);
    fastest.assert_same();
    assert!(fastest.stdout.contains("pace: as fast as it went"), "{}", fastest.stdout);

    python(SETUP, &mongod.uri());
    let change =
        doc! { "update": "stock", "updates": [{ "q": { "_id": 150 }, "u": { "$set": { "left": 7 } } }], "$db": "play" };
    client.command(&change);
    let differs = play(&capture, &mongod.uri(), &["--allow-writes", "--speed", "10"]);
    assert_eq!(differs.code, Some(1), "{}", differs.stderr);
    // Four sorted reads in batches of thirty, and one exhaust.
    assert_eq!(differs.report["differ"], 5, "{}", differs.stdout);
    assert!(
        differs
            .stdout
            .contains("cursor.nextBatch.0.left: recorded {\"$numberInt\":\"250\"}, live {\"$numberInt\":\"7\"}"),
        "{}",
        differs.stdout
    );
    assert!(differs.stderr.contains("5 answers differ"), "{}", differs.stderr);
}

#[test]
fn users_are_authenticated() {
    let directory = tempfile::tempdir().unwrap();
    let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| {
        python(
            "import sys, pymongo\nwith pymongo.MongoClient(sys.argv[1]) as c: assert c.empty.nothing.find_one() is None",
            uri,
        );
    });
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let uri = |user: &str, more: &str| format!("mongodb://{user}@{}/{more}", mongod.address());
    let right = format!("{USER}:{}", PASSWORD.replace(' ', "%20"));
    for more in ["", "?authMechanism=SCRAM-SHA-1", "?authMechanism=SCRAM-SHA-256&authSource=admin&retryWrites=true"] {
        play(&capture, &uri(&right, more), &[]).assert_same();
    }
    let wrong = play(&capture, &uri("tester:wrong", ""), &[]);
    assert_eq!(wrong.code, Some(4), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("cannot authenticate: Authentication failed."), "{}", wrong.stderr);
    let without = play(&capture, &mongod.uri(), &[]);
    assert_eq!(without.code, Some(1), "{}", without.stderr);
    assert!(without.stdout.contains("codeName"), "{}", without.stdout);
    let x509 = play(&capture, &uri("tester", "?authMechanism=MONGODB-X509"), &[]);
    assert_eq!(x509.code, Some(2), "{}", x509.stderr);
}

#[test]
fn the_primary_is_found_and_tls_is_spoken() {
    let directory = tempfile::tempdir().unwrap();
    let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| {
        // A retryable write, as a set takes it and a standalone does not.
        python(
            "import sys, pymongo\nwith pymongo.MongoClient(sys.argv[1]) as c: c.found.c.update_one({'_id': 1}, {'$set': {'a': 1}})",
            uri,
        );
    });
    let set = Mongod::start(Options { replica_set: true, ..Options::default() });
    let down = support::mongod::free_port();
    let uri = format!("mongodb://127.0.0.1:{down},{}/app?replicaSet=rs&w=majority", set.address());
    let played = play(&capture, &uri, &["--allow-writes"]);
    played.assert_same();
    assert!(played.stderr.contains(&format!("to {}: ", set.address())), "{}", played.stderr);
    let other = tempfile::tempdir().unwrap();
    let of_set = captured(&set.uri(), other.path(), |uri| {
        python(
            "import sys, pymongo\nwith pymongo.MongoClient(sys.argv[1]) as c: c.found.d.insert_one({'_id': 1})",
            uri,
        );
    });
    play(&of_set, &Mongod::shared().uri(), &["--allow-writes"]).assert_same();

    let tls = Mongod::start(Options { tls: Some(support::mongod::Tls::CertificatesChecked), ..Options::default() });
    let ca = support::certificates::path("ca.pem");
    let uri = format!("mongodb://localhost:{}/?tls=true&tlsCAFile={}", tls.port(), ca.display());
    play(&capture, &uri, &["--allow-writes"]).assert_same();
    let plain = play(&capture, &tls.uri(), &["--allow-writes"]);
    assert_eq!(plain.code, Some(4), "{}", plain.stderr);
}

#[test]
fn the_pace_is_kept_until_ctrl_c_or_the_server_goes() {
    let mongod = Mongod::start(Options::default());
    let directory = tempfile::tempdir().unwrap();
    let script = "import sys, time, pymongo\nwith pymongo.MongoClient(sys.argv[1]) as c:\n  for n in range(8): c.a.b.find_one({'n': n}); time.sleep(0.5)";
    let capture = captured(&mongod.uri(), directory.path(), |uri| python(script, uri));
    // Seven pauses of 500 ms, and what else the machine does.
    for (speed, least, most) in [("1", 3500, 60_000), ("4", 875, 3500), ("max", 0, 3500)] {
        let played = play(&capture, &mongod.uri(), &["--speed", speed]);
        played.assert_same();
        let took = played.took().as_millis();
        assert!((least..most).contains(&took), "{speed}: {took} ms");
        assert!(played.report["lag"]["maxMicros"].as_u64().is_some_and(|lag| lag < 5_000_000) || speed == "max");
    }

    let mut command = support::proxy::command();
    command.arg("play").arg(&capture).args(["--to", &mongod.uri(), "--loop", "100"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut client = mongod.client();
    let asked = |client: &mut support::client::Client| {
        client
            .command(&doc! { "serverStatus": 1, "$db": "admin" })
            .get_document("opcounters")
            .unwrap()
            .get_i64("query")
            .unwrap()
    };
    let before = asked(&mut client);
    wait_for("play to be under way", Duration::from_secs(30), || (asked(&mut client) > before + 2).then_some(()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("stopped before the end"), "{said}");

    mongod.kill();
    let gone = play(&capture, &mongod.uri(), &[]);
    assert_eq!(gone.code, Some(4), "{}", gone.stderr);
    assert!(gone.stderr.contains(&mongod.address()) && gone.stderr.contains("hint: "), "{}", gone.stderr);
}
