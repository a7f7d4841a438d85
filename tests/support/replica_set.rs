//! A replica set of real mongods that fails over quickly, and what its members know of who connected to them.
//!
//! The members are equals, so none takes the primary's part back by itself; they miss a primary after a second instead
//! of ten. Their own logs say from where every connection came and what its client called itself.

use std::thread;
use std::time::Duration;

use bson::{Document, doc};
use serde_json::Value;

use super::client::is_ok;
use super::mongod::{Mongod, Options, SET_NAME, Tls, free_port};
use super::wait_for;

/// A running replica set; dropping it kills its members and removes their data.
#[derive(Debug)]
pub(crate) struct ReplicaSet {
    /// The members, in the order of the set's configuration.
    pub(crate) members: Vec<Mongod>,
}

/// A connection that a member accepted from a client that said who it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Accepted {
    /// The address it came from.
    pub(crate) remote: String,
    /// The member's number for it, from 1 again after each start of the member.
    pub(crate) connection_id: i64,
    /// What its client calls itself; empty if it gave no such name.
    pub(crate) app_name: String,
}

impl ReplicaSet {
    /// Starts that many members at once, and waits until there is a primary that all of them follow.
    pub(crate) fn start(count: u8) -> Self {
        Self::start_members((0..count).map(|_| Options { member: true, ..Options::default() }))
    }

    /// Starts three that know one another as `mongo1`, `mongo2` and `mongo3`, at one port: names that lead nowhere for
    /// anybody else.
    pub(crate) fn start_named() -> Self {
        let port = Some(free_port());
        Self::start_members((1..=3).map(|number| Options {
            member: true,
            port,
            named: Some(number),
            ..Options::default()
        }))
    }

    /// Starts three that take connections by TLS alone.
    pub(crate) fn start_tls() -> Self {
        let tls = Some(Tls::CertificatesChecked);
        Self::start_members((0..3).map(|_| Options { member: true, tls, ..Options::default() }))
    }

    fn start_members(members: impl Iterator<Item = Options>) -> Self {
        let members = thread::scope(|scope| {
            let starting: Vec<_> = members.map(|options| scope.spawn(move || Mongod::start(options))).collect();
            starting.into_iter().map(|it| it.join().expect("a member starts")).collect()
        });
        let set = Self { members };
        let hosts = set.members.iter().zip(0..).map(|(member, id)| doc! { "_id": id, "host": member.name() });
        let settings = doc! { "electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 250 };
        let config = doc! { "_id": SET_NAME, "members": hosts.collect::<Vec<_>>(), "settings": settings };
        let reply = set.members[0].client().command(&doc! { "replSetInitiate": config, "$db": "admin" });
        assert!(is_ok(&reply), "replSetInitiate answered {reply}");
        set.wait_until_whole();
        set
    }

    /// Waits until there is a primary and every other member is a secondary that follows it.
    pub(crate) fn wait_until_whole(&self) {
        wait_for("the set to be whole", FAILOVER, || {
            let primary = self.members[self.find_primary()?].name();
            let follows = |member: &Mongod| {
                let hello = hello(member)?;
                let works = is_true(&hello, "isWritablePrimary") || is_true(&hello, "secondary");
                (works && hello.get_str("primary").is_ok_and(|it| it == primary)).then_some(())
            };
            self.members.iter().all(|member| follows(member).is_some()).then_some(())
        });
    }

    /// The position of the primary, as soon as there is one.
    pub(crate) fn primary(&self) -> usize {
        wait_for("a primary", FAILOVER, || self.find_primary())
    }

    /// A member that is up and not the primary.
    pub(crate) fn secondary(&self) -> usize {
        let is_secondary = |member: &Mongod| is_true(&hello(member)?, "secondary").then_some(());
        wait_for("a secondary", FAILOVER, || self.members.iter().position(|it| is_secondary(it).is_some()))
    }

    fn find_primary(&self) -> Option<usize> {
        let is_primary = |member: &Mongod| is_true(&hello(member)?, "isWritablePrimary").then_some(());
        self.members.iter().position(|member| is_primary(member).is_some())
    }

    /// The primary becomes a secondary for at least ten seconds; waits for another. Who was, and who is.
    pub(crate) fn step_down(&self) -> (usize, usize) {
        let before = self.primary();
        let command = doc! { "replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5, "$db": "admin" };
        let reply = self.members[before].client().command(&command);
        assert!(is_ok(&reply), "replSetStepDown answered {reply}");
        (before, self.primary())
    }

    /// SIGKILL for that member. Waits until the others have a primary, which it returns.
    pub(crate) fn kill(&self, member: usize) -> usize {
        self.members[member].kill();
        self.primary()
    }

    /// Starts a killed member again, on its port and data, and waits until the set is whole.
    pub(crate) fn restart(&mut self, member: usize) {
        self.members[member].restart();
        self.wait_until_whole();
    }

    /// The connection string that names every member.
    pub(crate) fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(Mongod::address).collect();
        format!("mongodb://{}/?replicaSet={SET_NAME}", hosts.join(","))
    }

    /// The connections that the member has accepted since its first start, of clients that sent metadata.
    pub(crate) fn accepted(&self, member: usize) -> Vec<Accepted> {
        let log = self.members[member].log();
        let lines = log.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter_map(|line: Value| accepted(&line)).collect()
    }
}

/// From mongod's line about a client's metadata.
fn accepted(line: &Value) -> Option<Accepted> {
    if line.get("msg")?.as_str()? != "client metadata" {
        return None;
    }
    let attributes = line.get("attr")?;
    let connection = attributes.get("client")?.as_str()?;
    let name = attributes.get("doc")?.get("application").and_then(|it| it.get("name")?.as_str()).unwrap_or_default();
    Some(Accepted {
        remote: attributes.get("remote")?.as_str()?.to_owned(),
        connection_id: connection.strip_prefix("conn")?.parse().ok()?,
        app_name: name.to_owned(),
    })
}

/// What a member says of itself; `None` while it is down.
fn hello(member: &Mongod) -> Option<Document> {
    member.try_client()?.try_command(&doc! { "hello": 1, "$db": "admin" })
}

fn is_true(reply: &Document, field: &str) -> bool {
    reply.get_bool(field).is_ok_and(|it| it)
}

/// How long a set may take to have a primary again. It takes two seconds; a busy machine is given more.
const FAILOVER: Duration = Duration::from_secs(60);
