//! TLS for client and server, with `ring` as the only cryptography provider.

use arc_swap::ArcSwap;
use rustls::ClientConfig;
use rustls::ConfigBuilder;
use rustls::ConfigSide;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::WantsVerifier;
use rustls::WantsVersions;
use rustls::crypto::CryptoProvider;
use rustls::server::ClientHello;
use rustls::server::ResolvesServerCert;
use rustls::sign::CertifiedKey;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::fmt;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// The interval at which [`ServerTls::watch`] checks the files.
const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Installs `ring` as the default provider, for crates that use the default of rustls. This module
/// names its provider itself. The first call wins; later calls change nothing.
pub fn install_provider() {
    // An error means that a provider is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The reason why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// A file cannot be written.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    /// A file contains no PEM certificate.
    #[error("no PEM certificate in {0}")]
    NoCertificate(PathBuf),
    /// A file contains no PEM private key.
    #[error("no PEM private key in {0}")]
    NoKey(PathBuf),
    /// The certificate cannot be used, or the key does not belong to it.
    #[error("unusable certificate or key: {0}")]
    Unusable(rustls::Error),
    /// A certificate could not be created, for instance because a name is not valid in one.
    #[error("cannot make a certificate: {0}")]
    Making(rcgen::Error),
}

impl From<rustls::Error> for TlsError {
    fn from(cause: rustls::Error) -> Self {
        Self::Unusable(cause)
    }
}

impl From<rcgen::Error> for TlsError {
    fn from(cause: rcgen::Error) -> Self {
        Self::Making(cause)
    }
}

/// The root certificates that the gateway trusts as a client. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

impl ClientTls {
    /// Trusts the system's roots and those in the PEM files `extra`. A system root that cannot be
    /// used is skipped; one that cannot be read is also logged.
    ///
    /// # Errors
    /// If a file of `extra` cannot be read, or contains no certificate or an unusable one.
    pub fn load(extra: &[PathBuf]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::warn!(%error, "a root certificate of this machine is left out");
        }
        roots.add_parsable_certificates(system.certs);
        for path in extra {
            for certificate in read_certificates(path)? {
                roots.add(certificate)?;
            }
        }
        if roots.is_empty() {
            tracing::warn!("no root certificates on this machine: no https upstream can be trusted");
        }
        Self::trusting(roots)
    }

    /// Trusts only the certificates in the PEM file `ca`.
    ///
    /// # Errors
    /// If the file cannot be read, or contains no certificate or an unusable one.
    pub fn only(ca: &Path) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_certificates(ca)? {
            roots.add(certificate)?;
        }
        Self::trusting(roots)
    }

    /// Trusts exactly these roots.
    ///
    /// # Errors
    /// Never in practice: the provider supports the default protocol versions.
    pub fn trusting(roots: RootCertStore) -> Result<Self, TlsError> {
        let mut http1 = versions(ClientConfig::builder_with_provider(provider()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut http2 = http1.clone();
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            http1: Arc::new(http1),
            http2: Arc::new(http2),
        })
    }

    pub(super) fn config(&self, http2: bool) -> Arc<ClientConfig> {
        Arc::clone(if http2 { &self.http2 } else { &self.http1 })
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls")
    }
}

/// A certificate chain and the key that belongs to its leaf, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The leaf's private key.
    pub key: PathBuf,
}

/// The server's certificates and keys from PEM files, reloaded on change. Offers HTTP/2 and 1.1.
pub struct ServerTls {
    named: CertificateFiles,
    unnamed: Option<CertificateFiles>,
    seen: Mutex<Vec<FileVersion>>,
    config: ArcSwap<ServerConfig>,
}

/// Modification time and length. Follows symbolic links, because orchestrators replace those.
type FileVersion = Option<(SystemTime, u64)>;

impl ServerTls {
    /// Reads both files.
    ///
    /// # Errors
    /// If a file cannot be read or parsed, or the key does not belong to the certificate.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Self::new(CertificateFiles { certificate, key }, None)
    }

    /// Reads `named`, for clients that send a server name (RFC 6066 §3), and `unnamed`, for clients
    /// that send none, because they connect to an IP address.
    ///
    /// # Errors
    /// As [`ServerTls::from_files`].
    pub fn by_server_name(named: CertificateFiles, unnamed: CertificateFiles) -> Result<Self, TlsError> {
        Self::new(named, Some(unnamed))
    }

    fn new(named: CertificateFiles, unnamed: Option<CertificateFiles>) -> Result<Self, TlsError> {
        let file_versions = versions_of(&named, unnamed.as_ref());
        Ok(Self {
            config: ArcSwap::from(server_config(&named, unnamed.as_ref())?),
            named,
            unnamed,
            seen: Mutex::new(file_versions),
        })
    }

    /// Reads the files again if they changed since the last check. Returns whether new ones are in
    /// use. Blocks on the disk.
    ///
    /// # Errors
    /// As [`ServerTls::from_files`]. The old certificates stay in use, and the same files are not
    /// tried again. Once a renewal has replaced all of them, the next check succeeds.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let current = versions_of(&self.named, self.unnamed.as_ref());
        {
            let mut last_seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *last_seen == current {
                return Ok(false);
            }
            *last_seen = current;
        }
        self.config.store(server_config(&self.named, self.unnamed.as_ref())?);
        Ok(true)
    }

    /// Calls [`ServerTls::reload`] every five seconds, forever. The caller spawns and ends it.
    /// Errors are logged, and the old certificate stays in use.
    pub async fn watch(self: Arc<Self>) {
        loop {
            tokio::time::sleep(RELOAD_INTERVAL).await;
            let this = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(false)) => {}
                Ok(Ok(true)) => tracing::info!("the TLS certificate was read again"),
                Ok(Err(error)) => tracing::error!(%error, "the old TLS certificate stays in use"),
                Err(error) => tracing::error!(%error, "looking at the TLS files failed"),
            }
        }
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.load_full()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("certificate", &self.named.certificate)
            .finish_non_exhaustive()
    }
}

/// The certificates of one [`ServerConfig`].
#[derive(Debug)]
struct Certificates {
    named: Arc<CertifiedKey>,
    unnamed: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let certificate = if hello.server_name().is_some() {
            &self.named
        } else {
            &self.unnamed
        };
        Some(Arc::clone(certificate))
    }
}

fn versions_of(named: &CertificateFiles, unnamed: Option<&CertificateFiles>) -> Vec<FileVersion> {
    let files = std::iter::once(named).chain(unnamed);
    files.flat_map(|files| [stamp(&files.certificate), stamp(&files.key)]).collect()
}

fn stamp(path: &Path) -> FileVersion {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn server_config(named: &CertificateFiles, unnamed: Option<&CertificateFiles>) -> Result<Arc<ServerConfig>, TlsError> {
    let named = certified_key(named)?;
    let unnamed = unnamed.map_or_else(|| Ok(Arc::clone(&named)), certified_key)?;
    let mut config = versions(ServerConfig::builder_with_provider(provider()))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Certificates { named, unnamed }));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certified_key(files: &CertificateFiles) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = read_certificates(&files.certificate)?;
    let pem = Zeroizing::new(read(&files.key)?);
    let private_key = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| TlsError::NoKey(files.key.clone()))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, private_key, &provider())?))
}

fn versions<S: ConfigSide>(builder: ConfigBuilder<S, WantsVersions>) -> Result<ConfigBuilder<S, WantsVerifier>, TlsError> {
    Ok(builder.with_safe_default_protocol_versions()?)
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let no_certificate = || TlsError::NoCertificate(path.to_owned());
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| no_certificate())?;
    if certificates.is_empty() {
        Err(no_certificate())
    } else {
        Ok(certificates)
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|cause| TlsError::Read(path.to_owned(), cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::self_signed::self_signed;
    use std::fs;

    #[test]
    fn a_tls_reload_uses_valid_files_and_ignores_bad_ones() {
        let dir = tempfile::tempdir().expect("dir");
        let other = tempfile::tempdir().expect("dir");
        let first = self_signed(dir.path(), &[]).expect("made");
        let second = self_signed(other.path(), &[]).expect("made");
        let tls = ServerTls::from_files(&first.named.certificate, &first.named.key).expect("read");
        assert!(!tls.reload().expect("looked"));
        let before = tls.config();

        fs::write(&first.named.certificate, "not a certificate").expect("write");
        assert!(matches!(tls.reload(), Err(TlsError::NoCertificate(_))));
        assert!(Arc::ptr_eq(&before, &tls.config()));
        assert!(!tls.reload().expect("the same bad file is not tried again"));

        // Half of a renewal: the new certificate with the old key.
        fs::copy(&second.named.certificate, &first.named.certificate).expect("copy");
        assert!(matches!(tls.reload(), Err(TlsError::Unusable(_))));
        assert!(Arc::ptr_eq(&before, &tls.config()));

        fs::remove_file(&first.named.key).expect("remove");
        fs::copy(&second.named.key, &first.named.key).expect("copy");
        assert!(tls.reload().expect("read"));
        assert!(!Arc::ptr_eq(&before, &tls.config()));
    }

    #[test]
    fn missing_or_invalid_tls_files_are_refused_with_a_reason() {
        let dir = tempfile::tempdir().expect("dir");
        let files = self_signed(dir.path(), &[]).expect("made");
        let missing_path = dir.path().join("nowhere.pem");
        let result = ServerTls::from_files(&missing_path, &files.named.key);
        assert!(result.expect_err("missing").to_string().contains("nowhere.pem"));
        let result = ServerTls::from_files(&files.named.key, &files.named.certificate);
        assert!(matches!(result, Err(TlsError::NoCertificate(_))));
        assert!(matches!(ClientTls::load(&[files.named.key]), Err(TlsError::NoCertificate(_))));
    }
}
