//! Every driver's workload, recorded before a real mongod, passes again without it: each program of `tests/drivers/` checks
//! its results itself.
//!
//! mongod is gone before the first replay. The capture serves each program, then a fixture made of it does, twice over and
//! with another size of its pool; PyMongo also with each compressor.

mod support;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use tempfile::TempDir;

use support::harness::{Case, Selection, exit_code};
use support::manifest::{self, Manifest};
use support::mongod::{Mongod, Options};
use support::program::run_bounded;
use support::proxy::command;
use support::replay::{Replay, captured};

fn main() -> ExitCode {
    let selection = Selection::from_arguments();
    let installed = manifest::installed(manifest::all());
    let runs = |manifest: &Manifest| COMPRESSORS.iter().any(|it| selection.takes(&name(manifest, it)));
    let wanted: Vec<_> = installed.into_iter().filter(runs).collect();
    let recorded: Vec<_> = if selection.is_list() { Vec::new() } else { record(&wanted) };
    let mut cases = Vec::new();
    for (index, manifest) in wanted.into_iter().enumerate() {
        for compressor in COMPRESSORS.iter().filter(|it| it.is_empty() || manifest.name == "pymongo") {
            let (manifest, capture) = (manifest.clone(), recorded.get(index).map(Recorded::capture));
            cases.push(Case::new(name(&manifest, compressor), move || {
                replay(&manifest, &capture.expect("it was recorded"), compressor)
            }));
        }
    }
    exit_code(selection.run(cases))
}

fn name(manifest: &Manifest, compressor: &str) -> String {
    if compressor.is_empty() { manifest.name.clone() } else { format!("{} with {compressor}", manifest.name) }
}

const COMPRESSORS: [&str; 4] = ["", "snappy", "zlib", "zstd"];

/// A driver's run.
struct Recorded(TempDir);

impl Recorded {
    fn capture(&self) -> PathBuf {
        self.0.path().join("run.mtap")
    }
}

/// Records all of them; the mongod is gone after that.
fn record(manifests: &[Manifest]) -> Vec<Recorded> {
    let mongod = Mongod::start(Options::default());
    let record = |manifest: &Manifest| {
        manifest.prepare();
        let directory = tempfile::tempdir().expect("a temporary directory");
        captured(&mongod.uri(), directory.path(), |uri| drop(run(manifest, uri)));
        Recorded(directory)
    };
    manifests.iter().map(record).collect()
}

fn replay(manifest: &Manifest, capture: &Path, compressor: &str) -> String {
    let options = if compressor.is_empty() { String::new() } else { format!("compressors={compressor}") };
    let replay = Replay::start(capture, &["--repeat", "last"]);
    let first = run(manifest, &replay.uri_with("", &options));
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    let matched = stopped.stderr.lines().find(|line| line.contains("matched")).unwrap_or_default().to_owned();
    let fewer = [options.as_str(), "maxPoolSize=2"].join(if options.is_empty() { "" } else { "&" });
    let fixture = converted(capture);
    let replay = Replay::start(&fixture, &["--repeat", "loop"]);
    for _ in 0..2 {
        assert_eq!(run(manifest, &replay.uri_with("", &fewer)), first);
    }
    let stopped = replay.stop();
    assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
    format!("{first}; {matched}")
}

/// The fixture of a capture, beside it.
fn converted(capture: &Path) -> PathBuf {
    let fixture = capture.with_extension("jsonl");
    let mut convert = command();
    let output = convert.arg("convert").arg(capture).arg(&fixture).arg("--force").stdin(Stdio::null()).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fixture
}

/// Runs a program; its last line. It must succeed.
fn run(manifest: &Manifest, uri: &str) -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = manifest.command();
    program.env("MONGODB_URI", uri).env("MONGOTAP_TEST_DB", format!("replay_{}", manifest.name));
    let said = run_bounded(program, directory.path());
    let last = said.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("ok "), "{last}");
    last
}
