//! Finds the members before the first client comes, by asking each seed `hello` once; seeds that are down are asked
//! again later, for the set may have other names for them than the connection string.

use std::sync::Arc;
use std::time::Duration;

use bson::raw::RawDocumentBuf;
use tokio::sync::oneshot;

use super::StartError;
use super::client::{Client, Options};
use super::members::{Members, dialled};
use super::say::say;
use super::srv::{self, Question, SrvError};
use super::tls::Connector;
use crate::bson::find;
use crate::config::{Config, Endpoint, percent_encode};

/// A seed that has not answered within this is taken to be down.
const PATIENCE: Duration = Duration::from_secs(2);

/// Seeds that were down are asked again this often.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What is known of the deployment at the start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The seeds, and what came of asking them.
    pub(super) seeds: Vec<(Endpoint, Answer)>,
    /// The replica set that they are, if they are one.
    pub(super) set_name: Option<String>,
    /// The name in DNS that is to be looked up again.
    pub(super) poll: Option<Poll>,
}

/// What came of asking a seed.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing yet, or it was not asked.
    Unknown,
    /// It is of another deployment: what it says is not believed.
    Foreign,
    /// Its reply to `hello`.
    Hello(RawDocumentBuf),
}

/// A name in DNS that is to be looked up again.
#[derive(Debug)]
pub(super) struct Poll {
    question: Question,
    hosts: Vec<Endpoint>,
    /// How long what it said may be believed.
    first: Duration,
}

impl Poll {
    pub(super) async fn run(self, members: Arc<Members>) {
        self.question.poll(members, self.hosts, self.first, srv::AGAIN_AFTER).await;
    }
}

/// Asks the seeds of a deployment whose members are discovered; any other is taken as it is. A name in DNS is looked up
/// before, and the upstream's hosts are what it says.
///
/// # Errors
/// If the name leads nowhere, or it is not the replica set that it should be.
pub(super) async fn find_members(config: &mut Config, connector: Option<&Connector>) -> Result<Found, StartError> {
    let mut poll = None;
    if let Some(srv) = config.upstream.srv.clone() {
        let question = Question { srv, dns: config.topology.dns };
        let asking = question.clone();
        let records = elsewhere(move || async move { asking.ask().await }).await??;
        config.upstream = question.describe(&config.upstream, &records)?;
        config.check_upstream()?;
        poll = Some(Poll { question, hosts: config.upstream.hosts.clone(), first: records.ttl });
    }
    let found = ask_seeds(config, connector).await?;
    let is_polled = config.upstream.is_discovered() && found.set_name.is_none();
    Ok(Found { poll: poll.filter(|_| is_polled), ..found })
}

async fn ask_seeds(config: &Config, connector: Option<&Connector>) -> Result<Found, StartError> {
    let hosts = config.upstream.hosts.clone();
    if !config.upstream.is_discovered() {
        return Ok(Found {
            seeds: hosts.into_iter().map(|host| (host, Answer::Unknown)).collect(),
            ..Found::default()
        });
    }
    let dial = config.topology.dial.clone();
    let connector = connector.cloned();
    let seeds = elsewhere(move || async move {
        let asked = hosts.into_iter().map(|seed| {
            let endpoint = dialled(&seed, &dial).clone();
            let connector = connector.as_ref().map(|connector| connector.named(&seed));
            tokio::spawn(async move { (seed, hello(&endpoint, connector).await) })
        });
        let mut answers = Vec::new();
        for asked in asked.collect::<Vec<_>>() {
            answers.extend(asked.await);
        }
        answers
    });
    check(config, seeds.await?)
}

/// Runs on a thread and a runtime of its own, so that it can be awaited in any.
async fn elsewhere<T: Send + 'static, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T, StartError> {
    let (tell, told) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
    let thread = std::thread::Builder::new().name("mongotap-find".to_owned());
    let run = move || {
        // Nobody may want to know any more.
        _ = tell.send(runtime.block_on(work()));
        // A name that is still being resolved holds up nobody.
        runtime.shutdown_background();
    };
    thread.spawn(run).map_err(StartError::Thread)?;
    told.await.map_err(|_| StartError::Thread(std::io::Error::other("the thread that asks the seeds panicked")))
}

/// What a server says of itself; `None` if it is down.
async fn hello(endpoint: &Endpoint, tls: Option<Connector>) -> Option<RawDocumentBuf> {
    let options = Options { patience: PATIENCE, tls, ..Options::default() };
    let client = tokio::time::timeout(PATIENCE, Client::connect(endpoint, &options)).await.ok()?.ok()?;
    Some(client.hello().to_owned())
}

/// What a member calls itself.
pub(super) fn name_of(hello: &RawDocumentBuf) -> Option<&str> {
    find(hello.as_bytes(), b"me")?.as_str()
}

/// Holds what the seeds say against the replica set that they should be. Those of another set are said, and not believed.
fn check(config: &Config, seeds: Vec<(Endpoint, Option<RawDocumentBuf>)>) -> Result<Found, StartError> {
    let mut found = Found { set_name: config.upstream.replica_set.clone(), ..Found::default() };
    let mut others = Vec::new();
    let mut fits = false;
    for (seed, hello) in seeds {
        let text = |name: &[u8]| find(hello.as_ref()?.as_bytes(), name)?.as_str().map(str::to_owned);
        let set_name = text(b"setName");
        // One that waits to be initiated may become a member of any.
        let is_new = hello.as_ref().is_some_and(|it| find(it.as_bytes(), b"isreplicaset").is_some());
        let other = match (&found.set_name, &set_name) {
            (Some(wanted), Some(name)) if wanted != name => Some(format!("is a member of {name:?}")),
            (Some(_), None) if hello.is_some() && !is_new && config.upstream.replica_set.is_some() => {
                Some("is not a member of a replica set".to_owned())
            }
            _ => None,
        };
        if let (Some(wanted), Some(other)) = (&found.set_name, other) {
            others.push((format!("upstream: replicaSet is {wanted:?}, but {seed} {other}"), set_name));
            found.seeds.push((seed, Answer::Foreign));
            continue;
        }
        fits |= set_name.is_some();
        found.set_name = found.set_name.or(set_name);
        found.seeds.push((seed, hello.map_or(Answer::Unknown, Answer::Hello)));
    }
    match others.first() {
        Some((message, name)) if !fits => {
            let hint = match name {
                Some(name) => format!("replicaSet={} is the one that it is", percent_encode(name)),
                None => "name it without replicaSet and other hosts, or start it with --replSet".to_owned(),
            };
            Err(StartError::OtherSet { message: message.clone(), hint })
        }
        _ => {
            others.iter().for_each(|(message, _)| say(message));
            Ok(found)
        }
    }
}

impl From<SrvError> for StartError {
    fn from(error: SrvError) -> Self {
        Self::Dns { message: format!("upstream: {error}"), hint: error.hint }
    }
}

/// Asks the seeds that were down until each has said what the set calls it.
pub(super) async fn learn(members: Arc<Members>, connector: Option<Connector>) {
    loop {
        let unlearnt = members.unlearnt();
        if unlearnt.is_empty() {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        for member in unlearnt {
            let tls = connector.as_ref().map(|connector| connector.named(&member.named()));
            if let Some(hello) = hello(&member.dial(), tls).await {
                if let Err(error) = members.add_named(&member, hello.as_bytes()) {
                    members.say_once(format!("{}: {error}", member.dial()));
                }
                members.set_learnt(&member);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bson::rawdoc;

    use super::*;

    fn seed(name: &str, hello: Option<RawDocumentBuf>) -> (Endpoint, Option<RawDocumentBuf>) {
        (name.parse().unwrap(), hello)
    }

    fn checked(uri: &str, seeds: Vec<(Endpoint, Option<RawDocumentBuf>)>) -> Result<Found, String> {
        let config = Config { upstream: uri.parse().unwrap(), ..Config::default() };
        check(&config, seeds).map_err(|error| error.to_string())
    }

    #[test]
    fn members_of_another_set_are_not_believed() {
        let uri = "mongodb://a,b/?replicaSet=rs0";
        let (fits, other) = (rawdoc! { "setName": "rs0", "me": "m:1" }, rawdoc! { "setName": "rs1" });
        let found = checked(uri, vec![seed("a:1", Some(fits)), seed("b:1", Some(other.clone()))]).unwrap();
        assert!(matches!(&found.seeds[..], [(_, Answer::Hello(_)), (_, Answer::Foreign)]), "{found:?}");
        // Whichever comes first is the one, where the connection string does not say.
        let fits = rawdoc! { "setName": "rs0" };
        let found = checked("mongodb://a,b", vec![seed("a:1", Some(fits)), seed("b:1", Some(other.clone()))]).unwrap();
        assert_eq!(found.set_name.as_deref(), Some("rs0"));
        assert!(matches!(&found.seeds[..], [(_, Answer::Hello(_)), (_, Answer::Foreign)]), "{found:?}");

        let message = checked(uri, vec![seed("a:1", None), seed("b:1", Some(other.clone()))]).unwrap_err();
        assert_eq!(message, "upstream: replicaSet is \"rs0\", but b:1 is a member of \"rs1\"");
        let message = checked(uri, vec![seed("a:1", Some(rawdoc! { "ok": 1 }))]).unwrap_err();
        assert_eq!(message, "upstream: replicaSet is \"rs0\", but a:1 is not a member of a replica set");

        assert!(checked(uri, vec![seed("a:1", Some(rawdoc! { "isreplicaset": true }))]).is_ok());
        assert_eq!(checked("mongodb://a,b", vec![seed("b:1", Some(other))]).unwrap().set_name.as_deref(), Some("rs1"));
        assert_eq!(checked("mongodb://a,b", vec![seed("b:1", None)]).unwrap().set_name, None);
    }
}
