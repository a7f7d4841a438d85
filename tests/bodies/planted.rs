//! A secret in its disguises: raw, in hex, in base64 wherever it may begin; and where it shows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bson::{Binary, Bson, bson, spec::BinarySubtype};
use memchr::memmem;

use super::Choices;

/// Two halves that nothing else has in it, each of which is a secret.
pub(super) const SECRET: &[u8; 24] = b"Zq8vK3nT5wX1pL9rB7yH2mC4";

/// A value with the secret in it.
pub(super) fn planted(choices: &mut Choices<'_>) -> Bson {
    let around = usize::from(choices.byte()) % 4;
    let raw = [&b"n=uv"[..around], SECRET, b"=="].concat();
    let text = match choices.byte() % 3 {
        0 => String::from_utf8_lossy(&raw).into_owned(),
        1 => hex(&raw),
        _ => STANDARD.encode(&raw),
    };
    match choices.byte() % 7 {
        0 | 1 => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: raw }),
        2 => bson!({ "x": text }),
        3 => bson!([1, text]),
        4 => Bson::JavaScriptCode(text),
        _ => Bson::String(text),
    }
}

/// An error's message with the secret in it.
pub(super) fn message() -> String {
    format!("no such user: {}", String::from_utf8_lossy(SECRET))
}

/// The form in which a half of the secret shows in these bytes, if one does.
pub(super) fn shown(bytes: &[u8]) -> Option<String> {
    let (one, other) = SECRET.split_at(SECRET.len() / 2);
    let forms = [one, other].into_iter().flat_map(forms);
    forms.into_iter().find(|form| memmem::find(bytes, form.as_bytes()).is_some())
}

fn forms(secret: &[u8]) -> Vec<String> {
    let hex = hex(secret);
    let mut forms = vec![String::from_utf8_lossy(secret).into_owned(), hex.to_uppercase(), hex];
    for before in 0..3 {
        let text = STANDARD.encode([&[0; 2][..before], secret, &[0; 3]].concat());
        // What is made of bits of the secret alone.
        forms.push(text[(8 * before).div_ceil(6)..8 * (before + secret.len()) / 6].to_owned());
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
