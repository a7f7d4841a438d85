//! Which values of a recording differ from one run to the next, and what they are called.
//!
//! An `ObjectId` or a UUID is *born* where it first appears, if that is in the value of a write (`documents` of an
//! insert, `u` of an update, `update` of findAndModify); it is *given* if it first appears in a reply. One that first
//! appears anywhere else is a constant of the program and has no name. A date is born in a write if it lies near a whole
//! number of minutes from the time of its exchange, and given in a reply likewise. From then on every equal value has
//! the name, in requests and replies, at any depth, and so has its text: 24 hexadecimal digits, or a UUID's.

/// A value that can have a name.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Value {
    /// An `ObjectId`.
    ObjectId([u8; 12]),
    /// A binary of subtype 4, or 3.
    Uuid([u8; 16]),
    /// A UTC datetime, in milliseconds since 1970.
    Date(i64),
}

/// Who made a value.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Origin {
    /// The client.
    Born,
    /// The server.
    Given,
}

/// What a value is called: its origin, and its place, from 1, among the values of its origin and type in the order in
/// which they appear.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Name {
    /// Who made it.
    pub origin: Origin,
    /// Its number, from 1.
    pub number: u32,
}
