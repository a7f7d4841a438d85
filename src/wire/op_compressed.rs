//! `OP_COMPRESSED` (2012): another message, its header apart, compressed.

use std::io::{Read, Write};

use bytes::{BufMut, BytesMut};

use super::{HEADER_LEN, Header, LengthPrefix, OpCode, Reader, WireError};

/// The compressor of an `OP_COMPRESSED` message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Compressor {
    /// Id 0: a plain copy.
    Noop,
    /// Id 1: snappy's raw format.
    Snappy,
    /// Id 2: a zlib stream.
    Zlib,
    /// Id 3: a zstd frame.
    Zstd,
}

impl Compressor {
    /// The name that `hello` uses: `noop`, `snappy`, `zlib`, `zstd`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "noop",
            Self::Snappy => "snappy",
            Self::Zlib => "zlib",
            Self::Zstd => "zstd",
        }
    }

    /// The compressor of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Noop, Self::Snappy, Self::Zlib, Self::Zstd].into_iter().find(|it| it.as_str() == name)
    }

    fn from_id(id: u8) -> Result<Self, WireError> {
        match id {
            0 => Ok(Self::Noop),
            1 => Ok(Self::Snappy),
            2 => Ok(Self::Zlib),
            3 => Ok(Self::Zstd),
            other => Err(WireError::Compressor(other)),
        }
    }

    fn id(self) -> u8 {
        match self {
            Self::Noop => 0,
            Self::Snappy => 1,
            Self::Zlib => 2,
            Self::Zstd => 3,
        }
    }
}

/// A decoded `OP_COMPRESSED`, not yet inflated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OpCompressed<'a> {
    /// The opcode of the message inside.
    pub original_op_code: OpCode,
    /// The length of the message inside, without its header.
    pub uncompressed_size: i32,
    /// What it is compressed with.
    pub compressor: Compressor,
    /// The compressed bytes.
    pub compressed: &'a [u8],
}

impl<'a> OpCompressed<'a> {
    /// Reads a whole message.
    ///
    /// # Errors
    /// If it is too short, nested, or of a compressor that is not assigned.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(frame);
        reader.take("header", HEADER_LEN)?;
        let message = Self {
            original_op_code: OpCode::from_i32(reader.i32_le("originalOpcode")?),
            uncompressed_size: reader.i32_le("uncompressedSize")?,
            compressor: Compressor::from_id(reader.u8("compressorId")?)?,
            compressed: reader.rest(),
        };
        if message.original_op_code == OpCode::Compressed {
            return Err(WireError::NestedCompression);
        }
        Ok(message)
    }

    /// Writes into `out` the message inside, with the header it would have had. `header` is the outer one.
    ///
    /// Never writes more than the announced size and one byte, and nothing if that is over `limit`.
    ///
    /// # Errors
    /// If the announced size is over `limit` or not the real one, or the bytes are not the compressor's.
    pub fn inflate(&self, header: &Header, limit: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        let announced = self.uncompressed_size;
        let size = usize::try_from(announced).map_err(|_| WireError::InflatedLength { announced })?;
        let whole = size + HEADER_LEN;
        if whole > limit {
            return Err(WireError::InflatedTooLong { announced, limit });
        }
        out.clear();
        let length = i32::try_from(whole).map_err(|_| WireError::TooLong)?;
        for field in [length, header.request_id, header.response_to, self.original_op_code.as_i32()] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        self.inflate_body(size, out)?;
        if out.len() == whole { Ok(()) } else { Err(WireError::InflatedLength { announced }) }
    }

    /// The first four bytes of what is inside, the flags of an `OP_MSG`, without inflating the rest; `None` if they cannot
    /// be had.
    pub fn first_four_bytes(&self) -> Option<[u8; 4]> {
        let mut first = [0; 4];
        match self.compressor {
            Compressor::Noop => return self.compressed.first_chunk().copied(),
            Compressor::Snappy => return snappy_literal(self.compressed)?.first_chunk().copied(),
            Compressor::Zlib => flate2::read::ZlibDecoder::new(self.compressed).read_exact(&mut first).ok()?,
            Compressor::Zstd => zstd::stream::read::Decoder::new(self.compressed).ok()?.read_exact(&mut first).ok()?,
        }
        Some(first)
    }

    fn inflate_body(&self, size: usize, out: &mut Vec<u8>) -> Result<(), WireError> {
        // One byte more than announced is enough to see that there is more.
        let most = size as u64 + 1;
        let failed = || WireError::Inflate(self.compressor.as_str());
        match self.compressor {
            Compressor::Noop if self.compressed.len() != size => {
                return Err(WireError::InflatedLength { announced: self.uncompressed_size });
            }
            Compressor::Noop => out.extend_from_slice(self.compressed),
            Compressor::Snappy => {
                if snap::raw::decompress_len(self.compressed).ok() != Some(size) {
                    return Err(WireError::InflatedLength { announced: self.uncompressed_size });
                }
                out.resize(HEADER_LEN + size, 0);
                let body = out.get_mut(HEADER_LEN..).unwrap_or_default();
                snap::raw::Decoder::new().decompress(self.compressed, body).map_err(|_| failed())?;
            }
            Compressor::Zlib => {
                let mut decoder = flate2::read::ZlibDecoder::new(self.compressed).take(most);
                decoder.read_to_end(out).map_err(|_| failed())?;
            }
            Compressor::Zstd if zstd_says_otherwise(self.compressed, size) => {
                return Err(WireError::InflatedLength { announced: self.uncompressed_size });
            }
            Compressor::Zstd => inflate_zstd(self.compressed, size, out).map_err(|()| failed())?,
        }
        Ok(())
    }
}

/// Whether this is one frame that says it holds another size: known before there is room for what is announced.
fn zstd_says_otherwise(compressed: &[u8], size: usize) -> bool {
    let is_one = zstd::zstd_safe::find_frame_compressed_size(compressed) == Ok(compressed.len());
    let stated = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
    is_one && stated.is_some_and(|stated| stated != size as u64)
}

/// The literal that raw snappy data begin with, for nothing can be copied before there is something: after the length, a
/// varint, a tag whose upper six bits are the literal's length less one, or from 60 on how many bytes hold that.
fn snappy_literal(compressed: &[u8]) -> Option<&[u8]> {
    let length_end = compressed.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (tag, rest) = compressed.get(length_end..)?.split_first()?;
    let length_bytes = usize::from(tag >> 2).saturating_sub(59);
    if tag & 3 == 0 { rest.get(length_bytes..) } else { None }
}

thread_local! {
    /// A zstd context is some hundred kilobytes: one a thread is made once.
    static ZSTD: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { std::cell::RefCell::new(None) };
}

fn inflate_zstd(compressed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), ()> {
    let start = out.len();
    out.resize(start + size, 0);
    let written = ZSTD.with_borrow_mut(|context| {
        if context.is_none() {
            *context = Some(zstd::bulk::Decompressor::new().map_err(|_| ())?);
        }
        let decompressor = context.as_mut().ok_or(())?;
        let room = out.get_mut(start..).unwrap_or_default();
        decompressor.decompress_to_buffer(compressed, room).map_err(|_| ())
    })?;
    out.truncate(start + written);
    Ok(())
}

/// Writes `frame`, a whole message, as an `OP_COMPRESSED`.
///
/// # Errors
/// If `frame` is no message, or is compressed already, or compression fails for want of memory.
pub fn compress(frame: &[u8], compressor: Compressor, dst: &mut BytesMut) -> Result<(), WireError> {
    let mut reader = Reader::new(frame);
    let header = Header::decode(&mut reader)?;
    if header.op_code == OpCode::Compressed {
        return Err(WireError::NestedCompression);
    }
    let body = reader.rest();
    let failed = || WireError::Inflate(compressor.as_str());
    let compressed = match compressor {
        Compressor::Noop => body.to_vec(),
        Compressor::Snappy => snap::raw::Encoder::new().compress_vec(body).map_err(|_| failed())?,
        Compressor::Zlib => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(body).and_then(|()| encoder.finish()).map_err(|_| failed())?
        }
        Compressor::Zstd => zstd::bulk::compress(body, 0).map_err(|_| failed())?,
    };
    let length = LengthPrefix::begin(dst);
    Header::put(header.request_id, header.response_to, OpCode::Compressed, dst);
    dst.put_i32_le(header.op_code.as_i32());
    dst.put_i32_le(i32::try_from(body.len()).map_err(|_| WireError::TooLong)?);
    dst.put_u8(compressor.id());
    dst.put_slice(&compressed);
    length.finish(dst)
}
