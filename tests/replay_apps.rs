//! Applications that are not ours against a replay: PyMongo with GridFS, transactions and a change stream before a replica
//! set of three, and mongoose behind Express.

mod support;

use std::path::Path;
use std::process::Command;

use support::mongod::{Mongod, Options};
use support::replay::{Replay, captured, output};
use support::replica_set::ReplicaSet;
use support::{fetch, manifest};

/// A small shop, whose ids, keys and times are made anew in each run.
const SHOP: &str = r#"
import datetime, sys, uuid
import gridfs, pymongo
from pymongo.read_preferences import SecondaryPreferred
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000, uuidRepresentation="standard", w="majority") as client:
    client.drop_database("shop")
    shop = client.shop
    orders, stock = shop.create_collection("orders"), shop.create_collection("stock")
    now = datetime.datetime.now(datetime.timezone.utc)

    files = gridfs.GridFS(shop)
    picture = files.put(b"\x00\x01" * 200_000, filename="tea.png", chunkSizeBytes=65536)
    print(len(files.get(picture).read()), files.get_last_version("tea.png")._id == picture)

    stock.insert_many([{"_id": item, "left": 2} for item in ("tea", "cup")])
    def buy(session, item, fail=False):
        order = orders.insert_one({"item": item, "key": uuid.uuid4(), "at": now}, session=session)
        taken = stock.update_one({"_id": item, "left": {"$gt": 0}}, {"$inc": {"left": -1}}, session=session)
        if fail or not taken.modified_count:
            raise ValueError("no " + item)
        return order.inserted_id
    with orders.watch(full_document="updateLookup") as changes, client.start_session() as session:
        for attempt in range(4):
            try:
                with session.start_transaction():
                    bought = buy(session, "tea", fail=attempt == 0)
                print(attempt, "bought", orders.find_one({"_id": bought})["item"])
            except ValueError as error:
                print(attempt, error)
        orders.update_one({"_id": orders.find_one(sort=[("_id", -1)])["_id"]}, {"$set": {"sent": True}})
        seen = [next(changes) for _ in range(3)]
        print([change["operationType"] for change in seen], seen[0]["fullDocument"]["item"], seen[2]["fullDocument"]["sent"])
    print(stock.find_one({"_id": "tea"})["left"], orders.count_documents({}))
    nearby = shop.get_collection("orders", read_preference=SecondaryPreferred())
    print(sorted(len(str(order["key"])) for order in nearby.find({"at": {"$lte": now}}, batch_size=1)))
    print(sorted(client.nodes) != [], client.topology_description.topology_type_name)
"#;

fn shop(uri: &str) -> String {
    output(Command::new(manifest::python()).args(["-c", SHOP, uri]))
}

fn fixture(capture: &Path) -> std::path::PathBuf {
    let fixture = capture.with_extension("jsonl");
    output(support::proxy::command().arg("convert").arg(capture).arg(&fixture));
    fixture
}

#[test]
fn a_shop_before_a_replica_set() {
    let set = ReplicaSet::start(3);
    let directory = tempfile::tempdir().unwrap();
    let mut seen = String::new();
    let capture = captured(&set.uri(), directory.path(), |uri| seen = shop(uri));
    drop(set);
    assert!(seen.contains("0 no tea\n1 bought tea\n2 bought tea\n3 no tea\n"), "{seen}");
    for recording in [&capture, &fixture(&capture)] {
        for (topology, members) in [("one", 1), ("all", 3)] {
            let replay = Replay::start(recording, &["--topology", topology, "--repeat", "loop"]);
            assert_eq!(replay.said.matches("listening on ").count(), members, "{}", replay.said);
            for _ in 0..2 {
                assert_eq!(shop(&replay.uri), seen, "{topology} of {}", recording.display());
            }
            let stopped = replay.stop();
            assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
        }
    }
}

#[test]
fn mongoose_behind_express() {
    // It needs what the mongoose workload needs.
    let manifests =
        manifest::all().into_iter().filter(|it| it.name == "mongoose" || it.name == "pymongo" || it.name == "rust");
    if !manifest::installed(manifests.collect()).iter().any(|it| it.name == "mongoose") {
        return;
    }
    let directory = fetch::cache().join("suites/express");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suites/express");
    let copy = format!("mkdir -p '{0}' && cp -r '{1}/.' '{0}/'", directory.display(), source.display());
    fetch::run(Command::new("sh").args(["-c", &copy]), "");
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"]).current_dir(&directory);
    fetch::run(&mut npm, "hint: install Node.js 20.19 or newer with npm (https://nodejs.org)");
    let visit =
        |uri: &str| output(Command::new("node").arg("visit.js").current_dir(&directory).env("MONGODB_URI", uri));

    let place = tempfile::tempdir().unwrap();
    let mongod = Mongod::start(Options::default());
    let mut seen = String::new();
    let capture = captured(&mongod.uri(), place.path(), |uri| seen = visit(uri));
    drop(mongod);
    assert_eq!(seen.lines().last(), Some("DELETE 204"), "{seen}");
    for recording in [&capture, &fixture(&capture)] {
        let replay = Replay::start(recording, &["--repeat", "loop"]);
        for _ in 0..2 {
            assert_eq!(visit(&replay.uri), seen);
        }
        let stopped = replay.stop();
        assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    }
}
