//! The file that `exec` answers from or writes, as the one who keeps it sees it: which file was meant, how much is in it,
//! and which lines to delete.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use crate::bson::nearest;
use crate::capture::exchange::Place;
use crate::capture::open::Recorded;
use crate::replay::Asked;

/// The file beside a missing one that has about its name.
pub(super) fn meant(path: &Path) -> Option<String> {
    let directory =
        path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let beside = beside.filter(|other| other.extension() == path.extension());
    let stems = beside.filter_map(|other| Some(other.file_stem()?.to_str()?.to_owned())).collect::<Vec<_>>();
    let known = stems.iter().map(String::as_str).collect::<Vec<_>>();
    let mut name = nearest(path.file_stem()?.to_str()?, &known)?.to_owned();
    if let Some(extension) = path.extension() {
        name = format!("{name}.{}", extension.display());
    }
    Some(path.with_file_name(name).display().to_string())
}

/// How many exchanges a recording holds that are the application's: 0 if there is none, or none that can be read.
pub(super) fn held(path: &Path) -> usize {
    let Some(recorded) = File::open(path).ok().and_then(|file| Recorded::open(BufReader::new(file)).ok()) else {
        return 0;
    };
    recorded.map_while(Result::ok).filter(|exchange| !exchange.is_housekeeping()).count()
}

/// Where the exchanges of a fixture are: the lines in which they begin, and the last line.
#[derive(Debug)]
pub(super) struct Lines {
    begins: Vec<u64>,
    last: u64,
}

impl Lines {
    /// Those of that file, if it is a fixture.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let text = fs::read(path).ok()?;
        let Recorded::Fixture(reader) = Recorded::open(text.as_slice()).ok()? else { return None };
        let mut begins = Vec::new();
        for exchange in *reader {
            let Place::Line(line) = exchange.ok()?.place else { return None };
            begins.push(line);
        }
        let last = u64::try_from(text.split_inclusive(|byte| *byte == b'\n').count()).ok()?;
        Some(Self { begins, last })
    }

    /// Where those exchanges are now, each with its replies: `lines 7 to 9, 12 to 13`. `before` is what the places are of:
    /// the file has grown since, and what was written by hand in it may have moved.
    pub(super) fn told(&self, before: &Self, asked: &[Asked]) -> Option<String> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for it in asked {
            let Place::Line(line) = it.place else { return None };
            let index = before.begins.binary_search(&line).ok()?;
            let begin = *self.begins.get(index)?;
            let end = self.begins.get(index + 1).map_or(self.last, |next| next - 1);
            match runs.last_mut() {
                Some(run) if run.1 + 1 == begin => run.1 = end,
                _ => runs.push((begin, end)),
            }
        }
        let shown = runs.iter().take(RUNS_MAX).map(|(begin, end)| format!("{begin} to {end}")).collect::<Vec<_>>();
        let left = runs.len().saturating_sub(RUNS_MAX);
        let more = if left > 0 { format!(" and {left} more places") } else { String::new() };
        (!shown.is_empty()).then(|| format!("lines {}{more}", shown.join(", ")))
    }
}

/// How many runs of lines are told.
const RUNS_MAX: usize = 10;
