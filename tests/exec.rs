//! `mongotap exec`: a command finds a recording where it expects its server, and makes it when it is missing.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::manifest;
use support::mongod::{Mongod, Options, PASSWORD, SET_NAME, USER};
use support::wait_for;

/// An application of which the arguments say what it asks.
const PROGRAM: &str = r#"
import os, sys, pymongo
paid, discount, calls, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10000) as client:
    orders = client.get_default_database("shop").orders
    if "missing" not in steps:
        orders.drop()
    orders.insert_many([{"_id": n, "status": "paid" if n % 2 else "open", "total": n} for n in range(6)])
    orders.update_many({"status": "paid"}, {"$inc": {"total": discount}})
    for _ in range(calls):
        try:
            print(orders.database.name, [it["total"] for it in orders.find({"status": paid})])
        except pymongo.errors.OperationFailure:
            if "calm" not in steps:
                raise
    sys.exit(3 if "fail" in steps else 0)
"#;

/// A directory and a database of a test's own.
struct Place {
    directory: tempfile::TempDir,
    database: &'static str,
}

impl Place {
    fn new(database: &'static str) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), database }
    }

    /// The database at a real server.
    fn there(&self) -> String {
        format!("{}/{}", Mongod::shared().uri(), self.database)
    }

    /// The same where no server is.
    fn nowhere(&self) -> String {
        format!("mongodb://127.0.0.1:1/{}", self.database)
    }

    fn fixture(&self) -> PathBuf {
        self.directory.path().join("fixtures/orders.jsonl")
    }

    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory.path().join("fixtures")) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn exec(&self, uri: &str, options: &[&str]) -> Command {
        let mut exec = support::proxy::command();
        exec.arg("exec").arg("--fixture").arg(self.fixture()).args(options).arg("--");
        exec.env("MONGODB_URI", uri).env_remove("CI").stdin(Stdio::null());
        exec
    }

    fn run(&self, uri: &str, options: &[&str], arguments: &[&str]) -> Ran {
        Ran::of(self.exec(uri, options).arg(manifest::python()).args(["-c", PROGRAM]).args(arguments))
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Ran {
    fn of(command: &mut Command) -> Self {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    #[track_caller]
    fn is(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {}", self.stderr);
        }
        self
    }
}

#[test]
fn a_missing_fixture_is_recorded_and_then_no_server_is_needed() {
    let place = Place::new("missing");
    let asked = ["paid", "10", "2"];
    let recorded = place.run(&place.there(), &[], &asked).is(0, &["recorded 5 exchanges", "orders.jsonl"]);
    assert_eq!(recorded.stdout, "missing [11, 13, 15]\n".repeat(2));
    assert_eq!(place.files(), ["orders.jsonl"]);
    let fixture = fs::read_to_string(place.fixture()).unwrap();
    let made_with =
        format!("\"recordedWith\":\"mongotap exec -- {}\"", manifest::python().file_name().unwrap().display());
    assert!(fixture.lines().next().unwrap().contains(&made_with), "it says how it was made: {fixture}");
    for _ in 0..2 {
        let mut ci = place.exec(&place.nowhere(), &[]);
        let replayed = Ran::of(ci.env("CI", "true").arg(manifest::python()).args(["-c", PROGRAM]).args(asked));
        assert_eq!(replayed.is(0, &["answered 5 commands"]).stdout, recorded.stdout);
    }
    assert_eq!(fs::read_to_string(place.fixture()).unwrap(), fixture);
    let fewer = ["recorded 4 exchanges", "orders.jsonl (it held 5): "];
    let again = place.run(&place.there(), &["--mode", "all"], &["open", "10", "1"]).is(0, &fewer);
    assert_eq!(again.stdout, "missing [0, 2, 4]\n");
    assert_ne!(fs::read_to_string(place.fixture()).unwrap(), fixture);
}

/// One filter value, one update operator's, one missing call, one extra call.
#[test]
fn what_is_asked_otherwise_ends_in_1_and_is_named() {
    let place = Place::new("otherwise");
    place.run(&place.there(), &[], &["paid", "10", "2"]).is(0, &[]);
    place
        .run(&place.nowhere(), &[], &["open", "10", "2", "calm"])
        .is(1, &["2 missed", "filter.status", "\"paid\"", "\"open\"", "line "]);
    place.run(&place.nowhere(), &[], &["paid", "11", "2"]).is(1, &["missed", "$inc.total", "10", "11"]);
    place.run(&place.nowhere(), &[], &["paid", "10", "3", "calm"]).is(1, &["1 missed", "find"]);
    // The last of five: the header, drop, insert and its six documents, update, find; each with its reply.
    let lines = fs::read_to_string(place.fixture()).unwrap().lines().count();
    let delete = format!("is to be deleted: lines {} to {lines} (questions with their replies)", lines - 4);
    let told = ["1 never asked for", "never asked for: line ", "find", "--strict=false", &delete];
    let part = place.run(&place.nowhere(), &[], &["paid", "10", "1"]).is(1, &told);
    assert!(!part.stderr.contains("ambiguous"), "{part:?}");
    place.run(&place.nowhere(), &[], &["paid", "10", "2", "missing"]).is(1, &["1 never asked for", "\"drop\""]);
    let part = place.run(&place.nowhere(), &["--strict=false"], &["paid", "10", "1"]);
    assert!(!part.is(0, &["1 recorded question not asked"]).stderr.contains("never asked for"));
    let silent = ["0 matched", "5 never asked for", "is MONGODB_URI what the command reads?"];
    Ran::of(place.exec(&place.nowhere(), &[]).arg("true")).is(1, &silent);
    let silent = ["answered 0 commands", "hint: is MONGODB_URI what the command reads?"];
    Ran::of(place.exec(&place.nowhere(), &["--strict=false"]).arg("true")).is(0, &silent);
    let named = ["hint: is DATABASE_URL what the command reads?"];
    Ran::of(place.exec(&place.nowhere(), &["--env", "DATABASE_URL"]).arg("true")).is(1, &named);
    place.run(&place.nowhere(), &["--repeat", "last"], &["paid", "10", "3"]).is(0, &[]);
    let report = place.directory.path().join("report.json");
    place.run(&place.nowhere(), &["--report", report.to_str().unwrap()], &["open", "10", "1"]).is(1, &[]);
    let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!((&report["missed"], report["misses"].as_array().unwrap().len()), (&Value::from(1), 1));
}

#[test]
fn nothing_is_recorded_where_it_should_not_be() {
    let place = Place::new("nothing");
    let asked = ["paid", "10", "1"];
    let mut ci = place.exec(&place.there(), &[]);
    let ran = Ran::of(ci.env("CI", "1").args(["echo", "ran"])).is(125, &["not there, and CI is set", "hint: "]);
    assert_eq!(ran.stdout, "", "the command is not run");
    for no in ["", "0", "false"] {
        let mut not_ci = place.exec(&place.there(), &[]);
        Ran::of(not_ci.env("CI", no).arg("true")).is(125, &["nothing was asked"]);
    }
    place.run(&place.there(), &["--mode", "none"], &asked).is(125, &["--mode none", "hint: "]);
    place
        .run(&place.there(), &[], &["paid", "10", "1", "fail"])
        .is(3, &["not written: the command failed (exit code 3)"]);
    Ran::of(place.exec(&place.there(), &[]).arg("true")).is(125, &["nothing was asked", "hint: "]);
    assert_eq!(place.files(), Vec::<String>::new());
    assert!(!place.directory.path().join("fixtures").exists(), "a directory that was made for nothing is gone");
    fs::create_dir(place.directory.path().join("fixtures")).unwrap();
    fs::write(place.fixture().with_file_name("order.jsonl"), "").unwrap();
    place.run(&place.there(), &["--mode", "none"], &asked).is(125, &["hint: did you mean ", "fixtures/order.jsonl?"]);
}

#[test]
fn codes_are_those_of_the_command_or_say_whose_fault_it_is() {
    let place = Place::new("codes");
    let asked = ["paid", "10", "1"];
    place.run(&place.there(), &[], &asked).is(0, &[]);
    place.run(&place.nowhere(), &[], &["paid", "10", "1", "fail"]).is(3, &[]);
    place.run(&place.nowhere(), &[], &["open", "10", "1", "calm", "fail"]).is(3, &["1 missed"]);
    Ran::of(place.exec(&place.nowhere(), &[]).arg("no-such-command-anywhere"))
        .is(127, &["no-such-command-anywhere: command not found"]);
    Ran::of(place.exec(&place.nowhere(), &[]).arg("/etc/passwd")).is(126, &["/etc/passwd: permission denied"]);
    Ran::of(place.exec("localhost", &[]).arg("true")).is(125, &["MONGODB_URI: does not begin with mongodb://"]);
    Ran::of(place.exec(&place.nowhere(), &[]).args(["sh", "-c", "kill -9 $$"])).is(137, &[]);
    let fixture = fs::read_to_string(place.fixture()).unwrap();
    fs::write(place.fixture(), "listen = 5\n").unwrap();
    let anew = "hint: mongotap exec --mode all records it anew";
    place.run(&place.nowhere(), &[], &asked).is(125, &["orders.jsonl: neither a capture nor a fixture", anew]);
    let conflict = "line 2: the marker of a merge that is not resolved";
    fs::write(place.fixture(), fixture.replacen('\n', "\n<<<<<<< HEAD\n", 1)).unwrap();
    place.run(&place.nowhere(), &[], &asked).is(125, &[conflict, anew]);
    fs::write(place.fixture(), format!("\u{feff}{fixture}")).unwrap();
    let mark = ["orders.jsonl: begins with a byte order mark", "hint: save it as UTF-8 without"];
    place.run(&place.nowhere(), &[], &asked).is(125, &mark);
}

/// The application's own connection string stays what it is, but for where it leads.
#[test]
fn the_connection_string_keeps_database_options_and_user() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let user = format!("{USER}:{}@", PASSWORD.replace(' ', "%20"));
    let with_user = |uri: String| uri.replacen("mongodb://", &format!("mongodb://{user}"), 1);
    let place = Place::new("own");
    let asked = ["paid", "10", "1"];
    let uri = with_user(format!("{}/own?authSource=admin&appName=exec", mongod.uri()));
    let recorded = place.run(&uri, &[], &asked).is(0, &["recorded 4 exchanges"]);
    assert_eq!(recorded.stdout, "own [11, 13, 15]\n");
    let text = fs::read_to_string(place.fixture()).unwrap();
    assert!(!text.contains(PASSWORD) && !text.contains("sasl"), "{text}");
    drop(mongod);
    assert_eq!(place.run(&uri, &[], &asked).is(0, &[]).stdout, recorded.stdout);
    let mut shown = place.exec(&uri, &["--env", "DATABASE_URL"]);
    let shown = Ran::of(shown.env("DATABASE_URL", &uri).args(["sh", "-c", "echo $DATABASE_URL; echo $MONGODB_URI"]));
    let mut lines = shown.stdout.lines();
    let replaced = lines.next().unwrap();
    assert!(replaced.starts_with(&format!("mongodb://{user}127.0.0.1:")), "{replaced}");
    assert!(replaced.ends_with("/own?directConnection=true&authSource=admin&appName=exec"), "{replaced}");
    assert_eq!(lines.next(), Some(uri.as_str()), "the other variable is left alone");
}

/// What is recorded besides passes the same door as what is recorded first.
#[test]
fn no_password_comes_into_a_fixture_with_what_is_recorded_besides() {
    const USERS: &str = r#"
import os, sys, pymongo
with pymongo.MongoClient(os.environ["MONGODB_URI"], serverSelectionTimeoutMS=10000) as client:
    database = client.get_default_database()
    print(database.orders.find_one({}))
    if len(sys.argv) > 1:
        database.command("createUser", "ann", pwd="correct horse", roles=["read"])
        database.command("updateUser", "ann", pwd="battery staple")
        print(database.command("usersInfo", "ann")["users"][0]["roles"])
"#;
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let user = format!("mongodb://{USER}:{}@", PASSWORD.replace(' ', "%20"));
    let uri = format!("{}/users?authSource=admin", mongod.uri()).replacen("mongodb://", &user, 1);
    let place = Place::new("users");
    let run = |options: &[&str], more: &[&str]| {
        Ran::of(place.exec(&uri, options).arg(manifest::python()).args(["-c", USERS]).args(more))
    };
    run(&[], &[]).is(0, &["recorded 1 exchange in"]);
    let grown = run(&["--mode", "new"], &["users"]).is(0, &["recorded 3 more exchanges"]);
    let text = fs::read_to_string(place.fixture()).unwrap();
    assert!(text.contains(r#"{"createUser":"ann","pwd":"[redacted]","roles":["read"]"#), "{text}");
    for secret in ["correct horse", "battery staple", PASSWORD, "sasl"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    drop(mongod);
    assert_eq!(run(&[], &["users"]).is(0, &["answered 4 commands"]).stdout, grown.stdout);
}

#[test]
fn signals_are_the_commands() {
    let place = Place::new("signals");
    place.run(&place.there(), &[], &["paid", "10", "1"]).is(0, &[]);
    const TRAP: &str = "trap 'exit 42' TERM; trap 'echo hup' HUP; echo ready; while :; do sleep 0.05; done";
    let mut exec = place.exec(&place.nowhere(), &[]);
    let mut child = exec.args(["sh", "-c", TRAP]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "hup");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = wait_for("exec to end", Duration::from_secs(30), || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(42));
}

/// A terminal sends what is typed to the command as well.
#[test]
fn what_is_typed_reaches_the_command_once() {
    const TERMINAL: &str = r#"
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
seen, typed = b"", False
while True:
    try:
        read = os.read(terminal, 4096)
    except OSError:
        break
    if not read:
        break
    seen += read
    if b"ready" in seen and not typed:
        typed = True
        os.write(terminal, b"\x03")
os.waitpid(pid, 0)
print(seen.decode())
"#;
    const COUNTING: &str = r#"
import signal, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append(1))
print("ready", flush=True)
until = time.monotonic() + 10
while not got and time.monotonic() < until:
    time.sleep(0.05)
end = time.monotonic() + 0.5
while time.monotonic() < end:
    time.sleep(0.05)
print("got", len(got), flush=True)
"#;
    let place = Place::new("typed");
    place.run(&place.there(), &[], &["paid", "10", "1"]).is(0, &[]);
    let exec = place.exec(&place.nowhere(), &["--strict=false"]);
    let mut terminal = Command::new(manifest::python());
    terminal.args(["-c", TERMINAL]).arg(exec.get_program()).args(exec.get_args());
    terminal.arg(manifest::python()).args(["-c", COUNTING]).env_remove("CI").stdin(Stdio::null());
    let ran = Ran::of(&mut terminal);
    assert!(ran.stdout.contains("got 1"), "{ran:?}");
}

#[test]
fn what_is_missing_is_recorded_besides() {
    let place = Place::new("besides");
    place.run(&place.there(), &[], &["paid", "10", "1"]).is(0, &["recorded 4 exchanges"]);
    let before = fs::read_to_string(place.fixture()).unwrap();
    let new = ["--mode", "new"];
    let asked = ["open", "10", "1", "missing"];
    // Nothing is missing, so no server is needed.
    place.run(&place.nowhere(), &new, &["paid", "10", "1"]).is(0, &["answered 4 commands"]);
    assert_eq!(fs::read_to_string(place.fixture()).unwrap(), before);
    place.run(&place.there(), &new, &["open", "10", "1", "fail"]).is(3, &["answered 3 commands"]);
    assert_eq!(fs::read_to_string(place.fixture()).unwrap(), before, "the command failed");
    assert_eq!(place.files(), ["orders.jsonl"]);
    // What the recording began with is not what is there.
    let departs = [
        "the upstream departs from the recording at line 4: n is 6 there and 0 here",
        "hint: it is to be as it was",
        "orders.jsonl: nothing was added",
    ];
    place.run(&place.there(), &new, &asked).is(1, &departs);
    assert_eq!(fs::read_to_string(place.fixture()).unwrap(), before, "an answer that cannot be trusted is not kept");
    Mongod::shared().client().command(&bson::doc! { "dropDatabase": 1, "$db": "besides" });
    // What is left over is told, and fails the next run.
    let told = ["2 recorded questions not asked", "recorded 1 more exchange in", "is to be deleted: lines "];
    let ran = place.run(&place.there(), &new, &asked).is(0, &told);
    place.run(&place.nowhere(), &new, &asked).is(1, &["2 never asked for", "is to be deleted: lines "]);
    assert_eq!(ran.stdout, "besides [0, 2, 4]\n");
    let after = fs::read_to_string(place.fixture()).unwrap();
    assert!(after.starts_with(&before), "what was there is as it was");
    assert_eq!(place.files(), ["orders.jsonl"]);
    let none = ["--mode", "none", "--strict=false"];
    assert_eq!(place.run(&place.nowhere(), &none, &asked).is(0, &[]).stdout, ran.stdout);
}

/// An application that grows: each step may be left out.
const GROWING: &str = r#"
import os, sys, bson, pymongo
steps = sys.argv[1:]
uri = os.environ["MONGODB_URI"]
with pymongo.MongoClient(uri, serverSelectionTimeoutMS=10000) as one, pymongo.MongoClient(uri) as two:
    orders, others = one.get_default_database().orders, two.get_default_database().orders
    orders.drop()
    made = orders.insert_one({"item": "tea", "n": 1}).inserted_id
    others.update_one({"_id": made}, {"$inc": {"n": 1}})
    upserted = orders.update_one({"item": "milk"}, {"$set": {"n": 5}}, upsert=True).upserted_id
    others.insert_one({"item": "sugar", "_id": "s"})
    if "transaction" in steps:
        with one.start_session() as session:
            with session.start_transaction():
                orders.find_one({"item": "tea"}, session=session)
                orders.insert_one({"item": "in", "_id": "in"}, session=session)
                orders.update_one({"_id": "in"}, {"$set": {"n": 7}}, session=session)
                if "within" in steps:
                    orders.insert_one({"_id": "within"}, session=session)
            with session.start_transaction():
                orders.insert_one({"item": "out", "_id": "out"}, session=session)
                session.abort_transaction()
    one.get_default_database().prices.insert_one({"item": "tea", "price": 2})
    print(orders.find_one({"_id": made})["n"])
    if "new" in steps:
        print(sorted(it["item"] for it in orders.find({})))
        print(others.find_one({"_id": made, "item": "tea"})["n"], orders.find_one({"_id": upserted})["item"])
    if "write" in steps:
        others.insert_one({"item": "salt", "of": upserted})
        print(orders.find_one({"_id": made})["n"], orders.count_documents({}), orders.count_documents({"of": upserted}))
    orders.delete_one({"_id": "s"})
    print(orders.find_one({"_id": "s"}))
    print(two.get_default_database().prices.find_one({"price": 2})["item"])
"#;

impl Place {
    fn grow(&self, uri: &str, options: &[&str], steps: &[&str]) -> Ran {
        Ran::of(self.exec(uri, options).arg(manifest::python()).args(["-c", GROWING]).args(steps))
    }
}

/// The server that is asked has seen none of what the recording answered; it sees it before it is asked.
#[test]
fn what_is_asked_besides_sees_what_the_recording_answered() {
    let set = Mongod::start(Options { replica_set: true, ..Options::default() });
    let set = format!("{}/growing?directConnection=true", set.uri());
    let alone = format!("{}/growing", Mongod::shared().uri());
    for (uri, steps) in [(&alone, &[][..]), (&set, &["transaction"])] {
        let place = Place::new("growing");
        let direct = |more: &[&str]| {
            let mut program = Command::new(manifest::python());
            Ran::of(program.args(["-c", GROWING]).args(steps).args(more).env("MONGODB_URI", uri)).is(0, &[]).stdout
        };
        let drop_all = || {
            let mut program = Command::new(manifest::python());
            let drop = "import sys, pymongo; pymongo.MongoClient(sys.argv[1]).drop_database('growing')";
            Ran::of(program.args(["-c", drop, uri.as_str()])).is(0, &[]);
        };
        place.grow(uri, &[], steps).is(0, &["recorded "]);
        let mut known: Vec<&str> = Vec::new();
        for more in ["new", "write"] {
            known.push(more);
            let grown = [steps, &known].concat();
            let expected = direct(&known);
            let fixture = fs::read_to_string(place.fixture()).unwrap();
            drop_all();
            let mut forward = place.exec(uri, &["--on-miss", "forward", "--strict=false"]);
            let forwarded = Ran::of(forward.arg(manifest::python()).args(["-c", GROWING]).args(&grown));
            assert_eq!(forwarded.is(0, &[]).stdout, expected);
            assert_eq!(fs::read_to_string(place.fixture()).unwrap(), fixture);
            drop_all();
            let report = place.directory.path().join("report.json");
            let options = ["--mode", "new", "--strict=false", "--report", report.to_str().unwrap()];
            let recorded = place.grow(uri, &options, &grown).is(0, &["more exchanges"]);
            assert_eq!(recorded.stdout, expected);
            // What the new requests have not touched is answered from the fixture all the same.
            let report = serde_json::from_str::<Value>(&fs::read_to_string(report).unwrap()).unwrap();
            let unused = report["unused"].to_string();
            assert_eq!(unused.contains("orders"), more == "write", "{unused}");
            assert!(!unused.contains("prices"), "{unused}");
            let fixture = fs::read_to_string(place.fixture()).unwrap();
            for mode in ["none", "new"] {
                let replayed = place.grow(&place.nowhere(), &["--mode", mode, "--strict=false"], &grown).is(0, &[]);
                assert_eq!(replayed.stdout, expected);
            }
            assert_eq!(fs::read_to_string(place.fixture()).unwrap(), fixture);
        }
    }
}

/// Two applications that ask the same, each of what it has made.
const APPLICATIONS: &str = r#"
import os, sys, pymongo
for name in ["ann", "bob"]:
    with pymongo.MongoClient(os.environ["MONGODB_URI"], appname=name) as client:
        orders = client.get_default_database().orders
        orders.delete_many({"of": name})
        orders.insert_one({"of": name, "n": len(name)})
        print(name, orders.count_documents({"of": name}))
        if "new" in sys.argv:
            print([it["of"] for it in orders.find({"n": 3}).sort("of")], orders.find_one({"of": name})["n"])
"#;

#[test]
fn each_application_has_what_it_asked_besides() {
    let mongod = Mongod::start(Options::default());
    let uri = format!("{}/applications", mongod.uri());
    let place = Place::new("applications");
    let run = |uri: &str, options: &[&str], steps: &[&str]| {
        let options = [&["--scope", "appName"], options].concat();
        Ran::of(place.exec(uri, &options).arg(manifest::python()).args(["-c", APPLICATIONS]).args(steps))
    };
    run(&uri, &[], &[]).is(0, &["recorded 6 exchanges"]);
    mongod.client().command(&bson::doc! { "dropDatabase": 1, "$db": "applications" });
    let grown = run(&uri, &["--mode", "new"], &["new"]).is(0, &["recorded 4 more exchanges"]);
    assert_eq!(grown.stdout, "ann 1\n['ann'] 3\nbob 1\n['ann', 'bob'] 3\n");
    let fixture = fs::read_to_string(place.fixture()).unwrap();
    assert_eq!(fixture.matches("\"app\":\"ann\",\"request\":{\"find\"").count(), 2, "{fixture}");
    drop(mongod);
    assert_eq!(run(&place.nowhere(), &[], &["new"]).is(0, &[]).stdout, grown.stdout);
}

/// What cannot be done at the upstream is not asked of it either.
#[test]
fn an_upstream_without_transactions_is_told() {
    let place = Place::new("growing");
    let set = Mongod::start(Options { replica_set: true, ..Options::default() });
    let uri = format!("{}/growing?directConnection=true", set.uri());
    place.grow(&uri, &[], &["transaction"]).is(0, &["recorded "]);
    drop(set);
    let mongod = Mongod::start(Options::default());
    let alone = format!("{}/growing", mongod.uri());
    let told = "it does not follow what the recording answered: it is a standalone server, which takes no transactions";
    place.grow(&alone, &["--mode", "new"], &["transaction", "new"]).is(1, &[told]);
    let down =
        ["the upstream was asked: 127.0.0.1:1 cannot be reached", "hint: start that server, or name another with "];
    place.grow(&place.nowhere(), &["--mode", "new"], &["transaction", "new"]).is(1, &down);
    let told =
        ["no recorded answer to insert", "hint: a transaction or a cursor that the recording has begun to answer"];
    place.grow(&place.nowhere(), &["--mode", "new"], &["transaction", "within"]).is(1, &told);
}

/// What was asked once may not be had again.
#[test]
fn a_capture_that_does_not_become_a_fixture_is_kept() {
    let place = Place::new("kept");
    fs::create_dir_all(place.fixture()).unwrap();
    let parts = ["orders.jsonl: ", "; what was captured is kept in ", ".kept\n", "hint: mongotap convert "];
    let ran = place.run(&place.there(), &["--mode", "all"], &["paid", "10", "1"]).is(125, &parts);
    let kept: Vec<_> = place.files().into_iter().filter(|name| name != "orders.jsonl").collect();
    assert!(kept.len() == 1 && ran.stderr.contains(&kept[0]), "{kept:?} {ran:?}");
    let made = place.directory.path().join("made.jsonl");
    let mut convert = support::proxy::command();
    let capture = place.fixture().with_file_name(&kept[0]);
    Ran::of(convert.arg("convert").args([capture, made])).is(0, &["made.jsonl: 4 exchanges"]);
}

#[test]
fn an_upstream_that_is_down_is_told() {
    let place = Place::new("down");
    let ran = Ran::of(place.exec(&place.nowhere(), &[]).args(["echo", "ran"]));
    assert_eq!(ran.is(125, &["upstream 127.0.0.1:1: Connection refused", "hint: "]).stdout, "");
    let unknown = Ran::of(place.exec("mongodb://no-such-name.invalid/x", &[]).args(["echo", "ran"]));
    unknown.is(125, &["upstream no-such-name.invalid", "hint: that name is not known here"]);
    assert!(!place.directory.path().join("fixtures").exists());
}

/// The fixture is committed, and says how it was made.
#[test]
fn arguments_are_not_kept() {
    let place = Place::new("arguments");
    const SHELL: &str = "exec \"$0\" -c \"$1\" paid 10 1";
    let mut exec = place.exec(&place.there(), &[]);
    exec.args(["sh", "-c", SHELL]).arg(manifest::python()).args([PROGRAM, "--password=s3cret"]);
    Ran::of(&mut exec).is(0, &["recorded 4 exchanges"]);
    let text = fs::read_to_string(place.fixture()).unwrap();
    assert!(!text.contains("s3cret") && text.contains("mongotap exec -- sh\""), "{text}");
}

/// The set's name and its members are those of the recording, whatever the application's string says of them.
#[test]
fn a_replica_set_is_one_again() {
    let place = Place::new("set");
    let mongod = Mongod::start(Options { replica_set: true, ..Options::default() });
    let uri = format!("{}/set?replicaSet={SET_NAME}&retryWrites=true&w=majority", mongod.uri());
    let recorded = place.run(&uri, &[], &["paid", "10", "2"]).is(0, &["recorded 5 exchanges"]);
    drop(mongod);
    for uri in [uri.as_str(), "mongodb://a:1,b:2/set?replicaSet=other&tls=true&w=majority"] {
        let replayed = place.run(uri, &[], &["paid", "10", "2"]).is(0, &["answered 5 commands"]);
        assert_eq!(replayed.stdout, recorded.stdout);
    }
}
