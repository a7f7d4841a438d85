//! The proxy inside a program: listeners beside the log, and an end that leaves nothing behind.

mod support;

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::doc;
use mongotap::Proxy;
use mongotap::config::{Log, Target};
use mongotap::event::{
    CommandFailed, CommandListener, CommandStarted, CommandSucceeded, Connection, ConnectionClosed, ConnectionCreated,
    ConnectionListener, ConnectionReady, ServerClosed, ServerDescriptionChanged, ServerHeartbeatFailed,
    ServerHeartbeatListener, ServerHeartbeatStarted, ServerHeartbeatSucceeded, ServerListener, ServerOpening,
    TopologyClosed, TopologyDescriptionChanged, TopologyListener, TopologyOpening,
};

use support::client::{Client, is_ok};
use support::mongod::Mongod;
use support::{log, wait_for};

/// What a listener heard: the event's name, the connection, and of a command its exchange.
type Heard = (&'static str, u64, Option<u64>);

/// Tells the test everything.
struct Teller(Sender<Heard>);

impl Teller {
    fn tell(&self, event: &'static str, connection: &Connection, exchange: Option<u64>) {
        // The test may have ended before the listener.
        _ = self.0.send((event, connection.id.0, exchange));
    }
}

impl CommandListener for Teller {
    fn started(&mut self, connection: &Connection, event: &CommandStarted<'_>) {
        self.tell("commandStartedEvent", connection, Some(event.info.exchange.0));
    }

    fn succeeded(&mut self, connection: &Connection, event: &CommandSucceeded<'_>) {
        self.tell("commandSucceededEvent", connection, Some(event.info.exchange.0));
    }

    fn failed(&mut self, connection: &Connection, event: &CommandFailed<'_>) {
        self.tell("commandFailedEvent", connection, Some(event.info.exchange.0));
    }
}

impl ConnectionListener for Teller {
    fn created(&mut self, connection: &Connection, _: &ConnectionCreated) {
        self.tell("connectionCreatedEvent", connection, None);
    }

    fn ready(&mut self, connection: &Connection, _: &ConnectionReady<'_>) {
        self.tell("connectionReadyEvent", connection, None);
    }

    fn closed(&mut self, connection: &Connection, _: &ConnectionClosed) {
        self.tell("connectionClosedEvent", connection, None);
    }
}

/// Tells the test the names of what it hears of servers.
struct Watcher(Sender<(String, String)>);

impl Watcher {
    fn tell(&self, event: &str, what: String) {
        _ = self.0.send((event.to_owned(), what));
    }
}

impl ServerHeartbeatListener for Watcher {
    fn started(&mut self, event: &ServerHeartbeatStarted) {
        self.tell("serverHeartbeatStartedEvent", event.connection_id.to_string());
    }

    fn succeeded(&mut self, event: &ServerHeartbeatSucceeded<'_>) {
        self.tell("serverHeartbeatSucceededEvent", event.connection_id.to_string());
    }

    fn failed(&mut self, event: &ServerHeartbeatFailed<'_>) {
        self.tell("serverHeartbeatFailedEvent", event.connection_id.to_string());
    }
}

impl ServerListener for Watcher {
    fn opened(&mut self, event: &ServerOpening) {
        self.tell("serverOpeningEvent", event.address.to_string());
    }

    fn description_changed(&mut self, event: &ServerDescriptionChanged) {
        self.tell("serverDescriptionChangedEvent", event.new_description.server_type.as_str().to_owned());
    }

    fn closed(&mut self, event: &ServerClosed) {
        self.tell("serverClosedEvent", event.address.to_string());
    }
}

impl TopologyListener for Watcher {
    fn opened(&mut self, event: &TopologyOpening) {
        self.tell("topologyOpeningEvent", event.topology_id.to_hex());
    }

    fn description_changed(&mut self, event: &TopologyDescriptionChanged) {
        self.tell("topologyDescriptionChangedEvent", event.new_description.topology_type.as_str().to_owned());
    }

    fn closed(&mut self, event: &TopologyClosed) {
        self.tell("topologyClosedEvent", event.topology_id.to_hex());
    }
}

/// Panics at the first command.
struct Faulty;

impl CommandListener for Faulty {
    fn started(&mut self, _: &Connection, _: &CommandStarted<'_>) {
        panic!("a listener's own fault");
    }
}

fn listener() -> (Teller, Receiver<Heard>) {
    let (sender, receiver) = channel();
    (Teller(sender), receiver)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime is to be had")
}

/// A few commands on a connection of their own, one of which fails.
fn talk(address: &str) {
    let mut client = Client::handshake(address, "library");
    for n in 0..20 {
        client.command(&doc! { "insert": "c", "documents": [{ "n": n }], "$db": "library" });
    }
    client.command(&doc! { "mongotapNoSuchCommand": 1, "$db": "library" });
}

fn threads_of_the_proxy() -> usize {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux lists threads").flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| name.starts_with("mongotap") || name.starts_with("log ")).count()
}

/// One test at a time: threads are counted, and other tests' proxies have threads too.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn listeners_hear_what_the_log_holds_and_nothing_is_left_behind() {
    let _alone = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.jsonl");
    let (commands, heard_commands) = listener();
    let (connections, heard_connections) = listener();
    let runtime = runtime();
    let address = runtime.block_on(async {
        let proxy = Proxy::builder()
            .upstream(&Mongod::shared().uri())
            .log(Log::to(Target::File(path.clone())))
            .command_listener(Faulty)
            .command_listener(commands)
            .connection_listener(connections)
            .start()
            .await
            .unwrap();
        let address = proxy.endpoint().to_string();
        assert_eq!(proxy.uri(), format!("mongodb://{address}/?directConnection=true"));
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let address = address.clone();
                std::thread::spawn(move || talk(&address))
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        assert!(threads_of_the_proxy() > 0);
        let ended = proxy.shutdown().await;
        assert!(ended.statistics.table().contains("insert"), "{}", ended.statistics.table());
        address
    });
    assert_eq!(threads_of_the_proxy(), 0);
    assert!(Client::try_connect(&address).is_none(), "nothing listens any more");

    let log = log::Log::read(&path);
    let logged = |of_commands: bool| -> Vec<Heard> {
        let kind = if of_commands { "command" } else { "connection" };
        let of_kind = log.records.iter().filter(|record| record.event().starts_with(kind));
        let mut all: Vec<Heard> = of_kind
            .map(|record| {
                let name = NAMES.iter().find(|name| **name == record.event()).unwrap();
                let number = |field| record.proxy_i64(field).map(|number| u64::try_from(number).unwrap());
                (*name, number("connection").unwrap(), number("exchange"))
            })
            .collect();
        // Order holds within a connection.
        all.sort_by_key(|(_, connection, _)| *connection);
        all
    };
    let sorted = |heard: Receiver<Heard>| {
        let mut all: Vec<_> = heard.try_iter().collect();
        all.sort_by_key(|(_, connection, _)| *connection);
        all
    };
    assert_eq!(sorted(heard_commands), logged(true));
    assert_eq!(logged(true).len(), 3 * 2 * 21);
    assert_eq!(sorted(heard_connections), logged(false));
    assert_eq!(logged(false).len(), 3 * 3);
}

#[test]
fn listeners_hear_of_heartbeats_servers_and_topologies() {
    let _alone = alone();
    let (heartbeats, heard_heartbeats) = channel();
    let (servers, heard_servers) = channel();
    let (topologies, heard_topologies) = channel();
    let address = runtime().block_on(async {
        let proxy = Proxy::builder()
            .upstream(&Mongod::shared().uri())
            .heartbeat_listener(Watcher(heartbeats))
            .server_listener(Watcher(servers))
            .topology_listener(Watcher(topologies))
            .start()
            .await
            .unwrap();
        let address = proxy.endpoint().to_string();
        // As a polling monitor does, and then an application.
        let monitor = address.clone();
        let talking = std::thread::spawn(move || {
            let mut client = Client::handshake(&monitor, "library");
            client.command(&doc! { "hello": 1, "$db": "admin" });
            talk(&monitor);
        });
        wait_for("the client to end", Duration::from_secs(30), || talking.is_finished().then_some(()));
        proxy.shutdown().await;
        address
    });
    let all = |heard: Receiver<(String, String)>| heard.try_iter().collect::<Vec<_>>();
    let check = |event: &str| (event.to_owned(), address.clone());
    let beats = [check("serverHeartbeatStartedEvent"), check("serverHeartbeatSucceededEvent")];
    assert_eq!(all(heard_heartbeats), [beats.clone(), beats].concat());
    let changed = ("serverDescriptionChangedEvent".to_owned(), "Standalone".to_owned());
    assert_eq!(all(heard_servers), [check("serverOpeningEvent"), changed, check("serverClosedEvent")]);
    let topologies = all(heard_topologies);
    let names: Vec<_> = topologies.iter().map(|(event, what)| (event.trim_end_matches("Event"), &**what)).collect();
    let id = &*topologies[0].1;
    let changed = "topologyDescriptionChanged";
    let expected = [
        ("topologyOpening", id),
        (changed, "Single"),
        (changed, "Single"),
        (changed, "Unknown"),
        ("topologyClosed", id),
    ];
    assert_eq!(names, expected);
}

const NAMES: [&str; 6] = [
    "commandStartedEvent",
    "commandSucceededEvent",
    "commandFailedEvent",
    "connectionCreatedEvent",
    "connectionReadyEvent",
    "connectionClosedEvent",
];

/// Dropping the handle ends it too, from within a runtime of either kind.
#[test]
fn a_dropped_proxy_ends() {
    let _alone = alone();
    for mut builder in [tokio::runtime::Builder::new_current_thread(), tokio::runtime::Builder::new_multi_thread()] {
        let runtime = builder.enable_all().build().unwrap();
        let address = runtime.block_on(async {
            let proxy = Proxy::builder().upstream(&Mongod::shared().uri()).start().await.unwrap();
            proxy.endpoint().to_string()
        });
        assert!(Client::try_connect(&address).is_none());
    }
}

#[test]
fn a_client_in_the_middle_of_a_command_is_waited_for() {
    let _alone = alone();
    let runtime = runtime();
    let proxy = runtime.block_on(async { Proxy::builder().upstream(&Mongod::shared().uri()).start().await.unwrap() });
    let address = proxy.endpoint().to_string();
    let client = std::thread::spawn(move || {
        let mut client = Client::handshake(&address, "drained");
        client.command(&doc! { "sleep": 1, "millis": 2000, "lock": "none", "$db": "admin" })
    });
    wait_for("the command to be on its way", Duration::from_secs(30), || {
        let running = doc! { "currentOp": 1, "appName": "drained", "command.sleep": 1, "$db": "admin" };
        let reply = Mongod::shared().client().command(&running);
        reply.get_array("inprog").is_ok_and(|all| !all.is_empty()).then_some(())
    });
    let ended = runtime.block_on(proxy.shutdown());
    let reply = client.join().unwrap();
    assert!(is_ok(&reply), "{reply}");
    assert!(ended.statistics.table().contains("sleep"));
}

#[test]
fn what_cannot_be_started_says_why() {
    let _alone = alone();
    let runtime = runtime();
    let message = |builder: mongotap::Builder| match runtime.block_on(builder.start()) {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    };
    let message_of_uri = message(Proxy::builder().upstream("mongodb:/localhost"));
    assert_eq!(message_of_uri, "upstream: \"mongodb:/localhost\" is not a connection string");
    assert!(message(Proxy::builder().listen("localhost")).starts_with("listen: \"localhost\" has no port"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let message = message(Proxy::builder().listen(&address));
    assert!(message.starts_with(&format!("{address}: cannot listen: ")), "{message}");
}
