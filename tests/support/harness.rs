//! A test harness of a few lines, for matrices whose rows are only known when they run and whose summary must be seen.
//!
//! It takes what `cargo test` passes on: words that a case's name must contain, `--list`, and ignores other options.

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

/// A case, by its name; it gives a line of what it did, and panics if it fails.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) run: Box<dyn FnOnce() -> String>,
}

impl Case {
    /// A case.
    pub(crate) fn new(name: impl Into<String>, run: impl FnOnce() -> String + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Which cases were asked for.
#[derive(Debug)]
pub(crate) struct Selection {
    words: Vec<String>,
    list: bool,
}

impl Selection {
    /// From the arguments of this process.
    pub(crate) fn from_arguments() -> Self {
        let (options, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|argument| argument.starts_with('-'));
        Self { words, list: options.iter().any(|it| it == "--list") }
    }

    /// Whether all were asked for, so that totals can be held to.
    pub(crate) fn is_everything(&self) -> bool {
        self.words.is_empty() && !self.list
    }

    /// Whether only their names are wanted.
    pub(crate) fn is_list(&self) -> bool {
        self.list
    }

    /// Whether that one was.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// Runs what was asked for; prints a line each, then how many passed. The number of failures.
    #[expect(clippy::print_stdout, reason = "it is what a harness is for")]
    pub(crate) fn run(&self, cases: Vec<Case>) -> usize {
        let (mut passed, mut failed) = (0, Vec::new());
        for Case { name, run } in cases.into_iter().filter(|case| self.takes(&case.name)) {
            if self.list {
                println!("{name}: test");
                continue;
            }
            match panic::catch_unwind(AssertUnwindSafe(run)) {
                Ok(line) => {
                    passed += 1;
                    println!("test {name} ... ok  {line}");
                }
                Err(_) => {
                    println!("test {name} ... FAILED");
                    failed.push(name);
                }
            }
        }
        if !self.list {
            println!("\ntest result: {passed} passed; {} failed {}", failed.len(), failed.join(", "));
        }
        failed.len()
    }
}

/// The exit code that `cargo test` understands.
pub(crate) fn exit_code(failures: usize) -> ExitCode {
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
