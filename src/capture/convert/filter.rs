//! A capture of a capture: the records of what is wanted, their messages masked if that is wanted too.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};

use bytes::BytesMut;

use super::select::Selection;
use super::{CaptureWriter, Masking, mask};
use crate::capture::blocks::{Blocks, FileBlock};
use crate::capture::mtap::{CaptureError, Record, Torn};
use crate::capture::part::missing_between;
use crate::event::{Compressor, ConnectionId, Given, GivenMessage, Input, Original, Side, Timestamp};
use crate::redact::Redactor;
use crate::wire::{
    HEADER_LEN, Header, Message, OpCompressed, OpMsg, OpQuery, OpReply, Reader as WireReader, Sequence, WireError,
};

/// Writes the records that are wanted of a capture, from all the files of its run that are given, in any order; `masking`
/// says which values go. Torn ends are left out, and told, with the places of their files; where a file of the run is
/// missing, a record says so.
///
/// # Errors
/// If the one cannot be read, or the other not be written.
pub fn filter_capture<R: Read>(
    files: impl IntoIterator<Item = R>,
    selection: &Selection,
    masking: &Masking,
    out: &mut dyn Write,
) -> Result<Vec<(usize, Torn)>, CaptureError> {
    let mut blocks = Blocks::new(files);
    let Some(mut header) = blocks.header()?.cloned() else { return Ok(blocks.torn().to_vec()) };
    header.redacted |= masking.is_something();
    header.redact.extend(masking.rules());
    let mut writer = CaptureWriter::new(&header, out)?;
    let mut filtering = Filtering {
        selection,
        masks: masking.values,
        redactor: Redactor::new(masking.fields.clone()),
        inflate_max: header.inflate_max_bytes,
        parts: HashMap::new(),
        part: header.part,
        open: HashSet::new(),
        latest: Timestamp::default(),
        goes_on: Timestamp::default(),
    };
    for block in blocks.by_ref() {
        let FileBlock { header, block, .. } = block?;
        if let Some(reason) = filtering.begin_part(header.part) {
            writer.records().push_missing(filtering.latest, 0, 0, &reason);
        }
        for mut record in block.into_records() {
            if filtering.wants(&mut record) {
                writer.records().push_record(&record);
            }
        }
        writer.flush_full()?;
    }
    writer.finish()?;
    Ok(blocks.torn().to_vec())
}

struct Filtering<'s> {
    selection: &'s Selection,
    masks: bool,
    redactor: Redactor,
    inflate_max: usize,
    /// The parts of exhaust streams, and the exchanges that they belong to.
    parts: HashMap<u64, u64>,
    /// Which file of the run is read.
    part: u64,
    /// Connections that are open, as far as was read: what the next file says of them is known.
    open: HashSet<ConnectionId>,
    /// The latest time of a record so far.
    latest: Timestamp,
    /// Where a file is missing, what is read goes on from then, though connections were opened before.
    goes_on: Timestamp,
}

impl Filtering<'_> {
    /// Goes on to a block of that file. What files are missing before it, if some are.
    fn begin_part(&mut self, part: u64) -> Option<String> {
        let missing = missing_between(self.part, part);
        if missing.is_some() {
            self.begin_anew();
        }
        self.part = part;
        missing
    }

    /// Behind a file that is missing the connections that go on have to be told of once more.
    fn begin_anew(&mut self) {
        self.open.clear();
        self.goes_on = self.latest;
    }

    /// Whether a record is wanted; it is masked then.
    fn wants(&mut self, record: &mut Record) -> bool {
        if record.at().monotonic_nanos > self.latest.monotonic_nanos {
            self.latest = record.at();
        }
        match record {
            // A file was missing when this one was made of others.
            Record::Missing { exchanges: 0, bytes: 0, .. } => {
                self.begin_anew();
                true
            }
            Record::Missing { .. } | Record::Ended { .. } => true,
            Record::Carried { at, connection } => {
                if at.monotonic_nanos < self.goes_on.monotonic_nanos {
                    *at = self.goes_on;
                }
                self.open.insert(connection.id) && self.selection.has_connection(connection.id)
            }
            Record::Input(input) => {
                match &input.given {
                    Given::Opened(connection) => _ = self.open.insert(connection.id),
                    Given::Closed { .. } => _ = self.open.remove(&input.connection),
                    _ => {}
                }
                self.selection.has_connection(input.connection) && self.wants_input(input)
            }
        }
    }

    fn wants_input(&mut self, input: &mut Input<'static>) -> bool {
        let at_ms = input.at.unix_micros / 1000;
        let Given::Message(message) = &mut input.given else { return true };
        let Some(own) = message.exchange.map(|it| it.0) else {
            self.masked(message, at_ms);
            return self.selection.has_strays();
        };
        let first = self.parts.remove(&own).unwrap_or(own);
        if let Some(continued) = message.continued {
            self.parts.insert(continued.0, first);
        }
        if self.selection.is_application(first) {
            self.masked(message, at_ms);
        }
        self.selection.has_number(first) || self.selection.has_number(own)
    }

    fn masked(&mut self, message: &mut GivenMessage<'static>, at_ms: i64) {
        self.redactor.recorded(message, self.inflate_max);
        if self.masks {
            self.mask(message, at_ms);
        }
    }

    fn mask(&self, message: &mut GivenMessage<'static>, at_ms: i64) {
        let masked = masked(&message.bytes, message.side, self.inflate_max, at_ms);
        let header = Header::decode(&mut WireReader::new(&message.bytes));
        let length = header.map_or(0, |header| header.message_length);
        let original = message.original.get_or_insert_with(|| Original { length, ..Original::default() });
        match masked {
            Ok((bytes, compressor)) => {
                original.compressor = original.compressor.or(compressor);
                message.bytes = Cow::Owned(bytes);
            }
            // What cannot be read cannot be masked: nothing of it stays but its header.
            Err(error) => {
                original.unread.get_or_insert_with(|| error.to_string().into());
                message.bytes.to_mut().truncate(HEADER_LEN);
            }
        }
    }
}

/// An uncompressed message with its values masked, and what it was compressed with.
fn masked(
    frame: &[u8],
    side: Side,
    inflate_max: usize,
    at_ms: i64,
) -> Result<(Vec<u8>, Option<Compressor>), WireError> {
    let mut inflated = Vec::new();
    let (mut bytes, mut compressor) = (frame, None);
    if let (header, Message::Compressed(OpCompressed { .. })) = Message::decode(frame)? {
        let compressed = OpCompressed::decode(frame)?;
        compressed.inflate(&header, inflate_max, &mut inflated)?;
        (bytes, compressor) = (&inflated, Some(compressed.compressor));
    }
    let (header, message) = Message::decode(bytes)?;
    let (id, to) = (header.request_id, header.response_to);
    let of_side = match side {
        Side::Client => mask::request,
        Side::Server => mask::reply,
    };
    let mut out = BytesMut::new();
    match message {
        Message::Msg(message) => {
            let body = of_side(message.body, at_ms);
            let documents: Vec<Vec<u8>> = message.sequences.iter().map(|it| documents(it, at_ms)).collect();
            let sequences = message.sequences.iter().zip(&documents);
            let sequences = sequences.map(|(it, documents)| Sequence { identifier: it.identifier, documents });
            OpMsg { body: &body, sequences: sequences.collect(), ..message }.encode(id, to, &mut out)?;
        }
        Message::Query(query) => {
            let body = of_side(query.query, at_ms);
            OpQuery { query: &body, ..query }.encode(id, &mut out)?;
        }
        Message::Reply(reply) => {
            let documents: Vec<u8> = reply.iter().flat_map(|document| of_side(document, at_ms)).collect();
            OpReply { documents: &documents, ..reply }.encode(id, to, &mut out)?;
        }
        _ => return Err(WireError::OpCode(header.op_code.as_i32())),
    }
    Ok((out.to_vec(), compressor))
}

fn documents(sequence: &Sequence<'_>, at_ms: i64) -> Vec<u8> {
    sequence.iter().flat_map(|document| mask::document(document, at_ms)).collect()
}
