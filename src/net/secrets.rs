//! Secrets that a configuration names and does not hold: passwords, and the key of the digests that stand for values.

use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{self, Password, Redact, io_reason};
use crate::redact::Fields;

/// Bytes of a key that is made up.
const KEY_LEN: usize = 32;

/// Reads a secret, which errors call `what`; `hint` says what it is for.
pub(super) fn read(what: &str, secret: &Password, hint: &str) -> Result<String, config::Error> {
    let (missing, text) = match secret {
        Password::Env(variable) => {
            (format!("the environment variable {variable} is not set"), std::env::var(variable).ok())
        }
        Password::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| config::Error {
                message: format!("{what}: {}: {}", path.display(), io_reason(&error)),
                hint: Some("write it in the first line of that file".to_owned()),
            })?;
            (format!("the first line of {} is empty", path.display()), text.lines().next().map(str::to_owned))
        }
    };
    text.filter(|text| !text.is_empty())
        .ok_or_else(|| config::Error { message: format!("{what}: {missing}"), hint: Some(hint.to_owned()) })
}

/// The fields whose values are taken out, with the key of their digests.
///
/// # Errors
/// If there is a key or a mode and no field, if the key cannot be read, or if none can be made up.
pub(crate) fn fields(redact: &Redact) -> Result<Option<Arc<Fields>>, config::Error> {
    redact.check()?;
    let key = match &redact.key {
        Some(key) => self::key(key)?,
        None => made_up()?,
    };
    Ok(Fields::new(redact.fields.clone(), redact.mode, &key))
}

/// The key of digests.
///
/// # Errors
/// If it cannot be read.
pub(super) fn key(key: &Password) -> Result<Vec<u8>, config::Error> {
    let hint = "put a long random text there, the same for each run";
    read("the key of [redact]", key, hint).map(String::into_bytes)
}

/// A key that nobody knows.
///
/// # Errors
/// If there is none to be had.
pub(super) fn made_up() -> Result<Vec<u8>, config::Error> {
    let mut key = vec![0; KEY_LEN];
    SystemRandom::new().fill(&mut key).map_err(|_| config::Error {
        message: "no random bytes are to be had for the key of [redact]".to_owned(),
        hint: Some("give one with --redact-key env:NAME".to_owned()),
    })?;
    Ok(key)
}
