//! Certificates and keys from PEM files, read once at the start, so that what is wrong with them is said then.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use super::certificate::Certificate;
use crate::config::{Error, io_reason};
use crate::net::clock;
use crate::net::say::say;

/// A certificate of the proxy's own, with its key.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// For messages: what it says, and the file that it came from.
    pub(super) certificate: Certificate,
    pub(super) file: String,
}

impl Identity {
    /// Reads the certificate with those behind it, and the key, from their files. `section` is the one that names them.
    pub(super) fn read(
        section: &str,
        certificate: &Path,
        key: Option<&Path>,
        provider: &CryptoProvider,
    ) -> Result<Self, Error> {
        let chain = read_certificates(&format!("{section}.certificate"), certificate)?;
        let described = Certificate::of(&chain[0]);
        let key_name = if key.is_some() { format!("{section}.key") } else { format!("{section}.certificate") };
        let key_file = key.unwrap_or(certificate);
        let private = read_key(&key_name, key_file, section)?;
        let file = certificate.display().to_string();
        let key = CertifiedKey::from_der(chain, private, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let key_file = key_file.display();
                let message = format!("{key_file}: its key is not that of the certificate in {file} ({described})");
                problem(&key_name, message, "name the key that the certificate was made for")
            }
            error => problem(&key_name, format!("{}: the key cannot be used: {error}", key_file.display()), KEY_HINT),
        })?;
        let own = Self { key: Arc::new(key), certificate: described, file };
        own.warn(section);
        Ok(own)
    }

    /// Says that the certificate is not in time, if it is not: peers will refuse it, but their clocks count.
    fn warn(&self, section: &str) {
        let now = clock::now().unix_micros / 1_000_000;
        let (not_before, not_after) = self.certificate.valid;
        let what = match now {
            now if now < not_before => "is not valid yet",
            now if now > not_after => "has expired",
            _ => return,
        };
        say(format_args!("{section}.certificate: {}: the certificate ({}) {what}", self.file, self.certificate));
    }
}

/// The CAs in a file; `name` is the configuration's key for it.
pub(super) fn read_roots(name: &str, file: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(name, file)? {
        let described = Certificate::of(&certificate);
        roots.add(certificate).map_err(|error| {
            let message = format!("{}: the certificate ({described}) cannot be used: {error}", file.display());
            problem(name, message, "name a file with the certificates of CAs")
        })?;
    }
    Ok(roots)
}

/// The CAs that this system trusts.
pub(super) fn system_roots() -> Result<RootCertStore, Error> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let hint = "name the server's CA with tls.upstream.ca (--tls-upstream-ca), or install ca-certificates";
        return Err(problem("tls.upstream", "this system has no CA certificates".to_owned(), hint));
    }
    Ok(roots)
}

fn read_certificates(name: &str, file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(name, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| damaged(name, file, &error))?;
    if found.is_empty() {
        let message = format!("{}: holds no certificate", file.display());
        return Err(problem(
            name,
            message,
            "it is to be PEM: -----BEGIN CERTIFICATE-----; mongotap cert DIR makes some",
        ));
    }
    Ok(found)
}

fn read_key(name: &str, file: &Path, section: &str) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(name, file)?;
    if is_encrypted(&text) {
        let file = file.display();
        let hint =
            format!("decrypt it into a file of its own: openssl pkey -in {file} -out key.pem && chmod 600 key.pem");
        return Err(problem(name, format!("{file}: its key is encrypted"), &hint));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let hint = format!("{section}.key names the key's file when it is not the certificate's");
            problem(name, format!("{}: holds no private key", file.display()), &hint)
        }
        error => damaged(name, file, &error),
    })
}

/// Whether a PEM file says that its key is encrypted, in PKCS#8's way or in the older one.
fn is_encrypted(text: &[u8]) -> bool {
    let holds = |what: &[u8]| memchr::memmem::find(text, what).is_some();
    holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED")
}

fn read(name: &str, file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| {
        let message = format!("{}: {}", file.display(), io_reason(&error));
        problem(name, message, "name a PEM file that can be read; mongotap cert DIR makes some")
    })
}

fn damaged(name: &str, file: &Path, error: &pem::Error) -> Error {
    // Bytes of the file are not shown: it may hold a key.
    let what = match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no END line",
        pem::Error::IllegalSectionStart { .. } => "a section has a broken BEGIN line",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "it cannot be read",
    };
    problem(name, format!("{}: is damaged: {what}", file.display()), "make or copy the PEM file again")
}

fn problem(name: &str, message: String, hint: &str) -> Error {
    Error { message: format!("{name}: {message}"), hint: Some(hint.to_owned()) }
}

const KEY_HINT: &str = "an RSA, ECDSA (P-256, P-384) or Ed25519 key can be used";
