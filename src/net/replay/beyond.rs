//! What is asked beyond a recording: the proxy before the server that answers it, and what of that becomes part of the
//! recording.

use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::ReplayError;
use super::upstream::Upstream;
use crate::capture::exchange::Exchange;
use crate::capture::exchanges::Exchanges;
use crate::capture::fixture::{Fixture, collect};
use crate::config::{self, Advertise, Capture, Config, Endpoint, OnMiss};
use crate::net::client::Credentials;
use crate::net::proxy::Proxy;
use crate::net::record::{RecordError, Written, beside, check_whole, write_whole};
use crate::replay::Replaying;

/// The server that is asked, until the end of the replay.
pub(super) struct Beyond {
    proxy: Option<Proxy>,
    /// The fixture, and the capture of what it is to get besides.
    recorded: Option<(PathBuf, PathBuf)>,
}

impl Beyond {
    /// Begins, if a configuration wants another server asked.
    pub(super) async fn start(
        config: &Config,
        paths: &[PathBuf],
        credentials: Option<Credentials>,
    ) -> Result<Option<(Self, Upstream)>, ReplayError> {
        let recorded = match (config.replay.on_miss, paths) {
            (OnMiss::Fail, _) => return Ok(None),
            (OnMiss::Forward, _) => None,
            (OnMiss::Record, [path]) if is_fixture(path) => Some((path.clone(), beside(path, "beyond"))),
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
        own.capture = recorded.as_ref().map(|(_, capture)| Capture::to(capture));
        let proxy = Proxy::builder().config(own).start().await?;
        let endpoints = proxy.listeners().into_iter().map(|(endpoint, _)| endpoint).collect();
        Ok(Some((Self { proxy: Some(proxy), recorded }, Upstream { endpoints, credentials })))
    }

    /// Ends it, and writes the fixture anew with what was answered besides, if that is wanted and there was something.
    pub(super) async fn finish(mut self, replaying: &Replaying) -> Result<Option<Written>, RecordError> {
        if let Some(proxy) = self.proxy.take() {
            proxy.shutdown().await;
        }
        let Some((path, capture)) = &self.recorded else { return Ok(None) };
        let added = add(path, capture, replaying).map_err(|error| error.keeping(capture));
        if added.is_err() {
            self.recorded = None;
        }
        added
    }
}

impl Drop for Beyond {
    fn drop(&mut self) {
        drop(self.proxy.take());
        if let Some((_, capture)) = &self.recorded {
            // It has become part of the fixture, or is of no more use; one that cannot be removed harms nobody.
            let _ = fs::remove_file(capture);
        }
    }
}

fn add(path: &Path, capture: &Path, replaying: &Replaying) -> Result<Option<Written>, RecordError> {
    let failed = |error| RecordError::Write { path: capture.to_owned(), error };
    let mut exchanges = Exchanges::new([BufReader::new(fs::File::open(capture).map_err(failed)?)]);
    let damaged = |error| RecordError::Load(super::LoadError::new(capture, &error));
    let collected = collect(exchanges.by_ref(), "").map_err(|error| damaged(error.into()))?;
    check_whole(path, &exchanges, collected.unread)?;
    let added = collected.fixture.exchanges.len();
    if added == 0 {
        return Ok(None);
    }
    let text = fs::read_to_string(path).map_err(|error| RecordError::Write { path: path.to_owned(), error })?;
    let mut fixture = Fixture::parse(&text).map_err(|error| damaged(error.into()))?;
    fixture.exchanges.extend(collected.fixture.exchanges.into_iter().map(|it| as_recorded(it, replaying)));
    write_whole(path, &fixture.to_text())?;
    Ok(Some(Written { path: path.to_owned(), exchanges: added }))
}

/// The exchange as it would have been when the rest was recorded.
fn as_recorded(mut exchange: Exchange, replaying: &Replaying) -> Exchange {
    exchange.request = replaying.to_recorded(None, &exchange.request);
    for reply in &mut exchange.replies {
        reply.body = replaying.to_recorded(None, &reply.body);
    }
    exchange
}

fn is_fixture(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.trim_ascii_start().starts_with(b"{"))
}
