//! Who may connect: beyond `max_connections`, and from outside `allow`, a client is closed at once, and the log says why.

mod support;

use std::time::Duration;

use bson::{Document, doc};

use support::client::{Client, is_ok};
use support::log::Log;
use support::mongod::Mongod;
use support::proxy::{Proxy, Stopped};
use support::wait_for;

fn ping() -> Document {
    doc! { "ping": 1, "$db": "admin" }
}

/// The words of the log on connections that were not let in.
fn refusals(log: &Log) -> Vec<&str> {
    let refused = log.events("protocolErrorEvent").inspect(|event| {
        assert_eq!((event.str("side"), event.str("action")), (Some("client"), Some("closed")), "{event:?}");
    });
    refused.map(|event| event.str("message").expect("it says why")).collect()
}

/// Whether the proxy closes a new connection without a word.
fn is_refused(address: &str) -> bool {
    let mut client = Client::connect(address);
    client.try_command(&ping()).is_none()
}

#[test]
fn connections_beyond_the_most_are_refused_until_one_goes() {
    let proxy = Proxy::start(&Mongod::shared().uri(), &["--max-connections", "2"]);
    let mut first = Client::handshake(&proxy.address, "first");
    let second = Client::handshake(&proxy.address, "second");
    for _ in 0..20 {
        assert!(is_refused(&proxy.address), "a third one is not served");
    }
    assert!(is_ok(&first.command(&ping())), "those that are served go on");
    drop(second);
    let again = || (!is_refused(&proxy.address)).then_some(());
    wait_for("the place of one that went to be free again", Duration::from_secs(30), again);
    let Stopped { log, stderr, .. } = proxy.stop();
    let said = stderr.lines().filter(|line| line.starts_with("refused 127.0.0.1:")).count();
    assert_eq!(said, 1, "it is said once: {stderr}");
    let refused = refusals(&log);
    assert!(refused.len() >= 20, "each is in the log: {refused:?}");
    let reason = "2 connections are served already, which is max_connections";
    assert!(refused.iter().all(|message| *message == reason), "{refused:?}");
}

#[test]
fn clients_from_elsewhere_are_refused() {
    let proxy = Proxy::start(&Mongod::shared().uri(), &["--allow", "10.1.0.0/16", "--allow", "127.0.0.2"]);
    assert!(is_refused(&proxy.address));
    let Stopped { log, stderr, .. } = proxy.stop();
    assert!(stderr.contains(": connections from there are not in `allow`"), "{stderr}");
    assert_eq!(refusals(&log), ["connections from there are not in `allow`"]);
    assert_eq!(log.commands().count(), 0, "nothing of it was read");

    let proxy = Proxy::start(&Mongod::shared().uri(), &["--allow", "127.0.0.0/8,::1"]);
    assert!(is_ok(&Client::handshake(&proxy.address, "allowed").command(&ping())));
    assert_eq!(refusals(&proxy.stop().log), Vec::<&str>::new());
}

#[test]
fn a_listener_that_others_can_reach_is_warned_of() {
    let upstream = Mongod::shared().uri();
    let warns = |listen: &str, arguments: &[&str]| {
        let proxy = Proxy::listen(listen, &upstream, arguments);
        let stderr = proxy.end();
        let warnings = stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned);
        warnings.collect::<Vec<_>>()
    };
    let warning = |whom: &str| {
        format!(
            "warning: 0.0.0.0 may be reached from other machines, by {whom}, and is not encrypted: see [tls.listen]"
        )
    };
    assert_eq!(warns("0.0.0.0:0", &[]), [warning("anyone who reaches it")]);
    assert_eq!(warns("0.0.0.0:0", &["--allow", "10.0.0.0/8"]), [warning("what `allow` lets in")]);
    assert_eq!(warns("127.0.0.1:0", &[]), Vec::<String>::new());
    assert_eq!(warns("[::1]:0", &[]), Vec::<String>::new());
}
