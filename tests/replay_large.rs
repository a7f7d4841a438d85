//! A capture whose documents are not held in memory: it is answered from all the same, wherever in it they are, whether its
//! file is still there or not, and never from what is not what it was.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use bson::rawdoc;
use bytes::BytesMut;
use mongotap::Replay;
use mongotap::capture::mtap::{Header, Record, Records, write_records};
use mongotap::config::{Endpoint, Upstream};
use mongotap::event::{Address, Connection, ConnectionId, Exchange, Given, GivenMessage, Input, Side, Timestamp};
use mongotap::net::client::{Client, Options};
use mongotap::wire::{Compressor, OpMsg, compress};
use support::replay::Replay as Process;

/// Finds, each with a reply of that many bytes: several times what is held.
const FINDS: u64 = 3000;
const BYTES: usize = 10_000;

/// Writes a run of one connection.
struct Writer {
    records: Records,
    file: File,
    exchange: u64,
    nanos: u64,
}

impl Writer {
    fn new(path: &Path) -> Self {
        let header = Header {
            run: "large".to_owned(),
            max_message_bytes: 48_000_000,
            inflate_max_bytes: 48_000_000,
            ..Header::default()
        };
        let mut file = File::create(path).unwrap();
        file.write_all(&header.to_bytes()).unwrap();
        let mut writer = Self { records: Records::default(), file, exchange: 0, nanos: 0 };
        let connection = Connection {
            id: ConnectionId(1),
            client: "127.0.0.1:1".to_owned(),
            upstream: "127.0.0.1:27017".to_owned(),
            server: Address::parse("127.0.0.1:27017"),
            tls: false,
        };
        writer.push(Given::Opened(Arc::new(connection)));
        let client = rawdoc! { "application": { "name": "large" }, "driver": { "name": "test", "version": "1" } };
        let hello = rawdoc! { "hello": 1, "client": client, "$db": "admin" };
        let answer = rawdoc! { "isWritablePrimary": true, "maxWireVersion": 17, "minWireVersion": 0, "ok": 1.0 };
        writer.exchange(&hello, &answer, None);
        writer
    }

    fn exchange(&mut self, request: &RawDocumentBuf, reply: &RawDocumentBuf, compressor: Option<Compressor>) {
        self.exchange += 1;
        let id = self.exchange as i32;
        self.message(Side::Client, &message(request, id, 0, None));
        self.message(Side::Server, &message(reply, -id, id, compressor));
        if self.records.bytes().len() > 64 << 10 {
            self.flush();
        }
    }

    fn message(&mut self, side: Side, bytes: &[u8]) {
        self.push(Given::Message(GivenMessage {
            side,
            bytes: bytes.to_vec().into(),
            took: Duration::ZERO,
            sent_after: None,
            exchange: Some(Exchange(self.exchange)),
            continued: None,
            original: None,
        }));
    }

    fn push(&mut self, given: Given<'static>) {
        self.nanos += 1_000_000;
        let at =
            Timestamp { monotonic_nanos: self.nanos, unix_micros: 1_700_000_000_000_000 + self.nanos as i64 / 1000 };
        self.records.push_record(&Record::Input(Input { connection: ConnectionId(1), at, given }));
    }

    fn flush(&mut self) {
        let mut block = Vec::new();
        write_records(&self.records, &mut block);
        self.file.write_all(&block).unwrap();
        self.records.clear();
    }
}

fn message(document: &RawDocumentBuf, id: i32, response_to: i32, compressor: Option<Compressor>) -> BytesMut {
    let (mut plain, mut compressed) = (BytesMut::new(), BytesMut::new());
    OpMsg::new(0, document.as_bytes()).encode(id, response_to, &mut plain).unwrap();
    let Some(compressor) = compressor else { return plain };
    compress(&plain, compressor, &mut compressed).unwrap();
    compressed
}

fn text(number: u64) -> String {
    format!("{number:05} ").repeat(BYTES / 6)
}

/// Each find has a reply of its own; every third of these was compressed.
fn recorded(path: &Path) {
    let mut writer = Writer::new(path);
    for number in 0..FINDS {
        let find = rawdoc! { "find": "c", "filter": { "n": number as i64 }, "$db": "large" };
        let cursor = rawdoc! { "id": 0_i64, "ns": "large.c", "firstBatch": [{ "text": text(number) }] };
        let compressor = (number % 3 == 0).then_some(Compressor::Zlib);
        writer.exchange(&find, &rawdoc! { "cursor": cursor, "ok": 1.0 }, compressor);
    }
    writer.flush();
}

async fn client(replay: &Replay) -> Client {
    let endpoint: Endpoint = replay.uri().parse::<Upstream>().unwrap().hosts.remove(0);
    Client::connect(&endpoint, &Options::default()).await.unwrap()
}

async fn ask(client: &mut Client, number: u64) -> Result<String, String> {
    let find = rawdoc! { "find": "c", "filter": { "n": number as i64 } };
    let reply = client.command("large", find).await.map_err(|error| error.to_string())?;
    if let Ok(message) = reply.get_str("errmsg") {
        return Err(message.to_owned());
    }
    let batch = reply.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    Ok(batch.get_document(0).unwrap().get_str("text").unwrap().to_owned())
}

#[tokio::test]
async fn it_is_answered_from_wherever_the_answer_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large.mtap");
    recorded(&path);
    let replay = Replay::from_path(&path).start().await.unwrap();
    // Whoever has it open has it.
    fs::remove_file(&path).unwrap();
    let mut client = client(&replay).await;
    let mut number = 1;
    for _ in 0..1000 {
        number = (number * 1_103_515_245 + 12_345) % FINDS;
        assert!(ask(&mut client, number).await.unwrap() == text(number), "{number}");
    }
    replay.verify().unwrap();
}

#[tokio::test]
async fn what_was_cut_or_changed_is_no_answer() {
    let directory = tempfile::tempdir().unwrap();
    for is_cut in [true, false] {
        let path = directory.path().join(format!("{is_cut}.mtap"));
        recorded(&path);
        let replay = Replay::from_path(&path).start().await.unwrap();
        let len = fs::metadata(&path).unwrap().len();
        let file = File::options().write(true).open(&path).unwrap();
        match is_cut {
            true => file.set_len(len - len / 4).unwrap(),
            false => (len - len / 4..len).step_by(1000).for_each(|at| file.write_all_at(b"changed", at).unwrap()),
        }
        let mut client = client(&replay).await;
        // The beginning is held, the middle is there, the end is not.
        for number in [3, FINDS / 2] {
            assert!(ask(&mut client, number).await.unwrap() == text(number), "{number}");
        }
        let error = ask(&mut client, FINDS - 5).await.unwrap_err();
        let expected = format!("the recording cannot be read any more: {}: it was changed, at byte ", path.display());
        assert!(error.contains(&expected), "{error}");
        assert!(replay.verify().unwrap_err().to_string().contains(&expected));
        assert!(ask(&mut client, 4).await.unwrap() == text(4));
    }
}

/// Orders are put in and looked for, one after the other.
fn orders(path: &Path, exchanges: u64) {
    let mut writer = Writer::new(path);
    for number in 0..exchanges / 2 {
        let mut id = [7; 12];
        id[4..].copy_from_slice(&number.to_be_bytes());
        let id = bson::oid::ObjectId::from_bytes(id);
        let order = rawdoc! { "_id": id, "customer": number as i64 / 10, "note": text(number).get(..1000).unwrap() };
        let insert = rawdoc! { "insert": "orders", "documents": [order.clone()], "$db": "large" };
        writer.exchange(&insert, &rawdoc! { "n": 1, "ok": 1.0 }, None);
        let find = rawdoc! { "find": "orders", "filter": { "_id": id }, "$db": "large" };
        let cursor = rawdoc! { "id": 0_i64, "ns": "large.orders", "firstBatch": [order] };
        writer.exchange(&find, &rawdoc! { "cursor": cursor, "ok": 1.0 }, None);
    }
    writer.flush();
}

/// The bytes that a replay holds when it serves, and the seconds of CPU that it has taken by then.
fn held_and_taken(path: &Path) -> (f64, f64) {
    let replay = Process::start(path, &[]);
    let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", replay.id())).unwrap();
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = resident.trim().trim_end_matches(" kB").parse::<f64>().unwrap();
    let stat = read("stat");
    // Behind the name: the state, then the 14th and the 15th of all fields.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields.skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum::<f64>();
    assert_eq!(replay.stop().code, Some(0));
    // Linux counts a hundred of these a second for programs.
    (kib * 1024.0, ticks / 100.0)
}

#[test]
fn more_exchanges_take_little_more_memory_and_time() {
    const MORE: u64 = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let [few, many] = [9_000, 9_000 + MORE].map(|exchanges| {
        let path = directory.path().join(format!("{exchanges}.mtap"));
        orders(&path, exchanges);
        held_and_taken(&path)
    });
    let bytes = (many.0 - few.0) / MORE as f64;
    let micros = (many.1 - few.1) * 1e6 / MORE as f64;
    // The messages have 1100 bytes; without optimisations it takes many times as long.
    assert!(bytes < 800.0, "{bytes} bytes an exchange");
    assert!(micros < 1500.0, "{micros} microseconds of CPU an exchange");
}
