//! The real binary reads logs: `show` in every format, with every filter, following; `stats`; and what they say of
//! files that are torn, broken or something else.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

#[path = "show/follow.rs"]
mod follow;
#[path = "show/missing.rs"]
mod missing;
#[path = "show/topologies.rs"]
mod topologies;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bson::rawdoc;
use follow::spawn;
use mongotap::event::{
    Address, CommandFailed, CommandInfo, CommandStarted, CommandSucceeded, Connection, ConnectionCreated, ConnectionId,
    Entry, Event, Exchange, Failure, Measures, Phase, Timestamp,
};
use mongotap::redact::{self, Redacted};
use mongotap::sink::{EventsDropped, Format, Options, RecorderStarted, RecorderStopped};

const AT: Timestamp = Timestamp { monotonic_nanos: 0, unix_micros: 1_795_333_471_867_123 };

/// Writes a log as the recorder would.
struct Log {
    lines: Vec<String>,
    exchange: u64,
}

/// An event on the one connection of the log.
fn entry(event: Event<'static>) -> Redacted<Entry<'static>> {
    let connection = Arc::new(Connection {
        id: ConnectionId(3),
        client: "127.0.0.1:40112".to_owned(),
        upstream: "127.0.0.1:27017".to_owned(),
        server: Address::parse("localhost:27027"),
        tls: false,
    });
    redact::apply(Entry { at: AT, connection, phase: Phase::App, event })
}

/// How a command of the log ends.
enum End {
    Ok,
    Error,
    Gone,
}

impl Log {
    fn new() -> Self {
        let mut log = Self { lines: Vec::new(), exchange: 0 };
        let event = RecorderStarted {
            at: AT,
            version: "0.1.0",
            run: "r",
            listen: "127.0.0.1:27027",
            upstream: "127.0.0.1:27017",
            log: 1,
        };
        log.add(|out| Format::Jsonl.recorder_started(&event, out));
        log
    }

    fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut line = format!("{{\"seq\":{},", self.lines.len()).into_bytes();
        write(&mut line);
        self.lines.push(String::from_utf8(line).unwrap());
    }

    fn event(&mut self, event: Event<'static>) {
        self.add(|out| Format::Jsonl.renderer(&Options::default()).render(&entry(event), out));
    }

    fn start(&mut self, name: &str, namespace: &str) -> CommandInfo<'static> {
        self.exchange += 1;
        let (database, collection) = namespace.split_once('.').unwrap();
        let info = CommandInfo {
            command_name: name.to_owned().into(),
            database_name: database.to_owned().into(),
            collection: Some(collection.to_owned().into()),
            request_id: 50073,
            server_connection_id: Some(12),
            service_id: None,
            exchange: Exchange(self.exchange),
            continues: None,
            compressor: None,
            sensitive: false,
        };
        let command = rawdoc! { "find": collection, "filter": { "a": 1 } }.into();
        self.event(Event::CommandStarted(CommandStarted { info: info.clone(), command }));
        info
    }

    fn end(&mut self, info: CommandInfo<'static>, micros: u64, end: End) {
        let duration = Duration::from_micros(micros);
        let measures = Measures { request_bytes: 100, reply_bytes: 50, ..Measures::default() };
        let failure = match end {
            End::Ok => {
                let reply = rawdoc! { "ok": 1.0 }.into();
                return self.event(Event::CommandSucceeded(CommandSucceeded { info, duration, reply, measures }));
            }
            End::Error => Failure::Reply(rawdoc! { "ok": 0.0, "code": 26, "codeName": "NamespaceNotFound" }.into()),
            End::Gone => Failure::Network { message: "connection closed by the server".into(), closed_by: None },
        };
        self.event(Event::CommandFailed(CommandFailed { info, duration, failure, measures }));
    }

    fn command(&mut self, name: &str, namespace: &str, micros: u64, end: End) {
        let info = self.start(name, namespace);
        self.end(info, micros, end);
    }

    /// One of everything that filters tell apart; 14 lines.
    fn sample() -> Self {
        let mut log = Self::new();
        log.event(Event::ConnectionCreated(ConnectionCreated {}));
        // Two in flight at a time, so that starts and ends do not alternate.
        let (slow, quick) = (log.start("find", "shop.orders"), log.start("find", "shop.items"));
        log.end(quick, 362, End::Ok);
        log.end(slow, 15_000, End::Ok);
        log.command("insert", "shop.orders", 400, End::Error);
        log.command("find", "other.orders", 500, End::Gone);
        let dropped = EventsDropped { at: AT, exchanges: 3, bytes: 900, reason: "queue full" };
        log.add(|out| Format::Jsonl.events_dropped(&dropped, out));
        log.command("FIND", "shop.orders", 600, End::Ok);
        log.ended()
    }

    /// With its last line.
    fn ended(mut self) -> Self {
        self.add(|out| Format::Jsonl.recorder_stopped(&RecorderStopped { at: AT, ..RecorderStopped::default() }, out));
        self
    }

    fn text(&self) -> String {
        self.lines.concat()
    }
}

/// A directory with a log in it.
struct Directory {
    directory: tempfile::TempDir,
    path: PathBuf,
}

impl Directory {
    fn with(content: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log.jsonl");
        fs::write(&path, content).unwrap();
        Self { directory, path }
    }

    fn run(&self, command: &str, args: &[&str]) -> (String, String, i32) {
        let output = Command::new(env!("CARGO_BIN_EXE_mongotap"))
            .current_dir(self.directory.path())
            .arg(command)
            .arg("log.jsonl")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code().unwrap())
    }

    /// What `show` prints where there is nothing to complain about.
    fn show(&self, args: &[&str]) -> String {
        let (out, err, code) = self.run("show", args);
        assert_eq!((err.as_str(), code), ("", 0), "{args:?}");
        out
    }
}

#[test]
fn compact_is_a_line_a_command() {
    let expected = "\
        07:44:31.867Z c3 shop.items find {a: 1}  ok  362µs\n\
        07:44:31.867Z c3 shop.orders find {a: 1}  ok  15.0ms\n\
        07:44:31.867Z c3 shop.orders insert  failed: NamespaceNotFound (26)  400µs\n\
        07:44:31.867Z c3 other.orders find {a: 1}  failed: connection closed by the server  500µs\n\
        07:44:31.867Z log incomplete: 3 exchanges (900 bytes) dropped, queue full\n\
        07:44:31.867Z c3 shop.orders FIND {a: 1}  ok  600µs\n";
    let directory = Directory::with(&Log::sample().text());
    assert_eq!(directory.show(&[]), expected);
    assert_eq!(directory.show(&["--format", "compact"]), expected);
    // What is in the log and not asked for by default.
    let all = directory.show(&["--events", "command,connection"]);
    assert_eq!(all, format!("07:44:31.867Z c3 connected from 127.0.0.1:40112\n{expected}"));
}

#[test]
fn text_is_the_example_listeners_lines() {
    let text = Directory::with(&Log::sample().text()).show(&["--format", "text"]);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 12);
    assert_eq!(
        lines[..5],
        [
            "[pool ('localhost', 27027)][conn #3] connection created",
            "Command find with request id 50073 started on server ('localhost', 27027)",
            "Command find with request id 50073 started on server ('localhost', 27027)",
            "Command find with request id 50073 on server ('localhost', 27027) succeeded in 362 microseconds",
            "Command find with request id 50073 on server ('localhost', 27027) succeeded in 15000 microseconds",
        ]
    );
    assert_eq!(
        lines[6],
        "Command insert with request id 50073 on server ('localhost', 27027) failed in 400 microseconds"
    );
}

#[test]
fn jsonl_is_byte_for_byte() {
    // With fields and events of a later version, odd spacing included.
    let mut log = Log::sample();
    log.lines[2] = log.lines[2].replacen(",\"event\"", " ,\"new\" : [1],\"event\"", 1);
    log.lines.push("{\"seq\":14,\"event\":\"laterEvent\",\"ts\":\"2026-11-22T07:44:31.867123Z\"}\n".to_owned());
    assert_eq!(Directory::with(&log.text()).show(&["--format", "jsonl"]), log.text());
}

#[test]
fn filters_keep_exchanges_whole_and_the_log_a_log() {
    let log = Log::sample();
    let directory = Directory::with(&log.text());
    // Lines by their seq; 0, 10 and 13 are the recorder's own.
    for (args, kept) in [
        (&["--failed"][..], vec![0, 6, 7, 8, 9, 10, 13]),
        (&["--slower-than", "10ms"], vec![0, 2, 5, 10, 13]),
        (&["--slower-than", "500us", "--failed"], vec![0, 10, 13]),
        (&["--command", "find"], vec![0, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]),
        (&["--command", "find", "--db", "shop", "--collection", "orders"], vec![0, 2, 5, 10, 11, 12, 13]),
        (&["--db", "shop"], vec![0, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13]),
        (&["--collection", "items"], vec![0, 3, 4, 10, 13]),
        (&["--events", "connection"], vec![0, 1, 10, 13]),
        (&["--events", "heartbeat,server"], vec![0, 10, 13]),
    ] {
        let (out, err, code) = directory.run("show", &[&["--format", "jsonl"], args].concat());
        let said = if kept.len() > 3 { "" } else { "mongotap: log.jsonl: no events match\n" };
        assert!(err == said && code == 0, "{args:?}: {err}");
        let kept_lines: Vec<_> = kept.iter().map(|seq| log.lines[*seq].as_str()).collect();
        let first = kept_lines[0].replace("}\n", ",\"filtered\":true}\n");
        assert!(out.starts_with(&first), "the first line says that others are left out: {out}");
        let out = out.replacen(&first, &log.lines[0], 1);
        let mut sorted: Vec<_> = out.split_inclusive('\n').collect();
        // A start that waited for its end comes right before it.
        sorted.sort_by_key(|line| log.lines.iter().position(|it| it == line));
        assert_eq!(sorted, kept_lines, "{args:?}");
        // The compact form of the same has the arguments, which come from starts.
        let (compact, again, _) = directory.run("show", args);
        assert_eq!(again, err, "{args:?}");
        assert_eq!(
            compact.matches("{a: 1}").count() >= 1,
            kept.iter().any(|seq| [2, 3, 8, 11].contains(seq)),
            "{args:?}"
        );
    }
}

#[test]
fn nothing_that_matches_is_said() {
    let directory = Directory::with(&Log::sample().text());
    let (out, err, code) = directory.run("show", &["--collection", "shop.orders", "--command", "find"]);
    let incomplete = "07:44:31.867Z log incomplete: 3 exchanges (900 bytes) dropped, queue full\n";
    assert_eq!((out.as_str(), code), (incomplete, 0));
    assert_eq!(err, "mongotap: log.jsonl: no events match\nhint: --db shop --collection orders\n");
    // A collection's name may have a dot.
    let (_, err, _) = directory.run("show", &["--db", "shop", "--collection", "old.orders"]);
    assert_eq!(err, "mongotap: log.jsonl: no events match\n");
}

#[test]
fn what_cannot_be_shown_is_said() {
    let log = Log::sample();
    let whole = log.text();
    let torn = Directory::with(&whole[..whole.len() - 20]);
    let (out, err, code) = torn.run("show", &["--format", "jsonl"]);
    assert_eq!(out, log.lines[..13].concat());
    assert_eq!((err.as_str(), code), ("mongotap: log.jsonl: line 14 is torn, it was left out\n", 0));

    let broken = Directory::with(&whole.replacen("\"requestId\":50073", "\"requestId\":\"x\"", 2));
    let (out, err, code) = broken.run("show", &["--format", "jsonl"]);
    assert_eq!((out, code), (log.lines[..2].concat(), 3), "what came before is shown");
    assert!(err.starts_with("mongotap: log.jsonl: line 3, column "), "{err}");
    assert!(err.contains(": invalid type: string \"x\", expected i32\nhint: "), "{err}");

    for (content, said) in [
        ("", "mongotap: log.jsonl: empty\nhint: a proxy writes the first line"),
        ("hello\n", "mongotap: log.jsonl: not an event log: its first line does not begin with {\"seq\":\nhint: "),
        ("\u{0}\u{1}", "mongotap: log.jsonl: not an event log: "),
    ] {
        for command in ["show", "stats"] {
            let (out, err, code) = Directory::with(content).run(command, &[]);
            assert_eq!((out.as_str(), code), ("", 3), "{content:?}");
            assert!(err.starts_with(said), "{err}");
        }
    }
    let missing = Directory::with("");
    fs::remove_file(&missing.path).unwrap();
    let said = "mongotap: log.jsonl: no such file or directory\nhint: mongotap proxy --log FILE.jsonl writes a log\n";
    for command in ["show", "stats"] {
        assert_eq!(missing.run(command, &[]), (String::new(), said.to_owned(), 3));
    }
}

#[test]
fn usage_errors() {
    let directory = Directory::with(&Log::sample().text());
    for (args, part) in [
        (&["--format", "xml"][..], "expected compact, text or jsonl"),
        (&["--events", "command,comand"], "expected some of command, heartbeat, server, topology, connection"),
        (&["--slower-than", "ten"], "\"ten\" is not a duration\nhint: write it like 10ms, 250us or 1s\n"),
        (&["--slower-than", "10"], "\"10\" has no unit\nhint: write it like 10ms, 250us or 1s\n"),
        (&["--db", ""], "empty name"),
    ] {
        let (_, err, code) = directory.run("show", args);
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains(part), "{err}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut log = Log::new();
    let waiting = log.start("find", "shop.orders");
    for _ in 0..6000 {
        log.command("find", "shop.orders", 100, End::Ok);
    }
    log.end(waiting, 100, End::Ok);
    let directory = Directory::with(&log.text());
    // What is not read to its end is not said to go on elsewhere.
    fs::write(directory.directory.path().join("log.jsonl.1"), &log.lines[11_000]).unwrap();
    let mut child = spawn(&directory.path, &["--format", "jsonl"]);
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, log.lines[0]);
    drop(out);
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((err.as_str(), child.wait().unwrap().code()), ("", Some(0)));
}

#[test]
fn stats_count_what_the_log_holds() {
    let directory = Directory::with(&Log::sample().text());
    let (out, err, code) = directory.run("stats", &[]);
    assert_eq!((err.as_str(), code), ("mongotap: log.jsonl: 3 exchanges missing\n", 0));
    let rows: Vec<Vec<_>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0][..8], ["database", "collection", "command", "count", "errors", "write", "errors", "p50"]);
    assert_eq!(rows[1][..6], ["shop", "orders", "find", "1", "0", "0"]);
    assert_eq!(rows[1][10], "15.0ms");
    let (help, ..) = directory.run("stats", &["--help"]);
    assert!(help.contains("sorted by the total time") && help.contains("sums of bytes on the wire"), "{help}");
    let nothing = Directory::with(&Log::new().ended().text()).run("stats", &[]);
    assert_eq!(nothing, ("no commands\n".to_owned(), String::new(), 0));
    // What comes before a line that is wrong is counted.
    let torn = Directory::with(&(Log::sample().text() + "{\"seq\":\n{}\n"));
    let (counted, err, code) = torn.run("stats", &[]);
    assert!(counted == out && code == 3 && err.contains("mongotap: log.jsonl: line "), "{code} {err}\n{counted}");
    let (out, _, code) = directory.run("stats", &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    let commands = json["commands"].as_array().unwrap();
    assert_eq!(commands.iter().map(|it| it["count"].as_u64().unwrap()).sum::<u64>(), 5);
    assert_eq!(commands.iter().map(|it| it["errors"].as_u64().unwrap()).sum::<u64>(), 2);
    let slow = commands.iter().find(|it| it["maxMicros"] == 15_000).unwrap();
    assert_eq!(
        (&slow["database"], &slow["collection"], &slow["command"]),
        (&"shop".into(), &"orders".into(), &"find".into())
    );
    assert_eq!((&slow["requestBytes"], &slow["replyBytes"]), (&100.into(), &50.into()));
}

/// Two logs of one run, each of other commands: the first of either begins with the same number.
#[test]
fn logs_of_one_run_are_not_taken_for_copies() {
    let mut logs = [Log::new(), Log::new()];
    logs[0].command("find", "shop.orders", 362, End::Ok);
    let next = logs[0].lines[0].replacen("\"seq\":0,", "\"seq\":3,", 1);
    logs[0].lines.push(next);
    logs[0].command("drop", "shop.orders", 362, End::Ok);
    logs[1].command("insert", "shop.items", 400, End::Ok);
    let logs = logs.map(Log::ended);
    let directory = Directory::with(&logs[0].lines[..3].concat());
    let path = |name: &str| directory.directory.path().join(name);
    fs::rename(&directory.path, path("log.jsonl-20261122")).unwrap();
    fs::write(&directory.path, logs[0].lines[3..].concat()).unwrap();
    fs::write(path("other.jsonl"), logs[1].text()).unwrap();
    let files = ["other.jsonl", "log.jsonl-20261122", "./log.jsonl", "--format", "jsonl"];
    let (out, err, code) = directory.run("show", &files);
    let again = "mongotap: ./log.jsonl: the same part of the recording as log.jsonl, it is read once\n";
    assert_eq!((err.as_str(), code), (again, 0));
    assert_eq!(out, logs[0].text() + &logs[1].text());
}

/// A log that comes through a pipe has no next file, and a pipe is none: neither is waited for.
#[test]
fn a_pipe_is_read_to_its_end_once() {
    let mut log = Log::new();
    log.start("find", "shop.orders");
    let log = log.ended();
    let directory = Directory::with(&log.text());
    let pipe = directory.directory.path().join("log.jsonl.1");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let shown = |path: &Path, write: &dyn Fn()| {
        let mut child = spawn(path, &["--format", "jsonl"]);
        write();
        let has_ended = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            child.try_wait().unwrap().is_some()
        });
        if !has_ended {
            child.kill().unwrap();
        }
        let output = child.wait_with_output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap(), output.status.code())
    };
    let expected = (log.text(), String::new(), Some(0));
    assert_eq!(shown(&pipe, &|| fs::write(&pipe, log.text()).unwrap()), expected);
    assert_eq!(shown(&directory.path, &|| {}), expected);
}
