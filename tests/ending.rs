//! How the proxy ends when what it writes to does not help: a reader that has stopped, a disk that is full.
//!
//! The server is a thread that answers every command with `ok`.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use bson::{Document, doc};
use mongotap::Proxy;
use mongotap::config::{Config, Endpoint};

use support::client::{Client, op_msg, receive};
use support::proxy;
use support::{now, wait_for};

/// Serves until the test process ends; gives the connection string.
fn server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer(stream));
        }
    });
    format!("mongodb://{address}")
}

fn answer(mut stream: TcpStream) {
    while let Ok(request) = receive(&mut stream) {
        let mut reply = op_msg(1, 0, &doc! { "ok": 1.0 });
        reply[8..12].copy_from_slice(&request.request_id.to_le_bytes());
        if stream.write_all(&reply).is_err() {
            return;
        }
    }
}

fn insert() -> Document {
    doc! { "insert": "orders", "documents": [{ "text": "x".repeat(2000) }], "$db": "shop" }
}

/// What an insert takes in a log, at least, and what may wait to be written.
const INSERT_LEN: usize = 2000;
const QUEUE_LEN: usize = 65_536;

/// Starts `mongotap proxy` through a command that takes its arguments at the end.
fn start(command: Command, arguments: &[&str]) -> proxy::Proxy {
    proxy::Proxy::run(command, &[&["--upstream", &server(), "--drain", "200ms"], arguments].concat())
}

#[test]
fn sigterm_frees_connections_that_wait_for_a_reader_who_has_stopped() {
    let mut command = proxy::command();
    command.stdout(Stdio::piped());
    let queue = QUEUE_LEN.to_string();
    let log = ["--log", "-", "--log-format", "jsonl", "--log-on-overflow", "block", "--log-queue-bytes", &queue];
    let program = start(command, &log);
    let answered = Arc::new(AtomicUsize::new(0));
    for _ in 0..4 {
        let (address, answered) = (program.address.clone(), Arc::clone(&answered));
        thread::spawn(move || {
            let mut client = Client::connect(&address);
            while client.try_command(&insert()).is_some() {
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    wait_for("the clients to stand still", Duration::from_secs(60), || {
        let before = answered.load(Ordering::SeqCst);
        thread::sleep(Duration::from_secs(1));
        // Those whom a busy machine does not let on stand still as well, but hardly with so much answered.
        (before * INSERT_LEN > QUEUE_LEN / 2 && answered.load(Ordering::SeqCst) == before).then_some(())
    });
    let told = now();
    let said = program.end();
    assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
    assert!(said.contains("- does not end; "), "what is lost is said: {said}");
    assert!(said.contains(" exchanges before it"), "with those that found no room: {said}");
}

/// Of a pipe, as in `mongotap proxy --log - | head`. A disk that fails is something else: it may end the proxy.
#[test]
fn what_nobody_reads_any_more_is_told_and_counted_and_the_proxy_goes_on() {
    for (format, on_error) in [("jsonl", "pass"), ("text", "stop")] {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = proxy::command();
        command.stdout(writer);
        let program = start(command, &["--log", "-", "--log-format", format, "--log-on-error", on_error]);
        let mut client = Client::connect(&program.address);
        let mut ask = |times: usize| {
            (0..times).for_each(|_| _ = client.command(&doc! { "ping": 1, "$db": "shop" }));
        };
        ask(1);
        let mut read = Vec::new();
        while !["succeeded", "Succeeded"].iter().any(|it| String::from_utf8_lossy(&read).contains(it)) {
            let mut some = [0; 4096];
            let count = reader.read(&mut some).expect("the log is there");
            read.extend_from_slice(&some[..count]);
        }
        drop(reader);
        ask(20);
        let line = "log -: nobody reads it any more; what comes is left out, and counted\n";
        wait_for(line, Duration::from_secs(10), || program.stderr().contains(line).then_some(()));
        ask(30);
        let said = program.end();
        assert_eq!(said.matches("log -: ").count(), 2, "{said}");
        assert!(said.contains("log -: 50 exchanges (") && said.contains(" bytes) are missing\n"), "{said}");
    }
}

/// As long as it is written it has no end, and nobody says that it lacks one.
#[test]
fn a_log_on_stdout_that_is_still_written_is_not_taken_for_one_without_its_end() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let log = directory.path().join("log.jsonl");
    let mut command = proxy::command();
    command.stdout(std::fs::File::create(&log).expect("the directory takes files"));
    let program = start(command, &["--log", "-", "--log-format", "jsonl"]);
    Client::connect(&program.address).command(&doc! { "ping": 1, "$db": "shop" });
    wait_for("the log", Duration::from_secs(10), || log.metadata().is_ok_and(|it| it.len() > 0).then_some(()));
    let said = || {
        let output = proxy::command().arg("stats").arg(&log).output().expect("it runs");
        String::from_utf8(output.stderr).expect("it says UTF-8")
    };
    assert_eq!(said(), "");
    let copy = directory.path().join("copy.jsonl");
    std::fs::copy(&log, &copy).expect("the log is there");
    program.end();
    assert_eq!(said(), "");
    let output = proxy::command().arg("stats").arg(&copy).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("or this is a copy"), "{output:?}");
}

/// Has a log reach the largest size that a file may have, and the proxy end there. Gives how many of so many commands end
/// in the log, and how many are said to be missing.
fn ended_and_missing(log: &str, format: &str, commands: usize) -> (usize, usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut command = Command::new("sh");
    // 8 blocks of 512 bytes. That there are no more is told by an error if the signal for it is ignored.
    command.args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\" >>log", env!("CARGO_BIN_EXE_mongotap")]);
    command.current_dir(directory.path());
    let program = start(command, &["--log", log, "--log-format", format]);
    let mut client = Client::connect(&program.address);
    for _ in 0..commands {
        client.command(&doc! { "ping": 1, "$db": "shop" });
    }
    drop(client);
    // The disk was full to the end, and no file tells what is missing.
    let said = program.end_with(4);
    assert!(said.contains("\nhint: make room there, or write elsewhere; on_error = \"stop\" ends the proxy"), "{said}");
    let written = std::fs::read_to_string(directory.path().join("log")).expect("the log is text");
    let whole = written.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let ended =
        whole.filter(|line| line.contains(" succeeded in ") || line.contains("\"commandSucceededEvent\"")).count();
    let missing = said.lines().find_map(|line| line.strip_prefix(&format!("log {log}: "))?.split_once(" exchanges ("));
    let (missing, _) = missing.unwrap_or_else(|| panic!("it is not said what is missing: {said}"));
    (ended, missing.parse().expect("a number of exchanges"))
}

#[test]
fn what_a_full_disk_cost_is_told_to_the_last_exchange() {
    for (log, format) in [("log", "jsonl"), ("log", "text"), ("-", "jsonl"), ("-", "text")] {
        let (ended, missing) = ended_and_missing(log, format, 150);
        assert!(ended > 0 && missing > 50, "{log} {format}: {ended} + {missing}");
        assert_eq!(ended + missing, 150, "{log} {format}: {ended} are there");
    }
}

#[test]
fn a_program_ends_it_in_a_runtime_without_time() {
    // A server that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let upstream = format!("mongodb://{}", silent.local_addr().expect("a bound socket has an address"));
    let drain = Duration::from_millis(200);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime is to be had");
    let waited = runtime.block_on(async {
        let listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let config = Config { listen, drain, logs: Vec::new(), ..Config::default() };
        let proxy = Proxy::builder().config(config).upstream(&upstream).start().await.expect("it starts");
        let mut client = Client::connect(&proxy.endpoint().to_string());
        client.send(0, &insert()).expect("the request goes out");
        let _server = silent.accept().expect("the proxy connects");
        thread::sleep(Duration::from_millis(100));
        let told = now();
        proxy.shutdown().await;
        told.elapsed()
    });
    assert!((drain..Duration::from_secs(10)).contains(&waited), "{waited:?}");
}

#[test]
fn that_no_connection_can_be_accepted_is_said_once() {
    let mut said = 0;
    // A connection takes two descriptors: with one of these limits the second is wanting, with the other the first.
    for limit in [40, 41] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_mongotap")]);
        let program = start(command, &["--threads", "1", "--log", "/dev/null"]);
        let mut clients = Vec::new();
        for _ in 0..30 {
            clients.extend(Client::try_connect(&program.address));
            thread::sleep(Duration::from_millis(5));
        }
        wait_for("want of descriptors", Duration::from_secs(30), || program.stderr().contains("cannot ").then_some(()));
        // Meanwhile it tries several times.
        thread::sleep(Duration::from_millis(400));
        let lines = program.end();
        let lines = lines.lines().filter(|line| line.starts_with("cannot accept a connection: ")).count();
        assert!(lines <= 1, "{lines} times");
        said += lines;
    }
    assert!(said > 0, "there was want of descriptors");
}
