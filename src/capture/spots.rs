//! Where in a capture an exchange's documents are, so that they need not be held to be had again.
//!
//! That is told of what is an `OP_MSG`, compressed or not: its document follows from the message alone. What older opcodes
//! ask and answer depends on what else was said, and so does an event that was held back.

use std::ops::Deref;

use super::exchange::{Exchange, Reply};
use super::mtap::{Record, record_at};
use crate::event::{CommandInfo, Document, Given, GivenMessage, Input, Side};
use crate::session::document_of;

/// Where a block is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BlockPlace {
    /// The place of its file among those that were given, from 0.
    pub file: usize,
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes it has there.
    pub len: u32,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spot {
    /// The number of its block, from 0 over all files.
    pub block: u32,
    /// Its place in what the block holds.
    pub place: u32,
}

/// Where the messages of an exchange are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spots {
    /// The request.
    pub request: Spot,
    /// The first reply, if there is one.
    pub reply: Option<Spot>,
    /// Those after it.
    pub more: Vec<Spot>,
}

impl Spots {
    pub(super) fn new(request: Spot) -> Self {
        Self { request, reply: None, more: Vec::new() }
    }

    pub(super) fn add(&mut self, spot: Spot) {
        match self.reply {
            None => self.reply = Some(spot),
            Some(_) => self.more.push(spot),
        }
    }
}

/// The message that a session is reading, and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    spot: Spot,
    begins: Option<u64>,
    ends: Option<u64>,
}

impl Source {
    /// `None` if the document of the message does not follow from it alone.
    pub(super) fn of(input: &Input<'_>, spot: Spot) -> Option<Self> {
        let Given::Message(message) = &input.given else { return None };
        let number = message.exchange.map(|exchange| exchange.0).filter(|_| is_op_msg(message))?;
        Some(match message.side {
            Side::Client => Self { spot, begins: Some(number), ends: None },
            Side::Server => Self { spot, begins: None, ends: Some(number) },
        })
    }

    /// The spot of a command, if it is that of the message.
    pub(super) fn of_request(&self, info: &CommandInfo<'_>, command: &Document<'_>) -> Option<Spot> {
        let is_same = self.begins == Some(info.exchange.0) && command.truncated().is_none();
        is_same.then_some(self.spot)
    }

    /// The spot of a reply, if it is that of the message.
    pub(super) fn of_reply(&self, info: &CommandInfo<'_>, reply: &Document<'_>) -> Option<Spot> {
        let is_same = self.ends == Some(info.exchange.0) && reply.truncated().is_none();
        is_same.then_some(self.spot)
    }
}

fn is_op_msg(message: &GivenMessage<'_>) -> bool {
    const OP_COMPRESSED: i32 = 2012;
    const OP_MSG: i32 = 2013;
    let number = |at: usize| message.bytes.get(at..)?.first_chunk().map(|bytes| i32::from_le_bytes(*bytes));
    let op_code = match number(12) {
        // Its own header is followed by the opcode of what it holds.
        Some(OP_COMPRESSED) => number(16),
        op_code => op_code,
    };
    op_code == Some(OP_MSG) && message.original.as_ref().is_none_or(|original| original.unread.is_none())
}

/// Reads an exchange again: `exchange` is it without its documents, `content` gives what a block holds.
///
/// # Errors
/// In a word, if what is there now is something else.
pub fn read_again<C: Deref<Target = Vec<u8>>>(
    mut exchange: Exchange,
    spots: &Spots,
    mut content: impl FnMut(u32) -> Result<C, String>,
) -> Result<Exchange, String> {
    let mut document = |spot: Spot, side: Side| {
        let content = content(spot.block)?;
        match record_at(&content, spot.place)? {
            Some(Record::Input(Input { given: Given::Message(message), at, connection })) if message.side == side => {
                let document = document_of(&message.bytes).ok_or("a message cannot be read")?;
                Ok::<_, String>((document, at, connection))
            }
            _ => Err("another record is there".to_owned()),
        }
    };
    (exchange.request, exchange.at, exchange.connection) = document(spots.request, Side::Client)?;
    for spot in spots.reply.iter().chain(&spots.more) {
        let (body, at, _) = document(*spot, Side::Server)?;
        exchange.replies.push(Reply { at, body });
    }
    Ok(exchange)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::capture::blocks::Blocks;
    use crate::capture::exchanges::Deriving;
    use crate::capture::mtap::block_content;

    const CAPTURE: &[u8] = include_bytes!("../../fixtures/capture/v1.mtap");

    #[test]
    fn what_is_read_again_is_what_was_read() {
        let mut deriving = Deriving::<()>::default();
        Blocks::new([CAPTURE]).for_each(|block| deriving.push(block.unwrap()));
        deriving.finish();
        let all: Vec<_> = std::iter::from_fn(|| deriving.pop()).collect();
        let blocks = deriving.into_blocks();
        let content = |number: u32| -> Result<Arc<Vec<u8>>, String> {
            let BlockPlace { file: 0, offset, len } = blocks[number as usize] else { panic!() };
            Ok(Arc::new(block_content(&CAPTURE[offset as usize..][..len as usize])?))
        };
        let mut again = 0;
        for found in all {
            let Some(spots) = found.spots else { continue };
            let bare = Exchange { request: Vec::new(), replies: Vec::new(), ..found.exchange.clone() };
            assert_eq!(read_again(bare.clone(), &spots, content).unwrap(), found.exchange);
            again += 1;
            // Another record's place, and no record's.
            let wrong = |place| Spots { request: Spot { place, ..spots.request }, ..spots.clone() };
            let other = spots.reply.map_or(1, |reply| reply.place);
            for place in [other, spots.request.place + 1, u32::MAX] {
                assert!(read_again(bare.clone(), &wrong(place), content).is_err(), "{place}");
            }
        }
        assert!(again >= 12, "{again}");
    }
}
