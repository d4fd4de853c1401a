//! `syncline cert`: makes certificates to try TLS, or for a small installation without a CA of its own.

use crate::args::Cert;
use crate::failure::Failure;
use crate::output::print_line;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The days for which a new CA is valid, unless its certificates are valid longer.
const CA_DAYS: u32 = 3653;

/// How far in the past the validity begins, because clocks differ.
const SKEW: Duration = Duration::from_secs(60 * 60);

pub(crate) fn run(args: &Cert) -> Result<(), Failure> {
    let hosts = args.hosts.iter().map(|host| names_of(host)).collect::<Result<Vec<_>, _>>()?.concat();
    let client = args.client.as_deref().map(file_name).transpose()?;
    let files = Files { dir: &args.dir };
    // Check all paths first, so that a failure leaves no files behind.
    let wanted = [(!args.hosts.is_empty()).then_some("server"), client].into_iter().flatten();
    for path in wanted.flat_map(|name| [files.certificate(name), files.key(name)]) {
        if path.exists() {
            return Err(Failure::Usage(format!(
                "{} already exists; move it away, or choose another --dir",
                path.display()
            )));
        }
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&args.dir)
        .map_err(|error| Failure::Unavailable(format!("can't create {}: {error}", args.dir.display())))?;
    let ca = files.ca(args.days)?;
    if !args.hosts.is_empty() {
        let mut params = params(args.days, &args.hosts.join(", "))?;
        params.subject_alt_names = hosts;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        files.signed("server", &params, &ca)?;
        let (certificate, key) = (files.certificate("server"), files.key("server"));
        print_line(&format!("syncline serve --tls-cert {} --tls-key {}", quoted(&certificate)?, quoted(&key)?))?;
    }
    if let Some(name) = client {
        let mut params = params(args.days, name)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        files.signed(name, &params, &ca)?;
    }
    let host = args.hosts.first().map_or("HOST", String::as_str);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let identity = match client {
        None => String::new(),
        Some(name) => {
            format!(" --tls-cert {} --tls-key {}", quoted(&files.certificate(name))?, quoted(&files.key(name))?)
        }
    };
    print_line(&format!(
        "syncline status --addr synclines://{host}:6660 --tls-ca {}{identity}",
        quoted(&files.certificate("ca"))?
    ))
}

/// The paths of the files.
struct Files<'a> {
    dir: &'a Path,
}

impl Files<'_> {
    fn certificate(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.pem"))
    }

    fn key(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}-key.pem"))
    }

    /// Returns the CA of the directory, and creates one if there is none.
    fn ca(&self, days: u32) -> Result<Issuer<'static, KeyPair>, Failure> {
        let (certificate, key) = (self.certificate("ca"), self.key("ca"));
        if certificate.exists() || key.exists() {
            let read = |path: &Path| {
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::Unavailable(format!("can't read {}: {error}", path.display())))
            };
            let invalid = |path: &Path| {
                let path = path.display().to_string();
                move |error| Failure::Usage(format!("{path}: expected a CA that `syncline cert` made: {error}"))
            };
            let signing = KeyPair::from_pem(&read(&key)?).map_err(invalid(&key))?;
            return Issuer::from_ca_cert_pem(&read(&certificate)?, signing).map_err(invalid(&certificate));
        }
        let signing = KeyPair::generate().map_err(|error| rcgen_failure(&error))?;
        // A certificate refers to its CA by name, so every CA needs a name of its own.
        let id: String = signing.public_key_raw().iter().rev().take(4).map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(days.max(CA_DAYS), &format!("Syncline CA {id}"))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let made = params.self_signed(&signing).map_err(|error| rcgen_failure(&error))?;
        self.write("ca", &made.pem(), &signing)?;
        Ok(Issuer::new(params, signing))
    }

    /// Makes a key and a certificate that the CA signs, and writes both.
    fn signed(&self, name: &str, params: &CertificateParams, ca: &Issuer<'_, KeyPair>) -> Result<(), Failure> {
        let key = KeyPair::generate().map_err(|error| rcgen_failure(&error))?;
        let made = params.signed_by(&key, ca).map_err(|error| rcgen_failure(&error))?;
        self.write(name, &made.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> Result<(), Failure> {
        // The key first, because a certificate without a key is useless.
        write_new(&self.key(name), 0o600, &key.serialize_pem())?;
        write_new(&self.certificate(name), 0o644, certificate)
    }
}

fn params(days: u32, name: &str) -> Result<CertificateParams, Failure> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    let now = SystemTime::now();
    let until = now.checked_add(DAY * days).ok_or_else(|| {
        Failure::Usage(format!("--days: expected a date that the system can represent, found {days} days from now"))
    })?;
    params.not_before = (now - SKEW).into();
    params.not_after = until.into();
    Ok(params)
}

/// Returns the names and addresses that a host stands for.
fn names_of(host: &str) -> Result<Vec<SanType>, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(vec![SanType::IpAddress(address)]);
    }
    let name = host.try_into().map_err(|_| bad_host(host))?;
    // Refuse names that clients would refuse.
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '*');
    if host.is_empty() || !host.chars().all(is_valid) {
        return Err(bad_host(host));
    }
    let mut names = vec![SanType::DnsName(name)];
    if host == "localhost" {
        let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        names.extend(addresses.map(SanType::IpAddress));
    }
    Ok(names)
}

fn bad_host(host: &str) -> Failure {
    Failure::Usage(format!("--host: expected a name or an address, without a port, found {host:?}"))
}

/// Checks the name of a client, which is the name of its files as well.
fn file_name(name: &str) -> Result<&str, Failure> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '@');
    let is_reserved = ["ca", "server"].contains(&name) || name.ends_with("-key");
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(is_valid) || is_reserved {
        let expected = "letters, digits, - _ . @, and neither ca nor server nor an end in -key";
        return Err(Failure::Usage(format!("--client: expected {expected}, found {name:?}")));
    }
    Ok(name)
}

/// Writes a new file, and refuses to overwrite one.
fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.map_err(|error| Failure::Unavailable(format!("can't write {}: {error}", path.display())))
}

/// Returns a path, quoted for a shell.
fn quoted(path: &Path) -> Result<String, Failure> {
    let path = path.to_string_lossy();
    let quoted = shlex::try_quote(&path).map_err(|error| Failure::Usage(format!("--dir: {error}")))?;
    Ok(quoted.into_owned())
}

fn rcgen_failure(error: &rcgen::Error) -> Failure {
    Failure::Unavailable(format!("can't make a certificate: {error}"))
}
