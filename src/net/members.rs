//! The members of the deployment: the server behind each listener, what the set calls it, and what clients are told.
//!
//! A plain proxy has one member and asks nothing here. Where members are discovered, each has a listener of its own, and
//! the replies to `hello` name the listeners in the members' place. A member that a reply names for the first time gets
//! its listener before the reply goes on; one that has left keeps it until the proxy ends, for it may come back.
//!
//! Names are what the set has for its members, `host:port` in lower case. What a seed calls itself (`me`) becomes a name of
//! the same member, so that seeds need not be written as the set has them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use tokio::sync::mpsc;

use super::listener::Bound;
use super::places::{Place, Places};
use super::say::{say, with_hint};
use crate::config::{Config, Endpoint, io_reason};
use crate::event::Address;
use crate::sink::printed;
use crate::topology::rewrite::{Names, RewriteError, rename, rewrite};

/// A replica set has 50 members at most; the rest is for those that come and go, and for many mongos.
const MEMBERS_MAX: usize = 256;

/// The longest reply to `hello` that is held and rewritten, in bytes, compressed or not. A real one has a few kilobytes.
pub(super) const HELLO_LEN_MAX: usize = 1 << 20;

/// Names that are remembered: a member may come to be called otherwise, but not for ever.
const NAMES_MAX: usize = 4 * MEMBERS_MAX;

/// Different troubles that are said; a proxy that has more says them in the log alone.
const SAID_MAX: usize = 64;

/// A listener and the server behind it.
#[derive(Debug)]
pub(super) struct Member {
    position: usize,
    /// Where it listens.
    pub(super) endpoint: Endpoint,
    /// What clients call it.
    pub(super) server: Address,
    dial: Mutex<Dial>,
    /// Whether it could be reached when last tried: its going and its return are said once each.
    pub(super) reachable: AtomicBool,
    /// It has said something to somebody.
    pub(super) heard: AtomicBool,
    /// It has said what it calls itself, or that it has no name.
    is_learnt: AtomicBool,
}

/// Where a member is dialled.
#[derive(Clone, Debug)]
struct Dial {
    endpoint: Endpoint,
    /// What it was called where it was named: under TLS its certificate is to be for that host.
    named: Endpoint,
    /// It is the name that the set has for the member, which may not be an address here.
    by_name: bool,
}

impl Member {
    /// Where it is dialled.
    pub(super) fn dial(&self) -> Endpoint {
        self.locked_dial().endpoint.clone()
    }

    /// What it is called where it was named.
    pub(super) fn named(&self) -> Endpoint {
        self.locked_dial().named.clone()
    }

    /// Whether that is the name that the set has for it, which may be no address here.
    pub(super) fn is_dialled_by_name(&self) -> bool {
        self.locked_dial().by_name
    }

    fn locked_dial(&self) -> MutexGuard<'_, Dial> {
        self.dial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member with its socket, on the way to who accepts its clients.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) bound: Bound,
    pub(super) member: Arc<Member>,
}

/// All members of a run.
#[derive(Debug)]
pub(super) struct Members {
    table: Mutex<Table>,
    joined: mpsc::UnboundedSender<Joined>,
    /// The members are discovered: replies to `hello` are rewritten.
    pub(super) are_discovered: bool,
}

#[derive(Debug)]
struct Table {
    members: Vec<Arc<Member>>,
    /// Positions in `members`.
    names: HashMap<String, usize>,
    places: Places,
    dial: BTreeMap<String, Endpoint>,
    /// The replica set whose members they are, once it is known.
    set_name: Option<String>,
    /// A reply has named members.
    has_names: bool,
    /// The proxy is ready: who joins from now on is told of.
    is_ready: bool,
    said: HashSet<String>,
}

/// What to do where replies to `hello` lead applications on other machines astray.
const ADVERTISE_HINT: &str = "--advertise HOST:PORT is what other machines reach";

/// Ports that others may have between those of two members.
const PORTS_PASSED_OVER: usize = 64;

/// Why a member has no listener.
#[derive(Debug, thiserror::Error)]
pub(super) enum JoinError {
    /// Who names it is of another replica set.
    #[error("replicaSet is {wanted:?}, but it is a member of {found:?}")]
    Foreign { wanted: String, found: String },
    /// What is there of a name is none.
    #[error("{0:?} is not a member's name")]
    Name(String),
    /// There are too many.
    #[error("{name} would be one member more than {MEMBERS_MAX}")]
    Many { name: String },
    /// The ports are used up.
    #[error("{name} would need a port beyond 65535")]
    Ports { name: String },
    /// Its address cannot be listened on.
    #[error("{endpoint}: cannot listen for {name}: {}", io_reason(error))]
    Listen { name: String, endpoint: Endpoint, error: io::Error },
}

/// Why a reply to `hello` must not go on, and the way out if there is one.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) why: String,
    pub(super) hint: Option<&'static str>,
}

impl From<String> for Refused {
    fn from(why: String) -> Self {
        Self { why, hint: None }
    }
}

impl From<RewriteError<JoinError>> for Refused {
    fn from(error: RewriteError<JoinError>) -> Self {
        let hint = match &error {
            RewriteError::Name(error) => Some(error.hint()),
            _ => None,
        };
        Self { why: error.to_string(), hint }
    }
}

impl JoinError {
    /// The way out.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Foreign { .. } => "each replica set needs a proxy of its own",
            Self::Name(_) => "members' names are host:port; rs.conf() shows those that the set has",
            Self::Many { .. } => "with directConnection=true the proxy serves one server alone",
            Self::Ports { .. } | Self::Listen { .. } => "[topology] listen gives a member a place of its own",
        }
    }
}

impl Members {
    /// None yet; those that join come out of the receiver.
    pub(super) fn new(config: &Config) -> (Self, mpsc::UnboundedReceiver<Joined>) {
        let (joined, receiver) = mpsc::unbounded_channel();
        let table = Table {
            members: Vec::new(),
            names: HashMap::new(),
            places: Places::new(config),
            dial: config.topology.dial.clone(),
            set_name: config.upstream.replica_set.clone(),
            has_names: false,
            is_ready: false,
            said: HashSet::new(),
        };
        let members = Self { table: Mutex::new(table), joined, are_discovered: config.upstream.is_discovered() };
        (members, receiver)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that there are, in the order in which they came.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.table().members.clone()
    }

    /// Takes in a seed, and what it calls itself if it has said so. One that is known by either name is not taken twice.
    pub(super) fn add_seed(&self, seed: &Endpoint, me: Option<&str>) -> Result<Arc<Member>, JoinError> {
        let mut table = self.table();
        let name = key_of(seed);
        let me = me.and_then(read_name).map(|me| key_of(&me));
        let known = table.names.get(&name).or_else(|| table.names.get(me.as_ref()?)).copied();
        let position = match known {
            Some(position) => position,
            None => {
                let endpoint = dialled(seed, &table.dial).clone();
                let names = [Some(name.as_str()), me.as_deref()];
                table.join(&names, Dial { endpoint, named: seed.clone(), by_name: false }, &self.joined)?
            }
        };
        table.names.insert(name, position);
        let member = Arc::clone(&table.members[position]);
        if let Some(me) = me {
            table.names.entry(me).or_insert(position);
            member.is_learnt.store(true, Ordering::Relaxed);
        }
        Ok(member)
    }

    /// Takes in the members that a reply to `hello` names.
    pub(super) fn add_named(&self, by: &Arc<Member>, hello: &[u8]) -> Result<(), RewriteError<JoinError>> {
        let mut answer = Answer { members: self, by };
        rename(hello, &mut answer).map(|_| ())
    }

    /// A reply to `hello` for a client of `by`'s; `None` if it may go on as it is.
    ///
    /// # Errors
    /// Why it must not go on at all.
    pub(super) fn rewrite(&self, by: &Arc<Member>, frame: &[u8]) -> Result<Option<BytesMut>, Refused> {
        let mut answer = Answer { members: self, by };
        Ok(rewrite(frame, HELLO_LEN_MAX, &mut answer)?)
    }

    /// Notes the replica set that they are: members of another are not believed from now on.
    pub(super) fn set_name(&self, name: &str) {
        self.table().set_name.get_or_insert_with(|| name.to_owned());
    }

    /// Notes that a seed has answered; there may be nothing that it calls itself.
    pub(super) fn set_learnt(&self, member: &Member) {
        member.is_learnt.store(true, Ordering::Relaxed);
    }

    /// Those that have not said what they call themselves, though they may be known to the set by another name.
    pub(super) fn unlearnt(&self) -> Vec<Arc<Member>> {
        let unlearnt =
            |member: &Arc<Member>| !member.is_learnt.load(Ordering::Relaxed) && !member.locked_dial().by_name;
        self.table().members.iter().filter(|member| unlearnt(member)).cloned().collect()
    }

    /// Whether a member has told of others: then they tell of all that come.
    pub(super) fn is_replica_set(&self) -> bool {
        self.table().has_names
    }

    /// From now on those that join are told of, and clients come.
    pub(super) fn set_ready(&self) {
        let mut table = self.table();
        table.is_ready = true;
        if table.places.mislead() {
            say(with_hint("clients are told that the members are on this machine", Some(ADVERTISE_HINT)));
        }
    }

    /// Says a trouble with a reply, the first time that there is this one.
    pub(super) fn say_once(&self, trouble: String) {
        let mut table = self.table();
        if table.said.len() < SAID_MAX && table.said.insert(trouble.clone()) {
            say(trouble);
        }
    }
}

impl Table {
    /// A member of these names gets its listener; its position.
    fn join(
        &mut self,
        names: &[Option<&str>],
        dial: Dial,
        joined: &mpsc::UnboundedSender<Joined>,
    ) -> Result<usize, JoinError> {
        let names = || names.iter().copied().flatten();
        let name = names().next().unwrap_or_default().to_owned();
        let position = self.members.len();
        if position >= MEMBERS_MAX {
            return Err(JoinError::Many { name });
        }
        let given = names().find_map(|name| self.places.given(name));
        let (bound, endpoint, server) = self.bind(given, &name)?;
        if self.is_ready {
            say(format_args!("listening on {endpoint} -> {}", dial.endpoint));
        }
        let member = Arc::new(Member {
            position,
            endpoint,
            server,
            dial: Mutex::new(dial),
            reachable: AtomicBool::new(true),
            heard: AtomicBool::new(false),
            is_learnt: AtomicBool::new(false),
        });
        self.names.extend(names().map(|name| (name.to_owned(), position)));
        self.members.push(Arc::clone(&member));
        // Nobody accepts any more when the proxy ends.
        _ = joined.send(Joined { bound, member });
        Ok(position)
    }

    /// Binds a member's place, or the next one in the order of ports. A port that somebody else has is passed over for a
    /// member that joins later: without a listener for it, nothing of the set could be told to anybody.
    fn bind(&mut self, given: Option<Place>, name: &str) -> Result<(Bound, Endpoint, Address), JoinError> {
        for _ in 0..=PORTS_PASSED_OVER {
            let Some(place) = given.clone().or_else(|| self.places.next()) else { break };
            let bound = Bound::bind(&place.endpoint).and_then(|bound| Ok((bound.endpoint()?, bound)));
            match bound {
                Ok((endpoint, bound)) => {
                    let server = self.places.take(&place, &endpoint);
                    return Ok((bound, endpoint, server));
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.is_ready && self.places.skip(&place) => {
                }
                Err(error) => {
                    return Err(JoinError::Listen { name: name.to_owned(), endpoint: place.endpoint, error });
                }
            }
        }
        Err(JoinError::Ports { name: name.to_owned() })
    }
}

/// A reply to `hello` whose members are looked up, and taken in if they are new. The table is locked for each question
/// alone, not while the reply is inflated and written anew.
struct Answer<'a> {
    members: &'a Members,
    /// Who answers.
    by: &'a Arc<Member>,
}

impl Names for Answer<'_> {
    type Error = JoinError;

    fn answers_for(&mut self, set_name: &str) -> Result<(), JoinError> {
        match &self.members.table().set_name {
            Some(wanted) if wanted != set_name => {
                Err(JoinError::Foreign { wanted: wanted.clone(), found: set_name.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn answers_as(&mut self, me: &str) {
        self.by.is_learnt.store(true, Ordering::Relaxed);
        let Some(me) = read_name(me).map(|me| key_of(&me)) else { return };
        let mut table = self.members.table();
        match table.names.get(&me) {
            // Another listener was made for it when a reply named it, which leads where this one does.
            Some(position) if *position != self.by.position => {
                let mut dial = table.members[*position].locked_dial();
                if dial.by_name {
                    *dial = Dial { by_name: false, ..self.by.locked_dial().clone() };
                }
            }
            Some(_) => {}
            None if table.names.len() < NAMES_MAX => _ = table.names.insert(me, self.by.position),
            None => {}
        }
    }

    fn name_for(&mut self, member: &str) -> Result<String, JoinError> {
        let mut table = self.members.table();
        table.has_names = true;
        let endpoint = read_name(member).ok_or_else(|| JoinError::Name(member.to_owned()))?;
        let name = key_of(&endpoint);
        let position = match table.names.get(&name) {
            Some(position) => *position,
            None => {
                let given = table.dial.get(&name).cloned();
                let by_name = given.is_none();
                let dial = Dial { endpoint: given.unwrap_or_else(|| endpoint.clone()), named: endpoint, by_name };
                table.join(&[Some(&name)], dial, &self.members.joined)?
            }
        };
        Ok(table.members[position].server.to_string())
    }
}

/// What a server calls a member: `host:port` as it stands. Whoever runs the server does not get to name a socket of this
/// machine, nor to write on a terminal.
fn read_name(name: &str) -> Option<Endpoint> {
    let is_plain = !name.contains(['%', '/']) && printed(name) == name;
    name.parse().ok().filter(|endpoint| is_plain && matches!(endpoint, Endpoint::Tcp { port: 1.., .. }))
}

/// Where a server that was named so is dialled.
pub(super) fn dialled<'a>(named: &'a Endpoint, dial: &'a BTreeMap<String, Endpoint>) -> &'a Endpoint {
    dial.get(&key_of(named)).unwrap_or(named)
}

/// A name as names are compared: in lower case, the port always there.
fn key_of(endpoint: &Endpoint) -> String {
    endpoint.to_string().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn members(upstream: &str) -> (Members, mpsc::UnboundedReceiver<Joined>) {
        let (listen, upstream) = ("127.0.0.1:0".parse().unwrap(), upstream.parse().unwrap());
        Members::new(&Config { listen, upstream, ..Config::default() })
    }

    #[test]
    fn another_sets_members_get_no_listener() {
        let foreign = rawdoc! { "setName": "rs1", "hosts": ["x:1", "y:1"], "me": "x:1" };
        for (upstream, found) in [("mongodb://a:1,b:1/?replicaSet=rs0", None), ("mongodb://a:1,b:1", Some("rs0"))] {
            let (members, _joined) = members(upstream);
            found.into_iter().for_each(|name| members.set_name(name));
            let seed = members.add_seed(&"a:1".parse().unwrap(), None).unwrap();
            let error = members.add_named(&seed, foreign.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, "replicaSet is \"rs0\", but it is a member of \"rs1\"");
            assert_eq!(members.all().len(), 1);
            let own = rawdoc! { "setName": "rs0", "hosts": ["x:1", "y:1"], "me": "x:1" };
            members.add_named(&seed, own.as_bytes()).unwrap();
            assert_eq!(members.all().len(), 2, "the foreign reply has left no name behind");
        }
    }

    #[test]
    fn what_a_server_calls_its_members_is_host_and_port_alone() {
        for name in ["%2Ftmp%2Fx.sock", "/tmp/x.sock", "a%2eb:1", "a\u{1b}[2Jb:1", "a\u{202e}b:1", "a", "a:0", ":1", ""]
        {
            let (members, _joined) = members("mongodb://a:1/?replicaSet=rs0");
            let seed = members.add_seed(&"a:1".parse().unwrap(), Some(name)).unwrap();
            members.add_named(&seed, rawdoc! { "me": "a:1", "hosts": ["a:1"] }.as_bytes()).unwrap();
            let error = members.add_named(&seed, rawdoc! { "hosts": [name] }.as_bytes()).unwrap_err();
            let Refused { why, hint } = error.into();
            assert_eq!(why, format!("{name:?} is not a member's name"));
            assert!(hint.is_some_and(|hint| hint.starts_with("members' names are host:port")), "{hint:?}");
            assert!(!why.contains(char::is_control), "{why}");
            assert_eq!((members.all().len(), members.table().names.len()), (1, 1), "{name}");
        }
        let (members, _joined) = members("mongodb://a:1/?replicaSet=rs0");
        let seed = members.add_seed(&"a:1".parse().unwrap(), None).unwrap();
        let named = rawdoc! { "hosts": ["A:1", "[2001:db8::4]:27017", "b_c.example.org:2"] };
        members.add_named(&seed, named.as_bytes()).unwrap();
        assert_eq!(members.all().len(), 3);
    }
}
