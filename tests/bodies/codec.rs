//! Messages: what is decoded is encoded to its bytes, and where they end does not depend on how they arrive.

use bytes::BytesMut;
use mongotap::event::Side;
use mongotap::wire::{Compressor, MESSAGE_LEN_MAX, Message, compress};

use super::checks::check_round_trip;
use super::session::{LIMITS, one_side};

/// One message.
pub(super) fn codec(bytes: &[u8]) {
    check_round_trip(bytes);
    let Ok((header, message)) = Message::decode(bytes) else { return };
    if let Message::Compressed(compressed) = message {
        for limit in [0, 16, 51, 1 << 16] {
            let mut inside = Vec::new();
            let opened = compressed.inflate(&header, limit, &mut inside);
            assert!(inside.len() <= limit + 1 && inside.capacity() <= 4 * limit + 64, "{} bytes", inside.capacity());
            if opened.is_ok() {
                check_round_trip(&inside);
            }
        }
        return;
    }
    for compressor in [Compressor::Noop, Compressor::Snappy, Compressor::Zlib, Compressor::Zstd] {
        let mut packed = BytesMut::new();
        compress(bytes, compressor, &mut packed).unwrap();
        let (header, Message::Compressed(compressed)) = Message::decode(&packed).unwrap() else { panic!("{packed:?}") };
        let mut inside = Vec::new();
        compressed.inflate(&header, MESSAGE_LEN_MAX, &mut inside).unwrap();
        assert_eq!(inside[4..], bytes[4..], "{compressor:?}");
    }
}

/// The bytes of one side.
pub(super) fn framer(bytes: &[u8]) {
    for side in [Side::Client, Side::Server] {
        for limits in LIMITS {
            let whole = format!("{:?}", one_side(side, bytes, usize::MAX, limits));
            for length in [1, 7, 16, 21] {
                let pieces = format!("{:?}", one_side(side, bytes, length, limits));
                assert!(pieces == whole, "in pieces of {length} bytes\n{pieces}\ninstead of\n{whole}");
            }
        }
    }
}
