//! What `exec` says when its command has ended: how the replay went, and what to do about it.

use super::{Args, say};
use crate::cli::replay::failure;
use crate::replay::Report;
use crate::sink::plural;

/// How a replay ended.
pub(super) struct Ended<'a> {
    pub(super) report: &'a Report,
    /// Whether that is a failure.
    pub(super) failed: bool,
    /// Whether something was recorded besides.
    pub(super) has_grown: bool,
    /// `--strict`, if it was given.
    pub(super) strict: Option<bool>,
    /// The lines of what was not asked, where they are now.
    pub(super) lines: Option<String>,
}

impl Ended<'_> {
    /// Says it.
    pub(super) fn tell(&self, args: &Args) {
        let (path, report) = (args.fixture.display(), self.report);
        if self.failed {
            let is_strict = self.strict == Some(true);
            say(format_args!("mongotap: {path}: {}", failure(report, is_strict)));
            say(report.text(is_strict).trim_end());
        } else {
            say(format_args!("mongotap: answered {} from {path}", plural(report.matched, "command")));
            if report.unused_count > 0 {
                let questions = plural(report.unused_count, "recorded question");
                say(format_args!("mongotap: {questions} not asked"));
            }
        }
        self.hint(args);
        if self.failed {
            say("to record it again: mongotap exec --mode all …");
        }
    }

    fn hint(&self, args: &Args) {
        let Self { report, strict, .. } = *self;
        if is_silent(report) {
            return say(format_args!("hint: {}", variable_hint(args)));
        }
        // What was missed may be what would have asked it.
        if report.unused_count == 0 || report.missed > 0 || strict == Some(false) {
            return;
        }
        let part = "--strict=false runs a part of what was recorded";
        match &self.lines {
            Some(lines) => {
                let until = if self.has_grown { "; until then a run of all that is left ends in 1" } else { "" };
                say(format_args!(
                    "hint: {part}; what is no longer asked is to be deleted: {lines} (questions with their replies), or record all anew{until}"
                ));
            }
            None => say(format_args!("hint: {part}")),
        }
    }
}

/// Whether nothing was asked at all.
pub(super) fn is_silent(report: &Report) -> bool {
    report.matched + report.missed + report.forwarded == 0
}

/// The way out where nothing was asked.
pub(super) fn variable_hint(args: &Args) -> String {
    format!("is {} what the command reads? --env NAME names another variable", args.env)
}
