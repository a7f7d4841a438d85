//! The part of MongoDB's connection strings that says which deployment is meant: hosts or a name in DNS, and what kind of
//! deployment they are, and how TLS with them is to be. What else a connection string can say is the
//! application's business and refused here. Names are not looked up.

use std::fmt;

use super::address::{Endpoint, Problem, percent_decode, percent_encode};
use super::tls::UriTls;

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
    /// `loadBalanced` was said, either way: what TXT says of it does not count.
    pub balance_is_said: bool,
}

/// A connection string, read: the deployment, and what it says of TLS.
#[derive(Debug)]
pub(crate) struct ConnectionString {
    pub(crate) upstream: Upstream,
    pub(crate) tls: UriTls,
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

    /// The hosts as they were named: `a:27017,b:27017`, or the name in DNS.
    pub fn hosts_text(&self) -> String {
        match &self.srv {
            Some(srv) => srv.name.clone(),
            None => self.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        }
    }
}

impl ConnectionString {
    /// Reads a connection string without credentials.
    pub(crate) fn parse(text: &str) -> Result<Self, Problem> {
        let shown = without_secrets(text);
        let wrong = |what: &str| Problem::new(format!("{shown:?} {what}"), UPSTREAM_HINT);
        let (is_srv, rest) = match (text.strip_prefix("mongodb+srv://"), text.strip_prefix("mongodb://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("is not a connection string")),
        };
        let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
        if hosts.contains('@') || options.contains('@') {
            return Err(Problem::new("credentials do not belong here", CREDENTIALS_HINT));
        }
        // What stands after the `/` is the application's default database: it names no other server.
        let hosts = hosts.split_once('/').map_or(hosts, |(hosts, _)| hosts);
        let options = Options::parse(options)?;
        let upstream =
            if is_srv { options.named_in_dns(hosts)? } else { options.seeded(read_hosts(hosts).map_err(wrong)?)? };
        Ok(Self { upstream, tls: options.tls.finish(is_srv)? })
    }
}

/// The hosts of a list, each once; an error is what the list is not or lacks.
fn read_hosts(text: &str) -> Result<Vec<Endpoint>, &'static str> {
    let mut hosts = Vec::new();
    for host in text.split(',') {
        let endpoint = Endpoint::read(host, Some(DEFAULT_PORT))?;
        if matches!(endpoint, Endpoint::Tcp { port: 0, .. }) {
            return Err("is not a connection string");
        }
        if !hosts.contains(&endpoint) {
            hosts.push(endpoint);
        }
    }
    Ok(hosts)
}

/// The options that are honoured, as they were written.
#[derive(Debug, Default)]
struct Options {
    direct: Option<bool>,
    load_balanced: Option<bool>,
    replica_set: Option<String>,
    service: Option<String>,
    max_hosts: Option<usize>,
    tls: UriTls,
}

impl Options {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut options = Self::default();
        for option in text.split('&').filter(|option| !option.is_empty()) {
            options.read(option)?;
        }
        Ok(options)
    }

    /// Reads one option. Names go by no case (URI options specification).
    fn read(&mut self, option: &str) -> Result<(), Problem> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        // Which one it is only the name says, and a value may be a password: it is not repeated.
        let broken = || Problem::new(format!("{name}: has a broken percent-encoding"), OPTION_HINT);
        let value = percent_decode(value).ok_or_else(broken)?;
        let wrong = |what, hint| Problem::new(format!("{option}: {what}"), hint);
        let given = |value: String| {
            if value.is_empty() { Err(wrong("has no value", "leave the option out")) } else { Ok(Some(value)) }
        };
        match name.to_ascii_lowercase().as_str() {
            "directconnection" => self.direct = Some(truth(name, &value)?),
            "loadbalanced" => self.load_balanced = Some(truth(name, &value)?),
            "replicaset" => self.replica_set = given(value)?,
            "srvservicename" => self.service = given(value)?,
            "srvmaxhosts" => {
                let count = value.parse().map_err(|_| wrong("is not a number", "0 takes all hosts"))?;
                self.max_hosts = Some(count);
            }
            lower if lower.starts_with("tls") || lower.starts_with("ssl") => {
                self.tls.read(name, &value)?;
            }
            _ => return Err(Problem::new(format!("the option {name:?} has no effect here"), OPTION_HINT)),
        }
        Ok(())
    }

    /// The deployment of these hosts.
    fn seeded(&self, hosts: Vec<Endpoint>) -> Result<Upstream, Problem> {
        if self.service.is_some() || self.max_hosts.is_some() {
            let message = "srvServiceName and srvMaxHosts are for mongodb+srv:// alone";
            return Err(Problem::new(message, "leave them out, or name the deployment by its name in DNS"));
        }
        let load_balanced = self.load_balanced == Some(true);
        if load_balanced {
            self.check_load_balanced(hosts.len())?;
        }
        if self.direct == Some(true) && hosts.len() > 1 {
            let message = format!("directConnection=true is for one server, and {} are named", hosts.len());
            return Err(Problem::new(message, "leave the option out, or name one server"));
        }
        // One server alone is what it is taken to be where nothing is said.
        let alone = hosts.len() == 1 && self.replica_set.is_none();
        let direct = !load_balanced && self.direct.unwrap_or(alone);
        Ok(Upstream { hosts, srv: None, replica_set: self.replica_set.clone(), direct, load_balanced })
    }

    /// The deployment of that name in DNS.
    fn named_in_dns(&self, name: &str) -> Result<Upstream, Problem> {
        let wrong = |what: &str, hint| Err(Problem::new(format!("mongodb+srv://{name}: {what}"), hint));
        if name.contains(',') {
            return wrong("several names", "name one; its SRV records name the hosts");
        }
        if name.contains(':') {
            return wrong("a name in DNS has no port", "leave the port out; the SRV records say it");
        }
        let is_name = |name: &str| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
                && name.trim_end_matches('.').split('.').all(|label| !label.is_empty())
        };
        if !is_name(name) {
            return wrong("is not a name in DNS", "write it like mongodb+srv://cluster.example.org");
        }
        if self.direct == Some(true) {
            return wrong("directConnection=true is for one server", "leave the option out");
        }
        let max_hosts = self.max_hosts.unwrap_or(0);
        let load_balanced = self.load_balanced == Some(true);
        if load_balanced {
            self.check_load_balanced(1)?;
        }
        if max_hosts > 0 && (self.replica_set.is_some() || load_balanced) {
            return wrong("srvMaxHosts is for sharded clusters", "leave it out, or replicaSet and loadBalanced");
        }
        let service = self.service.clone().unwrap_or_else(|| "mongodb".to_owned());
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let srv = Srv { name, service, max_hosts, balance_is_said: self.load_balanced.is_some() };
        let replica_set = self.replica_set.clone();
        Ok(Upstream { hosts: Vec::new(), srv: Some(srv), replica_set, direct: false, load_balanced })
    }

    /// Behind a load balancer there is one address and no discovery (Load Balancers specification).
    fn check_load_balanced(&self, hosts: usize) -> Result<(), Problem> {
        let wrong = |with: &str, hint| Err(Problem::new(format!("loadBalanced=true and {with}"), hint));
        if hosts > 1 {
            return wrong("several hosts", "name the load balancer alone");
        }
        if self.replica_set.is_some() {
            return wrong("replicaSet", "leave one of them out");
        }
        if self.direct == Some(true) {
            return wrong("directConnection=true", "leave one of them out");
        }
        Ok(())
    }
}

fn truth(name: &str, value: &str) -> Result<bool, Problem> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Problem::new(format!("{name}={value}: is neither true nor false"), OPTION_HINT)),
    }
}

/// As the configuration's `upstream` is read.
impl std::str::FromStr for ConnectionString {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        Self::parse(text).map_err(|problem| problem.of("upstream"))
    }
}

/// The same, but for TLS, which is no part of it, be it that it says so or that a name in DNS does: [`super::Tls`] is.
impl std::str::FromStr for Upstream {
    type Err = super::Error;

    fn from_str(text: &str) -> Result<Self, super::Error> {
        let read: ConnectionString = text.parse()?;
        match read.tls.is_said() {
            true => Err(Problem::new("TLS is no part of an upstream", TLS_HINT).of("upstream")),
            false => Ok(read.upstream),
        }
    }
}

/// The connection string, with the options that say what kind of deployment it is.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(Endpoint::in_uri).collect();
        match &self.srv {
            Some(srv) => write!(f, "mongodb+srv://{}", srv.name)?,
            None => write!(f, "mongodb://{}", hosts.join(","))?,
        }
        let mut options = Vec::new();
        if let Some(name) = &self.replica_set {
            options.push(format!("replicaSet={}", percent_encode(name)));
        }
        if self.load_balanced {
            options.push("loadBalanced=true".to_owned());
        } else if self.srv.as_ref().is_some_and(|srv| srv.balance_is_said) {
            options.push("loadBalanced=false".to_owned());
        }
        match (self.direct, hosts.len(), &self.replica_set) {
            (true, _, Some(_)) => options.push("directConnection=true".to_owned()),
            (false, 1, None) if !self.load_balanced => options.push("directConnection=false".to_owned()),
            _ => {}
        }
        if let Some(srv) = &self.srv {
            if srv.service != "mongodb" {
                options.push(format!("srvServiceName={}", srv.service));
            }
            if srv.max_hosts > 0 {
                options.push(format!("srvMaxHosts={}", srv.max_hosts));
            }
        }
        if options.is_empty() { Ok(()) } else { write!(f, "/?{}", options.join("&")) }
    }
}

/// A connection string without what may be secret, a text to be shown: neither what stands before its last `@` nor its
/// options.
fn without_secrets(text: &str) -> String {
    let is_scheme = |it: &str| it.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+');
    let scheme = text.find("://").filter(|&at| is_scheme(&text[..at])).map_or("", |at| &text[..at + 3]);
    let rest = &text[scheme.len()..];
    let (end, hosts) = (rest.find('?').unwrap_or(rest.len()), rest.rfind('@'));
    match hosts {
        None => format!("{scheme}{}", &rest[..end]),
        Some(at) if at < end => format!("{scheme}…{}", &rest[at..end]),
        // The `?` is of a password, or the `@` of an option.
        Some(_) => format!("{scheme}…"),
    }
}

/// What a connection string without a port means.
pub(super) const DEFAULT_PORT: u16 = 27017;
const UPSTREAM_HINT: &str = "name one server, like mongodb://127.0.0.1:27017, mongodb://[::1]:27017 or \
     mongodb://%2Ftmp%2Fmongodb-27017.sock, or a replica set, like mongodb://a:27017,b:27017/?replicaSet=rs0";
const TLS_HINT: &str = "leave its options out, and say how TLS is to be in Config::tls";
const CREDENTIALS_HINT: &str = "they belong in the application's URI; the proxy forwards its authentication as it is";
const OPTION_HINT: &str = "options of the driver belong in the application's URI";

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.to_owned(), port }
    }

    fn parse(text: &str) -> Result<Upstream, Problem> {
        ConnectionString::parse(text).map(|read| read.upstream)
    }

    #[test]
    fn one_server() {
        for (text, endpoint) in [
            ("mongodb://localhost", tcp("localhost", 27017)),
            ("mongodb://localhost:1/", tcp("localhost", 1)),
            ("mongodb://[::1]/shop?directConnection=true&tls=false", tcp("::1", 27017)),
            ("mongodb://%2Ftmp%2Fm.sock", Endpoint::Unix("/tmp/m.sock".into())),
        ] {
            let upstream = parse(text).unwrap();
            assert_eq!(upstream, Upstream::single(endpoint));
            assert_eq!(parse(&upstream.to_string()).unwrap(), upstream);
        }
    }

    #[test]
    fn deployments() {
        // Hosts, replica set, whether members are discovered, whether it is load-balanced.
        for (text, hosts, set, discovered, balanced) in [
            ("mongodb://a,b:2,[::1]:3/?replicaSet=rs0", 3, Some("rs0"), true, false),
            ("mongodb://a/x?replicaset=rs%26%200", 1, Some("rs& 0"), true, false),
            ("mongodb://a,b,a:27017", 2, None, true, false),
            ("mongodb://a/?directConnection=false", 1, None, true, false),
            ("mongodb://a/?directConnection=true&replicaSet=rs0", 1, Some("rs0"), false, false),
            ("mongodb://a/?loadBalanced=true", 1, None, false, true),
            ("mongodb://a,b/?loadBalanced=false&ssl=false", 2, None, true, false),
        ] {
            let upstream = parse(text).unwrap();
            assert_eq!(upstream.hosts.len(), hosts, "{text}");
            assert_eq!(upstream.replica_set.as_deref(), set, "{text}");
            assert_eq!((upstream.is_discovered(), upstream.load_balanced), (discovered, balanced), "{text}");
            assert_eq!(parse(&upstream.to_string()).unwrap(), upstream, "{upstream}");
        }
    }

    #[test]
    fn names_in_dns() {
        let srv = |text: &str| {
            let upstream = parse(text).unwrap();
            assert_eq!(parse(&upstream.to_string()).unwrap(), upstream);
            let Srv { name, service, max_hosts, .. } = upstream.srv.unwrap();
            (name, service, max_hosts)
        };
        assert_eq!(srv("mongodb+srv://Db.Example.org./shop"), ("db.example.org".into(), "mongodb".into(), 0));
        let text = "mongodb+srv://db.example.org/?srvServiceName=other&srvMaxHosts=2";
        assert_eq!(srv(text), ("db.example.org".into(), "other".into(), 2));
        for (text, part) in [
            ("mongodb+srv://a.b.c:27017", "has no port"),
            ("mongodb+srv://a.b.c,d.e.f", "several names"),
            ("mongodb+srv://", "is not a name in DNS"),
            ("mongodb+srv://a..b", "is not a name in DNS"),
            ("mongodb+srv://a.b.c/?directConnection=true", "is for one server"),
            ("mongodb+srv://a.b.c/?srvMaxHosts=2&replicaSet=r", "srvMaxHosts is for sharded"),
            ("mongodb+srv://a.b.c/?srvMaxHosts=many", "srvMaxHosts=many: is not a number"),
            ("mongodb://a/?srvMaxHosts=1", "for mongodb+srv:// alone"),
        ] {
            let Problem { message, hint } = parse(text).unwrap_err();
            assert!(message.contains(part) && hint.is_some(), "{text}: {message}");
        }
    }

    #[test]
    fn what_cannot_be() {
        for (text, part) in [
            ("mongodb:/localhost", "\"mongodb:/localhost\" is not a connection string"),
            ("localhost:27017", "is not a connection string"),
            ("mongodb://", "\"mongodb://\" has no host"),
            ("mongodb://a,", "has no host"),
            ("mongodb://a:0", "is not a connection string"),
            ("mongodb://a,b/?directConnection=true", "for one server, and 2 are named"),
            ("mongodb://a/?directConnection=yes", "directConnection=yes: is neither true nor false"),
            ("mongodb://a,b/?loadBalanced=true", "loadBalanced=true and several hosts"),
            ("mongodb://a/?loadBalanced=true&replicaSet=r", "loadBalanced=true and replicaSet"),
            ("mongodb://a/?loadBalanced=true&directConnection=true", "loadBalanced=true and directConnection"),
            ("mongodb://a/?replicaSet=", "replicaSet=: has no value"),
            ("mongodb://a/?appName=x", "\"appName\" has no effect here"),
            ("mongodb://u:p@a", "credentials do not belong here"),
            ("mongodb+srv://u:p@a.b.c", "credentials do not belong here"),
        ] {
            let Problem { message, hint } = parse(text).unwrap_err();
            assert!(message.contains(part) && hint.is_some(), "{text}: {message}");
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
            "http://u:s3cr?et@a",
            "http:/u:s3cr//et@a",
            "u:s3cr//et@a",
            "mongodb://a/?tlsCertificateKeyFilePassword=s3cret",
            "mongodb://a/?tlsCertificateKeyFilePassword=s3cret%",
            "mongodb:/a/?tlsCertificateKeyFilePassword=s3cret",
            "mongodb://a:x/?authMechanismProperties=AWS_SESSION_TOKEN:s3cret",
            "mongodb://a/?authMechanismProperties=AWS_SESSION_TOKEN:s3cret%zz",
            "mongodb:/a/?authMechanismProperties=AWS_SESSION_TOKEN:x@s3cret?",
        ] {
            let message = parse(text).unwrap_err().message;
            assert!(!message.contains("s3cr"), "{message}");
        }
        let message = |text| parse(text).unwrap_err().message;
        assert_eq!(message("mongodb://a/?tlsCAFile=x%"), "tlsCAFile: has a broken percent-encoding");
        assert_eq!(message("mongodb://a:x/?tls=true"), "\"mongodb://a:x/\" has a port that is not one");
        assert_eq!(message("http://u:s3cret@a/?tls=true"), "\"http://…@a/\" is not a connection string");
    }
}
