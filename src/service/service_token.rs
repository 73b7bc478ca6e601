//! `upstream = "client_credentials"` and `"workload_identity"`: a token of the service itself. No user signs
//! in for it, and the gateway obtains it when it is needed.

use std::path::PathBuf;

use crate::base::secret::Secret;
use crate::service::auth_server_config::AuthServerConfig;

/// The longest workload token, in bytes. Those of Kubernetes and of clouds have less than 4 KiB.
const MAX_WORKLOAD_TOKEN_BYTES: usize = 64 * 1024;

/// The settings of a service with a token of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceTokenSettings {
    /// The upstream AS, which issues the token.
    pub auth_server: AuthServerConfig,
    /// What the gateway presents for it.
    pub grant: ServiceGrant,
}

/// What the gateway presents to get a token for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceGrant {
    /// Its own client credentials (RFC 6749 §4.4).
    ClientCredentials,
    /// The token by which the platform identifies this workload, as an assertion (RFC 7523 §2.1).
    WorkloadIdentity(WorkloadTokenFile),
}

/// The file in which the platform keeps the workload token. The platform replaces it, so it is read for
/// each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadTokenFile(PathBuf);

impl WorkloadTokenFile {
    /// The file at this path.
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Reads the token.
    ///
    /// # Errors
    /// If the file cannot be read, or does not hold one token. The text names the file and no content.
    pub async fn read(&self) -> Result<Secret, String> {
        let path = self.0.display();
        let text = tokio::fs::read_to_string(&self.0).await;
        let text = text.map_err(|error| format!("the workload token in {path} cannot be read: {error}"))?;
        let token = Secret::from(text.trim_end());
        let is_token =
            |text: &str| !text.is_empty() && text.len() <= MAX_WORKLOAD_TOKEN_BYTES && text.bytes().all(|b| b.is_ascii_graphic());
        if is_token(token.expose()) {
            Ok(token)
        } else {
            Err(format!("{path} does not hold a token: one line of visible ASCII characters"))
        }
    }
}
