//! A capture becomes packets and a capture again, over every kind of file and network, whatever the network does to the
//! packets; what is lost is named, and nothing that was not said is read.

use std::sync::{Arc, Mutex};

use bson::rawdoc;
use bytes::BytesMut;
use etherparse::{EtherType, Ethernet2Header, SingleVlanHeader, VlanId};
use proptest::prelude::*;

use super::file::{End, Packets};
use super::*;
use crate::capture::mtap::{Header, Reader, Record, Records, write_records};
use crate::event::{Address, Connection, Given, Input, Timestamp};
use crate::pipeline::Pipeline;
use crate::session::Shared;
use crate::wire::{Compressor, OpMsg, compress};

/// A message with the side that says it.
pub(super) type Said = (Side, Vec<u8>);

fn at(micros: u64) -> Timestamp {
    Timestamp { monotonic_nanos: 5_000 + micros * 1000, unix_micros: 1_795_333_471_867_123 + micros as i64 }
}

fn message(id: i32, to: i32, body: &bson::RawDocumentBuf) -> Vec<u8> {
    let mut out = BytesMut::new();
    OpMsg::new(0, body.as_bytes()).encode(id, to, &mut out).unwrap();
    out.to_vec()
}

/// What is said on a connection: questions and answers, short, long, and compressed.
fn conversation(number: i32) -> Vec<Said> {
    let mut said = Vec::new();
    for question in 1..=6 {
        let (id, to) = (number * 100 + question, number * 1000 + question);
        let text = "x".repeat(if question == 3 { 30_000 } else { 10 });
        let find = rawdoc! { "find": "c", "filter": { "number": number, "text": text.as_str() }, "$db": "app" };
        let reply = rawdoc! { "cursor": { "id": 0_i64, "ns": "app.c", "firstBatch": [{ "is": id }] }, "ok": 1.0 };
        let mut asked = message(id, 0, &find);
        if question == 4 {
            let mut compressed = BytesMut::new();
            compress(&asked, Compressor::Zstd, &mut compressed).unwrap();
            asked = compressed.to_vec();
        }
        said.extend([(Side::Client, asked), (Side::Server, message(to, id, &reply))]);
    }
    said
}

/// A capture of these connections, which take turns.
pub(super) fn capture(conversations: &[Vec<Said>], host: &str) -> Vec<u8> {
    let records = Arc::new(Mutex::new(Records::default()));
    let mut pipelines = Vec::new();
    for number in 1..=conversations.len() as u64 {
        let id = ConnectionId(number);
        let client = Address { host: host.to_owned(), port: Some(50_000 + number as u16) }.to_string();
        let server = Address { host: host.to_owned(), port: Some(27027) };
        let connection = Arc::new(Connection { id, client, upstream: String::new(), server, tls: false });
        let records = Arc::clone(&records);
        let tap = Box::new(move |input: &crate::redact::Redacted<Input<'_>>| records.lock().unwrap().push(input));
        pipelines.push(Pipeline::recorded(connection, at(number), Shared::default(), tap));
    }
    let longest = conversations.iter().map(Vec::len).max().unwrap_or_default();
    for turn in 0..longest {
        for (pipeline, said) in pipelines.iter_mut().zip(conversations) {
            if let Some((side, bytes)) = said.get(turn) {
                pipeline.handle_bytes(*side, bytes, at(1000 + turn as u64 * 10), &mut |_| {});
            }
        }
    }
    pipelines.iter_mut().for_each(|it| it.handle_close(Some(Side::Client), None, at(9000), &mut |_| {}));
    let header = Header { started_nanos: 5_000, started_micros: at(0).unix_micros, ..Header::default() };
    let mut bytes = header.to_bytes();
    write_records(&records.lock().unwrap(), &mut bytes);
    bytes
}

pub(super) fn conversations() -> Vec<Vec<Said>> {
    (1..=3).map(conversation).collect()
}

/// What is said in a capture, by connection, with the times.
pub(super) fn said(capture: &[u8]) -> Vec<Vec<(u64, Said)>> {
    let mut connections: Vec<Vec<(u64, Said)>> = Vec::new();
    let mut reader = Reader::new(capture);
    while let Some(records) = reader.next_block().unwrap() {
        for record in records {
            let Record::Input(Input { connection, at, given }) = record else { continue };
            let place = connection.0 as usize - 1;
            connections.resize(connections.len().max(place + 1), Vec::new());
            if let Given::Message(message) = given {
                connections[place].push((at.monotonic_nanos, (message.side, message.bytes.into_owned())));
            }
        }
    }
    connections
}

pub(super) fn without_times(capture: &[u8]) -> Vec<Vec<Said>> {
    said(capture).into_iter().map(|it| it.into_iter().map(|(_, said)| said).collect()).collect()
}

pub(super) fn packets(capture: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_packets(capture, &mut out).unwrap();
    out
}

pub(super) fn read(file: &[u8]) -> (Vec<u8>, Summary) {
    let mut out = Vec::new();
    let summary = read_packets(file, "run", &mut out).unwrap();
    (out, summary)
}

/// The packets of a file, with their times.
pub(super) fn split(file: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let (mut packets, mut found) = (Packets::open(file).unwrap(), Vec::new());
    while packets.next(&mut |packet| found.push((packet.unix_nanos, packet.data.to_vec()))).unwrap() != Some(End::Whole)
    {
    }
    found
}

/// A file of classic pcap.
pub(super) fn classic(packets: &[(i64, Vec<u8>)], link: u32, nanoseconds: bool, big_endian: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |number: u32| {
        out.extend_from_slice(&if big_endian { number.to_be_bytes() } else { number.to_le_bytes() });
    };
    put(if nanoseconds { 0xa1b2_3c4d } else { 0xa1b2_c3d4 });
    let version = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
    [version, 0, 0, 1 << 18, link].into_iter().for_each(put);
    for (nanos, data) in packets {
        let part = (nanos % 1_000_000_000) as u32 / if nanoseconds { 1 } else { 1000 };
        for number in [(nanos / 1_000_000_000) as u32, part, data.len() as u32, data.len() as u32] {
            out.extend_from_slice(&if big_endian { number.to_be_bytes() } else { number.to_le_bytes() });
        }
        out.extend_from_slice(data);
    }
    out
}

/// What stands before an IP packet on a network of that kind.
fn around(link: u32, packet: &[u8], vlan: bool) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let ether_type = if is_v4 { EtherType::IPV4 } else { EtherType::IPV6 };
    let number = ether_type.0.to_be_bytes();
    let mut out = Vec::new();
    match link {
        1 => {
            let outer = if vlan { EtherType::VLAN_TAGGED_FRAME } else { ether_type };
            let header = Ethernet2Header { ether_type: outer, ..Ethernet2Header::default() };
            header.write(&mut out).unwrap();
            if vlan {
                let vlan_id = VlanId::try_new(7).unwrap();
                SingleVlanHeader { vlan_id, ether_type, ..SingleVlanHeader::default() }.write(&mut out).unwrap();
            }
        }
        113 => out.extend([&[0; 14][..], &number].concat()),
        276 => out.extend([&number[..], &[0; 18]].concat()),
        0 => out.extend(if is_v4 { [2, 0, 0, 0] } else { [10, 0, 0, 0] }),
        _ => {}
    }
    out.extend_from_slice(packet);
    out
}

#[test]
fn every_kind_of_file_and_network() {
    for host in ["127.0.0.1", "fe80::1", "10.1.2.3"] {
        let original = capture(&conversations(), host);
        let written = packets(&original);
        let packets = split(&written);
        let (again, summary) = read(&written);
        assert_eq!(without_times(&again), conversations(), "{host}");
        assert_eq!((summary.connections, summary.lost_count, summary.unasked), (3, 0, 0));
        for link in [1, 113, 276, 0, 101] {
            for (nanoseconds, big_endian, vlan) in
                [(false, false, false), (true, false, true), (false, true, true), (true, true, false)]
            {
                let wrapped: Vec<_> = packets.iter().map(|(at, packet)| (*at, around(link, packet, vlan))).collect();
                let (again, summary) = read(&classic(&wrapped, link, nanoseconds, big_endian));
                assert_eq!(
                    without_times(&again),
                    conversations(),
                    "{host} {link} {nanoseconds} {big_endian} {summary:?}"
                );
            }
        }
    }
}

#[test]
fn times_and_addresses_stay() {
    let original = capture(&conversations(), "192.0.2.9");
    let (again, _) = read(&packets(&original));
    let first = at(1).monotonic_nanos;
    let shifted =
        said(&original).into_iter().map(|it| it.into_iter().map(|(at, said)| (at - first, said)).collect::<Vec<_>>());
    assert_eq!(said(&again), shifted.collect::<Vec<_>>());
    let mut reader = Reader::new(&again[..]);
    let records = reader.next_block().unwrap().unwrap();
    let Record::Input(Input { given: Given::Opened(connection), at: opened, .. }) = &records[0] else { panic!() };
    assert_eq!(
        (connection.client.as_str(), connection.server.to_string().as_str()),
        ("192.0.2.9:50001", "192.0.2.9:27027")
    );
    assert_eq!(opened.unix_micros, at(1).unix_micros);
    assert_eq!(reader.header().unwrap().unwrap().listen, "192.0.2.9:27027");
}

/// As in the second file of a run, and with addresses that are none of IP's.
#[test]
fn a_connection_that_was_opened_before() {
    let original = capture(&conversations(), "127.0.0.1");
    let (mut reader, mut records) = (Reader::new(&original[..]), Records::default());
    for record in reader.next_block().unwrap().unwrap() {
        match record {
            Record::Input(Input { at, given: Given::Opened(connection), .. }) => {
                let (client, server) = ("unix".to_owned(), Address { host: "/tmp/s.sock".to_owned(), port: None });
                records.push_carried(&Connection { client, server, ..(*connection).clone() }, at);
            }
            Record::Input(input) => records.push(&crate::redact::testing::redacted(input)),
            other => panic!("{other:?}"),
        }
    }
    let mut carried = reader.header().unwrap().unwrap().to_bytes();
    write_records(&records, &mut carried);
    let file = packets(&carried);
    let is_syn = |packet: &[u8]| packet[33] & 2 != 0;
    assert!(split(&file).iter().all(|(_, packet)| !is_syn(packet)));
    let (again, summary) = read(&file);
    assert_eq!((without_times(&again), summary.connections), (conversations(), 3));
    let mut reader = Reader::new(&again[..]);
    let Record::Input(Input { given: Given::Opened(connection), .. }) = &reader.next_block().unwrap().unwrap()[0]
    else {
        panic!()
    };
    assert_eq!((connection.client.as_str(), connection.upstream.as_str()), ("127.0.0.1:1025", "127.0.0.1:27017"));
}

#[test]
fn credentials_do_not_get_through() {
    let sasl = rawdoc! { "saslStart": 1, "mechanism": "PLAIN", "payload": "hunter2", "$db": "$external" };
    let said = vec![
        (Side::Client, message(1, 0, &sasl)),
        (Side::Server, message(2, 1, &rawdoc! { "payload": "hunter2", "ok": 1 })),
    ];
    let raw = raw_connection(&said);
    assert!(memchr::memmem::find(&raw, b"hunter2").is_some());
    let (again, _) = read(&raw);
    let read = without_times(&again);
    assert_eq!(read[0].len(), 2);
    assert!(read.concat().iter().all(|(_, bytes)| memchr::memmem::find(bytes, b"hunter2").is_none()));
}

/// Packets of one connection in which the bytes are as they were said.
fn raw_connection(said: &[Said]) -> Vec<u8> {
    let plain: Vec<Said> = said
        .iter()
        .zip(1..)
        .map(|((side, bytes), id)| {
            let length = bytes.len() - 16 - 5 - 5 - 8;
            let to = if *side == Side::Server { id - 1 } else { 0 };
            (*side, message(id, to, &rawdoc! { "p": "x".repeat(length) }))
        })
        .collect();
    let mut file = packets(&capture(std::slice::from_ref(&plain), "127.0.0.1"));
    for ((_, as_said), (_, stand_in)) in said.iter().zip(&plain) {
        assert_eq!(as_said.len(), stand_in.len());
        let place = memchr::memmem::find(&file, stand_in).unwrap();
        file[place..place + as_said.len()].copy_from_slice(as_said);
    }
    file
}

/// The file without the packet of that number.
fn without(file: &[u8], left_out: usize) -> Vec<u8> {
    let mut packets = split(file);
    packets.remove(left_out);
    classic(&packets, 101, true, false)
}

/// How many bytes the packet carries, in IPv4 with a TCP header of its own length.
fn payload_len(packet: &[u8]) -> usize {
    packet.len() - 20 - usize::from(packet[32] >> 4) * 4
}

#[test]
fn what_is_lost_is_named_and_the_rest_is_read() {
    let file = packets(&capture(&conversations(), "127.0.0.1"));
    let all = split(&file);
    let (mut named, mut unnamed) = (0, 0);
    for (left_out, packet) in all.iter().enumerate() {
        let bytes = payload_len(&packet.1) as u64;
        let (again, summary) = read(&without(&file, left_out));
        let read = without_times(&again);
        for said in read.concat() {
            assert!(conversations().concat().contains(&said), "packet {left_out}: nobody said that");
        }
        assert_eq!(summary.lost_bytes, bytes, "packet {left_out}: {summary:?}");
        if bytes == 0 {
            assert_eq!(read.concat().len(), conversations().concat().len(), "packet {left_out}");
            continue;
        }
        // A reply alone, or a request and with it its reply.
        let missing = conversations().concat().len() - read.concat().len();
        assert!((1..=2).contains(&missing), "packet {left_out}: {missing} messages are missing, {summary:?}");
        match summary.lost.as_slice() {
            [Lost { connection: Some(_), bytes: said, .. }] if *said == bytes => named += 1,
            // With the first message of a connection it had no number yet.
            [Lost { connection: None, .. }] => unnamed += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(named > 60 && unnamed <= 3, "{named} {unnamed}");
}

#[test]
fn a_lost_reply_fails_its_command_with_the_reason() {
    let file = packets(&capture(&[conversation(1)], "127.0.0.1"));
    let reply = split(&file)
        .iter()
        .position(|(_, packet)| packet[20..22] == 27027_u16.to_be_bytes() && payload_len(packet) > 0);
    let (again, _) = read(&without(&file, reply.unwrap()));
    let mut source = crate::capture::source::CaptureSource::new(&again[..], Some(&Default::default()));
    let mut log = String::new();
    while let Some((_, line)) = source.next_item().unwrap() {
        log += std::str::from_utf8(line).unwrap();
    }
    assert!(
        log.contains("\"eventsDroppedEvent\"") && log.contains("bytes of the server's, from byte 0 of c1 on"),
        "{log}"
    );
    assert_eq!(log.matches("commandFailedEvent").count(), 1);
    assert!(log.contains("not in the packets: "));
    assert_eq!(log.matches("commandSucceededEvent").count(), 5);
    assert!(!log.contains("protocolErrorEvent"));
}

#[test]
fn a_capture_that_begins_in_the_middle() {
    let file = packets(&capture(&conversations(), "127.0.0.1"));
    let all = split(&file);
    for first in (0..all.len() - 30).step_by(3) {
        let (again, summary) = read(&classic(&all[first..], 101, true, false));
        let read = without_times(&again).concat();
        assert!(read.iter().all(|said| conversations().concat().contains(said)), "{first}");
        // Requests and replies come in pairs.
        let requests = read.iter().filter(|(side, _)| *side == Side::Client).count();
        assert_eq!(read.len(), requests * 2, "{first} {summary:?}");
        assert!(requests >= 3, "{first} {summary:?}");
    }
}

#[test]
fn other_protocols_are_counted() {
    let http = vec![(Side::Client, message(1, 0, &rawdoc! { "p": "x".repeat(40) }))];
    let mut file = packets(&capture(std::slice::from_ref(&http), "127.0.0.1"));
    let place = memchr::memmem::find(&file, &http[0].1).unwrap();
    file[place..place + 16].copy_from_slice(b"GET / HTTP/1.1\r\n");
    let (again, summary) = read(&file);
    assert_eq!((summary.connections, summary.others, summary.encrypted), (0, 1, 0));
    assert!(said(&again).is_empty());
    file[place..place + 6].copy_from_slice(&[0x16, 3, 1, 2, 0, 1]);
    assert_eq!(read(&file).1.encrypted, 1);
}

#[test]
fn other_files_are_told() {
    assert!(matches!(
        read_packets(&b"{\"seq\":0}\n{\"seq\":1}\n123456789"[..], "", &mut Vec::new()),
        Err(PcapError::NotAPcap)
    ));
    assert!(is_pcap(&classic(&[], 1, true, true)) && is_pcap(&packets(&capture(&[], "::1"))) && !is_pcap(b"MTAP"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_comes_twice_or_in_another_order_is_the_same(
        twice in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
        swapped in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut all = split(&packets(&capture(&conversations(), "127.0.0.1")));
        let mut places: Vec<usize> = swapped.iter().map(|it| it.index(all.len() - 1)).collect();
        places.sort_unstable();
        let mut last = None;
        for place in places {
            // Each packet goes one place at most.
            if last.is_none_or(|last| place > last + 1) {
                all.swap(place, place + 1);
                last = Some(place);
            }
        }
        for index in twice {
            let again = all[index.index(all.len())].clone();
            let place = (index.index(all.len()) + 5).min(all.len());
            all.insert(place, again);
        }
        let (again, summary) = read(&classic(&all, 101, true, false));
        prop_assert_eq!(without_times(&again), conversations(), "{:?}", summary);
        prop_assert_eq!(summary.lost_count, 0);
    }

    #[test]
    fn a_file_that_is_cut_off_is_read_to_there(at: prop::sample::Index, big_endian: bool) {
        let file = packets(&capture(&conversations(), "127.0.0.1"));
        let file = if big_endian { classic(&split(&file), 101, true, true) } else { file };
        let cut = at.index(file.len());
        let mut out = Vec::new();
        match read_packets(&file[..cut], "", &mut out) {
            Ok(summary) => {
                prop_assert!(summary.torn_at.is_none_or(|offset| offset <= cut as u64));
                prop_assert!(without_times(&out).concat().iter().all(|said| conversations().concat().contains(said)));
            }
            Err(PcapError::NotAPcap | PcapError::Damaged { offset: 0, .. }) => prop_assert!(cut < 64),
            Err(error) => prop_assert!(false, "{}", error),
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_panics(
        at: prop::sample::Index, bytes in proptest::collection::vec(any::<u8>(), 1..40), link in 0_u32..300,
    ) {
        let mut all = split(&packets(&capture(&conversations(), "127.0.0.1")));
        all.iter_mut().for_each(|(_, packet)| packet.truncate(4000));
        let mut file = classic(&all, if link < 200 { 101 } else { link }, true, false);
        let place = at.index(file.len() - bytes.len());
        file[place..place + bytes.len()].copy_from_slice(&bytes);
        _ = read_packets(&file[..], "", &mut Vec::new());
        _ = read_packets(&bytes[..], "", &mut Vec::new());
    }
}
