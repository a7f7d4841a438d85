//! Logs or captures as arguments: opened, read to their ends in the order in which they were written, and followed over
//! rotations; errors name the file.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::capture::log::{Item, LogError};
use crate::capture::mtap::{CaptureError, Torn};
use crate::capture::part::{Part, UNENDED, last_seq};
use crate::capture::source::{Source, SourceError, TornEnd};
use crate::config::io_reason;
use crate::net::recorder::is_unended;
use crate::net::say::{say, with_hint};
use crate::sink::{Options, plural};

use super::parts::{Headless, all_empty, base_of, beside, headless, in_order};
use super::trail::{Step, Trail};
use super::watched::{Watched, is_cut};
use super::{Code, Error};

const BUFFER_LEN: usize = 256 * 1024;

/// Events on disk.
pub(super) struct EventFiles {
    /// In the order in which they are read.
    paths: Vec<PathBuf>,
    /// Of which log each is.
    logs: Vec<usize>,
    source: Source<BufReader<Watched>>,
    /// The last of them: a handle of its own of the same open file, for its place and its identity.
    last: File,
    /// How that one began.
    began: Option<Part>,
    /// How many torn ends were told of.
    torn_told: usize,
    is_empty: bool,
    /// The runs that the files begin with.
    runs: HashSet<String>,
    trail: Trail,
}

impl EventFiles {
    /// Opens them; `lines` says how lines are rendered that a capture stands for, if they are wanted.
    pub(super) fn open(paths: &[PathBuf], lines: Option<&Options>) -> Result<Self, Error> {
        let mut files = paths.iter().map(|path| EventFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        if files.len() > 1 {
            files = in_order(files)?;
        }
        let mut files = files.into_iter();
        let Some(first) = files.next() else { return Err(all_empty()) };
        let source = Source::open(first.reader()?, lines).map_err(|error| refused(&first.path, &error))?;
        let mut all = Self {
            paths: vec![first.path],
            logs: vec![first.log],
            source,
            last: first.file,
            began: first.part.clone(),
            torn_told: 0,
            is_empty: true,
            runs: first.part.and_then(|part| part.run).into_iter().collect(),
            trail: Trail::default(),
        };
        files.try_for_each(|file| all.push(file))?;
        Ok(all)
    }

    /// Goes on with a file where the last one does not.
    fn push_next(&mut self, file: EventFile) -> Result<(), Error> {
        let log = self.logs.last().copied().unwrap_or_default();
        self.push(EventFile { log, ..file })
    }

    fn push(&mut self, file: EventFile) -> Result<(), Error> {
        self.source.push(file.reader()?);
        self.began.clone_from(&file.part);
        self.runs.extend(file.part.and_then(|part| part.run));
        self.paths.push(file.path);
        self.logs.push(file.log);
        self.last = file.file;
        Ok(())
    }

    /// The next event, with its line; `None` at the end of what is there so far.
    pub(super) fn next_item(&mut self) -> Result<Option<(Item, &[u8])>, Error> {
        let item = self.source.advance().map_err(|error| unread(&self.paths[self.source.at()], &error))?;
        self.tell_torn();
        let Some(item) = item else { return Ok(None) };
        self.is_empty = false;
        let (at, run) = (self.source.at(), self.source.next_part().0);
        let is_told = self.source.torn_before().iter().any(|(torn, _)| torn + 1 == at);
        let step =
            Step { item: &item, path: &self.paths[at], log: self.logs[at], run, standing: self.source.standing() };
        self.trail.step(step, is_told);
        Ok(Some((item, self.source.line())))
    }

    /// How the files are called: by the first, if there are several.
    pub(super) fn name(&self) -> String {
        name_of(&self.paths)
    }

    /// Says what is odd about the ends of files of which nothing more will be read.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        self.tell_torn();
        self.trail.finish();
        let path = &self.paths[self.source.at()];
        let next = self.next_of_run();
        say_headless(&self.paths, self.trail.headless());
        match self.source.torn() {
            Some(torn) => say_torn(path, torn),
            None if self.is_empty => {
                return Err(Error::new(Code::Input, format!("{}: empty", path.display())).hint(EMPTY_HINT));
            }
            None if next.is_none() => self.trail.say_unended(None),
            None => {}
        }
        match next {
            Some(next) if self.trail.waiting() > 0 => {
                say_next(path, &plural(self.trail.waiting(), "command"), &next.path);
            }
            _ => self.say_others(),
        }
        Ok(())
    }

    /// Says that there are other files of what is recorded in these.
    fn say_others(&self) {
        let runs: Vec<_> = self.runs.iter().map(String::as_str).chain(self.trail.run()).collect();
        say_of_others(&self.name(), &others(&self.paths, &runs));
    }

    /// Tells of the files before the one that is read, which end torn.
    fn tell_torn(&mut self) {
        let torn = self.source.torn_before();
        torn.iter().skip(self.torn_told).for_each(|(at, torn)| say_torn(&self.paths[*at], *torn));
        self.torn_told = torn.len();
    }

    /// Goes on to the file that goes on where the last one, read to its end, will not: it was put aside or emptied.
    /// Whether there is one.
    pub(super) fn follow(&mut self) -> Result<bool, Error> {
        if self.source.at() + 1 < self.paths.len() {
            return Ok(true);
        }
        let next = self.successor();
        let is_there = next.is_some();
        next.map_or(Ok(()), |next| self.push_next(next))?;
        Ok(is_there)
    }

    /// Begins anew with a file that was cut and has grown since, maybe beyond where it was read to: it begins with another
    /// line than it did, or another header. Whether that is so.
    pub(super) fn notice_cut(&mut self) -> Result<bool, Error> {
        if self.source.at() + 1 < self.paths.len() {
            return Ok(false);
        }
        let now = self.paths.last().and_then(|path| EventFile::open_if_there(&base_of(path)));
        let Some(now) = now else { return Ok(false) };
        let is_ours = |it: Metadata| self.last.metadata().is_ok_and(|ours| is_same(&ours, &it));
        if now.part.is_none() || !now.file.metadata().is_ok_and(is_ours) {
            return Ok(false);
        }
        if self.began.is_none() {
            self.began.clone_from(&now.part);
        }
        let is_cut = self.began != now.part;
        if is_cut {
            self.push_next(now)?;
            self.source.skip_rest();
        }
        Ok(is_cut)
    }

    fn successor(&self) -> Option<EventFile> {
        let base = base_of(self.paths.last()?);
        let ours = self.last.metadata().ok()?;
        let now = base.metadata().ok()?;
        if !now.is_file() {
            return None;
        }
        if is_same(&ours, &now) {
            let read = (&self.last).stream_position().ok()?;
            return (now.len() < read).then(|| EventFile::open(&base).ok()).flatten();
        }
        self.next_of_run().or_else(|| {
            // Another run, which may have put files aside as well.
            let newest = EventFile::open(&base).ok()?;
            let part = newest.part.as_ref()?;
            (!part.is_of(self.source.next_part().0)).then_some(())?;
            self.first_of(&base, part.run.as_deref(), 0)
        })
    }

    /// The file that the run goes on in, if it is there beside the last one.
    fn next_of_run(&self) -> Option<EventFile> {
        let (run, number) = self.source.next_part();
        self.first_of(self.paths.last()?, run, number)
    }

    /// The first of the files beside that one that are of a run, and not before that number; not the last one itself.
    fn first_of(&self, path: &Path, run: Option<&str>, number: u64) -> Option<EventFile> {
        first_of(path, &self.last.metadata().ok()?, run, number)
    }
}

/// The first of the files beside a path that are of a run, and not before that number; not the one whose metadata that is.
fn first_of(path: &Path, ours: &Metadata, run: Option<&str>, number: u64) -> Option<EventFile> {
    // Nothing is put aside of a pipe.
    let there = if ours.is_file() { beside(path) } else { Vec::new() };
    let files = there.iter().filter_map(|path| EventFile::open_if_there(path));
    let others = files.filter(|file| file.file.metadata().is_ok_and(|it| !is_same(ours, &it)));
    let number_of = |file: &EventFile| file.part.as_ref().map(|part| part.number);
    let is_wanted = |file: &EventFile| file.part.as_ref().is_some_and(|it| it.is_of(run) && it.number >= number);
    others.filter(is_wanted).min_by_key(number_of)
}

/// The files beside those that are of the same runs, in the order of their names.
fn others(paths: &[PathBuf], runs: &[&str]) -> Vec<PathBuf> {
    let given: Vec<_> = paths.iter().filter_map(|path| EventFile::open_if_there(path)).collect();
    let mut others: Vec<_> = given.iter().flat_map(|file| beside(&file.path)).collect();
    others.sort();
    others.dedup();
    others.retain(|path| {
        let Some(file) = EventFile::open_if_there(path) else { return false };
        let run = file.part.as_ref().and_then(|part| part.run.as_deref());
        run.is_some_and(|run| runs.contains(&run)) && !given.iter().any(|given| given.is_same_as(&file))
    });
    others
}

/// Says that there are other files of the captures that are read.
pub(super) fn say_others(paths: &[PathBuf]) {
    let parts = paths.iter().filter_map(|path| EventFile::open_if_there(path)?.part);
    let runs: Vec<_> = parts.filter_map(|part| part.run).collect();
    let runs: Vec<_> = runs.iter().map(String::as_str).collect();
    say_headless(paths, &[]);
    say_of_others(&name_of(paths), &others(paths, &runs));
}

/// Says which runs began before, these and those of captures. Where others of its files are beside, that is told instead.
fn say_headless(paths: &[PathBuf], logs: &[Headless]) {
    let files: Vec<_> = paths.iter().filter_map(|path| EventFile::open_if_there(path)).collect();
    for Headless { path, run, missing } in logs.iter().chain(&headless(&files)) {
        let runs: Vec<_> = run.iter().map(String::as_str).collect();
        if !others(paths, &runs).iter().any(|other| base_of(other) == base_of(path)) {
            say(format_args!("mongotap: {}: {missing}", path.display()));
        }
    }
}

fn say_of_others(name: &str, others: &[PathBuf]) {
    if others.is_empty() {
        return;
    }
    let are = if others.len() == 1 { "is" } else { "are" };
    let count = plural(others.len() as u64, "other file");
    let trouble = format!("mongotap: {name}: {count} of this recording {are} beside it");
    say(with_hint(trouble, Some(&all_hint(others))));
}

fn name_of(paths: &[PathBuf]) -> String {
    match paths {
        [only] => only.display().to_string(),
        several => format!("{} and {} more", several[0].display(), several.len() - 1),
    }
}

/// How all of a recording is read.
fn all_hint(others: &[PathBuf]) -> String {
    match others {
        [] => String::new(),
        [only] => format!("give {} too", only.display()),
        [one, other] => format!("give {} and {} too", one.display(), other.display()),
        [one, ..] => {
            let base = base_of(one);
            let name = base.display();
            let itself = if base.exists() { format!("{name} ") } else { String::new() };
            format!("give all of them: {itself}{name}.[0-9]*")
        }
    }
}

/// Says that commands have their replies in the file behind the last one that was given.
pub(super) fn say_next(last: &Path, commands: &str, next: &Path) {
    let trouble = format!("mongotap: {}: {commands} not answered in it", last.display());
    let hint = format!("the reply is in the next file: give {} too", next.display());
    say(with_hint(trouble, Some(&hint)));
}

/// A file that can be read.
pub(super) struct EventFile {
    pub(super) path: PathBuf,
    file: File,
    /// Which file of a recording it is, if it tells.
    pub(super) part: Option<Part>,
    /// Which log it is of, among those that are read together.
    pub(super) log: usize,
}

impl EventFile {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let refused = |error: io::Error| refused(path, &error);
        let mut file = File::open(path).map_err(refused)?;
        let mut part = None;
        // What comes through a pipe can be read once.
        if file.metadata().is_ok_and(|it| it.is_file()) {
            part = Part::read(BufReader::new(&file)).map_err(refused)?;
            file.rewind().map_err(refused)?;
        }
        Ok(Self { path: path.to_owned(), file, part, log: 0 })
    }

    /// The same of a regular file, if there is one that can be read: opening a pipe waits for who writes to it.
    fn open_if_there(path: &Path) -> Option<Self> {
        path.metadata().ok().filter(Metadata::is_file).and_then(|_| Self::open(path).ok())
    }

    /// The number of the last line, if it is a log and that can be found.
    pub(super) fn last_seq(&self) -> Option<u64> {
        // A handle of its own: where this one is read from stays as it is.
        File::open(&self.path).ok().and_then(|file| last_seq(file).ok()).flatten()
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.file.metadata().is_ok_and(|it| it.is_file() && it.len() == 0)
    }

    /// Whether it is the same file, whatever it is called.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.file.metadata().is_ok_and(|ours| other.file.metadata().is_ok_and(|theirs| is_same(&ours, &theirs)))
    }

    /// The file of a capture that goes on where this one ends, if it is there beside it.
    pub(super) fn next(&self) -> Option<Self> {
        let part = self.part.as_ref()?;
        first_of(&self.path, &self.file.metadata().ok()?, part.run.as_deref(), part.number.saturating_add(1))
    }

    fn reader(&self) -> Result<BufReader<Watched>, Error> {
        let reading = self.file.try_clone().map_err(|error| refused(&self.path, &error))?;
        Ok(BufReader::with_capacity(BUFFER_LEN, Watched::new(reading, self.part.clone())))
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn refused(path: &Path, error: &io::Error) -> Error {
    let refused = Error::new(Code::Input, format!("{}: {}", path.display(), io_reason(error)));
    refused.hint(if error.kind() == io::ErrorKind::NotFound { WRITE_ONE_HINT } else { READABLE_HINT })
}

fn unread(path: &Path, error: &SourceError) -> Error {
    let (what, hint) = match error {
        SourceError::Log(LogError::Io(error)) | SourceError::Capture(CaptureError::Io(error)) => {
            (io_reason(error), if is_cut(error) { CUT_HINT } else { READABLE_HINT })
        }
        SourceError::Log(LogError::NotALog) => (error.to_string(), FORMAT_HINT),
        SourceError::Log(LogError::Line { .. }) => (error.to_string(), LINE_HINT),
        SourceError::Capture(CaptureError::NotACapture) => (error.to_string(), FORMAT_HINT),
        SourceError::Capture(CaptureError::Newer { .. }) => (error.to_string(), NEWER_HINT),
        SourceError::Capture(CaptureError::Damaged { .. }) => (error.to_string(), DAMAGED_HINT),
    };
    Error::new(Code::Input, format!("{}: {what}", path.display())).hint(hint)
}

fn say_torn(path: &Path, torn: TornEnd) {
    let path = path.display();
    match torn {
        TornEnd::Line(line) => say(format_args!("mongotap: {path}: line {line} is torn, it was left out")),
        TornEnd::Capture(torn) => say(format_args!("mongotap: {path}: {torn}")),
    }
}

/// Says how the files of a capture end of which all was read, in their order.
pub(super) fn say_ends(paths: &[PathBuf], torn: &[(usize, Torn)]) {
    torn.iter().for_each(|(place, torn)| say_torn(&paths[*place], TornEnd::Capture(*torn)));
    let is_torn = torn.iter().any(|(place, _)| place + 1 == paths.len());
    let unended = paths.last().filter(|path| !is_torn && is_unended(path));
    unended.iter().for_each(|path| say(format_args!("mongotap: {}: {UNENDED}", path.display())));
}

const WRITE_ONE_HINT: &str = "mongotap proxy --log FILE.jsonl writes a log";
const READABLE_HINT: &str = "name a file that you may read; logs are made for their owner only";
const CUT_HINT: &str = "what was in it before was read; read it again for what is in it now";
const FORMAT_HINT: &str = "mongotap reads captures, and logs in the jsonl format: mongotap proxy --log FILE.jsonl; \
     mongotap convert FILE run.mtap makes a capture of a fixture or of packets";
const LINE_HINT: &str = "the line is not one that mongotap writes; without it the rest can be read";
const NEWER_HINT: &str = "a later mongotap reads it";
const DAMAGED_HINT: &str = "what comes before was read; a copy of the file may be whole";
pub(super) const EMPTY_HINT: &str = "a proxy writes the first line when it starts; mongotap show --follow waits for it";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Between a look at the file and a read somebody cuts it, and it grows beyond where it was read to.
    #[test]
    fn what_is_cut_while_it_is_read_is_begun_anew() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let text = |run: &str, lines: u64| {
            let rest = (1..lines).map(|seq| format!("{{\"seq\":{seq},\"event\":\"futureEvent\",\"ts\":\"{TS}\"}}\n"));
            let first = format!("{{\"seq\":0,\"event\":\"recorderStartedEvent\",\"ts\":\"{TS}\",\"run\":\"{run}\"}}\n");
            first + &rest.collect::<String>()
        };
        fs::write(&path, text("old", 10_000)).unwrap();
        let mut files = EventFiles::open(&[path.to_path_buf()], None).unwrap();
        assert!(!files.notice_cut().unwrap() && files.next_item().unwrap().is_some());
        fs::write(&path, text("new", 20_000)).unwrap();
        let error =
            std::iter::from_fn(|| files.next_item().map(|item| item.map(|_| ())).transpose()).find_map(Result::err);
        let error = error.unwrap();
        assert!(error.message.ends_with(": cut while it was read") && error.code == Code::Input, "{error}");
        assert!(files.notice_cut().unwrap() && !files.notice_cut().unwrap());
        let again = std::iter::from_fn(|| files.next_item().unwrap().map(|_| ()));
        assert_eq!(again.count(), 20_000);
    }

    const TS: &str = "2026-01-01T00:00:00.000000Z";
}
