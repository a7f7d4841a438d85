//! What the proxy cannot get for a while: a server's address, descriptors.

use std::process::Command;
use std::time::Duration;

use bson::doc;
use rustix::process::{Signal, kill_process};

use crate::logged::Logged;
use crate::server::Server;
use crate::support::client::{Client, hello, is_ok};
use crate::support::{now, wait_for};
use crate::usage::{descriptors, wait_for_descriptors};

pub(crate) fn name_that_leads_nowhere() -> String {
    let proxy = Logged::start("mongodb://no-such-host.invalid:27017", &[]);
    let asked = now();
    for _ in 0..3 {
        // It is not listened to for long: what it says is there before the proxy takes it in.
        kill_process(proxy.pid(), Signal::STOP).expect("it runs");
        let mut client = Client::connect(proxy.address());
        client.send(0, &doc! { "ping": 1, "$db": "admin" }).expect("the listener is there");
        kill_process(proxy.pid(), Signal::CONT).expect("it runs");
        assert!(client.receive().is_err(), "the client is closed, not left waiting");
    }
    let waited = asked.elapsed() / 3;
    let (tally, said) = proxy.end();
    let told = said.lines().filter(|line| line.starts_with("upstream no-such-host.invalid:27017: ")).count();
    assert_eq!(told, 1, "it is said once: {said}");
    assert_eq!((tally.opened, tally.failed, tally.succeeded), (3, 3, 0), "{tally:?}");
    format!("turned away in {waited:.1?}, said once")
}

/// Descriptors that the proxy has in all; each connection takes two.
const DESCRIPTORS: usize = 64;

pub(crate) fn descriptors_run_out() -> String {
    let server = Server::start();
    let mut command = Command::new("sh");
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_mongotap")]);
    let proxy = Logged::run(command, &server.uri(), &["--threads", "2"]);
    let files = descriptors(proxy.pid());
    let mut served: Vec<_> = (0..10).map(|_| Client::handshake(proxy.address(), "early")).collect();
    // More than there is room for: some are turned away, some wait where the system keeps them.
    let crowd: Vec<_> = (0..DESCRIPTORS).filter_map(|_| Client::try_connect(proxy.address())).collect();
    wait_for("descriptors to run out", Duration::from_secs(30), || {
        (descriptors(proxy.pid()) + 1 >= DESCRIPTORS).then_some(())
    });
    for client in &mut served {
        assert!(is_ok(&client.command(&doc! { "ping": 1, "$db": "admin" })), "who is served goes on");
    }
    drop(crowd);
    let freed = now();
    wait_for("room for another", Duration::from_secs(30), || {
        Client::try_connect(proxy.address())?.try_command(&hello("late")).filter(is_ok)
    });
    let recovered = freed.elapsed();
    drop(served);
    wait_for_descriptors(proxy.pid(), files);
    let (tally, said) = proxy.end_of_hostile();
    let lines = said.lines().filter(|line| line.starts_with("cannot ")).collect::<Vec<_>>();
    for trouble in ["cannot accept a connection: ", "cannot connect to a server: "] {
        assert!(lines.iter().filter(|line| line.starts_with(trouble)).count() <= 1, "it is said once: {said}");
    }
    assert!(lines.iter().any(|line| line.contains("oo many open files")), "it is said what is wanting: {said}");
    assert!(said.contains("\nhint: each connection takes two"), "and the way out: {said}");
    assert!(!said.contains("upstream "), "of the server, nothing: {said}");
    let (room, warned) =
        ((DESCRIPTORS - files) / 2, format!("warning: {DESCRIPTORS} descriptors, of which {files} are"));
    assert!(said.contains(&warned) && said.contains(&format!("are enough for {room} connections\nhint: ")), "{said}");
    assert_eq!((tally.succeeded, tally.failed), (10, 0), "{tally:?}");
    let why = "there is no descriptor for a connection to the server: ";
    assert!(tally.messages.keys().all(|message| message.starts_with(why)), "the log says why: {tally:?}");
    // One that had said hello may pass for a monitor's, of which no end is told.
    let closed = tally.closed_by.get("proxy").copied().unwrap_or_default();
    assert!((1..=tally.errors).contains(&closed), "of each: {tally:?}");
    assert_eq!(tally.closed_by.get("server"), None, "the server has closed none: {tally:?}");
    format!("{} connections came; recovered {recovered:.1?} after there was room", tally.opened)
}

/// Whoever starts it has not asked for more descriptors than usual, but may have them.
pub(crate) fn descriptors_are_asked_for() -> String {
    let server = Server::start();
    let mut command = Command::new("sh");
    let limited = format!("ulimit -S -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    command.args(["-c", &limited, env!("CARGO_BIN_EXE_mongotap")]);
    let proxy = Logged::run(command, &server.uri(), &[]);
    let mut clients: Vec<_> = (0..DESCRIPTORS).map(|_| Client::handshake(proxy.address(), "many")).collect();
    for client in &mut clients {
        assert!(is_ok(&client.command(&doc! { "ping": 1, "$db": "admin" })));
    }
    let files = descriptors(proxy.pid());
    drop(clients);
    let (tally, said) = proxy.end();
    assert!(!said.contains("warning: "), "{said}");
    assert_eq!((tally.opened, tally.succeeded), (DESCRIPTORS as u64, DESCRIPTORS as u64), "{tally:?}");
    format!("{files} of them, where {DESCRIPTORS} were given")
}
