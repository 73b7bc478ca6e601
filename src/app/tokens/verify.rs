//! Opens the bearer token of a proxied request.

use crate::app::tokens::Tokens;
use crate::service::Service;
use crate::token::header::{TokenKind, TokenMode};
use crate::token::pair::{self, OpenedPair, PairError};

/// The reason why a bearer token does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::app) enum OpenError {
    /// The signing keys are not loaded yet.
    NotReady,
    /// The token is not good. The text says why, and holds no part of the token.
    Invalid(&'static str),
}

impl Tokens {
    /// Opens a token pair, or verifies a JWT if the service issues JWTs. The caller checks service,
    /// kind and expiry.
    ///
    /// # Errors
    /// If the token is not one of this gateway, was changed, or its key is unknown.
    pub(in crate::app) fn open(&self, service: &Service, kind: TokenKind, token: &str) -> Result<OpenedPair, OpenError> {
        if service.mode.for_kind(kind) == TokenMode::Jwt {
            if !self.signing_keys.can_sign() {
                return Err(OpenError::NotReady);
            }
            return self.open_jwt(service, token).map_err(OpenError::Invalid);
        }
        pair::open(&self.core.keys.load(), token).map_err(|error| {
            OpenError::Invalid(match error {
                PairError::Shape => "the token is not one of this gateway",
                PairError::UnknownKey => "the token was sealed with a key that is no longer known",
                PairError::DoesNotOpen => "the token was changed",
            })
        })
    }
}
