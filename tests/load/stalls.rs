//! Sides that are slow, or stand still: memory stays bounded, nobody else waits, and nothing is lost when they go on.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use bson::doc;

use crate::logged::Logged;
use crate::pair::{Between, Pair, SOON, exchange, pass, rest};
use crate::server::Server;
use crate::support::client::{Client, is_ok};
use crate::support::now;
use crate::usage::memory_at_rest;

/// What a connection may hold while one side of it stands still, in kB: a read of each direction, and what allocators add.
const HELD_MAX: u64 = 4 << 10;

/// Answers that nobody reads, and how long each is: far more than sockets hold.
const ANSWERS: usize = 60;
const ANSWER: i32 = 1_000_000;

pub(crate) fn client_that_reads_nothing() -> String {
    let server = Server::start();
    let proxy = Logged::start(&server.uri(), &[]);
    let mut other = Client::handshake(proxy.address(), "other");
    let before = memory_at_rest(proxy.pid()).now;
    let mut client = Client::handshake(proxy.address(), "deaf");
    let find = doc! { "find": "items", "bytes": ANSWER, "$db": "stalls" };
    let ids: Vec<_> = (0..ANSWERS).map(|_| client.send(0, &find).expect("requests are short")).collect();
    let held = memory_at_rest(proxy.pid()).now.saturating_sub(before);
    assert!(held <= HELD_MAX, "{held} kB are held for a client that does not read");
    let asked = now();
    for _ in 0..20 {
        assert!(is_ok(&other.command(&doc! { "ping": 1, "$db": "admin" })));
    }
    let waited = asked.elapsed() / 20;
    assert!(waited < Duration::from_secs(1), "another one waits {waited:?}");
    for id in ids {
        let answer = client.receive().expect("all answers come in the end");
        assert_eq!(answer.response_to, id);
    }
    drop((client, other));
    let (tally, _) = proxy.end();
    assert_eq!((tally.succeeded, tally.failed), (ANSWERS as u64 + 20, 0), "{tally:?}");
    format!("{held} kB held; another one is answered in {waited:?}; {ANSWERS} MB read in the end")
}

pub(crate) fn server_that_reads_nothing() -> String {
    let between = Between::start(&[]);
    let before = memory_at_rest(between.proxy.pid()).now;
    let Pair { mut client, mut server } = between.pair();
    let (request, _) = exchange(&doc! { "insert": "items", "filler": "x".repeat(1_000_000), "$db": "stalls" });
    client.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket has the option");
    let sent = write_until_it_waits(&mut client, &request);
    let held = memory_at_rest(between.proxy.pid()).now.saturating_sub(before);
    assert!(held <= HELD_MAX, "{held} kB are held for a server that does not read");
    // Another one, whose server does, is served.
    let Pair { client: mut other, server: mut others } = between.pair();
    let (ping, pong) = exchange(&doc! { "ping": 1, "$db": "admin" });
    pass(&mut other, &mut others, &ping);
    pass(&mut others, &mut other, &pong);
    // And when it reads again, all is there.
    client.shutdown(std::net::Shutdown::Write).expect("the connection stands");
    let came = rest(&mut server);
    assert_eq!(came.len(), sent);
    assert!(came.chunks(request.len()).all(|it| request.starts_with(it)), "every byte is as it was");
    drop((client, server, other, others));
    let (tally, _) = between.proxy.end();
    assert_eq!((tally.succeeded, tally.failed), (1, (sent / request.len()) as u64), "{tally:?}");
    format!("{held} kB held; {} MB taken before the client had to wait, all of it arrived", sent >> 20)
}

/// Writes a message again and again until the socket takes no more for a while. How many bytes it took.
pub(crate) fn write_until_it_waits(socket: &mut TcpStream, message: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        match socket.write(&message[sent % message.len()..]) {
            Ok(written) => sent += written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("the connection stands: {error}"),
        }
        assert!(sent < 100 << 20, "somebody takes all of it");
    }
}

pub(crate) fn one_byte_at_a_time() -> String {
    let between = Between::start(&[]);
    let Pair { mut client, mut server } = between.pair();
    let (request, reply) = exchange(&doc! { "find": "items", "filter": { "a": "b" }, "$db": "stalls" });
    for _ in 0..5 {
        dribble(&mut client, &mut server, &request);
        dribble(&mut server, &mut client, &reply);
    }
    drop((client, server));
    let (tally, _) = between.proxy.end();
    assert_eq!((tally.succeeded, tally.failed), (5, 0), "{tally:?}");
    format!("5 commands, {} bytes", 5 * (request.len() + reply.len()))
}

/// Each byte must have arrived before the next one is sent.
fn dribble(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    let mut came = [0];
    for byte in bytes {
        from.write_all(&[*byte]).expect("the connection stands");
        to.read_exact(&mut came).expect("it is passed on at once");
        assert_eq!(came[0], *byte);
    }
}

/// Its sockets are full: the system neither takes nor refuses connections to it.
pub(crate) fn upstream_that_does_not_accept() -> String {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a loopback port");
    socket.listen(0).expect("it listens");
    let address = socket.local_addr().expect("it is bound").as_socket().expect("an address of IP");
    let mut filling = Vec::new();
    while let Ok(taken) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        filling.push(taken);
    }
    let proxy = Logged::start(&format!("mongodb://{address}"), &["--drain", "500ms"]);
    let mut patient = Client::connect(proxy.address());
    let id = patient.send(0, &doc! { "ping": 1, "$db": "admin" }).expect("the proxy takes it");
    thread::sleep(Duration::from_millis(500));

    // It comes to itself: who has waited is served.
    let begun = now();
    let fillers = filling.len();
    drop(filling);
    // Those that filled it go before.
    let accept = || socket.accept().expect("a connection waits").0;
    (0..fillers).for_each(|_| drop(accept()));
    let mut served = accept();
    served.set_read_timeout(Some(SOON)).expect("a socket has the option");
    let (_, mut reply) = exchange(&doc! {});
    reply[8..12].copy_from_slice(&id.to_le_bytes());
    served.read_exact(&mut [0; 16]).expect("the request comes");
    served.write_all(&reply).expect("the connection stands");
    assert!(is_ok(&patient.receive().expect("it is answered").body));
    let served_after = begun.elapsed();

    // It stands still again: that ends nobody's patience but its clients', nor holds up the proxy's end.
    let mut filling = Vec::new();
    while let Ok(taken) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        filling.push(taken);
    }
    let mut waiting = Client::connect(proxy.address());
    waiting.send(0, &doc! { "ping": 1, "$db": "admin" }).expect("the proxy takes it");
    drop(patient);
    thread::sleep(Duration::from_millis(200));
    let told = now();
    let (tally, _) = proxy.end();
    let ended = told.elapsed();
    assert!(ended < Duration::from_secs(15), "it ends within {ended:?}");
    assert_eq!((tally.opened, tally.succeeded), (2, 1), "{tally:?}");
    format!("served {served_after:.1?} after it came to itself; ended within {ended:.1?} while it stood still")
}
