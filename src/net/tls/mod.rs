//! Encryption on either side, by rustls: what clients meet (`Acceptor`) and what servers meet ([`Connector`]).
//!
//! Files are read when these are made, so what is wrong with them is said before anybody connects. A handshake that
//! fails gives a `Trouble`: it names the certificate and the way out, is said on stderr once, however many connections
//! meet it, and is in the log of each. There is no revocation, no key with a password, and nothing is read again while
//! the proxy runs.

mod certificate;
mod explain;
mod files;
mod verify;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::say::{say, with_hint};
use super::stream::Stream;
use crate::config::{Endpoint, Error, Tls, TlsListen, TlsUpstream};
pub(crate) use certificate::Certificate;
pub(crate) use explain::Trouble;
use files::Identity;
use verify::{Answer, ClientVerifier, Seen, ServerCheck, ServerVerifier};

/// A handshake that is not done by then will not be: no peer takes so long.
const HANDSHAKE_FOR: Duration = Duration::from_secs(10);

/// Causes that are remembered as said. With more, some would be said again.
const SAID_MAX: usize = 64;

/// Sessions that clients may resume.
const SESSIONS_MAX: usize = 256;

/// Encrypts connections with clients, by a configuration whose files were read.
#[derive(Clone, Debug)]
pub(crate) struct Acceptor(Arc<Accepting>);

#[derive(Debug)]
struct Accepting {
    provider: Arc<CryptoProvider>,
    own: Identity,
    clients: Option<Clients>,
    sessions: Arc<dyn StoresServerSessions>,
    said: Said,
}

/// Who may connect: whoever has a certificate of these.
#[derive(Debug)]
struct Clients {
    file: PathBuf,
    check: Arc<dyn ClientCertVerifier>,
}

/// Encrypts connections with servers, by a configuration whose files were read.
#[derive(Clone, Debug)]
pub struct Connector {
    shared: Arc<Connecting>,
    /// Where the server was named, if it is dialled by another name.
    named: Option<Endpoint>,
}

#[derive(Debug)]
struct Connecting {
    provider: Arc<CryptoProvider>,
    check: ServerCheck,
    /// Whose CAs they are, for messages.
    roots: String,
    own: Option<Identity>,
    server_name: Option<String>,
    said: Said,
}

/// Which causes were said on stderr, each with whom it is of.
#[derive(Debug, Default)]
struct Said {
    causes: Mutex<BTreeSet<(String, String)>>,
    /// Something was said: where all is well, nobody locks.
    any: AtomicBool,
}

/// Reads and checks all files that a configuration names.
pub(crate) fn check(tls: &Tls) -> Result<(), Error> {
    tls.listen.as_ref().map(Acceptor::new).transpose()?;
    tls.upstream.as_ref().map(Connector::new).transpose()?;
    Ok(())
}

impl Acceptor {
    /// Reads the files.
    pub(crate) fn new(config: &TlsListen) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let own = Identity::read("tls.listen", &config.certificate, config.key.as_deref(), &provider)?;
        let clients = config.ca.as_ref().map(|file| -> Result<_, Error> {
            let roots = files::read_roots("tls.listen.ca", file)?;
            let check = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
            let check = check.map_err(|error| cannot("tls.listen.ca", file.display(), error))?;
            Ok(Clients { file: file.clone(), check })
        });
        let sessions = ServerSessionMemoryCache::new(SESSIONS_MAX);
        let clients = clients.transpose()?;
        let acceptor = Self(Arc::new(Accepting { provider, own, clients, sessions, said: Said::default() }));
        acceptor
            .server_config(&Arc::default())
            .map_err(|error| cannot("tls.listen.certificate", config.certificate.display(), error))?;
        Ok(acceptor)
    }

    /// The handshake with a client.
    pub(super) async fn accept(&self, socket: Stream) -> Result<Stream, Trouble> {
        let seen = Arc::new(Seen::default());
        let accepted = match self.server_config(&seen) {
            Ok(config) => in_time(TlsAcceptor::from(Arc::new(config)).accept(socket)).await,
            Err(error) => Err(io::Error::other(error)),
        };
        accepted.map(|stream| Stream::tls(stream.into(), None)).map_err(|error| {
            let ca = self.0.clients.as_ref().map(|clients| clients.file.as_path());
            let trouble = explain::client(&error, &self.0.own, ca, &seen);
            self.0.said.once("tls.listen", &trouble);
            trouble
        })
    }

    fn server_config(&self, seen: &Arc<Seen>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.0.provider));
        let builder = builder.with_safe_default_protocol_versions()?;
        let builder = match &self.0.clients {
            Some(Clients { check, .. }) => {
                let (check, seen) = (Arc::clone(check), Arc::clone(seen));
                builder.with_client_cert_verifier(Arc::new(ClientVerifier { check, seen }))
            }
            None => builder.with_no_client_auth(),
        };
        let key = SingleCertAndKey::from(Arc::clone(&self.0.own.key));
        let mut config = builder.with_cert_resolver(Arc::new(key));
        config.session_storage = Arc::clone(&self.0.sessions);
        Ok(config)
    }
}

impl Connector {
    /// Reads the files.
    ///
    /// # Errors
    /// If one of them, or what is in it, is not what it should be.
    pub fn new(config: &TlsUpstream) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let own = config.certificate.as_ref();
        let own = own.map(|file| Identity::read("tls.upstream", file, config.key.as_deref(), &provider)).transpose()?;
        let (roots, whose) = match &config.ca {
            Some(file) => (files::read_roots("tls.upstream.ca", file)?, file.display().to_string()),
            None if config.allow_invalid_certificates => (RootCertStore::empty(), String::new()),
            None => (files::system_roots()?, "the system's roots".to_owned()),
        };
        let check = ServerCheck {
            roots: Arc::new(roots),
            algorithms: provider.signature_verification_algorithms,
            any_certificate: config.allow_invalid_certificates,
            any_name: config.allow_invalid_hostnames,
        };
        let server_name = config.server_name.clone();
        if let Some(name) = &server_name {
            ServerName::try_from(name.as_str()).map_err(|_| Error {
                message: format!("tls.upstream.server_name: {name:?} is not a name"),
                hint: Some("write a host's name or an address, like db.example.org".to_owned()),
            })?;
        }
        let connecting = Connecting { provider, check, roots: whose, own, server_name, said: Said::default() };
        Ok(Self { shared: Arc::new(connecting), named: None })
    }

    /// The same for a server that was named so, whatever it is dialled by.
    #[must_use]
    pub fn named(&self, named: &Endpoint) -> Self {
        Self { shared: Arc::clone(&self.shared), named: Some(named.clone()) }
    }

    /// The handshake with the server that was dialled at `endpoint`: it must have a certificate for the host that it was
    /// named, or for the name that the configuration has.
    pub(super) async fn connect(&self, socket: Stream, endpoint: &Endpoint) -> Result<Stream, Trouble> {
        let Connecting { roots, own, server_name, said, .. } = &*self.shared;
        let host = match self.named.as_ref().unwrap_or(endpoint) {
            Endpoint::Tcp { host, .. } => host.as_str(),
            Endpoint::Unix(_) => "localhost",
        };
        let name = server_name.as_deref().unwrap_or(host);
        let seen = Arc::new(Seen::default());
        match self.try_connect(socket, name, &seen).await {
            Ok(stream) => {
                let doubt = Doubt { connector: self.clone(), upstream: endpoint.clone(), seen };
                Ok(Stream::tls(stream.into(), Some(doubt)))
            }
            Err(error) => {
                let trouble = explain::server(&error, name, roots, own.as_ref(), &seen);
                said.once(&upstream(endpoint), &trouble);
                Err(trouble)
            }
        }
    }

    async fn try_connect(
        &self,
        socket: Stream,
        name: &str,
        seen: &Arc<Seen>,
    ) -> io::Result<tokio_rustls::client::TlsStream<Stream>> {
        let server_name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let config = self.client_config(seen).map_err(io::Error::other)?;
        in_time(TlsConnector::from(Arc::new(config)).connect(server_name, socket)).await
    }

    fn client_config(&self, seen: &Arc<Seen>) -> Result<ClientConfig, rustls::Error> {
        let Connecting { provider, check, own, .. } = &*self.shared;
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(provider)).with_safe_default_protocol_versions()?;
        let verifier = ServerVerifier { check: check.clone(), seen: Arc::clone(seen) };
        let answer = Answer { key: own.as_ref().map(|own| Arc::clone(&own.key)), seen: Arc::clone(seen) };
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = builder.with_client_cert_resolver(Arc::new(answer));
        // mongod keeps no sessions.
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

/// What the end of a connection would mean that comes before the server has said anything: in TLS 1.3 it looks at our
/// certificate only when the handshake is done for us.
#[derive(Debug)]
pub(super) struct Doubt {
    connector: Connector,
    upstream: Endpoint,
    seen: Arc<Seen>,
}

impl Doubt {
    /// The server has said something: all is well with it, and what may come is news.
    pub(super) fn settle(&self) {
        self.connector.shared.said.forget(|| upstream(&self.upstream));
    }

    /// The server has ended the connection, in good order or with an error. Unless it `owed` an answer, an end without
    /// an alert has nothing to do with certificates: it follows our own, or nothing was asked.
    pub(super) fn ended(&self, error: Option<&io::Error>, owed: bool) -> Option<io::Error> {
        let Connecting { own, said, .. } = &*self.connector.shared;
        let alert = error.and_then(explain::alert);
        if alert.is_none() && !owed {
            return None;
        }
        let trouble = explain::demanded(alert, own.as_ref(), &self.seen)?;
        said.once(&upstream(&self.upstream), &trouble);
        Some(io::Error::other(trouble))
    }
}

impl Said {
    /// Says it on stderr with its hint, unless that was done.
    fn once(&self, of: &str, trouble: &Trouble) {
        let Trouble { message, hint: Some(hint) } = trouble else { return };
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() >= SAID_MAX {
            causes.clear();
        }
        if causes.insert((of.to_owned(), message.clone())) {
            self.any.store(true, Ordering::Relaxed);
            say(with_hint(format_args!("{of}: {message}"), Some(hint)));
        }
    }

    /// What comes of this one is news again.
    fn forget(&self, of: impl FnOnce() -> String) {
        if self.any.load(Ordering::Relaxed) {
            let of = of();
            let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
            causes.retain(|(it, _)| *it != of);
            self.any.store(!causes.is_empty(), Ordering::Relaxed);
        }
    }
}

/// A server as messages have it.
fn upstream(endpoint: &Endpoint) -> String {
    format!("upstream {endpoint}")
}

async fn in_time<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let handshake = tokio::time::timeout(HANDSHAKE_FOR, handshake).await;
    handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

fn cannot(name: &str, file: impl Display, error: impl Display) -> Error {
    Error { message: format!("{name}: {file}: cannot be used: {error}"), hint: None }
}
