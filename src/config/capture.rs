//! `[capture]`: where the messages themselves are recorded.

use std::path::PathBuf;

use serde::Deserialize;

use super::file::Text;
use super::resolve::{Place, read_keys};
use super::writing::read_writing;
use super::{Error, OnOverflow, Writing};

/// A capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// The file.
    pub path: PathBuf,
    /// Whether one that is there already is overwritten.
    pub force: bool,
    /// How it is written; unlike a log it lets the application wait.
    pub writing: Writing,
}

impl Capture {
    /// A capture in that file with every other key at its default.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            force: false,
            writing: Writing { on_overflow: OnOverflow::Block, ..Writing::default() },
        }
    }
}

/// `[capture]`, or `--capture` and the `--capture-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Capture")]
pub struct CaptureSettings {
    pub path: Option<Text>,
    pub queue_bytes: Option<Text>,
    pub on_overflow: Option<Text>,
    pub on_error: Option<Text>,
    pub rotate_bytes: Option<Text>,
    pub rotate_every: Option<Text>,
    pub keep: Option<Text>,
}

/// The capture that is asked for, if one is.
pub(super) fn resolve(
    file_name: &str,
    table: Option<&CaptureSettings>,
    flags: Option<&CaptureSettings>,
    force: bool,
) -> Result<Option<Capture>, Error> {
    let place = Place { file: file_name.to_owned(), section: "capture" };
    let nothing = CaptureSettings::default();
    let (table, flags) = (table.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let mut capture = Capture { force, ..Capture::to("") };
    read_keys! { place, flags, table => capture;
        path: |it: &Text| Ok(PathBuf::from(&it.0));
    }
    read_writing!(place, flags, table => capture.writing);
    let is_asked_for = !capture.path.as_os_str().is_empty();
    Ok(is_asked_for.then_some(capture))
}
