//! What a certificate says of itself, in words for people: whose it is, who signed it, for which names, and until when.
//! Nothing is checked here, and what cannot be read is left out.

use std::fmt;
use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::sink::printed;

/// More names than these are counted, not listed.
const NAMES_MAX: usize = 6;

/// A name longer than this many characters is cut: a peer's certificate may say anything.
const NAME_LEN_MAX: usize = 120;

/// A certificate, described.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// The host names and addresses that it is for; for a client's none are needed.
    pub(crate) names: Vec<String>,
    /// The first and the last day on which it is valid: `2026-11-22`.
    pub(crate) not_before: String,
    pub(crate) not_after: String,
    /// The same as seconds since 1970.
    pub(crate) valid: (i64, i64),
}

impl Certificate {
    /// Reads what there is to be read.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Self {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return Self::default() };
        let validity = parsed.validity();
        Self {
            subject: shown(&parsed.subject().to_string()),
            issuer: shown(&parsed.issuer().to_string()),
            names: names(&parsed),
            not_before: day(validity.not_before),
            not_after: day(validity.not_after),
            valid: (validity.not_before.timestamp(), validity.not_after.timestamp()),
        }
    }

    /// Its names, as many as can be shown.
    pub(crate) fn names(&self) -> String {
        let listed = self.names.iter().take(NAMES_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
        match self.names.len() {
            0 => "no name".to_owned(),
            all if all > NAMES_MAX => format!("{listed} and {} more", all - NAMES_MAX),
            _ => listed,
        }
    }
}

impl fmt::Display for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, issuer, not_before, not_after, .. } = self;
        if self.not_after.is_empty() {
            return f.write_str("unreadable");
        }
        let subject = if subject.is_empty() { "none" } else { subject };
        write!(f, "subject {subject}, issuer {issuer}, for {}, valid {not_before} to {not_after}", self.names())
    }
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter();
    names.filter_map(name).collect()
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(shown(name)),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// `2026-11-22`
fn day(time: ASN1Time) -> String {
    let time = time.to_datetime();
    format!("{:04}-{:02}-{:02}", time.year(), u8::from(time.month()), time.day())
}

/// It may be a stranger's text, and goes to a terminal.
fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(NAME_LEN_MAX).map_or(text, |(end, _)| &text[..end]);
    let more = if cut.len() < text.len() { "…" } else { "" };
    printed(cut) + more
}
