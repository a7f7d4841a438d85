//! `[redact]`: the user's own secrets, which leave the process nowhere.

use std::path::PathBuf;

use serde::Deserialize;

use super::address::Problem;
use super::file::{List, Text};
use super::resolve::{Place, read_keys, word};
use super::{Error, Password};
use crate::redact::fields::{FieldPath, Mode};

/// `[redact]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redact {
    /// Which fields; none is nothing but credentials.
    pub fields: Vec<FieldPath>,
    /// What becomes of their values.
    pub mode: Mode,
    /// Where the key of the digests is kept; `None` makes one up for the run.
    pub key: Option<Password>,
}

impl Redact {
    /// Each key and what it says, for people.
    pub fn described(&self) -> Vec<(&'static str, String)> {
        let fields = self.fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let key = match &self.key {
            None => "one of the run's own".to_owned(),
            Some(Password::Env(variable)) => format!("in the environment variable {variable}"),
            Some(Password::File(path)) => format!("in {}", path.display()),
        };
        let fields = if fields.is_empty() { "none, credentials go anyway".to_owned() } else { fields };
        vec![("fields", fields), ("mode", self.mode.as_str().to_owned()), ("key", key)]
    }

    /// The same in a line, of what records; `None` if only credentials go.
    pub fn line(&self) -> Option<String> {
        let [(_, fields), (_, mode), (_, key)] = <[_; 3]>::try_from(self.described()).ok()?;
        let key = if self.mode == Mode::Hash { format!(", the key is {key}") } else { String::new() };
        (!self.fields.is_empty()).then(|| format!("redacting {fields} ({mode}{key})"))
    }

    /// Whether what is made to be replayed could be: not with hashes whose key nobody knows once the run is over.
    ///
    /// # Errors
    /// If the mode is [`Mode::Hash`] and there is no key.
    pub fn check_key(&self) -> Result<(), Error> {
        if self.fields.is_empty() || self.mode != Mode::Hash || self.key.is_some() {
            return Ok(());
        }
        let lost = "redact: mode is \"hash\", and no key is given: what is asked by such a value would be found in no other run";
        let hint = "--redact-key env:NAME gives the key, the same for each run";
        Err(Error { message: lost.to_owned(), hint: Some(hint.to_owned()) })
    }

    /// Whether what was asked for can be done where something is recorded: without fields nothing has a mode or a key.
    ///
    /// # Errors
    /// If there are no fields, and something is to become of them.
    pub fn check(&self) -> Result<(), Error> {
        let what = match (self.mode, &self.key) {
            _ if !self.fields.is_empty() => return Ok(()),
            (Mode::Mask, None) => return Ok(()),
            (Mode::Mask, Some(_)) => "a key is given".to_owned(),
            (mode, _) => format!("mode is {:?}", mode.as_str()),
        };
        let message = format!("redact: {what}, and no field is named: nothing would be taken out");
        Err(Error { message, hint: Some("name the fields: --redact-fields 'users.ssn,*.password'".to_owned()) })
    }
}

/// `[redact]`, or the `--redact-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Redact")]
pub struct RedactSettings {
    pub fields: Option<List>,
    pub mode: Option<Text>,
    pub key: Option<Text>,
}

/// What the table and the flags ask for.
pub(super) fn resolve(
    file_name: &str,
    table: Option<&RedactSettings>,
    flags: Option<&RedactSettings>,
) -> Result<Redact, Error> {
    let place = Place { file: file_name.to_owned(), section: "redact" };
    let nothing = RedactSettings::default();
    let (table, flags) = (table.unwrap_or(&nothing), flags.unwrap_or(&nothing));
    let mut redact = Redact::default();
    read_keys! { place, flags, table => redact;
        fields: fields;
        mode: |it: &Text| word(&it.0, &Mode::ALL, Mode::as_str);
        key: |it: &Text| key(&it.0);
    }
    Ok(redact)
}

fn fields(list: &List) -> Result<Vec<FieldPath>, Problem> {
    let hint = "write the collection and the field with dots between: users.ssn, shop.users.card.number, *.password; \
         * stands for a name that cannot be written so";
    list.0
        .iter()
        .map(|text| {
            text.parse().map_err(|it: crate::redact::fields::FieldPathError| Problem::new(it.to_string(), hint))
        })
        .collect()
}

fn key(text: &str) -> Result<Option<Password>, Problem> {
    match text.split_once(':') {
        None if text.is_empty() => Ok(None),
        Some(("env", variable)) if !variable.is_empty() => Ok(Some(Password::Env(variable.to_owned()))),
        Some(("file", path)) if !path.is_empty() => Ok(Some(Password::File(PathBuf::from(path)))),
        // What stands there may be the key itself: it is not repeated.
        _ => Err(Problem::new(
            "the key is neither env:… nor file:…",
            "write where the key is: env:REDACT_KEY, file:redact.key",
        )),
    }
}
