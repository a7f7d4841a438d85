//! An application whose tests need a server.

use mongodb::bson::doc;
use mongodb::error::Result;
use mongodb::{Client, Collection};
use mongodb::bson::Document;

/// The orders of that name, at the server that MONGODB_URI names.
pub async fn orders(name: &str) -> Result<Collection<Document>> {
    let uri = std::env::var("MONGODB_URI").expect("MONGODB_URI is set");
    Ok(Client::with_uri_str(uri).await?.database("shop").collection(name))
}

/// How many of them are paid.
pub async fn paid(orders: &Collection<Document>) -> Result<u64> {
    orders.count_documents(doc! { "status": "paid" }).await
}
