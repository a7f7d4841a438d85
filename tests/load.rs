//! Load and faults: what the proxy does with thousands of connections, under churn, with sides and disks that stall, and
//! when it is killed. The figures of each case are in its line of the output.
//!
//! Client, proxy and server are processes of their own, each with its own descriptors; the server answers from memory.
//! `MONGOTAP_TEST_LONG=N` makes it long: N seconds of load and of churn, N kills. What it measures is read from `/proc`,
//! so it runs on Linux only.

#[path = "load/logged.rs"]
mod logged;
#[path = "load/many.rs"]
mod many;
#[path = "load/server.rs"]
mod server;
#[path = "load/soak.rs"]
mod soak;
mod support;
#[path = "load/talk.rs"]
mod talk;
#[path = "load/tally.rs"]
mod tally;
#[path = "load/usage.rs"]
mod usage;

use std::env;
use std::process::ExitCode;

use support::harness::{Case, Selection, exit_code};

fn main() -> ExitCode {
    if env::args().nth(1).as_deref() == Some(server::ROLE) {
        server::serve();
        return ExitCode::SUCCESS;
    }
    usage::allow_many_files();
    let cases = vec![
        Case::new("busy_and_idle_connections_are_served_in_bounded_memory", many::busy_and_idle),
        Case::new("churn_leaves_no_memory_and_no_descriptor_behind", soak::churn),
    ];
    exit_code(Selection::from_arguments().run(cases))
}

/// How long, or how often, a case is to go on: so much unless `MONGOTAP_TEST_LONG` says.
fn effort(short: u64) -> u64 {
    let long = env::var("MONGOTAP_TEST_LONG").ok();
    long.map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("MONGOTAP_TEST_LONG={text} is no number")))
}
