//! `mongotap demo`: the whole of it on one machine, with nothing else installed.
//!
//! A server that answers from the recording in `fixtures/`, a proxy before it with its log on stdout, and a small
//! application through the proxy. Nothing that is printed of the application's work is written here: it is what passed.

mod record;
mod shop;

pub use record::record;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;

use super::{Code, Error, print};
use crate::capture::fixture::{Fixture, Header};
use crate::config::{Config, Endpoint, Log, Target};
use crate::net::Proxy;
use crate::net::client::{Client, ClientError, Options};
use crate::net::serve::{Listening, Server};
use crate::net::signals::Ending;
use crate::replay::{Identity, Recorded, Recording, Replaying, Settings};
use crate::sink::EventKind;

/// The recording that is in the program.
pub const FIXTURE: &str = include_str!("../../../fixtures/demo.jsonl");

/// While the proxy stays up, its log has this long to print what has passed before more is said.
const SETTLE: Duration = Duration::from_millis(200);

/// The arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Stay up afterwards, to be connected to
    #[arg(long)]
    stay: bool,
}

/// Runs the demo.
///
/// # Errors
/// If a socket is not to be had, or stdout cannot be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(network)?;
    runtime.block_on(async {
        // From now on, so that whoever has read what is printed may end it.
        let ending = if args.stay { Some(Ending::listen().map_err(network)?) } else { None };
        let stay = ending.map(|mut ending| async move { _ = ending.wait().await });
        let mut log = Log::to(Target::Stdout);
        if stay.is_none() {
            // The shop's client has no view of a deployment worth telling of.
            log.events = vec![EventKind::Command];
        }
        run_with(FIXTURE, log, &mut print, stay).await
    })
}

/// Runs the demo with a recording of the shop's work. `log` is the proxy's; `print` is given what else there is to say.
/// With `stay`, server and proxy stay until that is ready.
///
/// # Errors
/// If the recording is none, a socket or the log is not to be had, or `print` fails.
pub async fn run_with(
    fixture: &str,
    log: Log,
    print: &mut dyn FnMut(&str) -> Result<(), Error>,
    stay: Option<impl Future<Output = ()>>,
) -> Result<(), Error> {
    let fixture = Fixture::parse(fixture).map_err(|error| Error::new(Code::Input, format!("fixture: {error}")))?;
    print(&introduction(&fixture.header))?;
    let upstream = serve(fixture).map_err(network)?;
    let proxy = Proxy::builder().upstream(&format!("mongodb://{}", upstream.endpoint().in_uri())).log(log);
    let proxy = proxy.start().await?;
    shop_at(&proxy.endpoint()).await.map_err(|error| Error::new(Code::Io, format!("the shop: {error}")))?;
    if let Some(stay) = stay {
        tokio::time::sleep(SETTLE).await;
        print(&invitation(&proxy.uri()))?;
        stay.await;
    }
    let ended = proxy.shutdown().await;
    upstream.shutdown().await;
    print(&format!("\n{}\n{}", ended.statistics.table(), advice()))
}

/// The server that answers from a recording.
fn serve(fixture: Fixture) -> std::io::Result<Server> {
    let listening = Listening::bind(&Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 })?;
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let hello = RawDocumentBuf::from_bytes(fixture.header.hello.clone()).map_err(invalid)?;
    let address = listening.endpoint().to_address();
    let identity = Arc::new(Identity::new(hello, fixture.header.server.clone(), ObjectId::new(), address));
    let recording = Recording::new(fixture.exchanges, Settings::default());
    let replaying = Arc::new(Replaying::new(Arc::new(recording)));
    listening.serve(move |number| Recorded::new(Arc::clone(&replaying), Arc::clone(&identity), number))
}

async fn shop_at(endpoint: &Endpoint) -> Result<(), ClientError> {
    let options = Options { app_name: "shop".to_owned(), ..Options::default() };
    let mut client = Client::connect(endpoint, &options).await?;
    shop::work(&mut client, &mut |_, _| {}).await
}

fn network(error: std::io::Error) -> Error {
    Error::new(Code::Io, format!("cannot start: {error}"))
}

fn introduction(header: &Header) -> String {
    format!(
        "A small shop talks to MongoDB through mongotap, and these are its commands as they pass.\n\
         (The server is a recording of MongoDB {}, made with: {})\n\n",
        header.server, header.recorded_with
    )
}

fn invitation(uri: &str) -> String {
    format!(
        "\nServer and proxy stay up until Ctrl-C. Ask what the shop asked, and watch it pass here:\n  \
         mongosh '{uri}' --eval 'db.getSiblingDB(\"{}\").orders.find({{status: \"paid\"}}).batchSize(2)'\n\n",
        shop::DATABASE
    )
}

fn advice() -> String {
    let Config { listen, upstream, .. } = Config::default();
    format!(
        "Now with your own application: start the proxy beside its server, and give it the proxy's URI.\n  \
         mongotap proxy --upstream {upstream}\n  \
         mongodb://{}/?directConnection=true\n",
        listen.in_uri()
    )
}
