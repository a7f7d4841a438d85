//! What is wrong with certificates, on either side and in files, and that each is said with its name and the way out:
//! once on stderr, in the log of each connection, and with the exit code of a wrong configuration where it is one.

mod support;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bson::doc;
use rustix::process::Signal;
use rustls::{ServerConnection, StreamOwned};

use support::certificates::{client_config, demanding_server_config, file, in_uri, path, server_config};
use support::client::{Client, hello, is_ok, op_msg};
use support::fetch::pymongo_sdist;
use support::mongod::{Mongod, Options, Tls};
use support::proxy::{self, Proxy};
use support::wait_for;

/// A server that has TLS and nothing else, with that certificate; its address.
fn tls_server(certificate: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("a bound socket has an address").to_string();
    let config = server_config(certificate);
    // It ends with the test's process.
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            thread::spawn(move || _ = StreamOwned::new(session, socket).read(&mut [0; 64]));
        }
    });
    address
}

/// Connects until the connection ends, twice; the proxy must say why once, and the log for each.
fn refused(proxy: Proxy, connect: impl Fn(&str), of: &str, message: &str, hint: &str) {
    for number in 1..=2 {
        connect(&proxy.address);
        wait_for("the connection's end in the log", Duration::from_secs(15), || {
            let log = proxy.log_so_far();
            (log.matches("protocolErrorEvent").count() >= number).then_some(())
        });
    }
    let stopped = proxy.stop();
    let errors: Vec<_> = stopped.log.events("protocolErrorEvent").collect();
    for error in &errors {
        let (side, said) = (error.str("side"), error.str("message").unwrap_or_default());
        assert!(said.contains(message), "{message:?} is in {said:?}");
        assert_eq!(side, Some(if of == "tls.listen" { "client" } else { "server" }), "{said}");
        assert_eq!((error.str("action"), error.i64("offset")), (Some("closed"), Some(0)));
        let said = format!("{of}: {said}\n");
        assert_eq!(stopped.stderr.matches(&said).count(), 1, "{said:?} is said once: {}", stopped.stderr);
    }
    let hints: Vec<_> = stopped.stderr.lines().filter_map(|line| line.strip_prefix("hint: ")).collect();
    assert!(hints.len() == 1 && hints[0].contains(hint), "{hint:?} is the hint: {}", stopped.stderr);
    // A connection whose hello has no answer is taken for a monitor's, which has no such event.
    let closed = stopped.log.events("connectionClosedEvent").filter(|it| it.str("reason") == Some("error"));
    assert_eq!(closed.count(), if of == "tls.listen" { errors.len() } else { 0 });
}

/// Says hello and sees the connection end.
fn plain_hello(address: &str) {
    let mut client = Client::connect(address);
    assert!(client.try_command(&hello("refused")).is_none(), "nobody answers");
}

#[test]
fn bad_certificates_of_the_server() {
    let whose = "the server's certificate (subject O=mongotap, OU=server, CN=test server, issuer O=mongotap, OU=ca, \
                 CN=test CA, for";
    let local = "localhost, 127.0.0.1, ::1, valid";
    for (certificate, ca, message, hint) in [
        (
            "wrong_name.pem",
            "ca.pem",
            format!("{whose} db.example.org, valid 2024-01-01 to 2044-01-01) is not for 127.0.0.1"),
            "connect to db.example.org, or say which name it has: tls.upstream.server_name".to_owned(),
        ),
        (
            "expired.pem",
            "ca.pem",
            format!("{whose} {local} 2004-01-01 to 2024-01-01) has expired"),
            "renew it, or take any: tls.upstream.allow_invalid_certificates = true".to_owned(),
        ),
        (
            "not_yet.pem",
            "ca.pem",
            format!("{whose} {local} 2044-01-01 to 2064-01-01) is not valid yet"),
            "see that the clocks are right".to_owned(),
        ),
        (
            "server.pem",
            "other_ca.pem",
            format!("{whose} {local} 2024-01-01 to 2044-01-01) was signed by no CA in {}", file("other_ca.pem")),
            "name the file of its CA: tls.upstream.ca (--tls-upstream-ca)".to_owned(),
        ),
    ] {
        let address = tls_server(certificate);
        let proxy = Proxy::start(&format!("mongodb://{address}"), &["--tls-upstream-ca", &file(ca)]);
        refused(proxy, plain_hello, &format!("upstream {address}"), &message, &hint);
    }
}

/// Who hangs up on one client, and has answered others, does not want TLS.
#[test]
fn a_server_that_was_heard_is_not_told_to_want_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let upstream = format!("mongodb://{}", listener.local_addr().expect("a bound socket has an address"));
    thread::spawn(move || {
        let mut open = Vec::new();
        for (number, mut socket) in listener.incoming().map_while(Result::ok).enumerate() {
            let read = socket.read(&mut [0; 4096]);
            if number == 0 && read.is_ok() {
                _ = socket.write_all(&op_msg(1, 0, &doc! { "ok": 1.0 }));
                open.push(socket);
            }
        }
    });
    let proxy = Proxy::start(&upstream, &[]);
    let mut answered = Client::connect(&proxy.address);
    assert!(answered.try_command(&hello("answered")).is_some());
    plain_hello(&proxy.address);
    let stderr = proxy.stop().stderr;
    assert!(!stderr.contains("without a word"), "{stderr}");
}

/// What makes a bad certificate do, and for whom it must be said.
#[test]
fn what_is_allowed_is_no_trouble() {
    let ca = file("ca.pem");
    for (certificate, arguments) in [
        ("wrong_name.pem", vec!["--tls-upstream-ca", &ca, "--tls-upstream-server-name", "db.example.org"]),
        ("wrong_name.pem", vec!["--tls-upstream-ca", &ca, "--tls-upstream-allow-invalid-hostnames"]),
        ("expired.pem", vec!["--tls-upstream-allow-invalid-certificates"]),
        ("other_server.pem", vec!["--tls-upstream-ca", &ca, "--tls-upstream-allow-invalid-certificates", "true"]),
    ] {
        let proxy = Proxy::start(&format!("mongodb://{}", tls_server(certificate)), &arguments);
        // The server reads the hello, and closes for want of anything better.
        plain_hello(&proxy.address);
        let stopped = proxy.stop();
        assert!(!stopped.stderr.contains("hint: "), "{}", stopped.stderr);
        assert_eq!(stopped.log.events("protocolErrorEvent").count(), 0);
    }
    // A member's certificate is for the name that it has, not for where it is dialled.
    let dial = format!("db.example.org:27017={}", tls_server("wrong_name.pem"));
    let upstream = "mongodb://db.example.org/?replicaSet=rs&tls=true";
    let proxy = Proxy::start(upstream, &["--tls-upstream-ca", &ca, "--topology-dial", &dial]);
    plain_hello(&proxy.address);
    let stopped = proxy.stop();
    assert!(!stopped.stderr.contains("hint: "), "{}", stopped.stderr);
    assert_eq!(stopped.log.events("protocolErrorEvent").count(), 0);
    // A name that may be any must be of a good certificate all the same.
    let address = tls_server("other_server.pem");
    let upstream = format!("mongodb://{address}/?tlsCAFile={}&tlsAllowInvalidHostnames=true", in_uri("ca.pem"));
    let proxy = Proxy::start(&upstream, &[]);
    refused(proxy, plain_hello, &format!("upstream {address}"), "was signed by no CA in", "tls.upstream.ca");
}

#[test]
fn servers_without_tls_or_with_demands() {
    let plain = Mongod::shared();
    let proxy = Proxy::start(&plain.uri(), &["--tls-upstream-ca", &file("ca.pem")]);
    let of = format!("upstream {}", plain.address());
    refused(proxy, plain_hello, &of, "within the TLS handshake: it may not speak TLS", "start the server with TLS");

    let tls = Some(Tls::CertificatesDemanded);
    let demanding = Mongod::start(Options { tls, ..Options::default() });
    let of = format!("upstream {}", demanding.address());
    let proxy = Proxy::start(&demanding.uri(), &["--tls-upstream-ca", &file("ca.pem")]);
    let message = "the server asks for a certificate of ours, and there is none";
    refused(proxy, plain_hello, &of, message, "tls.upstream.certificate (--tls-upstream-certificate)");

    // It hangs up on who speaks without TLS; that is all that can be seen of it, and said once.
    let proxy = Proxy::start(&demanding.uri(), &[]);
    plain_hello(&proxy.address);
    plain_hello(&proxy.address);
    let stderr = proxy.stop().stderr;
    assert_eq!(stderr.matches(&format!("{of}: it closed a connection without a word\nhint: ")).count(), 1, "{stderr}");
    assert!(stderr.contains("tls=true"), "{stderr}");

    let other = ["--tls-upstream-ca", &file("ca.pem"), "--tls-upstream-certificate", &file("other_client.pem")];
    let proxy = Proxy::start(&demanding.uri(), &other);
    let message = "the server refuses our certificate (subject O=mongotap, OU=client, CN=tests, issuer O=mongotap, \
                   OU=ca, CN=other CA, for no name,";
    refused(proxy, plain_hello, &of, message, "a CA in the server's tlsCAFile");

    // What was wrong and is well, and is wrong again, is news: the good certificate works.
    let good = ["--tls-upstream-ca", &file("ca.pem"), "--tls-upstream-certificate", &file("client.pem")];
    let proxy = Proxy::start(&demanding.uri(), &good);
    assert!(is_ok(&Client::handshake(&proxy.address, "good").command(&doc! { "ping": 1, "$db": "admin" })));
    proxy.stop();
}

/// A server that only checks the certificates that there are has nothing against a client that goes without a word, or
/// amid one, and so without an answer.
#[test]
fn a_client_that_goes_says_nothing_of_certificates() {
    let server = Mongod::start(Options { tls: Some(Tls::CertificatesChecked), ..Options::default() });
    let ca = file("ca.pem");
    let certificate = file("client.pem");
    for own in [&[][..], &["--tls-upstream-certificate", &certificate]] {
        let proxy = Proxy::start(&server.uri(), &[&["--tls-upstream-ca", ca.as_str()], own].concat());
        for said in [0, 20] {
            let mut client = Client::connect(&proxy.address);
            client.send_bytes(&op_msg(1, 0, &hello("gone"))[..said]).expect("the connection stands");
            client.close_sending();
            let rest = client.read_to_end().expect("the server's end is passed on in good order");
            assert!(rest.is_empty());
        }
        let stopped = proxy.stop();
        assert!(!stopped.stderr.contains("hint: "), "{}", stopped.stderr);
        assert!(stopped.log.events("protocolErrorEvent").all(|it| it.str("side") == Some("client")));
    }
}

/// What is wrong with one member stays said, however well it goes with another.
#[test]
fn one_bad_member_is_said_once() {
    let tls = Some(Tls::CertificatesChecked);
    let good = Mongod::start(Options { replica_set: true, tls, ..Options::default() });
    let bad = tls_server("expired.pem");
    let seeds = format!("mongodb://{},{bad}/?replicaSet=rs", good.address());
    let proxy = Proxy::start(&seeds, &["--tls-upstream-ca", &file("ca.pem")]);
    let listener = |upstream: &str| {
        let found = proxy.listeners.iter().find(|it| it.upstream == upstream);
        found.expect("each seed has a listener").address.clone()
    };
    let (to_good, to_bad) = (listener(&good.address()), listener(&bad));
    for _ in 0..3 {
        Client::handshake(&to_good, "well");
        plain_hello(&to_bad);
    }
    let stopped = proxy.stop();
    let said = format!("upstream {bad}: the server's certificate (");
    assert_eq!(stopped.stderr.matches(&said).count(), 1, "{}", stopped.stderr);
}

/// The server says why and is gone at once: when the proxy comes to look, there is a request that cannot be written, and
/// the reason to be read.
#[test]
fn a_reason_counts_more_than_a_broken_socket() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let upstream = format!("mongodb://{}", server.local_addr().expect("a bound socket has an address"));
    let proxy = Proxy::start(&upstream, &["--tls-upstream-ca", &file("ca.pem")]);
    let mut client = Client::connect(&proxy.address);
    let (mut socket, _) = server.accept().expect("the proxy dials");
    socket.set_read_timeout(Some(Duration::from_secs(15))).expect("a socket of ours");
    let mut session = ServerConnection::new(demanding_server_config("server.pem")).expect("a session");
    while !session.wants_write() {
        session.read_tls(&mut socket).expect("the proxy begins the handshake");
        session.process_new_packets().expect("it is one");
    }
    while session.wants_write() {
        session.write_tls(&mut socket).expect("the proxy reads");
    }
    // Once the missing certificate is found missing, the proxy's handshake is done; it does not hear of it yet.
    while session.process_new_packets().is_ok() {
        assert!(session.read_tls(&mut socket).expect("the proxy ends the handshake") > 0);
    }
    // A proxy that stops too late reads the reason first, and is right as well.
    proxy.signal(Signal::STOP);
    thread::sleep(Duration::from_millis(100));
    client.send(0, &hello("reason")).expect("the connection stands");
    session.write_tls(&mut socket).expect("an alert");
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a TCP socket lingers");
    drop(socket);
    proxy.signal(Signal::CONT);
    proxy.wait_for_log("the server asks for a certificate of ours, and there is none: alert certificate_required");
}

#[test]
fn clients_that_do_not_fit() {
    let listen = |more: &[&str]| {
        let certificate = file("server.pem");
        let arguments = [&["--tls-listen-certificate", certificate.as_str()][..], more].concat();
        Proxy::start(&Mongod::shared().uri(), &arguments)
    };
    let of = "tls.listen";
    let message = "the client does not speak TLS: its first bytes are no TLS handshake";
    refused(listen(&[]), plain_hello, of, message, "put tls=true into the application's URI");

    // It does not trust our CA, and says so.
    let distrusts = |address: &str| {
        let config = client_config("other_ca.pem", None);
        assert!(Client::try_connect_tls(address, "localhost", &config).is_err());
    };
    let ours = format!(
        "the client refuses our certificate (subject O=mongotap, OU=server, CN=test server, issuer O=mongotap, OU=ca, \
         CN=test CA, for localhost, 127.0.0.1, ::1, valid 2024-01-01 to 2044-01-01) in {}: alert ",
        file("server.pem")
    );
    refused(listen(&[]), distrusts, of, &format!("{ours}unknown_ca"), "tlsCAFile in its URI");

    // It connects by a name that is not in the certificate.
    let misnamed = |address: &str| {
        let config = client_config("ca.pem", None);
        assert!(Client::try_connect_tls(address, "db.example.org", &config).is_err());
    };
    refused(listen(&[]), misnamed, of, &ours, "must connect to localhost, 127.0.0.1, ::1, and have the CA");

    let ca = file("ca.pem");
    let demands = ["--tls-listen-ca", ca.as_str()];
    let with = |own: Option<&'static str>| {
        move |address: &str| {
            // In TLS 1.3 the client takes the handshake for done before the server has seen its certificate.
            let client = Client::try_connect_tls(address, "localhost", &client_config("ca.pem", own));
            assert!(client.is_err() || client.is_ok_and(|mut client| client.try_command(&hello("refused")).is_none()));
        }
    };
    let hint = "tlsCertificateKeyFile in the application's URI";
    refused(listen(&demands), with(None), of, "the client has no certificate", hint);
    let message = format!("CN=other CA, for no name, valid 2024-01-01 to 2044-01-01) was signed by no CA in {ca}");
    refused(listen(&demands), with(Some("other_client.pem")), of, &message, "a certificate of such a CA");
    let message = "the client's certificate (subject O=mongotap, OU=client, CN=tests, issuer O=mongotap, OU=ca, \
                   CN=test CA, for no name, valid 2004-01-01 to 2024-01-01) has expired";
    refused(listen(&demands), with(Some("expired_client.pem")), of, message, "renew it");

    let proxy = listen(&demands);
    let mut client = Client::connect_tls(&proxy.address, &client_config("ca.pem", Some("client.pem")));
    assert!(is_ok(&client.command(&hello("good"))));
}

/// Whoever is not let in makes no connection with the server.
#[test]
fn the_server_hears_nothing_of_strangers() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    server.set_nonblocking(true).expect("a socket of ours");
    let upstream = format!("mongodb://{}", server.local_addr().expect("a bound socket has an address"));
    let arguments = ["--tls-listen-certificate", &file("server.pem"), "--tls-listen-ca", &file("ca.pem")];
    let proxy = Proxy::start(&upstream, &arguments);
    for (own, message) in [(None, "the client has no certificate"), (Some("other_client.pem"), "was signed by no CA")] {
        // In TLS 1.3 the client takes the handshake for done before the server has seen its certificate.
        _ = Client::try_connect_tls(&proxy.address, "localhost", &client_config("ca.pem", own));
        proxy.wait_for_log(message);
    }
    assert_eq!(server.accept().expect_err("nobody came").kind(), ErrorKind::WouldBlock);
    let _client = Client::connect_tls(&proxy.address, &client_config("ca.pem", Some("client.pem")));
    wait_for("the connection for a client that is let in", Duration::from_secs(15), || server.accept().ok());
}

/// Our own certificate is bad: the proxy starts, says so, and clients refuse it.
#[test]
fn our_own_certificate_is_not_in_time() {
    for (name, said, alert) in
        [("expired.pem", "has expired", "certificate_expired"), ("not_yet.pem", "is not valid yet", "")]
    {
        let certificate = file(name);
        let proxy = Proxy::start(&Mongod::shared().uri(), &["--tls-listen-certificate", &certificate]);
        let warning = format!("tls.listen.certificate: {certificate}: the certificate (subject ");
        let line = proxy.stderr().lines().find(|line| line.starts_with(&warning)).map(str::to_owned);
        assert!(line.as_ref().is_some_and(|line| line.ends_with(said)), "{said:?}: {}", proxy.stderr());
        let config = client_config("ca.pem", None);
        assert!(Client::try_connect_tls(&proxy.address, "localhost", &config).is_err());
        proxy.wait_for_log("the client refuses our certificate (subject O=mongotap, OU=server");
        proxy.wait_for_log(alert);
    }
}

fn mongotap(arguments: &[&str]) -> Output {
    proxy::command().args(arguments).output().expect("the binary runs")
}

/// `proxy` and `check` both end with 2 and the same words.
fn refused_at_the_start(arguments: &[(&str, &str)], message: &str, hint: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut toml = String::new();
    let mut flags = vec!["proxy".to_owned(), "--listen".to_owned(), "127.0.0.1:0".to_owned()];
    for (key, value) in arguments {
        let (section, name) = key.rsplit_once('.').expect("a key in a section");
        if !toml.contains(section) {
            toml += &format!("[{section}]\n");
        }
        toml += &format!("{name} = {value:?}\n");
        flags.extend([format!("--{}", key.replace(['.', '_'], "-")), (*value).to_owned()]);
    }
    let config = directory.path().join("proxy.toml");
    fs::write(&config, toml).expect("a file");
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    for arguments in [&flags[..], &["check", "--config", config.to_str().expect("a path")]] {
        let output = mongotap(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{errors}");
        let mut lines = errors.lines();
        assert!(lines.next().is_some_and(|line| line.contains(message)), "{message:?}: {errors}");
        assert!(
            lines.next().is_some_and(|line| line.starts_with("hint: ") && line.contains(hint)),
            "{hint:?}: {errors}"
        );
    }
}

#[test]
fn files_that_will_not_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("a file");
        path.to_str().expect("a path").to_owned()
    };
    let (server, client) = (file("server.pem"), file("client.pem"));
    let empty = write("empty.pem", "");
    let torn = write("torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let garbled = write("garbled.pem", "-----BEGIN CERTIFICATE-----\nno base64!\n-----END CERTIFICATE-----\n");
    let no_certificate = write("no.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    let legacy = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n\
                  -----END RSA PRIVATE KEY-----\n";
    let legacy = write("legacy.pem", legacy);
    let encrypted = pymongo_sdist().join("test/certificates/password_protected.pem").display().to_string();
    let certificate = file("server_certificate.pem");
    let of = "tls.listen.certificate";
    for (arguments, message, hint) in [
        (vec![(of, "/no/such.pem")], format!("{of}: /no/such.pem: no such file or directory"), "mongotap cert DIR"),
        (vec![(of, &*empty)], format!("{of}: {empty}: holds no certificate"), "-----BEGIN CERTIFICATE-----"),
        (vec![(of, &*torn)], format!("{of}: {torn}: is damaged: a section has no END line"), "copy the PEM file again"),
        (vec![(of, &*garbled)], format!("{of}: {garbled}: is damaged"), "copy the PEM file again"),
        (vec![(of, &*certificate)], format!("{of}: {certificate}: holds no private key"), "tls.listen.key names"),
        (vec![(of, &*encrypted)], format!("{of}: {encrypted}: its key is encrypted"), "openssl pkey -in"),
        (
            vec![(of, &*certificate), ("tls.listen.key", &*legacy)],
            format!("tls.listen.key: {legacy}: its key is encrypted"),
            "openssl pkey -in",
        ),
        (
            vec![(of, &*server), ("tls.listen.key", &*client)],
            format!("tls.listen.key: {client}: its key is not that of the certificate in {server} (subject O=mongotap"),
            "the key that the certificate was made for",
        ),
        (
            vec![(of, &*server), ("tls.listen.ca", &*empty)],
            format!("tls.listen.ca: {empty}: holds no certificate"),
            "-----BEGIN CERTIFICATE-----",
        ),
        (vec![("tls.upstream.ca", &*no_certificate)], format!("tls.upstream.ca: {no_certificate}: "), "CAs"),
        (
            vec![("tls.upstream.certificate", &*certificate)],
            format!("tls.upstream.certificate: {certificate}: holds no private key"),
            "tls.upstream.key names",
        ),
        (
            vec![("tls.upstream.server_name", "not a name")],
            "tls.upstream.server_name: \"not a name\" is not a name".to_owned(),
            "db.example.org",
        ),
    ] {
        refused_at_the_start(&arguments, &message, hint);
    }
}

/// Keys come in three forms; PyMongo's own are of the oldest.
#[test]
fn keys_of_every_form() {
    let directory = tempfile::tempdir().expect("a directory");
    let pkcs8 = fs::read_to_string(path("server_key.pem")).expect("a key");
    assert!(pkcs8.starts_with("-----BEGIN PRIVATE KEY-----"));
    let sec1 = directory.path().join("sec1.pem");
    fs::write(&sec1, to_sec1(&pkcs8)).expect("a file");
    let rsa = pymongo_sdist().join("test/certificates/server.pem");
    assert!(fs::read_to_string(&rsa).expect("PyMongo's").contains("-----BEGIN RSA PRIVATE KEY-----"));
    let connects = |certificate: &Path, key: Option<&Path>| {
        let mut arguments = vec!["--tls-listen-certificate", certificate.to_str().expect("a path")];
        if let Some(key) = key {
            arguments.extend(["--tls-listen-key", key.to_str().expect("a path")]);
        }
        let proxy = Proxy::start(&Mongod::shared().uri(), &arguments);
        TcpStream::connect(&proxy.address).expect("it listens");
        proxy
    };
    for key in [&path("server_key.pem"), &sec1] {
        let proxy = connects(&path("server_certificate.pem"), Some(key));
        let mut client = Client::connect_tls(&proxy.address, &client_config("ca.pem", None));
        assert!(is_ok(&client.command(&hello("key"))));
    }
    connects(&rsa, None);
}

/// The key inside of a PKCS#8 one of the curve P-256: its length and its first bytes are always the same.
fn to_sec1(pkcs8: &str) -> String {
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::STANDARD;
    let body: String = pkcs8.lines().filter(|line| !line.starts_with('-')).collect();
    let der = engine.decode(body).expect("base64");
    let at = der.windows(4).position(|it| it == [0x04, 0x6d, 0x30, 0x6b]).expect("an OCTET STRING with a SEQUENCE");
    let inner = engine.encode(&der[at + 2..at + 2 + 0x6d]);
    format!("-----BEGIN EC PRIVATE KEY-----\n{inner}\n-----END EC PRIVATE KEY-----\n")
}

/// What `mongotap cert` makes works on both sides, is kept from others, and is not replaced unasked.
#[test]
fn made_certificates_work() {
    let directory = tempfile::tempdir().expect("a directory");
    let to = directory.path().join("new").join("certificates");
    let name = to.to_str().expect("a path");
    let output = mongotap(&["cert", name, "--name", "db.example.org", "--name", "192.0.2.7", "--name", "localhost"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("db.example.org, 192.0.2.7\n") && text.contains("valid for a year, until 20"), "{text}");
    let mode = |file: &str| to.join(file).metadata().expect("a file").permissions().mode() & 0o777;
    assert_eq!((mode("server.pem"), mode("client.pem"), mode(".")), (0o600, 0o600, 0o700));
    let ca = fs::read_to_string(to.join("ca.pem")).expect("a file");
    assert!(!ca.contains("PRIVATE KEY"), "the CA's key is not kept");

    // The lines that it prints are a configuration.
    let toml: String = text
        .lines()
        .skip_while(|line| !line.contains("[tls.listen]"))
        .take_while(|line| line.starts_with("  "))
        .collect::<Vec<_>>()
        .join("\n");
    let config = directory.path().join("proxy.toml");
    fs::write(&config, toml).expect("a file");
    let checked = mongotap(&["check", "--config", config.to_str().expect("a path")]);
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert!(said.contains("tls.listen         ") && said.contains("certificates/server.pem\n"), "{said}");
    assert!(said.contains("a certificate of ") && said.contains("with "), "{said}");

    // Two proxies, the one the client of the other, each with the certificates made.
    let file = |file: &str| to.join(file).display().to_string();
    let listen = ["--tls-listen-certificate", &file("server.pem"), "--tls-listen-ca", &file("ca.pem")];
    let near = Proxy::start(&Mongod::shared().uri(), &listen);
    let port = near.address.rsplit_once(':').expect("a port").1;
    let upstream = ["--tls-upstream-ca", &file("ca.pem"), "--tls-upstream-certificate", &file("client.pem")];
    let far = Proxy::start(&format!("mongodb://localhost:{port}"), &upstream);
    assert!(is_ok(&Client::handshake(&far.address, "made").command(&doc! { "ping": 1, "$db": "admin" })));

    let again = mongotap(&["cert", name]);
    let errors = String::from_utf8_lossy(&again.stderr).into_owned();
    assert_eq!(again.status.code(), Some(2), "{errors}");
    assert!(errors.contains("ca.pem: is there already\nhint: --force replaces it"), "{errors}");
    assert_eq!(fs::read_to_string(to.join("ca.pem")).expect("a file"), ca, "nothing was touched");
    fs::set_permissions(to.join("client.pem"), fs::Permissions::from_mode(0o644)).expect("a file of ours");
    assert!(mongotap(&["cert", name, "--force"]).status.success());
    assert_ne!(fs::read_to_string(to.join("ca.pem")).expect("a file"), ca);
    assert_eq!(mode("client.pem"), 0o600, "its mode is not that of what it replaces");

    for (arguments, code, message) in [
        (&["cert", name, "--force", "--name", "a:1"][..], 2, "--name: \"a:1\" is not a host's name"),
        (&["cert", "/dev/null/x"], 4, "/dev/null/x: not a directory"),
    ] {
        let output = mongotap(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{errors}");
        assert!(errors.contains(message) && errors.contains("\nhint: "), "{errors}");
    }
}
