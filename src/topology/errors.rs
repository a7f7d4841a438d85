//! What an application's error says of a server: that it is about to change its state, that it cannot be reached, or
//! nothing.
//!
//! If an error has a code the code decides, else its message does. Errors of single writes (`writeErrors`) say nothing
//! of the server; a `writeConcernError` does, also in a reply that is `ok`.

use bson::raw::RawDocument;

use super::description::is_ok;
use crate::bson::find;
use crate::event::{SHUTDOWN, error_code, is_state_change};

/// An error on a connection of an application.
#[derive(Clone, Copy, Debug)]
pub struct ApplicationError<'a> {
    /// What went wrong.
    pub kind: ErrorKind<'a>,
    /// How far the connection had come.
    pub stage: Stage,
    /// What [`Topology::generation`](super::Topology::generation) was when the connection was made. An error of a
    /// connection that was made before the pool was last cleared is stale: what it tells is known.
    pub generation: u64,
}

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub enum ErrorKind<'a> {
    /// A command was answered with an error, or with a write concern error: the whole reply.
    Command(&'a RawDocument),
    /// The connection broke, with the reason.
    Network(&'a str),
    /// The client waited too long, with the reason.
    Timeout(&'a str),
}

/// How far a connection has come. The specification has it since November 2025 that a connection which breaks before its
/// `hello` is answered tells of a server that is busy, not of one that is gone: its server stays what it is. Drivers from
/// before that take the server for gone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The `hello` that opens it is not answered yet.
    Establishing,
    /// It authenticates.
    Authenticating,
    /// It is the application's.
    Ready,
}

/// What becomes of a server after an error.
#[derive(Debug, PartialEq)]
pub(super) enum Consequence {
    /// It keeps its description.
    None,
    /// It is Unknown.
    Unknown {
        /// Why.
        error: String,
        /// Its connections are of no use any more.
        clear: bool,
    },
}

impl ApplicationError<'_> {
    /// What follows, if the error is not stale.
    pub(super) fn consequence(&self) -> Consequence {
        let lost = |error: String| Consequence::Unknown { error, clear: true };
        match (self.kind, self.stage) {
            (ErrorKind::Command(reply), stage) => match state_change(reply.as_bytes()) {
                Some(change) => change,
                None if stage == Stage::Authenticating => lost(command_message(reply.as_bytes())),
                None => Consequence::None,
            },
            (ErrorKind::Network(reason), Stage::Ready | Stage::Authenticating)
            | (ErrorKind::Timeout(reason), Stage::Authenticating) => lost(reason.to_owned()),
            (ErrorKind::Network(_) | ErrorKind::Timeout(_), Stage::Establishing)
            | (ErrorKind::Timeout(_), Stage::Ready) => Consequence::None,
        }
    }
}

/// What follows from a reply that says that the server is no primary, or that it is recovering or shutting down.
fn state_change(reply: &[u8]) -> Option<Consequence> {
    let ok = find(reply, b"ok").is_some_and(|ok| is_ok(&ok));
    let write_concern_error = find(reply, b"writeConcernError").and_then(|it| it.as_document());
    let errors = (!ok).then_some(reply).into_iter().chain(write_concern_error);
    errors.filter(|error| changes_state(error)).map(consequence_of).next()
}

fn consequence_of(error: &[u8]) -> Consequence {
    let clear = error_code(error).is_some_and(|code| SHUTDOWN.contains(&code));
    Consequence::Unknown { error: command_message(error), clear }
}

fn changes_state(error: &[u8]) -> bool {
    match error_code(error) {
        Some(code) => is_state_change(code),
        // "not master or secondary" is among the first.
        None => message(error).is_some_and(|it| it.contains("not master") || it.contains("node is recovering")),
    }
}

fn message(error: &[u8]) -> Option<&str> {
    find(error, b"errmsg").and_then(|message| message.as_str())
}

/// An error's name, code and message, as far as it has them: `NotWritablePrimary (10107): not primary`.
pub(super) fn command_message(error: &[u8]) -> String {
    let name = find(error, b"codeName").and_then(|name| name.as_str());
    let message = message(error);
    let what = match (name, error_code(error)) {
        (Some(name), Some(code)) => Some(format!("{name} ({code})")),
        (Some(name), None) => Some(name.to_owned()),
        (None, Some(code)) => Some(format!("code {code}")),
        (None, None) => None,
    };
    match (what, message) {
        (Some(what), Some(message)) => format!("{what}: {message}"),
        (Some(what), None) => what,
        (None, Some(message)) => message.to_owned(),
        (None, None) => "the reply is not ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use ::bson::raw::RawDocumentBuf;
    use ::bson::rawdoc;

    use super::*;

    #[test]
    fn no_other_code_counts() {
        for code in -1..20_000 {
            let counts = [91, 189, 10058, 10107, 11600, 11602, 13435, 13436].contains(&code);
            let consequence = of_command(&rawdoc! { "ok": 0, "code": code }, Stage::Ready);
            assert_eq!(consequence != Consequence::None, counts, "{code}");
        }
    }

    fn of_command(reply: &RawDocumentBuf, stage: Stage) -> Consequence {
        ApplicationError { kind: ErrorKind::Command(reply), stage, generation: 0 }.consequence()
    }

    fn lost(error: &str, clear: bool) -> Consequence {
        Consequence::Unknown { error: error.to_owned(), clear }
    }

    #[test]
    fn the_code_decides_else_the_message() {
        let table = [
            (rawdoc! { "ok": 0, "code": 11600 }, lost("code 11600", true)),
            (rawdoc! { "ok": 0, "code": 91, "codeName": "ShutdownInProgress" }, lost("ShutdownInProgress (91)", true)),
            (rawdoc! { "ok": 0, "code": 10107, "errmsg": "no" }, lost("code 10107: no", false)),
            (rawdoc! { "ok": 0.0, "code": 189_i64, "errmsg": "" }, lost("code 189: ", false)),
            (rawdoc! { "ok": 0, "code": 1, "errmsg": "not master" }, Consequence::None),
            (rawdoc! { "ok": 0, "errmsg": "is not master, it says" }, lost("is not master, it says", false)),
            (rawdoc! { "ok": 0, "errmsg": "not master or secondary" }, lost("not master or secondary", false)),
            (rawdoc! { "ok": 0, "errmsg": "node is recovering" }, lost("node is recovering", false)),
            (rawdoc! { "ok": 0, "errmsg": "not primary" }, Consequence::None),
            (rawdoc! { "errmsg": "not master" }, lost("not master", false)),
            (rawdoc! { "ok": 1, "code": 11600, "errmsg": "not master" }, Consequence::None),
        ];
        for (reply, expected) in table {
            assert_eq!(of_command(&reply, Stage::Ready), expected, "{reply:?}");
        }
    }

    #[test]
    fn write_concern_errors_count_and_write_errors_do_not() {
        let error = || rawdoc! { "code": 91, "errmsg": "off" };
        let table = [
            (rawdoc! { "ok": 1, "writeConcernError": error() }, lost("code 91: off", true)),
            (rawdoc! { "ok": 1, "writeErrors": [error()] }, Consequence::None),
            (rawdoc! { "ok": 1, "writeErrors": [error()], "writeConcernError": { "code": 64 } }, Consequence::None),
            (rawdoc! { "ok": 0, "code": 112, "writeConcernError": error() }, lost("code 91: off", true)),
            (rawdoc! { "ok": 0, "code": 10107, "writeConcernError": error() }, lost("code 10107", false)),
        ];
        for (reply, expected) in table {
            assert_eq!(of_command(&reply, Stage::Ready), expected, "{reply:?}");
        }
    }

    #[test]
    fn how_far_the_connection_had_come_counts() {
        let refused = rawdoc! { "ok": 0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "no" };
        let (network, timeout) = (ErrorKind::Network("broken"), ErrorKind::Timeout("slow"));
        let table = [
            (network, Stage::Establishing, Consequence::None),
            (timeout, Stage::Establishing, Consequence::None),
            (ErrorKind::Command(&refused), Stage::Establishing, Consequence::None),
            (network, Stage::Authenticating, lost("broken", true)),
            (timeout, Stage::Authenticating, lost("slow", true)),
            (ErrorKind::Command(&refused), Stage::Authenticating, lost("AuthenticationFailed (18): no", true)),
            (network, Stage::Ready, lost("broken", true)),
            (timeout, Stage::Ready, Consequence::None),
            (ErrorKind::Command(&refused), Stage::Ready, Consequence::None),
        ];
        for (kind, stage, expected) in table {
            let error = ApplicationError { kind, stage, generation: 0 };
            assert_eq!(error.consequence(), expected, "{error:?}");
        }
        // A server that steps down before it has answered has stepped down.
        assert_eq!(of_command(&rawdoc! { "ok": 0, "code": 189 }, Stage::Establishing), lost("code 189", false));
    }
}
