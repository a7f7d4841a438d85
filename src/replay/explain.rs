//! What was overlooked and bound in a request that was answered.

use std::fmt;

use crate::capture::exchange::Place;

/// How a request came by its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The command's name.
    pub command: String,
    /// `database.collection`, or the database alone.
    pub namespace: String,
    /// The recorded exchange that answered.
    pub place: Place,
    /// Each place of the request where it need not be as it was recorded.
    pub notes: Vec<Note>,
}

/// A place that need not be as it was recorded.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Note {
    /// Names and positions with dots between.
    pub path: String,
    /// Why.
    pub why: Why,
}

/// Why a place need not be as it was recorded.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Why {
    /// It never counts: `lsid`, `$clusterTime` and their like.
    Varies,
    /// `[replay] ignore` names it.
    Ignored,
    /// A `maxTimeMS` that a driver computed from the time that was left.
    Computed,
    /// A value that stands for the recorded one, from now on or already.
    Bound,
    /// A date as far from its exchange's time as the recorded one.
    Date,
    /// A cursor of this run.
    Cursor,
    /// The fields of a document, in another order.
    Order,
    /// A field whose values were taken out of the recording, and so of the request.
    Redacted,
}

impl Why {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Varies => "varies",
            Self::Ignored => "ignored",
            Self::Computed => "computed",
            Self::Bound => "bound",
            Self::Date => "date",
            Self::Cursor => "cursor",
            Self::Order => "order",
            Self::Redacted => "redacted",
        }
    }
}

/// `find shop.orders: exchange 12; bound filter._id; varies lsid`
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.command, self.namespace, self.place)?;
        self.notes.iter().try_for_each(|note| write!(f, "; {} {}", note.why.as_str(), note.path))
    }
}
