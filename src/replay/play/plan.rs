//! What of a recording is sent: what is left out, and why, and what would change the data.

use crate::bson::{Elements, find};
use crate::capture::exchange::Exchange;
use crate::event::Phase;
use crate::redact::MARKER;

/// What a recording would do to a server.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Exchanges that are sent.
    pub exchanges: u64,
    /// Those of them that may change data, users, indexes or the server.
    pub writes: u64,
    /// Exchanges whose credentials are not in the recording: they cannot be sent.
    pub without_credentials: u64,
    /// What drivers ask for themselves: handshakes, authentication, monitors, the end of sessions.
    pub of_drivers: u64,
    /// From the first request to the last, in nanoseconds.
    pub nanos: u64,
    first: Option<u64>,
}

/// Why an exchange is not sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeftOut {
    /// A driver asks it for itself.
    OfDriver,
    /// There were credentials in it.
    Credentials,
}

impl Plan {
    /// Counts an exchange.
    pub fn add(&mut self, exchange: &Exchange) {
        match left_out(exchange) {
            Some(LeftOut::OfDriver) => self.of_drivers += 1,
            Some(LeftOut::Credentials) => self.without_credentials += 1,
            None => {
                let at = exchange.at.monotonic_nanos;
                self.exchanges += 1;
                self.writes += u64::from(is_write(&exchange.request));
                self.nanos = at.saturating_sub(*self.first.get_or_insert(at));
            }
        }
    }
}

/// Why it is not sent; `None` if it is.
pub fn left_out(exchange: &Exchange) -> Option<LeftOut> {
    const OF_DRIVERS: [&str; 11] = [
        "authenticate",
        "endSessions",
        "getnonce",
        "hello",
        "isMaster",
        "ismaster",
        "logout",
        "refreshSessions",
        "saslContinue",
        "saslStart",
        "startSession",
    ];
    if exchange.phase != Phase::App || OF_DRIVERS.contains(&exchange.name()) {
        return Some(LeftOut::OfDriver);
    }
    let is_redacted = memchr::memmem::find(&exchange.request, MARKER.as_bytes()).is_some();
    is_redacted.then_some(LeftOut::Credentials)
}

/// Whether a command may change something: all that are not known to read.
pub fn is_write(request: &[u8]) -> bool {
    const READS: [&[u8]; 36] = [
        b"abortTransaction",
        b"buildInfo",
        b"buildinfo",
        b"collStats",
        b"collstats",
        b"commitTransaction",
        b"connPoolStats",
        b"connectionStatus",
        b"count",
        b"currentOp",
        b"dataSize",
        b"dbHash",
        b"dbStats",
        b"dbstats",
        b"distinct",
        b"explain",
        b"features",
        b"filemd5",
        b"find",
        b"getCmdLineOpts",
        b"getLog",
        b"getMore",
        b"getParameter",
        b"hostInfo",
        b"killCursors",
        b"listCollections",
        b"listCommands",
        b"listDatabases",
        b"listIndexes",
        b"lockInfo",
        b"ping",
        b"replSetGetStatus",
        b"serverStatus",
        b"top",
        b"validate",
        b"whatsmyuri",
    ];
    let Some(first) = Elements::readable(request).next() else { return false };
    match first.name {
        b"aggregate" => has_output_stage(request),
        name => !READS.contains(&name),
    }
}

/// Whether a pipeline writes what it finds somewhere.
fn has_output_stage(request: &[u8]) -> bool {
    let stages = find(request, b"pipeline").and_then(|pipeline| pipeline.as_array()).unwrap_or_default();
    Elements::readable(stages).filter_map(|stage| stage.as_document()).any(|stage| {
        let name = Elements::readable(stage).next().map(|element| element.name);
        matches!(name, Some(b"$out" | b"$merge"))
    })
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    #[test]
    fn what_is_not_known_to_read_is_a_write() {
        let rows = [
            (rawdoc! { "find": "c" }, false),
            (rawdoc! { "insert": "c" }, true),
            (rawdoc! { "findAndModify": "c" }, true),
            (rawdoc! { "aggregate": "c", "pipeline": [{ "$match": {} }] }, false),
            (rawdoc! { "aggregate": "c", "pipeline": [{ "$match": {} }, { "$out": "d" }] }, true),
            (rawdoc! { "aggregate": "c", "pipeline": [{ "$merge": { "into": "d" } }] }, true),
            (rawdoc! { "shutdown": 1 }, true),
            (rawdoc! { "ping": 1 }, false),
        ];
        for (request, expected) in rows {
            assert_eq!(is_write(request.as_bytes()), expected, "{request:?}");
        }
    }
}
