//! As many connections as the descriptors allow, most of them idle.

use std::time::Duration;

use bson::doc;
use tokio::task::JoinSet;

use crate::effort;
use crate::logged::Logged;
use crate::server::Server;
use crate::support::now;
use crate::talk::Talk;
use crate::usage::{self, descriptors, memory, memory_at_rest, wait_for_descriptors};

const BUSY: usize = 1000;
const IDLE_MAX: usize = 9000;

/// Descriptors that the proxy has besides two for each connection.
const OTHERS: usize = 64;

/// The goal for a connection that has said `hello` and waits, without TLS.
const IDLE_BYTES_MAX: u64 = 16 << 10;

/// As many idle connections again take no more memory, but for so many kB.
const AGAIN_MAX: u64 = 8 << 10;

/// Connections that come and go before anything is measured.
const WARM_UP: usize = 50;

/// Connections that are opened at the same time.
const OPENED_AT_ONCE: usize = 200;

pub(crate) fn busy_and_idle() -> String {
    let idle = (usage::descriptors_max().saturating_sub(OTHERS) / 2).saturating_sub(BUSY).min(IDLE_MAX);
    assert!(idle >= BUSY, "for {} connections {} descriptors are too few", 2 * BUSY, usage::descriptors_max());
    let server = Server::start();
    // Nothing is to be lost here, however slow the disk is.
    let proxy = Logged::start(&server.uri(), &["--log-on-overflow", "block"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let Seen { asked, opening, bytes_each, peak, again } = runtime.block_on(load(&proxy, idle));
    let (tally, _) = proxy.end();
    assert_eq!((tally.succeeded, tally.failed, tally.dropped), (asked, 0, 0), "every command is there: {tally:?}");
    assert_eq!(tally.opened, (WARM_UP + idle + BUSY + idle) as u64, "every connection is: {tally:?}");
    format!(
        "{BUSY} busy, {idle} idle opened in {opening:.1?}, {bytes_each} B each; {asked} commands logged; resident \
         {} MB at most, {} MB when as many came again",
        peak >> 10,
        again >> 10
    )
}

/// What was seen of it.
struct Seen {
    asked: u64,
    /// How long it took to open the idle ones.
    opening: Duration,
    bytes_each: u64,
    /// The most resident memory of the proxy, in kB: of all of these connections, and with as many after them.
    peak: u64,
    again: u64,
}

async fn load(proxy: &Logged, idle: usize) -> Seen {
    let (pid, address) = (proxy.pid(), proxy.address());
    drop(open(address, WARM_UP).await);
    wait_for_descriptors(pid, OTHERS);
    let (files, before) = (descriptors(pid), memory_at_rest(pid));

    let started = now();
    let mut waiting = open(address, idle).await;
    let opening = started.elapsed();
    let bytes_each = (memory_at_rest(pid).now.saturating_sub(before.now) << 10) / idle as u64;
    assert!(bytes_each <= IDLE_BYTES_MAX, "an idle connection takes {bytes_each} bytes");

    let mut tasks = JoinSet::new();
    let until = now() + Duration::from_secs(effort(2));
    for mut talk in open(address, BUSY).await {
        tasks.spawn(async move {
            let mut asked = 0_u64;
            while asked == 0 || now() < until {
                talk.ask(&doc! { "find": "items", "bytes": 100, "$db": "load" }).await.expect("it is answered");
                asked += 1;
            }
            asked
        });
    }
    let mut asked = 0;
    while let Some(done) = tasks.join_next().await {
        asked += done.expect("a client ends well");
    }
    for talk in &mut waiting {
        talk.ask(&doc! { "ping": 1, "$db": "admin" }).await.expect("those that waited are served");
        asked += 1;
    }
    let peak = memory(pid).peak;
    drop(waiting);
    wait_for_descriptors(pid, files);
    // What they had is there for others.
    drop(open(address, idle).await);
    let again = memory(pid).peak;
    wait_for_descriptors(pid, files);
    assert!(again <= peak + AGAIN_MAX, "{peak} kB at most, and {again} kB when as many come again");
    Seen { asked, opening, bytes_each, peak, again }
}

/// Opens so many connections, each with its handshake.
async fn open(address: &str, count: usize) -> Vec<Talk> {
    let (mut opened, mut opening) = (Vec::new(), JoinSet::new());
    for _ in 0..count {
        if opening.len() == OPENED_AT_ONCE {
            opened.extend(next(&mut opening).await);
        }
        let address = address.to_owned();
        opening.spawn(async move { Talk::handshake(&address, None).await.expect("it is let in") });
    }
    while let Some(talk) = next(&mut opening).await {
        opened.push(talk);
    }
    opened
}

async fn next(opening: &mut JoinSet<Talk>) -> Option<Talk> {
    opening.join_next().await.map(|talk| talk.expect("a client opens well"))
}
