//! The only door to a sink or a file: [`Redacted`].
//!
//! The Command Monitoring specification ("Security") has the documents of commands that carry credentials replaced by
//! empty ones. Whether a command is one of them is decided where the request is read and remembered until its reply
//! ([`CommandInfo::sensitive`](crate::event::CommandInfo)); what is done about it is here, and nowhere else.

use bson::raw::RawDocumentBuf;
use bson::rawdoc;

use crate::event::{Document, Entry, Event, Failure};

/// Something that has been through the redactor. Only this module can make one, and sinks take nothing else.
#[derive(Clone, Debug)]
pub struct Redacted<T>(T);

impl<T> std::ops::Deref for Redacted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Redacted<Entry<'_>> {
    /// The same entry, free of the buffers it was read from.
    pub fn into_owned(self) -> Redacted<Entry<'static>> {
        Redacted(self.0.into_owned())
    }
}

/// Takes the credentials out of an entry.
///
/// Of a sensitive command the body and the reply become `{}`; of a server's error `code`, `codeName` and `errorLabels`
/// stay; a network error stays as it is, as the specification's tests want it.
pub fn apply(mut entry: Entry<'_>) -> Redacted<Entry<'_>> {
    match &mut entry.event {
        Event::CommandStarted(event) if event.info.sensitive => event.command = Document::empty(),
        Event::CommandSucceeded(event) if event.info.sensitive => event.reply = Document::empty(),
        Event::CommandFailed(event) if event.info.sensitive => {
            if let Failure::Reply(reply) = &mut event.failure {
                *reply = error_only(reply);
            }
        }
        _ => {}
    }
    Redacted(entry)
}

/// What may be shown of a sensitive command's error.
fn error_only(reply: &Document<'_>) -> Document<'static> {
    let mut kept: RawDocumentBuf = rawdoc! {};
    let fields = reply.raw().into_iter().flat_map(|raw| raw.iter()).flatten();
    for (name, value) in fields.filter(|(name, _)| matches!(name.as_str(), "code" | "codeName" | "errorLabels")) {
        kept.append(name, bson::RawBson::from(value));
    }
    kept.into()
}
