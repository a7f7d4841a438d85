//! Members' own names reach no client of a replica set's listeners, whatever the proxy could not read of the request.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use bson::{Document, doc};
use mongotap::replay::Request;
use mongotap::wire::Compressor;

use support::log::Log;
use support::proxy::Proxy;
use support::scripted::{Scripted, compressed, op_msg};

const NAME: &str = "mongo1:27017";

/// A member that answers `hello` alone, and whatever message has the word in it, broken or not.
fn member() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let address = listener.local_addr().expect("it is bound").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Until either side ends; how, is nobody's business here.
fn serve(mut stream: TcpStream) -> Option<()> {
    loop {
        let mut frame = vec![0; 16];
        stream.read_exact(&mut frame).ok()?;
        if frame[0] == 0x16 {
            // A certificate names its server in plain bytes.
            stream.write_all(&[&[0x16, 3, 3, 0, 12], NAME.as_bytes()].concat()).ok()?;
            continue;
        }
        let word = |at: usize| i32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let (len, id) = (usize::try_from(word(0)).expect("a length"), word(4));
        frame.resize(len, 0);
        stream.read_exact(&mut frame[16..]).ok()?;
        if frame.windows(5).any(|bytes| bytes == b"hello") {
            stream.write_all(&op_msg((900, id), 0, &hello(NAME))).ok()?;
        }
    }
}

fn hello(name: &str) -> Document {
    doc! { "isWritablePrimary": true, "setName": "rs0", "hosts": [name], "primary": name, "me": name, "ok": 1.0 }
}

/// What a client of such a member's listener gets for these bytes until it gets no more; the listener and the log.
fn answer(arguments: &[&str], bytes: &[u8]) -> (Vec<u8>, String, Log, String) {
    let proxy = Proxy::start(&format!("mongodb://{}/?replicaSet=rs0", member()), arguments);
    let address = proxy.address.clone();
    let mut client = TcpStream::connect(&address).expect("the listener is there");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has time-outs");
    // It may be closed before it has sent all.
    let _ = client.write_all(bytes).and_then(|()| client.shutdown(Shutdown::Write));
    let (mut found, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(len @ 1..) = client.read(&mut buffer) {
        found.extend_from_slice(&buffer[..len]);
    }
    drop(client);
    let stopped = proxy.stop();
    (found, address, stopped.log, stopped.stderr)
}

#[test]
fn a_request_that_was_not_seen_may_be_a_hello() {
    let command = doc! { "hello": 1, "$db": "admin" };
    let plain = op_msg((7, 0), 0, &command);
    // A required flag that nobody knows.
    let broken = op_msg((7, 0), 1 << 3, &command);
    let nameless = op_msg((7, 0), 0, &doc! { "hello": "x".repeat(20_000), "$db": "admin" });
    let large = doc! { "hello": 1, "comment": "x".repeat(2000), "$db": "admin" };
    let packed = compressed(&op_msg((7, 0), 0, &large), Compressor::Noop);
    let limit = ["--inflate-max-bytes", "1000"];
    for (arguments, bytes) in [(&[][..], plain), (&[], broken), (&[], nameless), (&limit, packed)] {
        let (found, ours, ..) = answer(arguments, &bytes);
        assert_eq!(found, op_msg((900, 7), 0, &hello(&ours)), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_read_on_is_not_answered() {
    let hello = doc! { "hello": 1, "$db": "admin" };
    let ping = doc! { "ping": 1, "$db": "admin" };
    let mut many: Vec<_> = (1..=4200).flat_map(|id| op_msg((id, 0), 0, &ping)).collect();
    many.extend(op_msg((9999, 0), 0, &hello));
    let mut long = op_msg((7, 0), 0, &doc! { "ping": "x".repeat(100_000), "$db": "admin" });
    long.extend(op_msg((8, 0), 0, &hello));
    let tls = [&[0x16, 3, 1, 0, 11][..], &[1; 11]].concat();
    for (arguments, bytes, hint) in [
        (&[][..], tls, "hint: [tls.listen] terminates TLS"),
        (&[], many, "could not be read"),
        (&["--max-message-bytes", "50000"], long, "could not be read"),
    ] {
        let (found, _, log, stderr) = answer(arguments, &bytes);
        assert_eq!(String::from_utf8_lossy(&found), "", "{hint}");
        assert!(stderr.contains("a reply that may be to hello is kept back") && stderr.contains(hint), "{stderr}");
        let actions: Vec<_> = log.events("protocolErrorEvent").filter_map(|error| error.str("action")).collect();
        assert_eq!(actions, ["tunnelled", "closed"], "{hint}");
    }
}

#[test]
fn a_member_of_another_set_is_not_believed() {
    let foreign = Scripted::start(|request: &Request| {
        let reply = doc! { "setName": "rs1", "hosts": ["x:1", "y:1"], "me": "x:1", "ok": 1.0 };
        vec![op_msg((900, request.id), 0, &reply)]
    });
    let proxy = Proxy::start(&format!("mongodb://{},{}/?replicaSet=rs0", member(), foreign.address()), &[]);
    let second = proxy.listeners[1].address.clone();
    let mut client = TcpStream::connect(&second).expect("the listener is there");
    client.write_all(&op_msg((7, 0), 0, &doc! { "hello": 1, "$db": "admin" })).expect("the connection stands");
    let mut found = Vec::new();
    let _ = client.read_to_end(&mut found);
    assert_eq!(String::from_utf8_lossy(&found), "");
    let stderr = proxy.stop().stderr;
    assert!(stderr.contains("a reply to hello is kept back: replicaSet is \"rs0\", but it is a member"), "{stderr}");
    assert!(!stderr.contains("-> x:1"), "{stderr}");
}
