//! Revokes the tokens of stored credentials.

use crate::app::runtime_config::ActiveService;
use crate::app::stored::StoredCredentials;
use crate::app::stored::auth_server::auth_server;
use crate::flow::stored_token::OAuthCredential;
use crate::upstream::token_endpoint::{self, TokenToRevoke};

/// The result of a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationOutcome {
    /// The upstream revoked the tokens, or did not know them.
    Revoked,
    /// The upstream has no revocation endpoint, so the tokens are valid until they expire.
    NotOffered,
    /// The upstream did not revoke the tokens, for this reason. The text contains no secret.
    Failed(String),
}

impl StoredCredentials {
    /// Revokes the tokens of a login at the issuer that issued them (RFC 7009), once.
    pub async fn revoke(&self, active: &ActiveService, oauth: &OAuthCredential) -> RevocationOutcome {
        let server = match auth_server(active, oauth) {
            Ok(server) => server,
            Err(reason) => return RevocationOutcome::Failed(reason),
        };
        let token = match &oauth.tokens.refresh {
            Some(refresh) => TokenToRevoke::Refresh(refresh),
            None => TokenToRevoke::Access(&oauth.tokens.access),
        };
        let request = match token_endpoint::revoke_request(&server, token, self.core.clock.now()) {
            Some(Ok(request)) => request,
            Some(Err(error)) => return RevocationOutcome::Failed(error.to_string()),
            None => return RevocationOutcome::NotOffered,
        };
        match token_endpoint::revoke(self.core.tasks.http(), request, &server.addresses).await {
            Ok(()) => RevocationOutcome::Revoked,
            Err(error) => {
                tracing::warn!(%error, "the upstream's tokens could not be revoked");
                RevocationOutcome::Failed(error.to_string())
            }
        }
    }
}
