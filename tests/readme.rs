//! The README's commands, each run as it stands there, but for ports, which are free ones here.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use bson::doc;
use rustix::process::{Pid, Signal, kill_process};

use support::certificates::client_config;
use support::client::{Client, hello};
use support::mongod::{Mongod, Options, SET_NAME};
use support::wait_for;

/// The lines of the README's `sh` blocks, in order.
fn commands() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
    let mut commands = Vec::new();
    let mut is_shell = false;
    for line in readme.lines() {
        match line.strip_prefix("```") {
            Some(language) => is_shell = language == "sh",
            None if is_shell => commands.push(line.to_owned()),
            None => {}
        }
    }
    commands
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs what follows `mongotap` on a line.
fn mongotap(arguments: &str, directory: &Path) -> Command {
    let mut command = support::proxy::command();
    command.args(arguments.split_whitespace()).current_dir(directory).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &str, directory: &Path) -> String {
    let output = mongotap(arguments, directory).output().expect("the command starts");
    text_of(arguments, &output)
}

fn text_of(arguments: &str, output: &Output) -> String {
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "mongotap {arguments}: {}\n{out}{errors}", output.status);
    out.into_owned()
}

/// Runs a proxy, sends a command through it, and ends it as Ctrl-C does; what it printed.
fn run_proxy(arguments: &str, directory: &Path) -> String {
    // A set of one member does for a set: with more, more listeners would be said.
    let set =
        arguments.contains("replicaSet=").then(|| Mongod::start(Options { replica_set: true, ..Options::default() }));
    let port = format!(":{}", set.as_ref().unwrap_or_else(|| Mongod::shared()).port());
    let mut arguments = arguments.replace(":27017", &port).replace("=rs0", &format!("={SET_NAME}")).replace('\'', "");
    if !arguments.contains("--listen") {
        arguments.push_str(" --listen 127.0.0.1:0");
    }
    if !arguments.contains("--upstream") {
        arguments.push_str(&format!(" --upstream mongodb://127.0.0.1{port}"));
    }
    let errors = directory.join("stderr.txt");
    let mut command = mongotap(&arguments, directory);
    let mut child: Child =
        command.stderr(fs::File::create(&errors).expect("a file")).spawn().expect("the command starts");
    let address = wait_for("the ready line", Duration::from_secs(30), || {
        let text = fs::read_to_string(&errors).ok()?;
        assert!(child.try_wait().expect("a child").is_none(), "mongotap {arguments}: {text}");
        let (_, rest) = text.split_once("listening on ")?;
        text.contains("\nuse mongodb://").then(|| rest.split_once(" -> ").expect("both ends").0.to_owned())
    });
    let mut client = match arguments.contains("--tls-listen-certificate") {
        true => {
            let ca = directory.join("tls/ca.pem");
            Client::connect_tls(&address, &client_config(ca.to_str().expect("a path"), None))
        }
        false => Client::connect(&address),
    };
    client.command(&hello("readme"));
    client.command(&doc! { "insert": "orders", "documents": [{ "n": 1 }], "$db": "shop" });
    client.command(&doc! { "mongotapNoSuchCommand": 1, "$db": "shop" });
    drop(client);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it runs");
    let output = child.wait_with_output().expect("a child");
    assert!(fs::read_to_string(&errors).expect("a file").contains("insert"), "it ends with its statistics");
    text_of(&arguments, &output)
}

#[test]
fn every_command_does_what_the_readme_says() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::copy(root().join("proxy.toml"), directory.path().join("proxy.toml")).expect("proxy.toml is there");
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("a manifest");
    let commands = commands();
    for command in &commands {
        match command.as_str() {
            "cargo run --release -- demo" => {
                assert!(run("demo", directory.path()).contains("findAndModify"));
            }
            // Around a real suite each: tests/suites.rs.
            line if line.starts_with("mongotap exec ") => {}
            // This is a part of it.
            "cargo test" => {}
            // It is built with the tests and takes minutes to run.
            "cargo bench --bench overhead" => assert!(manifest.contains("name = \"overhead\"")),
            other => {
                let arguments = other.strip_prefix("mongotap ").unwrap_or_else(|| panic!("{other}: no test runs it"));
                let printed = if arguments.starts_with("proxy") {
                    run_proxy(arguments, directory.path())
                } else {
                    let port = format!(":{}", Mongod::shared().port());
                    run(&arguments.replace(":27017", &port), directory.path())
                };
                let is_quiet = arguments.contains("--slower-than") || arguments.starts_with("convert");
                assert!(is_quiet || !printed.is_empty(), "{other} printed nothing");
            }
        }
    }
    assert!(commands.len() >= 9, "{commands:?}");
}
