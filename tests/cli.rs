//! The real binary: its help, its usage errors, `check`, and its exit codes.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml");

fn mongotap(directory: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongotap"));
    command.args(args).current_dir(directory).stdin(Stdio::null()).output().unwrap()
}

/// What it printed and its exit code: stdout, stderr, code.
fn run(args: &[&str]) -> (String, String, i32) {
    let directory = tempfile::tempdir().unwrap();
    text(mongotap(directory.path(), args))
}

fn text(output: Output) -> (String, String, i32) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn help_and_version_go_to_stdout() {
    let (out, err, code) = run(&["--help"]);
    assert!(out.contains("Usage: mongotap <COMMAND>") && out.contains("Exit codes:"), "{out}");
    assert!(out.contains("mongodb://127.0.0.1:27027/?directConnection=true"), "{out}");
    assert_eq!((err.as_str(), code), ("", 0));
    let (out, _, code) = run(&["--version"]);
    assert_eq!((out.as_str(), code), (concat!("mongotap ", env!("CARGO_PKG_VERSION"), "\n"), 0));
}

#[test]
fn usage_errors_are_said_in_one_form() {
    let (out, err, code) = run(&["chek"]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert_eq!(err, "mongotap: unrecognized subcommand 'chek'\nhint: a similar subcommand exists: 'check'\n");
    let (_, err, code) = run(&["check", "--confg", "x"]);
    assert_eq!(err, "mongotap: unexpected argument '--confg' found\nhint: a similar argument exists: '--config'\n");
    assert_eq!(code, 2);
    for command in ["proxy", "exec", "show"] {
        let (_, err, _) = run(&[command, "--redact", "users.ssn"]);
        assert!(err.contains("\nhint: --redact-fields PATHS, of proxy") && err.lines().count() == 2, "{err}");
    }
    let key = ["proxy", "--redact-fields", "users.ssn", "--redact-key", "file:/dev/null"];
    let (_, err, code) = run(&key);
    assert_eq!(
        (err.lines().next(), code),
        (Some("mongotap: the key of [redact]: the first line of /dev/null is empty"), 2)
    );
    let (_, err, code) = run(&["check", "--config"]);
    assert!(err.starts_with("mongotap: a value is required for '--config <FILE>'"), "{err}");
    assert!(err.ends_with("\nhint: --help lists what can be given\n"), "{err}");
    let (_, err, _) = run(&["stats", "log.jsonl", "--format", "xml"]);
    assert!(err.contains("'--format <FORMAT>' [possible values: table, json]\nhint: "), "{err}");
    assert_eq!(code, 2);
    let (out, err, code) = run(&[]);
    assert_eq!((out.as_str(), code), ("", 2));
    assert!(err.starts_with("mongotap: no command given\nhint: "), "{err}");
}

#[test]
fn check_says_what_the_shipped_file_does() {
    let (out, err, code) = run(&["check", "--config", SHIPPED]);
    assert_eq!((err.as_str(), code), ("", 0));
    for part in [
        "proxy.toml is good\n",
        "listen             127.0.0.1:27027\n",
        "upstream           mongodb://127.0.0.1:27017\n",
        "max_message_bytes  48 MB\n",
        "drain              5s\n",
        "log -\n",
        "  format             compact\n",
        "  events             command, topology\n",
        "  namespaces         all\n",
        "  max_document_bytes 10 kB\n",
        "  rotate_bytes       never\n",
    ] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
}

#[test]
fn check_finds_the_file_of_the_directory_or_says_that_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let (_, err, code) = text(mongotap(directory.path(), &["check"]));
    assert!(err.starts_with("mongotap: proxy.toml: not in the current directory\nhint: "), "{err}");
    assert_eq!(code, 2);
    std::fs::write(directory.path().join("proxy.toml"), "log = []\n").unwrap();
    let (out, err, code) = text(mongotap(directory.path(), &["check"]));
    assert_eq!((err.as_str(), code), ("", 0));
    let last = "proxy reads this file only when it is named: mongotap proxy --config proxy.toml\n";
    assert!(out.contains("\nno log\nno capture\nredact\n  fields             none, credentials go anyway\n"), "{out}");
    assert!(out.ends_with(last), "{out}");
    let (help, ..) = run(&["check", "--help"]);
    assert!(help.contains("proxy itself reads one only when --config names it"), "{help}");
}

#[test]
fn check_refuses_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    for (text, message) in [
        ("upstream = \"mongodb:/localhost\"", "upstream: \"mongodb:/localhost\" is not a connection string\nhint: "),
        ("\nlisten_on = 1", "line 2: unknown key \"listen_on\"\nhint: "),
        ("[redact]\nfields = \"ssn\"", "redact.fields: \"ssn\" is not a path to a field\nhint: "),
        ("[replay]\nscope = \"all\"", "replay.scope: \"all\" is not known\nhint: "),
        ("upstream = \"mongodb://u:pw@h\"", "upstream: credentials do not belong here\nhint: they belong in the appl"),
    ] {
        std::fs::write(directory.path().join("proxy.toml"), text).unwrap();
        let (out, err, code) = self::text(mongotap(directory.path(), &["check"]));
        assert_eq!((out.as_str(), code), ("", 2));
        assert!(err.starts_with(&format!("mongotap: proxy.toml: {message}")), "{err}");
    }
    let text = "[redact]\nfields = [\"users.ssn\"]\nmode = \"hash\"\nkey = \"file:none.key\"";
    std::fs::write(directory.path().join("proxy.toml"), text).unwrap();
    let (out, err, code) = self::text(mongotap(directory.path(), &["check"]));
    assert_eq!((out.as_str(), code), ("", 2));
    let said = "mongotap: the key of [redact]: none.key: no such file or directory\nhint: ";
    assert!(err.starts_with(said), "{err}");
    let proxy = self::text(mongotap(directory.path(), &["proxy", "--config", "proxy.toml", "--listen", "127.0.0.1:0"]));
    assert_eq!(proxy, (out, err, code));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    // The pipe's reader has ended before anything is written.
    let program = env!("CARGO_BIN_EXE_mongotap");
    let script = format!("{{ sleep 0.2; {program:?} check --config {SHIPPED:?}; echo $? >&2; }} | true");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "0\n");
}

/// A proxy with a log to `-` that is served by nobody; its ready lines are read.
fn proxy(arguments: &[&str]) -> (Child, BufReader<ChildStderr>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongotap"));
    command.args(["proxy", "--listen", "127.0.0.1:0"]).args(arguments);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
    (child, stderr)
}

#[test]
fn a_log_whose_reader_has_gone_ends_quietly_and_the_proxy_goes_on() {
    let (mut child, mut stderr) = proxy(&["--log", "-", "--log-format", "jsonl", "--log-on-error", "stop"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"seq\":0,\"event\":\"recorderStartedEvent\""), "{line}");
    drop(stdout); // the last line will find nobody
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert!(said.starts_with("use mongodb://127.0.0.1:") && !said.contains("log"), "{said}");
    assert!(said.ends_with("?directConnection=true\nno commands\n"), "{said}");
}

#[test]
fn a_format_that_a_name_belies_is_warned_of() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl").to_str().unwrap().to_owned();
    let (mut child, mut stderr) = proxy(&["--log", "-", "--log", &path, "--log-format", "compact"]);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    stderr.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let hint = "hint: --log-format holds for all logs; [[log]] in the file of --config says it for each\n";
    assert_eq!(line, format!("warning: log {path} is not in the format jsonl, but compact\n{hint}"));
    let (help, ..) = run(&["proxy", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("each --log-… flag holds for all of them"), "{help}");
}

#[test]
fn a_log_that_may_not_fail_ends_the_proxy_with_code_4() {
    let (mut child, mut stderr) = proxy(&["--log", "/dev/full", "--log-format", "jsonl", "--log-on-error", "stop"]);
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    let hint = "hint: make room there, or write elsewhere; on_error = \"pass\" goes on without it\n";
    assert!(said.ends_with(&format!("\nmongotap: log /dev/full: no space left on device\n{hint}")), "{said}");
}

#[test]
fn what_cannot_be_written_has_a_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/capture/v1.mtap");
    for command in ["show", "stats"] {
        let full = std::fs::File::create("/dev/full").unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_mongotap")).args([command, capture]).stdout(full).output().unwrap();
        let (_, err, code) = text(output);
        let said = "mongotap: stdout: no space left on device\nhint: make room there, or write elsewhere\n";
        assert_eq!((err.as_str(), code), (said, 4));
    }
    // What is there of another kind is neither appended to nor put aside.
    let hint = "hint: name another file, in a directory that is there and that you may write to\n";
    let text_log = "hello\n".as_bytes();
    let event_log = b"{\"seq\":0,\"event\":\"recorderStartedEvent\"}\n";
    let capture = std::fs::read(capture).unwrap();
    let as_events = ["--log", "run", "--log-format", "jsonl"];
    let as_text = ["--log", "run", "--log-format", "text"];
    let as_capture = ["--capture", "run", "--capture-rotate-bytes", "1MB"];
    for (arguments, content, what) in [
        (&as_events[..], text_log, "log run: there is a file that is not an event log"),
        (&as_events, &capture, "log run: there is a file that is not an event log"),
        (&as_text, &capture, "log run: there is a capture"),
        (&as_text, event_log, "log run: there is an event log in jsonl"),
        (&as_capture, event_log, "capture run: there is a file that is not a capture"),
    ] {
        let run = directory.path().join("run");
        std::fs::write(&run, content).unwrap();
        let proxy = [&["proxy", "--listen", "127.0.0.1:0"], arguments].concat();
        let (_, err, code) = text(mongotap(directory.path(), &proxy));
        assert_eq!((err, code), (format!("mongotap: {what}\n{hint}"), 4), "{arguments:?}");
        assert_eq!(std::fs::read(run).unwrap(), content, "{arguments:?}");
    }
}

/// The first line that a proxy says after where it listens.
fn invitation(arguments: &[&str]) -> String {
    let (mut child, mut stderr) = proxy(arguments);
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn the_uri_to_use_can_be_used() {
    let advertised = invitation(&["--advertise", "db.example.com:27017"]);
    assert_eq!(advertised, "use mongodb://db.example.com:27017/?directConnection=true\n");
}

#[test]
fn an_address_that_cannot_be_listened_on_has_its_own_way_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let refused = |address: &str| {
        let (out, err, code) = run(&["proxy", "--listen", address]);
        assert_eq!((out.as_str(), code), ("", 4), "{err}");
        err.replace(address, "ADDRESS").replace(directory.path().to_str().unwrap(), "DIR")
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let in_use = "mongotap: ADDRESS: cannot listen: address already in use\nhint: ";
    let address = port.local_addr().unwrap().to_string();
    assert_eq!(refused(&address), format!("{in_use}--listen 127.0.0.1:0 takes a free port\n"));
    let _socket = std::os::unix::net::UnixListener::bind(path("x.sock")).unwrap();
    let hint = "another process listens there: name another path with --listen\n";
    assert_eq!(refused(&path("x.sock")), format!("{in_use}{hint}"));
    std::fs::write(path("file"), "").unwrap();
    let hint = "what is there is not a socket: name another path with --listen\n";
    assert_eq!(refused(&path("file")), format!("{in_use}{hint}"));
    let missing =
        "mongotap: ADDRESS: cannot listen: no such file or directory\nhint: make the directory DIR/no first\n";
    assert_eq!(refused(&path("no/x.sock")), missing);
}
