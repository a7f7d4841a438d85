//! What the tests need and the repository does not hold: it is fetched once, into the build directory.
//!
//! Several test processes may ask at the same time: one fetches, the others wait for it on a lock file. What cannot be
//! fetched is a failure that says how to provide it, never a skip.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

/// The directory of PyMongo's source distribution; the specifications' tests are below its `test/`.
///
/// `MONGOTAP_PYMONGO_SDIST` names one that is already there, unpacked or as a `.tar.gz`.
pub(crate) fn pymongo_sdist() -> PathBuf {
    const HINT: &str =
        "hint: set MONGOTAP_PYMONGO_SDIST=/path/to/pymongo-4.20.0.tar.gz, or to the directory it unpacks to";
    match env::var_os("MONGOTAP_PYMONGO_SDIST").map(PathBuf::from) {
        Some(given) if given.is_dir() => given,
        Some(given) if given.is_file() => {
            let name = format!("given-{}", given.file_name().unwrap_or_default().display());
            once(&name, |to| unpack(&given, to, HINT))
        }
        Some(given) => panic!("MONGOTAP_PYMONGO_SDIST: {} is neither a directory nor a file\n{HINT}", given.display()),
        None => once("pymongo-4.20.0", |to| {
            unpack(&pip_download("pymongo==4.20.0", &["--no-binary", ":all:"], to, HINT), to, HINT)
        }),
    }
}

/// Where fetched things are kept between runs of the tests.
pub(crate) fn cache() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the build directory holds its tmp directory");
    target.join("mongotap-test")
}

/// The path that `make` left in the directory `name` of the cache, now or in an earlier run.
///
/// `make` fills the empty directory it is given and returns the path of interest, inside of it. Only what was made
/// whole is ever seen under `name`.
pub(crate) fn once(name: &str, make: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let cache = cache();
    fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
    // Released when the file is closed, also when the process dies.
    let lock = File::create(cache.join(format!("{name}.lock"))).expect("the cache takes files");
    flock(&lock, FlockOperation::LockExclusive).expect("the lock is granted");

    let (done, partial, note) = (cache.join(name), cache.join(format!("{name}.partial")), "mongotap-path");
    if !done.exists() {
        let _ = fs::remove_dir_all(&partial);
        fs::create_dir(&partial).expect("the cache takes directories");
        let made = make(&partial);
        let inside = made.strip_prefix(&partial).expect("what was made is inside the directory given for it");
        fs::write(partial.join(note), inside.to_str().expect("the name is text")).expect("the cache takes files");
        fs::rename(&partial, &done).expect("the partial directory becomes the whole one");
    }
    done.join(fs::read_to_string(done.join(note)).expect("the note says what was made"))
}

/// Downloads a distribution from the Python package index into `to`; returns the file.
pub(crate) fn pip_download(requirement: &str, options: &[&str], to: &Path, hint: &str) -> PathBuf {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
    run(pip.args(options).arg("--dest").arg(to).arg(requirement), hint);
    only_entry(to)
}

/// Unpacks a `.tar.gz` with one directory at its top into `to`; returns that directory.
fn unpack(archive: &Path, to: &Path, hint: &str) -> PathBuf {
    let inner = to.join("unpacked");
    fs::create_dir(&inner).expect("the cache takes directories");
    run(Command::new("python3").args(["-m", "tarfile", "-e"]).arg(archive).arg(&inner), hint);
    only_entry(&inner)
}

/// Runs a command to its end; one that fails ends the test with what it said.
pub(crate) fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}\n{hint}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}{hint}", output.status);
}

/// The one thing in a directory.
fn only_entry(directory: &Path) -> PathBuf {
    let mut entries =
        fs::read_dir(directory).expect("the directory is there").map(|entry| entry.expect("an entry").path());
    let (Some(entry), None) = (entries.next(), entries.next()) else {
        panic!("{}: expected one entry", directory.display());
    };
    entry
}
