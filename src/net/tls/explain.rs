//! Why a handshake failed, in words that name the certificate, and the way out.

use std::io;
use std::path::Path;

use rustls::{AlertDescription, CertificateError, Error};

use super::certificate::Certificate;
use super::files::Identity;
use super::verify::Seen;

/// What is wrong between the proxy and a peer, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Trouble {
    /// What happened; never bytes that passed.
    pub(crate) message: String,
    /// The way out; `None` if what happened need not be anybody's mistake.
    pub(crate) hint: Option<String>,
}

impl Trouble {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    fn without_hint(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }
}

/// Why a client's handshake failed. `ca` is the file of the CAs that its certificate must be of.
pub(super) fn client(error: &io::Error, own: &Identity, ca: Option<&Path>, seen: &Seen) -> Trouble {
    let Some(error) = cause(error) else {
        return Trouble::without_hint(match error.kind() {
            io::ErrorKind::TimedOut => "the client did not come to the end of its TLS handshake".to_owned(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                "the client closed the connection within the TLS handshake".to_owned()
            }
            _ => format!("the TLS handshake with the client failed: {error}"),
        });
    };
    let ca = ca.map(|file| file.display().to_string()).unwrap_or_default();
    match error {
        Error::InvalidMessage(_) => Trouble::new(
            "the client does not speak TLS: its first bytes are no TLS handshake",
            "put tls=true into the application's URI, or leave [tls.listen] out",
        ),
        Error::NoCertificatesPresented => Trouble::new(
            "the client has no certificate",
            format!(
                "tls.listen.ca asks for one that a CA in {ca} has signed: tlsCertificateKeyFile in the application's URI"
            ),
        ),
        Error::InvalidCertificate(error) => {
            let certificate = seen.refused().cloned().unwrap_or_default();
            let whose = format!("the client's certificate ({certificate})");
            match error {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::new(
                    format!("{whose} was signed by no CA in {ca}"),
                    "give the application a certificate of such a CA, or add its CA to the file",
                ),
                error => invalid(&whose, &certificate, error, "give the application another one"),
            }
        }
        Error::AlertReceived(alert) => {
            let Identity { certificate, file, .. } = own;
            let message = format!("the client refuses our certificate ({certificate}) in {file}: {}", words(*alert));
            Trouble::new(message, refused_hint(*alert, certificate))
        }
        Error::PeerIncompatible(what) => Trouble::new(
            format!("the client and we have no way of TLS in common: {what:?}"),
            "TLS 1.2 and 1.3 are spoken here: take a newer driver or runtime",
        ),
        error => Trouble::new(format!("the TLS handshake with the client failed: {error}"), CLIENT_HINT),
    }
}

/// Why the handshake with a server failed; `host` is whom we took it for, `roots` whose CAs were asked.
pub(super) fn server(error: &io::Error, host: &str, roots: &str, own: Option<&Identity>, seen: &Seen) -> Trouble {
    let Some(error) = cause(error) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Trouble::new(
                "the server closed the connection within the TLS handshake: it may not speak TLS",
                NO_TLS_HINT,
            ),
            io::ErrorKind::TimedOut => Trouble::new("the server does not answer the TLS handshake", NO_TLS_HINT),
            _ => Trouble::new(format!("the TLS handshake with the server failed: {error}"), NO_TLS_HINT),
        };
    };
    match error {
        Error::InvalidMessage(_) => {
            Trouble::new("the server does not speak TLS: it answered something else", NO_TLS_HINT)
        }
        Error::InvalidCertificate(error) => server_certificate(error, host, roots, seen),
        Error::AlertReceived(alert) => demanded(Some(*alert), own, seen).unwrap_or_else(|| {
            Trouble::new(format!("the server refuses the TLS handshake: {}", words(*alert)), SERVER_HINT)
        }),
        Error::PeerIncompatible(what) => Trouble::new(
            format!("the server and we have no way of TLS in common: {what:?}"),
            "TLS 1.2 and 1.3 are spoken here: see the server's tlsDisabledProtocols",
        ),
        error => Trouble::new(format!("the TLS handshake with the server failed: {error}"), SERVER_HINT),
    }
}

/// What it means that a server ends the connection, with that alert or without one, before it has said anything:
/// something to do with a certificate of ours, if it asked for one.
pub(super) fn demanded(alert: Option<AlertDescription>, own: Option<&Identity>, seen: &Seen) -> Option<Trouble> {
    if !seen.asked() {
        return None;
    }
    let how = alert.map_or_else(|| "it closed the connection".to_owned(), words);
    Some(match own {
        None => Trouble::new(
            format!("the server asks for a certificate of ours, and there is none: {how}"),
            "name one: tls.upstream.certificate (--tls-upstream-certificate), tlsCertificateKeyFile in the upstream's URI",
        ),
        Some(Identity { certificate, file, .. }) => Trouble::new(
            format!("the server refuses our certificate ({certificate}) in {file}: {how}"),
            "it must be signed by a CA in the server's tlsCAFile, and be in time",
        ),
    })
}

fn server_certificate(error: &CertificateError, host: &str, roots: &str, seen: &Seen) -> Trouble {
    let certificate = seen.refused().cloned().unwrap_or_default();
    let whose = format!("the server's certificate ({certificate})");
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Trouble::new(
            format!("{whose} is not for {host}"),
            format!(
                "connect to {}, or say which name it has: tls.upstream.server_name; \
                 tls.upstream.allow_invalid_hostnames = true takes any",
                certificate.names()
            ),
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => Trouble::new(
            format!("{whose} was signed by no CA in {roots}"),
            "name the file of its CA: tls.upstream.ca (--tls-upstream-ca), tlsCAFile in the upstream's URI",
        ),
        error => invalid(&whose, &certificate, error, "or take any: tls.upstream.allow_invalid_certificates = true"),
    }
}

/// What else can be wrong with a certificate; `otherwise` is another way out than a better one.
fn invalid(whose: &str, certificate: &Certificate, error: &CertificateError, otherwise: &str) -> Trouble {
    match error {
        CertificateError::ExpiredContext { not_after, .. } if is(*not_after, certificate.valid.1) => {
            Trouble::new(format!("{whose} has expired"), format!("renew it, {otherwise}"))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Trouble::new(format!("one of the CAs behind {whose} has expired"), format!("renew it, {otherwise}"))
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            Trouble::new(format!("{whose} is not valid yet"), format!("see that the clocks are right, {otherwise}"))
        }
        error => Trouble::new(
            format!("{whose} will not do: {}", reason(error)),
            format!("mongotap cert DIR makes a good one to compare with, {otherwise}"),
        ),
    }
}

fn is(time: rustls::pki_types::UnixTime, seconds: i64) -> bool {
    i64::try_from(time.as_secs()) == Ok(seconds)
}

fn reason(error: &CertificateError) -> String {
    match error {
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for this use (extendedKeyUsage)".to_owned()
        }
        CertificateError::BadEncoding => "it is not well formed".to_owned(),
        // The verifier's own errors have no other form.
        CertificateError::Other(error) => match error.to_string() {
            text if text.contains("CaUsedAsEndEntity") => "it is a CA's own, which is for no server".to_owned(),
            text => text,
        },
        error => error.to_string(),
    }
}

/// The way out for a client that refused our certificate.
fn refused_hint(alert: AlertDescription, certificate: &Certificate) -> String {
    match alert {
        AlertDescription::UnknownCA => "give the application the CA that signed it: tlsCAFile in its URI".to_owned(),
        AlertDescription::CertificateExpired => "renew it, and name the new one in tls.listen.certificate".to_owned(),
        _ => format!(
            "the application must connect to {}, and have the CA that signed it: tlsCAFile in its URI",
            certificate.names()
        ),
    }
}

/// An alert's name as its RFC has it: `unknown_ca`.
fn words(alert: AlertDescription) -> String {
    let name = format!("{alert:?}").replace("CA", "Ca");
    let mut words = String::from("alert ");
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            words.push('_');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// What rustls has to say, if the error is one of its.
fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The alert that a connection ended with, if that is how it ended.
pub(super) fn alert(error: &io::Error) -> Option<AlertDescription> {
    match cause(error) {
        Some(Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    }
}

const NO_TLS_HINT: &str =
    "leave [tls.upstream] and tls=true out, or start the server with TLS (mongod --tlsMode requireTLS)";
const CLIENT_HINT: &str = "see whether another driver connects; TLS 1.2 and 1.3 are spoken here";
const SERVER_HINT: &str = "see the server's log; TLS 1.2 and 1.3 are spoken here";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_names() {
        assert_eq!(words(AlertDescription::UnknownCA), "alert unknown_ca");
        assert_eq!(words(AlertDescription::BadCertificate), "alert bad_certificate");
        assert_eq!(words(AlertDescription::CertificateRequired), "alert certificate_required");
    }
}
