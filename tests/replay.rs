//! `mongotap replay`: what was recorded before a real mongod is answered without it, to real drivers.

mod support;

use std::process::Command;

use support::manifest;
use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::replay::{Replay, captured, output};

/// Writes and reads, with values of its own each time, and prints what came back.
const PROGRAM: &str = r#"
import sys, uuid, datetime, bson, pymongo
uri, least = sys.argv[1], int(sys.argv[2])
with pymongo.MongoClient(uri, serverSelectionTimeoutMS=10000) as client:
    orders = client.shop.orders
    orders.drop()
    now = datetime.datetime.now(datetime.timezone.utc)
    made = orders.insert_many([{"_id": n, "n": n} for n in range(10)])
    found = list(orders.find({}, batch_size=3))
    print([it["n"] for it in found], [it["_id"] for it in found] == made.inserted_ids)
    print(orders.find_one({"_id": made.inserted_ids[4]})["n"], orders.count_documents({"n": {"$gt": least}}))
"#;

fn python(uri: &str, least: i32) -> String {
    output(Command::new(manifest::python()).args(["-c", PROGRAM, uri, &least.to_string()]))
}

#[test]
fn a_program_sees_the_same_without_a_server() {
    let directory = tempfile::tempdir().unwrap();
    let mut seen = String::new();
    let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| seen = python(uri, 3));
    let replay = Replay::start(&capture, &[]);
    assert_eq!(python(&replay.uri, 3), seen);
    assert_eq!(python(&replay.uri_with("", "compressors=zstd"), 3), seen);
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("0 missed"), "{}", stopped.stderr);
}

#[test]
fn who_was_given_can_authenticate() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let directory = tempfile::tempdir().unwrap();
    let user = format!("{USER}:{}@", PASSWORD.replace(' ', "%20"));
    let mut seen = String::new();
    let capture = captured(&mongod.uri(), directory.path(), |uri| {
        let uri = uri.replacen("mongodb://", &format!("mongodb://{user}"), 1);
        seen = python(&format!("{uri}&authSource=admin"), 3);
    });
    drop(mongod);
    let mut command = support::proxy::command();
    command.arg("replay").arg(&capture).args(["--listen", "127.0.0.1:0", "--user", "ann", "--password-env", "PW"]);
    let replay = Replay::spawn({
        command.env("PW", "another");
        command
    });
    for mechanism in ["SCRAM-SHA-1", "SCRAM-SHA-256"] {
        let options = format!("authMechanism={mechanism}&authSource=admin");
        assert_eq!(python(&replay.uri_with("ann:another@", &options), 3), seen, "{mechanism}");
        let mut wrong = Command::new(manifest::python());
        let refused = wrong.args(["-c", PROGRAM, &replay.uri_with("ann:wrong@", &options), "3"]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains("Authentication failed."), "{said}");
    }
    // Negotiated by the driver, within hello.
    assert_eq!(python(&replay.uri_with("ann:another@", "authSource=admin"), 3), seen);
    assert_eq!(replay.stop().code, Some(0));
}

/// Asks what was recorded and what was not, over several batches, and in a transaction.
const BEYOND: &str = r#"
import sys, pymongo
uri, known = sys.argv[1], sys.argv[2] == "known"
with pymongo.MongoClient(uri, serverSelectionTimeoutMS=10000) as client:
    numbers = client.beyond.numbers
    if known:
        numbers.drop()
        numbers.insert_many([{"_id": n} for n in range(10)])
    print([it["_id"] for it in numbers.find({"_id": {"$lt": 3}})])
    if not known:
        print([it["_id"] for it in numbers.find({}, batch_size=3)])
        next(numbers.find({"_id": {"$gt": 1}}, batch_size=2))
        with client.start_session() as session, session.start_transaction():
            numbers.insert_one({"_id": 100}, session=session)
            print(numbers.count_documents({"_id": 100}, session=session))
        print(numbers.count_documents({"_id": 100}))
"#;

#[test]
fn what_is_not_recorded_is_asked_of_the_upstream() {
    let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
    let upstream = format!("{}/?directConnection=true", mongod.uri());
    let directory = tempfile::tempdir().unwrap();
    let python = |uri: &str, what: &str| output(Command::new(manifest::python()).args(["-c", BEYOND, uri, what]));
    let capture = captured(&upstream, directory.path(), |uri| drop(python(uri, "known")));
    let replay = Replay::start(&capture, &["--on-miss", "forward", "--upstream", &upstream]);
    assert_eq!(python(&replay.uri, "known"), "[0, 1, 2]\n");
    assert_eq!(python(&replay.uri, "beyond"), "[0, 1, 2]\n[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]\n1\n1\n");
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("0 missed") && stopped.stderr.contains("forwarded"), "{}", stopped.stderr);

    drop(mongod);
    let replay = Replay::start(&capture, &["--on-miss", "forward", "--upstream", &upstream]);
    let mut program = Command::new(manifest::python());
    let failed = program.args(["-c", BEYOND, &replay.uri, "beyond"]).output().unwrap();
    let said = String::from_utf8_lossy(&failed.stderr);
    assert!(said.contains("no recorded answer to find") && said.contains("the upstream was asked"), "{said}");
    assert_eq!(replay.stop().code, Some(1));
    let mut record = support::proxy::command();
    record.arg("replay").arg(&capture).args(["--on-miss", "record"]);
    let refused = record.output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("into one fixture alone\nhint: "), "{said}");
}
