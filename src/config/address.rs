//! Where to listen and where to connect: `host:port` and unix sockets. Connection strings are `upstream`'s.

use std::fmt;
use std::path::PathBuf;

use crate::event::Address;

/// One end of a socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Endpoint {
    /// A host name or IP address, an IPv6 one without its brackets, and a port; port 0 lets the system choose.
    Tcp {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

/// Why an address is not one, and the way out.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>, hint: &str) -> Self {
        Self { message: message.into(), hint: Some(hint.to_owned()) }
    }

    /// The same, of the part of that name.
    pub(crate) fn within(self, name: &str) -> Self {
        Self { message: format!("{name}: {}", self.message), ..self }
    }

    /// The error of a program that gave this for `key`.
    pub(super) fn of(self, key: &str) -> super::Error {
        super::Error { message: format!("{key}: {}", self.message), hint: self.hint }
    }
}

impl Endpoint {
    /// Reads `host:port`, `[::1]:port`, or the path of a socket (anything with a `/` or a `%2F`).
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |what| Problem::new(format!("{text:?} {what}"), ADDRESS_HINT);
        Self::read(text, None).map_err(wrong)
    }

    /// As `parse`; a port left out is `default_port`, if there is one. An error is what the text is not or lacks.
    pub(super) fn read(text: &str, default_port: Option<u16>) -> Result<Self, &'static str> {
        let decoded = percent_decode(text).ok_or("has a broken percent-encoding")?;
        if decoded.contains('/') {
            return Ok(Self::Unix(PathBuf::from(decoded)));
        }
        let (host, port) = match decoded.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or("has no closing bracket")?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| "is not an IPv6 address")?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or("is not an address")?),
                };
                (host, port)
            }
            None => match decoded.split_once(':') {
                Some((_, rest)) if rest.contains(':') => return Err("is not an address (IPv6 is put in brackets)"),
                Some((host, port)) => (host, Some(port)),
                None => (decoded.as_str(), None),
            },
        };
        if host.is_empty() {
            return Err("has no host");
        }
        if host.contains(|c: char| c.is_whitespace() || "@?#[]".contains(c)) {
            return Err("is not an address");
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| "has a port that is not one")?,
            None if default_port.is_none() && host.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err("has no host");
            }
            None => default_port.ok_or("has no port")?,
        };
        Ok(Self::Tcp { host: host.to_owned(), port })
    }

    /// The address as events have it.
    pub fn to_address(&self) -> Address {
        match self {
            Self::Tcp { host, port } => Address { host: host.clone(), port: Some(*port) },
            Self::Unix(path) => Address { host: path.display().to_string(), port: None },
        }
    }

    /// The address as it stands in a connection string: a socket's path percent-encoded.
    pub fn in_uri(&self) -> String {
        match self {
            Self::Tcp { .. } => self.to_string(),
            Self::Unix(path) => percent_encode(&path.display().to_string()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_address().fmt(f)
    }
}

/// As the configuration's `listen` is read.
impl std::str::FromStr for Endpoint {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        Self::parse(text).map_err(|problem| problem.of("listen"))
    }
}

pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

/// A text as it stands in a connection string.
pub(crate) fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

const ADDRESS_HINT: &str = "write it like 127.0.0.1:27027, [::1]:27027 or /tmp/mongotap.sock";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn endpoints() {
        for (text, endpoint) in [
            ("127.0.0.1:0", tcp("127.0.0.1", 0)),
            ("[::1]:27027", tcp("::1", 27027)),
            ("db.example.org:1", tcp("db.example.org", 1)),
            ("/tmp/x.sock", Endpoint::Unix("/tmp/x.sock".into())),
            ("%2Ftmp%2Fx%20y.sock", Endpoint::Unix("/tmp/x y.sock".into())),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap(), endpoint);
        }
        for text in ["", "localhost", ":27027", "::1:27027", "[::1", "[::1]", "[x]:1", "h:x", "h:65536", "a b:1", "%2"]
        {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_missing_and_the_way_out() {
        assert_eq!(Endpoint::parse("27183").unwrap_err().message, "\"27183\" has no host");
        assert_eq!(Endpoint::parse("localhost").unwrap_err().message, "\"localhost\" has no port");
    }
}
