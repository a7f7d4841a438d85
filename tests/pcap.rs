//! Packets, against the tools that everybody has: what is written tshark decodes, message by message, and what tcpdump
//! captures gives the capture that the proxy wrote of the same connections.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongotap::capture::exchanges::Exchanges;
use mongotap::capture::mtap::{Reader, Record};
use mongotap::capture::pcap::{Summary, read_packets, write_packets};
use mongotap::event::{Connection, ConnectionId, Given, Input, Side};
use rustix::process::{Pid, Signal, kill_process};

use support::mongod::Mongod;
use support::proxy::Proxy;
use support::{manifest, wait_for};

/// Speaks as a driver does: commands, batches, large documents, exhaust, unacknowledged writes, errors.
const PROGRAM: &str = r#"
import sys, pymongo
from pymongo.cursor import CursorType
from pymongo.write_concern import WriteConcern
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=20000) as client:
    collection = client['pcap'][sys.argv[2]]
    collection.drop()
    collection.insert_many([{'_id': n, 'text': 'x' * 300} for n in range(300)])
    assert len(list(collection.find(batch_size=50))) == 300
    assert len(list(collection.find(cursor_type=CursorType.EXHAUST, batch_size=50))) == 300
    collection.with_options(write_concern=WriteConcern(w=0)).insert_one({'_id': -1})
    try:
        collection.insert_one({'_id': 1})
    except pymongo.errors.DuplicateKeyError:
        pass
    collection.insert_one({'large': 'y' * 3000000})
    assert collection.count_documents({}) == 302
"#;

fn python(uri: &str, name: &str) {
    let output = Command::new(manifest::python()).args(["-c", PROGRAM, uri, name]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The messages of each connection of a capture, by its client's address.
type Messages = BTreeMap<String, Vec<(Side, Vec<u8>)>>;

fn messages(capture: &[u8]) -> Messages {
    let mut clients: BTreeMap<ConnectionId, String> = BTreeMap::new();
    let mut messages = Messages::new();
    let mut reader = Reader::new(capture);
    while let Some(records) = reader.next_block().unwrap() {
        for record in records {
            let Record::Input(Input { connection, given, .. }) = record else { continue };
            match given {
                Given::Opened(opened) => {
                    let Connection { client, .. } = &*opened;
                    clients.insert(connection, client.clone());
                }
                Given::Message(message) => {
                    let said = messages.entry(clients[&connection].clone()).or_default();
                    said.push((message.side, message.bytes.into_owned()));
                }
                _ => {}
            }
        }
    }
    messages
}

/// A capture of the program's run through a proxy, and what was captured beside it where the proxy listens.
fn recorded(name: &str, compressor: &str, beside: Option<&Path>) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.mtap");
    let proxy = Proxy::start(&Mongod::shared().uri(), &["--capture", path.to_str().unwrap()]);
    let tcpdump = beside.map(|file| Tcpdump::start(&proxy.address, file));
    python(&format!("mongodb://{}/?directConnection=true&compressors={compressor}", proxy.address), name);
    proxy.wait_until_left();
    proxy.stop();
    drop(tcpdump);
    fs::read(path).unwrap()
}

struct Tcpdump(Child);

impl Tcpdump {
    fn start(address: &str, file: &Path) -> Self {
        let port = address.rsplit(':').next().unwrap();
        let mut command = Command::new("tcpdump");
        command.args(["--interface=lo", "--immediate-mode", "--packet-buffered", "--buffer-size=16384", "-Z", "root"]);
        command.arg("-w").arg(file).args(["tcp", "port", port]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // It writes the header when it listens.
        wait_for("tcpdump to listen", Duration::from_secs(30), || {
            fs::metadata(file).ok().filter(|it| it.len() > 0).map(drop)
        });
        Self(child)
    }
}

impl Drop for Tcpdump {
    fn drop(&mut self) {
        // What the kernel still holds is written at the end.
        let pid = Pid::from_child(&self.0);
        let _ = kill_process(pid, Signal::INT);
        let _ = self.0.wait();
    }
}

fn read(file: &[u8]) -> (Vec<u8>, Summary) {
    let mut capture = Vec::new();
    let summary = read_packets(file, "run", &mut capture).unwrap();
    (capture, summary)
}

/// What tshark prints of a file: a line a packet, of these fields.
fn tshark(file: &Path, port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("tshark");
    command.args(["-d", &format!("tcp.port=={port},mongo")]);
    command.args(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]).arg("-r").arg(file);
    let output = command.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_decodes_what_is_written() {
    if !manifest::has_tool("tshark", "apt install tshark") {
        return;
    }
    for compressor in ["", "zstd"] {
        let capture = recorded(&format!("written_{compressor}"), compressor, None);
        let directory = tempfile::tempdir().unwrap();
        let path: PathBuf = directory.path().join("run.pcapng");
        let written = write_packets(&capture[..], &mut fs::File::create(&path).unwrap()).unwrap();
        let port = *written.ports.first().unwrap();
        let recorded = messages(&capture);

        let of_ours = |at: usize| -> Vec<String> {
            let all = recorded.values().flatten();
            let mut numbers: Vec<_> =
                all.map(|(_, bytes)| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()).to_string()).collect();
            numbers.sort();
            numbers
        };
        for (field, at) in [("mongo.request_id", 4), ("mongo.response_to", 8)] {
            let lines = tshark(&path, port, &["-Y", "mongo", "-T", "fields", "-e", field]);
            let mut theirs: Vec<_> = lines.split(['\n', ',']).filter(|it| !it.is_empty()).map(unsigned).collect();
            theirs.sort();
            assert_eq!(theirs, of_ours(at), "{compressor} {field}");
        }
        let wrong = "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == Bad || ip.checksum.status == Bad";
        assert_eq!(tshark(&path, port, &["-Y", wrong]), "", "{compressor}");
        let streams = tshark(&path, port, &["-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0"]);
        assert_eq!(streams.lines().count() as u64, written.connections);
        let names = tshark(&path, port, &["-Y", "mongo", "-T", "fields", "-e", "mongo.element.name"]);
        assert!(compressor == "zstd" || names.contains("insert"), "{names}");

        let (again, summary) = read(&fs::read(&path).unwrap());
        assert_eq!((messages(&again), summary.lost_count, summary.unasked), (recorded, 0, 0));
    }
}

/// As a signed number.
fn unsigned(number: &str) -> String {
    let number: i64 =
        number.strip_prefix("0x").map_or_else(|| number.parse(), |hex| i64::from_str_radix(hex, 16)).unwrap();
    (number as i32).to_string()
}

#[test]
fn what_tcpdump_captures_is_what_the_proxy_captured() {
    if !manifest::has_tool("tcpdump", "apt install tcpdump") {
        return;
    }
    for compressor in ["", "snappy"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tcpdump.pcap");
        let capture = recorded(&format!("beside_{compressor}"), compressor, Some(&path));
        let (again, summary) = read(&fs::read(&path).unwrap());
        assert_eq!((summary.lost.as_slice(), summary.torn_at), (&[][..], None));
        let (proxys, tcpdumps) = (messages(&capture), messages(&again));
        assert_eq!(proxys.keys().collect::<Vec<_>>(), tcpdumps.keys().collect::<Vec<_>>());
        for (client, said) in &proxys {
            let differs = said.iter().zip(&tcpdumps[client]).position(|(ours, theirs)| ours != theirs);
            assert_eq!((differs, said.len()), (None, tcpdumps[client].len()), "{compressor} {client}");
        }
        assert!(proxys.values().map(Vec::len).sum::<usize>() > 40);
    }
}

/// Runs `convert`; what it said.
fn convert(input: &Path, output: &Path) -> String {
    let output = support::proxy::command().arg("convert").args([input, output]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

/// What was asked, and the answers.
type Asked = (Vec<u8>, Vec<Vec<u8>>);

/// What was asked and answered in a capture, on each connection.
fn exchanges(capture: &Path) -> BTreeMap<u64, Vec<Asked>> {
    let mut exchanges: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for exchange in Exchanges::new([fs::File::open(capture).unwrap()]) {
        let exchange = exchange.unwrap();
        let replies = exchange.replies.into_iter().map(|reply| reply.body).collect();
        exchanges.entry(exchange.connection.0).or_default().push((exchange.request, replies));
    }
    exchanges
}

#[test]
fn packets_and_back_keep_every_exchange() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("run.mtap"), recorded("there_and_back", "zlib", None)).unwrap();
    let said = convert(&path("run.mtap"), &path("run.pcapng"));
    assert!(said.contains("tshark -d tcp.port=="), "{said}");
    convert(&path("run.pcapng"), &path("back.mtap"));
    let (first, second) = (exchanges(&path("run.mtap")), exchanges(&path("back.mtap")));
    assert_eq!(first, second);
    assert!(first.values().flatten().count() > 12);
}

/// What tcpdump wrote once of PyMongo and a mongod, with zlib: a heartbeat, a drop that fails, an insert, a find of three
/// batches, a duplicate key; and a monitor that ends while its server answers.
#[test]
fn a_frozen_one_is_read() {
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/capture/tcpdump.pcap");
    let directory = tempfile::tempdir().unwrap();
    let capture = directory.path().join("run.mtap");
    let said = convert(&frozen, &capture);
    assert!(said.ends_with("run.mtap: 11 exchanges\n") && said.lines().count() == 1, "{said}");
    let (shown, _, _) = support::captured::show(&capture, &["--events", "command"]);
    let expected = [
        "22:47:33.727Z c2 frozen.orders drop  failed: NamespaceNotFound (26): ns not found  439µs",
        "22:47:33.744Z c2 frozen.orders insert 8 docs  n=8  15.1ms",
        "22:47:33.747Z c2 frozen.orders find {}  3 docs+  2.46ms",
        "22:47:33.748Z c2 frozen.orders getMore cursor 2972303574703137765 batchSize 3  3 docs+  259µs",
        "22:47:33.749Z c2 frozen.orders getMore cursor 2972303574703137765 batchSize 3  2 docs  182µs",
        "22:47:33.749Z c2 frozen.orders insert 1 doc  n=0 1 write error (code 11000)  400µs",
        "22:47:33.750Z c2 admin endSessions  ok  131µs",
    ];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
}
