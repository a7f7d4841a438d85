//! `[replay]`: how a recording is answered from, and who may authenticate.

use std::path::PathBuf;

use serde::Deserialize;

use super::Error;
use super::address::Problem;
use super::file::{List, Pairs, Switch, Text};
use super::resolve::{Place, duration, read_keys, word};
use super::tls::switch;
use super::value::show_duration;
use crate::replay::{Accept, Paths, Repeat, Scope, Settings, Timing};

/// `[replay]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replay {
    /// How questions are told apart and answered; `repeat` is that of [`Replay::repeat`].
    pub settings: Settings,
    /// What happens once a question was asked as often as it was recorded; `None` is [`Repeat::Last`], under `exec`
    /// [`Repeat::Once`].
    pub repeat: Option<Repeat>,
    /// Whether what is ambiguous or was never asked for is a failure too; `None` is no, under `exec` only what was never
    /// asked for.
    pub strict: Option<bool>,
    /// How a recorded replica set is presented.
    pub topology: Presented,
    /// Who answers what was never recorded.
    pub on_miss: OnMiss,
    /// Mechanisms that are taken without a check.
    pub accept: Accept,
    /// Who may authenticate, with where the password is to be found.
    pub users: Vec<(String, Password)>,
}

/// Where a password is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Password {
    /// In an environment variable of that name.
    Env(String),
    /// In a file: its first line.
    File(PathBuf),
}

/// How a recorded replica set is presented.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Presented {
    /// As one member, which is primary.
    #[default]
    One,
    /// As all its members, a listener each.
    All,
}

/// Who answers what was never recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum OnMiss {
    /// Nobody: it is an error.
    #[default]
    Fail,
    /// The upstream.
    Forward,
    /// The upstream, and it is recorded.
    Record,
}

impl Presented {
    /// `one` or `all`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::All => "all",
        }
    }
}

impl OnMiss {
    /// `fail`, `forward` or `record`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Forward => "forward",
            Self::Record => "record",
        }
    }
}

impl Replay {
    /// Each key and what it says, for people.
    pub fn described(&self) -> Vec<(&'static str, String)> {
        let or = |text: String, none: &str| if text.is_empty() { none.to_owned() } else { text };
        let Settings { ignore, exact, bind, date_tolerance, scope, timing, .. } = &self.settings;
        let accepted = [("plain", self.accept.plain), ("x509", self.accept.x509)];
        let accepted = accepted.into_iter().filter_map(|(name, is_taken)| is_taken.then_some(name));
        let users = self.users.iter().map(|(name, _)| name.as_str());
        vec![
            ("ignore", or(ignore.to_string(), "nothing")),
            ("exact", or(exact.to_string(), "nowhere")),
            ("bind", or(bind.to_string(), "nowhere")),
            ("date_tolerance", show_duration(*date_tolerance)),
            ("scope", scope_name(*scope).to_owned()),
            ("repeat", self.repeat.map_or_else(|| "last, under exec once".to_owned(), |it| repeat_name(it).to_owned())),
            (
                "strict",
                self.strict
                    .map_or_else(|| "false, under exec what was never asked for".to_owned(), |it| it.to_string()),
            ),
            ("timing", timing_name(*timing).to_owned()),
            ("topology", self.topology.as_str().to_owned()),
            ("on_miss", self.on_miss.as_str().to_owned()),
            ("accept", or(accepted.collect::<Vec<_>>().join(", "), "none")),
            ("users", or(users.collect::<Vec<_>>().join(", "), "none")),
        ]
    }

    /// The settings, with what `repeat` is where nothing is said of it.
    pub fn settings_or(&self, repeat: Repeat) -> Settings {
        Settings { repeat: self.repeat.unwrap_or(repeat), ..self.settings.clone() }
    }
}

/// `[replay]`, or the flags of `mongotap replay` and `exec`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Replay")]
pub struct ReplaySettings {
    pub ignore: Option<List>,
    pub exact: Option<List>,
    pub bind: Option<List>,
    pub date_tolerance: Option<Text>,
    pub scope: Option<Text>,
    pub repeat: Option<Text>,
    pub strict: Option<Switch>,
    pub timing: Option<Text>,
    pub topology: Option<Text>,
    pub on_miss: Option<Text>,
    pub accept: Option<List>,
    pub users: Option<Pairs>,
}

/// What the table and the flags ask for.
pub(super) fn resolve(
    file_name: &str,
    table: Option<&ReplaySettings>,
    flags: Option<&ReplaySettings>,
) -> Result<Replay, Error> {
    let place = Place { file: file_name.to_owned(), section: SECTION };
    let nothing = ReplaySettings::default();
    let (table, flags) = (table.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let mut replay = Replay::default();
    let settings = &mut replay.settings;
    read_keys! { place, flags, table => settings;
        ignore: paths;
        exact: paths;
        bind: paths;
        date_tolerance: |it: &Text| duration(&it.0);
        scope: |it: &Text| word(&it.0, &[Scope::Run, Scope::AppName], scope_name);
        timing: |it: &Text| word(&it.0, &[Timing::None, Timing::Recorded], timing_name);
    }
    read_keys! { place, flags, table => replay;
        repeat: repeat;
        strict: |it: &Switch| if it.0.is_empty() { Ok(None) } else { switch(&it.0).map(Some) };
        topology: |it: &Text| word(&it.0, &[Presented::One, Presented::All], Presented::as_str);
        on_miss: |it: &Text| word(&it.0, &[OnMiss::Fail, OnMiss::Forward, OnMiss::Record], OnMiss::as_str);
        accept: accept;
        users: users;
    }
    Ok(replay)
}

/// The section's flags are those of a command, so its name is not before them.
pub(super) const SECTION: &str = "replay";

fn paths(list: &List) -> Result<Paths, Problem> {
    let hint = "write names and positions with dots between, * for any one of them: documents.*.token";
    Paths::parse(&list.0).map_err(|error| Problem::new(error.to_string(), hint))
}

fn repeat(text: &Text) -> Result<Option<Repeat>, Problem> {
    match text.0.as_str() {
        "" => Ok(None),
        text => word(text, &[Repeat::Last, Repeat::Once, Repeat::Loop], repeat_name).map(Some),
    }
}

fn accept(list: &List) -> Result<Accept, Problem> {
    let mut accept = Accept::default();
    for name in &list.0 {
        match word(name, &["plain", "x509"], |name| name)? {
            "plain" => accept.plain = true,
            _ => accept.x509 = true,
        }
    }
    Ok(accept)
}

fn users(pairs: &Pairs) -> Result<Vec<(String, Password)>, Problem> {
    let hint = "write where the password is: users = { ann = \"env:ANN_PASSWORD\", bob = \"file:bob.txt\" }";
    let user = |(name, kept): &(String, String)| {
        let password = match kept.split_once(':') {
            Some(("env", variable)) if !variable.is_empty() => Password::Env(variable.to_owned()),
            Some(("file", path)) if !path.is_empty() => Password::File(PathBuf::from(path)),
            // What stands there may be the password itself: it is not repeated.
            _ => return Err(Problem::new(format!("the password of {name:?} is neither env:… nor file:…"), hint)),
        };
        Ok((name.clone(), password))
    };
    pairs.0.iter().map(user).collect()
}

fn scope_name(scope: Scope) -> &'static str {
    match scope {
        Scope::Run => "run",
        Scope::AppName => "appName",
    }
}

fn timing_name(timing: Timing) -> &'static str {
    match timing {
        Timing::None => "none",
        Timing::Recorded => "recorded",
    }
}

fn repeat_name(repeat: Repeat) -> &'static str {
    match repeat {
        Repeat::Last => "last",
        Repeat::Once => "once",
        Repeat::Loop => "loop",
    }
}
