//! Bytes from anybody: every reader against its seeds, against seeded mutations of them, and against what fuzzers found.
//!
//! The bodies in `bodies/` are those of the fuzzers in `fuzz/`. Here each runs over its seeds, over what was found before,
//! and over some thousands of mutations, the same ones every time: `MONGOTAP_TEST_MUTATIONS=N` tries N a target.
//! `MONGOTAP_TEST_SEEDS=DIRECTORY` writes the seeds for the fuzzers, a directory a target, and
//! `MONGOTAP_TEST_ARTIFACTS=DIRECTORY` tries what they left, a directory a target too.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

mod bodies;
#[path = "hostile/found.rs"]
mod found;
#[path = "playbook/input.rs"]
#[allow(dead_code, reason = "playbooks are run elsewhere; here their bytes are wanted")]
mod input;
#[path = "hostile/mutations.rs"]
mod mutations;
#[path = "hostile/seeds.rs"]
mod seeds;
#[allow(dead_code, reason = "what the rows say is tested elsewhere")]
mod wire_table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use peak_alloc::PeakAlloc;

use bodies::{TARGETS, Target};
use mutations::Mutations;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// What any target may take of memory for an input of at most 64 KiB, beyond what is inflated or announced in it.
const MEMORY_MAX: usize = 64 << 20;

/// Mutations tried for a target unless it is said otherwise: those that are costly to try get fewer.
fn how_many(target: &str) -> usize {
    let said = std::env::var("MONGOTAP_TEST_MUTATIONS").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(match target {
        "capture" | "fixture" | "log" | "pcap" => 150,
        _ => 1000,
    })
}

/// What fuzzers left in a directory.
fn left(target: &str) -> Vec<Vec<u8>> {
    let directory = std::env::var_os("MONGOTAP_TEST_ARTIFACTS").map(|all| Path::new(&all).join(target));
    let files = directory.into_iter().flat_map(|directory| fs::read_dir(directory).into_iter().flatten());
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// Runs a target. An error says which bytes it was.
fn try_bytes((name, body): Target, bytes: &[u8]) -> Result<(), String> {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let tried = std::panic::catch_unwind(|| body(bytes));
    let memory = MEMORY.peak_usage().saturating_sub(before);
    let hex = || bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match tried {
        Err(_) => Err(format!("{name}: {}\n", hex())),
        Ok(()) if memory > MEMORY_MAX => Err(format!("{name}: {memory} bytes of memory for {}\n", hex())),
        Ok(()) => Ok(()),
    }
}

/// One after the other, so that memory can be measured; of each target the first failure is told.
#[test]
fn whatever_the_bytes_readers_hold() {
    let (mut tried, mut wrong) = (0, String::new());
    for target in TARGETS {
        let seeds = seeds::seeds(target.0);
        let found = found::FOUND.iter().filter(|(name, ..)| *name == target.0);
        let found: Vec<_> = found.map(|(_, _, bytes)| wire_table::unhex(bytes)).collect();
        let mutations = Mutations::new(&seeds).take(how_many(target.0));
        let all = seeds.iter().cloned().chain(found).chain(left(target.0)).chain(mutations);
        if let Some(failure) = all.inspect(|_| tried += 1).find_map(|bytes| try_bytes(target, &bytes).err()) {
            wrong += &failure;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tried > 4000 || std::env::var_os("MONGOTAP_TEST_MUTATIONS").is_some(), "{tried} inputs");
}

/// What holds of conversations with secrets would not hold if they were shown: where that would be seen.
#[test]
fn a_secret_that_is_shown_is_found() {
    let found = bodies::where_it_shows();
    let everywhere = [
        "jsonl",
        "compact",
        "the statistics",
        "the records of the capture",
        "the capture's events",
        "the packets of the capture",
        "the exchanges of the capture",
        "the fixture",
        "the report of a replay",
    ];
    for name in everywhere {
        assert!(found.contains(&name), "{name}: {found:?}");
    }
}

/// A torn request is read on in the next one: what is in that is not shown as a part of the first.
#[test]
fn what_a_torn_request_swallows_does_not_show() {
    assert_eq!(bodies::where_swallowed_shows(), []);
}

/// The fuzzers' seeds are written where that is asked for, and every target has a fuzzer and seeds that say something.
#[test]
fn every_target_has_a_fuzzer_and_seeds() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let names = |table: &toml::Value| table["name"].as_str().unwrap().to_owned();
    let fuzzers: BTreeSet<_> = manifest["bin"].as_array().unwrap().iter().map(names).collect();
    let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(fuzzers, targets);
    assert!(found::FOUND.iter().all(|(name, ..)| targets.contains(*name)));

    let temporary = tempfile::tempdir().unwrap();
    let asked = std::env::var_os("MONGOTAP_TEST_SEEDS");
    let directory = asked.as_deref().map_or_else(|| temporary.path(), Path::new);
    for (name, _) in TARGETS {
        let seeds = seeds::seeds(name);
        assert!(seeds.iter().collect::<BTreeSet<_>>().len() >= 2, "{name}");
        let directory = directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(format!("seed-{number:03}")), seed).unwrap();
        }
    }
}
