//! What stands between client and server: how each is started, found ready, and ended.

use std::{
    collections::VecDeque,
    fmt, fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, Stdio},
    str::FromStr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    Result,
    child::{Process, Role},
};

const READY: Duration = Duration::from_secs(10);
const LINES_KEPT: usize = 40;
/// Debian keeps servers in directories that are not on every user's path.
const SYSTEM_PATH: &str = "/usr/sbin:/usr/local/sbin:/sbin";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Direct,
    Haproxy,
    Nginx,
    Pump,
    Mongotap,
    /// Mongotap with a capture beside its log.
    Capture,
    /// Mongotap without a log: it only counts.
    Statistics,
}

impl Kind {
    pub(crate) fn is_mongotap(self) -> bool {
        matches!(self, Self::Mongotap | Self::Capture | Self::Statistics)
    }
}

/// A proxy and the number of threads it is given; without one it takes its own default.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Proxy {
    pub(crate) kind: Kind,
    pub(crate) threads: Option<usize>,
}

impl FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (name, threads) = match text.split_once(':') {
            Some((name, threads)) => {
                (name, Some(threads.parse().map_err(|_| format!("{text:?}: {threads:?} is not a number of threads"))?))
            }
            None => (text, None),
        };
        let kind = match name {
            "direct" => Kind::Direct,
            "haproxy" => Kind::Haproxy,
            "nginx" => Kind::Nginx,
            "pump" => Kind::Pump,
            "mongotap" => Kind::Mongotap,
            "capture" => Kind::Capture,
            "statistics" => Kind::Statistics,
            _ => {
                return Err(format!("{name:?} is none of direct, haproxy, nginx, pump, mongotap, capture, statistics"));
            }
        };
        Ok(Self { kind, threads })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            Kind::Direct => "direct",
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
            Kind::Pump => "pump",
            Kind::Mongotap => "mongotap",
            Kind::Capture => "capture",
            Kind::Statistics => "statistics",
        };
        match self.threads {
            Some(threads) => write!(f, "{name}:{threads}"),
            None => f.write_str(name),
        }
    }
}

/// Where things are, the same for all runs.
pub(crate) struct Place {
    pub(crate) mongotap: PathBuf,
    /// For configurations and logs; on a disk, since a log in memory would flatter.
    pub(crate) directory: PathBuf,
}

enum Running {
    Nothing,
    Role(Role),
    Process(Process),
}

/// A proxy that takes connections.
pub(crate) struct Started {
    proxy: Proxy,
    running: Running,
    pub(crate) address: SocketAddr,
    /// Of mongotap: the events.
    pub(crate) log: Option<PathBuf>,
    /// Of mongotap with a capture: the messages.
    pub(crate) capture: Option<PathBuf>,
    said: Said,
}

/// The last lines that mongotap said on stderr.
type Said = Arc<Mutex<VecDeque<String>>>;

impl Started {
    /// Starts `proxy` before the server at `upstream`, and waits until it is ready.
    pub(crate) fn new(proxy: Proxy, upstream: SocketAddr, place: &Place) -> Result<Self> {
        let said = Said::default();
        let (mut log, mut capture) = (None, None);
        let (running, address) = match proxy.kind {
            Kind::Direct => (Running::Nothing, upstream),
            Kind::Haproxy | Kind::Nginx => {
                let (process, address) = start_configured(proxy, upstream, place)?;
                (Running::Process(process), address)
            }
            Kind::Pump => {
                let threads = proxy.threads.unwrap_or(2);
                let arguments = [format!("--upstream={upstream}"), format!("--threads={threads}")];
                let mut role = Role::start("pump", &arguments)?;
                let address = role.hear()?.parse()?;
                (Running::Role(role), address)
            }
            Kind::Mongotap | Kind::Capture | Kind::Statistics => {
                log = (proxy.kind != Kind::Statistics).then(|| place.directory.join("events.jsonl"));
                capture = (proxy.kind == Kind::Capture).then(|| place.directory.join("run.mtap"));
                let files = (log.as_deref(), capture.as_deref());
                let (process, address) = start_mongotap(proxy, upstream, place, files, &said)?;
                (Running::Process(process), address)
            }
        };
        Ok(Self { proxy, running, address, log, capture, said })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::Nothing => None,
            Running::Role(role) => Some(role.id()),
            Running::Process(process) => Some(process.id()),
        }
    }

    /// Ends it; mongotap has then written its whole log.
    pub(crate) fn stop(mut self) -> Result<()> {
        if let Running::Process(process) = &mut self.running {
            let status = process.terminate()?;
            if self.proxy.kind.is_mongotap() && !status.success() {
                return Err(format!("mongotap ended with {status}; its last words:\n{}", last_words(&self.said)).into());
            }
        }
        Ok(())
    }
}

/// Whether the program is there, by asking its version; and what it says.
pub(crate) fn version(kind: Kind, place: &Place) -> Result<String> {
    let (mut command, flag) = match kind {
        Kind::Direct | Kind::Pump => return Ok(String::new()),
        Kind::Haproxy => (system_command("haproxy"), "-v"),
        Kind::Nginx => (system_command("nginx"), "-v"),
        Kind::Mongotap | Kind::Capture | Kind::Statistics => (Command::new(&place.mongotap), "--version"),
    };
    let program = command.get_program().display().to_string();
    let output = command.arg(flag).output().map_err(|error| match kind {
        Kind::Haproxy => format!("{program}: {error}\nhint: apt-get install haproxy"),
        Kind::Nginx => format!("{program}: {error}\nhint: apt-get install nginx libnginx-mod-stream"),
        _ => format!("{program}: {error}"),
    })?;
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let first = String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned();
    // "HAProxy version 2.6.12-1 2026/10/17 - https://…", "nginx version: nginx/1.22.1"
    Ok(first.split(" - ").next().unwrap_or_default().replace("nginx version: ", ""))
}

fn system_command(program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{path}:{SYSTEM_PATH}");
    let found = path.split(':').map(|directory| Path::new(directory).join(program)).find(|file| file.is_file());
    Command::new(found.unwrap_or_else(|| program.into()))
}

fn start_configured(proxy: Proxy, upstream: SocketAddr, place: &Place) -> Result<(Process, SocketAddr)> {
    // Neither can be asked for a free port and say which; one that was free a moment ago still is.
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let (template, name) = match proxy.kind {
        Kind::Haproxy => (include_str!("haproxy.cfg"), "haproxy.cfg"),
        _ => (include_str!("nginx.conf"), "nginx.conf"),
    };
    let configuration = template
        .replace("@threads@", &proxy.threads.unwrap_or(2).to_string())
        .replace("@listen@", &address.to_string())
        .replace("@upstream@", &upstream.to_string())
        .replace("@directory@", &place.directory.display().to_string());
    let file = place.directory.join(name);
    fs::write(&file, configuration)?;
    let mut command = match proxy.kind {
        Kind::Haproxy => system_command("haproxy"),
        _ => system_command("nginx"),
    };
    match proxy.kind {
        Kind::Haproxy => command.arg("-q").arg("-db").arg("-f").arg(&file),
        _ => command.arg("-e").arg("stderr").arg("-p").arg(&place.directory).arg("-c").arg(&file),
    };
    let mut process = Process::start(command.stdin(Stdio::null()))?;
    let start = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = process.child().try_wait()? {
            return Err(format!("{proxy} ended at once with {status}").into());
        }
        if start.elapsed() > READY {
            return Err(format!("{proxy} does not listen on {address}").into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok((process, address))
}

fn start_mongotap(
    proxy: Proxy,
    upstream: SocketAddr,
    place: &Place,
    (log, capture): (Option<&Path>, Option<&Path>),
    said: &Said,
) -> Result<(Process, SocketAddr)> {
    let mut command = Command::new(&place.mongotap);
    command.arg("proxy").arg("--listen=127.0.0.1:0").arg(format!("--upstream=mongodb://{upstream}"));
    let mut configuration = String::new();
    match log {
        Some(log) => {
            if log.exists() {
                fs::remove_file(log)?;
            }
            command.arg("--log").arg(log);
        }
        None => configuration.push_str("log = []\n"),
    }
    if let Some(capture) = capture {
        command.arg("--force").arg("--capture").arg(capture);
    }
    configuration.extend(proxy.threads.map(|threads| format!("threads = {threads}\n")));
    if !configuration.is_empty() {
        let file = place.directory.join("proxy.toml");
        fs::write(&file, configuration)?;
        command.arg("--config").arg(file);
    }
    let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()))?;
    let stderr = process.child().stderr.take().ok_or("a child without stderr")?;
    let ready = listen_to(stderr, Arc::clone(said));
    let Ok(address) = ready.recv_timeout(READY) else {
        return Err(format!("mongotap proxy did not say that it listens; it said:\n{}", last_words(said)).into());
    };
    let address = address.parse().map_err(|_| format!("mongotap listens on {address:?}, which is no address"))?;
    Ok((process, address))
}

/// Keeps the last of what is said, and gives the address it is said to listen on.
fn listen_to(stderr: ChildStderr, said: Said) -> mpsc::Receiver<String> {
    let (sender, ready) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
            if let Some(address) = line.strip_prefix("listening on ").and_then(|rest| rest.split(" -> ").next()) {
                // Whoever waited may have given up.
                let _ = sender.send(address.to_owned());
            }
            let Ok(mut said) = said.lock() else { return };
            said.push_back(line);
            if said.len() > LINES_KEPT {
                said.pop_front();
            }
        }
    });
    ready
}

fn last_words(said: &Said) -> String {
    said.lock().map(|said| said.iter().map(String::as_str).collect::<Vec<_>>().join("\n")).unwrap_or_default()
}
