//! Where to listen and where to connect: `host:port`, unix sockets, and the part of MongoDB's connection strings that
//! says which server is meant. What else a connection string can say is the application's business and refused here.

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

/// The deployment to forward to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Upstream {
    /// Where it is to be found: one server, or seeds. Empty while an SRV name is not resolved.
    pub hosts: Vec<Endpoint>,
    /// Its name in DNS (`mongodb+srv`).
    pub srv: Option<Srv>,
    /// The replica set that it is.
    pub replica_set: Option<String>,
    /// One server is meant, whatever it says of others (`directConnection=true`).
    pub direct: bool,
    /// It stands behind a load balancer (`loadBalanced=true`).
    pub load_balanced: bool,
}

/// A deployment's name in DNS, and how it is looked up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Srv {
    /// The name.
    pub name: String,
    /// `srvServiceName`: `mongodb` unless said otherwise.
    pub service: String,
    /// `srvMaxHosts`: how many of the hosts are used; 0 is all of them.
    pub max_hosts: usize,
}

/// Why an address is not one, and the way out.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Problem {
    fn new(message: impl Into<String>, hint: &str) -> Self {
        Self { message: message.into(), hint: Some(hint.to_owned()) }
    }

    /// The error of a program that gave this for `key`.
    fn of(self, key: &str) -> super::Error {
        super::Error { message: format!("{key}: {}", self.message), hint: self.hint }
    }

    fn unsupported(what: impl fmt::Display, hint: &str) -> Self {
        Self::new(format!("{what}: not supported by this version"), hint)
    }
}

impl Endpoint {
    /// Reads `host:port`, `[::1]:port`, or the path of a socket (anything with a `/` or a `%2F`).
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let wrong = |what| Problem::new(format!("{text:?} {what}"), ADDRESS_HINT);
        Self::read(text, None).map_err(wrong)
    }

    /// As `parse`; a port left out is `default_port`, if there is one. An error is what the text is not or lacks.
    fn read(text: &str, default_port: Option<u16>) -> Result<Self, &'static str> {
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

impl Upstream {
    /// One server, and no other whatever it says.
    pub fn single(endpoint: Endpoint) -> Self {
        Self { hosts: vec![endpoint], srv: None, replica_set: None, direct: true, load_balanced: false }
    }

    /// Whether drivers are to find the deployment's members by themselves: then each has a listener, and replies to
    /// `hello` have the listeners' names.
    pub fn is_discovered(&self) -> bool {
        !self.direct && !self.load_balanced
    }

    /// The first host.
    ///
    /// # Panics
    /// If there is none: an SRV name that was not resolved.
    pub fn first(&self) -> &Endpoint {
        self.hosts.first().expect("a connection string names a host")
    }

    /// Reads a connection string of one server: `mongodb://host:port`.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        if text.starts_with("mongodb+srv://") {
            return Err(Problem::unsupported("mongodb+srv", UPSTREAM_HINT));
        }
        let shown = without_credentials(text);
        let wrong = || Problem::new(format!("{shown:?} is not a connection string"), UPSTREAM_HINT);
        let rest = text.strip_prefix("mongodb://").ok_or_else(wrong)?;
        let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
        if hosts.contains('@') || options.contains('@') {
            return Err(Problem::new("credentials do not belong here", CREDENTIALS_HINT));
        }
        // What stands after the `/` is the application's default database: it names no other server.
        let host = hosts.split_once('/').map_or(hosts, |(host, _)| host);
        if host.contains(',') {
            return Err(Problem::unsupported("several hosts", UPSTREAM_HINT));
        }
        let endpoint = Endpoint::read(host, Some(DEFAULT_PORT))
            .map_err(|what| Problem::new(format!("{shown:?} {what}"), UPSTREAM_HINT))?;
        if matches!(endpoint, Endpoint::Tcp { port: 0, .. }) {
            return Err(wrong());
        }
        options.split('&').filter(|option| !option.is_empty()).try_for_each(check_option)?;
        Ok(Self::single(endpoint))
    }
}

/// As the configuration's `listen` is read.
impl std::str::FromStr for Endpoint {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        Self::parse(text).map_err(|problem| problem.of("listen"))
    }
}

/// As the configuration's `upstream` is read.
impl std::str::FromStr for Upstream {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        Self::parse(text).map_err(|problem| problem.of("upstream"))
    }
}

/// The connection string, without options.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mongodb://{}", self.first().in_uri())
    }
}

/// Whether an option of the connection string says no more than what is done anyway. Names go by no case (URI options
/// specification).
fn check_option(option: &str) -> Result<(), Problem> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let unsupported = |hint| Err(Problem::unsupported(format_args!("{name}={value}"), hint));
    match (name.to_ascii_lowercase().as_str(), value) {
        ("directconnection", "true") | ("tls" | "ssl" | "loadbalanced", "false") => Ok(()),
        ("directconnection" | "loadbalanced" | "replicaset", _) => unsupported(ONE_SERVER_HINT),
        ("tls" | "ssl", _) => unsupported(NO_TLS_HINT),
        _ => Err(Problem::new(format!("the option {name:?} has no effect here"), OPTION_HINT)),
    }
}

/// A connection string without what stands before its last `@`: a text to be shown.
fn without_credentials(text: &str) -> String {
    let Some((before, after)) = text.rsplit_once('@') else { return text.to_owned() };
    let scheme = before.find("//").map_or("", |at| &before[..at + 2]);
    format!("{scheme}…@{after}")
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut parts = text.split('%');
    bytes.extend_from_slice(parts.next()?.as_bytes());
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).ok()
}

fn percent_encode(text: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What a connection string without a port means.
const DEFAULT_PORT: u16 = 27017;
const ADDRESS_HINT: &str = "write it like 127.0.0.1:27027, [::1]:27027 or /tmp/mongotap.sock";
const UPSTREAM_HINT: &str =
    "name one server, like mongodb://127.0.0.1:27017, mongodb://[::1]:27017 or mongodb://%2Ftmp%2Fmongodb-27017.sock";
const ONE_SERVER_HINT: &str =
    "leave the option out: one server is forwarded to, and applications connect with directConnection=true";
const NO_TLS_HINT: &str = "leave the option out, and name a server that takes connections without TLS";
const CREDENTIALS_HINT: &str = "they belong in the application's URI; the proxy forwards its authentication as it is";
const OPTION_HINT: &str = "options of the driver belong in the application's URI";

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
    fn upstreams() {
        for (text, endpoint) in [
            ("mongodb://localhost", tcp("localhost", 27017)),
            ("mongodb://localhost:1/", tcp("localhost", 1)),
            ("mongodb://[::1]/shop?directConnection=true&tls=false", tcp("::1", 27017)),
            ("mongodb://%2Ftmp%2Fm.sock", Endpoint::Unix("/tmp/m.sock".into())),
        ] {
            let upstream = Upstream::parse(text).unwrap();
            assert_eq!(*upstream.first(), endpoint);
            assert_eq!(Upstream::parse(&upstream.to_string()).unwrap(), upstream);
        }
        for (text, part) in [
            ("mongodb:/localhost", "\"mongodb:/localhost\" is not a connection string"),
            ("localhost:27017", "is not a connection string"),
            ("mongodb://", "\"mongodb://\" has no host"),
            ("mongodb://a,b", "several hosts: not supported"),
            ("mongodb://a/?replicaSet=rs", "replicaSet=rs: not supported"),
            ("mongodb://a/?TLS=true", "TLS=true: not supported"),
            ("mongodb+srv://a", "mongodb+srv: not supported"),
            ("mongodb://a/?appName=x", "\"appName\" has no effect here"),
            ("mongodb://u:p@a", "credentials do not belong here"),
        ] {
            let message = Upstream::parse(text).unwrap_err().message;
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn errors_name_what_is_missing_and_the_way_out() {
        assert_eq!(Endpoint::parse("27183").unwrap_err().message, "\"27183\" has no host");
        assert_eq!(Endpoint::parse("localhost").unwrap_err().message, "\"localhost\" has no port");
        for (option, part) in [
            ("replicaSet=rs0", "leave the option out: one server is"),
            ("directConnection=false", "with directConnection=true"),
            ("tls=true", "without TLS"),
        ] {
            let hint = Upstream::parse(&format!("mongodb://a/?{option}")).unwrap_err().hint.unwrap();
            assert!(hint.contains(part), "{option}: {hint}");
        }
    }

    #[test]
    fn no_error_repeats_a_password() {
        for text in [
            "mongodb://u:s3cret@a",
            "http://u:s3cret@a",
            "u:s3cret@a",
            "mongodb+srv://u:s3cret@a",
            "mongodb://u:s3cr@et@a",
        ] {
            let message = Upstream::parse(text).unwrap_err().message;
            assert!(!message.contains("s3cr"), "{message}");
        }
    }
}
