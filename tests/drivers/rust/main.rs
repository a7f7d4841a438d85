//! The programs of `../workload.md` with the Rust driver: the workload, and by their names `sdam` and `writer`.
//!
//! Its bulk writes need MongoDB 8.0, so those steps are the writes that make up a bulk write. It refuses unacknowledged write
//! concerns: there the commands say w: 0, and the server answers them. It has no exhaust cursors.

use std::{
    env,
    error::Error,
    fmt::Debug,
    io::Write,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mongodb::{
    Client, Collection, Cursor, Database, IndexModel,
    bson::{Binary, Bson, DateTime, Document, Regex, Timestamp, doc, oid::ObjectId, spec::BinarySubtype},
    error::{ErrorKind, WriteFailure},
    event::EventHandler,
    options::{ClientOptions, GridFsBucketOptions, IndexOptions, ReturnDocument},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::compat::{FuturesAsyncReadCompatExt, FuturesAsyncWriteCompatExt};

use events::Events;

mod events;
mod sdam;
mod writer;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// How many operations had the result that was wanted.
static OPERATIONS: AtomicU32 = AtomicU32::new(0);

fn main() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match env::args().nth(1).as_deref() {
        Some("sdam") => return runtime.block_on(sdam::run()),
        Some("writer") => return runtime.block_on(writer::run()),
        _ => runtime.block_on(run())?,
    }
    writeln!(std::io::stdout(), "ok {}", OPERATIONS.load(Ordering::Relaxed))?;
    Ok(())
}

async fn run() -> Outcome {
    let mut options = ClientOptions::parse(env::var("MONGODB_URI")?).await?;
    options.app_name = Some("mongotap-test-rust".to_owned());
    if let Some(path) = env::var_os("MONGOTAP_TEST_EVENTS").filter(|path| !path.is_empty()) {
        let file = Events::create(path)?;
        options.command_event_handler = Some(EventHandler::callback(move |event| file.command(event)));
    }
    let client = Client::with_options(options)?;
    let db = client.database(&env::var("MONGOTAP_TEST_DB")?);
    start(&client, &db).await?;
    writes(&db).await?;
    unacknowledged(&db).await?;
    reads(&db).await?;
    aggregates(&db).await?;
    types(&db).await?;
    changes(&db).await?;
    schema(&client, &db).await?;
    failures(&db).await?;
    size_and_concurrency(&db).await?;
    files(&db).await?;
    client.shutdown().await;
    Ok(())
}

/// Counts an operation whose result is the wanted one; an error where it is not.
fn expect<T: PartialEq<U> + Debug, U: Debug>(what: &str, got: T, wanted: U) -> Outcome {
    if got != wanted {
        return Err(format!("{what}: got {got:.500?}, wanted {wanted:.500?}").into());
    }
    OPERATIONS.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// The code of a server's error or of its only write error; 0 for a success.
fn code<T>(result: mongodb::error::Result<T>) -> i32 {
    match result.map_err(|error| *error.kind) {
        Err(ErrorKind::Command(error)) => error.code,
        Err(ErrorKind::Write(WriteFailure::WriteError(error))) => error.code,
        Err(ErrorKind::InsertMany(error)) => match error.write_errors.as_deref() {
            Some([only]) => only.code,
            _ => 0,
        },
        _ => 0,
    }
}

async fn all(mut cursor: Cursor<Document>) -> Outcome<Vec<Document>> {
    let mut found = Vec::new();
    while cursor.advance().await? {
        found.push(cursor.deserialize_current()?);
    }
    Ok(found)
}

fn collection(db: &Database, name: &str) -> Collection<Document> {
    db.collection(name)
}

fn numbers(documents: &[Document], key: &str) -> Vec<i32> {
    documents.iter().filter_map(|document| document.get_i32(key).ok()).collect()
}

async fn start(client: &Client, db: &Database) -> Outcome {
    let reply = client.database("admin").run_command(doc! { "ping": 1 }).await?;
    expect("ping", reply.get_f64("ok")?, 1.0)?;
    Ok(db.drop().await?)
}

async fn writes(db: &Database) -> Outcome {
    let one = collection(db, "single").insert_one(doc! { "_id": 1, "text": "one" }).await?;
    expect("insert one", one.inserted_id, Bson::Int32(1))?;
    let items = (0..250).map(|i| doc! { "_id": i, "n": i, "group": i % 5, "name": format!("item-{i}") });
    let many = collection(db, "items").insert_many(items).await?;
    expect("insert many", many.inserted_ids.len(), 250)?;

    let bulk = collection(db, "bulk");
    let inserted = bulk.insert_many((1..=3).map(|i| doc! { "_id": i, "v": i })).ordered(true).await?;
    expect("ordered inserts", inserted.inserted_ids.len(), 3)?;
    let updates = [
        doc! { "q": { "_id": 1 }, "u": { "$set": { "v": 10 } } },
        doc! { "q": { "v": { "$gte": 2 } }, "u": { "$inc": { "v": 1 } }, "multi": true },
        doc! { "q": { "_id": 2 }, "u": { "v": 20 } },
    ];
    let reply = db.run_command(doc! { "update": "bulk", "updates": updates.as_slice(), "ordered": true }).await?;
    expect("ordered updates", reply.get_i32("n")?, 5)?;
    expect("ordered delete", bulk.delete_one(doc! { "_id": 3 }).await?.deleted_count, 1)?;
    let upserted = bulk.update_one(doc! { "_id": 4 }, doc! { "$set": { "v": 40 } }).upsert(true).await?;
    expect("upsert of a bulk", upserted.upserted_id, Some(Bson::Int32(4)))?;
    let failed = bulk.insert_many([5, 1, 6].map(|id| doc! { "_id": id })).ordered(false).await;
    expect("unordered inserts", code(failed), 11000)?;
    expect("unordered delete", bulk.delete_one(doc! { "_id": 4 }).await?.deleted_count, 1)?;
    expect("bulk count", bulk.count_documents(doc! {}).await?, 4)
}

/// Reads until an unacknowledged write has taken effect, for 5 s at most.
async fn until(what: &str, unacked: &Collection<Document>, filter: Document, wanted: u64) -> Outcome {
    let read = async {
        while unacked.count_documents(filter.clone()).await? != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Outcome::Ok(wanted)
    };
    expect(what, tokio::time::timeout(Duration::from_secs(5), read).await??, wanted)
}

async fn unacknowledged(db: &Database) -> Outcome {
    let unacked = collection(db, "unacked");
    let blind = |name: &str, field: &str, statement: Document| {
        db.run_command(doc! { name: "unacked", field: [statement], "writeConcern": { "w": 0 } })
    };
    blind("insert", "documents", doc! { "_id": 1, "v": 1 }).await?;
    unacked.insert_one(doc! { "_id": 2, "v": 2 }).await?;
    until("w:0 insert", &unacked, doc! {}, 2).await?;
    blind("update", "updates", doc! { "q": { "_id": 2 }, "u": { "$set": { "v": 20 } } }).await?;
    db.run_command(doc! { "ping": 1 }).await?;
    until("w:0 update", &unacked, doc! { "_id": 2, "v": 20 }, 1).await?;
    blind("delete", "deletes", doc! { "q": { "_id": 1 }, "limit": 1 }).await?;
    db.run_command(doc! { "ping": 1 }).await?;
    until("w:0 delete", &unacked, doc! {}, 1).await
}

async fn reads(db: &Database) -> Outcome {
    let items = collection(db, "items");
    let found = all(items.find(doc! {}).sort(doc! { "_id": 1 }).batch_size(50).await?).await?;
    expect("find in batches", numbers(&found, "_id"), Vec::from_iter(0..250))?;
    let some = items.find(doc! { "group": 3 }).sort(doc! { "n": -1 }).limit(7).projection(doc! { "_id": 0, "n": 1 });
    let wanted: Vec<_> = (218..=248).rev().step_by(5).collect();
    expect("find with limit", numbers(&all(some.await?).await?, "n"), wanted)?;
    let mut cursor = items.find(doc! {}).batch_size(2).await?;
    for _ in 0..3 {
        expect("find three", cursor.advance().await?, true)?;
    }
    drop(cursor);
    expect("count", items.count_documents(doc! { "group": 1 }).await?, 50)?;
    expect("estimated count", items.estimated_document_count().await?, 250)?;
    expect("distinct", items.distinct("group", doc! {}).await?, Vec::from_iter((0..5).map(Bson::Int32)))
}

async fn aggregates(db: &Database) -> Outcome {
    let items = collection(db, "items");
    let group = doc! { "$group": { "_id": "$group", "sum": { "$sum": "$n" } } };
    let sort = doc! { "$sort": { "_id": 1 } };
    let sums = all(items.aggregate([group, sort.clone()]).await?).await?;
    expect("group", numbers(&sums, "sum"), vec![6125, 6175, 6225, 6275, 6325])?;
    expect("aggregate in batches", all(items.aggregate([sort]).batch_size(20).await?).await?.len(), 250)
}

async fn types(db: &Database) -> Outcome {
    let uuid = (0..16).map(|i| i * 0x11).collect();
    let document = doc! {
        "_id": "types", "double": 1.5, "nan": f64::NAN, "negativeZero": -0.0, "infinity": f64::INFINITY,
        "string": "plain", "emptyString": "", "unicode": "žluťoučký kůň 🐎", "nul": "a\0b",
        "nested": { "a": { "b": { "c": 1 } } }, "emptyDocument": {}, "array": [1, "two", [3.0], { "four": 4 }, []],
        "binary": Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1, 2, 255] },
        "uuid": Binary { subtype: BinarySubtype::Uuid, bytes: uuid },
        "objectId": ObjectId::parse_str("0123456789abcdef01234567")?, "true": true, "false": false,
        "date": DateTime::from_millis(1_767_323_045_678), "earlyDate": DateTime::from_millis(-2_174_586_894_000),
        "null": null, "regex": Regex { pattern: "^a.*b$".try_into()?, options: "im".try_into()? },
        "code": Bson::JavaScriptCode("function () {}".to_owned()), "int32": i32::MAX, "int64": 9_007_199_254_740_993_i64,
        "decimal128": Bson::Decimal128("1.10".parse()?), "timestamp": Timestamp { time: 1, increment: 2 },
        "minKey": Bson::MinKey, "maxKey": Bson::MaxKey, "": "empty key",
    };
    let collection = collection(db, "types");
    collection.insert_one(&document).await?;
    let found = collection.find_one(doc! { "_id": "types" }).await?.unwrap_or_default();
    expect("types", found.to_vec()?, document.to_vec()?)
}

async fn changes(db: &Database) -> Outcome {
    let items = collection(db, "items");
    let updated = items.update_one(doc! { "_id": 1 }, doc! { "$set": { "touched": true } }).await?;
    expect("update one", updated.modified_count, 1)?;
    let updated = items.update_many(doc! { "group": 2 }, doc! { "$inc": { "n": 1000 } }).await?;
    expect("update many", updated.modified_count, 50)?;
    let replaced = items.replace_one(doc! { "_id": "up" }, doc! { "name": "upserted" }).upsert(true).await?;
    expect("upsert", replaced.upserted_id, Some(Bson::from("up")))?;
    expect("delete one", items.delete_one(doc! { "_id": "up" }).await?.deleted_count, 1)?;
    expect("delete many", items.delete_many(doc! { "group": 4 }).await?.deleted_count, 50)?;
    let name = |found: Option<Document>| found.and_then(|found| found.get_str("name").map(str::to_owned).ok());
    let update = items.find_one_and_update(doc! { "_id": 5 }, doc! { "$set": { "name": "after" } });
    expect("find and update", name(update.return_document(ReturnDocument::After).await?), Some("after".to_owned()))?;
    let found = items.find_one_and_replace(doc! { "_id": 6 }, doc! { "name": "replaced" }).await?;
    expect("find and replace", name(found), Some("item-6".to_owned()))?;
    let found = items.find_one_and_delete(doc! { "_id": 7 }).await?;
    expect("find and delete", name(found), Some("item-7".to_owned()))
}

async fn schema(client: &Client, db: &Database) -> Outcome {
    let (items, keyed) = (collection(db, "items"), collection(db, "keyed"));
    let index = IndexModel::builder().keys(doc! { "n": 1 }).build();
    expect("create index", items.create_index(index).await?.index_name.as_str(), "n_1")?;
    let unique = IndexOptions::builder().unique(true).build();
    let index = IndexModel::builder().keys(doc! { "key": 1 }).options(unique).build();
    expect("create unique index", keyed.create_index(index).await?.index_name.as_str(), "key_1")?;
    let mut names = keyed.list_index_names().await?;
    names.sort();
    expect("list indexes", names, ["_id_", "key_1"])?;
    items.drop_index("n_1").await?;
    expect("drop index", items.list_index_names().await?.len(), 1)?;
    let created = "created".to_owned();
    db.create_collection(&created).await?;
    expect("create collection", db.list_collection_names().await?.contains(&created), true)?;
    collection(db, &created).drop().await?;
    expect("drop collection", db.list_collection_names().await?.contains(&created), false)?;
    expect("list databases", client.list_database_names().await?.contains(&db.name().to_owned()), true)
}

async fn failures(db: &Database) -> Outcome {
    let (items, single) = (collection(db, "items"), collection(db, "single"));
    expect("unknown command", code(db.run_command(doc! { "mongotapNoSuchCommand": 1 }).await), 59)?;
    expect("bad operator", code(items.find_one(doc! { "n": { "$noSuchOperator": 1 } }).await), 2)?;
    expect("duplicate key", code(single.insert_one(doc! { "_id": 1 }).await), 11000)?;
    let update = doc! { "$noSuchModifier": { "n": 1 } };
    expect("bad modifier", code(single.update_one(doc! { "_id": 1 }, update).await), 9)
}

async fn size_and_concurrency(db: &Database) -> Outcome {
    let text = "x".repeat(1 << 20);
    collection(db, "large").insert_one(doc! { "_id": 1, "text": &text }).await?;
    let found = collection(db, "large").find_one(doc! { "_id": 1 }).await?.unwrap_or_default();
    expect("large document", found.get_str("text")? == text, true)?;

    let parallel = collection(db, "parallel");
    let workers = (0..4).map(|worker| {
        let parallel = parallel.clone();
        tokio::spawn(async move {
            for id in (0..5).map(|i| 10 * worker + i) {
                let inserted = parallel.insert_one(doc! { "_id": id }).await?;
                expect("parallel insert", inserted.inserted_id, Bson::Int32(id))?;
            }
            Outcome::Ok(())
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await??;
    }
    expect("parallel count", parallel.count_documents(doc! {}).await?, 20)
}

async fn files(db: &Database) -> Outcome {
    let content: Vec<u8> = (0..300_000_u32).map(|i| (i * 31 % 251) as u8).collect();
    let bucket = db.gridfs_bucket(GridFsBucketOptions::builder().chunk_size_bytes(65_536).build());
    let upload = bucket.open_upload_stream("file").await?;
    let id = upload.id().clone();
    let mut upload = upload.compat_write();
    upload.write_all(&content).await?;
    upload.shutdown().await?;
    drop(upload);
    expect("chunks", collection(db, "fs.chunks").count_documents(doc! {}).await?, 5)?;
    let mut back = Vec::new();
    bucket.open_download_stream(id).await?.compat().read_to_end(&mut back).await?;
    expect("download", back == content, true)
}
