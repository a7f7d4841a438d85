//! What replay may overlook, and what it does when a question comes again: `[replay]` of `proxy.toml`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// How a recording is answered from.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What does not count in a request.
    pub ignore: Paths,
    /// Where values must be equal: nothing there is bound, dates included.
    pub exact: Paths,
    /// Where a value may be another one of its type, which from then on stands for the recorded one.
    pub bind: Paths,
    /// By how much a date may lie nearer to its exchange's time, or farther from it, than it was recorded.
    pub date_tolerance: Duration,
    /// What is told apart.
    pub scope: Scope,
    /// What happens once a question was asked as often as it was recorded.
    pub repeat: Repeat,
    /// When answers go out.
    pub timing: Timing,
    /// Whether it is kept, for each answer, what was overlooked and bound in its request.
    pub explain: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ignore: Paths::default(),
            exact: Paths::default(),
            bind: Paths::default(),
            date_tolerance: Duration::from_secs(5),
            scope: Scope::default(),
            repeat: Repeat::default(),
            timing: Timing::default(),
            explain: false,
        }
    }
}

/// Who shares what was asked already, what was written, and what is bound.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    /// All connections.
    #[default]
    Run,
    /// The connections of one `client.application.name`; they are answered from what an application of that name
    /// recorded, or, where the recording tells of no names, from all of it.
    AppName,
}

/// What happens once a question was asked as often as it was recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Repeat {
    /// The last answer stays.
    #[default]
    Last,
    /// It is a miss.
    Once,
    /// The answers begin again.
    Loop,
}

/// When answers go out.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Timing {
    /// At once.
    #[default]
    None,
    /// After as long as the recorded ones took.
    Recorded,
}

/// Places in requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Paths(Vec<Path>);

/// Names and positions with dots between, as in `documents.*.token`: `*` is any one of them. What is inside a place
/// belongs to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Path(Vec<String>);

/// Why a text is no path.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not a path: names with dots between, as in documents.*.token")]
pub struct PathError(String);

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let steps = text.split('.').map(str::to_owned).collect::<Vec<_>>();
        if steps.iter().any(|step| step.is_empty() || step.contains('\0')) {
            return Err(PathError(text.to_owned()));
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// As they are written, with commas between.
impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.0.iter().map(ToString::to_string).collect::<Vec<_>>();
        f.write_str(&paths.join(", "))
    }
}

impl FromIterator<Path> for Paths {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Self {
        Self(paths.into_iter().collect())
    }
}

impl Paths {
    /// Reads several paths.
    ///
    /// # Errors
    /// If one of them is none.
    pub fn parse(texts: &[impl AsRef<str>]) -> Result<Self, PathError> {
        texts.iter().map(|text| text.as_ref().parse()).collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these steps lead to one of the places, not beyond it.
    pub fn hold(&self, steps: &[&[u8]]) -> bool {
        let same = |(step, name): (&String, &&[u8])| step == "*" || step.as_bytes() == *name;
        self.0.iter().any(|path| path.0.len() == steps.len() && path.0.iter().zip(steps).all(same))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_held_against_places() {
        let paths = Paths::parse(&["documents.*.token", "comment"]).unwrap();
        let steps = |text: &'static str| text.split('.').map(str::as_bytes).collect::<Vec<_>>();
        let rows = [
            ("documents.0.token", true),
            ("documents.17.token", true),
            ("documents.0", false),
            ("documents.0.token.a", false),
            ("comment", true),
            ("comments", false),
        ];
        for (text, expected) in rows {
            assert_eq!(paths.hold(&steps(text)), expected, "{text}");
        }
        for wrong in ["", "a..b", ".a", "a.", "a\0"] {
            assert!(Paths::parse(&[wrong]).is_err(), "{wrong:?}");
        }
        assert_eq!("documents.*.a".parse::<Path>().unwrap().to_string(), "documents.*.a");
    }
}
