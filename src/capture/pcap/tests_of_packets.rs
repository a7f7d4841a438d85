//! What networks and captures do to packets: they are cut into fragments, cut off, and taken from several interfaces at
//! once, whose clocks count in other parts of a second.

use super::tests::{capture, classic, conversations, packets, read, said, split, without_times};

/// The packet in fragments of so many bytes, as a network does it.
fn fragments(packet: &[u8], identification: u16, size: usize) -> Vec<Vec<u8>> {
    let is_v4 = packet[0] >> 4 == 4;
    let (head, payload) = packet.split_at(if is_v4 { 20 } else { 40 });
    if payload.len() <= size {
        return vec![packet.to_vec()];
    }
    let pieces = payload.chunks(size).zip(0_u16..);
    let last = payload.len().div_ceil(size) - 1;
    let cut = pieces.map(|(piece, number)| {
        let (eighths, more) = (number * size as u16 / 8, usize::from(number) < last);
        let mut out = head.to_vec();
        if is_v4 {
            out[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
            out[4..6].copy_from_slice(&identification.to_be_bytes());
            out[6..8].copy_from_slice(&(eighths | u16::from(more) << 13).to_be_bytes());
        } else {
            out[4..6].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
            let next = std::mem::replace(&mut out[6], 44);
            out.extend([next, 0]);
            out.extend((eighths << 3 | u16::from(more)).to_be_bytes());
            out.extend(u32::from(identification).to_be_bytes());
        }
        out.extend(piece);
        out
    });
    cut.collect()
}

#[test]
fn fragments_are_put_together() {
    for host in ["127.0.0.1", "fe80::1"] {
        let whole = split(&packets(&capture(&conversations(), host)));
        let mut all = Vec::new();
        for ((at, packet), number) in whole.iter().zip(0_u16..) {
            let mut pieces = fragments(packet, number, 64);
            // The second comes twice, and now and then the last one first.
            pieces.extend(pieces.get(1).cloned().filter(|_| pieces.len() > 3));
            if number % 3 == 0 {
                pieces.reverse();
            }
            all.extend(pieces.into_iter().map(|piece| (*at, piece)));
        }
        assert!(all.len() > whole.len() * 2);
        let (again, summary) = read(&classic(&all, 101, true, false));
        assert_eq!(without_times(&again), conversations(), "{host} {summary:?}");
        assert_eq!(said(&again), said(&read(&classic(&whole, 101, true, false)).0));

        // One fragment is missing: its packet is, and that is told.
        let is_fragment = |packet: &[u8]| match packet[0] >> 4 {
            4 => packet[6] & 0x3f != 0 || packet[7] != 0,
            _ => packet[6] == 44,
        };
        let is_single =
            |it: &&(i64, Vec<u8>)| is_fragment(&it.1) && all.iter().filter(|other| other == it).count() == 1;
        let single = all.iter().find(is_single).cloned().unwrap();
        all.retain(|it| *it != single);
        let (again, summary) = read(&classic(&all, 101, true, false));
        assert_eq!(summary.in_pieces, 1, "{summary:?}");
        let read = without_times(&again).concat();
        assert!(read.iter().all(|it| conversations().concat().contains(it)));
        assert!(read.len() + 2 >= conversations().concat().len());
    }
}

#[test]
fn what_never_becomes_whole_is_not_kept() {
    let whole = split(&packets(&capture(&conversations(), "127.0.0.1")));
    let long = whole.iter().find(|(_, packet)| packet.len() > 1000).unwrap();
    let first = |number: u16| (long.0, fragments(&long.1, number, 512).remove(0));
    let mut all: Vec<_> = (1000..2000).map(first).collect();
    all.extend(whole);
    let (again, summary) = read(&classic(&all, 101, true, false));
    assert_eq!((without_times(&again), summary.in_pieces), (conversations(), 1000));
}

#[test]
fn packets_that_are_cut_off_are_counted() {
    let whole = split(&packets(&capture(&conversations(), "127.0.0.1")));
    let (again, summary) = read(&classic(&whole, 101, true, false));
    assert_eq!((summary.cut_off, without_times(&again)), (0, conversations()));
    let mut file = classic(&[], 101, true, false);
    for (nanos, data) in &whole {
        let kept = &data[..data.len().min(96)];
        let numbers =
            [(nanos / 1_000_000_000) as u32, (nanos % 1_000_000_000) as u32, kept.len() as u32, data.len() as u32];
        numbers.iter().for_each(|number| file.extend(number.to_le_bytes()));
        file.extend(kept);
    }
    let long = whole.iter().filter(|(_, data)| data.len() > 96).count() as u64;
    let (again, summary) = read(&file);
    assert_eq!(summary.cut_off, long);
    assert!(summary.lost_bytes > 0 && long > 30, "{summary:?}");
    assert!(without_times(&again).concat().iter().all(|it| conversations().concat().contains(it)));
}

/// A block of pcapng.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let length = (padded as u32 + 12).to_le_bytes();
    let mut out = [&kind.to_le_bytes()[..], &length, body].concat();
    out.resize(8 + padded, 0);
    out.extend(length);
    out
}

#[test]
fn interfaces_have_their_own_networks_and_clocks() {
    let whole = split(&packets(&capture(&conversations(), "10.1.2.3")));
    // Raw IP in nanoseconds, behind Ethernet in microseconds, and behind nothing in 2^-30 of a second.
    let interfaces: [(u16, u8); 3] = [(101, 9), (1, 6), (101, 0x80 | 30)];
    let mut file = block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    for (link, resolution) in interfaces {
        let options = [9, 0, 1, 0, resolution, 0, 0, 0, 0, 0, 0, 0];
        file.extend(block(1, &[&link.to_le_bytes()[..], &[0; 2], &[0; 4], &options].concat()));
    }
    for ((nanos, data), number) in whole.iter().zip(0_u32..) {
        let (interface, nanos) = (number % 3, *nanos as u128);
        let (ticks, data) = match interface {
            0 => (nanos, data.clone()),
            1 => (nanos / 1000, [&[0; 12][..], &[8, 0], data].concat()),
            // Rounded up: reading rounds down.
            _ => ((nanos << 30).div_ceil(1_000_000_000), data.clone()),
        };
        let mut body = interface.to_le_bytes().to_vec();
        for word in [(ticks >> 32) as u32, ticks as u32, data.len() as u32, data.len() as u32] {
            body.extend(word.to_le_bytes());
        }
        file.extend(block(6, &[&body[..], &data].concat()));
    }
    let (again, summary) = read(&file);
    assert_eq!(without_times(&again), conversations(), "{summary:?}");
    let times = |capture: &[u8]| said(capture).concat().into_iter().map(|(at, _)| at).collect::<Vec<_>>();
    assert_eq!(times(&again), times(&read(&classic(&whole, 101, true, false)).0));
}
