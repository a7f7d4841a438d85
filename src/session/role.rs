//! Whose connection it is: the application's, a monitor's, or that of a monitor's round trip time probe.
//!
//! Only an application authenticates or sends anything but `hello`; only a monitor waits for changes. Without
//! authentication the first `hello` of all three is the same, so what happens before the second request is held back
//! until it is known whose it was. A role is not for ever: single-threaded drivers check the server on the socket that
//! they then send commands on, and the first command makes it the application's.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::request::{Hello, Request};
use crate::event::{Connection, Phase};

/// What a connection is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    /// Not known yet.
    Undecided,
    /// An application's.
    App,
    /// A monitor's, polling or streaming.
    Monitor,
}

/// What is known of the other connections of the same client: a round trip time probe looks like a polling monitor, but
/// only a client that has a streaming monitor has one.
///
/// Shared by the sessions of a run; asked when a role is decided, not for every message.
#[derive(Clone, Debug, Default)]
pub struct Monitors(Arc<Mutex<HashMap<ClientKey, Counts>>>);

/// One client, as far as the wire tells: where it comes from, what it says of itself, and the server it talks to.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct ClientKey(u64);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    streaming: u32,
    polling: u32,
    rtt: u32,
    undecided: u32,
    /// There was a streaming monitor, while there was anything.
    has_streamed: bool,
}

/// A kind of connection that [`Monitors`] counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Counted {
    Streaming,
    Polling,
    Rtt,
    /// Its role is still to be found out.
    Undecided,
}

impl ClientKey {
    pub(super) fn new(connection: &Connection, hello: &Hello) -> Self {
        let mut hasher = DefaultHasher::new();
        (connection.client_host(), &connection.server, &hello.client).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Monitors {
    fn with<T>(&self, key: ClientKey, look: impl FnOnce(&mut Counts) -> T) -> T {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = clients.entry(key).or_default();
        let result = look(counts);
        if counts.streaming + counts.polling + counts.rtt + counts.undecided == 0 {
            clients.remove(&key);
        }
        result
    }

    pub(super) fn has_streaming(&self, key: ClientKey) -> bool {
        self.with(key, |counts| counts.streaming > 0)
    }

    /// Whether a monitor of the client's is connected.
    pub(super) fn has_monitor(&self, key: ClientKey) -> bool {
        self.with(key, |counts| counts.streaming + counts.polling > 0)
    }

    /// Whether a connection that ends after nothing but its first `hello` was a probe: the client has a streaming
    /// monitor, or had one that ended just before, and no probe that is known.
    pub(super) fn lacks_rtt(&self, key: ClientKey) -> bool {
        self.with(key, |counts| counts.has_streamed && counts.rtt == 0)
    }

    pub(super) fn add(&self, key: ClientKey, kind: Counted) {
        self.with(key, |counts| {
            *counts.of(kind) += 1;
            counts.has_streamed |= kind == Counted::Streaming;
        });
    }

    pub(super) fn remove(&self, key: ClientKey, kind: Counted) {
        self.with(key, |counts| *counts.of(kind) = counts.of(kind).saturating_sub(1));
    }
}

impl Counts {
    fn of(&mut self, kind: Counted) -> &mut u32 {
        match kind {
            Counted::Streaming => &mut self.streaming,
            Counted::Polling => &mut self.polling,
            Counted::Rtt => &mut self.rtt,
            Counted::Undecided => &mut self.undecided,
        }
    }
}

/// The role that a request shows, the `n`th of its connection from 0; `None` if it shows none.
pub(super) fn shown_by(request: &Request, n: u64) -> Option<Role> {
    match &request.hello {
        None => Some(Role::App),
        Some(hello) if hello.authenticates || hello.load_balanced || hello.of_application => Some(Role::App),
        Some(hello) if hello.is_awaitable() => Some(Role::Monitor),
        Some(_) if n == 0 => None,
        Some(_) => Some(Role::Monitor),
    }
}

/// The phase of a request on an application's connection; `n` as before.
pub(super) fn app_phase(request: &Request, n: u64, is_single_threaded: bool) -> Phase {
    match &request.hello {
        Some(_) if n == 0 => Phase::Handshake,
        Some(hello) if hello.is_awaitable() => Phase::Monitor,
        Some(hello) if is_single_threaded && !hello.of_application => Phase::Monitor,
        _ if request.authenticates() => Phase::Auth,
        _ => Phase::App,
    }
}
