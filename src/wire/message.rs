//! Any message, by its opcode.

use super::{
    Header, OpCode, OpCompressed, OpDelete, OpGetMore, OpInsert, OpKillCursors, OpMsg, OpQuery, OpReply, OpUpdate,
    Reader, WireError,
};

/// A decoded message. What is compressed stays so: see [`OpCompressed::inflate`].
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "one variant an opcode, documented there")]
pub enum Message<'a> {
    Compressed(OpCompressed<'a>),
    Delete(OpDelete<'a>),
    GetMore(OpGetMore<'a>),
    Insert(OpInsert<'a>),
    KillCursors(OpKillCursors<'a>),
    Msg(OpMsg<'a>),
    Query(OpQuery<'a>),
    Reply(OpReply<'a>),
    Update(OpUpdate<'a>),
}

impl<'a> Message<'a> {
    /// Reads a whole message: as many bytes as its header says.
    ///
    /// # Errors
    /// If the bytes are not what the opcode wants, or the opcode is not known.
    pub fn decode(frame: &'a [u8]) -> Result<(Header, Self), WireError> {
        let header = Header::decode(&mut Reader::new(frame))?;
        let message = match header.op_code {
            OpCode::Compressed => Self::Compressed(OpCompressed::decode(frame)?),
            OpCode::Delete => Self::Delete(OpDelete::decode(frame)?),
            OpCode::GetMore => Self::GetMore(OpGetMore::decode(frame)?),
            OpCode::Insert => Self::Insert(OpInsert::decode(frame)?),
            OpCode::KillCursors => Self::KillCursors(OpKillCursors::decode(frame)?),
            OpCode::Msg => Self::Msg(OpMsg::decode(frame)?),
            OpCode::Query => Self::Query(OpQuery::decode(frame)?),
            OpCode::Reply => Self::Reply(OpReply::decode(frame)?),
            OpCode::Update => Self::Update(OpUpdate::decode(frame)?),
            OpCode::Other(code) => return Err(WireError::OpCode(code)),
        };
        Ok((header, message))
    }
}
