//! `mongotap proxy` as a user meets it: what it says, where it listens, what it writes, and that it changes nothing.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::Duration;

use bson::{Document, doc};
use rustix::process::Signal;

use support::client::{self, Client, EXHAUST_ALLOWED, MORE_TO_COME, hello, is_ok, op_msg};
use support::log::{Log, Record};
use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::proxy::Proxy;
use support::relay::{self, Relay};

fn proxy(arguments: &[&str]) -> Proxy {
    Proxy::start(&Mongod::shared().uri(), arguments)
}

fn ping() -> Document {
    doc! { "ping": 1, "$db": "admin" }
}

/// Runs the binary to its end.
fn run(arguments: &[&str]) -> Output {
    support::proxy::command().args(arguments).output().expect("the binary runs")
}

/// It must fail with that code and say these things.
fn fails(arguments: &[&str], code: i32, says: &[&str]) {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{arguments:?}: what it says of itself goes to stderr");
    for words in says {
        assert!(stderr.contains(words), "{arguments:?} says {words:?}: {stderr}");
    }
}

#[test]
fn the_ready_lines_say_where_to_point_an_application() {
    let mongod = Mongod::shared();
    let proxy = proxy(&[]);
    let ready = format!("listening on {} -> {}", proxy.address, mongod.address());
    assert!(proxy.stderr().lines().any(|line| line == ready), "{ready}: {}", proxy.stderr());
    assert!(proxy.address.starts_with("127.0.0.1:") && !proxy.address.ends_with(":0"), "{}", proxy.address);
    assert!(proxy.uri.starts_with(&format!("mongodb://{}", proxy.address)), "{}", proxy.uri);
    let mut client = Client::handshake(&proxy.address, "ready");
    assert!(is_ok(&client.command(&ping())));

    let log = proxy.stop().log;
    let first = &log.records[0];
    assert_eq!(first.str("upstream"), Some(mongod.address().as_str()));
    let end = log.end("ping");
    assert_eq!(end.proxy_str("upstream"), Some(mongod.address().as_str()));
    assert_eq!(end.str("connectionId"), first.str("listen"));
    assert!(end.i64("serverConnectionId").is_some_and(|it| it > 0));
    let ready = log.events("connectionReadyEvent").next().expect("the connection was ready");
    assert_eq!(ready.proxy_str("appName"), Some("ready"));
    assert_eq!(ready.proxy_str("driver"), Some("mongotap-test"));
}

#[test]
fn what_cannot_be_used_is_refused_with_a_way_out() {
    fails(&["proxy", "--no-such-flag"], 2, &["--no-such-flag"]);
    fails(&["proxy", "--upstream", "mongodb:/localhost"], 2, &["mongodb:/localhost", "hint: "]);
    fails(&["proxy", "--upstream", "mongodb://user:secret@localhost"], 2, &["hint: "]);
    let output = run(&["proxy", "--upstream", "mongodb://user:secret@localhost"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "a password is not repeated");
    fails(&["proxy", "--listen", "nowhere"], 2, &["nowhere"]);
    fails(&["proxy", "--log-format", "xml"], 2, &["xml"]);
    fails(&["proxy", "--config", "/no/such/file.toml"], 2, &["/no/such/file.toml"]);
    fails(&["proxy", "--log", "/no/such/directory/a.jsonl"], 2, &["/no/such/directory", "hint: "]);
}

#[test]
fn what_the_system_refuses_is_told_with_its_name() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = taken.local_addr().expect("a bound socket has an address").to_string();
    fails(&["proxy", "--listen", &address], 4, &[&address]);
    // Nobody, whoever runs the tests, makes a file there.
    fails(&["proxy", "--listen", "127.0.0.1:0", "--log", "/proc/none.jsonl"], 4, &["/proc/none.jsonl"]);
}

#[test]
fn a_configuration_file_does_what_its_flags_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("proxy.toml");
    let log = directory.path().join("from-file.jsonl");
    let text = format!("advertise = \"db.example:1\"\n[[log]]\npath = \"{}\"\nmax_document_bytes = 0\n", log.display());
    fs::write(&file, text).expect("the directory takes files");
    let proxy = proxy(&["--config", file.to_str().expect("a path is text"), "--advertise", "flag.example:27000"]);
    let mut client = Client::handshake(&proxy.address, "configured");
    assert!(is_ok(&client.command(&ping())));
    let stopped = proxy.stop();
    assert_eq!(stopped.log.end("ping").str("connectionId"), Some("flag.example:27000"), "flags go before the file");

    fs::write(&file, "listne = \"127.0.0.1:0\"\n").expect("the directory takes files");
    fails(&["proxy", "--config", file.to_str().expect("a path is text")], 2, &["listne", "listen"]);
}

#[test]
fn several_logs_have_each_their_form() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a path is text").to_owned();
    let (second, text) = (path("second.jsonl"), path("lines.txt"));
    let proxy = proxy(&["--log", &second, "--log", &text]);
    let mut client = Client::handshake(&proxy.address, "several");
    let id = client.send(0, &ping()).expect("the request goes out");
    client.receive().expect("a reply");
    let unknown = client.send(0, &doc! { "mongotapNoSuchCommand": 1, "$db": "admin" }).expect("the request goes out");
    client.receive().expect("a reply");
    let (host, port) = proxy.address.split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("host and port");
    let first = proxy.stop().log;
    assert_eq!(first.commands().count(), Log::read(Path::new(&second)).commands().count());

    let lines = fs::read_to_string(&text).expect("the text log");
    let server = format!("on server ('{host}', {port})");
    let micros = |name| first.end(name).i64("durationMicros").expect("an end has its duration");
    for line in [
        format!("Command ping with request id {id} started {server}"),
        format!("Command ping with request id {id} {server} succeeded in {} microseconds", micros("ping")),
        format!("Command mongotapNoSuchCommand with request id {unknown} started {server}"),
        format!(
            "Command mongotapNoSuchCommand with request id {unknown} {server} failed in {} microseconds",
            micros("mongotapNoSuchCommand")
        ),
    ] {
        assert!(lines.lines().any(|it| it == line), "{line}: {lines}");
    }
    for file in [&second, &text] {
        let mode = fs::metadata(file).expect("the log is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file} is its owner's alone");
    }
}

#[test]
fn standard_output_carries_compact_lines_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let stdout = directory.path().join("stdout");
    let mut command = support::proxy::command();
    command.args(["proxy", "--listen", "127.0.0.1:0", "--upstream", &Mongod::shared().uri()]);
    command.stdout(fs::File::create(&stdout).expect("the directory takes files")).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("stderr is a pipe"));
    let mut line = String::new();
    while !line.starts_with("listening on ") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut stderr, &mut line).expect("stderr is read") > 0, "it gets ready");
    }
    let address = line.split_whitespace().nth(2).expect("the ready line names the address").to_owned();
    let mut client = Client::handshake(&address, "compact");
    client.command(&doc! { "find": "compact\u{1b}[31m", "filter": { "a": "\u{7}" }, "$db": "proxy" });
    client.command(&doc! { "mongotapNoSuchCommand": 1, "$db": "proxy" });
    drop(client);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).expect("it runs");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("stderr is read");
    assert_eq!(child.wait().expect("it is our child").code(), Some(0), "{rest}");

    let output = fs::read_to_string(stdout).expect("what it printed");
    let (topology, commands): (Vec<_>, Vec<_>) = output.lines().partition(|line| line.contains(" topology "));
    assert_eq!(commands.len(), 2, "a line for each finished command: {output:?}");
    assert!(commands[0].contains("find") && commands[0].contains("0 docs"), "{output}");
    assert!(topology.iter().any(|line| line.contains("opened")), "the client's topology is told of: {output}");
    assert!(output.contains("CommandNotFound"), "{output}");
    assert!(!output.chars().any(|it| it.is_control() && it != '\n'), "no control character is printed raw: {output:?}");
    assert!(rest.contains("find"), "the statistics go to stderr: {rest}");
}

#[test]
fn unix_sockets_serve_on_both_sides() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("tap.sock");
    let upstream = Mongod::shared().unix_socket();
    let encoded = upstream.to_str().expect("a path is text").replace('/', "%2F");
    let proxy = Proxy::listen(socket.to_str().expect("a path is text"), &format!("mongodb://{encoded}"), &[]);
    let mut stream = UnixStream::connect(&socket).expect("the proxy listens");
    for (id, command) in [(1, hello("unix")), (2, ping())] {
        stream.write_all(&op_msg(id, 0, &command)).expect("it goes out");
        let message = client::receive(&mut stream).expect("a reply");
        assert_eq!(message.response_to, id);
        assert!(is_ok(&message.body));
    }
    assert!(proxy.uri.starts_with("mongodb://%2F"), "a socket's path is encoded: {}", proxy.uri);
    let log = proxy.stop().log;
    assert_eq!(log.end("ping").event(), "commandSucceededEvent");
    assert!(!socket.exists(), "the socket is removed at the end");
}

#[test]
fn ipv6_serves_on_both_sides() {
    let inner = Proxy::listen("[::1]:0", &Mongod::shared().uri(), &[]);
    assert!(inner.address.starts_with("[::1]:"), "{}", inner.address);
    let outer = Proxy::start(&format!("mongodb://{}", inner.address), &[]);
    let mut client = Client::handshake(&outer.address, "ipv6");
    assert!(is_ok(&client.command(&ping())));
    let (outer, inner) = (outer.stop().log, inner.stop().log);
    assert_eq!(outer.end("ping").event(), "commandSucceededEvent");
    let (outside, inside) = (outer.end("ping"), inner.end("ping"));
    assert_eq!(outside.0["reply"], inside.0["reply"]);
    assert!(outside.i64("durationMicros") >= inside.i64("durationMicros"), "the outer one waits for the inner one");
}

#[test]
fn a_log_is_appended_to_and_a_torn_line_is_cut_off() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("kept.jsonl");
    let log = path.to_str().expect("a path is text");
    let run = || {
        let proxy = proxy(&["--log", log]);
        assert!(is_ok(&Client::handshake(&proxy.address, "appended").command(&ping())));
        proxy.stop()
    };
    run();
    let first = fs::read_to_string(&path).expect("the log");
    fs::write(&path, format!("{first}{{\"seq\":99,\"event\":\"comma")).expect("a crash tears the last line");
    let stderr = run().stderr;
    let both = fs::read_to_string(&path).expect("the log");
    let second = both.strip_prefix(&first).expect("the first run's lines are kept as they were");
    assert_eq!(Log::parse(second).ends("ping").count(), 1, "the second run's lines are whole and numbered anew");
    assert!(stderr.contains(log), "the cut is told: {stderr}");
}

#[test]
fn a_log_that_grows_is_put_aside() {
    let proxy = proxy(&["--log-rotate-bytes", "20000", "--log-keep", "50"]);
    let mut client = Client::handshake(&proxy.address, "rotates");
    for _ in 0..100 {
        assert!(is_ok(&client.command(&ping())));
    }
    let path = proxy.log_path();
    let aside = |n: usize| path.with_file_name(format!("events.jsonl.{n}"));
    proxy.signal(Signal::TERM);
    let mut proxy = proxy;
    assert_eq!(proxy.wait().code(), Some(0));
    let count = (1..50).take_while(|n| aside(*n).exists()).count();
    assert!(count >= 2, "{count} files were put aside");
    let parts: Vec<_> = (1..=count).rev().map(|n| fs::read_to_string(aside(n)).expect("a file put aside")).collect();
    assert!(parts.iter().all(|part| part.len() <= 21_000 && part.contains("recorderStartedEvent")), "each is whole");
    let log = Log::parse(&(parts.concat() + &proxy.log_so_far()));
    assert_eq!(log.ends("ping").count(), 100);
}

#[test]
fn what_is_not_asked_for_is_not_logged() {
    let arguments = ["--log-namespaces", "wanted,!wanted.not", "--log-events", "command"];
    let log = {
        let proxy = proxy(&arguments);
        let mut client = Client::handshake(&proxy.address, "filtered");
        for (db, collection) in [("wanted", "yes"), ("wanted", "not"), ("other", "yes")] {
            client.command(&doc! { "find": collection, "$db": db });
        }
        proxy.stop().log
    };
    let seen: Vec<_> = log.ends("find").map(|it| (it.str("databaseName"), it.proxy_str("collection"))).collect();
    assert_eq!(seen, [(Some("wanted"), Some("yes"))]);
    assert_eq!(log.events("connectionReadyEvent").count(), 0);
}

#[test]
fn phases_tell_handshakes_and_monitors_from_applications() {
    let proxy = proxy(&["--log-phases", "app,auth,handshake,monitor,rtt"]);
    let mut app = Client::handshake(&proxy.address, "phases");
    assert!(is_ok(&app.command(&ping())));
    assert!(is_ok(&app.command(&doc! { "hello": 1, "$db": "admin" })), "an application may ask for it too");
    let mut monitor = Client::connect(&proxy.address);
    let first = monitor.command(&hello("phases"));
    let version = first.get_document("topologyVersion").expect("mongod has one").clone();
    monitor.command(&doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 100_i64, "$db": "admin" });

    let log = proxy.stop().log;
    let phase = |it: &Record| it.proxy_str("phase").map(str::to_owned);
    let phases: Vec<_> = log.ends("hello").map(|it| (it.proxy_i64("connection"), phase(it))).collect();
    let of = |connection: i64| -> Vec<_> {
        let own = phases.iter().filter(|(it, _)| *it == Some(connection));
        own.map(|(_, phase)| phase.clone().unwrap_or_default()).collect()
    };
    assert_eq!(of(1), ["handshake", "app"]);
    assert!(of(2).iter().all(|phase| phase == "monitor"), "{phases:?}");
    assert_eq!(phase(log.end("ping")).as_deref(), Some("app"));
}

#[test]
fn requests_are_paired_whatever_their_ids() {
    let proxy = proxy(&["--log-max-document-bytes", "0"]);
    let mut client = Client::handshake(&proxy.address, "ids");
    // Several on their way at once, with ids that are zero, negative and the same.
    let ids = [0, -7, 5, 5, i32::MIN, i32::MAX];
    let request = |at: usize, id: i32| op_msg(id, 0, &doc! { "count": format!("c{at}"), "$db": "proxy" });
    let all: Vec<u8> = ids.iter().enumerate().flat_map(|(at, id)| request(at, *id)).collect();
    client.send_bytes(&all).expect("they go out");
    for id in ids {
        assert_eq!(client.receive().expect("a reply").response_to, id);
    }
    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("count").collect();
    assert_eq!(ends.iter().filter_map(|it| it.i64("requestId")).collect::<Vec<_>>(), ids.map(i64::from));
    for (at, end) in ends.iter().enumerate() {
        assert_eq!(log.start_of(end).0["command"]["count"], format!("c{at}"));
        assert_eq!(end.event(), "commandSucceededEvent");
    }
}

#[test]
fn an_unacknowledged_write_ends_before_the_next_request_starts() {
    let proxy = proxy(&[]);
    let mut client = Client::handshake(&proxy.address, "w0 order");
    let insert = doc! { "insert": "w0order", "documents": [{ "n": 1 }], "writeConcern": { "w": 0 }, "$db": "proxy" };
    let mut bytes = op_msg(7, MORE_TO_COME, &insert);
    bytes.extend(op_msg(8, MORE_TO_COME, &insert));
    bytes.extend(op_msg(9, 0, &doc! { "ping": 1, "$db": "proxy" }));
    client.send_bytes(&bytes).expect("one write, so one read");
    client.receive().expect("the ping is answered");
    let log = proxy.stop().log;
    let events: Vec<_> = log.commands().map(|it| (it.event(), it.i64("requestId").expect("an id"))).collect();
    let expected = [7, 8, 9].map(|id| [("commandStartedEvent", id), ("commandSucceededEvent", id)]);
    assert_eq!(events, expected.concat());
}

#[test]
fn an_unacknowledged_write_is_answered_with_ok() {
    let proxy = proxy(&[]);
    let mut client = Client::handshake(&proxy.address, "w0");
    client.command(&doc! { "drop": "w0", "$db": "proxy" });
    for id in 0..3 {
        let write = doc! {
            "insert": "w0", "documents": [{ "_id": id }], "writeConcern": { "w": 0 }, "$db": "proxy",
        };
        client.send(MORE_TO_COME, &write).expect("it goes out");
        assert_eq!(client.command(&doc! { "count": "w0", "$db": "proxy" }).get_i32("n").ok(), Some(id + 1));
    }
    client.command(&doc! { "drop": "w0", "$db": "proxy" });
    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("insert").collect();
    assert_eq!(ends.len(), 3);
    for end in ends {
        assert_eq!(end.0["reply"].to_string(), r#"{"ok":1}"#);
        assert_eq!(end.proxy_i64("replyBytes"), None);
    }
    assert_eq!(log.ends("count").count(), 3);
}

#[test]
fn an_exhaust_stream_is_a_chain_of_exchanges() {
    let proxy = proxy(&["--log-max-document-bytes", "0"]);
    let mut client = Client::handshake(&proxy.address, "exhaust");
    client.command(&doc! { "drop": "exhaust", "$db": "proxy" });
    let documents: Vec<_> = (0..100).map(|id| doc! { "_id": id }).collect();
    client.command(&doc! { "insert": "exhaust", "documents": documents, "$db": "proxy" });
    let found = client.command(&doc! { "find": "exhaust", "batchSize": 10, "$db": "proxy" });
    let cursor = found.get_document("cursor").expect("a cursor").get_i64("id").expect("it is live");
    let more = doc! { "getMore": cursor, "collection": "exhaust", "batchSize": 30, "$db": "proxy" };
    let request = client.send(EXHAUST_ALLOWED, &more).expect("it goes out");
    let mut replies = vec![client.receive().expect("a reply")];
    while replies.last().is_some_and(|reply| reply.flags & MORE_TO_COME != 0) {
        replies.push(client.receive().expect("another reply"));
    }
    assert!(replies.len() >= 3, "mongod streams: {} replies", replies.len());
    client.command(&doc! { "drop": "exhaust", "$db": "proxy" });

    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("getMore").collect();
    assert_eq!(ends.len(), replies.len(), "an exchange for each reply");
    let first = ends[0].proxy_i64("exchange");
    let mut expected = request;
    for (at, (end, reply)) in ends.iter().zip(&replies).enumerate() {
        assert_eq!(end.i64("requestId"), Some(i64::from(expected)), "each names the reply before it");
        assert_eq!(end.proxy_i64("continues"), (at > 0).then_some(first).flatten());
        assert_eq!(log.start_of(end).0["command"]["getMore"], log.start_of(ends[0]).0["command"]["getMore"]);
        expected = reply.request_id;
    }
    let documents: i64 = ends.iter().filter_map(|it| it.proxy_i64("documents")).sum();
    assert_eq!(documents, 90);
}

#[test]
fn checksums_and_the_old_handshake_are_understood() {
    let proxy = proxy(&["--log-phases", "app,handshake,monitor"]);
    let inner = hex(
        "440000000700000000000000d40700000400000061646d696e2e24636d640000000000ffffffff1d0000001069734d617374657200010000000868656c6c6f4f6b000100",
    );
    let checked = hex(
        "370000000100000000000000dd07000001000000001e0000001070696e67000100000002246462000600000061646d696e0000327e69a8",
    );
    let relay = Relay::start(&proxy.address);
    let mut stream = std::net::TcpStream::connect(relay.address()).expect("the relay listens");
    for (message, opcode) in [(&inner, 1), (&checked, 2013)] {
        // Byte by byte: what is read does not depend on how it arrives.
        for byte in message {
            stream.write_all(&[*byte]).expect("it goes out");
        }
        let mut header = [0; 16];
        stream.read_exact(&mut header).expect("a reply");
        assert_eq!(i32::from_le_bytes([header[12], header[13], header[14], header[15]]), opcode);
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let mut rest = vec![0; length as usize - 16];
        stream.read_exact(&mut rest).expect("all of it");
    }
    drop(stream);
    let log = proxy.stop().log;
    relay.finish();
    assert_eq!(log.end("isMaster").event(), "commandSucceededEvent");
    assert_eq!(log.end("isMaster").i64("requestId"), Some(7));
    assert_eq!(log.end("ping").event(), "commandSucceededEvent");
    assert_eq!(log.events("protocolErrorEvent").count(), 0);
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hexadecimal digits"));
    digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal digits")).collect()
}

#[test]
fn messages_of_many_megabytes_arrive_as_they_were_sent() {
    let inner = Relay::start(&Mongod::shared().address());
    let proxy = Proxy::start(&format!("mongodb://{}", inner.address()), &[]);
    let outer = Relay::start(&proxy.address);
    let mut client = Client::handshake(&outer.address(), "large");
    client.command(&doc! { "drop": "large", "$db": "proxy" });
    for round in 0..2 {
        let documents: Vec<_> =
            (0..3).map(|id| doc! { "_id": 10 * round + id, "text": "x".repeat(15 << 20), "last": "yes" }).collect();
        let insert = doc! { "insert": "large", "$db": "proxy" };
        // The documents are a sequence, as drivers send them: the body alone may not be that long.
        client.send_bytes(&with_sequence(round, &insert, &documents)).expect("45 MB go out");
        assert_eq!(client.receive().expect("a reply").body.get_i32("n").ok(), Some(3));
    }
    for id in [0, 1] {
        let found = client.command(&doc! { "find": "large", "filter": { "_id": id }, "$db": "proxy" });
        assert!(is_ok(&found));
    }
    client.command(&doc! { "drop": "large", "$db": "proxy" });
    drop(client);

    let passed = relay::assert_same(outer.finish(), inner.finish());
    let log = proxy.stop().log;
    assert!(passed.to_server > 90 << 20 && passed.to_client > 30 << 20, "{passed:?}");
    for end in log.ends("insert") {
        let start = log.start_of(end);
        assert!(start.0.to_string().len() < 30_000, "a long document is cut");
        let truncated = start.proxy("truncated").expect("and says so");
        assert!(truncated["bytes"].as_i64().is_some_and(|it| it > 40 << 20), "{truncated}");
        assert_eq!(start.0["command"]["insert"], "large", "what matters stays");
        assert_eq!(start.0["command"]["$db"], "proxy");
        assert!(end.proxy_i64("requestBytes").is_some_and(|it| it > 45 << 20));
    }
    for end in log.ends("find") {
        assert_eq!(end.0["reply"]["cursor"]["ns"], "proxy.large");
        assert_eq!(end.proxy_i64("documents"), Some(1));
    }
}

/// A client that has had enough says goodbye and closes, with replies on their way to it: its socket answers them with a
/// reset. What it said before goes on to the server all the same.
#[test]
fn the_last_words_of_a_client_arrive() {
    let inner = Relay::start(&Mongod::shared().address());
    let proxy = Proxy::start(&format!("mongodb://{}", inner.address()), &[]);
    let outer = Relay::start(&proxy.address);
    for round in 0..300 {
        let mut client = Client::handshake(&outer.address(), "last words");
        for _ in 0..round % 7 {
            client.send(0, &ping()).expect("a request goes out");
        }
        // The replies come somewhere between here and the close.
        thread::sleep(Duration::from_micros(round * 37 % 1_000));
        client.send(0, &doc! { "endSessions": [], "$db": "admin" }).expect("the last words go out");
        drop(client);
    }
    // Stopped before, the proxy would close what is idle, whatever is on the way to it.
    let passed = relay::assert_same(outer.finish(), inner.finish());
    assert_eq!(passed.connections, 300);
    assert_eq!(proxy.stop().log.ends("endSessions").count(), 300);
}

/// An OP_MSG with its `documents` as a sequence.
fn with_sequence(id: i32, body: &Document, documents: &[Document]) -> Vec<u8> {
    let mut message = op_msg(id, 0, body);
    let documents: Vec<u8> = documents.iter().flat_map(|it| it.to_vec().expect("a document has bytes")).collect();
    let name = b"documents\0";
    let size = i32::try_from(4 + name.len() + documents.len()).expect("below 2 GiB");
    message.push(1);
    message.extend(size.to_le_bytes());
    message.extend(name);
    message.extend(documents);
    let length = i32::try_from(message.len()).expect("below 2 GiB");
    message[..4].copy_from_slice(&length.to_le_bytes());
    message
}

#[test]
fn credentials_are_in_no_log() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a path is text").to_owned();
    let (text, compact) = (path("lines.txt"), path("lines.log"));
    let arguments = ["--log", &text, "--log", &compact, "--log-phases", "app,auth,handshake,monitor,rtt"];
    let proxy = Proxy::start(&mongod.uri(), &arguments);
    let mut client = Client::handshake(&proxy.address, "secrets");
    let payload = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: b"n,,n=tester,r=c2VjcmV0".into() };
    let start = doc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload.clone(), "$db": "admin" };
    assert!(is_ok(&client.command(&start)), "the first half of {USER}'s authentication");
    let conversation = doc! { "saslContinue": 1, "conversationId": 1, "payload": payload.clone(), "$db": "admin" };
    assert!(!is_ok(&client.command(&conversation)), "and a wrong second half");
    client.command(&doc! { "createUser": "other", "pwd": PASSWORD, "roles": [], "$db": "admin" });
    let mut speculative = hello("secrets");
    speculative.insert("speculativeAuthenticate", doc! { "saslStart": 1, "payload": payload, "db": "admin" });
    Client::connect(&proxy.address).command(&speculative);

    let mut proxy = proxy;
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    let (path, log) = (proxy.log_path(), Log::read(&proxy.log_path()));
    for command in ["saslStart", "saslContinue", "createUser"] {
        let end = log.end(command);
        assert_eq!(log.start_of(end).0["command"].to_string(), "{}", "{command} is not shown");
        if let Some(reply) = end.0.get("reply") {
            assert_eq!(reply.to_string(), "{}", "nor its reply");
        }
    }
    assert_eq!(log.end("saslStart").proxy_str("phase"), Some("auth"));
    for file in [path.to_str().expect("a path is text"), &text, &compact] {
        let content = fs::read_to_string(file).expect("the log");
        for secret in [PASSWORD, "c2VjcmV0", "YzJWamNtVjA", "payload"] {
            assert!(!content.contains(secret), "{secret} is in {file}");
        }
    }
}
