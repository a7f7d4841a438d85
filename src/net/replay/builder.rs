//! What a replay is to do, said by methods.

use std::path::PathBuf;
use std::time::Duration;

use super::{Plan, Replay, ReplayError};
use crate::config;
use crate::config::{Config, Endpoint, OnMiss, Password, Presented, TlsListen};
use crate::net::client::{Credentials, Method};
use crate::net::secrets;
use crate::replay::{Accept, Explain, Explanation, Paths, Repeat, Scope, Timing};

/// What a replay is to do. Without being told it listens on a free port of 127.0.0.1, lets the last answer to a question
/// stay, and takes a miss alone for a failure.
#[must_use]
pub struct Builder {
    config: Config,
    paths: Vec<PathBuf>,
    repeat: Repeat,
    users: Vec<(String, String)>,
    explain: Option<Explain>,
    credentials: Option<Credentials>,
    /// The first thing that was wrong; said by `start`.
    error: Option<config::Error>,
}

impl Builder {
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        let config = Config { listen, ..Config::default() };
        Self {
            config,
            paths: paths.into_iter().collect(),
            repeat: Repeat::Last,
            users: Vec::new(),
            explain: None,
            credentials: None,
            error: None,
        }
    }

    /// Does what a configuration says: where to listen, with TLS or without, and its `[replay]`.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Where to listen: `host:port`, `[v6]:port` or the path of a unix socket. Port 0 takes a free one.
    pub fn listen(mut self, address: &str) -> Self {
        let wrong = self.config.set_listen(address).err();
        self.error = self.error.or(wrong);
        self
    }

    /// Takes clients by TLS, with that certificate.
    pub fn tls_listen(mut self, tls: TlsListen) -> Self {
        self.config.tls.listen = Some(tls);
        self
    }

    /// What happens once a question was asked as often as it was recorded, where the configuration does not say.
    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Whether what is ambiguous or was never asked for is a failure too.
    pub fn strict(mut self, strict: bool) -> Self {
        self.config.replay.strict = Some(strict);
        self
    }

    /// When answers go out.
    pub fn timing(mut self, timing: Timing) -> Self {
        self.config.replay.settings.timing = timing;
        self
    }

    /// Who shares what was asked already and what is bound.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.config.replay.settings.scope = scope;
        self
    }

    /// How a recorded replica set is presented.
    pub fn topology(mut self, presented: Presented) -> Self {
        self.config.replay.topology = presented;
        self
    }

    /// By how much a date may lie nearer to the time of its request, or farther from it, than it was recorded.
    pub fn date_tolerance(mut self, tolerance: Duration) -> Self {
        self.config.replay.settings.date_tolerance = tolerance;
        self
    }

    /// What does not count in a request: `pipeline.*.$limit`.
    pub fn ignore(mut self, paths: &[&str]) -> Self {
        let read = self.read("ignore", paths);
        read.into_iter().for_each(|paths| self.config.replay.settings.ignore = paths);
        self
    }

    /// Where values must be equal: nothing there is bound.
    pub fn exact(mut self, paths: &[&str]) -> Self {
        let read = self.read("exact", paths);
        read.into_iter().for_each(|paths| self.config.replay.settings.exact = paths);
        self
    }

    /// Where a value may be another one of its type, which then stands for the recorded one: `documents.*.token`.
    pub fn bind(mut self, paths: &[&str]) -> Self {
        let read = self.read("bind", paths);
        read.into_iter().for_each(|paths| self.config.replay.settings.bind = paths);
        self
    }

    fn read(&mut self, key: &str, paths: &[&str]) -> Option<Paths> {
        match Paths::parse(paths) {
            Ok(paths) => Some(paths),
            Err(error) => {
                let error = config::Error { message: format!("{key}: {error}"), hint: None };
                self.error.get_or_insert(error);
                None
            }
        }
    }

    /// A user who can authenticate by SCRAM, besides those of the configuration.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.users.push((name.to_owned(), password.to_owned()));
        self
    }

    /// Who answers what was never recorded. The server is that of the configuration, or of [`upstream`](Self::upstream).
    pub fn on_miss(mut self, on_miss: OnMiss) -> Self {
        self.config.replay.on_miss = on_miss;
        self
    }

    /// The server that is asked then, as a connection string without credentials.
    pub fn upstream(mut self, uri: &str) -> Self {
        let wrong = self.config.set_upstream(uri).err();
        self.error = self.error.or(wrong);
        self
    }

    /// As whom it is asked; the first of the users, unless that is said.
    pub fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = Some(credentials);
        self
    }

    /// Which mechanisms are taken without a check.
    pub fn accept(mut self, accept: Accept) -> Self {
        self.config.replay.accept = accept;
        self
    }

    /// Tells how each request came by its answer: what was overlooked in it, and what was bound.
    pub fn explain(mut self, explain: impl Fn(&Explanation) + Send + Sync + 'static) -> Self {
        self.explain = Some(std::sync::Arc::new(explain));
        self
    }

    /// Reads the recording and starts the replay: when this returns, clients can connect.
    ///
    /// # Errors
    /// If the recording, an address or a password is not what it should be, or not to be had.
    pub async fn start(self) -> Result<Replay, ReplayError> {
        if let Some(error) = self.error {
            return Err(error.into());
        }
        let Self { config, paths, repeat, mut users, explain, credentials, .. } = self;
        for (name, password) in &config.replay.users {
            users.push((name.clone(), read_password(name, password)?));
        }
        let credentials = credentials.or_else(|| users.first().map(credentials_of));
        let mut settings = config.replay.settings_or(repeat);
        settings.explain = explain.is_some();
        Replay::start(Plan { config, paths, settings, users, explain, credentials }).await
    }
}

/// The first user is whom an upstream is asked as.
fn credentials_of((user, password): &(String, String)) -> Credentials {
    let source = "admin".to_owned();
    Credentials { user: user.clone(), password: password.clone(), source, method: Method::Scram }
}

fn read_password(name: &str, password: &Password) -> Result<String, config::Error> {
    let hint = "put the password there; any will do that the application's connection string has too";
    secrets::read(&format!("the password of {name}"), password, hint)
}
