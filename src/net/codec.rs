//! Whole messages from a socket and onto it, for the client and the server that are our own. The proxy does not use this:
//! it forwards bytes before it looks for messages in them.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::Decoder;

use super::stream::Stream;
use crate::wire::{HEADER_LEN, Header, Reader};

/// Finds where messages end.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameDecoder {
    /// The longest message, in bytes. A longer one is an error before room is made for it.
    pub(super) max_message_bytes: usize,
}

impl Decoder for FrameDecoder {
    type Item = Bytes;
    type Error = io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> io::Result<Option<Bytes>> {
        if buffer.len() < HEADER_LEN {
            return Ok(None);
        }
        let header = Header::decode(&mut Reader::new(buffer)).map_err(invalid)?;
        let len = header.checked_len(self.max_message_bytes).map_err(invalid)?;
        if buffer.len() < len {
            buffer.reserve(len - buffer.len());
            return Ok(None);
        }
        Ok(Some(buffer.split_to(len).freeze()))
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// A socket of messages.
#[derive(Debug)]
pub(super) struct Frames {
    stream: Stream,
    buffer: BytesMut,
    decoder: FrameDecoder,
}

impl Frames {
    pub(super) fn new(stream: Stream, max_message_bytes: usize) -> Self {
        Self { stream, buffer: BytesMut::new(), decoder: FrameDecoder { max_message_bytes } }
    }

    /// The next message; `None` when the peer has closed after a whole one. If this is dropped while it waits, nothing
    /// is lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(Some(frame));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return self.decoder.decode_eof(&mut self.buffer);
            }
        }
    }

    /// Sends bytes, whole messages or not.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::OpMsg;

    #[test]
    fn messages_are_cut_where_they_end() {
        let mut bytes = BytesMut::new();
        for id in 1..=2 {
            OpMsg::new(0, bson::rawdoc! { "ping": id }.as_bytes()).encode(id, 0, &mut bytes).unwrap();
        }
        let (all, half) = (bytes.clone(), bytes.len() / 2);
        let mut decoder = FrameDecoder { max_message_bytes: half };
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in &all {
            buffer.extend_from_slice(&[*byte]);
            frames.extend(decoder.decode(&mut buffer).unwrap());
        }
        assert_eq!(frames, [&all[..half], &all[half..]]);
        let mut small = FrameDecoder { max_message_bytes: half - 1 };
        assert_eq!(small.decode(&mut bytes).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(decoder.decode_eof(&mut BytesMut::from(&all[..20])).is_err());
    }
}
