//! What lines of the event log share, kept as text: those of a connection, and those of commands with the same names.
//! How the other parts of a line look is `jsonl`'s business.

use std::sync::Arc;

use bson::oid::ObjectId;

use super::jsonl::{number, string};
use crate::bson::json::write_string;
use crate::event::{CommandInfo, Connection, Phase};

/// Commands whose names are kept ready: those of the last lines.
const LABELS_REMEMBERED: usize = 8;

/// Longer ones, in bytes of their text, are nobody's real names: each is forgotten with the next that is new.
const LABEL_LEN_MAX: usize = 4096;

/// What all lines of a connection share.
#[derive(Debug)]
pub(super) struct Constant {
    of: Arc<Connection>,
    /// The address that the client dialled, as a JSON string.
    server: Vec<u8>,
    /// `proxy` up to and with the phase, which was that of the last line.
    proxy: Vec<u8>,
    phase: Phase,
    /// The connection's addresses and numbers as lines of commands have them, and the numbers that are in it.
    ids: Vec<u8>,
    numbers: (Option<i64>, Option<ObjectId>),
}

impl Constant {
    pub(super) fn new(connection: &Arc<Connection>) -> Self {
        let (numbers, phase) = ((None, None), Phase::App);
        let mut server = Vec::new();
        write_string(connection.server.to_string().as_bytes(), &mut server);
        let mut new = Self { of: Arc::clone(connection), server, proxy: Vec::new(), phase, ids: Vec::new(), numbers };
        new.write_proxy(phase);
        new.write_ids(numbers);
        new
    }

    pub(super) fn is_of(&self, connection: &Arc<Connection>) -> bool {
        Arc::ptr_eq(&self.of, connection)
    }

    /// What all connection events have before `proxy`.
    pub(super) fn address(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"address\":");
        out.extend_from_slice(&self.server);
        number(b",\"driverConnectionId\":", self.of.id.0, out);
    }

    /// The beginning of `proxy`, which stays open.
    pub(super) fn proxy(&mut self, phase: Phase, out: &mut Vec<u8>) {
        if self.phase != phase {
            self.write_proxy(phase);
        }
        out.extend_from_slice(&self.proxy);
    }

    /// What all command events have behind `requestId` and before their documents.
    pub(super) fn ids(&mut self, info: &CommandInfo<'_>, out: &mut Vec<u8>) {
        let numbers = (info.server_connection_id, info.service_id);
        if self.numbers != numbers {
            self.write_ids(numbers);
        }
        out.extend_from_slice(&self.ids);
    }

    fn write_proxy(&mut self, phase: Phase) {
        self.phase = phase;
        self.proxy.clear();
        number(b",\"proxy\":{\"connection\":", self.of.id.0, &mut self.proxy);
        string(b",\"client\":", &self.of.client, &mut self.proxy);
        string(b",\"upstream\":", &self.of.upstream, &mut self.proxy);
        string(b",\"phase\":", phase.as_str(), &mut self.proxy);
    }

    fn write_ids(&mut self, numbers: (Option<i64>, Option<ObjectId>)) {
        self.numbers = numbers;
        self.ids.clear();
        self.ids.extend_from_slice(b",\"connectionId\":");
        self.ids.extend_from_slice(&self.server);
        if let Some(id) = numbers.0 {
            number(b",\"serverConnectionId\":", id, &mut self.ids);
        }
        if let Some(id) = numbers.1 {
            string(b",\"serviceId\":", &id.to_hex(), &mut self.ids);
        }
    }
}

/// The names of a command, and how its lines have them.
#[derive(Debug)]
pub(super) struct Label {
    command: String,
    database: String,
    collection: Option<String>,
    /// Up to the value of `requestId`.
    pub(super) names: Vec<u8>,
    /// What is of them in `proxy`: nothing if there is no collection.
    pub(super) in_proxy: Vec<u8>,
}

/// The labels of the last lines, the last of them first.
#[derive(Debug, Default)]
pub(super) struct Labels(Vec<Label>);

impl Labels {
    /// That of a command. One that is not among them takes the place of the last.
    pub(super) fn of(&mut self, info: &CommandInfo<'_>) -> &Label {
        let at = self.0.iter().position(|label| label.is_of(info)).unwrap_or_else(|| self.make(info));
        self.0.swap(0, at);
        &self.0[0]
    }

    #[cold]
    fn make(&mut self, info: &CommandInfo<'_>) -> usize {
        self.0.retain(|label| label.len() <= LABEL_LEN_MAX);
        self.0.truncate(LABELS_REMEMBERED - 1);
        self.0.push(Label::new(info));
        self.0.len() - 1
    }
}

impl Label {
    fn new(info: &CommandInfo<'_>) -> Self {
        let (mut names, mut in_proxy) = (Vec::new(), Vec::new());
        string(b",\"commandName\":", &info.command_name, &mut names);
        string(b",\"databaseName\":", &info.database_name, &mut names);
        names.extend_from_slice(b",\"requestId\":");
        if let Some(collection) = &info.collection {
            string(b",\"collection\":", collection, &mut in_proxy);
        }
        let [command, database] = [&info.command_name, &info.database_name].map(|name| name.clone().into_owned());
        Self { command, database, collection: info.collection.as_deref().map(str::to_owned), names, in_proxy }
    }

    fn is_of(&self, info: &CommandInfo<'_>) -> bool {
        self.command == info.command_name
            && self.collection.as_deref() == info.collection.as_deref()
            && self.database == info.database_name
    }

    fn len(&self) -> usize {
        self.names.len() + self.in_proxy.len()
    }
}

#[cfg(test)]
mod tests {
    use ::bson::rawdoc;

    use super::*;
    use crate::sink::sample::started;

    #[test]
    fn labels_are_bounded_and_their_commands_own() {
        let mut labels = Labels::default();
        for turn in 0..3 {
            for number in 0..2 * LABELS_REMEMBERED {
                let collection = if number == 3 { "c".repeat(1 << 20) } else { format!("c{number}") };
                let start = started(&format!("shop.{collection}"), rawdoc! { "find": &*collection });
                for _ in 0..=turn {
                    let label = labels.of(&start.info);
                    assert_eq!(label.names, b",\"commandName\":\"find\",\"databaseName\":\"shop\",\"requestId\":");
                    assert_eq!(label.in_proxy, format!(",\"collection\":\"{collection}\"").as_bytes());
                }
                assert!(labels.0.len() <= LABELS_REMEMBERED);
            }
            assert!(labels.0.iter().all(|label| label.len() <= LABEL_LEN_MAX));
        }
        let mut start = started("shop", rawdoc! { "ping": 1 });
        assert!(labels.of(&start.info).in_proxy.is_empty());
        start.info.database_name = "other".into();
        assert!(labels.of(&start.info).names.ends_with(b"\"other\",\"requestId\":"));
    }
}
