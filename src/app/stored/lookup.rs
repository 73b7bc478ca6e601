//! Reads the record of a service, and compares it with the configuration.

use std::sync::Arc;

use crate::app::runtime_config::ActiveService;
use crate::app::stored::StoredCredentials;
use crate::app::stored::cache::CurrentCredential;
use crate::app::stored::error::StoredCredentialError;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::flow::stored_credential::{CredentialStatus, CredentialTarget, StoredCredentialRecord};
use crate::oauth::token_response::UpstreamAccessToken;

impl StoredCredentials {
    /// The record of a service, if it belongs to the configured upstream.
    pub(super) async fn read_for(&self, active: &ActiveService) -> Result<StoredCredentialRecord, StoredCredentialError> {
        let record = self.core.store.read(&Self::handle(&active.service.name)).await?;
        record
            .filter(|record| is_for(record, active))
            .ok_or(StoredCredentialError::NotSignedIn)
    }

    /// The current credential, if it is newer than `refused_token`; otherwise the reason why it is not.
    pub(super) fn newer(
        active: &Arc<ActiveService>,
        record: &StoredCredentialRecord,
        refused_token: Option<&UpstreamAccessToken>,
        now: UnixTime,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        match record.status(refused_token, now) {
            CredentialStatus::ApiKey(key) => CurrentCredential::from_key(active, key),
            CredentialStatus::Valid(tokens) => CurrentCredential::from_tokens(active, tokens),
            CredentialStatus::Renew(_) | CredentialStatus::Failing => Err(StoredCredentialError::TryLater),
            CredentialStatus::Refused => Err(StoredCredentialError::Refused),
            CredentialStatus::NeedsLogin => Err(StoredCredentialError::NeedsLogin),
        }
    }
}

/// Whether the credential was obtained for the configured upstream and issuer.
pub(super) fn is_for(record: &StoredCredentialRecord, active: &ActiveService) -> bool {
    let issuer = active.auth_server_config().and_then(|config| config.issuer.as_ref());
    record.credential().is_for(CredentialTarget {
        service: &active.service.name,
        origin: &active.service.mcp.origin(),
        issuer: issuer.map(ExactUrl::as_str),
    })
}
