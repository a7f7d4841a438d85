//! `mongotap cert`: a CA, a server's certificate and a client's, for tests and for local use.
//!
//! The CA's key is not kept: whoever comes to trust this CA trusts these two certificates and no later ones. For the
//! same reason there is nothing here to renew or to add to; another run makes another CA.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::ServerName;

use crate::config::{io_reason, percent_encode};
use crate::net::clock;
use crate::net::tls::Certificate;

use super::{Code, Error, print};

/// How long the certificates are valid: a year, from yesterday on, for clocks that are behind.
const VALID_FOR: Duration = Duration::from_secs(365 * 86_400);
const VALID_SINCE: Duration = Duration::from_secs(86_400);

/// What servers on this machine are called anyway.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The arguments of `cert`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to put ca.pem, server.pem and client.pem; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// A further name or address of the server; may be repeated [always: localhost, 127.0.0.1, ::1, this host's name]
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,

    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

/// A file to be written.
struct File {
    name: &'static str,
    text: String,
    /// Whether it is for its owner's eyes only.
    is_secret: bool,
}

/// Makes the certificates, writes them, and says how to use them.
///
/// # Errors
/// If a name is none, a file is there already, or one cannot be written.
pub fn run(args: &Args) -> Result<(), Error> {
    let names = names(&args.names)?;
    let since_1970 = Duration::from_micros(clock::now().unix_micros.unsigned_abs());
    let made =
        make(&names, since_1970).map_err(|error| Error::new(Code::Failed, format!("no certificate: {error}")))?;
    let failed = |path: &Path, error: &io::Error| {
        Error::new(Code::Io, format!("{}: {}", path.display(), io_reason(error)))
            .hint("name a directory that you may write to")
    };
    // Whoever may list it learns what is served; one that is there keeps its mode.
    let mut directory = fs::DirBuilder::new();
    directory.recursive(true).mode(0o700).create(&args.directory).map_err(|error| failed(&args.directory, &error))?;
    let directory = args.directory.canonicalize().map_err(|error| failed(&args.directory, &error))?;
    for file in &made.files {
        let path = directory.join(file.name);
        // A link to nowhere is there too.
        if !args.force && path.symlink_metadata().is_ok() {
            let error = Error::new(Code::Usage, format!("{}: is there already", path.display()));
            return Err(error.hint("--force replaces it, name another directory"));
        }
    }
    for file in &made.files {
        let path = directory.join(file.name);
        write(&path, file).map_err(|error| failed(&path, &error))?;
    }
    print(&describe(&directory, &made))
}

/// The server's names, each once.
fn names(given: &[String]) -> Result<Vec<String>, Error> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut names: Vec<String> = LOCAL_NAMES.map(str::to_owned).into();
    // A machine may be called what no host may be.
    names.extend(is_name(&host).then_some(host));
    for name in given {
        if !is_name(name) {
            let error = Error::new(Code::Usage, format!("--name: {name:?} is not a host's name"));
            return Err(error.hint("write it without a port, like db.example.org, *.example.org or 192.0.2.1"));
        }
        names.push(name.clone());
    }
    let mut unique = Vec::new();
    for name in names {
        if !unique.contains(&name) {
            unique.push(name);
        }
    }
    Ok(unique)
}

fn is_name(name: &str) -> bool {
    ServerName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

/// What was made.
struct Made {
    files: [File; 3],
    names: Vec<String>,
    not_after: String,
    /// The client's subject as mongod writes it: the user's name of X.509 authentication.
    user: String,
}

fn make(names: &[String], since_1970: Duration) -> Result<Made, rcgen::Error> {
    let epoch = date_time_ymd(1970, 1, 1);
    let params = |names: &[String], unit: &str, common_name: &str| -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.not_before = epoch + since_1970.saturating_sub(VALID_SINCE);
        params.not_after = epoch + since_1970 + VALID_FOR;
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::OrganizationName, ORGANIZATION);
        // mongod takes clients of its own certificate's organization and unit for members of its set.
        params.distinguished_name.push(DnType::OrganizationalUnitName, unit);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    };

    // Its own name, or programs would mix it up with one that was made before.
    let mut ca = params(&[], "ca", &format!("mongotap local CA {:x}", since_1970.as_secs()))?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let signed = |mut params: CertificateParams, uses: &[ExtendedKeyUsagePurpose]| -> Result<String, rcgen::Error> {
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = uses.to_vec();
        Ok(params.signed_by(&key, &ca)?.pem() + &key.serialize_pem())
    };
    let (server, client) = (ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth);
    // The members of a replica set are each other's clients.
    let server = signed(params(names, "server", "localhost")?, &[server, client.clone()])?;
    let client = signed(params(&[], "client", CLIENT)?, &[client])?;
    Ok(Made {
        files: [
            File { name: "ca.pem", text: ca.pem(), is_secret: false },
            File { name: "server.pem", text: server, is_secret: true },
            File { name: "client.pem", text: client, is_secret: true },
        ],
        names: names.to_vec(),
        not_after: Certificate::of(ca.der()).not_after,
        user: format!("CN={CLIENT},OU=client,O={ORGANIZATION}"),
    })
}

fn write(path: &Path, file: &File) -> io::Result<()> {
    // Not into what is there: its mode, or where it leads to, may be another.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mode = if file.is_secret { 0o600 } else { 0o644 };
    let mut to = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    to.write_all(file.text.as_bytes())
}

fn describe(directory: &Path, made: &Made) -> String {
    let Made { names, not_after, user, .. } = made;
    let [ca, server, client] = ["ca.pem", "server.pem", "client.pem"].map(|name| directory.join(name));
    let (ca, server, client) = (ca.display(), server.display(), client.display());
    let mut text = String::new();
    _ = write!(
        text,
        "\
{ca}: a CA, whose key is not kept
{server}: certificate and key of a server, for {names}
{client}: certificate and key of a client, to mongod {user:?}
valid for a year, until {not_after}

the proxy, before a server without TLS:
  mongotap proxy --tls-listen-certificate {server}
the application's URI, beside its own options:
  mongodb://127.0.0.1:27027/?directConnection=true&tls=true&tlsCAFile={ca_in_uri}
the same in proxy.toml, with TLS on both sides:
  [tls.listen]
  certificate = \"{server}\"
  [tls.upstream]
  ca = \"{ca}\"
  certificate = \"{client}\"
a server to try it with:
  mongod --tlsMode requireTLS --tlsCertificateKeyFile {server} --tlsCAFile {ca}
",
        names = names.join(", "),
        ca_in_uri = in_uri(&directory.join("ca.pem")),
    );
    text
}

/// A path as an option of a connection string has it, where a slash may stand.
fn in_uri(path: &Path) -> String {
    percent_encode(&path.display().to_string()).replace("%2F", "/")
}

const ORGANIZATION: &str = "mongotap";
const CLIENT: &str = "mongotap client";
