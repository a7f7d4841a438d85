//! What mongotap is built of, held against `deny.toml`: licences, versions of one crate, and where crates come from.
//!
//! `cargo deny check` does the same and more (advisories); this reads what cargo itself says of the locked graph.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use toml::Table;

fn rules() -> Table {
    include_str!("../deny.toml").parse().expect("deny.toml is TOML")
}

/// The strings of an array, at a path of names.
fn strings<'a>(rules: &'a Table, path: [&str; 2]) -> Vec<&'a str> {
    let found = rules[path[0]].get(path[1]).and_then(toml::Value::as_array).expect("it is there");
    found.iter().map(|it| it.as_str().expect("a string")).collect()
}

/// A crate of the graph.
#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: String,
    source: Option<String>,
}

/// What cargo would build for a target, everything that is only for tests included. Manifests of other targets' crates are
/// fetched if they are not there.
fn packages(target: &str) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--format-version=1", "--locked", "--filter-platform", target]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let nodes = metadata["resolve"]["nodes"].as_array().expect("the graph");
    let built: BTreeSet<_> = nodes.iter().map(|node| node["id"].as_str()).collect();
    let all = metadata["packages"].as_array().expect("packages").iter();
    let text = |package: &Value, key: &str| package[key].as_str().map(str::to_owned);
    let packages = all.filter(|package| built.contains(&package["id"].as_str())).map(|package| Package {
        name: text(package, "name").unwrap_or_default(),
        version: text(package, "version").unwrap_or_default(),
        licence: text(package, "license").unwrap_or_default(),
        source: text(package, "source"),
    });
    packages.collect()
}

/// Those of all targets that deny.toml names, each of which must be known to cargo.
fn all_packages() -> Vec<Package> {
    let rules = rules();
    let packages: Vec<_> = strings(&rules, ["graph", "targets"]).into_iter().flat_map(packages).collect();
    assert!(packages.len() > 500, "there are some, and each target has its own: {}", packages.len());
    packages
}

/// Whether one of an SPDX expression's alternatives is wholly allowed.
fn is_allowed(licence: &str, allowed: &[&str]) -> bool {
    // What is in parentheses binds closer; there are no deeper ones.
    if let Some((before, rest)) = licence.split_once('(') {
        let (inner, after) = rest.split_once(')').expect("it is closed");
        let inner = if is_allowed(inner, allowed) { allowed[0] } else { "none of them" };
        return is_allowed(&format!("{before}{inner}{after}"), allowed);
    }
    let mut alternatives = licence.split(" OR ").flat_map(|it| it.split('/'));
    alternatives.any(|every| every.split(" AND ").all(|one| allowed.contains(&one.trim())))
}

#[test]
fn licences_are_allowed() {
    let rules = rules();
    let allowed = strings(&rules, ["licenses", "allow"]);
    let packages = all_packages();
    for Package { name, version, licence, .. } in &packages {
        assert!(is_allowed(licence, &allowed), "{name} {version}: {licence:?}");
    }
    for licence in allowed {
        assert!(packages.iter().any(|it| it.licence.contains(licence)), "nothing is under {licence} any more");
    }
}

#[test]
fn expressions_are_read() {
    let allowed = ["MIT", "Zlib"];
    for (licence, expected) in [
        ("MIT", true),
        ("GPL-3.0 OR MIT", true),
        ("GPL-3.0/Zlib", true),
        ("MIT AND Zlib", true),
        ("MIT AND GPL-3.0", false),
        ("(GPL-3.0 OR MIT) AND Zlib", true),
        ("(GPL-3.0 OR LGPL-3.0) AND Zlib", false),
        ("MIT-0", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(licence, &allowed), expected, "{licence}");
    }
}

#[test]
fn crates_have_one_version_each_but_for_those_that_are_named() {
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for package in all_packages() {
        versions.entry(package.name).or_default().insert(package.version);
    }
    let rules = rules();
    let skipped = rules["bans"]["skip"].as_array().expect("an array").iter();
    for skipped in skipped.map(|it| it["crate"].as_str().expect("a crate")) {
        let (name, older) = skipped.split_once('@').expect("crate@version");
        let versions = versions.get_mut(name).unwrap_or_else(|| panic!("{name} is not used any more"));
        let before = versions.len();
        versions.retain(|version| !version.starts_with(&format!("{older}.")));
        assert_eq!((before - versions.len(), versions.is_empty()), (1, false), "{skipped} is no double any more");
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "several versions of {versions:?}");
}

#[test]
fn crates_come_from_the_registry() {
    let rules = rules();
    let allowed = strings(&rules, ["sources", "allow-registry"]);
    for Package { name, source, .. } in all_packages() {
        match source.as_deref().and_then(|source| source.strip_prefix("registry+")) {
            Some(registry) => assert!(allowed.contains(&registry), "{name} comes from {registry}"),
            None => assert_eq!((name.as_str(), source.as_deref()), ("mongotap", None)),
        }
    }
}
