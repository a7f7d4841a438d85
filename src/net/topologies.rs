//! The thread on which the clients' topologies are derived, off those that carry the traffic.

use std::io;
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::clock;
use super::recorder::{CaptureFeed, Feed};
use super::say::say;
use crate::pipeline::Topologies;
use crate::session::Observing;

/// With nothing to wait for, it looks up this often.
const LOOK_UP: Duration = Duration::from_secs(3600);

/// Derives until the last session has gone, then closes what is open. The capture has that moment for the run's end.
pub(super) fn start(
    observing: Observing,
    mut topologies: Topologies,
    mut feed: Feed,
    mut capture: Option<CaptureFeed>,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name("mongotap-topology".to_owned()).spawn(move || {
        let mut has_lost = false;
        loop {
            let wait = topologies.due(clock::now()).unwrap_or(LOOK_UP);
            match observing.recv_timeout(wait) {
                Ok(observation) => topologies.handle(observation),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            observing.try_iter().for_each(|observation| topologies.handle(observation));
            topologies.handle_tick(clock::now(), &mut |entry| feed.record(entry));
            feed.flush();
            if !has_lost && observing.lost() > 0 {
                has_lost = true;
                say("too much happens at once: the server and topology events of this run are not complete");
            }
        }
        let at = clock::now();
        topologies.close(at, &mut |entry| feed.record(entry));
        capture.iter_mut().for_each(|capture| capture.end(at));
    })
}
