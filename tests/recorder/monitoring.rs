//! Listeners to heartbeats, servers and topologies.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::rawdoc;
use mongotap::event::{
    Address, Event, Failure, Phase, ServerClosed, ServerDescription, ServerDescriptionChanged, ServerHeartbeatFailed,
    ServerHeartbeatListener, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerListener, ServerOpening,
    ServerType, TopologyClosed, TopologyDescription, TopologyDescriptionChanged, TopologyListener, TopologyOpening,
};
use mongotap::net::recorder::{Feed, Listeners};

use super::bench::{self, Bench, exchange, lines, log, seqs};

/// Tells what it hears.
struct Tell(Sender<String>);

impl Tell {
    fn tell(&self, text: impl Into<String>) {
        self.0.send(text.into()).unwrap();
    }
}

impl ServerHeartbeatListener for Tell {
    fn started(&mut self, event: &ServerHeartbeatStarted) {
        self.tell(format!("asked {}", event.connection_id));
    }

    fn succeeded(&mut self, event: &ServerHeartbeatSucceeded<'_>) {
        let fields = event.reply.raw().unwrap().iter().count();
        self.tell(format!("answered in {:?} with {fields} fields", event.duration));
    }

    fn failed(&mut self, event: &ServerHeartbeatFailed<'_>) {
        self.tell(format!("failed, awaited: {}", event.awaited));
    }
}

impl ServerListener for Tell {
    fn opened(&mut self, event: &ServerOpening) {
        self.tell(format!("opened {}", event.address));
    }

    fn description_changed(&mut self, event: &ServerDescriptionChanged) {
        self.tell(format!("changed to {}", event.new_description.server_type.as_str()));
    }

    fn closed(&mut self, event: &ServerClosed) {
        self.tell(format!("closed {}", event.address));
    }
}

impl TopologyListener for Tell {
    fn opened(&mut self, event: &TopologyOpening) {
        self.tell(format!("opened {}", event.topology_id));
    }

    fn description_changed(&mut self, event: &TopologyDescriptionChanged) {
        self.tell(format!("changed to {} servers", event.new_description.servers.len()));
    }

    fn closed(&mut self, event: &TopologyClosed) {
        self.tell(format!("closed {}", event.topology_id));
    }
}

/// One of each, in a phase whose commands nobody asked for; nine of them.
fn record_all(feed: &mut Feed) {
    let (topology_id, address) = (ObjectId::from_bytes([7; 12]), Address::parse("a:27017"));
    let (connection_id, awaited, duration) = (address.clone(), true, Duration::from_millis(5));
    let failure = Failure::Network { message: "gone".into(), closed_by: None };
    let reply = rawdoc! { "ok": 1.0, "me": "a:27017", "speculativeAuthenticate": {} }.into();
    let unknown = ServerDescription { address: address.clone(), ..ServerDescription::default() };
    let primary = ServerDescription { server_type: ServerType::RSPrimary, ..unknown.clone() };
    let started = ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited };
    let succeeded = ServerHeartbeatSucceeded { connection_id: connection_id.clone(), awaited, duration, reply };
    let topology = TopologyDescription { servers: vec![primary.clone()], ..TopologyDescription::default() };
    let changed = TopologyDescriptionChanged {
        topology_id,
        previous_description: TopologyDescription::default(),
        new_description: topology,
    };
    let server_changed = ServerDescriptionChanged {
        topology_id,
        address: address.clone(),
        previous_description: unknown,
        new_description: primary,
    };
    for event in [
        Event::TopologyOpening(Box::new(TopologyOpening { topology_id })),
        Event::ServerOpening(Box::new(ServerOpening { topology_id, address: address.clone() })),
        Event::ServerHeartbeatStarted(Box::new(started)),
        Event::ServerHeartbeatSucceeded(Box::new(succeeded)),
        Event::ServerDescriptionChanged(Box::new(server_changed)),
        Event::TopologyDescriptionChanged(Box::new(changed)),
        Event::ServerHeartbeatFailed(Box::new(ServerHeartbeatFailed { connection_id, awaited, duration, failure })),
        Event::ServerClosed(Box::new(ServerClosed { topology_id, address })),
        Event::TopologyClosed(Box::new(TopologyClosed { topology_id })),
    ] {
        bench::record(feed, Phase::Monitor, event);
    }
}

#[test]
fn each_kind_is_told_of_its_events_in_log_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let [(heartbeats, heartbeat), (servers, server), (topologies, topology)] =
        [channel(), channel(), channel()].map(|(tell, heard)| (heard, tell));
    let listeners = Listeners {
        heartbeat: vec![Box::new(Tell(heartbeat))],
        server: vec![Box::new(Tell(server))],
        topology: vec![Box::new(Tell(topology))],
        ..Listeners::default()
    };
    let bench = Bench::try_start(&[log(&path)], listeners).unwrap();
    assert_eq!(bench.recorder.max_document_bytes(), 0, "a listener to heartbeats is shown them whole");
    let mut feed = bench.feed();
    exchange(&mut feed, 1, 10);
    record_all(&mut feed);
    drop(feed);
    assert!(
        bench.recorder.statistics().json()["commands"].as_array().unwrap().len() == 1,
        "heartbeats are not counted"
    );
    let totals = bench.stop();
    assert!(totals.iter().all(|total| total.counts.dropped_exchanges == 0));
    let heard: Vec<_> = heartbeats.iter().collect();
    assert_eq!(heard, ["asked a:27017", "answered in 5ms with 2 fields", "failed, awaited: true"]);
    assert_eq!(servers.iter().collect::<Vec<_>>(), ["opened a:27017", "changed to RSPrimary", "closed a:27017"]);
    let id = "070707070707070707070707";
    let expected = [format!("opened {id}"), "changed to 1 servers".to_owned(), format!("closed {id}")];
    assert_eq!(topologies.iter().collect::<Vec<_>>(), expected);
    let lines = lines(&path);
    assert_eq!(seqs(&lines), (0..13).collect::<Vec<_>>());
    let derived = lines.iter().filter(|line| line["proxy"]["derived"] == true).count();
    assert_eq!(derived, 6);
}

/// A heartbeat is told whole or not at all, however full the queue is in between.
#[test]
fn a_slow_listener_loses_whole_heartbeats() {
    struct Held(Tell, Receiver<()>);
    impl ServerHeartbeatListener for Held {
        fn started(&mut self, event: &ServerHeartbeatStarted) {
            _ = self.1.recv();
            ServerHeartbeatListener::started(&mut self.0, event);
        }
        fn succeeded(&mut self, event: &ServerHeartbeatSucceeded<'_>) {
            self.0.succeeded(event);
        }
    }
    let (tell, heard) = channel();
    let (allow, wait) = channel();
    let listener = Box::new(Held(Tell(tell), wait));
    let listeners = Listeners { heartbeat: vec![listener], queue_bytes: 20_000, ..Listeners::default() };
    let bench = Bench::try_start(&[], listeners).unwrap();
    let mut feed = bench.feed();
    for _ in 0..1000 {
        let (connection_id, awaited, duration) = (Address::parse("a:27017"), true, Duration::from_millis(5));
        let started = ServerHeartbeatStarted { connection_id: connection_id.clone(), awaited };
        let reply = rawdoc! { "ok": 1.0, "filler": "x".repeat(100) }.into();
        let succeeded = ServerHeartbeatSucceeded { connection_id, awaited, duration, reply };
        bench::record(&mut feed, Phase::Monitor, Event::ServerHeartbeatStarted(Box::new(started)));
        bench::record(&mut feed, Phase::Monitor, Event::ServerHeartbeatSucceeded(Box::new(succeeded)));
    }
    drop(feed);
    drop(allow); // from here on it is quick
    bench.stop();
    let heard: Vec<String> = heard.iter().collect();
    assert!((10..1000).contains(&heard.len()), "{}", heard.len());
    let whole = ["asked a:27017", "answered in 5ms with 2 fields"];
    assert!(heard.chunks(2).all(|pair| pair == whole), "{heard:?}");
}

/// What waits for a listener that does not get on is bounded, descriptions included.
#[test]
fn a_slow_listener_does_not_fill_the_memory() {
    let (tell, heard) = channel();
    let (allow, wait) = channel();
    let slow = Slow { tell, wait };
    let listeners = Listeners { topology: vec![Box::new(slow)], queue_bytes: 50_000, ..Listeners::default() };
    let bench = Bench::try_start(&[], listeners).unwrap();
    let said = bench.said();
    let mut feed = bench.feed();
    let server = ServerDescription { hosts: vec!["x".repeat(1000)], ..ServerDescription::default() };
    for number in 0..1000 {
        let with = TopologyDescription { servers: vec![server.clone()], ..TopologyDescription::default() };
        let event = TopologyDescriptionChanged {
            topology_id: ObjectId::from_bytes([7; 12]),
            previous_description: TopologyDescription { max_set_version: Some(number), ..with.clone() },
            new_description: with,
        };
        bench::record(&mut feed, Phase::Monitor, Event::TopologyDescriptionChanged(Box::new(event)));
    }
    drop(feed);
    drop(allow); // from here on it is quick
    bench.stop();
    let heard = heard.iter().count();
    assert!((10..100).contains(&heard), "{heard}, each of some 3000 bytes");
    let said = said.lock().unwrap();
    assert!(said[0].starts_with("listener 1 was too slow for ") && said[0].ends_with(" bytes of events"), "{said:?}");
}

/// Waits for permission before each that it hears of.
struct Slow {
    tell: Sender<()>,
    wait: Receiver<()>,
}

impl TopologyListener for Slow {
    fn description_changed(&mut self, _: &TopologyDescriptionChanged) {
        _ = self.wait.recv();
        self.tell.send(()).unwrap();
    }
}
