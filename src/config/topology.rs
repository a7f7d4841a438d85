//! `[topology]`: the names of members, and what cannot be together with several listeners.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::address::{Endpoint, Problem};
use super::file::Pairs;
use super::upstream::DEFAULT_PORT;
use super::{Config, Error};

/// Where to dial members, by their names.
pub(super) fn dial(pairs: &Pairs) -> Result<BTreeMap<String, Endpoint>, Problem> {
    read(pairs, |text| match Endpoint::parse(text)? {
        Endpoint::Tcp { port: 0, .. } => Err(Problem::new(format!("{text:?} has a port that is not one"), PAIRS_HINT)),
        endpoint => Ok(endpoint),
    })
}

/// Where to listen for members, by their names. No two of them share a place.
pub(super) fn listen(pairs: &Pairs) -> Result<BTreeMap<String, Endpoint>, Problem> {
    let mut taken = BTreeMap::new();
    let listen = read(pairs, |text| match Endpoint::parse(text)? {
        Endpoint::Unix(_) => Err(Problem::new(format!("{text:?} is not host:port"), PORTS_HINT)),
        endpoint => Ok(endpoint),
    })?;
    for (name, endpoint) in &listen {
        let is_free_port = matches!(endpoint, Endpoint::Tcp { port: 0, .. });
        if let Some(other) = taken.insert(endpoint.to_string(), name).filter(|_| !is_free_port) {
            let message = format!("{endpoint} is for both {other} and {name}");
            return Err(Problem::new(message, "give each member a port of its own"));
        }
    }
    Ok(listen)
}

fn read(
    pairs: &Pairs,
    endpoint: impl Fn(&str) -> Result<Endpoint, Problem>,
) -> Result<BTreeMap<String, Endpoint>, Problem> {
    let mut read = BTreeMap::new();
    for (name, text) in &pairs.0 {
        let named = match Endpoint::read(name, Some(DEFAULT_PORT)) {
            Ok(Endpoint::Tcp { host, port }) => Endpoint::Tcp { host: host.to_ascii_lowercase(), port },
            _ => return Err(Problem::new(format!("{name:?} is not a member's name"), PAIRS_HINT)),
        };
        if text.is_empty() {
            return Err(Problem::new(format!("{name:?} has no address"), PAIRS_HINT));
        }
        if read.insert(named.to_string(), endpoint(text)?).is_some() {
            return Err(Problem::new(format!("{named} is there twice"), PAIRS_HINT));
        }
    }
    Ok(read)
}

/// The DNS server to ask; an empty text is none of one's own.
pub(super) fn dns(text: &str) -> Result<Option<SocketAddr>, Problem> {
    let wrong = |_| Problem::new(format!("{text:?} is not ip:port"), "write it like 127.0.0.1:53");
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(wrong) }
}

/// What keys say together: whether each member can have a listener, and none is the upstream itself.
pub(super) fn check(config: &Config) -> Result<(), Error> {
    let error = |message: String, hint: &str| Err(Error { message, hint: Some(hint.to_owned()) });
    let hosts = &config.upstream.hosts;
    if !config.upstream.is_discovered() {
        if hosts.contains(&config.listen) {
            return error(format!("listen and upstream are both {}", config.listen), "the proxy would call itself");
        }
        return Ok(());
    }
    let Endpoint::Tcp { host, port } = &config.listen else {
        let message = format!("listen: {} is one socket, and each member needs a listener", config.listen);
        return error(message, PORTS_HINT);
    };
    if matches!(&config.advertise, super::Advertise::As(address) if address.port.is_none()) {
        return error("advertise: a path cannot stand for several listeners".to_owned(), PORTS_HINT);
    }
    for seed in (0..hosts.len().max(1)).take_while(|_| *port != 0) {
        let Some(port) = u16::try_from(seed).ok().and_then(|seed| port.checked_add(seed)) else {
            let message = format!("listen: {} members need ports from {port} on, and 65535 is the last", hosts.len());
            return error(message, "take a lower port");
        };
        let own = Endpoint::Tcp { host: host.clone(), port };
        if hosts.contains(&own) {
            return error(format!("{own} would be a listener and is an upstream"), "take another port to listen on");
        }
    }
    Ok(())
}

const PAIRS_HINT: &str = "write it like {\"mongo1:27017\" = \"127.0.0.1:27017\"}, on the command line \
     mongo1:27017=127.0.0.1:27017";
const PORTS_HINT: &str = "take host:port, like 127.0.0.1:27027";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Advertise, Upstream};

    #[test]
    fn names_are_members_names() {
        let read = dial(&Pairs::from("Mongo1:27017=127.0.0.1:1, [::1]:5=/tmp/m.sock,mongo2=db:3")).unwrap();
        let shown: Vec<_> = read.iter().map(|(name, endpoint)| format!("{name} {endpoint}")).collect();
        assert_eq!(shown, ["[::1]:5 /tmp/m.sock", "mongo1:27017 127.0.0.1:1", "mongo2:27017 db:3"]);
        for (text, part) in [
            ("mongo1", "\"mongo1\" has no address"),
            ("=127.0.0.1:1", "\"\" is not a member's name"),
            ("a:1=b:0", "\"b:0\" has a port that is not one"),
            ("a:1=b:1,A:1=c:1", "a:1 is there twice"),
        ] {
            assert!(dial(&Pairs::from(text)).unwrap_err().message.contains(part), "{text}");
        }
        let message = listen(&Pairs::from("a:1=c:5,b:1=c:5")).unwrap_err().message;
        assert_eq!(message, "c:5 is for both a:1 and b:1");
        assert_eq!(listen(&Pairs::from("a:1=c:0,b:1=c:0")).unwrap().len(), 2);
        assert!(listen(&Pairs::from("a:1=/tmp/x")).is_err());
    }

    #[test]
    fn members_need_ports() {
        let message = |listen: &str, upstream: &str| {
            let upstream: Upstream = upstream.parse().unwrap();
            let config = Config { listen: listen.parse().unwrap(), upstream, ..Config::default() };
            check(&config).map_err(|error| error.message)
        };
        let set = "mongodb://a,b,c:65535/?replicaSet=rs0";
        assert_eq!(message("127.0.0.1:65533", set), Ok(()));
        assert_eq!(message("127.0.0.1:0", set), Ok(()));
        let found = message("127.0.0.1:65534", set).unwrap_err();
        assert_eq!(found, "listen: 3 members need ports from 65534 on, and 65535 is the last");
        assert_eq!(message("c:65533", set).unwrap_err(), "c:65535 would be a listener and is an upstream");
        assert!(message("/tmp/x.sock", set).unwrap_err().contains("each member needs a listener"));
        assert_eq!(message("/tmp/x.sock", "mongodb://a"), Ok(()));
        assert_eq!(message("a:27017", "mongodb://a").unwrap_err(), "listen and upstream are both a:27017");

        let advertise = Advertise::As("/tmp/x".parse::<Endpoint>().unwrap().to_address());
        let config = Config { advertise, upstream: set.parse().unwrap(), ..Config::default() };
        assert!(check(&config).unwrap_err().message.starts_with("advertise: a path"));
    }
}
