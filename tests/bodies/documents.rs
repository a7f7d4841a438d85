//! Documents that may be broken anywhere: every writer gives what can be read, and no more than it may.

use mongotap::bson::compare::{Options, differences};
use mongotap::bson::cut::{Counts, RESERVE, cut};
use mongotap::bson::json::{Mode, write_document};
use mongotap::bson::{Elements, count, find, lossless, walk};
use mongotap::capture::convert::mask;
use mongotap::redact::{Fields, fields as redact};

/// One document.
pub(super) fn documents(bytes: &[u8]) {
    for mode in [Mode::Relaxed, Mode::Canonical, Mode::Lossless] {
        let mut text = Vec::new();
        write_document(bytes, mode, &mut text);
        check_json(&text);
    }
    let mut text = Vec::new();
    lossless::write(bytes, &mut text);
    let read = serde_json::from_slice::<lossless::Lossless>(&text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text)));
    assert!(read.0 == bytes || walk::validate(bytes).is_err(), "{}", String::from_utf8_lossy(&text));
    let mut read = Elements::readable(bytes).map(|element| find(bytes, element.name).is_some());
    assert!(read.all(|is_found| is_found));
    let _ = (count(bytes), Counts::of(bytes));
    for limit in [1, 40, 200] {
        let Some(cut) = cut(bytes, limit) else { continue };
        assert!(cut.bytes.len() <= limit + RESERVE, "{} bytes", cut.bytes.len());
        assert!(walk::validate(&cut.bytes).is_ok() || walk::validate(bytes).is_err(), "{:?} of {bytes:?}", cut.bytes);
    }
    assert!(differences(bytes, bytes, &Options::default()).is_empty());
    for mode in redact::Mode::ALL {
        let fields = Fields::new(vec!["*.a".parse().expect("a path"), "*.*.b".parse().expect("a path")], mode, b"key")
            .expect("there are paths");
        let (mut request, mut reply) = (bytes.to_vec(), bytes.to_vec());
        fields.exchange(&mut request, [&mut reply]);
        for without in [request, reply] {
            // A digest is longer than what it stands for, but no more than so much.
            assert!(without.len() <= bytes.len().max(5) * 48, "{} bytes of {}", without.len(), bytes.len());
            assert!(walk::validate(&without).is_ok() || walk::validate(bytes).is_err(), "{without:?} of {bytes:?}");
        }
    }
    for masked in [mask::request(bytes, 0), mask::reply(bytes, 0), mask::document(bytes, 0)] {
        assert!(masked.len() <= bytes.len().max(5) * 8 + 64, "{} bytes of {}", masked.len(), bytes.len());
    }
}

fn check_json(text: &[u8]) {
    assert!(!text.contains(&b'\n'), "a line is one line");
    serde_json::from_slice::<serde_json::Map<_, _>>(text)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
}
