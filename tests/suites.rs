//! The README's `mongotap exec` lines, each around a real test suite: recorded before a real mongod, run again without it,
//! by workers at the same time, and with a query changed.

mod support;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use support::fetch;
use support::harness::{Case, Selection, exit_code};
use support::mongod::{Mongod, Options};

/// A suite in `tests/suites/`.
#[derive(Clone, Copy)]
struct Suite {
    /// Its directory.
    name: &'static str,
    /// A command that succeeds where it can be run.
    detect: &'static str,
    /// What provides it.
    install: &'static str,
    /// The README's line.
    line: &'static str,
    /// A file, a query in it, and another one.
    change: (&'static str, &'static str, &'static str),
}

const SUITES: [Suite; 4] = [
    Suite {
        name: "pytest",
        detect: "python3 -c 'import venv, ensurepip'",
        install: "apt-get install -y python3 python3-venv",
        line: "mongotap exec --fixture fixtures/orders.jsonl -- pytest -n 4",
        change: ("test_orders.py", "find({\"status\": \"paid\"}", "find({\"status\": \"lost\"}"),
    },
    Suite {
        name: "jest",
        detect: "npm --version",
        install: "install Node.js 20.19 or newer with npm (https://nodejs.org)",
        line: "mongotap exec --fixture fixtures/orders.jsonl -- npx jest",
        change: ("orders.test.js", "find({ status: 'paid' })", "find({ status: 'lost' })"),
    },
    Suite {
        name: "go",
        detect: "test -d /usr/share/gocode/src/go.mongodb.org/mongo-driver && go version",
        install: "apt-get install -y golang-go golang-mongodb-mongo-driver-dev",
        line: "mongotap exec --fixture fixtures/orders.jsonl -- go test -count=1 ./...",
        change: ("orders_test.go", "bson.M{\"status\": \"paid\"}", "bson.M{\"status\": \"lost\"}"),
    },
    Suite {
        name: "cargo",
        detect: "cargo --version",
        install: "install Rust (https://rustup.rs)",
        line: "mongotap exec --fixture fixtures/orders.jsonl -- cargo test",
        change: ("src/lib.rs", "doc! { \"status\": \"paid\" }", "doc! { \"status\": \"lost\" }"),
    },
];

#[expect(clippy::print_stdout, reason = "what is not tested is to be seen")]
fn main() -> ExitCode {
    let selection = Selection::from_arguments();
    let (found, missing): (Vec<_>, Vec<_>) = SUITES.into_iter().partition(Suite::is_installed);
    missing.iter().for_each(|it| println!("not found here, not tested: {:<14} {}", it.name, it.install));
    let all = env::var_os("MONGOTAP_TEST_DRIVERS").is_some_and(|it| it == "all");
    assert!(missing.is_empty() || !all, "MONGOTAP_TEST_DRIVERS=all: each of those is a failure");
    let cases = found.into_iter().map(|suite| Case::new(suite.name, move || suite.check())).collect();
    exit_code(selection.run(cases))
}

impl Suite {
    fn is_installed(&self) -> bool {
        let mut detect = shell(self.detect);
        detect.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }

    fn check(&self) -> String {
        let readme = fs::read_to_string(root().join("README.md")).expect("there is a README");
        assert!(readme.lines().any(|line| line == self.line), "the README has no line {:?}", self.line);
        let directory = self.prepare();
        let mongod = Mongod::start(Options::default());
        let uri = mongod.uri();
        let recorded = self.run(&directory, &uri, false);
        is(&recorded, 0, &["recorded ", "the next run needs no server"]);
        drop(mongod);
        for _ in 0..2 {
            is(&self.run(&directory, &uri, true), 0, &["answered "]);
        }
        let (file, from, to) = self.change;
        let source = fs::read_to_string(directory.join(file)).expect("a source is readable");
        assert!(source.contains(from), "{file} has no {from}");
        fs::write(directory.join(file), source.replace(from, to)).expect("the copy takes files");
        let changed = self.run(&directory, &uri, true);
        assert_ne!(changed.status.code(), Some(0));
        let said = is(&changed, changed.status.code().unwrap_or(0), &[" missed", "\"paid\"", "\"lost\"", "line "]);
        said.lines().find(|line| line.starts_with("missed: ")).unwrap_or_default().to_owned()
    }

    /// A copy of it, with what it needs, and no fixture.
    fn prepare(&self) -> PathBuf {
        let directory = fetch::cache().join("suites").join(self.name);
        let source = root().join("tests/suites").join(self.name);
        let (from, to) = (source.display(), directory.display());
        let copy = format!("mkdir -p '{to}' && cp -r '{from}/.' '{to}/' && rm -rf '{to}/fixtures'");
        fetch::run(&mut shell(&copy), "");
        let needs = match self.name {
            "pytest" => {
                "test -e .venv/ready || { python3 -m venv .venv && .venv/bin/pip install -q \
                 --disable-pip-version-check -r requirements.txt && touch .venv/ready; }"
            }
            "jest" => "npm install --silent --no-audit --no-fund --no-package-lock",
            "cargo" => "cargo build --quiet --locked --tests",
            _ => "true",
        };
        fetch::run(&mut self.environment(shell(needs), &directory), &format!("hint: {}", self.install));
        directory
    }

    fn environment(&self, mut command: Command, directory: &Path) -> Command {
        command.current_dir(directory).env_remove("CI");
        match self.name {
            "pytest" => {
                let path = env::var("PATH").unwrap_or_default();
                command.env("PATH", format!("{}:{path}", directory.join(".venv/bin").display()));
            }
            "go" => {
                command.env("GO111MODULE", "off").env("GOPATH", "/usr/share/gocode");
                command.env("GOCACHE", directory.join(".cache")).env_remove("GOFLAGS");
            }
            "cargo" => {
                // Built for the driver's program, or for it now: the dependencies are the same.
                let target = fetch::cache().parent().expect("the cache is in it").join("drivers/rust/target");
                command.env("CARGO_TARGET_DIR", target).env("RUSTFLAGS", "");
            }
            _ => {}
        }
        command
    }

    /// Runs the README's line as it stands there.
    fn run(&self, directory: &Path, uri: &str, is_ci: bool) -> Output {
        let words = self.line.strip_prefix("mongotap ").expect("it is ours").split_whitespace();
        let mut command = self.environment(support::proxy::command(), directory);
        command.args(words).env("MONGODB_URI", uri).stdin(Stdio::null());
        if is_ci {
            command.env("CI", "true");
        }
        command.output().expect("the binary runs")
    }
}

fn is(output: &Output, code: i32, parts: &[&str]) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{said}\n{printed}");
    parts.iter().for_each(|part| assert!(said.contains(part), "no {part:?} in {said}\n{printed}"));
    said
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
