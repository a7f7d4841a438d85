//! Who a client of ours says that it is, and how it proves it.
//!
//! SCRAM, PLAIN and X.509, as a connection string says. Kerberos, AWS and OIDC are not here: they want other services.

use std::fmt;

use crate::config::{self, ApplicationUri};
use crate::replay::scram::Mechanism;

/// A user, to be authenticated.
#[derive(Clone)]
pub struct Credentials {
    /// The user's name; with a certificate it may be empty, for the certificate names one.
    pub user: String,
    /// The password; empty with a certificate.
    pub password: String,
    /// The database that knows the user.
    pub source: String,
    /// How.
    pub method: Method,
}

/// How a user is authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// By the best SCRAM that the server has for the user.
    Scram,
    /// By that one.
    ScramBy(Mechanism),
    /// PLAIN: the password is sent, to be checked elsewhere.
    Plain,
    /// MONGODB-X509: by the certificate of the TLS connection.
    X509,
}

/// The database of users that the server does not keep itself.
const EXTERNAL: &str = "$external";

impl Credentials {
    /// Those of a connection string; `None` if it has none.
    ///
    /// # Errors
    /// If it wants what is not here, or lacks what it wants.
    pub fn of(uri: &ApplicationUri) -> Result<Option<Self>, config::Error> {
        let (name, user) = (uri.mechanism(), uri.user());
        let method = match name.as_deref() {
            None if user.is_none() && uri.user_name().is_none() => return Ok(None),
            None => Method::Scram,
            Some("PLAIN") => Method::Plain,
            Some("MONGODB-X509") => Method::X509,
            Some(name) => Method::ScramBy(Mechanism::from_name(name).ok_or_else(|| unknown(name))?),
        };
        if method == Method::X509 {
            if !uri.is_tls() {
                return Err(wrong("authMechanism=MONGODB-X509 without TLS", X509_HINT));
            }
            let user = uri.user_name().unwrap_or_default();
            return Ok(Some(Self { user, password: String::new(), source: EXTERNAL.to_owned(), method }));
        }
        let Some((user, password)) = user else {
            return Err(wrong("a user and a password are wanted, and not both are there", USER_HINT));
        };
        let external = (method == Method::Plain && !uri.names_auth_source()).then(|| EXTERNAL.to_owned());
        Ok(Some(Self { user, password, source: external.unwrap_or_else(|| uri.auth_source()), method }))
    }
}

fn unknown(name: &str) -> config::Error {
    let known = "SCRAM-SHA-256, SCRAM-SHA-1, PLAIN and MONGODB-X509 are known";
    wrong(&format!("authMechanism={name}: not known here"), known)
}

fn wrong(message: &str, hint: &str) -> config::Error {
    config::Error { message: message.to_owned(), hint: Some(hint.to_owned()) }
}

const USER_HINT: &str = "write it like mongodb://user:password@host, or leave out the user and authMechanism";
const X509_HINT: &str = "add tls=true and tlsCertificateKeyFile=PATH, the client's certificate and key";

/// Passwords are not for logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Credentials");
        shown.field("user", &self.user).field("source", &self.source).field("method", &self.method);
        shown.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_who_and_how() {
        let rows = [
            ("mongodb://u:p@h/app", Some(("u", "p", "app", Method::Scram))),
            ("mongodb://u:p@h/?authMechanism=SCRAM-SHA-1", Some(("u", "p", "admin", Method::ScramBy(Mechanism::Sha1)))),
            ("mongodb://u:p@h/app?authMechanism=PLAIN", Some(("u", "p", "$external", Method::Plain))),
            ("mongodb://u:p@h/?authMechanism=PLAIN&authSource=ldap", Some(("u", "p", "ldap", Method::Plain))),
            ("mongodb://h/?authMechanism=MONGODB-X509&tls=true", Some(("", "", "$external", Method::X509))),
            ("mongodb://CN%3Da@h/?authMechanism=MONGODB-X509&ssl=true", Some(("CN=a", "", "$external", Method::X509))),
            ("mongodb://h/app", None),
        ];
        for (uri, expected) in rows {
            let found = Credentials::of(&ApplicationUri::parse(uri).unwrap()).unwrap();
            let found =
                found.as_ref().map(|it| (it.user.as_str(), it.password.as_str(), it.source.as_str(), it.method));
            assert_eq!(found, expected, "{uri}");
        }
        for uri in [
            "mongodb://u@h/",
            "mongodb://h/?authMechanism=SCRAM-SHA-256",
            "mongodb://h/?authMechanism=MONGODB-X509",
            "mongodb://u:s3cret@h/?authMechanism=GSSAPI",
        ] {
            let error = Credentials::of(&ApplicationUri::parse(uri).unwrap()).unwrap_err();
            assert!(error.hint.is_some() && !error.message.contains("s3cret"), "{uri}: {}", error.message);
        }
    }
}
