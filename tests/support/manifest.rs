//! The drivers' programs in `tests/drivers/`: which there are, whether they can run here, and what runs them.
//!
//! They are copied into the build directory and prepared there, once for each state of their sources, so that what a
//! package manager installs or a compiler makes never lands among the sources.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fs::{self, File};
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use serde::Deserialize;

use super::fetch;

/// A driver's program, from its manifest; `tests/drivers/workload.md` says what its fields mean.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) name: String,
    detect: Vec<Vec<String>>,
    pub(crate) install: String,
    #[serde(default)]
    prepare: Vec<Vec<String>>,
    #[serde(default)]
    build: Vec<Vec<String>>,
    run: Vec<String>,
    /// The program that tells what the driver's listeners hear of the servers.
    #[serde(default)]
    sdam: Vec<String>,
    /// The program of steady writes.
    #[serde(default)]
    writer: Vec<String>,
    /// The program that does, step by step, what an application asks of a replica set.
    #[serde(default)]
    replica_set: Vec<String>,
    pub(crate) listeners: bool,
    pub(crate) gridfs: bool,
    /// Its directory below `tests/drivers/`.
    #[serde(skip)]
    directory: PathBuf,
}

impl Manifest {
    /// Whether what it needs is installed.
    pub(crate) fn is_installed(&self) -> bool {
        self.detect.iter().all(|words| {
            let quiet = command(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
            quiet.is_ok_and(|status| status.success())
        })
    }

    /// Installs and builds what it needs, unless that was done for the same sources before.
    pub(crate) fn prepare(&self) {
        let directory = copy().join(&self.directory);
        let lock = File::create(directory.join(".lock")).expect("the copy takes files");
        flock(&lock, FlockOperation::LockExclusive).expect("the lock is granted");
        let mut state = DefaultHasher::new();
        (&self.prepare, &self.build).hash(&mut state);
        for file in files(&sources().join(&self.directory)) {
            fs::read(&file).expect("a source is readable").hash(&mut state);
        }
        let stamp = directory.join(format!(".prepared-{:016x}", state.finish()));
        if !stamp.exists() {
            for words in self.prepare.iter().chain(&self.build) {
                fetch::run(command(words).current_dir(&directory), &format!("hint: {}", self.install));
            }
            fs::write(stamp, "").expect("the copy takes files");
        }
    }

    /// The workload's program, prepared, with nothing of a test's environment yet.
    pub(crate) fn command(&self) -> Command {
        self.program(&self.run)
    }

    /// The same for its `sdam`; `None` if it has no such program.
    pub(crate) fn sdam(&self) -> Option<Command> {
        (!self.sdam.is_empty()).then(|| self.program(&self.sdam))
    }

    /// The same for its `writer`.
    pub(crate) fn writer(&self) -> Option<Command> {
        (!self.writer.is_empty()).then(|| self.program(&self.writer))
    }

    /// The same for its `replica_set`.
    pub(crate) fn replica_set(&self) -> Option<Command> {
        (!self.replica_set.is_empty()).then(|| self.program(&self.replica_set))
    }

    fn program(&self, words: &[String]) -> Command {
        let mut program = command(words);
        program.current_dir(copy().join(&self.directory));
        program
    }
}

/// Those of them that can run here. The others are named, each with the line that installs it; that is a failure where
/// `MONGOTAP_TEST_DRIVERS=all` asks for all of them.
#[expect(clippy::print_stdout, reason = "what is not tested is to be seen")]
pub(crate) fn installed(manifests: Vec<Manifest>) -> Vec<Manifest> {
    let (found, missing): (Vec<_>, Vec<_>) = manifests.into_iter().partition(Manifest::is_installed);
    missing.iter().for_each(|it| println!("not found here, not tested: {:<14} {}", it.name, it.install));
    let all = env::var_os("MONGOTAP_TEST_DRIVERS").is_some_and(|it| it == "all");
    assert!(missing.is_empty() || !all, "MONGOTAP_TEST_DRIVERS=all: each of those is a failure");
    for required in ["pymongo", "rust"] {
        assert!(found.iter().any(|it| it.name == required), "the {required} driver must always run, and is not found");
    }
    found
}

/// Whether a program is there that a test holds results against. One that is not is named, with the line that installs it;
/// that is a failure where `MONGOTAP_TEST_DRIVERS=all` asks for all of them.
#[expect(clippy::print_stdout, reason = "what is not tested is to be seen")]
pub(crate) fn has_tool(name: &str, install: &str) -> bool {
    let mut quiet = Command::new(name);
    quiet.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let found = quiet.status().is_ok_and(|status| status.success());
    if !found {
        println!("not found here, not tested: {name:<14} {install}");
    }
    let all = env::var_os("MONGOTAP_TEST_DRIVERS").is_some_and(|it| it == "all");
    assert!(found || !all, "MONGOTAP_TEST_DRIVERS=all: {name} is missing\nhint: {install}");
    found
}

/// All programs, by name.
pub(crate) fn all() -> Vec<Manifest> {
    let manifests = files(&sources()).into_iter().filter(|file| file.extension().is_some_and(|it| it == "json"));
    let mut manifests: Vec<_> = manifests.filter_map(|file| read(&file)).collect();
    manifests.sort_by(|a, b| a.name.cmp(&b.name));
    manifests
}

/// A manifest is a file with a `detect` key.
fn read(file: &Path) -> Option<Manifest> {
    let text = fs::read_to_string(file).expect("a source is readable");
    let value: serde_json::Value =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    value.get("detect")?;
    let mut manifest: Manifest =
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let directory = file.parent().expect("a file is in a directory");
    manifest.directory = directory.strip_prefix(sources()).expect("a source is below the sources").to_owned();
    Some(manifest)
}

/// An interpreter that has what `requirements.txt` names.
pub(crate) fn python() -> PathBuf {
    let requirements = sources().join("python/requirements.txt");
    let mut state = DefaultHasher::new();
    fs::read(&requirements).expect("the requirements are there").hash(&mut state);
    fetch::once(&format!("python-{:016x}", state.finish()), |to| {
        const HINT: &str = "hint: apt-get install -y python3 python3-venv, and let pip reach its index";
        fetch::run(Command::new("python3").args(["-m", "venv"]).arg(to), HINT);
        let python = to.join("bin/python3");
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        fetch::run(pip.arg(&requirements), HINT);
        python
    })
}

/// The copy of `tests/drivers/` in the build directory, brought up to date.
pub(crate) fn copy() -> PathBuf {
    let to = target().join("drivers");
    fs::create_dir_all(&to).expect("the build directory takes directories");
    for file in files(&sources()) {
        let copied = to.join(file.strip_prefix(sources()).expect("a source is below the sources"));
        let content = fs::read(&file).expect("a source is readable");
        if fs::read(&copied).is_ok_and(|is| is == content) {
            continue;
        }
        fs::create_dir_all(copied.parent().expect("a file is in a directory")).expect("the copy takes directories");
        fs::copy(&file, &copied).expect("the copy takes files");
    }
    to
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/drivers")
}

/// The build directory, with those of the profiles in it.
fn target() -> PathBuf {
    fetch::cache().parent().expect("the cache is in the build directory").to_owned()
}

/// A command from its words.
fn command(words: &[String]) -> Command {
    let (program, arguments) = words.split_first().expect("a command has a program");
    let mut command = match program.as_str() {
        "{python}" => Command::new(python()),
        program => Command::new(program),
    };
    command.args(arguments);
    command
}

/// All files below a directory, sorted; none that a package manager or a compiler left there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match path.is_dir() {
            true if ["node_modules", "__pycache__", "target"].contains(&name.as_str()) => {}
            true => files.extend(self::files(&path)),
            false => files.push(path),
        }
    }
    files.sort();
    files
}
