//! A relay that keeps what passes, for both sides of the proxy: client → relay → proxy → relay → mongod.
//!
//! What the first read from the client must be what the second read from the proxy, and the other way round: that is
//! the proof that the proxy changes no byte. The bytes themselves are kept, so a difference has an offset.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<Vec<JoinHandle<Transfer>>>,
}

/// What passed on one connection.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    /// What the client sent.
    pub(crate) to_server: Vec<u8>,
    /// What the server sent.
    pub(crate) to_client: Vec<u8>,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Passed {
    pub(crate) connections: usize,
    pub(crate) to_server: usize,
    pub(crate) to_client: usize,
}

impl Relay {
    /// Relays to that address.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let (target, stopping) = (target.to_owned(), Arc::new(AtomicBool::new(false)));
        let stop = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            let accepted = listener.incoming().map_while(Result::ok).take_while(|_| !stop.load(Ordering::SeqCst));
            accepted.map(|client| connection(client, target.clone())).collect()
        });
        Self { address, stopping, acceptor }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// What passed. Waits until every connection has ended.
    pub(crate) fn finish(self) -> Vec<Transfer> {
        self.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let connections = self.acceptor.join().expect("the acceptor ends");
        connections.into_iter().map(|connection| connection.join().expect("a connection ends")).collect()
    }
}

/// Fails unless all that the outer relay (before the proxy) and the inner one (behind it) saw is the same, connection
/// by connection. A client that closes early leaves the tail of the last answer to nobody, so towards the client what
/// arrived may be short of what was sent, never different.
pub(crate) fn assert_same(outer: Vec<Transfer>, inner: Vec<Transfer>) -> Passed {
    let mut waiting: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let mut passed = Passed { connections: outer.len(), ..Passed::default() };
    assert_eq!(outer.len(), inner.len(), "as many connections on both sides");
    for Transfer { to_server, to_client } in inner {
        waiting.entry(to_server).or_default().push(to_client);
    }
    for Transfer { to_server, to_client } in outer {
        passed.to_server += to_server.len();
        passed.to_client += to_client.len();
        let Some(candidates) = waiting.get_mut(&to_server) else {
            let near = waiting.keys().map(|it| common_prefix(it, &to_server)).max().unwrap_or(0);
            panic!("a client sent {} bytes; the server was sent at most their first {near}", to_server.len());
        };
        let Some(found) = candidates.iter().position(|sent| sent.starts_with(&to_client)) else {
            let near = candidates.iter().map(|it| common_prefix(it, &to_client)).max().unwrap_or(0);
            panic!("a client read {} bytes; only the first {near} are what the server sent", to_client.len());
        };
        candidates.swap_remove(found);
        if candidates.is_empty() {
            waiting.remove(&to_server);
        }
    }
    passed
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn connection(client: TcpStream, target: String) -> JoinHandle<Transfer> {
    thread::spawn(move || {
        let Ok(server) = TcpStream::connect(target) else { return Transfer::default() };
        let kept = Arc::new(Mutex::new(Vec::new()));
        let (from, to, keep) = (clone(&server), clone(&client), Arc::clone(&kept));
        let backward = thread::spawn(move || copy(from, to, &keep));
        let forward = Mutex::new(Vec::new());
        copy(client, server, &forward);
        backward.join().expect("copying does not panic");
        let take = |bytes: &Mutex<Vec<u8>>| std::mem::take(&mut *bytes.lock().expect("copying does not panic"));
        Transfer { to_server: take(&forward), to_client: take(&kept) }
    })
}

/// Copies until the end, and passes the end on. A reader that is gone may have said something before: so what else is
/// said to it goes nowhere, and nothing is closed until it was heard to its own end.
fn copy(mut from: TcpStream, mut to: TcpStream, kept: &Mutex<Vec<u8>>) {
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let mut buffer = [0; 1 << 16];
    let mut is_read = true;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) => {
                kept.lock().expect("copying does not panic").extend(&buffer[..length]);
                is_read = is_read && to.write_all(&buffer[..length]).is_ok();
            }
            Err(_) => {
                let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
                return;
            }
        }
    }
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("a socket can be shared")
}
