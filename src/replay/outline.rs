//! A plain message's document without what no [index](super::Indexing) asks of it, beside what was
//! [found out](super::Findings): most are a few bytes then, and quick to ask.
//!
//! What `build`, `effect`, `cursors`, `streams` and `transaction` look for in such messages is named here.

use crate::bson::write::{begin, end, put_element, put_name};
use crate::bson::{Elements, Kind};

/// Appends that of a request of a kind that [`Plain`](crate::capture::plain::Plain) is.
pub(super) fn put_request(command: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    let mut elements = Elements::readable(command);
    elements.next().inspect(|first| put_element(first, out));
    let mut is_in_transaction = false;
    for element in elements {
        is_in_transaction |= element.name == b"autocommit";
        if matches!(element.name, b"$db" | b"autocommit" | b"deletes" | b"pipeline" | b"startTransaction") {
            put_element(&element, out);
        }
    }
    if is_in_transaction {
        let more = Elements::readable(command).filter(|element| matches!(element.name, b"lsid" | b"txnNumber"));
        more.for_each(|element| put_element(&element, out));
    }
    end(start, out);
}

/// Appends that of a reply to such a one.
pub(super) fn put_reply(reply: &[u8], out: &mut Vec<u8>) {
    let start = begin(out);
    for element in Elements::readable(reply) {
        match element.name {
            b"cursor" if element.kind == Kind::Document => {
                put_name(element.kind, element.name, out);
                put_reply(element.value, out);
            }
            b"code" | b"cursor" | b"id" | b"lastErrorObject" | b"n" | b"nModified" | b"ok" | b"upserted" => {
                put_element(&element, out);
            }
            _ => {}
        }
    }
    end(start, out);
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;

    #[test]
    fn only_what_is_asked_for_is_kept() {
        let outline = |document: Document, put: fn(&[u8], &mut Vec<u8>)| {
            let mut out = Vec::new();
            put(&document.to_vec().unwrap(), &mut out);
            Document::from_reader(out.as_slice()).unwrap()
        };
        let request = |command: Document| outline(command, put_request);
        let reply = |reply: Document| outline(reply, put_reply);
        let inserted = doc! { "insert": "c", "documents": [{ "_id": 1 }], "lsid": {}, "ordered": true, "$db": "d" };
        assert_eq!(request(inserted), doc! { "insert": "c", "$db": "d" });
        let deleted = doc! { "delete": "c", "deletes": [{ "q": { "documents": 1 }, "limit": 0 }], "$db": "d" };
        assert_eq!(request(deleted.clone()), deleted);
        let found = doc! { "cursor": { "firstBatch": [{ "a": 1 }], "id": 5_i64, "ns": "d.c" }, "ok": 1.0 };
        assert_eq!(reply(found), doc! { "cursor": { "id": 5_i64 }, "ok": 1.0 });
        let changed = doc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "value": { "a": 1 }, "ok": 1.0 };
        assert_eq!(reply(changed), doc! { "lastErrorObject": { "n": 1, "updatedExisting": true }, "ok": 1.0 });
        let within = doc! { "find": "c", "lsid": { "id": 1 }, "txnNumber": 1_i64, "autocommit": false };
        assert_eq!(request(within.clone()).len(), within.len());
    }
}
