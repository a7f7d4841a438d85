//! The lines that people read are the same while it happens and when they are read back from a log.

mod support;

use std::fs;
use std::process::Stdio;

use bson::{Bson, doc};
use mongotap::Proxy;
use mongotap::config::{Log, Target};
use mongotap::sink::Format;

use support::client::Client;
use support::mongod::Mongod;

#[test]
fn show_prints_what_the_proxy_printed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (live, log) = (directory.path().join("live.txt"), directory.path().join("log.jsonl"));
    let events = Format::Compact.default_events().to_vec();
    let compact = Log { format: Format::Compact, events, ..Log::to(Target::File(live.clone())) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let builder = Proxy::builder().upstream(&Mongod::shared().uri()).log(compact).log(Log::to(Target::File(log)));
    let proxy = runtime.block_on(builder.start()).expect("it starts");

    let mut client = Client::handshake(&proxy.endpoint().to_string(), "compact");
    let documents = |from: i32| (from..from + 250).map(|id| doc! { "_id": id, "text": "x".repeat(90) });
    let all = |from| Bson::Array(documents(from).map(Bson::from).collect());
    client.command(&doc! { "drop": "compact", "$db": "compact" });
    client.command(&doc! { "insert": "compact", "documents": all(0), "$db": "compact" });
    client.command(&doc! { "insert": "compact", "documents": all(200), "$db": "compact" });
    let updates = documents(0).map(|document| doc! { "q": { "_id": 1 }, "u": document });
    let updates = Bson::Array(updates.map(Bson::from).collect());
    client.command(&doc! { "update": "compact", "updates": updates, "$db": "compact" });
    client.command(&doc! { "insert": "compact", "documents": [{ "text": "x".repeat(20_000) }], "$db": "compact" });
    drop(client);
    runtime.block_on(proxy.shutdown());

    let shown = |events: &str| {
        let mut show = support::proxy::command();
        show.args(["show", "log.jsonl", "--events", events]).current_dir(directory.path()).stdin(Stdio::null());
        String::from_utf8(show.output().expect("it starts").stdout).expect("text")
    };
    let live = fs::read_to_string(live).expect("the log");
    // Topologies are derived on a thread of their own: where their lines stand among the others is not told.
    let (topologies, commands): (Vec<_>, Vec<_>) = live.lines().partition(|line| line.contains("Z t"));
    assert_eq!(shown("command").lines().collect::<Vec<_>>(), commands);
    assert_eq!(shown("topology").lines().collect::<Vec<_>>(), topologies);
    assert!(topologies[0].contains(" topology opened by 127.0.0.1:"), "{live}");
    assert!(topologies.last().is_some_and(|line| line.ends_with(" topology closed")), "{live}");
    assert!(live.contains(" insert 250 docs  n=250  "), "{live}");
    assert!(live.contains(" insert many docs  n=0 1 write error (code 11000)  "), "{live}");
    assert!(live.contains(" insert 1 doc  n=1  "), "{live}");
    assert!(live.contains(" and many more  n="), "{live}");
}
