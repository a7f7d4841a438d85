//! From a packet to the TCP segment in it, through whatever network it was captured on.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, IpNumber, Ipv6ExtensionSlice, Ipv6FragmentHeader, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice,
};
use pcap_parser::Linktype;

use super::file::Packet;
use super::fragments::{Fragments, Piece, Whole};

/// A TCP segment. If the end of its packet was cut off, less is here than was sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Segment<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    /// The number of its first byte, or of its `SYN`.
    pub(super) sequence: u32,
    /// Up to where the sender has got the other side's bytes.
    pub(super) acknowledged: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: Cow<'a, [u8]>,
}

impl Segment<'_> {
    /// The same, free of its packet.
    pub(super) fn to_owned(&self) -> Segment<'static> {
        Segment { payload: Cow::Owned(self.payload.to_vec()), ..*self }
    }
}

/// The segment of a packet; `None` if it is something else, or a fragment of a packet that is not whole by it.
pub(super) fn segment<'a>(packet: &Packet<'a>, fragments: &mut Fragments) -> Option<Segment<'a>> {
    let sliced = sliced(packet.link, packet.data)?;
    let net = sliced.net?;
    if let Some((whole, piece)) = fragment(&net) {
        let (from, to) = (whole.from, whole.to);
        let payload = (whole.protocol == IpNumber::TCP).then(|| fragments.add(whole, piece, packet.unix_nanos))??;
        return Some(of_tcp((from, to), &TcpSlice::from_slice(&payload).ok()?).to_owned());
    }
    let addresses = match net {
        LaxNetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
        LaxNetSlice::Arp(_) => return None,
    };
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { return None };
    Some(of_tcp(addresses, &tcp))
}

/// What a fragment is, and of what; `None` if the packet is whole.
fn fragment<'a>(net: &LaxNetSlice<'a>) -> Option<(Whole, Piece<'a>)> {
    match net {
        LaxNetSlice::Ipv4(ip) if ip.payload().fragmented => {
            let header = ip.header();
            let (from, to) = (header.source_addr().into(), header.destination_addr().into());
            let (identification, protocol) = (header.identification().into(), header.protocol());
            let (offset, more) = (header.fragments_offset(), header.more_fragments());
            let whole = Whole { from, to, identification, protocol };
            Some((whole, Piece { offset, more, payload: ip.payload().payload }))
        }
        LaxNetSlice::Ipv6(ip) if ip.payload().fragmented => {
            let header = ip.header();
            let (from, to) = (header.source_addr().into(), header.destination_addr().into());
            let fragment = ip.extensions().clone().into_iter().find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(fragment) => Some(fragment.to_header()),
                _ => None,
            })?;
            let Ipv6FragmentHeader { next_header: protocol, fragment_offset, more_fragments, identification } =
                fragment;
            let whole = Whole { from, to, identification, protocol };
            Some((whole, Piece { offset: fragment_offset, more: more_fragments, payload: ip.payload().payload }))
        }
        _ => None,
    }
}

fn of_tcp<'a>((from, to): (IpAddr, IpAddr), tcp: &TcpSlice<'a>) -> Segment<'a> {
    Segment {
        from: SocketAddr::new(from, tcp.source_port()),
        to: SocketAddr::new(to, tcp.destination_port()),
        sequence: tcp.sequence_number(),
        acknowledged: tcp.ack().then(|| tcp.acknowledgment_number()),
        syn: tcp.syn(),
        fin: tcp.fin(),
        rst: tcp.rst(),
        payload: tcp.payload().into(),
    }
}

fn sliced(link: Linktype, data: &[u8]) -> Option<LaxSlicedPacket<'_>> {
    match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype::LINUX_SLL => typed(data.get(14..16)?, data.get(16..)?),
        Linktype::LINUX_SLL2 => typed(data.get(..2)?, data.get(20..)?),
        // Four bytes for the protocol, in the byte order of whoever captured it; the IP header says it again.
        Linktype::NULL | Linktype::LOOP => LaxSlicedPacket::from_ip(data.get(4..)?).ok(),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | RAW_OF_BSD | RAW_OF_OPENBSD => {
            LaxSlicedPacket::from_ip(data).ok()
        }
        _ => None,
    }
}

/// Behind a header that ends with, or has, an Ethernet type.
fn typed<'a>(ether_type: &[u8], rest: &'a [u8]) -> Option<LaxSlicedPacket<'a>> {
    let ether_type = u16::from_be_bytes(*ether_type.first_chunk()?);
    Some(LaxSlicedPacket::from_ether_type(EtherType(ether_type), rest))
}

/// What some systems write for raw IP, which is their own number of it.
const RAW_OF_BSD: Linktype = Linktype(12);
const RAW_OF_OPENBSD: Linktype = Linktype(14);
