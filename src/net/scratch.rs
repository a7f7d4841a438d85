//! What a recording leaves beside its fixture while it is under way, and does not leave behind: hidden files of a process,
//! and directories that were made for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, test_kill_process};

use super::clock;

/// What hidden files are: a capture that is to become a fixture, and a fixture that is being written.
pub(super) const RECORDING: &str = "recording";
pub(super) const PARTIAL: &str = "partial";

/// A hidden file in the same directory, of this process alone.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!("{}-{}", std::process::id(), clock::now().monotonic_nanos);
    path.with_file_name(format!(".{name}.{unique}.{what}"))
}

/// Removes the hidden files beside a fixture whose processes were killed. Those that cannot be removed harm nobody.
pub(super) fn remove_abandoned(path: &Path) {
    let Some(entries) = path.parent().and_then(|directory| fs::read_dir(or_here(directory)).ok()) else { return };
    let start = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    for entry in entries.flatten() {
        if entry.file_name().to_str().and_then(|name| name.strip_prefix(&start)).is_some_and(is_abandoned) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether what follows a fixture's name is `PID-TIME.WHAT`, and there is no such process.
fn is_abandoned(rest: &str) -> bool {
    let Some((unique, RECORDING | PARTIAL)) = rest.split_once('.') else { return false };
    let pid = unique.split_once('-').and_then(|(pid, _)| Pid::from_raw(pid.parse().ok()?));
    pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

/// Directories that were made: those in which nothing is go when this does.
#[derive(Debug, Default)]
pub(super) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the directory of a file, and what it is in, as far as they are missing.
    ///
    /// # Errors
    /// With the directory and what the system says.
    pub(super) fn directory_of(path: &Path) -> Result<Self, (PathBuf, io::Error)> {
        let all = path.ancestors().skip(1).filter(|directory| !directory.as_os_str().is_empty());
        let missing = all.take_while(|directory| !directory.exists()).map(Path::to_owned).collect::<Vec<_>>();
        let mut made = Self::default();
        for directory in missing.into_iter().rev() {
            match fs::create_dir(&directory) {
                // Another process may make it as well.
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err((directory, error)),
                Err(_) => {}
                Ok(()) => made.0.push(directory),
            }
        }
        Ok(made)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for directory in self.0.iter().rev() {
            // One that holds something stays.
            let _ = fs::remove_dir(directory);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_processes_that_are_gone_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (gone, own) = (child.id(), std::process::id());
        let stay = [format!(".a.jsonl.{own}-1.recording"), format!(".a.jsonl.{gone}-1.kept"), "a.jsonl".to_owned()];
        let others = [format!(".b.jsonl.{gone}-1.recording"), format!(".a.jsonl.x.{gone}-1.recording")];
        let go = [format!(".a.jsonl.{gone}-1.recording"), format!(".a.jsonl.{gone}-2.partial")];
        for name in stay.iter().chain(&others).chain(&go) {
            fs::write(directory.path().join(name), "").unwrap();
        }
        remove_abandoned(&directory.path().join("a.jsonl"));
        let is_there = |name: &String| directory.path().join(name).exists();
        assert!(stay.iter().chain(&others).all(is_there));
        assert!(!go.iter().any(is_there));
    }

    #[test]
    fn empty_directories_go_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/c.jsonl");
        drop(Made::directory_of(&path).unwrap());
        assert!(!directory.path().join("a").exists());
        let made = Made::directory_of(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(made);
        drop(Made::directory_of(&path).unwrap());
        assert!(path.exists());
        assert_eq!(Made::directory_of(&path.join("d/e")).unwrap_err().0, path.join("d"));
    }
}
