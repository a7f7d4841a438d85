//! Who is let in: clients from where connections are allowed, as long as there are places.
//!
//! One that is not is closed at once, before anything of it is read. Who it was and why stands in the log; on stderr it
//! stands once in a while, with how many others went the same way.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::event::Timestamp;

/// Refusals within this of the last one that was said are counted, and said with the next.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refused {
    /// Connections from there are not allowed.
    Stranger,
    /// As many as may be served at a time are.
    Full(usize),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => f.write_str("connections from there are not in `allow`"),
            Self::Full(max) => write!(f, "{max} connections are served already, which is max_connections"),
        }
    }
}

/// Decides.
#[derive(Debug)]
pub(super) struct Admission {
    /// Where clients may come from; empty is from anywhere.
    allow: Vec<IpNet>,
    max_connections: usize,
    places: Arc<Semaphore>,
    /// When a refusal was last said, and how many were not since.
    said_at: Option<Timestamp>,
    unsaid: u64,
}

impl Admission {
    pub(super) fn new(allow: Vec<IpNet>, max_connections: usize) -> Self {
        let places = Arc::new(Semaphore::new(max_connections));
        Self { allow, max_connections, places, said_at: None, unsaid: 0 }
    }

    /// A place for a client from that address; one of a unix socket has none, and its file's mode says who may connect.
    pub(super) fn admit(&self, from: Option<IpAddr>) -> Result<OwnedSemaphorePermit, Refused> {
        let is_allowed = |from: IpAddr| self.allow.is_empty() || self.allow.iter().any(|net| net.contains(&from));
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        if !from.is_none_or(|from| is_allowed(from.to_canonical())) {
            return Err(Refused::Stranger);
        }
        Arc::clone(&self.places).try_acquire_owned().map_err(|_| Refused::Full(self.max_connections))
    }

    /// What is to be said of a refusal, if it is time to say something.
    pub(super) fn word(&mut self, client: &str, refused: Refused, now: Timestamp) -> Option<String> {
        if self.said_at.is_some_and(|before| now.since(before) < SAID_EVERY) {
            self.unsaid += 1;
            return None;
        }
        self.said_at = Some(now);
        let others = match std::mem::take(&mut self.unsaid) {
            0 => String::new(),
            unsaid => format!("; {unsaid} others were refused since that was last said"),
        };
        Some(format!("refused {client}: {refused}{others}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_let_in() {
        let nets = ["10.1.0.0/16", "::1/128"].map(|net| net.parse().unwrap());
        let admission = Admission::new(nets.to_vec(), 2);
        let from = |from: &str| admission.admit(Some(from.parse().unwrap()));
        for stranger in ["10.2.0.1", "127.0.0.1", "::2", "::ffff:10.2.0.1"] {
            assert_eq!(from(stranger).unwrap_err(), Refused::Stranger, "{stranger}");
        }
        let places = [from("10.1.255.255").unwrap(), from("::ffff:10.1.0.1").unwrap()];
        assert_eq!(from("::1").unwrap_err(), Refused::Full(2));
        assert_eq!(admission.admit(None).unwrap_err(), Refused::Full(2));
        drop(places);
        assert!(from("::1").is_ok() && admission.admit(None).is_ok());
        assert!(Admission::new(Vec::new(), 1).admit(Some("192.0.2.1".parse().unwrap())).is_ok());
    }

    #[test]
    fn many_refusals_are_said_once() {
        let mut admission = Admission::new(Vec::new(), 1);
        let at = |micros: u64| Timestamp { monotonic_nanos: micros * 1000, unix_micros: 0 };
        let full = Refused::Full(1);
        let first = "refused a: 1 connections are served already, which is max_connections";
        assert_eq!(admission.word("a", full, at(0)).as_deref(), Some(first));
        assert_eq!(admission.word("b", full, at(9_999_999)), None);
        assert_eq!(admission.word("c", full, at(9_999_999)), None);
        let later = admission.word("d", full, at(10_000_000)).unwrap();
        assert!(later.ends_with("; 2 others were refused since that was last said"), "{later}");
    }
}
