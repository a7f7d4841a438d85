//! Steady writes with the Rust driver; see "Writer" in `../workload.md`.

use std::{
    env,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use mongodb::{
    Client,
    bson::{Document, doc},
    options::ClientOptions,
};
use tokio::time;

use crate::Outcome;

pub async fn run() -> Outcome {
    let mut options = ClientOptions::parse(env::var("MONGODB_URI")?).await?;
    options.app_name = Some("mongotap-test-rust".to_owned());
    let client = Client::with_options(options)?;
    let collection = client.database(&env::var("MONGOTAP_TEST_DB")?).collection::<Document>("writes_rust");

    let ended = Arc::new(AtomicBool::new(false));
    let end = Arc::clone(&ended);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        end.store(true, Ordering::Relaxed);
    });
    let mut stdout = std::io::stdout();
    for number in 0_i64.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let began = Instant::now();
        let outcome = collection.insert_one(doc! { "_id": number }).await;
        let micros = began.elapsed().as_micros();
        match outcome {
            Ok(_) => writeln!(stdout, "ok {number} {micros}")?,
            Err(error) => writeln!(stdout, "failed {number} {micros} {}", error.to_string().replace('\n', " "))?,
        }
        stdout.flush()?;
        time::sleep(Duration::from_millis(20)).await;
    }
    client.shutdown().await;
    Ok(())
}
