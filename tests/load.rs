//! Load and faults: what the proxy does with thousands of connections, under churn, with sides and disks that stall, and
//! when it is killed. The figures of each case are in its line of the output.
//!
//! Client, proxy and server are processes of their own, each with its own descriptors; the server answers from memory.
//! `MONGOTAP_TEST_LONG=N` makes it long: N seconds of load and of churn, N kills. What it measures is read from `/proc`,
//! so it runs on Linux only.

#[path = "load/beside.rs"]
mod beside;
#[path = "load/clocks.rs"]
mod clocks;
#[path = "load/disks.rs"]
mod disks;
#[path = "load/ends.rs"]
mod ends;
#[path = "load/hostile.rs"]
mod hostile;
#[path = "load/kept.rs"]
mod kept;
#[path = "load/kills.rs"]
mod kills;
#[path = "load/logged.rs"]
mod logged;
#[path = "load/many.rs"]
mod many;
#[path = "load/moved.rs"]
mod moved;
#[path = "load/pair.rs"]
mod pair;
#[path = "load/server.rs"]
mod server;
#[path = "load/soak.rs"]
mod soak;
#[path = "load/stalls.rs"]
mod stalls;
mod support;
#[path = "load/talk.rs"]
mod talk;
#[path = "load/tally.rs"]
mod tally;
#[path = "load/usage.rs"]
mod usage;
#[path = "load/wants.rs"]
mod wants;

use std::env;
use std::process::ExitCode;

use support::harness::{Case, Selection, exit_code};

#[expect(clippy::print_stdout, reason = "what is not tested is to be seen")]
fn main() -> ExitCode {
    if !cfg!(target_os = "linux") {
        println!("not tested here: load and faults are measured by /proc, on Linux");
        return ExitCode::SUCCESS;
    }
    if env::args().nth(1).as_deref() == Some(server::ROLE) {
        server::serve();
        return ExitCode::SUCCESS;
    }
    usage::allow_many_files();
    let cases = vec![
        Case::new("busy_and_idle_connections_are_served_in_bounded_memory", many::busy_and_idle),
        Case::new("churn_leaves_no_memory_and_no_descriptor_behind", soak::churn),
        Case::new("churn_through_tls_beside_captures_leaves_none_behind", soak::churn_with_tls_and_captures),
        Case::new("connections_end_in_every_phase", ends::in_every_phase),
        Case::new("connections_end_by_halves", ends::by_halves),
        Case::new("clients_that_go_unheard", ends::unheard),
        Case::new("a_client_that_reads_nothing", stalls::client_that_reads_nothing),
        Case::new("a_server_that_reads_nothing", stalls::server_that_reads_nothing),
        Case::new("one_byte_at_a_time_both_ways", stalls::one_byte_at_a_time),
        Case::new("bombs_lies_and_endless_headers_of_both_sides", hostile::of_both_sides),
        Case::new("a_message_that_takes_long_holds_no_neighbour_up", beside::holds_no_neighbour_up),
        Case::new("an_upstream_that_does_not_accept", stalls::upstream_that_does_not_accept),
        Case::new("a_name_that_leads_nowhere", wants::name_that_leads_nowhere),
        Case::new("descriptors_run_out_and_come_back", wants::descriptors_run_out),
        Case::new("descriptors_are_asked_for", wants::descriptors_are_asked_for),
        Case::new("a_disk_that_is_full_for_a_while", disks::full_for_a_while),
        Case::new("a_log_and_a_capture_that_are_removed", disks::removed),
        Case::new("a_log_and_a_capture_that_are_cut", disks::cut),
        Case::new("a_full_disk_where_room_is_made_by_removing_the_files", disks::emptied_when_full),
        Case::new("a_disk_that_is_taken_away", disks::taken_away),
        Case::new("a_disk_that_is_read_only_for_a_while", disks::read_only),
        Case::new("a_disk_that_is_full_may_end_the_proxy", disks::full_and_the_end),
        Case::new("a_disk_that_fails_to_the_end", disks::failing_to_the_end),
        Case::new("a_disk_that_has_no_room_for_an_index", disks::full_at_the_end),
        Case::new("a_disk_that_is_slow", disks::slow),
        Case::new("a_disk_that_is_slow_and_waited_for", disks::slow_and_waited_for),
        Case::new("files_that_are_moved_away_again_and_again", moved::a_hundred_times),
        Case::new("a_wall_clock_that_is_set", clocks::is_set),
        Case::new("kills_at_random_moments_tear_only_what_is_named", kills::at_random_moments),
    ];
    exit_code(Selection::from_arguments().run(cases))
}

/// How long, or how often, a case is to go on: so much unless `MONGOTAP_TEST_LONG` says.
fn effort(short: u64) -> u64 {
    let long = env::var("MONGOTAP_TEST_LONG").ok();
    long.map_or(short, |text| text.parse().unwrap_or_else(|_| panic!("MONGOTAP_TEST_LONG={text} is no number")))
}
