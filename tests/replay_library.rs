//! Recording and replaying inside a program: `Record`, `Replay`, and the one that is either.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::path::Path;

use bson::oid::ObjectId;
use bson::rawdoc;
use mongotap::config::{Endpoint, Upstream};
use mongotap::net::client::{Client, ClientError, Options};
use mongotap::replay::Repeat;
use mongotap::{Record, RecordOrReplay, Replay, record_or_replay};

use support::mongod::Mongod;

async fn client(uri: &str) -> Client {
    let endpoint: Endpoint = uri.parse::<Upstream>().unwrap().hosts.remove(0);
    Client::connect(&endpoint, &Options::default()).await.unwrap()
}

/// An order is made and counted; how many there are.
async fn work(uri: &str, item: &str) -> Result<i32, ClientError> {
    let mut client = client(uri).await;
    client.command("library", rawdoc! { "drop": "orders" }).await?;
    let order = rawdoc! { "_id": ObjectId::new(), "item": item };
    client.command("library", rawdoc! { "insert": "orders", "documents": [order] }).await?;
    let counted = client.command("library", rawdoc! { "count": "orders", "query": { "item": item } }).await?;
    Ok(counted.get_i32("n").unwrap_or(-1))
}

async fn record(path: &Path) {
    let record = Record::to_path(path).upstream(&Mongod::shared().uri()).start().await.unwrap();
    assert_eq!(work(record.uri(), "tea").await.unwrap(), 1);
    let written = record.finish().await.unwrap();
    assert_eq!((written.exchanges, written.path.as_path()), (3, path));
}

/// The tests share a collection of one server.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn what_was_recorded_is_replayed_and_verified() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().unwrap();
    for name in ["orders.jsonl", "orders.mtap"] {
        let path = directory.path().join(name);
        record(&path).await;
        let replay = Replay::from_path(&path).start().await.unwrap();
        assert_eq!(work(replay.uri(), "tea").await.unwrap(), 1);
        replay.verify().unwrap();
        assert_eq!(work(replay.uri(), "coffee").await.unwrap(), -1);
        let unmet = replay.verify().unwrap_err();
        assert!(unmet.0.missed >= 1, "{unmet}");
        assert!(unmet.to_string().contains("\"tea\" there and \"coffee\" here"), "{unmet}");
        assert_eq!(replay.shutdown().await, *unmet.0);
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[tokio::test]
async fn a_replay_is_as_strict_as_it_is_told() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    record(&path).await;
    let replay = Replay::from_path(&path).strict(true).start().await.unwrap();
    assert!(replay.verify().unwrap_err().to_string().contains("never asked for"));
    let replay = Replay::from_path(&path).repeat(Repeat::Once).start().await.unwrap();
    assert_eq!(work(replay.uri(), "tea").await.unwrap(), 1);
    replay.verify().unwrap();
    work(replay.uri(), "tea").await.unwrap();
    assert!(replay.verify().is_err());
    let error = Replay::from_path(&path).bind(&["documents..item"]).start().await.unwrap_err();
    assert!(error.to_string().starts_with("bind: \"documents..item\" is not a path"), "{error}");
    let error = Replay::from_path(directory.path().join("none.jsonl")).start().await.unwrap_err();
    assert!(error.to_string().ends_with("none.jsonl: no such file or directory"), "{error}");
}

/// It answers although the program's own runtime does nothing meanwhile, and ends when it is dropped.
#[test]
fn a_replay_needs_no_runtime_of_the_programs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("orders.jsonl");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(async {
        let _alone = ALONE.lock().await;
        record(&path).await;
    });
    let replay = runtime().block_on(Replay::from_path(&path).start()).unwrap();
    let address = replay.listeners()[0].to_string();
    let mut client = support::client::Client::handshake(&address, "sync");
    let reply = client.command(&bson::doc! { "drop": "orders", "$db": "library" });
    assert!(reply.contains_key("ok"), "{reply}");
    drop(replay);
    assert!(support::client::Client::try_connect(&address).is_none());
}

#[tokio::test]
async fn a_missing_fixture_is_recorded_and_one_that_is_there_is_replayed() {
    let _alone = ALONE.lock().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/orders.jsonl");
    let upstream = Mongod::shared().uri();
    if std::env::var_os("CI").is_some_and(|it| !["", "0", "false"].iter().any(|no| it == *no)) {
        let error = record_or_replay(&path, &upstream).await.unwrap_err();
        assert!(error.to_string().ends_with("CI is set: nothing is recorded in CI"), "{error}");
        return;
    }
    for is_recording in [true, false] {
        let server = record_or_replay(&path, &upstream).await.unwrap();
        assert_eq!(matches!(server, RecordOrReplay::Record(_)), is_recording);
        assert_eq!(work(server.uri(), "tea").await.unwrap(), 1);
        server.finish().await.unwrap();
    }
    let server = record_or_replay(&path, "mongodb://127.0.0.1:1").await.unwrap();
    assert_eq!(work(server.uri(), "coffee").await.unwrap(), -1);
    assert!(server.finish().await.unwrap_err().to_string().contains("coffee"));
}
