//! The end of a journey where nothing is kept: the client's code is the sealed record itself. It carries the upstream's code,
//! which is exchanged only when ours is redeemed; so the upstream's single use becomes ours, and no token is in an address.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::secret::{Secret, at_rest};
use crate::base::time::UnixTime;
use crate::flow::authorize::{Asked, CODE_TTL, CodeExchange, GatewayLogin, Returned, UpstreamRedirect};
use crate::flow::client::{Authenticated, ReturnAddress};
use crate::flow::code::{CodeSpent, Redeemed, Redemption, SPENT_TTL, verified};
use crate::flow::rejected::{Rejected, live};
use crate::flow::who::{Leg, Way, Who};
use crate::oauth::pkce::Challenge;
use crate::oauth::scope::Scopes;

/// The client's code is on its way, and this is in it. No more than redeeming needs, because it travels in an address; of
/// what the client brings anyway, digests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CodeCarried {
    client: Digest,
    redirect_uri: Digest,
    challenge: Challenge,
    scopes: Scopes,
    service: String,
    way: Way,
    who: Who,
    upstream: Option<FromUpstream>,
    pub(super) expires: UnixTime,
}

/// What the upstream's redirect brought. There is no room for a token here.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FromUpstream {
    #[serde(with = "at_rest")]
    code: Secret,
    #[serde(with = "at_rest")]
    verifier: Secret,
    issuer: String,
}

/// To do: exchange the upstream's code, before there is a grant.
#[derive(Clone, Debug)]
pub struct ToExchange {
    /// The upstream's code.
    pub code: Secret,
    /// What goes with it.
    pub exchange: CodeExchange,
}

impl GatewayLogin {
    /// As [`GatewayLogin::granted`], where nothing is kept, and the user gave nothing.
    pub fn carried(self, form: Option<&str>, now: UnixTime) -> Result<(CodeCarried, ReturnAddress), Rejected> {
        self.belongs_to(form, now)?;
        if self.asked.way.leg != Leg::Here {
            return Err(Rejected::OtherWay);
        }
        Ok(CodeCarried::of(self.asked, self.who, None, now))
    }
}

impl UpstreamRedirect {
    /// As [`UpstreamRedirect::returned`], where nothing is kept: the upstream's code goes on to the client, sealed.
    ///
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{secret::Secret, time::UnixTime}, flow::authorize::{GatewayLogin, Returned, UpstreamRedirect}};
    /// fn on(state: GatewayLogin, with: Returned<'_>, code: Secret) { let _ = state.handed_on(with, code, UnixTime(0)); }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{secret::Secret, time::UnixTime}, flow::authorize::{GatewayLogin, Returned, UpstreamRedirect}};
    /// fn on(state: UpstreamRedirect, with: Returned<'_>, code: Secret) { let _ = state.handed_on(with, code, UnixTime(0)); }
    /// ```
    pub fn handed_on(self, brought: Returned<'_>, code: Secret, now: UnixTime) -> Result<(CodeCarried, ReturnAddress), Rejected> {
        self.is_answered_by(brought, now)?;
        let upstream = FromUpstream {
            code,
            verifier: self.verifier,
            issuer: self.issuer,
        };
        Ok(CodeCarried::of(self.asked, self.who, Some(upstream), now))
    }
}

impl CodeCarried {
    fn of(asked: Asked, who: Who, upstream: Option<FromUpstream>, now: UnixTime) -> (Self, ReturnAddress) {
        let back = asked.back;
        let next = Self {
            client: Digest::of(&asked.client_id),
            redirect_uri: Digest::of(back.uri().as_str()),
            challenge: asked.challenge,
            scopes: asked.scopes,
            service: asked.service,
            way: asked.way,
            who,
            upstream,
            expires: now.after(CODE_TTL),
        };
        (next, back)
    }

    /// The client redeems its code, as with [`CodeIssued::redeem`](crate::flow::code::CodeIssued::redeem). That it opened proves
    /// the code itself. What comes of it has no tokens yet:
    /// ```compile_fail
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{carried::CodeCarried, code::{CodeIssued, Obtained, Redemption}, client::Authenticated}};
    /// fn tokens(code: CodeCarried, by: &Authenticated, with: Redemption<'_>) -> Option<Obtained> { code.redeem(by, with, Id([0; 16]), UnixTime(0)).ok()?.1.obtained }
    /// ```
    /// ```
    /// # use mcp_oauth_gateway::{base::{ids::Id, time::UnixTime}, flow::{carried::CodeCarried, code::{CodeIssued, Obtained, Redemption}, client::Authenticated}};
    /// fn tokens(code: CodeIssued, by: &Authenticated, with: Redemption<'_>) -> Option<Obtained> { code.redeem(by, with, Id([0; 16]), UnixTime(0)).ok()?.1.obtained }
    /// ```
    pub fn redeem(
        self,
        by: &Authenticated,
        with: Redemption<'_>,
        grant: Id,
        now: UnixTime,
    ) -> Result<(CodeSpent, (Redeemed, Option<ToExchange>)), Rejected> {
        live(self.expires, now)?;
        if with.service != self.service {
            return Err(Rejected::OtherService);
        }
        if !self.client.is_of(by.client_id()) {
            return Err(Rejected::OtherClient);
        }
        verified(&self.challenge, with)?;
        if with.redirect_uri.is_some_and(|uri| !self.redirect_uri.is_of(uri)) {
            return Err(Rejected::OtherRedirect);
        }
        let spent = CodeSpent {
            client_id: by.client_id().to_owned(),
            code: Digest::of(with.code),
            challenge: self.challenge,
            grant,
            expires: now.after(SPENT_TTL),
        };
        let to_exchange = self.upstream.map(|upstream| ToExchange {
            code: upstream.code,
            exchange: CodeExchange {
                verifier: upstream.verifier,
                issuer: upstream.issuer,
            },
        });
        let redeemed = Redeemed {
            client_id: by.client_id().to_owned(),
            service: self.service,
            way: self.way,
            scopes: self.scopes,
            who: self.who,
            obtained: None,
        };
        Ok((spent, (redeemed, to_exchange)))
    }
}
