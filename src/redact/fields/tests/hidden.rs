//! Secrets that stand where nothing names their field: compared by way of a name, told of others, said in words.

use bson::{Bson, Document, doc};
use bytes::BytesMut;

use super::{SECRET, bytes, document, fields, without};
use crate::bson::Kind;
use crate::bson::write::{begin, end, put_name};
use crate::event::{Exchange, Side};
use crate::redact::fields::expression::LOOKED_AT_MAX;
use crate::redact::fields::path::tests::HELD_AGAINST;
use crate::redact::fields::{Fields, Mode, Pending, Said, rewritten};
use crate::wire::{OpGetMore, OpQuery, OpReply, OpUpdate};

fn assert_without(command: &Document, reply: Option<Document>) {
    for mode in Mode::ALL {
        let (found, replies) = without(mode, command, reply.as_slice());
        assert!(!found.to_string().contains(SECRET), "{mode:?}: {found}");
        assert!(!replies.iter().any(|reply| reply.to_string().contains(SECRET)), "{mode:?}: {command}: {replies:?}");
    }
}

#[test]
fn what_is_compared_by_way_of_a_name_goes() {
    let same = |one: &str, other: &str| doc! { "$match": { "$expr": { "$eq": [one, other] } } };
    let mapped = doc! { "$map": { "input": [SECRET], "as": "v", "in": { "$eq": ["$$v", "$ssn"] } } };
    let filtered =
        doc! { "$filter": { "input": [SECRET, "x"], "as": "v", "cond": { "$ne": ["$$v", "$profile.ssn"] } } };
    let shifted = |name: &str, what: &str| doc! { "$setWindowFields": { "sortBy": { "n": 1 }, "output": { name: { "$shift": { "output": what, "by": 1, "default": SECRET } } } } };
    let walked = |start: &str| doc! { "$graphLookup": { "from": "users", "startWith": start, "connectFromField": "boss", "connectToField": "ssn", "as": "all" } };
    let literal = |value: &str| doc! { "k": { "$literal": value } };
    for stages in [
        vec![doc! { "$addFields": { "k": SECRET } }, same("$ssn", "$k")],
        vec![doc! { "$addFields": { "k": { "deep": SECRET } } }, same("$$ROOT.ssn", "$k.deep")],
        vec![doc! { "$set": literal(SECRET) }, doc! { "$set": { "j": "$k" } }, same("$j", "$ssn")],
        vec![doc! { "$project": { "x": { "$anyElementTrue": mapped } } }],
        vec![doc! { "$project": { "x": filtered } }],
        vec![
            doc! { "$project": { "x": { "$reduce": { "input": "$all", "initialValue": SECRET, "in": { "$cond": [{ "$gt": ["$ssn", "$$value"] }, 1, 2] } } } } },
        ],
        vec![shifted("x", "$ssn")],
        vec![shifted("a.ssn", "$n")],
        vec![shifted("profile.ssn", "$n")],
        vec![walked(SECRET)],
        vec![doc! { "$set": literal(SECRET) }, walked("$k")],
        vec![
            doc! { "$set": literal(SECRET) },
            doc! { "$lookup": { "from": "users", "localField": "k", "foreignField": "ssn", "as": "all" } },
        ],
        vec![doc! { "$match": { "$text": { "$search": SECRET } } }],
        vec![doc! { "$replaceWith": { "$arrayToObject": [[["ssn", SECRET]]] } }],
        vec![
            doc! { "$densify": { "field": "ssn", "range": { "step": 1, "unit": "day", "bounds": [SECRET, SECRET] } } },
        ],
        vec![doc! { "$fill": { "output": { "ssn": { "value": SECRET } } } }],
    ] {
        assert_without(&doc! { "aggregate": "users", "pipeline": stages }, None);
    }
    for command in [
        doc! { "find": "users", "filter": { "$text": { "$search": SECRET, "$language": "en" } } },
        doc! { "mapReduce": "users", "map": "f", "reduce": "f", "scope": { "wanted": SECRET } },
        doc! { "find": "users", "filter": { "ssn": { "$type": SECRET } } },
        doc! { "find": "users", "filter": { "ssn": { "$size": [SECRET], "$regex": "x", "$options": SECRET } } },
        doc! { "dataSize": "shop.users", "keyPattern": { "ssn": 1 }, "min": { "ssn": SECRET }, "max": { "ssn": SECRET } },
        doc! { "split": "shop.users", "middle": { "ssn": SECRET } },
        doc! { "find": "users", "filter": { "$comment": SECRET, "ssn": SECRET } },
        doc! { "update": "users", "updates": [{ "q": {}, "u": { "$set": { "ssn": { "$comment": SECRET } } } }] },
        doc! { "update": "users", "updates": [{ "q": {}, "u": { "$set": { "ssn": { "$rename": SECRET } } } }] },
        doc! { "find": "users", "filter": { "ssn": SECRET }, "comment": format!("for {SECRET}, in haste") },
        doc! { "find": "users", "comment": { "of": SECRET }, "filter": { "ssn": SECRET } },
        doc! { "update": "users", "comment": [SECRET], "updates": [{ "q": {}, "u": { "$set": { "ssn": SECRET } } }] },
    ] {
        assert_without(&command, None);
    }
    let commented = doc! { "find": "users", "filter": { "ssn": SECRET }, "comment": format!("for {SECRET}, in haste") };
    assert_eq!(without(Mode::Mask, &commented, &[]).0.get_str("comment").unwrap(), "for ***, in haste");
    // A comment that repeats nothing stays, and an argument of the command's own is no field.
    let kept = doc! { "find": "users", "ssn": "x", "comment": "in haste" };
    assert_eq!(without(Mode::Mask, &kept, &[]).0, kept);
}

#[test]
fn what_is_joined_by_a_field_is_it() {
    let joined = doc! { "$lookup": { "from": "blocked", "localField": "ssn", "foreignField": "number", "as": "z" } };
    let command = doc! { "aggregate": "users", "pipeline": [joined] };
    assert_without(&command, Some(doc! { "cursor": { "firstBatch": [{ "z": [{ "number": SECRET }] }] } }));
    let joined = doc! { "$lookup": { "from": "users", "localField": "number", "foreignField": "ssn", "as": "z" } };
    let command = doc! { "aggregate": "blocked", "pipeline": [joined] };
    assert_without(&command, Some(doc! { "cursor": { "firstBatch": [{ "number": SECRET, "z": [] }] } }));
}

#[test]
fn places_go_where_something_is_near_to_them() {
    let fields = Fields::new(vec!["users.home".parse().unwrap()], Mode::Mask, b"key").unwrap();
    let near = doc! { "near": { "type": "Point", "coordinates": [1.5, 2.5] }, "distanceField": "d" };
    let asked = |more: Document| {
        let near = near.clone().into_iter().chain(more).collect::<Document>();
        let command = bytes(&doc! { "aggregate": "users", "pipeline": [{ "$geoNear": near }] });
        let mut asked = fields.asked(&command, Some("shop"));
        document(&fields.request(&mut asked, &command).unwrap_or(command)).to_string()
    };
    assert!(!asked(doc! {}).contains("1.5") && !asked(doc! { "key": "home" }).contains("1.5"));
    assert!(asked(doc! { "key": "shop" }).contains("1.5"));
}

#[test]
fn a_schema_says_no_values() {
    let number = doc! { "bsonType": "string", "enum": [SECRET], "pattern": SECRET, "minLength": 5 };
    let number = number.into_iter().chain(doc! { "not": { "enum": [{ "type": SECRET }, { "minLength": 123456789 }] } });
    let number = number.collect::<Document>();
    let card = doc! { "bsonType": ["array"], "items": { "properties": { "number": number.clone() } } };
    let schema = doc! { "required": ["card"], "properties": {
        "card": card, "ssn": number.clone(), "name": { "enum": ["x"] }, "any": { "anyOf": [{ "properties": { "ssn": number.clone() } }] },
    }, "patternProperties": { "^s": number } };
    for command in [doc! { "create": "users" }, doc! { "collMod": "users" }] {
        let mut command = command;
        command.insert("validator", doc! { "$jsonSchema": schema.clone() });
        assert_without(&command, None);
        let found = without(Mode::Mask, &command, &[]).0.to_string();
        assert!(!found.contains("123456789"), "{found}");
        for kept in ["\"required\": [\"card\"]", "\"enum\": [\"x\"]", "\"bsonType\": \"string\"", "\"minLength\": 5"] {
            assert!(found.contains(kept), "{kept} in {found}");
        }
    }
    let collection = doc! { "name": "users", "options": { "validator": { "$jsonSchema": schema } } };
    assert_without(&doc! { "listCollections": 1 }, Some(doc! { "cursor": { "firstBatch": [collection] } }));
}

#[test]
fn what_an_upsert_made_is_told_without_its_id() {
    let fields = Fields::new(vec!["users._id".parse().unwrap()], Mode::Mask, b"key").unwrap();
    let asked = fields.asked(&bytes(&doc! { "findAndModify": "users" }), Some("shop"));
    let reply = |reply: Document| document(&fields.reply(&asked, &bytes(&reply)).unwrap());
    let outcome = |id: &str| doc! { "lastErrorObject": { "n": 1, "upserted": id }, "ok": 1.0 };
    assert_eq!(reply(outcome(SECRET)), outcome("***"));
    let outcome = |id: &str| doc! { "n": 1, "upserted": [{ "index": 0, "_id": id }], "ok": 1.0 };
    assert_eq!(reply(outcome(SECRET)), outcome("***"));
    let failed = |id: &str| doc! { "writeErrors": [{ "code": 121, "errInfo": { "failingDocumentId": { "n": id } } }] };
    assert_eq!(reply(failed(SECRET)), failed("***"));
}

#[test]
fn what_others_asked_goes_by_what_they_asked() {
    let fields =
        |paths: &[&str]| Fields::new(paths.iter().map(|it| it.parse().unwrap()).collect(), Mode::Mask, b"key").unwrap();
    // No path says every collection.
    let fields = fields(&["users.ssn", "users.card.number"]);
    let stages =
        vec![doc! { "$set": { "k": SECRET } }, doc! { "$redact": { "$cond": [{ "$eq": ["$ssn", "$k"] }, 1, 2] } }];
    let pipeline = doc! { "aggregate": "users", "pipeline": stages, "cursor": {}, "$db": "shop" };
    let failed = "PlanExecutor error during aggregation :: caused by :: unknown time unit value: 123-45-6789";
    let batch = |it: Document| doc! { "cursor": { "firstBatch": [it], "id": 0_i64 }, "ok": 1.0 };
    let profile = doc! { "find": "system.profile" };
    let current = doc! { "aggregate": 1, "pipeline": [{ "$currentOp": {} }] };
    for (command, reply) in [
        (profile.clone(), batch(doc! { "command": pipeline.clone(), "errMsg": failed })),
        (profile.clone(), batch(doc! { "originatingCommand": pipeline.clone() })),
        (
            profile.clone(),
            batch(doc! { "command": { "q": { "ssn": SECRET }, "u": { "$set": { "ssn": SECRET } }, "multi": false } }),
        ),
        (profile.clone(), batch(doc! { "command": { "ssn": SECRET } })),
        (
            profile,
            batch(
                doc! { "command": { "find": "users", "filter": { "ssn": SECRET }, "comment": SECRET, "$db": "shop" } },
            ),
        ),
        (
            current.clone(),
            batch(doc! { "command": { "$truncated": format!("{{ find: \"users\", ssn: \"{SECRET}\"") } }),
        ),
        (current, batch(doc! { "cursor": { "originatingCommand": pipeline.clone() } })),
        (doc! { "currentOp": 1 }, doc! { "inprog": [{ "command": pipeline.clone() }], "ok": 1.0 }),
        (doc! { "getLog": "global" }, doc! { "log": [format!("ssn: {SECRET}")], "ok": 1.0 }),
        (
            doc! { "find": "oplog.rs", "$db": "local" },
            batch(doc! { "op": "i", "ns": "shop.users", "o": { "ssn": SECRET } }),
        ),
        (
            doc! { "find": "system.views" },
            batch(doc! { "viewOn": "users", "pipeline": pipeline.get_array("pipeline").unwrap().clone() }),
        ),
        (
            doc! { "aggregate": "users", "pipeline": [{ "$planCacheStats": {} }] },
            batch(
                doc! { "cachedPlan": { "stages": format!("eq(s1, \"{SECRET}\")") }, "createdFromQuery": { "query": { "ssn": SECRET } } },
            ),
        ),
        (
            doc! { "find": "system.buckets.users" },
            batch(doc! { "control": { "min": { "ssn": SECRET } }, "data": { "ssn": { "0": SECRET } } }),
        ),
    ] {
        let asked = fields.asked(&bytes(&command), Some("shop"));
        let found = document(&fields.reply(&asked, &bytes(&reply)).unwrap_or_else(|| panic!("{command}: {reply}")));
        assert!(!found.to_string().contains(SECRET), "{command}: {found}");
        assert_eq!(found.get("ok"), reply.get("ok"));
    }
}

#[test]
fn an_error_says_no_stored_value() {
    let executor = "PlanExecutor error during aggregation :: caused by :: ";
    let find = |filter: Document| doc! { "find": "users", "filter": filter };
    let project = |it: Document| doc! { "aggregate": "users", "pipeline": [{ "$project": { "x": it } }] };
    for (command, cause) in [
        (
            project(doc! { "$dateTrunc": { "date": "$at", "unit": "$ssn" } }),
            format!("unknown time unit value: {SECRET}"),
        ),
        (project(doc! { "$toInt": "$ssn" }), format!("Bad digit in '1' while parsing {SECRET}")),
        (
            project(doc! { "$function": { "body": "f", "args": ["$$ROOT"], "lang": "js" } }),
            format!("uncaught exception: {SECRET}"),
        ),
        (find(doc! { "$where": "throw this.x" }), format!("{SECRET} :\n@:1:2")),
        (doc! { "mapReduce": "users", "map": "f", "reduce": "f" }, format!("Error: {SECRET}")),
        (
            doc! { "insert": "users" },
            format!("E11000 duplicate key error index: shop.users.$ssn_1 dup key: {{ : \"{SECRET}\" }}"),
        ),
    ] {
        let reply = doc! { "ok": 0.0, "errmsg": format!("{executor}{cause}"), "code": 9 };
        let (_, found) = without(Mode::Mask, &command, &[reply]);
        let said = found[0].get_str("errmsg").unwrap();
        assert!(!said.contains(SECRET) && said.starts_with(executor), "{said}");
        assert_eq!(found[0].get_i32("code").unwrap(), 9);
    }
    assert!(!format!("{:?}", fields(Mode::Mask)).contains(SECRET));
}

/// A document under that name, in one that begins so, and so on: more than a library writes or reads.
fn nested(head: &Document, name: &str, levels: usize, inner: Vec<u8>) -> Vec<u8> {
    let head = bytes(head);
    (0..levels).fold(inner, |within, _| {
        let mut out = Vec::new();
        let start = begin(&mut out);
        out.extend_from_slice(&head[4..head.len() - 1]);
        put_name(Kind::Document, name.as_bytes(), &mut out);
        out.extend_from_slice(&within);
        end(start, &mut out);
        out
    })
}

#[test]
fn commands_within_commands_are_followed_for_few_levels() {
    let secret = doc! { "a": 1, "ssn": SECRET };
    for levels in [1, 2, 3, 50, 3_000] {
        let explained =
            nested(&doc! {}, "explain", levels, bytes(&doc! { "find": "users", "filter": { "ssn": SECRET } }));
        let told = nested(&doc! { "find": "other" }, "command", levels, bytes(&secret));
        let told = nested(&doc! {}, "x", 1, told);
        for mode in Mode::ALL {
            let fields = fields(mode);
            let mut asked = fields.asked(&explained, Some("shop"));
            let request = fields.request(&mut asked, &explained).unwrap();
            let asked = fields.asked(&bytes(&doc! { "listDatabases": 1 }), Some("admin"));
            let reply = fields.reply(&asked, &told).unwrap();
            for found in [request, reply] {
                assert!(memchr::memmem::find(&found, SECRET.as_bytes()).is_none(), "{mode:?}, {levels}");
            }
        }
    }
    let told = |ssn: &str| {
        let inner = doc! { "a": 1, "ssn": ssn };
        doc! { "x": document(&nested(&doc! { "n": 1 }, "command", 2, bytes(&inner))), "ok": 1.0 }
    };
    let (_, found) = without(Mode::Mask, &doc! { "listDatabases": 1 }, &[told(SECRET)]);
    assert_eq!(found, [told("***")]);
}

#[test]
fn comparisons_are_looked_at_in_bounded_steps() {
    for (comparisons, names) in [(200, 32), (3_000, 2), (1, 3_000)] {
        let name = |at: usize, of: usize| if of == 0 { "$ssn".to_owned() } else { format!("$f{at}_{of}") };
        let compared = |at: usize| doc! { "$eq": (0..names).map(|of| name(at, of)).collect::<Vec<_>>() };
        let all: Vec<Document> = (0..comparisons).map(compared).collect();
        let last = &name(comparisons - 1, names - 1)[1..];
        let stages = vec![
            doc! { "$addFields": { last: SECRET, "x.y": { "$literal": SECRET } } },
            doc! { "$project": { "z": { "$concat": [SECRET, "x"] }, "a": SECRET } },
            doc! { "$match": { "$expr": { "$and": all } } },
        ];
        let before = HELD_AGAINST.get();
        assert_without(&doc! { "aggregate": "users", "pipeline": stages }, None);
        // Each of the modes looks ahead, and goes through it.
        let steps = HELD_AGAINST.get() - before;
        assert!(steps <= Mode::ALL.len() * 2 * LOOKED_AT_MAX, "{comparisons} of {names}: {steps}");
    }
}

#[test]
fn all_that_is_compared_at_once_is_the_same() {
    let names: Vec<String> = (0..40).map(|of| format!("$k{of}")).collect();
    for name in &names {
        let within = doc! { "$match": { "$expr": { "$in": ["$ssn", &names] } } };
        let asked = |value: &str| doc! { "aggregate": "users", "pipeline": [{ "$addFields": { &name[1..]: value, "n": "kept" } }, within.clone()] };
        assert_eq!(without(Mode::Mask, &asked(SECRET), &[]).0, asked("***"));
    }
}

#[test]
fn a_comment_that_comes_again_repeats_nothing() {
    let fields = fields(Mode::Mask);
    let said = |command: &Document, id: i64| {
        let command = bytes(command);
        let mut asked = fields.asked(&command, Some("shop"));
        let found = document(&fields.request(&mut asked, &command).unwrap_or_else(|| command.clone()));
        fields.reply(&asked, &bytes(&doc! { "cursor": { "nextBatch": [], "id": id }, "ok": 1.0 }));
        found
    };
    let find = |ssn: &str, of: &str| doc! { "find": "users", "filter": { "ssn": ssn }, "comment": format!("for {of}") };
    assert_eq!(said(&find(SECRET, SECRET), 7), find("***", "***"));
    for comment in [doc! { "comment": format!("for {SECRET}") }, doc! { "comment": { "of": [SECRET] } }] {
        let more = doc! { "getMore": 7_i64, "collection": "users" }.into_iter().chain(comment).collect();
        let found = said(&more, 7);
        assert!(!found.to_string().contains(SECRET) && found.to_string().contains("***"), "{found}");
    }
}

#[test]
fn a_comment_goes_with_more_values_than_are_kept() {
    let wanted: Vec<String> = (100..180).map(|it| format!("{it}-45-6789")).collect();
    let find = doc! { "find": "users", "filter": { "ssn": { "$in": &wanted } }, "comment": "for 179-45-6789" };
    for mode in Mode::ALL {
        let failed = doc! { "ok": 0.0, "errmsg": "cannot find '179-45-6789'" };
        let (found, replies) = without(mode, &find, &[failed]);
        assert!(!found.to_string().contains("179"), "{found}");
        assert_eq!(replies[0].get_str("errmsg").unwrap(), "cannot find '***'");
    }
    let few =
        doc! { "find": "users", "filter": { "ssn": { "$in": &wanted[..40] } }, "comment": "for 101-45-6789, now" };
    assert_eq!(without(Mode::Mask, &few, &[]).0.get_str("comment").unwrap(), "for ***, now");
}

#[test]
fn comments_and_errors_of_legacy_messages_repeat_nothing() {
    let (comment, secret) = (format!("for {SECRET}"), doc! { "ssn": SECRET });
    let update = |selector: Document, update: Document| {
        let (selector, update) = (bytes(&selector), bytes(&update));
        let mut out = BytesMut::new();
        let update = OpUpdate { full_collection_name: b"shop.users", flags: 0, selector: &selector, update: &update };
        update.encode(1, &mut out).unwrap();
        out
    };
    let query = |query: Document| {
        let mut out = BytesMut::new();
        let (query, full_collection_name) = (bytes(&query), b"shop.users".as_slice());
        let query = OpQuery {
            flags: 0,
            full_collection_name,
            number_to_skip: 0,
            number_to_return: 0,
            query: &query,
            return_fields_selector: None,
        };
        query.encode(1, &mut out).unwrap();
        out
    };
    let failed = bytes(&doc! { "$err": format!("bad regex {SECRET}(") });
    let failed = OpReply { flags: 2, cursor_id: 0, starting_from: 0, number_returned: 1, documents: &failed };
    let mut reply = BytesMut::new();
    failed.encode(2, 1, &mut reply).unwrap();
    for mode in Mode::ALL {
        for (request, is_answered) in [
            (update(doc! { "n": 1, "$comment": &comment }, doc! { "$set": secret.clone() }), false),
            (query(doc! { "$comment": &comment, "ssn": SECRET }), true),
            (query(doc! { "$query": secret.clone(), "$comment": &comment }), true),
        ] {
            let (fields, mut pending) = (fields(mode), Pending::default());
            let mut said = |side: Side, bytes: &[u8]| {
                let said = Said { side, exchange: Some(Exchange(1)), continued: None };
                let found = rewritten(&fields, &mut pending, said, bytes).unwrap().unwrap();
                assert!(memchr::memmem::find(&found, SECRET.as_bytes()).is_none(), "{mode:?}: {found:?}");
            };
            said(Side::Client, &request);
            if is_answered {
                said(Side::Server, &reply);
            }
        }
    }
}

#[test]
fn of_a_legacy_cursor_everything_goes_or_what_was_asked() {
    let row = || doc! { "tax": SECRET, "user": { "ssn": SECRET }, "n": 7 };
    let query = doc! { "aggregate": "users", "pipeline": [{ "$project": { "tax": "$ssn", "n": 1 } }], "cursor": {} };
    let opened = doc! { "cursor": { "firstBatch": [], "id": 5_i64, "ns": "shop.users" }, "ok": 1.0 };
    let got = |opens: Option<(&Document, &[u8], i64, &Document)>, collection: &str| {
        let (fields, mut pending) = (fields(Mode::Mask), Pending::default());
        let mut said = |side: Side, bytes: &[u8]| {
            let said = Said { side, exchange: Some(Exchange(1)), continued: None };
            rewritten(&fields, &mut pending, said, bytes).unwrap().unwrap_or_else(|| bytes.to_vec())
        };
        let reply = |cursor_id: i64, document: &Document| {
            let (documents, mut out) = (bytes(document), BytesMut::new());
            let reply = OpReply { flags: 0, cursor_id, starting_from: 0, number_returned: 1, documents: &documents };
            reply.encode(2, 1, &mut out).unwrap();
            out
        };
        if let Some((query, full_collection_name, cursor_id, document)) = opens {
            let (query, mut out) = (bytes(query), BytesMut::new());
            let (flags, number_to_skip, number_to_return) = (0, 0, 0);
            let return_fields_selector = None;
            OpQuery {
                flags,
                full_collection_name,
                number_to_skip,
                number_to_return,
                query: &query,
                return_fields_selector,
            }
            .encode(1, &mut out)
            .unwrap();
            said(Side::Client, &out);
            said(Side::Server, &reply(cursor_id, document));
        }
        let mut out = BytesMut::new();
        let name = format!("shop.{collection}");
        let more = OpGetMore { full_collection_name: name.as_bytes(), number_to_return: 0, cursor_id: 5 };
        more.encode(1, &mut out).unwrap();
        said(Side::Client, &out);
        let found = said(Side::Server, &reply(5, &row()));
        document(&found[36..])
    };
    let everything = doc! { "tax": "***", "user": { "ssn": "***" }, "n": 0 };
    assert_eq!(got(None, "users"), everything);
    let only_named = doc! { "tax": SECRET, "user": { "ssn": "***" }, "n": 7 };
    assert_eq!(got(Some((&doc! { "n": 7 }, b"shop.users", 5, &row())), "users"), only_named);
    let renamed = doc! { "tax": "***", "user": { "ssn": "***" }, "n": 7 };
    assert_eq!(got(Some((&query, b"shop.$cmd", 0, &opened)), "users"), renamed);
}

#[test]
fn a_comment_of_a_cursor_whose_beginning_was_not_seen_goes() {
    for collection in ["users", "orders"] {
        for comment in [Bson::from(format!("for {SECRET}")), Bson::from(doc! { "of": [SECRET] })] {
            let more = bytes(&doc! { "getMore": 7_i64, "collection": collection, "comment": comment });
            for mode in Mode::ALL {
                let fields = Fields::new(vec!["users.ssn".parse().unwrap()], mode, b"key").unwrap();
                let mut asked = fields.asked(&more, Some("shop"));
                let found = document(&fields.request(&mut asked, &more).unwrap());
                assert!(!found.to_string().contains(SECRET), "{mode:?} {found}");
            }
        }
    }
}
