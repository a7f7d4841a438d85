//! What users write: connection strings and `proxy.toml`. A mistake is named in words, and no password is repeated.

use mongotap::config::{ApplicationUri, Config, Flags, Settings, Text};

/// What stands for a password: no message of ours has such a word in it.
const PASSWORD: &str = "7hunter2Q";

/// A connection string.
pub(super) fn connection_string(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let plain = text.split_once("://").map_or(&*text, |(_, rest)| rest);
    let with_password = |scheme: &str| format!("{scheme}://user:{PASSWORD}@{plain}");
    for text in [text.clone().into_owned(), with_password("mongodb"), with_password("mongodb+srv")] {
        if let Ok(uri) = ApplicationUri::parse(&text).map_err(check) {
            assert!(!format!("{uri:?}").contains(PASSWORD), "{uri:?}");
            let upstream = uri.upstream();
            assert!(!upstream.contains(PASSWORD), "{upstream}");
            if let Ok(again) = ApplicationUri::parse(&upstream) {
                assert_eq!(again.upstream(), upstream);
            }
            uri.at("mongodb://127.0.0.1:1/?directConnection=true");
        }
        let top = Settings { upstream: Some(Text(text)), ..Settings::default() };
        let read = Config::parse("", "", &Flags { top, ..Flags::default() });
        if let Ok(config) = read.map_err(check) {
            assert!(!format!("{config:?}").contains(PASSWORD), "{config:?}");
        }
    }
}

/// A `proxy.toml`.
pub(super) fn configuration(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let flags = Flags::default();
    if let Err(error) = Config::parse("proxy.toml", &text, &flags).map_err(check) {
        // What keys say together may be the doing of flags, too: such an error names the key alone.
        let first = error.message.split(' ').next().unwrap_or_default();
        let is_key =
            first.contains('.') && first.bytes().all(|byte| byte.is_ascii_lowercase() || b"._".contains(&byte));
        assert!(first == "proxy.toml:" || is_key, "{error:?}");
    }
}

fn check(error: mongotap::config::Error) -> mongotap::config::Error {
    let said = format!("{error} {} {error:?}", error.hint.as_deref().unwrap_or_default());
    assert!(!said.contains(PASSWORD), "{said}");
    assert!(!error.message.is_empty() && error.hint.as_deref() != Some(""), "{error:?}");
    error
}
