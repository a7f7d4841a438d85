//! What takes long of recording, rendering and copying a long document, done without holding up who else records through
//! the same [`Feed`](super::Feed): on another thread, before the feed is asked.

use std::sync::Arc;

use super::feed::bytes_of;
use crate::capture::mtap::Records;
use crate::event::{Entry, Given, Input};
use crate::redact::Redacted;
use crate::sink::{Filter, Format, Options, Render};

/// Makes things ready for one feed and the capture's. Made by [`Feed::ahead`](super::Feed::ahead).
pub(in crate::net) struct Ahead {
    /// Of each log what renders it; `None` where lines hang on those before them, or are short anyway.
    logs: Vec<Option<(Filter, Box<dyn Render>)>>,
    listeners: Vec<Filter>,
    /// What is no longer is left to the feed.
    most: usize,
}

/// What was made ready of an entry; nothing of one that is not long.
#[derive(Default)]
pub(in crate::net) struct Ready {
    /// Of each log the line.
    pub(super) lines: Vec<Option<Vec<u8>>>,
    /// The listeners' own copy.
    pub(super) owned: Option<Arc<Redacted<Entry<'static>>>>,
}

impl Ahead {
    pub(super) fn new(
        logs: impl Iterator<Item = (Format, Options, Filter)>,
        listeners: impl Iterator<Item = Filter>,
        most: usize,
    ) -> Self {
        let renders = |(format, options, filter): (Format, Options, Filter)| {
            (format == Format::Jsonl).then(|| (filter, format.renderer(&options)))
        };
        Self { logs: logs.map(renders).collect(), listeners: listeners.collect(), most }
    }

    /// What is recorded of an event.
    pub(in crate::net) fn entry(&mut self, entry: &Redacted<Entry<'_>>) -> Ready {
        if bytes_of(&entry.event) <= self.most {
            return Ready::default();
        }
        let render = |log: &mut Option<(Filter, Box<dyn Render>)>| {
            let (_, renderer) = log.as_mut().filter(|(filter, _)| filter.wants(entry))?;
            let mut line = Vec::new();
            renderer.render(entry, &mut line);
            Some(line)
        };
        let is_heard = self.listeners.iter().any(|filter| filter.wants(entry));
        Ready {
            lines: self.logs.iter_mut().map(render).collect(),
            owned: is_heard.then(|| Arc::new(entry.clone().into_owned())),
        }
    }

    /// What is captured of an input, if it is long.
    pub(in crate::net) fn input(&self, input: &Redacted<Input<'_>>) -> Option<Records> {
        match &input.given {
            Given::Message(message) if message.bytes.len() > self.most => {
                let mut records = Records::default();
                records.push(input);
                Some(records)
            }
            _ => None,
        }
    }
}
