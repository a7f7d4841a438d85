//! An application's own connection string, which is to lead to a server of ours instead: hosts are replaced, what says
//! how they are reached as well, and everything else stays.

use super::address::{Problem, percent_decode};

/// A connection string with credentials, a default database and the driver's options.
#[derive(Clone, Eq, PartialEq)]
pub struct ApplicationUri {
    is_srv: bool,
    /// What stands before the `@`, as it was written.
    credentials: Option<String>,
    hosts: String,
    /// As it was written; empty if there is none.
    database: String,
    options: Vec<(String, String)>,
}

/// Passwords are not for logs.
impl std::fmt::Debug for ApplicationUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApplicationUri")
            .field("hosts", &self.hosts)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl ApplicationUri {
    /// Reads a connection string. Only what is needed to take it apart is looked at: the driver will say what else is
    /// wrong with it.
    ///
    /// # Errors
    /// If it is none. The message repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self, super::Error> {
        let wrong = |what: &str| Problem::new(what, HINT).of("the connection string");
        let (is_srv, rest) = match (text.strip_prefix("mongodb+srv://"), text.strip_prefix("mongodb://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("does not begin with mongodb:// or mongodb+srv://")),
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        if options.contains('@') {
            // What stands before it may be a part of a password, which no message may repeat.
            return Err(wrong("has an @ behind its ?; in a password either is percent-encoded"));
        }
        // A password with an `@` in it should have had it percent-encoded; drivers that take it split at the last one.
        let (credentials, rest) = rest.rsplit_once('@').map_or((None, rest), |(it, rest)| (Some(it.to_owned()), rest));
        let (hosts, database) = rest.split_once('/').unwrap_or((rest, ""));
        if hosts.is_empty() {
            return Err(wrong("names no host"));
        }
        let option = |text: &str| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let options = options.split('&').filter(|text| !text.is_empty()).map(option).collect();
        Ok(Self { is_srv, credentials, hosts: hosts.to_owned(), database: database.to_owned(), options })
    }

    /// The deployment it names, as `upstream` takes it: without credentials and without the driver's options.
    pub fn upstream(&self) -> String {
        let scheme = if self.is_srv { "mongodb+srv" } else { "mongodb" };
        let options = joined(self.options.iter().filter(|(name, _)| is_of_deployment(name)));
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{scheme}://{}/{mark}{options}", self.hosts)
    }

    /// The same string for another deployment, whose own connection string is `uri`: its hosts and its options instead.
    pub fn at(&self, uri: &str) -> String {
        let rest = uri.strip_prefix("mongodb://").unwrap_or(uri);
        let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
        let hosts = hosts.split('/').next().unwrap_or_default();
        let own = joined(self.options.iter().filter(|(name, _)| !is_of_deployment(name)));
        let parts = [options, &own].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        let at = self.credentials.as_ref().map(|it| format!("{it}@")).unwrap_or_default();
        let mark = if parts.is_empty() { "" } else { "?" };
        format!("mongodb://{at}{hosts}/{}{mark}{}", self.database, parts.join("&"))
    }

    /// The user and the password, if it has both.
    pub fn user(&self) -> Option<(String, String)> {
        let (name, password) = self.credentials.as_ref()?.split_once(':')?;
        Some((percent_decode(name)?, percent_decode(password)?))
    }

    /// The user, whether it has a password or not.
    pub fn user_name(&self) -> Option<String> {
        percent_decode(self.credentials.as_ref()?.split(':').next()?)
    }

    /// Whether TLS is asked for by name: `tls=true`, its older name, or a scheme that brings it.
    pub fn is_tls(&self) -> bool {
        let named = self.option("tls").or_else(|| self.option("ssl"));
        named.map_or(self.is_srv, |value| value == "true")
    }

    /// Whether it says itself whose user it is.
    pub fn names_auth_source(&self) -> bool {
        self.option("authSource").is_some()
    }

    /// What `authMechanism` says.
    pub fn mechanism(&self) -> Option<String> {
        self.option("authMechanism")
    }

    /// The database whose user it is: `authSource`, or the default database, or `admin` (Authentication specification).
    pub fn auth_source(&self) -> String {
        let database = || percent_decode(&self.database).filter(|name| !name.is_empty());
        self.option("authSource").or_else(database).unwrap_or_else(|| "admin".to_owned())
    }

    fn option(&self, wanted: &str) -> Option<String> {
        let (_, value) = self.options.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        percent_decode(value)
    }
}

fn joined<'o>(options: impl Iterator<Item = &'o (String, String)>) -> String {
    options.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// Whether an option says which deployment is meant and how it is reached.
fn is_of_deployment(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_one = ["directconnection", "loadbalanced", "replicaset"].contains(&name.as_str());
    is_one || ["srv", "tls", "ssl"].iter().any(|prefix| name.starts_with(prefix))
}

const HINT: &str = "write it like mongodb://user:password@host:27017/database?option=value";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_the_deployment_is_replaced_and_the_rest_stays() {
        let at = |uri: &str, to: &str| ApplicationUri::parse(uri).unwrap().at(to);
        for (uri, upstream, to, expected) in [
            (
                "mongodb://h",
                "mongodb://h/",
                "mongodb://l:1/?directConnection=true",
                "mongodb://l:1/?directConnection=true",
            ),
            (
                "mongodb://u%40:p%3A@a:1,b:2/shop?replicaSet=rs0&w=majority&tls=true&authSource=admin",
                "mongodb://a:1,b:2/?replicaSet=rs0&tls=true",
                "mongodb://l:1,l:2/?replicaSet=rs0",
                "mongodb://u%40:p%3A@l:1,l:2/shop?replicaSet=rs0&w=majority&authSource=admin",
            ),
            (
                "mongodb+srv://u:p@c.example.org/?retryWrites=false&srvMaxHosts=2",
                "mongodb+srv://c.example.org/?srvMaxHosts=2",
                "mongodb://l:1",
                "mongodb://u:p@l:1/?retryWrites=false",
            ),
        ] {
            assert_eq!(ApplicationUri::parse(uri).unwrap().upstream(), upstream, "{uri}");
            assert_eq!(at(uri, to), expected, "{uri}");
        }
    }

    #[test]
    fn credentials_are_read_and_never_shown() {
        let uri = ApplicationUri::parse("mongodb://u%40:p%3Aq@a/?authmechanism=PLAIN").unwrap();
        assert_eq!(uri.user(), Some(("u@".to_owned(), "p:q".to_owned())));
        assert_eq!((uri.mechanism().as_deref(), uri.auth_source().as_str()), (Some("PLAIN"), "admin"));
        let source = |uri| ApplicationUri::parse(uri).unwrap().auth_source();
        assert_eq!(source("mongodb://a/shop?authSource=users"), "users");
        assert_eq!(source("mongodb://a/shop"), "shop");
        assert!(!format!("{uri:?}").contains("p%3Aq"));
        for wrong in ["localhost", "http://u:s3cret@a", "mongodb://", "mongodb://u:s3cret@/d"] {
            let error = ApplicationUri::parse(wrong).unwrap_err();
            assert!(!error.message.contains("s3cret") && error.hint.is_some(), "{}", error.message);
        }
    }
}
