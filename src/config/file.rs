//! The first stage: what `proxy.toml` says, as text.
//!
//! Values are kept as they were written and are parsed where the flags are, so that both are read alike and an error
//! can name the place. Here only TOML's own errors are found, and keys that nobody knows.

use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::bson::nearest;

use super::Error;
use super::capture::CaptureSettings;
use super::redact::RedactSettings;
use super::replay::ReplaySettings;
use super::tls::TlsSettings;

/// The top level of `proxy.toml`, or the flags of the same names. A key that is absent is `None`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Config")]
pub struct Settings {
    pub listen: Option<Text>,
    pub upstream: Option<Text>,
    pub advertise: Option<Text>,
    pub allow: Option<List>,
    pub max_connections: Option<Text>,
    pub max_message_bytes: Option<Text>,
    pub inflate_max_bytes: Option<Text>,
    pub drain: Option<Text>,
    pub threads: Option<Text>,
    pub topology: Option<TopologySettings>,
    pub tls: Option<TlsSettings>,
    pub log: Option<Vec<LogSettings>>,
    pub capture: Option<CaptureSettings>,
    pub redact: Option<RedactSettings>,
    pub replay: Option<ReplaySettings>,
}

/// `[topology]`, or the `--topology-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Topology")]
pub struct TopologySettings {
    pub per: Option<Text>,
    pub closed_after: Option<Text>,
    pub ended_after: Option<Text>,
    pub idle_after: Option<Text>,
    pub dial: Option<Pairs>,
    pub listen: Option<Pairs>,
    pub dns: Option<Text>,
}

/// One `[[log]]`, or the `--log-…` flags.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each is the key of that name, documented in proxy.toml and on Log")]
pub struct LogSettings {
    pub path: Option<Text>,
    pub format: Option<Text>,
    pub events: Option<List>,
    pub phases: Option<List>,
    pub namespaces: Option<List>,
    pub max_document_bytes: Option<Text>,
    pub extended_json: Option<Text>,
    pub queue_bytes: Option<Text>,
    pub on_overflow: Option<Text>,
    pub on_error: Option<Text>,
    pub rotate_bytes: Option<Text>,
    pub rotate_every: Option<Text>,
    pub keep: Option<Text>,
}

/// A single value as it was written: a string, or the digits of a number.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Text(pub String);

/// `true` or `false` as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Switch(pub String);

/// Several values; written as an array, or as one string with commas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct List(pub Vec<String>);

/// Names and what each stands for; written as a table, or as one string `NAME=VALUE,…`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pairs(pub Vec<(String, String)>);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&str> for Switch {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<&str> for List {
    fn from(text: &str) -> Self {
        Self(text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect())
    }
}

impl From<&str> for Pairs {
    fn from(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        };
        Self(text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect())
    }
}

impl Settings {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint = (error.kind() == std::io::ErrorKind::NotFound).then(|| NO_FILE_HINT.to_owned());
            Error { message: format!("{name}: {}", io_reason(&error)), hint }
        })?;
        Self::parse(&name.to_string(), &text)
    }

    /// Reads the text of the file of that name.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| explain(name, text, &error))
    }
}

/// An input or output error in words, without its number.
pub(crate) fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Says of an error of the TOML reader where it is, and of an unknown key what may have been meant.
fn explain(name: &str, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
    let place = format!("{name}: line {line}");
    // serde says: unknown field `a`, expected one of `b`, `c`
    let mut quoted = error.message().split('`').skip(1).step_by(2);
    if !error.message().starts_with("unknown field") {
        // A table where there are several.
        let is_single_log = error.message() == "invalid type: map, expected a sequence";
        let hint = if is_single_log { DOUBLE_BRACKETS_HINT } else { SHIPPED_HINT };
        return Error { message: format!("{place}: {}", error.message()), hint: Some(hint.to_owned()) };
    }
    let key = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let hint = match nearest(key, &known) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => format!("known here are {}", known.join(", ")),
    };
    Error { message: format!("{place}: unknown key {key:?}"), hint: Some(hint) }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }
        }
        input.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true or false")
            }

            fn visit_bool<E: de::Error>(self, switch: bool) -> Result<Switch, E> {
                Ok(Switch(switch.to_string()))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Switch, E> {
                Ok(text.into())
            }
        }
        input.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                Ok(text.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(List(list))
            }
        }
        input.deserialize_any(Reader)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Pairs, E> {
                Ok(text.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = entries.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        input.deserialize_any(Reader)
    }
}

const DOUBLE_BRACKETS_HINT: &str = "write [[log]], in double brackets: there may be several";
const SHIPPED_HINT: &str = "the proxy.toml that is shipped with mongotap shows how each key is written";
const NO_FILE_HINT: &str =
    "without --config the defaults hold; the proxy.toml that is shipped with mongotap lists them";

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (String, String) {
        let error = Settings::parse("proxy.toml", text).unwrap_err();
        (error.message, error.hint.unwrap_or_default())
    }

    #[test]
    fn an_unknown_key_has_its_line_and_a_suggestion() {
        let found = error("# a comment\nlisten = \"a:1\"\nupstraem = \"b\"\n");
        assert_eq!(found, ("proxy.toml: line 3: unknown key \"upstraem\"".into(), "did you mean \"upstream\"?".into()));
        let found = error("[[log]]\npath = \"-\"\nmax-document-bytes = 0\n");
        let hint = "did you mean \"max_document_bytes\"?";
        assert_eq!(found, ("proxy.toml: line 3: unknown key \"max-document-bytes\"".into(), hint.into()));
        let (message, hint) = error("colour = 1\n");
        assert_eq!(message, "proxy.toml: line 1: unknown key \"colour\"");
        assert!(hint.starts_with("known here are listen, upstream, "), "{hint}");
    }

    #[test]
    fn errors_of_the_language_and_of_types_have_their_line() {
        assert!(error("listen = \"a:1\"\nthreads = \n").0.starts_with("proxy.toml: line 2: "));
        let (message, _) = error("threads = 1\n\ndrain = true\n");
        assert_eq!(message, "proxy.toml: line 3: invalid type: boolean `true`, expected a string or a number");
        let (message, _) = error("[[log]]\nevents = [1]\n");
        assert!(message.starts_with("proxy.toml: line 2: invalid type: integer `1`"), "{message}");
        let (message, hint) = error("threads = 1\n[log]\npath = \"-\"\n");
        assert!(
            message.starts_with("proxy.toml: line 2: ") && hint.starts_with("write [[log]], "),
            "{message}: {hint}"
        );
    }
}
