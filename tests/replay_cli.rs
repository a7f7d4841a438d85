//! `mongotap replay` as a command: what it says, how it ends, and whom it lets in, held against a real mongod.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use support::mongod::{Mongod, Options, PASSWORD, USER};
use support::replay::{Replay, captured, output};
use support::{certificates, manifest};

/// Writes an order and looks for it.
const PROGRAM: &str = r#"
import sys, pymongo
with pymongo.MongoClient(sys.argv[1], serverSelectionTimeoutMS=10000) as client:
    orders = client.cli.orders
    orders.drop()
    made = orders.insert_one({"item": "tea"}).inserted_id
    print(orders.find_one({"_id": made})["item"], orders.count_documents({"item": sys.argv[2]}))
"#;

fn program(uri: &str, item: &str) -> Command {
    let mut python = Command::new(manifest::python());
    python.args(["-c", PROGRAM, uri, item]);
    python
}

/// A capture of the program's run, and a fixture made of it.
fn recorded() -> &'static (TempDir, PathBuf, PathBuf) {
    static RECORDED: OnceLock<(TempDir, PathBuf, PathBuf)> = OnceLock::new();
    RECORDED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let capture = captured(&Mongod::shared().uri(), directory.path(), |uri| {
            assert_eq!(output(&mut program(uri, "tea")), "tea 1\n");
        });
        let fixture = directory.path().join("orders.jsonl");
        output(support::proxy::command().arg("convert").arg(&capture).arg(&fixture));
        (directory, capture, fixture)
    })
}

fn fixture() -> &'static Path {
    &recorded().2
}

#[test]
fn it_tells_what_was_asked_and_ends_accordingly() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let replay = Replay::start(fixture(), &["--explain", "--report", report.to_str().unwrap()]);
    let name = fixture().display();
    assert!(replay.said.starts_with("listening on 127.0.0.1:") && replay.said.contains(&format!(" -> {name}\nuse ")));
    assert!(replay.uri.ends_with("/?directConnection=true"), "{}", replay.uri);
    assert_eq!(output(&mut program(&replay.uri, "tea")), "tea 1\n");
    assert!(!program(&replay.uri, "coffee").output().unwrap().status.success());
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("\"tea\" there and \"coffee\" here"), "{}", stopped.stderr);
    let explained =
        |command: &str, note: &str| stopped.stdout.lines().any(|line| line.contains(command) && line.contains(note));
    assert!(explained("insert", "documents.0._id") && explained("find", "lsid"), "{}", stopped.stdout);
    let report: Value = serde_json::from_str(&fs::read_to_string(report).unwrap()).unwrap();
    assert_eq!(report["missed"], Value::from(1), "{report}");
}

#[test]
fn a_miss_on_masked_values_says_that_they_were() {
    let masked = fixture().with_file_name("masked.jsonl");
    output(support::proxy::command().arg("convert").arg(fixture()).arg(&masked).arg("--redact"));
    let replay = Replay::start(&masked, &[]);
    assert!(!program(&replay.uri, "tea").output().unwrap().status.success());
    let said = replay.stop().stderr;
    assert!(
        said.contains("this recording was redacted") && said.contains("documents.0.item is \"***\" there"),
        "{said}"
    );
}

#[test]
fn lists_are_given_with_commas_or_again() {
    for flags in [
        &["--ignore", "query.item,pipeline.0.$match.item"][..],
        &["--ignore", "query.item", "--ignore", "pipeline.0.$match.item"],
    ] {
        let replay = Replay::start(fixture(), flags);
        assert_eq!(output(&mut program(&replay.uri, "coffee")), "tea 1\n");
        assert_eq!(replay.stop().code, Some(0), "{flags:?}");
    }
}

#[test]
fn strict_wants_everything_asked() {
    let replay = Replay::start(fixture(), &["--strict"]);
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(1), "{}", stopped.stderr);
    assert!(stopped.stderr.contains("never asked for: line "), "{}", stopped.stderr);
    assert_eq!(Replay::start(fixture(), &[]).stop().code, Some(0));
}

#[test]
fn what_cannot_be_served_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (log, broken) = (path("log.jsonl", "{\"seq\":0}\n"), path("broken.jsonl", "{\"mongotap\":\"fixture\"}\n"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let fixture = fixture().to_str().unwrap();
    let rows: [(&[&str], i32, &str); 8] = [
        (&["no-such-file.jsonl"], 3, "no-such-file.jsonl: no such file or directory\nhint: "),
        (&[&log], 3, "log.jsonl: an event log"),
        (&[&broken], 3, "broken.jsonl: line 1, column "),
        (&[&broken, "--on-miss", "record"], 3, "broken.jsonl: line 1, column "),
        (&[fixture, "--repeat", "twice"], 2, "--repeat: \"twice\" is not known"),
        (&[fixture, "--user", "ann", "--password-env", "MONGOTAP_NO_SUCH"], 2, "MONGOTAP_NO_SUCH is not set\nhint: "),
        (&[fixture, "--listen", &taken], 4, "cannot listen: "),
        (&[], 2, "required arguments were not provided"),
    ];
    for (arguments, code, said) in rows {
        let output = support::proxy::command().arg("replay").args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "nothing is left behind");
}

/// What PyMongo is told by a server that does not let it in: the code and its name.
const REFUSED: &str = r#"
import sys, pymongo
for uri in sys.argv[1:]:
    with pymongo.MongoClient(uri, serverSelectionTimeoutMS=10000) as client:
        try:
            print(client.refused.orders.find_one({"_id": 1}))
        except pymongo.errors.OperationFailure as error:
            print(error.code, error.details["codeName"])
"#;

#[test]
fn who_is_not_let_in_is_told_as_by_a_server() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let uris = |base: &str, user: &str| {
        let uri = |credentials: &str, options: &str| {
            let separator = if base.contains('?') { "&" } else { "/?" };
            format!("{}{separator}{options}", base.replacen("mongodb://", &format!("mongodb://{credentials}@"), 1))
        };
        [
            uri(&format!("{user}:wrong"), "authSource=admin&authMechanism=SCRAM-SHA-256"),
            uri(&format!("{user}:wrong"), "authSource=admin&authMechanism=SCRAM-SHA-1"),
            uri("nobody:wrong", "authSource=admin&authMechanism=SCRAM-SHA-256"),
            uri("nobody:wrong", "authSource=admin"),
            uri(&format!("{user}:wrong"), "authMechanism=PLAIN"),
        ]
    };
    let ask = |uris: &[String]| output(Command::new(manifest::python()).args(["-c", REFUSED]).args(uris));
    let real = ask(&uris(&mongod.uri(), USER));
    let mut command = support::proxy::command();
    command.arg("replay").arg(fixture()).args(["--listen", "127.0.0.1:0", "--user", USER, "--password-env", "PW"]);
    command.env("PW", PASSWORD);
    let replay = Replay::spawn(command);
    assert_eq!(ask(&uris(&replay.uri, USER)), real);
    assert_eq!(real, "18 AuthenticationFailed\n".repeat(4) + "334 MechanismUnavailable\n");
}

#[test]
fn plain_is_taken_by_choice_and_passwords_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("ann.txt"), "from a file\n").unwrap();
    let config = directory.path().join("proxy.toml");
    let users = format!("{{ ann = \"file:{}\" }}", directory.path().join("ann.txt").display());
    fs::write(&config, format!("[replay]\naccept = [\"plain\"]\nrepeat = \"loop\"\nusers = {users}\n")).unwrap();
    let replay = Replay::start(fixture(), &["--config", config.to_str().unwrap()]);
    for (user, options) in [("ann:from%20a%20file@", "authSource=admin"), ("somebody:whatever@", "authMechanism=PLAIN")]
    {
        assert_eq!(output(&mut program(&replay.uri_with(user, options), "tea")), "tea 1\n");
    }
    let nobody = Replay::start(fixture(), &[]);
    let refused = program(&nobody.uri_with("ann:secret@", "authSource=admin"), "tea").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("was given no users") && said.contains("--user NAME --password-env VAR"), "{said}");
}

/// A server that wants to know who asks is asked as the first user.
#[test]
fn an_upstream_is_asked_as_the_user() {
    let mongod = Mongod::start(Options { auth: true, ..Options::default() });
    let rows = [
        (Some(PASSWORD), true, "tea 0\n"),
        (Some("another"), false, "cannot authenticate: Authentication failed.; it is asked as the first --user NAME"),
        (None, false, "it wants authentication; it is asked as the first --user NAME --password-env VAR"),
    ];
    for (password, is_answered, said) in rows {
        let mut command = support::proxy::command();
        command.arg("replay").arg(fixture()).args(["--listen", "127.0.0.1:0", "--on-miss", "forward"]);
        command.args(["--upstream", &mongod.uri()]);
        let mut options = ("", "");
        if let Some(password) = password {
            command.args(["--user", USER, "--password-env", "PW"]).env("PW", password);
            options = ("tester:PASSWORD@", "authSource=admin");
        }
        let replay = Replay::spawn(command);
        let user = options.0.replace("PASSWORD", &password.unwrap_or_default().replace(' ', "%20"));
        let asked = program(&replay.uri_with(&user, options.1), "coffee").output().unwrap();
        let text = [asked.stdout, asked.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(asked.status.success() == is_answered && text.contains(said), "{text}");
        let stopped = replay.stop();
        assert_eq!(stopped.code, Some(i32::from(!is_answered)), "{}", stopped.stderr);
        assert_eq!(stopped.stderr.matches("1 missed").count() > 0, !is_answered, "{}", stopped.stderr);
    }
}

/// A client with a certificate authenticates by it, once that is chosen.
#[test]
fn tls_and_x509() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("proxy.toml");
    let listen = format!(
        "[tls.listen]\ncertificate = {:?}\nca = {:?}\n",
        certificates::path("server.pem"),
        certificates::path("ca.pem")
    );
    fs::write(&config, format!("[replay]\naccept = [\"x509\"]\n{listen}")).unwrap();
    let replay = Replay::start(fixture(), &["--config", config.to_str().unwrap()]);
    let (ca, client) = (certificates::path("ca.pem"), certificates::path("client.pem"));
    let tls = format!("tls=true&tlsCAFile={}&tlsCertificateKeyFile={}", ca.display(), client.display());
    let uri = replay.uri_with("", &format!("{tls}&authMechanism=MONGODB-X509"));
    assert_eq!(output(&mut program(&uri, "tea")), "tea 1\n");
    assert_eq!(replay.stop().code, Some(0));

    fs::write(&config, format!("[replay]\naccept = [\"plain\"]\n{listen}")).unwrap();
    let unchosen = Replay::start(fixture(), &["--config", config.to_str().unwrap()]);
    let refused =
        program(&unchosen.uri_with("", &format!("{tls}&authMechanism=MONGODB-X509")), "tea").output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("--accept x509 takes it"), "{said}");
    // TLS is as it was configured, whoever authenticates.
    assert_eq!(output(&mut program(&unchosen.uri_with("", &tls), "tea")), "tea 1\n");
}
