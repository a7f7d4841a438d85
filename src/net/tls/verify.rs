//! Whether the peer's certificate will do, and what was seen of it: the handshake's error says why a certificate was
//! refused, not which one. So each connection has a verifier of its own that keeps it.
//!
//! Revocation is not looked at: no CRL is read and nobody is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::certificate::Certificate;

/// What a handshake saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    refused: OnceLock<Certificate>,
    asked: AtomicBool,
}

impl Seen {
    /// The peer's certificate that was refused, if that is what happened.
    pub(super) fn refused(&self) -> Option<&Certificate> {
        self.refused.get()
    }

    /// Whether the server asked for a certificate of ours.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    fn keep<T>(&self, certificate: &CertificateDer<'_>, result: Result<T, Error>) -> Result<T, Error> {
        if result.is_err() {
            self.refused.get_or_init(|| Certificate::of(certificate));
        }
        result
    }
}

/// What is wanted of servers' certificates.
#[derive(Clone, Debug)]
pub(super) struct ServerCheck {
    pub(super) roots: Arc<RootCertStore>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    pub(super) any_certificate: bool,
    pub(super) any_name: bool,
}

/// One connection's verifier of the server.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) check: ServerCheck,
    pub(super) seen: Arc<Seen>,
}

impl ServerCheck {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        if self.any_certificate {
            return Ok(());
        }
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        if self.any_name { Ok(()) } else { verify_server_name(&certificate, server_name) }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.check.check(end_entity, intermediates, server_name, now);
        self.seen.keep(end_entity, checked).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.check.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.check.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.check.algorithms.supported_schemes()
    }
}

/// One connection's answer to a server that asks for a certificate.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) key: Option<Arc<CertifiedKey>>,
    pub(super) seen: Arc<Seen>,
}

impl ResolvesClientCert for Answer {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.seen.asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // Asked in any case, so that it is known that the server does.
        true
    }
}

/// One connection's verifier of the client.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) check: Arc<dyn ClientCertVerifier>,
    pub(super) seen: Arc<Seen>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.check.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.seen.keep(end_entity, self.check.verify_client_cert(end_entity, intermediates, now))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.check.supported_verify_schemes()
    }
}
