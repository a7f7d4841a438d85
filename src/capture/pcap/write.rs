//! From a capture to pcapng: each connection as TCP over IP, as if it had been captured beside the proxy, after its TLS.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::{PacketBuilder, TcpHeader, TcpOptionElement};

use super::PcapError;
use crate::capture::derive::InOrder;
use crate::capture::mtap::{Reader, Record, Torn};
use crate::event::{Connection, ConnectionId, Given, GivenMessage, Input, Side, Timestamp};

/// What was written, and what could not be.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Written {
    /// Connections.
    pub connections: u64,
    /// Messages.
    pub messages: u64,
    /// The servers' ports. Wireshark has to be told of those that are not 27017.
    pub ports: BTreeSet<u16>,
    /// Exchanges that the capture lacks: nobody sees that in the packets.
    pub missing: u64,
    /// How the capture ends, if it was not closed.
    pub torn: Option<Torn>,
}

/// Reads a capture, and writes the packets that could have been captured in its place.
///
/// # Errors
/// [`PcapError`]; what was read before is written.
pub fn write_packets(input: impl Read, out: &mut dyn Write) -> Result<Written, PcapError> {
    let mut reader = Reader::new(input);
    let mut in_order = InOrder::default();
    let (block, started, written) = (Vec::new(), Timestamp::default(), Written::default());
    let mut writer = Writer { out, connections: HashMap::new(), block, started, written };
    writer.begin()?;
    if let Some(header) = reader.header()? {
        writer.started = header.started();
    }
    while let Some(records) = reader.next_block()? {
        for record in records {
            in_order.push(record);
            while let Some(record) = in_order.pop() {
                writer.record(&record)?;
            }
        }
    }
    while let Some(record) = in_order.pop_last() {
        writer.record(&record)?;
    }
    writer.out.flush()?;
    Ok(Written { torn: reader.torn(), ..writer.written })
}

struct Writer<'o> {
    out: &'o mut dyn Write,
    connections: HashMap<ConnectionId, Tcp>,
    block: Vec<u8>,
    /// When the run began, by both clocks.
    started: Timestamp,
    written: Written,
}

/// Both sides of a connection; the client is first.
struct Tcp {
    addresses: [SocketAddr; 2],
    /// The number of the next byte of each.
    sequence: [u32; 2],
}

#[derive(Clone, Copy, Default)]
struct Flags {
    syn: bool,
    fin: bool,
    rst: bool,
    psh: bool,
}

impl Writer<'_> {
    /// The section, and the one network of it: raw IP, with times in nanoseconds.
    fn begin(&mut self) -> Result<(), PcapError> {
        let program = concat!("mongotap ", env!("CARGO_PKG_VERSION"));
        let mut section = [&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        put_option(4, program.as_bytes(), &mut section);
        put_option(0, &[], &mut section);
        self.put_block(0x0a0d_0d0a, &[&section])?;
        let mut interface = [&101_u16.to_le_bytes()[..], &[0, 0], &0_u32.to_le_bytes()].concat();
        put_option(2, b"mongotap", &mut interface);
        put_option(9, &[9], &mut interface);
        put_option(0, &[], &mut interface);
        self.put_block(1, &[&interface])
    }

    fn record(&mut self, record: &Record) -> Result<(), PcapError> {
        match record {
            Record::Input(input) => self.input(input),
            Record::Carried { connection, .. } => {
                let Writer { connections, written, .. } = self;
                // It goes on where it was, if it was told of before: its bytes are counted on.
                connections.entry(connection.id).or_insert_with(|| {
                    let tcp = Tcp::new(connection);
                    written.connections += 1;
                    written.ports.insert(tcp.addresses[1].port());
                    tcp
                });
                Ok(())
            }
            Record::Missing { exchanges, .. } => {
                self.written.missing = self.written.missing.saturating_add(*exchanges);
                Ok(())
            }
            Record::Ended { .. } => Ok(()),
        }
    }

    fn input(&mut self, input: &Input<'_>) -> Result<(), PcapError> {
        let at = input.at;
        if let Given::Opened(connection) = &input.given {
            let mut tcp = Tcp::new(connection);
            self.handshake(&mut tcp, at)?;
            self.written.connections += 1;
            self.written.ports.insert(tcp.addresses[1].port());
            self.connections.insert(connection.id, tcp);
            return Ok(());
        }
        let Some(mut tcp) = self.connections.remove(&input.connection) else { return Ok(()) };
        match &input.given {
            Given::Message(message) => {
                self.written.messages += 1;
                self.bytes(&mut tcp, message.side, &framed(message), at)?;
            }
            Given::Begun { side, bytes } => self.bytes(&mut tcp, *side, bytes, at)?,
            Given::Closed { by, error } => return self.close(tcp, by.unwrap_or(Side::Server), error.is_some(), at),
            _ => {}
        }
        self.connections.insert(input.connection, tcp);
        Ok(())
    }

    fn handshake(&mut self, tcp: &mut Tcp, at: Timestamp) -> Result<(), PcapError> {
        let syn = Flags { syn: true, ..Flags::default() };
        for side in [Side::Client, Side::Server] {
            self.segment(tcp, side, syn, &[], at)?;
        }
        self.segment(tcp, Side::Client, Flags::default(), &[], at)
    }

    fn bytes(&mut self, tcp: &mut Tcp, side: Side, bytes: &[u8], at: Timestamp) -> Result<(), PcapError> {
        let mut chunks = bytes.chunks(tcp.segment_len()).peekable();
        while let Some(chunk) = chunks.next() {
            let flags = Flags { psh: chunks.peek().is_none(), ..Flags::default() };
            self.segment(tcp, side, flags, chunk, at)?;
        }
        // The other side has got them all.
        self.segment(tcp, side.peer(), Flags::default(), &[], at)
    }

    fn close(&mut self, mut tcp: Tcp, by: Side, aborted: bool, at: Timestamp) -> Result<(), PcapError> {
        if aborted {
            return self.segment(&mut tcp, by, Flags { rst: true, ..Flags::default() }, &[], at);
        }
        let fin = Flags { fin: true, ..Flags::default() };
        self.segment(&mut tcp, by, fin, &[], at)?;
        self.segment(&mut tcp, by.peer(), fin, &[], at)?;
        self.segment(&mut tcp, by, Flags::default(), &[], at)
    }

    fn segment(
        &mut self,
        tcp: &mut Tcp,
        from: Side,
        flags: Flags,
        payload: &[u8],
        at: Timestamp,
    ) -> Result<(), PcapError> {
        let packet = tcp.packet(from, flags, payload);
        let nanos = self.unix_nanos(at);
        let head: Vec<u8> = [0, (nanos >> 32) as u32, nanos as u32, packet.len() as u32, packet.len() as u32]
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        self.put_block(6, &[&head, &packet])
    }

    /// The time of day, by the clock that never goes back.
    fn unix_nanos(&self, at: Timestamp) -> u64 {
        let started = u64::try_from(self.started.unix_micros).unwrap_or_default().saturating_mul(1000);
        let since = i128::from(at.monotonic_nanos) - i128::from(self.started.monotonic_nanos);
        u64::try_from(i128::from(started) + since).unwrap_or_default()
    }

    fn put_block(&mut self, kind: u32, content: &[&[u8]]) -> Result<(), PcapError> {
        let length: usize = content.iter().map(|part| part.len()).sum();
        let padding = length.next_multiple_of(4) - length;
        let total = (12 + length + padding) as u32;
        self.block.clear();
        self.block.extend_from_slice(&kind.to_le_bytes());
        self.block.extend_from_slice(&total.to_le_bytes());
        content.iter().for_each(|part| self.block.extend_from_slice(part));
        self.block.resize(self.block.len() + padding, 0);
        self.block.extend_from_slice(&total.to_le_bytes());
        Ok(self.out.write_all(&self.block)?)
    }
}

fn put_option(code: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

impl Tcp {
    fn new(connection: &Connection) -> Self {
        // Numbers begin anywhere, and here always at the same place.
        let first = (connection.id.0 as u32).wrapping_mul(0x9e37_79b1);
        Self { addresses: addresses(connection), sequence: [first, !first] }
    }

    /// What fits in a packet of Ethernet.
    fn segment_len(&self) -> usize {
        if self.addresses[0].is_ipv4() { 1460 } else { 1440 }
    }

    fn packet(&mut self, from: Side, flags: Flags, payload: &[u8]) -> Vec<u8> {
        let (own, other) = if from == Side::Client { (0, 1) } else { (1, 0) };
        let (source, target) = (self.addresses[own], self.addresses[other]);
        let mut header = TcpHeader::new(source.port(), target.port(), self.sequence[own], u16::MAX);
        (header.syn, header.fin, header.rst, header.psh) = (flags.syn, flags.fin, flags.rst, flags.psh);
        header.ack = !flags.syn || from == Side::Server;
        header.acknowledgment_number = if header.ack { self.sequence[other] } else { 0 };
        if flags.syn {
            let segment = TcpOptionElement::MaximumSegmentSize(self.segment_len() as u16);
            // The largest, so that no message is too long for a window.
            #[expect(clippy::expect_used, reason = "eight bytes of forty")]
            header.set_options(&[segment, TcpOptionElement::WindowScale(14)]).expect("there is room for both");
        }
        self.sequence[own] =
            self.sequence[own].wrapping_add(payload.len() as u32 + u32::from(flags.syn) + u32::from(flags.fin));
        let mut packet = Vec::with_capacity(80 + payload.len());
        let written = match (source.ip(), target.ip()) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let ip = PacketBuilder::ipv4(source.octets(), target.octets(), HOPS);
                ip.tcp_header(header).write(&mut packet, payload)
            }
            (source, target) => {
                let ip = PacketBuilder::ipv6(in_v6(source), in_v6(target), HOPS);
                ip.tcp_header(header).write(&mut packet, payload)
            }
        };
        debug_assert!(written.is_ok(), "a segment fits in a packet, and memory takes it");
        packet
    }
}

fn in_v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The addresses of both sides. A name, or a unix socket, is this machine, the client's port then its number.
fn addresses(connection: &Connection) -> [SocketAddr; 2] {
    let own_port = 1024 + (connection.id.0 % 64_000) as u16;
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let client = connection.client.parse().unwrap_or_else(|_| SocketAddr::new(here, own_port));
    let server = connection.server.host.parse().unwrap_or(here);
    let server = SocketAddr::new(server, connection.server.port.unwrap_or(PORT));
    if client.is_ipv4() == server.is_ipv4() {
        return [client, server];
    }
    [client, server].map(|address| SocketAddr::new(IpAddr::V6(in_v6(address.ip()).into()), address.port()))
}

/// A message in as many bytes as it says: of one that was not kept its header alone is there.
fn framed(message: &GivenMessage<'_>) -> Vec<u8> {
    let mut bytes = message.bytes.to_vec();
    let length = (bytes.len() as i32).to_le_bytes();
    if let Some(prefix) = bytes.first_chunk_mut() {
        *prefix = length;
    }
    bytes
}

/// MongoDB's own.
const PORT: u16 = 27017;

/// As on this machine.
const HOPS: u8 = 64;
