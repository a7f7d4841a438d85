//! The files that a recording was rotated to: which are beside one, and in which order they were written.
//!
//! A run may write several logs, each numbered by itself. To which of them a file belongs its first line and its numbers
//! tell, whatever it was put aside under: it goes on where another ends. Names decide where several do.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::capture::part::{Part, gap_between, missing_before};
use crate::net::say::{say, with_hint};

use super::event_file::{EMPTY_HINT, EventFile};
use super::{Code, Error};

/// The file that is written, where the given one was put aside: its name without the number behind it. A number with no
/// such file is a part of the name.
pub(super) fn base_of(path: &Path) -> PathBuf {
    without_number(path).filter(|base| base.exists()).unwrap_or_else(|| path.to_owned())
}

fn without_number(path: &Path) -> Option<PathBuf> {
    let is_number = |it: &OsStr| it.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    path.extension().is_some_and(is_number).then(|| path.with_extension(""))
}

/// The file that is written and those put aside, the given one among them, in no order.
pub(super) fn beside(path: &Path) -> Vec<PathBuf> {
    let base = base_of(path);
    let directory = match base.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let Ok(entries) = directory.read_dir() else { return Vec::new() };
    let is_one = |path: &PathBuf| *path == base || without_number(path).is_some_and(|it| it == base);
    let names = entries.flatten().filter_map(|entry| entry.path().file_name().map(|name| base.with_file_name(name)));
    names.filter(is_one).collect()
}

/// Puts files in the order in which they were written, as they tell it themselves: the runs as they began, and of each
/// its files. What tells nothing comes first, to be found wrong when it is read.
pub(super) fn in_order(files: Vec<EventFile>) -> Result<Vec<EventFile>, Error> {
    let (empty, mut files): (Vec<_>, Vec<_>) = files.into_iter().partition(EventFile::is_empty);
    for file in empty {
        say(format_args!("mongotap: {}: empty", file.path.display()));
    }
    if files.is_empty() {
        return Err(all_empty());
    }
    let is_capture = |file: &&EventFile| file.part.as_ref().is_some_and(|part| part.is_capture);
    let is_log = |file: &&EventFile| file.part.as_ref().is_some_and(|part| !part.is_capture);
    if let (Some(capture), Some(log)) = (files.iter().find(is_capture), files.iter().find(is_log)) {
        let what = format!("{} is a capture and {} a log", capture.path.display(), log.path.display());
        return Err(Error::new(Code::Usage, what).hint("read them one after the other: they may tell of the same"));
    }
    tell_logs_apart(&mut files);
    let keys: Vec<_> = files.iter().map(|file| key(file, &files)).collect();
    let mut keyed: Vec<_> = keys.into_iter().zip(files.drain(..)).collect();
    keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
    keyed.dedup_by(|(key, file), (before, kept)| {
        // Several logs of a run may begin with the same number.
        let is_same = key.is_some() && key == before && (is_capture(&&*file) || file.is_same_as(kept));
        if is_same {
            let (file, kept) = (file.path.display(), kept.path.display());
            say(format_args!("mongotap: {file}: the same part of the recording as {kept}, it is read once"));
        }
        is_same
    });
    let files: Vec<_> = keyed.into_iter().map(|(_, file)| file).collect();
    files.windows(2).for_each(|pair| tell_gap(&pair[0], &pair[1]));
    Ok(files)
}

/// The files of one capture, in the order in which they were written.
pub(super) fn of_one_capture(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Error> {
    let files = paths.iter().map(|path| EventFile::open(path)).collect::<Result<Vec<_>, _>>()?;
    let files = in_order(files)?;
    let run = |file: &EventFile| file.part.as_ref().filter(|part| part.is_capture).and_then(|part| part.run.clone());
    for file in &files {
        if run(file).is_none() {
            let error = Error::new(Code::Usage, format!("{}: not a capture", file.path.display()));
            return Err(error.hint("several files are taken together if they are those of one capture"));
        }
        if run(file) != run(&files[0]) {
            let (one, other) = (files[0].path.display(), file.path.display());
            let error = Error::new(Code::Usage, format!("{one} and {other} are of different recordings"));
            return Err(error.hint("take each by itself; mongotap replay takes several"));
        }
    }
    Ok(files.into_iter().map(|file| file.path).collect())
}

/// There is nothing to read.
pub(super) fn all_empty() -> Error {
    Error::new(Code::Input, "all of the files are empty").hint(EMPTY_HINT)
}

/// What a file is sorted by: when its run began, which run that is, which log of it, and which file of that.
type Key = Option<(i64, Option<String>, usize, u64)>;

fn key(file: &EventFile, all: &[EventFile]) -> Key {
    let part = file.part.as_ref()?;
    let of_run = all.iter().filter_map(|it| it.part.as_ref()).filter(|it| it.run == part.run);
    let began = of_run.map(|it| it.started_micros).min()?;
    Some((began, part.run.clone(), file.log, part.number))
}

/// A log, as far as its files were found.
struct Log {
    run: Option<String>,
    /// Which of that run's logs it is.
    number: u64,
    /// What its files are called.
    names: Vec<PathBuf>,
    /// The number of the last line.
    end: u64,
    /// The place of the last file.
    at: usize,
}

impl Log {
    /// How well a file that is called so goes on with it: `None` if it does not at all.
    fn fits(&self, part: &Part, name: &PathBuf) -> Option<(bool, bool, u64)> {
        let (is_named_so, goes_on) = (self.names.contains(name), self.end.checked_add(1) == Some(part.number));
        let is_of_run = self.run == part.run;
        let fits = if is_of_run { self.number == part.log && self.end < part.number } else { is_named_so || goes_on };
        fits.then_some((is_named_so, goes_on, self.end))
    }
}

/// Finds which files are of the same log: [`EventFile::log`].
fn tell_logs_apart(files: &mut [EventFile]) {
    let mut order: Vec<_> = (0..files.len()).collect();
    order.sort_by_cached_key(|at| (key(&files[*at], files), files[*at].path.clone()));
    let mut logs: Vec<Log> = Vec::new();
    for at in order {
        let file = &files[at];
        // A run has one capture.
        let Some(part) = file.part.as_ref().filter(|part| !part.is_capture) else { continue };
        let name = log_of(&file.path);
        let given_twice = logs.iter().position(|log| files[log.at].is_same_as(file));
        let fitting = logs.iter().enumerate().filter_map(|(log, it)| Some((it.fits(part, &name)?, log)));
        let found = given_twice.or_else(|| fitting.max_by_key(|(fits, _)| *fits).map(|(_, log)| log));
        let mut names = found.map(|log| std::mem::take(&mut logs[log].names)).unwrap_or_default();
        names.push(name);
        let log =
            Log { run: part.run.clone(), number: part.log, names, end: file.last_seq().unwrap_or(part.number), at };
        let place = found.unwrap_or(logs.len());
        match logs.get_mut(place) {
            Some(known) => *known = log,
            None => logs.push(log),
        }
        files[at].log = place;
    }
}

/// What the files of one log mostly have in common: `a.log`, `a.log.1`, `a.log-20261123`.
fn log_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let is_added = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let kept = name.iter().rposition(|byte| !is_added(byte)).map_or(name.len(), |at| at + 1);
    path.with_file_name(OsStr::from_bytes(&name[..kept]))
}

/// A run whose beginning is in none of the files that are read.
#[derive(Debug)]
pub(super) struct Headless {
    /// The first file that has something of it.
    pub(super) path: PathBuf,
    /// `None` if it is not told.
    pub(super) run: Option<String>,
    /// What is missing, in words.
    pub(super) missing: String,
}

/// The captures of which the first file is not among these.
pub(super) fn headless(files: &[EventFile]) -> Vec<Headless> {
    let captures = || files.iter().filter_map(|file| Some((file, file.part.as_ref().filter(|part| part.is_capture)?)));
    let is_first = |part: &Part| !captures().any(|(_, it)| it.run == part.run && it.number < part.number);
    let firsts = captures().filter(|(_, part)| is_first(part));
    let headless = |(file, part): (&EventFile, &Part)| {
        Some(Headless { path: file.path.clone(), run: part.run.clone(), missing: missing_before(part.number)? })
    };
    firsts.filter_map(headless).collect()
}

/// Says that files are missing between two of a capture.
fn tell_gap(one: &EventFile, other: &EventFile) {
    let (Some(before), Some(part)) = (&one.part, &other.part) else { return };
    if let Some(gap) = gap_between((&one.path, before), (&other.path, part)) {
        say(with_hint(format!("mongotap: {gap}"), Some("give it too; replies that were recorded in it are not told")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_put_aside_are_found_by_their_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a.mtap", "a.mtap.1", "a.mtap.12", "a.mtap.old", "b.mtap.1", "a.mtap.1.part"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let at = |name: &str| directory.path().join(name);
        for given in ["a.mtap", "a.mtap.1"] {
            assert_eq!(base_of(&at(given)), at("a.mtap"));
            let mut found = beside(&at(given));
            found.sort();
            assert_eq!(found, [at("a.mtap"), at("a.mtap.1"), at("a.mtap.12")]);
        }
    }
}
