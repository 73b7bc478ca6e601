//! The rules of a service for refreshes.

use crate::token::header::TokenMode;
use crate::token::lifetime::{ReuseWindow, Ttl};
use crate::token::pair;

/// The rules of a service for refreshes.
#[derive(Clone, Copy, Debug)]
pub struct RefreshRules {
    /// The time for which a superseded refresh token is accepted.
    pub reuse_window: ReuseWindow,
    /// The time for which two branches of one grant may both refresh, in seconds. `None`: without limit.
    pub parallel_limit: Option<u64>,
    /// The lifetimes of pairs.
    pub ttl: Ttl,
    /// How pairs are protected, and whether they only refer to stored tokens.
    pub mode: TokenMode,
    /// Whether grants are client-side records, so that no token can be stored.
    pub is_client_side: bool,
}

impl Default for RefreshRules {
    fn default() -> Self {
        Self {
            reuse_window: ReuseWindow::default(),
            parallel_limit: None,
            ttl: Ttl::default(),
            mode: TokenMode::Sealed,
            is_client_side: false,
        }
    }
}

impl RefreshRules {
    /// Whether the gateway sees every use of an access token. A `raw` token is the upstream's own and
    /// names no generation.
    pub(super) fn sees_use(&self) -> bool {
        match self.mode {
            TokenMode::Sealed | TokenMode::Plain | TokenMode::Reference | TokenMode::Jwt => true,
            #[cfg(feature = "raw")]
            TokenMode::Raw => false,
        }
    }

    /// Whether pairs refer to stored tokens: because of the service's token mode, or because they would be too
    /// long. All lengths are in bytes; `text_bytes` is that of subject and scopes together, and
    /// `refresh_bytes` is 0 without a refresh token.
    pub(super) fn needs_reference(&self, text_bytes: usize, access_bytes: usize, refresh_bytes: usize) -> bool {
        if self.is_client_side {
            return false;
        }
        match self.mode {
            TokenMode::Reference => true,
            // A JWT holds no upstream token, and a raw token is one.
            TokenMode::Jwt => false,
            #[cfg(feature = "raw")]
            TokenMode::Raw => false,
            TokenMode::Sealed | TokenMode::Plain => {
                let length = |upstream_bytes: usize| pair::length(self.mode, text_bytes, upstream_bytes);
                length(access_bytes) > pair::MAX_HEADER_VALUE_BYTES || (refresh_bytes > 0 && length(refresh_bytes) > pair::MAX_PAIR_BYTES)
            }
        }
    }
}
