//! Why a move is refused. Precise, and without secrets: the word on the wire is chosen elsewhere.

use std::fmt;

use crate::base::ids::Digest;
use crate::base::time::UnixTime;

/// A reason of the state machines to say no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The flow, code or grant has ended by time.
    Expired,
    /// A form of another browser, or of another flow.
    WrongBrowser,
    /// The upstream's answer came with another `state`.
    WrongUpstreamState,
    /// A code or an answer that belongs to another service.
    WrongService,
    /// An answer at the callback of another identity provider, or about a user of another one.
    WrongProvider,
    /// A step that is not on the way of this journey.
    WrongStep,
    /// The upstream promised `iss` and did not send it (RFC 9207 §2.4).
    MissingIssuer,
    /// The upstream's `iss` is another one.
    WrongIssuer,
    /// The code's secret half is wrong.
    WrongCode,
    /// The code or token is another client's.
    WrongClient,
    /// The redirect URI differs from the one of the authorization request.
    WrongRedirectUri,
    /// The PKCE verifier is missing or wrong.
    Verifier,
    /// The redirect URI is not registered for this client.
    UnregisteredRedirect,
    /// No redirect URI was given, and the client has several.
    RedirectNeeded,
    /// The client's secret is missing or wrong.
    ClientSecret,
    /// A code that was redeemed, or a refresh pair that was rotated away too long ago: somebody else may hold it.
    Replayed,
    /// Somebody else is refreshing this grant right now.
    Busy,
    /// The lease of this attempt was taken over; its answer no longer counts.
    LeaseLost,
    /// What is kept is good, or cannot be renewed: the upstream is not to be asked.
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
