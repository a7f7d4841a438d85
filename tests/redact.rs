//! The user's own secrets, through the real binary before a real mongod: what PyMongo writes, asks, is answered and is
//! refused has them, and no log, capture, fixture or packet does; a recording without them still answers what was asked.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod nobodies;
#[path = "redact/planted.rs"]
mod planted;
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bson::{Document, doc};
use mongotap::capture::mtap::{Reader, Record};
use mongotap::config::Redact;
use mongotap::event::{Given, Input};
use mongotap::redact::fields::Mode;

use support::captured::compare;
use support::client::{Client, is_ok};
use support::manifest;
use support::mongod::Mongod;
use support::proxy::{Proxy, command};
use support::replay::Replay;

/// What must be seen nowhere, a text and a number.
const SECRETS: [&str; 3] = ["123-45-6789", "987-65-4321", "hunter2-is-it"];

const FIELDS: &str = "people.ssn,people.cards.number,*.password";

/// Asks for the secrets in every way; prints what it was answered, but for their values.
const PROGRAM: &str = r#"
import sys, pymongo
from pymongo import InsertOne, UpdateOne, DeleteOne
from pymongo.cursor import CursorType
from pymongo.errors import DuplicateKeyError, BulkWriteError, OperationFailure
from pymongo.write_concern import WriteConcern
uri, name = sys.argv[1:3]
real = len(sys.argv) == 3
ONE, TWO, WORD = '123-45-6789', '987-65-4321', 'hunter2-is-it'
def same(found, wanted):
    # A recording that was redacted has something else there.
    if real:
        assert found == wanted, (found, wanted)
with pymongo.MongoClient(uri, serverSelectionTimeoutMS=20000) as client:
    people, orders = client[name]['people'], client[name]['orders']
    people.create_index('ssn', unique=True, name='by_ssn')
    people.insert_one({'_id': 1, 'ssn': ONE, 'name': 'Ann', 'cards': [{'number': TWO, 'kind': 'visa'}]})
    people.insert_many([{'_id': n, 'ssn': f'{TWO}/{n}', 'password': {'old': WORD}} for n in range(2, 60)])
    orders.insert_one({'_id': 1, 'user': 1, 'password': WORD, 'ssn': 'no secret here'})
    for again in (lambda: people.insert_one({'_id': 70, 'ssn': ONE}),
                  lambda: people.update_one({'_id': 2}, {'$set': {'ssn': ONE}}),
                  lambda: people.find_one_and_update({'_id': 2}, {'$set': {'ssn': ONE}})):
        try:
            again()
            print('no error')
        except DuplicateKeyError as error:
            same(error.details.get('keyValue'), {'ssn': ONE})
            print('duplicate', error.code)
    try:
        people.bulk_write([InsertOne({'_id': 71, 'ssn': ONE}), UpdateOne({'ssn': ONE}, {'$set': {'n': 1}}), DeleteOne({'ssn': 'x'})], ordered=False)
    except BulkWriteError as error:
        print('bulk', error.details['nModified'], len(error.details['writeErrors']))
    found = people.find_one({'ssn': ONE})
    same(found.get('ssn'), ONE)
    print(found['_id'], found['name'], found['cards'][0]['kind'])
    print(sorted(it['_id'] for it in people.find({'$or': [{'ssn': {'$in': [ONE]}}, {'cards.number': {'$regex': '^987'}}]}, {'ssn': 1})))
    print(people.count_documents({'$expr': {'$eq': ['$ssn', ONE]}}))
    same(people.distinct('ssn', {'_id': 1}), [ONE])
    print(len(people.distinct('password.old')))
    print(people.update_one({'_id': 1}, {'$set': {'cards.$[c].number': ONE}}, array_filters=[{'c.number': TWO}]).modified_count)
    print(people.update_one({'ssn': ONE}, [{'$set': {'password': {'$concat': ['$ssn', WORD]}}}]).modified_count)
    rows = list(people.aggregate([{'$match': {'_id': 1}}, {'$project': {'tax': '$ssn', 'kind': '$cards.kind'}}]))
    same(rows[0].get('tax'), ONE)
    print(rows[0]['_id'], rows[0]['kind'])
    rows = list(people.aggregate([{'$project': {'tax': '$ssn'}}, {'$sort': {'_id': 1}}], batchSize=20))
    same(rows[0].get('tax'), ONE)
    print(len(rows))
    rows = list(orders.aggregate([{'$lookup': {'from': 'people', 'localField': 'user', 'foreignField': '_id', 'as': 'who'}}]))
    same(rows[0]['who'][0].get('ssn'), ONE)
    same(rows[0].get('password'), WORD)
    print(rows[0]['user'], len(rows[0]['who']))
    print(len(list(people.find({'password.old': WORD}, batch_size=20, cursor_type=CursorType.EXHAUST))))
    people.with_options(write_concern=WriteConcern(w=0)).insert_one({'_id': -1, 'ssn': TWO})
    print(people.find_one({'_id': 5}, {'_id': 1}))
    people.find({'ssn': ONE}).explain()
    try:
        list(people.aggregate([{'$project': {'n': {'$toInt': '$ssn'}}}]))
    except OperationFailure as error:
        print('failed', error.code)
    print(people.delete_many({'ssn': {'$gte': ONE}}).deleted_count)
    # What stands where no field is named.
    people.insert_many([{'_id': 'a', 'ssn': ONE, 'name': 'Ann'}, {'_id': 'b', 'ssn': WORD, 'name': 'Bob'}])
    people.create_index([('name', 'text'), ('ssn', 'text')])
    client[name].command('profile', 2)
    print(len(list(people.find({'$text': {'$search': WORD}}))))
    print(people.find_one({'ssn': ONE}, {'_id': 1}, comment=f'who is {ONE}?'))
    kept = [{'$sort': {'_id': 1}}, {'$addFields': {'k': {'$literal': ONE}}}, {'$match': {'$expr': {'$eq': ['$ssn', '$k']}}}]
    print([it['_id'] for it in people.aggregate(kept, batchSize=1)])
    for fails in [{'$dateTrunc': {'date': '$$NOW', 'unit': '$ssn'}}, {'$toDate': '$ssn'}, {'$convert': {'input': 1, 'to': '$ssn'}},
                  {'$function': {'body': 'function(it) { throw it }', 'args': ['$ssn'], 'lang': 'js'}}]:
        try:
            print(list(people.aggregate([{'$match': {'_id': 'b'}}, {'$project': {'n': fails}}])))
        except OperationFailure as error:
            print('failed', error.code)
    for filter in [{'$where': 'throw this.ssn'}, {'ssn': {'$type': WORD}}, {'ssn': {'$size': WORD}}]:
        try:
            print(list(people.find(filter)))
        except OperationFailure as error:
            print('failed', error.code)
    client[name].command('profile', 0)
    profiled = list(client[name]['system.profile'].find({}))
    assert not real or WORD in str(profiled)
    print(sorted({it['op'] for it in profiled}))
    strict = client[name].create_collection('strict', validator={'$jsonSchema': {'properties': {'password': {'enum': [WORD]}}}})
    try:
        strict.insert_one({'password': ONE})
    except pymongo.errors.WriteError as error:
        print('invalid', error.code)
    print([it['name'] for it in client[name].list_collections(filter={'name': 'strict'})])
    client.drop_database(name)
"#;

fn python(uri: &str, name: &str, more: &[&str]) -> Output {
    let mut python = Command::new(manifest::python());
    python.args(["-c", PROGRAM, uri, name]).args(more).stdin(Stdio::null()).output().unwrap()
}

/// What the program prints, which must end well.
fn printed(uri: &str, name: &str, more: &[&str]) -> String {
    let output = python(uri, name, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn assert_without(held: &[u8], what: &str) {
    for secret in SECRETS {
        let at = memchr::memmem::find(held, secret.as_bytes());
        let around = at.map(|at| String::from_utf8_lossy(&held[at.saturating_sub(300)..at + 20]).into_owned());
        assert!(around.is_none(), "{secret} is in the {what}: {around:?}");
    }
}

/// The messages of a capture, inflated as they are in it.
fn messages(capture: &Path) -> Vec<u8> {
    let mut reader = Reader::new(fs::File::open(capture).unwrap());
    let mut held = Vec::new();
    while let Some(records) = reader.next_block().unwrap() {
        for record in records {
            if let Record::Input(Input { given: Given::Message(message), .. }) = record {
                // What is kept compressed is read by `show`, below.
                held.extend_from_slice(&message.bytes);
            }
        }
    }
    held
}

/// A run of the program that is captured and logged with these flags; what the program printed.
fn recorded(directory: &Path, name: &str, options: &str, flags: &[&str]) -> (PathBuf, String) {
    let capture = directory.join("run.mtap");
    let path = capture.to_str().unwrap();
    let whole = ["--log-max-document-bytes", "0", "--log-phases", "app,auth", "--capture", path, "--force"];
    let proxy = Proxy::start(&Mongod::shared().uri(), &[&whole[..], flags].concat());
    let said = printed(&format!("mongodb://{}/?directConnection=true{options}", proxy.address), name, &[]);
    let stopped = proxy.stop();
    assert!(stopped.text.contains("by_ssn") && stopped.text.contains("no secret here"));
    if flags.contains(&"--redact-fields") {
        assert_without(stopped.text.as_bytes(), "log");
        assert_without(stopped.stderr.as_bytes(), "table");
        assert_without(&messages(&capture), "capture");
        // What took one document is not shown as taking all.
        let marked = stopped.text.contains(r#""q":{"$redacted":"[redacted]"}"#);
        assert_eq!(marked, flags.contains(&"drop"), "{}", stopped.text);
        // What is derived of the capture is what was seen live, so nothing that is compressed has them either.
        assert!(compare(&stopped.text, &capture) > 60);
    }
    (capture, said)
}

#[test]
fn the_users_secrets_are_in_no_log_and_no_capture() {
    let directory = tempfile::tempdir().unwrap();
    for mode in ["mask", "hash", "drop"] {
        for options in ["", "&compressors=zlib"] {
            let name = format!("redact_{mode}_{}", options.len());
            recorded(directory.path(), &name, options, &["--redact-fields", FIELDS, "--redact-mode", mode]);
        }
    }
}

/// What is to be done about paths that were met nowhere, at the end of what is said.
const MISSPELT: &str = "\nhint: a name that is misspelt hides nothing, and what was written holds it all in the clear: \
    mongotap convert FILE COPY --redact-fields NAME makes a copy that hides it\n";

#[test]
fn a_path_that_leads_nowhere_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let listed = "people.ssn, *.password, people.snn, poeple.ssn, people.cards.numbers";
    let fields = ["--redact-fields", &listed.replace(' ', "")];
    let proxy =
        Proxy::start(&Mongod::shared().uri(), &[&fields[..], &["--capture", capture.to_str().unwrap()]].concat());
    assert!(proxy.stderr().contains(&format!("redacting {listed} (mask)\n")), "{}", proxy.stderr());
    printed(&format!("mongodb://{}/?directConnection=true", proxy.address), "redact_nowhere", &[]);
    let unmet = "redact: met nowhere: people.snn, poeple.ssn, people.cards.numbers";
    let stderr = proxy.stop().stderr;
    assert!(stderr.strip_suffix(MISSPELT).is_some_and(|said| said.ends_with(unmet)), "{stderr}");

    let convert = |output: &Path| {
        let mut convert = command();
        convert.arg("convert").args([&capture, output]).args(["--redact-fields", "orders.ssn,orders.user,order.user"]);
        String::from_utf8(convert.output().unwrap().stderr).unwrap()
    };
    for output in ["run.jsonl", "other.mtap"] {
        let said = convert(&directory.path().join(output));
        assert!(said.contains("redacting orders.ssn, orders.user, order.user (mask)\n"), "{said}");
        let unmet = "mongotap: redact: met nowhere: order.user";
        assert!(said.strip_suffix(MISSPELT).is_some_and(|said| said.ends_with(unmet)), "{said}");
    }

    let fixture = directory.path().join("exec.jsonl");
    let program =
        "import os, pymongo; pymongo.MongoClient(os.environ['MONGODB_URI']).redact_nowhere.people.find_one({'ssn': 1})";
    let mut exec = command();
    exec.args(["exec", "--fixture"]).arg(&fixture).args(["--redact-fields", "people.ssn,people.snn", "--"]);
    exec.arg(manifest::python()).args(["-c", program]).env_remove("CI").env("MONGODB_URI", Mongod::shared().uri());
    let output = exec.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("mongotap: redacting people.ssn, people.snn (mask)\n"), "{said}");
    let unmet = "mongotap: redact: met nowhere: people.snn";
    assert!(output.status.success(), "{said}");
    assert!(said.strip_suffix(MISSPELT).is_some_and(|said| said.ends_with(unmet)), "{said}");
}

#[test]
fn a_mode_or_a_key_without_fields_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let fixture = [file("in.jsonl"), file("out.mtap"), file("none.jsonl")];
    fs::write(&fixture[0], "{\"mongotap\":\"fixture\",\"version\":1}\n").unwrap();
    for (flags, what) in [
        (["--redact-mode", "hash"], "mode is \"hash\""),
        (["--redact-mode", "drop"], "mode is \"drop\""),
        (["--redact-key", "env:HOME"], "a key is given"),
    ] {
        for command_line in [
            &["proxy", "--listen", "127.0.0.1:0", "--log", "-"][..],
            &["convert", &fixture[0], &fixture[1]],
            &["exec", "--fixture", &fixture[2]],
        ] {
            let end: &[&str] = if command_line[0] == "exec" { &["--", "true"] } else { &[] };
            let output = command().args(command_line).args(flags).args(end).env_remove("CI").output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            let expected = format!("redact: {what}, and no field is named: nothing would be taken out\nhint: ");
            assert!(said.contains(&expected), "{said}");
            assert_eq!(output.status.code(), Some(if command_line[0] == "exec" { 125 } else { 2 }), "{said}");
        }
    }
}

#[test]
fn a_recording_without_them_still_answers() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("key");
    fs::write(&key, "a long random text\n").unwrap();
    let key = format!("file:{}", key.display());
    for (mode, flags) in [("mask", &[][..]), ("drop", &[]), ("hash", &["--redact-key", &key])] {
        let name = format!("redact_replay_{mode}");
        let redact = [&["--redact-fields", FIELDS, "--redact-mode", mode][..], flags].concat();
        let (capture, said) = recorded(directory.path(), &name, "", &redact);
        let fixture = directory.path().join(format!("{mode}.jsonl"));
        let converted = command().arg("convert").args([&capture, &fixture]).output().unwrap();
        assert!(converted.status.success(), "{converted:?}");
        assert_without(&fs::read(&fixture).unwrap(), "fixture");
        for recording in [&capture, &fixture] {
            let replay = Replay::start(recording, flags);
            assert!(replay.said.contains("people.ssn"), "{}", replay.said);
            assert_eq!(printed(&replay.uri, &name, &["replayed"]), said, "{mode}");
            let stopped = replay.stop();
            assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
            assert!(stopped.stderr.contains(" 0 missed"), "{}", stopped.stderr);
        }
    }
}

#[test]
fn a_fixture_of_exec_has_none_and_gets_none() {
    let directory = tempfile::tempdir().unwrap();
    let fixture = directory.path().join("run.jsonl");
    let program = "import os, sys; sys.argv[1:1] = [os.environ['MONGODB_URI']]\n".to_owned() + PROGRAM;
    let run = |flags: &[&str], more: &[&str]| {
        let mut exec = command();
        exec.args(["exec", "--fixture"]).arg(&fixture).args(flags).args(["--redact-fields", FIELDS, "--"]);
        exec.arg(manifest::python()).args(["-c", &program, "redact_exec"]).args(more).env_remove("CI");
        exec.env("MONGODB_URI", Mongod::shared().uri()).stdin(Stdio::null()).output().unwrap()
    };
    let recorded = run(&[], &[]);
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    assert_without(&fs::read(&fixture).unwrap(), "fixture");
    let replayed = run(&["--mode", "none"], &["replayed"]);
    assert_eq!((replayed.status.code(), &replayed.stdout), (Some(0), &recorded.stdout), "{replayed:?}");
    // A part of it is asked anew, and recorded.
    let text = fs::read_to_string(&fixture).unwrap();
    let at = text.find("\n{\"request\":{\"count\"").or_else(|| text.find("\n{\"request\":{\"distinct\"")).unwrap();
    let end = at + 1 + text[at + 1..].find("\n{\"request\"").unwrap();
    fs::write(&fixture, [&text[..at], &text[end..]].concat()).unwrap();
    let added = run(&["--mode", "new"], &["replayed"]);
    assert!(added.status.success() && String::from_utf8_lossy(&added.stderr).contains("recorded 1 more"), "{added:?}");
    assert_without(&fs::read(&fixture).unwrap(), "fixture");
    // What it was recorded with is in it, whatever is named later.
    let more = "--redact-fields=people.name";
    for mode in ["new", "once", "none"] {
        let exec =
            command().args(["exec", "--mode", mode, "--fixture"]).arg(&fixture).args([more, "--", "true"]).output();
        let refused = exec.unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("people.name was not redacted when this was recorded\nhint: "), "{mode}: {said}");
        assert_eq!(refused.status.code(), Some(125), "{mode}");
    }
}

#[test]
fn hashes_that_nobody_could_make_again_are_not_made_to_be_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let [fixture, source, output] = ["run.jsonl", "in.jsonl", "out.jsonl"].map(|name| directory.path().join(name));
    fs::write(&source, "{\"mongotap\":\"fixture\",\"version\":1}\n").unwrap();
    let hash = ["--redact-fields", FIELDS, "--redact-mode", "hash"];
    let mut exec = command();
    exec.arg("exec").arg("--fixture").arg(&fixture).args(hash).args(["--", "true"]);
    exec.env_remove("CI").env("MONGODB_URI", Mongod::shared().uri());
    let mut convert = command();
    convert.arg("convert").args([&source, &output]).args(hash);
    for (mut command, code) in [(exec, 125), (convert, 2)] {
        let refused = command.output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.starts_with("mongotap: redact: mode is \"hash\", and no key is given: "), "{said}");
        assert!(said.contains("\nhint: --redact-key env:NAME") && refused.status.code() == Some(code), "{said}");
    }
    let redact = Redact { fields: vec!["people.ssn".parse().unwrap()], mode: Mode::Hash, key: None };
    let record = mongotap::Record::to_path(&fixture).upstream(&Mongod::shared().uri()).redact(redact);
    let refused = tokio::runtime::Runtime::new().unwrap().block_on(record.start()).err().unwrap();
    assert!(refused.to_string().contains("no key is given"), "{refused}");
    assert!(!fixture.exists() && !output.exists());
}

#[test]
fn hashes_want_their_key_and_a_miss_says_so_without_the_value() {
    let directory = tempfile::tempdir().unwrap();
    let name = "redact_key";
    let (capture, _) = recorded(directory.path(), name, "", &["--redact-fields", FIELDS, "--redact-mode", "hash"]);
    let replay = Replay::start(&capture, &[]);
    assert!(replay.said.contains("with a key that is not given"), "{}", replay.said);
    let output = python(&replay.uri, name, &["replayed"]);
    let stopped = replay.stop();
    assert!(!output.status.success());
    assert_eq!(stopped.code, Some(1));
    assert!(stopped.stderr.contains("this recording was redacted"), "{}", stopped.stderr);
    assert_without(stopped.stderr.as_bytes(), "report");
    assert_without(&output.stderr, "error");
    // What would be recorded besides could not be compared.
    fs::write(directory.path().join("key"), "another\n").unwrap();
    let key = format!("file:{}", directory.path().join("key").display());
    for (flags, which) in [(&[][..], "a key that is not given"), (&["--redact-key", &key], "another key than that of")]
    {
        let mut replay = command();
        replay.arg("replay").arg(&capture).args(["--listen", "127.0.0.1:0", "--on-miss", "record"]).args(flags);
        let refused = replay.output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(&format!("hashed in the recording with {which}")), "{said}");
        assert!(said.contains("\nhint: --redact-key env:NAME gives the key"), "{said}");
        assert_eq!(refused.status.code(), Some(2), "{said}");
    }
}

/// Nothing is known of what was asked of the cursor: not that the values have another name in it.
#[test]
fn the_rest_of_a_cursor_that_an_earlier_run_began_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let flags = ["--redact-fields", FIELDS, "--log-max-document-bytes", "0", "--capture", capture.to_str().unwrap()];
    let run = |ask: &dyn Fn(&mut Client) -> Document| {
        let proxy = Proxy::start(&Mongod::shared().uri(), &[&flags[..], &["--force"]].concat());
        let reply = ask(&mut Client::handshake(&proxy.address, "redact"));
        assert!(is_ok(&reply), "{reply}");
        let stopped = proxy.stop();
        assert_without(stopped.text.as_bytes(), "log");
        assert_without(&messages(&capture), "capture");
        (reply, stopped.text)
    };
    let people: Vec<_> = (0..5).map(|n| doc! { "_id": n, "ssn": SECRETS[0] }).collect();
    let pipeline = [doc! { "$project": { "tax": "$ssn" } }];
    let (opened, _) = run(&|client| {
        client.command(&doc! { "drop": "people", "$db": "redact_restart" });
        assert!(is_ok(&client.command(&doc! { "insert": "people", "documents": &people, "$db": "redact_restart" })));
        let cursor = doc! { "batchSize": 2 };
        client.command(
            &doc! { "aggregate": "people", "pipeline": &pipeline[..], "cursor": cursor, "$db": "redact_restart" },
        )
    });
    let id = opened.get_document("cursor").unwrap().get_i64("id").unwrap();
    let (rest, log) = run(&|client| {
        let comment = format!("more of {}", SECRETS[0]);
        client.command(&doc! { "getMore": id, "collection": "people", "comment": comment, "$db": "redact_restart" })
    });
    let batch = rest.get_document("cursor").unwrap().get_array("nextBatch").unwrap();
    assert_eq!(batch.len(), 3);
    assert!(
        batch[0].to_string().contains(SECRETS[0]) && log.contains(r#""nextBatch":[{"_id":0,"tax":"***"}"#),
        "{log}"
    );
}

#[test]
fn recordings_made_before_are_redacted_by_convert() {
    let directory = tempfile::tempdir().unwrap();
    let name = "redact_convert";
    for options in ["", "&compressors=zlib"] {
        let (capture, said) = recorded(directory.path(), name, options, &[]);
        let output = |file: &str| directory.path().join(file);
        let fixture = output("raw.jsonl");
        let convert = |from: &Path, to: &Path, flags: &[&str]| {
            let output = command().arg("convert").args([from, to]).arg("--force").args(flags).output().unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        convert(&capture, &fixture, &[]);
        assert!(fs::read_to_string(&fixture).unwrap().contains(SECRETS[0]));
        for (from, to) in [(&capture, "a.mtap"), (&capture, "b.jsonl"), (&fixture, "c.mtap"), (&fixture, "d.jsonl")] {
            let to = output(to);
            convert(from, &to, &["--redact-fields", FIELDS]);
            let plain = output("plain.jsonl");
            convert(&to, &plain, &[]);
            let text = fs::read(&plain).unwrap();
            assert_without(&text, "fixture");
            assert!(memchr::memmem::find(&text, b"no secret here").is_some());
            assert_without(&messages_of(&to), "file");
            let replay = Replay::start(&to, &[]);
            assert_eq!(printed(&replay.uri, name, &["replayed"]), said, "{}", to.display());
            let stopped = replay.stop();
            assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
        }
        // Both: the one does not hide the other.
        for (from, to) in [(&capture, "f.mtap"), (&fixture, "g.jsonl")] {
            convert(from, &output(to), &["--redact", "--redact-fields", FIELDS]);
            let plain = output("plain.jsonl");
            convert(&output(to), &plain, &[]);
            let text = fs::read(&plain).unwrap();
            assert_without(&text, "fixture");
            assert!(memchr::memmem::find(&text, b"no secret here").is_none(), "{to}");
        }
        let packets = output("e.pcapng");
        convert(&capture, &packets, &["--redact-fields", FIELDS]);
        assert_without(&fs::read(&packets).unwrap(), "packets");
    }
}

/// What is in a file, its messages if it is a capture.
fn messages_of(file: &Path) -> Vec<u8> {
    if file.extension().is_some_and(|it| it == "mtap") { messages(file) } else { fs::read(file).unwrap() }
}
