//! The end of a sign-in: the code is exchanged for tokens, and the result noted for the browser's page.

use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::app::stored::auth_server::oauth_credential;
use crate::app::stored_logins::{LoginHandle, StoredLogins, login_error};
use crate::flow::error::RejectReason;
use crate::flow::stored_login::{StoredLoginCallback, StoredLoginRecord};
use crate::flow::stored_token::OAuthCredential;
use crate::oauth::token_response::UpstreamTokens;
use crate::store::{StoreError, TransitionError};
use crate::upstream::auth_server::AuthServer;

impl StoredLogins {
    /// Exchanges the code of a sign-in for tokens, once. The caller stores them, and notes the result.
    ///
    /// # Errors
    /// If there is no code, the upstream refuses it or does not answer, or the store fails.
    pub async fn exchange(&self, active: &ActiveService, server: &AuthServer, handle: &LoginHandle) -> Result<OAuthCredential, Rejection> {
        let Some(StoredLoginRecord::StoredLoginCallback(callback)) = self.core.store.read(handle).await? else {
            return Err(login_error(TransitionError::WrongState));
        };
        let (code, exchange) = callback.exchange();
        let tokens = self.discovery.exchange_code(active, &code, &exchange).await?;
        Ok(credential(active, server, tokens))
    }

    /// Notes that the credential is stored, so that the browser's page shows it.
    ///
    /// # Errors
    /// If the store fails. The credential is stored in any case.
    pub async fn note_done(&self, handle: &LoginHandle) -> Result<(), StoreError> {
        let now = self.core.clock.now();
        let step = |s: StoredLoginCallback| Ok::<_, RejectReason>(s.credential_stored(now));
        ignore_ended(self.core.store.transition(handle, step).await.map(drop))
    }

    /// Notes that the sign-in failed, so that the browser's page shows the reason.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn note_failed(&self, handle: &LoginHandle, reason: &str) -> Result<(), StoreError> {
        let now = self.core.clock.now();
        let step = |s: StoredLoginCallback| Ok::<_, RejectReason>(s.login_failed(reason, now));
        ignore_ended(self.core.store.transition(handle, step).await.map(drop))
    }
}

/// The credential to store after a login.
pub(super) fn credential(active: &ActiveService, server: &AuthServer, tokens: UpstreamTokens) -> OAuthCredential {
    oauth_credential(server, &active.scopes_offered().to_string(), tokens)
}

/// Ignores that a sign-in has ended before the note was written: its page has ended too.
fn ignore_ended(result: Result<(), TransitionError<RejectReason>>) -> Result<(), StoreError> {
    match result {
        Ok(()) | Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => Ok(()),
        Err(TransitionError::Store(error)) => Err(error),
    }
}
