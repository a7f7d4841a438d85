//! A DNS server that answers SRV and TXT questions from a table, over UDP.

use std::collections::HashMap;
use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a name has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// Hosts and their ports.
    pub(crate) srv: Vec<(String, u16)>,
    /// Texts, each a record of its strings.
    pub(crate) txt: Vec<Vec<String>>,
}

/// By name, in lower case, without the last dot.
type Table = Arc<Mutex<HashMap<String, Records>>>;

/// A running server; dropping it ends it.
pub(crate) struct Dns {
    address: String,
    table: Table,
    asked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Dns {
    /// Serves on a free port of 127.0.0.1, for now without names.
    pub(crate) fn start() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let address = socket.local_addr()?.to_string();
        let (table, asked, stop) = (Table::default(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (table, asked, stop) = (Arc::clone(&table), Arc::clone(&asked), Arc::clone(&stop));
            move || {
                let mut question = [0; 1500];
                while !stop.load(Ordering::Acquire) {
                    let Ok((len, from)) = socket.recv_from(&mut question) else { continue };
                    asked.fetch_add(1, Ordering::AcqRel);
                    let records = table.lock().expect("looking up does not panic");
                    if let Some(answer) = answer(&question[..len], &records) {
                        // Who asked may have gone.
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }
        });
        Ok(Self { address, table, asked, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// How many questions there were.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// From now on a deployment has these hosts under that name, and that text.
    pub(crate) fn set(&self, name: &str, hosts: &[(&str, u16)], txt: &[&[&str]]) {
        let srv = hosts.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect();
        let txt = txt.iter().map(|strings| strings.iter().map(|it| (*it).to_owned()).collect()).collect();
        let mut table = self.table.lock().expect("looking up does not panic");
        table.insert(format!("_mongodb._tcp.{name}"), Records { srv, ..Records::default() });
        table.insert(name.to_owned(), Records { txt, ..Records::default() });
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

const SRV: u16 = 33;
const TXT: u16 = 16;
const NXDOMAIN: u8 = 3;
const TTL: u32 = 1;

/// The answer to a message with one question; `None` if it is none.
fn answer(message: &[u8], table: &HashMap<String, Records>) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    let mut at = 12;
    loop {
        let len = usize::from(*message.get(at)?);
        at += 1;
        if len == 0 {
            break;
        }
        name.push(String::from_utf8_lossy(message.get(at..at + len)?).to_ascii_lowercase());
        at += len;
    }
    let kind = u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]);
    let question = message.get(12..at + 4)?;
    let found = table.get(&name.join("."));
    let data: Vec<Vec<u8>> = match (found, kind) {
        (Some(records), SRV) => records.srv.iter().map(|(host, port)| srv(host, *port)).collect(),
        (Some(records), TXT) => records.txt.iter().map(|strings| txt(strings)).collect(),
        _ => Vec::new(),
    };
    let mut answer = message.get(..2)?.to_vec();
    // An answer, recursion available; then how many questions, answers, authorities, others.
    answer.extend([0x81, 0x80 | if found.is_some() { 0 } else { NXDOMAIN }]);
    for count in [1, u16::try_from(data.len()).ok()?, 0, 0] {
        answer.extend(count.to_be_bytes());
    }
    answer.extend(question);
    for data in data {
        // The name is the question's, which begins after the header.
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend(1_u16.to_be_bytes());
        answer.extend(TTL.to_be_bytes());
        answer.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
        answer.extend(data);
    }
    Some(answer)
}

/// Priority, weight, port, host.
fn srv(host: &str, port: u16) -> Vec<u8> {
    let mut data = vec![0, 0, 0, 5];
    data.extend(port.to_be_bytes());
    host.split('.').for_each(|label| data.extend(string(label)));
    data.push(0);
    data
}

fn txt(strings: &[String]) -> Vec<u8> {
    strings.iter().flat_map(|text| string(text)).collect()
}

/// A text with its length before it.
fn string(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).expect("a short text");
    [&[len], text.as_bytes()].concat()
}
