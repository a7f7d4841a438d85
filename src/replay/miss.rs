//! A request that has no answer in the recording: what came closest, where it differs, and what would mend it.

use std::fmt;

use bson::raw::RawDocumentBuf;
use bson::rawdoc;

use super::difference::Difference;
use crate::capture::exchange::Place;

/// The error's `code` in a reply.
pub const CODE: i32 = 27027;

/// The error's `codeName`.
pub const CODE_NAME: &str = "ReplayMiss";

/// A request without an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Miss {
    /// The command's name.
    pub command: String,
    /// `database.collection`, or the database alone.
    pub namespace: String,
    /// The command without what never counts, shortened, as JSON.
    pub request: String,
    /// Why there is no answer, where that is not told by a nearest exchange.
    pub reason: Option<String>,
    /// The recorded request that comes closest.
    pub nearest: Option<Nearest>,
    /// What would mend it: a line of `[replay]`, or what to do.
    pub hint: Option<String>,
}

/// A recorded request that is much like one that was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Nearest {
    /// Where it is.
    pub place: Place,
    /// The first differences: `first` is what was recorded, `second` what was asked.
    pub differences: Vec<Difference>,
}

impl Miss {
    /// The error that goes to the client: `ok: 0`, `code` [`CODE`], `codeName` [`CODE_NAME`], and an `errmsg` that begins
    /// with `mongotap replay:`.
    pub fn reply(&self) -> RawDocumentBuf {
        let mut message = format!("mongotap replay: {self}");
        if let Some(hint) = &self.hint {
            message.push_str("\nhint: ");
            message.push_str(hint);
        }
        rawdoc! { "ok": 0.0, "errmsg": message, "code": CODE, "codeName": CODE_NAME }
    }
}

/// `no recorded answer to find on shop.orders: {…}; the nearest is exchange 12: filter.paid is true there and false here`
impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no recorded answer to {} on {}: {}", self.command, self.namespace, self.request)?;
        if let Some(reason) = &self.reason {
            write!(f, "; {reason}")?;
        }
        let Some(nearest) = &self.nearest else { return Ok(()) };
        write!(f, "; the nearest is {}", nearest.place)?;
        for (index, difference) in nearest.differences.iter().enumerate() {
            write!(f, "{} {difference}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}
