//! Records what `mongotap demo` answers from: the demo's own application against a real server.
//!
//! `cargo run --example record_demo -- mongodb://HOST:PORT > fixtures/demo.jsonl` drops the database `shop` of that server
//! first. Recording again gives the same file.

use std::error::Error;

use mongotap::cli::demo::record;
use mongotap::config::Upstream;
use mongotap::net::client::{Client, Options};

#[expect(clippy::print_stdout, reason = "the fixture is its output")]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let uri = std::env::args().nth(1).ok_or("which server? give its mongodb://HOST:PORT")?;
    let mut client = Client::connect(&uri.parse::<Upstream>()?.hosts[0], &Options::default()).await?;
    print!("{}", record(&mut client).await?);
    Ok(())
}
