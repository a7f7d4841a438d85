//! TLS on either side of the proxy, on both and on none: real drivers and a real mongod, with and without authentication,
//! large messages and closed halves; and that nothing secret is in any log.

mod support;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bson::doc;

use support::certificates::{self, client_config, file, in_uri};
use support::client::{Client, is_ok};
use support::manifest::{self, Manifest};
use support::mongod::{Mongod, Options, PASSWORD, Tls, USER};
use support::proxy::Proxy;
use support::relay::{self, Relay};
use support::wait_for;

/// Where TLS is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sides {
    None,
    Terminated,
    Originated,
    Both,
}

impl Sides {
    const ALL: [Self; 4] = [Self::None, Self::Terminated, Self::Originated, Self::Both];

    fn client(self) -> bool {
        matches!(self, Self::Terminated | Self::Both)
    }

    fn server(self) -> bool {
        matches!(self, Self::Originated | Self::Both)
    }

    /// The proxy's arguments.
    fn arguments(self) -> Vec<String> {
        let mut arguments = Vec::new();
        if self.client() {
            arguments.extend(["--tls-listen-certificate".to_owned(), file("server.pem")]);
        }
        if self.server() {
            arguments.extend(["--tls-upstream-ca".to_owned(), file("ca.pem")]);
        }
        arguments
    }

    /// What an application's URI needs beside the one that the proxy prints.
    fn options(self) -> String {
        if self.client() { format!("&tlsCAFile={}", in_uri("ca.pem")) } else { String::new() }
    }
}

/// A proxy that writes logs of all formats.
struct Logged {
    proxy: Proxy,
    directory: tempfile::TempDir,
}

impl Logged {
    fn start(upstream: &str, arguments: &[String]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let text = directory.path().join("events.txt").display().to_string();
        let mut all = vec!["--log", &text, "--log", "-", "--log-phases", "app,auth,handshake,monitor,rtt"];
        all.extend(arguments.iter().map(String::as_str));
        all.extend(["--log-max-document-bytes", "0", "--log-on-overflow", "block"]);
        Self { proxy: Proxy::start(upstream, &all), directory }
    }

    /// Ends it; gives the log, after a look for secrets in all that was written.
    fn stop(self) -> support::log::Log {
        let stopped = self.proxy.stop();
        let lines = fs::read_to_string(self.directory.path().join("events.txt")).expect("a log");
        for (name, text) in [("events.txt", &lines), ("events.jsonl", &stopped.text)] {
            assert!(text.len() > 1000, "{name} has events");
            for secret in [PASSWORD, "payload", "PRIVATE KEY", "-----BEGIN"] {
                assert!(!text.contains(secret), "{secret:?} is in {name}");
            }
        }
        assert!(!stopped.stderr.contains(PASSWORD));
        stopped.log
    }
}

fn mongod(auth: bool, tls: bool) -> Mongod {
    let tls = tls.then_some(Tls::CertificatesChecked);
    Mongod::start(Options { auth, tls, ..Options::default() })
}

fn driver(name: &str) -> Manifest {
    let manifest = manifest::all().into_iter().find(|it| it.name == name).expect("a program of that name");
    assert!(manifest.is_installed(), "{name} is needed here: {}", manifest.install);
    manifest.prepare();
    manifest
}

/// Runs a driver's whole work by that URI.
fn work(driver: &Manifest, uri: &str, database: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = driver.command();
    program.env("MONGODB_URI", uri).env("MONGOTAP_TEST_DB", database).env("MONGOTAP_TEST_EVENTS", "");
    run(program, directory.path(), database);
}

/// Runs a program to its good end, three minutes at most.
fn run(mut program: Command, directory: &Path, what: &str) -> String {
    let (out, errors) = (directory.join("out"), directory.join("errors"));
    program.stdin(Stdio::null()).stdout(fs::File::create(&out).expect("a file"));
    let mut child = program.stderr(fs::File::create(&errors).expect("a file")).spawn().expect("the program starts");
    let end = support::now() + Duration::from_secs(180);
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if support::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{what} does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |path: &Path| fs::read_to_string(path).expect("a file");
    assert!(status.success(), "{what}: {status}\n{}", read(&errors));
    read(&out)
}

/// One driver's way through all sides, without authentication and with both mechanisms.
fn every_side(name: &str) {
    let driver = driver(name);
    for auth in [false, true] {
        let mongods = [mongod(auth, false), mongod(auth, true)];
        for (number, sides) in Sides::ALL.into_iter().enumerate() {
            let mongod = &mongods[usize::from(sides.server())];
            let upstream = mongod.uri() + if sides.server() { "/?tls=true" } else { "" };
            let logged = Logged::start(&upstream, &sides.arguments());
            let mut uri = logged.proxy.uri.clone() + &sides.options();
            assert_eq!(uri.contains("tls=true"), sides.client(), "the printed URI says TLS: {uri}");
            // Each mechanism with and without TLS on the client's side, differently for the two drivers.
            let mechanism = if (number + name.len()).is_multiple_of(2) { "SCRAM-SHA-1" } else { "SCRAM-SHA-256" };
            if auth {
                let user = format!("mongodb://{USER}:{}@", PASSWORD.replace(' ', "%20"));
                uri = uri.replace("mongodb://", &user) + "&authSource=admin&authMechanism=" + mechanism;
            }
            work(&driver, &uri, &format!("tls_{name}_{sides:?}"));
            let log = logged.stop();
            assert!(log.commands().count() > 100, "{sides:?}: the work is in the log");
            let ready: Vec<_> = log.events("connectionReadyEvent").collect();
            assert!(!ready.is_empty() && ready.iter().all(|it| it.proxy("tls") == Some(&sides.client().into())));
            assert_eq!(log.events("protocolErrorEvent").count(), 0);
            let sasl = log.commands().filter(|it| it.command_name().starts_with("sasl")).count();
            assert_eq!(sasl > 0, auth, "{sides:?}: authentication is seen");
        }
    }
}

#[test]
fn pymongo_on_every_side() {
    every_side("pymongo");
}

#[test]
fn the_rust_driver_on_every_side() {
    every_side("rust");
}

/// Members are found by TLS, and replies that name them are rewritten under it.
#[test]
fn a_replica_set_with_tls_on_both_sides() {
    let tls = Some(Tls::CertificatesChecked);
    let mongod = Mongod::start(Options { replica_set: true, tls, ..Options::default() });
    // The set has another name for it.
    let upstream = format!("mongodb://localhost:{}/?replicaSet=rs&tlsCAFile={}", mongod.port(), in_uri("ca.pem"));
    let logged = Logged::start(&upstream, &Sides::Terminated.arguments());
    let uri = logged.proxy.uri.clone();
    assert!(uri.ends_with("/?replicaSet=rs&tls=true"), "{uri}");
    work(&driver("pymongo"), &(uri + &Sides::Terminated.options()), "tls_set");
    let log = logged.stop();
    assert!(log.commands().count() > 100);
    assert_eq!(log.events("protocolErrorEvent").count(), 0);
}

/// Plain relays around two proxies with TLS between them: what went in is what came out.
#[test]
fn no_byte_is_changed_between_two_proxies() {
    let inner = Relay::start(&Mongod::shared().address());
    let near = Proxy::start(&format!("mongodb://{}", inner.address()), &as_str(&Sides::Terminated.arguments()));
    let far = Proxy::start(&format!("mongodb://{}/?tls=true", near.address), &as_str(&Sides::Originated.arguments()));
    let outer = Relay::start(&far.address);
    work(&driver("pymongo"), &format!("mongodb://{}/?directConnection=true", outer.address()), "tls_chain");
    let passed = relay::assert_same(outer.finish(), inner.finish());
    let (far, near) = (far.stop().log, near.stop().log);
    assert!(passed.to_server > 1_000_000 && passed.to_client > 1_000_000, "{passed:?}");
    assert_eq!(far.commands().count(), near.commands().count());
}

fn as_str(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

/// A user of a mongod that knows its clients by their certificates is the proxy's own.
#[test]
fn x509_by_the_proxys_own_certificate() {
    let options = Options { auth: true, tls: Some(Tls::CertificatesDemanded), ..Options::default() };
    let mongod = Mongod::start(options);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut python = Command::new(manifest::python());
    let uri = format!(
        "mongodb://{USER}:{}@{}/?tls=true&tlsCAFile={}&tlsCertificateKeyFile={}",
        PASSWORD.replace(' ', "%20"),
        mongod.address(),
        in_uri("ca.pem"),
        in_uri("client.pem")
    );
    let roles = "[{'role': 'readWriteAnyDatabase', 'db': 'admin'}]";
    let create = format!("c['$external'].command('createUser', {:?}, roles={roles})", certificates::CLIENT);
    python.args(["-c", &format!("import sys, pymongo; c = pymongo.MongoClient(sys.argv[1]); {create}"), &uri]);
    run(python, directory.path(), "createUser");

    let upstream = format!(
        "{}/?tls=true&tlsCAFile={}&tlsCertificateKeyFile={}",
        mongod.uri(),
        in_uri("ca.pem"),
        in_uri("client.pem")
    );
    let logged = Logged::start(&upstream, &Sides::Terminated.arguments());
    let config = client_config("ca.pem", None);
    let mut client = Client::connect_tls(&logged.proxy.address, &config);
    client.command(&support::client::hello("x509"));
    let insert = doc! { "insert": "x509", "documents": [{ "_id": 1 }], "$db": "tls" };
    assert_eq!(client.command(&insert).get_i32("code").ok(), Some(13), "not before authentication");
    let reply = client.command(&doc! { "authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external" });
    assert_eq!(reply.get_str("user").ok(), Some(certificates::CLIENT), "{reply}");
    assert_eq!(client.command(&insert).get_i32("n").ok(), Some(1));
    drop(client);
    let log = logged.stop();
    assert_eq!(log.end("authenticate").proxy_str("phase"), Some("auth"));
}

#[test]
fn large_messages_small_ones_and_a_slow_reader() {
    let mongod = mongod(false, true);
    let logged = Logged::start(&(mongod.uri() + "/?tls=true"), &Sides::Both.arguments());
    let mut client = Client::connect_tls(&logged.proxy.address, &client_config("ca.pem", None));
    client.command(&support::client::hello("large"));
    let text = "x".repeat(16_000_000);
    let reply = client.command(&doc! { "insert": "large", "documents": [{ "_id": 1, "text": &text }], "$db": "tls" });
    assert_eq!(reply.get_i32("n").ok(), Some(1), "{reply}");
    // The proxy has to keep what is not read, in two buffers, and to go on when it is.
    let find = doc! { "find": "large", "filter": { "_id": 1 }, "$db": "tls" };
    for _ in 0..3 {
        client.send(0, &find).expect("the connection stands");
    }
    std::thread::sleep(Duration::from_millis(700));
    for _ in 0..3 {
        let body = client.receive().expect("a reply").body;
        let batch = body.get_document("cursor").and_then(|it| it.get_array("firstBatch")).expect("a batch").clone();
        assert_eq!(batch[0].as_document().and_then(|it| it.get_str("text").ok()), Some(text.as_str()));
    }
    // Many small ones at a time, unacknowledged ones among them.
    const MORE_TO_COME: u32 = support::client::MORE_TO_COME;
    for number in 0..2000 {
        let insert = doc! {
            "insert": "small", "documents": [{ "_id": number }], "writeConcern": { "w": 0 }, "$db": "tls",
        };
        client.send(MORE_TO_COME, &insert).expect("the connection stands");
        client.send(0, &doc! { "ping": 1, "$db": "admin" }).expect("the connection stands");
    }
    for _ in 0..2000 {
        client.receive().expect("a reply");
    }
    let reply = client.command(&doc! { "count": "small", "$db": "tls" });
    assert_eq!(reply.get_i32("n").ok(), Some(2000), "{reply}");
    drop(client);
    let log = logged.stop();
    assert_eq!(log.ends("ping").count(), 2000);
    assert_eq!(log.events("protocolErrorEvent").count(), 0);
}

/// A client that has said all it wants to say gets its answer, and then the end.
#[test]
fn a_closed_half_gets_its_answer() {
    let mongod = mongod(false, true);
    for sides in Sides::ALL {
        let upstream = if sides.server() { &mongod } else { Mongod::shared() };
        let logged = Proxy::start(&upstream.uri(), &as_str(&sides.arguments()));
        let mut client = match sides.client() {
            true => Client::connect_tls(&logged.address, &client_config("ca.pem", None)),
            false => Client::connect(&logged.address),
        };
        client.command(&support::client::hello("half"));
        client.send(0, &doc! { "ping": 1, "$db": "admin" }).expect("the connection stands");
        client.close_sending();
        assert!(is_ok(&client.receive().expect("the answer").body));
        assert_eq!(client.read_to_end().expect("an end in good order, of TLS too"), b"", "{sides:?}");
        let log = logged.stop().log;
        let closed = log.events("connectionClosedEvent").next().expect("it is closed");
        assert_eq!((closed.str("reason"), closed.proxy_str("closedBy")), (Some("unknown"), Some("client")));
    }
}

/// A server that is killed has not said that it ends, in TLS or otherwise.
#[test]
fn a_server_that_is_killed_fails_what_it_owes() {
    let mongod = mongod(false, true);
    let proxy = Proxy::start(&mongod.uri(), &as_str(&Sides::Both.arguments()));
    let mut client = Client::connect_tls(&proxy.address, &client_config("ca.pem", None));
    client.command(&support::client::hello("killed"));
    let sleep = doc! { "find": "killed", "filter": { "$where": "sleep(20000) || true" }, "$db": "tls" };
    client.command(&doc! { "insert": "killed", "documents": [{ "_id": 1 }], "$db": "tls" });
    client.send(0, &sleep).expect("the connection stands");
    proxy.wait_for_log("$where");
    mongod.kill();
    assert!(client.receive().is_err());
    let log = proxy.stop().log;
    let message = log.end("find").0["failure"]["message"].as_str().map(str::to_owned);
    let message = message.expect("a message");
    assert!(message.starts_with("server c"), "{message}");
}

/// TLS on a port that does not terminate it is forwarded as it is, and the log says what would.
#[test]
fn tls_on_a_plain_port_passes_unread() {
    let mongod = mongod(false, true);
    let proxy = Proxy::start(&mongod.uri(), &[]);
    let mut client = Client::connect_tls(&proxy.address, &client_config("ca.pem", None));
    assert!(is_ok(&client.command(&support::client::hello("blind"))));
    drop(client);
    let log = proxy.stop().log;
    let error = log.events("protocolErrorEvent").next().expect("it is said");
    let message = error.str("message").expect("a message");
    assert!(message.contains("a TLS handshake") && message.ends_with("[tls.listen] terminates TLS"), "{message}");
    assert_eq!(error.str("action"), Some("tunnelled"));
    assert_eq!(log.commands().count(), 0);
}

/// A client that stops within the handshake holds its connection for ten seconds, and nobody else.
#[test]
fn a_handshake_that_stops_has_an_end() {
    let proxy = Proxy::start(&Mongod::shared().uri(), &as_str(&Sides::Terminated.arguments()));
    let mut stopped = Client::connect(&proxy.address);
    // The header of a record of TLS that never comes.
    stopped.send_bytes(&[0x16, 0x03, 0x01, 0x01, 0x00]).expect("the connection stands");
    let mut other = Client::connect_tls(&proxy.address, &client_config("ca.pem", None));
    assert!(is_ok(&other.command(&support::client::hello("other"))));
    assert_eq!(stopped.read_to_end().expect("it is closed"), b"");
    wait_for("the log", Duration::from_secs(30), || {
        proxy.log_so_far().contains("the client did not come to the end of its TLS handshake").then_some(())
    });
    assert!(is_ok(&other.command(&doc! { "ping": 1, "$db": "admin" })));
    // It also ends with the proxy.
    let mut late = Client::connect(&proxy.address);
    late.send_bytes(&[0x16]).expect("the connection stands");
    drop(other);
    proxy.stop();
    let end = late.read_to_end();
    assert!(end.as_ref().map_or_else(|error| error.kind() == ErrorKind::ConnectionReset, Vec::is_empty), "{end:?}");
}
