//! What a server tells of others: the commands that they have asked, in the profiler's documents, in lists of what is
//! being done, and the pipelines of views. Each is gone through by what it says itself.

use std::borrow::Cow;

use super::{At, DEPTH_MAX, Place, Walker, text};
use crate::bson::write::{begin, end, put_name};
use crate::bson::{Element, Elements, Kind, find};
use crate::redact::fields::asked::{Asked, Batch, Command};
use crate::redact::fields::value::TEXT;

/// In so many commands of others one is looked into: servers tell of one, and of what it goes on with. Beyond, it goes.
const OTHERS_MAX: usize = 2;

impl Walker<'_> {
    /// Whether it is a command of others, as a server tells what it does.
    pub(super) fn is_of_others(&self, element: &Element<'_>, at: At) -> bool {
        let is_told = self.is_reply && self.asked.batch == Batch::Anything && at.place == Place::Query;
        is_told
            && match element.kind {
                Kind::Document => matches!(element.name, b"command" | b"originatingCommand"),
                // Of a view.
                Kind::Array => element.name == b"pipeline",
                _ => false,
            }
    }

    /// Takes the values out of such a one, by what it says itself.
    pub(super) fn of_others(&mut self, element: &Element<'_>, at: At, out: &mut Vec<u8>) {
        if self.others == OTHERS_MAX || self.depth == DEPTH_MAX {
            return self.put(element, (Kind::String, text(TEXT)), out);
        }
        if element.kind == Kind::Array {
            return self.of_view(element, out);
        }
        let mut without = Cow::Borrowed(element.value);
        without = self.asked_by_others(element.value).map_or(without, Cow::Owned);
        // It may be no command, but be called so.
        let first = Elements::readable(element.value).next();
        let is_command =
            first.is_some_and(|first| first.name.first() != Some(&b'$')) && find(element.value, b"$db").is_some();
        if at.goes || !is_command {
            let mut walker = Walker::new(self.fields, self.asked);
            (walker.depth, walker.others) = (self.depth + 1, self.others + 1);
            (walker.trail, walker.is_reply) = (self.trail.clone(), true);
            let again = walker.document(&without, at);
            without = again.map_or(without, Cow::Owned);
        }
        self.changed |= *without != *element.value;
        put_name(element.kind, element.name, out);
        out.extend_from_slice(&without);
    }

    fn asked_by_others(&self, command: &[u8]) -> Option<Vec<u8>> {
        let asked = Asked::of(self.fields, &Command::new(command));
        let mut walker = Walker { depth: self.depth + 1, ..Walker::new(self.fields, &asked) };
        asked.may_touch(command).then(|| walker.request(command)).flatten()
    }

    /// A pipeline, as of a command that has it.
    fn of_view(&mut self, element: &Element<'_>, out: &mut Vec<u8>) {
        let mut command = Vec::new();
        let start = begin(&mut command);
        put_name(Kind::Int32, b"aggregate", &mut command);
        command.extend_from_slice(&1_i32.to_le_bytes());
        put_name(element.kind, element.name, &mut command);
        command.extend_from_slice(element.value);
        end(start, &mut command);
        let without = self.asked_by_others(&command);
        let without = without.as_ref().and_then(|without| Some(find(without, element.name)?.value));
        self.changed |= without.is_some();
        put_name(element.kind, element.name, out);
        out.extend_from_slice(without.unwrap_or(element.value));
    }
}
