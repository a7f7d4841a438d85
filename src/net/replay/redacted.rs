//! The fields whose values were taken out of a recording, to be taken out of what is asked of it too.

use std::sync::Arc;

use super::Plan;
use crate::config::{self, Config, OnMiss};
use crate::net::secrets;
use crate::redact::Fields;
use crate::redact::fields::{Mode, Rules};

/// What is to be taken out of requests, by what the recording says; what is to be said of it goes to `warnings`.
pub(super) fn fields(
    rules: &[Rules],
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Vec<Arc<Fields>>, config::Error> {
    let mut all = Vec::new();
    for rules in rules {
        let named = rules.fields.join(", ");
        let paths = rules.fields.iter().map(|path| path.parse()).collect::<Result<Vec<_>, _>>();
        let paths = paths.map_err(|error| config::Error { message: format!("the recording: {error}"), hint: None })?;
        // A key that is not known is made up: nothing is found by it, and nothing shown.
        let key = match (&rules.key, &config.redact.key) {
            (Some(_), Some(key)) => secrets::key(key)?,
            _ => secrets::made_up()?,
        };
        let Some(fields) = Fields::new(paths, rules.mode, &key) else { continue };
        let how = match rules.mode {
            Mode::Mask => "masked in the recording: in what is asked their values are all the same",
            Mode::Hash if fields.rules() != *rules && config.replay.on_miss == OnMiss::Record => {
                return Err(other_key(&named, config.redact.key.is_some()));
            }
            Mode::Hash if fields.rules() == *rules => "hashed in the recording: values are compared by their hashes",
            Mode::Hash if config.redact.key.is_some() => {
                "hashed in the recording with another key than that of [redact]: what asks by such a value is not found"
            }
            Mode::Hash => {
                "hashed in the recording with a key that is not given: what asks by such a value is not found; if it was \
                 given then, --redact-key env:NAME gives it"
            }
            Mode::Drop => "left out of the recording: a request is taken as if it had none",
        };
        warnings.push(format!("{named}: {how}"));
        all.push(fields);
    }
    Ok(all)
}

/// What is recorded besides would have hashes that cannot be compared with those that are there.
fn other_key(named: &str, is_given: bool) -> config::Error {
    let which = if is_given { "another key than that of [redact]" } else { "a key that is not given" };
    config::Error {
        message: format!("{named}: hashed in the recording with {which}: nothing can be recorded besides"),
        hint: Some(
            "--redact-key env:NAME gives the key; one that was made up for a run is lost: record all anew".to_owned(),
        ),
    }
}

/// The recording has nothing that the configuration forbids: it would be shown, and stay where it is.
pub(super) fn check(rules: &[Rules], plan: &Plan) -> Result<(), config::Error> {
    let config = &plan.config;
    let is_withheld = |path: &String| rules.iter().any(|rules| rules.fields.contains(path));
    let named = config.redact.fields.iter().map(ToString::to_string);
    match named.into_iter().find(|path| !is_withheld(path)) {
        Some(path) => Err(config::Error {
            message: format!("redact.fields: {path} was not redacted when this was recorded"),
            hint: Some(
                "mongotap convert --redact-fields LIST IN OUT takes it out of what was recorded; or record it anew"
                    .to_owned(),
            ),
        }),
        None => Ok(()),
    }
}
