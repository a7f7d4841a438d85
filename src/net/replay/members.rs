//! The listeners of a replay: one, or one for each member of a recorded replica set.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::beyond::Beyond;
use super::load::{Loaded, load};
use super::{Plan, ReplayError, Serving, redacted};
use crate::config::{Advertise, Config, Endpoint, Presented, percent_encode};
use crate::event::Address;
use crate::net::places::reached_at;
use crate::net::serve::{Listening, Server};
use crate::net::tls;
use crate::replay::{Elsewhere, Explain, Identity, Recorded, Replaying, Users};

/// Reads the recording and serves it on the runtime of the caller.
pub(super) async fn serve(plan: Plan) -> Result<(Serving, Vec<Server>), ReplayError> {
    let Loaded { recording, deployment, mut warnings, rules } = load(&plan.paths, plan.settings.clone())?;
    redacted::check(&rules, &plan)?;
    let Plan { config, paths, users, explain, credentials, .. } = plan;
    let fields = redacted::fields(&rules, &config, &mut warnings)?;
    let replaying = Arc::new(Replaying::new(Arc::new(recording.without(fields.clone()))));
    let (tell, changes) = watch::channel(());
    replaying.on_change(move || tell.send_replace(()));
    // Only now: what cannot be read leaves nothing behind.
    let (beyond, upstream) = Beyond::start(&config, &paths, (credentials, fields), &replaying).await?.unzip();
    let elsewhere = upstream.as_ref().map(|_| Arc::new(Elsewhere::default()));
    let users = users.iter().map(|(name, password)| (name.as_str(), password.as_str()));
    let users = Arc::new(Users::new(users, config.replay.accept, seed()));
    let hellos = match config.replay.topology {
        Presented::One => vec![(String::new(), deployment.one())],
        Presented::All => deployment.all(),
    };
    let members = bind(&config, hellos)?;
    let acceptor = config.tls.listen.as_ref().map(tls::Acceptor::new).transpose()?;
    let names = match members.as_slice() {
        [_] => BTreeMap::new(),
        all => all.iter().map(|member| (member.recorded.clone(), member.address.clone())).collect(),
    };
    let uri = uri(&members, deployment.set_name().as_deref());
    let listeners = members.iter().map(|member| member.listening.endpoint().clone()).collect();
    let version = deployment.version();
    let servers = members.into_iter().map(|member| {
        let identity = Identity::new(member.hello, version.clone(), ObjectId::new(), member.address);
        let identity = Arc::new(identity.with_names(names.clone()).with_users(Arc::clone(&users)));
        let (replaying, explain, elsewhere) = (Arc::clone(&replaying), explain.clone(), elsewhere.clone());
        let endpoint = member.listening.endpoint().clone();
        let listening = member.listening.tls(acceptor.clone()).upstream(upstream.clone()).changes(changes.clone());
        let server = listening.serve(move |number| {
            let mut recorded = Recorded::new(Arc::clone(&replaying), Arc::clone(&identity), number);
            if let Some(explain) = &explain {
                recorded = recorded.explaining(Explain::clone(explain));
            }
            if let Some(elsewhere) = &elsewhere {
                recorded = recorded.forwarding(Arc::clone(elsewhere));
            }
            recorded
        });
        server.map_err(|error| ReplayError::Listen { endpoint, error })
    });
    let servers = servers.collect::<Result<Vec<_>, _>>()?;
    Ok((Serving { uri, listeners, replaying, warnings, beyond }, servers))
}

struct Member {
    /// What it was called.
    recorded: String,
    hello: RawDocumentBuf,
    listening: Listening,
    /// What it is called now.
    address: Address,
}

/// Listens for each: on the ports from the first one on, unless that is any free one.
fn bind(config: &Config, hellos: Vec<(String, RawDocumentBuf)>) -> Result<Vec<Member>, ReplayError> {
    let is_alone = hellos.len() == 1;
    let mut endpoint = config.listen.clone();
    let mut members = Vec::new();
    for (recorded, hello) in hellos {
        let listening =
            Listening::bind(&endpoint).map_err(|error| ReplayError::Listen { endpoint: endpoint.clone(), error })?;
        let address = match &config.advertise {
            Advertise::As(address) if is_alone => address.clone(),
            _ => reached_at(listening.endpoint()).to_address(),
        };
        members.push(Member { recorded, hello, listening, address });
        endpoint = next(endpoint)?;
    }
    Ok(members)
}

fn next(endpoint: Endpoint) -> Result<Endpoint, ReplayError> {
    match endpoint {
        Endpoint::Tcp { host, port: 0 } => Ok(Endpoint::Tcp { host, port: 0 }),
        Endpoint::Tcp { host, port } => Ok(Endpoint::Tcp { host, port: port.wrapping_add(1) }),
        Endpoint::Unix(path) => {
            let mut name = path.into_os_string();
            name.push(".next");
            Ok(Endpoint::Unix(name.into()))
        }
    }
}

fn uri(members: &[Member], set_name: Option<&str>) -> String {
    let host = |member: &Member| match &member.address {
        Address { host, port: Some(port) } => Endpoint::Tcp { host: host.clone(), port: *port }.in_uri(),
        Address { host, port: None } => Endpoint::Unix(host.into()).in_uri(),
    };
    let hosts = members.iter().map(host).collect::<Vec<_>>().join(",");
    match set_name {
        Some(name) => format!("mongodb://{hosts}/?replicaSet={}", percent_encode(name)),
        None => format!("mongodb://{hosts}/?directConnection=true"),
    }
}

/// What salts and nonces of this run are made of.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    if SystemRandom::new().fill(&mut seed).is_err() {
        // A system without randomness; a process's own identifier keeps runs apart, and nothing secret rests on it.
        seed[..12].copy_from_slice(&ObjectId::new().bytes());
    }
    seed
}
