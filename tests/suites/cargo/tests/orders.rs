//! Orders: tests that run at the same time, each with a runtime and a client of its own.

use mongodb::bson::{DateTime, doc};

fn run<T>(work: impl Future<Output = mongodb::error::Result<T>>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work).unwrap()
}

#[test]
fn paid_orders_are_counted() {
    let paid = run(async {
        let orders = suite::orders("paid_orders_are_counted").await?;
        orders.drop().await?;
        let order = |status: &str| doc! { "status": status, "made": DateTime::now() };
        orders.insert_many([order("paid"), order("open"), order("paid")]).await?;
        suite::paid(&orders).await
    });
    assert_eq!(paid, 2);
}

#[test]
fn an_order_is_found_by_its_id() {
    let found = run(async {
        let orders = suite::orders("an_order_is_found_by_its_id").await?;
        orders.drop().await?;
        let made = orders.insert_one(doc! { "item": "tea" }).await?;
        orders.find_one(doc! { "_id": made.inserted_id }).await
    });
    assert_eq!(found.unwrap().get_str("item").unwrap(), "tea");
}
