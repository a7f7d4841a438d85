//! Both ends of one connection through the proxy, in one hand: what one writes, the other is to read.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use bson::{Document, doc};

use crate::logged::Logged;
use crate::support::client::op_msg;

/// Nothing here takes longer to arrive.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A proxy, and the socket at which it takes its server to be.
pub(crate) struct Between {
    pub(crate) proxy: Logged,
    listener: TcpListener,
}

/// A client's socket and a server's.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) server: TcpStream,
}

impl Between {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        Self { proxy: Logged::start(&format!("mongodb://{address}"), arguments), listener }
    }

    /// Connects a client, and takes what the proxy connects for it.
    pub(crate) fn pair(&self) -> Pair {
        let client = TcpStream::connect(self.proxy.address()).expect("the proxy listens");
        let (server, _) = self.listener.accept().expect("the proxy connects");
        for socket in [&client, &server] {
            socket.set_nodelay(true).expect("a socket has the option");
            socket.set_read_timeout(Some(SOON)).expect("a socket has the option");
        }
        Pair { client, server }
    }
}

/// A command's message, and that of its answer.
pub(crate) fn exchange(command: &Document) -> (Vec<u8>, Vec<u8>) {
    let mut reply = op_msg(9, 0, &doc! { "ok": 1.0, "text": "as it should be" });
    reply[8..12].copy_from_slice(&7_i32.to_le_bytes());
    (op_msg(7, 0, command), reply)
}

/// Sends bytes from one end; they must come out at the other.
pub(crate) fn pass(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).expect("the connection stands");
    let mut came = vec![0; bytes.len()];
    to.read_exact(&mut came).expect("it is passed on");
    assert!(came == bytes, "it comes as it was sent");
}

/// Reads until the other end is gone, by a close or a reset. What still came.
pub(crate) fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut buffer = [0; 1 << 16];
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return rest,
            Ok(length) => rest.extend(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return rest,
            Err(error) => panic!("the end is passed on: {error}"),
        }
    }
}

/// Closes a socket so that the other side sees a reset.
pub(crate) fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("a TCP socket lingers");
}
