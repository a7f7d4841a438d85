//! SCRAM-SHA-1 and SCRAM-SHA-256 (RFC 5802, RFC 7677) as MongoDB has them: what both sides compute, and either
//! side of a conversation.
//!
//! Here are the messages within the payloads of `saslStart` and `saslContinue`; the commands are
//! `Authentication`'s. Channel binding is not there, as with MongoDB's servers. Nothing random
//! is drawn here: nonces and salts are arguments.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::{digest, hmac, pbkdf2};

/// Which hash is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mechanism {
    /// `SCRAM-SHA-1`.
    Sha1,
    /// `SCRAM-SHA-256`.
    Sha256,
}

impl Mechanism {
    /// Both, as a server lists them.
    pub const ALL: [Self; 2] = [Self::Sha1, Self::Sha256];

    /// Its name in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
        }
    }

    /// The mechanism of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == name)
    }

    /// How long its salts are, in bytes: as MongoDB's servers make them, so that one block of the hash takes each.
    pub fn salt_len(self) -> usize {
        match self {
            Self::Sha1 => 16,
            Self::Sha256 => 28,
        }
    }

    fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        }
    }

    fn hash(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        }
    }

    fn pbkdf2(self) -> pbkdf2::Algorithm {
        match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        }
    }

    /// The password as it is hashed: for SHA-1 MongoDB's old digest of it, for SHA-256 prepared by SASLprep. `None` if
    /// SASLprep forbids it.
    fn prepared(self, user: &str, password: &str) -> Option<String> {
        match self {
            Self::Sha1 => Some(format!("{:x}", md5::compute(format!("{user}:mongo:{password}")))),
            Self::Sha256 => stringprep::saslprep(password).ok().map(std::borrow::Cow::into_owned),
        }
    }
}

/// What a password comes to under a salt: enough for either side to prove that it knows it.
#[derive(Clone)]
pub struct Keys {
    mechanism: Mechanism,
    client_key: Vec<u8>,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

/// Keys are as good as the password.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl Keys {
    /// Derives them. `None` if the password is one that SASLprep forbids.
    pub fn derive(
        mechanism: Mechanism,
        user: &str,
        password: &str,
        salt: &[u8],
        iterations: NonZeroU32,
    ) -> Option<Self> {
        let prepared = mechanism.prepared(user, password)?;
        let mut salted = vec![0; mechanism.hash().output_len()];
        pbkdf2::derive(mechanism.pbkdf2(), iterations, salt, prepared.as_bytes(), &mut salted);
        let client_key = sign(mechanism, &salted, b"Client Key");
        let stored_key = digest::digest(mechanism.hash(), &client_key).as_ref().to_vec();
        let server_key = sign(mechanism, &salted, b"Server Key");
        Some(Self { mechanism, client_key, stored_key, server_key })
    }

    /// What the client shows to prove that it knows the password.
    pub fn client_proof(&self, auth_message: &str) -> Vec<u8> {
        let signature = sign(self.mechanism, &self.stored_key, auth_message.as_bytes());
        self.client_key.iter().zip(signature).map(|(key, byte)| key ^ byte).collect()
    }

    /// What the server shows in return.
    pub fn server_signature(&self, auth_message: &str) -> Vec<u8> {
        sign(self.mechanism, &self.server_key, auth_message.as_bytes())
    }
}

fn sign(mechanism: Mechanism, key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(mechanism.hmac(), key), message).as_ref().to_vec()
}

/// A client's first message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientFirst {
    /// Who it is.
    pub user: String,
    nonce: String,
    /// The message without what it begins with about channel binding.
    bare: String,
    /// What it begins with about that.
    binding: String,
}

impl ClientFirst {
    /// Reads it: `n,,n=USER,r=NONCE`. `None` if it is not one, or wants channel binding.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        let (flag, rest) = text.split_once(',')?;
        let (identity, bare) = rest.split_once(',')?;
        if !matches!(flag, "n" | "y") {
            return None;
        }
        let (user, rest) = bare.strip_prefix("n=")?.split_once(',')?;
        let nonce = rest.strip_prefix("r=")?.split(',').next().filter(|nonce| !nonce.is_empty())?;
        Some(Self {
            user: user.replace("=2C", ",").replace("=3D", "="),
            nonce: nonce.to_owned(),
            bare: bare.to_owned(),
            binding: format!("{flag},{identity},"),
        })
    }
}

/// A server's side, after it has answered the first message.
#[derive(Clone, Debug)]
pub struct ServerConversation {
    keys: Keys,
    first: ClientFirst,
    server_first: String,
    nonce: String,
}

impl ServerConversation {
    /// Begins it: the server's nonce goes behind the client's. `salt` and `iterations` are those of `keys`.
    pub fn begin(keys: Keys, first: ClientFirst, server_nonce: &str, salt: &[u8], iterations: NonZeroU32) -> Self {
        let nonce = format!("{}{server_nonce}", first.nonce);
        let server_first = format!("r={nonce},s={},i={iterations}", BASE64_STANDARD.encode(salt));
        Self { keys, first, server_first, nonce }
    }

    /// The server's first message.
    pub fn first_message(&self) -> &str {
        &self.server_first
    }

    /// Reads the client's last message; the server's last if the proof is good.
    pub fn finish(&self, payload: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(payload).ok()?;
        let (without_proof, proof) = text.rsplit_once(",p=")?;
        let (binding, nonce) = without_proof.strip_prefix("c=")?.split_once(",r=")?;
        let is_ours = nonce == self.nonce && binding == BASE64_STANDARD.encode(&self.first.binding);
        let auth_message = format!("{},{},{without_proof}", self.first.bare, self.server_first);
        let is_right = BASE64_STANDARD.decode(proof).ok()? == self.keys.client_proof(&auth_message);
        let signature = BASE64_STANDARD.encode(self.keys.server_signature(&auth_message));
        (is_ours && is_right).then(|| format!("v={signature}"))
    }
}

/// A client's side.
#[derive(Clone)]
pub struct ClientConversation {
    mechanism: Mechanism,
    user: String,
    password: String,
    nonce: String,
}

/// There is a password in it.
impl std::fmt::Debug for ClientConversation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConversation").field("mechanism", &self.mechanism).finish_non_exhaustive()
    }
}

impl ClientConversation {
    /// Begins it. `nonce` is to be random, and printable without commas.
    pub fn begin(mechanism: Mechanism, user: &str, password: &str, nonce: &str) -> Self {
        Self { mechanism, user: user.to_owned(), password: password.to_owned(), nonce: nonce.to_owned() }
    }

    /// The client's first message.
    pub fn first_message(&self) -> String {
        format!("n,,{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n={},r={}", self.user.replace('=', "=3D").replace(',', "=2C"), self.nonce)
    }

    /// Reads the server's first message: the client's last one, and what the server must answer to it. `None` if it is no
    /// answer to the client's first, asks for too little work to be safe, or the password is one that SASLprep forbids.
    pub fn respond(&self, server_first: &[u8]) -> Option<(String, String)> {
        let text = std::str::from_utf8(server_first).ok()?;
        let (nonce, rest) = text.strip_prefix("r=")?.split_once(",s=")?;
        let (salt, iterations) = rest.split_once(",i=")?;
        let iterations: NonZeroU32 =
            iterations.parse().ok().filter(|count: &NonZeroU32| count.get() >= ITERATIONS_MIN)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return None;
        }
        let salt = BASE64_STANDARD.decode(salt).ok()?;
        let keys = Keys::derive(self.mechanism, &self.user, &self.password, &salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode("n,,"));
        let auth_message = format!("{},{text},{without_proof}", self.bare());
        let proof = BASE64_STANDARD.encode(keys.client_proof(&auth_message));
        let signature = BASE64_STANDARD.encode(keys.server_signature(&auth_message));
        Some((format!("{without_proof},p={proof}"), format!("v={signature}")))
    }
}

/// A server that asks for less is not believed (Authentication specification).
const ITERATIONS_MIN: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn iterations(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    /// A conversation as Python's hashlib computes it for SHA-1, and that of RFC 7677 for SHA-256: user and password, the
    /// client's first message, the server's nonce, salt and iterations, and both last messages.
    #[test]
    fn known_conversations() {
        let rows = [
            (
                Mechanism::Sha1,
                ("ann", "opensesame"),
                ("n,,n=ann,r=clientnonce", "servernonce", "MDEyMzQ1Njc4OWFiY2RlZg=="),
                ("c=biws,r=clientnonceservernonce,p=iqBqTMwCrI9vANqxOyRz5P2/xLs=", "v=WgFn3AqY/r02VXEswCOWJe+dm3c="),
            ),
            (
                Mechanism::Sha256,
                ("user", "pencil"),
                ("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0", "W22ZaJ0SNY7soEsUEjb6gQ=="),
                (
                    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                    "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
                ),
            ),
        ];
        for (mechanism, (user, password), (first, nonce, salt), (last, signature)) in rows {
            let salt = BASE64_STANDARD.decode(salt).unwrap();
            let begin = |password| {
                let keys = Keys::derive(mechanism, user, password, &salt, iterations(4096)).unwrap();
                let first = ClientFirst::parse(first.as_bytes()).unwrap();
                ServerConversation::begin(keys, first, nonce, &salt, iterations(4096))
            };
            assert_eq!(begin(password).finish(last.as_bytes()).as_deref(), Some(signature), "{mechanism:?}");
            assert_eq!(begin("other").finish(last.as_bytes()), None, "{mechanism:?}: another password");
            let (_, own_nonce) = first.split_once(",r=").unwrap();
            let client = ClientConversation::begin(mechanism, user, password, own_nonce);
            assert_eq!(client.first_message(), first);
            let server_first = begin(password).first_message().to_owned();
            assert_eq!(client.respond(server_first.as_bytes()), Some((last.to_owned(), signature.to_owned())));
            assert_eq!(client.respond(server_first.replace("i=4096", "i=1").as_bytes()), None);
            assert_eq!(client.respond(server_first.replace("r=", "r=x").as_bytes()), None);
            let forged = last.replace("c=biws", "c=eSws");
            assert_eq!(begin(password).finish(forged.as_bytes()), None);
        }
    }

    #[test]
    fn names_and_passwords_are_prepared() {
        let first = ClientFirst::parse(b"n,a=other,n=a=2Cb=3Dc,r=x").unwrap();
        assert_eq!((first.user.as_str(), first.binding.as_str()), ("a,b=c", "n,a=other,"));
        for wrong in ["", "n,,n=user", "p=tls-unique,,n=u,r=x", "n,,r=x,n=u", "n,,n=u,r="] {
            assert_eq!(ClientFirst::parse(wrong.as_bytes()), None, "{wrong}");
        }
        let keys = |password| Keys::derive(Mechanism::Sha256, "u", password, b"salt", iterations(1));
        // SASLprep: a soft hyphen is nothing, a Roman nine is two letters, and a control character is forbidden.
        assert_eq!(keys("I\u{ad}X").unwrap().client_key, keys("\u{2168}").unwrap().client_key);
        assert!(keys("a\u{7}").is_none());
        assert!(!format!("{:?}", keys("a")).contains("client_key"));
    }
}
