//! Commands and replies with a secret in them, and what is left of them.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, Regex, doc};

use super::*;

mod hidden;

/// What must be seen nowhere.
const SECRET: &str = "123-45-6789";

fn fields(mode: Mode) -> Arc<Fields> {
    let paths = ["users.ssn", "users.card.number", "*.password"].map(|path| path.parse().unwrap());
    Fields::new(paths.to_vec(), mode, b"key").unwrap()
}

fn bytes(document: &Document) -> Vec<u8> {
    document.to_vec().unwrap()
}

fn document(bytes: &[u8]) -> Document {
    Document::from_reader(bytes).unwrap()
}

/// The command and its replies without the secrets.
fn without(mode: Mode, command: &Document, replies: &[Document]) -> (Document, Vec<Document>) {
    let fields = fields(mode);
    let command = bytes(command);
    let mut asked = fields.asked(&command, Some("shop"));
    let request = fields.request(&mut asked, &command).unwrap_or(command);
    let reply = |reply: &Document| {
        let reply = bytes(reply);
        document(&fields.reply(&asked, &reply).unwrap_or(reply))
    };
    (document(&request), replies.iter().map(reply).collect())
}

/// The document with the secret where `§` is.
fn with_secret(document: &Document) -> Document {
    let value = |value: &Bson| match value {
        Bson::String(text) => Bson::String(text.replace('§', SECRET)),
        Bson::Document(inner) => Bson::Document(with_secret(inner)),
        Bson::Array(array) => Bson::Array(with_secret(&doc_of(array)).into_iter().map(|(_, value)| value).collect()),
        other => other.clone(),
    };
    document.iter().map(|(name, it)| (name.clone(), value(it))).collect()
}

fn doc_of(array: &[Bson]) -> Document {
    array.iter().enumerate().map(|(index, value)| (index.to_string(), value.clone())).collect()
}

/// The same with the secret masked where it stands alone.
fn masked_secret(document: &Document) -> Document {
    let value = |value: &Bson| match value {
        // An error stays up to what it is about.
        Bson::String(text) if text.contains('§') => match text.split_once("dup key: ") {
            Some((before, _)) => Bson::String(format!("{before}dup key: {{ *** }}")),
            None => Bson::String("***".to_owned()),
        },
        Bson::Document(inner) => Bson::Document(masked_secret(inner)),
        Bson::Array(array) => Bson::Array(masked_secret(&doc_of(array)).into_iter().map(|(_, value)| value).collect()),
        other => other.clone(),
    };
    document.iter().map(|(name, it)| (name.clone(), value(it))).collect()
}

/// Commands with `§` where the secret is, and only there something goes.
fn commands() -> Vec<Document> {
    vec![
        doc! { "insert": "users", "documents": [{ "_id": 1, "ssn": "§", "name": "Ann" }, { "profile": { "ssn": ["§", { "x": "§" }] }, "$db": 1 }], "ordered": true },
        doc! { "insert": "users", "documents": [{ "card": [{ "number": "§", "kind": "visa" }], "number": "7" }] },
        doc! { "insert": "other", "documents": [{ "ssn": "not one", "password": "§", "deep": { "password": { "old": "§" } } }] },
        doc! { "update": "users", "updates": [
            { "q": { "ssn": "§" }, "u": { "$set": { "profile.ssn": "§", "name": "x" }, "$push": { "card.0.number": { "$each": ["§"], "$slice": 5 } } }, "multi": false },
            { "q": { "name": "x" }, "u": { "ssn": "§", "name": "y" }, "upsert": true },
            { "q": {}, "u": [{ "$set": { "ssn": "§", "other": "$ssn" } }, { "$unset": "ssn" }] },
            { "q": {}, "u": { "$set": { "card.$[c].number": "§" } }, "arrayFilters": [{ "c.number": "§", "c.kind": "visa" }] },
            { "q": {}, "u": { "$rename": { "ssn": "tax" }, "$unset": { "ssn": "" }, "$addToSet": { "card": { "number": "§" } } } },
        ] },
        doc! { "delete": "users", "deletes": [{ "q": { "$or": [{ "ssn": { "$in": ["§", "§"] } }, { "name": "x" }] }, "limit": 1 }] },
        doc! { "find": "users", "filter": { "ssn": "§", "$and": [{ "profile.ssn": { "$not": { "$eq": "§" } } }, { "ssn": { "$exists": true, "$type": "string" } }] },
        "sort": { "ssn": -1 }, "projection": { "ssn": 1, "_id": 0 }, "hint": { "ssn": 1 }, "min": { "ssn": "§" }, "limit": 5 },
        doc! { "find": "users", "filter": { "card": { "$elemMatch": { "number": "§", "kind": "visa" } } }, "projection": { "card": { "$elemMatch": { "number": "§" } } } },
        doc! { "find": "users", "filter": { "$expr": { "$and": [{ "$eq": ["$ssn", "§"] }, { "$eq": ["$name", "x"] }] } } },
        doc! { "find": "users", "filter": { "$expr": { "$eq": ["$profile.ssn", "$$wanted"] } }, "let": { "wanted": "§" } },
        doc! { "find": "users", "filter": { "$where": "this.ssn == '§'" } },
        doc! { "findAndModify": "users", "query": { "ssn": "§" }, "update": { "$set": { "ssn": "§" } }, "fields": { "ssn": 1 }, "new": true },
        doc! { "findAndModify": "users", "query": { "n": 1 }, "update": [{ "$set": { "ssn": { "$concat": ["$a", "§"] } } }] },
        doc! { "count": "users", "query": { "ssn": "§" } },
        doc! { "distinct": "users", "key": "ssn", "query": { "password": "§" } },
        doc! { "aggregate": "users", "pipeline": [
            { "$match": { "ssn": "§", "name": "x" } },
            { "$project": { "ssn": 1, "is": { "$eq": ["$ssn", "§"] }, "name": "$name", "both": { "$concat": ["$name", "x"] } } },
            { "$addFields": { "ssn": "§", "n": 5 } },
            { "$group": { "_id": { "$cond": [{ "$in": ["$ssn", ["§"]] }, "known", "$name"] }, "n": { "$sum": 1 } } },
            { "$sort": { "ssn": -1 } },
        ], "cursor": {} },
        doc! { "aggregate": "orders", "pipeline": [
            { "$lookup": { "from": "users", "localField": "user", "foreignField": "_id", "as": "user", "pipeline": [{ "$match": { "ssn": "§" } }] } },
            { "$match": { "user.ssn": "§" } },
        ] },
        doc! { "explain": { "find": "users", "filter": { "ssn": "§", "name": "x" } }, "verbosity": "queryPlanner" },
        doc! { "createIndexes": "users", "indexes": [{ "key": { "ssn": 1, "name": "text" }, "name": "ssn_1", "partialFilterExpression": { "ssn": { "$gt": "§" } } }] },
        doc! { "bulkWrite": 1, "ops": [
            { "insert": 0, "document": { "ssn": "§", "n": 1 } },
            { "update": 0, "filter": { "ssn": "§" }, "updateMods": { "$set": { "ssn": "§" } } },
            { "delete": 0, "filter": { "ssn": "§" } },
        ], "nsInfo": [{ "ns": "shop.users" }] },
        doc! { "aggregate": "users", "pipeline": [{ "$bucket": { "groupBy": "$ssn", "boundaries": ["§", "§"], "default": "§" } }] },
        doc! { "aggregate": "users", "pipeline": [{ "$redact": { "$switch": { "branches": [{ "case": { "$eq": ["$ssn", "§"] }, "then": "$$KEEP" }], "default": "$$PRUNE" } } }] },
    ]
}

#[test]
fn values_of_the_fields_go_from_commands_and_nothing_else() {
    for command in commands() {
        let (found, _) = without(Mode::Mask, &with_secret(&command), &[]);
        assert_eq!(found, masked_secret(&command), "{command}");
        for mode in Mode::ALL {
            let (found, _) = without(mode, &with_secret(&command), &[]);
            assert!(!found.to_string().contains(SECRET), "{mode:?}: {found}");
        }
    }
}

#[test]
fn what_is_left_out_is_left_out() {
    let command = doc! { "update": "users", "updates": [{ "q": { "ssn": "§", "n": 1 }, "u": { "$set": { "profile.ssn": "§", "name": "x" } } }] };
    let expected = doc! { "update": "users", "updates": [{ "q": { "n": 1, "$redacted": "[redacted]" }, "u": { "$set": { "name": "x" } } }] };
    assert_eq!(without(Mode::Drop, &command, &[]).0, expected);
    // A filter says so, wherever in it that was: without it, it takes more than it did.
    for (filter, expected) in [
        (doc! { "ssn": "§" }, doc! { "$redacted": "[redacted]" }),
        (doc! { "$or": [{ "ssn": "§" }, { "n": 1 }] }, doc! { "$or": [{}, { "n": 1 }], "$redacted": "[redacted]" }),
        (doc! { "n": 1 }, doc! { "n": 1 }),
    ] {
        let deletes =
            |it: &Document| doc! { "delete": "users", "deletes": [{ "q": it, "limit": 0 }, { "q": { "a": 1 } }] };
        assert_eq!(without(Mode::Drop, &deletes(&filter), &[]).0, deletes(&expected));
        let staged =
            |it: &Document| doc! { "aggregate": "users", "pipeline": [{ "$match": it }, { "$set": { "n": 1 } }] };
        assert_eq!(without(Mode::Drop, &staged(&filter), &[]).0, staged(&expected));
    }
    let distinct = doc! { "distinct": "users", "key": "ssn" };
    let (_, replies) = without(Mode::Drop, &distinct, &[doc! { "values": [SECRET, 5], "ok": 1.0 }]);
    assert_eq!(replies, [doc! { "values": ["***", 0], "ok": 1.0 }]);
}

#[test]
fn hashes_are_equal_where_values_are() {
    let insert = doc! { "insert": "users", "documents": [{ "ssn": SECRET }, { "ssn": "other" }, { "password": SECRET }, { "ssn": 5 }, { "ssn": 5_i64 }] };
    let (found, _) = without(Mode::Hash, &insert, &[]);
    let documents = found.get_array("documents").unwrap();
    let hash = |place: usize| documents[place].as_document().unwrap().iter().next().unwrap().1.as_str().unwrap();
    assert_eq!(hash(0), hash(2));
    assert_eq!((hash(0).len(), &hash(0)[..5]), (37, "hmac:"));
    assert!(hash(0) != hash(1) && hash(3) != hash(4));
    // Anybody can compute it who has the key.
    let value = [&[2][..], &12_i32.to_le_bytes(), SECRET.as_bytes(), &[0]].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"key"), &value);
    let digits: String = tag.as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash(0), format!("hmac:{digits}"));
}

#[test]
fn every_type_has_its_constant() {
    let regex = |pattern: &str| Regex { pattern: pattern.try_into().unwrap(), options: "".try_into().unwrap() };
    let before = doc! { "find": "users", "filter": { "ssn": [
        "text", 5, 5_i64, 1.5, true, Bson::Null, ObjectId::from_bytes([1; 12]), DateTime::from_millis(5), regex("^1"), { "deep": "text" },
    ] } };
    let after = doc! { "find": "users", "filter": { "ssn": [
        "***", 0, 0_i64, 0.0, false, Bson::Null, ObjectId::from_bytes([0; 12]), DateTime::from_millis(0), regex("***"), { "deep": "***" },
    ] } };
    assert_eq!(without(Mode::Mask, &before, &[]).0, after);
}

/// Commands, and replies to them with `§` where the secret is.
fn replies() -> Vec<(Document, Document)> {
    let find = doc! { "find": "users", "filter": {} };
    let duplicate = "E11000 duplicate key error collection: shop.users index: ssn_1 dup key: ";
    vec![
        (
            find,
            doc! { "cursor": { "firstBatch": [{ "_id": 1, "ssn": "§", "card": [{ "number": "§", "n": 1 }] }, { "name": "x" }], "id": 0_i64, "ns": "shop.users" }, "ok": 1.0 },
        ),
        (
            doc! { "getMore": 5_i64, "collection": "users" },
            doc! { "cursor": { "nextBatch": [{ "ssn": "§" }], "id": 0_i64, "ns": "shop.users" }, "ok": 1.0 },
        ),
        (doc! { "distinct": "users", "key": "ssn" }, doc! { "values": ["§", "§"], "ok": 1.0 }),
        (doc! { "distinct": "users", "key": "profile" }, doc! { "values": [{ "ssn": "§", "n": "x" }], "ok": 1.0 }),
        (doc! { "distinct": "users", "key": "name" }, doc! { "values": ["x"], "ok": 1.0 }),
        (
            doc! { "findAndModify": "users", "query": {} },
            doc! { "value": { "ssn": "§", "n": 1 }, "lastErrorObject": { "n": 1 }, "ok": 1.0 },
        ),
        (
            doc! { "insert": "users", "documents": [] },
            doc! { "n": 0, "writeErrors": [
                { "index": 0, "code": 11000, "keyPattern": { "ssn": 1 }, "keyValue": { "ssn": "§" }, "errmsg": format!("{duplicate}{{ ssn: \"§\" }}") },
                { "index": 1, "code": 11000, "keyPattern": { "name": 1 }, "keyValue": { "name": "x" }, "errmsg": "dup key: { name: \"x\" }" },
            ], "ok": 1.0 },
        ),
        (
            doc! { "findAndModify": "users" },
            doc! { "ok": 0.0, "errmsg": format!("{duplicate}{{ ssn: \"§\" }}"), "code": 11000, "keyPattern": { "ssn": 1 }, "keyValue": { "ssn": "§" } },
        ),
        (
            doc! { "update": "users" },
            doc! { "writeErrors": [{ "code": 121, "errmsg": "Document failed validation", "errInfo": { "failingDocumentId": 7, "details": { "schemaRulesNotSatisfied": [{ "propertyName": "ssn", "details": [{ "operatorName": "pattern", "consideredValue": "§" }] }] } } }] },
        ),
        // What a pipeline calls otherwise.
        (
            doc! { "aggregate": "users", "pipeline": [{ "$project": { "tax": "$ssn", "n": "$name" } }, { "$set": { "again": { "$toUpper": "$tax" } } }] },
            doc! { "cursor": { "firstBatch": [{ "tax": "§", "again": "§", "n": "x" }], "id": 0_i64 } },
        ),
        (
            doc! { "aggregate": "users", "pipeline": [{ "$group": { "_id": "$ssn", "n": { "$sum": 1 }, "all": { "$push": "$card" } } }] },
            doc! { "cursor": { "firstBatch": [{ "_id": "§", "n": 2, "all": [[{ "number": "§", "kind": "x" }]] }], "id": 0_i64 } },
        ),
        (
            doc! { "aggregate": "users", "pipeline": [{ "$sortByCount": "$ssn" }] },
            doc! { "cursor": { "firstBatch": [{ "_id": "§", "count": 1 }] } },
        ),
        (
            doc! { "aggregate": "users", "pipeline": [{ "$replaceWith": "$card" }] },
            doc! { "cursor": { "firstBatch": [{ "number": "§", "kind": "x" }] } },
        ),
        (
            doc! { "aggregate": "orders", "pipeline": [{ "$lookup": { "from": "users", "as": "u", "localField": "a", "foreignField": "b" } }] },
            doc! { "cursor": { "firstBatch": [{ "total": 5, "u": [{ "ssn": "§", "name": "x" }] }] } },
        ),
        (
            doc! { "aggregate": 1, "pipeline": [{ "$changeStream": {} }] },
            doc! { "cursor": { "firstBatch": [{ "operationType": "update", "updateDescription": { "updatedFields": { "profile.ssn": "§", "n": 1 } }, "fullDocument": { "ssn": "§" } }] } },
        ),
        (
            doc! { "explain": { "find": "users", "filter": { "ssn": SECRET } } },
            doc! { "queryPlanner": { "parsedQuery": { "ssn": { "$eq": "§" } }, "winningPlan": { "stage": "FETCH", "inputStage": { "keyPattern": { "ssn": 1 }, "indexBounds": { "ssn": ["[\"§\", \"§\"]"] } }, "slotBasedPlan": { "stages": "eq(s1, \"§\")" } } },
            "command": { "find": "users", "filter": { "ssn": "§" }, "$db": "shop" }, "ok": 1.0 },
        ),
        (
            doc! { "listIndexes": "users" },
            doc! { "cursor": { "firstBatch": [{ "v": 2, "key": { "ssn": 1 }, "name": "ssn_1", "partialFilterExpression": { "ssn": "§" } }] } },
        ),
    ]
}

#[test]
fn values_of_the_fields_go_from_replies_and_nothing_else() {
    for (command, reply) in replies() {
        for mode in Mode::ALL {
            let (_, found) = without(mode, &command, &[with_secret(&reply)]);
            assert!(!found[0].to_string().contains(SECRET), "{mode:?}: {command}: {}", found[0]);
        }
        let (_, found) = without(Mode::Mask, &command, &[with_secret(&reply)]);
        assert_eq!(found[0], masked_secret(&reply), "{command}");
    }
}

#[test]
fn an_error_repeats_nothing_of_the_request() {
    for (command, message, expected) in [
        (
            doc! { "find": "users", "filter": { "ssn": { "$regex": SECRET } } },
            "bad regex 123-45-6789(",
            "bad regex ***(",
        ),
        (
            doc! { "aggregate": "users", "pipeline": [{ "$project": { "n": { "$toInt": "$ssn" } } }] },
            "Failed to parse number 'it's stored' in $convert",
            "Failed to parse number '***' in $convert",
        ),
        (doc! { "find": "users", "filter": { "n": 1 } }, "unknown field 'x'", "unknown field 'x'"),
    ] {
        let (_, replies) = without(Mode::Mask, &command, &[doc! { "ok": 0.0, "errmsg": message }]);
        assert_eq!(replies[0].get_str("errmsg").unwrap(), expected);
    }
}

#[test]
fn cursors_go_on_as_they_began() {
    let fields = fields(Mode::Mask);
    let ask = |command: Document, reply: Document| {
        let command = bytes(&command);
        let asked = fields.asked(&command, Some("shop"));
        let reply = bytes(&reply);
        document(&fields.reply(&asked, &reply).unwrap_or(reply))
    };
    let pipeline = doc! { "aggregate": "users", "pipeline": [{ "$project": { "tax": "$ssn" } }] };
    ask(pipeline, doc! { "cursor": { "firstBatch": [], "id": 77_i64, "ns": "shop.users" } });
    let more = ask(
        doc! { "getMore": 77_i64, "collection": "users" },
        doc! { "cursor": { "nextBatch": [{ "tax": SECRET }], "id": 77_i64 } },
    );
    assert_eq!(more, doc! { "cursor": { "nextBatch": [{ "tax": "***" }], "id": 77_i64 } });
}

#[test]
fn what_has_nothing_to_hide_is_not_made_anew() {
    let fields = fields(Mode::Mask);
    for command in [
        doc! { "insert": "users", "documents": [{ "name": "Ann" }] },
        doc! { "find": "orders", "filter": { "ssn": SECRET } },
        doc! { "hello": 1, "password": SECRET },
    ] {
        let command = bytes(&command);
        let mut asked = fields.asked(&command, Some("shop"));
        assert_eq!(fields.request(&mut asked, &command), None);
    }
    assert!(!format!("{fields:?}").contains("key"));
}

#[test]
fn of_what_was_cut_an_expression_keeps_only_names() {
    let fields = fields(Mode::Mask);
    let command = bytes(&doc! { "find": "users", "filter": { "$expr": { "$eq": [SECRET] }, "n": "x" } });
    let cut = Command { is_cut: true, ..Command::new(&command) };
    let found = fields.request(&mut Asked::of(&fields, &cut), &command).unwrap();
    assert_eq!(document(&found), doc! { "find": "users", "filter": { "$expr": { "$eq": ["***"] }, "n": "x" } });
}

#[test]
fn what_breaks_is_shown_up_to_there() {
    let mut command = bytes(&doc! { "insert": "users", "documents": [{ "n": 1, "ssn": SECRET }] });
    let at = command.len() - SECRET.len() - 15;
    // The type of the secret's element.
    let at = (at..command.len()).find(|at| command[*at..].starts_with(b"\x02ssn")).unwrap_or(at);
    command[at] = 0xee;
    let fields = fields(Mode::Mask);
    let mut asked = fields.asked(&command, Some("shop"));
    let found = fields.request(&mut asked, &command).unwrap();
    assert_eq!(document(&found), doc! { "insert": "users", "documents": [{ "n": 1 }] });
}

/// Stages, and what comes of them.
fn made() -> Vec<(Document, Document)> {
    let project = |x: Document| doc! { "$project": { "x": x } };
    let first = doc! { "$let": { "vars": { "u": { "$arrayElemAt": ["$us", 0] } }, "in": "$$u.ssn" } };
    let upper = doc! { "$let": { "vars": { "c": "$ssn" }, "in": { "$toUpper": "$$c" } } };
    let mapped = doc! { "$map": { "input": "$cards", "as": "c", "in": { "n": "$$c.number" } } };
    let top = doc! { "$top": { "output": ["$ssn", "$n"], "sortBy": { "n": 1 } } };
    let chosen = doc! { "$cond": { "if": "$a", "then": "$card", "else": {} } };
    let set = doc! { "$setField": { "field": "x", "input": "$$ROOT", "value": "$ssn" } };
    let pairs = doc! { "$arrayToObject": [[{ "k": "x", "v": "$ssn" }]] };
    let named = doc! { "$getField": { "field": { "$literal": "ssn" }, "input": "$$ROOT" } };
    vec![
        (project(doc! { "$objectToArray": "$card" }), doc! { "x": [{ "k": "number", "v": SECRET }] }),
        (project(doc! { "$objectToArray": "$$ROOT" }), doc! { "x": [{ "k": "ssn", "v": SECRET }] }),
        (project(first), doc! { "x": SECRET }),
        (project(upper.clone()), doc! { "x": SECRET }),
        (project(mapped), doc! { "x": [{ "n": SECRET }] }),
        (project(named), doc! { "x": SECRET }),
        (project(doc! { "b": "$card" }), doc! { "x": { "b": { "number": SECRET } } }),
        (doc! { "$group": { "_id": { "c": "$card" } } }, doc! { "_id": { "c": { "number": SECRET } } }),
        (doc! { "$group": { "_id": 1, "best": top } }, doc! { "_id": 1, "best": [SECRET, 1] }),
        (doc! { "$addFields": { "a.b": "$card" } }, doc! { "a": { "b": { "number": SECRET } } }),
        (doc! { "$addFields": { "a.b": "$ssn" } }, doc! { "a": { "b": SECRET } }),
        (doc! { "$facet": { "f": [{ "$project": { "x": "$ssn" } }] } }, doc! { "f": [{ "x": SECRET }] }),
        (doc! { "$addFields": { "0": "$ssn" } }, doc! { "0": SECRET }),
        (doc! { "$replaceWith": chosen }, doc! { "number": SECRET }),
        (doc! { "$replaceWith": set }, doc! { "x": SECRET }),
        (doc! { "$replaceWith": pairs }, doc! { "x": SECRET }),
        (doc! { "$replaceWith": { "$mergeObjects": ["$$ROOT", { "x": "$ssn" }] } }, doc! { "x": SECRET }),
        (doc! { "$replaceRoot": { "newRoot": { "$mergeObjects": [{ "x": upper }] } } }, doc! { "x": SECRET }),
    ]
}

#[test]
fn what_a_pipeline_makes_of_values_goes() {
    for (stage, document) in made() {
        let command = doc! { "aggregate": "users", "pipeline": [stage] };
        let (_, found) = without(Mode::Mask, &command, &[doc! { "cursor": { "firstBatch": [document] } }]);
        assert!(!found[0].to_string().contains(SECRET), "{command}: {}", found[0]);
    }
    // Only where something of a field is chosen it keeps its shape.
    let command = doc! { "aggregate": "users", "pipeline": [{ "$project": { "x": { "$cond": { "if": "$a", "then": "$card", "else": {} } } } }] };
    let reply = |number: &str| doc! { "cursor": { "firstBatch": [{ "x": { "number": number, "kind": "visa" } }] } };
    assert_eq!(without(Mode::Mask, &command, &[reply(SECRET)]).1, [reply("***")]);
}

#[test]
fn what_a_server_tells_of_operations_is_without_values() {
    let duplicate = format!("E11000 duplicate key error collection: shop.users dup key: {{ ssn: \"{SECRET}\" }}");
    let compared = doc! { "is": { "$eq": ["$ssn", { "$const": SECRET }] } };
    let pipeline = doc! { "aggregate": "users", "pipeline": [{ "$project": compared.clone() }] };
    for (command, reply) in [
        (
            doc! { "bulkWrite": 1, "ops": [], "nsInfo": [{ "ns": "shop.users" }] },
            doc! { "cursor": { "firstBatch": [{ "ok": 0.0, "idx": 0, "code": 11000, "errmsg": duplicate }], "id": 0_i64 } },
        ),
        (
            doc! { "explain": pipeline.clone() },
            doc! { "stages": [{ "$cursor": {} }, { "$project": compared.clone() }] },
        ),
        (
            doc! { "explain": { "find": "users", "projection": compared.clone() } },
            doc! { "queryPlanner": { "winningPlan": { "transformBy": compared } } },
        ),
        (doc! { "currentOp": 1 }, doc! { "inprog": [{ "command": pipeline }] }),
        (doc! { "getLog": "global" }, doc! { "log": [format!("find users: ssn: {SECRET}")] }),
    ] {
        let (_, found) = without(Mode::Mask, &command, &[reply]);
        assert!(!found[0].to_string().contains(SECRET), "{command}: {}", found[0]);
    }
}

#[test]
fn what_is_compared_in_other_ways_goes() {
    let code = format!("function(it) {{ return it.ssn == '{SECRET}' }}");
    let same = |name: &str| doc! { "$match": { "$expr": { "$eq": ["$ssn", name] } } };
    let within = doc! { "$let": { "vars": { "s": SECRET }, "in": { "$eq": ["$ssn", "$$s"] } } };
    let named = doc! { "$getField": { "field": { "$literal": "ssn" }, "input": "$$ROOT" } };
    let stages = vec![
        doc! { "$search": { "text": { "query": SECRET, "path": "ssn" } } },
        doc! { "$search": { "text": { "query": SECRET, "path": ["ssn", "x"] } } },
        doc! { "$project": { "x": within } },
        doc! { "$lookup": { "from": "o", "let": { "s": SECRET }, "pipeline": [same("$$s")], "as": "z" } },
        doc! { "$match": { "$expr": { "$function": { "body": &code, "args": ["$$ROOT"], "lang": "js" } } } },
        doc! { "$match": { "$expr": { "$eq": [named, SECRET] } } },
    ];
    let set = doc! { "q": {}, "u": [{ "$set": { "ssn": "$$new" } }], "c": { "new": SECRET } };
    let commands = stages.into_iter().map(|stage| doc! { "aggregate": "users", "pipeline": [stage] }).chain([
        doc! { "mapReduce": "users", "map": code, "reduce": "x" },
        doc! { "update": "users", "updates": [set] },
        doc! { "update": "users", "updates": [{ "q": {}, "u": [{ "$set": { "ssn": "$$new" } }] }], "let": { "new": SECRET } },
    ]);
    for command in commands {
        let (found, _) = without(Mode::Mask, &command, &[]);
        assert!(!found.to_string().contains(SECRET), "{found}");
    }
}

#[test]
fn what_a_cut_command_asked_for_may_have_any_name() {
    let fields = fields(Mode::Mask);
    for command in [doc! { "aggregate": "users", "pipeline": [] }, doc! { "aggregate": "orders", "pipeline": [] }] {
        let command = bytes(&command);
        let asked = Asked::of(&fields, &Command { is_cut: true, ..Command::new(&command) });
        let reply = bytes(&doc! { "cursor": { "firstBatch": [{ "tax": SECRET }], "id": 0_i64 } });
        let found = document(&fields.reply(&asked, &reply).unwrap());
        assert_eq!(found, doc! { "cursor": { "firstBatch": [{ "tax": "***" }], "id": 0_i64 } });
    }
}

#[test]
fn a_cursor_that_goes_on_is_remembered() {
    let fields = fields(Mode::Mask);
    let ask = |command: Document, id: i64| {
        let command = bytes(&command);
        let asked = fields.asked(&command, Some("shop"));
        let reply = bytes(&doc! { "cursor": { "nextBatch": [{ "tax": SECRET }], "id": id } });
        document(&fields.reply(&asked, &reply).unwrap_or(reply)).to_string().contains(SECRET)
    };
    let pipeline = || doc! { "aggregate": "users", "pipeline": [{ "$project": { "tax": "$ssn" } }] };
    assert!(!ask(pipeline(), 1));
    for id in 2..CURSORS_MAX as i64 + 100 {
        assert!(!ask(pipeline(), id));
        if id % 1000 == 0 {
            assert!(!ask(doc! { "getMore": 1_i64, "collection": "users" }, 1));
        }
    }
    let remembered = || {
        let cursors = fields.cursors.lock().unwrap();
        assert_eq!(cursors.asked.len(), cursors.ids.len());
        cursors.asked.len()
    };
    assert_eq!(remembered(), CURSORS_MAX);
    // Until it has come to its end, failed or been killed.
    let more = |id: i64| bytes(&doc! { "getMore": id, "collection": "users" });
    for reply in [doc! { "cursor": { "nextBatch": [], "id": 0_i64 } }, doc! { "ok": 0.0, "code": 43 }] {
        let before = remembered();
        assert!(!ask(pipeline(), 2) && fields.reply(&fields.asked(&more(2), Some("shop")), &bytes(&reply)).is_none());
        assert_eq!(remembered(), before.min(CURSORS_MAX - 1));
    }
    assert!(!ask(pipeline(), 2) && !ask(pipeline(), 3));
    fields.asked(&bytes(&doc! { "killCursors": "users", "cursors": [2_i64, 3_i64] }), Some("shop"));
    assert!(remembered() <= CURSORS_MAX - 2);
}

#[test]
fn of_a_cursor_whose_beginning_was_not_seen_everything_goes() {
    let got = |opened: Option<Document>, collection: &str, document: Document| {
        let fields = fields(Mode::Mask);
        let ask = |command: Document, reply: Document| {
            let asked = fields.asked(&bytes(&command), Some("shop"));
            let reply = bytes(&reply);
            self::document(&fields.reply(&asked, &reply).unwrap_or(reply))
        };
        if let Some(command) = opened {
            ask(command, doc! { "cursor": { "firstBatch": [], "id": 5_i64 } });
        }
        let more = doc! { "getMore": 5_i64, "collection": collection };
        let reply = ask(more, doc! { "cursor": { "nextBatch": [document], "id": 5_i64 }, "ok": 1.0 });
        reply.get_document("cursor").unwrap().get_array("nextBatch").unwrap()[0].as_document().unwrap().clone()
    };
    let row = || doc! { "tax": SECRET, "user": { "ssn": SECRET }, "n": 7 };
    assert_eq!(got(None, "users", row()), doc! { "tax": "***", "user": { "ssn": "***" }, "n": 0 });
    let find = doc! { "find": "users" };
    assert_eq!(got(Some(find), "users", row()), doc! { "tax": SECRET, "user": { "ssn": "***" }, "n": 7 });
    // What has none of the fields may have joined them.
    let paths = vec!["users.ssn".parse().unwrap()];
    let fields = Fields::new(paths, Mode::Mask, b"key").unwrap();
    let asked = fields.asked(&bytes(&doc! { "getMore": 5_i64, "collection": "orders" }), Some("shop"));
    let reply = bytes(&doc! { "cursor": { "nextBatch": [{ "user": { "ssn": SECRET }, "n": 7 }], "id": 0_i64 } });
    let found = document(&fields.reply(&asked, &reply).unwrap());
    assert_eq!(found, doc! { "cursor": { "nextBatch": [{ "user": { "ssn": "***" }, "n": 7 }], "id": 0_i64 } });
}
