//! Why a transition is refused. `app/error.rs` maps each reason to an OAuth error code.

use std::fmt;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;

/// Why a transition is refused. It contains no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The flow, code or grant has expired.
    Expired,
    /// The form or callback belongs to another browser or another flow.
    WrongBrowser,
    /// The callback has a wrong `state`.
    WrongUpstreamState,
    /// The code or callback belongs to another service.
    WrongService,
    /// The callback or the user belongs to another identity provider.
    WrongProvider,
    /// The service's login method or consent step does not allow this transition.
    WrongStep,
    /// The upstream promised `iss` and did not send it (RFC 9207 §2.4).
    MissingIssuer,
    /// The callback has the `iss` of another issuer (RFC 9207 §2.4).
    WrongIssuer,
    /// The secret half of the code is wrong.
    WrongCode,
    /// The code or token belongs to another client.
    WrongClient,
    /// The redirect URI differs from the one in the authorization request.
    WrongRedirectUri,
    /// The PKCE verifier is missing or wrong.
    Verifier,
    /// The redirect URI is not registered for this client.
    UnregisteredRedirect,
    /// The request has no redirect URI, and the client has several.
    RedirectNeeded,
    /// The client secret is missing or wrong.
    ClientSecret,
    /// A code is used again, or a refresh pair was superseded too long ago: possibly stolen.
    Replayed,
    /// Another attempt is refreshing this grant.
    Busy,
    /// Another attempt took over the lease, so this attempt's result is discarded.
    LeaseLost,
    /// The upstream token is still good or cannot be renewed, so no upstream request is needed.
    NotNeeded,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "it has expired",
            Self::WrongBrowser => "it was started in another browser",
            Self::WrongUpstreamState => "the upstream's state is not the one that was sent",
            Self::WrongService => "it belongs to another service",
            Self::WrongProvider => "it belongs to another sign-in provider",
            Self::WrongStep => "this sign-in goes another way",
            Self::MissingIssuer => "the upstream promised iss and did not send it",
            Self::WrongIssuer => "the answer comes from another issuer",
            Self::WrongCode => "the code is not the one that was issued",
            Self::WrongClient => "it belongs to another client",
            Self::WrongRedirectUri => "redirect_uri differs from the authorization request",
            Self::Verifier => "code_verifier is missing or does not match",
            Self::UnregisteredRedirect => "redirect_uri is not registered for this client",
            Self::RedirectNeeded => "redirect_uri is missing and the client has several",
            Self::ClientSecret => "the client secret is missing or wrong",
            Self::Replayed => "this code or refresh token was used before",
            Self::Busy => "it is being refreshed right now",
            Self::LeaseLost => "another attempt took over",
            Self::NotNeeded => "there is nothing to renew",
        })
    }
}

impl std::error::Error for RejectReason {}

pub(super) fn check_not_expired(expires: UnixTime, now: UnixTime) -> Result<(), RejectReason> {
    if now < expires { Ok(()) } else { Err(RejectReason::Expired) }
}

pub(super) fn check_digest(kept: &Digest, brought: Option<&str>, otherwise: RejectReason) -> Result<(), RejectReason> {
    if brought.is_some_and(|text| kept.matches(text)) {
        Ok(())
    } else {
        Err(otherwise)
    }
}
