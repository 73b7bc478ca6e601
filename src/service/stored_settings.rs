//! `upstream = "stored"`: how the operator obtains the credential of a service, and which header carries
//! it. The store has the credential itself.

use crate::service::auth_header::AuthHeader;
use crate::service::auth_server_config::AuthServerConfig;

/// The settings of a service with a stored credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSettings {
    /// The upstream AS, where the operator signs in.
    pub auth_server: AuthServerConfig,
    /// The header of a stored API key. An OAuth token is always a bearer token.
    pub header: AuthHeader,
}

impl Default for StoredSettings {
    fn default() -> Self {
        Self {
            auth_server: AuthServerConfig::default(),
            header: AuthHeader::bearer(),
        }
    }
}
