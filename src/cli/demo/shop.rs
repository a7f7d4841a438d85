//! The demo's application: a small shop that does a little of everything, with values that never change.

use bson::raw::{RawArrayBuf, RawDocument, RawDocumentBuf, cstr};
use bson::{DateTime, rawdoc};

use crate::bson::find_path;
use crate::net::client::{Client, ClientError};

/// The shop's database.
pub(super) const DATABASE: &str = "shop";

/// The most batches that are fetched of a cursor: more than there are, unless somebody has edited the answers.
const BATCHES_MAX: usize = 10;

/// Does the shop's work over a connection. `seen` is given each command, `$db` included, and its reply.
///
/// The collection is empty before and gone afterwards, so that every run is answered the same.
///
/// # Errors
/// If the connection fails. Commands that fail do not matter: some are meant to.
pub(super) async fn work(
    client: &mut Client,
    seen: &mut dyn FnMut(&RawDocument, &RawDocument),
) -> Result<(), ClientError> {
    let mut shop = Shop { client, seen };
    shop.ask("admin", rawdoc! { "ping": 1 }).await?;
    shop.orders(opening()).await?;
    shop.orders(insert(orders())).await?;
    shop.browse().await?;
    shop.orders(sales()).await?;
    shop.orders(shipment()).await?;
    shop.orders(correction()).await?;
    // A number that is taken: a success with a write error.
    shop.orders(insert([order(8, 1001, "Oslo", 12.5, "paid")].into_iter().collect())).await?;
    // An operator that does not exist: a failure.
    shop.orders(rawdoc! { "find": "orders", "filter": { "total": { "$cheaperThan": 10 } } }).await?;
    shop.orders(rawdoc! { "count": "orders", "query": { "status": "paid" } }).await?;
    shop.orders(rawdoc! { "delete": "orders", "deletes": [{ "q": { "status": "cancelled" }, "limit": 0 }] }).await?;
    shop.orders(rawdoc! { "drop": "orders" }).await?;
    Ok(())
}

struct Shop<'s> {
    client: &'s mut Client,
    seen: &'s mut dyn FnMut(&RawDocument, &RawDocument),
}

impl Shop<'_> {
    async fn ask(&mut self, database: &str, command: RawDocumentBuf) -> Result<RawDocumentBuf, ClientError> {
        let reply = self.client.command(database, command.clone()).await?;
        let mut sent = command;
        sent.append(cstr!("$db"), database);
        (self.seen)(&sent, &reply);
        Ok(reply)
    }

    async fn orders(&mut self, command: RawDocumentBuf) -> Result<RawDocumentBuf, ClientError> {
        self.ask(DATABASE, command).await
    }

    /// Reads a cursor to its end, batch by batch.
    async fn browse(&mut self) -> Result<(), ClientError> {
        let find = rawdoc! { "find": "orders", "filter": { "status": "paid" }, "batchSize": 2 };
        let mut reply = self.orders(find).await?;
        for _ in 0..BATCHES_MAX {
            let id = find_path(reply.as_bytes(), &[b"cursor", b"id"]).and_then(|id| id.as_i64());
            let Some(id) = id.filter(|id| *id != 0) else { break };
            reply = self.orders(rawdoc! { "getMore": id, "collection": "orders", "batchSize": 2 }).await?;
        }
        Ok(())
    }
}

fn opening() -> RawDocumentBuf {
    let index = rawdoc! { "key": { "number": 1 }, "name": "number_1", "unique": true };
    rawdoc! { "createIndexes": "orders", "indexes": [index] }
}

fn insert(documents: RawArrayBuf) -> RawDocumentBuf {
    rawdoc! { "insert": "orders", "documents": documents, "ordered": true }
}

fn orders() -> RawArrayBuf {
    RawArrayBuf::from_iter([
        order(1, 1001, "Oslo", 34.5, "paid"),
        order(2, 1002, "Lima", 12.0, "open"),
        order(3, 1003, "Accra", 99.9, "paid"),
        order(4, 1004, "Oslo", 7.25, "paid"),
        order(5, 1005, "Hanoi", 55.0, "cancelled"),
        order(6, 1006, "Lima", 18.4, "paid"),
        order(7, 1007, "Accra", 3.1, "paid"),
    ])
}

fn order(id: i32, number: i64, city: &str, total: f64, status: &str) -> RawDocumentBuf {
    // An hour between orders.
    let placed = DateTime::from_millis(1_767_258_000_000 + i64::from(id) * 3_600_000);
    rawdoc! { "_id": id, "number": number, "city": city, "total": total, "status": status, "placed": placed }
}

fn sales() -> RawDocumentBuf {
    let group = rawdoc! { "_id": "$city", "orders": { "$sum": 1 }, "total": { "$sum": "$total" } };
    let pipeline =
        [rawdoc! { "$match": { "status": "paid" } }, rawdoc! { "$group": group }, rawdoc! { "$sort": { "_id": 1 } }];
    rawdoc! { "aggregate": "orders", "pipeline": RawArrayBuf::from_iter(pipeline), "cursor": {} }
}

fn shipment() -> RawDocumentBuf {
    let update = rawdoc! { "q": { "number": 1003_i64 }, "u": { "$set": { "status": "shipped" } } };
    rawdoc! { "update": "orders", "updates": [update] }
}

fn correction() -> RawDocumentBuf {
    rawdoc! {
        "findAndModify": "orders", "query": { "number": 1002_i64 }, "update": { "$set": { "status": "paid" } },
        "new": true,
    }
}
