//! The states of an authorization flow, from `/authorize` to a redeemed code.
//!
//! Each state is a struct with private fields and only its own transitions. Random values, time and
//! upstream responses are arguments. A transition returns the next state and an effect as data.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::client::{ClientTraits, ReturnAddress};
use crate::flow::consent::RememberConsent;
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::expected_issuer::ExpectedIssuer;
use crate::flow::user::{LoginMethod, ServiceSnapshot, UpstreamStep, User};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::scope::Scopes;

/// The lifetime of a flow, in seconds. A redirect to an upstream or a provider restarts it.
pub const FLOW_TTL_SECONDS: u64 = 600;

/// The client's authorization request. It is part of each state until the code is redeemed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// The client id.
    pub client_id: String,
    /// The name in the client's own registration.
    pub client_name: Option<String>,
    /// See
    /// [`RegisteredClient::verified_host`](crate::flow::client::RegisteredClient::verified_host).
    #[serde(default)]
    pub verified_host: Option<String>,
    /// The operator configured the client, including its name.
    #[serde(default)]
    pub configured: bool,
    /// The parts of the client's registration that the token endpoint needs.
    #[serde(default)]
    pub traits: ClientTraits,
    /// All redirect URIs are on the user's machine.
    #[serde(rename = "loopback_only")]
    pub is_loopback_only: bool,
    /// The only address to which the browser may return.
    #[serde(rename = "back")]
    pub return_address: ReturnAddress,
    /// The client's PKCE challenge. `None` only for a client with a secret, if the operator allows it.
    #[serde(default)]
    pub challenge: Option<CodeChallenge>,
    /// The scopes of the future grant, already limited to those of the service.
    pub scopes: Scopes,
    /// The name of the service.
    pub service: String,
    /// The login method, and the step after consent.
    pub way: ServiceSnapshot,
    /// Whether a remembered consent may replace the consent page.
    #[serde(default)]
    pub remember: RememberConsent,
    /// The maximum age of the user's sign-in, in seconds; 0 requires a new one. `None`: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

/// The authorization request is valid. No user signed in yet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientAuthorize {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    form: Digest,
    pub(super) expires: UnixTime,
}

/// The login is done, or not required. Consent is open.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayLogin {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    pub(super) who: User,
    pub(super) form: Digest,
    pub(super) expires: UnixTime,
}

/// The user consented, and the browser went to the upstream's authorization server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamRedirect {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    pub(super) who: User,
    browser: Digest,
    upstream_state: Digest,
    #[serde(with = "at_rest")]
    pub(super) verifier: Secret,
    pub(super) issuer: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    issuer_is_guess: bool,
    iss_promised: bool,
    pub(super) expires: UnixTime,
}

/// The upstream's callback had a code, which is being exchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamCallback {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    pub(super) who: User,
    pub(super) issuer: String,
    pub(super) expires: UnixTime,
}

/// The flow ended without a code: it was denied, it was refused, or it failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closed {
    pub(super) expires: UnixTime,
}

/// The values of one redirect to the upstream. The random ones are fresh for each redirect.
#[derive(Clone, Debug)]
pub struct UpstreamRedirectParams {
    /// The digest of the cookie that the callback requires.
    pub browser: Digest,
    /// The digest of the random part of our `state`.
    pub upstream_state: Digest,
    /// Our own PKCE verifier, never the client's.
    pub verifier: Secret,
    /// The upstream's issuer, compared byte for byte.
    pub issuer: String,
    /// Whether `issuer` is only the origin of the authorization endpoint. Then any issuer there is accepted.
    pub issuer_is_guess: bool,
    /// The upstream's metadata promises `iss` in the response (RFC 9207 §3).
    pub iss_promised: bool,
}

/// The parameters of an upstream callback, and the browser's cookie.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamCallbackParams<'a> {
    /// The service to which the callback belongs.
    pub service: &'a str,
    /// The random part of `state`.
    pub upstream_state: &'a str,
    /// The value of the flow's upstream cookie.
    pub browser: Option<&'a str>,
    /// The parameter `iss` (RFC 9207).
    pub issuer: Option<&'a str>,
}

/// Effect: tell the user that nothing was allowed, and where the client waits.
#[derive(Clone, Debug)]
pub struct Denial {
    /// The redirect URI for the error.
    pub return_address: ReturnAddress,
    /// Whether a user signed in before. Without, anybody could have sent the browser here, so it is
    /// not redirected.
    pub is_signed_in: bool,
}

/// Effect: exchange the upstream's code.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// Our PKCE verifier.
    pub verifier: Secret,
    /// The issuer that gave the code, byte for byte. No other server may get the code.
    pub issuer: String,
}

impl ClientAuthorize {
    /// Starts a flow. `form` is the digest of the cookie that binds its forms to this browser.
    pub fn new(request: AuthorizationRequest, form: Digest, now: UnixTime) -> Self {
        Self {
            request,
            form,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        }
    }

    /// Checks that the form belongs to this browser, before any password is checked.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<&AuthorizationRequest, RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.form, form, RejectReason::WrongBrowser)?;
        Ok(&self.request)
    }

    /// Records a password login. The form cookie changes, so one from before the login is useless.
    pub fn signed_in(self, form: Option<&str>, next_form: Digest, user: User, now: UnixTime) -> Result<(GatewayLogin, ()), RejectReason> {
        self.belongs_to(form, now)?;
        self.logged_in_as(&LoginMethod::Password, user, next_form)
    }

    /// Goes on to consent, for a service without a login.
    pub fn login_skipped(self, form: Option<&str>, next_form: Digest, now: UnixTime) -> Result<(GatewayLogin, ()), RejectReason> {
        self.belongs_to(form, now)?;
        self.logged_in_as(&LoginMethod::Nobody, User::default(), next_form)
    }

    fn logged_in_as(self, method: &LoginMethod, user: User, form: Digest) -> Result<(GatewayLogin, ()), RejectReason> {
        if self.request.way.by != *method {
            return Err(RejectReason::WrongStep);
        }
        let next = GatewayLogin {
            request: self.request,
            who: user,
            form,
            expires: self.expires,
        };
        Ok((next, ()))
    }

    /// Closes the flow: the user denied before the login.
    pub fn denied(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, Denial), RejectReason> {
        self.belongs_to(form, now)?;
        let denial = Denial {
            return_address: self.request.return_address,
            is_signed_in: false,
        };
        Ok((Closed { expires: self.expires }, denial))
    }
}

impl GatewayLogin {
    /// Checks that the form belongs to this browser. Returns the request and the user.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<(&AuthorizationRequest, &User), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.form, form, RejectReason::WrongBrowser)?;
        Ok((&self.request, &self.who))
    }

    /// Records the consent. No other state has this transition, so no browser goes to the upstream
    /// without consent.
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, UpstreamRedirectParams}};
    /// fn on(state: ClientAuthorize, to: UpstreamRedirectParams) { let _ = state.consented(None, to, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, UpstreamRedirectParams}};
    /// fn on(state: GatewayLogin, to: UpstreamRedirectParams) { let _ = state.consented(None, to, UnixTime(0)); }
    /// ```
    pub fn consented(
        self,
        form: Option<&str>,
        params: UpstreamRedirectParams,
        now: UnixTime,
    ) -> Result<(UpstreamRedirect, ()), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.leg != UpstreamStep::Upstream {
            return Err(RejectReason::WrongStep);
        }
        let UpstreamRedirectParams {
            browser,
            upstream_state,
            verifier,
            issuer,
            issuer_is_guess,
            iss_promised,
        } = params;
        let expires = now.plus_seconds(FLOW_TTL_SECONDS);
        Ok((
            UpstreamRedirect {
                request: self.request,
                who: self.who,
                browser,
                upstream_state,
                verifier,
                issuer,
                issuer_is_guess,
                iss_promised,
                expires,
            },
            (),
        ))
    }

    /// Closes the flow: the user denied.
    pub fn denied(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, Denial), RejectReason> {
        self.belongs_to(form, now)?;
        let denial = Denial {
            is_signed_in: self.request.way.by != LoginMethod::Nobody,
            return_address: self.request.return_address,
        };
        Ok((Closed { expires: self.expires }, denial))
    }
}

impl UpstreamRedirect {
    /// Accepts the upstream's code. The state is consumed, so a second callback fails.
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{UpstreamCallbackParams, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: UpstreamCallbackParams<'_>) { let _ = (a.returned(with, UnixTime(0)), a.returned(with, UnixTime(0))); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{UpstreamCallbackParams, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: UpstreamCallbackParams<'_>) { let _ = (a.returned(with, UnixTime(0)), b.returned(with, UnixTime(0))); }
    /// ```
    pub fn returned(self, params: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(UpstreamCallback, CodeExchange), RejectReason> {
        self.check_callback(params, now)?;
        let next = UpstreamCallback {
            request: self.request,
            who: self.who,
            issuer: self.issuer.clone(),
            expires: now.plus_seconds(120),
        };
        let exchange = CodeExchange {
            verifier: self.verifier,
            issuer: self.issuer,
        };
        Ok((next, exchange))
    }

    /// Closes the flow: the upstream's callback had an error.
    pub fn refused(self, params: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.check_callback(params, now)?;
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }

    /// Checks `state`, service, cookie and issuer, before anything else is read or shown.
    pub(super) fn check_callback(&self, params: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.upstream_state, Some(params.upstream_state), RejectReason::WrongUpstreamState)?;
        if params.service != self.request.service {
            return Err(RejectReason::WrongService);
        }
        check_digest(&self.browser, params.browser, RejectReason::WrongBrowser)?;
        let expected = ExpectedIssuer {
            issuer: &self.issuer,
            is_guess: self.issuer_is_guess,
            is_promised: self.iss_promised,
        };
        expected.check(params.issuer)
    }
}
