//! Deployments by their name in DNS, which a server of the tests answers for.

mod support;

use std::time::Duration;

use bson::{Document, doc};
use mongotap::replay::Request;

use support::client::Client;
use support::dns::Dns;
use support::mongod::free_port;
use support::now;
use support::proxy::Proxy;
use support::scripted::{Scripted, op_msg};

fn server(hello: Document) -> Scripted {
    let reply = move |request: &Request| {
        let reply = if request.is_hello() {
            hello.clone()
        } else {
            doc! { "ok": 1.0 }
        };
        vec![op_msg((1, request.id), 0, &reply)]
    };
    Scripted::start(reply)
}

/// `NAME=ADDR,…` for hosts that have no address.
fn dial(hosts: &[(&str, &Scripted)]) -> String {
    hosts.iter().map(|(host, server)| format!("{host}:27017={}", server.address())).collect::<Vec<_>>().join(",")
}

fn hello(address: &str) -> Document {
    Client::connect(address).command(&doc! { "hello": 1, "$db": "admin" })
}

#[test]
fn a_replica_set_is_found_by_its_name() {
    let member = |me: &str| {
        server(doc! {
            "ismaster": true, "setName": "rs0", "me": me, "hosts": ["m1.example.org:27017", "m2.example.org:27017"],
            "maxWireVersion": 17, "ok": 1.0,
        })
    };
    let (first, second) = (member("m1.example.org:27017"), member("m2.example.org:27017"));
    let dns = Dns::start().expect("a loopback port");
    let hosts = [("m1.example.org", 27017), ("m2.example.org", 27017)];
    dns.set("set.example.org", &hosts, &[&["authSource=admin&repli", "caSet=rs0"]]);
    let dial = dial(&[("m1.example.org", &first), ("m2.example.org", &second)]);
    let arguments = ["--topology-dns", dns.address(), "--topology-dial", &dial];
    let proxy = Proxy::start("mongodb+srv://Set.Example.org/?tls=false", &arguments);
    let ours: Vec<_> = proxy.listeners.iter().map(|it| it.address.clone()).collect();
    assert_eq!(proxy.uri, format!("mongodb://{}/?replicaSet=rs0", ours.join(",")));
    for address in &ours {
        let reply = hello(address);
        assert_eq!(reply.get_str("me").ok(), Some(address.as_str()), "{reply}");
        assert_eq!(reply.get_array("hosts").map(Vec::len).ok(), Some(2), "{reply}");
    }
    assert!(dns.asked() >= 2, "the server of the tests was asked");
    let log = proxy.stop().log;
    assert_eq!(log.records[0].str("upstream"), Some("set.example.org"));
}

#[test]
fn several_mongos_have_a_listener_each() {
    let mongos = || server(doc! { "ismaster": true, "msg": "isdbgrid", "maxWireVersion": 17, "ok": 1.0 });
    let servers = [mongos(), mongos(), mongos()];
    let dns = Dns::start().expect("a loopback port");
    let names = ["s1.example.org", "s2.example.org", "s3.example.org"];
    dns.set("shards.example.org", &names.map(|name| (name, 27017)), &[]);
    let dial = dial(&[(names[0], &servers[0]), (names[1], &servers[1]), (names[2], &servers[2])]);
    let arguments = ["--topology-dns", dns.address(), "--topology-dial", &dial];
    let run =
        |options: &str| Proxy::start(&format!("mongodb+srv://shards.example.org/?tls=false{options}"), &arguments);
    let proxy = run("");
    let ours: Vec<_> = proxy.listeners.iter().map(|it| it.address.clone()).collect();
    assert_eq!((proxy.uri.as_str(), ours.len()), (format!("mongodb://{}/", ours.join(",")).as_str(), 3));
    for address in &ours {
        assert_eq!(hello(address).get_str("msg").ok(), Some("isdbgrid"));
    }
    assert_eq!(run("&srvMaxHosts=2").listeners.len(), 2);

    dns.set("balanced.example.org", &[(names[0], 27017)], &[&["loadBalanced=true"]]);
    let proxy = Proxy::start("mongodb+srv://balanced.example.org/?tls=false", &arguments);
    assert_eq!(proxy.uri, format!("mongodb://{}/?loadBalanced=true", proxy.address));
}

#[test]
fn a_name_that_leads_nowhere_is_an_error_with_a_way_out() {
    let dns = Dns::start().expect("a loopback port");
    dns.set("foreign.example.org", &[("db.example.com", 27017)], &[]);
    dns.set("empty.example.org", &[], &[]);
    dns.set("two.example.org", &[("m.example.org", 1)], &[&["authSource=a"], &["replicaSet=b"]]);
    dns.set("other.example.org", &[("m.example.org", 1)], &[&["tls=false"]]);
    let refused = |name: &str, dns: &str, part: &str| {
        let uri = format!("mongodb+srv://{name}/?tls=false");
        let arguments = ["proxy", "--listen", "127.0.0.1:0", "--upstream", &uri, "--topology-dns", dns];
        let before = now();
        let output = support::proxy::command().args(arguments).output().expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(4), "{name}: {said}");
        let begins = format!("mongotap: upstream: mongodb+srv://{name}: ");
        assert!(said.starts_with(&begins) && said.contains(part) && said.contains("\nhint: "), "{name}: {said}");
        assert!(now() - before < Duration::from_secs(20), "it does not try for ever");
    };
    refused("none.example.org", dns.address(), "there is no _mongodb._tcp.none.example.org.");
    refused("empty.example.org", dns.address(), "_mongodb._tcp.empty.example.org. has no SRV records");
    refused("foreign.example.org", dns.address(), "name db.example.com, which is of another domain");
    refused("two.example.org", dns.address(), "2 TXT records");
    refused("other.example.org", dns.address(), "its TXT record says \"tls=false\"");
    refused("a.example.org", &format!("127.0.0.1:{}", free_port()), "could not be looked up");
}
