//! Certificates for the tests, good ones and one for each way of being bad, made anew by each test process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What the good certificate of a server is for; another name is in `wrong_name.pem`.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The subject of `client.pem` as mongod has it.
pub(crate) const CLIENT: &str = "CN=tests,OU=client,O=mongotap";

/// The path of one of the files:
///
/// | file | |
/// |---|---|
/// | `ca.pem`, `server.pem`, `client.pem` | good ones; certificate and key in one file |
/// | `server_certificate.pem`, `server_key.pem` | `server.pem` in two files |
/// | `wrong_name.pem`, `expired.pem`, `not_yet.pem` | servers', of the same CA |
/// | `expired_client.pem` | a client's, of the same CA |
/// | `other_ca.pem`, `other_server.pem`, `other_client.pem` | good ones of another CA |
pub(crate) fn path(file: &str) -> PathBuf {
    let path = directory().join(file);
    assert!(path.is_file(), "{file} is one of the certificates");
    path
}

/// The same as text, for arguments.
pub(crate) fn file(file: &str) -> String {
    path(file).to_str().expect("the build directory has a name in UTF-8").to_owned()
}

/// The same as it stands in a connection string.
pub(crate) fn in_uri(name: &str) -> String {
    let keep = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let show = |byte: u8| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    file(name).bytes().map(show).collect()
}

/// A client's side that trusts one of the CAs, with a certificate of its own if one is named.
pub(crate) fn client_config(ca: &str, own: Option<&str>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path(ca)).expect("a certificate")).expect("a CA");
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_root_certificates(roots);
    Arc::new(match own {
        Some(own) => builder.with_client_auth_cert(chain(own), key(own)).expect("a key"),
        None => builder.with_no_client_auth(),
    })
}

/// A server's side with one of the certificates.
pub(crate) fn server_config(own: &str) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_no_client_auth();
    Arc::new(builder.with_single_cert(chain(own), key(own)).expect("a key"))
}

/// The same, and clients must have a certificate of the good CA.
pub(crate) fn demanding_server_config(own: &str) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(path("ca.pem")).expect("a certificate")).expect("a CA");
    let check = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build().expect("a CA");
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.expect("versions").with_client_cert_verifier(check);
    Arc::new(builder.with_single_cert(chain(own), key(own)).expect("a key"))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn chain(file: &str) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from_pem_file(path(file)).expect("a certificate")]
}

fn key(file: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(path(file)).expect("a key")
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        // One place for each test program: it does not grow, and two of them may run at a time.
        let program = std::env::current_exe().expect("a program has a file");
        let name = program.file_stem().expect("a file has a name").to_owned();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("the build directory takes directories");
        make(&directory);
        directory
    })
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn make(directory: &Path) {
    let write = |name: &str, text: &str| fs::write(directory.join(name), text).expect("a file");
    let (ca, other) = (authority("test CA"), authority("other CA"));
    write("ca.pem", &ca.pem());
    write("other_ca.pem", &other.pem());
    let (certificate, key) = server(&ca, &NAMES, 0);
    write("server.pem", &format!("{certificate}{key}"));
    write("server_certificate.pem", &certificate);
    write("server_key.pem", &key);
    for (name, ca, names, years) in [
        ("wrong_name.pem", &ca, &["db.example.org"][..], 0),
        ("expired.pem", &ca, &NAMES, -20),
        ("not_yet.pem", &ca, &NAMES, 20),
        ("other_server.pem", &other, &NAMES, 0),
    ] {
        let (certificate, key) = server(ca, names, years);
        write(name, &(certificate + &key));
    }
    write("client.pem", &client(&ca, 0));
    write("expired_client.pem", &client(&ca, -20));
    write("other_client.pem", &client(&other, 0));
}

fn authority(name: &str) -> Ca {
    let mut params = params(&[], "ca", name, 0);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = date_time_ymd(1990, 1, 1);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

fn server(ca: &Ca, names: &[&str], years: i32) -> (String, String) {
    let uses = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    signed(ca, params(names, "server", "test server", years), uses)
}

fn client(ca: &Ca, years: i32) -> String {
    let uses = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = signed(ca, params(&[], "client", "tests", years), uses);
    certificate + &key
}

fn signed(ca: &Ca, mut params: CertificateParams, uses: Vec<ExtendedKeyUsagePurpose>) -> (String, String) {
    params.extended_key_usages = uses;
    let key = KeyPair::generate().expect("a key");
    (params.signed_by(&key, ca).expect("a certificate").pem(), key.serialize_pem())
}

/// Valid from 2024 to 2044, or so many years earlier or later.
fn params(names: &[&str], unit: &str, common_name: &str, years: i32) -> CertificateParams {
    let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::OrganizationName, "mongotap");
    params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2024 + years, 1, 1);
    params.not_after = date_time_ymd(2044 + years, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}
