//! One browser journey, from `/authorize` to a code that was spent.
//!
//! Each state is a struct with private fields and only its own moves. Fresh random values, the time and the upstream's
//! answers are arguments; a move returns the next state and what is to be done.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::client::ReturnAddress;
use crate::flow::code::{CodeIssued, CodeSpent, ObtainedTokens};
use crate::flow::consent::RememberConsent;
use crate::flow::error::{RejectReason, check_digest, check_not_expired};
use crate::flow::login::{IdpCallback, IdpRedirect};
use crate::flow::stateless_code::StatelessCode;
use crate::flow::user::{LoginMethod, ServiceSnapshot, UpstreamStep, User};
use crate::oauth::pkce::CodeChallenge;
use crate::oauth::scope::Scopes;

/// How long a journey may take, in seconds.
pub const FLOW_TTL_SECONDS: u64 = 600;
/// How long a code lives, in seconds.
pub const CODE_TTL_SECONDS: u64 = 60;

/// What the client asked for; travels through all states.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuthorizationRequest {
    /// The client's id.
    pub client_id: String,
    /// The name that it gave itself.
    pub client_name: Option<String>,
    /// The host of its document, if that vouches for it: see [`RegisteredClient::verified_host`](crate::flow::client::RegisteredClient::verified_host).
    #[serde(default)]
    pub verified_host: Option<String>,
    /// The operator wrote the client down, and its name with it.
    #[serde(default)]
    pub configured: bool,
    /// All its redirects stay on the user's machine.
    #[serde(rename = "loopback_only")]
    pub is_loopback_only: bool,
    /// The only way back.
    #[serde(rename = "back")]
    pub return_address: ReturnAddress,
    /// PKCE.
    pub challenge: CodeChallenge,
    /// What it may get, already within what the service offers.
    pub scopes: Scopes,
    /// The service's name.
    pub service: String,
    /// How the user signs in, and what follows consent.
    pub way: ServiceSnapshot,
    /// Whether an earlier consent may stand for this one.
    #[serde(default)]
    pub remember: RememberConsent,
}

/// The client asked; nobody has signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientAuthorize {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    form: Digest,
    expires: UnixTime,
}

/// The user signed in here, and is asked to consent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayLogin {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    pub(super) who: User,
    pub(super) form: Digest,
    pub(super) expires: UnixTime,
}

/// The user consented, and was sent to the upstream.
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
    iss_promised: bool,
    expires: UnixTime,
}

/// The upstream sent the browser back with a code, which is being exchanged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamCallback {
    #[serde(rename = "asked")]
    pub(super) request: AuthorizationRequest,
    pub(super) who: User,
    pub(super) issuer: String,
    pub(super) expires: UnixTime,
}

/// The journey ended without a code: denied, refused, or failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Closed {
    pub(super) expires: UnixTime,
}

/// A journey at rest.
#[derive(Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum FlowRecord {
    /// See [`ClientAuthorize`].
    ClientAuthorize(ClientAuthorize),
    /// See [`IdpRedirect`].
    IdpRedirect(IdpRedirect),
    /// See [`IdpCallback`].
    IdpCallback(IdpCallback),
    /// See [`GatewayLogin`].
    GatewayLogin(GatewayLogin),
    /// See [`UpstreamRedirect`].
    UpstreamRedirect(UpstreamRedirect),
    /// See [`UpstreamCallback`].
    UpstreamCallback(UpstreamCallback),
    /// See [`CodeIssued`].
    CodeIssued(CodeIssued),
    /// See [`StatelessCode`].
    #[serde(rename = "CodeCarried")]
    StatelessCode(StatelessCode),
    /// See [`CodeSpent`].
    CodeSpent(CodeSpent),
    /// See [`Closed`].
    Closed(Closed),
}

impl FlowRecord {
    /// Nobody has signed in to it, nor consented: what anybody can begin as often as they like.
    pub fn is_unauthenticated(&self) -> bool {
        match self {
            Self::ClientAuthorize(_) | Self::IdpRedirect(_) => true,
            Self::GatewayLogin(s) => s.request.way.by == LoginMethod::Nobody,
            Self::IdpCallback(_)
            | Self::UpstreamRedirect(_)
            | Self::UpstreamCallback(_)
            | Self::CodeIssued(_)
            | Self::StatelessCode(_)
            | Self::CodeSpent(_)
            | Self::Closed(_) => false,
        }
    }
}

states!(FlowRecord: ClientAuthorize, IdpRedirect, IdpCallback, GatewayLogin, UpstreamRedirect, UpstreamCallback, CodeIssued, StatelessCode, CodeSpent, Closed);

impl Record for FlowRecord {
    const KIND: &'static str = "flow";
    const CLIENT_SIDE: bool = true;

    fn expires_at(&self) -> UnixTime {
        match self {
            Self::ClientAuthorize(s) => s.expires,
            Self::IdpRedirect(s) => s.expires,
            Self::IdpCallback(s) => s.expires,
            Self::GatewayLogin(s) => s.expires,
            Self::UpstreamRedirect(s) => s.expires,
            Self::UpstreamCallback(s) => s.expires,
            Self::CodeIssued(s) => s.expires,
            Self::StatelessCode(s) => s.expires,
            Self::CodeSpent(s) => s.expires,
            Self::Closed(s) => s.expires,
        }
    }
}

/// What goes with the browser to the upstream: drawn fresh for this one redirect.
#[derive(Clone, Debug)]
pub struct UpstreamRedirectParams {
    /// The digest of the cookie that the callback must bring.
    pub browser: Digest,
    /// The digest of our `state`.
    pub upstream_state: Digest,
    /// Our own PKCE verifier, never the client's.
    pub verifier: Secret,
    /// The upstream's issuer, by bytes.
    pub issuer: String,
    /// Its metadata promises `iss` (RFC 9207).
    pub iss_promised: bool,
}

/// What the upstream's redirect brought, and what the browser brought with it.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamCallbackParams<'a> {
    /// The service whose callback it is.
    pub service: &'a str,
    /// The random part of `state`.
    pub upstream_state: &'a str,
    /// The cookie of this flow.
    pub browser: Option<&'a str>,
    /// `iss`.
    pub issuer: Option<&'a str>,
}

/// To do: exchange the upstream's code.
#[derive(Clone, Debug)]
pub struct CodeExchange {
    /// PKCE.
    pub verifier: Secret,
    /// At this authorization server, by bytes, and at no other.
    pub issuer: String,
}

impl ClientAuthorize {
    /// A journey begins. `form` is the digest of the cookie that binds its forms to this browser.
    pub fn new(asked: AuthorizationRequest, form: Digest, now: UnixTime) -> Self {
        Self {
            request: asked,
            form,
            expires: now.plus_seconds(FLOW_TTL_SECONDS),
        }
    }

    /// Whether the form was shown to this browser; to be asked before a password is looked at.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<&AuthorizationRequest, RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.form, form, RejectReason::WrongBrowser)?;
        Ok(&self.request)
    }

    /// The user signed in with a password: the form gets a new key, so that one seen before does not work after.
    pub fn signed_in(
        self,
        form: Option<&str>,
        next_form: Digest,
        subject: String,
        now: UnixTime,
    ) -> Result<(GatewayLogin, ()), RejectReason> {
        self.belongs_to(form, now)?;
        self.logged_in_as(&LoginMethod::Password, User::with_name(subject), next_form)
    }

    /// Nobody has to sign in here: consent comes next.
    pub fn login_skipped(self, form: Option<&str>, next_form: Digest, now: UnixTime) -> Result<(GatewayLogin, ()), RejectReason> {
        self.belongs_to(form, now)?;
        self.logged_in_as(&LoginMethod::Nobody, User::default(), next_form)
    }

    fn logged_in_as(self, by: &LoginMethod, who: User, form: Digest) -> Result<(GatewayLogin, ()), RejectReason> {
        if self.request.way.by != *by {
            return Err(RejectReason::WrongStep);
        }
        let next = GatewayLogin {
            request: self.request,
            who,
            form,
            expires: self.expires,
        };
        Ok((next, ()))
    }

    /// The user turned away before signing in.
    pub fn denied(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.belongs_to(form, now)?;
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }
}

impl GatewayLogin {
    /// Whether the form was shown to this browser: what was asked, and who signed in.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<(&AuthorizationRequest, &User), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.form, form, RejectReason::WrongBrowser)?;
        Ok((&self.request, &self.who))
    }

    /// The user said yes. Only from here does a browser go to the upstream: no other state has this move.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, UpstreamRedirectParams}};
    /// fn on(state: ClientAuthorize, to: UpstreamRedirectParams) { let _ = state.consented(None, to, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, UpstreamRedirectParams}};
    /// fn on(state: GatewayLogin, to: UpstreamRedirectParams) { let _ = state.consented(None, to, UnixTime(0)); }
    /// ```
    pub fn consented(self, form: Option<&str>, to: UpstreamRedirectParams, now: UnixTime) -> Result<(UpstreamRedirect, ()), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.leg != UpstreamStep::Upstream {
            return Err(RejectReason::WrongStep);
        }
        let UpstreamRedirectParams {
            browser,
            upstream_state,
            verifier,
            issuer,
            iss_promised,
        } = to;
        let expires = now.plus_seconds(FLOW_TTL_SECONDS);
        Ok((
            UpstreamRedirect {
                request: self.request,
                who: self.who,
                browser,
                upstream_state,
                verifier,
                issuer,
                iss_promised,
                expires,
            },
            (),
        ))
    }

    /// The user said yes, and nothing is to be asked of the upstream's authorization server: the code is issued.
    /// `obtained` is what the user gave for the upstream, if it needs anything of the user; `code` is the digest of the
    /// secret half of ours.
    pub fn granted(
        self,
        form: Option<&str>,
        obtained: Option<ObtainedTokens>,
        code: Digest,
        now: UnixTime,
    ) -> Result<(CodeIssued, ReturnAddress), RejectReason> {
        self.belongs_to(form, now)?;
        if self.request.way.leg != UpstreamStep::Here {
            return Err(RejectReason::WrongStep);
        }
        let back = self.request.return_address.clone();
        let next = CodeIssued {
            asked: self.request,
            who: self.who,
            code,
            obtained,
            expires: now.plus_seconds(CODE_TTL_SECONDS),
        };
        Ok((next, back))
    }

    /// The user said no.
    pub fn denied(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.belongs_to(form, now)?;
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }
}

impl UpstreamRedirect {
    /// The upstream sent the browser back with a code. The state is used up: there is no second time.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{UpstreamCallbackParams, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: UpstreamCallbackParams<'_>) { let _ = (a.returned(with, UnixTime(0)), a.returned(with, UnixTime(0))); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{UpstreamCallbackParams, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: UpstreamCallbackParams<'_>) { let _ = (a.returned(with, UnixTime(0)), b.returned(with, UnixTime(0))); }
    /// ```
    pub fn returned(self, brought: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(UpstreamCallback, CodeExchange), RejectReason> {
        self.check_callback(brought, now)?;
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

    /// The upstream sent the browser back with an error.
    pub fn refused(self, brought: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(Closed, ReturnAddress), RejectReason> {
        self.check_callback(brought, now)?;
        Ok((Closed { expires: self.expires }, self.request.return_address))
    }

    /// `state` first, then the browser, then the issuer: before anything else of the answer is read or shown.
    pub(super) fn check_callback(&self, brought: UpstreamCallbackParams<'_>, now: UnixTime) -> Result<(), RejectReason> {
        check_not_expired(self.expires, now)?;
        check_digest(&self.upstream_state, Some(brought.upstream_state), RejectReason::WrongUpstreamState)?;
        if brought.service != self.request.service {
            return Err(RejectReason::WrongService);
        }
        check_digest(&self.browser, brought.browser, RejectReason::WrongBrowser)?;
        match brought.issuer {
            None if self.iss_promised => Err(RejectReason::MissingIssuer),
            Some(issuer) if issuer != self.issuer => Err(RejectReason::WrongIssuer),
            None | Some(_) => Ok(()),
        }
    }
}
