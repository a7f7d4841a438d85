//! The packets of a file, be it pcap or pcapng, with their times and the kind of network they are from.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError as ParserError, create_reader};

use super::PcapError;

/// What is read at once.
const BUFFER_LEN: usize = 256 << 10;

/// No packet with what is around it is longer.
const BUFFER_LEN_MAX: usize = 64 << 20;

/// The first bytes of classic pcap, in both byte orders and with both kinds of times, and of pcapng.
const MAGICS: [[u8; 4]; 5] = [
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0x0a, 0x0d, 0x0d, 0x0a],
];

/// Whether a file that begins so is one of packets.
pub fn is_pcap(first: &[u8]) -> bool {
    MAGICS.iter().any(|magic| first.starts_with(magic))
}

/// A packet as it was captured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'a> {
    /// When, in nanoseconds since 1970.
    pub(super) unix_nanos: i64,
    /// What its first bytes are.
    pub(super) link: Linktype,
    /// The bytes.
    pub(super) data: &'a [u8],
    /// There were more: the end was cut off.
    pub(super) is_cut_off: bool,
}

/// Reads packets one after the other.
pub(super) struct Packets<'r> {
    parser: Box<dyn PcapReaderIterator + 'r>,
    /// What the parser does not tell of: why its file could not be read.
    failure: Failure,
    networks: Networks,
    capacity: usize,
}

type Failure = Arc<Mutex<Option<io::Error>>>;

/// Keeps the error of a reader.
struct Watched<R> {
    input: R,
    failure: Failure,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.input.read(into) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let failed = io::Error::from(error.kind());
                    *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(failed);
                }
                Ok(count) => return Ok(count),
            }
        }
    }
}

/// What the packets of the file are from, and how its times are to be read.
#[derive(Debug, Default)]
struct Networks {
    interfaces: Vec<Interface>,
    /// The time of the packet before: some have none.
    last_nanos: i64,
}

#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    /// Parts of a second that its times count.
    per_second: u64,
    /// To be added, in seconds.
    offset: i64,
}

impl<'r> Packets<'r> {
    pub(super) fn open(input: impl Read + 'r) -> Result<Self, PcapError> {
        let failure = Failure::default();
        let input = Watched { input, failure: Arc::clone(&failure) };
        let parser = create_reader(BUFFER_LEN, input).map_err(|error| {
            let failed = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            failed.map_or_else(|| not_opened(&error), PcapError::Io)
        })?;
        Ok(Self { parser, failure, networks: Networks::default(), capacity: BUFFER_LEN })
    }

    /// How much of the file was read.
    pub(super) fn offset(&self) -> u64 {
        self.parser.consumed() as u64
    }

    /// Gives the next packet; whether there may be more. A file that ends within a packet ends with [`End::Torn`].
    pub(super) fn next(&mut self, take: &mut dyn FnMut(Packet<'_>)) -> Result<Option<End>, PcapError> {
        loop {
            let problem = match self.parser.next() {
                Ok((consumed, block)) => {
                    let packet = self.networks.packet(&block);
                    let is_packet = packet.map(&mut *take).is_some();
                    drop(block);
                    self.parser.consume(consumed);
                    if is_packet {
                        return Ok(None);
                    }
                    continue;
                }
                Err(error) => Problem::from(&error),
            };
            match problem {
                Problem::Eof => return Ok(Some(End::Whole)),
                Problem::Torn => return Ok(Some(End::Torn)),
                Problem::More if self.parser.reader_exhausted() => return Ok(Some(End::Torn)),
                Problem::More => self.refill()?,
                Problem::Small if self.capacity < BUFFER_LEN_MAX => {
                    self.capacity *= 2;
                    self.parser.grow(self.capacity);
                    self.refill()?;
                }
                Problem::Small => return Err(self.damaged("a packet of more than 64 MiB")),
                Problem::Damaged => return Err(self.damaged("no packet can be read here")),
            }
        }
    }

    fn refill(&mut self) -> Result<(), PcapError> {
        let refilled = self.parser.refill().is_ok();
        match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(PcapError::Io(error)),
            None if refilled => Ok(()),
            None => Err(self.damaged("no packet can be read here")),
        }
    }

    fn damaged(&self, what: &str) -> PcapError {
        PcapError::Damaged { offset: self.offset(), what: what.to_owned() }
    }
}

/// How a file of packets ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Whole,
    /// Within a packet: whoever wrote it was stopped.
    Torn,
}

/// Why the parser gives no packet, without what it borrows.
enum Problem {
    Eof,
    Torn,
    More,
    Small,
    Damaged,
}

impl From<&ParserError<&[u8]>> for Problem {
    fn from(error: &ParserError<&[u8]>) -> Self {
        match error {
            ParserError::Eof => Self::Eof,
            ParserError::UnexpectedEof => Self::Torn,
            ParserError::Incomplete(_) => Self::More,
            ParserError::BufferTooSmall => Self::Small,
            _ => Self::Damaged,
        }
    }
}

fn not_opened(error: &ParserError<&[u8]>) -> PcapError {
    match error {
        ParserError::Incomplete(_) => PcapError::Damaged { offset: 0, what: "the file's header is torn".to_owned() },
        _ => PcapError::NotAPcap,
    }
}

/// The parts of a second that times count: a power of ten, or of two if the highest bit is set. Microseconds if it is none
/// that a time could count.
fn per_second(resolution: u8) -> u64 {
    let (base, exponent): (u64, _) = if resolution & 0x80 == 0 { (10, resolution) } else { (2, resolution & 0x7f) };
    base.checked_pow(exponent.into()).unwrap_or(1_000_000)
}

impl Networks {
    /// The packet that a block is; takes note of what others say.
    fn packet<'b>(&mut self, block: &'b PcapBlockOwned<'_>) -> Option<Packet<'b>> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                let per_second = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                self.interfaces = vec![Interface { link: header.network, per_second, offset: 0 }];
                None
            }
            PcapBlockOwned::Legacy(packet) => {
                let interface = self.interfaces.first()?;
                let ticks = u64::from(packet.ts_sec) * interface.per_second + u64::from(packet.ts_usec);
                Some(self.at(*interface, Some(ticks), (packet.data, packet.origlen)))
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                self.interfaces.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                let per_second = per_second(interface.if_tsresol);
                self.interfaces.push(Interface { link: interface.linktype, per_second, offset: interface.ts_offset() });
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let interface = *self.interfaces.get(packet.if_id as usize)?;
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                Some(self.at(interface, Some(ticks), (packet.packet_data(), packet.origlen)))
            }
            PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
                Some(self.at(*self.interfaces.first()?, None, (packet.packet_data(), packet.origlen)))
            }
            PcapBlockOwned::NG(_) => None,
        }
    }

    fn at<'b>(&mut self, interface: Interface, ticks: Option<u64>, (data, length): (&'b [u8], u32)) -> Packet<'b> {
        if let Some(ticks) = ticks {
            let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(interface.per_second);
            let offset = i128::from(interface.offset) * 1_000_000_000;
            self.last_nanos = i64::try_from(nanos as i128 + offset).unwrap_or(i64::MAX);
        }
        let is_cut_off = data.len() < length as usize;
        Packet { unix_nanos: self.last_nanos, link: interface.link, data, is_cut_off }
    }
}
