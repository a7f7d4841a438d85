//! The flags that say what `proxy.toml` says, under the same names.

use std::path::PathBuf;

use crate::config::{
    CaptureSettings, Config, Flags, List, LogSettings, Pairs, RedactSettings, Settings, Switch, Text,
    TlsListenSettings, TlsSettings, TlsUpstreamSettings, TopologySettings,
};

use super::Error;

/// Where the configuration comes from: a file, and flags that go before it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArgs {
    /// Read this file; flags go before it. Without --config no file is read, not even ./proxy.toml
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where applications connect: host:port, [v6]:port or the path of a unix socket [default: 127.0.0.1:27027]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,

    /// The server or the replica set they are to reach [default: mongodb://127.0.0.1:27017]
    #[arg(long, value_name = "URI")]
    upstream: Option<String>,

    /// The name of the listener in events and in the URI to use [default: the address it listens on]
    #[arg(long, value_name = "HOST:PORT")]
    advertise: Option<String>,

    /// Where clients may connect from: networks or addresses [default: anywhere]
    #[arg(long, value_name = "LIST")]
    allow: Vec<String>,

    /// Client connections served at a time; further ones are refused [default: 10000]
    #[arg(long, value_name = "N")]
    max_connections: Option<String>,

    /// The longest message that is read; a longer one is forwarded unread [default: 48000000]
    #[arg(long, value_name = "BYTES")]
    max_message_bytes: Option<String>,

    /// The most bytes a compressed message may hold to be shown [default: 48000000]
    #[arg(long, value_name = "BYTES")]
    inflate_max_bytes: Option<String>,

    /// How long a stop waits for commands in flight [default: 5s]
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,

    /// Threads that forward [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<String>,

    #[command(flatten)]
    topology: TopologyArgs,

    #[command(flatten)]
    tls: TlsArgs,

    /// Write a log to this file, or to standard output if it is `-`; may be repeated, and each --log-… flag holds for all
    /// of them [default: -]
    #[arg(long = "log", value_name = "PATH", help_heading = "Logs")]
    logs: Vec<String>,

    #[command(flatten)]
    each_log: LogArgs,

    #[command(flatten)]
    capture: CaptureArgs,

    #[command(flatten)]
    redact: RedactArgs,
}

/// The user's own secrets.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Secrets")]
pub(super) struct RedactArgs {
    /// Take the values of these fields out of all that is written: users.ssn, *.password; may be repeated
    #[arg(long, value_name = "PATHS")]
    pub(super) redact_fields: Vec<String>,

    /// What becomes of them: mask, hash or drop [default: mask]
    #[arg(long, value_name = "MODE")]
    redact_mode: Option<String>,

    /// The key of the hashes: env:NAME or file:PATH [default: one made up for the run]
    #[arg(long, value_name = "PLACE")]
    redact_key: Option<String>,
}

impl RedactArgs {
    pub(super) fn settings(&self) -> RedactSettings {
        let text = |flag: &Option<String>| flag.as_deref().map(Text::from);
        RedactSettings {
            fields: list_of(&self.redact_fields),
            mode: text(&self.redact_mode),
            key: text(&self.redact_key),
        }
    }
}

/// How members of a replica set are reached, and whose topologies are derived.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Replica sets and topologies")]
struct TopologyArgs {
    /// What topologies are derived for: client or upstream [default: client]
    #[arg(long, value_name = "WHAT")]
    topology_per: Option<String>,

    /// A client whose servers went away, and without a connection for so long, is gone [default: 30s]
    #[arg(long, value_name = "TIME")]
    topology_closed_after: Option<String>,

    /// The same for one that has closed its last connection itself [default: 500ms]
    #[arg(long, value_name = "TIME")]
    topology_ended_after: Option<String>,

    /// A connection silent for so long after its first hello is an idle one of a pool [default: 15s]
    #[arg(long, value_name = "TIME")]
    topology_idle_after: Option<String>,

    /// Where to reach members whose names are not addresses: mongo1:27017=127.0.0.1:27017,… [default: by their names]
    #[arg(long, value_name = "NAME=ADDR,…")]
    topology_dial: Option<String>,

    /// Where to listen for members, by their names [default: the ports from that of --listen on]
    #[arg(long, value_name = "NAME=ADDR,…")]
    topology_listen: Option<String>,

    /// The DNS server that is asked for a mongodb+srv name [default: those of the system]
    #[arg(long, value_name = "IP:PORT")]
    topology_dns: Option<String>,
}

/// TLS towards clients and towards the server. Files are PEM.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
struct TlsArgs {
    /// Take clients by TLS, with the certificate in this file [default: without TLS]
    #[arg(long, value_name = "FILE")]
    tls_listen_certificate: Option<String>,

    /// Its key [default: it is in the same file]
    #[arg(long, value_name = "FILE")]
    tls_listen_key: Option<String>,

    /// Take only clients with a certificate of a CA in this file [default: any client]
    #[arg(long, value_name = "FILE")]
    tls_listen_ca: Option<String>,

    /// The CA of the server's certificate; with --upstream …?tls=true alone the system's roots hold
    #[arg(long, value_name = "FILE")]
    tls_upstream_ca: Option<String>,

    /// The certificate to show a server that asks for one
    #[arg(long, value_name = "FILE")]
    tls_upstream_certificate: Option<String>,

    /// Its key [default: it is in the same file]
    #[arg(long, value_name = "FILE")]
    tls_upstream_key: Option<String>,

    /// The name to ask for and to find in the server's certificate [default: the upstream's host]
    #[arg(long, value_name = "NAME")]
    tls_upstream_server_name: Option<String>,

    /// Take any certificate of the server's [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tls_upstream_allow_invalid_certificates: Option<String>,

    /// Take a certificate for another name [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    tls_upstream_allow_invalid_hostnames: Option<String>,
}

impl TlsArgs {
    fn settings(&self) -> TlsSettings {
        let text = |flag: &Option<String>| flag.as_deref().map(Text::from);
        let switch = |flag: &Option<String>| flag.as_deref().map(Switch::from);
        let listen = TlsListenSettings {
            certificate: text(&self.tls_listen_certificate),
            key: text(&self.tls_listen_key),
            ca: text(&self.tls_listen_ca),
        };
        let upstream = TlsUpstreamSettings {
            ca: text(&self.tls_upstream_ca),
            certificate: text(&self.tls_upstream_certificate),
            key: text(&self.tls_upstream_key),
            server_name: text(&self.tls_upstream_server_name),
            allow_invalid_certificates: switch(&self.tls_upstream_allow_invalid_certificates),
            allow_invalid_hostnames: switch(&self.tls_upstream_allow_invalid_hostnames),
        };
        TlsSettings { listen: Some(listen), upstream: Some(upstream) }
    }
}

/// What holds for every log.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Logs")]
struct LogArgs {
    /// compact, text or jsonl, for all logs [default: compact on standard output, jsonl for *.jsonl, else text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// Kinds of events: command, heartbeat, server, topology, connection [default: all; compact: command,topology]
    #[arg(long, value_name = "LIST")]
    log_events: Vec<String>,

    /// Commands of these phases of connections: app, auth, handshake, monitor, rtt [default: app,auth]
    #[arg(long, value_name = "LIST")]
    log_phases: Vec<String>,

    /// Namespaces: db, db.*, db.collection, with ! before what is left out [default: all]
    #[arg(long, value_name = "LIST")]
    log_namespaces: Vec<String>,

    /// Cut longer documents; 0 is no limit [default: 10000]
    #[arg(long, value_name = "BYTES")]
    log_max_document_bytes: Option<String>,

    /// relaxed or canonical [default: relaxed]
    #[arg(long, value_name = "MODE")]
    log_extended_json: Option<String>,

    /// Bytes of lines that may wait for the disk [default: 16 MiB]
    #[arg(long, value_name = "BYTES")]
    log_queue_bytes: Option<String>,

    /// When that many wait: drop (whole exchanges, counted) or block (the application) [default: drop]
    #[arg(long, value_name = "POLICY")]
    log_on_overflow: Option<String>,

    /// When the disk fails: pass (try again) or stop (the proxy) [default: pass]
    #[arg(long, value_name = "POLICY")]
    log_on_error: Option<String>,

    /// Put a file aside before it grows beyond this; 0 is never [default: 0]
    #[arg(long, value_name = "BYTES")]
    log_rotate_bytes: Option<String>,

    /// Put a file aside that is older than this; 0 is never [default: 0]
    #[arg(long, value_name = "TIME")]
    log_rotate_every: Option<String>,

    /// Files put aside that are kept [default: 5]
    #[arg(long, value_name = "N")]
    log_keep: Option<String>,
}

/// Where the messages themselves are recorded.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Capture")]
struct CaptureArgs {
    /// Record the messages themselves in this file, without credentials: show and stats read it like a log
    #[arg(long, value_name = "PATH")]
    capture: Option<String>,

    /// Overwrite a capture that is there already
    #[arg(long)]
    force: bool,

    /// Bytes of messages that may wait for the disk [default: 16 MiB]
    #[arg(long, value_name = "BYTES")]
    capture_queue_bytes: Option<String>,

    /// When that many wait: drop (whole exchanges, counted) or block (the application) [default: block]
    #[arg(long, value_name = "POLICY")]
    capture_on_overflow: Option<String>,

    /// When the disk fails: pass (try again) or stop (the proxy) [default: pass]
    #[arg(long, value_name = "POLICY")]
    capture_on_error: Option<String>,

    /// Put a file aside before it grows beyond this; 0 is never [default: 0]
    #[arg(long, value_name = "BYTES")]
    capture_rotate_bytes: Option<String>,

    /// Put a file aside that is older than this; 0 is never [default: 0]
    #[arg(long, value_name = "TIME")]
    capture_rotate_every: Option<String>,

    /// Files put aside that are kept [default: 5]
    #[arg(long, value_name = "N")]
    capture_keep: Option<String>,
}

impl CaptureArgs {
    fn settings(&self) -> CaptureSettings {
        let text = |flag: &Option<String>| flag.as_deref().map(Text::from);
        CaptureSettings {
            path: text(&self.capture),
            queue_bytes: text(&self.capture_queue_bytes),
            on_overflow: text(&self.capture_on_overflow),
            on_error: text(&self.capture_on_error),
            rotate_bytes: text(&self.capture_rotate_bytes),
            rotate_every: text(&self.capture_rotate_every),
            keep: text(&self.capture_keep),
        }
    }
}

/// A list of which a flag gives one or, with commas between, several, as often as it is given.
pub(super) fn list_of(flags: &[String]) -> Option<List> {
    (!flags.is_empty()).then(|| List::from(flags.join(",").as_str()))
}

impl ConfigArgs {
    /// The configuration they ask for.
    ///
    /// # Errors
    /// [`Code::Usage`](super::Code) with what is wrong where.
    pub fn load(&self) -> Result<Config, Error> {
        Ok(Config::load(self.config.as_deref(), &self.flags())?)
    }

    fn flags(&self) -> Flags {
        let text = |flag: &Option<String>| flag.as_deref().map(Text::from);
        let pairs = |flag: &Option<String>| flag.as_deref().map(Pairs::from);
        let topology = TopologySettings {
            per: text(&self.topology.topology_per),
            closed_after: text(&self.topology.topology_closed_after),
            ended_after: text(&self.topology.topology_ended_after),
            idle_after: text(&self.topology.topology_idle_after),
            dial: pairs(&self.topology.topology_dial),
            listen: pairs(&self.topology.topology_listen),
            dns: text(&self.topology.topology_dns),
        };
        let top = Settings {
            listen: text(&self.listen),
            upstream: text(&self.upstream),
            advertise: text(&self.advertise),
            allow: list_of(&self.allow),
            max_connections: text(&self.max_connections),
            max_message_bytes: text(&self.max_message_bytes),
            inflate_max_bytes: text(&self.inflate_max_bytes),
            drain: text(&self.drain),
            threads: text(&self.threads),
            topology: Some(topology),
            tls: Some(self.tls.settings()),
            log: None,
            capture: Some(self.capture.settings()),
            redact: Some(self.redact.settings()),
            replay: None,
        };
        let log = &self.each_log;
        let each_log = LogSettings {
            path: None,
            format: text(&log.log_format),
            events: list_of(&log.log_events),
            phases: list_of(&log.log_phases),
            namespaces: list_of(&log.log_namespaces),
            max_document_bytes: text(&log.log_max_document_bytes),
            extended_json: text(&log.log_extended_json),
            queue_bytes: text(&log.log_queue_bytes),
            on_overflow: text(&log.log_on_overflow),
            on_error: text(&log.log_on_error),
            rotate_bytes: text(&log.log_rotate_bytes),
            rotate_every: text(&log.log_rotate_every),
            keep: text(&log.log_keep),
        };
        Flags { top, logs: self.logs.clone(), each_log, force: self.capture.force }
    }
}
