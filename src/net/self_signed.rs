//! Certificates for `--tls self-signed`: a local CA that users trust once, and a leaf renewed under
//! it.
//!
//! The CA may sign only for this gateway's names (RFC 5280 §4.2.1.10). So trusting it puts no other
//! site at risk, even if its key is stolen.

use crate::net::tls::TlsError;
use crate::net::tls::provider;
use crate::net::tls::read;
use crate::net::tls::read_certificates;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::CidrSubnet;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::GeneralSubtree;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rcgen::KeyUsagePurpose;
use rcgen::NameConstraints;
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

const DAY: Duration = Duration::from_secs(86_400);
/// Lifetime of a leaf, in days. Browsers reject leaves that live longer than 398 days.
const LEAF_DAYS: u32 = 397;
/// Lifetime of the CA, in days. It is long, because users have to trust each new CA manually.
const CA_DAYS: u32 = 20 * 365;
/// A leaf that expires within this number of days is replaced.
const RENEW_DAYS: u32 = 30;
/// Names that every leaf covers.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The files of a self-signed certificate, and the fingerprint of its CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The CA's certificate, which users and clients have to trust (`tls-ca.pem`).
    pub ca: PathBuf,
    /// The leaf (`tls-cert.pem`), for [`crate::net::tls::ServerTls::from_files`].
    pub certificate: PathBuf,
    /// The leaf's key (`tls-key.pem`), readable by its owner only.
    pub key: PathBuf,
    /// SHA-256 of the CA's certificate: 32 bytes in upper-case hex with colons, as in browsers.
    pub fingerprint: String,
    /// Whether the CA is new, so that users have to trust it (again).
    pub new_ca: bool,
}

/// Returns the certificate in `dir`, or creates one for `localhost`, `127.0.0.1`, `::1` and `names`
/// (host names or IP addresses). It is kept while it is valid for all of them for 30 more days, and
/// the CA while it may sign for them. A later call renews it, and
/// [`crate::net::tls::ServerTls::watch`] loads it. Blocks on the disk.
///
/// # Errors
/// If `dir` cannot be written, or a name is not valid in a certificate.
pub fn self_signed(dir: &Path, names: &[String]) -> Result<SelfSigned, TlsError> {
    let mut all_names: Vec<String> = LOCAL.iter().map(|name| (*name).to_owned()).collect();
    for name in names {
        let bare = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !all_names.contains(&bare) {
            all_names.push(bare);
        }
    }
    // Rejects invalid names. In a name constraint they would panic inside `rcgen`.
    CertificateParams::new(all_names.as_slice())?;
    let paths = Paths::within(dir);
    let is_reused = paths.is_valid_for(&all_names) || (paths.renew(&all_names).is_ok() && paths.is_valid_for(&all_names));
    if !is_reused {
        paths.recreate(&all_names)?;
    }
    let ca = read_certificates(&paths.ca)?;
    let first = ca.first().ok_or_else(|| TlsError::NoCertificate(paths.ca.clone()))?;
    Ok(SelfSigned {
        fingerprint: fingerprint(first),
        ca: paths.ca,
        certificate: paths.certificate,
        key: paths.key,
        new_ca: !is_reused,
    })
}

struct Paths {
    ca: PathBuf,
    ca_key: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Paths {
    fn within(dir: &Path) -> Self {
        Self {
            ca: dir.join("tls-ca.pem"),
            ca_key: dir.join("tls-ca-key.pem"),
            certificate: dir.join("tls-cert.pem"),
            key: dir.join("tls-key.pem"),
        }
    }

    /// Whether a client that trusts the CA would accept the leaf for every name, 30 days from now.
    /// Uses the verifier that clients use, instead of parsing the certificate.
    fn is_valid_for(&self, names: &[String]) -> bool {
        let verify = || -> Result<(), TlsError> {
            let mut roots = RootCertStore::empty();
            for ca in read_certificates(&self.ca)? {
                roots.add(ca)?;
            }
            let leaf = read_certificates(&self.certificate)?;
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|cause| rustls::Error::General(cause.to_string()))?;
            crate::net::tls::ServerTls::from_files(&self.certificate, &self.key)?;
            let renewal_time = UnixTime::since_unix_epoch(since_epoch() + DAY * RENEW_DAYS);
            for name in names {
                let name = ServerName::try_from(name.as_str()).map_err(|cause| rustls::Error::General(cause.to_string()))?;
                verifier.verify_server_cert(&leaf[0], &[], &name, &[], renewal_time)?;
            }
            Ok(())
        };
        verify().is_ok()
    }

    /// Creates a leaf under the existing CA.
    fn renew(&self, names: &[String]) -> Result<(), TlsError> {
        let pem = String::from_utf8(read(&self.ca_key)?).map_err(|_| TlsError::NoKey(self.ca_key.clone()))?;
        let ca_key = KeyPair::from_pem(&zeroize::Zeroizing::new(pem))?;
        // A signature needs only the issuer's name and key, so the CA's certificate is not read.
        self.issue(&Issuer::new(ca_params(names)?, ca_key), names)
    }

    fn recreate(&self, names: &[String]) -> Result<(), TlsError> {
        let ca_key = KeyPair::generate()?;
        let params = ca_params(names)?;
        let ca = params.self_signed(&ca_key)?;
        write_private(&self.ca_key, &zeroize::Zeroizing::new(ca_key.serialize_pem()))?;
        write(&self.ca, &ca.pem(), 0o644)?;
        self.issue(&Issuer::new(params, ca_key), names)
    }

    fn issue(&self, issuer: &Issuer<'_, KeyPair>, names: &[String]) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "mcp-oauth-gateway");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = validity(LEAF_DAYS);
        let leaf = params.signed_by(&key, issuer)?;
        write_private(&self.key, &zeroize::Zeroizing::new(key.serialize_pem()))?;
        write(&self.certificate, &leaf.pem(), 0o644)
    }
}

fn ca_params(names: &[String]) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "mcp-oauth-gateway local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let subtree = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
        }
        Err(_) => GeneralSubtree::DnsName(name.clone()),
    };
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: names.iter().map(subtree).collect(),
        excluded_subtrees: Vec::new(),
    });
    (params.not_before, params.not_after) = validity(CA_DAYS);
    Ok(params)
}

/// A validity that starts yesterday, for peers with slow clocks.
fn validity<T>(days: u32) -> (T, T)
where
    T: From<SystemTime>,
{
    let now = SystemTime::UNIX_EPOCH + since_epoch();
    (T::from(now - DAY), T::from(now + DAY * (days - 1)))
}

#[expect(clippy::disallowed_methods, reason = "certificates have dates")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = String::with_capacity(95);
    for byte in digest.as_ref() {
        let colon = if text.is_empty() { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

fn write_private(path: &Path, text: &str) -> Result<(), TlsError> {
    write(path, text, 0o600)
}

/// Writes a temporary file and renames it: a crash leaves the old file. Follows no symbolic link.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let temporary = path.with_extension("pem.new");
    let write_and_rename = || -> io::Result<()> {
        match fs::remove_file(&temporary) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let mut file = options.open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write_and_rename().map_err(|cause| TlsError::Write(path.to_owned(), cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_self_signed_certificate_is_created_once_and_reused() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &names(&["gate.example", "192.168.1.9"])).expect("made");
        assert!(first.new_ca);
        assert_eq!(first.fingerprint.len(), 95);
        let leaf = fs::read(&first.certificate).expect("leaf");
        let second = self_signed(dir.path(), &names(&["GATE.example", "[::1]"])).expect("kept");
        assert_eq!(
            second,
            SelfSigned {
                new_ca: false,
                ..first.clone()
            }
        );
        assert_eq!(fs::read(&second.certificate).expect("leaf"), leaf);
    }

    #[test]
    fn a_missing_leaf_key_causes_reissue_by_the_same_ca() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &[]).expect("made");
        fs::remove_file(&first.key).expect("remove");
        let second = self_signed(dir.path(), &[]).expect("renewed");
        assert_eq!(second, SelfSigned { new_ca: false, ..first });
    }

    #[test]
    fn a_name_outside_the_ca_constraints_creates_a_new_ca() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &[]).expect("made");
        let second = self_signed(dir.path(), &names(&["other.example"])).expect("made");
        assert!(second.new_ca);
        assert_ne!(second.fingerprint, first.fingerprint);
        assert!(Paths::within(dir.path()).is_valid_for(&names(&["other.example", "localhost"])));
        assert!(!Paths::within(dir.path()).is_valid_for(&names(&["third.example"])));
    }

    #[test]
    fn a_name_that_a_certificate_cannot_hold_is_refused() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(self_signed(dir.path(), &names(&["bücher.example"])).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn private_keys_are_readable_by_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("dir");
        self_signed(dir.path(), &[]).expect("made");
        for name in ["tls-key.pem", "tls-ca-key.pem"] {
            let mode = fs::metadata(dir.path().join(name)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }
}
