//! What goes wrong between a client and a real mongod, and what the log says of it: errors and closed connections that
//! the server makes on demand, servers and clients that die, and the proxy's own signals.
//!
//! Every log is held to its promises when it is read; above all, no command that started is left without an end.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bson::{Bson, Document, doc};
use rustix::process::Signal;

use support::client::{Client, hello, is_ok, op_msg};
use support::log::{Log, Record};
use support::mongod::{Mongod, Options, free_port};
use support::proxy::Proxy;
use support::{now, wait_for};

/// A proxy before the shared mongod.
fn proxy() -> Proxy {
    Proxy::start(&Mongod::shared().uri(), &[])
}

fn ping() -> Document {
    doc! { "ping": 1, "$db": "admin" }
}

fn find(collection: &str) -> Document {
    doc! { "find": collection, "filter": {}, "$db": "faults" }
}

fn message(end: &Record) -> &str {
    assert_eq!(end.event(), "commandFailedEvent", "{}", end.0);
    end.0["failure"]["message"].as_str().unwrap_or_else(|| panic!("a network error has its message: {}", end.0))
}

#[test]
fn an_error_reply_is_a_failure() {
    let proxy = proxy();
    let _point =
        Mongod::shared().fail_command(1, &["find"], "errors", doc! { "errorCode": 11600, "errorLabels": ["Label"] });
    let mut client = Client::handshake(&proxy.address, "errors");
    let reply = client.command(&find("errors"));
    assert!(!is_ok(&reply));
    assert!(is_ok(&client.command(&find("errors"))));

    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("find").collect();
    assert_eq!(ends.len(), 2);
    assert_eq!(ends[0].event(), "commandFailedEvent");
    assert_eq!(ends[0].0["failure"]["code"], 11600);
    assert_eq!(ends[0].0["failure"]["errorLabels"][0], "Label");
    assert_eq!(ends[1].event(), "commandSucceededEvent");
}

#[test]
fn a_write_concern_error_is_a_success() {
    let proxy = proxy();
    let error = doc! { "writeConcernError": { "code": 91, "errmsg": "shutting down" } };
    let _point = Mongod::shared().fail_command(1, &["insert"], "concern", error);
    let mut client = Client::handshake(&proxy.address, "concern");
    client.command(&doc! { "insert": "concern", "documents": [{ "_id": 1 }], "$db": "faults" });
    client.command(&doc! { "insert": "concern", "documents": [{ "_id": 1 }, { "_id": 1 }], "$db": "faults" });
    client.command(&doc! { "drop": "concern", "$db": "faults" });

    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("insert").collect();
    assert_eq!(ends.iter().map(|it| it.event()).collect::<Vec<_>>(), ["commandSucceededEvent"; 2]);
    assert_eq!(ends[0].0["reply"]["writeConcernError"]["code"], 91);
    assert_eq!(ends[1].proxy_i64("writeErrors"), Some(1));
    assert_eq!(ends[1].0["reply"]["writeErrors"][0]["code"], 11000);
}

#[test]
fn a_connection_that_the_server_closes_is_a_network_error() {
    let proxy = proxy();
    let _point = Mongod::shared().fail_command(1, &["find"], "closes", doc! { "closeConnection": true });
    let mut client = Client::handshake(&proxy.address, "closes");
    assert!(client.try_command(&find("closes")).is_none(), "the close reaches the client");

    let log = proxy.stop().log;
    let end = log.end("find");
    assert!(message(end).contains("server"), "it says who: {}", message(end));
    assert_eq!(end.proxy_str("closedBy"), Some("server"));
    assert!(end.proxy_i64("replyBytes").is_none(), "there was no reply");
    let closed: Vec<_> = log.events("connectionClosedEvent").collect();
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].str("reason"), closed[0].proxy_str("closedBy")), (Some("error"), Some("server")));
}

#[test]
fn a_reply_that_is_held_back_has_its_time() {
    let proxy = proxy();
    let blocks = doc! { "blockConnection": true, "blockTimeMS": 300 };
    let _point = Mongod::shared().fail_command(1, &["find"], "blocks", blocks);
    let mut client = Client::handshake(&proxy.address, "blocks");
    let sent = now();
    assert!(is_ok(&client.command(&find("blocks"))));
    let waited = i64::try_from(sent.elapsed().as_micros()).expect("a short time");

    let log = proxy.stop().log;
    let end = log.end("find");
    let duration = end.i64("durationMicros").expect("an end has its duration");
    assert!((300_000..=waited).contains(&duration), "300 ms ≤ {duration} µs ≤ {waited} µs");
    assert!(end.proxy_i64("firstByteMicros").is_some_and(|it| (300_000..=duration).contains(&it)), "{}", end.0);
}

#[test]
fn a_server_that_dies_within_a_reply_leaves_no_command_open() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = server.local_addr().expect("a bound socket has an address");
    let dying = thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("the proxy connects");
        let mut request = [0; 16];
        stream.read_exact(&mut request).expect("a request's header");
        let mut reply = op_msg(1, 0, &doc! { "ok": 1.0, "text": "x".repeat(1000) });
        reply[8..12].copy_from_slice(&request[4..8]);
        stream.write_all(&reply[..500]).expect("half a reply");
        // Wait for the client to have it before the connection goes.
        thread::sleep(Duration::from_millis(100));
    });
    let proxy = Proxy::start(&format!("mongodb://{address}"), &[]);
    let mut client = Client::connect(&proxy.address);
    client.send(0, &find("half")).expect("the request goes out");
    let arrived = client.read_to_end();
    dying.join().expect("the server dies as it should");

    let stopped = proxy.stop();
    let end = stopped.log.end("find");
    assert_eq!(end.proxy_str("closedBy"), Some("server"), "{}", message(end));
    assert!(arrived.map_or(true, |bytes| bytes.len() == 500), "what came of the reply reached the client");
}

#[test]
fn a_mongod_killed_while_it_answers_leaves_no_command_open() {
    let mongod = Mongod::start(Options::default());
    let proxy = Proxy::start(&mongod.uri(), &[]);
    let mut client = Client::handshake(&proxy.address, "killed");
    let text = "x".repeat(1 << 20);
    for id in 0..12 {
        let insert = doc! { "insert": "large", "documents": [{ "_id": id, "text": &text }], "$db": "faults" };
        assert!(is_ok(&client.command(&insert)));
    }
    // 72 MB of replies that nobody reads are more than the sockets hold, so the last of them is not sent when it dies.
    for _ in 0..6 {
        client.send(0, &doc! { "find": "large", "batchSize": 100, "$db": "faults" }).expect("the request goes out");
    }
    thread::sleep(Duration::from_millis(500));
    mongod.kill();
    let arrived = client.read_to_end().map_or(0, |bytes| bytes.len());

    let log = proxy.stop().log;
    let ends: Vec<_> = log.ends("find").collect();
    assert_eq!(ends.len(), 6, "every find has its end");
    let failed: Vec<_> = ends.iter().filter(|end| end.event() == "commandFailedEvent").collect();
    assert!(!failed.is_empty(), "mongod was killed before its last reply, {arrived} bytes in");
    assert!(failed.iter().all(|end| end.proxy_str("closedBy") == Some("server")), "{failed:?}");
    assert!(ends[0].event() == "commandSucceededEvent" || arrived < 12 << 20, "what arrived whole is a success");
}

#[test]
fn a_client_that_dies_within_a_request_has_sent_no_command() {
    let proxy = proxy();
    let mut client = Client::handshake(&proxy.address, "torn");
    assert!(is_ok(&client.command(&ping())));
    let request = op_msg(99, 0, &find("torn"));
    client.send_bytes(&request[..request.len() - 5]).expect("most of a request");
    thread::sleep(Duration::from_millis(100));
    client.reset();
    proxy.wait_for_log("connectionClosedEvent");

    let log = proxy.stop().log;
    assert_eq!(log.commands().filter(|it| it.command_name() == "find").count(), 0, "it was never whole");
    let closed = log.events("connectionClosedEvent").next().expect("the connection was closed");
    assert_eq!(closed.proxy_str("closedBy"), Some("client"));
}

#[test]
fn a_client_that_dies_while_it_waits_leaves_failures() {
    let proxy = proxy();
    let blocks = doc! { "blockConnection": true, "blockTimeMS": 1500 };
    let _point = Mongod::shared().fail_command(1, &["find"], "impatient", blocks);
    let mut client = Client::handshake(&proxy.address, "impatient");
    client.send(0, &find("impatient")).expect("the request goes out");
    client.send(0, &ping()).expect("another behind it");
    proxy.wait_for_log("\"ping\"");
    client.reset();
    proxy.wait_for_log("connectionClosedEvent");

    let log = proxy.stop().log;
    for command in ["find", "ping"] {
        assert!(message(log.end(command)).contains("client"), "{command}: {}", message(log.end(command)));
        assert_eq!(log.end(command).proxy_str("closedBy"), Some("client"), "{command}");
    }
}

#[test]
fn a_client_that_closes_while_it_waits_leaves_ends() {
    let proxy = proxy();
    let blocks = doc! { "blockConnection": true, "blockTimeMS": 500 };
    let _point = Mongod::shared().fail_command(1, &["find"], "leaving", blocks);
    let mut client = Client::handshake(&proxy.address, "leaving");
    client.send(0, &find("leaving")).expect("the request goes out");
    client.send(0, &ping()).expect("another behind it");
    proxy.wait_for_log("\"ping\"");
    drop(client);
    proxy.wait_for_log("connectionClosedEvent");

    // A close cannot be told from an end of sending: mongod may still answer, so an end may be a success.
    let log = proxy.stop().log;
    assert_eq!((log.ends("find").count(), log.ends("ping").count()), (1, 1));
}

#[test]
fn a_client_that_stops_sending_still_gets_its_replies() {
    let proxy = proxy();
    let answers = |address: &str| {
        let blocks = doc! { "blockConnection": true, "blockTimeMS": 200 };
        let _point = Mongod::shared().fail_command(1, &["find"], "halfclosed", blocks);
        let mut client = Client::handshake(address, "halfclosed");
        client.send(0, &find("halfclosed")).expect("the request goes out");
        client.close_sending();
        client.receive().is_ok()
    };
    // Some servers hang up when their client stops sending. The proxy must do as the server does, no worse.
    assert_eq!(answers(&proxy.address), answers(&Mongod::shared().address()), "as without the proxy");
    proxy.stop();
}

#[test]
fn an_upstream_that_is_down_may_come() {
    let port = free_port();
    let proxy = Proxy::start(&format!("mongodb://127.0.0.1:{port}"), &[]);
    let mut early = Client::connect(&proxy.address);
    let sent = now();
    assert!(early.try_command(&hello("early")).is_none(), "the client is closed, not left waiting");
    assert!(sent.elapsed() < Duration::from_secs(15), "and at once");

    let mongod = Mongod::start(Options { port: Some(port), ..Options::default() });
    let mut client = Client::handshake(&proxy.address, "late");
    assert!(is_ok(&client.command(&ping())));
    mongod.kill();
    assert!(client.try_command(&ping()).is_none());
    drop(mongod);
    let _mongod = Mongod::start(Options { port: Some(port), ..Options::default() });
    let mut client = Client::handshake(&proxy.address, "later");
    assert!(is_ok(&client.command(&ping())));

    let log = proxy.stop().log;
    let outcomes: Vec<_> = log.ends("ping").map(Record::event).collect();
    assert_eq!(outcomes.iter().filter(|it| **it == "commandSucceededEvent").count(), 2, "{outcomes:?}");
}

#[test]
fn sigterm_lets_commands_in_flight_end() {
    let mut proxy = Proxy::start(&Mongod::shared().uri(), &["--drain", "30s"]);
    let blocks = doc! { "blockConnection": true, "blockTimeMS": 3000 };
    let _point = Mongod::shared().fail_command(1, &["find"], "drains", blocks);
    let mut busy = Client::handshake(&proxy.address, "drains");
    let mut idle = Client::handshake(&proxy.address, "idle");
    assert!(is_ok(&idle.command(&ping())));
    busy.send(0, &find("drains")).expect("the request goes out");
    proxy.wait_for_log("\"find\"");

    let told = now();
    proxy.signal(Signal::TERM);
    assert_eq!(idle.read_to_end().unwrap_or_default(), b"", "an idle connection is closed");
    assert!(told.elapsed() < Duration::from_millis(2500), "before the other one is answered");
    assert!(refuses(&proxy.address), "no more connections are taken");
    assert!(is_ok(&busy.receive().expect("a reply").body), "the command in flight gets its reply");
    let status = proxy.wait();
    assert_eq!(status.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(15), "it does not wait longer than it must");

    let log = Log::read(&proxy.log_path());
    assert_eq!(log.end("find").event(), "commandSucceededEvent");
    let closed: Vec<_> = log.events("connectionClosedEvent").map(|it| it.proxy_str("closedBy")).collect();
    assert!(closed.contains(&Some("proxy")), "the idle one was closed by the proxy: {closed:?}");
    let stderr = proxy.stderr();
    assert!(stderr.contains("faults.drains") || stderr.contains("drains"), "the statistics are printed: {stderr}");
}

/// Whether a connection is refused, or closed before anything is answered on it.
fn refuses(address: &str) -> bool {
    Client::try_connect(address).is_none_or(|mut client| client.try_command(&hello("refused")).is_none())
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    let mut proxy = Proxy::start(&Mongod::shared().uri(), &["--drain", "500ms"]);
    let blocks = doc! { "blockConnection": true, "blockTimeMS": 20_000 };
    let _point = Mongod::shared().fail_command(1, &["find"], "endless", blocks);
    let mut client = Client::handshake(&proxy.address, "endless");
    client.send(0, &find("endless")).expect("the request goes out");
    proxy.wait_for_log("\"find\"");
    let told = now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    let waited = told.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_secs(15)).contains(&waited), "{waited:?}");

    let log = Log::read(&proxy.log_path());
    assert!(message(log.end("find")).contains("proxy"), "it says who: {}", message(log.end("find")));
}

#[test]
fn sigterm_waits_for_no_awaitable_hello_and_no_tailing_cursor() {
    let mut proxy = Proxy::start(&Mongod::shared().uri(), &["--drain", "19s"]);
    let mut monitor = Client::connect(&proxy.address);
    let first = monitor.command(&hello("awaits"));
    let version = first.get_document("topologyVersion").expect("mongod has a topology version").clone();
    let await_ = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 20_000_i64, "$db": "admin" };
    monitor.send(0, &await_).expect("the request goes out");

    let mut tail = Client::handshake(&proxy.address, "tails");
    tail.command(&doc! { "drop": "capped", "$db": "faults" });
    tail.command(&doc! { "create": "capped", "capped": true, "size": 4096, "$db": "faults" });
    tail.command(&doc! { "insert": "capped", "documents": [{ "_id": 1 }], "$db": "faults" });
    let found = tail.command(&doc! { "find": "capped", "tailable": true, "awaitData": true, "$db": "faults" });
    let cursor = found.get_document("cursor").expect("a cursor").get_i64("id").expect("it is live");
    let more = doc! { "getMore": cursor, "collection": "capped", "maxTimeMS": 20_000, "$db": "faults" };
    tail.send(0, &more).expect("the request goes out");
    proxy.wait_for_log("\"getMore\"");

    let told = now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    let log = Log::read(&proxy.log_path());
    assert_eq!(log.end("getMore").event(), "commandFailedEvent");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut proxy = Proxy::start(&Mongod::shared().uri(), &["--drain", "19s"]);
        let app_name = format!("second{code}");
        let blocks = doc! { "blockConnection": true, "blockTimeMS": 20_000 };
        let _point = Mongod::shared().fail_command(1, &["find"], &app_name, blocks);
        let mut client = Client::handshake(&proxy.address, &app_name);
        client.send(0, &find("second")).expect("the request goes out");
        proxy.wait_for_log("\"find\"");
        let mut idle = Client::handshake(&proxy.address, "idle");
        let told = now();
        proxy.signal(signal);
        // Two that come at once are one to the system. That idle connections are closed says that the first has come.
        assert_eq!(idle.read_to_end().unwrap_or_default(), b"");
        proxy.signal(signal);
        assert_eq!(proxy.wait().code(), Some(code), "{}", proxy.stderr());
        assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    }
}

#[test]
fn sigint_stops_as_sigterm_does() {
    let mut proxy = proxy();
    let mut client = Client::handshake(&proxy.address, "interrupted");
    assert!(is_ok(&client.command(&ping())));
    proxy.signal(Signal::INT);
    assert_eq!(proxy.wait().code(), Some(0));
    assert_eq!(Log::read(&proxy.log_path()).end("ping").event(), "commandSucceededEvent");
}

#[test]
fn sighup_reopens_the_log() {
    let proxy = proxy();
    let mut client = Client::handshake(&proxy.address, "rotated");
    assert!(is_ok(&client.command(&ping())));
    proxy.wait_for_log("commandSucceededEvent");
    let aside = proxy.directory().join("aside.jsonl");
    fs::rename(proxy.log_path(), &aside).expect("a log may be moved");
    proxy.signal(Signal::HUP);
    wait_for("a new log", Duration::from_secs(30), || proxy.log_path().exists().then_some(()));
    assert!(is_ok(&client.command(&doc! { "buildInfo": 1, "$db": "admin" })));
    proxy.wait_for_log("buildInfo");
    proxy.signal(Signal::TERM);
    let mut proxy = proxy;
    assert_eq!(proxy.wait().code(), Some(0));

    let (first, second) = (fs::read_to_string(aside).expect("the first log"), proxy.log_so_far());
    assert!(first.contains("\"ping\"") && !first.contains("buildInfo"), "{first}");
    assert!(second.contains("buildInfo") && !second.contains("\"ping\""), "{second}");
    assert!(
        second.lines().next().is_some_and(|it| it.contains("recorderStartedEvent")),
        "each file has its first line"
    );
    // Together they are one run: the numbering goes on.
    let log = Log::parse(&(first + &second));
    assert_eq!(log.events("recorderStartedEvent").count(), 2);
}

#[test]
fn sigusr1_prints_the_table() {
    let proxy = proxy();
    let mut client = Client::handshake(&proxy.address, "counted");
    for _ in 0..3 {
        assert!(is_ok(&client.command(&find("counted"))));
    }
    client.command(&doc! { "mongotapNoSuchCommand": 1, "$db": "faults" });
    proxy.wait_for_log("mongotapNoSuchCommand");
    proxy.signal(Signal::USR1);
    let row = wait_for("the table", Duration::from_secs(30), || {
        proxy.stderr().lines().find(|line| line.contains("counted") && line.contains("find")).map(str::to_owned)
    });
    assert!(row.split_whitespace().any(|it| it == "3"), "three finds: {row}");
    assert!(is_ok(&client.command(&ping())), "and it goes on");
    proxy.stop();
}

#[test]
fn bytes_of_another_protocol_go_through_and_are_told_once() {
    let proxy = proxy();
    let mut stream = TcpStream::connect(&proxy.address).expect("the proxy listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request goes out");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("mongod answers and closes");
    assert!(answer.contains("HTTP"), "what mongod says to a browser: {answer:?}");

    let log = proxy.stop().log;
    let errors: Vec<_> = log.events("protocolErrorEvent").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].str("side"), errors[0].i64("offset")), (Some("client"), Some(0)));
    assert_eq!(errors[0].str("action"), Some("tunnelled"));
    assert!(!errors[0].0.to_string().contains("GET /"), "no byte of the payload is in it");
    assert_eq!(log.commands().count(), 0);
}

#[test]
fn a_message_that_cannot_be_read_is_forwarded_and_the_next_one_is_read() {
    let proxy = proxy();
    let mut client = Client::handshake(&proxy.address, "garbled");
    assert!(is_ok(&client.command(&ping())));
    // A body whose inner string runs over its end: mongod answers such a message with an error, or hangs up.
    let mut broken = op_msg(77, 0, &doc! { "find": "x", "$db": "faults" });
    broken[30] = 0x7f;
    let outcome = |client: &mut Client| {
        client.send_bytes(&broken).expect("it goes out");
        client.receive().ok().map(|message| (message.response_to, message.body.get("code").cloned()))
    };
    let mut direct = Mongod::shared().client();
    assert!(is_ok(&direct.command(&hello("garbled"))));
    let through = outcome(&mut client);
    assert_eq!(through, outcome(&mut direct), "as without the proxy");
    if through.is_some() {
        assert!(is_ok(&client.command(&doc! { "buildInfo": 1, "$db": "admin" })));
    }

    let log = proxy.stop().log;
    let errors: Vec<_> = log.events("protocolErrorEvent").collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!((errors[0].str("side"), errors[0].str("action")), (Some("client"), Some("forwarded")));
    assert_eq!(log.ends("buildInfo").count(), usize::from(through.is_some()));
}

#[test]
fn an_insane_length_makes_a_tunnel() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = server.local_addr().expect("a bound socket has an address");
    let echo = thread::spawn(move || {
        let (mut stream, _) = server.accept().expect("the proxy connects");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("the client ends");
        stream.write_all(&bytes).expect("all goes back");
    });
    let proxy = Proxy::start(&format!("mongodb://{address}"), &[]);
    let mut sent = op_msg(1, 0, &find("before"));
    sent.extend((-5_i32).to_le_bytes());
    sent.extend((0..100_000_u32).flat_map(u32::to_le_bytes));
    let mut client = Client::connect(&proxy.address);
    client.send_bytes(&sent).expect("it goes out");
    client.close_sending();
    assert!(client.read_to_end().expect("the echo ends") == sent, "every byte went there and back");
    echo.join().expect("the server ends");

    let log = proxy.stop().log;
    assert_eq!(log.events("protocolErrorEvent").filter(|it| it.str("action") == Some("tunnelled")).count(), 1);
    let error = log.events("protocolErrorEvent").next().expect("it was told");
    let before = i64::try_from(op_msg(1, 0, &find("before")).len()).expect("a short message");
    assert_eq!((error.str("side"), error.i64("offset")), (Some("client"), Some(before)));
    assert_eq!(log.end("find").event(), "commandFailedEvent", "what was open when it began has its end");
}

#[test]
fn a_session_that_runs_over_many_connections_leaves_each_whole() {
    let proxy = proxy();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let address = proxy.address.clone();
            thread::spawn(move || {
                for round in 0..5 {
                    let mut client = Client::handshake(&address, "many");
                    for id in 0..20 {
                        let insert = doc! { "insert": "many", "documents": [{ "w": worker, "r": round, "i": id }] };
                        let mut insert = insert;
                        insert.insert("$db", Bson::from("faults"));
                        assert!(is_ok(&client.command(&insert)));
                    }
                    if round % 2 == 0 { client.reset() } else { drop(client) }
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("a worker ends well"));
    Mongod::shared().client().command(&doc! { "drop": "many", "$db": "faults" });
    let log = proxy.stop().log;
    assert_eq!(log.ends("insert").count(), 8 * 5 * 20);
    assert_eq!(log.events("connectionCreatedEvent").count(), 40);
    assert_eq!(log.events("connectionClosedEvent").count(), 40);
}

/// Its monitor would have spoken again by then, so it is an application's, waiting to be used.
#[test]
fn an_idle_connection_is_an_applications() {
    let proxy = proxy();
    let mut client = Client::connect(&proxy.address);
    // Later than the connection, as a slow client's is.
    thread::sleep(Duration::from_millis(300));
    client.command(&hello("idle"));
    wait_for("the idle connection's events", Duration::from_secs(25), || {
        proxy.log_so_far().contains("\"connectionReadyEvent\"").then_some(())
    });
}

/// It answers and closes before it has read all of the request: the answer must come through.
#[test]
fn a_server_that_closes_early_has_its_say() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = server.local_addr().expect("it is bound").to_string();
    let serve = thread::spawn(move || {
        for mut stream in server.incoming().take(EARLY_CLOSES).flatten() {
            let mut part = vec![0; 1 << 20];
            stream.read_exact(&mut part).expect("the request comes");
            let mut reply = op_msg(1, 0, &doc! { "ok": 0.0, "code": 11602 });
            reply[8..12].copy_from_slice(&part[4..8]);
            stream.write_all(&reply).expect("the reply goes out");
        }
    });
    let proxy = Proxy::start(&format!("mongodb://{address}"), &[]);
    for _ in 0..EARLY_CLOSES {
        let mut client = Client::connect(&proxy.address);
        let request = doc! { "insert": "c", "documents": [{ "text": "x".repeat(8 << 20) }], "$db": "early" };
        // The rest of it may find nobody.
        _ = client.send(0, &request);
        assert_eq!(client.receive().expect("the reply comes").body.get_i32("code").ok(), Some(11602));
    }
    serve.join().expect("the server ends");
    // None of the requests was whole, so none of them was sent.
    assert_eq!(proxy.stop().log.commands().count(), 0);
}

const EARLY_CLOSES: usize = 10;
