//! Which requests belong to a transaction, and which are sent a second time.

use super::digest::Hash;
use super::state::Transaction;
use crate::bson::{find, find_path};

/// The transaction that a command belongs to, and whether it begins with it.
pub(super) fn transaction_of(command: &[u8]) -> Option<(Transaction, bool)> {
    let autocommit = find(command, b"autocommit")?;
    if autocommit.as_bool_truthy() {
        return None;
    }
    let begins = find(command, b"startTransaction").is_some_and(|starts| starts.as_bool_truthy());
    Some((numbered(command)?, begins))
}

/// The session and number of a command that can be sent again: a retryable write, or what belongs to a transaction.
pub(super) fn numbered(command: &[u8]) -> Option<Transaction> {
    let number = find(command, b"txnNumber")?.as_i64()?;
    let mut hash = Hash::default();
    hash.text(session_of(command)?);
    hash.number(number.cast_unsigned().into());
    Some(hash.finish())
}

/// The bytes of the session's id.
fn session_of(command: &[u8]) -> Option<&[u8]> {
    find_path(command, &[b"lsid", b"id"]).or_else(|| find(command, b"lsid")).map(|id| id.value)
}
