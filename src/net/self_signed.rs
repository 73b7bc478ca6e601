//! Certificates for `--tls self-signed`: a local CA that users trust once, and two leaves renewed
//! under it.
//!
//! The CA may sign only for this gateway's names and addresses (RFC 5280 §4.2.1.10). So trusting it
//! puts no other site at risk, even if its key is stolen. BoringSSL checks no constraints of IP
//! addresses and refuses a leaf with an address under such a CA. So one leaf has DNS names only.

use crate::net::tls::CertificateFiles;
use crate::net::tls::ServerTls;
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
/// Lifetime of a leaf, in days. Apple's systems refuse leaves of local CAs that live longer than 825
/// days.
const LEAF_DAYS: u32 = 730;
/// Lifetime of the CA, in days. It is long, because users have to trust each new CA manually.
const CA_DAYS: u32 = 20 * 365;
/// A leaf that expires within this number of days is replaced.
const RENEW_DAYS: u32 = 30;
/// Names and addresses that the leaves always cover.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The files of the self-signed certificates, and the fingerprint of their CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSigned {
    /// The CA's certificate, which users and clients have to trust (`tls-ca.pem`).
    pub ca: PathBuf,
    /// The leaf with DNS names only (`tls-cert.pem`), for clients that send a server name.
    pub named: CertificateFiles,
    /// The leaf with IP addresses and names (`tls-ip-cert.pem`), for clients that send no server
    /// name.
    pub unnamed: CertificateFiles,
    /// SHA-256 of the CA's certificate: 32 bytes in upper-case hex with colons, as in browsers.
    pub fingerprint: String,
    /// Whether the CA is new, so that users have to trust it (again).
    pub new_ca: bool,
}

/// The CA's certificate in `dir`, which may not exist yet.
pub fn ca_file(dir: &Path) -> PathBuf {
    dir.join("tls-ca.pem")
}

/// Returns the certificates in `dir`, or creates them for `localhost`, `127.0.0.1`, `::1` and
/// `names` (host names or IP addresses). They are kept while they are valid for all of them for 30
/// more days, and the CA while it may sign for them. Blocks on the disk.
///
/// # Errors
/// If `dir` cannot be written, or a name is not valid in a certificate.
pub fn self_signed(dir: &Path, names: &[String]) -> Result<SelfSigned, TlsError> {
    let (names, paths) = (Names::new(names)?, Paths::within(dir, since_epoch()));
    let is_reused = paths.are_valid_for(&names) || (paths.renew(&names).is_ok() && paths.are_valid_for(&names));
    if !is_reused {
        paths.recreate(&names)?;
    }
    let ca = read_certificates(&paths.ca)?;
    let first = ca.first().ok_or_else(|| TlsError::NoCertificate(paths.ca.clone()))?;
    Ok(SelfSigned {
        fingerprint: fingerprint(first),
        ca: paths.ca,
        named: paths.named,
        unnamed: paths.unnamed,
        new_ca: !is_reused,
    })
}

/// Replaces the leaves in `dir` if they expire within 30 days, under the same CA.
/// [`ServerTls::watch`] loads them. Blocks on the disk.
///
/// # Errors
/// If `dir` cannot be read or written.
pub fn renew_leaves(dir: &Path, names: &[String]) -> Result<(), TlsError> {
    let (names, paths) = (Names::new(names)?, Paths::within(dir, since_epoch()));
    if paths.are_valid_for(&names) { Ok(()) } else { paths.renew(&names) }
}

/// The names that the leaves cover.
struct Names {
    all: Vec<String>,
    dns: Vec<String>,
}

impl Names {
    fn new(more: &[String]) -> Result<Self, TlsError> {
        let mut all: Vec<String> = LOCAL.iter().map(|name| (*name).to_owned()).collect();
        for name in more {
            let bare = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
            if !all.contains(&bare) {
                all.push(bare);
            }
        }
        // Rejects invalid names. In a name constraint they would panic inside `rcgen`.
        CertificateParams::new(all.as_slice())?;
        let dns = all.iter().filter(|name| name.parse::<IpAddr>().is_err()).cloned().collect();
        Ok(Self { all, dns })
    }
}

struct Paths {
    ca: PathBuf,
    ca_key: PathBuf,
    named: CertificateFiles,
    unnamed: CertificateFiles,
    /// The time since 1970.
    now: Duration,
}

impl Paths {
    fn within(dir: &Path, now: Duration) -> Self {
        let leaf = |certificate: &str, key: &str| CertificateFiles {
            certificate: dir.join(certificate),
            key: dir.join(key),
        };
        Self {
            ca: ca_file(dir),
            ca_key: dir.join("tls-ca-key.pem"),
            named: leaf("tls-cert.pem", "tls-key.pem"),
            unnamed: leaf("tls-ip-cert.pem", "tls-ip-key.pem"),
            now,
        }
    }

    /// Whether a client that trusts the CA would accept the leaves, 30 days from now. The named leaf
    /// must have no address; earlier versions wrote one that has.
    fn are_valid_for(&self, names: &Names) -> bool {
        self.verify(&self.named, &names.dns).is_ok()
            && self.verify(&self.named, &[LOCAL[1].to_owned()]).is_err()
            && self.verify(&self.unnamed, &names.all).is_ok()
    }

    /// Verifies a leaf for each name. Uses the verifier that clients use, instead of parsing the
    /// certificate.
    fn verify(&self, leaf: &CertificateFiles, names: &[String]) -> Result<(), TlsError> {
        let mut roots = RootCertStore::empty();
        for ca in read_certificates(&self.ca)? {
            roots.add(ca)?;
        }
        let chain = read_certificates(&leaf.certificate)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|cause| rustls::Error::General(cause.to_string()))?;
        ServerTls::from_files(&leaf.certificate, &leaf.key)?;
        let renewal_time = UnixTime::since_unix_epoch(self.now + DAY * RENEW_DAYS);
        for name in names {
            let name = ServerName::try_from(name.as_str()).map_err(|cause| rustls::Error::General(cause.to_string()))?;
            verifier.verify_server_cert(&chain[0], &[], &name, &[], renewal_time)?;
        }
        Ok(())
    }

    /// Creates leaves under the existing CA.
    fn renew(&self, names: &Names) -> Result<(), TlsError> {
        self.issue_leaves(&self.issuer(names)?, names)
    }

    fn issuer(&self, names: &Names) -> Result<Issuer<'static, KeyPair>, TlsError> {
        let pem = String::from_utf8(read(&self.ca_key)?).map_err(|_| TlsError::NoKey(self.ca_key.clone()))?;
        let ca_key = KeyPair::from_pem(&zeroize::Zeroizing::new(pem))?;
        // A signature needs only the issuer's name and key, so the CA's certificate is not read.
        Ok(Issuer::new(self.ca_params(names)?, ca_key))
    }

    fn recreate(&self, names: &Names) -> Result<(), TlsError> {
        let ca_key = KeyPair::generate()?;
        let params = self.ca_params(names)?;
        let ca = params.self_signed(&ca_key)?;
        write_private(&self.ca_key, &zeroize::Zeroizing::new(ca_key.serialize_pem()))?;
        write(&self.ca, &ca.pem(), 0o644)?;
        self.issue_leaves(&Issuer::new(params, ca_key), names)
    }

    fn issue_leaves(&self, issuer: &Issuer<'_, KeyPair>, names: &Names) -> Result<(), TlsError> {
        self.issue(&self.named, &names.dns, issuer)?;
        self.issue(&self.unnamed, &names.all, issuer)
    }

    fn issue(&self, leaf: &CertificateFiles, names: &[String], issuer: &Issuer<'_, KeyPair>) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "mcp-oauth-gateway");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = self.validity(LEAF_DAYS);
        let certificate = params.signed_by(&key, issuer)?;
        write_private(&leaf.key, &zeroize::Zeroizing::new(key.serialize_pem()))?;
        write(&leaf.certificate, &certificate.pem(), 0o644)
    }

    fn ca_params(&self, names: &Names) -> Result<CertificateParams, TlsError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "mcp-oauth-gateway local CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let subtree = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => {
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => GeneralSubtree::DnsName(name.clone()),
        };
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: names.all.iter().map(subtree).collect(),
            excluded_subtrees: Vec::new(),
        });
        (params.not_before, params.not_after) = self.validity(CA_DAYS);
        Ok(params)
    }

    /// A validity that starts yesterday, for peers with slow clocks.
    fn validity<T>(&self, days: u32) -> (T, T)
    where
        T: From<SystemTime>,
    {
        let now = SystemTime::UNIX_EPOCH + self.now;
        (T::from(now - DAY), T::from(now + DAY * (days - 1)))
    }
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
    use crate::net::tls::ClientTls;

    fn names(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_self_signed_certificate_is_created_once_and_reused() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &names(&["gate.example", "192.168.1.9"])).expect("made");
        assert!(first.new_ca);
        assert_eq!(first.fingerprint.len(), 95);
        let leaves = |files: &SelfSigned| [&files.named, &files.unnamed].map(|leaf| fs::read(&leaf.certificate).expect("leaf"));
        let before = leaves(&first);
        let second = self_signed(dir.path(), &names(&["GATE.example", "[::1]"])).expect("kept");
        assert_eq!(
            second,
            SelfSigned {
                new_ca: false,
                ..first.clone()
            }
        );
        assert_eq!(leaves(&second), before);
    }

    #[test]
    fn a_missing_leaf_key_causes_reissue_by_the_same_ca() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &[]).expect("made");
        fs::remove_file(&first.named.key).expect("remove");
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
        let paths = Paths::within(dir.path(), since_epoch());
        assert!(paths.are_valid_for(&Names::new(&names(&["other.example"])).expect("names")));
        assert!(!paths.are_valid_for(&Names::new(&names(&["third.example"])).expect("names")));
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
        for name in ["tls-key.pem", "tls-ip-key.pem", "tls-ca-key.pem"] {
            let mode = fs::metadata(dir.path().join(name)).expect("file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    /// The leaf that the gateway sends to a client that connects to `name`. The client trusts the CA.
    fn leaf_sent_to(name: &str, files: &SelfSigned) -> CertificateDer<'static> {
        let tls = ServerTls::by_server_name(files.named.clone(), files.unnamed.clone()).expect("tls");
        let roots = ClientTls::only(&files.ca).expect("roots");
        let name = ServerName::try_from(name.to_owned()).expect("name");
        let mut client = rustls::ClientConnection::new(roots.config(false), name).expect("client");
        let mut server = rustls::ServerConnection::new(tls.config()).expect("server");
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            client.write_tls(&mut sent).expect("written");
            server.read_tls(&mut sent.as_slice()).expect("read");
            server.process_new_packets().expect("hello");
            let mut sent = Vec::new();
            server.write_tls(&mut sent).expect("written");
            client.read_tls(&mut sent.as_slice()).expect("read");
            client.process_new_packets().expect("trusted");
        }
        client.peer_certificates().expect("certificates")[0].clone().into_owned()
    }

    fn has(text: &[u8], part: &[u8]) -> bool {
        text.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn only_a_client_without_a_server_name_gets_a_leaf_with_addresses() {
        let dir = tempfile::tempdir().expect("dir");
        let files = self_signed(dir.path(), &names(&["gate.example"])).expect("made");
        // A subject alternative name of type iPAddress is tagged 0x87, one of type dNSName 0x82.
        let address = [0x87, 4, 127, 0, 0, 1];
        for (name, has_addresses) in [("localhost", false), ("gate.example", false), ("127.0.0.1", true), ("::1", true)] {
            let leaf = leaf_sent_to(name, &files);
            assert_eq!(has(&leaf, &address), has_addresses, "{name}");
            assert!(has(&leaf, b"\x82\x09localhost"), "{name}");
        }
    }

    #[test]
    fn leaves_and_ca_are_only_for_servers() {
        let dir = tempfile::tempdir().expect("dir");
        let files = self_signed(dir.path(), &[]).expect("made");
        // id-kp-serverAuth (RFC 5280 §4.2.1.12), as the only purpose.
        let purpose = [0x30, 0x0a, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 1];
        for path in [&files.ca, &files.named.certificate, &files.unnamed.certificate] {
            assert!(has(&read_certificates(path).expect("certificate")[0], &purpose), "{path:?}");
        }
    }

    #[test]
    fn a_leaf_of_an_earlier_version_is_replaced_under_the_same_ca() {
        let dir = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &[]).expect("made");
        let (paths, all) = (Paths::within(dir.path(), since_epoch()), Names::new(&[]).expect("names"));
        paths
            .issue(&first.named, &all.all, &paths.issuer(&all).expect("CA"))
            .expect("issued");
        fs::remove_file(&first.unnamed.certificate).expect("remove");
        fs::remove_file(&first.unnamed.key).expect("remove");
        let second = self_signed(dir.path(), &[]).expect("replaced");
        assert_eq!(second, SelfSigned { new_ca: false, ..first });
        assert!(paths.verify(&second.named, &names(&["127.0.0.1"])).is_err());
        assert!(paths.verify(&second.unnamed, &names(&["127.0.0.1"])).is_ok());
    }

    #[test]
    fn leaves_live_for_two_years_and_are_renewed_in_their_last_month() {
        let dir = tempfile::tempdir().expect("dir");
        let all = Names::new(&[]).expect("names");
        let made_before = |days: u32| Paths::within(dir.path(), since_epoch().checked_sub(DAY * days).expect("after 1970"));
        made_before(690).recreate(&all).expect("made");
        let certificates = || ["tls-ca.pem", "tls-cert.pem", "tls-ip-cert.pem"].map(|name| fs::read(dir.path().join(name)).expect("file"));
        let before = certificates();
        renew_leaves(dir.path(), &[]).expect("valid");
        assert_eq!(certificates(), before);

        made_before(710).recreate(&all).expect("made");
        let before = certificates();
        renew_leaves(dir.path(), &[]).expect("renewed");
        let after = certificates();
        assert_eq!(after[0], before[0], "the same CA");
        assert!(after[1] != before[1] && after[2] != before[2]);
        assert!(made_before(0).are_valid_for(&all));
    }
}
