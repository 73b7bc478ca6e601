//! The reasons why a refresh gets no pair, and why a proxied request gets no upstream token.

use crate::app::error::Rejection;
use crate::store::StoreError;

/// The grant of a refresh pair has ended, or is not there.
pub(super) const GRANT_NOT_FOUND: Rejection = Rejection::Unknown("this refresh token is unknown or has ended; sign in again");

/// The reason why a grant's upstream token cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTokenError {
    /// The grant has ended, or its token has expired and cannot be refreshed.
    GrantEnded,
    /// The token cannot be read or refreshed now.
    TryLater,
}

impl From<StoreError> for UpstreamTokenError {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the upstream token of a grant cannot be read");
        Self::TryLater
    }
}
