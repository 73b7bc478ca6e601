//! Signing in at an identity provider: the browser goes there before consent, and comes back known.
//!
//! The same care as with the upstream, and the same proofs: `state`, a cookie of this browser, PKCE, the issuer by bytes;
//! and a nonce besides, which ties the ID token to this journey.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize, Closed, FLOW_TTL_SECONDS, GatewayLogin};
use crate::flow::client::ReturnAddress;
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::user::{Identity, LoginMethod, User};

/// How long the provider's answer may take to be judged, in seconds.
const LOGIN_EXCHANGE_SECONDS: u64 = 120;

/// The user was sent to the identity provider.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdpRedirect {
    asked: AuthorizationRequest,
    browser: Digest,
    idp_state: Digest,
    nonce: Digest,
    #[serde(with = "at_rest")]
    verifier: Secret,
    issuer: String,
    iss_promised: bool,
    pub(super) expires: UnixTime,
}

/// The provider sent the browser back with a code, which is being exchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdpCallback {
    asked: AuthorizationRequest,
    pub(super) expires: UnixTime,
}

/// What goes with the browser to the provider: drawn fresh for this one redirect.
#[derive(Clone, Debug)]
pub struct IdpRedirectParams {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The digest of the cookie that the callback must bring.
    pub browser: Digest,
    /// The digest of our `state`.
    pub idp_state: Digest,
    /// The digest of the nonce that the ID token must bring.
    pub nonce: Digest,
    /// Our own PKCE verifier, never the client's.
    pub verifier: Secret,
    /// The provider's issuer, by bytes.
    pub issuer: String,
    /// Its metadata promises `iss` (RFC 9207).
    pub iss_promised: bool,
}

/// What the provider's redirect brought, and what the browser brought with it.
#[derive(Clone, Copy, Debug)]
pub struct IdpCallbackParams<'a> {
    /// The provider whose callback it is.
    pub provider: &'a str,
    /// The random part of `state`.
    pub idp_state: &'a str,
    /// The cookie of this flow.
    pub browser: Option<&'a str>,
    /// `iss`.
    pub issuer: Option<&'a str>,
}

/// To do: exchange the provider's code, and hold its ID token against this.
#[derive(Clone, Debug)]
pub struct LoginExchange {
    /// PKCE.
    pub verifier: Secret,
    /// At this issuer, by bytes, and at no other.
    pub issuer: String,
    /// The digest of the nonce that the ID token must bring.
    pub nonce: Digest,
}

impl ClientAuthorize {
    /// The user goes on to the identity provider of this service.
    pub fn sent_to_idp(self, form: Option<&str>, to: IdpRedirectParams, now: UnixTime) -> Result<(IdpRedirect, ()), RejectReason> {
        self.belongs_to(form, now)?;
        let IdpRedirectParams {
            provider,
            browser,
            idp_state,
            nonce,
            verifier,
            issuer,
            iss_promised,
        } = to;
        if self.request.way.by != LoginMethod::Provider(provider) {
            return Err(RejectReason::WrongStep);
        }
        let next = IdpRedirect {
            asked: self.request,
            browser,
            idp_state,
            nonce,
            verifier,
            issuer,
            iss_promised,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        };
        Ok((next, ()))
    }
}

impl IdpRedirect {
    /// The provider sent the browser back with a code. The state is used up: there is no second time.
    pub fn returned(self, brought: IdpCallbackParams<'_>, now: UnixTime) -> Result<(IdpCallback, LoginExchange), RejectReason> {
        self.is_answered_by(brought, now)?;
        let next = IdpCallback {
            asked: self.asked,
            expires: now.plus_seconds(LOGIN_EXCHANGE_SECONDS),
        };
        let exchange = LoginExchange {
            verifier: self.verifier,
            issuer: self.issuer,
            nonce: self.nonce,
        };
        Ok((next, exchange))
    }

    /// The provider sent the browser back with an error.
    pub fn refused(self, brought: IdpCallbackParams<'_>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.is_answered_by(brought, now)?;
        Ok((Closed { expires: self.expires }, self.asked.return_address))
    }

    /// `state` first, then the provider, then the browser, then the issuer: before anything else is read or shown.
    fn is_answered_by(&self, brought: IdpCallbackParams<'_>, now: UnixTime) -> Result<(), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.idp_state, Some(brought.idp_state), RejectReason::WrongUpstreamState)?;
        if !self.asked.way.by.is_provider(brought.provider) {
            return Err(RejectReason::WrongProvider);
        }
        check_digest(&self.browser, brought.browser, RejectReason::WrongBrowser)?;
        match brought.issuer {
            None if self.iss_promised => Err(RejectReason::MissingIssuer),
            Some(issuer) if issuer != self.issuer => Err(RejectReason::WrongIssuer),
            None | Some(_) => Ok(()),
        }
    }
}

impl IdpCallback {
    /// Which service the user wants.
    pub fn service(&self) -> &str {
        &self.asked.service
    }

    /// The provider vouches for the user, who may use the service: consent comes next, on a form with a new key. Only from
    /// here does a user of a provider come to consent.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Digest, time::UnixTime}, flow::{login::{IdpCallback, IdpRedirect}, user::Identity}};
    /// fn on(state: IdpRedirect, who: Identity, form: Digest) { let _ = state.identified(who, form, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Digest, time::UnixTime}, flow::{login::{IdpCallback, IdpRedirect}, user::Identity}};
    /// fn on(state: IdpCallback, who: Identity, form: Digest) { let _ = state.identified(who, form, UnixTime(0)); }
    /// ```
    pub fn identified(self, identity: Identity, next_form: Digest, now: UnixTime) -> Result<(GatewayLogin, ()), RejectReason> {
        check_not_expired(self.expires, now)?;
        if !self.asked.way.by.is_provider(&identity.provider) {
            return Err(RejectReason::WrongProvider);
        }
        let next = GatewayLogin {
            request: self.asked,
            who: User::identified(identity),
            form: next_form,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        };
        Ok((next, ()))
    }

    /// The exchange failed, the ID token is not good, or the user may not use the service.
    pub fn failed(self) -> Result<(Closed, ReturnAddress), RejectReason> {
        Ok((Closed { expires: self.expires }, self.asked.return_address))
    }
}
