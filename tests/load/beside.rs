//! A message that takes long to understand, on the one thread that serves its neighbours too.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bson::doc;
use bytes::BytesMut;
use mongotap::wire::{Compressor, compress};

use crate::pair::{Between, Pair, exchange, pass};
use crate::server::{TEXT_MAX, text};
use crate::support::client::op_msg;
use crate::support::now;

/// Texts of four megabytes in the long message.
const TEXTS: usize = 10;

/// For a log with documents as long as they are, and room for them.
const WHOLE: &[&str] = &["--log-max-document-bytes", "0", "--log-queue-bytes", "200000000"];

/// What neighbours must get done meanwhile at least. If they waited for it, that would be one, or two.
const MEANWHILE: usize = 10;

pub(crate) fn holds_no_neighbour_up() -> String {
    let plain = {
        let texts = vec![doc! { "text": text(TEXT_MAX - 100) }; TEXTS];
        op_msg(7, 0, &doc! { "insert": "items", "documents": texts, "$db": "load" })
    };
    let packed = |compressor| {
        let mut packed = BytesMut::new();
        compress(&plain, compressor, &mut packed).expect("it can be compressed");
        packed.to_vec()
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let capture = directory.path().join("all.mtap");
    let capture = capture.to_str().expect("its name is text");
    let cases = [
        ("inflated", packed(Compressor::Zlib), &[][..]),
        ("inflated and shown whole", packed(Compressor::Zstd), WHOLE),
        ("shown whole", plain.clone(), WHOLE),
        ("captured", packed(Compressor::Snappy), &["--capture", capture]),
    ];
    cases.map(|(what, message, arguments)| while_understood(what, &message, arguments)).join("; ")
}

fn while_understood(what: &str, message: &[u8], arguments: &[&str]) -> String {
    let between = Between::start(&[&["--threads", "1"], arguments].concat());
    let (request, reply) = exchange(&doc! { "ping": 1, "$db": "admin" });
    let (Pair { client: mut near, server: mut far }, Pair { mut client, mut server }) =
        (between.pair(), between.pair());
    let [next, last] = [8, 9].map(|id| op_msg(id, 0, &doc! { "ping": 1, "$db": "admin" }));
    let is_understood = AtomicBool::new(false);
    let (sent, arrived) = mpsc::channel();
    let (answered, answer) = mpsc::channel();
    let (exchanges, longest, took) = thread::scope(|scope| {
        scope.spawn(|| {
            thread::scope(|scope| {
                scope.spawn(|| near.write_all(message).expect("the connection stands"));
                far.read_exact(&mut vec![0; message.len()]).expect("it is passed on");
            });
            sent.send(now()).expect("who waits for it is there");
            // One more read of each side goes on, and nothing behind it before the message is understood.
            let asked = now();
            pass(&mut far, &mut near, &reply);
            pass(&mut near, &mut far, &next);
            answered.send(asked.elapsed()).expect("who waits for it is there");
            pass(&mut near, &mut far, &last);
            is_understood.store(true, Ordering::Release);
        });
        let since = arrived.recv().expect("it arrives");
        let (mut exchanges, mut longest) = (0, Duration::ZERO);
        while !is_understood.load(Ordering::Acquire) {
            let asked = now();
            pass(&mut client, &mut server, &request);
            pass(&mut server, &mut client, &reply);
            longest = longest.max(asked.elapsed());
            exchanges += 1;
        }
        (exchanges, longest, since.elapsed())
    });
    assert!(exchanges >= MEANWHILE, "{what}: {exchanges} exchanges in {took:.1?}, one of {longest:.1?}");
    let answered = answer.recv().expect("it was answered");
    assert!(2 * answered < took, "{what}: its answer waited {answered:.1?} of {took:.1?}");
    // The other requests are left unanswered.
    drop((near, far, client, server));
    let capture = arguments.last().filter(|last| last.ends_with(".mtap"));
    let (tally, _) = match capture {
        Some(capture) => between.proxy.end_of_captured(Path::new(capture)),
        None => between.proxy.end(),
    };
    assert_eq!((tally.succeeded, tally.failed), (exchanges as u64 + 1, 2), "{what}: {tally:?}");
    format!("{what}: {exchanges} exchanges in {took:.1?}, the longest {longest:.1?}, its own {answered:.1?}")
}
