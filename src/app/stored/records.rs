//! The records of stored credentials, as commands read, write and remove them.

use crate::app::runtime_config::ActiveService;
use crate::app::stored::StoredCredentials;
use crate::app::stored::lookup::is_for;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::stored_credential::{CredentialFailure, CredentialStatus, SignedIn, StoredCredential, StoredCredentialRecord};
use crate::flow::stored_token::{CredentialKind, OAuthCredential};
use crate::store::{StoreError, UpsertError};

/// The state of a stored credential, as `status` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialState {
    /// No credential is stored.
    NotSignedIn,
    /// The stored credential belongs to another upstream or issuer than is configured. It is not used.
    OtherUpstream,
    /// The credential can be used.
    Usable,
    /// The last refresh failed, and the gateway tries again at the next request.
    Failing,
    /// Only a new login helps.
    NeedsLogin,
}

/// A report on the stored credential of a service. It contains no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialReport {
    /// The state.
    pub state: CredentialState,
    /// Whether it is an API key.
    pub is_api_key: bool,
    /// The issuer of the tokens.
    pub issuer: Option<String>,
    /// The scopes that the upstream granted, or that were requested.
    pub scopes: Option<String>,
    /// When the operator signed in.
    pub obtained_at: Option<UnixTime>,
    /// When the gateway last renewed the tokens.
    pub renewed_at: Option<UnixTime>,
    /// When the access token expires, if the upstream said so.
    pub ends: Option<UnixTime>,
    /// Whether the credential has a refresh token.
    pub is_refreshable: bool,
    /// The last failure, unless a refresh succeeded since.
    pub last_failure: Option<CredentialFailure>,
}

impl StoredCredentials {
    /// The record of a service, even if it belongs to another upstream.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn read(&self, service: &str) -> Result<Option<StoredCredentialRecord>, StoreError> {
        self.core.store.read(&Self::handle(service)).await
    }

    /// Replaces the stored credential by the tokens of a login. Returns the previous credential, which
    /// the caller revokes.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_login(&self, active: &ActiveService, oauth: OAuthCredential) -> Result<Option<StoredCredential>, StoreError> {
        self.put(active, CredentialKind::OAuth(Box::new(oauth))).await
    }

    /// Replaces the stored credential by an API key. Returns the previous credential.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_key(&self, active: &ActiveService, key: Secret) -> Result<Option<StoredCredential>, StoreError> {
        self.put(active, CredentialKind::ApiKey { key }).await
    }

    async fn put(&self, active: &ActiveService, kind: CredentialKind) -> Result<Option<StoredCredential>, StoreError> {
        let (service, now) = (&active.service, self.core.clock.now());
        let credential = StoredCredential::new(&service.name, &service.mcp.origin(), kind, now);
        self.put_credential(&service.name, credential).await
    }

    /// Stores a credential in place of what was stored. Returns the credential before.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn put_credential(&self, service: &str, credential: StoredCredential) -> Result<Option<StoredCredential>, StoreError> {
        let step = |record: Option<StoredCredentialRecord>| -> Result<_, std::convert::Infallible> {
            Ok(match record {
                Some(record) => {
                    let (record, before) = record.replaced(credential.clone());
                    (record, Some(before))
                }
                None => (SignedIn::new(credential.clone()).into(), None),
            })
        };
        let handle = Self::handle(service);
        let result = self.core.store.upsert(&handle, step).await;
        self.cache.remove(handle.id());
        match result {
            Ok((_, before)) => Ok(before),
            Err(UpsertError::Store(error)) => Err(error),
            Err(UpsertError::Rejected(never)) => match never {},
        }
    }

    /// Removes the credential of a service. Returns it, so that the caller can revoke it.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn remove(&self, service: &str) -> Result<Option<StoredCredential>, StoreError> {
        let handle = Self::handle(service);
        let before = self.core.store.read(&handle).await?;
        self.core.store.remove(&handle).await?;
        self.cache.remove(handle.id());
        Ok(before.map(|record| record.credential().clone()))
    }

    /// A report on the credential of a service.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn report(&self, active: &ActiveService) -> Result<CredentialReport, StoreError> {
        let record = self.read(&active.service.name).await?;
        let credential = record.as_ref().map(StoredCredentialRecord::credential);
        let oauth = credential.and_then(StoredCredential::oauth);
        let tokens = oauth.map(|oauth| &oauth.tokens);
        let state = match &record {
            None => CredentialState::NotSignedIn,
            Some(record) if !is_for(record, active) => CredentialState::OtherUpstream,
            Some(record) => match record.status(None, self.core.clock.now()) {
                CredentialStatus::NeedsLogin => CredentialState::NeedsLogin,
                CredentialStatus::Failing | CredentialStatus::Refused => CredentialState::Failing,
                CredentialStatus::Renew(_) | CredentialStatus::Valid(_) | CredentialStatus::ApiKey(_) => CredentialState::Usable,
            },
        };
        Ok(CredentialReport {
            state,
            is_api_key: credential.is_some() && oauth.is_none(),
            issuer: oauth.map(|oauth| oauth.issuer.clone()),
            scopes: oauth.map(|oauth| oauth.tokens.scope.clone().unwrap_or_else(|| oauth.scopes.clone())),
            obtained_at: credential.map(StoredCredential::obtained_at),
            renewed_at: credential.and_then(StoredCredential::renewed_at),
            ends: tokens.and_then(|tokens| tokens.expires),
            is_refreshable: tokens.is_some_and(|tokens| tokens.refresh.is_some()),
            last_failure: credential.and_then(|credential| credential.last_failure().cloned()),
        })
    }
}
