//! Bombs, lengths that lie, documents in documents, headers without end: from a client, and as a server's answer. They
//! are passed on as they came, memory stays bounded, the log is whole, and who comes next is served.

use std::net::TcpStream;

use bson::doc;
use bytes::BytesMut;
use mongotap::wire::{Compressor, compress};

use crate::pair::{Between, Pair, exchange, pass};
use crate::support::client::op_msg;
use crate::usage::{descriptors, memory, memory_at_rest, wait_for_descriptors};

/// What the proxy may take, in kB: a message of 48 MB inflated, once as it is recorded and once as it is read, and the
/// program itself.
const MEMORY_MAX: u64 = 150 << 10;

/// The longest document of a bomb: with it the message is as long as any may be.
const BOMB_LEN: usize = 47_000_000;

pub(crate) fn of_both_sides() -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let capture = directory.path().join("all.mtap");
    let between = Between::start(&["--capture", capture.to_str().expect("its name is text")]);
    let (request, reply) = exchange(&doc! { "find": "items", "$db": "hostile" });
    let pid = between.proxy.pid();
    let (before, files) = (memory(pid).peak, descriptors(pid));
    // One after the other: what one takes is given back before the next one comes.
    let end = |client, server| {
        drop::<(TcpStream, TcpStream)>((client, server));
        wait_for_descriptors(pid, files);
    };
    let all = hostile();
    for bytes in &all {
        let Pair { mut client, mut server } = between.pair();
        pass(&mut client, &mut server, bytes);
        // Whatever that was, what follows goes on as well.
        pass(&mut client, &mut server, &request);
        pass(&mut server, &mut client, &reply);
        end(client, server);

        let Pair { mut client, mut server } = between.pair();
        pass(&mut client, &mut server, &request);
        pass(&mut server, &mut client, bytes);
        pass(&mut client, &mut server, &request);
        end(client, server);
    }
    let Pair { mut client, mut server } = between.pair();
    pass(&mut client, &mut server, &request);
    pass(&mut server, &mut client, &reply);
    drop((client, server));
    let peak = memory_at_rest(pid).peak;
    assert!(peak < MEMORY_MAX, "{peak} kB at the most, {before} kB before");
    let (tally, _) = between.proxy.end_of_hostile();
    let connections = 2 * all.len() as u64 + 1;
    assert_eq!(tally.opened, connections, "{tally:?}");
    assert!(tally.errors >= all.len() as u64 && tally.succeeded >= 1, "{tally:?}");
    format!("{connections} connections, {} errors told of, {peak} kB at the most, {before} kB before", tally.errors)
}

/// Each what one side sends; all of them name the request as what they answer.
fn hostile() -> Vec<Vec<u8>> {
    let bomb = answering(&op_msg(8, 0, &doc! { "insert": "items", "text": "a".repeat(BOMB_LEN), "$db": "hostile" }));
    let mut all = Vec::new();
    for compressor in [Compressor::Zlib, Compressor::Zstd] {
        let mut packed = BytesMut::new();
        compress(&bomb, compressor, &mut packed).expect("it can be compressed");
        // As it is, and saying less and much more than it holds.
        all.push(packed.to_vec());
        for says in [100_i32, -1, i32::MAX] {
            let mut lies = packed.to_vec();
            lies[20..24].copy_from_slice(&says.to_le_bytes());
            all.push(lies);
        }
    }
    let plain = answering(&op_msg(8, 0, &doc! { "find": "items", "filter": { "a": [1, "text"] }, "$db": "hostile" }));
    // At every level: of the message, of the document, of the collection's name.
    for at in [0, 21, 31] {
        for says in [0, -1, 15, i32::MAX, i32::MIN] {
            let mut lies = plain.clone();
            lies[at..at + 4].copy_from_slice(&says.to_le_bytes());
            all.push(lies);
        }
    }
    let nested = (0..5_000).fold(doc_bytes(&[]), |inner, _| doc_bytes(&[b"\x03a\0", &inner[..]].concat()));
    all.push(framed(&[&[0; 5], &doc_bytes(&[b"\x10find\0\x01\0\0\0\x03a\0", &nested[..]].concat())[..]].concat()));
    all.push(framed(&[]).repeat(10_000));
    // Sequences of no documents.
    all.push(framed(&[&[0; 4], &b"\x01\x0a\0\0\0hello\0".repeat(10_000)[..]].concat()));
    all
}

/// A document of these elements.
fn doc_bytes(elements: &[u8]) -> Vec<u8> {
    let length = i32::try_from(elements.len() + 5).expect("a short document");
    [&length.to_le_bytes()[..], elements, &[0]].concat()
}

/// An `OP_MSG` around some bytes.
fn framed(body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 16).expect("a short message");
    answering(&[&length.to_le_bytes()[..], &[8, 0, 0, 0, 0, 0, 0, 0, 0xdd, 7, 0, 0], body].concat())
}

/// With the id of the request.
fn answering(message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    message[8..12].copy_from_slice(&7_i32.to_le_bytes());
    message
}
