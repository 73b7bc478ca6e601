//! A login at an identity provider, before consent.
//!
//! It has the same checks as the upstream redirect: `state`, cookie, PKCE and issuer. A nonce also
//! binds the ID token to this flow.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize, Closed, FLOW_TTL_SECONDS, GatewayLogin};
use crate::flow::client::ReturnAddress;
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::expected_issuer::ExpectedIssuer;
use crate::flow::user::{Identity, LoginMethod, ProviderSession, User};

/// The time that the exchange and the check of the ID token may take, in seconds.
const LOGIN_EXCHANGE_SECONDS: u64 = 120;

/// The browser went to the identity provider.
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
    /// The scope `offline_access` was requested.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_offline: bool,
    pub(super) expires: UnixTime,
}

/// The provider's callback had a code, which is being exchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdpCallback {
    asked: AuthorizationRequest,
    pub(super) expires: UnixTime,
}

/// The values of one redirect to the provider. The random ones are fresh for each redirect.
#[derive(Clone, Debug)]
pub struct IdpRedirectParams {
    /// The name of the provider in the configuration.
    pub provider: String,
    /// The digest of the cookie that the callback requires.
    pub browser: Digest,
    /// The digest of the random part of our `state`.
    pub idp_state: Digest,
    /// The digest of the nonce that the ID token must contain.
    pub nonce: Digest,
    /// Our own PKCE verifier, never the client's.
    pub verifier: Secret,
    /// The provider's issuer, compared byte for byte.
    pub issuer: String,
    /// The provider's metadata promises `iss` in the response (RFC 9207 §3).
    pub iss_promised: bool,
    /// The scope `offline_access` is requested.
    pub is_offline: bool,
}

/// The parameters of a provider's callback, and the browser's cookie.
#[derive(Clone, Copy, Debug)]
pub struct IdpCallbackParams<'a> {
    /// The provider to which the callback belongs.
    pub provider: &'a str,
    /// The random part of `state`.
    pub idp_state: &'a str,
    /// The value of the flow's provider cookie.
    pub browser: Option<&'a str>,
    /// The parameter `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
}

/// Effect: exchange the provider's code and check its ID token.
#[derive(Clone, Debug)]
pub struct LoginExchange {
    /// Our PKCE verifier.
    pub verifier: Secret,
    /// The issuer that gave the code, byte for byte. No other server may get the code.
    pub issuer: String,
    /// The digest of the nonce that the ID token must contain.
    pub nonce: Digest,
    /// The maximum age of the user's sign-in, in seconds; `None`: any age.
    pub max_age: Option<u64>,
}

impl ClientAuthorize {
    /// Records the redirect to the identity provider of the service.
    pub fn sent_to_idp(self, form: Option<&str>, params: IdpRedirectParams, now: UnixTime) -> Result<(IdpRedirect, ()), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.by != LoginMethod::Provider(params.provider.clone()) {
            return Err(RejectReason::WrongStep);
        }
        Ok((IdpRedirect::new(self.request, params, now), ()))
    }
}

impl IdpRedirect {
    fn new(request: AuthorizationRequest, params: IdpRedirectParams, now: UnixTime) -> Self {
        Self {
            asked: request,
            browser: params.browser,
            idp_state: params.idp_state,
            nonce: params.nonce,
            verifier: params.verifier,
            issuer: params.issuer,
            iss_promised: params.iss_promised,
            is_offline: params.is_offline,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        }
    }

    /// Sends the browser to the provider again, without `offline_access`, which the provider refused. This
    /// happens at most once in a flow. The effect is the request's `max_age`.
    pub fn repeated(
        self,
        callback: IdpCallbackParams<'_>,
        params: IdpRedirectParams,
        now: UnixTime,
    ) -> Result<(Self, Option<u64>), RejectReason> {
        self.is_answered_by(callback, now)?;
        if !self.is_offline || params.is_offline {
            return Err(RejectReason::WrongStep);
        }
        let max_age = self.asked.max_age;
        Ok((Self::new(self.asked, params, now), max_age))
    }

    /// Accepts the provider's code. The state is consumed, so a second callback fails.
    pub fn returned(self, params: IdpCallbackParams<'_>, now: UnixTime) -> Result<(IdpCallback, LoginExchange), RejectReason> {
        self.is_answered_by(params, now)?;
        let exchange = LoginExchange {
            verifier: self.verifier,
            issuer: self.issuer,
            nonce: self.nonce,
            max_age: self.asked.max_age,
        };
        let next = IdpCallback {
            asked: self.asked,
            expires: now.plus_seconds(LOGIN_EXCHANGE_SECONDS),
        };
        Ok((next, exchange))
    }

    /// Closes the flow: the provider's callback had an error.
    pub fn refused(self, params: IdpCallbackParams<'_>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.is_answered_by(params, now)?;
        Ok((Closed { expires: self.expires }, self.asked.return_address))
    }

    /// Checks `state`, provider, cookie and issuer, before anything else is read or shown.
    fn is_answered_by(&self, params: IdpCallbackParams<'_>, now: UnixTime) -> Result<(), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.idp_state, Some(params.idp_state), RejectReason::WrongUpstreamState)?;
        if !self.asked.way.by.is_provider(params.provider) {
            return Err(RejectReason::WrongProvider);
        }
        check_digest(&self.browser, params.browser, RejectReason::WrongBrowser)?;
        let expected = ExpectedIssuer {
            issuer: &self.issuer,
            is_guess: false,
            is_promised: self.iss_promised,
        };
        expected.check(params.issuer)
    }
}

impl IdpCallback {
    /// The name of the service.
    pub fn service(&self) -> &str {
        &self.asked.service
    }

    /// Records the user whom the provider identified, and the user's session there, and goes on to
    /// consent with a new form cookie. The caller checks that the user may use the service. No other state leads a
    /// provider's user to consent.
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Digest, time::UnixTime}, flow::{login::{IdpCallback, IdpRedirect}, user::Identity}};
    /// fn on(state: IdpRedirect, who: Identity, form: Digest) { let _ = state.identified(who, None, form, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Digest, time::UnixTime}, flow::{login::{IdpCallback, IdpRedirect}, user::Identity}};
    /// fn on(state: IdpCallback, who: Identity, form: Digest) { let _ = state.identified(who, None, form, UnixTime(0)); }
    /// ```
    pub fn identified(
        self,
        identity: Identity,
        session: Option<ProviderSession>,
        next_form: Digest,
        now: UnixTime,
    ) -> Result<(GatewayLogin, ()), RejectReason> {
        check_not_expired(self.expires, now)?;
        if !self.asked.way.by.is_provider(&identity.provider) {
            return Err(RejectReason::WrongProvider);
        }
        let next = GatewayLogin {
            request: self.asked,
            who: User {
                provider_session: session,
                ..User::with_identity(identity)
            },
            form: next_form,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        };
        Ok((next, ()))
    }

    /// Closes the flow: the exchange failed, the ID token is invalid, or the user is not allowed.
    pub fn failed(self) -> Result<(Closed, ReturnAddress), RejectReason> {
        Ok((Closed { expires: self.expires }, self.asked.return_address))
    }
}
