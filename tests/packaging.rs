//! What is in `packaging/`: systemd finds the unit good and well shut in, and the container's files are there. So is what
//! `SECURITY.md` names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const UNIT: &str = include_str!("../packaging/mongotap.service");
const CONTAINER: &str = include_str!("../packaging/Containerfile");

/// The unit with the binary where it is here, for systemd wants to see it.
fn unit(directory: &Path) -> PathBuf {
    let unit = UNIT.replace("/usr/bin/mongotap", env!("CARGO_BIN_EXE_mongotap"));
    let path = directory.join("mongotap.service");
    fs::write(&path, unit).expect("it can be written");
    path
}

fn systemd_analyze(arguments: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze").args(arguments).arg(unit).output();
    let output = output.expect("systemd-analyze is installed, as .ci/install-drivers does");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn systemd_finds_the_unit_good() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (good, said) = systemd_analyze(&["verify", "--man=no"], &unit(directory.path()));
    assert!(good && !said.contains("mongotap.service"), "{said}");
}

/// systemd rates exposure from 0 to 10, here in tenths: 20 is the most that it still finds good.
#[test]
fn the_service_is_shut_in() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let unit = unit(directory.path());
    let rate = || systemd_analyze(&["security", "--offline=yes", "--threshold=15", "--no-pager"], &unit);
    let (good, said) = rate();
    assert!(good, "{said}");
    let text = fs::read_to_string(&unit).expect("the unit");
    let opened: Vec<_> = text.lines().filter(|line| !line.starts_with("SystemCallFilter=")).collect();
    fs::write(&unit, opened.join("\n")).expect("it can be written");
    let (good, said) = rate();
    assert!(!good, "what is left open is seen: {said}");
}

/// The commands of the unit are ones that the program knows.
#[test]
fn the_unit_starts_what_there_is() {
    let commands = UNIT.lines().filter_map(|line| line.split_once("=/usr/bin/mongotap "));
    let mut count = 0;
    for (key, command) in commands {
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/proxy.toml");
        let command = command.replace("/etc/mongotap/proxy.toml", config);
        // Of what runs on only the arguments are tried.
        let command = if key == "ExecStart" { format!("{command} --help") } else { command };
        let output = Command::new(env!("CARGO_BIN_EXE_mongotap")).args(command.split(' ')).output().expect("it runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn what_the_container_copies_is_there_and_enough_to_build() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copied = CONTAINER.lines().filter_map(|line| line.strip_prefix("COPY ")).filter(|it| !it.starts_with("--"));
    let copied: Vec<_> = copied.flat_map(|line| line.split(' ').rev().skip(1)).collect();
    assert!(copied.len() > 5);
    for path in &copied {
        assert!(root.join(path).exists(), "{path}");
    }
    // What cargo wants to see, and what the source includes.
    for needed in ["Cargo.toml", "Cargo.lock", "src", "benches", "README.md"] {
        assert!(copied.contains(&needed), "{needed}");
    }
    let rust = CONTAINER.lines().find(|line| line.contains("library/rust:")).expect("it is built with Rust");
    let (_, version) = rust.split_once("rust:1.").expect("a version");
    let minor: u32 = version.split('-').next().and_then(|minor| minor.parse().ok()).expect("a number");
    let wanted = include_str!("../Cargo.toml").lines().find_map(|line| line.strip_prefix("rust-version = \"1."));
    assert!(wanted.is_some_and(|it| it.trim_end_matches('"').parse::<u32>().expect("a number") <= minor));
}

#[test]
fn the_proofs_that_are_named_are_there() {
    let text = include_str!("../SECURITY.md");
    let named: Vec<_> =
        text.split('`').skip(1).step_by(2).filter(|it| it.starts_with("tests/") || it.contains("src/")).collect();
    assert!(named.len() > 8, "{named:?}");
    for path in named {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists(), "{path}");
    }
}
