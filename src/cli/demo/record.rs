//! Recording the shop's work against a real server: what the demo's fixture is made with.

use bson::raw::RawDocument;
use bson::rawdoc;

use super::shop;
use crate::capture::exchange::{Exchange, Place};
use crate::capture::fixture::{Header, Writer, lasting_hello};
use crate::event::Timestamp;
use crate::net::client::{Client, ClientError};

/// How the fixture that is in the program was made; it says so in its header.
const RECORDED_WITH: &str = "cargo run --example record_demo -- mongodb://HOST:PORT";

/// Has the shop work at a server, whose database `shop` is dropped first, and gives the recording: the text of a
/// fixture. Recording again gives the same text.
///
/// # Errors
/// If the connection fails.
pub async fn record(client: &mut Client) -> Result<String, ClientError> {
    let build_info = client.command("admin", rawdoc! { "buildInfo": 1 }).await?;
    client.command(shop::DATABASE, rawdoc! { "dropDatabase": 1 }).await?;
    let header = Header {
        server: build_info.get_str("version").unwrap_or("unknown").to_owned(),
        recorded_with: RECORDED_WITH.to_owned(),
        redacted: false,
        redact: Vec::new(),
        hello: lasting_hello(client.hello()).into_bytes(),
    };
    let mut writer = Writer::new(&header);
    shop::work(client, &mut |command, reply| writer.exchange(&exchange(command, reply))).await?;
    Ok(writer.finish())
}

/// What was asked and answered, at no time: there are no dates of the day in it.
fn exchange(command: &RawDocument, reply: &RawDocument) -> Exchange {
    let [command, reply] = [command, reply].map(|document| document.as_bytes().to_vec());
    Exchange::new(Place::Line(0), Timestamp::default(), command, [reply])
}
