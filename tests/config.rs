//! The configuration: the shipped file is complete and changes nothing, a flag says what its key says, and errors
//! name the key where it was written.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Args, Command, FromArgMatches};
use mongotap::cli::args::ConfigArgs;
use mongotap::cli::replay::AnswerArgs;
use mongotap::config::{Config, Error, Flags, Password, Target};
use mongotap::sink::{EventKind, Format};

const SHIPPED: &str = include_str!("../proxy.toml");

/// A value other than the default for every key of the top level.
const TOP: [(&str, &str); 9] = [
    ("listen", "[::1]:1"),
    ("upstream", "mongodb://%2Ftmp%2Fx.sock"),
    ("advertise", "db.example.org:27017"),
    ("allow", "10.1.0.0/16,::1"),
    ("max_connections", "7"),
    ("max_message_bytes", "1 MiB"),
    ("inflate_max_bytes", "2MB"),
    ("drain", "100ms"),
    ("threads", "3"),
];

/// The same for every key of `[topology]`.
const TOPOLOGY: [(&str, &str); 7] = [
    ("per", "upstream"),
    ("closed_after", "1m"),
    ("ended_after", "1s"),
    ("idle_after", "20s"),
    ("dial", "mongo1:27017=127.0.0.1:27017,mongo2:27017=127.0.0.1:27018"),
    ("listen", "mongo2:27017=127.0.0.1:30000"),
    ("dns", "127.0.0.1:53"),
];

/// A value other than the default for every key of `[[log]]` but `path`.
const LOG: [(&str, &str); 12] = [
    ("format", "jsonl"),
    ("events", "command,connection"),
    ("phases", "app,handshake"),
    ("namespaces", "shop.*,!shop.carts"),
    ("max_document_bytes", "0"),
    ("extended_json", "canonical"),
    ("queue_bytes", "64 KiB"),
    ("on_overflow", "block"),
    ("on_error", "stop"),
    ("rotate_bytes", "1 GB"),
    ("rotate_every", "1h"),
    ("keep", "1"),
];

/// A value other than the default for every key of `[capture]` but `path`.
const CAPTURE: [(&str, &str); 6] = [
    ("queue_bytes", "64 KiB"),
    ("on_overflow", "drop"),
    ("on_error", "stop"),
    ("rotate_bytes", "1 GB"),
    ("rotate_every", "1h"),
    ("keep", "1"),
];

/// A value other than the default for every key of `[redact]`.
const REDACT: [(&str, &str); 3] =
    [("fields", "users.ssn,*.password"), ("mode", "hash"), ("key", "env:MONGOTAP_REDACT_KEY")];

/// A value other than the default for every key of `[tls.listen]`; the first is needed by the others.
const TLS_LISTEN: [(&str, &str); 3] = [("certificate", "server.pem"), ("key", "server.key"), ("ca", "clients.pem")];

/// The same for `[tls.upstream]`.
const TLS_UPSTREAM: [(&str, &str); 6] = [
    ("certificate", "client.pem"),
    ("key", "client.key"),
    ("ca", "ca.pem"),
    ("server_name", "db.example.org"),
    ("allow_invalid_certificates", "true"),
    ("allow_invalid_hostnames", "true"),
];

/// A value other than the default for every key of `[replay]` that is a word, a number or a list; its flags have no
/// section's name before them.
const REPLAY: [(&str, &str); 11] = [
    ("ignore", "comment,pipeline.*.$limit"),
    ("exact", "documents.*.at"),
    ("bind", "documents.*.token"),
    ("date_tolerance", "1m"),
    ("scope", "appName"),
    ("repeat", "once"),
    ("strict", "true"),
    ("timing", "recorded"),
    ("topology", "all"),
    ("on_miss", "forward"),
    ("accept", "plain,x509"),
];

fn from_file(text: &str) -> Result<Config, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.toml");
    std::fs::write(&path, text).unwrap();
    let nameless = |text: String| text.replace(&format!("{}/", directory.path().display()), "");
    Config::load(Some(&path), &Flags::default())
        .map_err(|error| Error { message: nameless(error.message), hint: error.hint })
}

fn from_flags(flags: &[&str]) -> Result<Config, Error> {
    let command = ConfigArgs::augment_args(Command::new("test").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).unwrap();
    let loaded = ConfigArgs::from_arg_matches(&matches).unwrap().load();
    loaded.map_err(|error| Error { message: error.message, hint: error.hint })
}

fn from_replay_flags(flags: &[&str]) -> Result<Config, Error> {
    let command = AnswerArgs::augment_args(Command::new("test").no_binary_name(true));
    let matches = command.try_get_matches_from(flags).unwrap();
    let loaded = AnswerArgs::from_arg_matches(&matches).unwrap().load();
    loaded.map_err(|error| Error { message: error.message, hint: error.hint })
}

fn error(loaded: Result<Config, Error>) -> (String, String) {
    let error = loaded.unwrap_err();
    (error.message, error.hint.unwrap_or_default())
}

/// The keys that the code knows, by its own account.
fn known(table: &str) -> BTreeSet<String> {
    let (_, hint) = error(from_file(&format!("{table}\nno_such_key_at_all = 1\n")));
    hint.strip_prefix("known here are ").unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(from_file(SHIPPED).unwrap(), Config::default());
    assert_eq!(from_file("").unwrap(), Config::default());
    assert_eq!(from_flags(&[]).unwrap(), Config::default());
}

#[test]
fn the_shipped_file_holds_every_key_with_a_comment() {
    let shipped: toml::Table = SHIPPED.parse().unwrap();
    let log = &shipped["log"].as_array().unwrap()[0];
    let keys = |table: &toml::Table| table.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&shipped), known(""));
    assert_eq!(keys(shipped["topology"].as_table().unwrap()), known("[topology]"));
    assert_eq!(keys(log.as_table().unwrap()), known("[[log]]"));
    assert_eq!(keys(shipped["capture"].as_table().unwrap()), known("[capture]"));
    assert_eq!(keys(shipped["redact"].as_table().unwrap()), known("[redact]"));
    assert_eq!(keys(shipped["replay"].as_table().unwrap()), known("[replay]"));
    for section in ["listen", "upstream"] {
        assert_eq!(keys(shipped["tls"][section].as_table().unwrap()), known(&format!("[tls.{section}]")));
    }
    let lines: Vec<&str> = SHIPPED.lines().collect();
    let keys = lines.windows(2).filter(|pair| pair[1].contains(" = ") && !pair[1].starts_with('#'));
    let bare: Vec<_> = keys.filter(|pair| !pair[0].starts_with('#')).collect();
    assert!(bare.is_empty(), "without a comment: {bare:?}");
}

#[test]
fn the_values_tried_here_are_of_every_key() {
    let tried = |values: &[(&str, &str)]| values.iter().map(|(key, _)| (*key).to_owned()).collect::<BTreeSet<_>>();
    let sections = ["capture", "log", "redact", "replay", "tls", "topology"].map(str::to_owned).into();
    assert_eq!(&tried(&TOP) | &sections, known(""));
    assert_eq!(tried(&TOPOLOGY), known("[topology]"));
    assert_eq!(tried(&REDACT), known("[redact]"));
    assert_eq!(tried(&TLS_LISTEN), known("[tls.listen]"));
    assert_eq!(tried(&TLS_UPSTREAM), known("[tls.upstream]"));
    let path = BTreeSet::from(["path".to_owned()]);
    assert_eq!(&tried(&LOG) | &path, known("[[log]]"));
    assert_eq!(&tried(&CAPTURE) | &path, known("[capture]"));
    assert_eq!(&tried(&REPLAY) | &BTreeSet::from(["users".to_owned()]), known("[replay]"));
}

#[test]
fn every_key_and_its_flag_say_the_same_and_something() {
    for (key, value) in TOP {
        let file = from_file(&format!("{key} = {value:?}")).unwrap();
        let flag = format!("--{}", key.replace('_', "-"));
        assert_eq!(from_flags(&[&flag, value]).unwrap(), file, "{key}");
        assert_ne!(file, Config::default(), "{key}");
    }
    for (key, value) in TOPOLOGY {
        let file = from_file(&format!("[topology]\n{key} = {value:?}")).unwrap();
        let flag = format!("--topology-{}", key.replace('_', "-"));
        assert_eq!(from_flags(&[&flag, value]).unwrap(), file, "{key}");
        assert_ne!(file, Config::default(), "{key}");
    }
    for (key, value) in LOG {
        let file = from_file(&format!("[[log]]\npath = \"-\"\n{key} = {value:?}")).unwrap();
        let flag = format!("--log-{}", key.replace('_', "-"));
        assert_eq!(from_flags(&[&flag, value]).unwrap(), file, "{key}");
        assert_ne!(file, Config::default(), "{key}");
    }
    let with_path = from_file("[capture]\npath = \"run.mtap\"").unwrap();
    assert_eq!(from_flags(&["--capture", "run.mtap"]).unwrap(), with_path);
    for (key, value) in CAPTURE {
        let file = from_file(&format!("[capture]\npath = \"run.mtap\"\n{key} = {value:?}")).unwrap();
        let flag = format!("--capture-{}", key.replace('_', "-"));
        assert_eq!(from_flags(&["--capture", "run.mtap", &flag, value]).unwrap(), file, "{key}");
        assert_ne!(file, with_path, "{key}");
    }
}

#[test]
fn every_key_of_redact_and_its_flag_say_the_same_and_something() {
    for (key, value) in REDACT {
        let file = from_file(&format!("[redact]\n{key} = {value:?}")).unwrap();
        let flag = format!("--redact-{key}");
        assert_eq!(from_flags(&[&flag, value]).unwrap(), file, "{key}");
        assert_eq!(from_replay_flags(&[&flag, value]).unwrap(), file, "{key}");
        assert_ne!(file, Config::default(), "{key}");
    }
    for (key, value, message) in [
        ("fields", "ssn", "\"ssn\" is not a path to a field"),
        ("fields", "users.cards[0].number", "\"users.cards[0].number\" is not a path to a field"),
        ("fields", "users.ssn users.name", "\"users.ssn users.name\" is not a path to a field"),
        ("mode", "hide", "\"hide\" is not known"),
        ("key", "s3cret", "the key is neither env:… nor file:…"),
    ] {
        let found = error(from_file(&format!("[redact]\n{key} = {value:?}")));
        assert_eq!(found.0, format!("proxy.toml: redact.{key}: {message}"));
        assert_eq!(error(from_flags(&[&format!("--redact-{key}"), value])).0, format!("--redact-{key}: {message}"));
    }
}

#[test]
fn every_key_of_replay_and_its_flag_say_the_same_and_something() {
    assert_eq!(from_replay_flags(&[]).unwrap(), Config::default());
    for (key, value) in REPLAY {
        let file = from_file(&format!("[replay]\n{key} = {value:?}")).unwrap();
        let flag = format!("--{}={value}", key.replace('_', "-"));
        assert_eq!(from_replay_flags(&[&flag]).unwrap(), file, "{key}");
        assert_ne!(file, Config::default(), "{key}");
    }
    let users = from_file("[replay]\nusers = { ann = \"env:ANN\", bob = \"env:BOB\" }").unwrap();
    let flags = ["--user", "ann", "--password-env", "ANN", "--user", "bob", "--password-env", "BOB"];
    assert_eq!(from_replay_flags(&flags).unwrap(), users);
    let ann = ("ann".to_owned(), Password::Env("ANN".to_owned()));
    assert_eq!(users.replay.users.first(), Some(&ann));
    let file = from_file("[replay]\nusers = { ann = \"file:ann.txt\" }").unwrap();
    assert_eq!(file.replay.users, [("ann".to_owned(), Password::File("ann.txt".into()))]);
    assert!(from_replay_flags(&["--strict"]).unwrap().replay.strict == Some(true));
}

#[test]
fn errors_of_replay_name_the_key_where_it_was_written() {
    for (key, value, message, hint) in [
        ("bind", "documents..token", "\"documents..token\" is not a path", "write names and positions"),
        ("repeat", "twice", "\"twice\" is not known", "one of last, once, loop"),
        ("strict", "perhaps", "\"perhaps\" is neither true nor false", ""),
        ("scope", "appname", "\"appname\" is not known", "did you mean \"appName\"?"),
        ("accept", "ldap", "\"ldap\" is not known", "one of plain, x509"),
        ("date_tolerance", "5", "\"5\" has no unit", "write it like"),
    ] {
        let found = error(from_file(&format!("[replay]\n{key} = {value:?}")));
        assert!(found.0.starts_with(&format!("proxy.toml: replay.{key}: {message}")), "{found:?}");
        assert!(found.1.starts_with(hint), "{found:?}");
        let flag = format!("--{}", key.replace('_', "-"));
        let found = error(from_replay_flags(&[&format!("{flag}={value}")]));
        assert!(found.0.starts_with(&format!("{flag}: {message}")), "{found:?}");
    }
    let found = error(from_file("[replay]\nusers = { ann = \"s3cret\" }"));
    assert_eq!(found.0, "proxy.toml: replay.users: the password of \"ann\" is neither env:… nor file:…");
    assert!(!found.1.contains("s3cret"));
}

#[test]
fn members_are_named_in_a_table_too() {
    let table = from_file("[topology]\ndial = { \"Mongo1:27017\" = \"127.0.0.1:1\", mongo2 = \"[::1]:2\" }").unwrap();
    let flag = from_flags(&["--topology-dial", "mongo1=127.0.0.1:1, mongo2:27017=[::1]:2"]).unwrap();
    assert_eq!(table, flag);
    for (key, value, message) in [
        ("dial", "mongo1", "\"mongo1\" has no address"),
        ("listen", "a:1=x:5,b:1=x:5", "x:5 is for both a:1 and b:1"),
        ("dns", "localhost", "\"localhost\" is not ip:port"),
        ("per", "server", "\"server\" is not known"),
    ] {
        let found = error(from_file(&format!("[topology]\n{key} = {value:?}")));
        assert_eq!(found.0, format!("proxy.toml: topology.{key}: {message}"));
        assert_eq!(error(from_flags(&[&format!("--topology-{key}"), value])).0, format!("--topology-{key}: {message}"));
    }
}

#[test]
fn every_key_of_tls_and_its_flag_say_the_same_and_something() {
    for (section, keys) in [("listen", &TLS_LISTEN[..]), ("upstream", &TLS_UPSTREAM[..])] {
        let (first, of_first) = keys[0];
        let with_first = from_file(&format!("[tls.{section}]\n{first} = {of_first:?}")).unwrap();
        assert_ne!(with_first, Config::default());
        let first_flag = format!("--tls-{section}-{first}");
        for (key, value) in &keys[1..] {
            let text = format!("[tls.{section}]\n{first} = {of_first:?}\n{key} = {value:?}");
            let file = from_file(&text).unwrap();
            let flag = format!("--tls-{section}-{}", key.replace('_', "-"));
            assert_eq!(from_flags(&[&first_flag, of_first, &flag, value]).unwrap(), file, "{key}");
            assert_ne!(file, with_first, "{key}");
            if *value == "true" {
                assert_eq!(from_file(&text.replace("\"true\"", "true")).unwrap(), file);
                assert_eq!(from_flags(&[&first_flag, of_first, &flag]).unwrap(), file);
            }
        }
    }
}

#[test]
fn tls_of_the_upstream_is_said_in_its_uri_or_in_keys() {
    let flags = |uri: &str, flags: &[&str]| {
        let all = [&["--upstream", uri][..], flags].concat();
        from_flags(&all).map(|config| config.tls.upstream)
    };
    let by_uri = flags("mongodb://a/?tls=true&tlsCAFile=ca.pem&tlsAllowInvalidHostnames=true", &[]).unwrap();
    let keys = ["--tls-upstream-ca", "ca.pem", "--tls-upstream-allow-invalid-hostnames"];
    assert_eq!(flags("mongodb://a", &keys).unwrap(), by_uri);
    assert_eq!(flags("mongodb://a/?tls=true", &keys).unwrap(), by_uri);
    assert!(by_uri.is_some() && flags("mongodb://a/?tls=false", &[]).unwrap().is_none());
    let refused = |uri: &str, keys: &[&str]| flags(uri, keys).unwrap_err().message;
    assert!(refused("mongodb://a/?tls=false", &keys).contains("tls=false"));
    assert!(refused("mongodb://a/?tlsCAFile=other.pem", &keys).contains("other.pem"));
    assert_eq!(refused("mongodb://a/?tls=maybe", &[]), "--upstream: tls: \"maybe\" is neither true nor false");
    for (flag, message) in [
        ("--tls-listen-key", "tls.listen.key has no effect without a certificate"),
        ("--tls-listen-ca", "tls.listen.ca has no effect without a certificate"),
        ("--tls-upstream-key", "tls.upstream.key has no effect without a certificate"),
    ] {
        assert_eq!(error(from_flags(&[flag, "a.pem"])).0, message);
    }
    assert_eq!(
        error(from_file("[tls.upstream]\nallow_invalid_hostnames = \"perhaps\"")).0,
        "proxy.toml: tls.upstream.allow_invalid_hostnames: \"perhaps\" is neither true nor false"
    );
}

#[test]
fn flags_go_before_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("p.toml");
    let log = directory.path().join("a.log");
    let text = format!("threads = 2\ndrain = \"1s\"\n[[log]]\npath = {log:?}\nkeep = 9\n[[log]]\npath = \"-\"\n");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();

    let config = from_flags(&["--config", path, "--threads", "4", "--log-keep", "2"]).unwrap();
    assert_eq!((config.threads, config.drain.as_secs()), (4, 1));
    assert_eq!(config.logs.iter().map(|log| log.writing.keep).collect::<Vec<_>>(), [2, 2]);

    let config = from_flags(&["--config", path, "--log", "-"]).unwrap();
    assert_eq!(config.logs, Config::default().logs);
}

#[test]
fn the_format_follows_the_target_and_the_events_the_format() {
    let directory = tempfile::tempdir().unwrap();
    let name = |file: &str| directory.path().join(file).to_str().unwrap().to_owned();
    let logs = ["-".to_owned(), name("a.jsonl"), name("a.txt")];
    let flags: Vec<&str> = logs.iter().flat_map(|log| ["--log", log]).collect();
    let config = from_flags(&flags).unwrap();
    let formats: Vec<Format> = config.logs.iter().map(|log| log.format).collect();
    assert_eq!(formats, [Format::Compact, Format::Jsonl, Format::Text]);
    let everything: Vec<bool> = config.logs.iter().map(|log| log.events == EventKind::ALL).collect();
    assert_eq!(everything, [false, true, true]);
    let config = from_flags(&["--log-format", "jsonl"]).unwrap();
    assert_eq!((&config.logs[0].target, &config.logs[0].events[..]), (&Target::Stdout, &EventKind::ALL[..]));
}

#[test]
fn a_name_in_dns_stands_for_servers_with_tls() {
    let tls = |upstream: &str| from_flags(&["--upstream", upstream]).unwrap().tls.upstream;
    assert!(tls("mongodb+srv://db.example.org").is_some());
    assert_eq!(tls("mongodb+srv://db.example.org/?tls=false"), None);
    assert_eq!(tls("mongodb://db.example.org"), None);
}

#[test]
fn no_log_is_allowed() {
    assert!(from_file("log = []").unwrap().logs.is_empty());
}

#[test]
fn errors_name_the_key_where_it_was_written() {
    let (message, hint) = error(from_file("upstream = \"mongodb:/localhost\""));
    assert_eq!(message, "proxy.toml: upstream: \"mongodb:/localhost\" is not a connection string");
    assert!(hint.starts_with("name one server, like mongodb://127.0.0.1:27017"), "{hint}");
    assert_eq!(error(from_flags(&["--upstream", "x"])).0, "--upstream: \"x\" is not a connection string");

    for (key, value, message) in [
        ("listen", "localhost", "\"localhost\" has no port"),
        ("allow", "10.1.0.0/33", "\"10.1.0.0/33\" is no network"),
        ("max_connections", "0", "0 would let nobody in"),
        ("max_connections", "many", "\"many\" is not a number"),
        ("max_message_bytes", "15", "\"15\" is out of range"),
        ("inflate_max_bytes", "16 miles", "\"16 miles\" is not a size"),
        ("drain", "5", "\"5\" has no unit"),
        ("threads", "-1", "\"-1\" is not a number"),
    ] {
        assert_eq!(error(from_file(&format!("{key} = {value:?}"))).0, format!("proxy.toml: {key}: {message}"));
        let flag = format!("--{}", key.replace('_', "-"));
        assert_eq!(error(from_flags(&[&format!("{flag}={value}")])).0, format!("{flag}: {message}"));
    }
    for (key, value, message, hint) in [
        ("format", "json", "\"json\" is not known", "did you mean \"jsonl\"?"),
        ("events", "command,hartbeat", "\"hartbeat\" is not known", "did you mean \"heartbeat\"?"),
        ("phases", "application", "\"application\" is not known", "one of app, auth, handshake, monitor, rtt"),
        ("namespaces", "!", "\"!\" is not a namespace", "write db.collection, db or db.*"),
        ("queue_bytes", "0", "a queue of 0 bytes holds nothing", "the default is"),
        ("on_overflow", "wait", "\"wait\" is not known", "one of drop, block"),
        ("rotate_every", "1 fortnight", "\"1 fortnight\" is not a duration", "write it like"),
        ("keep", "all", "\"all\" is not a number", "write a whole number"),
    ] {
        let found = error(from_file(&format!("[[log]]\npath = \"-\"\n{key} = {value:?}")));
        assert_eq!(found.0, format!("proxy.toml: log.{key}: {message}"));
        assert!(found.1.starts_with(hint), "{found:?}");
        let flag = format!("--log-{}", key.replace('_', "-"));
        assert_eq!(error(from_flags(&[&flag, value])).0, format!("{flag}: {message}"));
    }
}

#[test]
fn logs_that_cannot_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = |file: &str| directory.path().join(file).to_str().unwrap().to_owned();
    let message = |logs: &[&str]| {
        let flags: Vec<&str> = logs.iter().flat_map(|log| ["--log", log]).collect();
        error(from_flags(&flags)).0.replace(directory.path().to_str().unwrap(), "DIR")
    };
    let file = path("a");
    std::fs::write(&file, "").unwrap();
    std::os::unix::fs::symlink(&file, path("link")).unwrap();
    assert_eq!(message(&["-", "-"]), "log -: two logs to the same place");
    assert_eq!(message(&[&path("b"), &path("./b")]), "log DIR/./b: two logs to the same place");
    assert_eq!(message(&[&file, "-", &path("link")]), "log DIR/link: two logs to the same place");
    assert_eq!(message(&[&path("")]), "log DIR/: is a directory");
    assert_eq!(message(&[&path("no/a")]), "log DIR/no/a: no such directory");
    assert_eq!(message(&[&path("a/b")]), "log DIR/a/b: not in a directory");
    assert_eq!(message(&[""]), "--log: an empty path");
    assert_eq!(error(from_file("[[log]]\nkeep = 1")).0, "proxy.toml: [[log]]: no path");
    assert!(!Path::new(&path("b")).exists(), "looking must not create");
}

#[test]
fn a_proxy_that_would_call_itself_is_refused() {
    let flags = ["--listen", "127.0.0.1:27017"];
    assert_eq!(error(from_flags(&flags)).0, "listen and upstream are both 127.0.0.1:27017");
}

#[test]
fn a_file_that_is_not_there() {
    let found = Config::load(Some(Path::new("/no/such/proxy.toml")), &Flags::default());
    assert_eq!(error(found).0, "/no/such/proxy.toml: no such file or directory");
}
