//! One browser journey, from `/authorize` to a code that was spent.
//!
//! Each state is a struct with private fields and only its own moves. Fresh random values, the time and the upstream's
//! answers are arguments; a move returns the next state and what is to be done.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::record::{Record, states};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::carried::CodeCarried;
use crate::flow::client::ReturnAddress;
use crate::flow::code::{CodeIssued, CodeSpent, Obtained};
use crate::flow::login::{IdpCallback, IdpRedirect};
use crate::flow::rejected::{Rejected, live, same};
use crate::flow::remember::Remember;
use crate::flow::who::{By, Leg, Way, Who};
use crate::oauth::pkce::Challenge;
use crate::oauth::scope::Scopes;

/// How long a journey may take, in seconds.
pub const FLOW_TTL: u64 = 600;
/// How long a code lives, in seconds.
pub const CODE_TTL: u64 = 60;

/// What the client asked for; travels through all states.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The client's id.
    pub client_id: String,
    /// The name that it gave itself.
    pub client_name: Option<String>,
    /// The host of its document, if that vouches for it: see [`Registered::vouching_host`](crate::flow::client::Registered::vouching_host).
    #[serde(default)]
    pub verified_host: Option<String>,
    /// The operator wrote the client down, and its name with it.
    #[serde(default)]
    pub configured: bool,
    /// All its redirects stay on the user's machine.
    pub loopback_only: bool,
    /// The only way back.
    pub back: ReturnAddress,
    /// PKCE.
    pub challenge: Challenge,
    /// What it may get, already within what the service offers.
    pub scopes: Scopes,
    /// The service's name.
    pub service: String,
    /// How the user signs in, and what follows consent.
    pub way: Way,
    /// Whether an earlier consent may stand for this one.
    #[serde(default)]
    pub remember: Remember,
}

/// The client asked; nobody has signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientAuthorize {
    pub(super) asked: Asked,
    form: Digest,
    expires: UnixTime,
}

/// The user signed in here, and is asked to consent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GatewayLogin {
    pub(super) asked: Asked,
    pub(super) who: Who,
    pub(super) form: Digest,
    pub(super) expires: UnixTime,
}

/// The user consented, and was sent to the upstream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UpstreamRedirect {
    pub(super) asked: Asked,
    pub(super) who: Who,
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
    pub(super) asked: Asked,
    pub(super) who: Who,
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
    /// See [`CodeCarried`].
    CodeCarried(CodeCarried),
    /// See [`CodeSpent`].
    CodeSpent(CodeSpent),
    /// See [`Closed`].
    Closed(Closed),
}

impl FlowRecord {
    /// Nobody has signed in to it, nor consented: what anybody can begin as often as they like.
    pub fn is_anybodys(&self) -> bool {
        match self {
            Self::ClientAuthorize(_) | Self::IdpRedirect(_) => true,
            Self::GatewayLogin(s) => s.asked.way.by == By::Nobody,
            Self::IdpCallback(_)
            | Self::UpstreamRedirect(_)
            | Self::UpstreamCallback(_)
            | Self::CodeIssued(_)
            | Self::CodeCarried(_)
            | Self::CodeSpent(_)
            | Self::Closed(_) => false,
        }
    }
}

states!(FlowRecord: ClientAuthorize, IdpRedirect, IdpCallback, GatewayLogin, UpstreamRedirect, UpstreamCallback, CodeIssued, CodeCarried, CodeSpent, Closed);

impl Record for FlowRecord {
    const SPACE: &'static str = "flow";
    const TRAVELS: bool = true;

    fn keep_until(&self) -> UnixTime {
        match self {
            Self::ClientAuthorize(s) => s.expires,
            Self::IdpRedirect(s) => s.expires,
            Self::IdpCallback(s) => s.expires,
            Self::GatewayLogin(s) => s.expires,
            Self::UpstreamRedirect(s) => s.expires,
            Self::UpstreamCallback(s) => s.expires,
            Self::CodeIssued(s) => s.expires,
            Self::CodeCarried(s) => s.expires,
            Self::CodeSpent(s) => s.expires,
            Self::Closed(s) => s.expires,
        }
    }
}

/// What goes with the browser to the upstream: drawn fresh for this one redirect.
#[derive(Clone, Debug)]
pub struct ToUpstream {
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
pub struct Returned<'a> {
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
    pub fn new(asked: Asked, form: Digest, now: UnixTime) -> Self {
        Self {
            asked,
            form,
            expires: now.after(FLOW_TTL),
        }
    }

    /// Whether the form was shown to this browser; to be asked before a password is looked at.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<&Asked, Rejected> {
        live(self.expires, now)?;
        same(&self.form, form, Rejected::OtherBrowser)?;
        Ok(&self.asked)
    }

    /// The user signed in with a password: the form gets a new key, so that one seen before does not work after.
    pub fn signed_in(self, form: Option<&str>, next_form: Digest, subject: String, now: UnixTime) -> Result<(GatewayLogin, ()), Rejected> {
        self.belongs_to(form, now)?;
        self.known_as(&By::Password, Who::named(subject), next_form)
    }

    /// Nobody has to sign in here: consent comes next.
    pub fn unnamed(self, form: Option<&str>, next_form: Digest, now: UnixTime) -> Result<(GatewayLogin, ()), Rejected> {
        self.belongs_to(form, now)?;
        self.known_as(&By::Nobody, Who::default(), next_form)
    }

    fn known_as(self, by: &By, who: Who, form: Digest) -> Result<(GatewayLogin, ()), Rejected> {
        if self.asked.way.by != *by {
            return Err(Rejected::OtherWay);
        }
        let next = GatewayLogin {
            asked: self.asked,
            who,
            form,
            expires: self.expires,
        };
        Ok((next, ()))
    }

    /// The user turned away before signing in.
    pub fn deny(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, ReturnAddress), Rejected> {
        self.belongs_to(form, now)?;
        Ok((Closed { expires: self.expires }, self.asked.back))
    }
}

impl GatewayLogin {
    /// Whether the form was shown to this browser: what was asked, and who signed in.
    pub fn belongs_to(&self, form: Option<&str>, now: UnixTime) -> Result<(&Asked, &Who), Rejected> {
        live(self.expires, now)?;
        same(&self.form, form, Rejected::OtherBrowser)?;
        Ok((&self.asked, &self.who))
    }

    /// The user said yes. Only from here does a browser go to the upstream: no other state has this move.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, ToUpstream}};
    /// fn on(state: ClientAuthorize, to: ToUpstream) { let _ = state.approve(None, to, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{ClientAuthorize, GatewayLogin, ToUpstream}};
    /// fn on(state: GatewayLogin, to: ToUpstream) { let _ = state.approve(None, to, UnixTime(0)); }
    /// ```
    pub fn approve(self, form: Option<&str>, to: ToUpstream, now: UnixTime) -> Result<(UpstreamRedirect, ()), Rejected> {
        self.belongs_to(form, now)?;
        if self.asked.way.leg != Leg::Upstream {
            return Err(Rejected::OtherWay);
        }
        let ToUpstream {
            browser,
            upstream_state,
            verifier,
            issuer,
            iss_promised,
        } = to;
        let expires = now.after(FLOW_TTL);
        Ok((
            UpstreamRedirect {
                asked: self.asked,
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
        obtained: Option<Obtained>,
        code: Digest,
        now: UnixTime,
    ) -> Result<(CodeIssued, ReturnAddress), Rejected> {
        self.belongs_to(form, now)?;
        if self.asked.way.leg != Leg::Here {
            return Err(Rejected::OtherWay);
        }
        let back = self.asked.back.clone();
        let next = CodeIssued {
            asked: self.asked,
            who: self.who,
            code,
            obtained,
            expires: now.after(CODE_TTL),
        };
        Ok((next, back))
    }

    /// The user said no.
    pub fn deny(self, form: Option<&str>, now: UnixTime) -> Result<(Closed, ReturnAddress), Rejected> {
        self.belongs_to(form, now)?;
        Ok((Closed { expires: self.expires }, self.asked.back))
    }
}

impl UpstreamRedirect {
    /// The upstream sent the browser back with a code. The state is used up: there is no second time.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{Returned, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: Returned<'_>) { let _ = (a.returned(with, UnixTime(0)), a.returned(with, UnixTime(0))); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::time::UnixTime, flow::authorize::{Returned, UpstreamRedirect}};
    /// fn twice(a: UpstreamRedirect, b: UpstreamRedirect, with: Returned<'_>) { let _ = (a.returned(with, UnixTime(0)), b.returned(with, UnixTime(0))); }
    /// ```
    pub fn returned(self, brought: Returned<'_>, now: UnixTime) -> Result<(UpstreamCallback, CodeExchange), Rejected> {
        self.is_answered_by(brought, now)?;
        let next = UpstreamCallback {
            asked: self.asked,
            who: self.who,
            issuer: self.issuer.clone(),
            expires: now.after(120),
        };
        let exchange = CodeExchange {
            verifier: self.verifier,
            issuer: self.issuer,
        };
        Ok((next, exchange))
    }

    /// The upstream sent the browser back with an error.
    pub fn refused(self, brought: Returned<'_>, now: UnixTime) -> Result<(Closed, ReturnAddress), Rejected> {
        self.is_answered_by(brought, now)?;
        Ok((Closed { expires: self.expires }, self.asked.back))
    }

    /// `state` first, then the browser, then the issuer: before anything else of the answer is read or shown.
    pub(super) fn is_answered_by(&self, brought: Returned<'_>, now: UnixTime) -> Result<(), Rejected> {
        live(self.expires, now)?;
        same(&self.upstream_state, Some(brought.upstream_state), Rejected::OtherState)?;
        if brought.service != self.asked.service {
            return Err(Rejected::OtherService);
        }
        same(&self.browser, brought.browser, Rejected::OtherBrowser)?;
        match brought.issuer {
            None if self.iss_promised => Err(Rejected::MissingIssuer),
            Some(issuer) if issuer != self.issuer => Err(Rejected::OtherIssuer),
            None | Some(_) => Ok(()),
        }
    }
}
