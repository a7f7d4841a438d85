//! Packet captures, read and written: what tcpdump and Wireshark know.
//!
//! [`read_packets`] makes a capture of one: classic pcap of either byte order, with microseconds or nanoseconds, and
//! pcapng. IP fragments and TCP are put together again, the connections that speak MongoDB are found by how their messages begin, on whatever
//! port, and their bytes go through the same pipeline as live: what comes out is redacted, like any capture. What the
//! packets lack is named ([`Lost`]); the connection is taken up again where the next message begins, as another one.
//!
//! [`write_packets`] makes pcapng of a capture: each connection as well-formed TCP over IP, with the messages as they are in
//! the capture, so decrypted and without credentials, at their times.
//!
//! Left out: decryption, tunnels, checks of checksums (network cards compute them after the capture).

mod connection;
mod file;
mod fragments;
mod half;
mod messages;
mod packet;
mod read;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_packets;
mod write;

use std::fmt;
use std::io;

pub use file::is_pcap;
pub use read::{PacketReader, read_packets};
pub use write::{Written, write_packets};

use super::mtap::CaptureError;
use crate::event::{ConnectionId, Side};

/// Why packets cannot be read, or not on, or not written.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// A file cannot be read or written at all.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("neither pcap nor pcapng: its first bytes are another format's")]
    NotAPcap,
    /// What is there cannot be understood.
    #[error("damaged at byte {offset}: {what}")]
    Damaged {
        /// Where what cannot be read begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The capture that is to be written as packets cannot be read.
    #[error("{0}")]
    Capture(#[from] CaptureError),
}

/// Bytes of a connection that are not in the packets although its peers had them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lost {
    /// The connection that ended by it. `None` if no message of it had been found.
    pub connection: Option<ConnectionId>,
    /// Who had sent them.
    pub side: Side,
    /// How many bytes of that side came before, from where the packets begin.
    pub offset: u64,
    /// How many they are.
    pub bytes: u64,
}

/// `1448 bytes of the server's, from byte 52341 of c3 on`
impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of the {}'s, from byte {} of ", self.bytes, self.side, self.offset)?;
        match self.connection {
            Some(connection) => write!(f, "{connection} on"),
            None => f.write_str("a connection on of which no message was found"),
        }
    }
}

/// What was found in packets.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// Those of them that are not TCP over IP, or of a kind of network that is not known, or fragments before the last.
    pub passed_over: u64,
    /// Packets whose end the capture has cut off: it was told to keep so much of each.
    pub cut_off: u64,
    /// Packets of TCP that came in fragments of which some are missing.
    pub in_pieces: u64,
    /// Connections of the capture.
    pub connections: u64,
    /// Connections that begin with a TLS handshake: nothing can be read of them.
    pub encrypted: u64,
    /// Connections that speak something else.
    pub others: u64,
    /// Messages of servers whose requests are not in the packets.
    pub unasked: u64,
    /// The first [`LOST_MAX`] places where packets are missing.
    pub lost: Vec<Lost>,
    /// How many such places there are.
    pub lost_count: u64,
    /// How many bytes are missing.
    pub lost_bytes: u64,
    /// The file ends within a packet: where that begins.
    pub torn_at: Option<u64>,
}

/// Places of missing packets that are kept; the others are counted.
pub const LOST_MAX: usize = 1000;
