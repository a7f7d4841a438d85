//! Whether the logs and the capture can be written where they are to go: no two to the same place, and each place a possible one.

use std::path::{Path, PathBuf};

use super::{Capture, Error, Log, Target};

/// Looks at the logs' targets and the capture's. Nothing is created: that a file can be written is found out when it is.
pub(crate) fn check(logs: &[Log], capture: Option<&Capture>) -> Result<(), Error> {
    for (index, log) in logs.iter().enumerate() {
        if let Target::File(path) = &log.target {
            check_file(path)?;
        }
        let place = place(&log.target);
        if logs[..index].iter().any(|other| self::place(&other.target) == place) {
            return Err(error(&log.target, "two logs to the same place", "give each log a target of its own"));
        }
    }
    if let Some(Capture { path, .. }) = capture {
        let as_capture = |error: Error| Error { message: error.message.replacen("log ", "capture ", 1), ..error };
        check_file(path).map_err(as_capture)?;
        let target = Target::File(path.clone());
        if logs.iter().any(|log| place(&log.target) == place(&target)) {
            return Err(as_capture(error(&target, "a log goes to the same place", "give each a file of its own")));
        }
    }
    Ok(())
}

fn check_file(path: &Path) -> Result<(), Error> {
    let target = Target::File(path.to_owned());
    if path.is_dir() || path.file_name().is_none() {
        return Err(error(&target, "is a directory", "name a file in it"));
    }
    match directory(path) {
        parent if parent.is_dir() => Ok(()),
        parent if parent.exists() => Err(error(&target, "not in a directory", "name a file in a directory")),
        parent => {
            let hint = format!("make the directory {} first", parent.display());
            Err(error(&target, "no such directory", &hint))
        }
    }
}

fn error(target: &Target, what: &str, hint: &str) -> Error {
    Error { message: format!("log {target}: {what}"), hint: Some(hint.to_owned()) }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// What a target is called whichever way it was written; `None` is standard output.
fn place(target: &Target) -> Option<PathBuf> {
    let Target::File(path) = target else { return None };
    let whole = || {
        let file = directory(path).canonicalize().ok()?.join(path.file_name()?);
        Some(file.canonicalize().unwrap_or(file))
    };
    Some(whole().unwrap_or_else(|| path.clone()))
}
