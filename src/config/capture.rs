//! `[capture]`: where the messages themselves are recorded.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::file::Text;
use super::resolve::{Place, count, duration, queue_bytes, size, word};
use super::{Error, OnError, OnOverflow};

/// A capture.
#[derive(Clone, Debug, PartialEq)]
pub struct Capture {
    /// The file.
    pub path: PathBuf,
    /// Whether one that is there already is overwritten.
    pub force: bool,
    /// How many bytes of messages may wait to be written.
    pub queue_bytes: usize,
    /// What to do with a message when that many wait.
    pub on_overflow: OnOverflow,
    /// What to do when the disk fails.
    pub on_error: OnError,
    /// A file that would grow beyond this many bytes is put aside; 0 is never.
    pub rotate_bytes: u64,
    /// A file older than this is put aside; zero is never.
    pub rotate_every: Duration,
    /// How many files put aside are kept.
    pub keep: u32,
}

impl Capture {
    /// A capture in that file with every other key at its default.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            force: false,
            queue_bytes: 16 << 20,
            on_overflow: OnOverflow::Block,
            on_error: OnError::Pass,
            rotate_bytes: 0,
            rotate_every: Duration::ZERO,
            keep: 5,
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
    macro_rules! keys {
        ($($key:ident: $read:expr;)*) => {$(
            place.read(stringify!($key), &flags.$key, &table.$key, &mut capture.$key, $read)?;
        )*};
    }
    keys! {
        path: |it: &Text| Ok(PathBuf::from(&it.0));
        queue_bytes: |it: &Text| queue_bytes(&it.0);
        on_overflow: |it: &Text| word(&it.0, &[OnOverflow::Drop, OnOverflow::Block], OnOverflow::as_str);
        on_error: |it: &Text| word(&it.0, &[OnError::Pass, OnError::Stop], OnError::as_str);
        rotate_bytes: |it: &Text| size(&it.0);
        rotate_every: |it: &Text| duration(&it.0);
        keep: |it: &Text| count(&it.0);
    }
    let is_asked_for = !capture.path.as_os_str().is_empty();
    Ok(is_asked_for.then_some(capture))
}
