//! `[tls.listen]`, `[tls.upstream]` and the TLS options of the upstream's connection string, read into a [`Tls`].
//!
//! TLS towards the server is on when the connection string says `tls=true`, or when anything is said of how it is to
//! be. What is said in two places must be the same. The files that are named are not opened here.

use std::path::PathBuf;

use serde::Deserialize;

use super::address::Problem;
use super::file::{Switch, Text};
use super::resolve::Place;
use super::{Error, Tls, TlsListen, TlsUpstream};

/// `[tls]`, or the `--tls-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the section of that name, documented in proxy.toml")]
pub struct TlsSettings {
    pub listen: Option<TlsListenSettings>,
    pub upstream: Option<TlsUpstreamSettings>,
}

/// `[tls.listen]`, or the `--tls-listen-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on TlsListen")]
pub struct TlsListenSettings {
    pub certificate: Option<Text>,
    pub key: Option<Text>,
    pub ca: Option<Text>,
}

/// `[tls.upstream]`, or the `--tls-upstream-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on TlsUpstream")]
pub struct TlsUpstreamSettings {
    pub ca: Option<Text>,
    pub certificate: Option<Text>,
    pub key: Option<Text>,
    pub server_name: Option<Text>,
    pub allow_invalid_certificates: Option<Switch>,
    pub allow_invalid_hostnames: Option<Switch>,
}

/// What a connection string says of TLS.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct UriTls {
    /// `tls`, or `ssl`.
    is_on: Option<bool>,
    how: TlsUpstream,
    insecure: Option<bool>,
    is_srv: bool,
    /// One of the two options that `tlsInsecure` stands for.
    allows: Option<String>,
}

/// Puts the flags over the file of that name, and what the upstream's connection string says beside them.
pub(super) fn resolve(
    file_name: &str,
    file: Option<&TlsSettings>,
    flags: Option<&TlsSettings>,
    uri: UriTls,
) -> Result<Tls, Error> {
    let nothing = TlsSettings::default();
    let (file, flags) = (file.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let listen = listen(file_name, file.listen.as_ref(), flags.listen.as_ref())?;
    let upstream = upstream(file_name, file.upstream.as_ref(), flags.upstream.as_ref())?;
    Ok(Tls { listen, upstream: merge(uri, upstream)? })
}

fn listen(
    file_name: &str,
    file: Option<&TlsListenSettings>,
    flags: Option<&TlsListenSettings>,
) -> Result<Option<TlsListen>, Error> {
    let place = Place { file: file_name.to_owned(), section: "tls.listen" };
    let nothing = TlsListenSettings::default();
    let (file, flags) = (file.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let (mut certificate, mut key, mut ca) = (None, None, None);
    place.read("certificate", &flags.certificate, &file.certificate, &mut certificate, path)?;
    place.read("key", &flags.key, &file.key, &mut key, path)?;
    place.read("ca", &flags.ca, &file.ca, &mut ca, path)?;
    match certificate {
        Some(certificate) => Ok(Some(TlsListen { certificate, key, ca })),
        None if key.is_some() => Err(without_certificate("tls.listen.key", "tls.listen")),
        None if ca.is_some() => Err(without_certificate("tls.listen.ca", "tls.listen")),
        None => Ok(None),
    }
}

fn upstream(
    file_name: &str,
    file: Option<&TlsUpstreamSettings>,
    flags: Option<&TlsUpstreamSettings>,
) -> Result<TlsUpstream, Error> {
    let place = Place { file: file_name.to_owned(), section: "tls.upstream" };
    let nothing = TlsUpstreamSettings::default();
    let (file, flags) = (file.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let mut upstream = TlsUpstream::default();
    macro_rules! keys {
        ($($key:ident: $read:expr;)*) => {$(
            place.read(stringify!($key), &flags.$key, &file.$key, &mut upstream.$key, $read)?;
        )*};
    }
    keys! {
        ca: path;
        certificate: path;
        key: path;
        server_name: |it: &Text| Ok(Some(it.0.clone()).filter(|name| !name.is_empty()));
        allow_invalid_certificates: |it: &Switch| switch(&it.0);
        allow_invalid_hostnames: |it: &Switch| switch(&it.0);
    }
    Ok(upstream)
}

/// Both together: what either says holds, and neither may deny the other.
pub(super) fn merge(uri: UriTls, keys: TlsUpstream) -> Result<Option<TlsUpstream>, Error> {
    let is_said = keys != TlsUpstream::default();
    if uri.is_on == Some(false) && is_said {
        let message = "upstream says tls=false, and [tls.upstream] how TLS is to be".to_owned();
        return Err(Error { message, hint: Some("leave one of them out".to_owned()) });
    }
    let is_on = is_said || uri.is_meant();
    let upstream = TlsUpstream {
        ca: one("ca", "tlsCAFile", keys.ca, uri.how.ca)?,
        certificate: one("certificate", "tlsCertificateKeyFile", keys.certificate, uri.how.certificate)?,
        key: keys.key,
        server_name: keys.server_name,
        allow_invalid_certificates: keys.allow_invalid_certificates || uri.how.allow_invalid_certificates,
        allow_invalid_hostnames: keys.allow_invalid_hostnames || uri.how.allow_invalid_hostnames,
    };
    if upstream.key.is_some() && upstream.certificate.is_none() {
        return Err(without_certificate("tls.upstream.key", "tls.upstream"));
    }
    Ok(is_on.then_some(upstream))
}

/// What was said of one thing in two places.
fn one(key: &str, option: &str, mine: Option<PathBuf>, other: Option<PathBuf>) -> Result<Option<PathBuf>, Error> {
    match (mine, other) {
        (Some(mine), Some(other)) if mine != other => Err(Error {
            message: format!("tls.upstream.{key} is {}, and upstream's {option} {}", mine.display(), other.display()),
            hint: Some("leave one of them out".to_owned()),
        }),
        (mine, other) => Ok(mine.or(other)),
    }
}

fn without_certificate(name: &str, section: &str) -> Error {
    let hint = Some(format!("name it in {section}.certificate; a key may be in the same file"));
    Error { message: format!("{name} has no effect without a certificate"), hint }
}

fn path(text: &Text) -> Result<Option<PathBuf>, Problem> {
    Ok(Some(PathBuf::from(&text.0)).filter(|path| !path.as_os_str().is_empty()))
}

pub(super) fn switch(text: &str) -> Result<bool, Problem> {
    text.parse().map_err(|_| Problem::new(format!("{text:?} is neither true nor false"), "write true or false"))
}

impl UriTls {
    /// Reads one option. Names go by no case (URI options specification).
    pub(super) fn read(&mut self, name: &str, value: &str) -> Result<(), Problem> {
        let flag = || switch(value).map_err(|problem| problem.within(name));
        let file = || match value {
            "" => Err(Problem::new(format!("{name}: no path"), "name a PEM file")),
            path => Ok(Some(PathBuf::from(path))),
        };
        match name.to_ascii_lowercase().as_str() {
            "tls" | "ssl" => {
                let is_on = flag()?;
                if self.is_on.is_some_and(|before| before != is_on) {
                    return Err(Problem::new("tls and ssl contradict each other", "they mean the same: say it once"));
                }
                self.is_on = Some(is_on);
            }
            "tlscafile" => self.how.ca = file()?,
            "tlscertificatekeyfile" => self.how.certificate = file()?,
            "tlscertificatekeyfilepassword" => {
                return Err(Problem::new(format!("{name}: keys with a password are not read"), DECRYPT_HINT));
            }
            "tlsinsecure" => self.insecure = Some(flag()?),
            "tlsallowinvalidcertificates" => {
                self.how.allow_invalid_certificates = flag()?;
                self.allows = Some(name.to_owned());
            }
            "tlsallowinvalidhostnames" => {
                self.how.allow_invalid_hostnames = flag()?;
                self.allows = Some(name.to_owned());
            }
            // Nobody is asked here whether a certificate was revoked.
            "tlsdisableocspendpointcheck" | "tlsdisablecertificaterevocationcheck" if flag()? => {}
            "tlsdisableocspendpointcheck" | "tlsdisablecertificaterevocationcheck" => {
                return Err(Problem::new(format!("{name}=false: revocation is not looked at"), "leave it out"));
            }
            _ => return Err(Problem::new(format!("the option {name:?} is not known"), OPTIONS_HINT)),
        }
        Ok(())
    }

    /// All options are read; they must not contradict each other.
    pub(super) fn finish(mut self, is_srv: bool) -> Result<Self, Problem> {
        if let (Some(_), Some(name)) = (self.insecure, &self.allows) {
            return Err(Problem::new(format!("tlsInsecure and {name} together"), "tlsInsecure means both of its kind"));
        }
        if self.insecure == Some(true) {
            self.how.allow_invalid_certificates = true;
            self.how.allow_invalid_hostnames = true;
        }
        if self.is_on == Some(false) && self.how != TlsUpstream::default() {
            return Err(Problem::new("tls=false, and other options say how TLS is to be", "leave one of them out"));
        }
        self.is_srv = is_srv;
        Ok(self)
    }

    /// Whether it says that TLS is to be.
    pub(super) fn is_said(&self) -> bool {
        self.is_on == Some(true) || self.how != TlsUpstream::default()
    }

    /// Whether TLS is to be. A name in DNS stands for servers with TLS, unless it says otherwise (Initial DNS Seedlist
    /// Discovery specification).
    fn is_meant(&self) -> bool {
        self.is_said() || (self.is_srv && self.is_on.is_none())
    }
}

const DECRYPT_HINT: &str = "decrypt it into a file of its own: openssl pkey -in FILE -out key.pem && chmod 600 key.pem";
const OPTIONS_HINT: &str = "known are tls, tlsCAFile, tlsCertificateKeyFile, tlsInsecure, tlsAllowInvalidCertificates and \
                            tlsAllowInvalidHostnames";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConnectionString;

    fn read(options: &str) -> Result<Option<TlsUpstream>, String> {
        let uri = of_uri(&format!("mongodb://a/?{options}")).map_err(|problem| problem.message)?;
        merge(uri, TlsUpstream::default()).map_err(|error| error.message)
    }

    fn of_uri(text: &str) -> Result<UriTls, Problem> {
        ConnectionString::parse(text).map(|read| read.tls)
    }

    #[test]
    fn options_of_a_connection_string() {
        let plain = TlsUpstream::default();
        for (options, upstream) in [
            ("", None),
            ("directConnection=true", None),
            ("tls=false&SSL=false", None),
            ("tls=true", Some(plain.clone())),
            ("ssl=true&tlsDisableOCSPEndpointCheck=true", Some(plain.clone())),
            ("tlsCAFile=%2Fa%2Fca.pem", Some(TlsUpstream { ca: Some("/a/ca.pem".into()), ..plain.clone() })),
            ("tlsCertificateKeyFile=c", Some(TlsUpstream { certificate: Some("c".into()), ..plain.clone() })),
            (
                "TLSINSECURE=true",
                Some(TlsUpstream { allow_invalid_certificates: true, allow_invalid_hostnames: true, ..plain.clone() }),
            ),
            ("tlsAllowInvalidHostnames=true", Some(TlsUpstream { allow_invalid_hostnames: true, ..plain.clone() })),
        ] {
            assert_eq!(read(options), Ok(upstream), "{options}");
        }
        let srv = of_uri("mongodb+srv://a.example.org").unwrap();
        assert_eq!(merge(srv, TlsUpstream::default()), Ok(Some(plain)));
        assert_eq!(of_uri("mongodb+srv://a.example.org/?tls=false").unwrap().is_on, Some(false));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (options, message) in [
            ("tls=yes", "tls: \"yes\" is neither true nor false"),
            ("tls=true&ssl=false", "tls and ssl contradict each other"),
            ("tls=false&tlsCAFile=a", "tls=false, and other options say how TLS is to be"),
            ("tlsInsecure=true&tlsAllowInvalidHostnames=false", "tlsInsecure and tlsAllowInvalidHostnames together"),
            ("tlsCAFile=", "tlsCAFile: no path"),
            ("tlsDisableOCSPEndpointCheck=false", "tlsDisableOCSPEndpointCheck=false: revocation is not looked at"),
            ("tlsCafile2=x", "the option \"tlsCafile2\" is not known"),
            (
                "tlsCertificateKeyFilePassword=s3cret",
                "tlsCertificateKeyFilePassword: keys with a password are not read",
            ),
        ] {
            assert_eq!(read(options), Err(message.to_owned()), "{options}");
        }
    }

    #[test]
    fn what_is_said_twice_must_be_the_same() {
        let ca = |name: &str| TlsUpstream { ca: Some(name.into()), ..TlsUpstream::default() };
        let uri = |options: &str| of_uri(&format!("mongodb://a/?{options}")).unwrap();
        assert_eq!(merge(uri("tlsCAFile=a"), ca("a")), Ok(Some(ca("a"))));
        let error = merge(uri("tlsCAFile=a"), ca("b")).unwrap_err();
        assert_eq!(error.message, "tls.upstream.ca is b, and upstream's tlsCAFile a");
        let error = merge(uri("tls=false"), ca("b")).unwrap_err();
        assert_eq!(error.message, "upstream says tls=false, and [tls.upstream] how TLS is to be");
    }
}
