//! What became of topologies and servers, as parts of a line for people: who is primary, who joined, left or was lost,
//! and why.
//!
//! ```text
//! 07:44:31.852Z t00001f topology opened by 127.0.0.1:40112 (c1)
//! 07:44:31.852Z t00001f topology ReplicaSetNoPrimary  set rs0  servers a:27017, b:27017
//! 07:44:31.867Z t00001f topology ReplicaSetWithPrimary  primary a:27017
//! 07:44:31.869Z t00001f topology ReplicaSetWithPrimary  b:27017 RSSecondary
//! 07:44:58.113Z t00001f topology ReplicaSetNoPrimary  no primary (was a:27017)  lost a:27017: connection closed
//! 07:45:09.402Z t00001f topology ReplicaSetWithPrimary  primary b:27017
//! ```
//!
//! A topology is told from others by the last digits of its id, which stand where other lines have the connection. What
//! means nothing to a person (a `topologyVersion` that moved on, the time of the last write) gives no line.

use super::shell::shortened;
use super::{Part, REASON_MAX, Style};
use crate::event::{
    ServerDescription, ServerDescriptionChanged, ServerType, TopologyDescription, TopologyDescriptionChanged,
    TopologyId,
};
use crate::sink::printable::printed;

/// `t00001f`
pub(super) fn label(id: TopologyId) -> String {
    let hex = id.to_hex();
    format!("t{}", hex.get(18..).unwrap_or(&hex))
}

/// What changed in a topology; nothing if it is not worth a line.
pub(super) fn topology_changed(event: &TopologyDescriptionChanged) -> Vec<Part> {
    let (previous, new) = (&event.previous_description, &event.new_description);
    let mut news = Vec::new();
    // The last change before it is closed takes everything away, which the next line tells.
    if *new == TopologyDescription::default() {
        return news;
    }
    if let Some(name) = new.set_name.as_ref().filter(|_| new.set_name != previous.set_name) {
        news.push((Style::Plain, format!("set {}", printed(name))));
    }
    news.extend(primary(previous, new));
    news.extend(members(previous, new));
    for server in &new.servers {
        news.extend(previous.server(&server.address).and_then(|before| member(before, server)));
    }
    match (&previous.compatibility_error, &new.compatibility_error) {
        (before, Some(now)) if before.as_ref() != Some(now) => {
            news.push((Style::Red, format!("not compatible: {}", reason(now))));
        }
        (Some(_), None) => news.push((Style::Green, "compatible".to_owned())),
        _ => {}
    }
    if news.is_empty() && new.topology_type == previous.topology_type {
        return news;
    }
    let head = [(Style::Bold, "topology".to_owned()), (Style::Plain, new.topology_type.as_str().to_owned())];
    // What joins parts puts one space between them; news stand apart by two.
    head.into_iter().chain(news.into_iter().map(|(style, text)| (style, format!(" {text}")))).collect()
}

/// What changed of a server; nothing if it is not worth a line.
pub(super) fn server_changed(event: &ServerDescriptionChanged) -> Vec<Part> {
    let (previous, new) = (&event.previous_description, &event.new_description);
    let mut parts = vec![
        (Style::Bold, "server".to_owned()),
        (Style::Plain, printed(&event.address.to_string())),
        (Style::Plain, new.server_type.as_str().to_owned()),
    ];
    let named = parts.len();
    if new.server_type != previous.server_type {
        parts.push((Style::Plain, format!("(was {})", previous.server_type.as_str())));
    }
    if let Some(error) = new.error.as_ref().filter(|_| new.error != previous.error) {
        parts.push((Style::Red, format!(" {}", reason(error))));
    }
    let fields = changed_fields(previous, new);
    if parts.len() == named && !fields.is_empty() {
        parts.push((Style::Plain, format!(" changed {}", fields.join(", "))));
    }
    if parts.len() == named { Vec::new() } else { parts }
}

/// The names of what a person may want to know that it changed.
fn changed_fields(previous: &ServerDescription, new: &ServerDescription) -> Vec<&'static str> {
    let fields = [
        ("setName", previous.set_name != new.set_name),
        ("setVersion", previous.set_version != new.set_version),
        ("electionId", previous.election_id != new.election_id),
        ("me", previous.me != new.me),
        ("hosts", previous.hosts != new.hosts),
        ("passives", previous.passives != new.passives),
        ("arbiters", previous.arbiters != new.arbiters),
        ("primary", previous.primary != new.primary),
        ("tags", previous.tags != new.tags),
        ("minWireVersion", previous.min_wire_version != new.min_wire_version),
        ("maxWireVersion", previous.max_wire_version != new.max_wire_version),
        (
            "logicalSessionTimeoutMinutes",
            previous.logical_session_timeout_minutes != new.logical_session_timeout_minutes,
        ),
    ];
    fields.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// Who is primary, if it is another than before.
fn primary(previous: &TopologyDescription, new: &TopologyDescription) -> Option<Part> {
    let primaries = |topology: &TopologyDescription| {
        names(topology.servers.iter().filter(|server| server.server_type == ServerType::RSPrimary))
    };
    match (primaries(previous), primaries(new)) {
        (before, now) if before == now => None,
        (before, now) if before.is_empty() => Some((Style::Green, format!("primary {now}"))),
        (before, now) if now.is_empty() => Some((Style::Red, format!("no primary (was {before})"))),
        (before, now) => Some((Style::Green, format!("primary {now} (was {before})"))),
    }
}

/// Who joined and who left.
fn members(previous: &TopologyDescription, new: &TopologyDescription) -> impl Iterator<Item = Part> {
    let joined = names(new.servers.iter().filter(|server| previous.server(&server.address).is_none()));
    let left = names(previous.servers.iter().filter(|server| new.server(&server.address).is_none()));
    let first = if previous.servers.is_empty() { "servers" } else { "joined" };
    let of = |what, names: String| (!names.is_empty()).then(|| (Style::Plain, format!("{what} {names}")));
    [of(first, joined), of("left", left)].into_iter().flatten()
}

/// What became of one server. That it is primary now is told elsewhere.
fn member(previous: &ServerDescription, new: &ServerDescription) -> Option<Part> {
    let name = printed(&new.address.to_string());
    let error = new.error.as_ref().map(|error| format!(": {}", reason(error))).unwrap_or_default();
    match (previous.server_type.is_known(), new.server_type.is_known()) {
        (true, false) => Some((Style::Red, format!("lost {name}{error}"))),
        (false, false) if new.error != previous.error && new.error.is_some() => {
            Some((Style::Red, format!("{name} Unknown{error}")))
        }
        (_, true) if new.server_type == previous.server_type || new.server_type == ServerType::RSPrimary => None,
        (false, true) => Some((Style::Plain, format!("{name} {}", new.server_type.as_str()))),
        (true, true) => {
            let (now, before) = (new.server_type.as_str(), previous.server_type.as_str());
            Some((Style::Plain, format!("{name} {now} (was {before})")))
        }
        (false, false) => None,
    }
}

fn names<'a>(servers: impl Iterator<Item = &'a ServerDescription>) -> String {
    servers.map(|server| printed(&server.address.to_string())).collect::<Vec<_>>().join(", ")
}

fn reason(error: &str) -> String {
    shortened(&printed(error), REASON_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Event, ServerOpening, TopologyClosed, TopologyOpening, TopologyType, TopologyVersion};
    use crate::sink::compact::Compact;
    use crate::sink::sample::{self, TOPOLOGY, replica_set, said_no, server, server_changed, topology_changed};
    use crate::sink::{Options, Render};

    use ServerType::{RSArbiter, RSOther, RSPrimary, RSSecondary, Unknown};

    /// What follows the time and the topology.
    fn line(event: impl Into<Event<'static>>) -> String {
        let mut out = Vec::new();
        Compact::new(&Options::default()).render(&sample::entry(event), &mut out);
        let text = String::from_utf8(out).unwrap();
        let line = text.strip_suffix('\n').unwrap_or_default();
        line.strip_prefix("07:44:31.867Z t00001f ").unwrap_or(line).to_owned()
    }

    fn with_error(mut topology: TopologyDescription, position: usize, error: &str) -> TopologyDescription {
        topology.servers[position].error = Some(error.to_owned());
        topology
    }

    #[test]
    fn the_life_of_a_replica_set() {
        let none = TopologyDescription::default();
        let seeds = replica_set(&[("a:1", Unknown), ("b:1", Unknown)]);
        let found = replica_set(&[("a:1", RSPrimary), ("b:1", Unknown), ("c:1", Unknown)]);
        let whole = replica_set(&[("a:1", RSPrimary), ("b:1", RSSecondary), ("c:1", RSArbiter)]);
        let lost = replica_set(&[("a:1", Unknown), ("b:1", RSSecondary), ("c:1", RSArbiter)]);
        let lost = with_error(lost, 0, "connection closed by the server");
        let other_error = with_error(lost.clone(), 0, "connection refused");
        let elected = with_error(replica_set(&[("a:1", Unknown), ("b:1", RSPrimary), ("c:1", RSArbiter)]), 0, "x");
        let back = replica_set(&[("a:1", RSSecondary), ("b:1", RSPrimary), ("c:1", RSArbiter)]);
        let smaller = replica_set(&[("a:1", RSSecondary), ("b:1", RSPrimary)]);
        let taken_over = replica_set(&[("a:1", RSPrimary), ("b:1", Unknown)]);
        let taken_over = with_error(taken_over, 1, "primary marked stale due to discovery of newer primary");
        for (previous, new, expected) in [
            (&none, &seeds, "topology ReplicaSetNoPrimary  set rs0  servers a:1, b:1"),
            (&seeds, &found, "topology ReplicaSetWithPrimary  primary a:1  joined c:1"),
            (&found, &whole, "topology ReplicaSetWithPrimary  b:1 RSSecondary  c:1 RSArbiter"),
            (
                &whole,
                &lost,
                "topology ReplicaSetNoPrimary  no primary (was a:1)  lost a:1: connection closed by the server",
            ),
            (&lost, &other_error, "topology ReplicaSetNoPrimary  a:1 Unknown: connection refused"),
            (&lost, &elected, "topology ReplicaSetWithPrimary  primary b:1  a:1 Unknown: x"),
            (&elected, &back, "topology ReplicaSetWithPrimary  a:1 RSSecondary"),
            (&back, &smaller, "topology ReplicaSetWithPrimary  left c:1"),
            (
                &smaller,
                &taken_over,
                "topology ReplicaSetWithPrimary  primary a:1 (was b:1)  lost b:1: primary marked stale due to \
                 discovery of newer primary",
            ),
            (&whole, &back, "topology ReplicaSetWithPrimary  primary b:1 (was a:1)  a:1 RSSecondary (was RSPrimary)"),
            (&whole, &none, ""),
        ] {
            assert_eq!(line(topology_changed(previous.clone(), new.clone())), expected);
        }
        assert_eq!(line(TopologyOpening { topology_id: TOPOLOGY }), "topology opened by 127.0.0.1:40112 (c1)");
        assert_eq!(line(TopologyClosed { topology_id: TOPOLOGY }), "topology closed");
    }

    #[test]
    fn what_means_nothing_to_a_person_has_no_line() {
        let topology = replica_set(&[("a:1", RSPrimary), ("b:1", RSSecondary)]);
        let mut moved = topology.clone();
        let version = TopologyVersion { process_id: TOPOLOGY, counter: 7 };
        moved.servers[0].topology_version = Some(version);
        moved.servers[1].last_write_date = Some(::bson::DateTime::from_millis(5));
        moved.max_set_version = Some(5);
        let (before, after) = (topology.servers[0].clone(), moved.servers[0].clone());
        assert_eq!(line(topology_changed(topology, moved)), "");
        assert_eq!(line(server_changed(before, after)), "");
    }

    #[test]
    fn other_topologies() {
        let of = |topology_type, servers: &[(&str, ServerType)]| TopologyDescription {
            topology_type,
            set_name: None,
            ..replica_set(servers)
        };
        let unknown = of(TopologyType::Unknown, &[("a:1", Unknown)]);
        let single = of(TopologyType::Single, &[("a:1", ServerType::Standalone)]);
        assert_eq!(line(topology_changed(unknown.clone(), single.clone())), "topology Single  a:1 Standalone");
        let sharded = of(TopologyType::Sharded, &[("a:1", ServerType::Mongos)]);
        assert_eq!(line(topology_changed(unknown.clone(), sharded)), "topology Sharded  a:1 Mongos");
        let empty = of(TopologyType::Unknown, &[]);
        assert_eq!(line(topology_changed(empty, unknown)), "topology Unknown  servers a:1");
        let too_new = TopologyDescription { compatibility_error: Some("too new".to_owned()), ..single.clone() };
        let [there, back] = [(&single, &too_new), (&too_new, &single)]
            .map(|(previous, new)| line(topology_changed(previous.clone(), new.clone())));
        assert_eq!(there, "topology Single  not compatible: too new");
        assert_eq!(back, "topology Single  compatible");
    }

    #[test]
    fn servers() {
        let address = server("a:1", Unknown).address;
        assert_eq!(line(ServerOpening { topology_id: TOPOLOGY, address }), "server a:1 opened");
        let primary = server("a:1", RSPrimary);
        assert_eq!(line(server_changed(server("a:1", Unknown), primary.clone())), "server a:1 RSPrimary (was Unknown)");
        let lost = ServerDescription { error: Some("gone".to_owned()), ..server("a:1", Unknown) };
        assert_eq!(line(server_changed(primary.clone(), lost)), "server a:1 Unknown (was RSPrimary)  gone");
        let moved = ServerDescription { set_version: Some(2), hosts: vec!["a:1".to_owned()], ..primary.clone() };
        assert_eq!(line(server_changed(primary, moved)), "server a:1 RSPrimary  changed setVersion, hosts");
    }

    #[test]
    fn heartbeats() {
        let lines: Vec<_> = sample::sdam_events().into_iter().take(4).map(line).collect();
        let named = "07:44:31.867Z c1 heartbeat localhost:27017 awaited";
        assert_eq!(
            lines,
            [
                String::new(),
                format!("{named}  ok  1.50ms"),
                format!("{named}  failed: connection closed  1.50ms"),
                format!("{named}  failed: code 91: no  1.50ms"),
            ]
        );
    }

    #[test]
    fn nothing_hostile_reaches_the_terminal() {
        let evil = "a\x1b]0;owned\x07\n\u{202e}:1";
        let described = ServerDescription { error: Some(evil.to_owned()), ..server(evil, Unknown) };
        let known = server(evil, RSOther);
        let topology = |server: &ServerDescription| TopologyDescription {
            set_name: server.error.clone(),
            compatibility_error: server.error.clone(),
            servers: vec![server.clone()],
            ..replica_set(&[])
        };
        let events = [
            server_changed(known.clone(), described.clone()),
            topology_changed(topology(&known), topology(&described)),
            topology_changed(TopologyDescription::default(), topology(&described)),
            topology_changed(topology(&described), replica_set(&[("b:1", RSPrimary)])),
            sample::heartbeat_failed(said_no(::bson::rawdoc! { "codeName": evil, "errmsg": evil })),
        ];
        for event in events {
            for width in [None, Some(60)] {
                let mut out = Vec::new();
                let mut compact = Compact::new(&Options { width, ..Options::default() });
                compact.render(&sample::entry(event.clone()), &mut out);
                let text = String::from_utf8(out).unwrap();
                assert_eq!(text.lines().count(), 1);
                let hidden = text.trim_end_matches('\n').chars().find(|it| it.is_control() || *it == '\u{202e}');
                assert_eq!(hidden, None, "{text:?}");
            }
        }
    }
}
