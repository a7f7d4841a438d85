//! Where each member's listener is, and what clients call it: ports one after the other, unless something else was said.

use std::collections::BTreeMap;

use crate::config::{Advertise, Config, Endpoint};
use crate::event::Address;

/// Where members listen.
#[derive(Debug)]
pub(super) struct Places {
    listen: Endpoint,
    advertise: Advertise,
    /// Where members of these names listen.
    given: BTreeMap<String, Endpoint>,
    /// How many ports after the first one the next member's is.
    next: u16,
    /// Clients follow the names that replies have, so these must be names to connect to.
    are_dialled: bool,
}

/// A place that is to be bound.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Place {
    /// What to bind.
    pub(super) endpoint: Endpoint,
    /// How many ports after the first one it is; `None` for a place of its own.
    shift: Option<u16>,
}

impl Places {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            listen: config.listen.clone(),
            advertise: config.advertise.clone(),
            given: config.topology.listen.clone(),
            next: 0,
            are_dialled: config.upstream.is_discovered(),
        }
    }

    /// Whether clients on other machines, which may come, are told to connect to their own.
    pub(super) fn mislead(&self) -> bool {
        let is_everywhere = matches!(&self.listen, Endpoint::Tcp { host, .. } if host == "0.0.0.0" || host == "::");
        self.are_dialled && is_everywhere && self.advertise == Advertise::Listener
    }

    /// The place that was said for the member of that name.
    pub(super) fn given(&self, name: &str) -> Option<Place> {
        Some(Place { endpoint: self.given.get(name)?.clone(), shift: None })
    }

    /// The next place in the order of ports; `None` if there are no more. The same again until it is taken.
    pub(super) fn next(&self) -> Option<Place> {
        let Endpoint::Tcp { host, port } = &self.listen else {
            return (self.next == 0).then(|| Place { endpoint: self.listen.clone(), shift: Some(0) });
        };
        let mut shift = self.next;
        loop {
            if let Advertise::As(Address { port: Some(first), .. }) = &self.advertise {
                first.checked_add(shift)?;
            }
            // Port 0 is a free one each time.
            let port = if *port == 0 { 0 } else { port.checked_add(shift)? };
            let endpoint = Endpoint::Tcp { host: host.clone(), port };
            if port == 0 || !self.given.values().any(|given| *given == endpoint) {
                return Some(Place { endpoint, shift: Some(shift) });
            }
            shift += 1;
        }
    }

    /// The next place is another one: somebody else has this. Whether there can be another.
    pub(super) fn skip(&mut self, place: &Place) -> bool {
        let is_port = matches!(&place.endpoint, Endpoint::Tcp { port, .. } if *port != 0);
        if let Some(shift) = place.shift.filter(|_| is_port) {
            self.next = shift.saturating_add(1);
            return true;
        }
        false
    }

    /// The place was bound, to that very endpoint: what clients call it.
    pub(super) fn take(&mut self, place: &Place, bound: &Endpoint) -> Address {
        if let Some(shift) = place.shift {
            self.next = shift.saturating_add(1);
        }
        let address = match (&self.advertise, place.shift, bound) {
            (Advertise::Listener, ..) if self.are_dialled => reached_at(bound).to_address(),
            (Advertise::Listener, ..) => bound.to_address(),
            (Advertise::As(Address { host, port: Some(first) }), Some(shift), _) => {
                Address { host: host.clone(), port: Some(first.saturating_add(shift)) }
            }
            // A place of its own has a port of its own.
            (Advertise::As(Address { host, port: Some(_) }), None, Endpoint::Tcp { port, .. }) => {
                Address { host: host.clone(), port: Some(*port) }
            }
            (Advertise::As(address), ..) => address.clone(),
        };
        match self.are_dialled {
            // Drivers compare names in lower case.
            true => Address { host: address.host.to_ascii_lowercase(), ..address },
            false => address,
        }
    }
}

/// Where clients on this machine find a listener: nothing can connect to the address that stands for all of them.
pub(super) fn reached_at(endpoint: &Endpoint) -> Endpoint {
    match endpoint {
        Endpoint::Tcp { host, port } if host == "0.0.0.0" => {
            Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: *port }
        }
        Endpoint::Tcp { host, port } if host == "::" => Endpoint::Tcp { host: "::1".to_owned(), port: *port },
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Topology;

    fn places(listen: &str, advertise: Option<&str>, given: &[(&str, &str)]) -> Places {
        let endpoint = |text: &str| text.parse::<Endpoint>().unwrap();
        let listen_for = given.iter().map(|(name, text)| ((*name).to_owned(), endpoint(text))).collect();
        Places::new(&Config {
            listen: endpoint(listen),
            advertise: advertise.map_or(Advertise::Listener, |text| Advertise::As(endpoint(text).to_address())),
            upstream: "mongodb://a,b".parse().unwrap(),
            topology: Topology { listen: listen_for, ..Topology::default() },
            ..Config::default()
        })
    }

    /// Takes places for these names; what is bound and what clients call it.
    fn taken(places: &mut Places, names: &[&str]) -> Vec<(String, String)> {
        let take = |name: &&str| {
            let place = places.given(name).or_else(|| places.next()).unwrap();
            let server = places.take(&place, &place.endpoint);
            (place.endpoint.to_string(), server.to_string())
        };
        names.iter().map(take).collect()
    }

    #[test]
    fn ports_come_one_after_the_other() {
        let pair = |bound: &str, server: &str| (bound.to_owned(), server.to_owned());
        let mut plain = places("0.0.0.0:27027", None, &[]);
        assert_eq!(plain.next(), plain.next(), "a place that was not taken is there again");
        let expected = [pair("0.0.0.0:27027", "127.0.0.1:27027"), pair("0.0.0.0:27028", "127.0.0.1:27028")];
        assert_eq!(taken(&mut plain, &["a:1", "b:1"]), expected);

        let mut named = places("127.0.0.1:5", Some("DB.example:9"), &[("b:1", "127.0.0.1:6"), ("c:1", "[::1]:70")]);
        let expected = [
            pair("127.0.0.1:5", "db.example:9"),
            pair("127.0.0.1:6", "db.example:6"),
            pair("[::1]:70", "db.example:70"),
            pair("127.0.0.1:7", "db.example:11"),
        ];
        assert_eq!(taken(&mut named, &["a:1", "b:1", "c:1", "d:1"]), expected);
        assert_eq!(taken(&mut places("[::]:0", None, &[]), &["a:1"]), [pair("[::]:0", "[::1]:0")]);
    }

    #[test]
    fn ports_end() {
        let mut last = places("127.0.0.1:65535", None, &[]);
        assert_eq!(taken(&mut last, &["a:1"]).len(), 1);
        assert_eq!(last.next(), None);
        let mut advertised = places("127.0.0.1:0", Some("h:65535"), &[]);
        assert_eq!(taken(&mut advertised, &["a:1"]).len(), 1);
        assert_eq!(advertised.next(), None);
    }
}
