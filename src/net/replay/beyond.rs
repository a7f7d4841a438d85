//! What is asked beyond a recording: the proxy before the server that answers it, and what of that becomes part of the
//! recording.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::following::Following;
use super::upstream::{Answers, Upstream};
use super::{LoadError, ReplayError};
use crate::capture::exchange::{Exchange, Place};
use crate::capture::fixture::{Fixture, collect};
use crate::capture::open::Recorded;
use crate::config::{self, Advertise, Config, Endpoint, OnMiss};
use crate::net::client::Credentials;
use crate::net::proxy::Proxy;
use crate::net::record::{RecordError, Written, write_whole};
use crate::net::say::say;
use crate::redact::Fields;
use crate::replay::Replaying;

/// The server that is asked, until the end of the replay.
pub(super) struct Beyond {
    proxy: Option<Proxy>,
    /// The fixture, and what it is to get besides.
    recorded: Option<(PathBuf, Arc<Answers>)>,
}

impl Beyond {
    /// Begins, if a configuration wants another server asked.
    pub(super) async fn start(
        config: &Config,
        paths: &[PathBuf],
        (credentials, fields): (Option<Credentials>, Vec<Arc<Fields>>),
        replaying: &Arc<Replaying>,
    ) -> Result<Option<(Self, Upstream)>, ReplayError> {
        let recorded = match (config.replay.on_miss, paths) {
            (OnMiss::Fail, _) => return Ok(None),
            (OnMiss::Forward, _) => None,
            (OnMiss::Record, [path]) if is_fixture(path) => Some((path.clone(), Arc::default())),
            (OnMiss::Record, _) => {
                let message = "on_miss: what is missing can be recorded into one fixture alone".to_owned();
                let hint = Some("mongotap convert CAPTURE.mtap FIXTURE.jsonl makes one".to_owned());
                return Err(config::Error { message, hint }.into());
            }
        };
        let mut own = config.clone();
        own.listen = Endpoint::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
        own.advertise = Advertise::Listener;
        own.tls.listen = None;
        own.logs.clear();
        own.capture = None;
        own.redact = config::Redact::default();
        let proxy = Proxy::builder().config(own).start().await?;
        let (endpoints, servers): (Vec<_>, Vec<_>) = proxy.listeners().into_iter().unzip();
        let upstream = Upstream {
            endpoints: endpoints.into(),
            servers: servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ").into(),
            credentials,
            fields: fields.into(),
            following: Arc::new(Following::new(Arc::clone(replaying))),
            recorded: recorded.as_ref().map(|(_, answers)| Arc::clone(answers)),
        };
        Ok(Some((Self { proxy: Some(proxy), recorded }, upstream)))
    }

    /// Ends it, and writes the fixture anew with what was answered besides, if that is wanted and there was something that
    /// can be trusted.
    pub(super) async fn finish(mut self, replaying: &Replaying) -> Result<Option<Written>, RecordError> {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown().await;
        }
        match &self.recorded {
            Some((path, answers)) => {
                let answers = answers.take();
                if !answers.is_empty() && replaying.report().departure.is_some() {
                    let path = path.display();
                    say(format_args!("{path}: nothing was added: the upstream departed from the recording"));
                    return Ok(None);
                }
                add(path, answers, replaying)
            }
            None => Ok(None),
        }
    }
}

/// Adds exchanges to a fixture, behind those that it has.
fn add(path: &Path, answers: Vec<Exchange>, replaying: &Replaying) -> Result<Option<Written>, RecordError> {
    let text = fs::read_to_string(path).map_err(|error| RecordError::Write { path: path.to_owned(), error })?;
    let damaged = |error| RecordError::Load(LoadError::new(path, &error));
    let mut fixture = Fixture::parse(&text).map_err(|error| damaged(error.into()))?;
    // Where the fixture tells of no applications, it answers them all.
    let tells_apart = fixture.exchanges.iter().any(|exchange| exchange.app_name.is_some());
    let mut names = HashMap::new();
    let numbered = answers.into_iter().zip(1..).map(|(exchange, number)| {
        let place = Place::Exchange(number);
        names.insert(place, exchange.app_name.clone().filter(|_| tells_apart));
        Ok::<_, Infallible>(Exchange { place, ..as_recorded(exchange, replaying) })
    });
    let collected = collect(numbered, "").unwrap_or_else(|never| match never {});
    let added = collected.fixture.exchanges.len();
    if added == 0 {
        return Ok(None);
    }
    let named = collected.fixture.exchanges.into_iter().map(|exchange| {
        let app_name = names.get(&exchange.place).cloned().flatten();
        Exchange { app_name, ..exchange }
    });
    fixture.exchanges.extend(named);
    write_whole(path, &fixture.to_text())?;
    Ok(Some(Written { path: path.to_owned(), exchanges: added, met_nowhere: Vec::new() }))
}

/// The exchange as it would have been when the rest was recorded.
fn as_recorded(mut exchange: Exchange, replaying: &Replaying) -> Exchange {
    let app_name = exchange.app_name.as_deref();
    exchange.request = replaying.to_recorded(app_name, &exchange.request);
    for reply in &mut exchange.replies {
        reply.body = replaying.to_recorded(app_name, &reply.body);
    }
    exchange
}

fn is_fixture(path: &Path) -> bool {
    let opened = File::open(path).map(|file| Recorded::open(BufReader::new(file)));
    matches!(opened, Ok(Ok(Recorded::Fixture(_))))
}
