//! A replica set of three real mongods that loses its primary and gets it back.
mod support;

use support::client::{Client, hello};
use support::replica_set::ReplicaSet;

/// The tool of these tests itself: a set loses its primary in each way, and gets its member back.
#[test]
fn a_set_fails_over_and_heals() {
    let mut set = ReplicaSet::start(3);
    let (before, after) = set.step_down();
    assert_ne!(before, after);
    let next = set.kill(after);
    assert_ne!(after, next, "a dead member is not primary");
    set.restart(after);

    let mut client = Client::connect(&set.members[after].address());
    let id = client.command(&hello("mongotap-test-smoke"));
    let accepted = set.accepted(after);
    let found = accepted.iter().find(|it| it.app_name == "mongotap-test-smoke");
    assert_eq!(found.map(|it| it.connection_id), Some(i64::from(id.get_i32("connectionId").unwrap())));
}
