//! The BSON corpus, as PyMongo's source distribution carries it.

#[path = "support/fetch.rs"]
mod fetch;

#[test]
fn there() {
    assert!(fetch::pymongo_sdist().join("test/bson_corpus").is_dir());
}
