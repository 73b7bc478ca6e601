//! The reasons why a stored credential cannot be used.

use crate::app::grants::lease::LeaseTimeout;
use crate::store::StoreError;

/// The reason why a request gets no stored credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoredCredentialError {
    /// The operator has not signed in, or signed in for another upstream or issuer than is configured.
    #[error("there is no stored credential for this service")]
    NotSignedIn,
    /// The upstream refused the credential, or it has ended and cannot be refreshed.
    #[error("the stored credential has ended")]
    NeedsLogin,
    /// The upstream refuses a token that it issued a moment ago.
    #[error("the upstream refuses a new token")]
    Refused,
    /// It cannot be read or refreshed now.
    #[error("the stored credential cannot be read or refreshed now")]
    TryLater,
}

impl From<StoreError> for StoredCredentialError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "a stored credential cannot be read");
        Self::TryLater
    }
}

impl From<LeaseTimeout> for StoredCredentialError {
    fn from(LeaseTimeout: LeaseTimeout) -> Self {
        Self::TryLater
    }
}
