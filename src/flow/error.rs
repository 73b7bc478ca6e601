//! The reason why a transition is refused. `app/error.rs` maps each reason to an OAuth error code.

use crate::base::ids::Digest;
use crate::base::time::UnixTime;

/// The reason why a transition is refused. It contains no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// The flow, code or grant has expired.
    #[error("it has expired")]
    Expired,
    /// The form or callback belongs to another browser or another flow.
    #[error("it was started in another browser")]
    WrongBrowser,
    /// The callback has a wrong `state`.
    #[error("the upstream's state is not the one that was sent")]
    WrongUpstreamState,
    /// The code or callback belongs to another service.
    #[error("it belongs to another service")]
    WrongService,
    /// The callback or the user belongs to another identity provider.
    #[error("it belongs to another sign-in provider")]
    WrongProvider,
    /// The service's login method or consent step does not allow this transition.
    #[error("this sign-in goes another way")]
    WrongStep,
    /// The upstream promised `iss` and did not send it (RFC 9207 §2.4).
    #[error("the upstream promised iss and did not send it")]
    MissingIssuer,
    /// The callback has the `iss` of another issuer (RFC 9207 §2.4).
    #[error("the answer comes from another issuer")]
    WrongIssuer,
    /// The secret half of the code is wrong.
    #[error("the code is not the one that was issued")]
    WrongCode,
    /// The code or token belongs to another client.
    #[error("it belongs to another client")]
    WrongClient,
    /// The redirect URI differs from the one in the authorization request.
    #[error("redirect_uri differs from the authorization request")]
    WrongRedirectUri,
    /// The PKCE verifier is missing or wrong.
    #[error("code_verifier is missing or does not match")]
    Verifier,
    /// The redirect URI is not registered for this client.
    #[error("redirect_uri is not registered for this client")]
    UnregisteredRedirect,
    /// The request has no redirect URI, and the client has several.
    #[error("redirect_uri is missing and the client has several")]
    RedirectNeeded,
    /// The client secret is missing or wrong.
    #[error("the client secret is missing or wrong")]
    ClientSecret,
    /// A code is used again, or a refresh pair was superseded before the reuse window: possibly stolen.
    #[error("this code or refresh token was used before")]
    Replayed,
    /// Another attempt is refreshing this grant.
    #[error("it is being refreshed right now")]
    Busy,
    /// Another attempt took over the lease, so this attempt's result is discarded.
    #[error("another attempt took over")]
    LeaseLost,
    /// The upstream token is still good or cannot be renewed, so no upstream request is needed.
    #[error("there is nothing to renew")]
    NotNeeded,
}

pub(super) fn check_not_expired(expires: UnixTime, now: UnixTime) -> Result<(), RejectReason> {
    if now < expires { Ok(()) } else { Err(RejectReason::Expired) }
}

pub(super) fn check_digest(expected: &Digest, value: Option<&str>, error: RejectReason) -> Result<(), RejectReason> {
    if value.is_some_and(|text| expected.matches(text)) {
        Ok(())
    } else {
        Err(error)
    }
}
