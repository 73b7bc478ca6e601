//! Why a proxied request gets no upstream token.

use crate::store::StoreError;

/// Why a grant's upstream token cannot be used.
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
