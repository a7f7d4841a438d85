//! Recording the shop's work against a real server: what the demo's fixture is made with.

use bson::raw::{RawDocument, RawDocumentBuf};
use bson::{Bson, Document, rawdoc};

use super::shop;
use crate::capture::fixture::{Header, Writer};
use crate::net::client::{Client, ClientError};
use crate::replay::lasting_hello;

/// How the fixture that is in the program was made; it says so in its header.
const RECORDED_WITH: &str = "cargo run --example record_demo -- mongodb://HOST:PORT";

/// Has the shop work at a server, whose database `shop` is dropped first, and gives the recording: the text of a
/// fixture. Cursors are numbered in the order in which they appear, so that recording again gives the same text.
///
/// # Errors
/// If the connection fails.
pub async fn record(client: &mut Client) -> Result<String, ClientError> {
    let build_info = client.command("admin", rawdoc! { "buildInfo": 1 }).await?;
    client.command(shop::DATABASE, rawdoc! { "dropDatabase": 1 }).await?;
    let header = Header {
        server: build_info.get_str("version").unwrap_or("unknown").to_owned(),
        recorded_with: RECORDED_WITH.to_owned(),
        hello: lasting_hello(client.hello()).into_bytes(),
    };
    let (mut writer, mut cursors) = (Writer::new(&header), Cursors::default());
    shop::work(client, &mut |command, reply| {
        let (command, reply) = cursors.numbered(command, reply);
        writer.exchange(command.as_bytes(), &[reply.as_bytes()]);
    })
    .await?;
    Ok(writer.finish())
}

/// The server's cursor ids, each at the place that is its number, from 1.
#[derive(Default)]
struct Cursors(Vec<i64>);

impl Cursors {
    /// A command and its reply with numbers instead of cursor ids.
    fn numbered(&mut self, command: &RawDocument, reply: &RawDocument) -> (RawDocumentBuf, RawDocumentBuf) {
        let command = changed(command, |command| self.number(command.get_mut("getMore")));
        let reply = changed(reply, |reply| {
            self.number(reply.get_document_mut("cursor").ok().and_then(|cursor| cursor.get_mut("id")));
        });
        (command, reply)
    }

    /// Puts a number in place of an id. 0 is no cursor.
    fn number(&mut self, id: Option<&mut Bson>) {
        let Some(Bson::Int64(id)) = id.filter(|id| **id != Bson::Int64(0)) else { return };
        let place = self.0.iter().position(|known| known == id).unwrap_or_else(|| {
            self.0.push(*id);
            self.0.len() - 1
        });
        *id = i64::try_from(place + 1).unwrap_or(i64::MAX);
    }
}

/// A document after a change; as it was, if it cannot be read.
fn changed(document: &RawDocument, change: impl FnOnce(&mut Document)) -> RawDocumentBuf {
    let Ok(mut tree) = Document::try_from(document) else { return document.to_owned() };
    change(&mut tree);
    RawDocumentBuf::try_from(&tree).unwrap_or_else(|_| document.to_owned())
}
