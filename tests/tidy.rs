//! What holds of the sources as text: which module uses which, what only the network layer may do, how files begin and how
//! long they are.

#![expect(clippy::unwrap_used, reason = "what a test cannot have, it fails without")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, highest first, and what each uses: only what stands below it. A missing arrow is added here when it is
/// needed and points down.
const MAY_USE: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["net", "config", "replay", "capture", "sink", "redact", "event", "bson"]),
    (
        "net",
        &["config", "replay", "capture", "sink", "pipeline", "redact", "topology", "session", "event", "bson", "wire"],
    ),
    ("config", &["replay", "sink", "redact", "event", "bson"]),
    ("replay", &["capture", "sink", "redact", "session", "event", "bson", "wire"]),
    ("capture", &["sink", "pipeline", "redact", "topology", "session", "event", "bson", "wire"]),
    ("sink", &["redact", "event", "bson"]),
    ("pipeline", &["redact", "topology", "session", "event", "bson"]),
    ("redact", &["event", "bson", "wire"]),
    ("topology", &["event", "bson", "wire"]),
    ("session", &["event", "bson", "wire"]),
    ("event", &["bson", "wire"]),
    ("bson", &[]),
    ("wire", &[]),
];

/// What is done in these modules only, and the text that shows it.
const ONLY_IN: &[(&[&str], &str)] = &[
    (&["net", "cli"], "tokio::"),
    (&["net", "cli"], "async fn"),
    (&["net"], "std::thread"),
    (&["net"], "Instant::now"),
    (&["net"], "SystemTime::now"),
    (&["net"], "TcpStream"),
    (&["net"], "TcpListener"),
    (&["net"], "UnixStream"),
    (&["net"], "UnixListener"),
    (&["net"], "UdpSocket"),
    (&["net"], "ToSocketAddrs"),
    (&["net"], "os::unix::net"),
];

/// A file longer than this has more than one subject.
const LINES_MAX: usize = 560;

/// A file of the sources: where it is, the module at the top that it belongs to, and its lines without comments.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

impl Source {
    fn new(path: PathBuf, root: &Path) -> Self {
        let within = path.strip_prefix(root).unwrap();
        let first = within.components().next().unwrap().as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        Self { text: fs::read_to_string(&path).unwrap(), module, path }
    }

    /// The lines, numbered from 1, without what is said in comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
    }
}

fn files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    files(&root, &mut found);
    found.sort();
    assert!(!found.is_empty());
    found.into_iter().map(|path| Source::new(path, &root)).collect()
}

/// The modules at the top of this crate that a line of code names: `crate::a`, `mongotap::a`, `crate::{a, b::c}`.
fn named(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for root in ["crate::", "mongotap::"] {
        for (at, _) in line.match_indices(root) {
            let is_whole = !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
            let after = &line[at + root.len()..];
            let paths = match after.strip_prefix('{') {
                Some(group) => group.split(',').map(str::trim).collect(),
                None => vec![after],
            };
            for path in paths.into_iter().filter(|_| is_whole) {
                let end = path.find(|it: char| !it.is_alphanumeric() && it != '_').unwrap_or(path.len());
                named.push(path[..end].to_owned());
            }
        }
    }
    named
}

fn allowed(module: &str) -> &'static [&'static str] {
    let found = MAY_USE.iter().find(|(name, _)| *name == module);
    found.unwrap_or_else(|| panic!("{module} is in no layer: give it a row in MAY_USE")).1
}

#[test]
fn arrows_point_down() {
    for (row, (module, uses)) in MAY_USE.iter().enumerate() {
        for used in *uses {
            let position = MAY_USE.iter().position(|(name, _)| name == used);
            assert!(position.is_some_and(|position| position > row), "{module} → {used} does not point down");
        }
    }
}

#[test]
fn modules_use_what_is_below_them() {
    let mut wrong = String::new();
    let mut arrows = BTreeSet::new();
    for source in sources("src").iter().filter(|source| source.module != "lib") {
        let below = allowed(&source.module);
        for (number, line) in source.code() {
            for name in named(line).into_iter().filter(|name| *name != source.module) {
                if !below.contains(&name.as_str()) {
                    wrong += &format!("{}:{number}: {} uses {name}\n", source.path.display(), source.module);
                }
                arrows.insert((source.module.clone(), name));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(arrows.len() >= 20, "{arrows:?}");
    let declared = MAY_USE.iter().flat_map(|(module, uses)| uses.iter().map(move |used| (*module, *used)));
    for (module, used) in declared {
        assert!(arrows.contains(&(module.to_owned(), used.to_owned())), "{module} does not use {used} any more");
    }
}

/// `super` is for the same module: nothing reaches around the table.
#[test]
fn modules_name_others_from_the_root() {
    for source in sources("src") {
        // `src/a.rs` and `src/a/mod.rs` have the root above them, the others their own module.
        let folder = source.path.parent().unwrap();
        let is_mod = source.path.file_name().unwrap() == "mod.rs";
        let is_top = folder.ends_with("src") || (is_mod && folder.parent().unwrap().ends_with("src"));
        for (number, line) in source.code() {
            let at = format!("{}:{number}", source.path.display());
            assert!(!line.contains("super::super"), "{at}: a module of another layer is named from crate::");
            let reaches = is_top && !line.starts_with(char::is_whitespace) && line.contains("use super::");
            assert!(!reaches, "{at}: a module of another layer is named from crate::");
        }
    }
}

#[test]
fn only_the_network_layer_acts() {
    for source in sources("src") {
        for (number, line) in source.code() {
            for (modules, text) in ONLY_IN.iter().filter(|(modules, _)| !modules.contains(&source.module.as_str())) {
                let at = format!("{}:{number}", source.path.display());
                assert!(!line.contains(text), "{at}: {text} is for {}", modules.join(" and "));
            }
        }
    }
}

#[test]
fn files_say_what_they_are_for_and_are_short() {
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let path = source.path.display();
        let lines = source.text.lines().count();
        assert!(source.text.starts_with("//!"), "{path} does not begin with what it is for");
        assert!(lines <= LINES_MAX, "{path} has {lines} lines, more than {LINES_MAX}");
    }
}

#[test]
fn wrong_arrows_would_be_found() {
    assert_eq!(named("use crate::net::Proxy;"), ["net"]);
    assert_eq!(named("    let it = crate::sink::jsonl::line(crate::event::EMPTY);"), ["sink", "event"]);
    assert_eq!(named("use crate::{bson, wire::{Header, OpCode}};"), ["bson", "wire", "OpCode"]);
    assert_eq!(named("mongotap::cli::run()"), ["cli"]);
    assert_eq!(named("use other_crate::net;"), Vec::<String>::new());
    assert!(!allowed("wire").contains(&"event") && !allowed("session").contains(&"net"));
}
