//! A deployment by its name in DNS (`mongodb+srv`): which hosts it has, and what TXT says of it, by the rules of the
//! Initial DNS Seedlist Discovery specification; and looking again later, where nothing else tells of new hosts.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::members::Members;
use super::say::say;
use crate::config::{Endpoint, Srv, Upstream, percent_decode};

/// A DNS server is given this long for an answer, twice.
const PATIENCE: Duration = Duration::from_secs(2);

/// A name is not looked up again before this (Polling SRV Records for mongos Discovery specification).
pub(super) const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What DNS says of a name.
#[derive(Debug, PartialEq)]
pub(super) struct Records {
    /// All hosts, in no order.
    pub(super) hosts: Vec<Endpoint>,
    /// How long that may be believed.
    pub(super) ttl: Duration,
    /// The text of the TXT record.
    txt: Option<String>,
}

/// Why a name does not lead to a deployment.
#[derive(Debug, thiserror::Error)]
#[error("mongodb+srv://{name}: {what}")]
pub(super) struct SrvError {
    name: String,
    what: String,
    pub(super) hint: String,
}

/// Whom to ask for what.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) srv: Srv,
    /// The DNS server; `None` asks those of the system.
    pub(super) dns: Option<SocketAddr>,
}

impl Question {
    fn error(&self, what: impl Into<String>, hint: impl Into<String>) -> SrvError {
        SrvError { name: self.srv.name.clone(), what: what.into(), hint: hint.into() }
    }

    /// Looks the name up, both its hosts and its text.
    pub(super) async fn ask(&self) -> Result<Records, SrvError> {
        let resolver = self.resolver().map_err(|error| self.error(format!("no DNS server: {error}"), DNS_HINT))?;
        let Srv { name, service, .. } = &self.srv;
        let (srv_name, txt_name) = (format!("_{service}._tcp.{name}."), format!("{name}."));
        let hint = || format!("see what is there: dig SRV {srv_name}; {DNS_HINT}");
        let (hosts, txt) = tokio::join!(resolver.srv_lookup(srv_name.as_str()), resolver.txt_lookup(txt_name.as_str()));
        let hosts = hosts.map_err(|error| self.error(reason(&srv_name, "SRV", &error), hint()))?;
        let txt = match txt {
            Ok(txt) => Some(txt),
            Err(error) if error.is_no_records_found() => None,
            Err(error) => return Err(self.error(reason(&txt_name, "TXT", &error), DNS_HINT)),
        };
        self.read(&hosts, txt.as_ref())
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.dns {
            None => TokioResolver::builder_tokio()?,
            Some(server) => {
                let to_port = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(to_port).to_vec();
                let server = NameServerConfig::new(server.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = PATIENCE;
        options.attempts = 1;
        builder.build()
    }

    fn read(&self, hosts: &Lookup, txt: Option<&Lookup>) -> Result<Records, SrvError> {
        let ttl = hosts.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
        let mut endpoints = Vec::new();
        for record in hosts.answers() {
            let RData::SRV(srv) = &record.data else { continue };
            let host = srv.target.to_ascii().trim_end_matches('.').to_ascii_lowercase();
            if !is_of(&host, &self.srv.name) {
                let what = format!("its SRV records name {host}, which is of another domain");
                return Err(self.error(what, "a name may only lead to hosts of its own domain"));
            }
            endpoints.push(Endpoint::Tcp { host, port: srv.port });
        }
        if endpoints.is_empty() {
            return Err(self.error("no SRV records", DNS_HINT));
        }
        let texts: Vec<_> = txt.into_iter().flat_map(Lookup::answers).filter_map(|record| text(&record.data)).collect();
        if texts.len() > 1 {
            return Err(self.error(format!("{} TXT records", texts.len()), "there may be one at most"));
        }
        Ok(Records { hosts: endpoints, ttl: Duration::from_secs(ttl.into()), txt: texts.into_iter().next() })
    }

    /// The deployment that the connection string and the records describe together. What the string says goes before
    /// what TXT says.
    pub(super) fn describe(&self, said: &Upstream, records: &Records) -> Result<Upstream, SrvError> {
        let mut upstream = Upstream { hosts: self.chosen(&records.hosts, &[]), ..said.clone() };
        for option in records.txt.iter().flat_map(|text| text.split('&')).filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                // Whose user it is only the application needs to know.
                Some(("authSource", _)) => {}
                Some(("replicaSet", name)) if said.replica_set.is_none() => {
                    upstream.replica_set = Some(percent_decode(name).unwrap_or_else(|| name.to_owned()));
                }
                Some(("loadBalanced", value)) if !self.srv.balance_is_said => upstream.load_balanced = value == "true",
                Some(("replicaSet" | "loadBalanced", _)) => {}
                _ => {
                    let hint = "authSource, replicaSet and loadBalanced are all that it may say";
                    return Err(self.error(format!("its TXT record says {option:?}"), hint));
                }
            }
        }
        if upstream.load_balanced && (upstream.hosts.len() > 1 || upstream.replica_set.is_some()) {
            return Err(self.error("loadBalanced=true, and more than one host or a replica set", TXT_HINT));
        }
        if self.srv.max_hosts > 0 && (upstream.load_balanced || upstream.replica_set.is_some()) {
            return Err(self.error("srvMaxHosts, and a replica set or loadBalanced=true", TXT_HINT));
        }
        Ok(upstream)
    }

    /// As many of the hosts as are wanted: those that were chosen before and are still there, then others at random.
    fn chosen(&self, hosts: &[Endpoint], before: &[Endpoint]) -> Vec<Endpoint> {
        let random = RandomState::new();
        let mut hosts = hosts.to_vec();
        if self.srv.max_hosts == 0 || hosts.len() <= self.srv.max_hosts {
            return hosts;
        }
        hosts.sort_by_key(|host| (!before.contains(host), random.hash_one(host.to_string())));
        hosts.truncate(self.srv.max_hosts);
        hosts
    }

    /// Looks the name up again and again, while the deployment is not a replica set: mongos name no others. New hosts
    /// get listeners; those that have gone are said, and keep theirs.
    pub(super) async fn poll(self, members: Arc<Members>, mut hosts: Vec<Endpoint>, first: Duration, least: Duration) {
        let mut wait = first.max(least);
        loop {
            tokio::time::sleep(wait).await;
            if members.is_replica_set() {
                return;
            }
            match self.ask().await {
                Ok(records) => {
                    wait = records.ttl.max(least);
                    let chosen = self.chosen(&records.hosts, &hosts);
                    for host in hosts.iter().filter(|host| !chosen.contains(host)) {
                        say(format_args!("upstream {host}: no longer a host of {}; its listener stays", self.srv.name));
                    }
                    for host in chosen.iter().filter(|host| !hosts.contains(host)) {
                        if let Err(error) = members.add_seed(host, None) {
                            members.say_once(format!("upstream {host}: {error}"));
                        }
                    }
                    hosts = chosen;
                }
                Err(error) => members.say_once(format!("upstream: {error}; its hosts stay as they are")),
            }
        }
    }
}

/// Whether a host is of the domain that a name is of, and not of somebody else's.
fn is_of(host: &str, name: &str) -> bool {
    let labels = name.split('.').count();
    // The domain is the name without its first label; a name of less than three labels is a domain itself.
    let domain = if labels < 3 { name } else { name.split_once('.').map_or(name, |(_, domain)| domain) };
    host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.is_empty())
}

/// The text of a TXT record: its strings, one after the other.
fn text(data: &RData) -> Option<String> {
    let RData::TXT(txt) = data else { return None };
    Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned())
}

fn reason(name: &str, kind: &str, error: &NetError) -> String {
    if error.is_nx_domain() {
        return format!("there is no {name}");
    }
    if error.is_no_records_found() {
        return format!("{name} has no {kind} records");
    }
    format!("{name} could not be looked up: {error}")
}

const DNS_HINT: &str = "[topology] dns names the DNS server to ask";
const TXT_HINT: &str = "the connection string and the TXT record contradict each other";

/// A DNS server to ask.
#[cfg(test)]
#[path = "../../tests/support/dns.rs"]
mod dns;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn question(name: &str, max_hosts: usize) -> Question {
        Question {
            srv: Srv { name: name.to_owned(), service: "mongodb".to_owned(), max_hosts, balance_is_said: false },
            dns: None,
        }
    }

    fn records(hosts: usize, txt: Option<&str>) -> Records {
        let hosts = (0..hosts).map(|n| Endpoint::Tcp { host: format!("h{n}.example.org"), port: 27017 }).collect();
        Records { hosts, ttl: Duration::from_secs(60), txt: txt.map(str::to_owned) }
    }

    #[test]
    fn hosts_are_of_the_names_domain() {
        for (host, name, is) in [
            ("a.example.org", "db.example.org", true),
            ("x.a.example.org", "db.example.org", true),
            ("example.org", "db.example.org", false),
            ("a.badexample.org", "db.example.org", false),
            ("a.evil.org", "db.example.org", false),
            ("a.db.org", "db.org", true),
            ("db.org", "db.org", false),
            ("other.org", "db.org", false),
            ("a.local", "local", true),
        ] {
            assert_eq!(is_of(host, name), is, "{host} of {name}");
        }
    }

    #[test]
    fn txt_says_what_the_connection_string_does_not() {
        let described = |uri: &str, hosts, txt| {
            let said: Upstream = uri.parse().unwrap();
            let question = Question { srv: said.srv.clone().unwrap(), dns: None };
            question.describe(&said, &records(hosts, txt)).map_err(|error| error.to_string())
        };
        let uri = "mongodb+srv://db.example.org/?tls=false";
        let upstream = described(uri, 3, Some("authSource=admin&replicaSet=rs0")).unwrap();
        assert_eq!((upstream.hosts.len(), upstream.replica_set.as_deref()), (3, Some("rs0")));
        let encoded = described(uri, 1, Some("replicaSet=my%20set")).unwrap();
        assert_eq!(encoded.replica_set.as_deref(), Some("my set"));
        let said = described(&format!("{uri}&replicaSet=other"), 1, Some("replicaSet=rs0")).unwrap();
        assert_eq!(said.replica_set.as_deref(), Some("other"));
        assert!(described(uri, 1, Some("loadBalanced=true")).unwrap().load_balanced);
        let said = described(&format!("{uri}&loadBalanced=false"), 2, Some("loadBalanced=true")).unwrap();
        assert!(!said.load_balanced);
        for (options, hosts, txt, part) in [
            ("", 1, "tls=false", "its TXT record says \"tls=false\""),
            ("", 1, "replicaSet", "its TXT record says \"replicaSet\""),
            ("", 2, "loadBalanced=true", "loadBalanced=true, and more than one host"),
            ("&srvMaxHosts=2", 3, "replicaSet=rs0", "srvMaxHosts, and a replica set"),
        ] {
            let error = described(&format!("{uri}{options}"), hosts, Some(txt)).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn new_hosts_get_listeners_until_the_members_tell_of_each_other() {
        let dns = dns::Dns::start().unwrap();
        dns.set("db.example.org", &[("a.example.org", 1)], &[]);
        let config = Config {
            upstream: "mongodb+srv://db.example.org/?tls=false".parse().unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        let (members, _joined) = Members::new(&config);
        let members = Arc::new(members);
        let question = Question { dns: Some(dns.address().parse().unwrap()), ..question("db.example.org", 0) };
        let hosts = question.ask().await.unwrap().hosts;
        let first = members.add_seed(&hosts[0], None).unwrap();

        let least = Duration::from_millis(10);
        let polling = tokio::spawn(question.poll(Arc::clone(&members), hosts, Duration::ZERO, least));
        dns.set("db.example.org", &[("b.example.org", 2), ("c.example.org", 3)], &[]);
        while members.all().len() < 3 {
            tokio::time::sleep(least).await;
        }
        let dialled: Vec<_> = members.all().iter().map(|member| member.dial().to_string()).collect();
        assert_eq!(dialled, ["a.example.org:1", "b.example.org:2", "c.example.org:3"]);
        assert!(dns.asked() >= 4);

        // A replica set needs DNS no more.
        members.add_named(&first, bson::rawdoc! { "hosts": ["a.example.org:1"] }.as_bytes()).unwrap();
        polling.await.unwrap();
    }

    #[test]
    fn as_many_hosts_as_are_wanted() {
        let all = records(5, None).hosts;
        assert_eq!(question("db.example.org", 0).chosen(&all, &[]), all);
        assert_eq!(question("db.example.org", 9).chosen(&all, &[]).len(), 5);
        let chosen = question("db.example.org", 2).chosen(&all, &all[3..4]);
        assert!(chosen.len() == 2 && chosen.contains(&all[3]), "{chosen:?}");
    }
}
