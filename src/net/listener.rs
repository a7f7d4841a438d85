//! The socket that clients connect to.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::{Context, Poll, ready};

use tokio::net::{TcpListener, UnixListener};

use super::stream::Accepted;
use crate::config::Endpoint;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A bound socket, not yet on a runtime.
#[derive(Debug)]
pub(super) enum Bound {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

/// The file of a unix socket; removed when the listener ends.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it before; then there is nothing to do.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Bound {
    /// Binds a socket. A file that a dead process left of a unix socket is taken over, any other is not.
    pub(super) fn bind(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => {
                let addresses = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), *port))?;
                bind_first(addresses).map(Self::Tcp)
            }
            Endpoint::Unix(path) => {
                remove_stale(path)?;
                let listener = std::os::unix::net::UnixListener::bind(path)?;
                let file = SocketFile(path.clone());
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(listener, file))
            }
        }
    }

    /// The address that was bound: the port that was free, if any would do.
    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => {
                let address = listener.local_addr()?;
                Ok(Endpoint::Tcp { host: address.ip().to_string(), port: address.port() })
            }
            Self::Unix(_, SocketFile(path)) => Ok(Endpoint::Unix(path.clone())),
        }
    }

    /// Makes it a socket of this thread's runtime.
    pub(super) fn adopt(self) -> io::Result<Listener> {
        match self {
            Self::Tcp(listener) => Ok(Listener::Tcp(TcpListener::from_std(listener)?)),
            Self::Unix(listener, file) => Ok(Listener::Unix(UnixListener::from_std(listener)?, file)),
        }
    }
}

fn bind_first(addresses: impl Iterator<Item = std::net::SocketAddr>) -> io::Result<std::net::TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the host has no address");
    for address in addresses {
        match bind_tcp(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    // A port whose old connections are still timing out may be taken at once.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let is_dead = metadata.file_type().is_socket()
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_dead { std::fs::remove_file(path) } else { Ok(()) }
}

/// A listening socket.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[expect(dead_code, reason = "the file is there to be removed at the end")]
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// The next client: its socket and its address.
    pub(super) async fn accept(&self) -> io::Result<(Accepted, String)> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The same, for who waits for several.
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Accepted, String)>> {
        Poll::Ready(match self {
            Self::Tcp(listener) => {
                let (socket, peer) = ready!(listener.poll_accept(cx))?;
                Ok((Accepted::Tcp(socket.into_std()?), peer.to_string()))
            }
            Self::Unix(listener, _) => {
                let (socket, _) = ready!(listener.poll_accept(cx))?;
                Ok((Accepted::Unix(socket.into_std()?), "unix".to_owned()))
            }
        })
    }
}
