//! The configuration that a reload may change, checked.

use crate::service::Service;
use crate::service::adapter_urls::AdapterUrls;
use crate::service::client::{ClientDocuments, ConfiguredClient};
use crate::service::password_user::PasswordUser;
use crate::upstream::idp::Idp;

/// The time for which a login session lasts on https unless configured, in seconds.
pub const DEFAULT_HTTPS_SESSION_TTL_SECONDS: u64 = 12 * 3_600;

/// Everything that a reload may change.
#[derive(Clone, Debug)]
pub struct Config {
    /// At least one service, with distinct names, and at most one default.
    pub services: Vec<Service>,
    /// The users who can log in with a password.
    pub users: Vec<PasswordUser>,
    /// The time for which a login session replaces the password, in seconds; 0 disables sessions.
    pub session_ttl: u64,
    /// The identity providers, with distinct names.
    pub idps: Vec<Idp>,
    /// The clients that need no registration, with distinct ids.
    pub clients: Vec<ConfiguredClient>,
    /// The clients that have a metadata document.
    pub client_documents: ClientDocuments,
    /// The addresses of the model vendors.
    pub adapters: AdapterUrls,
    /// App schemes that redirect URIs may have, beside those of known apps.
    pub redirect_schemes: Vec<String>,
    /// The origins of web pages that may call the MCP endpoints; `*` allows all.
    pub cors_origins: Vec<String>,
    /// Whether `/services` lists the services publicly.
    pub public_directory: bool,
    /// The users who decide about calls of callers that are no users. If empty: the only password user.
    pub approvers: Vec<String>,
    /// Whether `/token` also accepts JSON instead of a form: `compat = ["json-token"]`.
    pub json_token: bool,
    /// Whether the metadata announces `iss` (RFC 9207 §3): not with `compat = ["no-iss"]`. It is sent
    /// in any case.
    pub announces_iss: bool,
}

impl Config {
    /// Whether this user decides about calls of callers that are no users: an approver of the configuration,
    /// or the only user with a password if it names none.
    pub fn is_approver(&self, user: &str) -> bool {
        match (self.approvers.as_slice(), self.users.as_slice()) {
            ([], [only]) => only.name == user,
            ([], _) => false,
            (approvers, _) => approvers.iter().any(|approver| approver == user),
        }
    }
}
