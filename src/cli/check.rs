//! `mongotap check`: reads a configuration as `proxy` would and says what it asks for.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::config::{
    Advertise, Capture, Config, Flags, Log, Tls, TlsListen, Topology, Writing, show_duration, show_size,
};
use crate::net::recorder::holds_something;
use crate::net::{secrets, tls};

use super::{Code, Error, print};

/// The arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to check; proxy itself reads one only when --config names it [default: ./proxy.toml]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Checks the file and prints what it asks for.
///
/// # Errors
/// If the file cannot be read or `proxy` would refuse it.
pub fn run(args: Args) -> Result<(), Error> {
    let default = Path::new("proxy.toml");
    let path = args.config.as_deref().unwrap_or(default);
    if args.config.is_none() && !default.exists() {
        let error = Error::new(Code::Usage, "proxy.toml: not in the current directory");
        return Err(error.hint("name the file: mongotap check --config FILE"));
    }
    let config = Config::load(Some(path), &Flags::default())?;
    tls::check(&config.tls)?;
    secrets::fields(&config.redact)?;
    print(&describe(&path.display().to_string(), &config))
}

/// What a proxy with that configuration would do.
fn describe(name: &str, config: &Config) -> String {
    let mut text = format!("{name} is good\n");
    let mut line = |key: &str, value: &dyn std::fmt::Display| _ = writeln!(text, "{key:<18} {value}");
    line("listen", &config.listen);
    line("upstream", &config.upstream);
    match &config.advertise {
        Advertise::Listener => line("advertise", &"the address listened on"),
        Advertise::As(address) => line("advertise", address),
    }
    let allow = config.allow.iter().map(ToString::to_string).collect();
    line("allow", &join(allow, "anywhere"));
    line("max_connections", &config.max_connections);
    line("max_message_bytes", &show_size(config.max_message_bytes as u64));
    line("inflate_max_bytes", &show_size(config.inflate_max_bytes as u64));
    line("drain", &show_duration(config.drain));
    match config.threads {
        0 => line("threads", &"one for each processor"),
        threads => line("threads", &threads),
    }
    describe_topology(&config.topology, &mut text);
    describe_tls(&config.tls, &mut text);
    for log in &config.logs {
        describe_log(log, &mut text);
    }
    if config.logs.is_empty() {
        text.push_str("no log\n");
    }
    match &config.capture {
        Some(capture) => describe_capture(capture, &mut text),
        None => text.push_str("no capture\n"),
    }
    _ = writeln!(text, "redact");
    for (key, value) in config.redact.described() {
        _ = writeln!(text, "  {key:<18} {value}");
    }
    _ = writeln!(text, "replay, exec");
    for (key, value) in config.replay.described() {
        _ = writeln!(text, "  {key:<18} {value}");
    }
    _ = writeln!(text, "proxy reads this file only when it is named: mongotap proxy --config {name}");
    text
}

fn describe_topology(topology: &Topology, text: &mut String) {
    _ = writeln!(text, "topology");
    let mut line = |key: &str, value: String| _ = writeln!(text, "  {key:<18} {value}");
    line("per", topology.per.as_str().to_owned());
    line("closed_after", show_duration(topology.closed_after));
    line("ended_after", show_duration(topology.ended_after));
    line("idle_after", show_duration(topology.idle_after));
    for (key, places) in [("dial", &topology.dial), ("listen", &topology.listen)] {
        for (name, endpoint) in places {
            line(key, format!("{name} = {endpoint}"));
        }
    }
    line("dns", topology.dns.map_or_else(|| "the system's".to_owned(), |server| server.to_string()));
}

fn describe_tls(tls: &Tls, text: &mut String) {
    let mut line = |key: &str, value: String| _ = writeln!(text, "{key:<18} {value}");
    match &tls.listen {
        None => line("tls.listen", "no: clients connect without TLS".to_owned()),
        Some(TlsListen { certificate, ca, .. }) => {
            let clients = ca.as_ref().map_or_else(String::new, |ca| format!(", for clients of {}", ca.display()));
            line("tls.listen", format!("{}{clients}", certificate.display()));
        }
    }
    let Some(upstream) = &tls.upstream else {
        return line("tls.upstream", "no: the server is reached without TLS".to_owned());
    };
    let whose = match (&upstream.ca, upstream.allow_invalid_certificates, upstream.allow_invalid_hostnames) {
        (_, true, _) => "any certificate".to_owned(),
        (Some(ca), _, any) => format!("a certificate of {}{}", ca.display(), if any { ", for any name" } else { "" }),
        (None, _, any) => format!("a certificate of the system's roots{}", if any { ", for any name" } else { "" }),
    };
    let own = upstream.certificate.as_ref().map_or_else(String::new, |file| format!(", with {}", file.display()));
    line("tls.upstream", format!("{whose}{own}"));
}

fn join(words: Vec<String>, none: &str) -> String {
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

fn describe_log(log: &Log, text: &mut String) {
    _ = writeln!(text, "log {}", log.target);
    let mut line = |key: &str, value: String| _ = writeln!(text, "  {key:<18} {value}");
    line("format", log.format.as_str().to_owned());
    line("events", join(log.events.iter().map(|it| it.as_str().to_owned()).collect(), "none"));
    line("phases", join(log.phases.iter().map(|it| it.as_str().to_owned()).collect(), "none"));
    line("namespaces", join(log.namespaces.iter().map(ToString::to_string).collect(), "all"));
    line("max_document_bytes", if_any(show_size(log.max_document_bytes as u64), "no limit"));
    line("extended_json", log.extended_json_name().to_owned());
    describe_writing(&log.writing, &mut line);
}

fn describe_capture(capture: &Capture, text: &mut String) {
    _ = writeln!(text, "capture {}", capture.path.display());
    let mut line = |key: &str, value: String| _ = writeln!(text, "  {key:<18} {value}");
    describe_writing(&capture.writing, &mut line);
    if !capture.writing.rotates() && holds_something(&capture.path) {
        let what = "is there already: proxy does not start without --force; with rotate_bytes it is put aside";
        _ = writeln!(text, "  {what}");
    }
}

fn describe_writing(writing: &Writing, line: &mut impl FnMut(&str, String)) {
    line("queue_bytes", show_size(writing.queue_bytes as u64));
    line("on_overflow", writing.on_overflow.as_str().to_owned());
    line("on_error", writing.on_error.as_str().to_owned());
    line("rotate_bytes", if_any(show_size(writing.rotate_bytes), "never"));
    line("rotate_every", if_any(show_duration(writing.rotate_every), "never"));
    line("keep", writing.keep.to_string());
}

/// What 0 means, or the value.
fn if_any(value: String, zero: &str) -> String {
    if value == "0" { zero.to_owned() } else { value }
}
