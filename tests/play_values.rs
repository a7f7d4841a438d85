//! `mongotap play` and what only a server knows: dates and `_id`s that it makes, places in its change streams, what is on
//! its way at the same time on one connection; and each way of saying who one is.

mod support;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bson::doc;

use support::certificates;
use support::client::{Client, MORE_TO_COME};
use support::mongod::{Mongod, Options, Tls};
use support::play::{Played, python};
use support::replay::{Replay, captured, output};
use support::scripted::{Scripted, op_msg};

/// The data before each run.
const SETUP: &str = r#"
import sys, datetime, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000, directConnection=True) as client:
    client.drop_database('made')
    client.made.dates.insert_one({'_id': 'old', 'at': datetime.datetime(2020, 1, int(sys.argv[2]))})
    client.made.create_collection('events')
"#;

/// Dates that the client makes, and dates, timestamps and `_id`s that the server does, each asked for by its value too.
const DATES: &str = r#"
import sys, time, datetime, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    dates = client.made.dates
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)
    dates.insert_one({'_id': 1, 'at': now})
    assert dates.find_one({'at': now})['_id'] == 1
    for n in range(3):
        dates.update_one({'_id': 1}, {'$currentDate': {'updated': True, 'stamp': {'$type': 'timestamp'}}})
        seen = dates.find_one({'_id': 1})
        assert dates.update_one({'_id': 1, 'updated': seen['updated']}, {'$set': {'seen': n}}).modified_count == 1
        time.sleep(0.2)
    list(dates.aggregate([{'$match': {'_id': 1}}, {'$project': {'now': '$$NOW'}}]))
    client.made.command('insert', 'dates', documents=[{'text': 'without an id'}])
    made = dates.find_one({'text': 'without an id'})['_id']
    assert dates.find_one({'_id': made})['text'] == 'without an id'
    try:
        client.made.command('insert', 'dates', documents=[{'_id': made}])
    except pymongo.errors.DuplicateKeyError:
        pass
    assert [it['name'] for it in client.made.list_collections(filter={'name': 'events'})] == ['events']
    assert dates.find_one({'_id': 'old'})['at'].year == 2020
"#;

/// The same without asking for what the server has made: a fixture's queries know no date but the present one.
const PRESENT: &str = r#"
import sys, datetime, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    dates = client.made.dates
    for n in range(3):
        dates.insert_one({'_id': n, 'at': datetime.datetime.now(datetime.timezone.utc)})
        past = {'at': {'$lte': datetime.datetime.now(datetime.timezone.utc)}}
        assert dates.count_documents(past) == n + 2
    dates.update_one({'_id': 1}, {'$currentDate': {'updated': True, 'stamp': {'$type': 'timestamp'}}})
    assert len(list(dates.find({}).sort('at', 1))) == 4
    list(dates.aggregate([{'$match': {'_id': 1}}, {'$project': {'now': '$$NOW'}}]))
    made = dates.update_one({'text': 'no id'}, {'$set': {'n': 1}}, upsert=True).upserted_id
    assert dates.find_one({'_id': made})['n'] == 1
"#;

/// A change stream that is left and taken up again in each of the ways there are; what happened meanwhile is told.
const STREAMS: &str = r#"
import sys, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    events = client.made.events
    def told(count, **options):
        with events.watch(max_await_time_ms=1000, **options) as stream:
            return [next(stream) for _ in range(count)], stream.resume_token
    with events.watch(max_await_time_ms=1000) as stream:
        events.insert_many([{'_id': n} for n in range(3)])
        assert [next(stream)['documentKey']['_id'] for _ in range(3)] == [0, 1, 2]
        token = stream.resume_token
    events.insert_one({'_id': 3})
    time = client.admin.command('ping')['operationTime']
    events.insert_many([{'_id': 4}, {'_id': 5}])
    changes, after = told(3, resume_after=token)
    assert [change['documentKey']['_id'] for change in changes] == [3, 4, 5]
    assert [change['documentKey']['_id'] for change in told(2, start_after=changes[0]['_id'])[0]] == [4, 5]
    assert told(3, start_at_operation_time=time)[0][-1]['documentKey']['_id'] == 5
    events.delete_one({'_id': 0})
    assert told(1, resume_after=after)[0][0]['operationType'] == 'delete'
"#;

/// A recording of this alone goes on with what another run was told.
const RESUMED: &str = r#"
import sys, pymongo
direct = pymongo.MongoClient(sys.argv[2], serverSelectionTimeoutMS=20000)
with direct.made.events.watch() as stream:
    direct.made.events.insert_one({'_id': 'before'})
    token = next(stream)['_id']
direct.made.events.insert_one({'_id': 'behind'})
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    with client.made.events.watch(resume_after=token) as stream:
        assert next(stream)['documentKey']['_id'] == 'behind'
    assert client.made.events.find_one({'_id': 'behind'}) is not None
"#;

/// Plays it, writes included.
fn play(recording: &Path, to: &str, arguments: &[&str]) -> Played {
    support::play::play(recording, to, &[&["--allow-writes"], arguments].concat())
}

#[test]
fn dates_and_ids_that_the_server_makes_are_those_of_its_time() {
    let mongod = Mongod::start(Options::default());
    let directory = tempfile::tempdir().unwrap();
    python(SETUP, &[&mongod.uri(), "1"]);
    let capture = captured(&mongod.uri(), directory.path(), |uri| python(DATES, &[uri]));
    // Far enough from the recording that nothing is taken for the same by chance.
    std::thread::sleep(Duration::from_secs(5));
    for speed in ["1", "max"] {
        python(SETUP, &[&mongod.uri(), "1"]);
        play(&capture, &mongod.uri(), &["--speed", speed]).assert_same();
    }
    // One that was there before is what it is.
    python(SETUP, &[&mongod.uri(), "2"]);
    let other = play(&capture, &mongod.uri(), &["--speed", "max"]);
    assert_eq!((other.code, &other.report["differ"]), (Some(1), &1.into()), "{}", other.said());
    assert_eq!(other.report["differences"][0]["fields"][0]["path"], "cursor.firstBatch.0.at");
}

/// A fixture has a time of its own: what is made anew is of the present.
#[test]
fn a_fixture_is_played_in_the_present() {
    let mongod = Mongod::start(Options::default());
    let directory = tempfile::tempdir().unwrap();
    python(SETUP, &[&mongod.uri(), "1"]);
    let capture = captured(&mongod.uri(), directory.path(), |uri| python(PRESENT, &[uri]));
    let fixture = directory.path().join("made.jsonl");
    output(support::proxy::command().arg("convert").arg(&capture).arg(&fixture));
    for _ in 0..2 {
        python(SETUP, &[&mongod.uri(), "1"]);
        play(&fixture, &mongod.uri(), &[]).assert_same();
    }
    let now = bson::DateTime::now().timestamp_millis();
    let found = mongod.client().command(&doc! { "find": "dates", "filter": { "_id": 1 }, "$db": "made" });
    let document = found.get_document("cursor").unwrap().get_array("firstBatch").unwrap()[0].as_document().unwrap();
    let at = document.get_datetime("at").unwrap().timestamp_millis();
    assert!(now.abs_diff(at) < 60_000, "{document}");
}

#[test]
fn change_streams_go_on_where_the_live_server_says() {
    let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
    let directory = tempfile::tempdir().unwrap();
    python(SETUP, &[&mongod.uri(), "1"]);
    let capture = captured(&mongod.uri(), directory.path(), |uri| python(STREAMS, &[uri]));
    for speed in ["1", "max"] {
        python(SETUP, &[&mongod.uri(), "1"]);
        play(&capture, &mongod.uri(), &["--speed", speed]).assert_same();
    }
    python(SETUP, &[&mongod.uri(), "1"]);
    let before = tempfile::tempdir().unwrap();
    let resumed = captured(&mongod.uri(), before.path(), |uri| python(RESUMED, &[uri, &mongod.uri()]));
    let played = play(&resumed, &mongod.uri(), &[]);
    played.assert_same();
    assert!(played.report["leftOut"].as_u64().unwrap() >= 1, "{}", played.said());
    assert!(played.said().contains("is from before the recording began"), "{}", played.said());
}

/// A server that answers nothing before it was asked three times: only a client that does not wait gets an answer.
#[test]
fn what_was_pipelined_is_pipelined_again() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let scripted = Scripted::start(move |request| {
        let answer = |id: i32, n: i32| op_msg((1000 + id, id), 0, &doc! { "n": n, "ok": 1.0 });
        match request.name() {
            "find" => {
                let mut asked = seen.lock().unwrap();
                asked.push(request.id);
                if asked.len() % 3 > 0 {
                    return Vec::new();
                }
                let last = asked.len() - 3;
                asked[last..].iter().zip(1..).map(|(id, n)| answer(*id, n)).collect()
            }
            "insert" => Vec::new(),
            _ => vec![op_msg((1, request.id), 0, &doc! { "isWritablePrimary": true, "maxWireVersion": 17, "ok": 1.0 })],
        }
    });
    let uri = format!("mongodb://{}", scripted.address());
    let directory = tempfile::tempdir().unwrap();
    let capture = captured(&uri, directory.path(), |uri| {
        let mut client =
            Client::handshake(uri.trim_start_matches("mongodb://").split('/').next().unwrap(), "pipelined");
        for n in 0..3 {
            client.send(0, &doc! { "find": "c", "filter": { "n": n }, "$db": "d" }).unwrap();
            client.send(MORE_TO_COME, &doc! { "insert": "c", "documents": [{ "n": n }], "$db": "d" }).unwrap();
        }
        for n in 1..=3 {
            assert_eq!(client.receive().unwrap().body.get_i32("n").unwrap(), n);
        }
    });
    for speed in ["1", "max"] {
        let played = play(&capture, &uri, &["--speed", speed]);
        played.assert_same();
        assert_eq!(played.report["exchanges"], 6, "{}", played.said());
    }
    assert_eq!(asked.lock().unwrap().len(), 9);
}

#[test]
fn values_that_are_not_in_the_recording_are_told_before_they_are_written() {
    let mongod = Mongod::start(Options::default());
    let directory = tempfile::tempdir().unwrap();
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo.jsonl");
    let recording = directory.path().join("redacted.jsonl");
    for (flags, told) in [
        (
            vec!["--redact-fields", "orders.city"],
            "orders.city: masked in the recording: so they are sent, and written\n",
        ),
        (vec!["--redact"], "all values are masked in the recording: so they are sent, and written\n"),
    ] {
        output(support::proxy::command().args(["convert", "--force"]).args(flags).arg(demo).arg(&recording));
        // Its data is there already when it is played again.
        play(&recording, &mongod.uri(), &["--speed", "max"]);
        let played = play(&recording, &mongod.uri(), &["--speed", "max"]);
        assert_eq!(played.code, Some(1), "{}", played.said());
        assert!(played.stderr.contains(told), "{}", played.stderr);
        assert!(!played.stderr.contains("restore it"), "{}", played.stderr);
    }
}

#[test]
fn who_one_is_is_said_as_the_connection_string_wants() {
    let directory = tempfile::tempdir().unwrap();
    let find =
        "import sys, pymongo\nwith pymongo.MongoClient(sys.argv[1]) as c: assert c.empty.nothing.find_one() is None";
    let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| python(find, &[uri]));

    let tls = Mongod::start(Options { tls: Some(Tls::CertificatesChecked), ..Options::default() });
    let create =
        doc! { "createUser": certificates::CLIENT, "roles": [{ "role": "root", "db": "admin" }], "$db": "$external" };
    let created = tls.client().command(&create);
    assert!(support::client::is_ok(&created), "{created}");
    let uri = |file: &str| {
        let [ca, client] = ["ca.pem", file].map(certificates::in_uri);
        let options = format!("tls=true&tlsCAFile={ca}&tlsCertificateKeyFile={client}&authMechanism=MONGODB-X509");
        format!("mongodb://localhost:{}/?{options}", tls.port())
    };
    play(&capture, &uri("client.pem"), &[]).assert_same();
    let unknown = play(&capture, &uri("server.pem"), &[]);
    assert_eq!(unknown.code, Some(4), "{}", unknown.said());
    assert!(unknown.said().contains("cannot authenticate: "), "{}", unknown.said());

    let config = directory.path().join("proxy.toml");
    fs::write(&config, "[replay]\naccept = [\"plain\"]\nrepeat = \"loop\"\n").unwrap();
    let plain = Replay::start(&capture, &["--config", config.to_str().unwrap()]);
    play(&capture, &plain.uri_with("ann:p%20w@", "authMechanism=PLAIN"), &[]).assert_same();
    drop(plain);
    let refusing = Replay::start(&capture, &["--repeat", "loop"]);
    let refused = play(&capture, &refusing.uri_with("ann:pw@", "authMechanism=PLAIN"), &[]);
    assert_eq!(refused.code, Some(4), "{}", refused.said());

    for (uri, said) in [
        (
            "mongodb://u:p@h/?authMechanism=GSSAPI",
            "authMechanism=GSSAPI: not known here\nhint: SCRAM-SHA-256, SCRAM-SHA-1, PLAIN",
        ),
        ("mongodb://u@h/", "a user and a password are wanted"),
        ("mongodb://h/?authMechanism=MONGODB-X509", "without TLS\nhint: add tls=true"),
    ] {
        let played = play(&capture, uri, &[]);
        assert!(played.code == Some(2) && played.said().contains(said), "{uri}: {}", played.said());
    }
}
