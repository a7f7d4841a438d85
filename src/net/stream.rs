//! A socket of either kind, TCP or unix, plain or with TLS over it, as one type.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

use super::tls::Doubt;
use crate::config::Endpoint;

/// After this long without a word the kernel asks whether the peer is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(120);

/// What to do about an error that is a want of descriptors, and so says nothing of the other side.
pub(super) fn descriptors_hint(error: &io::Error) -> Option<&'static str> {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
        .then_some("each connection takes two: allow more of them (ulimit -n, or LimitNOFILE= of a systemd unit)")
}

/// What a pump wants of a socket besides its bytes.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Whether bytes that were taken for written are still here: only TLS holds any.
    fn holds_bytes(&self) -> bool;

    /// Lets the peer see an abort when the socket closes, not an end in good order.
    fn abort_on_close(&self);

    /// Why the connection is no more, if that is known without reading or writing. It is told once.
    fn failure(&self) -> Option<io::Error> {
        None
    }
}

/// A connected socket.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Encrypted>),
}

/// TLS over a socket.
#[derive(Debug)]
pub(super) struct Encrypted {
    stream: TlsStream<Stream>,
    /// Until the peer has said something.
    doubt: Option<Doubt>,
    /// Something was said to the peer, and not yet that it was all: it has no cause to end the connection.
    is_owed: bool,
}

/// An accepted socket on its way to the thread that will serve it.
#[derive(Debug)]
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    /// Where the client is, unless it is on this machine by necessity. One that has gone already is nowhere in particular.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(socket) => {
                Some(socket.peer_addr().map_or_else(|_| Ipv4Addr::UNSPECIFIED.into(), |address| address.ip()))
            }
            Self::Unix(_) => None,
        }
    }

    /// Makes it a socket of this thread's runtime.
    pub(super) fn adopt(self) -> io::Result<Stream> {
        match self {
            Self::Tcp(socket) => Stream::tcp(TcpStream::from_std(socket)?),
            Self::Unix(socket) => Ok(Stream::Unix(UnixStream::from_std(socket)?)),
        }
    }
}

impl Stream {
    pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<Self> {
        match endpoint {
            Endpoint::Tcp { host, port } => Self::tcp(TcpStream::connect((host.as_str(), *port)).await?),
            Endpoint::Unix(path) => Ok(Self::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Over a socket whose handshake is done; `doubt` knows what it means should the peer end now.
    pub(super) fn tls(stream: TlsStream<Self>, doubt: Option<Doubt>) -> Self {
        Self::Tls(Box::new(Encrypted { stream, doubt, is_owed: false }))
    }

    fn tcp(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE_AFTER);
        socket2::SockRef::from(&socket).set_tcp_keepalive(&keepalive)?;
        Ok(Self::Tcp(socket))
    }
}

impl Socket for Stream {
    fn holds_bytes(&self) -> bool {
        match self {
            Self::Tcp(_) | Self::Unix(_) => false,
            Self::Tls(encrypted) => encrypted.stream.get_ref().1.wants_write(),
        }
    }

    fn abort_on_close(&self) {
        match self {
            // It is about to be closed: whether it could be told how is of no more interest.
            Self::Tcp(socket) => _ = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO)),
            Self::Unix(_) => {}
            Self::Tls(encrypted) => encrypted.stream.get_ref().0.abort_on_close(),
        }
    }

    fn failure(&self) -> Option<io::Error> {
        match self {
            Self::Tcp(socket) => socket.take_error().ok()?,
            Self::Unix(socket) => socket.take_error().ok()?,
            Self::Tls(encrypted) => encrypted.stream.get_ref().0.failure(),
        }
    }
}

impl Encrypted {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let error = match ready!(Pin::new(&mut self.stream).poll_read(cx, buffer)) {
            Ok(()) if buffer.filled().len() > before => {
                if let Some(doubt) = self.doubt.take() {
                    doubt.settle();
                }
                return Poll::Ready(Ok(()));
            }
            Ok(()) => None,
            // It closed without saying so in TLS, as servers and drivers do. Whether that tore a message apart is seen
            // from the messages.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => Some(error),
        };
        match (self.doubt.take().and_then(|doubt| doubt.ended(error.as_ref(), self.is_owed)), error) {
            (Some(error), _) | (None, Some(error)) => Poll::Ready(Err(error)),
            (None, None) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.is_owed = true;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_owed = false;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Unix(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(encrypted) => encrypted.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Unix(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(encrypted) => encrypted.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(encrypted) => Pin::new(&mut encrypted.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Unix(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(encrypted) => encrypted.poll_shutdown(cx),
        }
    }
}
