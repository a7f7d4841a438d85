//! Authentication of one connection, with users that replay was given: nothing secret is in a recording.
//!
//! SCRAM is checked as a server does it, for a user on whatever database it says it is of. PLAIN and MONGODB-X509 are
//! taken without a check if that was chosen, for what they rest on (LDAP, TLS) is not here. Nobody has to authenticate:
//! what a command may do was settled when it was recorded.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::spec::BinarySubtype;
use bson::{Binary, rawdoc};
use ring::hmac;

use super::Request;
use super::scram::{ClientFirst, Keys, Mechanism, ServerConversation};
use crate::bson::{Kind, find, find_path};

/// The least that drivers accept: who replays wants a quick connection, and there is nothing here to be guarded.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("it is not zero");

/// The mechanisms that are taken without a check.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Accept {
    /// PLAIN (LDAP).
    pub plain: bool,
    /// MONGODB-X509.
    pub x509: bool,
}

/// Who may authenticate, the same for all connections of a run.
#[derive(Debug)]
pub struct Users {
    users: BTreeMap<String, Vec<User>>,
    accept: Accept,
    seed: hmac::Key,
    nonces: AtomicU64,
}

/// A user, as one mechanism knows it.
#[derive(Debug)]
struct User {
    mechanism: Mechanism,
    keys: Keys,
    salt: Vec<u8>,
}

impl Users {
    /// Users with their passwords. Salts and nonces come from the seed, which must differ from run to run.
    pub fn new<'u>(users: impl IntoIterator<Item = (&'u str, &'u str)>, accept: Accept, seed: [u8; 32]) -> Self {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        let user = |name: &str, password: &str| {
            let known = Mechanism::ALL.into_iter().filter_map(|mechanism| {
                let salt = drawn(&seed, &format!("{} {name}", mechanism.as_str()), mechanism.salt_len());
                let keys = Keys::derive(mechanism, name, password, &salt, ITERATIONS)?;
                Some(User { mechanism, keys, salt })
            });
            known.collect()
        };
        let users = users.into_iter().map(|(name, password)| (name.to_owned(), user(name, password))).collect();
        Self { users, accept, seed, nonces: AtomicU64::new(0) }
    }

    /// Nobody can authenticate.
    pub fn nobody() -> Self {
        Self::new([], Accept::default(), [0; 32])
    }

    fn nonce(&self) -> String {
        let number = self.nonces.fetch_add(1, Ordering::Relaxed);
        BASE64_STANDARD.encode(drawn(&self.seed, &format!("nonce {number}"), 24))
    }

    fn find(&self, name: &str, mechanism: Mechanism) -> Option<&User> {
        self.users.get(name)?.iter().find(|user| user.mechanism == mechanism)
    }

    /// What a `hello` that asks `saslSupportedMechs: "db.user"` is told; nothing of a user that is not known.
    pub(super) fn mechanisms(&self, hello: &[u8]) -> Option<RawArrayBuf> {
        let asked = find(hello, b"saslSupportedMechs")?.as_str()?.to_owned();
        let (_, name) = asked.split_once('.')?;
        Some(self.users.get(name)?.iter().map(|user| user.mechanism.as_str()).collect())
    }
}

fn drawn(seed: &hmac::Key, what: &str, len: usize) -> Vec<u8> {
    hmac::sign(seed, what.as_bytes()).as_ref().iter().copied().take(len).collect()
}

/// What a connection has said of who it is.
#[derive(Debug)]
pub(super) struct Authentication {
    users: Arc<Users>,
    conversation: Option<Conversation>,
    /// The number of the last conversation.
    last: i32,
}

/// A SCRAM conversation between its commands.
#[derive(Debug)]
struct Conversation {
    scram: ServerConversation,
    /// Whether the client has proven itself; it says one more thing that means nothing.
    is_proven: bool,
    skip_empty_exchange: bool,
}

impl Authentication {
    pub(super) fn new(users: Arc<Users>) -> Self {
        Self { users, conversation: None, last: 0 }
    }

    pub(super) fn users(&self) -> &Users {
        &self.users
    }

    /// The reply to a command of authentication; `None` if it is another.
    pub(super) fn handle(&mut self, request: &Request) -> Option<RawDocumentBuf> {
        match request.name() {
            "saslStart" => Some(self.start(&request.command).unwrap_or_else(Refusal::into_reply)),
            "saslContinue" => Some(self.proceed(&request.command).unwrap_or_else(Refusal::into_reply)),
            "authenticate" => Some(self.x509(&request.command).unwrap_or_else(Refusal::into_reply)),
            "logout" => Some(rawdoc! { "ok": 1.0 }),
            _ => None,
        }
    }

    /// The reply to the authentication that a `hello` begins; as a server does, nothing if it fails.
    pub(super) fn speculate(&mut self, hello: &[u8]) -> Option<RawDocumentBuf> {
        let command = find(hello, b"speculativeAuthenticate")?.as_document()?;
        let begun = if find(command, b"saslStart").is_some() { self.start(command) } else { self.x509(command) };
        begun.ok()
    }

    fn start(&mut self, command: &[u8]) -> Result<RawDocumentBuf, Refusal> {
        self.conversation = None;
        let name = find(command, b"mechanism").and_then(|it| it.as_str()).unwrap_or_default();
        if name == "PLAIN" && self.users.accept.plain {
            self.last += 1;
            return Ok(self.reply(b"", true));
        }
        let mechanism = Mechanism::from_name(name).ok_or_else(|| Refusal::mechanism(name))?;
        if self.users.users.is_empty() {
            return Err(Refusal::NoUsers);
        }
        let first = payload(command).and_then(ClientFirst::parse).ok_or(Refusal::Failed)?;
        let user = self.users.find(&first.user, mechanism).ok_or(Refusal::Failed)?;
        let (keys, nonce) = (user.keys.clone(), self.users.nonce());
        let scram = ServerConversation::begin(keys, first, &nonce, &user.salt, ITERATIONS);
        self.last += 1;
        let reply = self.reply(scram.first_message().as_bytes(), false);
        let skip_empty_exchange =
            find_path(command, &[b"options", b"skipEmptyExchange"]).is_some_and(|element| element.as_bool_truthy());
        self.conversation = Some(Conversation { scram, is_proven: false, skip_empty_exchange });
        Ok(reply)
    }

    fn proceed(&mut self, command: &[u8]) -> Result<RawDocumentBuf, Refusal> {
        let number = find(command, b"conversationId").and_then(|it| it.as_i64());
        let mut conversation = self.conversation.take().ok_or(Refusal::NoConversation)?;
        if number != Some(i64::from(self.last)) {
            return Err(Refusal::NoConversation);
        }
        if conversation.is_proven {
            return Ok(self.reply(b"", true));
        }
        let last = payload(command).and_then(|it| conversation.scram.finish(it)).ok_or(Refusal::Failed)?;
        if conversation.skip_empty_exchange {
            return Ok(self.reply(last.as_bytes(), true));
        }
        conversation.is_proven = true;
        self.conversation = Some(conversation);
        Ok(self.reply(last.as_bytes(), false))
    }

    fn x509(&self, command: &[u8]) -> Result<RawDocumentBuf, Refusal> {
        let name = find(command, b"mechanism").and_then(|it| it.as_str()).unwrap_or_default();
        if name != "MONGODB-X509" || !self.users.accept.x509 {
            return Err(Refusal::mechanism(name));
        }
        // A client that names nobody is whom its certificate names, and there is none here.
        let user = find(command, b"user").and_then(|it| it.as_str()).unwrap_or("CN=unnamed");
        Ok(rawdoc! { "dbname": "$external", "user": user, "ok": 1.0 })
    }

    fn reply(&self, payload: &[u8], done: bool) -> RawDocumentBuf {
        let payload = Binary { subtype: BinarySubtype::Generic, bytes: payload.to_vec() };
        rawdoc! { "conversationId": self.last, "done": done, "payload": payload, "ok": 1.0 }
    }
}

/// What is in the binary value `payload`: behind its length and its subtype.
fn payload(command: &[u8]) -> Option<&[u8]> {
    find(command, b"payload").filter(|element| element.kind == Kind::Binary)?.value.get(5..)
}

/// Why somebody is not let in.
#[derive(Debug)]
enum Refusal {
    /// In a server's own words, which do not tell what was wrong.
    Failed,
    /// No users were given, so nobody can be known.
    NoUsers,
    /// A mechanism that is not here, or was not chosen to be taken.
    Mechanism(String),
    /// A step of a conversation that was not begun.
    NoConversation,
}

impl Refusal {
    fn mechanism(name: &str) -> Self {
        Self::Mechanism(name.to_owned())
    }

    fn into_reply(self) -> RawDocumentBuf {
        let (message, code, code_name) = match self {
            Self::Failed => ("Authentication failed.".to_owned(), 18, "AuthenticationFailed"),
            Self::NoUsers => (NO_USERS.to_owned(), 18, "AuthenticationFailed"),
            Self::NoConversation => ("No SASL session state found".to_owned(), 17, "ProtocolError"),
            Self::Mechanism(name) => {
                let message = format!("Received authentication for mechanism {name} which is not enabled");
                let choice = match name.as_str() {
                    "PLAIN" => "; mongotap replay: --accept plain takes it",
                    "MONGODB-X509" => "; mongotap replay: --accept x509 takes it",
                    _ => "",
                };
                (format!("{message}{choice}"), 334, "MechanismUnavailable")
            }
        };
        rawdoc! { "ok": 0.0, "errmsg": message, "code": code, "codeName": code_name }
    }
}

/// What a client that authenticates is told where no users were given.
const NO_USERS: &str = "mongotap replay: this server answers from a recording and was given no users: give it the one \
     of the connection string (--user NAME --password-env VAR), or connect without credentials";

#[cfg(test)]
mod tests {

    use super::*;
    use crate::replay::request::testing::request;

    fn binary(text: &str) -> Binary {
        Binary { subtype: BinarySubtype::Generic, bytes: text.as_bytes().to_vec() }
    }

    /// A client's side of it all; the last reply, or the first that is not ok.
    fn authenticate(users: Users, mechanism: Mechanism, user: &str, password: &str, skip: bool) -> bson::Document {
        let mut server = Authentication::new(Arc::new(users));
        let mut ask = |command: RawDocumentBuf| {
            let reply = server.handle(&request(&command)).unwrap();
            bson::Document::try_from(&*reply).unwrap()
        };
        let bare = format!("n={user},r=abc");
        let first = ask(rawdoc! {
            "saslStart": 1, "mechanism": mechanism.as_str(), "payload": binary(&format!("n,,{bare}")),
            "options": { "skipEmptyExchange": skip },
        });
        let Ok(payload) = first.get_binary_generic("payload") else { return first };
        let server_first = String::from_utf8(payload.clone()).unwrap();
        let part =
            |prefix: &str| server_first.split(',').find_map(|part| part.strip_prefix(prefix)).unwrap().to_owned();
        let salt = BASE64_STANDARD.decode(part("s=")).unwrap();
        assert_eq!(salt.len(), mechanism.salt_len());
        let keys = Keys::derive(mechanism, user, password, &salt, part("i=").parse().unwrap()).unwrap();
        let without_proof = format!("c=biws,r={}", part("r="));
        let proof = keys.client_proof(&format!("{bare},{server_first},{without_proof}"));
        let payload = binary(&format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)));
        let id = first.get_i32("conversationId").unwrap();
        let last = ask(rawdoc! { "saslContinue": 1, "conversationId": id, "payload": payload });
        if last.get_bool("done").ok() != Some(false) {
            return last;
        }
        assert!(!skip);
        ask(rawdoc! { "saslContinue": 1, "conversationId": id, "payload": binary("") })
    }

    fn users() -> Users {
        Users::new([("ann", "s3cret")], Accept::default(), [7; 32])
    }

    #[test]
    fn who_knows_the_password_is_let_in() {
        for mechanism in Mechanism::ALL {
            for skip in [false, true] {
                let reply = authenticate(users(), mechanism, "ann", "s3cret", skip);
                assert_eq!(reply.get_bool("done").ok(), Some(true), "{reply}");
            }
            for (user, password) in [("ann", "other"), ("bob", "s3cret")] {
                let reply = authenticate(users(), mechanism, user, password, true);
                assert_eq!((reply.get_i32("code").ok(), reply.get_f64("ok").ok()), (Some(18), Some(0.0)), "{reply}");
                assert_eq!(reply.get_str("errmsg").ok(), Some("Authentication failed."));
            }
        }
        let reply = authenticate(Users::nobody(), Mechanism::Sha256, "ann", "s3cret", true);
        assert!(reply.get_str("errmsg").unwrap().contains("--user NAME --password-env VAR"), "{reply}");
    }

    #[test]
    fn what_has_no_check_is_taken_by_choice() {
        let ask = |accept: Accept, command: RawDocumentBuf| {
            let reply =
                Authentication::new(Arc::new(Users::new([], accept, [0; 32]))).handle(&request(&command)).unwrap();
            (reply.get_f64("ok").unwrap(), reply.get_i32("code").unwrap_or(0), reply)
        };
        let plain =
            || rawdoc! { "saslStart": 1, "mechanism": "PLAIN", "payload": binary("\0u\0p"), "$db": "$external" };
        let x509 = || rawdoc! { "authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=a", "$db": "$external" };
        let (ok, code, reply) = ask(Accept::default(), plain());
        assert_eq!((ok, code), (0.0, 334));
        assert!(reply.get_str("errmsg").unwrap().ends_with("--accept plain takes it"));
        assert_eq!(ask(Accept { plain: true, x509: false }, x509()).1, 334);
        assert_eq!(ask(Accept { plain: true, x509: false }, plain()).2.get_bool("done").ok(), Some(true));
        assert_eq!(ask(Accept { plain: false, x509: true }, x509()).2.get_str("user").ok(), Some("CN=a"));
        let stray = rawdoc! { "saslContinue": 1, "conversationId": 1, "payload": binary("") };
        assert_eq!(ask(Accept::default(), stray).1, 17);
    }

    #[test]
    fn a_hello_asks_for_mechanisms_and_begins() {
        let hello = rawdoc! { "hello": 1, "saslSupportedMechs": "admin.ann" };
        let names = users().mechanisms(hello.as_bytes()).unwrap();
        assert_eq!(names, RawArrayBuf::from_iter(["SCRAM-SHA-1", "SCRAM-SHA-256"]));
        let hello = rawdoc! { "hello": 1, "saslSupportedMechs": "admin.bob" };
        assert_eq!(users().mechanisms(hello.as_bytes()), None);
        let mut server = Authentication::new(Arc::new(users()));
        let mut begin = |user: &str| {
            let payload = binary(&format!("n,,n={user},r=abc"));
            let start = rawdoc! { "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": payload, "db": "admin" };
            server.speculate(rawdoc! { "hello": 1, "speculativeAuthenticate": start }.as_bytes())
        };
        assert_eq!(begin("ann").unwrap().get_bool("done").ok(), Some(false));
        assert_eq!(begin("bob"), None);
    }
}
