//! Replica sets behind one proxy: a listener for each member, and replies to `hello` that name the listeners, to the byte,
//! in every form in which they come.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use bson::{DateTime, Document, doc};
use mongotap::replay::Request;
use mongotap::wire::{Compressor, Header, Message, OpQuery, Reader, msg_flags};
use rustix::process::Signal;

use support::client::{Client, EXHAUST_ALLOWED, is_ok};
use support::mongod::{Mongod, Options, SET_NAME, free_port};
use support::proxy::Proxy;
use support::replica_set::ReplicaSet;
use support::scripted::{Scripted, compressed, op_msg, op_reply};
use support::wait_for;

/// The set as its members know it: none of these is an address here.
const NAMES: [&str; 4] = ["mongo1:27017", "Mongo2:27017", "mongo3:27017", "[2001:db8::4]:27017"];

/// What a member of these names says of itself.
fn hello(names: &[&str], me: usize) -> Document {
    doc! {
        "helloOk": true,
        "isWritablePrimary": me == 0,
        "topologyVersion": { "processId": bson::oid::ObjectId::from_bytes([7; 12]), "counter": 6_i64 },
        "hosts": &names[..2],
        "passives": [names.get(2).copied().unwrap_or(names[0])],
        "arbiters": [names.get(3).copied().unwrap_or(names[0])],
        "setName": "rs0",
        "setVersion": 3,
        "primary": names[0],
        "me": names[me],
        "tags": { "me": NAMES[0] },
        "info": "mongo1:27017 stays in every other field",
        "lastWrite": { "lastWriteDate": DateTime::from_millis(1_700_000_000_000) },
        "localTime": DateTime::from_millis(1_700_000_000_001),
        "maxWireVersion": 17,
        "ok": 1.0,
    }
}

/// The forms in which a reply to `hello` comes.
const FORMS: [&str; 10] =
    ["plain", "checksum", "noop", "snappy", "zlib", "zstd", "error", "reply", "compressed reply", "stream"];

/// The messages in which a document comes in that form, as the answer to that request.
fn frames(form: &str, request_id: i32, document: &Document) -> Vec<Vec<u8>> {
    let plain = |flags| op_msg((900, request_id), flags, document);
    let packed = |compressor| vec![compressed(&plain(0), compressor)];
    match form {
        "checksum" => vec![plain(msg_flags::CHECKSUM_PRESENT)],
        "noop" => packed(Compressor::Noop),
        "snappy" => packed(Compressor::Snappy),
        "zlib" => packed(Compressor::Zlib),
        "zstd" => packed(Compressor::Zstd),
        "error" => {
            let mut error = doc! { "ok": 0.0, "errmsg": "shutting down: mongo1:27017", "code": 91 };
            error.extend(document.clone().into_iter().filter(|(name, _)| name != "ok"));
            vec![op_msg((900, request_id), 0, &error)]
        }
        "reply" => vec![op_reply((900, request_id), document)],
        "compressed reply" => vec![compressed(&op_reply((900, request_id), document), Compressor::Zstd)],
        // Each part names the one before; the last is compressed.
        "stream" => vec![
            op_msg((900, request_id), msg_flags::MORE_TO_COME, document),
            op_msg((901, 900), msg_flags::MORE_TO_COME | msg_flags::CHECKSUM_PRESENT, document),
            compressed(&op_msg((902, 901), 0, document), Compressor::Snappy),
        ],
        _ => vec![plain(0)],
    }
}

/// A member that answers `hello` in the form that the request names, and everything else with a reply that looks like it.
fn member(me: usize) -> impl Fn(&Request) -> Vec<Vec<u8>> + Clone + Send + 'static {
    move |request| {
        let command = Document::from_reader(request.command.as_slice()).expect("a command is BSON");
        match request.is_hello() {
            true => frames(command.get_str("form").unwrap_or("plain"), request.id, &hello(&NAMES, me)),
            false => frames("plain", request.id, &not_a_hello()),
        }
    }
}

fn not_a_hello() -> Document {
    doc! { "hosts": NAMES.to_vec(), "primary": NAMES[0], "me": NAMES[1], "ok": 1.0 }
}

/// A connection that sends and receives whole messages.
struct Raw(TcpStream);

impl Raw {
    fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the listener is there");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has time-outs");
        Self(stream)
    }

    fn send(&mut self, frame: &[u8]) {
        self.0.write_all(frame).expect("the connection stands");
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 16];
        self.0.read_exact(&mut frame).expect("a message comes");
        let header = Header::decode(&mut Reader::new(&frame)).expect("a header");
        frame.resize(usize::try_from(header.message_length).expect("a length"), 0);
        self.0.read_exact(&mut frame[16..]).expect("the message is whole");
        frame
    }

    /// What still comes until the connection ends, however it ends.
    fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}

fn query(id: i32, command: &Document) -> Vec<u8> {
    let mut frame = bytes::BytesMut::new();
    let query = OpQuery {
        flags: 0,
        full_collection_name: b"admin.$cmd",
        number_to_skip: 0,
        number_to_return: -1,
        query: &command.to_vec().expect("a document has bytes"),
        return_fields_selector: None,
    };
    query.encode(id, &mut frame).expect("a short message");
    frame.to_vec()
}

fn addresses(proxy: &Proxy) -> Vec<&str> {
    proxy.listeners.iter().map(|listener| listener.address.as_str()).collect()
}

#[test]
fn every_form_of_hello_names_the_listeners_and_nothing_else_changes() {
    let (first, second) = (Scripted::start(member(0)), Scripted::start(member(1)));
    let upstream = format!("mongodb://{}/?replicaSet=rs0", first.address());
    let dial = format!("mongo2:27017={}", second.address());
    let proxy = Proxy::start(&upstream, &["--topology-dial", &dial, "--log-phases", "app,auth,handshake,monitor,rtt"]);
    let dialled: Vec<_> = proxy.listeners.iter().map(|listener| listener.upstream.as_str()).collect();
    assert_eq!(dialled, [&first.address(), &second.address(), NAMES[2], NAMES[3]]);
    let ours = addresses(&proxy);
    assert_eq!(proxy.uri, format!("mongodb://{}/?replicaSet=rs0", ours.join(",")));

    let mut compared = 0;
    for (me, address) in ours[..2].iter().enumerate() {
        for (form, name) in
            FORMS.into_iter().flat_map(|form| ["hello", "isMaster", "ismaster"].map(|name| (form, name)))
        {
            let mut connection = Raw::connect(address);
            let mut command = doc! { name: 1, "form": form };
            if form.ends_with("reply") {
                connection.send(&query(7, &command));
            } else {
                command.extend(doc! { "topologyVersion": {}, "maxAwaitTimeMS": 1_i64, "$db": "any" });
                let flags = if form == "stream" { msg_flags::EXHAUST_ALLOWED } else { 0 };
                connection.send(&op_msg((7, 0), flags, &command));
            }
            for expected in frames(form, 7, &hello(&ours, me)) {
                assert_eq!(connection.receive(), expected, "{form} {name}");
                compared += 1;
            }
            // Whatever is not a hello is none of the proxy's business, on the same connection too.
            connection.send(&op_msg((8, 0), 0, &doc! { "replSetGetStatus": 1, "$db": "admin" }));
            assert_eq!(connection.receive(), frames("plain", 8, &not_a_hello())[0], "{form}");
        }
    }
    assert_eq!(compared, 2 * 3 * (FORMS.len() + 2));

    let address = ours[1].to_owned();
    let log = proxy.stop().log;
    let mut seen = 0;
    for end in log.ends("hello").filter(|end| end.str("connectionId") == Some(&address)) {
        let reply = end.0.get("reply").or_else(|| end.0.get("failure")).expect("an end has its reply");
        assert_eq!(
            reply.get("me").and_then(|me| me.as_str()),
            Some(address.as_str()),
            "the log has what the driver got"
        );
        assert_eq!(end.proxy_str("upstream"), Some(second.address().as_str()));
        seen += 1;
    }
    assert_eq!(seen, FORMS.len() + 2);
}

#[test]
fn replies_arrive_in_pieces_and_together() {
    let server = Scripted::start(member(0));
    let proxy = Proxy::start(&format!("mongodb://{}/?replicaSet=rs0", server.address()), &[]);
    let ours = addresses(&proxy);
    let mut connection = Raw::connect(ours[0]);
    // Many requests at once, hellos among them: their replies come in few reads, cut anywhere.
    let (mut requests, mut expected) = (Vec::new(), Vec::new());
    for id in 1..400 {
        let is_hello = id % 3 == 0;
        let command = if is_hello {
            doc! { "hello": 1, "$db": "admin" }
        } else {
            doc! { "ping": 1, "$db": "admin" }
        };
        requests.extend(op_msg((id, 0), 0, &command));
        let reply = if is_hello { hello(&ours, 0) } else { not_a_hello() };
        expected.extend(frames("plain", id, &reply).concat());
    }
    connection.send(&requests);
    let mut found = vec![0; expected.len()];
    connection.0.read_exact(&mut found).expect("every request is answered");
    assert!(found == expected, "as they were asked, renamed where they are hellos");
    proxy.stop();
}

#[test]
fn what_cannot_be_rewritten_goes_to_nobody() {
    // The place that was said for the second member is somebody else's, so it has none.
    let (free, taken) = free_and_taken();
    let after = free + 1;
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let script = move |request: &Request| {
        let command = Document::from_reader(request.command.as_slice()).expect("a command is BSON");
        let mut reply = hello(&["mongo1:27017", "mongo1:27017"], 0);
        if has_grown.load(Ordering::SeqCst) {
            reply.insert("hosts", ["mongo1:27017", "mongo2:27017"].to_vec());
        }
        let mut frames = frames("noop", request.id, &reply);
        if command.contains_key("unknown") {
            frames[0][24] = 200;
        }
        frames
    };
    let server = Scripted::start(script);
    let listen = format!("127.0.0.1:{free}");
    let place = format!("mongo2:27017=127.0.0.1:{after}");
    let upstream = format!("mongodb://{}/?replicaSet=rs0", server.address());
    let proxy = Proxy::listen(&listen, &upstream, &["--topology-listen", &place]);
    assert_eq!(addresses(&proxy), [listen.as_str()]);

    let asked = |command: &Document| {
        let mut connection = Raw::connect(&listen);
        connection.send(&op_msg((1, 0), 0, command));
        connection
    };
    let mut good = asked(&doc! { "hello": 1, "$db": "admin" });
    assert_eq!(good.receive(), frames("noop", 1, &hello(&[&listen, &listen], 0))[0]);
    assert_eq!(asked(&doc! { "hello": 1, "unknown": 1, "$db": "admin" }).rest(), b"");
    grown.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(asked(&doc! { "isMaster": 1, "saslSupportedMechs": "a.b", "$db": "admin" }).rest(), b"");
    }
    drop(taken);
    let renamed = asked(&doc! { "hello": 1, "$db": "admin" }).receive();
    let second = format!("127.0.0.1:{after}");
    let mut expected = hello(&[&listen, &listen], 0);
    expected.insert("hosts", [listen.as_str(), &second].to_vec());
    assert_eq!(renamed, frames("noop", 1, &expected)[0], "once there is a place the member has a listener");
    wait_for("the new listener to be told of", Duration::from_secs(30), || {
        proxy.stderr().contains(&format!("listening on {second} -> mongo2:27017")).then_some(())
    });

    let stopped = proxy.stop();
    let errors: Vec<_> = stopped.log.events("protocolErrorEvent").collect();
    assert_eq!(errors.len(), 3, "{errors:?}");
    let says = |text: &str| {
        let says = |error: &&&support::log::Record| {
            let message = error.str("message").expect("it says why");
            message.starts_with("a reply to hello is kept back: ") && message.contains(text)
        };
        errors.iter().filter(says).count()
    };
    assert_eq!(says("compressor id 200 is not known"), 1, "{errors:?}");
    assert_eq!(says(&format!("{second}: cannot listen for mongo2:27017")), 2, "{errors:?}");
    assert!(
        errors.iter().all(|it| (it.str("action"), it.str("side")) == (Some("closed"), Some("server"))),
        "{errors:?}"
    );
    assert!(stopped.stderr.contains("\nhint: [topology] listen gives"), "{}", stopped.stderr);
    let said = stopped.stderr.matches("a reply to hello is kept back").count();
    assert_eq!(said, 2, "each trouble is said once: {}", stopped.stderr);
}

#[test]
fn who_listens_for_other_machines_is_told_of_advertise() {
    let server = Scripted::start(member(0));
    let upstream = format!("mongodb://{}/?replicaSet=rs0", server.address());
    for (arguments, is_told) in [(&[][..], true), (&["--advertise", "proxy.example.org:27017"][..], false)] {
        let stderr = Proxy::listen("0.0.0.0:0", &upstream, arguments).stop().stderr;
        assert_eq!(stderr.contains("\nhint: --advertise HOST:PORT"), is_told, "{stderr}");
    }
}

/// A port that somebody else has does not keep a member out, nor the others from their clients.
#[test]
fn a_member_that_joins_passes_over_ports_that_others_have() {
    let (free, taken) = free_and_taken();
    let grown = Arc::new(AtomicBool::new(false));
    let has_grown = Arc::clone(&grown);
    let script = move |request: &Request| {
        let names = ["mongo1:27017", if has_grown.load(Ordering::SeqCst) { "mongo2:27017" } else { "mongo1:27017" }];
        frames("plain", request.id, &hello(&names, 0))
    };
    let server = Scripted::start(script);
    let listen = format!("127.0.0.1:{free}");
    let proxy = Proxy::listen(&listen, &format!("mongodb://{}/?replicaSet=rs0", server.address()), &[]);
    grown.store(true, Ordering::SeqCst);
    let mut client = Raw::connect(&listen);
    client.send(&op_msg((1, 0), 0, &doc! { "hello": 1, "$db": "admin" }));
    client.receive();
    wait_for("the new listener to be told of", Duration::from_secs(30), || {
        proxy.stderr().contains(" -> mongo2:27017").then_some(())
    });
    let stderr = proxy.stop().stderr;
    let line = stderr.lines().find(|line| line.ends_with(" -> mongo2:27017")).expect("it was told of");
    let port = line.split_once(" -> ").and_then(|(listening, _)| listening.rsplit(':').next()?.parse::<u16>().ok());
    assert!(port.is_some_and(|port| port > free + 1), "{line}");
    assert!(!stderr.contains("kept back"), "{stderr}");
    drop(taken);
}

/// A port that is free and the next one, which is not. They are below those that the system hands out, so that nobody
/// else is given one of them meanwhile.
fn free_and_taken() -> (u16, TcpListener) {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + u16::try_from(std::process::id() % 5_000).expect("it is small") * 2;
    loop {
        let free = begin + TRIED.fetch_add(2, Ordering::SeqCst);
        let both = (TcpListener::bind(("127.0.0.1", free)), TcpListener::bind(("127.0.0.1", free + 1)));
        if let (Ok(_), Ok(taken)) = both {
            return (free, taken);
        }
    }
}

#[test]
fn clients_are_told_the_advertised_names() {
    let server = Scripted::start(member(0));
    let place = format!("127.0.0.1:{}", free_port());
    let listen = format!("mongo3:27017={place}");
    let arguments = ["--advertise", "Proxy.example.org:5000", "--topology-listen", &listen];
    let proxy = Proxy::start(&format!("mongodb://{}/?replicaSet=rs0", server.address()), &arguments);
    let port = place.split(':').next_back().expect("it has a port");
    let names = [5000, 5001].map(|port| format!("proxy.example.org:{port}"));
    let names = [&names[0], &names[1], &format!("proxy.example.org:{port}"), "proxy.example.org:5002"];
    assert_eq!(
        (proxy.listeners[2].address.as_str(), proxy.uri.as_str()),
        (place.as_str(), format!("mongodb://{}/?replicaSet=rs0", names.join(",")).as_str(),)
    );
    let mut connection = Raw::connect(&proxy.address);
    connection.send(&op_msg((1, 0), 0, &doc! { "hello": 1, "saslSupportedMechs": "a.b", "$db": "admin" }));
    assert_eq!(connection.receive(), frames("plain", 1, &hello(&names, 0))[0]);
    let log = proxy.stop().log;
    let created = log.events("connectionCreatedEvent").next().expect("an application connected");
    assert_eq!(created.str("address"), Some(names[0]));
}

#[test]
fn a_seed_that_comes_later_is_found_behind_the_name_that_the_set_has_for_it() {
    let first = Scripted::start(member(0));
    let port = free_port();
    let upstream = format!("mongodb://{},127.0.0.1:{port}/?replicaSet=rs0", first.address());
    let proxy = Proxy::start(&upstream, &[]);
    let ours: Vec<_> = addresses(&proxy).into_iter().map(str::to_owned).collect();
    // The second one is down, so nobody knows yet that it is Mongo2.
    assert_eq!((ours.len(), proxy.listeners[2].upstream.as_str()), (5, "Mongo2:27017"));
    assert_eq!(Raw::connect(&ours[2]).rest(), b"", "a name that is no address leads nowhere");

    let _second = Scripted::start_at(port, member(1));
    let reply = wait_for("the second member to be known", Duration::from_secs(30), || {
        Client::try_connect(&ours[2])?.try_command(&doc! { "hello": 1, "$db": "admin" })
    });
    assert_eq!(reply.get_str("me").ok(), Some(ours[2].as_str()));
    proxy.stop();
}

#[test]
fn who_was_turned_away_is_known() {
    let port = free_port();
    let proxy = Proxy::start(&format!("mongodb://127.0.0.1:{port}"), &["--log-phases", "app,auth,handshake"]);
    // It is not listened to for long: what it says is there before the proxy takes it in.
    proxy.signal(Signal::STOP);
    let mut client = Client::connect(&proxy.address);
    let mut hello = support::client::hello("lost");
    hello.insert("saslSupportedMechs", "admin.tester");
    client.send(0, &hello).expect("the listener is there");
    proxy.signal(Signal::CONT);
    assert_eq!(client.read_to_end().expect("it is closed in good order"), b"");
    // One that says nothing is closed as well, and soon.
    let silent = Client::connect(&proxy.address).read_to_end();
    assert_eq!(silent.expect("it is closed in good order"), b"");
    let log = proxy.stop().log;
    let failure = &log.end("hello").0["failure"]["message"];
    assert!(failure.as_str().is_some_and(|it| it.contains("could not be reached")), "{failure}");
    let start = log.start_of(log.end("hello"));
    assert_eq!(start.0["command"]["client"]["application"]["name"], "lost");
}

#[test]
fn deployments_that_are_not_what_they_should_be_are_refused() {
    let server = Scripted::start(member(0));
    let run = |upstream: &str| {
        let output =
            support::proxy::command().args(["proxy", "--upstream", upstream]).output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&format!("mongodb://{}/?replicaSet=other", server.address()));
    assert_eq!(code, Some(2), "{said}");
    let expected = format!("upstream: replicaSet is \"other\", but {} is a member of \"rs0\"", server.address());
    assert!(said.contains(&expected) && said.contains("hint: replicaSet=rs0"), "{said}");
}

/// The body of a reply in any form.
fn body(frame: &[u8]) -> Document {
    let (header, message) = Message::decode(frame).expect("a message");
    let document = match message {
        Message::Compressed(compressed) => {
            let mut plain = Vec::new();
            compressed.inflate(&header, 1 << 20, &mut plain).expect("it inflates");
            return body(&plain);
        }
        Message::Msg(message) => message.body,
        Message::Reply(reply) => reply.documents,
        other => panic!("no reply: {other:?}"),
    };
    Document::from_reader(document).expect("a reply is BSON")
}

fn strings(document: &Document, field: &str) -> Vec<String> {
    let array = document.get_array(field).unwrap_or_else(|_| panic!("no {field}: {document}"));
    array.iter().map(|it| it.as_str().expect("a name").to_owned()).collect()
}

/// Three real members under the names of their addresses, named as `localhost` in the connection string: the proxy learns
/// what they are called from themselves.
#[test]
fn a_real_set_is_known_by_its_listeners_whoever_asks_and_however() {
    let set = ReplicaSet::start(3);
    let seeds: Vec<_> = set.members[..2].iter().map(|it| it.address().replace("127.0.0.1", "localhost")).collect();
    let proxy = Proxy::start(&format!("mongodb://{}/?replicaSet={SET_NAME}", seeds.join(",")), &[]);
    let ours: Vec<_> = addresses(&proxy).into_iter().map(str::to_owned).collect();
    let dialled: Vec<_> = proxy.listeners.iter().map(|listener| listener.upstream.clone()).collect();
    assert_eq!(dialled, [&seeds[0], &seeds[1], &set.members[2].address()].map(String::clone));

    let check = |reply: &Document, me: &str| {
        let mut hosts = strings(reply, "hosts");
        hosts.sort();
        let mut expected = ours.clone();
        expected.sort();
        assert_eq!((hosts, reply.get_str("me").ok()), (expected, Some(me)), "{reply}");
        assert!(ours.iter().any(|it| reply.get_str("primary").is_ok_and(|name| name == it)), "{reply}");
    };
    for address in &ours {
        for name in ["hello", "isMaster", "ismaster"] {
            let mut connection = Raw::connect(address);
            connection.send(&query(1, &doc! { "isMaster": 1, "helloOk": true }));
            check(&body(&connection.receive()), address);
            let command = doc! { name: 1, "$db": "test" };
            for flags in [0, msg_flags::CHECKSUM_PRESENT] {
                connection.send(&op_msg((2, 0), flags, &command));
                check(&body(&connection.receive()), address);
            }
            for compressor in [Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
                connection.send(&compressed(&op_msg((3, 0), 0, &command), compressor));
                let reply = connection.receive();
                assert_eq!(reply[12..16], 2012_i32.to_le_bytes(), "it comes compressed as it was asked");
                check(&body(&reply), address);
            }
        }
        let mut monitor = Client::connect(address);
        let first = monitor.command(&doc! { "hello": 1, "$db": "admin" });
        let version = first.get_document("topologyVersion").expect("a member has one").clone();
        let streamed = doc! { "hello": 1, "topologyVersion": version, "maxAwaitTimeMS": 100_i64, "$db": "admin" };
        monitor.send(EXHAUST_ALLOWED, &streamed).expect("the connection stands");
        for _ in 0..4 {
            check(&monitor.receive().expect("the stream goes on").body, address);
        }
    }

    // A member that joins has its listener when it is first named.
    let fourth = Mongod::start(Options { member: true, ..Options::default() });
    let primary = set.members[set.primary()].client().command(&doc! { "replSetGetConfig": 1, "$db": "admin" });
    let mut config = primary.get_document("config").expect("a set has one").clone();
    let mut members = config.get_array("members").expect("it has members").clone();
    members.push(doc! { "_id": 9, "host": fourth.address(), "priority": 0, "votes": 0 }.into());
    config.extend(doc! { "members": members, "version": config.get_i32("version").expect("a version") + 1 });
    let reply = set.members[set.primary()].client().command(&doc! { "replSetReconfig": config, "$db": "admin" });
    assert!(is_ok(&reply), "{reply}");
    let joined = wait_for("the fourth member", Duration::from_secs(30), || {
        let reply = Client::connect(&ours[0]).command(&doc! { "hello": 1, "$db": "admin" });
        let known = [
            strings(&reply, "hosts"),
            reply.get_array("passives").map(|_| strings(&reply, "passives")).unwrap_or_default(),
        ]
        .concat();
        assert!(!known.contains(&fourth.address()), "a real name leaks: {reply}");
        known.into_iter().find(|name| !ours.contains(name))
    });
    wait_for("the fourth member to know its set", Duration::from_secs(30), || {
        let reply = Client::connect(&joined).command(&doc! { "hello": 1, "$db": "admin" });
        reply.get_str("me").is_ok_and(|me| me == joined).then_some(())
    });
    let listening = format!("listening on {joined} -> {}", fourth.address());
    wait_for(&listening, Duration::from_secs(30), || proxy.stderr().contains(&listening).then_some(()));
    proxy.stop();
}
