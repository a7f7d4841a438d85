//! Replies to `hello` with other names: nothing but names and the lengths around them changes.

use bytes::BytesMut;
use mongotap::topology::rewrite::{Names, RewriteError, rewrite};
use mongotap::wire::Message;

use super::checks::normal;

/// Puts a letter before each name, or takes it away.
struct Letter {
    adds: bool,
    asked: usize,
}

impl Names for Letter {
    type Error = &'static str;

    fn answers_for(&mut self, _: &str) -> Result<(), Self::Error> {
        Ok(())
    }

    fn answers_as(&mut self, _: &str) {}

    fn name_for(&mut self, member: &str) -> Result<String, Self::Error> {
        self.asked += 1;
        if self.adds {
            return Ok(format!("x{member}"));
        }
        member.strip_prefix('x').map(str::to_owned).ok_or("a name that was not given")
    }
}

type Rewritten = (Result<Option<BytesMut>, RewriteError<&'static str>>, usize);

fn renamed(frame: &[u8], adds: bool) -> Rewritten {
    let mut names = Letter { adds, asked: 0 };
    let rewritten = rewrite(frame, INFLATE_MAX, &mut names);
    (rewritten, names.asked)
}

/// One message.
pub(super) fn rewriting(bytes: &[u8]) {
    let (there, asked) = renamed(bytes, true);
    let Ok(there) = there else { return };
    assert_eq!(there.is_some(), asked > 0, "a name was left as it is, or changed unasked");
    let Some(there) = there else { return };
    let (back, again) = renamed(&there, false);
    assert_eq!(again, asked);
    let back = back.unwrap().expect("a letter is taken away");
    let (before, after) = (plain(bytes), plain(&back));
    // What is in the checksum's place has been computed anew, as has what was too long.
    let end = before.len().min(after.len()) - 4;
    assert_eq!(before[4..end], after[4..end]);
    assert_eq!(before.len(), after.len());
}

/// The message out of its compression.
fn plain(frame: &[u8]) -> Vec<u8> {
    let (header, message) = Message::decode(frame).unwrap();
    let Message::Compressed(compressed) = message else { return normal(frame, header.op_code) };
    let mut inside = Vec::new();
    compressed.inflate(&header, INFLATE_MAX, &mut inside).unwrap();
    normal(&inside, compressed.original_op_code)
}

const INFLATE_MAX: usize = 1 << 16;
