//! A frozen fixture of version 1, which is read for ever: as it is, cut off and damaged. What is wrong is told with its
//! place, and what comes before it is as it was.

#![expect(clippy::unwrap_used, reason = "a case that is not as it should be fails its test")]

use std::io;

use mongotap::capture::convert::record;
use mongotap::capture::exchange::{Exchange, Place};
use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::fixture::{FileNames, Fixture, FixtureError, collect};
use proptest::prelude::*;

const FROZEN: &str = include_str!("../fixtures/capture/v1-fixture.jsonl");

/// What a program can be told of an exchange.
fn content(exchange: &Exchange) -> (&[u8], Vec<&[u8]>, bool, Option<&str>) {
    let replies = exchange.replies.iter().map(|reply| reply.body.as_slice()).collect();
    (&exchange.request, replies, exchange.wants_reply, exchange.app_name.as_deref())
}

fn contents(fixture: &Fixture) -> Vec<String> {
    fixture.exchanges.iter().map(|it| format!("{:?}", content(it))).collect()
}

#[test]
fn a_fixture_of_version_1_is_read_and_written_as_it_was() {
    let fixture = Fixture::parse(FROZEN).unwrap();
    assert_eq!((fixture.header.server.as_str(), fixture.exchanges.len()), ("6.0", 33));
    // It is written in other words, which say the same.
    let text = fixture.to_text();
    let again = Fixture::parse(&text).unwrap();
    assert_eq!(again.to_text(), text);
    // Identities and cursors have other values, of the same length each.
    let shape = |exchange: &Exchange| {
        let replies = exchange.replies.iter().map(|reply| reply.body.len()).collect::<Vec<_>>();
        (exchange.name().to_owned(), exchange.request.len(), replies, exchange.wants_reply, exchange.app_name.clone())
    };
    assert_eq!(
        again.exchanges.iter().map(shape).collect::<Vec<_>>(),
        fixture.exchanges.iter().map(shape).collect::<Vec<_>>()
    );
    assert_eq!(again.header, fixture.header);
    let names: Vec<_> = fixture.exchanges.iter().map(Exchange::name).collect();
    for name in ["insert", "getMore", "update", "delete", "distinct", "aggregate", "commitTransaction"] {
        assert!(names.contains(&name), "{name}");
    }
    let unacknowledged: Vec<_> = fixture.exchanges.iter().filter(|it| !it.wants_reply).map(Exchange::name).collect();
    assert_eq!(unacknowledged, ["insert"]);
    assert_eq!(fixture.exchanges.iter().map(|it| it.replies.len()).max(), Some(3));
}

#[test]
fn a_capture_of_it_gives_it_again() {
    // What dates are called is not in a capture.
    let fixture = Fixture { names: FileNames::default(), ..Fixture::parse(FROZEN).unwrap() };
    let mut capture = Vec::new();
    let exchanges = fixture.exchanges.iter().cloned().map(Ok::<_, io::Error>);
    record(&fixture.header, exchanges, &mut capture).unwrap();
    let again = collect(Exchanges::new([capture.as_slice()]), "mongotap convert").unwrap();
    assert_eq!((again.fixture.to_text(), again.unread), (fixture.to_text(), 0));
    let written = Fixture::parse(&fixture.to_text()).unwrap();
    let read = Fixture::parse(&again.fixture.to_text()).unwrap();
    assert_eq!(contents(&read), contents(&written));
}

/// Holds what was read of a text that is changed in that line, from 1, against what there was.
fn hold(read: Result<Fixture, FixtureError>, line: usize, column: usize) {
    let whole = Fixture::parse(FROZEN).unwrap();
    match read {
        Ok(read) => {
            let begins = |exchange: &Exchange| matches!(exchange.place, Place::Line(begin) if begin <= line as u64);
            let before = whole.exchanges.iter().skip(1).take_while(|next| begins(next)).count();
            let (read, whole) = (&read.exchanges[..before], &whole.exchanges[..before]);
            assert!(read == whole, "changed in line {line}, column {column}");
        }
        Err(error) => {
            let lines = FROZEN.lines().count();
            assert!((line..=lines).contains(&error.line), "changed in line {line}, column {column}: {error}");
            assert!(error.column >= 1 && !error.message.is_empty());
        }
    }
}

/// The line and the column, from 1, of a byte.
fn place(text: &[u8], at: usize) -> (usize, usize) {
    let before = &text[..at];
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |it| it + 1);
    (before.iter().filter(|byte| **byte == b'\n').count() + 1, at - begin + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_cut_off_is_told(at: prop::sample::Index) {
        let at = at.index(FROZEN.len());
        let (line, column) = place(FROZEN.as_bytes(), at);
        let read = Fixture::parse_bytes(&FROZEN.as_bytes()[..at]);
        // Where an exchange ends a fixture may end: behind a reply, the header, or a write that wants no reply.
        let ends_line = column == 1 && line > 1 || FROZEN.as_bytes()[at] == b'\n';
        let last = FROZEN[..at].lines().last().unwrap_or_default();
        let ends_exchange = !last.starts_with("{\"request\"") || last.starts_with("{\"request\":17,");
        prop_assert_eq!(read.is_ok(), ends_line && ends_exchange, "line {}, column {}", line, column);
        match read {
            Err(error) if ends_line => prop_assert_eq!(error.line, FROZEN[..at].lines().count()),
            Err(error) => prop_assert_eq!(error.line, line),
            Ok(_) => hold(read, line, column),
        }
    }

    #[test]
    fn what_is_changed_is_told_or_is_another_fixture(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = FROZEN.as_bytes().to_vec();
        let mut first = bytes.len() - 1;
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            first = first.min(at);
        }
        let (line, column) = place(FROZEN.as_bytes(), first);
        hold(Fixture::parse_bytes(&bytes), line, column);
    }

    #[test]
    fn lines_that_change_places_are_told(one in 1_usize..101, other in 1_usize..101) {
        let mut lines: Vec<_> = FROZEN.lines().collect();
        prop_assume!(lines[one] != lines[other]);
        lines.swap(one, other);
        let read = Fixture::parse(&lines.join("\n"));
        // Within an exchange another order may be right as well.
        let exchange = |line: &str| line.split([':', ',']).nth(1).map(str::to_owned);
        if exchange(lines[one]) != exchange(lines[other]) {
            let error = read.unwrap_err();
            prop_assert!(error.line > one.min(other), "{} and {}: {}", one + 1, other + 1, error);
        }
    }

    #[test]
    fn whatever_the_text_nothing_panics(text in "\\PC{0,80}", value in "(\\$(born|given|now|text|session|document)|[a-z0-9\"{}:,+ -]){0,40}") {
        let header = FROZEN.lines().next().unwrap();
        _ = Fixture::parse(&text);
        _ = Fixture::parse(&format!("{header}\n{text}"));
        _ = Fixture::parse(&format!("{header}\n{{\"request\":1,\"body\":{{\"find\":{value}}}}}"));
    }
}
