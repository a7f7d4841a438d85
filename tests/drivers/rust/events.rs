//! Writes what a client's handlers hear to a file, one JSON object a line.

use std::{fs::File, io::Write, path::Path, sync::Mutex, time::Duration};

use mongodb::{
    bson::{Bson, Document},
    event::command::CommandEvent,
};
use serde_json::{Value, json};

pub struct Events(Mutex<File>);

impl Events {
    pub fn create(path: impl AsRef<Path>) -> std::io::Result<Self> {
        Ok(Self(Mutex::new(File::create(path)?)))
    }

    /// Writes a line; what is null is absent.
    pub fn write(&self, mut line: Value) {
        if let Some(fields) = line.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let mut file = self.0.lock().expect("no handler panics while it writes");
        writeln!(file, "{line}").expect("the events file can be written");
    }

    pub fn command(&self, event: CommandEvent) {
        self.write(match event {
            CommandEvent::Started(e) => json!({
                "event": "commandStartedEvent", "commandName": e.command_name, "databaseName": e.db,
                "requestId": e.request_id, "serverConnectionId": e.connection.server_id,
                "command": canonical(e.command),
            }),
            CommandEvent::Succeeded(e) => json!({
                "event": "commandSucceededEvent", "commandName": e.command_name, "requestId": e.request_id,
                "serverConnectionId": e.connection.server_id, "durationMicros": micros(e.duration),
                "reply": canonical(e.reply),
            }),
            CommandEvent::Failed(e) => {
                let reply = e.failure.server_response().and_then(|reply| Document::try_from(reply).ok());
                json!({
                    "event": "commandFailedEvent", "commandName": e.command_name, "requestId": e.request_id,
                    "serverConnectionId": e.connection.server_id, "durationMicros": micros(e.duration),
                    "failure": reply.map_or_else(|| Value::from(e.failure.to_string()), canonical),
                })
            }
            _ => return,
        });
    }
}

pub fn canonical(document: Document) -> Value {
    Bson::Document(document).into_canonical_extjson()
}

pub fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
