//! What a cut keeps, and that it is the same for every way the bytes can be divided.

use ::bson::raw::{CString, cstr};
use ::bson::{Document, RawArrayBuf, RawDocumentBuf, rawdoc};
use proptest::prelude::*;
use proptest::sample::Index;

use super::cutter::MESSAGE_MAX;
use super::*;
use crate::bson::BsonError;
use crate::bson::testing::every_kind;
use crate::bson::walk::{DEPTH_MAX, validate};

/// The cut of a document that comes in pieces.
fn cut_in_pieces(mut cutter: Cutter, document: &[u8], mut pieces: Vec<usize>) -> Cut {
    pieces.sort_unstable();
    let mut start = 0;
    for end in pieces.into_iter().chain([document.len()]) {
        assert_eq!(cutter.push(&document[start..end]), Ok(end - start));
        start = end;
    }
    cutter.finish().unwrap()
}

fn cut_of(document: &RawDocumentBuf, limit: usize) -> (RawDocumentBuf, Cut) {
    let cut = cut(document.as_bytes(), limit).unwrap();
    assert_eq!(validate(&cut.bytes), Ok(()));
    assert!(cut.bytes.len() <= limit + RESERVE, "{}", cut.bytes.len());
    let bytes = (document.as_bytes().len() - cut.bytes.len()) as u64;
    assert_eq!(cut.truncated.unwrap().bytes, bytes);
    (RawDocumentBuf::from_bytes(cut.bytes.clone()).unwrap(), cut)
}

fn name(text: String) -> CString {
    text.try_into().unwrap()
}

fn batch(documents: i32) -> RawArrayBuf {
    let mut batch = RawArrayBuf::new();
    for n in 0..documents {
        batch.push(rawdoc! { "_id": n, "text": "some text that takes its place" });
    }
    batch
}

#[test]
fn what_fits_is_not_cut() {
    let document = rawdoc! { "a": "text" };
    assert_eq!(cut(document.as_bytes(), document.as_bytes().len()), None);
    let whole = cut_in_pieces(Cutter::new(100), document.as_bytes(), vec![3, 9]);
    assert_eq!((whole.bytes.as_slice(), whole.truncated), (document.as_bytes(), None));
    assert_eq!(whole.budget_left, 100 - document.as_bytes().len());
}

#[test]
fn a_long_batch_keeps_its_cursor() {
    let reply = rawdoc! {
        "cursor": { "firstBatch": batch(10_000), "id": 77_i64, "ns": "app.things" },
        "ok": 1.0,
        "$clusterTime": { "clusterTime": ::bson::Timestamp { time: 1, increment: 2 }, "signature": { "keyId": 5_i64 } },
        "errorLabels": ["A", "B"],
    };
    let (kept, cut) = cut_of(&reply, 1000);
    let kept = Document::try_from(kept.as_ref()).unwrap();
    let cursor = kept.get_document("cursor").unwrap();
    assert_eq!((cursor.get_i64("id").unwrap(), cursor.get_str("ns").unwrap()), (77, "app.things"));
    assert_eq!(kept.get_f64("ok").unwrap(), 1.0);
    assert_eq!(kept.get_document("$clusterTime").unwrap().len(), 2);
    assert_eq!(kept.get_array("errorLabels").unwrap().len(), 2);
    let shown = cursor.get_array("firstBatch").unwrap().len() as u64;
    assert!(shown > 10, "{shown}");
    assert_eq!(cut.counts, Counts { batch: Some(10_000), write_errors: None });
    // The last one that is shown may be without its text, which then counts too.
    let elements = cut.truncated.unwrap().elements;
    assert!(elements == 10_000 - shown || elements == 10_000 - shown + 1, "{elements} {shown}");
}

#[test]
fn errors_stay() {
    let message = format!("{}{}", "x".repeat(MESSAGE_MAX - 1), "\u{fc}".repeat(50_000));
    let reply = rawdoc! {
        "n": 1,
        "writeErrors": batch(500),
        "writeConcernError": { "errmsg": message.as_str(), "code": 91, "more": "y".repeat(600) },
        "errmsg": message.as_str(),
        "code": 11000,
        "codeName": "DuplicateKey",
        "ok": 0.0,
    };
    let (kept, cut) = cut_of(&reply, 300);
    let kept = Document::try_from(kept.as_ref()).unwrap();
    assert_eq!(kept.get_str("errmsg").unwrap(), "x".repeat(MESSAGE_MAX - 1));
    assert_eq!((kept.get_i32("code").unwrap(), kept.get_str("codeName").unwrap()), (11000, "DuplicateKey"));
    let concern = kept.get_document("writeConcernError").unwrap();
    assert_eq!(concern.keys().collect::<Vec<_>>(), ["errmsg", "code"]);
    assert_eq!(cut.counts, Counts { batch: None, write_errors: Some(500) });
}

#[test]
fn top_level_elements_have_a_reserve_only() {
    let mut many = rawdoc! { "text": "x".repeat(5000) };
    for n in 0..100_000 {
        many.append(name(format!("field{n}")), n);
    }
    many.append(name("n".repeat(2000)), 1);
    let (kept, cut) = cut_of(&many, 200);
    let fields = kept.iter().count() as u64;
    assert!(kept.as_bytes().len() > RESERVE && fields > 100);
    assert_eq!(cut.truncated.unwrap().elements, 100_002 - fields);
}

#[test]
fn a_document_goes_on_after_what_is_left_out() {
    let document = rawdoc! { "a": { "long": "x".repeat(900), "b": [1, "y".repeat(900), 2], "c": { "d": "z".repeat(900) }, "e": true } };
    let (kept, cut) = cut_of(&document, 100);
    assert_eq!(kept, rawdoc! { "a": { "b": [1], "e": true } });
    assert_eq!(cut.truncated.unwrap().elements, 4);
}

#[test]
fn an_array_ends_with_its_first_element_that_was_cut() {
    let document = rawdoc! { "a": [{ "k": 1, "long": "x".repeat(900) }, 5, [6]] };
    let (kept, cut) = cut_of(&document, 100);
    assert_eq!(kept, rawdoc! { "a": [{ "k": 1 }] });
    assert_eq!(cut.truncated.unwrap().elements, 3);
}

#[test]
fn a_long_name_is_left_out_with_its_value() {
    let mut document = rawdoc! { "a": "x".repeat(500) };
    document.append(name("n".repeat(1100)), 1);
    document.append(cstr!("b"), 2);
    let (kept, cut) = cut_of(&document, 1300);
    assert_eq!(kept.iter().map(|element| element.unwrap().0.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(cut.truncated.unwrap().elements, 1);
}

#[test]
fn what_is_kept_is_not_nested_too_deep() {
    let deep = (0..2 * DEPTH_MAX).fold(rawdoc! { "x": "x".repeat(9000) }, |inner, _| rawdoc! { "a": inner, "b": 1 });
    let (kept, cut) = cut_of(&deep, 9000);
    assert!(kept.as_bytes().len() > 15 * (DEPTH_MAX - 1));
    assert_eq!(cut.truncated.unwrap().elements, 1);
}

#[test]
fn inner_documents_share_one_limit() {
    let documents = [rawdoc! { "a": 1 }, rawdoc! { "b": 2, "text": "x".repeat(100) }, rawdoc! { "c": 3 }];
    let mut budget = 40;
    let mut kept = Vec::new();
    for document in &documents {
        let cut = cut_in_pieces(Cutter::inner(budget), document.as_bytes(), vec![1, 2, 3]);
        budget = cut.budget_left;
        kept.push((cut.bytes, cut.truncated.is_some()));
    }
    let expected = [(rawdoc! { "a": 1 }, false), (rawdoc! { "b": 2 }, true), (rawdoc! { "c": 3 }, false)];
    assert_eq!(kept, expected.map(|(document, cut)| (document.into_bytes(), cut)));
    assert_eq!(budget, 40 - 3 * 12);
}

#[test]
fn what_breaks_is_closed_and_named() {
    let mut document = rawdoc! { "a": [1, "x".repeat(500)], "b": 1, "c": 2 }.into_bytes();
    let at = document.len() - 8;
    document[at] = 0x77;
    let kept = cut(&document, 100).unwrap();
    assert_eq!(validate(&kept.bytes), Ok(()));
    let said = format!("unknown type 0x77 at offset {at}");
    assert_eq!(kept.bytes, rawdoc! { "a": [1], "b": 1, "$undecodable": said }.into_bytes());
    assert!(kept.truncated.is_some());

    let mut document = rawdoc! { "a": { "s": "x".repeat(400) } }.into_bytes();
    document[14] += 1;
    let cut = cut(&document, 15).unwrap();
    let said = "string at offset 14 needs 406 bytes, only 405 left";
    assert_eq!(cut.bytes, rawdoc! { "a": {}, "$undecodable": said }.into_bytes());

    assert_eq!(
        Cutter::new(9).push(&[4, 0, 0, 0, 0]),
        Err(BsonError::Length { what: "document", offset: 0, length: 4 })
    );
}

#[test]
fn a_hop_over_the_batch_is_all_it_costs() {
    let text = "x".repeat(1 << 20);
    let reply =
        rawdoc! { "cursor": { "firstBatch": [text.as_str(), text.as_str(), text.as_str()], "id": 0_i64, "ns": "a.b" } };
    let mut cutter = Cutter::new(1000);
    cutter.push(reply.as_bytes()).unwrap();
    assert!(cutter.memory() < 10_000);
    assert_eq!(cutter.finish().unwrap().counts.batch, Some(3));
}

/// A reply with a batch of everything, longer than the limits that are tried.
fn varied() -> Vec<u8> {
    let every = RawDocumentBuf::from_bytes(every_kind()).unwrap();
    let mut batch = RawArrayBuf::new();
    for n in 0..4 {
        batch.push(rawdoc! { "n": n, "every": every.clone() });
    }
    let errors = rawdoc! { "errmsg": "m\u{fc}".repeat(600), "code": 1 };
    let mut reply = rawdoc! { "cursor": { "nextBatch": batch, "id": 1_i64 }, "writeErrors": [errors.clone(), 1, 2] };
    reply.append(cstr!("writeConcernError"), errors);
    reply.append(name("n".repeat(1100)), "a name that is too long");
    reply.append(cstr!("every"), every);
    reply.append(cstr!("ok"), 1);
    reply.into_bytes()
}

proptest! {
    #[test]
    fn the_pieces_do_not_matter(
        limit in 0_usize..5000,
        inner: bool,
        pieces in prop::collection::vec(any::<Index>(), 0..30),
        edits in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
    ) {
        let mut document = varied();
        let length = document.len();
        for (index, byte) in edits {
            document[4 + index.index(length - 4)] = byte;
        }
        let cutter = || if inner { Cutter::inner(limit) } else { Cutter::new(limit) };
        let whole = cut_in_pieces(cutter(), &document, vec![]);
        let pieces = pieces.iter().map(|piece| piece.index(length)).collect();
        prop_assert_eq!(&cut_in_pieces(cutter(), &document, pieces), &whole);
        prop_assert_eq!(&cut_in_pieces(cutter(), &document, (0..length).collect()), &whole);
        prop_assert!(whole.bytes.len() <= limit + RESERVE + 200);
        if whole.truncated.is_none() {
            prop_assert_eq!(whole.bytes, document);
        }
    }

    #[test]
    fn a_cut_is_bson_and_smaller(limit in 0_usize..5000, inner: bool) {
        let document = varied();
        let cutter = if inner { Cutter::inner(limit) } else { Cutter::new(limit) };
        let cut = cut_in_pieces(cutter, &document, vec![]);
        prop_assert_eq!(validate(&cut.bytes), Ok(()));
        let truncated = cut.truncated.unwrap();
        prop_assert_eq!(truncated.bytes, (document.len() - cut.bytes.len()) as u64);
        prop_assert!(truncated.elements > 0);
        if inner {
            prop_assert!(cut.bytes.len() <= limit.max(5));
            prop_assert_eq!(cut.budget_left, limit.saturating_sub(cut.bytes.len()));
        } else {
            prop_assert_eq!(cut.counts, Counts { batch: Some(4), write_errors: Some(3) });
        }
    }

    #[test]
    fn without_a_limit_nothing_changes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let document = [&i32::try_from(bytes.len() + 4).unwrap().to_le_bytes()[..], &bytes].concat();
        prop_assume!(document.len() >= 5);
        let cut = cut_in_pieces(Cutter::new(usize::MAX), &document, vec![2, 4]);
        prop_assert_eq!((cut.bytes, cut.truncated), (document, None));
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 5..200), limit in 0_usize..50) {
        let document = [&i32::try_from(bytes.len() + 4).unwrap().to_le_bytes()[..], &bytes].concat();
        let cut = cut_in_pieces(Cutter::new(limit), &document, vec![7]);
        prop_assert!(cut.truncated.is_some() || cut.bytes == document);
    }
}
