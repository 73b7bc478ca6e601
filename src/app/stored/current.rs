//! Finds the stored credential for a proxied request.

use std::sync::Arc;

use crate::app::runtime_config::ActiveService;
use crate::app::stored::StoredCredentials;
use crate::app::stored::cache::CurrentCredential;
use crate::app::stored::error::StoredCredentialError;
use crate::flow::stored_credential::{CredentialStatus, RENEW_BEFORE_SECONDS, StoredCredentialRecord};
use crate::store::Change;

impl StoredCredentials {
    /// The credential of a service. If it ends soon, a new one is requested in the background. If it has
    /// ended, the request waits for the new one.
    ///
    /// # Errors
    /// If the operator must sign in, or the credential cannot be read or refreshed now.
    pub(in crate::app) async fn current(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        let id = Self::record_id(active);
        // The first caller that needs a valid token renews it; callers that wait for the load get the result.
        let credential = self.cache.get_or_load(id, active, self.load(active)).await?;
        let now = self.core.clock.now();
        if credential.ends <= now {
            return self.renew(active, None).await;
        }
        if credential.ends <= now.plus_seconds(RENEW_BEFORE_SECONDS) && credential.start_renewal() {
            self.renew_in_background(active, None);
        }
        Ok(credential)
    }

    /// Requests a successor of the cached credential in the background, after the upstream refused it.
    pub(in crate::app) fn renew_cached(self: &Arc<Self>, active: &Arc<ActiveService>) {
        match self.cache.peek(Self::record_id(active)).as_deref() {
            Some(CurrentCredential { access: Some(access), .. }) => self.renew_in_background(active, Some(access)),
            Some(CurrentCredential { access: None, .. }) => self.note_refusal(active),
            // Another request has renewed it.
            None => {}
        }
    }

    /// The number of reads of the store for proxied requests.
    pub fn store_reads(&self) -> u64 {
        self.cache.reads()
    }

    async fn load(&self, active: &Arc<ActiveService>) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        let record = self.read_for(active).await?;
        let tokens = record.credential().oauth().map(|oauth| &oauth.tokens);
        match (record.status(None, self.core.clock.now()), tokens) {
            (CredentialStatus::NeedsLogin, _) => Err(StoredCredentialError::NeedsLogin),
            (CredentialStatus::ApiKey(key), _) => CurrentCredential::from_key(active, key),
            // The caller renews tokens that have ended, so that the load stays short.
            (_, Some(tokens)) => CurrentCredential::from_tokens(active, tokens),
            (_, None) => Err(StoredCredentialError::NotSignedIn),
        }
    }

    /// Removes cached credentials that a change in the store has replaced.
    pub(in crate::app) fn apply_change(&self, change: &Change) {
        match change.of::<StoredCredentialRecord>() {
            Some(handle) => self.cache.remove(handle.id()),
            None if *change == Change::Gap => self.cache.clear(),
            None => {}
        }
    }
}
