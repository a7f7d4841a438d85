//! What the Rust driver's handler of topology events hears while a test does things to the servers; see "Servers and topologies" in
//! `../workload.md`.

use std::{
    env,
    io::{BufRead, Write},
    sync::Arc,
    time::Duration,
};

use mongodb::{
    Client, ServerInfo,
    bson::{Document, doc, oid::ObjectId},
    event::{
        EventHandler,
        sdam::{SdamEvent, TopologyDescription},
    },
    options::ClientOptions,
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time};

use crate::{
    Outcome,
    events::{Events, canonical, micros},
};

pub async fn run() -> Outcome {
    let mut options = ClientOptions::parse(env::var("MONGODB_URI")?).await?;
    options.app_name = Some("mongotap-test-rust".to_owned());
    let file = Arc::new(Events::create(env::var("MONGOTAP_TEST_EVENTS")?)?);
    let commands = Arc::clone(&file);
    options.command_event_handler = Some(EventHandler::callback(move |event| commands.command(event)));
    options.sdam_event_handler = Some(EventHandler::callback(move |event| record(&file, event)));
    let client = Client::with_options(options)?;
    let database = client.database(&env::var("MONGOTAP_TEST_DB")?);

    let mut steps = read_steps();
    while let Some(step) = steps.recv().await {
        let outcome = match step.as_str() {
            "ping" => client.database("admin").run_command(doc! { "ping": 1 }).await.err(),
            "insert" => database.collection::<Document>("topology").insert_one(doc! {}).await.err(),
            other => return Err(format!("{other}: no such step").into()),
        };
        say(&outcome.map_or_else(|| "ok".to_owned(), |error| format!("failed {error}")))?;
    }
    drop(database);
    client.shutdown().await;
    // What monitors say at their end is said by then.
    time::sleep(Duration::from_millis(500)).await;
    say("closed")
}

/// The lines of standard input, read on a thread so that the driver's tasks go on.
fn read_steps() -> mpsc::UnboundedReceiver<String> {
    let (sender, steps) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let lines = std::io::stdin().lock().lines().map_while(Result::ok);
        lines.map_while(|line| sender.send(line.trim().to_owned()).ok()).for_each(drop);
    });
    steps
}

fn say(line: &str) -> Outcome {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

fn record(file: &Events, event: SdamEvent) {
    let id = |id: ObjectId| id.to_hex();
    file.write(match event {
        SdamEvent::ServerOpening(e) => {
            json!({ "event": "serverOpeningEvent", "topologyId": id(e.topology_id), "address": e.address.to_string() })
        }
        SdamEvent::ServerClosed(e) => {
            json!({ "event": "serverClosedEvent", "topologyId": id(e.topology_id), "address": e.address.to_string() })
        }
        SdamEvent::ServerDescriptionChanged(e) => json!({
            "event": "serverDescriptionChangedEvent", "topologyId": id(e.topology_id), "address": e.address.to_string(),
            "previousDescription": server(&e.previous_description), "newDescription": server(&e.new_description),
        }),
        SdamEvent::TopologyOpening(e) => json!({ "event": "topologyOpeningEvent", "topologyId": id(e.topology_id) }),
        SdamEvent::TopologyClosed(e) => json!({ "event": "topologyClosedEvent", "topologyId": id(e.topology_id) }),
        SdamEvent::TopologyDescriptionChanged(e) => json!({
            "event": "topologyDescriptionChangedEvent", "topologyId": id(e.topology_id),
            "previousDescription": topology(&e.previous_description), "newDescription": topology(&e.new_description),
        }),
        SdamEvent::ServerHeartbeatStarted(e) => json!({
            "event": "serverHeartbeatStartedEvent", "connectionId": e.server_address.to_string(), "awaited": e.awaited,
        }),
        SdamEvent::ServerHeartbeatSucceeded(e) => json!({
            "event": "serverHeartbeatSucceededEvent", "connectionId": e.server_address.to_string(), "awaited": e.awaited,
            "durationMicros": micros(e.duration), "reply": canonical(e.reply),
        }),
        SdamEvent::ServerHeartbeatFailed(e) => json!({
            "event": "serverHeartbeatFailedEvent", "connectionId": e.server_address.to_string(), "awaited": e.awaited,
            "durationMicros": micros(e.duration), "failure": e.failure.to_string(),
        }),
        _ => return,
    });
}

/// A server's description, as far as the driver shows it.
fn server(it: &ServerInfo<'_>) -> Value {
    without_nulls(json!({
        "address": it.address().to_string(), "type": it.server_type().to_string(), "setName": it.replica_set_name(),
        "setVersion": it.replica_set_version(), "tags": it.tags(), "minWireVersion": it.min_wire_version(),
        "maxWireVersion": it.max_wire_version(), "error": it.error().map(ToString::to_string),
    }))
}

fn topology(it: &TopologyDescription) -> Value {
    without_nulls(json!({
        "type": it.topology_type().to_string(), "setName": it.set_name(), "maxSetVersion": it.max_set_version(),
        "maxElectionId": it.max_election_id().map(ObjectId::to_hex),
        "servers": it.servers().values().map(|it| server(it)).collect::<Vec<_>>(),
    }))
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    value
}
